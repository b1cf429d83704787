"""What other graders get: whole, the same each time, without answers or hidden checks where learners can read."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import pytest
import yaml
from answers import right

from course_utils.checks import all_checks, score
from course_utils.grader.intake.answers import read_answers
from course_utils.profiles import HOME
from course_utils.tools import cli

CANARY = "CANARY-7c1f"


@pytest.fixture
def hidden(tmp_path):
    folder = tmp_path / "hidden"
    folder.mkdir()
    (folder / "lesson_03.py").write_text(f"# {CANARY}\nCHECKS = []\n")
    return folder


def export(to, out, *rest):
    assert cli.main(["export", "--to", to, str(out), *map(str, rest)]) == 0
    return out


# ------------------------------------------------------------------------------------------------------- Gradescope


def test_gradescopes_zip(tmp_path, hidden, capsys):
    out = export("gradescope", tmp_path / "a.zip", "--checks", hidden)
    assert "upload it as the autograder" in capsys.readouterr().out
    with zipfile.ZipFile(out) as archive:
        names = archive.namelist()
        for script in ("setup.sh", "run_autograder"):
            assert archive.getinfo(script).external_attr >> 16 & 0o777 == 0o755
            text = archive.read(script).decode()
            assert text.startswith("#!/usr/bin/env bash\n")
            subprocess.run(["bash", "-n"], input=text, text=True, check=True)
        assert "--isolation basic --checks /autograder/source/hidden" in archive.read("run_autograder").decode()
        assert archive.getinfo("hidden/lesson_03.py").external_attr >> 16 & 0o777 == 0o600
        wanted = archive.read("requirements.txt").decode().splitlines()
    assert "course/course_utils/grader/templates/index.html" in names
    assert {f"course/notebooks/{path.name}" for path in (HOME / "notebooks").glob("*.ipynb")} <= set(names)
    lines = (HOME / "requirements.txt").read_text().splitlines()
    assert [line for line in wanted if line not in lines] == []
    assert {line.partition("==")[0] for line in wanted} >= {"torch", "torchvision", "jinja2"}
    assert not any("__pycache__" in name or ".git" in name for name in names)


def test_equal_courses_give_equal_zips(tmp_path, hidden, monkeypatch):
    monkeypatch.setattr("course_utils.tools.export.SHIPPED", ("course_utils/grader/*.py", "notebooks/00*.ipynb"))
    one, two = (export("gradescope", tmp_path / name).read_bytes() for name in ("a.zip", "b.zip"))
    assert one == two
    assert CANARY.encode() not in one


def test_what_gradescope_runs_writes_a_result_even_if_grading_breaks(tmp_path, monkeypatch):
    """The script as it is, with the folders of the platform moved to a place of our own, and no Python there."""
    monkeypatch.setattr("course_utils.tools.export.SHIPPED", ("pyproject.toml",))
    out = export("gradescope", tmp_path / "a.zip")
    place = tmp_path / "autograder"
    (place / "course").mkdir(parents=True)
    with zipfile.ZipFile(out) as archive:
        script = archive.read("run_autograder").decode().replace("/autograder", str(place))
    subprocess.run(["bash"], input=script, text=True, capture_output=True)
    result = json.loads((place / "results" / "results.json").read_text())
    assert result["score"] == 0
    assert "did not finish" in result["output"]


# ----------------------------------------------------------------------------------------------------------- GitHub


def test_the_workflow(tmp_path):
    out = export("actions", tmp_path / "a")
    workflow = yaml.safe_load((out / ".github" / "workflows" / "grade.yml").read_text())
    assert workflow["permissions"] == {"contents": "read"}
    steps = workflow["jobs"]["grade"]["steps"]
    assert any("apparmor_restrict_unprivileged_userns=0" in step.get("run", "") for step in steps)
    (grade,) = (step for step in steps if step.get("id") == "grade")
    arguments = grade["run"].split()[grade["run"].split().index("grade") :]
    assert cli.parser().parse_args(arguments).to == "actions"
    assert "${{" not in str(steps), "nothing of an event reaches a shell"


# ------------------------------------------------------------------------------------------------------- nbgrader


ROLES = {"exercise": (False, False, True), "check": (True, True, False)}  # grade, locked, solution


def test_every_exercise_has_nbgraders_metadata_and_its_points(tmp_path):
    out = export("nbgrader", tmp_path / "n")
    points = {}
    for path in sorted(out.glob("source/*/*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        found = {cell.metadata.nbgrader.grade_id: cell for cell in notebook.cells if "nbgrader" in cell.metadata}
        assert len(found) == sum("nbgrader" in cell.metadata for cell in notebook.cells), "ids are unique"
        for id, cell in found.items():
            meta = cell.metadata.nbgrader
            assert (meta.grade, meta.locked, meta.solution) == ROLES[id.partition("-")[0]]
            assert re.fullmatch(r"[a-zA-Z0-9_\-]+", id)
            if meta.grade:
                points[id.removeprefix("check-").replace("-", ".")] = meta.points
                assert cell.source.splitlines()[-1].startswith("score(")
            else:
                assert "### BEGIN SOLUTION" in cell.source
        assert not any(cell.get("outputs") for cell in notebook.cells)
    assert points == {id: check.points for id, check in all_checks().items()}


@pytest.mark.parametrize("path", sorted((HOME / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_the_courses_own_notebooks_carry_ids_but_no_points(path):
    """A check cell prints, and nbgrader would give full points for that: points come with the export."""
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if "nbgrader" in cell.metadata]
    assert {cell.metadata.nbgrader.grade_id for cell in cells} == {
        cell.id for cell in cells if cell.id.startswith(("exercise-", "check-"))
    }
    assert not any(cell.metadata.nbgrader.grade for cell in cells)


def peers() -> str:
    """A Python that has nbgrader and otter-grader: this one, or the one named by COURSE_PEERS."""
    python = os.environ.get("COURSE_PEERS", sys.executable)
    done = subprocess.run([python, "-c", "import nbgrader, otter"], capture_output=True)
    if done.returncode:
        pytest.skip("no nbgrader and otter-grader here; name a Python that has them in COURSE_PEERS")
    return python


def call(folder, *command):
    python = peers()
    path = os.pathsep.join([str(Path(python).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(HOME), "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([python, "-m", *command], cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def shorten(path):
    """Keep only what grading needs of a lesson, so that other graders do not run all of it."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if {"setup", "exercise", "check"} & set(cell.metadata.get("tags", []))]
    nbformat.write(notebook, path)
    return path


@pytest.mark.notebook
def test_nbgrader_itself_makes_the_assignment_and_grades_it(tmp_path):
    peers()
    out = export("nbgrader", tmp_path / "n")
    source = shorten(out / "source" / "03_freeze" / "03_freeze.ipynb")
    call(out, "nbgrader", "generate_assignment", "03_freeze")
    release = out / "release" / "03_freeze" / "03_freeze.ipynb"
    assert read_answers(release.read_bytes()).answers == {}, "the release is blank, with our own stub"
    for student, notebook in (("ann", source), ("bob", release)):
        folder = out / "submitted" / student / "03_freeze"
        folder.mkdir(parents=True)
        shutil.copyfile(notebook, folder / "03_freeze.ipynb")
    call(out, "nbgrader", "autograde", "03_freeze")
    call(out, "nbgrader", "export")
    header, *rows = (line.split(",") for line in (out / "grades.csv").read_text().splitlines())
    scores = {row[header.index("student_id")]: float(row[header.index("score")]) for row in rows}
    assert scores == {"ann": 6.0, "bob": 0.0}


@pytest.mark.notebook
@pytest.mark.parametrize(("folder", "expected"), [("solutions", [3, 2, 1]), ("notebooks", [0, 0, 0])])
def test_otter_itself_gives_the_same_points(tmp_path, folder, expected):
    peers()
    out = export("otter", tmp_path / "o") / "03_freeze"
    shutil.copyfile(HOME / folder / "03_freeze.ipynb", out / "handed_in.ipynb")
    shorten(out / "handed_in.ipynb")
    (out / "out").mkdir()
    call(out, "otter", "generate", "-t", "tests", "-o", "autograder.zip")
    call(out, "otter", "run", "-a", "autograder.zip", "-o", "out", "handed_in.ipynb")
    tests = json.loads((out / "out" / "results.json").read_text())["tests"]
    assert [test["score"] for test in tests if re.match(r"q03_\d", test["name"])] == expected


# ------------------------------------------------------------------------------------------------------------ otter


def test_otters_tests_are_in_its_format(tmp_path):
    out = export("otter", tmp_path / "o")
    found = {}
    for path in out.glob("*/tests/*.py"):
        names = {}
        exec(path.read_text(), names)
        (suite,) = names["test"]["suites"]
        (case,) = suite["cases"]
        assert names["OK_FORMAT"] is True
        assert (suite["type"], suite["setup"], suite["teardown"], suite["scored"]) == ("doctest", "", "", True)
        assert case["hidden"] is False, "hidden is what otter takes if nothing is said"
        assert path.stem == names["test"]["name"]
        found[path.stem] = names["test"]["points"]
    assert found == {"q" + id.replace(".", "_"): check.points for id, check in all_checks().items()}
    assert all((out / path.stem / path.name).exists() for path in (HOME / "notebooks").glob("*.ipynb"))


# ------------------------------------------------------------------------------------------------------------ both


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--to", "actions", "{here}"], "is there already; choose another name or remove it first"),
        (
            ["--to", "nbgrader", "{here}/x", "--checks", "{here}"],
            "--checks is for gradescope; what nbgrader gets can be read by learners",
        ),
        (["--to", "gradescope", "{here}/x", "--checks", "{here}"], "holds no hidden checks"),
    ],
)
def test_what_cannot_be_exported(tmp_path, capsys, arguments, words):
    assert cli.main(["export", *(argument.format(here=tmp_path) for argument in arguments)]) == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_points_for_graders_that_read_a_number(capsys):
    def blank(*_):
        raise NotImplementedError("Your turn.")

    answer = right("03.3")[0].function
    assert score("03.3", answer) == 1
    assert score("03.3", answer, points=3) == 3
    assert score("03.3", blank) == score("03.3", None) == score("99.9", answer) == 0
    assert capsys.readouterr() == ("", "")
