"""What platforms read: JUnit, Gradescope, GitHub."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import Any

from course_utils.grader.output.classroom import Classroom
from course_utils.grader.output.terminal import terminal
from course_utils.grader.output.words import WORDS, clean, error_line, message_of
from course_utils.grader.records import CheckReport, ExerciseReport, Report
from course_utils.grader.scoring import ERROR, FAILED, PARTIAL, PASSED, SKIPPED, TIMEOUT, TO_DO

ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
JUNIT = {FAILED: "failure", PARTIAL: "failure", ERROR: "error", TIMEOUT: "error", SKIPPED: "skipped", TO_DO: "skipped"}
COUNTS = {"tests": "testcase", "failures": "failure", "errors": "error", "skipped": "skipped"}


def junit(room: Classroom) -> bytes:
    """JUnit XML: a suite for each notebook, a case for each check; one that is not gradable is an error."""
    suites = ET.Element("testsuites", name="course")
    for learner, report in ((one, report) for one in room.learners for report in one.reports):
        suite = ET.SubElement(suites, "testsuite", name=ILLEGAL.sub("", name_of(report)))
        if why := learner.why_not(report):
            case(suite, report.lesson, "counts", "skipped" if report.gradable else "error", why)
        for one in () if why else report.exercises:
            for check in one.checks:
                case(suite, one.id, check.id, JUNIT.get(check.state, ""), message_of(check))
    for node in suites.iter():
        if node.tag in ("testsuite", "testsuites"):
            node.attrib |= {name: str(len(list(node.iter(tag)))) for name, tag in COUNTS.items()}
    return ET.tostring(suites, encoding="utf-8", xml_declaration=True) + b"\n"


def case(suite: ET.Element, group: str, name: str, outcome: str, message: str) -> None:
    found = ET.SubElement(suite, "testcase", classname=group, name=name)
    if outcome:
        ET.SubElement(found, outcome, message=ILLEGAL.sub("", message))


def gradescope(reports: Sequence[Report]) -> bytes:
    """`results.json` for all notebooks of one submission; what is said of hidden checks shows once grades are published."""
    graded = [report for report in reports if report.gradable]
    remarks = [f"{name_of(report)}: {remark}" for report in reports for remark in (report.reason, *report.flags) if remark]
    result: dict[str, Any] = {
        "output": clean("\n".join(remarks)) if reports else "there is no notebook in this submission",
        **dict.fromkeys(("output_format", "test_output_format", "test_name_format"), "text"),
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "tests": [gradescope_test(one, check) for report in graded for one in report.exercises for check in one.checks],
    }
    return json.dumps(result if graded else result | {"score": 0}, indent=2).encode()


def gradescope_test(one: ExerciseReport, check: CheckReport) -> dict[str, Any]:
    return {
        "number": one.id,
        "name": check.title,
        "score": check.score / 100,
        "max_score": check.max / 100,
        "status": "passed" if check.state == PASSED else "failed",
        "output": clean("\n".join(filter(None, (message_of(check), error_line(check))))) or WORDS.get(check.state, check.state),
        "visibility": "after_published" if check.hidden else "visible",
    }


def name_of(report: Report) -> str:
    return report.submission.id.untrusted


def github(reports: Sequence[Report]) -> bytes:
    """One line of JSON in the form that GitHub Classroom's reporter reads; a notebook that is not gradable is an error."""
    tests: list[dict[str, Any]] = []
    for report in reports:
        if not report.gradable:
            tests.append({"name": name_of(report), "status": "error", "score": 0, "message": report.reason})
        for one in report.exercises:
            test = {"name": f"{one.id} {one.title}", "status": "pass" if one.score == one.max else "fail"}
            words = "; ".join(filter(None, map(message_of, one.checks)))
            tests.append({**test, "score": one.score / 100, "message": words})
    done = bool(tests) and all(test["status"] == "pass" for test in tests)
    full = sum(report.max for report in reports) / 100
    return json.dumps({"version": 1, "status": "pass" if done else "fail", "max_score": full, "tests": tests}).encode()


def markdown(reports: Sequence[Report]) -> bytes:
    """The summary of a workflow step: what a terminal shows, as indented code, in which nothing has a meaning."""
    lines = "\n".join(map(terminal, reports)).split("\n")
    return "".join(f"    {line}\n" for line in lines).encode("utf-8", "replace")[:900_000]
