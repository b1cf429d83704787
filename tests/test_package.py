"""The course as pip installs it: what the wheel holds, that it works without a repository, and that a lone notebook gets it."""

from __future__ import annotations

import json
import os
import re
import site
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from course_utils.profiles import HOME, work_folder
from course_utils.tools.address import repository_address
from course_utils.tools.install_cell import MEGABYTES, install_cell

PROJECT = tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ASKED = [Requirement(text) for text in PROJECT["dependencies"]]
EXTRAS = [Requirement(text) for extra in PROJECT["optional-dependencies"].values() for text in extra]
PINS = {
    canonicalize_name(name): version
    for path in sorted(HOME.glob("requirements*.txt"))
    for name, version in re.findall(r"^([\w.-]+)==([\w.+]+)", path.read_text(encoding="utf-8"), re.MULTILINE)
}
BESIDE = {"ipython": "ipykernel"}  # what comes with a pinned package, and is not pinned itself


@pytest.mark.parametrize("asked", [*ASKED, *EXTRAS], ids=str)
def test_what_the_package_asks_for_is_what_is_tested(asked):
    name = canonicalize_name(asked.name)
    if name in BESIDE:
        assert BESIDE[name] in PINS
    else:
        assert PINS[name] in asked.specifier, f"{asked} is not what requirements pin: {PINS[name]}"


def test_a_range_has_a_lowest_version():
    """One that the tests have passed with; without it pip takes anything."""
    assert [one.name for one in ASKED if not any(part.operator == ">=" for part in one.specifier)] == []


# ---------------------------------------------------------------------------------------------------------- the wheel


def git(*arguments: str, at: Path = HOME) -> str:
    return subprocess.run(["git", *arguments], cwd=at, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """The course as a repository of its own, with what is in the working tree and git does not ignore."""
    folder = tmp_path_factory.mktemp("clone") / "course"
    names = git("ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
    for name in {name for name in names if name and (HOME / name).is_file()}:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(HOME / name, folder / name) if same_disk(folder) else (folder / name).write_bytes((HOME / name).read_bytes())
    git("init", "-q", "-b", "main", at=folder)
    git("add", "--all", at=folder)
    who = ("-c", "user.name=a test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
    git(*who, "commit", "-q", "-m", "the course", at=folder)
    return folder


def same_disk(folder: Path) -> bool:
    return folder.parent.stat().st_dev == HOME.stat().st_dev


@pytest.fixture(scope="module")
def wheel(clone):
    """A wheel, made where files lie about that are nobody else's business."""
    for private in ("data/own/me.png", "data/full/eurosat/a.jpg", "my/00_start_here.ipynb", ".course/grades.jsonl"):
        (clone / private).parent.mkdir(parents=True, exist_ok=True)
        (clone / private).write_text("private")
    (clone / "data" / "sweeps" / "freezing.jsonl").write_text("private")
    (clone / "notebooks" / ".ipynb_checkpoints").mkdir()
    (clone / "notebooks" / ".ipynb_checkpoints" / "00_start_here-checkpoint.ipynb").write_text("private")
    return Path(next(WheelBuilder(str(clone)).build(directory=str(clone.parent), versions=["standard"])))


def test_the_wheel_holds_what_lessons_read_and_nothing_else(wheel):
    tracked = git("ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
    folders = ("data/sweeps/", "data/tiny/", "data/weights/", "notebooks/")
    read = {name for name in tracked if name.startswith(folders) or name == "data/README.md"}
    code = {name for name in tracked if name.startswith("course_utils/")}
    with zipfile.ZipFile(wheel) as file:
        names = {name for name in file.namelist() if ".dist-info/" not in name}
        assert not [name for name in names if file.read(name) == b"private"]
    assert names == code | {f"course_utils/home/{name}" for name in read}
    assert wheel.stat().st_size < 60e6, f"{wheel.stat().st_size / 1e6:.0f} MB"


def test_the_install_cell_names_the_size_of_what_it_fetches(clone):
    size = len(subprocess.run(["git", "archive", "--format=zip", "-1", "HEAD"], cwd=clone, capture_output=True).stdout) / 1e6
    assert abs(size - MEGABYTES) < 5, f"{size:.0f} MB"


def test_an_editable_install_is_one_absolute_path(tmp_path):
    """Not a name such as `multiprocessing`, which a folder where one calls `course` could bear; and no copy of the data."""
    made = next(WheelBuilder(str(HOME)).build(directory=str(tmp_path), versions=["editable"]))
    with zipfile.ZipFile(made) as file:
        (path,) = (name for name in file.namelist() if ".dist-info/" not in name)
        assert path.endswith(".pth")
        assert Path(file.read(path).decode()).samefile(HOME)
        assert os.path.isabs(file.read(path).decode())


# ------------------------------------------------------------------------------------------------- where it is installed


@pytest.fixture
def empty(tmp_path):
    """An environment without the course, whose Python sees the packages of the running one; and a folder to work in."""
    if sys.platform == "win32":
        pytest.skip("links to packages need a privilege on Windows")
    venv.create(tmp_path / "venv", symlinks=True, with_pip=False)
    place = next((tmp_path / "venv").rglob("site-packages"))
    (place / "torch_and_all.pth").write_text("\n".join(seen_without_the_course(tmp_path / "packages")))
    (tmp_path / "work").mkdir()
    return tmp_path


def seen_without_the_course(folder: Path) -> list[str]:
    """A folder with a link to each installed package but the course, which pip would take for installed."""
    folder.mkdir()
    for source in site.getsitepackages():
        for entry in Path(source).iterdir():
            if not re.search(r"fine_tuning_course|\.pth$|^__pycache__$", entry.name):
                (folder / entry.name).symlink_to(entry)
    return [str(folder)]


def in_it(empty: Path, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess:
    """Run the environment's Python in a folder that has nothing to do with the course."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COURSE", "PIP", "VIRTUAL"))}
    kept |= {"HOME": str(empty / "home"), "MPLBACKEND": "agg", "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1", **environment}
    python = next(
        path for path in (empty / "venv" / "bin" / "python", empty / "venv" / "Scripts" / "python.exe") if path.exists()
    )
    return subprocess.run([python, *arguments], cwd=empty / "work", env=kept, capture_output=True, text=True, timeout=500)


def said(done: subprocess.CompletedProcess) -> str:
    assert not done.returncode, done.stdout + done.stderr
    return done.stdout


OFFLINE = {
    "PIP_NO_INDEX": "1",
    "PIP_NO_BUILD_ISOLATION": "0",  # pip reads it as "no isolation": the builder is here, and the line is not
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
}
TORCH = "import torch, torchvision, numpy; print([(one.__file__, one.__version__) for one in (torch, torchvision, numpy)])"
WITHOUT_A_REPOSITORY = """
import course_utils
from course_utils import data, load_model, open_data, precomputed, profiles, settings
from course_utils.verdict_log import log_file, record
from course_utils.experiments import first_steps, freezing
from course_utils.tools import doctor
from course_utils.tools.address import repository_address
from pathlib import Path

here = Path.cwd()
assert here not in profiles.HOME.parents and profiles.HOME.parent == Path(course_utils.__file__).parent
assert len(open_data(settings()).train.dataset) == 120
load_model("resnet18", weights="shapes")
assert freezing.read_table("tiny")
record("00.1", "passed", "")
assert log_file() == here / ".course" / "grades.jsonl" and log_file().exists()
assert "git" not in profiles.restored("data"), "there is no repository to check out from"
assert (precomputed.CACHE, first_steps.OWN, data.FULL) == (here / ".course", here / "data" / "own", here / "data" / "full")
print(repository_address(), [(one.name, one.state, one.text) for one in doctor.examine(settings()) if one.state != "ok"])
"""


def test_it_works_without_a_repository(wheel, empty):
    """Installed from the wheel, offline, with the packages that are here; what is written goes beside the notebook."""
    install = ("-m", "pip", "install", "-q", wheel)
    before = said(in_it(empty, "-c", TORCH))
    said(in_it(empty, *install, **OFFLINE))
    assert said(in_it(empty, "-c", TORCH)) == before
    address, _, findings = said(in_it(empty, "-c", WITHOUT_A_REPOSITORY)).partition(" ")
    assert address == repository_address()
    wrong = re.findall(r"\('(packages|torch|torchvision|lessons|weights \w+, shapes|pictures, tiny)', '\w+'.*", findings)
    assert not wrong, findings


def test_where_the_current_folder_is_read_only_a_folder_of_the_user_is_written(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert work_folder() == tmp_path
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    assert work_folder() == Path.home() / "fine-tuning-course"


def cells_of(lesson: str) -> list[dict]:
    (path,) = (HOME / "notebooks").glob(f"{lesson}_*.ipynb")
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


def setup_cell(lesson: str) -> str:
    return next("".join(cell["source"]) for cell in cells_of(lesson) if "setup" in cell["metadata"].get("tags", []))


def test_the_install_cell_fetches_the_course_and_leaves_torch_as_it_is(clone, empty):
    """A notebook by itself: the cell as it stands, but for the address, then the set-up cell of lesson 00."""
    cell = install_cell(f"file://{clone}")
    assert cell == install_cell(repository_address()).replace(repository_address(), f"file://{clone}")
    before = said(in_it(empty, "-c", TORCH))
    (empty / "work" / "cells.py").write_text(f"{cell}\n{setup_cell('00')}\nprint(len(train.labels))\n", encoding="utf-8")
    assert said(in_it(empty, "cells.py", **OFFLINE)).splitlines() == [
        f"Fetching the course, {MEGABYTES} MB, once. The PyTorch that is here stays as it is.",
        "The course is here.",
        "120",
    ]
    assert said(in_it(empty, "-c", TORCH)) == before
    assert not list((empty / "venv").rglob("site-packages/torch*/")), "pip has installed another torch"


def test_an_install_cell_that_fails_says_so_in_a_sentence(tmp_path, empty):
    done = in_it(empty, "-c", install_cell(f"file://{tmp_path}/nowhere"), **OFFLINE)
    assert done.returncode
    assert "nowhere" in done.stdout, "what pip says"
    assert done.stderr.splitlines()[-1] == (
        "RuntimeError: the course could not be fetched, pip says why above: go online, see that git is there, try again"
    )


def test_where_the_course_is_the_install_cell_does_nothing():
    code = f"import sys, time\nbefore = set(sys.modules)\nstart = time.perf_counter()\n{install_cell(repository_address())}\n"
    code += (
        "print(time.perf_counter() - start, sorted(set(sys.modules) - before), set(dir()) - {'before', 'start', 'sys', 'time'})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=HOME, capture_output=True, text=True, check=True)
    seconds, rest = done.stdout.split(" ", 1)
    assert float(seconds) < 0.1
    assert "subprocess" not in rest
    assert "course_utils" not in rest, "it is found, not imported: the lesson does that"


@pytest.mark.notebook
def test_a_whole_lesson_runs_without_a_repository(wheel, empty):
    """Lesson 00 from another folder, in the installed course, cell after cell."""
    said(in_it(empty, "-m", "pip", "install", "-q", wheel, **OFFLINE))
    cells = "\n\n".join("".join(cell["source"]) for cell in cells_of("00"))
    (empty / "work" / "lesson.py").write_text(cells, encoding="utf-8")
    assert "passed" in said(in_it(empty, "lesson.py"))
    assert (empty / "work" / ".course" / "grades.jsonl").exists()
