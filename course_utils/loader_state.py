"""What a loader carries from epoch to epoch: its own random numbers, and which view of each picture comes next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from course_utils.feature_store import Features
from course_utils.rng import seed_all


def generators_of(loader: Any) -> list[torch.Generator]:
    """The generators of a loader, of its samplers, and of the samplers in these, each once."""
    within = [getattr(loader, name, None) for name in ("sampler", "batch_sampler")]
    found = [getattr(loader, "generator", None), *(generator for one in within if one for generator in generators_of(one))]
    return list(dict.fromkeys(generator for generator in found if isinstance(generator, torch.Generator)))


def features_of(loader: Any) -> list[Features]:
    """The kept features behind a loader: one, or none where it reads pictures."""
    return [data for data in [getattr(loader, "dataset", None)] if isinstance(data, Features)]


def loader_state(loader: Any) -> dict[str, Any]:
    """The states of its generators, and the view that was shown last, for `set_loader_state`."""
    states: list[Tensor] = [generator.get_state() for generator in generators_of(loader)]
    return {"generators": states, "views": [features.epoch for features in features_of(loader)]}


def set_loader_state(loader: Any, state: dict[str, Any]) -> None:
    for generator, one in zip(generators_of(loader), state["generators"], strict=True):
        generator.set_state(one)
    for features, epoch in zip(features_of(loader), state["views"], strict=True):
        features.epoch = epoch


def rewind(loader: Any, seed: int) -> None:
    """From here on the batches follow from `seed`: their order, what a transform draws, and which views are shown."""
    seed_all(seed)
    for generator in generators_of(loader):
        generator.manual_seed(seed)
    for features in features_of(loader):
        features.epoch = 0


@contextmanager
def preserve_loader(loader: Any) -> Iterator[None]:
    """Whatever is drawn from `loader` inside the block, afterwards its next epoch is what it would have been."""
    state = loader_state(loader)
    try:
        yield
    finally:
        set_loader_state(loader, state)
