"""What heads make of values that were kept: at several cuts of a network, and in several forms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean

from matplotlib.figure import Figure

from course_utils.plots.charts import dots, runs
from course_utils.plots.style import described


def cuts(neighbour: Mapping[str, float], heads: Mapping[str, Sequence[float]], *, guessing: float) -> Figure:
    """Over each cut the accuracy of a nearest neighbour and of several heads; a dotted line shows guessing.

    Raises:
        ValueError: if the two do not name the same cuts.
    """
    if neighbour.keys() != heads.keys():
        raise ValueError(f"give a neighbour and heads for the same cuts, not {list(neighbour)} and {list(heads)}")
    best = max(heads, key=lambda name: mean(heads[name]))
    last = list(heads)[-1]
    title = f"Heads are best behind {best}" + (f", not behind {last}, the last" if best != last else ", the last")
    series = {"neighbour": {name: [value] for name, value in neighbour.items()}, "head": heads}
    figure = runs(series, title=title, x="values that were kept", y="accuracy on val")
    figure.axes[0].set_ylim(0, 1)
    figure.axes[0].axhline(guessing, color="#7f7f7f", linestyle=":", linewidth=1)
    figure.axes[0].annotate("guessing", (len(heads) - 1, guessing), va="bottom", ha="right", fontsize=9, color="#7f7f7f")
    means = ", ".join(f"{name} {mean(values):.2f}" for name, values in heads.items())
    return described(figure, f"Accuracy of heads, on average: {means}.")


def compared(found: Mapping[str, Sequence[float]]) -> Figure:
    """A row of dots, one for each head, for each form of kept values; the title has the differences to the last one."""
    *others, last = found
    gaps = [
        f"{name} {mean(found[name]) - mean(found[last]):+.2f}".replace("-", "−").replace("−0.00", "±0.00") for name in others
    ]
    figure = dots(found, title=f"Beside {last}: {', '.join(gaps)}", x="accuracy on val (the axis begins at 0.5)")
    ax = figure.axes[0]
    ax.set_xlim(min(0.5, ax.get_xlim()[0]), 1)
    return described(figure, f"{len(found)} rows of dots; each dot is one head.")
