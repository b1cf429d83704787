"""Grading one notebook and many: on this machine in several processes, or on several machines.

`grade_one` is a pure function of a notebook's bytes and the job, so it does not matter who computes it, or in which order.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from functools import cache, partial
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import torch
import torchvision

from course_utils.checks import lesson_module, lessons
from course_utils.files import write_atomic
from course_utils.grader.box import NoIsolation, demand_readable
from course_utils.grader.evidence import KEPT, Fault, Job, Tried, close_zygotes, collect, zygote_for
from course_utils.grader.judge import TIMEOUT, Verdict, exercise_of, explained, is_hidden, judge_exercise, settle
from course_utils.grader.probes import Hidden, checks_for, hidden_checks, text_of
from course_utils.grader.report import (
    Graded,
    Grader,
    Output,
    build_notes,
    build_report,
    named,
    read_notes,
    read_report,
    refusal,
    to_json,
)
from course_utils.grader.submission import Refused, Submission, Upload, read_answers, safe_name
from course_utils.profiles import cpu_count

LOSSES = 3  # so often a notebook may take its worker with it


def make_job(seed: str, isolation: str, checks: str | Path | None = None, wanted: Iterable[str] = ()) -> Job:
    """The job for the hidden checks in the folder `checks` and the lessons `wanted` (none named: all).

    Raises:
        ValueError: if the folder holds no checks, or holds some that cannot be used.
    """
    files: Hidden = ()
    if checks is not None:
        files = tuple((path.name, path.read_text(encoding="utf-8")) for path in sorted(Path(checks).glob("*.py")))
        if not files:
            raise ValueError(f"{checks} holds no check files (*.py); see docs/instructors.md")
        hidden_checks(files)
    return Job(seed, isolation, files, tuple(wanted or ()))


# ---------------------------------------------------------------------------------------------------------- one report


def grade_one(blob: bytes, job: Job) -> tuple[bytes, bytes]:
    """The learner's report and the instructor's notes on the notebook `blob`, both as canonical JSON.

    Raises:
        NoIsolation: if this machine cannot give the isolation that the job asks for.
        Fault: if the grader itself failed.
    """
    grader = grader_of(job)
    try:
        submission = read_answers(blob)
        if job.lessons and submission.lesson not in job.lessons:
            raise Refused(f"it is lesson {submission.lesson}; asked for were {', '.join(job.lessons)}")
    except Refused as error:
        return to_json(refusal(blob, grader, str(error))), to_json(build_notes(blob, job.seed))
    try:
        graded = grade(submission, job)
    except Fault:
        close_zygotes()  # the next one begins afresh
        raise
    return to_json(build_report(blob, grader, graded)), to_json(build_notes(blob, job.seed, graded))


def grade(submission: Submission, job: Job) -> Graded:
    checks = checks_for(submission.lesson, job.hidden)
    verdicts: dict[str, Verdict] = {}
    outputs: dict[str, Output] = {}
    hidden: list[Output] = []
    late: set[str] = set()  # exercises whose answer had its second chance, or needed none
    for check in checks:
        id = exercise_of(check.id)
        answered = id in submission.answers
        tried = collect(check, submission.answers, job, again=id not in late) if answered else Tried((), Output())
        verdicts[check.id] = explained(judge_exercise(check, tried.cases), partial(submission.makes_elsewhere, id=id))
        if verdicts[check.id].state == TIMEOUT:
            late.add(id)
        if is_hidden(check.id):
            hidden.append(tried.output)
        else:
            outputs[id] = tried.output
    hidden_output = Output("".join(one.untrusted for one in hidden)[-KEPT:], any(one.truncated for one in hidden))
    return Graded(submission.lesson, checks, settle(checks, verdicts), outputs, hidden_output, submission.flags)


def grader_of(job: Job) -> Grader:
    """What grades: two workers that agree in this give the same reports."""
    torch.set_num_threads(1)
    hidden_checks(job.hidden)
    return Grader(
        version(),
        platform.python_version(),
        str(torch.__version__),  # which compares itself as a version: 02.15 would be 2.15
        str(torchvision.__version__),
        job.isolation,
        tuple(sorted(zygote_for(job.isolation).layers)),
        checks_sha256(job.hidden),
    )


def version() -> str:
    try:
        return metadata.version("fine-tuning-course")
    except metadata.PackageNotFoundError:
        return "not installed"


@cache
def checks_sha256(files: Hidden) -> str:
    """The hash of all checks, public and hidden."""
    texts = [text_of(lesson_module(lesson)) for lesson in lessons()] + [text for _, text in files]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def grade_upload(upload: Upload, job: Job) -> tuple[bytes, bytes]:
    """As `grade_one`, also for what could not be read."""
    if upload.refused:
        return refused(upload, job, grader_of(job))
    return grade_one(upload.blob, job)


def refused(upload: Upload, job: Job, grader: Grader) -> tuple[bytes, bytes]:
    return to_json(refusal(upload.blob, grader, upload.refused)), to_json(build_notes(upload.blob, job.seed))


# --------------------------------------------------------------------------------------------------------- many reports


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
        close_zygotes()


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


def grade_many(
    uploads: Iterable[Upload],
    job: Job,
    jobs: int | None,
    out: Path,
    scheduler: str | None = None,
    on_progress: Callable[[str], object] = lambda name: None,
) -> list[str]:
    """Write a report and notes for each upload below `out`; what an earlier run has written there is not done again.

    Returns:
        What went wrong on our side, in words; those notebooks have no report.
    """
    engine = engine_for(job, jobs, scheduler)
    try:
        return Run(job, out, engine, on_progress).all(uploads)
    finally:
        engine.close()


class Run:
    """One run over many uploads."""

    def __init__(self, job: Job, out: Path, engine: Engine, on_progress: Callable[[str], object]):
        self.job, self.out, self.engine, self.on_progress = job, Path(out), engine, on_progress
        self.waiting: dict[Any, tuple[str, bytes]] = {}  # promise -> hash and bytes
        self.uploads: dict[str, list[str]] = {}  # hash -> those who handed in these bytes
        self.written: dict[str, str] = {}  # hash -> name of a report on these bytes
        self.losses: Counter[str] = Counter()
        self.faults: list[str] = []

    def all(self, uploads: Iterable[Upload]) -> list[str]:
        for folder in (self.out, self.out / "reports", self.out / "notes"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.note(complete=False)
        for upload in uploads:
            self.take(upload)
            while len(self.waiting) >= self.engine.window:
                self.collect()
        while self.waiting:
            self.collect()
        self.note(complete=True)
        return self.faults

    def take(self, upload: Upload) -> None:
        """Grade one upload, unless that was done before, or these bytes were graded for somebody else."""
        name, sha256 = safe_name(upload.name), hashlib.sha256(upload.blob).hexdigest()
        if upload.refused:
            self.put(upload.name, *refused(upload, self.job, self.engine.grader))
        elif self.is_done(name, sha256):
            self.written[sha256] = name
            self.on_progress(name)
        elif sha256 in self.written:
            first = f"{self.written[sha256]}.json"
            self.put(upload.name, *((self.out / folder / first).read_bytes() for folder in ("reports", "notes")))
        elif sha256 in self.uploads:
            self.uploads[sha256].append(upload.name)
        else:
            self.uploads[sha256] = [upload.name]
            self.waiting[self.engine.submit(upload.blob)] = sha256, upload.blob

    def is_done(self, name: str, sha256: str) -> bool:
        """Whether there are a whole report and whole notes on these bytes, by the same grader, with the same seed."""
        try:
            report = read_report((self.out / "reports" / f"{name}.json").read_bytes())
            notes = read_notes((self.out / "notes" / f"{name}.json").read_bytes())
        except (OSError, ValueError):
            return False
        seed = hashlib.sha256(self.job.seed.encode()).hexdigest()
        same_bytes = report.submission.sha256 == notes.submission.sha256 == sha256
        return same_bytes and report.grader == self.engine.grader and notes.seed_sha256 == seed and not notes.faults

    def collect(self) -> None:
        """Write what has been finished; what was lost with its worker is tried again."""
        for promise in self.engine.finished():
            sha256, blob = self.waiting.pop(promise)
            try:
                body, notes = promise.result()
                if read_report(body).grader != self.engine.grader:
                    raise Fault("a worker has changed its Python, torch or sandbox")
            except NoIsolation:
                raise
            except Exception as error:
                self.lose(sha256, blob, error)
                continue
            for id in self.uploads.pop(sha256):
                if self.put(id, body, notes):
                    self.written[sha256] = safe_name(id)

    def lose(self, sha256: str, blob: bytes, error: Exception) -> None:
        self.losses[sha256] += 1
        if self.losses[sha256] < LOSSES:
            self.waiting[self.engine.submit(blob)] = sha256, blob
            return
        for id in self.uploads.pop(sha256):
            self.faults.append(f"{id}: {type(error).__name__}: {error}")
            (self.out / "reports" / f"{safe_name(id)}.json").unlink(missing_ok=True)  # by another grader, or on other bytes
            self.on_progress(safe_name(id))

    def put(self, id: str, body: bytes, notes: bytes) -> bool:
        """Write what came of one upload; where a check of ours stopped there is no report, for it would hold a zero."""
        name, faults = safe_name(id), read_notes(notes).faults
        report = self.out / "reports" / f"{name}.json"
        write_atomic(self.out / "notes" / f"{name}.json", named(notes, id, name), mode=0o600)
        self.faults += [f"{id}: {fault}" for fault in faults]
        if faults:
            report.unlink(missing_ok=True)
        else:
            write_atomic(report, named(body, id, name), mode=0o600)
        self.on_progress(name)
        return not faults

    def note(self, *, complete: bool) -> None:
        """What the next run into the same folder needs to know."""
        content = {"seed": self.job.seed, "isolation": self.job.isolation, "faults": self.faults, "complete": complete}
        write_atomic(self.out / "run.json", to_json(content), mode=0o600)


def stored_seed(out: Path) -> str | None:
    """The seed of an earlier run into the folder `out`, or None."""
    try:
        seed = json.loads((Path(out) / "run.json").read_text(encoding="utf-8"))["seed"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return seed if isinstance(seed, str) else None
