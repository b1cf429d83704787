"""Figures: each takes plain records and returns a matplotlib Figure; the same thing has the same colour in all lessons."""

from course_utils.plots.charts import (
    bars,
    dots,
    learning_curve,
    lines,
    runs,
    stamp,
)
from course_utils.plots.choices import bargains, decision_map, galleries, sentences, size_curves, targets, two_questions
from course_utils.plots.comparisons import duels, filmstrip, hills, intervals, prices
from course_utils.plots.confusion import confusion_grid
from course_utils.plots.cuts import compared, cuts
from course_utils.plots.detections import scenes
from course_utils.plots.land import land_maps, maps
from course_utils.plots.layers import trained_layers
from course_utils.plots.loading import batch_sizes, map_stacks, nine_ways, strongest_patches
from course_utils.plots.moods import group_shares, votes
from course_utils.plots.nearest import neighbours
from course_utils.plots.networks import networks
from course_utils.plots.new_heads import first_losses, head_places, heads_on_pictures, old_answers
from course_utils.plots.occlusions import occlusions
from course_utils.plots.phases import lit_maps, phases, rate_hill
from course_utils.plots.pictures import answers, show_images
from course_utils.plots.rates import range_test
from course_utils.plots.stations import reported_and_real
from course_utils.plots.stillness import barcodes, sandwich, stillness, two_tasks
from course_utils.plots.style import COLOURS, OTHERS, as_picture, axes, colour_of, described, label_ends, subplots
from course_utils.plots.training import before_and_after, chosen_on_val, recipes, without_one_line
from course_utils.plots.twins import twin_curves

__all__ = [
    "COLOURS",
    "OTHERS",
    "answers",
    "as_picture",
    "axes",
    "barcodes",
    "bargains",
    "bars",
    "batch_sizes",
    "before_and_after",
    "chosen_on_val",
    "colour_of",
    "compared",
    "confusion_grid",
    "cuts",
    "decision_map",
    "described",
    "dots",
    "duels",
    "filmstrip",
    "first_losses",
    "galleries",
    "group_shares",
    "head_places",
    "heads_on_pictures",
    "hills",
    "intervals",
    "label_ends",
    "land_maps",
    "learning_curve",
    "lines",
    "lit_maps",
    "map_stacks",
    "maps",
    "neighbours",
    "networks",
    "nine_ways",
    "occlusions",
    "old_answers",
    "phases",
    "prices",
    "range_test",
    "rate_hill",
    "recipes",
    "reported_and_real",
    "runs",
    "sandwich",
    "scenes",
    "sentences",
    "show_images",
    "size_curves",
    "stamp",
    "stillness",
    "strongest_patches",
    "subplots",
    "targets",
    "trained_layers",
    "twin_curves",
    "two_questions",
    "two_tasks",
    "votes",
    "without_one_line",
]
