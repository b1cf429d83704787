"""The proof: for each layer a process inside it tries what it forbids."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import signal
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from course_utils.grader.sandbox.levels import (
    GIB,
    LAYERS,
    LEVELS,
    NEEDS,
    PACKAGE,
    PROCESSES,
    WORK_FILES,
    Plan,
    is_root,
    level_of,
    user_for,
)
from course_utils.grader.sandbox.namespaces import MOUNT_ATTR_RDONLY, mount, mount_setattr
from course_utils.grader.sandbox.process import fork_box
from course_utils.grader.sandbox.syscalls import LINUX, MACHINES, NEWUSER, call
from course_utils.grader.sandbox.workdir import work_folder


@dataclass(frozen=True)
class Trial:
    """What a process in a box tries its hands on: a port that listens, a secret file, a process outside."""

    port: int
    secret: str
    outside: int


def network(trial: Trial) -> None:
    with socket.create_connection(("127.0.0.1", trial.port), timeout=2):
        pass


def many_files() -> None:
    for number in range(WORK_FILES + 100):
        Path(f"file-{number}").touch()


def many_processes() -> None:
    children: list[int] = []
    try:
        for _ in range(2 * PROCESSES):
            children.append(os.fork())
            if not children[-1]:
                signal.pause()
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)


def shared_segment() -> None:
    call("shmget", 0, ctypes.c_size_t(4096), 0o1600)


def make_writable() -> None:
    mount_setattr("/", 0, 0, MOUNT_ATTR_RDONLY)


Act = Callable[[], object]


def acts(layer: str, trial: Trial) -> dict[str, Act]:
    """What a box with `layer` must refuse, by name."""
    module = str(PACKAGE / "__init__.py")
    tried: dict[str, dict[str, Act]] = {
        "NS": {
            "connecting to a port of the machine": lambda: network(trial),
            "a signal to a process outside": lambda: os.kill(trial.outside, 0),
            "seeing a file outside": lambda: os.stat(trial.secret),
        },
        "RO": {"a new time for a file": lambda: os.utime(module), "a new folder": lambda: os.mkdir("/new")},
        "TMP": {"a file of 48 MB": lambda: Path("big").write_bytes(bytes(48 * 10**6)), "thousands of files": many_files},
        "UID": {
            "reading a file of the grader's user": lambda: Path(trial.secret).read_bytes(),
            "a signal to a process of the grader's user": lambda: os.kill(trial.outside, 0),
        },
        "CAP": {"making the tree writable": make_writable, "a mount": lambda: mount("new", os.getcwd(), "tmpfs", 0)},
        "LL": {
            "reading a file that is not listed": lambda: Path(trial.secret).read_bytes(),
            "writing beside the work folder": lambda: Path(trial.secret).with_suffix(".new").touch(),
            "starting a program": lambda: os.posix_spawn("/bin/true", ["true"], {}),
        },
        "SIG": {"a signal to a process outside": lambda: os.kill(trial.outside, 0)},
        "SC": {
            "a socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
            "a user namespace": lambda: call("unshare", NEWUSER),
            "shared memory": shared_segment,
        },
        "RL": {
            "8 GiB of memory": lambda: mmap.mmap(-1, 8 * GIB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS),
            "8 GiB of shared memory": lambda: mmap.mmap(-1, 8 * GIB),
            "a file of 48 MB": lambda: Path("big").write_bytes(bytes(48 * 10**6)),
            **({"dozens of processes": many_processes} if os.getuid() else {}),
        },
    }
    return tried[layer]


def succeeded(act: Act) -> bool:
    try:
        act()
    except (OSError, MemoryError):
        return False
    return True


def needed(layer: str) -> frozenset[str]:
    """The layer with those that it cannot do without."""
    of_root = {"UID"} if layer == "RL" and is_root() else set()  # the number of processes of root is not limited
    return frozenset({layer, *NEEDS.get(layer, ()), *of_root})


@contextmanager
def trial(folder: str) -> Iterator[Trial]:
    secret = Path(folder).with_suffix(".secret")
    with socket.create_server(("127.0.0.1", 0)) as server:
        secret.write_text("nobody reads this")
        secret.chmod(0o600)
        try:
            yield Trial(server.getsockname()[1], str(secret), os.getpid())
        finally:
            secret.unlink()
            secret.with_suffix(".new").unlink(missing_ok=True)


def allowed(plan: Plan, layers: Iterable[str], what: Trial, *, usable: bool = False) -> str:
    """What a box made by `plan` allows although `layers` should refuse it, or why there is no such box; else nothing."""
    reader, writer = os.pipe()

    def body() -> None:
        for path in (os.__file__, str(PACKAGE / "__init__.py")) if usable else ():  # else no answer could import a thing
            if not os.access(path, os.R_OK):
                raise OSError(f"its user cannot read {path}; take --isolation full, or a Python and a course below /opt")
        found = [name for layer in layers for name, act in acts(layer, what).items() if succeeded(act)]
        os.write(writer, "; ".join(["tried", *found]).encode())

    keeper = fork_box(plan, reported(body, writer))
    os.close(writer)
    with open(reader, "rb") as stream:
        said = stream.read().decode(errors="replace")
    os.waitpid(keeper, 0)
    head, _, found = said.partition("; ")
    return found and f"it allows {found}" if head == "tried" else said or "its process ended while it tried"


def reported(body: Callable[[], None], writer: int) -> Callable[[], None]:
    def run() -> None:
        try:
            body()
        except OSError as error:
            os.write(writer, f"no box: {error}".encode())

    return run


def prove(folder: str) -> dict[str, str]:
    """For each layer the reason why it does not work on this machine, or nothing: each is tried in a box that has only it."""
    found: dict[str, str] = {}
    with trial(folder) as what:
        for layer in LAYERS:
            lacking = [other for other in sorted(needed(layer) - {layer}) if found.get(other)]
            found[layer] = f"needs {', '.join(lacking)}" if lacking else prove_one(layer, folder, what)
    return found


def prove_one(layer: str, folder: str, what: Trial) -> str:
    if not LINUX or platform.machine() not in MACHINES:
        return "only on Linux, on x86_64 and aarch64"
    if layer == "UID" and not is_root():
        return "needs root"
    plan = Plan(needed(layer), folder, user_for(os.getpid()), seconds=20)
    return allowed(plan, [layer], what)


def working(level: str, found: dict[str, str], folder: str) -> tuple[frozenset[str], str]:
    """The layers of `level` that work here, proved once more all together, and what is wrong if they do not amount to it."""
    layers = frozenset(layer for layer in LEVELS[level] if not found[layer])
    if list(LEVELS).index(level_of(layers)) > list(LEVELS).index(level):
        lacking = [f"{layer} ({found[layer]})" for layer in LAYERS if layer in LEVELS[level] and found[layer]]
        return layers, f"isolation {level!r} needs layers that do not work here: {', '.join(lacking)}"
    with trial(folder) as what:
        plan = Plan(layers, folder, user_for(os.getpid()), seconds=20)
        wrong = allowed(plan, [layer for layer in LAYERS if layer in layers], what, usable=True)
    return layers, f"the layers {sorted(layers)} do not work together: {wrong}" if wrong else ""


@dataclass(frozen=True)
class Fact:
    """One layer on this machine: whether it works, and if not, why and what can be done."""

    layer: str
    works: bool
    why: str
    advice: str


ADVICE = {
    "NS": "allow user namespaces (Ubuntu: `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`), or grade as root",
    "UID": "only for root; without it the other layers are enough",
    "LL": "a kernel from 5.13 on with Landlock (`cat /sys/kernel/security/lsm` names it)",
    "SIG": "a kernel from 6.12 on; NS does the same",
    "SC": "Linux on x86_64 or aarch64; on Windows use WSL 2, on macOS Docker",
}


def facts() -> list[Fact]:
    """What `course grade --doctor` shows: every layer, tried on this machine."""
    with work_folder() as folder:
        found = prove(folder)
    return [Fact(layer, not found[layer], found[layer], ADVICE.get(layer, "") if found[layer] else "") for layer in LAYERS]
