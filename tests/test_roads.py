"""The world of roads: a function of its seed, with boxes where things are, and drives whose frames are neighbours."""

from __future__ import annotations

import hashlib
from importlib.metadata import version

import pytest
import torch

from course_utils.fields import roads
from course_utils.profiles import HOME


def test_same_seed_same_scenes_and_another_seed_others():
    first, again, other = (roads.record(2, 2, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.images, again.images)
    assert all(map(torch.equal, first.boxes, again.boxes))
    assert not torch.equal(first.images, other.images)
    assert (first.images.shape, first.images.dtype) == ((4, 3, 128, 128), torch.uint8)


def test_day_and_night_of_one_seed_have_the_same_boxes():
    day, night = (roads.record(5, 2, seed=1, night=dark) for dark in (False, True))
    assert all(map(torch.equal, day.boxes, night.boxes))
    assert all(map(torch.equal, day.labels, night.labels))
    assert night.images.float().mean() < 0.5 * day.images.float().mean()


def test_boxes_lie_in_the_picture_and_have_a_class():
    scenes = roads.record(40, 3, seed=2)
    boxes, labels = torch.cat(scenes.boxes), torch.cat(scenes.labels)
    assert len(boxes) == len(labels) > 100
    assert boxes.min() >= 0
    assert boxes.max() <= roads.SIZE
    assert ((boxes[:, 2:] - boxes[:, :2]).min(1).values > 3).all()
    assert set(labels.tolist()) == {0, 1}
    assert max(map(len, scenes.boxes)) <= 6


def test_frames_know_their_drive_and_neighbours_are_alike():
    scenes = roads.record(6, 3, seed=5)
    assert scenes.drives == tuple(5000 + drive for drive in range(6) for _ in range(3))
    assert scenes.numbers == (0, 1, 2) * 6
    values = scenes.images.float()
    neighbours = (values[0::3] - values[1::3]).abs().mean()
    strangers = (values[0::3] - values[0::3].roll(1, 0)).abs().mean()
    assert neighbours < 0.5 * strangers


def test_a_part_of_the_frames():
    scenes = roads.record(2, 3, seed=1)
    part = scenes[torch.tensor([4, 0])]
    assert torch.equal(part.images, scenes.images[[4, 0]])
    assert (part.drives, part.numbers) == ((1001, 1000), (1, 0))
    assert torch.equal(part.boxes[0], scenes.boxes[4])
    assert len(part) == 2


def test_no_scene():
    with pytest.raises(ValueError, match="0 drives of 3 frames are no scene"):
        roads.record(0, 3, seed=1)


PINNED = {line.split("==")[0]: line.split("==")[1] for line in (HOME / "requirements.txt").read_text().split() if "==" in line}


@pytest.mark.skipif(
    any(version(name) != PINNED[name] for name in ("pillow", "numpy")), reason="another Pillow or numpy may round differently"
)
@pytest.mark.parametrize(("night", "digest"), [(False, "f1e345f7859e7bf9"), (True, "f88c1a999b9e4061")])
def test_scenes_are_what_they_were(night, digest):
    images = roads.record(3, 2, seed=1_000, night=night).images
    assert hashlib.sha256(images.numpy().tobytes()).hexdigest()[:16] == digest
