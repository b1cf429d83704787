"""The modules of the grader import only what stands to their left, and what decides never meets a learner's code."""

import ast
from pathlib import Path

import pytest

from course_utils.profiles import HOME

PACKAGE = HOME / "course_utils" / "grader"
INSIDE = ("sandbox", "worker")  # the packages that are on both sides of the wall
LEFT_TO_RIGHT = (
    *INSIDE,
    *(
        "intake",
        "scoring",
        "canonical",
        "records",
        "probes",
        "client",
        "evidence",
        "grading",
        "engines",
        "runner",
        "output",
        "command",
    ),
)
SOURCES = sorted(PACKAGE.rglob("*.py"))
each_source = pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def used(path: Path) -> set[str]:
    """The rooms of the grader from which `path` imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("course_utils.grader"):
            below = node.module.removeprefix("course_utils.grader").lstrip(".").partition(".")[0]
            found |= {below} if below else {alias.name for alias in node.names}
    return found - {room_of(path)}


def test_every_module_has_its_place():
    assert {room_of(path) for path in SOURCES} == {*LEFT_TO_RIGHT, "__init__"}


@each_source
def test_imports_point_left(path):
    room = room_of(path)
    assert used(path) <= set(LEFT_TO_RIGHT[: LEFT_TO_RIGHT.index(room)] if room in LEFT_TO_RIGHT else ())


def test_what_runs_beside_learners_code_knows_no_judge():
    assert set().union(*(used(path) for path in SOURCES if room_of(path) in INSIDE)) <= set(INSIDE)


def test_what_is_shown_to_learners_is_written_without_the_notes():
    for path in (path for path in SOURCES if room_of(path) == "output"):
        assert "Notes" not in path.read_text(encoding="utf-8")


def test_no_file_is_long():
    """None has more than 300 lines. All together aim at 3,200; until then none may be added without another going."""
    lines = {str(path.relative_to(PACKAGE)): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert max(lines.values()) <= 300, lines
    assert sum(lines.values()) <= 4144, sum(lines.values())


@each_source
def test_nothing_is_unpickled(path):
    """Nothing that can run code while it is read, and no text of a learner taken as a template or as HTML."""
    text = path.read_text(encoding="utf-8")
    for word in ("pickle", "marshal", "shelve", "dill", "torch.load", "np.load", "Markup", "yaml.load", "extractall"):
        assert not any(word in line for line in text.splitlines() if not line.lstrip().startswith(("#", '"""'))), word


def test_no_template_trusts_a_text():
    for path in (PACKAGE / "templates").glob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert "|safe" not in text.replace(" ", "")
        assert "autoescape" not in text
        assert "<script" not in text
