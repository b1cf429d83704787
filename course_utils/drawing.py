"""Draw a picture of your own: coloured polygons and discs on a sheet of 64×64, with edges as smooth as the course's pictures.

    draw({"sail": polygon("white", (34, 8), (34, 42), (54, 42)), "moon": disc("gold", 50, 12, 6)})

A drawing is a dictionary of named parts. Places are (x, y): x to the right, y downwards. What comes later lies on top.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageColor, ImageDraw

from course_utils.worlds import FINE, SIZE, ellipse

Place = tuple[float, float]


class Part(NamedTuple):
    """One colour within one outline."""

    colour: str
    outline: tuple[Place, ...]


def polygon(colour: str, *corners: Place) -> Part:
    """The area between `corners`, three or more places (x, y); `colour` is a name such as "white", or "#ff8800".

    Raises:
        ValueError: for fewer corners, something else than pairs of numbers, or a colour that nobody knows.
    """
    if len(corners) < 3 or any(np.shape(corner) != (2,) for corner in corners):
        raise ValueError(f"a polygon got the corners {corners}; give three or more places, such as (8, 44), (58, 44), (30, 56)")
    return Part(known(colour), tuple((float(x), float(y)) for x, y in corners))


def known(colour: str) -> str:
    try:
        ImageColor.getrgb(colour)
    except (ValueError, TypeError, AttributeError):
        words = f"there is no colour {colour!r}; take a name such as 'red' or 'navy', or a code such as '#ff8800'"
        raise ValueError(words) from None
    return colour


def disc(colour: str, x: float, y: float, radius: float) -> Part:
    """The disc of that radius around (x, y)."""
    return polygon(colour, *ellipse(x, y, radius, radius))


def draw(parts: Mapping[str, Part], background: str = "skyblue") -> Image.Image:
    """The parts on a sheet of 64×64 pixels, each on top of those before it.

    Raises:
        TypeError: if `parts` is not a dictionary of parts.
        ValueError: if nobody knows the colour of the background.
    """
    if not isinstance(parts, Mapping) or not all(isinstance(part, Part) for part in parts.values()):
        raise TypeError('draw takes a dictionary of named parts, such as {"moon": disc("gold", 50, 12, 6)}')
    sheet = Image.new("RGB", (SIZE * FINE, SIZE * FINE), known(background))
    for part in parts.values():
        ImageDraw.Draw(sheet).polygon([tuple(np.multiply(place, FINE)) for place in part.outline], fill=part.colour)
    return sheet.reduce(FINE)


def without(parts: Mapping[str, Part], *names: str) -> dict[str, Part]:
    """The drawing with some parts left out; it must have all of them."""
    missing = [name for name in names if name not in parts]
    if missing:
        raise ValueError(f"the drawing has no part {missing[0]!r}; it has {list(parts)}")
    return {name: part for name, part in parts.items() if name not in names}


def sketches() -> tuple[dict[str, Part], dict[str, Part]]:
    """Two drawings to take apart and to change: a boat and a house."""
    boat = {
        "mast": polygon("#202020", (33, 7), (35, 7), (35, 40), (33, 40)),
        "front sail": polygon("#e8d8b0", (37, 9), (37, 37), (55, 37)),
        "back sail": polygon("#e8d8b0", (31, 15), (31, 37), (10, 37)),
        "hull": polygon("darkgreen", (5, 40), (59, 40), (47, 52), (16, 52)),
    }
    house = {
        "walls": polygon("ivory", (10, 31), (54, 31), (54, 52), (10, 52)),
        "roof": polygon("#f0c040", (7, 31), (32, 14), (57, 31)),
        "door": polygon("#8b1a1a", (28, 40), (36, 40), (36, 52), (28, 52)),
        "left window": polygon("#4a2c17", (13, 36), (20, 36), (20, 43), (13, 43)),
        "right window": polygon("#4a2c17", (44, 36), (51, 36), (51, 43), (44, 43)),
    }
    return boat, house
