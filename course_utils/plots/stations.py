"""Reported and real: the two numbers with which each station of lesson 13 ends."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from course_utils.plots.style import COLOURS, axes, described

BEHIND = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
REPORTED, REAL = COLOURS["train"], COLOURS["test"]


def reported_and_real(
    pairs: Mapping[str, tuple[float, float]], *, guess: float | None = None, title: str = "", x: str = "share, 0 to 1"
) -> Figure:
    """Two bars for each name: what was reported, and what an honest test found. A `guess` of the second is a dashed line.

    Args:
        pairs: by name the two shares, 0 to 1, reported first.
        guess: your guess of the real number, if there is one pair only.

    Raises:
        ValueError: if there is no pair, or a guess for several.
    """
    if not pairs:
        raise ValueError("no pair of numbers yet; run a station first, its last cell adds one")
    if guess is not None and len(pairs) > 1:
        raise ValueError(f"one guess for {len(pairs)} pairs; draw one pair with its guess, or all without")
    largest = max(pairs, key=lambda name: pairs[name][0] - pairs[name][1])
    finding = f"{largest}: reported {pairs[largest][0]:.2f}, real {pairs[largest][1]:.2f}"
    figure, ax = axes(width=7, height=0.9 + 0.75 * len(pairs), title=title or finding, x=x)
    for place, (reported, real) in enumerate(pairs.values()):
        for offset, value, colour, word in ((-0.2, reported, REPORTED, "reported"), (0.2, real, REAL, "real")):
            ax.barh(place + offset, value, height=0.36, color=colour)
            ax.text(value + 0.01, place + offset, f"{word} {value:.2f}", va="center", color=colour, bbox=BEHIND)
    if guess is not None:
        ax.axvline(guess, color="black", linestyle="--", linewidth=1.2)
        ax.text(guess + 0.01, -0.6, f"your guess {guess:g}", va="center", clip_on=True)
    ax.set_yticks(range(len(pairs)), list(pairs))
    ax.set_xlim(0, 1.18)
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1])
    ax.set_ylim(len(pairs) - 0.5, -0.5 if guess is None else -0.8)  # the first pair on top, room for the guess above it
    says = "; ".join(f"{name}: reported {reported:.2f}, real {real:.2f}" for name, (reported, real) in pairs.items())
    bars = "Two bars" if says == finding and not title else says
    return described(figure, f"{bars}{'' if guess is None else f'; your guess, {guess:g}, is a dashed line'}.")
