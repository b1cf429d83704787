"""Pictures: what a network is shown, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from course_utils.plots.style import COLOURS, as_picture, described, subplots


def show_images(
    images: Sequence[Image.Image | Tensor | np.ndarray], titles: Sequence[str] = (), *, columns: int = 8, title: str = ""
) -> Figure:
    """Pictures in rows of `columns`, each with its title.

    Raises:
        ValueError: if there is no picture.
    """
    if not len(images):
        raise ValueError("there is no picture to show; give at least one")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    side, lines = 7 / max(columns, 4), max((text.count("\n") + 1 for text in titles), default=0)
    height = rows * (side + 0.05 + 0.17 * lines) + (0.3 if title else 0)
    figure, grid = subplots(rows, columns, size=(side * columns, height), title=title)
    for place, ax in enumerate(grid.flat):
        ax.axis("off")
        if place < len(images):
            ax.imshow(as_picture(images[place]), interpolation="nearest")
            ax.set_title(titles[place] if place < len(titles) else "", fontsize=8, pad=2)
    return figure


Answer = tuple[str, float]  # the name that a network gives, and its probability


def answers(
    images: Sequence[Image.Image | Tensor | np.ndarray],
    said: Sequence[Answer],
    truth: Sequence[str] | None = None,
    *,
    columns: int = 6,
    title: str = "",
) -> Figure:
    """Pictures with what a network calls each, as (name, probability); with `truth`, right ones framed green and ✓, wrong ✗.

    Raises:
        ValueError: if there is no picture, or not one answer, and one true name if there are any, for each.
    """
    if not len(images):
        raise ValueError("there is no picture to show; give at least one")
    if len(said) != len(images) or (truth is not None and len(truth) != len(images)):
        names = "" if truth is None else f" and {len(truth)} names"
        raise ValueError(f"{len(images)} pictures, {len(said)} answers{names}; give one for each picture")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    lines = 2 if truth is not None and any(name != true for (name, _), true in zip(said, truth, strict=True)) else 1
    side = 7 / max(columns, 4)
    figure, grid = subplots(
        rows, columns, size=(side * columns, rows * (side + 0.17 * lines) + (0.35 if title else 0)), title=title
    )
    for place, ax in enumerate(grid.flat):
        ax.set(xticks=[], yticks=[])
        if place >= len(images):
            ax.axis("off")
            continue
        ax.imshow(as_picture(images[place]), interpolation="nearest")
        name, probability = said[place]
        caption, colour = f"{name} {probability:.0%}", "#888888"
        if truth is not None:
            right = name == truth[place]
            article = "an" if truth[place][0] in "aeiou" else "a"
            caption += " ✓" if right else f" ✗\n(is {article} {truth[place]})"
            colour = COLOURS["right" if right else "wrong"]
        ax.set_title(caption, fontsize=8, pad=3)
        ax.spines[:].set(color=colour, linewidth=2.5)
    hits = sum(name == true for (name, _), true in zip(said, truth, strict=True)) if truth is not None else None
    of = f", {hits} of them named rightly" if hits is not None else ""
    return described(figure, f"{len(images)} pictures with the name and the probability that the network gives each{of}.")
