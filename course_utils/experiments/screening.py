"""Lesson 13, medicine: features of X-rays, heads on them, and the two shares that a screening test reports."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from course_utils.models import load_model
from course_utils.profiles import Settings
from course_utils.rng import preserve_rng_state
from course_utils.weights import get_weights

RATE, STEPS = 0.01, 100
DRAWS = 2000  # of patients, for an interval


def backbone(run: Settings) -> nn.Module:
    """A pretrained ResNet-18 up to layer3, whose maps are averaged: from prepared pictures to (n, 256)."""
    model = load_model("resnet18", weights=run.weights)
    model.layer4 = model.fc = nn.Identity()
    return model.eval()


def features(images: Tensor, run: Settings) -> Tensor:
    """What the frozen backbone makes of pictures (n, 3, 64, 64) of 8 bits: (n, 256)."""
    body, prepare = backbone(run), get_weights("resnet18", run.weights).transforms()  # type: ignore[union-attr]
    with torch.no_grad():
        return torch.cat([body(prepare(some)) for some in images.split(32)])


def train_head(features: Tensor, labels: Tensor, seed: int = 0) -> nn.Module:
    """A linear head with two logits, behind a batch norm that brings all features to one scale; all pictures in each step."""
    size = features.shape[1]
    with preserve_rng_state():
        torch.manual_seed(seed)
        scale = nn.BatchNorm1d(size, eps=0.01, affine=False, momentum=None)
        head = nn.Sequential(scale, nn.Linear(size, 2))
    optimizer = torch.optim.Adam(head.parameters(), lr=RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        cross_entropy(head(features), labels).backward()
        optimizer.step()
    return head.eval()


def folds(numbers: Tensor, seed: int = 0) -> Tensor:
    """For each row a fold, 0 to 3; rows with the same number, such as pictures of one patient, share it."""
    names, places = numbers.unique(return_inverse=True)
    return (torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)) % 4)[places]


class Report(NamedTuple):
    """What the field reports; `low` and `high` bound the middle 95 % of the sensitivities of redrawn patients."""

    sensitivity: float
    low: float
    high: float
    specificity: float


def report(scores: Tensor, labels: Tensor, patients: Tensor, *, val: Tensor, test: Tensor, specificity: float = 0.9) -> Report:
    """Sensitivity and specificity on the rows of `test` above the threshold that the healthy rows of `val` choose.

    Args:
        scores, labels, patients: (n,), large scores for the ill, labels 0 healthy and 1 ill.
        val, test: (n,), which rows are meant.
    """
    healthy = scores[val & (labels == 0)].sort().values
    alarms = scores > healthy[math.ceil(specificity * len(healthy)) - 1]
    ill = test & (labels == 1)
    low, high = interval(alarms[ill], patients[ill])
    quiet = ~alarms[test & (labels == 0)]
    return Report(alarms[ill].double().mean().item(), low, high, quiet.double().mean().item())


def interval(hits: Tensor, patients: Tensor) -> tuple[float, float]:
    """The middle 95 % of the share of hits when whole patients are drawn anew, with all their pictures."""
    _, places = patients.unique(return_inverse=True)
    found = np.bincount(places, weights=hits.numpy())
    taken = np.bincount(places)
    drawn = np.random.default_rng(0).integers(len(taken), size=(DRAWS, len(taken)))
    low, high = np.quantile(found[drawn].sum(1) / taken[drawn].sum(1), (0.025, 0.975))
    return float(low), float(high)
