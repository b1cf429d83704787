"""What a training run gave: answers before and after it, loops that lack a line, recipes side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image
from torch import Tensor

from course_utils.plots.charts import stamp
from course_utils.plots.pictures import Answer
from course_utils.plots.style import COLOURS, as_picture, axes, described, label_ends, subplots
from course_utils.train import Epoch

# ------------------------------------------------------------------------------------------------- before and after


def before_and_after(
    images: Sequence[Image.Image | Tensor | np.ndarray],
    truth: Sequence[str],
    before: Sequence[Answer],
    after: Sequence[Answer],
    *,
    columns: int = 6,
) -> Figure:
    """Four rows: the surest hits and the surest mistakes before training, and those after it; the title counts the hits.

    Args:
        before, after: for each picture the name that the model gives, and its probability.

    Raises:
        ValueError: if there is no picture, or not one name and two answers for each.
    """
    if not len(images) or {len(truth), len(before), len(after)} != {len(images)}:
        counts = f"{len(images)} pictures, {len(truth)} names, {len(before)} and {len(after)} answers"
        raise ValueError(f"{counts}; give one picture at least, and for each a name and two answers")
    hits = [sum(name == true for (name, _), true in zip(said, truth, strict=True)) for said in (before, after)]
    title = f"Before training {hits[0]} of {len(truth)} right, after it {hits[1]}"
    figure, grid = subplots(4, columns, size=(7, 6.3), title=title)
    for row, (said, right) in enumerate(((before, True), (before, False), (after, True), (after, False))):
        chosen = surest(said, truth, right)[:columns]
        when = "before" if said is before else "after"
        grid[row, 0].set_ylabel(f"{when}:\n{'hits' if right else 'mistakes'}", fontsize=10)
        for place, ax in enumerate(grid[row]):
            show(ax, *((images[chosen[place]], said[chosen[place]], truth[chosen[place]]) if place < len(chosen) else ()))
    return described(figure, "Rows of pictures: the surest hits and the surest mistakes before training, and those after it.")


def surest(said: Sequence[Answer], truth: Sequence[str], right: bool) -> list[int]:
    """Places of the hits, or of the mistakes, the surest first."""
    mine = [i for i, (name, _) in enumerate(said) if (name == truth[i]) == right]
    return sorted(mine, key=lambda i: -said[i][1])


def show(ax: Axes, image: Any = None, answer: Answer = ("", 0.0), true: str = "") -> None:
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(image is not None)
    if image is None:
        return
    name, probability = answer
    ax.imshow(as_picture(image), interpolation="nearest")
    caption = f"{name} {probability:.0%}" if name == true else f"{name} {probability:.0%},\nis {true}"
    ax.set_title(caption, fontsize=8, pad=3)
    ax.spines[:].set(color=COLOURS["right" if name == true else "wrong"], linewidth=2.5)


# ------------------------------------------------------------------------------------------------- loops and recipes

TOP = 3.0  # of the axis of losses: higher ones leave through it


def without_one_line(losses: Mapping[str, Sequence[float]]) -> Figure:
    """The training loss by epoch of the complete loop, the first of `losses`, and of loops that lack a line.

    Lines that lie on one another are drawn once, with all their names. A loss above 3 leaves through the top.

    Raises:
        ValueError: if there is no loss.
    """
    if not losses or not all(losses.values()):
        raise ValueError("there is no loss to draw; give for each loop the loss of every epoch")
    complete = next(iter(losses.values()))
    climbs = [name for name, values in losses.items() if max(values) > 1.5 * complete[0]]
    figure, ax = axes(width=7, height=3.3, title=loops_in_words(losses, climbs), x="epoch", y="training loss per picture")
    lines = merged(losses)
    for place, (name, values) in enumerate(lines.items()):
        colour = COLOURS["right"] if not place else COLOURS["wrong"] if max(values) > 1.5 * complete[0] else "#999999"
        ax.plot(range(1, len(values) + 1), values, color=colour, marker=".", linestyle="-" if not place else "--")
        label_line(ax, name, values, colour, below=not place)
    ax.set_ylim(0, TOP)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return described(figure, "One line per loop; the axis of losses begins at 0 and ends at 3.")


def label_line(ax: Axes, name: str, values: Sequence[float], colour: str, *, below: bool) -> None:
    """The name of a line: `below` its middle, or at its end, or where it leaves the picture, with where it went."""
    away: dict[str, Any] = {"textcoords": "offset points", "color": colour, "annotation_clip": False}
    over = next((i for i, value in enumerate(values) if value > TOP), None)
    if over is not None:
        words = f"{name}:\n{values[-1]:.1f} at epoch {len(values)}"
        ax.annotate(words, (over + 1, TOP), xytext=(0, -8), va="top", **away)
    elif below:
        middle = (len(values) + 1) // 2
        ax.annotate(name, (middle, values[middle - 1]), xytext=(0, -14), ha="center", **away)
    else:
        ax.annotate(name, (len(values), values[-1]), xytext=(6, 0), va="center", **away)


def loops_in_words(losses: Mapping[str, Sequence[float]], climbs: Sequence[str]) -> str:
    complete = next(iter(losses.values()))
    if not climbs:
        return f"{len(losses) - 1} loops that lack a line, beside the complete one"
    worse = losses[climbs[0]]
    ahead = sum(a < b for a, b in zip(worse, complete, strict=False))
    both = min(len(worse), len(complete))
    return f"{climbs[0].capitalize()}: lower than the complete loop in {ahead} of {both} epochs, and {worse[-1]:.1f} in the end"


def merged(losses: Mapping[str, Sequence[float]]) -> dict[str, Sequence[float]]:
    """The same lines, those that lie on one another as one, whose name has theirs."""
    lines: dict[str, Sequence[float]] = {}
    for name, values in losses.items():
        twin = next((one for one, old in lines.items() if len(old) == len(values) and np.allclose(old, values, atol=1e-3)), "")
        lines[f"{twin} = {name}" if twin else name] = lines.pop(twin) if twin else values
    return lines


def recipes(accuracies: Mapping[str, Sequence[float]], *, chosen: str) -> Figure:
    """Accuracy on val by epoch, one labelled line per recipe; `chosen` is drawn thick, and the title says how it did.

    Raises:
        ValueError: if `chosen` is none of the recipes, or one has no epoch.
    """
    if chosen not in accuracies or not all(accuracies.values()):
        raise ValueError(f"{chosen!r} is chosen; give accuracies of it and of other recipes, one for each epoch")
    tops = {name: max(values) for name, values in accuracies.items()}
    last = min(tops, key=tops.__getitem__)
    first = max(tops, key=tops.__getitem__)
    title = f"{first} reaches {tops[first]:.2f} on val; last comes {last}, {tops[last]:.2f}"
    figure, ax = axes(width=7, height=3.3, title=title, x="epoch", y="accuracy on val")
    for place, (name, values) in enumerate(accuracies.items()):
        colour = COLOURS["head"] if name == chosen else COLOURS["wrong"] if name == last else "#555555"
        look: dict[str, Any] = {"linewidth": 2.5 if name == chosen else 1.2, "linestyle": ("-", "--", "-.", ":")[place % 4]}
        ax.plot(range(1, len(values) + 1), values, color=colour, marker=".", **look)
    ax.set_ylim(0, 1)
    label_ends(ax, accuracies, gap=0.06)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return described(figure, "One line per recipe over the epochs; the axis of accuracy goes from 0 to 1.")


def chosen_on_val(history: Sequence[Epoch], test: float, looks: int) -> Figure:
    """Accuracy by epoch on train and val, the best epoch on val, and one star for test, stamped with how often it was opened.

    Raises:
        ValueError: if no epoch was finished.
    """
    if not history:
        raise ValueError("the history has no epoch, so none was chosen; train for one epoch at least")
    best = max(history, key=lambda epoch: epoch.val.accuracy)
    title = f"Val chose epoch {best.number} for its {best.val.accuracy:.2f}; test says {test:.2f}"
    figure, ax = axes(width=7, height=3.3, title=title, x="epoch", y="accuracy")
    curves = {split: [getattr(epoch, split).accuracy for epoch in history] for split in ("train", "val")}
    for split, values in curves.items():
        ax.plot(range(1, len(values) + 1), values, color=COLOURS[split], linestyle="-" if split == "val" else "--", marker=".")
    ax.set_ylim(0, 1)
    label_ends(ax, curves)
    ax.plot(best.number, best.val.accuracy, "o", markersize=11, fillstyle="none", color=COLOURS["val"])
    ax.plot(best.number, test, "*", markersize=12, color=COLOURS["test"])
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    stamp(figure, f"test {test:.2f}, opened {'once' if looks == 1 else f'{looks} times'}")
    return described(figure, "Two lines over the epochs, and one number from test; the axis goes from 0 to 1.")
