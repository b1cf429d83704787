"""The experiment of lesson 14: pictures of two classes, turned kernels, the plan and the table."""

import os

import pytest
import torch
from torch import nn

from course_utils import plots
from course_utils.experiments import keras_twin
from course_utils.experiments.keras_twin import batches, copy_kernels, two_classes
from course_utils.profiles import settings

RUN = settings(profile="tiny")


def test_the_backend_is_torch_and_no_settings_are_read_or_written():
    assert keras_twin.load_keras().backend.backend() == "torch"
    assert os.environ["KERAS_HOME"] == os.devnull


def test_two_classes_are_drawn_by_seed():
    one, names = two_classes(RUN, 0)
    assert names == ("boat", "car")
    assert {name: tuple(split.images.shape) for name, split in one.items()} == {
        "train": (80, 3, 64, 64),
        "val": (60, 3, 64, 64),
    }
    assert one["val"].raw.dtype is torch.uint8
    assert one["val"].labels.sum() == 30
    assert not torch.equal(one["train"].images, two_classes(RUN, 1)[0]["train"].images)
    assert not torch.equal(one["train"].images[:30], one["val"].images[:30])


def test_an_order_by_seed_is_the_same_each_time():
    labels = torch.arange(40)[:, None]
    orders = [[batch[1].flatten().tolist() for batch in batches(labels.float(), labels, seed)] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert next(iter(batches(labels.float(), labels)))[1].flatten().tolist() == list(range(32))


def test_turned_kernels_give_the_same_answers():
    keras = keras_twin.load_keras()
    source = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 2, 3, padding=1))
    inputs = keras.Input((7, 6, 3))
    x = keras.layers.Conv2D(5, 3, padding="same", activation="relu")(inputs)
    body = copy_kernels(source, keras.Model(inputs, keras.layers.Conv2D(2, 3, padding="same")(x)))
    images = torch.randn(4, 3, 7, 6)
    found = torch.tensor(body.predict(keras_twin.channels_last(images), verbose=0)).permute(0, 3, 1, 2)
    torch.testing.assert_close(found, source(images).detach(), rtol=1e-4, atol=1e-5)


def test_the_table_is_made_anew_from_the_plan(tmp_path, monkeypatch):
    monkeypatch.setattr(keras_twin, "TABLE", tmp_path / "keras-twin.csv")
    monkeypatch.setattr(keras_twin, "train_one", lambda *key: {"val": [0.5, 0.75]})
    keras_twin.main()
    rows = keras_twin.read_table()
    assert [path.name for path in tmp_path.iterdir()] == ["keras-twin.csv"]
    assert len(rows) == 2 * 2 * 2 * 5
    assert rows[1] == {"framework": "Keras", "rate": 0.0001, "seed": 0, "epoch": 2, "val": 0.75}


def test_the_shipped_table_has_every_run():
    found = {(row["framework"], row["rate"], row["seed"]) for row in keras_twin.read_table()}
    assert found == set(keras_twin.plan())
    assert len(keras_twin.read_table()) == len(found) * 2 * keras_twin.EPOCHS


def test_curves_of_twins():
    table = keras_twin.read_table()
    secret = plots.twin_curves(table, [0.0001], secret=True, title="Who is who?")
    assert [text.get_text() for text in secret.axes[0].get_legend().get_texts()] == ["B", "A"]
    mine = {"Keras": [0.5] * 10, "PyTorch": [0.6] * 10}
    both = plots.twin_curves(table, keras_twin.RATES, mine=mine, title="Two rates")
    assert len(both.axes) == 2
    assert both.alt.startswith("Two rates. Two lines with bands over 10 epochs")
    with pytest.raises(ValueError, match="there are runs at"):
        plots.twin_curves(table, [0.5])
