"""Figures: each takes plain records and returns a matplotlib Figure; the same thing has the same colour in all lessons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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
        away: dict[str, Any] = {"xytext": (6, 0), "textcoords": "offset points", "annotation_clip": False}
        ax.annotate(name, (end, height), color=line.get_color(), va="center", **away)
        height += gap * (top - bottom)


STATES = {"fixed": "#c8c8c8", "learns": "#a6d5f5", "new": "#f3c14f"}  # what happens to a part of a network


def networks(
    rows: Mapping[str, Mapping[str, str]], *, title: str = "", together: Mapping[str, Sequence[str]] | None = None
) -> Figure:
    """One network per row, its parts as boxes; the word in a box says what happens to the part and gives the colour.

    Args:
        together: for each text beside a bracket, the first and the last of the rows that the bracket joins.
    """
    figure, ax = axes(width=7, height=0.5 + 0.5 * len(rows))
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    for y, parts in enumerate(rows.values()):
        for x, (part, word) in enumerate(parts.items()):
            ax.barh(y, 0.94, left=x, height=0.66, align="center", color=STATES[word], edgecolor="black", linewidth=0.6)
            ax.annotate(f"{part}\n{word}", (x + 0.47, y), ha="center", va="center", fontsize=7.5)
    names, right = list(rows), max(map(len, rows.values())) + 0.05
    for text, (first, last) in (together or {}).items():
        top, bottom = names.index(first) - 0.33, names.index(last) + 0.33
        ax.plot([right, right + 0.1, right + 0.1, right], [top, top, bottom, bottom], color="black", linewidth=1)
        ax.annotate(text, (right + 0.2, (top + bottom) / 2), va="center", annotation_clip=False)
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.tick_params(length=0)
    ax.set_xticks([])
    ax.spines[:].set_visible(False)
    return figure


def tensor_sizes(sizes: Mapping[str, Sequence[int]], *, title: str = "") -> Figure:
    """One square per tensor of (channels, height, width), its side to scale; a list of (values,) is drawn as a line."""
    figure, ax = axes(width=7.6, height=1.6, title=title)
    largest = max(size[-1] for size in sizes.values() if len(size) == 3)
    for x, (name, (channels, *places)) in enumerate(sizes.items()):
        side = 0.85 * places[-1] / largest if places else 0.0
        ax.add_patch(plt.Rectangle((x - side / 2, -side / 2), side, side, facecolor=OTHERS[4], edgecolor="black"))
        ax.annotate(name, (x, 0.52), ha="center", fontsize=8.5)
        ax.annotate("×".join(map(str, [channels, *places])), (x, -0.55), ha="center", va="top", fontsize=8.5)
    ax.set_xlim(-0.5, len(sizes) - 0.5)
    ax.set_ylim(-0.75, 0.7)
    ax.set_aspect("equal")
    ax.axis("off")
    return figure


def opposite_bars(left: Mapping[str, float], right: Mapping[str, float], *, labels: tuple[str, str], title: str = "") -> Figure:
    """Two quantities of the same things, each as shares of its sum, as bars that grow apart; `labels` name the quantities."""
    figure, pair = plt.subplots(1, 2, figsize=(7, 0.9 + 0.3 * len(left)), dpi=90, layout="constrained", sharey=True)
    plt.close(figure)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    shares = [{name: 100 * value / sum(values.values()) for name, value in values.items()} for values in (left, right)]
    limit = 1.3 * max(max(one.values()) for one in shares)
    for ax, share, label, colour, way in zip(pair, shares, labels, OTHERS, (-1, 1), strict=False):
        ax.barh(list(share), list(share.values()), color=colour)
        for row, value in enumerate(share.values()):
            side = "right" if way < 0 else "left"
            place = {"xytext": (4 * way, 0), "textcoords": "offset points", "ha": side, "va": "center", "fontsize": 9}
            ax.annotate(f"{value:.1f}", (value, row), **place)
        ax.set_xlim((0, limit)[::way])
        ax.set_xlabel(f"{label}, %")
        ax.spines[["top", "left" if way < 0 else "right"]].set_visible(False)
    pair[0].invert_yaxis()
    pair[0].tick_params(axis="y", left=False, labelleft=False)
    pair[1].tick_params(axis="y", labelleft=True, length=0)
    return figure


def phases(histories: Mapping[str, Sequence[Epoch]], *, title: str = "") -> Figure:
    """Accuracy over the epochs of several phases in a row, a line where the next one begins, its name on its side.

    Raises:
        ValueError: if a phase has no epoch.
    """
    if not histories or not all(histories.values()):
        raise ValueError("a phase has no epoch, so there is no curve; train for one epoch at least in each")
    figure, ax = axes(width=7, title=title, x="epoch", y="share right")
    epochs = [epoch for history in histories.values() for epoch in history]
    for split in ("train", "val"):
        values = [getattr(epoch, split).accuracy for epoch in epochs]
        ax.plot(range(1, len(values) + 1), values, color=COLOURS[split], linestyle="-" if split == "val" else "--", marker=".")
    start = 0.5
    for name, history in histories.items():
        if start > 1:
            ax.axvline(start, color="black", linewidth=1)
        ax.annotate(name, (start + len(history) / 2, 1.06), ha="center", va="center", fontsize=9)
        start += len(history)
    ax.set_ylim(0, 1.12)
    label_ends(ax, {split: [getattr(epochs[-1], split).accuracy] for split in ("train", "val")})
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1])
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def cut_bars(shares: Mapping[str, float], labels: Sequence[str], *, title: str = "", x: str = "") -> Figure:
    """One bar of 100 % per name; its last part, `shares` of it, is lifted out in the colour of a head, beside its label."""
    figure, ax = axes(height=0.9 + 0.42 * len(shares), title=title)
    for row, (share, label) in enumerate(reversed(list(zip(shares.values(), labels, strict=True)))):
        rest = 100 * (1 - share)
        ax.barh(row, rest, height=0.5, color=OTHERS[0])
        ax.barh(row, 100 * share, left=rest, height=0.5, facecolor="none", edgecolor="#7f7f7f", linestyle=":")
        ax.barh(row + 0.25, 100 * share, left=rest + 2, height=0.5, color=COLOURS["head"])
        ax.text(104, row + 0.25, label, va="center", fontsize=9)
    ax.set_yticks(range(len(shares)), list(shares)[::-1])
    ax.set_xlim(0, 102)
    ax.set_xlabel(x, loc="left")
    ax.spines["bottom"].set_bounds(0, 100)
    return figure


MARKERS = "os^DvP"


def maps(points: Mapping[str, Tensor], labels: Sequence[int], classes: Sequence[str], *, title: str = "") -> Figure:
    """One map per name, of `points` (pictures, 2); each class has a colour and a sign, which a legend names (up to twelve)."""
    figure, grid = plt.subplots(1, len(points), figsize=(7, 2.9), dpi=90, squeeze=False, layout="constrained")
    plt.close(figure)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    numbers = np.asarray(labels)
    for ax, (name, places) in zip(grid[0], points.items(), strict=True):
        ax.set_title(name, fontsize=9)
        ax.set(xticks=[], yticks=[], xlabel="widest direction", ylabel="second" if ax is grid[0][0] else "")
        for number, one in enumerate(classes):
            mine = np.asarray(places)[numbers == number]
            sign = MARKERS[(number + number // len(OTHERS)) % len(MARKERS)]
            ax.scatter(*mine.T, s=18, color=OTHERS[number % len(OTHERS)], marker=sign, linewidths=0, alpha=0.8, label=one)
    if len(classes) <= 12:
        figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False, fontsize=9)
    return figure


def stamp(figure: Figure, text: str) -> Figure:
    """`text` as a rubber stamp on the last axes of `figure`, which is returned."""
    frame = {"boxstyle": "round,pad=0.4", "facecolor": "white", "edgecolor": "#8b0000", "linewidth": 2}
    figure.axes[-1].text(
        0.95, 0.1, text, transform=figure.axes[-1].transAxes, rotation=8, ha="right", va="bottom", color="#8b0000", bbox=frame
    )
    return figure


def runs(
    series: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    levels: Mapping[str, Sequence[float]] | None = None,
    title: str = "",
    x: str = "",
    y: str = "",
) -> Figure:
    """Over each choice on the x axis one dot per run, and one line per name through the means.

    Args:
        levels: runs that belong to no choice: a dashed line at their mean, their dots at its left end; the first one in the
            colour of the first of `series`, and so on.

    Raises:
        ValueError: if there is no run to draw.
    """
    choices = list(dict.fromkeys(choice for found in series.values() for choice in found))
    if not choices:
        raise ValueError("there are no runs to draw; give for each name its choices, each with its runs")
    figure, ax = axes(width=7, height=3.2, title=title, x=x, y=y)
    levels = levels or {}
    colours = {name: colour_of(name, number) for names in (series, levels) for number, name in enumerate(names)}
    places = {name: [choices.index(choice) for choice in found] for name, found in series.items()}
    means = {name: [float(np.mean(values)) for values in found.values()] for name, found in series.items()}
    for number, name in enumerate(series):
        ax.plot(places[name], means[name], color=colours[name], linestyle=("-", "-.", ":")[number % 3])
    for name, values in levels.items():
        means[name] = [float(np.mean(values))] * 2
        ax.plot([-0.15, len(choices) - 1], means[name], color=colours[name], linestyle="--")
    dots = [(name, place, v) for name in series for place, v in zip(places[name], series[name].values(), strict=True)]
    for name, place, values in [*dots, *((name, -0.15, values) for name, values in levels.items())]:
        ax.plot([place] * len(values), values, "o", color=colours[name], markersize=5, alpha=0.6, markeredgewidth=0)
    ax.set_xticks(range(len(choices)), choices)
    ax.margins(y=0.08)
    label_ends(ax, means, gap=0.08)
    return figure
