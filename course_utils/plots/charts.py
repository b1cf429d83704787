"""Charts: curves, dots and bars of plain records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from course_utils.plots.style import COLOURS, OTHERS, axes, colour_of, label_ends, short_number, subplots
from course_utils.train import Epoch


def learning_curve(history: Sequence[Epoch], *, title: str = "Learning curve") -> Figure:
    """Loss and accuracy over epochs, on training and validation pictures; the best epoch by validation is marked.

    Raises:
        ValueError: if no epoch was finished.
    """
    if not history:
        raise ValueError("the history has no epoch, so there is no curve; train for one epoch at least")
    figure, ((left, right),) = subplots(1, 2, size=(7, 2.8), title=title)
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
