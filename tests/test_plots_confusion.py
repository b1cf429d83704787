"""The confusion grid: each place has its surest picture and its count, and the title is computed."""

from __future__ import annotations

import io

import matplotlib as mpl
import numpy as np
import pytest

from course_utils import plots

CLASSES = ["boat", "car", "tree"]
TRUTH = ["boat", "boat", "boat", "tree", "tree", "car"]
SAID = ["boat", "tree", "tree", "tree", "boat", "car"]
PROBABILITIES = [0.9, 0.5, 0.7, 0.8, 0.6, 1.0]
IMAGES = [np.full((4, 4, 3), 10 * i, dtype=np.uint8) for i in range(6)]


def test_each_place_has_its_surest_picture_and_its_count():
    figure = plots.confusion_grid(IMAGES, TRUTH, SAID, PROBABILITIES, CLASSES)
    figure.savefig(io.BytesIO(), format="png")
    grid = np.array(figure.axes).reshape(3, 3)
    shown = [[int(ax.images[0].get_array()[0, 0, 0]) if ax.images else None for ax in row] for row in grid]
    assert shown == [[0, None, 20], [None, 50, None], [40, None, 30]], "of two boats called tree the surer one"
    assert [[ax.texts[0].get_text() if ax.texts else "" for ax in row] for row in grid] == [
        ["1", "", "2"],
        ["", "1", ""],
        ["1", "", "1"],
    ]
    assert [ax.get_ylabel() for ax in grid[:, 0]] == CLASSES
    assert [ax.get_title() for ax in grid[0]] == CLASSES
    frames = [grid[place].spines["left"].get_edgecolor()[:3] for place in ((0, 0), (0, 2))]
    assert frames == [mpl.colors.to_rgb(plots.COLOURS[name]) for name in ("right", "wrong")]


def test_the_title_states_the_finding():
    assert plots.confusion_grid(IMAGES, TRUTH, SAID, PROBABILITIES, CLASSES).get_suptitle() == (
        "3 of 6 right; most often boat is called tree, 2 times"
    )
    tie = plots.confusion_grid(IMAGES[1:], TRUTH[1:], ["boat", *SAID[2:]], PROBABILITIES[1:], CLASSES)
    assert tie.get_suptitle() == "3 of 5 right; for example boat is called tree, once"
    right = plots.confusion_grid(IMAGES, TRUTH, TRUTH, PROBABILITIES, CLASSES)
    assert right.get_suptitle() == "6 of 6 right"
    assert "6 of 6 right" in right.alt
    assert plots.confusion_grid(IMAGES, TRUTH, SAID, PROBABILITIES, CLASSES, title="Mine").get_suptitle() == "Mine"


def test_of_many_classes_those_with_mistakes_are_shown():
    many = [*map(str, range(15)), *CLASSES]
    figure = plots.confusion_grid(IMAGES, TRUTH, SAID, PROBABILITIES, many)
    rows = [ax.get_ylabel() for ax in figure.axes if ax.get_ylabel()]
    assert len(rows) == 12
    assert rows[-2:] == ["boat", "tree"], "the car was right"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": []}, "there is no picture to show"),
        ({"said": SAID[1:]}, "6 pictures, 6 true names, 5 answers, 6 probabilities; give one for each picture"),
        ({"classes": ["boat", "car"]}, "'tree' is not among the classes boat, car"),
    ],
)
def test_what_cannot_be_drawn(change, words):
    given = {"images": IMAGES, "truth": TRUTH, "said": SAID, "probabilities": PROBABILITIES, "classes": CLASSES}
    with pytest.raises(ValueError, match=words):
        plots.confusion_grid(**given | change)
