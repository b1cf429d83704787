"""Figures of learning rates: titles are computed."""

from __future__ import annotations

import io

import pytest

from course_utils import plots
from course_utils.range_test import RangeTest, smooth

RATES = [1e-5 * 10 ** (i / 4) for i in range(20)]
LOSSES = [2.0] * 5 + [1.5, 1.0, 0.5, 0.3, 0.2, 0.2, 0.2, 0.3, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0]


def made(count: int) -> RangeTest:
    return RangeTest(RATES[:count], LOSSES[:count], smooth(LOSSES[:count]))


def test_a_range_test_that_blew_up():
    figure = plots.range_test(made(20), chosen=1e-3)
    figure.savefig(io.BytesIO(), format="png")
    (ax,) = figure.axes
    assert ax.get_title(loc="left") == "The loss is lowest at 0.0032 and has blown up at 0.56"
    assert {text.get_text() for text in ax.texts} == {"lowest", "chosen 0.001"}
    assert figure.alt.endswith("The smoothed loss begins at 2.00 and falls to 0.20; 0.001 is chosen.")
    assert ax.get_ylim()[1] == 3.0


def test_one_that_did_not():
    (ax,) = plots.range_test(made(12)).axes
    assert ax.get_title(loc="left") == "The loss is lowest at 0.0056"
    assert [text.get_text() for text in ax.texts] == ["lowest"]


def test_what_cannot_be_drawn():
    with pytest.raises(ValueError, match="holds no loss; run lr_range_test first"):
        plots.range_test(made(0))
    for rate in (1e-6, 1.0):
        with pytest.raises(ValueError, match=r"chosen=1.* was not tried: the test went from 1\.0e-05 to 5\.6e-01"):
            plots.range_test(made(20), chosen=rate)
