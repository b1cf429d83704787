"""Models put together at random, from layers, quirks, hooks, residuals and modes, and frozen at random: equal, or not split.

`COURSE_EXAMPLES=1000 pytest tests/foreign/test_random_models.py` tries a thousand of them instead of a hundred.
"""

from __future__ import annotations

import functools
import os
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st
from oracle import Case, judge, loss_of_all, seed_all
from quirks import PIECES, DropPath, Reverse, add_one, double_first, with_history
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils import freeze, train_mode, unfreeze

EXAMPLES = int(os.environ.get("COURSE_EXAMPLES", "100"))
ELSEWHERE = {  # pieces that a state outside of the model makes different each time
    *("entropy of the system", "fresh generator of numpy", "iterator used up in forward", "iterator as an attribute"),
    *("file written in forward", "printed", "warned", "compiled part", "cache by size", "constant made at the first call"),
}


# ------------------------------------------------------------------------------------------------ what it is made of


class Piece(nn.Module):
    """A quirk as a module of its own."""

    def __init__(self, name: str):
        super().__init__()
        self.mix, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.function, prepare = PIECES[name]
        prepare(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def fits(name: str) -> bool:
    """Whether this quirk makes of (batch, 4, 8, 8) the same again, so that others can follow."""
    x = torch.randn(3, 4, 8, 8)
    try:
        with torch.no_grad():
            y = Piece(name)(x)
        return y.shape == x.shape and y.dtype == x.dtype and bool(y.isfinite().all())
    except Exception:
        return False


def fitting() -> list[str]:
    seed_all(0)
    return [name for name in PIECES if name not in ELSEWHERE and fits(name)]


class Stubborn(nn.BatchNorm2d):
    """A norm that stays in evaluation mode."""

    def train(self, mode: bool = True) -> nn.Module:
        return super().train(False)


class Residual(nn.Module):
    def __init__(self, in_place: bool):
        super().__init__()
        self.conv, self.drop_path, self.in_place = nn.Conv2d(4, 4, 3, padding=1), DropPath(0.3), in_place

    def forward(self, x: Tensor) -> Tensor:
        y = self.drop_path(self.conv(x))
        if self.in_place:
            y += x
            return y.relu_()
        return F.relu(x + y)


class Excitation(nn.Module):
    """Squeeze and excitation: channels weighed by what the picture is like."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(4, 2, 1), nn.Conv2d(2, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.two(self.one(x.mean((2, 3), keepdim=True)).relu_()).sigmoid()


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "convolution": lambda: nn.Conv2d(4, 4, 3, padding=1),
    "grouped convolution": lambda: nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False),
    "norm": lambda: with_history(nn.BatchNorm2d(4)),
    "group norm": lambda: nn.GroupNorm(2, 4),
    "relu": nn.ReLU,
    "relu in place": lambda: nn.ReLU(inplace=True),
    "activation": nn.GELU,
    "dropout": lambda: nn.Dropout(0.3),
    "dropout of channels": lambda: nn.Dropout2d(0.3),
    "dropout in place": lambda: nn.Dropout(0.3, inplace=True),
    "pooling": lambda: nn.MaxPool2d(3, 1, 1),
    "residual": lambda: Residual(False),
    "residual in place": lambda: Residual(True),
    "excitation": Excitation,
    "block": lambda: nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.3)),
    "identity": nn.Identity,
}
STRANGE_LAYERS: dict[str, Callable[[], nn.Module]] = {
    "norm that stays": lambda: Stubborn(4),
    "norm without parameters": lambda: nn.BatchNorm2d(4, affine=False),
    "norm without statistics": lambda: nn.BatchNorm2d(4, track_running_stats=False),
    "instance norm": lambda: nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
    "leaky at random": nn.RReLU,
    "spectral norm": lambda: nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 4, 1)),
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1)),
}
JOINS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {  # of what comes and what was kept
    "added": lambda x, kept: x + kept,
    "added in place": lambda x, kept: x.add_(kept),
    "added to what was kept, in place": lambda x, kept: kept.add_(x),
    "subtracted": torch.sub,
    "gated": lambda x, kept: x * kept.sigmoid(),
    "half of each": lambda x, kept: torch.cat([x[:, :2], kept[:, 2:]], 1),
    "forgotten": lambda x, kept: x,
    "gone back to": lambda x, kept: kept,
}
HOOKS: dict[str, Callable[[nn.Module], object]] = {
    "doubles": lambda module: module.register_forward_hook(lambda module, args, output: output * 2),
    "adds in place": lambda module: module.register_forward_hook(lambda module, args, output: add_one(output)),
    "halves the input": lambda module: module.register_forward_pre_hook(lambda module, args: (args[0] * 0.5,)),
    "adds noise": lambda module: module.register_forward_hook(lambda module, args, output: output + torch.rand(())),
    "centres": lambda module: module.register_forward_hook(lambda module, args, output: output - output.mean(0)),
    "only looks": lambda module: module.register_forward_hook(lambda module, args, output: None),
    "doubles gradients": lambda module: module.register_full_backward_hook(lambda module, into, out: double_first(into)),
}
CONTEXTS: dict[str, Callable[[Callable], Callable]] = {
    "no gradients": lambda step: torch.no_grad()(step),
    "half precision": lambda step: lambda x: torch.autocast("cpu", torch.bfloat16)(step)(x).float(),
    "reversed gradients": lambda step: lambda x: Reverse.apply(step(x)),
    "checkpoint": lambda step: lambda x: torch.utils.checkpoint.checkpoint(step, x, use_reentrant=False),
    "only in training": lambda step: step,  # see `RandomModel.walk`
}


# ----------------------------------------------------------------------------------------------------------- a model


@dataclass(frozen=True)
class Step:
    """One step of a model.

    Args:
        what: the name of a layer, a quirk or a join, or "keep", or "again" for the layer of the step before.
        inline: whether a quirk stands in the forward of the root, and not in a module of its own.
        learns: nothing of it, its biases, or all.
        hook: the name of a hook on its module, or nothing.
        context: what it runs in.
    """

    what: str
    inline: bool = False
    learns: str = "nothing"
    hook: str = ""
    context: str = ""


@dataclass(frozen=True)
class Plan:
    """A whole model.

    Args:
        head: whether the head learns; it does where nothing else does.
        frozen_by: "freeze" (no gradients, evaluation mode) or "flags" (no gradients alone).
        mode: "train", "eval" or "as it is".
        output: "logits", "two" (an auxiliary head beside them), or "with features".
        own_order: whether the loader has a generator of its own.
    """

    steps: tuple[Step, ...]
    head: bool = True
    frozen_by: str = "freeze"
    mode: str = "as it is"
    hook: str = ""
    output: str = "logits"
    own_order: bool = True


class RandomModel(nn.Module):
    def __init__(self, plan: Plan):
        super().__init__()
        self.plan = plan
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.mix, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        for i, step in enumerate(plan.steps):
            self.place(f"step{i}", step)
        self.head = nn.Linear(4, 3)

    def place(self, name: str, step: Step) -> None:
        layers = LAYERS | STRANGE_LAYERS
        if step.what in layers:
            self.add_module(name, layers[step.what]())
        elif step.what in PIECES and step.inline:
            PIECES[step.what][1](self)
        elif step.what in PIECES:
            self.add_module(name, Piece(step.what))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        x, early = self.walk(self.stem(x))
        logits = self.head(x.mean((2, 3)))
        if self.plan.output == "two":
            return logits, self.head(early.mean((2, 3)))
        return (logits, logits.tanh()) if self.plan.output == "with features" else logits

    def walk(self, x: Tensor) -> tuple[Tensor, Tensor]:
        kept = early = x
        last: Callable = nn.functional.relu
        for i, step in enumerate(self.plan.steps):
            if step.what == "keep":
                kept = x
            elif step.what in JOINS:
                x = JOINS[step.what](x, kept)
            elif step.context != "only in training" or self.training:
                last = last if step.what == "again" else self.layer(f"step{i}", step)
                x = CONTEXTS.get(step.context, lambda layer: layer)(last)(x)
            early = x if i == 0 else early
        return x, early

    def layer(self, name: str, step: Step) -> Callable:
        return functools.partial(PIECES[step.what][0], self) if step.inline and step.what in PIECES else getattr(self, name)


def build(plan: Plan) -> Case:
    model = RandomModel(plan)
    freeze(model) if plan.frozen_by == "freeze" else model.requires_grad_(False)
    for i, step in enumerate(plan.steps):
        part = getattr(model, f"step{i}", None)
        if part is not None and step.hook:
            HOOKS[step.hook](part)
        for name, parameter in part.named_parameters() if part is not None else ():
            parameter.requires_grad_(step.learns == "all" or (step.learns == "biases" and name.endswith("bias")))
    if plan.head or not any(p.requires_grad for p in model.parameters()):
        unfreeze(model.head)
    if plan.hook:
        HOOKS[plan.hook](model)
    if plan.mode != "as it is":
        model.train(plan.mode == "train")
    loss = None if plan.output == "logits" else loss_of_all
    return Case(model, pictures=5, batch=3, epochs=1, own_order=plan.own_order, loss=loss)


# ------------------------------------------------------------------------------------------------------------- chance


SEEDS = st.integers(0, 2**20)  # of one choice each: hypothesis likes to repeat itself where it chooses by itself
COMMON = [*LAYERS, "keep", "added", "gated", "half of each", "again"]


def kinds_of(strange: bool) -> list[list[str]]:
    return [COMMON, [*JOINS, *STRANGE_LAYERS, *COMMON], fitting(), fitting()] if strange else [COMMON]


def step_of(kinds: list[list[str]], seed: int, adorned: bool) -> Step:
    """The step of this seed; the simplest one for 0, with nothing around it if it is not `adorned`."""
    if not seed:
        return Step("identity")
    dice = random.Random(seed)
    step = Step(dice.choice(dice.choice(kinds)), dice.random() < 0.5, dice.choice(["nothing", "nothing", "biases", "all"]))
    hook, context = dice.choice([*HOOKS] + 60 * [""]), dice.choice(["", "", *CONTEXTS])
    return replace(step, hook=hook, context=context) if adorned else step


def plan_of(steps: list[Step], seed: int, strange: bool) -> Plan:
    if not seed:
        return Plan(tuple(steps))
    dice = random.Random(seed)
    plan = Plan(
        tuple(steps),
        frozen_by=dice.choice(["freeze", "flags"]),
        mode=dice.choice(["as it is", "train", "eval"]),
        own_order=dice.random() < 0.5,
    )
    hook, output = dice.choice([*HOOKS] + 60 * [""]), dice.choice(["logits", "logits", "two", "with features"])
    return replace(plan, head=dice.random() < 0.7, hook=hook, output=output) if strange else plan


def plans(strange: bool) -> st.SearchStrategy[Plan]:
    adorned = st.booleans() if strange else st.just(False)
    steps = st.lists(st.builds(step_of, st.just(kinds_of(strange)), SEEDS, adorned), min_size=1, max_size=6)
    return st.builds(plan_of, steps, SEEDS, st.just(strange))


def trains(plan: Plan) -> bool:
    """Whether the whole model can be trained at all: torch refuses some changes in place of what a gradient needs."""
    seed_all(3)
    try:
        model = build(plan).model
        outputs = train_mode(model)(torch.randn(3, 3, 8, 8))
        (outputs[0].sum() + outputs[1].sum() if isinstance(outputs, tuple) else outputs.sum()).backward()
        with torch.inference_mode():
            model.eval()(torch.randn(2, 3, 8, 8))
    except Exception:
        return False
    return True


FOUND: Counter[str] = Counter()


@settings(max_examples=EXAMPLES)
@given(plan=plans(strange=True))
def test_a_model_of_anything_is_trained_equally_or_not_split(plan):
    if not trains(plan):
        FOUND["cannot be trained whole"] += 1
        return
    verdict = judge(functools.partial(build, plan))
    FOUND[verdict.kind] += 1
    event(verdict.kind)


@settings(max_examples=max(EXAMPLES // 4, 10))
@given(plan=plans(strange=False))
def test_a_model_of_common_layers_is_split(plan):
    verdict = judge(functools.partial(build, plan))
    changed = "modified by an inplace operation" in verdict.why  # what a gradient needs: the whole cannot learn either
    assume(verdict.kind != "cannot be trained whole" and not changed)
    assert verdict.kind == "equal", f"this model can be split, but is not: {verdict}"
    assert verdict.useful, "the stem is frozen, and nothing in front of it learns, but it was not moved into the frozen part"


def test_there_are_many_things_that_models_are_made_of():
    assert len(fitting()) > 100


@pytest.fixture(scope="module", autouse=True)
def shows_what_was_found():
    yield
    print(dict(FOUND))
