"""The fork server: it holds no secret, has one thread, and goes when nobody needs it."""

from __future__ import annotations

import mmap
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
import torch

from course_utils.checks import find, lessons
from course_utils.checks.spec import Rng
from course_utils.grader import client, evidence
from course_utils.grader.sandbox import levels, process
from course_utils.grader.scoring import FAILED, TO_DO, Failure
from course_utils.grader.worker import inside, protocol, server
from course_utils.profiles import HOME

pytestmark = pytest.mark.sandbox
CANARY = "".join(["can", "ary-", "of-the-", "worker"])


@pytest.fixture(scope="module")
def warm():
    """A fork server, started by a worker that has a secret in its memory and in its environment."""
    os.environ["COURSE_TEST_SECRET"] = CANARY
    started = client.ForkServer("full")
    assert started.hello
    del os.environ["COURSE_TEST_SECRET"]
    yield started
    started.close()


@pytest.fixture(scope="module")
def bare():
    """A fork server without namespaces."""
    started = client.ForkServer("none")
    yield started
    started.close()


def test_it_can_begin_before_torch_is_imported():
    """So that two processes import it at once, when one notebook is graded."""
    code = "import sys, course_utils.grader.client; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=HOME, check=False).returncode == 0


def test_it_has_all_layers_and_one_thread(warm):
    assert set(warm.layers) >= {"FORK", "NS", "RO", "TMP", "CAP", "LL", "SC", "RL"}
    assert len(os.listdir(f"/proc/{warm.process.pid}/task")) == 1


@pytest.mark.skipif(not levels.is_root(), reason="only root may look: that is what is tested below")
def test_its_memory_holds_no_secret_and_no_check(warm):
    """All that it can read of itself is searched for the worker's secret and for words of the checks."""
    words = (CANARY.encode(), b"def judge_" + b"what(")
    found, seen = [], 0
    with open(f"/proc/{warm.process.pid}/mem", "rb") as memory:
        for line in Path(f"/proc/{warm.process.pid}/maps").read_text().splitlines():
            place, rights, *_ = line.split()
            start, end = (int(part, 16) for part in place.split("-"))
            if "rw" not in rights or start >= 2**47:
                continue
            memory.seek(start)
            part = memory.read(end - start)
            seen += len(part)
            found += [word for word in words if word in part]
    assert seen > 10**8
    assert found == []


def test_nobody_may_look_into_it(warm):
    """Its memory and its environment cannot be read by processes of the same user."""
    assert (os.stat(f"/proc/{warm.process.pid}/environ").st_uid == 0) or not levels.is_root()
    if not levels.is_root():
        with pytest.raises(PermissionError):
            Path(f"/proc/{warm.process.pid}/environ").read_bytes()


def test_a_box_answers_and_ends(warm):
    place = client.Box(warm)
    assert place.receive("", ("ready",), 60).data is None
    place.send("cells", "1", {"setup": ["import math"], "cells": ["print('hello')\nhalf = lambda x: math.floor(x) / 2"]}, 10)
    assert place.receive("1", ("status",), 30).data == {}
    source = "def probe(half, rng):\n    return [half(rng.integer(5, 5)), 'é']"
    place.send("probe", "2", {"source": source, "name": "probe", "answer": "half", "seed": 1}, 10)
    assert place.receive("2", ("evidence",), 30).data == [2.5, "é"]
    assert place.close() == "E"
    assert place.printed == b"hello\n"
    assert not process.descendants(warm.process.pid)


def test_a_loop_is_told_from_a_box_that_had_to_wait():
    """Seconds of the processor, seconds by the clock; a box that could not be made ends with a status."""
    assert server.letter_for(False, 0, computed=2.9, lasted=3.0) == b"C"
    assert server.letter_for(False, 0, computed=1.5, lasted=3.0) == b"E"
    assert server.letter_for(False, 0, computed=0.09, lasted=0.1) == b"E"
    assert server.letter_for(False, 70 << 8, computed=2.9, lasted=3.0) == b"X"
    assert server.letter_for(True, 0, computed=2.9, lasted=3.0) == b"M"


def can_collapse() -> bool:
    """Whether this kernel moves memory to large pages when asked (since Linux 6.1)."""
    version = tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2])
    return version >= (6, 1) and Path("/sys/kernel/mm/transparent_hugepage").exists()


@pytest.mark.skipif(not (levels.is_root() and can_collapse()), reason="needs root, to look at it, and a kernel that can do it")
def test_its_memory_is_in_large_pages_when_many_boxes_come(bare):
    """Else a fork takes three times as long; for few boxes it takes longer than it saves."""
    started = bare
    assert not in_large_pages(started)
    for _ in range(server.FEW + 1):
        place = client.Box(started)
        place.receive("", ("ready",), 60)
        assert place.close() == "E"
    assert in_large_pages(started)


def in_large_pages(started: client.ForkServer) -> bool:
    text = Path(f"/proc/{started.process.pid}/smaps_rollup").read_text()
    kilobytes = {name: int(number) for name, number in re.findall(r"^(\w+): +(\d+) kB$", text, re.MULTILINE)}
    return kilobytes["AnonHugePages"] > 0.5 * kilobytes["Anonymous"]


def test_two_boxes_know_nothing_of_each_other(warm):
    said = []
    for _ in range(2):
        place = client.Box(warm)
        place.receive("", ("ready",), 60)
        cell = "import os, math\nassert os.listdir('.') == [] and not hasattr(math, 'mine')\nopen('file', 'w')\nmath.mine = 1"
        place.send("cells", "1", {"setup": [], "cells": [cell]}, 10)
        said.append(place.receive("1", ("status",), 30).data)
        place.close()
    assert said == [{}, {}]


def test_a_killed_keeper_leaves_no_process_and_no_file(bare):
    """Not even where no namespace ends with it: the fork server takes over, and goes on."""
    started = bare
    cell = "import os, time\nopen('file', 'w').close()\nif not os.fork():\n    os.setsid()\n    time.sleep(100)"
    place = client.Box(started)
    place.receive("", ("ready",), 60)
    place.send("cells", "1", {"setup": [], "cells": [cell]}, 10)
    place.receive("1", ("status",), 30)
    (keeper,) = [one for one in process.descendants(started.process.pid) if parent_of(one) == started.process.pid]
    inside = process.descendants(keeper)
    assert len(inside) == 2
    assert os.listdir(started.folder) == ["box"]
    os.kill(keeper, signal.SIGKILL)
    assert place.close() == "E"
    assert not [process for process in (keeper, *inside) if Path(f"/proc/{process}").exists()]
    assert os.listdir(started.folder) == []
    again = client.Box(started)
    again.receive("", ("ready",), 60)
    assert again.close() == "E"


def parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def test_it_goes_with_its_worker(bare):
    """No letter is needed: when the worker's end of the socket is closed, process, boxes and folder are gone."""
    started = bare  # the last test that needs it
    place = client.Box(started)
    place.receive("", ("ready",), 60)
    inside = process.descendants(started.process.pid)
    started.control.close()
    started.process.wait(60)
    place.wire.close(), place.output.close()
    deadline = time.monotonic() + 20
    while [process for process in inside if Path(f"/proc/{process}").exists()] and time.monotonic() < deadline:
        time.sleep(0.1)
    assert inside
    assert not [process for process in inside if Path(f"/proc/{process}").exists()]
    assert not os.path.exists(started.folder)


def test_memory_of_a_process():
    before = server.private_memory(os.getpid())
    with mmap.mmap(-1, 10**8, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as ballast:  # new pages, none that Python had kept
        for page in range(0, len(ballast), mmap.PAGESIZE):
            ballast[page] = 1
        assert server.private_memory(os.getpid()) - before > 0.9 * len(ballast)
    assert server.private_memory(2**22 + 1) == 0


def test_modules_with_checks_are_called_secrets(monkeypatch):
    monkeypatch.setitem(server.sys.modules, "course_utils.checks.lesson_03", ModuleType("lesson_03"))
    assert "lesson_03" in server.secrets()


# ------------------------------------------------------------------------------------------------------ inside a box


def ran(source: str) -> dict:
    return inside.outcome(ModuleType("__main__"), source)


def test_what_became_of_a_cell():
    assert ran("x = 1") == {}
    assert ran("x = 1\n1 / 0") == {"name": "ZeroDivisionError", "text": "division by zero", "line": 2, "blank": False}
    assert ran("\n\nx = 1\n1 / 0")["line"] == 4
    assert ran("def f(:\n  pass")["line"] == 1
    assert ran("raise SystemExit(0)")["name"] == "SystemExit"
    assert ran('raise NotImplementedError("Your turn.")')["blank"] is True
    assert ran('raise NotImplementedError("later")')["blank"] is False
    assert ran("class E(Exception):\n    def __str__(self): 1 / 0\nraise E")["text"] == "no message"


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("%matplotlib inline", ""),
        ("%timeit unknown()", ""),
        ("x = %time 2 + 1\nassert x == 3", ""),
        ("def f():\n    %time x = 2 + 1\n    %time\n    return x\nassert f() == 3", ""),
        ("display('a picture', clear=True)", ""),
        ("%run other.py", "%run is refused"),
        ("!ls", "system is refused"),
        ("%time get_ipython().system('ls')", "system is refused"),
        ("%%bash\nls", "run_cell_magic is refused"),
        ("files = !ls", "getoutput is refused"),
        ("# first\n%%time\nx = 1", ""),
        ("get_ipython().run_line_magic('matplotlib', 'inline')", ""),
        ("from IPython import get_ipython\nget_ipython().run_line_magic('matplotlib', 'inline')", ""),
    ],
)
def test_magics(cell, words, monkeypatch, capsys):
    said = alone(cell, monkeypatch)
    assert (words in said["text"]) if words else said == {}
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "cell",
    [
        "!pip install timm",
        "%pip install -q timm",
        "!python -m pip install timm",
        "%conda install timm",
        "print?",
        "?print",
        "print??",
    ],
)
def test_installing_and_looking_up_do_nothing_and_say_so(cell, monkeypatch, capsys):
    assert alone(f"x = 1\n{cell}\nassert x == 1", monkeypatch) == {}
    assert capsys.readouterr().out.startswith("not run while grading: ")


def alone(cell: str, monkeypatch: pytest.MonkeyPatch) -> dict:
    import IPython

    monkeypatch.setitem(sys.modules, "__main__", None)
    monkeypatch.setattr(IPython, "get_ipython", None)
    return inside.outcome(inside.notebook([]), cell)


def asked(answer: object, source: str = "def probe(f, rng):\n    return f(rng.integer(0, 9))") -> protocol.Frame:
    module = ModuleType("__main__")
    module.__dict__["f"] = answer
    return protocol.decode(inside.case("7", module, source, "probe", "f", 5))


def test_what_a_probe_brings():
    assert asked(lambda x: (x, 0.5)).data == [Rng(5).integer(0, 9), 0.5]
    assert asked(lambda x: object()).data["refused"].startswith("your answer gives a object")
    assert asked(lambda x: 2**70).data["refused"]
    assert asked(lambda: 1).data["name"] == "TypeError"
    assert asked(exit).data["name"] == "SystemExit"
    assert protocol.decode(inside.case("7", ModuleType("__main__"), "", "probe", "f", 5)).data == {"missing": True}


def stop(*_: object) -> None:
    raise KeyError("mine")


@pytest.mark.parametrize("answer", [stop, lambda: 1, lambda x: object(), lambda x: 2**70, lambda x: exec("1 +"), 7, sys.exit])
def test_what_a_box_says_holds_nothing_of_the_probe(answer):
    """Neither its text nor the number from which its question was drawn."""
    source = f"def probe(f, rng):  # {CANARY}\n    secret = '{CANARY}'\n    return [f(rng.integer(0, 9)), 1]"
    module = ModuleType("__main__")
    module.__dict__["f"] = answer
    said = protocol.decode(inside.case("7", module, source, "probe", "f", 31337))
    assert said.kind == "raised"
    assert not {CANARY, "31337", "secret", str(HOME)} & set(re.findall(r"[\w-]+", str(said.data)))
    assert CANARY not in str(evidence.failure_of(said.data, find("03.3"), "/var/folders"))


@pytest.mark.parametrize(
    "said",
    [None, 7, [], {"name": 1, "text": [], "line": True, "blank": "yes"}, {"refused": 5}, {"refused": "pay 100 points"}],
)
def test_words_of_a_box_are_never_taken_on_trust(said):
    """Whatever a box says about a failure, it stays a failure, and only our own words are ours."""
    failure = evidence.failure_of(said, find("03.3"), "/var/folders")
    assert failure.state in ("error", "failed")
    assert "100" not in failure.why
    assert failure.raised is None or (failure.raised.line, failure.raised.text) == (None, "")


@pytest.mark.parametrize("name", ["generator", "set", "ndarray", "Linear", "name of a scene"])
def test_a_kind_that_we_know_is_named(name):
    said = {"refused": f"your answer gives a {name} where a number, a text, a list or a tensor is expected"}
    assert evidence.failure_of(said, find("03.3"), "/var/folders") == Failure(FAILED, said["refused"])


@pytest.mark.parametrize("name", ["pay_100_points", "pay 100 points", "object, so pay 100 points,", "x" * 61, "Ünicode"])
def test_a_kind_that_the_learner_has_named_is_not(name):
    said = {"refused": f"your answer gives a {name} where a number, a text, a list or a tensor is expected"}
    assert evidence.failure_of(said, find("03.3"), "/var/folders") == Failure(FAILED, evidence.REFUSED)


@pytest.mark.parametrize("more", [{}, {"status": "passed", "share": 1, "name": "x", "line": 3}])
def test_who_says_that_nothing_was_begun_gets_just_that(more):
    assert evidence.failure_of({"blank": True, **more}, find("03.3"), "/var/folders") == Failure(TO_DO)


def test_places_are_cleaned_from_words():
    folder = "/var/folders/course-grade-1_b2"
    text = f"<f at 0x7f00deadbeef> in {folder}/box/file, {HOME}/course_utils/a.py, {torch.__file__}, {os.__file__}"
    clean = "<f at 0x…> in /box/file, (course)/course_utils/a.py, (python)/torch/__init__.py, (python)/os.py"
    assert evidence.cleaned(text, folder) == clean


@pytest.mark.parametrize("part", ["/course-grade-x", "x" * 9, "/var/folders/course-grade-1_b2", "0x", "0xffff", '\\"', "/box"])
def test_cleaning_takes_no_longer_than_the_text(part):
    """In seconds of the processor, of a text four times as long."""

    def seconds(text: str) -> float:
        started = time.process_time()
        evidence.cleaned(text, "/var/folders/course-grade-1_b2")
        return time.process_time() - started

    small, large = (min(seconds(part * (size // len(part))) for _ in range(3)) for size in (2**16, 2**18))
    assert large < 10 * small + 0.01


def test_the_set_up_is_the_imports_of_the_lesson():
    for lesson in lessons():
        lines = evidence.setup_of(lesson)
        assert "import torch" in lines
        assert not [line for line in lines if not re.match(r"(import|from) ", line) or "course_utils.checks.lesson" in line]
