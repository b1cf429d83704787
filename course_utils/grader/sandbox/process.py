"""A box as processes: the keeper, who waits and kills, and the box, which puts on its layers one after the other.

The order of the calls matters: most are impossible, useless or undone in another place.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from course_utils.grader.sandbox.landlock import landlock
from course_utils.grader.sandbox.levels import INSIDE, Plan, become, is_root
from course_utils.grader.sandbox.limits import limits_of
from course_utils.grader.sandbox.namespaces import drop_capabilities, new_tree
from course_utils.grader.sandbox.seccomp import load_filter
from course_utils.grader.sandbox.syscalls import (
    LINUX,
    NAMESPACES,
    NEWUSER,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
    PR_SET_SUBREAPER,
    call,
    dumpable,
    prctl,
)
from course_utils.grader.sandbox.workdir import remove


def fork_box(plan: Plan, body: Callable[[], None]) -> int:
    """Start `body` inside a box, and a keeper who waits for it; returns the keeper's process id.

    The keeper runs nothing of a learner. It ends when the box has ended, and ends the box when it gets SIGTERM, when its
    parent dies, or when the time is over. Its exit status is not zero if the box could not be made.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    keeper = os.fork()
    if not keeper:
        try:
            os._exit(keep(plan, body))
        finally:
            os._exit(BROKEN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    return keeper


BROKEN = 70  # exit status of a keeper whose box could not be made


def keep(plan: Plan, body: Callable[[], None]) -> int:
    """The life of a keeper. Whatever comes in between, nothing of the box is left when it returns or raises."""
    leave(plan)
    reader, writer = os.pipe()
    try:
        if "NS" not in plan.layers:
            os.mkdir(plan.folder + INSIDE, 0o700)
            os.chown(plan.folder + INSIDE, plan.uid, -1)
        box = start(plan, body, writer)
        os.close(writer)
        for number in (signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, lambda *_: kill(box))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        signal.alarm(plan.seconds)
        made = os.read(reader, 1)
        os.waitpid(box, 0)
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGALRM})
        sweep()
        remove(plan.folder + INSIDE)
    return 0 if made else BROKEN


def start(plan: Plan, body: Callable[[], None], writer: int) -> int:
    """Fork the box itself, which enters the layers, says so to `writer` and runs `body`; returns its process id."""
    box = os.fork()
    if box:
        return box
    try:
        enter(plan)
        os.write(writer, b"!")  # from here on its end is its own doing, whatever it is
        os.close(writer)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    except BaseException as error:
        with suppress(OSError):
            print(f"course grade: no box: {error}", file=sys.stderr, flush=True)
        os._exit(BROKEN)
    try:
        body()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(0)


def kill(process: int) -> None:
    with suppress(ProcessLookupError):  # it has ended by itself
        os.kill(process, signal.SIGKILL)


def leave(plan: Plan) -> None:
    """In the keeper, before it forks the box: a session of its own, and namespaces for its children."""
    os.setsid()
    if not LINUX:
        return
    dumpable(True)  # else the files of /proc/self belong to root
    Path("/proc/self/oom_score_adj").write_text("1000")
    adopt_orphans()
    if "NS" in plan.layers and is_root():
        call("unshare", NAMESPACES)
    elif "NS" in plan.layers:
        uid, gid = os.geteuid(), os.getegid()
        call("unshare", NAMESPACES | NEWUSER)
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            Path(f"/proc/self/{name}").write_text(text)
    dumpable(False)
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)  # new namespaces clear it


def sweep() -> None:
    """Kill whatever is left below this process; orphans are the children of the keeper, or else of the fork server."""
    with suppress(ChildProcessError):  # there is none any more
        while True:
            os.waitpid(-1, os.WNOHANG)
            for process in descendants(os.getpid()):
                kill(process)
            os.waitpid(-1, 0)


def adopt_orphans() -> None:
    if LINUX:
        prctl(PR_SET_SUBREAPER, 1)


def descendants(process: int) -> list[int]:
    """All processes below `process`, nearest first."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = entry.read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        children.setdefault(int(parent), []).append(int(entry.parent.name))
    found = [process]
    for one in found:
        found += children.get(one, [])
    return found[1:]


def enter(plan: Plan) -> None:
    """In the box, before any code of a learner: all layers of `plan`, from the outermost to the innermost."""
    if LINUX:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    limits = limits_of(plan)  # while /proc is there
    work = new_tree(plan) if "NS" in plan.layers else plan.folder + INSIDE
    os.chdir(work)
    os.environ.update(HOME=work, TMPDIR=work, MPLCONFIGDIR=work)
    tempfile.tempdir = None  # else it is the one from outside
    if "UID" in plan.layers:
        become(plan.uid)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # a change of the user clears it
    if "CAP" in plan.layers:
        drop_capabilities()
    if plan.layers & {"CAP", "LL", "SC"}:
        prctl(PR_SET_NO_NEW_PRIVS, 1)
    if "LL" in plan.layers:
        landlock(work, signals="SIG" in plan.layers)
    if "SC" in plan.layers:
        load_filter(strict="RO" not in plan.layers)
    for kind, value in limits.items():  # last: the steps before need memory
        resource.setrlimit(kind, value)
