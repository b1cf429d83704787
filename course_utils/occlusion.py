"""Occlusion: which places of a picture does a model need for its answer?"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from course_utils.finetune import eval_mode


def occlusion_map(
    model: nn.Module, image: Tensor, label: int, *, patch: int = 8, step: int = 4, fill: float | None = None
) -> Tensor:
    """How much the logit of `label` falls while a square hides a place: large where the model looks.

    The idea is that of Zeiler and Fergus, "Visualizing and understanding convolutional networks" (2014).

    Args:
        image: one prepared picture, (3, height, width).
        label: the number of the output that is watched.
        patch, step: side of the square, and how far it moves, in pixels.
        fill: the value inside the square; None for the mean of what it hides, which adds the least of its own.

    Returns:
        A map (rows, columns) of one value for each place of the square, rows from top to bottom.

    Raises:
        ValueError: if the square does not fit into the picture.
    """
    height, width = image.shape[-2:]
    if not 0 < patch <= min(height, width) or step < 1:
        raise ValueError(f"a square of {patch} with steps of {step} does not fit into {height}×{width} pixels")
    tops, lefts = range(0, height - patch + 1, step), range(0, width - patch + 1, step)
    hidden = image.repeat(len(tops) * len(lefts), 1, 1, 1)
    places = [(top, left) for top in tops for left in lefts]
    for one, (top, left) in zip(hidden, places, strict=True):
        square = one[:, top : top + patch, left : left + patch]
        square[:] = square.mean((1, 2), keepdim=True) if fill is None else fill
    with eval_mode(model), torch.inference_mode():
        whole = model(image[None])[0, label]
        falls = [whole - model(part)[:, label] for part in hidden.split(64)]
    return torch.cat(falls).view(len(tops), len(lefts))
