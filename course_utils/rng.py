"""Random numbers: the generators of Python, numpy and torch (processor and GPUs), seeded, compared and put back together."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

State = tuple[Any, ...]


def seed_all(seed: int) -> None:
    """From here on everything that these generators draw follows from `seed`."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # numpy takes no more
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # torch.manual_seed would also seed, for good, GPUs that nobody uses yet
        torch.cuda.manual_seed_all(seed)


def rng_state() -> State:
    """The state of every generator in use, for `set_rng_state`."""
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return random.getstate(), np.random.get_state(), torch.get_rng_state(), devices


def set_rng_state(state: State) -> None:
    python, numpy, torchs, devices = state
    random.setstate(python)
    np.random.set_state(numpy)
    torch.set_rng_state(torchs)
    if devices:
        torch.cuda.set_rng_state_all(devices)


def same_rng_state(a: State, b: State) -> bool:
    """Whether nothing was drawn between the two."""
    (python, numpy, torchs, devices), (python_b, numpy_b, torchs_b, devices_b) = a, b
    return (
        python == python_b
        and all(np.array_equal(one, other) for one, other in zip(numpy, numpy_b, strict=True))
        and all(torch.equal(one, other) for one, other in zip([torchs, *devices], [torchs_b, *devices_b], strict=True))
    )


@contextmanager
def preserve_rng_state() -> Iterator[None]:
    """Whatever is drawn or seeded inside the block, afterwards every generator is as it was before."""
    state = rng_state()
    try:
        yield
    finally:
        set_rng_state(state)
