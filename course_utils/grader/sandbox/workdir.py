"""Work folders of boxes: made, locked while they are used, removed also after a kill."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from course_utils.grader.sandbox.levels import is_root


def remove(folder: str) -> None:
    """Remove a work folder, also one whose owner has locked parts of it; nobody writes into it any more."""
    if not is_root():  # for root no lock exists
        unlock(folder)
    shutil.rmtree(folder, ignore_errors=True)


def unlock(folder: str) -> None:
    """Open the folder and those in it to their owner, each before it is looked into."""
    with suppress(OSError):  # it is not there any more
        os.chmod(folder, 0o700)
        for path, names, _ in os.walk(folder):
            for name in names:
                if not os.path.islink(inner := os.path.join(path, name)):
                    os.chmod(inner, 0o700)


@contextmanager
def work_folder() -> Iterator[str]:
    """A folder for boxes, locked as long as it is used; those that killed processes have left are removed before."""
    remove_abandoned(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=f"course-grade-{os.getpid()}_") as folder:
        os.chmod(folder, 0o711)  # the user of a box must get to its work folder
        lock = os.open(folder, os.O_RDONLY)
        with suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            os.close(lock)


def remove_abandoned(parent: Path) -> None:
    """Remove the work folders of this user whose process is dead, and what their trials have left beside them."""
    for path in sorted(parent.glob("course-grade-*")):
        name = re.fullmatch(r"course-grade-(\d{1,9})_\w+(\.secret|\.new)?", path.name)
        with suppress(OSError):
            if not name or path.lstat().st_uid != os.geteuid() or is_alive(int(name[1])):
                continue
            if not name[2]:
                remove_if_unlocked(path)
            elif not path.with_suffix("").exists():
                path.unlink()


def remove_if_unlocked(folder: Path) -> None:
    """In another container the same numbers are other processes, but a lock is a lock."""
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove(str(folder))
    finally:
        os.close(lock)


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it belongs to somebody else
        return True
    return True
