"""What is done, and by whom. Nothing here imports torch: the process that only starts others stays small."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

from PIL import Image

from course_utils.errors import unknown
from course_utils.worlds import WORLDS, pictures

CONTESTANTS = {  # by name (the file, and after a + its variant): the packages it needs beyond requirements.txt
    "limit": (),
    "limit+folded": (),
    "limit+onnxruntime": ("onnxruntime", "onnxscript"),
    "limit+openvino": ("openvino",),
    "plain": (),
    "fit": (),
    "reuse": (),
    "torchvision": (),
    "lightning": ("lightning",),
    "fastai": ("fastai",),
    "transformers": ("transformers", "accelerate"),
    "keras": ("keras",),
    "plain+bf16": (),
    "fit+bf16": (),
    "reuse+bf16": (),
    "torchvision+bf16": (),
    "lightning+bf16": ("lightning",),
    "transformers+bf16": ("transformers", "accelerate"),
}
OURS = ("fit", "reuse")
QUICK = ("plain", *OURS)
BATCH = 32


@dataclass(frozen=True)
class Job:
    """One piece of work: what learns, from how many pictures, for how long; and the marks that `reuse` should reach."""

    name: str
    title: str
    learns: tuple[str, ...]  # names of the parts; none: everything
    rates: tuple[float, ...]
    architecture: str = "resnet18"
    seeds: tuple[int, ...] = (0,)
    per_class: int = 50  # pictures of each of the six classes, for training and again for validation
    epochs: int = 10
    repeats: int = 1  # so many times the runs that were asked for, where a few in a hundred matter
    band: float = 0.05  # how far from the plain loop's an accuracy may lie
    contestants: tuple[str, ...] = ()  # who does it, beside the limits; none: everybody
    to_limit: float | None = None  # CPU seconds of `reuse`: at most so many times the limit's
    to_other: float | None = None  # CPU seconds of the best that is not ours: at least so many times those of `reuse`
    mixed_to_other: float | None = None  # the same for ours in mixed precision; the best that is not ours stays in float32
    mixed_to_mixed: float | None = None  # both in mixed precision
    to_plain: float | None = None  # CPU seconds of `fit`: at most so many times those of the plain loop

    @property
    def trainings(self) -> list[tuple[float, int]]:
        return list(product(self.rates, self.seeds))

    @property
    def sample(self) -> list[tuple[float, int]]:
        """The trainings that stand for all where each costs the same: those at the middle rate."""
        return [(self.rates[len(self.rates) // 2], seed) for seed in self.seeds]

    @property
    def is_sweep(self) -> bool:
        return len(self.trainings) > 1

    def is_for(self, name: str) -> bool:
        """Whether this contestant does it. Where everything learns there is no frozen pass, and so no limit."""
        return bool(self.learns) if is_limit(name) else not self.contestants or name in self.contestants

    @property
    def every(self) -> int:
        """Validation comes after so many epochs: in a sweep only the end of each training counts."""
        return self.epochs if self.is_sweep else 1

    def write(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> Job:
        fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in json.loads(text).items()}
        return cls(**fields)

    def __str__(self) -> str:
        count = self.per_class * len(WORLDS["things"].classes)
        times = f", {len(self.trainings)} trainings" if self.is_sweep else ""
        return f"{self.name}: {self.title}; {count} + {count} pictures, {self.epochs} epochs{times}"


LONG = ("many", "vgg16")
RATES, SEEDS = (0.01, 0.03, 0.1, 0.3, 1.0), (0, 1, 2)
JOBS = [
    Job("head", "ResNet-18, the head learns", ("fc",), (0.1,), to_limit=1.1, to_other=10),
    Job(
        "many",
        "ResNet-18, the head learns, ten times the pictures",
        ("fc",),
        (0.1,),
        per_class=500,
        contestants=("plain", "reuse"),
        to_limit=1.1,
        to_other=10,
    ),
    Job("layer4", "ResNet-18, layer4 and head learn", ("layer4", "fc"), (0.01,), to_other=2.5),
    Job(
        "everything",
        "ResNet-18, everything learns",
        (),
        (0.01,),
        epochs=3,
        repeats=3,
        to_other=1.05,
        to_plain=1.02,
        mixed_to_other=1.5,
        mixed_to_mixed=1,
    ),
    Job("vgg16", "VGG16, the head learns", ("classifier.6",), (0.01,), "vgg16", per_class=10, epochs=5, band=0.15),
    Job("sweep", "ResNet-18, the head learns at 5 rates from 3 seeds", ("fc",), RATES, seeds=SEEDS, to_limit=1.25, to_other=80),
]


def choose_jobs(names: list[str] | None, quick: bool) -> list[Job]:
    """The jobs of these names, or all; with half the pictures and a wider band if it has to be quick, and without long ones."""
    known = {job.name: replace(job, per_class=job.per_class // 2, band=0.1) if quick else job for job in JOBS}
    for name in names or ():
        if name not in known:
            raise unknown("job", name, known)
    return [known[name] for name in names or known if names or not quick or name not in LONG]


def is_limit(name: str) -> bool:
    """Whether this is an engine for the frozen pass alone."""
    return name.partition("+")[0] == "limit"


def is_mixed(name: str) -> bool:
    """Whether this one trains in mixed precision."""
    return name.endswith("+bf16")


def is_ours(name: str) -> bool:
    return name.partition("+")[0] in OURS


def choose_contestants(names: list[str] | None, quick: bool) -> tuple[list[str], list[str]]:
    """The contestants of these names, or all that are installed, limits always first; and those that are not installed.

    Raises:
        ValueError: if a name is unknown, or a contestant that was asked for is not installed.
    """
    for name in names or ():
        if name not in CONTESTANTS:
            raise unknown("contestant", name, CONTESTANTS)
    wanted = dict.fromkeys([*filter(is_limit, CONTESTANTS), *(names or (QUICK if quick else CONTESTANTS))])
    missing = [name for name in wanted if not all(find_spec(package) for package in CONTESTANTS[name])]
    if lacking := [name for name in names or () if name in missing]:
        raise ValueError(not_installed(lacking))
    return [name for name in wanted if name not in missing], missing


def not_installed(names: list[str]) -> str:
    return f"not installed: {', '.join(names)}; `pip install -r requirements-bench.txt` brings all contestants"


def write_pictures(folder: Path, per_class: int) -> None:
    """Draw `folder/{train,val}/<class>/<number>.png`."""
    classes = WORLDS["things"].classes
    for seed, split in enumerate(("train", "val")):
        for i, (image, label) in enumerate(zip(*pictures("things", per_class, seed), strict=True)):
            path = folder / split / classes[label] / f"{i:04}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
