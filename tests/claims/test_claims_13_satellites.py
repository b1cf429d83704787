"""Lesson 13, station satellites: neighbours leak, the fourth band helps, and what a widened first convolution keeps."""

from functools import cache

import pytest
import torch
from torch import nn

from course_utils import get_weights, load_model
from course_utils.experiments import land_use
from course_utils.fields import tiles

pytestmark = pytest.mark.claim
SEEDS = range(5)


def backbone():
    model = load_model("resnet18", weights="shapes")
    return nn.Sequential(*list(model.children())[:5], nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


def widened(start):
    """The backbone with a fourth band, whose filters are zero or the mean of the others."""
    model = backbone()
    weight = model[0].weight.detach()
    new = torch.zeros_like(weight[:, :1]) if start == "zero" else weight.mean(1, keepdim=True)
    model[0].weight, model[0].in_channels = nn.Parameter(torch.cat([weight, new], 1)), 4
    return model


def prepared(land):
    transform = get_weights("resnet18", "shapes").transforms()
    return transform(land.images[:, :3]), transform(land.images[:, 3:].expand(-1, 3, -1, -1))


def right(features, land, groups, seed):
    said = torch.empty_like(land.labels)
    for group in groups.unique():
        test = groups == group
        said[test] = land_use.train_head(features[~test], land.labels[~test], seed=seed)(features[test]).argmax(1)
    return (said == land.labels).float().mean().item()


@cache
def measured(seed):
    """By name the share right, and how often the nearest tile of a random split is from the same map."""
    land = tiles.tiles(maps=6, seed=seed, side=8)
    rgb, near_infrared = prepared(land)
    colour, grey, mean = (
        land_use.features_of(backbone(), images) for images in (rgb, near_infrared, rgb + near_infrared[:, :1] / 3)
    )
    at_random = torch.randperm(len(land.labels), generator=torch.Generator().manual_seed(seed)) % 6
    nearest = land_use.nearest_elsewhere(colour, at_random)
    return {
        "random": right(colour, land, at_random, seed),
        "maps": right(colour, land, land.maps, seed),
        "mean": right(mean, land, land.maps, seed),
        "side by side": right(torch.cat([colour, grey], 1), land, land.maps, seed),
        "same map": (land.maps[nearest] == land.maps).float().mean().item(),
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_split_promises_too_much(seed):
    found = measured(seed)
    assert found["random"] - found["maps"] > 0.05
    assert found["same map"] > 0.7


@pytest.mark.parametrize("seed", SEEDS)
def test_the_fourth_band_helps_on_unseen_maps_and_side_by_side_beats_the_mean(seed):
    found = measured(seed)
    assert found["side by side"] - found["maps"] > 0.08
    assert found["side by side"] > found["mean"]


@pytest.mark.parametrize("seed", SEEDS)
def test_zero_filters_keep_every_answer_and_mean_filters_are_a_third_in_each_colour(seed):
    rgb, near_infrared = prepared(tiles.tiles(maps=1, seed=seed, side=4))
    four = torch.cat([rgb, near_infrared[:, :1]], 1)
    colour = land_use.features_of(backbone(), rgb)
    assert torch.allclose(land_use.features_of(widened("zero"), four), colour, atol=1e-5)
    third = rgb + near_infrared[:, :1] / 3
    assert torch.allclose(
        land_use.features_of(widened("mean"), four), land_use.features_of(backbone(), third), rtol=1e-4, atol=1e-4
    )
