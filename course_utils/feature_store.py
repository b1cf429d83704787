"""Precomputed features, in memory or in files that are written whole or not at all, in folders that are known to be ours.

A cache folder may hold other people's files. Everything of ours lies in its subfolder `course-features`, one folder for each
set of features: its name is a fingerprint of 32 digits, and a `plan.json` in it says who made it. Nothing else is touched.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import math
import os
import re
import shutil
import socket
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from course_utils.devices import is_asynchronous, pinned_for, to_device

SHARE = 0.25  # of an accelerator's free memory, for features that live there; training needs the rest
LIMIT_GB = 5.0  # of all features in a cache folder; beyond it, what was not used for longest goes
FOLDER = "course-features"
MADE_BY = "fine-tuning-course, precompute"
ENTRY = re.compile(r"[0-9a-f]{32}")
DRAFT = re.compile(r"[0-9a-f]{32}\.(?P<machine>[0-9a-f]{8})\.(?P<pid>\d+)\.\w+\.part")
ABANDONED_S = 86400  # a draft of another machine, in which nothing was written for so long, is nobody's any more


class Plan(NamedTuple):
    """What is kept: of how many pictures, how many views of each, and shape and type of each tensor, the labels last."""

    pictures: int
    views: int
    shapes: list[list[int]]  # (views × pictures, …)
    dtypes: list[str]  # torch's names, such as "float32": as training gets them
    half: bool = False  # whether floating-point numbers are kept in half precision

    @property
    def stored(self) -> list[torch.dtype]:
        """The type of each tensor as it is kept."""
        given = [getattr(torch, name) for name in self.dtypes]
        return [torch.float16 if self.half and dtype.is_floating_point else dtype for dtype in given[:-1]] + given[-1:]

    @property
    def sizes(self) -> list[int]:
        """Bytes of each tensor."""
        return [math.prod(shape) * dtype.itemsize for shape, dtype in zip(self.shapes, self.stored, strict=True)]

    def __str__(self) -> str:
        numbers = " + ".join(f"{math.prod(shape[1:]):,}" for shape in self.shapes[:-1])
        views = f", {self.views} views of each" if self.views > 1 else ""
        return f"{self.pictures:,} pictures{views}: {numbers} numbers each, {sum(self.sizes) / 1e6:,.1f} MB"


def plan_for(batch: Sequence[Tensor], pictures: int, views: int, half: bool) -> Plan:
    """The plan when `batch` is what the first batch gave, the labels last."""
    shapes = [[pictures * views, *tensor.shape[1:]] for tensor in batch]
    return Plan(pictures, views, shapes, [str(tensor.dtype).removeprefix("torch.") for tensor in batch], half)


class Features(Dataset):
    """What the frozen part made of each picture, with the labels; of several views of a picture each epoch shows another."""

    def __init__(self, plan: Plan, tensors: Iterable[Tensor]):
        *parts, labels = tensors
        self.plan, self.parts, self.labels, self.epoch = plan, parts, labels[: plan.pictures], 0
        self.dtypes = [getattr(torch, name) for name in plan.dtypes]
        self.device = torch.device("cpu")

    def move_to(self, device: torch.device) -> None:
        """Keep the features in the memory of an accelerator if they fit; labels are looked at, and stay."""
        if is_asynchronous(device) and sum(self.plan.sizes) <= SHARE * torch.accelerator.get_memory_info(device)[0]:
            self.parts, self.device = [part.to(device) for part in self.parts], device

    def __getstate__(self) -> dict[str, Any]:
        """What is copied or travels to another process, which may have no accelerator."""
        return vars(self) | {"parts": [part.cpu() for part in self.parts], "device": torch.device("cpu")}

    def __len__(self) -> int:
        return self.plan.pictures

    def __getitem__(self, i: int) -> tuple[Any, Tensor]:
        inputs, labels = self.__getitems__([i])
        return inputs[0] if isinstance(inputs, Tensor) else tuple(part[0] for part in inputs), labels[0]

    def __getitems__(self, chosen: list[int]) -> tuple[Any, Tensor]:
        """A whole batch at once, as a copy, in the type in which the frozen part made it."""
        index = torch.tensor(chosen)
        rows = index + len(self) * ((index + self.epoch) % self.plan.views)
        rows = to_device(pinned_for(self.device, rows), self.device)
        batch = tuple(part[rows].to(dtype) for part, dtype in zip(self.parts, self.dtypes, strict=False))
        return batch[0] if len(batch) == 1 else batch, pinned_for(self.device, self.labels[index])


# ------------------------------------------------------------------------------------------------------------ writing


def keep(batches: Iterable[Sequence[Tensor]], plan: Plan, in_file: bool) -> Features:
    """The features for this run alone, in memory or in a file without a name, which the system deletes at the end."""
    with ExitStack() as stack:
        files: list[Any] = [
            stack.enter_context(tempfile.TemporaryFile(buffering=0)) if in_file else io.BytesIO() for _ in plan.shapes
        ]
        _fill(files, batches, plan, Path(tempfile.gettempdir()) if in_file else None)
        return Features(plan, _open_all(files, plan, in_file))


def store(batches: Iterable[Sequence[Tensor]], plan: Plan, folder: Path) -> None:
    """Write the features into a new folder, whole or not at all."""
    with _draft(folder) as draft, ExitStack() as stack:
        _write_plan(draft, plan)  # first of all, so that whoever finds this folder knows whose it is
        files: list[Any] = [stack.enter_context((draft / f"{i}.bin").open("wb", buffering=0)) for i in range(len(plan.shapes))]
        _write_plan(draft, plan, _fill(files, batches, plan, draft))
    _tidy(folder.parent)


def _write_plan(folder: Path, plan: Plan, checksums: Sequence[int] | None = None) -> None:
    content = {"made_by": MADE_BY, **plan._asdict(), "checksums": checksums}
    (folder / "plan.json").write_text(json.dumps(content), encoding="utf-8")


def _fill(files: Sequence[Any], batches: Iterable[Sequence[Tensor]], plan: Plan, place: Path | None) -> list[int]:
    """Append each batch to the files, which lie in `place`; returns a checksum of each file."""
    if place and shutil.disk_usage(place).free < sum(plan.sizes):
        raise _no_room(plan, place)
    checksums = [0] * len(files)
    for tensors in batches:
        for i, (file, tensor, dtype) in enumerate(zip(files, tensors, plan.stored, strict=True)):
            content = _content(tensor.to(dtype))
            checksums[i] = zlib.crc32(content, checksums[i])
            try:
                _append(file, content)
            except OSError as error:
                raise _no_room(plan, cast(Path, place)) from error
    return checksums


def _append(file: Any, left: memoryview) -> None:
    """Write all of it; a file without a buffer may take less than all at once, and has nothing left to fail with later."""
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
    """A new folder that becomes `folder` if the block ends well, and goes if it does not.

    Its name says which process on which machine writes it: what a killed one has left goes the next time.
    """
    for left in folder.parent.glob("*.part"):
        if is_ours(left) and _is_abandoned(left):
            delete(left)
    draft = Path(tempfile.mkdtemp(".part", f"{folder.name}.{_machine()}.{os.getpid()}.", folder.parent))
    try:
        yield draft
    except BaseException:
        delete(draft)
        raise
    try:
        draft.rename(folder)
    except OSError:  # another process or thread was quicker, with the same numbers
        delete(draft)


@cache
def _machine() -> str:
    """Eight digits for what a process number belongs to: this machine since it was started, or this container of it."""
    here = [socket.gethostname()]
    with suppress(OSError):  # Linux only
        here += [Path("/proc/sys/kernel/random/boot_id").read_text(), str(os.stat("/proc/self/ns/pid").st_ino)]
    return hashlib.sha256("|".join(here).encode()).hexdigest()[:8]


def _is_abandoned(draft: Path) -> bool:
    """Whether nobody writes this draft any more."""
    import psutil  # only here, since it takes a moment

    name = DRAFT.fullmatch(draft.name)
    if name and name["machine"] == _machine():
        return not psutil.pid_exists(int(name["pid"]))
    with suppress(OSError):  # it has become an entry meanwhile
        return time.time() - max(file.stat().st_mtime for file in [draft, *draft.iterdir()]) > ABANDONED_S
    return False


# ----------------------------------------------------------------------------------------------------------- deleting


def is_ours(folder: Path) -> bool:
    """Whether this module made `folder`: it has such a name, is no link, and its plan says so (or it is still empty)."""
    draft = DRAFT.fullmatch(folder.name)
    if not (draft or ENTRY.fullmatch(folder.name)) or folder.is_symlink() or not folder.is_dir():
        return False
    try:
        return json.loads((folder / "plan.json").read_text(encoding="utf-8"))["made_by"] == MADE_BY
    except FileNotFoundError:
        return bool(draft) and not any(folder.iterdir())
    except ValueError:
        return True  # a plan.json that was cut off
    except (OSError, KeyError, TypeError):
        return False


def delete(folder: Path) -> None:
    """Delete the files in `folder` that this module writes, then the folder, unless somebody else has put something there."""
    with suppress(OSError):
        for file in [path for path in folder.iterdir() if re.fullmatch(r"\d+\.bin", path.name)]:
            file.unlink()
        (folder / "plan.json").unlink(missing_ok=True)  # last, for without it nobody would know whose the rest is
        folder.rmdir()


def _tidy(folder: Path) -> None:
    """Delete what was not used for longest, but never the newest, until no more than `LIMIT_GB` are left."""
    found = []
    for entry in filter(is_ours, folder.iterdir()):
        with suppress(OSError):  # another process deletes as well
            if ENTRY.fullmatch(entry.name):
                found.append((entry.stat().st_mtime, sum(file.stat().st_size for file in entry.iterdir()), entry))
    found.sort()
    while len(found) > 1 and sum(size for _, size, _ in found) > LIMIT_GB * 1e9:
        delete(found.pop(0)[2])


# ------------------------------------------------------------------------------------------------------------ reading


def stored(folder: Path, memory_gb: float) -> Features | None:
    """The features in `folder`, read into memory, or mapped if they are larger; None if they are not there as a whole.

    What is there and damaged is deleted: a file of another length, or whose content does not give its checksum.
    """
    try:
        content = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
        checksums = content.pop("checksums")
        if content.pop("made_by") != MADE_BY:
            return None
        plan = Plan(**content)
        mapped = sum(plan.sizes) > memory_gb * 1e9
        files = [folder / f"{i}.bin" for i in range(len(plan.shapes))]
        if [file.stat().st_size for file in files] == plan.sizes:
            tensors = _open_all(files, plan, mapped)
            if [zlib.crc32(_content(tensor)) for tensor in tensors] == checksums:
                with suppress(OSError):  # a cache that may only be read
                    os.utime(folder)  # used now, so it is the last to go
                return Features(plan, tensors)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        pass
    if is_ours(folder):
        delete(folder)
    return None


def _open_all(files: Sequence[Any], plan: Plan, mapped: bool) -> list[Tensor]:
    """The numbers in files, in memory or mapped: then a batch is read when it is needed, and the file stays as it is."""
    tensors = []
    for file, shape, dtype in zip(files, plan.shapes, plan.stored, strict=True):
        if isinstance(file, io.BytesIO):
            content = np.frombuffer(file.getbuffer(), np.uint8)
        else:
            content = np.memmap(file, np.uint8, "c") if mapped else np.fromfile(file, np.uint8)
        tensors.append(torch.from_numpy(content).view(dtype).reshape(shape))
    return tensors


def _content(tensor: Tensor) -> memoryview:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data
