"""Scenes of a road, seen through a windscreen: 128×128 pixels, with boxes around cars and signs.

A drive is a row of frames. All of its frames share the road, the houses, the trees, the weather and the very cars; from
one frame to the next the camera rolls on by half a metre. By night the same drive is dark, with headlights and noise.
The places of things are in metres: x to the right of the camera, y above the road, z ahead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from PIL import Image, ImageDraw
from torch import Tensor

from course_utils.worlds import Colour, Points, box, colour, ellipse

SIZE = 128  # pixels of a finished scene, each way
FINE = 2  # scenes are drawn FINE times larger and averaged down, which makes edges smooth
CLASSES = ("car", "sign")
FOCAL, CAMERA = 150.0, 1.5  # pixels; metres above the road
SMALL = 12  # pixels: what would be narrower or lower than this is too far away to be drawn


@dataclass(frozen=True)
class Frames:
    """Scenes with what is in them, and where they come from; `frames[places]` is a part of them.

    Attributes:
        images: (frames, 3, 128, 128), bytes.
        boxes: of each scene a tensor (objects, 4): x1, y1, x2, y2 in pixels.
        labels: of each scene a tensor (objects,): places in `CLASSES`.
        drives: of each scene the number of its drive.
        numbers: of each scene its place in the drive.
    """

    images: Tensor
    boxes: tuple[Tensor, ...]
    labels: tuple[Tensor, ...]
    drives: tuple[int, ...]
    numbers: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, places: Sequence[int]) -> Frames:
        places = [int(place) for place in places]
        others = (tuple(part[place] for place in places) for part in (self.boxes, self.labels, self.drives, self.numbers))
        return Frames(self.images[places], *others)  # type: ignore[arg-type]


def record(drives: int, frames: int, *, seed: int, night: bool = False) -> Frames:
    """The first `frames` scenes of so many drives, by day or by night; a drive of one seed is the same road in both.

    Raises:
        ValueError: if there would be no scene.
    """
    if drives < 1 or frames < 1:
        raise ValueError(f"{drives} drives of {frames} frames are no scene; ask for one of each at least")
    seen = [(drive, number) for drive in range(drives) for number in range(frames)]
    roads = [Drive(seed, drive) for drive in range(drives)]
    scenes = [roads[drive].frame(number, night) for drive, number in seen]
    images = torch.from_numpy(np.stack([scene for scene, _, _ in scenes])).permute(0, 3, 1, 2).contiguous()
    boxes = tuple(torch.tensor(found, dtype=torch.float32).reshape(-1, 4) for _, found, _ in scenes)
    labels = tuple(torch.tensor(found, dtype=torch.long) for _, _, found in scenes)
    ids = tuple(1000 * seed + drive for drive, _ in seen)
    return Frames(images, boxes, labels, ids, tuple(number for _, number in seen))


# ----------------------------------------------------------------------------------------------------------- things


class Patch(NamedTuple):
    """One colour within one outline, in metres: x from the middle of its thing, y downwards from 0 at the road."""

    outline: Points
    colour: Colour


class Thing(NamedTuple):
    """Something that stands or drives: what it is, where it is in frame 0, how it moves in a frame, how it looks."""

    kind: str
    x: float
    z: float
    ahead: float
    aside: float
    patches: tuple[Patch, ...]
    lamps: tuple[tuple[float, float, Colour, float], ...] = ()  # x, y, colour, radius in metres; lit at night


def car(rng: Generator) -> tuple[tuple[Patch, ...], bool]:
    """A car from behind or from the front, and whether it comes towards you."""
    paint, coming = colour(rng, (0.15, 0.8), (0.1, 0.9)), bool(rng.random() < 0.5)
    wide, high = rng.uniform(0.85, 1.05), rng.uniform(1.35, 1.9)
    waist, roof = 0.55 * high, rng.uniform(0.6, 0.85) * wide
    glass: Colour = (60, 70, 85) if coming else (35, 40, 50)
    lamp: Colour = (235, 235, 220) if coming else (170, 25, 25)
    sides = (-1, 1)
    wheels = [Patch(box(s * 0.72 * wide - 0.14, -0.35, s * 0.72 * wide + 0.14, 0), (20, 20, 22)) for s in sides]
    lamps = [Patch(ellipse(s * 0.78 * wide, -0.8 * waist, 0.14, 0.12, corners=10), lamp) for s in sides]
    cabin = np.array([(-wide, -waist), (-roof, -high), (roof, -high), (wide, -waist)])
    window = np.array(
        [(-0.85 * wide, -waist), (-0.85 * roof, -0.93 * high), (0.85 * roof, -0.93 * high), (0.85 * wide, -waist)]
    )
    body = [Patch(cabin, paint), Patch(window, glass), Patch(box(-wide, -waist, wide, -0.22), paint)]
    plate = Patch(box(-0.26, -0.5, 0.26, -0.36), (225, 225, 215))
    return (*wheels, *body, *lamps, plate), coming


SIGNS = (  # outline, rim, face
    (ellipse(0, 0, 1, 1, corners=24), (195, 25, 35), (240, 240, 235)),
    (ellipse(0, 0, 1.1, 1.1, -np.pi / 2, 3), (195, 25, 35), (240, 240, 235)),
    (box(-0.9, -0.9, 0.9, 0.9), (240, 240, 240), (25, 75, 170)),
    (ellipse(0, 0, 1, 1, np.pi / 8, 8), (240, 240, 240), (190, 25, 35)),
    (box(-0.9, -0.9, 0.9, 0.9) @ np.array([[0.71, 0.71], [-0.71, 0.71]]), (245, 245, 240), (245, 195, 30)),
)


def sign(rng: Generator) -> tuple[Patch, ...]:
    """A pole with one of five kinds of signs; the box holds the sign and not the pole."""
    outline, rim, face = SIGNS[rng.integers(len(SIGNS))]
    radius, high = rng.uniform(0.75, 0.95), rng.uniform(2.2, 2.8)
    pole = Patch(box(-0.05, -high, 0.05, 0), (140, 142, 145))
    bar = Patch(box(-0.5, -0.14, 0.5, 0.14) * radius + (0, -high), (30, 30, 35))
    middle = np.array((0, -high))
    return pole, Patch(outline * radius + middle, rim), Patch(0.74 * outline * radius + middle, face), bar


def house(rng: Generator) -> tuple[Patch, ...]:
    wall, wide, high = colour(rng, (0.3, 0.8), (0.05, 0.5)), rng.uniform(2, 4), rng.uniform(3, 7)
    parts = [Patch(box(-wide, -high, wide, 0), wall)]
    glass = colour(rng, (0.15, 0.75), (0.05, 0.4))
    for x in np.arange(-wide + 0.5, wide - 0.8, rng.uniform(1.2, 1.9)):
        parts += [Patch(box(x, -y - 1, x + 0.8, -y), glass) for y in np.arange(1, high - 1.1, 2)]
    if rng.random() < 0.6:
        roof = colour(rng, (0.15, 0.45), (0.1, 0.6))
        parts.append(Patch(np.array([(-1.1 * wide, -high), (1.1 * wide, -high), (0, -high - rng.uniform(1, 2.2))]), roof))
    return tuple(parts)


def tree(rng: Generator) -> tuple[Patch, ...]:
    high, wide = rng.uniform(2.5, 5), rng.uniform(0.9, 1.8)
    green = (int(rng.uniform(30, 120)), int(rng.uniform(75, 150)), int(rng.uniform(20, 80)))
    trunk = Patch(box(-0.14, -high, 0.14, 0), (90, 65, 45))
    return trunk, Patch(ellipse(0, -high, wide, 0.8 * wide, corners=18), green)


def furniture(rng: Generator) -> tuple[Patch, ...]:
    """What stands about and has no box: a post, a bin, a letter box."""
    paint, high, wide = colour(rng, (0.2, 0.75), (0.1, 0.9)), rng.uniform(0.9, 1.8), rng.uniform(0.1, 0.42)
    top = Patch(ellipse(0, -high, 1.1 * wide, 0.18, corners=14), colour(rng, (0.2, 0.8), (0.1, 0.9)))
    return Patch(box(-wide, -high, wide, 0), paint), top


# ----------------------------------------------------------------------------------------------------------- drives

SKIES: tuple[Colour, ...] = ((95, 145, 205), (150, 170, 190), (190, 195, 200), (215, 160, 120))  # blue, pale, grey, evening
GROUNDS: tuple[Colour, ...] = ((95, 130, 70), (150, 135, 100), (140, 140, 138), (205, 210, 215))  # grass, sand, stone, snow


def near_to(middle: Colour, rng: Generator) -> Colour:
    red, green, blue = (int(np.clip(value + rng.normal(0, 14), 0, 255)) for value in middle)
    return red, green, blue


class Drive:
    """One road with all that stands and moves on it; `frame` draws what the camera sees at one moment."""

    def __init__(self, seed: int, number: int):
        self.key = (seed, number)
        rng = np.random.default_rng([seed, number])
        self.middle, self.horizon = rng.uniform(50, 78), rng.uniform(44, 60)  # pixels: where the road vanishes
        self.sky = [near_to(SKIES[rng.integers(len(SKIES))], rng), near_to((215, 220, 225), rng)]
        self.ground, self.road = near_to(GROUNDS[rng.integers(len(GROUNDS))], rng), (int(rng.uniform(65, 150)),) * 3
        self.half, self.roll = rng.uniform(3.0, 3.8), rng.uniform(0.25, 0.5)  # metres: half the road; a frame
        self.light, self.haze = rng.uniform(0.7, 1.1), rng.uniform(0, 0.05)
        self.dark = rng.uniform(0.14, 0.26)  # what is left of daylight at night
        self.things = sorted([*self.stage(rng), *self.scenery(rng)], key=lambda thing: -thing.z)

    def stage(self, rng: Generator) -> list[Thing]:
        """What gets boxes, one after the other down the road."""
        found, z = [], rng.uniform(5, 7)
        while z < 26:
            found.append(self.actor(rng, CLASSES[rng.integers(len(CLASSES))], z))
            z += rng.uniform(2.5, 6)
        return found

    def actor(self, rng: Generator, kind: str, z: float) -> Thing:
        side = rng.choice((-1, 1))
        if kind == "car":
            patches, coming = car(rng)
            x = (-1 if coming else 1) * rng.uniform(0.4, 0.6) * self.half
            lamp: tuple[Colour, float] = ((255, 250, 225), 0.75) if coming else ((255, 45, 35), 0.4)
            lamps = tuple((s * 0.75, 0.75, *lamp) for s in (-1, 1))
            return Thing(kind, x, z, -0.3 if coming else rng.uniform(0.15, 0.45), 0.0, patches, lamps)
        return Thing(kind, side * rng.uniform(1.12, 1.35) * self.half, z, 0.0, 0.0, sign(rng))

    def scenery(self, rng: Generator) -> list[Thing]:
        found = []
        for side in (-1, 1):
            for z in np.arange(6, 40, rng.uniform(5, 10)):
                make = house if rng.random() < 0.55 else tree
                found.append(Thing("", side * rng.uniform(2.2, 3) * self.half, z + rng.uniform(0, 3), 0, 0, make(rng)))
        for z in rng.uniform(5, 24, rng.poisson(3)):
            found.append(Thing("", rng.choice((-1, 1)) * rng.uniform(1.1, 1.6) * self.half, z, 0, 0, furniture(rng)))
        for z in np.arange(rng.uniform(5, 12), 40, rng.uniform(9, 14)):  # street lamps
            lamp = ((0.0, 5.0, (255, 205, 130), 1.3),)
            found.append(
                Thing(
                    "", rng.choice((-1, 1)) * 1.25 * self.half, z, 0, 0, (Patch(box(-0.06, -5, 0.06, 0), (90, 92, 95)),), lamp
                )
            )
        return found

    # -------------------------------------------------------------------------------------------------- one frame

    def at(self, x: np.ndarray | float, y: np.ndarray | float, z: float) -> tuple[np.ndarray, np.ndarray]:
        """Metres to pixels of the finished scene."""
        return self.middle + FOCAL * np.asarray(x) / z, self.horizon + FOCAL * (CAMERA - np.asarray(y)) / z

    def frame(self, number: int, night: bool) -> tuple[np.ndarray, list[tuple[float, ...]], list[int]]:
        """The picture (128, 128, 3) in bytes, its boxes and the places of their classes."""
        rng = np.random.default_rng([*self.key, number, night])
        seen = [(thing, *self.moved(thing, number)) for thing in self.things]
        seen = sorted((one for one in seen if self.drawn(*one)), key=lambda one: -one[2])
        image = self.empty_road(number)
        draw = ImageDraw.Draw(image)
        for thing, x, z in seen:
            self.put(draw, thing, x, z)
        values: np.ndarray = np.asarray(image.reduce(FINE), dtype=np.float32)
        values = self.at_night(values, seen, rng) if night else values * self.light + rng.normal(0, 3, (SIZE, SIZE, 1))
        boxes = visible([(thing.kind, self.outline(thing, x, z)) for thing, x, z in seen if thing.kind])
        return np.clip(values, 0, 255).astype(np.uint8), [b for _, b in boxes], [CLASSES.index(kind) for kind, _ in boxes]

    def drawn(self, thing: Thing, x: float, z: float) -> bool:
        """Whether a thing is ahead, beside the road at most, and large enough if it is one of those with a box."""
        return z > 2.5 and abs(x) < z + 4 and (not thing.kind or large(self.outline(thing, x, z)))

    def moved(self, thing: Thing, number: int) -> tuple[float, float]:
        return thing.x + thing.aside * number, thing.z + (thing.ahead - self.roll) * number

    def empty_road(self, number: int) -> Image.Image:
        top, low = (np.array(one, dtype=np.float32) for one in self.sky)
        blend = np.clip(np.arange(SIZE * FINE) / (self.horizon * FINE), 0, 1)[:, None]
        rows = ((1 - blend) * top + blend * low).astype(np.uint8)
        image = Image.fromarray(np.repeat(rows[:, None], SIZE * FINE, 1))
        draw = ImageDraw.Draw(image)
        draw.rectangle((0, self.horizon * FINE, SIZE * FINE, SIZE * FINE), fill=self.ground)
        self.flat(draw, -self.half - 0.9, self.half + 0.9, 2, 300, tuple(min(255, c + 45) for c in self.road))  # pavements
        self.flat(draw, -self.half, self.half, 2, 300, self.road)
        for z in np.arange(2 - (self.roll * number) % 4, 40, 4):
            self.flat(draw, -0.08, 0.08, max(z, 2), z + 2, (225, 225, 215))
        return image

    def flat(self, draw: ImageDraw.ImageDraw, left: float, right: float, near: float, far: float, fill: tuple) -> None:
        """A strip on the road."""
        if far > near:
            corners = ((left, near), (left, far), (right, far), (right, near))
            draw.polygon([tuple(FINE * float(v) for v in self.at(x, 0, z)) for x, z in corners], fill=fill)

    def put(self, draw: ImageDraw.ImageDraw, thing: Thing, x: float, z: float) -> None:
        """Draw a thing, paler the farther it is."""
        pale, scale = 1 - np.exp(-self.haze * z), FINE * FOCAL / z
        foot = (FINE * self.middle + scale * x, FINE * self.horizon + scale * CAMERA)
        for outline, fill in thing.patches:
            mixed = tuple(int((1 - pale) * c + pale * s) for c, s in zip(fill, self.sky[1], strict=True))
            draw.polygon((outline * scale + foot).ravel().tolist(), fill=mixed)

    def outline(self, thing: Thing, x: float, z: float) -> tuple[float, float, float, float]:
        """The box around a thing; of a sign without its pole."""
        parts = thing.patches[1:] if thing.kind == "sign" else thing.patches
        points = np.concatenate([patch.outline for patch in parts])
        xs, ys = self.at(points[:, 0] + x, -points[:, 1], z)
        return float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max())

    def at_night(self, values: np.ndarray, seen: list[tuple[Thing, float, float]], rng: Generator) -> np.ndarray:
        """Little daylight, the beam of your own headlights, all lamps with their glare, and a noisy camera."""
        y, x = np.arange(SIZE, dtype=np.float32)[:, None], np.arange(SIZE, dtype=np.float32)[None]
        depth = np.clip(y - self.horizon, 0, None)
        beam = np.exp(-(((x - self.middle) / (18 + depth)) ** 2) - ((y - self.horizon - 12) / 24) ** 2)
        tint = np.array((0.85, 0.92, 1.15), dtype=np.float32)
        lit = values * (self.dark * tint + 0.45 * beam[..., None])
        for place, (thing, at_x, z) in enumerate(seen):
            if thing.kind == "sign":  # its face throws light back
                left, top, right, low = (round(min(max(v, 0), SIZE)) for v in self.outline(thing, at_x, z))
                lit[top:low, left:right] += 0.25 * values[top:low, left:right]
            nearer = [self.outline(*other) for other in seen[place + 1 :] if other[0].kind]
            for lamp_x, lamp_y, lamp, radius in thing.lamps:
                px, py = (float(v) for v in self.at(at_x + lamp_x, lamp_y, z))
                if z < 30 and not any(left < px < right and top < py < low for left, top, right, low in nearer):
                    lit += glare(x - px, y - py, max(1.2, FOCAL * radius / z / 2))[..., None] * np.array(lamp, dtype=np.float32)
        return lit + rng.normal(0, 9, (SIZE, SIZE, 1))


def glare(x: np.ndarray, y: np.ndarray, size: float) -> np.ndarray:
    """The light around a lamp: a bright core, and a halo that fades slowly."""
    far = (x**2 + y**2) / size**2
    return 0.9 * np.exp(-far) + 0.25 / (1 + far)


def visible(things: list[tuple[str, tuple[float, ...]]]) -> list[tuple[str, tuple[float, ...]]]:
    """Of things from far to near those that get a box: well within the picture, and not hidden by a nearer one."""
    found: list[tuple[str, tuple[float, ...]]] = []
    taken: list[tuple[float, ...]] = []
    for kind, whole in reversed(things):
        inside = tuple(min(max(value, 0.0), float(SIZE)) for value in whole)
        shown = area(inside) / max(area(whole), 1e-6)
        hidden = max((shared(inside, other) / max(area(inside), 1e-6) for other in taken), default=0)
        taken.append(inside)
        if shown > 0.4 and hidden < 0.5:
            found.append((kind, inside))
    return found


def large(one: tuple[float, ...]) -> bool:
    return min(one[2] - one[0], one[3] - one[1]) >= SMALL


def area(one: tuple[float, ...]) -> float:
    return max(one[2] - one[0], 0) * max(one[3] - one[1], 0)


def shared(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    pairs = zip(one, other, strict=True)
    left, top, right, low = (limit(pair) for limit, pair in zip((max, max, min, min), pairs, strict=True))
    return area((left, top, right, low))
