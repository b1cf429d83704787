"""Grading many notebooks into a folder: each once, whole or not at all, and what is there is not done again."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from course_utils.files import write_atomic
from course_utils.grader.client import Fault
from course_utils.grader.engines import Engine, engine_for
from course_utils.grader.evidence import Job
from course_utils.grader.grading import refused
from course_utils.grader.intake.archive import Upload, safe_name
from course_utils.grader.records import (
    named,
    read_notes,
    read_report,
    to_json,
)
from course_utils.grader.sandbox.levels import NoIsolation

LOSSES = 3  # so often a notebook may take its worker with it


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
