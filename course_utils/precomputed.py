"""The frozen part of a model, run once: split the model where learning begins, keep what the frozen half makes, train on that.

    frozen, learning = split_frozen(model)
    train, val = precompute(frozen, data.train), precompute(frozen, data.val)
    fit(learning, train, val, optimizer, epochs=10)  # the same fit; `model` itself has learnt

Training this way gives the same losses and the same weights as training `model` on the pictures, in a fraction of the time.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from course_utils.feature_store import Features, keep, plan_for, store, stored
from course_utils.fingerprint import Unrecognised, fingerprint
from course_utils.fx_split import ModelPart
from course_utils.profiles import HOME
from course_utils.rng import preserve_rng_state, rng_state, same_rng_state, seed_all
from course_utils.train import device_of, progress, to_device

FOLDER = HOME / ".course" / "features"

# ----------------------------------------------------------------------------------------------------- kept features


class FeatureLoader(DataLoader):
    """Batches of kept features with their labels: the batches that the loader of the pictures would give, in its order.

    Raises:
        ValueError: at the beginning of an epoch, if the frozen half has changed since the features were made.
    """

    dataset: Features

    def __init__(self, features: Features, loader: DataLoader, frozen: nn.Module):
        super().__init__(
            features,
            batch_sampler=loader.batch_sampler,
            collate_fn=_as_it_is,
            pin_memory=loader.pin_memory,
            generator=loader.generator,
        )
        self.made_by = [(tensor, tensor._version) for tensor in (*frozen.parameters(), *frozen.buffers())]

    def __iter__(self) -> Any:
        if any(tensor.requires_grad or tensor._version != version for tensor, version in self.made_by):
            raise ValueError(
                "these features are out of date: the frozen part has changed since, or was set free; split and precompute again"
            )
        self.dataset.epoch += 1
        return super().__iter__()


def _as_it_is(batch: Any) -> Any:
    return batch


def precompute(
    frozen: nn.Module,
    loader: DataLoader,
    *,
    views: int = 1,
    half: bool = False,
    memory_gb: float = 2.0,
    cache: str | os.PathLike | None = FOLDER,
) -> FeatureLoader:
    """Run `frozen` once over the pictures of `loader`; what comes back goes into `fit` and `evaluate` in its place.

    It prints how much there will be to keep, and begins. Interrupted, or with the disk full, it leaves nothing behind.

    Args:
        loader: batches of images (batch, 3, height, width) and labels (batch,); order and batch size are taken over.
        views: how many views of each picture to keep if its transform is random; each epoch shows another one of them.
        half: keep half precision: half the bytes, three digits. On a GPU the frozen half then also runs in it.
        memory_gb: more gigabytes than this stay in a file, of which batches are read when they are needed.
        cache: the folder in which a later run finds the features again, as long as weights, pictures, their order and
            their transform are the same; None keeps them for this run alone.

    Raises:
        ValueError: if the transform is random and `views` is 1, or is not and `views` is more; if there is no picture; if
            the frozen half draws random numbers, or mixes the pictures of a batch.
        TypeError: if `loader` is not a `DataLoader` over a data set with a length.
        OSError: if the disk is full.
    """
    with preserve_rng_state():
        _check(loader, views)
        folder, why_not = _folder_for(cache, frozen, loader.dataset, (views, half, device_of(frozen).type))
        features = stored(folder, memory_gb) if folder else None
        if features:
            print(f"{features.plan}, found again")
        else:
            features = _make(frozen, loader, views, half, memory_gb, folder, why_not)
    return FeatureLoader(features, loader, frozen)


def _check(loader: DataLoader, views: int) -> None:
    if isinstance(views, bool) or not isinstance(views, int) or views < 1:
        raise ValueError(f"views={views!r}; give a whole number of 1 or more")
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset) or loader.batch_sampler is None:
        raise TypeError(f"precompute takes a DataLoader that makes batches of a data set with a length, not {loader!r}")
    if not len(loader.dataset):  # type: ignore[arg-type]
        raise ValueError("the loader has no picture; check its folder")
    random_views = is_random(loader)
    if random_views and views == 1:
        raise ValueError(
            "the transform is random, and what is kept would show one view of each picture for ever; keep several (views=8), "
            "take a transform without randomness, or train on the pictures themselves, which in_memory reads only once"
        )
    if views > 1 and not random_views:
        raise ValueError(f"views={views}, but the transform is not random, so all views would be the same; leave views out")


def is_random(loader: DataLoader) -> bool:
    """Whether reading a picture draws random numbers, or gives something else the second time."""
    few = [0, len(loader.dataset) - 1]  # type: ignore[arg-type]
    before = rng_state()
    first, again = (loader.collate_fn([loader.dataset[i] for i in few]) for _ in range(2))
    return not same_rng_state(before, rng_state()) or not all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def _folder_for(cache: str | os.PathLike | None, frozen: nn.Module, *made_of: Any) -> tuple[Path | None, str]:
    """The folder for features of exactly this, or None and the words that say why there is none."""
    if cache is None:
        return None, ""
    try:
        Path(cache).mkdir(parents=True, exist_ok=True)
        network = (
            (frozen.code, frozen._modules, frozen._parameters, frozen._buffers) if isinstance(frozen, ModelPart) else frozen
        )
        return Path(cache) / fingerprint(network, *made_of), ""
    except Unrecognised as error:
        return None, f", for this run alone: a later one could not recognise {error}"
    except PermissionError:
        return None, f", for this run alone: {cache} may not be written"


def _make(
    frozen: nn.Module, loader: DataLoader, views: int, half: bool, memory_gb: float, folder: Path | None, why_not: str
) -> Features:
    """Run `frozen` over the pictures and keep what it makes, in `folder` or for this run alone."""
    runs = _runs(frozen, loader, views, half)
    first = next(runs)
    plan = plan_for(first, len(loader.dataset), views)  # type: ignore[arg-type]
    in_file = sum(plan.sizes) > memory_gb * 1e9
    print(f"{plan}, kept in {'a file' if in_file else 'memory'}{why_not}")
    with progress(chain([first], runs), "precompute", views * math.ceil(plan.pictures / _batch_size(loader))) as batches:
        if not folder:
            return keep(batches, plan, in_file)
        store(batches, plan, folder)
    features = stored(folder, memory_gb)
    if not features:
        raise FileNotFoundError(f"the features in {folder} have been deleted while they were made; run it again")
    return features


def _batch_size(loader: DataLoader) -> int:
    return loader.batch_size or 32  # None if the loader has a batch sampler of its own


def _runs(frozen: nn.Module, loader: DataLoader, views: int, half: bool) -> Iterator[list[np.ndarray]]:
    """What `frozen` makes of each batch, in the order of the data set, view after view; the labels come last."""
    device = device_of(frozen)
    for view in range(views):
        seed_all(view)
        batches = DataLoader(
            loader.dataset,
            _batch_size(loader),
            num_workers=loader.num_workers,
            collate_fn=loader.collate_fn,
            pin_memory=loader.pin_memory,
            generator=torch.Generator().manual_seed(view),
        )
        for images, labels in batches:
            before = torch.get_rng_state()
            with torch.inference_mode(), torch.autocast(device.type, torch.float16, enabled=half and device.type == "cuda"):
                made = frozen(to_device(images, device))
            if not torch.equal(before, torch.get_rng_state()):
                raise ValueError("the frozen part draws random numbers, so it would give something else in each epoch")
            parts = [made] if isinstance(made, Tensor) else made
            yield [*(_array(part, len(labels), half) for part in parts), labels.numpy()]


def _array(part: Tensor, pictures: int, half: bool) -> np.ndarray:
    if part.shape[:1] != (pictures,):
        raise ValueError(f"the frozen part makes {tuple(part.shape)} of {pictures} pictures, which is not one row for each")
    part = part.cpu().half() if half else part.cpu().float()
    if half and not part.isfinite().all():
        raise ValueError("the frozen part makes numbers above 65,504, the largest in half precision; leave half out")
    return part.contiguous().numpy()
