"""Scenes with boxes: what is there, and what a detector says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from course_utils.plots.style import COLOURS, as_picture, described, subplots

Boxes = tuple[Tensor, Tensor]  # boxes (n, 4), and for each the place of its class


def scenes(
    images: Tensor,
    true: Sequence[Boxes],
    classes: Sequence[str],
    *,
    found: Sequence[tuple[Tensor, Tensor, Tensor]] | None = None,
    least: float = 0.3,
    titles: Sequence[str] = (),
    columns: int = 4,
    title: str = "",
) -> Figure:
    """Scenes in rows: true boxes white and dashed, predicted ones in pink with their class and score.

    Args:
        images: (scenes, 3, height, width).
        true: of each scene its boxes and their classes.
        found: of each scene boxes, classes and scores; None draws the true ones alone, with their names.
        least: predictions with a lower score are left out.
    """
    rows, drawn = -(-len(images) // columns), 0
    side = min(7.2 / columns, 1.8)  # inches
    heading = 0.18 * bool(titles)
    figure, grid = subplots(rows, columns, size=(columns * side, rows * (side + heading) + (0.3 if title else 0)), title=title)
    for place, ax in enumerate(grid.flat):
        ax.axis("off")
        if place < len(images):
            ax.imshow(as_picture(images[place]), interpolation="nearest")
            ax.set_title(titles[place] if place < len(titles) else "", fontsize=8, pad=2)
            for box, label in zip(*true[place], strict=True):
                frame(ax, box, "white", "--", classes[label] if found is None else "")
            for box, label, score in zip(*found[place], strict=True) if found else ():
                if score >= least:
                    drawn += 1
                    frame(ax, box, COLOURS["moved"], "-", f"{classes[label]} {score:.2f}")
    there = sum(len(boxes) for boxes, _ in true)
    predicted = "" if found is None else f" and {drawn} predicted ones in pink"
    return described(figure, f"{len(images)} scenes with {there} true boxes, white and dashed{predicted}.")


def frame(ax: Axes, box: Tensor, colour: str, line: str, words: str) -> None:
    left, top, right, low = box.tolist()
    dark: dict[str, Any] = {"fill": False, "edgecolor": "black", "linewidth": 2.2}
    ax.add_patch(Rectangle((left, top), right - left, low - top, **dark, alpha=0.5))
    ax.add_patch(Rectangle((left, top), right - left, low - top, fill=False, edgecolor=colour, linewidth=1.3, linestyle=line))
    if words:
        background = {"facecolor": "black", "alpha": 0.65, "pad": 0.6, "edgecolor": "none"}
        text = ax.text(max(left, 1), max(top - 2, 8), words, color=colour, fontsize=6.5, va="bottom", bbox=background)
        text.set_clip_on(True)
