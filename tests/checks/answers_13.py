"""Answers to lesson 13."""

import copy
import math

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import box_convert, box_iou

# ----------------------------------------------------------------------------------------- 13.1 sensitivity_at


def threshold(scores, share):
    ordered = sorted(float(score) for score in scores)
    return next(score for score in ordered if sum(s <= score for s in ordered) >= share * len(ordered) - 1e-9)


def found(scores, labels, at):
    return float((scores[labels == 1] > at).float().mean())


def right_loop(val_scores, val_labels, specificity, test_scores, test_labels):
    return found(test_scores, test_labels, threshold(val_scores[val_labels == 0], specificity))


def right_numpy(val_scores, val_labels, specificity, test_scores, test_labels):
    healthy = val_scores.numpy()[val_labels.numpy() == 0]
    at = np.quantile(healthy, specificity, method="inverted_cdf")
    return (test_scores.numpy()[test_labels.numpy() == 1] > at).mean()


def right_sorted(val_scores, val_labels, specificity, test_scores, test_labels):
    healthy = val_scores[val_labels == 0].sort().values
    return found(test_scores, test_labels, healthy[math.ceil(round(specificity * len(healthy), 6)) - 1])


def wrong_test_threshold(val_scores, val_labels, specificity, test_scores, test_labels):
    return right_loop(test_scores, test_labels, specificity, test_scores, test_labels)


def wrong_accuracy(val_scores, val_labels, specificity, test_scores, test_labels):
    alarm = test_scores > threshold(val_scores[val_labels == 0], specificity)
    return float((alarm == (test_labels == 1)).float().mean())


def wrong_precision(val_scores, val_labels, specificity, test_scores, test_labels):
    alarm = test_scores > threshold(val_scores[val_labels == 0], specificity)
    return float((test_labels[alarm] == 1).float().mean())


def wrong_specificity(val_scores, val_labels, specificity, test_scores, test_labels):
    alarm = test_scores > threshold(val_scores[val_labels == 0], specificity)
    return float((~alarm[test_labels == 0]).float().mean())


def wrong_all_of_val(val_scores, val_labels, specificity, test_scores, test_labels):
    return found(test_scores, test_labels, threshold(val_scores, specificity))


def wrong_labels_turned(val_scores, val_labels, specificity, test_scores, test_labels):
    return right_loop(val_scores, 1 - val_labels, specificity, test_scores, 1 - test_labels)


def wrong_sensitivity_fixed(val_scores, val_labels, specificity, test_scores, test_labels):
    return found(test_scores, test_labels, threshold(val_scores[val_labels == 1], 1 - specificity))


def wrong_interpolated(val_scores, val_labels, specificity, test_scores, test_labels):
    return found(test_scores, test_labels, val_scores[val_labels == 0].quantile(specificity - 0.02))


def wrong_below(val_scores, val_labels, specificity, test_scores, test_labels):
    """The largest healthy score that keeps less than the share: one too low."""
    healthy = val_scores[val_labels == 0].sort().values
    return found(test_scores, test_labels, healthy[int(specificity * len(healthy)) - 3])


WRONG = {
    "13.1": [
        (wrong_test_threshold, "your threshold changed with the test scores"),
        (wrong_accuracy, "with 5 % ill, 'always healthy' scores 0.95 here"),
        (wrong_precision, "how many of the ill raise an alarm"),
        (wrong_specificity, "without alarm, which is the specificity"),
        (wrong_all_of_val, "specificity is about the healthy ones"),
        (wrong_labels_turned, "look at your threshold"),
        (wrong_sensitivity_fixed, "look at your threshold"),
        (wrong_interpolated, "look at your threshold"),
        (wrong_below, "look at your threshold"),
        ("] > cut", "] >= cut", "a test score equal to the threshold is no alarm"),
        ("val_labels == 0", "val_labels == 1", "specificity is about the healthy ones"),
        ("share >= specificity", "share >= 1 - specificity", "lets most healthy val pictures raise an alarm"),
        ("test_labels == 1", "test_labels == 0", "look at your threshold"),
    ]
}
RIGHT = {"13.1": [right_loop, right_numpy, right_sorted, (".float().mean().item()", ".float().mean()")]}
EQUIVALENT = {
    "13.1": {
        "cut = min((score for score, share in zip(healthy, below) if share > specificity))": "none is met exactly",
        "return (test_scores[test_labels == 1] > cut).float().mean()": "a tensor without dimensions is a number too",
    }
}


# ------------------------------------------------------------------------------------------- 13.2 match_boxes


def right_matrix(predicted, true, threshold):
    """One matrix of overlaps, of which a column goes once it is taken."""
    overlaps, hits = box_iou(predicted, true), 0
    for row in range(len(predicted) if len(true) else 0):
        best = int(overlaps[row].argmax())
        if overlaps[row, best] >= threshold:
            overlaps[:, best] = -1
            hits += 1
    return hits, len(true) - hits, len(predicted) - hits


def overlap_by_hand(a, b):
    wide = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    high = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return wide * high / (both - wide * high)


def right_by_hand(predicted, true, threshold):
    free, false_alarms = true.tolist(), 0
    for said in predicted.tolist():
        good = [one for one in free if overlap_by_hand(said, one) >= threshold]
        if good:
            free.remove(max(good, key=lambda one: overlap_by_hand(said, one)))
        else:
            false_alarms += 1
    return len(true) - len(free), len(free), false_alarms


def wrong_twice(predicted, true, threshold):
    hits = sum(bool((row >= threshold).any()) for row in box_iou(predicted, true))
    return hits, len(true) - hits, len(predicted) - hits


def wrong_found_truths(predicted, true, threshold):
    """Hits are counted by predictions, misses by true boxes that nobody found."""
    enough = box_iou(predicted, true) >= threshold
    hits = int(enough.any(1).sum()) if len(true) else 0
    return hits, int((~enough.any(0)).sum()) if len(predicted) else len(true), len(predicted) - hits


def wrong_sides(predicted, true, threshold):
    return right_matrix(box_convert(predicted, "xywh", "xyxy"), box_convert(true, "xywh", "xyxy"), threshold)


def wrong_best_blocks(predicted, true, threshold):
    taken = set()
    for row in box_iou(predicted, true):
        if len(row) and row.max() >= threshold:
            taken.add(int(row.argmax()))
    return len(taken), len(true) - len(taken), len(predicted) - len(taken)


def wrong_empty(predicted, true, threshold):
    best = box_iou(predicted, true).max(1).values
    hits = int((best >= threshold).sum())
    return hits, len(true) - hits, len(predicted) - hits


def wrong_least_sure_first(predicted, true, threshold):
    return right_matrix(predicted.flip(0), true, threshold)


def wrong_true_boxes_choose(predicted, true, threshold):
    hits, misses, false_alarms = right_matrix(true, predicted, threshold)
    return hits, false_alarms, misses


def wrong_first_that_is_enough(predicted, true, threshold):
    """Takes the first free true box that overlaps enough, not the one that overlaps most."""
    free = true.tolist()
    for said in predicted.tolist():
        good = [one for one in free if overlap_by_hand(said, one) >= threshold]
        if good:
            free.remove(good[0])
    hits = len(true) - len(free)
    return hits, len(free), len(predicted) - hits


def wrong_best_pairs_first(predicted, true, threshold):
    """The largest overlap of all is matched first, not the surest prediction."""
    overlaps = box_iou(predicted, true).tolist()
    pairs = sorted(((overlap, i, j) for i, row in enumerate(overlaps) for j, overlap in enumerate(row)), reverse=True)
    left, right = set(), set()
    for overlap, i, j in pairs:
        if overlap >= threshold and i not in left and j not in right:
            left.add(i)
            right.add(j)
    return len(left), len(true) - len(left), len(predicted) - len(left)


def wrong_share(predicted: Tensor, true: Tensor, threshold: float):
    hits = right_matrix(predicted, true, threshold)[0]
    return hits / max(len(true), 1)


WRONG |= {
    "13.2": [
        (wrong_twice, "two predictions claim the same car"),
        (wrong_found_truths, "hits and misses together are the true boxes"),
        (wrong_sides, "for the first two boxes: boxes are x1, y1, x2, y2"),
        (wrong_best_blocks, "where the best true box is taken you give up"),
        (wrong_empty, "it stopped"),
        (wrong_least_sure_first, "the surest prediction comes first"),
        (wrong_true_boxes_choose, "the surest prediction comes first"),
        (wrong_first_that_is_enough, "the surest prediction comes first"),
        (wrong_best_pairs_first, "the surest prediction comes first"),
        (wrong_share, "should be 3 values"),
        (">= threshold", "> threshold", "you refuse an overlap of exactly the threshold"),
        ("len(free), len(predicted) - hits", "len(predicted) - hits, len(free)", "a miss is a true box that nobody took"),
        ("free.remove(best)", "pass", "go through the predictions one by one, the surest first"),
        (", default=None", "", "it stopped"),
    ]
}
RIGHT |= {"13.2": [right_matrix, right_by_hand]}
EQUIVALENT |= {"13.2": {}}


# ------------------------------------------------------------------------------------------ 13.3 widen_first_conv


def first_of(model):
    return next((name, module) for name, module in model.named_modules() if isinstance(module, nn.Conv2d))


def wider(old, bands, **changed):
    """A new layer with the settings of the old one, and values of its own."""
    settings = {name: getattr(old, name) for name in ("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")}
    settings |= {"bias": old.bias is not None, "dtype": old.weight.dtype} | changed
    return nn.Conv2d(bands, old.out_channels, **settings).train(old.training)


def put(model, name, new, old, bias=True):
    new.weight.requires_grad_(old.weight.requires_grad)
    if bias and old.bias is not None:
        new.bias.data.copy_(old.bias)
        new.bias.requires_grad_(old.bias.requires_grad)
    model.set_submodule(name, new)
    return model


def filled(model, bands, **changed):
    name, old = first_of(model)
    new = wider(old, bands, **changed)
    with torch.no_grad():
        new.weight.zero_()[:, : old.in_channels] = old.weight
    return name, old, new


def right_new_layer(model, bands):
    name, old, new = filled(model, bands)
    return put(model, name, new, old)


def right_mean(model, bands):
    _, first = first_of(model)
    mean = first.weight.detach().mean(1, keepdim=True).expand(-1, bands - first.in_channels, -1, -1)
    learns = first.weight.requires_grad
    first.weight = nn.Parameter(torch.cat([first.weight.detach(), mean], 1), learns)
    first.in_channels = bands
    return model


def wrong_fresh(model, bands):
    name, old = first_of(model)
    return put(model, name, wider(old, bands), old)


def wrong_scaled(model, bands):
    name, old, new = filled(model, bands)
    new.weight.data *= old.in_channels / bands
    return put(model, name, new, old)


def wrong_bias_lost(model, bands):
    name, old, new = filled(model, bands, bias=False)
    return put(model, name, new, old, bias=False)


def wrong_bias_fresh(model, bands):
    name, old, new = filled(model, bands)
    return put(model, name, new, old, bias=False)


def wrong_padding_lost(model, bands):
    name, old, new = filled(model, bands, padding=0)
    return put(model, name, new, old)


def wrong_stride_lost(model, bands):
    name, old, new = filled(model, bands, stride=1)
    return put(model, name, new, old)


def wrong_new_band_first(model, bands):
    name, old, new = filled(model, bands)
    new.weight.data = new.weight.data.roll(bands - old.in_channels, 1)
    return put(model, name, new, old)


def wrong_only_the_layer(model, bands):
    return filled(model, bands)[2]


def wrong_copy(model, bands):
    return right_new_layer(copy.deepcopy(model), bands)


def wrong_no_return(model, bands):
    right_new_layer(model, bands)


def wrong_three_bands(model, bands):
    name, old, new = filled(model, bands)
    new.weight.data[:, 3:] = 0
    return put(model, name, new, old)


def wrong_conv1(model, bands):
    assert model.conv1
    name, old, new = filled(model, bands)
    return put(model, name, new, old)


def wrong_other_weights(model, bands):
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.BatchNorm2d)):
            module.reset_parameters()
    return right_new_layer(model, bands)


def wrong_frozen(model, bands):
    return right_new_layer(model.requires_grad_(False), bands)


def wrong_mode(model, bands):
    return right_new_layer(model, bands).eval()


def wrong_single(model, bands):
    name, old, new = filled(model, bands)
    return put(model, name, new.float(), old)


WRONG |= {
    "13.3": [
        (wrong_fresh, "pretrained values of"),
        (wrong_scaled, "scaled by"),
        (wrong_bias_lost, "came with a bias and left without one"),
        (wrong_bias_fresh, "is not what it was"),
        (wrong_padding_lost, "with all its settings kept"),
        (wrong_stride_lost, "with all its settings kept"),
        (wrong_new_band_first, "new bands come behind"),
        (wrong_only_the_layer, "you return a Conv2d"),
        (wrong_copy, "you return a Sequential"),
        (wrong_no_return, "does your function return something?"),
        (wrong_three_bands, "pretrained values of"),
        (wrong_conv1, "conv1"),
        (wrong_other_weights, "is not what it was"),
        (wrong_frozen, "leave every requires_grad as it was"),
        (wrong_mode, "came in training mode and left in evaluation mode"),
        (wrong_single, "left in torch.float32"),
        ("    first.in_channels = bands\n", "", "still says in_channels="),
        (", old.requires_grad)", ")", "leave every requires_grad as it was"),
        ("bands - first.in_channels", "bands", "has the shape"),
        ("[old.detach(), zeros]", "[zeros, old.detach()]", "new bands come behind"),
    ]
}
RIGHT |= {"13.3": [right_new_layer, right_mean]}
EQUIVALENT |= {
    "13.3": {
        "first.weight = nn.Parameter(torch.cat([old, zeros], 1), old.requires_grad)": "a parameter detaches what it is made of"
    }
}


# -------------------------------------------------------------------------------------------- 13.4 what_to_ask


def ids(names):
    return {name.partition("-")[0] for name in names}


def shares(report):
    return {name: right / of for name, (right, of) in report["groups"].items()}


def asked(report, *, both=None, place=None, threshold=None, group=None):
    """The right answer with one question asked in another way."""
    if ids(report["train"]) & ids(report["test"]) if both is None else both:
        return "split by id"
    if report["meant for"] not in report["tested in"] if place is None else place:
        return "test where it is used"
    if report["threshold from"] == "test" if threshold is None else threshold:
        return "threshold from val"
    if min(shares(report).values()) < report["score"] - 0.1 if group is None else group:
        return "score by group"
    return "trust it"


def wrong_names_of_pictures(report):
    return asked(report, both=bool(set(report["train"]) & set(report["test"])))


def wrong_beginnings(report):
    return asked(report, both=any(a.startswith(b) for a in report["train"] for b in ids(report["test"])))


def wrong_three_letters(report):
    return asked(report, both=bool({n[:3] for n in report["train"]} & {n[:3] for n in report["test"]}))


def wrong_four_letters(report):
    return asked(report, both=bool({n[:4] for n in report["train"]} & {n[:4] for n in report["test"]}))


def wrong_picture_numbers(report):
    train, test = ({name.split("-")[1] for name in report[split]} for split in ("train", "test"))
    return asked(report, both=bool(train & test))


def wrong_where_trained(report):
    return asked(report, place=report["meant for"] not in report["trained in"])


def wrong_other_places(report):
    return asked(report, place=report["tested in"] != report["trained in"])


def wrong_only_val(report):
    return asked(report, threshold=report["threshold from"] != "val")


def wrong_threshold_unseen(report):
    return asked(report, threshold=False)


def wrong_spread(report):
    return asked(report, group=max(shares(report).values()) - min(shares(report).values()) > 0.1)


def wrong_low(report):
    return asked(report, group=min(shares(report).values()) < 0.7)


def wrong_small_group(report):
    return asked(report, group=min(of for _, of in report["groups"].values()) < 100)


def wrong_largest_group(report):
    return asked(report, group=max(report["groups"].values(), key=lambda counts: counts[1])[0] < 0.5)


def wrong_by_score(report):
    return "split by id" if report["score"] > 0.7 else "trust it"


def wrong_trusting(report):
    return "trust it"


def wrong_suspicious(report):
    return "split by id"


def wrong_words(report):
    return asked(report).replace("split by id", "split by patient")


def wrong_true(report):
    return asked(report) != "trust it"


def wrong_list(report):
    return [asked(report)]


def wrong_prints(report):
    print(asked(report))


def right_other_order(report):
    if report["threshold from"] == "test":
        return "threshold from val"
    if any(right < of * (report["score"] - 0.1) for right, of in report["groups"].values()):
        return "score by group"
    if not set(report["tested in"]) & {report["meant for"]}:
        return "test where it is used"
    return "trust it" if ids(report["train"]).isdisjoint(ids(report["test"])) else "split by id"


def right_by_turns(report):
    for name in report["test"]:
        letter_and_number = name[: name.index("-") + 1]
        if any(other.startswith(letter_and_number) for other in report["train"]):
            return "split by id"
    return asked(report, both=False)


WRONG |= {
    "13.4": [
        (wrong_names_of_pictures, "is in train and in test ("),
        (wrong_beginnings, "an id ends at the hyphen"),
        (wrong_three_letters, "an id ends at the hyphen"),
        (wrong_four_letters, "whose pictures are they?"),
        (wrong_picture_numbers, "whose pictures are they?"),
        (wrong_where_trained, "is where it was tested"),
        (wrong_other_places, "where it"),
        (wrong_only_val, "None means that it has none"),
        (wrong_threshold_unseen, "its threshold comes from 'test'"),
        (wrong_spread, "how far is that below the score?"),
        (wrong_low, "how far is that below the score?"),
        (wrong_small_group, "how far is that below the score?"),
        (wrong_largest_group, "far below the score"),
        (wrong_by_score, "you say"),
        (wrong_trusting, "you say 'trust it', but"),
        (wrong_suspicious, "nobody is in both"),
        (wrong_words, "you return 'split by patient'; choose from"),
        (wrong_true, "should be a text, but is True or False"),
        (wrong_list, "should be a text, but is a list"),
        (wrong_prints, "does your function return something?"),
    ],
}
RIGHT |= {"13.4": [right_other_order, right_by_turns]}
LINE = (
    "suspicions = {'split by id': train & test, 'test where it is used': report['meant for'] not in report['tested in'], "
    "'threshold from val': report['threshold from'] == 'test', 'score by group': "
    "any((r / n <= report['score'] - 0.1 for r, n in report['groups'].values()))}"
)
EQUIVALENT |= {"13.4": {LINE: "a group that lies 0.1 below to the last bit does not occur"}}
