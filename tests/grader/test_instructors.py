"""The instructors' page: its links lead somewhere, and its hidden check works when it is typed in as it stands."""

import json
import re
import shlex
import shutil

import pytest

import course_utils.grader as package
from course_utils.checks import lessons
from course_utils.grader import grading
from course_utils.grader.intake.answers import read_answers
from course_utils.grader.intake.archive import read_submissions, student_of
from course_utils.grader.records import read_notes, read_report
from course_utils.profiles import HOME

PAGE = HOME / "docs" / "instructors.md"
TEXT = PAGE.read_text(encoding="utf-8")
SOLUTION = (HOME / "solutions" / "03_freeze.ipynb").read_bytes()


@pytest.fixture(scope="module")
def hidden(tmp_path_factory, warm):
    (code,) = re.findall(r"```python\n# hidden/lesson_03.py\n(.*?)```", TEXT, re.DOTALL)
    folder = tmp_path_factory.mktemp("hidden")
    (folder / "lesson_03.py").write_text(code)
    return folder


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#:]+)\)", TEXT))
def test_links_lead_to_files(link):
    assert (PAGE.parent / link).exists()


def test_the_hidden_check_of_the_page_passes_the_solution(hidden):
    report = read_report(grading.grade_one(SOLUTION, grading.make_job("s", "none", hidden))[0])
    assert report.score == report.max == 800
    assert report.hidden_checks == 1


WRONG = """# Exercise 03.1
def freeze_all_but(model, parts):
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(tuple(parts)))
    return model
"""


def test_the_hidden_check_of_the_page_fails_an_answer_that_compares_the_beginning_of_names(hidden):
    notebook = json.loads(SOLUTION)
    next(cell for cell in notebook["cells"] if cell["id"] == "exercise-03-1")["source"] = WRONG
    body, notes = grading.grade_one(json.dumps(notebook).encode(), grading.make_job("s", "none", hidden))
    check = read_report(body).exercises[0].checks[1]
    assert (check.id, check.state, check.score, check.max) == ("03.1.h1", "failed", 0, 200)
    assert b"look at block10" not in body
    assert "only block1 should learn, but look at block10.weight" in str(read_notes(notes))


def test_the_wall_is_drawn_as_the_package_draws_it():
    (drawing,) = re.findall(r"```text\n(.*?)\n```", TEXT, re.DOTALL)
    assert f"\n\n{drawing}\n\n" in package.__doc__


def test_the_solutions_are_tried_as_one_learner(tmp_path, monkeypatch):
    """The commands of the page make a class of one, who hands in every lesson."""
    monkeypatch.chdir(tmp_path)
    (lines,) = re.findall(r"as one learner.*?```sh\n(.*?)```", TEXT, re.DOTALL)
    make, copy, grade = map(shlex.split, lines.splitlines())
    folder = tmp_path / make[-1]
    folder.mkdir(parents=True)
    assert (make[:2], copy[0], copy[2], grade[:3]) == (["mkdir", "-p"], "cp", make[2], ["course", "grade", folder.parent.name])
    for path in HOME.glob(copy[1]):
        shutil.copy(path, folder)
    uploads = list(read_submissions(tmp_path / grade[2]))
    assert {student_of(upload.name) for upload in uploads} == {"solutions"}
    assert [read_answers(upload.blob).lesson for upload in uploads] == lessons()
