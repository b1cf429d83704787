"""The instructor's handbook: each exercise has its slips, and what the learner reads is really said by its check."""

from __future__ import annotations

import re
from collections import defaultdict
from functools import cache

import pytest
from answers import CHECKS, wrong

from course_utils.checks import verdict_of
from course_utils.profiles import HOME

TEXT = (HOME / "docs" / "handbook.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (\d\d\.\d+) \| (.+?) \| “(.+?)” \| (.+?) \|$", TEXT, re.MULTILINE)


def quotes() -> dict[str, list[str]]:
    found = defaultdict(list)
    for id, _, quote, _ in ROWS:
        found[id].append(quote)
    return dict(found)


@cache
def said(id: str, number: int) -> str:
    """The sentence that the wrong answer of this number gets."""
    verdict, why = verdict_of(CHECKS[id], wrong(id)[number].function)
    assert verdict == "not yet"
    return why


def speaks(sentence: str, quote: str) -> bool:
    """Whether `quote` stands in the sentence, with anything where it has an ellipsis."""
    return re.search(".*".join(map(re.escape, quote.split(" … "))), sentence) is not None


def nearest_first(id: str, quote: str) -> list[int]:
    """The wrong answers whose expected words are most like the quote come first: running them takes the time."""
    words = set(re.findall(r"\w+", quote))
    answers = wrong(id)
    return sorted(range(len(answers)), key=lambda i: -len(words & set(re.findall(r"\w+", answers[i].words))))


def test_each_row_of_a_table_is_read():
    assert len(ROWS) == len(re.findall(r"^\| \d\d\.\d", TEXT, re.MULTILINE))


def test_each_exercise_of_the_course_has_its_slips_in_order():
    ids = [id for id, *_ in ROWS]
    assert ids == sorted(ids)
    assert list(quotes()) == list(CHECKS)
    assert [id for id in CHECKS if ids.count(id) < 3] == []


def test_the_instructor_asks():
    told = [question for *_, question in ROWS if "?" not in question]
    assert told == []
    assert len({question for *_, question in ROWS}) == len(ROWS)


@pytest.mark.parametrize("id", CHECKS)
def test_what_the_learner_reads_is_what_the_check_says(id, capsys):
    for quote in quotes()[id]:
        found = any(speaks(said(id, number), quote) for number in nearest_first(id, quote))
        assert found, f"no wrong answer to {id} is told “{quote}”"
