"""The board of a shared folder: one file for each learner, who appends whole lines to it."""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from course_utils.reporting import PERSON
from course_utils.tools.board.state import PASSED, Board, Refused, read, verdict_in

MOST_BYTES = 1_000_000  # of one file, from its end
MOST_LINES = 2_000  # of these, the last ones
PAUSE = 2.0  # seconds


def read_folder(folder: Path, exercises: dict[str, str], now: float, words: bool = True) -> Board:
    """What the files in `folder` say now; a file that cannot be read, or is none of ours, is passed over."""
    board = Board(exercises, words=words)
    paths = sorted(path for path in folder.glob("*.jsonl") if PERSON.fullmatch(path.stem))
    board.turned_away = max(0, len(paths) - board.most_people)
    for path in paths[: board.most_people]:
        with suppress(OSError, Refused):
            read_file(board, path, now)
    return board


class FolderBoard:
    """The board of a folder, which is read at most every `PAUSE` seconds, however many pages ask."""

    def __init__(self, folder: Path, exercises: dict[str, str], words: bool = True):
        self.folder, self.exercises, self.words = folder, exercises, words
        self._lock, self._read = threading.Lock(), float("-inf")
        self._board = Board(exercises)

    def __call__(self) -> Board:
        with self._lock:
            if time.monotonic() - self._read > PAUSE:
                self._board = read_folder(self.folder, self.exercises, time.monotonic(), self.words)
                self._read = time.monotonic()
            return self._board


def read_file(board: Board, path: Path, now: float) -> None:
    """Take the lines of one learner; a line that is none of ours is passed over."""
    content, changed = tail(path)
    seen = now - max(0.0, time.time() - changed)  # the clock of the folder may be ahead
    name, any_line = "", False
    news: dict[str, Any] = {}
    for line in content.splitlines()[-MOST_LINES:]:
        with suppress(ValueError, RecursionError):
            entry = json.loads(line)
            if not isinstance(entry, dict):
                continue
            name, any_line, exercise = entry.get("name") or name, True, entry.get("exercise")
            if isinstance(exercise, str) and exercise in board.exercises:
                with suppress(Refused):
                    verdict_in({**entry, "why": ""})
                    before = news.pop(exercise, entry)  # so that the last one tried stands last
                    news[exercise] = before if before["verdict"] == PASSED else entry
    if any_line:
        board.put(*read({"person": path.stem, "name": name, "verdicts": list(news.values())}), seen)


def tail(path: Path) -> tuple[bytes, float]:
    """The last whole lines of a plain file, and when it was changed. Neither a link nor a pipe is followed.

    Raises:
        OSError: if it is no plain file.
    """
    handle = os.open(
        path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    )
    with open(handle, "rb") as file:
        state = os.fstat(handle)
        if not stat.S_ISREG(state.st_mode):
            raise OSError(f"{path} is no plain file")
        begin = max(0, state.st_size - MOST_BYTES)
        file.seek(begin)
        content = file.read(MOST_BYTES)
    return content[content.find(b"\n") + 1 if begin else 0 : content.rfind(b"\n") + 1], state.st_mtime
