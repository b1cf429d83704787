"""The two records of one submission: a report that its author may read, and notes for the instructor.

A report is a pure function of what was handed in, the checks and the seed: no time, no place, no order of work. Every text
that a learner can influence is `Untrusted`. Scores are whole hundredths of a point; no float touches them.

Of a hidden check a report says how many points it gave, and nothing that differs in any other way.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from typing import TypeVar

from course_utils.checks.spec import Check
from course_utils.grader.canonical import from_json
from course_utils.grader.intake.archive import order_of
from course_utils.grader.scoring import FAILED, PARTIAL, PASSED, TO_DO, Raised, Verdict, exercise_of, is_hidden, state_of

R = TypeVar("R", bound="Report | Notes")
ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{4,}\b")


@dataclass(frozen=True)
class Untrusted:
    """A text that a learner can influence: show it, never interpret it."""

    untrusted: str = ""


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
    """`words` are a judge's, who may quote what the answer gave."""

    id: str
    title: str
    hidden: bool
    state: str
    share: tuple[int, int]
    score: int
    max: int
    words: Untrusted
    error: Error | None

    @property
    def message(self) -> str:
        return self.words.untrusted


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
    id: Untrusted = Untrusted()
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
    schema: str = "course-report/2"


@dataclass(frozen=True)
class Note:
    """One check as the instructor sees it: all words, also of a hidden check, and what went wrong on our side."""

    id: str
    state: str
    share: tuple[int, int]
    message: Untrusted
    note: Untrusted
    fault: Untrusted
    error: Error | None


@dataclass(frozen=True)
class Notes:
    """What only the instructor may read."""

    submission: Source
    seed_sha256: str
    checks: tuple[Note, ...] = ()
    hidden_output: Output = Output()
    schema: str = "course-notes/2"

    @property
    def faults(self) -> list[str]:
        return [note.fault.untrusted for note in self.checks if note.fault.untrusted]


# --------------------------------------------------------------------------------------------------------- building


@dataclass(frozen=True)
class Graded:
    """Everything known about one graded notebook; hidden checks without a verdict are still to come."""

    lesson: str
    checks: Sequence[Check]
    verdicts: Mapping[str, Verdict]  # by check id
    outputs: Mapping[str, Output] = field(default_factory=dict)  # by exercise id, of the public checks only
    hidden_output: Output = Output()
    flags: tuple[str, ...] = ()


def source_of(blob: bytes) -> Source:
    return Source(hashlib.sha256(blob).hexdigest(), len(blob))


def named(record: R, id: str, name: str) -> R:
    """The report or the notes with the submission's own id and the name of its files."""
    return replace(record, submission=replace(record.submission, id=Untrusted(id), name=name))


def counting(reports: Iterable[Report]) -> dict[str, Report]:
    """Of one learner's reports those that count: of each lesson the last by name."""
    found = sorted(reports, key=lambda report: order_of(report.submission.id.untrusted))
    return {report.lesson: report for report in found if report.gradable}


def refusal(blob: bytes, grader: Grader, reason: str) -> Report:
    """The report on what cannot be graded: a reason instead of a score."""
    return Report("", source_of(blob), grader, gradable=False, reason=reason)


def build_notes(blob: bytes, seed: str, graded: Graded | None = None) -> Notes:
    notes = Notes(source_of(blob), hashlib.sha256(seed.encode()).hexdigest())
    return noted(notes, graded.verdicts, graded.hidden_output) if graded else notes


def noted(notes: Notes, verdicts: Mapping[str, Verdict], hidden_output: Output = Output()) -> Notes:
    """`notes` with more verdicts, by check id."""
    found = {note.id: note for note in notes.checks} | {id: note_on(id, verdict) for id, verdict in verdicts.items()}
    return replace(notes, checks=tuple(found[id] for id in sorted(found)), hidden_output=hidden_output)


def note_on(id: str, one: Verdict) -> Note:
    share, error = one.share.as_integer_ratio(), error_of(one.raised)
    return Note(id, one.state, share, quoted(one.why), quoted(one.note), quoted(one.fault), error)


def build_report(blob: bytes, grader: Grader, graded: Graded) -> Report:
    """The learner's report: public and hidden checks of the lesson, by exercise."""
    ids = sorted({exercise_of(check.id) for check in graded.checks})
    hidden = sum(is_hidden(check.id) for check in graded.checks)
    report = Report(graded.lesson, source_of(blob), grader, gradable=True, flags=graded.flags, hidden_checks=hidden)
    report = replace(report, exercises=tuple(exercise_report(id, graded) for id in ids))
    return with_hidden(report, build_notes(blob, "", graded).checks)


def exercise_report(id: str, graded: Graded) -> ExerciseReport:
    """An exercise without its sums, and without what its hidden checks earned."""
    checks = sorted((check for check in graded.checks if exercise_of(check.id) == id), key=lambda check: check.id)
    public = [check_report(check, check.title, graded.verdicts[check.id]) for check in checks if check.id == id]
    hidden = [check for check in checks if is_hidden(check.id)]
    unknown = [check_report(check, f"hidden check {number}", Verdict(TO_DO)) for number, check in enumerate(hidden, start=1)]
    title = public[0].title if public else ""
    return ExerciseReport(id, title, TO_DO, 0, 0, (*public, *unknown), graded.outputs.get(id, Output()))


def check_report(check: Check, title: str, verdict: Verdict) -> CheckReport:
    share, full = verdict.share, 100 * check.points
    known = (verdict.state, share.as_integer_ratio(), int(full * share), full)
    return CheckReport(check.id, title, is_hidden(check.id), *known, quoted(verdict.why), error_of(verdict.raised))


def with_hidden(report: Report, notes: Iterable[Note]) -> Report:
    """`report` with what its hidden checks earned according to `notes`; those that are not there are still to come."""
    shares = {note.id: Fraction(*note.share) for note in notes}
    exercises = tuple(summed(one, shares) for one in report.exercises)
    score, full = sum(one.score for one in exercises), sum(one.max for one in exercises)
    return replace(report, exercises=exercises, score=score, max=full)


def summed(exercise: ExerciseReport, shares: Mapping[str, Fraction]) -> ExerciseReport:
    """`exercise` with its sums. Its state is the public one where it earned nothing, else it says no more than the points."""
    checks = tuple(asked(one, shares.get(one.id)) if one.hidden else one for one in exercise.checks)
    earned = sum((one.max * Fraction(*one.share) for one in checks), Fraction(0))
    told = checks if earned else [one for one in checks if not one.hidden] or checks
    state = state_of(Verdict(one.state, Fraction(*one.share)) for one in told)
    return replace(exercise, checks=checks, state=state, score=int(earned), max=sum(one.max for one in checks))


COMING = " (still to come)"


def asked(check: CheckReport, share: Fraction | None) -> CheckReport:
    """A hidden check that earned `share` (None: it is still to come): its state says no more than its points."""
    title = check.title.removesuffix(COMING) + (COMING if share is None else "")
    state = TO_DO if share is None else PASSED if share == 1 else PARTIAL if share else FAILED
    share = share or Fraction(0)
    return replace(check, title=title, state=state, share=share.as_integer_ratio(), score=int(check.max * share))


def error_of(raised: Raised | None) -> Error | None:
    return Error(quoted(raised.name), quoted(raised.text), raised.line) if raised else None


def quoted(text: str) -> Untrusted:
    """`text` without addresses in memory, which differ from run to run."""
    return Untrusted(ADDRESS.sub("0x…", text))


read_report, read_notes = partial(from_json, Report), partial(from_json, Notes)
