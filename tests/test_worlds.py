"""Pictures: a function of their seed, and still the ones on which the weights were trained."""

from __future__ import annotations

import hashlib
from importlib.metadata import version

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_utils.images import read_picture
from course_utils.profiles import HOME
from course_utils.worlds import TINY, WORLDS, picture, pictures, write_tiny

classes = st.sampled_from([(world.name, name) for world in WORLDS.values() for name in world.classes])
seeds = st.integers(0, 2**32 - 1)


@given(classes, seeds, st.integers(0, 10_000))
def test_same_seed_same_picture(place, seed, index):
    first, again = picture(*place, seed, index), picture(*place, seed, index)
    assert first.tobytes() == again.tobytes()
    assert (first.mode, first.size) == ("RGB", (64, 64))
    assert first.tobytes() != picture(*place, seed, index + 1).tobytes()
    assert first.tobytes() != picture(*place, seed + 1, index).tobytes()


@given(seeds)
def test_pictures_do_not_depend_on_the_random_numbers_around_them(seed):
    np.random.seed(seed)
    before = np.random.get_state()[1].tolist()
    assert picture("things", "car", 3).tobytes() == picture("things", "car", 3).tobytes()
    assert np.random.get_state()[1].tolist() == before


@pytest.mark.parametrize("world", WORLDS)
def test_every_class_can_be_drawn_in_any_difficulty(world):
    for name in WORLDS[world].classes:
        for difficulty in (0.0, 1.0, 3.0):
            assert np.asarray(picture(world, name, 5, difficulty=difficulty)).std() > 2, "a picture shows something"


def test_the_classes_of_the_two_worlds():
    assert len(WORLDS["shapes"].classes) == 24
    assert WORLDS["things"].classes == ("boat", "car", "fish", "flower", "house", "tree")


def test_pictures_are_ordered_by_class():
    images, labels = pictures("things", 2, seed=4)
    assert (images.shape, images.dtype) == ((12, 64, 64, 3), np.uint8)
    assert labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert np.array_equal(images[3], np.asarray(picture("things", "car", 4, 1)))


def test_more_pictures_begin_with_the_same_ones():
    few, _ = pictures("things", 1, seed=4)
    many, _ = pictures("things", 3, seed=4)
    assert np.array_equal(few, many[::3])


def test_unknown_names():
    with pytest.raises(ValueError, match=r"no world named 'thing'; choose from \['shapes', 'things'\] \(did you mean 'things'"):
        pictures("thing", 1)
    with pytest.raises(ValueError, match=r"no class of 'things' named 'bat'.*did you mean 'boat'"):
        picture("things", "bat", 0)


# What the weights were trained on, and what data/tiny holds: drawings must not change by a pixel. Another Pillow or numpy
# may round differently, so the exact comparison is made with the pinned ones.
PINNED = {line.split("==")[0]: line.split("==")[1] for line in (HOME / "requirements.txt").read_text().split() if "==" in line}
exactly = pytest.mark.skipif(
    any(version(name) != PINNED[name] for name in ("pillow", "numpy")), reason="another Pillow or numpy may round differently"
)


@exactly
@pytest.mark.parametrize(("world", "digest"), [("shapes", "e0e368b68672a0f4"), ("things", "e211ee386eec78a4")])
def test_drawings_are_what_they_were(world, digest):
    assert hashlib.sha256(pictures(world, 2, seed=1_000)[0].tobytes()).hexdigest()[:16] == digest


@pytest.fixture(scope="module")
def drawn_anew(tmp_path_factory):
    root = tmp_path_factory.mktemp("tiny")
    write_tiny(root)
    return root


def test_the_committed_pictures_are_these_drawings(drawn_anew):
    committed = HOME / "data" / "tiny"
    names = sorted(path.relative_to(drawn_anew) for path in drawn_anew.rglob("*.png"))
    assert names == sorted(path.relative_to(committed) for path in committed.rglob("*.png"))
    assert len(names) == 6 * sum(TINY.values())
    for name in names:
        ours, theirs = (np.asarray(read_picture(root / name), dtype=int) for root in (drawn_anew, committed))
        assert ours.shape == theirs.shape == (64, 64, 3)
        assert np.abs(ours - theirs).mean() < 2, f"{name} is not what worlds.py draws"


@exactly
def test_the_committed_pictures_are_these_drawings_to_the_pixel(drawn_anew):
    for path in drawn_anew.rglob("*.png"):
        theirs = HOME / "data" / "tiny" / path.relative_to(drawn_anew)
        assert read_picture(path).tobytes() == read_picture(theirs).tobytes(), path.name


def test_the_committed_pictures_are_small():
    committed = HOME / "data" / "tiny"
    assert sum(path.stat().st_size for path in committed.rglob("*") if path.is_file()) <= 3_000_000
    assert {path.suffix for path in committed.rglob("*") if path.is_file()} == {".png"}
