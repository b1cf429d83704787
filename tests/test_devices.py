"""Precision of a training, and copies for which nobody waits, shown with a stand-in for a GPU."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from course_utils import devices
from course_utils.devices import Arriving
from course_utils.train import evaluate, fit, train_one_epoch

# --------------------------------------------------------------------------------------------------- a stand-in for a GPU


class OnDevice(torch.Tensor):
    """A tensor that says it is on the device "meta", and holds its numbers on the processor."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> OnDevice:
        options = {"strides": inner.stride(), "dtype": inner.dtype, "device": "meta"}
        made = torch.Tensor._make_wrapper_subclass(cls, inner.shape, **options)
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError("the stand-in is over")


WAITS = {"_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select", "unique2", "_unique2"}
aten = torch.ops.aten


class StandIn(TorchDispatchMode):
    """What code does inside to the device "meta" is computed on the processor, and what waits for it is noted.

    What was copied without waiting is nan until somebody waits for the copy, as on a GPU that is slow.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []  # operations for which the processor waits until the device has done everything
        self.unpinned: list[torch.Size] = []  # what was copied to the device from memory that it cannot fetch by itself
        self.behind: list[int] = []  # for each number that was waited for: what the device had been given after it
        self.operations = 0
        self.pinned: set[int] = set()
        self.main, self.streams = Stream(self), [Stream(self)]
        self.streams = [self.main]

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), function._schema.name.removeprefix("aten::")
        here = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor) and not isinstance(one, OnDevice)]
        there = [one for one in tree_leaves((args, kwargs)) if isinstance(one, OnDevice)]
        to = torch.device(kwargs.pop("device", None) or ("meta" if there else "cpu"))
        if not there and to.type == "cpu":
            return function(*args, **kwargs)
        self.operations += 1
        if name in ("to", "_to_copy") and (not there or to.type == "cpu"):
            return self.copy(args[0], to, **kwargs)
        if name in WAITS or (name in ("index", "index_put_", "index_put") and any(one.dim() for one in here)):
            self.waits.append(name)
        assert all(not one.dim() for one in here) or name.startswith("index"), f"{name} mixes devices"
        outer = {id(one.inner): one for one in there}
        made = function(*(tree_map(inner, args)), **tree_map(inner, kwargs))
        found = lambda one: outer[id(one)] if id(one) in outer else OnDevice(one)  # noqa: E731
        return tree_map(lambda one: found(one) if isinstance(one, Tensor) else one, made)

    def copy(self, given: Tensor, to: torch.device, non_blocking: bool = False, **options: Any) -> Tensor:
        numbers = inner(given).clone() if "dtype" not in options else inner(given).to(options["dtype"])
        if not non_blocking:
            self.waits.append(f"copy to {to.type}")
            return numbers if to.type == "cpu" else OnDevice(numbers)
        if to.type != "cpu" and id(given) not in self.pinned:
            self.unpinned.append(given.shape)
        if to.type != "cpu" and self.streams[-1] is self.main:  # in its turn, so whatever follows finds it there
            return OnDevice(numbers)
        late = torch.full_like(numbers, -(2**30) if not numbers.is_floating_point() else math.nan)
        self.streams[-1].copies.append((late, numbers))
        return late if to.type == "cpu" else OnDevice(late)


def inner(value: Any) -> Any:
    return value.inner if isinstance(value, OnDevice) else value


class Stream:
    def __init__(self, device: Any):
        self.device, self.copies = STAND_IN[0] if STAND_IN else device, []

    def __enter__(self) -> None:
        self.device.streams.append(self)

    def __exit__(self, *_: object) -> None:
        self.device.streams.pop()

    def record_event(self) -> Event:
        copies, self.copies = self.copies, []
        return Event(self.device, copies)

    def wait_event(self, event: Event) -> None:
        event.arrive()


class Event:
    def __init__(self, device: StandIn, copies: list):
        self.device, self.copies, self.operations = device, copies, device.operations

    def arrive(self) -> None:
        for late, numbers in self.copies:
            late.copy_(numbers)

    def synchronize(self) -> None:
        self.device.behind.append(self.device.operations - self.operations)
        self.arrive()


STAND_IN: list[StandIn] = []


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """Inside, "meta" is an accelerator."""
    device = StandIn()
    STAND_IN[:] = [device]
    monkeypatch.setattr(devices, "ASYNCHRONOUS", {"meta"}, raising=False)
    monkeypatch.setattr(torch, "Stream", Stream)
    monkeypatch.setattr(torch.accelerator, "current_stream", lambda _=None: device.main)
    real = torch.Tensor.clone

    def pin(tensor: Tensor) -> Tensor:
        made = real(tensor)
        KEPT.append(made)
        device.pinned.add(id(made))
        return made

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda *_: None)
    if hasattr(devices, "copy_stream"):
        devices.copy_stream.cache_clear()
    with device:
        yield device
    STAND_IN.clear()
    KEPT.clear()


KEPT: list[Tensor] = []  # so that no id is given twice


def moved(model: nn.Module) -> nn.Module:
    """`model` on the stand-in."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(OnDevice(parameter.detach()), parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = OnDevice(buffer)
    return model


def sgd(model: nn.Module, lr: float = 0.05) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)


FORMS: dict[str, tuple[Callable[[Tensor], Tensor], Any]] = {
    "class numbers": (lambda labels: labels, {}),
    "soft labels": (lambda labels: F.one_hot(labels, 3) * 0.7 + 0.1, {}),
    "several labels": (lambda labels: F.one_hot(labels, 3), {"loss_function": nn.BCEWithLogitsLoss()}),
    "class weights": (lambda labels: labels, {"loss_function": nn.CrossEntropyLoss(ignore_index=1)}),
}


@pytest.mark.parametrize("form", FORMS)
def test_no_step_waits_until_an_accelerator_has_nothing_left_to_do(stand_in, small_net, batches, form):
    change, options = FORMS[form]
    many = [(images, change(labels)) for images, labels in batches] * 4
    torch.manual_seed(0)
    plain = small_net()
    torch.manual_seed(0)
    model = moved(small_net())
    torch.manual_seed(1)
    wanted = fit(plain, many, many, sgd(plain), epochs=2, **options)
    torch.manual_seed(1)
    found = fit(model, many, many, sgd(model), epochs=2, **options)
    assert [(epoch.train, epoch.val) for epoch in found] == [(epoch.train, epoch.val) for epoch in wanted]
    own_loss = 2 if options else 0  # of one's own, the loss of an evaluation is worked out once, at its end
    assert stand_in.waits == ["item"] * own_loss
    ends = 2  # of evaluations: of the last batch alone there is nothing behind
    assert len(stand_in.behind) == 2 * 2 * len(many)
    assert sorted(stand_in.behind)[:ends] == [0] * ends
    assert sorted(stand_in.behind)[ends] >= 5


def test_on_an_accelerator_too_a_loss_that_is_not_finite_stops_before_the_step(stand_in, small_net, batches):
    model = moved(small_net())
    images, labels = batches[1]
    spoilt = [batches[0], (images * math.nan, labels), batches[2]]
    with pytest.raises(FloatingPointError, match=r"the loss became nan in epoch 1/3, batch 2, at learning rate \[0\.25\]"):
        fit(model, spoilt, batches, sgd(model, 0.25), epochs=3)
    assert all(inner(p.detach()).isfinite().all() for p in model.parameters())
    assert not stand_in.waits
