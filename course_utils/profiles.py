"""What runs: the profiles `tiny` and `full`, the device, the seed, and the folders that are read and written.

This is the only place that reads the environment: `COURSE_PROFILE` (tiny or full) and `COURSE_DATA` (a data set or a
folder of class folders, for the profile full).

The package stands in the repository, or pip has put it among other packages. `HOME` is where lessons, pictures and weights
are read: the repository, else `course_utils/home`, which a wheel brings. `WORK` is where everything is written (verdicts,
cached features, downloads, run notebooks) and where `data/own` is looked for: the repository, else the current folder,
which is where a notebook opened alone stands; and where that is read-only, a folder of the user's.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from course_utils.errors import unknown

if TYPE_CHECKING:
    import torch

PACKAGE = Path(__file__).resolve().parent
INSTALLED = (PACKAGE / "home").is_dir()  # only a wheel brings this folder


def work_folder() -> Path:
    """Where a course that stands in no repository writes."""
    with suppress(OSError):  # the current folder may be gone
        if os.access(Path.cwd(), os.W_OK):
            return Path.cwd()
    return Path(os.path.expanduser("~")) / "fine-tuning-course"


HOME = PACKAGE / "home" if INSTALLED else PACKAGE.parent  # data/, notebooks/; in the repository solutions/ too
WORK = work_folder() if INSTALLED else HOME  # .course/, data/own, data/full, build/


def restored(path: str) -> str:
    """The words on how to get back what came with the course: a file or folder of `HOME`."""
    if INSTALLED:
        return "`pip install --force-reinstall --no-deps` of the course brings it back"
    return f"`git checkout {path}` brings it back"


def cpu_count() -> int:
    """How many cores this process may use: a container or `taskset` may leave it fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One run of the course: which weights, which pictures, how many at a time, from which seed."""

    profile: str
    weights: str  # "shapes" (ours) or "imagenet" (torchvision's)
    data: str  # "tiny", "eurosat", "pets", "flowers102", or a folder of class folders
    batch_size: int = 32
    workers: int = 0  # processes that read pictures beside the training
    seed: int = 0

    @property
    def device(self) -> torch.device:
        """The accelerator of this machine if it has one, else its processor."""
        import torch

        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


PROFILES = {
    "tiny": Settings(profile="tiny", weights="shapes", data="tiny"),
    "full": Settings(profile="full", weights="imagenet", data="eurosat", workers=min(4, cpu_count())),
}


def settings(**changes: Any) -> Settings:
    """The settings of the active profile, or of the one named, with `changes` to single fields: `settings(seed=1)`.

    Raises:
        ValueError: if `COURSE_PROFILE` names no profile, or a change names no field.
    """
    profile = changes.get("profile") or os.environ.get("COURSE_PROFILE") or "tiny"
    if profile not in PROFILES:
        raise unknown("profile", profile, PROFILES)
    base = PROFILES[profile]
    if profile == "full" and os.environ.get("COURSE_DATA"):
        base = replace(base, data=os.environ["COURSE_DATA"])
    for name in changes:
        if name not in Settings.__dataclass_fields__:
            raise unknown("setting", name, Settings.__dataclass_fields__)
    return replace(base, **changes)
