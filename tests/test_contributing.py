"""The worked example of CONTRIBUTING.md builds, is checked, and tells its wrong answers from its right ones."""

import re

import pytest

from course_utils import checks
from course_utils.profiles import HOME
from course_utils.tools.authoring import blank, read_source


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """The two files of the example, written to where their first lines say."""
    home = tmp_path_factory.mktemp("example")
    text = (HOME / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for name, content in re.findall(r"^```python\n# (\S+\.py)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(content, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "__path__", [*checks.__path__, str(home / "course_utils" / "checks")])
        yield home


def verdicts(notebook, capsys) -> list[str]:
    """What the notebook prints when its code cells are run in order."""
    names: dict = {}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            exec(cell.source, names)
    return capsys.readouterr().out.splitlines()


def test_with_its_answer_it_passes_and_without_it_is_to_do(example, capsys):
    notebook = read_source(example / "solutions" / "90_count_hits.py")
    assert verdicts(notebook, capsys)[0] == "Exercise 90.1: passed"
    learners = blank(notebook, "90_count_hits")
    assert verdicts(learners, capsys)[0] == "Exercise 90.1: to do"
    assert "argmax" not in "".join(cell.source for cell in learners.cells)


def test_its_wrong_and_right_answers(example):
    module = checks.lesson_module("90")
    (check,) = module.CHECKS
    for answer, words in module.WRONG["90.1"]:
        verdict, why = checks.verdict_of(check, answer)
        assert verdict == "not yet", answer.__name__
        assert words in why
    for answer in module.RIGHT["90.1"]:
        assert checks.verdict_of(check, answer) == ("passed", "")
