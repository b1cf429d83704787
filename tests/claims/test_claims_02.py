"""Lesson 02: the names an old head gives, how new heads begin, what their loss shows, and what rows are worth."""

import copy
import math
from collections import Counter
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision import models

from course_utils import get_weights, head_name, load_model, picture, pictures, replace_head

pytestmark = pytest.mark.claim
SEEDS = range(5)
each_seed = pytest.mark.parametrize("seed", SEEDS)
LN_6 = math.log(6)


def values(module):
    return sum(parameter.numel() for parameter in module.parameters())


def hollow(architecture):
    with torch.device("meta"):
        return models.get_model(architecture)


@cache
def old_model():
    """The pretrained backbone, its head, and the names of that."""
    backbone = load_model("resnet18")
    head, backbone.fc = backbone.fc, nn.Identity()
    return backbone, head, get_weights("resnet18", "shapes").meta["categories"]


@cache
def seen(seed, per_class):
    """The features of `things` drawn with `seed`, and their labels."""
    images, labels = pictures("things", per_class, 1000 + seed)
    batch = get_weights("resnet18", "shapes").transforms()(torch.from_numpy(images).permute(0, 3, 1, 2))
    with torch.no_grad():
        return torch.cat([old_model()[0](part) for part in batch.split(40)]), torch.from_numpy(labels)


def train(seed):
    return seen(seed, 20)


def test(seed):
    return seen(100 + seed, 20)


test.__test__ = False


def share_right(model, seed):
    features, labels = test(seed)
    return (model(features).argmax(1) == labels).float().mean().item()


def first_steps(model, optimizer, seed):
    features, labels = train(seed)
    losses = []
    for _ in range(60):
        loss = F.cross_entropy(model(features), labels)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses


def adam(head):
    return torch.optim.Adam(head.parameters(), lr=0.003)


def fresh(seed):
    torch.manual_seed(seed)
    return nn.Linear(512, 6)


# ------------------------------------------------------------------------------------------------------ exact facts


def test_the_line_fits_three_models():
    found = [hollow("resnet18").fc, hollow("resnet50").fc, hollow("vgg16").classifier[6]]
    assert [layer.in_features for layer in found] == [512, 2048, 4096]


def test_a_typed_512_stops_on_a_resnet50_at_the_first_picture():
    model = hollow("resnet50")
    with torch.device("meta"):
        model.fc = nn.Linear(512, 10)
        with pytest.raises(RuntimeError):
            model(torch.rand(1, 3, 64, 64))


def test_where_the_head_lives():
    found = {}
    for name in ("convnext_tiny", "vgg16", "resnet18", "densenet121", "mobilenet_v2", "squeezenet1_1"):
        model = hollow(name)
        place = head_name(model)
        found[name] = (round(100 * values(model.get_submodule(place)) / values(model)), place)
    assert found == {
        "convnext_tiny": (3, "classifier.2"),
        "vgg16": (3, "classifier.6"),
        "resnet18": (4, "fc"),
        "densenet121": (13, "classifier"),
        "mobilenet_v2": (37, "classifier.1"),
        "squeezenet1_1": (42, "classifier.1"),
    }
    classifier = hollow("vgg16").classifier
    assert values(classifier[0]) + values(classifier[3]) == 119_545_856
    assert values(nn.Linear(512, 6)) == 3_078


def test_the_course_renews_auxiliary_heads():
    with torch.device("meta"):
        answers = replace_head(load_model("inception_v3", weights=None), 10).train()(torch.rand(2, 3, 299, 299))
    assert [tuple(logits.shape) for logits in answers] == [(2, 10), (2, 10)]


def test_perfect_probabilities_are_a_weak_opinion():
    assert round(F.cross_entropy(torch.eye(6), torch.arange(6)).item(), 2) == 1.04
    assert round(torch.eye(6).softmax(1).max().item(), 3) == 0.352
    anything = torch.randn(1000, 6).mul(9).softmax(1)
    assert F.cross_entropy(anything, anything.argmax(1)) >= 1.035, "it cannot fall below"


def test_one_logit_with_cross_entropy_is_a_wrong_mixture():
    logits, yes = torch.randn(9, 1), torch.ones(9, dtype=torch.long)
    assert F.cross_entropy(logits, yes.float().unsqueeze(1)) == 0
    with pytest.raises(IndexError, match=r"Target 1 is out of bounds\."):
        F.cross_entropy(logits, yes)
    pair = torch.cat([torch.zeros_like(logits), logits], 1)
    binary = F.binary_cross_entropy_with_logits(logits, yes.float().unsqueeze(1))
    assert torch.allclose(F.cross_entropy(pair, yes), binary), "both are right"


def test_a_discarded_head_gets_no_gradients_any_more():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5))
    optimizer, old = torch.optim.Adam(model.parameters()), model[1]
    model[1] = nn.Linear(4, 2)
    before = [copy.deepcopy(layer.state_dict()) for layer in (old, model[1])]
    model(torch.ones(1, 3)).square().sum().backward()
    optimizer.step()
    assert old.weight.grad is None
    for layer, state in zip((old, model[1]), before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in layer.state_dict().items())


# ------------------------------------------------------------------------------------------------------- five seeds


@each_seed
def test_the_old_names_are_wrong_but_not_at_random(seed):
    _, old_head, names = old_model()
    assert not set(names) & {"boat", "car", "fish", "flower", "house", "tree"}
    features, labels = test(seed)
    said = [names[i].split()[-1] for i in old_head(features).argmax(1)]
    cars = [name for name, label in zip(said, labels, strict=True) if label == 1]
    assert cars.count("cross") / len(cars) > 2 / 3, Counter(cars)


@each_seed
def test_a_dictionary_names_at_least_two_fifths(seed):
    _, old_head, _ = old_model()
    (features, labels), (new, truth) = train(seed), test(seed)
    votes, dictionary = Counter(zip(old_head(features).argmax(1).tolist(), labels.tolist(), strict=True)), {}
    for (old, name), _ in votes.most_common():
        dictionary.setdefault(old, name)
    right = np.mean([dictionary.get(old) == name for old, name in zip(old_head(new).argmax(1).tolist(), truth, strict=True)])
    assert right > 0.4, right


@each_seed
def test_untrained_heads_have_a_favourite_and_are_never_sure(seed):
    features, labels = test(seed)
    torch.manual_seed(seed)
    favourites, surest, losses = [], [], []
    for _ in range(20):
        logits = nn.Linear(512, 6)(features).detach()
        favourites.append(logits.argmax(1).bincount().max().item() * 6 / len(labels))
        surest.append(logits.softmax(1).max().item())
        losses.append(F.cross_entropy(logits, labels).item() - LN_6)
    assert min(favourites) > 1.5, favourites
    unit = F.normalize(features)
    assert (unit @ unit.T).mean() > 0.6, "all pictures have similar features"
    assert max(surest) < 0.5, surest
    assert -0.1 < min(losses) < max(losses) < 0.2, losses
    assert np.mean(np.array(losses) > 0) > 0.5, losses


@pytest.mark.parametrize("classes", [2, 10, 24])
def test_a_sound_head_stays_below_the_limit_of_preflight_and_an_old_one_does_not(classes):
    off, old_head = [], old_model()[1]
    for seed in SEEDS:
        features, things = test(seed)
        torch.manual_seed(seed)
        for part in (torch.randint(classes, (32,)), torch.zeros(32, dtype=torch.long)):
            logits = nn.Linear(512, classes)(features[torch.randperm(len(things))[:32]])
            off.append(F.cross_entropy(logits, part).item() - math.log(classes))
        assert F.cross_entropy(old_head(features), things) > LN_6 + 1.5
    assert max(off) < 0.7, off


@each_seed
def test_each_mistake_has_its_curve(seed):
    good, soft, late, kept = fresh(seed), fresh(seed), fresh(seed), copy.deepcopy(old_model()[1])
    right = first_steps(good, adam(good), seed)
    assert abs(right[0] - LN_6) < 0.2
    assert right[-1] < 0.4
    assert share_right(good, seed) > 0.7
    twice = first_steps(nn.Sequential(soft, nn.Softmax(dim=1)), adam(soft), seed)
    assert abs(twice[0] - LN_6) < 0.02, "it starts right"
    assert 1.04 < twice[-1] < 1.25
    flat = first_steps(late, adam(nn.Linear(512, 6)), seed)
    assert flat[0] == flat[-1]
    old = first_steps(kept, adam(kept), seed)
    assert 3.6 < old[0] < 4.4, "far above"
    assert old[-1] < 0.6, "it recovers"


@each_seed
def test_kept_rows_know_their_classes_before_any_training(seed):
    backbone, old_head, names = old_model()
    drawn = [picture("shapes", name, 3_000_000 + seed, i) for name in names[2::5] for i in range(8)]
    drawn += [picture("things", "house", 3_000_000 + seed, i) for i in range(8)]
    with torch.no_grad():
        features = backbone(torch.stack([get_weights("resnet18", "shapes").transforms()(image) for image in drawn]))
        begun = fresh(seed)(features)
        kept = torch.cat([old_head(features)[:, 2::5], begun[:, 5:]], dim=1)
    targets = torch.arange(6).repeat_interleave(8)
    right = (kept.argmax(1) == targets).float()
    assert right[:40].mean() >= 0.95
    assert right[40:].mean() <= 0.25
    assert F.cross_entropy(kept, targets) < 0.7 < LN_6 - 0.2 < F.cross_entropy(begun, targets)
    assert (kept[40:, :5].amax(1) > kept[40:, 5]).float().mean() >= 0.75, "a trained row shouts the new one down"
