"""The set-up on machines where something is missing: each time one sentence, no traceback, and not zero."""

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from course_utils.profiles import HOME

FILES = ("install.py", "Makefile", "requirements.txt", "requirements-dev.txt", "pyproject.toml")
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
    """A Python that says no to "3.11 to 3.14?"."""
    program(folder, name, '[ "$1" = -c ] && exit 1; echo "the old one was taken"')


def good_python(folder: Path, name: str) -> None:
    program(folder, name, f'[ "$1" = -c ] && exec {sys.executable} "$@"; echo "{name} runs $1"')


# ------------------------------------------------------------------------------------------------- which Python


@posix
def test_make_without_any_python_says_where_to_get_one(clone, tmp_path):
    done = make(clone, tmp_path / "nothing")
    assert done.returncode != 0
    sentence, *rest = done.stderr.splitlines()
    assert sentence.startswith("set-up: no Python 3.11 to 3.14 among: python3 ")
    assert "install one from https://www.python.org/downloads/" in sentence
    assert "make PYTHON=/path/to/python3" in sentence
    assert all(line.startswith("make") for line in rest)


@posix
def test_make_with_an_old_python_only_says_the_same(clone, tmp_path):
    old_python(tmp_path / "bin")
    done = make(clone, tmp_path / "bin")
    assert done.returncode != 0
    assert "no Python 3.11 to 3.14 among: python3 " in done.stderr
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
    assert "no Python 3.11 to 3.14 among: python3.7;" in done.stderr


def test_an_old_python_gets_a_sentence(install, monkeypatch, capsys):
    monkeypatch.setattr(sys, "version_info", (3, 9, 18))
    assert install.main([]) == 1
    said = capsys.readouterr().err
    assert said.startswith("set-up: Python 3.9 (")
    assert "is too old, the course needs 3.11 to 3.14; install one from https://www.python.org/downloads/" in said


def test_a_python_that_is_too_new_gets_a_sentence_before_anything_is_made(install, monkeypatch, capsys):
    monkeypatch.setattr(sys, "version_info", (3, 15, 0))
    assert install.main([]) == 1
    said = capsys.readouterr().err
    assert said.startswith("set-up: Python 3.15 (")
    assert "is too new: some packages of the course are not made for it yet; it needs 3.11 to 3.14; install one" in said
    assert not install.VENV.exists()


def test_a_python_of_32_bits(install, monkeypatch, capsys):
    monkeypatch.setattr(sys, "maxsize", 2**31 - 1)
    assert install.main([]) == 1
    assert "is a 32-bit one, and PyTorch needs 64 bits" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("machine", "translated", "macos", "words"),
    [
        ("x86_64", True, "14.5", "is made for Intel and your Mac translates it; PyTorch needs one for Apple silicon (arm64)"),
        ("x86_64", False, "14.5", "PyTorch needs a Mac with Apple silicon (M1 or later), this one has an Intel processor"),
        ("arm64", False, "13.7.1", "PyTorch needs macOS 14 or newer, this is 13.7.1; update macOS"),
        ("arm64", False, "14.0", ""),
        ("arm64", False, "26.1", ""),
    ],
)
def test_what_torch_needs_of_a_mac(install, monkeypatch, machine, translated, macos, words):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("platform.mac_ver", lambda: (macos, ("", "", ""), machine))
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: SimpleNamespace(stdout=b"1\n" if translated else b"0\n"))
    assert words in sentence_of(install, install.check_machine)


def test_windows_for_arm_takes_the_python_for_x64(install, monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr("sysconfig.get_platform", lambda: "win-arm64")
    assert "the one for Windows 64-bit (x64)" in sentence_of(install, install.check_machine)
    monkeypatch.setattr("sysconfig.get_platform", lambda: "win-amd64")
    install.check_machine()


def sentence_of(install, act) -> str:
    """Why `act` stops, or nothing."""
    try:
        act()
    except install.Stop as stop:
        return str(stop)
    return ""


def test_old_pythons_and_plain_consoles_can_read_it():
    text = (HOME / "install.py").read_text(encoding="utf-8")
    ast.parse(text, feature_version=(3, 6))
    assert text.isascii(), "a Windows console with an old code page has no other letters"


def test_the_environments_own_python_does_not_delete_it(install, monkeypatch):
    monkeypatch.setattr(sys, "prefix", str(install.VENV))
    assert "run `deactivate` or open another terminal" in sentence_of(install, lambda: install.make_venv([]))


@posix
def test_make_refuses_a_python_that_is_too_new(clone, tmp_path):
    program(tmp_path / "bin", "python3", f'[ "$1" = -c ] && exec {sys.executable} -c "{LATER}$2"; echo "the new one was taken"')
    done = make(clone, tmp_path / "bin")
    assert done.returncode != 0
    assert "no Python 3.11 to 3.14 among: python3 " in done.stderr


LATER = "import sys; sys.version_info = (3, 15, 0); "


@posix
@pytest.mark.parametrize(
    ("goal", "runs"),
    [
        ("setup", "--cpu"),
        ("lab", ""),
        ("run", ""),
        *((goal, "--dev") for goal in ("setup-dev", "test", "build", "lint", "site", "weights")),
    ],
)
def test_make_sets_up_what_the_goal_needs(clone, goal, runs):
    command = ["make", "--dry-run", goal, *(["ARGS=--cpu"] if goal == "setup" else [])]
    said = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"exec \$python install\.py ?([^;]*);", said) == [runs]


def test_a_python_without_venv(install, monkeypatch, capsys):
    words = "The virtual environment was not created successfully because ensurepip is not available."
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: SimpleNamespace(returncode=1, stdout=words, stderr=""))
    assert install.main([]) == 1
    version = "{}.{}".format(*sys.version_info)
    assert f"comes without venv; install it (Debian, Ubuntu: sudo apt install python{version}-venv)" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------- space and network


def test_no_space(install, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1.2e9))
    needed, _ = install.space([])
    assert install.main([]) == 1
    said = capsys.readouterr().err
    assert said == (
        f"set-up: {needed:.0f} GB are needed on the disk of {install.HOME}, 1.2 GB are free; "
        f"make room{' or choose --cpu' if sys.platform == 'linux' else ''} and try again\n"
    )
    assert not install.VENV.exists()


def test_without_cuda_less_space_is_needed(install, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    assert install.space(["cpu"]) < install.space([]) == install.space(["dev"])
    monkeypatch.setattr(sys, "platform", "win32")
    assert install.space([]) == install.space(["cpu"])


@pytest.fixture
def commands(install, monkeypatch):
    """What the module asks pip for; nothing is run."""
    found = []
    monkeypatch.setattr(install, "run_pip", lambda arguments: found.append(arguments) or 0)
    monkeypatch.setattr(install, "free_space", lambda: 1000.0)
    install.VENV.mkdir()
    return found


def test_pip_is_brought_up_to_date_first(install, commands):
    install.install([], None)
    assert commands == [["install", "--upgrade", "pip"], ["install", "-r", "requirements.txt"]]


def test_little_space_does_without_a_second_copy_of_the_downloads(install, commands, monkeypatch):
    needed, cache = install.space([])
    for free in (needed + cache / 2, needed + cache * 2):
        monkeypatch.setattr(install, "free_space", lambda free=free: free)
        install.install([], None)
    assert ["--no-cache-dir" in command for command in commands if "-r" in command] == [True, False]


def test_those_who_test_get_more(install, commands):
    install.install(["dev"], None)
    assert commands[-1] == ["install", "-r", "requirements-dev.txt"]


def test_without_cuda_torch_comes_from_its_own_index(install, commands):
    install.install(["cpu"], None)
    pins = install.VENV / "requirements-cpu.txt"
    command = ["install", "-r", "requirements.txt", "--constraint", str(pins)]
    assert commands[-1] == [*command, "--extra-index-url", "https://download.pytorch.org/whl/cpu"]
    wanted = (HOME / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert pins.read_text().splitlines() == [f"{line}+cpu" for line in wanted if line.startswith("torch")]
    assert len(pins.read_text().splitlines()) == 2


def test_pip_takes_the_build_without_cuda_of_two(clone, tmp_path):
    """The pins with the suffix, with packages of ours: the one with CUDA, which pip prefers, is there too."""
    (tmp_path / "wheels").mkdir()
    for version in ("1+cpu", "1+cu132"):
        wheel(tmp_path / "wheels", "torch", version)
    (clone / "requirements.txt").write_text("torch==1\n")
    for options, taken in (((), "1+cu132"), (("--cpu",), "1+cpu")):
        shutil.rmtree(clone / ".venv", ignore_errors=True)
        done = run(clone, *options, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path / "wheels"))
        assert done.returncode == 0, done.stdout + done.stderr
        assert list(clone.glob(f".venv/**/torch-{taken}.dist-info"))


def test_what_the_user_has_set_for_pip_goes_first(install, monkeypatch):
    seen = []
    monkeypatch.setattr(install, "pip_version", lambda: (26, 1))
    pip = SimpleNamespace(stdout=(), wait=lambda: 0)
    monkeypatch.setattr(subprocess, "Popen", lambda command, **named: seen.append((command, named["env"])) or pip)
    monkeypatch.setenv("PIP_RETRIES", "3")
    monkeypatch.delenv("PIP_DEFAULT_TIMEOUT", raising=False)
    install.VENV.mkdir()
    install.run_pip(["install", "one"])
    ((command, environment),) = seen
    assert "--progress-bar=raw" in command
    assert (environment["PIP_RETRIES"], environment["PIP_DEFAULT_TIMEOUT"]) == ("3", "60")


def test_stopped_by_hand_pip_is_stopped_before_its_folder_is_deleted(install, monkeypatch):
    steps = []

    def lines():
        yield "Collecting one"
        raise KeyboardInterrupt

    pip = SimpleNamespace(stdout=lines(), kill=lambda: steps.append("kill"), wait=lambda: steps.append("wait"))
    monkeypatch.setattr(subprocess, "Popen", lambda command, **named: pip)
    monkeypatch.setattr(install, "pip_version", lambda: (26, 1))
    install.VENV.mkdir()
    with pytest.raises(KeyboardInterrupt):
        install.run_pip(["install", "one"])
    assert steps == ["kill", "wait"]


# ------------------------------------------------------------------------------------------------- what it shows

SAID = [
    "Collecting torch==2.15.0 (from -r requirements.txt (line 1))",
    "  Downloading torch-2.15.0-cp311-cp311-manylinux_2_28_x86_64.whl.metadata (29 kB)",
    "Downloading torch-2.15.0-cp311-cp311-manylinux_2_28_x86_64.whl (821.0 MB)",
    "Progress 123400000 of 821000000",
    "Installing collected packages: torch, numpy, pillow",
]


def rows(install, monkeypatch, capsys, terminal: bool) -> str:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    row = install.Row()
    for line in SAID:
        row(line.strip())
    row.clear()
    return capsys.readouterr().out


def test_on_a_terminal_the_megabytes_of_the_download_are_shown_in_one_row(install, monkeypatch, capsys):
    said = rows(install, monkeypatch, capsys, terminal=True)
    assert "\n" not in said
    shown = [row.strip() for row in said.split("\r")]
    assert "torch 2.15.0 123 of 821 MB" in shown
    assert shown[-3:] == ["installing 3 packages", "", ""]


def test_elsewhere_each_download_has_a_row_with_its_size(install, monkeypatch, capsys):
    said = rows(install, monkeypatch, capsys, terminal=False)
    assert said.splitlines() == ["  torch 2.15.0  821.0 MB", "  installing 3 packages"]


# ------------------------------------------------------------------------------------------------- space and network


def test_a_folder_that_may_not_be_written(install, monkeypatch, capsys):
    def refuse(self, *arguments, **named):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1e12))
    monkeypatch.setattr(Path, "mkdir", refuse)
    assert install.main([]) == 1
    assert "could not be made ([Errno 13] Permission denied" in capsys.readouterr().err


def run(clone: Path, *options: str, **environment: str) -> subprocess.CompletedProcess:
    """`python install.py` with a pip that knows no index but the one given."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "COV_"))}
    clean |= {"PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    command = [sys.executable, "install.py", *options]
    return subprocess.run(command, cwd=clone, env=clean | environment, capture_output=True, text=True)


def test_no_network(clone):
    done = run(clone, PIP_INDEX_URL="http://127.0.0.1:9/simple")  # nobody answers there
    assert done.returncode == 1
    assert done.stderr == (
        "set-up: the package index cannot be reached; go online (behind a proxy set HTTPS_PROXY) and try again, "
        "or install from a stick with --from\n"
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
            "HINT: This error might have occurred since this system does not have Windows Long Path support enabled.",
            "{home} is too long",
        ),
        (
            "Collecting torch\nERROR: THESE PACKAGES DO NOT MATCH THE HASHES\nsee above\n",
            "pip failed: ERROR: THESE PACKAGES DO",
        ),
        ("", "pip failed: it said nothing"),
    ],
)
def test_what_pip_says_becomes_one_sentence(install, output, words):
    sentence = install.why_no_packages(output, 9.0)
    assert sentence.startswith(words.format(home=install.HOME))
    assert "\n" not in sentence


# --------------------------------------------------------------------------------------- an environment that is there


def wheel(folder: Path, name: str, version: str = "1") -> None:
    """The smallest package that pip installs."""
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", "")
        info = f"{name}-{version}.dist-info"
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
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
    steps, choices = [], []

    def make_venv():
        steps.append("make")
        install.python().parent.mkdir(parents=True, exist_ok=True)
        install.python().touch()

    monkeypatch.setattr(install, "make_venv", lambda choice: make_venv())
    monkeypatch.setattr(install, "install", lambda choice, kit: steps.append("install") or choices.append(choice))
    monkeypatch.setattr(install, "starts", lambda: install.python().exists())
    install.steps, install.choices = steps, choices
    return install


def test_a_finished_environment_is_left_alone(recorded):
    assert [recorded.main([]), recorded.main([])] == [0, 0]
    assert recorded.steps == ["make", "install"]


def test_an_environment_whose_python_is_gone_is_made_anew(recorded):
    recorded.main([])
    recorded.python().unlink()
    assert recorded.main([]) == 0
    assert recorded.steps == ["make", "install"] * 2


def test_an_environment_that_was_moved_is_made_anew(recorded):
    recorded.main([])
    stamp = recorded.STAMP.read_text()
    recorded.STAMP.write_text(stamp.replace(str(recorded.VENV), str(recorded.VENV.parent / "elsewhere" / ".venv")))
    recorded.main([])
    assert recorded.steps == ["make", "install"] * 2


def test_an_environment_made_by_hand_is_completed(recorded):
    recorded.make_venv([])
    recorded.main([])
    assert recorded.steps == ["make", "install"]


def test_a_set_up_stopped_by_hand_is_not_trusted(recorded, monkeypatch, capsys):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(recorded, "install", interrupt)
    assert recorded.main([]) == 130
    assert "stopped by hand; the same command begins again" in capsys.readouterr().err
    monkeypatch.setattr(recorded, "install", lambda *arguments: recorded.steps.append("install"))
    recorded.main([])
    assert recorded.steps == ["make", "make", "install"]


def test_the_real_check_of_an_environment(install):
    assert not install.starts()
    install.python().parent.mkdir(parents=True)
    install.python().touch()
    install.python().chmod(0o755)
    assert not install.starts(), "an empty file is no Python"


# ------------------------------------------------------------------------------------------- learners, tests, no CUDA


def test_an_environment_for_tests_is_good_for_learners_and_not_the_other_way_round(recorded):
    recorded.main([])
    recorded.main(["--dev"])
    assert recorded.choices == [[], ["dev"]]
    recorded.main([])
    recorded.main(["--dev"])
    assert recorded.choices == [[], ["dev"]], "`make lab` after `make test` does nothing"


def test_a_change_of_what_tests_need_is_nothing_to_learners(recorded):
    recorded.main([])
    (recorded.HOME / "requirements-dev.txt").write_text("-r requirements.txt\nnew==1\n")
    recorded.main([])
    assert recorded.choices == [[]]
    recorded.main(["--dev"])
    (recorded.HOME / "requirements-dev.txt").write_text("-r requirements.txt\nnew==2\n")
    recorded.main([])
    assert recorded.choices == [[], ["dev"], ["dev"]], "what was asked for once is kept up to date"


def test_without_cuda_stays_so(recorded, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    recorded.main(["--cpu"])
    recorded.main([])
    recorded.main(["--dev"])
    assert recorded.choices == [["cpu"], ["dev", "cpu"]]


def test_other_systems_have_no_cuda_anyway(recorded, monkeypatch, capsys):
    monkeypatch.setattr(recorded, "check_machine", lambda: None)
    monkeypatch.setattr(sys, "platform", "win32")
    recorded.main(["--cpu"])
    assert recorded.choices == [[]]
    assert "the ordinary PyTorch of this system is already without CUDA" in capsys.readouterr().out


# ----------------------------------------------------------------------------------------------------- from a stick

HERE = "{}.{}".format(*sys.version_info)


def stick(folder: Path, install, **changes) -> Path:
    """A kit with one package of ours, for this machine."""
    (folder / "wheels").mkdir(parents=True)
    wheel(folder / "wheels", "one")
    manifest = {"for": [f"{install.this_system()} {HERE}"], "cpu": False, "whole": True} | changes
    (folder / "kit.json").write_text(json.dumps(manifest))
    return folder


def test_from_a_stick_the_index_is_not_asked(clone, install, tmp_path):
    folder = stick(tmp_path / "a stick", install)
    (clone / "requirements.txt").write_text("one==1\n")
    done = run(clone, "--from", str(folder), PIP_INDEX_URL="http://127.0.0.1:9/simple")
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(clone.glob(".venv/**/one.py"))
    assert "Looking in indexes" not in (clone / ".venv" / "course-setup.log").read_text()


def test_a_stick_with_torch_without_cuda_is_taken_as_such(install, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    kit = install.check_kit(str(stick(tmp_path / "stick", install, cpu=True)))
    assert install.chosen(install.parser().parse_args([]), kit) == ["cpu"]


@pytest.mark.parametrize("name", ["", "wheels", "course"])
def test_its_folders_are_good_names_for_it(install, tmp_path, name):
    folder = stick(tmp_path / "stick", install)
    (folder / "course").mkdir()
    assert install.check_kit(str(folder / name))["wheels"] == folder / "wheels"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"whole": False}, "is not finished; the command `course kit` that began it goes on"),
        ({"for": ["linux 2.7", "macos 3.3"]}, "is for linux 2.7, macos 3.3, this is "),
    ],
)
def test_a_stick_that_does_not_fit(install, tmp_path, changes, words):
    folder = stick(tmp_path / "stick", install, **changes)
    assert words in sentence_of(install, lambda: install.check_kit(str(folder)))
    assert not install.VENV.exists()


def test_a_folder_that_is_no_stick(install, tmp_path, capsys):
    assert install.main(["--from", str(tmp_path / "nothing")]) == 1
    assert "is no stick of the course: it has no kit.json; name the folder in which START.html is" in capsys.readouterr().err
