"""Checks of lesson 06, which layers should learn: configurations, rates chosen on val, differences, a report."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from fractions import Fraction
from statistics import fmean, stdev
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils import freeze, settings, sweeps, train_mode, unfreeze
from course_utils.checks.spec import Check, Result, Rng, beside, failed, mismatch, partial, passed, same
from course_utils.experiments import freezing

# ---------------------------------------------------------------------------------------------- 06.1 configure

STAGES = (("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",))


@beside
def small_resnet(rng: Rng) -> tuple[nn.Module, Tensor, Tensor]:
    """The part names of a ResNet with a few channels, everything learning, in training mode; and one batch."""
    width, batch = rng.integer(3, 6), rng.integer(5, 9)

    def block(inputs: int) -> nn.Module:
        layers = (nn.Conv2d(inputs, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        return nn.Sequential(OrderedDict(zip(("conv1", "bn1", "relu"), layers, strict=True)))

    with rng.torch():
        parts = OrderedDict(block(3).named_children())
        for number in (1, 2, 3, 4):
            parts[f"layer{number}"] = nn.Sequential(OrderedDict({"0": block(width)}))
        parts["pool"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        parts["fc"] = nn.Linear(width, 3)
        return nn.Sequential(parts).train(), torch.randn(batch, 3, 8, 8) * 2 + 1, torch.randint(3, (batch,))


@beside
def orders(rng: Rng) -> list[tuple[int, float, bool]]:
    """What is asked for, call by call: stages to freeze, learning rate, and whether the model comes frozen but for `fc`."""
    return [(frozen, rng.choice([0.02, 0.05, 0.1]), rng.choice([False, True])) for frozen in (1, 2, 3, 4, 5, 0)]


@beside
def prepared(rng: Rng, comes_frozen: bool) -> tuple[nn.Module, Tensor, Tensor]:
    model, images, labels = small_resnet(rng)
    if comes_frozen:
        freeze(model)
        unfreeze(model.get_submodule("fc"))
        train_mode(model)
    return model, images, labels


def probe_configure(configure: Any, rng: Rng) -> list:
    found = []
    for frozen, lr, comes_frozen in orders(rng):
        model, images, labels = prepared(rng, comes_frozen)
        optimizer = configure(model, frozen, lr)
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(f"your answer gives a {type(optimizer).__name__} where an optimizer is expected")
        loss = F.cross_entropy(model(images), labels)
        if loss.requires_grad:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        learning = sum(parameter.requires_grad for parameter in model.parameters())
        rates = [float(group["lr"]) for group in optimizer.param_groups]
        found.append({"after": dict(model.state_dict()), "learning": learning, "rates": rates})
    return found


def judge_configure(data: list, rng: Rng) -> Result:
    worst = passed()
    if len(data) != 6:
        return failed("the optimizer is asked for six times, with 0 to 5 frozen stages")
    for found, (frozen, lr, comes_frozen) in zip(data, orders(rng), strict=True):
        model, _, _ = prepared(rng, comes_frozen)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        if found["after"].keys() != before.keys():
            return failed("the model lost or gained tensors; freezing must not change its structure")
        result = judge_step(model, before, found, frozen, lr)
        worst = min(worst, result, key=lambda one: one.share)
    return worst


def judge_step(model: nn.Module, before: dict, found: dict, frozen: int, lr: float) -> Result:
    moved = {name for name in before if not same(before[name], found["after"][name])}
    weights = [name for name, _ in model.named_parameters()]
    still = [part for stage in STAGES[:frozen] for part in stage]
    fixed = [name for name in weights if name.partition(".")[0] in still]
    strayed = [name for name in fixed if name in moved]
    asleep = [name for name in weights if name not in fixed and name not in moved]
    asked = f"with frozen={frozen}"
    if strayed and found["learning"] == len(weights):
        return failed(f"{asked}, the last assignment wins: {len(weights)} of {len(weights)} tensors learn")
    if strayed:
        return failed(f"{asked}, {strayed[0]} moved in one step: which stages come first?")
    if asleep and found["learning"] == len(weights) - len(fixed):
        part = asleep[0].partition(".")[0]
        return failed(f"{asked}, {part} is free, but nobody updates it: which tensors did the optimizer get?")
    if asleep:
        return failed(f"{asked}, {asleep[0]} should learn, but one step did not move it: compare whole names of parts")
    if any(not math.isclose(rate, lr) for rate in found["rates"]):
        return failed(f"asked for lr={lr}, the optimizer runs at {found['rates'][0]:g}")
    return judge_statistics(moved - set(weights), still, before, found["after"])


def judge_statistics(moved: set[str], still: Sequence[str], before: dict, after: dict) -> Result:
    for name in sorted(moved):
        if name.partition(".")[0] in still and not name.endswith("num_batches_tracked"):
            by = (after[name] - before[name]).abs().max()
            words = f"no weight strayed, but {name.partition('.')[0]} is frozen and {name} moved by {by:.2f}: "
            return partial(Fraction(1, 2), words + "which switch stops statistics?")
    return passed()


def wrong_no_else(model: nn.Module, frozen: int, lr: float) -> torch.optim.Optimizer:
    still = [part for stage in STAGES[:frozen] for part in stage]
    for name, part in model.named_children():
        if name in still:
            part.requires_grad_(False)
        part.requires_grad_(True)
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)


def wrong_optimizer_first(model: nn.Module, frozen: int, lr: float) -> torch.optim.Optimizer:
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr, momentum=0.9)
    right_children(model, frozen, lr)
    return optimizer


def wrong_statistics(model: nn.Module, frozen: int, lr: float) -> torch.optim.Optimizer:
    optimizer = right_children(model, frozen, lr)
    model.train()
    return optimizer


def wrong_substring_stages(model: nn.Module, frozen: int, lr: float) -> torch.optim.Optimizer:
    still = [part for stage in STAGES[:frozen] for part in stage]
    for name, parameter in model.named_parameters():
        parameter.requires_grad = not any(part in name for part in still)
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr, momentum=0.9)


def wrong_end(model: nn.Module, frozen: int, lr: float) -> torch.optim.Optimizer:
    freeze(model)
    for stage in (*STAGES[:frozen], ("fc",)):
        for part in stage:
            unfreeze(model.get_submodule(part))
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr, momentum=0.9)


def wrong_fixed_rate(model: nn.Module, frozen: int, lr: float) -> torch.optim.Optimizer:
    right_children(model, frozen, lr)
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01, momentum=0.9)


def right_children(model: nn.Module, frozen: int, lr: float) -> torch.optim.Optimizer:
    learning = []
    for name, part in model.named_children():
        number = next((i for i, stage in enumerate(STAGES) if name in stage), len(STAGES))
        part.train(number >= frozen).requires_grad_(number >= frozen)
        learning += list(part.parameters()) if number >= frozen else []
    return torch.optim.SGD(learning, lr=lr, momentum=0.9)


# ------------------------------------------------------------------------------------------- 06.2 choose_rates


@beside
def results_table(rng: Rng) -> tuple[list[dict], list[dict], dict[str, float], dict[str, float]]:
    """A table of runs, the same with another test column, the right choices, and the rate of the luckiest single run."""
    names = rng.shuffled(["head", "layer4 + head", "layer3–4 + head", "all", "scratch"])[: rng.integer(3, 4)]
    rates, seeds = [0.003, 0.01, 0.03, 0.1], rng.integer(3, 5)
    firsts = rng.shuffled(rates)[:2]
    table: list[dict] = []
    best: dict[str, float] = {}
    lucky: dict[str, float] = {}
    for number, name in enumerate(names):
        best[name] = firsts[number] if number < 2 else rng.choice(rates)
        lucky[name], early, plain = rng.shuffled([lr for lr in rates if lr != best[name]])
        top = rng.integer(60, 80) / 100
        below = {best[name]: 0.0, early: 0.04, plain: 0.06, lucky[name]: 0.12}  # in the mean over seeds
        for lr, seed in ((lr, seed) for lr in rates for seed in range(seeds)):
            jump, at = {early: (0.08, 0), lucky[name]: (0.20, 1)}.get(lr, (0.0, 0))  # one seed far above the others
            val = top - below[lr] + rng.integer(-5, 5) / 1000 + (jump if seed == at else -jump / (seeds - 1))
            row = {"configuration": name, "lr": lr, "seed": seed, "val": round(val, 3)}
            table.append(row | {"test": round(val + (0.2 if lr == plain else 0.0), 3)})
    table = rng.shuffled(table)
    tests = rng.shuffled([row["test"] for row in table])
    return table, [row | {"test": test} for row, test in zip(table, tests, strict=True)], best, lucky


def probe_rates(choose_rates: Any, rng: Rng) -> dict:
    table, scrambled, _, _ = results_table(rng)
    return {"choice": choose_rates([dict(row) for row in table]), "again": choose_rates([dict(row) for row in scrambled])}


def judge_rates(data: dict, rng: Rng) -> Result:
    table, _, best, lucky = results_table(rng)
    choice = data["choice"]
    if choice.keys() != best.keys():
        return failed(f"the table holds the configurations {sorted(best)}, your answer names {sorted(choice)}")
    if choice != data["again"]:
        return failed("your choice changed when only the test column changed; test pictures are for the end")
    by_luck = [name for name in best if choice[name] == lucky[name]]
    if len(set(choice.values())) == 1:
        first, second, *_ = best
        return failed(f"you take {choice[first]:g} for all, but {first!r} and {second!r} have different best rates here")
    if by_luck:
        return failed(f"for {by_luck[0]!r}, {lucky[by_luck[0]]:g} won by its luckiest seed; by the mean over seeds it is last")
    for name, lr in best.items():
        if choice[name] not in freezing.RATES:
            return failed(f"for {name!r} you give {choice[name]:g}, which is no rate in the table")
        if choice[name] != lr:
            mine, top = (mean_val(table, name, rate) for rate in (choice[name], lr))
            return failed(f"for {name!r}, {choice[name]:g} has a mean val of {mine:.3f}; another rate reaches {top:.3f}")
    return passed()


def mean_val(table: list[dict], name: str, lr: float) -> float:
    return fmean(row["val"] for row in table if (row["configuration"], row["lr"]) == (name, lr))


def wrong_on_test(results: list[dict]) -> dict[str, float]:
    return means_by("test", results)


def wrong_single_run(results: list[dict]) -> dict[str, float]:
    found: dict[str, dict] = {}
    for row in results:
        if row["val"] > found.get(row["configuration"], {"val": -1})["val"]:
            found[row["configuration"]] = row
    return {name: row["lr"] for name, row in found.items()}


def wrong_one_for_all(results: list[dict]) -> dict[str, float]:
    rates = {row["lr"] for row in results}
    best = max(rates, key=lambda lr: fmean(row["val"] for row in results if row["lr"] == lr))
    return {row["configuration"]: best for row in results}


def wrong_first_seed(results: list[dict]) -> dict[str, float]:
    return means_by("val", [row for row in results if row["seed"] == 0])


def means_by(column: str, results: list[dict]) -> dict[str, float]:
    sums: dict[tuple[str, float], list[float]] = {}
    for row in results:
        sums.setdefault((row["configuration"], row["lr"]), []).append(row[column])
    return {name: lr for (name, lr), _ in sorted(sums.items(), key=lambda item: fmean(item[1]))}


def right_sorted(results: list[dict]) -> dict[str, float]:
    return means_by("val", results)


# ------------------------------------------------------------------------------------------------ 06.3 compare

VERDICTS = ("better", "worse", "not distinguishable")


@beside
def pairs(rng: Rng) -> list[dict]:
    """Scores of two configurations, seed by seed: drawn from one source, or with a gap of five standard errors."""
    with rng.torch():
        luck = torch.randn(260, 2, 6, dtype=torch.float64)
    found = []
    for number, (both, own) in enumerate(luck):  # what a seed does to both scores, and to the first alone
        kind, spread = ("equal", 0.01) if number < 200 else ("gap", 0.001) if number < 230 else ("shared", 0.03)
        seeds = 3 if kind == "equal" else rng.integer(3, 6)
        base, gap, sign = 0.7 + both[:seeds] * spread, own[:seeds] * 0.01, rng.choice([-1, 1])
        if kind != "equal":  # exactly five standard errors, whatever was drawn
            gap = (gap - gap.mean()) / gap.std() * 0.003 + sign * 5 * 0.003 / math.sqrt(seeds)
        found.append({"kind": kind, "sign": sign, "a": (base + gap).tolist(), "b": base.tolist()})
    return found


def probe_compare(compare: Any, rng: Rng) -> list:
    return [compare(list(pair["a"]), list(pair["b"])) for pair in pairs(rng)]


def judge_compare(data: list, rng: Rng) -> Result:
    for said in data:
        if said not in VERDICTS:
            return failed(f"the verdict is one of {', '.join(map(repr, VERDICTS))}, not {said!r}")
    cases = list(zip(data, pairs(rng), strict=True))
    winners = sum(said != VERDICTS[2] for said, pair in cases if pair["kind"] == "equal")
    if winners > 100:
        return failed(f"a winner in {winners} of 200 pairs drawn from the same source")
    for said, pair in cases:
        if pair["kind"] != "equal" and said == ("worse" if pair["sign"] > 0 else "better"):
            side = "higher" if pair["sign"] > 0 else "lower"
            return failed(f"you said {said!r} where the first list is {side} in the mean: better or worse means the first")
    for kind, words in MISSED.items():
        caught = sum(said != VERDICTS[2] for said, pair in cases if pair["kind"] == kind)
        if caught < 30:
            return failed(f"missed a gap of five standard errors in {30 - caught} of 30 pairs{words}")
    if winners > 22:
        return failed(
            f"a winner in {winners} of 200 pairs drawn from the same source, 10 are to be expected: "
            "with three seeds an interval has to be wider than two standard errors"
        )
    return passed()


MISSED = {
    "gap": "; a standard error is the deviation of the differences over the root of their number",
    "shared": ": the same seed made both numbers of a pair, so compare seed by seed",
}
T = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57}


def wrong_means_only(a: list[float], b: list[float]) -> str:
    return "better" if fmean(a) > fmean(b) else "worse"


def wrong_undecided(a: list[float], b: list[float]) -> str:
    return "not distinguishable"


def wrong_two_errors(a: list[float], b: list[float]) -> str:
    return decide([x - y for x, y in zip(a, b, strict=True)], 1.96 / math.sqrt(len(a)))


def wrong_unpaired(a: list[float], b: list[float]) -> str:
    gap, error = fmean(a) - fmean(b), math.sqrt((stdev(a) ** 2 + stdev(b) ** 2) / len(a))
    return "not distinguishable" if abs(gap) < 2 * error else "better" if gap > 0 else "worse"


def wrong_deviation(a: list[float], b: list[float]) -> str:
    return decide([x - y for x, y in zip(a, b, strict=True)], T[len(a)])


def wrong_sign(a: list[float], b: list[float]) -> str:
    return right_interval(b, a)


def decide(differences: list[float], width: float) -> str:
    """The verdict, if the interval reaches `width` standard deviations to both sides of the mean."""
    low, high = (fmean(differences) + side * width * stdev(differences) for side in (-1, 1))
    return "better" if low > 0 else "worse" if high < 0 else "not distinguishable"


def right_interval(a: list[float], b: list[float]) -> str:
    low, high = sweeps.interval([x - y for x, y in zip(a, b, strict=True)])
    return "better" if low > 0 else "worse" if high < 0 else "not distinguishable"


def right_tensor(a: list[float], b: list[float]) -> str:
    differences = torch.tensor(a) - torch.tensor(b)
    t = differences.mean() / (differences.std() / len(a) ** 0.5)
    return "not distinguishable" if t.abs() < T[len(a)] else "better" if t > 0 else "worse"


# ------------------------------------------------------------------------------------------------- 06.4 report

REPORT = {"scores": {str: [float]}, "rates": {str: float}, "interval": [float], "winner": str, "opened": int}


def probe_report(report: Any, rng: Rng) -> list:
    return [report(), settings().data]


def judge_report(data: list, rng: Rng) -> Result:
    report, name = data
    why = mismatch(report, REPORT)
    if why:
        return failed(why)
    table = [row for row in freezing.read_table(name) if row["per_class"] == 20]
    for judge in (judge_protocol, judge_numbers, judge_winner):
        result = judge(report, table)
        if result.share < 1:
            return result
    return passed()


def judge_protocol(report: dict, table: list[dict]) -> Result:
    scores = report["scores"]
    known = {row["configuration"] for row in table} or set(freezing.LEARNS)
    if len(scores) != 2 or not scores.keys() <= known:
        return failed(f"`scores` should name two configurations of {sorted(known)}, but names {sorted(scores)}")
    if report["rates"].keys() != scores.keys():
        return failed(f"`rates` should name the same two configurations as `scores`, but names {sorted(report['rates'])}")
    first, second = (len(values) for values in scores.values())
    if first == second == 1:
        return failed("one run has no interval; three is the minimum")
    if first != second or not 3 <= first <= 10:
        return failed(f"{first} and {second} seeds; give both the same seeds, three to ten, in the same order")
    if report["opened"] != 1:
        return failed(
            f"the test box was opened {report['opened']} times for a configuration; the best of several looks is no test"
        )
    return passed()


def judge_numbers(report: dict, table: list[dict]) -> Result:
    """Do scores and rates agree with the shipped table, where there is one?"""
    best = freezing.best_rates(table)
    for name in report["scores"] if table else ():
        lr, mine = report["rates"][name], fmean(report["scores"][name])
        tried = {row["lr"] for row in table if row["configuration"] == name}
        vals = {rate: mean_val(table, name, rate) for rate in tried}
        if lr not in vals or vals[lr] < vals[best[name]] - 0.05:
            reached = f"reaches {vals[lr]:.2f} on val, {vals[best[name]]:.2f} can be had" if lr in vals else "was not tried"
            return failed(f"the rate {lr:g} for {name!r} {reached}")
        wanted = fmean(row["test"] for row in table if row["configuration"] == name and row["test"] is not None)
        if not abs(mine - wanted) < 0.08:
            return failed(
                f"your scores for {name!r} have the mean {mine:.2f}, the shipped ones {wanted:.2f}: are they test accuracies "
                "with 20 pictures per class, at the chosen rate?"
            )
    return passed()


def judge_winner(report: dict, table: list[dict]) -> Result:
    (first, a), (second, b) = report["scores"].items()
    low, high = sweeps.interval([x - y for x, y in zip(a, b, strict=True)])
    given = sorted(report["interval"])
    near = any(len(given) == 2 and abs(given[0] - x) + abs(given[1] - y) < 0.012 for x, y in ((low, high), (-high, -low)))
    if not near:
        return failed(
            f"from your scores the interval for {first!r} minus {second!r} goes from {low:.3f} to {high:.3f}, you give "
            f"{[round(value, 3) for value in report['interval']]}"
        )
    inside = f"your interval for the difference is {given[0]:.2f} to {given[1]:.2f}"
    right = first if low > 0 else second if high < 0 else VERDICTS[2]
    if report["winner"] not in (first, second, VERDICTS[2]):
        return failed(f"`winner` is one of {[first, second, VERDICTS[2]]}, not {report['winner']!r}")
    if report["winner"] != right and right == VERDICTS[2]:
        return failed(f"you name a winner, but {inside}: it contains 0")
    if report["winner"] != right:
        return failed(f"the winner does not fit the numbers: {inside}, and it does not contain 0")
    return passed()


def some_report(**changes: Any) -> dict:
    """A right report, but for `changes`."""
    right = {
        "scores": {"layer4 + head": [0.896, 0.926, 0.919], "all": [0.919, 0.919, 0.933]},
        "rates": {"layer4 + head": 0.03, "all": 0.01},
        "interval": [-0.048, 0.028],
        "winner": "not distinguishable",
        "opened": 1,
    }
    return right | changes


def wrong_winner() -> dict:
    return some_report(winner="all")


def wrong_one_seed() -> dict:
    return some_report(scores={"layer4 + head": [0.896], "all": [0.919]}, interval=[-0.023, -0.023], winner="all")


def wrong_opened() -> dict:
    return some_report(opened=12)


def wrong_two_standard_errors() -> dict:
    return some_report(interval=[-0.027, 0.007])


def wrong_five_per_class() -> dict:
    return some_report(scores={"layer4 + head": [0.71, 0.72, 0.70], "all": [0.72, 0.75, 0.71]})


def wrong_one_rate() -> dict:
    return some_report(rates={"layer4 + head": 0.03, "all": 0.1})


def right_with_a_winner() -> dict:
    scores = {"layer4 + head": [0.896, 0.926, 0.919], "head": [0.770, 0.759, 0.770]}
    return some_report(
        scores=scores, rates={"layer4 + head": 0.03, "head": 0.03}, interval=(0.096, 0.198), winner="layer4 + head"
    )


CHECKS = [
    Check(
        "06.1",
        "configure",
        "set up a configuration",
        probe_configure,
        judge_configure,
        [{"after": {str: Tensor}, "learning": int, "rates": [float]}],
        points=3,
    ),
    Check(
        "06.2",
        "choose_rates",
        "a rate for each",
        probe_rates,
        judge_rates,
        {"choice": {str: float}, "again": {str: float}},
        points=2,
    ),
    Check("06.3", "compare", "better, worse or not distinguishable", probe_compare, judge_compare, [str], points=3),
    Check("06.4", "report", "report what you measured", probe_report, judge_report, [Any], points=2),
]

WRONG = {
    "06.1": [
        (wrong_no_else, "the last assignment wins: 17 of 17 tensors learn"),
        (wrong_optimizer_first, "is free, but nobody updates it"),
        (wrong_statistics, "which switch stops statistics?"),
        (wrong_substring_stages, "compare whole names of parts"),
        (wrong_end, "moved in one step: which stages come first?"),
        (wrong_fixed_rate, "the optimizer runs at 0.01"),
    ],
    "06.2": [
        (wrong_on_test, "your choice changed when only the test column changed"),
        (wrong_single_run, "won by its luckiest seed; by the mean over seeds it is last"),
        (wrong_one_for_all, "have different best rates here"),
        (wrong_first_seed, "another rate reaches"),
    ],
    "06.3": [
        (wrong_means_only, "a winner in 200 of 200 pairs drawn from the same source"),
        (wrong_undecided, "missed a gap of five standard errors in 30 of 30 pairs"),
        (wrong_two_errors, "10 are to be expected"),
        (wrong_unpaired, "the same seed made both numbers of a pair"),
        (wrong_deviation, "the deviation of the differences over the root of their number"),
        (wrong_sign, "better or worse means the first"),
    ],
    "06.4": [
        (wrong_winner, "you name a winner, but your interval for the difference is -0.05 to 0.03"),
        (wrong_one_seed, "one run has no interval; three is the minimum"),
        (wrong_opened, "the test box was opened 12 times"),
        (wrong_two_standard_errors, "from your scores the interval"),
        (wrong_five_per_class, "are they test accuracies"),
        (wrong_one_rate, "the rate 0.1 for 'all' reaches"),
    ],
}

RIGHT = {
    "06.1": [right_children],
    "06.2": [right_sorted],
    "06.3": [right_interval, right_tensor],
    "06.4": [right_with_a_winner],
}
