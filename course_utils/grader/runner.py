"""Grading many notebooks into a folder: each once, whole or not at all, and what is there is not done again.

First each notebook is read, and none of its code runs. Then come the public checks of those that count, then their hidden
ones, then the reports are completed: when a box of a public check runs, there is nothing on the machine yet that hidden checks
could have left, and who reads a report before all are done reads nothing of hidden checks.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from course_utils.files import write_atomic
from course_utils.grader.canonical import to_json
from course_utils.grader.client import Fault
from course_utils.grader.engines import Costly, Engine, engine_for
from course_utils.grader.evidence import Job
from course_utils.grader.grading import grade_hidden, grade_public, look
from course_utils.grader.intake.archive import Upload, safe_name, student_of
from course_utils.grader.records import (
    Notes,
    Report,
    build_notes,
    counting,
    named,
    noted,
    read_notes,
    read_report,
    refusal,
    with_hidden,
)
from course_utils.grader.sandbox.levels import NoIsolation
from course_utils.grader.scoring import TIMEOUT, Verdict, is_hidden

LOSSES = 3  # so often a notebook may lose its worker
Records = tuple[Report, Notes]


def grade_many(
    uploads: Iterable[Upload],
    job: Job,
    jobs: int | None,
    out: Path,
    scheduler: str | None = None,
    on_progress: Callable[[str], object] = lambda name: None,
    learner_of: Callable[[str], str] = student_of,
) -> list[str]:
    """Write a report and notes for each upload below `out`; what an earlier run has written there is not done again.

    Args:
        jobs: see `engine_for`.
        learner_of: who has handed in the upload of that name.

    Returns:
        What went wrong on our side, in words. Where a check of ours stopped the report says so; where we could not grade at
        all there is none.
    """
    engine = engine_for(job, jobs, scheduler)
    try:
        return Run(job, out, engine, on_progress, learner_of).all(uploads)
    finally:
        engine.close()


class Run:
    """One run over many uploads."""

    def __init__(self, job: Job, out: Path, engine: Engine, on_progress: Callable, learner_of: Callable[[str], str]):
        self.job, self.out, self.engine, self.on_progress, self.learner_of = job, Path(out), engine, on_progress, learner_of
        self.ids: dict[str, str] = {}  # of all uploads, by the name of their files
        self.same: dict[str, list[str]] = {}  # by hash, the names of those with these bytes
        self.waiting: dict[str, tuple[Callable, tuple]] = {}  # by key, who wants to know, and what was asked
        self.losses: Counter[str] = Counter()
        self.faults: list[str] = []

    def all(self, uploads: Iterable[Upload]) -> list[str]:
        for folder in (self.out, self.out / "reports", self.out / "notes"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with alone_in(self.out), TemporaryDirectory(dir=self.out, prefix="handed-in-") as kept:
            self.note(complete=False)
            for upload in uploads:
                self.take(upload, Path(kept))
            self.collect(until=0)
            counting = self.counting()
            for sha256, names in self.same.items():
                self.ask_public(sha256, [name for name in names if name in counting], Path(kept))
            self.collect(until=0)
            for name in sorted(counting):
                self.ask_hidden(name, Path(kept))
            self.collect(until=0)
        self.complete(counting)
        self.note(complete=True)
        return self.faults

    def take(self, upload: Upload, kept: Path) -> None:
        """Have one upload read, unless that is done, or these bytes were handed in before."""
        name, sha256 = safe_name(upload.name), hashlib.sha256(upload.blob).hexdigest()
        if name in self.ids:
            self.faults.append(f"{upload.name}: its files would be those of {self.ids[name]}; rename one of the two")
            return
        self.ids[name] = upload.name
        if upload.refused:
            self.put([name], self.refused(upload.blob, upload.refused))
            return
        names = self.same.setdefault(sha256, [])
        names.append(name)
        (kept / sha256).write_bytes(zlib.compress(upload.blob, 1))  # what was packed small shall not fill a disk
        if found := self.stored(name, sha256) or self.stored(names[0], sha256):
            self.put([name], found)
        elif sha256 not in self.waiting:
            self.ask(sha256, partial(self.keep, names, upload.blob), look, upload.blob, self.job)

    def ask_public(self, sha256: str, names: list[str], kept: Path) -> None:
        """Ask for the public checks of the notebook that these learners have handed in, unless they are done."""
        records = [found for name in names if (found := self.stored(name, sha256))]
        if done := next((found for found in records if found[0].exercises), None):
            self.put(names, done)
        elif records:
            blob = zlib.decompress((kept / sha256).read_bytes())
            self.ask(sha256, partial(self.keep, names, blob), grade_public, blob, self.job)

    def keep(self, names: list[str], blob: bytes, found: Any) -> None:
        if isinstance(found, Fault):
            for name in names:
                self.faults.append(f"{self.ids[name]}: {found}")
                (self.out / "reports" / f"{name}.json").unlink(missing_ok=True)  # by another grader, or on other bytes
        else:
            records = self.refused(blob, str(found)) if isinstance(found, Costly) else found
            self.put(names, records)
            for name in names if records[0].exercises or not records[0].gradable else ():
                self.on_progress(name)

    def counting(self) -> set[str]:
        """The names of the notebooks that count: of each learner and lesson the last by name."""
        found: dict[str, list[Report]] = {}  # by learner
        for name, id in self.ids.items():
            if records := self.stored(name):
                found.setdefault(self.learner_of(id), []).append(records[0])
        return {report.submission.name for mine in found.values() for report in counting(mine).values()}

    def ask_hidden(self, name: str, kept: Path) -> None:
        """Ask for the hidden checks of one notebook, unless they are done."""
        records = self.stored(name)
        if records and sum(is_hidden(note.id) for note in records[1].checks) < records[0].hidden_checks:
            blob = zlib.decompress((kept / records[0].submission.sha256).read_bytes())
            self.ask(name, partial(self.keep_hidden, name, *records), grade_hidden, blob, self.job, *records)

    def keep_hidden(self, name: str, report: Report, notes: Notes, found: Any) -> None:
        if isinstance(found, Fault):
            self.faults.append(f"{self.ids[name]}: {found}")
            return
        if isinstance(found, Costly):
            hidden = [check.id for one in report.exercises for check in one.checks if check.hidden]
            found = noted(notes, dict.fromkeys(hidden, Verdict(TIMEOUT, why=str(found))))
        self.write("notes", name, found)

    def complete(self, counting: set[str]) -> None:
        """Put what hidden checks have earned into the reports that count; of others only the lesson and remarks are kept."""
        for name, id in self.ids.items():
            if records := self.stored(name):
                report, notes = records
                if name not in counting:
                    report, notes = replace(report, exercises=(), hidden_checks=0), replace(notes, checks=())
                    self.write("notes", name, notes)
                self.write("reports", name, with_hidden(report, notes.checks))
                self.faults += [f"{id}: {fault}" for fault in notes.faults]

    # ------------------------------------------------------------------------------------------- asking and keeping

    def ask(self, key: str, then: Callable, *task: Any) -> None:
        """Have `task`, a function and its arguments, computed, and what comes of it given to `then`."""
        self.collect(until=self.engine.window - 1)
        self.waiting[key] = then, task
        self.engine.submit(key, *task)

    def collect(self, until: int) -> None:
        """Wait until no more than so many are being computed; what was lost with its worker is tried again."""
        while len(self.waiting) > until:
            for key, found in self.engine.finished():
                then, task = self.waiting.pop(key)
                if isinstance(found, NoIsolation):
                    raise found
                self.losses[key] += isinstance(found, Fault)
                if isinstance(found, Fault) and self.losses[key] < LOSSES:
                    self.waiting[key] = then, task
                    self.engine.submit(key, *task)
                else:
                    then(found)

    def stored(self, name: str, sha256: str = "") -> Records | None:
        """The whole records under `name`, if they are by the same grader, with the same seed, and on these bytes (any)."""
        try:
            report = read_report((self.out / "reports" / f"{name}.json").read_bytes())
            notes = read_notes((self.out / "notes" / f"{name}.json").read_bytes())
        except (OSError, ValueError):
            return None
        seed = hashlib.sha256(self.job.seed.encode()).hexdigest()
        same_bytes = report.submission.sha256 == notes.submission.sha256 == (sha256 or notes.submission.sha256)
        return (report, notes) if same_bytes and (report.grader, notes.seed_sha256) == (self.engine.grader, seed) else None

    def refused(self, blob: bytes, reason: str) -> Records:
        return refusal(blob, self.engine.grader, reason), build_notes(blob, self.job.seed)

    def put(self, names: Iterable[str], records: Records) -> None:
        for name in names:
            self.write("notes", name, records[1])
            self.write("reports", name, records[0])

    def write(self, folder: str, name: str, record: Report | Notes) -> None:
        path, body = self.out / folder / f"{name}.json", to_json(named(record, self.ids[name], name))
        if not path.exists() or path.read_bytes() != body:
            write_atomic(path, body, mode=0o600)

    def note(self, *, complete: bool) -> None:
        """What the next run into the same folder needs to know."""
        faults = [{"untrusted": fault} for fault in self.faults]
        content: dict[str, Any] = {"seed": self.job.seed, "isolation": self.job.isolation, "lessons": list(self.job.lessons)}
        content |= {"faults": faults, "complete": complete}
        write_atomic(self.out / "run.json", to_json(content), mode=0o600)


@contextmanager
def alone_in(out: Path) -> Iterator[None]:
    """No second run grades into the folder meanwhile, and what a killed one has kept there is gone.

    Raises:
        ValueError: if there is one already.
    """
    with open(out / "run.lock", "w", encoding="utf-8") as lock:
        try:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another run is grading into {out}; wait until it has ended, or give another --out") from None
        except (ImportError, OSError):  # Windows, or a file system without locks
            pass
        for left in out.glob("handed-in-*"):
            shutil.rmtree(left, ignore_errors=True)
        yield


def stored_seed(out: Path) -> str | None:
    """The seed of an earlier run into the folder `out`, or None."""
    seed = stored_note(out).get("seed")
    return seed if isinstance(seed, str) else None


def refuse_other_lessons(out: Path, job: Job) -> None:
    """Raise ValueError if an earlier run into the folder `out` was about other lessons: its reports would stay among these."""
    earlier = stored_note(out).get("lessons", list(job.lessons))
    if earlier != list(job.lessons):
        asked = f"--lessons {' '.join(map(str, earlier))}" if earlier else "all lessons"
        raise ValueError(f"{out} was begun for {asked}; ask for the same, or give another --out")


def stored_note(out: Path) -> dict[str, Any]:
    try:
        found = json.loads((Path(out) / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
