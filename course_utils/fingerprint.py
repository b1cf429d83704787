"""Fingerprints: one short text for everything that decides a result, so that a changed part never passes for the old one.

What cannot be recognised for certain, such as a function of one's own, has no fingerprint: a name can stay while the code
behind it changes.
"""

from __future__ import annotations

import enum
import hashlib
import importlib.util
import sys
from functools import cache, partial
from pathlib import Path
from types import BuiltinMethodType, FunctionType, MethodType
from typing import Any

import numpy as np
import PIL
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset, TensorDataset
from torchvision.datasets import DatasetFolder

from course_utils.images import InMemory, Pictures

VERSIONS = tuple(str(library.__version__) for library in (torch, torchvision, PIL))
LIBRARIES = ("torch", "torchvision", "builtins", "_operator", "math")  # of one version: a name stands for the same code
OURS = "course_utils"  # grows with the course: the code itself counts
PLAIN = (type(None), bool, int, float, str, bytes, range, torch.dtype, torch.Size)
PASSING = ("training", "_parameters", "_buffers", "_modules")  # of a module: its mode, and what is looked at by itself


class Unrecognised(Exception):
    """Something has no fingerprint; the message names it."""


def fingerprint(*values: Any) -> str:
    """32 hexadecimal digits that change whenever a number, a name or a file behind `values` does.

    Takes plain values and containers of them, tensors, arrays, pictures, data sets, bound methods, and modules and other
    objects of torch and torchvision (their class and all their attributes).

    Raises:
        Unrecognised: if something among `values` cannot be recognised.
    """
    digest = hashlib.blake2b(digest_size=16)
    try:
        for value in (VERSIONS, _source("course_utils.images"), *values):
            _add(digest, value)
    except RecursionError:
        raise Unrecognised("something that holds itself") from None
    return digest.hexdigest()


def _add(digest: Any, value: Any) -> None:
    digest.update(f"<{type(value).__module__}.{type(value).__qualname__}>".encode())
    if isinstance(value, enum.Enum) or type(value) in PLAIN:
        digest.update(repr(value).encode())
    elif isinstance(value, Image.Image):
        _add_all(digest, (value.mode, value.size, value.tobytes(), value.getpalette("RGBA") if value.palette else None))
        _add_all(digest, [value.info.get(name) for name in ("transparency", "exif", "icc_profile")])
    elif isinstance(value, (Tensor, np.ndarray)):
        _add_numbers(digest, value)
    elif isinstance(value, (list, tuple, dict, set, frozenset)):
        _add_all(digest, value)
    elif isinstance(value, Dataset):
        _add_dataset(digest, value)
    elif isinstance(value, partial):
        _add_all(digest, (value.func, value.args, value.keywords))
    elif isinstance(value, (MethodType, BuiltinMethodType)) and not isinstance(value.__self__, type(sys) | None):
        _add_all(digest, (getattr(value, "__func__", None), value.__name__, value.__self__))
    else:
        _add_object(digest, value)
    digest.update(b"</>")


def _add_numbers(digest: Any, value: Tensor | np.ndarray) -> None:
    if isinstance(value, Tensor):
        if value.layout is not torch.strided or value.is_quantized or value.is_meta:
            raise Unrecognised(f"a tensor that is sparse, quantised or without numbers ({value.layout}, {value.dtype})")
        digest.update(f"{value.dtype} {tuple(value.shape)}".encode())
        value = value.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8).numpy()
    array = np.ascontiguousarray(value)
    digest.update(f"{array.dtype} {array.shape}".encode())
    digest.update(array.data)


def _add_all(digest: Any, values: Any) -> None:
    if isinstance(values, (set, frozenset)):
        values = sorted(values, key=repr)
    for item in values.items() if isinstance(values, dict) else values:
        _add(digest, item)


@cache
def _source(module: str) -> bytes:
    """A digest of the text of a module of ours: code that has changed may give something else under the same name."""
    found = importlib.util.find_spec(module)
    return hashlib.blake2b(Path(str(found and found.origin)).read_bytes()).digest()


def _add_dataset(digest: Any, dataset: Dataset) -> None:
    """The files' bytes, not their names: a folder that was moved is still the same."""
    kind = type(dataset)
    _check_code(kind)
    if isinstance(dataset, Subset) and kind is Subset:
        return _add_all(digest, (dataset.dataset, list(dataset.indices)))
    if isinstance(dataset, TensorDataset) and kind is TensorDataset:
        return _add_all(digest, dataset.tensors)
    if isinstance(dataset, InMemory) and kind is InMemory:
        return _add_all(digest, (dataset.pictures, dataset.labels, dataset.transform))
    if isinstance(dataset, Pictures) and kind is Pictures:
        views: tuple = (dataset.transform,)
    elif isinstance(dataset, DatasetFolder) and kind.__module__.startswith("torchvision."):
        views = (dataset.loader, dataset.transform, dataset.target_transform)
    else:
        raise Unrecognised(f"the data set of type {kind.__qualname__}")
    for path, label in dataset.samples:
        digest.update(hashlib.blake2b(Path(path).read_bytes()).digest())
        _add(digest, label)
    return _add_all(digest, views)


def _add_object(digest: Any, value: Any) -> None:
    named = isinstance(value, type) or not hasattr(value, "__dict__") or hasattr(value, "__code__")  # a class or a function
    kind = value if named else type(value)
    home, name = _home(kind), getattr(kind, "__qualname__", "")
    if home.partition(".")[0] not in (*LIBRARIES, OURS) or not name or "<" in name:
        raise Unrecognised(f"{name or value!r} ({home or type(value).__name__})")
    digest.update(f"{home}.{name}".encode())
    if home.partition(".")[0] == OURS:
        digest.update(_source(home))
    if not named:
        _check_code(kind)
        _add_all(digest, {key: item for key, item in vars(value).items() if key not in PASSING})
    if isinstance(value, nn.Module):
        _add_all(digest, (value._parameters, value._buffers, value._modules))


def _check_code(kind: type) -> None:
    """A class of a library may have got a method of somebody else's since.

    Raises:
        Unrecognised: if it has.
    """
    for base in kind.__mro__:
        for name, method in vars(base).items():
            if isinstance(method, FunctionType) and _home(method).partition(".")[0] not in (*LIBRARIES, OURS):
                raise Unrecognised(f"{base.__qualname__}.{name} ({_home(method)})")


def _home(value: Any) -> str:
    """The module in which the code stands: a function's own word for it may be that of the one which it wraps."""
    module = value.__globals__.get("__name__") if isinstance(value, FunctionType) else getattr(value, "__module__", None)
    return module or ""
