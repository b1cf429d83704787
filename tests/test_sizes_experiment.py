"""The comparison of lesson 09: its protocol with stand-ins for the runs, one in miniature, and the tables that are shipped."""

from __future__ import annotations

import pytest
import torch

from course_utils.experiments import sizes
from course_utils.experiments.freezing import best_rate
from course_utils.rng import rng_state, same_rng_state

CELL = ("spectra", 20, "head")


def stand_in(best: float, *, low: float = 0.5):
    """Runs whose accuracy falls with the distance to the rate `best`."""

    def run(world: str, per_class: int, configuration: str, lr: float, seed: int) -> dict:
        place, wanted = sizes.LR_GRID.index(lr), sizes.LR_GRID.index(best)
        first = low + 0.4 * (low > sizes.LEARNT) - 0.05 * abs(place - wanted) + 0.001 * seed
        later = first + 0.1 * (configuration == "head")
        return {"val": [first, later, first, first], "test": [first - 0.1, later - 0.1, 0.0, 0.0]}

    return run


def made(cell: sizes.Cell, run) -> dict:
    return made_with(cell, {}, run)


def made_with(cell: sizes.Cell, before: dict, run) -> dict:
    known = dict(before)
    while missing := [key for key in sizes.wanted(cell, known) if key not in known]:
        known |= {key: run(*key) for key in missing}
    return known


@pytest.mark.parametrize(("best", "tried"), [(0.03, 3), (0.01, 4), (0.003, 5), (0.1, 4)])
def test_the_best_rate_is_not_the_first_or_the_last(best, tried):
    known = made(CELL, stand_in(best))
    rates, chosen = sizes.tried(CELL, sizes.EQUAL, known)
    assert (len(rates), chosen) == (tried, best)
    assert rates[0] < chosen < rates[-1]
    seeds = {lr: [key[-1] for key in known if key[-2] == lr] for lr in rates}
    assert all(sorted(found) == list(sizes.SEEDS if lr == chosen else sizes.SEARCH) for lr, found in seeds.items())


def test_an_edge_is_followed_six_rates_at_most():
    assert len(sizes.tried(CELL, sizes.EQUAL, made(CELL, stand_in(0.0001)))[0]) == sizes.MOST_RATES


def test_where_nothing_is_learnt_higher_rates_are_tried():
    """At chance, noise chooses, also a rate that is neither the first nor the last."""
    assert sizes.tried(CELL, sizes.EQUAL, made(CELL, stand_in(0.03, low=0.2)))[0] == [0.01, 0.03, 0.1, 0.3, 1.0]
    dear = ("things", 5, "all")
    known = made(("things", 20, "all"), stand_in(0.03))
    assert sizes.tried(dear, sizes.EQUAL, known | made_with(dear, known, stand_in(0.03, low=0.2)))[0] == [0.03, 0.1, 0.3, 1.0]


def test_what_is_dear_begins_with_the_rate_that_was_best_in_the_middle():
    cell = ("things", 5, "all")
    assert sizes.wanted(cell, {}) == [], "not before the middle is known"
    known = made(("things", 20, "all"), stand_in(0.003))
    assert {key[3] for key in sizes.wanted(cell, known)} == {0.003, 0.01}
    assert {key[3:] for key in sizes.wanted(("things", 50, "all"), known)} == {(0.003, seed) for seed in sizes.SEEDS}


def test_rows_tell_the_test_at_the_chosen_rate_only():
    known = made(CELL, stand_in(0.03))
    rows = list(sizes.rows_of(CELL, known))
    assert len(rows) == 2 + 5 + 2
    assert {row["lr"] for row in rows if row["test"] is not None} == {0.03}
    assert all(row["updates"] == 48 for row in rows)


def test_two_questions_take_two_places_of_a_run():
    run = {"val": [0.5, 0.7, 0.7, 0.6], "test": [0.4, 0.6, 0.9, 0.9]}
    assert sizes.reached(run, sizes.EQUAL) == (48, 0.5, 0.4)
    assert sizes.reached(run, sizes.LONG) == (96, 0.7, 0.6)
    assert [sizes.stopped(vals) for vals in ([], [0.5], [0.5, 0.4], [0.5, 0.4, 0.5], [0.5, 0.6, 0.6])] == [False] * 3 + [
        True,
        False,
    ]


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(sizes, "drawing", lambda split, seed: ({"train": 3, "val": 1, "test": 1}[split], seed))
    for one in (sizes.drawn, sizes.features):
        one.cache_clear()
    yield
    for one in (sizes.drawn, sizes.features):
        one.cache_clear()


def test_smaller_sets_are_part_of_larger_ones(small):
    few, more = (sizes.loaders("tints", count, "scratch", 0)["train"].dataset.tensors for count in (1, 2))
    assert (few[0].shape, more[1].tolist()) == ((6, 3, 64, 64), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5])
    assert torch.equal(few[0], more[0][::2])


def test_a_run_can_be_made_again_and_draws_from_its_seed_only(small, monkeypatch):
    monkeypatch.setattr(sizes, "rounds_of", lambda *cell: 2)
    first = sizes.train_in_rounds("tints", 2, "head", 0.03, 0)
    assert first == sizes.train_in_rounds("tints", 2, "head", 0.03, 0)
    assert len(first["val"]) == len(first["test"]) == 2
    before = rng_state()
    sizes.drawn("things", 1, 0)
    assert same_rng_state(before, rng_state())


def test_tables_are_written_and_read(tmp_path, monkeypatch):
    monkeypatch.setattr(sizes, "FOLDER", tmp_path)
    monkeypatch.setattr(sizes, "SIZES", {"spectra": {"head": (5, 20)}})
    monkeypatch.setattr(sizes, "WORLDS", {"spectra": None})
    runs = []

    def run(*key):
        runs.append(key)
        return stand_in(0.03)(*key)

    monkeypatch.setattr(sizes, "train_in_rounds", run)
    sizes.main()
    rows = sizes.read_table("spectra")
    assert len(rows) == len(runs) == 18
    assert [row["per_class"] for row in rows] == sorted(row["per_class"] for row in rows)
    assert [path.name for path in tmp_path.iterdir()] == ["sizes-spectra.csv"]


# ------------------------------------------------------------------------------------------------- the shipped tables


@pytest.mark.parametrize("world", sizes.WORLDS)
def test_the_shipped_table_is_complete_and_keeps_the_protocol(world):
    rows = sizes.read_table(world)
    cells = {(row["per_class"], row["configuration"], row["stop"]) for row in rows}
    assert cells == {(*cell[1:], question) for cell in sizes.cells(world) for question in sizes.questions(cell)}
    for per_class, name, stop in cells:
        mine = [row for row in rows if (row["per_class"], row["configuration"], row["stop"]) == (per_class, name, stop)]
        tested = [row for row in mine if row["test"] is not None]
        assert [row["seed"] for row in tested] == list(sizes.SEEDS)
        vals: dict = {}
        for row in mine:
            if row["seed"] in sizes.SEARCH:
                vals.setdefault(row["lr"], {})[row["seed"]] = row["val"]
        assert {row["lr"] for row in tested} == {best_rate(vals)}
