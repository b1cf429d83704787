"""The frozen half as an inference engine would run it: batch norms folded into convolutions, in the layout that these like.

torch's own tools do it, on a copy: the model keeps its layers, their names and their memory. Whoever asks gets a way to run
the frozen half that has been compared with the frozen half itself, or the frozen half.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse

from course_utils.devices import is_autocast, mixed_precision
from course_utils.equivalence import same
from course_utils.fx_split import FrozenPart
from course_utils.fx_trace import HOOKS, compiled, is_size, name_of

Run = Callable[[Tensor], Any]
AS_IT_IS = "as it is"
ROUNDS = ("round", "floor", "ceil", "trunc", "sign", "int", "long", "floordiv", "floor_divide", "mod", "remainder")
COMPARES = ("gt", "ge", "lt", "le", "argmax", "argmin", "argsort", "sort", "topk", "bucketize", "searchsorted")
HUGE = 1e9  # larger numbers in a picture may overflow on the way, as those of a broken one do that are not finite


class Inference(NamedTuple):
    """A way to run a frozen half: its name, and what gives the features of a batch of pictures."""

    way: str
    run: Run


def fastest(frozen: nn.Module, images: Tensor) -> Inference:
    """The fastest way that gives the same for `images` as `frozen` does: each number to 1e-5 of their spread.

    On a processor with oneDNN its own layout, if every step of the half can work in it (a ResNet's can); else channels-last.
    A half with hooks, whose functions nobody else would call, and one that `split_frozen` has not made run as they are. So
    does one whose own numbers have fewer digits than float32: with these nobody could see whether they are the same.
    """
    if not isinstance(frozen, FrozenPart) or hooks_of(frozen):
        return Inference(AS_IT_IS, frozen)
    with torch.no_grad():
        wanted, half = frozen(images.clone()), is_autocast(images.device)
        with mixed_precision(images.device, "float32"):
            exact = frozen(images.clone()) if half else wanted
        ways = WAYS if all(map(has_digits, tensors(exact))) else {}
        for way, prepare in ways.items():
            run = prepared(frozen, prepare)
            if run and agrees(run, images, wanted) and (not half or agrees_in_float32(run, images, exact)):
                return Inference(way, for_ordinary(run, frozen))
    return Inference(AS_IT_IS, frozen)


def for_ordinary(run: Run, frozen: nn.Module) -> Run:
    """`run`, but `frozen` itself for pictures that are not finite or huge: oneDNN's ReLU makes 0 of NaN."""
    return lambda images: run(images) if images.abs().max() < HUGE else frozen(images)


def hooks_of(frozen: nn.Module) -> int:
    """How many functions are called beside its layers."""
    return sum(len(getattr(module, name)) for module in frozen.modules() for name in HOOKS)


def agrees(run: Run, images: Tensor, wanted: Any) -> bool:
    """Whether `run` gives what is wanted, and the same for the first picture alone."""
    try:
        with torch.no_grad():
            made, alone = run(images.clone()), run(images[:1].clone())
    except Exception:  # a step that this layout does not know
        return False
    one = wanted[:1] if isinstance(wanted, Tensor) else tuple(part[:1] for part in wanted)
    return same(wanted, made) and all(map(near, tensors(wanted), tensors(one), tensors(alone)))


def agrees_in_float32(run: Run, images: Tensor, exact: Any) -> bool:
    """The same without the half precision around this, in which a wrong way can pass for rounding."""
    with mixed_precision(images.device, "float32"):
        return agrees(run, images, exact)


def has_digits(part: Tensor) -> bool:
    return not part.is_floating_point() or torch.finfo(part.dtype).bits >= 32


def near(all_rows: Tensor, row: Tensor, alone: Tensor) -> bool:
    """Whether two forms of one row are the same, by the spread of all rows."""
    return row.shape == alone.shape and same(all_rows, torch.cat([alone.to(all_rows.dtype), all_rows[1:]]))


def tensors(made: Any) -> tuple[Tensor, ...]:
    return (made,) if isinstance(made, Tensor) else tuple(made)


# ----------------------------------------------------------------------------------------------------------- the ways


def prepared(frozen: FrozenPart, prepare: Callable[[fx.GraphModule], Run]) -> Run | None:
    """`frozen`, copied, folded and prepared; None if its steps cannot be followed so far."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return prepare(folded(frozen))
    except Exception:  # tracing runs the model's own code, which may object in any way
        return None


def folded(frozen: FrozenPart) -> fx.GraphModule:
    """The steps of `frozen` down to torch's own layers, each batch norm multiplied into the convolution before it.

    It shares the parameters that folding does not change.
    """
    memo: dict[int, Any] = {id(parameter): parameter for parameter in frozen.parameters()}
    memo[id(frozen.origin)] = None
    steps = fx.symbolic_trace(fx.GraphModule(copy.deepcopy(frozen, memo).eval(), frozen.graph))
    if any(jumps(node) for node in steps.graph.nodes):
        raise ValueError("the last digit of a number decides about more than a last digit")
    give_each_call_its_layer(steps)
    return fuse(steps, inplace=True, no_trace=True)  # type: ignore[return-value]


def jumps(node: fx.Node) -> bool:
    """Whether a step makes something quite different of numbers that differ by rounding: a few pictures may not show it."""
    name = name_of(node).strip("_") if node.op in ("call_function", "call_method") and not is_size(node) else ""
    return name in ROUNDS + COMPARES or name.startswith("fake_quantize")


def give_each_call_its_layer(steps: fx.GraphModule) -> None:
    """A layer that runs twice gets a second self: what is folded into it belongs to one of its runs."""
    called: set[str] = set()
    for node in steps.graph.nodes:
        if node.op == "call_module":
            if node.target in called:
                again = f"{node.target}_in_{node.name}"
                steps.add_submodule(again, copy.copy(steps.get_submodule(node.target)))
                node.target = again
            called.add(node.target)
    steps.recompile()


def in_blocks(steps: fx.GraphModule) -> Run:
    """The layout of oneDNN from the pictures to the features."""
    if not torch.backends.mkldnn.is_available():
        raise ValueError("this build of torch has no oneDNN")
    for name, module in list(steps.named_modules()):
        if type(module) is nn.Conv2d and module.padding_mode == "zeros":  # any other stops at its padding
            steps.set_submodule(name, BlockedConv2d(module))
    forward = compiled(steps, steps.graph)

    def run(images: Tensor) -> Any:
        made = forward(steps, images.to_mkldnn())
        return made.to_dense() if isinstance(made, Tensor) else tuple(part.to_dense() for part in made)

    return run


class BlockedConv2d(nn.Module):
    """A convolution whose numbers lie as oneDNN wants them; it takes and gives tensors of that layout."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.weight = conv.weight.detach().to_mkldnn()
        self.bias = None if conv.bias is None else conv.bias.detach().to_mkldnn()
        self.arguments: Any = (conv.stride, conv.padding, conv.dilation, conv.groups)

    def forward(self, images: Tensor) -> Tensor:
        return torch.conv2d(images, self.weight, self.bias, *self.arguments)


def channels_last(steps: fx.GraphModule) -> Run:
    """The channels of a point lie side by side."""
    for module in steps.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and parameter.dim() == 4:  # another tensor: that of the model stays as it lies
                laid = parameter.detach().contiguous(memory_format=torch.channels_last)
                module._parameters[name] = nn.Parameter(laid, requires_grad=False)
    forward = compiled(steps, steps.graph)
    return lambda images: forward(steps, images.contiguous(memory_format=torch.channels_last))


WAYS: dict[str, Callable[[fx.GraphModule], Run]] = {"oneDNN": in_blocks, "channels last": channels_last}
