"""The comparison of lesson 06, which layers should learn, and the table that keeps it.

`course sweep freezing` makes `data/sweeps/freezing-tiny.csv` anew, here or on the workers of a scheduler; with
`COURSE_PROFILE=full` that of the data set named there. Each network is trained as a whole there; the lesson trains on what the
frozen part gives, and lands on the same numbers.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from functools import cache, partial
from itertools import islice
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler, Subset

from course_utils.data import open_data
from course_utils.files import write_atomic
from course_utils.finetune import freeze, unfreeze
from course_utils.fx_split import split_frozen
from course_utils.heads import replace_head
from course_utils.images import in_memory
from course_utils.models import load_model
from course_utils.precomputed import precompute
from course_utils.profiles import HOME, Settings, settings
from course_utils.rng import preserve_rng_state, seed_all
from course_utils.spread import Journal, Key, Record, complete
from course_utils.sweeps import Row, momentum, sweep
from course_utils.train import evaluate, train_one_epoch
from course_utils.weights import get_weights

FOLDER = HOME / "data" / "sweeps"

LEARNS = {  # the parts of a ResNet that learn in each configuration
    "scratch": ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"),
    "head": ("fc",),
    "layer4 + head": ("layer4", "fc"),
    "layer3–4 + head": ("layer3", "layer4", "fc"),
    "all": ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"),
}
STAGES = {"stem": "conv1", "layer1": "layer1", "layer2": "layer2", "layer3": "layer3", "layer4": "layer4", "head": "fc"}
LR_GRID = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
RATES = LR_GRID[3:7]  # tried for every configuration; more of the grid where the best one is the first or the last
SEEDS = (0, 1, 2)  # at every rate
MORE_SEEDS = (3, 4)  # at the chosen rate only, for a narrower interval
PER_CLASS = (5, 20)  # training pictures of each class
UPDATES = 48  # 12 epochs of 120 pictures in batches of 32
BATCH = 32
AT_MOST = 45  # pictures of each class in val and test, so that large data sets fit into memory

# ------------------------------------------------------------------------------------------------------- the protocol


class FixedUpdatesSampler(Sampler[list[int]]):
    """One pass is 48 batches, whatever the number of pictures: shuffled again whenever all have been shown."""

    def __init__(self, count: int):
        self.count = count

    def __len__(self) -> int:
        return UPDATES

    def __iter__(self) -> Iterator[list[int]]:
        order: list[Tensor] = []
        while len(order) < UPDATES:
            order += torch.randperm(self.count).split(BATCH)
        return iter([batch.tolist() for batch in order[:UPDATES]])


def open_splits(run: Settings, per_class: int) -> dict[str, DataLoader]:
    """Loaders of "train" (`per_class` pictures of each class, 48 batches), "val" and "test" (45 of each class at most)."""
    weights: Any = get_weights("resnet18", run.weights)
    data = open_data(run, per_class=per_class, transform=weights.transforms())
    train, val, test = (in_memory(at_most(loader.dataset)) for loader in (data.train, data.val, data.test))
    own = torch.Generator()  # DataLoader draws a number from it; the order comes from torch's own generator
    shuffled = DataLoader(train, batch_sampler=FixedUpdatesSampler(len(train)), generator=own)
    return {"train": shuffled, "val": DataLoader(val, 64), "test": DataLoader(test, 64)}


def at_most(dataset: Any) -> Subset:
    """The first 45 pictures of each class."""
    labels = [label for _, label in dataset.samples]
    chosen = [i for kind in sorted(set(labels)) for i in [i for i, label in enumerate(labels) if label == kind][:AT_MOST]]
    return Subset(dataset, chosen)


def start(configuration: str, run: Settings, num_classes: int, seed: int) -> nn.Module:
    """The network before training: the same seed gives the same new head to every pretrained configuration."""
    weights = None if configuration == "scratch" else run.weights
    with preserve_rng_state():
        seed_all(seed)
        model = freeze(replace_head(load_model("resnet18", weights=weights), num_classes))
    for part in LEARNS[configuration]:
        unfreeze(model.get_submodule(part))
    return model.to(run.device)


def boxes(run: Settings, num_classes: int) -> dict[str, dict[str, str]]:
    """What happens to each stage, by configuration and the share of the parameters that learns in it, for `plots.networks`."""
    found = {}
    for name, learns in LEARNS.items():
        parameters = list(start(name, run, num_classes, seed=0).parameters())
        share = sum(p.numel() for p in parameters if p.requires_grad) / sum(p.numel() for p in parameters)
        states = {stage: "learns" if part in learns else "fixed" for stage, part in STAGES.items()} | {"head": "new"}
        found[f"{name}, {share:.2%}"] = dict.fromkeys(STAGES, "new") if name == "scratch" else states
    return found


@cache
def kept_splits(run: Settings, per_class: int) -> dict[str, DataLoader]:
    """`open_splits`, once in a process, for all runs that it makes."""
    return open_splits(run, per_class)


def train_one(run: Settings, split: str, per_class: int, configuration: str, lr: float, seed: int) -> Record:
    """One run of the table, whichever process makes it: its share of right answers on `split`, "val" or "test"."""
    loaders = kept_splits(run, per_class)
    begin = partial(start, configuration, run, len(set(loaders["train"].dataset.labels)))  # type: ignore[attr-defined]
    (row,) = sweep(begin, loaders["train"], loaders[split], rates=[lr], seeds=[seed], epochs=1)
    return {"right": row["val"]}


def wanted(per_class: int, configuration: str, known: Mapping[Key, Record]) -> list[Key]:
    """The runs of one configuration, as far as the known ones tell which.

    First all seeds at every rate, and at further rates while the best is the first or the last; then more seeds at the chosen
    rate, and there alone the test pictures.
    """

    def runs(split: str, rates: Sequence[float], seeds: Sequence[int]) -> list[Key]:
        return [(split, per_class, configuration, lr, seed) for lr in rates for seed in seeds]

    keys = runs("val", RATES, SEEDS)
    while all(key in known for key in keys):
        rows = rows_of(keys, known)
        if more := next_rates(rows):
            keys += runs("val", more, SEEDS)
            continue
        chosen = list(best_rates(rows).values())
        return [*keys, *runs("val", chosen, MORE_SEEDS), *runs("test", chosen, [*SEEDS, *MORE_SEEDS])]
    return keys


def rows_of(keys: Sequence[Key], known: Mapping[Key, Record]) -> list[Row]:
    """One row per rate and seed; those that were tested have a test accuracy too."""
    rows: list[Row] = []
    for split, per_class, configuration, lr, seed in keys:
        if split == "val":
            row = {"per_class": per_class, "configuration": configuration, "lr": lr, "seed": seed}
            tested = known.get(("test", *row.values()), {})
            rows.append({**row, "val": known["val", *row.values()]["right"], "test": tested.get("right")})
    return sorted(rows, key=lambda row: (row["lr"], row["seed"]))


def next_rates(rows: Sequence[Row]) -> Sequence[float]:
    """The next rate of the grid if the best one is the first or the last that was tried; none if it lies inside."""
    (chosen,) = best_rates(rows).values()
    tried, place = sorted({row["lr"] for row in rows}), LR_GRID.index(chosen)
    if chosen == tried[0]:
        return LR_GRID[max(place - 1, 0) : place]
    return LR_GRID[place + 1 : place + 2] if chosen == tried[-1] else ()


# -------------------------------------------------------------------------------------------------- what a run costs


def seconds_of_a_run(configuration: str, run: Settings, loaders: dict[str, DataLoader]) -> float:
    """Of one run, with everything: cutting, caching the features of train and val, 48 updates, evaluating once on val.

    Seven updates are timed; their median stands for each of the 48.
    """
    model: nn.Module = start(configuration, run, len(set(loaders["train"].dataset.labels)), seed=0)  # type: ignore[attr-defined]
    begun = time.perf_counter()
    train, val = loaders["train"], loaders["val"]
    if configuration not in ("all", "scratch"):
        with redirect_stdout(io.StringIO()):
            frozen, model = split_frozen(model)
            train, val = precompute(frozen, train, cache=None), precompute(frozen, val, cache=None)
    cached = time.perf_counter() - begun
    optimizer, updates = momentum([p for p in model.parameters() if p.requires_grad], 0.01), []
    for batch in islice(train, 7):
        begun = time.perf_counter()
        train_one_epoch(model, [batch], optimizer)
        updates.append(time.perf_counter() - begun)
    begun = time.perf_counter()
    evaluate(model, val)
    return cached + UPDATES * median(updates) + time.perf_counter() - begun


# -------------------------------------------------------------------------------------------------- what a table says


def best_rates(rows: Sequence[Row]) -> dict[str, float]:
    """For each configuration the rate with the highest mean accuracy on val; of equals the lowest.

    The mean is over the seeds that all rates of a configuration have, so that no rate is judged by other seeds.
    """
    vals: dict[str, dict[float, dict[int, float]]] = {}
    for row in rows:
        vals.setdefault(row["configuration"], {}).setdefault(row["lr"], {})[row["seed"]] = row["val"]
    return {name: best_rate(by_rate) for name, by_rate in vals.items()}


def best_rate(vals: Mapping[float, Mapping[int, float]]) -> float:
    """Of one configuration, from its accuracies by rate and seed."""
    shared = set.intersection(*map(set, vals.values()))
    return max(sorted(vals), key=lambda lr: round(mean(vals[lr][seed] for seed in shared), 3))


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
    """The table, written anew as a whole: stopped in between, the one from before is still there."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "val": f"{row['val']:.6f}", "test": _text(row["test"])} for row in rows)
    table_path(data).parent.mkdir(exist_ok=True)
    return write_atomic(table_path(data), text.getvalue())


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def main(scheduler: str | None = None) -> None:
    """Make the table anew; stopped and begun again, it makes the runs that are missing.

    Args:
        scheduler: the address of a dask scheduler, whose workers make the runs side by side.
    """
    torch.set_num_threads(1)  # so that the numbers are the same however many cores there are
    run, started = settings(), time.perf_counter()
    cells = [(per_class, configuration) for per_class in PER_CLASS for configuration in LEARNS]
    about = {"data": run.data, "weights": run.weights, "updates": UPDATES, "torch": torch.__version__}
    journal = Journal(table_path(run.data).with_suffix(".jsonl"), about)

    def all_wanted(known: Mapping[Key, Record]) -> list[Key]:
        keys = [key for cell in cells for key in wanted(*cell, known)]
        print(f"{sum(key in known for key in keys)} of {len(keys)} runs, {time.perf_counter() - started:.0f} s", flush=True)
        return keys

    known = complete(all_wanted, partial(train_one, run), journal, scheduler)
    path = write_table(run.data, [row for cell in cells for row in rows_of(wanted(*cell, known), known)])
    journal.finish()
    print(path)
