"""Neighbours and heads on features that were kept."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from course_utils import plots
from course_utils.experiments import cached

LABELS = torch.arange(24) % 3
ROWS = torch.eye(3)[LABELS] + 0.1 * torch.randn(24, 3, generator=torch.Generator().manual_seed(0))


def test_all_pictures_in_their_own_order():
    images, labels = cached.all_of(DataLoader(TensorDataset(ROWS, LABELS), 5, shuffle=True))
    assert torch.equal(images, ROWS)
    assert torch.equal(labels, LABELS)


def test_a_stranger_has_the_same_layers_and_other_values():
    features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    before = features[0].weight.clone()
    stranger = cached.untrained(features)
    assert torch.equal(features[0].weight, before)
    assert not torch.equal(stranger[0].weight, before)
    assert not stranger[0].bias.any()


def test_neighbours_and_heads_find_what_is_there():
    assert cached.nearest([ROWS, ROWS], 2)[:, 0].tolist() == list(range(24))
    assert cached.right_by_neighbour([ROWS, ROWS + 0.01], [LABELS, LABELS]) == 1
    accuracies, rate = cached.search([ROWS, ROWS], [LABELS, LABELS])
    assert accuracies == [1.0] * 5
    assert rate in cached.RATES


def test_the_figures_say_what_they_show():
    figure = plots.cuts({"block 1": 0.2, "block 2": 0.3}, {"block 1": [0.9], "block 2": [0.5]}, guessing=1 / 3)
    assert figure.axes[0].get_title(loc="left") == "Heads are best behind block 1, not behind block 2, the last"
    assert "block 1 0.90" in figure.alt
    figure = plots.compared({"random": [0.8], "all": [0.9, 0.8]})
    assert figure.axes[0].get_title(loc="left") == "Beside all: random −0.05"
