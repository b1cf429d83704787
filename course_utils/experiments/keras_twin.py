"""Lesson 14, the Keras twin: pictures of two classes, one body in two frameworks, and the table of their trainings.

`course sweep keras_twin` makes `data/sweeps/keras-twin.csv` anew, here or on the workers of a scheduler: the recipe of the
lesson in both frameworks from five seeds. A seed draws the pictures, and decides the head's first values and the order.

Keras is loaded by the functions that need it. It reads its backend when it is loaded, so this module says it before.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from course_utils.data import open_data
from course_utils.experiments.freezing import FOLDER
from course_utils.files import write_atomic
from course_utils.finetune import freeze, unfreeze
from course_utils.models import load_model
from course_utils.profiles import Settings, settings
from course_utils.rng import preserve_rng_state
from course_utils.spread import Journal, Key, Record, spread
from course_utils.sweeps import Row
from course_utils.train import fit
from course_utils.weights import get_weights
from course_utils.worlds import picture

KINDS = ("boat", "car")
PER_CLASS = {"train": 40, "val": 30}
BATCH = 32
EPOCHS = 5  # of each phase
HEAD_RATE, RATES = 0.001, (0.0001, 0.00001)  # of phase one; of phase two, the recipe's and a tenth of it
FREE = 10  # layers that phase two frees, as Keras counts them
SEEDS = range(5)
FRAMEWORKS = ("Keras", "PyTorch")
TABLE = FOLDER / "keras-twin.csv"

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("KERAS_HOME", os.devnull)  # no file of settings is read, and none is written


def load_keras() -> Any:
    """Keras on torch."""
    return import_module("keras")


# --------------------------------------------------------------------------------------------------------- pictures


class Split(NamedTuple):
    """Pictures of two classes: as they were drawn, uint8 (N, 3, H, W), as the weights want them, and labels (N, 1), 0 or 1."""

    raw: Tensor
    images: Tensor
    labels: Tensor


def two_classes(run: Settings, seed: int = 0) -> tuple[dict[str, Split], tuple[str, ...]]:
    """ "train" and "val", and the names of the classes: drawn boats and cars, or the first two classes of the profile full."""
    if run.profile == "tiny":
        return {split: drawn(split, seed) for split in PER_CLASS}, KINDS
    data = open_data(run, transform=transform_of(run))
    return {split: first_two(getattr(data, split).dataset, count) for split, count in PER_CLASS.items()}, data.classes[:2]


@cache
def drawn(split: str, seed: int) -> Split:
    first = {"train": 1000, "val": 2000}[split] + seed
    labels = [label for label in range(2) for _ in range(PER_CLASS[split])]
    images = [picture("things", KINDS[label], first, i) for i, label in enumerate(labels)]
    run = settings(profile="tiny")
    return ready([transform_of(run)(image) for image in images], [plain(image, 64) for image in images], labels)


def first_two(dataset: Any, count: int) -> Split:
    """Up to `count` pictures of each of the first two classes."""
    labels = [label for _, label in dataset.samples]
    chosen = [i for kind in range(2) for i in [i for i, label in enumerate(labels) if label == kind][:count]]
    prepare = dataset.transform
    images = [dataset[i][0] for i in chosen]
    dataset.transform = lambda image: plain(image, images[0].shape[-1])
    raw = [dataset[i][0] for i in chosen]
    dataset.transform = prepare
    return ready(images, raw, [labels[i] for i in chosen])


def ready(images: list[Tensor], raw: list[Tensor], labels: list[int]) -> Split:
    return Split(torch.stack(raw), torch.stack(images), torch.tensor(labels)[:, None].float())


def plain(image: Any, size: int) -> Tensor:
    """A picture as numbers from 0 to 255, (3, size, size)."""
    small = image.convert("RGB").resize((size, size))
    return torch.frombuffer(bytearray(small.tobytes()), dtype=torch.uint8).reshape(size, size, 3).permute(2, 0, 1)


def transform_of(run: Settings) -> Any:
    weights: Any = get_weights("vgg16", run.weights)
    return weights.transforms()


def batches(images: Tensor, labels: Tensor, seed: int | None = None) -> DataLoader:
    """Batches of 32: in an order that `seed` decides anew for each epoch, or as they come."""
    data = TensorDataset(images, labels)
    order = {} if seed is None else {"shuffle": True, "generator": torch.Generator().manual_seed(seed)}
    return DataLoader(data, BATCH, **order)  # type: ignore[arg-type]


# --------------------------------------------------------------------------------------------------------- one body


def copy_kernels(source: nn.Module, body: Any) -> Any:
    """Keras' `body` with the convolutions of `source`, whose kernels are turned from (out, in, y, x) to (y, x, in, out)."""
    given = [one for one in source.modules() if isinstance(one, nn.Conv2d)]
    taken = [one for one in body.layers if type(one).__name__ == "Conv2D"]
    for one, other in zip(given, taken, strict=True):
        other.set_weights([one.weight.detach().permute(2, 3, 1, 0).numpy(), one.bias.detach().numpy()])  # type: ignore
    return body


def channels_last(images: Tensor) -> Any:
    return images.permute(0, 2, 3, 1).contiguous().numpy()


def bodies(run: Settings) -> tuple[nn.Sequential, Any]:
    """The pretrained features of VGG16 in PyTorch and in Keras, both frozen."""
    source: Any = load_model("vgg16", weights=run.weights)
    size = transform_of(run).crop_size[0]
    body = load_keras().applications.VGG16(weights=None, include_top=False, input_shape=(size, size, 3))
    body.trainable = False
    return source.features, copy_kernels(freeze(source), body)


# ----------------------------------------------------------------------------------------------- the recipe, twice


def keras_run(run: Settings, rate: float, seed: int) -> list[float]:
    """The share of val that is right after each epoch of both phases, in Keras."""
    keras, splits = load_keras(), two_classes(run, seed)[0]
    _, body = bodies(run)
    keras.utils.set_random_seed(seed)
    x = keras.layers.Flatten()(body.output)
    for width in (256, 128):
        x = keras.layers.Dense(width, activation="relu")(x)
    model = keras.Model(body.input, keras.layers.Dense(1, activation="sigmoid")(x))
    found = []
    for last, lr in ((0, HEAD_RATE), (FREE, rate)):
        for layer in body.layers[len(body.layers) - last :]:
            layer.trainable = True
        found += keras_phase(keras, model, body.layers[-1 - last].output, splits, lr, seed)
    return found


def keras_phase(keras: Any, model: Any, seam: Any, splits: dict[str, Split], rate: float, seed: int) -> list[float]:
    """Train what lies behind `seam` on what lies before it made of the pictures, once."""
    frozen, learning = keras.Model(model.input, seam), keras.Model(seam, model.output)
    kept = {name: torch.tensor(frozen.predict(channels_last(one.images), verbose=0)) for name, one in splits.items()}
    train, val = batches(kept["train"], splits["train"].labels, seed), batches(kept["val"], splits["val"].labels)
    learning.compile(keras.optimizers.Adam(rate), loss="binary_crossentropy", metrics=["accuracy"])
    history = learning.fit(train, validation_data=val, epochs=EPOCHS, shuffle=False, verbose=0)  # the loader shuffles
    return history.history["val_accuracy"]


def torch_run(run: Settings, rate: float, seed: int) -> list[float]:
    """The same in PyTorch."""
    splits, (features, _) = two_classes(run, seed)[0], bodies(run)
    torch.manual_seed(seed)
    model = nn.Sequential(features, nn.Flatten(), *head(features, splits["train"].images))
    found = []
    for first, lr in ((len(features), HEAD_RATE), (first_free(features), rate)):
        unfreeze(features[first:])
        frozen, learning = features[:first], nn.Sequential(*features[first:], *model[1:])
        found += torch_phase(frozen, learning, splits, lr, seed)
    return found


def head(features: nn.Module, images: Tensor) -> list[nn.Module]:
    with torch.no_grad():
        width = features(images[:1]).numel()
    return [nn.Linear(width, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 1)]


def first_free(features: nn.Module) -> int:
    """Where the last seven convolutions of VGG16 begin: Keras' last ten layers, as an activation is no layer there."""
    return [place for place, one in enumerate(features.children()) if isinstance(one, nn.Conv2d)][-7]


def torch_phase(frozen: nn.Module, learning: nn.Module, splits: dict[str, Split], rate: float, seed: int) -> list[float]:
    with torch.no_grad():
        kept = {name: torch.cat([frozen(part) for part in one.images.split(BATCH)]) for name, one in splits.items()}
    train, val = batches(kept["train"], splits["train"].labels, seed), batches(kept["val"], splits["val"].labels)
    optimizer = torch.optim.Adam([p for p in learning.parameters() if p.requires_grad], lr=rate)
    history = fit(learning, train, val, optimizer, epochs=EPOCHS, loss_function=F.binary_cross_entropy_with_logits)
    return [epoch.val.accuracy for epoch in history]


# -------------------------------------------------------------------------------------------------------- the table


def train_one(framework: str, rate: float, seed: int) -> Record:
    """One run of the table, whichever process makes it."""
    with preserve_rng_state():
        return {"val": {"Keras": keras_run, "PyTorch": torch_run}[framework](settings(profile="tiny"), rate, seed)}


def plan() -> list[Key]:
    return [(framework, rate, seed) for rate in RATES for seed in SEEDS for framework in FRAMEWORKS]


def read_table() -> list[Row]:
    """A row for each framework, rate of phase two, seed and epoch: the share of val that is right."""
    kinds = {"framework": str, "rate": float, "seed": int, "epoch": int, "val": float}
    with TABLE.open(encoding="utf-8", newline="") as file:
        return [{name: kinds[name](value) for name, value in row.items()} for row in csv.DictReader(file)]


def rows_of(framework: str, rate: float, seed: int, vals: Sequence[float]) -> list[Row]:
    run = {"framework": framework, "rate": rate, "seed": seed}
    return [run | {"epoch": epoch, "val": val} for epoch, val in enumerate(vals, 1)]


def write_table(rows: Sequence[Row]) -> Path:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "val": f"{row['val']:.4f}"} for row in rows)
    return write_atomic(TABLE, text.getvalue())


def main(scheduler: str | None = None) -> None:
    """Make the table anew; stopped and begun again, it makes the runs that are missing.

    Args:
        scheduler: the address of a dask scheduler, whose workers make the runs side by side.
    """
    torch.set_num_threads(1)  # so that the numbers are the same however many cores there are
    about = {"pictures": PER_CLASS, "epochs": EPOCHS, "torch": torch.__version__}
    journal = Journal(TABLE.with_suffix(".jsonl"), about)
    known = spread(train_one, plan(), scheduler=scheduler, journal=journal)
    print(write_table([row for key, record in known.items() for row in rows_of(*key, record["val"])]))  # type: ignore
    journal.finish()
