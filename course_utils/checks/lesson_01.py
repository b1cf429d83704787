"""Checks of lesson 01, load a pretrained model: counting its values, and asking it about one picture."""

from __future__ import annotations

import copy
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import models

from course_utils import prediction
from course_utils.checks.spec import Check, Result, Rng, beside, close, failed, passed
from course_utils.finetune import eval_mode
from course_utils.weights import get_weights
from course_utils.worlds import picture

# ------------------------------------------------------------------------------------------- 01.1 count_parameters


@beside
def small_model(rng: Rng) -> nn.Sequential:
    """A body in which one layer stands in two places, and a head."""
    layer = nn.Conv2d(rng.integer(3, 9), rng.integer(3, 9), 3)
    model = nn.Sequential()
    model.add_module("body", nn.Sequential(layer, nn.BatchNorm2d(layer.out_channels), layer))
    model.add_module("head", nn.Linear(layer.out_channels, rng.integer(2, 9)))
    return model


@beside
def models_to_count(rng: Rng) -> dict[str, nn.Module]:
    """A ResNet-18, a VGG16, a small model, and another one with its body frozen; their structure only, without memory."""
    with torch.device("meta"):
        found = {"resnet18": models.resnet18(), "vgg16": models.vgg16(), "small": small_model(rng), "frozen": small_model(rng)}
    found["frozen"].body.requires_grad_(False)
    return found


def probe_count(count_parameters: Any, rng: Rng) -> dict:
    return {name: count_parameters(model) for name, model in models_to_count(rng).items()}


def judge_count(data: dict, rng: Rng) -> Result:
    for name, model in models_to_count(rng).items():
        title = TITLES.get(name, name)
        for look in (wrong_blocks, wrong_total, wrong_split):
            why = look(data[name], model, title)
            if why:
                return failed(why)
    return passed()


TITLES = {"small": "a small model", "frozen": "a small model with a frozen body"}


def values_in(block: nn.Module) -> list[int]:
    """All values of `block`, and those that learn."""
    return [sum(p.numel() for p in block.parameters() if p.requires_grad or not only) for only in (False, True)]


def wrong_blocks(counts: dict, model: nn.Module, title: str) -> str | None:
    blocks = dict(model.named_children())
    missing = [block for block in blocks if block not in counts and any(values_in(blocks[block]))]
    strange = [block for block in counts if block not in blocks]
    if strange or missing:
        what = f"{strange[0]!r} is none of its blocks" if strange else f"there is no entry for {missing[0]!r}"
        return f"{title}: {what}; asked is one entry for each of {list(blocks)}"
    short = [block for block, pair in counts.items() if len(pair) != 2]
    return f"{title}, {short[0]}: give two numbers, all values and those that learn" if short else None


def wrong_total(counts: dict, model: nn.Module, title: str) -> str | None:
    """What is wrong with the sum over all blocks."""
    said, right = sum(pair[0] for pair in counts.values()), values_in(model)[0]
    if said == right:
        return None
    if said == len(list(model.parameters())):
        return f"{said} is the number of tensors in {title}; asked is the number of values in them"
    if said == values_in(model)[1]:
        return f"your total changed when the body was frozen: {right:,} values are there, you count {said:,}"
    if said - right == sum(buffer.numel() for buffer in model.buffers()):
        return f"{said - right:,} too many for {title}: running means and variances are not parameters"
    if said == sum(p.numel() for _, p in model.named_parameters(remove_duplicate=False)):
        return f"{said - right:,} too many for {title}: a layer that stands in two places has its values only once"
    return f"{title} has {right:,} values in all, your blocks add up to {said:,}"


def wrong_split(counts: dict, model: nn.Module, title: str) -> str | None:
    for block, child in model.named_children():
        said, right = list(counts.get(block, [0, 0])), values_in(child)
        if said != right:
            what = "all its values" if said[0] != right[0] else "the values that learn"
            return f"{title}, {block}: you say {said[0]:,} and {said[1]:,}; look again at {what}"
    return None


def wrong_buffers(model: nn.Module) -> dict:
    return {
        name: (sum(value.numel() for value in block.state_dict().values()), values_in(block)[1])
        for name, block in model.named_children()
    }


def wrong_tensors(model: nn.Module) -> dict:
    return {
        name: (len(list(block.parameters())), sum(p.requires_grad for p in block.parameters()))
        for name, block in model.named_children()
    }


def wrong_only_trainable(model: nn.Module) -> dict:
    return {name: (values_in(block)[1], values_in(block)[1]) for name, block in model.named_children()}


def wrong_twice(model: nn.Module) -> dict:
    def values(block: nn.Module, only: bool) -> int:
        own = sum(p.numel() for p in block.parameters(recurse=False) if p.requires_grad or not only)
        return own + sum(values(child, only) for child in block._modules.values() if child)

    return {name: (values(block, False), values(block, True)) for name, block in model.named_children()}


def wrong_swapped(model: nn.Module) -> dict:
    return {
        name: (values_in(block)[0], sum(p.numel() for p in block.parameters() if not p.requires_grad))
        for name, block in model.named_children()
    }


def wrong_by_parameter(model: nn.Module) -> dict:
    return {name: (p.numel(), p.numel() * p.requires_grad) for name, p in model.named_parameters()}


def right_by_names(model: nn.Module) -> dict:
    counts: dict[str, list[int]] = {}
    for name, parameter in model.named_parameters():
        pair = counts.setdefault(name.split(".")[0], [0, 0])
        pair[0] += parameter.numel()
        pair[1] += parameter.numel() if parameter.requires_grad else 0
    return counts


# --------------------------------------------------------------------------------------------------- 01.2 predict


@beside
def situations(rng: Rng) -> list[tuple[nn.Module, Any, Image.Image]]:
    """A small network with batch norm, weights that say how to prepare pictures, and a picture: six different ones."""
    found: list[tuple[nn.Module, Any, Image.Image]] = []
    for training in (True, False):
        for mode in ("RGB", "L", "RGBA"):
            weights: Any = get_weights("resnet18", rng.choice(["shapes", "imagenet"]))
            outputs = len(weights.meta["categories"])
            with rng.torch():
                norm, head = nn.BatchNorm2d(8), nn.Linear(8, outputs)
                pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
                model = nn.Sequential(nn.Conv2d(3, 8, 5, stride=5), norm, nn.ReLU(), pool, head)
                norm.running_mean, norm.running_var = torch.randn(8) * 0.5, torch.rand(8) * 0.4 + 0.2
                head.weight.data.normal_(0, 3)
            image = picture("things", rng.choice(["car", "fish", "house"]), seed=rng.integer(0, 10**6))
            size = (rng.integer(60, 90), rng.integer(60, 90))
            found.append((model.train(training), weights, image.resize(size).convert(mode)))
    return found


def probe_predict(predict: Any, rng: Rng) -> list[dict]:
    runs = []
    for model, weights, image in situations(rng):
        run: dict[str, Any] = {"said": None, "seen": [], "trouble": ""}
        keep = model.register_forward_pre_hook(lambda module, inputs, seen=run["seen"]: seen.append(inputs[0].clone()))
        try:
            run["said"] = predict(model, weights, image)
        except Exception as error:
            if image.mode == "RGB" or isinstance(error, NotImplementedError):
                raise
            run["trouble"] = type(error).__name__
        keep.remove()
        run["training"] = [module.training for module in model.modules()]
        runs.append(run)
    return runs


def judge_predict(data: list, rng: Rng) -> Result:
    cases = situations(rng)
    if len(data) != len(cases):
        return failed("your answer ended before it had seen all pictures")
    for run, (model, weights, image) in zip(data, cases, strict=True):
        why = wrong_input(run, weights, image) or wrong_mode(run, model) or wrong_answer(run["said"], model, weights, image)
        if why:
            return failed(why)
    return passed()


KINDS = {"RGB": "a colour picture", "L": "a grey picture", "RGBA": "a picture with transparency"}


def wrong_input(run: dict, weights: Any, image: Image.Image) -> str | None:
    """What is wrong with the tensor that reached the network."""
    if run["trouble"]:
        return f"{KINDS[image.mode]} stopped it ({run['trouble']}): the network takes three channels, red, green and blue"
    if not run["seen"]:
        return "the model was never called"
    seen, wanted = run["seen"][-1], weights.transforms()(image.convert("RGB"))[None]
    if seen.shape != wanted.shape:
        return f"the network saw a tensor of shape {list(seen.shape)}; prepared for these weights it has {list(wanted.shape)}"
    if not close(seen, wanted, 1e-3):
        return f"the network saw a mean of {seen.mean():.2f}; prepared for these weights, this picture has {wanted.mean():.2f}"
    return None


def wrong_mode(run: dict, model: nn.Module) -> str | None:
    words = {True: "training mode", False: "eval mode"}
    if any(now != model.training for now in run["training"]):
        return f"the model came in {words[model.training]} and went out in {words[not model.training]}"
    return None


@torch.no_grad()
def probabilities(model: nn.Module, batch: Tensor, training: bool) -> Tensor:
    """What the first picture of `batch` gets, with the statistics of the model or with those of the batch."""
    return copy.deepcopy(model).train(training)(batch).softmax(1)[0]


def probability_in_company(model: nn.Module, weights: Any, image: Tensor, place: int, alone: float) -> float:
    """What class number `place` gets in training mode with three other pictures; of five such threes, where it differs most."""
    found = []
    for seed in range(5):
        others = [weights.transforms()(picture("things", name, seed=seed)) for name in ("boat", "flower", "tree")]
        found.append(float(probabilities(model, torch.stack([image, *others]), training=True)[place]))
    return max(found, key=lambda company: abs(company - alone))


def wrong_answer(said: Any, model: nn.Module, weights: Any, image: Image.Image) -> str | None:
    if type(said) is not list or len(said) != 2 or type(said[1]) not in (float, int, Tensor):
        return "asked is a pair of a name and a number, such as ('solid ring', 0.9)"
    name, value, names = said[0], float(said[1]), list(weights.meta["categories"])
    if name not in names:
        return f"{name!r} is no class name of these weights; they have {len(names)}, such as {names[0]!r}"
    batch = weights.transforms()(image.convert("RGB"))[None]
    right, alone = probabilities(model, batch, training=False), probabilities(model, batch, training=True)
    if abs(value - alone[names.index(name)]) < 1e-4:
        company = probability_in_company(model, weights, batch[0], names.index(name), value)
        return f"{value:.2f} alone, {company:.2f} with three other pictures: the answer must not depend on the company"
    if name != names[int(right.argmax())]:
        return f"you say {name!r}; another class has a higher score"
    if not 0 <= value <= 1:
        return f"{value:.1f} is no probability; those lie between 0 and 1"
    if abs(value - right.max()) > 1e-4:
        return f"you say {value:.3f} for {name!r}, and it is {right.max():.3f}"
    return None


def prepared(weights: Any, image: Image.Image) -> Tensor:
    return weights.transforms()(image.convert("RGB"))[None]


def best_of(logits: Tensor, weights: Any) -> tuple[str, float]:
    value, place = logits.softmax(1)[0].max(0)
    return weights.meta["categories"][place], value.item()


def wrong_no_eval(model: nn.Module, weights: Any, image: Image.Image) -> tuple[str, float]:
    return best_of(model(prepared(weights, image)), weights)


def wrong_only_255(model: nn.Module, weights: Any, image: Image.Image) -> tuple[str, float]:
    transform = weights.transforms()
    transform.mean, transform.std = [0.0] * 3, [1.0] * 3
    with eval_mode(model):
        return best_of(model(transform(image.convert("RGB"))[None]), weights)


def wrong_left_in_eval(model: nn.Module, weights: Any, image: Image.Image) -> tuple[str, float]:
    return best_of(model.eval()(prepared(weights, image)), weights)


def wrong_grey(model: nn.Module, weights: Any, image: Image.Image) -> tuple[str, float]:
    with eval_mode(model):
        return best_of(model(weights.transforms()(image)[None]), weights)


def wrong_score(model: nn.Module, weights: Any, image: Image.Image) -> tuple[str, float]:
    with eval_mode(model):
        value, place = model(prepared(weights, image))[0].max(0)
        return weights.meta["categories"][place], value.item()


def wrong_number(model: nn.Module, weights: Any, image: Image.Image) -> tuple[int, float]:
    with eval_mode(model):
        value, place = model(prepared(weights, image)).softmax(1)[0].max(0)
        return int(place), value.item()


def right_by_hand(model: nn.Module, weights: Any, image: Image.Image) -> tuple[str, float]:
    was_training = model.training
    model.eval()
    with torch.no_grad():
        probabilities = torch.softmax(model(prepared(weights, image)), dim=-1).squeeze()
    model.train(was_training)
    best = int(probabilities.argmax())
    return weights.meta["categories"][best], float(probabilities[best])


def right_by_library(model: nn.Module, weights: Any, image: Image.Image) -> tuple[str, float]:
    return prediction.predict(model, image, classes=weights.meta["categories"], transform=weights.transforms(), k=1)[0][0]


COUNTS = {str: [int]}  # all values and those that learn, by block

CHECKS = [
    Check(
        "01.1",
        "count_parameters",
        "count the values",
        probe_count,
        judge_count,
        {"resnet18": COUNTS, "vgg16": COUNTS, "small": COUNTS, "frozen": COUNTS},
        points=2,
    ),
    Check(
        "01.2",
        "predict",
        "one picture, one answer",
        probe_predict,
        judge_predict,
        [{"said": Any, "seen": [Tensor], "trouble": str, "training": [bool]}],
        points=3,
    ),
]

WRONG = {
    "01.1": [
        (wrong_buffers, "9,620 too many for resnet18: running means and variances are not parameters"),
        (wrong_tensors, "62 is the number of tensors in resnet18; asked is the number of values in them"),
        (wrong_only_trainable, "your total changed when the body was frozen"),
        (wrong_twice, "a layer that stands in two places has its values only once"),
        (wrong_swapped, "look again at the values that learn"),
        (wrong_by_parameter, "is none of its blocks"),
    ],
    "01.2": [
        (wrong_no_eval, "with three other pictures: the answer must not depend on the company"),
        (wrong_only_255, "prepared for these weights, this picture has"),
        (wrong_left_in_eval, "the model came in training mode and went out in eval mode"),
        (wrong_grey, "a grey picture stopped it"),
        (wrong_score, "is no probability"),
        (wrong_number, "is no class name of these weights"),
    ],
}

RIGHT = {"01.1": [right_by_names], "01.2": [right_by_hand, right_by_library]}
