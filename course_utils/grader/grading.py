"""Grading one notebook: a pure function of its bytes and the job, so it does not matter who computes it, or in which order."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable
from fractions import Fraction
from functools import cache, partial
from importlib import metadata
from pathlib import Path

import torch
import torchvision

from course_utils.checks import lesson_module, lessons
from course_utils.checks.spec import Check
from course_utils.grader.canonical import to_json
from course_utils.grader.client import KEPT, server_for
from course_utils.grader.evidence import Job, Tried, collect
from course_utils.grader.intake.answers import Submission, read_answers
from course_utils.grader.intake.archive import Refused
from course_utils.grader.probes import Hidden, checks_for, hidden_checks, text_of
from course_utils.grader.records import (
    Graded,
    Grader,
    Notes,
    Output,
    Report,
    build_notes,
    build_report,
    noted,
    refusal,
    source_of,
    with_hidden,
)
from course_utils.grader.scoring import TIMEOUT, Verdict, exercise_of, explained, is_hidden, judge_exercise, settle


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


def grade_one(blob: bytes, job: Job) -> tuple[bytes, bytes]:
    """The learner's report and the instructor's notes on the notebook `blob`, both as canonical JSON.

    Raises:
        NoIsolation: if this machine cannot give the isolation that the job asks for.
        Fault: if the grader itself failed.
    """
    report, notes = look(blob, job)
    if report.gradable:
        report, notes = grade_public(blob, job)
        notes = grade_hidden(blob, job, report, notes)
    return to_json(with_hidden(report, notes.checks)), to_json(notes)


def look(blob: bytes, job: Job) -> tuple[Report, Notes]:
    """The records before any of its code has run: the lesson, or why it cannot be graded; errors as in `grade_one`."""
    grader = grader_of(job)
    try:
        submission = read_answers(blob)
        if job.lessons and submission.lesson not in job.lessons:
            raise Refused(f"it is lesson {submission.lesson}; asked for were {', '.join(job.lessons)}")
    except Refused as error:
        return refusal(blob, grader, str(error)), build_notes(blob, job.seed)
    report = Report(submission.lesson, source_of(blob), grader, gradable=True, flags=submission.flags)
    return report, build_notes(blob, job.seed)


def grade_public(blob: bytes, job: Job) -> tuple[Report, Notes]:
    """The records of the public checks of a notebook that can be graded; the hidden ones are still to come."""
    submission = read_answers(blob)
    checks = checks_for(submission.lesson, job.hidden)
    public = [check for check in checks if not is_hidden(check.id)]
    verdicts, outputs = grade(public, submission, job)
    graded = Graded(submission.lesson, checks, settle(public, verdicts), outputs, flags=submission.flags)
    return build_report(blob, grader_of(job), graded), build_notes(blob, job.seed, graded)


def grade_hidden(blob: bytes, job: Job, report: Report, notes: Notes) -> Notes:
    """`notes` of the same notebook and job, with those on the hidden checks; errors as in `grade_one`."""
    checks = checks_for(report.lesson, job.hidden)
    public = {
        note.id: Verdict(note.state, Fraction(*note.share), fault=note.fault.untrusted)
        for note in notes.checks
        if not is_hidden(note.id)
    }
    hidden = [check for check in checks if check.id not in public]
    if not hidden:
        return notes
    late = {id for id, verdict in public.items() if verdict.state == TIMEOUT}
    verdicts, outputs = grade(hidden, read_answers(blob), job, late)
    settled = settle(checks, public | verdicts)
    printed = "".join(one.untrusted for one in outputs.values())[-KEPT:]
    output = Output(printed, any(one.truncated for one in outputs.values()))
    return noted(notes, {check.id: settled[check.id] for check in hidden}, output)


Grades = tuple[dict[str, Verdict], dict[str, Output]]  # by check


def grade(checks: Iterable[Check], submission: Submission, job: Job, late: Iterable[str] = ()) -> Grades:
    """What comes of `checks`; answers to exercises that are `late` had their second chance, or needed none."""
    verdicts, outputs, late = {}, {}, set(late)
    for check in checks:
        id = exercise_of(check.id)
        answered = id in submission.answers
        tried = collect(check, submission.answers, job, again=id not in late) if answered else Tried((), Output())
        verdicts[check.id] = explained(judge_exercise(check, tried.cases), partial(submission.makes_elsewhere, id=id))
        outputs[check.id] = tried.output
        if verdicts[check.id].state == TIMEOUT:
            late.add(id)
    return verdicts, outputs


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
        tuple(sorted(server_for(job.isolation).layers)),
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
