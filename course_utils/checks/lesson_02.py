"""Checks of lesson 02, the head: a new last layer in five layouts, and a head that starts from rows of an old one."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils.checks.spec import Check, Result, Rng, beside, close, failed, partial, passed, same
from course_utils.heads import build_head

# ---------------------------------------------------------------------------------------------- 02.1 swap_head

HEADS = {
    "resnet": "fc",
    "vgg": "classifier.6",
    "densenet": "classifier",
    "mobilenet": "classifier.1",
    "squeezenet": "classifier.1",
}


@beside
def layouts() -> list[str]:
    return ["resnet", "vgg", "densenet", "mobilenet", "squeezenet"]


@beside
def small_network(layout: str, rng: Rng) -> nn.Module:
    """A few layers of drawn sizes, with the head where torchvision's networks of that family have it."""
    attribute = "fc" if layout == "resnet" else "classifier"

    class Network(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return self.get_submodule(attribute)(self.get_submodule("features")(images)).flatten(1)

    width, hidden, outputs = rng.integer(5, 9), rng.integer(10, 14), rng.integer(20, 29)
    with rng.torch():
        network = Network()
        pool = [] if layout == "squeezenet" else [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        network.features = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), *pool)
        first, middle, last = nn.Linear(width, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, outputs)
        plain, convolution = nn.Linear(width, outputs), nn.Conv2d(width, outputs, 1)
    network.add_module(
        attribute,
        {
            "resnet": plain,
            "vgg": nn.Sequential(first, nn.ReLU(), nn.Dropout(), middle, nn.ReLU(), nn.Dropout(), last),
            "densenet": plain,
            "mobilenet": nn.Sequential(nn.Dropout(0.2), plain),
            "squeezenet": nn.Sequential(nn.Dropout(), convolution, nn.ReLU(), nn.AdaptiveAvgPool2d(1)),
        }[layout],
    )
    return network.eval()


@beside
def images_and_classes(rng: Rng) -> tuple[Tensor, int]:
    """A batch of pictures, and for how many classes the new head is to be."""
    with rng.torch():
        return torch.randn(rng.integer(3, 6), 3, 8, 8), rng.integer(7, 12)


@beside
def outcome(swap_head: Any, network: nn.Module, images: Tensor, num_classes: int) -> dict:
    """The tensors of the network that came back and its logits; or where it stopped."""
    seen: dict[str, Any] = {"stopped": "", "logits": torch.zeros(0), "state": {}}
    try:
        answer = swap_head(network, num_classes)
        if not isinstance(answer, nn.Module):
            return seen | {"stopped": f"it gives back {type(answer).__name__}: return the model"}
        seen["state"] = dict(answer.state_dict())
        with torch.no_grad():
            seen["logits"] = answer.eval()(images)
    except NotImplementedError:
        raise
    except Exception as error:
        first_line = (str(error).splitlines() or ["no message"])[0]
        seen["stopped"] = f"it stopped with {type(error).__name__}: {first_line}"
    return seen


def probe_swap(swap_head: Any, rng: Rng) -> list:
    seen = []
    for layout in layouts():
        network = small_network(layout, rng)
        seen.append(outcome(swap_head, network, *images_and_classes(rng)))
    return seen


def judge_swap(data: list, rng: Rng) -> Result:
    if len(data) != len(HEADS):
        return failed(f"{len(data)} networks came back, {len(HEADS)} were given")
    faults = {}
    for seen, (layout, head) in zip(data, HEADS.items(), strict=True):
        network = small_network(layout, rng)
        images, num_classes = images_and_classes(rng)
        faults[layout] = (
            fault_of_head(seen, network, head)
            or fault_of_body(seen, network, head)
            or fault_of_outputs(seen, network, head, images, num_classes)
        )
    wrong = {layout: fault for layout, fault in faults.items() if fault}
    for layout, fault in wrong.items():
        return partial(Fraction(len(HEADS) - len(wrong), len(HEADS)), f"in the {layout} layout ({HEADS[layout]}) {fault}")
    return passed()


def fault_of_head(seen: dict, network: nn.Module, head: str) -> str:
    """What is wrong with the new layer's tensors, or nothing; a stack of layers in its place is judged by its outputs."""
    after, old = seen["state"], network.state_dict()[f"{head}.weight"]
    new, kind = after.get(f"{head}.weight", torch.zeros_like(old)), "a 1×1 convolution" if old.dim() == 4 else "a linear layer"
    if not after:
        hint = f" (the old head is {kind})" if old.dim() == 4 else ""
        return f"{seen['stopped'] or 'the network has lost all its tensors'}{hint}"
    if new.dim() != old.dim():
        return f"the old head is {kind}, and yours is not"
    if new.shape[1] != old.shape[1]:
        return (
            f"your new layer takes {new.shape[1]} values, but this network brings {old.shape[1]} to its head "
            "(resnet18 brings 512, resnet50 2048): read the number from the old layer"
        )
    if same(new, old):
        return f"the old layer with {len(old)} outputs is still the head"
    if any(same(value, old) for value in after.values()):
        return f"the old layer with {len(old)} outputs is still inside: the new one takes its place, it does not come behind it"
    return ""


def fault_of_body(seen: dict, network: nn.Module, head: str) -> str:
    """What is wrong with the tensors of all other layers, or nothing."""
    body = {name: value for name, value in network.state_dict().items() if not name.startswith(head + ".")}
    lost = [name for name in body if name not in seen["state"]]
    if len(lost) == len(body):
        return "all layers have other names than before: change the model itself, and return it"
    if lost:
        layers, values = len({name.rpartition(".")[0] for name in lost}), sum(body[name].numel() for name in lost)
        return f"{layers} hidden layers ({values:,} values) disappeared; only the last layer is to be replaced"
    changed = [name for name in body if not same(seen["state"][name], body[name])]
    return f"{changed[0]} is not what it was; only the last layer is to be new" if changed else ""


def fault_of_outputs(seen: dict, network: nn.Module, head: str, images: Tensor, num_classes: int) -> str:
    """What is wrong with the logits of the answer, or nothing."""
    logits, wanted = seen["logits"], (len(images), num_classes)
    if seen["stopped"]:
        return seen["stopped"]
    if tuple(logits.shape) != wanted:
        return f"the outputs for {wanted[0]} pictures and {wanted[1]} classes have the shape {tuple(logits.shape)}"
    if (logits >= 0).all() and close(logits.sum(1), torch.ones(len(images))):
        return "each row of outputs sums to 1: return scores (logits), not probabilities"
    network.set_submodule(head, build_head(network.get_submodule(head), num_classes, (), 0.0))
    reference, state = network.state_dict(), seen["state"]
    if {name: value.shape for name, value in state.items()} != {name: value.shape for name, value in reference.items()}:
        found = [f"{name} {tuple(value.shape)}" for name, value in state.items() if name not in reference]
        return f"one layer with weight and bias is expected at {head}; found {found or 'other shapes'}"
    network.load_state_dict(state)
    with torch.no_grad():
        expected = network(images)
    return "" if close(logits, expected) else "the outputs are not what the new layer gives: is something behind it?"


def wrong_typed(model: Any, num_classes: int) -> nn.Module:
    if hasattr(model, "fc"):
        model.fc = nn.Linear(512, num_classes)
    elif isinstance(model.classifier, nn.Linear):
        model.classifier = nn.Linear(1024, num_classes)
    elif len(model.classifier) == 7:
        model.classifier[6] = nn.Linear(4096, num_classes)
    elif len(model.classifier) == 2:
        model.classifier[1] = nn.Linear(1280, num_classes)
    else:
        model.classifier[1] = nn.Conv2d(512, num_classes, kernel_size=1)
    return model


def wrong_behind(model: Any, num_classes: int) -> nn.Module:
    for name, layer in reversed(list(model.named_modules())):
        if isinstance(layer, nn.Linear):
            model.set_submodule(name, nn.Sequential(layer, nn.Linear(layer.out_features, num_classes)))
            break
    return model


def wrong_whole_classifier(model: Any, num_classes: int) -> nn.Module:
    name = "fc" if hasattr(model, "fc") else "classifier"
    first = next(layer for layer in getattr(model, name).modules() if isinstance(layer, (nn.Linear, nn.Conv2d)))
    if isinstance(first, nn.Linear):
        setattr(model, name, nn.Linear(first.in_features, num_classes))
    else:
        model.classifier[1] = nn.Conv2d(first.in_channels, num_classes, 1)
    return model


def wrong_softmax(model: Any, num_classes: int) -> nn.Module:
    name, old = [(n, m) for n, m in model.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))][-1]
    if isinstance(old, nn.Linear):
        new: nn.Module = nn.Linear(old.in_features, num_classes)
    else:
        new = nn.Conv2d(old.in_channels, num_classes, 1)
    model.set_submodule(name, nn.Sequential(new, nn.Softmax(dim=1)))
    return model


def wrong_linear_only(model: Any, num_classes: int) -> nn.Module:
    name, old = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)][-1]
    model.set_submodule(name, nn.Linear(old.in_features, num_classes))
    return model


def wrong_fc_always(model: Any, num_classes: int) -> nn.Module:
    width = next(layer.in_features for layer in model.modules() if isinstance(layer, nn.Linear))
    model.fc = nn.Linear(width, num_classes)
    return model


def wrong_out_features(model: Any, num_classes: int) -> nn.Module:
    [layer for layer in model.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))][-1].out_features = num_classes
    return model


def wrong_no_return(model: nn.Module, num_classes: int) -> None:
    wrong_linear_only(model, num_classes)


def right_by_attribute(model: Any, num_classes: int) -> nn.Module:
    if hasattr(model, "fc"):
        model.fc = nn.Linear(model.fc.in_features, num_classes)
    elif isinstance(model.classifier, nn.Linear):
        model.classifier = nn.Linear(model.classifier.in_features, num_classes)
    elif isinstance(model.classifier[-1], nn.Linear):
        model.classifier[-1] = nn.Linear(model.classifier[-1].in_features, num_classes)
    else:
        model.classifier[1] = nn.Conv2d(model.classifier[1].in_channels, num_classes, kernel_size=1)
    return model


# ------------------------------------------------------------------------------------- 02.2 start_from_old_rows


@beside
def old_and_new(rng: Rng) -> tuple[nn.Linear, list[str], list[str]]:
    """An old head, its class names, and new ones: some of the old in another order, with unknown ones among them."""
    names = rng.shuffled(["bird", "boat", "car", "fish", "flower", "horse", "house", "plane", "train", "tree"])
    count, width = rng.integer(5, 7), rng.integer(4, 9)
    known = rng.shuffled(names[:count])[: rng.integer(3, 4)]
    with rng.torch():
        return nn.Linear(width, count), names[:count], rng.shuffled(known + names[8:])


@beside
def tasks_of(rng: Rng) -> list[tuple[nn.Linear, list[str], list[str]]]:
    """Two tasks: other names, and the same names in the same order."""
    other, (old_head, old_names, _) = old_and_new(rng), old_and_new(rng)
    return [other, (old_head, old_names, old_names)]


@beside
def step_of(head: nn.Linear) -> None:
    """One step of training that moves all rows."""
    loss = F.cross_entropy(head(torch.ones(2, head.in_features)), torch.zeros(2, dtype=torch.long))
    if loss.requires_grad:
        loss.backward()
        torch.optim.SGD(head.parameters(), lr=1.0).step()


@beside
def rows_of(start_from_old_rows: Any, old_head: nn.Linear, old_names: list[str], new_names: list[str]) -> dict:
    """The new head as it comes, the same after a step of training, and what has become of the old one."""
    head = start_from_old_rows(old_head, list(old_names), list(new_names))
    if not isinstance(head, nn.Linear):
        raise TypeError(f"your answer gives back {type(head).__name__}; a new nn.Linear is expected")
    seen = {"weight": head.weight.detach().clone(), "bias": head.bias.detach().clone()}
    step_of(head)
    return seen | {"trained": head.weight, "old_weight": old_head.weight, "old_bias": old_head.bias}


def probe_rows(start_from_old_rows: Any, rng: Rng) -> list[dict]:
    return [rows_of(start_from_old_rows, *task) for task in tasks_of(rng)]


def judge_rows(data: list[dict], rng: Rng) -> Result:
    for seen, (old, old_names, new_names) in zip(data, tasks_of(rng), strict=True):
        fault = fault_of_rows(seen, old, old_names, new_names)
        if fault:
            return failed(f"with the same names in the same order: {fault}" if new_names == old_names else fault)
    return passed()


def fault_of_rows(data: dict, old: nn.Linear, old_names: list[str], new_names: list[str]) -> str:
    """What is wrong with the answer to one task, or nothing."""
    shape, wanted = tuple(data["weight"].shape), (len(new_names), old.in_features)
    if shape != wanted:
        return f"weight has the shape {shape}; for {wanted[0]} names and {wanted[1]} values it should be {wanted}"
    if tuple(data["bias"].shape) != wanted[:1]:
        return f"bias has the shape {tuple(data['bias'].shape)}, for {wanted[0]} names it should be {wanted[:1]}"
    if not (same(data["old_weight"], old.weight) and same(data["old_bias"], old.bias)):
        return "training the new head changed the old one: do they share their tensors? Copy the values"
    for fault in (fault_of_known(data, old, old_names, new_names), fault_of_unknown(data["weight"], old, old_names, new_names)):
        if fault:
            return fault
    if same(data["trained"], data["weight"]):
        return "after a step of training the new head is what it was; it must be able to learn"
    return ""


def fault_of_known(data: dict, old: nn.Linear, old_names: list[str], new_names: list[str]) -> str:
    places = [(row, name, old_names.index(name)) for row, name in enumerate(new_names) if name in old_names]
    for row, name, old_row in places:
        if not same(data["weight"][row], old.weight[old_row]):
            others = [other for other, values in zip(old_names, old.weight, strict=True) if same(data["weight"][row], values)]
            seen = f"the old row of {others[0]!r}: look rows up by name" if others else "not the one it had in the old head"
            return f"the row of {name!r} is {seen}"
    for row, name, old_row in places:
        mine, wanted = data["bias"][row], old.bias[old_row]
        if not same(mine, wanted):
            return f"the weights of the known classes match, but the bias of {name!r} is {mine:.2f} instead of {wanted:.2f}"
    return ""


def fault_of_unknown(weight: Tensor, old: nn.Linear, old_names: list[str], new_names: list[str]) -> str:
    unknown = [(row, name) for row, name in enumerate(new_names) if name not in old_names]
    for row, name in unknown:
        for other, values in zip(old_names, old.weight, strict=True):
            if same(weight[row], values):
                return f"the old head never knew {name!r}, but its row is the old row of {other!r}"
        if not weight[row].any():
            return f"the row of {name!r} is all zeros; leave the rows of unknown classes as nn.Linear makes them"
    if any(same(weight[row], weight[unknown[0][0]]) for row, _ in unknown[1:]):
        return "the rows of all unknown classes are the same; leave them as nn.Linear makes them"
    return ""


def wrong_bias(old_head: nn.Linear, old_names: list[str], new_names: list[str]) -> nn.Linear:
    head = nn.Linear(old_head.in_features, len(new_names))
    for row, name in enumerate(new_names):
        if name in old_names:
            head.weight.data[row] = old_head.weight.data[old_names.index(name)]
    return head


def wrong_view(old_head: nn.Linear, old_names: list[str], new_names: list[str]) -> nn.Linear:
    head = nn.Linear(old_head.in_features, len(new_names))
    head.weight.data = old_head.weight.data[: len(new_names)]
    head.bias.data = old_head.bias.data[: len(new_names)]
    return head


def wrong_same_object(old_head: nn.Linear, old_names: list[str], new_names: list[str]) -> nn.Linear:
    fresh = right_index(old_head, old_names, new_names)
    old_head.weight, old_head.bias = fresh.weight, fresh.bias
    return old_head


def wrong_shortcut(old_head: nn.Linear, old_names: list[str], new_names: list[str]) -> nn.Linear:
    return old_head if old_names == new_names else right_index(old_head, old_names, new_names)


def wrong_by_place(old_head: nn.Linear, old_names: list[str], new_names: list[str]) -> nn.Linear:
    head = nn.Linear(old_head.in_features, len(new_names))
    count = min(len(old_names), len(new_names))
    head.weight.data[:count] = old_head.weight.data[:count]
    head.bias.data[:count] = old_head.bias.data[:count]
    return head


def wrong_known_only(old_head: nn.Linear, old_names: list[str], new_names: list[str]) -> nn.Linear:
    rows = [old_names.index(name) for name in new_names if name in old_names]
    head = nn.Linear(old_head.in_features, len(rows))
    head.weight.data, head.bias.data = old_head.weight.data[rows], old_head.bias.data[rows]
    return head


def wrong_no_test(old_head: nn.Linear, old_names: list[str], new_names: list[str]) -> nn.Linear:
    head = nn.Linear(old_head.in_features, len(new_names))
    for row, name in enumerate(new_names):
        head.weight.data[row] = old_head.weight.data[old_names.index(name)]
        head.bias.data[row] = old_head.bias.data[old_names.index(name)]
    return head


def wrong_zeros(old_head: nn.Linear, old_names: list[str], new_names: list[str]) -> nn.Linear:
    head = right_index(old_head, old_names, new_names)
    for row, name in enumerate(new_names):
        if name not in old_names:
            head.weight.data[row] = 0
    return head


def wrong_nothing_copied(old_head: nn.Linear, old_names: list[str], new_names: list[str]) -> nn.Linear:
    return nn.Linear(old_head.in_features, len(new_names))


def right_index(old_head: nn.Linear, old_names: list[str], new_names: list[str]) -> nn.Linear:
    head = nn.Linear(old_head.in_features, len(new_names))
    rows = [row for row, name in enumerate(new_names) if name in old_names]
    places = [old_names.index(new_names[row]) for row in rows]
    head.weight.data[rows] = old_head.weight.data[places]
    head.bias.data[rows] = old_head.bias.data[places]
    return head


CHECKS = [
    Check(
        "02.1",
        "swap_head",
        "a new last layer in five layouts",
        probe_swap,
        judge_swap,
        [{"stopped": str, "logits": Tensor, "state": {str: Tensor}}],
        points=3,
    ),
    Check(
        "02.2",
        "start_from_old_rows",
        "keep what the old head knows",
        probe_rows,
        judge_rows,
        [dict.fromkeys(("weight", "bias", "trained", "old_weight", "old_bias"), Tensor)],
        points=2,
    ),
]

WRONG = {
    "02.1": [
        (wrong_typed, "takes 512 values, but this network brings"),
        (wrong_behind, "is still inside"),
        (wrong_whole_classifier, "2 hidden layers ("),
        (wrong_softmax, "each row of outputs sums to 1"),
        (wrong_linear_only, "in the squeezenet layout (classifier.1) it stopped with IndexError"),
        (wrong_fc_always, "in the vgg layout (classifier.6) the old layer with"),
        (wrong_out_features, "in the resnet layout (fc) the old layer with"),
        (wrong_no_return, "it gives back NoneType: return the model"),
    ],
    "02.2": [
        (wrong_bias, "the weights of the known classes match, but the bias of"),
        (wrong_view, "training the new head changed the old one"),
        (wrong_same_object, "training the new head changed the old one"),
        (wrong_shortcut, "with the same names in the same order: training the new head changed the old one"),
        (wrong_by_place, "look rows up by name"),
        (wrong_known_only, "weight has the shape"),
        (wrong_no_test, "it stopped with ValueError"),
        (wrong_zeros, "is all zeros"),
        (wrong_nothing_copied, "is not the one it had in the old head"),
    ],
}

RIGHT = {"02.1": [right_by_attribute], "02.2": [right_index]}
