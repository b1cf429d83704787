"""Pages: one for each learner, and the class at a glance. Nothing in them runs, nothing comes from elsewhere."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import jinja2

from course_utils.grader.output.classroom import Classroom, Learner
from course_utils.grader.output.words import MARKS, WORDS, clean, error_line, message_of, percent, points, titles
from course_utils.grader.records import ExerciseReport
from course_utils.grader.scoring import PASSED


@cache
def pages() -> jinja2.Environment:
    strict: Any = {"undefined": jinja2.StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    found = jinja2.Environment(loader=jinja2.PackageLoader("course_utils.grader"), autoescape=True, **strict)
    found.filters |= {"points": points, "clean": clean}
    found.globals |= {"marks": MARKS, "words": WORDS, "titles": titles(), "percent": percent}
    found.globals |= {"message_of": message_of, "error_line": error_line}
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


def index_page(room: Classroom, claims: Mapping[str, Sequence[str]]) -> bytes:
    """The class at a glance; `claims` names what of the evidence is self-reported, by check.

    Rows change places by style alone: each carries its place in every order.
    """
    rows = [(learner, room.of(learner)) for learner in room.learners]
    names = [unicodedata.normalize("NFKD", learner.student).casefold() for learner, _ in rows]
    orders = [ranks(names), ranks([-room.score(learner) for learner, _ in rows])]
    orders += [ranks([exercises[id].score for _, exercises in rows]) for id in room.exercises]
    ordered = list(zip(*orders, strict=True))
    refused = [report for learner in room.learners for report in learner.reports if not report.gradable]
    both = [(report, learner) for learner in room.learners for report in learner.reports if learner.why_not(report)]
    older = [(report, learner) for report, learner in both if report.gradable]
    lists = {"orders": ordered, "hardest": hardest(room), "refused": refused, "older": older}
    return page("index.html", room=room, rows=rows, claims=claims, **lists)


def ranks(keys: Sequence[Any]) -> list[int]:
    """The place of each key among all, equal ones in the order they have."""
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return sorted(range(len(keys)), key=order.__getitem__)


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
