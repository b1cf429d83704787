"""Layers that were trained, and layers that were not."""

import pytest

from course_utils import plots


def test_a_bias_of_exactly_zero_gives_a_layer_away():
    figure = plots.trained_layers({"conv": 1000, "linear": 3_000_000}, {"conv": 0.5, "linear": 0.0})
    assert figure.get_suptitle() == "1 of 2 layers were never trained; they hold 100% of all values"
    assert [text.get_text() for text in figure.axes[1].texts] == ["0.50", "exactly 0"]
    assert [text.get_text() for text in figure.axes[0].texts] == ["1 k", "3.0 M"]
    assert "linear have a bias of exactly zero" in figure.alt


@pytest.mark.parametrize(("values", "bias"), [({}, {}), ({"a": 1}, {"b": 0.0})])
def test_what_cannot_be_drawn(values, bias):
    with pytest.raises(ValueError, match="for the same layers"):
        plots.trained_layers(values, bias)
