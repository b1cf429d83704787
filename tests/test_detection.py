"""Detection on a grid: boxes to cells and back, average precision against COCO's own numbers, and torchvision's detector."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torchvision.models import resnet18
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights, faster_rcnn
from torchvision.ops import FrozenBatchNorm2d

from course_utils import get_weights, load_model, plots
from course_utils.experiments import detection
from course_utils.experiments.detection import Found
from course_utils.fields import roads


def certain(true: detection.Targets, classes: int = 2) -> list[Found]:
    kind = 20 * nn.functional.one_hot(true.kind, classes).permute(0, 3, 1, 2).float()
    return detection.from_cells(40 * true.present[:, None] - 20, kind, true.box)


def test_boxes_survive_the_way_to_cells_and_back():
    boxes = (torch.tensor([[3.0, 5, 40, 30], [90, 60, 128, 100]]), torch.zeros(0, 4))
    labels = (torch.tensor([0, 1]), torch.zeros(0, dtype=torch.long))
    first, second = certain(detection.to_cells(boxes, labels))
    order = first.labels.argsort()
    assert torch.allclose(first.boxes[order], boxes[0], atol=1e-3)
    assert first.labels[order].tolist() == [0, 1]
    assert (first.scores > 0.99).all()
    assert len(second.boxes) == 0


def test_of_two_in_one_cell_the_larger_counts():
    boxes = (torch.tensor([[10.0, 10, 110, 112], [59, 60, 63, 64]]),)
    for turned in (boxes[0], boxes[0].flip(0)):
        (found,) = certain(detection.to_cells((turned,), (torch.tensor([0, 0]),)))
        assert torch.allclose(found.boxes, boxes[0][:1], atol=1e-3)


def test_the_same_object_is_named_once_and_doubtful_cells_not_at_all():
    true = detection.to_cells((torch.tensor([[40.0, 40, 80, 80]]),), (torch.tensor([1]),))
    present, box = true.present[:, None].clone(), true.box.clone()
    present[0, 0, 3, 4], box[0, :, 3, 4] = 0.5, box[0, :, 3, 3] - torch.tensor([1.0, 0, 0, 0])
    kind = torch.tensor([0.0, 20.0])[None, :, None, None].expand(1, 2, 8, 8)
    assert len(detection.from_cells(20 * present - 5, kind, box)[0].boxes) == 1
    assert len(detection.from_cells(torch.full((1, 1, 8, 8), -9.0), kind, box)[0].boxes) == 0


def scattered(seed: int, scenes: int = 12) -> tuple[list[Found], list[torch.Tensor], list[torch.Tensor]]:
    """True boxes, and predictions: some near, some anywhere, some of the wrong class."""
    draw = torch.Generator().manual_seed(seed)
    found, boxes, labels = [], [], []
    for _ in range(scenes):
        count = int(torch.randint(0, 5, (1,), generator=draw))
        corner = 90 * torch.rand(count, 2, generator=draw)
        real = torch.cat([corner, corner + 10 + 25 * torch.rand(count, 2, generator=draw)], 1)
        names = torch.randint(0, 2, (count,), generator=draw)
        said = torch.cat([real, real]) + 2.2 * torch.randn(2 * count, 4, generator=draw)
        wrong = torch.rand(2 * count, generator=draw) < 0.2
        scores = torch.rand(2 * count, generator=draw).sort(descending=True).values
        found.append(Found(said, torch.where(wrong, 1 - names.repeat(2), names.repeat(2)), scores))
        boxes.append(real)
        labels.append(names)
    return found, boxes, labels


# what pycocotools 2.0.11 says of the same boxes at IoU 0.5
COCO = {0: [0.75, 0.8442666], 1: [0.7446416, 0.7410341], 2: [0.8229877, 0.7150275]}


@pytest.mark.parametrize("seed", COCO)
def test_average_precision_is_coco_s(seed):
    assert detection.average_precision(*scattered(seed), classes=2) == pytest.approx(COCO[seed], abs=1e-6)


def test_average_precision_at_its_ends():
    boxes, labels = [torch.tensor([[0.0, 0, 10, 10]])], [torch.tensor([0])]
    right = [Found(boxes[0], labels[0], torch.tensor([0.9]))]
    nothing = [Found(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), torch.zeros(0))]
    assert detection.average_precision(right, boxes, labels, classes=2)[0] == pytest.approx(1)
    assert math.isnan(detection.average_precision(right, boxes, labels, classes=2)[1])
    assert detection.average_precision(nothing, boxes, labels, classes=1) == [0]
    assert detection.share_found(right, boxes, labels) == 1
    assert detection.share_found(right, boxes, labels, least=0.95) == 0


def test_a_head_learns_and_the_front_stands_still():
    model = load_model("resnet18", weights="shapes")
    backbone = detection.up_to_layer3(model)
    scenes = roads.record(8, 1, seed=1)
    seen = detection.look(backbone, get_weights("resnet18", "shapes").transforms(), scenes)
    assert seen.features.shape == (8, 256, 8, 8)
    more = seen.part([0, 1]).with_more(seen.part([7]), times=2)
    assert torch.equal(more.features, seen.features[[0, 1, 7, 7]])
    assert len(more.boxes) == len(more.labels) == 4
    torch.manual_seed(0)
    head = nn.Conv2d(256, 7, 1)

    def loss(outputs, true):
        presence, _, box = outputs.split([1, 2, 4], 1)
        here = true.present > 0
        near = (box - true.box).permute(0, 2, 3, 1)[here].abs().mean()
        return nn.functional.binary_cross_entropy_with_logits(presence[:, 0], true.present) + near

    with torch.no_grad():
        before = loss(head(seen.features), detection.to_cells(seen.boxes, seen.labels))
    detection.train_head(head, seen, loss, steps=30, lr=0.01, seed=0)
    with torch.no_grad():
        assert loss(head(seen.features), detection.to_cells(seen.boxes, seen.labels)) < 0.5 * before
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert 0 <= detection.score(head, seen, [1, 2, 4]).ap <= 1


def test_torchvision_s_detector_trains_with_background_as_class_0():
    """A stand-in with random weights; with pretrained ones its batch norms are of a kind that cannot move."""
    detector = detection.load_detector(2, weights=None, weights_backbone=None, min_size=64, max_size=64)
    assert detector.roi_heads.box_predictor.cls_score.out_features == 3
    scenes = roads.record(1, 1, seed=0)
    targets = detection.for_torchvision(scenes.boxes, scenes.labels)
    assert torch.equal(targets[0]["labels"], scenes.labels[0] + 1)
    losses = detector.train()(list(scenes.images / 255), targets)
    assert all(torch.isfinite(value) for value in losses.values())
    sum(losses.values()).backward()
    assert detector.roi_heads.box_predictor.cls_score.weight.grad.abs().sum() > 0


def test_what_the_lesson_says_of_torchvision_s_detector(monkeypatch):
    seen = {}

    monkeypatch.setattr(faster_rcnn, "resnet50", lambda **options: seen.update(options) or resnet18())
    monkeypatch.setattr(faster_rcnn, "_resnet_fpn_extractor", lambda *_: nn.Identity())
    monkeypatch.setattr(faster_rcnn, "FasterRCNN", lambda *_, **options: nn.Identity())
    monkeypatch.setattr(FasterRCNN_ResNet50_FPN_Weights, "get_state_dict", lambda *_, **options: {})
    faster_rcnn.fasterrcnn_resnet50_fpn(weights="DEFAULT")
    assert seen["norm_layer"] is FrozenBatchNorm2d


def test_scenes_with_boxes():
    scenes = roads.record(2, 1, seed=1)
    true = list(zip(scenes.boxes, scenes.labels, strict=True))
    figure = plots.scenes(scenes.images, true, roads.CLASSES, titles=["one", "two"], title="Two roads")
    assert figure.alt.startswith("Two roads. 2 scenes with ")
    said = [(torch.tensor([[10.0, 10, 50, 50], [0, 0, 9, 9]]), torch.tensor([0, 1]), torch.tensor([0.8, 0.1]))] * 2
    figure = plots.scenes(scenes.images, true, roads.CLASSES, found=said)
    assert figure.alt.endswith("and 2 predicted ones in pink.")
    assert [text.get_text() for text in figure.axes[0].texts] == ["car 0.80"]
