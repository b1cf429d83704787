"""What the station satellites of lesson 13 needs besides: features of many tiles, and heads that are trained fast."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils.rng import preserve_rng_state


def features_of(backbone: nn.Module, images: Tensor) -> Tensor:
    """What `backbone` makes of prepared pictures (n, 3, height, width): (n, channels)."""
    with torch.no_grad():
        return torch.cat([backbone(batch) for batch in images.split(64)])


def train_head(features: Tensor, labels: Tensor, *, steps: int = 120, seed: int = 0) -> nn.Module:
    """A linear head on standardised features, trained on all of them at once, in evaluation mode."""
    mean, deviation = features.mean(0), features.std(0) + 1e-5
    with preserve_rng_state():
        torch.manual_seed(seed)
        linear = nn.Linear(features.shape[1], int(labels.max()) + 1)
    optimizer = torch.optim.Adam(linear.parameters(), lr=0.01, weight_decay=1e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(linear((features - mean) / deviation), labels).backward()
        optimizer.step()
    with torch.no_grad():  # the same head for features as they come
        linear.weight.div_(deviation)
        linear.bias.sub_(linear.weight @ mean)
    return linear.requires_grad_(False).eval()


def nearest_elsewhere(features: Tensor, groups: Tensor) -> Tensor:
    """For each row the place of the most similar row of another group."""
    values = (features - features.mean(0)) / (features.std(0) + 1e-5)
    away = torch.cdist(values, values)
    return away.masked_fill(groups[:, None] == groups, float("inf")).argmin(1)
