"""Weights: only the file that its card describes is used, nothing is unpickled, and every failure says what to do."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.hub import HASH_REGEX
from torchvision import models
from torchvision.models import ResNet18_Weights, ResNet50_Weights

from course_utils.models import fresh, load_model
from course_utils.profiles import HOME
from course_utils.tools.pretrain import card_text, source_pictures
from course_utils.weights import HASH, check_file, download_place, get_weights, read_imagenet, shapes_weights

FOLDER = HOME / "data" / "weights"
CARDS = json.loads((FOLDER / "cards.json").read_text(encoding="utf-8"))

# ----------------------------------------------------------------------------------------------------------- cards


@pytest.mark.parametrize("name", CARDS)
def test_file_and_card_agree(name):
    card, path = CARDS[name], FOLDER / CARDS[name]["file"]
    assert path.stat().st_size == card["bytes"] <= 30_000_000
    weights = get_weights(name, "shapes")
    state = weights.get_state_dict()  # checks the SHA-256
    assert all(value.dtype == torch.float32 for value in state.values() if value.is_floating_point())
    assert weights.meta["categories"] == card["categories"]
    assert len(weights.meta["categories"]) == 24
    assert all(0.2 < mean < 0.8 and 0.1 < std < 0.4 for mean, std in zip(card["mean"], card["std"], strict=True))
    assert card["accuracy"] >= (0.95 if name == "resnet18" else 0.9)


@pytest.mark.parametrize("name", CARDS)
def test_the_tensors_are_the_networks_own(name):
    """All of resnet18, the features of vgg16; nothing else, and nothing that is not finite."""
    state, network = get_weights(name, "shapes").get_state_dict(), models.get_model(name, num_classes=24).state_dict()
    wanted = {n: tuple(v.shape) for n, v in network.items() if name == "resnet18" or n.startswith("features.")}
    assert {n: tuple(v.shape) for n, v in state.items()} == wanted
    assert all(value.isfinite().all() for value in state.values())


def test_our_resnet18_knows_shapes_it_has_never_seen():
    model, weights = load_model("resnet18"), get_weights("resnet18", "shapes")
    images, labels = source_pictures(8, seed=3_000)
    with torch.inference_mode():
        right = (model(weights.transforms()(images)).argmax(1) == labels).float().mean().item()
    assert right >= 0.97


def test_the_model_card_says_what_cards_json_says():
    assert (FOLDER / "README.md").read_text(encoding="utf-8") == card_text(CARDS), (
        "run `python -m course_utils.tools.pretrain --card` to write data/weights/README.md anew"
    )


def test_the_model_card_names_what_it_must():
    text = card_text(CARDS)
    for name, card in CARDS.items():
        for fact in (name, card["file"], card["sha256"], f"{card['accuracy']:.1%}", f"{card['bytes'] / 1e6:.1f} MB"):
            assert fact in text, fact
    for word in ("MIT", "held-out", "classifier.0", "`classifier.3`", "`classifier.6`", "Intended use", "Limits", "seed"):
        assert word in text, word


def test_the_interface_is_torchvisions():
    ours, theirs = get_weights("resnet18", "shapes"), ResNet18_Weights.IMAGENET1K_V1
    assert type(ours.transforms()) is type(theirs.transforms())
    assert {"categories"} <= ours.meta.keys() & theirs.meta.keys()
    images = torch.zeros(2, 3, 100, 80, dtype=torch.uint8)
    assert ours.transforms()(images).shape == (2, 3, 64, 64)


# -------------------------------------------------------------------------------------------------- our own, damaged


@pytest.fixture
def copied(tmp_path):
    """Our resnet18 weights, in a copy that may be spoilt."""
    weights = get_weights("resnet18", "shapes")
    path = tmp_path / weights.path.name
    path.write_bytes(weights.path.read_bytes())
    return replace(weights, path=path)


def test_a_copy_is_as_good(copied):
    assert copied.get_state_dict().keys() == get_weights("resnet18", "shapes").get_state_dict().keys()


def test_one_flipped_bit(copied):
    content = bytearray(copied.path.read_bytes())
    content[len(content) // 2] ^= 1
    copied.path.write_bytes(content)
    with pytest.raises(ValueError, match=r"is damaged or not ours: SHA-256 \w{12}…, its card says \w{12}….*git checkout"):
        copied.get_state_dict()


def test_a_truncated_file(copied):
    copied.path.write_bytes(copied.path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"\(1,000 bytes, expected 22,407,712\)"):
        copied.get_state_dict()


def test_a_missing_file(copied):
    copied.path.unlink()
    with pytest.raises(FileNotFoundError, match=r"is missing; `git checkout data/weights` brings it back"):
        copied.get_state_dict()


def test_missing_cards(tmp_path, monkeypatch):
    monkeypatch.setattr("course_utils.weights.FOLDER", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"cards\.json is missing; `git checkout data/weights` brings it back"):
        shapes_weights.__wrapped__()


def test_a_pickle_under_our_name_is_not_opened(copied, tmp_path):
    trace = tmp_path / "executed"
    torch.save({"weights": Bomb(trace)}, copied.path)
    with pytest.raises(ValueError, match="is damaged or not ours"):
        copied.get_state_dict()
    assert not trace.exists()


# ----------------------------------------------------------------------------------------------------------- names


def test_unknown_names():
    with pytest.raises(ValueError, match=r"no architecture named 'resnet19'; choose from .*did you mean 'resnet1"):
        get_weights("resnet19", "shapes")
    with pytest.raises(ValueError, match=r"no weights named 'imagnet'.*did you mean 'imagenet'"):
        get_weights("resnet18", "imagnet")
    with pytest.raises(ValueError, match=r"no 'shapes' weights for 'alexnet', only for .*weights='imagenet', or weights=None"):
        get_weights("alexnet", "shapes")


@pytest.mark.parametrize("architecture", models.list_models(module=models))
def test_imagenet_weights_of_every_architecture(architecture):
    weights = get_weights(architecture, "imagenet")
    assert len(weights.meta["categories"]) == 1000
    assert weights.url.startswith("https://")


def test_the_first_recipe_is_taken():
    assert get_weights("resnet50", "imagenet") is ResNet50_Weights.IMAGENET1K_V1


def test_no_weights():
    assert get_weights("resnet18", None) is None


def test_shapes_weights_are_listed():
    assert shapes_weights().keys() == CARDS.keys()


# -------------------------------------------------------------------------------------------------------- imagenet


class Bomb:
    """Unpickled, it would make a folder."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Where the file of ImageNet's resnet18 belongs, in a hub folder of its own; a stand-in there passes for the file."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("course_utils.weights.check_file", lambda *_: None)
    path = download_place(ResNet18_Weights.IMAGENET1K_V1)
    assert path == tmp_path / "torch" / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    path.parent.mkdir(parents=True)
    return path


def test_without_network_the_error_names_file_size_and_place(place, reached):
    with pytest.raises(FileNotFoundError) as caught:
        load_model("resnet18", weights="imagenet")
    words = str(caught.value)
    assert reached, "it tried"
    assert "the ImageNet weights resnet18-f37072fd.pth (45 MB) are not on this machine and could not be downloaded" in words
    assert words.endswith(f"fetch https://download.pytorch.org/models/resnet18-f37072fd.pth and copy it to {place}")
    assert list(place.parent.iterdir()) == [], "nothing half done is left"


def test_a_file_placed_by_hand_is_used(place):
    stand_in = fresh("resnet18")
    torch.save(stand_in.state_dict(), place)
    model = load_model("resnet18", weights="imagenet")
    assert not model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, stand_in.state_dict()[name]), name


@pytest.mark.parametrize("architecture", ["resnet18", "squeezenet1_0", "googlenet", "swin_t"])
def test_no_random_numbers_are_drawn_for_a_network_that_is_filled(architecture, tmp_path, monkeypatch):
    """VGG16 would draw 138 million of them, and throw them away."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("course_utils.weights.check_file", lambda *_: None)
    options = {"transform_input": True} if architecture == "googlenet" else {}
    stand_in, path = fresh(architecture, **options), download_place(get_weights(architecture, "imagenet"))
    path.parent.mkdir(parents=True)
    torch.save(stand_in.state_dict(), path)
    before = torch.get_rng_state()
    model = load_model(architecture, weights="imagenet")
    assert torch.equal(torch.get_rng_state(), before)
    for name, value in model.state_dict().items():
        assert torch.equal(value, stand_in.state_dict()[name]), name


def test_a_malicious_file_placed_by_hand_is_refused_and_not_run(place, tmp_path):
    for zipped in (True, False):
        torch.save(
            fresh("resnet18").state_dict() | {"fc.bias": Bomb(tmp_path / "executed")},
            place,
            _use_new_zipfile_serialization=zipped,
        )
        with pytest.raises(
            ValueError, match=r"resnet18-f37072fd\.pth is not a readable checkpoint; delete it and copy or download"
        ):
            load_model("resnet18", weights="imagenet")
        assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"PK\x03\x04 cut off"])
def test_a_spoilt_download(place, content):
    place.write_bytes(content)
    with pytest.raises(ValueError, match="is not a readable checkpoint; delete it and copy or download https://"):
        read_imagenet(ResNet18_Weights.IMAGENET1K_V1)


def test_a_truncated_download(place):
    torch.save(nn.Linear(100, 100).state_dict(), place)
    place.write_bytes(place.read_bytes()[:20_000])
    with pytest.raises(ValueError, match="is not a readable checkpoint"):
        load_model("resnet18", weights="imagenet")


def hub_file(content: bytes, name: str) -> Path:
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_file_that_is_not_what_its_name_says(tmp_path, monkeypatch):
    """Somebody's own checkpoint under torchvision's name would be loaded without a word."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    path = hub_file(b"", "resnet18-f37072fd.pth")
    torch.save(fresh("resnet18").state_dict(), path)
    with pytest.raises(ValueError, match=r"another file: its SHA-256 begins with \w{8}, not with f37072fd as in its name; del"):
        load_model("resnet18", weights="imagenet")
    with pytest.raises(ValueError, match=r"delete it and copy or download https://\S+/resnet18-f37072fd\.pth again"):
        read_imagenet(ResNet18_Weights.IMAGENET1K_V1)


def test_flipped_bits_in_a_checkpoint(tmp_path):
    """Torch itself reads such a file."""
    path = tmp_path / "draft"
    torch.save(nn.Linear(100, 100).state_dict(), path)
    content = bytearray(path.read_bytes())
    path = path.rename(tmp_path / f"linear-{hashlib.sha256(content).hexdigest()[:8]}.pth")
    check_file(path, "https://somewhere")
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    torch.load(path, weights_only=True)
    with pytest.raises(ValueError, match=r"is damaged or another file: .*copy or download https://somewhere again"):
        check_file(path, "https://somewhere")


@pytest.mark.parametrize("architecture", models.list_models(module=models))
def test_the_name_of_every_file_says_what_is_in_it(architecture):
    for weights in models.get_model_weights(architecture):
        assert HASH_REGEX.search(download_place(weights).name), "and torch looks at the same part of it after a download"
        assert len(re.findall(HASH, download_place(weights).name)) == 1
