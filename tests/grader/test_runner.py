"""One notebook and many: right and wrong answers, equal bytes whoever computes, and a run that goes on where it stopped."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from handed_in import notebook, processes, states

from course_utils.checks import lesson_module, lessons
from course_utils.checks.spec import Check
from course_utils.grader import canonical, client, engines, evidence, grading, probes, records, runner, scoring
from course_utils.grader.intake.archive import Upload, student_of
from course_utils.grader.output import classroom
from course_utils.grader.records import Notes, Output, Report
from course_utils.grader.sandbox import levels, process

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
    grading.grade_one(notebook("03", {}, "solutions"), replace(JOB, hidden=hidden))
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
    before = contents(first)
    monkeypatch.setattr(grading, "grade", lambda *_: pytest.fail("this was graded before"))
    assert runner.grade_many(class_of(), JOB, 1, first) == []
    assert contents(first) == before


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
                for one in killed:
                    try:
                        os.kill(one, signal.SIGKILL)
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

    def submit(self, key, function, *arguments):
        self.asked += 1
        self.done.append((key, client.Fault("lost")))

    def finished(self):
        done, self.done = self.done, []
        return done

    def close(self):
        pass


def test_three_losses_are_a_fault_of_ours_and_no_zero(tmp_path):
    engine = Broken(grading.grader_of(JOB))
    faults = runner.Run(JOB, tmp_path, engine, print, student_of).all(class_of(1))
    assert (engine.asked, faults) == (3, ["learner-0/03.ipynb: lost"])
    assert list((tmp_path / "reports").iterdir()) == []
    assert json.loads((tmp_path / "run.json").read_text())["faults"] == [{"untrusted": fault} for fault in faults]


def test_no_isolation_no_grades(tmp_path, monkeypatch):
    monkeypatch.setattr(grading, "server_for", lambda level: (_ for _ in ()).throw(levels.NoIsolation("LL is missing")))
    with pytest.raises(levels.NoIsolation, match="LL is missing"):
        runner.grade_many(class_of(1), JOB, 1, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------------------------------- bounds

POOL = engines.Pool
COSTLY = ["slow", "greedy"]


def costly(blob: bytes, job: evidence.Job) -> tuple[Report, Notes]:
    """As `look`, with trusted code in which two of the notebooks run into the bounds, one while its box runs."""
    if blob == b"slow":
        server = client.server_for(job.isolation)
        client.Box(server).receive("", ("ready",), 60)
        below = [server.process.pid, *process.descendants(server.process.pid)]
        Path(os.environ["BELOW"]).write_text(" ".join(map(str, below)))
        sum(range(10**14))  # one call in C, in which no handler of Python's would run
    if blob == b"greedy":
        bytearray(engines.MEMORY)
    return grading.look(blob, job)


def test_what_takes_too_much_of_the_trusted_process_costs_its_author_only(first, tmp_path, monkeypatch):
    """Neither a survivor, nor a second try, nor anybody else's grade."""
    started, start = [], engines.Worker.start
    monkeypatch.setenv("BELOW", str(tmp_path / "below"))
    monkeypatch.setattr(engines, "COMPUTING_S", 3.0)
    monkeypatch.setattr(engines.Worker, "start", lambda worker: (started.append(worker), start(worker)))
    monkeypatch.setattr(runner, "look", costly)
    uploads = [*(Upload(f"a-{kind}/03.ipynb", kind.encode()) for kind in COSTLY), *class_of(2)]
    assert run_in(POOL(JOB, 1), uploads, tmp_path / "out") == []
    found = by_id(tmp_path / "out")
    assert [found[upload.name]["reason"] for upload in uploads] == [
        f"reading or marking it took more than 3 seconds of computing; {engines.REMEDY}",
        f"reading or marking it took more than 4 GiB of memory; {engines.REMEDY}",
        *("", ""),
    ]
    assert len(started) == 2, "it was ended once, and one took its place"
    others = {name: body for name, body in contents(tmp_path / "out").items() if "learner" in name}
    assert others.items() <= contents(first).items()
    below = (tmp_path / "below").read_text().split()
    assert len(below) > 2, "a fork server, a keeper, a box"
    assert survivors(below) == []


def run_in(engine: engines.Engine, uploads: list[Upload], out: Path) -> list[str]:
    try:
        return runner.Run(JOB, out, engine, print, student_of).all(uploads)
    finally:
        engine.close()


def survivors(processes: list[str]) -> list[str]:
    """Those of the processes that still run after a while."""
    deadline = time.monotonic() + 30
    while (left := [one for one in processes if is_running(one)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def is_running(process: str) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_waiting_is_no_computing():
    """Only the process that marks is bounded, not the time that boxes may take, or a busy machine."""
    assert engines.bounded(0.3, time.sleep, 0.6) is None


# ------------------------------------------------------------------------------------- whose report, and which one


def test_two_uploads_whose_files_have_one_name_are_an_error_in_words(first, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "safe_name", lambda name: "x-1" if name < "learner-2" else "y-2")
    some = class_of(3)
    faults = runner.grade_many(some, JOB, 1, tmp_path)
    assert faults == ["learner-1/03.ipynb: its files would be those of learner-0/03.ipynb; rename one of the two"]
    found = {path.name: json.loads(path.read_bytes()) for path in (tmp_path / "reports").iterdir()}
    assert [found[name]["submission"]["id"]["untrusted"] for name in ("x-1.json", "y-2.json")] == [some[0].name, some[2].name]


def test_a_copy_is_made_of_a_report_on_the_same_bytes_only(first, tmp_path, monkeypatch):
    """Whatever stands under the name of the one who handed them in first: there it is of another notebook."""
    uploads = [class_of()[number] for number in (0, 1, 5)]
    put, others = runner.Run.put, [records.read_report(path.read_bytes()) for path in (first / "reports").glob("learner-2-*")]

    def exchanged(run: runner.Run, names: list[str], found: tuple[Report, Notes]) -> None:
        put(run, names, (others[0], found[1]) if names[0].startswith("learner-0") and len(names) == 1 else found)

    monkeypatch.setattr(runner.Run, "put", exchanged)
    assert runner.grade_many(uploads, JOB, 1, tmp_path) == []
    found = {name: body for name, body in contents(tmp_path).items() if "learner-5" in name}
    assert len(found) == 2
    assert found.items() <= contents(first).items()


# --------------------------------------------------------------------------------------------------- hidden checks

HIDDEN = """
from course_utils.checks.spec import Check, failed, passed

def probe(what_moves, rng):
    return list(what_moves(True, True, False))

def judge(data, rng):
    return failed("CANARY") if data == [True, True] else passed()

CHECKS = [Check("03.3.h1", "what_moves", "CANARY", probe, judge, [bool])]
"""
SECRET = replace(JOB, hidden=(("h.py", HIDDEN),))


def guesses() -> list[Upload]:
    """Two learners: one hands in three notebooks of one lesson, the best of them first."""
    blobs = {"anna/a": "solutions", "anna/b": "notebooks", "ben/a": "solutions"}
    found = [Upload(f"{name}.ipynb", notebook("03", {"03.2": f"# {name}"}, folder)) for name, folder in blobs.items()]
    return [*found, Upload("anna/c.ipynb", notebook("03", {"03.3": WRONG}, "solutions")), Upload("anna/d.ipynb", b"")]


def by_id(out: Path) -> dict[str, dict]:
    reports = [json.loads(path.read_bytes()) for path in (out / "reports").iterdir()]
    return {report["submission"]["id"]["untrusted"]: report for report in reports}


@pytest.fixture(scope="module")
def completed(tmp_path_factory) -> tuple[Path, list[str]]:
    """The guesses graded, with a hidden check, and which checks were made in which order."""
    asked, collect, out = [], grading.collect, tmp_path_factory.mktemp("completed")

    def noted(check: Check, *rest: object, **options: bool) -> evidence.Tried:
        asked.append(check.id)
        return collect(check, *rest, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grading, "collect", noted)
        assert runner.grade_many(guesses(), SECRET, 1, out) == []
    return out, asked


def test_one_notebook_of_a_lesson_counts_the_last(completed):
    found = by_id(completed[0])
    room = classroom.classroom(canonical.from_json(Report, canonical.to_json(one)) for one in found.values())
    why = "of lesson 03 the last notebook counts: anna/c.ipynb"
    anna, ben = room.learners
    assert [anna.why_not(one) for one in anna.reports[:3]] == [why, why, ""]
    assert [room.score(learner) for learner in (anna, ben)] == [found["anna/c.ipynb"]["score"], found["ben/a.ipynb"]["score"]]


def test_hidden_checks_are_made_once_for_each_learner_after_all_public_ones(completed):
    """What they leave on the machine, such as files in its memory, no public check of this run can read."""
    out, asked = completed
    assert asked.count("03.3.h1") == 2
    assert not any(".h" in id for id in asked[:-2])
    found = by_id(out)
    hidden = [found[id]["exercises"][2]["checks"][1] for id in ("anna/c.ipynb", "ben/a.ipynb")]
    assert [check["score"] for check in hidden] == [0, 100]
    assert found["anna/a.ipynb"]["exercises"] == [], "what does not count is read, and none of its code runs"
    assert len(asked) == 8, "three public checks and a hidden one for each of two learners"
    assert not any(b"CANARY" in path.read_bytes() for path in (out / "reports").iterdir())


def test_a_report_is_the_same_whether_its_notebook_is_graded_alone(completed):
    alone = json.loads(grading.grade_one(guesses()[2].blob, SECRET)[0])
    assert alone == by_id(completed[0])["ben/a.ipynb"] | {"submission": alone["submission"]}


def test_nobody_reads_of_hidden_checks_before_all_are_done_and_a_run_goes_on_from_there(completed, tmp_path, monkeypatch):
    """Stopped at the second hidden check: every report is whole and tells nothing of the first one."""
    asked, hidden = [], runner.grade_hidden

    def stop(*arguments: object) -> Notes:
        asked.append(1)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return hidden(*arguments)

    monkeypatch.setattr(runner, "grade_hidden", stop)
    with pytest.raises(KeyboardInterrupt):
        runner.grade_many(guesses(), SECRET, 1, tmp_path)
    monkeypatch.setattr(runner, "grade_hidden", hidden)
    found = by_id(tmp_path)
    assert len(found) == 5
    checks = [check for report in found.values() for one in report["exercises"] for check in one["checks"] if check["hidden"]]
    assert {(check["title"], check["score"]) for check in checks} == {("hidden check 1 (still to come)", 0)}
    assert not list(tmp_path.glob("handed-in-*"))
    made: list[str] = []
    collect = grading.collect
    monkeypatch.setattr(grading, "collect", lambda check, *rest, **kw: (made.append(check.id), collect(check, *rest, **kw))[1])
    assert runner.grade_many(guesses(), SECRET, 1, tmp_path) == []
    assert made == ["03.3.h1"], "the public checks and the first hidden one are done"
    assert contents(tmp_path) == contents(completed[0])


def test_two_runs_into_one_folder(tmp_path):
    """The second would draw a seed of its own; what a killed run has kept is cleared by the next."""
    (tmp_path / "handed-in-x").mkdir()
    (tmp_path / "handed-in-x" / "blob").touch()
    with runner.alone_in(tmp_path):
        assert not (tmp_path / "handed-in-x").exists()
        with pytest.raises(ValueError, match="another run is grading into"):
            runner.grade_many(class_of(1), JOB, 0, tmp_path)
    assert not (tmp_path / "reports").exists() or not list((tmp_path / "reports").iterdir())
    assert runner.grade_many([], JOB, 0, tmp_path) == []


def test_another_notebook_that_counts_takes_the_hidden_points_with_it(completed, tmp_path):
    """However the folder came about, its content is that of one run over all."""
    assert runner.grade_many([one for one in guesses() if one.name != "anna/c.ipynb"], SECRET, 1, tmp_path) == []
    assert runner.grade_many(guesses(), SECRET, 1, tmp_path) == []
    assert {name: body for name, body in contents(tmp_path).items() if "reports" in name} == {
        name: body for name, body in contents(completed[0]).items() if "reports" in name
    }


def test_hidden_checks_that_take_too_much_earn_nothing_and_say_no_more(completed, tmp_path, monkeypatch):
    def costly_hidden(*_: object) -> Notes:
        raise MemoryError

    monkeypatch.setattr(runner, "grade_hidden", costly_hidden)
    assert runner.grade_many(guesses(), SECRET, 1, tmp_path) == []
    shown = by_id(tmp_path)["anna/c.ipynb"]
    assert shown == by_id(completed[0])["anna/c.ipynb"], "as somebody who failed it"
    assert any(b"more than 4 GiB of memory" in path.read_bytes() for path in (tmp_path / "notes").iterdir())


def test_a_judge_that_stops_costs_its_check_and_the_instructor_is_told(tmp_path):
    stops = HIDDEN.replace('failed("CANARY") if data == [True, True] else passed()', "1 / 0")
    job = replace(JOB, hidden=(("h.py", stops),))
    for _ in range(2):  # told again by a run that finds it there
        (fault,) = runner.grade_many(guesses()[2:3], job, 1, tmp_path)
        assert fault.startswith("ben/a.ipynb: the judge of 03.3.h1 stopped")
        assert "ZeroDivisionError" in json.loads((tmp_path / "run.json").read_text())["faults"][0]["untrusted"]
    report = by_id(tmp_path)["ben/a.ipynb"]
    assert (report["gradable"], states(report)["03.1"], states(report)["03.3"]) == (True, "passed", "partial")
    assert b"ZeroDivisionError" in next((tmp_path / "notes").iterdir()).read_bytes()
    assert "ZeroDivisionError" not in json.dumps(report)


# ------------------------------------------------------------------------------------------ files of hidden checks


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
