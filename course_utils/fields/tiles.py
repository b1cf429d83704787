"""Land use from above: maps drawn in four bands, cut into tiles of 64×64 pixels.

A map is one picture that a satellite took. Its tiles share what that picture had: season, soil, the sun, haze, the grain of
its woods and towns. And they share what lies on the ground: a field goes on behind the edge of a tile. So neighbours are alike.

The fourth band is near infrared, which the eye does not see: living plants throw it back, and water swallows it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from PIL import Image
from torch import Tensor

SIZE = 64  # pixels of a tile, each way
BANDS = ("red", "green", "blue", "near infrared")
SIDE = 6  # tiles of a map, each way
PARCELS = 14  # of a map; each is land of one use

Values = np.ndarray  # (height, width), or with a last dimension that runs over the bands; 0 dark … 1 bright


class Tiles(NamedTuple):
    """Tiles with their land use and their place."""

    images: Tensor  # uint8, (n, 4, 64, 64): red, green, blue, near infrared
    labels: Tensor  # (n,): a place in CLASSES, the use that covers most of the tile
    maps: Tensor  # (n,): the number of the map that it was cut from
    rows: Tensor  # (n,): where on its map, from the top
    columns: Tensor  # (n,): and from the left


class Land(NamedTuple):
    """What all of one map has in common."""

    plants: Values  # four bands
    soil: Values
    water: Values
    roofs: Values  # (3, 4): three kinds
    sun: float  # the direction from which it shines, in radians
    haze: float  # 0 clear … 0.5
    gain: Values  # of the camera, by band
    grain: float  # how coarse woods, rows and towns are; 1 is usual


def mix(share: Values | float, one: Values, other: Values) -> Values:
    """`share` of `one`, and the rest of `other`, band by band."""
    share = np.asarray(share)[..., None]
    return share * one + (1 - share) * other


def draw_land(rng: Generator) -> Land:
    lush, dry = np.array([0.17, 0.34, 0.13, 0.72]), np.array([0.42, 0.39, 0.2, 0.52])
    dark, pale = np.array([0.27, 0.2, 0.15, 0.3]), np.array([0.58, 0.47, 0.36, 0.48])
    blue, green = np.array([0.1, 0.22, 0.34, 0.03]), np.array([0.2, 0.33, 0.17, 0.05])
    return Land(
        plants=mix(rng.uniform(0.35, 1), lush, dry),
        soil=mix(rng.random(), dark, pale),
        water=mix(rng.uniform(0, 0.6), blue, green),
        roofs=np.array([[0.6, 0.3, 0.24, 0.36], [0.45, 0.45, 0.47, 0.38], [0.72, 0.68, 0.62, 0.5]]) * rng.uniform(0.75, 1.1),
        sun=rng.uniform(0, 2 * np.pi),
        haze=rng.uniform(0, 0.5),
        gain=rng.uniform(0.85, 1.15, 4),
        grain=rng.uniform(0.7, 1.4),
    )


# ---------------------------------------------------------------------------------------------------------- patterns


def clouds(rng: Generator, shape: tuple[int, ...], grain: float) -> Values:
    """Soft random hills, about −1 … 1, `grain` pixels wide."""
    height, width = shape
    small = rng.normal(0, 0.6, (int(height / grain) + 3, int(width / grain) + 3)).astype(np.float32)
    large = Image.fromarray(small).resize((int(small.shape[1] * grain), int(small.shape[0] * grain)), Image.Resampling.BICUBIC)
    return np.asarray(large)[:height, :width]


def lit(hills: Values, sun: float) -> Values:
    """How bright each place of a landscape of hills is: above 0 on slopes that face the sun."""
    down, right = np.gradient(hills)
    return right * np.cos(sun) + down * np.sin(sun)


def turned(shape: tuple[int, ...], angle: float) -> tuple[Values, Values]:
    """Two coordinates in pixels, turned by `angle`."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * cos + y * sin, y * cos - x * sin


def inside(place: Values, period: float, share: float) -> Values:
    """1 within the first `share` of each period, with soft edges one pixel wide, else 0."""
    away = np.abs(place % period - share * period / 2)
    away = np.minimum(away, period - away)
    return np.clip(share * period / 2 - away + 0.5, 0, 1)


# ----------------------------------------------------------------------------------------------------------- land use


def field(rng: Generator, land: Land, shape: tuple[int, ...]) -> Values:
    """Plants in rows on bare soil; the tractor leaves two tracks now and then."""
    across, _ = turned(shape, rng.uniform(0, np.pi))
    bend = 2 * clouds(rng, shape, 70)
    rows = inside(across + bend, rng.uniform(4.5, 7.5) * land.grain, rng.uniform(0.4, 0.75))
    cover = np.clip(rows * rng.uniform(0.5, 1) * (1 - inside(across + bend, rng.uniform(28, 40), 0.1)), 0, 1)
    return mix(cover, land.plants * rng.uniform(0.85, 1.15), land.soil * (1 + 0.12 * clouds(rng, shape, 9)[..., None]))


def forest(rng: Generator, land: Land, shape: tuple[int, ...]) -> Values:
    """Crowns, each bright where it faces the sun and dark behind."""
    crowns = clouds(rng, shape, rng.uniform(3.2, 5) * land.grain)
    light = 0.62 + 0.75 * lit(crowns, land.sun) + 0.16 * clouds(rng, shape, 22)
    return np.clip(light, 0.15, 1.4)[..., None] * land.plants * (0.75, 0.8, 0.85, 1)


def meadow(rng: Generator, land: Land, shape: tuple[int, ...]) -> Values:
    """Grass, a little uneven. In near infrared the unevenness is strong: it shows how well the grass grows."""
    uneven = clouds(rng, shape, rng.uniform(7, 16)) + 0.5 * clouds(rng, shape, 2.5)
    strength = np.array([0.08, 0.07, 0.08, 0.22])
    return land.plants * rng.uniform(0.95, 1.25) * (1 + uneven[..., None] * strength)


def water(rng: Generator, land: Land, shape: tuple[int, ...]) -> Values:
    """A lake, clear or green with algae, its face a little uneven. In near infrared it is black."""
    uneven = clouds(rng, shape, rng.uniform(7, 16)) + 0.5 * clouds(rng, shape, 2.5)
    algae = rng.random() < 0.6
    tone = mix(0.75, land.plants * (1, 1, 1, 0.08), land.water) if algae else land.water
    return tone * rng.uniform(0.9, 1.15) * (1 + uneven[..., None] * np.array([0.08, 0.07, 0.08, 0.02]))


def town(rng: Generator, land: Land, shape: tuple[int, ...]) -> Values:
    """Houses in gardens along streets."""
    u, v = turned(shape, rng.uniform(0, np.pi))
    wide, deep = rng.uniform(9, 14, 2) * land.grain
    house = inside(u, wide, rng.uniform(0.5, 0.7)) * inside(v, deep, rng.uniform(0.5, 0.7))
    number = (u // wide).astype(int) * 31 + (v // deep).astype(int) * 17
    kinds = rng.choice(3, 97, p=rng.dirichlet([1, 1, 1]))[number % 97]
    street = np.maximum(inside(u + wide * 0.2, wide * 3, 0.1), inside(v + deep * 0.2, deep * 2, 0.14))
    gardens = land.plants * (0.8 + 0.25 * clouds(rng, shape, 4))[..., None]
    shades = (0.75 + 0.5 * (number * 7 % 13) / 13)[..., None]
    roofs = land.roofs[kinds] * shades
    return mix(street, np.array([0.42, 0.42, 0.43, 0.3]), mix(house, roofs, gardens))


def quarry(rng: Generator, land: Land, shape: tuple[int, ...]) -> Values:
    """Bare stone, cut in steps."""
    hills = clouds(rng, shape, rng.uniform(26, 40)) * rng.uniform(3, 5)
    steps = np.floor(hills) + np.clip((hills % 1) * 5, 0, 1)
    light = 1 + 0.55 * lit(steps, land.sun) + 0.1 * clouds(rng, shape, 2.5) + 0.1 * clouds(rng, shape, 12)
    stone = mix(rng.uniform(0.2, 0.7), land.soil, np.array([0.62, 0.6, 0.57, 0.55]))
    return np.clip(light, 0.3, 1.6)[..., None] * stone


PAINTERS: dict[str, Callable[[Generator, Land, tuple[int, ...]], Values]] = {
    "field": field,
    "forest": forest,
    "meadow": meadow,
    "quarry": quarry,
    "town": town,
    "water": water,
}
CLASSES = tuple(PAINTERS)


# --------------------------------------------------------------------------------------------------------------- maps


def parcels(rng: Generator, size: int) -> tuple[np.ndarray, Values]:
    """For each pixel the parcel that it lies in, and how near the border to the next one is, in pixels."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    x, y = x + 7 * clouds(rng, x.shape, 60), y + 7 * clouds(rng, y.shape, 60)
    steps = np.linspace(0.12, 0.88, 4)
    centres = np.array([(a, b) for a in steps for b in steps])[rng.permutation(16)[:PARCELS]]
    centres = size * (centres + rng.uniform(-0.09, 0.09, centres.shape))
    away = np.stack([np.hypot(x - a, y - b) for a, b in centres])
    nearest = np.partition(away, 1, axis=0)
    return away.argmin(0), nearest[1] - nearest[0]


def draw_map(rng: Generator, side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """One map of side × side tiles: uint8 (pixels, pixels, 4), and for each pixel the place of its use in CLASSES."""
    land, size = draw_land(rng), SIZE * side
    parcel, border = parcels(rng, size)
    uses = rng.permutation(np.arange(PARCELS) % len(CLASSES))
    ground = np.zeros((size, size, 4), np.float32)
    for number, use in enumerate(uses):
        here = parcel == number
        if here.any():
            box = np.ix_(*(slice_of(here.any(axis)) for axis in (1, 0)))
            painted = PAINTERS[CLASSES[use]](rng, land, here[box].shape)
            ground[box] = np.where(here[box][..., None], painted, ground[box])
    ground = mix(np.clip(1.6 - border / 2, 0, 1) * 0.7, np.array([0.5, 0.47, 0.42, 0.4]), ground)  # a way along each border
    return taken(rng, land, ground), uses[parcel]


def slice_of(filled: np.ndarray) -> np.ndarray:
    """From the first to the last place that is filled."""
    places = np.flatnonzero(filled)
    return np.arange(places[0], places[-1] + 1)


def taken(rng: Generator, land: Land, ground: Values) -> np.ndarray:
    """What the satellite sees: haze veils blue most and near infrared least; the camera adds its gain and its noise."""
    veil = land.haze * np.array([0.8, 0.9, 1, 0.3])
    seen = (ground * (1 - veil) + veil * (0.72, 0.76, 0.82, 0.6)) * land.gain
    noise = rng.normal(0, 0.012, ground.shape).astype(np.float32)
    return np.clip(255 * (seen + noise), 0, 255).astype(np.uint8)


def tiles(maps: int = 12, seed: int = 0, side: int = SIDE) -> Tiles:
    """The tiles of `maps` maps, map after map, row by row; the same for the same arguments."""
    images, labels = [], []
    for number in range(maps):
        picture, uses = draw_map(np.random.default_rng([seed, number]), side)
        images.append(cut(picture))
        labels.append([np.bincount(tile.ravel(), minlength=len(CLASSES)).argmax() for tile in cut(uses)])
    place = torch.arange(maps * side * side)
    return Tiles(
        torch.from_numpy(np.concatenate(images)).permute(0, 3, 1, 2).contiguous(),
        torch.from_numpy(np.concatenate(labels)),
        place // side**2,
        place // side % side,
        place % side,
    )


def cut(picture: np.ndarray) -> np.ndarray:
    """(pixels, pixels, …) into (tiles, 64, 64, …), row by row."""
    side = picture.shape[0] // SIZE
    parts = picture.reshape(side, SIZE, side, SIZE, *picture.shape[2:]).swapaxes(1, 2)
    return parts.reshape(side**2, SIZE, SIZE, *picture.shape[2:])
