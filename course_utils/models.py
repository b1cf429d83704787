"""Models: load one, save it and open it again."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from functools import cache
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
from course_utils.heads import Head, converted, first_line, head_name, head_of, outputs_of, put_head, quoted
from course_utils.profiles import restored
from course_utils.trial import aside, input_shapes
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
    compare(state, wanted, f"the file of weights for {architecture}", restored("data/weights"))
    model.load_state_dict(state, strict=False, assign=True)
    generator = torch.Generator().manual_seed(0)
    for layer in absent.values():  # as torchvision's VGG does it
        layer.to_empty(device="cpu")
        nn.init.normal_(layer.weight, 0, 0.01, generator=generator)
        nn.init.zeros_(layer.bias)
    return model.requires_grad_(True)


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
    copied, failure = converted(model, lambda tensor: tensor.detach().cpu()), Exception()
    dtype = next(model.parameters()).dtype
    with aside(torch.device("cpu")), torch.no_grad():
        for shape in (s for s in input_shapes(copied) if min(s[1:], default=64) >= 64):  # smaller maps hide a pooling
            images = torch.randn((2, *shape), generator=torch.Generator().manual_seed(0)).to(dtype)
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
