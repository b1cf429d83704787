"""Grading one notebook: a pure function of its bytes and the job, so it does not matter who computes it, or in which order."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable
from functools import cache, partial
from importlib import metadata
from pathlib import Path

import torch
import torchvision

from course_utils.checks import lesson_module, lessons
from course_utils.grader.client import KEPT, Fault, close_servers, server_for
from course_utils.grader.evidence import Job, Tried, collect
from course_utils.grader.intake.answers import Submission, read_answers
from course_utils.grader.intake.archive import Refused, Upload
from course_utils.grader.probes import Hidden, checks_for, hidden_checks, text_of
from course_utils.grader.records import (
    Graded,
    Grader,
    Output,
    build_notes,
    build_report,
    refusal,
    to_json,
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
        close_servers()  # the next one begins afresh
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


def grade_upload(upload: Upload, job: Job) -> tuple[bytes, bytes]:
    """As `grade_one`, also for what could not be read."""
    if upload.refused:
        return refused(upload, job, grader_of(job))
    return grade_one(upload.blob, job)


def refused(upload: Upload, job: Job, grader: Grader) -> tuple[bytes, bytes]:
    return to_json(refusal(upload.blob, grader, upload.refused)), to_json(build_notes(upload.blob, job.seed))
