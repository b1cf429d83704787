"""From the bytes of a notebook to its cells; nothing is run, and whatever cannot be read is refused with a reason."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from course_utils.grader.intake.archive import BRACKETS, CELL_CHARACTERS, CELLS, DEPTH, Refused, printable


@dataclass(frozen=True)
class Cell:
    """A cell of any notebook: its text, and what it says of itself."""

    kind: str
    source: str
    names: frozenset[str]  # cell id, nbgrader's id, tags

    def defines(self, function: str) -> bool:
        return re.search(rf"^(async )?def {function}\b", self.source, re.MULTILINE) is not None

    def is_for(self, id: str) -> bool:
        """Whether the cell says that it holds the answer of exercise `id`."""
        says = cell_name("exercise", id) in self.names or re.match(rf"\s*# Exercise {re.escape(id)}\b", self.source)
        return bool(says) and (self.kind == "code" or "def " in self.source)


def cell_name(kind: str, id: str) -> str:
    return f"{kind}-{id.replace('.', '-')}"


def cells_of(blob: bytes) -> list[Cell]:
    """The cells of the notebook `blob`; any way in which it can be unreadable is `Refused`."""
    try:
        text = blob.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Refused("it is not UTF-8 text, so it is no notebook; hand in the .ipynb file that Jupyter saved") from None
    refuse_nesting(text)
    try:
        notebook = json.loads(text, object_pairs_hook=once, parse_constant=no_number)
    except Refused:
        raise
    except (ValueError, RecursionError):
        raise Refused("it is no JSON, so it is no notebook; hand in the .ipynb file that Jupyter saved") from None
    cells = notebook.get("cells") if isinstance(notebook, dict) and notebook.get("nbformat") == 4 else None
    if not isinstance(cells, list):
        raise Refused("it is no notebook of format 4; open it in Jupyter and save it")
    if len(cells) > CELLS:
        raise Refused(f"it has {len(cells)} cells; at most {CELLS} are read")
    return [read_cell(cell) for cell in cells]


def refuse_nesting(text: str) -> None:
    """Refuse brackets too deep or too many before the parser meets them."""
    depth = deepest = count = 0
    for found in re.finditer(r'"(?:[^"\\]++|\\.)*+"|[\[{]|[\]}]', text, re.DOTALL):
        if found[0] in "[{":
            depth, count = depth + 1, count + 1
            deepest = max(deepest, depth)
        elif found[0] in "]}":
            depth -= 1
        if deepest > DEPTH or count > BRACKETS:
            raise Refused("it is nested too deeply or has too many parts for a notebook; clear its outputs and save it again")


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Refused("it names one thing twice, which Jupyter never writes; open it in Jupyter and save it")
    return found


def no_number(_: str) -> None:
    raise Refused("it holds a number that JSON does not have; open it in Jupyter and save it")


def read_cell(cell: Any) -> Cell:
    source = cell.get("source", "") if isinstance(cell, dict) else None
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        source = "".join(source)
    if not isinstance(source, str):
        raise Refused("it has a cell without text; open it in Jupyter and save it")
    if len(source) > CELL_CHARACTERS:
        raise Refused(f"it has a cell of {len(source)} characters; at most {CELL_CHARACTERS} are read")
    metadata = cell["metadata"] if isinstance(cell.get("metadata"), dict) else {}
    nbgrader = metadata["nbgrader"] if isinstance(metadata.get("nbgrader"), dict) else {}
    tags = metadata["tags"] if isinstance(metadata.get("tags"), list) else []
    names = {name for name in (cell.get("id"), nbgrader.get("grade_id"), *tags) if isinstance(name, str)}
    return Cell(str(cell.get("cell_type", "")), without_cell_magics(printable(source)), frozenset(names))


def without_cell_magics(source: str) -> str:
    """`source` without the magics at its top that only time or silence a cell; its lines keep their numbers."""
    magics = re.match(r"(?:\s*%%(?:time|timeit|capture)\b[^\r\n]*)+", source)
    return re.sub(r"[^\r\n]", "", magics[0]) + source[magics.end() :] if magics else source
