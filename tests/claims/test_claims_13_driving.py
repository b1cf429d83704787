"""Lesson 13, driving: neighbouring frames, new drives, and the night, on five drawings of the world with five heads."""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_utils import get_weights, load_model
from course_utils.experiments import detection
from course_utils.fields import roads

pytestmark = pytest.mark.claim
SEEDS = range(5)
OUTPUTS = [1, len(roads.CLASSES), 4]


def loss(outputs, true):
    present, kind, box = outputs.split(OUTPUTS, 1)
    here = true.present > 0
    kind, box, true_box = (part.permute(0, 2, 3, 1)[here] for part in (kind, box, true.box))
    found = F.binary_cross_entropy_with_logits(present[:, 0], true.present)
    return 10 * found + F.cross_entropy(kind, true.kind[here]) + 2 * F.l1_loss(box, true_box)


@cache
def tools():
    model = load_model("resnet18", weights="shapes")
    return detection.up_to_layer3(model), get_weights("resnet18", "shapes").transforms()


def look(*drawing, **options):
    return detection.look(*tools(), roads.record(*drawing, **options))


def trained(seen, seed, head=None, steps=300, lr=0.005):
    torch.manual_seed(seed)
    head = head or nn.Sequential(nn.Conv2d(256, 128, 1), nn.ReLU(), nn.Conv2d(128, sum(OUTPUTS), 1))
    return detection.train_head(head, seen, loss, steps=steps, lr=lr, seed=seed)


@cache
def measured(seed):
    torch.set_num_threads(1)
    few, wide, some = look(15, 20, seed=100 + seed), look(225, 1, seed=400 + seed), look(20, 1, seed=300 + seed, night=True)
    day, night = (look(60, 1, seed=200 + seed, night=dark) for dark in (False, True))
    order = torch.randperm(300, generator=torch.Generator().manual_seed(seed)).tolist()
    first, apart = trained(few.part(order[75:]), seed), trained(few.part(range(80, 300)), seed)
    found = {"random": (first, few.part(order[:75])), "new": (first, day), "by drive": (apart, few.part(range(80)))}
    second = trained(wide, seed)
    found |= {"wide, day": (second, day), "wide, night": (second, night)}
    tuned = trained(some, seed, copy.deepcopy(second), steps=100, lr=0.001)
    both = trained(wide.with_more(some, 5), seed, copy.deepcopy(second), steps=200, lr=0.002)
    found |= {
        "tuned, day": (tuned, day),
        "tuned, night": (tuned, night),
        "both, day": (both, day),
        "both, night": (both, night),
    }
    return {name: detection.score(*pair, OUTPUTS) for name, pair in found.items()}


@pytest.mark.parametrize("seed", SEEDS)
def test_frames_at_random_promise_much_more_than_new_roads_keep(seed):
    found = measured(seed)
    assert found["random"].ap - found["new"].ap > 0.35
    assert found["random"].ap - found["by drive"].ap > 0.25
    assert abs(found["by drive"].ap - found["new"].ap) < 0.5 * (found["random"].ap - found["new"].ap), "nearer to the truth"


@pytest.mark.parametrize("seed", SEEDS)
def test_as_many_frames_from_more_drives_are_worth_more(seed):
    assert measured(seed)["wide, day"].ap - measured(seed)["new"].ap > 0.07


@pytest.mark.parametrize("seed", SEEDS)
def test_the_night_costs_a_quarter_of_the_precision_or_more(seed):
    assert measured(seed)["wide, night"].ap < 0.75 * measured(seed)["wide, day"].ap


@pytest.mark.parametrize("seed", SEEDS)
def test_twenty_night_scenes_help_at_night_and_cost_by_day(seed):
    found = measured(seed)
    assert found["tuned, night"].found - found["wide, night"].found > 0.05
    assert found["wide, day"].ap - found["tuned, day"].ap > 0.05


@pytest.mark.parametrize("seed", SEEDS)
def test_day_and_night_together_help_as_well_and_cost_less(seed):
    found = measured(seed)
    assert found["both, night"].found - found["wide, night"].found > 0.05
    assert found["both, day"].ap - found["tuned, day"].ap > 0.03
    assert found["wide, day"].ap - found["both, day"].ap < 0.12
