"""What the last channels of a ResNet answer, and which of them answers to one class."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from course_utils.finetune import eval_mode


def all_of(loader: DataLoader) -> tuple[Tensor, Tensor]:
    """The pictures of `loader` and their labels, in the order of its data set."""
    dataset: Any = loader.dataset
    return torch.stack([image for image, _ in dataset]), torch.tensor([int(label) for label in dataset.labels])


def channels(model: nn.Module, images: Tensor) -> Tensor:
    """What the channels behind `layer4` answer to each picture, averaged over its places: (pictures, 512)."""
    body = nn.Sequential(*list(model.children())[:-1])  # all but the head
    with torch.no_grad(), eval_mode(model):
        return body(images.to(next(model.parameters()).device)).flatten(1).cpu()


def detector(answers: Tensor, labels: Tensor, kind: int) -> int:
    """The channel whose mean answer to the pictures of class `kind` is furthest above that to any other class."""
    means = torch.stack([answers[labels == label].mean(0) for label in labels.unique()])
    others = means[labels.unique() != kind].amax(0)
    return int((means[labels.unique() == kind][0] - others).argmax())
