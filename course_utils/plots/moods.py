"""Faces with the votes of their annotators, and how often a model is right, group by group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from matplotlib.figure import Figure

from course_utils.plots.style import COLOURS, as_picture, axes, described, subplots
from course_utils.sweeps import interval

ANNOTATORS = "#555555"


def votes(
    images: Sequence[Any],
    annotations: Sequence[Sequence[str]],
    said: Sequence[str] = (),
    *,
    columns: int = 6,
    title: str = "",
) -> Figure:
    """Pictures with what their annotators called them, most votes first; with `said`, what a model calls each above it."""
    rows = -(-len(images) // columns)
    lines = 1 + bool(len(said)) + max(len(set(names)) for names in annotations)
    side = 7 / columns
    figure, grid = subplots(rows, columns, size=(7, 0.3 + rows * (side + 0.15 * lines)), title=title)
    for place, ax in enumerate(grid.flat):
        ax.axis("off")
        if place < len(images):
            ax.imshow(as_picture(images[place]), interpolation="nearest")
            counted = [f"{count} {name}" for name, count in Counter(annotations[place]).most_common()]
            ax.text(0.5, -0.04, "\n".join(counted), transform=ax.transAxes, ha="center", va="top", fontsize=8)
            if len(said):
                right = said[place] == Counter(annotations[place]).most_common(1)[0][0]
                colour = COLOURS["right" if right else "wrong"]
                ax.set_title(f"model: {said[place]}", fontsize=8, pad=2, color=colour)
    one_voice = sum(len(set(names)) == 1 for names in annotations)
    return described(figure, f"{len(images)} faces with five votes each; on {one_voice} of them all five agree.")


def group_shares(
    runs: Mapping[str, Mapping[str, Sequence[float]]], people: Mapping[str, Sequence[float]], *, title: str = ""
) -> Figure:
    """For each run and group a dot for each subject, the mean with its 95 % interval by subject, and the annotators' mean.

    Args:
        runs: by name of the run and group, the share right of each subject.
        people: by group, how far annotators agree with the majority of the others, subject by subject.
    """
    rows = [(run, group) for group in people for run in runs]
    figure, ax = axes(
        width=7,
        height=1.1 + 0.5 * len(rows),
        title=title,
        x="share right (dots: subjects, darker where several lie; bar: 95 % interval)",
    )
    for y, (run, group) in enumerate(rows):
        shares = runs[run][group]
        ax.plot(shares, [y + 0.2] * len(shares), "o", color=COLOURS["test"], alpha=0.25, markersize=4, markeredgewidth=0)
        ax.plot(interval(shares), [y] * 2, color=COLOURS["test"], linewidth=5, solid_capstyle="butt", alpha=0.5)
        ax.plot(mean(shares), y, "o", color=COLOURS["test"], markersize=7)
        ax.text(mean(shares), y - 0.18, f"{mean(shares):.2f}", ha="center", va="bottom", color=COLOURS["test"], fontsize=9)
        ax.plot([mean(people[group])] * 2, [y - 0.35, y + 0.35], color=ANNOTATORS, linestyle="--", linewidth=1.5)
    for place, shares in enumerate(people.values()):
        words = f"{'annotators ' if not place else ''}{mean(shares):.2f}"
        ax.text(mean(shares), place * len(runs) - 0.42, words, ha="center", va="bottom", color=ANNOTATORS, fontsize=8.5)
    counts = {group: len(next(iter(runs.values()))[group]) for group in people}
    names = [f"{group} ({counts[group]} subjects)" + (f"\n{run}" if len(runs) > 1 else "") for run, group in rows]
    ax.set_yticks(range(len(rows)), names, fontsize=9)
    ax.set_xlim(0, 1.02)
    ax.set_ylim(len(rows) - 0.5, -0.75)
    said = "; ".join(f"{', '.join(filter(None, (group, run)))}: {mean(runs[run][group]):.2f}" for run, group in rows)
    most = "; ".join(f"{group} {mean(shares):.2f}" for group, shares in people.items())
    return described(figure, f"{said}. Annotators: {most}.")
