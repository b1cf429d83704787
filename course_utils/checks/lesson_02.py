"""Checks of lesson 02, the head: a new last layer in five layouts, five looks before training, and rows of an old head."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice, zip_longest
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import MLP

from course_utils.checks.spec import LOOK, Result, Rng, beside, close, exercise, left_alone, look, name_of, partial, same
from course_utils.finetune import eval_mode
from course_utils.heads import head_name, head_of, replace_head

# ---------------------------------------------------------------------------------------------- 02.1 swap_head

Swap = tuple[str, nn.Module, Tensor, int]  # layout, model, pictures, and for how many classes the new head is to be


@beside
def small_network(layout: str, outputs: int, rng: Rng) -> nn.Module:
    """A few layers of drawn sizes with the head where torchvision's models of that family have it; modes and flags mixed."""

    class Network(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            features, head, *_ = self.children()
            return head(features(images)).flatten(1)

    width, hidden, network = rng.integer(5, 9), rng.integer(10, 14), Network()
    with rng.torch():
        pool = [] if layout == "squeezenet" else [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        network.features = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), *pool)
        heads = {
            "vgg": nn.Sequential(*MLP(width, [hidden, hidden, outputs], dropout=0.5))[:-1],
            "mobilenet": nn.Sequential(nn.Dropout(0.2), nn.Linear(width, outputs)),
            "squeezenet": nn.Sequential(nn.Dropout(), nn.Conv2d(width, outputs, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)),
        }
        network.add_module("fc" if layout == "resnet" else "classifier", heads.get(layout, nn.Linear(width, outputs)))
    for parameter in rng.shuffled(list(network.parameters()))[::2]:
        parameter.requires_grad_(False)
    for module in rng.shuffled([module for module in network.modules() if not list(module.children())])[::2]:
        module.eval()
    return network


def models(rng: Rng) -> Iterator[Swap]:
    for layout in ("resnet", "vgg", "densenet", "mobilenet", "squeezenet"):
        outputs, classes = rng.integer(20, 29), rng.integer(15, 19)
        network = small_network(layout, outputs, rng)
        with rng.torch():  # one of them gets as many classes as it had, but others
            yield layout, network, torch.randn(rng.integer(3, 6), 3, 8, 8), outputs if layout == "vgg" else classes


def ask_swap(swap_head: Any, case: Swap) -> dict:
    _, network, images, num_classes = case
    before = look(network)
    said = {"why": "", "before": before, "after": before, "logits": images[:0], "state": {}, "printed": ""}
    try:
        answer = swap_head(network, num_classes)
        if answer is not network:
            what = "nothing" if answer is None else f"another {type(answer).__name__}, perhaps a copy,"
            return said | {"why": f"{what} came back: change the model that you are given, and return it"}
        said |= {"after": look(network), "state": dict(network.state_dict()), "printed": str(network)}
        with torch.no_grad():
            said["logits"] = network.eval()(images)
    except NotImplementedError:
        raise
    except Exception as error:
        said["why"] = f"it stopped with {type(error).__name__}: {error}".partition("\n")[0]
    return said


def rules_swap(said: dict, case: Swap) -> Iterator[str]:
    _, network, images, num_classes = case
    head, state, old = head_name(network), said["state"], network.state_dict()
    own = replace_head(copy.deepcopy(network), num_classes).eval()
    if not state:
        yield said["why"]
    if any(value.dim() > 1 and same(value[:1], old[f"{head}.weight"][:1]) for value in state.values()):
        yield "the old layer, or rows of it, is still inside; they belong to other classes: build a new one, for any number"
    if (said["logits"] >= 0).all() and close(said["logits"].sum(-1), torch.ones(len(images))):
        yield "each row of outputs adds up to 1: return logits, not probabilities"
    for mine, line in zip_longest(said["printed"].splitlines(), str(own).splitlines(), fillvalue="nothing"):
        if mine != line:
            shown = f"print(model) shows {mine.strip()!r} instead of {line.strip()!r}"
            if mine.strip().startswith(f"({head}): ") and "." in head:
                yield f"{shown}: the new layer stands beside the old place, since setattr takes no dotted name"
            yield f"{shown}: one new layer takes the old one's place, of the same kind, for the same inputs; the rest stays"
    for name, value in own.state_dict().items():
        mine = state.get(name, value.new_empty(0))
        if mine.shape != value.shape or not (name.startswith(head) or same(mine, value)):
            yield f"{name} is not what it was, or has not the shape {tuple(value.shape)}; only the last layer is to be new"
    if more := sorted(state.keys() - own.state_dict().keys()):
        yield f"{more[0]} is new, too; one new layer is enough"
    if not (said["after"]["learns"].get(f"{head}.weight") and said["after"]["learns"].get(f"{head}.bias")):
        yield "the new layer comes with requires_grad=False, so it could never learn"
    rest = {
        kind: {name: was for name, was in said["before"][kind].items() if not (name.startswith(head) or head.startswith(name))}
        for kind in ("modes", "learns")
    }
    yield from left_alone(said["before"] | rest, said["after"], but=("random",))
    own.load_state_dict(state)
    with torch.no_grad():
        if not close(said["logits"], own(images)):
            yield said["why"] or "the outputs are not what the new layer gives in the place of the old one"


def share(said: list[dict], cases: list[Swap]) -> Iterator[Result]:
    wrong = []
    for one, case in zip(said, cases, strict=True):
        for words in islice(rules_swap(one, case), 1):
            wrong.append(f"in the {case[0]} layout ({head_name(case[1])}, a {type(head_of(case[1])).__name__}) {words}")
    if wrong:
        yield partial(1 - Fraction(len(wrong), len(said)), wrong[0])


# ---------------------------------------------------------------------------------------------- 02.2 preflight

Start = tuple[nn.Module, torch.optim.Optimizer, Tensor, Tensor, int]  # model, optimizer, pictures, labels, classes


@beside
def start(rng: Rng, classes: int, above: float = 0.5, plant: str = "", held: str = "backbone head") -> Start:
    """A start whose first loss lies `above` ln K, from a head that gives all pictures nearly the same logits.

    Planted are too many "outputs" or too "few", too "large" or "negative" labels, a "softmax", and logits that are "small", add
    up to "one", or are none below 0 and do so in the first row and on average only ("uneven"). Groups that the optimizer may
    hold are the "backbone", the "head", its "bias", and a "discarded" head of equal values.
    """
    outputs, shift = classes + {"outputs": 3, "few": -1}.get(plant, 0), {"large": 2, "negative softmax": -1}.get(plant, 0)
    labels = torch.arange(10) % 2 * (classes - 2)
    model = small_network(rng.choice(["resnet", "vgg", "densenet", "mobilenet"]), outputs, rng)
    name = head_name(model)
    head: Any = model.get_submodule(name)
    seen = torch.tensor([-0.5, -1.5]).mul(above).exp() / classes  # the chances of the two classes that have pictures
    chances = torch.full((outputs,), (1 - seen.sum().item()) / (outputs - 2)).index_copy(0, labels[:2], seen)
    with torch.no_grad():
        head.weight.sub_(head.weight.mean(0)).mul_(0.01)
        head.bias.copy_(chances.log() - chances.log().mean() + {"small": 0.5, "one": 1 / classes}.get(plant, 0))
    groups = {"head": list(head.parameters()), "discarded": [nn.Parameter(one.detach().clone()) for one in head.parameters()]}
    groups["bias"] = [head.bias]
    groups["backbone"] = [one for key, one in model.named_parameters() if not key.startswith(name)]
    if "softmax" in plant:
        model.set_submodule(name, nn.Sequential(head, nn.Softmax(dim=1)))
    optimizer = torch.optim.SGD([{"params": groups[one]} for one in held.split()], lr=0.01)
    with rng.torch():
        images = torch.randn(10, 3, 8, 8)
    if plant == "uneven":
        images[:, 0, 0, 0] = torch.tensor([1, 0.5, 1.5])[torch.arange(10) % 3]  # the sum of each row
        model.register_forward_hook(lambda model, inputs, logits: logits.softmax(1) * inputs[0][:, :1, 0, 0])
    return model, optimizer, images, labels + shift, classes


def starts(rng: Rng) -> Iterator[Start]:
    few, some, many = rng.integer(3, 4), rng.integer(5, 9), rng.integer(12, 24)
    yield start(rng, many)
    yield start(rng, few, held="head")
    yield start(rng, some, 0, "small")
    yield start(rng, some, 0.5, "one", "head backbone")
    yield start(rng, many, -1.5)  # as a head whose rows were kept: right from the start
    yield start(rng, some, 0, "uneven")
    yield start(rng, some, 0.5, "outputs", "backbone discarded")
    yield start(rng, some, 0.5, "few")
    yield start(rng, some, 0.5, "large")
    yield start(rng, some, 0.5, "negative softmax")
    yield start(rng, some, 0.5, "softmax", "head")
    yield start(rng, some, 0.5, "softmax", "backbone discarded")
    yield start(rng, some, held="backbone")
    yield start(rng, some, held="backbone bias")
    yield start(rng, some, 1.5, held="backbone discarded")
    yield start(rng, few, 1.5)
    yield start(rng, many, 1.5)


def ask_preflight(preflight: Any, case: Start) -> dict:
    model, optimizer, images, labels, num_classes = case
    before = look(model)
    hints = {"bounds": f"labels end at {num_classes - 1}", "must match": "`in` and == compare values, `is` asks for one tensor"}
    try:
        returned = preflight(model, optimizer, images.clone(), labels.clone(), num_classes)
    except (IndexError, RuntimeError) as error:
        error.args = (": ".join([*(hint for sign, hint in hints.items() if sign in str(error)), str(error)]),)
        raise
    gradients = [name for name, parameter in model.named_parameters() if parameter.grad is not None]
    state = dict(model.state_dict())
    return {"returned": returned, "before": before, "after": look(model), "state": state, "gradients": gradients}


def looks(case: Start) -> Iterator[tuple[str, Any, str]]:
    """Each fault, whether it is in this start, and what there is to see."""
    model, optimizer, images, labels, classes = case
    with torch.no_grad(), eval_mode(model):
        logits = model(images)
    outputs, sums, low, high, limit = logits.shape[1], logits.sum(1), labels.min(), labels.max(), math.log(classes)
    yield "outputs", outputs != classes, f"the model has {outputs} outputs, for {classes} classes"
    told = f"the labels go from {low} to {high}, for {classes} classes; a small batch need not show all"
    yield "labels", low < 0 or high >= classes, told
    told = f"the outputs go from {logits.min():.2f} to {logits.max():.2f}, rows add up to {sums.min():.2f} to {sums.max():.2f}"
    alike = (logits >= 0).all() and close(sums, torch.ones(len(images)))
    yield "probabilities", alike, f"{told}; probabilities are never below 0, and rows add up to 1 (dim=1; allclose, not ==)"
    held, weight = [one for group in optimizer.param_groups for one in group["params"]], head_of(model).weight
    lacks = all(one is not weight for one in held)
    told = "is not among them; equal values do not make it the same tensor" if lacks else "is among them; not all need be"
    held_in = f"the optimizer holds {len(held)} tensors in {len(optimizer.param_groups)} groups, and the weight of"
    yield "optimizer", lacks, f"{held_in} the head that is in the model now {told}"
    loss = F.cross_entropy(logits, labels.clamp(0, outputs - 1))
    told = f"the first loss is {loss:.2f}, ln {classes} is {limit:.2f}; a fresh head lies a little above, too"
    yield "sure", loss > limit + 1, told


def rules_preflight(said: dict, case: Start) -> Iterator[str]:
    answer, found = said["returned"], {fault: (there, told) for fault, there, told in looks(case)}
    first = next((fault for fault, (there, _) in found.items() if there), "ok")
    if answer not in (*found, "ok"):
        yield f"you return {answer!r}; return 'ok' or one of {', '.join(map(repr, found))}"
    if answer != first:
        what = "this start is sound" if first == "ok" else f"the first fault here is {first!r}"
        yield f"you return {answer!r}, but {what}: {found[answer if first == 'ok' else first][1]}"
    for name, value in case[0].state_dict().items():
        if name not in said["state"] or not same(said["state"][name], value):
            yield f"your preflight changed the model: {name} is not what it was; look, and leave no trace"
    if said["gradients"]:
        yield f"your preflight leaves gradients behind, such as that of {said['gradients'][0]}; the next step would use them"
    yield from left_alone(said["before"], said["after"])


# ------------------------------------------------------------------------------------- 02.3 start_from_old_rows

Rows = tuple[nn.Linear, list[str], list[str]]  # the old head, its names, the new names


def tasks(rng: Rng) -> Iterator[Rows]:
    """Some of the old names in another order, with unknown ones among them that are much alike; then the same names again."""
    for again in (False, True):
        others, alike = rng.shuffled(["bird", "boat", "car", "fish", "horse", "plane"]), ["cross", "striped cross"]
        names = rng.shuffled(["striped star", *alike, *others[: rng.choice([1, 4])]])
        new_names = rng.shuffled(["star", "solid cross", *alike, *others[::5]])
        with rng.torch():
            old_head = nn.Linear(rng.integer(4, 9), len(names)).requires_grad_(again)
        yield old_head, names, list(names) if again else new_names


def ask_rows(start_from_old_rows: Any, case: Rows) -> dict:
    """The new head as it comes, and what has become of the old one after all values of the new one changed."""
    old_head, old_names, new_names = case
    before = look(old_head)
    head = start_from_old_rows(old_head, list(old_names), list(new_names))
    if not isinstance(head, nn.Linear):
        raise TypeError(f"your answer should be a new nn.Linear, but is {name_of(head)}")
    said = {"before": before, "after": look(old_head), "learns": look(head)["learns"]}
    said["new"] = {name: value.clone() for name, value in head.state_dict().items()}
    for value in head.state_dict().values():
        value.add_(1)
    return said | {"old": dict(old_head.state_dict())}


def rules_rows(said: dict, case: Rows) -> Iterator[str]:
    old_head, old_names, new_names = case
    old, new = old_head.state_dict(), said["new"]
    for name, value in nn.Linear(old_head.in_features, len(new_names)).state_dict().items():
        shape = tuple(new.get(name, torch.zeros(0)).shape)
        if shape != value.shape:
            yield f"{name} has the shape {shape}, for {len(new_names)} names it should be {tuple(value.shape)}"
    if said["old"].keys() != old.keys() or not all(same(said["old"][name], value) for name, value in old.items()):
        again = ", where the names are the same," if old_names == new_names else ""
        yield f"training the new head{again} changed the old one: is it the same layer, or its tensors? Copy the values"
    yield from left_alone(said["before"], said["after"], but=("random",))
    if said["learns"] != {"weight": True, "bias": True}:
        yield "weight and bias of the new head must both be able to learn; yours do not"
    for row, name in enumerate(new_names):
        like = [other for other, values in zip(old_names, old["weight"], strict=True) if same(new["weight"][row], values)]
        if like != [name] * (name in old_names):
            found = f"the old row of {like[0]!r}" if like else "not the one it had in the old head"
            yield f"the row of {name!r} is {found}; look classes up by the whole name; others stay as nn.Linear makes them"
        if like and not same(new["bias"][row], wanted := old["bias"][old_names.index(name)]):
            yield f"the weights of {name!r} match, but its bias is {new['bias'][row]:.2f} instead of {wanted:.2f}"
    unknown = [row for row, name in enumerate(new_names) if name not in old_names]
    rows = torch.cat([torch.zeros(1, old_head.in_features), new["weight"][unknown]])
    if not rows.isfinite().all() or len(rows.unique(dim=0)) < len(rows):
        yield "rows of unknown classes are zeros, equal, or hold no numbers; leave them as nn.Linear makes them"


LEFT = {"before": LOOK, "after": LOOK}
NEW = LEFT | {"why": str, "logits": Tensor, "state": {str: Tensor}, "printed": str}
START = LEFT | {"returned": str, "state": {str: Tensor}, "gradients": [str]}
ROWS = LEFT | {"learns": {str: bool}, "new": {str: Tensor}, "old": {str: Tensor}}
CHECKS = [
    exercise(
        "02.1", "swap_head", "a new last layer in five layouts", models, ask_swap, rules_swap, seen=NEW, overall=share, points=3
    ),
    exercise("02.2", "preflight", "five looks before training", starts, ask_preflight, rules_preflight, seen=START, points=3),
    exercise("02.3", "start_from_old_rows", "keep what the old head knows", tasks, ask_rows, rules_rows, seen=ROWS, points=2),
]
