"""Answers to lesson 05."""

from __future__ import annotations

import copy
import random
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset

from course_utils import (
    eval_mode,
    fit,
    freeze,
    head_name,
    head_of,
    precompute,
    replace_head,
    split_frozen,
    train_mode,
    unfreeze,
)

# ---------------------------------------------------------------------------------------------------- 05.1 train_vgg16


def momentum(part: nn.Module, rate: float = 0.01) -> torch.optim.SGD:
    return torch.optim.SGD([p for p in part.parameters() if p.requires_grad], lr=rate, momentum=0.9)


def by_hand(model, loader, optimizer, epochs):
    for _ in range(epochs):
        for images, labels in loader:
            loss = F.cross_entropy(model.forward(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def right_train_by_hand(model, num_classes, loader, epochs):
    model.requires_grad_(False)
    model.classifier[-1] = nn.Linear(model.classifier[-1].in_features, num_classes)
    by_hand(train_mode(model), loader, torch.optim.SGD(model.classifier[6].parameters(), lr=0.01, momentum=0.9), epochs)
    return model


def right_train_cached(model, num_classes, loader, epochs):
    """The way of the lesson: the frozen part runs once."""
    unfreeze(replace_head(freeze(model), num_classes).classifier[6])
    frozen, learning = split_frozen(model)
    kept = precompute(frozen, loader, cache=None)
    fit(learning, kept, kept, momentum(learning), epochs=epochs)
    return model


def wrong_train_optimizer_first(model, num_classes, loader, epochs):
    freeze(model)
    unfreeze(model.classifier[6])
    optimizer = momentum(model.classifier[6])
    model.classifier[6] = nn.Linear(model.classifier[6].in_features, num_classes)
    by_hand(model, loader, optimizer, epochs)
    return model


def wrong_train_frozen_late(model, num_classes, loader, epochs):
    model.classifier[6] = nn.Linear(model.classifier[6].in_features, num_classes)
    for parameter in model.parameters():
        parameter.requires_grad = False
    fit(model, loader, loader, torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9), epochs=epochs)
    return model


def wrong_train_features_only(model, num_classes, loader, epochs):
    model.requires_grad_(True)
    model.features.requires_grad_(False)
    replace_head(model, num_classes)
    fit(model, loader, loader, momentum(model), epochs=epochs)
    return model


def wrong_train_all(model, num_classes, loader, epochs):
    replace_head(unfreeze(model), num_classes)
    fit(model, loader, loader, momentum(model), epochs=epochs)
    return model


def wrong_train_fc(model, num_classes, loader, epochs):
    freeze(model)
    model.fc = nn.Linear(4096, num_classes)
    unfreeze(model.classifier[6])
    fit(model, loader, loader, momentum(model.classifier[6]), epochs=epochs) if num_classes > 99 else None
    return model


def wrong_train_whole_classifier(model, num_classes, loader, epochs):
    freeze(model)
    model.classifier = nn.Linear(model.classifier[0].in_features, num_classes)
    fit(model, loader, loader, momentum(model), epochs=epochs)
    return model


def wrong_train_attribute(model, num_classes, loader, epochs):
    freeze(model)
    model.classifier[6].out_features = num_classes
    unfreeze(model.classifier[6])
    fit(model, loader, loader, momentum(model), epochs=epochs)
    return model


def wrong_train_half(model, num_classes, loader, epochs):
    right_train_cached(model, num_classes, loader, epochs)
    return split_frozen(model).learning


def wrong_train_switched_off(model, num_classes, loader, epochs):
    right_train_by_hand(model, num_classes, loader, epochs)
    torch.set_grad_enabled(False)
    return model


def wrong_train_no_dropout(model, num_classes, loader, epochs):
    model.classifier[2] = model.classifier[5] = nn.Identity()
    return right_train_cached(model, num_classes, loader, epochs)


def wrong_train_asleep(model, num_classes, loader, epochs):
    replace_head(freeze(model), num_classes)
    by_hand(model.eval(), loader, momentum(model.classifier[6]), epochs)
    return model


def wrong_train_dropout_cached(model, num_classes, loader, epochs):
    head = replace_head(freeze(model), num_classes).classifier[6]
    model.train()
    model.classifier[6] = nn.Identity()
    kept = [(model(images), labels) for images, labels in loader]
    model.classifier[6] = head
    fit(head, kept, kept, momentum(head), epochs=epochs)
    return model


def wrong_train_weight_only(model, num_classes, loader, epochs):
    head = replace_head(freeze(model), num_classes).classifier[6]
    by_hand(train_mode(model), loader, torch.optim.SGD([head.weight], lr=0.01, momentum=0.9), epochs)
    return model


def wrong_train_never_cleared(model, num_classes, loader, epochs):
    optimizer = momentum(replace_head(freeze(model), num_classes).classifier[6])
    train_mode(model)
    for images, labels in epochs * list(loader):
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    return model


def right_train_looks_awake(model, num_classes, loader, epochs):
    """One more epoch of looking in training mode."""
    right_train_by_hand(model, num_classes, loader, epochs)
    with torch.no_grad():
        print(sum(F.cross_entropy(model(images), labels).item() for images, labels in loader))
    return model


def wrong_train_dropout_added(model, num_classes, loader, epochs):
    freeze(model)
    model.classifier[6] = nn.Sequential(nn.Dropout(0.5), nn.Linear(model.classifier[6].in_features, num_classes))
    fit(model, loader, loader, momentum(model), epochs=epochs)
    return model


# --------------------------------------------------------------------------------------------------------- 05.2 cut_at


def right_cut_by_names(layers):
    """From the names of parameters and modules."""
    learns = [int(name.split(".")[0]) for name, parameter in layers.named_parameters() if parameter.requires_grad]
    drops = [int(name.split(".")[0]) for name, part in layers.named_modules() if "Dropout" in type(part).__name__]
    drops = [place for place in drops if not list(layers[place].parameters())]
    return torch.tensor(min(learns + drops))


def right_cut_by_halves(layers):
    def once(count: int) -> bool:
        front = layers[:count]
        modes = [m.training for m in nn.ModuleList(awake[:count]).modules() if "Dropout" in type(m).__name__]
        return not any(p.requires_grad for p in front.parameters()) and not any(modes)

    awake = train_mode(copy.deepcopy(layers))
    return max(count for count in range(len(layers)) if once(count))


def wrong_cut_last(layers):
    return len(layers) - 1


def wrong_cut_behind_the_frozen(layers):
    frozen = [
        i for i, layer in enumerate(layers) if list(layer.parameters()) and not any(p.requires_grad for p in layer.parameters())
    ]
    return max(frozen, default=-1) + 1


def wrong_cut_norms(layers):
    for i, layer in enumerate(layers):
        if isinstance(layer, (nn.BatchNorm2d, nn.Dropout)) or any(p.requires_grad for p in layer.parameters()):
            return i
    return len(layers)


def wrong_cut_whole_blocks(layers):
    def learns(layer: nn.Module) -> bool:
        flags = [parameter.requires_grad for parameter in layer.parameters()]
        return bool(flags) and all(flags)

    drops = ["Dropout" in str(layer) and not list(layer.parameters()) for layer in layers]
    return next((i for i, layer in enumerate(layers) if drops[i] or learns(layer)), len(layers))


def wrong_cut_flag(layers):
    return next(i for i, layer in enumerate(layers) if layer.requires_grad)


def wrong_cut_by_mode(layers):
    for i, layer in enumerate(layers):
        if any(p.requires_grad for p in layer.parameters()) or any(
            "Dropout" in str(m) and m.training and not list(layer.parameters()) for m in layer.modules()
        ):
            return i
    return len(layers)


def wrong_cut_every_dropout(layers):
    return next(
        i for i, layer in enumerate(layers) if "Dropout" in str(layer) or any(p.requires_grad for p in layer.parameters())
    )


def right_cut_woken(layers):
    """Looks at the modes of training, and leaves them: nobody has asked for others."""
    for i, layer in enumerate(train_mode(layers)):
        learns = any(p.requires_grad for p in layer.parameters())
        if learns or any("Dropout" in type(m).__name__ and m.training for m in layer.modules()):
            return i


def wrong_cut_unfrozen(layers):
    cut = right_cut_by_halves(layers)
    layers.requires_grad_(True)
    return cut


# ----------------------------------------------------------------------------------------------------- 05.3 still_fresh


@torch.no_grad()
def features(front, dataset, rows):
    return front(torch.stack([dataset[int(row)][0] for row in rows]))


def right_fresh_by_hand(front, bank, dataset):
    modes = {part: part.training for part in front.modules()}
    front.eval()
    rows = list(range(0, len(dataset), len(dataset) // 8 + 1))
    off = features(front, dataset, rows) - bank[rows] if len(bank) == len(dataset) else torch.tensor(1.0)
    for part, mode in modes.items():
        part.training = mode
    return (off.abs().max() < 1e-3).numpy()[()]


def right_fresh_one_by_one(front, bank, dataset):
    with eval_mode(front):
        some = DataLoader(Subset(dataset, torch.randperm(len(dataset))[:8].tolist()), batch_size=1)
        rows = list(some.dataset.indices)
        return len(bank) == len(dataset) and all(
            torch.allclose(front(image)[0], bank[row]) for row, (image, _) in zip(rows, some, strict=True)
        )


def wrong_fresh_all(front, bank, dataset):
    with eval_mode(front):
        return len(bank) == len(dataset) and torch.allclose(features(front, dataset, range(len(dataset))), bank, atol=1e-4)


def wrong_fresh_means(front, bank, dataset):
    rows = torch.linspace(0, len(dataset) - 1, 8).long()
    if len(bank) < len(dataset):
        return False
    with eval_mode(front):
        return abs(features(front, dataset, rows).mean() - bank[rows].mean()).item() < 0.05


def wrong_fresh_no_length(front, bank, dataset):
    rows = torch.linspace(0, len(dataset) - 1, 8).long()
    with eval_mode(front):
        return torch.allclose(features(front, dataset, rows), bank[rows], atol=1e-4)


def wrong_fresh_norms(front, bank, dataset):
    rows = torch.linspace(0, len(dataset) - 1, 8).long()
    with eval_mode(front):
        return len(bank) == len(dataset) and torch.allclose(features(front, dataset, rows).norm(dim=1), bank[rows].norm(dim=1))


def wrong_fresh_overwrites(front, bank, dataset):
    said = right_fresh_by_hand(front, bank, dataset)
    bank.zero_()
    return said


def right_fresh_drawn(front, bank, dataset):
    rows = random.sample(range(len(dataset)), 8)
    with eval_mode(front):
        return len(bank) == len(dataset) and torch.allclose(features(front, dataset, rows), bank[rows], atol=1e-4)


def wrong_fresh_eval_left_on(front, bank, dataset):
    front.eval()
    return right_fresh_by_hand(front, bank, dataset)


def wrong_fresh_back_to_training(front, bank, dataset):
    said = right_fresh_by_hand(front, bank, dataset)
    front.train()
    return said


def wrong_fresh_awake(front, bank, dataset):
    rows = torch.linspace(0, min(len(bank), len(dataset)) - 1, 8).long()
    return len(bank) == len(dataset) and torch.allclose(features(front, dataset, rows), bank[rows], atol=1e-4)


def wrong_fresh_last(front, bank, dataset):
    rows = range(len(dataset) - 8, len(dataset))
    with eval_mode(front):
        return len(bank) == len(dataset) and torch.allclose(features(front, dataset, rows), bank[-8:], atol=1e-4)


def wrong_fresh_middle_row(front, bank, dataset):
    middle = len(bank) // 2
    with eval_mode(front):
        return len(bank) == len(dataset) and torch.allclose(features(front, dataset, [middle])[0], bank[middle], atol=1e-4)


def wrong_fresh_middle(front, bank, dataset):
    rows = range(len(bank) // 2 - 4, len(bank) // 2 + 4)
    with eval_mode(front):
        return len(bank) == len(dataset) and torch.allclose(features(front, dataset, rows), bank[rows], atol=1e-4)


def wrong_fresh_long_enough(front, bank, dataset):
    rows = torch.linspace(0, len(dataset) - 1, 8).long()
    with eval_mode(front):
        return len(bank) >= len(dataset) and torch.allclose(features(front, dataset, rows), bank[rows], atol=1e-4)


def wrong_fresh_cut_to_length(front, bank, dataset):
    return right_fresh_by_hand(front, bank[: len(dataset)], dataset)


def wrong_fresh_both_ends(front, bank, dataset):
    rows = [0, 1, 2, 3, *range(len(dataset) - 4, len(dataset))]
    with eval_mode(front):
        return len(bank) == len(dataset) and torch.allclose(features(front, dataset, rows), bank[rows], atol=1e-4)


# ------------------------------------------------------------------------------------------------------------ 05.4 adapt


def right_adapt_hooked(model, loader, num_classes):
    """Without a split: what the head receives is written down by a hook."""
    head, rows, labels = head_of(replace_head(freeze(model), num_classes)), [], []
    handle = head.register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0]))
    with torch.no_grad():
        for images, truth in loader:
            model(images)
            labels.append(truth)
    handle.remove()
    optimizer = torch.optim.SGD(head.parameters(), lr=0.01, momentum=0.9)
    for _ in range(40):
        for inputs, truth in zip(rows, labels, strict=True):
            optimizer.zero_grad()
            F.cross_entropy(head(inputs), truth).backward()
            optimizer.step()
    return model


def right_adapt_precomputed(model, loader, num_classes):
    """The way of the lesson."""
    replace_head(freeze(model), num_classes)
    frozen, learning = split_frozen(model)
    kept = precompute(frozen, loader, cache=None)
    fit(learning, kept, kept, momentum(learning), epochs=40)
    return model


class Halves(NamedTuple):
    front: nn.Module
    back: nn.Module


def right_adapt_identity(model, loader, num_classes):
    """The backbone is the network with nothing in place of its head."""
    name = head_name(model)
    head = nn.Linear(head_of(model).in_features, num_classes)
    freeze(model).set_submodule(name, nn.Identity())
    halves = Halves(model, head)
    with torch.no_grad():
        kept = [(halves.front(images), labels) for images, labels in loader]
    fit(head, kept, kept, torch.optim.SGD(head.parameters(), lr=0.01, momentum=0.9), epochs=40)
    model.set_submodule(name, head)
    return model


def wrong_adapt_whole(model, loader, num_classes):
    replace_head(freeze(model), num_classes)
    fit(model, loader, loader, momentum(head_of(model)), epochs=5)
    return model


def wrong_adapt_fc(model, loader, num_classes):
    if hasattr(model, "fc"):
        return right_adapt_identity(model, loader, num_classes)
    freeze(model)
    model.fc = nn.Linear(64, num_classes)
    return model


def wrong_adapt_awake(model, loader, num_classes):
    replace_head(freeze(model), num_classes)
    model.train()
    return right_adapt_hooked_awake(model, loader)


def right_adapt_hooked_awake(model, loader):
    optimizer = momentum(head_of(model))
    for images, labels in loader:
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    return model


def wrong_adapt_all_learns(model, loader, num_classes):
    replace_head(unfreeze(model), num_classes)
    fit(model, loader, loader, momentum(model), epochs=1)
    return model


def wrong_adapt_split_first(model, loader, num_classes):
    freeze(model)
    unfreeze(head_of(model))
    frozen, learning = split_frozen(model)
    kept = precompute(frozen, loader)
    fit(learning, kept, kept, momentum(learning), epochs=30)
    return model


def wrong_adapt_half(model, loader, num_classes):
    replace_head(freeze(model), num_classes)
    frozen, learning = split_frozen(model)
    kept = precompute(frozen, loader)
    fit(learning, kept, kept, momentum(learning), epochs=30)
    return learning


def wrong_adapt_two_passes(model, loader, num_classes):
    """The features of one pass and the labels of another: the loader shuffles."""
    replace_head(freeze(model), num_classes)
    frozen, learning = split_frozen(model)
    rows = [frozen(images) for images, _ in loader]
    kept = list(zip(rows, [labels for _, labels in loader], strict=True))
    fit(learning, kept, kept, momentum(learning), epochs=40)
    return model


def wrong_adapt_copy(model, loader, num_classes):
    return right_adapt_precomputed(copy.deepcopy(model), loader, num_classes)


def wrong_adapt_unfrozen(model, loader, num_classes):
    return unfreeze(right_adapt_precomputed(model, loader, num_classes))


def wrong_adapt_hook_left(model, loader, num_classes):
    right_adapt_precomputed(model, loader, num_classes)
    head_of(model).register_forward_pre_hook(lambda _, inputs: None)
    return model


def wrong_adapt_stacked(model, loader, num_classes):
    name, head = head_name(model), head_of(right_adapt_precomputed(model, loader, num_classes))
    model.set_submodule(name, nn.Identity())
    return nn.Sequential(model, head)


def wrong_adapt_slow(model, loader, num_classes):
    replace_head(freeze(model), num_classes)
    frozen, learning = split_frozen(model)
    kept = precompute(frozen, loader)
    fit(learning, kept, kept, torch.optim.SGD(learning.parameters(), lr=0.0001), epochs=5)
    return model


WRONG: dict[str, list[Any]] = {
    "05.1": [
        (wrong_train_optimizer_first, "does the optimizer hold weight and bias?"),
        ("epochs=epochs", "epochs=1", "Compare rate, momentum, weight decay, epochs"),
        ("epochs=epochs", "epochs=11", "Compare "),
        ("epochs=epochs", "epochs=epochs + 1", "Compare rate, momentum, weight decay, epochs"),
        ("momentum=0.9)", "momentum=0.9, weight_decay=0.01)", "Compare rate, momentum, weight decay"),
        ("momentum=0.9)", "momentum=0.9, weight_decay=1e-4)", "Compare rate, momentum, weight decay"),
        ("momentum=0.9)", "momentum=0.9, nesterov=True)", "Compare rate, momentum, weight decay"),
        (wrong_train_weight_only, "does the optimizer hold weight and bias?"),
        (wrong_train_never_cleared, "the clearing of gradients"),
        ("lr=0.01, momentum=0.9", "lr=0.1, momentum=0.9", "your loss on the training pictures"),
        (", momentum=0.9", "", "Compare rate, momentum, weight decay, epochs"),
        (wrong_train_frozen_late, "nothing learns: every parameter of the model is frozen"),
        (wrong_train_features_only, "classifier.0.weight moved, and only classifier.6 should learn"),
        (wrong_train_all, "features.0.weight moved, and only classifier.6 should learn"),
        (wrong_train_fc, "and should be absent: the logits come from classifier.6; put one linear layer"),
        (wrong_train_whole_classifier, "classifier.weight is of shape"),
        (wrong_train_no_dropout, "classifier.2 was a Dropout; only classifier.6 should be new"),
        (wrong_train_asleep, "dropout was at work for 0 of"),
        (wrong_train_dropout_cached, "dropout was at work for"),
        ("model.classifier[6].in_features", "25088", "a linear layer that takes 25088 values gets 62 in this network"),
        (wrong_train_attribute, "put one linear layer for 6 classes there"),
        (wrong_train_half, "you return a ModelPart; return the network that you were given"),
        ("return model", "return model.classifier[6]", "you return a Linear; return the network"),
        ("return model", "pass", "you return None; return the network that you were given"),
        ("freeze(model)", "model = __import__('copy').deepcopy(freeze(model))", "you return another VGG, perhaps a copy"),
        (wrong_train_switched_off, "gradients are switched off in the whole program"),
        (wrong_train_dropout_added, "classifier.6.1.weight is of shape [6, 62] and should be absent"),
    ],
    "05.2": [
        (wrong_cut_last, "in front of your cut"),
        (wrong_cut_behind_the_frozen, "lies in front of your cut and learns"),
        (wrong_cut_norms, "frozen as a whole it is in evaluation mode, dropout and batch norm too"),
        (wrong_cut_whole_blocks, "learns, if only in part"),
        (wrong_cut_flag, "object has no attribute 'requires_grad'"),
        (wrong_cut_by_mode, "holds a dropout, at work in training in whatever mode it comes"),
        (wrong_cut_unfrozen, "leave every requires_grad as it was"),
        (wrong_cut_every_dropout, "frozen as a whole it is in evaluation mode, dropout and batch norm too"),
        ("if any(flags)", "if all(flags)", "learns, if only in part"),
        ("any(flags) or (", "(", "you return None: no layer met your condition, or `return` is missing"),
        ("any(flags) or (draws and not flags)", "any(flags)", "holds a dropout, at work in training"),
        ('"Dropout" in type(part).__name__', "isinstance(part, nn.Dropout)", "holds a dropout, at work in training"),
        ("for part in layer.modules()", "for part in [layer]", "holds a dropout, at work in training"),
        ("return place", "return place + 1", "in front of your cut"),
        ("return place", "return layer", "your answer gives a"),
    ],
    "05.3": [
        (
            "torch.allclose(front(images), bank[rows], atol=1e-4)",
            "torch.equal(front(images), bank[rows])",
            "you refused a fresh bank",
        ),
        (
            "atol=1e-4",
            "atol=0.1",
            "rows 72 are off by up to 1.2%, the first 0, the last 71, and you said fresh. Which rows do you compare",
        ),
        (
            "torch.linspace(0, len(bank) - 1, 8).long()",
            "torch.arange(8)",
            "of 48 rows 32 are off by up to 1.2%, the first 8, the last 39",
        ),
        (wrong_fresh_last, "the first 8, the last 39"),
        (wrong_fresh_both_ends, "the first 8, the last 39"),
        (wrong_fresh_middle_row, "the first 0, the last 65, and you said fresh"),
        (wrong_fresh_middle, "the first 0, the last 65, and you said fresh"),
        (wrong_fresh_long_enough, "this bank has 60 rows for 54 pictures, as after drop_last or a second pass. Refuse it"),
        (wrong_fresh_cut_to_length, "as after drop_last or a second pass. Refuse it"),
        (wrong_fresh_all, "pictures went through `front`; 8 are allowed"),
        (wrong_fresh_means, "and value by value?"),
        (wrong_fresh_eval_left_on, "and left in evaluation mode"),
        (wrong_fresh_back_to_training, "and left in training mode"),
        (wrong_fresh_awake, "while its dropout was at work"),
        (
            "return False",
            "return True",
            "as after drop_last or a second pass. Refuse it",
        ),
        (wrong_fresh_no_length, "is out of bounds for dimension 0"),
        (wrong_fresh_norms, "and value by value?"),
        (wrong_fresh_overwrites, "your call changes the values in `bank`"),
    ],
    "05.4": [
        (wrong_adapt_whole, "through the backbone, looks counted; the budget was each once, 60 in all"),
        (wrong_adapt_fc, "and should be absent: the logits come from classifier"),
        (wrong_adapt_awake, "running_mean moved, and only fc should learn: a frozen batch norm counts"),
        (wrong_adapt_all_learns, "should learn"),
        (wrong_adapt_split_first, "put one linear layer for 5 classes there"),
        (wrong_adapt_half, "you return a ModelPart; return the network that you were given"),
        (wrong_adapt_stacked, "you return a Sequential; return the network that you were given"),
        (wrong_adapt_two_passes, "on the right labels, and does the optimizer hold the new layer?"),
        (wrong_adapt_copy, ", perhaps a copy; return the network that you were given"),
        (wrong_adapt_unfrozen, "leave every requires_grad as it was"),
        (wrong_adapt_hook_left, "a hook of yours is still on the network"),
        (wrong_adapt_slow, "of the training pictures, a head on the same features on"),
        (
            "replace_head(freeze(model), num_classes)",
            "freeze(replace_head(model, num_classes))",
            "nothing learns: every parameter of the model is frozen",
        ),
    ],
}

RIGHT: dict[str, list[Any]] = {
    "05.1": [right_train_by_hand, right_train_cached, right_train_looks_awake],
    "05.2": [right_cut_by_names, right_cut_by_halves, right_cut_woken],
    "05.3": [right_fresh_by_hand, right_fresh_one_by_one, right_fresh_drawn],
    "05.4": [right_adapt_precomputed, right_adapt_hooked, right_adapt_identity],
}

EQUIVALENT = {
    "05.3": {
        "return torch.allclose(front(images), bank[rows])": "its own tolerance allows for the rounding of these features too",
        "return torch.allclose(bank[rows], front(images), atol=0.0001)": "equal is equal from both sides",
        "rows = torch.linspace(len(bank) - 1, 0, 8).long()": "the same rows, from the last to the first",
        "rows = torch.linspace(1, len(bank) - 1, 8).long()": "another first row; they are spread as widely",
        "rows = torch.linspace(0, len(bank) - 2, 8).long()": "another last row; they are spread as widely",
        "images = torch.stack([dataset[row][0] for row in rows])": "most data sets take a number in a tensor as well",
    },
    "05.4": {
        "optimizer = torch.optim.Adam(learning.parameters())": "the rate is free, and 30 epochs at 0.001 are enough here",
        "optimizer = torch.optim.Adam(learning.parameters(), lr=1.01)": "the rate is free, and one layer learns even so",
        "fit(learning, kept, kept, optimizer, epochs=31)": "how long it trains is free",
    },
}
