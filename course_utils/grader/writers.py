"""Reports in the forms people and platforms read: HTML, CSV, JSON, JUnit, Gradescope, GitHub; pure functions to bytes.

They take reports, never notes, so nothing that only the instructor may know can end up in them.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import unicodedata
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import jinja2

from course_utils.checks import advice
from course_utils.grader.judge import (
    ERROR,
    FAILED,
    OWN_CELL,
    PARTIAL,
    PASSED,
    SKIPPED,
    STATES,
    TIMEOUT,
    TO_DO,
    missing_name,
)
from course_utils.grader.report import CheckReport, ExerciseReport, Grader, Output, Report, to_json
from course_utils.grader.submission import blank_cells, safe_name, student_of

MARKS = {PASSED: "✓", PARTIAL: "◐", FAILED: "✗", ERROR: "!", TIMEOUT: "∞", SKIPPED: "↷", TO_DO: "·"}
WORDS = {PASSED: "passed", PARTIAL: "partly right", FAILED: "not yet", ERROR: "it stopped", TIMEOUT: "took too long"}


@cache
def titles() -> dict[str, str]:
    """The title of each lesson."""
    found = ((id[:2], re.match(r"# \d+\. (.*)", text)) for id, text in blank_cells().items())
    return {lesson: title[1] for lesson, title in found if title}


def points(hundredths: int) -> str:
    """Hundredths as points: "6", "1.5", "0.33"."""
    whole, rest = divmod(hundredths, 100)
    return f"{whole}.{rest:02}".rstrip("0") if rest else str(whole)


def percent(score: int, full: int) -> str:
    return f"{100 * score // full if full else 0}"


def clean(text: str) -> str:
    """`text` without what steers a terminal or turns its direction: no control character but newline and tab."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn"))


def message_of(check: CheckReport) -> str:
    """What the learner reads about one check, in a sentence."""
    if check.hidden and check.state in WORDS and check.state != PASSED:
        return "this check runs at grading only; try your function on inputs of other sizes"
    if check.error and check.message in ("", OWN_CELL):
        place = f" in line {check.error.line} of your cell" if check.error.line else ""
        missing = missing_name(check.error.text.untrusted)
        why = check.message or ("is it spelt right?" if missing else advice(check.error.text.untrusted))
        return f"it stopped{place}" + (f" because `{missing}` is missing" if missing else "") + (f": {why}" if why else "")
    return check.message


# ------------------------------------------------------------------------------------------------- learners, the class


@dataclass(frozen=True)
class Learner:
    """Everything one person handed in."""

    student: str
    reports: tuple[Report, ...]

    @property
    def name(self) -> str:
        """The name of this learner's page."""
        return safe_name(self.student)

    @property
    def exercises(self) -> dict[str, ExerciseReport]:
        """By id; of an exercise that was handed in twice, the better one."""
        found: dict[str, ExerciseReport] = {}
        for report in self.reports:
            for one in report.exercises:
                if one.id not in found or one.score > found[one.id].score:
                    found[one.id] = one
        return dict(sorted(found.items()))

    @property
    def gradable(self) -> bool:
        return any(report.gradable for report in self.reports)


@dataclass(frozen=True)
class Classroom:
    """All learners, by name, and the exercises that at least one of them handed in."""

    learners: tuple[Learner, ...]
    exercises: dict[str, ExerciseReport]  # one report as an example, for title and points

    @property
    def max(self) -> int:
        return sum(one.max for one in self.exercises.values())

    @property
    def grader(self) -> Grader:
        return self.learners[0].reports[0].grader

    def of(self, learner: Learner) -> dict[str, ExerciseReport]:
        """The exercises of `learner`, those that were not handed in included."""
        blank = {id: ExerciseReport(id, one.title, TO_DO, 0, one.max, (), Output()) for id, one in self.exercises.items()}
        return blank | learner.exercises

    def score(self, learner: Learner) -> int:
        return sum(one.score for one in self.of(learner).values())


def classroom(reports: Iterable[Report]) -> Classroom:
    found: dict[str, list[Report]] = {}
    for report in sorted(reports, key=lambda report: report.submission.id.untrusted):
        found.setdefault(student_of(report.submission.id.untrusted), []).append(report)
    learners = tuple(Learner(student, tuple(mine)) for student, mine in sorted(found.items()))
    exercises = {id: one for learner in learners for id, one in learner.exercises.items()}
    return Classroom(learners, dict(sorted(exercises.items())))


# ------------------------------------------------------------------------------------------------------------- HTML


@cache
def pages() -> jinja2.Environment:
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("course_utils.grader"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"points": points, "clean": clean}
    found.globals |= {"marks": MARKS, "words": WORDS, "titles": titles(), "percent": percent, "message_of": message_of}
    return found


def learner_page(learner: Learner) -> bytes:
    """What one learner reads: each exercise with what was measured, nothing that runs, nothing from elsewhere."""
    exercises = learner.exercises
    return page(
        "learner.html",
        learner=learner,
        score=sum(one.score for one in exercises.values()),
        max=sum(one.max for one in exercises.values()),
        solved=sum(one.state == PASSED for one in exercises.values()),
        next=next((one for one in exercises.values() if one.state != PASSED), None),
    )


def index_page(room: Classroom) -> bytes:
    """The class at a glance. Rows change places by style alone: each carries its place in every order."""
    rows = [(learner, room.of(learner)) for learner in room.learners]
    names = [unicodedata.normalize("NFKD", learner.student).casefold() for learner, _ in rows]
    orders = [ranks(names), ranks([-room.score(learner) for learner, _ in rows])]
    orders += [ranks([exercises[id].score for _, exercises in rows]) for id in room.exercises]
    return page("index.html", room=room, rows=rows, orders=list(zip(*orders, strict=True)), hardest=hardest(room))


def ranks(keys: Sequence[Any]) -> list[int]:
    """The place of each key among all, equal ones in the order they have."""
    order = sorted(range(len(keys)), key=lambda i: keys[i])
    return [order.index(i) for i in range(len(keys))]


def hardest(room: Classroom) -> list[tuple[ExerciseReport, int, Counter[str]]]:
    """Each exercise with the percent of its points that the class earned and how many are in which state, least first."""
    found = []
    for id, one in room.exercises.items():
        mine = [room.of(learner)[id] for learner in room.learners if learner.gradable]
        earned = 100 * sum(each.score for each in mine) // max(sum(each.max for each in mine), 1)
        found.append((one, earned, Counter(each.state for each in mine)))
    return sorted(found, key=lambda entry: (entry[1], entry[0].id))


def page(template: str, **values: Any) -> bytes:
    return pages().get_template(template).render(**values).encode("utf-8", "replace")


# -------------------------------------------------------------------------------------------------------- CSV, JSON


def table(header: Sequence[str], rows: Iterable[Sequence[str | int]]) -> bytes:
    """A CSV file in which no text can be taken for a formula."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow([harmless(name) for name in header])
    writer.writerows([harmless(value) if isinstance(value, str) else value for value in row] for row in rows)
    return buffer.getvalue().encode("utf-8", "replace")


def harmless(text: str) -> str:
    text = text.replace("\0", "")
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def grades_csv(room: Classroom) -> bytes:
    """One row for each learner: points of each exercise, and the sums."""
    header = ["student", "notebooks", "gradable", *room.exercises, "total", "max", "percent"]
    header += [state.replace(" ", "_") for state in STATES]
    return table(header, (grades_row(room, learner) for learner in room.learners))


def grades_row(room: Classroom, learner: Learner) -> list[str | int]:
    exercises, score = room.of(learner), room.score(learner)
    states = Counter(one.state for one in exercises.values())
    row: list[str | int] = [learner.student, len(learner.reports), "yes" if learner.gradable else "no"]
    row += [f"{exercises[id].score / 100:.2f}" for id in room.exercises]
    row += [f"{score / 100:.2f}", f"{room.max / 100:.2f}", percent(score, room.max)]
    return row + [states[state] for state in STATES]


def exercises_csv(room: Classroom) -> bytes:
    """One row for each check of each notebook."""
    header = ("student", "notebook", "exercise", "check", "hidden", "state", "points", "max", "message")
    rows = []
    for learner in room.learners:
        for report in learner.reports:
            for one in report.exercises:
                for check in one.checks:
                    sums = (f"{check.score / 100:.2f}", f"{check.max / 100:.2f}")
                    told = ("yes" if check.hidden else "no", check.state, *sums, message_of(check))
                    rows.append((learner.student, report.submission.id.untrusted, one.id, check.id, *told))
    return table(header, rows)


def lms_csv(room: Classroom) -> bytes:
    """For the grade import of a learning platform, which asks which column is which."""
    header = ("username", "grade", "maximum", "percentage", "feedback")
    return table(header, (lms_row(room, learner) for learner in room.learners))


def lms_row(room: Classroom, learner: Learner) -> tuple[str, ...]:
    score, exercises = room.score(learner), room.of(learner)
    feedback = "; ".join(f"{id}: {WORDS.get(one.state, one.state)}" for id, one in exercises.items())
    return learner.student, f"{score / 100:.2f}", f"{room.max / 100:.2f}", percent(score, room.max), feedback


def grades_json(room: Classroom) -> bytes:
    """All grades in one file, in hundredths of a point."""
    learners = [
        {
            "student": {"untrusted": learner.student},
            "page": f"learners/{learner.name}.html",
            "gradable": learner.gradable,
            "reasons": [report.reason for report in learner.reports if report.reason],
            "score": room.score(learner),
            "max": room.max,
            "exercises": {id: {"state": one.state, "score": one.score, "max": one.max} for id, one in room.of(learner).items()},
        }
        for learner in room.learners
    ]
    return to_json({"schema": "course-grades/1", "unit": "1/100", "learners": learners})


# ------------------------------------------------------------------------------------------------------------ JUnit

ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
JUNIT = {FAILED: "failure", PARTIAL: "failure", ERROR: "error", TIMEOUT: "error", SKIPPED: "skipped", TO_DO: "skipped"}


def junit(room: Classroom) -> bytes:
    """JUnit XML: a suite for each notebook, a case for each check."""
    suites = ET.Element("testsuites", name="course")
    totals: Counter[str] = Counter()
    for report in (report for learner in room.learners for report in learner.reports):
        counts = Counter(JUNIT.get(check.state, "") for one in report.exercises for check in one.checks)
        totals += counts
        suite = ET.SubElement(suites, "testsuite", legal(report.submission.id.untrusted, counts))
        for one in report.exercises:
            for check in one.checks:
                case = ET.SubElement(suite, "testcase", classname=one.id, name=check.id)
                if check.state != PASSED:
                    ET.SubElement(case, JUNIT[check.state], message=ILLEGAL.sub("", message_of(check)))
    suites.attrib |= legal("course", totals)
    return ET.tostring(suites, encoding="utf-8", xml_declaration=True) + b"\n"


def legal(name: str, counts: Counter[str]) -> dict[str, str]:
    """The attributes of a suite."""
    sums = {"failures": "failure", "errors": "error", "skipped": "skipped"}
    return {
        "name": ILLEGAL.sub("", name),
        "tests": str(counts.total()),
        **{name: str(counts[kind]) for name, kind in sums.items()},
    }


# ------------------------------------------------------------------------------------------------- in the terminal


def terminal(report: Report) -> str:
    """One report in lines of text, without any character that steers a terminal."""
    if not report.gradable:
        return f"not gradable: {report.reason}"
    lines = []
    for one in report.exercises:
        lines.append(f"{MARKS[one.state]} {one.id}  {one.title:<40} {points(one.score):>5} of {points(one.max)}")
        for check in one.checks:
            title = f"{check.title}, {WORDS.get(check.state, check.state)}: " if check.hidden else ""
            if check.state not in (PASSED, TO_DO):
                lines.append(f"        {title}{message_of(check)}")
            if check.error:
                lines.append(f"        {check.error.name.untrusted}: {check.error.text.untrusted}".replace("\n", " ")[:500])
    lines += [f"  remark: {flag}" for flag in report.flags]
    layers = f" ({', '.join(report.grader.layers)})" if report.grader.layers else ""
    lines.append(f"{points(report.score)} of {points(report.max)} points; isolation {report.grader.isolation}{layers}")
    return clean("\n".join(lines))


# ------------------------------------------------------------------------------------------------------- Gradescope


def gradescope(reports: Sequence[Report], seconds: int = 0) -> bytes:
    """`results.json` for all notebooks of one submission."""
    reasons = [report.reason for report in reports if not report.gradable]
    graded = [report for report in reports if report.gradable]
    result: dict[str, Any] = {
        "output": "\n".join([*(terminal(report) for report in graded), *reasons]) or "there is no notebook in this submission",
        "output_format": "text",
        "test_output_format": "text",
        "test_name_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "execution_time": seconds,
        "tests": [gradescope_test(one, check) for report in graded for one in report.exercises for check in one.checks],
    }
    if not graded:
        result["score"] = 0
    return json.dumps(result, indent=2).encode()


def gradescope_test(one: ExerciseReport, check: CheckReport) -> dict[str, Any]:
    return {
        "number": one.id,
        "name": check.title,
        "score": check.score / 100,
        "max_score": check.max / 100,
        "status": "passed" if check.state == PASSED else "failed",
        "output": clean(message_of(check)) or WORDS.get(check.state, check.state),
        "visibility": "after_published" if check.hidden else "visible",
        "extra_data": {"state": check.state},
    }


# ----------------------------------------------------------------------------------------------------------- GitHub


def classroom50(reports: Sequence[Report], environment: Mapping[str, str], now: str) -> bytes:
    """`result.json` of schema classroom50/result/v1; its scores are whole numbers, so they count hundredths."""
    tests: list[dict[str, Any]] = [
        {"test-name": f"{one.id} {check.title}", "passed": check.state == PASSED, "score": check.score, "max-score": check.max}
        for report in reports
        for one in report.exercises
        for check in one.checks
    ]
    names = {"classroom": "CLASSROOM", "assignment": "ASSIGNMENT", "owner": "USERNAME", "submission": "SUBMISSION_TAG"}
    names |= {"commit": "COMMIT_URL", "release": "RELEASE_URL", "review": "REVIEW_URL"}
    result: dict[str, Any] = {key: environment.get(name, "") for key, name in names.items()}
    result |= {"schema": "classroom50/result/v1", "datetime": now, "tests": tests}
    result["assignment_type"] = "group" if environment.get("MODE") == "group" else "individual"
    result |= {"score": sum(test["score"] for test in tests), "max-score": sum(test["max-score"] for test in tests)}
    return json.dumps(result, indent=2).encode()


def classroom_result(reports: Sequence[Report]) -> str:
    """The step output `result` that GitHub Classroom's reporter reads: base64 of JSON."""
    exercises = [one for report in reports for one in report.exercises]
    tests: list[dict[str, Any]] = [
        {
            "name": f"{one.id} {one.title}",
            "status": "pass" if one.state == PASSED else "error" if one.state == ERROR else "fail",
            "score": one.score / 100,
            "message": "; ".join(message_of(check) for check in one.checks if message_of(check)),
        }
        for one in exercises
    ]
    done = all(test["status"] == "pass" for test in tests) and all(report.gradable for report in reports)
    result = {"version": 1, "status": "pass" if done else "fail", "max_score": sum(one.max for one in exercises) / 100}
    return base64.b64encode(json.dumps(result | {"tests": tests}).encode()).decode()


def workflow_commands(reports: Sequence[Report]) -> list[str]:
    """At most ten workflow commands, one for each exercise that is not solved."""
    found = []
    for report in reports:
        if not report.gradable:
            found.append(f"::error title=not gradable::{in_command(report.reason)}")
        for one in report.exercises:
            if one.state not in (PASSED, TO_DO):
                words = "; ".join(message_of(check) for check in one.checks if message_of(check)) or WORDS.get(
                    one.state, one.state
                )
                found.append(f"::error title={in_command(one.id, property=True)}::{in_command(words)}")
    return found[:10]


def in_command(text: str, property: bool = False) -> str:
    """`text` inside a workflow command, where it can begin no command of its own."""
    text = clean(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace(":", "%3A").replace(",", "%2C") if property else text


def markdown(reports: Sequence[Report]) -> bytes:
    """A table for the summary of a workflow step."""
    lines = ["| exercise | state | points | |", "|---|---|---|---|"]
    for report in reports:
        lines += [] if report.gradable else [f"| | not gradable | | {in_cell(report.reason)} |"]
        for one in report.exercises:
            words = "; ".join(message_of(check) for check in one.checks if message_of(check))
            state = f"{MARKS[one.state]} {WORDS.get(one.state, one.state)}"
            lines.append(f"| {one.id} {one.title} | {state} | {points(one.score)} of {points(one.max)} | {in_cell(words)} |")
    return "\n".join([*lines, ""]).encode("utf-8", "replace")[:900_000]


def in_cell(text: str) -> str:
    """`text` as text in a cell of a Markdown table."""
    return re.sub(r"([\\`*_{}\[\]<>()#!|~&])", r"\\\1", " ".join(clean(text).split()))
