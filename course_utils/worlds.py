"""Pictures drawn by code: two worlds of 64×64 pictures, each picture a function of its seed.

`shapes` is the source world, on which the weights in `data/weights/` were trained: 24 classes, eight outlines in three
textures. `things` is the target world of the lessons: six classes built from parts. Everything that should not matter
for the class is drawn at random: colours, pose, size, background, clutter and noise.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from course_utils.errors import unknown

SIZE = 64  # pixels of a finished picture, each way
FINE = 4  # pictures are drawn FINE times larger and averaged down, which makes edges smooth

Colour = tuple[int, int, int]
Points = np.ndarray  # (n, 2): x to the right, y downwards; a drawing fills about -1 … 1 each way


# ---------------------------------------------------------------------------------------------------------- canvas


class Canvas:
    """A picture in the making: polygons in drawing coordinates, placed by one pose (turn, size, shift, mirror)."""

    def __init__(self, image: Image.Image, *, angle: float, scale: float, shift: tuple[float, float], mirror: bool):
        cos, sin = np.cos(angle), np.sin(angle)
        flip = -1.0 if mirror else 1.0
        half = image.width / 2
        self.image = image
        self.matrix = scale * half * np.array([[flip * cos, flip * sin], [-sin, cos]])
        self.shift = half * (1 + np.array(shift))

    def place(self, points: Points) -> list[tuple[float, float]]:
        return [tuple(p) for p in np.asarray(points) @ self.matrix + self.shift]

    def polygon(self, points: Points, colour: Colour) -> None:
        ImageDraw.Draw(self.image).polygon(self.place(points), fill=colour)

    def mask(self, *outlines: Points) -> Image.Image:
        """Where the first outline is, without the others: 255 inside, 0 outside."""
        mask = Image.new("L", self.image.size)
        draw = ImageDraw.Draw(mask)
        for outline, fill in zip(outlines, [255] + [0] * len(outlines), strict=False):
            draw.polygon(self.place(outline), fill=fill)
        return mask

    def finish(self, rng: Generator, noise: float) -> Image.Image:
        """The picture at its final size, with the grain of a camera."""
        small = np.asarray(self.image.reduce(FINE), dtype=np.float32)
        grain = rng.normal(0, noise, (SIZE, SIZE, 1)).astype(np.float32)
        return Image.fromarray(np.clip(small + grain, 0, 255).astype(np.uint8))


def ellipse(x: float, y: float, rx: float, ry: float, angle: float = 0.0, corners: int = 36) -> Points:
    turn = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    points = np.stack([rx * np.cos(turn), ry * np.sin(turn)], 1)
    cos, sin = np.cos(angle), np.sin(angle)
    return points @ np.array([[cos, sin], [-sin, cos]]) + (x, y)


def regular(corners: int, radius: float = 1.0) -> Points:
    return ellipse(0, 0, radius, radius, -np.pi / 2, corners)


def box(left: float, top: float, right: float, bottom: float) -> Points:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


# --------------------------------------------------------------------------------------------------------- colours


def colour(rng: Generator, lightness: tuple[float, float], vividness: tuple[float, float]) -> Colour:
    """A random colour: any hue, with lightness and vividness (0 grey … 1 pure) from the given ranges."""
    r, g, b = colorsys.hls_to_rgb(rng.random(), rng.uniform(*lightness), rng.uniform(*vividness))
    return round(255 * r), round(255 * g), round(255 * b)


def luma(rgb: Colour) -> float:
    """How bright a colour looks, 0 … 255 (weights of ITU-R BT.601)."""
    return float(np.dot(rgb, (0.299, 0.587, 0.114)))


def apart(rng: Generator, others: list[Colour], gap: float) -> Colour:
    """A vivid colour whose brightness differs from each of `others` by `gap`, or the best of twelve tries."""
    tries = [colour(rng, (0.15, 0.9), (0.35, 0.95)) for _ in range(12)]
    distance = [min(abs(luma(one) - luma(other)) for other in others) for one in tries]
    good = [one for one, d in zip(tries, distance, strict=True) if d >= gap]
    return good[0] if good else tries[int(np.argmax(distance))]


def backdrop(rng: Generator, difficulty: float) -> tuple[Image.Image, list[Colour]]:
    """A soft two-colour gradient with blurred clutter in it, and the two colours."""
    level = rng.uniform(0.1, 0.62)
    ends = [colour(rng, (max(0.05, level - 0.12), level + 0.12), (0.1, 0.6)) for _ in range(2)]
    y, x = np.mgrid[-1:1:16j, -1:1:16j]
    turn = rng.uniform(0, 2 * np.pi)
    blend = np.clip(0.5 + 0.4 * (x * np.cos(turn) + y * np.sin(turn)), 0, 1)[..., None]
    image = Image.fromarray((blend * ends[0] + (1 - blend) * ends[1]).astype(np.uint8)).resize((SIZE, SIZE))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.poisson(5 * difficulty)):
        cx, cy, r = rng.uniform(0, SIZE), rng.uniform(0, SIZE), rng.uniform(2, 9)
        outline = ellipse(cx, cy, r, r * rng.uniform(0.4, 1), rng.uniform(0, np.pi), int(rng.integers(3, 9)))
        draw.polygon([tuple(p) for p in outline], fill=colour(rng, (max(0.0, level - 0.15), level + 0.15), (0.1, 0.7)))
    image = image.filter(ImageFilter.GaussianBlur(1.2))
    return image.resize((SIZE * FINE, SIZE * FINE), Image.Resampling.BILINEAR), ends


# ---------------------------------------------------------------------------------------------------------- shapes


def _star() -> Points:
    points = regular(10)
    points[1::2] *= 0.45
    return points


def _cross() -> Points:
    a, b = 0.34, 0.95
    return np.array(
        [(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a), (a, b), (-a, b), (-a, a), (-b, a), (-b, -a), (-a, -a)]
    )


OUTLINES: dict[str, list[Points]] = {  # the outline, then what is cut out of it
    "circle": [ellipse(0, 0, 0.9, 0.9)],
    "square": [box(-0.8, -0.8, 0.8, 0.8)],
    "triangle": [regular(3)],
    "star": [_star()],
    "cross": [_cross()],
    "ring": [ellipse(0, 0, 0.95, 0.95), ellipse(0, 0, 0.52, 0.52)],
    "hexagon": [regular(6)],
    "crescent": [ellipse(0, 0, 0.95, 0.95), ellipse(0.48, 0, 0.74, 0.74)],
}


def stripes(rng: Generator, size: int) -> Image.Image:
    """Parallel bands across a square of `size` pixels, in any direction: 255 on a band."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    turn, width = rng.uniform(0, np.pi), size * rng.uniform(0.085, 0.14)
    across = x * np.float32(np.cos(turn)) + y * np.float32(np.sin(turn)) + rng.uniform(0, width)
    return Image.fromarray(np.where(across % width < width / 2, np.uint8(255), np.uint8(0)))


def dots(rng: Generator, size: int) -> Image.Image:
    """A turned grid of discs on a square of `size` pixels: 255 on a disc."""
    image = Image.new("L", (size, size))
    draw = ImageDraw.Draw(image)
    turn, step = rng.uniform(0, np.pi / 2), size * rng.uniform(0.11, 0.15)
    grid = np.stack(np.meshgrid(np.arange(-6.5, 7), np.arange(-6.5, 7)), -1).reshape(-1, 2) * step
    centres = grid @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) + size / 2
    radius = step * 0.3
    for x, y in centres:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return image


TEXTURES: dict[str, Callable[[Generator, int], Image.Image] | None] = {"solid": None, "striped": stripes, "dotted": dots}


def draw_shape(name: str, rng: Generator, difficulty: float) -> Image.Image:
    """One picture of `shapes`; `name` is a texture and an outline, such as "striped star"."""
    texture, outline = name.split(" ")
    image, behind = backdrop(rng, difficulty)
    canvas = Canvas(
        image,
        angle=rng.uniform(0, 2 * np.pi),
        scale=rng.uniform(0.42, 0.8),
        shift=tuple(rng.uniform(-0.2, 0.2, 2)),
        mirror=rng.random() < 0.5,
    )
    fill = apart(rng, behind, 55)
    mask = canvas.mask(*OUTLINES[outline])
    image.paste(fill, mask=mask)
    pattern = TEXTURES[texture]
    if pattern:
        image.paste(apart(rng, [*behind, fill], 60), mask=ImageChops.multiply(mask, pattern(rng, image.width)))
    return canvas.finish(rng, noise=rng.uniform(1, 4) * difficulty)


# ---------------------------------------------------------------------------------------------------------- things


def paint_house(canvas: Canvas, rng: Generator, paint: Callable[[], Colour]) -> None:
    wide, top = rng.uniform(0.5, 0.85), rng.uniform(-0.25, 0.1)
    ridge, eaves = rng.uniform(-0.95, -0.65), wide + rng.uniform(0.03, 0.18)
    roof, wall, glass = paint(), paint(), paint()
    if rng.random() < 0.5:
        x = wide * rng.uniform(0.3, 0.6)
        canvas.polygon(box(x, ridge, x + 0.2, top), paint())
    canvas.polygon(box(-wide, top, wide, 0.85), wall)
    flat = rng.uniform(0, 0.5) * wide
    canvas.polygon(np.array([(-eaves, top), (-flat, ridge), (flat, ridge), (eaves, top)]), roof)
    door = rng.uniform(-0.6, 0.25) * wide
    canvas.polygon(box(door, rng.uniform(0.25, 0.45), door + 0.26, 0.85), paint())
    for x in [-0.62, 0.38] if rng.random() < 0.6 else [0.3]:
        canvas.polygon(box(x * wide, top + 0.14, x * wide + 0.26, top + 0.38), glass)


def paint_tree(canvas: Canvas, rng: Generator, paint: Callable[[], Colour]) -> None:
    thick, leaves = rng.uniform(0.07, 0.15), paint()
    canvas.polygon(np.array([(-thick, -0.1), (thick, -0.1), (thick * 1.3, 0.95), (-thick * 1.3, 0.95)]), paint())
    if rng.random() < 0.5:  # a fir: triangles on top of each other
        layers = int(rng.integers(2, 5))
        for i in range(layers):
            low = 0.55 - i * 1.1 / layers
            half = rng.uniform(0.55, 0.75) * (1 - 0.6 * i / layers)
            canvas.polygon(np.array([(-half, low), (half, low), (0, low - 1.6 / layers - 0.1)]), leaves)
        return
    for _ in range(int(rng.integers(3, 8))):  # a crown of round tufts
        x, y = rng.uniform(-0.38, 0.38), rng.uniform(-0.6, 0.0)
        canvas.polygon(ellipse(x, y, rng.uniform(0.28, 0.45), rng.uniform(0.25, 0.4)), leaves)


def paint_boat(canvas: Canvas, rng: Generator, paint: Callable[[], Colour]) -> None:
    bow, stern, keel = rng.uniform(0.8, 0.98), rng.uniform(-0.95, -0.75), rng.uniform(0.6, 0.85)
    deck = rng.uniform(0.25, 0.4)
    if rng.random() < 0.6:  # sails on a mast
        top, mast, sail = rng.uniform(-0.98, -0.7), rng.uniform(-0.2, 0.15), paint()
        canvas.polygon(box(mast - 0.03, top, mast + 0.03, deck), paint())
        canvas.polygon(np.array([(mast + 0.05, top), (mast + 0.05, deck - 0.08), (bow * 0.85, deck - 0.08)]), sail)
        if rng.random() < 0.6:
            canvas.polygon(np.array([(mast - 0.06, top + 0.2), (mast - 0.06, deck - 0.08), (stern * 0.7, deck - 0.08)]), sail)
    else:  # a steamer: cabin and funnels
        canvas.polygon(box(-0.5, deck - 0.35, rng.uniform(0.2, 0.5), deck), paint())
        funnel = paint()
        for x in (-0.3, 0.0)[: int(rng.integers(1, 3))]:
            canvas.polygon(box(x, deck - rng.uniform(0.7, 0.95), x + 0.17, deck - 0.35), funnel)
    canvas.polygon(np.array([(stern, deck), (bow, deck), (bow * 0.65, keel), (stern * 0.7, keel)]), paint())


def paint_car(canvas: Canvas, rng: Generator, paint: Callable[[], Colour]) -> None:
    body, glass, tyre, hub = paint(), paint(), paint(), paint()
    bonnet, roof, floor = rng.uniform(-0.12, 0.08), rng.uniform(-0.6, -0.4), 0.4
    back, front = rng.uniform(-0.85, -0.5), rng.uniform(0.2, 0.45)
    lean = rng.uniform(0.08, 0.3)
    canvas.polygon(np.array([(back, bonnet), (back + lean, roof), (front - lean, roof), (front, bonnet)]), body)
    canvas.polygon(box(-0.95, bonnet, 0.95, floor), body)
    middle = (back + front) / 2
    canvas.polygon(
        np.array(
            [(back + 0.14, bonnet), (back + lean + 0.06, roof + 0.1), (middle - 0.04, roof + 0.1), (middle - 0.04, bonnet)]
        ),
        glass,
    )
    canvas.polygon(
        np.array(
            [(middle + 0.04, bonnet), (middle + 0.04, roof + 0.1), (front - lean - 0.06, roof + 0.1), (front - 0.14, bonnet)]
        ),
        glass,
    )
    wheel = rng.uniform(0.2, 0.28)
    for x in (rng.uniform(-0.62, -0.48), rng.uniform(0.48, 0.62)):
        canvas.polygon(ellipse(x, floor, wheel, wheel), tyre)
        canvas.polygon(ellipse(x, floor, wheel * 0.45, wheel * 0.45), hub)


def paint_fish(canvas: Canvas, rng: Generator, paint: Callable[[], Colour]) -> None:
    body, fin = paint(), paint()
    long, high, fork = rng.uniform(0.6, 0.75), rng.uniform(0.25, 0.45), rng.uniform(0.25, 0.45)
    canvas.polygon(np.array([(0.5 * long, 0), (0.98, -fork), (0.98 - rng.uniform(0.05, 0.2), 0), (0.98, fork)]), fin)
    canvas.polygon(np.array([(-0.3, -high * 0.7), (0.05, -high - rng.uniform(0.15, 0.35)), (0.35, -high * 0.5)]), fin)
    canvas.polygon(ellipse(-0.2, 0, long, high), body)
    if rng.random() < 0.5:
        band = paint()
        for x in (-0.25, 0.05):
            canvas.polygon(box(x, -high * 0.85, x + 0.1, high * 0.85), band)
    canvas.polygon(ellipse(-0.55, -0.08, 0.09, 0.09), (250, 250, 245))
    canvas.polygon(ellipse(-0.57, -0.08, 0.045, 0.045), (15, 15, 25))


def paint_flower(canvas: Canvas, rng: Generator, paint: Callable[[], Colour]) -> None:
    y, stem, petal = rng.uniform(-0.45, -0.25), paint(), paint()
    bend = rng.uniform(-0.2, 0.2)
    canvas.polygon(np.array([(-0.04, y), (0.04, y), (bend + 0.04, 0.95), (bend - 0.04, 0.95)]), stem)
    for side in (-1, 1)[: int(rng.integers(0, 3))]:
        canvas.polygon(ellipse(side * 0.25 + bend / 2, rng.uniform(0.4, 0.7), 0.25, 0.09, side * -0.5), stem)
    count, reach, wide = int(rng.integers(5, 10)), rng.uniform(0.3, 0.4), rng.uniform(0.1, 0.17)
    for turn in np.linspace(0, 2 * np.pi, count, endpoint=False) + rng.random():
        canvas.polygon(ellipse(reach * np.cos(turn), y + reach * np.sin(turn), 0.22, wide, turn), petal)
    canvas.polygon(ellipse(0, y, 0.19, 0.19), paint())


PAINTERS = {
    "boat": paint_boat,
    "car": paint_car,
    "fish": paint_fish,
    "flower": paint_flower,
    "house": paint_house,
    "tree": paint_tree,
}


def draw_thing(name: str, rng: Generator, difficulty: float) -> Image.Image:
    """One picture of `things`: the parts of `name`, each in a colour of its own."""
    image, behind = backdrop(rng, difficulty)
    canvas = Canvas(
        image,
        angle=rng.normal(0, 0.22 * difficulty),
        scale=rng.uniform(0.5, 0.9),
        shift=tuple(rng.uniform(-0.2, 0.2, 2)),
        mirror=rng.random() < 0.5,
    )
    PAINTERS[name](canvas, rng, lambda: apart(rng, behind, 40))
    return canvas.finish(rng, noise=rng.uniform(1, 4) * difficulty)


# ---------------------------------------------------------------------------------------------------------- worlds


@dataclass(frozen=True)
class World:
    name: str
    classes: tuple[str, ...]
    draw: Callable[[str, Generator, float], Image.Image]


WORLDS = {
    "shapes": World("shapes", tuple(sorted(f"{t} {o}" for t in TEXTURES for o in OUTLINES)), draw_shape),
    "things": World("things", tuple(sorted(PAINTERS)), draw_thing),
}


def find_world(name: str | World) -> World:
    if isinstance(name, World):
        return name
    if name not in WORLDS:
        raise unknown("world", name, WORLDS)
    return WORLDS[name]


def picture(world: str | World, name: str, seed: int, index: int = 0, *, difficulty: float = 1.0) -> Image.Image:
    """Picture number `index` of class `name`: 64×64, RGB, the same for the same arguments.

    Raises:
        ValueError: if there is no such world or class.
    """
    place = find_world(world)
    if name not in place.classes:
        raise unknown(f"class of {place.name!r}", name, place.classes)
    rng = np.random.default_rng([seed, place.classes.index(name), index])
    return place.draw(name, rng, difficulty)


def pictures(world: str | World, per_class: int, seed: int = 0, *, difficulty: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """`per_class` pictures of each class: uint8 (N, 64, 64, 3) and class numbers (N,), ordered by class."""
    names = find_world(world).classes
    images = [np.asarray(picture(world, n, seed, i, difficulty=difficulty)) for n in names for i in range(per_class)]
    return np.stack(images), np.repeat(np.arange(len(names)), per_class)


TINY = {"train": 20, "val": 15, "test": 45}  # pictures of each class in data/tiny


def write_tiny(root: Path) -> None:
    """Draw the small data set of the course, `things` as PNG files in `root/{train,val,test}/<class>/`."""
    for seed, (split, per_class) in enumerate(TINY.items()):
        for name in WORLDS["things"].classes:
            folder = root / split / name
            folder.mkdir(parents=True, exist_ok=True)
            for i in range(per_class):
                picture("things", name, seed, i).save(folder / f"{name}-{i:02}.png", optimize=True)


if __name__ == "__main__":
    write_tiny(Path(__file__).resolve().parent.parent / "data" / "tiny")
