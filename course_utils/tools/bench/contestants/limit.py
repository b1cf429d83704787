"""The least that the job can cost: every picture read once, and sent once through what is frozen."""

import torch
from torch import nn

from course_utils.tools.bench.task import Task


def train(task: Task) -> None:
    for part in task.job.learns:
        task.model.set_submodule(part, nn.Identity())
    task.model.eval()
    with torch.inference_mode():
        for loader in (task.train, task.val):
            for images, _ in loader:
                task.model(images)


def sweep(task: Task) -> list[None]:
    return [train(task)]  # type: ignore[func-returns-value]
