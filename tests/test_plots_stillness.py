"""Figures of lesson 03: what moved, two tasks, barcodes, blocks; their titles are worked out from what is drawn."""

import matplotlib as mpl

mpl.use("Agg")

import pytest
import torch
from torch import nn

from course_utils import plots


def net():
    return nn.ModuleDict({"conv": nn.Conv2d(3, 2, 1), "bn": nn.BatchNorm2d(2), "fc": nn.Linear(2, 2)})


def snapshot(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def add_one(*tensors):
    with torch.no_grad():
        for tensor in tensors:
            tensor += 1


def test_nothing_moved():
    model = net()
    assert plots.stillness(snapshot(model), model).alt.startswith("No weight moved; no buffer moved. Of 9 tensors 0 moved")


def test_what_moved_is_said_and_drawn():
    model = net()
    before = snapshot(model)
    add_one(model["fc"].bias, model["bn"].running_mean)
    figure = plots.stillness(before, model)
    assert figure.get_suptitle() == "Weights moved in fc only; 1 of 3 buffers moved"
    colours = [patch.get_facecolor() for patch in figure.axes[0].patches]
    assert (len(colours), max(map(colours.count, set(colours)))) == (9, 7)
    add_one(*model["bn"].buffers(), model["conv"].weight)
    assert plots.stillness(before, model).get_suptitle() == "Weights moved in conv, fc only; all 3 buffers moved"


def test_two_tasks_compares_the_modes_at_night():
    rows = {"night, evaluation": [(0, 1, 0.1), (5, 1, 0.4)], "night, training": [(0, 1, 0.1), (5, 0.6, 0.59)]}
    figure = plots.two_tasks({"day, training": rows["night, training"], **rows})
    assert figure.get_suptitle() == "Same frozen weights: at night training mode moves the old task by -0.40, the new by +0.19"
    assert [line.get_linestyle() for line in figure.axes[0].lines] == [":", "-", "-"]
    assert figure.axes[0].get_ylim()[0] == 0
    assert "night" not in plots.two_tasks({"day, training": rows["night, training"]}).get_suptitle()
    with pytest.raises(ValueError, match="no run to draw"):
        plots.two_tasks({})


def test_barcodes_count_what_differs():
    same = torch.arange(4.0)
    figure = plots.barcodes({"evaluation mode": [same, same], "training mode": [same, same.flip(0)]})
    assert figure.get_suptitle() == (
        "One picture, asked twice: of 4 features 0% differ in evaluation mode, 100% differ in training mode"
    )


def test_a_sandwich_names_what_is_frozen():
    figure = plots.sandwich({"0": True, "2": False, "10": True}, meant="0 and 1")
    assert figure.get_suptitle() == "Meant: 0 and 1. Frozen: 0, 10"
    assert [text.get_text() for text in figure.axes[0].texts] == ["0\nfrozen", "2\nlearns", "10\nfrozen"]
    assert plots.sandwich({"0": False}, meant="0").get_suptitle().endswith("Frozen: none")
