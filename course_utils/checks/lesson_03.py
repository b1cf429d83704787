"""Checks of lesson 03, freeze: what moves in a training step, and what must not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils.checks.spec import LOOK, Result, Rng, beside, close, exercise, left_alone, look, partial, same


@beside
def is_inside(name: str, parts: Iterable[str]) -> bool:
    return any(f"{name}.".startswith(f"{part}.") for part in parts)


# ------------------------------------------------------------------------------------------ 03.1 freeze_all_but


@beside
def small_vgg(width: int) -> nn.Module:
    """Numbered layers with batch norms and dropouts, a block with its own, two heads, and a parameter of the model itself."""
    layers = [nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.LeakyReLU(), nn.Dropout()]
    layers += [nn.Conv2d(width, width, 3), nn.BatchNorm2d(width), nn.LeakyReLU(), nn.Dropout(), nn.LeakyReLU(), nn.Dropout()]
    layers += [nn.Conv2d(width, width, 3), nn.BatchNorm2d(width), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = nn.Sequential()
    model.features = nn.Sequential(*layers)
    model.block = nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width), nn.LeakyReLU(), nn.Dropout())
    model.neck = nn.Sequential()
    model.neck.head = nn.Linear(width, width)
    model.head = nn.Linear(width, 4)
    model.scale = nn.Parameter(torch.ones(1))
    return model


def handed_over(rng: Rng) -> Iterator[dict]:
    """Models in mixed modes: what should learn comes frozen, what is named alike learns; one has gradients of earlier steps."""
    for parts in (["features.1", "head"], ["features.1", "block", "head"]):
        width, batch = rng.integer(3, 6), rng.integer(6, 9)
        with rng.torch():
            model = small_vgg(width)
            images, labels = torch.randn(batch, 3, 8, 8) * 2 + 1, torch.randint(4, (batch,))
        for name, module in model.named_modules():
            alike = name in ("", "neck.head") or name.startswith("features.1")
            awake = not is_inside(name, parts) and (alike or rng.choice([True, False]))
            module.training = awake
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad = awake
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
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


@beside
def attributes(model: nn.Module) -> set[str]:
    return {key for thing in (*model.modules(), *model.parameters()) for key in vars(thing)}


@beside
def dropouts_awake(model: nn.Module) -> list[str]:
    ones = torch.ones(99)
    return [name for name, part in model.named_modules() if isinstance(part, nn.Dropout) and not torch.equal(part(ones), ones)]


def freeze_and_train(freeze_all_but: Any, case: dict) -> dict:
    model = case["model"]
    before, known = look(model), attributes(model)
    returned = freeze_all_but(model, list(case["parts"]))
    return {
        "returned": "it" if returned is model else "a copy" if isinstance(returned, nn.Module) else type(returned).__name__,
        "before": before,
        "after": look(model),
        "new": sorted(attributes(model) - known),
        "built": repr(model),
        "awake": dropouts_awake(model),
        "state": train_twice(case),
    }


def freeze_rules(said: dict, case: dict) -> Iterator[str | Result]:
    model, parts, built = case["model"], case["parts"], repr(case["model"])
    if said["returned"] == "a copy":
        yield "you froze a copy; the model itself still moves. Change the model that you were given, and return it"
    if said["returned"] != "it":
        yield f"your function returns {said['returned'].replace('NoneType', 'nothing')}; return the model that it was given"
    yield from left_alone(said["before"], said["after"], but=("modes", "learns"))
    lines = zip(built.splitlines(), said["built"].splitlines(), strict=False)
    for came, left in lines if said["built"] != built else ():
        if came != left:
            new = [word for word in re.findall(r"\w+=\w[\w.-]*", left) if word not in came]
            if new:
                yield f"a layer came without {new[0]} and left with it: set flag and mode, and no other attribute of a layer"
            yield f"{came.strip()} came and {left.strip()} left: set the switches of a layer, and build nothing else"
    before = {name: value.clone() for name, value in model.state_dict().items()}
    if said["state"].keys() != before.keys():
        yield "the model lost or gained tensors; freezing does not change what a model is made of"
    moved = [name for name in before if not same(before[name], said["state"][name])]
    learnt = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    unasked = [name for name in moved if not said["after"]["learns"].get(name, True)]
    if unasked:
        yield half(f"{unasked[0]} is frozen, and still it moved: it came with an old gradient, and an optimizer applies that")
    yield from words_for_weights(moved, learnt, parts, said["new"])
    yield from words_for_statistics(moved, [name for name in before if name not in learnt], parts)
    for name in (name for name, part in model.named_modules() if isinstance(part, nn.Dropout)):
        if name in said["awake"] and not is_inside(name, parts):
            yield half(f"no tensor strayed, but a frozen part gives one picture two answers: {name} still drops values")
        if name not in said["awake"] and is_inside(name, parts):
            yield half(f"{name} lies in a part that should learn, but it drops nothing: in which mode is it?")
    own = own_run(case)
    for name in own:
        if not close(said["state"][name], own[name]):
            yield f"two steps make something else of {name} than in my own run: your function should set switches, no values"


def own_run(case: dict) -> dict[str, Tensor]:
    case["model"].requires_grad_(False).eval()
    case["model"].zero_grad()
    for part in case["parts"]:
        case["model"].get_submodule(part).requires_grad_(True).train()
    return train_twice(case)


def half(why: str) -> Result:
    return partial(Fraction(1, 2), why)


def words_for_weights(moved: list[str], learnt: dict[str, bool], parts: list[str], new: list[str]) -> Iterator[str]:
    """`learnt` says of each parameter whether it came learning."""
    strayed = [name for name in learnt if name in moved and not is_inside(name, parts)]
    if strayed and strayed == [name for name in learnt if learnt[name] and not is_inside(name, parts)]:
        if new:
            also = ": read yours letter by letter, and ask whether it belongs to a layer or to a parameter"
            yield f"nothing froze. Python accepts any attribute name, so {new[0]!r} is new, and PyTorch never reads it{also}"
        yield f"nothing got frozen: {strayed[0]} came learning, and it still learns. Which switch stops a weight?"
    alike = [(part, name) for name in strayed for part in parts if part in name]
    if len({name for _, name in alike}) == len(strayed):
        for part, name in alike:
            yield f"asked for {part}; {name} learns too, because its name is alike: compare whole parts, from the first one on"
    for name in strayed:
        yield f"{name} lies in none of {sorted(parts)}, and still it moved"
    for name in learnt:
        if is_inside(name, parts) and name not in moved:
            yield f"{name} should learn, but stood still for two steps: it is frozen when you return it"


def words_for_statistics(moved: list[str], buffers: list[str], parts: list[str]) -> Iterator[Result]:
    for name in (name for name in buffers if name in moved and not is_inside(name, parts)):
        yield half(f"no weight strayed, but {name} moved: which switch stops statistics?")
    for name in (name for name in buffers if name not in moved and is_inside(name, parts)):
        yield half(f"the weights are right, but {name} stood still although its part should learn: in which mode is it?")


# ------------------------------------------------------------------------------------------- 03.2 assert_frozen


def runs(rng: Rng) -> list[dict]:
    """Snapshots before and after, in random order; in most one tensor moved that must not, in most the head moved too."""
    weights = ["layer1.weight", "layer1.fc.weight", "layer4.0.weight", "layer4.1.weight", "layer4.1.conv1.weight"]
    weights += ["layer4.10.weight", "fc.weight", "fc_aux.weight"]
    with rng.torch():
        before = {name: torch.randint(32, 96, (3, 4)) / 64 for name in [*weights, "layer1.running_mean", "layer1.running_var"]}
    before["layer1.running_mean"][0, 0] = 2**-30
    before["layer1.num_batches_tracked"] = torch.tensor(rng.integer(3, 90))
    steps = {name: 0.1 if value.is_floating_point() else 1 for name, value in before.items()}
    cases = []
    for name, by in [*steps.items(), ("layer1.weight", 0), ("fc.weight", 0.1)]:
        after = {key: value.clone() for key, value in before.items()}
        after["fc.weight"] += 0.2
        after[name] = after[name] + by if by else after[name].flip(0, 1)  # the same values in other places
        cases.append({"before": before, "after": after, "may": rng.shuffled(["fc", "layer4.1"])})
    one = {key: value.clone() for key, value in before.items()}
    one["layer1.weight"][rng.integer(0, 2), rng.integer(0, 3)] += 0.1
    last_bit = {key: value.clone() for key, value in before.items()}
    last_bit["layer1.running_mean"][0, 0] = torch.nextafter(before["layer1.running_mean"][0, 0], torch.tensor(1.0))
    other, deep = ({**before, name: before[name] + 0.1} for name in ("layer4.1.weight", "layer4.1.conv1.weight"))
    asked = [(one, ["fc", "layer4.1"]), (last_bit, ["fc"]), (one, []), (other, ["fc"])]
    asked += [(deep, ["layer4.1.conv1", "fc"]), (other, ["layer4.1.conv1", "fc"])]
    cases += [{"before": before, "after": after, "may": may} for after, may in asked]
    return rng.shuffled(cases)


def call_test(assert_frozen: Any, case: dict) -> dict:
    given = [{name: value.clone() for name, value in case[when].items()} for when in ("before", "after")]
    said = {"error": "", "message": "", "line": 0, "answer": "NoneType"}
    try:
        said["answer"] = type(assert_frozen(*given, list(case["may"]))).__name__
    except NotImplementedError:
        raise
    except Exception as error:
        place = error.__traceback__.tb_next if error.__traceback__ else None
        said |= {"error": type(error).__name__, "message": str(error), "line": place.tb_lineno if place else 0}
    pairs = zip(given, (case["before"], case["after"]), strict=True)
    kept = [same(one.get(name, torch.zeros(0)), value) for one, true in pairs for name, value in true.items()]
    return {**said, "kept": all(kept)}


def assert_overall(said: list[dict], cases: list[dict]) -> Iterator[str]:
    errors = {one["error"] for one in said}
    if errors == {""} and any(one["answer"] != "NoneType" for one in said):
        yield "it returned something and raised nothing: nobody looks at what a test returns, so raise an AssertionError"
    if errors == {""}:
        yield f"it stayed quiet on all {len(said)} runs, wrong ones too. `print` raises nothing, nor `assert (condition, text)`"
    if errors == {"AssertionError"}:
        yield f"it fired on all {len(said)} runs, also where only fc.weight moved, inside 'fc'; all else stood still"


def assert_rules(said: dict, case: dict) -> Iterator[str]:
    before, after, may = case["before"], case["after"], case["may"]
    moved = [name for name in before if not same(before[name], after[name])]
    stray = [name for name in moved if not is_inside(name, may)]
    if said["error"] not in ("", "AssertionError"):
        several = "ambiguous" in said["message"]
        if stray and stray[0] in said["message"] and said["error"] != "KeyError":
            yield f"it found that {stray[0]} moved, and raised {said['error']}: the text asks for an AssertionError"
        yield (
            f"it stopped with {said['error']} in line {said['line']} of your cell: {(said['message'].splitlines() or [''])[0]}"
            + (". Comparing two tensors gives as many answers as they have values; `torch.equal(a, b)` gives one" * several)
        )
    if not said["kept"]:
        yield "it changed the snapshots that it was given: a test looks, and changes nothing"
    if stray and not said["error"]:
        yield f"it stayed quiet although {change(before[stray[0]], after[stray[0]], stray[0])}; only {may} may move"
    if said["error"] and not stray:
        yield f"it fired on a correct run, in which only {' and '.join(moved)} moved; {may} may move"
    named = {word.strip(".") for word in re.findall(r"[\w.]+", said["message"])} & before.keys()
    if stray and named and stray[0] not in named:
        yield f"{stray[0]} moved, but your message names {min(named)}: did that one move, and outside the parts?"
    if stray and stray[0] not in named:
        yield f"it fired when {stray[0]} moved, as it should, but its message does not name it"
    if stray and len(named) > len(stray):
        yield f"one tensor strayed, {stray[0]}; your message names {len(named)}: which one should the reader look at?"


def change(before: Tensor, after: Tensor, name: str) -> str:
    """What happened to a tensor, in words."""
    difference = (after - before).abs()
    count = int((difference > 0).sum())
    if same(before.flatten().sort().values, after.flatten().sort().values):
        return f"values of {name} changed places"
    return f"{name} moved by {difference.max().item():.1g}, in {count} of its {before.numel()} values"


# ---------------------------------------------------------------------------------------------- 03.3 what_moves


def combinations(rng: Rng) -> list[tuple[bool, ...]]:
    return rng.shuffled([(g, t, o) for g in (False, True) for t in (False, True) for o in (False, True)])


def ask_what(what_moves: Any, case: tuple[bool, ...]) -> Any:
    return what_moves(*case)


@torch.enable_grad()
def one_step(gradient: bool, training: bool, in_optimizer: bool) -> list[bool]:
    """Whether weights and statistics of a layer move in one step with these switches."""
    layer, head = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5)), nn.Linear(5, 3)
    layer.requires_grad_(gradient).train(training)
    optimizer = torch.optim.SGD([*head.parameters(), *(layer.parameters() if in_optimizer else ())], lr=0.1, weight_decay=0.01)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    F.cross_entropy(head(layer(torch.randn(8, 4))), torch.arange(8) % 3).backward()
    optimizer.step()
    after = layer.state_dict()
    return [not same(before[name], after[name]) for name in ("0.weight", "1.running_mean")]


def what_overall(said: list[list[bool]], cases: list[tuple[bool, ...]]) -> Iterator[str]:
    true = [one_step(*case) for case in cases]
    if said == [one[::-1] for one in true]:
        yield "both answers are right, in the other order: weights first, then statistics"
    if [one[1] for one in said] == [not one[1] for one in true]:
        yield "your second answer is upside down in all eight: in which mode does a batch norm collect?"


def what_rules(said: list[bool], case: tuple[bool, ...]) -> Iterator[str]:
    gradient, training, in_optimizer = case
    weights, statistics = one_step(*case)
    mode = "training" if training else "evaluation"
    switches = f"with gradient {'on' if gradient else 'off'}, {mode} mode, {'in' if in_optimizer else 'not in'} the optimizer"
    if said[0] and not weights:
        why = "no gradient was computed" if not gradient else "a gradient was computed, but nobody applied it"
        yield f"{switches}, the weights stood still and you say they move: {why}"
    if weights and not said[0]:
        stops = "" if training else ": the mode does not stop learning"
        yield f"{switches}, the weights moved and you say they do not{stops}"
    if statistics and not said[1]:
        need = " without a gradient" * (not gradient) + " without the optimizer" * (not in_optimizer)
        yield f"{switches}, the statistics moved{need} and you say they do not: think of the first map"
    if said[1] and not statistics:
        yield f"{switches}, the statistics stood still and you say they move: what do they depend on?"


LOOKS = {"before": LOOK, "after": LOOK}
FREEZE_SEEN = {"returned": str, **LOOKS, "new": [str], "built": str, "awake": [str], "state": {str: Tensor}}
ASSERT_SEEN = {"error": str, "message": str, "line": int, "answer": str, "kept": bool}
FREEZE = ("03.1", "freeze_all_but", "let only some parts learn", handed_over, freeze_and_train, freeze_rules)
ASSERT = ("03.2", "assert_frozen", "a test that fires", runs, call_test, assert_rules)
WHAT = ("03.3", "what_moves", "predict what moves", combinations, ask_what, what_rules)

CHECKS = [
    exercise(*FREEZE, seen=FREEZE_SEEN, points=3),
    exercise(*ASSERT, seen=ASSERT_SEEN, overall=assert_overall, points=2),
    exercise(*WHAT, seen=(bool, bool), overall=what_overall),
]
