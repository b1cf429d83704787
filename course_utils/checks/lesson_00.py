"""Checks of lesson 00, start here: from scores to names, and a warm-up that does not count."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from course_utils.checks.spec import Check, Result, Rng, beside, failed, passed

# ------------------------------------------------------------------------------------------------ 00.0 the warm-up


@beside
def some_numbers(rng: Rng) -> list[int]:
    return [rng.integer(1, 9) for _ in range(rng.integer(3, 5))]


def probe_mean(mean: Any, rng: Rng) -> float:
    return float(mean(some_numbers(rng)))


def judge_mean(data: float, rng: Rng) -> Result:
    numbers = some_numbers(rng)
    mean = sum(numbers) / len(numbers)
    return passed() if math.isclose(data, mean) else failed(f"the mean of {numbers} is {mean:g}, yours is {data:g}")


WARM_UP = Check("00.0", "mean", "three verdicts", probe_mean, judge_mean, float)  # not in CHECKS: it is shown, not marked


# ----------------------------------------------------------------------------------------------- 00.1 top_classes


@beside
def score_sheets(rng: Rng) -> tuple[list[str], int, dict[str, Tensor]]:
    """Class names, how many are asked for, and scores: of one picture, of several, and with two classes equally likely."""
    classes = rng.shuffled(["ant", "bee", "cat", "dog", "eel", "fox", "gnu"])[: rng.integer(4, 7)]
    k = rng.integer(2, len(classes) - 1)
    with rng.torch():
        sheets = {name: torch.randn(count, len(classes)) * 2 for name, count in (("one", 1), ("many", rng.integer(3, 6)))}
        for scores in sheets.values():
            scores += torch.rand(len(scores), 1) * 3 + 2 - scores.amax(1, keepdim=True)  # the best score is no probability
        sheets["tie"] = sheets["many"][:1].clone()
        best, second = sheets["tie"][0].topk(2).indices
        sheets["tie"][0, second] = sheets["tie"][0, best]
    return classes, k, sheets


def probe_top(top_classes: Any, rng: Rng) -> dict:
    classes, k, sheets = score_sheets(rng)
    return {name: top_classes(scores.clone(), list(classes), k) for name, scores in sheets.items()}


def judge_top(data: dict, rng: Rng) -> Result:
    classes, k, sheets = score_sheets(rng)
    for name, scores in sheets.items():
        why = wrong_form(data[name], len(scores), k) or wrong_range(data[name])
        if why:
            return failed(why)
        for number, (row, truth) in enumerate(zip(data[name], scores.softmax(1), strict=True), start=1):
            why = wrong_row(row, dict(zip(classes, truth.tolist(), strict=True)), f"picture {number} of {len(scores)}")
            if why:
                return failed(why)
    return passed()


def is_number(value: Any) -> bool:
    return type(value) in (int, float) or (isinstance(value, Tensor) and value.numel() == 1)


def wrong_form(rows: Any, pictures: int, k: int) -> str | None:
    if type(rows) is not list or len(rows) != pictures:
        given = f"{len(rows)} entries" if type(rows) is list else "no list"
        return f"for {pictures} picture(s) you give {given}; asked is a list with one entry for each picture"
    for row in rows:
        if type(row) is not list or len(row) != k:
            held = str(len(row)) if type(row) is list else "none"
            return f"asked are the {k} most likely classes of each picture; the entry of a picture holds {held}"
        if not all(type(pair) is list and len(pair) == 2 and type(pair[0]) is str and is_number(pair[1]) for pair in row):
            return "each class should be a pair of a name and a number, such as ('cat', 0.7)"
    return None


def wrong_range(rows: list) -> str | None:
    values = [float(value) for row in rows for _, value in row]
    outside = [value for value in values if not 0 <= value <= 1]
    if outside:
        return f"the first probability is {outside[0]:.1f}; probabilities lie between 0 and 1"
    if len(rows) == 1 and len(values) > 1 and min(values) > 0.9999:
        return "with one picture every probability is 1.0: the sum must run over the classes"
    return None


def wrong_row(row: list, truth: dict[str, float], where: str) -> str | None:
    """What is wrong with the answer for one picture, whose classes have the probabilities `truth`."""
    names = [name for name, _ in row]
    likely = sorted(truth.values(), reverse=True)
    if truth.get(names[0]) == likely[-1]:
        return f"{where}: the least likely class is in first place"
    if len(set(names)) < len(names):
        return f"{where}: {max(names, key=names.count)!r} is named twice"
    for place, (name, value) in enumerate(row, start=1):
        if name not in truth:
            return f"{where}: {name!r} is none of the classes {list(truth)}"
        if not math.isclose(float(value), truth[name], abs_tol=1e-4):
            return f"{where}: {name!r} gets {float(value):.2f} from you, and the probabilities of all classes must add up to 1"
        if not math.isclose(truth[name], likely[place - 1], abs_tol=1e-5):
            better = likely[place - 1]
            return f"{where}: place {place} belongs to a class of {better:.2f}, and you put one of {truth[name]:.2f} there"
    return None


def wrong_raw(scores: Tensor, classes: list[str], k: int) -> list:
    values, places = scores.topk(k)
    return [
        [(classes[i], v) for i, v in zip(*both, strict=True)] for both in zip(places.tolist(), values.tolist(), strict=True)
    ]


def wrong_batch(scores: Tensor, classes: list[str], k: int) -> list:
    return wrong_raw(scores.softmax(0), classes, k)


def wrong_smallest(scores: Tensor, classes: list[str], k: int) -> list:
    values, places = scores.softmax(1).sort(1)
    return [[(classes[i], float(v)) for i, v in zip(row, p, strict=True)][:k] for row, p in zip(places, values, strict=True)]


def wrong_sigmoid(scores: Tensor, classes: list[str], k: int) -> list:
    return wrong_raw(scores.sigmoid(), classes, k)


def wrong_names(scores: Tensor, classes: list[str], k: int) -> list:
    return [list(zip(classes, row.tolist(), strict=False)) for row in scores.softmax(1).topk(k).values]


def wrong_unsorted(scores: Tensor, classes: list[str], k: int) -> list:
    return [list(zip(classes, row.tolist(), strict=True))[:k] for row in scores.softmax(1)]


def wrong_first(scores: Tensor, classes: list[str], k: int) -> list:
    return wrong_raw(scores.softmax(1), classes, k)[0]


def right_by_hand(scores: Tensor, classes: list[str], k: int) -> list:
    answers = []
    for row in scores.tolist():
        total = sum(math.exp(score) for score in row)
        likely = sorted(zip(row, classes, strict=True), reverse=True)
        answers.append([(name, math.exp(score) / total) for score, name in likely[:k]])
    return answers


def right_tensors(scores: Tensor, classes: list[str], k: int) -> list:
    order = scores.argsort(dim=1, descending=True)[:, :k]
    exponentials = scores.exp()
    probabilities = exponentials / exponentials.sum(1, keepdim=True)
    return [[(classes[int(i)], probabilities[row, i]) for i in order[row]] for row in range(len(scores))]


CHECKS = [
    Check(
        "00.1", "top_classes", "the most likely classes", probe_top, judge_top, {"one": Any, "many": Any, "tie": Any}, points=2
    )
]

WRONG = {
    "00.1": [
        (wrong_raw, "probabilities lie between 0 and 1"),
        (wrong_batch, "with one picture every probability is 1.0: the sum must run over the classes"),
        (wrong_smallest, "the least likely class is in first place"),
        (wrong_sigmoid, "the probabilities of all classes must add up to 1"),
        (wrong_names, "from you, and the probabilities of all classes"),
        (wrong_unsorted, "belongs to a class of"),
        (wrong_first, "asked is a list with one entry for each picture"),
    ]
}

RIGHT = {"00.1": [right_by_hand, right_tensors]}
