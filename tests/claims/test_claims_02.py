"""Lesson 02: how large heads are, what the first loss of a fresh head is, and what kept rows are worth."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_utils import get_weights, head_of, load_model, picture, pictures, replace_head

pytestmark = pytest.mark.claim
SEEDS = range(5)
HOUSES = 24


def values(module):
    return sum(parameter.numel() for parameter in module.parameters())


def hollow(architecture):
    with torch.device("meta"):
        return load_model(architecture, weights=None)


@cache
def features_of(seed):
    """The features of 120 `things` drawn with `seed`, and their labels."""
    images, labels = pictures("things", 20, seed)
    backbone = load_model("resnet18")
    backbone.fc = nn.Identity()
    batch = get_weights("resnet18", "shapes").transforms()(torch.from_numpy(images).permute(0, 3, 1, 2))
    with torch.no_grad():
        return torch.cat([backbone(part) for part in batch.split(40)]), torch.from_numpy(labels)


# ------------------------------------------------------------------------------------------------------ exact facts


@pytest.mark.parametrize(
    ("architecture", "features", "before", "after"),
    [("resnet18", 512, 513_000, 5_130), ("resnet34", 512, 513_000, 5_130), ("resnet50", 2048, 2_049_000, 20_490)],
)
def test_a_head_for_ten_classes(architecture, features, before, after):
    model = hollow(architecture)
    rest = values(model) - values(model.fc)
    assert (model.fc.in_features, values(model.fc)) == (features, before)
    replace_head(model, 10)
    assert values(model.fc) == after
    assert values(model) - values(model.fc) == rest


def test_a_typed_512_stops_on_a_resnet50():
    model = load_model("resnet50", weights=None)
    model.fc = nn.Linear(512, 10)
    with pytest.raises(RuntimeError, match=r"mat1 and mat2 shapes cannot be multiplied \(1x2048 and 512x10\)"):
        model(torch.rand(1, 3, 64, 64))


def test_squeezenet_spends_most_on_its_head():
    names = ("resnet18", "vgg16", "densenet121", "mobilenet_v2", "squeezenet1_1", "inception_v3")
    shares = {name: values(head_of(model)) / values(model) for name in names for model in [hollow(name)]}
    assert {name: round(100 * share) for name, share in shares.items()} == dict(zip(names, (4, 3, 13, 37, 42, 8), strict=True))


def test_the_hidden_layers_of_vgg16():
    classifier = hollow("vgg16").classifier
    assert values(classifier[0]) + values(classifier[3]) == 119_545_856


def test_the_two_layer_head_has_32_times_the_values():
    assert values(replace_head(hollow("resnet18"), 10, hidden=(256, 128)).fc) == 165_514
    assert round(165_514 / 5_130) == 32


def test_inception_needs_large_pictures():
    with pytest.raises(RuntimeError), torch.device("meta"):
        hollow("inception_v3")(torch.rand(2, 3, 64, 64))


def test_a_label_too_many():
    with pytest.raises(IndexError, match=r"Target 6 is out of bounds\."):
        F.cross_entropy(torch.zeros(1, 6), torch.tensor([6]))


@pytest.mark.parametrize(("classes", "floor"), [(6, 1.04), (10, 1.46)])
def test_the_floor_under_the_loss_of_probabilities(classes, floor):
    assert round(F.cross_entropy(torch.eye(classes), torch.arange(classes)).item(), 2) == floor
    assert round(torch.eye(6).softmax(1).max().item(), 3) == 0.352
    anything = torch.randn(1000, classes).mul(9).softmax(1)
    assert F.cross_entropy(anything, anything.argmax(1)) >= floor - 0.005


def test_one_output_with_cross_entropy_is_a_wrong_mixture():
    logits, yes = torch.randn(9, 1), torch.ones(9, dtype=torch.long)
    assert F.cross_entropy(logits, yes.float().unsqueeze(1)) == 0
    with pytest.raises(IndexError, match=r"Target 1 is out of bounds\."):
        F.cross_entropy(logits, yes)


def test_an_optimizer_built_before_leaves_the_new_head_as_it_is():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model[1] = nn.Linear(4, 2)
    before = model[1].weight.detach().clone()
    model(torch.ones(1, 3)).square().sum().backward()
    optimizer.step()
    assert torch.equal(model[1].weight, before)


# ------------------------------------------------------------------------------------------------------- five seeds


@pytest.mark.parametrize("classes", [2, 6, 10, 24])
def test_fresh_heads_start_within_a_fifth_of_ln_k_and_mostly_above(classes):
    off = []
    for seed in SEEDS:
        features, things = features_of(seed)
        torch.manual_seed(seed)
        for _ in range(40):
            labels = things if classes == 6 else torch.randint(classes, things.shape)
            off.append(F.cross_entropy(nn.Linear(512, classes)(features), labels).item() - math.log(classes))
    assert np.mean(np.abs(off) < 0.2) >= 0.97, off
    assert np.mean(np.array(off) > 0) >= 0.6, off
    assert np.abs(off).max() < 0.4, off


def test_single_heads_stray_further_if_one_class_has_nearly_all_pictures():
    even, odd = [], []
    for seed in SEEDS:
        features, things = features_of(seed)
        torch.manual_seed(seed)
        for _ in range(40):
            logits = nn.Linear(512, 6)(features)
            even.append(F.cross_entropy(logits, things).item())
            odd.append(F.cross_entropy(logits, torch.zeros_like(things)).item())
    assert np.std(odd) > 2 * np.std(even), (np.std(odd), np.std(even))


def test_a_forgotten_head_starts_at_about_4():
    losses = [
        F.cross_entropy(load_model("resnet18").fc(features), labels).item() for features, labels in map(features_of, SEEDS)
    ]
    assert 3.7 < min(losses) <= max(losses) < 4.3, losses
    assert min(losses) > math.log(24) + 0.5


def losses_of(output, seed, steps=60):
    features, labels = features_of(seed)
    torch.manual_seed(seed)
    head, losses = nn.Linear(512, 6), []
    optimizer = torch.optim.Adam(head.parameters(), lr=0.003)
    for _ in range(steps):
        loss = F.cross_entropy(output(head(features)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("seed", SEEDS)
def test_a_softmax_in_front_flattens_above_its_floor(seed):
    probabilities, logits = losses_of(nn.Softmax(dim=1), seed), losses_of(nn.Identity(), seed)
    assert abs(probabilities[0] - math.log(6)) < 0.02, "the first loss does not show it"
    assert abs(logits[0] - math.log(6)) < 0.2
    assert 1.12 < probabilities[-1] < 1.25, probabilities[-1]
    assert logits[-1] < 0.4, logits[-1]
    assert probabilities[-11] - probabilities[-1] < 0.04, "it looks nearly done"


@pytest.mark.parametrize("seed", SEEDS)
def test_one_logit_says_the_same_as_the_difference_of_two(seed):
    features, labels = features_of(seed)
    torch.manual_seed(seed)
    two, one = nn.Linear(512, 2), nn.Linear(512, 1)
    with torch.no_grad():
        one.weight.copy_(two.weight[1:] - two.weight[:1])
        one.bias.copy_(two.bias[1:] - two.bias[:1])
        yes, single = (labels < 3).long(), one(features)
        binary = F.binary_cross_entropy_with_logits(single, yes.float().unsqueeze(1))
        assert torch.allclose(F.cross_entropy(two(features), yes), binary, atol=1e-5)
        sure = single[:, 0].abs() > 1e-4
        assert torch.equal(two(features).argmax(1)[sure], (single[sure, 0] > 0).long())


def first_answers(seed):
    """Fresh logits, and logits with five old columns kept, for eight pictures of each known class and some houses."""
    weights, model = get_weights("resnet18", "shapes"), load_model("resnet18")
    known = weights.meta["categories"][2::5]
    drawn = [picture("shapes", name, 3_000_000 + seed, i) for name in known for i in range(8)]
    drawn += [picture("things", "house", 3_000_000 + seed, i) for i in range(HOUSES)]
    batch = torch.stack([weights.transforms()(image) for image in drawn])
    torch.manual_seed(seed)
    with torch.no_grad():
        old, fresh = model(batch), replace_head(model, 6)(batch)
    targets = torch.tensor([i for i in range(5) for _ in range(8)] + [5] * HOUSES)
    return fresh, torch.cat([old[:, 2::5], fresh[:, 5:]], dim=1), targets


def balanced(losses):
    """The loss as it would be with as many houses as pictures of each known class."""
    return losses[:40].mean() * 5 / 6 + losses[40:].mean() / 6


def test_kept_rows_know_their_classes_before_any_training():
    known, houses, first, begun, loud, alike = [], [], [], [], [], []
    for seed in SEEDS:
        fresh, kept, targets = first_answers(seed)
        right = (kept.argmax(1) == targets).float()
        known.append(right[:40].mean().item())
        houses.append(right[40:].mean().item())
        first.append(balanced(F.cross_entropy(kept, targets, reduction="none")).item())
        begun.append(balanced(F.cross_entropy(fresh, targets, reduction="none")).item())
        groups = [fresh.argmax(1)[targets == number] for number in range(6)]
        alike.append(np.mean([group.bincount().max().item() / len(group) for group in groups]))
        loud.append((kept[40:, :5].abs().mean() / kept[40:, 5].abs().mean()).item())
    assert min(known) >= 0.97, known
    assert max(houses) <= 0.2, houses
    assert min(alike) > 0.6, alike
    assert max(first) < 0.65, first
    assert abs(np.array(begun) - math.log(6)).max() < 0.2, begun
    assert min(loud) > 2.5, loud
