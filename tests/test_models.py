"""Models: the head of every torchvision classification family, and files that are whole or not there."""

from __future__ import annotations

import errno
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models
from torchvision.models import ResNet18_Weights, VGG16_Weights

from course_utils.models import AUXILIARY, MetaInit, fresh, head_name, head_of, load_model, open_model, replace_head, save_model
from course_utils.profiles import HOME
from course_utils.weights import get_weights

ARCHITECTURES = models.list_models(module=models)
FAMILIES = {  # the beginning of the architectures' names: the name of the head, and one small member
    "alexnet": ("classifier.6", "alexnet"),
    "convnext": ("classifier.2", "convnext_tiny"),
    "densenet": ("classifier", "densenet121"),
    "efficientnet": ("classifier.1", "efficientnet_b0"),
    "googlenet": ("fc", "googlenet"),
    "inception": ("fc", "inception_v3"),
    "maxvit": ("classifier.5", "maxvit_t"),
    "mnasnet": ("classifier.1", "mnasnet0_5"),
    "mobilenet_v2": ("classifier.1", "mobilenet_v2"),
    "mobilenet_v3": ("classifier.3", "mobilenet_v3_small"),
    "regnet": ("fc", "regnet_y_400mf"),
    "resnet": ("fc", "resnet18"),
    "resnext": ("fc", "resnext50_32x4d"),
    "shufflenet": ("fc", "shufflenet_v2_x0_5"),
    "squeezenet": ("classifier.1", "squeezenet1_1"),
    "swin": ("head", "swin_t"),
    "vgg": ("classifier.6", "vgg11"),
    "vit": ("heads.head", "vit_b_32"),
    "wide_resnet": ("fc", "wide_resnet50_2"),
}


def hollow(architecture: str) -> nn.Module:
    """The network on the meta device: all shapes, no numbers."""
    with MetaInit():
        return fresh(architecture).to("meta")


def output_shape(model: nn.Module, architecture: str) -> tuple[int, ...]:
    size = 299 if architecture == "inception_v3" else 224
    return tuple(model.eval()(torch.empty(2, 3, size, size, device="meta")).shape)


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


# ------------------------------------------------------------------------------------------------------------ head


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_head_of_every_architecture(architecture):
    model = hollow(architecture)
    name = next(head for family, (head, _) in FAMILIES.items() if architecture.startswith(family))
    assert head_name(model) == name
    assert head_of(model) is model.get_submodule(name)
    others = {id(p) for n, p in model.named_parameters() if not n.startswith((name, *AUXILIARY))}
    replace_head(model, 7)
    assert head_of(model) is model.get_submodule(name)
    kept = {id(p) for n, p in model.named_parameters() if not n.startswith((name, *AUXILIARY))}
    assert kept == others, "all other parameters are the same objects"
    assert all(p.requires_grad for p in head_of(model).parameters())


@pytest.mark.parametrize("architecture", [small for _, small in FAMILIES.values()])
def test_heads_of_several_layers_one_output_and_again(architecture):
    model = hollow(architecture)
    others = {n: s for n, s in shapes(model).items() if not n.startswith((head_name(model), *AUXILIARY))}
    inputs = head_inputs(head_of(model))
    for num_classes, hidden, dropout in ((5, (256, 128), 0.5), (1, (), 0.0), (3, (), 0.3), (2, (64,), 0.0)):
        replace_head(model, num_classes, hidden=hidden, dropout=dropout)
        if num_classes in (1, 5):  # the shapes of the others follow
            assert output_shape(model, architecture) == (2, num_classes)
        assert head_inputs(head_of(model)) == inputs
        assert {n: s for n, s in shapes(model).items() if not n.startswith((head_name(model), *AUXILIARY))} == others
        drops = [layer.p for layer in head_of(model).modules() if isinstance(layer, nn.Dropout)]
        assert drops == [dropout] * max(len(hidden), 1) * bool(dropout)


def head_inputs(head: nn.Module) -> int:
    first = next(layer for layer in head.modules() if isinstance(layer, (nn.Linear, nn.Conv2d)))
    return first.in_features if isinstance(first, nn.Linear) else first.in_channels


def test_the_two_layer_head():
    head = head_of(replace_head(fresh("resnet18"), 10, hidden=(256, 128)))
    assert [str(layer).partition("(")[0] for layer in head] == ["Linear", "ReLU", "Linear", "ReLU", "Linear"]
    assert [tuple(p.shape) for p in head.parameters() if p.dim() == 2] == [(256, 512), (128, 256), (10, 128)]


@pytest.mark.parametrize("architecture", ["inception_v3", "googlenet"])
def test_auxiliary_heads_follow(architecture):
    model = replace_head(hollow(architecture), 4, hidden=(8,))
    size = 299 if architecture == "inception_v3" else 224
    outputs = model.train()(torch.empty(2, 3, size, size, device="meta"))
    assert [tuple(logits.shape) for logits in outputs] == [(2, 4)] * len(outputs)
    assert len(outputs) == (2 if architecture == "inception_v3" else 3)


def test_squeezenet_says_how_many_classes_it_has():
    model = replace_head(fresh("squeezenet1_1"), 6)
    assert model.num_classes == 6
    assert isinstance(head_of(model), nn.Conv2d)
    assert model(torch.rand(2, 3, 64, 64)).shape == (2, 6)


def test_the_new_head_is_where_and_as_the_old_one_was():
    model = fresh("squeezenet1_1").double().eval()
    replace_head(model, 3, hidden=(5,), dropout=0.5)
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert not any(module.training for module in model.modules())
    images = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    assert torch.equal(model(images), model(images)), "dropout is off, as it was"
    replace_head(model.train(), 3, dropout=0.5)
    assert all(module.training for module in head_of(model).modules())


def test_a_new_head_learns_even_where_the_old_one_was_frozen():
    model = fresh("resnet18").requires_grad_(False)
    replace_head(model, 2)
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["fc.weight", "fc.bias"]


def test_the_rest_keeps_its_values(small_net):
    model = small_net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    replace_head(model, 5)
    assert all(torch.equal(value, before[n]) for n, value in model.state_dict().items() if not n.startswith("fc"))


@pytest.mark.parametrize("size", [0, -1, 2.0, "2", True, None])
def test_a_size_that_is_no_size(small_net, size):
    with pytest.raises(ValueError, match="needs a positive whole number of outputs, not"):
        replace_head(small_net(), size)
    with pytest.raises(ValueError, match="needs a positive whole number of outputs, not"):
        replace_head(small_net(), 2, hidden=(4, size))


def test_hidden_without_a_tuple(small_net):
    with pytest.raises(ValueError, match=r"hidden=256; give the sizes of the layers in a tuple"):
        replace_head(small_net(), 2, hidden=256)


@pytest.mark.parametrize("dropout", [-0.1, 1, 1.5, float("nan")])
def test_a_dropout_that_is_no_probability(small_net, dropout):
    with pytest.raises(ValueError, match="dropout is a probability, not"):
        replace_head(small_net(), 2, dropout=dropout)


@pytest.mark.parametrize("model", [nn.ReLU(), nn.Conv2d(3, 4, 1), nn.Linear(3, 4), nn.Sequential(nn.Conv2d(3, 4, 1))])
def test_a_model_without_a_head(model):
    with pytest.raises(ValueError, match=r"has no layer that looks like a head \(nn.Linear"):
        replace_head(model, 2)


# ------------------------------------------------------------------------------------------------------------ load


def test_our_weights_see_what_they_were_trained_on():
    model, weights = load_model("resnet18"), get_weights("resnet18", "shapes")
    assert not model.training
    assert all(p.requires_grad and p.dtype == torch.float32 and not p.is_meta for p in model.parameters())
    assert not any(value.is_meta for value in model.buffers())
    assert model.fc.out_features == len(weights.meta["categories"]) == 24


@pytest.mark.parametrize("architecture", json.loads((HOME / "data" / "weights" / "cards.json").read_text()))
def test_loading_draws_no_random_numbers_and_gives_the_same_again(architecture):
    before = torch.get_rng_state()
    first, again = load_model(architecture), load_model(architecture)
    assert torch.equal(torch.get_rng_state(), before)
    for (name, value), other in zip(first.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(value, other), name
        assert not value.is_meta
        assert value.is_floating_point() is False or value.isfinite().all(), name


def test_no_weights_at_all():
    model = load_model("squeezenet1_1", weights=None)
    assert not model.training
    assert head_of(model).out_channels == 1000


def test_unknown_names():
    with pytest.raises(ValueError, match=r"no architecture named 'resnet81'; choose from .*did you mean 'resnet18'"):
        load_model("resnet81")
    with pytest.raises(
        ValueError, match=r"no weights named 'shape'; choose from \['shapes', 'imagenet'\] \(did you mean 'shapes'"
    ):
        load_model("resnet18", weights="shape")
    with pytest.raises(ValueError, match=r"there are no 'shapes' weights for 'resnet50', only for \['resnet18'"):
        load_model("resnet50")


# ---------------------------------------------------------------------------------------------------- save and open

CLASSES = ("ant", "bee", "cat")


@pytest.fixture
def saved(tmp_path):
    """A small model with its file: the model, the path, and what `save_model` was given."""
    model = replace_head(fresh("squeezenet1_1").eval(), 3, hidden=(8,), dropout=0.2)
    given = {"architecture": "squeezenet1_1", "classes": CLASSES, "transform": get_weights("resnet18", "shapes").transforms()}
    return model, save_model(model, tmp_path / "model.safetensors", **given), given


FRESH_PROCESS = """
import sys, torch
from course_utils import open_model
model, classes, transform = open_model(sys.argv[1])
images, logits = torch.load(sys.argv[2])
assert classes == ("ant", "bee", "cat") and not model.training, (classes, model.training)
with torch.inference_mode():
    assert torch.equal(model(images), logits), (model(images) - logits).abs().max()
"""


def test_it_opens_in_a_fresh_process_and_gives_the_same_logits(saved, tmp_path):
    model, path, _ = saved
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        torch.save([images, model(images)], tmp_path / "wanted.pt")
    code = f"import torch; torch.set_num_threads({torch.get_num_threads()})\n" + FRESH_PROCESS
    done = subprocess.run(
        [sys.executable, "-c", code, path, tmp_path / "wanted.pt"], cwd=HOME, capture_output=True, text=True, timeout=120
    )
    assert not done.returncode, done.stderr


def test_what_is_opened_is_what_was_saved(saved):
    model, path, given = saved
    opened, classes, transform = open_model(path)
    assert classes == CLASSES
    assert repr(transform) == repr(given["transform"])
    assert all(p.requires_grad for p in opened.parameters())
    assert opened.state_dict().keys() == model.state_dict().keys()
    for name, value in opened.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name
    assert repr(opened) == repr(model)


@pytest.mark.parametrize("weights", [ResNet18_Weights.IMAGENET1K_V1, VGG16_Weights.IMAGENET1K_FEATURES])
def test_the_preparation_of_pictures_comes_back(saved, tmp_path, weights):
    model, _, given = saved
    transform = weights.transforms()
    again = open_model(save_model(model, tmp_path / "a", **given | {"transform": transform})).transform
    picture = torch.randint(256, (3, 300, 260), dtype=torch.uint8)
    assert torch.equal(transform(picture), again(picture))
    assert repr(transform) == repr(again)


def test_a_single_logit_has_two_names(saved, tmp_path):
    _, _, given = saved
    model = replace_head(fresh("squeezenet1_1"), 1)
    opened = open_model(save_model(model, tmp_path / "binary", **given | {"classes": ("no", "yes")}))
    assert head_of(opened.model).out_channels == 1
    assert opened.classes == ("no", "yes")


@pytest.mark.parametrize("options", [{}, {"aux_logits": False, "transform_input": True}])
def test_a_network_with_options_is_rebuilt_with_them(saved, tmp_path, options):
    _, _, given = saved
    model = replace_head(fresh("googlenet", **options).eval(), 3)
    opened = open_model(save_model(model, tmp_path / "a", **given | {"architecture": "googlenet"})).model
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(opened(images), model(images))


@pytest.mark.parametrize("classes", [("ant", "bee"), (*CLASSES, "dog")])
def test_too_many_or_too_few_names(saved, tmp_path, classes):
    model, _, given = saved
    with pytest.raises(ValueError, match=rf"the model has 3 outputs, but {len(classes)} class names were given"):
        save_model(model, tmp_path / "a", **given | {"classes": classes})


def test_a_head_for_another_architecture(saved, tmp_path):
    model, _, given = saved
    with pytest.raises(ValueError, match=r"this model as a squeezenet1_0 does not fit: \d+ tensors differ, such as 'features"):
        save_model(model, tmp_path / "a", **given | {"architecture": "squeezenet1_0"})
    with pytest.raises(ValueError, match="did you mean 'squeezenet1_1'"):
        save_model(model, tmp_path / "a", **given | {"architecture": "squeezenet11"})
    assert not (tmp_path / "a").exists()


def test_a_head_built_by_hand(saved, tmp_path):
    _, _, given = saved
    model = fresh("resnet18")
    model.fc = nn.Sequential(nn.Dropout(0.5), nn.Linear(512, 3))
    with pytest.raises(ValueError, match=r"such as 'fc\.weight', missing given and \(3, 512\) needed.*only by replace_head"):
        save_model(model, tmp_path / "a", **given | {"architecture": "resnet18"})


def test_a_preparation_that_cannot_be_saved(saved, tmp_path):
    model, _, given = saved
    with pytest.raises(ValueError, match=r"cannot save the preparation ReLU.*give the one from weights\.transforms"):
        save_model(model, tmp_path / "a", **given | {"transform": nn.ReLU()})


# ---- full disks, killed processes, and files that are something else


def rewrite(path: Path, tensors: dict[str, Tensor], card: dict | None) -> None:
    save_file(tensors, path, metadata={"course": json.dumps(card)} if card else None)


def test_a_full_disk_keeps_the_old_file(saved, monkeypatch):
    model, path, given = saved
    before = path.read_bytes()

    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(
        OSError, match=r"model\.safetensors could not be written \(No space left on device\); free some"
    ) as caught:
        save_model(model, path, **given)
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == [path.name]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full exists on Linux only")
def test_a_disk_that_is_really_full(saved):
    model, path, given = saved
    before = path.read_bytes()
    path.with_name(f".{path.name}.{os.getpid()}.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        save_model(model, path, **given)
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == [path.name]


KILLED = """
import os, sys
from course_utils import load_model, get_weights, save_model
os.replace = lambda *_: os._exit(9)  # the process ends when all is written, but not in place yet
transform = get_weights("resnet18", "shapes").transforms()
model = load_model("squeezenet1_1", weights=None)
save_model(model, sys.argv[1], architecture="squeezenet1_1", classes=range(1000), transform=transform)
"""


def test_a_killed_process_leaves_the_old_file(saved):
    _, path, _ = saved
    before = path.read_bytes()
    done = subprocess.run([sys.executable, "-c", KILLED, path], cwd=HOME, capture_output=True, text=True, timeout=120)
    assert done.returncode == 9, done.stderr
    assert path.read_bytes() == before
    assert open_model(path).classes == CLASSES


def test_a_folder_that_is_not_there(saved, tmp_path):
    model, _, given = saved
    with pytest.raises(FileNotFoundError, match=r"could not be written .* or choose another folder"):
        save_model(model, tmp_path / "none" / "a", **given)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        open_model(tmp_path / "none")


class Bomb:
    """Unpickled, it would make a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickled_checkpoint_is_refused_and_not_run(tmp_path, zipped):
    path, trace = tmp_path / "model.pt", tmp_path / "executed"
    torch.save({"weights": Bomb(trace)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        ValueError, match=r"model\.pt is a pickled checkpoint, which may run code when opened; save the model with"
    ):
        open_model(path)
    assert not trace.exists()
    path.write_bytes(pickle.dumps(Bomb(trace)))
    with pytest.raises(ValueError, match="is a pickled checkpoint"):
        open_model(path)
    assert not trace.exists()


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.01, 0.5, 0.999])
def test_a_truncated_file(saved, share):
    _, path, _ = saved
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"is damaged or was cut off \(.*\); copy it again or save the model again"):
        open_model(path)


def test_a_file_that_is_something_else(tmp_path):
    path = tmp_path / "notes"
    path.write_text("dear diary, " * 100)
    with pytest.raises(ValueError, match="is damaged or was cut off"):
        open_model(path)
    rewrite(path, {"fc.weight": torch.zeros(2, 2)}, None)
    with pytest.raises(ValueError, match="holds tensors but not what they belong to; open files that save_model wrote"):
        open_model(path)


def test_tensors_of_another_architecture_in_the_file(saved, tmp_path):
    model, path, _ = saved
    with safe_open(path, framework="pt") as file:
        card = json.loads(file.metadata()["course"])
    rewrite(path, model.state_dict(), card | {"architecture": "squeezenet1_0"})
    with pytest.raises(ValueError, match="as a squeezenet1_0 does not fit"):
        open_model(path)
    rewrite(path, model.state_dict(), card | {"architecture": "squeezenet3"})
    with pytest.raises(ValueError, match="no architecture named 'squeezenet3'"):
        open_model(path)
