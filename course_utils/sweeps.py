"""Sweeps: the same training at several rates from several seeds, and how sure one may be of a difference between them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from statistics import mean, stdev
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from course_utils.feature_store import Features
from course_utils.train import Batches, check_fit, check_learns, evaluate, train_one_epoch

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
) -> list[Row]:
    """Train `start(seed)` at every rate from every seed, and evaluate each once, at the end.

    The order of the pictures follows from the seed, so runs of one seed see the same batches. On features from `precompute`
    a run costs no more than the part that learns.

    Args:
        start: the network before training; for kept features the learning half of a split network.
        optimizer: makes an optimizer from parameters and a rate.

    Returns:
        One record per run: `{"lr": 0.01, "seed": 0, "loss": …, "val": …}`, with the loss and the accuracy (0 … 1) on `val`.
        The loss of a run is infinite if it diverged; its accuracy is then that of the last step before.

    Raises:
        ValueError: if `epochs` or a rate is not positive, or nothing learns.
    """
    rows: list[Row] = []
    for lr, seed in product(rates, seeds):
        model = start(seed)
        check_learns(model)
        steps = optimizer([parameter for parameter in model.parameters() if parameter.requires_grad], lr)
        check_fit(model, steps, epochs)
        rewind(train, seed)
        try:
            for epoch in range(1, epochs + 1):
                train_one_epoch(model, train, steps, note=f"rate {lr:g}, seed {seed}, epoch {epoch}/{epochs}")
            diverged = False
        except FloatingPointError:
            diverged = True
        score = evaluate(model, val)
        loss = score.loss if math.isfinite(score.loss) and not diverged else math.inf
        rows.append({"lr": lr, "seed": seed, "loss": loss, "val": score.accuracy})
    return rows


def rewind(train: DataLoader, seed: int) -> None:
    """From here on the batches follow from `seed`: their order, what a transform draws, and which views are shown."""
    torch.manual_seed(seed)
    if train.generator is not None:
        train.generator.manual_seed(seed)
    if isinstance(train.dataset, Features):
        train.dataset.epoch = 0


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % confidence interval for the mean that stands behind `values`, by Student's t distribution.

    Raises:
        ValueError: if there are fewer than 2 values.
    """
    from scipy.special import stdtrit  # the quantile of t; only here, since it takes a moment

    if len(values) < 2:
        raise ValueError(f"{len(values)} value(s); an interval for the mean takes 2 or more, one from each seed")
    half = stdtrit(len(values) - 1, 0.975) * stdev(values) / math.sqrt(len(values))
    return float(mean(values) - half), float(mean(values) + half)
