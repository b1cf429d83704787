"""The runs behind the slider below lesson 07, in miniature, and the table that ships."""

from __future__ import annotations

from statistics import mean

import pytest

from course_utils import settings
from course_utils.experiments import rates
from course_utils.experiments.two_phases import Bench, Runs


@pytest.fixture
def runs(plant, tmp_path, monkeypatch) -> Runs:
    """Phase one on two classes of small pictures; `start` gives it for every seed."""
    for split in ("train", "val", "test"):
        plant(tmp_path / "few" / split, {"dark": 5, "light": 5})
    runs = Runs(Bench(settings(data=str(tmp_path / "few"), batch_size=5), per_class=5), seed=0)
    monkeypatch.setattr(rates, "start", lambda run, seed: runs)
    return runs


def test_every_rate_goes_on_from_the_end_of_phase_one(runs, monkeypatch):
    monkeypatch.setattr(rates, "EPOCHS", 2)
    one, other = (rates.train_one(settings(), lr, 0) for lr in (1e-5, 1e-2))
    assert one["loss"][0] == other["loss"][0]
    assert one["val"][0] == other["val"][0] == runs.head["val"]
    assert one["loss"][1:] != other["loss"][1:], "another rate, another curve"
    assert len(one["loss"]) == len(one["val"]) == 3
    assert one == rates.train_one(settings(), 1e-5, 0), "phase one is not changed by what goes on from it"


def test_the_table_is_written_and_read(tmp_path, monkeypatch):
    monkeypatch.setattr(rates, "TABLE", tmp_path / "rates.csv")
    monkeypatch.setattr(rates, "train_one", lambda run, lr, seed: {"loss": [1.5, lr], "val": [0.5, 0.75]})
    rates.main()
    rows = rates.read_table()
    assert [path.name for path in tmp_path.iterdir()] == ["rates.csv"]
    assert len(rows) == 2 * len(rates.plan())
    assert rows[-1] == {"lr": 0.1, "seed": 4, "epoch": 1, "loss": 0.1, "val": 0.75}


def test_the_shipped_table_has_every_run_and_epoch():
    rows = rates.read_table()
    wanted = [(lr, seed, epoch) for lr, seed in rates.plan() for epoch in range(rates.EPOCHS + 1)]
    assert [(row["lr"], row["seed"], row["epoch"]) for row in rows] == wanted


def test_what_the_slider_shows_holds_for_every_seed():
    """Far too low a rate gets nowhere near the best; far too high a one breaks what phase one had, and has to climb back."""
    rows = rates.read_table()
    vals = {(row["lr"], row["seed"], row["epoch"]): row["val"] for row in rows}
    for seed in rates.SEEDS:
        assert vals[1e-5, seed, 10] < vals[3e-4, seed, 10] - 0.1
        assert vals[1e-1, seed, 1] < vals[1e-1, seed, 0] - 0.15
        assert vals[1e-1, seed, 10] > vals[1e-1, seed, 0], "ten epochs bring it back"
        assert vals[3e-4, seed, 1] > vals[3e-4, seed, 0]
    starts = {row["loss"] for row in rows if row["epoch"] == 0}
    assert len(starts) == len(rates.SEEDS), "the rates of a seed begin at one place"
    assert mean(row["val"] for row in rows if (row["lr"], row["epoch"]) == (0.1, 5)) < 0.7, "after the lesson's five, it is not"
