"""Small models, each with one quirk that the code of other people has: `QUIRKS` maps its name to a builder of a model.

Most quirks are a few lines between a stem and a head. Each of these stands here twice: `frozen: …`, where the stem is frozen
and the quirk is at work on frozen activations, and `learning: …`, where a layer in front of it learns.
"""

from __future__ import annotations

import copy
import functools
import io
import itertools
import math
import os
import random
import threading
import time
import types
import warnings
from array import array
from collections import Counter, OrderedDict, deque, namedtuple
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from oracle import Builder, Case, Plain, loss_of_all, loss_of_first
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize, prune
from torch.utils.checkpoint import checkpoint

from course_utils import freeze, unfreeze

QUIRKS: dict[str, Builder] = {}
PIECES: dict[str, tuple[Callable, Callable]] = {}  # the functions that stand between stem and head, and what prepares them


def quirk(builder: Builder) -> Builder:
    QUIRKS[builder.__name__.replace("_", " ")] = builder
    return builder


class Net(nn.Module):
    """A stem of convolutions and a norm, `between`, where the quirk is, and a linear head."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = with_history(nn.BatchNorm2d(4))
        self.mix = nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(4, 3)
        self.prepare()

    def prepare(self) -> None:
        """What the quirk needs."""

    def stem(self, x: Tensor) -> Tensor:
        return self.mix(self.norm(self.conv(x)))

    def between(self, x: Tensor) -> Tensor:
        return x

    def top(self, x: Tensor) -> Tensor:
        return self.head(x.float().mean((2, 3)))

    def forward(self, x: Tensor) -> Tensor:
        return self.top(self.between(self.stem(x)))


def scripted(function: Callable) -> Callable:
    """`torch.jit.script`, which many models in use still go through, without its word that it is deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(function)


def with_history(norm: nn.Module) -> nn.Module:
    """`norm` with statistics of something it has seen."""
    norm.running_mean.normal_(0, 0.3)
    norm.running_var.uniform_(0.5, 2)
    return norm


def learning(model: nn.Module, *names: str) -> nn.Module:
    """`model` frozen but for the parts and parameters of these names."""
    freeze(model)
    for name in names:
        owner, _, last = name.rpartition(".")
        unfreeze(getattr(model.get_submodule(owner), last))
    return model


def between(prepare: Callable = lambda self: None, sides: tuple[str, ...] = ("frozen", "learning"), **options) -> Callable:
    """Registers a function as a quirk between stem and head; `prepare` adds what it needs to the model."""

    def register(function: Callable) -> Callable:
        name = function.__name__.replace("_", " ")
        PIECES[name] = function, prepare
        for side in sides:
            QUIRKS[f"{side}: {name}"] = functools.partial(net_with, function, prepare, side, **options)
        return function

    return register


def net_with(function: Callable, prepare: Callable, side: str, **options) -> Case:
    methods = {"between": lambda self, x: function(self, x), "prepare": prepare}
    model = type("Model", (Net,), methods)()
    learning(model, "head", *(["mix"] if side == "learning" else []))
    return Case(model, own_order=side == "frozen", **options)


def sets(**attributes: Callable) -> Callable:
    """A `prepare` that sets these attributes, each made anew."""

    def prepare(self: nn.Module) -> None:
        for name, make in attributes.items():
            made = make()
            if isinstance(made, Tensor) and not isinstance(made, nn.Parameter):
                self.register_buffer(name, made)
            else:
                setattr(self, name, made)

    return prepare


# ================================================================================================ changed in place


@between()
def relu_method_in_place(self, x):
    x.relu_()
    return x


@between()
def relu_function_in_place_result_dropped(self, x):
    F.relu(x, inplace=True)
    return x


@between()
def relu_function_in_place_result_used(self, x):
    return F.relu(x, inplace=True)


@between(sets(act=lambda: nn.ReLU(inplace=True)))
def relu_module_in_place_old_name_used(self, x):
    old = x
    self.act(x)
    return old + 1


@between(sets(act=lambda: nn.ReLU(inplace=True)))
def relu_module_in_place_old_value_kept_by_clone(self, x):
    old = x.clone()
    return self.act(x) - 0.5 * old


@between(sets(act=lambda: nn.ReLU(inplace=True)))
def relu_module_in_place_and_residual(self, x):
    return x + self.act(x)  # both are the same tensor by then


@between()
def add_assign(self, x):
    y = x * 2
    y += x
    return y


@between()
def multiply_assign_under_two_names(self, x):
    y = x = x + 0
    y *= 3
    return x


@between()
def sub_method_result_dropped(self, x):
    x = x + 0
    x.sub_(0.5)
    return x


@between(sides=("frozen",))
def out_argument(self, x):
    y = torch.empty_like(x)
    torch.add(x, 1, out=y)
    return y


@between(sides=("frozen",))
def out_argument_is_the_input(self, x):
    torch.mul(x, 2, out=x)
    return x


@between()
def index_assignment(self, x):
    x = x + 0
    x[:, 0] = 0
    return x


@between()
def index_assignment_of_a_tensor(self, x):
    y = torch.zeros_like(x)
    y[:, :2] = x[:, 2:]
    return y


@between()
def padding_by_slices(self, x):
    y = x.new_zeros(x.shape[0], 4, 10, 10)
    y[..., 1:-1, 1:-1] = x
    return y


@between()
def masked_fill_in_place(self, x):
    x = x + 0
    x.masked_fill_(x < 0, 0.1)
    return x


@between()
def boolean_mask_assignment(self, x):
    x = x + 0
    x[x < 0] = 0.2
    return x


@between()
def view_changed_in_place(self, x):
    x = x + 0
    y = x.view(x.shape[0], -1)
    y.mul_(2)
    return x


@between()
def slice_changed_in_place(self, x):
    x = x + 0
    x[:, :2].add_(1)
    return x


@between(sides=("frozen",))
def chunk_changed_in_place(self, x):
    first, _ = x.chunk(2, 1)
    first.add_(1)
    return x


@between()
def transpose_changed_in_place(self, x):
    x = x + 0
    x.transpose(2, 3).mul_(torch.arange(8.0))
    return x


@between()
def detached_alias_changed_in_place(self, x):
    x = x + 0
    x.detach().mul_(2)
    return x


@between()
def data_changed_in_place(self, x):
    x = x + 0
    x.data.clamp_(min=0)
    return x


@between()
def copied_into_an_empty_tensor(self, x):
    y = torch.zeros_like(x)
    y.copy_(x)
    return y


@between(sets(places=lambda: torch.tensor([0, 0, 1, 2])))
def index_add_in_place(self, x):
    y = torch.zeros_like(x)
    y.index_add_(1, self.places, x)
    return y


@between()
def chain_of_methods_in_place(self, x):
    return (x + 0).clamp_(-1, 1).add_(1).mul_(0.5)


@between()
def a_copy_changed_and_forgotten(self, x):
    y = x.clone()
    y.zero_()
    return x


@between(sets(drop=lambda: nn.Dropout(0.5, inplace=True)))
def dropout_in_place_result_dropped(self, x):
    x = x + 0
    self.drop(x)
    return x


@between(sets(act=lambda: functools.partial(F.relu, inplace=True)))
def partial_function_in_place(self, x):
    self.act(x)
    return x


@between(sets(act=lambda: nn.Hardswish(inplace=True)))
def hardswish_in_place_then_old_name(self, x):
    x = x + 0
    y = self.act(x)
    return x * y


@between(sides=("frozen",))
def random_in_place_on_a_copy(self, x):
    y = x.clone()
    y.uniform_(0, 1)
    return x + y


@between(sets(memory=lambda: torch.zeros(1, 4, 8, 8)), sides=("frozen",))
def buffer_given_as_out(self, x):
    torch.amax(x, 0, keepdim=True, out=self.memory)
    return x


# ==================================================================================================== random numbers


def drop_path(x: Tensor, probability: float, training: bool) -> Tensor:
    """Stochastic depth as timm writes it."""
    if not training:
        return x
    keep = 1 - probability
    mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
    if keep > 0.0:
        mask.div_(keep)
    return x * mask


class DropPath(nn.Module):
    def __init__(self, probability: float = 0.5):
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        return drop_path(x, self.probability, self.training)


@between(sets(drop_path=DropPath))
def drop_path_module(self, x):
    return x + self.drop_path(x)


@between()
def drop_path_function(self, x):
    return x + drop_path(x, 0.5, self.training)


@between()
def noise_always(self, x):
    return x + torch.rand_like(x)


@between()
def one_random_number(self, x):
    return x * torch.rand(1)


@between()
def random_number_as_a_float(self, x):
    return x * torch.rand(()).item()


@between()
def gaussian_noise_while_training(self, x):
    return x + 0.1 * torch.randn(x.shape) if self.training else x


@between()
def noise_in_evaluation_only(self, x):
    return x if self.training else x + torch.rand_like(x)


@between()
def noise_method_in_place(self, x):
    return x + torch.zeros_like(x).normal_(0, 0.1)


@between()
def random_permutation_of_the_batch(self, x):
    return 0.5 * (x + x[torch.randperm(x.shape[0])]) if self.training else x


@between()
def random_crop_while_training(self, x):
    if not self.training:
        return x[..., :6, :6]
    top = int(torch.randint(3, ()))
    return x[..., top : top + 6, :6]


@between()
def dropout_always_at_work(self, x):
    return F.dropout(x, 0.3, training=True)


@between()
def dropout_by_the_mode(self, x):
    return F.dropout(x, 0.3, self.training)


@between()
def dropout_function_with_its_default(self, x):
    return F.dropout2d(x)  # training=True is the default


@between(sets(drop=lambda: nn.Dropout(0.0)))
def dropout_of_nothing(self, x):
    return self.drop(x)


@between(sets(drop=lambda: nn.Dropout(0.3)))
def dropout_module_of_the_root(self, x):
    return self.drop(x)


@between(sets(drop=lambda: nn.FeatureAlphaDropout(0.3)))
def feature_alpha_dropout(self, x):
    return self.drop(x)


@between(sets(act=nn.RReLU))
def random_leaky_relu(self, x):
    return self.act(x)


@between()
def random_leaky_relu_always(self, x):
    return F.rrelu(x, training=True)


@between(sets(pool=lambda: nn.FractionalMaxPool2d(2, output_ratio=0.7)))
def fractional_pooling_is_random_in_both_modes(self, x):
    return self.pool(x)


@between()
def gumbel_softmax(self, x):
    return F.gumbel_softmax(x, dim=1)


@between()
def multinomial_channels(self, x):
    return x[:, torch.multinomial(torch.ones(4), 4)]


@between()
def layer_dropped_by_python(self, x):
    if self.training and random.random() < 0.5:
        return x
    return torch.tanh(x)


@between()
def noise_from_numpy(self, x):
    return x * float(np.random.rand())


@between()
def noise_array_from_numpy(self, x):
    return x + torch.from_numpy(np.random.normal(size=(1, 4, 8, 8))).float()


@between(sets(generator=lambda: torch.Generator().manual_seed(1)))
def own_generator_of_torch(self, x):
    return x + torch.rand(x.shape, generator=self.generator)


@between(sets(generator=lambda: np.random.default_rng(1)))
def own_generator_of_numpy(self, x):
    return x * float(self.generator.random())


@between(sets(dice=lambda: random.Random(1)))
def own_random_of_python(self, x):
    return x * self.dice.random()


@between(sets(generator=lambda: torch.Generator().manual_seed(1)))
def own_generator_while_training(self, x):
    return x * torch.rand((), generator=self.generator) if self.training else x


@between()
def noise_now_and_then_by_python(self, x):
    return x + 1 if random.random() < 0.1 else x


@between()
def noise_now_and_then_by_torch(self, x):
    return x + torch.randn_like(x) * (torch.rand(()) < 0.1)


@between()
def drawn_and_not_used(self, x):
    torch.rand(3)
    return x


@between()
def drawn_by_python_and_not_used(self, x):
    random.random()
    return x


@between()
def entropy_of_the_system(self, x):
    return x * (1 + os.urandom(1)[0])


@between()
def fresh_generator_of_numpy(self, x):
    return x * float(np.random.default_rng().random())


@between()
def seed_set_in_forward(self, x):
    torch.manual_seed(0)
    return x + torch.rand_like(x)


@between()
def fixed_noise_under_a_forked_seed(self, x):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        noise = torch.rand(1, 4, 8, 8)
    return x + noise


@between()
def fixed_permutation_from_a_seed(self, x):
    return x[:, np.random.RandomState(0).permutation(4).tolist()]


@between()
def random_erasing_in_place(self, x):
    x = x + 0
    if self.training:
        row = random.randrange(6)
        x[:, :, row : row + 2] = 0
    return x


@between()
def mixed_by_a_beta_of_numpy(self, x):
    share = float(np.random.beta(0.4, 0.4)) if self.training else 1.0
    return share * x + (1 - share) * x.flip(0)


# ========================================================================================= state that forward changes


def running_mean(self: nn.Module) -> None:
    self.register_buffer("average", torch.zeros(4))


@between(running_mean)
def moving_average_while_training(self, x):
    if self.training:
        self.average.mul_(0.9).add_(0.1 * x.detach().mean((0, 2, 3)))
    return x - self.average.view(-1, 1, 1).clone()


@between(running_mean, sides=("frozen",))
def moving_average_that_nothing_reads(self, x):
    self.average.lerp_(x.detach().mean((0, 2, 3)), 0.1)
    return x


@between(running_mean, sides=("frozen",))
def moving_average_assigned_anew(self, x):
    self.average = 0.9 * self.average + 0.1 * x.detach().mean((0, 2, 3))
    return x - self.average.view(-1, 1, 1)


@between(running_mean, sides=("frozen",))
def moving_average_copied_under_no_grad(self, x):
    with torch.no_grad():
        self.average.copy_(0.5 * self.average + 0.5 * x.mean((0, 2, 3)))
    return x


@between(sets(steps=lambda: torch.tensor(0)))
def counter_buffer(self, x):
    self.steps += 1
    return x


@between(sets(steps=lambda: torch.tensor(0)), sides=("frozen",))
def counter_buffer_by_method(self, x):
    self.steps.add_(1)
    return x


@between(sets(steps=lambda: 0))
def counter_attribute(self, x):
    self.steps += 1
    return x


@between(sets(steps=lambda: 0), sides=("frozen",))
def counter_attribute_while_training(self, x):
    if self.training:
        self.steps += 1
    return x


@between(sets(steps=lambda: 0), sides=("frozen",))
def warm_up_by_a_counter(self, x):
    self.steps += 1
    return x * min(1.0, self.steps / 8)


@between(sets(steps=lambda: 0), sides=("frozen",))
def another_way_after_some_steps(self, x):
    self.steps += 1
    return x.relu() if self.steps > 9 else x


@between(sets(state=lambda: types.SimpleNamespace(calls=0)), sides=("frozen",))
def counter_in_a_namespace(self, x):
    self.state.calls += 1
    return x


class Meter(Plain):
    """An object of a class of its own, as for logging."""

    def __init__(self):
        self.calls, self.largest = 0, 0.0

    def update(self, x: Tensor) -> None:
        self.calls += 1


@between(sets(meter=Meter), sides=("frozen",))
def counter_in_an_object(self, x):
    self.meter.update(x)
    return x


@between(sets(counts=lambda: np.zeros(3)), sides=("frozen",))
def counter_in_an_array(self, x):
    self.counts[0] += 1
    return x


class Slots(Plain):
    __slots__ = ("calls",)

    def __init__(self):
        self.calls = 0


@between(sets(state=Slots), sides=("frozen",))
def counter_in_slots(self, x):
    self.state.calls += 1
    return x


@between(sets(state=lambda: deque(maxlen=3)), sides=("frozen",))
def steps_in_a_deque(self, x):
    self.state.append(len(self.state))
    return x


@between(sets(state=Counter), sides=("frozen",))
def steps_in_a_counter(self, x):
    self.state["calls"] += 1
    return x


@between(sets(state=set), sides=("frozen",))
def steps_in_a_set(self, x):
    self.state.add(len(self.state))
    return x


@between(sets(state=lambda: itertools.count()), sides=("frozen",))
def steps_of_itertools(self, x):
    next(self.state)
    return x


@between(sets(state=lambda: array("l", [0])), sides=("frozen",))
def steps_in_an_array_of_python(self, x):
    self.state[0] += 1
    return x


@between(sets(state=bytearray), sides=("frozen",))
def steps_in_bytes(self, x):
    self.state.append(1)
    return x


@between(sets(state=io.StringIO), sides=("frozen",))
def steps_in_a_text(self, x):
    self.state.write("called\n")
    return x


@between(sets(state=lambda: [Meter(), {"meters": (Meter(),)}]), sides=("frozen",))
def steps_in_an_object_in_a_tuple_in_a_dictionary_in_a_list(self, x):
    self.state[1]["meters"][0].update(x)
    return x


@between(sets(started=lambda: 0.0), sides=("frozen",))
def remembers_the_time(self, x):
    self.started = time.perf_counter()
    return x


@between(unseen=True, sides=("frozen",))
def counter_of_the_class(self, x):
    calls = type(self).__dict__.get("calls", 0)
    type(self).calls = calls + 1
    return x * (1 + calls / 10)


def one_tensor_in_a_list(self: nn.Module) -> None:
    self.scales = [torch.ones(4, 1, 1)]


@between(one_tensor_in_a_list, sides=("frozen",))
def tensor_in_a_list_changed_in_forward(self, x):
    self.scales[0].mul_(0.9)
    return x * self.scales[0].clone()


@between(sets(last=lambda: None))
def remembers_the_last_input(self, x):
    self.last = x.detach()
    return x


@between(sides=("frozen",))
def remembers_in_a_new_attribute(self, x):
    self.seen_shape = tuple(x.shape[1:])
    return x


@between(sets(seen=list))
def list_appended(self, x):
    self.seen.append(float(x.detach().mean()))
    return x


@between(sets(seen=list), sides=("frozen",))
def list_of_constants_appended(self, x):
    self.seen.append(1)
    return x


@between(sets(cache=dict), forgets=("cache",), sides=("frozen",))
def cache_by_size(self, x):
    size = x.shape[-1]
    if size not in self.cache:
        self.cache[size] = torch.linspace(0, 1, size)
    return x + self.cache[size]


@between(sets(grid=lambda: None), forgets=("grid",), sides=("frozen",))
def constant_made_at_the_first_call(self, x):
    if self.grid is None:
        self.grid = torch.linspace(0, 1, 8)
    return x * self.grid


@between(sets(hidden=lambda: None), sides=("frozen",))
def state_carried_from_batch_to_batch(self, x):
    mean = x.detach().mean((0, 2, 3)).view(-1, 1, 1)
    self.hidden = mean if self.hidden is None else 0.5 * (mean + self.hidden)
    return x - self.hidden


def queue(self: nn.Module) -> None:
    self.register_buffer("queue", torch.zeros(6, 4))
    self.register_buffer("pointer", torch.zeros(1, dtype=torch.long))


@between(queue)
def queue_with_a_pointer(self, x):
    if self.training:
        place = int(self.pointer)
        self.queue[place] = x.detach().mean((0, 2, 3))
        self.pointer[0] = (place + 1) % 6
    return x + self.queue.mean(0).view(-1, 1, 1)


def data_dependent(self: nn.Module) -> None:
    self.register_buffer("scale", torch.ones(4, 1, 1))
    self.register_buffer("ready", torch.tensor(False))


@between(data_dependent, sides=("frozen",))
def initialised_by_the_first_batch(self, x):
    if self.training and not self.ready:
        self.scale.copy_(1 / x.detach().std((0, 2, 3)).view(-1, 1, 1))
        self.ready.fill_(True)
    return x * self.scale.clone()


@between(sets(shift=lambda: nn.Parameter(torch.ones(4, 1, 1))), sides=("frozen",))
def parameter_data_changed_in_forward(self, x):
    self.shift.data.mul_(0.9)
    return x + self.shift


@between(sets(shift=lambda: nn.Parameter(torch.ones(4, 1, 1))))
def parameter_clamped_under_no_grad(self, x):
    with torch.no_grad():
        self.shift.clamp_(max=0.5)
    return x + self.shift


@between(sets(low=lambda: torch.tensor(0.0), high=lambda: torch.tensor(0.0)), sides=("frozen",))
def observer_of_a_quantised_model(self, x):
    if self.training:
        self.low.copy_(torch.minimum(self.low, x.detach().amin()))
        self.high.copy_(torch.maximum(self.high, x.detach().amax()))
    return x.clamp(-5, 5)


@between(sets(norm2=lambda: nn.BatchNorm2d(4)))
def norm_statistics_reset_in_forward(self, x):
    self.norm2.running_mean.zero_()
    return self.norm2(x)


@between(sides=("frozen",))
def switches_its_own_mode(self, x):
    self.norm.training = False
    return x


@between(sets(drop=lambda: nn.Dropout(0.5)))
def switches_dropout_on_in_forward(self, x):
    self.drop.train()
    return self.drop(x)


@between(sets(norm2=lambda: nn.BatchNorm2d(4)), sides=("frozen",))
def freezes_a_norm_in_forward(self, x):
    self.norm2.eval()
    return self.norm2(x)


# ======================================================================================= pictures mixed with others


@between()
def minus_the_mean_of_the_batch(self, x):
    return x - x.mean(0)


@between()
def a_little_of_the_mean_of_the_batch(self, x):
    return x - 0.001 * x.mean(0)


@between()
def batch_flipped(self, x):
    return x + x.flip(0)


@between()
def batch_rolled(self, x):
    return x.roll(1, 0) - x


@between()
def sorted_in_the_batch(self, x):
    return x.sort(0).values


@between()
def summed_along_the_batch(self, x):
    return x.cumsum(0)


@between()
def softmax_over_the_batch(self, x):
    return x.softmax(0)


@between()
def divided_by_the_largest(self, x):
    return x / x.abs().max()


@between()
def clamped_by_the_largest_if_it_is_large(self, x):
    return x / x.detach().abs().max().clamp(min=2.3)


@between()
def mixed_only_if_values_are_large(self, x):
    return torch.where(x.detach().amax() > 1.9, x - x.mean(0), x)


@between()
def whole_batch_standardised(self, x):
    return F.layer_norm(x, x.shape)


@between()
def deviation_of_the_batch_as_a_channel(self, x):
    spread = x.std(0, unbiased=False).mean().expand(x.shape[0], 1, 8, 8)
    return torch.cat([x[:, :3], spread], 1)


@between()
def divided_by_the_size_of_the_batch(self, x):
    return x / x.shape[0]


@between()
def weighed_by_the_place_in_the_batch(self, x):
    return x * torch.arange(1.0, x.shape[0] + 1).view(-1, 1, 1, 1)


@between()
def only_the_first_picture_shifted(self, x):
    return torch.cat([x[:1] + 1, x[1:]])


@between(sets(kernels=lambda: torch.randn(1, 4, 3, 3)))
def batch_merged_into_channels(self, x):
    b = x.shape[0]
    kernels = self.kernels.repeat(b, 1, 1, 1)
    return F.conv2d(x.reshape(1, -1, 8, 8), kernels, padding=1, groups=b).view(b, 1, 8, 8).expand(-1, 4, -1, -1)


@between()
def viewed_in_the_wrong_order(self, x):
    return x.reshape(4, x.shape[0], 8, 8).transpose(0, 1)


@between(sets(attention=lambda: nn.MultiheadAttention(4, 2)))
def attention_over_tokens_first(self, x):
    tokens = x.flatten(2).permute(2, 0, 1)
    mixed = self.attention(tokens, tokens, tokens, need_weights=False)[0]
    return mixed.permute(1, 2, 0).reshape(x.shape)


@between(sets(attention=lambda: nn.MultiheadAttention(4, 2)))
def attention_over_the_batch_by_mistake(self, x):
    tokens = x.flatten(2).transpose(1, 2)
    mixed = self.attention(tokens, tokens, tokens, need_weights=False)[0]
    return mixed.transpose(1, 2).reshape(x.shape)


@between()
def batch_in_the_last_dimension(self, x):
    return x.permute(1, 2, 3, 0).softmax(-1).permute(3, 0, 1, 2)


@between()
def batch_in_the_last_dimension_and_back(self, x):
    return (x.permute(1, 2, 3, 0) * 2).permute(3, 0, 1, 2)


@between(sets(norm2=lambda: nn.BatchNorm2d(4, track_running_stats=False)))
def norm_without_statistics(self, x):
    return self.norm2(x)


@between(sets(norm2=lambda: nn.BatchNorm2d(4, affine=False)))
def norm_without_parameters(self, x):
    return self.norm2(x)


@between(sets(norm2=lambda: nn.BatchNorm2d(4, momentum=None)))
def norm_with_cumulative_statistics(self, x):
    return self.norm2(x)


@between()
def norm_function_in_training(self, x):
    return F.batch_norm(x, None, None, training=True)


@between(running_mean)
def norm_function_that_writes_to_a_buffer(self, x):
    return F.batch_norm(x, self.average, torch.ones(4), training=self.training)


@between(sets(norm2=lambda: nn.InstanceNorm2d(4, affine=True, track_running_stats=True)))
def instance_norm_with_statistics(self, x):
    return self.norm2(x)


@between(sets(norm2=lambda: nn.InstanceNorm2d(4)))
def instance_norm(self, x):
    return self.norm2(x)


@between()
def distances_between_pictures(self, x):
    flat = x.flatten(1)
    return x * torch.cdist(flat, flat).softmax(1).sum(0).view(-1, 1, 1, 1)


@between()
def similarities_between_pictures(self, x):
    return x + torch.einsum("bchw,achw->bachw", x, x).mean(1)


class Centre(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0) if x.shape[0] > 3 else x


class Counting(nn.Module):
    """A part that counts its calls, and is louder after the third."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * (1 + self.calls.clamp(max=3))


@between(sets(part=lambda: scripted(Counting())))
def scripted_part_that_counts(self, x):
    return self.part(x)


@scripted
def centred_if_there_are_many(x: Tensor) -> Tensor:
    return x - x.mean(0) if x.shape[0] > 3 else x


@between(sets(part=lambda: scripted(Centre())))
def mixed_only_in_batches_above_three_by_a_scripted_part(self, x):
    return self.part(x)


@between()
def mixed_only_in_batches_above_three(self, x):
    return x - x.mean(0) if x.shape[0] > 3 else x


@between()
def mixed_only_in_batches_above_three_and_compiled(self, x):
    return centred_if_there_are_many(x)


@between()
def top_picture_of_the_batch_added(self, x):
    best = x.detach().mean((1, 2, 3)).argmax()
    return x + x[best]


@between()
def batch_split_into_halves_and_joined(self, x):
    half = (x.shape[0] + 1) // 2
    return torch.cat([x[:half], x[half:]])


@between()
def pictures_one_by_one(self, x):
    return torch.stack([one.tanh() for one in x])


@between()
def pictures_unbound_and_stacked(self, x):
    return torch.stack([one * 2 for one in x.unbind()])


# ============================================================================================ types and number formats


@between()
def spectrum(self, x):
    return torch.fft.fft2(x).abs()


@between(sets(filter=lambda: nn.Parameter(torch.randn(4, 8, 5, dtype=torch.complex64))), sides=("frozen",))
def complex_filter(self, x):
    return torch.fft.irfft2(torch.fft.rfft2(x) * self.filter)


@between()
def double_in_between(self, x):
    return (x.double() * 1.1).float()


@between(sides=("frozen",))
def left_as_double(self, x):
    return x.double()


@between()
def left_as_bfloat16(self, x):
    return x.bfloat16()


@between(sides=("frozen",))
def left_as_half(self, x):
    return x.half()


@between(sides=("frozen",))
def rounded_to_a_grid(self, x):
    return (x * 8).detach().round() / 8


@between(sides=("frozen",))
def rounded_straight_through(self, x):
    return x + (torch.round(x * 8) / 8 - x).detach()


@between(sets(table=lambda: nn.Embedding(9, 4)), sides=("frozen",))
def codes_of_a_frozen_table(self, x):
    codes = (x.detach().mean(1) * 2).clamp(-4, 4).long() + 4
    return self.table(codes).permute(0, 3, 1, 2)


@between()
def boolean_in_between(self, x):
    return x * (x > 0)


@between(sides=("frozen",))
def bytes_in_between(self, x):
    return x + ((x.detach() + 3) * 20).clamp(0, 255).to(torch.uint8) / 255.0


@between(sides=("frozen",))
def sparse_in_between(self, x):
    return x.relu().to_sparse().to_dense()


@between(sides=("frozen",))
def through_numpy(self, x):
    return torch.from_numpy(np.tanh(x.detach().numpy()))


@between(sides=("frozen",))
def through_a_list(self, x):
    return torch.tensor(x.detach().tolist())


@between()
def channels_last(self, x):
    return x.contiguous(memory_format=torch.channels_last)


@between(sides=("frozen",))
def infinite_and_repaired(self, x):
    return (x / 0).nan_to_num(0.0, 1.0, -1.0)


@between(sides=("frozen",))
def transposed_and_not_contiguous(self, x):
    return x.transpose(2, 3)


@between()
def expanded_without_memory(self, x):
    return x.mean(1, keepdim=True).expand(-1, 4, -1, -1)


# ==================================================================================================== flow of control


@between(sides=("frozen",))
def branch_on_the_shape(self, x):
    return x * 2 if x.shape[-1] > 4 else x


@between()
def branch_on_the_values(self, x):
    return x * 2 if x.mean() > 0 else x


@between(sides=("frozen",))
def branch_on_values_that_rarely_matter(self, x):
    if bool((x > 1.9).any()):
        x = x / 2
    return x


@between(sets(scale=lambda: nn.Parameter(torch.tensor(2.0))), sides=("frozen",))
def branch_on_a_frozen_parameter(self, x):
    return x * self.scale if self.scale > 1 else x


@between(sides=("frozen",))
def assert_on_the_shape(self, x):
    assert x.shape[1] == 4, "four channels are needed"
    return x


@between(sides=("frozen",))
def assert_of_torch(self, x):
    torch._assert(x.shape[1] == 4, "four channels are needed")
    return x


@between(sides=("frozen",))
def assert_on_the_dimensions(self, x):
    assert x.dim() == 4
    assert x.ndim == 4
    return x


@between()
def doubled_if_it_is_a_tensor(self, x):
    return x * 2 if isinstance(x, Tensor) else x


@between(sides=("frozen",))
def refused_if_it_is_no_tensor(self, x):
    if not torch.is_tensor(x):
        raise TypeError("give a tensor")
    return x


@between(sides=("frozen",))
def by_exact_type(self, x):
    return x * 2 if type(x) is Tensor else x


@between(sides=("frozen",))
def masked_if_it_has_a_mask(self, x):
    return x * x.mask if hasattr(x, "mask") else x


@between(sides=("frozen",))
def unpacked_if_it_is_nested(self, x):
    try:
        x = x.tensors
    except AttributeError:
        x = x * 2
    return x


@between()
def another_way_without_gradients(self, x):
    return x * 2 if torch.is_grad_enabled() else x


@between(sides=("frozen",))
def another_way_if_gradients_are_wanted(self, x):
    return x * 2 if x.requires_grad else x


@between()
def another_way_in_training(self, x):
    return x.relu() if self.training else x.sigmoid()


@between(sides=("frozen",))
def another_way_in_training_by_a_child(self, x):
    return x.relu() if self.norm.training else x.sigmoid()


@between(sides=("frozen",))
def another_way_when_scripted(self, x):
    return x if torch.jit.is_scripting() else x * 2


@between(sides=("frozen",))
def another_way_when_traced_by_fx(self, x):
    return x if isinstance(x, torch.fx.Proxy) else x * 2


@between(sides=("frozen",))
def another_way_while_tracing(self, x):
    return x if torch.fx._symbolic_trace.is_fx_tracing() else x * 2


@between(sides=("frozen",))
def length_of_the_batch(self, x):
    return x.view(len(x), 4, 64).view(len(x), 4, 8, 8)


@between()
def shape_unpacked(self, x):
    b, c, h, w = x.shape
    return x.view(b, c * h, w).reshape(b, c, h, w)


@between()
def size_by_method(self, x):
    return x.view(x.size(0), -1).view(-1, 4, 8, 8)


@between(sides=("frozen",))
def arithmetic_on_the_shape(self, x):
    return x[..., : int(x.shape[2] * 0.5)] / math.sqrt(x.shape[1])


@between(sides=("frozen",))
def product_of_the_shape(self, x):
    return x / float(np.prod(x.shape[1:]))


@between()
def made_like_the_input(self, x):
    return x + torch.ones(x.shape, dtype=x.dtype, device=x.device)


@between()
def made_from_the_batch(self, x):
    return torch.cat([x, x.new_ones(x.shape[0], 1, 8, 8)], 1)[:, 1:]


@between(sides=("frozen",))
def printed(self, x):
    print("shape", x.shape)
    return x


@between(sides=("frozen",))
def warned(self, x):
    warnings.warn("a foreign word", stacklevel=1)
    return x


@between(sides=("frozen",))
def loop_over_the_channels(self, x):
    return torch.stack([x[:, i] * i for i in range(x.shape[1])], 1)


@between(sides=("frozen",))
def loop_until_small(self, x):
    while x.shape[-1] > 3:
        x = F.avg_pool2d(x, 2)
    return x


@between()
def resized_to_another_tensor(self, x):
    return x + F.interpolate(F.avg_pool2d(x, 2), size=x.shape[-2:], mode="bilinear")


@between()
def where_with_numbers(self, x):
    return torch.where(x > 0, 1.0, -0.1) * x


@between(sets(matrix=lambda: torch.randn(4, 4)))
def einsum(self, x):
    return torch.einsum("bchw,dc->bdhw", x, self.matrix)


@between(sets(act=lambda: lambda x: x.tanh()))
def function_as_an_attribute(self, x):
    return self.act(x)


@between(sets(act=lambda: {"a": torch.tanh, "b": F.gelu}), sides=("frozen",))
def functions_in_a_dictionary(self, x):
    return self.act["b"](self.act["a"](x))


@between(sets(depth=lambda: 3))
def recursion(self, x):
    def deeper(x, depth):
        return x if not depth else deeper(x.tanh(), depth - 1)

    return deeper(x, self.depth)


@between(sides=("frozen",))
def largest_channels_kept(self, x):
    values, places = x.topk(2, dim=1)
    return x + torch.zeros_like(x).scatter(1, places, values)


@between(sides=("frozen",))
def named_tuple_of_torch(self, x):
    return x + x.max(1, keepdim=True).values + x.min(dim=1, keepdim=True)[0]


@between()
def norm_of_each_picture(self, x):
    return x / x.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


@between(sides=("frozen",))
def mean_of_the_rest_by_squeezing(self, x):
    return x.mean((1, 2, 3), keepdim=True).squeeze(1).unsqueeze(1) + x


# ============================================================================================= gradients and contexts


class Reverse(Function):
    """Gradient reversal, as in domain-adversarial training."""

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


class Sign(Function):
    """The sign, and its gradient straight through."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sign()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * (ctx.saved_tensors[0].abs() < 1)


@between()
def gradient_reversed(self, x):
    return Reverse.apply(x)


@between()
def sign_straight_through(self, x):
    return Sign.apply(x)


@between()
def no_gradient_in_forward(self, x):
    with torch.no_grad():
        x = x.tanh()
    return x * 2


@between()
def gradient_only_in_training(self, x):
    with torch.set_grad_enabled(self.training):
        return x.tanh()


@between()
def detached(self, x):
    return x.detach() * 2


@between()
def half_detached(self, x):
    return x.tanh() + x.detach()


@between()
def autocast_block(self, x):
    with torch.autocast("cpu", torch.bfloat16):
        return self.mix(x)


@between(sets(conv2=lambda: nn.Conv2d(4, 4, 1)))
def autocast_block_then_float(self, x):
    with torch.autocast("cpu", torch.bfloat16):
        x = self.conv2(x)
    return x.float()


@between()
def autocast_off(self, x):
    with torch.autocast("cpu", enabled=False):
        return x.float() * 2


@between(sets(conv2=lambda: nn.Conv2d(4, 4, 1)))
def checkpointed(self, x):
    return checkpoint(self.conv2, x, use_reentrant=False)


@between()
def checkpointed_with_dropout(self, x):
    return checkpoint(lambda x: F.dropout(x.tanh(), 0.3, self.training), x, use_reentrant=False)


@between(sets(conv2=lambda: nn.Conv2d(4, 4, 1)), sides=("learning",))
def checkpointed_the_old_way(self, x):
    return checkpoint(self.conv2, x, use_reentrant=True)


@between(sides=("learning",))
def tensor_hook_on_the_gradient(self, x):
    if x.requires_grad:
        x.register_hook(lambda gradient: gradient * 3)
    return x


@between()
def inference_mode_and_a_clone(self, x):
    with torch.inference_mode():
        y = x.tanh()
    return y.clone()


@between(loss=F.cross_entropy)
def gradient_taken_in_forward(self, x):
    with torch.enable_grad():
        y = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(y.pow(3).sum(), y)
    return x + slope


@between()
def asks_for_gradients_of_the_input(self, x):
    return x.requires_grad_().tanh() if not x.requires_grad else x.tanh()


@between()
def called_functionally(self, x):
    weights = {name: 2 * p for name, p in self.mix.named_parameters()}
    return torch.func.functional_call(self.mix, weights, (x,))


@between()
def mapped_over_pictures(self, x):
    return torch.vmap(lambda one: one / one.abs().max())(x)


@between(sides=("frozen",))
def memory_layout_read_behind_the_cut(self, x):
    x = F.dropout(x.transpose(2, 3), 0.3, self.training)
    return torch.as_strided(x, (x.shape[0], 4, 8, 8), (256, 64, 8, 1))


@between()
def container_sliced(self, x):
    return nn.Sequential(nn.Tanh(), nn.ReLU())[:1](x)


def a_longer_block(self: nn.Module) -> None:
    self.block = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(4, 4, 1))


@between(a_longer_block)
def block_sliced_in_forward(self, x):
    return self.block[2:](self.block[:2](x))


@between()
def recorded_for_a_profile(self, x):
    with torch.profiler.record_function("between"):
        return x.tanh()


@scripted
def scripted_gelu(x: Tensor) -> Tensor:
    return F.gelu(x) if x.dim() == 4 else x


@between()
def scripted_function(self, x):
    return scripted_gelu(x)


@between(sets(part=lambda: torch.jit.script(nn.Sequential(nn.Conv2d(4, 4, 1), nn.Dropout(0.3)))))
def scripted_part_with_dropout(self, x):
    return self.part(x)


@between(sets(part=lambda: torch.compile(nn.Conv2d(4, 4, 1), backend="eager")))
def compiled_part(self, x):
    return self.part(x)


@torch.no_grad()
def without_gradients(x: Tensor) -> Tensor:
    return x.tanh() * 2


@between()
def decorated_function_without_gradients(self, x):
    return without_gradients(x)


# ------------------------------------------------------------------- the same, in functions that torch.fx does not look into


@torch.fx.wrap
def opaque(name: str, x: Tensor) -> Tensor:
    """The quirk of this name as one step of the graph, as libraries hide what cannot be traced."""
    return OPAQUE.get(name, PIECES.get(name, (None,))[0])(None, x)


OPAQUE: dict[str, Callable] = {}
GENERATOR = np.random.default_rng(1)


def hidden(function: Callable) -> Callable:
    OPAQUE[function.__name__.replace("_", " ")] = function
    return function


@hidden
def mixed_if_one_value_is_large(_, x):
    return x - x.mean(0) if bool((x > 1.9).any()) else x


@hidden
def mixed_in_batches_above_three(_, x):
    return x - x.mean(0) if len(x) > 3 else x


@hidden
def mixed_in_batches_of_four(_, x):
    return x - x.mean(0) if len(x) == 4 else x


@hidden
def mixed_in_batches_of_three(_, x):
    return x - x.mean(0) if len(x) == 3 else x


@hidden
def noise_of_a_generator_elsewhere(_, x):
    return x + float(GENERATOR.random())


@hidden
def noise_of_one_picture(_, x):
    return torch.cat([x[:-1], x[-1:] + torch.rand(())])


@hidden
def changed_in_place(_, x):
    x.data.mul_(2)
    return x


@hidden
def changed_in_place_and_another_returned(_, x):
    y = x.clone()
    x.data.mul_(2)
    return y


@hidden
def by_the_clock(_, x):
    return x * (1 + time.perf_counter() % 1)


@hidden
def per_picture(_, x):
    return torch.stack([one / one.abs().max() for one in x])


@hidden
def another_way_under_no_grad(_, x):
    return x if torch.is_grad_enabled() else x * 2


HIDDEN = ["relu method in place", "relu function in place result dropped", "noise always"]
HIDDEN += ["noise from numpy", "noise now and then by python", "entropy of the system", "seed set in forward", "batch flipped"]
HIDDEN += ["minus the mean of the batch", "sorted in the batch", "divided by the largest", "weighed by the place in the batch"]
HIDDEN += [
    "only the first picture shifted",
    "viewed in the wrong order",
    "branch on values that rarely matter",
    "through a list",
]
HIDDEN += ["mixed only if values are large", "detached", "gradient reversed", "pictures one by one", "index assignment"]


def register_what_is_hidden() -> None:
    """Each in front of a learning head, and behind a learning layer."""
    for name in [*OPAQUE, *HIDDEN]:
        for side in ("frozen", "learning") if name in OPAQUE else ("frozen",):
            build = functools.partial(net_with, functools.partial(call_opaque, name), sets(), side)
            QUIRKS[f"{side}, not looked into: {name}"] = build


def call_opaque(name: str, self: nn.Module, x: Tensor) -> Tensor:
    return opaque(name, x)


# ============================================================================================================ layers


@between(sets(block=lambda: nn.Sequential(nn.Conv2d(4, 4, 1), nn.Dropout(0.5))))
def block_with_dropout(self, x):
    return self.block(x)


@between(sets(block=lambda: nn.Sequential(nn.Conv2d(4, 4, 1), nn.Dropout(0.5))))
def block_with_dropout_entered_piecewise(self, x):
    return self.block[1](F.relu(self.block[0](x)))


class FunctionalBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.conv(x), 0.5, self.training)


@between(sets(block=FunctionalBlock))
def block_with_functional_dropout(self, x):
    return self.block(x)


@between(sets(block=FunctionalBlock))
def block_called_by_keyword(self, x):
    return self.block(x=x)


@between(sets(block=FunctionalBlock))
def block_called_by_its_forward(self, x):
    return self.block.forward(x)


@between(sets(layer=lambda: nn.TransformerEncoderLayer(4, 2, 8, dropout=0.3, batch_first=True)))
def transformer_layer(self, x):
    return self.layer(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(x.shape)


@between(sets(layer=lambda: nn.TransformerEncoderLayer(4, 2, 8, dropout=0.3)))
def transformer_layer_tokens_first(self, x):
    return self.layer(x.flatten(2).permute(2, 0, 1)).permute(1, 2, 0).reshape(x.shape)


@between(sets(rnn=lambda: nn.LSTM(4, 4, batch_first=True, num_layers=2, dropout=0.3)))
def lstm(self, x):
    return self.rnn(x.flatten(2).transpose(1, 2))[0].transpose(1, 2).reshape(x.shape)


@between(sets(rnn=lambda: nn.GRU(4, 4)))
def gru_over_tokens_first(self, x):
    tokens = x.mean(3).permute(2, 0, 1)
    _, last = self.rnn(tokens)
    return x + last[0][..., None, None]


@between(sets(rnn=lambda: nn.GRU(4, 4)))
def gru_over_the_batch_by_mistake(self, x):
    return x + self.rnn(x.mean(3).transpose(1, 2))[0].transpose(1, 2)[..., None]


@between(sets(layers=lambda: nn.ModuleList(nn.Conv2d(4, 4, 1) for _ in range(3))))
def list_of_layers(self, x):
    for i, layer in enumerate(self.layers):
        x = x + layer(x) if i else layer(x)
    return x


@between(sets(layers=lambda: nn.ModuleDict({"a": nn.Conv2d(4, 4, 1), "b": nn.Tanh()})))
def dictionary_of_layers(self, x):
    for name, layer in self.layers.items():
        x = layer(x) if name != "c" else x
    return x


@between(sets(weights=lambda: nn.ParameterList([torch.ones(1), torch.ones(1) * 2])))
def list_of_parameters(self, x):
    return sum(w * x for w in self.weights)


@between(sets(conv2=lambda: nn.utils.weight_norm(nn.Conv2d(4, 4, 1))))
def weight_norm_of_old(self, x):
    return self.conv2(x)


@between(sets(conv2=lambda: parametrizations.weight_norm(nn.Conv2d(4, 4, 1))))
def weight_norm(self, x):
    return self.conv2(x)


@between(sets(conv2=lambda: nn.utils.spectral_norm(nn.Conv2d(4, 4, 1))))
def spectral_norm_of_old(self, x):
    return self.conv2(x)


@between(sets(conv2=lambda: parametrizations.spectral_norm(nn.Conv2d(4, 4, 1))))
def spectral_norm(self, x):
    return self.conv2(x)


@between(sets(conv2=lambda: prune.l1_unstructured(nn.Conv2d(4, 4, 1), "weight", 0.5)))
def pruned(self, x):
    return self.conv2(x)


class Standardised(nn.Conv2d):
    """A convolution that standardises its weights, as in BiT."""

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight
        return F.conv2d(x, (w - w.mean((1, 2, 3), keepdim=True)) / (w.std((1, 2, 3), keepdim=True) + 1e-5), self.bias)


@between(sets(conv2=lambda: Standardised(4, 4, 1)))
def weights_standardised(self, x):
    return self.conv2(x)


class NoisyConv(nn.Conv2d):
    """A layer of torch with noise of its own: its class says convolution, its forward says more."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (1 + 0.1 * torch.randn(()) if self.training else 1)


@between(sets(conv2=lambda: NoisyConv(4, 4, 1)))
def subclass_of_a_layer_with_noise(self, x):
    return self.conv2(x)


class AlwaysNoisyConv(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 0.1 * torch.randn(1, 4, 1, 1)


@between(sets(conv2=lambda: AlwaysNoisyConv(4, 4, 1)))
def subclass_of_a_layer_with_noise_in_both_modes(self, x):
    return self.conv2(x)


class StubbornDropout(nn.Dropout):
    """Dropout that cannot be switched off."""

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p, True)


@between(sets(drop=StubbornDropout))
def subclass_of_dropout_always_at_work(self, x):
    return self.drop(x)


class QuietDropout(nn.Dropout):
    def train(self, mode: bool = True):
        return super().train(False)


@between(sets(drop=QuietDropout))
def dropout_that_never_trains(self, x):
    return self.drop(x)


@between(sets(token=lambda: nn.Parameter(torch.randn(1, 1, 4))))
def class_token(self, x):
    tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), x.flatten(2).transpose(1, 2)], 1)
    return (tokens[:, 1:] * tokens[:, :1]).transpose(1, 2).reshape(x.shape)


@between(sets(position=lambda: nn.Parameter(torch.randn(1, 4, 5, 5))))
def position_interpolated(self, x):
    return x + F.interpolate(self.position, size=x.shape[-2:], mode="bicubic")


@between(sets(position=lambda: nn.Parameter(torch.randn(1, 4, 5, 5))))
def position_interpolated_by_a_rate(self, x):
    rate = x.shape[-1] / self.position.shape[-1]
    return x + F.interpolate(self.position, scale_factor=rate)[..., :8, :8]


@between(sets(scale=lambda: torch.arange(1.0, 5).view(-1, 1, 1)))
def buffer_as_a_factor(self, x):
    return x * self.scale


def hidden_buffer(self: nn.Module) -> None:
    self.register_buffer("scale", torch.arange(1.0, 5).view(-1, 1, 1), persistent=False)


@between(hidden_buffer)
def buffer_that_is_not_saved(self, x):
    return x * self.scale


def plain_tensor(self: nn.Module) -> None:
    self.scales = [torch.arange(1.0, 5).view(-1, 1, 1)]


@between(plain_tensor)
def tensor_in_a_list(self, x):
    return x * self.scales[0]


def two_names(self: nn.Module) -> None:
    self.alias = self.mix


@between(two_names)
def one_layer_under_two_names(self, x):
    return self.alias(x)


class Rows(Tensor):
    """A tensor of a class of its own."""


@between(sets(rows=lambda: torch.ones(4, 1, 1).as_subclass(Rows)))
def tensor_of_a_class_of_its_own(self, x):
    return (x * self.rows).as_subclass(Tensor)


@between(sets(lock=threading.Lock))
def lock_as_an_attribute(self, x):
    with self.lock:
        return x.tanh()


@between(sets(lines=lambda: (i for i in range(1000))))
def iterator_as_an_attribute(self, x):
    return x.tanh()


@between(sets(lines=lambda: iter(range(1000))), unseen=True)
def iterator_used_up_in_forward(self, x):
    return x + next(self.lines)


NOWHERE = open(os.devnull, "w")  # noqa: SIM115  # open until the tests end


def open_file(self: nn.Module) -> None:
    self.log = NOWHERE


@between(open_file)
def file_written_in_forward(self, x):
    self.log.write("called\n")
    return x


# ====================================================================================================== whole models


def net(model_class: type[nn.Module] = Net, *names: str, **options) -> Case:
    """A model of this class in which the head learns, or what has these names."""
    return Case(learning(model_class(), *(names or ("head",))), **options)


@quirk
def plain() -> Case:
    return net()


@quirk
def still_in_training_mode() -> Case:
    model = Net()
    model.requires_grad_(False)
    model.head.requires_grad_(True)
    return Case(model)


@quirk
def everything_in_evaluation_mode() -> Case:
    return Case(learning(Net(), "head").eval())


@quirk
def frozen_sequential() -> nn.Module:
    layers = OrderedDict(conv=nn.Conv2d(3, 4, 3), act=nn.ReLU(inplace=True), flat=nn.Flatten(), head=nn.Linear(144, 3))
    return learning(nn.Sequential(layers), "head")


@quirk
def sequential_with_dropout_between() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.4), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 3))
    return learning(model, "4")


@quirk
def first_layer_learns() -> Case:
    return net(Net, "conv")


@quirk
def middle_learns() -> Case:
    return net(Net, "mix")


@quirk
def only_biases_learn() -> Case:
    return net(Net, "mix.bias", "head.bias")


@quirk
def only_the_norm_learns() -> Case:
    return net(Net, "norm")


@quirk
def half_of_the_norm_learns() -> Case:
    return net(Net, "norm.bias")


@quirk
def all_learns() -> Case:
    return net(Net, "conv", "norm", "mix", "head")


class Scaled(Net):
    def prepare(self):
        self.scale = nn.Parameter(torch.ones(4, 1, 1) * 2)
        self.after = nn.Parameter(torch.ones(3) * 2)

    def between(self, x):
        return x * self.scale

    def top(self, x):
        return super().top(x) * self.after


@quirk
def parameter_of_the_root_learns() -> Case:
    return net(Scaled, "scale")


@quirk
def frozen_factor_behind_what_learns() -> Case:
    return net(Scaled, "head")


@quirk
def parameter_behind_the_head_learns() -> Case:
    return net(Scaled, "after")


class Complex(Net):
    def prepare(self):
        self.filter = nn.Parameter(torch.randn(4, 8, 5, dtype=torch.complex64))

    def between(self, x):
        return torch.fft.irfft2(torch.fft.rfft2(x) * self.filter)


@quirk
def complex_numbers_at_the_cut() -> Case:
    return net(Complex, "filter")


class Coded(Net):
    def prepare(self):
        self.table = nn.Embedding(9, 4)

    def between(self, x):
        return self.table((x.detach().mean(1) * 2).clamp(-4, 4).long() + 4).permute(0, 3, 1, 2)


@quirk
def integers_at_the_cut() -> Case:
    return net(Coded, "table", "head")


class Chosen(Net):
    def prepare(self):
        self.yes = nn.Parameter(torch.ones(4, 1, 1))
        self.no = nn.Parameter(torch.zeros(4, 1, 1))

    def between(self, x):
        return torch.where(x > 0, self.yes, self.no)


@quirk
def booleans_at_the_cut() -> Case:
    return net(Chosen, "yes", "no")


class Bytes(Net):
    def prepare(self):
        self.factor = nn.Parameter(torch.ones(4, 1, 1))

    def between(self, x):
        return ((x.detach() + 3) * 20).clamp(0, 255).to(torch.uint8) * self.factor


@quirk
def bytes_at_the_cut() -> Case:
    return net(Bytes, "factor", "head")


class Double(Net):
    def prepare(self):
        self.double()

    def forward(self, x):
        x = self.between(self.stem(x.double()))
        return self.head(x.mean((2, 3)))


@quirk
def double_precision() -> Case:
    return net(Double, tolerance=1e-7)


class Brain(Net):
    """Half of it in bfloat16, as large models are kept."""

    def prepare(self):
        self.bfloat16()

    def forward(self, x):
        x = self.stem(x.bfloat16())
        return self.head(x.mean((2, 3))).float()


@quirk
def bfloat16_at_the_cut() -> Case:
    return net(Brain, tolerance=1e-3)


@quirk
def differences_that_need_double_precision() -> Case:
    class Model(Net):
        def prepare(self):
            self.base = nn.Parameter(torch.zeros(1))
            self.double()

        def forward(self, x):
            x = self.stem(x.double()).mean((2, 3)) + 1e8
            return self.head(x - (self.base + 1e8))

    return net(Model, "base", "head")


@quirk
def batch_mixed_at_a_tiny_scale() -> Case:
    class Model(Net):
        def prepare(self):
            self.gain = nn.Parameter(torch.full((4, 1, 1), 1e9))

        def between(self, x):
            return 1e-9 * (x - x.mean(0)) * self.gain

    return net(Model, "gain", "head")


@quirk
def noise_at_a_tiny_scale() -> Case:
    class Model(Net):
        def prepare(self):
            self.gain = nn.Parameter(torch.full((4, 1, 1), 1e9))
            self.generator = np.random.default_rng(1)

        def between(self, x):
            return 1e-9 * (x + float(self.generator.random())) * self.gain

    return net(Model, "gain", "head")


@quirk
def values_beyond_half_precision() -> Case:
    class Model(Net):
        def between(self, x):
            return F.dropout(1e30 * x, 0.3, self.training) * 1e-30

    return net(Model)


@quirk
def not_a_number_at_the_cut() -> Case:
    class Model(Net):
        def prepare(self):
            self.gain = nn.Parameter(torch.ones(4, 1, 1))

        def between(self, x):
            return (x.sqrt() + self.gain.detach()).nan_to_num(0.5) * self.gain

    return net(Model, "gain", "head")


class LargeIntegers(Net):
    def prepare(self):
        self.table = nn.Embedding(9, 4)

    def forward(self, x):
        codes = (self.stem(x).mean(1) * 2).clamp(-4, 4).long() + 4 + 2**40
        return self.head(self.table(codes - 2**40).mean((1, 2)))


@quirk
def integers_beyond_single_precision() -> Case:
    return net(LargeIntegers, "table", "head")


# ---------------------------------------------------------------------------------------------- signatures and outputs


@quirk
def default_arguments() -> Case:
    class Model(Net):
        def forward(self, x, return_features=False, scale: float = 1.0):
            features = self.between(self.stem(x)) * scale
            return features if return_features else self.top(features)

    return net(Model)


@quirk
def default_argument_is_none() -> Case:
    class Model(Net):
        def forward(self, x, mask=None):
            x = self.stem(x)
            if mask is not None:
                x = x * mask
            return self.top(x)

    return net(Model)


@quirk
def keyword_only_argument() -> Case:
    class Model(Net):
        def forward(self, x, *, normalise=True):
            x = self.stem(x)
            return self.top(F.normalize(x, dim=1) if normalise else x)

    return net(Model)


@quirk
def stars_and_keywords() -> Case:
    class Model(Net):
        def forward(self, *args, **kwargs):
            return super().forward(*args, **kwargs)

    return net(Model)


@quirk
def keywords_that_choose() -> Case:
    class Model(Net):
        def forward(self, x, **kwargs):
            return super().forward(x * 2 if kwargs.get("twice") else x)

    return net(Model)


def outputs(make: Callable[[Tensor, Tensor], object], **options) -> Case:
    """A model that returns `make(logits, features)`."""

    class Model(Net):
        def forward(self, x):
            features = self.stem(x)
            return make(self.top(features), features)

    return net(Model, loss=loss_of_first, **options)


@dataclass
class Output:
    logits: Tensor
    features: Tensor | None = field(default=None)


Pair = namedtuple("Pair", "logits features")


@quirk
def output_is_a_dictionary() -> Case:
    return outputs(lambda logits, features: {"logits": logits, "features": features})


@quirk
def output_is_a_tuple() -> Case:
    return outputs(lambda logits, features: (logits, features))


@quirk
def output_is_a_list() -> Case:
    return outputs(lambda logits, features: [logits, features.mean()])


@quirk
def output_is_a_named_tuple() -> Case:
    return outputs(Pair)


@quirk
def output_is_a_dataclass() -> Case:
    return outputs(Output)


@quirk
def output_is_an_ordered_dictionary() -> Case:
    return outputs(lambda logits, features: OrderedDict(logits=logits))


@quirk
def output_with_a_number() -> Case:
    return outputs(lambda logits, features: (logits, 3, None, "text"))


@quirk
def output_with_the_size_of_the_batch() -> Case:
    return outputs(lambda logits, features: (logits, features.shape[0]))


@quirk
def output_twice_the_same() -> Case:
    return outputs(lambda logits, features: (logits, logits))


@quirk
def input_returned_too() -> Case:
    class Model(Net):
        def forward(self, x):
            return super().forward(x), x

    return net(Model, loss=loss_of_first)


@quirk
def input_only_squeezed_into_the_head() -> Case:
    class Model(Net):
        def forward(self, x):
            return self.top(self.stem(x)) + self.shift(x.mean((2, 3)))

        def prepare(self):
            self.shift = nn.Linear(3, 3)

    return net(Model, "head", "shift")


@quirk
def input_changed_in_place() -> Case:
    class Model(Net):
        def forward(self, x):
            x.mul_(2)
            return super().forward(x)

    return net(Model)


@quirk
def input_changed_in_place_with_an_example() -> Case:
    class Model(Net):
        def forward(self, x):
            x -= 0.5
            return super().forward(x)

    return net(Model, example=True)


@quirk
def input_is_a_dictionary() -> Case:
    class Model(Net):
        def forward(self, batch):
            return super().forward(batch["pixels"])

    return net(Model, runs=False)


@quirk
def two_inputs() -> Case:
    class Model(Net):
        def forward(self, x, y):
            return super().forward(x + y)

    return net(Model, runs=False)


@quirk
def size_must_be_given() -> Case:
    class Model(Net):
        def prepare(self):
            self.head = nn.Linear(4 * 12 * 10, 3)

        def top(self, x):
            return self.head(x.flatten(1))

    return net(Model, size=(3, 12, 10), example=True)


@quirk
def size_must_be_given_and_is_not() -> Case:
    class Model(Net):
        def prepare(self):
            self.head = nn.Linear(4 * 12 * 10, 3)

        def top(self, x):
            return self.head(x.flatten(1))

    return net(Model, size=(3, 12, 10))


@quirk
def one_channel() -> Case:
    class Model(Net):
        def prepare(self):
            self.conv = nn.Conv2d(1, 4, 3, padding=1)

    return net(Model, size=(1, 8, 8))


@quirk
def thirteen_channels() -> Case:
    class Model(Net):
        def prepare(self):
            self.conv = nn.Conv2d(13, 4, 3, padding=1)

    return net(Model, size=(13, 8, 8), example=True)


@quirk
def flat_pictures() -> Case:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.Tanh(), nn.Linear(8, 3))
    return Case(learning(model, "3"))


@quirk
def one_logit_squeezed() -> Case:
    class Model(Net):
        def forward(self, x):
            return super().forward(x)[:, 0].squeeze()

    return net(
        Model, loss=lambda logits, labels: F.binary_cross_entropy_with_logits(logits, (labels > 0).float()), pictures=6, batch=2
    )


# --------------------------------------------------------------------------------------------------- what is shared


@quirk
def frozen_layer_used_again_behind_what_learns() -> Case:
    class Model(Net):
        def prepare(self):
            self.again = nn.Conv2d(4, 4, 1)

        def forward(self, x):
            x = self.again(self.stem(x))
            return self.top(self.again(self.learner(x)) if hasattr(self, "learner") else x)

    model = Model()
    model.learner = nn.Conv2d(4, 4, 1)
    return Case(learning(model, "learner", "head"))


@quirk
def frozen_norm_used_again_behind_what_learns() -> Case:
    class Model(Net):
        def stem(self, x):
            return self.norm(self.mix(self.norm(self.conv(x))))

    return net(Model, "mix", "head")


@quirk
def learning_layer_used_twice() -> Case:
    class Model(Net):
        def stem(self, x):
            x = self.norm(self.conv(x))
            return self.mix(self.mix(x))

    return net(Model, "mix", "head")


@quirk
def one_activation_in_place_used_everywhere() -> Case:
    class Model(Net):
        def prepare(self):
            self.act = nn.ReLU(inplace=True)

        def forward(self, x):
            x = self.act(self.norm(self.conv(x)))
            return self.top(self.act(self.mix(x)))

    return net(Model, "mix", "head")


@quirk
def weights_tied_between_frozen_and_learning() -> Case:
    class Model(Net):
        def prepare(self):
            self.first = nn.Linear(4, 4)
            self.second = nn.Linear(4, 4)
            self.second.weight = self.first.weight

        def between(self, x):
            x = self.first(x.permute(0, 2, 3, 1)).relu()
            return self.second(x).permute(0, 3, 1, 2)

    return net(Model, "second.weight", "head")


@quirk
def weights_tied_and_frozen() -> Case:
    class Model(Net):
        def prepare(self):
            self.first = nn.Linear(4, 4)
            self.second = nn.Linear(4, 4)
            self.second.weight = self.first.weight

        def between(self, x):
            x = self.first(x.permute(0, 2, 3, 1)).relu()
            return self.second(x).permute(0, 3, 1, 2)

    return net(Model, "second.bias", "head")


@quirk
def learning_layer_used_by_its_weight_in_front() -> Case:
    class Model(Net):
        def stem(self, x):
            return super().stem(x) * self.head.weight.mean()

    return net(Model)


@quirk
def learning_layer_read_through_data_in_front() -> Case:
    class Model(Net):
        def stem(self, x):
            return super().stem(x) * self.head.weight.data.mean()

    return net(Model)


@quirk
def learning_layer_read_as_a_number_in_front() -> Case:
    class Model(Net):
        def stem(self, x):
            return super().stem(x) * float(self.head.bias.sum())

    return net(Model)


@quirk
def learning_layer_read_detached_in_front() -> Case:
    class Model(Net):
        def stem(self, x):
            return super().stem(x) + self.head.weight.detach().sum()

    return net(Model)


@quirk
def frozen_view_of_a_learning_weight() -> Case:
    class Model(Net):
        def prepare(self):
            self.shift = nn.Parameter(torch.ones(4), requires_grad=False)
            self.shift.data = self.head.weight.data[0]  # the same memory

        def between(self, x):
            return x + self.shift.view(-1, 1, 1)

    return net(Model)


@quirk
def buffer_that_is_the_memory_of_a_learning_weight() -> Case:
    class Model(Net):
        def prepare(self):
            self.register_buffer("shift", self.head.weight.detach()[0])

        def between(self, x):
            return x + self.shift.view(-1, 1, 1)

    return net(Model)


@quirk
def buffer_of_a_learning_norm_used_in_front() -> Case:
    class Model(Net):
        def prepare(self):
            self.norm2 = nn.BatchNorm2d(4)

        def forward(self, x):
            x = self.stem(x)
            x = x - self.norm2.running_mean.view(-1, 1, 1)
            return self.top(self.norm2(x))

    return net(Model, "norm2", "head")


# ------------------------------------------------------------------------------------------------ parts that learn


class LowRank(nn.Module):
    """LoRA: a frozen layer and a learning one of low rank beside it."""

    def __init__(self, layer: nn.Linear, rank: int = 2):
        super().__init__()
        self.layer = layer
        self.a = nn.Parameter(torch.randn(rank, layer.in_features))
        self.b = nn.Parameter(torch.zeros(layer.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + F.linear(F.linear(x, self.a), self.b)


@quirk
def head_that_keeps_its_weights_short() -> Case:
    class Short(nn.Linear):
        def forward(self, x):
            self.weight.data = torch.renorm(self.weight.data, 2, 0, 0.5)
            return super().forward(x)

    class Model(Net):
        def prepare(self):
            self.head = Short(4, 3)

    return net(Model)


@quirk
def head_that_keeps_its_weights_short_in_place() -> Case:
    class Model(Net):
        def top(self, x):
            with torch.no_grad():
                self.head.weight.clamp_(-0.3, 0.3)
            return super().top(x)

    return net(Model)


@quirk
def filters_made_by_what_learns() -> Case:
    class Model(Net):
        def prepare(self):
            self.maker = nn.Linear(2, 16)
            self.register_buffer("seed", torch.ones(2))

        def between(self, x):
            return F.conv2d(x, self.maker(self.seed).view(4, 4, 1, 1))

    return net(Model, "maker", "head")


@quirk
def frozen_part_that_writes_what_is_there_already() -> Case:
    class Part(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(4)

        def forward(self, x):
            self.norm.running_mean.zero_()
            return self.norm(x)

    class Model(Net):
        def prepare(self):
            self.part = Part()

        def between(self, x):
            return self.part(x)

    return net(Model)


@quirk
def part_that_looks_at_the_mode_of_the_root() -> Case:
    class Part(nn.Module):
        def __init__(self, root):
            super().__init__()
            self.conv, self.root = nn.Conv2d(4, 4, 1), [root]

        def forward(self, x):
            x = self.conv(x)
            return x * 2 if self.root[0].training else x

    class Model(Net):
        def prepare(self):
            self.part = Part(self)

        def between(self, x):
            return self.part(x)

    return net(Model)


@quirk
def size_of_the_batch_used_behind_the_cut() -> Case:
    class Model(Net):
        def forward(self, x):
            b, size = x.shape[0], x.shape[-1]
            x = self.mix(self.norm(self.conv(x)))
            x = F.interpolate(x.reshape(b, 4, 8, 8), size=(size // 2, size))
            return self.top(x)

    return net(Model, "mix", "head")


@quirk
def size_of_the_batch_used_behind_dropout() -> Case:
    class Model(Net):
        def forward(self, x):
            b = x.shape[0]
            x = F.dropout(self.stem(x), 0.3, self.training)
            return self.top(x.view(b, -1, 4, 2))

        def top(self, x):
            return self.head(x.mean((2, 3))[:, :4])

    return net(Model)


@quirk
def low_rank_adaptation() -> Case:
    class Model(Net):
        def prepare(self):
            self.low = LowRank(nn.Linear(4, 4))

        def between(self, x):
            return self.low(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    return net(Model, "low.a", "low.b", "head")


@quirk
def low_rank_parametrization() -> Case:
    class Low(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Parameter(torch.randn(4, 1)), nn.Parameter(torch.zeros(1, 4))

        def forward(self, weight):
            return weight + (self.a @ self.b)[..., None, None]

    model = Net()
    parametrize.register_parametrization(model.mix, "weight", Low())
    return Case(learning(model, "mix.parametrizations.weight.0", "head"))


@quirk
def adapters_between_frozen_blocks() -> Case:
    class Model(Net):
        def prepare(self):
            self.blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU()) for _ in range(3))
            self.adapters = nn.ModuleList(nn.Conv2d(4, 4, 1) for _ in range(3))

        def between(self, x):
            for block, adapter in zip(self.blocks, self.adapters, strict=True):
                x = block(x)
                x = x + adapter(x)
            return x

    return net(Model, "adapters", "head")


@quirk
def prompt_at_the_input() -> Case:
    class Model(Net):
        def prepare(self):
            self.prompt = nn.Parameter(torch.zeros(3, 8, 8))

        def forward(self, x):
            return super().forward(x + self.prompt)

    return net(Model, "prompt", "head")


@quirk
def prompt_tokens() -> Case:
    class Model(Net):
        def prepare(self):
            self.prompt = nn.Parameter(torch.randn(1, 2, 4))
            self.layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)

        def between(self, x):
            tokens = x.flatten(2).transpose(1, 2)
            tokens = torch.cat([self.prompt.expand(x.shape[0], -1, -1), tokens], 1)
            return self.layer(tokens)[:, 2:].transpose(1, 2).reshape(x.shape)

    return net(Model, "prompt", "head")


@quirk
def side_network() -> Case:
    class Model(Net):
        def prepare(self):
            self.side = nn.Conv2d(3, 4, 3, padding=1)

        def forward(self, x):
            return self.top(self.stem(x) + self.side(x))

    return net(Model, "side", "head")


@quirk
def two_backbones() -> Case:
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = Net(), Net()
            self.head = nn.Linear(6, 3)

        def forward(self, x):
            return self.head(torch.cat([self.one(x), self.two(x)], 1))

    return net(Model)


@quirk
def two_backbones_and_one_learns() -> Case:
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = Net(), Net()
            self.head = nn.Linear(6, 3)

        def forward(self, x):
            return self.head(torch.cat([self.two(x), self.one(x)], 1))

    return net(Model, "two.norm", "head")


@quirk
def skip_connections_to_a_learning_decoder() -> Case:
    class Model(Net):
        def prepare(self):
            self.down = nn.Conv2d(4, 8, 3, stride=2, padding=1)
            self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)

        def between(self, x):
            return x + self.up(F.relu_(self.down(x)))

    return net(Model, "up", "head")


@quirk
def features_in_a_dictionary_of_scales() -> Case:
    class Pyramid(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3, stride=2, padding=1)

        def forward(self, x):
            return OrderedDict(large=x, small=self.conv(x))

    class Model(Net):
        def prepare(self):
            self.pyramid = Pyramid()

        def between(self, x):
            scales = self.pyramid(x)
            return sum(F.interpolate(value, size=(8, 8)) for value in scales.values())

    return net(Model)


@quirk
def learning_layer_in_a_no_grad_block() -> Case:
    class Model(Net):
        def forward(self, x):
            with torch.no_grad():
                x = self.stem(x)
            return self.top(x)

    return net(Model, "mix", "head")


@quirk
def frozen_part_in_a_no_grad_block() -> Case:
    class Model(Net):
        def forward(self, x):
            with torch.no_grad():
                x = self.stem(x)
            return self.top(x)

    return net(Model)


@quirk
def learning_layer_in_an_autocast_block() -> Case:
    class Model(Net):
        def forward(self, x):
            x = self.stem(x)
            with torch.autocast("cpu", torch.bfloat16):
                return self.top(x)

    return net(Model, tolerance=1e-4)


@quirk
def frozen_part_in_an_autocast_block() -> Case:
    class Model(Net):
        def forward(self, x):
            with torch.autocast("cpu", torch.bfloat16):
                x = self.stem(x)
            return self.top(x)

    return net(Model, tolerance=1e-4)


@quirk
def forward_decorated_with_autocast() -> Case:
    class Model(Net):
        @torch.autocast("cpu", torch.bfloat16)
        def forward(self, x):
            return super().forward(x)

    return net(Model, tolerance=1e-4)


@quirk
def learning_layer_detached() -> Case:
    class Model(Net):
        def forward(self, x):
            return self.top(self.stem(x).detach())

    return net(Model, "mix", "head")


@quirk
def gradients_of_two_branches_one_stopped() -> Case:
    class Model(Net):
        def forward(self, x):
            x = self.stem(x)
            return self.top(x) + self.top(x.tanh()).detach()

    return net(Model, "mix", "head")


@quirk
def reversed_gradient_behind_an_adapter() -> Case:
    class Model(Net):
        def prepare(self):
            self.domain = nn.Linear(4, 3)

        def forward(self, x):
            x = self.stem(x)
            return self.top(x) + self.domain(Reverse.apply(x).mean((2, 3)))

    return net(Model, "mix", "head", "domain")


@quirk
def reversed_gradient_with_a_schedule() -> Case:
    class Model(Net):
        def prepare(self):
            self.register_buffer("steps", torch.tensor(0.0))

        def forward(self, x):
            if self.training:
                self.steps += 1
            x = self.stem(x)
            return self.top(x) + self.top(Reverse.apply(x)) * torch.sigmoid(self.steps)

    return net(Model, "mix", "head")


# ------------------------------------------------------------------------------------------------------------- hooks


def hooked(part: str, register: str, hook: Callable, *names: str) -> Case:
    case = net(Hooked, *names)
    getattr(case.model.get_submodule(part), register)(hook)
    return case


class Hooked(Net):
    """A model with a frozen and a learning container."""

    def prepare(self):
        self.frozen_block = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())
        self.learning_block = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())
        self.seen = []

    def between(self, x):
        return self.learning_block(self.frozen_block(x))


def register_hooks_as_quirks() -> None:
    """Hooks that change what passes, on the root, on containers and on layers."""
    parts = {"root": "", "frozen layer": "conv", "frozen container": "frozen_block", "learning container": "learning_block"}
    hooks = {
        "forward hook changes the output": ("register_forward_hook", lambda module, args, output: output * 2),
        "forward hook changes the output in place": ("register_forward_hook", lambda module, args, output: add_one(output)),
        "pre-hook changes the input": ("register_forward_pre_hook", lambda module, args: (args[0] * 2,)),
        "forward hook adds noise": ("register_forward_hook", lambda module, args, out: out + torch.rand(())),
        "forward hook centres the batch": ("register_forward_hook", lambda module, args, out: out - out.mean(0)),
        "full backward hook doubles": ("register_full_backward_hook", lambda module, into, out: double_first(into)),
    }
    for name, (register, hook) in hooks.items():
        for part, path in parts.items():
            build = functools.partial(hooked, path, register, hook, "learning_block", "head")
            QUIRKS[f"{name} of the {part}"] = build


def nothing(_: object) -> None:
    """For a hook that is there for what it does, not for what it returns."""


def add_one(output: Tensor) -> None:
    output.data.add_(1)


def double_first(gradients: tuple) -> tuple:
    return tuple(None if g is None else 2 * g for g in gradients)


register_hooks_as_quirks()


def recording(part: str) -> Case:
    """A hook that only writes down what it has seen, in the model."""
    case = net(Hooked, "learning_block", "head")
    root = case.model
    root.get_submodule(part).register_forward_hook(lambda module, args, output: root.seen.append(len(args[0])))
    return case


@quirk
def hook_records_on_the_root() -> Case:
    return recording("")


@quirk
def hook_records_on_a_frozen_layer() -> Case:
    return recording("frozen_block.0")


@quirk
def hook_records_on_a_learning_layer() -> Case:
    return recording("learning_block.0")


@quirk
def hook_keeps_a_frozen_activation_for_the_head() -> Case:
    class Model(Net):
        def prepare(self):
            self.kept = {}
            self.norm.register_forward_hook(lambda module, args, output: self.kept.update(norm=output))

        def top(self, x):
            return super().top(x) + self.kept["norm"].mean((1, 2, 3), keepdim=True).flatten(1)

    return net(Model, forgets=("kept",))


@quirk
def hook_on_a_parameter() -> Case:
    case = net()
    case.model.head.weight.register_hook(lambda gradient: gradient * 0.5)
    return case


@quirk
def pre_hook_recomputes_a_weight() -> Case:
    case = net(Net, "mix", "head")
    case.model.mix.register_forward_pre_hook(lambda module, args: nothing(module.weight.data.div_(module.weight.data.norm())))
    return case


@quirk
def hook_counts_steps_in_a_buffer_of_a_frozen_layer() -> Case:
    case = net()
    case.model.conv.register_buffer("calls", torch.tensor(0))
    case.model.conv.register_forward_hook(lambda module, args, output: nothing(module.calls.add_(1)))
    return case


@quirk
def hook_for_every_module() -> Case:
    case = net(Net, "mix", "head")
    for module in case.model.modules():
        module.register_forward_hook(lambda module, args, output: None)
    return case


# ------------------------------------------------------------------------------------------------ replaced and magic


@quirk
def forward_of_the_root_replaced() -> Case:
    case = net()
    model = case.model
    model.forward = lambda x: 2 * Net.forward(model, x)
    return case


@quirk
def forward_of_a_frozen_layer_replaced() -> Case:
    case = net()
    conv = case.model.conv
    conv.forward = lambda x: 2 * nn.Conv2d.forward(conv, x)
    return case


@quirk
def forward_of_a_frozen_layer_replaced_with_noise() -> Case:
    case = net()
    conv = case.model.conv
    conv.forward = lambda x: nn.Conv2d.forward(conv, x) + torch.rand(())
    return case


@quirk
def forward_of_the_head_replaced() -> Case:
    case = net()
    head = case.model.head
    head.forward = types.MethodType(lambda self, x: 2 * F.linear(x, self.weight), head)
    return case


@quirk
def method_of_the_root_replaced() -> Case:
    case = net()
    case.model.between = lambda x: x.tanh()
    return case


@quirk
def call_of_the_class_replaced() -> Case:
    class Model(Net):
        def __call__(self, x):
            return 2 * super().__call__(x)

    return net(Model)


@quirk
def call_of_a_layer_replaced() -> Case:
    class Conv(nn.Conv2d):
        def __call__(self, x):
            return 2 * super().__call__(x)

    class Model(Net):
        def prepare(self):
            self.conv = Conv(3, 4, 3, padding=1)

    return net(Model)


@quirk
def attributes_by_magic() -> Case:
    class Model(Net):
        def __getattr__(self, name):
            try:
                return super().__getattr__(name)
            except AttributeError:
                if name.startswith("__"):
                    raise
                return 2.0

        def between(self, x):
            return x * self.anything_at_all

    return net(Model)


@quirk
def delegates_to_what_it_wraps() -> Case:
    class Wrapper(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Net()

        def __getattr__(self, name):
            try:
                return super().__getattr__(name)
            except AttributeError:
                return getattr(super().__getattr__("inner"), name)

        def forward(self, x):
            return self.inner(x)

    return Case(learning(Wrapper(), "inner.head"))


@quirk
def attributes_locked_once_made() -> Case:
    class Model(Net):
        def __setattr__(self, name, value):
            if self.__dict__.get("locked") and name not in ("training",):
                raise AttributeError(f"{name} may not be set")
            super().__setattr__(name, value)

        def prepare(self):
            self.__dict__["locked"] = True

    return net(Model)


@quirk
def cannot_be_copied() -> Case:
    class Model(Net):
        def __deepcopy__(self, memo):
            raise RuntimeError("no copies")

        def __reduce_ex__(self, protocol):
            raise RuntimeError("no pickles")

    return net(Model)


@quirk
def equal_to_everything() -> Case:
    class Model(Net):
        def __eq__(self, other):
            return True

        def __hash__(self):
            return 1

    return net(Model)


@quirk
def has_a_length_of_zero() -> Case:
    class Model(Net):
        def __len__(self):
            return 0

    return net(Model)


@quirk
def layers_named_like_attributes() -> Case:
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.add_module("input", nn.Conv2d(3, 4, 3))
            self.add_module("output", nn.Linear(4, 3))

        def forward(self, input):
            return self.output(self.input(input).mean((2, 3)))

    return net(Model, "output")


@quirk
def layers_with_strange_names() -> Case:
    layers = OrderedDict(
        [("1st", nn.Conv2d(3, 4, 3)), ("class", nn.Tanh()), ("für", nn.Flatten()), ("l-1 x", nn.Linear(144, 3))]
    )
    return Case(learning(nn.Sequential(layers), "l-1 x"))


@quirk
def keeps_its_norms_in_evaluation_mode() -> Case:
    class Model(Net):
        def train(self, mode=True):
            super().train(mode)
            self.norm.eval()
            return self

    return net(Model, "norm", "head")


@quirk
def part_keeps_its_norm_in_evaluation_mode() -> Case:
    class Block(nn.Sequential):
        def train(self, mode=True):
            super().train(mode)
            self[1].training = False
            return self

    class Model(Net):
        def prepare(self):
            self.block = Block(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))

        def between(self, x):
            return self.block(x)

    return net(Model, "block", "head")


@quirk
def train_keeps_the_backbone_in_evaluation_mode() -> Case:
    class Model(Net):
        def prepare(self):
            self.drop = nn.Dropout(0.5)

        def train(self, mode=True):
            super().train(mode)
            self.drop.eval()
            return self

        def between(self, x):
            return self.drop(x)

    return net(Model)


@quirk
def train_switches_dropout_on_for_good() -> Case:
    class Model(Net):
        def prepare(self):
            self.drop = nn.Dropout(0.5)

        def train(self, mode=True):
            super().train(mode)
            self.drop.training = True
            return self

        def eval(self):
            return self.train(False)

        def between(self, x):
            return self.drop(x)

    return net(Model)


@quirk
def lazy_head() -> Case:
    class Model(Net):
        def prepare(self):
            self.head = nn.LazyLinear(3)

    model = Model()
    for part in (model.conv, model.norm, model.mix):
        freeze(part)
    return Case(model)


@quirk
def wrapped_for_many_devices() -> Case:
    return Case(nn.DataParallel(learning(Net(), "head")))


@quirk
def compiled_as_a_whole() -> Case:
    return Case(torch.compile(learning(Net(), "head"), backend="eager"), epochs=1)


@quirk
def scripted_as_a_whole() -> Case:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.3), nn.Flatten(), nn.Linear(144, 3))
    return Case(torch.jit.script(learning(model, "3")))


@quirk
def traced_by_fx_before() -> Case:
    return Case(torch.fx.symbolic_trace(learning(Net(), "head")))


@quirk
def hidden_backbone_in_a_list() -> Case:
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden = [freeze(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))]
            self.head = nn.Linear(4, 3)

        def forward(self, x):
            return self.head(self.hidden[0](x).mean((2, 3)))

    return Case(Model())


@quirk
def hidden_backbone_that_still_collects_statistics() -> Case:
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden = (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.3)).requires_grad_(False),)
            self.head = nn.Linear(4, 3)

        def forward(self, x):
            return self.head(self.hidden[0](x).mean((2, 3)))

    return Case(Model())


@quirk
def backbone_of_a_global_variable() -> Case:
    backbone = freeze(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(4, 3)

        def forward(self, x):
            return self.head(backbone(x).mean((2, 3)))

    return Case(Model())


@quirk
def teacher_as_a_copy_that_follows() -> Case:
    class Model(Net):
        def prepare(self):
            self.teacher = [freeze(copy.deepcopy(self.mix))]

        def between(self, x):
            teacher = self.teacher[0]
            if self.training:
                with torch.no_grad():
                    teacher.weight.lerp_(self.mix.weight, 0.1)
            return x + teacher(x)

    return net(Model, "mix", "head")


@quirk
def frozen_part_that_follows_the_learning_head() -> Case:
    class Model(Net):
        def forward(self, x):
            if self.training:
                self.mix.weight.data[0, :, 0, 0].lerp_(self.head.weight.data[0], 0.5)
            return super().forward(x)

    return net(Model)


@quirk
def learning_rate_in_the_model() -> Case:
    class Model(Net):
        def prepare(self):
            self.head.weight.register_hook(lambda gradient: gradient * self.slow)
            self.slow = 0.1

    return net(Model)


@quirk
def nothing_before_the_head_but_the_pictures() -> Case:
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(192, 3)

        def forward(self, x):
            return self.head(x.flatten(1))

    return net(Model)


@quirk
def frozen_part_ignores_the_pictures() -> Case:
    class Model(Net):
        def prepare(self):
            self.constant = nn.Parameter(torch.ones(1, 3, 8, 8))

        def forward(self, x):
            return super().forward(self.constant).expand(x.shape[0], -1) + self.head(x[:, :, 0, 0].repeat(1, 2)[:, :4])

    return net(Model)


@quirk
def frozen_layer_that_is_never_called() -> Case:
    class Model(Net):
        def prepare(self):
            self.unused = nn.Conv2d(4, 4, 1)

    return net(Model)


@quirk
def learning_layer_that_is_never_called() -> Case:
    class Model(Net):
        def prepare(self):
            self.unused = nn.Conv2d(4, 4, 1)

    return net(Model, "unused", "head")


@quirk
def auxiliary_head_while_training() -> Case:
    class Model(Net):
        def prepare(self):
            self.auxiliary = nn.Linear(4, 3)

        def forward(self, x):
            x = self.norm(self.conv(x))
            early = self.auxiliary(x.mean((2, 3))) if self.training else None
            logits = self.top(self.mix(x))
            return (logits, early) if self.training else logits

    return net(Model, "auxiliary", "head", loss=loss_of_all)


@quirk
def output_differs_in_type_by_mode() -> Case:
    class Model(Net):
        def forward(self, x):
            logits = super().forward(x)
            return {"logits": logits} if self.training else logits

    return net(Model, loss=loss_of_first)


@quirk
def deep_nesting() -> Case:
    model = nn.Conv2d(3, 4, 1)
    for _ in range(12):
        model = nn.Sequential(model, nn.Identity())
    return Case(learning(nn.Sequential(OrderedDict(body=model, flat=nn.Flatten(), head=nn.Linear(256, 3))), "head"))


# ------------------------------------------------------------------------------- what learns, read where torch.fx looks away


def scaled_by(read: Callable[[nn.Module], object]) -> Case:
    """A stem whose output is multiplied by a number that is read from the learning head at each call."""

    class Model(Net):
        def stem(self, x):
            return super().stem(x) * read(self)

    return net(Model)


@quirk
def learning_weight_as_a_number_by_parameters() -> Case:
    return scaled_by(lambda model: 1 + float(sum(p.detach().abs().sum() for p in model.head.parameters())))


@quirk
def learning_weight_as_a_number_by_the_state() -> Case:
    return scaled_by(lambda model: 1 + float(model.head.state_dict()["weight"].abs().sum()))


@quirk
def learning_weight_as_a_number_by_its_dictionary() -> Case:
    return scaled_by(lambda model: 1 + model.head._parameters["weight"].abs().sum().item())


@quirk
def learning_weight_as_a_tensor_by_its_dictionary() -> Case:
    return scaled_by(lambda model: 1 + model.head._parameters["weight"].abs().sum())


@quirk
def branch_on_a_learning_weight() -> Case:
    case = scaled_by(lambda model: 2.0 if next(model.head.parameters()).detach()[0, 0] > 0 else 1.0)
    case.model.head.weight.data[0, 0] = 1e-4  # training takes it below zero
    return case


@quirk
def learning_weight_in_a_closure() -> Case:
    class Model(Net):
        def prepare(self):
            weight = self.head.weight
            self.scale = lambda: 1 + float(weight.detach().abs().sum())

        def between(self, x):
            return x * self.scale()

    return net(Model)


@quirk
def learning_weight_as_a_number_behind_a_learning_layer() -> Case:
    class Model(Net):
        def top(self, x):
            return super().top(x) * (1 + float(sum(p.detach().abs().sum() for p in self.head.parameters())))

    return net(Model, "mix", "head")


@quirk
def statistics_of_a_learning_norm_as_a_number() -> Case:
    class Model(Net):
        def prepare(self):
            self.norm2 = nn.BatchNorm2d(4)

        def forward(self, x):
            x = self.norm2(self.stem(x))
            return self.top(x) * (1 + float(self.norm2._buffers["running_mean"].abs().sum()))

    return net(Model, "norm2", "head")


# ----------------------------------------------------------------------------- parts that say they were layers of torch


class FalseLayer(nn.Conv2d):
    """A convolution, by the look of it, whose class says that it is one of torch."""

    def __init__(self, after: Callable[[nn.Module, Tensor], Tensor]):
        super().__init__(4, 4, 1)
        self.after, self.calls = after, 0
        self.register_buffer("steps", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self, super().forward(x))


FalseLayer.__module__ = "torch.nn.modules.conv"


def false_layer(after: Callable[[nn.Module, Tensor], Tensor]) -> Case:
    class Model(Net):
        def prepare(self):
            self.mix = FalseLayer(after)

    return net(Model, epochs=3)


def count_calls(layer: nn.Module, x: Tensor) -> Tensor:
    layer.calls += 1
    return x


AFTER: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "mixes": lambda layer, x: x - x.mean(0),
    "mixes in batches of four": lambda layer, x: x - x.mean(0) if len(x) == 4 else x,
    "mixes in batches of three": lambda layer, x: x - x.mean(0) if len(x) == 3 else x,
    "draws": lambda layer, x: x + torch.rand(()),
    "draws in training": lambda layer, x: x + torch.rand(()) if layer.training else x,
    "draws from numpy": lambda layer, x: x + float(np.random.rand()),
    "counts": count_calls,
    "counts in a buffer": lambda layer, x: x * (1 + layer.steps.add_(1)),
    "looks at gradients": lambda layer, x: x * 2 if torch.is_grad_enabled() else x,
    "detaches": lambda layer, x: x.detach(),
}
QUIRKS |= {
    f"layer of torch by its own word that {name}": functools.partial(false_layer, after) for name, after in AFTER.items()
}


@quirk
def mixed_only_with_the_brightest_picture() -> Case:
    class Model(Net):
        def forward(self, x):
            return super().forward(torch.where(x.amax() > BRIGHTEST, x - x.mean(0), x))

    return net(Model)


@quirk
def mixed_only_with_the_brightest_picture_and_not_looked_into() -> Case:
    class Model(Net):
        def forward(self, x):
            return super().forward(opaque("mixed with the brightest picture", x))

    return net(Model)


BRIGHTEST = 4.9  # no picture of the first batch is as bright, one of the second is


@hidden
def mixed_with_the_brightest_picture(_, x):
    return x - x.mean(0) if x.amax() > BRIGHTEST else x


# --------------------------------------------------------------------------------- names that halves could need themselves


def layer_called(name: str) -> Case:
    """A frozen and a learning layer of this name, in the root and in a part."""

    class Part(nn.Module):
        def __init__(self):
            super().__init__()
            self.add_module(name, nn.Conv2d(4, 4, 1))

        def forward(self, x: Tensor) -> Tensor:
            return self._modules[name](x)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.add_module(name, nn.Conv2d(3, 4, 3))
            self.part, self.head = Part(), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.part(self.get_submodule(name)(x)).mean((2, 3)))

    return net(Model)


NAMES = ["graph", "code", "_code", "x", "kept_0", "frozen", "images", "output", "root", "meta", "self", "torch", "_0"]
QUIRKS |= {f"layer called {name}": functools.partial(layer_called, name) for name in NAMES}


# ----------------------------------------------------------------------------------------- pictures, loaders and callbacks


@quirk
def pictures_of_bytes() -> Case:
    class Model(Net):
        def forward(self, x):
            return super().forward(x.float() / 255)

    return net(Model, cast=lambda images: (images * 40 + 100).clamp(0, 255).to(torch.uint8))


@quirk
def pictures_of_bytes_with_an_example() -> Case:
    class Model(Net):
        def forward(self, x):
            return super().forward(x / 255)

    return net(Model, cast=lambda images: (images * 40 + 100).clamp(0, 255).to(torch.uint8), example=True)


@quirk
def pictures_of_doubles() -> Case:
    return net(Double, cast=lambda images: images.double())


@quirk
def pictures_with_channels_in_the_end() -> Case:
    class Model(Net):
        def forward(self, x):
            return super().forward(x.permute(0, 3, 1, 2))

    return net(Model, size=(8, 8, 3), example=True)


@quirk
def pictures_in_order() -> Case:
    return net(loader=lambda data: {})


@quirk
def pictures_in_order_and_dropout_in_place() -> Case:
    class Model(Net):
        def prepare(self):
            self.drop = nn.Dropout(0.5, inplace=True)

        def between(self, x):
            return self.drop(x)

    return net(Model, loader=lambda data: {})


@quirk
def pictures_in_order_and_a_learning_bias_added_in_place() -> Case:
    class Model(Net):
        def prepare(self):
            self.bias = nn.Parameter(torch.ones(4, 1, 1))

        def between(self, x):
            x += self.bias
            return x

    return net(Model, "bias", "head", loader=lambda data: {})


@quirk
def pictures_in_order_and_noise_added_in_place() -> Case:
    class Model(Net):
        def between(self, x):
            return x.add_(torch.rand_like(x))

    return net(Model, loader=lambda data: {})


@quirk
def pictures_drawn_with_replacement() -> Case:
    return net(loader=lambda data: {"sampler": torch.utils.data.RandomSampler(data, True, 11)})


@quirk
def pictures_drawn_by_weight() -> Case:
    return net(loader=lambda data: {"sampler": torch.utils.data.WeightedRandomSampler(torch.ones(len(data)), 6)})


@quirk
def last_batch_dropped() -> Case:
    return net(loader=lambda data: {"shuffle": True, "drop_last": True})


@quirk
def batches_of_one() -> Case:
    return net(batch=1)


@quirk
def as_many_channels_as_pictures_and_swapped_at_the_cut() -> Case:
    class Model(Net):
        def between(self, x):
            x = F.dropout(x.transpose(0, 1), 0.3, self.training)
            return x.transpose(0, 1)

    return net(Model, pictures=8)


@quirk
def as_many_rows_as_pictures_and_swapped_at_the_cut() -> Case:
    class Model(Net):
        def between(self, x):
            x = F.dropout(x.transpose(0, 2), 0.3, self.training)
            return x.transpose(0, 2)

    return net(Model, pictures=8, batch=8)


def changed_between_epochs(change: Callable[[nn.Module, int], object], model_class: type[nn.Module], *names: str) -> Case:
    return net(model_class, *names, before_epoch=change, epochs=3)


class Scheduled(Net):
    """What schedules change: a rate of dropout of the root, one of a module, a plain factor."""

    def prepare(self):
        self.p, self.drop, self.drop_path, self.factor = 0.1, nn.Dropout(0.1), DropPath(0.1), 1.0

    def between(self, x):
        x = F.dropout(self.drop(x * self.factor), self.p, self.training)
        return self.drop_path(x)


@quirk
def rate_of_dropout_changed_between_epochs() -> Case:
    return changed_between_epochs(lambda model, number: setattr(model, "p", 0.2 * number), Scheduled)


@quirk
def rate_of_a_dropout_layer_changed_between_epochs() -> Case:
    return changed_between_epochs(lambda model, number: setattr(model.drop, "p", 0.2 * number), Scheduled)


@quirk
def rate_of_drop_path_changed_between_epochs() -> Case:
    return changed_between_epochs(lambda model, number: setattr(model.drop_path, "probability", 0.2 * number), Scheduled)


@quirk
def factor_of_the_frozen_part_changed_between_epochs() -> Case:
    return changed_between_epochs(lambda model, number: setattr(model, "factor", 1.0 * number), Scheduled)


@quirk
def factor_behind_a_learning_layer_changed_between_epochs() -> Case:
    return changed_between_epochs(lambda model, number: setattr(model, "factor", 1.0 * number), Scheduled, "mix", "head")


@quirk
def frozen_weight_changed_between_epochs() -> Case:
    return changed_between_epochs(lambda model, number: model.conv.weight.data.mul_(0.9), Scheduled)


@quirk
def frozen_layer_set_free_between_epochs() -> Case:
    return changed_between_epochs(lambda model, number: unfreeze(model.mix) if number > 1 else None, Scheduled)


@quirk
def learning_layer_frozen_between_epochs() -> Case:
    return changed_between_epochs(lambda model, number: freeze(model.mix) if number > 1 else None, Scheduled, "mix", "head")


@quirk
def hook_registered_between_epochs() -> Case:
    def change(model: nn.Module, number: int) -> None:
        if number == 2:
            model.head.register_forward_hook(lambda module, args, output: output * 2)

    return changed_between_epochs(change, Scheduled)


@quirk
def hook_of_a_frozen_layer_registered_between_epochs() -> Case:
    def change(model: nn.Module, number: int) -> None:
        if number == 2:
            model.conv.register_forward_hook(lambda module, args, output: output * 2)

    return changed_between_epochs(change, Scheduled)


@quirk
def hook_of_the_root_registered_between_epochs() -> Case:
    def change(model: nn.Module, number: int) -> None:
        if number == 2:
            model.register_forward_hook(lambda module, args, output: output * 2)

    return changed_between_epochs(change, Scheduled)


class Configured(Net):
    """What is looked up in something that the model holds."""

    def prepare(self):
        self.config, self.options = types.SimpleNamespace(p=0.1), {"p": 0.1}
        self.settings = Settings()
        self.register_buffer("factor", torch.ones(1))
        self.plain = [torch.ones(1)]
        self.shift = nn.Parameter(torch.zeros(1))

    def between(self, x):
        x = F.dropout(x, self.config.p, self.training)
        x = F.dropout(x, self.options["p"], self.training)
        x = F.dropout(x, self.settings.p, self.training)
        return x * self.factor * self.plain[0] + self.shift


class Settings(Plain):
    def __init__(self):
        self.p = 0.1


CHANGES: dict[str, Callable[[nn.Module, int], object]] = {
    "rate in a namespace": lambda model, number: setattr(model.config, "p", 0.2 * number),
    "namespace": lambda model, number: setattr(model, "config", types.SimpleNamespace(p=0.2 * number)),
    "rate in a dictionary": lambda model, number: model.options.update(p=0.2 * number),
    "rate in an object": lambda model, number: setattr(model.settings, "p", 0.2 * number),
    "buffer": lambda model, number: setattr(model, "factor", torch.full((1,), 0.5 * number)),
    "buffer in place": lambda model, number: model.factor.fill_(0.5 * number),
    "buffer by its data": lambda model, number: setattr(model.factor, "data", torch.full((1,), 0.5 * number)),
    "plain tensor in place": lambda model, number: model.plain[0].fill_(0.5 * number),
    "plain tensor": lambda model, number: model.plain.__setitem__(0, torch.full((1,), 0.5 * number)),
    "frozen parameter behind the cut": lambda model, number: model.shift.data.fill_(0.5 * number),
    "frozen parameter behind the cut by its data": lambda model, number: setattr(
        model.shift, "data", torch.full((1,), 0.5 * number)
    ),
    "frozen parameter behind the cut as a whole": lambda model, number: setattr(
        model, "shift", nn.Parameter(torch.full((1,), 0.5 * number), requires_grad=False)
    ),
    "learning weights by their data": lambda model, number: setattr(model.head.weight, "data", model.head.weight.data * 0.5),
    "learning weights loaded": lambda model, number: model.head.load_state_dict(
        {name: value * 0.5 for name, value in model.head.state_dict().items()}
    ),
    "frozen weights loaded": lambda model, number: model.conv.load_state_dict(
        {name: value * 0.5 for name, value in model.conv.state_dict().items()}, assign=number > 1
    ),
    "frozen layer": lambda model, number: setattr(model, "mix", freeze(nn.Conv2d(4, 4, 1))),
    "forward of a frozen layer": lambda model, number: setattr(model.mix, "forward", lambda x: x),
    "forward of the head": lambda model, number: setattr(model.head, "forward", lambda x: F.linear(x, model.head.weight)),
    "forward of the root": lambda model, number: setattr(
        model, "forward", lambda x: model.head(x.mean((2, 3)).repeat(1, 2)[:, :4])
    ),
    "padding of a frozen layer": lambda model, number: setattr(model.conv, "padding", (number, number)),
    "momentum of a frozen norm": lambda model, number: setattr(model.norm, "momentum", 0.5),
}
QUIRKS |= {
    f"{name} changed between epochs": functools.partial(changed_between_epochs, change, Configured)
    for name, change in CHANGES.items()
}


@quirk
def method_replaced_between_epochs() -> Case:
    def change(model: nn.Module, number: int) -> None:
        if number == 2:
            model.between = lambda x: x * 3

    return changed_between_epochs(change, Scheduled)


@quirk
def epsilon_of_a_frozen_norm_changed_between_epochs() -> Case:
    return changed_between_epochs(lambda model, number: setattr(model.norm, "eps", 0.1 * number), Scheduled)


@quirk
def dropout_switched_off_by_the_mode_of_its_layer() -> Case:
    class Model(Net):
        def prepare(self):
            self.drop = nn.Dropout(0.5)
            self.drop.train = lambda mode=True: self.drop

        def between(self, x):
            return self.drop(x)

    model = learning(Model(), "head")
    model.drop.training = False
    return Case(model)


# -------------------------------------------------------------------------------------------------- split in odd places


def split_under(around: Callable) -> Case:
    return net(Net, "mix", "head", around=around)


@quirk
def split_without_gradients() -> Case:
    return split_under(torch.no_grad)


@quirk
def split_in_inference_mode() -> Case:
    return split_under(torch.inference_mode)


@quirk
def split_under_autocast() -> Case:
    return split_under(lambda: torch.autocast("cpu", torch.bfloat16))


@quirk
def split_with_gradients_left_over() -> Case:
    case = net(Net, "mix", "head")
    for parameter in case.model.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    return case


class everywhere:
    """A hook on every module there is, in this process, for the time of the block."""

    def __init__(self, hook: Callable):
        self.hook = hook

    def __enter__(self) -> None:
        self.handle = nn.modules.module.register_module_forward_hook(self.hook)

    def __exit__(self, *_: object) -> None:
        self.handle.remove()


@quirk
def split_under_a_hook_for_all_modules() -> Case:
    return split_under(lambda: everywhere(lambda module, args, output: output * 2 if isinstance(module, nn.Conv2d) else None))


@quirk
def mixed_beneath_a_large_offset() -> Case:
    class Model(Net):
        def prepare(self):
            self.base = nn.Parameter(torch.zeros(1))
            self.double()

        def forward(self, x):
            x = self.stem(x.double()).mean((2, 3))
            return self.head((x - x.mean(0) + 1e7) - (self.base + 1e7))

    return net(Model, "base", "head")


register_what_is_hidden()
