"""Rows of nearest neighbours."""

import numpy as np
import pytest

from course_utils import plots

KNOWN = [(np.zeros((4, 4, 3), np.uint8), name) for name in ("boat", "boat", "car")]
NEW = [(np.zeros((4, 4, 3), np.uint8), name) for name in ("boat", "car")]


def test_the_title_counts_all_queries_and_some_are_drawn():
    found = {"pixels": [[2, 0], [0, 1]], "features": [[0, 1], [2, 0]]}
    figure = plots.neighbours(NEW, KNOWN, found, show=[0])
    assert figure.get_suptitle() == "Same class among the 2 nearest: pixels 25%, features 75%"
    assert len([ax for ax in figure.axes if ax.images]) == 2 * 3
    assert figure.axes[4].spines["left"].get_linewidth() > figure.axes[1].spines["left"].get_linewidth()
    assert "Beside a boat" in figure.alt


@pytest.mark.parametrize("found", [{}, {"pixels": [[0]]}, {"pixels": [[0], [1, 2]]}])
def test_what_cannot_be_drawn(found):
    with pytest.raises(ValueError, match="give each equally many"):
        plots.neighbours(NEW, KNOWN, found, show=[0])
