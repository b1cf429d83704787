"""Tables for spreadsheets, learning platforms and programs, as CSV."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from course_utils.grader.output.classroom import Classroom, Learner
from course_utils.grader.output.words import WORDS, message_of, percent
from course_utils.grader.scoring import STATES


def table(header: Sequence[str], rows: Iterable[Sequence[str | int]]) -> bytes:
    """A CSV file in which no text can be taken for a formula, whatever a spreadsheet takes for the end of a cell."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow([harmless(name) for name in header])
    writer.writerows([harmless(value) if isinstance(value, str) else value for value in row] for row in rows)
    return buffer.getvalue().encode("utf-8", "replace")


def harmless(text: str) -> str:
    text = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "", text)  # nothing that steers a terminal
    return re.sub(r"(^|[;|\t])(?=[=+\-@\t])", r"\1'", text)


def grades_csv(room: Classroom) -> bytes:
    """One row for each learner: points of each exercise, sums, and a line of feedback; platforms ask which column is which."""
    header = ["student", "notebooks", "gradable", *room.exercises, "total", "max", "percent"]
    header += [*(state.replace(" ", "_") for state in STATES), "feedback"]
    return table(header, (grades_row(room, learner) for learner in room.learners))


def grades_row(room: Classroom, learner: Learner) -> list[str | int]:
    exercises, score = room.of(learner), room.score(learner)
    states = Counter(one.state for one in exercises.values())
    row: list[str | int] = [learner.student, len(learner.reports), "yes" if learner.gradable else "no"]
    row += [f"{exercises[id].score / 100:.2f}" for id in room.exercises]
    row += [f"{score / 100:.2f}", f"{room.max / 100:.2f}", percent(score, room.max)]
    feedback = "; ".join(f"{id}: {WORDS.get(one.state, one.state)}" for id, one in exercises.items())
    return [*row, *(states[state] for state in STATES), feedback]


def exercises_csv(room: Classroom, claims: Mapping[str, Sequence[str]]) -> bytes:
    """One row for each check, or for a notebook that does not count; `claims` names what is self-reported, by check."""
    header = ("student", "notebook", "exercise", "check", "hidden", "state", "points", "max", "self_reported", "message")
    return table(header, (row for learner in room.learners for row in exercises_rows(learner, claims)))


def exercises_rows(learner: Learner, claims: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, ...]]:
    for report in learner.reports:
        if why := learner.why_not(report):
            state = "not counted" if report.gradable else "not gradable"
            yield learner.student, report.submission.id.untrusted, "", "", "", state, "", "", "", why
        for one in () if why else report.exercises:
            for check in one.checks:
                sums = (f"{check.score / 100:.2f}", f"{check.max / 100:.2f}", " ".join(claims.get(check.id, ())))
                known = (one.id, check.id, "yes" if check.hidden else "no", check.state, *sums, message_of(check))
                yield (learner.student, report.submission.id.untrusted, *known)
