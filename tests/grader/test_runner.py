"""One notebook and many: right and wrong answers, equal bytes whoever computes, and a run that goes on where it stopped."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import pytest
from handed_in import notebook, processes, states

from course_utils.checks import lesson_module, lessons
from course_utils.checks.spec import Check
from course_utils.grader import client, evidence, grading, probes, runner, scoring
from course_utils.grader.intake.answers import Submission
from course_utils.grader.intake.archive import Upload
from course_utils.grader.records import Output
from course_utils.grader.sandbox import levels

pytestmark = [pytest.mark.sandbox, pytest.mark.usefixtures("warm")]
SEED = "5" * 32
JOB = evidence.Job(SEED)


def graded(blob: bytes) -> dict:
    return json.loads(grading.grade_one(blob, JOB)[0])


# ------------------------------------------------------------------------------------------------- right and wrong


@pytest.mark.parametrize("lesson", lessons())
def test_solutions_get_all_points_and_blanks_none(lesson):
    report = graded(notebook(lesson, {}, "solutions"))
    assert report["score"] == report["max"] > 0, report
    report = graded(notebook(lesson, {}))
    assert (report["score"], set(states(report).values())) == (0, {"to do"})


# ------------------------------------------------------------------------------------------------------ a second chance


@pytest.mark.parametrize(("again", "busy", "times"), [(True, False, 2), (True, True, 1), (False, False, 1)])
def test_what_was_late_because_the_machine_was_busy_is_tried_again(monkeypatch, again, busy, times):
    tried = []

    def late(*_: object) -> evidence.Tried:
        tried.append(1)
        return evidence.Tried((scoring.Failure(scoring.TIMEOUT),), Output(), busy)

    monkeypatch.setattr(evidence, "attempt", late)
    (check,) = (one for one in lesson_module("03").CHECKS if one.id == "03.3")
    assert evidence.collect(check, {"03.3": ""}, JOB, again=again).failure == scoring.Failure(scoring.TIMEOUT)
    assert len(tried) == times


def test_hidden_checks_of_an_answer_that_was_late_are_tried_once(monkeypatch):
    """Of that answer only: the others keep their second chance."""
    hidden = (("h.py", HEAD + "def probe(f, rng):\n    return f(1)\n" + TAIL),)
    asked = []

    def collect(check: Check, answers: dict, job: evidence.Job, *, again: bool) -> evidence.Tried:
        asked.append((check.id, again))
        return evidence.Tried((scoring.Failure(scoring.TIMEOUT if check.id == "03.3" else scoring.ERROR),), Output())

    monkeypatch.setattr(grading, "collect", collect)
    grading.grade(Submission(dict.fromkeys(("03.1", "03.2", "03.3"), ""), (), "03"), replace(JOB, hidden=hidden))
    assert asked == [("03.1", True), ("03.2", True), ("03.3", True), ("03.3.h1", False)]


# ----------------------------------------------------------------------------------------------------- the same bytes

WRONG = "def what_moves(gradient, train_mode, in_optimizer):\n    return True, True\n"
ENDS = "import os\nos._exit(0)\n"


def class_of(count: int = 6) -> list[Upload]:
    blobs = [
        notebook("03", {}, "solutions"),
        notebook("03", {}),
        notebook("03", {"03.3": WRONG}),
        notebook("03", {"03.3": ENDS}),
    ]
    blobs += [b"no notebook", blobs[0]]
    return [Upload(f"learner-{number}/03.ipynb", blob) for number, blob in enumerate(blobs[:count])]


def contents(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> Path:
    """The class graded by this process alone."""
    out = tmp_path_factory.mktemp("first")
    assert runner.grade_many(class_of(), JOB, 1, out) == []
    return out


def test_reports_of_a_class(first):
    reports = [json.loads(path.read_bytes()) for path in sorted((first / "reports").iterdir())]
    assert [report["submission"]["id"]["untrusted"] for report in reports] == [upload.name for upload in class_of()]
    assert [report["gradable"] for report in reports] == [True, True, True, True, False, True]
    assert [states(report).get("03.3") for report in reports] == ["passed", "to do", "failed", "error", None, "passed"]
    assert json.loads((first / "run.json").read_text())["complete"] is True
    assert (first.stat().st_mode & 0o777, (first / "reports").stat().st_mode & 0o777) == (0o700, 0o700)


def test_nothing_is_graded_twice(first, monkeypatch):
    def never(*_: object) -> None:
        raise AssertionError("this was graded before")

    before = contents(first)
    monkeypatch.setattr(grading, "grade_one", never)
    seen: list[str] = []
    assert runner.grade_many(class_of(), JOB, 1, first, on_progress=seen.append) == []
    assert (contents(first), len(seen)) == (before, 6)


def test_what_is_missing_damaged_or_of_another_seed_is_graded_again(first, tmp_path):
    assert runner.grade_many(class_of(4), JOB, 1, tmp_path) == []
    before = contents(tmp_path)
    reports, notes = (sorted((tmp_path / folder).iterdir()) for folder in ("reports", "notes"))
    reports[0].unlink()
    reports[1].write_bytes(reports[1].read_bytes()[:500])
    notes[2].write_text("{}")
    reports[3].write_bytes(reports[3].read_bytes().replace(b'"torch": "', b'"torch": "0'))
    assert runner.grade_many(class_of(4), JOB, 1, tmp_path) == []
    assert contents(tmp_path) == before
    assert runner.grade_many(class_of(4), evidence.Job("6" * 32), 1, tmp_path) == []
    assert contents(tmp_path)["run.json"] != before["run.json"]
    assert runner.stored_seed(tmp_path) == "6" * 32


def test_several_processes_and_another_order_give_the_same_bytes_though_each_worker_is_killed(first, tmp_path):
    """Every worker and every fork server is killed once, in the middle of the run."""
    client.close_servers()  # that of this process is none of theirs
    killed: list[int] = []

    def kill_some() -> None:
        deadline = time.monotonic() + 120
        while not killed and time.monotonic() < deadline:
            time.sleep(0.2)
            if list((tmp_path / "reports").glob("*.json")):
                killed.extend(workers())
                for process in killed:
                    try:
                        os.kill(process, signal.SIGKILL)
                    except ProcessLookupError:
                        continue

    killer = threading.Thread(target=kill_some)
    killer.start()
    faults = runner.grade_many(class_of()[::-1], JOB, 2, tmp_path)
    killer.join()
    assert killed
    assert faults == []
    assert contents(tmp_path) == contents(first)


def workers() -> list[int]:
    """The workers of this process and their fork serveres."""
    return processes("spawn_main", "course_utils.grader.worker.server")


class Broken:
    """An engine whose worker is lost each time."""

    window = 1

    def __init__(self, grader):
        self.grader, self.asked, self.done = grader, 0, []

    def submit(self, blob):
        self.asked += 1
        future: Future = Future()
        future.set_exception(client.Fault("lost"))
        self.done.append(future)
        return future

    def finished(self):
        done, self.done = self.done, []
        return done

    def close(self):
        pass


def test_three_losses_are_a_fault_of_ours_and_no_zero(tmp_path):
    engine = Broken(grading.grader_of(JOB))
    faults = runner.Run(JOB, tmp_path, engine, lambda name: None).all(class_of(1))
    assert (engine.asked, faults) == (3, ["learner-0/03.ipynb: Fault: lost"])
    assert list((tmp_path / "reports").iterdir()) == []
    assert json.loads((tmp_path / "run.json").read_text())["faults"] == faults


def test_no_isolation_no_grades(tmp_path, monkeypatch):
    monkeypatch.setattr(grading, "server_for", lambda level: (_ for _ in ()).throw(levels.NoIsolation("LL is missing")))
    with pytest.raises(levels.NoIsolation, match="LL is missing"):
        runner.grade_many(class_of(1), JOB, 1, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --------------------------------------------------------------------------------------------------- hidden checks


def test_a_folder_of_hidden_checks(tmp_path):
    with pytest.raises(ValueError, match="holds no check files"):
        grading.make_job(SEED, "full", tmp_path)
    (tmp_path / "one.py").write_text("CHECKS = 7")
    with pytest.raises(ValueError, match=r"one\.py should define CHECKS"):
        grading.make_job(SEED, "full", tmp_path)
    (tmp_path / "one.py").write_text("import nothing_of_that_name")
    with pytest.raises(ValueError, match=r"one\.py cannot be run: ModuleNotFoundError"):
        grading.make_job(SEED, "full", tmp_path)


HEAD = "from course_utils.checks.spec import Check, beside, passed\n\ndef judge(data, rng):\n    return passed()\n\n"
TAIL = "\nCHECKS = [Check('03.3.h1', 'what_moves', 'more', probe, judge, [bool])]\n"


def test_a_probe_travels_with_what_it_needs_and_nothing_else():
    text = "LIST = [1, 2]\nSECRET = judge\n\n@beside\ndef help(x):\n    return LIST\n\ndef probe(f, rng):\n    return help(f)\n"
    (check,) = probes.hidden_checks((("a.py", HEAD + text + TAIL),))
    sent = probes.probe_text(check)
    assert "def help" in sent
    assert "LIST = [1, 2]" in sent
    assert "judge" not in sent
    assert "SECRET" not in sent


@pytest.mark.parametrize("line", ["return judge(f, rng)", "return SECRET", "return right(f)"])
def test_a_probe_must_not_take_the_judge_along(line):
    text = f"from course_utils.checks.lesson_03 import one_step as right\nSECRET = judge\n\ndef probe(f, rng):\n    {line}\n"
    with pytest.raises(ValueError, match=r"stays with the judge|cannot be run"):
        probes.hidden_checks((("b.py", HEAD + text + TAIL),))


def test_seeds_tell_nothing_of_each_other():
    seeds = {probes.seed_of(run_seed, id, case) for run_seed in "ab" for id in ("03.3", "03.3.h1") for case in range(3)}
    assert len(seeds) == 12
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_the_worker_never_imports_what_it_must_not(first):
    """No pickle, no kernels, in the modules of the grader."""
    forbidden = ("pickle", "dill", "marshal", "torch.load", "np.load", "nbclient", "nbconvert")
    for path in Path(runner.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for name in forbidden:
            assert f"import {name}" not in text, path.name
            assert f"{name}(" not in text, path.name
    assert sys.modules.get("nbclient") is None or "course_utils.tools.authoring" in sys.modules
