"""Folds by picture or by subject, and heads on cached features of faces."""

from __future__ import annotations

import torch

from course_utils.experiments import moods
from course_utils.fields.faces import faces
from course_utils.profiles import settings

FACES = faces(5, {"no beard": 5, "beard": 3}, 4)


def test_folds_are_of_equal_size_and_a_subject_stays_in_one():
    by_picture, by_subject = (moods.folds(FACES.subjects, by, seed=1) for by in ("picture", "subject"))
    for found in (by_picture, by_subject):
        assert found.bincount().tolist() == [8] * 4
    who = torch.from_numpy(FACES.subjects)
    assert all(len(by_subject[who == number].unique()) == 1 for number in range(8))
    assert any(len(by_picture[who == number].unique()) > 1 for number in range(8))


def test_shares_of_each_subject_by_group():
    shares = moods.by_subject(FACES.groups == "beard", FACES)
    assert shares == {"no beard": [0.0] * 5, "beard": [1.0] * 3}


def test_a_head_learns_what_it_is_shown_and_leaves_the_random_numbers_alone():
    features, labels = moods.features(FACES, settings()), moods.labels_of(FACES)
    assert features.shape == (32, 4096)
    before = torch.get_rng_state()
    head = moods.train_head(features, labels)
    assert torch.equal(torch.get_rng_state(), before)
    assert (head(features).argmax(1) == labels).float().mean() > 0.9
    assert torch.equal(moods.train_head(features, labels)(features), head(features))
