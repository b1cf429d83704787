"""A class of two hundred: right, wrong, blank, hostile and unreadable notebooks are graded, each as it should be."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import statistics
import tempfile
import time
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import distributed
import pytest
from answers import wrong
from handed_in import notebook, processes, shipped, states
from test_attacks import ATTACKS, CANARY, HIDDEN
from test_attacks import notebook as attacked

from course_utils.checks import lesson_module, lessons
from course_utils.grader import client, evidence, grading, runner
from course_utils.grader.intake.archive import read_submissions, safe_name
from course_utils.grader.worker.server import private_memory

pytestmark = pytest.mark.sandbox
JOB = evidence.Job("c1a55" + "0" * 27, hidden=(("hidden.py", HIDDEN),), cell_s=2)
COUNT = 200
PASSED, TO_DO, NOT_RIGHT = {"passed"}, {"to do"}, {"failed", "partial", "error"}

# Attacks that print what differs from one process to the next: there is more than one right report on them.
CHANGING = {"27_hidden_inputs_printed"}
# Attacks that run into a limit of time or memory for many seconds; two others of that kind are part of the class.
SLOW = {"11_loop_in_c", "11_loop_in_the_cell", "13_memory_of_many", "15_print_without_end"}


@dataclass(frozen=True)
class Handed:
    """What somebody hands in, and what must come of it: the allowed states of each exercise; none: it cannot be graded."""

    kind: str
    blob: bytes
    expected: dict[str, set[str]] = field(default_factory=dict)
    ending: str = ".ipynb"


# ---------------------------------------------------------------------------------------------------------- the class


def ids(lesson: str) -> list[str]:
    return [check.id for check in lesson_module(lesson).CHECKS]


def own(blob: bytes, number: int) -> bytes:
    """The notebook as one of many saves it: with words of their own, in another order, without ids, with other code."""
    content = json.loads(blob)
    cells = content["cells"]
    cells.append({"cell_type": "markdown", "id": "own", "metadata": {}, "source": f"Learner {number}"})
    if number % 4 == 1:
        cells.reverse()
    elif number % 4 == 2:
        for cell in cells:
            cell.pop("id", None)
            cell["metadata"] = {}
    elif number % 4 == 3:
        cells.insert(0, {"cell_type": "code", "id": "end", "metadata": {}, "source": "import os\nos._exit(1)"})
    return json.dumps(content).encode()


def right() -> Iterator[Handed]:
    for number in range(4):
        for lesson in lessons():
            yield Handed("right", own(notebook(lesson, {}, "solutions"), number), dict.fromkeys(ids(lesson), PASSED))


def blank() -> Iterator[Handed]:
    for number in range(2, 4):
        for lesson in lessons():
            yield Handed("blank", own(notebook(lesson, {}), number), dict.fromkeys(ids(lesson), TO_DO))


def shipped_answers() -> Iterator[Handed]:
    """The answers that come with the checks, right ones and wrong ones; what has no answer is to do."""
    for lesson in lessons():
        for cells in shipped(lesson):
            expected = dict.fromkeys(ids(lesson), TO_DO)
            expected |= {id: NOT_RIGHT if answer.words else PASSED for id, answer in cells.items()}
            yield Handed("shipped", notebook(lesson, {id: answer.cell for id, answer in cells.items()}), expected)


def one_wrong() -> Iterator[Handed]:
    """Solved lessons with one wrong answer among them."""
    for lesson in lessons():
        for check in lesson_module(lesson).CHECKS:
            cell = next(answer.cell for answer in wrong(check.id) if answer.cell)
            blob = notebook(lesson, {check.id: cell}, "solutions")
            yield Handed("one wrong", blob, dict.fromkeys(ids(lesson), PASSED) | {check.id: NOT_RIGHT})


def hostile() -> Iterator[Handed]:
    for attack in ATTACKS:
        if attack.name not in CHANGING | SLOW:
            expected = dict.fromkeys(ids(next(iter(attack.cells))[:2]), PASSED)
            expected |= {id: set(allowed) for id, (allowed, _) in attack.expected.items()}
            yield Handed(f"hostile {attack.name}", attacked(attack), expected)


def unreadable() -> Iterator[Handed]:
    solved = notebook("03", {}, "solutions")
    for lesson in lessons():
        whole = notebook(lesson, {}, "solutions")
        yield Handed("unreadable", whole[: len(whole) // 2])
    texts = [b"", b"\0" * 100, b"[]", b"null", b"7", b'{"nbformat": 4}', b"<html></html>", solved.decode().encode("utf-16")]
    texts += [b'{"nbformat": 3, "cells": []}', b'{"nbformat": 4, "cells": []}', b'{"nbformat": 4, "cells": [1]}']
    texts += [b'{"nbformat": 4, "cells": [{"source": {}}]}', b'{"nbformat": NaN, "cells": []}', b"[" * 10**5]
    texts += [
        solved.replace(b'"nbformat": 4', b'"nbformat": 4, "nbformat": 4'),
        b'"notebook"',
        b"\x80\x04N.",
        b"[0" + b",[]" * 250_000,
    ]
    yield from (Handed("unreadable", text) for text in texts)
    yield Handed("unreadable", b"PK no archive", ending=".zip")
    yield Handed("unreadable", packed("__MACOSX/03.ipynb", solved), ending=".zip")
    yield Handed("unreadable", packed("03.txt", solved), ending=".zip")


def packed(name: str, blob: bytes) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr(name, blob)
    return archive.getvalue()


def whole_class() -> dict[str, Handed]:
    """By the name of its file, in an order that has nothing to do with its kind; the last four have copied from others."""
    found = [*hostile(), *blank(), *one_wrong(), *unreadable(), *islice(shipped_answers(), 20), *right()][: COUNT - 4]
    found += found[:4]
    random.Random(0).shuffle(found)
    return {f"learner-{number:03}{one.ending}": one for number, one in enumerate(found)}


CLASS = whole_class()
ALONE = [one for one in shipped_answers() if one not in CLASS.values()]  # for which the class has no room


def hand_in(folder: Path, names: list[str]) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(CLASS[name].blob)
    return folder


# ------------------------------------------------------------------------------------------------------------ graded


class Memory:
    """How much memory the trusted processes take, this one and its workers, after each report."""

    def __init__(self) -> None:
        self.taken: dict[int, list[int]] = defaultdict(list)

    def __call__(self, _: str) -> None:
        for process in (os.getpid(), *processes("spawn_main")):
            self.taken[process].append(private_memory(process))

    def growth(self) -> list[float]:
        """For each process by how many megabytes the last third is above the first one, in the middle."""
        thirds = [(values[: len(values) // 3], values[-(len(values) // 3) :]) for values in self.taken.values()]
        return [(statistics.median(last) - statistics.median(first)) / 1e6 for first, last in thirds]


@dataclass(frozen=True)
class Run:
    """One run over the class: its folder, what went wrong, the memory, what was left behind in the folder for drafts."""

    out: Path
    faults: list[str]
    memory: Memory
    left: list[str]


@pytest.fixture(scope="module")
def graded(tmp_path_factory) -> Run:
    """The class, graded by two processes."""
    client.close_servers()  # those of other tests
    base = tmp_path_factory.mktemp("class")
    memory = Memory()
    with tempfile.TemporaryDirectory(prefix="drafts-") as drafts, pytest.MonkeyPatch.context() as patch:
        os.chmod(drafts, 0o711)  # as for a work folder in it
        patch.setenv("TMPDIR", drafts)
        handed = read_submissions(hand_in(base / "handed", list(CLASS)))
        faults = runner.grade_many(handed, JOB, 2, base / "out", on_progress=memory)
        wait_for_the_end()
        left = [name for name in os.listdir(drafts) if not name.startswith("torchinductor_")]  # torch's own, when imported
    return Run(base / "out", faults, memory, left)


def wait_for_the_end() -> None:
    deadline = time.monotonic() + 30
    while processes("spawn_main", "course_utils.grader.worker.server") and time.monotonic() < deadline:
        time.sleep(0.1)


def contents(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def report_of(out: Path, name: str) -> dict:
    """The report on one file; of an archive that could be opened, on the notebook in it."""
    return json.loads((out / "reports" / f"{safe_name(name)}.json").read_bytes())


def test_a_class_of_two_hundred():
    """Of all kinds, and handed in by different people: nearly no two files are equal."""
    kinds = Counter(one.kind.split()[0] for one in CLASS.values())
    assert len(CLASS) == COUNT
    assert all(kinds[kind] >= 14 for kind in ("right", "blank", "shipped", "one", "hostile", "unreadable")), kinds
    assert len({one.blob for one in CLASS.values()}) > 190


@pytest.mark.parametrize("lesson", lessons())
def test_two_shipped_answers_for_each_check_at_least(lesson):
    assert sum(len(cells) for cells in shipped(lesson)) >= 2 * len(ids(lesson))


@pytest.mark.parametrize("name", CLASS, ids=lambda name: f"{name}-{CLASS[name].kind}".replace(" ", "-"))
def test_grade(graded, name):
    as_expected(report_of(graded.out, name), CLASS[name].expected)


def as_expected(report: dict, expected: dict[str, set[str]]) -> None:
    assert (report["gradable"], bool(report["reason"])) == (bool(expected), not expected), report
    assert set(states(report)) == set(expected)
    for exercise in report["exercises"]:
        state = exercise["state"]
        assert state in expected[exercise["id"]], exercise
        low, high = {"passed": (exercise["max"],) * 2, "partial": (1, exercise["max"] - 1)}.get(state, (0, 0))
        assert low <= exercise["score"] <= high, exercise


def test_every_file_has_a_report_and_notes_and_nothing_was_our_fault(graded):
    assert graded.faults == []
    names = [f"{safe_name(name)}.json" for name in CLASS]
    wanted = {"run.json", "run.lock", *(f"{folder}/{name}" for folder in ("reports", "notes") for name in names)}
    assert set(contents(graded.out)) == wanted
    assert not any(CANARY in path.read_text() for path in (graded.out / "reports").iterdir())


def test_memory_of_the_trusted_processes_is_flat(graded):
    assert len(graded.memory.taken) == 3
    assert max(graded.memory.growth()) < 40, graded.memory.growth()


def test_nothing_is_left_behind(graded):
    assert processes("spawn_main", "course_utils.grader.worker.server") == []
    assert graded.left == []
    assert not (Path("/") / "tmp" / "daemon-was-here").exists()


# ----------------------------------------------------------------------------------------------------------- the others


@pytest.mark.parametrize("one", ALONE, ids=lambda one: one.kind)
def test_shipped_answers_that_are_not_in_the_class(one):
    as_expected(json.loads(grading.grade_one(one.blob, JOB)[0]), one.expected)


# ----------------------------------------------------------------------------------------------------- the same bytes

SOME = list(CLASS)[3::8][::-1]


def demand_the_same(out: Path, graded: Run) -> None:
    found = contents(out)
    names = [f"{safe_name(name)}.json" for name in SOME]
    assert set(found) == {"run.json", "run.lock", *(f"{folder}/{name}" for folder in ("reports", "notes") for name in names)}
    assert found.items() <= contents(graded.out).items()


def test_one_process_and_another_order_give_the_same_bytes(graded, tmp_path):
    uploads = read_submissions(hand_in(tmp_path / "handed", SOME))
    before = processes("course_utils.grader.worker.server")  # of other tests
    assert runner.grade_many(reversed(list(uploads)), JOB, 1, tmp_path / "out") == []
    demand_the_same(tmp_path / "out", graded)
    assert processes("course_utils.grader.worker.server") == before, "a run ends its fork server"


def test_two_workers_of_a_scheduler_give_the_same_bytes_though_one_is_killed(graded, tmp_path):
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None, "host": "127.0.0.1"}
    uploads = read_submissions(hand_in(tmp_path / "handed", SOME))
    with distributed.LocalCluster(**options) as cluster:
        killed: list[int] = []

        def kill_one(_: str) -> None:
            """After the first report, while others are being computed."""
            if not killed:
                killed.extend(nanny.pid for nanny in cluster.workers.values() if nanny.pid)
                os.kill(killed[0], signal.SIGKILL)

        assert runner.grade_many(uploads, JOB, None, tmp_path / "out", cluster.scheduler_address, on_progress=kill_one) == []
    assert len(killed) == 2
    demand_the_same(tmp_path / "out", graded)
