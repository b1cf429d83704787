"""Models: load one, find its head, replace its head, save it and open it again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torchvision import models
from torchvision.transforms import InterpolationMode

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
        return models.get_model(architecture, weights=None).eval()
    if isinstance(found, ShapesWeights):
        return _fill(architecture, found.get_state_dict(), len(found.meta["categories"])).eval()
    read_imagenet(found)
    return models.get_model(architecture, weights=found).eval()


def _fill(architecture: str, state: dict[str, Tensor], num_classes: int) -> nn.Module:
    """The network with `state` in it, built without drawing random numbers that would be thrown away."""
    with torch.device("meta"):
        model = models.get_model(architecture, weights=None, num_classes=num_classes)
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
    ours = [name for name, module in modules.items() if isinstance(module, Head)]
    linear = [name for name, module in modules.items() if isinstance(module, nn.Linear) and name not in AUXILIARY]
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
        hidden: sizes of layers (each with ReLU and dropout) in front of the last one: `(256, 128)`.
        dropout: probability of each dropout; 0 leaves them out.

    Raises:
        ValueError: if a size is not a positive whole number, or dropout is not in 0 … 1.
    """
    for size in (num_classes, *hidden):
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(
                f"a layer needs a positive whole number of outputs, not {size!r}; give num_classes and hidden as such"
            )
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is a probability, not {dropout!r}; give a number from 0 to below 1")
    name = head_name(model)
    place(model, name, build_head(model.get_submodule(name), num_classes, hidden, dropout))
    for auxiliary in AUXILIARY:
        if auxiliary in dict(model.named_modules()):
            place(model, auxiliary, build_head(model.get_submodule(auxiliary), num_classes, (), 0.0))
    if hasattr(model, "num_classes"):
        model.num_classes = num_classes
    return model


def place(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)


def build_head(old: nn.Module, num_classes: int, hidden: Sequence[int], dropout: float) -> nn.Module:
    """A layer, or a stack of them, for what `old` takes in: linear, or a 1×1 convolution if `old` is one."""
    first = next(module for module in old.modules() if isinstance(module, (nn.Linear, nn.Conv2d)))
    where = {"device": first.weight.device, "dtype": first.weight.dtype}
    layer: Callable[..., nn.Module] = partial(nn.Linear, **where)
    if isinstance(first, nn.Conv2d):
        layer = partial(nn.Conv2d, kernel_size=1, **where)
    size = first.in_channels if isinstance(first, nn.Conv2d) else first.in_features
    if not hidden and not dropout:
        return layer(size, num_classes)
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [layer(size, width), nn.ReLU(), nn.Dropout(dropout)]
        size = width
    if not hidden:
        layers = [nn.Dropout(dropout)]
    return Head(*layers, layer(size, num_classes), hidden=hidden, dropout=dropout)


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

    The file is written whole or not at all. `transform` is what `weights.transforms()` returned.

    Raises:
        ValueError: if `model` is no `architecture`, or its outputs are not as many as the class names.
        OSError: if the disk is full or the folder may not be written; an older file of that name is still there.
    """
    path = Path(path)
    head = head_of(model)
    shape = {"hidden": getattr(head, "hidden", ()), "dropout": getattr(head, "dropout", 0.0)}
    card = {"architecture": architecture, "classes": list(classes), "head": shape, "transform": describe(transform)}
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    compare(state, skeleton(card).state_dict(), f"this model as a {architecture} with {len(classes)} classes")
    draft = path.with_name(path.name + ".part")
    try:
        draft.write_bytes(save(state, metadata={"course": json.dumps(card)}))
        os.replace(draft, path)
    except OSError as error:
        raise OSError(
            error.errno, f"{path} could not be written ({error.strerror}); free some space or choose another folder"
        ) from error
    finally:
        draft.unlink(missing_ok=True)
    return path


def open_model(path: str | os.PathLike) -> Opened:
    """Read what `save_model` wrote: the model in evaluation mode, its class names, its preparation of pictures.

    Nothing in the file is run: it is safetensors, not a pickle.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is a pickled checkpoint, damaged, or not written by `save_model`.
    """
    path = Path(path)
    with path.open("rb") as file:
        start = file.read(4)
    if start[:2] in (b"PK", b"\x80\x02", b"\x80\x04"):
        raise ValueError(
            f"{path} is a pickled checkpoint, which may run code when opened; save the model with save_model instead"
        )
    try:
        with safe_open(path, framework="pt") as file:
            state, card = {name: file.get_tensor(name) for name in file.keys()}, (file.metadata() or {}).get("course")  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or was cut off ({error}); copy it again or save the model again") from error
    if card is None:
        raise ValueError(f"{path} holds tensors but not what they belong to; open files that save_model wrote")
    known = json.loads(card)
    model = skeleton(known)
    compare(state, model.state_dict(), f"{path} as a {known['architecture']}")
    model.load_state_dict(state, assign=True)
    return Opened(model.requires_grad_(True).eval(), tuple(known["classes"]), rebuild(known["transform"]))


def skeleton(card: dict) -> nn.Module:
    """The network that `card` describes, without values."""
    get_weights(card["architecture"], None)  # a clear word for an unknown name
    with torch.device("meta"):
        model = models.get_model(card["architecture"], weights=None)
        head = card["head"]
        return replace_head(model, len(card["classes"]), hidden=tuple(head["hidden"]), dropout=head["dropout"])


def compare(state: dict[str, Tensor], wanted: dict[str, Tensor], what: str) -> None:
    given = {name: tuple(value.shape) for name, value in state.items()}
    needed = {name: tuple(value.shape) for name, value in wanted.items()}
    wrong = [name for name in {**needed, **given} if given.get(name) != needed.get(name)]
    if wrong:
        name = wrong[0]
        raise ValueError(
            f"{what} does not fit: {len(wrong)} tensors differ, such as {name!r}, {given.get(name, 'missing')} given and "
            f"{needed.get(name, 'none')} needed; name the architecture the model was loaded with and all its classes"
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
