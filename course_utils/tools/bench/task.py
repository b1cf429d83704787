"""What each contestant gets: the same network, the same loaders, the same rate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

from course_utils.devices import mixed_precision
from course_utils.finetune import freeze, unfreeze
from course_utils.heads import replace_head
from course_utils.models import load_model
from course_utils.tools.bench.jobs import BATCH, Job
from course_utils.weights import shapes_weights


@dataclass
class Task:
    """One training, ready to begin."""

    job: Job
    model: nn.Module
    train: DataLoader
    val: DataLoader
    lr: float
    variant: str = ""  # what stands after the + in the contestant's name

    @property
    def mixed(self) -> bool:
        """Whether to train in bfloat16 where that is enough, each library in its own way."""
        return self.variant == "bf16"

    def autocast(self) -> torch.autocast:
        """What those use who have no way of their own; it keeps no copies of weights from one step to the next."""
        return mixed_precision("cpu", "bfloat16" if self.mixed else "float32")

    @property
    def epochs(self) -> int:
        return self.job.epochs

    @property
    def every(self) -> int:
        return self.job.every

    @property
    def num_classes(self) -> int:
        return len(self.train.dataset.classes)  # type: ignore[attr-defined]

    @property
    def image_shape(self) -> torch.Size:
        return self.val.dataset[0][0].shape

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([p for p in self.model.parameters() if p.requires_grad], lr=self.lr, momentum=0.9)


Contestant = Callable[[Task], float]  # trains, and returns the last validation accuracy


def open_task(job: Job, folder: Path, lr: float, seed: int, variant: str = "") -> Task:
    """The task of one training; everything about it follows from the seed."""
    transform = shapes_weights()[job.architecture].transforms()
    train, val = (ImageFolder(str(folder / split), transform) for split in ("train", "val"))
    model = load_model(job.architecture, weights="shapes")
    torch.manual_seed(seed)
    replace_head(model, len(train.classes))
    if job.learns:
        freeze(model)
    for part in job.learns:
        unfreeze(model.get_submodule(part))
    shuffled = DataLoader(train, BATCH, shuffle=True, generator=torch.Generator().manual_seed(seed))
    return Task(job, model.train(), shuffled, DataLoader(val, BATCH), lr, variant)
