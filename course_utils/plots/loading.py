"""What became of a loaded network: ways to use one file, maps on the way, pieces of pictures that excite a channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor

from course_utils.plots.style import COLOURS, as_picture, axes, described, subplots


def nine_ways(shares: Mapping[str, float], *, guessing: float, what: str = "new pictures named correctly") -> Figure:
    """One bar per way of using a file, the first one as it should be: as green as all that do no worse; guessing is dotted."""
    figure, ax = axes(width=7, height=0.9 + 0.28 * len(shares), x=f"{what}, in percent")
    values = [100 * share for share in shares.values()]
    title = f"One file, {len(values)} ways to use it, no error message: from {max(values):.0f} % right to {min(values):.0f} %"
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    rows = range(len(values))[::-1]
    ax.barh(rows, values, color=[COLOURS["right" if value >= values[0] - 1 else "wrong"] for value in values])
    ax.axvline(100 * guessing, color="black", linestyle=":", linewidth=1)
    for row, value in zip(rows, values, strict=True):
        place = max(value, 100 * guessing)
        ax.annotate(f"{value:.0f}", (place, row), xytext=(4, 0), textcoords="offset points", va="center", fontsize=9)
    ax.annotate("guessing", (100 * guessing, -0.9), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
    ax.set_yticks(rows, list(shares))
    ax.set_xlim(0, 108)
    ax.set_ylim(-1.2, len(values) - 0.4)
    said = ", ".join(f"{name} {100 * share:.0f}" for name, share in shares.items())
    return described(figure, f"Bars, in percent: {said}; guessing {100 * guessing:.0f}.")


# ------------------------------------------------------------------------------------------------------------- maps

DEPTH = 0.15  # how far the card behind stands aside


def map_stacks(image: Image.Image | Tensor, maps: Mapping[str, Tensor], *, counts: Sequence[int] = (3, 3, 5, 7, 9)) -> Figure:
    """A picture, and after it a stack of maps (channels, height, width) per part; bright is a high value.

    Only the most telling maps of each part are shown, `counts` of them: more in later parts, which have more.
    """
    sizes = [tuple(part.shape) for part in maps.values()]
    (first, high, wide), (last, low, narrow) = sizes[0], sizes[-1]
    figure, ax = axes(width=7.4, height=1.95)
    ax.axis("off")
    title = f"Fewer places, more maps: from {first} maps of {high}×{wide} to {last} of {low}×{narrow}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    x = card(ax, 0.0, 0, 1.0, as_picture(image), None)
    ax.annotate("the picture", (0.5, -0.12), ha="center", va="top", fontsize=8.5)
    for place, ((name, part), (channels, height, width)) in enumerate(zip(maps.items(), sizes, strict=True)):
        side, shown = 0.94 - 0.1 * place, telling(part, counts[min(place, len(counts) - 1)])
        start = x + 0.25
        for behind in range(len(shown) - 1, -1, -1):
            x = max(x, card(ax, start + behind * DEPTH, behind * DEPTH * 0.5, side, shown[behind].numpy(), "magma"))
        ax.annotate(f"{name}\n{channels} of {height}×{width}", (start, -0.12), ha="left", va="top", fontsize=8.5)
    ax.set_xlim(-0.05, x + 0.05)
    ax.set_ylim(-0.42, 1.2)
    ax.set_aspect("equal")
    return described(figure, f"A picture and stacks of maps after {', '.join(maps)}; the maps get coarser from part to part.")


def card(ax: Any, left: float, bottom: float, side: float, values: np.ndarray, colours: str | None) -> float:
    """Draw one square card; its right edge is returned."""
    place = (left, left + side, bottom, bottom + side)
    ax.imshow(values, extent=place, cmap=colours, interpolation="nearest", zorder=2 - bottom)
    ax.add_patch(Rectangle((left, bottom), side, side, fill=False, edgecolor="white", linewidth=1.2, zorder=2 - bottom))
    return left + side


def telling(part: Tensor, count: int) -> Tensor:
    """The map that varies most, then those that are least like the ones before; maps in which little happens are left out."""
    maps = part.detach().float()
    flat = maps.flatten(1) - maps.flatten(1).mean(1, keepdim=True)
    spread = flat.norm(dim=1)
    busy = (spread > 0.3 * spread.max()).nonzero().flatten()
    directions = flat / spread.clamp(min=1e-6)[:, None]
    chosen = [int(spread.argmax())]
    while len(chosen) < min(count, len(busy)):
        alike = (directions[busy] @ directions[chosen].T).abs().amax(1)
        alike[torch.isin(busy, torch.tensor(chosen))] = 2
        chosen.append(int(busy[alike.argmin()]))
    return maps[chosen]


def strongest_patches(rows: Mapping[str, Sequence[Tensor]], *, title: str) -> Figure:
    """One row per channel: pieces of pictures, each (3, side, side), at which it answers most."""
    columns = max(map(len, rows.values()))
    figure, grid = subplots(len(rows), columns, size=(6.6, 0.35 + 0.7 * len(rows)), title=title)
    for line, (name, pieces) in zip(grid, rows.items(), strict=True):
        for ax in line:
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        for ax, piece in zip(line, pieces, strict=False):
            ax.imshow(as_picture(piece), interpolation="nearest")
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    return described(figure, f"Rows of pieces cut out of pictures, one row for each of {', '.join(rows)}.")


# ------------------------------------------------------------------------------------------------------ modes


def batch_sizes(mixed: Mapping[int, float], alike: tuple[int, float], *, evaluation: float) -> Figure:
    """Share right over the size of the batch in training mode, for mixed batches and one of a single class; and without it."""
    values = [*mixed.values(), alike[1]]
    low, high = (f"{100 * value:.0f} %" for value in (min(values), max(values)))
    title = f"In training mode the other pictures decide: {low} to {high} right"
    figure, ax = axes(width=7, height=3.2, title=title, x="pictures in the batch (sizes evenly spaced)", y="share right")
    sizes = sorted({*mixed, alike[0]})
    places = [sizes.index(size) for size in mixed]
    training, still = COLOURS["training mode"], COLOURS["evaluation mode"]
    ax.plot([0, len(sizes) - 1], [evaluation] * 2, color=still)
    ax.plot(places, list(mixed.values()), "o-", color=training)
    ax.plot([sizes.index(alike[0])], [alike[1]], "s", color=training, markersize=8)
    away: dict[str, Any] = {"textcoords": "offset points", "fontsize": 9}
    ax.annotate("evaluation mode, any batch", (0, evaluation), xytext=(0, 5), color=still, **away)
    ax.annotate("training mode, mixed classes", (places[0], min(mixed.values())), xytext=(10, -10), color=training, **away)
    ax.annotate("training mode, all of one class", (sizes.index(alike[0]), alike[1]), xytext=(10, -4), color=training, **away)
    ax.set_xticks(range(len(sizes)), [str(size) for size in sizes])
    ax.set_ylim(0, 1.12)
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1])
    said = ", ".join(f"{size} {share:.0%}" for size, share in mixed.items())
    alone = f"{alike[0]} of one class {alike[1]:.0%}, evaluation mode {evaluation:.0%}"
    return described(figure, f"Share right in training mode over the size of a mixed batch: {said}; {alone}.")
