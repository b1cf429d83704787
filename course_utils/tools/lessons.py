"""Where lessons lie, which of them are meant, and what their exercises are called; without torch, so that it is quick."""

from __future__ import annotations

import ast
import difflib
import json
import re
from pathlib import Path

from course_utils.profiles import HOME, WORK, restored

NOTEBOOKS, SOLUTIONS = HOME / "notebooks", HOME / "solutions"
BUILD = WORK / "build"
MY = WORK / "my"  # the learner's own copies
CHECKS = Path(__file__).resolve().parent.parent / "checks"


def find_lessons(folder: Path, wanted: list[str], suffix: str = ".ipynb") -> list[Path]:
    """The lessons in `folder` whose name begins with one of `wanted` (3 is 03), or all.

    Raises:
        ValueError: if there is no such lesson.
    """
    found = sorted(folder.glob(f"[0-9][0-9]_*{suffix}"))
    if not found:
        raise ValueError(f"{folder} holds no lesson (NN_name{suffix}); {restored(folder.name)}")
    names = tuple(name.zfill(2) if name.isdigit() else name for name in wanted)
    for name in names:
        if not any(path.stem.startswith(name) for path in found):
            raise no_lesson(name, found)
    return [path for path in found if not names or path.stem.startswith(names)]


def no_lesson(name: str, found: list[Path]) -> ValueError:
    """The error for a lesson that is not there: the nearest name if one is near, and all lessons with their titles."""
    names = {part: path.stem for path in found for part in (path.stem, path.stem[3:])}
    near = [] if name.isdigit() else difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    hint = f" (did you mean {names[near[0]]}?)" if near else ""
    listed = "\n".join(f"  {path.stem[:2]}  {title_of(path)}" for path in found)
    return ValueError(f"no lesson {name}{hint}; there are\n{listed}")


def title_of(path: Path) -> str:
    """The title that the first cell of a lesson states, else the words of its file name."""
    try:
        first = json.loads(path.with_suffix(".ipynb").read_text(encoding="utf-8"))["cells"][0]
        return re.match(r"# (?:\d+\. )?(.*)", "".join(first["source"]))[1]  # type: ignore[index]
    except (OSError, ValueError, LookupError, TypeError):
        return path.stem[3:].replace("_", " ")


def exercise_titles() -> dict[str, str]:
    """The title of each exercise by id: what the checks in course_utils/checks say, which are read and not run.

    An exercise is set up as "03.1", "function", "title" and more; 00.0 is a warm-up and none.
    """
    found: dict[str, str] = {}
    for path in sorted(CHECKS.glob("lesson_[0-9]*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            parts = node.args if isinstance(node, ast.Call) else node.elts if isinstance(node, ast.Tuple) else []
            texts = [part.value for part in parts[:3] if isinstance(part, ast.Constant) and isinstance(part.value, str)]
            if len(texts) == 3 and re.fullmatch(r"\d\d\.[1-9]\d*", texts[0]):
                found[texts[0]] = texts[2]
    return dict(sorted(found.items()))
