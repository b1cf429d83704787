"""`course board`, `course join` and `course leave`."""

from __future__ import annotations

import argparse
import json
import re
import secrets
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from course_utils import reporting
from course_utils.profiles import HOME
from course_utils.reporting import Membership, NotDelivered
from course_utils.tools.board.folder import FolderBoard
from course_utils.tools.board.names import clean, made_up_name
from course_utils.tools.board.server import BoardServer, one_address, own_address
from course_utils.tools.board.state import Board

HALF_A_DAY = 12 * 60 * 60  # seconds; the same address on another day may be somebody else's board


def exercises_of_the_course(wanted: list[str] | None = None) -> dict[str, str]:
    """The exercises of the lessons whose numbers begin with one of `wanted`, or of all: titles by id.

    They are read from the notebooks, because the checks would load torch.

    Raises:
        ValueError: if a lesson is not there.
    """
    found: dict[str, str] = {}
    numbers = [number.zfill(2) for number in wanted or []]
    for path in sorted((HOME / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        if not numbers or path.name[:2] in numbers:
            found |= exercises_in(path)
    missing = [number for number in numbers if not any(id.startswith(f"{number}.") for id in found)]
    if missing or not found:
        raise ValueError(
            f"no exercises of lesson {', '.join(missing) or 'NN'} in {HOME / 'notebooks'}; give numbers such as 03"
        )
    return found


def exercises_in(path: Path) -> dict[str, str]:
    """The exercises of one notebook: titles by id."""
    cells = ["".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    titles = dict(re.findall(r"^#+ Exercise (\S+): (.+)$", "\n".join(cells), re.MULTILINE))
    ids = [found[1] for cell in cells if (found := re.match(r"# Exercise (\d\d\.\d+)", cell))]
    return {id: titles.get(id.lstrip("0") if not id.startswith("00") else id[1:], "") for id in ids}


# -------------------------------------------------------------------------------------------------- the instructor


def board(options: argparse.Namespace) -> int:
    """Show on one page where the room is stuck, from learners who have agreed with `course join`."""
    exercises = exercises_of_the_course(options.lessons)
    folder = Path(options.folder).expanduser() if options.folder else None
    if folder and not folder.is_dir():
        raise ValueError(f"there is no folder {folder}: make it, and share it with the room")
    read = FolderBoard(folder, exercises, options.words) if folder else None
    try:
        server = BoardServer((one_address(options.host), options.port), Board(exercises, words=options.words), read)
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"cannot listen on {options.host}, port {options.port} ({error}); choose with --host and --port"
        ) from None
    server.invitation = invitation(server, options, folder)
    with server:
        try:
            print(greeting(server, options, folder), flush=True)
            server.serve_forever()
        except KeyboardInterrupt:
            print("\nThe board is closed." + ("" if folder else " Nothing of it is kept."))
    return 0


def invitation(server: BoardServer, options: argparse.Namespace, folder: Path | None) -> str:
    """The line that learners type, as it stands."""
    to = f'course join "{folder.resolve()}"' if folder else f"course join {server.address} {server.join_key}"
    return to + (" --words" if options.words else "")


def greeting(server: BoardServer, options: argparse.Namespace, folder: Path | None) -> str:
    """What the instructor reads: the line for learners, the address of the page, and what becomes of the verdicts."""
    kept = f"It reads {folder} and writes nothing." if folder else "It keeps verdicts in memory and writes nothing."
    lines = [
        f"The board listens on {server.address} until you press Ctrl-C. {kept}",
        "",
        "For learners, who need not give a name (--name NAME behind it does); your page shows this line, too:",
        f"    {invitation(server, options, folder)}",
        "For you (it shows everybody, so keep this address to yourself, and this window off the projector):",
        f"    {server.address}/?key={server.page_key}",
    ]
    if not folder and server.server_address[0] in ("127.0.0.1", "::1"):
        lines += ["", f"Only this machine can reach it. For a room: course board --host {own_address()}"]
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------------------ the learner


def join(options: argparse.Namespace) -> int:
    """Let the instructor's board see your verdicts; without an address, show what is sent now."""
    if options.where is None:
        return what_is_sent()
    new = new_membership(options)
    try:
        shown = str(reporting.deliver(new, []).get("name"))
    except NotDelivered as error:
        print(f"course: not joined: {clean(error, 300)}", file=sys.stderr)
        return 1
    reporting.begin(new)
    with suppress(NotDelivered):  # what is on its way since an earlier start of the same board
        reporting.send_unsent()
    print(agreement(new, clean(shown)))
    return 0


def what_is_sent() -> int:
    """Say what is sent, hand over what waits, and say if the board does not take it."""
    board = reporting.membership()
    shown, error = "", None
    if board is not None:
        try:
            shown = str(reporting.deliver(board, []).get("name"))
            reporting.send_unsent()
        except NotDelivered as refused:
            error = refused
    print(agreement(board, clean(shown)))
    if error is not None:
        print(f"course: but the board does not take them now: {clean(error, 300)}", file=sys.stderr)
    return int(error is not None)


def new_membership(options: argparse.Namespace) -> Membership:
    """What the learner asks for. Who joins the same board again on the same day stays the same person, and its new start
    gets the verdicts since the first time.

    Raises:
        ValueError: if it is neither the address of a board nor a folder, or a key is missing.
    """
    where, old = place_of(options.where, options.key), reporting.membership()
    again = old if old and old.where == where and time.time() - reporting.JOINED.stat().st_mtime < HALF_A_DAY else None
    name = clean(options.name or "") or (again.name if again else made_up_name())
    person = again.person if again else secrets.token_hex(8)
    size = reporting.LOG.stat().st_size if reporting.LOG.exists() else 0
    return Membership(where, options.key or "", person, name, options.words, again.since if again else size)


def place_of(where: str, key: str | None) -> str:
    """The address of a board without what hangs behind it, or the whole path of a folder."""
    if where.startswith(("http://", "https://")):
        try:
            address = urlsplit(where)
            host, _ = address.hostname, address.port
        except ValueError as error:
            raise ValueError(f"{where} is no address ({error}); it looks like http://192.168.1.5:8765") from None
        if not host or not key:
            raise ValueError("give address and key as the instructor shows them: course join http://192.168.1.5:8765 KEY")
        return f"{address.scheme}://{address.netloc.rpartition('@')[2]}"
    if not Path(where).expanduser().is_dir():
        raise ValueError(f"there is no folder {where}; the address of a board begins with http://")
    return str(Path(where).expanduser().resolve())


def agreement(board: Membership | None, shown: str = "") -> str:
    """Exactly what is sent and to whom, in the learner's words."""
    if board is None:
        return "You have joined no board, and nothing is sent. To join: course join ADDRESS KEY, as the instructor shows it."
    file = f", as lines of the file {board.person}.jsonl, which all who use the folder can read"
    sentence = ", and the sentence that the check prints" if board.words else ""
    return "\n".join(
        [
            f"You send verdicts to {board.where}{'' if board.over_http else file}.",
            f"The board shows you as: {shown or board.name}",
            f"Sent after each check: the number of the exercise, its verdict (passed, not yet or to do){sentence}.",
            "The board notes when it arrives. Your code is not sent, nor anything from before you joined.",
            "To stop, and have the board forget you: course leave",
        ]
    )


def leave(options: argparse.Namespace) -> int:
    """Send no verdicts any more, and ask the board to forget you."""
    board = reporting.membership()
    reporting.stop()
    if board is None:
        print("You had joined no board. Nothing is sent.")
        return 0
    try:
        reporting.deliver(board, [], leave=True)
        print(f"Nothing is sent any more, and {board.where} has forgotten you.")
    except NotDelivered as error:
        print(f"Nothing is sent any more. The board could not be asked to forget you: {clean(error, 300)}")
    return 0
