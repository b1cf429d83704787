"""What a check is made of: a probe that collects plain data beside the learner's code, and a judge that decides from it.

The two never share an object. The probe calls the answer and returns numbers, strings, lists, dictionaries and tensors;
the judge sees only those, makes the same inputs anew from an equal `rng`, and compares with its own run.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

T = TypeVar("T")


@dataclass(frozen=True)
class Result:
    """The share of the points that is earned, 0 to 1, and what the learner reads; `note` is for the instructor only."""

    share: Fraction
    why: str = ""
    note: str = ""


def passed() -> Result:
    return Result(Fraction(1))


def failed(why: str, note: str = "") -> Result:
    return Result(Fraction(0), why, note)


def partial(share: Fraction, why: str, note: str = "") -> Result:
    return Result(share, why, note)


class Rng:
    """Random inputs for a check: equal seeds give equal inputs, on both sides."""

    def __init__(self, seed: int):
        self.seed = seed
        self._random = random.Random(seed)

    def integer(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return self._random.randint(low, high)

    def choice(self, items: Sequence[T]) -> T:
        return self._random.choice(items)

    def shuffled(self, items: Sequence[T]) -> list[T]:
        return self._random.sample(items, len(items))

    @contextmanager
    def torch(self) -> Iterator[None]:
        """Inside the block torch draws from this generator; afterwards it goes on as if nothing had happened."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._random.randrange(2**62))
            yield


Probe = Callable[[Any, Rng], Any]
Judge = Callable[[Any, Rng], Result]


@dataclass(frozen=True)
class Check:
    """One exercise's test. `evidence` is the pattern that the probe's data must have before the judge sees it; `limit_s`
    the seconds that `course grade` gives one case, at least ten times what the right answer needs."""

    id: str
    answer: str
    title: str
    probe: Probe
    judge: Judge
    evidence: Any
    points: int = 1
    cases: int = 3
    after: tuple[str, ...] = ()
    limit_s: float = 3.0


def beside(function: Callable[..., T]) -> Callable[..., T]:
    """Marks a helper that a probe may call: it goes wherever the probe goes."""
    function.beside = True  # type: ignore[attr-defined]
    return function


# -------------------------------------------------------------------------------------------------------- evidence


def plain(value: Any) -> Any:
    """`value` as plain data, copied: None, bool, int, float, str, list, dict with str keys, tensor.

    Raises:
        TypeError: for any other type, except those that say the same: tuples, sizes, numpy's numbers, ordered dictionaries.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) in (list, tuple, torch.Size):
        return [plain(item) for item in value]
    if type(value) in (dict, OrderedDict) and all(type(key) is str for key in value):
        return {key: plain(item) for key, item in value.items()}
    if type(value) in (Tensor, nn.Parameter):
        return value.detach().cpu().clone()
    raise TypeError(f"your answer gives a {type(value).__name__} where a number, a text, a list or a tensor is expected")


def mismatch(data: Any, pattern: Any, where: str = "your answer") -> str | None:
    """What is wrong with the shape of `data`, or None. Patterns: a type, `[item]`, `{str: item}`, `{"key": item, …}`."""
    if isinstance(pattern, list):
        if type(data) is not list:
            return f"{where} should be a list, but is {name_of(data)}"
        return next((why for i, item in enumerate(data) if (why := mismatch(item, pattern[0], f"item {i} of {where}"))), None)
    if isinstance(pattern, dict):
        if type(data) is not dict:
            return f"{where} should be a dictionary, but is {name_of(data)}"
        if str in pattern:
            return next((why for key, item in data.items() if (why := mismatch(item, pattern[str], f"{where}[{key!r}]"))), None)
        if data.keys() != pattern.keys():
            return f"{where} should have the keys {sorted(pattern)}, but has {sorted(data)}"
        return next((why for key in pattern if (why := mismatch(data[key], pattern[key], f"{where}[{key!r}]"))), None)
    if pattern is Any or (type(data) is int and pattern is float) or type(data) is pattern:
        return None
    return f"{where} should be {words_for(pattern)}, but is {name_of(data)}"


WORDS = {Tensor: "a tensor", int: "a whole number", float: "a number", str: "a text", bool: "True or False", type(None): "None"}


def words_for(kind: type) -> str:
    return WORDS.get(kind, f"a {kind.__name__}")


def name_of(data: Any) -> str:
    if data is None:
        return "None: does your function return something?"
    return words_for(type(data))


def same(a: Tensor, b: Tensor) -> bool:
    """Equal to the last bit, in kind and shape too."""
    return a.dtype == b.dtype and a.shape == b.shape and bool(torch.equal(a, b))


def close(a: Tensor, b: Tensor, tolerance: float = 1e-4) -> bool:
    """Equal within `tolerance`, in kind and shape too; not-a-number is close to nothing."""
    return a.dtype == b.dtype and a.shape == b.shape and bool(torch.allclose(a, b, rtol=tolerance, atol=tolerance))
