"""Two more worlds of 64×64 pictures, for the question how far weights made on `shapes` reach.

`SPECTRA` looks far: time runs to the right, pitch upwards, and a class is a kind of sound. No figure of the source world looks
like it. `TINTS` looks near: the figures of `shapes` on grey ground. But its class is the hue, and hues are what the source
world draws at random for every class, so that its weights have learnt to ignore them.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageChops

from course_utils.worlds import FINE, OUTLINES, SIZE, TEXTURES, Canvas, World, colour

# --------------------------------------------------------------------------------------------------------- spectra


def track(rng: Generator, pitch: np.ndarray, width: float) -> np.ndarray:
    """How loud each place is, 0 … 1, for a tone whose pitch (0 … 1) runs through `pitch` from left to right."""
    height = np.linspace(1, 0, SIZE)[:, None]
    return rng.uniform(0.6, 1) * np.exp(-(((height - pitch[None]) / width) ** 2))


def hum(rng: Generator, time: np.ndarray) -> np.ndarray:
    """A tone that stays, with overtones."""
    base, width = rng.uniform(0.1, 0.3), rng.uniform(0.015, 0.03)
    count = int(rng.integers(2, 5))
    return sum((track(rng, np.full(SIZE, base * (k + 1)), width) for k in range(count)), np.zeros((SIZE, SIZE)))


def rise(rng: Generator, time: np.ndarray) -> np.ndarray:
    """A tone that climbs."""
    begin, climb = rng.uniform(0.05, 0.6), rng.uniform(0.2, 0.6)
    return track(rng, begin + climb * time ** rng.uniform(0.6, 1.8), rng.uniform(0.015, 0.04))


def fall(rng: Generator, time: np.ndarray) -> np.ndarray:
    """A tone that sinks."""
    return rise(rng, 1 - time)


def wobble(rng: Generator, time: np.ndarray) -> np.ndarray:
    """A tone that goes up and down."""
    middle, swing, turns = rng.uniform(0.3, 0.7), rng.uniform(0.05, 0.18), rng.uniform(1, 3)
    return track(rng, middle + swing * np.sin(2 * np.pi * (turns * time + rng.random())), rng.uniform(0.02, 0.045))


def pulses(rng: Generator, time: np.ndarray) -> np.ndarray:
    """Short knocks, each over many pitches."""
    beat = np.cos(np.pi * (rng.uniform(3, 7) * time + rng.random())) ** 2
    low, high = rng.uniform(0, 0.3), rng.uniform(0.6, 1)
    height = np.linspace(1, 0, SIZE)[:, None]
    return rng.uniform(0.7, 1) * (beat[None] ** 12) * ((height > low) & (height < high))


def hiss(rng: Generator, time: np.ndarray) -> np.ndarray:
    """Noise within a band of pitches."""
    height = np.linspace(1, 0, SIZE)[:, None]
    band = np.exp(-(((height - rng.uniform(0.3, 0.7)) / rng.uniform(0.12, 0.3)) ** 2))
    return rng.uniform(0.6, 1) * band * rng.random((SIZE, SIZE))


SOUNDS: dict[str, Callable[[Generator, np.ndarray], np.ndarray]] = {
    "fall": fall,
    "hiss": hiss,
    "hum": hum,
    "pulses": pulses,
    "rise": rise,
    "wobble": wobble,
}


def draw_spectrum(name: str, rng: Generator, difficulty: float) -> Image.Image:
    """One picture of `SPECTRA`: loudness by time and pitch, from a dark colour to a bright one; a faint sound in much noise."""
    time = np.linspace(0, 1, SIZE)
    lasts = rng.uniform(0.4, 0.9)
    begin = rng.uniform(0, 1 - lasts)
    sound = SOUNDS[name](rng, np.clip((time - begin) / lasts, 0, 1)) * ((time >= begin) & (time <= begin + lasts))[None]
    noise = difficulty * rng.uniform(0.2, 0.45) * rng.random((SIZE, SIZE))
    loud = np.clip(rng.uniform(0.4, 0.8) * sound + noise, 0, 1)[..., None]
    dark, bright = colour(rng, (0.05, 0.3), (0.2, 1)), colour(rng, (0.55, 0.95), (0.2, 1))
    return finished(Image.fromarray(((1 - loud) * dark + loud * bright).astype(np.uint8)), rng, difficulty)


def finished(image: Image.Image, rng: Generator, difficulty: float) -> Image.Image:
    grain = rng.normal(0, rng.uniform(1, 4) * difficulty, (SIZE, SIZE, 1))
    return Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))


# ----------------------------------------------------------------------------------------------------------- tints

HUES = {"blue": 0.62, "green": 0.36, "orange": 0.08, "purple": 0.78, "red": 0.97, "yellow": 0.155}


def draw_tint(name: str, rng: Generator, difficulty: float) -> Image.Image:
    """One picture of `TINTS`: any figure of `shapes`, of which the class is the hue; the ground and its clutter are grey."""

    def grey() -> tuple[int, int, int]:
        return (int(rng.uniform(40, 215)),) * 3

    low, high = sorted(rng.uniform(30, 160, 2))
    y, x = np.mgrid[-1 : 1 : SIZE * FINE * 1j, -1 : 1 : SIZE * FINE * 1j]
    turn = rng.uniform(0, 2 * np.pi)
    blend = np.clip(0.5 + 0.4 * (x * np.cos(turn) + y * np.sin(turn)), 0, 1)
    ground = Image.fromarray((low + (high - low) * blend).astype(np.uint8)).convert("RGB")
    for kind in ["grey"] * int(rng.poisson(2 * difficulty)) + ["tinted"]:
        small = kind == "grey"
        canvas = Canvas(
            ground,
            angle=rng.uniform(0, 2 * np.pi),
            scale=rng.uniform(0.2, 0.4) if small else rng.uniform(0.42, 0.8),
            shift=tuple(rng.uniform(-0.7, 0.7, 2) if small else rng.uniform(-0.2, 0.2, 2)),
            mirror=False,
        )
        mask = canvas.mask(*OUTLINES[str(rng.choice(sorted(OUTLINES)))])
        ground.paste(grey() if small else hued(name, rng), mask=mask)
        pattern = TEXTURES[str(rng.choice(sorted(TEXTURES)))]
        if pattern and not small:
            ground.paste(grey(), mask=ImageChops.multiply(mask, pattern(rng, ground.width)))
    return canvas.finish(rng, noise=rng.uniform(1, 4) * difficulty)


def hued(name: str, rng: Generator) -> tuple[int, int, int]:
    """A colour of that hue, bright or dark, vivid or pale."""
    hue = (HUES[name] + rng.normal(0, 0.012)) % 1
    r, g, b = colorsys.hls_to_rgb(hue, rng.uniform(0.35, 0.7), rng.uniform(0.5, 0.95))
    return round(255 * r), round(255 * g), round(255 * b)


SPECTRA = World("spectra", tuple(sorted(SOUNDS)), draw_spectrum)
TINTS = World("tints", tuple(sorted(HUES)), draw_tint)
