"""Checks of lesson 06, which layers should learn: configurations, a referee, differences, a whole protocol."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock

from course_utils import sweeps
from course_utils.checks.spec import LOOK, Rng, beside, close, exercise, left_alone, look
from course_utils.experiments import freezing

# ---------------------------------------------------------------------------------------------- 06.1 configure


def small_resnets(rng: Rng) -> Iterator[dict]:
    """For 0 to 5 frozen stages a network with a ResNet's names, as an earlier experiment left it, a rate, and two batches."""
    for frozen in (*rng.shuffled([1, 2, 3, 4]), 5, 0):
        with rng.torch():
            width = rng.integer(3, 6)
            parts = {"conv1": nn.Conv2d(3, width, 3, bias=False), "bn1": nn.BatchNorm2d(width), "relu": nn.ReLU()}
            parts |= {f"layer{number}": BasicBlock(width, width) for number in (1, 2, 3, 4)}
            parts |= {"avgpool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "fc": nn.Linear(width, 3)}
            model = nn.Sequential(OrderedDict(parts)).double()  # so that the least decay of weights is seen
            batches = [(torch.randn(7, 3, 8, 8).double() * 2 + 1, torch.randint(3, (7,))) for _ in range(2)]
        for name, part in parts.items():
            learns = name == "fc" or (frozen > 0 and rng.choice([True, False]))  # at 0 all but the head comes frozen
            part.requires_grad_(learns).train(learns)
        yield {"model": model, "frozen": frozen, "lr": rng.choice([0.02, 0.05, 0.1]), "batches": batches}


def ask_configure(configure: Any, case: dict) -> dict:
    model, before = case["model"], look(case["model"])
    optimizer = configure(model, case["frozen"], case["lr"])
    mine = {id(parameter) for group in getattr(optimizer, "param_groups", []) for parameter in group["params"]}
    held = [name for name, parameter in model.named_parameters() if id(parameter) in mine]
    found = {"returned": type(optimizer).__name__, "held": held, "before": before, "after": look(model)}
    real = isinstance(optimizer, torch.optim.Optimizer)
    return found | {"states": two_steps(model, optimizer, case["batches"]) if real else []}


@beside
def two_steps(model: nn.Module, optimizer: Any, batches: list) -> list[dict[str, Tensor]]:
    """All tensors of `model` before, between and after two steps, in the modes it is in."""
    states = [{name: value.clone() for name, value in model.state_dict().items()}]
    for images, labels in batches:
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        if loss.requires_grad:
            loss.backward()
        optimizer.step()
        states.append({name: value.clone() for name, value in model.state_dict().items()})
    return states


def rules_configure(said: dict, case: dict) -> Iterator[str]:
    model, frozen, lr, states = case["model"], case["frozen"], case["lr"], said["states"]
    came, learns = look(model)["learns"], said["after"]["learns"]
    still = ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"][: frozen and frozen + 1]  # the stem is two parts
    for name, part in model.named_children():
        part.requires_grad_(name not in still).train(name not in still)
    right = two_steps(model, torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9), case["batches"])
    if not states:
        yield f"you return {'None' if said['returned'] == 'NoneType' else 'a ' + said['returned']}; return the optimizer"
    if [state.keys() for state in states] != [state.keys() for state in right]:
        yield "the model came back with other tensors; freezing must not change its structure"
    moved, due = ({name for name in right[0] if not torch.equal(run[0][name], run[2][name])} for run in (states, right))
    asked = ", ".join(still) or "nothing"
    learnt = list(dict.fromkeys(name.partition(".")[0] for name in came if name in moved))
    for name in (name for name in right[0] if (name in moved) != (name in due)):
        part, found = name.partition(".")[0], f"with frozen={frozen}, {name} {'moved' if name in moved else 'stood still'}"
        if name not in came:
            yield f"{found}: no gradient moves the statistics of a batch norm; which mode is {part} in?"
        if name in due and learns.get(name):
            yield f"{found}; it may learn, but no optimizer knows it: build the optimizer from what learns at the end"
        if name in due and part in learnt:
            yield f"{found}, and the rest of {part} learnt: a word inside a name is not the name of a stage"
        if name in due and not came[name]:
            yield f"{found}; it came frozen from an earlier experiment: let everything learn, then freeze {asked} only"
        yield f"{found}: {asked} should stand still and the rest learn; yours moves {', '.join(learnt)}"
    for number, why in ((1, "one rate for all, and no other pull"), (2, "what should it remember of the first?")):
        for name in (name for name in came if not close(states[number][name], right[number][name], 1e-7)):
            step, wanted = ((run[number][name] - run[number - 1][name]).abs().mean() for run in (states, right))
            yield f"step {number} moves {name} by {step:.8f}, and SGD with lr={lr:g} and momentum 0.9 by {wanted:.8f}: {why}"
    if idle := [name for name in said["held"] if name not in due]:
        yield f"the optimizer also holds {idle[0]}, which is frozen: give it what learns, and nothing else"
    yield from left_alone(said["before"], said["after"], but=("modes", "learns"))


# ------------------------------------------------------------------------------------------------ 06.2 referee

RULES = {  # in their order, and what it means that a table keeps one
    "updates": "every run made the same number of updates",
    "seeds": "each configuration has the same seeds: take those of all its rates together, and compare sets",
    "rates": "each configuration was tried at all rates of the list; more are allowed",
    "edge": "the means on val choose {best}, and none is the first or last that its configuration tried",
    "test": "the means on val choose {best}, and nobody tested at another rate",
}


def tables(rng: Rng) -> Iterator[dict]:
    """Tables of runs, shuffled: fair ones, and others in which one configuration has a slip or two; some runs are lucky."""
    slips = ["more updates", "unequal updates", "other seeds", "more seeds", "rates", "edge", "test", "untested"]
    for has in [["fair"]] * 8 + [[one, other] for place, one in enumerate(slips) for other in slips[place:]]:
        names = rng.shuffled(["head", "layer4 + head", "layer3–4 + head", "all"])[: rng.integer(2, 4)]
        rates = rng.choice([[0.003, 0.01, 0.03, 0.1], [0.001, 0.003, 0.01, 0.03, 0.1], [0.01, 0.03, 0.1, 0.3]])
        everyone, usual, more, bad = rng.shuffled(range(9))[:5], rng.choice([40, 48, 60]), rng.choice([3, 5]), rng.choice(names)
        rows = []
        for name in names:
            mine = has if name == bad else []
            tried = [lr for lr in rates if lr != rates[1] or "rates" not in mine]
            tried += rng.choice([[], [1.0]]) if "edge" not in mine else []
            best = rng.choice([tried[0], tried[-1]] if "edge" in mine else tried[1:-1])
            lucky, late = rng.shuffled([lr for lr in tried if lr != best])[:2]
            seeds = [seed + 9 for seed in everyone] if "other seeds" in mine else everyone
            runs = {(lr, seed) for lr in tried for seed in seeds[: more if lr == best else 3]}
            runs |= {(late, 20)} if "more seeds" in mine else set()
            for lr, seed in runs:
                val = {best: 0.8, lucky: 0.6}.get(lr, 0.7) + rng.integer(-9, 9) / 1000 + 0.3 * ((lr, seed) == (lucky, seeds[1]))
                extra = ("more updates" in mine) + ("unequal updates" in mine) * ((lr == lucky) - (lr == late))
                row = {"configuration": name, "lr": lr, "seed": seed, "updates": usual + 24 * extra, "val": round(val, 3)}
                slip = "test" in mine and (lr, seed) == (late, seeds[0])
                looked = slip or (lr == best and "untested" not in mine)
                rows.append(row | {"test": None if not looked else 0.0 if slip else val})
        yield {"rows": rng.shuffled(rows), "rates": rates}


def ask_referee(referee: Any, case: dict) -> dict:
    rows = [dict(row) for row in case["rows"]]
    return {"returned": referee(rows, list(case["rates"])), "kept": rows == case["rows"]}


def rules_referee(said: dict, case: dict) -> Iterator[str]:
    verdict, best = said["returned"], freezing.best_rates(case["rows"])
    broken = evidence(case["rows"], case["rates"], best)
    right = next((rule for rule in RULES if rule in broken), "fair")
    if verdict not in ("fair", *RULES):
        yield f"the verdict is 'fair' or one of {', '.join(map(repr, RULES))}, not {verdict!r}"
    if verdict in RULES and verdict not in broken:
        yield f"you said {verdict!r}, but this table keeps that rule: {RULES[verdict].format(best=best)}"
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
    for name, chosen in best.items():
        mine = [row for row in rows if row["configuration"] == name]
        tried, seeds = sorted({row["lr"] for row in mine}), sorted({row["seed"] for row in mine})
        if seeds != everyone:
            found["seeds"] = f"{name!r} has the seeds {seeds}, and all together have {everyone}"
        if missing := set(rates) - set(tried):
            found["rates"] = f"{name!r} was never tried at {min(missing):g}, which is on the list"
        if chosen in (tried[0], tried[-1]):
            found["edge"] = f"for {name!r} the mean on val chooses {chosen:g}, at the edge of its own list {tried}"
        if elsewhere := {row["lr"] for row in mine if row["test"] is not None} - {chosen}:
            found["test"] = f"{name!r} was tested at {min(elsewhere):g}, and its mean on val chooses {chosen:g}"
    return found


# ------------------------------------------------------------------------------------------------ 06.3 compare

VERDICTS = ("better", "worse", "not distinguishable")


def pairs(rng: Rng) -> Iterator[dict]:
    """Scores by seed: the mean difference is chance, or a share of half an interval; what seeds do to both is "shared"."""
    kinds = {"narrow": 0.6, "crossed": 0.65, "gap": 1.9, "shared": 1.9, "over": 1.05, "under": 0.95}
    plans = [(kind, n, share) for kind, share in kinds.items() for n in (3, 4, 5, 6) * 4]
    for kind, n, share in [("equal", 3, 0.0)] * 100 + plans:
        with rng.torch():
            both, own = torch.randn(2, n, dtype=torch.float64)
        low, high = sweeps.interval(own.tolist())
        if share or min(abs(low), abs(high)) < 0.03 * (high - low):  # by chance too near to the edge for a clear verdict
            own += rng.choice([-1, 1]) * share * (high - low) / 2 - own.mean()
        b = 0.7 + (own * -0.005 if kind == "crossed" else both * (0.05 if kind == "shared" else 0.0001))
        yield {"kind": kind, "a": (b + own * 0.01).tolist(), "b": b.tolist()}


def ask_compare(compare: Any, case: dict) -> Any:
    return compare(list(case["a"]), list(case["b"]))


def overall_compare(said: list[str], cases: list[dict]) -> Iterator[str]:
    won = [case["kind"] for one, case in zip(said, cases, strict=True) if one in VERDICTS[:2]]
    lost = [case["kind"] for one, case in zip(said, cases, strict=True) if one == VERDICTS[2]]
    equal, gap, shared = won.count("equal"), lost.count("gap"), lost.count("shared")
    half = "half of it is the factor times the deviation over the root of n"
    if "narrow" in won:
        winners = f"a winner in {equal} of 100 pairs that differ by chance alone, where about 5 are to be expected"
        yield f"{winners}: your interval is too narrow, if there is one; {half}"
    if "crossed" in won:
        yield "you found a winner where one list rises as the other falls: are the pairs of one seed still together?"
    if shared > gap + 3:
        yield f"you missed {shared} of 16 gaps where seeds move both lists: same seed, same luck, so use the differences"
    never = [verdict for verdict in VERDICTS[:2] if verdict not in said]
    if gap:
        why = f"you never said {never[0]!r}" if len(never) == 1 else "your interval is too wide, or nothing gets out of it"
        yield f"you missed {gap} of 16 large gaps: {why}; {half}"


def rules_compare(said: str, case: dict) -> Iterator[str]:
    n = len(case["a"])
    low, high = sweeps.interval([x - y for x, y in zip(case["a"], case["b"], strict=True)])
    right = VERDICTS[0] if low > 0 else VERDICTS[1] if high < 0 else VERDICTS[2]
    found = f"with {n} seeds the interval of a − b goes from {low:.4f} to {high:.4f}, and you said {said!r}"
    if said not in VERDICTS:
        yield f"the verdict is one of {VERDICTS}, not {said!r}"
    if said != right and VERDICTS[2] not in (said, right):
        yield f"{found}: the verdict is about `a`"
    if said != right:
        yield f"{found}: differences of one seed, the factor of {n} seeds, the deviation with n − 1, divided by the root of {n}"


# ------------------------------------------------------------------------------------------- 06.4 run_protocol


def stand_ins(rng: Rng) -> Iterator[dict]:
    """The scores of all runs: on val each rate has the best mean, run, median or minimum; on test a planted difference."""
    for share, n in rng.shuffled([(share, n) for share in (1.12, -1.12, 0.85, -0.85) for n in (3, 4, 5)]):
        rates = rng.choice([[0.003, 0.01, 0.03, 0.1], [0.01, 0.03, 0.1, 0.3]])
        seeds, bests, runs = rng.shuffled(range(20))[:n], rng.shuffled(rates), {}
        drawn = torch.tensor(rng.shuffled([0.01, -0.012, 0.004, -0.003, 0.008])[:n], dtype=torch.float64)
        low, high = sweeps.interval(drawn.tolist())
        gaps = (drawn - drawn.mean() + share * (high - low) / 2).tolist()
        for name, best in zip("ab", bests, strict=False):
            lucky, firm, steady = rng.shuffled([lr for lr in rates if lr != best])
            tempting, early = rng.choice([lucky, firm, steady]), rng.choice([0, 1])
            for place, seed in enumerate(seeds):
                vals = {lucky: 0.9 if place == 1 else 0.55, steady: 0.698, best: 0.704 + 0.03 * (1 - n * (place == early))}
                vals[firm] = 0.74 - 0.08 * n * (place == n - 1)
                for lr in rates:
                    test = 0.65 + 0.004 * (seed % 7) + 0.1 * (lr == tempting) + gaps[place] * (name == "a")
                    runs[name, lr, seed] = {"val": vals[lr] + rng.integer(-5, 5) / 10000, "test": test}
        yield {"rates": rates, "seeds": seeds, "runs": runs}


def ask_protocol(run_protocol: Any, case: dict) -> dict:
    calls: list = []

    def train(name: str, lr: float, seed: int) -> nn.Module:
        model: Any = nn.Identity()
        model.run = (str(name), float(lr), int(seed))
        if model.run not in case["runs"]:
            raise ValueError(f"you trained {model.run}, but the rates are {case['rates']} and the seeds {case['seeds']}")
        model.scores = case["runs"][model.run]
        return model

    def score(split: str, model: Any) -> float:
        calls.append([split, *model.run])
        return model.scores[split]

    val, open_test = (lambda model: score("val", model)), (lambda model: score("test", model))
    return {"returned": run_protocol(train, val, open_test, list(case["rates"]), list(case["seeds"])), "calls": calls}


def rules_protocol(said: dict, case: dict) -> Iterator[str]:
    runs, rates, seeds, given = case["runs"], case["rates"], sorted(case["seeds"]), said["returned"]["rates"]
    means = {name: {lr: fmean(runs[name, lr, seed]["val"] for seed in seeds) for lr in rates} for name in "ab"}
    splits, asked = [split for split, *_ in said["calls"]], {tuple(run) for split, *run in said["calls"] if split == "val"}
    if given.keys() != means.keys():
        yield f"`rates` has a rate for 'a' and one for 'b', yours has {sorted(given)}"
    for name in "ab":
        opened = sorted(run for split, who, *run in said["calls"] if (split, who) == ("test", name))
        if opened != [[given[name], seed] for seed in seeds]:
            at, by = sorted({lr for lr, _ in opened}), sorted({seed for _, seed in opened})
            found = f"for {name!r} you opened the box at the rates {at} with the seeds {by}, {len(opened)} times in all"
            yield f"{found}: val chooses one rate; then test each of the seeds {seeds} at it once, for pairs of equal luck"
    if splits != sorted(splits, reverse=True):
        yield "the box was open before your last look at val: choose both rates first"
    if len(asked) < len(runs):
        yield f"val was asked about {len(asked)} of {len(runs)} runs: both configurations, every rate, every seed"
    for name, lr in given.items():
        mean, top = means[name][lr], max(runs[name, lr, seed]["val"] for seed in seeds)
        if mean < max(means[name].values()):
            yield f"rate {lr:g} for {name!r}: its best run has {top:.3f} on val, its mean is {mean:.3f}; another mean is higher"
    tests = {name: [runs[name, lr, seed]["test"] for seed in seeds] for name, lr in given.items()}
    yield from rules_compare(said["returned"]["verdict"], tests)


SEEN = {"returned": str, "held": [str], "before": LOOK, "after": LOOK, "states": [{str: Tensor}]}
SAID = {"returned": {"rates": {str: float}, "verdict": str}, "calls": [(str, str, float, int)]}
CHECKS = [
    exercise("06.1", "configure", "set up stages", small_resnets, ask_configure, rules_configure, seen=SEEN, points=3),
    exercise("06.2", "referee", "fair?", tables, ask_referee, rules_referee, seen={"returned": str, "kept": bool}, points=2),
    exercise("06.3", "compare", "better?", pairs, ask_compare, rules_compare, seen=str, overall=overall_compare, points=3),
    exercise("06.4", "run_protocol", "a whole comparison", stand_ins, ask_protocol, rules_protocol, seen=SAID, points=3),
]
