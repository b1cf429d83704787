"""Figures of training: titles are computed, mistakes sorted, lines that lie on one another drawn once."""

from __future__ import annotations

import io

import numpy as np
import pytest

from course_utils import plots
from course_utils.train import Epoch, Score

IMAGES = [np.full((4, 4, 3), 10 * i, dtype=np.uint8) for i in range(4)]
TRUTH = ["boat", "boat", "tree", "tree"]
BEFORE = [("tree", 0.3), ("tree", 0.4), ("tree", 0.2), ("boat", 0.35)]
AFTER = [("boat", 0.7), ("boat", 0.9), ("boat", 0.6), ("tree", 0.8)]


def drawn(figure):
    figure.savefig(io.BytesIO(), format="png")
    return figure


def test_before_and_after():
    figure = drawn(plots.before_and_after(IMAGES, TRUTH, BEFORE, AFTER, columns=3))
    assert figure.get_suptitle() == "Before training 1 of 4 right, after it 3"
    captions = np.array([ax.get_title() for ax in figure.axes]).reshape(4, 3)
    assert captions.tolist() == [
        ["tree 20%", "", ""],
        ["tree 40%,\nis boat", "boat 35%,\nis tree", "tree 30%,\nis boat"],
        ["boat 90%", "tree 80%", "boat 70%"],
        ["boat 60%,\nis tree", "", ""],
    ]
    assert len(figure.alt.split()) > 15
    with pytest.raises(ValueError, match="4 pictures, 3 names, 4 and 4 answers"):
        plots.before_and_after(IMAGES, TRUTH[1:], BEFORE, AFTER)


def test_loops_without_a_line():
    losses = {"complete": [1.8, 1.6, 1.5], "without clear": [1.8, 1.5, 2.0, 6.0], "without backward": [1.8] * 3}
    figure = drawn(plots.without_one_line(losses | {"without step": [1.8, 1.8, 1.8001]}))
    (ax,) = figure.axes
    assert ax.get_title(loc="left") == "Without clear: lower than the complete loop in 1 of 3 epochs, and 6.0 in the end"
    texts = {text.get_text() for text in ax.texts}
    assert texts == {"complete", "without clear:\n6.0 at epoch 4", "without backward = without step"}
    assert ax.get_ylim() == (0, 3)
    drawn(plots.without_one_line({"complete": [1.8, 1.7], "without step": [1.8, 1.8]}))
    with pytest.raises(ValueError, match="there is no loss to draw"):
        plots.without_one_line({"complete": []})


def test_recipes():
    figure = drawn(plots.recipes({"fast": [0.5, 0.8], "slow": [0.4, 0.5], "raw": [0.2, 0.3]}, chosen="fast"))
    (ax,) = figure.axes
    assert ax.get_title(loc="left") == "fast reaches 0.80 on val; last comes raw, 0.30"
    assert ax.get_ylim() == (0, 1)
    assert {text.get_text() for text in ax.texts} == {"fast", "slow", "raw"}
    with pytest.raises(ValueError, match="'none' is chosen"):
        plots.recipes({"fast": [0.5]}, chosen="none")


def test_chosen_on_val():
    history = [Epoch(i, Score(1.0, a), Score(1.0, b), 1.0) for i, a, b in ((1, 0.3, 0.4), (2, 0.6, 0.7), (3, 0.9, 0.6))]
    figure = drawn(plots.chosen_on_val(history, 0.65, 1))
    (ax,) = figure.axes
    assert ax.get_title(loc="left") == "Val chose epoch 2 for its 0.70; test says 0.65"
    assert {text.get_text() for text in ax.texts} == {"train", "val", "test 0.65, opened once"}
    assert "opened 2 times" in {text.get_text()[-14:] for text in plots.chosen_on_val(history, 0.65, 2).axes[0].texts}
    with pytest.raises(ValueError, match="the history has no epoch"):
        plots.chosen_on_val([], 0.6, 1)


def test_a_notebook_shows_the_small_picture_and_not_that_of_matplotlibs_own_printer(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw, metadata: shown.append((data, raw, metadata)))
    plots.show_images(IMAGES)._ipython_display_()
    ((data, raw, metadata),) = shown
    assert raw
    assert data.keys() == {"image/png", "text/plain"}
    assert metadata["image/png"]["width"] < 800
