"""Lesson 09: when to use what, on the shipped tables of five seeds, on runs made again, and on the pictures of data/tiny."""

from functools import cache
from statistics import mean

import pytest
import torch

from course_utils.experiments import freezing, sizes
from course_utils.experiments.cached import nearest, right_by_neighbour
from course_utils.plots.choices import choose, gain, verdict
from course_utils.sweeps import interval

pytestmark = pytest.mark.claim
SEEDS = range(5)
PRETRAINED = ("head", "layer4 + head", "all")
CHANCE = 1 / 6


@cache
def curves(world, stop=sizes.EQUAL):
    """As the lesson reads a table: by configuration and size the test accuracies, seed by seed."""
    found = {}
    for row in sizes.read_table(world):
        if row["test"] is not None and row["stop"] == stop:
            found.setdefault(row["configuration"], {}).setdefault(row["per_class"], []).append(row["test"])
    return found


def gap(one, other):
    return [a - b for a, b in zip(one, other, strict=True)]


# ------------------------------------------------------------------------------------------------------- four curves


def test_small_data_head_only_falls_at_every_size():
    head, more = (curves("things")[name] for name in PRETRAINED[:2])
    for size in head:
        assert min(gap(more[size], head[size])) > 0, f"every seed, at {size} of each class"
        assert interval(gap(more[size], head[size]))[0] > 0


def test_it_falls_on_the_shipped_pictures_too():
    for size in freezing.PER_CLASS:
        rows = [row for row in freezing.read_table("tiny") if row["per_class"] == size and row["test"] is not None]
        by_name = {n: [row["test"] for row in rows if row["configuration"] == n] for n in (*PRETRAINED, "scratch")}
        assert interval(gap(by_name["layer4 + head"], by_name["head"]))[0] > 0
        low, high = interval(gap(by_name["all"], by_name["layer4 + head"]))
        assert low < 0 < high
        assert max(by_name["scratch"]) < min(by_name["head"])


def test_every_curve_rises():
    for world, names in (("things", (*PRETRAINED, "scratch")), ("spectra", PRETRAINED[:2]), ("tints", ("scratch",))):
        for name in names:
            means = [mean(scores) for _, scores in sorted(curves(world)[name].items())]
            assert means == sorted(means), (world, name)


def test_nobody_can_tell_all_from_layer4_until_50_of_each_class_and_then_by_a_hair():
    near = curves("things")
    for size in (5, 20):
        low, high = interval(gap(near["all"][size], near["layer4 + head"][size]))
        assert low < 0 < high
    lead = gap(near["all"][50], near["layer4 + head"][50])
    assert interval(lead)[0] > 0
    assert 0.005 < mean(lead) < 0.03
    for size, scores in curves("spectra")["all"].items():
        low, high = interval(gap(scores, curves("spectra")["layer4 + head"][size]))
        assert low < 0 < high


def test_scratch_is_below_every_pretrained_configuration_on_near_pictures():
    near = curves("things")
    for size, scores in near["scratch"].items():
        assert all(max(scores) < min(near[name][size]) for name in PRETRAINED)


@pytest.mark.parametrize(("name", "seeds", "off"), [("head", (0, 1), 0.006), ("layer4 + head", (0,), 0.02)])
def test_shipped_rows_can_be_made_again(name, seeds, off, monkeypatch):
    monkeypatch.setattr(sizes, "rounds_of", lambda *cell: 1)
    rows = [r for r in sizes.read_table("things") if r["configuration"] == name and r["stop"] == sizes.EQUAL]
    for row in (r for r in rows if r["test"] is not None and r["seed"] in seeds and r["per_class"] in (5, 20)):
        found = sizes.train_in_rounds("things", row["per_class"], name, row["lr"], row["seed"])
        assert found["test"][0] == pytest.approx(row["test"], abs=off)
        assert found["val"][0] == pytest.approx(row["val"], abs=2 * off)


# ----------------------------------------------------------------------------------------------------- two questions


def test_the_lead_shrinks_where_the_head_may_finish_and_stays_clear():
    equal, long = (curves("things", stop) for stop in (sizes.EQUAL, sizes.LONG))
    for size in long["layer4 + head"]:
        first, second = (gap(one["layer4 + head"][size], one["head"][size]) for one in (equal, long))
        assert interval(second)[0] > 0
        if size >= 20:
            assert mean(second) < 0.8 * mean(first)


def test_the_head_goes_on_learning_after_48_updates():
    equal, long = (curves("things", stop)["head"] for stop in (sizes.EQUAL, sizes.LONG))
    assert interval(gap(long[20], equal[20]))[0] > 0
    assert interval(gap(long[50], equal[50]))[0] > 0


# -------------------------------------------------------------------------------------------------------- far, twice


def test_what_looks_far_keeps_most_of_the_gain():
    assert gain(curves("spectra"), 20) > 0.75 * gain(curves("things"), 20)
    looks = curves("spectra")
    assert all(max(looks["scratch"][20]) < min(looks[name][20]) for name in PRETRAINED)


def test_where_the_label_is_ignored_scratch_wins():
    """Against frozen features five of five, which stay at chance at any rate; against `all` on most seeds."""
    tints = curves("tints")
    for size, scores in tints["scratch"].items():
        for name in PRETRAINED[:2]:
            assert min(gap(scores, tints[name][size])) > 0.4
            assert abs(mean(tints[name][size]) - CHANCE) < 0.03
        assert 0.2 < mean(gap(scores, tints["all"][size])) < 0.25
        assert sum(lead > 0.03 for lead in gap(scores, tints["all"][size])) >= 4
    assert mean(tints["scratch"][20]) > 0.88
    assert sizes.chosen("tints")["all", 20] == 30 * sizes.chosen("things")["all", 20] == 0.3


@pytest.mark.parametrize("seed", SEEDS)
def test_pretrained_neighbours_share_no_hue_and_pixels_do(seed):
    """Among the five nearest: by pretrained features as many of the class as by chance, by pixels twice as many or more."""
    train, test = (30, 100 + seed), (10, 200 + seed)
    shares = []
    for one in ("head", "scratch"):  # features, and the pictures themselves
        (known, labels), (new, truth) = (sizes.features("tints", one, *which) for which in (train, test))
        shares.append(float((labels[nearest([known, new])] == truth[:, None]).float().mean()))
    assert shares[0] < 0.24
    assert shares[1] > 0.33


@pytest.mark.parametrize("seed", SEEDS[:2])
def test_the_same_features_do_know_spectra(seed):
    known, new = (sizes.features("spectra", "head", *which) for which in ((30, 100 + seed), (10, 200 + seed)))
    assert right_by_neighbour([known[0], new[0]], [known[1], new[1]]) > 2 * CHANCE


def test_three_of_five_sentences_hold_somewhere_and_none_in_both_places():
    near, tints = curves("things"), curves("tints")
    things, spectra, hue = (gap(curves(w)["layer4 + head"][20], curves(w)["scratch"][20]) for w in sizes.WORLDS)
    places = [
        (gap(near["layer4 + head"][20], near["head"][20]), gap(tints["layer4 + head"][20], tints["head"][20])),
        (gap(near["layer4 + head"][5], near["scratch"][50]), gap(tints["layer4 + head"][20], tints["scratch"][5])),
        (things, hue),
        (gap(things, spectra), gap(hue, spectra)),
        tuple(gap(near["layer4 + head"][size], near["all"][size]) for size in (5, 50)),
    ]
    assert [[verdict(leads) == "holds" for leads in both] for both in places] == [[True, False]] * 3 + [[False, False]] * 2


# ---------------------------------------------------------------------------------------------------------- the map


def test_the_rule_of_exercise_2_regrets_little_and_the_usual_table_much():
    for world, right in (("things", "layer4 + head"), ("spectra", "layer4 + head"), ("tints", "scratch")):
        for size in (5, 20):
            scores = {name: found[size] for name, found in curves(world).items()}
            assert choose(scores, sizes.SECONDS) == right
            means = {name: mean(found) for name, found in scores.items()}
            assert max(means.values()) - means[right] < 0.07
            assert max(means.values()) - means["head"] > 0.12


def test_the_prices_are_those_of_lesson_6(tmp_path):
    """Of a run on one core, as lesson 06 counts them: their ratios, as machines differ."""
    torch.set_num_threads(1)
    loaders = freezing.open_splits(sizes.RUN, 20)
    seconds = {name: freezing.seconds_of_a_run(name, sizes.RUN, loaders) for name in ("head", "layer4 + head", "all")}
    assert 2 < seconds["layer4 + head"] / seconds["head"] < 10
    assert 1.7 < seconds["all"] / seconds["layer4 + head"] < 5
