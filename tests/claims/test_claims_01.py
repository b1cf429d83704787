"""Lesson 01: one picture alone and in company, noise, pictures from another world, and where VGG16's work is."""

from functools import cache

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

from course_utils import get_weights, load_model, picture, pictures

pytestmark = pytest.mark.claim
SEEDS = range(5)


def shapes(seed):
    """Eight pictures of shapes, as the lesson draws them."""
    weights = get_weights("resnet18", "shapes")
    return torch.stack([weights.transforms()(picture("shapes", name, seed=seed)) for name in weights.meta["categories"][::3]])


def in_company(images, training):
    """What the first picture gets for its class, alone and with two, four and seven others."""
    place = load_model("resnet18")(images[:1])[0].argmax()
    found = []
    for count in (1, 3, 5, 8):
        model = load_model("resnet18").train(training)
        with torch.inference_mode():
            found.append(model(images[:count]).softmax(1)[0, place].item())
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_in_evaluation_mode_the_answer_does_not_depend_on_the_company(seed):
    found = in_company(shapes(seed), training=False)
    assert max(found) - min(found) < 1e-5, found
    assert found[0] > 0.7, found


@pytest.mark.parametrize("seed", SEEDS)
def test_in_training_mode_it_does_and_alone_the_picture_gets_almost_nothing(seed):
    found = in_company(shapes(seed), training=True)
    assert found[0] < 0.2, found
    assert max(found) - min(found) > 0.3, found


@cache
def surest(world, seed):
    """The highest probability of each of 54 or 48 pictures."""
    images, _ = pictures(world, 9 if world == "things" else 2, seed)
    transform = get_weights("resnet18", "shapes").transforms()
    with torch.inference_mode():
        return load_model("resnet18")(transform(torch.from_numpy(images).permute(0, 3, 1, 2))).softmax(1).amax(1)


@pytest.mark.parametrize("seed", SEEDS)
def test_some_pictures_of_another_world_get_a_sure_answer(seed):
    assert surest("things", seed).sort(descending=True).values[7] > 0.6


@pytest.mark.parametrize("seed", SEEDS)
def test_the_surest_of_them_is_as_sure_as_a_real_shape_and_most_are_not(seed):
    strangers, real = surest("things", seed), surest("shapes", seed)
    assert strangers.max() > real.median() - 0.05
    assert strangers.median() < 0.7
    assert 0.85 < real.median() < 0.95  # right, and less than sure


@pytest.mark.parametrize("seed", SEEDS)
def test_noise_of_64_pixels_gets_a_rather_sure_name(seed):
    model = load_model("resnet18")
    torch.manual_seed(seed)
    with torch.inference_mode():
        small, large = (model(torch.randn(1, 3, size, size)).softmax(1).max().item() for size in (64, 224))
    assert small > 0.35
    assert large > 2 / 24


def test_trained_filters_are_smooth_and_fresh_ones_are_noise():
    """Neighbouring values of the sixteen strongest filters agree in sign after training, and by chance before."""

    def agreement(model):
        filters = model.conv1.weight.detach()
        strong = filters[filters.flatten(1).std(1).argsort(descending=True)[:16]]
        return (strong[..., 1:].sign() == strong[..., :-1].sign()).float().mean().item()

    trained = agreement(load_model("resnet18"))
    fresh = []
    for seed in SEEDS:
        torch.manual_seed(seed)
        fresh.append(agreement(load_model("resnet18", weights=None)))
    assert trained > 0.75
    assert max(fresh) < 0.55


@pytest.mark.parametrize(("size", "share"), [(224, 0.008), (64, 0.09)])
def test_the_share_of_the_classifier_in_the_work_of_vgg16(size, share):
    with torch.device("meta"):
        model, images = models.vgg16(), torch.empty(1, 3, size, size)
    with FlopCounterMode(display=False) as counted:
        model(images)
    in_classifier = sum(layer.weight.numel() for layer in model.classifier if isinstance(layer, nn.Linear))
    assert in_classifier / (counted.get_total_flops() / 2) == pytest.approx(share, abs=0.0005)
