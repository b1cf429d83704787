"""The warm process: it imports torch once, proves the layers, and forks a box for each probe. It runs no learner's code.

It is started by `run` as a program of its own (`python -m course_utils.grader.zygote CONTROL LEVEL`), so that nothing secret
is in its memory, and obeys single letters on the socket CONTROL:

    B (with two descriptors: the wire, the output)    make a box       answers E: it has ended
    K                                                 end that box             C: the same, and it computed all the time
                                                                               M: it took too much memory
                                                                               X: it could not be made
"""

from __future__ import annotations

import ast
import ctypes
import json
import os
import random
import re
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from course_utils.errors import STUB
from course_utils.grader import box

MEMORY = 4 * box.GIB  # of all processes of a box together
WARM = (
    *("torch", "torchvision", "torchvision.transforms.v2", "numpy", "matplotlib.pyplot", "PIL.Image"),
    *("IPython.core.inputtransformer2", "course_utils.checks.spec", "course_utils.grader.wire"),
)
SECRETS = ("submission", "judge", "report", "probes", "evidence", "run", "writers", "command")
BUSY = 0.8  # the share of its time from which on a box was not kept waiting by other programs
PATIENCE = 20  # seconds that a keeper gets to end its box; to give back much memory takes time
WIRE = 3  # the descriptor by which a box talks


def main(control: socket.socket, level: str) -> None:
    box.dumpable(False)
    box.adopt_orphans()
    with box.work_folder() as folder:
        serve(control, level, folder)


def serve(control: socket.socket, level: str, folder: str) -> None:
    """Say which layers work, then make one box after the other until nobody asks any more."""
    found = box.prove(folder)
    layers, wrong = box.working(level, found, folder)
    if not wrong:
        warm_up()
        wrong = secrets()
    hello = {"layers": ["ZY", *sorted(layers)], "wrong": wrong, "folder": folder}
    control.sendall(json.dumps(hello).encode() + b"\n")
    plan = box.Plan(layers, folder, box.user_for(os.getpid()))
    while not wrong:
        letter, descriptors = receive(control)
        if letter == b"B" and len(descriptors) == 2:
            control.sendall(one_box(control, plan, descriptors))
        elif not letter:
            return


def warm_up() -> None:
    """Import what answers need. No operator is run: it would start threads, and a fork of a process with threads hangs."""
    for name in WARM:
        import_module(name)
    import course_utils

    for name in course_utils.__all__:
        getattr(course_utils, name)
    torch = sys.modules["torch"]
    torch.set_num_threads(1)
    torch.backends.cpu.get_cpu_capability()  # looks at the processor, which a box cannot see, and which decides last digits
    use_large_pages()


LARGE_PAGE, HUGEPAGE, COLLAPSE = 2**21, 14, 25  # bytes; advice for madvise


def use_large_pages() -> None:
    """Move this process's memory to large pages: a fork copies one entry for each, not 512, and takes a third of the time.

    Only speed depends on it; where the kernel cannot do it (before Linux 6.1), all stays as it is.
    """
    if not box.LINUX:
        return
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, rights, _, _, _, *name = line.split()
        begin, end = (int(address, 16) for address in addresses.split("-"))
        begin, end = -(-begin // LARGE_PAGE) * LARGE_PAGE, end // LARGE_PAGE * LARGE_PAGE
        if begin < end and rights.startswith("rw") and name in ([], ["[heap]"]):
            for advice in (HUGEPAGE, COLLAPSE):
                box.libc.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), advice)


def secrets() -> str:
    """What is in this process that must not be in a box."""
    held = [name for name in sys.modules if name.startswith("course_utils.checks.lesson_")]
    held += [name for name in SECRETS if f"course_utils.grader.{name}" in sys.modules]
    threads = len(os.listdir("/proc/self/task")) if box.LINUX else 1
    return f"the process to be forked holds {held}" if held else f"it has {threads} threads" if threads > 1 else ""


def receive(control: socket.socket) -> tuple[bytes, list[int]]:
    try:
        letter, descriptors, _, _ = socket.recv_fds(control, 1, 2)
    except OSError:
        return b"", []
    return letter, descriptors


def one_box(control: socket.socket, plan: box.Plan, descriptors: list[int]) -> bytes:
    """Make a box, watch it until it has ended, and say how."""
    started = time.monotonic()
    alive, keeps_open = os.pipe()  # its end tells that the keeper has ended
    keeper = box.fork_box(plan, lambda: inside(*descriptors))
    for descriptor in (keeps_open, *descriptors):
        os.close(descriptor)
    greedy = watch(control, alive, keeper)
    os.close(alive)
    _, status, used = os.wait4(keeper, 0)
    ended = letter_for(greedy, status, used.ru_utime + used.ru_stime, time.monotonic() - started)
    box.sweep()  # a keeper that was killed could not
    box.remove(plan.folder + box.INSIDE)
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
        greedy = box.LINUX and sum(max(0, private_memory(one) - own) for one in box.descendants(keeper)) > MEMORY
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


# ------------------------------------------------------------------------------------------------------ inside the box


def inside(wire: int, output: int) -> None:
    """The life of a box: take the cells, run them, call the probe once for each case, end when nobody asks any more."""
    from course_utils.grader.wire import encode, read_frame

    stream = socket.socket(fileno=seal(wire, output))
    say(stream, encode("ready", "", None))
    frame = read_frame(partial(exactly, stream))
    module = notebook(frame.data["setup"])
    for source in frame.data["cells"]:
        say(stream, encode("status", frame.id, outcome(module, source)))
    probe = None
    while True:
        frame = read_frame(partial(exactly, stream))
        probe = probe or probe_of(frame.data["source"], frame.data["name"])
        say(stream, case(frame.id, probe, module, frame.data["answer"], frame.data["seed"]))


def say(stream: socket.socket, frame: bytes) -> None:
    """Send a frame, after all that was printed before."""
    for printed in (sys.stdout, sys.stderr):
        try:
            printed.flush()
        except (OSError, ValueError):  # closed by an answer
            continue
    stream.sendall(frame)


def seal(wire: int, output: int) -> int:
    """Keep the wire and the output, nothing else; nothing can be read from standard input."""
    wire, output = os.dup2(wire, 50, inheritable=False), os.dup2(output, 51, inheritable=False)
    nothing = os.open("/dev/null", os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.dup2(wire, WIRE, inheritable=False)
    os.closerange(WIRE + 1, 4096)
    sys.stdout = os.fdopen(1, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)
    return WIRE


def exactly(stream: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = stream.recv(size - len(parts))
        if not part:
            os._exit(0)  # the grader needs this box no longer
        parts += part
    return bytes(parts)


class Shell:
    """What is left of IPython: magics that only concern looks or times do nothing, all others are refused by name."""

    def run_line_magic(self, name: str, line: str, *_: object) -> None:
        if name not in ("matplotlib", "load_ext", "autoreload", "config", "timeit"):
            raise RuntimeError(f"%{name} is refused: answers are graded without a notebook's magics")

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"get_ipython().{name} is refused: answers are graded without a notebook")


def notebook(setup: list[str]) -> ModuleType:
    """An empty notebook after its set-up."""
    module = ModuleType("__main__")
    sys.modules["__main__"] = module
    module.__dict__.update(get_ipython=Shell, display=lambda *_, **__: None)
    for line in setup:
        exec(compile(line, "<setup>", "exec"), module.__dict__)
    return module


def outcome(module: ModuleType, source: str) -> dict[str, Any]:
    """Run a cell; what became of it: nothing, or the exception that stopped it."""
    try:
        exec(compile(as_python(source), "<answer>", "exec"), module.__dict__)
    except BaseException as error:
        return words_of(error)
    return {}


TIMED = re.compile(r"get_ipython\(\)\.run_line_magic\('time', (.*)\)$", re.MULTILINE)


def as_python(source: str) -> str:
    """A cell as Python, line by line: `%time x = f()` is `x = f()`, other magics are calls of the `Shell`."""
    from IPython.core.inputtransformer2 import TransformerManager

    above = source[: len(source) - len(source.lstrip())].count("\n")  # empty lines, which IPython takes away
    text = TransformerManager().transform_cell(source)
    return "\n" * above + TIMED.sub(lambda found: ast.literal_eval(found[1]) or "pass", text)


def words_of(error: BaseException) -> dict[str, Any]:
    try:
        text = str(error)
    except BaseException:
        text = "no message"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "<answer>"]
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == "<answer>" else lines[-1] if lines else None
    text = text[:2000].encode(errors="replace").decode()
    blank = type(error) is NotImplementedError and text == STUB
    return {"name": type(error).__name__[:200], "text": text, "line": line, "blank": blank}


def probe_of(source: str, name: str) -> Callable[[Any, Any], Any]:
    space: dict[str, Any] = {"__name__": "probe"}
    exec(compile(source, "<probe>", "exec"), space)
    return space[name]


def case(id: str, probe: Callable, module: ModuleType, answer: str, seed: int) -> bytes:
    """Call the probe once, just as `check` does in the notebook; the frame that says what came of it."""
    import numpy
    import torch

    from course_utils.checks.spec import Rng, plain
    from course_utils.grader.wire import WireError, encode

    if not hasattr(module, answer):
        return encode("raised", id, {"missing": True})
    random.seed(seed)
    numpy.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    try:
        return encode("evidence", id, plain(probe(getattr(module, answer), Rng(seed))))
    except WireError as error:
        return encode("raised", id, {"refused": str(error)[:500]})
    except TypeError as error:
        refused = str(error).startswith("your answer")
        return encode("raised", id, {"refused": str(error)[:500]} if refused else words_of(error))
    except BaseException as error:
        return encode("raised", id, words_of(error))


if __name__ == "__main__":
    try:
        main(socket.socket(fileno=int(sys.argv[1])), sys.argv[2])
    except BrokenPipeError:
        pass
    finally:
        sys.stderr.flush()
        os._exit(0)  # an ordinary end would wake what torch has brought along
