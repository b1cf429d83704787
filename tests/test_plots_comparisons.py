"""Figures of comparisons: titles follow from the data, and every picture has words."""

from __future__ import annotations

import pytest
import torch

from course_utils import plots

ROWS = [
    {"configuration": name, "lr": lr, "seed": seed, "val": val + 0.01 * seed}
    for name, lr, vals in (
        ("head", 0.01, (0.5, 0.5, 0.5)),
        ("head", 0.1, (0.7, 0.7, 0.7)),
        ("all", 0.01, (0.8, 0.8, 0.8)),
        ("all", 0.1, (0.6, 0.9, 0.6)),
    )
    for seed, val in enumerate(vals)
]


def test_duels_say_who_wins_where():
    figure = plots.duels(ROWS, "head", "all")
    assert figure.alt == "head or all? The rate decides, and at 0.1 the seed. all wins 4 of 6 comparisons, head 2."
    assert [text.get_text() for text in figure.axes[0].texts] == [
        f"{name}  +{lead:.2f}" for name, lead in [("all", 0.3)] * 3 + [("head", 0.1), ("all", 0.2), ("head", 0.1)]
    ]


def test_a_duel_that_one_wins_everywhere():
    rows = [row | {"val": 0.1 if row["configuration"] == "head" else 0.2} for row in ROWS]
    assert "all wins every time" in plots.duels(rows, "head", "all").alt


@pytest.mark.parametrize(("best", "words"), [(0.01, "has its own best rate"), (0.1, "One rate is best")])
def test_hills_have_a_panel_each_and_a_ring_at_the_chosen_rate(best, words):
    figure = plots.hills(ROWS, {"head": 0.1, "all": best})
    assert words in figure.alt
    assert len(figure.axes) == 2
    assert [float(ax.lines[-1].get_xdata()[0]) for ax in figure.axes] == pytest.approx([-1, -2 if best == 0.01 else -1])


def test_intervals_count_those_that_are_clear_of_0():
    gaps = {("all", "head"): [0.1, 0.11, 0.12, 0.1, 0.11], ("layer4 + head", "all"): [0.01, -0.01, 0.0, 0.02, -0.02]}
    figure = plots.intervals(gaps)
    assert figure.alt.startswith("1 of 2 differences stay clear of 0; for the rest 5 seeds cannot tell. ")
    thin, thick, dots, *_ = figure.axes[0].lines
    assert thin.get_xdata()[0] < thick.get_xdata()[0] < min(dots.get_xdata())
    assert thin.get_color() == plots.COLOURS["all"]
    assert figure.axes[0].lines[3].get_color() not in plots.COLOURS.values()


def test_a_filmstrip_fades_what_is_weak():
    film = {0: [1.0, 0.0], 48: [2.0, 0.5]}
    images = torch.rand(2, 3, 8, 8)
    figure = plots.filmstrip(images, film, ["boat", "fish"], title="A channel becomes a boat detector")
    assert len(figure.axes) == 4
    spreads = [float(ax.images[0].get_array().std()) for ax in figure.axes]
    assert spreads[2] > spreads[0] > spreads[3] > spreads[1]
    assert figure.alt == ("A channel becomes a boat detector. 2 pictures after 0, 48 updates; a clear one excites the channel.")


def test_prices_have_a_dot_each():
    scores = {"head": [0.7, 0.71, 0.72], "all": [0.9, 0.91, 0.92]}
    figure = plots.prices({"head": 2.0, "all": 40.0}, scores, title="Head takes a twentieth of the time")
    assert "head 2 seconds for 0.71, all 40 seconds for 0.91" in figure.alt
    (ax,) = figure.axes
    assert ax.get_ylim()[0] == 0.5
    assert "from 0.5" in ax.get_ylabel()
    assert ax.get_xscale() == "log"


def test_hills_show_the_seeds_that_all_rates_have():
    extra = {"configuration": "head", "lr": 0.1, "seed": 7, "val": 0.0}
    (ax,) = plots.hills([*ROWS, extra], {"head": 0.1}).axes
    assert len(ax.lines[1].get_xdata()) == 6
    assert ax.lines[0].get_ydata()[1] == pytest.approx(0.71)
