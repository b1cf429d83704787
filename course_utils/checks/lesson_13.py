"""Checks of lesson 13, applications: a threshold from val, boxes that match, one band more, reports."""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from course_utils.checks.spec import LOOK, Rng, beside, close, exercise, left_alone, look, moved, name_of, same
from course_utils.finetune import eval_mode

# ----------------------------------------------------------------------------------------- 13.1 sensitivity_at


def scored(rng: Rng) -> Iterator[dict]:
    """Scores and labels of val and test: few values with many ties, or all different; healthy ones are many, ill ones few."""
    for number, specificity in enumerate((0.9, 0.75, 0.8, 0.5, 0.9, 0.6)):
        case: dict = {"specificity": specificity}
        for part, shift in (("val", 0.0), ("test", 0.7)):
            healthy, ill = 20 * rng.integer(3, 6) + 7, rng.integer(9, 14)  # no share of 7 is whole: nobody depends on rounding
            with rng.torch():
                labels = torch.cat([torch.zeros(healthy), torch.ones(ill)]).long()
                scores = torch.randn(healthy + ill) + 1.2 * labels + shift
                order = torch.randperm(len(labels))
            if number % 2:
                scores = (2 * scores).round() / 2  # ties
            case[f"{part}_scores"], case[f"{part}_labels"] = scores[order], labels[order]
        yield case


def ask_sensitivity(sensitivity_at: Any, case: dict) -> Any:
    names = ("val_scores", "val_labels", "specificity", "test_scores", "test_labels")
    return sensitivity_at(*(one.clone() if isinstance(one, Tensor) else one for one in (case[name] for name in names)))


def threshold_of(scores: Tensor, wanted: float) -> float:
    """The smallest of `scores` that at least the share `wanted` of them does not exceed."""
    return float(scores.sort().values[ceil(wanted * len(scores)) - 1])


def above(case: dict, label: int, threshold: float) -> float:
    """The share of the test pictures with that label whose score is above the threshold."""
    return float((case["test_scores"][case["test_labels"] == label] > threshold).float().mean())


def values_of(case: dict) -> dict[str, float]:
    """What is asked for, and what comes out of the slips that have a name."""
    val, labels, wanted = case["val_scores"], case["val_labels"], case["specificity"]
    test, truth = case["test_scores"], case["test_labels"]
    best = threshold_of(val[labels == 0], wanted)
    said = test > best
    return {
        "right": above(case, 1, best),
        "test": above(case, 1, threshold_of(test[truth == 0], wanted)),
        "all": above(case, 1, threshold_of(val, wanted)),
        "ill": above(case, 1, threshold_of(val[labels == 1], wanted)),
        "low": above(case, 1, threshold_of(val[labels == 0], 1 - wanted)),
        "ties": float((test[truth == 1] >= best).float().mean()),
        "accuracy": float((said == (truth == 1)).float().mean()),
        "precision": float((truth[said] == 1).float().mean()),
        "specificity": 1 - above(case, 0, best),
        "missed": 1 - above(case, 1, best),
    }


WORDS = {
    "test": "your threshold changed with the test scores: choose it on val, and leave it alone",
    "accuracy": "you return the share of right answers; with 5 % ill, 'always healthy' scores 0.95 here",
    "precision": "you return how many of the alarms are ill; sensitivity asks how many of the ill raise an alarm",
    "specificity": "you return the share of healthy test pictures without alarm, which is the specificity",
    "missed": "you return the share of ill test pictures that are missed; sensitivity is the share that is found",
    "all": "your threshold leaves that share of all val scores below it; specificity is about the healthy ones",
    "ill": "your threshold comes from the ill of val; specificity is about the healthy ones",
    "low": "your threshold lets most healthy val pictures raise an alarm: which side of it should they lie on?",
    "ties": "a test score equal to the threshold is no alarm: compare with >",
}


def rules_of_all_scores(said: list[float], cases: list[dict]) -> Iterator[str]:
    """A suspect, where all answers come out as it would make them."""
    found = [values_of(case) for case in cases]
    if all(abs(one - values["right"]) < 1e-5 for one, values in zip(said, found, strict=True)):
        return
    for name, words in WORDS.items():
        if all(abs(one - values[name]) < 1e-5 for one, values in zip(said, found, strict=True)):
            yield words


def rules_sensitivity(said: float, case: dict) -> Iterator[str]:
    if not 0 <= said <= 1:
        yield f"you return {said:g}; a share lies between 0 and 1"
    right = values_of(case)["right"]
    if not abs(said - right) < 1e-5:
        healthy = case["val_scores"][case["val_labels"] == 0]
        ties = " (some of them are equal)" if len(healthy.unique()) < len(healthy) else ""
        yield (
            f"at specificity {case['specificity']:g} you return {said:.3f} instead of {right:.3f}; look at your threshold: the "
            f"smallest of the {len(healthy)} healthy val scores{ties} that at least {case['specificity']:.0%} do not exceed"
        )


# ---------------------------------------------------------------------------------------------- 13.2 match_boxes


@beside
def plans() -> tuple[tuple[str, tuple[float, ...], tuple[float, ...]], ...]:
    """What happens, and where predicted and true boxes begin: 1 is the way after which two boxes overlap by the threshold."""
    return (
        ("plain", (0.25, 10.5, 25), (0, 10, 20)),
        ("one true box, twice", (0.25, -0.5, 10), (0, 10, 20, 30)),
        ("the best is taken", (0, 0.25), (0, 0.75)),
        ("the surest chooses", (0.25, -0.5), (0, 0.75)),
        ("the surest chooses", (0.25, -0.5), (0.75, 0)),
        ("the surest chooses, not the largest overlap", (0.25, -0.125), (0, 1.125)),
        ("to the threshold", (1, 10.5), (0, 10, 20)),
        ("below the threshold", (1.25, 10), (0, 10)),
        ("all are taken", (0, 0.25, 0.5), (0,)),
        ("nothing predicted", (), (0, 10)),
        ("nothing there", (0, 10, 20), ()),
        ("an empty road", (), ()),
    )


@beside
def row_of(begins: tuple[float, ...], way: float, corner: tuple[float, float], width: float, height: float) -> Tensor:
    """Boxes of one size, side by side: x1, y1, x2, y2."""
    x, y = corner
    return torch.tensor([[x + way * b, y, x + way * b + width, y + height] for b in begins]).reshape(-1, 4)


def crowds(rng: Rng) -> Iterator[dict]:
    """Predicted and true boxes and a threshold; all numbers are whole, so that an overlap of the threshold is exactly that."""
    for _, predicted, true in plans():
        threshold, width, way = rng.choice([(0.5, 48.0, 16.0), (0.25, 40.0, 24.0), (0.75, 56.0, 8.0)])
        corner = (float(rng.integer(20, 60)), float(rng.integer(5, 60)))
        sizes = (way, corner, width, float(rng.integer(20, 60)))
        yield {"predicted": row_of(predicted, *sizes), "true": row_of(true, *sizes), "threshold": threshold}


def ask_match(match_boxes: Any, case: dict) -> Any:
    return match_boxes(case["predicted"].clone(), case["true"].clone(), case["threshold"])


def counted(
    case: dict, *, enough: Callable = operator.ge, take: Callable = max, once: bool = True, blocks: bool = False
) -> tuple:
    """Hits, misses and false alarms; the options count as a slip would."""
    taken: set[int] = set()
    hits = 0
    for row in box_iou(case["predicted"], case["true"]).tolist():
        good = [i for i in range(len(row)) if (blocks or not once or i not in taken) and enough(row[i], case["threshold"])]
        best = take(good, key=row.__getitem__) if good else None
        if best is not None and not (blocks and best in taken):
            taken.add(best)
            hits += 1
    return hits, len(case["true"]) - hits, len(case["predicted"]) - hits


def first_of(places: list[int], key: Callable) -> int:
    return places[0]


def swapped(case: dict) -> tuple:
    hits, misses, false_alarms = counted(case)
    return hits, false_alarms, misses


def least_sure_first(case: dict) -> tuple:
    return counted(case | {"predicted": case["predicted"].flip(0)})


def true_boxes_choose(case: dict) -> tuple:
    hits, false_alarms, misses = counted(case | {"predicted": case["true"], "true": case["predicted"]})
    return hits, misses, false_alarms


def best_pairs_first(case: dict) -> tuple:
    """As if the pair with the largest overlap were matched first, however sure its prediction is."""
    overlaps, hits = box_iou(case["predicted"], case["true"]), 0
    while overlaps.numel() and overlaps.max() >= case["threshold"]:
        row, column = divmod(int(overlaps.argmax()), overlaps.shape[1])
        overlaps[row], overlaps[:, column] = -1, -1
        hits += 1
    return hits, len(case["true"]) - hits, len(case["predicted"]) - hits


def with_sides(case: dict) -> dict:
    """The case as it would be if the last two numbers of each box were width and height."""
    corners = {name: torch.cat([case[name][:, :2], case[name][:, :2] + case[name][:, 2:]], 1) for name in ("predicted", "true")}
    return case | corners


WHO = (
    "somebody else chooses than should: the surest prediction comes first, and of the true boxes that are free it takes "
    "the one that it overlaps most"
)
SUSPECTS: tuple[tuple[Callable[[dict], tuple], str], ...] = (
    (swapped, "a miss is a true box that nobody took, a false alarm a prediction without one: which of your numbers is which?"),
    (partial(counted, once=False), "two predictions claim the same car: each true box can be used once"),
    (partial(counted, enough=operator.gt), "you refuse an overlap of exactly the threshold, and that is enough"),
    (partial(counted, blocks=True), "where the best true box is taken you give up: is there another one that is free?"),
    (partial(counted, take=first_of), WHO),
    (least_sure_first, WHO),
    (true_boxes_choose, WHO),
    (best_pairs_first, WHO),
)


def rules_of_all_crowds(said: list[list[int]], cases: list[dict]) -> Iterator[str]:
    """A suspect, where all counts come out as it would make them."""
    counts = [tuple(one) for one in said]
    if counts == [counted(case) for case in cases]:
        return
    for suspect, words in SUSPECTS:
        if counts == [suspect(case) for case in cases]:
            yield words
    if counts == [counted(with_sides(case)) for case in cases]:
        was, became = (float(box_iou(one["predicted"], one["true"])[0, 0]) for one in (cases[0], with_sides(cases[0])))
        yield f"overlap {became:.2f} instead of {was:.2f} for the first two boxes: boxes are x1, y1, x2, y2"


def rules_match(said: list[int], case: dict) -> Iterator[str]:
    right, boxes = counted(case), (len(case["predicted"]), len(case["true"]))
    about = f"{boxes[0]} predicted and {boxes[1]} true boxes, threshold {case['threshold']:g}: you return {tuple(said)}"
    if said[0] + said[1] != boxes[1] or said[0] + said[2] != boxes[0]:
        yield f"{about}; hits and misses together are the true boxes, hits and false alarms the predicted ones"
    if tuple(said) != right:
        yield f"{about}, and there are {right[0]} hits; go through the predictions one by one, the surest first"


# ------------------------------------------------------------------------------------------ 13.3 widen_first_conv


@beside
def small_network(layout: str, width: int) -> nn.Module:
    """A few layers with a ResNet's names, a VGG's, or a stem within a stem; the first convolution differs in all settings."""
    firsts = {
        "conv1": nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False),
        "features": nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU()),
        "stem": nn.Sequential(
            nn.Identity(), nn.Sequential(nn.Conv2d(4, width, 3, padding=2, dilation=2, padding_mode="reflect"))
        ),
    }
    parts = {layout: firsts[layout], "norm": nn.BatchNorm2d(width), "act": nn.ReLU()}
    parts |= {"conv2": nn.Conv2d(width, width, 3, padding=1), "drop": nn.Dropout(), "pool": nn.AdaptiveAvgPool2d(1)}
    return nn.Sequential(OrderedDict(parts | {"flatten": nn.Flatten(), "fc": nn.Linear(width, 3)}))


def to_widen(rng: Rng) -> Iterator[dict]:
    """Three layouts in mixed modes, single or double precision, frozen or not, and pictures of the bands that they take."""
    for layout in rng.shuffled(["conv1", "features", "stem"]):
        width, new, side = rng.integer(5, 8), rng.integer(2, 4), rng.integer(9, 13)
        with rng.torch():
            model = small_network(layout, width)
            images = torch.randn(2, 4 if layout == "stem" else 3, side, side)
        for module in model.modules():
            module.training = rng.choice([True, False])
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad = rng.choice([True, False])
        first_conv(model)[1].weight.requires_grad = layout != "conv1"
        if layout == "features":
            model, images = model.double(), images.double()
        yield {"model": model, "images": images, "bands": images.shape[1] + (1 if layout == "conv1" else new)}


@beside
def first_conv(model: nn.Module) -> tuple[str, nn.Conv2d]:
    return next((name, module) for name, module in model.named_modules() if isinstance(module, nn.Conv2d))


@beside
def logits_of(model: nn.Module, images: Tensor, bands: int) -> Tensor:
    """What `model` makes, in evaluation mode, of pictures with empty bands behind theirs."""
    count, have, *sides = images.shape
    with torch.no_grad(), eval_mode(model):
        return model(torch.cat([images, images.new_zeros(count, bands - have, *sides)], 1))


def ask_widen(widen: Any, case: dict) -> dict:
    model, bands = case["model"], case["bands"]
    before = look(model)
    returned = widen(model, bands)
    said = {"returned": "it" if returned is model else name_of(returned), "before": before, "after": look(model)}
    said |= {"state": dict(model.state_dict()), "printed": repr(model), "why": "", "logits": torch.zeros(0)}
    if isinstance(returned, nn.Module) and returned is not model:
        said["returned"] = f"a {type(returned).__name__}"
    try:
        said["logits"] = logits_of(model, case["images"], bands)
    except Exception as error:
        said["why"] = f"{type(error).__name__}: {error}".partition("\n")[0]
    return said


def rules_widen(said: dict, case: dict) -> Iterator[str]:
    model, images, bands = case["model"], case["images"], case["bands"]
    name, first = first_conv(model)
    if said["returned"] != "it":
        yield f"you return {said['returned']}; change the model that you are given, and return it, the whole model"
    weight = said["state"].get(f"{name}.weight")
    if weight is None:
        yield f"{name!r} has no weight any more: put the wider layer where the old one stood, under its name"
    yield from rules_weight(weight, name, first.weight.detach(), bands)
    if first.bias is not None and f"{name}.bias" not in said["state"]:
        yield f"{name!r} came with a bias and left without one"
    before = {key: value for key, value in model.state_dict().items() if key != f"{name}.weight"}
    for other in moved(before, {key: value for key, value in said["state"].items() if key != f"{name}.weight"}):
        yield f"{other!r} is not what it was: only the weight of the first convolution changes, and it grows"
    yield from left_alone(said["before"], said["after"], but=("random",))
    first.in_channels = bands
    for wanted, printed in zip(repr(model).splitlines(), said["printed"].splitlines(), strict=False):
        if wanted != printed:
            if wanted == printed.replace(f"Conv2d({images.shape[1]},", f"Conv2d({bands},", 1):
                yield f"{name!r} still says in_channels={images.shape[1]}, and its weight has {bands} bands: set both"
            yield f"a line of the model reads {printed.strip()}; with all its settings kept it would read {wanted.strip()}"
    if said["why"]:
        yield f"pictures with {bands} bands stop the model: {said['why']}"
    first.weight = nn.Parameter(torch.cat([first.weight.detach(), torch.zeros_like(weight[:, images.shape[1] :])], 1))
    if not close(said["logits"], logits_of(model, images, bands)):
        yield "the same picture plus empty bands: the output moved, although the filters are kept"


def rules_weight(weight: Tensor, name: str, old: Tensor, bands: int) -> Iterator[str]:
    """What became of the filters."""
    filters, have, *sides = old.shape
    wanted = (filters, bands, *sides)
    if weight.shape != wanted:
        yield f"the weight of {name!r} has the shape {tuple(weight.shape)}; with {bands} bands it would be {wanted}"
    if weight.dtype != old.dtype:
        yield f"{name!r} came in {old.dtype} and left in {weight.dtype}"
    if not weight.isfinite().all():
        yield f"some of the new filters of {name!r} hold no finite number: are they what lay in memory?"
    kept = weight[:, :have]
    if not same(kept, old):
        ratio = float((kept * old).sum() / (old * old).sum())
        if same(weight[:, -have:], old):
            yield "a new band stands in the place of the first old one (red), and the old ones moved: new bands come behind"
        if ratio > 0 and close(kept, old * ratio):
            yield f"the filters are scaled by {ratio:.2f} without need: same picture plus an empty band, and the output moved"
        lost = int((kept != old).sum())
        by = float((kept - old).abs().max())
        yield f"{lost:,} of {old.numel():,} pretrained values of {name!r} are lost, and they changed by up to {by:.1g}"


SEEN = {"returned": str, "before": LOOK, "after": LOOK, "state": {str: Tensor}, "printed": str, "why": str, "logits": Tensor}


# ---------------------------------------------------------------------------------------- 13.4 what_to_ask

CHOICES = ("split by id", "test where it is used", "threshold from val", "score by group", "trust it")


@beside
def fields() -> dict[str, tuple[str, list[str], list[str]]]:
    """By field the letter of its ids, places, and groups."""
    return {
        "medicine": ("p", ["north clinic", "harbour clinic", "hill clinic"], ["under 40", "40 to 70", "over 70"]),
        "driving": ("d", ["by day", "at dusk", "at night"], ["cars", "bicycles", "people"]),
        "emotion": ("s", ["studio", "classroom", "street"], ["no beard", "beard", "glasses"]),
        "satellites": ("m", ["plain", "coast", "mountains"], ["forest", "water", "roads"]),
    }


def reports(rng: Rng) -> Iterator[dict]:
    """Sound reports that look odd, so that a suspicion without ground is named first, then each fault; two of each kind."""
    sound = ["sound", "new place", "better group", "no threshold"]
    for kind in [*sound * 2, *["overlap", "overlap of one digit", "threshold", "place", "group"] * 2]:
        yield report_of(rng, kind)


@beside
def report_of(rng: Rng, kind: str) -> dict:
    field = rng.choice(list(fields()))
    letter, places, _ = fields()[field]
    near, far, other = rng.shuffled(places)
    train, test = ids_of(rng, kind)
    groups = groups_of(rng, field, kind)
    return {
        "field": field,
        "score": sum(right for right, _ in groups.values()) / sum(count for _, count in groups.values()),
        "train": pictures_of(rng, letter, train, 1),
        "test": pictures_of(rng, letter, test, 500),
        "trained in": [near],
        "tested in": [far, near] if kind == "new place" else [near],
        "meant for": far if kind == "new place" else other if kind == "place" else near,
        "threshold from": "test" if kind == "threshold" else rng.choice(["val", None]) if kind != "no threshold" else None,
        "groups": groups,
    }


@beside
def ids_of(rng: Rng, kind: str) -> tuple[list[int], list[int]]:
    """Numbers of patients, drives, subjects or maps for train and test: 7, 71 and 710 are different ones."""
    one = rng.integer(1, 9)
    long = [number for number in rng.shuffled(range(100, 999)) if number // 100 != one][:14]
    train, test = [10 * one + rng.integer(0, 9), *long[:9]], [one, 100 * one + rng.integer(0, 99), *long[9:]]
    if kind == "overlap":
        test += train[1:3]
    return ([*train, one] if kind == "overlap of one digit" else train), test


@beside
def pictures_of(rng: Rng, letter: str, ids: list[int], first: int) -> list[str]:
    """Two or three names for each id, such as "p12-7": no name stands twice."""
    names = [number for number in ids for _ in range(rng.integer(2, 3))]
    return rng.shuffled([f"{letter}{number}-{first + place}" for place, number in enumerate(names)])


@beside
def groups_of(rng: Rng, field: str, kind: str) -> dict[str, list[int]]:
    """By group how many are right, and of how many: the last group is small."""
    usual = rng.integer(62, 80)
    away = {"group": -rng.integer(22, 35), "better group": rng.integer(15, 19)}.get(kind, rng.integer(-5, 5))
    shares = [usual, usual + rng.integer(-2, 2), usual + away]
    sizes = [rng.integer(300, 500), rng.integer(300, 500), rng.integer(40, 80)]
    names = rng.shuffled(fields()[field][2])
    both = list(zip(names, shares, sizes, strict=True))
    return {name: [round(share * size / 100), size] for name, share, size in rng.shuffled(both)}


def ask_what(what_to_ask: Any, case: dict) -> Any:
    groups = {name: list(counts) for name, counts in case["groups"].items()}
    copied = {key: list(value) if isinstance(value, list) else value for key, value in case.items()}
    return what_to_ask(copied | {"groups": groups})


def in_both(case: dict) -> list[str]:
    train, test = ({name.split("-")[0] for name in case[split]} for split in ("train", "test"))
    return sorted(train & test)


def weakest(case: dict) -> tuple[str, float]:
    shares = {name: right / count for name, (right, count) in case["groups"].items()}
    name = min(shares, key=lambda one: shares[one])
    return name, shares[name]


def wanted(case: dict) -> str:
    if in_both(case):
        return "split by id"
    if case["meant for"] not in case["tested in"]:
        return "test where it is used"
    if case["threshold from"] == "test":
        return "threshold from val"
    return "score by group" if weakest(case)[1] < case["score"] - 0.1 else "trust it"


def rules_what(said: str, case: dict) -> Iterator[str]:
    if said not in CHOICES:
        yield f"you return {said!r}; choose from {', '.join(map(repr, CHOICES))}"
    right = wanted(case)
    if said != right:
        about = f"a report of {case['field']}, score {case['score']:.2f}: you say {said!r}, but "
        yield about + (unfounded(said, case) if right == "trust it" else overlooked(right, case))


def overlooked(right: str, case: dict) -> str:
    """What stands in the report that speaks for the right answer."""
    group, share = weakest(case)
    if right == "split by id":
        one = in_both(case)[0]
        names = ", ".join(next(name for name in case[split] if name.startswith(f"{one}-")) for split in ("train", "test"))
        return f"{one} is in train and in test ({names}): whose pictures are they?"
    if right == "test where it is used":
        return f"it is meant for {case['meant for']!r} and was tested in {case['tested in']}"
    if right == "threshold from val":
        return "its threshold comes from 'test', so the score is that of a choice made on the same pictures"
    return f"{group!r} has {share:.2f}, far below the score"


def unfounded(said: str, case: dict) -> str:
    """Why what was said does not hold of a sound report."""
    group, share = weakest(case)
    return {
        "split by id": "nobody is in both: an id ends at the hyphen, and p7, p71 and p710 are three",
        "test where it is used": f"it is meant for {case['meant for']!r}, and {case['tested in']} is where it was tested",
        "threshold from val": f"its threshold comes from {case['threshold from']!r}: None means that it has none",
        "score by group": f"the weakest group, {group!r}, has {share:.2f}: how far is that below the score?",
    }[said]


CHECKS = [
    exercise(
        "13.1",
        "sensitivity_at",
        "sensitivity at a fixed specificity",
        scored,
        ask_sensitivity,
        rules_sensitivity,
        seen=float,
        overall=rules_of_all_scores,
    ),
    exercise(
        "13.2",
        "match_boxes",
        "hits, misses, false alarms",
        crowds,
        ask_match,
        rules_match,
        seen=(int, int, int),
        overall=rules_of_all_crowds,
    ),
    exercise("13.3", "widen_first_conv", "more bands, nothing lost", to_widen, ask_widen, rules_widen, seen=SEEN),
    exercise("13.4", "what_to_ask", "which number is not real", reports, ask_what, rules_what, seen=str),
]
