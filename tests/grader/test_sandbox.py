"""The layers of the sandbox: each refuses what it should, and nothing else does it in its place."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from course_utils.grader.sandbox import levels, namespaces, process, seccomp, selftest, syscalls

pytestmark = [pytest.mark.sandbox, pytest.mark.skipif(sys.platform != "linux", reason="the layers are Linux's own")]
EVERYWHERE = ("NS", "RO", "TMP", "CAP", "LL", "SC")
ROOT = levels.is_root()


@pytest.fixture
def folder(tmp_path_factory):
    """A folder that the user of a box may pass through."""
    path = tmp_path_factory.mktemp("box")
    for parent in (path, *path.parents):
        if parent.owner() == path.owner() and len(parent.parts) > 2:
            parent.chmod(0o711)
    return str(path)


def in_a_box(layers: set[str], folder: str, act) -> str:
    """What `act` returns inside a box, as text; an OSError becomes its name."""
    reader, writer = os.pipe()

    def body() -> None:
        try:
            said = str(act())
        except OSError as error:
            said = type(error).__name__
        os.write(writer, said.encode())

    keeper = process.fork_box(levels.Plan(frozenset(layers), folder, levels.user_for(os.getpid()), seconds=20), body)
    os.close(writer)
    with open(reader) as stream:
        said = stream.read()
    os.waitpid(keeper, 0)
    return said


def test_every_layer_works_here(folder):
    """A machine on which tests run must have them; only a user of its own takes root."""
    found = selftest.prove(folder)
    lacking = {layer: why for layer, why in found.items() if why}
    assert lacking == ({} if ROOT else {"UID": "needs root"})
    assert os.listdir(folder) == []


@pytest.mark.parametrize("layer", levels.LAYERS)
def test_without_a_layer_its_trial_finds_something(layer, folder):
    """No layer is decoration: a box with all that it needs, but not with itself, allows what it refuses."""
    if layer == "UID" and not ROOT:
        pytest.skip("only root can become another user")
    plan = levels.Plan(selftest.needed(layer) - {layer}, folder, levels.user_for(os.getpid()), seconds=20)
    with selftest.trial(folder) as what:
        assert "it allows" in selftest.allowed(plan, [layer], what)


def test_all_layers_together(folder):
    layers, wrong = selftest.working("full", selftest.prove(folder), folder)
    assert (wrong, levels.level_of(layers)) == ("", "full")


@pytest.mark.parametrize(
    ("layers", "level"),
    [
        ("NS RO TMP CAP LL SC RL", "full"),
        ("NS RO TMP CAP LL SC RL UID SIG", "full"),
        ("NS RO TMP CAP SC RL", "none"),
        ("UID SC RL", "basic"),
        ("LL SIG SC RL", "basic"),
        ("LL SC RL", "none"),
        ("UID LL SIG RL", "none"),
        ("", "none"),
    ],
)
def test_levels(layers, level):
    assert levels.level_of(layers.split()) == level


def test_a_level_that_cannot_be_had_names_what_is_missing(folder):
    found = dict.fromkeys(levels.LAYERS, "") | {"LL": "the kernel has none"}
    assert "LL (the kernel has none)" in selftest.working("full", found, folder)[1]


def test_a_box_sees_only_its_tree(folder):
    seen = in_a_box({"NS", "RO", "TMP", "CAP"}, folder, lambda: sorted(os.listdir("/")))
    assert "box" in seen
    assert not re.search(r"'(proc|sys|home|etc/passwd|var|boot|mnt)'", seen)
    assert in_a_box({"NS", "RO"}, folder, lambda: os.path.exists(__file__)) == "False"


def test_checks_of_the_course_are_not_in_a_box(folder):
    """Their rules hold what is right."""
    path = levels.PACKAGE / "checks" / "lesson_03.py"
    assert path.exists()
    assert in_a_box({"NS"}, folder, path.exists) == "False"
    assert in_a_box({"LL"}, folder, lambda: path.read_text()[:9]) == "PermissionError"
    assert not [
        place for place in namespaces.places() if "lesson_" in place or "grader" in place or place == str(levels.PACKAGE)
    ]


def test_a_box_is_process_one_and_has_no_parent(folder):
    assert in_a_box({"NS"}, folder, lambda: (os.getpid(), os.getppid())) == "(1, 0)"


def test_no_capability_is_left(folder):
    def capabilities() -> list[str]:
        status = Path("/proc/self/status").read_text()
        return re.findall(r"^Cap(?:Inh|Prm|Eff|Bnd|Amb):\s*0*([1-9a-f]\w*)", status, re.MULTILINE)

    assert in_a_box({"CAP"}, folder, capabilities) == "[]" or not ROOT


@pytest.mark.skipif(not ROOT, reason="only root can become another user")
def test_as_root_a_box_has_a_user_of_its_own(folder):
    uid = levels.user_for(os.getpid())
    assert in_a_box({"UID"}, folder, lambda: (os.getresuid(), os.getgroups())) == f"({(uid,) * 3}, [])"


@pytest.mark.parametrize("layers", [{"NS"}, set()], ids=["namespaces", "none"])
def test_a_keeper_that_is_told_to_end_leaves_no_process_and_no_file(layers, folder):
    """Not even a grandchild in a session of its own."""
    reader, writer = os.pipe()

    def stay() -> None:
        Path("file").touch()
        if not os.fork():
            os.setsid()
        os.write(writer, b".")
        time.sleep(100)

    keeper = process.fork_box(levels.Plan(frozenset(layers), folder, levels.user_for(os.getpid())), stay)
    os.read(reader, 1), os.read(reader, 1)
    inside = process.descendants(keeper)
    os.kill(keeper, signal.SIGTERM)
    os.waitpid(keeper, 0)
    os.close(reader), os.close(writer)
    assert len(inside) == 2
    assert not [process for process in inside if Path(f"/proc/{process}").exists()]
    assert os.listdir(folder) == []


@pytest.mark.parametrize("broken", ["chown", "waitpid"])
def test_a_keeper_that_fails_leaves_no_process_and_no_file(broken, folder, monkeypatch):
    """Before there is a box, and after."""
    whole, before = getattr(os, broken), set(process.descendants(os.getpid()))

    def fail_once(*arguments):
        monkeypatch.setattr(os, broken, whole)
        time.sleep(0.5)
        raise OSError("as an exercise")

    monkeypatch.setattr(os, broken, fail_once)
    keeper = process.fork_box(levels.Plan(frozenset(), folder, levels.user_for(os.getpid())), lambda: time.sleep(30))
    monkeypatch.setattr(os, broken, whole)
    started = time.monotonic()
    _, status = os.waitpid(keeper, 0)
    assert os.waitstatus_to_exitcode(status) == process.BROKEN
    assert time.monotonic() - started < 20
    assert os.listdir(folder) == []
    assert set(process.descendants(os.getpid())) <= before


@pytest.mark.parametrize("layers", [{"NS"}, set()], ids=["namespaces", "none"])
def test_a_killed_fork_server_leaves_nothing_of_a_box(layers, folder):
    """Its keeper is told by the kernel, ends the box and removes what it has written."""
    reader, writer = os.pipe()

    def write() -> None:
        Path("file").touch()
        os.write(writer, b"x")
        time.sleep(60)

    if not (server := os.fork()):
        process.fork_box(levels.Plan(frozenset(layers), folder, levels.user_for(os.getpid()), seconds=60), write)
        time.sleep(60)
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as stream:
        assert stream.read(1) == b"x"
        assert layers or os.listdir(folder + levels.INSIDE) == ["file"]
        os.kill(server, signal.SIGKILL)
        os.waitpid(server, 0)
        assert stream.read() == b"", "the box and its keeper have ended"
    assert os.listdir(folder) == []


@pytest.mark.skipif(not ROOT, reason="only root can become another user")
def test_a_python_that_the_user_of_a_box_cannot_read_is_named(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(selftest.os, "__file__", str(tmp_path / "os.py"))
    tmp_path.chmod(0o700)
    (tmp_path / "os.py").touch()
    namespaces.places.cache_clear()  # as in a new process: what its user cannot see is not among them
    found = dict.fromkeys(levels.LAYERS, "") | {"NS": "not here"}
    layers, wrong = selftest.working("basic", found, folder)
    assert "UID" in layers
    assert f"its user cannot read {tmp_path}/os.py; take --isolation full, or a Python" in wrong


@pytest.mark.parametrize("layers", [{"NS"}, set()], ids=["namespaces", "none"])
def test_nothing_outlives_a_box(layers, folder):
    """A grandchild in a session of its own ends with the box, with namespaces and without."""
    mark, before = Path(folder).with_suffix(".mark"), set(process.descendants(os.getpid()))

    def flee() -> str:
        if not os.fork():
            os.setsid()
            if not os.fork():
                time.sleep(1)
                mark.touch()
            os._exit(0)
        os.wait()
        return "fled"

    assert in_a_box(layers, folder, flee) == "fled"
    time.sleep(1.5)
    assert not mark.exists()
    assert set(process.descendants(os.getpid())) <= before


def test_a_locked_work_folder_is_removed(folder):
    def lock() -> None:
        os.makedirs("a/b/c")
        Path("a/b/file").touch()
        for path in ("a/b/c", "a/b", "a"):
            os.chmod(path, 0)

    in_a_box(set(), folder, lock)
    assert os.listdir(folder) == []


def test_a_box_that_cannot_be_made_is_told_from_one_that_ended(folder):
    plan = levels.Plan(frozenset({"NS"}), folder + "/not-there", levels.user_for(os.getpid()))
    _, status = os.waitpid(process.fork_box(plan, lambda: None), 0)
    assert os.waitstatus_to_exitcode(status) == process.BROKEN
    plan = levels.Plan(frozenset({"NS"}), folder, levels.user_for(os.getpid()))
    _, status = os.waitpid(process.fork_box(plan, lambda: sys.exit(3)), 0)
    assert os.waitstatus_to_exitcode(status) == 0


@pytest.mark.parametrize("machine", syscalls.MACHINES)
def test_the_table_of_calls(machine, monkeypatch):
    monkeypatch.setattr(syscalls.platform, "machine", lambda: machine)
    for text in (syscalls.ALLOWED, syscalls.ARGUED):
        numbers = list(syscalls.table(text).values())
        assert len(numbers) == len(set(numbers))
    assert not set(syscalls.table(syscalls.ALLOWED)) & set(syscalls.table(syscalls.ARGUED))
    steps = seccomp.program(strict=True)
    assert len(steps) < 4096
    assert steps[-1] == (seccomp.RETURN, 0, 0, seccomp.FAIL | seccomp.EPERM)
    for place, (code, yes, no, _) in enumerate(steps):
        if code in (seccomp.EQUAL, seccomp.AT_LEAST, seccomp.ANY_BIT):
            assert place + 1 + max(yes, no) < len(steps)


def answer_of(steps: list, number: int, *arguments: int) -> int:
    """What the filter says of one system call: its instructions carried out as the kernel does."""
    data = {seccomp.NUMBER: number, seccomp.ARCHITECTURE: syscalls.MACHINES[syscalls.platform.machine()][1]}
    data |= {seccomp.ARGUMENTS + 8 * i: value for i, value in enumerate(arguments)}
    held = place = 0
    while True:
        code, yes, no, value = steps[place]
        if code == seccomp.RETURN:
            return value
        if code == seccomp.LOAD:
            held, jump = data.get(value, 0), 0
        else:
            true = {seccomp.EQUAL: held == value, seccomp.AT_LEAST: held >= value, seccomp.ANY_BIT: bool(held & value)}[code]
            jump = yes if true else no
        place += 1 + jump


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("machine", syscalls.MACHINES)
def test_only_listed_calls_with_listed_arguments_are_allowed(machine, strict, monkeypatch):
    monkeypatch.setattr(syscalls.platform, "machine", lambda: machine)
    steps, refused = seccomp.program(strict=strict), seccomp.FAIL | seccomp.EPERM
    allowed = {n for name, n in syscalls.table(syscalls.ALLOWED).items() if not strict or name not in syscalls.STRICT}
    argued = syscalls.table(syscalls.ARGUED)
    for number in set(range(1000)) - set(argued.values()):
        unknown = seccomp.FAIL | seccomp.ENOSYS if number >= seccomp.NEW else refused
        assert answer_of(steps, number) == (seccomp.ALLOW if number in allowed else unknown), number
    for name, number in argued.items():
        good = [0] * 6
        for place, demand in seccomp.RULES[name].items():
            good[place] = demand[0] if isinstance(demand, tuple) else 0
        assert answer_of(steps, number, *good) == seccomp.ALLOW, name
        for place, demand in seccomp.RULES[name].items():
            values = [1 << bit for bit in range(32) if demand >> bit & 1] if isinstance(demand, int) else [0xFFFFFFFF, 9999]
            for value in values:
                assert answer_of(steps, number, *good[:place], value, *good[place + 1 :]) == refused, (name, value)


def test_the_numbers_of_calls_are_those_of_this_machine():
    """Where the kernel's headers are installed, they say the same."""
    headers = {"x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "aarch64": "/usr/include/asm-generic/unistd.h"}
    path = Path(headers[syscalls.platform.machine()])
    if not path.exists():
        pytest.skip("no headers of the kernel here")
    text = path.read_text()
    known = {name: int(n) for name, n in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", text)}
    ours = syscalls.table(syscalls.ALLOWED) | syscalls.table(syscalls.ARGUED)
    assert {name: number for name, number in ours.items() if name in known} == {
        name: known[name] for name in ours if name in known
    }
    assert len(known.keys() & ours.keys()) > 70


def test_the_facts_for_people(folder):
    facts = {fact.layer: fact for fact in selftest.facts()}
    assert list(facts) == list(levels.LAYERS)
    assert all(facts[layer].works for layer in EVERYWHERE)
    assert all(fact.works or fact.why for fact in facts.values())
