"""Runs that do not wait for one another: made here, or by the workers of a cluster, each result kept as soon as it is there.

    journal = Journal("runs.jsonl", about={"updates": 48})
    spread(train_one, [(0.01, 0), (0.01, 1), (0.1, 0)], journal=journal, scheduler="tcp://host:8786")

A run is a function and its key, a tuple of numbers and texts, and gives a record. Stopped and begun again, what the journal
holds is not made a second time. Whoever reaches a dask scheduler can run programs on its workers: keep it in a network that
you trust.
"""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import torch

from course_utils.devices import autocast_as, autocasts
from course_utils.files import write_atomic
from course_utils.progress_bar import progress
from course_utils.trial import quiet

Key = tuple  # numbers and texts
Record = dict[str, Any]  # what JSON can hold

# ------------------------------------------------------------------------------------------------------------ the journal


class Journal:
    """Records by key, also in a file with one line for each, which a second start finds; without `path` in memory alone.

    A line that was being written when the machine stopped is dropped.

    Args:
        about: what all these runs have in common; a file that says something else is refused.

    Raises:
        ValueError: if the file belongs to other runs, or is none of these.
    """

    def __init__(self, path: str | os.PathLike | None = None, about: Record | None = None):
        self.path = Path(path) if path is not None else None
        self.known: dict[Key, Record] = {}
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        first, *lines = self.whole_lines() or [json.dumps(about or {})]
        try:
            found, runs = json.loads(first), [json.loads(line) for line in lines]
            self.known = {tuple(key): record for key, record in runs}
        except (ValueError, TypeError) as error:
            raise ValueError(f"{self.path} is no journal of runs, or damaged; delete it, or name another file") from error
        if found != json.loads(json.dumps(about or {})):
            raise ValueError(
                f"{self.path} holds other runs ({first}, not {json.dumps(about)}); delete it, or name another file"
            )
        write_atomic(self.path, "".join(f"{line}\n" for line in (first, *lines)))

    def whole_lines(self) -> list[str]:
        text = self.path.read_text(encoding="utf-8") if self.path and self.path.exists() else ""
        return text[: text.rfind("\n") + 1].splitlines()

    def add(self, key: Key, record: Record) -> None:
        line = json.dumps([key, record])
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
        self.known[key] = json.loads(line)[1]

    def finish(self) -> None:
        """Delete the file: what the runs were made for is written, and a later start begins anew."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


# -------------------------------------------------------------------------------------------------------------- the runs


def spread(
    function: Callable[..., Record], keys: Iterable[Key], *, scheduler: str | None = None, journal: Journal | None = None
) -> dict[Key, Record]:
    """`function(*key)` for each of the `keys` whose record is not in the journal yet; the records of all, in their order.

    Args:
        scheduler: the address of a dask scheduler, whose workers make the runs; left out, they are made here, in turn.
            Each run computes with as many threads as torch has here, and in its precision, so that the numbers are the same.

    Raises:
        ValueError: if the package `distributed` is missing, or the workers are none, have several threads, or another Python
            or torch than this process.
        TypeError: if `function` cannot travel to another process.
        OSError: if the scheduler cannot be reached, or lost runs; the journal holds those that are done.
        MemoryError: if a run has ended its worker several times.
    """
    keys, journal = list(dict.fromkeys(keys)), journal or Journal()
    missing = [key for key in keys if key not in journal.known]
    made = on_workers(function, missing, scheduler) if scheduler else ((key, function(*key)) for key in missing)
    for key, record in made if missing else ():
        journal.add(key, record)
    return {key: journal.known[key] for key in keys}


def complete(
    wanted: Callable[[Mapping[Key, Record]], Iterable[Key]],
    function: Callable[..., Record],
    journal: Journal,
    scheduler: str | None = None,
) -> Mapping[Key, Record]:
    """`spread` what `wanted` names, and ask it again, until nothing is missing: where some runs depend on what others gave.

    Args:
        wanted: takes the records that are known, and names all runs that are wanted as far as these tell.
    """
    while missing := [key for key in wanted(journal.known) if key not in journal.known]:
        spread(function, missing, scheduler=scheduler, journal=journal)
    return journal.known


# ----------------------------------------------------------------------------------------------------------- the workers


def on_workers(function: Callable[..., Record], keys: list[Key], scheduler: str) -> Iterator[tuple[Key, Record]]:
    """Keys and records, in the order in which they arrive."""
    if importlib.util.find_spec("distributed") is None:
        raise ValueError("scheduler=… needs the package distributed: `pip install distributed`, here and on the workers")
    from distributed import Client, as_completed

    data = packed(function)
    with Client(scheduler) as client, quiet(), progress(keys, "runs", len(keys)) as bar:
        check_workers(client, scheduler)
        shared = client.submit(bytes, data, pure=False)  # a task like the others: lost with its worker, it is made again
        threads = torch.get_num_threads()
        tasks = {client.submit(compute, shared, key, threads, autocasts(), pure=False): key for key in keys}
        for task in as_completed(list(tasks)):
            key = tasks.pop(task)
            yield key, record_of(task, key)
            bar.update()


def packed(function: Callable) -> bytes:
    import cloudpickle  # comes with distributed; takes functions without a name, too

    try:
        return cloudpickle.dumps(function)
    except Exception as error:  # objects may object in any way
        words = (str(error) or type(error).__name__).splitlines()[0]
        raise TypeError(f"these runs cannot travel to the workers of a scheduler: {words}") from error


def compute(data: bytes, key: Key, threads: int, autocasts: Mapping[str, torch.dtype]) -> Record:
    torch.set_num_threads(threads)
    with autocast_as(autocasts):
        return pickle.loads(data)(*key)


def record_of(task: Any, key: Key) -> Record:
    from distributed import KilledWorker

    try:
        return task.result()
    except KilledWorker as error:
        raise MemoryError(f"run {key} has ended its worker several times; has it memory enough?") from error
    except CancelledError as error:
        raise OSError(f"the scheduler has lost run {key}; start again, what is done will not be made again") from error


def facts() -> str:
    return f"Python {platform.python_version()} and torch {torch.__version__}"


def check_workers(client: Any, scheduler: str) -> None:
    """There are workers, each computes one run at a time, and they compute as this process does."""
    threads = client.nthreads()
    if not threads or max(threads.values()) > 1:
        raise ValueError(f"{scheduler} has {len(threads)} workers; start at least one, each with --nthreads 1")
    for worker, found in client.run(facts).items():
        if found != facts():
            raise ValueError(f"{worker} has {found}, and here is {facts()}; install the same, from requirements.txt")
