"""The log of verdicts: one JSON line each, in the file named by `COURSE_GRADES`, else in `.course/` of the folder `WORK`."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from course_utils.reporting import LOG, report


def log_file() -> Path:
    return Path(os.environ.get("COURSE_GRADES") or LOG)


def record(id: str, verdict: str, why: str) -> None:
    """Append one verdict to the log; a log that cannot be written is no reason to stop a lesson."""
    with suppress(OSError):
        append(log_file(), json.dumps({"exercise": id, "verdict": verdict, "why": why}))
        report()  # to the instructor's board, if this learner has joined one


def append(path: Path, line: str) -> None:
    """Append one line to the log at `path`.

    Raises:
        OSError: if it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def verdicts(path: Path | None = None) -> dict[str, str]:
    """The verdict of each exercise that was ever checked: "passed" if it passed once, else the last one."""
    found: dict[str, str] = {}
    path = path or log_file()
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            entry = json.loads(line)
            if found.get(entry["exercise"]) != "passed":
                found[entry["exercise"]] = entry["verdict"]
        except (ValueError, KeyError, TypeError):
            continue  # half a line, from a crash
    return found


def progress_line(id: str, title: str, found: dict[str, str]) -> str:
    """One line about an exercise, whose verdict is in `found` if it was ever checked."""
    return f"{'✓' if found.get(id) == 'passed' else '·'} {id}  {title:<40} {found.get(id, 'to do')}"
