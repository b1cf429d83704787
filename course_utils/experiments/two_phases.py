"""Lesson 07, two phases and learning rates: a bench to train on, and the table of the comparisons.

`course sweep two_phases` makes `data/sweeps/two-phases-tiny.csv` anew, here or on the workers of a scheduler: every recipe of
the lesson from five seeds, on features cached where learning begins. A seed decides the new head and the order of the pictures.
"""

from __future__ import annotations

import csv
import io
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from torch.utils.data import DataLoader, Subset

from course_utils.data import open_data
from course_utils.experiments.freezing import AT_MOST, FOLDER
from course_utils.files import write_atomic
from course_utils.finetune import eval_mode, freeze, param_groups, unfreeze
from course_utils.heads import replace_head
from course_utils.images import in_memory
from course_utils.losses import Loss
from course_utils.models import load_model
from course_utils.precomputed import precompute
from course_utils.profiles import Settings, settings
from course_utils.rng import preserve_rng_state, seed_all
from course_utils.spread import Journal, Key, Record, spread
from course_utils.sweeps import Row
from course_utils.train import evaluate, fit
from course_utils.weights import get_weights

RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
SEEDS = range(5)
EPOCHS = 5  # of each phase
HEAD_RATE, RATE = 1e-3, 3e-4  # of phase one, and where the hill of phase two has its top
FACTOR = 2.6  # from stage to stage, as ULMFiT has it

# ------------------------------------------------------------------------------------------------------- the bench


class Bench:
    """Pictures of the profile in three splits, models that start on them, and their features, cached where learning begins.

    `classes` are the names; `pictures` a loader for each of "train", "val" and "test".
    """

    def __init__(self, run: Settings, per_class: int = 20):
        self.run = run
        data = open_data(run, transform=self.transform)
        self.classes = data.classes
        limits = {"train": per_class, "val": AT_MOST, "test": AT_MOST}
        few = {name: in_memory(first_of_each(getattr(data, name).dataset, count)) for name, count in limits.items()}
        shuffled = DataLoader(few.pop("train"), run.batch_size, shuffle=True, generator=torch.Generator())
        self.pictures = {"train": shuffled} | {name: DataLoader(one, 64) for name, one in few.items()}
        self.cached: dict[tuple[str, str], DataLoader] = {}  # by the part where learning begins, and the split

    @property
    def transform(self) -> Any:
        weights: Any = get_weights("resnet18", self.run.weights)
        return weights.transforms()

    def start(self, seed: int = 0, state: dict[str, Tensor] | None = None) -> nn.Module:
        """The pretrained ResNet-18, frozen, with a new head that learns; or with the values of `state`."""
        with preserve_rng_state():
            seed_all(seed)
            model = replace_head(freeze(load_model("resnet18", weights=self.run.weights)), len(self.classes))
        model.load_state_dict(state or model.state_dict())
        return model.to(self.run.device)

    def cut(self, model: nn.Module, seed: int = 0) -> tuple[nn.Module, DataLoader, DataLoader]:
        """What learns in `model`, and what it gets to see: cached features of train, in an order by `seed`, and of val."""
        train, val = (self.features(model, split) for split in ("train", "val"))
        train.generator.manual_seed(seed)
        torch.manual_seed(seed)
        return halves(model, first_to_learn(model))[1], train, val

    def features(self, model: nn.Module, split: str) -> DataLoader:
        """What the frozen part of `model` makes of a split; it is that of every model in which learning begins there."""
        part = first_to_learn(model)
        if (part, split) not in self.cached:
            with redirect_stdout(io.StringIO()):  # of a twin, which nobody trains
                self.cached[part, split] = precompute(halves(freeze(self.start()), part)[0], self.pictures[split], cache=None)
        return self.cached[part, split]


def first_to_learn(model: nn.Module) -> str:
    """The first part of a ResNet in which something learns."""
    return next(name for name, part in model.named_children() if any(p.requires_grad for p in part.parameters()))


def halves(model: nn.Module, part: str) -> tuple[nn.Module, nn.Module]:
    """A ResNet before `part` and from there on: the cut that `split_frozen` makes, without the search for it."""
    parts = [(name, child) for name, child in model.named_children() if name != "fc"]
    parts += [("flatten", nn.Flatten()), ("fc", model.get_submodule("fc"))]
    at = [name for name, _ in parts].index(part)
    frozen, learning = nn.Sequential(OrderedDict(parts[:at])), nn.Sequential(OrderedDict(parts[at:]))
    return frozen.eval(), learning


def first_of_each(dataset: Any, count: int) -> Subset:
    """The first `count` pictures of each class, or all that there are."""
    labels = [label for _, label in dataset.samples]
    chosen = [[i for i, label in enumerate(labels) if label == kind][:count] for kind in sorted(set(labels))]
    return Subset(dataset, [i for some in chosen for i in some])


def statistics_again(learning: nn.Module, train: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Each batch norm of `learning` measures its statistics anew, as the plain mean over the batches of one pass."""
    norms = [part for part in learning.modules() if isinstance(part, nn.BatchNorm2d) and part.training]
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    with torch.no_grad():
        for features, _ in train:
            learning(features)
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum


# ----------------------------------------------------------------------------------------------------- the recipes

Make = Callable[[nn.Module], Optimizer]


def adam(lr: float) -> Make:
    return lambda model: Adam(learning(model), lr=lr)


def sgd(lr: float) -> Make:
    return lambda model: SGD(learning(model), lr=lr, momentum=0.9)


def falling(model: nn.Module) -> Optimizer:
    """The head at the rate of phase one, each stage before it 2.6 times slower."""
    return Adam(param_groups(model, {"fc": HEAD_RATE, "layer4": HEAD_RATE / FACTOR, "layer3": HEAD_RATE / FACTOR**2}))


def learning(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def warmed_up(optimizer: Optimizer) -> LRScheduler:
    """From 0 to the optimizer's rates within ten updates."""
    return LambdaLR(optimizer, lambda step: min(1.0, step / 10))


def summed(outputs: Tensor, labels: Tensor) -> Tensor:
    """The loss of a batch as a sum, not as a mean."""
    return cross_entropy(outputs, labels, reduction="sum")


class Runs:
    """What one seed trains with so many pictures; `state` is the model at the end of phase one, where most runs begin."""

    def __init__(self, bench: Bench, seed: int, head_rate: float = HEAD_RATE, phases: int = 1):
        self.bench, self.seed = bench, seed
        self.phase = EPOCHS * 4 // len(bench.pictures["train"])  # epochs that make 20 updates, whatever the number of pictures
        model = bench.start(seed)
        self.head = self.train(model, [("fc",)], adam(head_rate), [phases * self.phase])
        self.state = model.state_dict()

    def after_head(self, make: Make, *parts: Sequence[str], epochs: Sequence[int] = (), **options: Any) -> Row:
        """From the end of phase one."""
        return self.train(self.bench.start(self.seed, self.state), parts, make, epochs or [self.phase], **options)

    def at_once(self, make: Make, part: Sequence[str]) -> Row:
        """From a new head, for as many updates as both phases have."""
        return self.train(self.bench.start(self.seed), [part], make, [2 * self.phase])

    def train(
        self,
        model: nn.Module,
        parts: Sequence[Sequence[str]],
        make: Make,
        epochs: Sequence[int],
        *,
        held: bool = False,
        schedule: Callable[[Optimizer], LRScheduler] | None = None,
        loss: Loss = cross_entropy,
    ) -> Row:
        """Each of `parts` learns for its epochs; what is new in it gets a group of its own in the one optimizer."""
        optimizer = None
        for learns, count in zip(parts, epochs, strict=True):
            known = set(learning(model))
            for part in learns:
                unfreeze(model.get_submodule(part))
            if held:
                hold_statistics(model)
            half, train, val = self.bench.cut(model, self.seed)
            if optimizer is None:
                optimizer = make(model)
            else:
                optimizer.add_param_group({"params": [one for one in learning(model) if one not in known]})
            steps = schedule(optimizer) if schedule else None
            fit(half, train, val, optimizer, epochs=count, step_scheduler=steps, loss_function=loss)
        splits = {"train": train, "val": val, "test": self.bench.features(model, "test")}
        found = {split: evaluate(half, seen).accuracy for split, seen in splits.items()}
        statistics_again(half, train)
        return found | {"again": evaluate(half, val).accuracy}  # val, with batch norm's statistics measured again


def hold_statistics(model: nn.Module) -> None:
    """Freeze the batch norm of `layer4`: its statistics stay as they are, and so do its scale and shift."""
    for part in model.get_submodule("layer4").modules():
        if isinstance(part, nn.BatchNorm2d):
            freeze(part)


def maps(model: nn.Module, images: Tensor) -> Tensor:
    """What `layer4` answers to each picture, place by place: (pictures, 512, rows, columns)."""
    body = nn.Sequential(*list(model.children())[:-2])  # all but the pooling and the head
    with torch.no_grad(), eval_mode(model):
        return body(images.to(next(model.parameters()).device)).cpu()


# -------------------------------------------------------------------------------------------------------- the table

LAST, LAST_TWO = ("layer4", "fc"), ("layer3", "layer4", "fc")
LONG = "long head"
RECIPES: dict[str, Callable[[Runs, float], Row]] = {
    "head": lambda runs, lr: runs.head,
    "two phases": lambda runs, lr: runs.after_head(adam(lr), LAST),
    "all at once": lambda runs, lr: runs.at_once(adam(lr), LAST),
    LONG: lambda runs, lr: runs.after_head(adam(lr), LAST),
    "statistics held": lambda runs, lr: runs.after_head(adam(lr), LAST, held=True),
    "SGD": lambda runs, lr: runs.after_head(sgd(lr), LAST),
    "Adam, summed loss": lambda runs, lr: runs.after_head(adam(lr), LAST, loss=summed),
    "SGD, summed loss": lambda runs, lr: runs.after_head(sgd(lr), LAST, loss=summed),
    "warm-up": lambda runs, lr: runs.after_head(adam(lr), LAST, schedule=warmed_up),
    "one rate": lambda runs, lr: runs.after_head(adam(lr), LAST_TWO),
    "falling rates": lambda runs, lr: runs.after_head(falling, LAST_TWO),
    "stage by stage": lambda runs, lr: runs.after_head(adam(lr), LAST, LAST_TWO, epochs=[2, 3]),
}
FEW: dict[str, Sequence[float]] = {"head": [HEAD_RATE], "two phases": [RATE], "all at once": [RATE], LONG: [RATE]}
PLAN: dict[str, Sequence[float]] = FEW | {
    "two phases": RATES,
    "statistics held": RATES[2:],
    "SGD": RATES[2:],
    "Adam, summed loss": [HEAD_RATE],
    "SGD, summed loss": [HEAD_RATE],
    "warm-up": [RATE, 1e-2],
    "one rate": [RATE],
    "falling rates": [HEAD_RATE],
    "stage by stage": [RATE],
}


KEY = ("per_class", "recipe", "lr", "seed")
SHARES = ("train", "val", "test", "again")


def plan() -> list[Key]:
    """Every run of the table, in its order."""
    recipes: list[tuple[int, dict[str, Sequence[float]]]] = [(20, PLAN), (5, FEW)]
    return [(n, name, lr, seed) for n, some in recipes for name, rates in some.items() for lr, seed in product(rates, SEEDS)]


@cache
def kept_bench(run: Settings, per_class: int) -> Bench:
    """Once in a process, for all runs that it makes."""
    return Bench(run, per_class)


@cache
def kept_runs(run: Settings, per_class: int, seed: int, long: bool) -> Runs:
    bench = kept_bench(run, per_class)
    return Runs(bench, seed, 10 * HEAD_RATE, phases=5) if long else Runs(bench, seed)


def train_one(run: Settings, per_class: int, recipe: str, lr: float, seed: int) -> Record:
    """One run of the table, whichever process makes it."""
    return RECIPES[recipe](kept_runs(run, per_class, seed, recipe == LONG), lr)


COMPARED = {"all at once": "two phases", LONG: "two phases", "warm-up": "two phases"}
COMPARED |= {"falling rates": "one rate", "stage by stage": "one rate"}


def differences(rows: Sequence[Row], per_class: int = 20) -> dict[tuple[str, str], list[float]]:
    """For each recipe and what it is held against, the differences on test, seed by seed."""
    tests: dict[str, dict[int, float]] = {}
    for row in rows:
        if row["per_class"] == per_class and (row["lr"] == RATE or row["recipe"] == "falling rates"):
            tests.setdefault(row["recipe"], {})[row["seed"]] = row["test"]
    pairs = [(one, other) for one, other in COMPARED.items() if one in tests]
    return {(a, b): [tests[a][seed] - tests[b][seed] for seed in sorted(tests[a])] for a, b in pairs}


def table_path(data: str) -> Path:
    return FOLDER / f"two-phases-{Path(data).name}.csv"


def read_table(data: str) -> list[Row]:
    """The rows made on the data set `data`; none if nobody has made them yet."""
    if not table_path(data).exists():
        return []
    kinds = {"per_class": int, "recipe": str, "seed": int}
    with table_path(data).open(encoding="utf-8", newline="") as file:
        return [{name: kinds.get(name, float)(value) for name, value in row.items()} for row in csv.DictReader(file)]


def write_table(data: str, rows: Sequence[Row]) -> Path:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: f"{value:.4f}" if name in SHARES else value for name, value in row.items()} for row in rows)
    table_path(data).parent.mkdir(exist_ok=True)
    return write_atomic(table_path(data), text.getvalue())


def main(scheduler: str | None = None) -> None:
    """Make the table anew; stopped and begun again, it makes the runs that are missing.

    Args:
        scheduler: the address of a dask scheduler, whose workers make the runs side by side.
    """
    torch.set_num_threads(1)  # so that the numbers are the same however many cores there are
    run = settings()
    about = {"data": run.data, "weights": run.weights, "epochs": EPOCHS, "torch": torch.__version__}
    journal = Journal(table_path(run.data).with_suffix(".jsonl"), about)
    known = spread(partial(train_one, run), plan(), scheduler=scheduler, journal=journal)
    print(write_table(run.data, [dict(zip(KEY, key, strict=True)) | record for key, record in known.items()]))
    journal.finish()
