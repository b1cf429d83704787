"""Answers to lesson 04."""

from __future__ import annotations

import random
from collections import defaultdict

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from course_utils import evaluate, train_mode, train_one_epoch

# -------------------------------------------------------------------------------------------------- 04.1 mend a loop


def wrong_as_sent(model, loader, optimizer):
    model.train()
    total = 0.0
    for images, labels in loader:
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.zero_grad()
        optimizer.step()
        total += loss.item()
    return total / len(loader.dataset)


def wrong_unfrozen(model, loader, optimizer):
    model.requires_grad_(True)
    return train_one_epoch(model, loader, optimizer).loss


def wrong_return_inside(model, loader, optimizer):
    train_mode(model)
    for images, labels in loader:
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()
    return 0.0


def wrong_asked_twice(model, loader, optimizer):
    train_mode(model)
    total, seen = 0.0, 0
    for images, labels in loader:
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += F.cross_entropy(model(images), labels).item() * len(labels)
        seen += len(labels)
    return total / seen


def wrong_measured_afterwards(model, loader, optimizer):
    train_one_epoch(model, loader, optimizer)
    return evaluate(model, loader).loss


def wrong_gradients_off(model, loader, optimizer):
    loss = train_one_epoch(model, loader, optimizer).loss
    torch.set_grad_enabled(False)
    return loss


def wrong_copy(model, loader, optimizer):
    """Trains another model, of which the optimizer knows nothing."""
    import copy

    model = copy.deepcopy(model)
    return train_one_epoch(model, loader, torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)).loss


def trained(model, loader, optimizer, loss_of=F.cross_entropy):
    """The right steps, in whatever mode the model is."""
    total, seen = 0.0, 0
    for images, labels in loader:
        optimizer.zero_grad()
        loss = loss_of(model(images), labels)
        loss.backward()
        optimizer.step()
        total, seen = total + loss.item() * len(labels), seen + len(labels)
    return total / seen


def wrong_dropout_awake(model, loader, optimizer):
    """Wakes all dropouts, those of frozen parts too."""
    for module in train_mode(model).modules():
        if isinstance(module, nn.Dropout):
            module.train()
    return trained(model, loader, optimizer)


def wrong_only_batch_norm_frozen(model, loader, optimizer):
    for module in model.train().modules():
        if isinstance(module, nn.BatchNorm2d) and not module.weight.requires_grad:
            module.eval()
    return trained(model, loader, optimizer)


def wrong_all_batch_norms_asleep(model, loader, optimizer):
    for module in train_mode(model).modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return trained(model, loader, optimizer)


def wrong_all_dropouts_asleep(model, loader, optimizer):
    for module in train_mode(model).modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    return trained(model, loader, optimizer)


def wrong_awake_but_batch_norm(model, loader, optimizer):
    for module in model.train().modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return trained(model, loader, optimizer)


def wrong_nll(model, loader, optimizer):
    return trained(train_mode(model), loader, optimizer, F.nll_loss)


def right_course(model, loader, optimizer):
    return train_one_epoch(model, loader, optimizer).loss


def right_plain(model, loader, optimizer):
    """Plain PyTorch: frozen parts back to evaluation mode, gradients cleared after the step, a loss of sums, numpy."""
    for module in (module for module in model.modules() if list(module.parameters())):
        module.train(all(p.requires_grad for p in module.parameters()))
    losses = []
    for images, labels in loader:
        logits = model.forward(images)
        F.cross_entropy(logits, labels).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        losses.extend(F.cross_entropy(logits, labels, reduction="none").tolist())
    return np.mean(losses)


def right_tensor(model, loader, optimizer):
    train_mode(model)
    total, pictures = torch.zeros(()), sum(len(labels) for _, labels in loader)
    for images, labels in list(loader):
        optimizer.zero_grad()
        loss = nn.CrossEntropyLoss()(model(images), labels)
        loss.backward()
        optimizer.step()
        total += loss.detach() * len(labels) / pictures
    return total


# ------------------------------------------------------------------------------------- 04.2 ask, and leave no trace


def share(model, loader):
    with torch.no_grad():
        right = torch.cat([model(images).argmax(1) == labels for images, labels in loader])
    return right.float().mean().item()


def wrong_one_mode_for_all(model, loader):
    was = model.training
    found = share(model.eval(), loader)
    model.train(was)
    return found


def wrong_left_asleep(model, loader):
    return share(model.eval(), loader)


def wrong_flags(model, loader):
    modes = {module: module.training for module in model.modules()}
    found = share(model.eval().requires_grad_(False), loader)
    for module, mode in modes.items():
        module.training = mode
    model.requires_grad_(True)
    return found


def wrong_switch(model, loader):
    torch.set_grad_enabled(False)
    return evaluate(model, loader).accuracy


def wrong_switched_on(model, loader):
    torch.set_grad_enabled(False)
    found = evaluate(model, loader).accuracy
    torch.set_grad_enabled(True)
    return found


def wrong_gradients_gone(model, loader):
    for parameter in model.parameters():
        parameter.grad = None
    return evaluate(model, loader).accuracy


def wrong_seeded(model, loader):
    torch.manual_seed(0)
    return evaluate(model, loader).accuracy


def wrong_mean_of_batches(model, loader):
    return sum(evaluate(model, [batch]).accuracy for batch in loader) / len(loader)


def wrong_last_batch(model, loader):
    return [evaluate(model, [batch]).accuracy for batch in loader][-1]


def wrong_loss(model, loader):
    return evaluate(model, loader).loss


def wrong_statistics(model, loader):
    """Warms batch norm up with the pictures, which changes the model for ever."""
    found = evaluate(model, loader).accuracy
    modes = {module: module.training for module in model.modules()}
    with torch.no_grad():
        for images, _ in loader:
            model.train()(images)
    for module, mode in modes.items():
        module.training = mode
    return found


def right_course_too(model, loader):
    return evaluate(model, loader).accuracy


@torch.inference_mode()
def right_by_hand(model, loader):
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    right = torch.cat([model.forward(images).argmax(-1) == labels for images, labels in loader])
    for module, mode in modes:
        module.training = mode
    return right.float().mean()


def right_numpy(model, loader):
    modes = [module.training for module in model.modules()]
    model.train(False)
    right = [model(images).detach().numpy().argmax(1) == labels.numpy() for images, labels in no_gradients(loader)]
    for module, mode in zip(model.modules(), modes, strict=True):
        module.train(mode) if not list(module.children()) else setattr(module, "training", mode)
    return np.concatenate(right).mean()


def no_gradients(loader):
    with torch.no_grad():
        yield from loader


# --------------------------------------------------------------------------------------------- 04.3 no scene is split


def cut(things, fractions):
    a, b = (max(1, round(share * len(things))) for share in fractions[1:])
    return [things[a + b :], things[:a], things[a : a + b]]


def wrong_frames(labels, scenes, fractions, seed):
    """By class, and to the picture: scenes are forgotten."""
    rng, splits = random.Random(seed), [[], [], []]
    for name in sorted(set(labels)):
        mine = [i for i, label in enumerate(labels) if label == name]
        rng.shuffle(mine)
        splits = [old + new for old, new in zip(splits, cut(mine, fractions), strict=True)]
    return splits


def wrong_not_by_class(labels, scenes, fractions, seed):
    names = sorted(set(scenes))
    random.Random(seed).shuffle(names)
    return [[i for i, scene in enumerate(scenes) if scene in part] for part in cut(names, fractions)]


def by_scene(labels, scenes, fractions, shuffle, order=sorted, divide=cut):
    parts = [[], [], []]
    for name in order(set(labels)):
        mine = order({scene for scene, label in zip(scenes, labels, strict=True) if label == name})
        shuffle(mine)
        parts = [old + new for old, new in zip(parts, divide(mine, fractions), strict=True)]
    return [[i for i, scene in enumerate(scenes) if scene in part] for part in parts]


def wrong_no_seed(labels, scenes, fractions, seed):
    return by_scene(labels, scenes, fractions, random.Random().shuffle)


def wrong_unshuffled(labels, scenes, fractions, seed):
    return by_scene(labels, scenes, fractions, lambda scenes: None)


def wrong_order_of_a_set(labels, scenes, fractions, seed):
    return by_scene(labels, scenes, fractions, random.Random(seed).shuffle, order=list)


def wrong_order_of_classes(labels, scenes, fractions, seed):
    rng, parts = random.Random(seed), [[], [], []]
    for name in set(labels):
        mine = sorted({scene for scene, label in zip(scenes, labels, strict=True) if label == name})
        rng.shuffle(mine)
        parts = [old + new for old, new in zip(parts, cut(mine, fractions), strict=True)]
    return [[i for i, scene in enumerate(scenes) if scene in part] for part in parts]


def wrong_global_seed(labels, scenes, fractions, seed):
    random.seed(seed)
    return by_scene(labels, scenes, fractions, random.shuffle)


def wrong_hashed_seed(labels, scenes, fractions, seed):
    return by_scene(labels, scenes, fractions, lambda mine: random.Random(hash((mine[0], seed))).shuffle(mine))


def wrong_rounded_to_none(labels, scenes, fractions, seed):
    def divide(mine, shares):
        a, b = int(shares[1] * len(mine)), int(shares[2] * len(mine))
        return [mine[a + b :], mine[:a], mine[a : a + b]]

    return by_scene(labels, scenes, fractions, random.Random(seed).shuffle, divide=divide)


def wrong_only_three_are_few(labels, scenes, fractions, seed):
    def divide(mine, shares):
        a, b = int(shares[1] * len(mine)), int(shares[2] * len(mine))
        return cut(mine, shares) if len(mine) == 3 else [mine[a + b :], mine[:a], mine[a : a + b]]

    return by_scene(labels, scenes, fractions, random.Random(seed).shuffle, divide=divide)


def wrong_rounded_down(labels, scenes, fractions, seed):
    def divide(mine, shares):
        a, b, c = (max(1, int(share * len(mine))) for share in shares)
        return [mine[:a], mine[a : a + b], mine[a + b : a + b + c]]

    return by_scene(labels, scenes, fractions, random.Random(seed).shuffle, divide=divide)


def wrong_drawn_three_times(labels, scenes, fractions, seed):
    rng, names = random.Random(seed), sorted(set(scenes))
    parts = [set(rng.sample(names, int(share * len(names)))) for share in fractions]
    return [[i for i, scene in enumerate(scenes) if scene in part] for part in parts]


def wrong_fractions_ignored(labels, scenes, fractions, seed):
    return by_scene(labels, scenes, (0.6, 0.2, 0.2), random.Random(seed).shuffle)


def wrong_sorts_theirs(labels, scenes, fractions, seed):
    splits = by_scene(labels, scenes, fractions, random.Random(seed).shuffle)
    scenes.sort()
    return splits


def wrong_sets(labels, scenes, fractions, seed):
    return [set(part) for part in by_scene(labels, scenes, fractions, random.Random(seed).shuffle)]


def wrong_arrays(labels, scenes, fractions, seed):
    return [np.array(part) for part in by_scene(labels, scenes, fractions, random.Random(seed).shuffle)]


def wrong_names(labels, scenes, fractions, seed):
    names = sorted(set(scenes))
    random.Random(seed).shuffle(names)
    return cut(names, fractions)


def wrong_two_lists(labels, scenes, fractions, seed):
    train, val, test = by_scene(labels, scenes, fractions, random.Random(seed).shuffle)
    return train, val + test


def wrong_from_one(labels, scenes, fractions, seed):
    splits = by_scene(labels, scenes, fractions, random.Random(seed).shuffle)
    return [[i + 1 for i in positions] for positions in splits]


def wrong_shares_of_scenes(labels, scenes, fractions, seed):
    """Equal thirds."""
    return by_scene(labels, scenes, (1 / 3, 1 / 3, 1 / 3), random.Random(seed).shuffle)


def right_torch(labels, scenes, fractions, seed):
    """Torch's generator, cuts rounded down, the order of first appearance, positions as numpy's numbers."""
    generator, of_class, splits = torch.Generator().manual_seed(seed), defaultdict(lambda: defaultdict(list)), ([], [], [])
    for i, (label, scene) in enumerate(zip(labels, scenes, strict=True)):
        of_class[label][scene].append(np.int64(i))
    for of_scene in of_class.values():
        names = list(of_scene)
        order = torch.randperm(len(names), generator=generator).tolist()
        a = max(1, int(fractions[0] * len(names)))
        b = max(a + 1, int((fractions[0] + fractions[1]) * len(names)))
        for place, one in enumerate(order):
            splits[(place >= a) + (place >= b)].extend(of_scene[names[one]])
    return splits


def right_numpy_too(labels, scenes, fractions, seed):
    rng, labels, scenes, splits = np.random.default_rng(seed), np.array(labels), np.array(scenes), [[], [], []]
    for name in np.unique(labels):
        mine = rng.permutation(np.unique(scenes[labels == name]))
        for split, part in zip(splits, cut(mine, fractions), strict=True):
            split.extend(np.flatnonzero(np.isin(scenes, part)).tolist())
    return tuple(splits)


WRONG = {
    "04.1": [
        (wrong_as_sent, "is each line there, and in which order?"),
        ("train_mode(model)", "model.train()", "the frozen batch norm 'layer1.norm' has counted batches"),
        ("train_mode(model)", "model.eval()", "suspect the mode of 'layer2.norm'"),
        ("    train_mode(model)\n", "", "suspect the mode of 'layer2.norm'"),
        ("        optimizer.zero_grad()\n", "", "backward 3 (1 onto cleared gradients), step 3"),
        ("        loss.backward()\n", "", "no weight moved, and nothing failed; calls: model 3, backward 0"),
        ("        optimizer.step()\n", "", "step 0: is each line there, and in which order?"),
        (
            "loss.backward()\n        optimizer.step()",
            "optimizer.step()\n        loss.backward()",
            "is each line there, and in which order?",
        ),
        ("model(images), labels)", "model(images).softmax(1), labels)", "suspect the loss: `F.cross_entropy` takes logits"),
        (
            "(images), labels)",
            '(images), labels, reduction="sum")',
            "suspect the loss: `F.cross_entropy` takes logits, and the mean that it gives goes backward",
        ),
        ("return total / seen", "return total / len(loader.dataset)", ", had a mean loss of "),
        ("return total / seen", "return total", "the 23 pictures, in batches of [10, 10, 3], had a mean loss of 1.3206"),
        ("return total / seen", "return loss.item()", "the 23 pictures, in batches of [10, 10, 3], had a mean loss of"),
        ("loss.item() * len(labels)", "loss.item()", "the weights are right; the 23 pictures, in batches of"),
        (
            "loss.item() * len(labels), seen + len(labels)",
            "loss.item(), seen + 1",
            "in batches of [10, 10, 3], had a mean loss of",
        ),
        ("return total / seen", "return total / seen, 0.5", "should be a number, but is a list"),
        ("return total / seen", "pass", "is None: does your function return something?"),
        (wrong_unfrozen, "leave every requires_grad as it was"),
        (wrong_return_inside, "batches; calls: model 1, backward 1"),
        (wrong_asked_twice, "batches; calls: model 6, backward 3"),
        (wrong_measured_afterwards, "when they were shown, and you return"),
        (wrong_gradients_off, "gradients are switched off in the whole program"),
        (wrong_copy, "no weight moved"),
        ("loss.item() * len(labels)", "loss * len(labels)", "keeps all that backward needed, for every batch: add numbers"),
        (wrong_dropout_awake, "suspect the mode of 'layer1.drop'"),
        (wrong_only_batch_norm_frozen, "suspect the mode of 'layer1.drop'"),
        (wrong_all_batch_norms_asleep, "suspect the mode of 'layer2.norm'"),
        (wrong_all_dropouts_asleep, "suspect the mode of 'layer2.drop'"),
        (wrong_awake_but_batch_norm, "suspect the mode of 'layer1.drop'"),
        (wrong_nll, "suspect the loss: `F.cross_entropy` takes logits"),
        ("return total / seen", "return total / 120", "the 23 pictures, in batches of"),
    ],
    "04.2": [
        ("eval_mode(model), ", "", "in which mode does an answer depend on the rest of its batch?"),
        ("eval_mode(model), torch.no_grad()", "eval_mode(model)", "PyTorch kept all it needs for a backward pass"),
        ("hits / seen", "hits", "in batches of 1 you return 22.0000; 0.8148 of the 27 pictures shown are right"),
        ("hits / seen", "hits / len(loader)", "in one batch you return 22.0000; 0.8148 of the 27 pictures shown are right"),
        ("hits / seen", "100 * hits / seen", "you return 81.4815; 0.8148 of the 27 pictures shown are right"),
        ("argmax(1)", "argmin(1)", "by the place of its own largest logit"),
        ("hits / seen", 'f"{hits / seen:.0%}"', "should be a number, but is a text"),
        (wrong_one_mode_for_all, "'layer1' came in evaluation mode and left in training mode"),
        (wrong_left_asleep, "left in evaluation mode: leave each part's mode alone"),
        (wrong_flags, "leave every requires_grad as it was"),
        (wrong_switch, "use `with torch.no_grad():` instead"),
        (wrong_mean_of_batches, "count each picture that was shown once"),
        (wrong_last_batch, "count each picture that was shown once"),
        (wrong_loss, "pictures shown are right"),
        ("return hits / seen", "return round(hits / seen, 2)", "and round nothing"),
        ("argmax(1)", "argmax()", "by the place of its own largest logit"),
        ("return hits / seen", "return hits / len(loader.dataset)", "a short last one dropped you return"),
        (wrong_switched_on, "puts the switch back"),
        (wrong_gradients_gone, "that is a trace too"),
        (wrong_seeded, "moves the random numbers of the whole program"),
        (wrong_statistics, "an evaluation must not change the model"),
    ],
    "04.3": [
        (wrong_frames, "scenes have pictures in train and in val, such as 'scene"),
        (wrong_not_by_class, "scenes of '"),
        (wrong_no_seed, "two calls with the same seed, two splits"),
        (wrong_unshuffled, "the seed changes nothing"),
        (wrong_order_of_a_set, "the order of a set of strings (sort it first)"),
        (wrong_order_of_classes, "the order of a set of strings (sort it first)"),
        (wrong_hashed_seed, "and `hash()` of one"),
        ("if scene in part]", "if any(one in scene for one in part)]", "times; each of the pictures 0 to"),
        ("if scene in part]", "if scene in str(part)]", "times; each of the pictures 0 to"),
        ("if name == kind", "if kind in name", "times; each of the pictures 0 to"),
        (wrong_global_seed, "use a generator of its own"),
        (
            wrong_rounded_to_none,
            "0 of the 4 scenes of 'boat' are in test; 20% are asked for, that is 0.8: 1 will do, none will not",
        ),
        ("max(1, round(share * len(mine)))", "round(share * len(mine))", "will do, none will not"),
        (wrong_only_three_are_few, "will do"),
        (wrong_rounded_down, "is in the lists 0 times"),
        (wrong_drawn_three_times, "times; each of the pictures 0 to"),
        (wrong_fractions_ignored, "are asked for, that is 5.5: 5 or 6 will do"),
        (wrong_sorts_theirs, "came in one order and left in another"),
        (wrong_sets, "your answer gives a set where"),
        (wrong_arrays, "your answer gives a ndarray where"),
        (wrong_names, "your answer gives a name of a scene where a number"),
        (wrong_two_lists, "three lists of positions are asked for"),
        (wrong_from_one, "position 0 is in the lists 0 times; each of the pictures 0 to"),
        (wrong_shares_of_scenes, "are asked for"),
    ],
}

RIGHT = {
    "04.1": [right_course, right_plain, right_tensor],
    "04.2": [right_course_too, right_by_hand, right_numpy],
    "04.3": [right_torch, right_numpy_too],
}

EQUIVALENT = {
    "04.1": {
        "total, seen = (-0.0, 0)": "a zero with a sign is a zero",
    },
    "04.2": {
        "hits, seen = (hits + right.sum(), seen + len(labels))": "a tensor without dimensions is a number too",
        "right = model(images).argmax(-1) == labels": "the last dimension is the second",
    },
    "04.3": {
        "a, b = (max(round(share * len(mine)), 1) for share in fractions[1:])": "the larger of two numbers, in whatever order",
    },
}
