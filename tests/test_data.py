"""Pictures from folders: any file format gives the right pixels, any bad folder the right words."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from course_utils.data import divide, first_per_class, open_data, read_picture
from course_utils.profiles import HOME, settings

# -------------------------------------------------------------------------------------------------------- one file


def save(path: Path, image: Image.Image, **options) -> Path:
    image.save(path, **options)
    return path


def pixel(path: Path, at: tuple[int, int] = (0, 0)) -> tuple[int, ...]:
    image = read_picture(path)
    assert image.mode == "RGB"
    return image.getpixel(at)


def test_grey_becomes_three_equal_channels(tmp_path):
    assert pixel(save(tmp_path / "a.png", Image.new("L", (3, 2), 77))) == (77, 77, 77)


def test_black_and_white(tmp_path):
    assert pixel(save(tmp_path / "a.png", Image.new("1", (3, 2), 1))) == (255, 255, 255)


@pytest.mark.parametrize(
    ("mode", "colour", "seen"),
    [
        ("RGBA", (200, 100, 0, 255), (200, 100, 0)),
        ("RGBA", (200, 100, 0, 0), (255, 255, 255)),
        ("RGBA", (200, 100, 0, 51), (244, 224, 204)),
        ("LA", (100, 255), (100, 100, 100)),
        ("LA", (100, 0), (255, 255, 255)),
    ],
)
def test_transparent_parts_become_white(tmp_path, mode, colour, seen):
    assert pixel(save(tmp_path / "a.png", Image.new(mode, (3, 2), colour))) == pytest.approx(seen, abs=1)


@pytest.mark.parametrize("suffix", [".png", ".gif"])
def test_a_palette_with_a_transparent_colour(tmp_path, suffix):
    image = Image.new("P", (2, 1), 0)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    path = save(tmp_path / f"a{suffix}", image, transparency=1)
    assert pixel(path) == (10, 20, 30)
    assert pixel(path, (1, 0)) == (255, 255, 255)


@pytest.mark.parametrize(("mode", "colour", "key"), [("L", 9, 9), ("RGB", (9, 8, 7), (9, 8, 7))])
def test_a_transparent_colour_without_a_palette(tmp_path, mode, colour, key):
    assert pixel(save(tmp_path / "a.png", Image.new(mode, (2, 2), colour), transparency=key)) == (255, 255, 255)


def test_cmyk(tmp_path):
    path = save(tmp_path / "a.jpg", Image.new("CMYK", (8, 8), (0, 255, 255, 0)), quality=100)
    assert pixel(path) == pytest.approx((255, 0, 0), abs=3)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(("value", "seen"), [(0, 0), (257, 1), (32896, 128), (65535, 255)])
def test_sixteen_bits_keep_their_brightness(tmp_path, suffix, value, seen):
    path = save(tmp_path / f"a{suffix}", Image.fromarray(np.full((2, 3), value, np.uint16)))
    assert pixel(path) == (seen, seen, seen)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_stand_upright_as_their_exif_says(tmp_path, orientation):
    """The same scene, stored in each of the eight ways a camera may hold it."""
    scene = Image.new("RGB", (24, 16), "black")
    scene.paste("red", (0, 0, 8, 8))  # the upper left corner
    undo = {2: [0], 3: [3], 4: [1], 5: [5], 6: [2], 7: [6], 8: [4]}  # methods of Image.transpose
    stored = scene
    for method in undo.get(orientation, []):
        stored = stored.transpose(Image.Transpose(method))
    exif = Image.Exif()
    exif[274] = orientation
    image = read_picture(save(tmp_path / "a.png", stored, exif=exif))
    assert image.size == (24, 16)
    assert image.getpixel((2, 2)) == (255, 0, 0)
    assert image.getpixel((20, 12)) == image.getpixel((2, 12)) == image.getpixel((20, 2)) == (0, 0, 0)


def test_a_file_that_is_not_a_picture(tmp_path):
    (tmp_path / "a.png").write_text("not a picture at all")
    with pytest.raises(ValueError, match=r"a\.png is not a picture that can be read; remove it or save it again"):
        read_picture(tmp_path / "a.png")


@pytest.mark.filterwarnings("ignore:Truncated File Read")  # Pillow says so of a TIFF, before it stops
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".gif", ".bmp", ".tif", ".webp"])
@given(share=st.floats(0.01, 0.98))
def test_a_truncated_picture_is_refused_or_whole(tmp_path, suffix, share):
    path = tmp_path / f"a{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    Image.fromarray(noise).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"is only part of a picture|is not a picture that can be read"):
        read_picture(path)


def test_a_picture_that_says_it_is_larger_than_it_is(tmp_path):
    path = save(tmp_path / "a.bmp", Image.new("RGB", (4, 4)))
    content = bytearray(path.read_bytes())
    content[18:26] = struct.pack("<ii", 400, 400)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is only part of a picture"):
        read_picture(path)


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_picture(tmp_path / "none.png")


# --------------------------------------------------------------------------------------------------------- folders


def open_folder(root: Path, **changes):
    return open_data(settings(data=str(root), **changes))


def three_splits(root: Path, plant, classes=("cat", "dog"), count: int = 2) -> Path:
    for split in ("train", "val", "test"):
        plant(root / split, dict.fromkeys(classes, count))
    return root


def test_three_splits(tmp_path, plant):
    data = open_folder(three_splits(tmp_path, plant))
    assert data.classes == ("cat", "dog")
    assert data.left_out == ()
    images, labels = next(iter(data.val))
    assert (images.shape, images.dtype) == ((4, 3, 64, 64), torch.float32)
    assert labels.tolist() == [0, 0, 1, 1]


def test_class_numbers_follow_the_alphabet(tmp_path, plant):
    data = open_folder(three_splits(tmp_path, plant, classes=("zebra", "ant", "Bee")))
    assert data.classes == ("Bee", "ant", "zebra")


def test_one_folder_is_divided(tmp_path, plant):
    data = open_folder(plant(tmp_path, {"cat": 20, "dog": 10, "eel": 3}))
    sizes = [[sum(label == i for _, label in loader.dataset.samples) for i in range(3)] for loader in split_of(data)]
    assert sizes == [[14, 7, 1], [3, 1, 1], [3, 2, 1]]


def split_of(data):
    return data.train, data.val, data.test


@given(st.lists(st.integers(3, 40), min_size=2, max_size=5), st.integers(0, 1000))
def test_dividing_loses_nothing_and_gives_every_class_to_every_split(sizes, seed):
    samples = [(Path(f"{label}/{i}"), label) for label, size in enumerate(sizes) for i in range(size)]
    split = divide(samples, seed, {"train": 0.7, "val": 0.15, "test": 0.15})
    assert sorted(sample for part in split.values() for sample in part) == sorted(samples)
    assert all({label for _, label in part} == set(range(len(sizes))) for part in split.values())
    assert split == divide(samples, seed, {"train": 0.7, "val": 0.15, "test": 0.15})
    for label, size in enumerate(sizes):
        assert abs(sum(one == label for _, one in split["train"]) - 0.7 * size) <= 1.5


def test_too_few_pictures_to_divide(tmp_path, plant):
    with pytest.raises(ValueError, match=r"dog holds 2 picture\(s\), too few for train \+ val \+ test; add some"):
        open_folder(plant(tmp_path, {"cat": 5, "dog": 2}))


def test_a_class_missing_in_one_split(tmp_path, plant):
    root = three_splits(tmp_path, plant)
    plant(root / "train", {"eel": 2})
    with pytest.raises(ValueError, match=r"must hold the same classes.*missing in val \['eel'\], only in val \[\]"):
        open_folder(root)
    plant(root / "val", {"eel": 2})
    plant(root / "test", {"eel": 2, "fox": 1})
    with pytest.raises(ValueError, match=r"missing in test \[\], only in test \['fox'\]"):
        open_folder(root)


def test_a_split_missing(tmp_path, plant):
    for split in ("train", "test"):
        plant(tmp_path / split, {"cat": 2, "dog": 2})
    with pytest.raises(
        FileNotFoundError, match=r"there is no folder .*val; give a folder with one folder of pictures per class"
    ):
        open_folder(tmp_path)


def test_an_empty_class(tmp_path, plant):
    root = three_splits(tmp_path, plant)
    for split in ("train", "val", "test"):
        (root / split / "eel").mkdir()
    with pytest.raises(ValueError, match=r"the class folder .*eel holds no picture; add some \(\.jpg.*\) or remove it"):
        open_folder(root)


def test_one_class_only(tmp_path, plant):
    with pytest.raises(ValueError, match=r"holds 1 class folder\(s\) \['cat'\]; at least two classes"):
        open_folder(plant(tmp_path, {"cat": 5}))


def test_no_class_at_all(tmp_path):
    with pytest.raises(ValueError, match=r"holds 0 class folder\(s\) \[\]; at least two classes"):
        open_folder(tmp_path)


def test_what_is_not_a_picture_is_left_out_and_named(tmp_path, plant):
    root = three_splits(tmp_path, plant)
    (root / "train" / "cat" / "notes.txt").write_text("hello")
    (root / "train" / "cat" / "broken.png").write_text("not a picture")
    (root / "val" / "dog" / ".hidden.png").write_bytes((root / "val" / "dog" / "00.png").read_bytes())
    data = open_folder(root)
    assert data.left_out == (
        "train/cat/broken.png: not a picture by its content",
        "train/cat/notes.txt: not a picture by its name",
        "val/dog/.hidden.png: hidden",
    )
    assert len(data.train.dataset) == 4


def test_notebook_checkpoints_are_no_class(tmp_path, plant):
    root = three_splits(tmp_path, plant)
    plant(root / "train", {".ipynb_checkpoints": 2, "__pycache__": 1})
    plant(root / "val" / "cat", {".ipynb_checkpoints": 2})
    data = open_folder(root)
    assert data.classes == ("cat", "dog")
    assert data.left_out == ("val/cat/.ipynb_checkpoints/00.png: hidden", "val/cat/.ipynb_checkpoints/01.png: hidden")


def test_pictures_in_folders_of_a_class_folder_count(tmp_path, plant):
    root = three_splits(tmp_path, plant)
    plant(root / "train" / "cat", {"more": 3})
    assert len(open_folder(root).train.dataset) == 7


def test_a_truncated_picture_says_so_when_it_is_shown(tmp_path, plant):
    root = three_splits(tmp_path, plant)
    path = root / "train" / "cat" / "00.png"
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8))
    noise.save(path)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(ValueError, match=r"00\.png is only part of a picture \(.*\); copy it again or remove it"):
        list(open_folder(root).train)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        open_folder(tmp_path / "none")


def test_a_file_instead_of_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="is a file; give the folder that holds one folder of pictures per class"):
        open_folder(tmp_path / "file")


def test_the_tiny_data_set_is_gone(tmp_path, monkeypatch):
    monkeypatch.setattr("course_utils.data.TINY", tmp_path / "data" / "tiny")
    with pytest.raises(FileNotFoundError, match="tiny is missing; `git checkout data/tiny` brings it back"):
        open_data(settings())


def test_an_unknown_data_set():
    with pytest.raises(ValueError, match=r"no data set or folder named 'eurosatt'; choose from .*did you mean 'eurosat'"):
        open_data(settings(data="eurosatt"))


AS_NOBODY = """
import os, sys
from course_utils.data import open_data
from course_utils.profiles import settings
if os.getuid() == 0:  # root may read everything
    os.setgid(65534)
    os.setuid(65534)
for root in sys.argv[1:]:
    try:
        print("left out", open_data(settings(data=root)).left_out)
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
"""


@pytest.mark.skipif(os.name == "nt", reason="permissions of Windows are others")
def test_what_may_not_be_read(plant):
    closed = ("train", "train/cat", "train/cat/00.png")
    with tempfile.TemporaryDirectory() as place:  # not pytest's folder, which is closed to others
        Path(place).chmod(0o755)
        roots = [three_splits(Path(place) / str(i), plant) for i in range(len(closed))]
        for root, name in zip(roots, closed, strict=True):
            (root / name).chmod(0)
        process = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, *roots], cwd=HOME, capture_output=True, text=True, timeout=120
        )
        for root, name in zip(roots, closed, strict=True):
            (root / name).chmod(0o755)
    folder, inner, file = process.stdout.splitlines()
    advice = "may not be read; change its permissions or copy the pictures elsewhere"
    assert folder == f"PermissionError: the folder {roots[0]}/train {advice}"
    assert inner == f"PermissionError: the folder {roots[1]}/train/cat {advice}"
    assert file == "left out ('train/cat/00.png: may not be read',)"


# --------------------------------------------------------------------------------------------------------- loaders


def order_of(data) -> list[int]:
    return [label for _, labels in data.train for label in labels.tolist()]


def test_loaders_give_the_same_batches_again():
    first, again, other = (open_data(settings(seed=seed), per_class=3) for seed in (1, 1, 2))
    for (images, labels), (images_again, labels_again) in zip(first.train, again.train, strict=True):
        assert torch.equal(images, images_again)
        assert torch.equal(labels, labels_again)
    assert order_of(first) == order_of(again), "the second epoch too"
    assert order_of(first) != order_of(other)


def test_loaders_do_not_depend_on_random_numbers_drawn_before():
    data, again = (open_data(settings(), per_class=3) for _ in range(2))
    orders = [order_of(data)]
    torch.rand(100)
    orders.append(order_of(again))
    assert orders[0] == orders[1]


def test_each_epoch_has_an_order_of_its_own():
    data = open_data(settings(), per_class=5)
    assert order_of(data) != order_of(data)


def test_workers_change_nothing():
    alone, helped = (open_data(settings(workers=workers), per_class=2) for workers in (0, 2))
    for (images, labels), (images_helped, labels_helped) in zip(alone.train, helped.train, strict=True):
        assert torch.equal(images, images_helped)
        assert torch.equal(labels, labels_helped)


def test_the_tiny_data():
    data = open_data(settings())
    assert data.classes == ("boat", "car", "fish", "flower", "house", "tree")
    assert [len(loader.dataset) for loader in split_of(data)] == [120, 90, 270]
    assert data.left_out == ()


def test_per_class():
    data = open_data(settings(), per_class=5)
    assert [len(loader.dataset) for loader in split_of(data)] == [30, 90, 270]
    for count in (0, 21):
        with pytest.raises(
            ValueError, match=rf"per_class={count}: the smallest class has 20 training pictures; choose 1 to 20"
        ):
            open_data(settings(), per_class=count)


def test_the_first_of_each_class_are_the_first():
    samples = [(Path(str(i)), i % 2) for i in range(6)]
    assert first_per_class(samples, 2) == [samples[0], samples[2], samples[1], samples[3]]


def test_transforms_of_ones_own():
    data = open_data(
        settings(), transform=lambda image: torch.zeros(1), train_transform=lambda image: torch.ones(1), per_class=1
    )
    assert [next(iter(loader))[0].max().item() for loader in split_of(data)] == [1, 0, 0]


def test_without_weights_a_transform_is_needed():
    with pytest.raises(ValueError, match="nothing says how to prepare the pictures; give open_data a transform"):
        open_data(settings(weights=None))
    assert open_data(settings(weights=None), transform=lambda image: torch.zeros(1)).classes


def test_the_prepared_pictures_are_about_zero():
    images = torch.cat([images for images, _ in open_data(settings()).train])
    assert images.mean().abs() < 0.5
    assert 0.5 < images.std() < 2
