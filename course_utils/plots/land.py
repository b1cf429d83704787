"""Maps: what a satellite saw, what lies there, and what a network says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor
from torch.nn import functional as F

from course_utils.plots.style import described, subplots

LAND = {
    "field": "#e6b422",
    "forest": "#14532d",
    "meadow": "#8fce5a",
    "quarry": "#b9a48f",
    "town": "#c0392b",
    "water": "#2b7bba",
}


def joined(images: Tensor) -> np.ndarray:
    """Tiles (n × n, bands, height, width) of a whole map, row by row, as one picture of half the size: a page is smaller so."""
    side = int(len(images) ** 0.5)
    halves = F.avg_pool2d(images.float(), 2).byte()
    _, bands, height, width = halves.shape
    parts = halves.reshape(side, side, bands, height, width).permute(0, 3, 1, 4, 2)
    return parts.reshape(side * height, side * width, bands).numpy()


def maps(images: Tensor, *, title: str = "") -> Figure:
    """The tiles of one map as a picture, cut lines in white, and beside it its fourth band in grey."""
    figure, grid = subplots(1, 2, size=(7.2, 3.9), title=title)
    picture, side = joined(images), int(len(images) ** 0.5)
    for ax, shown, name in zip(
        grid.flat, (picture[..., :3], picture[..., 3]), ("red, green, blue", "near infrared"), strict=True
    ):
        ax.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        for place in range(1, side):
            for line in (ax.axvline, ax.axhline):
                line(place * len(picture) / side - 0.5, color="white", linewidth=0.5, alpha=0.6)
        ax.set_title(name, fontsize=9)
        ax.axis("off")
    return described(figure, f"One map of {side} by {side} tiles, as the eye sees it and in near infrared.")


def land_maps(
    images: Tensor, labels: Mapping[str, Sequence[int] | Tensor], classes: Sequence[str], *, title: str = ""
) -> Figure:
    """The tiles of one map as a picture, and a coloured map for each list of classes; of the first list, the truth, tiles
    that another list has differently are crossed there."""
    side = int(len(images) ** 0.5)
    figure, grid = subplots(1, 1 + len(labels), size=(7.2, 2.5), title=title)
    grid[0, 0].imshow(joined(images)[..., :3], interpolation="nearest")
    grid[0, 0].set_title("the picture", fontsize=9)
    truth = np.asarray(next(iter(labels.values())))
    colours = ListedColormap([LAND[name] for name in classes])
    words = []
    for ax, (name, found) in zip(grid[0, 1:], labels.items(), strict=True):
        values = np.asarray(found)
        wrong = np.flatnonzero(values != truth)
        ax.imshow(values.reshape(side, side), cmap=colours, vmin=-0.5, vmax=len(classes) - 0.5)
        ax.plot(wrong % side, wrong // side, "x", color="black", markersize=5)
        share = f"{1 - len(wrong) / len(values):.2f} right" if values is not truth else ""
        ax.set_title(name if ax is grid[0, 1] else f"{name}: {share}", fontsize=9)
        words += [] if ax is grid[0, 1] else [f"{name} {share}"]
    for ax in grid.flat:
        ax.set(xticks=[], yticks=[])
    patches = [Patch(color=LAND[name], label=name) for name in classes]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(classes), fontsize=8, frameon=False)
    return described(figure, f"A map of tiles, its true land use, and two answers: {', '.join(words)}; errors are crossed.")
