"""Checks of lesson 04, train: a loop to mend, an evaluation without a trace, splits that share no scene."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Iterator
from copy import deepcopy
from functools import partial
from itertools import chain, combinations
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from course_utils.checks.spec import LOOK, Rng, beside, close, exercise, left_alone, look, moved
from course_utils.finetune import trainable
from course_utils.train import evaluate, train_one_epoch

Case = dict[str, Any]
near = partial(math.isclose, rel_tol=1e-4, abs_tol=1e-4)

# -------------------------------------------------------------------------------------------------- 04.1 mend a loop


@beside
def half_frozen(width: int, classes: int) -> nn.Module:
    """A network with a frozen part and one that learns, each with batch norm and dropout."""
    parts = [OrderedDict(conv=nn.Conv2d(c, width, 3), norm=nn.BatchNorm2d(width), drop=nn.Dropout(0.3)) for c in (3, width)]
    frozen, learns = (nn.Sequential(part) for part in parts)
    frozen.requires_grad_(False)
    return nn.Sequential(OrderedDict(layer1=frozen, layer2=learns, flat=nn.Flatten(), fc=nn.Linear(4 * width, classes)))


def epochs(rng: Rng) -> Iterator[Case]:
    """A model as an evaluation and as loading leaves it; batches of which the last is short, and kept or dropped."""
    for training in (False, True):
        size, short = rng.integer(8, 12), rng.integer(2, 4)
        count = rng.integer(2, 3) * size + short
        with rng.torch():
            model = half_frozen(rng.integer(3, 5), 3).train(training)
            images, labels = torch.randn(count, 3, 6, 6), torch.randint(3, (count,))
        images[-short:] *= 4  # the short batch is the hard one, so a mean of batch means is off
        case = {"model": model, "images": images, "labels": labels, "size": size}
        yield case | {"drop_last": training, "seed": rng.integer(0, 10**6)}


@beside
def batches_of(case: Case) -> DataLoader:
    pictures, own = TensorDataset(case["images"], case["labels"]), torch.Generator()
    return DataLoader(pictures, case["size"], drop_last=case.get("drop_last", False), generator=own)


@beside
def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05, momentum=0.9)


def ask_epoch(train_epoch: Any, case: Case) -> Case:
    model, weight = case["model"], case["model"].fc.weight
    loader, optimizer, before = batches_of(case), optimizer_of(model), look(model)
    counts: Counter[str] = Counter(asked=0, backward=0, cleared=0, steps=0)
    model.fc.register_forward_hook(lambda *_: counts.update(["asked"]))
    weight.register_hook(lambda _: counts.update(backward=1, cleared=int(weight.grad is None or not weight.grad.any())))
    optimizer.register_step_pre_hook(lambda *_: counts.update(["steps"]))
    torch.manual_seed(case["seed"])
    with torch.enable_grad():
        returned, left = train_epoch(model, loader, optimizer), look(model)
    found = {"returned": returned, "graph": getattr(returned, "requires_grad", False), "after": dict(model.state_dict())}
    return found | {"before": before, "left": left, "counts": dict(counts)}


def rules_epoch(said: Case, case: Case) -> Iterator[str]:
    model, loader, counts = deepcopy(case["model"]), batches_of(case), said["counts"]
    with Rng(0).torch():
        torch.manual_seed(case["seed"])
        loss = train_one_epoch(model, loader, optimizer_of(model)).loss
    yield from left_alone(said["before"], said["left"], but=("modes", "random"))
    stirred = moved(case["model"].state_dict(), said["after"])
    ran = "calls: model {asked}, backward {backward} ({cleared} onto cleared gradients), step {steps}".format(**counts)
    if not trainable(model).keys() & set(stirred):
        yield f"no weight moved, and nothing failed; {ran}: is each line there, and in which order?"
    if "layer1.norm.num_batches_tracked" in stirred:
        yield "the frozen batch norm 'layer1.norm' has counted batches: lesson 3 says which mode keeps it still"
    wanted, after = model.state_dict(), said["after"]
    if after.keys() != wanted.keys() or not all(close(after[name], wanted[name]) for name in wanted):
        modes = ((name, part.training) for name, part in model.named_modules() if name.endswith(("norm", "drop")))
        odd = (f"the mode of {name!r}" for name, mode in modes if said["left"]["modes"].get(name) != mode)
        suspect = next(odd, "the loss: `F.cross_entropy` takes logits, and the mean that it gives goes backward")
        yield (
            f"the weights are not those of one question, clear, backward and step for each of {len(loader)} batches; {ran}. "
            f"If all these are right, suspect {suspect}"
        )
    sizes = [len(labels) for _, labels in loader]
    if not near(said["returned"], loss):
        shown = f"the {sum(sizes)} pictures, in batches of {sizes}, had a mean loss of {loss:.4f} when they were shown"
        yield f"the weights are right; {shown}, and you return {said['returned']:.4f}"
    if said["graph"]:
        yield "your sum is a tensor that keeps all that backward needed, for every batch: add numbers, `loss.item()`"


# ------------------------------------------------------------------------------------- 04.2 ask, and leave no trace


def questions(rng: Rng) -> Iterator[Case]:
    """A model of mixed modes that has gradients, and pictures in batches of which the last is short and wrong throughout."""
    for size in (1, rng.integer(6, 8)):
        count, classes = rng.integer(26, 27), 4
        with rng.torch():
            model = half_frozen(rng.integer(4, 6), classes).eval()
            images = torch.randn(count, 3, 6, 6) * 2 + 1
            right = model(images).argmax(1)
            labels = torch.where(torch.rand(count) < 0.3, torch.randint(classes, (count,)), right)
        last = slice(count // size * size, count)
        labels[last] = (right[last] + 1) % classes
        model.train()
        for part in ("layer1", "layer2.norm"):
            model.get_submodule(part).eval()
        model.get_parameter("fc.bias").requires_grad_(False)
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        yield {"model": model, "images": images, "labels": labels, "size": size}


@beside
def three_loaders(case: Case) -> list[DataLoader]:
    return [batches_of(case | change) for change in ({}, {"size": len(case["labels"])}, {"drop_last": True})]


def ask_accuracy(accuracy_on: Any, case: Case) -> Case:
    model, before, (small, whole, dropped) = case["model"], look(case["model"]), three_loaders(case)
    recorded, awake = [False], [False]
    model.fc.register_forward_hook(lambda layer, given, made: recorded.append(made.requires_grad))
    model.layer2.register_forward_hook(lambda layer, *_: awake.append(layer.norm.training or layer.drop.training))
    with torch.enable_grad():
        returned, left = accuracy_on(model, small), look(model)
    with torch.no_grad():
        more, on = [accuracy_on(model, whole), accuracy_on(model, dropped)], torch.is_grad_enabled()
    kept = all(p.grad is not None and bool((p.grad == 1).all()) for p in model.parameters())
    found = {"returned": returned, "more": more, "after": dict(model.state_dict()), "before": before, "left": left}
    return found | {"on": on, "kept": kept, "recorded": any(recorded), "awake": any(awake)}


def rules_accuracy(said: Case, case: Case) -> Iterator[str]:
    model, size = case["model"], case["size"]
    for name in moved(model.state_dict(), said["after"]):
        yield f"{name} is no longer what it was: an evaluation must not change the model; in which mode did you ask?"
    ways = (f"batches of {size}", "one batch", f"batches of {size}, a short last one dropped")
    for way, loader, returned in zip(ways, three_loaders(case), (said["returned"], *said["more"]), strict=True):
        right, seen = evaluate(model, loader).accuracy, sum(len(labels) for _, labels in loader)
        if not near(returned, right):
            hint = "count each picture that was shown once, by the place of its own largest logit, and round nothing"
            if said["awake"]:
                hint = "in which mode does an answer depend on the rest of its batch?"
            yield f"in {way} you return {returned:.4f}; {right:.4f} of the {seen} pictures shown are right: {hint}"
    yield from left_alone(said["before"], said["left"])
    if said["on"]:
        yield "gradients were off before your call, and on after it: `with torch.no_grad():` puts the switch back"
    if not said["kept"]:
        yield "the model came with gradients (`p.grad`), and they are gone or changed: that is a trace too"
    if said["recorded"]:
        yield "the answer is right, but PyTorch kept all it needs for a backward pass: `with torch.no_grad():` saves that"


# --------------------------------------------------------------------------------------------- 04.3 no scene is split

SPLITS = ("train", "val", "test")


def frames(rng: Rng) -> Iterator[Case]:
    """Frames of scenes: classes with few scenes and with many, scenes of few frames and of many, in any order."""
    names = rng.shuffled(["boat", "houseboat", *rng.shuffled(["car", "fish", "flower", "tree"])[: rng.integer(2, 3)]])
    counts = [3, 4, rng.integer(20, 24), *(rng.integer(8, 14) for _ in names[3:])]
    numbers = iter(rng.shuffled(range(1, 99)))
    scenes = [(name, f"scene {next(numbers)}") for name, count in zip(names, counts, strict=True) for _ in range(count)]
    both = rng.shuffled([one for one in scenes for _ in range(rng.integer(1, 6))])
    fractions = rng.choice([(0.5, 0.2, 0.3), (0.5, 0.3, 0.2), (0.6, 0.1, 0.3)])
    labels, of = [name for name, _ in both], [scene for _, scene in both]
    yield {"labels": labels, "scenes": of, "fractions": fractions, "seed": rng.integer(0, 1000)}


@beside
def hashed(names: list[str], salt: int) -> list[str]:
    """The same texts, hashed as another run of Python might: sets of them have another order."""
    number = {"__hash__": lambda self: int.from_bytes(self.encode(), "big") * salt % 1_000_003}
    return list(map(type("name of a scene", (str,), number), names))  # "your answer gives a name of a scene where a number …"


def ask_splits(make_splits: Any, case: Case) -> Case:
    labels, scenes, fractions, seed = case["labels"], case["scenes"], case["fractions"], case["seed"]
    before, given = look(nn.Identity()), (list(labels), list(scenes))
    returned = make_splits(*given, fractions, seed)
    runs = [make_splits(list(labels), list(scenes), fractions, seed + more) for more in (0, 1, 2, 3)]
    left = look(nn.Identity())
    runs += [make_splits(hashed(labels, salt), hashed(scenes, salt), fractions, seed) for salt in (3, 1009, 77_003, 500_009)]
    return {"returned": returned, "runs": runs, "kept": given == (labels, scenes), "before": before, "left": left}


def rules_splits(said: Case, case: Case) -> Iterator[str]:
    first, labels, scenes = said["returned"], case["labels"], case["scenes"]
    if len(first) != 3:
        yield f"three lists of positions are asked for, for train, val and test; you return {len(first)}"
    if not said["kept"]:
        yield "`names` or `scenes` came in one order and left in another: `sorted` makes a new list, `.sort()` changes theirs"
    times = Counter(chain(*first))
    for i in sorted({*range(len(labels)), *times}):
        if times[i] != (0 <= i < len(labels)):
            yield f"position {i} is in the lists {times[i]} times; each of the pictures 0 to {len(labels) - 1} belongs to one"
    parts = {split: {scenes[i] for i in positions} for split, positions in zip(SPLITS, first, strict=True)}
    for one, other in combinations(parts, 2):
        if both := parts[one] & parts[other]:
            yield f"{len(both)} scenes have pictures in {one} and in {other}, such as {min(both)!r}: sisters belong together"
    for name in sorted(set(labels)):
        mine = {scene for scene, label in zip(scenes, labels, strict=True) if label == name}
        for split, share in zip(SPLITS, case["fractions"], strict=True):
            here, right = len(mine & parts[split]), share * len(mine)
            allowed = [count for count in range(1, len(mine) + 1) if abs(count - right) < 1 + 1e-9]
            if here not in allowed:
                fair = f"{share:.0%} are asked for, that is {right:.1f}: {' or '.join(map(str, allowed))} will do"
                yield f"{here} of the {len(mine)} scenes of {name!r} are in {split}; {fair}{'' if here else ', none will not'}"
    drawn, again, *runs = ([set(positions) for positions in one] for one in (first, *said["runs"]))
    if again != drawn:
        yield "two calls with the same seed, two splits: what else does your shuffle depend on?"
    if runs[:3] == [drawn] * 3:
        yield "other seeds give the same three lists: the seed changes nothing"
    if runs[3:] != [drawn] * 4:
        yield "another run of Python, another split: so do the order of a set of strings (sort it first) and `hash()` of one"
    yield from left_alone(said["before"], said["left"])


SEEN = {"before": LOOK, "left": LOOK}
COUNTS = dict.fromkeys(("asked", "backward", "cleared", "steps"), int)
TRACES = dict.fromkeys(("recorded", "awake", "on", "kept"), bool)

CHECKS = [
    exercise(
        *("04.1", "train_epoch", "a loop with three mistakes, mended", epochs, ask_epoch, rules_epoch),
        seen={"returned": float, "graph": bool, "after": {str: Tensor}, "counts": COUNTS, **SEEN},
        points=3,
    ),
    exercise(
        *("04.2", "accuracy_on", "evaluate and leave no trace", questions, ask_accuracy, rules_accuracy),
        seen={"returned": float, "more": (float, float), "after": {str: Tensor}, **SEEN, **TRACES},
        points=2,
    ),
    exercise(
        *("04.3", "make_splits", "splits that share no scene", frames, ask_splits, rules_splits),
        seen={"returned": [[int]], "runs": ([[int]],) * 8, "kept": bool, **SEEN},
        points=2,
    ),
]
