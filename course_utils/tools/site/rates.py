"""The slider below lesson 07: how phase two goes at each of nine learning rates, drawn once from `data/sweeps/rates.csv`.

All nine are in the page, and one is shown; `rates.js` shows another one. Without JavaScript the page shows the best rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import mean

from course_utils.experiments.rates import EPOCHS, SEEDS, read_table
from course_utils.sweeps import Row

WIDTH, HEIGHT = 340, 240
LEFT, RIGHT, TOP, BOTTOM = 46, 330, 12, 198  # where the curves are
Scale = Callable[[float], float]
Curves = list[list[float]]  # by epoch, the values of all seeds


def plain(rate: float) -> str:
    """A rate in digits: 0.00003, not 3e-05."""
    return f"{rate:.6f}".rstrip("0")


def curves(rows: Sequence[Row], column: str) -> dict[float, Curves]:
    """By rate and epoch, what the seeds have in `column`."""
    found: dict[float, Curves] = {}
    for row in rows:
        by_epoch = found.setdefault(row["lr"], [[] for _ in range(EPOCHS + 1)])
        by_epoch[row["epoch"]].append(row[column])
    return found


def foot() -> str:
    """The end of lesson 07's page, in Markdown: a heading, a sentence on what to see, and the figure."""
    rows = read_table()
    vals, losses = curves(rows, "val"), curves(rows, "loss")
    ends = {rate: mean(by_epoch[-1]) for rate, by_epoch in vals.items()}
    best = max(ends, key=ends.__getitem__)
    low, high = min(ends), max(ends)
    return "\n\n".join(
        [
            "## Drag the rate",
            f"Phase two once more, {len(SEEDS)} seeds and {EPOCHS} epochs at each of {len(ends)} rates. Far too low a rate, "
            f"{plain(low)}, is on its way and has come to {ends[low]:.2f}. Far too high a rate, {plain(high)}, first breaks "
            f"what phase one had: val falls from {mean(vals[high][0]):.2f} to {mean(vals[high][1]):.2f}, and "
            f"{EPOCHS} epochs bring it to {ends[high]:.2f}.",
            figure(losses, vals, best),
        ]
    )


def figure(losses: dict[float, Curves], vals: dict[float, Curves], best: float) -> str:
    """Both panels, the slider, and a sentence for each rate, as one block of HTML without an empty line."""
    rates = sorted(vals)
    alt = "Two panels of curves over the epochs of phase two: the loss on train, and the share of val right."
    panels = [
        panel("loss on train", losses, log_scale(0.003, 20), [(0.01, "0.01"), (0.1, "0.1"), (1, "1"), (10, "10")], best),
        panel("share of val right", vals, linear_scale(0, 1), [(0, "0"), (0.25, ""), (0.5, "0.5"), (0.75, ""), (1, "1")], best),
    ]
    lines = [
        f'<figure class="rates" aria-label="{alt}">',
        '<div class="rates-control" hidden>',
        '<label for="rate">Learning rate</label>',
        f'<input id="rate" type="range" min="0" max="{len(rates) - 1}" step="1" value="{rates.index(best)}">',
        f'<div class="rates-ends" aria-hidden="true"><span>{plain(rates[0])}</span><span>{plain(rates[-1])}</span></div>',
        "</div>",
        '<div class="rates-said" aria-live="polite">',
        *(f"<p{mark(place, rate == best)}>{said(rate, vals[rate])}</p>" for place, rate in enumerate(rates)),
        "</div>",
        f'<div class="rates-panels">{"".join(panels)}</div>',
        f"<figcaption>The line is the mean of {len(SEEDS)} seeds, the band reaches from the lowest to the highest. "
        "Pale lines are the other rates. Epoch 0 is the end of phase one.</figcaption>",
        "</figure>",
    ]
    return "\n".join(lines)


def mark(place: int, shown: bool) -> str:
    """What tells `rates.js` that this belongs to the rate number `place`."""
    return f' data-rate="{place}"' + (' class="on"' if shown else "")


def said(rate: float, by_epoch: Curves) -> str:
    first, last = mean(by_epoch[0]), by_epoch[-1]
    return (
        f"<b>{plain(rate)}</b>: val from {first:.2f} to {mean(last):.2f} in {EPOCHS} epochs; "
        f"the seeds end between {min(last):.2f} and {max(last):.2f}."
    )


# ------------------------------------------------------------------------------------------------------------ drawing


def linear_scale(low: float, high: float) -> Scale:
    return lambda value: BOTTOM - (value - low) / (high - low) * (BOTTOM - TOP)


def log_scale(low: float, high: float) -> Scale:
    line = linear_scale(math.log(low), math.log(high))
    return lambda value: line(math.log(max(value, low)))


def x_of(epoch: int) -> float:
    return LEFT + epoch / EPOCHS * (RIGHT - LEFT)


def panel(name: str, found: dict[float, Curves], y: Scale, ticks: Sequence[tuple[float, str]], best: float) -> str:
    """One panel as SVG: axes, a pale line for each rate, and for each rate a line with a band, one of which is shown."""
    pale = [f'<path class="pale" d="{path([mean(one) for one in by_epoch], y)}"/>' for by_epoch in found.values()]
    marked = [
        f'<g{mark(place, rate == best)}><path class="band" d="{band(found[rate], y)}"/>'
        f'<path class="line" d="{path([mean(one) for one in found[rate]], y)}"/></g>'
        for place, rate in enumerate(sorted(found))
    ]
    return (
        f'<div><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{name} over epochs, at the chosen rate">'
        f"{grid(y, ticks)}{''.join(pale)}{''.join(marked)}</svg><span>{name}</span></div>"
    )


def grid(y: Scale, ticks: Sequence[tuple[float, str]]) -> str:
    across = "".join(
        f'<path class="grid" d="M{LEFT} {y(value):.1f}H{RIGHT}"/>'
        f'<text x="{LEFT - 7}" y="{y(value) + 4:.1f}" text-anchor="end">{label}</text>'
        for value, label in ticks
    )
    below = "".join(
        f'<text x="{x_of(epoch):.1f}" y="{BOTTOM + 18}" text-anchor="middle">{epoch}</text>'
        for epoch in range(0, EPOCHS + 1, 2)
    )
    return f'{across}{below}<text x="{(LEFT + RIGHT) / 2}" y="{BOTTOM + 36}" text-anchor="middle">epoch of phase two</text>'


def path(values: Sequence[float], y: Scale) -> str:
    return "M" + "L".join(f"{x_of(epoch):.1f} {y(value):.1f}" for epoch, value in enumerate(values))


def band(by_epoch: Curves, y: Scale) -> str:
    """From the highest value of each epoch there, along the lowest back."""
    there = [f"{x_of(epoch):.1f} {y(max(one)):.1f}" for epoch, one in enumerate(by_epoch)]
    back = [f"{x_of(epoch):.1f} {y(min(one)):.1f}" for epoch, one in enumerate(by_epoch)]
    return "M" + "L".join(there + back[::-1]) + "Z"
