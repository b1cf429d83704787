"""The training loop: one epoch, the evaluation, and both in turn."""

from __future__ import annotations

import math
import numbers
import reprlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from course_utils.devices import Arriving, Inputs, device_of, is_autocast, prefetched, to_device
from course_utils.finetune import check_rate, eval_mode, train_mode, trainable
from course_utils.losses import Loss, as_labels, count_right, cross_entropy, describe, ignored_by, in_single, loss_of
from course_utils.progress_bar import progress

Batches = Iterable[tuple[Inputs, Tensor]]


class Score(NamedTuple):
    """Averages over the pictures of one pass: the loss, and the accuracy in 0 … 1 (nan where labels are no classes)."""

    loss: float
    accuracy: float


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave: scores on the training and validation pictures, and training pictures a second."""

    number: int
    train: Score
    val: Score
    speed: float

    def __str__(self) -> str:
        train, val = self.train, self.val
        return f"epoch {self.number:2}  train {train.loss:.2f} ({train.accuracy:.0%})  val {val.loss:.2f} ({val.accuracy:.0%})"


# ------------------------------------------------------------------------------------------------------------ one pass


def train_one_epoch(
    model: nn.Module,
    loader: Batches,
    optimizer: Optimizer,
    *,
    step_scheduler: LRScheduler | None = None,
    loss_function: Loss = cross_entropy,
    note: str = "train",
) -> Score:
    """Show every batch once and step after each; what is frozen stays as it is.

    Args:
        step_scheduler: sets the rates anew after each step.
        loader: batches of two, images and labels. Labels are class numbers of shape (batch,), or have the shape of the
            outputs: soft labels, several labels of a picture, or the yes or no for a single logit.
        loss_function: takes what the model returns, in float32 at least, and the labels; gives the mean over the batch.

    Returns:
        Loss and accuracy averaged over the pictures, each measured when its batch was shown, before the step. A loss that is
        another mean than that over the pictures, as with class weights, is averaged here all the same; `evaluate` is exact.

    Raises:
        TypeError: if the model is none, or a batch, or what the model returns, has another form.
        ValueError: if nothing learns, the loader is empty, a label stands for no output, the loss is not one number or has
            no gradient, batch norm cannot learn from a batch of one picture, or a `torch.autocast` keeps old weights.
        FloatingPointError: if the loss is not finite, before the step; the message names batch and learning rates, and a
            batch norm whose statistics the batch has spoilt.
    """
    check_learns(model)
    check_schedulers(optimizer, step_scheduler)
    train_mode(model)
    device = device_of(model)
    check_autocast(device)
    meter = Meter(loss_function)
    with progress(loader, note) as batches:
        for images, labels in prefetched(pairs(batches), device):
            torch.clear_autocast_cache()  # copies of older weights, by an autocast that the model itself has
            outputs = in_single(forward(model, images))
            labels, counted = as_labels(labels, outputs, meter.ignored)
            labels = to_device(labels, device)
            loss = loss_of(loss_function, outputs, labels)
            meter.add(outputs, labels, counted, loss)
            check_gradient(loss)
            optimizer.zero_grad()
            loss.backward()
            check_finite(model, meter, counted, optimizer, note)  # here, where a GPU computes gradients while the loss arrives
            optimizer.step()
            if step_scheduler:
                step_scheduler.step()
            batches.set_postfix_str(f"loss {meter.last:.3f}, {meter.speed:.0f} pictures/s", refresh=False)
    return meter.score()


def forward(model: nn.Module, images: Inputs) -> Any:
    try:
        return model(images)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        first = images if isinstance(images, Tensor) else images[0]
        raise ValueError(
            f"batch norm cannot learn from a batch of {len(first)} picture(s) of {tuple(first.shape[2:])} pixels; use "
            "another batch size, DataLoader(..., drop_last=True), larger pictures, or freeze the batch norm"
        ) from error


def evaluate(model: nn.Module, loader: Batches, *, loss_function: Loss = cross_entropy, note: str = "val") -> Score:
    """Loss and accuracy over all pictures of `loader`, whatever the batch size; `model` is left as it was found.

    A `loss_function` of one's own may be any mean, such as one by class weights, so it is applied once, to the outputs for
    all pictures; these are kept until then.

    Raises:
        TypeError: if the model is none, or a batch, or what it returns, has another form than `train_one_epoch` takes.
        ValueError: if the loader is empty, a label stands for no output, or the loss is not one number.
    """
    check_model(model)
    device = device_of(model)
    meter, kept = Meter(loss_function), []
    with eval_mode(model), torch.inference_mode(), progress(loader, note) as batches:
        for images, labels in prefetched(pairs(batches), device):
            outputs = in_single(model(images))
            labels, counted = as_labels(labels, outputs, meter.ignored)
            labels = to_device(labels, device)
            if loss_function is cross_entropy:
                meter.add(outputs, labels, counted, cross_entropy(outputs, labels))
            else:
                meter.add(outputs, labels, counted)
                kept.append((outputs, labels))
        score = meter.score()
        return score._replace(loss=loss_of(loss_function, *concatenate(kept)).item()) if kept else score


def concatenate(parts: Sequence[Any]) -> Any:
    """Tensors of batches as one; where batches are tuples, a tuple of their tensors."""
    if isinstance(parts[0], Tensor):
        return torch.cat(list(parts))
    joined = [concatenate(part) for part in zip(*parts, strict=True)]
    return type(parts[0])(*joined) if hasattr(parts[0], "_fields") else tuple(joined)


# ----------------------------------------------------------------------------------------------------------- all epochs


def fit(
    model: nn.Module,
    train_loader: Batches,
    val_loader: Batches,
    optimizer: Optimizer,
    *,
    epochs: int,
    done: int = 0,
    step_scheduler: LRScheduler | None = None,
    epoch_scheduler: LRScheduler | None = None,
    loss_function: Loss = cross_entropy,
    before_epoch: Callable[[int], object] = lambda number: None,
    after_epoch: Callable[[Epoch], object] = lambda epoch: None,
) -> list[Epoch]:
    """Train until `epochs` epochs are done, and evaluate after each.

    Layers in which nothing learns stay in evaluation mode. Optimizer, schedulers and loss are made outside and passed in. To
    keep the best weights, copy them when val says so:

        def keep_best(epoch):
            if epoch.val.accuracy > best.get("accuracy", -1):
                best.update(accuracy=epoch.val.accuracy, weights=copy.deepcopy(model.state_dict()))

        best = {}
        fit(model, train, val, optimizer, epochs=10, after_epoch=keep_best)
        model.load_state_dict(best["weights"])

    `with mixed_precision(model):` around it trains in bfloat16 where the machine is faster with it.

    Args:
        train_loader, val_loader, loss_function: as for `train_one_epoch` and `evaluate`.
        done: how many of the epochs an earlier run has finished, as `load_checkpoint` says; the rest are trained.
        step_scheduler, epoch_scheduler: schedulers of torch, made for this optimizer. The first sets the rates anew after
            each step (a warm-up, `OneCycleLR`), the second after each epoch, before `after_epoch`. `ReduceLROnPlateau` belongs
            into the second; it gets the loss on val, or with mode="max" the accuracy.
        before_epoch: called with the epoch's number, from 1 (to unfreeze something, to change a rate).
        after_epoch: called with each finished `Epoch`; `after_epoch=print` prints a line.

    Raises:
        TypeError: if a scheduler is none of torch's.
        ValueError: if `epochs` or a learning rate is not positive (with a scheduler a rate may be 0), nothing learns,
            something learns that the optimizer does not hold, or a scheduler is made for another optimizer; and what
            `train_one_epoch` raises.
        FloatingPointError: if the loss is not finite.
        KeyboardInterrupt: at Ctrl-C, so that a loop around `fit` stops too. It holds the epochs that were finished, in the
            next cell as `sys.last_value.finished`.
    """
    check_epochs(epochs)
    check_done(done)
    check_rates(optimizer)
    check_schedulers(optimizer, step_scheduler, epoch_scheduler)
    check_repeatable(epochs - done, train_loader=train_loader, val_loader=val_loader)
    options: dict[str, Any] = {"step_scheduler": step_scheduler, "loss_function": loss_function}
    history: list[Epoch] = []
    try:
        for number in range(done + 1, epochs + 1):
            before_epoch(number)
            check_optimizer(model, optimizer)
            batches, started = Counted(train_loader), time.perf_counter()
            train = train_one_epoch(model, batches, optimizer, note=f"epoch {number}/{epochs}", **options)
            speed = batches.images / (time.perf_counter() - started)
            val = evaluate(model, val_loader, loss_function=loss_function)
            history.append(Epoch(number, train, val, speed))
            end_epoch(epoch_scheduler, val)
            after_epoch(history[-1])
    except KeyboardInterrupt:
        raise interrupted(history, f"{epochs - done} epochs, and the model keeps what it has learnt") from None
    return history


def end_epoch(scheduler: LRScheduler | None, val: Score) -> None:
    """Let the scheduler set the rates of the next epoch."""
    if isinstance(scheduler, ReduceLROnPlateau):
        scheduler.step(val.loss if scheduler.mode == "min" else val.accuracy)
    elif scheduler:
        scheduler.step()


def interrupted(finished: list, of: str) -> KeyboardInterrupt:
    """What Ctrl-C raises, with what was finished by then; of the same class, since shells know a stopped Python by it."""
    stop = KeyboardInterrupt(
        f"stopped by hand after {len(finished)} of {of}; sys.last_value.finished holds those that are done"
    )
    stop.finished = finished  # type: ignore[attr-defined]
    return stop


def check_epochs(epochs: int) -> None:
    if isinstance(epochs, bool) or not isinstance(epochs, numbers.Integral) or epochs < 1:
        raise ValueError(f"epochs={epochs!r}; give a whole number of 1 or more")


def check_done(done: int) -> None:
    if isinstance(done, bool) or not isinstance(done, numbers.Integral) or done < 0:
        raise ValueError(f"done={done!r}; give the number of epochs that are finished, as load_checkpoint returns it")


def check_schedulers(optimizer: Optimizer, step: LRScheduler | None, epoch: LRScheduler | None = None) -> None:
    """Each is one of torch's, and made for `optimizer`."""
    for name, scheduler in {"step_scheduler": step, "epoch_scheduler": epoch}.items():
        if scheduler is None:
            continue
        if not isinstance(scheduler, LRScheduler):
            raise TypeError(
                f"{name} is one of torch.optim.lr_scheduler, such as StepLR(optimizer, 5), not {reprlib.repr(scheduler)}; "
                "SequentialLR and ChainedScheduler make one of several"
            )
        if scheduler.optimizer is not optimizer:
            raise ValueError(f"{name} is made for another optimizer, so it would change nothing here; make a new one for this")
    if isinstance(step, ReduceLROnPlateau):
        raise ValueError("ReduceLROnPlateau waits for what val says, which is known once an epoch: give it as epoch_scheduler")


def check_rates(optimizer: Optimizer) -> None:
    """Each rate is a positive number; where a scheduler sets it, it may begin at 0."""
    if not isinstance(getattr(optimizer, "param_groups", None), list):
        raise TypeError(
            f"the optimizer is one of torch.optim, such as SGD(model.parameters(), lr=0.01), not {reprlib.repr(optimizer)}"
        )
    if isinstance(optimizer, torch.optim.LBFGS):
        raise TypeError("LBFGS asks for the loss several times in a step, which this loop does not give; take SGD or Adam")
    for group in optimizer.param_groups:
        rate, scheduled = float(group["lr"]), "initial_lr" in group
        if not (scheduled and rate == 0):
            check_rate(rate)


def check_optimizer(model: nn.Module, optimizer: Optimizer) -> None:
    """All that learns is in the optimizer; what is frozen may be in it."""
    check_learns(model)
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    learning = {name: id(parameter) for name, parameter in model.named_parameters() if parameter.requires_grad}
    missing = [name for name, parameter in learning.items() if parameter not in held]
    if len(missing) == len(learning):
        raise ValueError(
            "the optimizer holds no parameter of this model that learns; build it after replacing and freezing layers"
        )
    if missing:
        parts = ", ".join(repr(part) for part in dict.fromkeys(name.partition(".")[0] for name in missing))
        raise ValueError(
            f"the optimizer does not hold all that learns: {parts} (such as {missing[0]!r}) would never change; "
            "freeze what shall not learn, or give it to the optimizer"
        )


def check_model(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"a model is a torch.nn.Module, not {reprlib.repr(model)}; it comes first, the batches come after it")


def check_learns(model: nn.Module) -> None:
    check_model(model)
    if not trainable(model):
        raise ValueError("nothing learns: every parameter of the model is frozen; unfreeze its head at least")


def check_repeatable(epochs: int, **loaders: Batches) -> None:
    for name, loader in loaders.items():
        if epochs > 1 and isinstance(loader, Iterator) and type(loader).__module__ in ("builtins", "itertools"):
            raise ValueError(
                f"{name} is a {type(loader).__name__}, which gives its batches only once, and there are {epochs} epochs; "
                "give a DataLoader, or a list of the batches"
            )


# --------------------------------------------------------------------------------------------------------- helpers


class Meter:
    """Adds up loss and right answers over the pictures of one pass.

    The numbers of a batch may still be on their way from an accelerator when the next batch is begun: `settle` waits for them.
    """

    def __init__(self, loss_function: Loss) -> None:
        self.loss, self.hits, self.counted, self.images, self.batches, self.last = 0.0, 0.0, 0, 0, 0, 0.0
        self.ignored = ignored_by(loss_function)
        self.arriving: tuple[Arriving, int] | None = None
        self.started = time.perf_counter()

    def add(self, outputs: Any, labels: Tensor, counted: int, loss: Tensor | None = None) -> None:
        self.settle()
        right = count_right(outputs, labels, self.ignored)
        self.arriving = (Arriving(right) if loss is None else Arriving(right, loss)), counted
        self.counted += counted
        self.images += len(labels)
        self.batches += 1

    def settle(self) -> None:
        if self.arriving:
            (numbers, counted), self.arriving = self.arriving, None
            right, *losses = numbers.items()
            self.hits += right
            for self.last in losses:
                self.loss += self.last * counted if counted else 0.0

    @property
    def speed(self) -> float:
        return self.images / (time.perf_counter() - self.started)

    def score(self) -> Score:
        self.settle()
        if not self.images:
            raise ValueError(
                "the loader gave no batch; check its folder, its batch size and drop_last (a generator gives its batches once)"
            )
        return Score(self.loss / self.counted, self.hits / self.counted) if self.counted else Score(math.nan, math.nan)


def check_gradient(loss: Tensor) -> None:
    if not loss.requires_grad:
        raise ValueError(
            "the loss has no gradient: nothing that learns takes part in it; is it a layer that the forward pass does not use, "
            "or does a torch.no_grad() or detach() stand in between?"
        )


def check_finite(model: nn.Module, meter: Meter, counted: int, optimizer: Optimizer, note: str) -> None:
    """The loss of the last batch is a number."""
    meter.settle()
    if not counted and math.isnan(meter.last):
        raise ValueError(
            f"{note}, batch {meter.batches}: no picture counts (all labels are {meter.ignored}, or there is none), so there is "
            "no loss; leave such batches out"
        )
    if not math.isfinite(meter.last):
        rates = [group["lr"] for group in optimizer.param_groups]
        raise FloatingPointError(
            f"the loss became {meter.last} in {note}, batch {meter.batches}, at learning rate {rates}; "
            f"try a tenth of that rate, and look at the pictures of that batch{left_by_it(model)}"
        )


def left_by_it(model: nn.Module) -> str:
    """What a batch that gives no number has left in the model, in words: statistics are taken before the loss is known."""
    norms = {
        name: one for name, one in model.named_modules() if isinstance(one, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d))
    }
    spoilt = [name for name, one in norms.items() if one.running_mean is not None and not one.running_mean.isfinite().all()]
    words = "; {!r} has taken it into its statistics, so begin with a new model, or with weights and statistics kept before"
    return words.format(spoilt[0]) if spoilt else ""


def check_autocast(device: torch.device) -> None:
    """No autocast that keeps copies of the weights from one step to the next."""
    if is_autocast(device) and torch.is_autocast_cache_enabled():
        raise ValueError(
            "torch.autocast around several steps goes on with the weights of the first one, of which it keeps copies; take "
            "`with mixed_precision(model):`, or torch.autocast(…, torch.bfloat16, cache_enabled=False)"
        )


def pairs(batches: Iterable) -> Iterator[tuple[Inputs, Tensor]]:
    """The batches, each of which has to be images and labels."""
    for batch in batches:
        is_pair = isinstance(batch, (tuple, list)) and len(batch) == 2
        if not is_pair or not is_inputs(batch[0]) or not isinstance(batch[1], Tensor) or not batch[1].dim():
            raise TypeError(
                f"a batch is a pair, images and a tensor of labels, but this loader gives {describe(batch)}; "
                "a data set belongs into a DataLoader, and one of other batches takes a collate_fn that makes pairs"
            )
        yield batch[0], batch[1]


def is_inputs(images: Any) -> bool:
    return isinstance(images, Tensor) or (isinstance(images, (tuple, list)) and all(map(is_inputs, images)))


class Counted:
    """The batches of `loader`, and the number of pictures shown so far (`drop_last` or a sampler may leave some out)."""

    def __init__(self, loader: Batches):
        self.loader, self.images = loader, 0

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[tuple[Inputs, Tensor]]:
        for images, labels in pairs(self.loader):
            self.images += len(labels)
            yield images, labels
