"""The recipe of torchvision's reference scripts, in our words: smoothed meters, top-1 and top-5, a schedule in steps."""

from collections import deque

import torch
from torch import Tensor, nn

from course_utils.tools.bench.task import Task


def train(task: Task) -> float:
    optimizer, criterion = task.optimizer(), nn.CrossEntropyLoss()
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=30, gamma=0.1)
    recent: deque[list[float]] = deque(maxlen=20)
    accuracy = 0.0
    for epoch in range(1, task.epochs + 1):
        task.model.train()
        for images, labels in task.train:
            with task.autocast():
                logits = task.model(images)
                loss = criterion(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            recent.append([loss.item(), *top(logits, labels)])
        schedule.step()
        if epoch % task.every == 0:
            accuracy = evaluate(task, criterion)
    return accuracy


def top(logits: Tensor, labels: Tensor) -> list[float]:
    """The shares of pictures whose label is the largest logit, and is among the five largest."""
    right = logits.topk(5, dim=1).indices == labels[:, None]
    return [right[:, :k].any(1).float().mean().item() for k in (1, 5)]


def evaluate(task: Task, criterion: nn.Module) -> float:
    task.model.eval()
    sums = torch.zeros(3)
    with torch.inference_mode(), task.autocast():
        for images, labels in task.val:
            logits = task.model(images)
            sums += len(labels) * torch.tensor([criterion(logits, labels).item(), *top(logits, labels)])
    return float(sums[1]) / len(task.val.dataset)  # type: ignore[arg-type]
