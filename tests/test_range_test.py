"""The range test: what it shows, and that nobody notices afterwards that it has been there."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.optim import Adam
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2

from course_utils import (
    evaluate,
    fit,
    freeze,
    lr_range_test,
    param_groups,
    precompute,
    split_frozen,
    steepest_rate,
    train_one_epoch,
)
from course_utils.images import InMemory
from course_utils.range_test import blown_up, smooth
from course_utils.rng import rng_state, same_rng_state
from course_utils.sweeps import momentum


def adam(parameters, lr):
    return Adam(parameters, lr=lr)


@pytest.fixture
def loader(batches) -> DataLoader:
    """The pictures of `batches`, shuffled by a generator of its own."""
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return DataLoader(TensorDataset(images, labels), 8, shuffle=True, generator=torch.Generator().manual_seed(1))


def state_of(model: nn.Module) -> dict:
    """Everything that somebody may look at afterwards."""
    modes = {name: module.training for name, module in model.named_modules()}
    tensors = {name: tensor.clone() for name, tensor in (*model.named_parameters(), *model.named_buffers())}
    free = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    return {"modes": modes, "free": free} | tensors


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(value, other[name]) if isinstance(value, torch.Tensor) else value == other[name]
        for name, value in one.items()
    )


# ---------------------------------------------------------------------------------------------------- what it measures


def test_it_is_the_test_written_by_hand(small_net, batches):
    model = small_net()
    by_hand = copy.deepcopy(model)
    torch.manual_seed(3)
    found = lr_range_test(model, batches, low=1e-4, high=0.1, batches=16)
    torch.manual_seed(3)
    optimizer, losses = momentum(by_hand.parameters(), 1e-4), []
    for i in range(16):
        optimizer.param_groups[0]["lr"] = 1e-4 * 1000 ** (i / 15)
        losses.append(train_one_epoch(by_hand, [batches[i % 3]], optimizer).loss)
    assert found.losses == losses
    assert found.rates == pytest.approx([1e-4 * 1000 ** (i / 15) for i in range(16)])
    assert len({b / a for a, b in zip(found.rates, found.rates[1:], strict=False)}) < 16
    assert found.rates[-1] == pytest.approx(0.1)


def test_records_are_plain_and_equally_long(small_net, batches):
    found = lr_range_test(small_net(), batches, batches=12)
    assert [len(values) for values in found] == [12, 12, 12]
    assert {type(value) for values in found for value in values} == {float}
    assert found._fields == ("rates", "losses", "smoothed")


def test_twice_the_same(small_net, loader):
    model = small_net()
    assert lr_range_test(model, loader, batches=12) == lr_range_test(model, loader, batches=12)


def test_groups_keep_their_ratios(small_net, batches):
    model, seen = freeze(small_net()), []
    model.layer2.requires_grad_(True)
    model.fc.requires_grad_(True)

    class Noting(torch.optim.SGD):
        def step(self, closure=None):
            seen.append([group["lr"] for group in self.param_groups])
            return super().step(closure)

    def grouped(_, lr):
        return Noting(param_groups(model, {"layer2": lr / 10, "fc": lr}), lr=123.0)

    found = lr_range_test(model, batches, grouped, batches=12, low=1e-3, high=0.1)
    assert [row[1] for row in seen] == pytest.approx(found.rates)
    assert [row[0] * 10 for row in seen] == pytest.approx(found.rates)


def test_it_stops_where_the_loss_blows_up(batches):
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.Linear(8, 3))
    found = lr_range_test(model, batches, low=1e-4, high=1e4, batches=60)
    assert 10 <= len(found.rates) < 60
    assert all(map(math.isfinite, found.losses))
    assert found.smoothed[-1] > found.smoothed[0]


def test_a_loss_that_is_no_number_ends_it_too(small_net, batches):
    model = small_net()
    spoilt = [batches[i % 3] for i in range(20)] + [(batches[0][0] * math.nan, batches[0][1])]
    before = state_of(model)
    assert len(lr_range_test(model, spoilt, batches=40).losses) == 20
    assert same(before, state_of(model))


def test_a_blow_up_is_a_matter_of_several_batches():
    falling = [2.0, 1.5, 1.0, 0.5, 0.2, 0.1, 0.1, 0.1]
    assert not blown_up(falling)
    assert not blown_up([*falling, 3.0]), "one bad batch"
    assert not blown_up([*falling, *[0.6] * 5]), "several times the lowest, and still below the beginning"
    assert blown_up([*falling, 3.0, 3.0, 3.0, 3.0])
    assert not blown_up([1.0, 1.0])


# ------------------------------------------------------------------------------------------------- nothing is left of it


def test_the_model_is_as_it_was(small_net, loader):
    model = freeze(small_net())
    model.layer2.requires_grad_(True)
    model.fc.requires_grad_(True)
    model.eval()
    model.layer2.train()
    model.layer2[1].register_buffer("unsaved", torch.ones(2), persistent=False)
    model(next(iter(loader))[0]).sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    values = {name: grad.clone() for name, grad in gradients.items() if grad is not None}
    written = {name: tensor._version for name, tensor in (*model.conv1.named_parameters(), *model.bn1.named_buffers())}
    before = state_of(model)
    lr_range_test(model, loader, adam, batches=20, high=1.0)
    assert same(before, state_of(model))
    assert all(p.grad is gradients[name] for name, p in model.named_parameters())
    assert all(torch.equal(gradients[name], value) for name, value in values.items())
    now = {name: tensor._version for name, tensor in (*model.conv1.named_parameters(), *model.bn1.named_buffers())}
    assert written == now, "what is frozen was not even written to"


def test_a_training_afterwards_is_the_training_without_it(small_net, loader):
    """Weights, dropout, the order of the pictures: all that a seed decides."""

    def run(tested: bool) -> tuple[list, dict]:
        torch.manual_seed(2)
        loader.generator.manual_seed(2)
        model = small_net()
        if tested:
            lr_range_test(model, loader, batches=11)
        history = fit(model, loader, loader, momentum(model.parameters(), 0.05), epochs=2)
        return [(epoch.train, epoch.val) for epoch in history], state_of(model)

    (scores, weights), (again, weights_again) = run(True), run(False)
    assert scores == again
    assert same(weights, weights_again)


class Stop(Exception):
    pass


def test_it_is_put_back_after_an_error_too(small_net, batches):
    def stopping():
        yield from batches
        raise Stop

    model = small_net().eval()
    before, drawn = state_of(model), rng_state()
    with pytest.raises(Stop):
        lr_range_test(model, stopping())
    assert same(before, state_of(model))
    assert same_rng_state(drawn, rng_state())


def test_on_kept_features_it_shows_the_same_and_leaves_them_usable(small_net):
    generator = torch.Generator().manual_seed(5)
    labels = [i % 3 for i in range(20)]
    images = InMemory([torch.randn(3, 8, 8, generator=generator) + i for i in labels], labels, None)
    train = DataLoader(images, 6, shuffle=True, generator=torch.Generator())
    model = small_net()
    for name in ("conv1", "bn1", "layer1"):
        freeze(model.get_submodule(name))
    frozen, learning = split_frozen(model)
    kept = precompute(frozen, train, cache=None)
    results = []
    for part, loader in ((model, train), (learning, kept)):
        train.generator.manual_seed(3)
        torch.manual_seed(3)
        results.append(lr_range_test(part, loader, batches=14, high=0.5))
    assert results[0].losses == pytest.approx(results[1].losses, rel=1e-4)
    fit(learning, kept, kept, momentum([p for p in learning.parameters() if p.requires_grad], 0.01), epochs=1)


def test_the_next_view_of_kept_features_is_the_one_that_would_have_come(small_net):
    images = InMemory([torch.randn(3, 8, 8) for _ in range(12)], [i % 3 for i in range(12)], v2.RandomHorizontalFlip())
    model = freeze(small_net())
    model.fc.requires_grad_(True)
    frozen, learning = split_frozen(model)
    kept = precompute(frozen, DataLoader(images, 6), views=3, cache=None)
    lr_range_test(learning, kept, batches=10)
    assert kept.dataset.epoch == 0


# --------------------------------------------------------------------------------------------------------- the loaders


def test_a_loader_is_begun_again(small_net, batches):
    shown = []

    class Showing(list):
        def __iter__(self):
            for batch in super().__iter__():
                shown.append(id(batch[0]))
                yield batch

    lr_range_test(small_net(), Showing(batches), batches=10)
    assert shown[:10] == [id(batches[i % 3][0]) for i in range(10)]


def test_a_generator_with_too_few_batches(small_net, batches):
    with pytest.raises(
        ValueError, match=r"train, a generator, has no more batches and does not begin again; give a DataLoader"
    ):
        lr_range_test(small_net(), (batch for batch in batches), batches=10)
    assert len(lr_range_test(small_net(), (batches[i % 3] for i in range(10)), batches=10).rates) == 10


def test_a_loader_without_a_batch(small_net):
    with pytest.raises(ValueError, match="train, a list, has no more batches"):
        lr_range_test(small_net(), [])


# ------------------------------------------------------------------------------------------------------ what is refused


def test_a_loss_that_is_no_number_from_the_beginning(small_net, batches):
    spoilt = [(images * math.nan, labels) for images, labels in batches]
    with pytest.raises(
        FloatingPointError, match=r"the loss became nan in range test, step 1, batch 1, at learning rate \[1e-05\]"
    ):
        lr_range_test(small_net(), spoilt)


def test_a_batch_without_a_loss_is_named_by_its_step(small_net, batches):
    empty = (batches[0][0], torch.full((8,), -100))
    with pytest.raises(ValueError, match="range test, step 4, batch 1: no picture counts"):
        lr_range_test(small_net(), [*batches, empty], batches=10)


def test_a_blow_up_at_once(batches):
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.Linear(8, 3))
    before = state_of(model)
    with pytest.raises(FloatingPointError, match=r"blew up within [1-9] batches, at a rate of .*e\+\d\d; begin lower"):
        lr_range_test(model, batches, low=1e8, high=1e12)
    assert same(before, state_of(model))


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"low": 0.0}, ValueError, r"a learning rate is a positive number, not 0\.0"),
        ({"high": math.inf}, ValueError, "a learning rate is a positive number, not inf"),
        ({"low": 0.1, "high": 0.1}, ValueError, r"low=0\.1 and high=0\.1; the rate rises"),
        ({"low": 0.1, "high": 0.01}, ValueError, r"low=0\.1 and high=0\.01; the rate rises"),
        ({"batches": 9}, ValueError, "batches=9; give a whole number of 10 or more"),
        ({"batches": 20.0}, ValueError, r"batches=20\.0; give a whole number of 10 or more"),
        ({"batches": True}, ValueError, "batches=True; give a whole number"),
        ({"optimizer": lambda parameters, lr: Adam(parameters)}, ValueError, "each rate has to be the one it is told"),
        ({"optimizer": Adam([nn.Parameter(torch.ones(1))])}, TypeError, "optimizer is a function that is called for each run"),
        ({"optimizer": lambda parameters, lr: parameters}, TypeError, r"the optimizer is one of torch\.optim"),
        ({"optimizer": lambda parameters, lr: Adam(parameters[-2:], lr)}, ValueError, "does not hold all that learns: 'conv1'"),
        ({"optimizer": lambda parameters, lr: Adam([nn.Parameter(torch.ones(1))], lr)}, ValueError, "holds no parameter of"),
        ({"train": [torch.ones(2, 3, 8, 8)]}, TypeError, "a batch is a pair"),
        ({"loss_function": nn.CrossEntropyLoss}, TypeError, "loss_function is the class CrossEntropyLoss; make one"),
    ],
)
def test_bad_input(small_net, batches, changes, error, words):
    model = small_net().eval()
    before = state_of(model)
    with pytest.raises(error, match=words):
        lr_range_test(model, **{"train": batches} | changes)
    assert same(before, state_of(model))


def test_nothing_learns(small_net, batches):
    with pytest.raises(ValueError, match="nothing learns"):
        lr_range_test(freeze(small_net()), batches, lambda _, lr: Adam(nn.Linear(1, 1).parameters(), lr=lr))


# ------------------------------------------------------------------------------------------------------- what it suggests

RATES = [1e-5 * 10 ** (i / 20) for i in range(100)]  # 1e-5 to 0.9


def curve(middle: float, *, end: float = 1.0, noise: float = 0.0) -> list[float]:
    """Falls from 2 to 0.2, fastest at `middle`, and blows up above `end`."""
    dice = torch.Generator().manual_seed(0)
    shape = [0.2 + 1.8 / (1 + (rate / middle) ** 2) + (rate / end) ** 4 for rate in RATES]
    return [value + noise * float(torch.randn((), generator=dice)) for value in shape]


@pytest.mark.parametrize("middle", [1e-4, 3e-3, 0.02])
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_the_steepest_place(middle, noise):
    assert 0.6 < steepest_rate(RATES, curve(middle, noise=noise)) / middle < 1.6


def test_the_way_down_behind_a_blow_up_is_not_meant():
    """The loss falls once more, and faster, after it has gone up: only what comes before the lowest point counts."""
    losses = curve(1e-3, end=0.1)[:85]
    again = [*losses, *[losses[-1] * 0.9**i for i in range(1, 16)]]
    assert 0.6 < steepest_rate(RATES, again) / 1e-3 < 1.6


def test_smoothing_does_not_move_a_curve():
    losses = curve(1e-3)
    assert min(range(100), key=smooth(losses).__getitem__) == pytest.approx(min(range(100), key=losses.__getitem__), abs=1)
    assert smooth([3.0, 0.0, 3.0]) == [3.0, 2.0, 3.0]
    straight = [float(i) for i in range(40)]
    assert smooth(straight) == pytest.approx(straight)


@pytest.mark.parametrize(
    ("rates", "losses", "words"),
    [
        (RATES, [1.0 + i / 100 for i in range(100)], "the loss does not fall between the rates 1e-05 and"),
        (RATES, [1.0] * 100, "the loss does not fall"),
        (RATES, [*[1.0] * 99, math.nan], "a loss is not finite; leave out what comes after"),
        (RATES[:9], [1.0] * 9, "9 rates and 9 losses; give 10 rates or more"),
        (RATES, [1.0] * 99, "100 rates and 99 losses"),
    ],
)
def test_no_steepest_place(rates, losses, words):
    with pytest.raises(ValueError, match=words):
        steepest_rate(rates, losses)


def test_it_is_a_rate_that_learns(small_net, batches):
    torch.manual_seed(0)
    model = small_net(width=8)
    found = lr_range_test(model, batches, adam, low=1e-4, high=1.0, batches=60)
    fit(model, batches, batches, Adam(model.parameters(), lr=steepest_rate(found.rates, found.losses)), epochs=30)
    assert evaluate(model, batches).accuracy > 0.9
