"""Heads: which layer of a model makes its output, and another one in its place."""

from __future__ import annotations

import copy
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from inspect import isfunction
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from course_utils.trial import aside, input_shapes


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
    copied: Any = converted(layer, without_values)
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
            return try_inputs(converted(model, without_values), torch.device("meta"))
    except Exception as error:
        tensors = [*model.parameters(), *model.buffers()]
        if "meta" not in str(error).lower() or any(tensor.is_meta for tensor in tensors):
            raise
    with aside(tensors[0].device):
        return try_inputs(converted(model, lambda tensor: tensor.detach().clone()), tensors[0].device)


def converted(model: nn.Module, convert: Callable[[Tensor], Tensor]) -> nn.Module:
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
            return try_input(model, torch.rand((2, *shape), dtype=dtype, device=device))
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
