"""The world of faces: a function of its seed, with subjects and groups, and annotators who disagree as people do."""

from __future__ import annotations

import hashlib
from importlib.metadata import version

import numpy as np
import pytest

from course_utils.fields.faces import GROUPS, MOODS, agreement, faces, majority
from course_utils.profiles import HOME

SMALL = {"no beard": 3, "beard": 2}


def test_same_seed_same_faces():
    first, again, other = faces(1, SMALL, 4), faces(1, SMALL, 4), faces(2, SMALL, 4)
    assert first.images.tobytes() == again.images.tobytes()
    assert first.annotations.tolist() == again.annotations.tolist()
    assert first.images.tobytes() != other.images.tobytes()


def test_each_picture_has_a_subject_a_group_and_five_labels():
    found = faces(1, SMALL, 4)
    assert found.images.shape == (20, 64, 64, 3)
    assert found.images.dtype == np.uint8
    assert found.annotations.shape == (20, 5)
    assert np.unique(found.subjects, return_counts=True)[1].tolist() == [4] * 5
    for number in range(5):
        assert len(set(found.groups[found.subjects == number])) == 1, "a beard stays on"
    assert (found.groups == "beard").sum() == 8


def test_a_subject_looks_like_itself():
    found = faces(3, SMALL, 6)
    means = found.images.reshape(len(found.images), -1, 3).mean(1)  # the colour of wall, skin and hair
    same = found.subjects[:, None] == found.subjects[None]
    apart = np.linalg.norm(means[:, None] - means[None], axis=2)
    assert apart[same].mean() < 0.6 * apart[~same].mean()


def test_the_whole_world():
    found = faces(0)
    assert len(found.images) == 16 * sum(GROUPS.values())
    labels = majority(found.annotations)
    assert set(labels) == set(range(len(MOODS)))
    assert 0.75 < (labels == found.moods).mean() < 0.95, "mostly what was drawn, and not always"
    shares = [np.bincount(found.moods[found.subjects == number], minlength=4).max() / 16 for number in range(50)]
    assert np.mean(shares) > 0.4, "some moods are shown more often than others"


def test_a_majority_is_most_and_of_two_that_are_level_the_earlier():
    assert majority(np.array([[0, 1, 1, 2, 1], [3, 2, 3, 2, 0], [2, 3, 3, 2, 0], [1, 1, 1, 1, 1]])).tolist() == [1, 3, 2, 1]


def test_agreement_is_with_the_majority_of_the_other_four():
    assert agreement(np.array([[1, 1, 1, 1, 1]])).tolist() == [1]
    assert agreement(np.array([[1, 1, 1, 1, 0]])).tolist() == [0.8]
    assert agreement(np.array([[1, 1, 0, 0, 2]])) == pytest.approx(0), "each sees one of its own and two of another"
    assert agreement(np.array([[1, 1, 1, 0, 0]])) == pytest.approx((3 * 0.5 + 0) / 5), "2:2 counts half"


PINNED = {line.split("==")[0]: line.split("==")[1] for line in (HOME / "requirements.txt").read_text().split() if "==" in line}


@pytest.mark.skipif(
    any(version(name) != PINNED[name] for name in ("pillow", "numpy")), reason="another Pillow or numpy may round differently"
)
def test_drawings_are_what_they_were():
    found = faces(1_000, SMALL, 4)
    digest = hashlib.sha256(found.images.tobytes() + found.annotations.astype(np.uint8).tobytes()).hexdigest()
    assert digest[:16] == "ce70e486aeee98e9"
