"""Checks of lesson 09, when to use what: where two curves cross, a rule judged by its regret, six scenarios."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from math import log
from statistics import mean
from typing import Any

import torch

from course_utils import sweeps
from course_utils.checks.spec import Rng, beside, exercise
from course_utils.experiments import sizes

# ---------------------------------------------------------------------------------------------- 09.1 crossing


@beside
def plans() -> tuple[tuple[str, ...], ...]:
    """By size, from the smallest: the second is clearly ahead, seems so, seems behind, or is clearly behind."""
    return (
        ("seems ahead", "ahead", "ahead", "ahead", "ahead"),
        ("behind", "seems ahead", "seems ahead", "ahead", "ahead"),
        ("ahead", "seems ahead", "ahead", "ahead"),
        ("ahead", "ahead", "ahead", "ahead"),
        ("ahead", "behind", "ahead", "ahead", "ahead"),
        ("ahead", "ahead", "seems ahead", "ahead"),
        ("behind", "behind", "ahead", "ahead"),
        ("behind", "seems behind", "seems ahead", "ahead"),
        ("ahead", "ahead", "ahead", "behind"),
        ("ahead", "ahead", "ahead", "ahead", "seems behind"),
        ("behind", "ahead", "ahead", "seems ahead"),
        ("seems ahead", "seems ahead", "seems ahead", "seems ahead"),
        ("behind", "behind", "behind", "behind"),
    )


def two_curves(rng: Rng) -> Iterator[dict]:
    """By size, scores of two methods: the mean of their differences is a part of half an interval, or more.

    On every other pair what a seed does to both outweighs any gap; on the others the seeds come in opposite order. One of the
    two, or each, was also measured at sizes of its own.
    """
    percent = {"ahead": (120, 180), "seems ahead": (70, 90), "seems behind": (-90, -70), "behind": (-180, -120)}
    for number, plan in enumerate(plans()):
        both, own = (drawn := rng.shuffled([1, 2, 3, 5, 8, 10, 15, 20, 50, 100]))[: len(plan)], drawn[-2:]
        n, first, second = rng.choice([3, 4, 5]), {}, {}
        for size, kind in rng.shuffled(list(zip(sorted(both), plan, strict=True))):
            with rng.torch():
                luck, gaps = torch.randn(2, n, dtype=torch.float64)
            low, high = sweeps.interval(gaps.tolist())
            middle = rng.integer(*percent[kind]) / 100 * (high - low) / 2
            gaps = 0.01 * (gaps - gaps.mean() + middle) / (high - low)
            luck = (gaps.mean() - gaps) / 2 if number % 2 else 0.05 * luck
            first[size], second[size] = (0.6 + luck).tolist(), (0.6 + luck + gaps).tolist()
        for size, curve in zip(own, ((first,), (second,), (first, second))[number % 3], strict=False):
            curve[size] = [0.6 + 0.01 * place for place in range(n)]
        yield {"first": shuffled(rng, first), "second": shuffled(rng, second)}


@beside
def shuffled(rng: Rng, curve: dict) -> dict:
    return dict(rng.shuffled(list(curve.items())))


def ask_crossing(crossing: Any, case: dict) -> Any:
    first, second = ({size: list(scores) for size, scores in case[name].items()} for name in ("first", "second"))
    try:
        return crossing(first, second)
    except KeyError as error:
        if alone := [size for size in first.keys() ^ second.keys() if size in error.args]:
            raise LookupError(f"only one of the two was measured at size {alone[0]}; ask at sizes that both have") from None
        raise


def gaps_of(first: list[float], second: list[float]) -> list[float]:
    return [b - a for a, b in zip(first, second, strict=True)]


def ends_of(case: dict, gaps: Callable[..., list[float]] = gaps_of) -> dict[int, tuple[float, float]]:
    both = sorted(case["first"].keys() & case["second"].keys())
    return {size: sweeps.interval(gaps(case["first"][size], case["second"][size])) for size in both}


def earliest(ends: dict[int, tuple[float, float]]) -> int | None:
    return next((size for size in ends if all(low > 0 for other, (low, _) in ends.items() if other >= size)), None)


def rules_together(said: list[int | None], cases: list[dict]) -> Iterator[str]:
    """A suspect, where all answers come out as it would make them."""
    if not any(size is not None for size in said):
        yield "you return None for every pair of curves, also where the second always leads: does your function return a size?"
    if said == [earliest(ends_of(case, lambda first, second: gaps_of(second, first))) for case in cases]:
        yield "you find from where on the first is better: which of the two is taken from which?"
    if said == [earliest(ends_of(case, lambda first, second: gaps_of(sorted(first), sorted(second)))) for case in cases]:
        yield "your sizes are those of sorted scores: which score of the first belongs to which of the second?"


def rules_crossing(said: int | None, case: dict) -> Iterator[str]:
    ends = ends_of(case)
    clear, right = [size for size, (low, _) in ends.items() if low > 0], earliest(ends)

    def found(size: int) -> str:
        return f"at {size} the differences second − first have an interval from {ends[size][0]:+.4f} to {ends[size][1]:+.4f}"

    if said is not None and said not in ends:
        yield f"you return {said}, and the sizes that both have are {list(ends)}: return one of these, or None"
    if said is None and right is not None:
        yield (
            f"you return None, but {found(right)}, and none of the larger sizes has one that reaches down to 0; "
            "are these your differences, seed by seed?"
        )
    if said is not None and said not in clear and ends[said][1] < 0:
        yield f"you return {said}, but {found(said)}: there the first is better"
    if said is not None and said not in clear:
        yield f"you return {said}, but {found(said)}: 0 lies inside, so this lead may be luck"
    for later in (size for size in ends if said is not None and size > said and size not in clear):
        yield f"you return {said}, but {found(later)}: a lead that is lost at a larger size does not count from {said} on"
    if said != right and right is not None:
        yield f"you return {said}, but the lead begins earlier: {found(right)}, and it is never lost after that"


# -------------------------------------------------------------------------------------------- 09.2 recommend

TOLERATED = 0.08  # five seeds cannot tell 0.06 on spectra


def situations(rng: Rng) -> Iterator[dict]:
    """Sizes within the tables, each of the three worlds, and budgets at the prices and a bit below."""
    for world in ("things", "spectra", "tints"):
        for seconds in (1, 5.99, 6, 15.99, 16, 100):
            for per_class in (5, rng.integer(6, 8), rng.integer(9, 13), rng.integer(14, 19), 20):
                facts = {"looks_far": world == "spectra", "ignored": world == "tints", "seconds": seconds}
                yield {"world": world, "per_class": per_class, **facts}


def ask_recommend(recommend: Any, case: dict) -> Any:
    return recommend(case["per_class"], case["looks_far"], case["ignored"], case["seconds"])


def rules_recommend(said: str, case: dict) -> Iterator[str]:
    scores = {name: expected(case["world"], name, case["per_class"]) for name in sizes.CONFIGURATIONS}
    possible = {name: score for name, score in scores.items() if sizes.SECONDS[name] <= case["seconds"]}
    world, seconds = case["world"], case["seconds"]
    if said not in scores:
        yield f"you recommend {said!r}; the configurations are {', '.join(map(repr, scores))}"
    if said not in possible:
        yield f"{said!r} takes {sizes.SECONDS[said]} seconds, and the budget is {seconds:g}"
    best = max(possible, key=lambda name: possible[name])
    regret = possible[best] - possible[said]
    if regret > TOLERATED:
        about = f"{case['per_class']} pictures of each class of {world!r}, {seconds:g} seconds"
        where = (
            "" if world == "things" else f" ({'its label is what the source ignored' if case['ignored'] else 'it looks far'})"
        )
        yield f"{about}{where}: {said!r} has {possible[said]:.2f}, which is {regret:.2f} below the best that you can pay for"


@cache
def means(world: str, configuration: str) -> dict[int, float]:
    """By size, the mean test accuracy after 48 updates."""
    found: dict[int, list[float]] = {}
    for row in sizes.read_table(world):
        if (row["configuration"], row["stop"]) == (configuration, sizes.EQUAL) and row["test"] is not None:
            found.setdefault(row["per_class"], []).append(row["test"])
    return {size: mean(scores) for size, scores in found.items()}


def expected(world: str, configuration: str, per_class: int) -> float:
    """The measured accuracy; between two measured sizes on the line between them, over the logarithm of the size."""
    known = means(world, configuration)
    below, above = max(size for size in known if size <= per_class), min(size for size in known if size >= per_class)
    share = log(per_class / below) / log(above / below) if above > below else 0
    return (1 - share) * known[below] + share * known[above]


# ------------------------------------------------------------------------------------------------ 09.3 decide

EVIDENCE = ("every size", "looks", "ignored", "price", "cannot tell", "none")
CARDS: dict[str, dict[str, tuple[str, ...]]] = {  # what can be defended, and what supports it
    "A": {"layer4 + head": ("every size", "price", "cannot tell"), "all": ("every size", "cannot tell")},
    "B": {"layer4 + head": ("looks", "price", "cannot tell"), "all": ("looks", "cannot tell")},
    "C": {"scratch": ("ignored",)},
    "D": {"head": ("price",)},
    "E": {"layer4 + head": ("cannot tell", "price")},
    "F": {"wait": ("none",)},
}
CHOICES = (*sizes.CONFIGURATIONS, "wait")


def once(rng: Rng) -> Iterator[None]:
    yield None


def ask_decide(decide: Any, case: None) -> Any:
    return decide()


def rules_decide(said: dict[str, list], case: None) -> Iterator[str]:
    if said.keys() != CARDS.keys():
        yield f"the cards are {', '.join(CARDS)}, and you decide {', '.join(said) or 'none'}"
    for card, (choice, evidence) in said.items():
        if choice not in CHOICES:
            yield f"card {card}: {choice!r} is not a choice; the choices are {', '.join(map(repr, CHOICES))}"
        if evidence not in EVIDENCE:
            yield f"card {card}: {evidence!r} is not on the list of evidence: {', '.join(map(repr, EVIDENCE))}"
    for card, (choice, evidence) in said.items():
        if choice not in CARDS[card]:
            yield f"card {card}, {choice!r}: {objection(card, choice)}"
        elif evidence not in CARDS[card][choice]:
            yield f"card {card}: {choice!r} can be defended, but not by {evidence!r}; what was measured that fits this card?"


def objection(card: str, choice: str) -> str:
    """What was measured that speaks against the choice."""

    def at_20(world: str, name: str) -> str:
        return f"{expected(world, name, 20):.2f}"

    def best(world: str) -> str:
        return max(at_20(world, name) for name in sizes.CONFIGURATIONS)

    if choice == "wait" and card != "F":
        return "there are pictures, and there is time to train on them: waiting teaches nothing"
    if card == "F":
        return "with no picture there is nothing to train on and nothing to test on"
    if card == "D":
        return f"two seconds each is what you have, and it takes {sizes.SECONDS[choice]}"
    if card == "C":
        return (
            f"the label is what the source learnt to ignore; on 'tints' {choice!r} got {at_20('tints', choice)} "
            f"at 20 of each class, the most that was measured there, and the best {best('tints')}"
        )
    if card == "E":
        return "one point from one seed; what did the interval of five seeds say, and what does each cost?"
    world = "spectra" if card == "B" else "things"
    got = f"it got {at_20(world, choice)}, and the best {best(world)}"
    return f"which measurement supports this? At 20 of each class of {world!r} {got}"


CHECKS = [
    exercise(
        "09.1",
        "crossing",
        "from which size on",
        two_curves,
        ask_crossing,
        rules_crossing,
        seen=int | None,
        overall=rules_together,
    ),
    exercise("09.2", "recommend", "a rule, and its regret", situations, ask_recommend, rules_recommend, seen=str),
    exercise("09.3", "decide", "six scenarios", once, ask_decide, rules_decide, seen={str: (str, str)}),
]
