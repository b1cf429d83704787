"""One run of one contestant, in a process of its own: `python -m course_utils.tools.bench.worker JOB NAME FOLDER THREADS`."""

from __future__ import annotations

import json
import sys
import time
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from statistics import mean
from types import ModuleType
from typing import Any

import psutil
import torch

from course_utils.tools.bench.jobs import Job
from course_utils.tools.bench.task import Task, open_task


class Clock:
    """Adds up CPU seconds (user and system, all threads) and wall seconds of what is done inside `with`."""

    cpu = wall = 0.0

    def __enter__(self) -> None:
        self.cpu -= time.process_time()
        self.wall -= time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.cpu += time.process_time()
        self.wall += time.perf_counter()


def measure(job: Job, name: str, folder: Path) -> dict[str, Any]:
    """Let contestant `name` do `job`; the record of the run.

    In a sweep, who has no `sweep` of its own does the trainings of the sample, and the seconds are scaled to all.
    """
    file, _, variant = name.partition("+")
    contestant = import_module(f"course_utils.tools.bench.contestants.{file}")
    startup, clock, scale = time.process_time(), Clock(), 1.0
    if job.is_sweep and hasattr(contestant, "sweep"):
        task = opened(contestant, job, folder, *job.sample[0], variant)
        with clock:
            accuracies = contestant.sweep(task)
    else:
        accuracies, scale = [], len(job.trainings) / len(job.sample)
        for lr, seed in job.sample:
            task = opened(contestant, job, folder, lr, seed, variant)
            with clock:
                accuracies.append(contestant.train(task))
    seconds = {"cpu": scale * clock.cpu, "wall": scale * clock.wall, "startup": startup}
    return {"job": job.name, "contestant": name, **seconds, "memory_mb": peak_mb(), "accuracy": average(accuracies)}


def opened(contestant: ModuleType, job: Job, folder: Path, lr: float, seed: int, variant: str) -> Task:
    """The task of one training; a limit converts the network to its engine before the clock runs."""
    task = open_task(job, folder, lr, seed, variant)
    if hasattr(contestant, "convert"):
        contestant.convert(task)
    return task


def average(accuracies: list[float | None]) -> float | None:
    """Their mean; None for the limit, which learns nothing."""
    known = [one for one in accuracies if one is not None]
    return mean(known) if known else None


def peak_mb() -> float:
    """The most memory that this process has had, in MB."""
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset / 1e6
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def main() -> None:
    job, name, folder, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    with redirect_stdout(sys.stderr):  # libraries print; the record alone goes to stdout
        record = measure(Job.read(job), name, Path(folder))
    print(json.dumps(record))


if __name__ == "__main__":
    main()
