"""Lesson 06: which layers should learn, with 20 training pictures per class, on the shipped runs and on new draws of pictures.

Each configuration trains with the rate that the shipped table chose on val. What trains all layers takes its time: there the
shipped runs are most of the seeds, and `test_a_shipped_row_can_be_made_again` answers for them.
"""

import time
from functools import cache

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from course_utils import get_weights, pictures, precompute, settings, split_frozen, sweep
from course_utils.experiments import freezing
from course_utils.experiments.channels import channels, detector

pytestmark = pytest.mark.claim
SEEDS = range(5)
HOUSE = 4  # its place among the classes
TABLE = [row for row in freezing.read_table("tiny") if row["per_class"] == 20]
RATES = freezing.best_rates(TABLE)


def start(name, seed):
    model = freezing.start(name, settings(), 6, seed)
    return model if name in ("all", "scratch") else split_frozen(model).learning


@cache
def shown(name, loader):
    """What the learning part of a configuration gets to see: the pictures, or their features."""
    if name in ("all", "scratch"):
        return loader
    return precompute(split_frozen(freezing.start(name, settings(), 6, seed=0)).frozen, loader, cache=None)


@cache
def drawn(per_class, seed):
    """The protocol's loader of newly drawn pictures: one pass makes 48 updates."""
    images, labels = map(torch.from_numpy, pictures("things", per_class, seed))
    images = get_weights("resnet18", "shapes").transforms()(images.permute(0, 3, 1, 2))
    dataset = TensorDataset(images, labels)
    return DataLoader(dataset, batch_sampler=freezing.FixedUpdatesSampler(len(labels)), generator=torch.Generator())


@cache
def held_out(seed):
    return DataLoader(drawn(40, 700 + seed).dataset, 64)


@cache
def shipped():
    return freezing.open_splits(settings(), 20)


def run(name, lr, seeds, train, test):
    """Accuracies on `test` after the protocol's 48 updates on `train`, one of each seed."""
    train, test = shown(name, train), shown(name, test)
    rows = sweep(lambda seed: start(name, seed), train, test, rates=[lr], seeds=seeds, epochs=1)
    return [row["val"] for row in rows]


def accuracy(name, seed, lr=None):
    return measured(name, seed, lr or RATES[name])


@cache
def measured(name, seed, lr):
    (found,) = run(name, lr, [seed], drawn(20, 600 + seed), held_out(seed))
    return found


def in_the_table(name, lr, split):
    """By seed; the seeds of a comparison are the same, so are the pictures."""
    return [row[split] for row in sorted(TABLE, key=lambda row: row["seed"]) if (row["configuration"], row["lr"]) == (name, lr)]


def test_head_only_beats_scratch_in_the_table():
    head, scratch = (in_the_table(name, RATES[name], "test") for name in ("head", "scratch"))
    ahead = [one - other for one, other in zip(head, scratch, strict=True)]
    assert len(ahead) == 5
    assert min(ahead) >= 0.2, ahead


@pytest.mark.parametrize("seed", SEEDS[:2])
def test_head_only_beats_scratch(seed):
    assert accuracy("head", seed) - accuracy("scratch", seed) >= 0.2


@pytest.mark.parametrize("seed", SEEDS)
def test_layer4_and_head_beat_head_only(seed):
    assert accuracy("layer4 + head", seed) - accuracy("head", seed) >= 0.07


@pytest.mark.parametrize(("lr", "winner", "loser", "by"), [(0.1, "head", "all", 0.04), (0.01, "all", "head", 0.1)])
def test_one_rate_for_all_picks_the_winner_in_the_table(lr, winner, loser, by):
    ahead = [one - other for one, other in zip(*(in_the_table(name, lr, "val")[:3] for name in (winner, loser)), strict=True)]
    assert len(ahead) == 3
    assert min(ahead) >= by, ahead


@pytest.mark.parametrize("seed", SEEDS[3:])
def test_one_rate_for_all_picks_the_winner(seed):
    """At 0.1 `all` is far behind `head`, at 0.01 it is far ahead."""
    assert accuracy("head", seed, 0.1) - accuracy("all", seed, 0.1) >= 0.04
    assert accuracy("all", seed, 0.01) - accuracy("head", seed, 0.01) >= 0.1


@pytest.mark.parametrize(("name", "split"), [("head", "val"), ("layer4 + head", "test")])
def test_the_live_runs_land_on_the_shipped_rows(name, split):
    """Cached features give what whole networks gave."""
    rows = [row for row in TABLE if (row["configuration"], row["lr"]) == (name, RATES[name])]
    mine = run(name, RATES[name], [r["seed"] for r in rows], shipped()["train"], shipped()[split])
    assert mine == pytest.approx([r[split] for r in rows], abs=0.03)


def test_a_shipped_row_can_be_made_again():
    """By the whole network, as the table was made."""
    name = "layer3–4 + head"
    (row,) = (r for r in TABLE if (r["configuration"], r["seed"]) == (name, 0) and r["test"] is not None)
    (found,) = sweep(
        lambda seed: freezing.start(name, settings(), 6, seed),
        shipped()["train"],
        shipped()["test"],
        rates=[row["lr"]],
        seeds=[row["seed"]],
        epochs=1,
    )
    assert found["val"] == pytest.approx(row["test"], abs=0.05)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_channel_becomes_a_house_detector(seed):
    """Chosen on train, it answers to new houses far more than to any other class, which it did not before."""
    model, train = freezing.start("layer4 + head", settings(), 6, seed), drawn(20, 600 + seed)
    images, labels = held_out(seed).dataset.tensors
    before = channels(model, images)
    kept = shown("layer4 + head", train)
    sweep(lambda _: split_frozen(model).learning, kept, kept, rates=[RATES["layer4 + head"]], seeds=[seed], epochs=1)
    channel = detector(channels(model, train.dataset.tensors[0]), train.dataset.tensors[1], HOUSE)
    after = channels(model, images)
    ahead = {}
    for name, answers in (("before", before), ("after", after)):
        means = [float(answers[labels == label, channel].mean()) for label in range(6)]
        ahead[name] = means.pop(HOUSE) - max(means)
    assert ahead["after"] >= 0.6, ahead
    assert ahead["after"] >= ahead["before"] + 0.3, ahead


def test_layer4_costs_less_than_half_of_all(monkeypatch):
    """A whole run, with caching and evaluation, by the processor's clock."""
    monkeypatch.setattr("time.perf_counter", time.process_time)
    took = {name: freezing.seconds_of_a_run(name, settings(), shipped()) for name in ("all", "layer4 + head", "head")}
    assert took["all"] >= 2 * took["layer4 + head"], took
    assert took["layer4 + head"] >= 2 * took["head"], took
