"""Checks of lesson 00, start here: which part of a drawing counts, and a warm-up that is shown, not marked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from course_utils.checks import verdict_of
from course_utils.checks.spec import Rng, beside, exercise

# ------------------------------------------------------------------------------------------------ 00.0 the warm-up


def some_numbers(rng: Rng) -> Iterator[list[int]]:
    yield [rng.integer(1, 9) for _ in range(rng.integer(3, 5))]


def ask_mean(mean: Any, numbers: list[int]) -> Any:
    return mean(list(numbers))


def rules_mean(said: float, numbers: list[int]) -> Iterator[str]:
    mean = sum(numbers) / len(numbers)
    if not abs(said - mean) < 1e-6:
        yield f"the mean of {numbers} is {mean:g}, yours is {said:g}"


WARM_UP = exercise("00.0", "mean", "three verdicts", some_numbers, ask_mean, rules_mean, seen=float)  # not in CHECKS


def warm_up(answer: Any) -> str:
    """The verdict on `answer`, which should return the mean of some numbers, and why."""
    return ": ".join(filter(None, verdict_of(WARM_UP, answer)))


# ------------------------------------------------------------------------------------------- 00.1 part_that_counts


@beside
def sureness(case: dict, shown: list[str]) -> float:
    """How sure the invented network of `case` is of a drawing: any number, the same for the same parts in the same order."""
    if shown == case["names"]:
        return case["whole"]
    low, high = case["others"]
    return low + (high - low) * np.random.default_rng([case["network"], *(1 + case["names"].index(n) for n in shown)]).random()


def drawings(rng: Rng) -> Iterator[dict]:
    """Names of parts in the order of drawing, and a network: any part costs something, some do, or none does."""
    words = ["mast", "hull", "flag", "roof", "door", "wheel", "fin", "stem", "leaf", "moon"]
    costs, some, gains, more = (90, 99, 0.02, 0.88), (40, 60, 0.02, 0.98), (2, 10, 0.15, 0.9), (2, 10, 0.65, 0.98)
    for low, high, *others in rng.shuffled([costs, costs, costs, some, some, gains, more]):
        names = rng.shuffled(["sail", "front sail", *rng.shuffled(words)[: rng.integer(1, 5)]])
        whole = rng.integer(low, high) / 100
        yield {"names": names, "whole": whole, "others": others, "network": rng.integer(0, 10**9)}


def ask_parts(part_that_counts: Any, case: dict) -> dict:
    drawn = {name: ("white", ((place // 2, 0), (60, 9), (0, 60))) for place, name in enumerate(case["names"])}
    parts, questions = dict(drawn), []

    def ask(shown: Any) -> float:
        if not isinstance(shown, dict):
            raise TypeError(f"ask takes a dictionary of parts, as you were given one, not a {type(shown).__name__}")
        for name in shown:
            if name not in drawn or shown[name] != drawn[name]:
                raise ValueError(
                    f"{name!r} is not as it was drawn; ask about the parts that your function is given, without one of them"
                )
        questions.append(list(shown))
        return sureness(case, list(shown))

    returned = part_that_counts(parts, ask)
    return {"returned": returned, "questions": questions, "left": list(parts)}


def rules_parts(said: dict, case: dict) -> Iterator[str]:
    (name, cost), names, whole = said["returned"], case["names"], case["whole"]
    remains = {one: sureness(case, [other for other in names if other != one]) for one in names}
    most = max(whole - p for p in remains.values())
    gone = [one for one in names if one not in said["left"]]
    if gone:
        yield f"my drawing came back without {gone[0]!r}; work on a copy, {{**parts}}"
    if said["left"] != names:
        yield f"my drawing came as {names} and went as {said['left']}; what is drawn last lies on top, so work on a copy"
    if name in remains and whole - remains[name] == most and abs(cost - most) < 1e-6:
        return
    yield from odd_questions(said["questions"], names)
    if name not in remains:
        yield f"you name {name!r}, which is no part of {names}" + (
            "; here every part is in the way, so all costs are negative, and one of them is still the largest"
            if most < 0
            else ""
        )
    else:
        yield from odd_answer(name, cost, most, whole, remains)


def odd_questions(questions: list[list[str]], names: list[str]) -> Iterator[str]:
    """Of an answer that is wrong, the first question that is not about the whole drawing, or about all parts but one."""
    for number, shown in enumerate(questions, start=1):
        missing = len(names) - len(shown)
        if len(shown) == 1:
            yield f"you asked about {shown[0]!r} alone; leave it out and ask about the rest, since parts count together"
        elif missing > 1:
            yield f"at your question number {number}, {missing} parts were missing; put each one back before the next"
        elif shown != [one for one in names if one in shown]:
            yield f"at your question number {number} the parts came as {shown}, but are drawn as {names}: keep their order"
    if all(shown == names for shown in questions):
        yield "you asked about nothing but the whole drawing; leave out one part at a time"
    if names not in questions:
        yield "you never asked about the whole drawing; a cost is what the network loses from there"


def odd_answer(name: str, cost: float, most: float, whole: float, remains: dict[str, float]) -> Iterator[str]:
    p = remains[name]
    lost = f"without {name!r} it went from {whole:.4f} to {p:.4f}"
    if abs(cost - p) < 1e-6:
        yield f"{p:.4f} is what remains without {name!r}; the cost is the difference, and {lost}"
    if whole - p < 0 and abs(cost - abs(whole - p)) < 1e-6:
        yield f"{lost}: the network is surer by {p - whole:.4f}, so leaving it out costs less than nothing"
    if whole - p > 0 and abs(cost + whole - p) < 1e-6:
        yield f"{lost}, so it costs something: a cost above 0, and yours is {cost:.4f}"
    if 1e-6 <= abs(cost - (whole - p)) < 0.006:
        yield f"{lost}; your cost of {cost:g} is close, but rounded: return it as it is"
    if not abs(cost - (whole - p)) < 1e-6:
        yield f"{lost}, and you give {cost:.4f} as its cost"
    yield f"{lost}, which costs {whole - p:.4f}; another part costs more"


CHECKS = [
    exercise(
        "00.1",
        "part_that_counts",
        "the part that counts",
        drawings,
        ask_parts,
        rules_parts,
        seen={"returned": (str | None, float), "questions": [[str]], "left": [str]},
        points=2,
    )
]
