"""Figures of a loaded network: titles follow the data, all that is given is drawn, and words for those who cannot see."""

from __future__ import annotations

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import pytest
import torch

from course_utils import plots
from course_utils.experiments.responses import shapes, strongest_pieces
from course_utils.plots.loading import telling


def texts(figure) -> list[str]:
    figure.canvas.draw()
    assert plt.get_fignums() == []
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def test_nine_ways():
    figure = plots.nine_ways({"right": 1.0, "harmless": 1.0, "wrong": 0.25, "worse": 0.0}, guessing=0.1, what="stars named")
    assert figure.get_suptitle() == "One file, 4 ways to use it, no error message: from 100 % right to 0 %"
    assert texts(figure) == ["100", "100", "25", "0", "guessing"]
    colours = [mpl.colors.to_hex(bar.get_facecolor()) for bar in figure.axes[0].patches]
    right, wrong = plots.COLOURS["right"], plots.COLOURS["wrong"]
    assert colours == [right, right, wrong, wrong]
    assert figure.axes[0].get_xlabel() == "stars named, in percent"
    assert "worse 0; guessing 10." in figure.alt


def test_a_stack_of_maps():
    found = {"first": torch.rand(8, 16, 16), "last": torch.rand(20, 2, 2)}
    figure = plots.map_stacks(torch.zeros(3, 64, 64, dtype=torch.uint8), found, counts=(3, 5))
    assert figure.get_suptitle() == "Fewer places, more maps: from 8 maps of 16×16 to 20 of 2×2"
    assert texts(figure) == ["the picture", "first\n8 of 16×16", "last\n20 of 2×2"]
    assert len(figure.axes[0].images) == 1 + 3 + 5


def test_the_most_telling_maps_come_first_and_none_twice():
    bright, dim, still = torch.zeros(4, 4), torch.zeros(4, 4), torch.full((4, 4), 3.0)
    bright[0, 0], dim[3, 3] = 2, 1
    chosen = telling(torch.stack([dim, bright, bright / 2, still]), 3)
    assert torch.equal(chosen, torch.stack([bright, dim, bright / 2]))
    assert len(telling(torch.stack([bright, still]), 5)) == 1


def test_pieces_in_rows():
    rows = {"layer1 #3": [torch.rand(3, 9, 9)] * 4, "layer2 #0": [torch.rand(3, 15, 15)] * 2}
    figure = plots.strongest_patches(rows, title="Pieces")
    texts(figure)
    assert [ax.get_ylabel() for ax in figure.axes] == ["layer1 #3", "", "", "", "layer2 #0", "", "", ""]
    assert [len(ax.images) for ax in figure.axes] == [1, 1, 1, 1, 1, 1, 0, 0]
    assert "layer2 #0" in figure.alt


def test_batch_sizes():
    figure = plots.batch_sizes({1: 0.5, 4: 0.75, 40: 1.0}, (10, 0.25), evaluation=1.0)
    words = texts(figure)
    assert "training mode, all of one class" in words
    assert figure.axes[0].get_title(loc="left") == "In training mode the other pictures decide: 25 % to 100 % right"
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["1", "4", "10", "40"]
    assert figure.axes[0].get_ylim()[0] == 0
    assert "40 100%" in figure.alt


# --------------------------------------------------------------------------------------------------------- responses


@pytest.mark.parametrize("mixed", [False, True])
def test_new_shapes(mixed):
    images, labels = shapes(per_class=2, seed=3, mixed=mixed)
    assert (images.shape, images.dtype) == ((48, 3, 64, 64), torch.uint8)
    assert (labels.tolist() == sorted(labels.tolist())) is not mixed
    again = shapes(per_class=2, seed=3, mixed=mixed)
    assert torch.equal(images, again[0])
    ordered, names = shapes(per_class=2, seed=3)
    assert sorted(map(float, images.float().mean((1, 2, 3)))) == sorted(map(float, ordered.float().mean((1, 2, 3))))
    one = int(labels[5])
    assert any(torch.equal(images[5], other) for other in ordered[names == one])


def test_pieces_lie_around_the_highest_answer_and_inside_the_picture():
    images = torch.arange(3 * 3 * 8 * 8, dtype=torch.uint8).view(3, 3, 8, 8)
    maps = torch.zeros(3, 4, 4)
    maps[0, 1, 2], maps[1, 0, 0], maps[2, 3, 3] = 1.0, 3.0, 2.0
    corner, other_corner, middle = strongest_pieces(images, maps, 3)
    assert torch.equal(corner, images[1, :, :3, :3])
    assert torch.equal(other_corner, images[2, :, 5:, 5:])
    assert torch.equal(middle, images[0, :, 2:5, 4:7])
    assert len(strongest_pieces(images, maps, 3, count=2)) == 2
