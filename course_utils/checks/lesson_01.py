"""Checks of lesson 01, load a pretrained model: a file that does not quite fit, and one picture, one answer."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from course_utils.checks.spec import LOOK, Rng, beside, close, exercise, fit, left_alone, look, mismatch, same
from course_utils.weights import get_weights
from course_utils.worlds import picture

# -------------------------------------------------------------------------------------------- 01.1 load_checkpoint


@beside
def network(rng: Rng, width: int, classes: int, *, nested: bool = False) -> nn.Module:
    """Random values, mixed modes, a part called `module`, one whose name begins as the head's; the head may be `nested`."""
    with rng.torch():
        model = nn.Sequential()
        model.add_module("conv1", nn.Conv2d(3, width, 3))
        model.add_module("bn1", nn.BatchNorm2d(width))
        model.add_module("layer1", nn.Sequential(nn.Conv2d(width, 6, 1), nn.Dropout(0.2)))
        model.add_module("module", nn.Linear(6, 7))
        model.add_module("fc_norm", nn.BatchNorm1d(7))
        model.add_module("fc", nn.Sequential(nn.Dropout(0.2), nn.Linear(7, classes)) if nested else nn.Linear(7, classes))
        for value in model.state_dict().values():
            value.normal_() if value.is_floating_point() else value.random_(1, 1000)
    for module in model.modules():
        module.training = rng.choice([True, False])
    for parameter in model.parameters():
        parameter.requires_grad = rng.choice([True, False])
    return model


def files(rng: Rng) -> Iterator[dict[str, Any]]:
    """A network, and a file for it: whole, with other heads, with a stranger, with parts missing or of another size."""
    kinds = ("whole", "other head", "wide head", "turned head", "nested", "no head", "missing", "missing late", "other width")
    for kind in kinds:
        width, classes, nested = rng.integer(3, 6), rng.integer(2, 5), kind == "nested"
        others = classes + (rng.integer(1, 4) if kind in ("other head", "nested", "missing") else 0)
        model = network(rng, width, classes, nested=nested)
        file = network(rng, width + (kind == "other width"), others, nested=nested).state_dict()
        if kind in ("wide head", "turned head"):
            file["fc.weight"] = file["fc.weight"].repeat(1, 2) if kind == "wide head" else file["fc.weight"].T.contiguous()
        gone = {"no head": "fc.", "missing": "bn1.running", "missing late": "fc_norm.running"}.get(kind, "none")
        state = {f"module.{name}": file[name] for name in rng.shuffled(list(file)) if not name.startswith(gone)}
        if nested:
            state["module.aux.weight"] = torch.ones(2, 2)
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
    tensors = {name: value.detach().clone() for name, value in model.state_dict().items()}
    for value in model.state_dict().values():
        value.zero_()  # what training might do: does the file change, too?
    found = {"returned": returned, "error": error, "tensors": tensors, "file": dict(state)}
    return found | {"before": before, "after": look(model)}


def rules_load(said: dict, case: dict) -> Iterator[str]:
    own, file = case["model"].state_dict(), case["state"]
    here = {name.removeprefix("module."): value for name, value in file.items()}
    stays = sorted(name for name in own if name not in here or here[name].shape != own[name].shape)
    strays = [name for name in stays if not name.startswith("fc.")]
    fine = [name for name in own if name not in stays]
    stands = [name for name in own if name in said["tensors"] and same(said["tensors"][name], own[name])]
    if gone := [name for name in file if name not in said["file"]]:
        yield f"the colleague's dictionary came back without {gone[0]!r}; work on one of your own"
    if changed := [name for name in file if not same(said["file"][name], file[name])]:
        yield f"if your model changes, {changed[0]!r} in the colleague's file changes too: they share memory"
    if (one := re.fullmatch(r"KeyError: '([\w.]+)'", said["error"])) and one[1] not in strays:
        yield f"it stopped with {one[0]}: the file may lack a head of that name, and have tensors that your model lacks"
    if not said["error"].startswith("ValueError") and said["error"]:
        found = re.search(r'size mismatch for \S+(?=:)|(Missing|Unexpected) key\(s\) in state_dict: "\S+"', said["error"])
        stopped = f"load_state_dict stopped, {found[0]}: load what fits" if found else said["error"].splitlines()[0]
        yield stopped if found else f"it stopped ({stopped[:70]}); only a ValueError is asked, for names outside 'fc' that stay"
    if said["error"]:
        lost = [name for name in fine if {name, f"module.{name}"} & set(re.findall(r"\w+(?:\.\w+)+", said["error"]))]
        yield from wrong_names(lost)
        if lost:
            yield f"your error names {lost[0]!r}, which is in the file as 'module.{lost[0]}', in the right shape"
        if not strays:
            yield f"you raise ({said['error'][:50].splitlines()[0]}), although all outside 'fc' can be loaded; a head may stay"
        if not any(name in said["error"] for name in strays):
            yield f"you raise, as you should; your message should say that {strays[0]!r} stays"
        return
    if len(stands) == len(own):
        yield "nothing was loaded, and nothing complained: does a call load, and does it get the names of your model?"
    late = [name for name in stands if name not in stays]
    yield from wrong_names(late)
    if strays:
        why = "it begins as 'fc' does, and is not inside it" if strays[0].startswith("fc") else "it is not inside 'fc'"
        yield f"{strays[0]!r} is not in the file, or has another shape there, and you let it pass: {why}"
    yield from wrong_tensors(late, said["tensors"], own, here)
    if said["returned"] != stays:
        yield from wrong_return(said["returned"], stays, fine)
    yield from left_alone(said["before"], said["after"])


def wrong_names(lost: list[str]) -> Iterator[str]:
    if lost and not any(name == f"module.{name}".replace("module.", "") for name in lost):
        yield f"'module.{lost[0]}' of the file did not find {lost[0]!r}: more than the first 'module.' was taken off"
    if lost and not any(name == f"module.{name}".lstrip("module.") for name in lost):
        yield f"'module.{lost[0]}' of the file did not find {lost[0]!r}: `lstrip` takes off single letters, not a word"


def wrong_tensors(late: list[str], tensors: dict, own: dict, here: dict) -> Iterator[str]:
    if late and all(name.startswith("fc.") for name in late):
        yield f"the file's head is made for as many classes as yours, and {late[0]!r} still has its old values"
    buffers = [name for name in late if "running" in name or "tracked" in name]
    if buffers and len(buffers) == len(late):
        yield f"all parameters were loaded, {buffers[0]!r} was not: a buffer belongs to the file, too"
    for name, value in own.items():
        fits = name in here and here[name].shape == value.shape
        if name not in tensors or not same(tensors[name], here[name] if fits else value):
            yield f"{name!r} should now hold {'what the file has' if fits else 'what it held before'}, and does not"


def wrong_return(returned: list[str], stays: list[str], fine: list[str]) -> Iterator[str]:
    if returned and set(returned) <= set(fine):
        yield f"you return {returned[0]!r} and others, which were loaded; asked are the names that stay"
    if any(f"module.{name}" in returned for name in stays):
        yield f"you return names such as {returned[0]!r}; give them as your model has them"
    strange = sorted(set(returned) ^ set(stays))
    what = f"look again at {strange[0]!r}: does it stay as it was built?" if strange else "each name once, and sorted"
    yield f"you return {returned}; {what}"


# --------------------------------------------------------------------------------------------------- 01.2 predict


@beside
def recipe(source: str) -> Any:
    """Weights without their tensors, which nobody needs here: the model is given."""

    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("the file is not needed: use the model that you are given")

    weights: Any = get_weights("resnet18", source)
    said = {"meta": weights.meta, "transforms": staticmethod(weights.transforms), "get_state_dict": staticmethod(refuse)}
    return type("Weights", (), said)()


@beside
def small_network(rng: Rng, outputs: int, modes: tuple[bool, ...]) -> nn.Module:
    """Batch norm with statistics of its own, dropout, and a head; the modes of the whole, of batch norm and of dropout."""
    with rng.torch():
        norm, drop, head = nn.BatchNorm2d(8), nn.Dropout(0.4), nn.Linear(8, outputs)
        first = nn.Conv2d(3, 8, 5, stride=5).requires_grad_(False)
        model = nn.Sequential(first, norm, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), drop, head)
        norm.running_mean, norm.running_var = torch.randn(8) * 0.5, torch.rand(8) * 0.4 + 0.2
        head.weight.data.normal_(0, 2)
    for module, training in zip((model.train(modes[0]), norm, drop), modes, strict=True):
        module.training = training
    return model


def situations(rng: Rng) -> Iterator[dict[str, Any]]:
    """A network of mixed modes, weights that know the preparation and the names, and a picture, a colour one first."""
    kinds = ["RGB", *rng.shuffled(["L", "RGBA", "P"])]
    modes = rng.shuffled([(True, True, True), (True, False, True), (False, True, False), (False, False, True)])
    for kind, mode, source in zip(kinds, modes, rng.shuffled(["shapes", "imagenet"] * 2), strict=True):
        weights = recipe(source)
        image = picture("things", rng.choice(["car", "fish", "house"]), seed=rng.integer(0, 10**6))
        image = image.resize((rng.integer(60, 220), rng.integer(60, 90))).convert(kind)
        model = small_network(rng, len(weights.meta["categories"]), mode)
        yield {"model": model, "weights": weights, "image": image}


def ask_predict(predict: Any, case: dict) -> dict:
    model, image = case["model"], case["image"]
    seen: dict[str, list[Tensor]] = {"saw": [], "gave": []}
    model[0].register_forward_pre_hook(lambda layer, inputs: seen["saw"].append(inputs[0].detach().clone()))
    model[-1].register_forward_hook(lambda layer, inputs, output: seen["gave"].append(output.detach().clone()))
    before, returned, trouble = look(model), ("", 0.0), ""
    try:
        returned = predict(model, case["weights"], image)
    except Exception as error:
        trouble = "names" if str(error) == "list index out of range" else type(error).__name__
        if isinstance(error, NotImplementedError) or (image.mode == "RGB" and trouble != "names"):
            raise
    return {"returned": returned, "trouble": trouble, **seen, "before": before, "after": look(model)}


def rules_predict(said: dict, case: dict) -> Iterator[str]:
    weights, image = case["weights"], case["image"]
    if said["trouble"] == "names":
        yield "a list of names was too short: `names` and `ask` are the page's; the weights that you are given have their own"
    if said["trouble"]:
        yield f"{KINDS[image.mode]} stopped it ({said['trouble']}): the network takes three channels, red, green and blue"
    if not said["saw"]:
        yield "the model was never called"
    batch = weights.transforms()(image.convert("RGB"))[None]
    yield from wrong_input(said["saw"][-1], batch, weights)
    if why := mismatch(said["returned"], NAMED, "what you return"):
        yield f"{why}; asked are the name of the class and its probability, in this order"
        return
    yield from wrong_answer(fit(said["returned"], NAMED), case["model"], said["saw"][-1], said["gave"][-1:], weights)
    yield from left_alone(said["before"], said["after"])


KINDS = {"L": "a grey picture", "RGBA": "a picture with transparency", "P": "a picture with a palette"}
NAMED = (str | int, float)


def wrong_input(saw: Tensor, batch: Tensor, weights: Any) -> Iterator[str]:
    if saw.shape != batch.shape:
        yield f"the network saw a tensor of shape {list(saw.shape)}; prepared for these weights it has {list(batch.shape)}"
    if close(saw, batch, 0.02):  # resizing a tensor rounds otherwise than resizing a picture
        return
    mean, std = (torch.tensor(getattr(weights.transforms(), what)).view(3, 1, 1) for what in ("mean", "std"))
    for other in ("imagenet", "shapes"):
        theirs, spread = (torch.tensor(getattr(recipe(other).transforms(), what)).view(3, 1, 1) for what in ("mean", "std"))
        if close(saw, (batch * std + mean - theirs) / spread, 0.02):
            yield f"this mean and deviation belong to the weights made on {other}; those that you are given bring their own"
    yield f"the network saw values with mean {saw.mean():.2f}; prepared for these weights, this picture has {batch.mean():.2f}"


@torch.no_grad()
def wrong_answer(said: list, model: nn.Module, batch: Tensor, gave: list[Tensor], weights: Any) -> Iterator[str]:
    (name, value), names = said, list(weights.meta["categories"])
    logits = copy.deepcopy(model).eval()(batch)[0]
    right, place = logits.softmax(0).max(0)
    if not isinstance(name, str):
        yield f"{name} is the number of a class; asked is its name, which the weights object knows"
    if name not in names:
        yield f"{name!r} is no class name of these weights; they have {len(names)}, such as {names[0]!r}"
    if not 0 <= value <= 1 or abs(value - logits.max()) < 1e-4:
        yield f"{value:.1f} is a logit or a percentage; a probability lies between 0 and 1, and all of them add up to 1"
    if value > 0.9999 > right:
        yield "1.00, always: along which dimension do your probabilities add up to 1? The row of a picture has all its classes"
    if abs(value - logits.softmax(0)[names.index(name)]) < 1e-4 and not abs(value - right) < 1e-4:
        yield f"{name!r} has {value:.3f}; another class has a higher probability"
    if abs(value - right) < 1e-4 and name != names[int(place)]:
        yield f"{value:.2f} is right, and it is that of {names[int(place)]!r}: outputs and names have one order"
    if not abs(value - right) < 1e-4 and not (gave and close(gave[0], logits[None], 1e-3)):
        yield f"same picture, same weights: you say {value:.2f}, in evaluation mode it is {right:.2f}. Which parts were in it?"
    if not abs(value - right) < 1e-4:
        why = "it looks rounded" if abs(value - right) < 0.01 else "was softmax applied once, and over the classes?"
        yield f"the scores are right, the probability is not: you say {value:.6g}, they give {right:.6g}; {why}"


LOADED = {"returned": [str], "error": str, "tensors": {str: Tensor}, "file": {str: Tensor}, "before": LOOK, "after": LOOK}
ASKED = {"returned": Any, "trouble": str, "saw": [Tensor], "gave": [Tensor], "before": LOOK, "after": LOOK}
CHECKS = [
    exercise("01.1", "load_checkpoint", "a file that does not quite fit", files, ask_load, rules_load, seen=LOADED, points=3),
    exercise("01.2", "predict", "one picture, one answer", situations, ask_predict, rules_predict, seen=ASKED, points=3),
]
