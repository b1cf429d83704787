"""Models: load one, find its head, replace its head, save it and open it again."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import cache, partial
from inspect import isfunction
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode
from torchvision import models
from torchvision.transforms import InterpolationMode

from course_utils.files import write_atomic
from course_utils.rng import preserve_rng_state
from course_utils.weights import ShapesWeights, get_weights, image_transform, read_imagenet

# ------------------------------------------------------------------------------------------------------------ load


class DefaultStr(str):
    """A default value, shown as what it is, that differs from the same text given by the caller."""


OURS = DefaultStr("shapes")


def load_model(architecture: str, *, weights: str | None = OURS) -> nn.Module:
    """A torchvision network in evaluation mode; it knows drawn figures only, unless you say weights="imagenet".

    "shapes", the default, are weights of this course, for resnet18 and vgg16: made on 24 kinds of drawn figures at 64
    pixels, they need no download and know nothing of photographs. Where `weights` is left out, a line on stderr says so,
    once. "imagenet" are torchvision's, made on photographs and downloaded once. None is a network that has learnt nothing.

    The "shapes" weights of VGG16 end at its features; its classifier starts from torchvision's own initialisation with a
    fixed seed.

    Raises:
        ValueError: if the architecture or the weights do not exist, or the weight file is damaged.
        FileNotFoundError: if the weights are not on this machine and cannot be downloaded.
    """
    found = get_weights(architecture, weights)
    if found is None:
        return fresh(architecture).eval()
    if isinstance(found, ShapesWeights):
        model = fill(architecture, found.get_state_dict(), len(found.meta["categories"])).eval()
        if isinstance(weights, DefaultStr):
            say_once(
                f"load_model({architecture!r}): these weights know drawn shapes only (weights='shapes', the default); "
                "for photographs say weights='imagenet'"
            )
        return model
    read_imagenet(found)
    with SkipInit():
        return models.get_model(architecture, weights=found).eval()


@cache
def say_once(line: str) -> None:
    print(line, file=sys.stderr)


def fresh(architecture: str, **options: Any) -> nn.Module:
    """A torchvision network that has learnt nothing."""
    if architecture in ("googlenet", "inception_v3"):
        options["init_weights"] = True  # the default, but torchvision warns unless it is said
    return models.get_model(architecture, weights=None, **options)


class MetaInit(TorchFunctionMode):
    """Inside, `torch.empty` takes no memory: layers are built at once, without the numbers that would be thrown away.

    `torch.device("meta")` would make every tensor so; some families compute with small ones while they are built.
    """

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        where = {"device": "meta"} if function is torch.empty else {}
        return function(*args, **(kwargs or {}) | where)


class SkipInit(TorchFunctionMode):
    """Inside, no layer is filled with initial values: for a network into which weights are loaded at once."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(function, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        if function.__name__ in ("normal_", "uniform_"):
            return args[0].zero_()  # numbers that cut-off distributions accept: they draw until all lie inside
        return function(*args, **(kwargs or {}))


def fill(architecture: str, state: dict[str, Tensor], num_classes: int) -> nn.Module:
    """The network with `state` in it, and seeded initial values for linear layers that `state` lacks.

    Raises:
        ValueError: if anything else is missing in `state`, or something in it is of another network.
    """
    with MetaInit():
        model = fresh(architecture, num_classes=num_classes)
    linear = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    absent = {name: layer for name, layer in linear.items() if f"{name}.weight" not in state}
    wanted = {n: value for n, value in model.state_dict().items() if n.rpartition(".")[0] not in absent}
    compare(state, wanted, f"the file of weights for {architecture}", "`git checkout data/weights` brings ours back")
    model.load_state_dict(state, strict=False, assign=True)
    generator = torch.Generator().manual_seed(0)
    for layer in absent.values():  # as torchvision's VGG does it
        layer.to_empty(device="cpu")
        nn.init.normal_(layer.weight, 0, 0.01, generator=generator)
        nn.init.zeros_(layer.bias)
    return model.requires_grad_(True)


# ------------------------------------------------------------------------------------------------------------ head


class Head(nn.Sequential):
    """A head of several layers, as `replace_head` builds it."""

    def __init__(self, *layers: nn.Module, hidden: Sequence[int], dropout: float):
        super().__init__(*layers)
        self.hidden, self.dropout = tuple(hidden), dropout


AUXILIARY = ("AuxLogits.fc", "aux1.fc2", "aux2.fc2", "aux_classifier.4")  # inception_v3, googlenet and FCNs classify twice


def head_name(model: nn.Module) -> str:
    """The dotted name of the layer that gives the logits: "fc", "classifier.6", "heads.head", …

    It is found by what it does, not by its place: a copy of the model without values is tried on a small picture, and the
    way back from the output leads to the layer. `model` itself is neither run nor changed.

    Raises:
        ValueError: if no layer or more than one gives the output, or the model cannot be tried and several layers could.
    """
    return find_head(model).name


def head_of(model: nn.Module) -> nn.Module:
    """The layer that gives the logits: `model.fc`, `model.classifier[6]`, …"""
    return model.get_submodule(head_name(model))


def replace_head(model: nn.Module, num_classes: int, *, hidden: Sequence[int] = (), dropout: float = 0.0) -> nn.Module:
    """Put a new, randomly initialised head for `num_classes` classes in place of the old one; changes and returns `model`.

    The new head takes as many values as the old one did, and returns logits of shape (batch, num_classes). For two
    classes take 2, or 1 for a single logit with the binary loss. It learns, even if the old one was frozen; device, dtype,
    mode, and whether there is a bias are as they were.

    Args:
        hidden: sizes of layers (each with ReLU, and dropout if it is not 0) in front of the last one: `(256, 128)`.
        dropout: probability of each dropout; 0 leaves them out.

    Raises:
        ValueError: if a size is not a positive whole number, dropout is not in 0 … 1, the head is not found (see
            `head_name`), or a new layer would not do what the old one does. The model is then as it was.
    """
    check_sizes(num_classes, hidden, dropout)
    found = find_head(model)
    check_replaceable(model, found.name)
    put = partial(put_head, name=found.name, num_classes=num_classes, hidden=hidden, dropout=dropout)
    if found.trial:
        check_outputs(found.trial, found, num_classes, put)
    return put(model)


def check_sizes(num_classes: int, hidden: Sequence[int], dropout: float) -> None:
    if not isinstance(hidden, Sequence):
        raise ValueError(f"hidden={hidden!r}; give the sizes of the layers in a tuple, such as (256, 128) or (256,)")
    for size in (num_classes, *hidden):
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(
                f"a layer needs a positive whole number of outputs, not {size!r}; give num_classes and hidden as such"
            )
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is a probability, not {dropout!r}; give a number from 0 to below 1")


def put_head(
    model: nn.Module, *, name: str, num_classes: int, hidden: Sequence[int], dropout: float, bias: bool | None = None
) -> nn.Module:
    """Put a new head where `name` stands, under each name that the old one has, and new auxiliary heads beside it."""
    old = model.get_submodule(name)
    head = build_head(old, num_classes, hidden, dropout, bias)
    for other, module in list(model.named_modules(remove_duplicate=False)):
        if module is old:
            model.set_submodule(other, head)
        elif other in AUXILIARY and isinstance(module, (nn.Linear, nn.Conv2d)):
            model.set_submodule(other, build_head(module, num_classes, (), 0.0))
    if "num_classes" in vars(model):
        model.num_classes = num_classes  # type: ignore[assignment]
    return model


def build_head(old: nn.Module, num_classes: int, hidden: Sequence[int], dropout: float, bias: bool | None = None) -> nn.Module:
    """A layer, or a stack of them, for what `old` takes in: linear, or a convolution if `old` is one; in its mode.

    Args:
        bias: whether the last layer has one; None means as in `old`.
    """
    layers_of_old = [module for module in old.modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    layer, further, size = layers_like(layers_of_old[0])
    bias = layers_of_old[-1].bias is not None if bias is None else bias
    layers: list[nn.Module] = [nn.Dropout(dropout)] if dropout and not hidden else []
    for width in hidden:
        layers += [layer(size, width), nn.ReLU(), *([nn.Dropout(dropout)] if dropout else [])]
        size, layer = width, further
    last = layer(size, num_classes, bias=bias)
    head = Head(*layers, last, hidden=hidden, dropout=dropout) if layers else last
    return head.train(old.training)


def layers_like(old: nn.Linear | nn.Conv2d) -> tuple[Callable[..., nn.Module], Callable[..., nn.Module], int]:
    """What builds a layer in place of `old`, what builds the layers behind that, and how many values `old` takes in."""
    where: dict[str, Any] = {"device": old.weight.device, "dtype": old.weight.dtype}
    if isinstance(old, nn.Linear):
        return partial(nn.Linear, **where), partial(nn.Linear, **where), old.in_features
    shape = {name: getattr(old, name) for name in ("kernel_size", "stride", "padding", "dilation", "padding_mode")}
    return partial(nn.Conv2d, **where, **shape), partial(nn.Conv2d, kernel_size=1, **where), old.in_channels


def check_replaceable(model: nn.Module, name: str) -> None:
    """Raises if a new layer would not do what the head of that name does, or something else holds the head's values."""
    head = model.get_submodule(name)
    own = {id(parameter) for parameter in head.parameters()}
    inside = {id(module) for module in head.modules()}
    for path, module in model.named_modules():
        tied = [key for key, value in module._parameters.items() if id(value) in own and id(module) not in inside]
        if tied:
            raise ValueError(
                f"the head {name!r} shares its values with '{path}.{tied[0]}', which a new head would not; {BY_HAND}"
            )
    if not isinstance(head, Head) and not is_plain(head):
        raise ValueError(
            f"the head {name!r} is a {type(head).__name__}, which computes more than a plain new layer would; {BY_HAND}"
        )


def is_plain(layer: nn.Module) -> bool:
    """Whether a layer computes what `nn.Linear` or `nn.Conv2d` computes with its weights; timm's classes for these do."""
    kind: Any = nn.Conv2d if isinstance(layer, nn.Conv2d) else nn.Linear
    if getattr(layer, "groups", 1) != 1:
        return False
    if type(layer).forward is kind.forward:
        return True
    copied: Any = copy_of(layer, without_values)
    size = (1, copied.in_channels, 64, 64) if kind is nn.Conv2d else (1, copied.in_features)
    with aside(torch.device("meta")):
        inputs = torch.empty(size, dtype=copied.weight.dtype)
        return steps_of(copied(inputs)) == steps_of(kind.forward(copied, inputs))


def steps_of(output: Tensor) -> list[str]:
    return sorted(node.name() for node in way_back(output, ()))


def check_outputs(trial: Trial, found: Found, num_classes: int, put: Callable[[nn.Module], nn.Module]) -> None:
    """Put the new head into the copy first, and raise if the outputs of the model do not become as many as it has."""
    before = trial.outputs[found.output]
    try:
        with aside(trial.images.device):
            wanted = before.numel() // outputs_of(trial.copied.get_submodule(found.name)) * num_classes
            after = tensors_in(put(trial.copied)(trial.images))[found.output]
            problem = "" if after.numel() == wanted else f"its output then has the shape {tuple(after.shape)}"
    except Exception as error:  # the model's own code may raise anything
        problem = f"it then stops with {type(error).__name__}: {first_line(error)}"
    if problem:
        raise ValueError(
            f"{type(trial.copied).__name__} takes no head of {num_classes} outputs in place of {found.name!r}: {problem} "
            f"({tuple(before.shape)} before, for an input {tuple(trial.images.shape)}); {BY_HAND}"
        )


def outputs_of(head: nn.Module) -> int:
    last: Any = head[-1] if isinstance(head, Head) else head
    return last.out_channels if isinstance(last, nn.Conv2d) else last.out_features


# ---- which layer makes the output


class Trial(NamedTuple):
    """What a copy of a model made of a small input."""

    copied: nn.Module
    images: Tensor
    outputs: dict[str, Tensor]  # by name or number; a single one is ""
    made_by: dict[Any, str]  # the nodes of autograd's graph that are outputs of layers, with the names of these


class Found(NamedTuple):
    """The head of a model."""

    name: str
    output: str = ""  # the output that it makes
    trial: Trial | None = None  # where steps follow it, so that its outputs may not be those of the model


class Made(NamedTuple):
    """From what an output was made: the last layers with weights, parameters that are in no such layer, and steps behind."""

    layers: list[str]
    parameters: list[str]
    steps: set[str]  # autograd's names: "View", "Mean", "Relu"


ACTIVATIONS = {"Relu", "Gelu", "Silu", "Hardswish", "LeakyRelu", "Elu", "Hardtanh", "Mish", "Softplus", "Tanh"}


def find_head(model: nn.Module) -> Found:
    if any(is_lazy(parameter) for parameter in model.parameters()):
        raise no_head(model, "some layers have no sizes yet", "run the model once on a batch of pictures, and try again")
    if next(model.parameters(), None) is None:
        raise no_head(model, "it has no weights")
    try:
        trial = try_out(model)
    except Exception as error:  # the model's own code may raise anything
        return Found(only_candidate(model, error))
    made = {name: made_from(output, trial) for name, output in trial.outputs.items()}
    made = {name: one for name, one in made.items() if name.rpartition(".")[2] == "logits"} or made
    reasons = {name: why_no_head(model, one) for name, one in made.items()}
    heads = {made[name].layers[0]: name for name, reason in reasons.items() if not reason}
    heads = {layer: name for layer, name in heads.items() if layer not in AUXILIARY}
    if len(heads) > 1:
        raise no_head(model, f"its outputs come from {len(heads)} heads, {quoted(heads)}")
    if not heads:
        reason = next(iter(reasons.values()))
        raise no_head(model, reason, ADD_ONE if "features" in reason else BY_HAND)
    ((layer, name),) = heads.items()
    ours = [path for path, module in model.named_modules() if isinstance(module, Head) and layer.startswith(f"{path}.")]
    return Found(ours[0] if ours else layer, name, trial if made[name].steps else None)


def made_from(output: Tensor, trial: Trial) -> Made:
    nodes = way_back(output, trial.made_by)
    layers = sorted({trial.made_by[node] for node in nodes if node in trial.made_by})
    names = {id(parameter): name for name, parameter in trial.copied.named_parameters()}
    leaves = [node.variable for node in nodes if hasattr(node, "variable")]
    steps = {node.name().partition("Backward")[0] for node in nodes if node not in trial.made_by}
    parameters = {names.get(id(leaf), "something outside"): True for leaf in leaves if leaf.numel() > 1}  # single ones scale
    return Made(layers, list(parameters), steps)


def way_back(output: Tensor, ends: Container) -> list[Any]:
    """The nodes of autograd's graph from `output` back to those in `ends`, these included."""
    nodes, queue = {}, [output.grad_fn]
    while queue:
        node: Any = queue.pop()
        if node is not None and node not in nodes:
            nodes[node] = True
            queue += [] if node in ends else [former for former, _ in node.next_functions]
    return list(nodes)


def why_no_head(model: nn.Module, made: Made) -> str:
    """Why what made an output is no head of the model, in words, or "" if it is one."""
    layers = {name: model.get_submodule(name) for name in made.layers}
    shown = ", ".join(f"{name!r} ({type(layer).__name__})" for name, layer in [*layers.items()][:4])
    passed = made.steps & ACTIVATIONS
    if made.parameters or not layers:
        direct = f"its output comes from {quoted(made.parameters)} directly, not through a layer"
        return direct if made.parameters else "no layer makes its output"
    (name, layer), *others = layers.items()
    if not name:
        return "it is a single layer"
    if isinstance(layer, nn.Conv2d) and name.startswith("classifier") and not others:
        return ""  # squeezenet's, for instance: a map for each class, with ReLU, whose average is the logit
    if passed or any("Norm" in type(layer).__name__ for layer in layers.values()):
        behind = f" through {', '.join(sorted(passed))}" if passed else ""
        return f"it ends in features, from {shown}{behind}, and has no head"
    if others:
        return f"its output comes from several layers together, {shown}"
    if isinstance(layer, nn.Conv2d) and set(layer.kernel_size) != {1}:
        return f"it ends in features, from {shown} with a kernel of {layer.kernel_size}, and has no head"
    return "" if isinstance(layer, (nn.Linear, nn.Conv2d)) else f"its output comes from {shown}, not from nn.Linear"


def only_candidate(model: nn.Module, error: Exception) -> str:
    """The one layer that could be the head, for a model that cannot be tried because of `error`."""
    modules = {name: module for name, module in model.named_modules() if name and name not in AUXILIARY}
    ours = [name for name, module in modules.items() if isinstance(module, Head)]
    linear = [name for name, module in modules.items() if isinstance(module, nn.Linear)]
    convolution = [n for n, module in modules.items() if isinstance(module, nn.Conv2d) and n.startswith("classifier")]
    candidates = ours or linear or convolution
    if len(candidates) == 1:
        return candidates[0]
    could = f"{len(candidates)} layers could be it ({quoted(candidates)})" if candidates else "it has no nn.Linear"
    told = f"{could}, and a trial on a small input did not show it ({type(error).__name__}: {first_line(error)})"
    raise no_head(model, told, f"name its size of pictures, model.image_size = (height, width), or {BY_HAND}") from error


ADD_ONE = "add one behind it: nn.Sequential(model, nn.Linear(512, num_classes)), with its number of features for 512"
BY_HAND = "put a layer of your own in its place: model.set_submodule(name, nn.Linear(512, num_classes))"


def no_head(model: nn.Module, reason: str, advice: str = BY_HAND) -> ValueError:
    return ValueError(f"no head was found in {type(model).__name__}: {reason}; {advice}")


def quoted(names: Iterable[str]) -> str:
    shown = [repr(name) for name in names]
    return ", ".join(shown[:4] + ["…"] * (len(shown) > 4))


def first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "no message")


# ---- a copy, tried


def try_out(model: nn.Module) -> Trial:
    """What a copy of `model` makes of a small input: without values, or with them if its code looks at values."""
    for name, module in model.named_modules():
        own = vars(module).get("forward")
        if isfunction(own) and "_orig_mod" not in module._modules:  # it may use the model itself, and not the copy
            raise ValueError(f"the forward of {name or 'the model'!r} was put there from outside")
    try:
        with aside(torch.device("meta")):
            return try_inputs(copy_of(model, without_values), torch.device("meta"))
    except Exception as error:
        tensors = [*model.parameters(), *model.buffers()]
        if "meta" not in str(error).lower() or any(tensor.is_meta for tensor in tensors):
            raise
    with aside(tensors[0].device):
        return try_inputs(copy_of(model, lambda tensor: tensor.detach().clone()), tensors[0].device)


@contextmanager
def aside(device: torch.device) -> Iterator[None]:
    """For trials of copies: with gradients, without warnings, new tensors on `device`, and no random numbers used up."""
    with preserve_rng_state(), torch.inference_mode(False), torch.enable_grad(), device, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def copy_of(model: nn.Module, convert: Callable[[Tensor], Tensor]) -> nn.Module:
    """A copy in evaluation mode whose tensors are what `convert` makes of the model's; without hooks, which do anything."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        hooks = [value for name, value in vars(module).items() if name.endswith("_hooks") and isinstance(value, dict)]
        memo |= {id(value): type(value)() for value in hooks}
        tensors = [value for value in (*vars(module).values(), *module._buffers.values()) if isinstance(value, Tensor)]
        memo |= {id(value): convert(value) for value in tensors if id(value) not in memo}
        parameters = [value for value in module._parameters.values() if value is not None and id(value) not in memo]
        memo |= {id(value): nn.Parameter(convert(value), value.is_floating_point()) for value in parameters}
    copied = copy.deepcopy(model, memo)
    for module in copied.modules():
        compiled: Any = module._modules.get("_orig_mod")
        if compiled is not None:  # `module` is what torch.compile has returned; a trial is not worth compiling
            module.forward = compiled.__call__
    copied.eval()
    return copied


def without_values(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, device="meta")


def try_inputs(model: nn.Module, device: torch.device) -> Trial:
    dtype = next((parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()), torch.float32)
    failures: list[Exception] = []
    for shape in input_shapes(model):
        try:
            return try_input(model, torch.rand(shape, dtype=dtype, device=device))
        except Exception as error:  # the model's own code objects to a size in any way
            failures.append(error)
            if "meta" in str(error).lower():
                raise
    raise failures[0]


def try_input(model: nn.Module, images: Tensor) -> Trial:
    made_by: dict[Any, str] = {}
    handles = [module.register_forward_hook(partial(note_output, made_by, name)) for name, module in layers_of(model)]
    try:
        outputs = {name: value for name, value in tensors_in(model(images)).items() if value.grad_fn is not None}
    finally:
        for handle in handles:
            handle.remove()
    if not outputs:
        raise ValueError("it returns no tensor that can be followed back")
    return Trial(model, images, outputs, made_by)


def layers_of(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules with parameters of their own and none further inside, parametrizations aside."""
    for name, module in model.named_modules():
        inside = [child for key, child in module.named_children() if key != "parametrizations"]
        if any(True for _ in module.parameters()) and not any(True for child in inside for _ in child.parameters()):
            yield name, module


def note_output(made_by: dict[Any, str], name: str, module: nn.Module, inputs: Any, output: Any) -> Any:
    if isinstance(output, Tensor):
        output = output.clone()  # steps that change it in place would hide where it came from
    made_by |= {value.grad_fn: name for value in tensors_in(output).values() if value.grad_fn is not None}
    return output


def tensors_in(output: Any, name: str = "") -> dict[str, Tensor]:
    """The tensors in what a model returns, by name or number, dotted if they lie deeper."""
    if isinstance(output, Tensor):
        return {name: output}
    if is_dataclass(output):
        output = {field.name: getattr(output, field.name) for field in fields(output)}
    elif hasattr(output, "_asdict"):
        output = output._asdict()
    elif isinstance(output, (list, tuple)):
        output = dict(enumerate(output))
    inner = output.items() if isinstance(output, Mapping) else ()
    return {path: value for key, one in inner for path, value in tensors_in(one, f"{name}.{key}".lstrip(".")).items()}


SIZES = (32, 64, 224, 299, 28, 48, 96, 112, 128, 160, 192, 240, 256, 384, 448, 512)


def input_shapes(model: nn.Module) -> Iterator[tuple[int, ...]]:
    """Shapes of inputs that the model may take, likely ones first: pictures, or plain vectors if it has no convolution."""
    modules = list(model.modules())
    channels = [module.in_channels for module in modules if isinstance(module, nn.Conv2d)][:1]
    if not channels:
        yield from ((2, module.in_features) for module in modules if isinstance(module, nn.Linear))
    named = [size for module in modules for size in named_sizes(module)]
    for height, width in dict.fromkeys([*named, *((size, size) for size in SIZES)]):
        yield from ((2, channel, height, width) for channel in dict.fromkeys([*channels, 3, 1]))


def named_sizes(module: nn.Module) -> Iterator[tuple[int, int]]:
    """The sizes of pictures that a module names, as torchvision's and timm's vision transformers do, and all of timm."""
    config = getattr(module, "default_cfg", None)
    given = [getattr(module, "image_size", None), getattr(module, "img_size", None)]
    for size in [*given, *([(config.get("input_size") or ())[-2:]] if isinstance(config, dict) else [])]:
        pair = (size, size) if isinstance(size, int) else size
        if isinstance(pair, (list, tuple)) and len(pair) == 2 and all(isinstance(side, int) for side in pair):
            yield pair[0], pair[1]


# ---------------------------------------------------------------------------------------------------- save and open


class Opened(NamedTuple):
    """A saved model with what is needed to use it."""

    model: nn.Module
    classes: tuple[str, ...]
    transform: nn.Module


def save_model(
    model: nn.Module, path: str | os.PathLike, *, architecture: str, classes: Sequence[str], transform: nn.Module
) -> Path:
    """Write weights, architecture, class names and the preparation of pictures into one safetensors file.

    The file is written whole or not at all, and only if what will be opened is this model: its layers, their settings, and
    its logits for one batch in evaluation mode are compared first. What is frozen is not kept. `model` is left as it is.

    Args:
        transform: what `weights.transforms()` returned.
        classes: a name for each output; two names for a single logit, the second is what a positive logit means.

    Raises:
        ValueError: if `model` is no `architecture` or was changed in a way that the file cannot hold (another eps or pooling,
            tied weights, hooks), or if the class names are not as many as its outputs, no strings, or not all different.
        OSError: if the disk is full or the folder may not be written; an older file of that name is still there.
    """
    path, model = Path(path), getattr(model, "_orig_mod", model)  # what torch.compile was given
    check_bare(model)
    head, options = describe_head(model), {name: getattr(model, name) for name in OPTIONS if hasattr(model, name)}
    card = {"architecture": architecture, "options": options, "classes": check_classes(classes, head["outputs"]), "head": head}
    card["transform"] = describe(transform)
    layout = torch.contiguous_format
    state = {name: value.detach().cpu().clone(memory_format=layout) for name, value in model.state_dict().items()}
    opened = skeleton(card)
    compare(state, opened.state_dict(), f"this model as a {architecture}")
    check_same(model, filled(opened, state), architecture)
    card["sha256"] = digest(state)
    try:
        return write_atomic(path, save(state, metadata={"course": json.dumps(card)}))
    except OSError as error:
        raise OSError(
            error.errno, f"{path} could not be written ({error.strerror}); free some space or choose another folder"
        ) from error


def open_model(path: str | os.PathLike) -> Opened:
    """Read what `save_model` wrote: the model in evaluation mode, its class names, its preparation of pictures.

    Nothing in the file is run: it is safetensors, not a pickle. All of the model learns, whatever was frozen.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is a pickled checkpoint, damaged, or not written by `save_model`.
    """
    path = Path(path)
    state, card = read(path)
    model = skeleton(card)
    compare(state, model.state_dict(), f"{path} as a {card['architecture']}")
    return Opened(filled(model, state), tuple(card["classes"]), rebuild(card["transform"]))


def filled(model: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    model.load_state_dict(state, assign=True)
    return model.requires_grad_(True).eval()


def read(path: Path) -> tuple[dict[str, Tensor], dict]:
    """The tensors of a file that `save_model` wrote, and what it says about them."""
    with path.open("rb") as file:
        start = file.read(4)
    try:
        with safe_open(path, framework="pt") as file:
            state, text = {name: file.get_tensor(name) for name in file.keys()}, (file.metadata() or {}).get("course")  # noqa: SIM118
    except SafetensorError as error:
        if start == b"PK\3\4" or start[:1] == b"\x80":  # a zip file as torch.save writes it, or a bare pickle
            raise ValueError(
                f"{path} is a pickled checkpoint, which may run code when opened; save the model with save_model instead"
            ) from None
        raise ValueError(f"{path} is damaged or was cut off ({error}); copy it again or save the model again") from error
    if text is None:
        raise ValueError(f"{path} holds tensors but not what they belong to; open files that save_model wrote")
    card = json.loads(text)
    if "sha256" in card and card["sha256"] != digest(state):  # files from before have none
        raise ValueError(f"{path} is damaged (its values are not those that were saved); copy it again or save the model again")
    return state, card


def digest(state: dict[str, Tensor]) -> str:
    """SHA-256 of all values, in the order of their names."""
    total = hashlib.sha256()
    for name in sorted(state):
        total.update(name.encode())
        total.update(state[name].contiguous().view(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


OPTIONS = ("aux_logits", "transform_input")  # of inception_v3 and googlenet; torchvision sets them for ImageNet weights


def skeleton(card: dict) -> nn.Module:
    """The network that `card` describes, without values."""
    get_weights(card["architecture"], None)  # a clear word for an unknown name
    with MetaInit():
        model = fresh(card["architecture"], **card["options"])
    head = card["head"]
    shape = {"hidden": tuple(head["hidden"]), "dropout": head["dropout"], "bias": head.get("bias", True)}
    return put_head(model, name=head_name(model), num_classes=head["outputs"], **shape)


def describe_head(model: nn.Module) -> dict:
    head = head_of(model)
    last: Any = head[-1] if isinstance(head, Head) else head
    shape = {"hidden": getattr(head, "hidden", ()), "dropout": getattr(head, "dropout", 0.0), "bias": last.bias is not None}
    return {"outputs": outputs_of(head), **shape}


REMEDY = "name the architecture of the model, and change its head only by replace_head"


def compare(state: dict[str, Tensor], wanted: dict[str, Tensor], what: str, remedy: str = REMEDY) -> None:
    given = {name: tuple(value.shape) for name, value in state.items()}
    needed = {name: tuple(value.shape) for name, value in wanted.items()}
    wrong = [name for name in {**needed, **given} if given.get(name) != needed.get(name)]
    if wrong:
        name = wrong[0]
        raise ValueError(
            f"{what} does not fit: {len(wrong)} tensors differ, such as {name!r}, {given.get(name, 'missing')} given and "
            f"{needed.get(name, 'none')} needed; {remedy}"
        )


# ---- what a file can hold


def check_classes(classes: Sequence[str], outputs: int) -> list[str]:
    if isinstance(classes, str) or not isinstance(classes, Sequence) or not all(isinstance(name, str) for name in classes):
        raise ValueError(f"classes={classes!r}; give the names as a list of strings, in the order of the outputs")
    if len(classes) != max(outputs, 2):
        raise ValueError(f"the model has {outputs} outputs, but {len(classes)} class names were given: {list(classes)}")
    twice = [name for name, count in Counter(classes).items() if count > 1]
    if twice:
        raise ValueError(f"each class needs a name of its own, but {quoted(twice)} is given more than once: {list(classes)}")
    return list(classes)


def check_bare(model: nn.Module) -> None:
    """Raises if something hangs on the model that a file of tensors cannot hold, or if it has no values."""
    for name, module in model.named_modules():
        where = repr(name) if name else "the model"
        if module._forward_hooks or module._forward_pre_hooks:
            raise ValueError(
                f"{where} has hooks, which a file cannot hold; take them off before saving, by remove() of what register_… "
                "returned, or of torch.nn.utils.prune for pruned layers"
            )
        if "forward" in vars(module):
            raise ValueError(f"{where} has a forward that was put there from outside, which a file cannot hold; `del` it first")
        if "parametrizations" in module._modules:
            raise ValueError(
                f"{where} has parametrizations, which a file cannot hold; take them off before saving, by "
                "torch.nn.utils.parametrize.remove_parametrizations"
            )
    check_tensors({**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers(remove_duplicate=False))})


def check_tensors(tensors: dict[str, Tensor]) -> None:
    names: dict[int, str] = {}
    for name, value in tensors.items():
        if value.is_meta:
            raise ValueError(f"{name!r} has a shape but no values (device meta); load weights into the model before saving it")
        first = names.setdefault(value.data_ptr(), name) if value.numel() else name
        if first != name:
            raise ValueError(
                f"{first!r} and {name!r} are one tensor (tied), and would be two after opening; give each its own first, such "
                f"as by copy.deepcopy of one layer"
            )


def check_same(model: nn.Module, opened: nn.Module, architecture: str) -> None:
    """Raises if `opened`, which has the values of `model`, has other layers, other settings or other logits."""
    what = first_difference(model, opened) or different_logits(model, opened)
    if what:
        raise ValueError(
            f"this model is not the {architecture} that would be opened: {what}; undo the change, or save model.state_dict() "
            "beside the code that builds your model"
        )


NOT_COMPARED = ("training", "inplace", "num_classes")  # these change no logits


def first_difference(model: nn.Module, opened: nn.Module) -> str:
    """The first layer or setting of `model` that `opened` has otherwise, in words, or ""."""
    ours, theirs = dict(model.named_modules()), dict(opened.named_modules())
    for name in {**theirs, **ours}:
        where, mine, other = repr(name) if name else "the model", ours.get(name), theirs.get(name)
        if mine is None or other is None or type(mine) is not type(other):
            kinds = [f"{type(part).__name__}({part.extra_repr()})" if part is not None else "nothing" for part in (mine, other)]
            return f"{where} is {kinds[0]} here and {kinds[1]} there"
        for key, value in vars(other).items():
            plain = isinstance(value, (bool, int, float, str, tuple, list, type(None)))
            if plain and key[0] != "_" and key not in NOT_COMPARED and vars(mine).get(key, "nothing") != value:
                return f"{where} has {key}={vars(mine).get(key, 'nothing')!r} here and {value!r} there"
        if mine._buffers.keys() != other._buffers.keys():
            return f"{where} has the buffers {list(mine._buffers)} here and {list(other._buffers)} there"
    return ""


def different_logits(model: nn.Module, opened: nn.Module) -> str:
    """By how much the logits of the two differ for one batch of noise, in words, or ""."""
    copied, failure = copy_of(model, lambda tensor: tensor.detach().cpu()), Exception()
    dtype = next(model.parameters()).dtype
    with aside(torch.device("cpu")), torch.no_grad():
        for shape in (shape for shape in input_shapes(copied) if min(shape[2:]) >= 64):  # smaller maps hide a pooling
            images = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
            try:
                logits = copied(images)
            except Exception as error:  # the model objects to a size in any way
                failure = error
                continue
            again, largest = opened(images), logits.nan_to_num(0, 0, 0).abs().max().item()
            same = torch.allclose(logits, again, rtol=0, atol=1e-5 * largest, equal_nan=True)
            return "" if same else f"its logits differ by {(logits - again).abs().max():.2g} for pictures of noise"
    return f"it could not be run for a comparison ({type(failure).__name__}: {first_line(failure)})"


PREPARATION = ("resize_size", "crop_size", "mean", "std", "interpolation", "antialias")


def describe(transform: nn.Module) -> dict:
    """The numbers of a preparation of pictures, if `rebuild` makes the same preparation of them."""
    try:
        values = {name: getattr(transform, name) for name in PREPARATION}
        values = json.loads(json.dumps(values | {"interpolation": values["interpolation"].value}))
        again = rebuild(values)
    except (AttributeError, TypeError, ValueError):
        again = None
    if again is None or attributes_of(again) != attributes_of(transform):
        raise ValueError(f"cannot save the preparation {transform!r}; give the one from weights.transforms(), as it was")
    return values


def rebuild(values: dict) -> nn.Module:
    transform = image_transform(size=1, resize=1, mean=values["mean"], std=values["std"])
    for name in PREPARATION:
        if name in values:  # files from before have no antialias
            setattr(transform, name, InterpolationMode(values[name]) if name == "interpolation" else values[name])
    return transform


def attributes_of(transform: nn.Module) -> dict[str, str]:
    """All that makes a preparation what it is; lists and tuples of numbers are the same."""
    values = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(transform).items()}
    return {name: repr(value) for name, value in values.items() if name != "training"} | {"class": repr(type(transform))}
