"""Pictures of a head that is replaced: what the old one said, where it stands, and how the new one begins to learn."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from course_utils.plots.pictures import Answer
from course_utils.plots.style import COLOURS, as_picture, axes, described, label_ends, subplots

MOST = 8  # rows and columns that can be read


def old_answers(truth: Sequence[str], said: Sequence[str], examples: Mapping[str, Any]) -> Figure:
    """How often pictures of each class (rows) get each name (columns, the most frequent ones), as squares of blue.

    Args:
        examples: a picture for each class or name that has one.

    Raises:
        ValueError: if there is not one answer, and at least one, for each picture.
    """
    if not len(truth) or len(truth) != len(said):
        raise ValueError(f"{len(truth)} pictures, {len(said)} answers; give one for each, and at least one")
    counts, of = Counter(zip(truth, said, strict=True)), Counter(truth)
    rows, columns = sorted(of)[:MOST], [name for name, _ in Counter(said).most_common(MOST)]
    (row, column), largest = counts.most_common(1)[0]
    title = f"Not at random: {largest} of {of[row]} pictures of class “{row}” are called “{column}”"
    size = (7, 0.55 * len(rows) + 1.35)
    figure, grid = subplots(len(rows) + 1, len(columns) + 1, size=size, title=title, gridspec_kw={"wspace": 0, "hspace": 0})
    for place, ax in np.ndenumerate(grid):
        ax.set(xticks=[], yticks=[], aspect="equal", xlim=(0, 1), ylim=(0, 1))
        ax.spines[:].set_color("white")
        if 0 not in place:
            count = counts[rows[place[0] - 1], columns[place[1] - 1]]
            share = count / of[rows[place[0] - 1]]
            ax.set_facecolor((*(1 - share * (1 - np.array([0.0, 0.35, 0.6]))),))
            ax.text(0.5, 0.5, count or "", ha="center", va="center", color="white" if share > 0.4 else "black", fontsize=9)
    for ax, name in zip([*grid[1:, 0], *grid[0, 1:]], [*rows, *columns], strict=True):
        if name in examples:
            ax.imshow(as_picture(examples[name]), extent=(0.04, 0.96, 0.04, 0.96), interpolation="nearest")
        ax.set(xlim=(0, 1), ylim=(0, 1))
    for ax, name in zip(grid[1:, 0], rows, strict=True):
        ax.set_ylabel(textwrap.fill(name, 12), rotation=0, ha="right", va="center", fontsize=9)
    for ax, name in zip(grid[0, 1:], columns, strict=True):
        ax.set_title(f"“{textwrap.fill(name, 10)}”", fontsize=8, pad=3)
    grid[0, 0].set_title("the old head says", fontsize=8, loc="right", color="#555555")
    return described(
        figure, f"A grid of counts: {len(rows)} classes by the {len(columns)} names that they are given most often."
    )


def heads_on_pictures(images: Sequence[Any], truth: Sequence[str], said: Mapping[str, Sequence[Answer]]) -> Figure:
    """The same pictures in a row for each head, framed green and ✓ where its answer is right, ✗ where it is not.

    Raises:
        ValueError: if there is no picture, or not one true name and one answer of each head for each.
    """
    amounts = {
        "pictures": len(images),
        "true names": len(truth),
        **{f"answers of {name!r}": len(a) for name, a in said.items()},
    }
    if not len(images) or len(set(amounts.values())) > 1:
        raise ValueError(f"{', '.join(f'{count} {what}' for what, count in amounts.items())}; give one for each picture")
    hits = [sum(name == true for (name, _), true in zip(one, truth, strict=True)) for one in said.values()]
    counted = f"{', '.join(map(str, hits[:-1]))} and {hits[-1]}" if len(hits) > 1 else str(hits[0])
    title = f"One backbone, {len(said)} head{'s'[: len(said) - 1]}: {counted} of {len(images)} right"
    figure, grid = subplots(len(said), len(images), size=(6.3, 1.29 * len(said) + 0.45), title=title)
    for axes_of_row, (head, answers) in zip(grid, said.items(), strict=True):
        axes_of_row[0].set_ylabel(head, fontsize=9)
        for ax, image, true, (name, probability) in zip(axes_of_row, images, truth, answers, strict=True):
            right = name == true
            ax.imshow(as_picture(image), interpolation="nearest")
            ax.set(xticks=[], yticks=[])
            ax.set_title(f"{textwrap.shorten(name, 18)}\n{probability:.0%} {'✓' if right else '✗'}", fontsize=8, pad=3)
            ax.spines[:].set(color=COLOURS["right" if right else "wrong"], linewidth=2.5)
    for ax, true in zip(grid[-1], truth, strict=True):
        ax.set_xlabel(f"a {true}", fontsize=8, color="#555555")
    return described(figure, f"The same {len(images)} pictures in {len(said)} rows, with what each head calls them.")


class Place(NamedTuple):
    """Where a model has its head: its share of all parameters, its dotted name, and a word on what goes in."""

    share: float
    name: str
    inputs: str


def head_places(places: Mapping[str, Place]) -> Figure:
    """One bar of 100 % for each model, the head at its end, and beside it the head's name and what goes in."""
    names, addresses = list(places), {place.name for place in places.values()}
    title = f"{len(names)} models, {len(addresses)} different names for the head"
    figure, ax = axes(width=7, height=0.8 + 0.36 * len(names), title=title, x="share of all parameters, %")
    for row, place in enumerate(places.values()):
        body = 100 * (1 - place.share)
        ax.barh(row, body, height=0.6, color=COLOURS["backbone"])
        ax.barh(row, 100 * place.share, left=body, height=0.6, color=COLOURS["head"])
        ax.annotate(f"{body:.0f}", (body / 2, row), ha="center", va="center", fontsize=9)
        ax.annotate(f"{100 * place.share:.0f}", (100, row), (5, 0), textcoords="offset points", va="center", fontsize=9)
        ax.annotate(f"{place.name}, {place.inputs}", (100, row), (26, 0), textcoords="offset points", va="center", fontsize=9)
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set_xlim(0, 100)
    for text, x, side in (("backbone", 0, "left"), ("head", 100, "right"), ("name of the head, and what goes in", 114, "left")):
        ax.annotate(text, (x, -0.45), ha=side, va="bottom", fontsize=8, color="#555555", annotation_clip=False)
    ax.set_title(title, loc="left", fontsize=11, pad=16)
    return described(figure, "Bars of 100 %, the head at the end of each, with its name and what goes into it.")


STYLES = ("--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))


def first_losses(runs: Mapping[str, Sequence[float]], levels: Mapping[str, float]) -> Figure:
    """The loss at each step of several runs: the first is right and green, the others are mistakes; `levels` as thin lines.

    Raises:
        ValueError: if there is no run, or one without a step.
    """
    if not runs or not all(runs.values()):
        raise ValueError("a run has no step, so there is no curve; give at least one loss for each")
    last, steps = [losses[-1] for losses in runs.values()], max(map(len, runs.values()))
    title = f"{len(runs)} runs, no error message, and after {steps} steps losses from {min(last):.1f} to {max(last):.1f}"
    figure, ax = axes(width=7, height=3.4, title=title, x="steps of training", y="loss on the training pictures")
    for place, losses in enumerate(runs.values()):
        colour, style = (COLOURS["wrong"], STYLES[(place - 1) % len(STYLES)]) if place else (COLOURS["right"], "-")
        ax.plot(range(len(losses)), losses, color=colour, linestyle=style, linewidth=2)
    for name, level in levels.items():
        ax.axhline(level, color="#777777", linewidth=0.8, zorder=0)
        ax.annotate(
            name, (steps - 1, level), (0, -4), textcoords="offset points", ha="right", va="top", fontsize=8, color="#555555"
        )
    ax.set_ylim(0, 1.05 * max(map(max, [*runs.values(), levels.values() or [0]])))
    ax.margins(x=0.01)
    label_ends(ax, runs, gap=0.085)
    return described(figure, f"Lines of the loss over the steps: {', '.join(runs)}.")
