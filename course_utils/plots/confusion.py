"""The confusion grid: what became of the pictures of each class, each case with a picture of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from course_utils.plots.style import COLOURS, as_picture, described, subplots

MOST = 12  # classes that a grid shows; more make pictures too small to see


def confusion_grid(
    images: Sequence[Image.Image | Tensor | np.ndarray],
    truth: Sequence[str],
    said: Sequence[str],
    probabilities: Sequence[float],
    classes: Sequence[str],
    *,
    title: str = "",
) -> Figure:
    """A row for each true class, a column for each answer; in each place its surest picture, and how many there are.

    Hits, on the diagonal, have green frames, mistakes purple ones. Without a `title` the figure states what it shows.

    Args:
        truth, said: for each picture the name of its class, and the name that a network gives.
        probabilities: for each picture the probability of the name that the network gives.
        classes: all names, in the order of rows and columns; of more than twelve those with the most mistakes are shown.

    Raises:
        ValueError: if there is no picture, a list has another length, or a name is not in `classes`.
    """
    check_lists(images, truth, said, probabilities, classes)
    cases = Counter(zip(truth, said, strict=True))
    classes = most_mistaken(cases, classes)
    size = 6.4 if len(classes) > 3 else 3.6
    figure, grid = subplots(len(classes), len(classes), size=(size, size + 0.2), title=title or finding(cases))
    for row, true in enumerate(classes):
        for column, name in enumerate(classes):
            ax = grid[row, column]
            label(ax, ylabel=true if not column else "", above=name if not row else "")
            mine = [i for i, pair in enumerate(zip(truth, said, strict=True)) if pair == (true, name)]
            if mine:
                surest = max(mine, key=lambda i: probabilities[i])
                fill(ax, images[surest], len(mine), COLOURS["right" if true == name else "wrong"])
    figure.supylabel("what it is", fontsize=10)
    figure.supxlabel("what the model says", fontsize=10)
    says = "A row for each true class, a column for each answer, in each place the surest picture and the number of pictures"
    return described(figure, f"{says}: {finding(cases)}." if title else f"{says}.")


def check_lists(
    images: Sequence, truth: Sequence[str], said: Sequence[str], probabilities: Sequence[float], classes: Sequence[str]
) -> None:
    if not len(images):
        raise ValueError("there is no picture to show; give at least one")
    counts = [len(images), len(truth), len(said), len(probabilities)]
    if len(set(counts)) > 1:
        raise ValueError("{} pictures, {} true names, {} answers, {} probabilities; give one for each picture".format(*counts))
    unknown = sorted({*truth, *said} - set(classes))
    if unknown:
        raise ValueError(f"{unknown[0]!r} is not among the classes {', '.join(classes)}; give names, not numbers")


def most_mistaken(cases: Counter[tuple[str, str]], classes: Sequence[str]) -> list[str]:
    """The classes with the most mistakes, as many as a grid shows, in their order."""
    mistakes = Counter[str]()
    for (true, name), count in cases.items():
        if true != name:
            mistakes.update({true: count, name: count})
    kept = sorted(classes, key=lambda name: -mistakes[name])[:MOST]
    return [name for name in classes if name in kept]


def finding(cases: Counter[tuple[str, str]]) -> str:
    """What a grid shows, in words: "63 of 90 right; most often flower is called car, 4 times"."""
    right = sum(count for (true, name), count in cases.items() if true == name)
    wrong = {pair: count for pair, count in cases.items() if pair[0] != pair[1]}
    words = f"{right} of {sum(cases.values())} right"
    if not wrong:
        return words
    true, name = max(wrong, key=wrong.__getitem__)
    count = wrong[true, name]
    often = "most often" if list(wrong.values()).count(count) == 1 else "for example"
    return f"{words}; {often} {true} is called {name}, {'once' if count == 1 else f'{count} times'}"


def label(ax: Axes, *, ylabel: str, above: str) -> None:
    ax.set(xticks=[], yticks=[], facecolor="#f4f4f4")
    ax.set_ylabel(ylabel, fontsize=10)
    ax.set_title(above, fontsize=10, pad=4)
    ax.spines[:].set_visible(False)


def fill(ax: Axes, image: Image.Image | Tensor | np.ndarray, count: int, colour: str) -> None:
    """The picture in its frame, and the count in a corner."""
    ax.imshow(as_picture(image), interpolation="nearest", aspect="equal")
    ax.spines[:].set(visible=True, color=colour, linewidth=2.5)
    corner = {"boxstyle": "square,pad=0.25", "facecolor": colour, "edgecolor": colour}
    ax.text(0.04, 0.95, str(count), transform=ax.transAxes, color="white", fontsize=9, va="top", ha="left", bbox=corner)
