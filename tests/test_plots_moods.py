"""Figures of faces: the votes below them, and shares by group."""

from __future__ import annotations

import numpy as np

from course_utils import plots

FACE = np.zeros((8, 8, 3), np.uint8)


def test_votes_stand_below_most_first_and_the_model_above():
    names = [["sad", "happy", "sad", "sad", "happy"], ["angry"] * 5]
    figure = plots.votes([FACE, FACE], names, ["happy", "angry"], columns=2, title="Two faces")
    assert [ax.texts[0].get_text() for ax in figure.axes] == ["3 sad\n2 happy", "5 angry"]
    assert [ax.get_title() for ax in figure.axes] == ["model: happy", "model: angry"]
    assert figure.axes[0].title.get_color() == plots.COLOURS["wrong"]
    assert figure.axes[1].title.get_color() == plots.COLOURS["right"]
    assert figure.alt == "Two faces. 2 faces with five votes each; on 1 of them all five agree."


def test_group_shares_have_a_row_for_each_group_and_run():
    people = {"no beard": [0.8, 0.9], "beard": [0.7, 0.8]}
    one = {"no beard": [0.7, 0.8, 0.9], "beard": [0.4, 0.5]}
    figure = plots.group_shares({"": one}, people, title="Two groups")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["no beard (3 subjects)", "beard (2 subjects)"]
    assert figure.alt == "Two groups. no beard: 0.80; beard: 0.45. Annotators: no beard 0.85; beard 0.75."
    two = plots.group_shares({"before": one, "after": one}, people)
    assert [label.get_text() for label in two.axes[0].get_yticklabels()][1] == "no beard (3 subjects)\nafter"
