"""The training loop: one epoch, the evaluation, and both in turn."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from tqdm import tqdm

from course_utils.data import to_rgb
from course_utils.finetune import check_rate, eval_mode, train_mode, trainable

Inputs = Any  # a tensor whose first dimension runs over the pictures, or several of them where a model was split
Batches = Iterable[tuple[Inputs, Tensor]]
Loss = Callable[[Tensor, Tensor], Tensor]


class Score(NamedTuple):
    """Averages over the pictures of one pass: the loss, and the accuracy in 0 … 1."""

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


def device_of(model: nn.Module) -> torch.device:
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def to_device(inputs: Inputs, device: torch.device) -> Inputs:
    """`inputs` on `device`; from pinned memory the copy goes on while the processor works."""
    if isinstance(inputs, Tensor):
        return inputs.to(device, non_blocking=True)
    return tuple(to_device(one, device) for one in inputs)


def cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    """The usual loss for logits of shape (batch, classes); an inception's auxiliary logits count 0.4, as its authors did.

    Source: Szegedy et al., Rethinking the Inception Architecture for Computer Vision (2016).
    """
    if not isinstance(outputs, tuple):
        return F.cross_entropy(outputs, labels)
    loss, *auxiliary = (F.cross_entropy(logits, labels) for logits in outputs if logits is not None)
    return loss + 0.4 * torch.stack(auxiliary).sum() if auxiliary else loss


def correct(outputs: Tensor, labels: Tensor) -> int:
    """How many rows of logits are right: the largest is the label's, or for a single logit its sign is."""
    logits = outputs[0] if isinstance(outputs, tuple) else outputs
    guess = (logits > 0).long() if logits.shape[1:] in ((), (1,)) else logits.argmax(1)
    return int((guess.flatten() == labels.flatten()).sum())


def train_one_epoch(
    model: nn.Module, loader: Batches, optimizer: Optimizer, *, loss_function: Loss = cross_entropy, note: str = "train"
) -> Score:
    """Show every batch once and step after each; what is frozen stays as it is.

    Returns:
        Loss and accuracy averaged over the pictures, each measured when its batch was shown, before the step.

    Raises:
        ValueError: if nothing learns, the loader is empty, or batch norm cannot learn from a batch of one picture.
        FloatingPointError: if the loss is not finite, before the step; the message names batch and learning rates.
    """
    check_learns(model)
    train_mode(model)
    device = device_of(model)
    meter = Meter()
    with progress(loader, note) as batches:
        for images, labels in batches:
            images, labels = to_device(images, device), to_device(labels, device)
            logits = forward(model, images)
            loss = loss_function(logits, labels)
            meter.add(loss, logits, labels)
            check_finite(meter, optimizer, note)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            batches.set_postfix_str(f"loss {meter.last:.3f}, {meter.speed:.0f} pictures/s", refresh=False)
    return meter.score()


def forward(model: nn.Module, images: Inputs) -> Tensor:
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
    """Loss and accuracy over all pictures of `loader`; `model` is left as it was found.

    Raises:
        ValueError: if the loader is empty.
    """
    device = device_of(model)
    meter = Meter()
    with eval_mode(model), torch.inference_mode(), progress(loader, note) as batches:
        for images, labels in batches:
            labels = to_device(labels, device)
            logits = model(to_device(images, device))
            meter.add(loss_function(logits, labels), logits, labels)
    return meter.score()


def fit(
    model: nn.Module,
    train_loader: Batches,
    val_loader: Batches,
    optimizer: Optimizer,
    *,
    epochs: int,
    loss_function: Loss = cross_entropy,
    before_epoch: Callable[[int], object] = lambda number: None,
    after_epoch: Callable[[Epoch], object] = lambda epoch: None,
) -> list[Epoch]:
    """Train for `epochs` epochs and evaluate after each; interrupted by Ctrl-C, it returns the epochs finished so far.

    Args:
        before_epoch: called with the epoch's number, from 1 (to unfreeze something, to change a rate).
        after_epoch: called with each finished `Epoch`; `after_epoch=print` prints a line.

    Raises:
        ValueError: if `epochs` or a learning rate is not positive, or nothing learns.
        FloatingPointError: if the loss is not finite.
    """
    check_fit(model, optimizer, epochs)
    history: list[Epoch] = []
    try:
        for number in range(1, epochs + 1):
            before_epoch(number)
            batches, started = Counted(train_loader), time.perf_counter()
            train = train_one_epoch(model, batches, optimizer, loss_function=loss_function, note=f"epoch {number}/{epochs}")
            speed = batches.images / (time.perf_counter() - started)
            val = evaluate(model, val_loader, loss_function=loss_function)
            history.append(Epoch(number, train, val, speed))
            after_epoch(history[-1])
    except KeyboardInterrupt:
        print(f"stopped by hand after {len(history)} of {epochs} epochs; the model keeps what it has learnt", file=sys.stderr)
    return history


def check_fit(model: nn.Module, optimizer: Optimizer, epochs: int) -> None:
    if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
        raise ValueError(f"epochs={epochs!r}; give a whole number of 1 or more")
    for group in optimizer.param_groups:
        check_rate(float(group["lr"]))
    check_learns(model)
    mine = {id(parameter) for parameter in model.parameters()}
    known = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad and id(p) in mine]
    if not known:
        raise ValueError(
            "the optimizer holds no parameter of this model that learns; build it after replacing and freezing layers"
        )


def check_learns(model: nn.Module) -> None:
    if not trainable(model):
        raise ValueError("nothing learns: every parameter of the model is frozen; unfreeze its head at least")


# --------------------------------------------------------------------------------------------------------- helpers


class Meter:
    """Adds up loss and hits over the pictures of one pass."""

    def __init__(self) -> None:
        self.loss, self.hits, self.images, self.batches, self.last = 0.0, 0, 0, 0, 0.0
        self.started = time.perf_counter()

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        self.last = loss.item()
        self.loss += self.last * len(labels)
        self.hits += correct(logits, labels)
        self.images += len(labels)
        self.batches += 1

    @property
    def speed(self) -> float:
        return self.images / (time.perf_counter() - self.started)

    def score(self) -> Score:
        if not self.images:
            raise ValueError("the loader gave no batch; check its folder, its batch size and drop_last")
        return Score(self.loss / self.images, self.hits / self.images)


def check_finite(meter: Meter, optimizer: Optimizer, note: str) -> None:
    if not math.isfinite(meter.last):
        rates = [group["lr"] for group in optimizer.param_groups]
        raise FloatingPointError(
            f"the loss became {meter.last} in {note}, batch {meter.batches}, at learning rate {rates}; "
            "try a tenth of that rate, and look at the pictures of that batch"
        )


class Counted:
    """The batches of `loader`, and the number of pictures shown so far (`drop_last` or a sampler may leave some out)."""

    def __init__(self, loader: Batches):
        self.loader, self.images = loader, 0

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[tuple[Inputs, Tensor]]:
        for images, labels in self.loader:
            self.images += len(labels)
            yield images, labels


def progress(loader: Iterable, note: str, total: int | None = None) -> tqdm:
    """A plain-text progress bar; it disappears when it is full, and does not appear for what takes half a second."""
    return tqdm(loader, desc=note, total=total, leave=False, file=sys.stderr, delay=0.5, mininterval=0.5, ncols=90)


# --------------------------------------------------------------------------------------------------------- predict


def predict(
    model: nn.Module,
    images: Image.Image | Tensor | Sequence[Image.Image],
    *,
    classes: Sequence[str],
    transform: Callable[[Image.Image], Tensor] | None = None,
    k: int = 3,
) -> list[list[tuple[str, float]]]:
    """The `k` most probable classes of each picture, best first, as (name, probability); `model` is left as it was found.

    Args:
        images: one picture or many: PIL pictures, which `transform` prepares, or a prepared tensor of shape
            (3, height, width) or (batch, 3, height, width).

    Raises:
        ValueError: if pictures come without a transform, or there are fewer class names than outputs, or than `k`.
    """
    batch = as_batch(images, transform).to(device_of(model))
    with eval_mode(model), torch.inference_mode():
        probabilities = as_probabilities(model(batch))
    if probabilities.shape[1] != len(classes):
        raise ValueError(f"the model has {probabilities.shape[1]} outputs, but {len(classes)} class names were given")
    if not 1 <= k <= len(classes):
        raise ValueError(f"k={k}; choose 1 to {len(classes)}, the number of classes")
    values, places = probabilities.topk(k)
    return [
        [(classes[i], p) for i, p in zip(row, ps, strict=True)]
        for row, ps in zip(places.tolist(), values.tolist(), strict=True)
    ]


def as_probabilities(logits: Tensor) -> Tensor:
    """One probability per class; a single logit is that of the second of two classes."""
    if logits.shape[1] == 1:
        return torch.cat([torch.sigmoid(-logits), torch.sigmoid(logits)], 1)
    return logits.softmax(1)


def as_batch(images: Image.Image | Tensor | Sequence[Image.Image], transform: Callable[[Image.Image], Tensor] | None) -> Tensor:
    if isinstance(images, Tensor):
        return images if images.dim() == 4 else images[None]
    many = [images] if isinstance(images, Image.Image) else list(images)
    if transform is None:
        raise ValueError("PIL pictures need a transform; give the one from weights.transforms()")
    return torch.stack([transform(to_rgb(image)) for image in many])
