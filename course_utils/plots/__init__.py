"""Figures: each takes plain records and returns a matplotlib Figure; the same thing has the same colour in all lessons."""

from course_utils.plots.charts import (
    bars,
    cut_bars,
    dots,
    learning_curve,
    lines,
    opposite_bars,
    phases,
    runs,
    stamp,
)
from course_utils.plots.confusion import confusion_grid
from course_utils.plots.networks import networks, tensor_sizes
from course_utils.plots.pictures import answers, maps, show_images
from course_utils.plots.style import COLOURS, OTHERS, as_picture, axes, colour_of, described, label_ends, subplots

__all__ = [
    "COLOURS",
    "OTHERS",
    "answers",
    "as_picture",
    "axes",
    "bars",
    "colour_of",
    "confusion_grid",
    "cut_bars",
    "described",
    "dots",
    "label_ends",
    "learning_curve",
    "lines",
    "maps",
    "networks",
    "opposite_bars",
    "phases",
    "runs",
    "show_images",
    "stamp",
    "subplots",
    "tensor_sizes",
]
