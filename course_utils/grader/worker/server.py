"""The fork server: it imports torch once, proves the layers, and forks a box for each probe. It runs no learner's code.

It is started by `client` as a program of its own (`python -m course_utils.grader.worker.server CONTROL LEVEL`), so that
nothing secret is in its memory, and obeys single letters on the socket CONTROL:

    B (with two descriptors: the wire, the output)    make a box       answers E: it has ended
    K                                                 end that box             C: the same, and it computed all the time
                                                                               M: it took too much memory
                                                                               X: it could not be made
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
import time
from importlib import import_module
from pathlib import Path

from course_utils.grader.sandbox.levels import GIB, INSIDE, Plan, user_for
from course_utils.grader.sandbox.process import adopt_orphans, descendants, fork_box, sweep
from course_utils.grader.sandbox.seccomp import packed
from course_utils.grader.sandbox.selftest import prove, working
from course_utils.grader.sandbox.syscalls import LINUX, dumpable, libc
from course_utils.grader.sandbox.workdir import remove, work_folder
from course_utils.grader.worker.inside import inside

MEMORY = 4 * GIB  # of all processes of a box together
WARM = (
    *("torch", "torchvision", "torchvision.transforms.v2", "numpy", "matplotlib.pyplot", "PIL.Image"),
    *("IPython.core.inputtransformer2", "course_utils.checks.spec", "course_utils.grader.worker.protocol"),
)
HARMLESS = ("course_utils.grader.sandbox", "course_utils.grader.worker")  # of the grader, all that may be in a box
BUSY = 0.8  # the share of its time from which on a box was not kept waiting by other programs
PATIENCE = 20  # seconds that a keeper gets to end its box; to give back much memory takes time


def main(control: socket.socket, level: str) -> None:
    dumpable(False)
    adopt_orphans()
    with work_folder() as folder:
        serve(control, level, os.path.realpath(folder))


def serve(control: socket.socket, level: str, folder: str) -> None:
    """Say which layers work, then make one box after the other until nobody asks any more."""
    found = prove(folder)
    layers, wrong = working(level, found, folder)
    if not wrong:
        warm_up()
        if "SC" in layers:
            packed(strict="RO" not in layers)
        wrong = secrets()
    hello = {"layers": ["FORK", *sorted(layers)], "wrong": wrong, "folder": folder}
    control.sendall(json.dumps(hello).encode() + b"\n")
    plan, boxes = Plan(layers, folder, user_for(os.getpid())), 0
    while not wrong:
        letter, descriptors = receive(control)
        if letter == b"B" and len(descriptors) == 2:
            control.sendall(one_box(control, plan, descriptors))
            boxes += 1
            if boxes == FEW:
                use_large_pages()
        elif not letter:
            return


def warm_up() -> None:
    """Import what answers need. No operator is run: it would start threads, and a fork of a process with threads hangs.

    What is imported stays, so nobody looks for garbage in it: not while it comes, which saves a fifth of the time, nor in
    boxes, where a look would copy its memory.
    """
    gc.disable()
    for name in WARM:
        import_module(name)
    import torch

    import course_utils

    for name in course_utils.__all__:
        getattr(course_utils, name)
    torch.set_num_threads(1)
    torch.backends.cpu.get_cpu_capability()  # looks at the processor, which a box cannot see, and which decides last digits
    gc.freeze()
    gc.enable()


FEW = 20  # boxes: with so many more to come, large pages are worth the second that they take
LARGE_PAGE, HUGEPAGE, COLLAPSE = 2**21, 14, 25  # bytes; advice for madvise


def use_large_pages() -> None:
    """Move this process's memory to large pages: a fork copies one entry for each, not 512, and takes a third of the time.

    Only speed depends on it; where the kernel cannot do it (before Linux 6.1), all stays as it is.
    """
    if not LINUX:
        return
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, rights, _, _, _, *name = line.split()
        begin, end = (int(address, 16) for address in addresses.split("-"))
        begin, end = -(-begin // LARGE_PAGE) * LARGE_PAGE, end // LARGE_PAGE * LARGE_PAGE
        if begin < end and rights.startswith("rw") and name in ([], ["[heap]"]):
            for advice in (HUGEPAGE, COLLAPSE):
                libc.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), advice)


def secrets() -> str:
    """What is in this process that must not be in a box."""
    held = [name for name in sys.modules if name.startswith("course_utils.checks.lesson_")]
    held += [name for name in sys.modules if name.startswith("course_utils.grader.") and not name.startswith(HARMLESS)]
    threads = len(os.listdir("/proc/self/task")) if LINUX else 1
    return f"the fork server holds {held}" if held else f"the fork server has {threads} threads" if threads > 1 else ""


def receive(control: socket.socket) -> tuple[bytes, list[int]]:
    try:
        letter, descriptors, _, _ = socket.recv_fds(control, 1, 2)
    except OSError:
        return b"", []
    return letter, descriptors


def one_box(control: socket.socket, plan: Plan, descriptors: list[int]) -> bytes:
    """Make a box, watch it until it has ended, and say how."""
    started = time.monotonic()
    alive, keeps_open = os.pipe()  # its end tells that the keeper has ended
    keeper = fork_box(plan, lambda: inside(*descriptors))
    for descriptor in (keeps_open, *descriptors):
        os.close(descriptor)
    greedy = watch(control, alive, keeper)
    os.close(alive)
    _, status, used = os.wait4(keeper, 0)
    ended = letter_for(greedy, status, used.ru_utime + used.ru_stime, time.monotonic() - started)
    sweep()  # a keeper that was killed could not
    remove(plan.folder + INSIDE)
    return ended


def letter_for(greedy: bool, status: int, computed: float, lasted: float) -> bytes:
    """How a box ended, in one letter; of its `lasted` seconds the processor worked `computed` ones for it."""
    if greedy:
        return b"M"
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        return b"X"
    return b"C" if lasted > 1 and computed > BUSY * lasted else b"E"


def watch(control: socket.socket, alive: int, keeper: int) -> bool:
    """Wait until the keeper ends, or end it: when told to, when nobody is there to tell, and when memory runs out."""
    own, greedy = private_memory(os.getpid()), False
    while not greedy:
        ready = readable(control.fileno(), alive, seconds=0.1)
        if alive in ready:
            return False
        if control.fileno() in ready:
            receive(control)
            break
        greedy = LINUX and sum(max(0, private_memory(one) - own) for one in descendants(keeper)) > MEMORY
    os.kill(keeper, signal.SIGTERM)
    if not readable(alive, seconds=PATIENCE):
        os.kill(keeper, signal.SIGKILL)
    return greedy


def readable(*descriptors: int, seconds: float) -> list[int]:
    return select.select(descriptors, [], [], seconds)[0]


def private_memory(process: int) -> int:
    """The bytes that belong to this process and are in memory; right after a fork they are those of its parent."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon:", "RssShmem:"))) * 1024
    except (OSError, ValueError, IndexError):
        return 0


if __name__ == "__main__":
    try:
        main(socket.socket(fileno=int(sys.argv[1])), sys.argv[2])
    except BrokenPipeError:
        pass
    finally:
        sys.stderr.flush()
        os._exit(0)  # an ordinary end would wake what torch has brought along
