"""What lesson 02 tries heads on: the features of some pictures of each class, computed once."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Seen(NamedTuple):
    """Features (pictures, values), labels, and the file of each picture."""

    features: Tensor
    labels: Tensor
    paths: list[Any]


def features_of(backbone: nn.Module, dataset: Any, per_class: int) -> Seen:
    """What `backbone` makes of the first `per_class` pictures of each class of `dataset` (a `Pictures`), in its order."""
    chosen, taken = [], dict.fromkeys({label for _, label in dataset.samples}, 0)
    for place, (_, label) in enumerate(dataset.samples):
        if taken[label] < per_class:
            taken[label] += 1
            chosen.append(place)
    with torch.no_grad():
        batches = [backbone(torch.stack([dataset[i][0] for i in part])) for part in in_parts(chosen, 64)]
    labels = torch.tensor([dataset.samples[i][1] for i in chosen])
    return Seen(torch.cat(batches), labels, [dataset.samples[i][0] for i in chosen])


def in_parts(items: list[int], size: int) -> list[list[int]]:
    return [items[begin : begin + size] for begin in range(0, len(items), size)]
