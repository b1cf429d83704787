"""Frozen means that nothing changes: no parameter, no statistic, in whatever order the verbs are called."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from course_utils.finetune import eval_mode, freeze, param_groups, train_mode, trainable, unfreeze
from course_utils.heads import replace_head
from course_utils.prediction import predict
from course_utils.train import evaluate, fit, train_one_epoch

PARTS = ("conv1", "bn1", "layer1", "layer2", "fc")


def snapshot(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed(model: nn.Module, before: dict[str, torch.Tensor]) -> list[str]:
    """Names of the parameters and buffers that differ from `before`."""
    return [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=0.1)


# ------------------------------------------------------------------------------------------------ frozen, in any order


class Bench:
    """A model with one optimizer for all of it, and the verbs of the course, to be called in any order."""

    def __init__(self, model: nn.Module, batches: list):
        self.model, self.batches = model, batches
        self.optimizer = sgd(model)
        self.frozen: dict[str, dict[str, torch.Tensor]] = {}  # what each frozen part looked like when it was frozen

    def freeze(self, part: str) -> None:
        freeze(self.model.get_submodule(part))
        self.frozen[part] = snapshot(self.model.get_submodule(part))

    def unfreeze(self, part: str) -> None:
        unfreeze(self.model.get_submodule(part))
        self.frozen.pop(part, None)

    def replace_head(self, _: str) -> None:
        replace_head(self.model, 3, hidden=(4,))
        self.frozen.pop("fc", None)  # a new head learns

    def learn(self, _: str) -> None:
        if trainable(self.model):
            train_one_epoch(self.model, self.batches, self.optimizer)

    def fit(self, _: str) -> None:
        held = [p for group in self.optimizer.param_groups for p in group["params"]]
        learning = [p for p in self.model.parameters() if p.requires_grad]
        if learning and all(any(p is q for q in held) for p in learning):
            fit(self.model, self.batches, self.batches, self.optimizer, epochs=1)

    def new_optimizer(self, _: str) -> None:
        self.optimizer = sgd(self.model)

    def backward(self, _: str) -> None:
        """Leaves gradients behind, as a learner's own loop may."""
        images, labels = self.batches[0]
        loss = nn.functional.cross_entropy(train_mode(self.model)(images), labels)
        if loss.requires_grad:
            loss.backward()

    def train_mode(self, _: str) -> None:
        train_mode(self.model)

    def train(self, _: str) -> None:
        self.model.train()  # wakes everything; the verbs must not mind

    def eval(self, _: str) -> None:
        self.model.eval()

    def evaluate(self, _: str) -> None:
        evaluate(self.model, self.batches)

    def predict(self, _: str) -> None:
        predict(self.model, self.batches[0][0], classes="abc", k=1)


VERBS = [name for name in vars(Bench) if not name.startswith("_")]
steps = st.lists(st.tuples(st.sampled_from(VERBS), st.sampled_from(PARTS)), min_size=3, max_size=12)


@given(steps)
def test_what_is_frozen_does_not_change_in_any_order_of_calls(small_net, batches, steps):
    torch.manual_seed(0)
    bench = Bench(small_net(), batches)
    for verb, part in steps:
        getattr(bench, verb)(part)
        for name, before in bench.frozen.items():
            assert not changed(bench.model.get_submodule(name), before), f"{name} changed in {verb}"


@given(st.sets(st.sampled_from(PARTS), min_size=1, max_size=4))
def test_what_is_not_frozen_learns(small_net, batches, frozen):
    torch.manual_seed(0)
    model = small_net()
    for part in frozen:
        freeze(model.get_submodule(part))
    before = snapshot(model)
    train_one_epoch(model, batches, sgd(model))
    moved = {name.partition(".")[0] for name in changed(model, before)}
    assert moved == set(PARTS) - frozen


def test_statistics_stand_still_as_soon_as_a_part_is_frozen(small_net, batches):
    model = small_net().train()
    freeze(model.layer1)
    before = snapshot(model)
    model(batches[0][0])  # in a loop of one's own, without any verb of the course
    assert {name.partition(".")[0] for name in changed(model, before)} == {"bn1", "layer2"}


def test_a_gradient_left_over_from_before_is_not_applied(small_net, batches):
    model = small_net()
    optimizer = sgd(model)
    train_one_epoch(model, batches, optimizer)  # now there are gradients and momentum
    freeze(model.layer1)
    before = snapshot(model.layer1)
    optimizer.step()
    assert not changed(model.layer1, before)


def test_parts_frozen_by_hand_stay_too(small_net, batches):
    model = small_net()
    model.bn1.requires_grad_(False)
    before = snapshot(model.bn1)
    train_one_epoch(model, batches, sgd(model))
    assert not changed(model.bn1, before)


def test_dropout_of_a_frozen_part_sleeps(small_net):
    model = small_net()
    freeze(model.layer1)
    train_mode(model)
    images = torch.rand(2, 4, 8, 8)
    assert torch.equal(model.layer1(images), model.layer1(images))
    assert not torch.equal(model.layer2(images), model.layer2(images))


def test_train_mode_wakes_what_learns(small_net):
    model = freeze(small_net())
    unfreeze(model.layer2)
    train_mode(model)
    assert [part for part in PARTS if model.get_submodule(part).training] == ["layer2"]
    assert all(module.training for module in model.layer2.modules())
    train_mode(freeze(model))
    assert not any(module.training for module in model.modules())


def test_the_verbs_return_what_they_were_given(small_net):
    model = small_net()
    assert freeze(model) is model
    assert unfreeze(model) is model
    assert train_mode(model) is model


# ------------------------------------------------------------------------------------------------------- eval_mode

flags = st.lists(st.booleans(), min_size=17, max_size=17)


def set_flags(model: nn.Module, flags: list[bool]) -> list[bool]:
    for module, flag in zip(model.modules(), flags, strict=False):
        module.training = flag
    return [module.training for module in model.modules()]


@given(flags, st.booleans())
def test_eval_mode_gives_each_module_its_own_flag_back(small_net, flags, fails):
    model = small_net()
    before = set_flags(model, flags)
    try:
        with eval_mode(model) as inside:
            assert inside is model
            assert not any(module.training for module in model.modules())
            model.layer1.train()
            if fails:
                raise RuntimeError("in between")
    except RuntimeError:
        assert fails
    assert [module.training for module in model.modules()] == before


@given(flags)
def test_evaluate_and_predict_leave_the_model_as_they_found_it(small_net, batches, flags):
    model = small_net()
    modes, before = set_flags(model, flags), snapshot(model)
    evaluate(model, batches)
    predict(model, batches[0][0], classes="abc", k=1)
    assert [module.training for module in model.modules()] == modes
    assert not changed(model, before)
    with pytest.raises(ValueError, match="1 class names"):
        predict(model, batches[0][0], classes="a", k=1)
    with pytest.raises(RuntimeError):
        evaluate(model, [(torch.rand(2, 5, 8, 8), torch.tensor([0, 1]))])
    assert [module.training for module in model.modules()] == modes


# ------------------------------------------------------------------------------------------------------- trainable


def test_trainable_names_and_counts(small_net):
    model = small_net()
    assert sum(trainable(model).values()) == sum(p.numel() for p in model.parameters())
    freeze(model)
    assert trainable(model) == {}
    unfreeze(model.fc)
    assert trainable(model) == {"fc.weight": 24, "fc.bias": 3}


# ---------------------------------------------------------------------------------------------------- param_groups


@given(st.sets(st.sampled_from(PARTS)), st.sets(st.sampled_from(("layer1.0", "layer2.1", "fc.bias"))))
def test_each_learning_parameter_has_one_rate(small_net, frozen, finer):
    model = small_net()
    for part in frozen:
        freeze(model.get_submodule(part))
    parts = [*set(PARTS) - frozen, *(part for part in finer if part.partition(".")[0] not in frozen)]
    rates = {part: 10.0**-i for i, part in enumerate(parts, 1)}
    groups = param_groups(model, rates)
    grouped = [id(p) for group in groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert {group["name"]: group["lr"] for group in groups} == rates
    names = {id(p): name for name, p in model.named_parameters()}
    for group in groups:
        for p in group["params"]:
            fitting = [part for part in rates if (names[id(p)] + ".").startswith(part + ".")]
            assert max(fitting, key=len) == group["name"]
    if rates:
        torch.optim.SGD(groups)


def test_a_name_is_not_a_beginning_of_another():
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(11)))
    freeze(model)
    unfreeze(model[1])
    unfreeze(model[10])
    groups = param_groups(model, {"1": 0.1, "10": 0.01})
    assert [[id(p) for p in group["params"]] for group in groups] == [[id(p) for p in model[i].parameters()] for i in (1, 10)]
    with pytest.raises(ValueError, match="'10' learns but has no learning rate"):
        param_groups(model, {"1": 0.1})


def test_a_part_without_a_rate(small_net):
    with pytest.raises(
        ValueError, match=r"'layer1' learns but has no learning rate \(such as 'layer1\.0\.weight'\); name it or"
    ):
        param_groups(small_net(), {"conv1": 0.1, "bn1": 0.1, "layer2": 0.1, "fc": 0.1})
    with pytest.raises(ValueError, match="'conv1' learns but has no learning rate"):
        param_groups(small_net(), {})


def test_a_rate_for_a_frozen_part(small_net):
    model = small_net()
    freeze(model)
    unfreeze(model.fc)
    with pytest.raises(ValueError, match="'layer2' has a learning rate but nothing in it learns; unfreeze it or leave it out"):
        param_groups(model, {"layer2": 1e-4, "fc": 1e-3})


def test_an_unknown_part(small_net):
    with pytest.raises(ValueError, match=r"no part named 'layr2'; choose from \['conv1', .*\] \(did you mean 'layer2'\?\)"):
        param_groups(small_net(), {"layr2": 0.1})
    with pytest.raises(ValueError, match=r"no part named 'layer1\.9'; choose from .*did you mean 'layer1\.\d'"):
        param_groups(small_net(), {"layer1.9": 0.1})


@pytest.mark.parametrize("rate", [0, -0.1, math.nan, math.inf, "0.1", None, True])
def test_a_rate_that_is_no_rate(small_net, rate):
    with pytest.raises(ValueError, match="a learning rate is a positive number, not"):
        param_groups(small_net(), {"fc": rate})


def test_a_rate_without_a_name(small_net):
    with pytest.raises(ValueError, match="give a learning rate by name of the part"):
        param_groups(small_net(), 0.1)
