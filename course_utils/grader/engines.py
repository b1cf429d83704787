"""Where notebooks are graded: in processes of this machine, on the workers of a scheduler, or in this process.

What reads and marks runs no learner's code, but learners choose what it reads. So in a worker the kernel ends it when it
has computed too long, and gives it no more memory than it may take: that costs the author of this notebook, and no other.
Only its own computing counts, so a busy machine ends nobody; waiting for a box has clocks of its own (`client`).

Each engine is asked for functions of `grading`, `window` of them at a time, and gives back what they return, in any order, or
an exception: `Costly` if it is the submission's doing, else `Fault` or `NoIsolation`.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import connection, get_context
from typing import Any

from course_utils.grader.client import GRACE_S, Fault, close_servers
from course_utils.grader.evidence import Job
from course_utils.grader.grading import grader_of
from course_utils.grader.records import Grader
from course_utils.grader.sandbox.levels import GIB, NoIsolation
from course_utils.profiles import cpu_count

COMPUTING_S, MEMORY = 60.0, 4 * GIB  # of the process that reads and marks, for one submission; a sound one takes less than 2 s
BESIDE = 1.5e9  # bytes of memory for each of several workers: its own, and what a box of it usually takes


class Costly(Exception):
    """Reading or marking a submission took more than any sound one needs; the words are for its author."""


REMEDY = "clear all outputs, save it and hand it in again; if that does not help, ask your instructor to look at the file"


def outcome(function: Callable, *arguments: Any) -> Any:
    """What `function` returns, or the exception in its place."""
    try:
        return function(*arguments)
    except MemoryError:
        return Costly(f"reading or marking it took more than {MEMORY // GIB} GiB of memory; {REMEDY}")
    except NoIsolation as error:
        return error
    except Exception as error:
        close_servers()  # the next one begins afresh
        return error if isinstance(error, Fault) else Fault(f"{type(error).__name__}: {error}")


def bounded(seconds: float, function: Callable, *arguments: Any) -> Any:
    """`outcome`, in a process that the kernel ends when it has computed for so many seconds, whatever it is doing."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        return outcome(function, *arguments)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


class Here:
    """This process alone, without bounds: for what one person hands in."""

    window = 1

    def __init__(self, job: Job):
        self.grader = grader_of(job)
        self.done: list[tuple[str, Any]] = []

    def submit(self, key: str, function: Callable, *arguments: Any) -> None:
        self.done.append((key, outcome(function, *arguments)))

    def finished(self) -> list[tuple[str, Any]]:
        done, self.done = self.done, []
        return done

    def close(self) -> None:
        close_servers()


class Worker:
    """A process that computes one function after the other; when it has ended, a new one takes its place."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        context = get_context("spawn")
        self.pipe, inside = context.Pipe()
        self.process = context.Process(target=work, args=(inside,), daemon=True)
        self.process.start()
        inside.close()

    def ask(self, function: Callable, *arguments: Any) -> None:
        with suppress(OSError):  # it has ended, as `answer` will see
            self.pipe.send((COMPUTING_S, function, *arguments))

    def answer(self) -> Any:
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            self.end()
        ended = self.process.exitcode
        self.start()
        if ended == -signal.SIGPROF:
            return Costly(f"reading or marking it took more than {COMPUTING_S:.0f} seconds of computing; {REMEDY}")
        return Fault(f"its worker was lost (exit code {ended})")

    def end(self, patience: float = 0) -> None:
        """End the process; its fork server and boxes end when they see that it is gone."""
        self.pipe.close()
        self.process.join(patience)
        self.process.kill()
        self.process.join()


def work(pipe: connection.Connection) -> None:
    """The life of a worker's process, until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that hands out the work
    limit_memory()
    try:
        while True:
            pipe.send(bounded(*pipe.recv()))
    except (EOFError, OSError):
        close_servers()
        os._exit(0)  # an ordinary end would first take torch to pieces, which takes a second


def limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY if hard == resource.RLIM_INFINITY else min(MEMORY, hard), hard))


class Pool:
    """Workers of this machine."""

    def __init__(self, job: Job, jobs: int):
        self.window = jobs
        self.free = [Worker() for _ in range(jobs)]
        self.busy: dict[Any, tuple[str, Worker]] = {}  # by pipe
        try:
            for worker in self.free:
                worker.ask(grader_of, job)  # side by side: each imports torch
            graders = [worker.answer() for worker in self.free]
            if wrong := [one for one in graders if isinstance(one, Exception)]:
                raise wrong[0]
            self.grader: Grader = graders[0]
        except BaseException:
            self.close()
            raise

    def submit(self, key: str, function: Callable, *arguments: Any) -> None:
        worker = self.free.pop()
        self.busy[worker.pipe] = key, worker
        worker.ask(function, *arguments)

    def finished(self) -> list[tuple[str, Any]]:
        done = [self.busy.pop(pipe) for pipe in connection.wait(list(self.busy))]
        self.free += [worker for _, worker in done]
        return [(key, worker.answer()) for key, worker in done]

    def close(self) -> None:
        for _, worker in self.busy.values():
            worker.end()
        for worker in self.free:
            worker.end(patience=GRACE_S)


class Cluster:
    """The workers of a dask scheduler. Whoever reaches the scheduler can run programs there: keep it in a network you trust.

    A worker that computes too long for one submission ends, and its nanny starts it again. The scheduler gives up on what
    has ended its worker four times, so such a submission is a fault here, not a report.
    """

    def __init__(self, job: Job, address: str):
        from distributed import Client

        self.tasks: dict[Any, str] = {}
        self.count = 0
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

    def submit(self, key: str, function: Callable, *arguments: Any) -> None:
        self.count += 1  # what is lost is asked again, under another key
        name = f"grade-{key}-{self.count}"
        options = {"key": name, "workers": self.workers, "pure": False}
        self.tasks[self.client.submit(bounded, COMPUTING_S, function, *arguments, **options)] = key

    def finished(self) -> list[tuple[str, Any]]:
        from distributed import wait

        done = wait(list(self.tasks), return_when="FIRST_COMPLETED").done
        return [(self.tasks.pop(task), outcome(task.result)) for task in done]

    def close(self) -> None:
        self.client.close()


Engine = Here | Pool | Cluster


def engine_for(job: Job, jobs: int | None, scheduler: str | None = None) -> Engine:
    """Where to grade: `jobs` processes (0: this one; None: as many as this machine can take), or the workers of a scheduler."""
    if scheduler:
        return Cluster(job, scheduler)
    return Here(job) if jobs == 0 else Pool(job, jobs or default_jobs())


def default_jobs() -> int:
    """One for each core, as far as there is memory for it."""
    cores = cpu_count()
    try:
        memory = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return cores
    return max(1, min(cores, int(memory / BESIDE)))
