"""The grader's end of the wire: a fork server, boxes, frames. The process that does this never runs a learner's code."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import time
from contextlib import closing
from functools import cached_property
from io import FileIO
from typing import TYPE_CHECKING, Any

from course_utils.grader.sandbox.levels import NoIsolation
from course_utils.grader.sandbox.syscalls import dumpable

if TYPE_CHECKING:  # it imports torch, and so does a fork server that has begun: both at once
    from course_utils.grader.worker import protocol

KEPT = 2**16  # bytes of output
START_S, GRACE_S, END_S = 120.0, 10.0, 60.0


class Fault(RuntimeError):
    """The grader itself failed: nobody gets a grade because of that."""


class Lost(Exception):
    """The box is gone, or talks nonsense: its answer's own doing."""


class Forged(Lost):
    """It talks nonsense. What it prints from then on depends on when it is ended, so no word of it is kept."""


class Late(Exception):
    """No reply in time."""


class ForkServer:
    """The fork server of this worker. It imports torch, which takes a while, so begin it early and need it late."""

    def __init__(self, level: str):
        self.control, other = socket.socketpair()
        modules = os.pathsep.join(filter(os.path.isabs, sys.path))
        environment = {"PATH": os.defpath, "PYTHONPATH": modules, "PYTHONHASHSEED": "0", "COURSE_GRADES": os.devnull}
        environment |= {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")}
        environment |= {"CUDA_VISIBLE_DEVICES": "", "MPLBACKEND": "Agg", "LANG": "C.UTF-8", "TQDM_DISABLE": "1"}
        environment |= {name: os.environ[name] for name in ("HOME", "TMPDIR", "SYSTEMROOT") if name in os.environ}
        command = [sys.executable, "-s", "-P", "-m", "course_utils.grader.worker.server", str(other.fileno()), level]
        self.process = subprocess.Popen(
            command, env=environment, pass_fds=[other.fileno()], stdin=subprocess.DEVNULL, start_new_session=True
        )
        other.close()

    @cached_property
    def hello(self) -> dict[str, Any]:
        """What it says of itself when it is ready: its layers, and the folder in which boxes work.

        Raises:
            NoIsolation: if a layer that its level asks for does not work here.
        """
        self.control.settimeout(START_S)
        found = json.loads(self.control.makefile().readline() or '{"wrong": "the fork server did not start"}')
        if found["wrong"]:
            raise NoIsolation(f"{found['wrong']}; `course grade --doctor` says what works here")
        return found

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(self.hello["layers"])

    @property
    def folder(self) -> str:
        return self.hello["folder"]

    def close(self) -> None:
        self.control.close()
        try:
            self.process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Box:
    """One box, as the worker sees it: frames go in, frames come out, and what it prints is kept up to a limit."""

    def __init__(self, server: ForkServer):
        self.server, self.folder = server, server.folder
        self.wire, wire_inside = socket.socketpair()
        output, output_inside = os.pipe()
        os.set_blocking(output, False)
        self.output = FileIO(output)
        self.buffer, self.printed, self.truncated = bytearray(), b"", False
        try:
            socket.send_fds(server.control, [b"B"], [wire_inside.fileno(), output_inside])
        except OSError as error:
            raise Fault(f"the fork server is gone: {error}") from None
        finally:
            wire_inside.close()
            os.close(output_inside)

    def send(self, kind: str, id: str, data: Any, seconds: float) -> None:
        from course_utils.grader.worker import protocol

        self.wire.settimeout(seconds)
        try:
            self.wire.sendall(protocol.encode(kind, id, data))
        except TimeoutError:
            raise Late from None
        except OSError:
            raise Lost("ended its process") from None

    def receive(self, id: str, kinds: tuple[str, ...], seconds: float) -> protocol.Frame:
        """The next frame; it must carry `id`."""
        deadline = time.monotonic() + seconds
        while not (frame := self.next_frame()):
            left = deadline - time.monotonic()
            if left <= 0:
                raise Late
            ends: list[socket.socket | FileIO] = [self.wire] if self.output.closed else [self.wire, self.output]
            ready, _, _ = select.select(ends, [], [], left)
            if self.output in ready:
                self.drain()
            if self.wire in ready:
                self.fill()
        if frame.id != id or frame.kind not in kinds:
            raise Forged("wrote to the grader's wire")
        return frame

    def next_frame(self) -> protocol.Frame | None:
        from course_utils.grader.worker import protocol

        try:
            size = protocol.frame_size(self.buffer)
            if size is None or len(self.buffer) < size:
                return None
            frame = protocol.decode(bytes(self.buffer[:size]))
        except protocol.WireError as error:
            raise Forged(f"wrote to the grader's wire ({error})") from None
        del self.buffer[:size]
        return frame

    def fill(self) -> None:
        try:
            part = self.wire.recv(2**18)
        except OSError:
            part = b""
        if not part:
            raise Lost("ended its process")
        self.buffer += part

    def drain(self) -> None:
        """Take what was printed; of much only the end is kept."""
        part = self.output.read(2**18)
        if part == b"":
            self.output.close()
        self.printed += part or b""
        if len(self.printed) > KEPT:
            self.printed, self.truncated = self.printed[-KEPT:], True

    def close(self) -> str:
        """End the box, whatever it is doing; why it ended, in one letter of the fork server."""
        self.wire.close()
        try:
            self.server.control.sendall(b"K")
            self.server.control.settimeout(END_S)
            letter = self.server.control.recv(1).decode()
        except OSError:
            letter = ""
        with closing(self.output):
            if letter not in ("E", "C", "M"):
                raise Fault("a box could not be made" if letter == "X" else "a box could not be ended")
            while not self.output.closed and select.select([self.output], [], [], 0)[0]:
                self.drain()  # nobody is left who could write more
        return letter


servers: dict[str, ForkServer] = {}


def begin(level: str) -> ForkServer:
    """The fork server of this worker, which may not be ready yet."""
    if level not in servers:
        dumpable(False)
        servers[level] = ForkServer(level)
    return servers[level]


def server_for(level: str) -> ForkServer:
    """The fork server of this worker, started when it is first needed; `NoIsolation` if there is none here."""
    try:
        _ = begin(level).hello
    except NoIsolation:
        close_servers()
        raise
    return servers[level]


def close_servers() -> None:
    while servers:
        servers.popitem()[1].close()
