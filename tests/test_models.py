"""Models: the head of every torchvision classification family, and files that are whole or not there."""

from __future__ import annotations

import errno
import inspect
import json
import os
import pickle
import random
import subprocess
import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import weight_norm
from torchvision import models
from torchvision.models import ResNet18_Weights, VGG16_Weights
from torchvision.transforms import InterpolationMode

from course_utils.heads import AUXILIARY, head_name, head_of, replace_head
from course_utils.models import MetaInit, digest, fill, fresh, load_model, open_model, save_model, say_once
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
    others = {id(p) for n, p in model.named_parameters() if not n.startswith((name, *AUXILIARY))}
    old = model.get_submodule(name)
    replace_head(model, 7)
    head = model.get_submodule(name)
    assert (type(head), head is old, (head.bias is None) == (old.bias is None)) == (type(old), False, True)
    assert getattr(head, "out_features", getattr(head, "out_channels", None)) == 7
    kept = {id(p) for n, p in model.named_parameters() if not n.startswith((name, *AUXILIARY))}
    assert kept == others, "all other parameters are the same objects"
    assert all(p.requires_grad for p in head.parameters())


@pytest.mark.parametrize("architecture", [small for _, small in FAMILIES.values()])
def test_heads_of_several_layers_one_output_and_again(architecture):
    model = hollow(architecture)
    name = head_name(model)
    others = {n: s for n, s in shapes(model).items() if not n.startswith((name, *AUXILIARY))}
    inputs = head_inputs(model.get_submodule(name))
    for num_classes, hidden, dropout in ((5, (256, 128), 0.5), (1, (), 0.0), (3, (), 0.3), (2, (64,), 0.0)):
        replace_head(model, num_classes, hidden=hidden, dropout=dropout)
        if num_classes in (1, 5):  # the shapes of the others follow
            assert output_shape(model, architecture) == (2, num_classes)
        head = model.get_submodule(name)
        assert head_inputs(head) == inputs
        assert {n: s for n, s in shapes(model).items() if not n.startswith((name, *AUXILIARY))} == others
        drops = [layer.p for layer in head.modules() if isinstance(layer, nn.Dropout)]
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


# ---- which layer is the head: what other people build


def body(channels: int = 3, width: int = 8) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )


class Net(nn.Module):
    """A backbone and a head, which is registered first; `answer` makes the output."""

    def __init__(self, head: nn.Module | None = None, answer: Callable | None = None, **parts: nn.Module | Tensor):
        super().__init__()
        self.head, self.answer = head or nn.Linear(8, 5), answer
        self.body = body()
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.answer(self, x) if self.answer else self.head(self.body(x))


class Cosine(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(5, 8))

    def forward(self, x):
        return 10 * F.linear(F.normalize(x), F.normalize(self.weight))


class CosineLinear(nn.Linear):
    def forward(self, x):
        return 10 * F.linear(F.normalize(x), F.normalize(self.weight))


class OwnLinear(nn.Linear):
    """As in timm: another class, the same values."""

    def forward(self, x):
        return F.linear(x, self.weight, bias=None if self.bias is None else self.bias)


class Lora(nn.Module):
    def __init__(self):
        super().__init__()
        self.base, self.down, self.up = nn.Linear(8, 5), nn.Linear(8, 2, bias=False), nn.Linear(2, 5, bias=False)

    def forward(self, x):
        return self.base(x) + self.up(self.down(x))


@dataclass
class Output:
    logits: Tensor
    hidden: tuple[Tensor, ...]


class Counting(Net):
    """Its forward changes it and draws random numbers."""

    def __init__(self):
        super().__init__()
        self.runs, self.kept = 0, torch.zeros(())
        self.register_buffer("total", torch.zeros(()))

    def forward(self, x):
        self.runs += 1
        self.total += 1
        self.kept.add_(1)
        return super().forward(x + torch.rand_like(x) + random.random())


class NoGrad(Net):
    @torch.no_grad()
    def forward(self, x):
        return super().forward(x)


def looks_at_values(model: Net, x: Tensor) -> Tensor:
    return model.head(model.body(x / 255 if x.max() > 1 else x))


def tokens(model: Net, x: Tensor) -> Tensor:
    return model.head(model.body[0](x).flatten(2).transpose(1, 2)).mean(1)


def in_place(model: Net, x: Tensor) -> Tensor:
    out = model.head(model.body(x)[:, None])
    out.mul_(2)
    return out[:, 0]


def without(place: str, architecture: str) -> nn.Module:
    model = hollow(architecture)
    model.set_submodule(place, nn.Identity())
    return model


def with_unused(architecture: str) -> nn.Module:
    model = hollow(architecture)
    model.classifier = nn.Linear(512, 8)  # a mistake that is often made: nothing calls it
    return model


def segmentation(name: str, **options: bool) -> nn.Module:
    with MetaInit():
        return models.get_model(name, weights=None, weights_backbone=None, **options).to("meta")


def pruned(head: nn.Module) -> nn.Module:
    return prune.l1_unstructured(head, "weight", 0.3)


def fixed_size(side: int) -> nn.Module:
    convolution = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten())
    return nn.Sequential(convolution, nn.Linear(4 * side * side, 6), nn.Linear(6, 9))


def quantised() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(Net().eval(), {nn.Linear})


HEADS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "registered first": (Net, "head"),
    "a projection registered behind it and used before it": (
        lambda: Net(nn.Linear(6, 5), lambda m, x: m.head(m.proj(m.body(x)).relu()), proj=nn.Linear(8, 6)),
        "head",
    ),
    "two heads, one used": (lambda: Net(other=nn.Linear(8, 2)), "head"),
    "a layer that nothing calls": (lambda: with_unused("resnet18"), "fc"),
    "a dictionary": (lambda: Net(answer=lambda m, x: {"features": m.body(x), "logits": m.head(m.body(x))}), "head"),
    "a dictionary with a second head": (
        lambda: Net(answer=lambda m, x: {"angle": m.other(m.body(x)), "logits": m.head(m.body(x))}, other=nn.Linear(8, 4)),
        "head",
    ),
    "a tuple": (lambda: Net(answer=lambda m, x: (m.body(x), m.head(m.body(x)))), "head"),
    "a dataclass": (lambda: Net(answer=lambda m, x: Output(m.head(m.body(x)), (m.body(x),))), "head"),
    "multi-label": (lambda: Net(answer=lambda m, x: m.head(m.body(x)).sigmoid()), "head"),
    "log-softmax": (lambda: Net(answer=lambda m, x: F.log_softmax(m.head(m.body(x)), 1)), "head"),
    "a temperature": (lambda: Net(answer=lambda m, x: m.head(m.body(x)) / m.t, t=nn.Parameter(torch.ones(1))), "head"),
    "a single logit, squeezed": (lambda: Net(nn.Linear(8, 1), lambda m, x: m.head(m.body(x)).squeeze()), "head"),
    "tokens": (lambda: Net(answer=tokens), "head"),
    "changed in place": (lambda: Net(answer=in_place), "head"),
    "a stack": (lambda: Net(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 5))), "head.2"),
    "segmentation": (lambda: Net(nn.Conv2d(8, 2, 1), lambda m, x: m.head(m.body[:3](x))), "head"),
    "without bias": (lambda: Net(nn.Linear(8, 5, bias=False)), "head"),
    "a class of its own that is linear": (lambda: Net(OwnLinear(8, 5)), "head"),
    "weight norm": (lambda: Net(weight_norm(nn.Linear(8, 5))), "head"),
    "pruned": (lambda: Net(pruned(nn.Linear(8, 5))), "head"),
    "half precision": (lambda: Net().half(), "head"),
    "it looks at values": (lambda: Net(answer=looks_at_values, other=nn.Linear(8, 2)), "head"),
    "it counts its runs": (Counting, "head"),
    "no gradients, one linear layer": (NoGrad, "head"),
    "wrapped": (lambda: nn.Sequential(nn.Sequential(Net())), "0.0.head"),
    "data parallel": (lambda: nn.DataParallel(Net()), "module.head"),
    "compiled": (lambda: torch.compile(Net(), backend="eager"), "_orig_mod.head"),
    "numbers in a row": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), nn.Linear(16, 5)), "3"),
    "one channel, 28 pixels": (lambda: fixed_size(28), "2"),
    "a recurrent network": (
        lambda: Net(nn.Linear(4, 5), lambda m, x: m.head(m.cell(x.flatten(2))[0][:, -1]), cell=nn.LSTM(1024, 4)),
        "head",
    ),
    "FCN with its second opinion": (lambda: segmentation("fcn_resnet50", aux_loss=True), "classifier.4"),
    "a layer that is also registered under another name": (
        lambda: Net(answer=lambda m, x: m.again(m.body(x)), again=None),
        "head",
    ),
}


@pytest.mark.parametrize("quirk", HEADS)
def test_the_head_is_the_layer_that_makes_the_output(quirk):
    build, name = HEADS[quirk]
    model = build()
    if getattr(model, "again", "") is None:
        model.again = model.head
    assert head_name(model) == name
    old = model.get_submodule(name)
    others = {n for n, value in model.named_parameters() if not n.startswith((name, *AUXILIARY))}
    replace_head(model, 7)
    head = model.get_submodule(name)
    assert getattr(head, "out_features", getattr(head, "out_channels", 0)) == 7
    assert (head.weight.dtype, head.weight.device, head.bias is None) == (old.weight.dtype, old.weight.device, old.bias is None)
    assert {n for n, value in model.named_parameters() if not n.startswith((name, *AUXILIARY))} == others
    assert getattr(model, "again", head) is head, "under both names"


NO_HEADS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "no weights": (nn.ReLU, "in ReLU: it has no weights"),
    "a single layer": (lambda: nn.Linear(3, 4), "in Linear: it is a single layer; put a layer of your own in its place"),
    "a convolution": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3)), r"it ends in features, from '0' \(Conv2d\) with a kernel"),
    "identity: resnet": (lambda: without("fc", "resnet18"), r"ends in features, from 'layer4.*\(BatchNorm2d\).* has no head"),
    "identity: vgg": (lambda: without("classifier.6", "vgg11"), r"features, from 'classifier.3' \(Linear\) through Relu, and"),
    "identity: vit": (
        lambda: without("heads", "vit_b_32"),
        r"ends in features, from 'encoder.ln' \(LayerNorm\), and has no head",
    ),
    "two heads": (
        lambda: Net(answer=lambda m, x: (m.head(m.body(x)), m.other(m.body(x))), other=nn.Linear(8, 2)),
        "in Net: its outputs come from 2 heads, 'head', 'other'; put a layer of your own",
    ),
    "two heads, averaged": (
        lambda: Net(answer=lambda m, x: (m.head(m.body(x)) + m.other(m.body(x))) / 2, other=nn.Linear(8, 5)),
        r"its output comes from several layers together, 'head' \(Linear\), 'other' \(Linear\)",
    ),
    "low-rank adaptation": (lambda: Net(Lora()), r"several layers together, 'head.base' \(Linear\), 'head.up' \(Linear\)"),
    "bilinear": (
        lambda: Net(nn.Bilinear(8, 8, 5), lambda m, x: m.head(m.body(x), m.body(x))),
        r"from 'head' \(Bilinear\), not",
    ),
    "cosine": (lambda: Net(Cosine()), r"its output comes from 'head' \(Cosine\), not from nn.Linear"),
    "a norm behind": (lambda: nn.Sequential(Net(), nn.BatchNorm1d(5)), r"ends in features, from '1' \(BatchNorm1d\)"),
    "ReLU behind": (lambda: nn.Sequential(Net(), nn.ReLU()), r"ends in features, from '0.head' \(Linear\) through Relu"),
    "weights used directly": (
        lambda: Net(answer=lambda m, x: m.body(x) @ m.head.weight.T),
        "its output comes from 'head.weight' directly, not through a layer",
    ),
    "a detector": (
        lambda: models.get_model("fasterrcnn_mobilenet_v3_large_320_fpn", weights=None, weights_backbone=None),
        "in FasterRCNN: its outputs come from 2 heads, 'roi_heads.box_predictor",
    ),
    "two classifiers": (lambda: segmentation("lraspp_mobilenet_v3_large"), "several layers together, 'classifier.high_cl"),
    "a size that nobody says": (
        lambda: fixed_size(50),
        r"2 layers could be it \('1', '2'\), and a trial on a small input did not show it \(RuntimeError: .*name its size",
    ),
    "a forward put on it": (
        lambda: set_attribute(Net(other=nn.Linear(8, 2)), "forward", lambda x: x),
        "2 layers could be it .*the forward of 'the model' was put there from outside",
    ),
    "no gradients, two linear layers": (lambda: NoGrad(other=nn.Linear(8, 2)), "2 layers could be it .*that can be followed"),
    "layers without sizes": (lambda: Net(nn.LazyLinear(5)), "some layers have no sizes yet; run the model once"),
    "scripted": (lambda: torch.jit.script(body()), "in RecursiveScriptModule: it has no nn.Linear"),
    "quantised": (quantised, "in Net: it has no nn.Linear"),
}


@pytest.mark.filterwarnings("ignore:.*(deprecated|torch.jit)")
@pytest.mark.parametrize("quirk", NO_HEADS)
def test_a_model_without_a_layer_that_is_surely_its_head(quirk):
    build, words = NO_HEADS[quirk]
    model = build()
    before = [(name, id(module)) for name, module in model.named_modules()]
    for call in (head_name, lambda model: replace_head(model, 3)):
        with pytest.raises(ValueError, match=f"no head was found .*{words}"):
            call(model)
    assert [(name, id(module)) for name, module in model.named_modules()] == before


def set_attribute(model: nn.Module, name: str, value: object) -> nn.Module:
    setattr(model, name, value)
    return model


NOT_REPLACED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "more than linear": (
        lambda: Net(CosineLinear(8, 5)),
        "the head 'head' is a CosineLinear, which computes more than a plain",
    ),
    "tied": (
        lambda: (lambda m: set_attribute(m, "other", tied(m.head)))(Net()),
        "the head 'head' shares its values with 'other.weight', which a new head would not",
    ),
    "only some outputs": (
        lambda: Net(answer=lambda m, x: m.head(m.body(x))[:, :3]),
        r"Net takes no head of 7 outputs in place of 'head': its output then has the shape \(2, 3\)",
    ),
    "reshaped": (
        lambda: Net(nn.Linear(8, 10), lambda m, x: m.head(m.body(x)).view(-1, 5, 2)),
        r"in place of 'head': it then stops with RuntimeError: shape '\[-1, 5, 2\]'",
    ),
    "in groups": (
        lambda: Net(nn.Conv2d(8, 4, 1, groups=4), lambda m, x: m.head(m.body[:3](x))),
        "the head 'head' is a Conv2d, which computes more",
    ),
}


def tied(layer: nn.Linear) -> nn.Linear:
    other = nn.Linear(8, 5)
    other.weight = layer.weight
    return other


@pytest.mark.parametrize("quirk", NOT_REPLACED)
def test_a_head_that_a_new_layer_would_not_replace(quirk):
    build, words = NOT_REPLACED[quirk]
    model = build()
    assert head_name(model) == "head"
    before = [(name, id(module)) for name, module in model.named_modules()]
    with pytest.raises(ValueError, match=f"{words}.*put a layer of your own in its place"):
        replace_head(model, 7)
    assert [(name, id(module)) for name, module in model.named_modules()] == before


@pytest.mark.parametrize("build", [Counting, lambda: Net(answer=looks_at_values), lambda: Net(weight_norm(nn.Linear(8, 5)))])
def test_looking_for_the_head_leaves_the_model_as_it_was(build):
    model, calls = build().train(), []
    model.body.register_forward_hook(lambda *_: calls.append(1))
    model.body[0].weight.requires_grad_(False)
    seen = [state_of(model), random.getstate(), torch.get_rng_state().tolist()]
    with torch.inference_mode():
        assert head_name(model) == "head"
    head_of(model)
    assert [state_of(model), random.getstate(), torch.get_rng_state().tolist()] == seen
    assert not calls, "its hooks have not been called"


def state_of(model: nn.Module) -> list:
    """Everything of a model that a run could change."""
    return [
        [(module.training, getattr(module, "runs", 0), getattr(module, "kept", None)) for module in model.modules()],
        [
            (n, p.requires_grad, p.grad, p.device, digest({n: p.detach()}))
            for n, p in [*model.named_parameters(), *model.named_buffers()]
        ],
    ]


def test_a_model_that_names_its_size_is_tried_at_that_size():
    model = fixed_size(50)
    model.image_size = (50, 50)
    assert head_name(model) == "2"
    model = fixed_size(70)
    model.default_cfg = {"input_size": (1, 70, 70)}  # as timm says it
    assert head_name(model) == "2"


def test_a_convolution_as_a_head_keeps_its_kernel():
    model = nn.Sequential(
        OrderedDict(body=nn.Conv2d(3, 8, 3), classifier=nn.Conv2d(8, 5, 3, padding=1, padding_mode="reflect"))
    )
    replace_head(model, 2)
    assert str(model.classifier) == "Conv2d(8, 2, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), padding_mode=reflect)"
    replace_head(model, 4, hidden=(6,))
    assert [layer.kernel_size for layer in model.classifier if isinstance(layer, nn.Conv2d)] == [(3, 3), (1, 1)]
    assert model(torch.rand(1, 3, 32, 32)).shape == (1, 4, 30, 30)


def test_the_second_opinion_of_a_segmentation_network_follows():
    model = replace_head(segmentation("fcn_resnet50", aux_loss=True), 7)
    assert (model.classifier[4].out_channels, model.aux_classifier[4].out_channels) == (7, 7)


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


@pytest.fixture
def _nothing_said_yet():
    say_once.cache_clear()


@pytest.mark.usefixtures("_nothing_said_yet")
def test_weights_that_nobody_named_are_named_once(capsys):
    """Whoever leaves `weights` out gets the lessons' own, and hears so; whoever names them knows."""
    load_model("resnet18", weights="shapes")
    load_model("squeezenet1_1", weights=None)
    assert capsys.readouterr() == ("", "")
    load_model("resnet18")
    load_model("resnet18")
    out, err = capsys.readouterr()
    assert not out
    assert err.count("\n") == 1
    assert "these weights know drawn shapes only" in err
    assert "for photographs say weights='imagenet'" in err
    assert repr(inspect.signature(load_model).parameters["weights"].default) == "'shapes'", "as help() shows it"


def test_weights_of_another_architecture_are_not_half_loaded():
    state = get_weights("resnet18", "shapes").get_state_dict()
    with pytest.raises(ValueError, match=r"the file of weights for resnet34 does not fit: \d+ tensors differ, such as 'layer1"):
        fill("resnet34", state, 24)
    with pytest.raises(ValueError, match=r"for vgg16 does not fit: \d+ tensors differ, such as 'features.0.weight', missing"):
        fill("vgg16", state, 24)
    with pytest.raises(ValueError, match="such as 'more', \\(1,\\) given and none needed; `git checkout"):
        fill("resnet18", state | {"more": torch.zeros(1)}, 24)


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


# ---- only what comes back as it was is saved

GIVEN = {"architecture": "shufflenet_v2_x0_5", "classes": CLASSES}


def shufflenet() -> nn.Module:
    return replace_head(fresh("shufflenet_v2_x0_5").eval(), 3)


def save(model: nn.Module, path: Path, **changes: object) -> Path:
    transform = get_weights("resnet18", "shapes").transforms()
    return save_model(model, path, **GIVEN | {"transform": transform} | changes)


def set_part(name: str, part: nn.Module) -> Callable[[nn.Module], object]:
    return lambda model: model.set_submodule(name, part)


def change(name: str, **attributes: object) -> Callable[[nn.Module], object]:
    return lambda model: vars(model.get_submodule(name)).update(attributes)


class OtherForward(models.ShuffleNetV2):
    def forward(self, x):
        return super().forward(x) * 2


def tie(model: nn.Module) -> None:
    model.stage2[1].branch2[1].weight = model.stage2[2].branch2[1].weight


def tie_values(model: nn.Module) -> None:
    model.stage2[1].branch2[1].weight.data = model.stage2[2].branch2[1].weight.data


FORGOTTEN: dict[str, tuple[Callable[[nn.Module], object], str]] = {
    "eps": (change("conv1.1", eps=0.01), r"'conv1\.1' has eps=0\.01 here and 1e-05 there"),
    "momentum": (change("conv1.1", momentum=0.5), r"'conv1\.1' has momentum=0\.5 here and 0\.1 there"),
    "stride": (change("conv1.0", stride=(1, 1)), r"'conv1\.0' has stride=\(1, 1\) here and \(2, 2\) there"),
    "pooling": (set_part("maxpool", nn.AvgPool2d(3, 2, 1)), r"'maxpool' is AvgPool2d\(.*\) here and MaxPool2d\(.*\) there"),
    "activation": (set_part("conv1.2", nn.ReLU6()), r"'conv1\.2' is ReLU6\(\) here and ReLU\(inplace=True\) there"),
    "a layer more": (set_part("conv1.3", nn.Dropout(0.5)), r"'conv1\.3' is Dropout\(.*\) here and nothing there"),
    "a layer less": (lambda model: model.conv1.pop(2), r"'conv1\.2' is nothing here and ReLU\(inplace=True\) there"),
    "a buffer": (
        lambda model: model.register_buffer("mask", torch.ones(3), persistent=False),
        r"the model has the buffers \['mask'\] here and \[\] there",
    ),
    "its class": (lambda model: setattr(model, "__class__", OtherForward), r"the model is OtherForward\(\) here and Shuffle"),
    "its forward": (lambda model: setattr(model, "forward", model.forward), "the model has a forward that was put there"),
    "a hook": (lambda model: model.fc.register_forward_hook(lambda m, i, o: o * 2), "'fc' has hooks, which a file cannot hold"),
    "a hook before": (lambda model: model.fc.register_forward_pre_hook(lambda m, i: None), "'fc' has hooks, which a file"),
    "pruning": (lambda model: pruned(model.fc), "'fc' has hooks, which a file cannot hold.*prune for pruned layers"),
    "weight norm": (lambda model: weight_norm(model.fc), "'fc' has parametrizations, which a file cannot hold"),
    "tied weights": (tie, r"'stage2\.1\.branch2\.1\.weight' and 'stage2\.2\.branch2\.1\.weight' are one tensor \(tied\)"),
    "tied values": (tie_values, r"are one tensor \(tied\), and would be two after opening"),
    "one layer twice": (
        lambda model: set_part("stage2.1.branch2.1", model.stage2[2].branch2[1])(model),
        r"'stage2\.1\.branch2\.1\.weight' and 'stage2\.2\.branch2\.1\.weight' are one tensor \(tied\)",
    ),
    "no values": (
        lambda model: model.to("meta"),
        r"'conv1\.0\.weight' has a shape but no values \(device meta\); load weights",
    ),
}


@pytest.mark.parametrize("what", FORGOTTEN)
def test_a_change_that_a_file_would_forget_is_refused(what, tmp_path):
    make, words = FORGOTTEN[what]
    model = shufflenet()
    make(model)
    with pytest.raises(ValueError, match=words):
        save(model, tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_logits_are_compared_even_where_all_layers_look_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("course_utils.models.first_difference", lambda *_: "")
    model = replace_head(load_model("resnet18", weights="shapes"), 3)
    save(model, tmp_path / "model", architecture="resnet18")
    before = (tmp_path / "model").stat()
    model.bn1.eps = 1e-3
    with pytest.raises(ValueError, match=r"not the resnet18 that would be opened: its logits differ by \d.*noise; undo the"):
        save(model, tmp_path / "model", architecture="resnet18")
    assert (tmp_path / "model").stat() == before


def test_a_model_that_does_not_run_is_not_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(models.ShuffleNetV2, "_forward_impl", lambda model, x: 1 / 0)
    model = fresh("shufflenet_v2_x0_5")
    with pytest.raises(ValueError, match=r"it could not be run for a comparison \(ZeroDivisionError: division by zero\)"):
        save(model, tmp_path / "model", classes=[str(i) for i in range(1000)])


def in_one_block(model: nn.Module) -> None:
    """All parameters as views of one piece of memory, as some optimizers lay them."""
    block = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    for parameter, part in zip(model.parameters(), block.split([p.numel() for p in model.parameters()]), strict=True):
        parameter.data = part.view_as(parameter)


KEPT: dict[str, Callable[[nn.Module], object]] = {
    "training mode": nn.Module.train,
    "frozen": lambda model: model.requires_grad_(False),
    "half precision": nn.Module.half,
    "bfloat16": nn.Module.bfloat16,
    "double precision": nn.Module.double,
    "channels last": lambda model: model.to(memory_format=torch.channels_last),
    "views of one piece of memory": in_one_block,
    "ReLU not in place": change("conv1.2", inplace=False),
    "attributes of its own": lambda model: setattr(model, "best", 0.9),
    "a backward hook": lambda model: model.fc.register_full_backward_hook(lambda *_: None),
    "not a number": lambda model: nn.init.constant_(model.fc.bias, float("nan")),
    "no bias": lambda model: replace_head(set_attribute(model, "fc", nn.Linear(1024, 3, bias=False)), 3),
    "a head of several layers": lambda model: replace_head(model, 3, hidden=(8, 4), dropout=0.2),
}


@pytest.mark.parametrize("what", KEPT)
def test_what_makes_no_difference_is_saved_and_comes_back(what, tmp_path):
    model = shufflenet()
    KEPT[what](model)
    before = [state_of(model), torch.get_rng_state().tolist(), random.getstate()]
    opened = open_model(save(model, tmp_path / "model")).model
    assert repr([state_of(model), torch.get_rng_state().tolist(), random.getstate()]) == repr(before), "saving changed it"
    assert not any(module.training for module in opened.modules())
    for name, value in model.state_dict().items():
        assert torch.equal(opened.state_dict()[name].nan_to_num(), value.nan_to_num()), name
        assert opened.state_dict()[name].dtype == value.dtype
    images = torch.rand(2, 3, 64, 64, dtype=model.conv1[0].weight.dtype)
    with torch.inference_mode():
        assert torch.equal(opened(images).nan_to_num(), model.eval()(images).nan_to_num())


def test_a_compiled_model_is_saved_as_the_one_that_was_compiled(tmp_path):
    model = shufflenet()
    opened = open_model(save(torch.compile(model, backend="eager"), tmp_path / "model")).model
    assert opened.state_dict().keys() == model.state_dict().keys()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_model_on_a_gpu_is_saved_from_there(tmp_path):
    model = shufflenet().cuda()
    opened = open_model(save(model, tmp_path / "model")).model
    assert all(value.device.type == "cpu" for value in opened.state_dict().values())
    assert all(value.device.type == "cuda" for value in model.state_dict().values())


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (("ant", "bee", "ant"), "each class needs a name of its own, but 'ant' is given more than once"),
        ((0, 1, 2), r"classes=\(0, 1, 2\); give the names as a list of strings"),
        ("abc", "classes='abc'; give the names as a list of strings"),
        ({"ant": 0, "bee": 1, "cat": 2}, "give the names as a list of strings, in the order of the outputs"),
        (None, "classes=None; give the names"),
    ],
)
def test_class_names_that_are_no_names(classes, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        save(shufflenet(), tmp_path / "model", classes=classes)
    assert not list(tmp_path.iterdir())


class Brighter(type(get_weights("resnet18", "shapes").transforms())):
    def forward(self, image):
        return super().forward(image) + 1


TRANSFORMS: dict[str, Callable[[nn.Module], object]] = {
    "an attribute": lambda transform: setattr(transform, "gamma", 2.0),
    "a hook": lambda transform: transform.register_forward_hook(lambda m, i, o: o * 2),
    "another class": lambda transform: setattr(transform, "__class__", Brighter),
    "a forward": lambda transform: setattr(transform, "forward", lambda image: image),
    "a tensor": lambda transform: setattr(transform, "mean", torch.tensor([0.4, 0.4, 0.4])),
    "an interpolation by number": lambda transform: setattr(transform, "interpolation", 2),
}


@pytest.mark.parametrize("what", TRANSFORMS)
def test_a_preparation_that_was_changed_in_a_way_that_is_forgotten(what, tmp_path):
    transform = get_weights("resnet18", "shapes").transforms()
    TRANSFORMS[what](transform)
    with pytest.raises(
        ValueError, match=r"(?s)cannot save the preparation .*give the one from weights\.transforms\(\), as it was"
    ):
        save(shufflenet(), tmp_path / "model", transform=transform)


@pytest.mark.parametrize(
    "changes",
    [{"antialias": False}, {"mean": (0.1, 0.2, 0.3)}, {"resize_size": [70, 80]}, {"interpolation": InterpolationMode.NEAREST}],
)
def test_a_preparation_whose_numbers_were_changed_comes_back_with_them(changes, tmp_path):
    transform = get_weights("resnet18", "shapes").transforms()
    vars(transform).update(changes)
    again = open_model(save(shufflenet(), tmp_path / "model", transform=transform)).transform
    picture = torch.randint(256, (3, 100, 90), dtype=torch.uint8)
    assert torch.equal(transform(picture), again(picture))


def test_a_file_with_flipped_bits(saved):
    _, path, _ = saved
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"is damaged \(its values are not those that were saved\); copy it again"):
        open_model(path)


def test_a_file_from_before_opens(saved):
    """Files had no checksum, no word on the bias of the head, and none on antialiasing."""
    model, path, given = saved
    with safe_open(path, framework="pt") as file:
        card = json.loads(file.metadata()["course"])
    del card["sha256"], card["head"]["bias"], card["transform"]["antialias"]
    rewrite(path, model.state_dict(), card)
    opened = open_model(path)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in opened.model.state_dict().items())
    assert repr(opened.transform) == repr(given["transform"])


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
save_model(model, sys.argv[1], architecture="squeezenet1_1", classes=[str(i) for i in range(1000)], transform=transform)
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
