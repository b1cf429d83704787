"""Names and probabilities for pictures."""

from __future__ import annotations

import numbers
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from course_utils.devices import device_of
from course_utils.finetune import eval_mode
from course_utils.images import to_rgb
from course_utils.losses import is_single, logits_of


def predict(
    model: nn.Module,
    images: Image.Image | Tensor | Sequence[Image.Image] | Sequence[Tensor],
    *,
    classes: Sequence[str],
    transform: Callable[[Image.Image], Tensor] | None = None,
    k: int | None = None,
) -> list[list[tuple[str, float]]]:
    """The `k` most probable classes of each picture, best first, as (name, probability); `model` is left as it was found.

    Args:
        images: one picture or many: PIL pictures, which `transform` prepares, or a prepared tensor of shape
            (3, height, width) or (batch, 3, height, width). No picture gives no row.
        classes: a name for each output, in their order; two for a model with a single logit, which stands for the second.
        k: 3 unless there are fewer classes.

    Raises:
        TypeError: if something else than pictures is given, or the model returns something else than logits.
        ValueError: if pictures come without a transform or prepared ones with it, a tensor has another shape, or there are
            fewer or more class names than outputs, or fewer than `k`.
        FloatingPointError: if an output is not finite.
    """
    names, batch = as_names(classes), as_batch(images, transform)
    if k is None:
        k = min(3, len(names))
    if isinstance(k, bool) or not isinstance(k, numbers.Integral) or not 1 <= k <= len(names):
        raise ValueError(f"k={k}; choose 1 to {len(names)}, the number of classes")
    if not len(batch):
        return []
    kind = next((p.dtype for p in model.parameters() if p.is_floating_point()), batch.dtype)
    with eval_mode(model), torch.inference_mode():
        probabilities = as_probabilities(model(batch.to(device_of(model), kind)), names)
    values, places = probabilities.topk(int(k))
    return [
        [(names[i], p) for i, p in zip(row, ps, strict=True)] for row, ps in zip(places.tolist(), values.tolist(), strict=True)
    ]


def as_names(classes: Sequence[str]) -> list[str]:
    if isinstance(classes, (Mapping, set, frozenset)):
        raise TypeError(f"classes is a {type(classes).__name__}; give a list of the names in the order of the model's outputs")
    return list(classes)


def as_probabilities(outputs: Any, names: Sequence[str]) -> Tensor:
    """One probability for each of `names`; a single logit is that of the second of two classes."""
    logits = logits_of(outputs).float()
    if not logits.isfinite().all():
        raise FloatingPointError("the model's outputs are not finite numbers; look at its weights and at the picture")
    single = is_single(logits)
    if logits.dim() > 2 or len(names) != (2 if single else logits.shape[1]):
        stands = ", which stands for the second of 2 classes" if single else ""
        raise ValueError(
            f"the model has {logits[0].numel()} outputs{stands}, but {len(names)} class names were given"
            + (f" (its outputs have the shape {tuple(logits.shape)})" if logits.dim() > 2 else "")
        )
    if single:
        logits = logits.flatten()
        return torch.stack([torch.sigmoid(-logits), torch.sigmoid(logits)], 1)
    return logits.softmax(1)


def as_batch(images: Any, transform: Callable[[Image.Image], Tensor] | None) -> Tensor:
    """Prepared pictures, of shape (batch, channels, height, width)."""
    if isinstance(images, Tensor):
        return as_prepared(images if images.dim() == 4 else images[None], transform)
    alone = isinstance(images, (Image.Image, str, bytes, os.PathLike, np.ndarray, Mapping))
    many = [images] if alone else list(images)
    if many and all(isinstance(image, Tensor) for image in many):
        return as_prepared(torch.stack(many), transform)
    return as_prepared(torch.stack([prepare(image, transform) for image in many])) if many else torch.empty(0)


def prepare(image: Any, transform: Callable[[Image.Image], Tensor] | None) -> Tensor:
    if not isinstance(image, Image.Image):
        raise TypeError(
            f"predict takes PIL pictures or prepared tensors, not {type(image).__name__}: read_picture(path) opens a file, "
            "PIL.Image.fromarray(array) makes a picture of an array"
        )
    if transform is None:
        raise ValueError("PIL pictures need a transform; give the one from weights.transforms()")
    return transform(to_rgb(image))


def as_prepared(batch: Tensor, transform: object = None) -> Tensor:
    if transform is not None:
        raise ValueError("a tensor counts as prepared, so the transform would not be used; leave it out, or give PIL pictures")
    if batch.dim() != 4 or not batch.is_floating_point():
        raise ValueError(
            "a prepared picture is a tensor of floats of shape (3, height, width), many have (batch, 3, height, width); "
            f"this makes a batch of {batch.dtype} and shape {tuple(batch.shape)}"
        )
    return batch
