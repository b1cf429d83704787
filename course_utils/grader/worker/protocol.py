"""The only thing that crosses the wall between a learner's code and the grader: frames of plain data, without pickle.

frame  = b"CGW1" | header length, u32 | body length, u64 | header | body          (numbers are little-endian)
header = {"kind", "id", "data", "tensors": [{"dtype", "shape", "bytes"}, …]} as strict JSON
body   = the bytes of the tensors, one after the other

Whatever is read is hostile: each length is checked before anything is allocated, and every fault is a `WireError`.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

MAGIC, PREFIX = b"CGW1", struct.Struct("<4sIQ")
KINDS = ("cells", "probe", "ready", "status", "evidence", "raised")
FRAME, HEADER, STRING = 16 * 2**20, 2**20, 2**16  # bytes
NODES, DEPTH, TENSORS, DIMENSIONS, DIGITS = 20_000, 16, 4_000, 8, 20
FRAMING = 1  # levels of the header around its data
KINDS_OF_NUMBER = "bool uint8 int8 int16 int32 int64 float16 bfloat16 float32 float64"
DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in KINDS_OF_NUMBER.split()}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
SPECIAL = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
STRUCTURE = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)


class WireError(ValueError):
    """A value that may not cross, or bytes that are no frame."""


@dataclass(frozen=True)
class Frame:
    kind: str
    id: str
    data: Any


# ---------------------------------------------------------------------------------------------------------- writing


def encode(kind: str, id: str, data: Any) -> bytes:
    """The frame that says `data`.

    Raises:
        WireError: if `data` holds anything but plain values, or is too large.
    """
    tensors: list[Tensor] = []
    tree = pack(data, tensors)
    parts = [bytes_of(tensor) for tensor in tensors]
    kinds = [
        {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "bytes": len(part)}
        for tensor, part in zip(tensors, parts, strict=True)
    ]
    try:
        header = json.dumps({"kind": kind, "id": id, "data": tree, "tensors": kinds}, allow_nan=False).encode()
    except RecursionError:
        raise WireError(f"a value is nested deeper than {DEPTH} levels") from None
    body = b"".join(parts)
    if len(header) > HEADER or PREFIX.size + len(header) + len(body) > FRAME:
        raise WireError(f"a value of {len(header) + len(body):,} bytes is too large; {FRAME:,} are allowed")
    return PREFIX.pack(MAGIC, len(header), len(body)) + header + body


def pack(value: Any, tensors: list[Tensor], depth: int = 0) -> Any:
    """`value` as JSON can hold it; its tensors are put into `tensors`."""
    if depth > DEPTH:
        raise WireError(f"a value is nested deeper than {DEPTH} levels")
    if value is None or type(value) in (bool, str):
        return value
    if type(value) is int:
        return whole(value)
    if type(value) is float:
        return value if math.isfinite(value) else {"$f": str(value)}
    if type(value) is list or type(value) is tuple:
        return [pack(item, tensors, depth + 1) for item in value]
    if type(value) is dict:
        if any(type(key) is not str or key.startswith("$") for key in value):
            raise WireError("the keys of a dictionary should be texts that do not begin with $")
        return {key: pack(item, tensors, depth + 1) for key, item in value.items()}
    if type(value) in (Tensor, nn.Parameter):
        if value.dtype not in NAMES or value.layout != torch.strided:
            raise WireError(f"a tensor of {value.dtype} ({value.layout}) is not allowed; choose from {list(DTYPES)}")
        tensors.append(value.detach().cpu().resolve_neg().contiguous())
        return {"$t": len(tensors) - 1}
    raise WireError(f"a {type(value).__name__} cannot be sent, only numbers, texts, lists, dictionaries and tensors")


def bytes_of(tensor: Tensor) -> bytes:
    return tensor.reshape(-1).view(torch.uint8).numpy().tobytes()


# ---------------------------------------------------------------------------------------------------------- reading


def frame_size(start: bytes | bytearray) -> int | None:
    """How long the frame is that begins with `start`; None while too little of it is there."""
    if not MAGIC.startswith(bytes(start[:4])) and bytes(start[:4]) != MAGIC:
        raise WireError("this is no frame")
    if len(start) < PREFIX.size:
        return None
    _, header, body = PREFIX.unpack_from(start)
    if header > HEADER or PREFIX.size + header + body > FRAME:
        raise WireError(f"a frame announces {header + body:,} bytes; {FRAME:,} are allowed")
    return PREFIX.size + header + body


def decode(frame: bytes) -> Frame:
    """What `frame` says.

    Raises:
        WireError: if it is not exactly one frame within all limits.
    """
    size = frame_size(frame)
    if size != len(frame):
        raise WireError(f"a frame of {size} bytes was announced, {len(frame)} came")
    _, length, _ = PREFIX.unpack_from(frame)
    header = parse(frame[PREFIX.size : PREFIX.size + length])
    if type(header) is not dict or header.keys() != {"kind", "id", "data", "tensors"}:
        raise WireError("a header has the keys kind, id, data and tensors")
    if header["kind"] not in KINDS or type(header["id"]) is not str:
        raise WireError("a header names a kind and an id")
    tensors = tensors_in(frame[PREFIX.size + length :], header["tensors"])
    return Frame(header["kind"], header["id"], Unpacker(tensors).value(header["data"]))


def parse(header: bytes) -> Any:
    try:
        text = header.decode()
        if deepest(text) > DEPTH + FRAMING:
            raise WireError(f"a header is nested deeper than {DEPTH} levels")
        return json.loads(text, object_pairs_hook=once, parse_constant=constant, parse_float=finite, parse_int=digits)
    except WireError:
        raise
    except (ValueError, RecursionError) as error:
        raise WireError(f"a header is no JSON: {type(error).__name__}") from None


def deepest(text: str) -> int:
    """How deep the brackets of a JSON text go, found without parsing it."""
    depth = most = 0
    for found in STRUCTURE.finditer(text):
        if found[0][0] != '"':
            depth += 1 if found[0] in "[{" else -1
            most = max(most, depth)
    return most


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise WireError("a key appears twice")
    return found


def constant(name: str) -> float:
    raise WireError(f"{name} is no JSON")


def finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise WireError("a number is too large")
    return value


def digits(text: str) -> int:
    if len(text) > DIGITS:
        raise WireError(f"a whole number has more than {DIGITS} digits")
    return whole(int(text))


def whole(value: int) -> int:
    if not -(2**63) <= value < 2**63:
        raise WireError("a whole number needs more than 64 bits")
    return value


def tensors_in(body: bytes, kinds: Any) -> list[Tensor]:
    """The tensors that `kinds` describes and `body` holds."""
    if type(kinds) is not list or len(kinds) > TENSORS:
        raise WireError(f"a frame holds at most {TENSORS} tensors")
    tensors, start = [], 0
    for kind in kinds:
        size = size_of(kind)
        if start + size > len(body):
            raise WireError("a frame holds less than its tensors need")
        tensors.append(tensor_of(kind, body[start : start + size]))
        start += size
    if start != len(body):
        raise WireError("a frame holds more than its tensors need")
    return tensors


def size_of(kind: Any) -> int:
    if type(kind) is not dict or kind.keys() != {"dtype", "shape", "bytes"}:
        raise WireError("a tensor has a dtype, a shape and a number of bytes")
    shape = kind["shape"]
    if type(kind["dtype"]) is not str or kind["dtype"] not in DTYPES:
        raise WireError("a tensor has an unknown dtype")
    if type(shape) is not list or len(shape) > DIMENSIONS or any(type(n) is not int or not 0 <= n <= FRAME for n in shape):
        raise WireError(f"a tensor has at most {DIMENSIONS} dimensions, each a whole number from 0 to {FRAME}")
    size = math.prod(shape) * DTYPES[kind["dtype"]].itemsize
    if type(kind["bytes"]) is not int or kind["bytes"] != size or size > FRAME:
        raise WireError("the bytes of a tensor do not fit its shape")
    return size


def tensor_of(kind: dict, content: bytes) -> Tensor:
    dtype = DTYPES[kind["dtype"]]
    if dtype is torch.bool and content.strip(b"\0\1"):
        raise WireError("a truth value is neither 0 nor 1")
    if not content:
        return torch.empty(kind["shape"], dtype=dtype)
    return torch.frombuffer(bytearray(content), dtype=dtype).reshape(kind["shape"])


class Unpacker:
    """From the tree of a header back to values, counting its nodes."""

    def __init__(self, tensors: list[Tensor]):
        self.tensors, self.nodes = tensors, 0

    def value(self, tree: Any) -> Any:
        self.nodes += 1
        if self.nodes > NODES:
            raise WireError(f"a value has more than {NODES:,} parts")
        if type(tree) is str:
            return readable(tree)
        if type(tree) is list:
            return [self.value(item) for item in tree]
        if type(tree) is dict:
            if any(key.startswith("$") for key in tree):
                return self.special(tree)
            return {readable(key): self.value(item) for key, item in tree.items()}
        return tree

    def special(self, tree: dict) -> Any:
        if tree.keys() == {"$f"} and type(tree["$f"]) is str and tree["$f"] in SPECIAL:
            return SPECIAL[tree["$f"]]
        if tree.keys() == {"$t"} and type(tree["$t"]) is int and 0 <= tree["$t"] < len(self.tensors):
            return self.tensors[tree["$t"]]
        raise WireError("a key begins with $")


def readable(text: str) -> str:
    if len(text) > STRING:
        raise WireError(f"a text is longer than {STRING:,} characters")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise WireError("a text holds half a letter")
    return text


Reader = Callable[[int], bytes]  # reads exactly so many bytes


def read_frame(read: Reader) -> Frame:
    """The next frame from a stream."""
    start = read(PREFIX.size)
    size = frame_size(start)
    assert size is not None
    return decode(start + read(size - PREFIX.size))
