"""The learning-rate range test: raise the rate with every batch, and watch the loss fall, stall and blow up.

found = lr_range_test(model, data.train)
steepest_rate(found.rates, found.losses)  # a rate to begin with, not the best one
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from course_utils.finetune import check_rate
from course_utils.loader_state import preserve_loader
from course_utils.losses import Loss, cross_entropy
from course_utils.progress_bar import progress
from course_utils.rng import preserve_rng_state
from course_utils.sweeps import check_maker, momentum
from course_utils.train import Batches, Inputs, check_optimizer, check_rates, train_one_epoch

FEWEST = 10  # batches of which a curve can be read
BLOWN_UP = 4.0  # times the lowest loss; the loss has to be above that of the first batches too


class RangeTest(NamedTuple):
    """The loss of each batch, before the step at the rate of the same place, and the losses without most of their noise."""

    rates: list[float]
    losses: list[float]
    smoothed: list[float]


def lr_range_test(
    model: nn.Module,
    train: Batches,
    optimizer: Callable[[Iterable[nn.Parameter], float], Optimizer] = momentum,
    *,
    low: float = 1e-5,
    high: float = 1.0,
    batches: int = 100,
    loss_function: Loss = cross_entropy,
) -> RangeTest:
    """Train for a few `batches` while the learning rate rises from `low` to `high`, by the same factor each time.

    This is the test of [Smith 2017](https://arxiv.org/abs/1506.01186), which others call a learning-rate finder. It ends
    early where the loss blows up. Afterwards all is as it was: weights, buffers, modes and gradients of `model`, random
    numbers, and what the loader shows next. It sees a few batches in one order, so it cannot tell which rate is best in the
    end; with more of them the loss falls at lower rates already.

    Args:
        train: batches as `fit` takes them, also of kept features; begun again where there are too few.
        optimizer: makes an optimizer from the parameters that learn and a rate. Of several groups each keeps its ratio to
            that rate: `lambda _, lr: Adam(param_groups(model, {"layer4": lr / 10, "fc": lr}))`.

    Raises:
        TypeError: if `optimizer` is no function that returns an optimizer, or a batch has another form than `fit` takes.
        ValueError: if nothing learns, the rates do not rise, `optimizer` pays no attention to its rate or does not hold all
            that learns, there are fewer than 10 batches, or `train` gives its batches only once and these are too few.
        FloatingPointError: if the loss is not finite from the beginning, or blows up within 10 batches.
    """
    check_rising(low, high, batches)
    check_maker("optimizer", optimizer, "lambda parameters, lr: Adam(parameters, lr=lr)")
    rates = [low * (high / low) ** (i / (batches - 1)) for i in range(batches)]
    losses: list[float] = []
    with preserve_rng_state(), preserve_loader(train), preserve_model(model), progress(rates, "range test") as rising:
        steps = optimizer_of(model, optimizer, low, high)
        shares = [group["lr"] / low for group in steps.param_groups]
        for rate, batch in zip(rising, again_and_again(train), strict=False):
            for group, share in zip(steps.param_groups, shares, strict=True):
                group["lr"] = share * rate
            try:
                note = f"range test, step {len(losses) + 1}"
                losses.append(train_one_epoch(model, [batch], steps, loss_function=loss_function, note=note).loss)
            except FloatingPointError:
                if not losses:
                    raise
                break
            if blown_up(losses):
                break
    if len(losses) < FEWEST:
        raise FloatingPointError(
            f"the loss blew up within {len(losses)} batches, at a rate of {rates[len(losses)]:.1e}; begin lower"
        )
    return RangeTest(rates[: len(losses)], losses, smooth(losses))


def steepest_rate(rates: Sequence[float], losses: Sequence[float]) -> float:
    """The rate at which the loss falls fastest over the logarithm of the rate, before it is lowest.

    Raises:
        ValueError: if there are fewer than 10 rates, not one loss for each, one is not finite, or the loss does not fall.
    """
    if len(rates) != len(losses) or len(rates) < FEWEST:
        raise ValueError(f"{len(rates)} rates and {len(losses)} losses; give {FEWEST} rates or more, and one loss for each")
    if not all(map(math.isfinite, losses)):
        raise ValueError("a loss is not finite; leave out what comes after the loss blew up")
    curve, reach = smooth(losses), reach_of(len(losses))
    lowest = min(range(len(curve)), key=curve.__getitem__)
    slopes = {i: curve[i + reach] - curve[i - reach] for i in range(reach, min(lowest + 1, len(curve) - reach))}
    if not slopes or min(slopes.values()) >= 0:
        raise ValueError(f"the loss does not fall between the rates {rates[0]:g} and {rates[-1]:g}; try lower or higher ones")
    return rates[min(slopes, key=slopes.__getitem__)]


# ------------------------------------------------------------------------------------------------------------- the curve


def reach_of(count: int) -> int:
    """How many neighbours to each side smoothing takes: all in all a tenth of the curve."""
    return max(1, count // 20)


def smooth(losses: Sequence[float]) -> list[float]:
    """Means over as many neighbours before as behind, so that the curve is not moved to the right; fewer near both ends."""
    found = []
    for i in range(len(losses)):
        reach = min(reach_of(len(losses)), i, len(losses) - 1 - i)
        found.append(sum(losses[i - reach : i + reach + 1]) / (2 * reach + 1))
    return found


def blown_up(losses: Sequence[float], window: int = 5) -> bool:
    """Whether the mean of the last losses is several times the lowest such mean, and above the first."""
    means = [sum(losses[i : i + window]) / window for i in range(len(losses) - window + 1)]
    return bool(means) and means[-1] > max(BLOWN_UP * min(means), means[0])


# ------------------------------------------------------------------------------------------------------- what is needed


def check_rising(low: float, high: float, batches: int) -> None:
    check_rate(low)
    check_rate(high)
    if low >= high:
        raise ValueError(f"low={low:g} and high={high:g}; the rate rises, so give a low one and a higher one")
    if isinstance(batches, bool) or not isinstance(batches, numbers.Integral) or batches < FEWEST:
        raise ValueError(f"batches={batches!r}; give a whole number of {FEWEST} or more")


def optimizer_of(model: nn.Module, optimizer: Callable[..., Optimizer], low: float, high: float) -> Optimizer:
    """The optimizer at `low`, if the rates that it gives to its groups follow from the one that it is told."""
    pair = [optimizer([one for one in model.parameters() if one.requires_grad], rate) for rate in (high, low)]
    for made in pair:
        check_rates(made)
        check_optimizer(model, made)
    told, first = ([float(group["lr"]) for group in made.param_groups] for made in pair)
    if not all(math.isclose(b / a, high / low, rel_tol=1e-6) for b, a in zip(told, first, strict=True)):
        raise ValueError(
            f"told the rates {low:g} and {high:g}, the optimizer has {first} and {told}: each rate has to be the one it is "
            "told, or a share of it, such as lambda parameters, lr: Adam(parameters, lr=lr)"
        )
    return pair[1]


def again_and_again(train: Batches) -> Iterator[tuple[Inputs, Tensor]]:
    """The batches of `train` without end."""
    yield from train
    while True:
        found = False
        for batch in train:
            found = True
            yield batch
        if not found:
            raise ValueError(
                f"train, a {type(train).__name__}, has no more batches and does not begin again; give a DataLoader, a list of "
                "the batches, or fewer batches=…"
            )


@contextmanager
def preserve_model(model: nn.Module) -> Iterator[None]:
    """Afterwards weights, buffers, gradients and modes are as before; what did not change has not been written to."""
    modes = {module: module.training for module in model.modules()}
    gradients = {parameter: parameter.grad for parameter in model.parameters()}
    buffers = {module: dict(module._buffers) for module in model.modules()}
    kept: dict[Tensor, Any] = {one: one.detach().clone() for one in (*gradients, *model.buffers())}
    try:
        yield
    finally:
        with torch.no_grad():
            for module, training in modes.items():
                module.training = training
                module._buffers.update(buffers[module])
            for tensor, values in kept.items():
                if not torch.equal(tensor, values):
                    tensor.copy_(values)
            for parameter, gradient in gradients.items():
                parameter.grad = gradient
