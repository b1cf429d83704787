"""Learning rates: what a range test saw."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from course_utils.plots.style import COLOURS, axes, described
from course_utils.range_test import RangeTest

SAME = 1.05  # rates that lie nearer to one another have one mark


def range_test(found: RangeTest, *, chosen: float | None = None) -> Figure:
    """The loss of each batch over the rate, pale, and the smoothed curve; marks at its lowest point and at the `chosen` rate.

    Losses above one and a half times the first leave through the top.

    Raises:
        ValueError: if there is no loss, or the chosen rate was not tried.
    """
    rates, losses, smoothed = found
    if not losses:
        raise ValueError("the range test holds no loss; run lr_range_test first")
    if chosen is not None and not rates[0] / SAME <= chosen <= rates[-1] * SAME:
        raise ValueError(f"chosen={chosen:g} was not tried: the test went from {rates[0]:.1e} to {rates[-1]:.1e}")
    lowest = min(range(len(smoothed)), key=smoothed.__getitem__)
    title = f"The loss is lowest at {rates[lowest]:.2g}"
    if smoothed[-1] > smoothed[0]:
        title += f" and has blown up at {rates[-1]:.2g}"
    figure, ax = axes(width=7, height=3.3, title=title, x="learning rate, raised with every batch", y="loss of the batch")
    ax.plot(rates, losses, color=COLOURS["train"], alpha=0.3, linewidth=1)
    ax.plot(rates, smoothed, color=COLOURS["train"], linewidth=2)
    ax.plot(rates[lowest], smoothed[lowest], "o", markersize=10, fillstyle="none", color="black")
    ax.annotate("lowest", (rates[lowest], smoothed[lowest]), xytext=(0, 9), textcoords="offset points", ha="center")
    said = f"The smoothed loss begins at {smoothed[0]:.2f} and falls to {smoothed[lowest]:.2f}"
    if chosen is not None:
        ax.axvline(chosen, color=COLOURS["val"], linestyle="--", linewidth=1.2)
        at_top: dict[str, Any] = {
            "xycoords": ("data", "axes fraction"),
            "textcoords": "offset points",
            "va": "top",
            "color": COLOURS["val"],
        }
        ax.annotate(f"chosen {chosen:.2g}", (chosen, 1), xytext=(-5, 0), ha="right", **at_top)
        said += f"; {chosen:.2g} is chosen"
    ax.set_xscale("log")
    ax.set_ylim(-0.04 * smoothed[0], 1.5 * smoothed[0])
    return described(figure, f"{said}.")
