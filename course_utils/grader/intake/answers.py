"""From cells to the text of each answer."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache, cached_property

from course_utils.checks import all_checks
from course_utils.grader.intake.archive import Refused
from course_utils.grader.intake.notebook import Cell, cell_name, cells_of, normal
from course_utils.profiles import HOME

LINES, LINE = 10_000, 500  # of a notebook and their characters, when names are looked for


@dataclass(frozen=True)
class Submission:
    """What is used of a notebook: its lesson, the text of each answer that was begun, and remarks in our own words."""

    answers: dict[str, str]
    flags: tuple[str, ...] = ()
    lesson: str = ""
    code: str = ""  # of all code cells

    @cached_property
    def names(self) -> set[str]:
        """What the notebook imports, defines or assigns anywhere."""
        return names_made(self.code)

    def makes_elsewhere(self, name: str, id: str) -> bool:
        """Whether a cell makes `name`, and the answer to exercise `id` does not."""
        return name in self.names and name not in names_made(self.answers[id])


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
            if source:
                answers[id] = source
    others = sorted({id[:2] for id in all_checks() if id[:2] != lesson and begun(cells, id)})
    flags += [f"answers of lesson {other} were not marked; hand in one notebook for each lesson" for other in others]
    return Submission(answers, tuple(flags), lesson, "\n".join(cell.source for cell in cells if cell.is_code))


def lesson_of(cells: list[Cell]) -> str:
    """The lesson most of whose exercises are there, by what cells say of themselves or else by the functions they define."""
    for belongs in (lambda cell, id, check: cell.is_for(id), lambda cell, id, check: check.answer in cell.functions):
        found = [id[:2] for id, check in all_checks().items() if any(belongs(cell, id, check) for cell in cells)]
        if found:
            return max(sorted(set(found)), key=found.count)
    raise Refused("it holds no exercise of this course; hand in the notebook of the lesson")


def begun(cells: list[Cell], id: str) -> list[Cell]:
    """The cells that say they are exercise `id`, and are not blank."""
    return [cell for cell in cells if cell.is_for(id) and cell.plain not in ("", blank("exercise", id))]


def answer_in(cells: list[Cell], id: str, function: str) -> tuple[str, list[str]]:
    """The text that counts as the answer of exercise `id`, and remarks on how it was found.

    Of several cells that say they are the exercise, the last that is not blank counts. Where none of them defines the
    function, the last cell that does comes along, whatever it says of itself.
    """
    mine = begun(cells, id)
    whole = [cell for cell in mine if function in cell.functions]
    remarks = [] if any(cell.is_for(id) for cell in cells) else ["there is no cell of this exercise"]
    if len(mine) > 1:
        remarks.append(f"{len(mine)} cells say that they are this exercise; the last one counts")
    if any(cell_name("check", id) in cell.names and cell.plain != blank("check", id) for cell in cells):
        remarks.append("its check cell was changed; it is not used here")
    used = whole[-1:] or mine[-1:]
    elsewhere = [cell for cell in cells if function in cell.functions and not cell.is_for(id)]
    if elsewhere and not whole:
        remarks.append(f"`{function}` was found in another cell")
        used += [cell for cell in elsewhere[-1:] if cell.plain != blank("exercise", id)]
    return "\n\n".join(cell.source for cell in used), remarks


@cache
def blank(kind: str, id: str) -> str:
    """The text of a cell of the learners' notebooks, as it is compared with; "" if it is not there."""
    return normal(blank_cells().get(cell_name(kind, id), ""))


@cache
def blank_cells() -> dict[str, str]:
    """The text of each cell of the learners' notebooks, by its id."""
    notebooks = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((HOME / "notebooks").glob("[0-9]*.ipynb"))]
    return {cell["id"]: "".join(cell["source"]) for notebook in notebooks for cell in notebook["cells"]}


def names_made(source: str) -> set[str]:
    """The names that code imports, defines or assigns, read line by line: nothing is run, no parser meets hostile text."""
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
            targets = re.match(r"(\*?\w++(?:\s*+,\s*+\*?\w++)*+)\s*+(?::[^=]*+)?+=(?!=)", line)
            found |= set(re.findall(r"\w+", targets[1])) if targets else set()
    return found
