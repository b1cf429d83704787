"""Pretrained weights: our own, made on the world `shapes`, and torchvision's, made on ImageNet.

Both kinds have one interface, which is torchvision's: `weights.transforms()` prepares a picture the way the network saw
pictures while it was trained, `weights.meta["categories"]` names the classes, `weights.get_state_dict()` loads.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load
from torch import Tensor, nn
from torchvision import models
from torchvision.models import WeightsEnum

from course_utils.errors import unknown
from course_utils.profiles import HOME, restored
from course_utils.progress_bar import progress_of_downloads

FOLDER = HOME / "data" / "weights"
SOURCES = ("shapes", "imagenet")


@dataclass(frozen=True, eq=False)
class ShapesWeights:
    """Weights of ours for one network, with the interface of torchvision's weights."""

    architecture: str
    path: Path
    sha256: str
    meta: dict[str, Any]

    def transforms(self) -> nn.Module:
        """The preparation of pictures: to 64×64, to numbers in 0 … 1, minus the mean, divided by the deviation."""
        return image_transform(size=64, resize=64, mean=self.meta["mean"], std=self.meta["std"])

    def get_state_dict(self) -> dict[str, Tensor]:
        """The tensors, in single precision, after a check of the file's SHA-256.

        Raises:
            FileNotFoundError: if the file is not there.
            ValueError: if the file is not the one that its card describes.
        """
        if not self.path.exists():
            raise FileNotFoundError(f"{self.path} is missing; {restored('data/weights')}")
        content = self.path.read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != self.sha256:
            raise ValueError(
                f"{self.path} is damaged or not ours: SHA-256 {found[:12]}…, its card says {self.sha256[:12]}… "
                f"({len(content):,} bytes, expected {self.meta['bytes']:,}); {restored('data/weights')}"
            )
        return {name: value.float() if value.is_floating_point() else value for name, value in load(content).items()}


def image_transform(*, size: int, resize: int, mean: list[float], std: list[float]) -> nn.Module:
    """Torchvision's own preparation for classification, with other numbers; takes PIL pictures or uint8 tensors."""
    preset = models.ResNet18_Weights.IMAGENET1K_V1.transforms
    return preset(crop_size=size, resize_size=resize, mean=tuple(mean), std=tuple(std))


@cache
def shapes_weights() -> dict[str, ShapesWeights]:
    """Our weights by architecture, as `data/weights/cards.json` lists them."""
    path = FOLDER / "cards.json"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; {restored('data/weights')}")
    try:
        cards = json.loads(path.read_text(encoding="utf-8"))
        return {name: ShapesWeights(name, FOLDER / card["file"], card["sha256"], card) for name, card in cards.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} cannot be read ({error}); {restored('data/weights')}") from error


def get_weights(architecture: str, source: str | None) -> ShapesWeights | WeightsEnum | None:
    """The weights of `architecture` made on `source`: "shapes", "imagenet", or None for no weights at all.

    For ImageNet it is torchvision's first training recipe (IMAGENET1K_V1) where there is one.

    Raises:
        ValueError: if torchvision has no such architecture, or there are no such weights.
    """
    known = models.list_models(module=models)
    if architecture not in known:
        raise unknown("architecture", architecture, known)
    if source is None:
        return None
    if source not in SOURCES:
        raise unknown("weights", source, SOURCES)
    if source == "imagenet":
        choices = models.get_model_weights(architecture)
        return getattr(choices, "IMAGENET1K_V1", None) or choices.DEFAULT
    if architecture not in shapes_weights():
        raise ValueError(
            f"there are no 'shapes' weights for {architecture!r}, only for {list(shapes_weights())}; "
            "take one of these, weights='imagenet', or weights=None for a network that has learnt nothing"
        )
    return shapes_weights()[architecture]


def download_place(weights: WeightsEnum) -> Path:
    """Where torch keeps the file of torchvision's `weights`, whether it is there or not."""
    return Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[-1]


HASH = r"-([0-9a-f]{8,})\."  # in the names of torchvision's files: "resnet18-f37072fd.pth"


def check_file(path: Path, url: str) -> None:
    """Raises ValueError unless the SHA-256 of the file begins as its name says.

    Torch looks at it after a download only, and reads tensors with flipped bits without a word.
    """
    wanted = re.findall(HASH, path.name)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if wanted and not found.startswith(wanted[-1]):
        raise ValueError(
            f"{path} is damaged or another file: its SHA-256 begins with {found[:8]}, not with {wanted[-1]} as in its name; "
            f"delete it and copy or download {url} again"
        )


def read_imagenet(weights: WeightsEnum) -> dict[str, Tensor]:
    """The tensors of torchvision's `weights`, downloaded if they are not there yet; nothing is unpickled.

    Raises:
        FileNotFoundError: if the file is not there and cannot be downloaded.
        ValueError: if the file is not the one that torchvision names, or no checkpoint that can be read.
    """
    path = download_place(weights)
    if path.is_file():
        check_file(path, weights.url)
    try:
        with progress_of_downloads():
            return weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except PermissionError:
        raise
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        if path.exists():
            raise ValueError(
                f"{path} is not a readable checkpoint; delete it and copy or download {weights.url} again"
            ) from error
        raise FileNotFoundError(
            f"the ImageNet weights {path.name} ({weights.meta['_file_size']:.0f} MB) are not on this machine and could not be "
            f"downloaded ({error}); on a machine with network fetch {weights.url} and copy it to {path}"
        ) from error
