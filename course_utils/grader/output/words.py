"""The words and signs that all forms of a report share. They are made from reports, never from notes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from typing import Any, get_args

from course_utils.checks import advice
from course_utils.checks.spec import Check
from course_utils.grader.intake.answers import blank_cells
from course_utils.grader.records import CheckReport
from course_utils.grader.scoring import ERROR, FAILED, OWN_CELL, PARTIAL, PASSED, SKIPPED, TIMEOUT, TO_DO, missing_name

MARKS = {PASSED: "✓", PARTIAL: "◐", FAILED: "✗", ERROR: "!", TIMEOUT: "∞", SKIPPED: "↷", TO_DO: "·"}
WORDS = {PASSED: "passed", PARTIAL: "partly right", FAILED: "not yet", ERROR: "it stopped", TIMEOUT: "took too long"}


@cache
def titles() -> dict[str, str]:
    """The title of each lesson."""
    found = ((id[:2], re.match(r"# \d+\. (.*)", text)) for id, text in blank_cells().items())
    return {lesson: title[1] for lesson, title in found if title}


def points(hundredths: int) -> str:
    """Hundredths as points: "6", "1.5", "0.33"."""
    whole, rest = divmod(hundredths, 100)
    return f"{whole}.{rest:02}".rstrip("0") if rest else str(whole)


def percent(score: int, full: int) -> str:
    return f"{100 * score // full if full else 0}"


def clean(text: str) -> str:
    """`text` without what steers a terminal or turns its direction: no control character but newline and tab."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn"))


def line(text: str) -> str:
    """`text` in one line: a log obeys how a line begins, and a reader believes it."""
    return " ".join(clean(text).split())


def message_of(check: CheckReport) -> str:
    """What the learner reads about one check, in a sentence; of a hidden one the points."""
    return clean(words_for(check))


def words_for(check: CheckReport) -> str:
    if check.hidden:
        return f"{check.title}: {points(check.score)} of {points(check.max)} points"
    if check.error and check.message in ("", OWN_CELL):
        place = f" in line {check.error.line} of your cell" if check.error.line else ""
        missing = missing_name(check.error.text.untrusted)
        why = check.message or ("is it spelt right?" if missing else advice(check.error.text.untrusted))
        return f"it stopped{place}" + (f" because `{missing}` is missing" if missing else "") + (f": {why}" if why else "")
    return check.message


def error_line(check: CheckReport) -> str:
    """The exception that stopped an answer, in the words of the learner's own code."""
    return f"{check.error.name.untrusted}: {check.error.text.untrusted}".removesuffix(": ") if check.error else ""


def self_reported(check: Check) -> list[str]:
    """The parts of a check's evidence, by key, that are only what the learner's process says about itself.

    These are flags, counts and texts (modes, calls, what was opened) beside what the answer returned. They have few values, so
    they are easily invented; tensors and results must be those of the judge's own run.
    """
    seen = check.seen if isinstance(check.seen, dict) else {}
    return sorted(set(claims("evidence", check.evidence if check.seen is None else seen)))


def claims(name: str, pattern: Any) -> Iterator[str]:
    """The names in a pattern of evidence at which a flag, a count or a text has its place, but for what was returned."""
    if isinstance(pattern, dict):
        for key, part in pattern.items():
            yield from claims(name if key is str else key, part) if key != "returned" else ()
    elif isinstance(pattern, list | tuple):
        for part in pattern:
            yield from claims(name, part)
    elif any(kind in (bool, int, str) for kind in get_args(pattern) or [pattern]):
        yield name
