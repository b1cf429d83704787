"""A report in lines of text."""

from __future__ import annotations

from course_utils.grader.output.words import MARKS, clean, error_line, message_of, points
from course_utils.grader.records import Report
from course_utils.grader.scoring import PASSED, TO_DO


def terminal(report: Report) -> str:
    """One report in lines of text, without any character that steers a terminal."""
    if not report.gradable:
        return f"not gradable: {report.reason}"
    lines = []
    for one in report.exercises:
        lines.append(f"{MARKS[one.state]} {one.id}  {one.title:<40} {points(one.score):>5} of {points(one.max)}")
        for check in one.checks:
            if check.hidden or check.state not in (PASSED, TO_DO):
                lines.append(f"        {message_of(check)}")
            if check.error:
                lines.append(f"        {error_line(check)}".replace("\n", " ")[:500])
    lines += [f"  remark: {flag}" for flag in report.flags]
    layers = f" ({', '.join(report.grader.layers)})" if report.grader.layers else ""
    lines.append(f"{points(report.score)} of {points(report.max)} points; isolation {report.grader.isolation}{layers}")
    return clean("\n".join(lines))
