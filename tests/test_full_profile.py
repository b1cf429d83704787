"""The profile full, offline: small files of our own lie where the downloads would lie, in the same format."""

from __future__ import annotations

import errno
import hashlib
import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torchvision import datasets

from course_utils import data as data_module
from course_utils.data import NAMED, open_data
from course_utils.heads import replace_head
from course_utils.models import fresh, load_model
from course_utils.profiles import settings
from course_utils.train import fit
from course_utils.weights import download_place, get_weights, read_imagenet


@pytest.fixture(autouse=True)
def full(monkeypatch, tmp_path):
    """The profile full with empty folders for data sets and weights."""
    monkeypatch.setenv("COURSE_PROFILE", "full")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(data_module, "FULL", tmp_path / "full")
    monkeypatch.setattr("course_utils.weights.check_file", lambda *_: None)  # stand-ins have another SHA-256
    return tmp_path / "full"


@pytest.fixture
def run(monkeypatch):
    """Settings of the profile full for a named data set that has so many pictures here."""

    def run(name: str, pictures: int, **changes):
        monkeypatch.setitem(NAMED, name, NAMED[name]._replace(pictures=pictures))
        return settings(workers=0, data=name, **changes)

    return run


def open_full(run, **changes):
    return open_data(run, transform=get_weights("resnet18", "imagenet").transforms(), **changes)


def sizes(data) -> list[int]:
    return [len(loader.dataset) for loader in (data.train, data.val, data.test)]


def test_eurosat(full, plant, run):
    names = {"AnnualCrop": 20, "Forest": 20, "River": 3}
    plant(full / "eurosat" / "2750", names, suffix=".jpg", size=(64, 64))
    data = open_full(run("eurosat", 43))
    assert data.classes == tuple(names)
    assert sum(sizes(data)) == 43
    for loader in (data.train, data.val, data.test):
        labels = [label for _, label in loader.dataset.samples]
        assert set(labels) == {0, 1, 2}
        assert labels.count(2) == 1
    images, _ = next(iter(data.val))
    assert images.shape[1:] == (3, 224, 224)


def test_named_data_sets_are_divided_alike_whatever_the_seed(full, plant, run):
    plant(full / "eurosat" / "2750", {"Forest": 20, "River": 20}, suffix=".jpg")
    splits = [open_full(run("eurosat", 40, seed=seed)).train.dataset.samples for seed in (0, 0, 1)]
    assert splits[0] == splits[1] == splits[2]
    pets(full)
    splits = [open_full(run("pets", 30, seed=seed)).val.dataset.samples for seed in (0, 0, 1)]
    assert splits[0] == splits[1] == splits[2]


def test_half_unpacked_data_do_not_pass_for_the_whole(full, plant):
    """torchvision looks only whether the folder is there: of an unpacking that was cut off some classes would be missing."""
    plant(full / "eurosat" / "2750", {"Forest": 20, "River": 20}, suffix=".jpg")
    words = (
        r"eurosat holds 40 of the 27,000 pictures of the data set 'eurosat'; delete it to have it downloaded again \(about 90"
    )
    with pytest.raises(FileNotFoundError, match=words):
        open_full(settings(workers=0))
    (pets(full) / "images" / "Abyssinian_3.jpg").unlink()
    with pytest.raises(
        FileNotFoundError, match="oxford-iiit-pet holds 29 of the 7,349 pictures of the data set 'pets'; delete it"
    ):
        open_full(settings(workers=0, data="pets"))
    (full / "oxford-iiit-pet" / "annotations" / "test.txt").unlink()
    with pytest.raises(FileNotFoundError, match="oxford-iiit-pet holds 0 of the 7,349 pictures"):
        open_full(settings(workers=0, data="pets"))


def pets(full: Path) -> Path:
    """Thirty pictures of two kinds as Oxford-IIIT Pet holds them, twenty of them to learn from."""
    root = full / "oxford-iiit-pet"
    (root / "images").mkdir(parents=True)
    (root / "annotations").mkdir()
    lines: dict[str, list[str]] = {"trainval": [], "test": []}
    for label, name in enumerate(("Abyssinian", "american_bulldog"), 1):
        for i in range(15):
            Image.new("RGB", (80, 60), (label * 60, i, 0)).save(root / "images" / f"{name}_{i}.jpg")
            lines["test" if i >= 10 else "trainval"].append(f"{name}_{i} {label} {label} 1")
    for split, content in lines.items():
        (root / "annotations" / f"{split}.txt").write_text("\n".join(content) + "\n")
    return root


def test_oxford_iiit_pet(full, run):
    pets(full)
    data = open_full(run("pets", 30))
    assert data.classes == ("Abyssinian", "American Bulldog")
    train, val, test = sizes(data)
    assert (train + val, test) == (20, 10)
    assert min(train, val) >= 2
    assert next(iter(data.test))[0].shape == (10, 3, 224, 224)


def test_flowers102(full, monkeypatch, run):
    root = full / "flowers-102"
    (root / "jpg").mkdir(parents=True)
    for i in range(1, 13):
        Image.new("RGB", (70, 70), (20 * i, 90, 90)).save(root / "jpg" / f"image_{i:05}.jpg")
    savemat(root / "imagelabels.mat", {"labels": np.array([1, 2, 102] * 4)})
    savemat(root / "setid.mat", {"trnid": np.arange(1, 7), "valid": np.arange(7, 10), "tstid": np.arange(10, 13)})
    files = dict(datasets.Flowers102._file_dict)
    for key, name in (("label", "imagelabels.mat"), ("setid", "setid.mat")):
        files[key] = (name, hashlib.md5((root / name).read_bytes()).hexdigest())
    monkeypatch.setattr(datasets.Flowers102, "_file_dict", files)
    data = open_full(run("flowers102", 12))
    assert len(data.classes) == 102
    assert data.classes[0] == "pink primrose"
    assert sizes(data) == [6, 3, 3]
    assert next(iter(data.val))[1].tolist() == [0, 1, 101]


def test_any_folder_of_class_folders(tmp_path, plant, monkeypatch):
    plant(tmp_path / "mine", {"left": 10, "right": 10})
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "mine"))
    data = open_full(settings(workers=0))
    assert data.classes == ("left", "right")
    assert sum(sizes(data)) == 20
    assert min(sizes(data)) >= 2
    monkeypatch.setenv("COURSE_DATA", "mine")
    monkeypatch.chdir(tmp_path)
    assert open_full(settings(workers=0)).classes == ("left", "right")


@pytest.mark.parametrize("name", NAMED)
def test_without_network_the_error_names_size_and_place(full, name, reached):
    with pytest.raises(FileNotFoundError) as caught:
        open_full(settings(workers=0, data=name))
    words = str(caught.value)
    assert reached, "it tried"
    megabytes, folder = NAMED[name].megabytes, NAMED[name].folder
    assert words.startswith(
        f"the data set {name!r} (about {megabytes} MB) is not on this machine and could not be downloaded ("
    )
    assert f"copy it from a machine that has it to {full / folder}, or name a folder of class folders in COURSE_DATA" in words


# ------------------------------------------------------------------------------------- downloads that are cut off

FAULTS = {
    "no route": OSError(errno.EHOSTUNREACH, "No route to host"),
    "cut off": ConnectionResetError("Connection reset by peer"),
    "a full disk": OSError(errno.ENOSPC, "No space left on device"),
    "another file than announced": RuntimeError("File not found or corrupted."),
    "stopped by hand": KeyboardInterrupt(),
}


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture(params=["archive", "unpacking"])
def cut_off(request, monkeypatch):
    """`cut_off(error)` makes downloads of torchvision end with it, in the middle of the archive or of the unpacking."""

    def cut_off(error: BaseException) -> None:
        def stand_in(url: str, download_root: str, *args, **options) -> None:
            Path(download_root).mkdir(parents=True, exist_ok=True)
            (Path(download_root) / "archive.zip").write_bytes(b"half of it")
            if request.param == "unpacking":
                (Path(download_root) / "2750" / "River").mkdir(parents=True)
                (Path(download_root) / "2750" / "River" / "1.jpg").write_bytes(b"x")
                (Path(download_root) / "jpg").mkdir()
            raise error

        for module in ("eurosat", "flowers102", "oxford_iiit_pet"):
            monkeypatch.setattr(f"torchvision.datasets.{module}.download_and_extract_archive", stand_in)

    return cut_off


def try_to_open(name: str, fault: str) -> str:
    expected = KeyboardInterrupt if fault == "stopped by hand" else FileNotFoundError
    with pytest.raises(expected) as caught:
        open_full(settings(workers=0, data=name))
    return str(caught.value)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", NAMED)
def test_a_download_that_fails_leaves_nothing(full, cut_off, name, fault):
    cut_off(FAULTS[fault])
    first = try_to_open(name, fault)
    assert not full.exists(), files(full)
    assert try_to_open(name, fault) == first, "the second try says the same"


@pytest.mark.parametrize("name", NAMED)
def test_a_download_that_fails_takes_nothing_away_that_was_there(full, cut_off, name, plant):
    plant(full / "eurosat-of-mine", {"Forest": 2})
    (full / NAMED[name].folder).mkdir()
    (full / NAMED[name].folder / "copied.zip").write_bytes(b"by hand")
    before = files(full)
    cut_off(FAULTS["cut off"])
    try_to_open(name, "cut off")
    assert files(full) == before


@pytest.mark.parametrize("name", NAMED)
def test_an_empty_folder_from_before_is_taken_for_none(full, name, reached):
    (full / NAMED[name].folder).mkdir(parents=True)
    assert "could not be downloaded" in try_to_open(name, "no route")
    assert reached, "it tried"
    assert not full.exists()


@pytest.mark.parametrize("fault", FAULTS)
def test_weights_whose_download_fails_leave_nothing(tmp_path, monkeypatch, fault):
    class Answer(io.BytesIO):
        """Half of a file, and then the fault."""

        def info(self):
            return SimpleNamespace(get_all=lambda name: ["2000"])

        def read(self, size: int = -1) -> bytes:
            if not self.tell():
                return super().read(1000)
            raise FAULTS[fault]

    monkeypatch.setattr("torch.hub.urlopen", lambda request: Answer(b"x" * 1000))
    weights = get_weights("resnet18", "imagenet")
    expected = KeyboardInterrupt if fault == "stopped by hand" else FileNotFoundError
    with pytest.raises(expected):
        read_imagenet(weights)
    assert not [path for path in (tmp_path / "torch").rglob("*") if path.is_file()]


@pytest.mark.parametrize("architecture", ["resnet18", "vgg16"])
def test_from_pictures_to_a_trained_head(tmp_path, plant, monkeypatch, architecture):
    """ImageNet's architecture and sizes, a checkpoint in torch's hub folder, a folder of pictures, one epoch."""
    place = download_place(get_weights(architecture, "imagenet"))
    place.parent.mkdir(parents=True)
    with torch.device("meta"):
        shapes = fresh(architecture).state_dict()
    torch.save({name: small(value) for name, value in shapes.items()}, place)
    monkeypatch.setattr("course_utils.weights.check_file", lambda path, url: None)  # for it is not the one of that name
    plant(tmp_path / "mine", {"left": 4, "right": 4})
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "mine"))
    run = settings(workers=0, batch_size=4)
    data = open_data(run, transform=get_weights(architecture, run.weights).transforms())
    model = load_model(architecture, weights=run.weights)
    assert get_weights(architecture, run.weights).meta["categories"][:1] == ["tench"]
    for parameter in model.parameters():
        parameter.requires_grad = False
    replace_head(model, len(data.classes))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01)
    (epoch,) = fit(model, data.train, data.val, optimizer, epochs=1)
    assert np.isfinite(epoch.val.loss)


def test_imagenet_transforms_are_for_224_pixels():
    assert get_weights("resnet18", settings().weights).transforms().crop_size == [224]


def small(value: torch.Tensor) -> torch.Tensor:
    """A tensor of that shape which takes no room on the disk: one value, shown everywhere."""
    return torch.full((1,), 0.01).expand(value.shape) if value.is_floating_point() else torch.zeros((), dtype=value.dtype)
