"""The worked example of CONTRIBUTING.md builds, is checked, and tells its wrong answers from its right ones."""

import importlib.util
import re
import sys

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


def test_its_wrong_and_right_answers(example, monkeypatch):
    answers = load("answers", HOME / "tests" / "checks" / "answers.py")
    monkeypatch.setattr(answers, "__file__", str(example / "tests" / "checks" / "answers.py"))
    monkeypatch.setitem(answers.SOURCES, "90", example / "solutions" / "90_count_hits.py")
    (check,) = checks.lesson_module("90").CHECKS
    monkeypatch.setitem(answers.CHECKS, "90.1", check)
    for answer in answers.wrong("90.1"):
        verdict, why = checks.verdict_of(check, answer.function)
        assert verdict == "not yet", answer
        assert answer.words in why
    for answer in answers.right("90.1"):
        assert checks.verdict_of(check, answer.function) == ("passed", ""), answer
    mutants = load("mutants", HOME / "tests" / "checks" / "mutants.py").mutants(answers.cell_of("90.1"))
    passed = [line for line, text in mutants if verdict_on(check, answers, text) == "passed"]
    assert set(passed) == answers.equivalent("90.1").keys()


def load(name: str, path):
    spec = importlib.util.spec_from_file_location(f"contributing_{name}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def verdict_on(check, answers, text: str) -> str:
    try:
        return checks.verdict_of(check, answers.run("90.1", text))[0]
    except Exception as error:  # the cell itself stops
        return type(error).__name__
