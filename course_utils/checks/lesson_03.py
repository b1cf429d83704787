"""Checks of lesson 03, freeze: what moves in a training step, and what must not."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
    """The head and one layer whose name is the beginning of another's: features.1, not features.10."""
    return rng.shuffled(["features.1", "head"])


def probe_freeze(freeze_all_but: Any, rng: Rng) -> dict:
    model, images, labels = small_vgg(rng)
    parts = parts_to_train(rng)
    freeze_all_but(model, list(parts))
    return {"after": train_twice(model, images, labels)}


def judge_freeze(data: dict, rng: Rng) -> Result:
    model, images, labels = small_vgg(rng)
    parts = parts_to_train(rng)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    weights = [name for name, _ in model.named_parameters()]
    after = data["after"]
    if after.keys() != before.keys():
        return failed("the model lost or gained tensors; freezing must not change its structure")
    moved = [name for name in before if not same(before[name], after[name])]
    return explain_moves(moved, weights, parts, before, after)


def explain_moves(moved: list[str], weights: list[str], parts: list[str], before: dict, after: dict) -> Result:
    inside = [name for name in weights if any(name.startswith(part + ".") for part in parts)]
    outside = [name for name in weights if name not in inside]
    strayed = [name for name in outside if name in moved]
    asleep = [name for name in inside if name not in moved]
    if len(strayed) == len(outside):
        return failed(
            f"{len(strayed)} of {len(outside)} tensors outside {sorted(parts)} moved. Python accepts any attribute name: "
            "read yours letter by letter"
        )
    for name in strayed:
        return failed(f"asked for {sorted(parts)}, but {name} moved too: compare whole parts of a name")
    if asleep:
        return failed(f"{asleep[0]} should learn, but after two training steps it is what it was")
    statistics = [name for name in moved if name not in weights and not name.endswith("num_batches_tracked")]
    if statistics:
        by = (after[statistics[0]] - before[statistics[0]]).abs().max()
        return partial(
            Fraction(1, 2), f"no weight strayed, but {statistics[0]} moved by {by:.2f}: which switch stops statistics?"
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
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return model


# ------------------------------------------------------------------------------------------- 03.2 assert_frozen


@beside
def snapshots(rng: Rng) -> list[dict]:
    """Pairs of snapshots in random order: five in which something moved that must not, two that went right."""
    with rng.torch():
        state = {
            "layer1.weight": torch.randn(4, 3),
            "layer1.running_mean": torch.randn(4),
            "layer1.running_var": torch.rand(4) + 0.5,
            "layer1.num_batches_tracked": torch.tensor(rng.integer(3, 90)),
            "fc.weight": torch.randn(2, 4),
            "fc_aux.weight": torch.randn(2, 4),
        }
        changes = [("layer1.weight", 0.1), ("layer1.running_mean", 0.08), ("layer1.running_var", 0.05), ("layer1.weight", 1e-6)]
        cases: list[dict[str, Any]] = [
            {"moved": name, "by": by} for name, by in [*changes, ("fc_aux.weight", 0.1), ("fc.weight", 0.1), ("", 0.0)]
        ]
        for case in cases:
            case["before"] = {name: value.clone() for name, value in state.items()}
            case["after"] = {
                name: value + case["by"] if name == case["moved"] else value.clone() for name, value in state.items()
            }
            if case["moved"] != "fc.weight":  # the head always learns
                case["after"]["fc.weight"] += 0.2
    return rng.shuffled(cases)


def probe_assert(assert_frozen: Any, rng: Rng) -> list:
    outcomes = []
    for case in snapshots(rng):
        try:
            assert_frozen(dict(case["before"]), dict(case["after"]), ["fc"])
            outcomes.append("quiet")
        except AssertionError:
            outcomes.append("fired")
        except NotImplementedError:
            raise
        except Exception as error:
            outcomes.append(f"{type(error).__name__}: {error}")
    return outcomes


def judge_assert(data: list, rng: Rng) -> Result:
    cases = snapshots(rng)
    if len(data) != len(cases):
        return failed("the test ended before it had seen all runs")
    wanted = ["quiet" if case["moved"] in ("", "fc.weight") else "fired" for case in cases]
    if len(set(data)) == 1 and data[0] in ("quiet", "fired"):
        return failed(f"the same verdict on all {len(data)} runs ({data[0]}): it does not look at the run")
    for number, (said, right, case) in enumerate(zip(data, wanted, cases, strict=True), start=1):
        if said not in ("quiet", "fired"):
            return failed(f"{said.partition(':')[0]} on run {number}: decide by assert, do not crash")
        if said != right and right == "fired":
            return failed(f"it stayed quiet although {case['moved']} moved by {case['by']:g} and only 'fc' may move")
        if said != right:
            return failed("it fired on a correct run, in which only fc.weight moved, and fc may move")
    return passed()


def wrong_parameters_only(before: dict, after: dict, may_move: list[str]) -> None:
    for name in before:
        if name.endswith("weight") and name.partition(".")[0] not in may_move:
            assert torch.equal(before[name], after[name])


def wrong_allclose(before: dict, after: dict, may_move: list[str]) -> None:
    for name in before:
        if name.partition(".")[0] not in may_move:
            assert torch.allclose(before[name].float(), after[name].float(), atol=1e-4)


def wrong_substring_part(before: dict, after: dict, may_move: list[str]) -> None:
    for name in before:
        if not any(part in name for part in may_move):
            assert torch.equal(before[name], after[name])


def wrong_strict(before: dict, after: dict, may_move: list[str]) -> None:
    for name in before:
        assert torch.equal(before[name], after[name])


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
        "03.1", "freeze_all_but", "let only some parts learn", probe_freeze, judge_freeze, {"after": {str: Tensor}}, points=3
    ),
    Check("03.2", "assert_frozen", "a test that fires", probe_assert, judge_assert, [str], points=2),
    Check("03.3", "what_moves", "predict what moves", probe_what, judge_what, [[bool]], points=1),
]

WRONG = {
    "03.1": [
        (wrong_spelling, "Python accepts any attribute name"),
        (wrong_substring, "features.10"),
        (wrong_mode, "no weight strayed, but features.2.running_mean moved by"),
        (wrong_all, "head.weight should learn"),
    ],
    "03.2": [
        (wrong_parameters_only, "it stayed quiet although layer1.running_"),
        (wrong_allclose, "it stayed quiet although layer1.weight moved by 1e-06"),
        (wrong_substring_part, "fc_aux.weight moved"),
        (wrong_strict, "the same verdict on all 7 runs"),
        (wrong_same_snapshot, "the same verdict on all 7 runs"),
    ],
    "03.3": [
        (wrong_eval_stops, "evaluation mode, in the optimizer, the weights moved"),
        (wrong_gradient_stops_statistics, "with gradient off, training mode"),
        (wrong_no_optimizer, "not in the optimizer, the weights stood still"),
    ],
}

RIGHT = {"03.1": [right_loop], "03.2": [right_set], "03.3": [right_branches]}
