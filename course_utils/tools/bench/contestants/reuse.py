"""Ours: what is frozen runs once; where nothing is frozen, pictures are read once, and channels lie side by side."""

from copy import deepcopy

import torch
from torch import nn
from torch.utils.data import DataLoader

from course_utils import fit, head_of, in_memory, precompute, split_frozen
from course_utils import sweep as sweep_over
from course_utils.tools.bench.jobs import BATCH
from course_utils.tools.bench.task import Task


def train(task: Task) -> float:
    with task.autocast():
        learning, train, val = prepare(task)
        return fit(learning, train, val, task.optimizer(), epochs=task.epochs)[-1].val.accuracy


def prepare(task: Task) -> tuple[nn.Module, DataLoader, DataLoader]:
    """What learns, and loaders of what it learns from."""
    if not task.job.learns:
        train = DataLoader(in_memory(task.train.dataset), BATCH, shuffle=True, generator=task.train.generator)
        model = task.model.to(memory_format=torch.channels_last)
        return model, train, DataLoader(in_memory(task.val.dataset), BATCH)
    frozen, learning = split_frozen(task.model)
    train, val = (precompute(frozen, loader, cache=None, half=task.mixed) for loader in (task.train, task.val))
    return learning, train, val


def sweep(task: Task) -> list[float]:
    with task.autocast():
        learning, train, val = prepare(task)

    def start(seed: int) -> nn.Module:
        fresh = deepcopy(learning)
        torch.manual_seed(seed)
        head_of(fresh).reset_parameters()  # type: ignore[operator]
        return fresh

    with task.autocast():
        rows = sweep_over(start, train, val, rates=task.job.rates, seeds=task.job.seeds, epochs=task.epochs)
    return [row["val"] for row in rows if (row["lr"], row["seed"]) in task.job.sample]
