"""Answers to lesson 06, which layers should learn."""

from __future__ import annotations

import math
from collections import namedtuple
from statistics import fmean, mean, median, stdev

import numpy as np
import torch
from torch import nn

from course_utils import freeze, sweeps, train_mode, unfreeze
from course_utils.experiments import freezing

# ---------------------------------------------------------------------------------------------- 06.1 configure

STAGES = [("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",)]


def sgd(model, lr, **options):
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr, **{"momentum": 0.9, **options})


def wrong_no_else(model: nn.Module, frozen: int, lr: float):
    still = [part for stage in STAGES[:frozen] for part in stage]
    for name, part in model.named_children():
        if name in still:
            freeze(part)
        part.requires_grad_(True)
    train_mode(model)
    return sgd(model, lr)


def wrong_optimizer_first(model: nn.Module, frozen: int, lr: float):
    optimizer = sgd(model, lr)
    right_children(model, frozen, lr)
    return optimizer


def wrong_word_in_name(model: nn.Module, frozen: int, lr: float):
    unfreeze(model)
    still = [part for stage in STAGES[:frozen] for part in stage]
    for name, parameter in model.named_parameters():
        parameter.requires_grad = not any(part in name for part in still)
    train_mode(model)
    return sgd(model, lr)


def wrong_stem_is_conv1(model: nn.Module, frozen: int, lr: float):
    unfreeze(model)
    for part in ("conv1", "layer1", "layer2", "layer3", "layer4")[:frozen]:
        freeze(model.get_submodule(part))
    train_mode(model)
    return sgd(model, lr)


def wrong_end(model: nn.Module, frozen: int, lr: float):
    freeze(model)
    for stage in (*STAGES[:frozen], ("fc",)):
        for part in stage:
            unfreeze(model.get_submodule(part))
    train_mode(model)
    return sgd(model, lr)


def wrong_head_too(model: nn.Module, frozen: int, lr: float):
    unfreeze(model)
    for part in list(model.children())[: frozen + 2]:  # whatever comes first
        freeze(part)
    freeze(model.fc)
    train_mode(model)
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)


def wrong_only_the_last(model: nn.Module, frozen: int, lr: float):
    unfreeze(model)
    for part in STAGES[frozen - 1] if frozen else ():
        freeze(model.get_submodule(part))
    train_mode(model)
    return sgd(model, lr)


def wrong_no_head(model: nn.Module, frozen: int, lr: float):
    freeze(model)
    for part in [part for stage in STAGES[frozen:] for part in stage]:
        unfreeze(model.get_submodule(part))
    train_mode(model)
    return sgd(model, lr)


def wrong_new_model(model: nn.Module, frozen: int, lr: float):
    model.bn1 = nn.Identity()
    return right_children(model, frozen, lr)


def wrong_all_held_early(model: nn.Module, frozen: int, lr: float):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    right_children(model, frozen, lr)
    return optimizer


def wrong_backbone_slower(model: nn.Module, frozen: int, lr: float):
    right_children(model, frozen, lr)
    back = [p for name, p in model.named_parameters() if p.requires_grad and not name.startswith("fc")]
    groups = [{"params": model.fc.parameters()}, *([{"params": back, "lr": lr / 10}] if back else [])]
    return torch.optim.SGD(groups, lr=lr, momentum=0.9)


def wrong_no_return(model: nn.Module, frozen: int, lr: float):
    right_children(model, frozen, lr)


def right_children(model: nn.Module, frozen: int, lr: float):
    learning = []
    for name, part in model.named_children():
        number = next((i for i, stage in enumerate(STAGES) if name in stage), len(STAGES))
        part.train(number >= frozen).requires_grad_(number >= frozen)
        learning += list(part.parameters()) if number >= frozen else []
    return torch.optim.SGD(learning, lr=lr, momentum=0.9)


def right_groups(model: nn.Module, frozen: int, lr: float):
    still = [part for stage in STAGES[:frozen] for part in stage]
    model.train()
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.split(".")[0] not in still
    for part in still:
        getattr(model, part).eval()
    groups = [{"params": list(part.parameters()), "lr": lr} for name, part in model.named_children() if name not in still]
    return torch.optim.SGD([group for group in groups if group["params"]], lr=1.0, momentum=0.9)


# ------------------------------------------------------------------------------------------------ 06.2 referee


def grouped(rows):
    runs = {}
    for row in rows:
        runs.setdefault(row["configuration"], []).append(row)
    return runs


def some_referee(rows, rates, skip="", best=None, seeds=None, edge=None, test=None, runs=None):
    """A right one, but for what is given."""
    runs = runs or grouped(rows)
    best = best or freezing.best_rates(rows)
    if skip != "updates" and len({row["updates"] for row in rows}) > 1:
        return "updates"
    if skip != "seeds" and (seeds(runs) if seeds else len({frozenset(r["seed"] for r in mine) for mine in runs.values()}) > 1):
        return "seeds"
    if skip != "rates" and any(set(rates) - {row["lr"] for row in mine} for mine in runs.values()):
        return "rates"
    ends = {name: (min(row["lr"] for row in mine), max(row["lr"] for row in mine)) for name, mine in runs.items()}
    if skip != "edge" and any(best[name] in (edge or ends[name]) for name in runs):
        return "edge"
    looked = [row for mine in runs.values() for row in mine if row["test"] is not None]
    if skip != "test" and (test(runs) if test else any(row["lr"] != best[row["configuration"]] for row in looked)):
        return "test"
    return "fair"


def wrong_counts_seeds(rows, rates):
    return some_referee(rows, rates, seeds=lambda runs: len({len({r["seed"] for r in mine}) for mine in runs.values()}) > 1)


def wrong_lists_of_seeds(rows, rates):
    def differ(runs):
        orders = [list(dict.fromkeys(row["seed"] for row in mine)) for mine in runs.values()]
        return any(one != orders[0] for one in orders)

    return some_referee(rows, rates, seeds=differ)


def wrong_first_configuration(rows, rates):
    runs = grouped(rows)
    first = sorted(runs)[0]
    return some_referee(runs[first], rates)


def wrong_luckiest(rows, rates):
    best = {name: max(mine, key=lambda row: row["val"])["lr"] for name, mine in grouped(rows).items()}
    return some_referee(rows, rates, best=best)


def wrong_updates_within(rows, rates):
    unequal = any(len({row["updates"] for row in mine}) > 1 for mine in grouped(rows).values())
    return "updates" if unequal else some_referee(rows, rates, skip="updates")


def wrong_mean_updates(rows, rates):
    unequal = len({fmean(row["updates"] for row in mine) for mine in grouped(rows).values()}) > 1
    return "updates" if unequal else some_referee(rows, rates, skip="updates")


def wrong_48(rows, rates):
    return "updates" if any(row["updates"] != 48 for row in rows) else some_referee(rows, rates, skip="updates")


def of(mine):
    return {row["seed"] for row in mine}


def wrong_seeds_below(rows, rates):
    return some_referee(
        rows, rates, seeds=lambda runs: not all(of(mine) <= of(next(iter(runs.values()))) for mine in runs.values())
    )


def wrong_seeds_above(rows, rates):
    return some_referee(
        rows, rates, seeds=lambda runs: not all(of(mine) >= of(next(iter(runs.values()))) for mine in runs.values())
    )


def wrong_seeds_where_chosen(rows, rates):
    best = freezing.best_rates(rows)

    def differ(runs):
        return len({frozenset(of(r for r in mine if r["lr"] == best[name])) for name, mine in runs.items()}) > 1

    return some_referee(rows, rates, seeds=differ)


def wrong_seeds_by_rate(rows, rates):
    def differ(runs):
        return (
            len({frozenset(of(r for r in mine if r["lr"] == lr)) for mine in runs.values() for lr in {r["lr"] for r in mine}})
            > 1
        )

    return some_referee(rows, rates, seeds=differ)


def wrong_repeated_seeds(rows, rates):
    return some_referee(
        rows, rates, seeds=lambda runs: len({tuple(sorted(r["seed"] for r in mine)) for mine in runs.values()}) > 1
    )


def wrong_must_be_tested(rows, rates):
    best = freezing.best_rates(rows)
    return some_referee(
        rows, rates, test=lambda runs: any((r["test"] is not None) != (r["lr"] == best[r["configuration"]]) for r in rows)
    )


def wrong_zero_is_none(rows, rates):
    best = freezing.best_rates(rows)
    return some_referee(rows, rates, test=lambda runs: any(r["test"] and r["lr"] != best[r["configuration"]] for r in rows))


def wrong_tested_rates(rows, rates):
    """One rate was tested, whichever."""

    def many(runs):
        return any(len({r["lr"] for r in mine if r["test"] is not None}) > 1 for mine in runs.values())

    return some_referee(rows, rates, test=many)


def wrong_edge_of_the_table(rows, rates):
    lrs = [row["lr"] for row in rows]
    return some_referee(rows, rates, edge=(min(lrs), max(lrs)))


def wrong_edge_of_the_list(rows, rates):
    return some_referee(rows, rates, edge=(rates[0], rates[-1]))


def wrong_counts_openings(rows, rates):
    def many(runs):
        return any(sum(r["test"] is not None for r in mine) > len({r["seed"] for r in mine}) + 1 for mine in runs.values())

    return some_referee(rows, rates, test=many)


def wrong_any_opening(rows, rates):
    return some_referee(rows, rates, test=lambda runs: any(row["test"] for mine in runs.values() for row in mine))


def wrong_same_rates(rows, rates):
    if any({row["lr"] for row in mine} != set(rates) for mine in grouped(rows).values()):
        return "rates"
    return some_referee(rows, rates)


def wrong_everything_unfair(rows, rates):
    return "test"


def wrong_everything_fair(rows, rates):
    return "fair"


def wrong_other_order(rows, rates):
    found = some_referee(rows, rates, skip="updates")
    return found if found != "fair" else some_referee(rows, rates)


def wrong_true(rows, rates):
    return some_referee(rows, rates) == "fair"


def wrong_capital(rows, rates):
    return some_referee(rows, rates).title()


def wrong_eats_the_table(rows, rates):
    verdict = some_referee(rows, rates)
    rows.clear()
    return verdict


def right_ifs(rows, rates):
    return some_referee(rows, rates)


def right_arrays(rows, rates):
    best = freezing.best_rates(rows)
    table = {
        name: np.array([[r["lr"], r["seed"], r["test"] is not None] for r in mine]) for name, mine in grouped(rows).items()
    }
    broken = [
        ("updates", np.ptp([row["updates"] for row in rows]) > 0),
        ("seeds", len({tuple(np.unique(runs[:, 1])) for runs in table.values()}) > 1),
        ("rates", not all(np.isin(rates, runs[:, 0]).all() for runs in table.values())),
        ("edge", any(best[name] in (runs[:, 0].min(), runs[:, 0].max()) for name, runs in table.items())),
        ("test", any((runs[runs[:, 2] > 0, 0] != best[name]).any() for name, runs in table.items())),
    ]
    return next((np.str_(name) for name, found in broken if found), "fair")


# ------------------------------------------------------------------------------------------------ 06.3 compare

T = {3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57}


def decide(differences, half):
    middle = fmean(differences)
    return "better" if middle - half > 0 else "worse" if middle + half < 0 else "not distinguishable"


def gaps(a, b):
    return [x - y for x, y in zip(a, b, strict=True)]


def wrong_means_only(a, b):
    return "better" if fmean(a) > fmean(b) else "worse"


def wrong_undecided(a, b):
    return "not distinguishable"


def wrong_two_errors(a, b):
    return decide(gaps(a, b), 1.96 * stdev(gaps(a, b)) / math.sqrt(len(a)))


def wrong_always_three(a, b):
    return decide(gaps(a, b), 4.30 * stdev(gaps(a, b)) / math.sqrt(len(a)))


def wrong_unpaired(a, b):
    return decide(gaps(a, b), T[len(a)] * math.sqrt((stdev(a) ** 2 + stdev(b) ** 2) / len(a)))


def wrong_two_intervals(a, b):
    """Ranges that do not overlap."""
    return "better" if min(a) > max(b) else "worse" if max(a) < min(b) else "not distinguishable"


def wrong_deviation(a, b):
    return decide(gaps(a, b), T[len(a)] * stdev(gaps(a, b)))


def wrong_population(a, b):
    differences = np.array(a) - np.array(b)
    return decide(differences, T[len(a)] * differences.std() / np.sqrt(len(a)))


def wrong_sign(a, b):
    return right_interval(b, a)


def wrong_every_seed(a, b):
    """Ahead in every seed is better."""
    return "better" if min(gaps(a, b)) > 0 else "worse" if max(gaps(a, b)) < 0 else "not distinguishable"


def wrong_never_worse(a, b):
    return "better" if right_interval(a, b) == "better" else "not distinguishable"


def wrong_sorted(a, b):
    return right_interval(sorted(a), sorted(b))


def wrong_over_n(a, b):
    return decide(gaps(a, b), T[len(a)] * stdev(gaps(a, b)) / len(a))


def wrong_half_of_half(a, b):
    return decide(gaps(a, b), T[len(a)] * stdev(gaps(a, b)) / math.sqrt(len(a)) / 2)


def wrong_variance(a, b):
    return decide(gaps(a, b), T[len(a)] * stdev(gaps(a, b)) ** 2 / math.sqrt(len(a)))


def wrong_words(a, b):
    return {"better": "a", "worse": "b"}.get(right_interval(a, b), "equal")


def right_interval(a, b):
    low, high = sweeps.interval(gaps(a, b))
    return "better" if low > 0 else "worse" if high < 0 else "not distinguishable"


def right_numpy(a, b):
    differences = np.array(a) - np.array(b)
    return decide(differences, T[len(a)] * differences.std(ddof=1) / np.sqrt(len(a)))


def right_t(a, b):
    differences = torch.tensor(a) - torch.tensor(b)
    t = differences.mean() / (differences.std() / len(a) ** 0.5)
    return "not distinguishable" if t.abs() < T[len(a)] else "better" if t > 0 else "worse"


# ------------------------------------------------------------------------------------------- 06.4 run_protocol

Done = namedtuple("Done", "rates verdict")


def judge(a, b):
    return right_interval(a, b)


def some_protocol(train, val, open_test, rates, seeds, choose=None, last=None, judge=judge, again=1):
    """A right one, but for what is given."""
    runs = {(name, lr): [train(name, lr, seed) for seed in seeds] for name in "ab" for lr in rates}
    vals = {run: [val(network) for network in networks] for run, networks in runs.items()}
    choose = choose or (lambda name: max(rates, key=lambda lr: fmean(vals[name, lr])))
    chosen = {name: choose(name, vals) if choose.__code__.co_argcount == 2 else choose(name) for name in "ab"}
    last = last or (lambda name: seeds)
    tests = {}
    for _ in range(again):
        tests = {n: [open_test(train(n, chosen[n], seed)) for seed in last(n)] for n in "ab"}
    return {"rates": chosen, "verdict": judge(tests["a"], tests["b"])}


def wrong_best_run(train, val, open_test, rates, seeds):
    def choose(name, vals):
        return max(rates, key=lambda lr: max(vals[name, lr]))

    return some_protocol(train, val, open_test, rates, seeds, choose)


def wrong_first_seed(train, val, open_test, rates, seeds):
    def choose(name, vals):
        return max(rates, key=lambda lr: vals[name, lr][1])

    return some_protocol(train, val, open_test, rates, seeds, choose)


def wrong_worst_run(train, val, open_test, rates, seeds):
    return some_protocol(train, val, open_test, rates, seeds, lambda name, vals: max(rates, key=lambda lr: min(vals[name, lr])))


def wrong_first_two(train, val, open_test, rates, seeds):
    return some_protocol(
        train, val, open_test, rates, seeds, lambda name, vals: max(rates, key=lambda lr: sum(vals[name, lr][:2]))
    )


def wrong_median(train, val, open_test, rates, seeds):
    return some_protocol(
        train, val, open_test, rates, seeds, lambda name, vals: max(rates, key=lambda lr: median(vals[name, lr]))
    )


def wrong_rounded(train, val, open_test, rates, seeds):
    def choose(name, vals):
        return max(rates, key=lambda lr: round(fmean(vals[name, lr]), 2))

    return some_protocol(train, val, open_test, rates, seeds, choose)


def wrong_every_seed_ahead(train, val, open_test, rates, seeds):
    return some_protocol(train, val, open_test, rates, seeds, judge=wrong_every_seed)


def wrong_one_factor(train, val, open_test, rates, seeds):
    return some_protocol(train, val, open_test, rates, seeds, judge=wrong_always_three)


def wrong_sorted_runs(train, val, open_test, rates, seeds):
    return some_protocol(train, val, open_test, rates, seeds, judge=wrong_sorted)


def wrong_rate_beyond(train, val, open_test, rates, seeds):
    return some_protocol(train, val, open_test, [*rates, 3.0], seeds)


def wrong_counted_seeds(train, val, open_test, rates, seeds):
    return some_protocol(train, val, open_test, rates, range(len(seeds)))


def wrong_one_rate(train, val, open_test, rates, seeds):
    def choose(name, vals):
        return max(rates, key=lambda lr: fmean(vals["a", lr]))

    return some_protocol(train, val, open_test, rates, seeds, choose)


def wrong_test_chooses(train, val, open_test, rates, seeds):
    tests = {(n, lr): [open_test(train(n, lr, seed)) for seed in seeds] for n in "ab" for lr in rates}
    chosen = {name: max(rates, key=lambda lr: fmean(tests[name, lr])) for name in "ab"}
    return {"rates": chosen, "verdict": judge(*(tests[name, chosen[name]] for name in "ab"))}


def wrong_one_after_the_other(train, val, open_test, rates, seeds):
    """The box of "a" is open before the rate of "b" is chosen."""
    chosen, tests = {}, {}
    for name in "ab":
        runs = {lr: [train(name, lr, seed) for seed in seeds] for lr in rates}
        chosen[name] = max(rates, key=lambda lr: mean(map(val, runs[lr])))
        tests[name] = list(map(open_test, runs[chosen[name]]))
    return {"rates": chosen, "verdict": judge(tests["a"], tests["b"])}


def wrong_sign_protocol(train, val, open_test, rates, seeds):
    return some_protocol(train, val, open_test, rates, seeds, judge=lambda a, b: right_interval(b, a))


def wrong_other_seeds(train, val, open_test, rates, seeds):
    return some_protocol(train, val, open_test, rates, seeds, last=lambda name: seeds[:-1] if name == "a" else seeds[1:])


def wrong_one_test(train, val, open_test, rates, seeds):
    return some_protocol(train, val, open_test, rates, seeds, last=lambda name: seeds[:1], judge=wrong_means_only)


def wrong_winner_by_means(train, val, open_test, rates, seeds):
    return some_protocol(train, val, open_test, rates, seeds, judge=wrong_means_only)


def wrong_twice(train, val, open_test, rates, seeds):
    return some_protocol(train, val, open_test, rates, seeds, again=2)


def wrong_never_opened(train, val, open_test, rates, seeds):
    return some_protocol(train, val, val, rates, seeds)


def wrong_some_runs(train, val, open_test, rates, seeds):
    """Only the first seed chooses; the others are trained at the end."""
    chosen = {name: max(rates, key=lambda lr: val(train(name, lr, seeds[0]))) for name in "ab"}
    a, b = ([open_test(train(name, chosen[name], seed)) for seed in seeds] for name in "ab")
    return {"rates": chosen, "verdict": judge(a, b)}


def wrong_names(train, val, open_test, rates, seeds):
    found = some_protocol(train, val, open_test, rates, seeds)
    return {"rates": {"A": found["rates"]["a"], "B": found["rates"]["b"]}, "verdict": found["verdict"]}


def wrong_winner_s_name(train, val, open_test, rates, seeds):
    return some_protocol(train, val, open_test, rates, seeds, judge=wrong_words)


def right_trained_again(train, val, open_test, rates, seeds):
    return some_protocol(train, val, open_test, rates, seeds)


def right_loops(train, val, open_test, rates, seeds):
    best = {}
    for name in ("b", "a"):
        for lr in reversed(rates):
            score = np.mean([val(train(name, np.float64(lr), np.int64(seed))) for seed in seeds])
            if name not in best or score > best[name][0]:
                best[name] = (score, np.float64(lr))
    differences = []
    for seed in seeds:
        one, other = (open_test(train(name, best[name][1], seed)) for name in ("a", "b"))
        differences.append(one - other)
    low, high = sweeps.interval(differences)
    verdict = np.select([low > 0, high < 0], ["better", "worse"], "not distinguishable").item()
    return {"verdict": verdict, "rates": {name: torch.tensor(lr, dtype=torch.float64) for name, (_, lr) in best.items()}}


WRONG = {
    "06.1": [
        (wrong_no_else, "yours moves conv1, bn1, layer1, layer2, layer3, layer4, fc"),
        ("    unfreeze(model)\n", "", "came frozen from an earlier experiment: let everything learn"),
        (wrong_optimizer_first, "the optimizer also holds conv1.weight, which is frozen"),
        ("[p for p in model.parameters() if p.requires_grad]", "model.fc.parameters()", "may learn, but no optimizer knows it"),
        ("    train_mode(model)\n", "", "running_mean stood still: no gradient moves the statistics"),
        ("train_mode(model)", "model.eval()", "running_mean stood still: no gradient moves the statistics"),
        ("train_mode(model)", "model.train()", "running_mean moved: no gradient moves the statistics"),
        (wrong_word_in_name, "a word inside a name is not the name of a stage"),
        (wrong_stem_is_conv1, "bn1.weight moved: conv1, bn1,"),
        ('("conv1", "bn1")', '("conv1",)', "bn1.weight moved: conv1, bn1,"),
        (wrong_end, "should stand still and the rest learn; yours moves conv1, bn1, layer1"),
        (wrong_head_too, "fc.weight stood still: conv1, bn1,"),
        ("STAGES[:frozen]", "STAGES[:frozen + 1]", "layer4.conv1.weight stood still: conv1, bn1,"),
        (", momentum=0.9", "", "what should it remember of the first?"),
        ("torch.optim.SGD", "torch.optim.AdamW", "unexpected keyword"),
        (
            "SGD([p for p in model.parameters() if p.requires_grad], lr=lr, momentum=0.9)",
            "Adam([p for p in model.parameters() if p.requires_grad], lr=lr)",
            "one rate for all, and no other pull",
        ),
        (wrong_backbone_slower, "weight by 0.0"),
        (wrong_all_held_early, "the optimizer also holds conv1.weight, which is frozen: give it what learns"),
        (" if p.requires_grad", "", "the optimizer also holds conv1.weight, which is frozen: give it what learns"),
        ("momentum=0.9", "momentum=0.9, weight_decay=1e-4", "one rate for all, and no other pull"),
        ("lr=lr", "lr=0.01", "and SGD with lr="),
        (wrong_only_the_last, "should stand still and the rest learn; yours moves conv1, bn1, layer1"),
        (wrong_no_head, "optimizer got an empty parameter list"),
        ("momentum=0.9", "momentum=0.9, weight_decay=0.1", "one rate for all, and no other pull"),
        (wrong_new_model, "the model came back with other tensors"),
        (wrong_no_return, "you return None; return the optimizer"),
        ("return torch.optim.SGD", "return model, torch.optim.SGD", "you return a tuple; return the optimizer"),
    ],
    "06.2": [
        (wrong_counts_seeds, "has the seeds ["),
        (wrong_lists_of_seeds, "take those of all its rates together, and compare sets"),
        (wrong_first_configuration, "you said 'fair', but"),
        (wrong_updates_within, "you said 'fair', but some runs made"),
        (wrong_mean_updates, "but some runs made"),
        (wrong_48, "every run made the same number of updates"),
        (wrong_seeds_below, "has the seeds ["),
        (wrong_seeds_above, "has the seeds ["),
        (wrong_seeds_where_chosen, "has the seeds ["),
        (wrong_seeds_by_rate, "take those of all its rates together, and compare sets"),
        (wrong_repeated_seeds, "take those of all its rates together, and compare sets"),
        (wrong_must_be_tested, "nobody tested at another rate"),
        (wrong_zero_is_none, "and its mean on val chooses"),
        (wrong_tested_rates, "and its mean on val chooses"),
        (wrong_luckiest, "the means on val choose"),
        (wrong_edge_of_the_table, "at the edge of its own list"),
        (wrong_edge_of_the_list, "none is the first or last that its configuration tried"),
        (wrong_counts_openings, "and its mean on val chooses"),
        (wrong_any_opening, "nobody tested at another rate"),
        (wrong_same_rates, "was tried at all rates of the list; more are allowed"),
        (wrong_everything_unfair, "this table keeps that rule"),
        (wrong_everything_fair, "you said 'fair', but"),
        (wrong_other_order, "name the first broken rule of the list"),
        (wrong_true, "should be a text, but is True or False"),
        (wrong_capital, "the verdict is 'fair' or one of"),
        (wrong_eats_the_table, "a referee reads and does not write"),
    ],
    "06.3": [
        (wrong_means_only, "a winner in 100 of 100 pairs that differ by chance alone"),
        (wrong_undecided, "you missed 16 of 16 large gaps: your interval is too wide, or nothing gets out of it"),
        (wrong_two_errors, "your interval is too narrow, if there is one; half of it is the factor"),
        (wrong_always_three, "differences of one seed, the factor of"),
        (wrong_unpaired, "same seed, same luck, so use the differences"),
        (wrong_two_intervals, "your interval is too narrow, if there is one; half of it is the factor"),
        (wrong_deviation, "half of it is the factor times the deviation over the root of n"),
        (wrong_population, "the deviation with n − 1"),
        ("** 0.5", "* 0.5", "times the deviation over the root of n"),
        ("len(a) ** 0.5", "(len(a) * 0.5)", "divided by the root of 3"),
        (wrong_never_worse, "large gaps: you never said 'worse'"),
        (wrong_sign, "the verdict is about `a`"),
        (wrong_every_seed, "pairs that differ by chance alone"),
        (wrong_sorted, "are the pairs of one seed still together?"),
        (wrong_over_n, "half of it is the factor times the deviation over the root of n"),
        (wrong_half_of_half, "half of it is the factor times the deviation over the root of n"),
        (wrong_variance, "half of it is the factor times the deviation"),
        (wrong_words, "the verdict is one of ('better', 'worse', 'not distinguishable')"),
    ],
    "06.4": [
        (wrong_best_run, "another mean is higher"),
        (wrong_first_seed, "another mean is higher"),
        (wrong_worst_run, "another mean is higher"),
        (wrong_first_two, "another mean is higher"),
        (wrong_median, "another mean is higher"),
        (wrong_rounded, "another mean is higher"),
        (wrong_every_seed_ahead, "the interval of a − b goes from"),
        (wrong_one_factor, "differences of one seed, the factor of"),
        (wrong_sorted_runs, "differences of one seed, the factor of"),
        (wrong_rate_beyond, "but the rates are ["),
        (wrong_counted_seeds, "and the seeds ["),
        (wrong_one_rate, "for 'b': its best run has"),
        (wrong_test_chooses, "times in all: val chooses one rate"),
        (wrong_one_after_the_other, "before your last look at val: choose both rates first"),
        (wrong_sign_protocol, "the verdict is about `a`"),
        (wrong_other_seeds, "test each of the seeds"),
        (wrong_one_test, "then test each of the seeds"),
        (wrong_winner_by_means, "the interval of a − b goes from"),
        (wrong_twice, "times in all: val chooses one rate; then test each of the seeds"),
        (wrong_never_opened, "0 times in all: val chooses one rate; then test each of the seeds"),
        (wrong_some_runs, "both configurations, every rate, every seed"),
        (wrong_names, "`rates` has a rate for 'a' and one for 'b'"),
        (wrong_winner_s_name, "the verdict is one of ('better', 'worse', 'not distinguishable')"),
    ],
}
RIGHT = {
    "06.1": [right_children, right_groups],
    "06.2": [right_ifs, right_arrays],
    "06.3": [right_interval, right_numpy, right_t],
    "06.4": [right_trained_again, right_loops],
}
END = "an interval that ends at 0 to the last bit does not occur"
EQUIVALENT = {
    "06.3": {
        "if differences.mean() >= half:": END,
        "if differences.mean() <= -half:": END,
    },
    "06.4": {
        "verdict = 'better' if low >= 0 else 'worse' if high < 0 else 'not distinguishable'": END,
        "verdict = 'better' if low > 0 else 'worse' if high <= 0 else 'not distinguishable'": END,
    },
}
