"""The recipe that made `data/weights/`: train on `shapes`, measure on held-out `shapes`, write weights and card.

    make weights                                  both networks, from nothing (about an hour on two cores)
    python -m course_utils.tools.pretrain resnet18      one of them

The networks are torchvision's own. VGG16 hardly trains from scratch, so its batch-norm twin is trained and each batch
norm is then folded into the convolution before it; the outputs stay the same, which is asserted.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from course_utils.files import write_atomic
from course_utils.profiles import HOME
from course_utils.worlds import WORLDS, pictures

WEIGHTS = HOME / "data" / "weights"
CATEGORIES = WORLDS["shapes"].classes


@dataclass(frozen=True)
class Recipe:
    """How one network was trained. `stages` are (pixels, epochs) in order; one learning-rate cycle spans them all."""

    stages: tuple[tuple[int, int], ...]
    max_lr: float
    train_per_class: int = 800
    test_per_class: int = 100
    batch_size: int = 64
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    seed: int = 0


RECIPES = {
    "resnet18": Recipe(stages=((64, 10),), max_lr=0.08),
    "vgg16": Recipe(stages=((32, 10), (48, 3), (64, 3)), max_lr=0.05),
}


# ---------------------------------------------------------------------------------------------------------- network


def trainee(name: str) -> Any:
    """The network to train: `resnet18` itself; for `vgg16` its batch-norm features with one linear layer behind."""
    if name == "resnet18":
        return torchvision.models.resnet18(num_classes=len(CATEGORIES))
    features = torchvision.models.vgg16_bn(num_classes=1).features
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, len(CATEGORIES)))


def fold_batch_norm(features: nn.Sequential) -> nn.Sequential:
    """The same function without batch norm: each one becomes part of the convolution before it."""
    layers: list[Any] = []
    for layer in copy.deepcopy(features).eval():
        if isinstance(layer, nn.BatchNorm2d):
            layers[-1] = fuse_conv_bn_eval(layers[-1], layer)
        else:
            layers.append(layer)
    return nn.Sequential(*layers)


# ------------------------------------------------------------------------------------------------------------- data


def source_pictures(per_class: int, seed: int) -> tuple[Tensor, Tensor]:
    """Pictures of `shapes` as uint8 (N, 3, 64, 64) and their class numbers (N,)."""
    images, labels = pictures("shapes", per_class, seed)
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels)


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return (images.float() / 255 - mean) / std


def varied(images: Tensor) -> Tensor:
    """A random mirror image, quarter turn and order of the colour channels: none of them changes a class."""
    turned = torch.rot90(images, int(torch.randint(4, ())), (2, 3))
    mirrored = turned.flip(3) if torch.rand(()) < 0.5 else turned
    return mirrored[:, torch.randperm(3)]


# --------------------------------------------------------------------------------------------------------- training


def train(model: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe, mean: Tensor, std: Tensor, *, bf16: bool) -> None:
    """Train in place by SGD with one learning-rate cycle, one line of log per epoch."""
    steps = len(labels) // recipe.batch_size
    epochs = [pixels for pixels, count in recipe.stages for _ in range(count)]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.max_lr, total_steps=steps * len(epochs), pct_start=0.25)
    started = time.time()
    for epoch, pixels in enumerate(epochs):
        model.train()
        total = 0.0
        for batch in torch.randperm(len(labels))[: steps * recipe.batch_size].view(steps, -1):
            x = normalise(varied(images[batch]), mean, std)
            x = F.interpolate(x, size=pixels, mode="area").contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                logits = model(x)
            loss = F.cross_entropy(logits.float(), labels[batch], label_smoothing=recipe.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(
            f"epoch {epoch + 1}/{len(epochs)}  {pixels} px  loss {total / steps:.3f}  {time.time() - started:.0f} s", flush=True
        )


@torch.inference_mode()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor, mean: Tensor, std: Tensor) -> float:
    model.eval()
    hits = [
        (model(normalise(x, mean, std)).argmax(1) == y).sum() for x, y in zip(images.split(100), labels.split(100), strict=True)
    ]
    return float(sum(hits)) / len(labels)


# ---------------------------------------------------------------------------------------------------------- writing


def half(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.half().contiguous() if v.is_floating_point() else v.contiguous() for k, v in tensors.items()}


def shipped(name: str, model: Any) -> tuple[dict[str, Tensor], nn.Module]:
    """What goes into the file, in half precision, and a network with exactly these values, to be measured."""
    if name == "resnet18":
        tensors = half(model.state_dict())
        model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in tensors.items()})
        return tensors, model
    folded = fold_batch_norm(model[0])
    x = torch.randn(4, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(folded(x), model[0].eval()(x), rtol=1e-3, atol=1e-3)
    tensors = half(folded.state_dict())
    folded.load_state_dict({k: v.float() for k, v in tensors.items()})
    return {f"features.{k}": v for k, v in tensors.items()}, nn.Sequential(folded, *model[1:])


def pretrain(name: str, *, bf16: bool, recipe: Recipe | None = None, folder: Path = WEIGHTS) -> dict[str, Any]:
    """Train `name` by its recipe and write into `folder`: the weights, their entry in `cards.json`, and the model card."""
    recipe = recipe or RECIPES[name]
    torch.manual_seed(recipe.seed)
    images, labels = source_pictures(recipe.train_per_class, seed=1_000)
    mean, std = (images / 255).mean((0, 2, 3)).view(3, 1, 1), (images / 255).std((0, 2, 3)).view(3, 1, 1)
    mean, std = mean.mul(1000).round() / 1000, std.mul(1000).round() / 1000
    model = trainee(name).to(memory_format=torch.channels_last)
    started = time.time()
    train(model, images, labels, recipe, mean, std, bf16=bf16)
    tensors, exact = shipped(name, model)
    card: dict[str, Any] = {
        "mean": [round(v, 3) for v in mean.flatten().tolist()],
        "std": [round(v, 3) for v in std.flatten().tolist()],
        "categories": CATEGORIES,
        "accuracy": accuracy(exact, *source_pictures(recipe.test_per_class, seed=2_000), mean, std),
        "recipe": asdict(recipe),
        "minutes": round((time.time() - started) / 60, 1),
        "made_with": f"torch {torch.__version__.split('+')[0]}, {'bfloat16' if bf16 else 'float32'}, {platform.machine()}",
    }
    return publish(name, save(tensors), card, folder)


def publish(name: str, content: bytes, card: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Write the weight file, then the cards that describe it."""
    file: dict[str, Any] = {
        "file": f"{name}-shapes.safetensors",
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / file["file"], content)
    cards = folder / "cards.json"
    known = json.loads(cards.read_text(encoding="utf-8")) if cards.exists() else {}
    write_atomic(cards, (json.dumps(known | {name: card | file}, indent=1, sort_keys=True) + "\n").encode())
    write_card(folder)
    print(f"{name}: accuracy {card['accuracy']:.4f} on held-out pictures, {len(content) / 1e6:.1f} MB")
    return card | file


# ------------------------------------------------------------------------------------------------------- model card

CARD = """# Pretrained weights

Weights for torchvision's own networks, trained from nothing on pictures that `course_utils/worlds.py` draws. No photograph
and no other weights went into them. `make weights` makes them again. This page is written from `cards.json` by
`python -m course_utils.tools.pretrain --card`; change `course_utils/tools/pretrain.py`, not this page.

| network | file | size | accuracy on held-out `shapes` | training |
|---|---|---|---|---|
{rows}

SHA-256, checked whenever a file is loaded:

{hashes}

## Data
The world `shapes`: {classes} classes, eight outlines (circle, square, triangle, star, cross, ring, hexagon, crescent) in
three textures (solid, striped, dotted), 64×64 pixels. Colours, pose, size, background, clutter and noise are random.
The training pictures are drawn from seed 1000, the held-out pictures from seed 2000.

## Recipe
{recipes}

Every batch may be mirrored, turned by quarter turns, and have its colour channels in another order; none of them changes a
class. SGD with Nesterov momentum 0.9 and one cycle of the learning rate, seeded.

The accuracy is measured with the half-precision values that stand in the file. VGG16 hardly trains from scratch, so its
batch-norm twin was trained and each batch norm folded into the convolution before it; the outputs stay the same.

## What the files hold
Half-precision tensors in the safetensors format, which cannot run code. `resnet18` is complete, its `fc` has {classes}
outputs. For `vgg16` the file holds the convolutional `features` only: its accuracy was measured with one linear layer on
top, which is not shipped, and `classifier.0`, `classifier.3` and `classifier.6` start from torchvision's own initialisation
(normal, deviation 0.01, biases zero) with seed 0. Pictures are prepared by `weights.transforms()`: 64 pixels, and the mean
and deviation of the training pictures, {norms}.

## Intended use
Learning transfer learning: a network that has seen one small world is fine-tuned to another, in seconds and without a
network connection.

## Limits
The networks know simple drawings, and nothing of photographs; for those take `weights="imagenet"`. A confident answer to
any other picture means nothing. The numbers in this course hold for these weights.

## Licence
MIT, as the rest of the course.
"""


def card_text(cards: dict[str, Any]) -> str:
    """The model card, in Markdown, from the content of `cards.json`."""
    rows = [
        f"| `{name}` | `{card['file']}` | {card['bytes'] / 1e6:.1f} MB | {card['accuracy']:.1%} of "
        f"{card['recipe']['test_per_class'] * len(card['categories']):,} | {card['minutes']:.0f} minutes, {card['made_with']} |"
        for name, card in sorted(cards.items())
    ]
    one = next(iter(cards.values()))
    return CARD.format(
        rows="\n".join(rows),
        hashes="\n".join(f"- `{card['file']}`: `{card['sha256']}`" for _, card in sorted(cards.items())),
        recipes="\n".join(f"- `{name}`: {recipe_text(card)}" for name, card in sorted(cards.items())),
        classes=len(one["categories"]),
        norms=f"{one['mean']} and {one['std']}",
    )


def recipe_text(card: dict[str, Any]) -> str:
    recipe, images = card["recipe"], card["recipe"]["train_per_class"] * len(card["categories"])
    stages = ", then ".join(f"{epochs} epochs at {pixels} px" for pixels, epochs in recipe["stages"])
    return (
        f"{images:,} pictures, {stages}; batches of {recipe['batch_size']}, learning rate up to {recipe['max_lr']}, "
        f"weight decay {recipe['weight_decay']}, label smoothing {recipe['label_smoothing']}, seed {recipe['seed']}"
    )


def write_card(folder: Path = WEIGHTS) -> None:
    cards = json.loads((folder / "cards.json").read_text(encoding="utf-8"))
    write_atomic(folder / "README.md", card_text(cards).encode())


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the weights of this course on the world `shapes`.")
    parser.add_argument("names", nargs="*", help=f"which networks: {', '.join(RECIPES)} (default: all)")
    parser.add_argument("--bf16", action="store_true", help="train in bfloat16: faster on processors that have it")
    parser.add_argument("--card", action="store_true", help="train nothing, only write the model card from cards.json")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in RECIPES]
    if unknown:
        parser.error(f"there are recipes for {', '.join(RECIPES)}, not for {', '.join(unknown)}")
    for name in [] if options.card else options.names or RECIPES:
        pretrain(name, bf16=options.bf16)
    write_card()


if __name__ == "__main__":
    main()
