"""The look of all figures: colours with one meaning through the whole course, sizes, and words for those who cannot see."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageChops, ImageStat
from torch import Tensor

# Most are of Okabe and Ito's palette, which the colour-blind can tell apart; lightness differs too, for prints in grey.
COLOURS = {
    "train": "#d55e00",
    "val": "#332288",
    "test": "#8b0000",
    "head": "#e69f00",
    "layer4 + head": "#0072b2",
    "layer3–4 + head": "#56b4e9",
    "all": "#004d40",
    "scratch": "#7f7f7f",
    "random": "#a0785a",
    "pretrained": "#0072b2",
    "right": "#009e73",
    "wrong": "#aa3377",
    "still": "#dcdcdc",
    "moved": "#cc79a7",
    "training mode": "#cc79a7",
    "evaluation mode": "#333333",
    "backbone": "#b8c4d0",
    "Keras": "#7b3fa0",
    "PyTorch": "#6b8e23",
}
OTHERS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
DPI, CSS_DPI = 150, 96  # of the picture, and of the page that shows it


def colour_of(name: str, place: int = 0) -> str:
    return COLOURS.get(name, OTHERS[place % len(OTHERS)])


class Described(Figure):
    """A figure with words for those who cannot see it: its title, and `says`, one sentence on what there is to see."""

    says = ""

    @property
    def alt(self) -> str:
        titles = [self.get_suptitle(), *(ax.get_title(loc="left") for ax in self.axes)]
        title = next(filter(None, titles), "")
        return ". ".join(filter(None, (title.rstrip("."), self.says))).replace("\n", " ")

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, str], dict[str, Any]]:
        """What a notebook shows: a picture at 150 dots an inch, of 256 colours if that shows nowhere, and its words."""
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=DPI, bbox_inches="tight")
        image = Image.open(file).convert("RGB")
        few = image.quantize(256, dither=Image.Dither.NONE)
        seen = max(ImageStat.Stat(ImageChops.difference(image, few.convert("RGB"))).mean) > 1.5  # of 255 levels
        small = io.BytesIO()
        (image if seen else few).save(small, "png", optimize=True)
        png = small.getvalue()
        size = {"width": image.width * CSS_DPI // DPI, "height": image.height * CSS_DPI // DPI}
        data = {"image/png": base64.b64encode(png).decode(), "text/plain": f"<Figure: {self.alt}>"}
        return data, {"image/png": {"alt": self.alt, **size}}

    def _ipython_display_(self) -> None:
        """A notebook asks for this first; the printer that it registers for matplotlib's figures would replace the picture."""
        from IPython.display import display

        data, metadata = self._repr_mimebundle_()
        display(data, raw=True, metadata=metadata)


def described(figure: Figure, says: str) -> Figure:
    """`figure` with one sentence on what there is to see, for the alternative text behind its title."""
    figure.says = says  # type: ignore[attr-defined]
    return figure


def subplots(
    rows: int = 1, columns: int = 1, *, size: tuple[float, float], title: str = "", **options: Any
) -> tuple[Figure, Any]:
    """A closed figure of `size` inches with a grid of axes, always an array (rows, columns); `title` stands at the left."""
    options = {"squeeze": False, "layout": "constrained", **options}
    figure, grid = plt.subplots(rows, columns, figsize=size, dpi=DPI, FigureClass=Described, **options)
    plt.close(figure)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return figure, grid


def axes(*, width: float = 6, height: float = 3, title: str = "", x: str = "", y: str = "") -> tuple[Figure, Axes]:
    """A figure with one quiet pair of axes; `x` and `y` are labels with units. The figure is closed, so it shows once."""
    figure, grid = subplots(size=(width, height))
    ax = grid[0, 0]
    ax.set_title(title, loc="left", fontsize=11)
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.spines[["top", "right"]].set_visible(False)
    return figure, ax


def as_picture(image: Image.Image | Tensor | np.ndarray) -> np.ndarray:
    """A PIL picture, an array (height, width, 3), or a tensor (3, height, width); one of floats is stretched to 0 … 1."""
    if not isinstance(image, Tensor):
        return np.asarray(image)
    values = image.detach().cpu().permute(1, 2, 0)
    if values.is_floating_point():
        values = (values - values.min()) / (values.max() - values.min()).clamp(min=1e-6)
    return values.numpy()


def short_number(value: float, place: int = 0) -> str:
    """2,000,000 as "2 M", 5,000 as "5 k"."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g} {letter}"
    return f"{value:g}"


def label_ends(ax: Axes, series: Mapping[str, Sequence[float]], *, gap: float = 0.075) -> None:
    """Write each name behind the end of its line, at least `gap` of the axis apart."""
    bottom, top = ax.get_ylim()
    places = sorted((values[-1], name) for name, values in series.items())
    height = bottom
    for value, name in places:
        height = max(value, height)
        line = ax.lines[list(series).index(name)]
        end = np.asarray(line.get_xdata())[-1]
        away: dict[str, Any] = {"xytext": (6, 0), "textcoords": "offset points", "annotation_clip": False}
        ax.annotate(name, (end, height), color=line.get_color(), va="center", **away)
        height += gap * (top - bottom)
