"""From the bytes of a notebook to its cells, in a time that grows with their number only; nothing is run.

Whatever cannot be read is refused with a reason. Each cell is looked at once, here, and never searched again.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from course_utils.grader.intake.archive import MB, Refused, printable

CELLS, CELL_CHARACTERS, BRACKETS = 2000, MB, 200_000


@dataclass(frozen=True)
class Cell:
    """A cell of any notebook: its text, and what is asked about it."""

    is_code: bool
    source: str
    plain: str  # the source as `normal` has it
    names: frozenset[str]  # cell id, nbgrader's id, tags, and the exercise that its first line names
    functions: frozenset[str]  # what it defines at its margin

    def is_for(self, id: str) -> bool:
        """Whether the cell says that it holds the answer of exercise `id`."""
        return cell_name("exercise", id) in self.names and (self.is_code or "def " in self.source)


def cell_name(kind: str, id: str) -> str:
    return f"{kind}-{id.replace('.', '-')}"


def cells_of(blob: bytes) -> list[Cell]:
    """The cells of the notebook `blob`; any way in which it can be unreadable is `Refused`."""
    try:
        text = blob.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Refused("it is not UTF-8 text, so it is no notebook; hand in the .ipynb file that Jupyter saved") from None
    if text.count("[") + text.count("{") > BRACKETS:
        raise Refused("it has too many parts for a notebook; clear its outputs and save it again")
    try:  # of all numbers only the format's counts; float() takes linear time, int() does not
        notebook = json.loads(text, object_pairs_hook=once, parse_int=float)
    except Refused:
        raise
    except (ValueError, RecursionError):
        raise Refused(
            "it is no JSON, or far too deep, so it is no notebook; hand in the .ipynb file that Jupyter saved"
        ) from None
    cells = notebook.get("cells") if isinstance(notebook, dict) and notebook.get("nbformat") == 4 else None
    if not isinstance(cells, list):
        raise Refused("it is no notebook of format 4; open it in Jupyter and save it")
    if len(cells) > CELLS:
        raise Refused(f"it has {len(cells)} cells; at most {CELLS} are read")
    return [read_cell(cell) for cell in cells]


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Refused("it names one thing twice, which Jupyter never writes; open it in Jupyter and save it")
    return found


def read_cell(cell: Any) -> Cell:
    source = cell.get("source", "") if isinstance(cell, dict) else None
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        source = "".join(source)
    if not isinstance(source, str):
        raise Refused("it has a cell without text; open it in Jupyter and save it")
    if len(source) > CELL_CHARACTERS:
        raise Refused(f"it has a cell of {len(source)} characters; at most {CELL_CHARACTERS} are read")
    source = without_cell_magics(printable(source))
    metadata = cell["metadata"] if isinstance(cell.get("metadata"), dict) else {}
    nbgrader = metadata["nbgrader"] if isinstance(metadata.get("nbgrader"), dict) else {}
    tags = metadata["tags"] if isinstance(metadata.get("tags"), list) else []
    names = {name for name in (cell.get("id"), nbgrader.get("grade_id"), *tags) if isinstance(name, str)}
    if heading := re.match(r"\s*# Exercise (\d+\.\d+)\b", source):
        names.add(cell_name("exercise", heading[1]))
    functions = {found[1] for found in re.finditer(r"^(?:async )?def (\w+)", source, re.MULTILINE)}
    return Cell(cell.get("cell_type") == "code", source, normal(source), frozenset(names), frozenset(functions))


def without_cell_magics(source: str) -> str:
    """`source` without the magics at its top that only time or silence a cell; its lines keep their numbers."""
    magics = re.match(r"(?:\s*%%(?:time|timeit|capture)\b[^\r\n]*)+", source)
    return re.sub(r"[^\r\n]", "", magics[0]) + source[magics.end() :] if magics else source


def normal(source: str) -> str:
    """`source` without its first comment and what an editor changes: line ends, and blanks at them."""
    lines = source.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return re.sub(r"^# Exercise .*\n?", "", "\n".join(line.rstrip() for line in lines).strip("\n"))
