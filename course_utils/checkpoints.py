"""Checkpoints: a training that was stopped goes on as if it had not been.

def keep(epoch):
    save_checkpoint("phase-2.pt", model, optimizer, done=epoch.number, loader=data.train)

fit(model, data.train, data.val, optimizer, epochs=10, after_epoch=keep)  # stopped in its fourth epoch

# in a new program, after the model is frozen and the optimizer is made by the same lines as before
done = load_checkpoint("phase-2.pt", model, optimizer, loader=data.train)  # 3
fit(model, data.train, data.val, optimizer, epochs=10, done=done, after_epoch=keep)
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from course_utils.files import write_atomic
from course_utils.finetune import trainable
from course_utils.loader_state import loader_state, set_loader_state
from course_utils.models import compare
from course_utils.rng import State, rng_state, set_rng_state
from course_utils.train import check_done

FORM = "checkpoint of course_utils, 1"
REMEDY = "build the model, freeze it and make the optimizer by the same lines as before"


def save_checkpoint(
    path: str | os.PathLike,
    model: nn.Module,
    optimizer: Optimizer,
    *schedulers: LRScheduler,
    done: int,
    loader: DataLoader | None = None,
) -> Path:
    """Write all that a training needs to go on after `done` epochs into one file, whole or not at all.

    That is what the model, the optimizer and the schedulers hold, and where the random numbers stand. Nothing says which
    layers there are and what is frozen: that stays in your code, and `load_checkpoint` compares it.

    Args:
        done: the number of finished epochs; in an `after_epoch` of `fit` it is `epoch.number`.
        loader: the training pictures, if the loader or a sampler has a generator of its own, as those of `open_data` do.

    Raises:
        ValueError: if the optimizer or a scheduler holds something that a file of numbers and texts cannot.
        OSError: if the disk is full or the folder may not be written; an older file of that name is still there.
    """
    check_done(done)
    content = {
        "form": FORM,
        "done": done,
        "model": model.state_dict(),
        "plan": plan_of(model, optimizer, schedulers),
        "optimizer": optimizer.state_dict(),
        "schedulers": [scheduler.state_dict() for scheduler in schedulers],
        "random": plain(rng_state()),
        "loader": loader_state(loader) if loader is not None else None,
    }
    file = io.BytesIO()
    try:
        torch.save(content, file)
        file.seek(0)
        torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # an object of any class may object in any way
        raise ValueError(
            "the optimizer or a scheduler holds something that a checkpoint cannot keep, such as an object of a class of your "
            f"own ({type(error).__name__}); let it hold numbers and texts"
        ) from error
    return write_atomic(path, file.getvalue())


def load_checkpoint(
    path: str | os.PathLike,
    model: nn.Module,
    optimizer: Optimizer,
    *schedulers: LRScheduler,
    loader: DataLoader | None = None,
) -> int:
    """Put everything back to where `save_checkpoint` found it, and say how many epochs were done, for `fit(…, done=…)`.

    On the same machine, and inside `mixed_precision` if it was before, training then goes on to the same weights as without a
    stop. `model` and `optimizer` are built as before, with the same parts frozen; a model that is to be split is loaded first.
    Rates and other settings of the optimizer are those of the file. If something does not fit, nothing is changed.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no checkpoint or damaged, or if the model has other layers, is in another precision or is frozen
            differently, the optimizer is another or holds other parameters, or there are other schedulers or another loader.
    """
    saved = read(path)
    compare(saved["model"], model.state_dict(), f"the model in {path}", REMEDY)
    check_types(path, saved["model"], model.state_dict())
    check_plan(path, saved["plan"], plan_of(model, optimizer, schedulers))
    state = loader_state(loader) if loader is not None else None
    if sizes(saved["loader"]) != sizes(state):
        raise ValueError(
            f"{path} was saved with {words(saved['loader'])}, and now there is {words(state)}; give loader=… both times"
        )
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    for scheduler, one in zip(schedulers, saved["schedulers"], strict=True):
        scheduler.load_state_dict(one)
    if loader is not None:
        set_loader_state(loader, saved["loader"])
    set_rng_state(from_plain(saved["random"]))
    return saved["done"]


def read(path: str | os.PathLike) -> dict[str, Any]:
    data = Path(path).read_bytes()
    try:
        saved = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file may go wrong in any way
        raise ValueError(
            f"{path} is damaged or no checkpoint ({type(error).__name__}); a file of save_model is for open_model"
        ) from error
    if not isinstance(saved, dict) or saved.get("form") != FORM:
        raise ValueError(f"{path} is no checkpoint of save_checkpoint; weights alone are loaded by model.load_state_dict")
    return saved


# ------------------------------------------------------------------------------------------------------ what has to fit


def plan_of(model: nn.Module, optimizer: Optimizer, schedulers: tuple[LRScheduler, ...]) -> dict[str, Any]:
    """What your program decides: which parameters learn, which optimizer holds which of them, which schedulers there are."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = [[names.get(id(one), "something else") for one in group["params"]] for group in optimizer.param_groups]
    kinds = [type(scheduler).__name__ for scheduler in schedulers]
    return {"learns": list(trainable(model)), "optimizer": type(optimizer).__name__, "groups": groups, "schedulers": kinds}


def check_types(path: str | os.PathLike, then: dict[str, Tensor], now: dict[str, Tensor]) -> None:
    for name, values in then.items():
        if values.dtype != now[name].dtype:
            raise ValueError(
                f"{path} does not fit: {name!r} was {values.dtype} when it was saved and is {now[name].dtype} now; {REMEDY}"
            )


def check_plan(path: str | os.PathLike, then: dict[str, Any], now: dict[str, Any]) -> None:
    for name in {**dict.fromkeys(then["learns"]), **dict.fromkeys(now["learns"])}:
        if (name in then["learns"]) != (name in now["learns"]):
            state = (
                "learnt when it was saved and is frozen now"
                if name in then["learns"]
                else "was frozen when it was saved and learns now"
            )
            raise ValueError(f"{path} does not fit: {name!r} {state}; {REMEDY}")
    for key in ("optimizer", "schedulers"):
        if then[key] != now[key]:
            raise ValueError(
                f"{path} does not fit: the {key} was {then[key]} when it was saved and is {now[key]} now; {REMEDY}"
            )
    if then["groups"] != now["groups"]:
        raise ValueError(
            f"{path} does not fit: the optimizer held {in_words(then['groups'])} when it was saved and holds "
            f"{in_words(now['groups'])} now; {REMEDY}"
        )


def in_words(groups: list[list[str]]) -> str:
    """Of each group the number of its parameters, and the first of them."""
    return " and ".join(f"{len(names)} parameters from {names[0]!r} on" if names else "nothing" for names in groups)


def sizes(state: dict[str, Any] | None) -> list[int]:
    return [len(found) for found in state.values()] if state else []


def words(state: dict[str, Any] | None) -> str:
    if state is None:
        return "no loader"
    return f"a loader with {len(state['generators'])} generator(s) of its own" + (
        " and kept features" if state["views"] else ""
    )


# ------------------------------------------------------------------------------------------------------- random numbers


def plain(state: State) -> list[Any]:
    """The states of all generators in lists, numbers and tensors, which can be read without running any code."""
    python, (kind, keys, *rest), torchs, devices = state
    return [python, [kind, keys.tolist(), *rest], torchs, devices]


def from_plain(state: list[Any]) -> State:
    (version, keys, gauss), numpy, torchs, devices = state
    enough = torch.cuda.is_available() and torch.cuda.device_count() >= len(devices)
    return (version, tuple(keys), gauss), tuple(numpy), torchs, devices if enough else []
