"""Data sets by their names or folders: loaders for three splits, one order of classes, and what was left out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader
from torchvision import datasets

from course_utils.devices import is_asynchronous
from course_utils.errors import unknown
from course_utils.folders import (
    SHARES,
    SPLITS,
    Split,
    class_folders,
    divide,
    find_duplicates,
    find_splits,
    left_out_in_words,
    read_and_split,
    read_splits,
)
from course_utils.images import Pictures, Sample, Transform
from course_utils.profiles import HOME, WORK, Settings, restored
from course_utils.progress_bar import progress_of_downloads
from course_utils.weights import SOURCES, shapes_weights

TINY = HOME / "data" / "tiny"
FULL = WORK / "data" / "full"  # where data sets of the profile full are kept


@dataclass(frozen=True)
class Data:
    """Loaders for the three splits, the class names in the order of their numbers, and what a person should know.

    `left_out` names the files that were left out, each with a reason; `duplicates` the pictures that are in two splits or in
    two classes, with what to do.
    """

    train: DataLoader
    val: DataLoader
    test: DataLoader
    classes: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    duplicates: tuple[str, ...] = ()

    @property
    def samples(self) -> Split:
        """The files with their class numbers, by the name of the split."""
        return {name: getattr(self, name).dataset.samples for name in SPLITS}


# ------------------------------------------------------------------------------------------------- named data sets


def _eurosat(root: Path, download: bool) -> tuple[Split, list[str]]:
    found = datasets.EuroSAT(str(root), download=download)
    return {"all": [(Path(path), label) for path, label in found.samples]}, found.classes


def _pets(root: Path, download: bool) -> tuple[Split, list[str]]:
    found = {name: datasets.OxfordIIITPet(str(root), split=name, download=download) for name in ("trainval", "test")}
    split = {name: list(zip(one._images, one._labels, strict=True)) for name, one in found.items()}
    return split, found["trainval"].classes


def _flowers(root: Path, download: bool) -> tuple[Split, list[str]]:
    found = {name: datasets.Flowers102(str(root), split=name, download=download) for name in SPLITS}
    split = {name: list(zip(one._image_files, one._labels, strict=True)) for name, one in found.items()}
    return split, list(found["train"].classes)


class Named(NamedTuple):
    """A public data set: what reads it, the size of the download, its folder in `FULL` and how many pictures it has."""

    read: Callable[[Path, bool], tuple[Split, list[str]]]
    megabytes: int
    folder: str
    pictures: int


NAMED = {
    "eurosat": Named(_eurosat, 90, "eurosat", 27_000),
    "pets": Named(_pets, 790, "oxford-iiit-pet", 7_349),
    "flowers102": Named(_flowers, 330, "flowers-102", 8_189),
}
UNDIVIDED = {"all": SHARES, "trainval": {"train": 0.8, "val": 0.2}}  # parts that come in one and are divided here


def read_named(name: str, *, download: bool = True) -> tuple[Split, list[str]]:
    """Samples by split and class names of a public data set, downloaded by torchvision if it is not there yet.

    Raises:
        FileNotFoundError: if it is not there, or not as a whole, and cannot or shall not be downloaded.
    """
    named, place = NAMED[name], FULL / NAMED[name].folder
    try:
        parts, classes = named.read(FULL, False)
    except RuntimeError:  # torchvision's word for "not there"
        parts, classes = download_named(name) if download else ({}, [])
    except (FileNotFoundError, ValueError):  # unpacked in part: a list of files is missing or cut off
        parts, classes = {}, []
    found = count_files(parts)
    if found != named.pictures:
        raise FileNotFoundError(
            f"{place} holds {found:,} of the {named.pictures:,} pictures of the data set {name!r}; delete it to have it "
            f"downloaded again (about {named.megabytes} MB), {or_by_hand(named)}"
        )
    split: Split = {}
    for part, samples in parts.items():
        split |= divide(samples, UNDIVIDED[part]) if part in UNDIVIDED else {part: samples}
    return split, classes


def pictures_here(name: str) -> int | None:
    """How many pictures of a public data set are here as a whole or in part; None if it would be downloaded.

    An empty folder or half an archive, which a download leaves that was cut off, is none.
    """
    try:
        return count_files(NAMED[name].read(FULL, False)[0])
    except RuntimeError:  # torchvision's word for "not there"
        return None
    except (OSError, ValueError):  # unpacked in part: a list of files is missing or cut off
        return 0


def count_files(parts: Split) -> int:
    return sum(path.is_file() for part in parts.values() for path, _ in part)


def download_named(name: str) -> tuple[Split, list[str]]:
    named = NAMED[name]
    try:
        with leaving_nothing(FULL / named.folder), progress_of_downloads():
            return named.read(FULL, True)
    except (OSError, RuntimeError) as error:
        raise FileNotFoundError(
            f"the data set {name!r} (about {named.megabytes} MB) is not on this machine and could not be downloaded ({error}); "
            f"{or_by_hand(named)}"
        ) from error


@contextmanager
def leaving_nothing(folder: Path) -> Iterator[None]:
    """If what is done inside fails or is stopped, what has come into `folder` since goes again, and the folder if it is empty.

    torchvision makes the folder first, writes the archive there, and unpacks it there. Half of that would pass for the data.
    """
    before = set(folder.rglob("*"))
    try:
        yield
    except BaseException:
        come = sorted(set(folder.rglob("*")) - before, reverse=True)  # what is inside a folder comes before it
        for path in [*come, folder, folder.parent]:
            with suppress(OSError):  # not empty, or never made
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        raise


def or_by_hand(named: Named) -> str:
    return f"copy it from a machine that has it to {FULL / named.folder}, or name a folder of class folders in COURSE_DATA"


# ------------------------------------------------------------------------------------------------------ open_data


def read_samples(run: Settings, *, download: bool = True) -> tuple[Split, list[str], list[str]]:
    """Samples by split, class names and files left out, of the data set that `run` names; see `open_data`."""
    if run.data in NAMED:
        return *read_named(run.data, download=download), []
    root = TINY if run.data == "tiny" else Path(run.data).expanduser()
    if run.data == "tiny" and not root.exists():
        raise FileNotFoundError(f"{root} is missing; {restored('data/tiny')}")
    if root.name == run.data and not root.exists():
        raise unknown("data set or folder", run.data, ["tiny", *NAMED, "any folder of class folders"])
    folders = class_folders(root)
    splits = find_splits(root, folders)
    return read_splits(root, splits) if splits else read_and_split(root, folders)


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

    A folder is either `root/{train,val,test}/<class>/` or `root/<class>/`, which is divided by what its files hold (`divide`),
    whatever the seed of `run`. A picture that lies in two splits or two classes is named in a warning and in `duplicates`;
    what is left out, in a line that is printed once, and all of it in `left_out`.

    Args:
        transform: makes a tensor of a picture. It belongs to the weights: `get_weights("resnet18", run.weights).transforms()`.
            The weights of the course all have one and the same, which is the default; ImageNet's differ, so one is needed.
        train_transform: another one for the training pictures (augmentation).
        per_class: use only so many training pictures of each class.

    Raises:
        ValueError, FileNotFoundError: if the folders do not follow the contract, or nothing says how to prepare the pictures;
            the message says what to change.
    """
    plain = transform or default_transform(run)
    split, classes, left_out = read_samples(run)
    if words := left_out_in_words(left_out):
        print_once(f"{run.data}: {words}")
    if per_class is not None:
        split["train"] = first_per_class(split["train"], per_class)
    duplicates = find_duplicates(split)
    if duplicates:
        such = "; ".join(duplicates[:3])
        warnings.warn(f"{run.data}: {such}; {len(duplicates)} in all, see `duplicates` of the data", stacklevel=2)
    views = {"train": train_transform or plain, "val": plain, "test": plain}
    loaders = {name: open_loader(Pictures(split[name], views[name]), run, shuffle=name == "train") for name in SPLITS}
    return Data(**loaders, classes=tuple(classes), left_out=tuple(left_out), duplicates=tuple(duplicates))


@cache
def print_once(line: str) -> None:
    print(line)


def default_transform(run: Settings) -> Transform:
    """The preparation that all weights of `run.weights` share.

    Raises:
        ValueError: if there is none.
    """
    if run.weights is None:
        raise ValueError("no weights, so nothing says how to prepare the pictures; give open_data a transform")
    if run.weights not in SOURCES:
        raise unknown("weights", run.weights, SOURCES)
    recipes = {repr(one.transforms()): one.transforms() for one in shapes_weights().values()} if run.weights == "shapes" else {}
    if len(recipes) != 1:
        raise ValueError(
            f"the {run.weights!r} weights of different networks prepare pictures differently (of ImageNet ResNet-18 takes 224 "
            "pixels, Inception 299), so give open_data the transform of yours, such as "
            f"transform=get_weights('resnet18', {run.weights!r}).transforms()"
        )
    return next(iter(recipes.values()))


def open_loader(dataset: Any, run: Settings, *, shuffle: bool) -> DataLoader:
    """A loader with the batch size and workers of `run`; a shuffled one draws its orders from the seed of `run`."""
    pin = is_asynchronous(run.device)
    make = partial(DataLoader, dataset, batch_size=run.batch_size, num_workers=run.workers, pin_memory=pin)
    return make(shuffle=True, generator=torch.Generator().manual_seed(run.seed)) if shuffle else make()
