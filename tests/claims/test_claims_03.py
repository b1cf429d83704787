"""Lesson 03: what batch norms in training mode do to a frozen backbone."""

from functools import cache

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_utils import eval_mode, get_weights, load_model, pictures, replace_head, train_mode

pytestmark = pytest.mark.claim
SEEDS = range(5)


@cache
def tensors(world, per_class, seed, brightness=1.0):
    images, labels = pictures(world, per_class, seed)
    dimmed = torch.from_numpy(images).permute(0, 3, 1, 2).float().mul(brightness).to(torch.uint8)
    return get_weights("resnet18", "shapes").transforms()(dimmed), torch.from_numpy(labels)


def old_answers(model, seed):
    """Logits of `model` for pictures of the source."""
    source, _ = tensors("shapes", 5, 1_000_000 + seed)
    with eval_mode(model), torch.inference_mode():
        return model(source)


@cache
def answers_before(seed):
    return old_answers(load_model("resnet18"), seed)


def answers_after(seed, brightness, set_mode):
    """Logits of the old head for source pictures, before and after five epochs of training a new head."""
    images, labels = tensors("things", 20, seed, brightness)
    torch.manual_seed(seed)
    model = load_model("resnet18").requires_grad_(False)
    old_head = model.fc
    replace_head(model, 6)
    optimizer = torch.optim.SGD(model.fc.parameters(), lr=0.1)
    for batch in [batch for _ in range(5) for batch in torch.randperm(len(labels)).split(32)]:
        set_mode(model)
        optimizer.zero_grad()
        F.cross_entropy(model(images[batch]), labels[batch]).backward()
        optimizer.step()
    model.fc = old_head
    return answers_before(seed), old_answers(model, seed)


def kept(seed, brightness, set_mode):
    before, after = answers_after(seed, brightness, set_mode)
    return (before.argmax(1) == after.argmax(1)).float().mean().item()


@pytest.mark.parametrize("seed", SEEDS)
def test_in_evaluation_mode_the_backbone_is_the_same_to_the_last_bit(seed):
    before, after = answers_after(seed, 0.3, train_mode)
    assert torch.equal(before, after)


def test_by_day_nine_in_ten_answers_stay_and_at_night_more_than_a_fifth_is_lost():
    day = [kept(seed, 1.0, nn.Module.train) for seed in SEEDS]  # measured: 0.96 to 0.99
    night = [kept(seed, 0.3, nn.Module.train) for seed in SEEDS]  # measured: 0.66 to 0.73
    assert min(day) > 0.9, day
    assert max(night) < 0.8, night
