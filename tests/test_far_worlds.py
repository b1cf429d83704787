"""The two far worlds: a function of their seed, and still the ones on which the tables of lesson 09 were made."""

from __future__ import annotations

import colorsys
import hashlib
from importlib.metadata import version

import numpy as np
import pytest

from course_utils.far_worlds import HUES, SPECTRA, TINTS
from course_utils.profiles import HOME
from course_utils.worlds import picture, pictures

WORLDS = [SPECTRA, TINTS]


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_same_seed_same_picture(world):
    for name in world.classes:
        first, again = picture(world, name, 3, 1), picture(world, name, 3, 1)
        assert first.tobytes() == again.tobytes()
        assert (first.mode, first.size) == ("RGB", (64, 64))
        assert first.tobytes() != picture(world, name, 3, 2).tobytes()
        assert first.tobytes() != picture(world, name, 4, 1).tobytes()


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_every_class_can_be_drawn_in_any_difficulty(world):
    for name in world.classes:
        for difficulty in (0.0, 1.0, 3.0):
            assert np.asarray(picture(world, name, 5, difficulty=difficulty)).std() > 2, "a picture shows something"


def test_six_classes_each():
    assert SPECTRA.classes == ("fall", "hiss", "hum", "pulses", "rise", "wobble")
    assert TINTS.classes == ("blue", "green", "orange", "purple", "red", "yellow")
    with pytest.raises(ValueError, match="no class of 'tints' named 'pink'"):
        picture(TINTS, "pink", 0)


def test_only_the_hue_tells_the_class_of_a_tint():
    """The coloured pixels have the hue of the class, and all else is grey."""
    for name in TINTS.classes:
        pixels = np.asarray(picture(TINTS, name, 1, difficulty=0.0)).reshape(-1, 3) / 255
        spread = pixels.max(1) - pixels.min(1)
        hues = np.array([colorsys.rgb_to_hls(*rgb)[0] for rgb in pixels[spread > 0.15]])
        assert len(hues) > 50
        away = np.abs((hues - HUES[name] + 0.5) % 1 - 0.5)
        assert away.max() < 0.06
        assert pixels[spread > 0.02].shape[0] < 0.7 * len(pixels)


PINNED = {line.split("==")[0]: line.split("==")[1] for line in (HOME / "requirements.txt").read_text().split() if "==" in line}


@pytest.mark.skipif(
    any(version(name) != PINNED[name] for name in ("pillow", "numpy")), reason="another Pillow or numpy may round differently"
)
@pytest.mark.parametrize(
    ("world", "digest"), [(SPECTRA, "7022bcca6cd87d81"), (TINTS, "a1760884d2a6ee07")], ids=["spectra", "tints"]
)
def test_drawings_are_what_they_were(world, digest):
    assert hashlib.sha256(pictures(world, 2, seed=1_000)[0].tobytes()).hexdigest()[:16] == digest
