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
        if not isinstance(shown, dict) or not shown.items() <= drawn.items():
            raise TypeError("ask takes a dictionary of parts, each as it was given to your function")
        questions.append(list(shown))
        return sureness(case, list(shown))

    returned = part_that_counts(parts, ask)
    return {"returned": returned, "questions": questions, "left": list(parts)}


def rules_parts(said: dict, case: dict) -> Iterator[str]:
    (name, cost), names, whole = said["returned"], case["names"], case["whole"]
    rests = {one: [other for other in names if other != one] for one in names}
    costs = {one: whole - sureness(case, rest) for one, rest in rests.items()}
    if said["left"] != names:
        yield f"my drawing came as {names} and went as {said['left']}; work on a copy, {{**parts}}"
    if name in costs and costs[name] == max(costs.values()) and abs(cost - costs[name]) < 1e-6:
        return
    for number, shown in enumerate(said["questions"], start=1):
        if len(shown) < len(names) - 1:
            out = " and ".join(repr(name) for name in names if name not in shown)
            yield f"your question {number} leaves out {out}: leave out one at a time, since parts count together"
        if shown not in (names, *rests.values()):
            yield f"in your question {number} the parts came as {shown}, but are drawn as {names}: keep their order"
    for shown in (names, *rests.values()):
        if shown not in said["questions"]:
            asked = "the whole drawing" if shown == names else f"the drawing of {shown}"
            yield f"you never asked about {asked}; a cost is what the whole drawing loses without one part"
    if name not in costs:
        yield f"you name {name!r}, which is no part of {names}; one cost is the largest, even where all are below 0"
    lost = f"without {name!r} the probability went from {whole:.4f} to {whole - costs[name]:.4f}"
    if not abs(cost - costs[name]) < 1e-6:
        yield f"{lost}: the cost is the first less the second, with its sign and not rounded, and you give {cost:.5g}"
    yield f"{lost}, which costs {costs[name]:.4f}; another part costs more"


SEEN = {"returned": (str | None, float), "questions": [[str]], "left": [str]}
CHECKS = [exercise("00.1", "part_that_counts", "the part that counts", drawings, ask_parts, rules_parts, seen=SEEN, points=2)]
