"""The only thing that crosses the wall between a learner's code and the grader: frames of plain data, without pickle.

frame = b"CGW2" | length of the tree, u32 | length of the body, u64 | tree | body    (numbers are little-endian)
tree  = [kind, id, data] in msgpack, where an extension stands for a tensor: its code is the dtype, its content the shape
body  = the bytes of the tensors, in the order in which they stand in the tree

Whatever is read is hostile: each length is checked before anything is allocated, no work grows faster than the bytes that
came, and every fault is a `WireError`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import msgpack
import torch
from torch import Tensor, nn

MAGIC, PREFIX = b"CGW2", struct.Struct("<4sIQ")
KINDS = ("cells", "probe", "ready", "status", "evidence", "raised")
FRAME, TREE, STRING = 16 * 2**20, 2**20, 2**16  # bytes, bytes, characters
NODES, DEPTH, DIMENSIONS = 20_000, 16, 8
DTYPES = [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]
DTYPES += [torch.float16, torch.bfloat16, torch.float32, torch.float64]


class WireError(ValueError):
    """A value that may not cross, or bytes that are no frame."""


@dataclass(frozen=True)
class Frame:
    kind: str
    id: str
    data: Any


# ------------------------------------------------------------------------------------------------- what may cross


def demand_plain(value: Any) -> None:
    """Raise `WireError` unless `value` holds plain data only, within all limits."""
    for number, part in enumerate(parts_of(value), start=1):
        if number > NODES:
            raise WireError(f"a value has more than {NODES:,} parts")
        if type(part) is int and not -(2**63) <= part < 2**63:
            raise WireError("a whole number needs more than 64 bits")
        if type(part) is str and len(part) > STRING:
            raise WireError(f"a text is longer than {STRING:,} characters")
        if type(part) in (Tensor, nn.Parameter):
            if part.dtype not in DTYPES or part.layout != torch.strided:
                raise WireError(f"a tensor of {part.dtype} ({part.layout}) is not allowed; choose from {DTYPES}")
            demand_room(part.dtype, part.shape)
        elif part is not None and type(part) not in (bool, int, float, str, list, dict):
            raise WireError(f"a {type(part).__name__} cannot be sent, only numbers, texts, lists, dictionaries and tensors")


def parts_of(value: Any, depth: int = 0) -> Iterator[Any]:
    """`value` and all that it holds, keys too."""
    if depth > DEPTH:
        raise WireError(f"a value is nested deeper than {DEPTH} levels")
    if type(value) is dict and any(type(key) is not str for key in value):
        raise WireError("the keys of a dictionary should be texts")
    yield value
    for part in chain(value, value.values()) if type(value) is dict else value if type(value) is list else ():
        yield from parts_of(part, depth + 1)


def demand_room(dtype: torch.dtype, shape: tuple[int, ...]) -> int:
    """The bytes of a tensor. One that holds nothing may not be long in its other dimensions either: a sum would be."""
    if len(shape) > DIMENSIONS or math.prod(max(length, 1) for length in shape) * dtype.itemsize > FRAME:
        raise WireError(
            f"a tensor of shape {tuple(shape)} is too large; {FRAME:,} bytes and {DIMENSIONS} dimensions are allowed"
        )
    return math.prod(shape) * dtype.itemsize


# ---------------------------------------------------------------------------------------------------------- writing


def encode(kind: str, id: str, data: Any) -> bytes:
    """The frame that says `data`.

    Raises:
        WireError: if `data` holds anything but plain values, or is too large.
    """
    demand_plain(data)
    parts: list[bytes] = []

    def extension(tensor: Tensor) -> msgpack.ExtType:
        parts.append(tensor.detach().cpu().resolve_neg().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return msgpack.ExtType(DTYPES.index(tensor.dtype), struct.pack(f"<{tensor.dim()}I", *tensor.shape))

    try:
        tree = msgpack.packb([kind, id, data], default=extension, strict_types=True)
    except UnicodeEncodeError:
        raise WireError("a text holds half a letter") from None
    body = b"".join(parts)
    frame = PREFIX.pack(MAGIC, len(tree), len(body)) + tree + body
    frame_size(frame)
    return frame


# ---------------------------------------------------------------------------------------------------------- reading


def frame_size(start: bytes | bytearray) -> int | None:
    """How long the frame is that begins with `start`; None while too little of it is there."""
    if not start.startswith(MAGIC[: len(start)]):
        raise WireError("this is no frame")
    if len(start) < PREFIX.size:
        return None
    _, tree, body = PREFIX.unpack_from(start)
    if tree > TREE or PREFIX.size + tree + body > FRAME:
        raise WireError(f"a value of {tree + body:,} bytes is too large; {FRAME:,} are allowed, {TREE:,} without its tensors")
    return PREFIX.size + tree + body


def decode(frame: bytes) -> Frame:
    """What `frame` says.

    Raises:
        WireError: if it is not exactly one frame within all limits.
    """
    size = frame_size(frame)
    if size != len(frame):
        raise WireError(f"a frame of {size} bytes was announced, {len(frame)} came")
    _, length, _ = PREFIX.unpack_from(frame)
    body = Body(frame[PREFIX.size + length :])
    tree = unpacked(frame[PREFIX.size : PREFIX.size + length], body)
    if body.used != len(body.content):
        raise WireError("a frame holds more than its tensors need")
    if type(tree) is not list or len(tree) != 3 or not all(type(word) is str for word in tree[:2]) or tree[0] not in KINDS:
        raise WireError("a frame says its kind, an id and data")
    demand_plain(tree[2])
    return Frame(*tree)


def unpacked(tree: bytes, body: Body) -> Any:
    try:
        hooks = {"ext_hook": body.tensor, "list_hook": body.counted, "object_hook": body.counted}
        return msgpack.unpackb(tree, **hooks, max_array_len=NODES, max_map_len=NODES)
    except WireError:
        raise
    except (ValueError, RecursionError, msgpack.UnpackException) as error:
        raise WireError(f"a tree is no msgpack: {type(error).__name__}") from None


class Body:
    """The bytes of a frame's tensors, handed out one after the other while the tree is read; its parts are counted."""

    def __init__(self, content: bytes):
        self.content, self.used, self.parts = content, 0, 0

    def counted(self, part: Any) -> Any:
        self.parts += 1
        if self.parts > NODES:
            raise WireError(f"a value has more than {NODES:,} parts")
        return part

    def tensor(self, code: int, dimensions: bytes) -> Tensor:
        if not 0 <= code < len(DTYPES) or len(dimensions) % 4:
            raise WireError("a tensor has an unknown dtype, or no shape")
        dtype, shape = DTYPES[code], struct.unpack(f"<{len(dimensions) // 4}I", dimensions)
        start, self.used = self.used, self.used + demand_room(dtype, shape)
        if self.used > len(self.content):
            raise WireError("a frame holds less than its tensors need")
        part = self.content[start : self.used]
        if dtype is torch.bool and part.strip(b"\0\1"):
            raise WireError("a truth value is neither 0 nor 1")
        tensor = torch.frombuffer(bytearray(part), dtype=dtype) if part else torch.empty(0, dtype=dtype)
        return self.counted(tensor.reshape(shape))
