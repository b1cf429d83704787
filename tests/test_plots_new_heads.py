"""Figures of lesson 02: titles that follow from what they are given, closed, and clear words where nothing can be drawn."""

from __future__ import annotations

import io

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from course_utils import plots
from course_utils.plots.new_heads import Place

PICTURE = Image.new("RGB", (8, 8), "red")


def draw(figure) -> None:
    figure.savefig(io.BytesIO(), format="png")
    assert plt.get_fignums() == []
    assert len(figure.says.split()) > 5


def test_old_answers_name_the_most_frequent_pair():
    truth, said = ["car"] * 3 + ["boat"] * 2, ["cross", "cross", "star", "star", "ring"]
    figure = plots.old_answers(truth, said, {"car": PICTURE, "ring": PICTURE})
    draw(figure)
    assert figure.get_suptitle() == "Not at random: 2 of 3 pictures of class “car” are called “cross”"
    texts = [text.get_text() for ax in figure.axes for text in ax.texts]
    assert sorted(filter(None, texts)) == ["1", "1", "1", "2"]
    assert sum(bool(ax.images) for ax in figure.axes) == 2


def test_old_answers_of_many_classes_and_names():
    truth = [f"class {i % 40}" for i in range(200)]
    figure = plots.old_answers(truth, [f"name {i % 30}" for i in range(200)], {})
    draw(figure)
    assert len(figure.axes) == 9 * 9


@pytest.mark.parametrize(("truth", "said"), [([], []), (["car"], [])])
def test_old_answers_of_nothing(truth, said):
    with pytest.raises(ValueError, match=f"{len(truth)} pictures, 0 answers; give one for each, and at least one"):
        plots.old_answers(truth, said, {})


def test_heads_on_pictures_count_their_hits():
    said = {"old": [("cross", 0.4), ("car", 0.6)], "new": [("boat", 0.9), ("car", 0.8)]}
    figure = plots.heads_on_pictures([PICTURE] * 2, ["boat", "car"], said)
    draw(figure)
    assert figure.get_suptitle() == "One backbone, 2 heads: 1 and 2 of 2 right"
    assert [ax.get_title() for ax in figure.axes] == ["cross\n40% ✗", "car\n60% ✓", "boat\n90% ✓", "car\n80% ✓"]
    assert to_hex(figure.axes[0].spines["left"].get_edgecolor()) == plots.COLOURS["wrong"]


def test_one_head_and_missing_answers():
    figure = plots.heads_on_pictures([PICTURE], ["boat"], {"old": [("cross", 0.4)]})
    assert figure.get_suptitle() == "One backbone, 1 head: 0 of 1 right"
    with pytest.raises(ValueError, match="2 pictures, 2 true names, 1 answers of 'old'; give one for each picture"):
        plots.heads_on_pictures([PICTURE] * 2, ["boat", "car"], {"old": [("cross", 0.4)]})


def test_places_of_heads():
    figure = plots.head_places({"resnet18": Place(0.04, "fc", "512 features"), "vgg16": Place(0.03, "classifier.6", "4,096")})
    draw(figure)
    assert figure.axes[0].get_title(loc="left") == "2 models, 2 different names for the head"
    assert figure.axes[0].get_xlim() == (0, 100)


def test_first_losses_are_green_only_where_all_is_right():
    figure = plots.first_losses({"right": [1.8, 0.3], "flat": [1.8, 1.8]}, {"ln 6": 1.79})
    draw(figure)
    ax = figure.axes[0]
    assert ax.get_title(loc="left") == "2 runs, no error message, and after 2 steps losses from 0.3 to 1.8"
    assert [line.get_color() for line in ax.lines[:2]] == [plots.COLOURS["right"], plots.COLOURS["wrong"]]
    assert ax.get_ylim()[0] == 0


def test_first_losses_of_nothing():
    with pytest.raises(ValueError, match="a run has no step"):
        plots.first_losses({"right": []}, {})
