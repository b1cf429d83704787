"""The modules of the grader import only what stands to their left, and what decides never meets a learner's code."""

import ast

import pytest

from course_utils.profiles import HOME

PACKAGE = HOME / "course_utils" / "grader"
LEFT_TO_RIGHT = ("wire", "box", "zygote", "submission", "judge", "report", "probes", "evidence", "run", "writers", "command")
TOOLS = ("exports", "bench")  # on top of all
INSIDE = ("wire", "box", "zygote")


def used(name: str) -> set[str]:
    """The modules of the grader that module `name` imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{name}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("course_utils.grader"):
            below = node.module.removeprefix("course_utils.grader").lstrip(".")
            found |= {below} if below else {alias.name for alias in node.names}
    return found


def test_every_module_has_its_place():
    assert {path.stem for path in PACKAGE.glob("*.py")} == {*LEFT_TO_RIGHT, *TOOLS, "__init__"}


@pytest.mark.parametrize("name", LEFT_TO_RIGHT)
def test_imports_point_left(name):
    assert used(name) <= set(LEFT_TO_RIGHT[: LEFT_TO_RIGHT.index(name)])


def test_what_runs_beside_learners_code_knows_no_judge():
    assert set().union(*map(used, INSIDE)) <= set(INSIDE)


def test_what_is_shown_to_learners_is_written_without_the_notes():
    assert "Notes" not in (PACKAGE / "writers.py").read_text(encoding="utf-8").replace("takes reports, never notes", "")


@pytest.mark.parametrize("name", [*LEFT_TO_RIGHT, *TOOLS])
def test_nothing_is_unpickled(name):
    """Nothing that can run code while it is read, and no text of a learner taken as a template or as HTML."""
    text = (PACKAGE / f"{name}.py").read_text(encoding="utf-8")
    for word in ("pickle", "marshal", "shelve", "dill", "torch.load", "np.load", "Markup", "yaml.load", "extractall"):
        assert not any(word in line for line in text.splitlines() if not line.lstrip().startswith(("#", '"""'))), word


def test_no_template_trusts_a_text():
    for path in (PACKAGE / "templates").glob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert "|safe" not in text.replace(" ", "")
        assert "autoescape" not in text
        assert "<script" not in text
