"""Reports to test with: two exercises, a hidden check, and every text that a learner could have written."""

from fractions import Fraction

from course_utils.checks.spec import Check
from course_utils.grader.records import Graded, Grader, Output
from course_utils.grader.scoring import PASSED, Verdict

CANARY = "CANARY-7c1f"
BLOB = b"a notebook"
GRADER = Grader("0.1.0", "3.11.7", "2.15.0", "0.29.2", "full", ("FORK", "NS"), "ab" * 32)
FULL = Verdict(PASSED, Fraction(1))


def check(id: str, points: int = 2, title: str = "freeze the backbone") -> Check:
    return Check(id, "answer", title, None, None, int, points=points)


def graded(first: Verdict = FULL, second: Verdict = FULL, third: Verdict = FULL, output: str = "printed <b>this</b>") -> Graded:
    """Exercise 90.1 with a public and a hidden check of two points each, and 90.2 with one public check."""
    checks = (check("90.1"), check("90.1.h1", title=CANARY), check("90.2", title="train the head"))
    verdicts = {"90.1": first, "90.1.h1": second, "90.2": third}
    flags = ("90.2: there is no cell of this exercise",)
    return Graded("90", checks, verdicts, {"90.1": Output(output, truncated=True)}, Output(CANARY), flags)


def hidden() -> Graded:
    return Graded("90", (check("90.1.h1"),), {"90.1.h1": FULL})
