"""Drawn faces for the question which mood is shown: every subject has a face and a way of showing moods of its own.

A face is drawn from six numbers, such as how far the corners of the mouth are pulled up. A mood is a change of these numbers.
A subject shows it with more or less strength, by some numbers more than by others, on top of a resting face, and shows some
moods more often than others. Few subjects have a beard. Five annotators look at each picture. Each sees the six numbers
with some noise and leans towards some moods, so they disagree, and most where a mood is faint or a beard covers the mouth.
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw

from course_utils.worlds import FINE, SIZE, Canvas, Colour, box, colour, ellipse

MOODS = ("angry", "happy", "sad", "surprised")
GROUPS = {"no beard": 40, "beard": 10}  # subjects of each: as they came, not as one would choose them
PER_SUBJECT = 16  # pictures

# How each mood changes a face. 0 is at rest; up, wide and open are positive.
SIGNS = ("corners", "mouth open", "mouth wide", "brows inside", "brows outside", "eyes open")
SHOWN = {
    "angry": (-0.45, -0.1, 0.0, -0.9, 0.35, -0.1),
    "happy": (1.0, 0.35, 0.4, 0.1, 0.1, -0.35),
    "sad": (-0.9, 0.0, -0.15, 0.8, -0.5, -0.35),
    "surprised": (0.0, 1.0, -0.5, 0.75, 0.75, 0.8),
}
UNDER_A_BEARD = ("corners", "mouth open", "mouth wide")


@dataclass(frozen=True, kw_only=True)
class Faces:
    """Pictures of faces with what is known about each; the five label columns are those of five annotators.

    `images` (n, 64, 64, 3), uint8; `moods` (n,), what was drawn, which nobody in the field would know; `annotations` (n, 5);
    `subjects` (n,), who it is; `groups` (n,), names such as "beard". Moods are numbers of `MOODS`.
    """

    images: np.ndarray
    moods: np.ndarray
    annotations: np.ndarray
    subjects: np.ndarray
    groups: np.ndarray


# -------------------------------------------------------------------------------------------------------- subjects


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One made-up person: how the face looks, what it does at rest, and how it shows a mood."""

    group: str
    skin: Colour
    hair: Colour
    shirt: Colour
    wall: tuple[Colour, Colour]
    width: float  # of the face, in drawing coordinates, where the picture is about 2 wide
    length: float
    eyes: float  # how far from the middle
    mouth: float  # how wide
    glasses: bool
    long_hair: bool
    rest: np.ndarray  # (6,), added to each sign
    ways: np.ndarray  # (6,), by which each sign is multiplied
    strength: float
    habits: np.ndarray  # (4,), how often each mood is shown


def subject(rng: Generator, group: str) -> Subject:
    deep = rng.random()  # of the skin, from light to dark
    skin = hls(rng, 0.06, 0.82 - 0.5 * deep, 0.45)
    return Subject(
        group=group,
        skin=skin,
        hair=hls(
            rng, rng.choice([0.05, 0.08, 0.11, 0.6]), rng.uniform(0.08, 0.2 if deep > 0.6 else 0.55), rng.uniform(0.05, 0.5)
        ),
        shirt=colour(rng, (0.25, 0.7), (0.2, 0.8)),
        wall=(colour(rng, (0.3, 0.8), (0.05, 0.4)), colour(rng, (0.3, 0.8), (0.05, 0.4))),
        width=rng.uniform(0.5, 0.64),
        length=rng.uniform(0.68, 0.8),
        eyes=rng.uniform(0.21, 0.27),
        mouth=rng.uniform(0.17, 0.24),
        glasses=rng.random() < 0.25,
        long_hair=rng.random() < 0.5,
        rest=rng.normal(0, 0.3, len(SIGNS)),
        ways=rng.uniform(0.4, 1.3, len(SIGNS)),
        strength=rng.uniform(0.7, 1.2),
        habits=rng.permutation([0.5, 0.25, 0.15, 0.1]),
    )


def hls(rng: Generator, hue: float, lightness: float, vividness: float) -> Colour:
    r, g, b = colorsys.hls_to_rgb((hue + rng.normal(0, 0.008)) % 1, lightness, vividness)
    return round(255 * r), round(255 * g), round(255 * b)


def darker(rgb: Colour, factor: float) -> Colour:
    r, g, b = (min(255, round(factor * value)) for value in rgb)
    return r, g, b


# --------------------------------------------------------------------------------------------------------- drawing


def draw_face(one: Subject, signs: np.ndarray, rng: Generator) -> np.ndarray:
    """One picture of a subject that shows `signs` (6,): uint8 (64, 64, 3)."""
    shade = np.linspace(0, 1, 16)[None, :, None]
    wall = ((1 - shade) * one.wall[0] + shade * one.wall[1]) * np.ones((16, 16, 1))
    image = Image.fromarray(wall.astype(np.uint8)).resize((SIZE * FINE, SIZE * FINE), Image.Resampling.BILINEAR)
    canvas = Canvas(
        image, angle=rng.normal(0, 0.05), scale=rng.uniform(1.18, 1.3), shift=tuple(rng.normal(0, 0.03, 2)), mirror=False
    )
    paint_head(canvas, one)
    paint_eyes(canvas, one, signs)
    paint_mouth(canvas, one, signs)
    light = rng.uniform(0.85, 1.12)
    return np.clip(np.asarray(canvas.finish(rng, noise=3), dtype=np.float32) * light, 0, 255).astype(np.uint8)


def paint_head(canvas: Canvas, one: Subject) -> None:
    if one.long_hair:
        canvas.polygon(ellipse(0, 0.05, one.width + 0.15, one.length + 0.12), one.hair)
    canvas.polygon(ellipse(0, 1.25, 0.95, 0.5), one.shirt)
    canvas.polygon(box(-0.2, 0.5, 0.2, 0.95), darker(one.skin, 0.85))
    canvas.polygon(ellipse(0, -0.1, one.width + 0.06, one.length + 0.02), one.hair)
    face = ellipse(0, 0, one.width, one.length)
    canvas.polygon(face[(face[:, 1] > -0.48)], one.skin)
    if one.group == "beard":
        beard = ellipse(0, 0, one.width + 0.02, one.length + 0.06)
        canvas.polygon(beard[beard[:, 1] > 0.12], one.hair)
        canvas.polygon(ellipse(0, 0.05, one.width * 0.72, 0.2), one.skin)
    canvas.polygon(np.array([(-0.02, 0.0), (0.05, 0.17), (-0.05, 0.17)]), darker(one.skin, 0.8))


def paint_eyes(canvas: Canvas, one: Subject, signs: np.ndarray) -> None:
    inside, outside, wide = signs[3], signs[4], signs[5]
    height = 0.075 * float(np.clip(1 + 0.75 * wide, 0.3, 2))
    for side in (-1, 1):
        x = side * one.eyes
        canvas.polygon(ellipse(x, -0.1, 0.115, height), (245, 245, 240))
        canvas.polygon(ellipse(x, -0.1, 0.05, min(0.06, height)), (40, 30, 25))
        if one.glasses:
            ring(canvas, ellipse(x, -0.09, 0.19, 0.16), (30, 30, 35))
        ends = np.array(
            [
                (x - side * 0.12, -0.27 - 0.1 * inside),
                (x, -0.3 - 0.05 * (inside + outside)),
                (x + side * 0.13, -0.27 - 0.1 * outside),
            ]
        )
        stroke(canvas, ends, 0.045, darker(one.hair, 0.8))


def paint_mouth(canvas: Canvas, one: Subject, signs: np.ndarray) -> None:
    corners, gape, wide = signs[0], max(0.0, signs[1]), signs[2]
    half = one.mouth * (1 + 0.5 * wide)
    x = np.linspace(-1, 1, 13)
    bend = 0.12 * corners * (0.5 - x**2)  # corners up, middle down
    open_by = 0.15 * gape * (1 - x**2)
    upper = np.stack([half * x, 0.38 + bend - 0.3 * open_by - 0.02], 1)
    lower = np.stack([half * x, 0.38 + bend + 0.7 * open_by + 0.02], 1)
    canvas.polygon(np.concatenate([upper, lower[::-1]]), (70, 20, 25))
    lips = (darker(one.skin, 0.62)[0], *darker(one.skin, 0.5)[1:])
    stroke(canvas, upper, 0.03, lips)
    stroke(canvas, lower, 0.04, lips)
    if one.group == "beard":  # the moustache lies over the corners and the upper lip
        y = 0.3
        canvas.polygon(
            np.array([(0, y - 0.09), (0.3, y + 0.02), (0.26, y + 0.08), (0, y + 0.02), (-0.26, y + 0.08), (-0.3, y + 0.02)]),
            one.hair,
        )


def stroke(canvas: Canvas, points: np.ndarray, width: float, fill: Colour) -> None:
    thick = max(1, round(width * np.hypot(*canvas.matrix[0])))
    ImageDraw.Draw(canvas.image).line(canvas.place(points), fill=fill, width=thick, joint="curve")


def ring(canvas: Canvas, points: np.ndarray, fill: Colour) -> None:
    stroke(canvas, np.concatenate([points, points[:2]]), 0.03, fill)


# ------------------------------------------------------------------------------------------------------ annotators

ANNOTATORS = 5
NOISE = 0.25  # with which an annotator sees each sign


def annotate(signs: np.ndarray, groups: np.ndarray, rng: Generator) -> np.ndarray:
    """What five annotators call pictures that show `signs` (n, 6): numbers of `MOODS`, (n, 5)."""
    ideal = np.array([SHOWN[mood] for mood in MOODS])
    hidden = (groups == "beard")[:, None] & np.isin(SIGNS, UNDER_A_BEARD)[None]
    labels = []
    for _ in range(ANNOTATORS):
        bias = rng.normal(0, 0.2, len(MOODS))
        seen = signs + rng.normal(0, NOISE * rng.uniform(0.7, 1.3), signs.shape) * np.where(hidden, 1.4, 1)
        labels.append((seen @ ideal.T - 0.4 * (ideal**2).sum(1) + bias).argmax(1))
    return np.stack(labels, 1)


# ------------------------------------------------------------------------------------------------------- data sets


def faces(seed: int = 0, groups: Mapping[str, int] = GROUPS, per_subject: int = PER_SUBJECT) -> Faces:
    """Pictures of so many subjects of each group: the same for the same arguments."""
    rng = np.random.default_rng(seed)
    names = [name for name, count in groups.items() for _ in range(count)]
    people = [subject(rng, name) for name in rng.permutation(names)]
    moods = np.concatenate([rng.choice(len(MOODS), per_subject, p=one.habits) for one in people])
    who = np.repeat(np.arange(len(people)), per_subject)
    ideal = np.array([SHOWN[mood] for mood in MOODS])
    strengths = np.array([one.strength for one in people])[who] * rng.uniform(0.4, 1, len(who))
    ways, rest = (np.stack([getattr(one, name) for one in people])[who] for name in ("ways", "rest"))
    signs = rest + ways * strengths[:, None] * ideal[moods] + rng.normal(0, 0.08, (len(who), len(SIGNS)))
    named = np.array([one.group for one in people])[who]
    return Faces(
        images=np.stack([draw_face(people[number], row, rng) for number, row in zip(who, signs, strict=True)]),
        moods=moods,
        annotations=annotate(signs, named, rng),
        subjects=who,
        groups=named,
    )


def majority(annotations: np.ndarray) -> np.ndarray:
    """The label (n,) that most of the annotators (n, 5) gave; of two that are level, that of the annotator further left."""
    votes = (annotations[:, :, None] == annotations[:, None]).sum(2)  # for each annotator, how many said the same
    return annotations[np.arange(len(annotations)), votes.argmax(1)]


def agreement(annotations: np.ndarray) -> np.ndarray:
    """How far annotators agree with the majority of the other four, picture by picture: (n,), 0 to 1, their mean.

    Where two labels of the other four are level, naming one of them counts as one half.
    """
    shares = []
    for place in range(annotations.shape[1]):
        others = np.delete(annotations, place, 1)
        votes = (others[:, :, None] == np.arange(len(MOODS))).sum(1)
        top = votes == votes.max(1, keepdims=True)
        shares.append(top[np.arange(len(top)), annotations[:, place]] / top.sum(1))
    return np.mean(shares, 0)
