"""Work folders of boxes: made, and removed whatever a learner has made of them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from course_utils.grader.sandbox.levels import is_root


@contextmanager
def work_folder() -> Iterator[str]:
    """A folder in which boxes work; what a killed one leaves behind is empty, since each keeper removes what is inside."""
    with tempfile.TemporaryDirectory(prefix="course-grade-") as folder:
        os.chmod(folder, 0o711)  # the user of a box must get to its work folder
        yield folder


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
