"""Lesson 00: five pictures of each class, from scratch and with a backbone that knows shapes."""

import time
from functools import cache

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from course_utils import evaluate, get_weights, load_model, pictures, replace_head, train_one_epoch

pytestmark = pytest.mark.claim
SEEDS = range(5)


def tensors(per_class, seed):
    images, labels = pictures("things", per_class, seed)
    return get_weights("resnet18", "shapes").transforms()(torch.from_numpy(images).permute(0, 3, 1, 2)), torch.from_numpy(
        labels
    )


def accuracies(model, images, labels, test, lr, epochs):
    """Accuracy on the test pictures after 12 epochs and after all, and seconds of work for the first 12 epochs."""
    loader = DataLoader(TensorDataset(images, labels), batch_size=10, shuffle=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    found, start = [], time.process_time()
    for epoch in range(1, epochs + 1):
        train_one_epoch(model, loader, optimizer)
        if epoch == 12:
            seconds = time.process_time() - start
        if epoch in (12, epochs):
            found.append(evaluate(model, [test]).accuracy)
    return found[0], found[-1], seconds


@cache
def measure(seed):
    """Scratch after 12 and 24 epochs, head only after 12, and the seconds of both; other pictures for each seed."""
    images, labels = tensors(5, seed)
    test_images, test_labels = tensors(45, 1000 + seed)
    torch.manual_seed(seed)
    scratch = replace_head(load_model("resnet18", weights=None), 6)
    short, long, slow = accuracies(scratch, images, labels, (test_images, test_labels), 0.01, 24)
    backbone = load_model("resnet18")
    backbone.fc = nn.Identity()
    start = time.process_time()
    with torch.no_grad():
        known = backbone(images)
    extra = time.process_time() - start
    with torch.no_grad():
        test = torch.cat([backbone(part) for part in test_images.split(90)]), test_labels
    head, _, fast = accuracies(nn.Linear(512, 6), known, labels, test, 0.03, 12)
    return {"scratch": short, "scratch, 24 epochs": long, "head": head, "slow": slow, "fast": fast + extra}


@pytest.mark.parametrize("seed", SEEDS)
def test_with_five_pictures_of_each_class_a_borrowed_backbone_is_far_ahead(seed):
    found = measure(seed)
    assert 0.18 <= found["scratch"] <= 0.4, found  # a little better than guessing
    assert found["head"] >= found["scratch"] + 0.2, found
    assert found["head"] >= found["scratch, 24 epochs"] + 0.2, found
    assert found["head"] >= 0.5, found


@pytest.mark.parametrize("seed", SEEDS)
def test_a_head_on_fixed_features_learns_in_less_than_a_tenth_of_the_time(seed):
    found = measure(seed)
    assert found["fast"] < found["slow"] / 10, found
