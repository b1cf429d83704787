"""The recipe that made the weights, in miniature: a few pictures, one epoch, in a folder of the test."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from torch import nn
from torchvision import models

from course_utils.tools import pretrain as recipe_module
from course_utils.tools.pretrain import RECIPES, Recipe, card_text, fold_batch_norm, pretrain, source_pictures, varied
from course_utils.weights import ShapesWeights

MINIATURE = Recipe(stages=((32, 1),), max_lr=0.01, train_per_class=2, test_per_class=1, batch_size=16)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Both networks, made by the miniature recipe."""
    folder = tmp_path_factory.mktemp("weights")
    return folder, {name: pretrain(name, bf16=False, recipe=MINIATURE, folder=folder) for name in RECIPES}


@pytest.mark.parametrize("name", RECIPES)
def test_the_file_is_what_the_card_says(made, name):
    folder, cards = made
    card = json.loads((folder / "cards.json").read_text())[name]
    assert card == json.loads(json.dumps(cards[name]))
    weights = ShapesWeights(name, folder / card["file"], card["sha256"], card)
    state = weights.get_state_dict()
    assert (folder / card["file"]).stat().st_size == card["bytes"]
    assert set(state) == set(wanted(name))
    assert card["recipe"]["stages"] == [[32, 1]]


def wanted(name: str) -> list[str]:
    names = models.get_model(name, num_classes=24).state_dict()
    return [one for one in names if name == "resnet18" or one.startswith("features.")]


def test_the_model_card_is_written_beside(made):
    folder, _ = made
    assert (folder / "README.md").read_text() == card_text(json.loads((folder / "cards.json").read_text()))
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "cards.json",
        "resnet18-shapes.safetensors",
        "vgg16-shapes.safetensors",
    ]


def test_the_same_seed_makes_the_same_file(made, tmp_path):
    _, cards = made
    again = pretrain("resnet18", bf16=False, recipe=MINIATURE, folder=tmp_path)
    assert again["sha256"] == cards["resnet18"]["sha256"]
    assert again["accuracy"] == cards["resnet18"]["accuracy"]


def test_folding_batch_norm_changes_no_output():
    """With statistics as training leaves them: each channel with a mean, a deviation, a scale and a shift of its own."""
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 5, 3), nn.BatchNorm2d(5)
    ).double()
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d):
            for value, low, high in (
                (layer.running_mean, -2, 2),
                (layer.running_var, 0.1, 4),
                (layer.weight, -2, 2),
                (layer.bias, -1, 1),
            ):
                nn.init.uniform_(value, low, high)
    before = {name: value.clone() for name, value in layers.state_dict().items()}
    folded = fold_batch_norm(layers)
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    torch.testing.assert_close(folded(images), layers.eval()(images), rtol=1e-12, atol=1e-12)
    assert [type(layer).__name__ for layer in folded] == ["Conv2d", "ReLU", "MaxPool2d", "Conv2d"]
    assert all(torch.equal(value, before[name]) for name, value in layers.state_dict().items()), "the original is as it was"


def test_pictures_for_training():
    images, labels = source_pictures(1, seed=1)
    assert (images.shape, images.dtype) == ((24, 3, 64, 64), torch.uint8)
    assert labels.tolist() == list(range(24))


def test_variations_move_pixels_and_lose_none():
    images = torch.arange(2 * 3 * 4 * 4).view(2, 3, 4, 4)
    seen = set()
    for _ in range(60):
        other = varied(images)
        assert torch.equal(other.flatten(1).sort(1).values, images.flatten(1))
        seen.add(tuple(other.flatten().tolist()))
    assert len(seen) > 20


def test_held_out_pictures_are_others():
    train, test = (source_pictures(2, seed)[0].flatten(1) for seed in (1_000, 2_000))
    assert not {tuple(image.tolist()) for image in train} & {tuple(image.tolist()) for image in test}


def run_as_command(monkeypatch, *arguments: str) -> list[str]:
    made: list[str] = []
    monkeypatch.setattr(recipe_module, "pretrain", lambda name, **options: made.append(name))
    monkeypatch.setattr(recipe_module, "write_card", lambda: made.append("card"))
    monkeypatch.setattr(sys, "argv", ["pretrain", *arguments])
    recipe_module.main()
    return made


def test_the_command(monkeypatch, capsys):
    assert run_as_command(monkeypatch) == ["resnet18", "vgg16", "card"]
    assert run_as_command(monkeypatch, "vgg16", "--bf16") == ["vgg16", "card"]
    assert run_as_command(monkeypatch, "--card") == ["card"]
    with pytest.raises(SystemExit):
        run_as_command(monkeypatch, "vgg11")
    assert "there are recipes for resnet18, vgg16, not for vgg11" in capsys.readouterr().err
