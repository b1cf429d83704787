"""Namespaces (NS), a read-only tree (RO) with a small work folder in memory (TMP), no capabilities (CAP)."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from functools import cache
from pathlib import Path

from course_utils.grader.sandbox.levels import INSIDE, PACKAGE, WORK_FILES, WORK_SIZE, Plan
from course_utils.grader.sandbox.syscalls import PR_CAP_AMBIENT, PR_CAPBSET_DROP, call, number_of, prctl

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE, MNT_DETACH = 1, 2, 4, 4096, 16384, 1 << 18, 2
AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID = -100, 0x8000, 1, 2


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str = "") -> None:
    texts = [text.encode() if text is not None else None for text in (source, target, kind)]
    call("mount", *texts, ctypes.c_ulong(flags), options.encode())


def mount_setattr(path: str, flags: int, switch_on: int, switch_off: int = 0) -> None:
    attributes = struct.pack("4Q", switch_on, switch_off, 0, 0)
    call("syscall", number_of("mount_setattr"), AT_FDCWD, path.encode(), flags, attributes, len(attributes))


def new_tree(plan: Plan) -> str:
    """Move into a file tree in which nothing exists but the listed places and the work folder, which is returned."""
    root, work = plan.folder, plan.folder + INSIDE
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    mount("box", root, "tmpfs", MS_NOSUID | MS_NODEV, "size=4m,mode=755")
    os.mkdir(work)
    for path in places():
        show(path, root + path)
    if "RO" in plan.layers:
        mount_setattr(root, AT_RECURSIVE, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID)
    small = f",size={WORK_SIZE},nr_inodes={WORK_FILES}" if "TMP" in plan.layers else ""
    mount("work", work, "tmpfs", MS_NOSUID | MS_NODEV, f"mode=700,uid={plan.uid},gid={plan.uid}{small}")
    os.chdir(root)
    call("syscall", number_of("pivot_root"), b".", b".")
    call("umount2", b".", MNT_DETACH)
    return INSIDE


def show(path: str, target: str) -> None:
    """Let the place `path` of the outer tree appear at `target`."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.islink(path):
        os.symlink(os.readlink(path), target)
        return
    if os.path.isdir(path):
        os.makedirs(target, exist_ok=True)
    else:
        Path(target).touch()
    mount(path, target, None, MS_BIND | MS_REC)


@cache
def places() -> tuple[str, ...]:
    """What a box may read: Python, its libraries, the course without its checks and its grader, and the course's data."""
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix, "/usr", ""}
    found = {f"{prefix}/{folder}" for prefix in prefixes for folder in ("lib", "lib64")}
    found |= {os.path.abspath(entry) for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")}
    found |= {"/etc/ld.so.cache", "/dev/null", "/dev/zero", "/dev/urandom", str(PACKAGE.parent / "data")}
    private = {"__pycache__", "grader", "checks"}
    found |= {str(path) for path in PACKAGE.iterdir() if path.name not in private}
    found |= {str(PACKAGE / "checks" / name) for name in ("__init__.py", "spec.py", "progress.py")}
    there = sorted(path for path in found if os.path.exists(path))
    return tuple(path for path in there if not any(path.startswith(other + "/") for other in there))


def drop_capabilities() -> None:
    """A new user namespace hands out all capabilities; with them a read-only tree can be undone."""
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError:  # past the last one, or this process has none to give away
            break
    prctl(PR_CAP_AMBIENT, 4)  # clear all
    header, nothing = struct.pack("Ii", 0x20080522, 0), bytes(24)
    call("capset", header, nothing)
