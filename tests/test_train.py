"""The loop: it does what a loop written by hand does, twice the same, and stops with words when it cannot."""

from __future__ import annotations

import math
import re
from collections import namedtuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from course_utils.data import open_data
from course_utils.finetune import freeze
from course_utils.models import load_model, replace_head
from course_utils.profiles import settings
from course_utils.train import Epoch, Score, cross_entropy, evaluate, fit, predict, train_one_epoch
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


Outputs = namedtuple("Outputs", ["logits", "aux_logits"])


class WithAuxiliary(nn.Module):
    """As inception does: two sets of logits while training, one afterwards."""

    def __init__(self):
        super().__init__()
        self.fc, self.aux = nn.Linear(192, 3), nn.Linear(192, 3)

    def forward(self, images):
        x = images.flatten(1)
        return Outputs(self.fc(x), self.aux(x)) if self.training else self.fc(x)


def test_auxiliary_logits_count_a_little(batches):
    model = WithAuxiliary()
    images, labels = batches[0]
    loss = cross_entropy(model.train()(images), labels)
    x = images.flatten(1)
    assert torch.allclose(loss, F.cross_entropy(model.fc(x), labels) + 0.4 * F.cross_entropy(model.aux(x), labels))
    assert torch.equal(cross_entropy(Outputs(model.fc(x), None), labels), F.cross_entropy(model.fc(x), labels))
    history = fit(model, batches, batches, sgd(model, 0.01), epochs=2)
    assert 0 < history[-1].train.accuracy <= 1


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


def test_interrupted_by_hand_it_returns_what_was_learnt(small_net, batches, capsys):
    model = small_net()

    def stop(epoch: Epoch) -> None:
        if epoch.number == 2:
            raise KeyboardInterrupt

    history = fit(model, batches, batches, sgd(model), epochs=9, after_epoch=stop)
    assert [epoch.number for epoch in history] == [1, 2]
    assert "stopped by hand after 2 of 9 epochs; the model keeps what it has learnt" in capsys.readouterr().err


def test_interrupted_in_the_first_epoch(small_net, batches):
    def interrupted():
        yield batches[0]
        raise KeyboardInterrupt

    model = small_net()
    before = model.fc.weight.clone()
    assert fit(model, interrupted(), batches, sgd(model), epochs=3) == []
    assert not torch.equal(model.fc.weight, before)


def test_the_progress_bar_is_plain_text_with_loss_and_speed(small_net, batches, capsys, monkeypatch):
    always = {"delay": 0, "mininterval": 0, "disable": False}
    monkeypatch.setattr("course_utils.train.tqdm", lambda *args, **options: tqdm(*args, **options | always))
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


@pytest.mark.parametrize("lr", [0.0, -0.1, math.nan, math.inf])
def test_a_rate_that_is_no_rate(small_net, batches, lr):
    model = small_net()
    optimizer = sgd(model)
    optimizer.param_groups[0]["lr"] = lr  # some optimizers refuse a few of these themselves, none of them all
    with pytest.raises(ValueError, match=r"a learning rate is a positive number, not .*; common ones lie between"):
        fit(model, batches, batches, optimizer, epochs=1)


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


def test_predict_with_bad_input(small_net, batches):
    model, images = small_net(), batches[0][0]
    with pytest.raises(ValueError, match="the model has 3 outputs, but 2 class names were given"):
        predict(model, images, classes=("a", "b"))
    for k in (0, 4):
        with pytest.raises(ValueError, match=f"k={k}; choose 1 to 3, the number of classes"):
            predict(model, images, classes="abc", k=k)
    with pytest.raises(ValueError, match=r"PIL pictures need a transform; give the one from weights\.transforms"):
        predict(model, Image.new("RGB", (8, 8)), classes="abc")
