"""Checks of lesson 04, train: one pass of training, one evaluation, three splits."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.utils.data import DataLoader, TensorDataset

from course_utils.checks.spec import Check, Result, Rng, beside, close, failed, partial, passed, same

# --------------------------------------------------------------------------------------------- 04.1 train_epoch


@beside
def small_training(rng: Rng) -> tuple[nn.Module, DataLoader, Optimizer]:
    """A small network, left in evaluation mode as an evaluation may leave it, and three batches, the last one short."""
    size, short, width = rng.integer(8, 12), rng.integer(2, 4), rng.integer(3, 5)
    with rng.torch():
        images, labels = torch.randn(2 * size + short, 3, 5, 5), torch.randint(3, (2 * size + short,))
        images[-short:] *= 4  # the short batch is the hard one, so a mean of batch means is off
        body = OrderedDict(conv=nn.Conv2d(3, width, 3), norm=nn.BatchNorm2d(width), relu=nn.ReLU(), flat=nn.Flatten())
        model = nn.Sequential(OrderedDict(**body, fc=nn.Linear(9 * width, 3))).eval()
    loader = DataLoader(TensorDataset(images, labels), batch_size=size)
    return model, loader, torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


def probe_epoch(train_epoch: Any, rng: Rng) -> dict:
    model, loader, optimizer = small_training(rng)
    returned = train_epoch(model, loader, optimizer)
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {
        "returned": tuple(returned) if isinstance(returned, tuple) else returned,
        "after": dict(model.state_dict()),
        "gradients": gradients,
    }


def own_epoch(rng: Rng, *, clear: bool = True, training: bool = True, batches: int = 3) -> tuple[dict, list[list[float]]]:
    """The state after an epoch, and for each batch its loss per picture, its hits and its size."""
    model, loader, optimizer = small_training(rng)
    model.train(training)
    rows = []
    for images, labels in list(loader)[:batches]:
        logits = model(images)
        loss = F.cross_entropy(logits, labels)
        if clear:
            optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rows.append([loss.item(), float((logits.argmax(1) == labels).sum()), float(len(labels))])
    return dict(model.state_dict()), rows


def judge_epoch(data: dict, rng: Rng) -> Result:
    seed = rng.seed
    before = dict(small_training(Rng(seed))[0].state_dict())
    wanted, rows = own_epoch(Rng(seed))
    after = data["after"]
    if after.keys() != wanted.keys():
        return failed("the model lost or gained tensors; training must not change its structure")
    weights = [name for name in wanted if "running" not in name and "tracked" not in name]
    if all(same(after[name], before[name]) for name in weights):
        if data["gradients"]:
            return failed("gradients were computed, but no weight moved: nobody applied them")
        return failed("no weight moved and nothing failed: nobody computed gradients, or they were gone before the step")
    if not alike(after, wanted):
        return explain_weights(after, Rng(seed), len(rows))
    return judge_averages(data["returned"], rows)


def alike(after: dict, wanted: dict) -> bool:
    return all(close(after[name], wanted[name]) for name in wanted)


def explain_weights(after: dict, rng: Rng, batches: int) -> Result:
    if alike(after, own_epoch(Rng(rng.seed), clear=False)[0]):
        return failed("the second step used the sum of two gradients, the third the sum of three: who clears them?")
    if alike(after, own_epoch(Rng(rng.seed), training=False)[0]):
        return partial(
            Fraction(1, 2), "norm.running_mean did not move: the model came in evaluation mode and was trained in that mode"
        )
    for number in range(1, batches):
        if alike(after, own_epoch(Rng(rng.seed), batches=number)[0]):
            return failed(f"the weights are those after batch {number} of {batches}: does the function return too early?")
    return failed("the weights differ from those after one clear, one backward and one step for each batch, in training mode")


def judge_averages(returned: list, rows: list[list[float]]) -> Result:
    if len(returned) != 2:
        return failed(f"the weights are right; two numbers should come back, loss and accuracy, but you return {len(returned)}")
    losses, hits, sizes = (list(column) for column in zip(*rows, strict=True))
    loss, accuracy = returned
    if not all(type(number) in (int, float) for number in returned):
        return failed("return two numbers, not tensors: `.item()` makes a number of a tensor with one value")
    per_picture = sum(one * size for one, size in zip(losses, sizes, strict=True)) / sum(sizes)
    share = sum(hits) / sum(sizes)
    if not near(loss, per_picture):
        return explain_loss(loss, losses, sizes, per_picture)
    if near(accuracy, share):
        return passed()
    if not 0 <= accuracy <= 1:
        return partial(Fraction(1, 2), f"you report an accuracy of {accuracy:g}; a share lies between 0 and 1")
    shown = f"{sum(hits):g} of {sum(sizes):g} pictures were right when their batch was shown"
    return partial(Fraction(1, 2), f"weights and loss are right; you report an accuracy of {accuracy:.3f}, {shown}")


def explain_loss(loss: float, losses: list[float], sizes: list[float], per_picture: float) -> Result:
    half = Fraction(1, 2)
    if near(loss, sum(losses) / len(losses)):
        batches = ", ".join(f"{size:g}" for size in sizes)
        return partial(half, f"batches of {batches}: you report {loss:.3f}, per picture it is {per_picture:.3f}")
    if near(loss, per_picture * sum(sizes)) or near(loss, sum(losses)):
        return partial(half, f"you report {loss:.3f}: a sum; asked is the loss per picture, {per_picture:.3f}")
    if near(loss, losses[-1]):
        return partial(half, f"you report {loss:.3f}, the loss of the last batch; over all pictures it is {per_picture:.3f}")
    return partial(half, f"the weights are right; you report a loss of {loss:.3f}, per picture it was {per_picture:.3f}")


def near(a: float, b: float) -> bool:
    return abs(a - b) <= 1e-4 * max(1.0, abs(b))


def trained(model: nn.Module, loader: DataLoader, optimizer: Optimizer, *skip: str) -> tuple[float, float]:
    """The solution, with the steps named in `skip` left out."""
    if "train" not in skip:
        model.train()
    total, hits = 0.0, 0
    for images, labels in loader:
        logits = model(images)
        loss = F.cross_entropy(logits, labels)
        if "clear" not in skip:
            optimizer.zero_grad()
        if "backward" not in skip:
            loss.backward()
        if "step" not in skip:
            optimizer.step()
        total += loss.item() * len(labels)
        hits += int((logits.argmax(1) == labels).sum())
    pictures = len(loader.dataset)  # type: ignore[arg-type]
    return total / pictures, hits / pictures


def wrong_no_clear(model: nn.Module, loader: DataLoader, optimizer: Optimizer) -> tuple[float, float]:
    return trained(model, loader, optimizer, "clear")


def wrong_no_backward(model: nn.Module, loader: DataLoader, optimizer: Optimizer) -> tuple[float, float]:
    return trained(model, loader, optimizer, "backward")


def wrong_no_step(model: nn.Module, loader: DataLoader, optimizer: Optimizer) -> tuple[float, float]:
    return trained(model, loader, optimizer, "step")


def wrong_mode(model: nn.Module, loader: DataLoader, optimizer: Optimizer) -> tuple[float, float]:
    return trained(model, loader, optimizer, "train")


def wrong_cleared_too_late(model: nn.Module, loader: DataLoader, optimizer: Optimizer) -> tuple[float, float]:
    model.train()
    total = 0.0
    for images, labels in loader:
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.zero_grad()
        optimizer.step()
        total += loss.item() * len(labels)
    return total / len(loader.dataset), 0.0  # type: ignore[arg-type]


def wrong_batch_means(model: nn.Module, loader: DataLoader, optimizer: Optimizer) -> tuple[float, float]:
    model.train()
    running_loss, right = 0.0, 0.0
    for images, labels in loader:
        optimizer.zero_grad()
        logits = model(images)
        loss = F.cross_entropy(logits, labels)
        loss.backward()
        optimizer.step()
        running_loss += loss.item()
        right += (logits.argmax(1) == labels).float().mean().item()
    return running_loss / len(loader), right / len(loader)


def wrong_return_inside(model: nn.Module, loader: DataLoader, optimizer: Optimizer) -> tuple[float, float]:
    model.train()
    for images, labels in loader:
        logits = model(images)
        loss = F.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item(), (logits.argmax(1) == labels).float().mean().item()
    return 0.0, 0.0


def wrong_percent(model: nn.Module, loader: DataLoader, optimizer: Optimizer) -> tuple[float, float]:
    loss, accuracy = trained(model, loader, optimizer)
    return loss, 100 * accuracy


def wrong_accuracy_afterwards(model: nn.Module, loader: DataLoader, optimizer: Optimizer) -> tuple[float, float]:
    loss, _ = trained(model, loader, optimizer)
    images, labels = loader.dataset.tensors  # type: ignore[attr-defined]
    return loss, (model.eval()(images).argmax(1) == labels).float().mean().item()


def right_sums(model: nn.Module, loader: DataLoader, optimizer: Optimizer) -> tuple[float, float]:
    """Clears at the end of each step, weighs with the loss's own reduction, counts the pictures itself."""
    model.train()
    total, hits, seen = torch.zeros(()), 0, 0
    for images, labels in loader:
        logits = model(images)
        F.cross_entropy(logits, labels).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        total += F.cross_entropy(logits, labels, reduction="sum").detach()
        hits, seen = hits + (logits.argmax(1) == labels).sum().item(), seen + len(labels)
    return total.item() / seen, hits / seen


# ------------------------------------------------------------------------------------------------ 04.2 evaluate


@beside
def network(width: int) -> nn.Module:
    body = OrderedDict(
        layer1=nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width)),
        layer2=nn.Sequential(nn.ReLU(), nn.Conv2d(width, width, 3), nn.BatchNorm2d(width), nn.Dropout(0.3)),
    )
    return nn.Sequential(OrderedDict(**body, pool=nn.Flatten(), fc=nn.Linear(width * 4, 4)))


@beside
def half_frozen(rng: Rng) -> tuple[list[nn.Module], TensorDataset, int]:
    """Two equal networks whose first layer is frozen and asleep, pictures, and a batch size that leaves a short last batch."""
    size, short, width = 8, rng.integer(2, 5), rng.integer(4, 6)
    with rng.torch():
        models = [network(width).eval(), network(width)]
        images = torch.randn(rng.integer(6, 8) * size + short, 3, 6, 6) * 2 + 1
        labels = models[0](images).argmax(1)
        right = labels.clone()
        labels[::5] = torch.randint(4, labels[::5].shape)
        labels[-short:] = (right[-short:] + 1) % 4  # the short batch is wrong throughout
    models[1].load_state_dict(models[0].state_dict())
    for model in models:
        model.train().get_submodule("layer1").requires_grad_(False).eval()
    return models, TensorDataset(images, labels), size


@beside
def modes_of(model: nn.Module) -> dict[str, bool]:
    return {name or "the model": module.training for name, module in model.named_modules()}


def probe_accuracy(accuracy_on: Any, rng: Rng) -> dict:
    models, pictures, size = half_frozen(rng)
    small = accuracy_on(models[0], DataLoader(pictures, batch_size=size))
    whole = accuracy_on(models[1], DataLoader(pictures, batch_size=len(pictures)))
    return {"small": small, "whole": whole, "modes": modes_of(models[0]), "after": dict(models[0].state_dict())}


def judge_accuracy(data: dict, rng: Rng) -> Result:
    (model, _), pictures, size = half_frozen(rng)
    modes, before = modes_of(model), {name: value.clone() for name, value in model.state_dict().items()}
    model.eval()
    with torch.no_grad():
        shares = [float((model(images).argmax(1) == labels).float().mean()) for images, labels in DataLoader(pictures, size)]
        right = int((model(pictures.tensors[0]).argmax(1) == pictures.tensors[1]).sum())
    small, whole, true = data["small"], data["whole"], right / len(pictures)
    if not (0 <= small <= 1 and 0 <= whole <= 1):
        return failed(f"you return {small:g}; a share lies between 0 and 1")
    if not (near(small, true) and near(whole, true)):
        return explain_accuracy(small, whole, true, shares, size, len(pictures))
    moved = [name for name in before if name not in data["after"] or not same(before[name], data["after"][name])]
    if moved:
        return failed(f"the answer is right, but {moved[0]} is no longer what it was: evaluating must not change the model")
    return explain_modes(data["modes"], modes)


def explain_accuracy(small: float, whole: float, true: float, shares: list[float], size: int, count: int) -> Result:
    both = f"{small:.2f} in batches of {size}, {whole:.2f} in batches of {count}"
    if near(whole, true) and near(small, sum(shares) / len(shares)):
        return failed(f"{both}: the last batch is short; add up pictures, not batches")
    if near(whole, true) and near(small, shares[-1]):
        return failed(f"{both}: {small:.2f} is the share of the last batch alone")
    if not near(small, whole):
        return failed(f"{both}: the answer for a picture must not depend on its company")
    return failed(f"you return {whole:.2f}; in evaluation mode {true:.2f} of these {count} pictures are right")


def explain_modes(after: dict, before: dict) -> Result:
    if after.keys() != before.keys():
        return failed("the model lost or gained layers; evaluating must not change it")
    asleep = [name for name in before if before[name] and not after[name]]
    awake = [name for name in before if after[name] and not before[name]]
    if asleep:
        return partial(
            Fraction(1, 2), f"{asleep[0]} came in training mode and left in eval mode: training went on in eval mode afterwards"
        )
    if awake:
        return partial(
            Fraction(1, 2),
            f"{awake[0]} is frozen and came in eval mode, but left in training mode: each layer has its own mode",
        )
    return passed()


def share_right(model: nn.Module, loader: DataLoader) -> float:
    with torch.no_grad():
        return sum(int((model(images).argmax(1) == labels).sum()) for images, labels in loader) / len(loader.dataset)  # type: ignore[arg-type]


def wrong_no_eval(model: nn.Module, loader: DataLoader) -> float:
    return share_right(model, loader)


def wrong_left_in_eval(model: nn.Module, loader: DataLoader) -> float:
    return share_right(model.eval(), loader)


def wrong_one_mode_for_all(model: nn.Module, loader: DataLoader) -> float:
    was = model.training
    found = share_right(model.eval(), loader)
    model.train(was)
    return found


def wrong_mean_of_batches(model: nn.Module, loader: DataLoader) -> float:
    model.eval()
    shares = [(model(images).argmax(1) == labels).float().mean().item() for images, labels in loader]
    model.train()
    return sum(shares) / len(shares)


def wrong_count(model: nn.Module, loader: DataLoader) -> float:
    return share_right(model.eval(), loader) * len(loader.dataset)  # type: ignore[arg-type]


def wrong_last_batch(model: nn.Module, loader: DataLoader) -> float:
    model.eval()
    found = 0.0
    for images, labels in loader:
        found = (model(images).argmax(1) == labels).float().mean().item()
    return found


def right_remember_modes(model: nn.Module, loader: DataLoader) -> float:
    modes = [(module, module.training) for module in model.modules()]
    found = share_right(model.eval(), loader)
    for module, training in modes:
        module.training = training
    return found


# --------------------------------------------------------------------------------------------- 04.3 make_splits

SPLITS = ("train", "val", "test")


@beside
def labels_to_split(rng: Rng) -> tuple[list[str], tuple[float, float, float], int]:
    """Class names, one per picture, some classes with many pictures and one with few, and how to divide them."""
    names = rng.shuffled(["boat", "car", "fish", "flower", "house", "tree"])[: rng.integer(3, 5)]
    labels = [name for place, name in enumerate(names) for _ in range(9 if place == 0 else rng.integer(60, 99))]
    fractions = rng.choice([(0.7, 0.15, 0.15), (0.6, 0.2, 0.2), (0.5, 0.25, 0.25)])
    return rng.choice([sorted(labels), rng.shuffled(labels)]), fractions, rng.integer(0, 1000)


def probe_splits(make_splits: Any, rng: Rng) -> dict:
    labels, fractions, seed = labels_to_split(rng)
    return {
        "first": make_splits(list(labels), fractions, seed),
        "again": make_splits(list(labels), fractions, seed),
        "other": make_splits(list(labels), fractions, seed + 1),
    }


def judge_splits(data: dict, rng: Rng) -> Result:
    labels, fractions, seed = labels_to_split(rng)
    for one in data.values():
        if len(one) != len(SPLITS):
            return failed(f"three lists of positions are asked for, train, val and test; you return {len(one)}")
    splits = dict(zip(SPLITS, data["first"], strict=True))
    why = shared_or_lost(splits, len(labels)) or unequal(splits, labels, fractions)
    if why:
        return failed(why)
    first, again, other = ([set(split) for split in data[name]] for name in ("first", "again", "other"))
    if first != again:
        both = len(first[2] & again[0])
        return failed(f"two calls, two splits: {both} test pictures of the first are training pictures of the second")
    if first == other:
        return failed(f"seeds {seed} and {seed + 1} give the same three lists: the seed changes nothing")
    return passed()


def shared_or_lost(splits: dict[str, list[int]], count: int) -> str:
    """What is wrong with the positions as such."""
    places: dict[int, str] = {}
    for name, positions in splits.items():
        for position in positions:
            if not 0 <= position < count:
                return f"position {position} is in {name}, but there are {count} pictures: 0 to {count - 1}"
            if position in places:
                return f"position {position} is in {places[position]} and in {name}: no picture may be in two splits"
            places[position] = name
    lost = count - len(places)
    return f"{lost} of {count} positions are in no split; each picture belongs to one" if lost else ""


def unequal(splits: dict[str, list[int]], labels: list[str], fractions: tuple[float, float, float]) -> str:
    """The first class that is missing in a split, or else the first that has not its share there."""
    complaint = ""
    for (name, positions), fraction in zip(splits.items(), fractions, strict=True):
        for one in sorted(set(labels)):
            found, count = sum(labels[position] == one for position in positions), labels.count(one)
            if not found:
                return f"class {one!r} is missing in {name}"
            if abs(found - fraction * count) >= 2 and not complaint:
                complaint = f"{found} of the {count} pictures of class {one!r} are in {name}; {fraction:.0%} are asked for"
    return complaint


Splits = tuple[list[int], list[int], list[int]]


def cut(positions: list[int], fractions: tuple[float, float, float]) -> Splits:
    a = round(fractions[0] * len(positions))
    b = round((fractions[0] + fractions[1]) * len(positions))
    return positions[:a], positions[a:b], positions[b:]


def by_class(labels: list[str], fractions: tuple[float, float, float], shuffle: Callable[[list[int]], None]) -> Splits:
    """The solution, with whatever `shuffle` does."""
    splits: Splits = [], [], []
    for name in sorted(set(labels)):
        mine = [i for i, label in enumerate(labels) if label == name]
        shuffle(mine)
        for split, part in zip(splits, cut(mine, fractions), strict=True):
            split += part
    return splits


def wrong_no_seed(labels: list[str], fractions: tuple[float, float, float], seed: int) -> Splits:
    return by_class(labels, fractions, random.shuffle)


def wrong_not_by_class(labels: list[str], fractions: tuple[float, float, float], seed: int) -> Splits:
    return cut(random.Random(seed).sample(range(len(labels)), len(labels)), fractions)


def wrong_in_order(labels: list[str], fractions: tuple[float, float, float], seed: int) -> Splits:
    return cut(sorted(range(len(labels)), key=labels.__getitem__), fractions)


def wrong_seed_ignored(labels: list[str], fractions: tuple[float, float, float], seed: int) -> Splits:
    return by_class(labels, fractions, random.Random(0).shuffle)


def wrong_drawn_three_times(labels: list[str], fractions: tuple[float, float, float], seed: int) -> Splits:
    rng, count = random.Random(seed), len(labels)
    train, val, test = (rng.sample(range(count), int(share * count)) for share in fractions)
    return train, val, test


def wrong_rounded_down(labels: list[str], fractions: tuple[float, float, float], seed: int) -> Splits:
    rng = random.Random(seed)
    splits: Splits = [], [], []
    for name in sorted(set(labels)):
        mine = [i for i, label in enumerate(labels) if label == name]
        rng.shuffle(mine)
        for split, share in zip(splits, fractions, strict=True):
            split += [mine.pop() for _ in range(int(share * labels.count(name)))]
    return splits


def wrong_two_lists(labels: list[str], fractions: tuple[float, float, float], seed: int) -> tuple[list[int], list[int]]:
    train, val, test = by_class(labels, fractions, random.Random(seed).shuffle)
    return train, val + test


def right_torch(labels: list[str], fractions: tuple[float, float, float], seed: int) -> list[list[int]]:
    """One shuffle of everything, then a stable sort by class; torch's dice, and the rest for test."""
    generator = torch.Generator().manual_seed(seed)
    order = sorted(torch.randperm(len(labels), generator=generator).tolist(), key=lambda i: labels[i])
    splits: list[list[int]] = [[], [], []]
    for name in dict.fromkeys(labels):
        mine = [i for i in order if labels[i] == name]
        a, b = int(fractions[0] * len(mine)), int(fractions[1] * len(mine))
        splits = [splits[0] + mine[:a], splits[1] + mine[a : a + b], splits[2] + mine[a + b :]]
    return splits


CHECKS = [
    Check(
        "04.1",
        "train_epoch",
        "one pass over the training pictures",
        probe_epoch,
        judge_epoch,
        {"returned": [Any], "after": {str: Tensor}, "gradients": {str: Tensor}},
        points=3,
    ),
    Check(
        "04.2",
        "accuracy_on",
        "evaluate and leave no trace",
        probe_accuracy,
        judge_accuracy,
        {"small": float, "whole": float, "modes": {str: bool}, "after": {str: Tensor}},
        points=2,
    ),
    Check(
        "04.3",
        "make_splits",
        "three splits",
        probe_splits,
        judge_splits,
        {"first": [[int]], "again": [[int]], "other": [[int]]},
        points=2,
    ),
]

WRONG = {
    "04.1": [
        (wrong_no_clear, "the second step used the sum of two gradients"),
        (wrong_no_backward, "no weight moved and nothing failed: nobody computed gradients"),
        (wrong_cleared_too_late, "or they were gone before the step"),
        (wrong_no_step, "gradients were computed, but no weight moved"),
        (wrong_batch_means, "per picture it is"),
        (wrong_mode, "norm.running_mean did not move"),
        (wrong_return_inside, "the weights are those after batch 1 of 3"),
        (wrong_percent, "a share lies between 0 and 1"),
        (wrong_accuracy_afterwards, "were right when their batch was shown"),
    ],
    "04.2": [
        (wrong_no_eval, "the answer for a picture must not depend on its company"),
        (wrong_left_in_eval, "training went on in eval mode afterwards"),
        (wrong_one_mode_for_all, "layer1 is frozen and came in eval mode, but left in training mode"),
        (wrong_mean_of_batches, "the last batch is short"),
        (wrong_count, "a share lies between 0 and 1"),
        (wrong_last_batch, "is the share of the last batch alone"),
    ],
    "04.3": [
        (wrong_no_seed, "two calls, two splits"),
        (wrong_not_by_class, "class '"),
        (wrong_in_order, "is missing in"),
        (wrong_seed_ignored, "the seed changes nothing"),
        (wrong_drawn_three_times, "no picture may be in two splits"),
        (wrong_rounded_down, "positions are in no split"),
        (wrong_two_lists, "three lists of positions are asked for"),
    ],
}

RIGHT = {"04.1": [right_sums], "04.2": [right_remember_modes], "04.3": [right_torch]}
