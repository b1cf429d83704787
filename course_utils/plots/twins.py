"""Two frameworks, one recipe: their learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean

from matplotlib.figure import Figure

from course_utils.plots.style import COLOURS, described, subplots
from course_utils.sweeps import Row

LETTERS = {"Keras": "B", "PyTorch": "A"}
Runs = Mapping[str, Sequence[float]]


def twin_curves(
    rows: Sequence[Row], rates: Sequence[float], *, secret: bool = False, mine: Runs | None = None, title: str = ""
) -> Figure:
    """Share of val right by epoch: for each framework a line through the means, in a band from the lowest to the highest seed.

    Args:
        rows: a row for each framework, rate of phase two, seed and epoch.
        rates: one panel for each of these rates of phase two.
        secret: the frameworks are A and B, in grey and black.
        mine: for each framework one run more at the first of the rates, drawn as dots.

    Raises:
        ValueError: if there is no run at one of the rates.
    """
    if not rates or not all(any(row["rate"] == rate for row in rows) for rate in rates):
        raise ValueError(f"there are runs at {sorted({row['rate'] for row in rows})}; ask for one of these rates")
    figure, grid = subplots(1, len(rates), size=(7, 3.2), title=title, sharey=True)
    for ax, rate in zip(grid[0], rates, strict=True):
        epochs = sorted({row["epoch"] for row in rows if row["rate"] == rate})
        for framework, letter in LETTERS.items():
            runs = [[row["val"] for row in rows if key(row) == (framework, rate, epoch)] for epoch in epochs]
            colour = ("#222222" if letter == "A" else "#999999") if secret else COLOURS[framework]
            ax.fill_between(epochs, [min(some) for some in runs], [max(some) for some in runs], color=colour, alpha=0.2, lw=0)
            style = "-" if framework == "PyTorch" else "--"
            name = letter if secret else framework
            ax.plot(epochs, [mean(some) for some in runs], color=colour, linestyle=style, linewidth=2, label=name)
            if mine and rate == rates[0]:
                ax.plot(range(1, 1 + len(mine[framework])), mine[framework], "o", color=colour, markersize=5)
        half = len(epochs) / 2
        ax.axvline(half + 0.5, color="#999999", linewidth=1, linestyle=":")
        ax.annotate("phase one", (1, 0.04), fontsize=9)
        ax.annotate(f"phase two, {rate:f}".rstrip("0"), (half + 0.6, 0.04), fontsize=9)
        ax.set(ylim=(0, 1.05), xlabel="epoch", xticks=epochs)
        ax.spines[["top", "right"]].set_visible(False)
    grid[0][0].set_ylabel("share of val right")
    grid[0][0].legend(loc="center left", frameon=False)
    return described(figure, f"Two lines with bands over {len(epochs)} epochs; the axis begins at 0.")


def key(row: Row) -> tuple:
    return row["framework"], row["rate"], row["epoch"]
