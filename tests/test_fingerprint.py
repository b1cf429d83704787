"""Fingerprints: equal for equal things, different for whatever differs, and none for what cannot be recognised."""

from __future__ import annotations

import copy
import functools
import importlib.util
from functools import partial
from pathlib import Path
from types import MethodType, SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn
from torch.utils.data import Dataset, Subset, TensorDataset
from torchvision import models, transforms
from torchvision.datasets import ImageFolder
from torchvision.transforms import InterpolationMode, v2

from course_utils import fingerprint as module
from course_utils.fingerprint import Unrecognised, fingerprint
from course_utils.folders import list_folder
from course_utils.images import Pictures, in_memory, read_picture
from course_utils.weights import get_weights, image_transform

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(plain, plain)
def test_equal_if_and_only_if_they_read_the_same(a, b):
    assert fingerprint(a) == fingerprint(copy.deepcopy(a))
    assert (fingerprint(a) == fingerprint(b)) == (repr(a) == repr(b))


DIFFERENT = [
    ([1, 2], [12]),
    (["a", "b"], ["ab"]),
    ([[1], [2]], [[1, 2]]),
    ((1,), [1]),
    (1, True),
    (1, 1.0),
    (0.0, -0.0),
    (torch.zeros(2, 3), torch.zeros(3, 2)),
    (torch.zeros(4), torch.zeros(4, dtype=torch.float64)),
    (torch.zeros(2), np.zeros(2, np.float32)),
    (torch.tensor(1.0), torch.tensor([1.0])),
    (nn.Conv2d(1, 1, 1, stride=1, device="meta"), nn.Conv2d(1, 1, 1, stride=2, device="meta")),
    (nn.BatchNorm2d(2), nn.BatchNorm2d(2, eps=1e-3)),
    (nn.ReLU(), nn.Identity()),
    (nn.Sequential(nn.ReLU(), nn.Flatten()), nn.Sequential(nn.Flatten(), nn.ReLU())),
    (transforms.Resize(64), transforms.Resize(65)),
    (transforms.Resize(64), transforms.Resize(64, InterpolationMode.NEAREST)),
    (transforms.Resize(64), v2.Resize(64)),
    (transforms.Normalize([0.5], [0.1]), transforms.Normalize([0.5], [0.2])),
    (image_transform(size=64, resize=64, mean=[0.5], std=[0.1]), image_transform(size=32, resize=64, mean=[0.5], std=[0.1])),
    (partial(round, ndigits=1), partial(round, ndigits=2)),
    (torch.relu, torch.sigmoid),
    (transforms.Normalize([0.5], [0.1]).forward, transforms.Normalize([0.5], [0.2]).forward),
    (transforms.Resize(64).forward, transforms.Resize(64).__call__),
    (partial(transforms.Resize(64).forward), partial(transforms.Resize(65).forward)),
]


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_what_differs_differs(a, b):
    if any(getattr(p, "is_meta", False) for one in (a, b) if isinstance(one, nn.Module) for p in one.parameters()):
        a, b = (one.to_empty(device="cpu").apply(lambda part: [p.data.zero_() for p in part.parameters()]) for one in (a, b))
    assert fingerprint(a) == fingerprint(copy.deepcopy(a))
    assert fingerprint(a) != fingerprint(b)


def test_weights_and_statistics_count_and_modes_and_gradients_do_not():
    torch.manual_seed(0)
    model = models.resnet18(num_classes=3).eval()
    before = fingerprint(model)
    model.train().requires_grad_(False)
    assert fingerprint(model) == before
    model.layer1[0].bn1.running_mean[0] += 1e-6
    moved = fingerprint(model)
    assert moved != before
    model.layer4[1].conv2.weight.data[0, 0, 0, 0] += 1e-6
    assert fingerprint(model) not in (before, moved)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.complex64])
def test_every_kind_of_number(dtype):
    value = torch.zeros(3).to(dtype)
    other = value.clone()
    other[1] = 1
    assert fingerprint(value) == fingerprint(value.clone())
    assert fingerprint(value) != fingerprint(other)
    assert fingerprint(value.expand(2, 3)) == fingerprint(value.expand(2, 3).contiguous())


def palette_picture(colour: tuple[int, int, int], transparent: int | None = None) -> Image.Image:
    """One pixel, the first of its palette."""
    picture = Image.new("P", (1, 1), 0)
    picture.putpalette([*colour, 1, 2, 3])
    return picture if transparent is None else (picture.info.update(transparency=transparent) or picture)


def test_pictures_with_the_same_numbers_and_another_meaning():
    grey = Image.new("L", (2, 2), 7)
    found = [palette_picture((9, 9, 9)), palette_picture((200, 0, 0)), palette_picture((9, 9, 9), transparent=0)]
    found += [grey, grey.resize((4, 1)), Image.frombytes("HSV", (2, 2), bytes(12)), Image.frombytes("RGB", (2, 2), bytes(12))]
    assert len({fingerprint(one) for one in found}) == len(found)
    assert fingerprint(palette_picture((9, 9, 9))) == fingerprint(palette_picture((9, 9, 9)))


def test_code_of_the_course_that_was_edited_gives_something_else(tmp_path, monkeypatch):
    """`to_rgb` may prepare pictures in another way under the same name."""
    before = fingerprint(read_picture)
    real = importlib.util.find_spec("course_utils.images")
    edited = tmp_path / "data.py"
    edited.write_text(Path(real.origin).read_text(encoding="utf-8") + "\n# edited\n", encoding="utf-8")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: SimpleNamespace(origin=edited))
    module._source.cache_clear()
    try:
        assert fingerprint(read_picture) != before
        assert fingerprint(1) != fingerprint(2)
    finally:
        module._source.cache_clear()


# --------------------------------------------------------------------------------------------------------- data sets


@pytest.fixture
def pictures(plant, tmp_path):
    """Six pictures of two classes, and what makes a data set of them."""
    root = plant(tmp_path / "all", {"dark": 3, "light": 3})
    samples, _ = list_folder(root, ["dark", "light"])
    return Pictures(samples, get_weights("resnet18", "shapes").transforms())


def change_one_pixel(path: Path) -> None:
    with Image.open(path) as image:
        changed = image.copy()
    changed.putpixel((0, 0), (1, 2, 3))
    changed.save(path)


def test_a_data_set_is_its_files_their_order_and_the_transform(pictures, tmp_path):
    before = fingerprint(pictures)
    seen = {before}
    assert fingerprint(Pictures(pictures.samples, get_weights("resnet18", "shapes").transforms())) == before
    seen.add(fingerprint(Pictures(pictures.samples[::-1], pictures.transform)))
    seen.add(fingerprint(Pictures([(path, 1 - label) for path, label in pictures.samples], pictures.transform)))
    seen.add(fingerprint(Pictures(pictures.samples[1:], pictures.transform)))
    seen.add(fingerprint(Pictures(pictures.samples, transforms.ToTensor())))
    change_one_pixel(pictures.samples[4][0])
    seen.add(fingerprint(pictures))
    assert len(seen) == 6


def test_a_folder_that_was_moved_is_the_same(pictures, tmp_path):
    before = fingerprint(pictures)
    (tmp_path / "all").rename(tmp_path / "elsewhere")
    moved = [(tmp_path / "elsewhere" / path.relative_to(tmp_path / "all"), label) for path, label in pictures.samples]
    assert fingerprint(Pictures(moved, pictures.transform)) == before


def test_other_kinds_of_data_sets(pictures, tmp_path):
    folder = ImageFolder(tmp_path / "all", transform=transforms.ToTensor())
    memory = in_memory(folder)
    tensors = TensorDataset(torch.zeros(3, 2), torch.arange(3))
    found = [pictures, folder, memory, tensors, Subset(folder, [0, 1]), Subset(folder, [1, 0]), Subset(tensors, [0, 1])]
    assert len({fingerprint(one) for one in found}) == len(found)
    change_one_pixel(Path(folder.samples[0][0]))
    assert fingerprint(memory) != fingerprint(in_memory(folder)), "pixels in memory count as well"


# ------------------------------------------------------------------------------------------------------ unrecognised


class Own(nn.Module):
    pass


class OwnData(Dataset):
    pass


class Changed(Pictures):
    """A kind of its own may read in a way of its own."""


@pytest.mark.parametrize(
    ("what", "name"),
    [
        (lambda image: image, "<lambda>"),
        (transforms.Compose([transforms.Lambda(len), transforms.Lambda(lambda image: image)]), "<lambda>"),
        (change_one_pixel, "change_one_pixel"),
        (Own(), "Own"),
        (nn.Sequential(Own()), "Own"),
        (OwnData(), "the data set of type OwnData"),
        (Changed([], None), "the data set of type Changed"),
        (partial(change_one_pixel), "change_one_pixel"),
        (object(), "object"),
        (MethodType(change_one_pixel, transforms.Resize(64)), "change_one_pixel"),
        (functools.wraps(torch.relu)(lambda image: image), "relu"),  # whose name is borrowed
        (torch.eye(3).to_sparse(), "sparse"),
        (torch.zeros(3, device="meta"), "without numbers"),
    ],
)
def test_what_is_not_known_has_none(what, name):
    with pytest.raises(Unrecognised, match=name):
        fingerprint(what)


def test_a_layer_with_a_method_of_ones_own_has_none():
    conv = nn.Conv2d(1, 1, 1)
    conv.forward = MethodType(change_one_pixel, conv)
    with pytest.raises(Unrecognised, match="change_one_pixel"):
        fingerprint(conv)
    conv.forward = conv._conv_forward  # known, but it holds the layer that holds it
    with pytest.raises(Unrecognised, match="holds itself"):
        fingerprint(conv)


@pytest.mark.parametrize("borrow", [lambda method: method, functools.wraps(nn.Module.forward)])
def test_a_class_that_got_a_method_of_ones_own_has_none(monkeypatch, borrow):
    block = models.resnet.BasicBlock(2, 2)
    fingerprint(block)
    monkeypatch.setattr(models.resnet.BasicBlock, "forward", borrow(lambda self, images: images))
    with pytest.raises(Unrecognised, match=r"BasicBlock\.forward"):
        fingerprint(block)


def test_a_data_set_whose_class_got_a_method_of_ones_own_has_none(monkeypatch):
    monkeypatch.setattr(TensorDataset, "__getitem__", lambda self, index: 0)
    with pytest.raises(Unrecognised, match="__getitem__"):
        fingerprint(TensorDataset(torch.zeros(2)))


def test_numbers_that_are_conjugate_or_negative_only_when_read_count_as_they_read():
    numbers = torch.tensor([1 + 2j])
    assert fingerprint(numbers.conj()) == fingerprint(numbers.conj().resolve_conj()) != fingerprint(numbers)


def test_another_version_of_torch_is_another_result(monkeypatch):
    before = fingerprint(1)
    monkeypatch.setattr(module, "VERSIONS", ("2.15.1", *module.VERSIONS[1:]))
    assert fingerprint(1) != before
