"""Kept features: what a frozen network made of each picture, in memory or in files that are written whole or not at all."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

LIMIT_GB = 5.0  # of a cache folder; beyond it, what was not used for longest goes


class Plan(NamedTuple):
    """What is kept: of how many pictures, how many views of each, and shape and type of each tensor, the labels last."""

    pictures: int
    views: int
    shapes: list[list[int]]  # (views × pictures, …)
    kinds: list[str]  # numpy's names, such as "float32"

    @property
    def sizes(self) -> list[int]:
        """Bytes of each tensor."""
        return [math.prod(shape) * np.dtype(kind).itemsize for shape, kind in zip(self.shapes, self.kinds, strict=True)]

    def __str__(self) -> str:
        numbers = " + ".join(f"{math.prod(shape[1:]):,}" for shape in self.shapes[:-1])
        views = f", {self.views} views of each" if self.views > 1 else ""
        return f"{self.pictures:,} pictures{views}: {numbers} numbers each, {sum(self.sizes) / 1e6:,.1f} MB"


def plan_for(batch: Sequence[np.ndarray], pictures: int, views: int) -> Plan:
    """The plan when `batch` is what the first batch gave."""
    return Plan(
        pictures, views, [[pictures * views, *array.shape[1:]] for array in batch], [array.dtype.name for array in batch]
    )


class Features(Dataset):
    """What the frozen half made of each picture, with the labels; of several views of a picture each epoch shows another."""

    def __init__(self, plan: Plan, arrays: Iterable[np.ndarray]):
        *parts, labels = (torch.from_numpy(array) for array in arrays)
        self.plan, self.parts, self.labels, self.epoch = plan, parts, labels[: plan.pictures], 0

    def __len__(self) -> int:
        return self.plan.pictures

    def __getitem__(self, i: int) -> tuple[Any, Tensor]:
        inputs, labels = self.__getitems__([i])
        return inputs[0] if isinstance(inputs, Tensor) else tuple(part[0] for part in inputs), labels[0]

    def __getitems__(self, chosen: list[int]) -> tuple[Any, Tensor]:
        """A whole batch at once, as a copy, in single precision."""
        index = torch.tensor(chosen)
        rows = index + len(self) * ((index + self.epoch) % self.plan.views)
        batch = tuple(part[rows].float() for part in self.parts)
        return batch[0] if len(batch) == 1 else batch, self.labels[index]


# ------------------------------------------------------------------------------------------------------------ writing


def keep(batches: Iterable[Sequence[np.ndarray]], plan: Plan, in_file: bool) -> Features:
    """The features for this run alone, in memory or in a file without a name, which the system deletes at the end."""
    with ExitStack() as stack:
        files: list[Any] = [
            stack.enter_context(tempfile.TemporaryFile(buffering=0)) if in_file else io.BytesIO() for _ in plan.shapes
        ]
        _fill(files, batches, plan, Path(tempfile.gettempdir()) if in_file else None)
        return Features(plan, map(_array, files, plan.shapes, plan.kinds, [in_file] * len(files)))


def store(batches: Iterable[Sequence[np.ndarray]], plan: Plan, folder: Path) -> None:
    """Write the features into a new folder, whole or not at all."""
    with _draft(folder) as draft, ExitStack() as stack:
        files: list[Any] = [stack.enter_context((draft / f"{i}.bin").open("wb", buffering=0)) for i in range(len(plan.shapes))]
        _fill(files, batches, plan, draft)
        (draft / "plan.json").write_text(json.dumps(plan._asdict()), encoding="utf-8")
    _tidy(folder.parent)


def _fill(files: Sequence[BinaryIO], batches: Iterable[Sequence[np.ndarray]], plan: Plan, place: Path | None) -> None:
    """Append each batch to the files, which lie in `place`."""
    if place and shutil.disk_usage(place).free < sum(plan.sizes):
        raise _no_room(plan, place)
    for arrays in batches:
        try:
            for file, array in zip(files, arrays, strict=True):
                _append(file, array)
        except OSError as error:
            raise _no_room(plan, cast(Path, place)) from error


def _append(file: BinaryIO, array: np.ndarray) -> None:
    """Write all of `array`; a file without a buffer may take less than all at once, and has nothing left to fail with later."""
    left = array.data.cast("B")
    while left:
        left = left[file.write(left) :]


def _no_room(plan: Plan, place: Path) -> OSError:
    needed, free = sum(plan.sizes) / 1e6, shutil.disk_usage(place).free / 1e6
    return OSError(
        errno.ENOSPC,
        f"no room for the features in {place.parent}: {needed:,.1f} MB are needed, {free:,.1f} MB are free; "
        "make room, name another folder (cache=...) or none (cache=None), or keep half precision (half=True)",
    )


@contextmanager
def _draft(folder: Path) -> Iterator[Path]:
    """A folder that becomes `folder` if the block ends well, and goes if it does not.

    Its name says which process writes it: what a killed one has left goes the next time.
    """
    import psutil  # only here, since it takes a moment

    for left in folder.parent.glob("*.part"):
        if not psutil.pid_exists(int(left.name.split(".")[1])):
            shutil.rmtree(left, ignore_errors=True)
    draft = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    draft.mkdir()
    try:
        yield draft
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    try:
        draft.rename(folder)
    except OSError:  # another process was quicker, with the same numbers
        shutil.rmtree(draft, ignore_errors=True)


def _tidy(cache: Path) -> None:
    """Delete what was not used for longest, but never the newest, until no more than `LIMIT_GB` are left."""
    entries = sorted((one for one in cache.iterdir() if one.suffix != ".part"), key=lambda one: one.stat().st_mtime)
    sizes = [sum(file.stat().st_size for file in entry.iterdir()) for entry in entries]
    while len(sizes) > 1 and sum(sizes) > LIMIT_GB * 1e9:
        shutil.rmtree(entries.pop(0), ignore_errors=True)
        sizes.pop(0)


# ------------------------------------------------------------------------------------------------------------ reading


def stored(folder: Path, memory_gb: float) -> Features | None:
    """The features in `folder`, read into memory, or mapped if they are larger; None if they are not there as a whole."""
    try:
        plan = Plan(**json.loads((folder / "plan.json").read_text(encoding="utf-8")))
        files = [folder / f"{i}.bin" for i in range(len(plan.shapes))]
        whole = [file.stat().st_size for file in files] == plan.sizes
    except (OSError, ValueError, TypeError):
        whole = False
    if not whole:
        shutil.rmtree(folder, ignore_errors=True)
        return None
    os.utime(folder)  # used now, so it is the last to go
    mapped = sum(plan.sizes) > memory_gb * 1e9
    return Features(plan, map(_array, files, plan.shapes, plan.kinds, [mapped] * len(files)))


def _array(file: Any, shape: Sequence[int], kind: str, mapped: bool) -> np.ndarray:
    """The numbers in a file, in memory or mapped: then a batch is read when it is needed, and the file stays as it is."""
    if isinstance(file, io.BytesIO):
        return np.frombuffer(file.getbuffer(), kind).reshape(shape)
    return np.memmap(file, kind, "c", shape=tuple(shape)) if mapped else np.fromfile(file, kind).reshape(shape)
