"""Frames: what goes in comes out, and whatever comes in is a frame or a `WireError`."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pytest
import torch

from course_utils.grader.worker import protocol
from course_utils.grader.worker.protocol import DTYPES, PREFIX, WireError, decode, encode, frame_size


def there_and_back(value: Any) -> Any:
    return decode(encode("evidence", "id", value)).data


def raw(header: Any, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return PREFIX.pack(protocol.MAGIC, len(text), len(body)) + text + body


def framed(data: str, tensors: str = "[]", body: bytes = b"") -> bytes:
    """A frame whose data is this JSON text."""
    return raw(f'{{"kind": "evidence", "id": "1", "data": {data}, "tensors": {tensors}}}'.encode(), body)


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -(2**63), 2**63 - 1, 0.1, -0.0, "", "é☃𝄞", [], {}, [1, [2.5, {"a": None}]], {"": [], "b": {"c": "d"}}],
)
def test_plain_values_come_back(value):
    back = there_and_back(value)
    assert (back, type(back), repr(back)) == (value, type(value), repr(value))


def test_numbers_that_json_lacks_come_back():
    nan, more, less = there_and_back([math.nan, math.inf, -math.inf])
    assert math.isnan(nan)
    assert (more, less) == (math.inf, -math.inf)


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 4), (2, 3, 4)])
def test_tensors_come_back_to_the_last_bit(name, shape):
    tensor = (torch.randn(shape) * 3).to(DTYPES[name])
    (back,) = there_and_back([tensor])
    assert (back.dtype, back.shape) == (tensor.dtype, tensor.shape)
    assert torch.equal(back, tensor)
    assert not back.requires_grad


def test_tensors_that_are_views_come_back():
    table = torch.arange(12.0).reshape(3, 4).requires_grad_()
    for view in (
        table.T,
        table[:, 1],
        table[::2],
        torch.nn.Parameter(table),
        torch.view_as_complex(torch.randn(3, 2)).conj().imag,
    ):
        assert torch.equal(there_and_back(view), view.detach())


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (object(), "a object cannot be sent"),
        (2**63, "64 bits"),
        ({1: 2}, "keys"),
        ({"$t": 0}, "keys"),
        (torch.zeros(2, dtype=torch.complex64), "complex64"),
        (torch.eye(3).to_sparse(), "sparse"),
        (torch.zeros(5_000_000), "too large"),
        (b"bytes", "bytes"),
        ({1, 2}, "set"),
    ],
)
def test_other_values_are_refused(value, words):
    with pytest.raises(WireError, match=words):
        encode("evidence", "id", value)


def test_a_value_that_holds_itself_is_refused():
    value: list = []
    value.append(value)
    with pytest.raises(WireError, match="deeper"):
        encode("evidence", "id", value)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (b"HTTP/1.1 200 OK and more", "no frame"),
        (PREFIX.pack(b"CGW1", protocol.HEADER + 1, 0), "announces"),
        (PREFIX.pack(b"CGW1", 2, protocol.FRAME), "announces"),
        (PREFIX.pack(b"CGW1", 2, 2**63), "announces"),
        (framed("1") + b"x", "announced"),
        (framed("1")[:-1], "announced"),
        (raw(b"\xff\xfe"), "no JSON"),
        (raw(b"{"), "no JSON"),
        (raw([1]), "keys"),
        (raw({"kind": "evidence", "id": "1", "data": 1}), "keys"),
        (raw({"kind": "verdict", "id": "1", "data": 1, "tensors": []}), "kind"),
        (raw({"kind": ["evidence"], "id": "1", "data": 1, "tensors": []}), "kind"),
        (raw({"kind": "evidence", "id": 1, "data": 1, "tensors": []}), "kind"),
        (framed('{"a": 1, "a": 2}'), "twice"),
        (framed("NaN"), "no JSON"),
        (framed("Infinity"), "no JSON"),
        (framed("1e999"), "too large"),
        (framed("9" * 21), "digits"),
        (framed(str(2**63)), "64 bits"),
        (framed('"\\ud800"'), "half a letter"),
        (framed('{"\\udfff": 1}'), "half a letter"),
        (framed('{"$x": 1}'), r"begins with \$"),
        (framed('{"$t": 0}'), r"begins with \$"),
        (framed('{"$t": -1}'), r"begins with \$"),
        (framed('{"$t": true}'), r"begins with \$"),
        (framed('{"$f": "nan", "a": 1}'), r"begins with \$"),
        (framed('{"$f": ["nan"]}'), r"begins with \$"),
        (framed("1", "{}"), "at most"),
        (framed("1", "[1]"), "dtype"),
        (framed("1", '[{"dtype": "object", "shape": [], "bytes": 0}]'), "unknown dtype"),
        (framed("1", '[{"dtype": ["int8"], "shape": [], "bytes": 0}]'), "unknown dtype"),
        (framed("1", '[{"dtype": "int8", "shape": [-1], "bytes": 0}]'), "dimensions"),
        (framed("1", '[{"dtype": "int8", "shape": [true], "bytes": 1}]', b"1"), "dimensions"),
        (framed("1", '[{"dtype": "int8", "shape": [2], "bytes": 3}]', b"123"), "fit"),
        (framed("1", '[{"dtype": "int8", "shape": [9999999, 9999999], "bytes": 99999980000001}]'), "fit"),
        (framed("1", '[{"dtype": "int8", "shape": [2], "bytes": 2}]', b"1"), "less"),
        (framed("1", '[{"dtype": "int8", "shape": [2], "bytes": 2}]', b"123"), "more"),
        (framed("1", '[{"dtype": "bool", "shape": [2], "bytes": 2}]', b"\x01\x02"), "neither"),
    ],
)
def test_what_is_no_frame_is_refused(frame, words):
    with pytest.raises(WireError, match=words):
        decode(frame)


def at(limit: int, made: Any) -> tuple[bytes, bytes]:
    """A frame exactly at a limit, and one just above it."""
    return made(limit), made(limit + 1)


@pytest.mark.parametrize(
    ("within", "above"),
    [
        at(protocol.DEPTH, lambda n: framed("[" * n + "]" * n)),
        at(protocol.NODES - 1, lambda n: framed(json.dumps([0] * n))),
        at(protocol.STRING, lambda n: framed(json.dumps("x" * n))),
        at(protocol.TENSORS, lambda n: framed("1", json.dumps([{"dtype": "int8", "shape": [0], "bytes": 0}] * n))),
        at(protocol.DIMENSIONS, lambda n: framed("1", json.dumps([{"dtype": "int8", "shape": [1] * n, "bytes": 1}]), b"1")),
        at(protocol.DIGITS - 2, lambda n: framed("9" * n)),
    ],
    ids=["depth", "nodes", "string", "tensors", "dimensions", "digits"],
)
def test_limits_hold_exactly(within, above):
    decode(within)
    with pytest.raises(WireError):
        decode(above)


def test_deep_brackets_are_refused_before_they_are_parsed():
    with pytest.raises(WireError, match="deeper"):
        decode(framed("[" * 200_000))
    assert decode(framed(json.dumps("[" * 1000))).data == "[" * 1000


def test_a_frame_is_known_by_its_beginning():
    frame = framed("1")
    assert [frame_size(frame[:n]) for n in (0, 3, 15)] == [None] * 3
    assert frame_size(frame[:16]) == len(frame)
    with pytest.raises(WireError):
        frame_size(b"CGX")


def test_damaged_frames_raise_nothing_else():
    dice = random.Random(0)
    value = {"weights": torch.randn(4, 3), "losses": [0.5, math.inf, -3], "name": "☃", "flags": [True, None]}
    good = encode("evidence", "1", value)
    accepted = 0
    for _ in range(3000):
        damaged = bytearray(good)
        for _ in range(dice.randint(1, 4)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        try:
            decode(bytes(damaged))
            accepted += 1  # a number or a letter has become another one
        except WireError:
            continue
    assert 0 < accepted < 3000
    for _ in range(1000):
        with pytest.raises(WireError):
            decode(raw(dice.randbytes(dice.randint(0, 60))))
