"""Points and reports: fractions to hundredths, what a learner may know of hidden checks, one form for one content."""

import json
from fractions import Fraction

import pytest
from examples import BLOB, CANARY, GRADER, graded, hidden

from course_utils.grader.records import Report, build_notes, build_report, named, read_notes, read_report, refusal, to_json
from course_utils.grader.scoring import FAILED, PARTIAL, PASSED, Raised, Verdict


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


def test_a_learner_reads_of_a_hidden_check_that_it_exists_and_how_it_went():
    secret = Verdict(FAILED, why=CANARY, raised=Raised(CANARY, CANARY, 3), note=CANARY, fault=CANARY)
    body = to_json(report_of(second=secret)).decode()
    assert CANARY not in body
    shown = json.loads(body)["exercises"][0]["checks"][1]
    assert (shown["title"], shown["hidden"], shown["state"], shown["message"], shown["error"]) == (
        "hidden check 1", True, "failed", "", None,
    )  # fmt: skip
    notes = build_notes(BLOB, "seed", graded(second=secret))
    assert notes.checks[1].message == notes.checks[1].note == notes.faults[0] == CANARY
    assert "seed" not in body.replace("seed_sha256", "")


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


def test_the_name_is_added_last_and_changes_nothing_else():
    body, notes = to_json(report_of()), to_json(build_notes(BLOB, "s"))
    for one, read in ((body, read_report), (notes, read_notes)):
        found = read(named(one, '"course-notes/1" <b>', "x-12345678")).submission
        assert (found.id.untrusted, found.name, found.sha256) == (
            '"course-notes/1" <b>',
            "x-12345678",
            read(one).submission.sha256,
        )


def test_every_text_of_a_learner_is_marked():
    raised = Raised(f"N{CANARY}", f"T{CANARY}", 1)
    report = build_report(BLOB, GRADER, graded(first=Verdict(FAILED, raised=raised), output=CANARY))
    body = json.loads(named(to_json(report), f"I{CANARY}", "x"))

    def strings(value, key=""):
        if isinstance(value, dict):
            return [found for name, inner in value.items() for found in strings(inner, name)]
        if isinstance(value, list):
            return [found for inner in value for found in strings(inner, key)]
        return [(key, value)] if isinstance(value, str) and CANARY in value else []

    found = strings(body)
    assert len(found) == 4  # name, text, id, output
    assert {key for key, _ in found} == {"untrusted"}


def test_the_same_checks_in_any_order_give_the_same_bytes():
    one = graded()
    backwards = graded()
    object.__setattr__(backwards, "checks", one.checks[::-1])
    assert to_json(build_report(BLOB, GRADER, one)) == to_json(build_report(BLOB, GRADER, backwards))


def test_an_exercise_with_hidden_checks_only_has_no_title_to_tell():
    report = build_report(BLOB, GRADER, hidden())
    assert (report.exercises[0].title, report.exercises[0].state, report.hidden_checks) == ("", PASSED, 1)
