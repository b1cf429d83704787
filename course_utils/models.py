"""Models: load one, find its head, replace its head, save it and open it again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torchvision import models
from torchvision.transforms import InterpolationMode

from course_utils.files import write_atomic
from course_utils.weights import ShapesWeights, get_weights, image_transform, read_imagenet

# ------------------------------------------------------------------------------------------------------------ load


def load_model(architecture: str, *, weights: str | None = "shapes") -> nn.Module:
    """A torchvision network, in evaluation mode, with the weights made on "shapes" or "imagenet", or with fresh ones (None).

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
        return _fill(architecture, found.get_state_dict(), len(found.meta["categories"])).eval()
    read_imagenet(found)
    with SkipInit():
        return models.get_model(architecture, weights=found).eval()


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


def _fill(architecture: str, state: dict[str, Tensor], num_classes: int) -> nn.Module:
    """The network with `state` in it, and seeded initial values where `state` has none."""
    with MetaInit():
        model = fresh(architecture, num_classes=num_classes)
    model.load_state_dict(state, strict=False, assign=True)
    generator = torch.Generator().manual_seed(0)
    for layer in model.modules():
        if isinstance(layer, nn.Linear) and layer.weight.is_meta:  # as torchvision's VGG does it
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


AUXILIARY = ("AuxLogits.fc", "aux1.fc2", "aux2.fc2")  # inception_v3 and googlenet, which also classify from the middle


def head_name(model: nn.Module) -> str:
    """The dotted name of the layer that gives the logits: "fc", "classifier.6", "heads.head", …

    Raises:
        ValueError: if the model has no such layer.
    """
    modules = dict(model.named_modules())
    ours = [name for name, module in modules.items() if name and isinstance(module, Head)]
    linear = [name for name, m in modules.items() if name and isinstance(m, nn.Linear) and name not in AUXILIARY]
    convolution = [name for name, m in modules.items() if isinstance(m, nn.Conv2d) and name.startswith("classifier")]
    for names in (ours, linear, convolution):  # squeezenet's head is a 1×1 convolution
        if names:
            return names[-1]
    raise ValueError(
        f"{type(model).__name__} has no layer that looks like a head (nn.Linear, or a convolution in `classifier`)"
    )


def head_of(model: nn.Module) -> nn.Module:
    """The layer that gives the logits: `model.fc`, `model.classifier[6]`, …"""
    return model.get_submodule(head_name(model))


def replace_head(model: nn.Module, num_classes: int, *, hidden: Sequence[int] = (), dropout: float = 0.0) -> nn.Module:
    """Put a new, randomly initialised head for `num_classes` classes in place of the old one; changes and returns `model`.

    The new head takes as many values as the old one did, and returns logits of shape (batch, num_classes). For two
    classes take 2, or 1 for a single logit with the binary loss.

    Args:
        hidden: sizes of layers (each with ReLU, and dropout if it is not 0) in front of the last one: `(256, 128)`.
        dropout: probability of each dropout; 0 leaves them out.

    Raises:
        ValueError: if a size is not a positive whole number, or dropout is not in 0 … 1.
    """
    if not isinstance(hidden, Sequence):
        raise ValueError(f"hidden={hidden!r}; give the sizes of the layers in a tuple, such as (256, 128) or (256,)")
    for size in (num_classes, *hidden):
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(
                f"a layer needs a positive whole number of outputs, not {size!r}; give num_classes and hidden as such"
            )
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is a probability, not {dropout!r}; give a number from 0 to below 1")
    name = head_name(model)
    model.set_submodule(name, build_head(model.get_submodule(name), num_classes, hidden, dropout))
    for auxiliary in AUXILIARY:
        if auxiliary in dict(model.named_modules()):
            model.set_submodule(auxiliary, build_head(model.get_submodule(auxiliary), num_classes, (), 0.0))
    if hasattr(model, "num_classes"):
        model.num_classes = num_classes  # type: ignore[assignment]
    return model


def build_head(old: nn.Module, num_classes: int, hidden: Sequence[int], dropout: float) -> nn.Module:
    """A layer, or a stack of them, for what `old` takes in: linear, or a 1×1 convolution if `old` is one; in its mode."""
    first = next(module for module in old.modules() if isinstance(module, (nn.Linear, nn.Conv2d)))
    kind = partial(nn.Conv2d, kernel_size=1) if isinstance(first, nn.Conv2d) else nn.Linear
    layer: Callable[..., nn.Module] = partial(kind, device=first.weight.device, dtype=first.weight.dtype)
    size = first.in_channels if isinstance(first, nn.Conv2d) else first.in_features
    if not hidden and not dropout:
        return layer(size, num_classes).train(old.training)
    layers: list[nn.Module] = [] if hidden else [nn.Dropout(dropout)]
    for width in hidden:
        layers += [layer(size, width), nn.ReLU(), *([nn.Dropout(dropout)] if dropout else [])]
        size = width
    return Head(*layers, layer(size, num_classes), hidden=hidden, dropout=dropout).train(old.training)


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

    The file is written whole or not at all. `transform` is what `weights.transforms()` returned. A model with a single
    logit has two class names: the second is what a positive logit means.

    Raises:
        ValueError: if `model` is no `architecture`, or its outputs are not as many as the class names.
        OSError: if the disk is full or the folder may not be written; an older file of that name is still there.
    """
    path = Path(path)
    head, options = describe_head(model), {name: getattr(model, name) for name in OPTIONS if hasattr(model, name)}
    if len(classes) != max(head["outputs"], 2):
        raise ValueError(f"the model has {head['outputs']} outputs, but {len(classes)} class names were given: {list(classes)}")
    card = {"architecture": architecture, "options": options, "classes": list(classes), "head": head}
    card["transform"] = describe(transform)
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    compare(state, skeleton(card).state_dict(), f"this model as a {architecture}")
    try:
        return write_atomic(path, save(state, metadata={"course": json.dumps(card)}))
    except OSError as error:
        raise OSError(
            error.errno, f"{path} could not be written ({error.strerror}); free some space or choose another folder"
        ) from error


def open_model(path: str | os.PathLike) -> Opened:
    """Read what `save_model` wrote: the model in evaluation mode, its class names, its preparation of pictures.

    Nothing in the file is run: it is safetensors, not a pickle.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is a pickled checkpoint, damaged, or not written by `save_model`.
    """
    path = Path(path)
    state, card = read(path)
    model = skeleton(card)
    compare(state, model.state_dict(), f"{path} as a {card['architecture']}")
    model.load_state_dict(state, assign=True)
    return Opened(model.requires_grad_(True).eval(), tuple(card["classes"]), rebuild(card["transform"]))


def read(path: Path) -> tuple[dict[str, Tensor], dict]:
    """The tensors of a file that `save_model` wrote, and what it says about them."""
    with path.open("rb") as file:
        start = file.read(4)
    try:
        with safe_open(path, framework="pt") as file:
            state, card = {name: file.get_tensor(name) for name in file.keys()}, (file.metadata() or {}).get("course")  # noqa: SIM118
    except SafetensorError as error:
        if start == b"PK\3\4" or start[:1] == b"\x80":  # a zip file as torch.save writes it, or a bare pickle
            raise ValueError(
                f"{path} is a pickled checkpoint, which may run code when opened; save the model with save_model instead"
            ) from None
        raise ValueError(f"{path} is damaged or was cut off ({error}); copy it again or save the model again") from error
    if card is None:
        raise ValueError(f"{path} holds tensors but not what they belong to; open files that save_model wrote")
    return state, json.loads(card)


OPTIONS = ("aux_logits", "transform_input")  # of inception_v3 and googlenet; torchvision sets them for ImageNet weights


def skeleton(card: dict) -> nn.Module:
    """The network that `card` describes, without values."""
    get_weights(card["architecture"], None)  # a clear word for an unknown name
    head = card["head"]
    with MetaInit():
        model = fresh(card["architecture"], **card["options"])
        return replace_head(model, head["outputs"], hidden=tuple(head["hidden"]), dropout=head["dropout"])


def describe_head(model: nn.Module) -> dict:
    head = head_of(model)
    *_, last = head.modules()
    outputs = last.out_channels if isinstance(last, nn.Conv2d) else last.out_features
    return {"outputs": outputs, "hidden": getattr(head, "hidden", ()), "dropout": getattr(head, "dropout", 0.0)}


def compare(state: dict[str, Tensor], wanted: dict[str, Tensor], what: str) -> None:
    given = {name: tuple(value.shape) for name, value in state.items()}
    needed = {name: tuple(value.shape) for name, value in wanted.items()}
    wrong = [name for name in {**needed, **given} if given.get(name) != needed.get(name)]
    if wrong:
        name = wrong[0]
        raise ValueError(
            f"{what} does not fit: {len(wrong)} tensors differ, such as {name!r}, {given.get(name, 'missing')} given and "
            f"{needed.get(name, 'none')} needed; name the architecture of the model, and change its head only by replace_head"
        )


def describe(transform: nn.Module) -> dict:
    names = ("resize_size", "crop_size", "mean", "std", "interpolation")
    if not all(hasattr(transform, name) for name in names):
        raise ValueError(f"cannot save the preparation {transform!r}; give the one from weights.transforms()")
    values = {name: getattr(transform, name) for name in names}
    return values | {"interpolation": values["interpolation"].value}


def rebuild(values: dict) -> nn.Module:
    transform = image_transform(
        size=values["crop_size"][0], resize=values["resize_size"][0], mean=values["mean"], std=values["std"]
    )
    transform.interpolation = InterpolationMode(values["interpolation"])
    return transform
