"""Checks of lesson 04, train: a loop to mend, an evaluation without a trace, splits that share no scene."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Iterator
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from course_utils.checks.spec import LOOK, Rng, beside, close, exercise, left_alone, look, mismatch, plain, same
from course_utils.finetune import train_mode

Case = dict[str, Any]
near = partial(math.isclose, rel_tol=1e-4, abs_tol=1e-4)

# -------------------------------------------------------------------------------------------------- 04.1 mend a loop


@beside
def half_frozen(width: int, classes: int) -> nn.Module:
    """A network with a frozen part and one that learns, each with batch norm and dropout."""
    frozen, learns = (
        nn.Sequential(OrderedDict(conv=nn.Conv2d(given, width, 3), norm=nn.BatchNorm2d(width), drop=nn.Dropout(0.3)))
        for given in (3, width)
    )
    model = nn.Sequential(OrderedDict(layer1=frozen, layer2=learns, flat=nn.Flatten(), fc=nn.Linear(4 * width, classes)))
    frozen.requires_grad_(False)
    return model


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
    model = case["model"]
    loader, optimizer, before = batches_of(case), optimizer_of(model), look(model)
    counts: Counter[str] = Counter(steps=0, gradients=0, asked=0)
    optimizer.register_step_pre_hook(lambda *_: counts.update(["steps"]))
    model.fc.weight.register_hook(lambda gradient: counts.update(["gradients"]))
    model.fc.register_forward_hook(lambda *_: counts.update(["asked"]))
    torch.manual_seed(case["seed"])
    with torch.enable_grad():
        returned, left = train_epoch(model, loader, optimizer), look(model)
    return {"returned": returned, "after": dict(model.state_dict()), "before": before, "left": left, **counts}


def own_epoch(case: Case, slip: str = "") -> tuple[dict[str, Tensor], list[tuple[float, int]]]:
    """The state after an epoch, and of each batch its loss per picture and its size; `slip` says what is done otherwise."""
    model, rows = deepcopy(case["model"]), []
    optimizer = optimizer_of(model)
    model.eval() if slip == "asleep" else train_mode(model)
    with Rng(0).torch():
        torch.manual_seed(case["seed"])
        for images, labels in batches_of(case):
            logits = model(images)
            loss = F.cross_entropy(logits.softmax(1) if slip == "softmax" else logits, labels)
            if slip != "no clear":
                optimizer.zero_grad()
            (loss * len(labels) if slip == "sum" else loss).backward()
            optimizer.step()
            rows.append((loss.item(), len(labels)))
    return dict(model.state_dict()), rows


SLIPS = {
    "no clear": "the first step is right, the second used the gradients of two batches: who clears them, and when?",
    "asleep": "layer2 learns, but it was trained in evaluation mode: its batch norm and its dropout slept",
    "softmax": "your steps are too small: `F.cross_entropy` takes logits and applies the softmax itself",
    "sum": "your steps are too large: the loss that you send backward is a sum over the batch, not a mean",
}


def rules_epoch(said: Case, case: Case) -> Iterator[str]:
    wanted, rows = own_epoch(case)
    before, after = case["model"].state_dict(), said["after"]
    if after.keys() != wanted.keys():
        yield "the model lost or gained tensors; training must not change its structure"
        return
    yield from left_alone(said["before"], said["left"], but=("modes", "random"))
    learns = [name for name, p in case["model"].named_parameters() if p.requires_grad]
    if all(same(after[name], before[name]) for name in learns):
        ran = f"no weight moved, and nothing failed: backward ran {said['gradients']} times, step {said['steps']} times"
        yield ran + ("; look at the order of the lines" if said["gradients"] and said["steps"] else "")
    if not same(after["layer1.norm.num_batches_tracked"], before["layer1.norm.num_batches_tracked"]):
        yield "the frozen batch norm 'layer1.norm' has counted batches: lesson 3 says which mode keeps it still"
    if not alike(after, wanted):
        yield from (words for slip, words in SLIPS.items() if alike(after, own_epoch(case, slip)[0]))
        counts = f"there are {len(rows)} batches; you asked the model {said['asked']} times and stepped {said['steps']} times"
        if said["asked"] == said["gradients"] == said["steps"] == len(rows):
            counts = "these you have, so suspect the mode of a part, also of a frozen one, or the loss"
        yield f"the weights are not those of one clear, one backward and one step for each batch: {counts}"
    yield from loss_per_picture(said["returned"], rows, len(case["labels"]))


def alike(after: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    return all(close(after[name], wanted[name]) for name in wanted)


def loss_per_picture(returned: float, rows: list[tuple[float, int]], count: int) -> Iterator[str]:
    means, seen = sum(loss for loss, _ in rows), sum(size for _, size in rows)
    total = sum(loss * size for loss, size in rows)
    sizes, other = ", ".join(str(size) for _, size in rows), round(total / max(1e-3, returned)) or 1
    suspects = {
        f"the mean of batch means: batches of {sizes} count alike": [means / len(rows)],
        "a sum of batch means, divided by pictures: how many pictures does a mean stand for?": [means / count, means / seen],
        "a sum; asked is the loss of one picture, on average": [total, means],
        "the loss of the last batch alone": [rows[-1][0]],
        f"a sum over pictures, divided by {other}; shown were {seen}: another data set's, or a dropped batch?": [total / other],
        "not the mean of the losses that the pictures had when they were shown": [returned],
    }
    if not near(returned, total / seen):
        found = (words for words, values in suspects.items() if any(near(returned, value) for value in values))
        yield f"the weights are right; you return {returned:.4f}, " + next(found, "which is no number")


# ------------------------------------------------------------------------------------- 04.2 ask, and leave no trace


def questions(rng: Rng) -> Iterator[Case]:
    """A model of mixed modes, and pictures in small batches of which the last is short and wrong throughout."""
    for size in (1, rng.integer(6, 8)):
        short, classes = min(size, rng.integer(2, 4)), 4
        count = rng.integer(4, 6) * size + short if size > 1 else rng.integer(20, 30)
        with rng.torch():
            model = half_frozen(rng.integer(4, 6), classes).eval()
            images = torch.randn(count, 3, 6, 6) * 2 + 1
            right = model(images).argmax(1)
            labels = torch.where(torch.rand(count) < 0.3, torch.randint(classes, (count,)), right)
        labels[-short:] = (right[-short:] + 1) % classes
        model.train()
        for part in ("layer1", "layer2.norm"):
            model.get_submodule(part).eval()
        model.get_parameter("fc.bias").requires_grad_(False)
        yield {"model": model, "images": images, "labels": labels, "size": size}


def ask_accuracy(accuracy_on: Any, case: Case) -> Case:
    model, before = case["model"], look(case["model"])
    recorded, awake = [False], [False]
    model.fc.register_forward_hook(lambda layer, given, made: recorded.append(made.requires_grad))
    model.layer2.register_forward_hook(lambda layer, *_: awake.append(layer.norm.training or layer.drop.training))
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    with torch.enable_grad():
        small, left = accuracy_on(model, batches_of(case)), look(model)
    with torch.no_grad():
        whole, on = accuracy_on(model, batches_of(case | {"size": len(case["labels"])})), torch.is_grad_enabled()
    dropped = accuracy_on(model, batches_of(case | {"drop_last": True}))
    kept = all(p.grad is not None and bool((p.grad == 1).all()) for p in model.parameters())
    found = {"returned": small, "whole": whole, "dropped": dropped, "after": dict(model.state_dict()), "on": on, "kept": kept}
    return found | {"before": before, "left": left, "recorded": any(recorded), "awake": any(awake)}


def rules_accuracy(said: Case, case: Case) -> Iterator[str]:
    model, labels, size = deepcopy(case["model"]).eval(), case["labels"], case["size"]
    with torch.no_grad():
        hits = (model(case["images"]).argmax(1) == labels).float()
    small, whole, true = said["returned"], said["whole"], float(hits.mean())
    if not (0 <= small <= 1 and 0 <= whole <= 1):
        yield f"you return {max(small, whole):g} for these {len(labels)} pictures; a share lies between 0 and 1"
    before = case["model"].state_dict()
    moved = [name for name in before if name not in said["after"] or not same(before[name], said["after"][name])]
    if moved and near(small, true):
        yield f"the answer is right, but {moved[0]} is no longer what it was: an evaluation must not change the model"
    shares = [float(part.mean()) for part in hits.split(size)]
    both = f"{small:.2f} in batches of {size}, {whole:.2f} in one of {len(labels)}"
    if not near(small, whole) or (said["awake"] and not near(small, true)):
        by_batch = near(whole, true) and (near(small, shares[-1]) or near(small, sum(shares) / len(shares)))
        mixed = "in which mode does an answer depend on the rest of its batch?"
        if not said["awake"]:
            mixed = "the mode is right; does each picture get an answer of its own, the place of its largest logit?"
        yield f"{both}: " + ("the last batch is short, so add up pictures, not batches" if by_batch else mixed)
    if not near(small, true):
        yield f"you return {small:g}; in evaluation mode {true:.4f} of these {len(labels)} pictures are right (unrounded)"
    seen = len(labels) // size * size
    if not near(said["dropped"], float(hits[:seen].mean())):
        yield f"this loader drops a short last batch and showed {seen} of {len(labels)} pictures: divide by those it showed"
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
    names = rng.shuffled(["boat", "car", "fish", "flower", "house", "tree"])[: rng.integer(4, 5)]
    counts = [3, rng.integer(20, 24), *(rng.integer(8, 14) for _ in names[2:])]
    numbers = iter(rng.shuffled(range(10, 99)))
    scenes = [(name, f"scene {next(numbers)}") for name, count in zip(names, counts, strict=True) for _ in range(count)]
    both = rng.shuffled([one for one in scenes for _ in range(rng.integer(1, 6))])
    fractions = rng.choice([(0.5, 0.2, 0.3), (0.5, 0.3, 0.2), (0.6, 0.1, 0.3)])
    labels, of = [name for name, _ in both], [scene for _, scene in both]
    yield {"labels": labels, "scenes": of, "fractions": fractions, "seed": rng.integer(0, 1000)}


@beside
def hashed(names: list[str], salt: int) -> list[str]:
    """The same texts, hashed as another run of Python might: sets of them have another order."""
    number = {"__hash__": lambda self: int.from_bytes(self.encode(), "big") * salt % 1_000_003}
    return list(map(type("str", (str,), number), names))


def ask_splits(make_splits: Any, case: Case) -> Case:
    labels, scenes, fractions, seed = case["labels"], case["scenes"], case["fractions"], case["seed"]
    before, given = look(nn.Identity()), (list(labels), list(scenes))
    returned = make_splits(*given, fractions, seed)
    try:
        odd = mismatch(plain(returned), [[int]])
    except TypeError:
        odd, returned = "no lists", []
    found = {"returned": returned, "kept": given == (labels, scenes), "before": before}
    if odd:
        return found | {"runs": [], "left": before}
    runs = [make_splits(list(labels), list(scenes), fractions, seed + more) for more in (0, 1, 2, 3)]
    left = look(nn.Identity())
    runs += [make_splits(hashed(labels, salt), hashed(scenes, salt), fractions, seed) for salt in (3, 1009, 77_003, 500_009)]
    return found | {"runs": runs, "left": left}


def rules_splits(said: Case, case: Case) -> Iterator[str]:
    first, labels, scenes = said["returned"], case["labels"], case["scenes"]
    if any(len(one) != 3 for one in (first, *said["runs"])):
        other = f"you return {len(first)}" if first else "`list(…)` makes one of a set or of an array"
        yield f"three lists of positions are asked for, for train, val and test; {other}"
        return
    if not said["kept"]:
        yield "`names` or `scenes` came in one order and left in another: `sorted` makes a new list, `.sort()` changes theirs"
    yield from misplaced(first, len(labels))
    yield from split_scenes(first, scenes)
    yield from unequal(first, labels, scenes, case["fractions"])
    mine, again, *runs = ([set(positions) for positions in one] for one in (first, *said["runs"]))
    if again != mine:
        yield "two calls with the same seed, two splits: what else does your shuffle depend on?"
    if runs[:3] == [mine] * 3:
        yield "other seeds give the same three lists: the seed changes nothing"
    if runs[3:] != [mine] * 4:
        yield "another run of Python, another split: the order of a set of strings differs from run to run, so sort it first"
    yield from left_alone(said["before"], said["left"])


def misplaced(splits: list[list[int]], count: int) -> Iterator[str]:
    times = Counter(position for positions in splits for position in positions)
    yield from (
        f"position {i} is in a list, but there are {count} pictures, 0 to {count - 1}"
        for i in sorted(times)
        if not 0 <= i < count
    )
    often = ((i, times[i]) for i in range(count) if times[i] != 1)
    yield from (f"position {i} is in the lists {n} times: each picture belongs to one of them" for i, n in often)


def split_scenes(splits: list[list[int]], scenes: list[str]) -> Iterator[str]:
    named = dict(zip(SPLITS, ([scenes[i] for i in positions] for positions in splits), strict=True))
    for name, other in (("val", "train"), ("test", "train"), ("test", "val")):
        sisters = sum(scene in named[other] for scene in named[name])
        if sisters:
            yield f"{sisters} of {len(named[name])} {name} pictures have a sister, a picture of the same scene, in {other}"


def unequal(splits: list[list[int]], labels: list[str], scenes: list[str], fractions: tuple[float, ...]) -> Iterator[str]:
    """A class that is missing in a split, then one that has not its share of scenes there."""
    of = {name: {s for s, label in zip(scenes, labels, strict=True) if label == name} for name in sorted(set(labels))}
    found = [{name: len(mine & {scenes[i] for i in one}) for name, mine in of.items()} for one in splits]
    for split, here in zip(SPLITS, found, strict=True):
        yield from (f"{name!r} has {len(of[name])} scenes, and none in {split}" for name in of if not here[name])
    for split, here, share in zip(SPLITS, found, fractions, strict=True):
        for name, mine in of.items():
            right = share * len(mine)
            if len(mine) > 3 and abs(here[name] - right) > 1 + 1e-9:
                fair = f"{share:.0%} are asked for, that is {right:.1f}, so {math.ceil(right - 1)} to {math.floor(right + 1)}"
                yield f"{here[name]} of the {len(mine)} scenes of {name!r} are in {split}; {fair}"


SEEN = {"before": LOOK, "left": LOOK}
TRACES = dict.fromkeys(("whole", "dropped"), float) | dict.fromkeys(("recorded", "awake", "on", "kept"), bool)
COUNTS = {"steps": int, "gradients": int, "asked": int}

CHECKS = [
    exercise(
        *("04.1", "train_epoch", "a loop with three mistakes, mended", epochs, ask_epoch, rules_epoch),
        seen={"returned": float, "after": {str: Tensor}, **SEEN, **COUNTS},
        points=3,
    ),
    exercise(
        *("04.2", "accuracy_on", "evaluate and leave no trace", questions, ask_accuracy, rules_accuracy),
        seen={"returned": float, "after": {str: Tensor}, **SEEN, **TRACES},
        points=2,
    ),
    exercise(
        *("04.3", "make_splits", "splits that share no scene", frames, ask_splits, rules_splits),
        seen={"returned": [[int]], "runs": [[[int]]], "kept": bool, **SEEN},
        points=2,
    ),
]
