"""The comparison of lesson 06: its protocol in miniature, and the table that is shipped."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from statistics import mean

import pytest
import torch
from torchvision.transforms import v2

from course_utils import precompute, split_frozen, sweep, sweeps
from course_utils.experiments import freezing
from course_utils.images import Pictures
from course_utils.profiles import settings
from course_utils.rng import rng_state, same_rng_state
from course_utils.spread import Journal, complete, compute, packed

# ------------------------------------------------------------------------------------------------------- the protocol


def row(name: str, lr: float, seed: int, val: float) -> sweeps.Row:
    return {"per_class": 5, "configuration": name, "lr": lr, "seed": seed, "val": val, "test": None}


@pytest.fixture
def miniature(monkeypatch, plant, tmp_path):
    """Two classes of small pictures, two updates, two rates, two seeds; the table goes into a folder of its own."""
    for split in ("train", "val", "test"):
        plant(tmp_path / "few" / split, {"dark": 4, "light": 4})
    few = {"UPDATES": 2, "RATES": (0.01, 0.1), "LR_GRID": (0.01, 0.1), "SEEDS": (0, 1), "MORE_SEEDS": (2,), "AT_MOST": 3}
    few["FOLDER"] = tmp_path
    for name, value in few.items():
        monkeypatch.setattr(freezing, name, value)
    return settings(data=str(tmp_path / "few"))


def test_val_and_test_are_limited_and_train_is_as_asked(miniature):
    loaders = freezing.open_splits(miniature, per_class=2)
    assert {name: list(loader.dataset.labels) for name, loader in loaders.items()} == {
        "train": [0, 0, 1, 1],
        "val": [0, 0, 0, 1, 1, 1],
        "test": [0, 0, 0, 1, 1, 1],
    }
    images, labels = next(iter(loaders["val"]))
    assert images.shape == (6, 3, 64, 64)
    assert labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_one_pass_over_the_training_pictures_makes_all_updates(miniature):
    train = freezing.open_splits(miniature, per_class=2)["train"]
    assert len(train) == len(list(train)) == freezing.UPDATES


def test_nothing_else_draws_from_the_dice_that_make_the_order(miniature):
    """So that a seed gives the same order to every way of loading, and to the table that is shipped."""
    train = freezing.open_splits(miniature, per_class=2)["train"]
    for seed in range(5):
        torch.manual_seed(seed)
        wanted = [[train.dataset.labels[i] for i in batch] for batch in freezing.FixedUpdatesSampler(4)]
        torch.manual_seed(seed)
        assert [labels.tolist() for _, labels in train] == wanted


def test_the_pictures_are_in_memory(miniature):
    loaders = freezing.open_splits(miniature, per_class=2)
    shutil.rmtree(miniature.data)
    assert [sum(len(labels) for _, labels in loader) for loader in loaders.values()] == [8, 6, 6]


def test_the_limit_takes_the_first_of_each_class_wherever_they_stand(monkeypatch):
    monkeypatch.setattr(freezing, "AT_MOST", 2)

    pictures = Pictures([(Path(f"{i}.png"), label) for i, label in enumerate((1, 0, 1, 1, 0, 0))], v2.ToImage())
    assert list(freezing.at_most(pictures).indices) == [1, 4, 0, 2]


@pytest.mark.parametrize("count", [7, 32, 120, 2000])
def test_every_picture_is_shown_before_one_is_shown_again(count):
    batches = list(freezing.FixedUpdatesSampler(count))
    assert len(batches) == len(freezing.FixedUpdatesSampler(count)) == freezing.UPDATES
    assert max(map(len, batches)) == min(count, freezing.BATCH)
    shown = [i for batch in batches for i in batch]
    rounds = [sorted(shown[i : i + count]) for i in range(0, len(shown), count)]
    assert all(one == list(range(count)) for one in rounds[:-1])
    assert len(set(rounds[-1])) == len(rounds[-1])


def test_the_draws_follow_from_the_seed():
    draws, found = freezing.FixedUpdatesSampler(50), []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        found.append(list(draws))
    assert found[0] == found[1] != found[2]
    assert list(draws) != list(draws), "each pass is shuffled anew"


def test_configurations_differ_in_what_learns_and_in_nothing_else():
    models = {name: freezing.start(name, settings(), 3, seed=4) for name in freezing.LEARNS}
    for name, model in models.items():
        learns = {part for part, module in model.named_children() if any(p.requires_grad for p in module.parameters())}
        assert learns == set(freezing.LEARNS[name])
    head = models.pop("scratch").conv1.weight, models["head"].conv1.weight
    assert not torch.equal(*head)
    for model in models.values():
        for key, value in models["head"].state_dict().items():
            assert torch.equal(value, model.state_dict()[key]), key


def test_a_start_leaves_random_numbers_as_they_were():
    before = rng_state()
    freezing.start("head", settings(), 3, seed=4)
    assert same_rng_state(before, rng_state())


def compare(name: str, run, per_class: int) -> list[sweeps.Row]:
    """The rows of one configuration, made here."""
    asked = partial(freezing.wanted, per_class, name)
    known = complete(asked, partial(freezing.train_one, run), Journal())
    return freezing.rows_of(asked(known), known)


def test_a_comparison_opens_the_test_box_for_the_chosen_rate_only(miniature):
    rows = compare("head", miniature, per_class=2)
    (chosen,) = freezing.best_rates(rows).values()
    assert [(r["lr"], r["seed"]) for r in rows] == [
        (lr, seed) for lr in (0.01, 0.1) for seed in range(3 if lr == chosen else 2)
    ]
    assert all(list(r) == ["per_class", "configuration", "lr", "seed", "val", "test"] for r in rows)
    assert all((r["test"] is not None) == (r["lr"] == chosen) for r in rows)
    freezing.kept_splits.cache_clear()
    assert rows == compare("head", miniature, per_class=2)


def test_a_comparison_on_kept_features_is_the_same(miniature):
    """What lesson 06 does: the rows of its table, from the learning half alone."""
    loaders = freezing.open_splits(miniature, per_class=2)
    frozen, _ = split_frozen(freezing.start("head", miniature, 2, seed=0))
    kept = {name: precompute(frozen, loader, cache=None) for name, loader in loaders.items()}

    def measure(split, rates, seeds=(0, 1, 2)):
        def start(seed):
            return split_frozen(freezing.start("head", miniature, 2, seed)).learning

        rows = sweep(start, kept["train"], kept[split], rates=rates, seeds=seeds, epochs=1)
        return {(row["lr"], row["seed"]): row["val"] for row in rows}

    rows = compare("head", miniature, per_class=2)
    (chosen,) = freezing.best_rates(rows).values()
    vals = measure("val", freezing.RATES, freezing.SEEDS) | measure("val", [chosen])
    assert vals == {(r["lr"], r["seed"]): r["val"] for r in rows}
    assert measure("test", [chosen]) == {(r["lr"], r["seed"]): r["test"] for r in rows if r["test"] is not None}


def test_a_comparison_climbs_until_the_best_rate_lies_inside(miniature, monkeypatch):
    monkeypatch.setattr(freezing, "LR_GRID", (0.01, 0.1, 0.3, 1.0, 3.0))
    vals, known, asked = {0.01: 0.5, 0.1: 0.6, 0.3: 0.7, 1.0: 0.4}, {}, []
    while missing := [key for key in freezing.wanted(2, "head", known) if key not in known]:
        asked.append([(split, lr, seed) for split, _, _, lr, seed in missing])
        known |= {key: {"right": vals[key[3]]} for key in missing}
    assert asked == [
        [("val", 0.01, 0), ("val", 0.01, 1), ("val", 0.1, 0), ("val", 0.1, 1)],
        [("val", 0.3, 0), ("val", 0.3, 1)],
        [("val", 1.0, 0), ("val", 1.0, 1)],
        [("val", 0.3, 2), ("test", 0.3, 0), ("test", 0.3, 1), ("test", 0.3, 2)],
    ]
    rows = freezing.rows_of(freezing.wanted(2, "head", known), known)
    assert [r["lr"] for r in rows] == [0.01, 0.01, 0.1, 0.1, 0.3, 0.3, 0.3, 1.0, 1.0]
    assert [r["test"] for r in rows] == [None] * 4 + [0.7] * 3 + [None] * 2


def test_a_run_depends_on_no_other(miniature):
    """Whichever process makes it, and after which others: so runs may be spread over workers."""
    key = ("val", 2, "layer4 + head", 0.1, 1)
    first = freezing.train_one(miniature, *key)
    freezing.train_one(miniature, "val", 2, "head", 0.01, 0)
    torch.rand(3)
    assert compute(packed(partial(freezing.train_one, miniature)), key, threads=1, autocasts={}) == first


@pytest.fixture
def quick(miniature, monkeypatch):
    """Runs that take no time and are written down; the one named in `stop` is interrupted, once."""
    made, stop = [], []

    def pretend(run, *key):
        if key in stop:
            stop.remove(key)
            raise KeyboardInterrupt
        made.append(key)
        split, per_class, configuration, lr, seed = key
        return {"right": (seed + len(configuration) + 10 * lr) / 100 + (split == "test")}

    monkeypatch.setattr(freezing, "settings", lambda: miniature)
    monkeypatch.setattr(freezing, "train_one", pretend)
    return made, stop


def test_a_second_start_makes_the_runs_that_are_missing(miniature, quick, capsys):
    made, stop = quick
    freezing.main()
    path = freezing.table_path(miniature.data)
    whole, all_runs = path.read_bytes(), list(made)
    assert len(set(all_runs)) == len(all_runs) == 2 * 5 * (2 * 2 + 1 + 3)
    assert not path.with_suffix(".jsonl").exists(), "a finished table needs no journal, and the next one begins anew"

    made.clear()
    stop.append(all_runs[30])
    path.unlink()
    with pytest.raises(KeyboardInterrupt):
        freezing.main()
    assert not path.exists(), "a table is whole or not there"
    assert len(path.with_suffix(".jsonl").read_text().splitlines()) == 1 + 30
    freezing.main()
    assert sorted(made) == sorted(all_runs), "each run is made once"
    assert path.read_bytes() == whole
    assert "30 of 68 runs, 0 s" in capsys.readouterr().out.splitlines()


def test_the_table_has_all_cells_in_order(miniature, quick):
    freezing.main()
    rows = freezing.read_table(miniature.data)
    cells = list(dict.fromkeys((r["per_class"], r["configuration"]) for r in rows))
    assert cells == [(per_class, name) for per_class in freezing.PER_CLASS for name in freezing.LEARNS]


def test_a_journal_of_another_data_set_or_torch_is_refused(miniature, quick, monkeypatch):
    path = freezing.table_path(miniature.data).with_suffix(".jsonl")
    Journal(path, about={"data": "other"})
    with pytest.raises(ValueError, match=r"freezing-few\.jsonl holds other runs .* delete it"):
        freezing.main()


def test_a_table_survives_its_file(miniature):
    rows = [row("head", 0.01, 0, 0.5), row("layer3–4 + head", 0.003, 1, 0.25) | {"test": 0.75}]
    assert freezing.write_table(miniature.data, rows).name == "freezing-few.csv"
    assert freezing.read_table(miniature.data) == rows


def test_a_table_is_replaced_as_a_whole_or_not_at_all(miniature, monkeypatch):
    rows = [row("head", 0.01, 0, 0.5)]
    path = freezing.write_table(miniature.data, rows)

    def full(*_) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        freezing.write_table(miniature.data, rows * 2)
    assert freezing.read_table(miniature.data) == rows
    assert [other.name for other in path.parent.iterdir() if other.is_file()] == [path.name]


def test_a_table_that_nobody_has_made():
    assert freezing.read_table("eurosat") == []


def test_the_best_rate_is_best_in_the_mean():
    rows = [row("head", 0.1, seed, val) for seed, val in enumerate((0.9, 0.2, 0.2))]
    rows += [row("head", 0.01, seed, val) for seed, val in enumerate((0.5, 0.5, 0.6))]
    rows += [row("all", 0.1, 0, 0.4), row("all", 0.01, 0, 0.3)]
    assert freezing.best_rates(rows) == {"head": 0.01, "all": 0.1}
    assert freezing.best_rates([]) == {}


def test_rates_are_judged_by_the_seeds_that_all_of_them_have():
    rows = [row("head", 0.1, seed, val) for seed, val in enumerate((0.9, 0.9, 0.1, 0.1))]
    rows += [row("head", 0.01, seed, 0.8) for seed in (0, 1)]
    assert freezing.best_rates(rows) == {"head": 0.1}


def test_boxes_say_what_learns_and_how_much_of_all():
    rows = freezing.boxes(settings(), 6)
    assert [name.rpartition(", ")[0] for name in rows] == list(freezing.LEARNS)
    assert [name.rpartition(", ")[2] for name in rows] == ["100.00%", "0.03%", "75.11%", "93.89%", "100.00%"]
    assert list(rows["layer4 + head, 75.11%"].values()) == ["fixed"] * 4 + ["learns", "new"]
    assert set(next(iter(rows.values())).values()) == {"new"}


@pytest.mark.parametrize("name", ["head", "all"])
def test_the_seconds_of_a_run_count_everything(miniature, monkeypatch, capsys, name):
    """Each look at the clock is a second later: cutting and caching, each update, evaluating."""
    ticks = iter(range(100))
    monkeypatch.setattr(freezing.time, "perf_counter", lambda: next(ticks))
    monkeypatch.setattr(freezing, "train_one_epoch", lambda *_: None)
    monkeypatch.setattr(freezing, "evaluate", lambda *_: None)
    monkeypatch.setattr(freezing, "precompute", lambda frozen, loader, cache: loader)
    seconds = freezing.seconds_of_a_run(name, miniature, freezing.open_splits(miniature, per_class=2))
    assert seconds == 1 + freezing.UPDATES * 1 + 1
    assert capsys.readouterr().out == ""


def test_of_equal_rates_the_lowest():
    rows = [row("head", lr, 0, val) for lr, val in ((0.1, 0.50004), (0.01, 0.5), (0.03, 0.5), (0.003, 0.4))]
    assert freezing.best_rates(rows) == {"head": 0.01}


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
    assert tuple(freezing.next_rates([row("head", lr, 0, val) for lr, val in vals.items()])) == more


@pytest.mark.parametrize("per_class", freezing.PER_CLASS)
@pytest.mark.parametrize("name", freezing.LEARNS)
def test_the_shipped_table_is_complete(per_class, name):
    rows = [r for r in freezing.read_table("tiny") if (r["per_class"], r["configuration"]) == (per_class, name)]
    rates = sorted({r["lr"] for r in rows})
    (best,) = freezing.best_rates(rows).values()
    seeds = {lr: [*freezing.SEEDS, *(freezing.MORE_SEEDS if lr == best else ())] for lr in rates}
    assert [(r["lr"], r["seed"]) for r in rows] == [(lr, seed) for lr in rates for seed in seeds[lr]]
    assert set(freezing.RATES) <= set(rates)
    assert not freezing.next_rates(rows), "the best rate lies inside"


@pytest.mark.parametrize("per_class", freezing.PER_CLASS)
def test_the_shipped_table_opened_the_box_once(per_class):
    rows = [r for r in freezing.read_table("tiny") if r["per_class"] == per_class]
    best = freezing.best_rates(rows)
    for r in rows:
        assert (r["test"] is not None) == (r["lr"] == best[r["configuration"]])


@pytest.mark.parametrize("per_class", freezing.PER_CLASS)
def test_what_the_lesson_says_of_the_shipped_table(per_class):
    scores: dict[str, list[float]] = {}
    for r in freezing.read_table("tiny"):
        if r["per_class"] == per_class and r["test"] is not None:
            scores.setdefault(r["configuration"], []).append(r["test"])

    def gap(first: str, second: str) -> tuple[float, float]:
        return sweeps.interval([a - b for a, b in zip(scores[first], scores[second], strict=True)])

    assert gap("head", "scratch")[0] > 0
    assert gap("layer4 + head", "head")[0] > 0
    for more in ("layer3–4 + head", "all"):
        low, high = gap(more, "layer4 + head")
        assert low < 0 < high, "not distinguishable"
        assert gap(more, "head")[0] > 0


def test_what_the_lesson_says_of_head_against_all():
    """`all` wins eight of twelve; at 0.1 it always loses, and at 0.03 with seed 2."""
    rows = [r for r in freezing.read_table("tiny") if r["per_class"] == 20]
    vals = {(r["configuration"], r["lr"], r["seed"]): r["val"] for r in rows}
    lost = {(lr, seed) for lr in freezing.RATES for seed in freezing.SEEDS if vals["head", lr, seed] > vals["all", lr, seed]}
    assert lost == {(0.1, 0), (0.1, 1), (0.1, 2), (0.03, 2)}


def test_two_more_seeds_narrow_the_interval_of_all_against_layer4():
    """To less than half, and it still holds 0."""
    rows = [r for r in freezing.read_table("tiny") if r["per_class"] == 20 and r["test"] is not None]
    tests = {(r["configuration"], r["seed"]): r["test"] for r in rows}
    gaps = [tests["all", seed] - tests["layer4 + head", seed] for seed in (*freezing.SEEDS, *freezing.MORE_SEEDS)]
    (low, high), (few_low, few_high) = sweeps.interval(gaps), sweeps.interval(gaps[:3])
    assert few_low < low < 0 < high < few_high
    assert high - low < (few_high - few_low) / 2


def test_what_the_lesson_says_of_the_rates():
    """One rate does not suit all; the more of the pretrained network learns, the deeper it falls at 0.1."""
    rows = [r for r in freezing.read_table("tiny") if r["per_class"] == 20]
    assert freezing.best_rates(rows) == {
        "scratch": 0.003,
        "head": 0.03,
        "layer4 + head": 0.03,
        "layer3–4 + head": 0.01,
        "all": 0.01,
    }

    def fall(name: str) -> float:
        vals = {lr: mean(r["val"] for r in rows if (r["configuration"], r["lr"]) == (name, lr)) for lr in freezing.RATES}
        return max(vals.values()) - vals[0.1]

    falls = [fall(name) for name in ("head", "layer4 + head", "layer3–4 + head", "all")]
    assert falls == sorted(falls)
    assert sorted(r["val"] > 0.9 for r in rows if (r["configuration"], r["lr"]) == ("all", 0.03)) == [False, True, True]
