"""Checkpoints: a training that was stopped ends with the weights of one that was not, and a file that does not fit says so."""

from __future__ import annotations

import pickle
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, lr_scheduler
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2

from course_utils import fit, freeze, load_checkpoint, precompute, save_checkpoint, save_model, split_frozen, unfreeze
from course_utils.images import InMemory
from course_utils.rng import rng_state, same_rng_state
from course_utils.weights import get_weights

EPOCHS = 5
SCHEDULERS = {
    "none": lambda optimizer: {},
    "warm-up from 0": lambda optimizer: {
        "step_scheduler": lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 7)),
    },
    "one cycle": lambda optimizer: {"step_scheduler": lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=EPOCHS * 3)},
    "several": lambda optimizer: {
        "step_scheduler": lr_scheduler.SequentialLR(
            optimizer,
            [lr_scheduler.LinearLR(optimizer, 0.1, total_iters=4), lr_scheduler.CosineAnnealingLR(optimizer, 11)],
            [4],
        )
    },
    "plateau": lambda optimizer: {"epoch_scheduler": lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=10)},
    "milestones": lambda optimizer: {"epoch_scheduler": lr_scheduler.MultiStepLR(optimizer, [1, 3])},
}
OPTIMIZERS = {
    "sgd": lambda parameters: SGD(parameters, lr=0.05, momentum=0.9),
    "adam": lambda parameters: Adam(parameters, lr=0.01),
}


class Training:
    """What a program sets up: the small network, half of it frozen, its optimizer and schedulers, a shuffled loader."""

    def __init__(self, small_net, batches, optimizer="adam", scheduler="none", generator=True):
        torch.manual_seed(4)
        self.model = small_net()
        freeze(self.model.conv1)
        freeze(self.model.bn1)
        self.optimizer = OPTIMIZERS[optimizer]([p for p in self.model.parameters() if p.requires_grad])
        self.options = SCHEDULERS[scheduler](self.optimizer)
        images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
        own = torch.Generator().manual_seed(3) if generator else None
        self.loader = DataLoader(TensorDataset(images, labels), 8, shuffle=True, generator=own)
        self.parts = (self.model, self.optimizer, *self.options.values())

    def fit(self, **options):
        return fit(self.model, self.loader, self.loader, self.optimizer, epochs=EPOCHS, **self.options, **options)

    def save(self, path, done):
        return save_checkpoint(path, *self.parts, done=done, loader=self.loader)

    def load(self, path):
        return load_checkpoint(path, *self.parts, loader=self.loader)


def bytes_of(training: Training) -> bytes:
    state = [*training.model.state_dict().values()]
    kept = [value for one in training.optimizer.state_dict()["state"].values() for value in one.values()]
    return pickle.dumps([value.tolist() if isinstance(value, torch.Tensor) else value for value in (*state, *kept)])


class Stopped(Exception):
    pass


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_stopped_training_ends_like_one_that_was_not(small_net, batches, tmp_path, optimizer, scheduler):
    """Dropout, the order of the pictures, the memory of the optimizer, the rates: to the same bytes."""
    whole = Training(small_net, batches, optimizer, scheduler)
    torch.manual_seed(8)
    history = whole.fit()

    stopped = Training(small_net, batches, optimizer, scheduler)
    path = tmp_path / "phase.pt"

    def keep(epoch):
        stopped.save(path, epoch.number)
        if epoch.number == 2:
            raise Stopped

    torch.manual_seed(8)
    with pytest.raises(Stopped):
        stopped.fit(after_epoch=keep)

    torch.manual_seed(99)  # another program
    torch.rand(3), random.random(), np.random.rand()
    again = Training(small_net, batches, optimizer, scheduler)
    for parameter in again.model.parameters():
        nn.init.zeros_(parameter)
    done = again.load(path)
    assert done == 2
    numbers: list[int] = []
    rest = again.fit(done=done, before_epoch=numbers.append)
    assert numbers == [3, 4, 5]
    assert [(one.number, one.train, one.val) for one in rest] == [(one.number, one.train, one.val) for one in history[2:]]
    assert bytes_of(again) == bytes_of(whole)
    assert [group["lr"] for group in again.optimizer.param_groups] == [group["lr"] for group in whole.optimizer.param_groups]


@pytest.mark.parametrize("generator", [True, False])
def test_every_random_number_goes_on(small_net, batches, tmp_path, generator):
    training = Training(small_net, batches, generator=generator)
    random.random(), np.random.randn(), torch.rand(2)  # randn: numpy keeps a second number for later
    training.save(tmp_path / "p", 1)
    state, wanted = (
        rng_state(),
        [random.random(), np.random.randn(), float(torch.rand(())), next(iter(training.loader))[1].tolist()],
    )
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    again = Training(small_net, batches, generator=generator)
    again.load(tmp_path / "p")
    assert same_rng_state(state, rng_state())
    assert wanted == [random.random(), np.random.randn(), float(torch.rand(())), next(iter(again.loader))[1].tolist()]


def test_views_of_kept_features_go_on(small_net, tmp_path):
    images = InMemory([torch.randn(3, 8, 8) for _ in range(12)], [i % 3 for i in range(12)], v2.RandomHorizontalFlip())
    model = freeze(small_net())
    unfreeze(model.fc)
    frozen, learning = split_frozen(model)
    kept = precompute(frozen, DataLoader(images, 6), views=4, cache=None)
    optimizer = SGD(learning.parameters(), lr=0.1)
    next(iter(kept))
    save_checkpoint(tmp_path / "p", learning, optimizer, done=1, loader=kept)
    wanted = next(iter(kept))[0]
    kept.dataset.epoch = 0
    load_checkpoint(tmp_path / "p", learning, optimizer, loader=kept)
    assert torch.equal(next(iter(kept))[0], wanted)


def test_a_finished_training_has_nothing_left_to_do(small_net, batches, tmp_path):
    training = Training(small_net, batches)
    training.fit()
    training.save(tmp_path / "p", EPOCHS)
    before = bytes_of(training)
    assert training.fit(done=training.load(tmp_path / "p")) == []
    assert bytes_of(training) == before


# ------------------------------------------------------------------------------------------------------------ the file


def test_it_is_written_whole_or_not_at_all(small_net, batches, tmp_path, monkeypatch):
    training = Training(small_net, batches)
    path = training.save(tmp_path / "phase.pt", 1)
    training.fit()

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space left"):
            training.save(path, 5)
    assert [one.name for one in tmp_path.iterdir()] == ["phase.pt"]
    assert training.load(path) == 1


def test_reading_it_runs_no_code(small_net, batches, tmp_path):
    training = Training(small_net, batches)

    class Command:
        def __reduce__(self):
            return print, ("a command was run",)

    torch.save({"form": Command()}, tmp_path / "p")
    with pytest.raises(ValueError, match=r"p is damaged or no checkpoint \(UnpicklingError\)"):
        training.load(tmp_path / "p")


def test_what_is_no_checkpoint(small_net, batches, tmp_path):
    training = Training(small_net, batches)
    path = training.save(tmp_path / "p", 1)
    path.write_bytes(path.read_bytes()[:-2000])
    (tmp_path / "text").write_text("weights")
    torch.save(training.model.state_dict(), tmp_path / "weights")
    for name, words in {
        "p": "damaged or no checkpoint",
        "text": "damaged or no",
        "weights": "weights alone are loaded by",
    }.items():
        with pytest.raises(ValueError, match=words):
            training.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        training.load(tmp_path / "none")


def test_a_saved_model_is_no_checkpoint(tmp_path, small_net, batches):
    from course_utils import load_model

    transform = get_weights("resnet18", "shapes").transforms()
    names = [str(i) for i in range(24)]
    save_model(
        load_model("resnet18", weights="shapes"), tmp_path / "m", architecture="resnet18", classes=names, transform=transform
    )
    with pytest.raises(ValueError, match="a file of save_model is for open_model"):
        Training(small_net, batches).load(tmp_path / "m")


def test_what_a_file_cannot_keep(small_net, batches, tmp_path):
    class Slow:
        def __init__(self):
            self.since = object()

        def __call__(self, epoch):
            return 1.0

    training = Training(small_net, batches)
    scheduler = lr_scheduler.LambdaLR(training.optimizer, Slow())
    with pytest.raises(
        ValueError, match="a scheduler holds something that a checkpoint cannot keep, such as an object of a class"
    ):
        save_checkpoint(tmp_path / "p", training.model, training.optimizer, scheduler, done=1)
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("done", [-1, 1.5, True, "2"])
def test_done_is_a_number_of_epochs(small_net, batches, tmp_path, done):
    training = Training(small_net, batches)
    for run in (lambda: training.save(tmp_path / "p", done), lambda: training.fit(done=done)):
        with pytest.raises(ValueError, match=r"done=.*; give the number of epochs that are finished"):
            run()


# --------------------------------------------------------------------------------------------------- what does not fit


def changed(what, small_net, batches) -> Training:
    training = Training(small_net, batches, scheduler="milestones")
    model, free = training.model, [p for p in training.model.parameters() if p.requires_grad]
    scheduler = training.parts[2]
    if what == "more learns":
        unfreeze(model.bn1)
    elif what == "less learns":
        freeze(model.layer1)
    elif what == "another optimizer":
        training.parts = (model, AdamW(free, lr=0.01), scheduler)
    elif what == "fewer parameters":
        training.parts = (model, Adam(free[2:], lr=0.01), scheduler)
    elif what == "other groups":
        training.parts = (model, Adam([{"params": free[:2]}, {"params": free[2:]}], lr=0.01), scheduler)
    elif what == "another order":
        training.parts = (model, Adam(free[::-1], lr=0.01), scheduler)
    elif what == "an old model's parameters":
        training.parts = (model, Adam([nn.Parameter(torch.zeros_like(p)) for p in free], lr=0.01), scheduler)
    elif what == "another head":
        model.fc = nn.Linear(8, 5)
    elif what == "another precision":
        model.half()
    elif what == "another scheduler":
        training.parts = (model, training.optimizer, lr_scheduler.StepLR(training.optimizer, 2))
    elif what == "no scheduler":
        training.parts = (model, training.optimizer)
    elif what == "another loader":
        training.loader = DataLoader(training.loader.dataset, 8, shuffle=True)
    elif what == "no loader":
        training.loader = None
    return training


MISFITS = {
    "more learns": r"'bn1\.weight' was frozen when it was saved and learns now; build the model, freeze it",
    "less learns": r"'layer1\.0\.weight' learnt when it was saved and is frozen now",
    "another optimizer": "the optimizer was Adam when it was saved and is AdamW now; build the model",
    "fewer parameters": r"held 10 parameters from 'layer1\.0\.weight' on when it was saved and holds 8 parameters",
    "other groups": r"holds 2 parameters from 'layer1\.0\.weight' on and 8 parameters from 'layer1\.1\.weight' on now",
    "another order": r"holds 10 parameters from 'fc\.bias' on now",
    "an old model's parameters": "holds 10 parameters from 'something else' on now",
    "another head": r"the model in .* does not fit: 2 tensors differ, such as 'fc\.weight', \(3, 8\) given and \(5, 8\) needed",
    "another precision": r"'conv1\.weight' was torch\.float32 when it was saved and is torch\.float16 now; build the model",
    "another scheduler": r"the schedulers was \['MultiStepLR'\] when it was saved and is \['StepLR'\] now",
    "no scheduler": r"the schedulers was \['MultiStepLR'\] when it was saved and is \[\] now",
    "another loader": "was saved with a loader with 1 generator.* of its own, and now there is a loader with 0",
    "no loader": r"was saved with a loader with 1 generator.* of its own, and now there is no loader; give loader=… both",
}


@pytest.mark.parametrize("what", MISFITS)
def test_what_does_not_fit_is_named_and_changes_nothing(small_net, batches, tmp_path, what):
    saved = Training(small_net, batches, scheduler="milestones")
    saved.fit()
    saved.save(tmp_path / "p", 5)
    training = changed(what, small_net, batches)
    before, drawn = bytes_of(training), rng_state()
    with pytest.raises(ValueError, match=MISFITS[what]):
        training.load(tmp_path / "p")
    assert bytes_of(training) == before
    assert same_rng_state(drawn, rng_state())
