"""The loop of the classical tutorials: in each epoch a phase of training and a phase of validation."""

import torch
from torch import nn

from course_utils.tools.bench.task import Task


def train(task: Task) -> float:
    model, optimizer, criterion = task.model, task.optimizer(), nn.CrossEntropyLoss()
    loaders = {"train": task.train, "val": task.val}
    accuracy = 0.0
    for epoch in range(1, task.epochs + 1):
        for phase in ("train", "val") if epoch % task.every == 0 else ("train",):
            model.train(phase == "train")
            running_loss, running_hits = 0.0, 0
            for images, labels in loaders[phase]:
                optimizer.zero_grad()
                with torch.set_grad_enabled(phase == "train"):
                    with task.autocast():
                        logits = model(images)
                        loss = criterion(logits, labels)
                    if phase == "train":
                        loss.backward()
                        optimizer.step()
                running_loss += loss.item() * len(images)
                running_hits += int((logits.argmax(1) == labels).sum())
            accuracy = running_hits / len(loaders[phase].dataset)  # type: ignore[arg-type]
    return accuracy
