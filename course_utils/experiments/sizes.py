"""The comparison of lesson 09, which configuration for how many pictures and how far a target, and the tables that keep it.

`course sweep sizes` makes `data/sweeps/sizes-things.csv`, `-spectra` and `-tints` anew, here or on the workers of a scheduler.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from course_utils.experiments.freezing import FOLDER, LR_GRID, UPDATES, FixedUpdatesSampler, start
from course_utils.far_worlds import SPECTRA, TINTS
from course_utils.files import write_atomic
from course_utils.fx_split import split_frozen
from course_utils.profiles import settings
from course_utils.rng import seed_all
from course_utils.spread import Journal, Key, Record, complete
from course_utils.sweeps import Row, momentum
from course_utils.train import evaluate, train_one_epoch
from course_utils.weights import get_weights
from course_utils.worlds import find_world, pictures

WORLDS = {"things": find_world("things"), "spectra": SPECTRA, "tints": TINTS}
CHEAP, DEAR = ("head", "layer4 + head"), ("all", "scratch")
CONFIGURATIONS = CHEAP + DEAR
SIZES: dict[str, dict[str, tuple[int, ...]]] = {  # training pictures of each class
    "things": dict.fromkeys(CHEAP, (2, 5, 10, 20, 50)) | dict.fromkeys(DEAR, (5, 20, 50)),
    "spectra": dict.fromkeys(CONFIGURATIONS, (5, 20)),
    "tints": dict.fromkeys(CONFIGURATIONS, (5, 20)),
}
SECONDS = {"head": 1, "layer4 + head": 6, "all": 16, "scratch": 16}  # of a whole run with 20 of each class, on one core
FIRST_RATE = {"head": 0.03, "layer4 + head": 0.03, "all": 0.01, "scratch": 0.01}  # tried first, with its two neighbours
LEARNT = 0.3  # share of val right; up to it nothing was learnt (chance is 0.17)
MOST_RATES = 6  # where the best rate is the first or the last that was tried, the next one is tried too
MIDDLE = 20  # pictures of each class
SEARCH = (0, 1)  # seeds at every rate that is tried
SEEDS = (0, 1, 2, 3, 4)  # at the chosen rate
EQUAL, LONG = "48 updates", "until it stops"  # the two questions
PATIENCE, MOST = 2, 10  # rounds of 48 updates: that many without a better val, and at most so many
LONG_FOR = {"head": (2, 5, 10, 20, 50), "layer4 + head": (5, 20, 50)}  # sizes at which the second question is asked
RUN = settings(profile="tiny")  # drawn pictures and the weights of the course, in every profile

# --------------------------------------------------------------------------------------------------------- pictures


def galleries() -> dict[str, list[Any]]:
    """Twelve pictures each of the source and of the three targets, ordered by class."""
    source = list(pictures("shapes", 2, seed=3)[0][::4])
    return {"shapes (the source)": source} | {name: list(pictures(world, 2, seed=3)[0]) for name, world in WORLDS.items()}


def drawing(split: str, seed: int) -> tuple[int, int]:
    """Pictures of each class, and the seed they are drawn from. The test pictures are the same for all seeds."""
    return {"train": (50, 100 + seed), "val": (15, 200 + seed), "test": (60, 999)}[split]


@cache
def drawn(world: str, per_class: int, seed: int) -> tuple[Tensor, Tensor]:
    """The pictures as the weights want them, and their labels, ordered by class."""
    images, labels = pictures(WORLDS[world], per_class, seed)
    weights: Any = get_weights("resnet18", RUN.weights)
    return weights.transforms()(torch.from_numpy(images).permute(0, 3, 1, 2)), torch.from_numpy(labels)


def first_of_each(images: Any, labels: Tensor, per_class: int) -> TensorDataset:
    """The first `per_class` pictures of each class: a smaller set is part of every larger one."""
    chosen = torch.cat([(labels == label).nonzero()[:per_class, 0] for label in labels.unique()])
    return TensorDataset(images[chosen], labels[chosen])


@cache
def features(world: str, configuration: str, per_class: int, seed: int) -> tuple[Tensor, Tensor]:
    """What the part of the network that stays fixed makes of the pictures."""
    images, labels = drawn(world, per_class, seed)
    if configuration in DEAR:
        return images, labels
    frozen = split_frozen(start(configuration, RUN, classes_of(world), seed=0)).frozen
    with torch.inference_mode():
        found = torch.cat([frozen(part) for part in images.split(64)])
    return found.clone(), labels


def classes_of(world: str) -> int:
    return len(WORLDS[world].classes)


def loaders(world: str, per_class: int, configuration: str, seed: int) -> dict[str, DataLoader]:
    """Loaders of "train" (one pass is 48 batches), "val" and "test", cut where learning begins."""
    fixed = {split: features(world, configuration, *drawing(split, seed)) for split in ("train", "val", "test")}
    train = first_of_each(*fixed["train"], per_class)
    own = torch.Generator()  # DataLoader draws a number from it; the order comes from torch's own generator
    rest = {split: TensorDataset(*fixed[split]) for split in ("val", "test")}
    shuffled = DataLoader(train, batch_sampler=FixedUpdatesSampler(len(train)), generator=own)
    return {"train": shuffled} | {split: DataLoader(data, 90) for split, data in rest.items()}


# ------------------------------------------------------------------------------------------------------------ a run


class Bfloat16(nn.Module):
    """The network, computed with numbers of 16 bits, which takes less time on processors that have them."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return self.model(images).float()


def begin(world: str, configuration: str, seed: int) -> tuple[nn.Module, nn.Module]:
    """The network before training, and the part of it that learns, which takes what `loaders` give.

    The same seed gives the same new head to every pretrained configuration.
    """
    model = start(configuration, RUN, classes_of(world), seed)
    if configuration in CHEAP:
        return model, split_frozen(model).learning
    return model, Bfloat16(model) if "AVX512" in torch.backends.cpu.get_cpu_capability() else model


def train_in_rounds(world: str, per_class: int, configuration: str, lr: float, seed: int) -> Record:
    """One run of the tables, whichever process makes it: one round of 48 updates, or rounds until val has not improved for
    two; accuracies on val and test after each."""
    rounds = rounds_of(world, per_class, configuration)
    data, (_, model) = loaders(world, per_class, configuration, seed), begin(world, configuration, seed)
    optimizer = momentum([p for p in model.parameters() if p.requires_grad], lr)
    found: Record = {"val": [], "test": []}
    seed_all(seed)
    while len(found["val"]) < rounds and not stopped(found["val"]):
        with suppress(FloatingPointError):  # the rate is too high, and the accuracy will say so
            train_one_epoch(model, data["train"], optimizer)
        for split in ("val", "test"):
            found[split].append(evaluate(model, data[split]).accuracy)
    return found


def stopped(vals: Sequence[float]) -> bool:
    return len(vals) - vals.index(max(vals)) > PATIENCE if vals else False


# ----------------------------------------------------------------------------------------------------- the protocol

Cell = tuple[str, int, str]  # world, pictures of each class, configuration


def cells(world: str) -> list[Cell]:
    return [(world, per_class, name) for name, counts in SIZES[world].items() for per_class in counts]


def rounds_of(world: str, per_class: int, configuration: str) -> int:
    """Both questions are asked of the two cheap configurations on `things`, of the others only the first."""
    return MOST if world == "things" and per_class in LONG_FOR.get(configuration, ()) else 1


def questions(cell: Cell) -> tuple[str, ...]:
    return (EQUAL, LONG) if rounds_of(*cell) > 1 else (EQUAL,)


def reached(run: Record, question: str) -> tuple[int, float, float]:
    """Updates, val and test accuracy: after 48 updates, or where val was best."""
    place = 0 if question == EQUAL else run["val"].index(max(run["val"]))
    return UPDATES * (place + 1), run["val"][place], run["test"][place]


def first_rates(cell: Cell, question: str, known: Mapping[Key, Record]) -> list[float]:
    """What is tried first; none yet where that depends on runs that are not known.

    Usually a rate and its two neighbours. What is dear takes, at other sizes, the rate that was best at 20 of each class, with
    fewer pictures the next higher one too; and what trains layer4 for long takes the rate that was best for 48 updates.
    """
    world, per_class, configuration = cell
    if question == LONG and configuration != "head":
        best = tried(cell, EQUAL, known)[1]
        return [best] if best else []
    if configuration in DEAR and per_class != MIDDLE:
        best = tried((world, MIDDLE, configuration), EQUAL, known)[1]
        return list(LR_GRID[LR_GRID.index(best) :][: 2 if per_class < MIDDLE else 1]) if best else []
    place = LR_GRID.index(FIRST_RATE[configuration])
    return list(LR_GRID[place - 1 : place + 2])


def tried(cell: Cell, question: str, known: Mapping[Key, Record]) -> tuple[list[float], float | None]:
    """The rates that are tried, as far as the known runs tell, and the best on val, once that is known.

    Where the best of three or more is the first or the last, the next one is tried too, and where nothing is learnt at any
    rate, the next higher one: at chance, noise chooses.
    """
    rates = first_rates(cell, question, known)
    if len(rates) == 1:
        return rates, rates[0]
    while rates and all((*cell, lr, seed) in known for lr in rates for seed in SEARCH):
        vals = {lr: round(mean(reached(known[*cell, lr, seed], question)[1] for seed in SEARCH), 3) for lr in rates}
        best = max(rates, key=lambda lr: vals[lr])
        at_chance, at_edge = vals[best] <= LEARNT, len(rates) > 2 and best in (rates[0], rates[-1])
        if len(rates) == MOST_RATES or not (at_chance or at_edge) or (at_chance and rates[-1] == LR_GRID[-1]):
            return rates, best
        up = at_chance or best == rates[-1]
        rates = sorted([*rates, LR_GRID[LR_GRID.index(rates[-1]) + 1 if up else LR_GRID.index(rates[0]) - 1]])
    return rates, None


def wanted(cell: Cell, known: Mapping[Key, Record]) -> list[Key]:
    """The runs of a cell, as far as the known ones tell which: two seeds at every rate, and all at the best."""
    keys = []
    for question in questions(cell):
        rates, best = tried(cell, question, known)
        keys += [(*cell, lr, seed) for lr in rates for seed in (SEEDS if lr == best else SEARCH)]
    return list(dict.fromkeys(keys))


def rows_of(cell: Cell, known: Mapping[Key, Record]) -> Iterator[Row]:
    """The rows of a cell; those of the rate that val chose have a test accuracy too."""
    _, per_class, configuration = cell
    for question in questions(cell):
        rates, best = tried(cell, question, known)
        for lr in rates:
            for seed in SEEDS if lr == best else SEARCH:
                updates, val, test = reached(known[*cell, lr, seed], question)
                names = {"per_class": per_class, "configuration": configuration, "stop": question, "lr": lr, "seed": seed}
                yield names | {"updates": updates, "val": val, "test": test if lr == best else None}


# ------------------------------------------------------------------------------------------------------- the tables


def table_path(world: str) -> Path:
    return FOLDER / f"sizes-{world}.csv"


def read_table(world: str) -> list[Row]:
    """The runs made on a world."""
    kinds = {"per_class": int, "configuration": str, "stop": str, "lr": float, "seed": int, "updates": int, "val": float}
    with table_path(world).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    test = [{"test": float(row["test"]) if row["test"] else None} for row in rows]
    return [{name: kind(row[name]) for name, kind in kinds.items()} | more for row, more in zip(rows, test, strict=True)]


def chosen(world: str) -> dict[tuple[str, int], float]:
    """The rate that val chose for 48 updates, by configuration and pictures of each class."""
    rows = [row for row in read_table(world) if row["test"] is not None and row["stop"] == EQUAL]
    return {(row["configuration"], row["per_class"]): row["lr"] for row in rows}


def write_table(world: str, rows: Sequence[Row]) -> Path:
    """The table, written anew as a whole: stopped in between, the one from before is still there."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    shown = [f"{row['test']:.4f}" if row["test"] is not None else "" for row in rows]
    writer.writerows({**row, "val": f"{row['val']:.4f}", "test": test} for row, test in zip(rows, shown, strict=True))
    return write_atomic(table_path(world), text.getvalue())


def make_table(world: str, scheduler: str | None = None) -> Path:
    """Every run, also at rates that are not chosen, measures test too; nothing but the rows of chosen rates looks at it."""
    about = {"world": world, "weights": RUN.weights, "updates": UPDATES, "torch": torch.__version__}
    journal = Journal(table_path(world).with_suffix(".jsonl"), about)

    def all_wanted(known: Mapping[Key, Record]) -> list[Key]:
        keys = [key for cell in cells(world) for key in wanted(cell, known)]
        print(f"{world}: {sum(key in known for key in keys)} of {len(keys)} runs", flush=True)
        return keys

    known = complete(all_wanted, train_in_rounds, journal, scheduler)
    rows = sorted((row for cell in cells(world) for row in rows_of(cell, known)), key=in_order)
    path = write_table(world, rows)
    journal.finish()
    return path


def in_order(row: Row) -> tuple:
    return row["per_class"], CONFIGURATIONS.index(row["configuration"]), row["stop"], row["lr"], row["seed"]


def main(scheduler: str | None = None) -> None:
    """Make the tables anew; stopped and begun again, it makes the runs that are missing.

    Args:
        scheduler: the address of a dask scheduler, whose workers make the runs side by side.
    """
    torch.set_num_threads(1)  # so that the numbers are the same however many cores there are
    for world in WORLDS:
        print(make_table(world, scheduler))


if __name__ == "__main__":
    main()
