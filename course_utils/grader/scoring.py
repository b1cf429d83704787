"""From evidence to verdicts, in a process that never runs a learner's code."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from graphlib import CycleError, TopologicalSorter
from typing import Any

from course_utils.checks import in_passing
from course_utils.checks.spec import Check, Rng, failed, mismatch
from course_utils.errors import unknown
from course_utils.rng import seed_all

STATES = ("passed", "partial", "failed", "error", "timeout", "skipped", "to do")
PASSED, PARTIAL, FAILED, ERROR, TIMEOUT, SKIPPED, TO_DO = STATES
UNMARKED = "we could not mark this; your instructor has been told"
LONGEST = 2000  # characters of a judge's words: they may quote what an answer gave


@dataclass(frozen=True)
class Evidence:
    """What one probe returned, and the seed it was given."""

    data: Any
    seed: int


@dataclass(frozen=True)
class Raised:
    """An exception of the learner's code; `name` and `text` are the learner's, `line` counts within the answer cell."""

    name: str
    text: str = ""
    line: int | None = None


@dataclass(frozen=True)
class Failure:
    """Why one probe gave no evidence: the state ("failed", "error", "timeout", "to do"), and our words for the learner."""

    state: str
    why: str = ""
    raised: Raised | None = None


@dataclass(frozen=True)
class Verdict:
    """What became of one check. `note` and `fault` are for the instructor; a fault is ours, not the learner's."""

    state: str
    share: Fraction = Fraction(0)
    why: str = ""
    raised: Raised | None = None
    note: str = ""
    fault: str = ""


def judge_exercise(check: Check, evidence: Sequence[Evidence | Failure]) -> Verdict:
    """The verdict on one check from all its cases: the smallest share counts, with the words of the first that has it."""
    worst = Verdict(PASSED, Fraction(1)) if evidence else Verdict(TO_DO)
    for case in evidence:
        worst = min(worst, judge_case(check, case), key=lambda verdict: verdict.share)  # the first of equals
        if not worst.share:
            break
    return worst


OWN_CELL = (
    "your notebook makes it in another cell, but an exercise cell is graded by itself, "
    "so put the imports and helpers that it needs into it"
)


def missing_name(message: str) -> str:
    """The name that a `NameError` with this message misses, or nothing."""
    found = re.search(r"name '(\w{1,60})' is not defined", message)
    return found[1] if found else ""


def explained(verdict: Verdict, is_elsewhere: Callable[[str], bool]) -> Verdict:
    """`verdict`, with a word where the answer stopped because another cell makes what it needs."""
    missing = missing_name(verdict.raised.text if verdict.raised else verdict.why)
    if verdict.share == 1 or not missing or not is_elsewhere(missing):
        return verdict
    return replace(verdict, why=f"{verdict.why}; {OWN_CELL}" if verdict.why else OWN_CELL)


def judge_case(check: Check, case: Evidence | Failure) -> Verdict:
    """The verdict on one case. A judge that stops is our fault and concerns this check alone; the notes say where it did."""
    if isinstance(case, Failure):
        return Verdict(case.state, why=case.why, raised=case.raised)
    try:
        with in_passing():
            seed_all(case.seed)
            why = mismatch(case.data, check.evidence)
            result = failed(why) if why else check.judge(case.data, Rng(case.seed))
        share = min(max(Fraction(result.share), Fraction(0)), Fraction(1))
        state = PASSED if share == 1 else PARTIAL if share else FAILED
        return Verdict(state, share, shortened(result.why), note=shortened(result.note))
    except Exception:
        fault = f"the judge of {check.id} stopped: {traceback.format_exc(limit=-2)}"
        return Verdict(ERROR, why=UNMARKED, fault=shortened(fault))


def shortened(words: str) -> str:
    return words if len(words) <= LONGEST else f"{words[:LONGEST]}…"


# --------------------------------------------------------------------------------------------- exercises, dependencies


def exercise_of(id: str) -> str:
    """The exercise a check counts towards: "05.2" of "05.2" and of the hidden check "05.2.h1"."""
    return ".".join(id.split(".")[:2])


def is_hidden(id: str) -> bool:
    return id != exercise_of(id)


def state_of(verdicts: Iterable[Verdict]) -> str:
    """The state of an exercise from those of its checks."""
    found = list(verdicts)
    states = {verdict.state for verdict in found}
    if len(states) == 1:
        return states.pop()
    if any(verdict.share for verdict in found):
        return PARTIAL
    return next((state for state in (ERROR, TIMEOUT, FAILED, SKIPPED) if state in states), TO_DO)


def in_order(checks: Iterable[Check]) -> list[Check]:
    """The checks sorted by id, each exercise after those it waits for.

    Raises:
        ValueError: if two checks share an id, or `after` names an unknown exercise or goes in a circle.
    """
    found = sorted(checks, key=lambda check: check.id)
    ids = [check.id for check in found]
    after: dict[str, list[str]] = {exercise_of(check.id): [] for check in found}
    for check in found:
        if ids.count(check.id) > 1:
            raise ValueError(f"two checks have the id {check.id!r}; a hidden check of 05.2 is called 05.2.h1, 05.2.h2, …")
        for other in check.after:
            if other not in after:
                raise unknown("exercise", other, list(after))
        after[exercise_of(check.id)] += check.after
    try:
        order = list(TopologicalSorter(after).static_order())
    except CycleError as error:
        raise ValueError(f"exercises wait for each other: {' → '.join(error.args[1])}; remove one `after`") from None
    return sorted(found, key=lambda check: (order.index(exercise_of(check.id)), check.id))


def settle(checks: Iterable[Check], verdicts: Mapping[str, Verdict]) -> dict[str, Verdict]:
    """The verdicts by check id, where a check whose `after` was neither passed nor partly right is skipped.

    An exercise that we could not mark holds nobody up.
    """
    settled: dict[str, Verdict] = {}
    for check in in_order(checks):
        before = {id: [one for other, one in settled.items() if exercise_of(other) == id] for id in check.after}
        waits = [id for id, found in before.items() if state_of(found) not in (PASSED, PARTIAL)]
        waits = [id for id in waits if not any(one.fault for one in before[id])]
        skipped = waits and verdicts[check.id].state != TO_DO
        settled[check.id] = Verdict(SKIPPED, why=f"waits for {', '.join(waits)}") if skipped else verdicts[check.id]
    return settled
