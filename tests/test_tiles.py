"""The maps of the station satellites: a function of their seed, in four bands, cut without a gap, and what goes with them."""

from __future__ import annotations

import hashlib
from importlib.metadata import version

import numpy as np
import pytest
import torch
from torch import nn

from course_utils import plots
from course_utils.experiments import land_use
from course_utils.fields import tiles
from course_utils.plots.land import LAND, joined
from course_utils.profiles import HOME


def test_same_seed_same_tiles():
    first, again, other = tiles.tiles(1, 3, 4), tiles.tiles(1, 3, 4), tiles.tiles(1, 4, 4)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.images, other.images)
    assert (first.images.shape, first.images.dtype) == ((16, 4, 64, 64), torch.uint8)


def test_more_maps_leave_the_first_as_it_is():
    few, many = tiles.tiles(1, 0, 4), tiles.tiles(2, 0, 4)
    assert torch.equal(few.images, many.images[:16])
    assert many.maps.tolist() == [0] * 16 + [1] * 16
    assert (many.rows[5], many.columns[5], many.rows[16 + 14], many.columns[16 + 14]) == (1, 1, 3, 2)


def test_tiles_make_up_their_map():
    picture, uses = tiles.draw_map(np.random.default_rng([0, 0]), 4)
    drawn = tiles.tiles(1, 0, 4)
    halves = picture.reshape(len(picture) // 2, 2, picture.shape[1] // 2, 2, -1).mean((1, 3)).astype(np.uint8)
    assert np.array_equal(joined(drawn.images), halves)
    label = np.bincount(uses[64:128, 192:256].ravel()).argmax()  # row 1, column 3
    assert drawn.labels[7] == label


def test_every_use_occurs_and_near_infrared_tells_plants_from_water():
    drawn = tiles.tiles(6, 0, 8)
    brightness = drawn.images[:, 3].float().mean((1, 2))
    by_use = {name: brightness[drawn.labels == place].mean() for place, name in enumerate(tiles.CLASSES)}
    assert by_use["meadow"] > 2 * by_use["water"]
    assert by_use["forest"] > 1.5 * by_use["water"]
    assert set(LAND) == set(tiles.CLASSES)


PINNED = {line.split("==")[0]: line.split("==")[1] for line in (HOME / "requirements.txt").read_text().split() if "==" in line}


@pytest.mark.skipif(
    any(version(name) != PINNED[name] for name in ("pillow", "numpy")), reason="another Pillow or numpy may round differently"
)
def test_drawings_are_what_they_were():
    assert hashlib.sha256(tiles.tiles(2, 1_000, 4).images.numpy().tobytes()).hexdigest()[:16] == "1920bbdb78f71664"


def test_a_head_learns_and_takes_features_as_they_come():
    features, labels = torch.randn(60, 3, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 2
    features[:, 1] = 100 * features[:, 1] + 50 + 500 * labels
    state = torch.get_rng_state()
    head = land_use.train_head(features, labels)
    assert (head(features).argmax(1) == labels).all()
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(head(features), land_use.train_head(features, labels)(features))


def test_the_nearest_is_of_another_group():
    features, groups = torch.tensor([[0.0], [0.1], [5.0], [0.3]]), torch.tensor([0, 0, 1, 1])
    assert land_use.nearest_elsewhere(features, groups).tolist() == [3, 3, 1, 1]


def test_features_of_many_pictures():
    images = torch.randn(70, 3, 4, 4)
    assert torch.equal(land_use.features_of(nn.Flatten(), images), images.flatten(1))


def test_figures():
    drawn = tiles.tiles(1, 0, 4)
    assert "4 by 4 tiles" in plots.maps(drawn.images, title="One map").alt
    said = drawn.labels.clone()
    said[:4] = (said[:4] + 1) % 6
    figure = plots.land_maps(drawn.images, {"truth": drawn.labels, "guess": said}, tiles.CLASSES, title="Two")
    assert "guess 0.75 right" in figure.alt
    assert [ax.get_title() for ax in figure.axes] == ["the picture", "truth", "guess: 0.75 right"]
    assert len(figure.axes[2].lines[0].get_xdata()) == 4
