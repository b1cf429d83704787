"""Lesson 13, station 1: what a marked scanner and patients in both parts add to a score, and what covering the mark brings."""

from functools import cache

import pytest
import torch
from torch import nn

from course_utils import get_weights, occlusion_map, settings
from course_utils.experiments import screening
from course_utils.fields.xrays import PLATE, xrays

pytestmark = pytest.mark.claim
SEEDS = range(5)


def tensors(films):
    images, labels, patients, marked = (
        torch.from_numpy(one) for one in (films.images, films.labels, films.patients, films.marked)
    )
    return images.permute(0, 3, 1, 2), labels, patients, marked, *(torch.from_numpy(films.hospitals == name) for name in "AB")


@cache
def study(seed):
    """All numbers of the station on one drawing, with folds and heads of that seed."""
    images, labels, patients, marked, in_a, in_b = tensors(xrays({"A": 80, "B": 80}, seed=seed))
    covered = images.clone()
    covered[:, :, PLATE[0], PLATE[1]] = 0
    run = settings()
    rows, clean = screening.features(images, run), screening.features(covered, run)
    by_picture, by_patient = (screening.folds(one, seed) for one in (torch.arange(len(images)), patients))
    by_picture[in_b] = by_patient[in_b] = 4

    def scores_by(rows, folds):
        scores = torch.empty(len(rows))
        for fold in folds.unique():
            train = in_a & (folds != fold)
            head = screening.train_head(rows[train], labels[train], seed)
            scores[folds == fold] = head(rows[folds == fold]).detach().diff(dim=1)[:, 0]
        return scores, head

    def right(scores, where):
        return ((scores > 0) == (labels == 1))[where].float().mean().item()

    (old, head), (leaky, _), (honest, _) = (
        scores_by(rows, by_picture),
        scores_by(clean, by_picture),
        scores_by(clean, by_patient),
    )
    ill = in_b & (labels == 1) & marked
    told = {name: screening.report(one, labels, patients, val=in_a, test=in_b) for name, one in (("old", old), ("new", honest))}
    return {
        "reported": right(old, in_a),
        "old at B": right(old, in_b),
        "covered, pictures": right(leaky, in_a),
        "covered, patients": right(honest, in_a),
        "covered, B": right(honest, in_b),
        "found": [float((head(one[ill]).argmax(1) == 1).float().mean()) for one in (rows, clean)],
        "told": told,
        "map": average_map(head, images[ill][::3][:24]),
    }


def average_map(head, images):
    model, prepare = nn.Sequential(screening.backbone(settings()), head), get_weights("resnet18", "shapes").transforms()
    return torch.stack([occlusion_map(model, prepare(one), 1, patch=16, step=8) for one in images]).mean(0)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_score_of_hospital_a_is_too_good(seed):
    assert study(seed)["reported"] - study(seed)["old at B"] > 0.12


@pytest.mark.parametrize("seed", SEEDS)
def test_the_average_map_sits_on_the_mark(seed):
    found = study(seed)["map"]
    row, column = divmod(int(found.argmax()), found.shape[1])
    assert row == 0
    assert column >= 5  # of 0 to 6: a square of 16 pixels that begins at 40 or 48, and the plate begins at 48
    elsewhere = found.clone()
    elsewhere[:2, 4:] = -torch.inf
    assert found.max() > 1.1 * elsewhere.max()


@pytest.mark.parametrize("seed", SEEDS)
def test_without_the_letters_the_old_model_no_longer_finds_most_of_those_ill(seed):
    before, after = study(seed)["found"]
    assert before > 0.8 > 0.55 > after


@pytest.mark.parametrize("seed", SEEDS)
def test_covering_the_mark_brings_something_at_b(seed):
    assert study(seed)["covered, B"] - study(seed)["old at B"] > 0.05


@pytest.mark.parametrize("seed", SEEDS)
def test_the_mark_makes_it_better_at_a_and_worse_at_b(seed):
    found = study(seed)
    assert found["reported"] > found["covered, pictures"]
    assert found["old at B"] < found["covered, B"]


@pytest.mark.parametrize("seed", SEEDS)
def test_folds_of_pictures_flatter(seed):
    assert study(seed)["covered, pictures"] - study(seed)["covered, patients"] > 0.04


@pytest.mark.parametrize("seed", SEEDS)
def test_the_promised_specificity_is_kept_without_the_mark_alone(seed):
    told = study(seed)["told"]
    assert told["old"].specificity < 0.8 < told["new"].specificity
