"""The words and signs that all forms of a report share. They are made from reports, never from notes."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

from course_utils.checks import advice
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


def message_of(check: CheckReport) -> str:
    """What the learner reads about one check, in a sentence."""
    if check.hidden and check.state in WORDS and check.state != PASSED:
        return "this check runs at grading only; try your function on inputs of other sizes"
    if check.error and check.message in ("", OWN_CELL):
        place = f" in line {check.error.line} of your cell" if check.error.line else ""
        missing = missing_name(check.error.text.untrusted)
        why = check.message or ("is it spelt right?" if missing else advice(check.error.text.untrusted))
        return f"it stopped{place}" + (f" because `{missing}` is missing" if missing else "") + (f": {why}" if why else "")
    return check.message
