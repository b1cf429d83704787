"""Figures: each takes plain records and returns a matplotlib Figure; the same thing has the same colour in all lessons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image
from torch import Tensor

from course_utils.train import Epoch

# Okabe and Ito's palette, which the colour-blind can tell apart; lightness differs too, for prints in grey
COLOURS = {
    "scratch": "#7f7f7f",
    "head": "#e69f00",
    "layer4 + head": "#0072b2",
    "layer3–4 + head": "#56b4e9",
    "all": "#004d40",
    "train": "#d55e00",
    "val": "#0072b2",
}
OTHERS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")


def colour_of(name: str, place: int = 0) -> str:
    return COLOURS.get(name, OTHERS[place % len(OTHERS)])


def axes(*, width: float = 6, height: float = 3, title: str = "", x: str = "", y: str = "") -> tuple[Figure, Axes]:
    """A figure with one quiet pair of axes; `x` and `y` are labels with units. The figure is closed, so it shows once."""
    figure, ax = plt.subplots(figsize=(width, height), dpi=90, layout="constrained")
    plt.close(figure)
    ax.set_title(title, loc="left", fontsize=11)
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.spines[["top", "right"]].set_visible(False)
    return figure, ax


def as_picture(image: Image.Image | Tensor | np.ndarray) -> np.ndarray:
    """A PIL picture, an array (height, width, 3), or a tensor (3, height, width); one of floats is stretched to 0 … 1."""
    if not isinstance(image, Tensor):
        return np.asarray(image)
    values = image.detach().cpu().permute(1, 2, 0)
    if values.is_floating_point():
        values = (values - values.min()) / (values.max() - values.min()).clamp(min=1e-6)
    return values.numpy()


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
    size = 7 / columns
    figure, grid = plt.subplots(
        rows,
        columns,
        figsize=(7, rows * (size + (0.22 if titles else 0)) + (0.3 if title else 0)),
        dpi=90,
        squeeze=False,
        layout="constrained",
    )
    plt.close(figure)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    for place, ax in enumerate(grid.flat):
        ax.axis("off")
        if place < len(images):
            ax.imshow(as_picture(images[place]), interpolation="nearest")
            ax.set_title(titles[place] if place < len(titles) else "", fontsize=8, pad=2)
    return figure


def learning_curve(history: Sequence[Epoch], *, title: str = "Learning curve") -> Figure:
    """Loss and accuracy over epochs, on training and validation pictures; the best epoch by validation is marked.

    Raises:
        ValueError: if no epoch was finished.
    """
    if not history:
        raise ValueError("the history has no epoch, so there is no curve; train for one epoch at least")
    figure, (left, right) = plt.subplots(1, 2, figsize=(7, 2.8), dpi=90, layout="constrained")
    plt.close(figure)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    numbers = [epoch.number for epoch in history]
    for ax, what in ((left, "loss"), (right, "accuracy")):
        for split in ("train", "val"):
            values = [getattr(getattr(epoch, split), what) for epoch in history]
            ax.plot(numbers, values, color=COLOURS[split], linestyle="-" if split == "val" else "--", marker=".")
            ax.annotate(
                split, (numbers[-1], values[-1]), xytext=(5, 0), textcoords="offset points", color=COLOURS[split], va="center"
            )
        ax.set_xlabel("epoch")
        ax.set_ylabel("loss per picture" if what == "loss" else "share right")
        ax.spines[["top", "right"]].set_visible(False)
        ax.margins(x=0.12)
    best = max(history, key=lambda epoch: epoch.val.accuracy)
    right.plot(best.number, best.val.accuracy, "o", markersize=10, fillstyle="none", color=COLOURS["val"])
    right.annotate(
        f"best {best.val.accuracy:.2f}",
        (best.number, best.val.accuracy),
        xytext=(0, 8),
        textcoords="offset points",
        ha="center",
    )
    return figure


def dots(results: Mapping[str, Sequence[float]], *, title: str = "", x: str = "accuracy on test pictures") -> Figure:
    """One row per name, one dot per run, a bar at the mean with its value."""
    figure, ax = axes(height=0.9 + 0.45 * len(results), title=title, x=x)
    for row, (name, values) in enumerate(reversed(list(results.items()))):
        colour = colour_of(name, row)
        ax.plot(values, [row] * len(values), "o", color=colour, alpha=0.6, markersize=7, markeredgecolor="none")
        mean = float(np.mean(values))
        ax.plot([mean, mean], [row - 0.28, row + 0.28], color=colour, linewidth=2.5)
        ax.annotate(f"{mean:.2f}", (mean, row + 0.3), ha="center", va="bottom", fontsize=9, color=colour)
    ax.set_yticks(range(len(results)), list(results)[::-1])
    ax.set_ylim(-0.5, len(results) - 0.3)
    return figure


def bars(
    values: Mapping[str, float], *, title: str = "", x: str = "", label: str = "{:,.0f}", marked: Sequence[str] = ()
) -> Figure:
    """Horizontal bars, each with its value behind it in the form `label`; those named in `marked` in another colour."""
    figure, ax = axes(height=0.9 + 0.3 * len(values), title=title, x=x)
    names = list(values)[::-1]
    colours = [COLOURS["head"] if name in marked else COLOURS.get(name, OTHERS[0]) for name in names]
    ax.barh(names, [values[name] for name in names], color=colours)
    for row, name in enumerate(names):
        ax.annotate(
            label.format(values[name]), (values[name], row), xytext=(4, 0), textcoords="offset points", va="center", fontsize=9
        )
    ax.margins(x=0.15)
    ax.xaxis.set_major_formatter(FuncFormatter(short_number))
    return figure


def short_number(value: float, place: int = 0) -> str:
    """2,000,000 as "2 M", 5,000 as "5 k"."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g} {letter}"
    return f"{value:g}"


def lines(series: Mapping[str, Sequence[float]], *, title: str = "", x: str = "", y: str = "", start: int = 0) -> Figure:
    """One line per name over 0, 1, 2, … (or from `start`), each labelled at its end."""
    figure, ax = axes(title=title, x=x, y=y)
    styles = ("-", "--", "-.", ":")
    for place, (name, values) in enumerate(series.items()):
        numbers = range(start, start + len(values))
        colour = colour_of(name, place)
        ax.plot(numbers, values, color=colour, linestyle=styles[place % len(styles)], marker=".")
    ax.margins(x=0.05)
    label_ends(ax, series)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def label_ends(ax: Axes, series: Mapping[str, Sequence[float]], *, gap: float = 0.075) -> None:
    """Write each name behind the end of its line, at least `gap` of the axis apart."""
    bottom, top = ax.get_ylim()
    places = sorted((values[-1], name) for name, values in series.items())
    height = bottom
    for value, name in places:
        height = max(value, height)
        line = ax.lines[list(series).index(name)]
        end = np.asarray(line.get_xdata())[-1]
        ax.annotate(name, (end, height), xytext=(6, 0), textcoords="offset points", color=line.get_color(), va="center")
        height += gap * (top - bottom)
