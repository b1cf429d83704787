"""Films of drawn things: frames of one scene resemble each other, which is what a split has to know."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Subset

from course_utils.images import InMemory, Transform
from course_utils.worlds import SIZE, find_world, picture

MARGIN = 6  # pixels, each way, by which the camera may be off


def film(name: str, scene: int, frames: int = 8, *, seed: int = 7) -> list[Image.Image]:
    """Frames of one scene: the same drawing seen by a camera that wanders by a few pixels, with fresh grain in each.

    Raises:
        ValueError: if there is no such class of `things`.
    """
    drawn = picture("things", name, seed, scene)
    rng = np.random.default_rng([seed, scene, find_world("things").classes.index(name), 1])
    path = MARGIN + np.clip(np.cumsum(rng.normal(0, 1.2, (frames, 2)), axis=0), -MARGIN, MARGIN)
    return [frame(drawn, left, top, rng) for left, top in path]


def frame(drawn: Image.Image, left: float, top: float, rng: np.random.Generator) -> Image.Image:
    """What the camera sees: a window of the drawing, as large as a picture, with grain."""
    size = SIZE - 2 * MARGIN
    window = drawn.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=(left, top, left + size, top + size))
    grain = rng.normal(0, 3, (SIZE, SIZE, 1))
    return Image.fromarray(np.clip(np.asarray(window, dtype=float) + grain, 0, 255).astype(np.uint8))


class Films(InMemory):
    """`scenes` films of each class of `things`, cut into frames; item `i` is `(transform(frame), class number)`.

    `pictures` holds the frames, `scenes` the name of the scene of each, `classes` the names of the classes.
    """

    def __init__(self, scenes: int, frames: int, transform: Transform, *, seed: int = 7):
        self.classes = find_world("things").classes
        wanted = [(label, scene) for label in range(len(self.classes)) for scene in range(scenes)]
        pictures = [one for label, scene in wanted for one in film(self.classes[label], scene, frames, seed=seed)]
        self.scenes = [f"{self.classes[label]} {scene}" for label, scene in wanted for _ in range(frames)]
        super().__init__(pictures, [label for label, _ in wanted for _ in range(frames)], transform)

    def loader(self, positions: Sequence[int] | None = None, *, shuffle: bool = False, seed: int = 0) -> DataLoader:
        """Batches of 32 of the frames at these positions, or of all."""
        chosen: Dataset = self if positions is None else Subset(self, positions)
        return DataLoader(chosen, batch_size=32, shuffle=shuffle, generator=torch.Generator().manual_seed(seed))
