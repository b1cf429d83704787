"""Checks: right answers pass, wrong ones get their words, the blank one is to do, and nothing makes a check fall over."""

from __future__ import annotations

import builtins
import dis
import inspect
import json
import math
import random
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from answers import CHECKS, LESSONS, SOURCES, answer_of, answers_module, right, source_of, wrong
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import course_utils
from course_utils import checks
from course_utils.checks import Check, all_checks, check, lesson_module, lessons, progress, spec, verdict_of
from course_utils.checks.spec import Result, Rng, close, failed, mismatch, partial, passed, plain, same
from course_utils.errors import STUB
from course_utils.profiles import HOME
from course_utils.verdict_log import record, verdicts

WRONG = [answer for id in CHECKS for answer in wrong(id)]
RIGHT = [answer for id in CHECKS for answer in right(id)]
each_check = pytest.mark.parametrize("id", CHECKS)


@pytest.fixture(autouse=True)
def own_grades(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_GRADES", str(tmp_path / "grades.jsonl"))
    return tmp_path / "grades.jsonl"


def verdict(id: str, answer: Any, capsys) -> str:
    """What the learner reads behind "Exercise NN.k: "."""
    assert check(id, answer) is None
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Exercise ")]
    assert len(printed) == 1, printed
    assert printed[0].startswith(f"Exercise {id}: "), printed[0]
    return printed[0].removeprefix(f"Exercise {id}: ")


@each_check
def test_the_solution_passes(id, capsys):
    assert verdict(id, answer_of(id), capsys) == "passed"


@each_check
def test_the_blank_exercise_is_to_do(id, capsys):
    assert verdict(id, answer_of(id, blanked=True), capsys) == "to do"


@pytest.mark.parametrize("answer", RIGHT, ids=str)
def test_other_right_answers_pass(answer, capsys):
    assert verdict(answer.id, answer.function, capsys) == "passed"


@pytest.mark.parametrize("answer", WRONG, ids=str)
def test_wrong_answers_get_their_words(answer, capsys):
    said = verdict(answer.id, answer.function, capsys)
    assert said.startswith("not yet: ")
    assert answer.words, "without words it would count as a right answer"
    assert answer.words in said


@each_check
def test_a_check_is_complete(id):
    module, one = answers_module(id[:2]), CHECKS[id]
    assert len(wrong(id)) >= (5 if module.__name__.startswith("answers_") else 3), "five slips of people at least"
    assert len(right(id)) >= 1, "one right answer at least that is not the solution's"
    assert module.WRONG.keys() == module.RIGHT.keys() == {other.id for other in lesson_module(id[:2]).CHECKS}
    assert one.points >= 1
    assert one.cases >= 1
    assert one.title
    assert set(one.after) <= CHECKS.keys()


@pytest.mark.parametrize("lesson", LESSONS)
def test_every_exercise_has_its_check(lesson):
    exercises = [cell.id for cell in source_of(lesson).cells if "exercise" in cell.metadata.get("tags", [])]
    assert [one.id for one in lesson_module(lesson).CHECKS] == [
        id.removeprefix("exercise-").replace("-", ".") for id in exercises
    ]
    assert all(one.id.startswith(f"{lesson}.") for one in lesson_module(lesson).CHECKS)


def test_checks_and_exercises_belong_to_the_same_lessons():
    with_exercises = [
        lesson for lesson in SOURCES if any("exercise" in cell.metadata.get("tags", []) for cell in source_of(lesson).cells)
    ]
    assert lessons() == sorted(with_exercises)


# ------------------------------------------------------------------------------------------------ whatever it is given


def endless(*args, **kwargs):
    return endless(*args, **kwargs)


def round_and_round(*args, **kwargs):
    found: list = []
    found.append(found)
    return found


def raises(error: Exception) -> Callable:
    def answer(*args, **kwargs):
        raise error

    return answer


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even words")


def bare(*args, **kwargs):
    return object()


def spoil_everything(*args, **kwargs):
    """Takes away what the check has lent."""
    for arg in args:
        if isinstance(arg, nn.Module):
            for name, _ in list(arg.named_children()):
                delattr(arg, name)
        elif isinstance(arg, Tensor):
            arg.detach().resize_(0) if arg.is_leaf else None
        elif isinstance(arg, (dict, list)):
            arg.clear()


STRANGE = {
    "none": None,
    "number": 3,
    "text": "text",
    "object": object(),
    "a class": Exception,
    "a module": nn.Linear(2, 2),
    "no arguments": lambda: None,
    "too many arguments": lambda a, b, c, d, e, f, g, h: None,
    "only named arguments": lambda *, answer: None,
    "returns nothing": lambda *args, **kwargs: None,
    "returns what it gets": lambda *args, **kwargs: args,
    "returns the first": lambda *args, **kwargs: args[0] if args else kwargs,
    "returns a text": lambda *args, **kwargs: "text",
    "returns nan": lambda *args, **kwargs: math.nan,
    "returns a tensor": lambda *args, **kwargs: torch.zeros(2, 3),
    "returns an empty tensor": lambda *args, **kwargs: torch.zeros(0),
    "returns a tensor of nan": lambda *args, **kwargs: torch.full((3,), math.nan),
    "returns a tensor of whole numbers": lambda *args, **kwargs: torch.zeros(2, dtype=torch.int64),
    "returns a tensor without values": lambda *args, **kwargs: torch.empty(2, device="meta"),
    "returns an empty list": lambda *args, **kwargs: [],
    "returns lists": lambda *args, **kwargs: [[], [[]]],
    "returns texts": lambda *args, **kwargs: ["a", "b"],
    "returns an empty dictionary": lambda *args, **kwargs: {},
    "returns a dictionary": lambda *args, **kwargs: {"a": 1, "b": None},
    "returns a pair": lambda *args, **kwargs: (0, 0),
    "returns a network": lambda *args, **kwargs: nn.Sequential(nn.Flatten(), nn.Linear(3, 2)),
    "returns a generator": lambda *args, **kwargs: (i for i in range(3)),
    "returns itself": lambda *args, **kwargs: check,
    "returns an object": bare,
    "never ends": endless,
    "contains itself": round_and_round,
    "raises": raises(RuntimeError("several\nlines")),
    "raises without words": raises(ValueError()),
    "raises a missing operator": raises(NotImplementedError("aten::something")),
    "raises not implemented": raises(NotImplementedError()),
    "raises a failed assertion": raises(AssertionError("mine")),
    "spoils everything": spoil_everything,
}


@contextmanager
def named(name: str) -> Iterator[None]:
    """What fails says which of many cases it was."""
    try:
        yield
    except Exception as error:
        error.add_note(f"the answer that {name!r} stands for")
        raise


@each_check
def test_a_check_never_raises(id, capsys):
    for name, answer in STRANGE.items():
        with named(name):
            said = verdict(id, answer, capsys)
            assert said.startswith("not yet: ")
            assert len(said) > len("not yet: ") + 5, "with words"
            assert "\n" not in said
            assert " at 0x" not in said


def leave(*args, **kwargs):
    raise SystemExit(3)


@each_check
def test_who_leaves_may_leave(id):
    with pytest.raises(SystemExit):
        check(id, leave)


@each_check
def test_an_error_that_cannot_be_shown_stops_nothing(id, capsys):
    check(id, raises(Mute()))
    assert "passed" not in capsys.readouterr().out


def test_an_unknown_exercise(capsys):
    for id in ("99.9", "nonsense", None, ["03.1"], 3.1):
        check(id, lambda: None)
        assert "could not be checked: " in capsys.readouterr().out


def dice(*args, **kwargs):
    """Draws from everything that draws, and leaves switches behind."""
    torch.rand(3), random.random(), np.random.rand()
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)
    torch.set_grad_enabled(False)


@each_check
@pytest.mark.parametrize("kind", ["the solution", "blank", "dice"])
def test_random_numbers_and_switches_are_as_before(id, kind, capsys):
    answer = dice if kind == "dice" else answer_of(id, blanked=kind == "blank")
    torch.rand(1), random.random(), np.random.rand()
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist(), torch.get_num_threads()
    check(id, answer)
    after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist(), torch.get_num_threads()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    assert torch.get_default_dtype() is torch.float32


@each_check
def test_the_verdict_does_not_depend_on_earlier_cells(id):
    """On random numbers drawn before, or on gradients switched off."""
    answer = answer_of(id)
    for seed in (0, 1):
        torch.manual_seed(seed)
        with torch.set_grad_enabled(bool(seed)):
            assert verdict_of(CHECKS[id], answer) == ("passed", "")


# ------------------------------------------------------------------------------------------------------ probe and judge

ALLOWED = ("torch", "torchvision", "numpy", "math", "collections")
PUBLIC = [getattr(course_utils, name) for name in course_utils.__all__]
PUBLIC += [one for one in vars(spec).values() if getattr(one, "__module__", None) == spec.__name__]  # `look`, `Rng`, …


def code_in(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from code_in(constant)


def names_loaded(function: FunctionType) -> tuple[set[str], set[str]]:
    """Global names and modules that `function` uses, in functions inside it too."""
    steps = [step for code in code_in(function.__code__) for step in dis.get_instructions(code)]
    names = {step.argval for step in steps if step.opname in ("LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL")}
    return names, {step.argval for step in steps if step.opname == "IMPORT_NAME"}


def from_allowed_package(value: Any) -> bool:
    home = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None) or ""
    return home.partition(".")[0] in ALLOWED or home == "course_utils.checks.spec"


def strangers(function: FunctionType, seen: set[str]) -> list[str]:
    """Names used by `function`, or by what goes beside it, that would be missing on the other side of a wall."""
    found: list[str] = []
    names, modules = names_loaded(function)
    found += [name for name in modules if name.partition(".")[0] not in (*ALLOWED, "course_utils")]
    for name in names - seen:
        seen.add(name)
        value = function.__globals__.get(name, getattr(builtins, name, None))
        if isinstance(value, FunctionType) and value.__module__ == function.__module__:
            found += strangers(value, seen) if getattr(value, "beside", False) else [f"{name} (mark it @beside)"]
        elif not (hasattr(builtins, name) or from_allowed_package(value) or any(value is public for public in PUBLIC)):
            found.append(name)
    return found


@each_check
def test_a_probe_brings_all_it_needs(id):
    for part in CHECKS[id].parts or (CHECKS[id].probe,):
        assert isinstance(part, FunctionType)
        assert not part.__closure__
        assert strangers(part, set()) == []


@each_check
def test_evidence_is_plain_and_fits_its_pattern(id):
    one = CHECKS[id]
    data = plain(one.probe(answer_of(id), Rng(1)))
    assert mismatch(data, one.evidence) is None
    assert plain(data) is not data or not isinstance(data, (list, dict))


@each_check
def test_equal_dice_give_an_equal_verdict(id):
    """The judge needs nothing of the probe but its data."""
    one = CHECKS[id]
    data = plain(one.probe(answer_of(id), Rng(7)))
    for _ in range(2):
        assert one.judge(plain(data), Rng(7)) == passed()


@each_check
def test_fresh_numbers_do_not_change_the_verdict(id):
    """The solution passes with other dice than those of the notebook, and memorised evidence does not."""
    one, answer = CHECKS[id], answer_of(id)
    for seed in range(100, 105):
        assert one.judge(plain(one.probe(answer, Rng(seed))), Rng(seed)) == passed(), f"dice {seed}"


@pytest.mark.parametrize("answer", RIGHT, ids=str)
def test_fresh_numbers_cost_no_other_right_answer_a_point(answer):
    """At grading the dice are new and secret: who is right must be right with all of them."""
    function = answer.function
    with checks.in_passing():
        assert [checks.one_case(CHECKS[answer.id], function, seed) for seed in range(200, 206)] == [passed()] * 6


@pytest.mark.parametrize("answer", WRONG, ids=str)
def test_fresh_numbers_help_no_wrong_answer(answer):
    """Two gradings, of as many cases as the check has."""
    one, function = CHECKS[answer.id], answer.function
    for begin in (300, 400):
        with checks.in_passing():  # one case that is not passed is enough
            assert any(checks.one_case(one, function, begin + case) != passed() for case in range(one.cases))


def test_the_checks_stay_short():
    """Cases, questions and rules of the exercises, no answers: what a learner's machine needs and nothing else."""
    lines = {lesson: len(inspect.getsource(lesson_module(lesson)).splitlines()) for lesson in LESSONS}
    core = [lesson for lesson in LESSONS if lesson <= "06"]
    assert sum(lines[lesson] for lesson in core) <= 1700, lines
    later = [id for id in CHECKS if id.partition(".")[0] not in core]
    assert sum(lines.values()) - sum(lines[lesson] for lesson in core) <= 115 * len(later), lines


def test_the_readme_quotes_a_check(capsys):
    text = (HOME / "README.md").read_text(encoding="utf-8")
    (id,) = re.findall(r"^Exercise (\S+): not yet: ", text, re.MULTILINE)
    said = {verdict(id, answer.function, capsys) for answer in wrong(id)}
    assert any(f"\nExercise {id}: {words}\n" in text for words in said)


def test_how_long_the_checks_take(capsys):
    """A report, not a limit: a check should take below a second."""
    took = {}
    for id in CHECKS:
        answer, started = answer_of(id), time.perf_counter()
        check(id, answer)
        took[id] = time.perf_counter() - started
    with capsys.disabled():
        print("\n" + "".join(f"  check {id}  {seconds:.2f} s\n" for id, seconds in took.items()), end="")


# -------------------------------------------------------------------------------------------------------- what it logs


@each_check
def test_every_verdict_is_one_line_of_json(id, own_grades):
    check(id, answer_of(id, blanked=True))
    check(id, None)
    check(id, answer_of(id))
    lines = [json.loads(line) for line in own_grades.read_text().splitlines()]
    assert [line["exercise"] for line in lines] == [id] * 3
    assert [line["verdict"] for line in lines] == ["to do", "not yet", "passed"]
    assert bool(lines[1]["why"])
    assert verdicts() == {id: "passed"}


def test_passed_once_is_passed(own_grades):
    for one in ("to do", "not yet", "passed", "not yet"):
        record("03.1", one, "why")
    record("03.2", "not yet", "ü\nn")
    own_grades.write_text(own_grades.read_text() + '{"exercise": "03.3", "verd\n[1]\nnull\n{"verdict": "passed"}\n')
    assert verdicts() == {"03.1": "passed", "03.2": "not yet"}


def test_a_log_that_cannot_be_written_stops_nothing(monkeypatch, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COURSE_GRADES", str(tmp_path / "file" / "grades.jsonl"))
    record("03.1", "passed", "")
    assert verdicts() == {}
    check("03.1", None)
    assert "Exercise 03.1: not yet" in capsys.readouterr().out


def test_progress_shows_what_is_passed(capsys):
    some = next(iter(CHECKS))
    record(some, "passed", "")
    progress(some.partition(".")[0])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(lesson_module(some.partition(".")[0]).CHECKS)
    assert lines[0].startswith(f"✓ {some}")
    assert all(line.startswith("·") and line.endswith("to do") for line in lines[1:])
    progress()
    assert len(capsys.readouterr().out.splitlines()) == len(all_checks())


# ------------------------------------------------------------------------------------------------- verdicts from results


def made_check(judge: Callable, probe: Callable = lambda answer, rng: answer(), **options) -> Check:
    return Check("01.1", "answer", "a title", probe, judge, Any, **options)


def test_the_worst_case_counts():
    results = iter([passed(), partial(0.5, "half"), partial(0.5, "second half")])
    one = made_check(lambda data, rng: next(results))
    assert verdict_of(one, lambda: 1) == ("not yet", "partly right: half")
    results = iter([partial(0.5, "half"), failed("nothing")])
    assert verdict_of(one, lambda: 1) == ("not yet", "nothing")


def test_each_case_has_dice_of_its_own_and_both_sides_the_same():
    drawn: dict[str, list] = {"probe": [], "judge": []}

    def draw(side: str, rng: Rng) -> None:
        with rng.torch():
            drawn[side].append((rng.integer(0, 10**9), rng.choice("abc"), rng.shuffled([1, 2, 3]), torch.rand(1).item()))

    one = made_check(lambda data, rng: draw("judge", rng) or passed(), lambda answer, rng: draw("probe", rng), cases=4)
    assert verdict_of(one, len) == ("passed", "")
    assert drawn["probe"] == drawn["judge"]
    assert len({case[0] for case in drawn["probe"]}) == 4


def test_a_judge_that_fails_says_so(capsys, monkeypatch):
    one = made_check(lambda data, rng: 1 / 0)
    monkeypatch.setattr(checks, "find", lambda id: one)
    check("01.1", lambda: 1)
    assert capsys.readouterr().out == "Exercise 01.1 could not be checked: division by zero\n"


def test_where_an_answer_stopped():
    space: dict = {}
    exec(compile("def answer():\n    x = 1\n    return x.missing", "<cell>", "exec"), space)
    said = verdict_of(made_check(lambda data, rng: passed()), space["answer"])
    assert said == ("not yet", "it stopped with AttributeError in line 3 of your cell: 'int' object has no attribute 'missing'")


def test_the_stub_is_to_do_and_other_missing_things_are_not():
    one = made_check(lambda data, rng: passed())
    assert verdict_of(one, raises(NotImplementedError(STUB))) == ("to do", "")
    assert verdict_of(one, raises(NotImplementedError("no kernel")))[0] == "not yet"


def test_evidence_of_the_wrong_shape_never_reaches_the_judge():
    def judge(data: Any, rng: Rng) -> Result:
        raise AssertionError("the judge saw it")

    one = Check("01.1", "answer", "a title", lambda answer, rng: answer(), judge, {"loss": float})
    assert verdict_of(one, lambda: {"loss": "1"}) == ("not yet", "your answer['loss'] should be a number, but is a text")


# ---------------------------------------------------------------------------------------------------------- plain data

leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3)
trees = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3)
)


@given(trees)
def test_plain_data_stays_as_it_is(data):
    assert plain(data) == data


@given(trees)
def test_data_fits_its_own_pattern_only(data):
    def pattern_of(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: pattern_of(item) for key, item in value.items()}
        return list if isinstance(value, list) else type(value)

    assert mismatch(data, Any) is None
    if not isinstance(data, list):
        assert mismatch(data, pattern_of(data)) is None or any(isinstance(item, list) for item in walk(data))
    assert mismatch({"extra": data}, {}) is not None


def walk(data: Any) -> Iterator[Any]:
    yield data
    for item in data.values() if isinstance(data, dict) else data if isinstance(data, list) else ():
        yield from walk(item)


def test_what_says_the_same_is_plain_too():
    given = {"a": (1, np.float64(0.5)), "b": torch.Size([2, 3]), "c": OrderedDict(d=np.int64(4), e=np.bool_(True))}
    data = plain(given)
    assert data == {"a": [1, 0.5], "b": [2, 3], "c": {"d": 4, "e": True}}
    assert [type(value) for value in (data["a"][1], data["c"]["d"], data["c"]["e"])] == [float, int, bool]


def test_tensors_are_copied():
    tensor = nn.Parameter(torch.ones(2))
    data = plain([tensor])
    tensor.data.zero_()
    assert data[0].tolist() == [1, 1]
    assert not data[0].requires_grad
    assert type(data[0]) is Tensor


@pytest.mark.parametrize("value", [object(), {1: 2}, {1, 2}, nn.Linear(1, 1), b"bytes", 1j, np.zeros(2)])
def test_what_is_not_plain(value):
    with pytest.raises(TypeError, match=r"your answer gives a \w+ where a number, a text, a list or a tensor is expected"):
        plain([value])


@pytest.mark.parametrize(
    ("data", "pattern", "words"),
    [
        (None, float, "your answer should be a number, but is None: does your function return something?"),
        (1.5, int, "your answer should be a whole number, but is a number"),
        (True, int, "your answer should be a whole number, but is True or False"),
        ("a", Tensor, "your answer should be a tensor, but is a text"),
        ([1, "a"], [int], "item 1 of your answer should be a whole number, but is a text"),
        (3, [int], "your answer should be a list, but is a whole number"),
        ({"a": 1}, {"b": int}, "your answer should have the keys ['b'], but has ['a']"),
        ({"a": {"b": 1}}, {str: {"b": str}}, "your answer['a']['b'] should be a text, but is a whole number"),
        ([], {"a": int}, "your answer should be a dictionary, but is a list or a tuple"),
    ],
)
def test_words_for_the_wrong_shape(data, pattern, words):
    assert mismatch(data, pattern) == words


def test_a_whole_number_is_a_number():
    assert mismatch(3, float) is None
    assert mismatch([1, 2.5], [float]) is None
    assert mismatch([], [int]) is None


def test_same_and_close():
    a = torch.tensor([1.0, 2.0])
    assert same(a, a.clone())
    assert close(a, a + 1e-6)
    assert not same(a, a + 1e-6)
    assert not close(a, a + 1e-2)
    for other in (a.double(), a[None], a[:1], torch.tensor([1.0, math.nan])):
        assert not same(a, other)
        assert not close(a, other)
    assert not close(torch.tensor(math.nan), torch.tensor(math.nan))
