"""No slip of the pen passes: every one-edit mutant of a shipped answer is refused, or listed as equivalent with its reason."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from answers import CHECKS, cell_of, equivalent, run
from mutants import changed_line, mutants

from course_utils.checks import verdict_of

LONG = 20  # seconds: a mutant that runs for ever is late, and so refused


@contextmanager
def late(seconds: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def verdict(id: str, text: str) -> str:
    try:
        with late(LONG):
            return verdict_of(CHECKS[id], run(id, text))[0]
    except Exception as error:  # the cell itself stops, or never does
        return type(error).__name__


@pytest.mark.filterwarnings("ignore")  # mutants do strange things
@pytest.mark.parametrize("id", CHECKS)
def test_no_mutant_passes(id):
    known = equivalent(id)
    passed = [line for line, text in mutants(cell_of(id)) if verdict(id, text) == "passed"]
    assert [line for line in passed if line not in known] == []
    assert [line for line in known if line not in passed] == [], "listed as equivalent, and refused or gone"


def test_each_kind_of_slip_is_made():
    cell = "def f(a, b):\n    with g():\n        if a < b and not b:\n            a += 1\n    return h(a, b, key=True)[:2]"
    made = {line for line, _ in mutants(cell)}
    assert made >= {
        "if a <= b and (not b):",
        "if a < b or not b:",
        "if not b:",
        "if a < b and b:",
        "if not (a < b and (not b)):",
        "a -= 1",
        "a += 2",
        "return h(b, a, key=True)[:2]",
        "return h(a, b)[:2]",
        "return h(a, b, key=True)",
        "return h(a, b, key=False)[:2]",
        "return a[:2]",
        "pass",
    }
    assert changed_line("a\nb", "a\nc") == "c"
