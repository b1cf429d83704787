"""Picture files: read as a person sees them, and as data sets, from disk or from memory."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset, Subset
from torchvision import datasets

from course_utils.progress_bar import in_notebook

Sample = tuple[Path, int]  # a file and its class number
Transform = Callable[[Image.Image], Tensor]

HEIC = (".heic", ".heif")  # photos of an iPhone


def heic_is_read() -> bool:
    """Whether photos in HEIC can be read, which takes the package pillow-heif: the extra "heic" of the course."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


heic_is_read()  # also for a HEIC photo that bears another name, and in the processes of a loader


def how_to_read_heic() -> str:
    pip = "%pip" if in_notebook() else f"{sys.executable} -m pip"
    return f"HEIC needs one more package, run `{pip} install pillow-heif`, or save it as JPEG"


def read_picture(path: str | os.PathLike) -> Image.Image:
    """The picture as a person sees it: upright, three channels of 8 bits; transparent parts become white.

    Reads greyscale, palette, RGBA, CMYK and 16-bit files (black is 0 and white 65535); turns photos the way their EXIF
    says; of a file with several pictures, such as an animation, it takes the first. Photos in HEIC take one more package.

    Raises:
        ValueError: if the file is not a picture, only part of one, too large (more than `PIL.Image.MAX_IMAGE_PIXELS`), or
            of a kind that says nothing about which value is white, such as floating point.
    """
    return read_at_least(path, None)


def read_at_least(path: str | os.PathLike, size: tuple[int, int] | None) -> Image.Image:
    """The same; a JPEG may come in a smaller size that covers `size` (width, height), which is much faster."""
    if Path(path).suffix.lower() in HEIC and not heic_is_read():
        raise ValueError(f"{path} cannot be read: {how_to_read_heic()}")
    try:
        with Image.open(path) as image:
            why = reason_to_refuse(image)
            if not why:
                if size:
                    image.draft(None, size)
                image.load()
                return to_rgb(image)
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} is not a picture that can be read; remove it or save it again as PNG or JPEG") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        why = too_large()
    except Exception as error:  # whatever the readers of thirty formats raise
        if isinstance(error, MemoryError) or getattr(error, "errno", None):  # trouble of the system, not of the file
            raise
        raise ValueError(f"{path} is damaged or only part of a picture ({error}); copy it again or remove it") from error
    raise ValueError(f"{path} {why}")


def reason_to_refuse(image: Image.Image) -> str | None:
    """Why the pixels of a picture cannot be shown as they are meant, or None; to be asked before they are loaded."""
    if image.width * image.height > (Image.MAX_IMAGE_PIXELS or float("inf")):
        return too_large()
    return reason_of_mode(image)


def too_large() -> str:
    limit = (Image.MAX_IMAGE_PIXELS or 0) / 1e6
    return (
        f"has more than {limit:.0f} megapixels, PIL's guard against files made to fill the memory; scale it down, "
        "or set PIL.Image.MAX_IMAGE_PIXELS = None to take it all the same"
    )


def reason_of_mode(image: Image.Image) -> str | None:
    if image.mode == "F" or (image.mode == "I" and image.format != "PPM"):  # PIL scales those of 16-bit PPM to 65535
        kind = "floating point" if image.mode == "F" else "32-bit numbers"
        return f"has {kind} for pixels, and nothing says which value is white; scale it and save it again with 8 or 16 bits"
    if image.mode == "LAB":
        return "is in Lab colours, which PIL cannot turn into RGB; save it again as RGB"
    return None


def to_rgb(image: Image.Image) -> Image.Image:
    """The same picture upright, with three channels of 8 bits.

    Raises:
        ValueError: for floating point, 32-bit numbers and Lab colours.
    """
    why = reason_of_mode(image)
    if why:
        raise ValueError(f"the picture {why}")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits: keep the high byte; a plain convert would clip at 255
        return Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


# -------------------------------------------------------------------------------------------------------- data sets


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
    10,000 pictures of 500×375 pixels take 6 GB.

        train = DataLoader(in_memory(data.train.dataset), batch_size=32, shuffle=True)

    Args:
        dataset: that of a loader of `open_data`, a folder data set of torchvision, or a `Subset` of one.

    Raises:
        TypeError: for any other data set, since the files of its pictures are not known.
    """
    whole: Any = dataset
    chosen: Sequence[int] = range(len(whole) if hasattr(whole, "__len__") else 0)
    while gives_items_of(whole, Subset):
        chosen, whole = [whole.indices[i] for i in chosen], whole.dataset
    ours = gives_items_of(whole, Pictures)
    if not (ours or gives_items_of(whole, datasets.DatasetFolder)) or getattr(whole, "target_transform", None):
        raise TypeError(f"cannot tell where a {type(whole).__name__} reads its pictures; give {KNOWN}")
    read = read_picture if ours else whole.loader
    samples = [whole.samples[i] for i in chosen]
    return InMemory([read(path) for path, _ in samples], [label for _, label in samples], whole.transform)


def gives_items_of(dataset: Any, kind: Any) -> bool:
    """Whether `dataset` is of that kind and makes its items the same way; a class derived from it may do something else."""
    methods = ("__getitem__", "__getitems__")
    return isinstance(dataset, kind) and all(getattr(type(dataset), m, None) is getattr(kind, m, None) for m in methods)


KNOWN = "the data set of a loader that open_data made, an ImageFolder without target_transform, or a Subset of one"
