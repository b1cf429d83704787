"""Sweeps: many runs by one rule, and how sure one may be of a difference between them."""

from __future__ import annotations

import copy
import json
import math
import random
import signal

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, Sampler, TensorDataset
from torchvision.transforms import v2

from course_utils import freeze, precompute, split_frozen, sweep, sweeps
from course_utils.experiments import freezing
from course_utils.images import InMemory
from course_utils.rng import rng_state, same_rng_state
from course_utils.train import evaluate, train_one_epoch

# ---------------------------------------------------------------------------------------------------------- the sweep

COUNT = 20


class Noting(nn.Module):
    """One linear layer that notes which pictures it was shown in training; the first value of a picture is its number."""

    def __init__(self):
        super().__init__()
        self.fc, self.shown = nn.Linear(2, 3), []

    def forward(self, images):
        if self.training:
            self.shown.append(images[:, 0].tolist())
        return self.fc(images / COUNT)


def numbered() -> TensorDataset:
    images = torch.stack([torch.arange(COUNT), torch.arange(COUNT) % 3], 1).float()
    return TensorDataset(images, torch.arange(COUNT) % 3)


LOADERS = {
    "torch's own dice": lambda: DataLoader(numbered(), 6, shuffle=True),
    "dice of its own": lambda: DataLoader(numbered(), 6, shuffle=True, generator=torch.Generator()),
    "draws": lambda: DataLoader(numbered(), batch_sampler=freezing.FixedUpdatesSampler(COUNT), generator=torch.Generator()),
}


def run_noting(train: DataLoader, epochs: int = 2) -> tuple[list[sweeps.Row], list[list]]:
    """A sweep of two rates and two seeds: its records, and what each run was shown."""
    models: list[Noting] = []

    def start(seed):
        torch.manual_seed(seed)
        models.append(Noting())
        return models[-1]

    rows = sweep(start, train, DataLoader(numbered(), 8), rates=[0.01, 0.1], seeds=[3, 4], epochs=epochs)
    return rows, [model.shown for model in models]


@pytest.mark.parametrize("kind", LOADERS)
def test_runs_of_one_seed_see_the_same_batches(kind):
    _, (slow_3, slow_4, fast_3, fast_4) = run_noting(LOADERS[kind]())
    assert slow_3 == fast_3
    assert slow_4 == fast_4
    assert slow_3 != slow_4
    half = len(slow_3) // 2
    assert slow_3[:half] != slow_3[half:], "each epoch is shuffled anew"


@pytest.mark.parametrize("kind", LOADERS)
def test_a_sweep_depends_on_nothing_that_was_drawn_before(kind):
    train = LOADERS[kind]()
    first = run_noting(train)
    torch.rand(5)
    next(iter(train))
    assert run_noting(train) == first


def test_a_seed_gives_what_a_training_by_hand_gives():
    rows, _ = run_noting(LOADERS["torch's own dice"](), epochs=3)
    torch.manual_seed(4)
    model = Noting()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    torch.manual_seed(4)
    train = LOADERS["torch's own dice"]()
    for _ in range(3):
        train_one_epoch(model, train, optimizer)
    score = evaluate(model, DataLoader(numbered(), 8))
    assert rows[-1] == {"lr": 0.1, "seed": 4, "loss": score.loss, "val": score.accuracy}


def test_records_are_plain():
    rows, _ = run_noting(LOADERS["draws"]())
    assert [(row["lr"], row["seed"]) for row in rows] == [(0.01, 3), (0.01, 4), (0.1, 3), (0.1, 4)]
    for row in rows:
        assert {key: type(value) for key, value in row.items()} == {"lr": float, "seed": int, "loss": float, "val": float}
        assert 0 <= row["val"] <= 1
    assert json.loads(json.dumps(rows)) == rows


class Counting(list):
    """Batches that count how often they were all asked for."""

    passes = 0

    def __iter__(self):
        self.passes += 1
        return super().__iter__()


def test_each_run_is_evaluated_once():
    val = Counting(DataLoader(numbered(), 8))
    sweep(lambda seed: Noting(), LOADERS["draws"](), val, rates=[0.01, 0.1], seeds=[0, 1, 2], epochs=2)
    assert val.passes == 6


@pytest.mark.parametrize(("rates", "seeds"), [([], [0]), ([0.1], [])])
def test_no_run_no_record(rates, seeds):
    assert sweep(lambda seed: Noting(), LOADERS["draws"](), [], rates=rates, seeds=seeds, epochs=1) == []


def test_a_run_that_diverges_has_an_infinite_loss_and_stops_no_other():
    data = LOADERS["torch's own dice"]()
    rows = sweep(lambda seed: Noting(), data, list(data), rates=[1e38, 0.01], seeds=[0, 1], epochs=30)
    assert [math.isinf(row["loss"]) for row in rows] == [True, True, False, False]
    assert all(row["loss"] > 0 and 0 <= row["val"] <= 1 for row in rows)


class LateNan(Noting):
    """Its loss is finite in training and not a number afterwards, as after a last step that was too large."""

    def forward(self, images):
        return super().forward(images) + (0 if self.training else float("nan"))


class NeverFinite(Noting):
    """It diverges in training, though its evaluation looks harmless."""

    def forward(self, images):
        return super().forward(images) + (float("nan") if self.training else 0)


def test_a_run_that_diverged_does_not_look_as_if_it_had_not():
    data = LOADERS["draws"]()
    (row,) = sweep(lambda seed: NeverFinite(), data, list(data), rates=[0.1], seeds=[0], epochs=1)
    assert row["loss"] == math.inf


def test_no_loss_is_a_nan():
    """A nan would be neither smaller nor larger than another loss, and a `min` over losses would depend on the order."""
    (row,) = sweep(lambda seed: LateNan(), LOADERS["draws"](), list(LOADERS["draws"]()), rates=[0.1], seeds=[0], epochs=1)
    assert row["loss"] == math.inf


def test_the_optimizer_gets_what_learns_and_the_rate():
    got = []

    def optimizer(parameters, lr):
        parameters = list(parameters)
        got.append((len(parameters), lr))
        return torch.optim.Adam(parameters, lr=lr)

    data = LOADERS["draws"]()
    start = lambda seed: nn.Sequential(freeze(nn.Linear(2, 3)), nn.Linear(3, 3))  # noqa: E731
    sweep(start, data, list(data), rates=[0.01, 0.02], seeds=[0], epochs=1, optimizer=optimizer)
    assert got == [(2, 0.01), (2, 0.02)]


@pytest.mark.parametrize(("name", "given"), [("start", nn.Linear(2, 3)), ("start", None), ("optimizer", None)])
def test_what_belongs_to_one_run_is_no_function_that_makes_it(name, given):
    wanted = {"start": lambda seed: Noting(), "rates": [0.1], "seeds": [0], "epochs": 1} | {name: given}
    with pytest.raises(TypeError, match=rf"{name} is a function that is called for each run, such as lambda .*, not "):
        sweep(train=LOADERS["draws"](), val=[], **wanted)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"rates": [0.1, 0.0]}, ValueError, "a learning rate is a positive number, not 0.0"),
        ({"epochs": 0}, ValueError, "epochs=0; give a whole number of 1 or more"),
        ({"seeds": [0, 0.5]}, ValueError, "a seed is a whole number, not 0.5"),
        ({"start": lambda seed: freeze(Noting())}, ValueError, "nothing learns"),
        ({"start": lambda seed: (Noting(), Noting())}, TypeError, "start returns the network for a seed, .*, not tuple"),
        (
            {"optimizer": lambda parameters, lr: torch.optim.SGD(list(parameters)[:1], lr=lr)},
            ValueError,
            "the optimizer does not hold all that learns: 'fc'",
        ),
        ({"optimizer": lambda parameters, lr: torch.optim.LBFGS(parameters, lr)}, TypeError, "LBFGS asks for the loss several"),
    ],
)
def test_what_a_sweep_cannot_do(changes, error, words):
    """The words come before the first run."""
    begun = []

    def start(seed):
        begun.append(seed)
        return Noting()

    train = Counting(LOADERS["draws"]())
    wanted = {"start": start, "rates": [0.1], "seeds": [0], "epochs": 1} | changes
    with pytest.raises(error, match=words):
        sweep(train=train, val=[], **wanted)
    assert train.passes == 0
    assert len(begun) == ("optimizer" in changes)


# ---------------------------------------------------------------------------------------- everything that may be drawn


class Drawing(Dataset):
    """Numbered pictures to which a transform has added what `draw` gives."""

    def __init__(self, draw):
        self.draw, self.inside = draw, numbered()

    def __len__(self):
        return len(self.inside)

    def __getitem__(self, i):
        image, label = self.inside[i]
        return image + float(self.draw()), label


class OwnOrder(Sampler[int]):
    """Draws the order from a generator that is its own, not the loader's."""

    def __init__(self):
        self.generator = torch.Generator()

    def __len__(self):
        return COUNT

    def __iter__(self):
        return iter(torch.randperm(COUNT, generator=self.generator).tolist())


class OwnBatches(Sampler[list[int]]):
    """The same, a batch at a time."""

    def __init__(self):
        self.generator = torch.Generator()

    def __len__(self):
        return COUNT // 5

    def __iter__(self):
        return iter([batch.tolist() for batch in torch.randperm(COUNT, generator=self.generator).split(5)])


SOURCES = {
    "python": lambda: DataLoader(Drawing(random.random), 6),
    "numpy": lambda: DataLoader(Drawing(np.random.rand), 6),
    "torch": lambda: DataLoader(Drawing(lambda: torch.rand(())), 6),
    "the sampler": lambda: DataLoader(numbered(), 6, sampler=OwnOrder(), generator=torch.Generator()),
    "a sampler in a batch sampler": lambda: DataLoader(numbered(), batch_sampler=BatchSampler(OwnOrder(), 6, False)),
    "the batch sampler": lambda: DataLoader(numbered(), batch_sampler=OwnBatches()),
    "torch's random sampler": lambda: DataLoader(
        numbered(), 6, sampler=RandomSampler(range(COUNT), generator=torch.Generator())
    ),
}


@pytest.mark.parametrize("source", SOURCES)
def test_a_seed_decides_whatever_draws_the_numbers(source):
    train = SOURCES[source]()
    rows, (slow_3, slow_4, fast_3, fast_4) = run_noting(train)
    assert slow_3 == fast_3
    assert slow_4 == fast_4
    assert slow_3 != slow_4
    torch.rand(3), random.random(), np.random.rand()
    assert run_noting(train)[0] == rows


def test_a_network_follows_from_the_seed_though_its_maker_does_not_seed():
    weights = []

    def start(seed):
        model = Noting()
        weights.append((seed, model.fc.weight.tolist(), random.random(), np.random.rand()))
        return model

    data = LOADERS["draws"]()
    sweep(start, data, list(data), rates=[0.1, 0.2], seeds=[7, 8], epochs=1)
    assert weights[:2] == weights[2:]
    assert weights[0][1:] != weights[1][1:]


def test_a_sweep_leaves_all_random_numbers_as_they_were():
    train = DataLoader(numbered(), 6, sampler=OwnOrder(), generator=torch.Generator())
    generators = (train.generator, train.sampler.generator)
    before, own = rng_state(), [generator.get_state() for generator in generators]
    run_noting(train)
    assert same_rng_state(before, rng_state())
    assert all(map(torch.equal, own, [generator.get_state() for generator in generators]))


@pytest.mark.parametrize("dice", [random.Random(0).random, np.random.default_rng(0).random])
def test_what_no_seed_reaches_is_named_and_not_compared(dice):
    with pytest.raises(
        ValueError, match="two runs of seed 3 do not begin with the same batch, so their rates cannot be compared"
    ):
        run_noting(DataLoader(Drawing(dice), 6))


def test_a_loader_that_goes_on_where_it_was_is_named():
    class GoesOn(Sampler[int]):
        turn = 0

        def __len__(self):
            return COUNT

        def __iter__(self):
            self.turn += 1
            return iter([(i + self.turn) % COUNT for i in range(COUNT)])

    with pytest.raises(ValueError, match=r"two runs of seed 3 .* goes on where it was"):
        run_noting(DataLoader(numbered(), 6, sampler=GoesOn()))


def test_missing_numbers_in_a_picture_do_not_make_it_another():
    train = [(torch.tensor([[math.nan, 1.0]]), torch.tensor([0]))]
    rows = sweep(lambda seed: Noting(), train, train, rates=[0.1, 0.2], seeds=[0], epochs=1)
    assert [row["loss"] for row in rows] == [math.inf] * 2


# ------------------------------------------------------------------------------------------- each run begins at the start


def test_the_same_network_twice_is_refused():
    """It would go on from where the rate before has left it."""
    model, data = Noting(), LOADERS["draws"]()
    with pytest.raises(ValueError, match=r"start returns a network whose 'fc\.weight' an earlier run has trained, so this run"):
        sweep(lambda seed: model, data, list(data), rates=[0.1, 0.2], seeds=[0], epochs=1)
    assert sweep(lambda seed: copy.deepcopy(model), data, list(data), rates=[0.1, 0.2], seeds=[0, 1], epochs=1)


def test_one_network_for_each_seed_is_refused_at_the_second_rate():
    models, data = {seed: Noting() for seed in (0, 1)}, LOADERS["draws"]()
    with pytest.raises(ValueError, match="an earlier run has trained"):
        sweep(models.get, data, list(data), rates=[0.1, 0.2], seeds=[0, 1], epochs=1)
    assert sweep({seed: Noting() for seed in (0, 1)}.get, data, list(data), rates=[0.1], seeds=[0, 1], epochs=1)


def test_new_networks_may_share_what_is_frozen_and_nothing_that_learns():
    shared, data = nn.Linear(2, 3), LOADERS["draws"]()
    start = lambda seed: nn.Sequential(shared, nn.Linear(3, 3))  # noqa: E731
    with pytest.raises(ValueError, match=r"'0\.weight' an earlier run has trained"):
        sweep(start, data, list(data), rates=[0.1], seeds=[0, 1], epochs=1)
    freeze(shared)
    assert len(sweep(start, data, list(data), rates=[0.1], seeds=[0, 1], epochs=1)) == 2


def test_the_learning_half_of_one_network_is_that_network(half_frozen):
    model = half_frozen(0)
    frozen, _ = split_frozen(model)
    train = precompute(frozen, shuffled(), cache=None)
    with pytest.raises(ValueError, match="an earlier run has trained"):
        sweep(lambda seed: split_frozen(model).learning, train, list(train), rates=[0.1, 0.2], seeds=[0], epochs=1)


def test_ctrl_c_stops_a_sweep_and_gives_the_runs_that_are_done():
    begun = []

    def start(seed):
        begun.append(seed)
        if seed == 2:
            signal.raise_signal(signal.SIGINT)
        return Noting()

    data = LOADERS["draws"]()
    val, before = list(data), rng_state()
    with pytest.raises(KeyboardInterrupt, match=r"stopped by hand after 2 of 8 runs; .* holds those that are done") as caught:
        sweep(start, data, val, rates=[0.1, 0.2], seeds=[0, 1, 2, 3], epochs=1)
    assert [(row["lr"], row["seed"]) for row in caught.value.finished] == [(0.1, 0), (0.1, 1)]
    assert begun == [0, 1, 2]
    assert same_rng_state(before, rng_state())


# ---------------------------------------------------------------------------------------------------- on kept features


@pytest.fixture
def half_frozen(small_net):
    """Makes the small network of a seed, its first layers frozen and the same from every seed; dropout is at work behind."""

    def start(seed):
        torch.manual_seed(0)
        frozen = small_net()
        torch.manual_seed(seed)
        model = small_net()
        for name in ("conv1", "bn1", "layer1"):
            setattr(model, name, freeze(frozen.get_submodule(name)))
        return model

    return start


def small_pictures(transform=None) -> InMemory:
    dice = torch.Generator().manual_seed(5)
    labels = [i % 3 for i in range(COUNT)]
    return InMemory([torch.randn(3, 8, 8, generator=dice) + label for label in labels], labels, transform)


def shuffled(transform=None) -> DataLoader:
    return DataLoader(small_pictures(transform), 6, shuffle=True, generator=torch.Generator())


def test_features_give_the_records_of_whole_networks(half_frozen):
    train, val = shuffled(), DataLoader(small_pictures(), 8)
    frozen, _ = split_frozen(half_frozen(0))
    runs = {"rates": [0.01, 0.1], "seeds": [0, 1], "epochs": 3}
    whole = sweep(half_frozen, train, val, **runs)
    kept = [precompute(frozen, loader, cache=None) for loader in (train, val)]
    quick = sweep(lambda seed: split_frozen(half_frozen(seed)).learning, *kept, **runs)
    assert len({row["loss"] for row in whole}) == 4
    assert [row.pop("loss") for row in quick] == pytest.approx([row.pop("loss") for row in whole], rel=1e-5)
    assert quick == whole


def test_runs_of_one_seed_see_the_same_views(half_frozen):
    """Two epochs of three views: without beginning anew, the second run would see other views than the first."""
    frozen, _ = split_frozen(half_frozen(0))
    train = precompute(frozen, shuffled(v2.RandomHorizontalFlip()), views=3, cache=None)
    val = list(train)
    shown: list[list] = []

    def start(seed):
        model = split_frozen(half_frozen(seed)).learning
        shown.append([])
        model.register_forward_pre_hook(lambda _, args, noted=shown[-1]: noted.append(args[0].clone()))
        return model

    sweep(start, train, val, rates=[0.01, 0.1], seeds=[1], epochs=2)
    assert all(map(torch.equal, *shown))


# ------------------------------------------------------------------------------------------------------ the interval


def test_an_interval():
    low, high = sweeps.interval([0.1, 0.2, 0.3])
    assert (low, high) == pytest.approx((0.2 - 4.3027 * 0.1 / 3**0.5, 0.2 + 4.3027 * 0.1 / 3**0.5), abs=1e-5)
    assert sweeps.interval([0.5, 0.5]) == (0.5, 0.5)


# upper 2.5 % points of Student's t from a printed table: NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2
T_TABLE = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 9: 2.262, 29: 2.045, 100: 1.984}


@pytest.mark.parametrize("freedom", T_TABLE)
def test_an_interval_is_as_wide_as_the_printed_table_says(freedom):
    values = torch.randn(freedom + 1, dtype=torch.float64)
    low, high = sweeps.interval(values.tolist())
    assert (low + high) / 2 == pytest.approx(values.mean().item())
    assert (high - low) / 2 == pytest.approx(T_TABLE[freedom] * (values.std() / (freedom + 1) ** 0.5).item(), rel=3e-4)


def test_an_interval_of_very_many_values_is_two_standard_errors():
    values = torch.randn(100_000, dtype=torch.float64)
    low, high = sweeps.interval(values.tolist())
    assert (high - low) / 2 == pytest.approx(1.96 * (values.std() / 100_000**0.5).item(), rel=1e-4)


def test_how_often_an_interval_contains_the_truth():
    """95 of 100, with 3 values as with 30: that is what the factors are for."""
    generator = torch.Generator().manual_seed(1)
    for count in (2, 3, 5, 10, 30):
        samples = torch.randn(4000, count, generator=generator, dtype=torch.float64).tolist()
        hits = sum(low <= 0 <= high for low, high in map(sweeps.interval, samples))
        assert hits / 4000 == pytest.approx(0.95, abs=0.012), count


def test_two_standard_errors_are_too_few_for_three_values():
    samples = torch.randn(4000, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    errors = samples.mean(1).abs() / (samples.std(1) / 3**0.5)
    assert (errors > 1.96).double().mean().item() == pytest.approx(0.19, abs=0.02), "a winner in about every fifth pair"


@pytest.mark.parametrize("values", [[], [0.5]])
def test_no_interval(values):
    with pytest.raises(ValueError, match=rf"{len(values)} value\(s\); an interval for the mean takes 2 or more"):
        sweeps.interval(values)


@pytest.mark.parametrize("strange", [math.inf, math.nan])
def test_no_interval_around_a_run_that_diverged(strange):
    with pytest.raises(ValueError, match=r"no mean stands behind \[0\.5, (inf|nan)\]: a run that diverged has to be left out"):
        sweeps.interval([0.5, strange])
