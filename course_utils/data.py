"""Pictures from folders: three splits, one order of classes, and what was left out.

The contract is that of torchvision's `ImageFolder`: one folder per class, its name is the name of the class, and the
alphabetical order of the names makes the class numbers, in every split the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision import datasets
from torchvision.datasets.folder import IMG_EXTENSIONS

from course_utils.errors import unknown
from course_utils.profiles import HOME, Settings
from course_utils.weights import get_weights

SPLITS = ("train", "val", "test")
TINY = HOME / "data" / "tiny"
FULL = HOME / "data" / "full"  # where data sets of the profile full are kept

Sample = tuple[Path, int]
Transform = Callable[[Image.Image], Tensor]


@dataclass(frozen=True)
class Data:
    """Loaders for the three splits, the class names in the order of their numbers, and the files left out (and why)."""

    train: DataLoader
    val: DataLoader
    test: DataLoader
    classes: tuple[str, ...]
    left_out: tuple[str, ...] = ()


class Pictures(Dataset):
    """Picture files with their class numbers; item `i` is `(transform(picture), class number)`."""

    def __init__(self, samples: Sequence[Sample], transform: Transform):
        self.samples = list(samples)
        self.transform = transform

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        path, label = self.samples[i]
        return self.transform(read_picture(path)), label


class InMemory(Dataset):
    """Pictures that were read once, with their class numbers; item `i` is `(transform(picture), class number)`."""

    def __init__(self, pictures: Sequence[Any], labels: Sequence[int], transform: Transform | None):
        self.pictures, self.labels, self.transform = list(pictures), list(labels), transform

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        picture = self.pictures[i]
        return self.transform(picture) if self.transform else picture, self.labels[i]


def in_memory(dataset: Dataset) -> InMemory:
    """The same data set, with every picture read and decoded once; its transform still runs each time, and may be random.

    For what has to see the pictures again in each epoch: augmentation, or a network that learns from its first layer on.
    A picture of 500×375 pixels takes 0.6 MB.

    Args:
        dataset: that of a loader of `open_data`, a folder data set of torchvision, or a `Subset` of one.

    Raises:
        TypeError: for any other data set, since nobody knows where its pictures come from.
    """
    chosen: Sequence[int] = range(len(dataset))  # type: ignore[arg-type]
    while isinstance(dataset, Subset):
        chosen, dataset = [dataset.indices[i] for i in chosen], dataset.dataset
    if not isinstance(dataset, (Pictures, datasets.DatasetFolder)) or getattr(dataset, "target_transform", None):
        raise TypeError(f"cannot tell where a {type(dataset).__name__} reads its pictures; give {KNOWN}")
    read: Callable[[Any], Any] = read_picture if isinstance(dataset, Pictures) else dataset.loader
    samples = [dataset.samples[i] for i in chosen]
    return InMemory([read(path) for path, _ in samples], [label for _, label in samples], dataset.transform)


KNOWN = "the data set of a loader that open_data made, an ImageFolder without target_transform, or a Subset of one"


# -------------------------------------------------------------------------------------------------------- one file


def read_picture(path: str | os.PathLike) -> Image.Image:
    """The picture as a person sees it: upright, three channels of 8 bits; transparent parts become white.

    Reads greyscale, palette, RGBA, CMYK and 16-bit files; turns photos the way their EXIF says.

    Raises:
        ValueError: if the file is not a picture, or only part of one.
    """
    try:
        with Image.open(path) as image:
            image.load()
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} is not a picture that can be read; remove it or save it again as PNG or JPEG") from error
    except (OSError, SyntaxError) as error:
        if isinstance(error, (FileNotFoundError, PermissionError, IsADirectoryError)):
            raise
        raise ValueError(f"{path} is only part of a picture ({error}); copy it again or remove it") from error
    return to_rgb(image)


def to_rgb(image: Image.Image) -> Image.Image:
    """The same picture upright, with three channels of 8 bits."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits: keep the high byte; a plain convert would clip at 255
        return Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


# ----------------------------------------------------------------------------------------------------- one folder


def class_folders(root: Path) -> list[str]:
    """Names of the class folders of `root`, in order; hidden folders such as `.ipynb_checkpoints` are no classes."""
    try:
        return sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith((".", "__")))
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no folder {root}; give a folder with one folder of pictures per class") from None
    except NotADirectoryError:
        raise NotADirectoryError(f"{root} is a file; give the folder that holds one folder of pictures per class") from None
    except PermissionError as error:
        unreadable(error)


def list_folder(root: Path, classes: Sequence[str]) -> tuple[list[Sample], list[str]]:
    """The pictures below `root/<class>/`, in order of their names, and the files that were left out, each with a reason."""
    samples: list[Sample] = []
    left_out: list[str] = []
    for label, name in enumerate(classes):
        found = len(samples)
        for path in files_below(root / name):
            why = reason_to_leave_out(path, root / name)
            if why:
                left_out.append(f"{path.relative_to(root.parent)}: {why}")
            else:
                samples.append((path, label))
        if len(samples) == found:
            raise ValueError(
                f"the class folder {root / name} holds no picture; add some ({', '.join(IMG_EXTENSIONS)}) or remove it"
            )
    return samples, left_out


def files_below(folder: Path) -> list[Path]:
    """All files in `folder` and its folders, in order of their names."""
    found = (Path(here) / name for here, _, names in os.walk(folder, onerror=unreadable) for name in names)
    return sorted(found)


def unreadable(error: OSError) -> NoReturn:
    raise PermissionError(f"the folder {error.filename} may not be read; change its permissions or copy the pictures elsewhere")


def reason_to_leave_out(path: Path, folder: Path) -> str | None:
    if any(part.startswith(".") for part in path.relative_to(folder).parts):
        return "hidden"
    if path.suffix.lower() not in IMG_EXTENSIONS:
        return "not a picture by its name"
    try:
        with Image.open(path):
            return None
    except PermissionError:
        return "may not be read"
    except (UnidentifiedImageError, OSError):
        return "not a picture by its content"


# --------------------------------------------------------------------------------------------------------- splits

Split = dict[str, list[Sample]]


def read_splits(root: Path) -> tuple[Split, list[str], list[str]]:
    """Samples by split, class names and files left out, from `root/{train,val,test}/<class>/`.

    Raises:
        ValueError: if a split lacks a class or has one more, or there are fewer than two classes.
    """
    classes = class_folders(root / "train")
    check_classes(root / "train", classes)
    split, left_out = {}, []
    for name in SPLITS:
        here = class_folders(root / name)
        if here != classes:
            missing, extra = sorted(set(classes) - set(here)), sorted(set(here) - set(classes))
            raise ValueError(
                f"{root / name} and {root / 'train'} must hold the same classes, for the names make the class numbers: "
                f"missing in {name} {missing}, only in {name} {extra}; add the folders or remove them everywhere"
            )
        split[name], out = list_folder(root / name, classes)
        left_out += out
    return split, classes, left_out


def read_and_split(root: Path, seed: int) -> tuple[Split, list[str], list[str]]:
    """The same from `root/<class>/` without splits: 70 % train, 15 % val, 15 % test of each class, drawn by `seed`."""
    classes = class_folders(root)
    check_classes(root, classes)
    samples, left_out = list_folder(root, classes)
    return divide(samples, seed, {"train": 0.7, "val": 0.15, "test": 0.15}), classes, left_out


def check_classes(root: Path, classes: list[str]) -> None:
    if len(classes) < 2:
        raise ValueError(
            f"{root} holds {len(classes)} class folder(s) {classes}; at least two classes are needed to tell apart"
        )


def divide(samples: Sequence[Sample], seed: int, shares: dict[str, float]) -> Split:
    """Split `samples` by `shares` (which add up to 1) within each class, so that every split has every class."""
    rng = np.random.default_rng(seed)
    split: Split = {name: [] for name in shares}
    for label in sorted({label for _, label in samples}):
        mine = [sample for sample in samples if sample[1] == label]
        if len(mine) < len(shares):
            raise ValueError(f"{mine[0][0].parent} holds {len(mine)} picture(s), too few for {' + '.join(shares)}; add some")
        order = rng.permutation(len(mine))
        cuts = np.round(np.cumsum([0, *shares.values()]) * len(mine)).astype(int)
        cuts = np.maximum(cuts, np.arange(len(cuts)))  # at least one picture for each split
        cuts = np.minimum(cuts, len(mine) - np.arange(len(cuts))[::-1])
        for name, start, stop in zip(shares, cuts[:-1], cuts[1:], strict=True):
            split[name] += [mine[i] for i in sorted(order[start:stop])]
    return split


# ------------------------------------------------------------------------------------------------- named data sets


def _eurosat(root: Path, download: bool, seed: int) -> tuple[Split, list[str]]:
    found = datasets.EuroSAT(str(root), download=download)
    samples = [(Path(path), label) for path, label in found.samples]
    return divide(samples, seed, {"train": 0.7, "val": 0.15, "test": 0.15}), found.classes


def _pets(root: Path, download: bool, seed: int) -> tuple[Split, list[str]]:
    learn, test = (datasets.OxfordIIITPet(str(root), split=name, download=download) for name in ("trainval", "test"))
    split = divide(list(zip(learn._images, learn._labels, strict=True)), seed, {"train": 0.8, "val": 0.2})
    return split | {"test": list(zip(test._images, test._labels, strict=True))}, learn.classes


def _flowers(root: Path, download: bool, seed: int) -> tuple[Split, list[str]]:
    found = {name: datasets.Flowers102(str(root), split=name, download=download) for name in SPLITS}
    split = {name: list(zip(one._image_files, one._labels, strict=True)) for name, one in found.items()}
    return split, list(found["train"].classes)


NAMED = {
    "eurosat": (_eurosat, 90, "eurosat"),
    "pets": (_pets, 790, "oxford-iiit-pet"),
    "flowers102": (_flowers, 330, "flowers-102"),
}


def read_named(name: str, seed: int) -> tuple[Split, list[str]]:
    """Samples by split and class names of a public data set, downloaded by torchvision if it is not there yet.

    Raises:
        FileNotFoundError: if it is not there and cannot be downloaded.
    """
    reader, megabytes, folder = NAMED[name]
    try:
        return reader(FULL, False, seed)
    except RuntimeError:
        pass  # torchvision's word for "not there"
    try:
        return reader(FULL, True, seed)
    except (OSError, RuntimeError) as error:
        raise FileNotFoundError(
            f"the data set {name!r} (about {megabytes} MB) is not on this machine and could not be downloaded ({error}); "
            f"copy it from a machine that has it to {FULL / folder}, or name a folder of class folders in COURSE_DATA"
        ) from error


# ------------------------------------------------------------------------------------------------------ open_data


def read_samples(run: Settings) -> tuple[Split, list[str], list[str]]:
    if run.data in NAMED:
        return *read_named(run.data, run.seed), []
    root = TINY if run.data == "tiny" else Path(run.data).expanduser()
    if run.data == "tiny" and not root.exists():
        raise FileNotFoundError(f"{root} is missing; `git checkout data/tiny` brings it back")
    if root.name == run.data and not root.exists():
        raise unknown("data set or folder", run.data, ["tiny", *NAMED, "any folder of class folders"])
    if (root / "train").is_dir():
        return read_splits(root)
    return read_and_split(root, run.seed)


def first_per_class(samples: Sequence[Sample], count: int) -> list[Sample]:
    """The first `count` samples of each class.

    Raises:
        ValueError: if a class has fewer.
    """
    labels = sorted({label for _, label in samples})
    groups = [[sample for sample in samples if sample[1] == label] for label in labels]
    fewest = min(len(group) for group in groups)
    if not 1 <= count <= fewest:
        raise ValueError(f"per_class={count}: the smallest class has {fewest} training pictures; choose 1 to {fewest}")
    return [sample for group in groups for sample in group[:count]]


def open_data(
    run: Settings, *, transform: Transform | None = None, train_transform: Transform | None = None, per_class: int | None = None
) -> Data:
    """Loaders of the data set that `run` names, for images of shape (batch, 3, height, width) and labels (batch,).

    Args:
        transform: makes a tensor of a picture; by default the one that belongs to the weights of `run`.
        train_transform: another one for the training pictures (augmentation).
        per_class: use only so many training pictures of each class.

    Raises:
        ValueError, FileNotFoundError: if the folders do not follow the contract; the message says what to change.
    """
    split, classes, left_out = read_samples(run)
    if per_class is not None:
        split["train"] = first_per_class(split["train"], per_class)
    plain = transform or default_transform(run)
    views = {"train": train_transform or plain, "val": plain, "test": plain}
    loaders = {name: open_loader(Pictures(split[name], views[name]), run, shuffle=name == "train") for name in SPLITS}
    return Data(**loaders, classes=tuple(classes), left_out=tuple(left_out))


def default_transform(run: Settings) -> Transform:
    weights = get_weights("resnet18", run.weights)
    if weights is None:
        raise ValueError("no weights, so nothing says how to prepare the pictures; give open_data a transform")
    return weights.transforms()


def open_loader(dataset: Any, run: Settings, *, shuffle: bool) -> DataLoader:
    """A loader with the batch size and workers of `run`; a shuffled one draws its orders from the seed of `run`."""
    pin = run.device.type == "cuda"
    make = partial(DataLoader, dataset, batch_size=run.batch_size, num_workers=run.workers, pin_memory=pin)
    return make(shuffle=True, generator=torch.Generator().manual_seed(run.seed)) if shuffle else make()
