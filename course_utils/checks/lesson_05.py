"""Checks of lesson 05, VGG16: adapt it, cut it where one may, ask whether a bank is fresh, adapt a network never seen."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchvision import models

from course_utils import freeze, head_name, head_of, replace_head, unfreeze
from course_utils.checks.spec import LOOK, Rng, beside, exercise, left_alone, look, same

LOOKED = {"before": LOOK, "after": LOOK}
RUN = {"seen": int, "awake": int, "hooks": int, "parts": {str: str}}
TOLD = {"kind": str, "state": {str: Tensor}, "logits": [int], "unfit": str, **RUN, **LOOKED}
CUT = {"returned": int, **LOOKED}
FRESH = {"returned": bool, "pictures": int, "awake": bool, "kept": bool, **LOOKED}

# ------------------------------------------------------------------- a network whose last layer alone may have changed


@beside
def coloured_pictures(count: int, classes: int) -> dict:
    """Noisy pictures of 32×32 pixels; each of the classes, six at most, has a colour of its own."""
    labels = torch.arange(count) % classes
    colours = torch.tensor([[2, 0, 0], [0, 2, 0], [0, 0, 2], [2, 2, 0], [0, 2, 2], [2, 0, 2]])[labels].view(-1, 3, 1, 1)
    images = colours + torch.randn(count, 3, 1, 1) * 0.5 + torch.randn(count, 3, 32, 32) * 0.3
    return {"images": images, "labels": labels, "classes": classes}


@beside
def mixed(model: nn.Module, rng: Rng) -> nn.Module:
    """Some parts of `model` frozen, some in evaluation mode: as somebody else may have left it."""
    for part in model.children():
        part.requires_grad_(rng.choice((True, False))).train(rng.choice((True, False)))
    next(model.children()).requires_grad_(False)
    return model


@beside
def told(adapt: Callable[[nn.Module], Any], case: dict, watched: nn.Module) -> dict:
    """What became of the model of `case`, what came back, and how many pictures ran through `watched`, also while awake."""
    model, ran = case["model"], []

    def count(module: nn.Module, inputs: tuple) -> None:
        if module is watched and type(inputs[0]) is torch.Tensor:
            ran.append((len(inputs[0]), module.training))

    found: dict = {"kind": "", "logits": [], "unfit": "", "before": look(model)}
    handle = nn.modules.module.register_module_forward_pre_hook(count)
    try:
        back = adapt(model)
        found |= {"kind": "" if back is model else type(back).__name__, "after": look(model)}
        handle.remove()
        found["logits"] = list(model.eval()(case["images"][:2]).shape)
    except RuntimeError as error:
        if "mat1 and mat2" not in str(error):
            raise
        found["unfit"] = str(error)
    finally:
        handle.remove()
    found["parts"] = {name: type(part).__name__ for name, part in model.named_modules()}
    found["hooks"] = sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules())
    found |= {"seen": sum(rows for rows, _ in ran), "awake": sum(rows for rows, awake in ran if awake)}
    return {"after": look(model), **found, "state": dict(model.state_dict())}


def strayed(said: dict, model: Any, classes: int) -> Iterator[str]:
    """What is wrong with a `model` of which only the head should be new, whatever that head has learned."""
    head, kind, state = head_name(model), type(model).__name__, said["state"]
    before = {name: value for name, value in model.state_dict().items() if not name.startswith(f"{head}.")}
    wanted = [*before, f"{head}.weight", f"{head}.bias"]
    if said["kind"]:
        yield f"you return a {said['kind']}; return the network that you were given"
    for name in [name for name in state if name not in wanted]:
        if name.startswith(f"{head}."):
            yield f"{head} should be one linear layer with a bias, but there is {name}"
        if head.startswith(f"{name.rpartition('.')[0]}."):
            yield f"you replaced all of {name.rpartition('.')[0]}; only {head} in it should be new"
        yield f"you added {name}; {kind} never calls it. The layer that makes its logits is {head}"
    yield from (f"{name} is gone; only {head} should be new" for name in wanted if name not in state)
    if said["unfit"]:
        yield f"{head} receives {head_of(model).in_features} values in this network, and yours takes another number of them"
    for name in [name for name, value in before.items() if not same(state[name], value)]:
        if "running" in name or "tracked" in name:
            yield f"{name} moved: a frozen batch norm counts whatever it sees in training mode"
        more = ": more linear layers stand behind `features`" if name.startswith("classifier") else ""
        yield f"{name} moved, and only {head} should learn{more}"
    if said["logits"] != [2, classes]:
        yield f"for 2 pictures the logits have the shape {said['logits']}, and {classes} classes were asked for"
    for name, part in model.named_modules():
        if not name.startswith(head) and said["parts"].get(name) != type(part).__name__:
            yield f"{name} was a {type(part).__name__}; only {head} should be new"
    for name in [name for name, learns in said["before"]["learns"].items() if not learns and not name.startswith(f"{head}.")]:
        if said["after"]["learns"].get(name):
            yield f"{name} came frozen and you leave it unfrozen: the next optimizer would move it"
    if said["hooks"]:
        yield "a hook of yours is still on the network, and would run with every picture from now on: remove it"
    yield from left_alone(said["before"], said["after"], but=("modes", "learns", "random"))


def in_front_of(model: nn.Module, images: Tensor) -> Tensor:
    """What the last layer of `model` receives in evaluation mode."""
    kept: list[Tensor] = []
    handle = head_of(model).register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
    with torch.no_grad():
        model.eval()(images)
    handle.remove()
    return kept[0]


def trained(rows: Tensor, case: dict, epochs: int, seed: int = 0) -> Tensor:
    """The logits of a linear layer that has learned on `rows` in batches of 12, by SGD at 0.01 with momentum 0.9."""
    with Rng(seed).torch():
        head = nn.Linear(rows.shape[1], case["classes"])
    optimizer = torch.optim.SGD(head.parameters(), lr=0.01, momentum=0.9)
    for _ in range(epochs):
        for some, truth in zip(rows.split(12), case["labels"].split(12), strict=True):
            optimizer.zero_grad()
            F.cross_entropy(head(some), truth).backward()
            optimizer.step()
    return head(rows)


# -------------------------------------------------------------------------------------------------- 05.1 train_vgg16


@beside
def small_vggs(rng: Rng) -> Iterator[dict]:
    """Torchvision's VGG with the 31 + 7 layers of VGG16, but few channels and ten classes; its dropout drops nothing."""
    width, hidden = rng.integer(4, 6), rng.integer(48, 64)
    with torch.device("meta"):
        model: Any = models.VGG(nn.Sequential(), init_weights=False)
    with rng.torch():
        model.features = models.vgg.make_layers([*[width, width, "M"] * 2, *[width, width, width, "M"] * 3])
        linear = [nn.Linear(width * 49, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, 10)]
        model.classifier = nn.Sequential(
            linear[0], nn.ReLU(), nn.Dropout(1e-9), linear[1], nn.ReLU(), nn.Dropout(1e-9), linear[2]
        )
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.dirac_(layer.weight)  # colours pass: a body that knows something
            elif isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        for parameter in model.parameters():
            parameter.data += torch.randn(parameter.shape) * 0.03
        pictures = coloured_pictures(rng.integer(25, 46), rng.integer(3, 6))
    yield {"model": mixed(model, rng), **pictures, "epochs": rng.choice((7, 8, 15, 16))}


@beside
def ask_train(train_vgg16: Any, case: dict) -> dict:
    pictures = DataLoader(TensorDataset(case["images"], case["labels"]), 12)
    train = lambda model: train_vgg16(model, case["classes"], pictures, case["epochs"])  # noqa: E731
    return told(train, case, case["model"].classifier[5])


def rules_train(said: dict, case: dict) -> Iterator[str]:
    yield from strayed(said, case["model"], case["classes"])
    rows, state = in_front_of(case["model"], case["images"]), said["state"]
    logits = F.linear(rows, state["classifier.6.weight"], state["classifier.6.bias"])
    loss = F.cross_entropy(logits, case["labels"]).item()
    own = [F.cross_entropy(trained(rows, case, case["epochs"], seed), case["labels"]).item() for seed in range(5)]
    if not 0.85 * min(own) < loss < 1.18 * max(own):
        yield (
            f"after {case['epochs']} epochs your loss on the training pictures is {loss:.3f}, in five runs of the check "
            f"{min(own):.3f} to {max(own):.3f}: does the optimizer hold the new layer? Compare rate, momentum and epochs"
        )
    if said["awake"] < (all_of := case["epochs"] * len(rows)):
        yield f"in all epochs together dropout was at work for {said['awake']} of {all_of} pictures. Compare epochs and modes"


# ------------------------------------------------------------------------------------------------------ 05.2 cut_at


@beside
def stacks(rng: Rng) -> Iterator[dict]:
    """Layers in a row for pictures of 8×8 pixels. In each something learns, and not always where one looks first."""
    for kind in rng.shuffled(("head", "dropout", "hidden", "spatial", "asleep", "half", "bias", "sandwich", "norm", "first")):
        width = rng.integer(3, 6)
        with rng.torch():
            layers: list[Any] = []
            for inputs in [3, *[width] * rng.integer(1, 2)]:
                layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            block = nn.Sequential(nn.Linear(4 * width, 12), nn.ReLU(), nn.Linear(12, 12))
            layers += [nn.MaxPool2d(4), nn.Flatten(), block, nn.Linear(12, 4)]
        freeze(nn.Sequential(*layers))
        learns = {"half": block[2], "first": layers[0], "norm": layers[rng.choice((1, 4))], "sandwich": layers[3]}
        if kind == "bias":
            layers[0].bias.requires_grad_(True)
        if kind not in learns or (kind != "first" and rng.choice((True, False))):
            unfreeze(layers[-1])
        unfreeze(learns.get(kind, nn.ReLU()))
        if kind in ("dropout", "hidden"):
            dropout = nn.Dropout(0.4) if kind == "dropout" else nn.Sequential(nn.ReLU(), nn.AlphaDropout(0.4))
            layers.insert(rng.integer(3, len(layers) - 1), dropout)
        elif kind == "spatial":
            layers.insert(3, nn.Dropout2d(0.4))
        elif kind == "asleep":
            block.insert(2, nn.Dropout(0.4))
        for layer in layers:
            layer.train(rng.choice((True, False)))
        yield {"layers": nn.Sequential(*layers)}


@beside
def ask_cut(cut_at: Any, case: dict) -> dict:
    layers, before = case["layers"], look(case["layers"])
    return {"returned": cut_at(layers), "before": before, "after": look(layers)}


def rules_cut(said: dict, case: dict) -> Iterator[str]:
    yield from left_alone(said["before"], said["after"])
    layers, cut, right = case["layers"], said["returned"], first_alive(case["layers"])
    if not 0 <= cut <= len(layers):
        yield f"{cut} is no place to cut {len(layers)} layers: a number from 0 to {len(layers)} says how many run once"
    layer = layers[min(cut, right)]
    kind, flags = type(layer).__name__, [parameter.requires_grad for parameter in layer.parameters()]
    if cut > right:
        off = f"you cut at {cut}. Layer {right}, a {kind},"
        if not any(flags):
            yield f"{off} lies in front of your cut, and there is a dropout in it: in training it is at work"
        elif not all(flags):
            yield f"{off} lies in front of your cut and learns in part, and part is enough"
        yield f"{off} learns and lies in front of your cut: out of date after one step"
    if cut < right:
        why = "; nothing in that layer learns" if not flags else ""
        why = "; a block that is frozen as a whole is in evaluation mode, its dropout too" if flags and drops(layer) else why
        why = "; a frozen batch norm answers the same in every epoch" if isinstance(layer, nn.BatchNorm2d) else why
        yield f"you stop at {cut}, a {kind}, but {right} gives the same losses too{why}"


def first_alive(layers: nn.Sequential) -> int:
    """The place of the first layer that learns or draws random numbers."""
    flags = [[parameter.requires_grad for parameter in layer.parameters()] for layer in layers]
    return next(place for place, layer in enumerate(layers) if any(flags[place]) or (not flags[place] and drops(layer)))


def drops(layer: nn.Module) -> bool:
    return any("Dropout" in type(part).__name__ for part in layer.modules())


# -------------------------------------------------------------------------------------------------- 05.3 still_fresh

BANKS = {
    "short": "this bank has fewer rows than there are pictures (a loader with drop_last made it). Refuse it",
    "order": "row 0 of this bank holds another picture's features, and you said fresh: compare picture by picture",
    "gentle": "a small update had moved all features of this bank, by 1 %, and you said it is fresh: is your tolerance wide?",
    "first": "the front of this bank was made before an update, and you said fresh. Spread your pictures",
    "middle": "the middle of this bank was made before an update, and you said fresh. Spread your pictures",
    "last": "the end of this bank was made before an update, and you said fresh. Spread your pictures",
    "awake": "this bank was made while dropout was at work: one throw of the dice. You said fresh",
    "pixels": "this bank was made from pictures that were not normalised, and you said fresh",
    "layout": "each row of this bank holds its values in another order, and you said fresh: compare value by value",
}


@beside
def banks(rng: Rng) -> Iterator[dict]:
    """Features that somebody kept, two of them still right, with the front that made them and the pictures."""
    old = {"gentle": (0, 6), "first": (0, 4), "middle": (1, 5), "last": (2, 6)}  # sixths that were made before an update
    for kind in rng.shuffled(("fresh", "fresh", *old, "awake", "pixels", "order", "layout", "short")):
        count = 6 * rng.integer(8, 12)
        with rng.torch():
            layers = [nn.Conv2d(3, rng.integer(4, 8), 3), nn.Softplus(), nn.Dropout(0.3), nn.MaxPool2d(4), nn.Flatten()]
            named = dict(zip(("conv", "softplus", "dropout", "pool", "flatten"), layers, strict=True))
            front, images = nn.Sequential(OrderedDict(named)), torch.randn(count, 3, 10, 10) + torch.randn(count, 3, 1, 1)
            rounding = 1 + 2e-6 * torch.randn(count, 1).sign()  # batches of another size are rounded otherwise
            with torch.no_grad():
                bank = front.train(kind == "awake")(2 * images + 0.5 if kind == "pixels" else images) * rounding
                front[0].weight.mul_(1.01 if kind in old else 1)  # type: ignore[operator]
                now = front.eval()(images) * rounding
        first, last = (sixth * count // 6 for sixth in old.get(kind, (0, 6)))
        bank = torch.cat([now[:first], bank[first:last], now[last:]])
        made = {"order": bank.roll(rng.integer(1, 9), 0), "short": bank[: -rng.integer(1, 7)]}
        bank = (made | {"layout": bank.unflatten(1, (-1, 4)).mT.flatten(1)}).get(kind, bank)
        layers[2].train(), layers[rng.choice((0, 1, 3))].train()
        yield {"kind": kind, "front": front, "bank": bank, "dataset": TensorDataset(images, torch.arange(count) % 4)}


@beside
def ask_fresh(still_fresh: Any, case: dict) -> dict:
    front, seen, awake = case["front"], [], []
    front[0].register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0]) if inputs[0].dim() == 4 else 1))
    front[2].register_forward_pre_hook(lambda dropout, _: awake.append(dropout.training))
    before, bank, said = look(front), case["bank"].clone(), True
    try:
        said = still_fresh(front, bank, case["dataset"])
    except IndexError:
        if len(bank) == len(case["dataset"]):
            raise
    found = {"pictures": sum(seen), "awake": any(awake), "kept": torch.equal(bank, case["bank"])}
    return {"returned": said, **found, "before": before, "after": look(front)}


def all_banks(said: list[dict], cases: list[dict]) -> Iterator[str]:
    """How the answer works comes first; then what it took for fresh, in the order of BANKS, the likeliest slip first."""
    kinds = [case["kind"] for case in cases]
    for one, kind in zip(said, kinds, strict=True):
        if one["pictures"] > 8:
            yield f"{one['pictures']} pictures went through `front`; 8 are allowed, the bank was made to save the rest"
        if one["awake"]:
            yield "pictures went through `front` while its dropout was at work; a bank holds answers of evaluation mode"
        if not one["kept"]:
            yield "your call changes the values in `bank`, and its owner still needs them"
        yield from left_alone(one["before"], one["after"], but=("random",))
        if kind == "fresh" and not one["returned"]:
            yield "you refused a fresh bank: batches of another size are rounded otherwise, here by 0.0002 %. Allow for that"
    yield from (BANKS[kind] for kind in BANKS if said[kinds.index(kind)]["returned"])


# --------------------------------------------------------------------------------------------------------- 05.4 adapt


@beside
def small(name: str) -> nn.Module:
    """A small network of an architecture that the lessons never mention, for ten classes."""
    if name == "ShuffleNetV2":
        return models.ShuffleNetV2([1, 1, 1], [8, 16, 32, 64, 64], num_classes=10)
    if name == "RegNet":
        return models.RegNet(models.regnet.BlockParams([1, 1], [16, 32], [8, 8], [1.0, 1.0], [2, 2]), num_classes=10)
    if name == "DenseNet":
        return models.DenseNet(8, (2, 2), 16, num_classes=10)
    return models.MobileNetV2(10, 0.25, [[1, 32, 1, 1], [2, 64, 1, 2], [2, 96, 1, 2]])


@beside
def unseen(rng: Rng) -> Iterator[dict]:
    """Two networks, of which one calls its last layer `fc`, with pictures of other classes."""
    for name in rng.shuffled((rng.choice(("ShuffleNetV2", "RegNet")), rng.choice(("MobileNetV2", "DenseNet")))):
        with rng.torch(), torch.no_grad():
            model, pictures = small(name), coloured_pictures(60, rng.integer(3, 6))
            for part in model.modules():
                if isinstance(part, nn.BatchNorm2d):
                    part.momentum = 1  # the statistics of these pictures, at once
            model(pictures["images"])
        yield {"model": mixed(model, rng), **pictures}


@beside
def ask_adapt(adapt: Any, case: dict) -> dict:
    pictures = TensorDataset(case["images"], case["labels"])
    loader = DataLoader(pictures, 12, shuffle=True, generator=torch.Generator())
    first = next(part for part in case["model"].modules() if isinstance(part, nn.Conv2d))
    return told(lambda model: adapt(model, loader, case["classes"]), case, first)


def rules_adapt(said: dict, case: dict) -> Iterator[str]:
    model, labels = case["model"], case["labels"]
    yield from strayed(said, model, case["classes"])
    if said["seen"] > 1.6 * len(labels):  # a tool may look at a few pictures twice
        yield f"{said['seen']:,} pictures went through the backbone; the budget was each once, {len(labels)} in all"
    rows = in_front_of(model, case["images"])
    replace_head(model, case["classes"]).load_state_dict(said["state"])
    yours, best = ((one.argmax(1) == labels).float().mean().item() for one in (head_of(model)(rows), trained(rows, case, 40)))
    if not yours > best - 0.1:
        yield (
            f"the network you return is right on {yours:.2f} of the training pictures; a head on the same features reaches "
            f"{best:.2f}. How many steps did yours take, how large, and on the right labels?"
        )


CHECKS = [
    exercise("05.1", "train_vgg16", "adapt VGG16", small_vggs, ask_train, rules_train, seen=TOLD, points=2, limit_s=10),
    exercise("05.2", "cut_at", "how many layers may run once", stacks, ask_cut, rules_cut, seen=CUT, points=2, limit_s=30),
    exercise(
        "05.3", "still_fresh", "is this bank fresh?", banks, ask_fresh, lambda *_: (), seen=FRESH, overall=all_banks, points=2
    ),
    exercise("05.4", "adapt", "a new network", unseen, ask_adapt, rules_adapt, seen=TOLD, points=3, repeats=2, limit_s=30),
]
