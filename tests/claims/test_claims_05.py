"""Lesson 05: what VGG16's features know, which of its layers never learned, where to cut, and how outdated features look."""

import copy
from functools import cache
from statistics import mean

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchvision import models

from course_utils import (
    eval_mode,
    evaluate,
    freeze,
    get_weights,
    load_model,
    pictures,
    precompute,
    split_frozen,
    sweep,
    train_one_epoch,
    unfreeze,
)

pytestmark = pytest.mark.claim
SEEDS = range(5)
each_seed = pytest.mark.parametrize("seed", SEEDS)
RATES = (0.003, 0.01, 0.03, 0.1, 0.3)
ENDS = {"block 1": (0, 5), "block 2": (5, 10), "block 3": (10, 17), "block 4": (17, 24), "block 5": (24, 31)}


@cache
def vgg():
    return freeze(load_model("vgg16"))


# ------------------------------------------------------------------------------------------------- weights, and the cut


def test_three_of_sixteen_layers_were_never_trained_and_hold_nearly_nine_tenths():
    layers = {name: layer for name, layer in vgg().named_modules() if hasattr(layer, "weight")}
    never = {name: layer for name, layer in layers.items() if not layer.bias.any()}
    assert (len(layers), list(never)) == (16, ["classifier.0", "classifier.3", "classifier.6"])
    assert all(layer.weight.std().item() == pytest.approx(0.01, rel=0.01) for layer in never.values())
    counts = [sum(layer.weight.numel() for layer in some.values()) for some in (never, layers)]
    assert 0.88 < counts[0] / counts[1] < 0.9


@each_seed
def test_cached_features_give_the_same_losses(seed):
    torch.manual_seed(seed)
    model = shared_model()
    images, labels = things(2, seed)
    few = DataLoader(TensorDataset(images, labels), 6)
    start, losses = nn.Linear(4096, 6).state_dict(), []
    for part, batches in ((model, few), (parts()[1], precompute(parts()[0], few, cache=None))):
        model.classifier[6].load_state_dict(start)
        torch.manual_seed(seed)
        optimizer = torch.optim.SGD(model.classifier[6].parameters(), lr=0.01)
        losses += [[train_one_epoch(part, batches, optimizer).loss for _ in range(2)]]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


@cache
def shared_model():
    model = vgg()
    model.classifier[6] = nn.Linear(4096, 6)
    return model


@cache
def parts():
    frozen, learning = split_frozen(shared_model())
    assert [name for name, _ in learning.classifier.named_children()] == ["2", "3", "4", "5", "6"]
    return frozen, learning


# ------------------------------------------------------------------------------------------------------- five seeds


def things(per_class, seed):
    images, labels = pictures("things", per_class, seed)
    return get_weights("vgg16", "shapes").transforms()(torch.from_numpy(images).permute(0, 3, 1, 2)), torch.from_numpy(labels)


def keep(part, inputs):
    with eval_mode(part), torch.no_grad():
        return torch.cat([part(batch) for batch in inputs.split(32)])


def loader(rows, labels, shuffle=False):
    return DataLoader(TensorDataset(rows, labels), 32, shuffle=shuffle, generator=torch.Generator())


@cache
def drawn(seed):
    """Pictures of train, val and test, and their labels."""
    return list(zip(*(things(*one) for one in ((20, seed), (15, 100 + seed), (30, 200 + seed))), strict=True))


@cache
def maps_of(seed):
    found, maps = {}, drawn(seed)[0]
    for name, (first, end) in ENDS.items():
        found[name] = maps = [keep(vgg().features[first:end], some) for some in maps]
    return found


def pooled(maps):
    return [F.adaptive_avg_pool2d(some, 2).flatten(1) for some in maps]


def by_neighbour(kept, labels):
    known, new = (rows.flatten(1) for rows in kept[:2])
    return (labels[0][torch.cdist(new, known).argmin(1)] == labels[1]).float().mean().item()


def accuracies(kept, labels, split, rates):
    """By rate the accuracy of a linear head on the pictures of `split`, the mean of three."""
    batches = loader(kept[0], labels[0], shuffle=True), loader(kept[split], labels[split])
    rows = sweep(lambda _: nn.Linear(kept[0].shape[1], 6), *batches, rates=rates, seeds=range(3), epochs=10)
    return {rate: mean(row["val"] for row in rows if row["lr"] == rate) for rate in rates}


def head_on(kept, labels):
    """Accuracy on val and on test at the rate that is best on val."""
    on_val = accuracies(kept, labels, 1, RATES)
    best = max(on_val, key=on_val.__getitem__)
    return on_val[best], accuracies(kept, labels, 2, [best])[best]


@cache
def heads_of(seed):
    return {name: head_on(pooled(maps), drawn(seed)[1]) for name, maps in maps_of(seed).items()}


@each_seed
def test_neighbours_by_trained_features_show_the_same_thing(seed):
    images, labels = drawn(seed)
    torch.manual_seed(seed)
    stranger = models.vgg.make_layers(models.vgg.cfgs["D"])
    for layer in stranger:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    assert by_neighbour(maps_of(seed)["block 5"], labels) > 0.85
    assert by_neighbour(images, labels) < 0.4
    half = [keep(stranger, some[::2]) for some in images[:2]], [some[::2] for some in labels]
    assert by_neighbour(*half) < 0.5


@each_seed
def test_val_chooses_to_cut_behind_block_4(seed):
    heads = heads_of(seed)
    assert max(heads, key=lambda name: heads[name][0]) == "block 4"
    assert heads["block 4"][1] > 0.88
    assert heads["block 1"][0] < 0.6


def test_block_4_is_ahead_of_block_5_on_test_too_in_four_of_five():
    ahead = [heads_of(seed)["block 4"][1] - heads_of(seed)["block 5"][1] for seed in SEEDS]
    assert sum(one > 0 for one in ahead) >= 4
    assert mean(ahead) > 0.02


@each_seed
def test_two_random_layers_change_little_and_averaging_costs(seed):
    labels, maps = drawn(seed)[1], maps_of(seed)["block 5"]
    behind = nn.Sequential(vgg().avgpool, nn.Flatten(), vgg().classifier[:6])
    random, average, every = (
        head_on(kept, labels)[1]
        for kept in ([keep(behind, some) for some in maps], [m.mean((2, 3)) for m in maps], pooled(maps))
    )
    assert abs(random - every) < 0.05
    assert every - average > 0.01


@each_seed
def test_an_outdated_bank_is_off_by_little(seed):
    """A head on block 5, then both learn for five epochs: the accuracy on the features from before beside that on new ones."""
    torch.manual_seed(seed)
    labels, block4, block5 = drawn(seed)[1], maps_of(seed)["block 4"], copy.deepcopy(vgg().features[24:])
    head, bank = nn.Linear(2048, 6), pooled(maps_of(seed)["block 5"])
    optimizer = torch.optim.SGD(head.parameters(), lr=0.01, momentum=0.9)
    for _ in range(10):
        train_one_epoch(head, loader(bank[0], labels[0], shuffle=True), optimizer)
    both = nn.Sequential(unfreeze(block5), nn.Flatten(), head)
    optimizer = torch.optim.SGD(both.parameters(), lr=0.001, momentum=0.9)
    for _ in range(5):
        train_one_epoch(both, loader(block4[0], labels[0], shuffle=True), optimizer)
    fresh, old = (evaluate(part, loader(rows[1], labels[1])).accuracy for part, rows in ((both, block4), (head, bank)))
    assert abs(fresh - old) < 0.035  # three pictures of 90
