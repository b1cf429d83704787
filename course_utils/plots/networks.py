"""Networks drawn as boxes: their parts, and what happens to each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from course_utils.plots.style import axes

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
