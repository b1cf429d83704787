"""The stick for a room without internet, made from packages of ours that a small index on this machine offers."""

import argparse
import hashlib
import json
import platform
import shutil
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from course_utils.profiles import HOME
from course_utils.tools import cli, kit

PYTHON = kit.this_python()
HERE = f"{kit.this_system()} {PYTHON}"
TAGS = {  # two systems have wheels of their own
    "both": ["py3-none-any"],
    "torch": ["py3-none-any", "cp311-abi3-win_amd64", "cp311-abi3-manylinux_2_28_x86_64", "cp311-abi3-macosx_14_0_arm64"],
    "winonly": ["py3-none-win_amd64"],
    "maker": ["py3-none-any"],
    "pip": ["py3-none-any"],
}
NEEDS = {"both": ['winonly==1; sys_platform == "win32"']}
MAKER = """
import zipfile

def get_requires_for_build_editable(settings=None):
    return []

def build_editable(folder, settings=None, metadata=None):
    name = "course-1-py3-none-any.whl"
    with zipfile.ZipFile(f"{folder}/{name}", "w") as file:
        file.writestr("course-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: course\\nVersion: 1\\n")
        file.writestr("course-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        file.writestr("course-1.dist-info/RECORD", "")
    return name
"""


def make_wheel(folder: Path, name: str, tag: str) -> None:
    needs = "".join(f"Requires-Dist: {one}\n" for one in NEEDS.get(name, []))
    with zipfile.ZipFile(folder / f"{name}-1-{tag}.whl", "w") as file:
        file.writestr(f"{name}.py", MAKER if name == "maker" else "")
        file.writestr(f"{name}-1.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n{needs}")
        wheel = f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n"
        file.writestr(f"{name}-1.dist-info/WHEEL", wheel)
        file.writestr(f"{name}-1.dist-info/RECORD", "")


class Index(BaseHTTPRequestHandler):
    """A package index with the wheels of one folder; the files it gives are noted, and cut short while `broken`."""

    folder: Path
    given: list
    broken = False

    def do_GET(self):
        name = self.path.strip("/").split("/")[-1]
        if self.path.startswith("/simple/"):
            files = [
                {
                    "filename": one.name,
                    "url": f"/files/{one.name}",
                    "size": one.stat().st_size,
                    "hashes": {"sha256": hashlib.sha256(one.read_bytes()).hexdigest()},
                }
                for one in sorted(self.folder.glob(f"{name}-*.whl"))
            ]
            body = json.dumps({"meta": {"api-version": "1.1"}, "name": name, "files": files}).encode()
            self.answer(200 if files else 404, body, "application/vnd.pypi.simple.v1+json")
        else:
            ours = "httpx" in self.headers["User-Agent"]  # uv reads a part of a wheel too
            self.given.extend([name] * ours)
            body = (self.folder / name).read_bytes()
            self.answer(200, body, "application/octet-stream", len(body) // 2 if self.broken and ours else None)

    do_HEAD = do_GET

    def answer(self, status: int, body: bytes, kind: str, cut: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:cut])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def index(tmp_path, monkeypatch):
    """The index, running."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name, tags in TAGS.items():
        for tag in tags:
            make_wheel(folder, name, tag)
    handler = type("Here", (Index,), {"folder": folder, "given": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://127.0.0.1:{server.server_port}/simple")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    yield handler
    server.shutdown()
    server.server_close()


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A small repository instead of the course."""
    folder = tmp_path / "home"
    (folder / "my").mkdir(parents=True)
    (folder / "requirements.txt").write_text("# pins\ntorch==1\n-e .\n")
    project = '[project]\nname = "course"\nversion = "1"\ndependencies = ["both"]\n'
    (folder / "pyproject.toml").write_text(f'[build-system]\nrequires = ["maker"]\nbuild-backend = "maker"\n{project}')
    (folder / "notebooks").mkdir()
    (folder / "notebooks" / "00.ipynb").write_text("{}")
    (folder / ".gitignore").write_text("my/\n")
    (folder / "my" / "00.ipynb").write_text("an answer")
    for command in (["init", "--quiet"], ["add", "."]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    for function in (kit.resolve, kit.repository_files, kit.copy_course, kit.wanted):
        defaults = function.__kwdefaults__ or {}
        if "home" in defaults:
            monkeypatch.setattr(function, "__kwdefaults__", defaults | {"home": folder})
        else:
            monkeypatch.setattr(function, "__defaults__", (folder,))
    return folder


def make(folder: Path, *arguments: str) -> int:
    return cli.main(["kit", str(folder), *arguments])


def wheels(folder: Path) -> set[str]:
    return {path.name for path in (folder / "wheels").iterdir()}


# ------------------------------------------------------------------------------------------------------ the whole way


def test_a_kit_for_this_machine_can_be_installed_from(index, home, tmp_path, capsys):
    stick = tmp_path / "stick"
    assert make(stick) == 0, capsys.readouterr()
    said = capsys.readouterr().out
    assert f"{HERE}: 4 packages" in said
    assert f"{stick} is whole: " in said
    assert json.loads((stick / "kit.json").read_text()) == {"for": [HERE], "cpu": False, "whole": True}
    assert (stick / "course" / "notebooks" / "00.ipynb").exists()
    assert not (stick / "course" / "my").exists(), "nobody's answers travel on a stick"
    assert "torch-1-py3-none-any.whl" not in wheels(stick) or sys.platform not in ("linux", "darwin", "win32")
    clone = tmp_path / "clone"
    shutil.copytree(stick / "course", clone)
    shutil.copy(HOME / "install.py", clone)
    done = subprocess.run([sys.executable, "install.py", "--from", str(stick)], cwd=clone, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("torch", "course"):
        assert list(clone.glob(f".venv/**/{name}-1.dist-info")), name


def test_another_system_gets_its_own_wheels(index, home, tmp_path, capsys):
    stick = tmp_path / "stick"
    assert make(stick, "--platform", "windows", "macos", "--python", "3.12") == 0, capsys.readouterr()
    assert wheels(stick) == {
        "torch-1-cp311-abi3-win_amd64.whl",
        "torch-1-cp311-abi3-macosx_14_0_arm64.whl",
        "winonly-1-py3-none-win_amd64.whl",
        *(f"{name}-1-py3-none-any.whl" for name in ("both", "maker", "pip")),
    }
    said = capsys.readouterr().out
    assert "windows 3.12: 5 packages" in said
    assert "macos 3.12: 4 packages" in said


# -------------------------------------------------------------------------------------------------- stopped, begun again


def test_what_is_there_is_kept_and_a_system_is_added(index, home, tmp_path):
    stick = tmp_path / "stick"
    make(stick, "--platform", "windows", "--python", PYTHON)
    (stick / "wheels" / "both-1-py3-none-any.whl").write_bytes(b"half of it")
    index.given.clear()
    assert make(stick, "--platform", "macos", "--python", PYTHON) == 0
    assert sorted(index.given) == ["both-1-py3-none-any.whl", "torch-1-cp311-abi3-macosx_14_0_arm64.whl"]
    assert json.loads((stick / "kit.json").read_text())["for"] == [f"macos {PYTHON}", f"windows {PYTHON}"]


def test_a_line_that_breaks_leaves_a_kit_that_is_not_taken_for_whole(index, home, tmp_path, capsys):
    stick = tmp_path / "stick"
    index.broken = True
    assert make(stick, "--platform", "windows", "--python", "3.12") == 2
    said = capsys.readouterr().err
    assert "cannot be downloaded (RemoteProtocolError" in said
    assert said.rstrip().endswith("what is here is kept, try again")
    assert len(index.given) == kit.TRIES
    assert not json.loads((stick / "kit.json").read_text())["whole"]
    assert not list((stick / "wheels").glob("*.whl"))
    index.broken = False
    assert make(stick, "--platform", "windows", "--python", "3.12") == 0
    assert json.loads((stick / "kit.json").read_text())["whole"]


def test_a_file_that_is_not_what_the_index_names_is_refused(index, tmp_path):
    url = f"file://{index.folder / 'both-1-py3-none-any.whl'}"
    path = tmp_path / "both-1-py3-none-any.whl"
    with pytest.raises(OSError, match="is not the file that the index names"):
        kit.fetch(kit.Wheel(url, "0" * 64, 3), path, lambda count: None)
    assert list(tmp_path.glob("both*")) == []


# ------------------------------------------------------------------------------------------------ what it says instead


def test_little_room_is_said_before_anything_is_fetched(index, home, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(kit.shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    assert make(tmp_path / "stick", "--platform", "windows") == 2
    assert "0.00 GB are free; make room and try again" in capsys.readouterr().err
    assert index.given == []


@pytest.mark.parametrize(("place", "words"), [("none/stick", "is the stick in place"), ("file", "is a file")])
def test_a_place_that_is_not_there_is_refused_before_anything_is_asked(tmp_path, monkeypatch, capsys, place, words):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr(kit, "resolve", lambda *given, **more: pytest.fail("was asked for"))
    assert cli.main(["kit", str(tmp_path / place)]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_without_uv_it_says_where_to_get_it(home, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "uv", None)
    assert make(tmp_path / "stick") == 2
    assert "the kit needs uv to find the packages of other systems; run `python install.py --dev`" in capsys.readouterr().err


def test_a_package_that_a_system_lacks_is_named_in_the_words_of_uv(index, home, tmp_path, capsys):
    (home / "requirements.txt").write_text("nowhere==3\n")
    assert make(tmp_path / "stick", "--platform", "macos", "--python", "3.11") == 2
    said = capsys.readouterr().err
    assert said.startswith("course: no packages for macos with Python 3.11: ")
    assert "nowhere" in said


def test_without_a_clone_there_is_nothing_to_copy(home, tmp_path, capsys):
    shutil.rmtree(home / ".git")
    assert make(tmp_path / "stick") == 2
    assert "the kit is made from a clone of the repository" in capsys.readouterr().err


def test_pip_has_the_last_word(index, home, tmp_path, monkeypatch):
    """A kit that lacks what pip needs does not end as whole."""
    stick = tmp_path / "stick"
    make(stick)
    (stick / "wheels" / "maker-1-py3-none-any.whl").unlink()
    with pytest.raises(ValueError, match="pip cannot install from"):
        kit.check(stick, [HERE], [])
    with pytest.raises(ValueError, match=r"maker-1-py3-none-any\.whl disappeared"):
        kit.check(stick, [HERE], [kit.Wheel("https://x/maker-1-py3-none-any.whl", "", 1)])


def test_with_and_without_cuda_are_two_kits(index, home, tmp_path, capsys):
    stick = tmp_path / "stick"
    make(stick, "--platform", "windows")
    assert make(stick, "--platform", "windows", "--cpu") == 2
    assert "was begun without --cpu; choose another folder for this kit" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------------ its parts


def test_without_cuda_uv_asks_the_index_of_pytorch(home, monkeypatch):
    seen = {}

    def run(command, **named):
        if "compile" in command:
            seen["command"], seen["asked"] = command, Path(command[-1]).read_text().split()
        return SimpleNamespace(returncode=1, stderr="seen", stdout="")

    monkeypatch.setattr(kit.subprocess, "run", run)
    for system, taken in (("linux", True), ("windows", False), ("macos", False)):
        with pytest.raises(ValueError, match="seen"):
            kit.resolve(system, "3.12", cpu=True)
        assert ("torch==1+cpu" in seen["asked"]) == taken
        assert (f"--index={kit.CPU_INDEX}" in seen["command"]) == taken


def test_the_index_without_cuda_is_that_of_the_set_up():
    text = (HOME / "install.py").read_text(encoding="utf-8")
    assert f'CPU_INDEX = "{kit.CPU_INDEX}"' in text


def test_what_builds_the_course_is_asked_what_it_needs(home):
    asked = kit.builders({"requires": ["setuptools"], "build-backend": "hatchling.build"}, HOME)
    assert asked[0] == "setuptools"
    assert all(name.startswith(("setuptools", "editables")) for name in asked)
    assert kit.builders({"requires": ["maker"], "build-backend": "not.there"}, home) == ["maker"]


@pytest.mark.parametrize(
    ("system", "machine", "name"),
    [
        ("linux", "x86_64", "linux"),
        ("linux", "aarch64", "linux-arm64"),
        ("darwin", "arm64", "macos"),
        ("win32", "AMD64", "windows"),
    ],
)
def test_names_of_systems_are_those_of_the_set_up(monkeypatch, system, machine, name):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert kit.this_system() == name
    assert name in kit.SYSTEMS


def test_the_command_line_offers_what_the_kit_knows():
    options = cli.parser().parse_args(["kit", "x", "--platform", *kit.SYSTEMS, "--python", *kit.PYTHONS])
    assert options.platform == list(kit.SYSTEMS)
    assert isinstance(options, argparse.Namespace)


def test_the_page_has_a_part_for_each_system_of_the_kit():
    page = kit.start_page(["linux 3.12", "linux-arm64 3.12", "windows 3.11", "windows 3.13"])
    assert "You need Python 3.11 or 3.13." in page
    assert "py -3.13 install.py --from" in page
    assert page.count("with another of these, change its number") == 1, "only Windows has two here"
    assert "The line below is for Python 3.13;" in page
    assert "python3.12 install.py --from" in page
    assert 'id="macos"' not in page
    assert "http" not in page, "it is read offline"
