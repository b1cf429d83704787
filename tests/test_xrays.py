"""The drawn X-rays: a function of their seed, with ids, and a mark that goes with the ill in hospital A alone."""

from __future__ import annotations

import hashlib
from importlib.metadata import version

import numpy as np
import pytest
import torch
from torch import nn

from course_utils import occlusion_map, plots
from course_utils.experiments import screening
from course_utils.fields.xrays import PLATE, xrays
from course_utils.profiles import HOME


def test_same_seed_same_pictures_and_rows_belong_together():
    films, again = (xrays({"A": 4, "B": 2}, seed=3) for _ in range(2))
    assert np.array_equal(films.images, again.images)
    assert films.images.shape == (24, 64, 64, 3)
    assert not np.array_equal(films.images, xrays({"A": 4, "B": 2}, seed=4).images)
    assert films.patients.tolist() == [i // 4 for i in range(24)]
    assert all(len(set(films.labels[films.patients == p])) == 1 for p in films.patients)
    assert np.isnan(films.lesions[films.labels == 0]).all()
    assert not np.isnan(films.lesions[films.labels == 1]).any()


def test_the_mark_goes_with_the_ill_in_a_and_with_nobody_in_b():
    films = xrays({"A": 60, "B": 60}, seed=1)
    a, ill = films.hospitals == "A", films.labels == 1
    assert films.marked[a & ill].mean() > 0.8 > 0.2 > films.marked[a & ~ill].mean()
    assert abs(films.marked[~a & ill].mean() - films.marked[~a & ~ill].mean()) < 0.2
    corner = films.images[:, PLATE[0], PLATE[1], 0].max((1, 2))
    assert corner[films.marked].min() > 200


def test_another_hospital_is_refused():
    with pytest.raises(ValueError, match="no hospital 'C'"):
        xrays({"C": 1}, seed=0)


def test_an_occlusion_map_peaks_where_the_model_looks():
    class Corner(nn.Module):
        def forward(self, images):
            value = images[:, :, :8, -8:].mean((1, 2, 3))
            return torch.stack([-value, value], 1)

    picture = torch.zeros(3, 32, 32)
    picture[:, :8, -8:] = 1
    for fill in (None, 0.0):  # the mean of a square over the edge of the corner takes less of it
        found = occlusion_map(Corner(), picture, 1, fill=fill)
        assert found.shape == (7, 7)
        assert int(found.argmax()) in ((5, 12) if fill is None else (6,))
    assert "2 pictures" in plots.occlusions([torch.ones(3, 32, 32)] * 2, [found] * 2).alt
    with pytest.raises(ValueError, match="does not fit"):
        occlusion_map(Corner(), torch.ones(3, 32, 32), 1, patch=40)
    with pytest.raises(ValueError, match="one map for each"):
        plots.occlusions([], [])


def test_what_is_outside_the_patient_is_dark_in_the_corner():
    films = xrays({"A": 10, "B": 10}, seed=2)
    assert films.images[~films.marked][:, PLATE[0], PLATE[1]].max() < 100


PINNED = {line.split("==")[0]: line.split("==")[1] for line in (HOME / "requirements.txt").read_text().split() if "==" in line}


@pytest.mark.skipif(version("numpy") != PINNED["numpy"], reason="another numpy may round differently")
def test_drawings_are_what_they_were():
    assert hashlib.sha256(xrays({"A": 3, "B": 3}, seed=7).images.tobytes()).hexdigest()[:16] == "387b0c9bfc3b3ebd"


# ------------------------------------------------------------------------------------------------------- screening


def test_a_head_learns_and_leaves_random_numbers_alone():
    features, labels = torch.randn(60, 3, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 2
    features[:, 1] += 3.0 * labels
    state = torch.get_rng_state()
    head = screening.train_head(features, labels)
    assert (head(features).argmax(1) == labels).float().mean() > 0.9
    assert torch.equal(torch.get_rng_state(), state)


def test_a_patient_is_in_one_fold():
    patients = torch.arange(40).repeat_interleave(4)
    found = screening.folds(patients, seed=1)
    assert set(found.tolist()) == {0, 1, 2, 3}
    assert (found.view(40, 4) == found.view(40, 4)[:, :1]).all()
    assert not torch.equal(found, screening.folds(patients, seed=2))


def test_the_report_takes_its_threshold_from_val():
    scores = torch.tensor([*range(10), 5.5, 8.5, 8.4, 7.0, 9.5, 20.0])  # ten healthy of val; two ill and two healthy of test
    labels = torch.tensor([0] * 10 + [1, 1, 0, 0, 1, 0])
    test = torch.arange(16) >= 10
    told = screening.report(scores, labels, torch.arange(16), val=~test, test=test)
    assert told.sensitivity == pytest.approx(2 / 3), "8.5 and 9.5 lie above 8, the ninth of ten healthy scores"
    assert told.specificity == pytest.approx(1 / 3)
    assert told.low == 0
    assert told.high == 1


def test_the_interval_counts_patients():
    """Forty pictures of four patients say less than forty of forty."""
    hits = torch.tensor([1, 1, 1, 0]).repeat_interleave(10).bool()
    few = screening.interval(hits, torch.arange(4).repeat_interleave(10))
    many = screening.interval(hits, torch.arange(40))
    assert few[1] - few[0] > 2 * (many[1] - many[0])
    assert few[0] <= many[0] < 0.75 < many[1] <= few[1]
