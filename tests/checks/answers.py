"""The answers that the checks are tried with: the solutions, the same with one edit, and others written out.

`answers_NN.py` has, for each exercise of lesson NN,

    WRONG = {"NN.1": [(old, new, words), (function, words)]}     an edit of the solution, or a function of that file
    RIGHT = {"NN.1": [(old, new), function]}                     other answers that have to pass
    EQUIVALENT = {"NN.1": {"a line as the mutant has it": "why that changes nothing that anybody can see"}}
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat

from course_utils.checks import all_checks, lesson_module, lessons
from course_utils.profiles import HOME
from course_utils.tools.authoring import blank, read_source

SOURCES = {path.stem[:2]: path for path in sorted((HOME / "solutions").glob("[0-9][0-9]_*.py"))}
LESSONS = [lesson for lesson in lessons() if lesson in SOURCES]
CHECKS = {id: one for id, one in all_checks().items() if id[:2] in LESSONS}


@dataclass(frozen=True)
class Answer:
    """One answer to an exercise: its cell, and a part of the words that it gets ("" if it is right)."""

    id: str
    name: str
    cell: str
    words: str = ""
    written: Any = None  # the function itself, if it is not made from the cell

    @property
    def function(self) -> Any:
        return self.written if self.written is not None else run(self.id, self.cell)

    def __str__(self) -> str:
        return f"{self.id} {self.name}"


@cache
def source_of(lesson: str) -> nbformat.NotebookNode:
    return read_source(SOURCES[lesson])


@cache
def cell_of(id: str, *, blanked: bool = False) -> str:
    """The text of the exercise cell as the solution has it, or as the learner finds it."""
    lesson = id.partition(".")[0]
    notebook = blank(source_of(lesson), lesson) if blanked else source_of(lesson)
    return next(cell.source for cell in notebook.cells if cell.id == f"exercise-{id.replace('.', '-')}")


def run(id: str, cell: str) -> Callable:
    """The function of the exercise that `cell` defines, in a kernel that has run nothing but the lesson's imports."""
    setup = next(cell for cell in source_of(id.partition(".")[0]).cells if "setup" in cell.metadata.get("tags", []))
    imports = [node for node in ast.parse(setup.source).body if isinstance(node, (ast.Import, ast.ImportFrom))]
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(ast.Module(imports, []), "setup", "exec"), space)
    exec(compile(cell, "<exercise>", "exec"), space)
    return space[CHECKS[id].answer]


def answer_of(id: str, *, blanked: bool = False) -> Callable:
    """The function of exercise `id` as the notebook has it."""
    return run(id, cell_of(id, blanked=blanked))


@cache
def answers_module(lesson: str) -> ModuleType:
    path = Path(__file__).with_name(f"answers_{lesson}.py")
    if not path.exists():
        return lesson_module(lesson)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def wrong(id: str) -> list[Answer]:
    return [made(id, *entry) for entry in answers_module(id[:2]).WRONG[id]]


def right(id: str) -> list[Answer]:
    return [made(id, *(entry if isinstance(entry, tuple) else (entry,)), "") for entry in answers_module(id[:2]).RIGHT[id]]


def equivalent(id: str) -> dict[str, str]:
    """By a line of the mutant, why a mutant of the solution that passes does no harm."""
    return getattr(answers_module(id[:2]), "EQUIVALENT", {}).get(id, {})


def made(id: str, *entry: Any) -> Answer:
    *change, words = entry
    if len(change) == 2:
        old, new = change
        return Answer(id, f"{old!r} is {new!r}", edited(id, old, new), words)
    (function,) = change
    name, module = getattr(function, "__name__", repr(function)), answers_module(id[:2])
    text = inspect.getsource(module) if hasattr(module, name) else ""
    cell = f"{text.replace('from __future__ import annotations', '')}\n\n\n{CHECKS[id].answer} = {name}\n"
    return Answer(id, name, cell if text else "", words, function)


def edited(id: str, old: str, new: str) -> str:
    """The solution's cell with one piece of its text replaced."""
    cell = cell_of(id)
    assert cell.count(old) == 1, f"{old!r} stands {cell.count(old)} times in the solution of {id}; an edit replaces one"
    return cell.replace(old, new)
