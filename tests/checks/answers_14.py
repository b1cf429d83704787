"""Answers to lesson 14."""

from __future__ import annotations

from statistics import fmean

from course_utils import sweeps
from course_utils.experiments.keras_twin import load_keras

# -------------------------------------------------------------------------------------- 14.1 two_phase_model


def head_on(body):
    keras = load_keras()
    x = keras.layers.Flatten()(body.output)
    for width in (256, 128):
        x = keras.layers.Dense(width, activation="relu")(x)
    return keras.Model(body.input, keras.layers.Dense(1, activation="sigmoid")(x))


def compiled(model, rate):
    adam = load_keras().optimizers.Adam(rate)
    model.compile(adam, loss="binary_crossentropy", metrics=["accuracy"])


def is_norm(layer):
    return isinstance(layer, load_keras().layers.BatchNormalization)


def wrong_another_body(body, last):
    """Sets layers of a copy free, which is not in the model."""
    model, other = head_on(body), load_keras().models.clone_model(body)
    body.trainable = False
    compiled(model, 0.001)

    def start_phase_two():
        for layer in other.layers[-last:]:
            layer.trainable = not is_norm(layer)
        compiled(model, 0.0001)

    return model, start_phase_two


def wrong_everything_free(body, last):
    model = head_on(body)
    body.trainable = False
    compiled(model, 0.001)

    def start_phase_two():
        body.trainable = True
        for layer in body.layers:
            layer.trainable = not is_norm(layer)
        compiled(model, 0.0001)

    return model, start_phase_two


def wrong_layers_of_the_model(body, last):
    """The last layers of the model are those of the head."""
    model = head_on(body)
    body.trainable = False
    compiled(model, 0.001)

    def start_phase_two():
        for layer in model.layers[-last:]:
            layer.trainable = not is_norm(layer)
        compiled(model, 0.0001)

    return model, start_phase_two


def wrong_head_rests(body, last):
    """Freezes the head for phase two."""
    model = head_on(body)
    body.trainable = False
    compiled(model, 0.001)

    def start_phase_two():
        for layer in model.layers[-3:]:
            layer.trainable = False
        for layer in body.layers[-last:]:
            layer.trainable = not is_norm(layer)
        compiled(model, 0.0001)

    return model, start_phase_two


def wrong_loss_in_phase_two(body, last):
    model = head_on(body)
    body.trainable = False
    compiled(model, 0.001)

    def start_phase_two():
        for layer in body.layers[-last:]:
            layer.trainable = not is_norm(layer)
        model.compile(load_keras().optimizers.Adam(0.0001), loss="mse", metrics=["accuracy"])

    return model, start_phase_two


def right_before_it_compiles(body, last):
    """Freezes layer by layer, and holds the batch norm once and for all."""
    model = head_on(body)
    for layer in body.layers:
        layer.trainable = False
    free = [layer for layer in body.layers[len(body.layers) - last :] if not is_norm(layer)]
    compiled(model, 0.001)

    def start_phase_two():
        for layer in free:
            layer.trainable = True
        compiled(model, 0.0001)

    return model, start_phase_two


# ------------------------------------------------------------------------------------------ 14.2 same_numbers


def paired(runs, *names):
    vals = {(run["framework"], *(run[name] for name in names)): run["val"] for run in runs}
    return [val - vals["PyTorch", *key[1:]] for key, val in vals.items() if key[0] == "Keras" and ("PyTorch", *key[1:]) in vals]


def verdict(differences):
    if len(differences) < 3:
        return [], "too few runs"
    low, high = sweeps.interval(differences)
    return [fmean(differences), low, high], "different" if low > 0 or high < 0 else "cannot tell"


def wrong_seed_alone(runs):
    return verdict(paired(runs, "seed"))


def wrong_unpaired(runs):
    """Two intervals that do not overlap, and the distance of their ends."""
    vals = [[run["val"] for run in runs if run["framework"] == name] for name in ("Keras", "PyTorch")]
    if min(map(len, vals)) < 3:
        return [], "too few runs"
    (low, high), (bottom, top) = map(sweeps.interval, vals)
    says = "different" if low > top or high < bottom else "cannot tell"
    return [fmean(vals[0]) - fmean(vals[1]), low - top, high - bottom], says


def wrong_means_decide(runs):
    found, says = verdict(paired(runs, "seed", "pictures"))
    return found, "different" if says != "too few runs" and abs(found[0]) > 0.005 else says


def wrong_one_run_each(runs):
    differences = paired(runs, "seed", "pictures")
    if not differences:
        return [], "too few runs"
    return [differences[0]] * 3, "different" if differences[0] else "cannot tell"


def wrong_two_are_enough(runs):
    differences = paired(runs, "seed", "pictures")
    if len(differences) < 2:
        return [], "too few runs"
    low, high = sweeps.interval(differences)
    return [fmean(differences), low, high], "different" if low > 0 or high < 0 else "cannot tell"


def right_loop(runs):
    partners = {}
    for run in runs:
        partners.setdefault((run["seed"], run["pictures"]), {})[run["framework"]] = run["val"]
    return verdict([both["Keras"] - both["PyTorch"] for both in partners.values() if len(both) == 2])


WRONG = {
    "14.1": [
        (
            "layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)\n        compile_at(0.0001)",
            "layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)",
            "compile again after layers were set free",
        ),
        (
            "layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)",
            "layer.trainable = True",
            "keep batch norm frozen",
        ),
        (wrong_another_body, "are the layers that you set free inside this model?"),
        (wrong_everything_free, "only the last 4 layers of the body may"),
        (wrong_head_rests, "of the head stood still in phase two"),
        (wrong_loss_in_phase_two, "phase two: the loss is"),
        (
            "return model, start_phase_two",
            "return start_phase_two, model",
            "the first thing that you return should be the model",
        ),
        ("return model, start_phase_two", "return model, start_phase_two()", "do not call it"),
        ("    compile_at(0.001)\n", "", "the model is not compiled for phase one"),
        (wrong_layers_of_the_model, "are the layers that you set free inside this model?"),
        ("    body.trainable = False\n", "", "the body has to be frozen"),
        ("compile_at(0.0001)", "compile_at(0.001)", "the first update of phase two moves values by up to 0.001"),
        ("body.layers[-last:]", "body.layers[:last]", "only the last 4 layers of the body may"),
    ],
    "14.2": [
        (wrong_seed_alone, "did not see the same training pictures"),
        (wrong_unpaired, "who is whose pair?"),
        (wrong_means_decide, "0 lies inside"),
        (wrong_one_run_each, "one run has no interval"),
        (wrong_two_are_enough, "below three pairs"),
        (
            'vals["Keras", *pair] - vals["PyTorch", *pair]',
            'vals["PyTorch", *pair] - vals["Keras", *pair]',
            "take Keras − PyTorch",
        ),
        ("[fmean(differences), low, high]", "[low, fmean(differences), high]", "give [mean, low, high]"),
        ("fmean(differences), low", "abs(fmean(differences)), low", "that of the"),
    ],
}
RIGHT = {"14.1": [right_before_it_compiles], "14.2": [right_loop]}
EQUIVALENT = {
    "14.2": dict.fromkeys(
        (
            'verdict = "cannot tell" if low < 0 <= high else "different"'.replace('"', "'"),
            'verdict = "cannot tell" if low <= 0 < high else "different"'.replace('"', "'"),
        ),
        "no interval ends at 0 exactly",
    )
}
