"""Figures of lesson 07: titles follow from the data, and every picture has words."""

from __future__ import annotations

import pytest
import torch

from course_utils import Epoch, Score, plots


def epochs(*values: float) -> list[Epoch]:
    return [Epoch(number, Score(1.0, 0.5), Score(1.0, value), 10.0) for number, value in enumerate(values, 1)]


def test_phases_go_on_where_phase_one_ended():
    one, two = epochs(0.5, 0.6), {"layer4 + head": epochs(0.7, 0.9), "a friend's": [Score(1.0, 0.61), Score(1.0, 0.6)]}
    figure = plots.phases(one, two)
    assert figure.alt.startswith("Phase one ends at 0.60 of val right, phase two at 0.90 or 0.60. ")
    lines = [(list(line.get_xdata()), list(line.get_ydata())) for line in figure.axes[0].lines]
    assert ([2, 3, 4], [0.6, 0.7, 0.9]) in lines
    assert ([1, 2], [0.5, 0.6]) in lines
    with pytest.raises(ValueError, match="a phase without an epoch"):
        plots.phases([], two)


FOUND = {0.0001: 0.8, 0.001: 0.9, 0.01: 0.4, 0.1: 0.3}


@pytest.mark.parametrize(
    ("series", "title"),
    [
        ({"as trained": FOUND}, "Best at 0.001; at 0.1 phase two ends 0.20 below phase one"),
        ({"as trained": {0.1: 0.7}}, "Best at 0.1; at 0.1 phase two ends 0.20 above phase one"),
        (
            {"as trained": FOUND, "measured again": FOUND | {0.01: 0.85, 0.1: 0.7}},
            "Measured again, the statistics lift 0.30 to 0.70 at 0.1",
        ),
        (
            {"as trained": FOUND, "statistics held": {0.001: 0.9, 0.01: 0.2}},
            "With the statistics held there is a cliff: 0.20 at 0.01",
        ),
    ],
)
def test_a_hill_says_what_was_found(series, title):
    table = [{"recipe": "two phases", "lr": 0.1, "seed": 1, "val": 0.35, "again": 0.7}]
    table += [{"recipe": "head", "lr": 0.001, "seed": 1, "val": 0.45, "again": 0.45}]
    figure = plots.rate_hill(series, 0.5, table)
    assert figure.alt.startswith(f"{title}. ")
    lowest = min(map(min, series.values()))
    dots = [tuple(map(list, line.get_data())) for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert ([0.1], [0.35]) in dots
    assert any(y == [0.45] and x[0] < lowest for x, y in dots), "phase one of a seed stands left of all rates"
    with pytest.raises(ValueError, match="give accuracies by rate for some of as trained, measured again, statistics held"):
        plots.rate_hill({"another": FOUND}, 0.5)


def test_a_map_lights_the_places_where_it_answers():
    images = [torch.ones(3, 4, 4, dtype=torch.uint8) * 200] * 2
    maps = {"before": torch.tensor([[[1.0, 0.0], [0.0, 0.0]], [[0.5, 0.5], [0.5, 0.5]]]), "after": torch.zeros(2, 2, 2)}
    figure = plots.lit_maps(images, maps, ["boat", "car"], title="A map goes dark")
    assert figure.alt.startswith("A map goes dark. The same 2 pictures in 2 rows, before, after")
    first, second, dark, _ = (ax.images[0].get_array() for ax in figure.axes)
    assert first[0, 0, 0] > first[3, 3, 0]
    assert second[0, 0, 0] == second[3, 3, 0]
    assert dark.max() == first[3, 3, 0], "what is dark can still be made out"
