"""The frozen part of a model, run once: split the model where learning begins, keep what the frozen part makes, train on that.

    frozen, learning = split_frozen(model)
    train, val = precompute(frozen, data.train), precompute(frozen, data.val)
    fit(learning, train, val, optimizer, epochs=10)  # the same fit; `model` itself has learnt

Training this way gives the same losses and the same weights as training `model` on the pictures, in a fraction of the time.
"""

from __future__ import annotations

import errno
import math
import os
import pickle
import threading
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from course_utils import feature_store
from course_utils.devices import device_of, has_bfloat16, mixed_precision, to_device
from course_utils.equivalence import config_of, difference, is_alone, memory_of, same, sample, why_not_fixed
from course_utils.feature_store import Features, keep, plan_for, store, stored
from course_utils.fingerprint import Unrecognised, fingerprint
from course_utils.fx_split import FrozenPart, ModelPart
from course_utils.inference import AS_IT_IS, Inference, fastest, hooks_of
from course_utils.profiles import WORK
from course_utils.progress_bar import progress
from course_utils.rng import preserve_rng_state, rng_state, same_rng_state, seed_all

CACHE = WORK / ".course"
SELDOM = {1, 2, *(8**i for i in range(1, 12))}  # batches and epochs at which one picture is run by itself
FEW, MANY = 8, 32  # pictures of which each is read twice, to see whether reading is random
ENOUGH = 256  # views of pictures: for fewer, preparing a faster way to run the frozen part costs what it saves

ONE_AT_A_TIME = threading.Lock()  # the generators of random numbers are those of the whole process

# ------------------------------------------------------------------------------------------------ precomputed features


class FeatureLoader(DataLoader):
    """Batches of features with their labels: the batches that the loader of the pictures would give, in its order.

    Raises:
        ValueError: at the beginning of an epoch, or when they are copied, if the frozen part, or the model it was cut from,
            is not what it was when the features were made.
    """

    dataset: Features

    def __init__(self, features: Features, loader: DataLoader, frozen: nn.Module):
        features.move_to(device_of(frozen))
        super().__init__(
            features,
            batch_sampler=loader.batch_sampler,
            collate_fn=_as_it_is,
            pin_memory=loader.pin_memory and features.device.type == "cpu",
            generator=loader.generator,
        )
        self.made_by: Witness | None = Witness(frozen, loader)
        self.epochs = 0

    def __iter__(self) -> Any:
        self.dataset.epoch += 1
        self.epochs += 1
        self.check(thorough=self.epochs in SELDOM)  # a picture takes its time
        return super().__iter__()

    def __getstate__(self) -> dict[str, Any]:
        """What is copied or travels to another process: the features, without the frozen part, which stays where it is."""
        self.check(thorough=True)
        return vars(self) | {"made_by": None}

    def check(self, *, thorough: bool) -> None:
        why = self.made_by.objection(thorough=thorough) if self.made_by else None
        if why:
            raise ValueError(f"these features are out of date: {why}; split and precompute again")


def _as_it_is(batch: Any) -> Any:
    return batch


class Witness:
    """What a frozen part was when features were made, and one picture with what came of it then."""

    def __init__(self, frozen: nn.Module, loader: DataLoader):
        self.frozen = frozen
        with preserve_rng_state():
            images, _ = _batch(loader.collate_fn([loader.dataset[0]]))
        self.image = to_device(images, device_of(frozen))
        self.features = self.run()
        self.before, self.samples, self.hooks = _identities(frozen), Samples(frozen), hooks_of(frozen)

    def run(self) -> Sequence[Tensor]:
        """What the frozen part makes of the one picture, now, in float32 wherever that is asked."""
        with preserve_rng_state(), torch.inference_mode(), mixed_precision(self.frozen, "float32"):
            made = self.frozen(self.image.clone())
        return [made] if isinstance(made, Tensor) else list(made)

    def objection(self, *, thorough: bool) -> str | None:
        """Why the features are not what the model would make now, in words, or None.

        Args:
            thorough: also run the one picture again.
        """
        if isinstance(self.frozen, FrozenPart) and (what := self.frozen.origin.changed()):
            return f"{what} of the model is not what it was when the model was split"
        now = _identities(self.frozen)
        what = difference(self.before, now) if self.before != now else None  # `difference` takes longer: to it NaN is NaN
        what = what or self.samples.changed()  # what goes around torch (`.data`, a numpy array) shows there alone
        if what:
            return f"{what} of the frozen part has changed since, or was set free"
        if (thorough or hooks_of(self.frozen) != self.hooks) and not all(map(same, self.run(), self.features)):
            return "the frozen part makes something else of a picture now"
        return None


def _identities(frozen: nn.Module) -> dict[str, Any]:
    """For each tensor and number of a frozen part something that differs when torch knows that it was changed or replaced."""
    found: dict[str, Any] = {}
    for name, module in frozen.named_modules():  # one walk for all: this is asked in every epoch
        for key, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None:
                where = f"{name}.{key}".lstrip(".")
                found[where] = (id(tensor), tensor._version, tensor.data_ptr(), tensor.requires_grad)
        found[f"the module {name}"] = id(module)
        if not isinstance(module, ModelPart):
            found |= {f"{name}.{key}": value for key, value in config_of(module).items() if key != "all_parameters"}
    return found


class Samples:
    """A few of the values of each tensor of a frozen part, which lie where they lay as long as `_identities` stay the same."""

    def __init__(self, frozen: nn.Module):
        groups: dict[Any, dict[str, Tensor]] = {}  # by type and device, so that one call reads many
        self.apart: dict[str, Tensor] = {}  # complex, or not dense: their sample is a copy, which is made each time
        for name, tensor in chain(frozen.named_parameters(), frozen.named_buffers()):
            values = sample(tensor) if tensor.numel() else tensor
            if memory_of([values]) != memory_of([tensor]):
                self.apart[name] = tensor
            elif tensor.numel():
                groups.setdefault((tensor.dtype, tensor.device), {})[name] = values
        self.groups = list(groups.values())
        self.before = self.now()

    def all_groups(self) -> list[dict[str, Tensor]]:
        return [*self.groups, *({name: sample(tensor)} for name, tensor in self.apart.items())]

    def now(self) -> list[Tensor]:
        return [torch.cat(list(group.values())).view(torch.uint8) for group in self.all_groups()]  # as bytes NaN equals NaN

    def changed(self) -> str | None:
        """The name of the first tensor whose values are not what they were, or None."""
        for group, before, now in zip(self.all_groups(), self.before, self.now(), strict=True):
            if not torch.equal(before, now):
                owners = [name for name, values in group.items() for _ in range(values.numel() * values.element_size())]
                return owners[int((before != now).nonzero()[0])]
        return None


# ----------------------------------------------------------------------------------------------------------- precompute


def precompute(
    frozen: nn.Module,
    loader: DataLoader,
    *,
    views: int = 1,
    half: bool = False,
    memory_gb: float = 2.0,
    cache: str | os.PathLike | None = CACHE,
) -> FeatureLoader:
    """Run `frozen` once over the pictures of `loader`; give the loader of features that comes back to `fit` and `evaluate`.

    It prints how many bytes the features have, and begins. Interrupted, or with the disk full, it leaves nothing behind.
    Of 256 pictures or more, a part that `split_frozen` made runs in the fastest way that gives the same on a few of them, taken
    from all over the data set (`inference.fastest`). `mixed_precision` around it has no effect.

    Args:
        loader: batches of images (batch, channels, height, width) and labels (batch,); order and batch size are taken over.
        views: how many views of each picture to keep if its transform is random. Each epoch shows another one; after so many
            epochs they repeat.
        half: keep features in float16: half the bytes, three digits. On a CUDA GPU the frozen part also runs in float16, on a
            processor with native bfloat16 in that, which leaves two digits, and elsewhere in float32.
        memory_gb: more gigabytes than this stay in a file, of which batches are read when they are needed.
        cache: the folder in which a later run finds the features again, as long as weights, pictures, their order and
            their transform are the same; None keeps them for this run alone. Left out, it is `.course` beside the notebooks.
            They lie in its subfolder `course-features`, 5 GB at most, of which the oldest go first; nothing else in the folder
            is touched. A transform or a data set of your own code cannot be recognised: its features are not stored.

    Raises:
        ValueError: if the transform is random and `views` is 1, or not random and `views` above 1; if there is no picture; if
            the frozen part draws random numbers, mixes the pictures of a batch, or does not do what its model does.
        TypeError: if `loader` is not a `DataLoader` over a data set with a length, or gives something else than images and
            labels.
        NotADirectoryError: if `cache` is a file.
        OSError: if the disk is full.
    """
    with ONE_AT_A_TIME, preserve_rng_state():
        _check(loader, views)
        _check_frozen(frozen, loader)
        asked = Pass(frozen, loader, views, half)
        folder, why_not = _folder_for(cache, asked)
        features = stored(folder, memory_gb) if folder else None
        if features:
            print(f"{features.plan}, found again")
        else:
            if folder and (folder.exists() or not os.access(folder.parent, os.W_OK)):
                wrong = f"something else lies at {folder}" if folder.exists() else f"{folder.parent} may not be written"
                folder, why_not = None, f", for this run alone: {wrong}"
            features = _make(asked, memory_gb, folder, why_not)
        return FeatureLoader(features, loader, frozen)


class Pass(NamedTuple):
    """What is asked for: this frozen part over these pictures, so many views of each, in half precision or not."""

    frozen: nn.Module
    loader: DataLoader
    views: int
    half: bool

    @property
    def device(self) -> torch.device:
        return device_of(self.frozen)

    @property
    def batch_size(self) -> int:
        return _batch_size(self.loader)

    @property
    def may_go_faster(self) -> bool:
        """Whether there are pictures enough to look for a faster way, and nobody waits for the steps of `frozen` itself."""
        enough = len(self.loader.dataset) * self.views >= ENOUGH  # type: ignore[arg-type]
        return enough and isinstance(self.frozen, FrozenPart) and not hooks_of(self.frozen)

    def precision(self) -> torch.autocast:
        """Half precision where it was asked for and the machine is faster in it; else none, whatever is around this."""
        if self.device.type == "cuda":
            return torch.autocast("cuda", torch.float16, enabled=self.half)
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.half and has_bfloat16(self.device))


def _check(loader: DataLoader, views: int) -> None:
    if isinstance(views, bool) or not isinstance(views, int) or views < 1:
        raise ValueError(f"views={views!r}; give a whole number of 1 or more")
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset) or loader.batch_sampler is None:
        raise TypeError(f"precompute takes a DataLoader that makes batches of a data set with a length, not {loader!r}")
    if not len(loader.dataset):  # type: ignore[arg-type]
        raise ValueError("the loader has no picture; check its folder")
    random_views = is_random(loader)
    if random_views and views == 1:
        raise ValueError(RANDOM)
    if views > 1 and not random_views:
        raise ValueError(f"views={views}, but the transform is not random, so all views would be the same; leave views out")


RANDOM = (
    "the transform is random, and what is kept would show one view of each picture for ever; keep several (views=8), "
    "take a transform without randomness, or train on the pictures themselves, which in_memory reads only once"
)


NOT_ALONE = (
    "the frozen part makes something else of a picture in another batch, so nothing can be precomputed; "
    "train on the pictures themselves: fit(model, …)"
)


def is_random(loader: DataLoader) -> bool:
    """Whether reading a picture draws random numbers, or gives something else the second time."""
    before, drawn = _remembers(loader), rng_state()
    first, again = (_from_all_over(loader, FEW if before else MANY) for _ in range(2))
    return not (same_rng_state(drawn, rng_state()) and before == _remembers(loader) and all(map(same, first, again)))


def _from_all_over(loader: DataLoader, count: int) -> tuple[Tensor, Tensor]:
    """So many pictures with their labels: the first, the last and what lies between, since they are often sorted by class."""
    last = len(loader.dataset) - 1  # type: ignore[arg-type]
    chosen = sorted({i * last // max(1, count - 1) for i in range(count)})
    return _batch(loader.collate_fn([loader.dataset[i] for i in chosen]))


def _remembers(loader: DataLoader) -> bytes | None:
    """What the transform and the collate function carry from picture to picture, such as a generator of their own."""
    try:
        return pickle.dumps((getattr(loader.dataset, "transform", None), loader.collate_fn))
    except Exception:  # a function without a name; whether it is random shows in what it gives
        return None


def _batch(batch: Any) -> tuple[Tensor, Tensor]:
    """Images and labels of a batch.

    Raises:
        TypeError: if it is something else.
    """
    if isinstance(batch, (tuple, list)) and len(batch) == 2 and all(isinstance(one, Tensor) for one in batch):
        return batch[0], batch[1]
    kinds = [type(one).__name__ for one in batch] if isinstance(batch, (tuple, list)) else type(batch).__name__
    raise TypeError(
        f"precompute takes batches of two tensors, images and labels, but the loader gives {kinds}; "
        "choose these two in its collate_fn"
    )


def _check_frozen(frozen: nn.Module, loader: DataLoader) -> None:
    """On the first pictures: does the frozen part give the same each time, whatever the batch, and what the model gives?"""
    images = to_device(_first(loader, 2), device_of(frozen))
    origin = getattr(frozen, "origin", None)  # of a part that split_frozen made
    why = origin.objection(frozen, images) if origin else why_not_fixed(frozen, images)
    if why:
        raise ValueError(f"nothing can be precomputed: {why}; train on the pictures themselves: fit(model, …)")


def _folder_for(cache: str | os.PathLike | None, asked: Pass) -> tuple[Path | None, str]:
    """The folder for features of exactly this, or None and the words that say why there is none."""
    if cache is None:
        return None, ""
    folder, (frozen, loader, views, half) = Path(cache).expanduser(), asked
    try:
        split = isinstance(frozen, ModelPart)
        network = (frozen.code, frozen._modules, frozen._parameters, frozen._buffers) if split else frozen
        way, native = fastest if asked.may_go_faster else None, half and has_bfloat16(asked.device)
        name = fingerprint(network, loader.dataset, loader.collate_fn, views, native, half, asked.device.type, way)
        (folder / feature_store.FOLDER).mkdir(parents=True, exist_ok=True)
        return folder / feature_store.FOLDER / name, ""
    except Unrecognised as error:
        return None, f", for this run alone: a later one could not recognise {error}"
    except (FileExistsError, NotADirectoryError) as error:
        raise NotADirectoryError(f"cache={str(cache)!r}: {error.filename} is a file; name a folder, or None") from error
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        return None, f", for this run alone: {folder} may not be written"


def _make(asked: Pass, memory_gb: float, folder: Path | None, why_not: str) -> Features:
    """Run the frozen part over the pictures and keep what it makes, in `folder` or for this run alone."""
    inference = as_it_is = Inference(AS_IT_IS, asked.frozen)
    if asked.may_go_faster:
        inference = _fastest(asked)
        if inference.way == AS_IT_IS:
            why_not += ", at the model's own speed: no faster way is known to give the same numbers"
    try:
        return _run(inference, asked, memory_gb, folder, why_not)
    except OtherNumbers as error:
        why_not = f", at the model's own speed: by {error} a picture gives other numbers"
        return _run(as_it_is, asked, memory_gb, folder, why_not)


class OtherNumbers(Exception):
    """A picture gives something else by a faster way, which has been compared on a few pictures alone; names the way."""


def _fastest(asked: Pass) -> Inference:
    images = to_device(_from_all_over(asked.loader, min(FEW // 2, asked.batch_size))[0], asked.device)
    with asked.precision():
        return fastest(asked.frozen, images)


def _first(loader: DataLoader, count: int) -> Tensor:
    """The first pictures, no more than a batch has."""
    count = min(count, len(loader.dataset), _batch_size(loader))  # type: ignore[arg-type]
    return _batch(loader.collate_fn([loader.dataset[i] for i in range(count)]))[0]


def _run(inference: Inference, asked: Pass, memory_gb: float, folder: Path | None, why_not: str) -> Features:
    runs = _runs(inference, asked)
    first = next(runs)
    plan = plan_for(first, len(asked.loader.dataset), asked.views, asked.half)  # type: ignore[arg-type]
    in_file = sum(plan.sizes) > memory_gb * 1e9
    print(f"{plan}, kept in {'a file' if in_file else 'memory'}{why_not}")
    total = asked.views * math.ceil(plan.pictures / asked.batch_size)
    with progress(chain([first], runs), "precompute", total) as batches:
        if not folder:
            return keep(batches, plan, in_file)
        store(batches, plan, folder)
    features = stored(folder, memory_gb)
    if not features:
        raise FileNotFoundError(f"the features in {folder} have been deleted while they were made; run it again")
    return features


def _batch_size(loader: DataLoader) -> int:
    return loader.batch_size or 32  # None if the loader has a batch sampler of its own


def _runs(inference: Inference, asked: Pass) -> Iterator[list[Tensor]]:
    """What the frozen part makes of each batch, in the order of the data set, view after view; the labels come last."""
    frozen, loader, views, half = asked
    for view in range(views):
        batches = DataLoader(
            loader.dataset,
            asked.batch_size,
            num_workers=loader.num_workers,
            collate_fn=loader.collate_fn,
            pin_memory=loader.pin_memory,
            generator=torch.Generator().manual_seed(view),
        )
        seed_all(view)
        drawn, remembered = rng_state(), _remembers(loader)
        for number, (images, labels) in enumerate(map(_batch, batches), start=1):
            before, images = rng_state(), to_device(images, asked.device)
            with torch.inference_mode(), asked.precision():
                made = inference.run(images.clone())
                parts = [made] if isinstance(made, Tensor) else list(made)
                if number in SELDOM and not is_alone(frozen, images, parts, len(images) - 1):
                    if inference.way != AS_IT_IS:
                        raise OtherNumbers(inference.way)
                    raise ValueError(NOT_ALONE)
            if not same_rng_state(before, rng_state()):
                raise ValueError("the frozen part draws random numbers, so it would give something else in each epoch")
            yield [*(_row_for_each(_as_made(part, frozen), len(labels), half) for part in parts), labels]
        if views == 1 and not (same_rng_state(drawn, rng_state()) and remembered == _remembers(loader)):
            raise ValueError(RANDOM)  # it drew for some pictures only, and not for the first ones looked at


def _as_made(part: Tensor, frozen: nn.Module) -> Tensor:
    """In the type of `frozen`'s own numbers: autocast makes others, which the rest of the model cannot take."""
    dtype = next((p.dtype for p in frozen.parameters() if p.is_floating_point()), part.dtype)
    return part.to(dtype) if part.is_floating_point() and torch.finfo(part.dtype).bits < torch.finfo(dtype).bits else part


def _row_for_each(part: Tensor, pictures: int, half: bool) -> Tensor:
    if part.shape[:1] != (pictures,):
        raise ValueError(f"the frozen part makes {tuple(part.shape)} of {pictures} pictures, which is not one row for each")
    if half and part.is_floating_point() and not torch.equal(part.half().isfinite(), part.isfinite()):
        raise ValueError("the frozen part makes numbers above 65,504, the largest in half precision; leave half out")
    return part.cpu()
