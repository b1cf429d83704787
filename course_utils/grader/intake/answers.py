"""From cells to the text of each answer."""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass
from functools import cache

from course_utils.checks import all_checks
from course_utils.grader.intake.archive import Refused
from course_utils.grader.intake.notebook import Cell, cell_name, cells_of
from course_utils.profiles import HOME

LINES, LINE = 300, 500  # of a cell and their characters, when names are looked for


@dataclass(frozen=True)
class Submission:
    """What is used of a notebook: its lesson, the text of each answer that was begun, and remarks in our own words."""

    answers: dict[str, str]
    flags: tuple[str, ...] = ()
    lesson: str = ""
    cells: tuple[str, ...] = ()  # the texts of all code cells

    def makes_elsewhere(self, name: str, id: str) -> bool:
        """Whether a cell that is no part of the answer to exercise `id` makes `name`."""
        return any(name in text and text not in self.answers[id] and name in names_made(text) for text in self.cells)


def read_answers(blob: bytes) -> Submission:
    """The answers in the notebook `blob` that differ from the blank exercise.

    Raises:
        Refused: if it cannot be read, or holds no exercise of the course.
    """
    cells = cells_of(blob)
    lesson = lesson_of(cells)
    answers, flags = {}, []
    for id, check in all_checks().items():
        if id.startswith(f"{lesson}."):
            source, remarks = answer_in(cells, id, check.answer)
            flags += [f"{id}: {remark}" for remark in remarks]
            if normal(source) not in ("", normal(blank_cells()[cell_name("exercise", id)])):
                answers[id] = source
    return Submission(answers, tuple(flags), lesson, tuple(cell.source for cell in cells if cell.kind == "code"))


def lesson_of(cells: list[Cell]) -> str:
    """The lesson most of whose exercises are there, by what cells say of themselves or else by the functions they define."""
    for belongs in (lambda cell, id, check: cell.is_for(id), lambda cell, id, check: cell.defines(check.answer)):
        found = [id[:2] for id, check in all_checks().items() if any(belongs(cell, id, check) for cell in cells)]
        if found:
            return max(sorted(set(found)), key=found.count)
    raise Refused("it holds no exercise of this course; hand in the notebook of the lesson")


def answer_in(cells: list[Cell], id: str, function: str) -> tuple[str, list[str]]:
    """The text that counts as the answer of exercise `id`, and remarks on how it was found.

    Of several cells that say they are the exercise, the last that is not blank counts. Where none of them defines the
    function, the last cell that does comes along, whatever it says of itself.
    """
    stub = normal(blank_cells()[cell_name("exercise", id)])
    named = [cell for cell in cells if cell.is_for(id)]
    begun = [cell for cell in named if normal(cell.source) not in ("", stub)]
    elsewhere = [cell for cell in cells if cell.defines(function) and cell not in named]
    whole = [cell for cell in begun if cell.defines(function)]
    remarks = ["there is no cell of this exercise"] if not named else []
    if len(begun) > 1:
        remarks.append(f"{len(begun)} cells say that they are this exercise; the last one counts")
    if any(cell_name("check", id) in cell.names and normal(cell.source) != check_text(id) for cell in cells):
        remarks.append("its check cell was changed; it is not used here")
    if whole:
        return whole[-1].source, remarks
    if not elsewhere:
        return (begun[-1].source if begun else ""), remarks
    remarks.append(f"`{function}` was found in another cell")
    return "\n\n".join(cell.source for cell in (*begun[-1:], elsewhere[-1])), remarks


def normal(source: str) -> str:
    """`source` without its first comment, and what an editor changes: line ends, blanks at them, forms of one letter."""
    lines = unicodedata.normalize("NFC", source).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return re.sub(r"^# Exercise .*\n?", "", "\n".join(line.rstrip() for line in lines).strip("\n"))


def check_text(id: str) -> str:
    return normal(blank_cells().get(cell_name("check", id), ""))


@cache
def blank_cells() -> dict[str, str]:
    """The text of each cell of the learners' notebooks, by its id."""
    notebooks = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((HOME / "notebooks").glob("[0-9]*.ipynb"))]
    return {cell["id"]: "".join(cell["source"]) for notebook in notebooks for cell in notebook["cells"]}


def names_made(source: str) -> set[str]:
    """The names that a cell imports, defines or assigns, read line by line: nothing is run, no parser meets hostile text."""
    found, importing = set(), False
    for line in source.splitlines()[:LINES]:
        line = line[:LINE].partition("#")[0].strip()
        start = re.match(r"(?:from\s+[\w.]+\s+)?import\b", line)
        if start or importing:
            line = line[start.end() :] if start else line
            importing = (importing or "(" in line) and ")" not in line
            found |= {part.split()[-1].partition(".")[0] for part in line.strip("() ").split(",") if part.strip()}
        else:
            found |= set(re.findall(r"(?:\bdef|\bclass|\bas|^for)\s+(\w+)", line))
            targets = re.match(r"(\*?\w+(?:\s*,\s*\*?\w+)*)\s*(?::[^=]*)?=(?!=)", line)
            found |= set(re.findall(r"\w+", targets[1])) if targets else set()
    return found
