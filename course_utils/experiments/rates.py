"""The slider below lesson 07 on the course's site: how phase two goes, epoch by epoch, at each of nine learning rates.

`course sweep rates` makes `data/sweeps/rates.csv` anew, here or on the workers of a scheduler: ResNet-18 on the small pictures,
`layer4` and the head after phase one, from five seeds. A seed decides the new head and the order of the pictures.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from functools import cache, partial
from itertools import product
from pathlib import Path

import torch

from course_utils.experiments.freezing import FOLDER
from course_utils.experiments.two_phases import LAST, RATES, SEEDS, Runs, adam, kept_runs
from course_utils.files import write_atomic
from course_utils.finetune import unfreeze
from course_utils.profiles import Settings, settings
from course_utils.spread import Journal, Key, Record, spread
from course_utils.sweeps import Row
from course_utils.train import evaluate, fit

PER_CLASS = 20
EPOCHS = 10  # of phase two; twice those of the lesson, so that one sees where a curve is going
TABLE = FOLDER / "rates.csv"


def plan() -> list[Key]:
    """Every run of the table, a rate and a seed, in its order."""
    return list(product(RATES, SEEDS))


@cache
def start(run: Settings, seed: int) -> Runs:
    """Phase one of a seed, which all its rates go on from."""
    return kept_runs(run, PER_CLASS, seed, long=False)


def train_one(run: Settings, lr: float, seed: int) -> Record:
    """The losses on train and the accuracies on val, before the first epoch of phase two and after each."""
    runs = start(run, seed)
    model = runs.bench.start(seed, runs.state)
    for part in LAST:
        unfreeze(model.get_submodule(part))
    half, train, val = runs.bench.cut(model, seed)
    before, vals = evaluate(half, train), evaluate(half, val)
    history = fit(half, train, val, adam(lr)(model), epochs=EPOCHS)
    losses = [before.loss, *(epoch.train.loss for epoch in history)]
    return {"loss": losses, "val": [vals.accuracy, *(epoch.val.accuracy for epoch in history)]}


def rows_of(lr: float, seed: int, record: Record) -> list[Row]:
    pairs = enumerate(zip(record["loss"], record["val"], strict=True))
    return [{"lr": lr, "seed": seed, "epoch": epoch, "loss": loss, "val": val} for epoch, (loss, val) in pairs]


def read_table() -> list[Row]:
    """A row for each rate, seed and epoch; epoch 0 is the end of phase one."""
    kinds = {"seed": int, "epoch": int}
    with TABLE.open(encoding="utf-8", newline="") as file:
        return [{name: kinds.get(name, float)(value) for name, value in row.items()} for row in csv.DictReader(file)]


def write_table(rows: Sequence[Row]) -> Path:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(row | {"loss": f"{row['loss']:.4f}", "val": f"{row['val']:.4f}"} for row in rows)
    return write_atomic(TABLE, text.getvalue())


def main(scheduler: str | None = None) -> None:
    """Make the table anew; stopped and begun again, it makes the runs that are missing.

    Args:
        scheduler: the address of a dask scheduler, whose workers make the runs side by side.
    """
    torch.set_num_threads(1)  # so that the numbers are the same however many cores there are
    run = settings(profile="tiny")
    journal = Journal(TABLE.with_suffix(".jsonl"), about={"epochs": EPOCHS, "torch": torch.__version__})
    known = spread(partial(train_one, run), plan(), scheduler=scheduler, journal=journal)
    print(write_table([row for (lr, seed), record in known.items() for row in rows_of(lr, seed, record)]))
    journal.finish()
