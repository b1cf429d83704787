"""Frames: what goes in comes out, whatever comes in is a frame or a `WireError`, and work grows with the bytes."""

from __future__ import annotations

import math
import random
import struct
import time
from contextlib import suppress
from typing import Any

import msgpack
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_utils.grader.worker import protocol
from course_utils.grader.worker.protocol import DTYPES, NODES, PREFIX, WireError, decode, encode, frame_size


def there_and_back(value: Any) -> Any:
    return decode(encode("evidence", "id", value)).data


def raw(tree: Any, body: bytes = b"") -> bytes:
    packed = tree if isinstance(tree, bytes) else msgpack.packb(tree)
    return PREFIX.pack(protocol.MAGIC, len(packed), len(body)) + packed + body


def framed(data: Any, body: bytes = b"") -> bytes:
    """A frame with this data, as a value or as its msgpack."""
    return raw(
        b"\x93" + msgpack.packb("evidence") + msgpack.packb("1") + (data if isinstance(data, bytes) else msgpack.packb(data)),
        body,
    )


def tensor(code: int, *shape: int) -> msgpack.ExtType:
    return msgpack.ExtType(code, struct.pack(f"<{len(shape)}I", *shape))


INT8, BOOL = DTYPES.index(torch.int8), DTYPES.index(torch.bool)


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


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 4), (2, 3, 4)])
def test_tensors_come_back_to_the_last_bit(dtype, shape):
    tensor = (torch.randn(shape) * 3).to(dtype)
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
        (torch.zeros(2, dtype=torch.complex64), "complex64"),
        (torch.eye(3).to_sparse(), "sparse"),
        (torch.zeros(5_000_000), "too large"),
        (b"bytes", "bytes"),
        ({1, 2}, "set"),
        ([(1, 2)], "tuple"),
        ("x\ud800", "half a letter"),
        ({"x\ud800": 1}, "half a letter"),
        ("x" * (protocol.STRING + 1), "longer"),
        ([0] * NODES, "parts"),
        (torch.zeros(1).expand(10**12), "too large"),
        (torch.zeros(0, 10**9), "too large"),
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
        (PREFIX.pack(protocol.MAGIC, protocol.TREE + 1, 0), "too large"),
        (PREFIX.pack(protocol.MAGIC, 2, protocol.FRAME), "too large"),
        (PREFIX.pack(protocol.MAGIC, 2, 2**63), "too large"),
        (framed(1) + b"x", "announced"),
        (framed(1)[:-1], "announced"),
        (raw(b""), "no msgpack"),
        (raw(b"\x93\x01"), "no msgpack"),
        (raw(b"\x01\x01"), "no msgpack"),
        (raw(b"\xc1"), "no msgpack"),
        (raw([1]), "kind"),
        (raw(["evidence", "1"]), "kind"),
        (raw(["evidence", "1", 1, 1]), "kind"),
        (raw({"evidence": 1, "1": 1, "data": 1}), "kind"),
        (raw(["verdict", "1", 1]), "kind"),
        (raw([["evidence"], "1", 1]), "kind"),
        (raw([tensor(INT8, 1), "1", 1], b"1"), "kind"),
        (raw(["evidence", 1, 1]), "kind"),
        (framed(2**63), "64 bits"),
        (framed([b"bytes"]), "bytes cannot be sent"),
        (framed({b"key": 1}), "keys"),
        (framed(b"\x81\x01\x01"), "no msgpack"),
        (framed(b"\x81\x90\x01"), "no msgpack"),
        (framed(b"\xa3\xed\xa0\x80"), "no msgpack"),
        (framed(msgpack.Timestamp(1)), "Timestamp cannot be sent"),
        (framed(tensor(len(DTYPES))), "unknown dtype"),
        (framed(tensor(127)), "unknown dtype"),
        (framed(b"\xd4\xf0\x00"), "unknown dtype"),
        (framed(msgpack.ExtType(INT8, b"123")), "no shape"),
        (framed(tensor(INT8, 2**24, 2**24)), "too large"),
        (framed(tensor(INT8, 0, 2**24, 2**24)), "too large"),
        (framed(tensor(INT8, *[1] * 9), b"1"), "too large"),
        (framed(tensor(INT8, 2), b"1"), "less"),
        (framed(tensor(INT8, 2), b"123"), "more"),
        (framed(1, b"1"), "more"),
        (framed(tensor(BOOL, 2), b"\x01\x02"), "neither"),
    ],
)
def test_what_is_no_frame_is_refused(frame, words):
    with pytest.raises(WireError, match=words):
        decode(frame)


@pytest.mark.parametrize(
    ("limit", "made"),
    [
        (protocol.DEPTH + 1, lambda n: b"\x91" * (n - 1) + b"\x90"),
        (NODES - 1, lambda n: [0] * n),
        (NODES // 2 - 1, lambda n: {str(i): 0 for i in range(n)}),
        (protocol.STRING, lambda n: "x" * n),
        (protocol.DIMENSIONS, lambda n: tensor(INT8, 0, *[1] * (n - 1))),
        (protocol.FRAME, lambda n: tensor(INT8, 0, n)),
    ],
    ids=["depth", "nodes", "keys", "string", "dimensions", "emptiness"],
)
def test_limits_hold_exactly(limit, made):
    decode(framed(made(limit)))
    with pytest.raises(WireError):
        decode(framed(made(limit + 1)))


HOSTILE = {
    "brackets": lambda n: framed(b"\x91" * n),
    "lists that announce more": lambda n: framed(b"\xdd\x00\x00\x4e\x20" * (n // 5)),
    "lists in lists": lambda n: framed(b"\xdc\x03\xe8" + (b"\xdc\x03\xe8" + b"\x90" * 1000) * (n // 1003)),
    "keys": lambda n: framed(b"\xde\x4e\x00" + b"".join(msgpack.packb(f"{i:0{n // 20000}}") + b"\0" for i in range(0x4E00))),
    "one key again and again": lambda n: framed(b"\xdf\x00\x00\x4e\x20" + b"\xa1a\0" * (n // 50)),
    "quotes": lambda n: framed('\\"' * (n // 2)),
    "letters": lambda n: framed(["\u0301" * 20_000] * (n // 40_000)),
    "empty tensors": lambda n: framed(b"\xdd\x00\x00\x4e\x20" + b"\xc7\x00\x01" * (n // 50)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_work_grows_with_the_bytes(name):
    """In seconds of the processor, of frames four times as long: well below the sixteen times of quadratic work."""
    small, large = (fastest(HOSTILE[name](size)) for size in (100_000, 400_000))
    assert large < 10 * small + 0.02


def fastest(frame: bytes) -> float:
    found = []
    for _ in range(2):
        started = time.process_time()
        with suppress(WireError):
            decode(frame)
        found.append(time.process_time() - started)
    return min(found)


def test_a_frame_is_known_by_its_beginning():
    frame = framed(1)
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


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
)


@given(PLAIN)
def test_all_plain_data_comes_back(value):
    assert repr(there_and_back(value)) == repr(value)


@settings(max_examples=40)
@given(
    st.recursive(
        st.none() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda one: st.lists(one) | st.dictionaries(st.text() | st.integers(), one),
    )
)
def test_any_value_is_sent_or_refused(value):
    """Whatever a box may say, it gets a `WireError` there, or the grader reads just that."""
    try:
        frame = encode("evidence", "1", value)
    except WireError:
        return
    assert repr(decode(frame).data) == repr(value)


@settings(max_examples=200)
@given(st.binary(max_size=80), st.binary(max_size=20))
def test_any_bytes_are_read_or_refused(tree, body):
    for frame in (raw(tree, body), framed(tree, body)):
        try:
            protocol.demand_plain(decode(frame).data)
        except WireError:
            continue
