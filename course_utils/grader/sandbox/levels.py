"""The layers of the sandbox, which of them make a level, and the limits and the user of one box."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2]
LAYERS = {
    "NS": "own processes, network and mounts (namespaces)",
    "RO": "everything outside the work folder read-only",
    "TMP": "a small work folder in memory",
    "UID": "an own user",
    "CAP": "no capabilities",
    "LL": "only named files and no TCP (Landlock)",
    "SIG": "no signals to others (Landlock)",
    "SC": "no sockets, mounts, tracing (seccomp)",
    "RL": "limits on memory, processes, file size, time",
}
NEEDS = {"RO": {"NS"}, "TMP": {"NS"}, "CAP": {"NS", "RO"}, "SIG": {"LL"}}
LEVELS = {"full": frozenset(LAYERS), "basic": frozenset({"UID", "LL", "SIG", "SC", "RL"}), "none": frozenset({"RL"})}
INSIDE = "/box"  # the work folder, as the box sees it
GIB = 2**30
MEMORY, FILE_SIZE, FILES, PROCESSES, WORK_SIZE, WORK_FILES = 4 * GIB, 16 * 2**20, 128, 32, "32m", 2000


class NoIsolation(RuntimeError):
    """This machine cannot give the isolation that is asked for."""


@dataclass(frozen=True)
class Plan:
    """How one box is made: its layers, its work folder outside, its user, and for how many seconds it may compute."""

    layers: frozenset[str]
    folder: str
    uid: int
    seconds: int = 600


def is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def user_for(process: int) -> int:
    """A user that nobody else is, one for each worker: numbers that distributions leave free."""
    return 60_580 + process % 600 if is_root() else os.geteuid()


def become(uid: int) -> None:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def level_of(layers: Iterable[str]) -> str:
    """The level that these working layers amount to."""
    works = set(layers)
    if works >= {"NS", "RO", "TMP", "CAP", "LL", "SC", "RL"}:
        return "full"
    return "basic" if works >= {"SC", "RL"} and ("UID" in works or works >= {"LL", "SIG"}) else "none"
