"""A new edition of a lesson takes over what a learner did in the old one: answers, guesses, cells of their own, and changes
to cells that are the same in both editions.

Nothing here reads or writes files. What has no place in the new edition is counted; the whole old copy is kept elsewhere.
"""

from __future__ import annotations

import ast
import copy
import re
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

from course_utils.errors import BLANK
from course_utils.grader.intake.notebook import Cell, normal, read_cell
from course_utils.tools.copies import Notebook, mark_of, marks, source_of, with_marks

OF_A_LESSON = re.compile(r"\d\d_\w+-\d+|(?:exercise|check)-\d\d-\d+|install")  # ids that the builder gives
HEADING = re.compile(r"# Exercise \S+[^\n]*\n")
AT_THE_END = "## Cells of yours\n\nThe cells that they followed are not in this edition of the lesson."


@dataclass
class Mine:
    """A cell of the old copy, and what became of it."""

    cell: dict[str, Any]
    look: Cell
    key: str  # the mark of the shipped cell that it was, else its own
    added: bool  # by the learner
    changed: bool  # by the learner, or nobody knows
    kept: bool = False

    @property
    def is_answer(self) -> bool:
        """Whether it is an exercise cell that is not blank."""
        return self.changed and self.look.is_code and any(name.startswith("exercise") for name in self.look.names)


@dataclass
class Renewal:
    """The new copy, and how many answers, guesses, own and changed cells are in it; `left` cells that differ have no place."""

    notebook: Notebook
    kept: Counter[str] = field(default_factory=Counter)
    left: int = 0

    def __str__(self) -> str:
        words = {"answer": "answers", "guess": "guesses", "cell of yours": "cells of yours", "changed cell": "changed cells"}
        counts = [f"{self.kept[one]} {one if self.kept[one] == 1 else many}" for one, many in words.items() if self.kept[one]]
        text = f"kept: {', '.join(counts)}" if counts else "nothing of yours to carry over"
        left = f"{self.left} {'cell that differs has' if self.left == 1 else 'cells that differ have'} no place in it"
        return f"{text}; {left}" if self.left else text


def renew(old: Notebook, new: Notebook) -> Renewal:
    """The edition `new` of a lesson with what the learner did in `old`, a copy of another edition.

    Raises:
        ValueError: if a cell of `old` is too large to be read.
    """
    result = Renewal(with_marks(new, new))
    mine, cells = entries(old, new), result.notebook["cells"]
    partners = aligned(mine, cells)
    behind: dict[int, list[Mine]] = {}  # by place in the new edition, what comes after it
    put_answers(mine, cells, partners, behind, result.kept)
    put_guesses(mine, cells, partners, result.kept)
    put_changes(mine, cells, [mark_of(cell) for cell in new["cells"]], partners, result.kept)
    place_added(mine, partners, behind, len(cells))
    result.notebook["cells"] = woven(cells, behind, result.kept)
    result.left = sum(one.changed and not one.kept for one in mine)
    return result


# ----------------------------------------------------------------------------------------------- what the learner did


def entries(old: Notebook, new: Notebook) -> list[Mine]:
    """Each cell of `old`: is it the learner's own, and did they change it?"""
    shipped, seen = marks(old), set()
    current = {mark_of(cell) for cell in new["cells"]}
    blanks = {normal(source_of(cell)) for cell in new["cells"]}
    ids = {cell.get("id") for cell in old["cells"]}
    lost = {mark for id, mark in (shipped or {}).items() if id not in ids}  # of cells whose id an editor has taken away
    found = []
    for cell in old["cells"]:
        id, mark, look = cell.get("id"), mark_of(cell), read_cell(cell)
        if shipped is None:  # the edition is not known: only what is in the new one too is surely as it was
            added = id is not None and (id in seen or not OF_A_LESSON.fullmatch(id)) and mark not in current
            blank = "exercise" in look.names and (BLANK in look.source or look.plain in blanks)
            changed, key = mark not in current and not blank, mark
        else:
            added = (id not in shipped or id in seen) and mark not in lost
            changed, key = added or (mark not in lost and mark != shipped[id]), mark if added or mark in lost else shipped[id]
        seen.add(id)
        found.append(Mine(cell, look, key, added, changed and bool(look.source.strip())))
    return found


def aligned(mine: list[Mine], cells: list[dict[str, Any]]) -> dict[int, int]:
    """By place in the old copy the place in the new edition, for cells that both editions have, in the order of both."""
    matcher = SequenceMatcher(None, [one.key for one in mine], [mark_of(cell) for cell in cells], autojunk=False)
    titles = {0: 0} if mine and cells and mine[0].look.source.startswith("# ") else {}  # its links change most often
    return titles | {
        block.a + step: block.b + step
        for block in matcher.get_matching_blocks()
        for step in range(block.size)
        if not mine[block.a + step].added
    }


# --------------------------------------------------------------------------------------------------- putting it in


def put_answers(
    mine: list[Mine],
    cells: list[dict[str, Any]],
    partners: dict[int, int],
    behind: dict[int, list[Mine]],
    kept: Counter[str],
) -> None:
    """Put the learner's answers into the exercise cells: by the name of the function, else by the id of the exercise."""
    looks = {place: read_cell(cell) for place, cell in enumerate(cells) if "exercise" in cell["metadata"].get("tags", [])}
    functions = {name for look in looks.values() for name in look.functions}
    for place, look in looks.items():
        answers = [one for one in mine if one.is_answer]
        named = [one for one in answers if one.look.functions & look.functions]
        ids = look.names - {"exercise"}
        others = [one for one in answers if one.look.names & ids and not one.look.functions & functions]
        if not named and not others:
            continue
        answer = (named or others)[-1]
        if named or not answer.look.functions:
            cells[place]["source"] = renumbered(source_of(answer.cell), source_of(cells[place]))
        else:  # its function has another name now: the answer stands below the blank one
            behind.setdefault(place, []).append(answer)
            answer.added = True
        answer.kept = True
        partners[mine.index(answer)] = place
        kept["answer"] += 1


def renumbered(answer: str, blank: str) -> str:
    """`answer` under the first line of `blank`, where both begin by naming their exercise."""
    old, new = HEADING.match(answer), HEADING.match(blank)
    return new[0] + answer[old.end() :] if old and new else answer


@dataclass(frozen=True)
class Guess:
    """`guess_x = value  # comment` in a cell: where it stands, and its parts."""

    names: str
    value: str
    first: int  # lines, from 0
    last: int
    comment: str
    open: bool  # nothing but None is on its right


def guesses(source: str) -> Iterator[Guess]:
    """The guesses in the text of a cell; none if it is no Python."""
    try:
        statements = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    lines = source.split("\n")
    for one in statements:
        if isinstance(one, ast.Assign) and re.match(r"\(?guess", ast.unparse(one.targets[0])):
            value = ast.get_source_segment(source, one.value) or ""
            rest = lines[one.end_lineno - 1].encode()[one.end_col_offset :].decode()  # type: ignore[operator]
            comment = rest if rest.lstrip().startswith("#") else ""
            names = ast.unparse(one.targets[0]).strip("()")
            yield Guess(names, value, one.lineno - 1, one.end_lineno - 1, comment, is_open(one.value))  # type: ignore[operator]


def is_open(value: ast.expr) -> bool:
    """Whether it is None, or a tuple or dictionary of nothing else."""
    parts = value.elts if isinstance(value, ast.Tuple) else value.values if isinstance(value, ast.Dict) else [value]
    return all(isinstance(part, ast.Constant) and part.value is None for part in parts)


def put_guesses(mine: list[Mine], cells: list[dict[str, Any]], partners: dict[int, int], kept: Counter[str]) -> None:
    """Put the learner's guesses into the lines of that name: in the same cell, else where the order of the names says so."""
    theirs = [
        (place, guess)
        for place, one in enumerate(mine)
        if one.look.is_code and not one.is_answer and not one.added
        for guess in guesses(source_of(one.cell))
    ]
    asked = [(place, guess) for place, cell in enumerate(cells) for guess in guesses(source_of(cell)) if guess.open]
    pairs = pair_guesses(theirs, asked, partners)
    for (there, guess), (here, question) in sorted(pairs, key=lambda pair: -pair[1][1].first):  # from below: lines stay
        if not guess.open:
            lines = source_of(cells[here]).split("\n")
            filled = f"{question.names} = {guess.value}{question.comment}"
            cells[here]["source"] = "\n".join([*lines[: question.first], filled, *lines[question.last + 1 :]])
            kept["guess"] += 1
            partners[there] = here
    for (there, guess), (here, _) in pairs:
        if not guess.open and source_of(cells[here]) == source_of(mine[there].cell):
            mine[there].kept = True


def pair_guesses(theirs: list[Any], asked: list[Any], partners: dict[int, int]) -> list[tuple[Any, Any]]:
    """Which guess of the learner answers which question."""
    pairs = []
    for one in list(theirs):
        same = [two for two in asked if two[0] == partners.get(one[0]) and two[1].names == one[1].names]
        if same:
            pairs.append((one, same[0]))
            theirs.remove(one)
            asked.remove(same[0])
    for names in dict.fromkeys(guess.names for _, guess in asked):
        left = [one for one in theirs if one[1].names == names]
        right = [two for two in asked if two[1].names == names]
        if len(left) == len(right):  # else nobody can tell which is which
            pairs += list(zip(left, right, strict=True))
    return pairs


def put_changes(
    mine: list[Mine], cells: list[dict[str, Any]], shipped: list[str], partners: dict[int, int], kept: Counter[str]
) -> None:
    """Put a cell that the learner changed in the place of one that was the same in both editions, which `shipped` marks."""
    for there, one in enumerate(mine):
        here = partners.get(there, -1)
        if one.changed and not (one.added or one.kept) and here >= 0 and shipped[here] == one.key:
            cell = cells[here]
            if one.cell.get("cell_type") == cell["cell_type"]:
                kept["changed cell"] += mark_of(cell) == one.key  # else its guess is in already, and was counted
                cell |= {key: copy.deepcopy(one.cell[key]) for key in ("source", "attachments") if key in one.cell}
                one.kept = True


def place_added(mine: list[Mine], partners: dict[int, int], behind: dict[int, list[Mine]], end: int) -> None:
    """Where the learner's own cells go: after the last cell above them that is in the new edition, else to the end."""
    place = -1
    for number, one in enumerate(mine):
        if number in partners:
            place = partners[number]
        elif not one.added and place == -1:
            place = end
        if one.added and not one.kept:
            behind.setdefault(place, []).append(one)
            one.kept = True


def woven(cells: list[dict[str, Any]], behind: dict[int, list[Mine]], kept: Counter[str]) -> list[dict[str, Any]]:
    """The cells of the new edition with those of the learner between them; no id twice."""
    taken = {cell["id"] for cell in cells}

    def own(place: int) -> Iterator[dict[str, Any]]:
        for one in behind.get(place, ()):
            kept["cell of yours"] += not one.is_answer
            cell = copy.deepcopy(one.cell)
            if cell.get("id") in taken or not cell.get("id"):
                cell["id"] = uuid.uuid4().hex[:8]
            taken.add(cell["id"])
            yield cell

    result = list(own(-1))
    for place, cell in enumerate(cells):
        result += [cell, *own(place)]
    if last := list(own(len(cells))):
        result += [{"cell_type": "markdown", "id": "cells-of-yours", "metadata": {}, "source": AT_THE_END}, *last]
    return result
