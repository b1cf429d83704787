"""Notebooks to test with: the lessons, with other answers in them."""

from __future__ import annotations

import json
import os
from pathlib import Path

from answers import Answer, right, wrong

from course_utils.checks import lesson_module
from course_utils.grader.sandbox import process
from course_utils.profiles import HOME


def notebook(lesson: str, cells: dict[str, str], folder: str = "notebooks") -> bytes:
    """The lesson with these texts in the cells of these exercises."""
    (path,) = (HOME / folder).glob(f"{lesson}_*.ipynb")
    content = json.loads(path.read_text(encoding="utf-8"))
    for cell in content["cells"]:
        id = cell["id"].removeprefix("exercise-").replace("-", ".")
        if cell["id"].startswith("exercise-") and id in cells:
            cell["source"] = cells[id]
    return json.dumps(content).encode()


def shipped(lesson: str) -> list[dict[str, Answer]]:
    """Notebooks made of the answers that the checks are tried with, one of each exercise in each."""
    found: list[dict[str, Answer]] = []
    for check in lesson_module(lesson).CHECKS:
        usable = [answer for answer in (*wrong(check.id), *right(check.id)) if answer.cell]
        for number, answer in enumerate(usable):
            found += [{}] if number == len(found) else []
            found[number][check.id] = answer
    return found


def states(report: dict) -> dict[str, str]:
    return {exercise["id"]: exercise["state"] for exercise in report["exercises"]}


def processes(*words: str) -> list[int]:
    """The processes below this one whose command line has one of these words."""
    found = []
    for one in process.descendants(os.getpid()):
        try:
            command = Path(f"/proc/{one}/cmdline").read_text()
        except OSError:  # it has ended
            continue
        found += [one] if any(word in command for word in words) else []
    return found
