"""The plumbing of lesson 00: a data set at once, a few of it, a head in a blink, pictures of one's own."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from torch import nn

from course_utils import open_data, settings
from course_utils.experiments import first_steps


def test_a_data_set_at_once_stands_in_the_order_of_its_files():
    data = open_data(settings(profile="tiny"))
    found = first_steps.whole(data.val)
    images, labels = next(iter(data.val))
    assert len(found.pictures) == len(found.images) == len(found.labels) == 90
    assert torch.equal(found.images[:32], images)
    assert torch.equal(found.labels[:32], labels)
    assert torch.equal(data.val.dataset.transform(found.pictures[7]), images[7])


LABELS = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2])


def test_a_few_of_each_class_other_ones_for_another_seed():
    rows = first_steps.few(LABELS, 2, seed=0)
    assert LABELS[rows].tolist() == [0, 0, 1, 1, 2, 2]
    assert len(set(rows)) == 6
    assert rows == first_steps.few(LABELS, 2, seed=0)
    assert rows != first_steps.few(LABELS, 2, seed=1)
    for count in (0, 5):
        with pytest.raises(ValueError, match=f"per_class={count}: class number 0 has 4 pictures"):
            first_steps.few(LABELS, count, seed=0)


def test_a_head_learns_what_can_be_learnt_and_moves_no_random_numbers():
    features = nn.functional.one_hot(LABELS, 3).float() * 3
    before = torch.get_rng_state()
    head, again, other = (first_steps.train_head(features, LABELS, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert head(features).argmax(1).tolist() == LABELS.tolist()
    assert torch.equal(head.weight, again.weight)
    assert not torch.equal(head.weight, other.weight)
    assert not head.training


def test_the_old_world_has_six_pictures():
    found = first_steps.shapes()
    assert len(found) == 6
    assert {image.size for image in found.values()} == {(64, 64)}


def test_runs_from_scratch_come_from_the_table():
    found = first_steps.scratch_with_twenty()
    assert len(found) >= 3
    assert all(0 < share < 1 for share in found)


def test_own_pictures_of_any_size_and_kind(tmp_path):
    Image.new("L", (300, 100), 200).save(tmp_path / "wide.png")
    Image.new("RGBA", (9, 9), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("CMYK", (80, 120)).save(tmp_path / "tall.jpg")
    (tmp_path / "README.md").write_text("words")
    (tmp_path / ".hidden").write_text("")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "folder").mkdir()
    found, unread = first_steps.own_pictures(tmp_path)
    assert list(found) == ["clear.png", "tall.jpg", "wide.png"]
    assert {(image.size, image.mode) for image in found.values()} == {((64, 64), "RGB")}
    assert found["clear.png"].getpixel((30, 30)) == (255, 255, 255)
    assert len(unread) == 1
    assert unread[0].startswith(f"{tmp_path.name}/notes.txt is not a picture that can be read")


def test_no_pictures_of_ones_own(tmp_path):
    assert first_steps.own_pictures(tmp_path) == ({}, [])
    assert first_steps.own_pictures(tmp_path / "nowhere") == ({}, [])
