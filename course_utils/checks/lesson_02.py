"""Checks of lesson 02, the head: a new last layer in five layouts, four looks before training, and rows of an old head."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils.checks.spec import LOOK, Result, Rng, beside, close, exercise, left_alone, look, partial, same
from course_utils.finetune import eval_mode
from course_utils.heads import build_head

# ---------------------------------------------------------------------------------------------- 02.1 swap_head

HEADS = {"resnet": "fc", "vgg": "classifier.6", "densenet": "classifier", "mobilenet": "classifier.1"} | {
    "squeezenet": "classifier.1"
}
Swap = tuple[str, nn.Module, Tensor, int]  # layout, model, pictures, and for how many classes the new head is to be


@beside
def small_network(layout: str, outputs: int, rng: Rng) -> nn.Module:
    """A few layers of drawn sizes with the head where torchvision's models of that family have it; modes and flags mixed."""
    attribute = "fc" if layout == "resnet" else "classifier"

    class Network(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return self.get_submodule(attribute)(self.get_submodule("features")(images)).flatten(1)

    width, hidden = rng.integer(5, 9), rng.integer(10, 14)
    with rng.torch():
        network = Network()
        pool = [] if layout == "squeezenet" else [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        network.features = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), *pool)
        first, middle, last = nn.Linear(width, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, outputs)
        plain, convolution = nn.Linear(width, outputs), nn.Conv2d(width, outputs, 1)
    layers = {
        "resnet": plain,
        "vgg": nn.Sequential(first, nn.ReLU(), nn.Dropout(), middle, nn.ReLU(), nn.Dropout(), last),
        "densenet": plain,
        "mobilenet": nn.Sequential(nn.Dropout(0.2), plain),
        "squeezenet": nn.Sequential(nn.Dropout(), convolution, nn.ReLU(), nn.AdaptiveAvgPool2d(1)),
    }
    network.add_module(attribute, layers[layout])
    for part in rng.shuffled([network.features[0], network.features[1], network.get_submodule(attribute)])[:2]:
        part.requires_grad_(False)
    training = rng.shuffled([module for module in network.modules() if not list(module.children())])
    for module in training[::2]:
        module.eval()
    return network


def five_layouts(rng: Rng) -> Iterator[Swap]:
    for layout in ("resnet", "vgg", "densenet", "mobilenet", "squeezenet"):
        outputs, classes = rng.integer(20, 29), rng.integer(15, 19)
        network = small_network(layout, outputs, rng)
        with rng.torch():  # one of them gets as many classes as it had, but others
            yield layout, network, torch.randn(rng.integer(3, 6), 3, 8, 8), outputs if layout == "vgg" else classes


def ask_swap(swap_head: Any, case: Swap) -> dict:
    _, network, images, num_classes = case
    before = look(network)
    said: dict[str, Any] = {"why": "", "before": before, "after": before, "logits": images[:0], "state": {}, "outputs": {}}
    try:
        answer = swap_head(network, num_classes)
        if answer is not network:
            what = "nothing" if answer is None else f"another {type(answer).__name__}, perhaps a copy,"
            return said | {"why": f"{what} came back: change the model that you are given, and return it"}
        said |= {"after": look(network), "state": dict(network.state_dict())}
        layers = network.named_modules(remove_duplicate=False)
        said["outputs"] = {name: vars(one).get("out_features", vars(one).get("out_channels")) for name, one in layers}
        with torch.no_grad():
            said["logits"] = network.eval()(images)
    except NotImplementedError:
        raise
    except Exception as error:
        said["why"] = f"it stopped with {type(error).__name__}: {(str(error).splitlines() or ['no message'])[0]}"
    return said


def rules_swap(said: dict, case: Swap) -> Iterator[str]:
    layout, network, images, num_classes = case
    head = HEADS[layout]
    for rules in (new_layer, rest_of_model):
        for words in rules(said, network, head, images, num_classes):
            yield f"in the {layout} layout ({head}) {words}"


def new_layer(said: dict, network: nn.Module, head: str, images: Tensor, num_classes: int) -> Iterator[str]:
    old, state, logits = network.state_dict()[f"{head}.weight"], said["state"], said["logits"]
    new, kind = state.get(f"{head}.weight"), "a 1×1 convolution" if old.dim() == 4 else "a linear layer"
    if not state:
        yield said["why"] + (f" (the old head is {kind})" if old.dim() == 4 else "")
    if any(same(value, old) for value in state.values()):
        yield f"the old layer with {len(old)} outputs is still inside; a new one takes its place, for any number of classes"
    if lost := {name for name in network.state_dict() if not name.startswith(head + ".")} - state.keys():
        yield f"{len({name.rpartition('.')[0] for name in lost})} other layers disappeared; only the last one is to be replaced"
    if (logits >= 0).all() and close(logits.sum(1), torch.ones(len(images))):
        yield "each row of outputs adds up to 1: return logits, not probabilities"
    if new is None:
        yield "one layer with a weight is expected where the old one was"
    if new.dim() != old.dim():
        yield f"the old head is {kind}, and yours is not"
    if new.shape[1] != old.shape[1]:
        brings = f"your new layer takes {new.shape[1]} values, but this model brings {old.shape[1]} to its head"
        yield f"{brings} (resnet18 brings 512, resnet50 2048): read the number from the old layer"
    if said["outputs"][head] != len(new):
        yield f"the weight has {len(new)} rows, but the layer still says {said['outputs'][head]} outputs: build a new layer"
    if len(new) != num_classes:
        yield f"your new layer has {len(new)} outputs for {num_classes} classes"
    if same(new[:1], old[:1]):
        yield "the new layer begins with rows of the old one, which belong to other classes; leave it as it was built"
    if state.get(f"{head}.bias", old).shape != (num_classes,):
        yield f"your new layer has no bias of {num_classes} numbers, one for each class; the old one had a bias, too"
    if new.shape[2:] != old.shape[2:]:
        yield f"the old head looks at {old.shape[2]}×{old.shape[3]} places at a time, yours at {new.shape[2]}×{new.shape[3]}"


def rest_of_model(said: dict, network: nn.Module, head: str, images: Tensor, num_classes: int) -> Iterator[str]:
    before, after, state = said["before"], said["after"], said["state"]
    body = {name: value for name, value in network.state_dict().items() if not name.startswith(head + ".")}
    for name, value in body.items():
        if not same(state[name], value):
            yield f"{name} is not what it was; only the last layer is to be new"
        if before["learns"].get(name) != after["learns"].get(name):
            yield f"{name!r} was {('frozen', 'trainable')[before['learns'][name]]} and is not now; freezing is lesson 3"
    leaves = [name for name, module in network.named_modules() if name != head and not list(module.children())]
    modes = {name: mode for name, mode in before["modes"].items() if name in leaves}
    yield from left_alone({**before, "modes": modes}, after, but=("learns", "random"))
    if not (after["learns"].get(f"{head}.weight") and after["learns"].get(f"{head}.bias")):
        yield "the new layer comes with requires_grad=False, so it could never learn"
    if said["why"]:
        yield said["why"]
    own = copy.deepcopy(network).eval()
    own.set_submodule(head, build_head(own.get_submodule(head), num_classes, (), 0.0))
    if more := sorted(state.keys() - own.state_dict().keys()):
        yield f"{more[0]} is new, too; one new layer is enough"
    own.load_state_dict(state)
    with torch.no_grad():
        expected = own(images)
    if not close(said["logits"], expected):
        yield "the outputs are not what the new layer gives: is it in the place of the old one? `setattr` does not follow dots"


def layouts_right(said: list[dict], cases: list[Swap]) -> Iterator[Result]:
    found = [next(rules_swap(one, case), "") for one, case in zip(said, cases, strict=True)]
    if wrong := list(filter(None, found)):
        yield partial(Fraction(len(said) - len(wrong), len(said)), wrong[0])


# ---------------------------------------------------------------------------------------------- 02.2 preflight

FAULTS = ("outputs", "labels", "probabilities", "optimizer", "sure")
Start = tuple[nn.Module, torch.optim.Optimizer, Tensor, Tensor, int]  # model, optimizer, pictures, labels, classes


@beside
def start(rng: Rng, low: int, high: int, above: tuple[float, float], plant: str = "", optimizer: str = "all") -> Start:
    """A model for `low` to `high` classes whose first loss lies as far above ln K as said, with what is planted in it.

    The optimizer holds "all", the "head", the "backbone", "groups" (the head in the second, or "first"), or what a "discarded"
    head leaves.
    """
    classes, count = rng.integer(low, high), rng.integer(9, 12)
    layout = rng.choice(["resnet", "vgg", "densenet", "mobilenet"])
    model = small_network(layout, classes + ("outputs" in plant) * rng.integer(1, 9), rng)
    name = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1]
    head: Any = model.get_submodule(name)
    with rng.torch(), torch.no_grad(), eval_mode(model):
        images = torch.randn(count, 3, 8, 8)
        known = plant == "known"  # as a head whose rows were kept: right from the start
        labels = (1 if known else -1) * model(images)[:, :classes]
        labels = labels.argmax(1)
        if not known:
            labels[0], labels[1:3] = 0, classes - 1 if "labels" in plant else classes - 2
        wanted = math.log(classes) + rng.integer(int(100 * above[0]), int(100 * above[1])) / 100
        factor, logits = 0.01, model(images)
        while F.cross_entropy(factor * logits, labels) > 0.1 if known else F.cross_entropy(factor * logits, labels) < wanted:
            factor *= 1.02
        head.weight.mul_(factor), head.bias.mul_(factor)
        if plant == "small":  # logits between 0 and 1
            head.weight.mul_(0.01), head.bias.fill_(0.5)
        if plant == "one":  # rows that add up to 1 and are no probabilities
            head.weight.sub_(head.weight.mean(0)), head.bias.sub_(head.bias.mean()).add_(1 / classes)
    labels += 1 if "labels" in plant else -1 if "minus" in plant else 0
    if "softmax" in plant:
        model.set_submodule(name, nn.Sequential(head, nn.Softmax(dim=1)))
    with rng.torch():
        other = nn.Linear(head.in_features, head.out_features)
    other.load_state_dict(head.state_dict())
    rest = [parameter for parameter in model.parameters() if all(parameter is not own for own in head.parameters())]
    held = {
        "all": model.parameters(),
        "head": head.parameters(),
        "groups": [{"params": rest}, {"params": head.parameters(), "lr": 0.1}],
        "first": [{"params": head.parameters()}, {"params": rest, "lr": 0.001}],
        "backbone": rest,
        "discarded": [*rest, *other.parameters()],
    }
    return model, torch.optim.SGD(held[optimizer], lr=0.01), images, labels, classes


def starts(rng: Rng) -> Iterator[Start]:
    yield start(rng, 12, 24, (0.3, 0.8))
    yield start(rng, 3, 4, (0.3, 0.8), optimizer="head")
    yield start(rng, 4, 9, (0.1, 0.2), "small", "groups")
    yield start(rng, 4, 9, (0.2, 0.5), "one")
    yield start(rng, 4, 9, (0.2, 0.5), "outputs", "discarded")
    yield start(rng, 4, 9, (0.2, 0.5), "labels")
    yield start(rng, 4, 9, (0.2, 0.5), "minus softmax")
    yield start(rng, 4, 9, (0.2, 0.5), "softmax", "head")
    yield start(rng, 4, 9, (0.2, 0.5), "softmax", "discarded")
    yield start(rng, 4, 9, (0.2, 0.5), optimizer="discarded")
    yield start(rng, 4, 9, (1.3, 1.7), optimizer="discarded")
    yield start(rng, 3, 4, (1.3, 1.6))
    yield start(rng, 12, 24, (1.3, 1.7), optimizer="groups")
    yield start(rng, 5, 9, (0.1, 0.2), "known", "first")
    yield start(rng, 4, 9, (0.2, 0.5), optimizer="backbone")


def ask_preflight(preflight: Any, case: Start) -> dict:
    model, optimizer, images, labels, num_classes = case
    before = look(model)
    returned = preflight(model, optimizer, images.clone(), labels.clone(), num_classes)
    gradients = [name for name, parameter in model.named_parameters() if parameter.grad is not None]
    after = {"after": look(model), "state": dict(model.state_dict()), "gradients": gradients}
    return {"returned": returned, "before": before, **after}


def asked(case: Start) -> tuple[Tensor, int, int]:
    """The logits of a start, its smallest and its largest label."""
    model, _, images, labels, _ = case
    with torch.no_grad(), eval_mode(model):
        return model(images), int(labels.min()), int(labels.max())


def faults_of(case: Start) -> dict[str, str]:
    """The faults that are in it, in their order, each with what there is to see."""
    model, optimizer, _, labels, classes = case
    (logits, low, high), faults = asked(case), {}
    if logits.shape[1] != classes:
        faults["outputs"] = f"this model has {logits.shape[1]} outputs for {classes} classes"
    if low < 0 or high >= classes:
        faults["labels"] = f"these labels go from {low} to {high}, the outputs from 0 to {classes - 1}"
    if (logits >= 0).all() and close(logits.sum(1), torch.ones(len(logits))):
        faults["probabilities"] = "these outputs lie between 0 and 1, and each row adds up to 1"
    head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if not any(parameter is head.weight for parameter in held):
        there = (
            f"this optimizer holds {len(held)} tensors, some of a discarded head: look for the layer that is in the model now"
        )
        faults["optimizer"] = f"{there}; equal values do not make it the same tensor"
    if not faults and (loss := F.cross_entropy(logits, labels)) > math.log(classes) + 1:
        faults["sure"] = f"the first loss is {loss:.2f}, and ln {classes} is {math.log(classes):.2f}"
    return faults


def sound(case: Start) -> dict[str, str]:
    """What there is to see in a start without a fault, by what it may be taken for."""
    (logits, low, high), classes = asked(case), case[4]
    loss, between = F.cross_entropy(logits, case[3]), "its logits happen to lie between 0 and 1; probabilities also add up to 1"
    return {
        "outputs": f"{logits.shape[1]} outputs, {classes} classes",
        "labels": f"they go from {low} to {high}; a small batch need not show all {classes} classes",
        "probabilities": between if (logits >= 0).all() else "its rows happen to add up to 1, but some values are below 0",
        "optimizer": f"it holds the head, in one of its {len(case[1].param_groups)} groups; not everything need be in it",
        "sure": f"the first loss is {loss:.2f}, ln {classes} is {math.log(classes):.2f}; a fresh head lies a little above, too",
    }


def rules_preflight(said: dict, case: Start) -> Iterator[str]:
    answer, faults = said["returned"], faults_of(case)
    first = next(iter(faults), "ok")
    if answer not in (*FAULTS, "ok"):
        yield f"you return {answer!r}; return 'ok' or one of {', '.join(map(repr, FAULTS))}"
    if answer != first and first != "ok":
        second = f"; {first!r} comes before {answer!r}, since the later looks rest on it" if answer in faults else ""
        yield f"you return {answer!r}, but {faults[first]}{second}"
    if answer != first:
        yield f"this start is sound, and you return {answer!r}: {sound(case)[answer]}"
    for name, value in case[0].state_dict().items():
        if name not in said["state"] or not same(said["state"][name], value):
            yield f"your preflight changed the model: {name} is not what it was; look, and leave no trace"
    if said["gradients"]:
        yield f"your preflight leaves gradients behind, such as that of {said['gradients'][0]}; the next step would use them"
    yield from left_alone(said["before"], said["after"])


# ------------------------------------------------------------------------------------- 02.3 start_from_old_rows

Rows = tuple[nn.Linear, list[str], list[str]]  # the old head, its names, the new names


def two_tasks(rng: Rng) -> Iterator[Rows]:
    """Some of the old names in another order, with unknown ones among them; then the same names in the same order."""
    for again in (False, True):
        names = rng.shuffled(["bird", "boat", "car", "fish", "flower", "horse", "house", "plane", "train", "tree"])
        count, width = rng.integer(5, 7), rng.integer(4, 9)
        new_names = rng.shuffled(rng.shuffled(names[:count])[: rng.integer(3, 4)] + names[8:])
        with rng.torch():
            old_head = nn.Linear(width, count).requires_grad_(again)
        yield old_head, names[:count], names[:count] if again else new_names


@beside
def step_of(head: nn.Linear) -> None:
    """One step of training that moves all rows."""
    loss = F.cross_entropy(head(torch.ones(2, head.in_features)), torch.zeros(2, dtype=torch.long))
    if loss.requires_grad:
        loss.backward()
        torch.optim.SGD(head.parameters(), lr=1.0).step()


def ask_rows(start_from_old_rows: Any, case: Rows) -> dict:
    """The new head as it comes, the same after a step of training, and what has become of the old one."""
    old_head, old_names, new_names = case
    before = look(old_head)
    head = start_from_old_rows(old_head, list(old_names), list(new_names))
    if not isinstance(head, nn.Linear):
        raise TypeError(f"your answer gives back {type(head).__name__}; a new nn.Linear is expected")
    none = torch.zeros(0)
    weight, bias = head.weight.detach().clone(), none if head.bias is None else head.bias.detach().clone()
    said = {"weight": weight, "bias": bias, "before": before, "after": look(old_head), "is_old": head is old_head}
    step_of(head)
    trained = {"trained": head.weight, "trained_bias": none if head.bias is None else head.bias}
    return said | trained | {"old_weight": old_head.weight, "old_bias": old_head.bias}


def rules_rows(said: dict, case: Rows) -> Iterator[str]:
    old, old_names, new_names = case
    again = "with the same names in the same order: " if old_names == new_names else ""
    for rules in (whole_layer, each_row):
        for words in rules(said, old, old_names, new_names):
            yield again + words


def whole_layer(said: dict, old: nn.Linear, old_names: list[str], new_names: list[str]) -> Iterator[str]:
    shape, wanted = tuple(said["weight"].shape), (len(new_names), old.in_features)
    if said["is_old"]:
        yield "the old head itself comes back; build a new layer, and leave the old one as it is"
    if shape != wanted:
        yield f"weight has the shape {shape}; for {wanted[0]} names and {wanted[1]} features it should be {wanted}"
    if tuple(said["bias"].shape) != wanted[:1]:
        yield f"bias has the shape {tuple(said['bias'].shape)}, for {wanted[0]} names it should be {wanted[:1]}"
    if not (same(said["old_weight"], old.weight) and same(said["old_bias"], old.bias)):
        yield "training the new head changed the old one: do they share their tensors? Copy the values"
    yield from left_alone(said["before"], said["after"], but=("random",))
    own = nn.Linear(old.in_features, len(new_names))
    own.load_state_dict({"weight": said["weight"], "bias": said["bias"]})
    step_of(own)
    if not (close(said["trained"], own.weight) and close(said["trained_bias"], own.bias)) and said["weight"].isfinite().all():
        yield "a step of training does not change the new head as it should; weight and bias must both be able to learn"


def each_row(said: dict, old: nn.Linear, old_names: list[str], new_names: list[str]) -> Iterator[str]:
    weight, unknown = said["weight"], [row for row, name in enumerate(new_names) if name not in old_names]
    for row, name in enumerate(new_names):
        like = next((other for other, values in zip(old_names, old.weight, strict=True) if same(weight[row], values)), None)
        if row in unknown and like:
            yield f"the old head never knew {name!r}, but its row is the old row of {like!r}"
        if row in unknown and not (weight[row].any() and weight[row].isfinite().all()):
            yield f"the row of {name!r} is all zeros, or holds no numbers; leave it as nn.Linear makes it"
        if row not in unknown and like != name:
            found = f"the old row of {like!r}: look rows up by name" if like else "not the one it had in the old head"
            yield f"the row of {name!r} is {found}"
    if any(same(weight[row], weight[unknown[0]]) for row in unknown[1:]):
        yield "the rows of all unknown classes are the same; leave them as nn.Linear makes them"
    for row, name in enumerate(new_names):
        if row not in unknown and not same(said["bias"][row], wanted := old.bias[old_names.index(name)]):
            mine = f"the bias of {name!r} is {said['bias'][row]:.2f} instead of {wanted:.2f}"
            yield f"the weights of the known classes match, but {mine}"


ROWS = dict.fromkeys(("weight", "bias", "trained", "trained_bias", "old_weight", "old_bias"), Tensor)
CHECKS = [
    exercise(
        *("02.1", "swap_head", "a new last layer in five layouts", five_layouts, ask_swap, rules_swap),
        seen={"why": str, "before": LOOK, "after": LOOK, "logits": Tensor, "state": {str: Tensor}, "outputs": {str: Any}},
        overall=layouts_right,
        points=3,
    ),
    exercise(
        *("02.2", "preflight", "five looks before training", starts, ask_preflight, rules_preflight),
        seen={"returned": str, "before": LOOK, "after": LOOK, "state": {str: Tensor}, "gradients": [str]},
        points=3,
    ),
    exercise(
        *("02.3", "start_from_old_rows", "keep what the old head knows", two_tasks, ask_rows, rules_rows),
        seen=ROWS | {"before": LOOK, "after": LOOK, "is_old": bool},
        points=2,
    ),
]
