"""The bench of lesson 07 and its table, in miniature."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from course_utils import fit, settings, unfreeze
from course_utils.experiments import two_phases
from course_utils.experiments.two_phases import Bench, Runs, differences, plan, read_table, statistics_again, write_table


@pytest.fixture
def bench(plant, tmp_path) -> Bench:
    """Two classes of small pictures, in a folder of its own."""
    for split in ("train", "val", "test"):
        plant(tmp_path / "few" / split, {"dark": 5, "light": 5})
    return Bench(settings(data=str(tmp_path / "few"), batch_size=5), per_class=5)


def test_a_seed_makes_the_head_and_a_state_brings_its_own(bench):
    one, same, other = bench.start(1), bench.start(1), bench.start(2)
    assert torch.equal(one.fc.weight, same.fc.weight)
    assert not torch.equal(one.fc.weight, other.fc.weight)
    assert torch.equal(bench.start(2, one.state_dict()).fc.weight, one.fc.weight)
    assert {name.partition(".")[0] for name, p in one.named_parameters() if p.requires_grad} == {"fc"}


def test_cached_features_are_of_a_model_that_nobody_trains(bench):
    """Phase one's features stay valid for the next model although `layer4` of the first has learnt."""
    model = bench.start()
    bench.cut(model)
    unfreeze(model.layer4)
    half, train, val = bench.cut(model)
    fit(half, train, val, torch.optim.SGD(half.parameters(), lr=0.01), epochs=1)
    half, train, val = bench.cut(bench.start())
    first, again = ([labels.tolist() for _, labels in train] for _ in range(2) if bench.cut(bench.start()))
    assert first == again, "the seed decides the order"
    assert len(bench.cached) == 4, "train and val, cut in two places"


def test_statistics_are_measured_again_as_a_plain_mean():
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm2d(2), nn.BatchNorm2d(2).eval()).train()
    model[1].eval()
    model[0].running_mean += 7
    before = model[1].running_mean.clone()
    batches = [(torch.randn(4, 2, 3, 3) + 1, torch.zeros(4)) for _ in range(3)]
    statistics_again(model, batches)
    means = torch.stack([images.mean((0, 2, 3)) for images, _ in batches])
    assert torch.allclose(model[0].running_mean, means.mean(0), atol=1e-6)
    assert torch.equal(model[1].running_mean, before)
    assert (model[0].momentum, int(model[0].num_batches_tracked)) == (0.1, 3)


def test_recipes_run_from_where_they_say(bench, monkeypatch):
    monkeypatch.setattr(two_phases, "EPOCHS", 1)
    runs = Runs(bench, seed=0)
    assert runs.phase == 2, "twenty updates, whatever the pictures: here four, in two epochs of two batches"
    rows = {
        name: recipe(runs, 0.001) for name, recipe in two_phases.RECIPES.items() if name in ("two phases", "stage by stage")
    }
    assert all(set(row) == {"train", "val", "test", "again"} for row in rows.values())
    assert all(0 <= value <= 1 for row in rows.values() for value in row.values())


def test_the_table_is_written_and_read(monkeypatch, tmp_path):
    monkeypatch.setattr(two_phases, "FOLDER", tmp_path)
    row = {"per_class": 5, "recipe": "long head", "lr": 0.0003, "seed": 1, "train": 1.0, "val": 0.5, "test": 0.25, "again": 0.5}
    assert read_table("tiny") == []
    write_table("tiny", [row])
    assert read_table("tiny") == [row]


def test_stopped_and_begun_again_the_table_is_made_once(monkeypatch, tmp_path):
    made: list[tuple] = []

    def train_one(run, *key):
        made.append(key)
        if len(made) == 3:
            raise KeyboardInterrupt
        return dict.fromkeys(two_phases.SHARES, 0.5)

    monkeypatch.setattr(two_phases, "FOLDER", tmp_path)
    monkeypatch.setattr(two_phases, "train_one", train_one)
    with pytest.raises(KeyboardInterrupt):
        two_phases.main()
    two_phases.main()
    assert made == [*plan()[:3], *plan()[2:]]
    assert keys(read_table("tiny")) == plan()
    assert [path.name for path in tmp_path.iterdir()] == ["two-phases-tiny.csv"]


def keys(rows):
    return [tuple(row[name] for name in two_phases.KEY) for row in rows]


def test_the_shipped_table_is_whole():
    assert keys(read_table("tiny")) == plan()


def test_differences_are_of_one_seed():
    rows = [
        {"per_class": 20, "recipe": name, "lr": lr, "seed": seed, "test": test + 0.01 * seed}
        for name, lr, test in (("two phases", 0.0003, 0.5), ("all at once", 0.0003, 0.75), ("two phases", 0.1, 0.0))
        for seed in (1, 0)
    ]
    assert differences(rows) == {("all at once", "two phases"): pytest.approx([0.25, 0.25])}
    assert differences(rows, per_class=5) == {}
