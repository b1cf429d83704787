"""Lesson 13, emotion: cached features of faces, and heads that are tested on every picture once, fold by fold."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from course_utils.experiments import screening
from course_utils.fields.faces import GROUPS, MOODS, Faces, majority
from course_utils.finetune import freeze
from course_utils.models import load_model
from course_utils.profiles import Settings
from course_utils.rng import preserve_rng_state
from course_utils.weights import get_weights

RATE, EPOCHS, BATCH = 1e-3, 10, 32


def features(faces: Faces, run: Settings) -> Tensor:
    """What a frozen, pretrained ResNet-18 makes of each picture up to layer3: its maps, averaged to 4×4 places, (n, 4096)."""
    weights = get_weights("resnet18", run.weights)
    transform = weights.transforms()  # type: ignore[union-attr]
    layers = list(freeze(load_model("resnet18", weights=run.weights)).children())[:-3]  # without layer4, pooling and head
    body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten()).eval().to(run.device)
    images = torch.from_numpy(faces.images).permute(0, 3, 1, 2)
    with torch.no_grad():
        return torch.cat([body(transform(some).to(run.device)).cpu() for some in images.split(64)])


def train_head(features: Tensor, labels: Tensor, seed: int = 0) -> nn.Module:
    """A linear head on normalised features, trained with Adam; `seed` decides its first values and the order of pictures."""
    with preserve_rng_state():
        torch.manual_seed(seed)
        size = features.shape[1]
        head = nn.Sequential(nn.BatchNorm1d(size, affine=False), nn.Linear(size, len(MOODS)))
        optimizer = torch.optim.Adam(head.parameters(), lr=RATE)
        for _ in range(EPOCHS):
            for some in torch.randperm(len(labels)).split(BATCH):
                if len(some) > 1:  # a batch norm cannot learn from one picture
                    optimizer.zero_grad()
                    cross_entropy(head(features[some]), labels[some]).backward()
                    optimizer.step()
    return head.eval()


def folds(subjects: np.ndarray, by: str, seed: int = 0) -> Tensor:
    """For each picture, the number of the fold (0 to 3) in which it is tested: drawn for each "picture" or each "subject"."""
    numbers = torch.arange(len(subjects)) if by == "picture" else torch.from_numpy(subjects)
    return screening.folds(numbers, seed)


def by_subject(right: Tensor | np.ndarray, faces: Faces) -> dict[str, list[float]]:
    """By group, the share of `right` (n,) of each subject."""
    values = np.asarray(right, dtype=float)
    shares: dict[str, list[float]] = {group: [] for group in GROUPS}
    for number in np.unique(faces.subjects):
        mine = faces.subjects == number
        shares[str(faces.groups[mine][0])].append(float(values[mine].mean()))
    return shares


def six_of(chosen: Tensor) -> list[int]:
    """Up to six places where `chosen` (n,) is true, spread over all of them."""
    places = torch.where(chosen)[0]
    return places[:: max(1, len(places) // 6)][:6].tolist()


def labels_of(faces: Faces) -> Tensor:
    return torch.from_numpy(majority(faces.annotations))
