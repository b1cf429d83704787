"""Sweeps: the same training at several rates from several seeds, and how sure one may be of a difference between them."""

from __future__ import annotations

import math
import numbers
import os
import reprlib
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from statistics import mean, stdev
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from course_utils.devices import autocasts
from course_utils.finetune import check_rate
from course_utils.fingerprint import fingerprint
from course_utils.loader_state import preserve_loader, rewind
from course_utils.rng import preserve_rng_state, seed_all
from course_utils.spread import Journal, Key, Record, packed, spread
from course_utils.train import (
    Batches,
    Counted,
    Inputs,
    check_epochs,
    check_learns,
    check_optimizer,
    check_rates,
    evaluate,
    interrupted,
    train_one_epoch,
)

Row = dict[str, Any]  # one run: its rate, its seed, what came of it


def momentum(parameters: Iterable[nn.Parameter], lr: float) -> Optimizer:
    """SGD with momentum 0.9."""
    return torch.optim.SGD(parameters, lr=lr, momentum=0.9)


def sweep(
    start: Callable[[int], nn.Module],
    train: DataLoader,
    val: Batches,
    *,
    rates: Sequence[float],
    seeds: Sequence[int],
    epochs: int,
    optimizer: Callable[[Iterable[nn.Parameter], float], Optimizer] = momentum,
    scheduler: str | None = None,
    journal: str | os.PathLike | None = None,
) -> list[Row]:
    """Train `start(seed)` at every rate from every seed, and evaluate each once, at the end.

    What a run draws follows from its seed, before `start` and again before the first batch: Python's, numpy's and torch's
    numbers, and those of the loader and its samplers. So runs of one seed see the same batches. Afterwards all these
    generators are as they were. On features from `precompute` a run costs no more than the part that learns.

    Args:
        start: a new network each time, before training; for cached features a copy of the learning part, with a new head.
        optimizer: makes an optimizer from parameters and a rate.
        scheduler: no schedule of rates, but the address of a dask scheduler such as "tcp://host:8786", whose workers make the
            runs side by side; the records are the same. Everything that a run needs is pickled and sent there, so nothing of
            it may hold an open file, a generator of batches, or the like.
        journal: a file in which each record is written as soon as it is there. Stopped and called again, `sweep` makes the
            runs that are missing. It belongs to this one sweep: delete it when network, pictures or optimizer change.

    Returns:
        One record per run: `{"lr": 0.01, "seed": 0, "loss": …, "val": …}`, with the loss and the accuracy (0 … 1) on `val`.
        The loss of a run that diverged is infinite; its accuracy then says nothing.

    Raises:
        TypeError: if `start` or `optimizer` is no function, `start` does not return a module, or something cannot travel to
            the workers.
        ValueError: if `epochs` or a rate is not positive, a seed is no whole number, nothing learns, `start` returns what an
            earlier run has trained, two runs of one seed do not begin with the same batch, or the journal is another's; and
            for a scheduler what `spread` raises.
        KeyboardInterrupt: at Ctrl-C; its `finished` holds the records of the runs that were done.
    """
    check_epochs(epochs)
    check_maker("start", start, "lambda seed: copy.deepcopy(model)")
    check_maker("optimizer", optimizer, "lambda parameters, lr: Adam(parameters, lr=lr)")
    plan = list(product(map(as_rate, rates), map(as_seed, seeds)))
    parts: dict[str, Any] = {"start": start, "train": train, "val": val, "epochs": epochs, "optimizer": optimizer}
    log = Journal(journal, about={"epochs": epochs} | {kind: str(dtype) for kind, dtype in autocasts().items()})
    with preserve_rng_state(), preserve_loader(train):
        run = travelling(parts) if scheduler else Runs(**parts).run
        try:
            found = spread(run, plan, scheduler=scheduler, journal=log)
        except KeyboardInterrupt:
            raise interrupted(rows_of(log.known.values()), f"{len(plan)} runs") from None
    check_first(found, journal)
    return rows_of(found[key] for key in plan)


def check_maker(name: str, maker: Any, such_as: str) -> None:
    """It is called for each run; what was made once belongs to one run."""
    if not callable(maker) or isinstance(maker, nn.Module):
        raise TypeError(f"{name} is a function that is called for each run, such as {such_as}, not {reprlib.repr(maker)}")


def rows_of(records: Iterable[Record]) -> list[Row]:
    return [{name: value for name, value in record.items() if name != "first"} for record in records]


def check_first(found: Mapping[Key, Record], journal: str | os.PathLike | None) -> None:
    """Runs of one seed began with the same batch, wherever they were made."""
    first: dict[int, str] = {}
    for record in found.values():
        if first.setdefault(record["seed"], record["first"]) != record["first"]:
            where = f" or {journal} is of another sweep" if journal else ""
            raise ValueError(DIFFER.format(seed=record["seed"], where=where))


def travelling(parts: dict[str, Any]) -> Callable[..., Record]:
    """`apart` with all that it needs, if that can travel to another process."""
    for name, part in parts.items():
        try:
            packed(part)
        except TypeError as error:
            raise TypeError(
                f"{name} cannot travel to the workers of a scheduler ({error.__cause__}); give a DataLoader or a list of "
                "batches, and functions that open what they need, or sweep without a scheduler"
            ) from error
    return partial(apart, parts)


def apart(parts: dict[str, Any], lr: float, seed: int) -> Record:
    """One run, in a process that knows of no other."""
    with preserve_rng_state():
        return Runs(**parts).run(lr, seed)


def as_rate(rate: float) -> float:
    check_rate(rate)
    return float(rate)


def as_seed(seed: int) -> int:
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral):
        raise ValueError(f"a seed is a whole number, not {seed!r}")
    return int(seed)


@dataclass
class Runs:
    """The runs of one sweep, and what they must not or have to share."""

    start: Callable[[int], nn.Module]
    train: DataLoader
    val: Batches
    epochs: int
    optimizer: Callable[[Iterable[nn.Parameter], float], Optimizer]
    trained: dict[int, weakref.ref] = field(default_factory=dict)  # by id, the parameters that earlier runs have changed
    first: dict[int, tuple[Inputs, Tensor]] = field(default_factory=dict)  # by seed, the first batch that was shown

    def run(self, lr: float, seed: int) -> Row:
        seed_all(seed)
        model = self.start(seed)
        parameters = self.learning(model)
        steps = self.optimizer(parameters, lr)
        check_rates(steps)
        check_optimizer(model, steps)
        rewind(self.train, seed)
        diverged = False
        batches = Compared(self.train, seed, self.first)
        try:
            for epoch in range(1, self.epochs + 1):
                train_one_epoch(model, batches, steps, note=f"rate {lr:g}, seed {seed}, epoch {epoch}/{self.epochs}")
        except FloatingPointError:
            diverged = True
        score = evaluate(model, self.val)
        loss = score.loss if math.isfinite(score.loss) and not diverged else math.inf
        return {"lr": lr, "seed": seed, "loss": loss, "val": score.accuracy, "first": fingerprint(*self.first[seed])}

    def learning(self, model: nn.Module) -> list[nn.Parameter]:
        """The parameters that learn, none of which an earlier run has trained."""
        if not isinstance(model, nn.Module):
            raise TypeError(f"start returns the network for a seed, a torch.nn.Module, not {type(model).__name__}")
        check_learns(model)
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and self.trained.get(id(parameter), lambda: None)() is parameter:
                raise ValueError(
                    f"start returns a network whose {name!r} an earlier run has trained, so this run would go on from there; "
                    "build a new network each time, or return a copy.deepcopy of one that is not trained"
                )
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.trained |= {id(parameter): weakref.ref(parameter) for parameter in parameters}
        return parameters


class Compared(Counted):
    """The batches of `loader`, the first of which has to be that of the other runs of this seed, which `first` holds."""

    def __init__(self, loader: Batches, seed: int, first: dict[int, tuple[Inputs, Tensor]]):
        super().__init__(loader)
        self.seed, self.first = seed, first

    def __iter__(self) -> Iterator[tuple[Inputs, Tensor]]:
        for batch in super().__iter__():
            if self.images == len(batch[1]) and not equal(batch, self.first.setdefault(self.seed, batch)):
                raise ValueError(DIFFER.format(seed=self.seed, where=""))
            yield batch


DIFFER = (
    "two runs of seed {seed} do not begin with the same batch, so their rates cannot be compared{where}: the data set or a "
    "sampler has random numbers of its own, or goes on where it was; let it draw from torch, numpy or random, or from a "
    "torch.Generator named `generator`, and do without persistent_workers"
)


def equal(one: Inputs, other: Inputs) -> bool:
    if isinstance(one, Tensor):
        return one.shape == other.shape and torch.equal(one.nan_to_num(), other.nan_to_num())
    return len(one) == len(other) and all(map(equal, one, other))


# ------------------------------------------------------------------------------------------------------- the interval


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % confidence interval for the mean that stands behind `values`, by Student's t distribution.

    Raises:
        ValueError: if there are fewer than 2 values, or one is not finite (the loss of a run that diverged).
    """
    from scipy.special import stdtrit  # the quantile of t; only here, since it takes a moment

    values = [float(value) for value in values]  # also of a tensor
    if len(values) < 2:
        raise ValueError(f"{len(values)} value(s); an interval for the mean takes 2 or more, one from each seed")
    if not all(map(math.isfinite, values)):
        raise ValueError(f"no mean stands behind {list(values)}: a run that diverged has to be left out, and told of")
    half = stdtrit(len(values) - 1, 0.975) * stdev(values) / math.sqrt(len(values))
    return float(mean(values) - half), float(mean(values) + half)
