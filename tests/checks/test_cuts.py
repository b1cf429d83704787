"""Exercise 05.2: the cut that the rules call right is the last one with which training stays the same, as measured."""

import copy
import warnings
from typing import Any

import torch
from torch.nn import functional as F

from course_utils import split_frozen, train_mode
from course_utils.checks.lesson_05 import first_alive, stacks
from course_utils.checks.spec import Rng


def apart(case: dict, cut: int) -> float:
    """By how much the losses of three steps differ at most, if the first `cut` layers run once or every time."""
    images, labels = torch.randn(12, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 4
    found: list[list[float]] = []
    for once in (True, False):
        layers: Any = train_mode(copy.deepcopy(case["layers"]))
        optimizer, kept, losses = torch.optim.SGD(layers.parameters(), lr=1), None, []
        for step in range(3):
            with Rng(step).torch():
                kept = kept.detach() if once and kept is not None else layers[:cut](images)
                losses.append(F.cross_entropy(layers[cut:](kept), labels))
            optimizer.zero_grad()
            if losses[-1].requires_grad:
                losses[-1].backward()
            optimizer.step()
        found.append([loss.item() for loss in losses])
    return max(abs(one - other) for one, other in zip(*found, strict=True))


def test_the_right_cut_is_the_last_that_changes_nothing():
    for seed in range(20):
        for case in stacks(Rng(seed)):
            right = first_alive(case["layers"])
            assert apart(case, right) < 1e-6
            assert apart(case, right + 1) > 1e-6, (seed, right)


def test_it_is_where_split_frozen_cuts():
    for case in stacks(Rng(3)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where the first layer learns there is nothing to cut
            first, _ = next(split_frozen(case["layers"]).learning.named_children())
        assert int(first) == first_alive(case["layers"])
