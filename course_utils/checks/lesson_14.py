"""Checks of lesson 14, the Keras twin: a model for two phases, and a verdict on runs of two frameworks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import permutations
from math import isclose
from statistics import fmean
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils import sweeps
from course_utils.checks.spec import Rng, beside, exercise

# -------------------------------------------------------------------------------------- 14.1 two_phase_model


def bodies(rng: Rng) -> Iterator[dict]:
    """Pretrained bodies in small, with batch norm among the last layers; `last` cuts before it, and before its convolution."""
    for last in (4, 5):
        width, filters = rng.integer(5, 7), rng.integer(3, 5)
        with rng.torch():
            images, labels = torch.randn(8, width, width, 3), torch.tensor([[0.0], [1.0]] * 4)
            kernels = [torch.randn(3, 3, *channels) / 4 for channels in ((3, filters), (filters, filters), (filters, 2))]
            statistics = torch.rand(filters) + 0.5
        yield {"last": last, "images": images, "labels": labels, "kernels": kernels, "statistics": statistics}


@beside
def body_of(case: dict) -> Any:
    """Input, two convolutions, batch norm, activation, convolution, pooling: all learn, as if nobody had frozen them."""
    from course_utils.experiments.keras_twin import load_keras

    layers: Any = load_keras().layers
    inputs = x = layers.Input(tuple(case["images"].shape[1:]))
    for number, kernel in enumerate(case["kernels"], 1):
        conv = layers.Conv2D(kernel.shape[3], 3, padding="same", name=f"conv{number}")
        x = conv(x)
        conv.set_weights([kernel.numpy(), 0 * kernel[0, 0, 0].numpy()])
        if number == 2:
            norm = layers.BatchNormalization(name="norm")
            x = layers.ReLU(name="relu")(norm(x))
            shift, scale = case["statistics"].numpy() - 1, case["statistics"].numpy()
            norm.set_weights([scale, shift, shift, scale])
    return load_keras().Model(inputs, layers.MaxPooling2D(2, name="pool")(x), name="body")


@beside
def weights_of(weights: list) -> dict[str, Tensor]:
    """By place and path, the values of Keras' `weights`."""
    values = [one.value.detach().cpu().clone() for one in weights]
    return {f"{place} {one.path}": value for place, (one, value) in enumerate(zip(weights, values, strict=True))}


@beside
def pair_in(answer: Any) -> tuple[Any, Callable[[], Any]]:
    """The model and the function of an answer."""
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        raise TypeError("return two things: the model, and the function that starts phase two")
    model, start = answer
    if not hasattr(model, "weights"):
        raise TypeError("the first thing that you return should be the model, the second the function")
    if not callable(start):
        raise TypeError(
            "the second thing that you return should be the function itself: do not call it, phase two starts later"
        )
    if not model.compiled:
        raise TypeError("the model is not compiled for phase one")
    return model, start


def ask_two_phases(two_phase_model: Any, case: dict) -> dict:
    """The weights before training, after an update of phase one, and after one of phase two; what the model says at first."""
    body, images, labels = body_of(case), case["images"], case["labels"]
    model, start = pair_in(two_phase_model(body, case["last"]))
    mine = {id(one) for one in body.weights}
    heads = [one for one in model.weights if id(one) not in mine]
    found: dict[str, list] = {"body": [], "head": []}
    says = model.predict(images.numpy(), verbose=0)
    features = body.predict(images.numpy(), verbose=0)
    reports, stopped = [], ""
    for phase in (0, 1, 2):
        try:
            if phase == 2:
                start()
            if phase:
                reports.append(model.evaluate(images.numpy(), labels.numpy(), return_dict=True, verbose=0))
                model.train_on_batch(images.numpy(), labels.numpy())
        except ValueError as error:
            if not str(error).startswith("Unknown variable"):
                raise
            stopped = "unknown variable"
        found["body"].append(weights_of(body.weights))
        found["head"].append(weights_of(heads))
    seen = {"says": torch.tensor(says), "features": torch.tensor(features).flatten(1), "stopped": stopped}
    return found | seen | {"reports": [{name: float(value) for name, value in one.items()} for one in reports]}


def rules_two_phases(said: dict, case: dict) -> Iterator[str]:
    if odd(said, case):
        yield "the weights before and after the two phases do not belong to one model"
        return
    yield from rules_head(said, case)
    if said["stopped"]:
        yield (
            "phase two: Keras refuses, 'Unknown variable'. The optimizer was made for what learnt before; "
            "compile again after layers were set free"
        )
    steps = [furthest(*pair) for pair in zip(said["body"], said["body"][1:], strict=False)]
    free = [name for name in steps[1] if inside(name) in LAYERS[-case["last"] :] and inside(name) != "norm"]
    if moved := [name for name, step in steps[0].items() if step != 0]:
        yield f"{path(moved[0])} moved in phase one: the body has to be frozen when the model is compiled first"
    statistics = [name for name in steps[1] if "moving" in name and steps[1][name] != 0]
    if statistics:
        yield f"{path(statistics[0])} moved in phase two: keep batch norm frozen, its statistics belong to the old pictures"
    for phase, pair in zip(("one", "two"), zip(said["head"], said["head"][1:], strict=False), strict=False):
        if still := [name for name, step in furthest(*pair).items() if step == 0]:
            yield f"{path(still[0])} of the head stood still in phase {phase}: the head learns in both phases"
    if not any(steps[1].values()):
        yield "nothing of the body moved in phase two: are the layers that you set free inside this model?"
    for name, step in steps[1].items():
        if inside(name) == "norm" and step != 0:
            yield f"{path(name)} moved in phase two: batch norm has to stay frozen as a whole"
        if step != 0 and name not in free:
            yield f"{path(name)} moved in phase two: only the last {case['last']} layers of the body may, {LAYERS}"
        if step == 0 and name in free:
            yield f"{path(name)} stood still in phase two, and is one of the last {case['last']} layers of the body: {LAYERS}"
    yield from rules_compiled(said, case, 1)
    yield from rules_rates(said, case, steps[1])


def odd(said: dict, case: dict) -> bool:
    """Whether what came back cannot be three states of one model, what it says of the pictures, and two reports."""
    parts = [[{name: value.shape for name, value in one.items()} for one in said[part]] for part in ("body", "head")]
    same = all(len(part) == 3 and part[0] and part[0] == part[1] == part[2] for part in parts)
    count = len(case["labels"])
    values = [value for part in ("body", "head") for one in said[part] for value in one.values()]
    whole = all(value.numel() and value.is_floating_point() for value in values)
    seen = said["features"].ndim == 2 and len(said["features"]) == count == said["says"].numel()
    floats = said["features"].dtype == said["says"].dtype == torch.float32
    return not (same and whole and seen and floats and (said["stopped"] or len(said["reports"]) == 2))


LAYERS = ("input", "conv1", "conv2", "norm", "relu", "conv3", "pool")


def path(name: str) -> str:
    return name.partition(" ")[2]


def inside(name: str) -> str:
    return path(name).partition("/")[0]


def furthest(before: dict, after: dict) -> dict[str, float]:
    """By weight, how far the value went that went furthest."""
    return {name: float((after[name] - before[name]).abs().max()) for name in before}


def rules_head(said: dict, case: dict) -> Iterator[str]:
    """Three layers on the body's features, a sigmoid, and the right loss."""
    values, sizes = list(said["head"][0].values()), said["features"].shape[1]
    shapes = [tuple(one.shape) for one in values]
    if shapes != [(sizes, 256), (256,), (256, 128), (128,), (128, 1), (1,)]:
        yield f"behind the body stand weights of the shapes {shapes}: it should be Flatten, Dense 256, 128 and 1"
        return
    x = logits(values, said["features"])
    if not torch.allclose(torch.sigmoid(x), said["says"].reshape(x.shape), atol=1e-4):
        yield "the model says something else than relu, relu and sigmoid would: look at the activations"
    yield from rules_compiled(said, case, 0)


def rules_compiled(said: dict, case: dict, place: int) -> Iterator[str]:
    """Binary cross-entropy and the accuracy, before the update of phase one (place 0) or two (1)."""
    phase, head = ("one", "two")[place], list(said["head"][place].values())
    report = dict(enumerate(said["reports"])).get(place, {})
    loss = float(F.binary_cross_entropy_with_logits(logits(head, said["features"]), case["labels"]))
    reported = report.get("loss", float("nan"))
    if not isclose(reported, loss, rel_tol=1e-3):
        yield f"phase {phase}: the loss is {reported:.4f}, and binary cross-entropy {loss:.4f}: what did you compile?"
    if "accuracy" not in report:
        yield f"phase {phase}: the model reports {', '.join(report)}; compile it with the accuracy as a metric"


def logits(head: list[Tensor], x: Tensor) -> Tensor:
    """What three dense layers, kernels and biases in turn, say before the sigmoid."""
    for kernel, bias in zip(head[::2], head[1::2], strict=True):
        x = (x if kernel is head[0] else F.relu(x)) @ kernel + bias
    return x


def rules_rates(said: dict, case: dict, body: dict[str, float]) -> Iterator[str]:
    """Adam's first update moves a value by the rate at most, and where the gradient is not tiny by nearly all of it."""
    one, two = (max(furthest(*pair).values()) for pair in zip(said["head"], said["head"][1:], strict=False))
    for phase, step, rate in (("one", one, 0.001), ("two", max(two, *body.values()), 0.0001)):
        if not 0.9 * rate < step < 1.1 * rate:
            went = f"the first update of phase {phase} moves values by up to {step:.2g}"
            yield f"{went}; a new Adam at {rate:g} would move them by {rate:g}"

    heads = [list(values.values()) for values in said["head"]]
    for phase, before, after in zip(("one", "two"), heads, heads[1:], strict=False):
        slope = (torch.sigmoid(logits(before, said["features"])) - case["labels"]).mean()
        if (after[-1] - before[-1]) * slope > 0:
            yield f"phase {phase} climbs: the loss goes up with each update; which sign has your rate?"


# ------------------------------------------------------------------------------------------ 14.2 same_numbers

TOO_FEW = "too few runs"


@beside
def plans() -> tuple[tuple[str, int], ...]:
    """How the differences lie, and how many pairs there are."""
    ahead = (("ahead", 3), ("behind", 5), ("seems ahead", 3), ("seems behind", 4), ("ahead", 4), ("behind", 3))
    return (*ahead, ("ahead", 2), ("behind", 1), ("seems ahead", 5), ("ahead", 0))


def runs_of_both(rng: Rng) -> Iterator[list[dict]]:
    """Runs in any order: pairs, whose seeds do more than the frameworks; and some without a partner.

    A run without a partner has a seed of its own, or the seed of a pair and other pictures. Differences have an interval whose
    nearer end is half a length from 0, or reaches beyond it.
    """
    for kind, count in plans():
        pictures = [f"{rng.integer(2**20, 2**24):06x}" for _ in range(7)]
        seeds = rng.shuffled(range(8))
        with rng.torch():
            gaps, luck = torch.randn(2, max(count, 2), dtype=torch.float64)
        low, high = sweeps.interval(gaps.tolist())
        sign = -1 if "behind" in kind else 1
        middle = sign * (high - low) * rng.integer(*((30, 40) if "seems" in kind else (80, 120))) / 100
        gaps = 0.04 * (gaps - gaps.mean() + middle) / (high - low)
        base = 0.75 + 0.2 * luck / luck.abs().max()
        runs = []
        for i in range(count):
            for name, val in (("PyTorch", base[i]), ("Keras", base[i] + gaps[i])):
                runs.append({"framework": name, "seed": seeds[i], "pictures": pictures[i], "val": float(val)})
        for name, place in (("Keras", 6), ("PyTorch", 7)):  # seeds that the other one lacks
            runs.append({"framework": name, "seed": seeds[place], "pictures": pictures[5], "val": 0.4 + 0.1 * (place == 6)})
        for name in ("Keras", "PyTorch"):  # one seed, and each has its own pictures
            val = 0.3 if (name == "Keras") == (sign > 0) else 0.6
            new = pictures[4 if name == "Keras" else 6] + "f"
            runs.append({"framework": name, "seed": seeds[0 if name == "Keras" else 5], "pictures": new, "val": val})
        runs.append({"framework": "PyTorch", "seed": seeds[0], "pictures": pictures[6] + "e", "val": 0.9})
        yield rng.shuffled(runs)


def ask_same(same_numbers: Any, case: list[dict]) -> Any:
    return same_numbers([dict(run) for run in case])


def gaps_of(runs: list[dict], key: Callable[[dict], Any]) -> list[float]:
    """Keras − PyTorch of the runs that are equal in `key`; the last of several counts."""
    scores: dict[str, dict] = {"Keras": {}, "PyTorch": {}}
    for run in runs:
        scores[run["framework"]][key(run)] = run["val"]
    return [val - scores["PyTorch"][place] for place, val in scores["Keras"].items() if place in scores["PyTorch"]]


def close_to(found: list[float], gaps: list[float]) -> bool:
    return len(gaps) > 1 and all(
        isclose(a, b, abs_tol=1e-4) for a, b in zip(found, [fmean(gaps), *sweeps.interval(gaps)], strict=True)
    )


def rules_same(said: list, case: list[dict]) -> Iterator[str]:
    numbers, verdict = said
    gaps = gaps_of(case, lambda run: (run["seed"], run["pictures"]))
    if verdict not in ("different", "cannot tell", TOO_FEW):
        yield f'your verdict is {verdict!r}; choose "different", "cannot tell" or "{TOO_FEW}"'
    if len(gaps) < 3:
        how = {0: "no pair", 1: "one run each, and one run has no interval", 2: "two pairs"}[len(gaps)]
        if verdict != TOO_FEW or numbers:
            yield f'of these runs {how} can be compared: below three pairs return [] and "{TOO_FEW}"'
        return
    if verdict == TOO_FEW or len(numbers) != 3:
        yield f"{len(gaps)} pairs have the same seed and pictures: give [mean, low, high] and a verdict"
        return
    right = close_to(numbers, gaps)
    if numbers[1] == numbers[2]:
        yield "your interval has no length: one run has no interval, take the differences of all pairs"
    if not right and close_to(numbers, gaps_of(case, lambda run: run["seed"])):
        yield "in one of your pairs the two frameworks did not see the same training pictures: compare `pictures` too"
    if not right and close_to([-numbers[0], -numbers[2], -numbers[1]], gaps):
        yield "your differences have the wrong sign: take Keras − PyTorch, with its sign"
    if not right and any(close_to(list(order), gaps) for order in permutations(numbers)):
        yield "your three numbers are right and in another order: give [mean, low, high]"
    middle, (low, high) = fmean(gaps), sweeps.interval(gaps)
    if not isclose(numbers[0], middle, abs_tol=1e-4):
        yield f"your mean is {numbers[0]:+.4f}, that of the {len(gaps)} paired differences {middle:+.4f}: who is whose pair?"
    if not (isclose(numbers[1], low, abs_tol=1e-4) and isclose(numbers[2], high, abs_tol=1e-4)):
        found = f"from {numbers[1]:+.4f} to {numbers[2]:+.4f}, and the differences give {low:+.4f} to {high:+.4f}"
        yield f"your interval goes {found}: is it one of differences, pair by pair?"
    if (verdict == "different") != (low > 0 or high < 0):
        where = "0 lies inside" if low <= 0 <= high else "0 lies outside"
        yield f"you say {verdict!r}, and the interval goes from {low:+.4f} to {high:+.4f}: {where}"


VALUES = {str: Tensor}
PHASES = {
    "body": [VALUES],
    "head": [VALUES],
    "says": Tensor,
    "features": Tensor,
    "stopped": str,
    "reports": [{str: float}],
}
CHECKS = [
    exercise(
        "14.1",
        "two_phase_model",
        "a model for two phases",
        bodies,
        ask_two_phases,
        rules_two_phases,
        seen=PHASES,
        points=3,
        limit_s=30.0,
    ),
    exercise(
        "14.2", "same_numbers", "two frameworks, one verdict", runs_of_both, ask_same, rules_same, seen=([float], str), points=2
    ),
]
