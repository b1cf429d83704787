"""The searches of lesson 05 on features that were kept: what a nearest neighbour and what linear heads make of them."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from course_utils.sweeps import sweep

RATES = (0.003, 0.01, 0.03, 0.1, 0.3)
SEEDS = range(5)
EPOCHS = 10


def all_of(loader: DataLoader) -> tuple[Tensor, Tensor]:
    """The pictures behind `loader` in their own order, and their labels."""
    pairs = [loader.dataset[i] for i in range(len(loader.dataset))]  # type: ignore[arg-type]
    return torch.stack([image for image, _ in pairs]), torch.tensor([label for _, label in pairs])


def untrained(features: nn.Module) -> nn.Module:
    """A copy of `features` with random values in its convolutions, as torchvision's VGG has them before any training."""
    stranger = copy.deepcopy(features)
    for layer in stranger.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return stranger


def nearest(kept: Sequence[Tensor], count: int = 5) -> Tensor:
    """For each row of the second tensor the places of the `count` nearest rows of the first, the nearest first."""
    known, new = (rows.flatten(1) for rows in kept)
    return torch.cdist(new, known).topk(count, largest=False).indices


def right_by_neighbour(kept: Sequence[Tensor], labels: Sequence[Tensor]) -> float:
    """The share of the second rows whose nearest first row has their label."""
    return float((labels[0][nearest(kept, 1)[:, 0]] == labels[1]).float().mean())


def search(kept: Sequence[Tensor], labels: Sequence[Tensor]) -> tuple[list[float], float]:
    """Five linear heads at each of five rates, trained on the first rows: at the rate that is best on the second ones on
    average, the accuracy of each, and that rate."""
    outputs = int(labels[0].max()) + 1
    train, val = (TensorDataset(rows.flatten(1), numbers) for rows, numbers in zip(kept, labels, strict=True))
    size = train.tensors[0].shape[1]
    rows = sweep(
        lambda _: nn.Linear(size, outputs),
        DataLoader(train, 32, shuffle=True, generator=torch.Generator()),
        DataLoader(val, 32),
        rates=RATES,
        seeds=SEEDS,
        epochs=EPOCHS,
    )
    found = {rate: [row["val"] for row in rows if row["lr"] == rate] for rate in RATES}
    best = max(found, key=lambda rate: sum(found[rate]))
    return found[best], best
