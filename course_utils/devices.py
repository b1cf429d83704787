"""Processor and accelerator: in which precision a training computes, and copies for which neither of the two waits."""

from __future__ import annotations

import copy
import reprlib
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from course_utils.errors import unknown

Inputs = Any  # a tensor whose first dimension runs over the pictures, or several of them where a model was split

PRECISIONS = ("auto", "float32", "bfloat16")
HALVES = (torch.float16, torch.bfloat16)
NATIVE = ("avx512_bf16", "amx_bf16")  # what processors that compute in bfloat16 call it; of ARM's nobody has measured training
ASYNCHRONOUS = {"cuda"}  # devices that copy from and to pinned memory while both sides work; torch calls AMD's so too


def device_of(model: nn.Module) -> torch.device:
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def is_asynchronous(device: torch.device) -> bool:
    return device.type in ASYNCHRONOUS


# ----------------------------------------------------------------------------------------------------------- precision


class Precision(torch.autocast):
    """torch's own autocast, without copies of the weights, which also may be entered again inside itself.

    Whoever is inside may keep such copies, as a model does that has an autocast around its forward pass. torch throws them away
    when the outermost block ends, so this one does not count as a block: they end with the block of whoever keeps them.
    """

    def __init__(self, kind: str, dtype: torch.dtype, enabled: bool = True):
        super().__init__(kind, dtype, enabled, cache_enabled=False)

    def __enter__(self) -> Precision:
        once = copy.copy(self)  # it notes what was before, which a second entry would overwrite, and then it never ended
        super(Precision, once).__enter__()
        torch.autocast_decrement_nesting()
        ENTERED.contexts.append(once)
        return self

    def __exit__(self, *raised: Any) -> None:
        torch.autocast_increment_nesting()
        super(Precision, ENTERED.contexts.pop()).__exit__(*raised)


class Entered(threading.local):
    """The contexts that this thread is in, as autocast too is on in one thread alone."""

    def __init__(self) -> None:
        self.contexts: list[Precision] = []


ENTERED = Entered()


def mixed_precision(on: nn.Module | torch.device | str, precision: str = "auto") -> Precision:
    """A context in which convolutions and matrix products compute in bfloat16, where the machine is faster with it.

        with mixed_precision(model):
            history = fit(model, data.train, data.val, optimizer, epochs=10)

    It holds for all that this thread runs inside: `fit`, `evaluate`, `sweep`, `lr_range_test`, a loop of your own. `precompute`
    pays no attention to it; `half=True` is what computes features in half precision. Weights, gradients, statistics, losses
    and checkpoints stay in float32, so what was trained inside goes on outside. Products keep two to three digits. No
    `GradScaler` is needed, since bfloat16 reaches as far as float32. In a loop of your own torch's losses are in float32; what
    you compute yourself from the outputs begins with `outputs.float()`.

    It is `torch.autocast` with `cache_enabled=False`. With its cache, the weights that were cast in the first step are used
    until the block ends, so all later steps of a training inside one block would compute with old weights.

    Small work gains nothing or loses: pictures of 32 pixels, layers as thin as a MobileNet's, a head alone on cached features.
    Time an epoch of each. Larger pictures gain more. The channels-last layout gains more again, and changes no value of the
    model; do it before the model is split:

        model.to(memory_format=torch.channels_last)

    Args:
        on: the model that is trained, or the device that it is on.
        precision: "auto" takes bfloat16 where the device computes in it natively, else float32, since a processor that
            emulates bfloat16 is slower with it; "bfloat16" takes it anyway, with a warning there; "float32" turns off an
            autocast around it.

    Raises:
        TypeError: if `on` is neither a model nor a device.
        ValueError: for another precision, a device that has none, or a model whose weights are not in float32.
    """
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    device = device_of(on) if isinstance(on, nn.Module) else as_device(on)
    if not torch.amp.is_autocast_available(device.type):
        raise ValueError(f"torch has no mixed precision for {device.type!r}; move the model to where it is trained first")
    native = has_bfloat16(device)
    if precision == "bfloat16" and not native:
        warnings.warn(
            f"this machine ({device.type}) emulates bfloat16, which takes longer than float32; 'auto' would take float32 here",
            stacklevel=2,
        )
    in_bfloat16 = precision == "bfloat16" or (precision == "auto" and native)
    if in_bfloat16 and isinstance(on, nn.Module):
        check_single(on)
    return Precision(device.type, torch.bfloat16, in_bfloat16)


def as_device(on: torch.device | str) -> torch.device:
    if not isinstance(on, (torch.device, str)):
        raise TypeError(f"mixed_precision takes the model that is trained, or its device, not {reprlib.repr(on)}")
    try:
        return torch.device(on)
    except RuntimeError as error:
        raise ValueError(f"there is no device {on!r}; give the model itself, or its device, such as 'cpu' or 'cuda'") from error


def check_single(model: nn.Module) -> None:
    """What learns is in single precision, or in double, which autocast leaves alone."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.dtype in HALVES:
            raise ValueError(
                f"{name!r} is in {parameter.dtype}, and mixed precision trains weights in float32; call model.float() first"
            )


def has_bfloat16(device: torch.device) -> bool:
    """Whether `device` computes in bfloat16 natively. Many processors take the numbers and emulate it in float32."""
    if device.type == "cpu":
        flags = torch.cpu.get_capabilities()
        used = torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)
        return used and any(flags.get(name, False) for name in NATIVE)
    ask = getattr(getattr(torch, device.type, None), "is_bf16_supported", None)  # Apple's GPUs have no such question
    return bool(ask and ask(including_emulation=False))


def autocasts() -> dict[str, torch.dtype]:
    """Where autocast is on here, with its type: another process or thread begins without."""
    accelerator = torch.accelerator.current_accelerator()
    kinds = ["cpu", *([accelerator.type] if accelerator else [])]
    return {kind: torch.get_autocast_dtype(kind) for kind in kinds if torch.is_autocast_enabled(kind)}


def autocast_as(kinds: Mapping[str, torch.dtype]) -> ExitStack:
    """A context in which autocast is on as `autocasts` found it."""
    stack = ExitStack()
    for kind, dtype in kinds.items():
        stack.enter_context(Precision(kind, dtype))
    return stack


def is_autocast(device: torch.device) -> bool:
    return torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)


# -------------------------------------------------------------------------------------------------------------- copies


def to_device(inputs: Inputs, device: torch.device) -> Inputs:
    """`inputs` on `device`; from pinned memory the copy goes on while the processor works."""
    if isinstance(inputs, Tensor):
        return inputs.to(device, non_blocking=True)
    return tuple(to_device(one, device) for one in inputs)


def pinned_for(device: torch.device, tensor: Tensor) -> Tensor:
    """`tensor` where `device` can fetch it by itself."""
    return tensor.pin_memory() if is_asynchronous(device) else tensor


def prefetched(batches: Iterable[tuple[Inputs, Tensor]], device: torch.device) -> Iterator[tuple[Inputs, Tensor]]:
    """The batches with their images on `device`: each is copied while the accelerator still computes the one before.

    Labels stay where they are, since they are looked at before they are copied.
    """
    if not is_asynchronous(device):
        for images, labels in batches:
            yield to_device(images, device), labels
        return
    copies, ahead = copy_stream(device), None
    for images, labels in batches:
        with copies:
            there = to_device(images, device), labels, copies.record_event()
        if ahead:
            yield arrived(*ahead)
        ahead = there
    if ahead:
        yield arrived(*ahead)


@cache
def copy_stream(device: torch.device) -> torch.Stream:
    """One for all, since each has memory of its own."""
    return torch.Stream(device)


def arrived(images: Inputs, labels: Tensor, copied: torch.Event) -> tuple[Inputs, Tensor]:
    """The batch, for what is computed from here on: the accelerator waits for the copy, and the processor does not."""
    parts = tree_leaves(images)
    stream = torch.accelerator.current_stream(parts[0].device)
    stream.wait_event(copied)
    for part in parts:
        part.record_stream(stream)  # or its memory would be given to the next copy as soon as Python has done with it
    return images, labels


class Arriving:
    """Numbers on their way from an accelerator to the processor.

    `.item()` would wait until the accelerator has done all that it was given, and then it would stand idle. This waits for
    the numbers alone; what the accelerator was given after them goes on meanwhile.
    """

    def __init__(self, *numbers: Tensor):
        away = [number.device for number in numbers if is_asynchronous(number.device)]
        self.numbers = [number.detach().to("cpu", non_blocking=True) for number in numbers] if away else numbers
        self.copied = torch.accelerator.current_stream(away[0]).record_event() if away else None

    def items(self) -> list[float]:
        if self.copied:
            self.copied.synchronize()
        return [number.item() for number in self.numbers]
