"""The set-up on machines where something is missing: each time one sentence, no traceback, and not zero."""

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from course_utils.profiles import HOME

FILES = ("install.py", "Makefile", "requirements.txt", "pyproject.toml")
posix = pytest.mark.skipif(sys.platform == "win32", reason="make and shell scripts")


@pytest.fixture
def clone(tmp_path):
    """The files of the set-up in a folder of their own."""
    home = tmp_path / "clone"
    home.mkdir()
    for name in FILES:
        shutil.copy(HOME / name, home)
    return home


@pytest.fixture
def install(clone):
    """`install.py` of the clone as a module."""
    spec = importlib.util.spec_from_file_location("install", clone / "install.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make(clone: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """`make setup` on a machine whose programs are those in `folder`."""
    environment = {"PATH": str(folder), "HOME": str(folder)}
    command = [shutil.which("make"), "setup", *arguments]
    return subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True)


def program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def old_python(folder: Path, name: str = "python3") -> None:
    """A Python that says no to "3.11 or newer?"."""
    program(folder, name, '[ "$1" = -c ] && exit 1; echo "the old one was taken"')


def good_python(folder: Path, name: str) -> None:
    program(folder, name, f'[ "$1" = -c ] && exec {sys.executable} "$@"; echo "{name} runs $1"')


# ------------------------------------------------------------------------------------------------- which Python


@posix
def test_make_without_any_python_says_where_to_get_one(clone, tmp_path):
    done = make(clone, tmp_path / "nothing")
    assert done.returncode != 0
    sentence, *rest = done.stderr.splitlines()
    assert sentence.startswith("set-up: no Python 3.11 or newer among: python3 ")
    assert "install one from https://www.python.org/downloads/" in sentence
    assert "make PYTHON=/path/to/python3" in sentence
    assert all(line.startswith("make") for line in rest)


@posix
def test_make_with_an_old_python_only_says_the_same(clone, tmp_path):
    old_python(tmp_path / "bin")
    done = make(clone, tmp_path / "bin")
    assert done.returncode != 0
    assert "no Python 3.11 or newer among: python3 " in done.stderr
    assert "old one" not in done.stdout


@posix
def test_make_passes_by_an_old_python3_for_a_newer_one(clone, tmp_path):
    old_python(tmp_path / "bin")
    good_python(tmp_path / "bin", "python3.12")
    done = make(clone, tmp_path / "bin")
    assert (done.returncode, done.stdout) == (0, "python3.12 runs install.py\n")


@posix
def test_make_takes_the_python_that_is_named(clone, tmp_path):
    good_python(tmp_path / "bin", "python3")
    good_python(tmp_path / "bin", "mine")
    assert make(clone, tmp_path / "bin", "PYTHON=mine").stdout == "mine runs install.py\n"
    done = make(clone, tmp_path / "bin", "PYTHON=python3.7")
    assert done.returncode != 0
    assert "no Python 3.11 or newer among: python3.7;" in done.stderr


def test_an_old_python_gets_a_sentence(install, monkeypatch, capsys):
    monkeypatch.setattr(sys, "version_info", (3, 9, 18))
    assert install.main() == 1
    said = capsys.readouterr().err
    assert said.startswith("set-up: Python 3.9 (")
    assert "is too old, the course needs 3.11 or newer; install one from https://www.python.org/downloads/" in said


def test_a_python_without_venv(install, monkeypatch, capsys):
    words = "The virtual environment was not created successfully because ensurepip is not available."
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: SimpleNamespace(returncode=1, stdout=words, stderr=""))
    assert install.main() == 1
    version = "{}.{}".format(*sys.version_info)
    assert f"comes without venv; install it (Debian, Ubuntu: sudo apt install python{version}-venv)" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------- space and network


def test_no_space(install, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1.2e9))
    assert install.main() == 1
    said = capsys.readouterr().err
    assert said == (
        f"set-up: {install.SPACE:.0f} GB are needed on the disk of {install.HOME}, 1.2 GB are free; make room and try again\n"
    )
    assert not install.VENV.exists()


def test_little_space_does_without_a_second_copy_of_the_downloads(install, monkeypatch):
    commands = []
    pip = SimpleNamespace(stdout=(), wait=lambda: 0)
    monkeypatch.setattr(subprocess, "Popen", lambda command, **named: commands.append(command) or pip)
    install.VENV.mkdir()
    for free in (install.SPACE + install.CACHE / 2, install.SPACE + install.CACHE * 2):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: SimpleNamespace(free=free * 1e9))
        install.install()
    assert ["--no-cache-dir" in command for command in commands] == [True, False]


def test_a_folder_that_may_not_be_written(install, monkeypatch, capsys):
    def refuse(self, *arguments, **named):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1e12))
    monkeypatch.setattr(Path, "mkdir", refuse)
    assert install.main() == 1
    assert "could not be made ([Errno 13] Permission denied" in capsys.readouterr().err


def run(clone: Path, **environment: str) -> subprocess.CompletedProcess:
    """`python install.py` with a pip that knows no index but the one given."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "COV_"))}
    clean |= {"PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    command = [sys.executable, "install.py"]
    return subprocess.run(command, cwd=clone, env=clean | environment, capture_output=True, text=True)


def test_no_network(clone):
    done = run(clone, PIP_INDEX_URL="http://127.0.0.1:9/simple")  # nobody answers there
    assert done.returncode == 1
    assert done.stderr == (
        "set-up: the package index cannot be reached; go online (behind a proxy set HTTPS_PROXY) and try again\n"
    )
    assert (clone / ".venv" / "course-setup.txt").read_text() == "unfinished"


NO_MATCH = "ERROR: Could not find a version that satisfies the requirement torch==2.15.0 (from versions: none)\n" + (
    "ERROR: No matching distribution found for torch==2.15.0\n"
)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n", "the disk is full; "),
        (f"WARNING: Retrying ... Temporary failure in name resolution\n{NO_MATCH}", "the package index cannot be reached;"),
        (NO_MATCH, "there is no torch==2.15.0 for Python"),
        (
            "Collecting torch\nERROR: THESE PACKAGES DO NOT MATCH THE HASHES\nsee above\n",
            "pip failed: ERROR: THESE PACKAGES DO",
        ),
        ("", "pip failed: it said nothing"),
    ],
)
def test_what_pip_says_becomes_one_sentence(install, output, words):
    sentence = install.why_no_packages(output)
    assert sentence.startswith(words)
    assert "\n" not in sentence


# --------------------------------------------------------------------------------------- an environment that is there


def wheel(folder: Path, name: str) -> None:
    """The smallest package that pip installs."""
    with zipfile.ZipFile(folder / f"{name}-1-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", "")
        info = f"{name}-1.dist-info"
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")


def test_a_first_a_second_and_a_changed_set_up(clone):
    for name in ("one", "two"):
        wheel(clone, name)
    (clone / "requirements.txt").write_text("./one-1-py3-none-any.whl\n")
    first = run(clone, PIP_NO_INDEX="1")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "the set-up is ready" in first.stdout
    mine = clone / ".venv" / "mine"
    mine.touch()

    second = run(clone, PIP_NO_INDEX="1")
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")

    (clone / "requirements.txt").write_text("./one-1-py3-none-any.whl\n./two-1-py3-none-any.whl\n")
    third = run(clone, PIP_NO_INDEX="1")
    assert "the set-up is ready" in third.stdout
    assert list(clone.glob(".venv/**/two.py"))
    assert mine.exists(), "an environment that was finished is completed, not thrown away"

    (clone / ".venv" / "course-setup.txt").write_text("unfinished")
    fourth = run(clone, PIP_NO_INDEX="1")
    assert "the set-up is ready" in fourth.stdout
    assert not mine.exists(), "one that was not finished is made anew"


@pytest.fixture
def recorded(install, monkeypatch):
    """The module with its two slow steps replaced; `steps` tells which were taken."""
    steps = []

    def make_venv():
        steps.append("make")
        install.python().parent.mkdir(parents=True, exist_ok=True)
        install.python().touch()

    monkeypatch.setattr(install, "make_venv", make_venv)
    monkeypatch.setattr(install, "install", lambda: steps.append("install"))
    monkeypatch.setattr(install, "starts", lambda: install.python().exists())
    install.steps = steps
    return install


def test_a_finished_environment_is_left_alone(recorded):
    assert [recorded.main(), recorded.main()] == [0, 0]
    assert recorded.steps == ["make", "install"]


def test_an_environment_whose_python_is_gone_is_made_anew(recorded):
    recorded.main()
    recorded.python().unlink()
    assert recorded.main() == 0
    assert recorded.steps == ["make", "install"] * 2


def test_an_environment_that_was_moved_is_made_anew(recorded):
    recorded.main()
    stamp = recorded.STAMP.read_text()
    recorded.STAMP.write_text(stamp.replace(str(recorded.VENV), str(recorded.VENV.parent / "elsewhere" / ".venv")))
    recorded.main()
    assert recorded.steps == ["make", "install"] * 2


def test_an_environment_made_by_hand_is_completed(recorded):
    recorded.make_venv()
    recorded.main()
    assert recorded.steps == ["make", "install"]


def test_a_set_up_stopped_by_hand_is_not_trusted(recorded, monkeypatch, capsys):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(recorded, "install", interrupt)
    assert recorded.main() == 130
    assert "stopped by hand; the same command begins again" in capsys.readouterr().err
    monkeypatch.setattr(recorded, "install", lambda: recorded.steps.append("install"))
    recorded.main()
    assert recorded.steps == ["make", "make", "install"]


def test_the_real_check_of_an_environment(install):
    assert not install.starts()
    install.python().parent.mkdir(parents=True)
    install.python().touch()
    install.python().chmod(0o755)
    assert not install.starts(), "an empty file is no Python"
