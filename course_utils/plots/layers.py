"""Layers of a network: how many values each has, and whether it was ever trained."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from course_utils.plots.style import COLOURS, described, short_number, subplots


def trained_layers(values: Mapping[str, int], bias: Mapping[str, float]) -> Figure:
    """A row for each layer: its number of values, and its largest bias. Layers whose biases are all zero are of random values.

    Raises:
        ValueError: if there is no layer, or the two do not name the same layers.
    """
    if not values or values.keys() != bias.keys():
        raise ValueError("give for the same layers, one at least, how many values they have and their largest bias")
    never = [name for name in values if bias[name] == 0]
    share = sum(values[name] for name in never) / sum(values.values())
    title = f"{len(never)} of {len(values)} layers were never trained; they hold {share:.0%} of all values"
    figure, ((left, right),) = subplots(1, 2, size=(7, 0.9 + 0.2 * len(values)), sharey=True, title=title)
    colours = [COLOURS["random" if name in never else "pretrained"] for name in values]
    names = list(values)
    left.barh(names, list(values.values()), color=colours)
    right.barh(names, [bias[name] for name in names], color=colours)
    for row, name in enumerate(names):
        far = {"xytext": (4, 0), "textcoords": "offset points", "va": "center", "fontsize": 8}
        left.annotate(short(values[name]), (values[name], row), **far)
        right.annotate("exactly 0" if name in never else f"{bias[name]:.2f}", (bias[name], row), **far)
    left.set_xlabel("values, weights and biases")
    right.set_xlabel("largest bias, up or down")
    left.xaxis.set_major_locator(MaxNLocator(4))
    left.xaxis.set_major_formatter(FuncFormatter(short_number))
    left.invert_yaxis()
    for ax in (left, right):
        ax.margins(x=0.2)
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    brown = f"; {', '.join(never)} have a bias of exactly zero" if never else ""
    return described(figure, f"{len(values)} layers with their numbers of values and their largest biases{brown}.")


def short(count: int) -> str:
    return f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e3:.0f} k"
