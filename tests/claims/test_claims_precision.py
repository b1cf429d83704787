"""What the documentation says of `mixed_precision`: as accurate as float32, on five seeds, and faster where `auto` takes it."""

from __future__ import annotations

import copy
import statistics
import time
import warnings
from functools import cache

import pytest
import torch
from torch import nn
from torch.optim import SGD
from torch.utils.data import DataLoader, TensorDataset

from course_utils import evaluate, get_weights, load_model, mixed_precision, pictures, replace_head, train_one_epoch
from course_utils.devices import has_bfloat16

pytestmark = pytest.mark.claim
SEEDS = range(5)


def drawn(seed: int, per_class: int, shuffle: bool = False) -> DataLoader:
    images, labels = map(torch.from_numpy, pictures("things", per_class, seed))
    prepared = get_weights("resnet18", "shapes").transforms()(images.permute(0, 3, 1, 2))
    order = torch.Generator().manual_seed(seed)
    return DataLoader(TensorDataset(prepared, labels), 32, shuffle=shuffle, generator=order)


@cache
def accuracy(seed: int, precision: str) -> float:
    """On new pictures, after everything has learnt from 20 of each class."""
    torch.manual_seed(seed)
    model = replace_head(load_model("resnet18"), 6)
    train, test = drawn(seed, 20, shuffle=True), drawn(100 + seed, 50)
    with warnings.catch_warnings(), mixed_precision(model, "float32"):
        warnings.simplefilter("ignore")  # a machine that emulates bfloat16 gives the same numbers
        with mixed_precision(model, precision):
            optimizer = SGD(model.parameters(), 0.01, 0.9)
            for _ in range(5):
                train_one_epoch(model, train, optimizer)
            return evaluate(model, test).accuracy


def test_bfloat16_is_as_accurate_as_float32():
    """On each seed, and in the mean."""
    apart = [accuracy(seed, "bfloat16") - accuracy(seed, "float32") for seed in SEEDS]
    assert statistics.mean(accuracy(seed, "float32") for seed in SEEDS) > 0.7
    assert abs(statistics.mean(apart)) < 0.02
    assert 0 < max(map(abs, apart)) < 0.05


def seconds(model: nn.Module, precision: str) -> float:
    """Of the processor, for one step with 32 pictures."""
    optimizer, batch = SGD(model.parameters(), 0.01), (torch.randn(32, 3, 64, 64), torch.randint(6, (32,)))
    with mixed_precision(model, precision):
        started = time.process_time()
        train_one_epoch(model, [batch], optimizer)
        return time.process_time() - started


@pytest.mark.skipif(not has_bfloat16(torch.device("cpu")), reason="this processor does not compute in bfloat16")
def test_where_auto_takes_bfloat16_it_is_faster_and_channels_last_faster_still():
    """Measured in turn, so that what else the machine does slows down each alike."""
    model = replace_head(load_model("resnet18"), 6)
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    arms = {"float32": (model, "float32"), "auto": (model, "auto"), "both": (last, "auto")}
    rounds = [{name: seconds(*arm) for name, arm in arms.items()} for _ in range(12)][1:]
    auto, both = (statistics.median(one["float32"] / one[name] for one in rounds) for name in ("auto", "both"))
    assert auto > 1.2
    assert both > auto
