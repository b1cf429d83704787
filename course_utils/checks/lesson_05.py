"""Checks of lesson 05, VGG16: which layers there are, which learn, what may be kept, and what may be reported."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchvision import models

from course_utils import evaluate, fit, freeze, load_model, param_groups, replace_head, train_one_epoch, trainable, unfreeze
from course_utils.checks.spec import Check, Result, Rng, beside, close, failed, passed, same

CLASSES = ("boat", "car", "fish", "flower", "house", "tree")


@beside
def small_vgg(rng: Rng) -> nn.Module:
    """Torchvision's VGG with the 31 + 7 layers of VGG16 and six classes, but few channels; in training mode."""
    width, hidden = rng.integer(4, 6), rng.integer(48, 64)
    with torch.device("meta"):
        model = models.VGG(nn.Sequential(), init_weights=False)
    features: list[nn.Module] = []
    inputs = 3
    with rng.torch():
        for convolutions, outputs in zip((2, 2, 3, 3, 3), (width, width, width, 2 * width, 2 * width), strict=True):
            for _ in range(convolutions):
                features += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
                nn.init.dirac_(features[-2].weight)  # type: ignore[arg-type]  # colours pass: a body that knows something
                inputs = outputs
            features.append(nn.MaxPool2d(2))
        sizes = [(inputs * 49, hidden), (hidden, hidden), (hidden, 6)]
        linear = [nn.Linear(size, outputs) for size, outputs in sizes]
        model.features = nn.Sequential(*features)
        model.classifier = nn.Sequential(
            linear[0], nn.ReLU(), nn.Dropout(0.2), linear[1], nn.ReLU(), nn.Dropout(0.2), linear[2]
        )
        for layer in linear[:2]:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        for parameter in model.parameters():
            parameter.data += torch.randn(parameter.shape) * 0.03
    return model.train()


@beside
def coloured_pictures(count: int, noise: float = 0.5) -> tuple[Tensor, Tensor]:
    """`count` noisy pictures of 32×32 pixels; each of the six classes has a colour of its own."""
    labels = torch.arange(count) % 6
    colours = torch.tensor([[2, 0, 0], [0, 2, 0], [0, 0, 2], [2, 2, 0], [0, 2, 2], [2, 0, 2]])
    return colours[labels].view(-1, 3, 1, 1) + torch.randn(count, 3, 1, 1) * noise + torch.randn(count, 3, 32, 32) * 0.3, labels


def vgg16_values(num_classes: int) -> dict[str, int]:
    """How many values each parameter of the real VGG16 has."""
    with torch.device("meta"):
        return trainable(models.vgg16(num_classes=num_classes))


# ---------------------------------------------------------------------------------------------- 05.1 build_vgg16


@beside
def numbers_of_classes(rng: Rng) -> list[int]:
    return [10, rng.integer(2, 9), rng.integer(11, 99)]


@beside
def describe(model: Any) -> Any:
    """Shapes of all parameters, kinds of all layers, and the number of logits (0 if no picture gets through)."""
    if not isinstance(model, nn.Module):
        return model
    try:
        outputs = model(torch.empty(2, 3, 64, 64)).shape[-1]
    except RuntimeError:
        outputs = 0
    layers = [f"{name}: {type(layer).__name__}" for name, layer in model.named_modules() if not list(layer.children())]
    return {"shapes": {name: list(p.shape) for name, p in model.named_parameters()}, "layers": layers, "outputs": outputs}


def probe_build(build_vgg16: Any, rng: Rng) -> dict:
    with torch.device("meta"):  # the structure without the numbers: no memory, no time
        built = [describe(build_vgg16(count, None)) for count in numbers_of_classes(rng)]
        try:
            build_vgg16(10, "weights that do not exist")
            refused = False
        except Exception:
            refused = True
    return {"built": built, "refused": refused}


def judge_build(data: dict, rng: Rng) -> Result:
    for count, built in zip(numbers_of_classes(rng), data["built"], strict=True):
        why = compare_structure(built, count)
        if why:
            return failed(f"for {count} classes, {why}")
    if not data["refused"]:
        return failed("asked for weights that do not exist, it built a model all the same: `weights` is not used")
    return passed()


def compare_structure(built: dict, count: int) -> str | None:
    """What is wrong with a VGG16 for `count` classes, or None."""
    with torch.device("meta"):
        wanted = describe(models.vgg16(num_classes=count))
    shapes, goal = built["shapes"], wanted["shapes"]
    if "classifier.0.weight" not in shapes or "classifier.3.weight" not in shapes:
        fewer = sum(map(math.prod, goal.values())) - sum(map(math.prod, shapes.values()))
        return f"the hidden layers are gone: {fewer / 1e6:.1f} million values fewer; only the last layer was to be replaced"
    extra = [name for name in shapes if name not in goal]
    if extra and not extra[0].startswith("classifier.6."):
        return f"there is a new {extra[0]}, but the forward pass of a VGG never uses it; {built['outputs']} logits come out"
    if extra or "classifier.6.weight" not in shapes:
        return f"classifier[6] holds {extra}; one linear layer is asked for"
    rows, inputs = shapes["classifier.6.weight"]
    return compare_head(rows, inputs, built["outputs"], count) or compare_rest(built, wanted)


def compare_head(rows: int, inputs: int, outputs: int, count: int) -> str | None:
    if inputs != 4096:
        return f"classifier[6] receives 4096 values, yours takes {inputs:,}"
    if rows != count or outputs != count:
        return f"{outputs} logits come out: the weight of classifier[6] has {rows} rows"
    return None


def compare_rest(built: dict, wanted: dict) -> str | None:
    for name, shape in wanted["shapes"].items():
        if built["shapes"].get(name) != shape:
            return f"{name} should have the shape {shape}, as in every VGG16, and has {built['shapes'].get(name)}"
    if built["layers"] != wanted["layers"]:
        other = next(iter(set(wanted["layers"]) - set(built["layers"])), "one that VGG16 does not have")
        return f"the layers are not those of a VGG16: look for {other}"
    return None


def wrong_whole_classifier(num_classes: int, weights: str | None) -> nn.Module:
    model = load_model("vgg16", weights=weights)
    model.classifier = nn.Linear(512 * 7 * 7, num_classes)
    return model


def wrong_inputs(num_classes: int, weights: str | None) -> nn.Module:
    model: Any = load_model("vgg16", weights=weights)
    model.classifier[6] = nn.Linear(25088, num_classes)
    return model


def wrong_dropout_added(num_classes: int, weights: str | None) -> nn.Module:
    model: Any = load_model("vgg16", weights=weights)
    model.classifier[6] = nn.Sequential(nn.Dropout(), nn.Linear(4096, num_classes))
    return model


def wrong_fc(num_classes: int, weights: str | None) -> nn.Module:
    model = load_model("vgg16", weights=weights)
    model.fc = nn.Linear(4096, num_classes)
    return model


def wrong_attribute(num_classes: int, weights: str | None) -> nn.Module:
    model: Any = load_model("vgg16", weights=weights)
    model.classifier[6].out_features = num_classes
    return model


def wrong_fresh(num_classes: int, weights: str | None) -> nn.Module:
    return models.vgg16(num_classes=num_classes)


def right_by_hand(num_classes: int, weights: str | None) -> nn.Module:
    model: Any = load_model("vgg16", weights=weights)
    old = model.classifier.pop(6)
    model.classifier.append(nn.Linear(old.in_features, num_classes))
    return model


def right_replace_head(num_classes: int, weights: str | None) -> nn.Module:
    return replace_head(load_model("vgg16", weights=weights), num_classes)


# ------------------------------------------------------------------------------------------ 05.2 freeze_for_head


@beside
def two_steps(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The state of `model` after two steps with weight decay, for whatever has a gradient."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.01)
    for _ in range(2):
        loss = F.cross_entropy(model(images), labels)
        if not loss.requires_grad:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def probe_freeze(freeze_for_head: Any, rng: Rng) -> dict:
    model = small_vgg(rng)
    with rng.torch():
        images, labels = coloured_pictures(12)
    freeze_for_head(model)
    return {"after": two_steps(model, images, labels)}


def judge_freeze(data: dict, rng: Rng) -> Result:
    before, after = small_vgg(rng).state_dict(), data["after"]
    if after.keys() != before.keys():
        return failed("the model lost or gained tensors; freezing must not change its structure")
    moved = [name for name in before if not same(before[name], after[name])]
    head = ["classifier.6.weight", "classifier.6.bias"]
    strayed = [name for name in moved if name not in head]
    values = vgg16_values(10)
    if not moved:
        return failed("nothing learns: the new head was frozen with the rest")
    if strayed:
        count = sum(values[name] for name in moved)
        where = (
            "classifier[0] and classifier[3] are not in features"
            if not any("features" in name for name in strayed)
            else f"{strayed[0]} moved too"
        )
        return failed(f"in a VGG16 for 10 classes {count:,} values still learn: {where}")
    for name in head:
        if name not in moved:
            return failed(f"{name} should learn, but after two training steps it is what it was")
    return passed()


def wrong_features_only(model: Any) -> nn.Module:
    for parameter in model.features.parameters():
        parameter.requires_grad = False
    return model


def wrong_all_frozen(model: nn.Module) -> nn.Module:
    for parameter in model.parameters():
        parameter.requires_grad = False
    return model


def wrong_flag_on_the_layer(model: Any) -> nn.Module:
    model.requires_grad_(False)
    model.classifier[6].requires_grad = True
    return model


def wrong_six_in_name(model: nn.Module) -> nn.Module:
    for name, parameter in model.named_parameters():
        parameter.requires_grad = "6" in name
    return model


def wrong_last_parameter(model: nn.Module) -> nn.Module:
    model.requires_grad_(False)
    list(model.parameters())[-1].requires_grad = True
    return model


def right_by_name(model: nn.Module) -> nn.Module:
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.startswith("classifier.6.")
    return model


# -------------------------------------------------------------------------------------------- 05.3 feature_bank


@beside
def bank_task(rng: Rng) -> tuple[nn.Module, list[int], Callable[[], DataLoader]]:
    """A small VGG in training mode, two layers of the classifier to cut at, and fresh shuffling loaders of equal order."""
    model, cuts, seed = small_vgg(rng), rng.shuffled([3, 6]), rng.integer(0, 2**31)
    with rng.torch():
        pictures = TensorDataset(*coloured_pictures(rng.integer(25, 39)))

    def loader() -> DataLoader:
        return DataLoader(pictures, batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(seed))

    return model, cuts, loader


@beside
def learn_from(bank: Any) -> str:
    """What the first step of a head says that learns from the bank: nothing, or an error."""
    try:
        features, labels = bank
        F.cross_entropy(nn.Linear(features.shape[1], 6)(features), labels).backward()
        return ""
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def probe_bank(feature_bank: Any, rng: Rng) -> dict:
    model, (first, second), loader = bank_task(rng)
    calls = [feature_bank(model.train(), cut, loader()) for cut in (first, first, second)]
    rows = calls[0][0] if isinstance(calls[0], (tuple, list)) else None
    graph = isinstance(rows, Tensor) and rows.requires_grad
    error = learn_from(calls[0])
    return {"calls": calls, "graph": graph, "error": error}


def judge_bank(data: dict, rng: Rng) -> Result:
    model, (first, second), loader = bank_task(rng)
    images, labels = loader().dataset.tensors  # type: ignore[attr-defined]
    model.eval()
    with torch.no_grad():
        wanted, others = up_to(model, first, images), up_to(model, second, images)
    if any(len(call) != 2 for call in data["calls"]):
        return failed("return two tensors: the features and the labels")
    (rows, found), (again, _), (more, _) = data["calls"]
    why = compare_rows(rows, again, wanted, first) or compare_labels(rows, found, wanted, labels)
    why = why or compare_rows(more, more, others, second)
    if why:
        return failed(why)
    if data["graph"]:
        return failed("the rows still hang on the graph that made them, with every map of every picture in memory")
    if data["error"]:
        return failed(f"no head can learn from these rows: {data['error']}")
    return passed()


def compare_rows(rows: Tensor, again: Tensor, wanted: Tensor, cut: int) -> str | None:
    if rows.dim() != 2 or rows.shape[1] != wanted.shape[1]:
        return (
            f"the features have the shape {list(rows.shape)}; classifier[{cut}] receives rows of {wanted.shape[1]} values here"
        )
    if len(rows) != len(wanted):
        return f"{len(rows)} rows for {len(wanted)} pictures"
    if not close(rows, again):
        share = (rows != again).float().mean()
        return f"two calls differ in {share:.0%} of the values: dropout is on"
    if not close(rows, wanted[nearest(rows, wanted)]):
        return f"the rows are not what the layers in front of classifier[{cut}] make of these pictures"
    return None


def compare_labels(rows: Tensor, found: Tensor, wanted: Tensor, labels: Tensor) -> str | None:
    if found.shape != labels.shape:
        return f"the labels have the shape {list(found.shape)}; there are {len(labels)} pictures"
    for number, (truth, said) in enumerate(zip(labels[nearest(rows, wanted)].tolist(), found.tolist(), strict=True)):
        if truth != said:
            name = CLASSES[said] if said in range(6) else said
            return f"row {number} is a {CLASSES[truth]}, its label says {name}: do picture and label come from the same draw?"
    return None


def nearest(rows: Tensor, wanted: Tensor) -> Tensor:
    """For each row, which picture it belongs to."""
    return torch.cdist(rows.double(), wanted.double()).argmin(1)


def up_to(model: Any, cut: int, images: Tensor) -> Tensor:
    return model.classifier[:cut](model.avgpool(model.features(images)).flatten(1))


@torch.no_grad()
def wrong_train_mode(model: nn.Module, cut: int, loader: Iterable) -> tuple[Tensor, Tensor]:
    rows, labels = zip(*[(up_to(model, cut, images), labels) for images, labels in loader], strict=True)
    return torch.cat(rows), torch.cat(labels)


@torch.no_grad()
def wrong_shuffled_twice(model: nn.Module, cut: int, loader: Iterable) -> tuple[Tensor, Tensor]:
    model.eval()
    rows = torch.cat([up_to(model, cut, images) for images, _ in loader])
    return rows, torch.cat([labels for _, labels in loader])


def wrong_graph(model: nn.Module, cut: int, loader: Iterable) -> tuple[Tensor, Tensor]:
    model.eval()
    rows, labels = zip(*[(up_to(model, cut, images), labels) for images, labels in loader], strict=True)
    return torch.cat(rows), torch.cat(labels)


@torch.inference_mode()
def wrong_inference_mode(model: nn.Module, cut: int, loader: Iterable) -> tuple[Tensor, Tensor]:
    return wrong_graph(model, cut, loader)


@torch.no_grad()
def wrong_logits(model: nn.Module, cut: int, loader: Iterable) -> tuple[Tensor, Tensor]:
    return wrong_graph(model, 7, loader)


@torch.no_grad()
def wrong_cut_typed(model: nn.Module, cut: int, loader: Iterable) -> tuple[Tensor, Tensor]:
    return wrong_graph(model, 5, loader)


@torch.no_grad()
def wrong_one_batch(model: nn.Module, cut: int, loader: Iterable) -> tuple[Tensor, Tensor]:
    return wrong_graph(model, cut, [next(iter(loader))])


def right_detached(model: nn.Module, cut: int, loader: Iterable) -> tuple[Tensor, Tensor]:
    model.requires_grad_(False).eval()
    rows, labels = [], []
    for images, batch_labels in loader:
        rows += list(up_to(model, cut, images).detach())
        labels += batch_labels.tolist()
    return torch.stack(rows), torch.tensor(labels)


# -------------------------------------------------------------------------------------------- 05.4 vgg16_report


@beside
def report_task(rng: Rng) -> tuple[nn.Module, dict[str, list]]:
    """A small VGG, and batches for training, validation and test."""
    model = small_vgg(rng)
    with rng.torch():
        pictures = {name: coloured_pictures(count) for name, count in (("train", 60), ("val", 36), ("test", 42))}
    return model, {
        name: list(zip(images.split(12), labels.split(12), strict=True)) for name, (images, labels) in pictures.items()
    }


def probe_report(vgg16_report: Any, rng: Rng) -> dict:
    model, batches = report_task(rng)
    opened: list[dict[str, Tensor]] = []

    def open_test() -> list:
        opened.append({name: value.clone() for name, value in model.state_dict().items()})
        return batches["test"]

    report = vgg16_report(model, batches["train"], batches["val"], open_test, epochs=3)
    return {"report": report, "opened": opened, "after": dict(model.state_dict())}


def judge_report(data: dict, rng: Rng) -> Result:
    model, batches = report_task(rng)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    after = data["after"]
    if after.keys() != before.keys():
        return failed("the model lost or gained tensors")
    why = wrong_moves(before, after) or wrong_openings(data["opened"], after)
    if why:
        return failed(why)
    model.load_state_dict(after)
    return judge_numbers(data["report"], model, batches)


def wrong_moves(before: dict, after: dict) -> str | None:
    moved = [name for name in before if not same(before[name], after[name])]
    free = [name for name in before if name.startswith(("classifier.6.", "features.24.", "features.26.", "features.28."))]
    strayed = [name for name in moved if name not in free]
    if strayed:
        return f"{strayed[0]} moved, but only block 5 (features 24 to 30) and classifier[6] may learn"
    asleep = [name for name in free if name not in moved]
    if asleep and asleep[0].startswith("features"):
        return f"{asleep[0]} in block 5 is what it was: was it free in phase two, and did the optimizer know it?"
    if asleep:
        return f"{asleep[0]} is what it was: the head of the model that you were given did not learn"
    return None


def wrong_openings(opened: list[dict], after: dict) -> str | None:
    if not opened:
        return "the test box was never opened"
    if len(opened) > 1:
        return f"the test box was opened {len(opened)} times: once, after the last choice, is the rule"
    if any(not same(opened[0][name], after[name]) for name in after):
        return "the test box was opened, and then the training went on: open it after the last step"
    return None


def judge_numbers(report: dict, model: Any, batches: dict) -> Result:
    head = sum(p.numel() for p in model.classifier[6].parameters())
    wanted = [head, head + sum(p.numel() for p in model.features[24:].parameters())]
    if report["learning"] != wanted:
        return failed(f"{wanted} values learn in phase one and phase two here, you report {report['learning']}")
    for split in ("val", "test"):
        fresh, said = evaluate(model, batches[split]).accuracy, report[split]
        if abs(fresh - said) > 1e-6:
            return failed(
                f"{split}: {said:.2f} reported, {fresh:.2f} on fresh pictures. Phase two changed block 5, features kept "
                "before it did not; and the score of an earlier epoch is not that of the finished model"
            )
    if report["val"] < 0.25:
        return failed(f"the finished model is right on {report['val']:.2f} of val; guessing gives 0.17. Look at the rates")
    return passed()


def sgd(model: nn.Module, lr: float) -> torch.optim.SGD:
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr, momentum=0.9)


def accuracy(model: nn.Module, batches: Any) -> float:
    return evaluate(model, batches).accuracy


def run_phases(model: Any, train: Any, val: Any, epochs: int, after_epoch: Callable = lambda epoch: None) -> dict:
    """The right run, up to the test box."""
    freeze(model)
    learning = []
    for part, lr in ((model.classifier[6], 0.01), (model.features[24:], 0.001)):
        unfreeze(part)
        learning.append(sum(trainable(model).values()))
        history = fit(model, train, val, sgd(model, lr), epochs=epochs, after_epoch=after_epoch)
    return {"learning": learning, "val": history[-1].val.accuracy}


def wrong_chosen_by_test(model: Any, train: Any, val: Any, open_test: Any, epochs: int) -> dict:
    scores: list[float] = []
    report = run_phases(model, train, val, epochs, lambda epoch: scores.append(accuracy(model, open_test())))
    return report | {"test": max(scores)}


def wrong_test_as_val(model: Any, train: Any, val: Any, open_test: Any, epochs: int) -> dict:
    report = run_phases(model, train, open_test(), epochs)
    return {"learning": report["learning"], "val": accuracy(model, val), "test": report["val"]}


def wrong_stale(model: Any, train: Any, val: Any, open_test: Any, epochs: int) -> dict:
    model.eval()
    with torch.no_grad():
        kept = [(up_to(model, 6, images), labels) for images, labels in val]
    report = run_phases(model, train, val, epochs)
    return report | {"val": accuracy(model.classifier[6], kept), "test": accuracy(model, open_test())}


def wrong_old_optimizer(model: Any, train: Any, val: Any, open_test: Any, epochs: int) -> dict:
    freeze(model)
    unfreeze(model.classifier[6])
    optimizer = sgd(model, 0.01)
    fit(model, train, val, optimizer, epochs=epochs)
    unfreeze(model.features[24:])
    history = fit(model, train, val, optimizer, epochs=epochs)
    return {"learning": [1, 2], "val": history[-1].val.accuracy, "test": accuracy(model, open_test())}


def wrong_optimizer_by_hand(model: Any, train: Any, val: Any, open_test: Any, epochs: int) -> dict:
    freeze(model)
    unfreeze(model.classifier[6])
    optimizer = sgd(model, 0.01)
    fit(model, train, val, optimizer, epochs=epochs)
    unfreeze(model.features[24:])
    for _ in range(epochs):
        train_one_epoch(model, train, optimizer)
    return {"learning": [1, 2], "val": accuracy(model, val), "test": accuracy(model, open_test())}


def wrong_all_features(model: Any, train: Any, val: Any, open_test: Any, epochs: int) -> dict:
    report = run_phases(model, train, val, epochs)
    unfreeze(model.features)
    fit(model, train, val, sgd(model, 0.001), epochs=1)
    return report | {"test": accuracy(model, open_test())}


def wrong_no_test(model: Any, train: Any, val: Any, open_test: Any, epochs: int) -> dict:
    report = run_phases(model, train, val, epochs)
    return report | {"test": report["val"]}


def right_groups(model: Any, train: Any, val: Any, open_test: Any, epochs: int) -> dict:
    model.requires_grad_(False)
    model.classifier[6].requires_grad_(True)
    learning = [sum(trainable(model).values())]
    fit(model, train, val, torch.optim.SGD(model.classifier[6].parameters(), lr=0.01, momentum=0.9), epochs=epochs)
    for layer in (24, 26, 28):
        model.features[layer].requires_grad_(True)
    learning.append(sum(trainable(model).values()))
    groups = param_groups(model, {"features": 0.001, "classifier.6": 0.001})
    fit(model, train, val, torch.optim.SGD(groups, momentum=0.9), epochs=epochs)
    return {"learning": learning, "val": accuracy(model, val), "test": accuracy(model, open_test())}


CHECKS = [
    Check(
        "05.1",
        "build_vgg16",
        "VGG16 for other classes",
        probe_build,
        judge_build,
        {"built": [{"shapes": {str: [int]}, "layers": [str], "outputs": int}], "refused": bool},
        points=2,
    ),
    Check(
        "05.2", "freeze_for_head", "only the last layer learns", probe_freeze, judge_freeze, {"after": {str: Tensor}}, points=2
    ),
    Check(
        "05.3",
        "feature_bank",
        "keep what the frozen part makes",
        probe_bank,
        judge_bank,
        {"calls": [[Tensor]], "graph": bool, "error": str},
        points=3,
    ),
    Check(
        "05.4",
        "vgg16_report",
        "the whole run, reported",
        probe_report,
        judge_report,
        {"report": {"learning": [int], "val": float, "test": float}, "opened": [{str: Tensor}], "after": {str: Tensor}},
        points=3,
        limit_s=10,  # it trains
    ),
]

WRONG = {
    "05.1": [
        (wrong_dropout_added, "classifier[6] holds ['classifier.6.1.weight', 'classifier.6.1.bias']; one linear layer"),
        (wrong_whole_classifier, "for 10 classes, the hidden layers are gone: 119.3 million values fewer"),
        (wrong_inputs, "classifier[6] receives 4096 values, yours takes 25,088"),
        (wrong_fc, "there is a new fc.weight, but the forward pass of a VGG never uses it; 1000 logits come out"),
        (wrong_attribute, "1000 logits come out: the weight of classifier[6] has 1000 rows"),
        (wrong_fresh, "`weights` is not used"),
    ],
    "05.2": [
        (wrong_features_only, "119,586,826 values still learn: classifier[0] and classifier[3] are not in features"),
        (wrong_all_frozen, "nothing learns: the new head was frozen with the rest"),
        (wrong_flag_on_the_layer, "nothing learns"),
        (wrong_six_in_name, "features.26.weight moved too"),
        (wrong_last_parameter, "classifier.6.weight should learn"),
    ],
    "05.3": [
        (wrong_train_mode, "of the values: dropout is on"),
        (wrong_shuffled_twice, "its label says"),
        (wrong_graph, "still hang on the graph"),
        (wrong_inference_mode, "Inference tensors cannot be saved for backward"),
        (wrong_logits, "the features have the shape"),
        (wrong_cut_typed, "the rows are not what the layers in front of classifier[3] make"),
        (wrong_one_batch, "8 rows for"),
    ],
    "05.4": [
        (wrong_chosen_by_test, "times: once, after the last choice"),
        (wrong_test_as_val, "and then the training went on"),
        (wrong_stale, "Phase two changed block 5, features kept before it did not"),
        (wrong_old_optimizer, "the optimizer does not hold all that learns: 'features'"),
        (wrong_optimizer_by_hand, "features.24.weight in block 5 is what it was"),
        (wrong_all_features, "features.0.weight moved, but only block 5"),
        (wrong_no_test, "the test box was never opened"),
    ],
}


RIGHT = {
    "05.1": [right_by_hand, right_replace_head],
    "05.2": [right_by_name],
    "05.3": [right_detached],
    "05.4": [right_groups],
}
