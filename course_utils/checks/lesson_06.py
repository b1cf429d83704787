"""Checks of lesson 06, which layers should learn: configurations, a referee, differences, a whole protocol."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from statistics import fmean, stdev
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils.checks.spec import LOOK, Rng, beside, close, exercise, left_alone, look
from course_utils.experiments import freezing

# ---------------------------------------------------------------------------------------------- 06.1 configure

STAGES = (("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",))


def small_resnets(rng: Rng) -> Iterator[dict]:
    """For 0 to 5 frozen stages a network with a ResNet's names, as an earlier experiment left it, a rate, and two batches."""
    for frozen in (*rng.shuffled([1, 2, 3, 4]), 5, 0):
        with rng.torch():
            width = rng.integer(3, 6)
            model = nn.Sequential(convolution(3, width))
            for number in (1, 2, 3, 4):
                block = nn.Sequential(convolution(width, width))
                model.add_module(f"layer{number}", nn.Sequential(block, nn.Conv2d(width, width, 1, bias=False)))
            model.add_module("pool", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
            model.add_module("fc", nn.Linear(width, 3))
            batches = [(torch.randn(7, 3, 8, 8) * 2 + 1, torch.randint(3, (7,))) for _ in range(2)]
        for name, child in model.named_children():
            learns = name == "fc" or (frozen > 0 and rng.choice([True, False]))  # at 0 all but the head comes frozen
            child.requires_grad_(learns).train(learns)
        yield {"model": model, "frozen": frozen, "lr": rng.choice([0.02, 0.05, 0.1]), "batches": batches}


@beside
def convolution(inputs: int, width: int) -> OrderedDict:
    layer = nn.Conv2d(inputs, width, 3, padding=1, bias=False)
    return OrderedDict(conv1=layer, bn1=nn.BatchNorm2d(width), relu=nn.ReLU())


def ask_configure(configure: Any, case: dict) -> dict:
    model, before = case["model"], look(case["model"])
    try:
        optimizer = configure(model, case["frozen"], case["lr"])
    except ValueError as error:
        if any(parameter.requires_grad for parameter in model.parameters()):
            raise
        raise ValueError(f"with frozen={case['frozen']} your optimizer gets no parameters: is the head frozen, too?") from error
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"your function returns a {type(optimizer).__name__}; an optimizer is asked")
    after, rates = look(model), [float(group["lr"]) for group in optimizer.param_groups]
    return {"steps": two_steps(model, optimizer, case["batches"]), "rates": rates, "before": before, "after": after}


@beside
def two_steps(model: nn.Module, optimizer: Any, batches: list) -> list[dict[str, Tensor]]:
    """All tensors of `model` after each of two steps, in the modes it is in."""
    found = []
    for images, labels in batches:
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        if loss.requires_grad:
            loss.backward()
        optimizer.step()
        found.append({name: value.detach().clone() for name, value in model.state_dict().items()})
    return found


def rules_configure(said: dict, case: dict) -> Iterator[str]:
    model, frozen, lr = case["model"], case["frozen"], case["lr"]
    start, came = {name: value.clone() for name, value in model.state_dict().items()}, look(model)["learns"]
    still = [part for stage in STAGES[:frozen] for part in stage]
    for name, part in model.named_children():
        part.requires_grad_(name not in still).train(name not in still)
    right = two_steps(model, torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9), case["batches"])
    first, last = said["steps"]
    shapes = [[(name, value.shape) for name, value in state.items()] for state in (start, first, last)]
    if shapes != [shapes[0]] * 3:
        yield "the model came back with other tensors; freezing must not change its structure"
    moved = {name for name, value in start.items() if not torch.equal(last[name], value)}
    for name in came:
        yield from misplaced(name, moved, came, said["after"]["learns"], still, f"with frozen={frozen}")
    for name, part in ((name, name.partition(".")[0]) for name in start if name.endswith("running_mean")):
        if part in still and name in moved:
            yield f"{part} is frozen, and {name} moved: no gradient does that; which mode is that part in?"
        if part not in still and name not in moved:
            yield f"{part} learns, but the statistics of its batch norm stand still: which mode is that part in?"
    if not all(math.isclose(rate, lr) for rate in said["rates"]):
        yield f"asked for lr={lr:g}, your optimizer runs at {said['rates'][0]:g}"
    for number, mine, was, due in ((1, first, start, right[0]), (2, last, first, right[1])):
        if not all(close(mine[name], due[name]) for name in came):
            step, wanted = (float((after["fc.weight"] - was["fc.weight"]).abs().mean()) for after in (mine, due))
            why = ("is it plain SGD, and does nothing else pull?", "what should it remember of the first?")[number - 1]
            yield f"step {number} moves fc.weight by {step:.2g} on average; SGD with momentum 0.9 by {wanted:.2g}: {why}"
    yield from left_alone(said["before"], said["after"], but=("modes", "learns"))


def misplaced(name: str, moved: set[str], came: dict, learns: dict, still: list[str], asked: str) -> Iterator[str]:
    """Why the parameter `name` moved although frozen, or stood still although free."""
    part = name.partition(".")[0]
    siblings = [one for one in came if one.partition(".")[0] == part]
    if part in still and name in moved:
        if all(learns.get(one) for one in came):
            yield f"{asked}, {part} moved, and so did all the rest: in your code, which assignment comes last?"
        if part == "bn1":
            yield f"{asked}, bn1 moved; it belongs to the stem, so it is still when conv1 is"
        if len(still) > 2 and not any(one.startswith(f"{still[-1]}.") for one in moved):
            yield f"{asked}, {part} moved and {still[-1]} did not: freeze the first `frozen` stages, not only the last of them"
        yield f"{asked}, {name} moved: stages count from the picture on, and the stem is the first"
    if part not in still and name not in moved:
        if learns.get(name):
            yield f"{asked}, {part} may learn, but no optimizer knows it: build the optimizer from what learns at the end"
        if moved.intersection(siblings):
            yield f"{asked}, {name} stood still and the rest of {part} learnt: a word inside a name is not the name of a stage"
        if not any(came[one] for one in siblings):
            yield f"{asked}, {part} came frozen from an earlier experiment and stayed so: begin by letting everything learn"
        yield f"{asked}, {part} should learn and stood still: stages count from the picture on, and the head always learns"


# ------------------------------------------------------------------------------------------------ 06.2 referee

FAULTS = ("updates", "seeds", "rates", "edge", "test")


def tables(rng: Rng) -> Iterator[dict]:
    """Tables of runs, shuffled: fair ones, and others with a fault or two, in several ways; some runs are lucky."""
    hows: dict[str, tuple] = {
        "updates": (24, "whole", "balanced"),
        "seeds": ("others", "more", "fewer"),
        "test": ("too", "only", 0.0),
    }
    plans: list[tuple] = [([fault], how) for fault in ("updates", "seeds", "test") for how in hows[fault] * 3]
    plans += [([fault], None) for fault in ("rates", "edge", "none") for _ in range(4)] + [(["none"], "untested")] * 2
    doubles = (["updates", "test"], 24), (["seeds", "rates"], "others"), (["rates", "edge"], None), (["edge", "test"], "too")
    for plan, how in rng.shuffled([*plans, *doubles]):
        names = rng.shuffled(["head", "layer4 + head", "layer3–4 + head", "all"])[: rng.integer(2, 4)]
        rates = rng.choice([[0.003, 0.01, 0.03, 0.1], [0.001, 0.003, 0.01, 0.03, 0.1], [0.01, 0.03, 0.1, 0.3]])
        seeds, usual, more, bad = rng.shuffled(range(9))[:5], rng.choice([40, 48, 60]), rng.choice([3, 5]), rng.choice(names)
        rows = []
        for name in names:
            wrong = plan if name == bad else []
            tried = [*(rates[:1] + rates[2:] if "rates" in wrong else rates)]
            tried += rng.choice([[], [1.0]]) if "edge" not in wrong else []
            best = rng.choice([tried[0], tried[-1]] if "edge" in wrong else tried[1:-1])
            lucky, late = rng.shuffled([lr for lr in tried if lr != best])[:2]
            mine = {"others": [seed + 9 for seed in seeds], "fewer": [*seeds[:2], *seeds[:2]]}.get(how, seeds)
            mine = mine if "seeds" in wrong else seeds
            runs = {(lr, seed) for lr in tried for seed in mine[: more if lr == best and len(mine) == 5 else 3]}
            runs |= {(late, 20)} if "seeds" in wrong and how == "more" else set()
            for lr, seed in runs:
                val = {best: 0.8, lucky: 0.6}.get(lr, 0.7) + rng.integer(-9, 9) / 1000 + 0.3 * ((lr, seed) == (lucky, mine[1]))
                slip = "test" in wrong and lr == late and seed == mine[0]
                looked = how != "untested" and (slip or (lr == best and not ("test" in wrong and how == "only")))
                row = {"configuration": name, "lr": lr, "seed": seed, "val": round(val, 3), "updates": usual}
                if "updates" in wrong and (how == "whole" or lr == late or (how == "balanced" and lr == lucky)):
                    row["updates"] = usual + (24 if how == "whole" or lr == lucky else -24)
                rows.append({**row, "test": (0.0 if slip and how == 0.0 else val) if looked else None})
        yield {"rows": rng.shuffled(rows), "rates": rates}


def ask_referee(referee: Any, case: dict) -> dict:
    rows = [dict(row) for row in case["rows"]]
    said = referee(rows, list(case["rates"]))
    return {"returned": said, "kept": rows == case["rows"]}


def rules_referee(said: dict, case: dict) -> Iterator[str]:
    verdict, best = said["returned"], freezing.best_rates(case["rows"])
    broken = evidence(case["rows"], case["rates"], best)
    right = next((fault for fault in FAULTS if fault in broken), "fair")
    if verdict not in ("fair", *FAULTS):
        yield f"the verdict is 'fair' or one of {', '.join(map(repr, FAULTS))}, not {verdict!r}"
    if verdict in FAULTS and verdict not in broken:
        why = {
            "updates": f"every run made {case['rows'][0]['updates']} updates",
            "seeds": "each configuration has the same seeds, if you forget order and repetition; compare sets",
            "rates": "each configuration was tried at all rates of the list; more are allowed",
            "edge": f"the means on val choose {best}, and none is the first or last that its configuration tried",
            "test": f"the means on val choose {best}, and nobody tested at another rate",
        }
        yield f"you said {verdict!r}, but this table keeps that rule: {why[verdict]}"
    if verdict != right:
        yield f"you said {verdict!r}, but {broken[right]}" + "; name the first broken rule of the list" * (verdict in broken)
    if not said["kept"]:
        yield "the table came back changed; a referee reads and does not write"


def evidence(rows: list[dict], rates: list[float], best: dict[str, float]) -> dict[str, str]:
    """For each rule that is broken, where."""
    found: dict[str, str] = {}
    counts, everyone = {row["updates"] for row in rows}, sorted({row["seed"] for row in rows})
    if len(counts) > 1:
        found["updates"] = f"some runs made {min(counts)} updates and others {max(counts)}"
    for name in best:
        mine = [row for row in rows if row["configuration"] == name]
        tried, seeds = sorted({row["lr"] for row in mine}), sorted({row["seed"] for row in mine})
        if seeds != everyone:
            found["seeds"] = f"{name!r} has the seeds {seeds}, and all together have {everyone}"
        for lr in set(rates) - set(tried):
            found["rates"] = f"{name!r} was never tried at {lr:g}, which is on the list"
        if best[name] in (tried[0], tried[-1]):
            found["edge"] = f"for {name!r} the mean on val chooses {best[name]:g}, at the edge of its own list {tried}"
        for row in mine:
            if row["test"] is not None and row["lr"] != best[name]:
                found["test"] = f"{name!r} was tested at {row['lr']:g}, and its mean on val chooses {best[name]:g}"
    return found


# ------------------------------------------------------------------------------------------------ 06.3 compare

VERDICTS = ("better", "worse", "not distinguishable")
FACTORS = {3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571}


def pairs(rng: Rng) -> Iterator[dict]:
    """Scores by seed: the mean difference is chance, or a share of half an interval; what seeds do to both is "shared"."""
    plans = [("equal", 3, 0.0)] * 100 + [("few", 3, share) for share in (0.55, 0.6, 0.7)]
    plans += [("tight", 6, 0.7)] * 3 + [("crossed", n, 0.65) for n in (5, 6)] * 4
    kinds = (("gap", 1.9), ("shared", 1.9), ("over", 1.05), ("under", 0.95))
    for kind, n, share in plans + [(kind, n, share) for kind, share in kinds for n in (3, 4, 5, 6) for _ in range(4)]:
        with rng.torch():
            both, own = torch.randn(2, n, dtype=torch.float64)
        half = half_interval(own)
        if share or abs(abs(float(own.mean() / half)) - 1) < 0.06:  # by chance too near to the edge for a clear verdict
            own = own - own.mean() + rng.choice([-1, 1]) * share * half
        b = 0.7 + (own * -0.005 if kind == "crossed" else both * (0.05 if kind == "shared" else 0.001))
        yield {"kind": kind, "a": (b + own * 0.01).tolist(), "b": b.tolist()}


@beside
def half_interval(values: Tensor) -> Tensor:
    return {3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571}[len(values)] * values.std() / math.sqrt(len(values))


def ask_compare(compare: Any, case: dict) -> Any:
    return compare(list(case["a"]), list(case["b"]))


def judged(a: list[float], b: list[float]) -> tuple[str, str]:
    """The right verdict, and the interval in words."""
    gaps = [x - y for x, y in zip(a, b, strict=True)]
    half = FACTORS[len(gaps)] * stdev(gaps) / math.sqrt(len(gaps))
    low, high = fmean(gaps) - half, fmean(gaps) + half
    right = VERDICTS[0] if low > 0 else VERDICTS[1] if high < 0 else VERDICTS[2]
    return right, f"the interval of a − b goes from {low:.4f} to {high:.4f}"


def overall_compare(said: list[str], cases: list[dict]) -> Iterator[str]:
    yield from (f"the verdict is one of {VERDICTS}, not {one!r}" for one in said if one not in VERDICTS)
    found = [(one, *judged(case["a"], case["b"]), case) for one, case in zip(said, cases, strict=True)]
    kinds = [(case["kind"], one != VERDICTS[2]) for one, _, _, case in found]
    equal, gap, shared = kinds.count(("equal", True)), kinds.count(("gap", False)), kinds.count(("shared", False))
    winners = f"a winner in {equal} of 100 pairs that differ by chance alone, where about 5 are to be expected"
    if equal > 90:
        yield f"{winners}: two means are never quite the same; is there an interval, and is it built on the deviation?"
    for one, right, interval, _ in found:
        if VERDICTS[2] not in (one, right) and one != right:
            yield f"{interval}, and you said {one!r}: the verdict is about `a`"
    if gap == shared == 16:
        yield "you missed every gap, the largest ones too: how wide is your interval, and is there a way out of it?"
    if equal > 30:
        yield f"{winners}: your interval is far too narrow; the root of 3 is 1.73, what do you divide by?"
    if kinds.count(("tight", True)) == 3:
        yield f"{winners}: with 6 seeds, too, your interval is too narrow: what do you multiply and divide the deviation by?"
    if ("few", True) in kinds:
        yield f"{winners}: with 3 seeds an interval reaches further than two standard errors"
    if ("crossed", True) in kinds:
        yield "you found a winner where one list rises as the other falls: are the pairs of one seed still together?"
    if shared > gap + 3:
        yield f"you missed {shared} of 16 gaps where seeds move both lists: same seed, same luck, so use the differences"
    if gap:
        yield f"you missed {gap} of 16 large gaps: half an interval is the factor times the deviation over the root of n"
    for one, _, interval, case in sorted(found, key=lambda one: one[3]["kind"]):
        n = len(case["a"])
        if (case["kind"], one) == ("over", VERDICTS[2]):
            why = "is the root of 3 what you divide by?" if n == 3 else f"with {n} seeds the factor is {FACTORS[n]:.2f}"
            yield f"{interval}, and you cannot tell: {why}"
        if case["kind"] == "under" and one != VERDICTS[2]:
            yield f"{interval}, and you said {one!r}: does your deviation divide by n, or by n − 1?"


def rules_compare(said: str, case: dict) -> Iterator[str]:
    right, interval = judged(case["a"], case["b"])
    if said != right:
        yield f"{interval}, and you said {said!r}"


# ------------------------------------------------------------------------------------------- 06.4 run_protocol


def stand_ins(rng: Rng) -> Iterator[dict]:
    """(val, test) of all runs: on val each rate has the best mean, run, median or minimum; on test a planted difference."""
    for share, n in rng.shuffled([(share, n) for share in (1.12, -1.12, 0.85, -0.85) for n in (3, 4, 5)]):
        rates = rng.choice([[0.003, 0.01, 0.03, 0.1], [0.01, 0.03, 0.1, 0.3]])
        seeds, bests, runs = rng.shuffled(range(20))[:n], rng.shuffled(rates), {}
        drawn = torch.tensor(rng.shuffled([0.01, -0.012, 0.004, -0.003, 0.008])[:n], dtype=torch.float64)
        gaps = (drawn - drawn.mean() + share * half_interval(drawn)).tolist()
        for name, best in zip("ab", bests, strict=False):
            lucky, firm, steady = rng.shuffled([lr for lr in rates if lr != best])
            tempting, early = rng.choice([lucky, firm, steady]), rng.choice([0, 1])
            for place, seed in enumerate(seeds):
                vals = {lucky: 0.9 if place == 1 else 0.55, steady: 0.698, best: 0.704 + 0.03 * (1 - n * (place == early))}
                vals[firm] = 0.74 - 0.08 * n * (place == n - 1)
                for lr in rates:
                    test = 0.65 + 0.004 * (seed % 7) + 0.1 * (lr == tempting) + gaps[place] * (name == "a")
                    runs[name, lr, seed] = (vals[lr] + rng.integer(-5, 5) / 10000, test)
        yield {"rates": rates, "seeds": seeds, "runs": runs}


def ask_protocol(run_protocol: Any, case: dict) -> dict:
    calls: list = []

    def train(name: str, lr: float, seed: int) -> nn.Module:
        network: Any = nn.Identity()
        network.run = (str(name), float(lr), int(seed))
        if network.run not in case["runs"]:
            raise ValueError(f"train takes 'a' or 'b', one of the rates and one of the seeds, not {network.run}")
        return network

    def val(network: Any) -> float:
        calls.append(["val", *network.run])
        return case["runs"][network.run][0]

    def open_test(network: Any) -> float:
        calls.append(["test", *network.run])
        return case["runs"][network.run][1]

    said = run_protocol(train, val, open_test, list(case["rates"]), list(case["seeds"]))
    return {"returned": said, "calls": calls}


def rules_protocol(said: dict, case: dict) -> Iterator[str]:
    runs, rates, seeds = case["runs"], case["rates"], case["seeds"]
    given, verdict = said["returned"]["rates"], said["returned"]["verdict"]
    means = {name: {lr: fmean(runs[name, lr, seed][0] for seed in seeds) for lr in rates} for name in "ab"}
    best = {name: max(rates, key=means[name].__getitem__) for name in "ab"}
    kinds, opened = [kind for kind, *_ in said["calls"]], [run for kind, *run in said["calls"] if kind == "test"]
    asked = {tuple(run) for kind, *run in said["calls"] if kind == "val"}
    if not opened:
        yield "the box was never opened: the verdict is about test accuracy"
    for name in "ab":
        mine = [(lr, seed) for who, lr, seed in opened if who == name]
        if len({lr for lr, _ in mine}) > 1:
            yield f"for {name!r} the box was opened at {len({lr for lr, _ in mine})} rates: val chooses, test is for the end"
        if len(mine) > len(set(mine)):
            yield f"for {name!r} the box was opened {len(mine)} times, for {len(set(mine))} runs: keep what it said"
    if asked and "test" in kinds[: len(kinds) - kinds[::-1].index("val")]:
        yield "the box was open before your last look at val: choose both rates first"
    if len(asked) < len(runs):
        yield f"val was asked about {len(asked)} of {len(runs)} runs: both configurations, every rate, every seed"
    if given.keys() != best.keys():
        yield f"`rates` has a rate for 'a' and one for 'b', yours has {sorted(given)}"
    if given["a"] == given["b"] and given["a"] in best.values():
        yield f"you take {given['a']:g} for both; by the means on val {best['a']:g} is best for 'a', {best['b']:g} for 'b'"
    for name, lr in given.items():
        if lr != best[name]:
            top, mean = max(runs.get((name, lr, seed), (0, 0))[0] for seed in seeds), means[name].get(lr, 0)
            yield f"rate {lr:g} for {name!r}: its best run has {top:.3f} on val, its mean is {mean:.3f}; another mean is higher"
    for name in "ab":
        tested = sorted(seed for who, lr, seed in opened if (who, lr) == (name, best[name]))
        if tested != sorted(seeds):
            yield f"{name!r} was tested with the seeds {tested}, of {sorted(seeds)}: test every seed, for pairs of equal luck"
    right, interval = judged(*([runs[name, best[name], seed][1] for seed in seeds] for name in "ab"))
    if verdict != right:
        about = ": the verdict is about 'a'" if VERDICTS[2] not in (verdict, right) else ""
        about = about if verdict in VERDICTS else f"; the verdict is one of {VERDICTS}"
        yield f"on test, with {len(seeds)} seeds, {interval}, and you said {verdict!r}{about}"


STEPS = {"steps": ({str: Tensor}, {str: Tensor}), "rates": [float], "before": LOOK, "after": LOOK}
SAID = {"returned": {"rates": {str: float}, "verdict": str}, "calls": [(str, str, float, int)]}
CHECKS = [
    exercise("06.1", "configure", "set up stages", small_resnets, ask_configure, rules_configure, seen=STEPS, points=3),
    exercise("06.2", "referee", "fair?", tables, ask_referee, rules_referee, seen={"returned": str, "kept": bool}, points=2),
    exercise("06.3", "compare", "better?", pairs, ask_compare, rules_compare, seen=str, overall=overall_compare, points=3),
    exercise("06.4", "run_protocol", "a whole comparison", stand_ins, ask_protocol, rules_protocol, seen=SAID, points=3),
]
