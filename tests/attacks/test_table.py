"""The table of threats in README.md: complete, and true to the files that it names. Rows that need no box are shown here."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from course_utils.grader import evidence, records, runner
from course_utils.grader.intake.archive import read_submissions
from course_utils.grader.sandbox import levels
from course_utils.profiles import HOME

FOLDER = Path(__file__).parent
TEXT = (FOLDER / "README.md").read_text(encoding="utf-8")
ROWS = {
    int(number): (layers.split(), re.findall(r"`([^`]+)`", shown))
    for number, layers, shown in re.findall(r"^\| (\d+) \|[^|]*\|[^|]*\| ([A-Z ]+) \| (.+) \|$", TEXT, re.MULTILINE)
}
ATTACKS = sorted(path.name for path in FOLDER.glob("[0-9]*.py"))


def test_there_is_one_row_for_each_number():
    numbers = [int(number) for number in re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE)]
    assert numbers == sorted(ROWS), "each once, in order, and in the form that is read here"


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_is_in_the_row_of_its_number(name):
    assert name in ROWS[int(name[:2])][1]
    assert (FOLDER / name).read_text(encoding="utf-8").startswith(f"# {int(name[:2])}. ")


@pytest.mark.parametrize("number", ROWS)
def test_what_a_row_names_is_there(number):
    layers, shown = ROWS[number]
    known = re.findall(r"^\| ([A-Z ]+) \| \w", TEXT, re.MULTILINE)
    assert set(layers) <= set(" ".join(known).split())
    assert shown
    for name in shown:
        if "::" not in name:
            assert name in ATTACKS
            assert int(name[:2]) == number
            continue
        path, _, test = name.partition("::")
        tree = ast.parse((HOME / path).read_text(encoding="utf-8"))
        assert test in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)], name


def test_the_layers_of_the_table_are_those_of_the_sandbox():
    assert {name for layers, _ in ROWS.values() for name in layers} == {*levels.LAYERS, "EV", "BOX", "FORK", "IN", "RUN", "OUT"}


def test_the_way_to_the_table():
    """Both the instructors' page and the machinery of the attacks point to it."""
    assert "](../tests/attacks/README.md)" in (HOME / "docs" / "instructors.md").read_text(encoding="utf-8")
    assert "README.md" in ast.get_docstring(ast.parse((FOLDER / "test_attacks.py").read_text(encoding="utf-8")))


def test_nothing_of_the_grader_unpickles():
    """Row 10: no module of it can turn bytes into calls."""
    sources = {path.name: path.read_text(encoding="utf-8") for path in (HOME / "course_utils" / "grader").rglob("*.py")}
    assert "evidence.py" in sources
    loads = r"\b(pickle|marshal|shelve|dill|cloudpickle|joblib)\b|torch\.load|allow_pickle"
    assert [name for name, source in sources.items() if re.search(loads, code_of(source))] == []


def code_of(source: str) -> str:
    """The text of a module without comments and docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            node.body[0] = ast.Pass()
    return ast.unparse(tree)


def test_what_was_read_is_what_is_graded(tmp_path, warm):
    """Row 32: exchanged for another notebook, then for a link, after it was read."""
    (solved,), (blank,) = ((HOME / folder).glob("03_*.ipynb") for folder in ("solutions", "notebooks"))
    path = tmp_path / "anna.ipynb"
    path.write_bytes(blank.read_bytes())
    (upload,) = read_submissions(path)
    path.write_bytes(solved.read_bytes())
    runner.grade_many(exchanged(path, solved, upload), evidence.Job("s", "none"), 1, tmp_path / "out")
    (report,) = (tmp_path / "out" / "reports").iterdir()
    read = records.read_report(report.read_bytes())
    assert read.submission.sha256 == hashlib.sha256(blank.read_bytes()).hexdigest()
    assert read.score == 0


def test_no_folder_of_a_learner_is_taken_for_a_module(tmp_path):
    """Row 65: an instructor calls the command where the submissions lie."""
    entries = [entry for entry in sys.path if entry and not os.path.isabs(entry)]
    names = ["multiprocessing", "sitecustomize", "torch", "json", "readline", "course_utils", "distributed", *entries]
    for name in names:
        (tmp_path / "class" / name).mkdir(parents=True)
        for inside in ("__init__", *names):
            (tmp_path / "class" / name / f"{inside}.py").write_text("open('../was-run', 'a').write(__name__)\n")
    (tmp_path / "class" / "anna.ipynb").write_text("no notebook")
    command = [Path(sys.executable).parent / "course", "grade", ".", "--out", "../out", "--jobs", "2"]

    done = subprocess.run([*command, "--isolation", "none"], cwd=tmp_path / "class", capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert not (tmp_path / "was-run").exists(), (tmp_path / "was-run").read_text()


def exchanged(path, solved, upload):
    """Hands out the upload, and has its file replaced meanwhile."""
    path.unlink()
    path.symlink_to(solved)
    yield upload
