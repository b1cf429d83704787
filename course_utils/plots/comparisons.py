"""Comparisons of configurations: who wins where, at which rate, how surely, at what price, and what a channel has learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log10
from statistics import mean

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from course_utils.plots.style import as_picture, axes, colour_of, described, subplots
from course_utils.sweeps import Row, interval

UNDECIDED = "#888888"


def duels(rows: Sequence[Row], first: str, second: str) -> Figure:
    """One tile for each rate and seed that both configurations have, in the colour of the winner, with its name and lead."""
    vals = {(row["configuration"], row["lr"], row["seed"]): row["val"] for row in rows}
    both = sorted({run[1:] for run in vals if run[0] == first} & {run[1:] for run in vals if run[0] == second})
    rates, seeds = sorted({lr for lr, _ in both}), sorted({seed for _, seed in both})
    winners = {run: first if vals[first, *run] > vals[second, *run] else second for run in both}
    mixed = [f"{lr:g}" for lr in rates if len({winners[run] for run in both if run[0] == lr}) > 1]
    finding = "The rate decides" + (f", and at {' and '.join(mixed)} the seed" if mixed else "")
    if len(set(winners.values())) == 1:
        finding = f"{winners[both[0]]} wins every time"
    figure, ax = axes(
        width=7,
        height=2.3,
        title=f"{first} or {second}? {finding}",
        x="learning rate (+: lead in share of val pictures right)",
        y="seed",
    )
    for (lr, seed), winner in winners.items():
        x, y = rates.index(lr), seeds.index(seed)
        ax.barh(y, 0.96, left=x - 0.48, height=0.92, color=colour_of(winner))
        lead = abs(vals[first, lr, seed] - vals[second, lr, seed])
        ink = "white" if winner == "all" else "black"
        ax.text(x, y, f"{winner}  +{lead:.2f}", ha="center", va="center", color=ink, fontsize=10)
    ax.set_xticks(range(len(rates)), [f"{lr:g}" for lr in rates])
    ax.set_yticks(range(len(seeds)), seeds)
    ax.invert_yaxis()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    count = sum(winner == second for winner in winners.values())
    return described(figure, f"{second} wins {count} of {len(both)} comparisons, {first} {len(both) - count}.")


def hills(rows: Sequence[Row], chosen: Mapping[str, float]) -> Figure:
    """One panel for each configuration in `chosen`: a dot for each run, a line through the means, a ring at the chosen rate.

    Of each configuration only the seeds that all its rates have: these choose the rate.
    """
    one = len(set(chosen.values())) == 1
    title = "One rate is best for every configuration" if one else "Each configuration has its own best rate"
    figure, grid = subplots(1, len(chosen), size=(7, 2.4), title=title, sharey=True, sharex=True)
    for ax, (name, best) in zip(grid[0], chosen.items(), strict=True):
        mine = [row for row in rows if row["configuration"] == name]
        rates = sorted({row["lr"] for row in mine})
        common = set.intersection(*({row["seed"] for row in mine if row["lr"] == lr} for lr in rates))
        mine = [row for row in mine if row["seed"] in common]
        means = [mean(row["val"] for row in mine if row["lr"] == lr) for lr in rates]
        ax.plot([log10(lr) for lr in rates], means, color=colour_of(name), linewidth=1)
        ax.plot([log10(row["lr"]) for row in mine], [row["val"] for row in mine], "o", color=colour_of(name), markersize=3.5)
        ax.plot(log10(best), means[rates.index(best)], "o", markersize=13, fillstyle="none", color="black")
        ax.set_title(f"{name}\n{best:g}", fontsize=8.5)
        ax.set_ylim(0, 1.06)
        ax.spines[["top", "right"]].set_visible(False)
    ticks = [0.001, 0.01, 0.1]
    grid[0][0].set_xticks([log10(lr) for lr in ticks], [f"{lr:g}" for lr in ticks])
    for ax in grid[0]:
        ax.tick_params(labelsize=8)
    grid[0][0].set_ylabel("share of val right")
    figure.supxlabel("learning rate (one dot for each seed that all rates have; ring: chosen rate)", fontsize=9)
    return described(figure, f"The chosen rates are {', '.join(f'{lr:g} for {name}' for name, lr in chosen.items())}.")


def intervals(gaps: Mapping[tuple[str, str], Sequence[float]], *, few: int = 3, split: str = "test") -> Figure:
    """One row for each pair: its differences by seed, a thin bar for the interval of the first `few`, a thick one for all.

    A pair has the colour of its first configuration where the interval of all leaves 0 out, and is grey where it does not.
    """
    found = {pair: interval(values) for pair, values in gaps.items()}
    clear = {pair for pair, (low, high) in found.items() if low > 0 or high < 0}
    count = len(next(iter(gaps.values())))
    title = f"{len(clear)} of {len(gaps)} differences stay clear of 0; for the rest {count} seeds cannot tell"
    figure, ax = axes(width=7, height=0.9 + 0.5 * len(gaps), title=title, x=f"difference in share of {split} pictures right")
    for y, (pair, values) in enumerate(gaps.items()):
        colour = colour_of(pair[0]) if pair in clear else UNDECIDED
        ax.plot(interval(values[:few]), [y - 0.17] * 2, color=colour, linewidth=1.5)
        ax.plot(found[pair], [y + 0.12] * 2, color=colour, linewidth=6, solid_capstyle="butt", alpha=0.55)
        ax.plot(values, [y + 0.12] * len(values), "o", color="black", markersize=3)
    ax.axvline(0, color="black", linewidth=1)
    ax.annotate(
        f"thin: {few} seeds\nthick: {count} seeds", (1, 0.03), xycoords="axes fraction", ha="right", va="bottom", fontsize=8.5
    )
    ax.set_yticks(range(len(gaps)), [f"{first} − {second}" for first, second in gaps])
    ax.invert_yaxis()
    said = "; ".join(f"{a} minus {b} {low:.3f} to {high:.3f}" for (a, b), (low, high) in found.items())
    return described(figure, f"Intervals from {count} seeds: {said}.")


def filmstrip(
    images: Sequence[Tensor], film: Mapping[int, Sequence[float]], names: Sequence[str], *, title: str = ""
) -> Figure:
    """`images` once for each number of updates in `film`; the weaker the value of a picture, the more it fades to grey."""
    figure, grid = subplots(len(film), len(images), size=(7, 0.5 + 0.75 * len(film)), title=title)
    for ax, name in zip(grid[0], names, strict=True):
        ax.set_title(name, fontsize=8, pad=2)
    largest = max(max(values) for values in film.values())
    for row, (updates, values) in zip(grid, film.items(), strict=True):
        for ax, image, value in zip(row, images, values, strict=True):
            strength = min(max(float(value) / largest, 0), 1) ** 0.7
            ax.imshow(strength * as_picture(image) + (1 - strength) * 0.85 * np.ones(3), interpolation="nearest")
            ax.set_xlabel(f"{float(value):.1f}", fontsize=7.5, labelpad=1)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        row[0].set_ylabel(f"{updates}\nupdates", fontsize=8, rotation=0, ha="right", va="center")
    return described(
        figure, f"{len(images)} pictures after {', '.join(map(str, film))} updates; a clear one excites the channel."
    )


def prices(seconds: Mapping[str, float], scores: Mapping[str, Sequence[float]], *, title: str = "") -> Figure:
    """One dot for each configuration: the seconds of a whole run, and its mean accuracy with the 95 % interval as a bar."""
    bottom = 0.5 if min(min(interval(values)) for values in scores.values()) > 0.6 else 0
    y = "share of test right" + (f" (from {bottom})" if bottom else "")
    figure, ax = axes(width=7, height=3, title=title, x="seconds of one whole run (each step doubles)", y=y)
    for number, (name, values) in enumerate(sorted(scores.items(), key=lambda one: seconds[one[0]])):
        colour, above = colour_of(name), number % 2  # neighbours on different sides
        ax.plot([seconds[name]] * 2, interval(values), color=colour, linewidth=2)
        ax.plot(seconds[name], mean(values), "o", color=colour, markersize=7)
        ax.annotate(
            f"{name}\n{seconds[name]:.0f} s, {mean(values):.2f}",
            (seconds[name], interval(values)[above]),
            xytext=(0, 5 if above else -5),
            textcoords="offset points",
            ha="center",
            va="bottom" if above else "top",
            fontsize=8.5,
            color=colour if name != "head" else "black",
        )
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_ylim(bottom, 1.06)
    ax.margins(x=0.15)
    said = ", ".join(f"{name} {seconds[name]:.0f} seconds for {mean(values):.2f}" for name, values in scores.items())
    return described(figure, f"{said}.")
