"""The four example reports of lesson 13 have one fault each, or none, and the check's own rule says which."""

from __future__ import annotations

from course_utils.checks.lesson_13 import CHOICES, wanted
from course_utils.fields.reports import EXAMPLES, side_by_side


def test_three_faults_and_one_to_trust():
    asked = [wanted(report) for report in EXAMPLES]
    assert asked == ["test where it is used", "split by id", "score by group", "trust it"]
    assert set(asked) < set(CHOICES)
    assert EXAMPLES[-1]["score"] == min(report["score"] for report in EXAMPLES), "the prose says so"


def test_a_score_is_that_of_all_groups_together():
    for report in EXAMPLES:
        right, count = (sum(numbers) for numbers in zip(*report["groups"].values(), strict=True))
        assert report["score"] == right / count


def test_side_by_side_in_a_width_that_does_not_wrap():
    text = side_by_side(EXAMPLES)
    assert "train: ['p3-1', 'p31-2', 'p44-3', 'p52-4']" in text
    assert "'hill clinic'" in text
    assert len(text.splitlines()) == 2 * len(EXAMPLES[0]) + 1
    assert max(map(len, text.splitlines())) <= 105
