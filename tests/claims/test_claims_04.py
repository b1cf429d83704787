"""Lesson 04: what a forgotten line, a forgotten normalisation and a random body do, and what kept features save."""

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

from course_utils import evaluate, fit, freeze, get_weights, load_model, pictures, replace_head
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


def body(weights: str | None) -> nn.Module:
    model = freeze(load_model("resnet18", weights=weights))
    model.fc = nn.Identity()
    return model


@cache
def features(kind: str, split: str, seed: int) -> torch.Tensor:
    """What a body says about the pictures: "pretrained", "unnormalised" or "random"."""
    images, _ = images_of(split, seed)
    images = images if kind == "unnormalised" else normalised(images)
    torch.manual_seed(seed)
    with torch.no_grad():
        return body(None if kind == "random" else "shapes")(images)


def loader(kind: str, split: str, seed: int) -> DataLoader:
    labels = images_of(split, seed)[1]
    return DataLoader(TensorDataset(features(kind, split, seed), labels), batch_size=32, shuffle=split == "train")


def train_head(seed, make_optimizer, epochs=10, kind="pretrained", **options):
    torch.manual_seed(seed)
    head = nn.Linear(512, 6)
    loaders = loader(kind, "train", seed), loader(kind, "val", seed)
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


@on_five_seeds
def test_kept_features_give_the_logits_of_the_long_way():
    for seed in SEEDS:
        torch.manual_seed(seed)
        model = replace_head(load_model("resnet18"), 6)
        with torch.no_grad():
            fresh = torch.cat([model(batch) for batch in normalised(images_of("val", seed)[0]).split(32)])
            kept = model.fc(features("pretrained", "val", seed))
        assert (fresh - kept).abs().max() < 1e-4


def test_ten_epochs_show_the_backbone_ten_times_the_pictures():
    """Counted at the first layer, not timed."""
    seen: list[int] = []
    model = replace_head(freeze(load_model("resnet18")), 6)
    model.conv1.register_forward_pre_hook(lambda layer, inputs: seen.append(len(inputs[0])))
    batches = [(torch.randn(4, 3, 16, 16), torch.randint(6, (4,))) for _ in range(3)]
    fit(model, batches, batches[:1], torch.optim.SGD(model.fc.parameters(), lr=0.001), epochs=10)
    assert sum(seen) == 10 * (12 + 4)  # train and val
    seen.clear()
    backbone = freeze(load_model("resnet18"))
    backbone.fc = nn.Identity()
    backbone.conv1.register_forward_pre_hook(lambda layer, inputs: seen.append(len(inputs[0])))
    kept = [(backbone(images), labels) for images, labels in batches]
    head = nn.Linear(512, 6)
    fit(head, kept, kept[:1], torch.optim.SGD(head.parameters(), lr=0.001), epochs=10)
    assert sum(seen) == 12


# -------------------------------------------------------------------------------------------------- the broken loops


def losses_without(line: str | None, seed: int, epochs: int = 14) -> list[float]:
    torch.manual_seed(seed)
    head, train = nn.Linear(512, 6), loader("pretrained", "train", seed)
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
        clouds = [normalised(images).flatten(1), *(features(kind, "train", seed) for kind in ("random", "pretrained"))]
        rows.append([alike(cloud, labels) for cloud in clouds])
    for pixels, random_body, pretrained in rows:
        assert max(pixels, random_body) < 0.5, rows
        assert pretrained > 0.6, rows
        assert pretrained - max(pixels, random_body) > 0.25, rows
        assert abs(random_body - pixels) < 0.15, rows
    assert abs(sum(row[1] - row[0] for row in rows)) / len(rows) < 0.06, rows
