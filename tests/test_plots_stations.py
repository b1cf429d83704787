"""The two bars of a station."""

from __future__ import annotations

import pytest

from course_utils import plots


def test_two_bars_of_the_right_lengths_for_each_pair():
    figure = plots.reported_and_real({"medicine": (0.97, 0.6), "driving": (0.8, 0.7)})
    assert [round(bar.get_width(), 2) for bar in figure.axes[0].patches] == [0.97, 0.6, 0.8, 0.7]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["medicine", "driving"]
    assert "medicine: reported 0.97, real 0.60" in figure.axes[0].get_title(loc="left"), "the widest gap is the finding"
    assert "driving: reported 0.80, real 0.70" in figure.alt


def test_a_guess_is_a_line_and_none_draws_none():
    with_guess = plots.reported_and_real({"medicine": (0.9, 0.6)}, guess=0.7)
    assert [line.get_xdata()[0] for line in with_guess.axes[0].lines] == [0.7]
    assert not plots.reported_and_real({"medicine": (0.9, 0.6)}).axes[0].lines


def test_what_cannot_be_drawn_is_said():
    with pytest.raises(ValueError, match="run a station first"):
        plots.reported_and_real({})
    with pytest.raises(ValueError, match="one guess for 2 pairs"):
        plots.reported_and_real({"a": (1, 0), "b": (1, 0)}, guess=0.5)
