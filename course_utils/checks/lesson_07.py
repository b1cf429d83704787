"""Checks of lesson 07, two phases and learning rates: falling rates, the start of phase two, a rate from a range test."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from math import isfinite
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from course_utils import train_one_epoch
from course_utils.checks.spec import LOOK, Rng, beside, close, exercise, left_alone, look, same
from course_utils.finetune import freeze, unfreeze

STAGES = (("fc",), ("layer4",), ("layer3",), ("layer2",), ("layer1",), ("conv1", "bn1"))  # from the head to the picture


@beside
def small_resnet(rng: Rng, learns: tuple[str, ...]) -> nn.Module:
    """A network with a ResNet's names; only the named parts learn."""
    with rng.torch():
        width = rng.integer(3, 6)
        parts: dict[str, nn.Module] = {"conv1": nn.Conv2d(3, width, 3, bias=False), "bn1": nn.BatchNorm2d(width)}
        parts |= {"relu": nn.ReLU()} | {f"layer{number}": BasicBlock(width, width) for number in (1, 2, 3, 4)}
        parts |= {"avgpool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "fc": nn.Linear(width, 3)}
    for name, part in parts.items():
        part.requires_grad_(name in learns).train(name in learns)
    return nn.Sequential(OrderedDict(parts)).double()


@beside
def two_batches(rng: Rng) -> list[tuple[Tensor, Tensor]]:
    with rng.torch():
        return [(torch.randn(7, 3, 8, 8).double() * 2 + 1, torch.randint(3, (7,))) for _ in range(2)]


# ------------------------------------------------------------------------------------------------ 07.1 falling


@beside
def all_parts() -> tuple[str, ...]:
    return "conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"


def networks(rng: Rng) -> Iterator[dict]:
    """Everything learns; the last stages do; every other stage does, and in one of them a layer is frozen."""
    holes = rng.choice([("layer3", "layer1"), ("layer4", "layer2")])
    parts = all_parts()
    for learns in (parts, parts[rng.integer(2, 4) :], tuple(part for part in parts if part not in holes)):
        model = small_resnet(rng, learns)
        if len(learns) == 5:
            freeze(model.get_submodule(f"{learns[2]}.bn2"))
        yield {"model": model, "top": rng.choice([0.01, 0.02, 0.03]), "factor": rng.choice([2.0, 2.6, 3.0, 10.0])}


def ask_falling(falling: Any, case: dict) -> dict:
    model, before = case["model"], look(case["model"])
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    given, rates, odd = falling(model, case["top"], case["factor"]), [], ""
    for group in given if isinstance(given, (list, tuple)) else ():
        held: Any = group.get("params") if isinstance(group, dict) else None
        if not hasattr(held, "__iter__"):
            odd = odd or f"a {type(held if isinstance(group, dict) else group).__name__}"
            continue
        held = [held] if isinstance(held, Tensor) else [one[1] if isinstance(one, tuple) else one for one in held]
        rates += [(names.get(id(one), ""), float(group.get("lr", -1))) for one in held]
    return {"kind": type(given).__name__, "odd": odd, "rates": rates, "before": before, "after": look(model)}


def rules_falling(said: dict, case: dict) -> Iterator[str]:
    top, factor, learns = case["top"], case["factor"], look(case["model"])["learns"]
    if said["kind"] not in ("list", "tuple"):
        yield f'you return a {said["kind"]}; return a list of groups, each a dictionary with "params" and "lr"'
    if said["odd"]:
        yield f'a group is {{"params": parameters, "lr": rate}}; where one of yours should have these, it has {said["odd"]}'
    yield from left_alone(said["before"], said["after"])
    given: dict[str, float] = {}
    for name, rate in said["rates"]:
        if name not in learns:
            yield "a group holds something that is no parameter of this model"
        if given.get(name) == rate:
            yield f"{name} stands there twice: do you meet a layer once more inside the part that it belongs to?"
        if name in given:
            yield f"{name} stands in two groups: a word inside a name is not the name of a stage"
        given[name] = rate
    for name, rate in given.items():
        if not learns[name]:
            yield f"{name} is frozen, and stands in a group all the same"
        if rate <= 0:
            yield f"the group of {name} has {'no rate of its own' if rate else 'the rate 0: nothing learns, is it rounded?'}"
    if forgotten := [name for name, learning in learns.items() if learning and name not in given]:
        yield f"{forgotten[-1]} learns and stands in no group, so it would never change"
    first, last = next(name for name in learns if name in given), next(name for name in reversed(learns) if name in given)
    if given[first] > given[last]:
        yield f"{first} gets {given[first]:g} and {last} {given[last]:g}: the side of the picture has to be slower"
    due = {name: steps for steps, stage in enumerate(STAGES) for name in learns if name.partition(".")[0] in stage}
    for name in sorted(given, key=due.__getitem__):
        if not abs(given[name] - top / factor ** due[name]) <= 1e-6 * given[name]:
            found = f"with {top:g} at the head and a factor of {factor:g}, {name} gets {given[name]:g}"
            yield f"{found}: count the steps from the head to its stage, past frozen ones too, and divide once for each"


# ---------------------------------------------------------------------------------------- 07.2 start phase two


@beside
def adam(groups: Any) -> torch.optim.Adam:
    return torch.optim.Adam(groups, lr=0.5, betas=(0.8, 0.9))


@beside
def states_of(model: nn.Module, optimizer: Any, batches: list) -> list[dict[str, Tensor]]:
    """All tensors before, between and after a step with each of `batches`."""
    states = [{name: value.clone() for name, value in model.state_dict().items()}]
    for batch in batches:
        train_one_epoch(model, [batch], optimizer)
        states.append({name: value.clone() for name, value in model.state_dict().items()})
    return states


def ends_of_phase_one(rng: Rng) -> Iterator[dict]:
    """Trained heads: the optimizer holds the head only, or all from the start, in one group or in two (kernels, the rest).

    And one where layer4 learns as well, with a layer3 that has its values.
    """
    for kind, learns, part in (
        ("head", ("fc",), "layer4"),
        ("all", ("fc",), rng.choice(["layer4", "layer3"])),
        ("two groups", ("fc",), rng.choice(["layer4", "layer3"])),
        ("twins", ("layer4", "fc"), "layer3"),
    ):
        model, lr, batches = small_resnet(rng, learns), rng.choice([0.001, 0.002]), two_batches(rng)
        groups = [[*model.get_submodule(one).parameters()] for one in learns]
        if kind in ("all", "two groups"):
            groups = [[*model.parameters()]]
        if kind == "two groups":
            groups = [[one for one in groups[0] if (one.dim() > 1) == kernels] for kernels in (True, False)]
        optimizer = adam([{"params": one, "lr": lr * (1 + place)} for place, one in enumerate(groups)])
        states_of(model, optimizer, batches * 3)
        if kind == "twins":
            model.get_submodule(part).load_state_dict(model.get_submodule("layer4").state_dict())
        yield {"model": model, "optimizer": optimizer, "part": part, "rate": lr / rng.choice([4, 10]), "batches": batches}


def ask_phase_two(start_phase_two: Any, case: dict) -> dict:
    model, before = case["model"], look(case["model"])
    try:
        optimizer = start_phase_two(model, case["optimizer"], case["part"], case["rate"])
    except RuntimeError as error:
        if not str(error).startswith(("Boolean value of Tensor", "The size of tensor a")):
            raise
        return {"kind": "compared", "before": before, "after": before, "held": [], "states": []}
    real = isinstance(optimizer, torch.optim.Optimizer)
    mine = {id(one) for group in optimizer.param_groups for one in group["params"]} if real else set()
    held = [name for name, one in model.named_parameters() if id(one) in mine]
    found = {"kind": type(optimizer).__name__, "before": before, "after": look(model), "held": held}
    return found | {"states": states_of(model, optimizer, case["batches"]) if real else []}


def rules_phase_two(said: dict, case: dict) -> Iterator[str]:
    model, optimizer, part = case["model"], case["optimizer"], case["part"]
    learns, states = said["after"]["learns"], said["states"]
    mine = list(unfreeze(model.get_submodule(part)).parameters())
    for group in optimizer.param_groups:
        group["params"] = [one for one in group["params"] if not any(one is other for other in mine)]
    optimizer.add_param_group({"params": mine, "lr": case["rate"]})
    right = states_of(model, optimizer, case["batches"])
    if said["kind"] == "compared":
        yield "`in`, `==` and `remove` compare tensors value by value; whether two are the same tensor, `is` tells, or `id`"
    if not states:
        yield f"you return {'None' if said['kind'] == 'NoneType' else 'a ' + said['kind']}; return the optimizer"
    if [state.keys() for state in states] != [state.keys() for state in right]:
        yield "the model came back with other tensors; starting phase two must not change its structure"
    moved, due = ({name for name in right[0] if not torch.equal(run[0][name], run[2][name])} for run in (states, right))
    for name in (name for name in learns if (name in moved) != (name in due)):
        new, where = name.startswith(f"{part}."), name.partition(".")[0]
        if name in moved:
            yield f"{name} moved, and only {part} was asked for; nothing else may be unfrozen"
        if learns[name] and new:
            yield f"{name} is unfrozen and did not move: does the optimizer know {part}?"
        twin = next((one for one in right[0] if one.startswith(f"{part}.") and same(right[0][one], right[0][name])), "")
        why = "is still frozen" if new else f"learnt in phase one, and {where} goes on"
        if learns[name] and name not in said["held"]:
            other = f"it has the values of {twin}, and is another tensor: compare by `is` or `id`"
            why += f". Your optimizer does not hold it; {other if twin else 'a copy does not count'}"
        yield f"{name} did not move: it {why}"
    for name in (name for name, learning in learns.items() if learning and not look(model)["learns"][name]):
        yield f"{name} may learn now, and only {part} was asked for; nothing else may be unfrozen"
    yield from rules_steps(states, right, case, list(reversed(learns)))
    for name in (name for name in right[0] if (name in moved) != (name in due)):
        yield f"{name} {'moved' if name in moved else 'stood still'}: what learns collects statistics, and nothing else does"
    yield from left_alone(said["before"], said["after"], but=("modes", "learns"))


def rules_steps(states: list, right: list, case: dict, names: list[str]) -> Iterator[str]:
    """How far each of two steps moves the parameters."""
    part, rate = case["part"], case["rate"]
    for number, name in ((number, name) for number in (1, 2) for name in names):
        step, due = (run[number][name] - run[number - 1][name] for run in (states, right))
        took, wanted = (float(one.abs().mean()) for one in (step, due))
        if close(step, due, 1e-8):
            continue
        found = f"step {number} moves {name} by {took:.6f} on average, and should move it by {wanted:.6f}"
        if f"{took:.5f}" == f"{wanted:.5f}":  # nobody sees a difference
            found = f"step {number} moves {name}, but not as it should"
        if name.startswith(f"{part}."):
            others = "It does, but has it the optimizer's other settings, its defaults?"
            yield f"{found}: {part} was to learn at {rate:g}. {'Whose rate has it got?' if number == 1 else others}"
        flat = number == 1 and float(step.abs().std()) < 0.01 * took
        kept = "what has learnt keeps its rate, its settings and its memory"
        yield f"{found}: {'each value by the same, as an Adam does that has no memory' if flat else kept}"


# ------------------------------------------------------------------------------------------------ 07.3 pick a rate


def range_tests(rng: Rng) -> Iterator[dict]:
    """Recorded range tests: clear, noisy, with lucky and unlucky batches, an early explosion, and an end without limits."""
    for kind in rng.shuffled(["clear", "noisy", "lucky", "early", "endless", "unlucky"]):
        count, classes = rng.integer(70, 100), rng.integer(4, 12)
        low, noise = rng.choice([-6.0, -5.5, -5.0]), 0.004 if kind == "clear" else 0.04
        with rng.torch():
            x = torch.linspace(low, low + 6, count, dtype=torch.float64)
            fall = low + 1.8 + 2.2 * torch.rand(1).item()
            bang = fall + (1.05 if kind == "early" else 1.3)
            loss = torch.tensor(classes).log() * (0.12 + 0.88 * torch.sigmoid((fall - x) / 0.28))
            loss = loss * (1 + noise * torch.randn(count)) + torch.exp((x - bang) / 0.12)
        for place in rng.shuffled(range(4, 14))[:2]:
            loss[place] *= {"lucky": 0.05, "unlucky": 2.5}.get(kind, 1.0)
        losses = [value if value < 1e4 else float("inf") for value in loss.tolist()]
        calm = next((place for place, value in enumerate(losses) if value > 40), count)
        last = count if kind == "endless" else min(count, calm + 3)
        yield {"rates": (10.0**x).tolist()[:last], "losses": losses[:last]}


def ask_rate(pick_rate: Any, case: dict) -> Any:
    return pick_rate(list(case["rates"]), list(case["losses"]))


def rules_rate(said: float, case: dict) -> Iterator[str]:
    rates, losses = case["rates"], case["losses"]
    calm = [median(losses[max(0, place - 4) : place + 5]) for place in range(len(losses))]
    start, lowest = median(losses[:15]), min(calm)
    begun = next(
        place for place, value in enumerate(calm) if max(value, *calm[place : place + 3]) < 0.96 * start + 0.04 * lowest
    )
    edge = max(place for place, value in enumerate(calm) if value < (start + lowest) / 2)  # beyond it explodes
    if not (isfinite(said) and rates[0] <= said <= rates[-1]):
        lucky = losses.index(min(losses))
        single = f"the loss at {rates[lucky]:.1e} is that of one odd batch, look at its neighbours"
        why = single if 0 < said < rates[0] and losses[lucky] < 0.5 * calm[lucky] else "return a rate between them"
        yield f"you return {said:.2g}, and the rates go from {rates[0]:.0e} to {rates[-1]:.0e}: {why}"
    here = min(range(len(rates)), key=lambda place: abs(rates[place] - said))
    if said > rates[edge] / 3.9:
        when = "has exploded" if here > edge else f"is {calm[here]:.2f}, and it explodes behind {rates[edge]:.1e}"
        yield f"at {said:.1e} the loss {when}: stay at a quarter of that, or below"
    if said < rates[begun]:
        near = range(max(0, here - 6), min(len(losses), here + 7))
        odd = any(not 0.5 * calm[place] < losses[place] < 2 * calm[place] for place in near)
        why = f"{calm[here]:.2f}, and {start:.2f} at the start"
        why += ". One odd batch says nothing, look at its neighbours" if odd else ""
        yield f"at {said:.1e} the loss has not begun to fall: {why}"


RATES = {"kind": str, "odd": str, "rates": [(str, float)], "before": LOOK, "after": LOOK}
STATES = {"kind": str, "before": LOOK, "after": LOOK, "held": [str], "states": [{str: Tensor}]}
CHECKS = [
    exercise("07.1", "falling", "rates that fall", networks, ask_falling, rules_falling, seen=RATES, points=2),
    exercise(
        "07.2", "start_phase_two", "start phase two", ends_of_phase_one, ask_phase_two, rules_phase_two, seen=STATES, points=3
    ),
    exercise("07.3", "pick_rate", "a rate from a range test", range_tests, ask_rate, rules_rate, seen=float, points=2),
]
