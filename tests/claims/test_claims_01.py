"""Lesson 01: one file in nine ways, what random numbers show, what channels respond to, the mode, and strangers."""

import copy
from functools import cache

import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.transforms.functional import resize

from course_utils import get_weights, load_model, pictures
from course_utils.experiments.responses import shapes

pytestmark = pytest.mark.claim
SEEDS = range(5)
WEIGHTS = get_weights("resnet18", "shapes")
NAMES = WEIGHTS.meta["categories"]
TRANSFORM = WEIGHTS.transforms()
OFFICIAL = models.ResNet18_Weights.DEFAULT.transforms(crop_size=64, resize_size=64)


@cache
def loaded():
    return load_model("resnet18", weights="shapes")


@cache
def ordered(seed):
    return shapes(per_class=10, seed=2000 + seed)


def drawn(seed):
    """Two of each class, mixed."""
    images, labels = ordered(seed)
    two = torch.cat([torch.arange(0, 240, 10), torch.arange(1, 240, 10)])
    order = two[torch.randperm(48, generator=torch.Generator().manual_seed(seed))]
    return images[order], labels[order]


def changed(*, training=False, statistics=True):
    model = copy.deepcopy(loaded())
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d) and not statistics:
            layer.reset_running_stats()  # what a new layer has
    return model.train(training)


def share_right(images, labels, *, model=None, prepare=TRANSFORM, at_a_time=96):
    """What the lesson's function of this name measures, by number."""
    with torch.no_grad():
        places = torch.cat([(model or loaded())(batch).argmax(1) for batch in prepare(images).split(at_a_time)])
    return (places == labels).float().mean().item()


@cache
def alone(seed):
    return share_right(*drawn(seed), model=changed(training=True), at_a_time=1)


# ---------------------------------------------------------------------------------------------------- nine ways


@pytest.mark.parametrize("seed", SEEDS)
def test_as_it_was_trained_nearly_all_are_right_at_about_ninety_percent(seed):
    images, labels = drawn(seed)
    with torch.no_grad():
        found = loaded()(TRANSFORM(images)).softmax(1).max(1)
    assert (found.indices == labels).float().mean() >= 0.95
    assert (found.indices == (labels - 1) % 24).sum() <= 1, "names shifted by one are worse than guessing"
    assert 0.87 < found.values.median() < 0.94
    assert share_right(images, labels, prepare=OFFICIAL) >= 0.95, "a mean so near does no harm"


@pytest.mark.parametrize("seed", SEEDS)
def test_one_change_and_most_names_are_wrong(seed):
    images, labels = (part[:32] for part in drawn(seed))
    assert 0.5 < alone(seed) < 0.88
    assert share_right(images, labels, prepare=lambda images: images / 255) < 0.55
    assert share_right(images, labels, prepare=lambda images: images.float()) < 0.35
    assert share_right(images, labels, model=changed(statistics=False)) < 0.35
    large = resize(TRANSFORM(images[:6]), [224, 224])
    assert share_right(large, labels[:6], prepare=lambda images: images) < 0.5
    torch.manual_seed(seed)
    assert share_right(images, labels, model=load_model("resnet18", weights=None)) < 0.25, "nothing was loaded"


def test_another_architecture_complains():
    with pytest.raises(RuntimeError, match="Missing key"):
        models.resnet34(num_classes=24).load_state_dict(loaded().state_dict())


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("size", [64, 224])
def test_random_numbers_all_get_one_name(size, seed):
    torch.manual_seed(seed)
    with torch.no_grad():
        places = loaded()(torch.randn(8 if size == 64 else 3, 3, size, size)).argmax(1)
    assert {NAMES[place] for place in places} == {{64: "dotted hexagon", 224: "dotted circle"}[size]}


# ------------------------------------------------------------------------------------------------------- inside


def test_trained_filters_are_smooth_and_fresh_ones_are_noise():
    """Neighbouring values of the sixteen strongest filters agree in sign after training, and by chance before."""

    def agreement(model):
        filters = model.conv1.weight.detach()
        strong = filters[filters.flatten(1).std(1).argsort(descending=True)[:16]]
        return (strong[..., 1:].sign() == strong[..., :-1].sign()).float().mean().item()

    trained = agreement(loaded())
    fresh = []
    for seed in SEEDS:
        torch.manual_seed(seed)
        fresh.append(agreement(load_model("resnet18", weights=None)))
    assert trained > 0.75
    assert max(fresh) < 0.55


@pytest.mark.parametrize("seed", SEEDS)
def test_what_excites_channels(seed):
    """The eight pictures of 240 that excite a channel most have one texture early, and one outline late."""
    images, labels = ordered(seed)
    watch = create_feature_extractor(loaded(), ["layer1", "layer3"])
    with torch.no_grad():
        found = watch(TRANSFORM(images))

    def kinds(layer, channel):
        peaks = found[layer][:, channel].flatten(1).amax(1)
        return [NAMES[labels[i]].split() for i in peaks.topk(8).indices]

    assert {texture for texture, _ in kinds("layer1", 32)} == {"dotted"}
    for channel, wanted in ((144, "ring"), (196, "star"), (195, "cross")):
        outlines = [outline for _, outline in kinds("layer3", channel)]
        assert outlines.count(wanted) >= 6, (channel, outlines)


# ------------------------------------------------------------------------------------------------------- the mode


def a_third(seed):
    """A third of the classes will do, of all outlines and textures."""
    return ordered(seed)[1] % 3 == seed % 3


@pytest.mark.parametrize("seed", SEEDS)
def test_in_training_mode_the_other_pictures_decide(seed):
    images, labels = drawn(seed)
    training = changed(training=True)
    forty = share_right(images[:40], labels[:40], model=training, at_a_time=40)
    images, labels = (part[a_third(seed)] for part in ordered(seed))
    one_class = share_right(images, labels, model=training, at_a_time=10)
    assert forty >= 0.95
    assert one_class < 0.45 < alone(seed) < forty


@pytest.mark.parametrize("seed", SEEDS)
def test_in_evaluation_mode_they_do_not(seed):
    images = TRANSFORM(drawn(seed)[0][:8])
    model = loaded()
    with torch.no_grad():
        together, one = model(images), model(images[:1])
    assert torch.allclose(together[:1], one, atol=1e-4)


@pytest.mark.parametrize("seed", SEEDS)
def test_ten_known_pictures_catch_what_matters(seed):
    images, labels = (part[:10] for part in drawn(seed))
    for one in ({"prepare": lambda images: images / 255}, {"model": changed(statistics=False)}):
        assert share_right(images, labels, **one) < 1
    assert share_right(images, labels, model=changed(training=True), at_a_time=1) < 1


# ------------------------------------------------------------------------------------------------------- strangers


@cache
def surest(world, seed):
    """The highest probability of each of 54 or 48 pictures."""
    images, _ = pictures(world, 9 if world == "things" else 2, seed)
    with torch.inference_mode():
        batch = TRANSFORM(torch.from_numpy(images).permute(0, 3, 1, 2))
        return loaded()(batch).softmax(1).amax(1)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_surest_stranger_is_as_sure_as_a_real_shape_and_most_are_not(seed):
    strangers, real = surest("things", seed), surest("shapes", seed)
    assert strangers.max() > real.median() - 0.05
    assert strangers.median() < 0.7
    assert 0.85 < real.median() < 0.95
