"""What `tests/test_devices.py` shows with a stand-in, on a GPU; skipped where there is none."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from course_utils.devices import has_bfloat16, mixed_precision
from course_utils.finetune import freeze, unfreeze
from course_utils.fx_split import split_frozen
from course_utils.precomputed import precompute
from course_utils.train import evaluate, fit, train_one_epoch

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use")
ON = torch.device("cuda")


@contextmanager
def no_waiting() -> Iterator[None]:
    """Inside, torch raises an error where the processor waits for the GPU."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def sgd(model: nn.Module, lr: float = 0.05) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr, momentum=0.9)


def pinned(batches: list) -> list[tuple[Tensor, Tensor]]:
    return [(images.pin_memory(), labels.pin_memory()) for images, labels in batches]


LOSSES = {
    "class numbers": (lambda labels: labels, {}),
    "soft labels": (lambda labels: F.one_hot(labels, 3) * 0.7 + 0.1, {}),
    "several labels": (lambda labels: F.one_hot(labels, 3), {"loss_function": nn.BCEWithLogitsLoss()}),
}


@pytest.mark.parametrize("form", LOSSES)
@pytest.mark.parametrize("precision", ["float32", "auto"])
def test_an_epoch_waits_for_nothing(small_net, batches, form, precision):
    change, options = LOSSES[form]
    many = pinned([(images, change(labels)) for images, labels in batches] * 4)
    model = small_net().to(ON, memory_format=torch.channels_last)
    optimizer = sgd(model)
    with mixed_precision(model, precision):
        train_one_epoch(model, many, optimizer, **options)  # the first pass allocates
        with no_waiting():
            train_one_epoch(model, many, optimizer, **options)
            if not options:  # a loss of one's own is read once, at the end
                evaluate(model, many)


def test_losses_are_those_of_the_processor(small_net, batches):
    torch.manual_seed(0)
    model = small_net()
    for part in (model.layer1, model.layer2):
        part[3].p = 0.0  # dropout draws other numbers on a GPU
    other = copy.deepcopy(model).to(ON)
    wanted = fit(model, batches, batches, sgd(model), epochs=3)
    found = fit(other, pinned(batches), pinned(batches), sgd(other), epochs=3)
    for one, two in zip(wanted, found, strict=True):
        assert two.train == pytest.approx(one.train, rel=1e-2)
        assert two.val == pytest.approx(one.val, rel=1e-2)


def test_a_loss_that_is_not_finite_stops_before_the_step(small_net, batches):
    model = small_net().to(ON)
    images, labels = batches[1]
    spoilt = [batches[0], (images * math.nan, labels), batches[2]]
    with pytest.raises(FloatingPointError, match=r"the loss became nan in epoch 1/3, batch 2, at learning rate \[0\.25\]"):
        fit(model, spoilt, batches, sgd(model, 0.25), epochs=3)
    assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("half", [False, True])
def test_kept_features_live_there_and_no_batch_of_them_waits(small_net, batches, half):
    pictures = TensorDataset(*(torch.cat(parts) for parts in zip(*batches, strict=True)))
    model = freeze(small_net()).to(ON)
    unfreeze(model.fc)
    frozen, learning = split_frozen(model)
    kept = precompute(frozen, DataLoader(pictures, 7, pin_memory=True), half=half, cache=None)
    assert all(part.is_cuda for part in kept.dataset.parts)
    assert not kept.dataset.labels.is_cuda
    optimizer = sgd(learning)
    fit(learning, kept, kept, optimizer, epochs=3)
    features = DataLoader(kept.dataset, batch_sampler=kept.batch_sampler, collate_fn=kept.collate_fn)
    with no_waiting():  # the model is looked at once an epoch by `kept` itself, which waits
        train_one_epoch(learning, features, optimizer)
    assert torch.equal(copy.deepcopy(kept.dataset).parts[0], kept.dataset.parts[0].cpu())


def test_a_training_in_bfloat16(small_net, batches):
    if not has_bfloat16(ON):
        pytest.skip("this GPU does not compute in bfloat16")
    model = small_net(width=8).to(ON)
    with mixed_precision(model):
        assert model(batches[0][0].to(ON)).dtype == torch.bfloat16
        history = fit(model, pinned(batches), pinned(batches), sgd(model), epochs=30)
    assert history[-1].val.accuracy > 0.9
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32, torch.int64}
