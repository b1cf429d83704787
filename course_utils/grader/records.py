"""From verdicts to points, and to the two records of one submission: a report that its author may read, and notes.

A report is a pure function of what was handed in, the checks and the seed: no time, no place, no order of work. Every text
that a learner can influence is `Untrusted`. Scores are whole hundredths of a point; no float touches them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from course_utils.checks.spec import Check
from course_utils.grader.scoring import FAILED, PARTIAL, PASSED, Raised, Verdict, exercise_of, is_hidden, state_of

ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{4,}\b")


@dataclass(frozen=True)
class Untrusted:
    """A text that a learner can influence: show it, never interpret it."""

    untrusted: str


@dataclass(frozen=True)
class Error:
    """An exception of the learner's code, without addresses; `line` counts within the answer cell."""

    name: Untrusted
    text: Untrusted
    line: int | None


@dataclass(frozen=True)
class Output:
    """What the answer cell printed, at least its end."""

    untrusted: str = ""
    truncated: bool = False


@dataclass(frozen=True)
class CheckReport:
    id: str
    title: str
    hidden: bool
    state: str
    share: tuple[int, int]
    score: int
    max: int
    message: str
    error: Error | None


@dataclass(frozen=True)
class ExerciseReport:
    id: str
    title: str
    state: str
    score: int
    max: int
    checks: tuple[CheckReport, ...]
    output: Output


@dataclass(frozen=True)
class Source:
    """Which bytes were graded; `id` and `name` are added by whoever knows where they came from."""

    sha256: str
    bytes: int
    id: Untrusted = Untrusted("")
    name: str = ""


@dataclass(frozen=True)
class Grader:
    """What graded: equal graders give equal reports for equal bytes and seeds."""

    version: str
    python: str
    torch: str
    torchvision: str
    isolation: str
    layers: tuple[str, ...]
    checks_sha256: str


@dataclass(frozen=True)
class Report:
    """What a learner may read."""

    lesson: str
    submission: Source
    grader: Grader
    gradable: bool
    reason: str = ""
    score: int = 0
    max: int = 0
    exercises: tuple[ExerciseReport, ...] = ()
    flags: tuple[str, ...] = ()
    hidden_checks: int = 0
    unit: str = "1/100"
    schema: str = "course-report/1"


@dataclass(frozen=True)
class Note:
    """One check as the instructor sees it: all words of a hidden check, and what went wrong on our side."""

    id: str
    state: str
    message: str
    note: str
    fault: str
    error: Error | None


@dataclass(frozen=True)
class Notes:
    """What only the instructor may read."""

    submission: Source
    seed_sha256: str
    checks: tuple[Note, ...] = ()
    hidden_output: Output = Output()
    schema: str = "course-notes/1"

    @property
    def faults(self) -> list[str]:
        return [note.fault for note in self.checks if note.fault]


# --------------------------------------------------------------------------------------------------------- building


@dataclass(frozen=True)
class Graded:
    """Everything known about one graded notebook."""

    lesson: str
    checks: Sequence[Check]
    verdicts: Mapping[str, Verdict]  # by check id
    outputs: Mapping[str, Output] = field(default_factory=dict)  # by exercise id, of the public checks only
    hidden_output: Output = Output()
    flags: tuple[str, ...] = ()


def source_of(blob: bytes) -> Source:
    return Source(hashlib.sha256(blob).hexdigest(), len(blob))


def build_report(blob: bytes, grader: Grader, graded: Graded) -> Report:
    """The learner's report: public and hidden checks of the lesson, by exercise."""
    exercises = []
    for id in sorted({exercise_of(check.id) for check in graded.checks}):
        checks = sorted((check for check in graded.checks if exercise_of(check.id) == id), key=lambda check: check.id)
        exercises.append(exercise_report(id, checks, graded))
    return Report(
        graded.lesson,
        source_of(blob),
        grader,
        gradable=True,
        score=sum(one.score for one in exercises),
        max=sum(one.max for one in exercises),
        exercises=tuple(exercises),
        flags=graded.flags,
        hidden_checks=sum(is_hidden(check.id) for check in graded.checks),
    )


def refusal(blob: bytes, grader: Grader, reason: str, lesson: str = "") -> Report:
    """The report on what cannot be graded: a reason instead of a score."""
    return Report(lesson, source_of(blob), grader, gradable=False, reason=reason)


def build_notes(blob: bytes, seed: str, graded: Graded | None = None) -> Notes:
    sha256 = hashlib.sha256(seed.encode()).hexdigest()
    if graded is None:
        return Notes(source_of(blob), sha256)
    found = [(check.id, graded.verdicts[check.id]) for check in sorted(graded.checks, key=lambda check: check.id)]
    notes = [Note(id, one.state, one.why, one.note, one.fault, error_of(one.raised)) for id, one in found]
    return Notes(source_of(blob), sha256, tuple(notes), graded.hidden_output)


def exercise_report(id: str, checks: Sequence[Check], graded: Graded) -> ExerciseReport:
    verdicts = [graded.verdicts[check.id] for check in checks]
    public = [check for check in checks if not is_hidden(check.id)]
    hidden = [check for check in checks if is_hidden(check.id)]
    earned = sum((100 * check.points * one.share for check, one in zip(checks, verdicts, strict=True)), Fraction(0))
    full = sum(100 * check.points for check in checks)
    return ExerciseReport(
        id,
        (public or checks)[0].title if public else "",
        by_points(earned, full) if earned else state_of(graded.verdicts[check.id] for check in public or checks),
        int(earned),
        full,
        tuple(
            check_report(check, graded.verdicts[check.id], f"hidden check {number}" if is_hidden(check.id) else check.title)
            for group in (public, hidden)
            for number, check in enumerate(group, start=1)
        ),
        graded.outputs.get(id, Output()),
    )


def by_points(earned: Fraction, full: int) -> str:
    """The state of what is hidden, or partly: it says no more than the points."""
    return PASSED if earned == full else PARTIAL if earned else FAILED


def check_report(check: Check, verdict: Verdict, title: str) -> CheckReport:
    hidden, share = is_hidden(check.id), verdict.share
    return CheckReport(
        check.id,
        title,
        hidden,
        by_points(share, 1) if hidden else verdict.state,
        (share.numerator, share.denominator),
        int(100 * check.points * share),
        100 * check.points,
        "" if hidden else verdict.why,
        None if hidden else error_of(verdict.raised),
    )


def error_of(raised: Raised | None) -> Error | None:
    if raised is None:
        return None
    name, text = (Untrusted(ADDRESS.sub("0x…", words)) for words in (raised.name, raised.text))
    return Error(name, text, raised.line)


# ------------------------------------------------------------------------------------------------------ canonical JSON


def to_json(record: Any) -> bytes:
    """One form for one content: sorted keys, ASCII, a newline at the end."""
    content = dataclasses.asdict(record) if dataclasses.is_dataclass(record) and not isinstance(record, type) else record
    return (json.dumps(content, sort_keys=True, indent=2, ensure_ascii=True, allow_nan=False) + "\n").encode("ascii")


def read_report(body: bytes) -> Report:
    """The report written by `to_json`.

    Raises:
        ValueError: if it is no such report, or only a part of one.
    """
    try:
        content = json.loads(body)
        content["submission"] = source_from(content["submission"])
        content["grader"] = Grader(**{**content["grader"], "layers": tuple(content["grader"]["layers"])})
        content["exercises"] = tuple(exercise_from(one) for one in content["exercises"])
        content["flags"] = tuple(content["flags"])
        return Report(**content)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"this is no report ({type(error).__name__}: {error}); delete it and grade again") from None


def read_notes(body: bytes) -> Notes:
    """The notes written by `to_json`; `ValueError` as in `read_report`."""
    try:
        content = json.loads(body)
        content["submission"] = source_from(content["submission"])
        content["hidden_output"] = Output(**content["hidden_output"])
        content["checks"] = tuple(Note(**{**one, "error": error_from(one["error"])}) for one in content["checks"])
        return Notes(**content)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"these are no notes ({type(error).__name__}: {error}); delete them and grade again") from None


def source_from(content: dict) -> Source:
    return Source(**{**content, "id": Untrusted(**content["id"])})


def exercise_from(content: dict) -> ExerciseReport:
    checks = tuple(
        CheckReport(**{**one, "share": tuple(one["share"]), "error": error_from(one["error"])}) for one in content["checks"]
    )
    return ExerciseReport(**{**content, "checks": checks, "output": Output(**content["output"])})


def error_from(content: dict | None) -> Error | None:
    return Error(Untrusted(**content["name"]), Untrusted(**content["text"]), content["line"]) if content else None


def named(body: bytes, id: str, name: str) -> bytes:
    """The report or the notes in `body` with the submission's own id and the name of its files."""
    read = read_notes if json.loads(body)["schema"] == Notes.schema else read_report
    record = read(body)
    return to_json(replace(record, submission=replace(record.submission, id=Untrusted(id), name=name)))
