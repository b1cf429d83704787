"""Training in phases: curves that follow on one another, hills over the rate, and what a layer sees in a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from course_utils.plots.style import COLOURS, as_picture, axes, described, label_ends, subplots
from course_utils.sweeps import Row
from course_utils.train import Epoch, Score


def phases(one: Sequence[Epoch], two: Mapping[str, Sequence[Epoch | Score]]) -> Figure:
    """Accuracy on val by epoch: phase one, and behind it one line for each way to go on.

    Raises:
        ValueError: if a phase has no epoch.
    """
    if not one or not two or not all(two.values()):
        raise ValueError("a phase without an epoch has no curve; give phase one and at least one way to go on")
    first = [epoch.val.accuracy for epoch in one]
    lines = {name: [first[-1], *map(on_val, epochs)] for name, epochs in two.items()}
    ends = " or ".join(f"{values[-1]:.2f}" for values in lines.values())
    title = f"Phase one ends at {first[-1]:.2f} of val right, phase two at {ends}"
    figure, ax = axes(width=7, height=3, title=title, x="epoch", y="share of val right")
    for place, values in enumerate(lines.values()):
        colour = COLOURS["layer4 + head"] if not place else COLOURS["wrong"]
        numbers = range(len(first), len(first) + len(values))
        ax.plot(numbers, values, color=colour, marker=".", linestyle="-" if not place else "--")
    ax.plot(range(1, len(first) + 1), first, color=COLOURS["head"], marker=".")
    ax.axvline(len(first), color="#999999", linewidth=1, linestyle=":")
    ax.set_ylim(0, 1)
    ax.annotate("phase one: the head", (1, 0.04), fontsize=9)
    ax.annotate("phase two", (len(first) + 0.15, 0.04), fontsize=9)
    label_ends(ax, lines)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return described(
        figure, "One line over the epochs of phase one, and behind it one for each phase two; the axis begins at 0."
    )


def on_val(one: Epoch | Score) -> float:
    return (one.val if isinstance(one, Epoch) else one).accuracy


TRAINED, AGAIN, HELD = "as trained", "measured again", "statistics held"
HILLS = {TRAINED: ("two phases", "val", "val"), AGAIN: ("two phases", "again", "right"), HELD: (HELD, "val", "wrong")}


def rate_hill(series: Mapping[str, Mapping[float, float]], level: float, table: Sequence[Row] = ()) -> Figure:
    """Accuracy on val over the rate of phase two: one line for each of `series`, and a dotted one at the level of phase one.

    Args:
        series: "as trained", "measured again" or "statistics held", each with its accuracy by rate.
        table: runs of several seeds, drawn as pale dots of the same colour, and at the left edge the ends of their phase one.

    Raises:
        ValueError: if a series has another name, or no rate.
    """
    if not series or not all(series.values()) or not series.keys() <= HILLS.keys():
        raise ValueError(f"give accuracies by rate for some of {', '.join(HILLS)}, not for {', '.join(series) or 'nothing'}")
    figure, ax = axes(
        width=7, height=3.3, title=title_of_hill(series, level), x="learning rate of phase two", y="share of val right"
    )
    ax.axhline(level, color=COLOURS["head"], linestyle=":", linewidth=1.5)
    ax.annotate("phase one", (min(map(min, series.values())), level), xytext=(0, -4), textcoords="offset points", va="top")
    heads = [row["val"] for row in table if row["recipe"] == "head"]
    pale: dict[str, Any] = {"marker": "o", "linestyle": "", "alpha": 0.25, "markersize": 4, "markeredgewidth": 0}
    ax.plot([min(map(min, series.values())) / 1.6] * len(heads), heads, color=COLOURS["head"], **pale)
    for name, values in series.items():
        recipe, column, colour = HILLS[name]
        others = [row for row in table if row["recipe"] == recipe and row["lr"] in values]
        ax.plot([row["lr"] for row in others], [row[column] for row in others], color=COLOURS[colour], **pale)
        ax.plot(list(values), list(values.values()), color=COLOURS[colour], marker=".", linewidth=2)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(lambda lr, _: f"{lr:f}".rstrip("0"))
    ax.set_ylim(0, 1.03)
    for name, values in series.items():
        away: dict[str, Any] = {"xytext": (7, 0), "textcoords": "offset points", "va": "center", "annotation_clip": False}
        ax.annotate(name, (max(values), values[max(values)]), color=COLOURS[HILLS[name][2]], **away)
    return described(figure, "Accuracy over the learning rate, on an axis of powers of ten; pale dots are several seeds.")


def title_of_hill(series: Mapping[str, Mapping[float, float]], level: float) -> str:
    name, values = list(series.items())[-1]
    found = series.get(TRAINED, values)
    best = max(found, key=found.__getitem__)
    if name == TRAINED:
        last = max(found)
        side = "below" if found[last] < level else "above"
        return f"Best at {best:g}; at {last:g} phase two ends {abs(found[last] - level):.2f} {side} phase one"
    low = min((lr for lr in values if lr > best), key=values.__getitem__, default=best)
    if name == HELD:
        return f"With the statistics held there is a cliff: {values[low]:.2f} at {low:g}"
    return f"Measured again, the statistics lift {found[low]:.2f} to {values[low]:.2f} at {low:g}"


def lit_maps(images: Sequence[Tensor], maps: Mapping[str, Tensor], names: Sequence[str], *, title: str = "") -> Figure:
    """`images` once for each entry of `maps`, lit where that map (pictures, rows, columns) answers, dark where it is silent."""
    figure, grid = subplots(len(maps), len(images), size=(7, 0.5 + 0.62 * len(maps)), title=title)
    for ax, name in zip(grid[0], names, strict=True):
        ax.set_title(name, fontsize=8, pad=2)
    for row, (when, answers) in zip(grid, maps.items(), strict=True):
        top = max(float(answers.max()), 1e-6)
        for ax, image, answer in zip(row, images, answers, strict=True):
            picture = as_picture(image) / (1 if image.is_floating_point() else 255)
            down, across = (np.arange(n) * cells // n for n, cells in zip(picture.shape, answer.shape, strict=False))
            light = (answer.clamp(min=0) / top).numpy()[down][:, across]
            ax.imshow(picture * (0.15 + 0.85 * light[..., None]), interpolation="nearest")
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        row[0].set_ylabel(when, fontsize=8, rotation=0, ha="right", va="center")
    return described(
        figure,
        f"The same {len(images)} pictures in {len(maps)} rows, {', '.join(maps)}: lit where the map answers.".replace(
            "\n", " "
        ),
    )
