"""Limits of a box's processes (RL)."""

from __future__ import annotations

import resource
from pathlib import Path

from course_utils.grader.sandbox.levels import FILE_SIZE, FILES, MEMORY, PROCESSES, Plan
from course_utils.grader.sandbox.syscalls import LINUX


def limits_of(plan: Plan) -> dict[int, tuple[int, int]]:
    """The limits of the box by kind; memory is relative to now, since importing torch takes up to 4 GB of address space."""
    if "RL" not in plan.layers:
        return {}
    limits = {"CORE": 0, "FSIZE": FILE_SIZE, "NOFILE": FILES, "CPU": plan.seconds}
    if LINUX:
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        others = 0 if "NS" in plan.layers else processes_of(plan.uid)
        limits |= {"NPROC": PROCESSES + others, "DATA": MEMORY, "AS": size + MEMORY}
    found = {}
    for name, value in limits.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        found[kind] = (value, value)
    return found


def processes_of(uid: int) -> int:
    """How many threads this user runs already; the kernel counts them against the limit."""
    count = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            count += len(list((folder / "task").iterdir())) if folder.stat().st_uid == uid else 0
        except OSError:
            continue
    return count
