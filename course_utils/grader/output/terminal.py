"""A report in lines of text."""

from __future__ import annotations

from course_utils.grader.output.words import MARKS, error_line, line, message_of, points
from course_utils.grader.records import Report
from course_utils.grader.scoring import PASSED, TO_DO


def terminal(report: Report) -> str:
    """One report in lines of text, none of which begins with a learner's words or holds what steers a terminal."""
    if not report.gradable:
        return f"not gradable: {line(report.reason)}"
    lines = []
    for one in report.exercises:
        lines.append(f"{MARKS[one.state]} {one.id}  {one.title:<40} {points(one.score):>5} of {points(one.max)}")
        for check in one.checks:
            if check.hidden or check.state not in (PASSED, TO_DO):
                lines.append(f"        {line(message_of(check))}")
            if check.error:
                lines.append(f"        {line(error_line(check))[:500]}")
    lines += [f"  remark: {line(flag)}" for flag in report.flags]
    layers = f" ({', '.join(report.grader.layers)})" if report.grader.layers else ""
    lines.append(f"{points(report.score)} of {points(report.max)} points; isolation {report.grader.isolation}{layers}")
    return "\n".join(lines)
