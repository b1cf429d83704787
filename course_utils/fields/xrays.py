"""Drawn chest X-rays: patients who are ill or well, several pictures of each, two hospitals, and a scanner with a mark.

All of it is drawn. Who is ill has a lesion, a soft round shade in a lung: small and faint, but there. The hospitals differ in
one thing. Every scanner keeps a corner dark for writing, and one prints a mark there. In A that one stands on the ward of the
ill, so most of their pictures carry the mark and few of the others do. In B both scanners are used for everybody.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator

SIZE = 64
EACH = 4  # pictures of each patient
MARK_CHANCE = {"A": (0.1, 0.9), "B": (0.5, 0.5)}  # by hospital: how likely a picture of a well, of an ill patient has the mark
PLATE = (slice(0, 12), slice(48, 64))  # the rows and columns kept dark, in which the mark lies
LETTERS = (  # "AP", what portable scanners print
    "..##...#####.",
    ".#..#..#....#",
    "#....#.#....#",
    "#....#.#####.",
    "######.#.....",
    "#....#.#.....",
    "#....#.#.....",
)


class XRays(NamedTuple):
    """Pictures with what is known of each; row `i` of all belongs together."""

    images: np.ndarray  # (count, 64, 64, 3), 8 bits, three equal channels
    labels: np.ndarray  # (count,), 0 well, 1 ill; belongs to the patient
    patients: np.ndarray  # (count,), the number of the patient
    hospitals: np.ndarray  # (count,), "A" or "B"
    marked: np.ndarray  # (count,), whether the scanner with the mark was used
    lesions: np.ndarray  # (count, 2), row and column of the lesion's middle; not a number where there is none


def xrays(patients: Mapping[str, int], *, seed: int, each: int = EACH) -> XRays:
    """So many patients of each hospital, half of them ill, with `each` pictures of everyone; in order of the patients.

    Args:
        patients: by hospital, "A" or "B", the number of patients.

    Raises:
        ValueError: for another hospital.
    """
    if unknown := set(patients) - set(MARK_CHANCE):
        raise ValueError(f"there is no hospital {min(unknown)!r}; the hospitals are 'A' and 'B'")
    rows: list[tuple] = []
    for hospital, count in patients.items():
        for number in range(count):
            rng = np.random.default_rng([seed, ord(hospital), number])
            patient, ill = anatomy(rng), number % 2
            for _ in range(each):
                marked = bool(rng.random() < MARK_CHANCE[hospital][ill])
                image, lesion = take(patient, ill, marked, rng)
                rows.append((image, ill, (hospital, number), hospital, marked, lesion))
    images, labels, names, hospitals, marks, lesions = zip(*rows, strict=True)
    ids = {name: place for place, name in enumerate(dict.fromkeys(names))}
    return XRays(*map(np.array, (images, labels, [ids[name] for name in names], hospitals, marks, lesions)))


# ------------------------------------------------------------------------------------------------------ a patient

Patient = dict[str, Any]


def anatomy(rng: Generator) -> Patient:
    """What is the same in all pictures of a patient; lengths in half pictures, so that the picture spans -1 … 1."""
    patient = {
        "width": rng.uniform(0.78, 0.95),  # of the chest
        "lungs": rng.uniform((0.3, 0.5), (0.37, 0.64), (2, 2)),  # half width and half height of each
        "apart": rng.uniform(0.4, 0.5),
        "heart": rng.uniform((0.08, 0.22, 0.2), (0.2, 0.34, 0.34)),  # how far to the side, half width, half height
        "ribs": rng.uniform((0.19, 0, 0.15, 0.05), (0.26, 1, 0.5, 0.1)),  # distance, phase, bend, how bright
        "spine": rng.uniform((0.07, 0.06), (0.12, 0.14)),  # half width, how bright
        "collar": rng.uniform((-0.78, -0.3), (-0.62, 0.1)),  # height and slope of the collar bones
        "vessels": rng.normal(0, 1, (9, 9)),  # a coarse pattern of the lungs
        "shade": rng.uniform((0.09, 0.24), (0.13, 0.34)),  # radius, how bright
    }
    places = [(side, *rng.uniform((-0.55, -0.6), (0.55, 0.6))) for side in rng.choice([-1, 1], 20)]
    clear = [place for place in places if heart_of(patient, *lesion_of(patient, place)) < 0.05]
    return patient | {"lesion": (clear or places)[0]}  # which lung, and where in it: not in front of the heart


def take(patient: Patient, ill: int, marked: bool, rng: Generator) -> tuple[np.ndarray, tuple[float, float]]:
    """One picture (64, 64, 3) of a patient, in a pose and with an exposure of its own, and where the lesion lies."""
    turn, scale = rng.normal(0, 0.035), rng.uniform(0.93, 1.05)
    shift, breath = rng.normal(0, 0.04, 2), rng.uniform(0.92, 1.05)
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    c, s = np.cos(turn) / scale, np.sin(turn) / scale
    u, v = c * (x - shift[0]) + s * (y - shift[1]), c * (y - shift[1]) - s * (x - shift[0])
    picture, place = chest(patient, u, v / breath), (np.nan, np.nan)
    if ill:
        a, b = lesion_of(patient, patient["lesion"])
        picture = picture + patient["shade"][1] * np.exp(-((u - a) ** 2 + (v / breath - b) ** 2) / patient["shade"][0] ** 2)
        nearest = int(np.argmin((u - a) ** 2 + (v / breath - b) ** 2))
        place = (float(nearest // SIZE), float(nearest % SIZE))
    picture = rng.uniform(0.9, 1.1) * picture ** rng.uniform(0.9, 1.12) + rng.uniform(-0.03, 0.03)
    picture = picture + rng.normal(0, rng.uniform(0.015, 0.03), picture.shape)
    picture[PLATE] = rng.normal(0.03, 0.015, picture[PLATE].shape)
    if marked:
        print_mark(picture, rng)
    grey = (255 * np.clip(picture, 0, 1)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2), place


def print_mark(picture: np.ndarray, rng: Generator) -> None:
    """The letters of the scanner on the dark plate, not always in the same place."""
    letters = np.array([[sign == "#" for sign in line] for line in LETTERS])
    rows, columns = PLATE
    top = rng.integers(rows.start + 1, rows.stop - len(letters))
    left = rng.integers(columns.start + 1, columns.stop - letters.shape[1])
    place = picture[top : top + letters.shape[0], left : left + letters.shape[1]]
    place[letters] = rng.uniform(0.85, 1)


# ------------------------------------------------------------------------------------------------------- a chest


def inside(u: np.ndarray, v: np.ndarray, middle: tuple[float, float], half: Any, soft: float = 0.12) -> np.ndarray:
    """1 inside an ellipse, 0 outside, with a soft edge."""
    radius = np.sqrt(((u - middle[0]) / half[0]) ** 2 + ((v - middle[1]) / half[1]) ** 2)
    return 1 / (1 + np.exp(np.clip((radius - 1) / soft, -30, 30)))


def lung(patient: Patient, side: float) -> tuple[tuple[float, float], np.ndarray]:
    """Middle and half axes of the lung on that side, -1 left in the picture, 1 right."""
    half = patient["lungs"][int(side > 0)]
    return (side * patient["apart"], -0.08), half


def lesion_of(patient: Patient, place: tuple[float, float, float]) -> tuple[float, float]:
    """Where a lesion lies: `place` is the lung, and how far across and along it."""
    side, across, along = place
    middle, half = lung(patient, side)
    return middle[0] + across * half[0], middle[1] + along * half[1]


def heart_of(patient: Patient, u: Any, v: Any) -> Any:
    """1 in front of the heart, 0 elsewhere, with a soft edge."""
    to_side, wide, high = patient["heart"]
    return inside(u, v, (to_side, 0.28), (wide, high))


def chest(patient: Patient, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """How bright each place is, about 0 … 1: bones and heart bright, air dark."""
    shoulders = ((u / patient["width"]) ** 4 + (np.minimum(v, 0) / 0.95) ** 4) ** 0.25
    neck = np.maximum(np.abs(u) / 0.24, (v + 0.5) / 0.4)
    body = 1 / (1 + np.exp(np.clip((np.minimum(shoulders, neck) - 1) / 0.03, -30, 30)))
    air = np.maximum(*(inside(u, v, *lung(patient, side)) for side in (-1, 1)))
    heart = heart_of(patient, u, v)
    air = air * (1 - 0.9 * heart)
    distance, phase, bend, bright = patient["ribs"]
    waves = np.cos(np.pi * ((v - bend * u**2) / distance + phase)) ** 6
    ribs = bright * waves * inside(u, v, (0, -0.1), (0.95 * patient["width"], 0.85))
    half, shine = patient["spine"]
    spine = shine * np.exp(-((u / half) ** 4))
    height, slope = patient["collar"]
    collar = 0.12 * np.exp(-(((v - height - slope * np.abs(u) * 0.4) / 0.05) ** 2)) * (np.abs(u) > 0.12)
    vessels = 0.035 * smooth(patient["vessels"], u, v)
    return body * (0.62 - 0.38 * air + ribs + spine + collar + air * vessels + 0.08 * heart)


def smooth(grid: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The values of a coarse grid over -1 … 1 at the places (u, v), blended from the four around each."""
    top = len(grid) - 1
    a, b = (np.clip((one + 1) / 2 * top, 0, top - 1e-6) for one in (v, u))
    i, j = a.astype(int), b.astype(int)
    p, q = a - i, b - j
    upper, lower = ((1 - q) * grid[k, j] + q * grid[k, j + 1] for k in (i, i + 1))
    return (1 - p) * upper + p * lower
