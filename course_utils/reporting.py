"""Verdict lines for the instructor's board, from learners who have joined one; nobody else sends anything.

`course join` writes `.course/board.json`. From then on each verdict that the log gets is sent, too: over HTTP to the
instructor's machine, or as a line of the learner's own file in a shared folder. The log is the queue: what could not be
sent waits there and goes with the next verdict. Nothing is sent while `COURSE_GRADES` names another log, which builds,
tests, `course run` and the grader do.
"""

from __future__ import annotations

import json
import os
import re
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from course_utils.files import write_atomic
from course_utils.profiles import WORK

LOG = WORK / ".course" / "grades.jsonl"
JOINED = WORK / ".course" / "board.json"
SENT = WORK / ".course" / "board-sent.json"  # how much of the log the board has; beside JOINED, which only people change
TIMEOUT = 3.0  # seconds for each step of a delivery
WORDS = 300  # characters of a check's sentence that are sent
PERSON = re.compile(r"[0-9a-f]{16}")


class NotDelivered(Exception):
    """The board did not take it; the text says why."""


@dataclass(frozen=True)
class Membership:
    """What `course join` agreed: to which board, under which name, and whether the sentences of the checks go along."""

    where: str  # http://address:port, or a folder
    key: str
    person: str  # drawn at random: two people of one name stay apart
    name: str
    words: bool
    since: int  # bytes of the log that are older than the agreement, and stay here

    @property
    def over_http(self) -> bool:
        return self.where.startswith(("http://", "https://"))


def membership() -> Membership | None:
    """The board that this course has joined, or None."""
    try:
        return Membership(**json.loads(JOINED.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def begin(board: Membership) -> None:
    """Send verdicts to `board` from now on, beginning with those since `board.since`."""
    JOINED.parent.mkdir(parents=True, exist_ok=True)
    SENT.unlink(missing_ok=True)
    write_atomic(JOINED, json.dumps(asdict(board)) + "\n", mode=0o600)


def stop() -> None:
    """Send nothing any more."""
    JOINED.unlink(missing_ok=True)
    SENT.unlink(missing_ok=True)


# ------------------------------------------------------------------------------------------------------ after each verdict

_turn, _places = threading.Lock(), threading.BoundedSemaphore(2)  # one sends, one waits to send what has come since


def report() -> threading.Thread | None:
    """Send what the board does not have yet, in the background. Never raises and never waits; the thread, if there is one."""
    try:
        if os.environ.get("COURSE_GRADES") or not JOINED.exists() or not _places.acquire(blocking=False):
            return None
        thread = threading.Thread(target=_send_in_turn, name="course-board", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            _places.release()
            raise
        return thread
    except Exception:  # a lesson goes on whatever becomes of the board
        return None


def _send_in_turn() -> None:
    try:
        with _turn, suppress(Exception):
            send_unsent()
    finally:
        _places.release()


def send_unsent() -> None:
    """Send the verdicts that the board does not have yet.

    Raises:
        NotDelivered: if the board did not take them; they stay in the log, and the next call tries again.
    """
    board = membership()
    if board is None:
        return
    lines, end = unsent(board)
    if lines:
        deliver(board, lines)
    if lines and membership() == board:  # else `course leave` came in between
        write_atomic(SENT, json.dumps({"person": board.person, "since": board.since, "end": end}))


def unsent(board: Membership) -> tuple[list[dict[str, str]], int]:
    """The news in the log, one line for each exercise, and where in the log they end."""
    begin, content = board.since, LOG.read_bytes() if LOG.exists() else b""
    with suppress(OSError, ValueError, TypeError, KeyError):
        sent = json.loads(SENT.read_text(encoding="utf-8"))
        if (sent["person"], sent["since"]) == (board.person, board.since):
            begin = int(sent["end"])
    if begin > len(content):  # somebody has emptied the log
        begin = 0
    end = content.rfind(b"\n") + 1  # what is behind it is being written
    found: dict[str, dict[str, str]] = {}
    for line in content[begin:end].splitlines():
        with suppress(ValueError, TypeError, KeyError):
            entry = json.loads(line)
            news = {"exercise": str(entry["exercise"]), "verdict": str(entry["verdict"])}
            if board.words and entry.get("why"):
                news["why"] = str(entry["why"])[:WORDS]
            found.pop(news["exercise"], None)  # so that the last one tried stands last
            found[news["exercise"]] = news
    return list(found.values()), max(begin, end)


# ---------------------------------------------------------------------------------------------------------------- the way


def deliver(board: Membership, verdicts: list[dict[str, str]], *, leave: bool = False) -> dict[str, Any]:
    """Hand `verdicts` to the board, or ask it to forget this person; what the board answers.

    Raises:
        NotDelivered: with the reason.
    """
    if board.over_http:
        return post(board, {"person": board.person} if leave else message(board, verdicts), "/leave" if leave else "/verdicts")
    file = Path(board.where) / f"{board.person}.jsonl"
    try:
        if leave:
            file.unlink(missing_ok=True)
        else:
            append_whole(file, [{"name": board.name}, *verdicts])
    except OSError as error:
        raise NotDelivered(f"{board.where} cannot be written ({error.strerror})") from None
    return {"board": "course", "name": board.name}


def message(board: Membership, verdicts: list[dict[str, str]]) -> dict[str, Any]:
    """Everything that ever goes over the line."""
    return {"person": board.person, "name": board.name, "verdicts": verdicts}


def append_whole(path: Path, entries: list[dict[str, str]]) -> None:
    """Append lines of JSON in one write, so that a reader never sees half of them."""
    lines = "".join(json.dumps(entry) + "\n" for entry in entries).encode()
    handle = os.open(
        path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0), 0o644
    )
    try:
        os.write(handle, lines)
    finally:
        os.close(handle)


def post(board: Membership, content: dict[str, Any], path: str) -> dict[str, Any]:
    """POST to the instructor's machine itself: no proxy and no redirection ever gets the key."""
    address = urlsplit(board.where)
    kind = HTTPSConnection if address.scheme == "https" else HTTPConnection
    headers = {"Authorization": "Bearer " + re.sub("[^0-9A-Za-z]", "", board.key), "Content-Type": "application/json"}
    try:
        connection = kind(address.hostname or "", address.port, timeout=TIMEOUT)
        try:
            connection.request("POST", path, json.dumps(content).encode(), headers)
            reply = json.loads(connection.getresponse().read(10_000))
        finally:
            connection.close()
    except (OSError, HTTPException) as error:
        raise NotDelivered(f"{board.where} does not answer ({error or type(error).__name__})") from None
    except (ValueError, RecursionError):
        reply = None
    if not isinstance(reply, dict) or reply.get("board") != "course":  # the page of a hotel's network answers anything
        raise NotDelivered(f"what answers at {board.where} is not a board of this course")
    if "why" in reply:
        raise NotDelivered(str(reply["why"])[:WORDS])
    return reply
