"""The picture at the top of the README: what the network knows, and what it is asked to learn.

python -m course_utils.tools.poster        draws it anew, into docs/two-worlds.png
"""

from __future__ import annotations

from base64 import b64decode

from matplotlib.figure import Figure

from course_utils.files import write_atomic
from course_utils.plots.style import Described, subplots
from course_utils.profiles import HOME
from course_utils.worlds import WORLDS, picture

PATH = HOME / "docs" / "two-worlds.png"
SHAPES = ("solid star", "striped ring", "dotted cross", "striped triangle", "dotted star", "solid crescent")
TEST = 2  # the seed of the test pictures of data/tiny


def poster() -> Figure:
    """Two rows of six pictures, the same ones that lesson 00 shows."""
    rows = {
        "It knows": [(name, picture("shapes", name, seed=0)) for name in SHAPES],
        "It must learn": [(name, picture("things", name, TEST)) for name in WORLDS["things"].classes],
    }
    figure, grid = subplots(2, 6, size=(7, 2.9))
    for line, (label, shown) in zip(grid, rows.items(), strict=True):
        for ax, (name, image) in zip(line, shown, strict=True):
            ax.imshow(image, interpolation="nearest")
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            ax.set_title(name, fontsize=8, pad=3)
        line[0].set_ylabel(label, fontsize=10)
    return figure


def png_of(figure: Figure) -> bytes:
    """The picture just as a notebook would show it."""
    assert isinstance(figure, Described)
    data, _ = figure._repr_mimebundle_()
    return b64decode(data["image/png"])


if __name__ == "__main__":
    write_atomic(PATH, png_of(poster()))
