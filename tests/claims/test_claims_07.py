"""Lesson 07: two phases and their rates, in the shipped table of five seeds, and on new draws of pictures.

The runs of `layer4` take their time: on new draws each claim has one rate, and the shipped table has the whole hill.
`test_shipped_rows_can_be_made_again` answers for the table.
"""

from __future__ import annotations

import copy
from functools import cache
from statistics import mean

import pytest
import torch
from torch.optim import Adam
from torch.utils.data import DataLoader, TensorDataset

from course_utils import evaluate, fit, lr_range_test, pictures, settings, steepest_rate, train_one_epoch, unfreeze
from course_utils.experiments import two_phases
from course_utils.experiments.two_phases import RATES, SEEDS, Bench, differences, hold_statistics, statistics_again
from course_utils.sweeps import interval

pytestmark = pytest.mark.claim
TABLE = two_phases.read_table("tiny")
GOOD = (0.0001, 0.0003, 0.001, 0.003)


def column(recipe, lr, what="val", per_class=20):
    """By seed."""
    found = [row[what] for row in TABLE if (row["per_class"], row["recipe"], row["lr"]) == (per_class, recipe, lr)]
    assert len(found) == 5
    return found


def apart(one, other):
    return [a - b for a, b in zip(one, other, strict=True)]


LEVEL = column("head", 0.001)
AS_TRAINED = {lr: column("two phases", lr) for lr in RATES}
TOPS = [max(vals[seed] for vals in AS_TRAINED.values()) for seed in SEEDS]

# ------------------------------------------------------------------------------------------------ the shipped table


def test_the_recipe_keeps_its_promise():
    assert min(apart(AS_TRAINED[0.0001], LEVEL)) >= 0.18


@pytest.mark.parametrize("lr", GOOD)
def test_phase_two_pays_over_a_wide_range_of_rates(lr):
    assert min(apart(AS_TRAINED[lr], LEVEL)) >= 0.17


def test_the_hill_has_its_top_inside():
    means = {lr: mean(vals) for lr, vals in AS_TRAINED.items()}
    assert max(means, key=means.__getitem__) == two_phases.RATE
    assert means[two_phases.RATE] >= means[0.0001] >= means[1e-5] + 0.1
    assert means[two_phases.RATE] >= means[0.01] >= means[0.1] + 0.1


@pytest.mark.parametrize(("lr", "least"), [(0.03, 0.02), (0.1, 0.07)])
def test_statistics_measured_again_give_much_of_the_fall_back(lr, least):
    assert min(apart(column("two phases", lr, "again"), AS_TRAINED[lr])) >= least


def test_at_a_tenth_more_than_a_third_of_the_fall_comes_back():
    falls = apart(TOPS, AS_TRAINED[0.1])
    back = apart(column("two phases", 0.1, "again"), AS_TRAINED[0.1])
    assert min(one / fall for one, fall in zip(back, falls, strict=True)) > 1 / 3


def test_at_a_hundredth_nearly_all_of_it_comes_back():
    assert mean(column("two phases", 0.01, "again")) >= mean(TOPS) - 0.02
    assert mean(AS_TRAINED[0.01]) <= mean(TOPS) - 0.07


def test_at_a_tenth_two_of_five_seeds_still_gain():
    gains = apart(AS_TRAINED[0.1], LEVEL)
    assert [gain > 0 for gain in gains] == [False, False, True, True, False]
    assert min(gains) == gains[0], "the page draws the unluckiest seed"


def test_with_held_statistics_there_is_a_cliff():
    assert max(apart(column("statistics held", 0.1), LEVEL)) <= -0.15
    assert max(apart(column("statistics held", 0.01), AS_TRAINED[0.01])) <= -0.15
    assert min(apart(column("statistics held", 0.0003), LEVEL)) >= 0.15, "and at a good rate there is none"


def test_rates_do_not_travel():
    adam, sgd = column("two phases", 0.001), column("SGD", 0.001)
    assert max(apart(sgd, adam)) <= -0.1
    means = {lr: mean(column("SGD", lr)) for lr in RATES[2:]}
    assert max(means, key=means.__getitem__) == 0.03
    assert max(map(abs, apart(column("SGD, summed loss", 0.001), column("SGD", 0.03)))) <= 0.03, "32 times the gradient"
    assert max(map(abs, apart(column("Adam, summed loss", 0.001), adam))) <= 0.03


@pytest.mark.parametrize("per_class", [20, 5])
def test_a_long_head_harms_and_the_rest_cannot_be_told(per_class):
    gaps = {one: values for (one, _), values in differences(TABLE, per_class).items()}
    least = {20: 0.04, 5: 0.11}[per_class]
    assert max(gaps.pop("long head")) <= -least
    assert set(gaps) >= {"all at once"}
    for values in gaps.values():
        low, high = interval(values)
        assert low < 0 < high, gaps


@cache
def shipped():
    """On which nobody opens test."""
    found = Bench(settings())
    found.pictures["test"] = found.pictures["val"]
    return found


def test_a_shipped_row_can_be_made_again():
    key = (20, "two phases", 0.1, 3)
    (wanted,) = (row for row in TABLE if tuple(row[name] for name in two_phases.KEY) == key)
    runs = two_phases.Runs(shipped(), seed=3)
    found = two_phases.RECIPES["two phases"](runs, 0.1)
    assert [found[name] for name in ("val", "again")] == pytest.approx([wanted[name] for name in ("val", "again")], abs=0.06)


# ------------------------------------------------------------------------------------------------- new draws of pictures


class Drawn(Bench):
    """The bench on pictures drawn anew."""

    def __init__(self, seed):
        self.run, self.cached = settings(), {}
        splits = {name: self.draw(count, number + seed) for name, count, number in (("train", 20, 100), ("val", 15, 200))}
        self.classes = range(6)
        shuffled = DataLoader(splits["train"], 32, shuffle=True, generator=torch.Generator())
        self.pictures = {"train": shuffled, "val": DataLoader(splits["val"], 64)}

    def draw(self, per_class, seed):
        images, labels = map(torch.from_numpy, pictures("things", per_class, seed))
        return TensorDataset(self.transform(images.permute(0, 3, 1, 2)), labels)


@cache
def bench(seed):
    return Drawn(seed)


@cache
def phase_one(seed):
    """The state of a model and its accuracy on val."""
    model = bench(seed).start(seed)
    half, train, val = bench(seed).cut(model, seed)
    history = fit(half, train, val, Adam(model.fc.parameters(), lr=0.001), epochs=5)
    return copy.deepcopy(model.state_dict()), history[-1].val.accuracy


def phase_two(seed, lr, held=False):
    """The model, its learning half, what that sees of train and val, and the accuracy on val."""
    model = bench(seed).start(seed, phase_one(seed)[0])
    unfreeze(model.layer4)
    if held:
        hold_statistics(model)
    half, train, val = bench(seed).cut(model, seed)
    optimizer = Adam([p for p in model.parameters() if p.requires_grad], lr=lr)
    for _ in range(5):
        train_one_epoch(half, train, optimizer)
    return model, half, train, val, evaluate(half, val).accuracy


@pytest.mark.parametrize("seed", SEEDS)
def test_at_a_hundredth_the_features_are_there(seed):
    _, half, train, val, as_trained = phase_two(seed, 0.01)
    statistics_again(half, train)
    assert evaluate(half, train).accuracy >= 0.985
    assert evaluate(half, val).accuracy >= as_trained - 0.02


def test_at_a_tenth_there_is_a_set_of_pictures_where_nothing_comes_back():
    _, half, train, val, as_trained = phase_two(0, 0.1)
    statistics_again(half, train)
    assert evaluate(half, val).accuracy <= as_trained + 0.05


@pytest.mark.parametrize("seed", SEEDS[:3])
def test_with_held_statistics_a_high_rate_kills_most_maps(seed):
    model, *_, accuracy = phase_two(seed, 0.1, held=True)
    images = torch.stack([image for image, _ in bench(seed).pictures["val"].dataset])
    dead = (two_phases.maps(model, images).amax((0, 2, 3)) == 0).float().mean()
    assert accuracy <= phase_one(seed)[1] - 0.2
    assert dead >= 0.7


def test_an_optimizer_of_phase_one_lets_layer4_only_drift():
    seed = 0
    model = bench(seed).start(seed, phase_one(seed)[0])
    optimizer = Adam(model.fc.parameters(), lr=0.0001)
    unfreeze(model.layer4)
    half, train, val = bench(seed).cut(model, seed)
    before = copy.deepcopy(model.state_dict())
    train_one_epoch(half, train, optimizer)
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.rpartition(".")[2] for name in moved if name.startswith("layer4")} == {
        "running_mean",
        "running_var",
        "num_batches_tracked",
    }
    assert abs(evaluate(half, val).accuracy - phase_one(seed)[1]) <= 0.1


def test_a_range_test_points_at_the_top_of_the_hill():
    """On the shipped pictures, from the end of phase one."""
    one = shipped()
    model = one.start()
    half, train, val = one.cut(model)
    fit(half, train, val, Adam(model.fc.parameters(), lr=0.001), epochs=5)
    model = one.start(state=model.state_dict())
    unfreeze(model.layer4)
    half, train, _ = one.cut(model)
    found = lr_range_test(half, train, lambda params, lr: Adam(params, lr=lr), low=1e-6, batches=40)
    lowest = min(range(len(found.rates)), key=found.smoothed.__getitem__)
    assert steepest_rate(found.rates, found.losses) == pytest.approx(0.0002, rel=0.5)
    assert found.rates[lowest] / 10 == pytest.approx(0.0007, rel=0.5)


def test_a_tenth_of_the_lowest_point_may_be_too_high():
    """The worst of five seeds for that habit; there the steepest point does well."""
    seed = 3
    runs = two_phases.Runs(shipped(), seed=seed)
    model = shipped().start(seed, runs.state)
    unfreeze(model.layer4)
    half, train, _ = shipped().cut(model, seed)
    found = lr_range_test(half, train, lambda params, lr: Adam(params, lr=lr), low=1e-6, batches=40)
    lowest = min(range(len(found.rates)), key=found.smoothed.__getitem__)
    rates = steepest_rate(found.rates, found.losses), found.rates[lowest] / 10
    steepest, tenth = (runs.after_head(two_phases.adam(lr), two_phases.LAST)["val"] for lr in rates)
    assert steepest >= TOPS[seed] - 0.05
    assert tenth <= TOPS[seed] - 0.07
