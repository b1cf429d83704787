"""Whether two ways to run a model do the same: outputs, gradients, buffers, attributes, random numbers; or where they part.

Everything here runs on copies, with a few pictures: the model itself is never touched.
"""

from __future__ import annotations

import copy
import io
import pickle
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from course_utils.devices import HALVES
from course_utils.finetune import train_mode
from course_utils.rng import rng_state, same_rng_state, seed_all
from course_utils.trial import input_shapes

State = dict[str, Any]  # what was seen, under the words that name it
UNCOPYABLE = (type(threading.Lock()), type(threading.RLock()), threading.Thread, io.TextIOWrapper, io.BufferedIOBase, io.FileIO)
PLAIN = (type(None), bool, int, float, str)  # what a model may return beside tensors
OF_TORCH = frozenset(vars(nn.Module()))  # attributes that torch itself gives to every module


def copy_of(model: Any) -> Any:
    """A copy of a model, or of several parts of one, that shares its frozen parameters and nothing else that can be copied."""
    parts = model if isinstance(model, tuple) else (model,)
    modules = [module for part in parts for module in part.modules()]
    memo: dict[int, Any] = {id(p): p for part in parts for p in part.parameters() if not p.requires_grad}
    for value in (value for module in modules for value in vars(module).values()):
        if isinstance(value, Tensor) and value.grad_fn is not None:  # such as the weight that pruning or weight norm computes
            memo[id(value)] = value.detach().clone()
        elif isinstance(value, UNCOPYABLE) and not isinstance(value, io.BytesIO):
            memo[id(value)] = value
    return copy.deepcopy(model, memo)


# ----------------------------------------------------------------------------------------------------------- pictures

FEW = 3  # pictures: enough for batch norm to learn from, and a number that no layer has by accident


def example_images(model: nn.Module) -> tuple[Tensor, dict[str, str]]:
    """A few drawn pictures that `model` takes in both modes, (3, channels, height, width), and its `stateful_parts`.

    Raises:
        ValueError: if it runs at none of the usual sizes; the message holds its last objection.
    """
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
    generator, objection = torch.Generator().manual_seed(0), None
    for shape in input_shapes(model):
        images = torch.randn(FEW, *shape, generator=generator).to(like.device, like.dtype)
        try:
            return images, stateful_parts(model, images)
        except WritesToFrozen:
            raise
        except Exception as error:  # the model's own code objects in any way to a size that it does not take
            objection = f"{type(error).__name__}: {error}"
    raise ValueError(f"it runs at none of the usual sizes of pictures ({objection})")


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
    """What a module keeps beside parameters, buffers and parts: numbers, texts, tensors, lists, generators, objects."""
    return {name: value for name, value in vars(module).items() if name not in OF_TORCH}


def config_of(module: nn.Module) -> dict[str, Any]:
    """What the code of a module reads beside parameters, buffers and parts, so that a change shows; and which code it is."""
    code: list[int] = [id(type(module).forward)]
    found: dict[str, Any] = {"code": ()}
    for name, value in vars(module).items():  # one short walk: it is asked of every module in every epoch
        if name in OF_TORCH:
            continue
        if type(value) in PLAIN:
            found[name] = value
        elif callable(value):
            code.append(id(value))
        else:
            found[name] = repr(sample(value).double().tolist()) if isinstance(value, Tensor) else _seen(value)
    return found | {"code": tuple(code)}


def sample(tensor: Tensor) -> Tensor:
    """Up to eight of the values, from all over the tensor, as it lies in memory; of a dense one a view."""
    tensor = tensor.detach()
    dense = 0 not in tensor.stride() and tensor.untyped_storage().nbytes() >= tensor.numel() * tensor.element_size()
    flat = tensor.as_strided((tensor.numel(),), (1,)) if dense else tensor.reshape(-1)
    chosen = flat[:: max(1, flat.numel() // 8)][:8]
    return torch.view_as_real(chosen).reshape(-1) if chosen.is_complex() else chosen


def _seen(value: Any) -> Any:
    """`value` as it is now, so that a later change of it shows."""
    if type(value) in PLAIN or (type(value) is tuple and all(type(item) in PLAIN for item in value)):
        return value
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, torch.Generator):
        return value.get_state().numpy().tobytes()
    content = io.BytesIO()
    try:
        StatePickler(content).dump(value)
        return content.getvalue()
    except Exception:  # a lock, a file, a function without a name: nothing to see inside
        return type(value).__name__


class StatePickler(pickle.Pickler):
    """Writes down what an object holds, but not the modules and parameters that it refers to."""

    def persistent_id(self, value: Any) -> str | None:
        return type(value).__name__ if isinstance(value, (nn.Module, nn.Parameter, torch.Generator)) else None


def stateful_parts(model: nn.Module, images: Tensor) -> dict[str, str]:
    """Names of the parts whose own state changes when `model` runs, each with what changes: counters, averages, generators."""
    found = {}
    for set_mode in (train_mode, nn.Module.eval):
        set_mode(model)
        before = {name: _own_state(part) for name, part in model.named_modules()}
        with WriteGuard(model):
            model(images.clone())
        for name, part in model.named_modules():
            what = difference(before.get(name, {}), _own_state(part))
            if what:
                found[name] = what
    return found


class WritesToFrozen(Exception):
    """A run of the model writes into a parameter that is frozen."""


class WriteGuard(TorchDispatchMode):
    """Inside, whatever is about to write into the memory of a frozen parameter is stopped, for it belongs to the real model."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.frozen = memory_of(p for p in model.parameters() if not p.requires_grad)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for given, about in zip(args, function._schema.arguments, strict=False):
            written = about.alias_info is not None and about.alias_info.is_write
            if written and isinstance(given, Tensor) and not memory_of([given]).isdisjoint(self.frozen):
                raise WritesToFrozen("each run changes a parameter that is frozen")
        return function(*args, **(kwargs or {}))


class ReadGuard(TorchDispatchMode):
    """Inside, whatever computes with something that learns is stopped: traced, its value now would stay for ever."""

    def __init__(self, *models: nn.Module):
        super().__init__()
        self.learning = memory_of(p for model in models for p in model.parameters() if p.requires_grad)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not memory_of(value for value in tree_flatten(args)[0] if isinstance(value, Tensor)).isdisjoint(self.learning):
            raise ValueError("its code computes with a value of something that learns, where torch.fx does not see it")
        return function(*args, **(kwargs or {}))


def memory_of(tensors: Iterable[Tensor]) -> set[int]:
    """Where the numbers of these tensors lie; two that share memory have it in common."""
    return {tensor.untyped_storage().data_ptr() for tensor in tensors if tensor.numel() and tensor.device.type != "meta"}


def _own_state(module: nn.Module) -> State:
    return {name: _seen(value) for name, value in {**module._buffers, **attributes_of(module)}.items()}


# ----------------------------------------------------------------------------------------------------------- comparing


def difference(a: State, b: State) -> str | None:
    """The first name under which the two hold something else, or None."""
    return next((name for name in {**a, **b} if name not in a or name not in b or not same(a[name], b[name])), None)


def same(a: Any, b: Any) -> bool:
    """Whether two values say the same; numbers with a point up to rounding, for which their spread and the largest count."""
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
    digits = {64: 1e-10, 32: 1e-5 if a.device.type == "cpu" else 1e-3}  # steps of a GPU may run in another order each time
    a, b, rounding = a.detach(), b.detach(), torch.finfo(a.dtype).eps
    sizes = a.abs().nan_to_num(0, 0, 0)
    allowed = digits.get(torch.finfo(a.dtype).bits, 1e-3) * (sizes - sizes.mean()).abs().max() + 32 * rounding * sizes.max()
    return torch.allclose(a, b, rtol=0, atol=allowed.item(), equal_nan=True)


Run = tuple[nn.Module, Callable[[Tensor], Any]]  # what is put into a mode, and what is run: a model as a whole, or in parts


def observe(model: nn.Module, run: Run, images: Tensor, *, training: bool, gradients: bool, seed: int) -> State:
    """Outputs and gradients of one run of `model`, its state afterwards, and how far the random numbers have been drawn."""
    moded, forward = run
    train_mode(moded) if training else moded.eval()
    model.zero_grad()
    seed_all(seed)
    with torch.set_grad_enabled(gradients):
        outputs, structure = tree_flatten(forward(images.clone()))
    found: State = {f"output {i}": _output(value) for i, value in enumerate(outputs)}
    found["the structure of the output"] = str(structure)
    weighed = [_weighed(value) for value in outputs if isinstance(value, Tensor) and value.requires_grad]
    if weighed:
        torch.stack(weighed).sum().backward()
    found |= {
        f"the gradient of {name}": None if p.grad is None else p.grad.clone()
        for name, p in model.named_parameters()
        if p.requires_grad
    }
    _step(model)
    return found | state_of(model) | {"the random numbers drawn": _drawn(rng_state())}


def _step(model: nn.Module) -> None:
    """Change a little what learns, as training does: nothing of it may stay behind as a number in the steps."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.sub_(0.03 * (1 + parameter.norm()) / (1e-6 + parameter.grad.norm()) * parameter.grad)


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

MODES = (  # training or not, with gradients or not; the pictures are in reverse every second time
    *((True, True), (True, True)),
    *((False, True), (False, False)),  # evaluation is mostly without gradients, and code may ask whether they are on
)
Parts = Callable[[nn.Module], tuple[nn.Module, nn.Module]]  # cuts a copy of the model into a frozen and a learning part


def first_difference(model: nn.Module, cut: Parts, images: Tensor) -> str | None:
    """In which way the two parts differ from the model that they were cut from, in words, or None."""
    whole, other = copy_of(model), copy_of(model)
    frozen, learning = cut(other)
    before = state_of(frozen)
    for i, (training, gradients) in enumerate(MODES):
        batch = images.flip(0) if i % 2 else images
        wanted = observe(whole, (whole, whole), batch, training=training, gradients=gradients, seed=i)
        found = observe(
            other,
            (learning, lambda given: learning(as_kept(frozen(given)))),
            batch,
            training=training,
            gradients=gradients,
            seed=i,
        )
        what = difference(wanted, found)
        if what:
            mode = "training" if training else "evaluation"
            return f"in {mode} mode its parts give another result than the whole ({what}{_layer(model, cut, images, i + 1)})"
    what = difference(before, state_of(frozen))
    return f"{what} changes in training and is needed by the frozen part" if what else why_not_fixed(frozen, images)


def why_not_fixed(frozen: nn.Module, images: Tensor, *, in_double: bool = True) -> str | None:
    """Why what `frozen` makes of a picture is not the same each time and in each batch, in words, or None."""
    state, drawn, versions = state_of(frozen), rng_state(), _versions(frozen)
    features = _tensors(frozen(images.clone()))
    if not same_rng_state(drawn, rng_state()):
        return "its frozen part draws random numbers"
    what = difference(state, state_of(frozen))
    what = what or difference(versions, _versions(frozen))
    if what:
        return f"its frozen part changes {what} at each run"
    if any(part.shape[:1] != images.shape[:1] for part in features):
        return f"its frozen part makes {[tuple(p.shape) for p in features]} of {len(images)} pictures, not one row for each"
    if in_double:
        frozen, images, features = _in_double(frozen, images, features)
    for i in range(len(images)):
        if not is_alone(frozen, images, features, i):
            return "its frozen part makes something else of a picture in another batch, or each time"
    return None


def _versions(frozen: nn.Module) -> State:
    return {name: t._version for name, t in (*frozen.named_parameters(), *frozen.named_buffers()) if not t.is_inference()}


def _in_double(frozen: nn.Module, images: Tensor, features: Sequence[Tensor]) -> tuple[nn.Module, Tensor, Sequence[Tensor]]:
    """All three with twice the digits, if it is not too large: what other pictures leave in one cannot hide there."""
    size = sum(parameter.numel() for parameter in frozen.parameters())
    if size > 30e6 or images.dtype not in (torch.float32, *HALVES) or images.device.type == "mps":
        return frozen, images, features
    try:
        doubled = copy.deepcopy(frozen, {id(getattr(frozen, "origin", None)): None})
        if not set(doubled.modules()).isdisjoint(frozen.modules()):  # a part that gives itself as its copy
            return frozen, images, features
        doubled.double()
        return doubled, images.double(), _tensors(doubled(images.double()))
    except Exception:  # its code asks for another type of numbers
        return frozen, images, features


def is_alone(frozen: nn.Module, images: Tensor, features: Sequence[Tensor], i: int) -> bool:
    """Whether the i-th picture of a batch gives the same by itself."""
    for part, alone in zip(features, _tensors(frozen(images[i : i + 1].clone())), strict=True):
        if alone.shape[1:] != part.shape[1:] or not same(part, torch.cat([part[:i], alone, part[i + 1 :]])):
            return False
    return True


def difference_on(model: nn.Module, frozen: nn.Module, learning: nn.Module, images: Tensor) -> str | None:
    """Why `learning(frozen(images))` is not `model(images)` in evaluation mode, in words, or None; run on copies."""
    model, frozen, learning = copy_of((model, frozen, learning))
    results = []
    for part, run in ((model, model), (learning, lambda given: learning(as_kept(frozen(given))))):
        seed_all(0)
        part.eval()
        results.append(tree_flatten(run(images.clone()))[0])
    return None if same(*results) else "on these pictures the two parts give another result than the model that was split"


def as_kept(made: Any) -> Any:
    """What a frozen part made, as it comes back when it was kept: with the numbers of each picture in a row."""
    return made.contiguous() if isinstance(made, Tensor) else tuple(part.contiguous() for part in made)


def _tensors(made: Any) -> Sequence[Tensor]:
    return [made] if isinstance(made, Tensor) else list(made)


def _layer(model: nn.Module, cut: Parts, images: Tensor, runs: int) -> str:
    """Where the two first part, as an addition to a sentence: the first layer whose output is another one."""
    whole, other = copy_of(model), copy_of(model)
    frozen, learning = cut(other)
    wanted, found = _watch(whole), _watch(other)
    for i, (training, gradients) in enumerate(MODES[:runs]):
        batch = images.flip(0) if i % 2 else images
        how: dict[str, Any] = {"training": training, "gradients": gradients, "seed": i}
        wanted.clear()
        found.clear()
        observe(whole, (whole, whole), batch, **how)
        observe(other, (learning, lambda given: learning(as_kept(frozen(given)))), batch, **how)
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
