"""Figures of lesson 09: titles are computed, nothing is hidden, every choice follows from the numbers."""

from __future__ import annotations

import io

import numpy as np
import pytest

from course_utils import plots
from course_utils.plots import choices

NEAR = {
    "head": {5: [0.70, 0.71, 0.69], 20: [0.78, 0.79, 0.77]},
    "layer4 + head": {5: [0.80, 0.82, 0.81], 20: [0.92, 0.91, 0.93]},
    "all": {5: [0.81, 0.82, 0.80], 20: [0.93, 0.94, 0.92]},
    "scratch": {5: [0.30, 0.31, 0.32], 20: [0.44, 0.45, 0.43]},
}
IGNORED = {
    "head": {5: [0.16, 0.17, 0.18], 20: [0.17, 0.18, 0.16]},
    "layer4 + head": {5: [0.17, 0.18, 0.16], 20: [0.18, 0.17, 0.19]},
    "all": {5: [0.18, 0.2, 0.19], 20: [0.21, 0.22, 0.2]},
    "scratch": {5: [0.6, 0.5, 0.7], 20: [0.9, 0.8, 0.88]},
}
SECONDS = {"head": 1, "layer4 + head": 6, "all": 16, "scratch": 16}
PICTURES = [np.zeros((64, 64, 3), np.uint8)] * 4
WORLDS = {"near": NEAR, "tints": IGNORED}


def drawn(figure):
    figure.savefig(io.BytesIO(), format="png")
    return figure


def texts(figure) -> list[str]:
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def test_galleries():
    figure = drawn(plots.galleries({"one": PICTURES, "other": PICTURES[:2]}, title="Two rows"))
    assert figure.alt == "Two rows. Pictures: 4 of one, 2 of other."
    assert plots.galleries({"one": PICTURES, "other": PICTURES}).alt == "4 pictures each of one, other."


def test_curves_and_guesses():
    figure = drawn(plots.size_curves(NEAR, {"head": [0.2, 0.3], "all": None, "scratch": (20, 30)}, chance=1 / 6))
    assert figure.alt.startswith("layer4 + head is clearly ahead of the head alone at every size. Share of test")
    dashed = [line for line in figure.axes[0].lines if line.get_linestyle() == "--"]
    assert [list(line.get_ydata()) for line in dashed] == [[0.2, 0.3], [0.2, 0.3]], "in percent, too"
    assert "at 20 of each class" in plots.size_curves(NEAR | {"head": {5: [0.8, 0.9, 0.7], 20: NEAR["head"][20]}}, chance=0).alt
    assert "alone nowhere" in plots.size_curves(NEAR | {"head": NEAR["layer4 + head"]}, chance=0).alt


@pytest.mark.parametrize(
    ("guess", "why"),
    [
        ({"head": [0.2, 0.3, 0.4]}, "your guess for head is left out: 3 numbers for 2 sizes (5, 20)"),
        ({"heads": [0.2, 0.3]}, "your guess 'heads' is left out: the curves are head, layer4 + head, all, scratch"),
        ({"head": 0.2}, "your guess for head is left out: it takes a list of numbers, such as [0.5, 0.5]"),
        ({"head": ["0.2", "0.3"]}, "your guess for head is left out: it takes a list of numbers, such as [0.5, 0.5]"),
        ({"head": [None, 0.3]}, "your guess for head is left out: it takes a list of numbers, such as [0.5, 0.5]"),
        ({"head": []}, "your guess for head is left out: 0 numbers for 2 sizes (5, 20)"),
    ],
)
def test_a_guess_that_cannot_be_drawn_is_told_of(guess, why):
    figure = drawn(plots.size_curves(NEAR, guess, chance=1 / 6))
    assert why in texts(figure)
    assert not [line for line in figure.axes[0].lines if line.get_linestyle() == "--"]


def test_two_questions():
    figure = drawn(plots.two_questions({"equal": {5: [0.1, 0.2, 0.3]}, "long": {5: [0.0, 0.1, 0.05]}}, size=5, x="lead"))
    title = "Two answers: with 5 of each class the lead is 0.20 or 0.05"
    assert figure.alt == f"{title}. Means: equal, 5 of each class +0.20; long, 5 of each class +0.05."


def test_targets():
    figure = drawn(plots.targets(WORLDS, dict.fromkeys(WORLDS, PICTURES), size=20, chance=1 / 6))
    assert figure.alt.startswith("Best pretrained − scratch, at 20 each: near +0.49, tints −0.65. With the most")


def test_what_to_choose():
    """The cheapest that is not clearly beaten, seed by seed."""
    assert choices.choose({name: scores[20] for name, scores in NEAR.items()}, SECONDS) == "layer4 + head"
    assert choices.choose({name: scores[20] for name, scores in IGNORED.items()}, SECONDS) == "scratch"
    assert choices.choose({"head": [0.90, 0.91, 0.92], "all": [0.93, 0.94, 0.955]}, SECONDS) == "all"
    assert choices.choose({"head": [0.90, 0.91, 0.92], "all": [0.99, 0.90, 0.93]}, SECONDS) == "head"
    assert choices.choose({"all": [0.5, 0.9], "scratch": [0.9, 0.89]}, SECONDS) == "scratch"


def test_the_map_of_decisions():
    words = {"near": "looks near", "tints": "its label is ignored"}
    advice = {5: "head", 20: "more"}
    figure = drawn(plots.decision_map(WORLDS, dict.fromkeys(WORLDS, PICTURES), words, SECONDS, advice=advice, chance=1 / 6))
    assert figure.get_suptitle() == "Train layer4 + head on near; scratch on tints"
    assert figure.alt.endswith("To take: near with 5 of each class: layer4 + head; near with 20 of each class: layer4 + head; "
                               "tints with 5 of each class: scratch; tints with 20 of each class: scratch.")  # fmt: skip
    assert {"0.92 layer4 + head", "0.18 layer4 + head", "0.60 scratch"} <= set(texts(figure))
    assert choices.finding_of({("a", 5): "head", ("a", 20): "all"}) == "Train head on a (5); all on a (20)"


def test_bargains():
    figure = drawn(plots.bargains(NEAR, SECONDS))
    assert figure.alt.startswith("layer4 + head gives 99% of the accuracy of all for 38% of its time. With 20 pictures")
    assert drawn(plots.bargains(IGNORED, SECONDS)).alt.startswith("Nothing beats scratch.")


def test_sentences():
    found = {
        "It helps": {"here": [0.1, 0.12, 0.11], "there": [-0.1, -0.12, -0.11]},
        "It always helps": {"here": [0.1, 0.12, 0.11]},
        "Nobody knows": {"here": [0.1, -0.12, 0.01]},
    }
    figure = drawn(plots.sentences(found))
    assert figure.alt.startswith(
        "Of 3 sentences 2 hold somewhere, and 1 everywhere. It helps, here: holds; It helps, there: the"
    )
    assert texts(figure) == ["+0.11  holds", "−0.11  the opposite", "+0.11  holds", "−0.00  cannot tell"]
    assert "2 hold" not in plots.sentences({"No": {"here": [-1.0, -1.1]}}).alt


@pytest.mark.parametrize("name", ["head", "layer4 + head", "all", "scratch"])
def test_a_tint_is_pale(name):
    assert min(choices.tint(plots.colour_of(name))) > 0.7
