"""Whether two ways to run a model do the same: outputs, gradients, buffers, attributes, random numbers; or where they part.

Everything here runs on copies, with a few pictures: the model itself is never touched.
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from course_utils.finetune import train_mode
from course_utils.rng import rng_state, same_rng_state, seed_all

State = dict[str, Any]  # what was seen, under the words that name it
PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size)


def copy_of(model: nn.Module) -> nn.Module:
    """A copy that shares the frozen parameters, which nothing changes, and nothing else."""
    shared = {id(parameter): parameter for parameter in model.parameters() if not parameter.requires_grad}
    return copy.deepcopy(model, shared)


# ----------------------------------------------------------------------------------------------------------- pictures

SIZES = (32, 64, 96, 128, 224, 256, 299, 384, 16, 8)
FEW = 3  # pictures: enough for batch norm to learn from, and a number that no layer has by accident


def example_images(model: nn.Module) -> tuple[Tensor, dict[str, str]]:
    """A few drawn pictures that `model` takes in both modes, (3, channels, height, width), and its `stateful_parts`.

    Raises:
        ValueError: if it runs at none of the usual sizes; the message holds its last objection.
    """
    like = next((p for p in model.parameters() if p.is_floating_point() or p.is_complex()), torch.zeros(()))
    generator, objection = torch.Generator().manual_seed(0), None
    for shape in _shapes(model):
        images = torch.randn(FEW, *shape, generator=generator).to(like.device, like.dtype)
        try:
            return images, stateful_parts(model, images)
        except Exception as error:  # the model's own code objects in any way to a size that it does not take
            objection = f"{type(error).__name__}: {error}"
    raise ValueError(f"it runs at none of the usual sizes of pictures ({objection})")


def _shapes(model: nn.Module) -> Iterator[tuple[int, int, int]]:
    """Sizes of pictures to try: those that a part of the model names, then small ones, then larger ones."""
    modules = list(model.modules())
    first = next((part for part in modules if isinstance(part, (nn.Conv2d, nn.Linear))), None)
    if isinstance(first, nn.Linear):  # it takes the numbers of a picture in a row
        for channels in (3, 1):
            side = math.isqrt(first.in_features // channels)
            if channels * side * side == first.in_features:
                yield channels, side, side
    channels = first.in_channels if isinstance(first, nn.Conv2d) else 3
    for part in modules:
        named = getattr(part, "image_size", getattr(part, "img_size", None))
        if isinstance(named, int) or (isinstance(named, (tuple, list)) and len(named) == 2):
            height, width = (named, named) if isinstance(named, int) else named
            yield channels, int(height), int(width)
            break
    yield from ((channels, side, side) for side in SIZES)


# -------------------------------------------------------------------------------------------------------------- state


def state_of(model: nn.Module) -> State:
    """Everything that a run of `model` may change: its buffers and the attributes of its parts."""
    found: State = {}
    for path, module in model.named_modules():
        where = f" of {path}" if path else ""
        found |= {f"the buffer {name}{where}": _seen(value) for name, value in module._buffers.items()}
        found |= {f"the attribute {name}{where}": _seen(value) for name, value in attributes_of(module).items()}
    return found


def attributes_of(module: nn.Module) -> dict[str, Any]:
    """What a module keeps beside parameters, buffers and parts: numbers, texts, tensors, lists, generators."""
    own = vars(nn.Module()).keys()
    return {name: value for name, value in vars(module).items() if name not in own and _can_be_seen(value)}


def config_of(module: nn.Module) -> dict[str, str]:
    """The numbers and texts among its attributes, which its code reads: strides, probabilities, an eps."""
    small = (type(None), bool, int, float, str)
    return {
        name: repr(value)
        for name, value in attributes_of(module).items()
        if isinstance(value, small) or (isinstance(value, tuple) and all(isinstance(item, small) for item in value))
    }


def _can_be_seen(value: Any) -> bool:
    if isinstance(value, (list, tuple, set, dict)):
        return all(map(_can_be_seen, [*value.values()] if isinstance(value, dict) else value))
    known = (*PLAIN, Tensor, torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
    return isinstance(value, known) and not isinstance(value, nn.Parameter)


def _seen(value: Any) -> Any:
    """`value` as it is now, so that a later change of it shows."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, torch.Generator):
        return value.get_state()
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state)
    if isinstance(value, np.random.RandomState):
        return repr(value.get_state())
    if isinstance(value, random.Random):
        return value.getstate()
    if isinstance(value, dict):
        return {name: _seen(item) for name, item in value.items()}
    return [_seen(item) for item in value] if isinstance(value, (list, tuple)) else copy.copy(value)


def stateful_parts(model: nn.Module, images: Tensor) -> dict[str, str]:
    """Names of the parts whose own state changes when `model` runs, each with what changes: counters, averages, generators."""
    found = {}
    for set_mode in (train_mode, nn.Module.eval):
        set_mode(model)
        before = {name: _own_state(part) for name, part in model.named_modules()}
        model(images.clone())
        for name, part in model.named_modules():
            what = difference(before.get(name, {}), _own_state(part))
            if what:
                found[name] = what
    return found


def _own_state(module: nn.Module) -> State:
    return {name: _seen(value) for name, value in {**module._buffers, **attributes_of(module)}.items()}


# ----------------------------------------------------------------------------------------------------------- comparing


def difference(a: State, b: State) -> str | None:
    """The first name under which the two hold something else, or None."""
    return next((name for name in {**a, **b} if name not in a or name not in b or not same(a[name], b[name])), None)


def same(a: Any, b: Any) -> bool:
    """Whether two values say the same; numbers with a point up to rounding, relative to the largest of their tensor."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and close(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return difference(a, b) is None
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and bool(a == b or (a != a and b != b))


def close(a: Tensor, b: Tensor) -> bool:
    if torch.equal(a, b) or not (a.is_floating_point() or a.is_complex()):
        return torch.equal(a, b)
    exact = a.device.type == "cpu" and torch.finfo(a.dtype).bits >= 32  # else steps may run in another order each time
    rounding = max(1e-5 if exact else 1e-3, 8 * torch.finfo(a.dtype).eps)
    largest = a.detach().abs().nan_to_num(0, 0, 0).max().item()
    return torch.allclose(a.detach(), b.detach(), rtol=rounding, atol=rounding * largest, equal_nan=True)


Run = tuple[nn.Module, Callable[[Tensor], Any]]  # what is put into a mode, and what is run: a model as a whole, or in parts


def observe(model: nn.Module, run: Run, images: Tensor, *, training: bool, seed: int) -> State:
    """Outputs and gradients of one run of `model`, its state afterwards, and how far the random numbers have been drawn."""
    moded, forward = run
    train_mode(moded) if training else moded.eval()
    model.zero_grad()
    seed_all(seed)
    outputs, _ = tree_flatten(forward(images.clone()))
    found: State = {f"output {i}": _output(value) for i, value in enumerate(outputs)}
    weighed = [_weighed(value) for value in outputs if isinstance(value, Tensor) and value.requires_grad]
    if weighed:
        torch.stack(weighed).sum().backward()
    found |= {f"the gradient of {name}": p.grad for name, p in model.named_parameters() if p.requires_grad}
    return found | state_of(model) | {"the random numbers drawn": _drawn(rng_state())}


def _output(value: Any) -> Any:
    if not isinstance(value, (Tensor, *PLAIN)):
        raise TypeError(f"it returns a {type(value).__name__}; a model returns tensors, in tuples or dictionaries if several")
    return value


def _weighed(output: Tensor) -> Tensor:
    """A number that depends on every value of `output`, on each in another way."""
    values = torch.view_as_real(output) if output.is_complex() else output
    weights = torch.linspace(-1, 2, values.numel(), dtype=torch.float64).cos().reshape(values.shape)
    return (values * weights.to(values.device, values.dtype)).sum().double()


def _drawn(state: tuple) -> Any:
    """Compared by `same`: numpy's state holds an array."""
    python, numpy, torchs, devices = state
    return [python, [numpy[0], numpy[1].tolist(), *numpy[2:]], torchs, devices]


# ------------------------------------------------------------------------------------------------- the model in two parts

MODES = (True, True, False)  # training twice, then evaluation; the second time the pictures in reverse
Parts = Callable[[nn.Module], tuple[nn.Module, nn.Module]]  # cuts a copy of the model into a frozen and a learning part


def first_difference(model: nn.Module, cut: Parts, images: Tensor) -> str | None:
    """In which way the two parts differ from the model that they were cut from, in words, or None."""
    whole, other = copy_of(model), copy_of(model)
    frozen, learning = cut(other)
    for i, training in enumerate(MODES):
        batch = images.flip(0) if i % 2 else images
        wanted = observe(whole, (whole, whole), batch, training=training, seed=i)
        try:
            found = observe(other, (learning, lambda given: learning(frozen(given))), batch, training=training, seed=i)
        except Exception as error:  # the steps are the model's own and may object in any way
            return f"its parts stop with {type(error).__name__}: {(str(error) or 'no message').splitlines()[0]}"
        what = difference(wanted, found)
        if what:
            mode = "training" if training else "evaluation"
            return f"in {mode} mode its parts give another result than the whole ({what}{_layer(model, cut, images, i + 1)})"
    return why_not_fixed(frozen, images)


def why_not_fixed(frozen: nn.Module, images: Tensor) -> str | None:
    """Why what `frozen` makes of a picture is not the same each time and in each batch, in words, or None."""
    state, drawn = state_of(frozen), rng_state()
    features = _tensors(frozen(images.clone()))
    if not same_rng_state(drawn, rng_state()):
        return "its frozen part draws random numbers"
    what = difference(state, state_of(frozen))
    if what:
        return f"its frozen part changes {what} at each run"
    if any(part.shape[:1] != images.shape[:1] for part in features):
        return f"its frozen part makes {[tuple(p.shape) for p in features]} of {len(images)} pictures, not one row for each"
    rows = list(reversed(range(len(images))))[:2]  # another batch: fewer pictures, in reverse
    if not all(map(same, [part[rows] for part in features], _tensors(frozen(images[rows])))):
        return "its frozen part makes something else of a picture in another batch, or each time"
    return None


def difference_on(model: nn.Module, frozen: nn.Module, learning: nn.Module, images: Tensor) -> str | None:
    """Why `learning(frozen(images))` is not `model(images)` in evaluation mode, in words, or None; run on copies."""
    shared = {id(parameter): parameter for parameter in model.parameters() if not parameter.requires_grad}
    model, frozen, learning = copy.deepcopy((model, frozen, learning), shared)
    results = []
    for part, run in ((model, model), (learning, lambda given: learning(frozen(given)))):
        seed_all(0)
        part.eval()
        results.append(tree_flatten(run(images.clone()))[0])
    return None if same(*results) else "on these pictures the two parts give another result than the model that was split"


def _tensors(made: Any) -> Sequence[Tensor]:
    return [made] if isinstance(made, Tensor) else list(made)


def _layer(model: nn.Module, cut: Parts, images: Tensor, runs: int) -> str:
    """Where the two first part, as an addition to a sentence: the first layer whose output is another one."""
    whole, other = copy_of(model), copy_of(model)
    frozen, learning = cut(other)
    wanted, found = _watch(whole), _watch(other)
    for i, training in enumerate(MODES[:runs]):
        batch = images.flip(0) if i % 2 else images
        for seen in (wanted, found):
            seen.clear()
        observe(whole, (whole, whole), batch, training=training, seed=i)
        observe(other, (learning, lambda given: learning(frozen(given))), batch, training=training, seed=i)
    name = difference({name: value for name, value in wanted.items() if name in found}, found)
    return f"; first in {name}" if name else ""


def _watch(model: nn.Module) -> State:
    """Collects from now on the outputs of the parts of `model`, in the order in which they run."""
    seen: State = {}

    def note(name: str) -> Callable:
        return lambda module, inputs, output: seen.setdefault(name, _seen(output) if isinstance(output, Tensor) else None)

    for name, module in model.named_modules():
        if name:
            module.register_forward_hook(note(name))
    return seen
