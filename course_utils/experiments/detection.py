"""Detection on a grid: which cell names which box, boxes out of cells, and average precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection import fasterrcnn_resnet50_fpn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.ops import batched_nms, box_iou

from course_utils.fields.roads import Frames
from course_utils.rng import preserve_rng_state

CELL = 16  # pixels of a cell, each way: what one place of layer3 stands for


class Targets(NamedTuple):
    """What the head should say in each cell.

    Attributes:
        present: (scenes, rows, columns), 1 where the middle of an object lies, else 0.
        kind: (scenes, rows, columns), the class of that object.
        box: (scenes, 4, rows, columns), see `to_cells`.
    """

    present: Tensor
    kind: Tensor
    box: Tensor


class Found(NamedTuple):
    """What a detector says of one scene, the surest first: boxes (n, 4), their classes (n,) and scores (n,), 0 … 1."""

    boxes: Tensor
    labels: Tensor
    scores: Tensor


def to_cells(boxes: Sequence[Tensor], labels: Sequence[Tensor], size: int = 128) -> Targets:
    """For each scene the cell in which the middle of each box lies, with class and box; of two in one cell the larger.

    A box is written down as its cell sees it: how far its middle is from the middle of the cell, and the logarithms of width
    and height, all in cells.
    """
    cells = size // CELL
    present, kind = torch.zeros(len(boxes), cells, cells), torch.zeros(len(boxes), cells, cells, dtype=torch.long)
    written = torch.zeros(len(boxes), 4, cells, cells)
    for scene, (found, names) in enumerate(zip(boxes, labels, strict=True)):
        middles, sides = (found[:, :2] + found[:, 2:]) / 2 / CELL, (found[:, 2:] - found[:, :2]) / CELL
        for i in sides.prod(1).argsort().tolist():  # the larger comes later, and stays
            x, y = middles[i].long().clamp(0, cells - 1).tolist()
            present[scene, y, x], kind[scene, y, x] = 1, names[i]
            written[scene, :, y, x] = torch.cat([middles[i] - torch.tensor([x + 0.5, y + 0.5]), sides[i].log()])
    return Targets(present, kind, written)


def from_cells(present: Tensor, kind: Tensor, box: Tensor, *, least: float = 0.05, overlap: float = 0.5) -> list[Found]:
    """What the outputs of a head say, scene by scene: boxes with a score of `least` or more, the same object only once.

    Args:
        present: logits (scenes, 1, rows, columns).
        kind: logits (scenes, classes, rows, columns).
        least: what is less sure than this is no prediction.
        box: (scenes, 4, rows, columns), as in `to_cells`.
        overlap: of two boxes of one class that overlap more than this, the surer stays.
    """
    rows, columns = torch.meshgrid(torch.arange(box.shape[2]), torch.arange(box.shape[3]), indexing="ij")
    middles = CELL * (box[:, :2] + torch.stack([columns, rows]) + 0.5)
    half = CELL * box[:, 2:].clamp(max=3).exp() / 2
    edge = CELL * box.shape[3]
    boxes = torch.cat([middles - half, middles + half], 1).clamp(0, edge).flatten(2).transpose(1, 2)
    sure, names = kind.softmax(1).max(1)
    scores = (present.sigmoid()[:, 0] * sure).flatten(1)
    found = []
    for scene in range(len(boxes)):
        named, score = names[scene].flatten(), scores[scene]
        some = (score >= least).nonzero()[:, 0]
        kept = some[batched_nms(boxes[scene, some], score[some], named[some], overlap)]
        found.append(Found(boxes[scene, kept], named[kept], score[kept]))
    return found


# ------------------------------------------------------------------------------------------------------------- training


def up_to_layer3(model: nn.Module) -> nn.Sequential:
    """The frozen front of a ResNet: its layers up to `layer3`, which see a cell of 16 pixels as one place."""
    names = [name for name, _ in model.named_children()]
    front = [layer for _, layer in model.named_children()][: names.index("layer3") + 1]
    return nn.Sequential(*front).requires_grad_(False).eval()


class Cached(NamedTuple):
    """What the frozen front makes of scenes, kept, with what is in them.

    Attributes:
        features: (scenes, channels, rows, columns).
        boxes: of each scene a tensor (objects, 4): x1, y1, x2, y2 in pixels.
        labels: of each scene a tensor (objects,).
    """

    features: Tensor
    boxes: tuple[Tensor, ...]
    labels: tuple[Tensor, ...]

    def part(self, places: Sequence[int]) -> Cached:
        boxes, labels = (tuple(one[place] for place in places) for one in (self.boxes, self.labels))
        return Cached(self.features[list(places)], boxes, labels)

    def with_more(self, other: Cached, times: int = 1) -> Cached:
        """These scenes, and those of `other` so many times."""
        features = torch.cat([self.features, *[other.features] * times])
        return Cached(features, self.boxes + other.boxes * times, self.labels + other.labels * times)


@torch.no_grad()
def look(backbone: nn.Module, transform: Any, scenes: Frames) -> Cached:
    """Run the frozen front once over scenes, at their own size.

    Args:
        transform: the preparation that belongs to the weights; only its mean and standard deviation are used, for resizing
            would move the boxes.
    """
    mean, std = (torch.tensor(values)[:, None, None] for values in (transform.mean, transform.std))
    features = torch.cat([backbone((batch / 255 - mean) / std) for batch in scenes.images.split(32)])
    return Cached(features, scenes.boxes, scenes.labels)


def train_head(
    head: nn.Module, seen: Cached, loss: Callable[[Tensor, Targets], Tensor], *, steps: int, lr: float, seed: int
) -> nn.Module:
    """Train `head` on cached features, in batches of 32 drawn at random; the rate rises and falls once. Returns `head`."""
    optimizer = torch.optim.AdamW(head.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    features, true = seen.features, to_cells(seen.boxes, seen.labels)
    for _ in range(steps):
        some = torch.randint(len(features), (min(32, len(features)),), generator=generator)
        value = loss(head(features[some]), Targets(*(part[some] for part in true)))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
    return head


# ----------------------------------------------------------------------------------------------- torchvision's detector


def load_detector(classes: int, **options: Any) -> nn.Module:
    """Torchvision's Faster R-CNN, pretrained on COCO, with a new last layer for so many classes.

    Args:
        classes: without the background, for which torchvision keeps label 0: yours begin at 1.
        options: for torchvision, such as `min_size=256`; as it comes, the shorter side of each picture is resized to 800.
    """
    detector = fasterrcnn_resnet50_fpn(**{"weights": "DEFAULT", **options})
    inputs = detector.roi_heads.box_predictor.cls_score.in_features
    with preserve_rng_state():
        torch.manual_seed(0)
        detector.roi_heads.box_predictor = FastRCNNPredictor(inputs, classes + 1)
    return detector


def for_torchvision(boxes: Sequence[Tensor], labels: Sequence[Tensor]) -> list[dict[str, Tensor]]:
    """Boxes and labels as torchvision's detectors take them: label 0 is the background, so each label moves up by one."""
    return [{"boxes": found, "labels": names + 1} for found, names in zip(boxes, labels, strict=True)]


# ------------------------------------------------------------------------------------------------------- how good is it?


def average_precision(
    found: Sequence[Found], boxes: Sequence[Tensor], labels: Sequence[Tensor], *, classes: int, overlap: float = 0.5
) -> list[float]:
    """For each class the average precision, 0 … 1, as COCO counts it; not-a-number for a class without any box.

    From the surest prediction of all scenes down: which share of the true boxes is found, and which share of the predictions
    is right? COCO reads the second at 101 values of the first.
    """
    return [precision_of(found, boxes, labels, number, overlap) for number in range(classes)]


def precision_of(
    found: Sequence[Found], boxes: Sequence[Tensor], labels: Sequence[Tensor], number: int, overlap: float
) -> float:
    scores, hits, true = [], [], 0
    for said, real, names in zip(found, boxes, labels, strict=True):
        mine = said.labels == number
        true += int((names == number).sum())
        scores.append(said.scores[mine])
        hits.append(matched(said.boxes[mine], real[names == number], overlap))
    if not true:
        return float("nan")
    order = torch.cat(scores).argsort(descending=True, stable=True)
    right = torch.cat(hits)[order].double().cumsum(0)
    recall, precision = right / true, right / torch.arange(1, len(right) + 1)
    best_from_here = precision.flip(0).cummax(0).values.flip(0) if len(right) else precision
    places = torch.searchsorted(recall, torch.from_numpy(np.linspace(0, 1, 101)))  # to the last bit as COCO has them
    return float(torch.cat([best_from_here, torch.zeros(1, dtype=torch.float64)])[places].mean())


def matched(said: Tensor, real: Tensor, overlap: float) -> Tensor:
    """Whether each predicted box, the surest first, gets a true box of its own: the one that it overlaps most and is free."""
    free, hits = box_iou(said, real), torch.zeros(len(said), dtype=torch.bool)
    for i in range(len(said) if len(real) else 0):
        best = int(free[i].argmax())
        if free[i, best] >= overlap:
            hits[i], free[:, best] = True, -1
    return hits


def share_found(
    found: Sequence[Found], boxes: Sequence[Tensor], labels: Sequence[Tensor], *, least: float = 0.3, overlap: float = 0.5
) -> float:
    """The share of true boxes that a prediction with a score of `least` or more hits, class by class."""
    hits = total = 0
    for said, real, names in zip(found, boxes, labels, strict=True):
        for number in names.unique():
            mine = said.boxes[(said.labels == number) & (said.scores >= least)]
            hits += int(matched(mine, real[names == number], overlap).sum())
        total += len(real)
    return hits / total


class Score(NamedTuple):
    """Average precision, the mean of all classes, and the share of true boxes that are found with a score of 0.3 or more."""

    ap: float
    found: float


@torch.no_grad()
def predictions(head: nn.Module, seen: Cached, outputs: Sequence[int]) -> list[Found]:
    """What a head says of cached scenes; `outputs` are the numbers of its outputs for presence, classes and box."""
    return from_cells(*head(seen.features).split(list(outputs), 1))


def score(head: nn.Module, seen: Cached, outputs: Sequence[int]) -> Score:
    said = predictions(head, seen, outputs)
    values = average_precision(said, seen.boxes, seen.labels, classes=outputs[1])
    return Score(sum(values) / len(values), share_found(said, seen.boxes, seen.labels))
