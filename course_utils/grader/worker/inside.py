"""The life inside a box: run the answer's cells, call the probe, send what it returned."""

from __future__ import annotations

import ast
import linecache
import os
import re
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import Any

from course_utils.errors import STUB

WIRE = 3  # the descriptor by which a box talks


def inside(wire: int, output: int) -> None:
    """The life of a box. What stops it is an answer's doing, and no trace of ours may stand in what the answer prints."""
    stream = socket.socket(fileno=seal(wire, output))
    with suppress(BaseException):
        live(stream)


def live(stream: socket.socket) -> None:
    """Take the cells, run them, call the probe once for each case, until nobody asks any more."""
    from course_utils.grader.worker.protocol import encode

    say(stream, encode("ready", "", None))
    frames = frames_of(stream)
    frame = next(frames)
    module = notebook(frame.data["setup"])
    for source in frame.data["cells"]:
        say(stream, encode("status", frame.id, outcome(module, source)))
    for frame in frames:
        say(stream, case(frame.id, module, **frame.data))


def frames_of(stream: socket.socket) -> Iterator[Any]:
    """What the grader sends: its process is trusted, its frames are whole."""
    from course_utils.grader.worker.protocol import PREFIX, decode, frame_size

    reader = stream.makefile("rb")
    while start := reader.read(PREFIX.size):
        yield decode(start + reader.read((frame_size(start) or 0) - PREFIX.size))


def say(stream: socket.socket, frame: bytes) -> None:
    """Send a frame, after all that was printed before."""
    for printed in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # closed by an answer
            printed.flush()
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
    form = {"buffering": 1, "encoding": "utf-8", "errors": "replace", "closefd": False}
    sys.stdout, sys.stderr = (os.fdopen(number, "w", **form) for number in (1, 2))  # type: ignore[call-overload]
    return WIRE


# ------------------------------------------------------------------------------------------------------------ cells

IDLE = ("matplotlib", "load_ext", "autoreload", "config", "timeit", "time")  # magics that concern looks and times
INSTALLERS = ("pip", "pip3", "conda", "mamba", "uv")
LOOKS = ("pinfo", "pinfo2", "pdoc", "psource")  # `name?`


class Shell:
    """What is left of IPython: what no answer needs does nothing and says so, all else is refused by name."""

    events = SimpleNamespace(register=lambda *_: None)  # matplotlib asks to be called after each cell

    def run_line_magic(self, name: str, line: str, *_: object) -> None:
        if name in INSTALLERS + LOOKS:
            print(f"not run while grading: {name} {line}")
        elif name.lstrip("%") not in IDLE:
            raise RuntimeError(f"%{name} is refused: answers are graded without a notebook's magics")

    def system(self, line: str) -> None:
        if not set(line.split()) & set(INSTALLERS):
            raise RuntimeError("get_ipython().system is refused: answers are graded without a shell")
        print(f"not run while grading: {line}")

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"get_ipython().{name} is refused: answers are graded without a notebook")


def notebook(setup: list[str]) -> ModuleType:
    """An empty notebook after its set-up."""
    import IPython

    IPython.get_ipython = Shell
    module = ModuleType("__main__")
    sys.modules["__main__"] = module
    module.__dict__.update(get_ipython=Shell, display=lambda *_, **__: None)
    for line in setup:
        exec(compile(line, "<setup>", "exec", dont_inherit=True), module.__dict__)
    return module


def outcome(module: ModuleType, source: str) -> dict[str, Any]:
    """Run a cell; what became of it: nothing, or the exception that stopped it."""
    try:
        text = as_python(source)
        linecache.cache["<answer>"] = len(text), None, text.splitlines(keepends=True), "<answer>"  # for `torch.jit.script`
        exec(compile(text, "<answer>", "exec", dont_inherit=True), module.__dict__)
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


# ----------------------------------------------------------------------------------------------------------- probes


def case(id: str, module: ModuleType, source: str, name: str, answer: str, seed: int) -> bytes:
    """Call the probe once, just as `check` does in the notebook; the frame that says what came of it."""
    from course_utils.checks.spec import Rng, plain
    from course_utils.grader.worker.protocol import WireError, encode
    from course_utils.rng import seed_all

    if not hasattr(module, answer):
        return encode("raised", id, {"missing": True})
    try:
        probe = probe_of(source, name)
        as_outside()
        seed_all(seed)
        return encode("evidence", id, plain(probe(getattr(module, answer), Rng(seed))))
    except BaseException as error:
        words = words_of(error)
        refused = type(error) is WireError or (type(error) is TypeError and words["text"].startswith("your answer"))
        return encode("raised", id, {"refused": words["text"]} if refused else words)


def as_outside() -> None:
    """What a cell may have set for all of torch is again as it is where the judge works."""
    import torch

    torch.set_default_dtype(torch.float32)
    torch.set_default_device("cpu")
    torch.set_grad_enabled(True)


@cache
def probe_of(source: str, name: str) -> Callable[[Any, Any], Any]:
    space: dict[str, Any] = {"__name__": "probe"}
    exec(compile(source, "<probe>", "exec"), space)
    return space[name]
