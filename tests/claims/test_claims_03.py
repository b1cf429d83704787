"""Lesson 03: what training mode does to a frozen backbone, by day and at night, for the old task and for the new one."""

from functools import cache
from statistics import mean

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_utils import eval_mode, get_weights, load_model, pictures, replace_head, train_mode

pytestmark = pytest.mark.claim
SEEDS = range(5)
BATCH = 32
OLD_TASK = 3  # pictures of each of 24 shapes


@cache
def tensors(world, per_class, seed, brightness=1.0):
    images, labels = pictures(world, per_class, seed)
    dimmed = torch.from_numpy(images).permute(0, 3, 1, 2).float().mul(brightness).to(torch.uint8)
    return get_weights("resnet18", "shapes").transforms()(dimmed), torch.from_numpy(labels)


def new_pictures(seed, brightness):
    """Pictures and labels to learn from, and others to try."""
    return *tensors("things", 20, seed, brightness), *tensors("things", 20, 500_000 + seed, brightness)


def frozen():
    return load_model("resnet18", weights="shapes").requires_grad_(False)


def features(model, images):
    """What the backbone makes of `images` in evaluation mode."""
    head, model.fc = model.fc, nn.Identity()
    with eval_mode(model), torch.no_grad():
        found = torch.cat([model(part) for part in images.split(BATCH)])
    model.fc = head
    return found


def share_right(head, found, labels):
    with torch.no_grad():
        return (head(found).argmax(1) == labels).float().mean().item()


@cache
def old_answers(seed):
    return features(frozen(), tensors("shapes", OLD_TASK, 1_000_000 + seed)[0])


def old_kept(model, seed):
    """The share of old answers that the old head still gives on top of `model`."""
    head, after = frozen().fc, features(model, tensors("shapes", OLD_TASK, 1_000_000 + seed)[0])
    return (head(after).argmax(1) == head(old_answers(seed)).argmax(1)).float().mean().item()


def train(parameters, answer, labels, seed, epochs, **options):
    """Yields after each epoch; `answer` gives the logits for the rows of a batch."""
    optimizer = torch.optim.Adam(parameters, lr=0.01) if not options else torch.optim.SGD(parameters, **options)
    torch.manual_seed(seed)
    for _ in range(epochs):
        for rows in torch.randperm(len(labels)).split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(answer(rows), labels[rows]).backward()
            optimizer.step()
        yield


@cache
def still(seed, brightness, adapted=False):
    """Accuracy on the new task after each of sixty epochs, with a backbone that stands still."""
    images, labels, others, their_labels = new_pictures(seed, brightness)
    model = adapt(seed, brightness) if adapted else frozen()
    found, theirs = features(model, images), features(model, others)
    torch.manual_seed(seed)
    head = nn.Linear(512, 6)
    return [
        share_right(head, theirs, their_labels)
        for _ in train(head.parameters(), lambda rows: head(found[rows]), labels, seed, 60)
    ]


@cache
def adapt(seed, brightness):
    """A backbone whose statistics are the means over the new pictures."""
    model = frozen().train()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None
    with torch.no_grad():
        for batch in new_pictures(seed, brightness)[0].split(BATCH):
            model(batch)
    return model.eval()


@cache
def drifting(seed, brightness):
    """The model after five epochs of its new head in training mode, and its accuracy on the new task."""
    images, labels, others, their_labels = new_pictures(seed, brightness)
    model = frozen()
    torch.manual_seed(seed)
    head = model.fc = nn.Linear(512, 6)
    for _ in train(head.parameters(), lambda rows: model.train()(images[rows]), labels, seed, 5):
        pass
    return model, share_right(head, features(model, others), their_labels)


def test_at_night_training_mode_loses_the_old_task_and_wins_the_new_one():
    kept = [old_kept(drifting(seed, 0.3)[0], seed) for seed in SEEDS]
    ahead = [drifting(seed, 0.3)[1] - still(seed, 0.3)[4] for seed in SEEDS]
    assert max(kept) < 0.75, kept  # measured: 0.65 to 0.72
    assert min(ahead) > 0, ahead  # measured on 13 sets: 0.08 to 0.43
    assert mean(ahead) > 0.1, ahead


def test_at_night_evaluation_mode_is_behind_the_adapted_backbone_after_sixty_epochs():
    ahead = [still(seed, 0.3, adapted=True)[-1] - still(seed, 0.3)[-1] for seed in SEEDS]
    assert min(ahead) > 0.05, ahead


def test_by_day_the_modes_stay_close():
    ahead = [drifting(seed, 1.0)[1] - still(seed, 1.0)[4] for seed in SEEDS]
    assert max(map(abs, ahead)) < 0.1, ahead  # measured: -0.02 to 0.07


def test_adapting_once_does_as_well_as_drifting():
    ahead = [still(seed, 0.3, adapted=True)[4] - drifting(seed, 0.3)[1] for seed in SEEDS]
    assert min(ahead) > -0.03, ahead  # measured: 0.01 to 0.10


def after_one_epoch(seed, parts):
    """Accuracy on other pictures when what has one of `parts` in its name learns."""
    images, labels, others, their_labels = new_pictures(seed, 1.0)
    torch.manual_seed(seed)
    model = replace_head(frozen(), 6)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = any(part in name for part in parts)
    found, theirs = before_layer4(seed)
    above = nn.Sequential(model.layer4, model.avgpool, nn.Flatten(), model.fc)
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for _ in train(learning, lambda rows: train_mode(above)(found[rows]), labels, seed, 1, lr=0.01, momentum=0.9):
        above.eval()
    return share_right(above, theirs, their_labels)


@cache
def before_layer4(seed):
    images, _, others, _ = new_pictures(seed, 1.0)
    below = nn.Sequential(*list(frozen().children())[:7]).eval()
    with torch.no_grad():
        return below(images), below(others)


def test_a_head_that_stays_random_costs_much_in_the_first_epoch():
    ahead = [after_one_epoch(seed, ("layer4", "fc")) - after_one_epoch(seed, ("layer4",)) for seed in SEEDS]
    assert min(ahead) > 0, ahead  # measured on 13 sets: 0.02 to 0.37
    assert mean(ahead) > 0.1, ahead
