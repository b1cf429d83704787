"""Lesson 04: what a forgotten line, a forgotten normalisation and a random backbone do; what running one once saves."""

from __future__ import annotations

import math
import shutil
from functools import cache
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchvision.datasets import ImageFolder

from course_utils import evaluate, fit, freeze, get_weights, load_model, pictures, precompute, replace_head, split_frozen
from course_utils.profiles import HOME

SEEDS = range(5)
on_five_seeds = pytest.mark.claim
WEIGHTS = get_weights("resnet18", "shapes")


# ---------------------------------------------------------------------------------------------------- exact, no seeds


def test_a_hidden_folder_becomes_class_0_and_an_empty_one_an_error(tmp_path):
    root = tmp_path / "val"
    shutil.copytree(HOME / "data" / "tiny" / "val", root)
    (root / ".ipynb_checkpoints").mkdir()
    with pytest.raises(FileNotFoundError, match="ipynb_checkpoints"):
        ImageFolder(root)
    shutil.copy(root / "boat" / "boat-00.png", root / ".ipynb_checkpoints")
    assert ImageFolder(root).class_to_idx["boat"] == 1


def test_a_missing_folder_shifts_every_number(tmp_path):
    whole = ImageFolder(HOME / "data" / "tiny" / "val")
    shutil.copytree(whole.root, tmp_path / "val", ignore=shutil.ignore_patterns("boat"))
    numbers = ImageFolder(tmp_path / "val").class_to_idx
    assert numbers == {name: number - 1 for name, number in whole.class_to_idx.items() if name != "boat"}


def test_by_luck_one_run_in_22_gets_four_of_five():
    chance = sum(math.comb(5, hits) * 2 ** (5 - hits) for hits in (4, 5)) / 3**5
    assert round(1 / chance) == 22


# ------------------------------------------------------------------------------------------------- pictures of a seed


@cache
def images_of(split: str, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures of a seed as numbers from 0 to 1, as many as in data/tiny, and their labels."""
    per_class, offset = {"train": (20, 0), "val": (15, 1)}[split]
    images, labels = pictures("things", per_class, 100 + 2 * seed + offset)
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255, torch.from_numpy(labels)


def normalised(images: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(WEIGHTS.meta[name]).view(3, 1, 1) for name in ("mean", "std"))
    return (images - mean) / std


def loader_of(images: torch.Tensor, labels: torch.Tensor) -> DataLoader:
    return DataLoader(TensorDataset(images, labels), batch_size=32, shuffle=True, generator=torch.Generator())


def network(weights: str | None = "shapes") -> nn.Module:
    return replace_head(freeze(load_model("resnet18", weights=weights)), 6)


@cache
def features(kind: str, split: str, seed: int) -> DataLoader:
    """What a backbone gives for the pictures, with their labels: "pretrained", "unnormalised" or "random"."""
    images, labels = images_of(split, seed)
    images = images if kind == "unnormalised" else normalised(images)
    torch.manual_seed(seed)
    frozen, _ = split_frozen(network(None if kind == "random" else "shapes"))
    return precompute(frozen, loader_of(images, labels), cache=None)


def start(seed: int, *loaders: DataLoader) -> None:
    for generator in (torch.default_generator, *(loader.generator for loader in loaders)):
        generator.manual_seed(seed)


def train_head(seed, make_optimizer, epochs=10, kind="pretrained", **options):
    loaders = features(kind, "train", seed), features(kind, "val", seed)
    start(seed, *loaders)
    head = nn.Linear(512, 6)
    return fit(head, *loaders, make_optimizer(head.parameters(), **options), epochs=epochs)


# --------------------------------------------------------------------------------------------------- the smoke test


@on_five_seeds
def test_a_smoke_test_begins_near_ln_3_and_learns_noise():
    for seed in SEEDS:
        torch.manual_seed(seed)
        model = replace_head(freeze(load_model("resnet18")), 3)
        noise, labels = torch.randn(5, 3, 64, 64), torch.randint(3, (5,))
        optimizer = torch.optim.SGD(model.fc.parameters(), lr=0.001)
        before = F.cross_entropy(model(noise), labels)
        before.backward()
        optimizer.step()
        assert abs(before.item() - math.log(3)) < 0.3
        assert F.cross_entropy(model(noise), labels) < before


# ---------------------------------------------------------------------------------------------------- kept features


def classical(model: nn.Module, seed: int, train: DataLoader, val: DataLoader, epochs: int):
    start(seed, train)
    model.fc.reset_parameters()
    return fit(model, train, val, torch.optim.SGD(model.fc.parameters(), lr=0.001, momentum=0.9), epochs=epochs)


@on_five_seeds
def test_features_give_the_losses_of_the_pictures_epoch_by_epoch():
    for seed in SEEDS:
        train, val = (loader_of(normalised(images_of(split, seed)[0]), images_of(split, seed)[1]) for split in ("train", "val"))
        model = network()
        learning = split_frozen(model).learning
        on_pictures = classical(model, seed, train, val, epochs=3)
        on_features = classical(learning, seed, *(features("pretrained", split, seed) for split in ("train", "val")), epochs=3)
        for long, short in zip(on_pictures, on_features, strict=True):
            assert long.train.loss == pytest.approx(short.train.loss, abs=1e-5), seed
            assert long.val.loss == pytest.approx(short.val.loss, abs=1e-5), seed


def test_ten_epochs_show_the_backbone_every_picture_ten_times_or_once():
    """Counted at the first layer, not timed."""
    model, seen = network(), []
    train, val = (loader_of(torch.randn(count, 3, 16, 16), torch.randint(6, (count,))) for count in (40, 10))
    frozen, learning = split_frozen(model)
    model.conv1.register_forward_pre_hook(lambda layer, images: seen.append(len(images[0])))
    classical(model, 0, train, val, epochs=10)
    assert sum(seen) == 10 * (40 + 10)
    seen.clear()
    classical(learning, 0, precompute(frozen, train, cache=None), precompute(frozen, val, cache=None), epochs=10)
    assert 40 + 10 <= sum(seen) <= 40 + 10 + 40, "once, and a few by themselves, to see whether they give the same"


def test_the_halves_hold_the_layers_of_the_model_and_512_numbers_cross_the_cut():
    model = network()
    frozen, learning = split_frozen(model)
    assert learning.fc is model.fc
    assert [name for name, _ in learning.named_children()] == ["fc"]
    assert frozen.layer4 is model.layer4
    assert frozen(torch.randn(1, 3, 64, 64)).shape == (1, 512)


def test_when_parts_of_the_backbone_learn_the_old_features_raise_and_the_cut_moves_towards_the_pictures():
    model = network()
    frozen, _ = split_frozen(model)
    train = loader_of(torch.randn(4, 3, 64, 64), torch.arange(4))
    kept = precompute(frozen, train, cache=None)
    model.layer4.requires_grad_(True)
    with pytest.raises(ValueError, match="out of date"):
        next(iter(kept))
    frozen, learning = split_frozen(model)
    assert frozen(torch.randn(1, 3, 64, 64)).shape == (1, 256, 4, 4)
    assert [name for name, _ in learning.named_children()] == ["layer4", "avgpool", "fc"]


# -------------------------------------------------------------------------------------------------- the broken loops


def losses_without(line: str | None, seed: int, epochs: int = 14) -> list[float]:
    train = features("pretrained", "train", seed)
    start(seed, train)
    head = nn.Linear(512, 6)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.001, momentum=0.9)
    losses = [evaluate(head, train).loss]
    for _ in range(epochs):
        for images, labels in train:
            loss = F.cross_entropy(head(images), labels)
            for name, call in {"clear": optimizer.zero_grad, "backward": loss.backward, "step": optimizer.step}.items():
                if name != line:
                    call()
        losses.append(evaluate(head, train).loss)
    return losses


@on_five_seeds
@pytest.mark.parametrize("line", ["backward", "step"])
def test_without_backward_or_step_the_loss_stands_still(line):
    for seed in SEEDS:
        losses = losses_without(line, seed, epochs=3)
        assert max(losses) - min(losses) < 1e-6  # other batches, other sums; the head is the same


@on_five_seeds
def test_without_clear_it_looks_better_first_and_then_overshoots():
    for seed in SEEDS:
        complete, piled = losses_without(None, seed), losses_without("clear", seed)
        assert complete[5] - piled[5] > 0.3, (seed, complete[5], piled[5])
        assert max(piled[5:]) > 2 * piled[0], (seed, piled)
        assert all(b < a for a, b in pairwise(complete)), seed


@on_five_seeds
def test_in_training_mode_a_loop_that_learns_nothing_trembles():
    for seed in SEEDS:
        images, labels = normalised(images_of("train", seed)[0]), images_of("train", seed)[1]
        torch.manual_seed(seed)
        model = replace_head(load_model("resnet18"), 6).train()
        losses = []
        with torch.no_grad():
            for _ in range(3):
                batches = torch.randperm(len(labels)).split(32)
                losses.append(sum(F.cross_entropy(model(images[b]), labels[b]).item() * len(b) for b in batches) / len(labels))
        assert 1e-3 < max(losses) - min(losses) < 0.1, losses


# ------------------------------------------------------------------------------------------------------ the recipes


@on_five_seeds
def test_adam_is_ahead_after_ten_epochs_and_neither_is_done():
    for seed in SEEDS:
        sgd = train_head(seed, torch.optim.SGD, lr=0.001, momentum=0.9)
        adam = train_head(seed, torch.optim.Adam, lr=0.001)
        assert sgd[-1].train.loss - adam[-1].train.loss > 0.25, seed
        assert sgd[-1].val.loss - adam[-1].val.loss > 0.2, seed
        for history in (sgd, adam):
            assert history[-2].train.loss - history[-1].train.loss > 0.01, seed
            assert history[-2].val.loss - history[-1].val.loss > 0.01, seed
        assert adam[0].train.loss - adam[0].val.loss > 0.03, seed  # val is measured later in the epoch


def best_val(kind: str, seed: int) -> float:
    return max(train_head(seed, torch.optim.Adam, kind=kind, lr=rate)[-1].val.accuracy for rate in (0.001, 0.01, 0.1))


@on_five_seeds
def test_without_normalisation_accuracy_is_lost_at_each_ones_best_rate():
    lost = [best_val("pretrained", seed) - best_val("unnormalised", seed) for seed in SEEDS]
    assert min(lost) >= 0.1, lost
    assert sum(lost) / len(lost) >= 0.2, lost


@on_five_seeds
def test_train_ends_near_1_and_val_stays_behind():
    for seed in SEEDS:
        history = train_head(seed, torch.optim.Adam, epochs=40, lr=0.01)
        early, late = (sum(epoch.val.accuracy for epoch in part) / 10 for part in (history[10:20], history[30:40]))
        assert late - early < 0.08, (seed, early, late)
        assert history[-1].train.accuracy > 0.95, seed
        assert history[-1].train.accuracy - history[-1].val.accuracy > 0.08, seed


# --------------------------------------------------------------------------------------------------------- the maps


def alike(cloud: torch.Tensor, labels: torch.Tensor) -> float:
    nearest = torch.cdist(cloud, cloud).fill_diagonal_(torch.inf).argmin(1)
    return (labels[nearest] == labels).float().mean().item()


@on_five_seeds
def test_neighbours_are_alike_only_in_the_pretrained_body():
    rows = []
    for seed in SEEDS:
        images, labels = images_of("train", seed)
        kept = [features(kind, "train", seed).dataset for kind in ("random", "pretrained")]
        clouds = [normalised(images).flatten(1), *(one.parts[0] for one in kept)]
        rows.append([alike(cloud, labels) for cloud in clouds])
    for pixels, random_body, pretrained in rows:
        assert max(pixels, random_body) < 0.5, rows
        assert pretrained > 0.6, rows
        assert pretrained - max(pixels, random_body) > 0.25, rows
        assert abs(random_body - pixels) < 0.15, rows
    assert abs(sum(row[1] - row[0] for row in rows)) / len(rows) < 0.06, rows
