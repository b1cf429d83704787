"""Channels: what they answer, and the one that answers to a class."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import nn

from course_utils.experiments.channels import all_of, channels, detector


class Labelled(list):
    labels = (1, 0)


def test_all_pictures_of_a_loader():
    images, labels = all_of(SimpleNamespace(dataset=Labelled([(torch.zeros(3, 2, 2), 1), (torch.ones(3, 2, 2), 0)])))
    assert images.mean((1, 2, 3)).tolist() == [0, 1]
    assert labels.tolist() == [1, 0]


def test_channels_are_those_before_the_head_and_the_model_stays_as_it_was():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Linear(4, 2)).train()
    found = channels(model, torch.rand(5, 3, 2, 2))
    assert found.shape == (5, 4)
    assert model.training
    assert int(model[1].num_batches_tracked) == 0


def test_the_detector_is_ahead_of_every_other_class():
    answers = torch.tensor([[1.0, 3.0, 9.0], [0.0, 1.0, 8.9], [0.9, 0.0, 1.0]])
    assert detector(answers, torch.tensor([0, 1, 2]), 0) == 1
