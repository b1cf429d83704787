"""Every attack of this folder, handed in with right answers to the other exercises, and what must come of it.

An attack is a file `NN_name.py`; NN is its row in the table of threats in README.md beside it. Its head says what it tries, and

    # expect 03.3 failed error: words      the state of the exercise (one of these), and words of the verdict or the exception
    # prints found: \\[\\]                   a pattern that the output of the answer must match
    # output is cut                        more was printed than is kept
    # only full                            at isolation basic nothing is promised

A cell begins with `# %% 03.3`, the id of its exercise. Exercises of the same lesson that are not named must be passed.
Nothing that a learner can read may hold the canary of the hidden checks, and nothing may be left behind.
"""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from course_utils.grader import client
from course_utils.grader.evidence import Job
from course_utils.grader.grading import grade_one
from course_utils.grader.sandbox import levels, process
from course_utils.profiles import HOME

FOLDER = Path(__file__).parent
CANARY = "canary-5e1f0c"
HIDDEN = f'''
from typing import Any

from course_utils.checks.spec import Check, failed, passed

SIGN = "{CANARY}"


def probe(what_moves, rng):
    secret = SIGN + " in a hidden probe"
    return [list(what_moves(True, True, rng.choice([True, False]))), len(secret)]


def judge(data, rng):
    if data[0] == [rng.choice([True, False]), True]:
        return passed()
    return failed(SIGN + " in hidden words")


CHECKS = [Check("03.3.h1", "what_moves", SIGN + " in a title", probe, judge, [Any])]
'''


EXPECT = re.compile(r"^# expect (\S+) ([a-z ]+)(?:: (.*))?$", re.MULTILINE)


@dataclass(frozen=True)
class Attack:
    name: str
    cells: dict[str, str]
    expected: dict[str, tuple[list[str], str]]
    prints: str
    is_cut: bool
    only_full: bool


def read(path: Path) -> Attack:
    head, *cells = re.split(r"^# %% (\S+)\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    expected = {id: (states.split(), words) for id, states, words in EXPECT.findall(head)}
    prints = re.findall(r"^# prints (.*)$", head, re.MULTILINE)
    assert expected, f"{path.name} does not say what is expected"
    return Attack(
        path.stem,
        dict(zip(cells[::2], cells[1::2], strict=True)),
        expected,
        prints[0] if prints else "",
        "# output is cut" in head,
        "# only full" in head,
    )


ATTACKS = [read(path) for path in sorted(FOLDER.glob("[0-9]*.py"))]


def notebook(attack: Attack) -> bytes:
    """The solved lesson, with the cells of the attack in the place of the answers."""
    lesson = next(iter(attack.cells))[:2]
    (path,) = (HOME / "solutions").glob(f"{lesson}_*.ipynb")
    content = json.loads(path.read_text(encoding="utf-8"))
    for cell in content["cells"]:
        id = cell["id"].removeprefix("exercise-").replace("-", ".")
        if cell["id"].startswith("exercise-") and id in attack.cells:
            cell["source"] = f"# Exercise {id}\n{attack.cells[id]}"
    return json.dumps(content).encode()


@pytest.fixture(scope="module", params=[pytest.param("full", marks=pytest.mark.sandbox), "basic"])
def job(request, warm):
    """A job at each level. Whether basic can be had depends on where Python is installed, see the reason."""
    job = Job("00" * 16, request.param, (("hidden.py", HIDDEN),), cell_s=2)
    try:
        client.server_for(request.param)
    except levels.NoIsolation as error:
        if request.param == "full":
            raise
        pytest.skip(str(error))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "GRACE_S", 4.0)  # a loop in a cell is waited for so much longer
        yield job


def boxes() -> list[int]:
    """The processes below the fork servers: keepers, boxes, and what these have left."""
    return [one for server in client.servers.values() for one in process.descendants(server.process.pid)]


def strangers() -> set[int]:
    """Processes of the users that only the boxes of this worker have."""
    found, users = set(), {levels.user_for(server.process.pid) for server in client.servers.values()}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if levels.is_root() and path.stat().st_uid in users:
                found.add(int(path.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_attack(attack, job):
    if attack.only_full and job.isolation != "full":
        pytest.skip("promised at isolation full only")
    marker = Path("/") / "tmp" / "daemon-was-here"
    started = time.monotonic()
    body, notes = grade_one(notebook(attack), job)
    assert time.monotonic() - started < 120
    report = json.loads(body)
    exercises = {exercise["id"]: exercise for exercise in report["exercises"]}
    for id, exercise in exercises.items():
        states, words = attack.expected.get(id, (["passed"], ""))
        said = json.dumps(exercise["checks"], ensure_ascii=False)
        assert exercise["state"] in states, said
        assert exercise["score"] == (exercise["max"] if states == ["passed"] else 0), said
        assert re.search(words, said), said
    if attack.prints:
        output = exercises[next(iter(attack.cells))]["output"]["untrusted"]
        assert re.search(attack.prints, output), output
    assert len(body) < 200_000
    assert any(exercise["output"]["truncated"] for exercise in exercises.values()) == attack.is_cut
    assert CANARY not in body.decode()
    assert json.loads(notes)["checks"]
    assert not [note["fault"] for note in json.loads(notes)["checks"] if note["fault"]["untrusted"]]
    assert (boxes(), strangers(), marker.exists()) == ([], set(), False)


def test_the_right_and_the_blank_lesson(job):
    """The same machinery gives full marks to the solved lesson, and "to do" to the blank one."""
    (solved,), (blank,) = ((HOME / folder).glob("03_*.ipynb") for folder in ("solutions", "notebooks"))
    report = json.loads(grade_one(solved.read_bytes(), job)[0])
    assert report["score"] == report["max"] > 0
    report = json.loads(grade_one(blank.read_bytes(), job)[0])
    assert (report["score"], {exercise["state"] for exercise in report["exercises"]}) == (0, {"to do"})


def test_every_attack_leaves_the_work_folders_empty(job):
    """The folder of a fork server holds nothing between two boxes."""
    assert os.listdir(client.server_for(job.isolation).folder) == []
