"""Checks of lesson 01, load a pretrained model: a file that does not quite fit, and one picture, one answer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from course_utils.checks.spec import LOOK, Rng, beside, close, exercise, left_alone, look, moved
from course_utils.weights import get_weights
from course_utils.worlds import picture


@beside
def mixed(rng: Rng, model: nn.Module) -> nn.Module:
    """Each part in a mode of its own, and each parameter frozen or not."""
    for module in model.modules():
        module.training = rng.choice([True, False])
    for parameter in model.parameters():
        parameter.requires_grad = rng.choice([True, False])
    return model


# -------------------------------------------------------------------------------------------- 01.1 load_checkpoint


@beside
def network(rng: Rng, width: int, classes: int, nested: bool) -> nn.Module:
    """Random values, a part called `module`, one whose name begins as the head's; the head may be `nested`."""
    with rng.torch():
        model, head = nn.Sequential(), nn.Linear(7, classes)
        model.add_module("conv1", nn.Conv2d(3, width, 3))
        model.add_module("bn1", nn.BatchNorm2d(width))
        model.add_module("layer1", nn.Sequential(nn.Conv2d(width, 6, 1), nn.Dropout(0.2)))
        model.add_module("module", nn.Linear(6, 7))
        model.add_module("fc_norm", nn.BatchNorm1d(7))
        model.add_module("fc", nn.Sequential(nn.Dropout(0.2), head) if nested else head)
        for value in model.state_dict().values():
            value.normal_() if value.is_floating_point() else value.random_(1, 1000)
    return mixed(rng, model)


def files(rng: Rng) -> Iterator[dict[str, Any]]:
    """A network, and a file for it: with a stranger, whole or with another head, with parts missing or of another size."""
    kinds = ("whole", "other head", "wide head", "turned head", "nested", "no head", "missing", "missing late", "other width")
    for kind in kinds:
        width, classes, nested = rng.integer(3, 6), rng.integer(2, 5), kind == "nested"
        model = network(rng, width, classes, nested)
        others = classes + (kind in ("other head", "nested", "missing"))
        file = network(rng, width + (kind == "other width"), others, nested).state_dict() | {"aux.weight": torch.ones(2, 2)}
        if kind in ("wide head", "turned head"):
            file["fc.weight"] = file["fc.weight"].repeat(1, 2) if kind == "wide head" else file["fc.weight"].T
        gone = {"no head": "fc.", "missing": "bn1.running", "missing late": "fc_norm.running"}.get(kind, "none")
        state = {f"module.{name}": file[name] for name in rng.shuffled(list(file)) if not name.startswith(gone)}
        yield {"model": model, "state": state}


def ask_load(load_checkpoint: Any, case: dict) -> dict:
    model, state = case["model"], case["state"]
    before, returned, error = look(model), [], ""
    try:
        returned = load_checkpoint(model, state)
    except (ValueError, RuntimeError, KeyError) as raised:
        if isinstance(raised, NotImplementedError):
            raise
        error = f"{type(raised).__name__}: {raised}"
    tensors = {name: value.clone() for name, value in model.state_dict().items()}
    for value in model.state_dict().values():
        value.zero_()  # what training might do: does the file change, too?
    return {"returned": returned, "error": error, "tensors": tensors, "file": state, "before": before, "after": look(model)}


BARE = "only the first 'module.' comes off"


def rules_load(said: dict, case: dict) -> Iterator[str]:
    own, file = case["model"].state_dict(), case["state"]
    here = {name.removeprefix("module."): value for name, value in file.items()}
    fits = {name: here[name] for name in own if name in here and here[name].shape == own[name].shape}
    stays = sorted(own.keys() - fits.keys())
    strays = [name for name in stays if not name.startswith("fc.")]
    for name in moved(file, said["file"]):
        yield f"in the colleague's file {name!r} is gone, new, or changes with your model: leave it as it is, share no memory"
    if said["error"]:
        error, named = " ".join(said["error"].split())[:99], re.findall(r"\b\w+(?:\.\w+)+", said["error"])
        for name in fits:
            if name in named or f"module.{name}" in named:
                hint = "load it; 'fc_norm' is not inside 'fc'" if name.startswith("fc_norm") else BARE
                yield f"your error names {name!r}, which is in the file as 'module.{name}', in the right shape: {hint}"
        if not said["error"].startswith("ValueError") or not strays:
            these = strays or "none"
            yield f"it stopped ({error}); load what fits, and raise a ValueError only if names outside 'fc' stay, here {these}"
        if not any(name in said["error"] for name in strays):
            yield f"you raise, as you should; your message should say that {strays[0]!r} stays"
        return
    if strays:
        yield f"{strays[0]!r} is not in the file, or in another shape, and you let it pass: only names in 'fc.…' may stay"
    for name in moved(own | fits, said["tensors"]):
        held = f"what the file has as 'module.{name}': load all that fits, buffers and a head too; {BARE}"
        yield f"{name!r} should now hold {held if name in fits else 'what it held before: the file has none of its shape'}"
    if said["returned"] != stays:
        yield f"you return {said['returned']}; the names of your model that stay as they were built, sorted, are {stays}"
    yield from left_alone(said["before"], said["after"])


# --------------------------------------------------------------------------------------------------- 01.2 predict


@beside
def recipe(source: str) -> Any:
    """Weights without their tensors, which nobody needs here: the model is given."""
    found: Any = get_weights("resnet18", source)

    class Weights:
        meta, transforms = found.meta, found.transforms

        def get_state_dict(*_: Any, **__: Any) -> None:
            raise ValueError("the file is not needed: use the model that you are given")

    return Weights


@beside
def small_network(rng: Rng, outputs: int, modes: tuple[bool, ...]) -> nn.Module:
    """Batch norm with statistics of its own, dropout, and a head; the modes of the whole, of batch norm and of dropout."""
    with rng.torch():
        norm, drop, head = nn.BatchNorm2d(8), nn.Dropout(0.4), nn.Linear(8, outputs)
        first, pool = nn.Conv2d(3, 8, 5, stride=5), nn.AdaptiveAvgPool2d(1)
        model = mixed(rng, nn.Sequential(first, norm, nn.ReLU(), pool, nn.Flatten(), drop, head))
        norm.running_mean, norm.running_var = torch.randn(8) * 0.5, torch.rand(8) * 0.4 + 0.2
        head.weight.data.normal_(0, 2)
    model.training, norm.training, drop.training = modes
    return model


def situations(rng: Rng) -> Iterator[dict[str, Any]]:
    """A network of mixed modes, weights that know the preparation and the names, and a picture; the first as on the page."""
    kinds, sources = ["RGB", *rng.shuffled(["L", "RGBA", "P"])], ["shapes", *rng.shuffled(["shapes", "imagenet", "imagenet"])]
    modes = rng.shuffled([(True, True, True), (True, False, True), (False, True, False), (False, False, True)])
    for kind, source, mode in zip(kinds, sources, modes, strict=True):
        weights = recipe(source)
        image = picture("things", rng.choice(["car", "fish", "house"]), seed=rng.integer(0, 10**6))
        image = image.resize((rng.integer(60, 220), rng.integer(60, 90))).convert(kind)
        yield {"model": small_network(rng, len(weights.meta["categories"]), mode), "weights": weights, "image": image}


def ask_predict(predict: Any, case: dict) -> dict:
    model, weights, image = case["model"], case["weights"], case["image"]
    saw, gave = [], []
    model[0].register_forward_pre_hook(lambda layer, inputs: saw.append(inputs[0].detach().clone()))
    model[-1].register_forward_hook(lambda layer, inputs, output: gave.append(output.detach().clone()))
    before = look(model)
    try:
        returned = predict(model, weights, image)
    except Exception as error:
        if image.mode != "RGB":
            kind = {"L": "one channel", "P": "a palette"}.get(image.mode, "four channels")
            names = f"these weights have {len(weights.meta['categories'])} names, take those"
            error.args = (names if isinstance(error, LookupError) else f"the picture has {kind}, the network wants three",)
        raise
    return {"returned": returned, "saw": saw, "gave": gave, "before": before, "after": look(model)}


def rules_predict(said: dict, case: dict) -> Iterator[str]:
    (name, value), weights, names = said["returned"], case["weights"], case["weights"].meta["categories"]
    if not said["saw"]:
        yield "the model was never called"
    saw, batch = said["saw"][-1], weights.transforms()(case["image"].convert("RGB"))[None]
    if not close(saw, batch, 0.02):  # resizing a tensor rounds otherwise than resizing a picture
        found, asked = (f"shape {list(one.shape)}, mean {one.float().mean():.2f}" for one in (saw, batch))
        if found == asked:
            asked += f", but pixels differ by {(saw - batch).abs().max():.2f}: hand weights.transforms() the picture itself"
        yield f"the network saw {found}; prepared by the weights that you are given, this picture has {asked}"
    with torch.no_grad():
        logits = case["model"].eval()(saw)
    shares = logits.softmax(1)[0]
    right, best = shares.max(), names[int(shares.argmax())]
    if name != best or not abs(value - right) < 1e-4:
        if not (said["gave"] and close(said["gave"][-1], logits, 1e-3)):
            yield f"same picture, same weights: you say {value:.4f}, in evaluation mode {right:.4f}. Which parts were in it?"
        theirs = [share for other, share in zip(names, shares, strict=True) if other == name]
        if not theirs or any(abs(value - share) < 1e-4 for share in (right, *theirs)):
            yield f"you name {name!r}; the highest score is that of {best!r}: outputs and the weights' names have one order"
        yield f"the scores are right, and give {right:.6g}, not {value:.6g}: softmax once, over the classes (dim=1), unrounded"
    yield from left_alone(said["before"], said["after"])


LOADED = {"returned": [str], "error": str, "tensors": {str: Tensor}, "file": {str: Tensor}, "before": LOOK, "after": LOOK}
ASKED = {"returned": (str, float), "saw": [Tensor], "gave": [Tensor], "before": LOOK, "after": LOOK}
CHECKS = [
    exercise("01.1", "load_checkpoint", "a file that does not quite fit", files, ask_load, rules_load, seen=LOADED, points=3),
    exercise("01.2", "predict", "one picture, one answer", situations, ask_predict, rules_predict, seen=ASKED, points=3),
]
