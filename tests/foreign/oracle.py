"""An independent judge of `split_frozen`: trains a model whole and split, and compares everything that can be seen of the two.

It knows the library by its public names alone. Whatever the model, one of two things has to happen: the split training is
equal to the whole one, or the model is not split, with a word why. Anything else is a `Silent` or `Crash`.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import itertools
import random
import re
import traceback
import types
import warnings
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parameter import is_lazy
from torch.utils.data import DataLoader, Subset, TensorDataset

import course_utils
from course_utils import fit, precompute, split_frozen, train_mode

PACKAGE = Path(course_utils.__file__).parent
Leaves = dict[str, object]


class Silent(AssertionError):
    """The split model does something else than the whole one, and nobody said so."""


class Crash(AssertionError):
    """An error that is not one of the library's own words."""


@dataclass
class Case:
    """A model with its learning state set, and what is needed to train it.

    Args:
        size: of one picture, (channels, height, width).
        example: whether `split_frozen` is given a few pictures.
        loss: of what the model returns and the labels, where `fit` cannot train such outputs (then a plain loop does).
        runs: whether a batch of pictures is all the model needs.
        forgets: attributes that may differ after training, such as a cache of constants.
        tolerance: of losses, relative; ten times as much for weights.
        unseen: whether calling it changes what no look at its modules can see, such as a variable of another function.
        own_order: whether the loader of the training pictures has a generator of its own for their order.
        loader: what else that loader is made with, of its pictures.
        cast: what is done to the pictures, such as another type of numbers.
        before_epoch: what is done to the model before each epoch, given its number.
        around: a context in which the model is split and its features are made.
    """

    model: nn.Module
    size: tuple[int, int, int] = (3, 8, 8)
    example: bool = False
    loss: Callable[[object, Tensor], Tensor] | None = None
    runs: bool = True
    forgets: tuple[str, ...] = ()
    tolerance: float = 1e-5
    pictures: int = 7
    batch: int = 4
    epochs: int = 2
    own_order: bool = True
    unseen: bool = False
    loader: Callable[[TensorDataset], dict] = lambda data: {"shuffle": True}
    cast: Callable[[Tensor], Tensor] = lambda images: images
    before_epoch: Callable[[nn.Module, int], object] | None = None
    around: Callable[[], AbstractContextManager] = nullcontext


Builder = Callable[[], Case | nn.Module]


@dataclass(frozen=True)
class Verdict:
    """What became of a model.

    Args:
        kind: "equal", "not split", "refused" (by `precompute`, once it has seen the pictures), or "cannot be trained whole".
        why: the library's word for it.
        useful: whether frozen parameters were moved out of the learning part.
    """

    kind: str
    why: str = ""
    useful: bool = False

    def __str__(self) -> str:
        return (
            f"{self.kind}{'' if self.useful or self.kind != 'equal' else ', nothing moved'}{': ' if self.why else ''}{self.why}"
        )


# ---------------------------------------------------------------------------------------------------- the judgement


def judge(builder: Builder) -> Verdict:
    """Train what `builder` makes whole and split, and compare; raise `Silent` or `Crash` where the library broke its word."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        case = build(builder)
        halves, why = split(case)
        if not case.runs and not why:
            raise Silent("was split, although it cannot be run on pictures alone")
        try:
            found = recipe(case, *halves) if case.runs and not (why and case.unseen) else ""
        except Crash:
            if reason := untrainable(builder):
                return Verdict("cannot be trained whole", reason)
            raise
        if isinstance(found, dict):
            compare(builder, found, why)
        if why:
            return Verdict("not split", why)
        if isinstance(found, str):
            return Verdict("refused", found)
        moved = {id(p) for p in halves[0].parameters()}
        return Verdict("equal", useful=any(id(p) in moved for p in case.model.parameters()))


def untrainable(builder: Builder) -> str:
    """The error with which the whole model stops, too."""
    try:
        observe_whole(build(builder))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def compare(builder: Builder, found: Leaves, why: str) -> None:
    """Hold what was `found` against the training of the whole model; `why` is the word with which it was not split."""
    case = build(builder)
    expected = observe_whole(case)
    wrong = difference(expected, found, case.tolerance, case.forgets)
    if not wrong:
        return
    repeats = not difference(expected, observe_whole(build(builder)), 0.0, case.forgets)
    if repeats:
        who = "not split, and trained by the same lines, it" if why else "split, it"
        raise Silent(f"{who} does not do the same: {wrong}")
    if not why:
        raise Silent("was split, although two runs of the same training differ")


def split(case: Case) -> tuple[tuple[nn.Module, nn.Module], str]:
    """The halves of the model, and why it is not split, if it is not; splitting may leave no trace on the model."""
    images = pictures_of(case)[0][:3] if case.example else None
    seed_all(11)
    before, given = snapshot(case.model), None if images is None else images.clone()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            with case.around():
                frozen, learning = split_frozen(case.model) if images is None else split_frozen(case.model, images)
        except Exception as error:
            raise Crash(f"split_frozen raised {type(error).__name__}: {error}\n{traceback.format_exc()}") from error
    changed = difference(before, snapshot(case.model), 0.0)
    if changed:
        raise Silent(f"splitting changed the model: {changed}")
    if given is not None and not torch.equal(given, images):
        raise Silent("splitting changed the pictures it was given")
    return (frozen, learning), word(case.model, learning, [w for w in caught if issubclass(w.category, UserWarning)])


def word(model: nn.Module, learning: nn.Module, caught: list[warnings.WarningMessage]) -> str:
    """Why `model` is not split, from the warning; an empty text if it is."""
    start = f"{type(model).__name__} is not split, so all of it runs in every epoch: "
    said = [str(w.message).removeprefix(start) for w in caught if str(w.message).startswith(start)]
    if learning is model and not any(said):
        raise Silent(f"was not split, and the warning is missing: {[str(w.message) for w in caught]}")
    if said and learning is not model:
        raise Silent(f"was split, although a warning says that it is not: {said}")
    return said[0] if said else ""


def recipe(case: Case, frozen: nn.Module, learning: nn.Module) -> Leaves | str:
    """Train by precomputed features; what can be seen of it, or the words with which `precompute` refused."""
    train, val, generator = loaders_of(case)
    before = {**rng_state(), "order": generator_state(generator)}
    try:
        with case.around():
            features = precompute(frozen, train, cache=None), precompute(frozen, val, cache=None)
    except Exception as error:
        return refusal("precompute", error)
    drawn = difference(before, {**rng_state(), "order": generator_state(generator)}, 0.0)
    if drawn:
        raise Silent(f"precompute drew random numbers: {drawn}")
    try:
        return observe(case, lambda images: learning(frozen(images)), learning, *features, generator)
    except Exception as error:
        if case.before_epoch or case.around is not nullcontext:  # it was changed on the way, and may be refused there
            return refusal("fit", error)
        raise Crash(f"training on features raised {type(error).__name__}: {error}\n{traceback.format_exc()}") from error


def refusal(what: str, error: Exception) -> str:
    """The library's word for what it cannot do; any other error is a `Crash`."""
    if not isinstance(error, ValueError) or not raised_by_us(error):
        raise Crash(f"{what} raised {type(error).__name__}: {error}\n{traceback.format_exc()}") from error
    return str(error)


def raised_by_us(error: BaseException) -> bool:
    """Whether `error` was raised by a line of the library, with more than a grunt."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return PACKAGE in Path(last.filename).parents and len(str(error)) > 20


# ------------------------------------------------------------------------------------------------ what can be seen


def observe_whole(case: Case) -> Leaves:
    return observe(case, case.model, case.model, *loaders_of(case))


def observe(
    case: Case, forward: Callable, learning: nn.Module, train: object, val: object, generator: torch.Generator
) -> Leaves:
    """Outputs and gradients in both modes, losses, weights, buffers, attributes and random states, and outputs again."""
    found: Leaves = {}
    for when in ("before training", "after training"):
        if when == "after training":
            put(found, "losses", train_it(case, learning, train, val, generator))
            put(found, when, snapshot(case.model, identity=False))
        learning.eval()
        put(found, f"{when}, outputs in evaluation mode", one_pass(case, forward))
        train_mode(learning)
        put(found, f"{when}, outputs in training mode", one_pass(case, forward, gradients=True))
    case.model.eval()
    put(found, "after training, outputs of the model itself", one_pass(case, case.model))
    return found


def put(found: Leaves, stage: str, leaves: Leaves) -> None:
    found.update({f"{stage}: {path}": leaf for path, leaf in leaves.items()})


def one_pass(case: Case, forward: Callable, gradients: bool = False) -> Leaves:
    """Outputs for one batch, gradients of what learns, and the random state that is left."""
    images = pictures_of(case)[0][: case.batch]
    seed_all(7)
    with torch.set_grad_enabled(gradients):
        outputs = forward(images)
    found = dict(leaves_of(outputs, "output"))
    put(found, "random state", rng_state())
    if gradients:
        total = sum((weighed(leaf) for leaf in tensors_in(outputs) if leaf.requires_grad), torch.zeros(()))
        total.backward()
        put(found, "gradient", gradients_of(case.model))
    return found


def weighed(output: Tensor) -> Tensor:
    """A number that depends on every value of `output` in another way."""
    output = torch.view_as_real(output) if output.is_complex() else output
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    return (output.float().nan_to_num() * weights).sum()


def gradients_of(model: nn.Module) -> Leaves:
    """The gradients as parts of the largest, so that noise in those that are nothing is nothing; they are taken away."""
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None and p.requires_grad}
    largest = max((float(g.abs().max()) for g in found.values() if g.numel()), default=0.0) or 1.0
    for parameter in model.parameters():
        parameter.grad = None
    return {name: gradient / largest for name, gradient in found.items()}


def train_it(case: Case, learning: nn.Module, train: object, val: object, generator: torch.Generator) -> Leaves:
    seed_all(5)
    generator.manual_seed(5)
    held = [p for p in case.model.parameters() if p.requires_grad or case.before_epoch]  # what may be set free later, too
    optimizer = torch.optim.SGD(held, lr=0.05, momentum=0.9)
    if case.loss:
        losses = [plain_epoch(case, learning, train, val, optimizer) for _ in range(case.epochs)]
    elif case.before_epoch:
        change = functools.partial(case.before_epoch, case.model)
        history = fit(learning, train, val, optimizer, epochs=case.epochs, before_epoch=change)
        losses = [(epoch.train.loss, epoch.val.loss) for epoch in history]
    else:
        history = fit(learning, train, val, optimizer, epochs=case.epochs)
        losses = [(epoch.train.loss, epoch.val.loss) for epoch in history]
    found = dict(leaves_of(losses, ""))
    put(found, "random state", {**rng_state(), "order": generator_state(generator)})
    return found


def plain_epoch(
    case: Case, model: nn.Module, train: object, val: object, optimizer: torch.optim.Optimizer
) -> tuple[float, float]:
    """One epoch by hand, for models whose outputs are no logits."""
    train_mode(model)
    seen = []
    for images, labels in train:
        loss = case.loss(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(float(loss.detach()))
    model.eval()
    with torch.no_grad():
        return sum(seen), sum(float(case.loss(model(images), labels)) for images, labels in val)


# ------------------------------------------------------------------------------------------------- values, flattened


HOOKS = re.compile(r"_\w*hooks\w*$")
NUMBERS = (bool, int, float, complex, str, bytes, type(None))
HARMLESS = ("training", "_is_full_backward_hook", "_torchdynamo_wrapper_id")  # may differ between two copies


class Plain:
    """For objects of a class of their own that a model holds: what they have is part of the model."""

    __slots__ = ()


def snapshot(model: nn.Module, identity: bool = True) -> Leaves:
    """Everything that belongs to the modules of `model`, and the random states, flattened.

    Args:
        identity: also which objects they are, for a comparison with the same model later on, not with a copy.
    """
    found = dict(leaves_of(model, type(model).__name__, identity))
    if identity:
        put(found, "random state", rng_state())
    return found


def leaves_of(value: object, path: str, identity: bool = False, seen: set[int] | None = None) -> Iterator[tuple[str, object]]:
    """`value` taken apart into (path, tensor or number or text)."""
    seen = set() if seen is None else seen
    if isinstance(value, Tensor):
        yield from tensor_leaves(value, path, identity)
    elif isinstance(value, NUMBERS):
        yield path, value
    elif isinstance(value, np.ndarray):
        yield path, (value.dtype.str, value.shape, value.tobytes())
    elif isinstance(value, (bytearray, array, io.StringIO, itertools.count)):
        yield path, repr(value.getvalue() if isinstance(value, io.StringIO) else value)
    elif isinstance(value, (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)):
        yield path, generator_state(value)
    elif id(value) in seen:
        return
    else:
        seen.add(id(value))
        if identity and not isinstance(value, tuple):
            yield f"{path} is", id(value)
        yield path, type(value).__name__
        for name, part in parts_of(value, identity):
            yield from leaves_of(part, f"{path}.{name}", identity, seen)


def tensor_leaves(value: Tensor, path: str, identity: bool) -> Iterator[tuple[str, object]]:
    if is_lazy(value):
        yield path, "not initialised"
        return
    yield path, value.detach().to_dense().clone() if value.is_sparse else value.detach().clone()
    if identity:
        yield f"{path} is", (id(value), value.requires_grad, value.grad is None)


def generator_state(value: object) -> int:
    if isinstance(value, torch.Generator):
        return hash(value.get_state().numpy().tobytes())
    if isinstance(value, np.random.Generator):
        return hash(repr(value.bit_generator.state))
    return hash(repr(value.get_state(legacy=False)) if isinstance(value, np.random.RandomState) else value.getstate())


def parts_of(value: object, identity: bool) -> Iterator[tuple[object, object]]:
    """What `value` consists of; of objects nobody knows, nothing."""
    if isinstance(value, torch.jit.ScriptModule):
        yield from (*value.named_parameters(), *value.named_buffers())
    elif isinstance(value, nn.Module):
        yield from module_parts(value, identity)
    elif isinstance(value, dict):
        yield from value.items()
        yield "keys", str(list(value))
    elif isinstance(value, (list, tuple, deque, set, frozenset)):
        yield from enumerate(value)
        yield "length", len(value)
    elif dataclasses.is_dataclass(value) or isinstance(value, (types.SimpleNamespace, Plain)):
        yield from getattr(value, "__dict__", {}).items()
        yield from ((name, getattr(value, name)) for name in getattr(value, "__slots__", ()))


def module_parts(module: nn.Module, identity: bool) -> Iterator[tuple[str, object]]:
    for name, value in list(vars(module).items()):
        if HOOKS.match(name):
            yield name, value if identity else len(value or ())
        elif name in ("_parameters", "_buffers", "_modules"):
            yield from value.items()
            yield name, str(list(value))
        elif identity or name not in HARMLESS:
            yield name, value


def tensors_in(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if dataclasses.is_dataclass(value):
        value = list(vars(value).values())
    return [leaf for part in value for leaf in tensors_in(part)] if isinstance(value, (list, tuple)) else []


def difference(expected: Leaves, found: Leaves, tolerance: float, forgets: tuple[str, ...] = ()) -> str:
    """The first leaf in which the two differ, in words; an empty text if there is none."""
    for path in expected | found:
        if any(name in path for name in forgets):
            continue
        if path not in found or path not in expected:
            return f"{path} is {'missing' if path not in found else 'new'}"
        if not same(expected[path], found[path], tolerance if path.startswith("losses") else 10 * tolerance):
            return f"{path} should be {short(expected[path])}, not {short(found[path])}"
    return ""


def same(one: object, other: object, tolerance: float) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and close(one, other, tolerance)
    if isinstance(one, float) and isinstance(other, float):
        return one == other or abs(one - other) <= tolerance * abs(one) or (one != one and other != other)
    if type(one) is not type(other):
        return False
    if isinstance(one, tuple):
        return len(one) == len(other) and all(same(a, b, tolerance) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def close(one: Tensor, other: Tensor, tolerance: float) -> bool:
    """Whether two tensors differ by no more than `tolerance` of the largest value (and of 0.01, where all are tiny)."""
    if torch.equal(one, other):
        return True
    if not (one.is_floating_point() or one.is_complex()) or not tolerance:
        return bool(torch.equal(one.isnan(), other.isnan()) and torch.equal(one.nan_to_num(), other.nan_to_num()))
    one, other = (t.to(torch.complex128 if t.is_complex() else torch.float64) for t in (one, other))
    largest = max(float(one.abs().nan_to_num(0, 0, 0).max()), 0.01)
    return bool(torch.allclose(one, other, rtol=0, atol=tolerance * largest, equal_nan=True))


def short(leaf: object) -> str:
    if isinstance(leaf, Tensor):
        return f"{str(leaf.dtype).removeprefix('torch.')}{list(leaf.shape)} {leaf.flatten()[:4].tolist()}"
    return repr(leaf) if len(repr(leaf)) < 80 else repr(leaf)[:80] + " …"


# ------------------------------------------------------------------------------------------------ pictures and seeds


def build(builder: Builder) -> Case:
    seed_all(3)
    made = builder()
    return made if isinstance(made, Case) else Case(made)


def pictures_of(case: Case, count: int | None = None) -> tuple[Tensor, Tensor]:
    """Pictures of three classes, each with a brightness of its own, and their labels; the same ones each time."""
    generator = torch.Generator().manual_seed(13)
    count = count or case.pictures
    labels = torch.arange(count) % 3
    images = torch.randn(count, *case.size, generator=generator) + labels.view(-1, 1, 1, 1)
    return case.cast(images), labels


def loaders_of(case: Case) -> tuple[DataLoader, DataLoader, torch.Generator]:
    generator = torch.Generator().manual_seed(5)
    data = TensorDataset(*pictures_of(case))
    options = {"batch_size": case.batch} | case.loader(data)
    train = DataLoader(data, **options, generator=generator if case.own_order else None)
    return train, DataLoader(Subset(data, range(4)), case.batch), generator


def seed_all(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)  # not torch.manual_seed, which also leaves word for GPUs, and takes its time


def rng_state() -> dict[str, int]:
    """Fingerprints of the states of the three generators that everybody shares."""
    name, words, *rest = np.random.get_state()
    states = {
        "python": random.getstate(),
        "numpy": (name, words.tobytes(), *rest),
        "torch": torch.get_rng_state().numpy().tobytes(),
    }
    return {generator: hash(state) for generator, state in states.items()}


def logits_in(outputs: object) -> Tensor:
    """The first tensor in what a model returns."""
    return tensors_in(outputs)[0]


def loss_of_all(outputs: object, labels: Tensor) -> Tensor:
    """Cross-entropy of all tensors in `outputs`, added."""
    return sum(F.cross_entropy(logits, labels) for logits in tensors_in(outputs))


def loss_of_first(outputs: object, labels: Tensor) -> Tensor:
    """Cross-entropy of the first tensor in `outputs`, for models that return dictionaries and the like."""
    return F.cross_entropy(logits_in(outputs), labels)
