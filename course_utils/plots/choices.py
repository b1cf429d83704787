"""What to train on how many pictures of which target: curves over the size, three targets, and a map of decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from course_utils.plots.style import as_picture, axes, colour_of, described, label_ends, subplots
from course_utils.sweeps import interval

Scores = Mapping[int, Sequence[float]]  # by training pictures of each class, one accuracy from each seed
Curves = Mapping[str, Scores]  # by configuration
UNDECIDED = "#888888"
NEAR_BEST = 0.03  # so little less is worth a lower price


def signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def galleries(rows: Mapping[str, Sequence[Any]], *, title: str = "") -> Figure:
    """One row of pictures under each name."""
    columns = max(len(images) for images in rows.values())
    figure, grid = subplots(len(rows), columns, size=(7.2, 0.3 + 0.55 * len(rows)), title=title)
    for line, (name, images) in zip(grid, rows.items(), strict=True):
        line[0].set_ylabel(fill(name, 16), rotation=0, ha="right", va="center", fontsize=8.5)
        for ax, image in zip(line, images, strict=False):
            ax.imshow(as_picture(image), interpolation="nearest")
        for ax in line:
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
    counts = [f"{len(images)} of {name}" for name, images in rows.items()]
    each = f"{columns} pictures each of {', '.join(rows)}"
    return described(figure, f"{each if len({*map(len, rows.values())}) == 1 else 'Pictures: ' + ', '.join(counts)}.")


def size_axis(ax: Axes, sizes: Sequence[int]) -> None:
    ax.set_xscale("log")
    ax.set_xticks(sizes, [str(size) for size in sizes])
    ax.minorticks_off()
    ax.set_ylim(0, 1.02)
    ax.spines[["top", "right"]].set_visible(False)


def draw_curves(ax: Axes, curves: Curves) -> None:
    for name, scores in curves.items():
        ax.plot(list(scores), [mean(values) for values in scores.values()], color=colour_of(name))
    for place, (name, scores) in enumerate(curves.items()):
        for size, values in scores.items():
            x = size * 1.02 ** (place - (len(curves) - 1) / 2)  # side by side: no colours of two mix
            ax.plot([x] * len(values), values, "o", color=colour_of(name), markersize=4, alpha=0.6, markeredgewidth=0)


def size_curves(curves: Curves, guesses: Mapping[str, Sequence[float] | None] | None = None, *, chance: float) -> Figure:
    """Accuracy over the number of training pictures: a dot for each seed, a line through the means, guesses dashed."""
    first, second = "head", "layer4 + head"
    sizes = list(curves[first])
    lows = [interval([b - a for a, b in zip(curves[first][n], curves[second][n], strict=True)])[0] for n in sizes]
    where = [str(n) for n, low in zip(sizes, lows, strict=True) if low > 0]
    finding = "at every size" if len(where) == len(sizes) else f"at {', '.join(where)} of each class" if where else "nowhere"
    title = f"{second} is clearly ahead of the head alone {finding}"
    figure, ax = axes(width=7, height=3.6, title=title, x="training pictures of each class", y="share of test pictures right")
    draw_curves(ax, curves)
    size_axis(ax, sizes)
    label_ends(ax, {name: [mean(values) for values in scores.values()] for name, scores in curves.items()}, gap=0.06)
    objections = []
    for name, guess in (guesses or {}).items():
        if objection := cannot_be_drawn(name, guess, curves):
            objections.append(objection)
        elif guess is not None:
            shares = [value / 100 if max(guess) > 1 else value for value in guess]
            ax.plot(list(curves[name]), shares, "--", color=colour_of(name), linewidth=1.2)
    ax.text(0.99, 0.01, "\n".join(objections), transform=ax.transAxes, ha="right", va="bottom", fontsize=8)
    ax.axhline(chance, color="black", linewidth=0.8, linestyle=":")
    ax.annotate("chance", (sizes[0], chance), xytext=(0, -3), textcoords="offset points", va="top", fontsize=8)
    said = "; ".join(f"{name} {mean(s[min(s)]):.2f} with {min(s)} to {last(s):.2f} with {max(s)}" for name, s in curves.items())
    return described(figure, f"Share of test pictures right, by pictures of each class: {said}.")


def cannot_be_drawn(name: str, guess: Any, curves: Curves) -> str | None:
    """Why a guess is left out, in words for the one who typed it; a guess in percent is understood."""
    if guess is None:
        return None
    if name not in curves:
        return f"your guess {name!r} is left out: the curves are {', '.join(curves)}"
    sizes = list(curves[name])
    if not isinstance(guess, (list, tuple)) or not all(isinstance(value, (int, float)) for value in guess):
        return f"your guess for {name} is left out: it takes a list of numbers, such as {[0.5] * len(sizes)}"
    if len(guess) != len(sizes):
        return f"your guess for {name} is left out: {len(guess)} numbers for {len(sizes)} sizes ({', '.join(map(str, sizes))})"
    return None


def two_questions(gaps: Mapping[str, Scores], *, size: int, x: str) -> Figure:
    """By question and size, the differences by seed, and the 95 % interval for their mean as a bar."""
    sizes, (first, second) = list(next(iter(gaps.values()))), gaps.values()
    title = f"Two answers: with {size} of each class the lead is {mean(first[size]):.2f} or {mean(second[size]):.2f}"
    figure, ax = axes(width=7, height=0.9 + 0.62 * len(sizes), title=title, x=x)
    shades = ("#0072b2", "#e0a3c2")
    for number, (question, scores) in enumerate(gaps.items()):
        for row, count in enumerate(sizes):
            y, values = row + 0.34 * number - 0.17, scores[count]
            ax.plot(interval(values), [y] * 2, color=shades[number], linewidth=9, solid_capstyle="butt")
            ax.plot(values, [y] * len(values), "o", color="black", markersize=3)
            ax.annotate(
                f"{signed(mean(values))}  {question}",
                (max(*values, *interval(values)), y),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                fontsize=8.5,
            )
    ax.axvline(0, color="black", linewidth=1)
    ax.set_yticks(range(len(sizes)), [f"{count} of each class" for count in sizes])
    ax.invert_yaxis()
    ax.margins(x=0.25)
    said = "; ".join(
        f"{question}, {count} of each class {signed(mean(values))}"
        for question, s in gaps.items()
        for count, values in s.items()
    )
    return described(figure, f"Means: {said}.")


def targets(worlds: Mapping[str, Curves], pictures: Mapping[str, Sequence[Any]], *, size: int, chance: float) -> Figure:
    """One panel for each target: four of its pictures, and below them its curves; the title tells the gain at `size`."""
    gains = {name: gain(curves, size) for name, curves in worlds.items()}
    title = f"Best pretrained − scratch, at {size} each: {', '.join(f'{n} {signed(g)}' for n, g in gains.items())}"
    figure, grid = subplots(2, len(worlds), size=(7.2, 3.9), title=title, gridspec_kw={"height_ratios": [1, 3.2]}, sharey="row")
    for column, (name, curves) in enumerate(worlds.items()):
        strip = np.concatenate([as_picture(image) for image in pictures[name]], 1)
        grid[0, column].imshow(strip, interpolation="nearest")
        grid[0, column].axis("off")
        grid[0, column].set_title(name, fontsize=9.5)
        ax = grid[1, column]
        draw_curves(ax, curves)
        size_axis(ax, max((list(scores) for scores in curves.values()), key=len))
        ax.axhline(chance, color="black", linewidth=0.8, linestyle=":")
        ax.set_xlabel("pictures of each class", fontsize=9)
    grid[1, 0].set_ylabel("share of test right")
    handles = [grid[1, 0].lines[place] for place in range(len(next(iter(worlds.values()))))]
    figure.legend(handles, list(next(iter(worlds.values()))), loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    said = "; ".join(f"{name}: {', '.join(f'{c} {last(s):.2f}' for c, s in curves.items())}" for name, curves in worlds.items())
    return described(figure, f"With the most pictures, {said}.")


def gain(curves: Curves, size: int) -> float:
    """How far the best pretrained configuration is ahead of scratch."""
    return max(mean(scores[size]) for name, scores in curves.items() if name != "scratch") - mean(curves["scratch"][size])


def last(scores: Scores) -> float:
    return mean(scores[max(scores)])


# ------------------------------------------------------------------------------------------------------ decisions


def choose(scores: Mapping[str, Sequence[float]], seconds: Mapping[str, float]) -> str:
    """The cheapest configuration that the best one does not clearly beat: the 95 % interval of their differences holds 0.

    Of equally cheap ones the better.
    """
    best = max(scores, key=lambda name: mean(scores[name]))

    def beaten(name: str) -> bool:
        return interval([b - a for a, b in zip(scores[name], scores[best], strict=True)])[0] > 0

    possible = [name for name in scores if name == best or not beaten(name)]
    return min(possible, key=lambda name: (seconds[name], -mean(scores[name])))


def decision_map(
    worlds: Mapping[str, Curves],
    pictures: Mapping[str, Sequence[Any]],
    words: Mapping[str, str],
    seconds: Mapping[str, float],
    *,
    advice: Mapping[int, str],
    chance: float,
) -> Figure:
    """Rows are targets, columns sizes: in each field all configurations as bars, on the colour of the one to take.

    Args:
        words: what stands beside the pictures of each target.
        seconds: the price of each configuration; of equally good ones the cheapest is taken.
        advice: what people usually say for each size.
    """
    sizes = sorted(set.intersection(*(set(scores) for curves in worlds.values() for scores in curves.values())))
    chosen = {
        (name, n): choose({c: s[n] for c, s in curves.items()}, seconds) for name, curves in worlds.items() for n in sizes
    }
    figure, grid = subplots(
        len(worlds),
        len(sizes) + 1,
        size=(7.4, 0.8 + 1.05 * len(worlds)),
        title=finding_of(chosen),
        gridspec_kw={"width_ratios": [0.45, *[1] * len(sizes)]},
    )
    for row, (name, curves) in enumerate(worlds.items()):
        four = [as_picture(image) for image in pictures[name]][:4]
        grid[row, 0].imshow(np.concatenate([np.concatenate(four[:2], 1), np.concatenate(four[2:], 1)]), interpolation="nearest")
        grid[row, 0].set(xticks=[], yticks=[])
        grid[row, 0].spines[:].set_visible(False)
        grid[row, 0].set_ylabel(fill(words[name], 17), rotation=0, ha="right", va="center", fontsize=8.5)
        for ax, size in zip(grid[row, 1:], sizes, strict=True):
            field(ax, {c: mean(s[size]) for c, s in curves.items() if size in s}, chosen[name, size], chance)
    for ax, size in zip(grid[0, 1:], sizes, strict=True):
        ax.set_title(f"{size} pictures of each class\nusual advice: {advice[size]}", fontsize=9)
    figure.supxlabel("bars: share of test pictures right, means of five seeds; dotted: chance; bold: what to train", fontsize=9)
    said = "; ".join(f"{name} with {size} of each class: {take}" for (name, size), take in chosen.items())
    return described(figure, f"To take: {said}.")


def field(ax: Axes, means: Mapping[str, float], take: str, chance: float) -> None:
    ax.set_facecolor(tint(colour_of(take)))
    for row, (name, value) in enumerate(means.items()):
        ax.barh(row, value, color=colour_of(name), height=0.72)
        weight = "bold" if name == take else "normal"
        text = ax.text(value + 0.03, row, f"{value:.2f} {name}", va="center", fontsize=8, fontweight=weight)
        text.set_in_layout(False)
    ax.axvline(chance, color="black", linewidth=0.8, linestyle=":")
    ax.set(xlim=(0, 1.9), xticks=[], yticks=[])
    ax.invert_yaxis()
    ax.spines[:].set_visible(False)


def tint(colour: str) -> tuple[float, float, float]:
    """A pale shade of a colour, to write on."""
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return 0.78 + 0.22 * red, 0.78 + 0.22 * green, 0.78 + 0.22 * blue


def finding_of(chosen: Mapping[tuple[str, int], str]) -> str:
    """The title: what to take where, target by target; with its sizes where one target asks for several."""
    places: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for name, _ in chosen):
        takes = {size: take for (one, size), take in chosen.items() if one == name}
        for take in dict.fromkeys(takes.values()):
            sizes = [str(size) for size in takes if takes[size] == take]
            places.setdefault(take, []).append(name + (f" ({', '.join(sizes)})" if len(sizes) < len(takes) else ""))
    return fill("Train " + "; ".join(f"{take} on {' and '.join(names)}" for take, names in places.items()), 88)


def bargains(curves: Curves, seconds: Mapping[str, float]) -> Figure:
    """Accuracy over the seconds of a run: for each configuration a small dot for few pictures and a large one for many."""
    sizes = sorted(set.intersection(*map(set, curves.values())))
    best = max(curves, key=lambda name: last(curves[name]))
    cheap = min(
        (name for name in curves if last(curves[name]) >= last(curves[best]) - NEAR_BEST), key=lambda name: seconds[name]
    )
    part = f"{last(curves[cheap]) / last(curves[best]):.0%} of the accuracy of {best} for {seconds[cheap] / seconds[best]:.0%}"
    title = f"{cheap} gives {part} of its time" if best != cheap else f"Nothing beats {cheap}"
    figure, ax = axes(width=7, height=3, title=title, x="seconds of one whole run (each step doubles)", y="share of test right")
    for name, scores in curves.items():
        low, high = mean(scores[sizes[0]]), mean(scores[sizes[-1]])
        ax.plot([seconds[name]] * 2, [low, high], color=colour_of(name), linewidth=1.5)
        for value, size, width in ((low, sizes[0], 4), (high, sizes[-1], 9)):
            ax.plot(seconds[name], value, "o", color=colour_of(name), markersize=width)
            beside = {"xytext": (9, 0), "textcoords": "offset points", "va": "center"}
            ax.annotate(f"{value:.2f} with {size}", (seconds[name], value), fontsize=8, **beside)  # type: ignore[arg-type]
        ax.annotate(name, (seconds[name], low), xytext=(0, -9), textcoords="offset points", ha="center", va="top", fontsize=9.5)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_ylim(0, 1.02)
    ax.margins(x=0.15)
    said = "; ".join(f"{name} {seconds[name]:g} seconds for {last(scores):.2f}" for name, scores in curves.items())
    return described(figure, f"With {sizes[-1]} pictures of each class: {said}.")


def sentences(found: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Under each sentence one bar for each place where it was measured: the interval of the differences that it promises.

    A bar is blue where the promise holds, red where the opposite does, and grey where nobody can tell.
    """
    verdicts = {(sentence, place): verdict(values) for sentence, places in found.items() for place, values in places.items()}
    everywhere = [sentence for sentence in found if {verdicts[sentence, place] for place in found[sentence]} == {"holds"}]
    somewhere = [sentence for sentence in found if "holds" in {verdicts[sentence, place] for place in found[sentence]}]
    title = f"Of {len(found)} sentences {len(somewhere)} hold somewhere, and {len(everywhere) or 'none'} everywhere"
    figure, ((ax,),) = subplots(size=(7.2, 0.9 + 0.27 * (len(verdicts) + len(found))), title=title)
    ax.set_xlabel("difference in share of test right (dots: seeds; bars: 95 % intervals)")
    ax.spines[["top", "right"]].set_visible(False)
    y, ticks = 0, []
    for sentence, places in found.items():
        ticks.append((y, f"“{sentence}”"))
        for place, values in places.items():
            y += 1
            said = verdicts[sentence, place]
            ax.plot(interval(values), [y, y], color=VERDICTS[said], linewidth=7, solid_capstyle="butt", alpha=0.7)
            ax.plot(values, [y] * len(values), "o", color="black", markersize=2.5)
            where = ax.get_yaxis_transform()
            ax.text(
                1.01, y, f"{signed(mean(values))}  {said}", transform=where, va="center", fontsize=8.5, color=VERDICTS[said]
            )
            ticks.append((y, place))
        y += 1
    ax.axvline(0, color="black", linewidth=1)
    ax.set_yticks([place for place, _ in ticks], [name for _, name in ticks], fontsize=8.5)
    for label in ax.get_yticklabels():
        label.set_fontweight("bold" if label.get_text().startswith("“") else "normal")
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(y - 0.5, -0.6)
    return described(figure, "; ".join(f"{sentence}, {place}: {said}" for (sentence, place), said in verdicts.items()) + ".")


VERDICTS = {"holds": "#0072b2", "the opposite": "#d55e00", "cannot tell": UNDECIDED}


def verdict(differences: Sequence[float]) -> str:
    low, high = interval(differences)
    return "holds" if low > 0 else "the opposite" if high < 0 else "cannot tell"
