"""What learns: freeze and unfreeze parts, put a model into training mode, give parts their learning rates."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from course_utils.errors import unknown


def freeze(module: nn.Module) -> nn.Module:
    """Stop `module` from changing: no gradients, and no batch-norm statistics. Returns `module`."""
    module.requires_grad_(False)
    for parameter in module.parameters():
        parameter.grad = None  # an optimizer would apply a gradient left over from before
    return module.eval()


def unfreeze(module: nn.Module) -> nn.Module:
    """Let `module` learn again: gradients, and statistics while training. Returns `module`."""
    return module.requires_grad_(True)


def train_mode(module: nn.Module) -> nn.Module:
    """Training mode, except for parts in which nothing learns: those stay in evaluation mode. Returns `module`.

    `module.train()` alone would also wake the frozen parts: batch norm would go on collecting statistics, dropout would drop.
    A model's own `train()` is called, so what it leaves in evaluation mode stays there.
    """
    module.train()
    _eval_frozen(module)
    return module


def _eval_frozen(module: nn.Module) -> None:
    parameters = vars(module).get("all_parameters") or list(module.parameters())  # of a part of a model: see fx_split
    if parameters and not any(parameter.requires_grad for parameter in parameters):
        module.eval()
    else:
        for child in module.children():
            _eval_frozen(child)


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[nn.Module]:
    """Evaluation mode inside the `with` block; afterwards each module is back in the mode it was in."""
    modes = {module: module.training for module in model.modules()}
    try:
        yield model.eval()
    finally:
        for module, training in modes.items():
            module.training = training


def trainable(model: nn.Module) -> dict[str, int]:
    """Names of the parameters that learn, each with its number of values."""
    return {name: parameter.numel() for name, parameter in model.named_parameters() if parameter.requires_grad}


def param_groups(model: nn.Module, rates: dict[str, float]) -> list[dict]:
    """Parameter groups for an optimizer, one per named part: `{"layer4": 1e-4, "fc": 1e-3}`.

    A name stands for the module or parameter of that dotted name and all inside it; of two that fit, the longer counts.

    Raises:
        ValueError: if a part does not exist or is frozen, a parameter learns but has no rate, or a rate is not positive.
    """
    if not isinstance(rates, dict):
        raise ValueError(f"give a learning rate by name of the part, such as {{'fc': 1e-3}}, not {rates!r}")
    names = {name for name, _ in model.named_modules() if name} | {name for name, _ in model.named_parameters()}
    groups: dict[str, list[nn.Parameter]] = {part: [] for part in rates}
    for part, rate in rates.items():
        if part not in names:
            raise unknown("part", part, [name for name, _ in model.named_children()] if "." not in part else sorted(names))
        check_rate(rate)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[_part_of(name, rates)].append(parameter)
    for part, parameters in groups.items():
        if not parameters:
            raise ValueError(f"{part!r} has a learning rate but nothing in it learns; unfreeze it or leave it out")
    return [{"params": groups[part], "lr": rate, "name": part} for part, rate in rates.items()]


def check_rate(rate: float) -> None:
    if isinstance(rate, bool) or not isinstance(rate, numbers.Real) or not (math.isfinite(rate) and rate > 0):
        raise ValueError(
            f"a learning rate is a positive number, not {rate!r}; common ones lie between 1e-5 and 0.1 (a scheduler may begin "
            "its warm-up at 0, and what shall not learn is frozen)"
        )


def _part_of(name: str, rates: dict[str, float]) -> str:
    fitting = [part for part in rates if name == part or name.startswith(part + ".")]
    if not fitting:
        part = name.partition(".")[0]
        raise ValueError(f"{part!r} learns but has no learning rate (such as {name!r}); name it or freeze it")
    return max(fitting, key=len)
