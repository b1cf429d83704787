"""Lesson 04: what training gives, what a missing line, a wrong recipe and near-copies in val do, what a drawing tells."""

from __future__ import annotations

import copy
import math
import random
import shutil
from functools import cache
from itertools import groupby, pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.datasets import ImageFolder

from course_utils import get_weights, load_model, open_data, pictures, replace_head, settings
from course_utils.drawing import draw, polygon
from course_utils.experiments.filming import Films
from course_utils.profiles import HOME

SEEDS = range(5)
on_five_seeds = pytest.mark.claim
WEIGHTS = get_weights("resnet18", "shapes")
RECIPE = WEIGHTS.transforms()
Set = tuple[Tensor, Tensor]


# ---------------------------------------------------------------------------------------------------- exact, no seeds


def test_a_hidden_folder_becomes_class_0_and_open_data_skips_it(tmp_path):
    root = tmp_path / "tiny"
    shutil.copytree(HOME / "data" / "tiny", root)
    (root / "val" / ".ipynb_checkpoints").mkdir()
    shutil.copy(root / "val" / "boat" / "boat-00.png", root / "val" / ".ipynb_checkpoints")
    assert ImageFolder(root / "val").class_to_idx["boat"] == 1
    run = settings(data=str(root))
    assert open_data(run).classes[0] == "boat"
    shutil.rmtree(root / "val" / "boat")
    with pytest.raises(ValueError, match="boat"):
        open_data(run)


# ------------------------------------------------------------------------------------------------- pictures of a seed

SPLITS = {"train": (20, 100), "val": (15, 110)}  # pictures of each class, as in data/tiny; first seed


@cache
def backbone() -> nn.Module:
    model = load_model("resnet18")
    model.fc = nn.Identity()
    return model


def features(images: Tensor) -> Tensor:
    """What the frozen backbone gives, in evaluation mode the same in every epoch: a head on it trains as in the lesson."""
    with torch.no_grad():
        return torch.cat([backbone()(part) for part in images.split(64)])


@cache
def pixels(split: str, seed: int) -> Set:
    per_class, first = SPLITS[split]
    images, labels = pictures("things", per_class, first + seed)
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255, torch.from_numpy(labels)


@cache
def data(split: str, seed: int, normalised: bool = True) -> Set:
    images, labels = pixels(split, seed)
    mean, std = (torch.tensor(WEIGHTS.meta[name]).view(3, 1, 1) for name in ("mean", "std"))
    return features((images - mean) / std if normalised else images), labels


def accuracy(head: nn.Module, known: Set) -> float:
    return (head(known[0]).argmax(1) == known[1]).float().mean().item()


def train_head(seed: int, make_optimizer: Any, train: Set, val: Set, *, epochs: int = 10, without: str = "", **options: Any):
    """The losses of training, the accuracies on val, the best head by val and the last one."""
    torch.manual_seed(seed)
    head, (images, labels) = nn.Linear(512, 6), train
    optimizer = make_optimizer(head.parameters(), **options)
    losses, accuracies, best = [], [accuracy(head, val)], head
    for _ in range(epochs):
        total = 0.0
        for batch in torch.randperm(len(labels)).split(32):
            loss = F.cross_entropy(head(images[batch]), labels[batch])
            for name, call in {"clear": optimizer.zero_grad, "backward": loss.backward, "step": optimizer.step}.items():
                if name != without:
                    call()
            total += loss.item() * len(batch)
        losses.append(total / len(labels))
        if accuracy(head, val) > max(accuracies):
            best = copy.deepcopy(head)
        accuracies.append(accuracy(head, val))
    return losses, accuracies, best, head


@cache
def run(seed: int, optimizer: Any, rate: float, normalised: bool = True):
    options = {"momentum": 0.9} if optimizer is torch.optim.SGD else {}
    return train_head(seed, optimizer, data("train", seed, normalised), data("val", seed, normalised), lr=rate, **options)


# ------------------------------------------------------------------------------------------- the result, the smoke test


@on_five_seeds
def test_ten_epochs_lead_from_guessing_to_most_of_the_pictures():
    for seed in SEEDS:
        _, accuracies, _, _ = run(seed, torch.optim.Adam, 0.001)
        assert accuracies[0] < 0.4, seed
        assert accuracies[-1] > 0.5, seed


@on_five_seeds
def test_a_smoke_test_begins_near_ln_3_and_learns_noise():
    for seed in SEEDS:
        torch.manual_seed(seed)
        model = replace_head(load_model("resnet18").requires_grad_(False), 3)
        noise, labels = torch.randn(5, 3, 64, 64), torch.randint(3, (5,))
        before = F.cross_entropy(model(noise), labels)
        before.backward()
        torch.optim.SGD(model.fc.parameters(), lr=0.001).step()
        assert abs(before.item() - math.log(3)) < 0.3
        assert F.cross_entropy(model(noise), labels) < before


@on_five_seeds
def test_normalised_numbers_lie_around_0_and_others_around_0_4():
    for seed in SEEDS:
        images, _ = pixels("val", seed)
        mean, std = (torch.tensor(WEIGHTS.meta[name]).view(3, 1, 1) for name in ("mean", "std"))
        assert abs(images.mean() - 0.4) < 0.05
        assert 0.15 < images.std() < 0.35
        assert abs(((images - mean) / std).mean()) < 0.2
        assert 0.8 < ((images - mean) / std).std() < 1.25


# -------------------------------------------------------------------------------------------------- the broken loops


@on_five_seeds
@pytest.mark.parametrize("line", ["backward", "step"])
def test_without_backward_or_step_the_loss_stands_still(line):
    for seed in SEEDS:
        known = data("train", seed)
        losses, *_ = train_head(seed, torch.optim.SGD, known, known, epochs=3, without=line, lr=0.001, momentum=0.9)
        assert max(losses) - min(losses) < 1e-5, seed


@on_five_seeds
def test_without_clear_it_looks_better_for_seven_epochs_then_swings_twice_and_leaves_the_picture():
    for seed in SEEDS:
        complete, *_ = run(seed, torch.optim.SGD, 0.001)
        known = data("train", seed)
        piled, *_ = train_head(seed, torch.optim.SGD, known, known, epochs=14, without="clear", lr=0.001, momentum=0.9)
        assert all(a < b for a, b in zip(piled[1:7], complete[1:7], strict=True)), (seed, piled, complete)
        assert max(piled) > 3, (seed, piled)
        falls = [b < a for a, b in pairwise(piled)]
        assert [way for way, _ in groupby(falls)][:4] == [True, False, True, False], (seed, piled)
        assert all(b < a for a, b in pairwise(complete)), seed


@on_five_seeds
def test_the_loop_that_somebody_sent_shows_a_tiny_loss_that_trembles():
    for seed in SEEDS:
        (images, labels), _ = pixels("train", seed), torch.manual_seed(seed)
        mean, std = (torch.tensor(WEIGHTS.meta[name]).view(3, 1, 1) for name in ("mean", "std"))
        images, model = (images - mean) / std, replace_head(load_model("resnet18"), 6).train()
        with torch.no_grad():  # its head never moves
            epochs = [torch.randperm(len(labels)).split(32) for _ in range(2)]
            losses = [sum(F.cross_entropy(model(images[b]), labels[b]).item() for b in epoch) / len(labels) for epoch in epochs]
        assert all(0.05 < loss < 0.08 for loss in losses), losses
        assert 0 < abs(losses[0] - losses[1]) < 0.01, losses


# ------------------------------------------------------------------------------------------------------ the recipes


@on_five_seeds
def test_ten_times_the_rate_wins_and_not_normalised_costs_more_than_it_gains():
    gains, costs = [], []
    for seed in SEEDS:
        slow, fast, raw = (
            run(seed, torch.optim.Adam, rate, normalised)[1]
            for rate, normalised in ((0.001, True), (0.01, True), (0.001, False))
        )
        losses = run(seed, torch.optim.Adam, 0.001, False)[0]
        assert losses[-1] < losses[0], "and its loss fell too"
        assert max(fast) > max(slow), seed
        gains.append(max(fast) - max(slow))
        costs.append(max(slow) - max(raw))
    assert all(cost > gain for cost, gain in zip(costs, gains, strict=True)), (costs, gains)
    assert min(costs) > 0.1, costs
    assert all(1 <= round(90 * gain) <= 11 for gain in gains), gains  # on 15 sets: 1 to 12


# --------------------------------------------------------------------------------------------------- the near-copies


@on_five_seeds
def test_frames_of_known_scenes_flatter():
    high = []
    for seed in SEEDS:
        filmed, new = Films(5, 8, RECIPE, seed=20 + seed), Films(15, 1, RECIPE, seed=30 + seed)
        (images, labels), fresh = (
            (features(torch.stack([films[i][0] for i in range(len(films))])), torch.tensor(films.labels))
            for films in (filmed, new)
        )
        order = random.Random(seed).sample(range(240), 240)
        train, val = order[48:], order[:48]
        assert {filmed.scenes[i] for i in val} <= {filmed.scenes[i] for i in train}, "each has a sister"
        parts = [(images[part], labels[part]) for part in (train, val)]
        _, accuracies, _, head = train_head(seed, torch.optim.Adam, *parts, lr=0.01)
        high.append(accuracies[-1] - accuracy(head, fresh))
    assert min(high) > 0.2, high


# ------------------------------------------------------------------------------------------------------- the drawing


@on_five_seeds
def test_the_sail_alone_is_nearly_always_a_tree_and_the_hull_alone_mostly_a_boat():
    sets = (*SEEDS, *range(10, 15))
    mast = polygon("white", (30, 8), (32, 8), (32, 40), (30, 40))
    sail = polygon("khaki", (34, 8), (34, 38), (54, 38))
    hull = polygon("tomato", (8, 40), (57, 40), (47, 54), (18, 54))
    parts = [{"mast": mast, "sail": sail, "hull": hull}, {"sail": sail}, {"hull": hull}]
    drawn = features(torch.stack([RECIPE(draw(some, background="midnightblue")) for some in parts]))
    said = [run(seed, torch.optim.Adam, 0.01)[2](drawn).argmax(1).tolist() for seed in sets]
    assert all(run(seed, torch.optim.Adam, 0.001)[3](drawn)[1].argmax() == 5 for seed in sets), "with the slower Adam"
    whole, sails, hulls = zip(*said, strict=True)
    assert whole == (0,) * 10, "a boat"
    assert sails.count(5) == 9, "a tree"
    assert hulls.count(0) == 6, hulls
