"""The loop: it does what a loop written by hand does, twice the same, and stops with words when it cannot."""

from __future__ import annotations

import copy
import math
import re
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torchvision.models import GoogLeNetOutputs, InceptionOutputs
from torchvision.transforms import v2
from tqdm import tqdm

from course_utils.data import open_data
from course_utils.finetune import freeze, train_mode, unfreeze
from course_utils.heads import replace_head
from course_utils.losses import cross_entropy
from course_utils.models import load_model
from course_utils.prediction import predict
from course_utils.profiles import settings
from course_utils.train import Epoch, Score, evaluate, fit, train_one_epoch
from course_utils.weights import get_weights


def sgd(model: nn.Module, lr: float = 0.05) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)


def states_are_equal(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


# ------------------------------------------------------------------------------------------------------- one epoch


def test_one_epoch_is_the_loop_written_by_hand(small_net, batches):
    torch.manual_seed(0)
    model = small_net()
    torch.manual_seed(0)
    by_hand = small_net().train()
    optimizer, losses, hits = sgd(by_hand), [], 0
    torch.manual_seed(1)
    for images, labels in batches:
        logits = by_hand(images)
        loss = F.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item() * len(labels))
        hits += (logits.argmax(1) == labels).sum().item()
    torch.manual_seed(1)
    score = train_one_epoch(model, batches, sgd(model))
    assert states_are_equal(model, by_hand)
    assert score == pytest.approx((sum(losses) / 21, hits / 21))


def test_it_learns(small_net, batches):
    model = small_net(width=8)
    history = fit(model, batches, batches, sgd(model), epochs=30)
    assert history[-1].val.accuracy > 0.9
    assert history[-1].train.loss < history[0].train.loss / 2


@given(st.integers(1, 21))
def test_a_score_does_not_depend_on_the_batch_size(small_net, batches, size):
    torch.manual_seed(0)
    model = small_net()
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    cut = list(zip(images.split(size), labels.split(size), strict=True))
    assert evaluate(model, cut) == pytest.approx(evaluate(model, batches), abs=1e-5)


def test_evaluate_changes_nothing_and_keeps_no_graph(small_net, batches):
    model = small_net().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first = evaluate(model, batches)
    assert first == evaluate(model, batches)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_two_runs_give_the_same_numbers():
    """The whole way: pictures, weights, a new head, two epochs."""

    def run() -> tuple[list[tuple[Score, Score]], nn.Module]:
        torch.manual_seed(0)
        data = open_data(settings(), per_class=2)
        model = replace_head(load_model("resnet18"), len(data.classes), dropout=0.2)
        val = [next(iter(data.val))]
        history = fit(model, data.train, val, sgd(model, 0.01), epochs=2)
        return [(epoch.train, epoch.val) for epoch in history], model

    (first, model), (again, model_again) = run(), run()
    assert first == again
    assert states_are_equal(model, model_again)


def test_losses_of_ones_own(small_net, batches):
    """A single logit and the binary loss: the sign of the logit decides."""
    model = small_net(num_classes=1)
    binary = [(images, (labels > 0).float()[:, None]) for images, labels in batches]
    history = fit(model, binary, binary, sgd(model), epochs=25, loss_function=F.binary_cross_entropy_with_logits)
    assert history[-1].val.accuracy > 0.8
    with torch.inference_mode():
        right = sum((((model.eval()(images) > 0).float()) == labels).sum().item() for images, labels in binary)
    assert evaluate(model, binary, loss_function=F.binary_cross_entropy_with_logits).accuracy == pytest.approx(right / 21)


class WithAuxiliary(nn.Module):
    """As inception does: two sets of logits while training, one afterwards."""

    def __init__(self, outputs=InceptionOutputs):
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(192, 3) for _ in (outputs._fields if hasattr(outputs, "_fields") else range(2)))
        self.outputs = outputs

    def forward(self, images):
        logits = [head(images.flatten(1)) for head in self.heads]
        if not self.training:
            return logits[0]
        return self.outputs(*logits) if hasattr(self.outputs, "_fields") else self.outputs(logits)


@pytest.mark.parametrize(("outputs", "weight"), [(InceptionOutputs, 0.4), (GoogLeNetOutputs, 0.3)])
def test_auxiliary_logits_count_as_much_as_for_the_authors(batches, outputs, weight):
    model = WithAuxiliary(outputs)
    images, labels = batches[0]
    main, *others = (F.cross_entropy(head(images.flatten(1)), labels) for head in model.heads)
    assert len(others) == len(outputs._fields) - 1
    assert torch.allclose(cross_entropy(model.train()(images), labels), main + weight * sum(others))
    without = outputs(model.eval()(images), *[None] * len(others))
    assert torch.equal(cross_entropy(without, labels), main)
    history = fit(model, batches, batches, sgd(model, 0.01), epochs=2)
    assert 0 < history[-1].train.accuracy <= 1
    assert len(predict(model.train(), images, classes="abc")) == 8


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        (tuple, r"a tuple of \['Tensor', 'Tensor'\]"),
        (list, r"a list of \['Tensor', 'Tensor'\]"),
        (lambda logits: {"logits": logits[0], "aux": logits[1]}, r"a dict with the keys \['logits', 'aux'\]"),
    ],
)
def test_of_other_outputs_nobody_has_said_what_each_part_counts(batches, outputs, words):
    model = WithAuxiliary(outputs)
    with pytest.raises(TypeError, match=rf"the model returns {words} where logits are expected.*wrap it in a module"):
        train_one_epoch(model, batches, sgd(model))
    model.heads.train()
    model.eval = lambda: model.train()  # a model that goes on giving both when it is asked
    with pytest.raises(TypeError, match="where logits are expected"):
        predict(model, batches[0][0], classes="abc")


def test_a_loss_of_ones_own_may_take_several_outputs_and_the_first_counts_for_the_accuracy(batches):
    model = WithAuxiliary(tuple)
    model.eval = lambda: model.train()
    both = lambda outputs, labels: F.cross_entropy(outputs[0], labels) + F.cross_entropy(outputs[1], labels)  # noqa: E731
    first = fit(model, batches, batches, sgd(model, 0.01), epochs=3, loss_function=both)[-1].val
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    outputs = model(images)
    assert first == pytest.approx((both(outputs, labels).item(), (outputs[0].argmax(1) == labels).float().mean().item()))


# ------------------------------------------------------------------------------------------------------------- losses


def whole(batches) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return images, labels


LOSSES = {
    "class weights": nn.CrossEntropyLoss(weight=torch.tensor([0.1, 1.0, 5.0])),
    "class weights, smoothed": nn.CrossEntropyLoss(weight=torch.tensor([0.1, 1.0, 5.0]), label_smoothing=0.2),
    "as a function": lambda logits, labels: F.cross_entropy(logits, labels, weight=torch.tensor([0.1, 1.0, 5.0])),
    "one class ignored": nn.CrossEntropyLoss(ignore_index=2),
    "smoothed": nn.CrossEntropyLoss(label_smoothing=0.1),
    "another mean": lambda logits, labels: F.cross_entropy(logits, labels, reduction="none").square().mean().sqrt(),
    "the default": cross_entropy,
}


@pytest.mark.parametrize("kind", LOSSES)
def test_an_evaluation_does_not_depend_on_the_batch_size_whatever_the_loss(small_net, batches, kind):
    model, (images, labels) = small_net(), whole(batches)
    with torch.inference_mode():
        wanted = LOSSES[kind](model.eval()(images), labels).item()
    for size in (1, 2, 7, 21):
        cut = list(zip(images.split(size), labels.split(size), strict=True))
        assert evaluate(model, cut, loss_function=LOSSES[kind]).loss == pytest.approx(wanted, rel=1e-5), size


@pytest.mark.parametrize("loss_function", [cross_entropy, nn.CrossEntropyLoss(), nn.CrossEntropyLoss(ignore_index=1)])
def test_pictures_that_the_loss_ignores_count_for_nothing(small_net, batches, loss_function):
    model, (images, labels) = small_net(), whole(batches)
    ignored = getattr(loss_function, "ignore_index", -100)
    labels = torch.where(labels == 1, ignored, labels)
    batches = list(zip(images.split(2), labels.split(2), strict=True))
    assert any(bool((some == ignored).all()) for _, some in batches), "a batch without any label is among them"
    kept = labels != ignored
    score = evaluate(model, [(images[kept], labels[kept])])
    assert evaluate(model, batches, loss_function=loss_function) == pytest.approx(score, rel=1e-5)
    nothing = evaluate(model, [(images, torch.full((21,), ignored))], loss_function=loss_function)
    assert all(map(math.isnan, nothing))


def test_losses_of_training_are_means_over_pictures_with_labels(small_net):
    images, labels = torch.randn(8, 3, 8, 8), torch.tensor([0, 1, 2, -100, -100, 0, 1, 2])
    model = small_net()
    by_hand = train_mode(copy.deepcopy(model))
    torch.manual_seed(5)
    losses = [
        F.cross_entropy(by_hand(x), y, reduction="sum").item() for x, y in ((images[:4], labels[:4]), (images[4:], labels[4:]))
    ]
    torch.manual_seed(5)
    still = torch.optim.SGD(model.parameters(), lr=1e-12)
    score = train_one_epoch(model, [(images[:4], labels[:4]), (images[4:], labels[4:])], still)
    assert score.loss == pytest.approx(sum(losses) / 6, rel=1e-4)


def test_labels_for_each_point_of_a_picture_count_alike():
    """Also where some are ignored in one batch and none in another; of such labels there is no accuracy."""
    torch.manual_seed(0)
    model, images, labels = nn.Conv2d(3, 4, 3, padding=1), torch.randn(6, 3, 8, 8), torch.randint(4, (6, 8, 8))
    labels[4:, :4] = -100
    images[4:] *= 5
    score = evaluate(model, [(images[i : i + 2], labels[i : i + 2]) for i in (0, 2, 4)])
    assert score.loss == pytest.approx(F.cross_entropy(model(images), labels).item(), rel=1e-5)
    assert math.isnan(score.accuracy)


@pytest.mark.parametrize(
    ("loss_function", "words"),
    [
        (nn.CrossEntropyLoss(reduction="none"), r"a tensor of shape \(8,\)"),
        (nn.CrossEntropyLoss(reduction="sum"), "'sum'"),
        (lambda logits, labels: F.cross_entropy(logits, labels, reduction="none"), r"a tensor of shape \(8,\)"),
        (lambda logits, labels: 1.0, "a float"),
    ],
)
def test_a_loss_is_one_number_and_a_mean(small_net, batches, loss_function, words):
    model = small_net()
    for run in (
        lambda: fit(model, batches, batches, sgd(model), epochs=1, loss_function=loss_function),
        lambda: evaluate(model, batches[:1], loss_function=loss_function),
    ):
        with pytest.raises(ValueError, match=rf"loss_function gives .*{words}.* the mean over the batch \(reduction='mean'\)"):
            run()


def test_a_loss_is_no_class(small_net, batches):
    model = small_net()
    with pytest.raises(TypeError, match=r"loss_function is the class CrossEntropyLoss; make one: CrossEntropyLoss\(\)"):
        fit(model, batches, batches, sgd(model), epochs=1, loss_function=nn.CrossEntropyLoss)


def test_a_loss_is_a_function(small_net, batches):
    with pytest.raises(TypeError, match=r"loss_function takes outputs and labels, .* and is not 'cross entropy'"):
        evaluate(small_net(), batches, loss_function="cross entropy")


@pytest.mark.parametrize("loss_function", [nn.BCELoss(), F.binary_cross_entropy])
def test_probabilities_are_refused_since_no_accuracy_comes_of_them(small_net, batches, loss_function):
    """Each is above 0, so each picture would be a yes."""
    model = nn.Sequential(small_net(num_classes=1), nn.Sigmoid())
    yes_or_no = [(images, (labels > 1).float()[:, None]) for images, labels in batches]
    with pytest.raises(ValueError, match=r"counted by the sign of logits; leave out the sigmoid .* nn\.BCEWithLogitsLoss\(\)"):
        evaluate(model, yes_or_no, loss_function=loss_function)


@pytest.mark.parametrize("given", [None, nn.Linear])
def test_what_is_no_model(batches, given):
    optimizer = sgd(nn.Linear(2, 2))
    for run in (lambda: fit(given, batches, batches, optimizer, epochs=1), lambda: evaluate(given, batches)):
        with pytest.raises(TypeError, match=r"a model is a torch\.nn\.Module, not .*; it comes first"):
            run()


def test_losses_of_a_model_in_half_precision_are_in_float32(small_net, batches):
    """Each has more than three digits, and an average of them is no multiple of 2 ** -8."""
    model = small_net().bfloat16()
    halves = [(images.bfloat16(), labels) for images, labels in batches]
    wanted = torch.cat([F.cross_entropy(model.eval()(images).float(), labels, reduction="none") for images, labels in halves])
    assert evaluate(model, halves).loss == pytest.approx(wanted.mean().item(), rel=1e-6)


def test_a_batch_of_which_nothing_counts_has_no_loss(small_net, batches):
    model = small_net()
    spoilt = [batches[0], (batches[1][0], torch.full((8,), -100))]
    with pytest.raises(ValueError, match=r"epoch 1/1, batch 2: no picture counts \(all labels are -100, or there is none\)"):
        fit(model, spoilt, batches, sgd(model), epochs=1)


def test_a_loss_without_a_gradient(small_net, batches):
    """A new head under a name that the forward pass does not know."""
    model = freeze(small_net())
    model.head = nn.Linear(8, 3)
    model.forward = lambda images: model.fc(model.pool(images[:, [0, 1, 2, 0, 1, 2, 0, 1]]))
    with pytest.raises(ValueError, match="the loss has no gradient: nothing that learns takes part in it; is it a layer that"):
        fit(model, batches, batches, sgd(model), epochs=1)


# ------------------------------------------------------------------------------------------------------------- labels


def with_labels(batches, change) -> list:
    return [(images, change(labels)) for images, labels in batches]


@pytest.mark.parametrize(
    "change",
    [
        lambda labels: labels.int(),
        lambda labels: labels.to(torch.uint8),
        lambda labels: labels[:, None],
        lambda labels: F.one_hot(labels, 3),
        lambda labels: F.one_hot(labels, 3).bool(),
        lambda labels: F.one_hot(labels, 3).double(),
    ],
    ids=["int32", "uint8", "a column", "one-hot", "one-hot, boolean", "one-hot, float64"],
)
def test_class_numbers_in_other_forms(small_net, batches, change):
    torch.manual_seed(0)
    model = small_net()
    again, changed = copy.deepcopy(model), with_labels(batches, change)
    torch.manual_seed(1)
    wanted = fit(model, batches, batches, sgd(model), epochs=2)
    torch.manual_seed(1)
    found = fit(again, changed, changed, sgd(again), epochs=2)
    for one, other in zip(wanted, found, strict=True):
        assert one.train == pytest.approx(other.train, rel=1e-4)
        assert one.val == pytest.approx(other.val, rel=1e-4)


def test_soft_labels_are_right_where_the_largest_is(small_net, batches):
    images, labels = whole(batches)
    soft = F.one_hot(labels, 3) * 0.7 + 0.1
    model = small_net(width=8)
    assert fit(model, with_labels(batches, lambda y: F.one_hot(y, 3) * 0.7 + 0.1), batches, sgd(model), epochs=20)
    with torch.inference_mode():
        logits = model.eval()(images)
    wanted = F.cross_entropy(logits, soft).item(), (logits.argmax(1) == labels).float().mean().item()
    assert evaluate(model, [(images, soft)]) == pytest.approx(wanted)
    assert wanted[1] > 0.8


def test_several_labels_of_a_picture_are_right_where_the_largest_logit_is_one_of_them():
    logits = torch.tensor([[3.0, 1.0, -1.0], [-1.0, 2.0, 1.0], [-1.0, -2.0, -3.0], [1.0, -2.0, -3.0], [0.2, 0.1, 0.3]])
    labels = torch.tensor([[1, 1, 0], [1, 0, 1], [0, 0, 0], [0, 0, 0], [0, 0, 1]])
    right = [True, False, True, False, True]  # the third and the fourth have no label, so no logit may be above 0
    loss_function = nn.BCEWithLogitsLoss()
    for size in (1, 2, 5):
        cut = list(zip(logits.split(size), labels.split(size), strict=True))
        score = evaluate(nn.Identity(), cut, loss_function=loss_function)
        assert score.accuracy == pytest.approx(sum(right) / 5)
        assert score.loss == pytest.approx(loss_function(logits, labels.float()).item())


def test_several_labels_are_learnt(small_net, batches):
    model = small_net(width=8)
    several = with_labels(batches, lambda labels: torch.stack([labels == 0, labels == 1, labels >= 1], 1))
    history = fit(model, several, several, sgd(model), epochs=25, loss_function=nn.BCEWithLogitsLoss())
    assert history[-1].val.accuracy > 0.8
    assert history[-1].val.loss < history[0].val.loss


def test_where_labels_are_no_classes_there_is_no_accuracy(batches):
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 1))
    brightness = [(images, 3 + images.mean((1, 2, 3))[:, None]) for images, _ in batches]
    (epoch,) = fit(model, brightness, brightness, sgd(model, 0.001), epochs=1, loss_function=nn.MSELoss())
    assert math.isnan(epoch.train.accuracy)
    assert math.isnan(epoch.val.accuracy)
    assert epoch.val.loss > 0


def test_a_single_logit_takes_soft_labels_class_numbers_and_rows(batches):
    class Single(nn.Module):
        def __init__(self, flat):
            super().__init__()
            self.fc, self.flat = nn.Linear(192, 1), flat

        def forward(self, images):
            logits = self.fc(images.flatten(1))
            return logits.flatten() if self.flat else logits

    loss_function = nn.BCEWithLogitsLoss()
    forms = {
        True: (lambda y: (y > 0).int(), lambda y: (y > 0).float() * 0.8 + 0.1, lambda y: y > 0),
        False: (lambda y: (y > 0).long()[:, None], lambda y: (y > 0)[:, None] * 0.8 + 0.1),
    }
    for flat, changes in forms.items():
        model = Single(flat)
        images, labels = whole(batches)
        hits = ((model(images).flatten() > 0) == (labels > 0)).float().mean().item()
        for change in changes:
            assert evaluate(model, with_labels(batches, change), loss_function=loss_function).accuracy == pytest.approx(hits)
            train_one_epoch(copy.deepcopy(model), with_labels(batches, change), sgd(model), loss_function=loss_function)


@pytest.mark.parametrize(("label", "loss_function"), [(3, cross_entropy), (-1, nn.CrossEntropyLoss()), (-100, None)])
def test_a_label_that_no_output_stands_for_is_named(small_net, batches, label, loss_function):
    model = small_net()
    loss_function = loss_function or nn.CrossEntropyLoss(ignore_index=255)
    spoilt = [batches[0], (batches[1][0], torch.where(batches[1][1] == 0, label, batches[1][1]))]
    for run in (
        lambda: fit(model, spoilt, batches, sgd(model), epochs=1, loss_function=loss_function),
        lambda: evaluate(model, spoilt, loss_function=loss_function),
    ):
        with pytest.raises(ValueError, match=f"label {label} stands for no output: the model tells 3 classes apart, 0 to 2"):
            run()


def test_one_output_is_no_choice_for_cross_entropy(small_net, batches):
    """The loss would be 0 for ever."""
    model = small_net(num_classes=1)
    with pytest.raises(ValueError, match=r"cross entropy compares two logits or more, .* take loss_function=F\.binary_cross"):
        fit(model, with_labels(batches, torch.zeros_like), batches, sgd(model), epochs=1)


@pytest.mark.parametrize("change", [lambda y: y.float(), lambda y: F.one_hot(y, 5).float()])
def test_labels_of_another_shape(small_net, batches, change):
    model = small_net()
    with pytest.raises(
        ValueError, match=r"labels of torch\.float32 and shape \(8.*\) for outputs of shape \(8, 3\): class numbers"
    ):
        fit(model, with_labels(batches, change), batches, sgd(model), epochs=1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda images, labels: {"pixel_values": images, "labels": labels},
            r"a dict with the keys \['pixel_values', 'labels'\]",
        ),
        (lambda images, labels: (images, labels, ["a.png"]), r"a tuple of \['Tensor', 'Tensor', 'list'\]"),
        (lambda images, labels: [images], r"a list of \['Tensor'\]"),
        (lambda images, labels: images, "a Tensor"),
        (lambda images, labels: (images, labels.tolist()), r"a tuple of \['Tensor', 'list'\]"),
        (lambda images, labels: (list("images"), labels), r"a tuple of \['list', 'Tensor'\]"),
        (lambda images, labels: ({"x": images}, labels), r"a tuple of \['dict', 'Tensor'\]"),
        (lambda images, labels: (images[0], labels[0]), r"a tuple of \['Tensor', 'Tensor'\]; a data set belongs into a DataL"),
    ],
)
def test_batches_of_another_form(small_net, batches, change, words):
    model, strange = small_net(), [change(*batch) for batch in batches]
    for run in (
        lambda: fit(model, strange, batches, sgd(model), epochs=1),
        lambda: train_one_epoch(model, strange, sgd(model)),
        lambda: evaluate(model, strange),
    ):
        with pytest.raises(TypeError, match=f"a batch is a pair, images and a tensor of labels, but this loader gives {words}"):
            run()


# ------------------------------------------------------------------------------------------------------------- fit


def test_fit_returns_an_epoch_each(small_net, batches):
    model = small_net()
    seen: list = []
    history = fit(
        model, batches, batches[:1], sgd(model), epochs=2, before_epoch=lambda n: seen.append(n), after_epoch=seen.append
    )
    assert seen == [1, history[0], 2, history[1]]
    assert [epoch.number for epoch in history] == [1, 2]
    assert all(epoch.speed > 0 and 0 <= epoch.val.accuracy <= 1 for epoch in history)
    assert str(Epoch(3, Score(1.234, 0.5), Score(0.6, 0.25), 99.0)) == "epoch  3  train 1.23 (50%)  val 0.60 (25%)"


def test_speed_counts_the_pictures_that_were_shown(small_net, batches, monkeypatch):
    """With drop_last the loader shows fewer pictures than its data set has; a clock that ticks once a call makes 10 seconds."""
    ticks = iter(range(0, 10_000, 10))
    monkeypatch.setattr("course_utils.train.time.perf_counter", lambda: next(ticks))
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    data = torch.utils.data.TensorDataset(images, labels)
    loader = torch.utils.data.DataLoader(data, batch_size=8, drop_last=True)
    model = small_net()
    (epoch,) = fit(model, loader, batches, sgd(model), epochs=1)
    assert 16 / epoch.speed % 10 == pytest.approx(0)


def test_a_stream_of_batches_is_shown_once(small_net, batches):
    model = small_net()
    (epoch,) = fit(model, iter(batches), batches, sgd(model), epochs=1)
    assert epoch.speed > 0


def test_hooks_may_change_what_learns(small_net, batches):
    model = small_net()
    before = model.layer1[0].weight.clone()
    fit(model, batches, batches, sgd(model), epochs=2, before_epoch=lambda number: freeze(model.layer1))
    assert torch.equal(model.layer1[0].weight, before)


def test_ctrl_c_keeps_what_was_learnt_and_gives_the_epochs(small_net, batches):
    model = small_net()
    before = model.fc.weight.clone()

    def stop(epoch: Epoch) -> None:
        if epoch.number == 2:
            signal.raise_signal(signal.SIGINT)

    words = r"stopped by hand after 2 of 9 epochs, and the model keeps what it has learnt; sys\.last_value\.finished holds"
    with pytest.raises(KeyboardInterrupt, match=words) as caught:
        fit(model, batches, batches, sgd(model), epochs=9, after_epoch=stop)
    assert [epoch.number for epoch in caught.value.finished] == [1, 2]
    assert caught.type is KeyboardInterrupt, "by which a shell knows that its own loop has to stop"
    assert not torch.equal(model.fc.weight, before)


def test_ctrl_c_stops_a_loop_around_fit(small_net, batches):
    """From outside, at any moment: a timer sends the signal while the second rate is at work."""
    tried = []

    def loop() -> None:
        for lr in (0.01, 0.1, 1.0):
            tried.append(lr)
            model = small_net()
            set_timer = lambda number: number > 1 or tried[-1] < 0.1 or signal.setitimer(signal.ITIMER_REAL, 0.05)  # noqa: E731
            fit(model, batches, batches, sgd(model, lr), epochs=2 if lr < 0.1 else 1_000_000, before_epoch=set_timer)

    old = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        with pytest.raises(KeyboardInterrupt) as caught:
            loop()
    finally:
        signal.signal(signal.SIGALRM, old)
    assert tried == [0.01, 0.1]
    assert len(caught.value.finished) < 1_000_000


def test_interrupted_in_the_first_epoch(small_net, batches):
    class Interrupting(list):
        def __iter__(self):
            yield self[0]
            signal.raise_signal(signal.SIGINT)
            yield self[1]

    model = small_net()
    before = model.fc.weight.clone()
    with pytest.raises(KeyboardInterrupt, match="stopped by hand after 0 of 3 epochs") as caught:
        fit(model, Interrupting(batches), batches, sgd(model), epochs=3)
    assert caught.value.finished == []
    assert not torch.equal(model.fc.weight, before)


def test_the_progress_bar_is_plain_text_with_loss_and_speed(small_net, batches, capsys, monkeypatch):
    always = {"delay": 0, "mininterval": 0, "disable": False}
    monkeypatch.setattr("course_utils.progress_bar.tqdm", lambda *args, **options: tqdm(*args, **options | always))
    model = small_net()
    fit(model, batches, batches, sgd(model), epochs=1)
    out, err = capsys.readouterr()
    assert out == ""
    assert re.search(r"epoch 1/1:  67%.*2/3 .*loss \d\.\d{3}, \d+ pictures/s", err)
    assert err.splitlines()[-1].strip() == "", "the bar is gone when it is full"


# ------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("epochs", [0, -1, 1.5, "3", True, None])
def test_epochs_that_are_none(small_net, batches, epochs):
    model = small_net()
    with pytest.raises(ValueError, match=r"epochs=.*; give a whole number of 1 or more"):
        fit(model, batches, batches, sgd(model), epochs=epochs)


@pytest.mark.parametrize("epochs", [2, np.int64(2)])
def test_epochs_that_are_some(small_net, batches, epochs):
    model = small_net()
    assert len(fit(model, batches, batches, sgd(model), epochs=epochs)) == 2


@pytest.mark.parametrize("kind", ["generator", "zip", "iterator of a list"])
def test_batches_that_come_only_once_are_refused_before_the_first_epoch(small_net, batches, kind):
    make = {
        "generator": lambda: (batch for batch in batches),
        "zip": lambda: zip(*map(list, zip(*batches, strict=True)), strict=True),
        "iterator of a list": lambda: iter(batches),
    }[kind]
    model = small_net()
    before = model.fc.weight.clone()
    for name, loaders in {"train_loader": (make(), batches), "val_loader": (batches, make())}.items():
        with pytest.raises(ValueError, match=rf"{name} is a \w+, which gives its batches only once, and there are 2 epochs"):
            fit(model, *loaders, sgd(model), epochs=2)
    assert torch.equal(model.fc.weight, before)
    assert len(fit(model, make(), make(), sgd(model), epochs=1)) == 1


def test_batches_that_begin_anew_by_themselves_are_taken(small_net, batches):
    class Restarts:
        def __iter__(self):
            self.left = list(batches)
            return self

        def __next__(self):
            if not self.left:
                raise StopIteration
            return self.left.pop(0)

    model = small_net()
    assert len(fit(model, Restarts(), batches, sgd(model), epochs=2)) == 2


@pytest.mark.parametrize("lr", [0.0, -0.1, math.nan, math.inf])
def test_a_rate_that_is_no_rate(small_net, batches, lr):
    model = small_net()
    optimizer = sgd(model)
    optimizer.param_groups[0]["lr"] = lr  # some optimizers refuse a few of these themselves, none of them all
    with pytest.raises(ValueError, match=r"a learning rate is a positive number, not .*; common ones lie between"):
        fit(model, batches, batches, optimizer, epochs=1)


def test_a_warm_up_may_begin_at_0(small_net, batches):
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: epoch / 4)
    assert optimizer.param_groups[0]["lr"] == 0
    weights = [model.fc.weight.clone()]

    def after(epoch: Epoch) -> None:
        weights.append(model.fc.weight.clone())
        schedule.step()

    fit(model, batches, batches, optimizer, epochs=2, after_epoch=after)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])


def test_a_hook_may_set_a_rate_to_0_for_an_epoch(small_net, batches):
    model = small_net()
    optimizer = sgd(model)
    rates = []

    def warm_up(number: int) -> None:
        optimizer.param_groups[0]["lr"] = 0.1 * (number - 1)
        rates.append(optimizer.param_groups[0]["lr"])

    assert len(fit(model, batches, batches, optimizer, epochs=3, before_epoch=warm_up)) == 3
    assert rates == [0, 0.1, 0.2]


def test_what_learns_and_is_in_no_optimizer_is_named(small_net, batches):
    model = small_net()
    freeze(model.conv1)
    before = copy.deepcopy(model.state_dict())
    words = (
        r"the optimizer does not hold all that learns: 'bn1', 'layer1', 'layer2' \(such as 'bn1\.weight'\) would never change"
    )
    with pytest.raises(ValueError, match=words):
        fit(model, batches, batches, torch.optim.SGD(model.fc.parameters(), lr=0.1), epochs=1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    assert fit(model, batches, batches, optimizer, epochs=1)
    assert fit(model, batches, batches, sgd(model), epochs=1), "an optimizer may hold what is frozen"


def test_what_a_hook_sets_free_has_to_be_in_the_optimizer_by_then(small_net, batches):
    def run(hold_all: bool, add: bool = False) -> list[Epoch]:
        model = freeze(small_net())
        unfreeze(model.fc)
        optimizer = sgd(model) if hold_all else sgd(model.fc)

        def before_epoch(number: int) -> None:
            if number == 2:
                unfreeze(model.layer2)
                if add:
                    optimizer.add_param_group({"params": model.layer2.parameters()})

        return fit(model, batches, batches, optimizer, epochs=3, before_epoch=before_epoch)

    assert len(run(hold_all=True)) == 3
    assert len(run(hold_all=False, add=True)) == 3
    with pytest.raises(ValueError, match="the optimizer does not hold all that learns: 'layer2'"):
        run(hold_all=False)


def test_a_hook_may_freeze_what_the_optimizer_does_not_hold(small_net, batches):
    model = small_net()

    def head_only(number: int) -> None:
        freeze(model)
        unfreeze(model.fc)

    assert fit(model, batches, batches, sgd(model.fc), epochs=1, before_epoch=head_only)


def test_parameters_that_two_layers_share_are_held_once(batches):
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 3), nn.Linear(3, 3), nn.Linear(3, 3))
    model[3].weight = model[2].weight
    assert fit(model, batches, batches, sgd(model, 0.01), epochs=1)


@pytest.mark.parametrize("kind", ["LBFGS", "class", "list"])
def test_what_is_no_optimizer_for_this_loop(small_net, batches, kind):
    model = small_net()
    given, words = {
        "LBFGS": (torch.optim.LBFGS(model.parameters()), "LBFGS asks for the loss several times in a step"),
        "class": (
            torch.optim.SGD,
            r"the optimizer is one of torch\.optim, such as SGD\(model\.parameters\(\), lr=0\.01\), not",
        ),
        "list": ([sgd(model)], r"the optimizer is one of torch\.optim"),
    }[kind]
    with pytest.raises(TypeError, match=words):
        fit(model, batches, batches, given, epochs=1)


def test_nothing_learns(small_net, batches):
    model = small_net()
    optimizer = sgd(model)
    freeze(model)
    for run in (lambda: fit(model, batches, batches, optimizer, epochs=1), lambda: train_one_epoch(model, batches, optimizer)):
        with pytest.raises(ValueError, match="nothing learns: every parameter of the model is frozen; unfreeze its head"):
            run()


def test_an_optimizer_of_another_model(small_net, batches):
    with pytest.raises(ValueError, match="the optimizer holds no parameter of this model that learns; build it after"):
        fit(small_net(), batches, batches, sgd(small_net()), epochs=1)


def test_a_batch_of_one_and_batch_norm(small_net):
    one = [(torch.rand(1, 3, 8, 8), torch.tensor([0]))]
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 3))
    with pytest.raises(ValueError, match=r"cannot learn from a batch of 1 picture\(s\) of \(8, 8\) pixels; use another batch"):
        train_one_epoch(model, one, sgd(model))
    freeze(model[1])
    train_one_epoch(model, one, sgd(model))
    evaluate(model.train(), one)
    with pytest.raises(ValueError, match="batch norm cannot learn"):
        train_one_epoch(load_model("resnet18"), [(torch.rand(1, 3, 32, 32), torch.tensor([0]))], sgd(model))


def test_other_errors_of_a_model_pass_through():
    class Broken(nn.Linear):
        def forward(self, x):
            raise ValueError("mine")

    model = Broken(2, 2)
    with pytest.raises(ValueError, match="mine"):
        train_one_epoch(model, [(torch.rand(1, 2), torch.tensor([0]))], sgd(model))


def test_no_batch_at_all(small_net):
    model = small_net()
    for run in (lambda: train_one_epoch(model, [], sgd(model)), lambda: evaluate(model, [])):
        with pytest.raises(ValueError, match="the loader gave no batch; check its folder, its batch size and drop_last"):
            run()


def test_a_loss_that_is_not_finite_stops_before_the_step(small_net, batches):
    model = small_net()
    images, labels = batches[1]
    spoilt = [batches[0], (images * math.nan, labels), batches[2]]
    with pytest.raises(FloatingPointError) as caught:
        fit(model, spoilt, batches, sgd(model, 0.25), epochs=3)
    assert str(caught.value).startswith("the loss became nan in epoch 1/3, batch 2, at learning rate [0.25]; try a tenth")
    assert "'bn1' has taken it into its statistics, so begin with a new model" in str(caught.value)
    assert all(p.isfinite().all() for p in model.parameters()), "the model keeps the last weights that were good"


def test_a_rate_that_is_far_too_high(batches):
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.Linear(8, 3))  # batch norm would hold the loss down
    with pytest.raises(FloatingPointError, match=r"the loss became (nan|inf) in epoch \d+/60, batch \d, at learning rate"):
        fit(model, batches, batches, sgd(model, 1e12), epochs=60)


# --------------------------------------------------------------------------------------------------------- predict


def test_predictions_are_sorted_probabilities_with_names(small_net, batches):
    model = small_net()
    images = batches[0][0]
    rows = predict(model, images, classes=("ant", "bee", "cat"))
    assert [len(row) for row in rows] == [3] * 8
    for row, logits in zip(rows, model.eval()(images), strict=True):
        assert sum(p for _, p in row) == pytest.approx(1)
        assert [p for _, p in row] == sorted((p for _, p in row), reverse=True)
        assert row[0][0] == ("ant", "bee", "cat")[logits.argmax()]


def test_one_picture_or_many_alone_or_in_company(small_net):
    model, classes = small_net().train(), ("ant", "bee", "cat")
    transform = get_weights("resnet18", "shapes").transforms()
    pictures = [Image.new("RGB", (70, 90), colour) for colour in ("red", "green", "blue")]
    many = predict(model, pictures, classes=classes, transform=transform)
    for picture, row in zip(pictures, many, strict=True):
        (alone,) = predict(model, picture, classes=classes, transform=transform)
        (tensor,) = predict(model, transform(picture), classes=classes)
        for other in (alone, tensor):
            assert [name for name, _ in other] == [name for name, _ in row]
            assert [p for _, p in other] == pytest.approx([p for _, p in row], abs=1e-5)
    assert model.training


def test_pictures_are_read_as_the_training_pictures_are(small_net):
    """Transparent parts become white, 16 bits keep their brightness: not what a plain convert("RGB") gives."""
    model, classes = small_net(), ("ant", "bee", "cat")
    transform = get_weights("resnet18", "shapes").transforms()
    see = lambda image: predict(model, image, classes=classes, transform=transform)  # noqa: E731
    assert see(Image.new("RGBA", (64, 64), (9, 9, 9, 0))) == see(Image.new("RGB", (64, 64), "white"))
    assert see(Image.new("I;16", (64, 64), 128 * 257)) == see(Image.new("RGB", (64, 64), (128, 128, 128)))


def test_a_single_logit_is_the_probability_of_the_second_class(small_net, batches):
    model = small_net(num_classes=1)
    images = batches[0][0]
    for row, logit in zip(predict(model, images, classes=("no", "yes"), k=2), model.eval()(images), strict=True):
        assert dict(row)["yes"] == pytest.approx(torch.sigmoid(logit).item(), abs=1e-6)
        assert sum(dict(row).values()) == pytest.approx(1)


def test_two_classes_need_no_k(small_net, batches):
    model, images = small_net(num_classes=2), batches[0][0]
    assert [len(row) for row in predict(model, images, classes=("no", "yes"))] == [2] * 8
    assert [len(row) for row in predict(small_net(num_classes=5), images, classes="abcde")] == [3] * 8
    assert len(predict(model, images, classes=("no", "yes"), k=1)[0]) == 1


def test_no_picture_gives_no_row(small_net):
    model, transform = small_net(), get_weights("resnet18", "shapes").transforms()
    assert predict(model, [], classes="abc", transform=transform) == []
    assert predict(model, (), classes="abc") == []
    assert predict(model, torch.empty(0, 3, 8, 8), classes="abc") == []


def test_prepared_pictures_come_as_a_tensor_a_list_or_in_double_precision(small_net, batches):
    model, images = small_net(), batches[0][0]
    wanted = predict(model, images, classes="abc")
    assert predict(model, list(images), classes="abc") == wanted
    assert predict(model, images.double(), classes="abc") == wanted
    assert predict(model, images[0], classes="abc")[0][0][0] == wanted[0][0][0]
    assert len(predict(model.double(), images, classes="abc")) == 8


def test_classes_of_one_name_are_two_classes(small_net, batches):
    """ImageNet has two cranes."""
    (row, *_) = predict(small_net(), batches[0][0], classes=("crane", "crane", "maillot"))
    assert sorted(name for name, _ in row) == ["crane", "crane", "maillot"]
    assert sum(p for _, p in row) == pytest.approx(1)


def test_a_single_logit_without_a_dimension_of_its_own(small_net, batches):
    model, images = small_net(num_classes=1), batches[0][0]
    wanted = predict(model, images, classes=("no", "yes"))
    model.append(nn.Flatten(0))
    assert predict(model, images, classes=("no", "yes")) == wanted
    for names in (("yes",), ("a", "b", "c")):
        words = f"has 1 outputs, which stands for the second of 2 classes, but {len(names)} class names were given"
        with pytest.raises(ValueError, match=words):
            predict(model, images, classes=names)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("cat.png", "not str: read_picture"),
        (Path("cat.png"), r"not \w+Path: read_picture"),
        (["cat.png"], "not str: read_picture"),
        (np.zeros((8, 8, 3), np.uint8), r"not ndarray: .*PIL\.Image\.fromarray\(array\) makes a picture"),
        ([np.zeros((8, 8, 3), np.uint8)], "not ndarray"),
        ({"pixel_values": torch.zeros(1, 3, 8, 8)}, "not dict"),
        ([Image.new("RGB", (8, 8)), None], "not NoneType"),
        ([Image.new("RGB", (8, 8)), torch.zeros(3, 8, 8)], "not Tensor"),
    ],
)
def test_what_is_no_picture(small_net, given, words):
    transform = get_weights("resnet18", "shapes").transforms()
    with pytest.raises(TypeError, match=f"predict takes PIL pictures or prepared tensors, {words}"):
        predict(small_net(), given, classes="abc", transform=transform)


@pytest.mark.parametrize(
    "given",
    [
        torch.zeros(8, 8),
        torch.zeros(1, 1, 3, 8, 8),
        torch.zeros(3, 8, 8, dtype=torch.uint8),
        [torch.zeros(3, 8, 8, dtype=torch.uint8)],
        torch.zeros(8),
    ],
)
def test_a_tensor_that_is_no_prepared_picture(small_net, given):
    with pytest.raises(ValueError, match=r"a prepared picture is a tensor of floats of shape \(3, height, width\), many have"):
        predict(small_net(), given, classes="abc")


def test_a_transform_that_ends_too_early(small_net):
    """Numbers up to 255 would go into the network without a word."""
    with pytest.raises(ValueError, match=r"a tensor of floats .* this makes a batch of torch\.uint8 and shape \(1, 3, 8, 8\)"):
        predict(small_net(), Image.new("RGB", (8, 8)), classes="abc", transform=v2.ToImage())


def test_a_model_whose_outputs_are_not_finite(small_net, batches):
    model = small_net()
    with torch.no_grad():
        model.fc.bias[0] = math.nan
    with pytest.raises(FloatingPointError, match="the model's outputs are not finite numbers"):
        predict(model, batches[0][0], classes="abc")


def test_predict_with_bad_input(small_net, batches):
    model, images = small_net(), batches[0][0]
    with pytest.raises(ValueError, match="the model has 3 outputs, but 2 class names were given"):
        predict(model, images, classes=("a", "b"))
    for k in (0, 4):
        with pytest.raises(ValueError, match=f"k={k}; choose 1 to 3, the number of classes"):
            predict(model, images, classes="abc", k=k)
    with pytest.raises(ValueError, match=r"PIL pictures need a transform; give the one from weights\.transforms"):
        predict(model, Image.new("RGB", (8, 8)), classes="abc")
    transform = get_weights("resnet18", "shapes").transforms()
    for prepared in (images, images[0], list(images)):
        with pytest.raises(ValueError, match="a tensor counts as prepared, so the transform would not be used; leave it out"):
            predict(model, prepared, classes="abc", transform=transform)
    for names in ({"a": 0, "b": 1, "c": 2}, {"a", "b", "c"}):
        with pytest.raises(TypeError, match=r"classes is a \w+; give a list of the names in the order of the model's outputs"):
            predict(model, images, classes=names)
    for k in (True, 1.0, "1"):
        with pytest.raises(ValueError, match=r"k=.*; choose 1 to 3"):
            predict(model, images, classes="abc", k=k)
    with pytest.raises(ValueError, match=r"16 outputs, .*\(its outputs have the shape \(8, 4, 2, 2\)\)"):
        predict(nn.Sequential(nn.Conv2d(3, 4, 3, stride=3)), images, classes="abcd")


# ------------------------------------------------------------------------------------------------------- schedulers


class Rates(torch.optim.SGD):
    """Notes the rate of every step."""

    def __init__(self, model: nn.Module, lr: float = 0.1):
        super().__init__(model.parameters(), lr=lr)
        self.used: list[float] = []

    def step(self, closure=None):
        self.used.append(self.param_groups[0]["lr"])
        return super().step(closure)


def test_a_scheduler_of_steps_and_one_of_epochs(small_net, batches):
    model = small_net()
    optimizer = Rates(model)
    warm_up = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, step / 4))
    fit(model, batches, batches, optimizer, epochs=2, step_scheduler=warm_up)
    assert optimizer.used == pytest.approx([0, 0.025, 0.05, 0.075, 0.1, 0.1])

    optimizer = Rates(model)
    halving = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    after = []
    fit(
        *(model, batches, batches, optimizer),
        epochs=2,
        epoch_scheduler=halving,
        after_epoch=lambda _: after.append(halving.get_last_lr()),
    )
    assert optimizer.used == pytest.approx([0.1] * 3 + [0.05] * 3)
    assert after == [[0.05], [0.025]], "it has spoken before after_epoch is called, so that what is saved there is complete"


def test_a_scheduler_of_torch_does_what_a_loop_by_hand_does(small_net, batches):
    torch.manual_seed(0)
    model = small_net()
    by_hand = train_mode(copy.deepcopy(model))
    optimizer, other = sgd(model), sgd(by_hand)
    options = {"max_lr": 0.1, "total_steps": 6}
    cycle, by_steps = (torch.optim.lr_scheduler.OneCycleLR(one, **options) for one in (optimizer, other))
    torch.manual_seed(1)
    for _ in range(2):
        for images, labels in batches:
            other.zero_grad()
            F.cross_entropy(by_hand(images), labels).backward()
            other.step()
            by_steps.step()
    torch.manual_seed(1)
    fit(model, batches, batches, optimizer, epochs=2, step_scheduler=cycle)
    assert states_are_equal(model, by_hand)


@pytest.mark.parametrize(("mode", "told"), [("min", "loss"), ("max", "accuracy")])
def test_a_plateau_is_told_what_val_says(small_net, batches, monkeypatch, mode, told):
    model, said = small_net(), []
    optimizer = sgd(model)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode=mode)
    monkeypatch.setattr(plateau, "step", said.append)
    history = fit(model, batches, batches, optimizer, epochs=2, epoch_scheduler=plateau)
    assert said == [getattr(epoch.val, told) for epoch in history]


def test_a_scheduler_of_a_single_epoch(small_net, batches):
    model = small_net()
    optimizer = Rates(model)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 0.5, total_iters=2)
    train_one_epoch(model, batches, optimizer, step_scheduler=schedule)
    assert optimizer.used == pytest.approx([0.05, 0.075, 0.1])


@pytest.mark.parametrize("name", ["step_scheduler", "epoch_scheduler"])
def test_a_scheduler_of_another_optimizer_would_change_nothing(small_net, batches, name):
    model = small_net()
    other = torch.optim.lr_scheduler.StepLR(sgd(model), 1)
    with pytest.raises(ValueError, match=f"{name} is made for another optimizer, so it would change nothing here"):
        fit(model, batches, batches, sgd(model), epochs=1, **{name: other})


@pytest.mark.parametrize("name", ["step_scheduler", "epoch_scheduler"])
@pytest.mark.parametrize("given", [torch.optim.lr_scheduler.StepLR, [], 0.1, lambda epoch: 0.1])
def test_what_is_no_scheduler(small_net, batches, name, given):
    model = small_net()
    with pytest.raises(TypeError, match=rf"{name} is one of torch\.optim\.lr_scheduler, such as StepLR\(optimizer, 5\), not"):
        fit(model, batches, batches, sgd(model), epochs=1, **{name: given})


def test_a_plateau_cannot_be_told_anything_after_a_step(small_net, batches):
    model = small_net()
    optimizer = sgd(model)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    for run in (
        lambda: fit(model, batches, batches, optimizer, epochs=1, step_scheduler=plateau),
        lambda: train_one_epoch(model, batches, optimizer, step_scheduler=plateau),
    ):
        with pytest.raises(ValueError, match="which is known once an epoch: give it as epoch_scheduler"):
            run()


# -------------------------------------------------------------------------------------------- the best, and the rest


def test_the_best_is_kept_as_the_docstring_says(small_net, batches):
    """In the end a ruinous rate spoils the model; what is loaded afterwards is the first epoch with the highest accuracy."""
    model, best = small_net(), {}
    optimizer = sgd(model)

    def keep_best(epoch):
        if epoch.val.accuracy > best.get("accuracy", -1):
            best.update(accuracy=epoch.val.accuracy, weights=copy.deepcopy(model.state_dict()))

    def ruin(number):
        optimizer.param_groups[0]["lr"] = 0.05 if number < 7 else 1e3

    history = fit(model, batches, batches, optimizer, epochs=8, before_epoch=ruin, after_epoch=keep_best)
    assert history[-1].val.accuracy < max(epoch.val.accuracy for epoch in history)
    model.load_state_dict(best["weights"])
    assert evaluate(model, batches).accuracy == max(epoch.val.accuracy for epoch in history)


def test_finished_epochs_are_not_trained_again(small_net, batches):
    model, numbers = small_net(), []
    history = fit(model, batches, batches, sgd(model), epochs=5, done=3, before_epoch=numbers.append)
    assert numbers == [epoch.number for epoch in history] == [4, 5]
    assert fit(model, batches, batches, sgd(model), epochs=5, done=5) == []
    assert fit(model, batches, batches, sgd(model), epochs=5, done=6) == []


def test_ctrl_c_counts_what_was_left_to_do(small_net, batches):
    model = small_net()
    with pytest.raises(KeyboardInterrupt, match="stopped by hand after 1 of 2 epochs") as caught:
        fit(model, batches, batches, sgd(model), epochs=5, done=3, after_epoch=lambda _: signal.raise_signal(signal.SIGINT))
    assert [epoch.number for epoch in caught.value.finished] == [4]
