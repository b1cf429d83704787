"""Split a model where learning begins: a part that gives the same for a picture in every epoch, and the rest."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from course_utils.finetune import eval_mode, train_mode
from course_utils.fx_trace import Trace, Untraceable, attribute, compiled
from course_utils.train import check_learns


class Split(NamedTuple):
    """The two halves of a model, which hold its own modules: `learning(frozen(images))` is `model(images)`."""

    frozen: nn.Module
    learning: nn.Module


class ModelPart(nn.Module):
    """Some steps of a model, with the model's own modules and parameters under their own names.

    Takes and returns tensors whose first dimension runs over the pictures, or several of them in a tuple.
    """

    def __init__(self, model: nn.Module, training: fx.Graph, evaluation: fx.Graph):
        super().__init__()
        for node in (*training.nodes, *evaluation.nodes):
            if node.op in ("call_module", "get_attr"):
                _share(model, self, str(node.target))
        self.training = model.training
        self.code = [
            (str(graph), [node.target for node in graph.nodes if callable(node.target)]) for graph in (training, evaluation)
        ]
        self.steps = {True: compiled(self, training), False: compiled(self, evaluation)}

    def forward(self, inputs: Tensor | Sequence[Tensor]) -> Any:
        steps = self.steps[self.training]
        return steps(self, inputs) if isinstance(inputs, Tensor) else steps(self, *inputs)


class FrozenPart(ModelPart):
    """The half in which nothing learns: in evaluation mode whatever is asked of it."""

    def forward(self, inputs: Tensor | Sequence[Tensor]) -> Any:
        with eval_mode(self), torch.no_grad():
            return super().forward(inputs)


def _share(model: nn.Module, half: nn.Module, name: str) -> None:
    """Put what is called `name` in `model` into `half`, under the same name."""
    *path, last = name.split(".")
    for step in path:
        if step not in half._modules:
            half.add_module(step, nn.Module())
        half = half.get_submodule(step)
    value = attribute(model, name)
    if isinstance(value, (nn.Module, nn.Parameter)):
        setattr(half, last, value)
    else:
        half.register_buffer(last, value)


def split_frozen(model: nn.Module) -> Split:
    """Cut `model` where learning begins: a half that gives the same for a picture in every epoch, and the rest.

    The cut may lie at any layer and cross several tensors. Dropout and stochastic depth that are at work during training
    belong to the learning half. The halves hold the model's own modules: what `learning` learns, `model` has learnt. After
    freezing or unfreezing something, split again.

    A model that cannot be traced by `torch.fx`, or whose first layer learns, is not cut: `frozen` then hands on the pictures,
    `learning` is `model`, and a warning says why.

    Raises:
        ValueError: if nothing learns.
    """
    check_learns(model)
    try:
        with eval_mode(model):
            evaluation = Trace(model)
            training = Trace(train_mode(model))
            fixed = training.fixed(model)
    except Untraceable as error:
        return _whole(model, f"torch.fx cannot trace it ({error})")
    # The steps may differ in training and evaluation (a second output, a dropout that is a function): keep what both need.
    kept = list(training.frontier(fixed) | evaluation.frontier(fixed))
    if kept == [training.names[training.images]]:
        return _whole(model, "its first layer learns")
    front = training.front(kept)
    return Split(
        FrozenPart(model, front, front), ModelPart(model, training.behind(kept, fixed), evaluation.behind(kept, fixed))
    )


def _whole(model: nn.Module, why: str) -> Split:
    warnings.warn(f"{type(model).__name__} is not split, so all of it runs in every epoch: {why}", stacklevel=3)
    return Split(nn.Identity(), model)
