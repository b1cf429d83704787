"""Trials: to run a copy of a model on a small drawn input, without a trace of it elsewhere."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import nn

from course_utils.rng import preserve_rng_state


@contextmanager
def aside(device: torch.device | None = None) -> Iterator[None]:
    """For trials of copies: with gradients, without warnings, new tensors on `device`, and no random numbers used up."""
    with preserve_rng_state(), torch.inference_mode(False), torch.enable_grad(), device or nullcontext(), quiet():
        yield


@contextmanager
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


SIZES = (32, 64, 224, 299, 28, 48, 96, 112, 128, 160, 192, 240, 256, 384, 448, 512, 16, 8)


def input_shapes(model: nn.Module) -> Iterator[tuple[int, ...]]:
    """Shapes of one input that the model may take, likely ones first, small ones before large ones: (channels, height, width).

    Of a model without convolutions, whose first layer takes numbers in a row, also (numbers,).
    """
    modules = list(model.modules())
    channels = [module.in_channels for module in modules if isinstance(module, nn.Conv2d)][:1]
    rows = [] if channels else [module.in_features for module in modules if isinstance(module, nn.Linear)]
    for row in rows[:1]:  # a picture that is flattened first
        sides = [(channel, math.isqrt(row // channel)) for channel in (3, 1)]
        yield from ((channel, side, side) for channel, side in sides if channel * side * side == row)
    yield from ((row,) for row in rows)
    named, full_size = named_sizes(model)
    for height, width in dict.fromkeys([*named, *((side, side) for side in SIZES), *full_size]):
        yield from ((channel, height, width) for channel in dict.fromkeys([*channels, 3, 1]))


def named_sizes(model: nn.Module) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Sizes of pictures that parts of a model name: what vision transformers must have, and what timm trained at."""
    must, trained = [], []
    for module in model.modules():
        config = getattr(module, "default_cfg", None)
        must += [getattr(module, "image_size", None), getattr(module, "img_size", None)]
        trained += [(config.get("input_size") or ())[-2:]] if isinstance(config, dict) else []
    return pairs(must), pairs(trained)


def pairs(sizes: list) -> list[tuple[int, int]]:
    twice = [(size, size) if isinstance(size, int) else size for size in sizes]
    known = [size for size in twice if isinstance(size, (list, tuple)) and len(size) == 2]
    return [(size[0], size[1]) for size in known if all(isinstance(side, int) for side in size)]
