"""The comparison of lesson 06: its protocol in miniature, what a table says, and the table that is shipped."""

from __future__ import annotations

from statistics import mean

import pytest
import torch

from course_utils import sweeps
from course_utils.profiles import settings


def row(name: str, lr: float, seed: int, val: float) -> sweeps.Row:
    return {"per_class": 5, "configuration": name, "lr": lr, "seed": seed, "val": val, "test": None}


@pytest.fixture
def miniature(monkeypatch, plant, tmp_path):
    """Two classes of small pictures, two updates, one rate, two seeds; the table goes into a folder of its own."""
    for split in ("train", "val", "test"):
        plant(tmp_path / "few" / split, {"dark": 4, "light": 4})
    few = {"UPDATES": 2, "RATES": (0.01, 0.1), "LADDER": (0.01, 0.1), "SEEDS": (0, 1), "AT_MOST": 3, "FOLDER": tmp_path}
    for name, value in few.items():
        monkeypatch.setattr(sweeps, name, value)
    return settings(data=str(tmp_path / "few"))


def test_val_and_test_are_limited_and_train_is_as_asked(miniature):
    splits = sweeps.load_splits(miniature, per_class=2)
    assert {name: labels.tolist() for name, (_, labels) in splits.items()} == {
        "train": [0, 0, 1, 1],
        "val": [0, 0, 0, 1, 1, 1],
        "test": [0, 0, 0, 1, 1, 1],
    }
    assert splits["train"][0].shape == (4, 3, 64, 64)


def test_every_picture_is_shown_before_one_is_shown_again():
    for count in (7, 32, 120):
        draws = sweeps.draws(count)
        assert len(draws) == sweeps.UPDATES
        shown = torch.cat(draws)
        epoch = shown[:count]
        assert sorted(epoch.tolist()) == list(range(count))
        assert max(map(len, draws)) <= sweeps.BATCH


def test_configurations_differ_in_what_learns_and_in_nothing_else():
    models = {name: sweeps.start(name, settings(), 3, seed=4) for name in sweeps.LEARNS}
    for name, model in models.items():
        learns = {part for part, module in model.named_children() if any(p.requires_grad for p in module.parameters())}
        assert learns == set(sweeps.LEARNS[name])
    head = models.pop("scratch").conv1.weight, models["head"].conv1.weight
    assert not torch.equal(*head)
    for model in models.values():
        for key, value in models["head"].state_dict().items():
            assert torch.equal(value, model.state_dict()[key]), key


def test_a_sweep_opens_the_test_box_for_the_chosen_rate_only(miniature):
    rows = sweeps.sweep("head", miniature, per_class=2)
    assert [(r["lr"], r["seed"]) for r in rows] == [(0.01, 0), (0.01, 1), (0.1, 0), (0.1, 1)]
    (chosen,) = sweeps.best_rates(rows).values()
    assert all((r["test"] is not None) == (r["lr"] == chosen) for r in rows)
    again = sweeps.sweep("head", miniature, per_class=2)
    assert rows == again


def test_a_table_survives_its_file(miniature):
    rows = [row("head", 0.01, 0, 0.5), row("layer3–4 + head", 0.003, 1, 0.25) | {"test": 0.75}]
    assert sweeps.write_table(miniature.data, rows).name == "freezing-few.csv"
    assert sweeps.read_table(miniature.data) == rows


def test_a_table_that_nobody_has_made():
    assert sweeps.read_table("eurosat") == []


def test_the_best_rate_is_best_in_the_mean():
    rows = [row("head", 0.1, seed, val) for seed, val in enumerate((0.9, 0.2, 0.2))]
    rows += [row("head", 0.01, seed, val) for seed, val in enumerate((0.5, 0.5, 0.6))]
    rows += [row("all", 0.1, 0, 0.4), row("all", 0.01, 0, 0.3)]
    assert sweeps.best_rates(rows) == {"head": 0.01, "all": 0.1}
    assert sweeps.best_rates([]) == {}


def test_of_equal_rates_the_lowest():
    rows = [row("head", lr, 0, val) for lr, val in ((0.1, 0.50004), (0.01, 0.5), (0.03, 0.5), (0.003, 0.4))]
    assert sweeps.best_rates(rows) == {"head": 0.01}


@pytest.mark.parametrize(
    ("vals", "more"),
    [
        ({0.003: 0.5, 0.01: 0.6, 0.03: 0.5}, ()),
        ({0.003: 0.7, 0.01: 0.6}, (0.001,)),
        ({0.01: 0.6, 0.03: 0.7}, (0.1,)),
        ({1.0: 0.7, 0.3: 0.6}, ()),
        ({0.0001: 0.7, 0.0003: 0.6}, ()),
    ],
)
def test_where_the_best_rate_is_at_the_end_more_are_tried(vals, more):
    assert tuple(sweeps.beyond([row("head", lr, 0, val) for lr, val in vals.items()])) == more


def test_an_interval():
    low, high = sweeps.interval([0.1, 0.2, 0.3])
    assert (low, high) == pytest.approx((0.2 - 4.30 * 0.1 / 3**0.5, 0.2 + 4.30 * 0.1 / 3**0.5))
    assert sweeps.interval([0.5, 0.5]) == (0.5, 0.5)


def test_how_often_an_interval_contains_the_truth():
    """95 of 100, with 3 values as with 10: that is what the factors are for."""
    generator = torch.Generator().manual_seed(1)
    for count in sweeps.T95:
        samples = torch.randn(4000, count, generator=generator, dtype=torch.float64).tolist()
        hits = sum(low <= 0 <= high for low, high in map(sweeps.interval, samples))
        assert hits / 4000 == pytest.approx(0.95, abs=0.012), count


def test_two_standard_errors_are_too_few_for_three_values():
    samples = torch.randn(4000, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    errors = samples.mean(1).abs() / (samples.std(1) / 3**0.5)
    assert (errors > 1.96).double().mean().item() == pytest.approx(0.19, abs=0.02), "a winner in about every fifth pair"


@pytest.mark.parametrize("values", [[], [0.5], [0.5] * 11])
def test_no_interval(values):
    with pytest.raises(ValueError, match=rf"{len(values)} value\(s\); an interval for the mean takes 2 to 10 of them"):
        sweeps.interval(values)


@pytest.mark.parametrize("per_class", sweeps.PER_CLASS)
@pytest.mark.parametrize("name", sweeps.LEARNS)
def test_the_shipped_table_is_complete(per_class, name):
    rows = [r for r in sweeps.read_table("tiny") if (r["per_class"], r["configuration"]) == (per_class, name)]
    rates = sorted({r["lr"] for r in rows})
    assert [(r["lr"], r["seed"]) for r in rows] == [(lr, seed) for lr in rates for seed in sweeps.SEEDS]
    assert set(sweeps.RATES) <= set(rates)
    assert not sweeps.beyond(rows), "the best rate lies inside"


@pytest.mark.parametrize("per_class", sweeps.PER_CLASS)
def test_the_shipped_table_opened_the_box_once(per_class):
    rows = [r for r in sweeps.read_table("tiny") if r["per_class"] == per_class]
    best = sweeps.best_rates(rows)
    for r in rows:
        assert (r["test"] is not None) == (r["lr"] == best[r["configuration"]])


@pytest.mark.parametrize("per_class", sweeps.PER_CLASS)
def test_what_the_lesson_says_of_the_shipped_table(per_class):
    scores: dict[str, list[float]] = {}
    for r in sweeps.read_table("tiny"):
        if r["per_class"] == per_class and r["test"] is not None:
            scores.setdefault(r["configuration"], []).append(r["test"])

    def gap(first: str, second: str) -> tuple[float, float]:
        return sweeps.interval([a - b for a, b in zip(scores[first], scores[second], strict=True)])

    assert gap("head", "scratch")[0] > 0
    assert gap("layer4 + head", "head")[0] > 0
    for more in ("layer3–4 + head", "all"):
        low, high = gap(more, "layer4 + head")
        assert low < 0 < high, "not distinguishable"


def test_what_the_lesson_says_of_the_rates():
    """One rate does not suit all; the more of the pretrained network learns, the deeper it falls at 0.1."""
    rows = [r for r in sweeps.read_table("tiny") if r["per_class"] == 20]
    assert sweeps.best_rates(rows) == {
        "scratch": 0.003,
        "head": 0.03,
        "layer4 + head": 0.03,
        "layer3–4 + head": 0.01,
        "all": 0.01,
    }

    def fall(name: str) -> float:
        vals = {lr: mean(r["val"] for r in rows if (r["configuration"], r["lr"]) == (name, lr)) for lr in sweeps.RATES}
        return max(vals.values()) - vals[0.1]

    falls = [fall(name) for name in ("head", "layer4 + head", "layer3–4 + head", "all")]
    assert falls == sorted(falls)
    assert sorted(r["val"] > 0.9 for r in rows if (r["configuration"], r["lr"]) == ("all", 0.03)) == [False, True, True]
