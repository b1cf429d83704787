"""Checks of lesson 05, VGG16: adapt it, cut it where one may, ask whether a bank is fresh, adapt a network never seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchvision import models

from course_utils import fit, head_name, head_of, replace_head
from course_utils.checks.spec import LOOK, Rng, beside, exercise, left_alone, look, same

TENSORS, LOOKED = {str: Tensor}, {"before": LOOK, "after": LOOK}
TOLD = {"kind": str, "state": TENSORS, "head": TENSORS, "parts": {str: str}, "hooks": int, "ran": [(int, bool)], **LOOKED}
CUT, FRESH = {"returned": int | None, **LOOKED}, {"returned": bool, "ran": [(int, bool)], "kept": bool, **LOOKED}

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
    """The first part of `model` frozen, others perhaps, some in evaluation mode: as somebody else may have left it."""
    for place, part in enumerate(model.children()):
        part.requires_grad_(place > 0 and rng.choice((True, False))).train(rng.choice((True, False)))
    return model


@beside
def told(case: dict, watched: nn.Module, adapt: Callable, *rest: Any) -> dict:
    """What became of the model of `case`, what came back, what ran through `watched`, and how a new head began."""
    model, ran, before, begun = case["model"], list[tuple[int, bool]](), look(case["model"]), dict[str, Tensor]()

    def count(part: nn.Module, inputs: tuple) -> None:
        if part is watched and type(inputs[0]) is Tensor:
            ran.append((len(inputs[0]), part.training))
        if type(part) is nn.Linear and inputs and inputs[0].shape[-1] != part.in_features:
            raise ValueError(f"a linear layer that takes {part.in_features} values gets {inputs[0].shape[-1]} in this network")
        real = bool(inputs) and type(inputs[0]) is Tensor and not inputs[0].is_meta  # some look for the head by shapes only
        if real and not begun and type(part) is nn.Linear and part.out_features == case["classes"]:
            begun.update({name: value.clone() for name, value in part.state_dict().items()})

    with nn.modules.module.register_module_forward_pre_hook(count):  # one on `watched` would change where tools may cut
        back = adapt(model, *rest)
    parts = {name: type(part).__name__ for name, part in model.named_modules()}
    hooks = sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules())
    found = {"kind": "" if back is model else type(back).__name__, "parts": parts, "hooks": hooks, "ran": ran, "head": begun}
    return {**found, "state": dict(model.state_dict()), "before": before, "after": look(model)}


def strayed(said: dict, model: Any, classes: int) -> Iterator[str]:
    """What is wrong with a `model` of which only the head should be new, whatever that head has learned."""
    head, state, own = head_name(model), said["state"], replace_head(model, classes).state_dict()
    if kind := said["kind"]:
        back = {"NoneType": "None", type(model).__name__: f"another {kind}, perhaps a copy"}.get(kind, f"a {kind}")
        yield f"you return {back}; return the network that you were given"
    shapes, wanted = ({name: f"of shape {list(value.shape)}" for name, value in one.items()} for one in (state, own))
    for name in sorted([*shapes, *wanted], key=lambda name: name in wanted):  # what is too many comes first
        if (now := shapes.get(name, "absent")) != (right := wanted.get(name, "absent")):
            why = f"the logits come from {head}; put one linear layer for {classes} classes there, and change nothing else"
            yield f"{name} is {now} and should be {right}: {why}"
    for name in [name for name, value in own.items() if not name.startswith(head) and not same(state[name], value)]:
        norm = ": a frozen batch norm counts whatever it sees in training mode" if "running" in name else ""
        yield f"{name} moved, and only {head} should learn{norm}"
    for name, part in model.named_modules():
        if said["parts"].get(name) != type(part).__name__:
            yield f"{name} was a {type(part).__name__}; only {head} should be new"
    if said["hooks"]:
        yield "a hook of yours is still on the network, and would run with every picture from now on: remove it"
    frozen = {name: False for name, learns in said["before"]["learns"].items() if not learns and not name.startswith(head)}
    yield from left_alone(said["before"] | {"learns": frozen}, said["after"], but=("modes", "random"))


@torch.no_grad()
def through(model: nn.Module, said: dict, images: Tensor) -> tuple[Tensor, Tensor]:
    """What the last layer receives in evaluation mode, and the logits that it makes of that with what it has learned."""
    model.load_state_dict(said["state"])
    head = head_of(model)
    model.eval().set_submodule(head_name(model), nn.Identity())
    return (rows := model(images)), head(rows)


def trained(rows: Tensor, case: dict, epochs: int, begun: dict[str, Tensor]) -> Tensor:
    """The logits of a linear layer that has learned on `rows` in batches of 12, by SGD at 0.01 with momentum 0.9."""
    with Rng(0).torch():
        head = nn.Linear(rows.shape[1], case["classes"])
    if {name: value.shape for name, value in begun.items()} == {name: p.shape for name, p in head.named_parameters()}:
        head.load_state_dict(begun)
    batches = list(zip(rows.split(12), case["labels"].split(12), strict=True))
    fit(head, batches, batches, torch.optim.SGD(head.parameters(), lr=0.01, momentum=0.9), epochs=epochs)
    return head(rows)


# -------------------------------------------------------------------------------------------------- 05.1 train_vgg16


@beside
def small_vggs(rng: Rng) -> Iterator[dict]:
    """Torchvision's VGG with the 31 + 7 layers of VGG16, but few channels and ten classes; its dropout drops nothing."""
    width, hidden = rng.integer(4, 6), rng.integer(48, 64)
    with torch.device("meta"):
        model: Any = models.VGG(nn.Sequential(), init_weights=False, dropout=1e-9)
    with rng.torch():
        model.features = models.vgg.make_layers([*[width, width, "M"] * 2, *[width, width, width, "M"] * 3])
        for place, inputs, outputs in ((0, width * 49, hidden), (3, hidden, hidden), (6, hidden, 10)):
            model.classifier[place] = nn.Linear(inputs, outputs)
            nn.init.kaiming_normal_(model.classifier[place].weight, nonlinearity="relu")
        for parameter in model.parameters():
            if parameter.dim() == 4:
                nn.init.dirac_(parameter)  # colours pass: a body that knows something
            parameter.data += torch.randn(parameter.shape) * 0.03
        pictures = coloured_pictures(rng.integer(25, 46), rng.integer(3, 6))
    yield {"model": mixed(model, rng), **pictures, "epochs": rng.choice((7, 8, 15, 16))}


@beside
def ask_train(train_vgg16: Any, case: dict) -> dict:
    pictures = DataLoader(TensorDataset(case["images"], case["labels"]), 12)
    return told(case, case["model"].classifier[5], train_vgg16, case["classes"], pictures, case["epochs"])


def rules_train(said: dict, case: dict) -> Iterator[str]:
    yield from strayed(said, case["model"], case["classes"])
    rows, logits = through(case["model"], said, case["images"])
    begun, runs = said["head"], (logits, trained(rows, case, case["epochs"], said["head"]))
    loss, own = (F.cross_entropy(one, case["labels"]).item() for one in runs)
    if not 1 / (slack := 1.00003 if begun else 1.3) < loss / own < slack:  # a layer that was never called began anywhere
        why = "does the optimizer hold weight and bias? Compare rate, momentum, weight decay, epochs, the clearing of gradients"
        yield f"your loss on the training pictures ends at {loss:.6f}, the check's, from the same start, at {own:.6f}: {why}"
    if (awake := sum(count for count, training in said["ran"] if training)) < (all_of := case["epochs"] * len(rows)):
        yield f"in all epochs together dropout was at work for {awake} of {all_of} pictures. Compare epochs and modes"


# ------------------------------------------------------------------------------------------------------ 05.2 cut_at


@beside
def stacks(rng: Rng) -> Iterator[dict]:
    """Layers in a row for pictures of 8×8 pixels. In each something learns, and not always where one looks first."""
    for kind in rng.shuffled(("head", "dropout", "hidden", "spatial", "half", "bias", "sandwich", "norm", "first")):
        with rng.torch():
            layers: Any = nn.Sequential()
            for inputs in [3, *[4] * rng.integer(1, 2)]:
                layers.extend([nn.Conv2d(inputs, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()])
            block = nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Dropout(), nn.Linear(12, 12))
            layers.extend([nn.MaxPool2d(4), nn.Flatten(), block, nn.Linear(12, 4)])
        learns = {"first": layers[0], "bias": layers[0].bias, "norm": layers[rng.choice((1, 4))], "sandwich": layers[3]}
        drops = {"dropout": nn.Dropout(), "spatial": nn.Dropout2d(), "hidden": nn.Sequential(nn.ReLU(), nn.AlphaDropout())}
        layers.requires_grad_(False)[-1].requires_grad_(rng.choice((True, False)))
        (learns | {"half": block[3]}).get(kind, layers[-1]).requires_grad_(True)
        if kind in drops:
            layers.insert(rng.integer(3, 6), drops[kind])
        for layer in layers:
            layer.train(rng.choice((True, False)))
        yield {"layers": layers}


@beside
def ask_cut(cut_at: Any, case: dict) -> dict:
    layers, before = case["layers"], look(case["layers"])
    return {"returned": cut_at(layers), "before": before, "after": look(layers)}


def rules_cut(said: dict, case: dict) -> Iterator[str]:
    yield from left_alone(said["before"], said["after"], but=("modes",))
    if said["returned"] is None:
        yield "you return None: no layer met your condition, or `return` is missing"
    layers, cut, right = case["layers"], said["returned"], first_alive(case["layers"])
    if not 0 <= cut <= len(layers):
        yield f"{cut} is no place to cut {len(layers)} layers: a number from 0 to {len(layers)} says how many run once"
    layer = layers[min(cut, right)]
    kind, flags = type(layer).__name__, [parameter.requires_grad for parameter in layer.parameters()]
    if cut > right:
        draws = "holds a dropout, at work in training in whatever mode it comes"
        why = "learns, if only in part: it is out of date after one step" if any(flags) else draws
        yield f"you cut at {cut}. Layer {right}, a {kind}, lies in front of your cut and {why}"
    if cut < right:
        why = "frozen as a whole it is in evaluation mode, dropout and batch norm too" if flags else "nothing in it learns"
        yield f"you stop at {cut}, a {kind}, but {right} gives the same losses too: {why}"


def first_alive(layers: nn.Sequential) -> int:
    """The place of the first layer that learns or draws random numbers."""
    flags = [[parameter.requires_grad for parameter in layer.parameters()] for layer in layers]
    return next(i for i, layer in enumerate(layers) if any(flags[i]) or ("Dropout" in str(layer) and not flags[i]))


# -------------------------------------------------------------------------------------------------- 05.3 still_fresh


@beside
def banks(rng: Rng) -> Iterator[dict]:
    """Features that somebody kept, two of them still right, with the front that made them and the pictures."""
    old = {"gentle": "012345", "front": "0123", "middle": "1234", "end": "2345", "ends": "0145"}  # sixths before an update
    for kind in rng.shuffled(("fresh", "fresh", *old, "awake", "pixels", "order", "layout", "short", "long")):
        sixth, off = rng.integer(8, 12), rng.integer(1, 7)
        with rng.torch(), torch.no_grad():
            front: Any = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Softplus(), nn.Dropout(0.3), nn.MaxPool2d(4), nn.Flatten())
            images = torch.randn(6 * sixth, 3, 10, 10) + torch.randn(6 * sixth, 3, 1, 1)
            rounding = 1 + 2e-6 * torch.randn(6 * sixth, 1).sign()  # batches of another size are rounded otherwise
            made = front.train(kind == "awake")(2 * images + 0.5 if kind == "pixels" else images) * rounding
            front[0].weight.mul_(1.01 if kind in old else 1)
            bank = front.eval()(images) * rounding
        for begin in (int(place) * sixth for place in old.get(kind, "012345")):
            bank[begin : begin + sixth] = made[begin : begin + sixth]
        changed = {"order": bank.roll(off, 0), "short": bank[:-off], "layout": bank.unflatten(1, (-1, 4)).mT.flatten(1)}
        changed["long"] = torch.cat([bank, bank[:off]])
        front[2].train(), front[rng.choice((0, 1, 3))].train()
        yield {"front": front, "bank": changed.get(kind, bank), "dataset": TensorDataset(images, torch.arange(6 * sixth) % 4)}


@beside
def ask_fresh(still_fresh: Any, case: dict) -> dict:
    front, bank, ran, before = case["front"], case["bank"].clone(), list[tuple[int, bool]](), look(case["front"])
    front[2].register_forward_pre_hook(lambda part, inputs: ran.append((inputs[0].shape[:-3].numel(), part.training)))
    said = still_fresh(front, bank, case["dataset"])
    return {"returned": said, "ran": ran, "kept": torch.equal(bank, case["bank"]), "before": before, "after": look(front)}


@torch.no_grad()
def rules_fresh(said: dict, case: dict) -> Iterator[str]:
    if (pictures := sum(count for count, _ in said["ran"])) > 8:
        yield f"{pictures} pictures went through `front`; 8 are allowed, the bank was made to save the rest"
    if any(training for _, training in said["ran"]):
        yield "pictures went through `front` while its dropout was at work; a bank holds answers of evaluation mode"
    if not said["kept"]:
        yield "your call changes the values in `bank`, and its owner still needs them"
    yield from left_alone(said["before"], said["after"], but=("random",))
    bank, now = case["bank"], case["front"].eval()(case["dataset"].tensors[0])
    off = (bank[: len(now)] / now[: len(bank)] - 1).abs().amax(1)
    stale, fresh = (off > 1e-4).nonzero().flatten().tolist(), said["returned"]
    if fresh and len(bank) != len(now):
        yield f"this bank has {len(bank)} rows for {len(now)} pictures, as after drop_last or a second pass. Refuse it"
    if fresh and stale:
        which = f"of {len(bank)} rows {len(stale)} are off by up to {off.max():.1%}, the first {stale[0]}, the last {stale[-1]}"
        yield f"{which}, and you said fresh. Which rows do you compare, with what tolerance, and value by value?"
    if not fresh and not stale and len(bank) == len(now):
        yield "you refused a fresh bank: batches of another size are rounded otherwise, here by 0.0002 %. Allow for that"


# --------------------------------------------------------------------------------------------------------- 05.4 adapt


@beside
def unseen(rng: Rng) -> Iterator[dict]:
    """Two networks that the lessons never mention, of which one calls its last layer `fc`, with pictures of other classes."""
    blocks = models.regnet.BlockParams([1, 1], [16, 32], [8, 8], [1.0, 1.0], [2, 2])
    with rng.torch():
        fc = models.ShuffleNetV2([1, 1, 1], [8, 16, 32, 64, 64], num_classes=10), models.RegNet(blocks, num_classes=10)
        other = models.MobileNetV2(10, 0.25, [[1, 32, 1, 1], [2, 64, 1, 2], [2, 96, 1, 2]]), models.DenseNet(8, (2, 2), 16)
    for model in rng.shuffled((rng.choice(fc), rng.choice(other))):
        with rng.torch():
            pictures = coloured_pictures(60, rng.integer(3, 6))
        torch.optim.swa_utils.update_bn([pictures["images"]], model)  # the statistics of these pictures
        yield {"model": mixed(model, rng), **pictures}


@beside
def ask_adapt(adapt: Any, case: dict) -> dict:
    loader = DataLoader(TensorDataset(case["images"], case["labels"]), 12, shuffle=True, generator=torch.Generator())
    first = next(part for part in case["model"].modules() if isinstance(part, nn.Conv2d))
    return told(case, first, adapt, loader, case["classes"])


def rules_adapt(said: dict, case: dict) -> Iterator[str]:
    yield from strayed(said, case["model"], case["classes"])
    pictures, labels = sum(count for count, _ in said["ran"]), case["labels"]
    if pictures > 1.6 * len(labels):  # a tool may look at a few pictures twice
        yield f"{pictures:,} pictures went through the backbone, looks counted; the budget was each once, {len(labels)} in all"
    rows, logits = through(case["model"], said, case["images"])
    yours, best = ((one.argmax(1) == labels).float().mean().item() for one in (logits, trained(rows, case, 40, {})))
    if not yours > best - 0.1:
        why = "How many steps did yours take, how large, on the right labels, and does the optimizer hold the new layer?"
        yield f"your network is right on {yours:.2f} of the training pictures, a head on the same features on {best:.2f}. {why}"


CHECKS = [
    exercise("05.1", "train_vgg16", "adapt VGG16", small_vggs, ask_train, rules_train, seen=TOLD, points=2, limit_s=10),
    exercise("05.2", "cut_at", "how many layers may run once", stacks, ask_cut, rules_cut, seen=CUT, points=2, limit_s=30),
    exercise("05.3", "still_fresh", "is this bank fresh?", banks, ask_fresh, rules_fresh, seen=FRESH, points=2),
    exercise("05.4", "adapt", "a new network", unseen, ask_adapt, rules_adapt, seen=TOLD, points=3, repeats=2, limit_s=30),
]
