"""The frozen part once: the same training to the last digits for every family, and never a feature that is out of date."""

from __future__ import annotations

import copy
import math
import pickle
import random
import warnings
from collections import OrderedDict

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from torchvision import transforms
from torchvision.ops import StochasticDepth
from torchvision.transforms import v2

from course_utils.data import open_data
from course_utils.finetune import freeze, train_mode, unfreeze
from course_utils.fx_split import ModelPart, split_frozen
from course_utils.heads import head_of, replace_head
from course_utils.images import Pictures, in_memory
from course_utils.models import fresh, load_model
from course_utils.precomputed import Samples, is_random, precompute
from course_utils.profiles import settings
from course_utils.train import evaluate, fit, train_one_epoch


def sgd(model: nn.Module, lr: float = 0.01) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr, momentum=0.9)


def loaders(dataset, batch_size: int = 2) -> tuple[DataLoader, DataLoader]:
    """One that shuffles, as for training, and one that does not; equal ones at every call."""
    shuffled = DataLoader(dataset, batch_size, shuffle=True, generator=torch.Generator().manual_seed(3))
    return shuffled, DataLoader(dataset, batch_size)


def noise(count: int, pixels: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(1)
    return TensorDataset(torch.randn(count, 3, pixels, pixels, generator=generator), torch.arange(count) % 3)


def train_both_ways(model: nn.Module, dataset, epochs: int = 2, batch_size: int = 2) -> tuple[nn.Module, nn.Module, ModelPart]:
    """`model` trained as a whole, a copy of it trained on kept features, and the half that learnt; scores must be equal."""
    other = copy.deepcopy(model)
    torch.manual_seed(5)
    whole = fit(model, *loaders(dataset, batch_size), sgd(model), epochs=epochs)
    frozen, learning = split_frozen(other)
    torch.manual_seed(5)
    train, val = (precompute(frozen, loader, cache=None) for loader in loaders(dataset, batch_size))
    reused = fit(learning, train, val, sgd(learning), epochs=epochs)
    for a, b in zip(whole, reused, strict=True):
        assert (a.train.loss, a.val.loss) == pytest.approx((b.train.loss, b.val.loss), abs=1e-5)
        assert (a.train.accuracy, a.val.accuracy) == (b.train.accuracy, b.val.accuracy)
    return model, other, learning


def assert_same_weights(a: nn.Module, b: nn.Module) -> None:
    for name, value in a.state_dict().items():
        torch.testing.assert_close(b.state_dict()[name], value, atol=1e-5, rtol=1e-5, msg=name)


# ------------------------------------------------------------------------------------------------------ every family

FAMILIES = {  # pixels of a small picture, and the deeper part that learns
    "resnet18": (32, "layer4"),
    "vgg16": (32, "features.28"),
    "densenet121": (32, "features.denseblock4.denselayer16"),
    "efficientnet_b0": (32, "features.7"),
    "mobilenet_v3_small": (32, "features.11"),
    "convnext_tiny": (32, "features.7"),
    "vit_b_16": (32, "encoder.layers.encoder_layer_11"),
    "swin_t": (32, "features.7"),
    "squeezenet1_0": (32, "features.12"),
    "inception_v3": (299, "Mixed_7c"),  # its second output needs that many pixels
    "googlenet": (64, "inception5b"),
}
SECOND_HEADS = ("AuxLogits", "aux1", "aux2")


def frozen_but(name: str, *parts: str, **head) -> nn.Module:
    """The network with a new head, of which the head, the parts and second heads learn."""
    options = {"image_size": 32} if name == "vit_b_16" else {}
    model = freeze(replace_head(fresh(name, **options), 3, **head))
    learning = [head_of(model), *(model.get_submodule(part) for part in parts)]
    for part in [*learning, *(getattr(model, second) for second in SECOND_HEADS if hasattr(model, second))]:
        unfreeze(part)
    return model


@pytest.mark.parametrize("name", FAMILIES)
def test_head_only_with_dropout(name):
    pixels, _ = FAMILIES[name]
    model, other, _ = train_both_ways(frozen_but(name, hidden=(8,), dropout=0.3), noise(4, pixels), epochs=1)
    assert_same_weights(model, other)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_deeper_part_learns(name):
    pixels, part = FAMILIES[name]
    start = frozen_but(name, part)
    before = copy.deepcopy(start.state_dict())
    model, other, learning = train_both_ways(start, noise(4, pixels), epochs=1)
    assert_same_weights(model, other)
    learnt = {name for name, parameter in other.named_parameters() if parameter.requires_grad}
    assert {name for name, _ in learning.named_parameters()} >= learnt
    moved = {name for name, parameter in other.named_parameters() if not torch.equal(parameter, before[name])}
    assert any(name.startswith(part) for name in moved)
    assert moved <= learnt


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_the_last_ten_layers_cross_at_two_tensors(name):
    model = freeze(replace_head(fresh(name), 3))
    for layer in [module for module in model.modules() if list(module.parameters(recurse=False))][-10:]:
        unfreeze(layer)
    frozen, _ = split_frozen(model)
    assert len(frozen(torch.zeros(2, 3, 32, 32))) == 2
    model, other, _ = train_both_ways(model, noise(6, 32))
    assert_same_weights(model, other)


def test_one_after_the_other_is_the_model():
    model = frozen_but("resnet18", "layer4.1")
    frozen, learning = split_frozen(model)
    images = torch.randn(2, 3, 64, 64)
    for mode in (model.eval, lambda: train_mode(model)):
        mode()
        learning.training = model.training
        torch.testing.assert_close(learning(frozen(images)), model(images))


def test_splitting_leaves_the_model_as_it_was():
    model = frozen_but("resnet18", "layer4").eval()
    model.layer4[0].train()  # one part in another mode
    modes, state = [module.training for module in model.modules()], copy.deepcopy(model.state_dict())
    frozen, learning = split_frozen(model)
    frozen(torch.randn(2, 3, 32, 32))
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert learning.get_submodule("layer4.1.conv1") is model.layer4[1].conv1, "the model's own modules, not copies"
    assert frozen.get_parameter("conv1.weight") is model.conv1.weight


def test_the_frozen_half_stays_in_evaluation_mode(small_net):
    model = small_net()
    freeze(model)
    unfreeze(model.fc)
    frozen, _ = split_frozen(model)
    images = torch.randn(4, 3, 8, 8)
    wanted = frozen(images)
    model.train()
    frozen.train()
    assert torch.equal(frozen(images), wanted)
    assert all(module.training for module in model.modules()), "and the modes of the model are its own business"


# --------------------------------------------------------------------------------------- what counts as frozen


class Net(nn.Module):
    """Some steps in front of a linear layer that learns."""

    def __init__(self, front: nn.Module, width: int = 4):
        super().__init__()
        self.front, self.fc = front, nn.Linear(width, 3)

    def forward(self, images):
        return self.fc(self.front(images))


def frozen_conv(*more: nn.Module, channels: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, 4, 3), *more, nn.AdaptiveAvgPool2d(1), nn.Flatten()).requires_grad_(False)


class Norm(nn.Module):
    """Collects statistics by a function, and has no parameter."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("var", torch.ones(4))

    def forward(self, x):
        return F.batch_norm(x, self.mean, self.var, training=self.training)


class Noise(nn.Module):
    def forward(self, x):
        return x + torch.rand_like(x) if self.training else x


class Dropped(nn.Module):
    def forward(self, x):
        return F.dropout(x, 0.5, self.training)


UNSTEADY = {
    "dropout": nn.Dropout(0.5),
    "dropout2d": nn.Dropout2d(0.5),
    "a function that drops": Dropped(),
    "stochastic depth": StochasticDepth(0.5, "row"),
    "statistics without parameters": nn.BatchNorm2d(4, affine=False),
    "a function that collects statistics": Norm(),
    "noise": Noise(),
    "random slopes": nn.RReLU(),
}


@pytest.mark.parametrize("name", UNSTEADY)
def test_what_differs_from_epoch_to_epoch_stays_on_the_learning_side(name):
    """Between two frozen layers, of which the second then runs in every step."""
    model = nn.Sequential(
        OrderedDict(
            first=nn.Conv2d(3, 4, 3).requires_grad_(False),
            middle=UNSTEADY[name],
            last=frozen_conv(channels=4),
            fc=nn.Linear(4, 3),
        )
    )
    frozen, learning = split_frozen(model)
    assert {name for name, _ in frozen.named_parameters()} == {"first.weight", "first.bias"}
    assert {name for name, _ in learning.named_parameters()} == {"last.0.weight", "last.0.bias", "fc.weight", "fc.bias"}
    trained, other, _ = train_both_ways(model, noise(6, 8))
    assert_same_weights(trained, other)


def test_a_frozen_part_with_dropout_inside_is_still_as_a_whole():
    """As `freeze` promises: it is in evaluation mode, so its dropout does nothing."""
    frozen, learning = split_frozen(Net(frozen_conv(nn.Dropout(0.5))))
    assert [name for name, _ in learning.named_parameters()] == ["fc.weight", "fc.bias"]
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(frozen(images), frozen(images))


class Sized(nn.Module):
    """Uses sizes, a constant of its own, and the frozen result twice."""

    def __init__(self):
        super().__init__()
        self.front = frozen_conv()
        self.scale = nn.Parameter(torch.full((1, 4), 2.0), requires_grad=False)
        self.fc = nn.Linear(4, 3)

    def forward(self, images):
        x = self.front(images)
        token = self.scale.expand(x.shape[0], -1)
        return self.fc(x + token) + x.sum(1, keepdim=True)


def test_sizes_and_constants_are_made_where_they_are_used():
    model = Sized()
    frozen, _ = split_frozen(model)
    parts = frozen(torch.randn(5, 3, 8, 8))
    assert all(part.shape[0] == 5 for part in ([parts] if isinstance(parts, torch.Tensor) else parts))
    trained, other, _ = train_both_ways(model, noise(5, 8))  # the last batch is short
    assert_same_weights(trained, other)


# ------------------------------------------------------------------------------------------- what cannot be split


class Undecided(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.fc = nn.Flatten(), nn.Linear(192, 3)

    def forward(self, images):
        return self.fc(self.first(images)) if images.sum() > 0 else self.fc(-self.first(images))


def test_a_model_that_cannot_be_traced_runs_as_a_whole_and_says_so():
    model = Undecided()
    with pytest.warns(UserWarning, match="Undecided is not split, so all of it runs in every epoch: torch.fx cannot trace it"):
        frozen, learning = split_frozen(model)
    assert learning is model
    images = torch.randn(2, 3, 8, 8)
    assert frozen(images) is images


def test_nothing_to_keep_says_so(small_net):
    model = small_net()
    with pytest.warns(UserWarning, match="not split, so all of it runs in every epoch: its first layer learns"):
        assert split_frozen(model).learning is model


def test_two_inputs_cannot_be_split():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, a, b):
            return self.fc(a) + b

    with pytest.warns(
        UserWarning, match=r"none of the usual sizes of pictures \(TypeError: .* missing 1 required positional argument: 'b'\)"
    ):
        split_frozen(Two())


def test_nothing_learns(small_net):
    with pytest.raises(ValueError, match="nothing learns: every parameter of the model is frozen; unfreeze its head"):
        split_frozen(freeze(small_net()))


# ------------------------------------------------------------------------------------------------------ the features


MEMMAP = np.memmap


@pytest.fixture
def head_only(small_net):
    """A small network of which the head learns, and its two halves."""
    model = freeze(small_net())
    unfreeze(model.fc)
    return model, *split_frozen(model)


@pytest.fixture
def folder(plant, tmp_path):
    """Settings for twelve small pictures of two classes in each split."""
    for split, width in (("train", 70), ("val", 71), ("test", 72)):  # no picture is in two of them
        plant(tmp_path / "pictures" / split, {"dark": 6, "light": 6}, size=(width, 66))
    return settings(data=str(tmp_path / "pictures"), batch_size=5)


def test_batches_are_those_of_the_loader(head_only, folder):
    _, frozen, _ = head_only
    ours, theirs = open_data(folder).train, open_data(folder).train
    features = precompute(frozen, ours, cache=None)
    for _ in range(3):  # three epochs, each in another order
        for (images, labels), (kept, same_labels) in zip(theirs, features, strict=True):
            assert torch.equal(labels, same_labels)
            torch.testing.assert_close(kept, frozen(images))
    assert len(features) == len(theirs)


def test_nothing_else_is_disturbed(head_only, folder):
    """No random number is drawn that training would have drawn, and none of the loader's own."""
    _, frozen, _ = head_only
    data = open_data(folder)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist(), data.train.generator.get_state()
    precompute(frozen, data.train, cache=None)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.random.get_state()[1].tolist() == states[2]
    assert torch.equal(data.train.generator.get_state(), states[3])


def test_it_says_how_much_it_keeps(head_only, folder, capsys):
    precompute(head_only[1], open_data(folder).train, cache=None)
    assert capsys.readouterr().out == "12 pictures: 8 numbers each, 0.0 MB, kept in memory\n"


def test_a_batch_may_be_changed_in_place(head_only, folder):
    features = precompute(head_only[1], open_data(folder).val, cache=None)
    first, again = next(iter(features))[0], next(iter(features))[0]
    first.zero_()
    assert torch.equal(next(iter(features))[0], again)


def test_half_precision(head_only, folder):
    _, frozen, _ = head_only
    exact, half = (precompute(frozen, open_data(folder).val, half=half, cache=None) for half in (False, True))
    assert half.dataset.parts[0].nbytes == exact.dataset.parts[0].nbytes / 2
    for (a, _), (b, _) in zip(exact, half, strict=True):
        assert b.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def test_too_large_for_half_precision():
    model = Net(nn.Sequential(nn.Flatten(), nn.Linear(192, 4).requires_grad_(False)))
    model.front[1].weight.data.fill_(1e5)
    frozen, _ = split_frozen(model)
    with pytest.raises(ValueError, match=r"above 65,504, the largest in half precision; leave half out"):
        precompute(frozen, loaders(noise(4, 8))[1], half=True, cache=None)


def test_beyond_the_memory_budget_they_stay_in_a_file(head_only, folder, tmp_path, capsys, monkeypatch):
    _, frozen, learning = head_only
    loader, mappings = open_data(folder).val, []
    plain = precompute(frozen, loader, cache=None)
    monkeypatch.setattr(
        "course_utils.feature_store.np.memmap", lambda *a, **b: mappings.append(MEMMAP(*a, **b)) or mappings[-1]
    )
    for cache in (None, tmp_path / "cache"):
        mappings.clear()
        mapped = precompute(frozen, loader, cache=cache, memory_gb=1e-9)
        assert "kept in a file" in capsys.readouterr().out
        assert [one.nbytes for one in mappings] == [12 * 8 * 4, 12 * 8], "the features and the labels"
        assert mapped.dataset.parts[0].data_ptr() == mappings[0].ctypes.data, "not read into memory"
        for (a, labels), (b, same) in zip(plain, mapped, strict=True):
            assert torch.equal(a, b)
            assert torch.equal(labels, same)
        assert evaluate(learning, mapped) == evaluate(learning, plain)


# ------------------------------------------------------------------------------------------------------------- views

RANDOM = {
    "flip": transforms.RandomHorizontalFlip(),
    "v2": v2.RandomResizedCrop(64),
    "colour": transforms.ColorJitter(0.5),
    "python's dice": transforms.Lambda(lambda image: image.rotate(random.randrange(90))),
    "numpy's dice": transforms.Lambda(lambda image: image.rotate(int(np.random.randint(90)))),
}


class OwnDice:
    """Draws from a generator of its own."""

    def __init__(self):
        self.dice = np.random.default_rng(0)

    def __call__(self, image: Image.Image) -> Image.Image:
        return image.rotate(self.dice.integers(1, 90), fillcolor=(255, 0, 0))


@pytest.mark.parametrize("step", [*RANDOM.values(), OwnDice()], ids=[*RANDOM, "dice of its own"])
def test_a_random_transform_needs_views(head_only, folder, step):
    recipe = transforms.Compose([step, transforms.Resize((64, 64)), transforms.ToTensor()])
    data = open_data(folder, transform=transforms.ToTensor(), train_transform=recipe)
    with pytest.raises(ValueError, match=r"the transform is random.*keep several \(views=8\).*in_memory"):
        precompute(head_only[1], data.train, cache=None)


class SeldomRandom:
    """Changes one picture in ten, by a generator of its own."""

    def __init__(self, seed: int):
        self.generator = random.Random(seed)

    def __call__(self, image: Image.Image) -> torch.Tensor:
        picture = transforms.functional.to_tensor(image.resize((16, 16)))
        return 1 - picture if self.generator.random() < 0.1 else picture


@pytest.mark.parametrize("seed", range(20))
def test_a_transform_that_is_seldom_random(head_only, folder, seed):
    with pytest.raises(ValueError, match="the transform is random"):
        precompute(head_only[1], open_data(folder, transform=SeldomRandom(seed)).val, cache=None)


def test_a_transform_that_is_random_for_a_later_picture_alone(head_only):
    """The first look does not meet it; after the whole pass it shows in the numbers drawn."""

    class Late(TensorDataset):
        def __getitem__(self, i):
            image, label = super().__getitem__(i)
            return (image + torch.rand(1) if i == 5 else image), label

    data = Late(*noise(400, 8).tensors)
    assert not is_random(DataLoader(data, 20)), "else this test shows nothing"
    with pytest.raises(ValueError, match="the transform is random"):
        precompute(head_only[1], DataLoader(data, 20), cache=None)


def test_batches_that_are_not_images_and_labels(head_only):
    def named(batch):
        images, labels = torch.utils.data.default_collate(batch)
        return {"images": images, "labels": labels}

    with pytest.raises(TypeError, match="takes batches of two tensors, images and labels, but the loader gives dict; choose"):
        precompute(head_only[1], DataLoader(noise(4, 8), 2, collate_fn=named), cache=None)


def test_a_random_collate_function_is_random_too(head_only):
    def mix(batch):
        images, labels = torch.utils.data.default_collate(batch)
        return images.roll(1, 0) * torch.rand(1) + images, labels

    with pytest.raises(ValueError, match="the transform is random"):
        precompute(head_only[1], DataLoader(noise(4, 8), 2, collate_fn=mix), cache=None)


class Shift:
    """A random brightness, so that views can be told apart."""

    def __call__(self, image: Image.Image) -> torch.Tensor:
        return transforms.functional.to_tensor(image.resize((16, 16))) + torch.rand(1)


def test_each_epoch_shows_another_view(head_only, folder):
    _, frozen, learning = head_only
    data = open_data(folder, transform=Shift())
    kept = precompute(frozen, DataLoader(data.val.dataset, 12), views=3, cache=None)
    epochs = [next(iter(kept))[0] for _ in range(6)]
    for i in range(3):
        assert torch.equal(epochs[i], epochs[i + 3]), "after three epochs the views begin again"
        assert not torch.isclose(epochs[i], epochs[(i + 1) % 3]).all(1).any(), "no picture shows one view twice in a row"
    train_one_epoch(learning, kept, sgd(learning))


def test_views_of_what_is_not_random(head_only, folder):
    with pytest.raises(ValueError, match="views=3, but the transform is not random, so all views would be the same"):
        precompute(head_only[1], open_data(folder).train, views=3, cache=None)


@pytest.mark.parametrize("views", [0, -1, 1.5, True, "8"])
def test_bad_views(head_only, folder, views):
    with pytest.raises(ValueError, match=r"views=.*; give a whole number of 1 or more"):
        precompute(head_only[1], open_data(folder).train, views=views, cache=None)


# --------------------------------------------------------------------------------------------------------- bad input


class Stream(IterableDataset):
    def __iter__(self):
        return iter(noise(4, 8))


@pytest.mark.parametrize(
    "loader", [[(torch.zeros(2, 3, 8, 8), torch.zeros(2))], DataLoader(Stream()), DataLoader(noise(4, 8), batch_size=None)]
)
def test_what_is_no_loader_of_a_data_set(head_only, loader):
    with pytest.raises(TypeError, match="precompute takes a DataLoader that makes batches of a data set with a length, not"):
        precompute(head_only[1], loader, cache=None)


def test_no_picture(head_only):
    with pytest.raises(ValueError, match="the loader has no picture; check its folder"):
        precompute(head_only[1], DataLoader(noise(0, 8), 2), cache=None)


def test_a_frozen_half_of_ones_own_that_draws():
    with pytest.raises(ValueError, match="frozen part draws random numbers"):
        precompute(nn.Dropout(0.5), loaders(noise(4, 8))[1], cache=None)


def test_a_frozen_half_of_ones_own_that_mixes_pictures():
    class Mean(nn.Module):
        def forward(self, images):
            return images.mean(0)

    with pytest.raises(ValueError, match=r"makes \[\(3, 8, 8\)\] of 2 pictures, not one row for each"):
        precompute(Mean(), loaders(noise(4, 8))[1], cache=None)


# ----------------------------------------------------------------------------------------------------- other processes


def test_features_travel_without_the_part_that_made_them():
    """What another process gets are the same batches, in as many bytes as the features have; there no part can change."""
    model = frozen_but("resnet18", "layer4")
    frozen, _ = split_frozen(model)
    kept = precompute(frozen, loaders(noise(6, 32))[0], cache=None)
    data = pickle.dumps(kept)
    assert len(data) < 1_000_000 < sum(p.numel() for p in frozen.parameters())
    for one, other in zip(pickle.loads(data), kept, strict=True):
        assert all(map(torch.equal, one, other))
    with torch.no_grad():
        model.conv1.weight += 1
    with pytest.raises(ValueError, match=r"out of date: conv1\.weight"):
        pickle.dumps(kept)


# ----------------------------------------------------------------------------------------------- never out of date


def test_a_change_of_the_frozen_half_is_refused(head_only):
    model, frozen, learning = head_only
    features = precompute(frozen, loaders(noise(4, 8))[1], cache=None)
    evaluate(learning, features)
    with torch.no_grad():
        model.conv1.weight[0, 0, 0, 0] += 1
    with pytest.raises(
        ValueError, match=r"out of date: conv1\.weight of the frozen part has changed since, or was set free; split and precom"
    ):
        evaluate(learning, features)


def test_what_is_set_free_is_refused(head_only):
    model, frozen, learning = head_only
    features = precompute(frozen, loaders(noise(4, 8))[1], cache=None)
    unfreeze(model.layer2)
    with pytest.raises(ValueError, match="out of date"):
        fit(learning, features, features, sgd(learning), epochs=1)


def test_statistics_that_moved_are_refused(head_only):
    model, frozen, learning = head_only
    features = precompute(frozen, loaders(noise(4, 8))[1], cache=None)
    model.train()
    model(torch.randn(4, 3, 8, 8))
    with pytest.raises(ValueError, match="out of date"):
        evaluate(learning, features)


def data_of_a_weight(model):
    model.conv1.weight.data[0, 0, 0, 0] += 1


def data_of_all_weights(model):
    model.conv1.weight.data.mul_(1.5)


def data_replaced(model):
    model.conv1.weight.data = model.conv1.weight.data.clone()


def numpy_view(model):
    model.conv1.weight.detach().numpy()[:] *= 2


def loaded_by_assignment(model):
    state = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(state, assign=True)


def parameter_replaced(model):
    model.conv1.weight = nn.Parameter(model.conv1.weight.detach().clone(), requires_grad=False)


def module_replaced(model):
    model.layer1[0] = nn.Conv2d(4, 4, 3, padding=1).requires_grad_(False)


def module_added(model):
    model.layer2.append(nn.ReLU())


def pruned(model):
    prune.random_unstructured(model.conv1, "weight", 0.5)


def another_eps(model):
    model.bn1.eps = 0.1


def another_padding(model):
    model.conv1.padding = (0, 0)


def late_hook(model):
    model.layer1.register_forward_hook(lambda module, inputs, output: 2 * output)


def late_hook_on_the_model(model):
    model.register_forward_hook(lambda module, inputs, output: 2 * output)


def another_head(model):
    model.fc = nn.Linear(8, 3)


def set_free(model):
    unfreeze(model.bn1)


CHANGES = [
    *(data_of_a_weight, data_of_all_weights, data_replaced, numpy_view, loaded_by_assignment, parameter_replaced),
    *(module_replaced, module_added, pruned, another_eps, another_padding, late_hook, late_hook_on_the_model),
    *(another_head, set_free),
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_no_change_behind_the_back_of_the_features_goes_unseen(change, head_only):
    model, frozen, learning = head_only
    features = precompute(frozen, loaders(noise(4, 8))[1], cache=None)
    train_one_epoch(learning, features, sgd(learning))
    change(model)
    with pytest.raises(ValueError, match=r"these features are out of date: .* split and precompute again"):
        train_one_epoch(learning, features, sgd(learning))


def test_what_goes_around_all_counters_is_seen_when_a_picture_runs_again(head_only):
    """One number in the middle of a weight, changed where nothing counts: the sample of values may miss it."""
    model, frozen, learning = head_only
    features = precompute(frozen, loaders(noise(4, 8))[1], cache=None)
    evaluate(learning, features)
    model.layer2[0].weight.detach().numpy()[3, 1, 1, 1] += 5
    assert not features.made_by.objection(thorough=False), "else this test shows nothing"
    with pytest.raises(ValueError, match="the frozen part makes something else of a picture now"):
        evaluate(learning, features)  # the second epoch


def test_an_attribute_that_the_code_of_the_model_reads(head_only):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.front, self.fc, self.scale = frozen_conv(), nn.Linear(4, 3), 2.0

        def forward(self, images):
            return self.fc(self.front(images)) * self.scale

    model = Scaled()
    frozen, learning = split_frozen(model)
    features = precompute(frozen, loaders(noise(4, 8))[1], cache=None)
    evaluate(learning, features)
    model.scale = 3.0  # the learning part was made with 2
    with pytest.raises(ValueError, match="scale of the model is not what it was when the model was split"):
        evaluate(learning, features)


def test_learning_goes_on_over_several_calls(head_only):
    """What learns may change as often as it likes."""
    _, frozen, learning = head_only
    train, val = (precompute(frozen, loader, cache=None) for loader in loaders(noise(4, 8)))
    optimizer = sgd(learning)
    losses = [fit(learning, train, val, optimizer, epochs=2)[-1].train.loss for _ in range(5)]
    assert losses[-1] < losses[0]
    assert math.isfinite(losses[-1])


def test_the_whole_model_has_learnt():
    run = settings()
    data = open_data(run, per_class=3)
    torch.manual_seed(0)
    model = freeze(load_model("resnet18"))
    replace_head(model, len(data.classes))
    before = evaluate(model, data.train)
    frozen, learning = split_frozen(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train = precompute(frozen, data.train, cache=None)
        fit(learning, train, train, sgd(learning, 0.1), epochs=10)
    assert evaluate(model, data.train).loss < before.loss / 4


# --------------------------------------------------------------------------------------------- compared before it is cut


class Peculiar(Net):
    """The small network, with something between front and head that `torch.fx` does not see or gets wrong."""

    def __init__(self, peculiarity):
        super().__init__(frozen_conv())
        self.peculiarity, self.steps = peculiarity, 0
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, images):
        return self.fc(self.peculiarity(self, self.front(images)))


def counted(model, x):
    model.steps += 1
    return x


def averaged(model, x):
    model.mean.lerp_(x.detach().mean(0), 0.1)
    return x


def without_gradients(model, x):
    with torch.no_grad():
        return model.fc.weight.sum() + x


def drawn_while_traced(model, x):
    return x * torch.rand(4)


def drawn_by_python(model, x):
    return x if random.random() < 0.5 else -x


def drawn_by_numpy(model, x):
    return x + float(np.random.rand())


class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        return -gradient


def reversed_gradient(model, x):
    return Reversed.apply(x * model.fc.weight.sum())


def view_in_place(model, x):
    y = x + model.fc.bias.sum()
    y.view(-1).mul_(2)
    return y


REFUSED = [counted, averaged, drawn_while_traced, drawn_by_python, drawn_by_numpy, reversed_gradient, view_in_place]


@pytest.mark.parametrize("peculiarity", [*REFUSED, without_gradients], ids=lambda peculiarity: peculiarity.__name__)
def test_what_would_be_silently_different_is_not_split(peculiarity):
    model = Peculiar(peculiarity)
    before, dice = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    with pytest.warns(UserWarning, match="Peculiar is not split, so all of it runs in every epoch: "):
        assert split_frozen(model).learning is model
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.steps == 0
    assert torch.equal(torch.get_rng_state(), dice)
    assert {type(value) for value in vars(model).values()}.isdisjoint({torch.fx.Proxy})


def test_the_warning_names_what_differs_and_the_first_layer():
    class Tail(Net):
        def forward(self, images):
            y = self.front(images) * self.fc.bias.sum()
            y.view(-1).mul_(2)
            return self.fc(y)

    with pytest.warns(
        UserWarning, match=r"in training mode its parts give another result than the whole \(output 0; first in fc\)"
    ):
        split_frozen(Tail(frozen_conv()))


IN_PLACE = {
    "a method": lambda x: (x.relu_(), x)[1],
    "a function": lambda x: (F.relu(x, inplace=True), x)[1],
    "a function by place": lambda x: (F.leaky_relu(x, 0.1, True), x)[1],
    "arithmetic": lambda x: (x.sub_(1), x)[1],
    "an output": lambda x: (torch.add(x, 1, out=x), x)[1],
}


@pytest.mark.parametrize("learns", ["stem", "fc"])
@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place_steps_whose_result_nobody_takes(name, learns):
    """On the frozen side and behind a layer that learns."""

    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.front, self.stem, self.fc = frozen_conv(), nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, images):
            return self.fc(IN_PLACE[name](self.stem(self.front(images)) * 1.0))

    if name == "an output" and learns == "stem":
        return  # out= takes nothing that learns
    model = InPlace()
    freeze(model)
    unfreeze(model.get_submodule(learns))
    unfreeze(model.fc)
    trained, other, learning = train_both_ways(model, noise(6, 8))
    assert isinstance(learning, ModelPart), "it was split"
    assert_same_weights(trained, other)


def test_a_step_that_is_in_place_and_its_old_value_is_needed_is_equal_or_refused():
    """timm's DropPath: without its division the whole would be half as large."""

    class DropPath(nn.Module):
        def forward(self, x):
            if not self.training:
                return x
            kept = x.new_empty((x.shape[0], 1)).bernoulli_(0.5)
            kept.div_(0.5)
            return x * kept

    model = nn.Sequential(OrderedDict(front=frozen_conv(), drop=DropPath(), fc=nn.Linear(4, 3)))
    trained, other, learning = train_both_ways(model, noise(6, 8))
    assert isinstance(learning, ModelPart)
    assert_same_weights(trained, other)


def test_pictures_of_ones_own_for_the_comparison():
    class Odd(nn.Module):
        """Takes one size only, which nobody would guess."""

        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3).requires_grad_(False), nn.Linear(4 * 15 * 9, 3)

        def forward(self, images):
            return self.fc(self.conv(images).flatten(1))

    with pytest.warns(
        UserWarning, match=r"none of the usual sizes.*; give pictures that it takes: split_frozen\(model, images\)"
    ):
        split_frozen(Odd())
    frozen, learning = split_frozen(Odd(), torch.randn(5, 3, 17, 11))
    assert learning(frozen(torch.randn(2, 3, 17, 11))).shape == (2, 3)


def test_arguments_with_a_default_keep_it():
    class Optional(Net):
        def forward(self, images, scale=2.0, mask=None, *more, raw=False):
            x = self.front(images) * scale
            return x if raw or mask is not None else self.fc(x)

    model = Optional(frozen_conv())
    trained, other, learning = train_both_ways(model, noise(6, 8))
    assert isinstance(learning, ModelPart)
    assert_same_weights(trained, other)


def test_a_model_that_keeps_a_norm_in_evaluation_mode_is_left_so_by_fit_whole_and_split():
    class FrozenNorm(nn.Module):
        def __init__(self):
            super().__init__()
            self.front, self.norm, self.fc = frozen_conv(), nn.BatchNorm1d(4), nn.Linear(4, 3)

        def train(self, mode=True):
            super().train(mode)
            self.norm.eval()
            return self

        def forward(self, images):
            return self.fc(self.norm(self.front(images)))

    model = FrozenNorm()
    trained, other, learning = train_both_ways(model, noise(6, 8))
    assert isinstance(learning, ModelPart)
    assert_same_weights(trained, other)
    assert torch.equal(trained.norm.running_mean, torch.zeros(4))


def test_a_frozen_container_of_which_each_part_is_called_stays_in_evaluation_mode():
    class Piecewise(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 3, 1)
            self.block = nn.ModuleDict({"conv": frozen_conv(), "drop": nn.Dropout(0.5)})
            self.first, self.fc = frozen_conv(), nn.Linear(8, 3)

        def forward(self, images):
            late = self.block["drop"](self.block["conv"](self.stem(images)))
            return self.fc(torch.cat([self.first(images), late], 1))

    trained, other, learning = train_both_ways(Piecewise(), noise(6, 8))
    assert isinstance(learning, ModelPart)
    assert_same_weights(trained, other)


@pytest.mark.parametrize("mixing", [nn.BatchNorm2d(4, track_running_stats=False), nn.BatchNorm2d(4, affine=False)])
def test_batch_norm_that_looks_at_the_batch_runs_in_every_step(mixing):
    model = nn.Sequential(
        OrderedDict(
            first=nn.Conv2d(3, 4, 3).requires_grad_(False), mix=mixing.requires_grad_(False), rest=frozen_conv(channels=4)
        )
    )
    model.add_module("fc", nn.Linear(4, 3))
    trained, other, learning = train_both_ways(model, noise(6, 8), batch_size=3)
    assert isinstance(learning, ModelPart)
    assert_same_weights(trained, other)


MIXED = {"the mean": lambda x: x - x.mean(0), "the order": lambda x: x.flip(0), "the largest": lambda x: x / x.abs().max()}


@pytest.mark.parametrize("name", MIXED)
def test_a_frozen_part_that_mixes_the_pictures_of_a_batch_is_not_cut_off(name):
    class Mixing(Net):
        def forward(self, images):
            return self.fc(MIXED[name](self.front(images)))

    with pytest.warns(UserWarning, match="its frozen part makes something else of a picture in another batch, or each time"):
        split_frozen(Mixing(frozen_conv()))


class CopiesNothing(nn.Sequential):
    """As around a backbone that is too large to have twice."""

    def __deepcopy__(self, memo):
        return self


def test_a_part_that_gives_itself_as_its_copy_is_not_tried_out():
    model = Net(CopiesNothing(*frozen_conv()))
    with pytest.warns(UserWarning, match="front gives itself as its copy"):
        split_frozen(model)
    precompute(model.front, DataLoader(noise(4, 8), 2), cache=None)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert model.front.training


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_hides_no_mixing(dtype):
    class Mixing(Net):
        def forward(self, images):
            made = self.front(images)
            return self.fc(made + 0.01 * made.mean(0))

    with pytest.warns(UserWarning, match="its frozen part makes something else of a picture in another batch, or each time"):
        split_frozen(Mixing(frozen_conv()).to(dtype))


# --------------------------------------------------------------------------------------------------------- in memory


def test_in_memory_is_the_same_data_set(folder):
    data = open_data(folder)
    kept = in_memory(data.train.dataset)
    assert len(kept) == len(data.train.dataset)
    for i in range(len(kept)):
        (a, label), (b, same) = data.train.dataset[i], kept[i]
        assert torch.equal(a, b)
        assert label == same


def test_in_memory_reads_each_picture_once(folder, monkeypatch):
    data, read = open_data(folder), []
    monkeypatch.setattr("course_utils.images.read_picture", lambda path: read.append(path) or Image.new("RGB", (66, 66)))
    kept = in_memory(data.val.dataset)
    for _ in range(3):
        list(DataLoader(kept, 4))
    assert len(read) == len(kept) == 12


def test_in_memory_transforms_anew_each_time(folder):
    kept = in_memory(open_data(folder, transform=Shift()).val.dataset)
    assert not torch.equal(kept[0][0], kept[0][0])


def test_in_memory_of_a_part_reads_that_part(folder, monkeypatch):
    data, read = open_data(folder), []
    monkeypatch.setattr("course_utils.images.read_picture", lambda path: read.append(path) or Image.new("RGB", (66, 66)))
    part = torch.utils.data.Subset(torch.utils.data.Subset(data.val.dataset, range(2, 12)), [0, 5])
    kept = in_memory(part)
    assert read == [data.val.dataset.samples[i][0] for i in (2, 7)]
    assert kept.labels == [data.val.dataset.samples[i][1] for i in (2, 7)]


def test_in_memory_of_torchvisions_folder(folder, tmp_path):
    from torchvision.datasets import ImageFolder

    theirs = ImageFolder(tmp_path / "pictures" / "val", transform=transforms.ToTensor())
    assert torch.equal(in_memory(theirs)[3][0], theirs[3][0])
    assert isinstance(in_memory(ImageFolder(tmp_path / "pictures" / "val"))[0][0], Image.Image)


@pytest.mark.parametrize("what", [noise(3, 4), Pictures])
def test_in_memory_of_something_else(what):
    with pytest.raises(TypeError):
        in_memory(what)


def test_in_memory_says_what_it_takes():
    for given, kind in ((noise(3, 4), "TensorDataset"), (None, "NoneType")):
        with pytest.raises(TypeError, match=rf"cannot tell where a {kind} reads its pictures; give the data set of a loader"):
            in_memory(given)


@pytest.mark.parametrize("kind", ["dense", "complex", "expanded", "sliced", "empty"])
def test_samples_see_what_goes_around_torch_in_tensors_of_all_kinds(kind):
    values = torch.ones(6, 8, dtype=torch.complex64 if kind == "complex" else torch.float32)
    made = {"expanded": values[:1].expand(4, 8), "sliced": values[:, ::3], "empty": values[:0]}.get(kind, values)
    module = nn.Module()
    module.register_buffer("made", made)
    samples = Samples(module)
    assert samples.changed() is None
    values.numpy()[:] = 2
    assert samples.changed() == (None if kind == "empty" else "made")
