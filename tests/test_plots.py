"""Figures: of any plain record one, with labels, closed, and without a warning."""

from __future__ import annotations

import base64
import io
from itertools import pairwise

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image, ImageColor

from course_utils import plots
from course_utils.train import Epoch, Score


@pytest.fixture
def history():
    return [Epoch(i, Score(1 / i, i / 5), Score(1.2 / i, (i if i < 3 else 2) / 5), 100.0) for i in (1, 2, 3)]


def draw(figure) -> Image.Image:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    assert plt.get_fignums() == [], "the figure is closed, so that a notebook shows it once"
    return Image.open(file)


def texts(figure) -> list[str]:
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def test_a_learning_curve(history):
    figure = plots.learning_curve(history, title="Two lines")
    image = draw(figure)
    assert 1000 < image.width < 1200
    assert figure.get_suptitle() == "Two lines"
    assert [ax.get_xlabel() for ax in figure.axes] == ["epoch", "epoch"]
    assert [ax.get_ylabel() for ax in figure.axes] == ["loss per picture", "share right"]
    assert texts(figure) == ["train", "val", "train", "val", "best 0.40"]


def test_a_curve_of_one_epoch(history):
    draw(plots.learning_curve(history[:1]))


def test_a_curve_of_no_epoch():
    with pytest.raises(ValueError, match="the history has no epoch, so there is no curve; train for one epoch at least"):
        plots.learning_curve([])


PICTURE = Image.new("RGB", (64, 64), "red")


@pytest.mark.parametrize("count", [1, 3, 8, 9, 20])
def test_pictures_in_rows(count):
    figure = plots.show_images([PICTURE] * count, [f"picture {i}" for i in range(count)], columns=8, title="All")
    draw(figure)
    shown = [ax for ax in figure.axes if ax.images]
    assert [ax.get_title() for ax in shown] == [f"picture {i}" for i in range(count)]


def test_all_kinds_of_pictures():
    images = [PICTURE, np.asarray(PICTURE), torch.rand(3, 8, 8), torch.randn(3, 8, 8), torch.zeros(3, 8, 8, dtype=torch.uint8)]
    draw(plots.show_images([*images, torch.rand(1, 8, 8), torch.ones(3, 8, 8)]))
    draw(plots.show_images(torch.rand(2, 3, 8, 8)))


def test_a_tensor_of_floats_is_stretched_and_bytes_stay():
    assert plots.as_picture(torch.tensor([[[-2.0, 2.0]]])).flatten().tolist() == [0, 1]
    assert plots.as_picture(torch.full((3, 1, 1), 7, dtype=torch.uint8)).tolist() == [[[7, 7, 7]]]
    assert np.isfinite(plots.as_picture(torch.ones(3, 2, 2))).all()


def test_no_picture():
    with pytest.raises(ValueError, match="there is no picture to show; give at least one"):
        plots.show_images([])


def test_dots():
    figure = plots.dots({"scratch": [0.2, 0.3], "head": [0.7, 0.72, 0.71]}, title="Two ways")
    draw(figure)
    (ax,) = figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["head", "scratch"]
    assert texts(figure) == ["0.71", "0.25"]
    assert ax.get_xlabel() == "accuracy on test pictures"


def test_bars():
    figure = plots.bars({"features": 14_714_688, "classifier": 123_642_856}, x="parameters")
    draw(figure)
    assert sorted(texts(figure)) == ["123,642,856", "14,714,688"]


def lightness(colour: str) -> float:
    return float(np.dot(ImageColor.getrgb(colour), (0.299, 0.587, 0.114)))


def test_colours_differ_in_grey_too():
    """Things that stand in one figure can be told apart in a print without colours."""
    for names in (("train", "val"), ("scratch", "head", "layer4 + head", "all")):
        greys = sorted(lightness(plots.colour_of(name)) for name in names)
        assert all(b - a > 15 for a, b in pairwise(greys)), dict(zip(names, greys, strict=True))


def test_a_name_without_a_colour_gets_one():
    assert plots.colour_of("something", 2) in plots.OTHERS
    assert plots.colour_of("head") == plots.COLOURS["head"]


def test_a_stamp(history):
    figure = plots.stamp(plots.learning_curve(history), "opened once")
    draw(figure)
    assert texts(figure)[-1] == "opened once"


def test_runs_over_choices():
    series = {"head": {"0.01": [0.6, 0.7], "0.1": [0.8, 0.9, 0.7]}, "all": {"0.1": [0.5]}}
    figure = plots.runs(series, levels={"scratch": [0.1, 0.3]}, title="Runs", x="learning rate", y="accuracy")
    draw(figure)
    (ax,) = figure.axes
    assert [text.get_text() for text in ax.get_xticklabels()] == ["0.01", "0.1"]
    assert texts(figure) == ["scratch", "all", "head"], "from the lowest end of a line to the highest"
    means = [list(line.get_ydata()) for line in ax.lines[:3]]
    assert means == [pytest.approx([0.65, 0.8]), [0.5], pytest.approx([0.2, 0.2])]
    dots = sum(len(line.get_xdata()) for line in ax.lines[3:])
    assert dots == 8


def test_no_runs():
    with pytest.raises(ValueError, match="there are no runs to draw"):
        plots.runs({"head": {}}, levels={"scratch": [0.1]})


def test_answers_on_pictures():
    said = [("boat", 0.96), ("fish", 0.5), ("tree", 1.0)]
    figure = plots.answers([PICTURE] * 3, said, ["boat", "boat", "tree"], title="Two hits")
    draw(figure)
    assert [ax.get_title() for ax in figure.axes] == ["boat 96% ✓", "fish 50% ✗\n(is a boat)", "tree 100% ✓"]
    right = mpl.colors.to_rgb(plots.COLOURS["right"])
    assert [ax.spines["left"].get_edgecolor()[:3] == right for ax in figure.axes] == [True, False, True]
    draw(plots.answers([PICTURE] * 7, [("boat", 0.5)] * 7))


def test_answers_for_other_pictures():
    with pytest.raises(ValueError, match="2 pictures, 1 answers; give one for each picture"):
        plots.answers([PICTURE] * 2, [("boat", 1.0)])
    with pytest.raises(ValueError, match="2 pictures, 2 answers and 1 names; give one for each picture"):
        plots.answers([PICTURE] * 2, [("boat", 1.0)] * 2, ["boat"])
    with pytest.raises(ValueError, match="there is no picture to show"):
        plots.answers([], [])


def test_a_notebook_shows_a_figure_with_words_for_those_who_cannot_see():
    figure, _ = plots.axes(title="Two dots meet")
    data, metadata = plots.described(figure, "Both stand at one.")._repr_mimebundle_()
    assert metadata["image/png"]["alt"] == "Two dots meet. Both stand at one."
    assert Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).width > 1.5 * metadata["image/png"]["width"]


def test_pictures_keep_their_colours_and_charts_take_few():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    modes = []
    for figure in (plots.show_images([noise] * 4), plots.dots({"scratch": [0.2, 0.3], "head": [0.5, 0.6]})):
        data, _ = figure._repr_mimebundle_()
        modes.append(Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).mode)
    assert modes == ["RGB", "P"]
