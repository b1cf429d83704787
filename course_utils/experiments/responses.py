"""What a channel of a network responds to: the pieces of pictures at which it answers most."""

from __future__ import annotations

import torch
from torch import Tensor

from course_utils.worlds import pictures


def shapes(per_class: int, seed: int, *, mixed: bool = False) -> tuple[Tensor, Tensor]:
    """New pictures of the world `shapes`, whole numbers 0 to 255 of (pictures, 3, 64, 64), and their class numbers.

    They are ordered by class, or `mixed` by the same seed.
    """
    drawn, numbers = pictures("shapes", per_class, seed)
    images, labels = torch.from_numpy(drawn).permute(0, 3, 1, 2), torch.from_numpy(numbers)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)) if mixed else torch.arange(len(labels))
    return images[order], labels[order]


def strongest_pieces(images: Tensor, maps: Tensor, side: int, *, count: int = 8) -> list[Tensor]:
    """Around the place of the highest answer, a square of `side` pixels of the `count` pictures that answer most.

    Near the edge of a picture the square is moved inwards, so that it lies inside.

    Args:
        images: (pictures, 3, height, width).
        maps: what one channel answers at each place, (pictures, fewer rows, fewer columns).
    """
    peaks, places = maps.flatten(1).max(dim=1)
    found = []
    for i in peaks.topk(min(count, len(peaks))).indices.tolist():
        row, column = divmod(int(places[i]), maps.shape[-1])
        top, left = (
            min(max(int((place + 0.5) * size / cells) - side // 2, 0), size - side)
            for place, size, cells in zip((row, column), images.shape[-2:], maps.shape[-2:], strict=True)
        )
        found.append(images[i, :, top : top + side, left : left + side])
    return found
