"""The comparison of lesson 06: five configurations, every rate, every seed, by one protocol, and the table that keeps it.

`python -m course_utils.sweeps` makes `data/sweeps/freezing-tiny.csv` anew; with `COURSE_PROFILE=full` that of the data set
named there. Each network is trained as a whole here; the lesson keeps what the frozen part gives, and lands on the same
numbers.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from course_utils.data import Sample, open_data, read_picture
from course_utils.finetune import freeze, unfreeze
from course_utils.models import load_model, replace_head
from course_utils.profiles import HOME, Settings, settings
from course_utils.train import Batches, evaluate, train_one_epoch

FOLDER = HOME / "data" / "sweeps"

LEARNS = {  # the parts of a ResNet that learn in each configuration
    "scratch": ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"),
    "head": ("fc",),
    "layer4 + head": ("layer4", "fc"),
    "layer3–4 + head": ("layer3", "layer4", "fc"),
    "all": ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"),
}
LADDER = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
RATES = LADDER[3:7]  # tried for every configuration; more of the ladder where the best one is the first or the last
SEEDS = (0, 1, 2)
PER_CLASS = (5, 20)  # training pictures of each class
UPDATES = 48  # 12 epochs of 120 pictures in batches of 32
BATCH = 32
AT_MOST = 45  # pictures of each class in val and test, so that large data sets fit into memory

Row = dict[str, Any]  # one run: per_class, configuration, lr, seed, val, test (None unless its rate was chosen)
Split = tuple[Tensor, Tensor]  # images and labels

# ------------------------------------------------------------------------------------------------------- the protocol


def load_splits(run: Settings, per_class: int) -> dict[str, Split]:
    """The pictures of "train" (`per_class` of each class), "val" and "test" (45 of each class at most), as tensors."""
    data = open_data(run, per_class=per_class)
    return {name: in_memory(getattr(data, name)) for name in ("train", "val", "test")}


def in_memory(loader: DataLoader) -> Split:
    found: Any = loader.dataset
    samples: list[Sample] = []
    for label in sorted({label for _, label in found.samples}):
        samples += [sample for sample in found.samples if sample[1] == label][:AT_MOST]
    images = [found.transform(read_picture(path)) for path, _ in samples]
    return torch.stack(images), torch.tensor([label for _, label in samples])


def draws(count: int) -> list[Tensor]:
    """Which of `count` pictures make up the batch of each update: shuffled again whenever all have been shown."""
    order: list[Tensor] = []
    while len(order) < UPDATES:
        order += torch.randperm(count).split(BATCH)
    return order[:UPDATES]


def start(configuration: str, run: Settings, num_classes: int, seed: int) -> nn.Module:
    """The network before training: the same seed gives the same new head to every pretrained configuration."""
    torch.manual_seed(seed)
    weights = None if configuration == "scratch" else run.weights
    model = freeze(replace_head(load_model("resnet18", weights=weights), num_classes))
    for part in LEARNS[configuration]:
        unfreeze(model.get_submodule(part))
    return model.to(run.device)


def train(model: nn.Module, images: Tensor, labels: Tensor, *, lr: float, seed: int) -> nn.Module:
    """48 updates by SGD with momentum 0.9; the same seed gives the same batches to every configuration."""
    torch.manual_seed(seed)
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    batches: Any = ((images[i], labels[i]) for i in draws(len(labels)))
    train_one_epoch(model, batches, torch.optim.SGD(learning, lr=lr, momentum=0.9))
    return model


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    batches: Batches = list(zip(images.split(64), labels.split(64), strict=True))
    return evaluate(model, batches).accuracy


def sweep(configuration: str, run: Settings, per_class: int) -> list[Row]:
    """One row per rate and seed; those of the rate that val chose have a test accuracy too."""
    splits = load_splits(run, per_class)
    num_classes = len(splits["train"][1].unique())
    rows: list[Row] = []
    models: dict[tuple[float, int], nn.Module] = {}
    rates: Sequence[float] = RATES
    while rates:
        for lr, seed in product(rates, SEEDS):
            model = train(start(configuration, run, num_classes, seed), *splits["train"], lr=lr, seed=seed)
            models[lr, seed] = model
            key = {"per_class": per_class, "configuration": configuration, "lr": lr, "seed": seed}
            rows.append({**key, "val": accuracy(model, *splits["val"]), "test": None})
        rates = beyond(rows)
    (chosen,) = best_rates(rows).values()
    for row in rows:
        if row["lr"] == chosen:
            row["test"] = accuracy(models[chosen, row["seed"]], *splits["test"])
    return sorted(rows, key=lambda row: (row["lr"], row["seed"]))


def beyond(rows: Sequence[Row]) -> Sequence[float]:
    """The next rate of the ladder if the best one is the first or the last that was tried; none if it lies inside."""
    (chosen,) = best_rates(rows).values()
    tried, place = sorted({row["lr"] for row in rows}), LADDER.index(chosen)
    if chosen == tried[0]:
        return LADDER[max(place - 1, 0) : place]
    return LADDER[place + 1 : place + 2] if chosen == tried[-1] else ()


# -------------------------------------------------------------------------------------------------- what a table says


def best_rates(rows: Sequence[Row]) -> dict[str, float]:
    """For each configuration the rate with the highest val accuracy, averaged over the seeds; of equals the lowest."""
    vals: dict[str, dict[float, list[float]]] = {}
    for row in rows:
        vals.setdefault(row["configuration"], {}).setdefault(row["lr"], []).append(row["val"])
    return {name: max(sorted(found), key=lambda lr: round(mean(found[lr]), 3)) for name, found in vals.items()}


T95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval for the mean that stands behind `values`, by the t distribution.

    Raises:
        ValueError: if there are fewer than 2 values, or more than 10.
    """
    if len(values) not in T95:
        raise ValueError(f"{len(values)} value(s); an interval for the mean takes 2 to 10 of them here, one from each seed")
    half = T95[len(values)] * stdev(values) / math.sqrt(len(values))
    return mean(values) - half, mean(values) + half


# ------------------------------------------------------------------------------------------------------------ the file


def table_path(data: str) -> Path:
    return FOLDER / f"freezing-{Path(data).name}.csv"


def read_table(data: str) -> list[Row]:
    """The rows made on the data set `data`; none if nobody has made them yet."""
    if not table_path(data).exists():
        return []
    with table_path(data).open(encoding="utf-8", newline="") as file:
        return [typed(row) for row in csv.DictReader(file)]


def typed(row: dict[str, str]) -> Row:
    kinds = {"per_class": int, "configuration": str, "lr": float, "seed": int, "val": float}
    return {name: kind(row[name]) for name, kind in kinds.items()} | {"test": float(row["test"]) if row["test"] else None}


def write_table(data: str, rows: Sequence[Row]) -> Path:
    path = table_path(data)
    path.parent.mkdir(exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, "val": f"{row['val']:.6f}", "test": _text(row["test"])} for row in rows)
    return path


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def main() -> None:
    run, rows, started = settings(), [], time.perf_counter()
    for per_class in PER_CLASS:
        for configuration in LEARNS:
            rows += sweep(configuration, run, per_class)
            path = write_table(run.data, rows)
            print(f"{len(rows)} runs in {path}, {time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
