"""Nearest neighbours: which pictures a kind of features puts beside a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from course_utils.plots.style import COLOURS, as_picture, described, subplots

Picture = Image.Image | Tensor | np.ndarray


def neighbours(
    queries: Sequence[tuple[Picture, str]],
    known: Sequence[tuple[Picture, str]],
    found: Mapping[str, Sequence[Sequence[int]]],
    *,
    show: Sequence[int],
) -> Figure:
    """For some queries, by each kind of features a row of their neighbours, the nearest first; the title counts all queries.

    The query has a black frame, a neighbour of its class a thick green one.

    Args:
        queries, known: pictures, each with its class; neighbours are found among the second ones.
        found: by the name of the features, for each query the places of its neighbours in `known`.
        show: places of the queries that are drawn.

    Raises:
        ValueError: if nothing is to be shown, or the queries do not all have equally many neighbours by each kind.
    """
    counts = {len(places) for rows in found.values() for places in rows}
    if not show or len(counts) != 1 or any(len(rows) != len(queries) for rows in found.values()):
        raise ValueError(f"{len(queries)} queries, neighbours {sorted(counts)}; give each equally many, and show one at least")
    many = counts.pop()
    widths = [*([1] * (many + 1) + [0.35]) * len(show)][:-1]
    size = (7, 0.35 + 0.6 * len(found))
    figure, grid = subplots(len(found), len(widths), size=size, gridspec_kw={"width_ratios": widths})
    shares = {}
    for line, (name, rows) in zip(grid, found.items(), strict=True):
        line[0].set_ylabel(name.replace(" ", "\n"), rotation=0, ha="right", va="center", fontsize=8, labelpad=4)
        shares[name] = mean(known[j][1] == kind for (_, kind), places in zip(queries, rows, strict=True) for j in places)
        for number, i in enumerate(show):
            cells = line[number * (many + 2) :]
            frame(cells[0], queries[i][0], "black", 2.5)
            for ax, j in zip(cells[1:], list(rows[i]), strict=False):
                same = known[j][1] == queries[i][1]
                frame(ax, known[j][0], COLOURS["right" if same else "still"], 2.5 if same else 1)
            if number:
                line[number * (many + 2) - 1].axis("off")
    words = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    figure.suptitle(f"Same class among the {many} nearest: {words}", x=0.01, ha="left", fontsize=11)
    shown = " and ".join(f"a {queries[i][1]}" for i in show)
    return described(figure, f"Beside {shown} stand the {many} nearest pictures by each kind of features.")


def frame(ax: Axes, image: Picture, colour: str, width: float) -> None:
    ax.set(xticks=[], yticks=[])
    ax.imshow(as_picture(image), interpolation="nearest")
    ax.spines[:].set(color=colour, linewidth=width)
