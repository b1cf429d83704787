"""Right or wrong: `check("05.2", answer)` says at once whether an exercise is solved, and if not, what was measured."""

from __future__ import annotations

import pkgutil
import traceback
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import torch

from course_utils.checks.spec import Check, Result, Rng, failed, mismatch, passed, plain
from course_utils.errors import STUB, unknown
from course_utils.rng import preserve_rng_state, seed_all
from course_utils.verdict_log import progress_line, record, verdicts


def lessons() -> list[str]:
    """The lessons that have exercises: "00", "01", …"""
    return sorted(
        found.name.removeprefix("lesson_") for found in pkgutil.iter_modules(__path__) if found.name.startswith("lesson_")
    )


@cache
def lesson_module(lesson: str) -> ModuleType:
    return import_module(f"{__name__}.lesson_{lesson}")


def all_checks() -> dict[str, Check]:
    """Every check of the course by exercise id, in order."""
    return {check.id: check for lesson in lessons() for check in lesson_module(lesson).CHECKS}


def check(id: str, answer: Any) -> None:
    """Print whether `answer` solves exercise `id`: `passed`, `not yet: why` or `to do`. Never raises."""
    try:
        verdict, why = verdict_of(find(id), answer)
        record(id, verdict, why)
        print(f"Exercise {id}: {verdict}" + (f": {why}" if why else ""))
    except Exception as error:
        print(f"Exercise {id} could not be checked: {error}")


def find(id: str) -> Check:
    lesson = str(id).partition(".")[0]
    known = {one.id: one for one in lesson_module(lesson).CHECKS} if lesson in lessons() else all_checks()
    if id not in known:
        raise unknown("exercise", id, known)
    return known[id]


@contextmanager
def in_passing() -> Iterator[None]:
    """One thread, which is faster for small networks; afterwards threads and random numbers are as they were before."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with preserve_rng_state(), torch.enable_grad():
            yield
    finally:
        torch.set_num_threads(threads)


def score(id: str, answer: Any, points: float = 1) -> float:
    """The points that `answer` earns in the public check of exercise `id`, for graders that read a number. Never raises.

    It runs in the process of the notebook, which a notebook can deceive; `course grade` cannot be deceived that way.
    """
    try:
        result = worst_of(find(id), answer)
        return float(result.share * Fraction(points)) if result else 0.0
    except Exception:
        return 0.0


def verdict_of(check: Check, answer: Any) -> tuple[str, str]:
    """The verdict on `answer` ("passed", "not yet" or "to do") and the words for the learner."""
    worst = worst_of(check, answer)
    if worst is None:
        return "to do", ""
    if worst.share == 1:
        return "passed", ""
    return "not yet", ("partly right: " if worst.share > Fraction(0) else "") + worst.why


@in_passing()
def worst_of(check: Check, answer: Any) -> Result | None:
    """The first of the worst results of all cases; None if the exercise has not been begun."""
    worst = passed()
    for case in range(check.cases):
        result = one_case(check, answer, seed=zlib.crc32(f"{check.id}|{case}".encode()))
        if result is None:
            return None
        if result.share < worst.share:
            worst = result
        if not worst.share:
            break
    return worst


def one_case(check: Check, answer: Any, seed: int) -> Result | None:
    """The result of one probe and its judge; None if the exercise has not been begun."""
    if not callable(answer):
        return failed("hand in the function itself: its name, without parentheses behind it")
    seed_all(seed)  # an answer may draw numbers of its own; the verdict shall not depend on earlier cells
    try:
        data = plain(check.probe(answer, Rng(seed)))
    except NotImplementedError as error:
        return None if str(error) == STUB else failed(stopped(error))
    except TypeError as error:
        return failed(str(error) if str(error).startswith("your answer") else stopped(error))
    except Exception as error:
        return failed(stopped(error))
    why = mismatch(data, check.evidence)
    return failed(why) if why else check.judge(data, Rng(seed))


def stopped(error: Exception) -> str:
    """Where and why the learner's code stopped, in one line."""
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if "ipykernel" in frame.filename or "<" in frame.filename
    ]
    place = f" in line {frames[-1].lineno} of your cell" if frames else ""
    if several := advice(str(error)):
        return f"it stopped{place}: {several}"
    return f"it stopped with {type(error).__name__}{place}: {str(error).splitlines()[0] if str(error) else 'no message'}"


def advice(message: str) -> str:
    """Plain words for common slips whose own message helps nobody who reads it for the first time."""
    if message.startswith("No module named"):
        return "it is none of the packages that the course installs, so do without it"
    if not message.startswith("Boolean value of Tensor with"):
        return ""
    return (
        "comparing two tensors gives as many answers as they have values, but `assert` and `if` need one: "
        "`torch.equal(a, b)` gives one"
    )


def progress(lesson: str | None = None) -> None:
    """Print which exercises are passed and which are to do, of one lesson ("03") or of all."""
    found = verdicts()
    for id, one in all_checks().items():
        if lesson in (None, id.partition(".")[0]):
            print(progress_line(id, one.title, found))
