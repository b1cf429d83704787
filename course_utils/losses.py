"""Losses and accuracy: what a model's outputs and the labels of a batch say together, or why they do not fit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_map_only

from course_utils.devices import HALVES

Loss = Callable[[Any, Tensor], Tensor]  # takes what the model returns, and the labels; gives the mean over the batch

AUXILIARY_WEIGHTS = {  # what the loss of auxiliary logits counts, by the names of a model's outputs
    ("logits", "aux_logits"): 0.4,  # inception_v3
    ("logits", "aux_logits2", "aux_logits1"): 0.3,  # googlenet
}


def cross_entropy(outputs: Any, labels: Tensor) -> Tensor:
    """The usual loss for logits of shape (batch, classes), averaged over the pictures.

    Auxiliary logits count less, as they did for the authors: 0.3 in a googlenet (Szegedy et al., Going Deeper with
    Convolutions, 2015, section 5), 0.4 in an inception_v3 (as in the code of its authors: `inception_model.py` in
    tensorflow/models).

    Raises:
        TypeError: for other outputs than a tensor or those of these two models.
        ValueError: for a single logit, whose cross entropy is 0 whatever it says, and for labels of another shape.
    """
    logits = logits_of(outputs)
    if is_single(logits):
        raise ValueError(
            f"cross entropy compares two logits or more, and the outputs have the shape {tuple(logits.shape)}; for one logit "
            "take loss_function=F.binary_cross_entropy_with_logits and labels of this shape"
        )
    if labels.is_floating_point() and labels.shape != logits.shape:
        raise ValueError(
            f"labels of {labels.dtype} and shape {tuple(labels.shape)} for outputs of shape {tuple(logits.shape)}: class "
            "numbers are whole numbers (labels.long()), soft labels have the shape of the outputs"
        )
    loss = F.cross_entropy(logits, labels)
    auxiliary = [] if isinstance(outputs, Tensor) else [each for each in outputs[1:] if each is not None]
    if not auxiliary:
        return loss
    return loss + AUXILIARY_WEIGHTS[outputs._fields] * sum(F.cross_entropy(each, labels) for each in auxiliary)


def logits_of(outputs: Any) -> Tensor:
    """The logits in what a model returns: all of it, or the first of an inception_v3's or a googlenet's."""
    if isinstance(outputs, Tensor):
        return outputs
    if getattr(outputs, "_fields", None) in AUXILIARY_WEIGHTS:
        return outputs[0]
    raise TypeError(
        f"the model returns {describe(outputs)} where logits are expected, a tensor of shape (batch, classes); wrap it in a "
        "module whose forward returns the logits alone (or for a loss_function of your own a tuple that begins with them)"
    )


def in_single(outputs: Any) -> Any:
    """What a model returns, as losses take it: half precision, such as autocast makes, would leave a mean three digits."""
    if isinstance(outputs, Tensor):  # nearly always, and a walk takes as long as a small layer
        return outputs.float() if outputs.dtype in HALVES else outputs
    return tree_map_only(Tensor, in_single, outputs)


def loss_of(loss_function: Loss, outputs: Any, labels: Tensor) -> Tensor:
    """The loss, if it is one number for the whole batch, and a mean: only then can it be averaged over the pictures."""
    if isinstance(loss_function, type):
        raise TypeError(f"loss_function is the class {loss_function.__name__}; make one: {loss_function.__name__}()")
    if not callable(loss_function):
        raise TypeError(f"loss_function takes outputs and labels, as nn.CrossEntropyLoss() does, and is not {loss_function!r}")
    if isinstance(loss_function, nn.BCELoss) or loss_function is F.binary_cross_entropy:
        raise ValueError(
            "this loss takes probabilities, but the accuracy is counted by the sign of logits; leave out the sigmoid at the "
            "end of the model, and take nn.BCEWithLogitsLoss()"
        )
    reduction = getattr(loss_function, "reduction", "mean")
    loss = loss_function(outputs, labels)
    if not isinstance(loss, Tensor) or loss.numel() != 1 or reduction in ("sum", "none"):
        given = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
        raise ValueError(
            f"loss_function gives {given}, by reduction {reduction!r}; it must give a tensor with one number, "
            "the mean over the batch (reduction='mean')"
        )
    return loss


def as_labels(labels: Tensor, outputs: Any, ignored: int) -> tuple[Tensor, int]:
    """`labels` as losses take them, and how many of them count: all but those that are `ignored`.

    Class numbers become int64 of shape (batch,); what has the shape of the outputs (soft labels, several labels of a
    picture, a yes or no for a single logit) becomes floats.

    Raises:
        ValueError: for class numbers that no output stands for, which a GPU would answer with an assertion of its own.
    """
    logits = first_of(outputs)
    if labels.shape == logits.shape:
        return labels.to(logits.dtype) if labels.is_floating_point() or in_0_to_1(labels) else labels, len(labels)
    if labels.is_floating_point():
        return labels, len(labels)
    labels, single = labels.long(), is_single(logits)
    if labels.dim() == 2 and labels.size(1) == 1 and not single:
        labels = labels.flatten()
    return labels, count_labelled(labels, 2 if single else logits.shape[1], ignored)


def count_labelled(labels: Tensor, classes: int, ignored: int) -> int:
    low, high = map(int, labels.aminmax()) if labels.numel() else (0, 0)
    if low >= 0 and high < classes and not low <= ignored <= high:
        return labels.numel()  # a picture may have many, one for each point
    labelled = labels[labels != ignored]
    beyond = labelled[(labelled < 0) | (labelled >= classes)]
    if len(beyond):
        raise ValueError(
            f"label {int(beyond[0])} stands for no output: the model tells {classes} classes apart, 0 to {classes - 1}; "
            f"look at the classes of the data set, or replace the head ({ignored} would mean: ignore this picture)"
        )
    return len(labelled)


def first_of(outputs: Any) -> Tensor:
    """What counts as the logits: of several outputs, which only a loss of one's own takes, the first."""
    several = isinstance(outputs, (tuple, list)) and len(outputs) and isinstance(outputs[0], Tensor)
    return outputs[0] if several else logits_of(outputs)


def is_single(logits: Tensor) -> bool:
    """Whether there is one logit for each picture, which says yes or no."""
    return logits.dim() < 2 or (logits.dim() == 2 and logits.size(1) == 1)


def in_0_to_1(labels: Tensor) -> bool:
    return labels.dtype == torch.bool or not labels.numel() or bool(labels.min() >= 0 and labels.max() <= 1)


def count_right(outputs: Any, labels: Tensor, ignored: int) -> Tensor:
    """How many pictures are right; nan if their labels are no classes. The number is where the outputs are.

    The largest logit is to be that of the label, or of the largest soft label, or of one of several labels (where a picture
    has none, no logit is to be above 0). A single logit is to be above 0 where its label is above ½, and nowhere else.
    """
    logits = first_of(outputs)
    single = is_single(logits)
    if labels.dim() == 1 and labels.dtype == torch.int64 and logits.dim() <= 2:
        right = ((logits > 0).long().flatten() if single else logits.argmax(1)) == labels
        return (right if ignored < 0 else right & (labels != ignored)).sum()
    if labels.shape != logits.shape or logits.dim() > 2:
        return torch.tensor(math.nan)
    if single:
        right = (logits > 0) == (labels > 0.5)
    else:
        largest = labels.amax(1)
        right = labels.gather(1, logits.argmax(1, keepdim=True)).flatten() == largest
        right = torch.where(largest > 0, right, logits.amax(1) <= 0)
    return torch.where(((labels >= 0) & (labels <= 1)).all(), right.sum(), math.nan)


def ignored_by(loss_function: Loss) -> int:
    """The class number of pictures that shall not count; torch's own losses take -100 unless they were told another."""
    return getattr(loss_function, "ignore_index", getattr(loss_function, "keywords", {}).get("ignore_index", -100))


def describe(batch: Any) -> str:
    kind = type(batch).__name__
    if isinstance(batch, Mapping):
        return f"a {kind} with the keys {list(batch)}"
    return f"a {kind} of {[type(part).__name__ for part in batch]}" if isinstance(batch, (tuple, list)) else f"a {kind}"
