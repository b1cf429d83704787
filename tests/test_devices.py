"""Precision of a training, and copies for which nobody waits, shown with a stand-in for a GPU."""

from __future__ import annotations

import copy
import math
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from course_utils import devices
from course_utils.checkpoints import load_checkpoint, save_checkpoint
from course_utils.devices import mixed_precision
from course_utils.feature_store import Features, plan_for
from course_utils.finetune import freeze, unfreeze
from course_utils.fx_split import split_frozen
from course_utils.losses import cross_entropy
from course_utils.precomputed import precompute
from course_utils.range_test import lr_range_test
from course_utils.spread import compute, packed
from course_utils.sweeps import sweep
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
        self.main = Stream(self)
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
    monkeypatch.setattr(devices, "ASYNCHRONOUS", {"meta"})
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
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert stand_in.waits == ["_local_scalar_dense"] * len(norms), "once it has stopped, their statistics are looked at"


def kept(half: bool = False) -> Features:
    """Two views of each of 20 pictures, as `precompute` keeps them."""
    torch.manual_seed(0)
    made, labels = torch.randn(40, 6).to(torch.float16 if half else torch.float32), torch.randint(3, (40,))
    return Features(plan_for((made.float(), labels), 20, 2, half), (made, labels))


def batches_of(features: Features) -> DataLoader:
    return DataLoader(features, batch_sampler=BatchSampler(RandomSampler(features), 8, False), collate_fn=lambda batch: batch)


@pytest.mark.parametrize("half", [False, True])
def test_features_that_fit_live_on_an_accelerator_and_no_batch_of_them_waits(stand_in, monkeypatch, half):
    features, plain = kept(half), kept(half)
    monkeypatch.setattr(torch.accelerator, "get_memory_info", lambda _: (10_000, 10_000))
    features.move_to(torch.device("meta"))
    assert isinstance(features.parts[0], OnDevice)
    assert not isinstance(features.labels, OnDevice)
    stand_in.waits.clear()
    torch.manual_seed(0)
    models = nn.Linear(6, 3), nn.Linear(6, 3)
    models[1].load_state_dict(models[0].state_dict())
    on = [(models[0], plain), (moved(models[1]), features)]
    scores = []
    for model, data in on:
        torch.manual_seed(1)
        scores.append([(one.train, one.val) for one in fit(model, *[batches_of(data)] * 2, sgd(model), epochs=3)])
    assert scores[0] == scores[1]
    assert not stand_in.waits
    assert not stand_in.unpinned


def test_features_that_do_not_fit_stay_in_memory_as_do_those_of_a_processor(stand_in, monkeypatch):
    features = kept()
    monkeypatch.setattr(torch.accelerator, "get_memory_info", lambda _: (4 * sum(features.plan.sizes) - 1, 10_000))
    for kind in ("meta", "cpu"):
        features.move_to(torch.device(kind))
        assert features.device == torch.device("cpu")
    assert not stand_in.operations


def test_copies_of_features_need_no_accelerator(stand_in, monkeypatch):
    features = kept()
    monkeypatch.setattr(torch.accelerator, "get_memory_info", lambda _: (10_000, 10_000))
    features.move_to(torch.device("meta"))
    copied = copy.deepcopy(features)
    assert copied.device == torch.device("cpu")
    assert torch.equal(copied.parts[0], kept().parts[0])


# ----------------------------------------------------------------------------------------------------------- precision


def bfloat16() -> torch.autocast:
    """Whatever the machine: where it emulates bfloat16, the numbers are the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mixed_precision("cpu", "bfloat16")


@pytest.mark.parametrize(
    ("flags", "native"),
    [
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"avx512_f": True, "avx512_bw": True, "avx512_vl": True, "avx512_dq": True}, False),  # here oneDNN would imitate it
        ({"avx2": True, "avx512_bf16": False}, False),
        ({"architecture": "aarch64", "bf16": True}, False),
    ],
)
def test_auto_is_bfloat16_where_the_processor_computes_in_it(monkeypatch, flags, native):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags)
    with mixed_precision("cpu"):
        assert torch.is_autocast_enabled("cpu") == native
    if native:
        mixed_precision("cpu", "bfloat16")
    else:
        with pytest.warns(
            UserWarning, match=r"this machine \(cpu\) emulates bfloat16, which takes longer .* 'auto' would take"
        ):
            mixed_precision("cpu", "bfloat16")


@pytest.mark.parametrize("native", [False, True])
def test_auto_asks_torch_about_a_gpu(monkeypatch, native):
    asked = []
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: asked.append(including_emulation) or native
    )
    assert devices.has_bfloat16(torch.device("cuda")) == native
    assert asked == [False]
    assert not devices.has_bfloat16(torch.device("mps"))


def test_precisions_that_there_are(small_net):
    model = small_net()
    with pytest.raises(ValueError, match=r"no precision named 'float16'; choose from \['auto', 'float32', 'bfloat16'\]"):
        mixed_precision(model, "float16")
    with bfloat16(), mixed_precision(model, "float32"):
        assert model.eval()(torch.randn(1, 3, 8, 8)).dtype == torch.float32


def test_a_training_in_bfloat16_goes_as_one_in_float32(small_net, batches):
    """Frozen batch norm among it; weights, statistics and momentum stay in float32."""
    histories, models = [], []
    for context in (mixed_precision("cpu", "float32"), bfloat16()):
        torch.manual_seed(0)
        model = small_net(width=8)
        freeze(model.layer1)
        optimizer = sgd(model)
        with context:
            histories.append(fit(model, batches, batches, optimizer, epochs=30))
        models.append(model)
        assert {value.dtype for value in model.state_dict().values()} == {torch.float32, torch.int64}
        assert {state["momentum_buffer"].dtype for state in optimizer.state.values()} == {torch.float32}
    assert all(torch.equal(*pair) for pair in zip(*(model.layer1.state_dict().values() for model in models), strict=True))
    losses = [[epoch.train.loss for epoch in history] for history in histories]
    assert losses[0] != losses[1], "it was in another precision"
    assert losses[0][:5] == pytest.approx(losses[1][:5], rel=0.02)
    assert min(history[-1].val.accuracy for history in histories) > 0.9


def test_a_context_that_would_go_on_with_old_weights_is_refused(small_net, batches):
    model = small_net()
    optimizer = sgd(model)
    with torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(
            ValueError, match=r"goes on with the weights of the first one.*take `with mixed_precision\(model\):`"
        ):
            fit(model, batches, batches, optimizer, epochs=1)
        evaluate(model, batches)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        train_one_epoch(model, batches, optimizer)


def test_a_step_in_bfloat16_is_seen_by_the_next_one(small_net, batches):
    """What torch's own context, with its copies of the weights, does not do."""

    def losses(context: torch.autocast) -> list[float]:
        torch.manual_seed(0)
        model = freeze(small_net())
        unfreeze(model.fc)
        optimizer, found = sgd(model, 1.0), []
        with context:
            for _ in range(3):
                loss = F.cross_entropy(model(batches[0][0]), batches[0][1])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                found.append(loss.item())
        return found

    assert len(set(losses(torch.autocast("cpu", torch.bfloat16)))) == 1
    assert len(set(losses(bfloat16()))) == 3


@pytest.mark.parametrize("form", FORMS)
def test_losses_stay_in_float32_whatever_they_are(small_net, batches, form):
    change, options = FORMS[form]
    seen: list[Tensor] = []
    loss_function = options.get("loss_function", cross_entropy)

    def own(outputs: Tensor, labels: Tensor) -> Tensor:
        loss = loss_function(outputs, labels)
        seen.extend([loss, labels] if labels.is_floating_point() else [loss])
        return loss

    model, changed = small_net(), [(images, change(labels)) for images, labels in batches]
    with bfloat16():
        fit(model, changed, changed, sgd(model), epochs=2, loss_function=own)
        found = evaluate(model, changed, **options)
    assert {one.dtype for one in seen} == {torch.float32}
    assert found.loss == pytest.approx(evaluate(model, changed, **options).loss, rel=0.02)


def test_a_loss_that_is_not_finite_stops_a_training_in_bfloat16(small_net, batches):
    model = small_net()
    spoilt = [batches[0], (batches[1][0] * math.inf, batches[1][1])]
    with bfloat16(), pytest.raises(FloatingPointError, match="the loss became nan in epoch 1/1, batch 2"):
        fit(model, spoilt, batches, sgd(model), epochs=1)
    assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_checkpoint_goes_on_to_the_same_bytes(small_net, batches, tmp_path, layout):
    """In bfloat16, and with channels last."""

    def begin() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = small_net().to(memory_format=layout)
        return model, sgd(model)

    (whole, optimizer), path = begin(), tmp_path / "stopped.pt"
    with bfloat16():
        fit(whole, batches, batches, optimizer, epochs=4)
        stopped, optimizer = begin()
        fit(stopped, batches, batches, optimizer, epochs=2)
        save_checkpoint(path, stopped, optimizer, done=2)
        again, optimizer = begin()
        done = load_checkpoint(path, again, optimizer)
        fit(again, batches, batches, optimizer, epochs=4, done=done)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_a_split_and_its_features_in_bfloat16_and_with_channels_last(small_net, batches):
    pictures = TensorDataset(torch.cat([images for images, _ in batches]), torch.cat([labels for _, labels in batches]))
    train, losses = DataLoader(pictures, 7), {}
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        model = freeze(small_net().to(memory_format=layout))
        unfreeze(model.layer2)
        unfreeze(model.fc)
        whole = copy.deepcopy(model)
        with bfloat16():
            frozen, learning = split_frozen(model)
            kept = precompute(frozen, train, cache=None)
            optimizers = [torch.optim.SGD([p for p in one.parameters() if p.requires_grad], 0.05) for one in (whole, learning)]
            torch.manual_seed(1)
            losses["whole"] = [epoch.train.loss for epoch in fit(whole, train, train, optimizers[0], epochs=3)]
            torch.manual_seed(1)
            losses["split"] = [epoch.train.loss for epoch in fit(learning, kept, kept, optimizers[1], epochs=3)]
        assert losses["split"] == pytest.approx(losses["whole"], rel=0.02)
        kept.check(thorough=True)  # outside, too: what they were made by still makes the same


def test_sweeps_and_range_tests_in_bfloat16(small_net, batches, tmp_path):
    loader = DataLoader(TensorDataset(*(torch.cat(parts) for parts in zip(*batches, strict=True))), 7)

    def start(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return small_net()

    options = {"rates": [0.01], "seeds": [0], "epochs": 2, "journal": tmp_path / "runs.jsonl"}
    with bfloat16():
        (half,) = sweep(start, loader, loader, **options)
        assert len(lr_range_test(small_net(), loader, batches=12).losses) >= 10
    with pytest.raises(ValueError, match=r"holds other runs .*bfloat16"):
        sweep(start, loader, loader, **options)
    (full,) = sweep(start, loader, loader, **options | {"journal": None})
    assert half["loss"] != full["loss"]
    assert half["loss"] == pytest.approx(full["loss"], rel=0.05)


def test_a_run_on_a_worker_is_in_the_precision_of_whoever_sent_it():
    function = packed(lambda key: {"autocast": torch.is_autocast_enabled("cpu")})
    with bfloat16():
        on = devices.autocasts()
    assert on == {"cpu": torch.bfloat16}
    assert compute(function, (0,), 1, on) == {"autocast": True}
    assert compute(function, (0,), 1, devices.autocasts()) == {"autocast": False}


class Own(nn.Module):
    """A model with an autocast of its own, which keeps copies of the weights whatever is around it."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=True):
            return self.inner(images)


CONTEXTS: dict[str, Callable[[], Any]] = {
    "bfloat16": bfloat16,
    "float32": lambda: mixed_precision("cpu", "float32"),
    "a worker's": lambda: devices.autocast_as({"cpu": torch.bfloat16}),
    "torch's": lambda: torch.autocast("cpu", torch.bfloat16, cache_enabled=False),
}


@pytest.mark.parametrize("name", CONTEXTS)
def test_a_model_with_an_autocast_of_its_own_goes_on_with_new_weights(small_net, batches, name):
    losses = []
    for context in (nullcontext, CONTEXTS[name]):
        torch.manual_seed(0)
        model = Own(small_net())
        with context():
            losses.append([epoch.train.loss for epoch in fit(model, batches, batches, sgd(model), epochs=5)])
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_a_loop_of_ones_own_around_a_model_with_an_autocast_of_its_own(small_net, batches):
    model, found = freeze(Own(small_net())), []
    unfreeze(model.inner.fc)
    optimizer, (images, labels) = sgd(model, 0.5), batches[0]
    with bfloat16():
        for _ in range(3):
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
    assert len(set(found)) == 3


def test_a_context_may_be_entered_again_inside_itself_and_ends():
    context, on = bfloat16(), lambda: torch.is_autocast_enabled("cpu")

    @context
    def deep(levels: int) -> int:
        return deep(levels - 1) + on() if levels else 0

    assert deep(3) == 3
    with context:
        with context, mixed_precision("cpu", "float32"):
            assert not on()
        assert on()
    assert not on()
    assert torch.is_autocast_cache_enabled()


def test_a_context_in_two_threads_ends_in_each():
    context, inside, over = bfloat16(), threading.Event(), threading.Event()

    def other() -> list[bool]:
        found = [torch.is_autocast_enabled("cpu")]
        with context:
            inside.set()
            over.wait(10)
        return [*found, torch.is_autocast_enabled("cpu")]

    with ThreadPoolExecutor(1) as threads:
        with context:
            waiting = threads.submit(other)
            inside.wait(10)
        over.set()
        assert waiting.result() == [False, False]
    assert not torch.is_autocast_enabled("cpu")


def noted(loss: Tensor, seen: list[torch.dtype]) -> Tensor:
    seen.append(loss.dtype)
    return loss


def log_loss(outputs: Tensor, labels: Tensor) -> Tensor:
    return -outputs.log_softmax(1).gather(1, labels[:, None]).mean()


def test_a_loss_of_ones_own_gets_outputs_in_float32(small_net, batches):
    """On a processor autocast leaves a softmax in bfloat16, and with it all that follows."""
    model = small_net()
    with bfloat16():
        assert evaluate(model, batches, loss_function=log_loss).loss == pytest.approx(evaluate(model, batches).loss, rel=1e-6)
        seen: list[torch.dtype] = []
        fit(model, batches, batches, sgd(model), epochs=1, loss_function=lambda *both: noted(log_loss(*both), seen))
    assert set(seen) == {torch.float32}


def test_precision_is_for_models_in_float32_and_devices_that_have_it(small_net):
    for half in (torch.float16, torch.bfloat16):
        with pytest.raises(ValueError, match=rf"'conv1.weight' is in {half}, .* float32; call model.float\(\) first"):
            mixed_precision(small_net().to(half), "bfloat16")
    with pytest.raises(ValueError, match="there is no device 'gpu'; give the model itself, or its device"):
        mixed_precision("gpu")
    with pytest.raises(ValueError, match="torch has no mixed precision for 'meta'"):
        mixed_precision("meta")
    for wrong in (None, 0, [small_net()]):
        with pytest.raises(TypeError, match="mixed_precision takes the model that is trained, or its device, not "):
            mixed_precision(wrong)


def test_without_the_library_that_computes_in_it_a_processor_has_no_bfloat16(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert devices.has_bfloat16(torch.device("cpu"))
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    try:
        assert not devices.has_bfloat16(torch.device("cpu"))
    finally:
        monkeypatch.undo()
