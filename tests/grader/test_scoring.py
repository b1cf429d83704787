"""Verdicts from evidence: shares, states, dependencies, and what a judge that stops costs."""

import copy
import math
import random
import time
from dataclasses import replace
from fractions import Fraction
from functools import cache

import answers
import numpy as np
import pytest
import torch

from course_utils.checks import all_checks, lesson_module, lessons, stopped
from course_utils.checks.spec import Check, Rng, failed, partial, passed, plain
from course_utils.grader.scoring import (
    ERROR,
    FAILED,
    OWN_CELL,
    PARTIAL,
    PASSED,
    SKIPPED,
    STATES,
    TIMEOUT,
    TO_DO,
    UNMARKED,
    Evidence,
    Failure,
    Raised,
    Verdict,
    explained,
    in_order,
    judge_exercise,
    settle,
    state_of,
)
from course_utils.grader.worker import protocol


def judge_number(data, rng):
    if data < 0:
        raise ZeroDivisionError("in the judge")
    wanted = rng.integer(10, 99)
    return (
        passed()
        if data == wanted
        else partial(Fraction(1, 3), f"near {wanted}")
        if data == wanted + 1
        else failed(f"not {wanted}")
    )


def check(id="90.1", **rest):
    return Check(id, "answer", "a title", lambda answer, rng: answer(rng), judge_number, int, **rest)


def right(seed):
    return Evidence(Rng(seed).integer(10, 99), seed)


def near(seed):
    return Evidence(Rng(seed).integer(10, 99) + 1, seed)


@pytest.mark.parametrize(
    ("evidence", "state", "share", "why"),
    [
        ([right(1), right(2), right(3)], PASSED, 1, ""),
        ([right(1), near(2), near(3)], PARTIAL, Fraction(1, 3), f"near {Rng(2).integer(10, 99)}"),
        ([near(1), Evidence(0, 2), Evidence(0, 3)], FAILED, 0, f"not {Rng(2).integer(10, 99)}"),
        ([right(1), Evidence("42", 2)], FAILED, 0, "your answer should be a whole number, but is a text"),
        ([right(1), Evidence(True, 2)], FAILED, 0, "your answer should be a whole number, but is True or False"),
        ([right(1), Failure(TIMEOUT, "10 s are over")], TIMEOUT, 0, "10 s are over"),
        ([], TO_DO, 0, ""),
    ],
)
def test_the_worst_case_counts_and_its_first_words(evidence, state, share, why):
    verdict = judge_exercise(check(), evidence)
    assert (verdict.state, verdict.share, verdict.why, verdict.fault) == (state, share, why, "")


def test_what_an_answer_raised_is_kept():
    raised = Raised("KeyError", "'x'", 3)
    assert judge_exercise(check(), [right(1), Failure(ERROR, "it stopped", raised)]).raised == raised


@pytest.mark.parametrize(
    ("verdict", "why"),
    [
        (Verdict(ERROR, raised=Raised("NameError", "name 'helper' is not defined")), OWN_CELL),
        (
            Verdict(FAILED, why="NameError: name 'helper' is not defined"),
            f"NameError: name 'helper' is not defined; {OWN_CELL}",
        ),
        (Verdict(ERROR, raised=Raised("NameError", "name 'hepler' is not defined")), ""),
        (Verdict(ERROR, raised=Raised("NameError", "name '<b>' is not defined")), ""),
        (Verdict(FAILED, why="no"), "no"),
        (Verdict(PASSED, Fraction(1)), ""),
    ],
)
def test_an_answer_that_needs_another_cell_is_told_so(verdict, why):
    told = explained(verdict, lambda name: name == "helper")
    assert told.why == why
    assert replace(told, why=verdict.why) == verdict


def endless(data, rng):
    return endless(data, rng)


def greedy(data, rng):
    raise MemoryError


@pytest.mark.parametrize(
    ("judge", "error"),
    [
        (judge_number, "ZeroDivisionError: in the judge"),
        (endless, "RecursionError"),
        (greedy, "MemoryError"),
        (lambda data, rng: None, "AttributeError"),
        (lambda data, rng: partial("much", ""), "ValueError"),
        (lambda data, rng: failed(None), "TypeError"),
        (lambda data, rng: [] + "x" * 10**6, "TypeError"),
    ],
)
def test_a_judge_that_stops_is_our_fault_and_earns_nothing(judge, error):
    """However it stops, it says so in our words; what it said itself is for the instructor, and is not long."""
    verdict = judge_exercise(replace(check(), judge=judge), [Evidence(-1, 1)])
    assert (verdict.state, verdict.share, verdict.why) == (ERROR, 0, UNMARKED)
    assert "the judge of 90.1 stopped: Traceback" in verdict.fault
    assert error in verdict.fault
    assert len(verdict.fault) < 3000


def test_words_that_quote_much_are_cut():
    quoting = replace(check(), evidence=str, judge=lambda data, rng: failed(f"you return {data!r}", note=data))
    verdict = judge_exercise(quoting, [Evidence("x" * 65_000, 1)])
    assert verdict.why.startswith("you return 'xxx")
    assert len(verdict.why) < 3000
    assert len(verdict.note) < 3000


@pytest.mark.parametrize(("share", "counted"), [(Fraction(5), 1), (Fraction(-1), 0)])
def test_a_share_is_between_nothing_and_all(share, counted):
    odd = Check("90.1", "answer", "", None, lambda data, rng: partial(share, ""), int)
    assert judge_exercise(odd, [Evidence(1, 1)]).share == counted


def test_judging_leaves_random_numbers_and_threads_alone():
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    judge_exercise(check(), [right(1)])
    assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())


@pytest.mark.parametrize("lesson", lessons())
def test_the_checks_own_right_and_wrong_answers_are_judged_as_in_the_notebook(lesson):
    for one in lesson_module(lesson).CHECKS:
        first = answers.right(one.id)[0]
        assert judge_exercise(one, gather(one, first.function)).state == PASSED, str(first)
        first = answers.wrong(one.id)[0]
        verdict = judge_exercise(one, gather(one, first.function))
        assert verdict.share < 1, str(first)
        assert first.words in verdict.why


def gather(one, answer):
    found = []
    for seed in range(one.cases):
        try:
            found.append(Evidence(plain(one.probe(answer, Rng(seed))), seed))
        except Exception as error:
            found.append(Failure(FAILED, stopped(error)))
    return found


# ------------------------------------------------------------------------------------------------------ exercises


@pytest.mark.parametrize(
    ("states", "whole"),
    [
        ([PASSED, PASSED], PASSED),
        ([TO_DO, TO_DO], TO_DO),
        ([SKIPPED], SKIPPED),
        ([PASSED, FAILED], PARTIAL),
        ([PARTIAL, TIMEOUT], PARTIAL),
        ([FAILED, TIMEOUT], TIMEOUT),
        ([TIMEOUT, ERROR], ERROR),
        ([TO_DO, FAILED], FAILED),
    ],
)
def test_the_state_of_an_exercise(states, whole):
    shares = {PASSED: Fraction(1), PARTIAL: Fraction(1, 2)}
    assert state_of(Verdict(state, shares.get(state, Fraction(0))) for state in states) == whole
    assert whole in STATES


def test_what_waits_for_an_exercise_that_is_not_solved_is_skipped():
    checks = [check("90.1", after=("90.3",)), check("90.2", after=("90.1",)), check("90.3"), check("90.3.h1")]
    assert [one.id for one in in_order(checks)] == ["90.3", "90.3.h1", "90.1", "90.2"]
    verdicts = {one.id: Verdict(PASSED, Fraction(1)) for one in checks}
    assert settle(checks, verdicts) == {one.id: verdicts[one.id] for one in in_order(checks)}
    settled = settle(checks, verdicts | {"90.3": Verdict(FAILED), "90.3.h1": Verdict(FAILED)})
    assert {id: (one.state, one.why) for id, one in settled.items() if one.state != FAILED} == {
        "90.1": (SKIPPED, "waits for 90.3"),
        "90.2": (SKIPPED, "waits for 90.1"),
    }
    unmarked = verdicts | {"90.3": Verdict(ERROR, why=UNMARKED, fault="a judge stopped"), "90.3.h1": Verdict(FAILED)}
    assert settle(checks, unmarked)["90.1"].state == PASSED  # our fault holds nobody up
    assert settle(checks, verdicts | {"90.3": Verdict(PARTIAL, Fraction(1, 9))})["90.1"].state == PASSED


def test_what_was_not_begun_stays_to_do():
    checks = [check("90.1"), check("90.2", after=("90.1",))]
    assert settle(checks, {"90.1": Verdict(TO_DO), "90.2": Verdict(TO_DO)})["90.2"].state == TO_DO


@pytest.mark.parametrize(
    ("checks", "words"),
    [
        ([check("90.1", after=("90.7",))], "no exercise named '90.7'"),
        ([check("90.1", after=("90.2",)), check("90.2", after=("90.1",))], "wait for each other: 90.1 → 90.2 → 90.1"),
        ([check("90.1"), check("90.1")], "two checks have the id '90.1'"),
    ],
)
def test_checks_that_cannot_be_ordered_are_refused(checks, words):
    with pytest.raises(ValueError, match=words):
        in_order(checks)


def test_the_courses_own_checks_can_be_ordered():
    assert [one.id for one in in_order(all_checks().values())] == list(all_checks())


@pytest.mark.parametrize("id", all_checks())
def test_what_a_check_asks_fits_a_frame_twice(id, monkeypatch):
    """With room to spare, so that an answer which returns a little more is judged and not cut off."""
    for limit in ("FRAME", "TREE", "NODES", "STRING"):
        monkeypatch.setattr(protocol, limit, getattr(protocol, limit) // 2)
    one = all_checks()[id]
    frame = protocol.encode("evidence", "a" * 32, plain(one.probe(answers.answer_of(id), Rng(1))))
    assert protocol.decode(frame).kind == "evidence"


# ------------------------------------------------------------------------------------------------- evidence that is odd


def places(data, path=()):
    """The way to every part of `data`, one for those that differ in a number or a deeper name only."""
    inner = data.items() if type(data) is dict else enumerate(data) if type(data) is list else ()
    found = {tuple(step if type(step) is str and depth < 2 else "" for depth, step in enumerate(path)): path}
    for step, part in inner:
        found = places(part, (*path, step)) | found
    return found


def changed(data, path, part):
    """A copy of `data` with this part at the end of `path`."""
    if not path:
        return part
    copied = copy.copy(data)
    copied[path[0]] = changed(copied[path[0]], path[1:], part)
    return copied


@cache
def asked(id):
    return plain(all_checks()[id].probe(answers.answer_of(id), Rng(1)))


def emptied(part):
    return torch.empty(0, dtype=part.dtype) if type(part) is torch.Tensor else type(part)()


@pytest.mark.parametrize("id", all_checks())
def test_odd_evidence_stops_no_judge(id):
    """Each list, dictionary, text and tensor of what the right answer gives, emptied; and no number any more."""
    right = asked(id)
    found = {path: at(right, path) for path in places(right).values()}
    tried = [changed(right, path, emptied(part)) for path, part in found.items() if isinstance(part, KINDS)]
    for data in (*tried, odd(right, math.nan), odd(right, 2**63 - 1)):
        verdict = judge_exercise(all_checks()[id], [Evidence(data, 1)])
        assert not verdict.fault


KINDS = (list, dict, str, torch.Tensor)


def at(data, path):
    for step in path:
        data = data[step]
    return data


def odd(data, number):
    """`data` with this in the place of all numbers of its kind."""
    if type(data) is list:
        return [odd(part, number) for part in data]
    if type(data) is dict:
        return {key: odd(part, number) for key, part in data.items()}
    if type(data) is torch.Tensor:
        return torch.full_like(data, number) if data.dtype == torch.tensor(number).dtype else data
    return number if type(data) is type(number) else data


@pytest.mark.parametrize("id", all_checks())
def test_a_judge_reads_a_text_in_time_that_grows_with_it(id):
    """In seconds of the processor, of a text four times as long."""
    for path in (path for path in places(asked(id)).values() if type(at(asked(id), path)) is str):
        small, large = (seconds_of(id, changed(asked(id), path, text)) for text in ("x" * 2**14, "x" * 2**16))
        assert large < 10 * small + 0.5, path


def seconds_of(id, data):
    started = time.process_time()
    judge_exercise(all_checks()[id], [Evidence(data, 1)])
    return time.process_time() - started
