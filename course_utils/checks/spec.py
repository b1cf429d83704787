"""What a check is made of: cases, what is asked of the answer, and rules that decide.

The asking runs beside the learner's code and returns plain data: numbers, strings, lists, dictionaries, tensors. The rules
stay outside, see that data only, make the same cases anew from an equal `rng`, and compare with their own run. Both sides
never share an object. A case holds inputs and nothing that gives the answer away: the rules work it out themselves.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from types import UnionType
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from course_utils.rng import preserve_rng_state, rng_state

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
        with preserve_rng_state():
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
    parts: tuple[Callable, ...] = ()  # of a check made by `exercise`: its cases and what is asked, which travel
    seen: Any = None  # of a check made by `exercise`: the pattern of what is asked


Said = Any  # what `ask` returned, as plain data
Rules = Callable[[Said, Any], Iterable[str | Result]]
Overall = Callable[[list[Said], list], Iterable[str | Result]]


def exercise(
    id: str,
    answer: str,
    title: str,
    cases: Callable[[Rng], Iterable],
    ask: Callable[[Any, Any], Said],
    rules: Rules,
    *,
    seen: Any,
    overall: Overall | None = None,
    points: int = 1,
    repeats: int = 3,
    after: tuple[str, ...] = (),
    limit_s: float = 3.0,
) -> Check:
    """The check of one exercise.

    Args:
        answer: the name of the learner's function.
        cases: makes the cases of one repeat: inputs, drawn from the generator that it gets.
        ask: calls the answer on one case and returns what came of it, as plain data. `ask` and `cases` travel.
        rules: yields what is wrong with one case, in words or as a `Result`. The first counts; none means right.
        seen: the pattern (see `mismatch`) of what `ask` returns. What the answer itself returned stands under "returned".
        overall: as `rules`, for all cases of a repeat together; it is asked first.
        repeats: how often new cases are made.
        limit_s: seconds that `course grade` gives one repeat, at least ten times what the right answer needs.
    """

    def probe(answer: Any, rng: Rng) -> list:
        return [ask(answer, case) for case in list(cases(rng))]  # all are made before the first question

    def judge(data: list, rng: Rng) -> Result:
        asked = list(cases(rng))
        if len(data) != len(asked):
            return failed("the check ended before it had asked everything")
        for said in data:
            if why := mismatch(said, seen, "what you return"):
                return failed(why)
        fitted = [fit(said, seen) for said in data]
        together = overall(fitted, asked) if overall else ()
        each = (words for said, case in zip(fitted, asked, strict=True) for words in rules(said, case))
        wrong = next(chain(together, each), None)
        return passed() if wrong is None else wrong if isinstance(wrong, Result) else failed(wrong)

    return Check(id, answer, title, probe, judge, [Any], points, repeats, after, limit_s, (cases, ask), seen)


def beside(function: Callable[..., T]) -> Callable[..., T]:
    """Marks a helper that a probe may call: it goes wherever the probe goes."""
    function.beside = True  # type: ignore[attr-defined]
    return function


# -------------------------------------------------------------------------------------------------------- evidence


def plain(value: Any) -> Any:
    """`value` as plain data, copied: None, bool, int, float, str, list, dict with str keys, tensor.

    Raises:
        TypeError: for any other type, except those that say the same: tuples of all kinds, numpy's numbers, mappings.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Mapping) and all(type(key) is str for key in value):
        return {key: plain(item) for key, item in value.items()}
    if type(value) in (Tensor, nn.Parameter):
        return value.detach().cpu().clone()
    raise TypeError(f"your answer gives a {type(value).__name__} where a number, a text, a list or a tensor is expected")


def mismatch(data: Any, pattern: Any, where: str = "your answer") -> str | None:
    """What is wrong with the shape of `data`, or None.

    Patterns: a type or several (`str | None`), `[item]`, `(first, second)` for a list of just these, `{str: item}`,
    `{"key": item, …}`. A tensor without dimensions is a number too. In words, "returned" is what the answer returned.
    """
    if isinstance(pattern, (list, tuple)):
        if type(data) is not list:
            return f"{where} should be {'a list' if isinstance(pattern, list) else amount(pattern)}, but is {name_of(data)}"
        if isinstance(pattern, tuple) and len(data) != len(pattern):
            return f"{where} should be {amount(pattern)}, but there are {len(data)}"
        kinds = pattern * len(data) if isinstance(pattern, list) else pattern
        found = (mismatch(item, kind, f"item {i} of {where}") for i, (item, kind) in enumerate(zip(data, kinds, strict=True)))
        return next(filter(None, found), None)
    if isinstance(pattern, dict):
        if type(data) is not dict:
            return f"{where} should be a dictionary, but is {name_of(data)}"
        if str not in pattern and data.keys() != pattern.keys():
            return f"{where} should have the keys {sorted(pattern)}, but has {sorted(data)}"
        found = (
            mismatch(item, pattern.get(key, pattern.get(str)), where if key == "returned" else f"{where}[{key!r}]")
            for key, item in data.items()
        )
        return next(filter(None, found), None)
    value = number_in(data) if pattern is not Tensor else data
    if isinstance(pattern, UnionType):
        return None if type(value) in pattern.__args__ else f"{where} should be {words_for(pattern)}, but is {name_of(data)}"
    if pattern is Any or (type(value) is int and pattern is float) or type(value) is pattern:
        return None
    return f"{where} should be {words_for(pattern)}, but is {name_of(data)}"


def number_in(data: Any) -> Any:
    """The number in a tensor without dimensions; anything else as it is."""
    return data.item() if type(data) is Tensor and data.dim() == 0 else data


def fit(data: Any, pattern: Any) -> Any:
    """`data`, which fits `pattern`, with a number wherever the pattern asks for one."""
    if isinstance(pattern, (list, tuple)):
        kinds = pattern * len(data) if isinstance(pattern, list) else pattern
        return [fit(item, kind) for item, kind in zip(data, kinds, strict=True)]
    if isinstance(pattern, dict):
        return {key: fit(item, pattern.get(key, pattern.get(str))) for key, item in data.items()}
    return data if pattern in (Tensor, Any) else number_in(data)


WORDS = {Tensor: "a tensor", int: "a whole number", float: "a number", str: "a text", bool: "True or False", type(None): "None"}
WORDS |= {list: "a list or a tuple", dict: "a dictionary"}  # `plain` makes lists of tuples


def words_for(kind: Any) -> str:
    if isinstance(kind, UnionType):
        return " or ".join(words_for(one) for one in kind.__args__ if one is not type(None))  # None is no answer to ask for
    kind = kind if isinstance(kind, type) else type(kind)  # a pattern that has others in it
    name = kind.__name__
    return WORDS.get(kind, f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}")


def amount(pattern: tuple) -> str:
    """A tuple of kinds in words: "2 values (a text, a number)"."""
    return f"{len(pattern)} values ({', '.join(map(words_for, pattern))})"


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


def moved(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors that are not the same in both, or are in one only."""
    return [name for name in {**before, **after} if not (name in before and name in after and same(before[name], after[name]))]


# ------------------------------------------------------------------------------------- what an answer may do besides

LOOK = {"modes": {str: bool}, "learns": {str: bool}, "gradients": bool, "random": str}  # the pattern of what `look` returns


def look(model: nn.Module) -> dict[str, Any]:
    """What an answer leaves as it found it, unless the exercise is about it; compare two with `left_alone`."""
    python, numpy, torchs, _ = rng_state()
    drawn = repr((python, numpy[1].tobytes(), numpy[2:], torchs.numpy().tobytes()))
    return {
        "modes": {name: module.training for name, module in model.named_modules()},
        "learns": {name: parameter.requires_grad for name, parameter in model.named_parameters()},
        "gradients": torch.is_grad_enabled(),
        "random": hashlib.sha256(drawn.encode()).hexdigest(),
    }


def left_alone(before: Mapping, after: Mapping, *, but: Iterable[str] = ()) -> Iterator[str]:
    """In words, what of two looks differs; `but` names what may: "modes", "learns", "gradients", "random"."""
    words = {True: "training mode", False: "evaluation mode"}
    if "gradients" not in but and before["gradients"] != after["gradients"]:
        yield "after your call gradients are switched off in the whole program: use `with torch.no_grad():` instead"
    for name, was in before["modes"].items() if "modes" not in but else ():
        now = after["modes"].get(name, was)
        if now != was:
            part = repr(name) if name else "the model"
            yield f"{part} came in {words[was]} and left in {words[now]}: leave each part's mode alone, or put it back"
    for name, was in before["learns"].items() if "learns" not in but else ():
        now = after["learns"].get(name, was)
        if now != was:
            yield f"{name!r} came with requires_grad={was} and left with {now}; leave every requires_grad as it was"
    if "random" not in but and before["random"] != after["random"]:
        yield "your call moves the random numbers of the whole program: use a generator of its own"
