"""Lesson 14: one body in two frameworks, on the shipped table of five seeds, and on trainings made again."""

from __future__ import annotations

import time
from functools import cache

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from course_utils import precompute
from course_utils.experiments import keras_twin
from course_utils.experiments.keras_twin import SEEDS, batches, channels_last, two_classes
from course_utils.profiles import settings
from course_utils.sweeps import interval

pytestmark = pytest.mark.claim
RUN = settings(profile="tiny")
RECIPE, TENTH = keras_twin.RATES


@cache
def vals(rate):
    """By framework and seed, the share of val that is right after each epoch."""
    found = {}
    for row in keras_twin.read_table():
        if row["rate"] == rate:
            found.setdefault((row["framework"], row["seed"]), []).append(row["val"])
    return found


def gaps(rate, epoch):
    return [vals(rate)["Keras", seed][epoch] - vals(rate)["PyTorch", seed][epoch] for seed in SEEDS]


@cache
def bodies():
    return keras_twin.bodies(RUN)


# ------------------------------------------------------------------------------------------------- the two frameworks


@pytest.mark.parametrize(("rate", "epoch"), [(RECIPE, 4), (RECIPE, 9), (TENTH, 9)])
def test_five_seeds_cannot_tell_the_frameworks_apart(rate, epoch):
    low, high = interval(gaps(rate, epoch))
    assert low < 0 < high
    keras, pytorch = (interval([vals(rate)[name, seed][epoch] for seed in SEEDS]) for name in keras_twin.FRAMEWORKS)
    assert keras[0] < pytorch[1]
    assert pytorch[0] < keras[1]


def test_the_middle_interval_is_wide():
    low, high = interval(gaps(RECIPE, 9))
    assert low < -0.2 < 0.1 < high


def test_phase_one_names_nearly_every_picture():
    assert all(val[4] >= 0.93 for val in vals(RECIPE).values())


def test_the_recipe_falls_in_the_first_epoch_of_phase_two_in_both():
    falls = {run: val[4] - val[5] for run, val in vals(RECIPE).items()}
    assert sum(fall > 0.01 for fall in falls.values()) == 9
    assert sum(fall > 0.15 for fall in falls.values()) >= 6
    for name in keras_twin.FRAMEWORKS:
        assert sum(falls[name, seed] > 0.15 for seed in SEEDS) >= 3
    assert sum(val[9] == 0.5 for val in vals(RECIPE).values()) == 1, "one stays at chance"


def test_at_a_tenth_of_the_rate_phase_two_does_no_harm():
    assert all(val[9] >= val[4] - 0.02 for val in vals(TENTH).values())


def test_a_run_made_again_lands_on_the_table():
    again = keras_twin.torch_run(RUN, RECIPE, 2)
    assert again == pytest.approx(vals(RECIPE)["PyTorch", 2], abs=0.07)


def test_the_bodies_are_equal_to_1e_5():
    features, body = bodies()
    for seed in SEEDS:
        images = two_classes(RUN, seed)[0]["val"].images[:4]
        here = features(images).permute(0, 2, 3, 1)
        there = torch.tensor(body.predict(channels_last(images), verbose=0))
        assert (here - there).abs().max() / here.abs().max() < 1e-5


def test_keras_spreads_the_first_values_more_widely():
    layer = keras_twin.load_keras().layers.Dense(256)
    layer.build((None, 2048))
    assert float(layer.kernel.numpy().std()) > 2 * float(nn.Linear(2048, 256).weight.detach().std())


# --------------------------------------------------------------------------------------------- preparation and caching


def head_on(inputs):
    layers = keras_twin.load_keras().layers
    x = layers.Flatten()(inputs)
    for width in (256, 128):
        x = layers.Dense(width, activation="relu")(x)
    return layers.Dense(1, activation="sigmoid")(x)


def after_phase_one(prepare, seed):
    keras, (_, body), splits = keras_twin.load_keras(), bodies(), two_classes(RUN, seed)[0]
    kept = {name: torch.tensor(body.predict(prepare(one), verbose=0)) for name, one in splits.items()}
    keras.utils.set_random_seed(seed)
    inputs = keras.Input(kept["val"].shape[1:])
    model = keras.Model(inputs, head_on(inputs))
    model.compile(keras.optimizers.Adam(), loss="binary_crossentropy", metrics=["accuracy"])
    model.fit(batches(kept["train"], splits["train"].labels, seed), epochs=5, shuffle=False, verbose=0)
    return model.evaluate(batches(kept["val"], splits["val"].labels), verbose=0)[1]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_preparation_belongs_to_the_weights(seed):
    swap = keras_twin.load_keras().applications.vgg16.preprocess_input
    ours = vals(RECIPE)["Keras", seed][4]  # the same run
    divided = after_phase_one(lambda split: channels_last(split.raw).astype("float32") / 255, seed)
    theirs = after_phase_one(lambda split: swap(channels_last(split.raw).astype("float32")), seed)
    assert ours >= divided + 0.03
    assert divided >= theirs + 0.03


@pytest.mark.parametrize("seed", SEEDS)
def test_only_freezing_the_batch_norm_layers_keeps_their_statistics(seed):
    keras, train = keras_twin.load_keras(), two_classes(RUN, seed)[0]["train"]

    def moved(free, norm_free=True, training=None):
        keras.utils.set_random_seed(seed)
        inputs, outer, norm = keras.Input((64, 64, 3)), keras.Input((64, 64, 3)), keras.layers.BatchNormalization()
        x = norm(keras.layers.Conv2D(8, 3, strides=4)(inputs))
        small = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
        small.trainable = free
        norm.trainable = free and norm_free
        before = norm.moving_mean.numpy().copy()
        pair = keras.Model(outer, keras.layers.Dense(1)(small(outer, training=training)))
        pair.compile("adam", loss="mse")
        pair.fit(channels_last(train.images), train.labels, verbose=0)
        return float(abs(norm.moving_mean.numpy() - before).max())

    assert moved(False) == moved(True, norm_free=False) == 0
    assert moved(True, training=False) == pytest.approx(moved(True), rel=0.01)
    assert moved(True) > 0.0005


def test_cached_features_save_more_than_half_of_the_cpu_seconds():
    """Five epochs of phase one on 60 pictures, through the whole body in every epoch, and on features of `precompute`."""
    keras, (features, body), few = keras_twin.load_keras(), bodies(), two_classes(RUN)[0]["val"]
    model = keras.Model(body.input, head_on(body.output))
    model.compile(keras.optimizers.Adam(), loss="binary_crossentropy")
    started = time.process_time()
    model.fit(batches(torch.tensor(channels_last(few.images)), few.labels, 0), epochs=5, shuffle=False, verbose=0)
    whole, started = time.process_time() - started, time.process_time()
    kept = precompute(features, DataLoader(TensorDataset(few.images, few.labels), 32), cache=None)
    inputs = keras.Input(tuple(next(iter(kept))[0].shape[1:]))
    small = keras.Model(inputs, head_on(inputs))
    small.compile(keras.optimizers.Adam(), loss="binary_crossentropy")
    small.fit(kept, epochs=5, shuffle=False, verbose=0)
    assert whole > 2 * (time.process_time() - started)
