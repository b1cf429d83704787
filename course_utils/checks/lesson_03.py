"""Checks of lesson 03, freeze: what moves in a training step, and what must not."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils import freeze, unfreeze
from course_utils.checks.spec import Check, Result, Rng, beside, failed, partial, passed, same

# ------------------------------------------------------------------------------------------ 03.1 freeze_all_but


@beside
def small_vgg(rng: Rng) -> tuple[nn.Module, Tensor, Tensor]:
    """Eleven numbered layers with batch norms among them, a head, and one batch of pictures."""
    width, batch = rng.integer(3, 6), rng.integer(5, 9)
    with rng.torch():
        layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1)]
        for _ in range(5):
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)]
        features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        model = nn.Sequential()
        model.add_module("features", features)
        model.add_module("head", nn.Linear(width, 4))
        return model.train(), torch.randn(batch, 3, 8, 8) * 2 + 1, torch.randint(4, (batch,))


@beside
def train_twice(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The state of `model` after two steps with weight decay, for whatever has a gradient."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.01)
    for _ in range(2):
        loss = F.cross_entropy(model(images), labels)
        if not loss.requires_grad:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


@beside
def parts_to_train(rng: Rng) -> list[str]:
    """The head, a batch norm, and a layer whose name is the beginning of another's: features.1, not features.10."""
    return rng.shuffled(["features.1", "features.2", "head"])


def probe_freeze(freeze_all_but: Any, rng: Rng) -> dict:
    model, images, labels = small_vgg(rng)
    returned = freeze_all_but(model, parts_to_train(rng))
    return {"returned": "model" if returned is model else type(returned).__name__, "after": train_twice(model, images, labels)}


def judge_freeze(data: dict, rng: Rng) -> Result:
    model, _, _ = small_vgg(rng)
    parts = parts_to_train(rng)
    before, after = model.state_dict(), data["after"]
    if data["returned"] != "model":
        return failed(
            f"your function returns {data['returned'].replace('NoneType', 'nothing')}; return the model that it was given"
        )
    if after.keys() != before.keys():
        return failed("the model lost or gained tensors; freezing must not change its structure")
    moved = [name for name in before if not same(before[name], after[name])]
    weights = [name for name, _ in model.named_parameters()]
    return explain_weights(moved, weights, parts) or explain_statistics(moved, weights, parts, before, after)


def is_inside(name: str, parts: list[str]) -> bool:
    return any(name == part or name.startswith(part + ".") for part in parts)


def explain_weights(moved: list[str], weights: list[str], parts: list[str]) -> Result | None:
    outside = [name for name in weights if not is_inside(name, parts)]
    strayed = [name for name in outside if name in moved]
    asleep = [name for name in weights if is_inside(name, parts) and name not in moved]
    if len(strayed) == len(outside):
        return failed(
            f"{len(strayed)} of {len(outside)} tensors outside {sorted(parts)} moved. Python accepts any attribute name: "
            "read yours letter by letter"
        )
    if strayed:
        return failed(f"asked for {sorted(parts)}, but {strayed[0]} moved too: compare whole parts of a name")
    if asleep:
        return failed(f"{asleep[0]} should learn, but after two training steps it is what it was")
    return None


def explain_statistics(moved: list[str], weights: list[str], parts: list[str], before: dict, after: dict) -> Result:
    means = [name for name in before if name.endswith("running_mean")]
    for name in means:
        by = (after[name] - before[name]).abs().max()
        if name in moved and not is_inside(name, parts):
            return partial(Fraction(1, 2), f"no weight strayed, but {name} moved by {by:.2f}: which switch stops statistics?")
        if name not in moved and is_inside(name, parts):
            return partial(
                Fraction(1, 2), f"the weights are right, but {name} stood still although its part should learn: its mode?"
            )
    return passed()


def wrong_spelling(model: nn.Module, parts: list[str]) -> nn.Module:
    for name, parameter in model.named_parameters():
        parameter.require_grad = any(name.startswith(part + ".") for part in parts)  # type: ignore[attr-defined]
    return model


def wrong_substring(model: nn.Module, parts: list[str]) -> nn.Module:
    model.eval()
    for name, parameter in model.named_parameters():
        parameter.requires_grad = any(part in name for part in parts)
    return model


def wrong_mode(model: nn.Module, parts: list[str]) -> nn.Module:
    for name, parameter in model.named_parameters():
        parameter.requires_grad = any(name.startswith(part + ".") for part in parts)
    return model


def wrong_all(model: nn.Module, parts: list[str]) -> nn.Module:
    model.eval().requires_grad_(False)
    model.get_submodule("features.1").requires_grad_(True)
    return model


def right_loop(model: nn.Module, parts: list[str]) -> nn.Module:
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(name.startswith(part + ".") for part in parts))
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d) and not is_inside(name, parts):
            module.eval()
    return model


def wrong_asleep(model: nn.Module, parts: list[str]) -> nn.Module:
    freeze(model)
    for part in parts:
        unfreeze(model.get_submodule(part))
    return model


def wrong_return(model: nn.Module, parts: list[str]) -> None:
    right_loop(model, parts)


# ------------------------------------------------------------------------------------------- 03.2 assert_frozen


@beside
def snapshots(rng: Rng) -> list[dict]:
    """Pairs of snapshots in random order, in most of which one tensor moved that must not; "fc" and "layer4.1" may."""
    names = ["layer1.weight", "layer4.0.weight", "layer4.1.weight", "layer4.10.weight", "fc.weight", "fc_aux.weight"]
    with rng.torch():
        state = {name: torch.randn(3, 4) for name in [*names, "layer1.running_mean", "layer1.running_var"]}
        state["layer1.num_batches_tracked"] = torch.tensor(rng.integer(3, 90))
    changes = [("layer1.running_mean", 0.08), ("layer1.running_var", 0.05), ("layer1.weight", 1e-6), *((n, 0.1) for n in names)]
    cases = []
    for moved, by in changes:
        after = {name: value.clone() for name, value in state.items()}
        after[moved] = after[moved] + by
        after["fc.weight"] = after["fc.weight"] + 0.2  # the head always learns
        cases.append({"moved": moved, "by": by, "before": state, "after": after})
    return rng.shuffled(cases)


def probe_assert(assert_frozen: Any, rng: Rng) -> list:
    outcomes = []
    for case in snapshots(rng):
        try:
            assert_frozen(dict(case["before"]), dict(case["after"]), ["fc", "layer4.1"])
            outcomes.append("quiet")
        except AssertionError as error:
            outcomes.append(f"fired: {error}")
        except NotImplementedError:
            raise
        except Exception as error:
            outcomes.append(f"{type(error).__name__}: {error}")
    return outcomes


def judge_assert(data: list, rng: Rng) -> Result:
    cases = snapshots(rng)
    verdicts = [said.partition(":")[0] for said in data]
    if len(data) != len(cases):
        return failed("the test ended before it had seen all runs")
    if set(verdicts) == {"quiet"}:
        return failed(f"it stayed quiet on all {len(data)} runs, wrong ones too: does it compare before with after?")
    if set(verdicts) == {"fired"}:
        return failed(
            f"it fired on all {len(data)} runs, also where only fc.weight moved: that lies inside 'fc', so it may move"
        )
    found = (explain_assert(said, verdict, case) for said, verdict, case in zip(data, verdicts, cases, strict=True))
    return next((result for result in found if result), passed())


def explain_assert(said: str, verdict: str, case: dict) -> Result | None:
    name, allowed = case["moved"], is_inside(case["moved"], ["fc", "layer4.1"])
    if verdict not in ("quiet", "fired"):
        return failed(f"{verdict} on one of the runs: decide by assert, do not crash")
    if verdict == "quiet" and not allowed:
        return failed(f"it stayed quiet although {name} moved by {case['by']:g}; only 'fc' and 'layer4.1' may move")
    if verdict == "fired" and allowed:
        return failed(f"it fired on a correct run, in which only fc.weight and {name} moved; 'fc' and 'layer4.1' may move")
    if verdict == "fired" and name not in said:
        return failed(f"it fired when {name} moved, as it should, but its message does not name {name}")
    return None


def wrong_parameters_only(before: dict, after: dict, may_move: list[str]) -> None:
    for name in before:
        if name.endswith("weight") and not is_inside(name, may_move):
            assert torch.equal(before[name], after[name]), name


def wrong_allclose(before: dict, after: dict, may_move: list[str]) -> None:
    for name in before:
        if not is_inside(name, may_move):
            assert torch.allclose(before[name].float(), after[name].float(), atol=1e-4), name


def wrong_substring_part(before: dict, after: dict, may_move: list[str]) -> None:
    for name in before:
        if not any(part in name for part in may_move):
            assert torch.equal(before[name], after[name]), name


def wrong_literal(before: dict, after: dict, may_move: list[str]) -> None:
    for name in before:
        if name not in may_move:
            assert torch.equal(before[name], after[name]), name


def wrong_first_word(before: dict, after: dict, may_move: list[str]) -> None:
    for name in before:
        if name.split(".")[0] not in may_move:
            assert torch.equal(before[name], after[name]), name


def wrong_nameless(before: dict, after: dict, may_move: list[str]) -> None:
    for name in before:
        assert is_inside(name, may_move) or torch.equal(before[name], after[name]), "something moved"


def wrong_same_snapshot(before: dict, after: dict, may_move: list[str]) -> None:
    after = before
    for name in before:
        assert torch.equal(before[name], after[name])


def right_set(before: dict, after: dict, may_move: list[str]) -> None:
    moved = {name for name in before if (before[name] != after[name]).any()}
    stray = {name for name in moved if not name.startswith(tuple(part + "." for part in may_move))}
    if stray:
        raise AssertionError(f"moved: {sorted(stray)}")


# ---------------------------------------------------------------------------------------------- 03.3 what_moves


@beside
def combinations(rng: Rng) -> list[list[bool]]:
    return rng.shuffled([[g, t, o] for g in (False, True) for t in (False, True) for o in (False, True)])


def probe_what(what_moves: Any, rng: Rng) -> list:
    return [list(what_moves(*combination)) for combination in combinations(rng)]


def experiment(gradient: bool, training: bool, in_optimizer: bool, rng: Rng) -> list[bool]:
    """Whether weights and statistics of a layer moved in one step with these switches."""
    with rng.torch():
        linear, norm, head = nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)
        images, labels = torch.randn(8, 4), torch.randint(3, (8,))
    layer = nn.Sequential(linear, norm).requires_grad_(gradient).train(training)
    learners = [*head.parameters(), *(layer.parameters() if in_optimizer else [])]
    optimizer = torch.optim.SGD(learners, lr=0.1, weight_decay=0.01)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    F.cross_entropy(head(layer(images)), labels).backward()
    optimizer.step()
    after = layer.state_dict()
    return [not same(before[name], after[name]) for name in ("0.weight", "1.running_mean")]


def judge_what(data: list, rng: Rng) -> Result:
    rows = combinations(rng)
    if [len(row) for row in data] != [2] * len(rows):
        return failed("each call should return two values: do the weights move, do the statistics move")
    for said, (gradient, training, in_optimizer) in zip(data, rows, strict=True):
        switches = (
            f"gradient {'on' if gradient else 'off'}, {'training' if training else 'evaluation'} mode, "
            f"{'in' if in_optimizer else 'not in'} the optimizer"
        )
        for what, mine, true in zip(
            ("weights", "statistics"), said, experiment(gradient, training, in_optimizer, rng), strict=True
        ):
            if mine != true:
                seen, claim = ("moved" if true else "stood still"), ("move" if mine else "do not")
                return failed(f"with {switches}, the {what} {seen}; you say they {claim}")
    return passed()


def wrong_eval_stops(gradient: bool, train_mode: bool, in_optimizer: bool) -> tuple[bool, bool]:
    return gradient and in_optimizer and train_mode, train_mode


def wrong_gradient_stops_statistics(gradient: bool, train_mode: bool, in_optimizer: bool) -> tuple[bool, bool]:
    return gradient and in_optimizer, train_mode and gradient


def wrong_no_optimizer(gradient: bool, train_mode: bool, in_optimizer: bool) -> tuple[bool, bool]:
    return gradient, train_mode


def right_branches(gradient: bool, train_mode: bool, in_optimizer: bool) -> tuple[bool, bool]:
    weights = bool(in_optimizer)
    if not gradient:
        weights = False
    return (weights, bool(train_mode))


CHECKS = [
    Check(
        "03.1",
        "freeze_all_but",
        "let only some parts learn",
        probe_freeze,
        judge_freeze,
        {"returned": str, "after": {str: Tensor}},
        points=3,
    ),
    Check("03.2", "assert_frozen", "a test that fires", probe_assert, judge_assert, [str], points=2),
    Check("03.3", "what_moves", "predict what moves", probe_what, judge_what, [[bool]], points=1),
]

WRONG = {
    "03.1": [
        (wrong_spelling, "Python accepts any attribute name"),
        (wrong_substring, "features.10"),
        (wrong_mode, "no weight strayed, but features.4.running_mean moved by"),
        (wrong_all, "features.2.weight should learn"),
        (wrong_asleep, "features.2.running_mean stood still although its part should learn"),
        (wrong_return, "your function returns nothing"),
    ],
    "03.2": [
        (wrong_parameters_only, "it stayed quiet although layer1.running_"),
        (wrong_allclose, "it stayed quiet although layer1.weight moved by 1e-06"),
        (wrong_substring_part, "it stayed quiet although"),
        (wrong_literal, "it fired on all 9 runs, also where only fc.weight moved"),
        (wrong_first_word, "it fired on a correct run, in which only fc.weight and layer4.1.weight moved"),
        (wrong_nameless, "its message does not name"),
        (wrong_same_snapshot, "it stayed quiet on all 9 runs"),
    ],
    "03.3": [
        (wrong_eval_stops, "evaluation mode, in the optimizer, the weights moved"),
        (wrong_gradient_stops_statistics, "with gradient off, training mode"),
        (wrong_no_optimizer, "not in the optimizer, the weights stood still"),
    ],
}

RIGHT = {"03.1": [right_loop], "03.2": [right_set], "03.3": [right_branches]}
