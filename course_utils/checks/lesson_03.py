"""Checks of lesson 03, freeze: what moves in a training step, and what must not."""

from __future__ import annotations

import functools
import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from copy import deepcopy
from fractions import Fraction
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils.checks.spec import LOOK, Result, Rng, beside, close, exercise, left_alone, look, moved, name_of, partial, same
from course_utils.finetune import freeze, unfreeze

half = functools.partial(partial, Fraction(1, 2))


@beside
def is_inside(name: str, parts: Iterable[str]) -> bool:
    return any(f"{name}.".startswith(f"{part}.") for part in parts)


# ------------------------------------------------------------------------------------------ 03.1 freeze_all_but


@beside
def small_vgg(width: int) -> nn.Module:
    """Numbered layers with batch norms and a dropout, a block with its own, two heads, and a parameter of the model itself."""
    features = nn.Sequential()
    for channels in (3, width, width, width):
        features.extend([nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.LeakyReLU()])
    parts = {
        "features": features.extend([nn.Dropout(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]),
        "block": nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width), nn.LeakyReLU(), nn.Dropout()),
        "neck": nn.Sequential(OrderedDict(head=nn.Linear(width, width))),
        "head": nn.Linear(width, 4),
    }
    model = nn.Sequential(OrderedDict(parts))
    model.scale = nn.Parameter(torch.ones(1))
    return model


def handed_over(rng: Rng) -> Iterator[dict]:
    """Models in mixed modes: what should learn comes frozen, what is named alike learns; one has gradients of earlier steps."""
    for parts in (["features.1", "head"], ["features.1", "block", "head"]):
        batch = rng.integer(6, 9)
        with rng.torch():
            model = small_vgg(rng.integer(3, 6))
            images, labels = torch.randn(batch, 3, 8, 8) * 2 + 1, torch.randint(4, (batch,))
        for name, module in model.named_modules():
            alike = name in ("", "neck.head", "features.10")
            module.training = not is_inside(name, parts) and (alike or rng.choice([True, False]))
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad = module.training
                if "block" in parts and not is_inside(name, parts):
                    parameter.grad = torch.ones_like(parameter)
        yield {"model": model, "parts": rng.shuffled(parts), "images": images, "labels": labels, "seed": rng.integer(0, 10**6)}


@beside
def train_twice(case: dict) -> dict[str, Tensor]:
    """The model's state after two steps with weight decay, for whatever has a gradient."""
    model, labels = case["model"], case["labels"]
    torch.manual_seed(case["seed"])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.01)
    for _ in range(2):
        loss = F.cross_entropy(model(case["images"]) * model.scale, labels)
        if loss.requires_grad:
            loss.backward()
            optimizer.step()
        optimizer.zero_grad()
    return model.state_dict()


@beside
def attributes(model: nn.Module) -> set[str]:
    return {key for thing in (*model.modules(), *model.parameters()) for key in vars(thing)}


def freeze_and_train(freeze_all_but: Any, case: dict) -> dict:
    model = case["model"]
    before, known = look(model), attributes(model)
    returned = freeze_all_but(model, list(case["parts"]))
    found = {"before": before, "after": look(model), "new": sorted(attributes(model) - known), "built": repr(model)}
    return {"returned": "it" if returned is model else name_of(returned), **found, "state": train_twice(case)}


def freeze_rules(said: dict, case: dict) -> Iterator[str | Result]:
    model, parts, after = case["model"], case["parts"], said["after"]
    if said["returned"] != "it":
        yield f"change the model that you were given, no copy of it, and return it; you return {said['returned']}"
    yield from left_alone(said["before"], after, but=("modes", "learns"))
    for came, left in zip(repr(model).splitlines(), said["built"].splitlines(), strict=False):
        if came != left:
            yield f"{came.strip()} became {left.strip()}: set flag and mode, and no other attribute of a layer"
    before = deepcopy(model.state_dict())
    if said["state"].keys() != before.keys():
        yield "the model lost or gained tensors; freezing does not change what a model is made of"
    stirred = moved(before, said["state"])
    for name in stirred:
        if not after["learns"].get(name, True):
            yield half(f"{name} is frozen, and still it moved: return it with None as its gradient, zero counts too")
    weights = [name for name, _ in model.named_parameters()]
    strayed = [name for name in weights if name in stirred and not is_inside(name, parts)]
    stuck = [name for name in weights if name not in stirred and is_inside(name, parts)]
    if said["new"] and (strayed or stuck):
        also = "read yours letter by letter, and ask whether it belongs to a layer or to a parameter"
        yield f"Python accepts any attribute name, so {said['new'][0]!r} is new, and PyTorch never reads it: {also}"
    alike = {name: part for name in strayed for part in parts if part in name}
    for name in strayed:
        if len(alike) == len(strayed):
            yield f"asked for {alike[name]}; {name} is alike and learns too: compare whole parts, from the first one on"
        yield f"{name} lies in none of {sorted(parts)}, and still it learns: which switch stops a weight?"
    for name in stuck:
        yield f"{name} should learn, but stood still for two steps: it is frozen when you return it"
    awake = {name.rpartition(".")[0]: name in stirred for name in before if name not in weights}
    awake |= {name: after["modes"].get(name) for name, part in model.named_modules() if isinstance(part, nn.Dropout)}
    for name, works in awake.items():
        if works and not is_inside(name, parts):
            yield half(f"no weight strayed, but {name} is in training mode, in which it collects or drops values")
        if is_inside(name, parts) and not works:
            yield half(f"the weights are right, but {name} is in evaluation mode, although its part should learn")
    freeze(model)
    for part in parts:
        unfreeze(model.get_submodule(part)).train()
    for name, value in train_twice(case).items():
        if not close(said["state"][name], value):
            yield f"two steps make something else of {name} than in my own run: your function should set switches, no values"


# ------------------------------------------------------------------------------------------- 03.2 assert_frozen


def runs(rng: Rng) -> Iterator[dict]:
    """Snapshots before and after, in random order: one tensor moved, and the head where it may."""
    names = ["layer1.weight", "layer1.fc.weight", "layer4.0.weight", "layer4.1.weight", "layer4.1.conv1.weight"]
    names += ["layer4.10.weight", "fc.weight", "fc_aux.weight", "layer1.running_mean", "layer1.running_var"]
    with rng.torch():
        before = {name: torch.randint(32, 96, (3, 4)) / 64 for name in names}
    before["layer1.running_mean"] *= 2**-30
    before["layer1.num_batches_tracked"] = torch.tensor(rng.integer(3, 90))
    after = {name: value + (0.1 if value.is_floating_point() else 1) for name, value in before.items()}
    weight, mean = before["layer1.weight"], before["layer1.running_mean"]
    one = weight.clone()
    one[rng.integer(0, 2), rng.integer(0, 3)] += 0.1
    slight = [("layer1.weight", weight.flip(0, 1)), ("layer1.weight", one), ("layer1.running_mean", mean.nextafter(mean + 1))]
    asked = [(name, value, ["fc", "layer4.1"]) for name, value in [*after.items(), *slight]]
    asked += [("layer1.weight", one, []), ("layer4.1.weight", after["layer4.1.weight"], ["fc"])]
    asked += [(name, after[name], ["fc", "layer4.1.conv1"]) for name in ("layer4.1.weight", "layer4.1.conv1.weight")]
    for name, value, may in rng.shuffled(asked):
        head = {"fc.weight": before["fc.weight"] + 0.2} if "fc" in may else {}
        yield {"before": before, "after": {**before, **head, name: value}, "may": rng.shuffled(may)}


def call_test(assert_frozen: Any, case: dict) -> dict:
    given = {when: {name: value.clone() for name, value in case[when].items()} for when in ("before", "after")}
    error = message = ""
    try:
        assert_frozen(given["before"], given["after"], list(case["may"]))
    except Exception as raised:
        error, message = type(raised).__name__, str(raised)
        if error != "AssertionError" and (error == "KeyError" or not any(name in message for name in case["before"])):
            raise  # it stopped before it had found anything
    return {"error": error, "message": message, "kept": not any(moved(case[when], given[when]) for when in given)}


def assert_overall(said: list[dict], cases: list[dict]) -> Iterator[str]:
    errors = {one["error"] for one in said}
    if errors == {""}:
        quiet = "nobody looks at what a test returns or prints, and `assert (condition, text)` raises nothing"
        yield f"it stayed quiet on all {len(said)} runs, wrong ones too: {quiet}"
    if errors == {"AssertionError"}:
        yield f"it fired on all {len(said)} runs, also where only fc.weight moved, inside 'fc'; all else stood still"


def assert_rules(said: dict, case: dict) -> Iterator[str]:
    before, after, may = case["before"], case["after"], case["may"]
    movers = moved(before, after)
    stray = next((name for name in movers if not is_inside(name, may)), "")
    if said["error"] not in ("", "AssertionError"):
        yield f"it found what moved, and raised {said['error']}: the text asks for an AssertionError"
    if not said["kept"]:
        yield "it changed the snapshots that it was given: a test looks, and changes nothing"
    if stray and not said["error"]:
        by = after[stray] - before[stray]
        what = f"in {stray} {by.count_nonzero()} of {by.numel()} values moved, by {by.abs().max():.1g} at most"
        yield f"it stayed quiet although {what}, their sum by {abs(by.sum()):.1g}; only {may} may move"
    if said["error"] and not stray:
        yield f"it fired on a correct run, in which only {' and '.join(movers)} moved; {may} may move"
    named = {word.strip(".") for word in re.findall(r"[\w.]+", said["message"])} & before.keys()
    if stray and named != {stray}:
        yours = ", ".join(sorted(named)) or "no tensor"
        yield f"it fired as it should, but {stray} alone moved outside {may}, and your message names {yours}"


# ---------------------------------------------------------------------------------------------- 03.3 what_moves


def combinations(rng: Rng) -> list[tuple[bool, ...]]:
    return rng.shuffled([(g, t, o) for g in (False, True) for t in (False, True) for o in (False, True)])


def ask_what(what_moves: Any, case: tuple[bool, ...]) -> Any:
    return what_moves(*case)


@cache
@torch.enable_grad()
def one_step(gradient: bool, training: bool, in_optimizer: bool) -> list[bool]:
    """Whether weights and statistics of a layer move in one step with these switches."""
    layer, head = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5)), nn.Linear(5, 3)
    layer.requires_grad_(gradient).train(training)
    optimizer = torch.optim.SGD([*head.parameters(), *(layer.parameters() if in_optimizer else ())], lr=0.1)
    before = deepcopy(layer.state_dict())
    F.cross_entropy(head(layer(torch.randn(8, 4))), torch.arange(8) % 3).backward()
    optimizer.step()
    after = layer.state_dict()
    return [not same(before[name], after[name]) for name in ("0.weight", "1.running_mean")]


def what_overall(said: list[list[bool]], cases: list[tuple[bool, ...]]) -> Iterator[str]:
    if said == [one_step(*case)[::-1] for case in cases]:
        yield "both answers are right, in the other order: weights first, then statistics"


def what_rules(said: list[bool], case: tuple[bool, ...]) -> Iterator[str]:
    gradient, training, in_optimizer = case
    mode, member = "training" if training else "evaluation", "in" if in_optimizer else "not in"
    switches = f"with gradient {'on' if gradient else 'off'}, {mode} mode, {member} the optimizer"
    hints = {"weights": "who computes a gradient, and who applies it?", "statistics": "in which mode do they collect?"}
    for (what, hint), moves, told in zip(hints.items(), one_step(*case), said, strict=True):
        if told != moves:
            did, say = ("moved", "stand still") if moves else ("stood still", "move")
            yield f"{switches}, the {what} {did}, and you say they {say}: {hint}"


FREEZE_SEEN = {"returned": str, "before": LOOK, "after": LOOK, "new": [str], "built": str, "state": {str: Tensor}}
FREEZE = ("03.1", "freeze_all_but", "let only some parts learn", handed_over, freeze_and_train, freeze_rules)
ASSERT = ("03.2", "assert_frozen", "a test that fires", runs, call_test, assert_rules)
WHAT = ("03.3", "what_moves", "predict what moves", combinations, ask_what, what_rules)

CHECKS = [
    exercise(*FREEZE, seen=FREEZE_SEEN, points=3),
    exercise(*ASSERT, seen={"error": str, "message": str, "kept": bool}, overall=assert_overall, points=2),
    exercise(*WHAT, seen=(bool, bool), overall=what_overall),
]
