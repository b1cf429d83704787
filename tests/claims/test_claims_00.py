"""Lesson 00: five pictures of each class, from scratch and with a backbone that knows shapes."""

from functools import cache
from statistics import mean

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from course_utils import evaluate, get_weights, load_model, pictures, replace_head, train_one_epoch

pytestmark = pytest.mark.claim
SEEDS = range(5)


def tensors(per_class, seed):
    images, labels = pictures("things", per_class, seed)
    return get_weights("resnet18", "shapes").transforms()(torch.from_numpy(images).permute(0, 3, 1, 2)), torch.from_numpy(
        labels
    )


def accuracies(model, images, labels, test, lr, epochs):
    """Accuracy on the test pictures after 12 epochs and after all."""
    loader = DataLoader(TensorDataset(images, labels), batch_size=10, shuffle=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    found = []
    for epoch in range(1, epochs + 1):
        train_one_epoch(model, loader, optimizer)
        if epoch in (12, epochs):
            found.append(evaluate(model, [test]).accuracy)
    return found[0], found[-1]


@cache
def measure(seed):
    """Scratch after 12 and 24 epochs, head only after 12; other pictures for each seed."""
    images, labels = tensors(5, seed)
    test_images, test_labels = tensors(45, 1000 + seed)
    torch.manual_seed(seed)
    scratch = replace_head(load_model("resnet18", weights=None), 6)
    short, long = accuracies(scratch, images, labels, (test_images, test_labels), 0.01, 24)
    backbone = load_model("resnet18")
    backbone.fc = nn.Identity()
    with torch.no_grad():
        known = backbone(images)
        test = torch.cat([backbone(part) for part in test_images.split(90)]), test_labels
    head, _ = accuracies(nn.Linear(512, 6), known, labels, test, 0.03, 12)
    return {"scratch": short, "scratch, 24 epochs": long, "head": head}


@pytest.mark.parametrize("seed", SEEDS)
def test_with_five_pictures_of_each_class_a_borrowed_backbone_is_far_ahead(seed):
    found = measure(seed)
    assert 0.18 <= found["scratch"] <= 0.4, found  # a little better than guessing
    assert found["head"] >= found["scratch"] + 0.2, found
    assert found["head"] >= found["scratch, 24 epochs"] + 0.2, found
    assert found["head"] >= 0.5, found


def test_on_average_more_than_twice_as_many_are_right():
    scratch, head = (mean(measure(seed)[way] for seed in SEEDS) for way in ("scratch", "head"))
    assert head >= 2 * scratch, (scratch, head)


def test_five_heads_on_fixed_features_need_less_than_a_tenth_of_the_computing():
    """Counted, not timed: 30 pictures learn in 12 epochs, 270 are the test; the features of the test are computed once."""
    with torch.device("meta"):
        model, images = load_model("resnet18", weights=None), torch.empty(10, 3, 64, 64)
    with FlopCounterMode(display=False) as looking, torch.no_grad():
        model(images)
    with FlopCounterMode(display=False) as learning:
        model(images).sum().backward()
    look, learn = looking.get_total_flops() / 10, learning.get_total_flops() / 10
    scratch = 5 * (12 * 30 * learn + 270 * look)
    head = (270 + 5 * 30) * look
    assert head < 0.08 * scratch, head / scratch
