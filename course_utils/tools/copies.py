"""The learner's own copies of the lessons, in `my/`: made from `notebooks/`, recognised, never overwritten here.

A copy keeps in its metadata a mark (a short hash) of each cell as it was shipped. So what the learner changed and added can
be told later, when the lesson has a new edition, without a second copy that somebody could delete.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from course_utils.errors import BLANK
from course_utils.files import write_atomic
from course_utils.profiles import restored
from course_utils.tools import lessons

Notebook = dict[str, Any]


# ------------------------------------------------------------------------------------------------ reading and marking


def parse(blob: bytes) -> Notebook:
    """The notebook in `blob`.

    Raises:
        ValueError: if it is none, or holds a cell that is none.
    """
    try:
        notebook = json.loads(blob.decode("utf-8-sig"))
    except RecursionError:
        raise ValueError("it is too deep for a notebook") from None
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list) or not isinstance(notebook.get("metadata"), dict) or not all(map(is_cell, cells)):
        raise ValueError("it is no notebook of format 4")
    return notebook


def is_cell(cell: Any) -> bool:
    lines = cell.get("source") if isinstance(cell, dict) else None
    text = isinstance(lines, str) or (isinstance(lines, list) and all(isinstance(line, str) for line in lines))
    return text and isinstance(cell.get("metadata", {}), dict) and isinstance(cell.get("id", ""), str)


def source_of(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def mark_of(cell: dict[str, Any]) -> str:
    """Changes when somebody changes what the cell says: its kind, its text, a picture pasted into it."""
    said = [cell.get("cell_type"), source_of(cell), cell.get("attachments") or None]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]


def edition(notebook: Notebook) -> Any:
    """What differs between editions of a lesson: the fingerprint of its source."""
    return notebook["metadata"].get("source")


def marks(notebook: Notebook) -> dict[str, str] | None:
    """The mark of each cell of the edition that the copy was made from, by cell id; None if that is not known."""
    course = notebook["metadata"].get("course")
    found = course.get("cells") if isinstance(course, dict) else None
    return found if isinstance(found, dict) else None


def with_marks(notebook: Notebook, shipped: Notebook) -> Notebook:
    """`notebook` as a copy that knows the cells of `shipped`, its edition; nothing of the sort if that was worked on."""
    result = copy.deepcopy(notebook)
    result["metadata"].pop("course", None)
    if not is_worked_on(shipped):
        result["metadata"]["course"] = {"cells": {cell["id"]: mark_of(cell) for cell in shipped["cells"]}}
    return result


def is_worked_on(notebook: Notebook) -> bool:
    """Whether a notebook that should be as shipped shows that somebody ran it or solved an exercise."""
    for cell in notebook["cells"]:
        solved = "exercise" in cell.get("metadata", {}).get("tags", []) and BLANK not in source_of(cell)
        if solved or cell.get("outputs") or cell.get("execution_count") or "id" not in cell:
            return True
    return False


def is_untouched(notebook: Notebook) -> bool:
    """Whether a copy is as it was made: the same cells in the same order, and nothing was run."""
    found = [(cell.get("id"), mark_of(cell)) for cell in notebook["cells"]]
    return found == list((marks(notebook) or {}).items()) and not any(cell.get("outputs") for cell in notebook["cells"])


def write(notebook: Notebook, path: Path) -> None:
    """Write the notebook whole or not at all."""
    write_atomic(path, json.dumps(notebook, indent=1, sort_keys=False, ensure_ascii=False) + "\n")


# ----------------------------------------------------------------------------------------------------------- in my/


def make_copies() -> list[str]:
    """Copy every lesson into my/ that is not there yet; the names of those that were copied."""
    made = []
    for path in lessons.find_lessons(lessons.NOTEBOOKS, []):
        target = lessons.MY / path.name
        if not target.exists():
            lessons.MY.mkdir(exist_ok=True)
            notebook = read_lesson(path)
            write(with_marks(notebook, as_shipped(path) or notebook), target)
            made.append(path.stem)
    return made


def read_lesson(path: Path) -> Notebook:
    """The lesson at `path` in notebooks/."""
    try:
        return parse(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} cannot be read ({error}); {restored('notebooks')}") from error


def as_shipped(path: Path) -> Notebook | None:
    """The lesson at `path` as the repository has it, where people worked in notebooks/ itself; None if git cannot say."""
    command = ["git", "-C", str(path.parent), "show", f"HEAD:./{path.name}"]
    try:
        return parse(subprocess.run(command, capture_output=True, check=True).stdout)
    except (OSError, ValueError, subprocess.CalledProcessError):
        return None


def copies() -> list[Path]:
    """The copies of lessons that are in my/."""
    return sorted(lessons.MY.glob("[0-9][0-9]_*.ipynb"))


def read_copy(path: Path) -> Notebook | None:
    """The copy at `path`; None if it cannot be read."""
    try:
        return parse(path.read_bytes())
    except (OSError, ValueError):
        return None


def older() -> list[str]:
    """The lessons of which my/ holds another edition than notebooks/."""
    found = []
    for path in copies():
        shipped, mine = read_copy(lessons.NOTEBOOKS / path.name), read_copy(path)
        if shipped and (not mine or edition(mine) != edition(shipped)):
            found.append(path.stem)
    return found


def worked_on() -> list[Path]:
    """The copies that are not as they were made, the last one last."""
    found = [path for path in copies() if not ((mine := read_copy(path)) and is_untouched(mine))]
    return sorted(found, key=lambda path: path.stat().st_mtime)


def replace_keeping_time(notebook: Notebook, path: Path) -> None:
    """Write a copy anew; it stays the lesson that was worked on when it was."""
    times = path.stat()
    write(notebook, path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
