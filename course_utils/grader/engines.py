"""Where notebooks are graded: in this process, in several of this machine, or on the workers of a scheduler."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from typing import Any, Protocol

from course_utils.grader.client import close_servers
from course_utils.grader.evidence import Job
from course_utils.grader.grading import grade_one, grader_of
from course_utils.grader.records import (
    Grader,
)
from course_utils.grader.sandbox.levels import demand_readable
from course_utils.profiles import cpu_count


class Engine(Protocol):
    """Where `grade_one` is computed: its promises become results in any order, `window` of them at a time."""

    window: int
    grader: Grader

    def submit(self, blob: bytes) -> Any: ...

    def finished(self) -> list[Any]: ...

    def close(self) -> None: ...


class Here:
    """This process alone."""

    window = 1

    def __init__(self, job: Job):
        self.job, self.grader, self.done = job, grader_of(job), []  # type: ignore[var-annotated]

    def submit(self, blob: bytes) -> Future:
        future: Future = Future()
        try:
            future.set_result(grade_one(blob, self.job))
        except Exception as error:
            future.set_exception(error)
        self.done.append(future)
        return future

    def finished(self) -> list[Future]:
        done, self.done = self.done, []
        return done

    def close(self) -> None:
        close_servers()


def leave_interrupts() -> None:
    """Ctrl-C is for the process that hands out the work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class Pool:
    """Processes of this machine, each a pool of its own: one that dies takes no other along."""

    def __init__(self, job: Job, jobs: int):
        self.job, self.window = job, jobs
        self.free = [self.worker() for _ in range(jobs)]
        self.busy: dict[Future, ProcessPoolExecutor] = {}
        try:
            started = [worker.submit(grader_of, job) for worker in self.free]  # side by side: each imports torch
            graders = [promise.result() for promise in started]
            self.grader: Grader = graders[0]
        except BaseException:
            self.close()
            raise

    def worker(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, get_context("spawn"), leave_interrupts)

    def submit(self, blob: bytes) -> Future:
        worker = self.free.pop()
        future = worker.submit(grade_one, blob, self.job)
        self.busy[future] = worker
        return future

    def finished(self) -> list[Future]:
        done = list(wait(self.busy, return_when=FIRST_COMPLETED).done)
        for future in done:
            worker = self.busy.pop(future)
            if isinstance(future.exception(), BrokenExecutor):
                worker.shutdown(wait=False)
                worker = self.worker()
            self.free.append(worker)
        return done

    def close(self) -> None:
        workers = (*self.free, *self.busy.values())
        for process in (process for worker in workers for process in list((worker._processes or {}).values())):
            process.terminate()
        for worker in workers:
            worker.shutdown(cancel_futures=True)


class Cluster:
    """The workers of a dask scheduler. Whoever reaches the scheduler can run programs there: keep it in a network you trust."""

    def __init__(self, job: Job, address: str):
        from distributed import Client

        self.job, self.tasks, self.count = job, set(), 0  # type: ignore[var-annotated]
        self.client = Client(address)
        threads = self.client.nthreads()
        if not threads or max(threads.values()) > 1:
            self.close()
            raise ValueError(f"{address} has {len(threads)} workers; start at least one, each with --nthreads 1")
        graders = self.client.run(grader_of, job)
        self.grader = Counter(graders.values()).most_common(1)[0][0]
        others = sorted(worker for worker, grader in graders.items() if grader != self.grader)
        self.workers = sorted(set(graders) - set(others)) if others else None
        for worker in others:
            print(f"course: {worker} has another Python, torch or sandbox than the rest and gets no work", file=sys.stderr)
        self.window = 4 * (len(graders) - len(others))

    def submit(self, blob: bytes) -> Any:
        self.count += 1
        key = f"grade-{hashlib.sha256(blob).hexdigest()}-{self.count}"
        task = self.client.submit(grade_one, blob, self.job, key=key, workers=self.workers, pure=False)
        self.tasks.add(task)
        return task

    def finished(self) -> list[Any]:
        from distributed import wait as wait_for

        done = list(wait_for(list(self.tasks), return_when="FIRST_COMPLETED").done)
        self.tasks -= set(done)
        return done

    def close(self) -> None:
        self.client.close()


def engine_for(job: Job, jobs: int | None, scheduler: str | None) -> Engine:
    if scheduler:
        return Cluster(job, scheduler)
    demand_readable(job.isolation)  # before a pool is started, which takes long
    jobs = jobs or default_jobs()
    return Pool(job, jobs) if jobs > 1 else Here(job)


def default_jobs() -> int:
    """One for each core, as long as each has 1.5 GB of memory."""
    cores = cpu_count()
    try:
        memory = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return cores
    return max(1, min(cores, int(memory / 1.5e9)))
