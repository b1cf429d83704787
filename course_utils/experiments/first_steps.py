"""What lesson 00 does before it explains it: a few pictures, a head in a blink, and pictures of the learner's own."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.utils.data import DataLoader

from course_utils.experiments.freezing import read_table
from course_utils.images import read_picture
from course_utils.profiles import WORK
from course_utils.worlds import SIZE, picture

OWN = WORK / "data" / "own"
EPOCHS, BATCH = 12, 10


class Whole(NamedTuple):
    """A small data set at once: pictures for people, the same prepared for a network, and class numbers."""

    pictures: list[Image.Image]
    images: Tensor
    labels: Tensor


def whole(loader: DataLoader) -> Whole:
    """All that `loader` of `open_data` reads, in the order of its files."""
    dataset: Any = loader.dataset
    pictures = [read_picture(path) for path, _ in dataset.samples]
    images = torch.stack([dataset.transform(one) for one in pictures])
    return Whole(pictures, images, torch.tensor([label for _, label in dataset.samples]))


def shapes() -> dict[str, Image.Image]:
    """Six pictures of the world in which the weights "shapes" were trained, by their names there."""
    names = ("solid star", "striped ring", "dotted cross", "striped triangle", "dotted star", "solid crescent")
    return {name: picture("shapes", name, seed=0) for name in names}


def few(labels: Tensor, per_class: int, seed: int) -> list[int]:
    """The places of `per_class` pictures of each class; another seed takes others.

    Raises:
        ValueError: if a class has fewer.
    """
    rng, chosen = random.Random(seed), []
    for label in labels.unique().tolist():
        places = (labels == label).nonzero().flatten().tolist()
        if not 1 <= per_class <= len(places):
            raise ValueError(f"per_class={per_class}: class number {label} has {len(places)} pictures")
        chosen += rng.sample(places, per_class)
    return chosen


def train(model: nn.Module, inputs: Tensor, labels: Tensor, *, rate: float, seed: int) -> None:
    """Twelve epochs in batches of ten, shuffled from `seed`; then `model` is in evaluation mode. Lesson 04 writes this loop."""
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    order = torch.Generator().manual_seed(seed)
    model.train()
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(inputs), generator=order).split(BATCH):
            loss = nn.functional.cross_entropy(model(inputs[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()


def train_head(features: Tensor, labels: Tensor, seed: int) -> nn.Linear:
    """One linear layer from features to classes, trained; its first values come from `seed` too."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = nn.Linear(features.shape[1], len(labels.unique()))
    train(head, features, labels, rate=0.03, seed=seed)
    return head


def scratch_with_twenty() -> list[float]:
    """Accuracy of networks from scratch, twenty training pictures of each class: the runs in the table of lesson 06."""
    rows = [row for row in read_table("tiny") if (row["configuration"], row["per_class"]) == ("scratch", 20)]
    return [row["test"] for row in rows if row["test"] is not None]


def own_pictures(folder: Path = OWN) -> tuple[dict[str, Image.Image], list[str]]:
    """Each picture in `folder` by its file's name, the middle square of it in 64×64 pixels; and why others cannot be read."""
    found, unread = {}, []
    files = [path for path in sorted(folder.glob("*")) if path.is_file() and path.name[0] != "." and path.suffix != ".md"]
    for path in files:
        try:
            found[path.name] = ImageOps.fit(read_picture(path), (SIZE, SIZE))
        except (ValueError, OSError) as error:
            unread.append(str(error).replace(str(folder), folder.name))
    return found, unread
