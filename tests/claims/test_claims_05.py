"""Lesson 05: VGG16's parts, heads on kept features, and phase two from the output of block 4."""

from functools import cache

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

from course_utils import eval_mode, evaluate, freeze, get_weights, load_model, pictures, replace_head, train_one_epoch, unfreeze

pytestmark = pytest.mark.claim
SEEDS = range(5)


# ------------------------------------------------------------------------------------------------------ exact facts


def multiplications(name, pixels):
    with torch.device("meta"):
        model, image = models.get_model(name).eval(), torch.empty(1, 3, pixels, pixels)
    with FlopCounterMode(display=False) as counter:
        model(image)
    return counter.get_total_flops()


@pytest.mark.parametrize("pixels", [64, 224])
def test_vgg16_multiplies_about_nine_times_as_much_as_resnet18(pixels):
    assert 8.4 < multiplications("vgg16", pixels) / multiplications("resnet18", pixels) < 9.4


def test_most_of_the_work_is_in_blocks_1_to_4():
    with torch.device("meta"):
        blocks, image = models.vgg16().features[:24].eval(), torch.empty(1, 3, 64, 64)
    with FlopCounterMode(display=False) as counter:
        blocks(image)
    assert counter.get_total_flops() / multiplications("vgg16", 64) > 0.8


def test_how_many_values_there_are():
    with torch.device("meta"):
        model = models.vgg16(num_classes=10)
    size = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_modules()}
    assert (size[""], size["classifier"], size["classifier.6"]) == (134_301_514, 119_586_826, 40_970)
    assert size["classifier"] / size[""] > 0.89
    assert sum(p.numel() for p in model.features[24:].parameters()) == 7_079_424


# ------------------------------------------------------------------------------------------------------- five seeds


def things(per_class, seed):
    images, labels = pictures("things", per_class, seed)
    return get_weights("vgg16", "shapes").transforms()(torch.from_numpy(images).permute(0, 3, 1, 2)), torch.from_numpy(labels)


def keep(part, inputs):
    with eval_mode(part), torch.no_grad():
        return torch.cat([part(batch) for batch in inputs.split(32)])


def loader(features, labels, shuffle=False):
    return DataLoader(TensorDataset(features, labels), 32, shuffle=shuffle)


def learn(part, features, labels, lr, epochs=10):
    optimizer = torch.optim.SGD([p for p in part.parameters() if p.requires_grad], lr=lr, momentum=0.9)
    batches = loader(features, labels, shuffle=True)
    for _ in range(epochs):
        train_one_epoch(part, batches, optimizer)


def pool_into(linear):
    """`avgpool`, flatten and `linear` as one layer for maps of 2×2: the same function, with a twelfth of the work."""
    spread = nn.AdaptiveAvgPool2d(7)(torch.eye(4).view(4, 1, 2, 2)).flatten(1)
    small = nn.Linear(2048, linear.out_features)
    small.weight = nn.Parameter((linear.weight.detach().view(-1, 512, 49) @ spread.T).flatten(1))
    small.bias = linear.bias
    return freeze(small)


@cache
def run(seed):
    """What the lesson does, on pictures, initial values and orders of this seed."""
    torch.manual_seed(seed)
    model = freeze(replace_head(load_model("vgg16"), 6))
    block5, classifier = model.features[24:], nn.Sequential(pool_into(model.classifier[0]), *model.classifier[1:])
    (images, labels), (val_images, val_labels) = things(20, seed), things(20, 100 + seed)
    block4, val4 = keep(model.features[:24], images), keep(model.features[:24], val_images)
    front = nn.Sequential(block5, nn.Flatten(), *classifier[:2])  # up to the first dropout, as split_frozen cuts it
    pooled = nn.Sequential(block5, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    own, head, tail = nn.Linear(512, 6), classifier[2:], nn.Sequential(block5, nn.Flatten(), classifier)
    unfreeze(classifier[6])
    learn(own, keep(pooled, block4), labels, lr=0.03)
    learn(head, keep(front, block4), labels, lr=0.005)
    bank = keep(front, val4)
    found = {"pooled": evaluate(own, loader(keep(pooled, val4), val_labels))}
    found["one"] = evaluate(head, loader(bank, val_labels))
    unfreeze(block5)
    learn(tail, block4, labels, lr=0.001, epochs=5)
    found["two"], found["stale"] = evaluate(tail, loader(val4, val_labels)), evaluate(head, loader(bank, val_labels))
    found["fresh"] = evaluate(model, loader(val_images[:24], val_labels[:24]))
    found["kept"] = evaluate(tail, loader(val4[:24], val_labels[:24]))
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_the_two_cheap_heads_are_within_ten_points(seed):
    found = run(seed)
    assert min(found["one"].accuracy, found["pooled"].accuracy) > 0.75
    assert abs(found["one"].accuracy - found["pooled"].accuracy) < 0.1


@pytest.mark.parametrize("seed", SEEDS)
def test_phase_two_lowers_the_loss_and_does_not_cost_accuracy(seed):
    found = run(seed)
    assert found["two"].loss < 0.9 * found["one"].loss
    assert found["two"].accuracy >= found["one"].accuracy - 0.03


@pytest.mark.parametrize("seed", SEEDS)
def test_the_features_of_phase_two_are_right_and_those_of_phase_one_are_stale(seed):
    found = run(seed)
    assert found["kept"].loss == pytest.approx(found["fresh"].loss, abs=1e-4)
    assert found["stale"].loss - found["two"].loss > 0.03


def untrained_features(seed):
    """VGG16's features with the initial values that torchvision gives them."""
    torch.manual_seed(seed)
    features = models.vgg.make_layers(models.vgg.cfgs["D"])
    for layer in features:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize("seed", SEEDS)
def test_a_head_on_an_untrained_vgg16_stays_close_to_guessing(seed):
    (images, labels), (val_images, val_labels) = things(10, seed), things(10, 100 + seed)
    body = untrained_features(seed)
    train, val = keep(body, images), keep(body, val_images)
    scale = 0.25 / train.std(0).mean()  # as large as the trained ones, so that the same rate is fair
    torch.manual_seed(seed)
    head = nn.Linear(512, 6)
    learn(head, train * scale, labels, lr=0.03)
    assert evaluate(head, loader(val * scale, val_labels)).accuracy < 0.4
