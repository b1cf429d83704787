"""Lesson 06: which layers should learn, with 20 training pictures per class, on five draws of pictures.

Each configuration trains with the rate that the shipped table chose on val; the draws here are other pictures.
"""

import time
from functools import cache
from statistics import mean

import pytest
import torch
from torch import nn

from course_utils import get_weights, pictures, settings, sweeps, train_one_epoch

pytestmark = pytest.mark.claim
SEEDS = range(5)
RATES = sweeps.best_rates([row for row in sweeps.read_table("tiny") if row["per_class"] == 20])
CUT = {"scratch": 0, "all": 0, "layer3–4 + head": 6, "layer4 + head": 7, "head": 9}


def halves(name, seed):
    children = list(sweeps.start(name, settings(), 6, seed).children())
    return nn.Sequential(*children[: CUT[name]]), nn.Sequential(*children[CUT[name] : -1], nn.Flatten(), children[-1])


@cache
def tensors(per_class, seed):
    images, labels = pictures("things", per_class, seed)
    return get_weights("resnet18", "shapes").transforms()(torch.from_numpy(images).permute(0, 3, 1, 2)), torch.from_numpy(
        labels
    )


def kept(name, split):
    frozen, _ = halves(name, 0)
    with torch.no_grad():
        return torch.cat([frozen(batch) for batch in split[0].split(64)]), split[1]


def run(name, lr, seed, train, test):
    """Accuracy on `test` after the protocol's 48 updates on `train`."""
    _, rest = halves(name, seed)
    sweeps.train(rest, *kept(name, train), lr=lr, seed=seed)
    return sweeps.accuracy(rest, *kept(name, test))


def accuracy(name, seed, lr=None):
    return measured(name, seed, lr or RATES[name])


@cache
def measured(name, seed, lr):
    return run(name, lr, seed, tensors(20, 600 + seed), tensors(40, 700 + seed))


@pytest.mark.parametrize("seed", SEEDS)
def test_head_only_beats_scratch(seed):
    assert accuracy("head", seed) - accuracy("scratch", seed) >= 0.2


@pytest.mark.parametrize("seed", SEEDS)
def test_layer4_and_head_beat_head_only(seed):
    assert accuracy("layer4 + head", seed) - accuracy("head", seed) >= 0.07


@pytest.mark.parametrize("seed", SEEDS)
def test_every_pretrained_configuration_beats_scratch(seed):
    for name in ("head", "layer4 + head", "layer3–4 + head", "all"):
        assert accuracy(name, seed) - accuracy("scratch", seed) >= 0.2, name


@pytest.mark.parametrize("seed", SEEDS)
def test_one_rate_for_all_picks_the_winner(seed):
    """At 0.1 `all` is far behind `head`, at 0.01 it is far ahead."""
    assert accuracy("head", seed, 0.1) - accuracy("all", seed, 0.1) >= 0.04
    assert accuracy("all", seed, 0.01) - accuracy("head", seed, 0.01) >= 0.1


@pytest.mark.parametrize("name", ["head", "layer4 + head"])
def test_the_live_column_lands_on_the_shipped_one(name):
    """Kept features give what whole networks gave."""
    splits = sweeps.load_splits(settings(), 20)
    rows = [r for r in sweeps.read_table("tiny") if (r["per_class"], r["configuration"], r["lr"]) == (20, name, RATES[name])]
    mine = [run(name, r["lr"], r["seed"], splits["train"], splits["test"]) for r in rows]
    assert mean(mine) == pytest.approx(mean(r["test"] for r in rows), abs=0.03)


def test_a_shipped_row_can_be_made_again():
    row = next(
        r
        for r in sweeps.read_table("tiny")
        if (r["per_class"], r["configuration"], r["test"] is None) == (20, "layer3–4 + head", False)
    )
    splits = sweeps.load_splits(settings(), 20)
    model = sweeps.start("layer3–4 + head", settings(), 6, row["seed"])
    sweeps.train(model, *splits["train"], lr=row["lr"], seed=row["seed"])
    assert sweeps.accuracy(model, *splits["test"]) == pytest.approx(row["test"], abs=0.05)


def seconds(name, batches=6):
    _, rest = halves(name, 0)
    features, labels = kept(name, tensors(20, 600))
    shown = [(features[i], labels[i]) for i in sweeps.draws(len(labels))[:batches]]
    started = time.process_time()
    train_one_epoch(rest, shown, torch.optim.SGD(rest.parameters(), lr=0.01))
    return time.process_time() - started


def test_what_is_frozen_saves_time():
    took = {name: min(seconds(name) for _ in range(3)) for name in ("all", "layer4 + head", "head")}
    assert took["all"] >= 2 * took["layer4 + head"], took
    assert took["all"] >= 50 * took["head"], took
