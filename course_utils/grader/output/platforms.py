"""What platforms read: JUnit, Gradescope, GitHub."""

from __future__ import annotations

import base64
import json
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from course_utils.grader.output.classroom import Classroom
from course_utils.grader.output.terminal import terminal
from course_utils.grader.output.words import MARKS, WORDS, clean, message_of, points
from course_utils.grader.records import CheckReport, ExerciseReport, Report
from course_utils.grader.scoring import ERROR, FAILED, PARTIAL, PASSED, SKIPPED, TIMEOUT, TO_DO

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
