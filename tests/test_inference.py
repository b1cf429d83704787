"""The frozen half in a faster way: the same numbers, on a copy, or as it is."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from course_utils import inference, precomputed
from course_utils.devices import mixed_precision
from course_utils.equivalence import same
from course_utils.finetune import freeze, unfreeze
from course_utils.fx_split import split_frozen
from course_utils.heads import replace_head
from course_utils.inference import AS_IT_IS, Inference, fastest
from course_utils.models import fresh, load_model
from course_utils.precomputed import precompute
from course_utils.train import fit

WAYS = {
    "resnet18": "oneDNN",
    "vgg16": "channels last",
    "mobilenet_v3_small": "channels last",
    "densenet121": "channels last",
    "squeezenet1_1": "channels last",
    "shufflenet_v2_x0_5": "channels last",
}


def pictures(count: int = 4, pixels: int = 64) -> torch.Tensor:
    return torch.randn(count, 3, pixels, pixels, generator=torch.Generator().manual_seed(1))


def lived_in(model: nn.Module) -> nn.Module:
    """A model whose batch norms have statistics, as after training: with those of a new one folding could not be wrong."""
    generator = torch.Generator().manual_seed(2)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in ((module.running_mean, -0.1, 0.1), (module.running_var, 0.5, 1.5)):
                tensor.uniform_(low, high, generator=generator)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return model


def frozen_half(name: str, *learns: str) -> nn.Module:
    model = freeze(replace_head(lived_in(fresh(name)), 3))
    for part in learns:
        unfreeze(model.get_submodule(part))
    return split_frozen(model if learns else unfreeze_head(model)).frozen


def unfreeze_head(model: nn.Module) -> nn.Module:
    return replace_head(model, 3)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
@pytest.mark.parametrize("name", WAYS)
def test_a_faster_way_gives_the_same_for_every_family(name):
    frozen = frozen_half(name)
    found = fastest(frozen, pictures())
    assert found.way == WAYS[name]
    other = pictures(5).flip(0)
    with torch.inference_mode():
        assert same(frozen(other), found.run(other))


def test_without_onednn_it_is_channels_last(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert fastest(frozen_half("resnet18"), pictures()).way == "channels last"


def test_several_results_are_the_same_too():
    model = freeze(replace_head(lived_in(fresh("resnet18")), 3))
    for layer in [module for module in model.modules() if list(module.parameters(recurse=False))][-10:]:
        unfreeze(layer)
    frozen = split_frozen(model).frozen
    found = fastest(frozen, pictures())
    assert found.way != AS_IT_IS
    assert len(found.run(pictures())) == 2
    assert same(tuple(frozen(pictures())), tuple(found.run(pictures())))


def test_the_model_keeps_its_memory_its_names_and_its_numbers():
    model = freeze(load_model("resnet18", weights="shapes"))
    replace_head(model, 3)
    frozen = split_frozen(model).frozen
    before = {name: (t.data_ptr(), t.stride(), t._version, t.clone()) for name, t in model.state_dict().items()}
    for way in inference.WAYS.values():
        inference.prepared(frozen, way)(pictures())
    after = {name: (t.data_ptr(), t.stride(), t._version, t) for name, t in model.state_dict().items()}
    assert list(before) == list(after)
    for name, (*where, values) in before.items():
        assert where == list(after[name][:3]), name
        assert torch.equal(values, after[name][3]), name


@pytest.mark.parametrize("wrong", [lambda made: made * 1.001, lambda made: made[:, 1:], lambda made: made + made.mean(0)])
def test_a_way_that_gives_something_else_is_not_taken(monkeypatch, wrong):
    def prepare(steps):
        return lambda images: wrong(steps(images))

    frozen = frozen_half("resnet18")
    assert fastest(frozen, pictures()).way != AS_IT_IS
    monkeypatch.setattr(inference, "WAYS", {"wrong": prepare})
    assert fastest(frozen, pictures()) == Inference(AS_IT_IS, frozen)


def test_hooks_are_called_so_the_half_runs_as_it_is():
    frozen, called = frozen_half("resnet18"), []
    assert fastest(frozen, pictures()).way != AS_IT_IS
    handle = frozen.get_submodule("layer1").register_forward_hook(lambda *_: called.append(1))
    found = fastest(frozen, pictures())
    found.run(pictures())
    assert found.way == AS_IT_IS
    assert called
    handle.remove()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_half_of_few_digits_runs_as_it_is(dtype):
    """Folding moved its numbers by 3 % of their spread, which its rounding would allow."""
    frozen = frozen_half("resnet18").to(dtype)
    assert fastest(frozen, pictures().to(dtype)) == Inference(AS_IT_IS, frozen)


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), 1e35])
def test_a_broken_picture_shows_in_the_features(broken):
    """oneDNN's ReLU makes 0 of NaN, so that the features of such a picture looked like any other's."""
    frozen = frozen_half("resnet18")
    found, images = fastest(frozen, pictures()), pictures(5)
    images[2, :, 8, 8] = broken
    assert found.way != AS_IT_IS
    with torch.inference_mode():
        assert frozen(images)[2].isfinite().all() == (broken == 1e35)
        assert same(frozen(images), found.run(images))


class TwiceOneConv(nn.Module):
    """One convolution that runs twice, each time with a batch norm of its own behind it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.first, self.second = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, images):
        return self.second(self.conv(torch.relu(self.first(self.conv(images)))))


def frozen_steps(*layers: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    front = lived_in(nn.Sequential(*layers)).requires_grad_(False)
    return split_frozen(nn.Sequential(front, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))).frozen


def test_a_layer_that_runs_twice_is_folded_with_each_of_its_batch_norms():
    frozen = frozen_steps(TwiceOneConv())
    found = fastest(frozen, pictures())
    assert found.way != AS_IT_IS
    assert same(frozen(pictures(5)), found.run(pictures(5)))


class Rounded(nn.Module):
    """As in training that prepares for whole numbers: what the last digit decides, no few pictures show."""

    def __init__(self, rounded):
        super().__init__()
        self.conv, self.norm, self.rounded = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), rounded

    def forward(self, images):
        return self.rounded(self.norm(self.conv(images)))


@pytest.mark.parametrize(
    "rounded",
    [
        lambda made: (16 * made).round() / 16,
        lambda made: (made > 0).float(),
        lambda made: made // 0.1,
        lambda made: (16 * made).int().float(),
        lambda made: made * made.argmax(1, keepdim=True),
        lambda made: torch.fake_quantize_per_tensor_affine(made, 0.1, 0, -128, 127),
    ],
)
def test_a_half_that_rounds_runs_as_it_is(rounded):
    frozen = frozen_steps(Rounded(rounded))
    assert fastest(frozen, pictures()) == Inference(AS_IT_IS, frozen)


def test_whole_numbers_of_sizes_are_no_rounding():
    halved = Rounded(lambda made: torch.relu(made)[:, :, : made.shape[2] // 2])
    assert fastest(frozen_steps(halved), pictures()).way != AS_IT_IS


@pytest.mark.parametrize("mode", ["reflect", "circular", "replicate"])
def test_padding_that_is_not_of_zeros_stays_where_the_pictures_compared_do_not_show_it(mode):
    frozen = frozen_steps(nn.Conv2d(3, 3, 3, padding=1, padding_mode=mode), nn.ReLU())
    found, images = fastest(frozen, torch.zeros(4, 3, 8, 8)), pictures(pixels=8)
    assert same(frozen(images), found.run(images))


def test_half_precision_hides_no_way_that_gives_something_else(monkeypatch):
    frozen = frozen_half("resnet18")
    monkeypatch.setattr(inference, "WAYS", {"wrong": lambda steps: lambda images: steps(images) * 1.05})
    with mixed_precision("cpu", "float32"), torch.autocast("cpu", torch.bfloat16):
        assert fastest(frozen, pictures()).way == AS_IT_IS


def test_a_part_of_ones_own_runs_as_it_is():
    part = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()).requires_grad_(False)
    assert fastest(part, pictures()) == Inference(AS_IT_IS, part)


# ---------------------------------------------------------------------------------------------------------- precompute


@pytest.fixture
def ready():
    """A model with a new head, and two loaders of 24 pictures."""
    torch.manual_seed(0)
    model = freeze(load_model("resnet18", weights="shapes"))
    replace_head(model, 3)
    data = TensorDataset(pictures(24), torch.arange(24) % 3)
    return model, DataLoader(data, 8, shuffle=True, generator=torch.Generator().manual_seed(3)), DataLoader(data, 8)


def trained(model, train, val):
    frozen, learning = split_frozen(model)
    torch.manual_seed(5)
    optimizer = torch.optim.SGD([p for p in learning.parameters() if p.requires_grad], lr=0.01, momentum=0.9)
    kept = [precompute(frozen, loader, cache=None) for loader in (train, val)]
    return fit(learning, *kept, optimizer, epochs=3)


@pytest.mark.parametrize("part", ["fc", "layer4"])
def test_training_is_the_same(ready, monkeypatch, part):
    model, train, val = ready
    unfreeze(model.get_submodule(part))
    other, other_train = copy.deepcopy(model), copy.deepcopy(train)
    plain = trained(model, train, val)
    ways = []
    monkeypatch.setattr(precomputed, "ENOUGH", 1)
    monkeypatch.setattr(precomputed, "fastest", lambda *given: ways.append(fastest(*given)) or ways[-1])
    quick = trained(other, other_train, val)
    assert [one.way == AS_IT_IS for one in ways] == [False, False]
    for a, b in zip(plain, quick, strict=True):
        assert (a.train.loss, a.val.loss) == pytest.approx((b.train.loss, b.val.loss), abs=1e-5)


def test_few_pictures_run_as_they_are(ready, monkeypatch):
    monkeypatch.setattr(precomputed, "fastest", lambda *given: pytest.fail("was asked for"))
    model, train, _ = ready
    precompute(split_frozen(model).frozen, train, cache=None)


def test_no_way_is_said(ready, monkeypatch, capsys):
    monkeypatch.setattr(precomputed, "ENOUGH", 1)
    monkeypatch.setattr(inference, "WAYS", {})
    precompute(split_frozen(ready[0]).frozen, ready[1], cache=None)
    assert "at the model's own speed" in capsys.readouterr().out


def test_a_later_picture_that_gives_something_else_is_noticed(ready, monkeypatch, capsys, tmp_path):
    """The way is compared on the first pictures; what it does later is looked at too, and then all is run as it is."""
    model, _, val = ready
    frozen = split_frozen(model).frozen
    plain = precompute(frozen, val, cache=None)
    runs = []

    def later_wrong(images):
        runs.append(len(images))
        return frozen(images) * (1.5 if len(runs) > 3 else 1)  # right as long as it is compared, and for the first batch

    monkeypatch.setattr(precomputed, "ENOUGH", 1)
    monkeypatch.setattr(inference, "WAYS", {"odd": lambda steps: later_wrong})
    found = precompute(frozen, val, cache=tmp_path)
    assert "by odd a picture gives other numbers" in capsys.readouterr().out
    assert torch.equal(found.dataset.parts[0], plain.dataset.parts[0])
    assert [path.suffix for path in (tmp_path / "course-features").iterdir()] == [""]  # no draft is left


def test_it_is_compared_on_pictures_from_all_over_the_data_set(ready, monkeypatch):
    """The first ones are often of one class, such as black ones that show nothing."""
    looked_at = []
    monkeypatch.setattr(precomputed, "ENOUGH", 1)
    monkeypatch.setattr(precomputed, "fastest", lambda frozen, images: looked_at.append(images) or fastest(frozen, images))
    precompute(split_frozen(ready[0]).frozen, ready[2], cache=None)
    assert torch.equal(looked_at[0], pictures(24)[[0, 7, 15, 23]])


def test_a_broken_picture_is_no_large_number(ready, capsys):
    frozen = split_frozen(ready[0]).frozen
    images = pictures(8)
    images[3] = float("nan")
    kept = precompute(frozen, DataLoader(TensorDataset(images, torch.arange(8)), 4), half=True, cache=None)
    assert kept.dataset.parts[0].isnan().any(1).nonzero().tolist() == [[3]]


def test_features_of_another_way_are_not_found_again(ready, monkeypatch, tmp_path, capsys):
    frozen = split_frozen(ready[0]).frozen
    for enough, again in ((10**9, False), (1, False), (1, True), (10**9, True)):
        monkeypatch.setattr(precomputed, "ENOUGH", enough)
        precompute(frozen, ready[2], cache=tmp_path)
        assert ("found again" in capsys.readouterr().out) == again


def test_a_processor_of_three_digits_does_not_find_those_of_two(ready, monkeypatch, tmp_path, capsys):
    frozen = split_frozen(ready[0]).frozen
    for native, again in ((True, False), (False, False), (True, True)):
        monkeypatch.setattr(precomputed, "has_bfloat16", lambda device, native=native: native)
        precompute(frozen, ready[2], half=True, cache=tmp_path)
        assert ("found again" in capsys.readouterr().out) == again


@pytest.mark.filterwarnings("ignore:this machine:UserWarning")  # one that emulates bfloat16
def test_precision_around_it_does_not_reach_the_features(ready, tmp_path, capsys):
    frozen = split_frozen(ready[0]).frozen
    plain = precompute(frozen, ready[2], cache=tmp_path)
    with mixed_precision("cpu", "bfloat16"):
        again = precompute(frozen, ready[2], cache=None)
        assert torch.equal(plain.dataset.parts[0], again.dataset.parts[0])
        precompute(frozen, ready[2], cache=tmp_path)
    assert "found again" in capsys.readouterr().out


@pytest.mark.parametrize("native", [False, True])
def test_half_precision_gives_what_the_rest_of_the_model_takes(ready, monkeypatch, native):
    model, train, val = ready
    monkeypatch.setattr(precomputed, "ENOUGH", 1)
    monkeypatch.setattr(precomputed, "has_bfloat16", lambda device: native)
    frozen, learning = split_frozen(model)
    kept = [precompute(frozen, loader, half=True, cache=None) for loader in (train, val)]
    assert kept[0].dataset[0][0].dtype == torch.float32
    exact = torch.cat([frozen(images) for images, _ in val])
    assert not torch.equal(kept[1].dataset.parts[0].float(), exact)
    error = (kept[1].dataset.parts[0].float() - exact).abs().max() / exact.abs().max()
    assert error < (0.03 if native else 0.001)
    fit(learning, *kept, torch.optim.SGD(learning.parameters(), lr=0.01), epochs=1)
