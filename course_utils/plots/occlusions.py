"""Occlusion maps on their pictures: where a model looks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from course_utils.plots.style import as_picture, described, subplots


def occlusions(
    images: Sequence[Image.Image | Tensor | np.ndarray],
    maps: Sequence[Tensor],
    *,
    names: Sequence[str] = (),
    rings: Sequence[tuple[float, float]] = (),
    title: str = "",
    ring: str = "lesion",
) -> Figure:
    """Each picture above the same one with its occlusion map: red where hiding a place lowers the answer.

    Args:
        maps: one for each picture, as `occlusion_map` returns them.
        names: what stands above each picture.
        rings: a place (row, column) in each picture that is ringed in the upper row, such as a lesion; nan for none.

    Raises:
        ValueError: if there is no picture, or not one map for each.
    """
    if not len(images) or len(maps) != len(images):
        raise ValueError(f"{len(images)} pictures, {len(maps)} maps; give one map for each picture, and one picture at least")
    figure, grid = subplots(2, len(images), size=(7, 7 * 2 / len(images) + 0.4 + 0.2 * bool(names)), title=title)
    for place, (image, found) in enumerate(zip(images, maps, strict=True)):
        picture = as_picture(image)
        height, width = picture.shape[:2]
        for ax in grid[:, place]:
            ax.set(xticks=[], yticks=[])
            ax.imshow(picture)
        if names:
            grid[0, place].set_title(names[place], fontsize=9)
        if len(rings):
            row, column = rings[place]
            grid[0, place].plot(column, row, "o", markersize=14, markerfacecolor="none", markeredgecolor="#e69f00")
        values = found.clamp(min=0).numpy()
        extent = (-0.5, width - 0.5, height - 0.5, -0.5)
        grid[1, place].imshow(values, cmap="Reds", alpha=0.65, extent=extent, interpolation="bilinear")
    grid[0, 0].set_ylabel(f"the picture;\nring: {ring}" if len(rings) else "the picture", fontsize=8)
    grid[1, 0].set_ylabel("red: needed\nfor the answer", fontsize=8)
    return described(figure, f"{len(images)} pictures, and below each in red the places that the model needs for its answer.")
