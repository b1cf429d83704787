"""Reports by learner, and all learners together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from course_utils.grader.intake.archive import safe_name, student_of
from course_utils.grader.records import ExerciseReport, Grader, Output, Report, counting
from course_utils.grader.scoring import TO_DO


@dataclass(frozen=True)
class Learner:
    """Everything one person handed in, by name. Of a lesson the last notebook counts: the best would reward guessing."""

    student: str
    reports: tuple[Report, ...]

    @property
    def name(self) -> str:
        """The name of this learner's page."""
        return safe_name(self.student)

    @cached_property
    def counting(self) -> dict[str, Report]:
        """The notebook of each lesson that counts."""
        return counting(self.reports)

    def why_not(self, report: Report) -> str:
        """Why one of the reports does not count, or nothing."""
        if not report.gradable:
            return report.reason
        last = self.counting[report.lesson]
        return "" if report is last else f"of lesson {report.lesson} the last notebook counts: {last.submission.id.untrusted}"

    @cached_property
    def exercises(self) -> dict[str, ExerciseReport]:
        """Those that count, by id."""
        return dict(sorted((one.id, one) for report in self.counting.values() for one in report.exercises))

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
