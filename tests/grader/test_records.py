"""Points and reports: fractions to hundredths, what a learner may know of hidden checks, one form for one content."""

import json
from dataclasses import replace
from fractions import Fraction

import pytest
from examples import BLOB, CANARY, FULL, GRADER, graded, hidden

from course_utils.grader.canonical import to_json
from course_utils.grader.records import (
    Report,
    Untrusted,
    build_notes,
    build_report,
    named,
    noted,
    read_notes,
    read_report,
    refusal,
    with_hidden,
)
from course_utils.grader.scoring import ERROR, FAILED, PARTIAL, PASSED, SKIPPED, TIMEOUT, TO_DO, Raised, Verdict


def report_of(**verdicts) -> Report:
    return build_report(BLOB, GRADER, graded(**verdicts))


def test_points_are_fractions_rounded_down_once():
    third = Verdict(PARTIAL, Fraction(1, 3), "a third")
    report = build_report(BLOB, GRADER, graded(first=third, second=third))
    first = report.exercises[0]
    assert (first.score, first.max) == (133, 400), "two checks of 2 points, a third each: 133.33, not 66 + 66"
    assert [check.score for check in first.checks] == [66, 66]
    assert (report.score, report.max) == (333, 600)
    assert first.state == PARTIAL


def test_full_points_mean_full_share():
    nearly = Verdict(PARTIAL, Fraction(999_999, 1_000_000))
    assert report_of(first=nearly).score == report_of().score - 1


HIDDEN = [
    Verdict(FAILED, why=CANARY, note=CANARY, fault=CANARY),
    Verdict(ERROR, raised=Raised(CANARY, CANARY, 3)),
    Verdict(TIMEOUT, why=CANARY),
    Verdict(SKIPPED, why=CANARY),
    Verdict(TO_DO),
]


def test_a_learner_reads_of_a_hidden_check_what_it_earned_and_nothing_else():
    """However it went, the same points give the same bytes."""
    none = {to_json(report_of(second=verdict)) for verdict in HIDDEN}
    assert len(none) == 1
    body = none.pop().decode()
    assert CANARY not in body
    shown = json.loads(body)["exercises"][0]["checks"][1]
    assert (shown["title"], shown["hidden"], shown["state"], shown["score"], shown["words"], shown["error"]) == (
        "hidden check 1", True, "failed", 0, {"untrusted": ""}, None,
    )  # fmt: skip
    half = [report_of(second=Verdict(PARTIAL, Fraction(1, 2), why)) for why in ("", CANARY)]
    assert half[0] == half[1]
    assert half[0].exercises[0].score == 300
    notes = build_notes(BLOB, "seed", graded(second=HIDDEN[0]))
    assert notes.checks[1].message.untrusted == notes.checks[1].note.untrusted == notes.faults[0] == CANARY
    assert "seed" not in body.replace("seed_sha256", "")


def test_hidden_checks_come_last_and_can_be_taken_out_again():
    whole, notes = report_of(), build_notes(BLOB, "s", graded())
    public = with_hidden(whole, ())
    assert (public.score, public.max, public.exercises[0].state) == (400, 600, PARTIAL)
    assert public.exercises[0].checks[1].title == "hidden check 1 (still to come)"
    assert with_hidden(public, notes.checks) == whole
    without = [note for note in notes.checks if note.id != "90.1.h1"]
    assert with_hidden(public, without) == public
    assert noted(replace(notes, checks=tuple(without)), {"90.1.h1": FULL}).checks == notes.checks


def test_where_nothing_is_earned_the_public_state_stands():
    for state in (TO_DO, SKIPPED, TIMEOUT):
        assert {report_of(first=Verdict(state), second=verdict).exercises[0].state for verdict in HIDDEN} == {state}


def test_addresses_are_left_out_of_errors():
    raised = Raised("ValueError", "bad <object at 0x7f12deadbeef>", 2)
    error = report_of(first=Verdict(FAILED, raised=raised)).exercises[0].checks[0].error
    assert (error.text.untrusted, error.line) == ("bad <object at 0x…>", 2)


def test_a_report_is_read_back_as_it_was_written():
    raised = Raised("E", "\u202e ünïcode \x1b[31m \ud800", 1)
    for record in (report_of(first=Verdict(FAILED, raised=raised)), refusal(BLOB, GRADER, "it is no JSON")):
        body = to_json(record)
        assert read_report(body) == record
        assert to_json(read_report(body)) == body
        assert body.isascii()
        assert body.endswith(b"}\n")
    notes = build_notes(BLOB, "s", graded(first=Verdict(FAILED, raised=raised)))
    assert read_notes(to_json(notes)) == notes
    assert read_notes(to_json(build_notes(BLOB, "s"))).checks == ()


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b"null", to_json(report_of())[:-40], to_json(build_notes(BLOB, "s"))])
def test_half_a_report_is_no_report(body):
    with pytest.raises(ValueError, match=r"this is no report .*; delete it and grade again"):
        read_report(body)


@pytest.mark.parametrize(
    ("old", "new"), [(b'"score": 0', b'"score": 0.0'), (b'"flags": [', b'"flags": [1, '), (b'"gradable"', b'"gradeable"')]
)
def test_a_report_of_another_form_is_no_report(old, new):
    body = to_json(report_of(first=Verdict(FAILED)))
    assert old in body
    with pytest.raises(ValueError, match="this is no report"):
        read_report(body.replace(old, new))


def test_the_name_is_added_last_and_changes_nothing_else():
    for record in (report_of(), build_notes(BLOB, "s")):
        found = named(record, "<b>", "x-12345678")
        assert found.submission == replace(record.submission, id=Untrusted("<b>"), name="x-12345678")
        assert replace(found, submission=record.submission) == record


def test_every_text_of_a_learner_is_marked():
    """In the notes too, where a judge's note and the words of an exception of ours may quote a learner."""
    words = f"you returned M{CANARY}"
    wrong = Verdict(FAILED, why=words, raised=Raised(f"N{CANARY}", f"T{CANARY}", 1), note=CANARY, fault=CANARY)
    found = graded(first=wrong, output=CANARY)
    report = build_report(BLOB, GRADER, found)

    def strings(value, key=""):
        if isinstance(value, dict):
            return [found for name, inner in value.items() for found in strings(inner, name)]
        if isinstance(value, list):
            return [found for inner in value for found in strings(inner, key)]
        return [(key, value)] if isinstance(value, str) and CANARY in value else []

    shown = strings(json.loads(to_json(named(report, f"I{CANARY}", "x"))))
    noted = strings(json.loads(to_json(build_notes(BLOB, "s", found))))
    assert (len(shown), len(noted)) == (5, 6)  # name, text, id, output, words; name, text, three words, output
    assert {key for key, _ in (*shown, *noted)} == {"untrusted"}


def test_the_same_checks_in_any_order_give_the_same_bytes():
    one = graded()
    backwards = graded()
    object.__setattr__(backwards, "checks", one.checks[::-1])
    assert to_json(build_report(BLOB, GRADER, one)) == to_json(build_report(BLOB, GRADER, backwards))


def test_an_exercise_with_hidden_checks_only_has_no_title_to_tell():
    report = build_report(BLOB, GRADER, hidden())
    assert (report.exercises[0].title, report.exercises[0].state, report.hidden_checks) == ("", PASSED, 1)
