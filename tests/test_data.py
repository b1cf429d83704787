"""Pictures from folders: any file format gives the right pixels, any bad folder the right words."""

from __future__ import annotations

import errno
import io
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import Subset
from torchvision.datasets import ImageFolder

from course_utils import data as data_module
from course_utils.data import first_per_class, open_data, read_samples
from course_utils.folders import SHARES, assign, divide, near_duplicates
from course_utils.images import Pictures, in_memory, read_picture, to_rgb
from course_utils.profiles import HOME, settings
from course_utils.weights import shapes_weights

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


def save_heic(path: Path, image: Image.Image, orientation: int = 1) -> Path:
    pytest.importorskip("pillow_heif", reason="pillow-heif is not installed: the extra heic")
    exif = Image.Exif()
    exif[274] = orientation
    image.save(path, "HEIF", quality=90, exif=exif.tobytes())
    return path


@pytest.mark.parametrize(("orientation", "method"), {1: None, 3: 3, 6: 2, 8: 4}.items())
def test_a_photo_in_heic_is_read_and_stands_upright(tmp_path, orientation, method):
    scene = Image.new("RGB", (64, 48), "black")
    scene.paste("red", (0, 0, 24, 24))
    stored = scene.transpose(Image.Transpose(method)) if method else scene
    image = read_picture(save_heic(tmp_path / "a.HEIC", stored, orientation))
    assert (image.size, image.mode) == ((64, 48), "RGB")
    assert image.getpixel((8, 8))[0] > 200
    assert max(image.getpixel((50, 8))) < 60 > max(image.getpixel((8, 40)))


def test_a_folder_of_photos_in_heic_is_one_of_pictures(tmp_path, capsys):
    root = photos(tmp_path / "mine", {"cat": 3, "dog": 3})
    for i in range(3):
        save_heic(root / "cat" / f"{i}.heic", Image.new("RGB", (64, 64), (60 * i, 9, 9)))
    save_heic(root / "cat" / "renamed.jpg", Image.new("RGB", (64, 64), "green"))
    (root / "cat" / "half.heif").write_bytes((root / "cat" / "0.heic").read_bytes()[:200])
    data = open_folder(root, workers=1)
    assert sum(len(part) for part in data.samples.values()) == 10
    assert data.left_out == ("mine/cat/half.heif: not a picture by its content",)
    assert all(images.shape[1:] == (3, 64, 64) for loader in (data.train, data.val, data.test) for images, _ in loader)


@pytest.mark.parametrize(("kernel", "command"), [(True, "%pip"), (False, f"{sys.executable} -m pip")])
def test_without_the_package_heic_says_what_to_run(tmp_path, monkeypatch, without_heic, kernel, command):
    monkeypatch.setattr("course_utils.images.in_notebook", lambda: kernel)
    (tmp_path / "a.heic").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"a\.heic cannot be read") as caught:
        read_picture(tmp_path / "a.heic")
    assert f"run `{command} install pillow-heif`" in str(caught.value)


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
    with pytest.raises(ValueError, match=r"is damaged or only part of a picture|is not a picture that can be read"):
        read_picture(path)


def test_a_picture_that_says_it_is_larger_than_it_is(tmp_path):
    path = save(tmp_path / "a.bmp", Image.new("RGB", (4, 4)))
    content = bytearray(path.read_bytes())
    content[18:26] = struct.pack("<ii", 400, 400)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged or only part of a picture"):
        read_picture(path)


@pytest.mark.parametrize(("mode", "content"), [("F", 0.5), ("F", 200.0), ("I", 200), ("I", 40000)])
def test_floating_point_and_32_bits_are_refused_since_white_may_be_any_value(tmp_path, mode, content):
    """A plain convert clips at 255: a picture of 0 … 1 would come out black, one of 0 … 65535 white."""
    path = save(tmp_path / "a.tif", Image.new(mode, (3, 2), content))
    with pytest.raises(
        ValueError, match=r"a\.tif has .* for pixels, and nothing says which value is white; scale it and save it"
    ):
        read_picture(path)
    with pytest.raises(ValueError, match="nothing says which value is white"):
        to_rgb(Image.new(mode, (3, 2), content))


@pytest.mark.parametrize(("most", "value", "seen"), [(65535, 32896, 128), (4095, 4095, 255)])
def test_a_pgm_with_more_than_eight_bits_says_which_value_is_white(tmp_path, most, value, seen):
    (tmp_path / "a.pgm").write_bytes(f"P5 2 2 {most}\n".encode() + struct.pack(">4H", *[value] * 4))
    assert pixel(tmp_path / "a.pgm") == (seen, seen, seen)


def test_sixteen_bits_with_the_high_byte_first(tmp_path):
    image = Image.frombytes("I;16B", (2, 2), struct.pack(">4H", *[32896] * 4))
    assert pixel(save(tmp_path / "a.tif", image)) == (128, 128, 128)


def test_lab_colours_are_refused(tmp_path):
    path = save(tmp_path / "a.tif", Image.new("LAB", (3, 2), (200, 0, 0)))
    with pytest.raises(ValueError, match=r"a\.tif is in Lab colours, which PIL cannot turn into RGB; save it again as RGB"):
        read_picture(path)


@pytest.mark.parametrize(
    ("mode", "suffix"), [("YCbCr", ".tif"), ("CMYK", ".tif"), ("1", ".bmp"), ("RGBX", ".tif"), ("L", ".webp")]
)
def test_other_ways_to_hold_white(tmp_path, mode, suffix):
    assert pixel(save(tmp_path / f"a{suffix}", Image.new("RGB", (8, 8), "white").convert(mode))) == (255, 255, 255)


@pytest.mark.parametrize(("mode", "colour", "seen"), [("RGBa", (50, 0, 0, 51), (254, 204, 204)), ("La", (50, 51), (254,) * 3)])
def test_transparency_multiplied_into_the_colours(mode, colour, seen):
    assert to_rgb(Image.new(mode, (2, 2), colour)).getpixel((0, 0)) == pytest.approx(seen, abs=1)


def test_a_palette_with_transparency_of_its_own():
    image = Image.new("P", (2, 1), 0)
    image.putpalette([10, 20, 30, 0], "RGBA")
    assert to_rgb(image).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("suffix", [".tif", ".webp", ".png", ".mpo"])
def test_of_several_pictures_in_a_file_the_first_counts(tmp_path, suffix):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "green")]
    path = save(tmp_path / f"a{suffix}", frames[0], save_all=True, append_images=frames[1:])
    assert pixel(path) == pytest.approx((255, 0, 0), abs=3)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(15, 10), (30, 10)])  # PIL warns above its limit, and stops at twice of it
def test_a_picture_of_too_many_pixels_is_refused_with_what_to_do(tmp_path, monkeypatch, size):
    path = save(tmp_path / "a.png", Image.new("RGB", size))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(
        ValueError, match=r"a\.png has more than 0 megapixels, .* scale it down, or set PIL\.Image\.MAX_IMAGE_P"
    ):
        read_picture(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert read_picture(path).size == size


def test_four_hundred_megapixels_are_refused(tmp_path):
    """A file of 100 bytes that says it has 20,000 × 20,000 pixels."""
    head, data = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0), zlib.compress(bytes(100))
    chunks = [(b"IHDR", head), (b"IDAT", data), (b"IEND", b"")]
    content = [struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks]
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(content))
    with pytest.raises(ValueError, match="has more than 89 megapixels"):
        read_picture(tmp_path / "a.png")


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about tags that it skips
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM", "GIF"])
def test_a_damaged_file_is_read_or_named(tmp_path, kind):
    rng = random.Random(kind)
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 20, 3), np.uint8)).save(whole, kind)
    refused = []
    for _ in range(100):
        content = bytearray(whole.getvalue())
        for _ in range(4):
            content[rng.randrange(min(200, len(content)))] = rng.randrange(256)
        (tmp_path / "a.png").write_bytes(content)
        try:
            assert read_picture(tmp_path / "a.png").mode == "RGB"
        except ValueError as error:
            refused.append(str(error))
    assert refused
    assert all(words.startswith(f"{tmp_path / 'a.png'} ") for words in refused)


def test_trouble_of_the_system_is_not_taken_for_a_damaged_picture(tmp_path, monkeypatch):
    photos(tmp_path, {"cat": 4, "dog": 4})

    def fail(path):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(Image, "open", fail)
    for read in (lambda: read_picture(tmp_path / "cat" / "00.png"), lambda: open_folder(tmp_path)):
        with pytest.raises(OSError, match="Too many open files"):
            read()


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_picture(tmp_path / "none.png")


# --------------------------------------------------------------------------------------------------------- folders


def open_folder(root: Path, **changes):
    return open_data(settings(data=str(root), **changes))


def photos(root: Path, classes: dict[str, int], suffix: str = ".png", first: int = 0) -> Path:
    """Class folders with pictures of noise that all differ."""
    for name, count in classes.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(first, first + count):
            rng = np.random.default_rng(zlib.crc32(f"{root.parts[-2:]}/{name}/{i}".encode()))
            Image.fromarray(rng.integers(0, 255, (10, 12, 3), np.uint8)).save(root / name / f"{i:02}{suffix}")
    return root


def three_splits(root: Path, classes=("cat", "dog"), count: int = 2, names=("train", "val", "test")) -> Path:
    for split in names:
        photos(root / split, dict.fromkeys(classes, count))
    return root


def test_three_splits(tmp_path):
    data = open_folder(three_splits(tmp_path))
    assert data.classes == ("cat", "dog")
    assert data.left_out == data.duplicates == ()
    images, labels = next(iter(data.val))
    assert (images.shape, images.dtype) == ((4, 3, 64, 64), torch.float32)
    assert labels.tolist() == [0, 0, 1, 1]


def test_class_numbers_follow_the_alphabet(tmp_path):
    data = open_folder(three_splits(tmp_path, classes=("zebra", "ant", "Bee")))
    assert data.classes == ("Bee", "ant", "zebra")


def test_one_folder_is_divided(tmp_path):
    data = open_folder(photos(tmp_path, {"cat": 20, "dog": 10, "eel": 3}))
    sizes = [[sum(label == i for _, label in loader.dataset.samples) for i in range(3)] for loader in split_of(data)]
    assert [sum(kind) for kind in zip(*sizes, strict=True)] == [20, 10, 3]
    assert min(map(min, sizes)) >= 1
    assert [part[2] for part in sizes] == [1, 1, 1]


def split_of(data):
    return data.train, data.val, data.test


def homes(data) -> dict[str, str]:
    """The split of each picture, by the last two parts of its path."""
    return {"/".join(path.parts[-2:]): name for name, part in data.samples.items() for path, _ in part}


def test_a_folder_is_divided_alike_whatever_the_seed(tmp_path):
    photos(tmp_path, {"cat": 30, "dog": 30})
    first, *others = (homes(open_folder(tmp_path, seed=seed)) for seed in range(4))
    assert all(other == first for other in others)


def test_a_picture_stays_in_its_split_when_others_are_added_or_removed(tmp_path):
    photos(tmp_path, {"cat": 60, "dog": 60})
    before = homes(open_folder(tmp_path))
    photos(tmp_path, {"cat": 40}, first=1000)
    photos(tmp_path, {"ant": 40})
    after = homes(open_folder(tmp_path))
    assert {name: after[name] for name in before} == before
    for i in range(10):
        (tmp_path / "cat" / f"{i:02}.png").unlink()
    fewer = homes(open_folder(tmp_path))
    assert fewer == {name: after[name] for name in fewer}


def test_a_picture_stays_in_its_split_when_it_is_renamed_or_moved(tmp_path):
    root = photos(tmp_path / "here", {"cat": 40, "dog": 40})
    before = open_folder(root)
    content = [{path.read_bytes() for path, _ in loader.dataset.samples} for loader in split_of(before)]
    (root / "cat" / "more").mkdir()
    for i, path in enumerate(sorted((root / "cat").glob("*.png"))):
        path.rename(root / "cat" / "more" / f"renamed{40 - i}.PNG")
    root.rename(tmp_path / "there")
    after = open_folder(tmp_path / "there")
    assert [{path.read_bytes() for path, _ in loader.dataset.samples} for loader in split_of(after)] == content


def test_equal_files_fall_into_one_split(tmp_path):
    photos(tmp_path, {"cat": 20, "dog": 20})
    for path in (tmp_path / "cat").glob("*.png"):
        shutil.copy(path, path.with_name(f"copy-{path.name}"))
    data = open_folder(tmp_path)
    assert data.duplicates == ()
    found = homes(data)
    assert all(found[f"cat/{i:02}.png"] == found[f"cat/copy-{i:02}.png"] for i in range(20))


@given(st.lists(st.integers(3, 40), min_size=2, max_size=5), st.integers(0, 1000))
def test_dividing_loses_nothing_and_gives_every_class_to_every_split(tmp_path, sizes, seed):
    samples = [(tmp_path / f"{seed}-{label}-{i}", label) for label, size in enumerate(sizes) for i in range(size)]
    for path, _ in samples:
        path.write_text(path.name)
    split = divide(samples, SHARES)
    assert sorted(sample for part in split.values() for sample in part) == sorted(samples)
    assert all({label for _, label in part} == set(range(len(sizes))) for part in split.values())
    assert [list(part) for part in split.values()] == [[one for one in samples if one in part] for part in split.values()]


def own(contents: list[bytes]) -> set[str]:
    """The splits that these contents have by their own numbers."""
    numbers = [int.from_bytes(one[:8], "big") / 2**64 for one in contents]
    return {"train" if number < 0.7 else "val" if number < 0.85 else "test" for number in numbers}


def moved(before: dict[bytes, str], after: dict[bytes, str]) -> int:
    return sum(before[one] != after[one] for one in before.keys() & after.keys())


def test_no_other_picture_moves_once_a_class_has_each_split_and_two_at_most_before():
    """What the docstring of `divide` promises, for a thousand classes that grow and shrink by one picture at a time."""
    rng, settled = random.Random(0), 0
    for _ in range(1000):
        contents = [rng.randbytes(16) for _ in range(rng.randint(3, 30))]
        before = assign(contents, SHARES)
        after = assign([*contents, rng.randbytes(16)], SHARES)
        assert set(before.values()) == set(SHARES)
        if own(contents) == set(SHARES):
            settled += 1
            assert moved(before, after) == 0
            assert all(before[one] in own([one]) for one in contents)
        else:
            assert moved(before, after) <= 2
    assert 500 < settled < 1000, "both cases were looked at"


def test_the_shares_hold_on_average():
    rng = random.Random(1)
    homes = list(assign([rng.randbytes(16) for _ in range(10_000)], SHARES).values())
    assert [homes.count(name) / 10_000 for name in SHARES] == pytest.approx([0.7, 0.15, 0.15], abs=0.02)


def test_too_few_pictures_to_divide(tmp_path):
    with pytest.raises(ValueError, match=r"dog holds 2 different picture\(s\), too few for train \+ val \+ test; add"):
        open_folder(photos(tmp_path, {"cat": 5, "dog": 2}))


def test_a_class_missing_in_one_split(tmp_path):
    root = three_splits(tmp_path)
    photos(root / "train", {"eel": 2})
    with pytest.raises(ValueError, match=r"must hold the same classes.*missing in val \['eel'\], only in val \[\]"):
        open_folder(root)
    photos(root / "val", {"eel": 2})
    photos(root / "test", {"eel": 2, "fox": 1})
    with pytest.raises(ValueError, match=r"missing in test \[\], only in test \['fox'\]"):
        open_folder(root)


@pytest.mark.parametrize(
    "names",
    [("Train", "Val", "Test"), ("TRAIN", "VALID", "TEST"), ("training", "validation", "testing"), ("test", "val", "Training")],
)
def test_splits_may_be_spelt_in_other_ways(tmp_path, names):
    data = open_folder(three_splits(tmp_path, names=names))
    assert data.classes == ("cat", "dog")
    folders = [{path.parts[-3] for path, _ in loader.dataset.samples} for loader in split_of(data)]
    assert [folder.pop().lower()[:3] for folder in folders] == ["tra", "val", "tes"]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("train", "val"), r"missing: \['test'\]"),
        (("train", "test"), r"missing: \['val'\]"),
        (("Training", "Testing"), r"missing: \['val'\]"),
        (("train",), r"missing: \['val', 'test'\]"),
        (("train", "other"), r"missing: \['val', 'test'\]"),
        (("training_set", "test_set"), r"missing: \['train', 'val', 'test'\]"),
        (("train", "test1"), r"missing: \['val', 'test'\]"),
        (("train", "val", "validation", "test"), "more than three"),
        (("seg_train/seg_train", "seg_test/seg_test", "seg_pred/seg_pred"), r"missing: \['train', 'val', 'test'\]"),
    ],
)
def test_what_looks_like_splits_but_is_not_three_is_no_folder_of_classes(tmp_path, names, words):
    three_splits(tmp_path, names=names)
    (tmp_path / names[0] / "labels.csv").touch()
    with pytest.raises(
        ValueError, match=rf"look like splits, but those are three, named train \(training\).*\({words}.*\); name"
    ):
        open_folder(tmp_path)


def test_pictures_in_splits_without_class_folders(tmp_path):
    """As a competition hands them out: the labels are in a table."""
    photos(tmp_path, {"train_images": 4, "test_images": 4})
    with pytest.raises(ValueError, match=r"\['test_images', 'train_images'\] in .* look like splits"):
        open_folder(tmp_path)
    photos(tmp_path / "flat", {".": 4})
    with pytest.raises(ValueError, match="4 pictures lie in the folder itself: move each into one with the name of its class"):
        open_folder(tmp_path / "flat")


@pytest.mark.parametrize("names", [("cat", "dog", "train"), ("cat", "Test"), ("cat", "test tube", "train station")])
def test_a_class_may_be_called_like_a_split(tmp_path, names):
    data = open_folder(photos(tmp_path, dict.fromkeys(names, 4)))
    assert data.classes == tuple(sorted(names))


def test_one_folder_too_far_out(tmp_path):
    photos(tmp_path / "PetImages", {"cat": 4, "dog": 4})
    with pytest.raises(
        ValueError, match=r"\['PetImages'\]; at least two .*; if they are the folders in .*PetImages, give that one"
    ):
        open_folder(tmp_path)


@pytest.mark.parametrize("below", ["", "pictures"])
def test_the_same_folders_in_each_class_may_be_the_classes(tmp_path, below):
    for year in ("2019", "2020"):
        photos(tmp_path / year / below, {"cat": 4, "dog": 4})
    with pytest.warns(
        UserWarning, match=r"the classes are the outer folders \(2019, 2020\); several .* \(cat, dog\): if those"
    ):
        assert open_folder(tmp_path).classes == ("2019", "2020")


def test_an_empty_class(tmp_path):
    root = three_splits(tmp_path)
    for split in ("train", "val", "test"):
        (root / split / "eel").mkdir()
    with pytest.raises(ValueError, match=r"the class folder .*eel holds no picture; add some \(\.jpg.*\) or remove it"):
        open_folder(root)


def test_one_class_only(tmp_path):
    with pytest.raises(ValueError, match=r"holds 1 class folder\(s\) \['cat'\]; at least two classes"):
        open_folder(photos(tmp_path, {"cat": 5}))


def test_no_class_at_all(tmp_path):
    with pytest.raises(ValueError, match=r"holds 0 class folder\(s\) \[\]; at least two classes"):
        open_folder(tmp_path)


def test_what_is_not_a_picture_is_left_out_and_named(tmp_path):
    root = three_splits(tmp_path)
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


def test_notebook_checkpoints_are_no_class(tmp_path):
    root = three_splits(tmp_path)
    photos(root / "train", {".ipynb_checkpoints": 2, "__pycache__": 1})
    photos(root / "val" / "cat", {".ipynb_checkpoints": 2})
    data = open_folder(root)
    assert data.classes == ("cat", "dog")
    assert data.left_out == (
        "train/.ipynb_checkpoints: hidden",
        "train/__pycache__: hidden",
        "val/cat/.ipynb_checkpoints/00.png: hidden",
        "val/cat/.ipynb_checkpoints/01.png: hidden",
    )


def test_what_systems_leave_in_folders_is_left_out_and_named(tmp_path):
    root = photos(tmp_path / "mine", {"cat": 4, "dog": 4, "__MACOSX": 3, "cat/@eaDir": 3, "__unknown__": 4})
    for name in ("cat/._00.png", "cat/.DS_Store", "dog/Thumbs.db", "dog/desktop.ini", "labels.csv"):
        (root / name).write_bytes(b"x")
    data = open_folder(root)
    assert data.classes == ("__unknown__", "cat", "dog")
    assert data.left_out == (
        "mine/__MACOSX: hidden",
        "mine/labels.csv: outside the class folders",
        "mine/cat/.DS_Store: hidden",
        "mine/cat/._00.png: hidden",
        *(f"mine/cat/@eaDir/0{i}.png: hidden" for i in range(3)),
        "mine/dog/Thumbs.db: hidden",
        "mine/dog/desktop.ini: hidden",
    )


def test_a_folder_beside_the_splits_is_named(tmp_path):
    root = three_splits(tmp_path / "mine")
    photos(root, {"extra": 3})
    (root / "README.md").touch()
    (root / "train" / "loose.png").touch()
    outside = ("mine/README.md", "mine/extra", "train/loose.png")
    assert open_folder(root).left_out == tuple(f"{name}: outside the class folders" for name in outside)


@pytest.fixture
def without_heic(monkeypatch):
    """As where the package pillow-heif is not installed."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)


def test_pictures_that_cannot_be_shown_truly_are_left_out_and_named(tmp_path, monkeypatch, without_heic):
    cat = photos(tmp_path / "mine", {"cat": 4, "dog": 4}) / "cat"
    Image.new("F", (4, 4)).save(cat / "float.tif")
    Image.new("I", (4, 4)).save(cat / "long.TIFF")
    (cat / "phone.HEIC").write_bytes(b"x")
    (cat / "zero.png").touch()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 130)
    Image.new("RGB", (15, 10)).save(cat / "large.png")
    Image.new("RGB", (30, 10)).save(cat / "larger.png")
    names, reasons = zip(*(one.split(": ", 1) for one in open_folder(cat.parent).left_out), strict=True)
    assert names == tuple(
        f"mine/cat/{name}" for name in ("float.tif", "large.png", "larger.png", "long.TIFF", "phone.HEIC", "zero.png")
    )
    words = (
        "has floating point",
        "has more than",
        "has more than",
        "has 32-bit numbers",
        "HEIC needs one more package, run `",
        "empty",
    )
    assert [reason.startswith(word) for reason, word in zip(reasons, words, strict=True)] == [True] * 6


def test_a_class_of_which_nothing_can_be_read_says_why(tmp_path, without_heic):
    photos(tmp_path / "mine", {"cat": 4, "dog": 4, "eel": 0})
    for i in range(3):
        (tmp_path / "mine" / "eel" / f"{i}.heic").write_bytes(b"x")
    with pytest.raises(
        ValueError, match=r"eel holds no picture \(3 left out, such as mine/eel/0\.heic: HEIC needs one more package, run `"
    ):
        open_folder(tmp_path / "mine")


def test_what_was_left_out_is_printed_once(tmp_path, capsys, without_heic):
    cat = photos(tmp_path / "mine", {"cat": 4, "dog": 4}) / "cat"
    for name in ("a.heic", "b.HEIC", "notes.txt", "zero.png", "bad.png", ".DS_Store", "._00.png", "Thumbs.db"):
        (cat / name).write_bytes(b"" if name == "zero.png" else b"x")
    (cat.parent / "README.md").touch()
    for _ in range(2):
        assert len(open_folder(cat.parent).left_out) == 9
    command = f"run `{sys.executable} -m pip install pillow-heif`"
    assert capsys.readouterr().out == (
        f"{cat.parent}: left out 6 files: mine/README.md (outside the class folders), mine/cat/a.heic and 1 more (HEIC "
        f"needs one more package, {command}, or save it as JPEG), mine/cat/bad.png (not a picture by its content), …\n"
    )


def test_of_what_systems_leave_in_folders_nothing_is_printed(tmp_path, capsys):
    cat = photos(tmp_path / "mine", {"cat": 4, "dog": 4}) / "cat"
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
        (cat / name).touch()
    assert len(open_folder(cat.parent).left_out) == 3
    assert capsys.readouterr().out == ""


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_links_are_followed_once_and_named_if_they_lead_nowhere(tmp_path):
    root, other = photos(tmp_path / "mine", {"cat": 3, "dog": 4}), photos(tmp_path / "other", {"more": 3, "eel": 4})
    (root / "cat" / "linked").symlink_to(other / "more")
    (root / "eel").symlink_to(other / "eel")
    (root / "cat" / "linked" / "loop").symlink_to(root / "cat")
    (root / "dog" / "self").symlink_to("self")
    for name in ("dog/self.png", "dog/nothing.png", "gone"):
        (root / name).symlink_to("self.png")
    os.mkfifo(root / "dog" / "pipe.png")
    data = open_folder(root)
    assert data.classes == ("cat", "dog", "eel")
    assert sum(len(loader.dataset) for loader in split_of(data)) == 6 + 4 + 4
    assert data.left_out == (
        "mine/gone: outside the class folders",
        "mine/cat/linked/loop: a link to a folder that is read already",
        "mine/dog/nothing.png: a link to nothing",
        "mine/dog/pipe.png: not a file",
        "mine/dog/self: not a picture by its name",
        "mine/dog/self.png: a link to nothing",
    )


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are UTF-8")
def test_names_that_are_no_text_can_be_printed(tmp_path):
    root = photos(tmp_path / "mine", {"c\nat": 4, "dog 🐕": 4})
    (root / "dog 🐕" / os.fsdecode(b"caf\xe9.txt")).touch()
    data = open_folder(root)
    assert data.classes == ("c\nat", "dog 🐕")
    assert data.left_out == ("mine/dog 🐕/caf\\udce9.txt: not a picture by its name",)
    assert data.left_out[0].encode()


def test_pictures_in_folders_of_a_class_folder_count(tmp_path):
    root = three_splits(tmp_path)
    photos(root / "train" / "cat", {"more": 3})
    assert len(open_folder(root).train.dataset) == 7


def test_a_truncated_picture_says_so_when_it_is_shown(tmp_path):
    root = three_splits(tmp_path)
    path = root / "train" / "cat" / "00.png"
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8))
    noise.save(path)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(ValueError, match=r"00\.png is damaged or only part of a picture \(.*\); copy it again or remove it"):
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
def test_what_may_not_be_read():
    closed = ("train", "train/cat", "train/cat/00.png")
    with tempfile.TemporaryDirectory() as place:  # not pytest's folder, which is closed to others
        Path(place).chmod(0o755)
        roots = [three_splits(Path(place) / str(i)) for i in range(len(closed))]
        for root, name in zip(roots, closed, strict=True):
            (root / name).chmod(0)
        process = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, *roots], cwd=HOME, capture_output=True, text=True, timeout=120
        )
        for root, name in zip(roots, closed, strict=True):
            (root / name).chmod(0o755)
    folder, inner, said, file = process.stdout.splitlines()
    assert "left out 1 file: train/cat/00.png (may not be read)" in said
    advice = "may not be read; change its permissions or copy the pictures elsewhere"
    assert folder == f"PermissionError: the folder {roots[0]}/train {advice}"
    assert inner == f"PermissionError: the folder {roots[1]}/train/cat {advice}"
    assert file == "left out ('train/cat/00.png: may not be read',)"


# ------------------------------------------------------------------------------------------------------ duplicates


def test_a_picture_in_two_splits_is_named_with_what_to_do(tmp_path):
    root = three_splits(tmp_path)
    shutil.copy(root / "train" / "cat" / "00.png", root / "test" / "cat" / "copy.png")
    words = "train/cat/00.png, test/cat/copy.png: one picture in train and test; keep it in one of them"
    with pytest.warns(UserWarning, match=rf"{words}; 1 in all, see `duplicates` of the data"):
        data = open_folder(root)
    assert data.duplicates == (words,)


def test_a_picture_in_two_classes_is_named_with_what_to_do(tmp_path):
    photos(tmp_path, {"cat": 5, "dog": 5})
    shutil.copy(tmp_path / "cat" / "00.png", tmp_path / "dog" / "copy.png")
    with pytest.warns(UserWarning, match="one picture in 2 classes; keep it in the right one"):
        (words,) = open_folder(tmp_path).duplicates
    assert words.startswith(("cat/00.png, dog/copy.png: ", "dog/copy.png, cat/00.png: "))


def test_only_the_training_pictures_in_use_are_compared(tmp_path):
    root = three_splits(tmp_path)
    shutil.copy(root / "train" / "cat" / "01.png", root / "test" / "cat" / "copy.png")
    assert open_data(settings(data=str(root)), per_class=1).duplicates == ()


def test_a_picture_twice_in_one_split_of_a_class_is_none_of_them(tmp_path):
    root = three_splits(tmp_path)
    shutil.copy(root / "train" / "cat" / "00.png", root / "train" / "cat" / "copy.png")
    assert open_folder(root).duplicates == ()


def smooth(seed: int, size: int = 96) -> Image.Image:
    """A picture of soft patches, as a photo has them."""
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), np.uint8)
    return Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)


def saved_again(image: Image.Image) -> Image.Image:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=60)
    return Image.open(content)


COPIES = {
    "as JPEG": saved_again,
    "smaller": lambda image: image.resize((40, 40), Image.Resampling.LANCZOS),
    "wider": lambda image: image.resize((150, 120), Image.Resampling.BICUBIC),
    "brighter": lambda image: image.point(lambda value: value * 0.8 + 50),
    "in another mode": lambda image: image.convert("CMYK").convert("RGBA"),
}


@pytest.mark.parametrize("change", COPIES.values(), ids=COPIES)
def test_copies_that_were_changed_are_found_across_splits(tmp_path, change):
    split = {name: [] for name in SHARES}
    for i in range(60):
        split[("train", "val", "test")[i % 3]].append((save(tmp_path / f"{i:02}.png", smooth(i)), 0))
    copy = save(tmp_path / "copy.png", change(smooth(3)))
    split["test"].insert(7, (copy, 0))
    assert near_duplicates(split) == [(tmp_path / "03.png", copy)]


def test_equal_files_and_pictures_of_one_colour_are_no_near_duplicates(tmp_path):
    split = {name: [] for name in SHARES}
    for i, name in enumerate(SHARES):
        split[name].append((save(tmp_path / f"plain{i}.png", Image.new("RGB", (9, 9), (40 * i, 9, 9))), 0))
        split[name].append((save(tmp_path / f"equal{i}.png", smooth(0)), 0))
    assert near_duplicates(split) == []


def test_a_large_photo_is_compared_at_a_smaller_size(tmp_path, monkeypatch):
    loaded = []
    monkeypatch.setattr("course_utils.images.to_rgb", lambda image: loaded.append(image.size) or to_rgb(image))
    path = save(tmp_path / "a.jpg", smooth(0, 1024))
    assert near_duplicates({"train": [(path, 0)], "test": [(save(tmp_path / "b.jpg", smooth(0, 900)), 0)]})
    assert max(loaded) <= (128, 128)


def test_the_tiny_data_holds_no_near_duplicates():
    split, _, _ = read_samples(settings())
    assert near_duplicates(split) == []


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


def test_the_default_transform_is_that_of_all_our_weights(monkeypatch):
    recipes = {repr(weights.transforms()) for weights in shapes_weights().values()}
    assert {repr(loader.dataset.transform) for loader in split_of(open_data(settings()))} == recipes
    odd = dict(shapes_weights())
    odd["vgg16"] = replace(odd["vgg16"], meta=odd["vgg16"].meta | {"mean": [0.5, 0.5, 0.5]})
    monkeypatch.setattr(data_module, "shapes_weights", lambda: odd)
    with pytest.raises(
        ValueError, match=r"the 'shapes' weights of different networks prepare pictures differently .*transform=get"
    ):
        open_data(settings())


def test_imagenet_has_no_default_transform():
    with pytest.raises(
        ValueError, match=r"give open_data the transform of yours, such as transform=get_weights\('resnet18', 'imag"
    ):
        open_data(settings(weights="imagenet"))
    with pytest.raises(ValueError, match=r"no weights named 'imagenett'; choose from .*did you mean 'imagenet'"):
        open_data(settings(weights="imagenett"))


def test_without_weights_a_transform_is_needed():
    with pytest.raises(ValueError, match="nothing says how to prepare the pictures; give open_data a transform"):
        open_data(settings(weights=None))
    assert open_data(settings(weights=None), transform=lambda image: torch.zeros(1)).classes


def test_the_prepared_pictures_are_about_zero():
    images = torch.cat([images for images, _ in open_data(settings()).train])
    assert images.mean().abs() < 0.5
    assert 0.5 < images.std() < 2


def derived(kind: type, method: str) -> type:
    """A data set of that kind that gives its items in a way of its own."""
    return type("Derived", (kind,), {method: lambda self, place: None})


def test_in_memory_refuses_what_makes_its_items_in_another_way(tmp_path):
    """The pictures would be read as if the derived class had changed nothing."""
    pictures = open_folder(photos(tmp_path, {"cat": 4, "dog": 4})).train.dataset
    for dataset in (
        derived(Pictures, "__getitem__")(pictures.samples, pictures.transform),
        derived(ImageFolder, "__getitem__")(tmp_path),
        derived(Subset, "__getitems__")(pictures, [0, 1]),
    ):
        with pytest.raises(TypeError, match="cannot tell where a Derived reads its pictures"):
            in_memory(dataset)
