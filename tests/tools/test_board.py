"""The board over real HTTP: forty people, two hundred, and those who send it what no board should take."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from course_utils import reporting
from course_utils.checks import all_checks
from course_utils.profiles import HOME
from course_utils.reporting import Membership, NotDelivered, deliver
from course_utils.tools import cli
from course_utils.tools.board import command, folder, server
from course_utils.tools.board.folder import read_folder
from course_utils.tools.board.names import LONGEST, clean, made_up_name
from course_utils.tools.board.server import BoardServer
from course_utils.tools.board.state import Board, Refused, stuck

EXERCISES = {"03.1": "let only some parts learn", "03.2": "a test that fires", "04.1": "mend the loop"}


@contextmanager
def running(exercises=EXERCISES, read=None, **options):
    with BoardServer(("127.0.0.1", 0), Board(exercises, **options), read) as one:
        threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield one
        one.shutdown()


@pytest.fixture
def board():
    with running() as one:
        yield one


def learner(board, name="Anna", *, words=False) -> Membership:
    return Membership(board.address, board.join_key, secrets.token_hex(8), name, words, 0)


def line(exercise="03.1", verdict="not yet", why="") -> dict[str, str]:
    return {"exercise": exercise, "verdict": verdict, **({"why": why} if why else {})}


def ask(board, method="GET", path="/", body=None, **headers):
    """Status, headers and body of one request."""
    connection = http.client.HTTPConnection(*board.server_address[:2], timeout=10)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        reply = connection.getresponse()
        return reply.status, dict(reply.headers), reply.read()
    finally:
        connection.close()


def cookie(board) -> dict[str, str]:
    status, headers, _ = ask(board, path=f"/?key={board.page_key}")
    assert (status, headers["Location"]) == (303, "/")
    return {"Cookie": headers["Set-Cookie"].partition(";")[0]}


def state(board) -> dict:
    status, _, body = ask(board, path="/state", **cookie(board))
    assert status == 200
    return json.loads(body)


# ------------------------------------------------------------------------------------------------------------ the room


def test_verdicts_reach_the_page(board):
    anna = learner(board)
    assert deliver(anna, [])["name"] == "Anna"
    deliver(anna, [line("03.1", "passed"), line("03.2", "not yet", "features.1 moved")])
    shown = state(board)
    assert shown["people"] == [{"name": "Anna", "seen": 0, "at": "03.2", "verdicts": "pn "}]
    counts = {"passed": 0, "not_yet": 1, "to_do": 0, "at": 1, "words": "features.1 moved", "said_by": 1}
    assert shown["exercises"][1] == {"id": "03.2", "title": "a test that fires", **counts}


def test_passed_once_is_passed_and_its_sentence_is_gone(board):
    anna = learner(board)
    for verdict in ("to do", "not yet", "passed", "not yet", "to do"):
        deliver(anna, [line(verdict=verdict, why="why" if verdict == "not yet" else "")])
    assert state(board)["people"][0]["verdicts"] == "p  "
    assert state(board)["exercises"][0]["words"] == ""
    assert state(board)["people"][0]["at"] == ""


def test_the_room_is_stuck_where_most_are_now(board):
    for at in ("03.1", "03.2", "03.2"):
        deliver(learner(board), [line("03.1"), line("04.1", "to do"), line(at)])
    assert state(board)["stuck"] == "03.2"


def test_who_gave_up_long_ago_is_not_there_now():
    """Five stopped at 03.2 without passing; twenty-one minutes later two are at 04.1, and nobody is at 03.2."""
    one = Board(EXERCISES)
    for i in range(7):
        news = [line("03.2")] if i < 5 else [line("04.1")]
        one.take({"person": f"{i:016x}", "name": "Anna", "verdicts": news}, 0.0 if i < 5 else 21 * 60.0)
    shown = one.summary(21 * 60.0)
    assert shown["stuck"] == "04.1"
    assert [person["at"] for person in shown["people"]] == [""] * 5 + ["04.1"] * 2
    assert shown["exercises"][1]["not_yet"] == 5


def test_a_break_moves_nobody():
    one = Board(EXERCISES)
    for i in range(3):
        one.take({"person": f"{i:016x}", "name": "Anna", "verdicts": [line("03.2")]}, 60.0 * i)
    assert one.summary(3600.0)["stuck"] == "03.2"


def test_sentences_that_nobody_asked_for_are_not_shown():
    """Else one learner writes onto the wall."""
    with running(words=False) as board:
        deliver(learner(board, words=True), [line(why="something rude")])
        assert "rude" not in json.dumps(state(board))
        assert state(board)["exercises"][0]["not_yet"] == 1


def test_one_person_alone_is_not_the_room():
    rows = [{"id": "03.1", "at": 1, "not_yet": 5}, {"id": "03.2", "at": 0, "not_yet": 9}]
    assert stuck(rows) == ""
    assert stuck([]) == ""


def test_most_said_is_what_most_read(board):
    for why in ("this", "that", "that"):
        deliver(learner(board), [line(why=why)])
    row = state(board)["exercises"][0]
    assert (row["words"], row["said_by"]) == ("that", 2)


def test_two_people_called_anna_stay_apart(board):
    people = [learner(board, name) for name in ("Anna", "anna", "Anna (2)", "Anna")]
    names = [deliver(one, [])["name"] for one in people]
    assert names == ["Anna", "anna (2)", "Anna (2) (2)", "Anna (3)"]
    deliver(people[3], [line("04.1", "passed")])
    assert [person["verdicts"] for person in state(board)["people"]] == ["   ", "   ", "   ", "  p"]


def test_a_new_name_is_the_same_person(board):
    anna = learner(board)
    deliver(anna, [line()])
    deliver(Membership(anna.where, anna.key, anna.person, "Bo", False, 0), [])
    assert [(one["name"], one["verdicts"]) for one in state(board)["people"]] == [("Bo", "n  ")]


def test_who_leaves_is_forgotten(board):
    anna, bo = learner(board), learner(board, "Bo")
    for one in (anna, bo):
        deliver(one, [line()])
    deliver(anna, [], leave=True)
    assert [one["name"] for one in state(board)["people"]] == ["Bo"]
    assert state(board)["exercises"][0]["not_yet"] == 1


def test_nobodys_id_leaves_the_board(board):
    """Else one learner could speak for another."""
    anna = learner(board)
    deliver(anna, [line()])
    assert anna.person not in json.dumps(state(board))


def test_two_hundred_people_and_thirty_exercises():
    exercises = {f"{lesson:02}.{number}": "a title" for lesson in range(10) for number in (1, 2, 3)}
    with running(exercises) as board:
        people = [learner(board, made_up_name()) for _ in range(200)]

        def work(i: int) -> None:
            for step, exercise in enumerate(exercises):
                deliver(people[i], [line(exercise, "passed" if (i + step) % 3 else "not yet", "a sentence")])

        started = time.monotonic()
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(work, range(200)))
        shown = state(board)
        assert time.monotonic() - started < 60
        assert [row["passed"] + row["not_yet"] for row in shown["exercises"]] == [200] * 30
        assert sum(row["passed"] for row in shown["exercises"]) == 4000
        assert len({person["name"] for person in shown["people"]}) == 200
        started = time.monotonic()
        state(board)
        assert time.monotonic() - started < 2


# ------------------------------------------------------------------------------------------------------------ keys


@pytest.mark.parametrize("path", ["/", "/state", "/state?key=x", "/?key=", "/?key=é", "/page.html", "//x", "/../state"])
def test_nothing_is_shown_without_the_key(board, path):
    for headers in ({}, {"Cookie": f"{board.cookie}=x"}, {"Cookie": "\xff;;=;"}, {"Authorization": f"Bearer {board.join_key}"}):
        status, _, body = ask(board, path=path.replace("é", "%C3%A9"), **headers)
        assert status == 403
        assert board.page_key.encode() not in body
        assert b"<" not in body


def test_the_learners_key_does_not_open_the_page(board):
    assert ask(board, path=f"/?key={board.join_key}")[0] == 403
    assert ask(board, path="/state", Cookie=f"{board.cookie}={board.join_key}")[0] == 403


def test_the_pages_key_takes_no_verdicts(board):
    body = json.dumps(reporting.message(learner(board), [line()]))
    assert ask(board, "POST", "/verdicts", body, Authorization=f"Bearer {board.page_key}", **cookie(board))[0] == 403
    assert ask(board, "POST", "/verdicts", body, **cookie(board))[0] == 403
    assert state(board)["people"] == []


@pytest.mark.parametrize("key", ["", "wrong", "ключ", "a\nb", "a" * 5000])
def test_a_wrong_key_is_told_so(board, key):
    one = learner(board)
    with pytest.raises(NotDelivered, match="this key is not the one"):
        deliver(Membership(one.where, key, one.person, "Anna", False, 0), [line()])
    assert state(board)["people"] == []


def test_a_key_may_be_typed_as_it_is_heard(board):
    one = learner(board)
    deliver(Membership(one.where, board.join_key.upper().replace("-", " "), one.person, "Anna", False, 0), [])
    assert len(state(board)["people"]) == 1


def test_keys_are_new_at_each_start():
    keys = set()
    for _ in range(20):
        with BoardServer(("127.0.0.1", 0), Board(EXERCISES)) as one:
            keys |= {one.join_key, one.page_key}
            assert len(one.page_key) >= 32
    assert len(keys) == 40


def test_keys_are_compared_in_constant_time(monkeypatch):
    asked = []
    monkeypatch.setattr(server.hmac, "compare_digest", lambda one, other: asked.append((one, other)) or one == other)
    assert server.same_key("ab-CD", "abcd")
    assert not server.same_key("ab", "abcd")
    assert not server.same_key_exactly("AB", "ab")
    assert len(asked) == 3


def test_the_page_may_run_and_load_nothing_but_its_own(board):
    status, headers, body = ask(board, **cookie(board))
    assert status == 200
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["Cache-Control"] == "no-store"
    assert "HttpOnly" in ask(board, path=f"/?key={board.page_key}")[1]["Set-Cookie"]
    for word in (b"http://", b"https://", b"innerHTML", b"document.write", b"insertAdjacent", b"eval("):
        assert word not in body
    assert board.join_key.encode() not in body


# ----------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE", "BREW", "<SCRIPT>"])
def test_other_methods(board, method):
    status, headers, body = ask(board, method, "/state", **cookie(board))
    assert (status, headers["Allow"]) == (405, "GET, POST")
    assert b"<" not in body


@pytest.mark.parametrize(
    "body",
    ["", "{", "[]", "3", "null", '"x"', "[" * 60_000, '{"a":' * 10_000, "9" * 60_000, b"\xff\xfe", "NaN", '{"person": 3}'],
)
def test_broken_messages(board, body):
    headers = {"Authorization": f"Bearer {board.join_key}"}
    status, _, reply = ask(board, "POST", "/verdicts", body, **headers)
    assert status == 400
    assert json.loads(reply)["board"] == "course"
    assert state(board)["people"] == []


@pytest.mark.parametrize(
    "change",
    [
        {"person": 1234567890123456},
        {"person": "0123456789ABCDEF"},
        {"person": "0123456789abcdef\n"},
        {"person": "../../etc/passwd"},
        {"person": None},
        {"verdicts": None},
        {"verdicts": {}},
        {"verdicts": "passed"},
        {"verdicts": [line()] * 201},
        {"verdicts": [None]},
        {"verdicts": [["03.1", "passed"]]},
        {"verdicts": [{"exercise": ["03.1"], "verdict": "passed"}]},
        {"verdicts": [{"exercise": "03.1", "verdict": "PASSED"}]},
        {"verdicts": [{"exercise": "03.1", "verdict": ["passed"]}]},
        {"verdicts": [{"exercise": "03.1", "verdict": {}}]},
        {"verdicts": [line("03.1", "passed"), {}]},
    ],
)
def test_messages_of_another_form_change_nothing(board, change):
    body = json.dumps({**reporting.message(learner(board), [line()]), **change})
    assert ask(board, "POST", "/verdicts", body, Authorization=f"Bearer {board.join_key}")[0] == 400
    assert state(board)["people"] == []


@pytest.mark.parametrize("length", ["", "-1", "+5", "1e3", "0x10", "٣", "65537", "99999999999999999999", "5, 5"])
def test_a_length_that_is_none(board, length):
    request = f"POST /verdicts HTTP/1.1\r\nContent-Length: {length}\r\n\r\nhello".encode()
    assert b" 400 " in raw(board, request)


def test_a_long_message_is_not_read(board):
    """It is a right one but for its length, and the answer comes before the rest of it has been sent."""
    body = json.dumps({**reporting.message(learner(board), [line()]), "more": "x" * server.MOST_BYTES})
    head = f"POST /verdicts HTTP/1.1\r\nAuthorization: Bearer {board.join_key}\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(board.server_address[:2], timeout=10) as connection:
        connection.sendall(head.encode() + body[:100].encode())
        assert b"has 65536 bytes at most" in b"".join(iter(lambda: connection.recv(65536), b""))
    assert state(board)["people"] == []


def test_a_body_in_pieces_of_unknown_number(board):
    assert b" 400 " in raw(board, b"POST /verdicts HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    "request_",
    [
        b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n",
        b"GET /?" + b"key=a&" * 500 + b" HTTP/1.1\r\n\r\n",
        b"GET /\x00%00%ff HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.0\r\n\r\n",
    ],
)
def test_what_is_no_request(board, request_):
    reply = raw(board, request_)
    assert b" 200 " not in reply
    assert board.page_key.encode() not in reply
    deliver(learner(board), [line()])
    assert len(state(board)["people"]) == 1


def raw(board, request: bytes) -> bytes:
    with socket.create_connection(board.server_address[:2], timeout=10) as connection, suppress(OSError):
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))
    return b""


def test_exercises_that_are_not_asked_for_are_passed_over(board):
    deliver(learner(board), [line("99.9", "passed"), line("03.1"), line("__proto__"), line("<b>")])
    person = state(board)["people"][0]
    assert (person["verdicts"], person["at"]) == ("n  ", "03.1")


def test_more_people_than_there_is_room_for():
    with running(most_people=5) as board:
        people = [learner(board, f"name {i}") for i in range(5)]
        for one in people:
            deliver(one, [])
        for i in range(20):
            with pytest.raises(NotDelivered, match="the board is full: it shows 5 people"):
                deliver(learner(board, f"more {i}"), [])
        deliver(people[0], [line()])
        shown = state(board)
        assert len(shown["people"]) == 5
        assert shown["turned_away"] == 20


def test_one_machine_cannot_fill_the_board_against_others():
    one = Board(EXERCISES, most_people=50)

    def join(i, source):
        return one.take({"person": f"{i:016x}", "name": f"name {i}", "verdicts": [line()]}, 0.0, source)

    join(0, "anna's")
    for i in range(1, 50):
        join(i, "mischief's")
    for i in range(50, 60):
        assert join(i, f"laptop {i}") == f"name {i}"
    with pytest.raises(Refused, match="the board is full"):
        join(60, "mischief's")
    names = {person["name"] for person in one.summary(0.0)["people"]}
    assert len(names) == 50
    assert names >= {"name 0", *(f"name {i}" for i in range(50, 60))}
    assert one.turned_away == 11


def test_ten_thousand_names_end_at_the_cap():
    one = Board(EXERCISES)
    started = time.monotonic()
    for i in range(10_000):
        with suppress(Refused):
            one.take({"person": f"{i:016x}", "name": "Anna", "verdicts": []}, 0.0)
    assert time.monotonic() - started < 10
    shown = one.summary(0.0)
    assert len(shown["people"]) == 500
    assert shown["turned_away"] == 9_500
    assert len({person["name"] for person in shown["people"]}) == 500


# ------------------------------------------------------------------------------------------------------------- the slow


def test_who_drips_is_ended(monkeypatch):
    monkeypatch.setattr(server, "DEADLINE", 0.5)
    with running() as board, socket.create_connection(board.server_address[:2], timeout=10) as slow:
        started = time.monotonic()
        with suppress(OSError):  # broken pipe, or reset
            while time.monotonic() - started < 8:
                slow.sendall(b"x")
                time.sleep(0.05)
        assert time.monotonic() - started < 5


def turned_away(board) -> bool:
    """Whether a request finds no place: it reads 503, or the system ends the connection before it could."""
    reply = raw(board, b"GET / HTTP/1.1\r\n\r\n")
    return reply == b"" or b" 503 " in reply


def test_the_silent_leave_room_for_others(monkeypatch):
    """All places are taken; others are told to come back, and after the deadline they may."""
    monkeypatch.setattr(server, "DEADLINE", 1.0)
    monkeypatch.setattr(server, "MOST_FROM_ONE", 1000)  # they come from many machines
    with running() as board:
        silent = [socket.create_connection(board.server_address[:2]) for _ in range(server.MOST_AT_ONCE)]
        time.sleep(0.3)
        assert turned_away(board)
        assert threading.active_count() < server.MOST_AT_ONCE + 20
        time.sleep(1.5)
        deliver(learner(board), [line()])
        assert len(state(board)["people"]) == 1
        for one in silent:
            one.close()


def test_one_machine_alone_cannot_take_all_places():
    with running() as board:
        silent = [socket.create_connection(board.server_address[:2]) for _ in range(server.MOST_FROM_ONE)]
        time.sleep(0.3)
        assert turned_away(board)
        try:
            other = socket.create_connection(board.server_address[:2], source_address=("127.0.0.2", 0))
        except OSError:
            pytest.skip("this system gives itself one address only")
        other.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert b" 403 " in other.recv(1000)
        for one in (other, *silent):
            one.close()


def test_a_fault_of_ours_is_seen_and_ends_nothing(board, monkeypatch, capfd):
    with monkeypatch.context() as patch:
        patch.setattr(board.board, "summary", lambda now: 1 / 0)
        with pytest.raises((http.client.HTTPException, OSError)):
            ask(board, path="/state", **cookie(board))
    assert state(board)["people"] == []
    said = capfd.readouterr().err
    assert "ZeroDivisionError" in said
    assert board.page_key not in said


def test_who_goes_away_in_the_middle_leaves_no_place_taken(board, capfd):
    for _ in range(2 * server.MOST_AT_ONCE):
        with socket.create_connection(board.server_address[:2]) as one:
            one.sendall(b"POST /verdicts HTTP/1.1\r\nContent-Length: 500\r\n\r\n{")
    deadline = time.monotonic() + 10
    while board._open and time.monotonic() < deadline:
        time.sleep(0.05)
    deliver(learner(board), [line()])
    assert len(state(board)["people"]) == 1
    assert capfd.readouterr() == ("", "")


def test_no_name_of_a_machine_is_looked_up(monkeypatch):
    monkeypatch.setattr(socket, "getfqdn", lambda *_: pytest.fail("a look-up can take long"))
    with running() as board:
        deliver(learner(board), [line()])


# --------------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Anna", "Anna"),
        ("  Anna \n\t Maria  ", "Anna Maria"),
        ("\u202eannA\u202c", "annA"),
        ("A\u200b\u2066nn\ufeffa\x00\x1b[31m", "Anna[31m"),
        ("\u200b\u200d", ""),
        ("", ""),
        ("علی‌رضا", "علی‌رضا"),
        ("Zoë", "Zoë"),
        ("a" + "\u0301" * 50 + "b", "á" + "\u0301" * 2 + "b"),
        ("🦊 fox", "🦊 fox"),
        ("x" * 10_000, "x" * LONGEST),
        ("\ud800a", "a"),
        (["Anna"], "['Anna']"),
    ],
)
def test_names_are_cleaned(board, name, shown):
    assert clean(name) == shown
    deliver(learner(board, name), [])
    assert state(board)["people"][0]["name"] == (shown or "somebody")


def test_made_up_names_are_friendly_and_many():
    names = {made_up_name() for _ in range(1000)}
    assert len(names) > 500
    assert all(clean(name) == name for name in names)


# ------------------------------------------------------------------------------------------------------ a shared folder


def folder_learner(shared: Path, name: str = "Anna") -> Membership:
    return Membership(str(shared), "", secrets.token_hex(8), name, False, 0)


def test_a_folder_is_read(tmp_path):
    anna = folder_learner(tmp_path)
    deliver(anna, [])
    deliver(anna, [line("03.1", "passed"), line("03.2", "not yet", "why")])
    deliver(folder_learner(tmp_path), [line("04.1", "to do")])
    with running(read=lambda: read_folder(tmp_path, EXERCISES, time.monotonic())) as board:
        people = state(board)["people"]
        assert sorted(person["verdicts"] for person in people) == ["  t", "pn "]
        assert {person["name"] for person in people} == {"Anna", "Anna (2)"}
        with pytest.raises(NotDelivered, match="this board reads a folder"):
            deliver(learner(board), [line()])
        deliver(anna, [], leave=True)
        assert len(state(board)["people"]) == 1
    assert len(list(tmp_path.iterdir())) == 1, "the board writes nothing"


def test_damaged_and_foreign_files_are_passed_over(tmp_path):
    good = folder_learner(tmp_path)
    deliver(good, [line("03.1", "passed")])
    with (tmp_path / f"{good.person}.jsonl").open("ab") as file:
        file.write(b"\xff\nnull\n[1]\n" + b"[" * 50_000 + b'\n{"exercise": "03.2", "verdict": "won"}\n{"exercise": "03.3"')
    (tmp_path / "notes.jsonl").write_text('{"exercise": "03.1", "verdict": "passed"}\n')
    (tmp_path / "0123456789abcdef.jsonl").mkdir()
    if hasattr(os, "mkfifo"):
        (tmp_path / "0123456789abcde1.jsonl").symlink_to("/dev/zero")
        (tmp_path / "0123456789abcde3.jsonl").symlink_to(tmp_path / f"{good.person}.jsonl")
        os.mkfifo(tmp_path / "0123456789abcde2.jsonl")
    people = read_folder(tmp_path, EXERCISES, 0.0).summary(0.0)["people"]
    assert [(one["name"], one["verdicts"]) for one in people] == [("Anna", "p  ")]


def test_a_huge_file_is_read_from_its_end(tmp_path):
    one = folder_learner(tmp_path)
    deliver(one, [line("03.1", "passed")] * 100_000)
    deliver(one, [line("03.2", "passed")])
    started = time.monotonic()
    assert read_folder(tmp_path, EXERCISES, 0.0).summary(0.0)["people"][0]["verdicts"] == "pp "
    assert time.monotonic() - started < 5


def test_a_file_made_to_be_slow_is_read_as_fast(tmp_path):
    """One of these took 11 seconds beside forty learners, and the page waits for 5."""
    for _ in range(40):
        deliver(folder_learner(tmp_path), [line()])
    (tmp_path / f"{0:016x}.jsonl").write_bytes(b"{}\n" * 333_000)
    (tmp_path / f"{1:016x}.jsonl").write_bytes(b'{"name": 1, "exercise": "03.1", "verdict": "not yet"}\n' * 18_000)
    started = time.monotonic()
    shown = read_folder(tmp_path, EXERCISES, 0.0).summary(0.0)
    assert time.monotonic() - started < 3
    assert len(shown["people"]) == 42
    assert shown["exercises"][0]["not_yet"] == 41


def test_a_folder_board_shows_sentences_only_if_they_are_asked_for(tmp_path):
    deliver(folder_learner(tmp_path), [line(why="why")])
    said = [read_folder(tmp_path, EXERCISES, 0.0, words).summary(0.0)["exercises"][0]["words"] for words in (True, False)]
    assert said == ["why", ""]


def test_a_file_from_the_future_makes_nobody_old(tmp_path):
    for shift in (0, 0, 10**6):
        one = folder_learner(tmp_path)
        deliver(one, [line("03.2" if not shift else "04.1")])
        os.utime(tmp_path / f"{one.person}.jsonl", (time.time() + shift,) * 2)
    assert read_folder(tmp_path, EXERCISES, time.monotonic()).summary(time.monotonic())["stuck"] == "03.2"


def test_a_folder_with_too_many_is_read_at_most_every_two_seconds(tmp_path, monkeypatch):
    for i in range(510):
        (tmp_path / f"{i:016x}.jsonl").write_text('{"name": "Anna"}\n')
    reads = []
    monkeypatch.setattr(folder, "read_folder", lambda *all: reads.append(1) or read_folder(*all))
    one = folder.FolderBoard(tmp_path, EXERCISES)
    shown = [one().summary(time.monotonic()) for _ in range(20)][-1]
    assert (len(shown["people"]), shown["turned_away"], len(reads)) == (500, 10, 1)


@pytest.mark.parametrize(("shift", "seen"), [(+(10**9), 0), (-600, 600), (-(10**9), 10**9)])
def test_clocks_that_are_wrong(tmp_path, shift, seen):
    one = folder_learner(tmp_path)
    deliver(one, [line()])
    file = tmp_path / f"{one.person}.jsonl"
    os.utime(file, (time.time() + shift, time.time() + shift))
    assert read_folder(tmp_path, EXERCISES, 0.0).summary(0.0)["people"][0]["seen"] == pytest.approx(seen, abs=5)


# ------------------------------------------------------------------------------------------------------------- commands


def test_the_exercises_of_the_board_are_those_of_the_checks():
    assert list(command.exercises_of_the_course()) == list(all_checks())
    assert all(command.exercises_of_the_course().values())
    assert list(command.exercises_of_the_course(["3", "14"])) == [id for id in all_checks() if id[:2] in ("03", "14")]
    with pytest.raises(ValueError, match="no exercises of lesson 08, 99"):
        command.exercises_of_the_course(["03", "8", "99"])


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "mylaptop", "224.0.0.1", "192.168.1", "http://127.0.0.1"])
def test_it_listens_on_one_address_that_is_named(host, monkeypatch):
    monkeypatch.setattr(server, "own_address", lambda: "192.168.1.5")
    with pytest.raises(ValueError, match=r"such as 192\.168\.1\.5"):
        server.one_address(host)


def test_this_machine_alone_is_the_default():
    assert cli.parser().parse_args(["board"]).host == "127.0.0.1"
    assert server.one_address("localhost") == "127.0.0.1"


@pytest.mark.parametrize("port", ["taken", "70000", "-3"])
def test_a_port_that_cannot_be_had(port, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = str(other.getsockname()[1])
        assert cli.main(["board", "--port", taken if port == "taken" else port]) == 2
    assert "choose with --host and --port" in capsys.readouterr().err


@pytest.fixture
def own(tmp_path, monkeypatch):
    """An agreement of the test's own."""
    monkeypatch.delenv("COURSE_GRADES")
    for name, file in (("LOG", "grades.jsonl"), ("JOINED", "board.json"), ("SENT", "board-sent.json")):
        monkeypatch.setattr(reporting, name, tmp_path / "own" / file)
    return tmp_path


def test_joining_says_what_is_sent_and_leaving_forgets(own, board, capsys):
    assert cli.main(["join"]) == 0
    assert "nothing is sent" in capsys.readouterr().out
    assert cli.main(["join", board.address + "/", board.join_key]) == 0
    said = capsys.readouterr().out
    name = state(board)["people"][0]["name"]
    assert f"The board shows you as: {name}\n" in said
    assert "its verdict (passed, not yet or to do).\n" in said
    assert f"You send verdicts to {board.address}.\n" in said
    assert cli.main(["join"]) == 0
    assert capsys.readouterr().out == said
    assert cli.main(["leave"]) == 0
    assert f"{board.address} has forgotten you" in capsys.readouterr().out
    assert state(board)["people"] == []
    assert cli.main(["leave"]) == 0


def test_asking_says_whether_the_board_still_takes_it(own, board, capsys):
    """Without it, who joined an earlier start of the board reads that verdicts are sent."""
    assert cli.main(["join", board.address, board.join_key]) == 0
    said, board.join_key = capsys.readouterr().out, server.new_join_key()
    assert cli.main(["join"]) == 1
    now = capsys.readouterr()
    assert now.out == said
    assert "the board does not take them now: this key is not the one" in now.err
    assert state(board)["people"][0]["verdicts"] == "   "


def test_asking_hands_over_what_waits(own, board, capsys):
    assert cli.main(["join", board.address, board.join_key]) == 0
    reporting.LOG.write_text(json.dumps(line("03.1", "passed")) + "\n")
    assert cli.main(["join"]) == 0
    assert state(board)["people"][0]["verdicts"] == "p  "


def test_joining_again_is_the_same_person(own, board, capsys):
    for more in ([], ["--name", "Anna", "--words"]):
        assert cli.main(["join", board.address, board.join_key, *more]) == 0
    assert [person["name"] for person in state(board)["people"]] == ["Anna"]
    assert "and the sentence that the check prints" in capsys.readouterr().out


def test_a_new_start_of_the_board_gets_what_an_earlier_one_had(own, board):
    """A board that fell over knows nobody; forty people join again, and it knows where they are."""
    reporting.LOG.parent.mkdir()
    reporting.LOG.write_text(json.dumps(line("04.1", "passed")) + "\n")
    assert cli.main(["join", board.address, board.join_key]) == 0
    with reporting.LOG.open("a") as log:
        log.write(json.dumps(line("03.1", "passed")) + "\n")
    reporting.send_unsent()
    board.board.people.clear()
    assert cli.main(["join", board.address, board.join_key]) == 0
    assert state(board)["people"][0]["verdicts"] == "p  ", "04.1 is older than the agreement"


def test_the_same_address_on_another_day_is_another_board(own, board):
    assert cli.main(["join", board.address, board.join_key, "--name", "Anna"]) == 0
    before = reporting.membership()
    os.utime(reporting.JOINED, (time.time() - 86_400,) * 2)
    assert cli.main(["join", board.address, board.join_key]) == 0
    assert reporting.membership().person != before.person
    assert reporting.membership().name != "Anna"


def test_what_a_stranger_answers_writes_nothing_into_the_terminal(own, monkeypatch, capsys):
    def refuse(*_):
        raise NotDelivered("\x1b[2J\x1b]0;mine\x07\u202ewhy" + "y" * 10_000)

    monkeypatch.setattr(reporting, "deliver", refuse)
    assert cli.main(["join", "http://127.0.0.1:1", "key"]) == 1
    said = capsys.readouterr().err
    assert "\x1b" not in said
    assert "\u202e" not in said
    assert len(said) < 500


def test_a_join_that_fails_changes_nothing(own, board, capsys):
    assert cli.main(["join", board.address, board.join_key, "--name", "Anna"]) == 0
    before = reporting.membership()
    assert cli.main(["join", board.address, "wrong"]) == 1
    assert "this key is not the one" in capsys.readouterr().err
    assert cli.main(["join", "http://127.0.0.1:1", "key"]) == 1
    assert "does not answer" in capsys.readouterr().err
    assert reporting.membership() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["192.168.1.5:8765", "key"], "the address of a board begins with http://"),
        (["http://192.168.1.5:8765"], "course join http://192.168.1.5:8765 KEY"),
        (["http://", "key"], "course join http://192.168.1.5:8765 KEY"),
        (["http://a:b", "key"], "is no address"),
        (["http://[", "key"], "is no address"),
    ],
)
def test_an_address_that_is_none(own, arguments, words, capsys):
    assert cli.main(["join", *arguments]) == 2
    assert words in capsys.readouterr().err
    assert not reporting.JOINED.exists()


def test_a_folder_is_joined(own, capsys):
    shared = own / "shared"
    shared.mkdir()
    assert cli.main(["join", str(shared)]) == 0
    said = capsys.readouterr().out
    (file,) = shared.iterdir()
    assert f"as lines of the file {file.name}, which all who use the folder can read" in said
    assert cli.main(["leave"]) == 0
    assert list(shared.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot press Ctrl-C for another one there")
def test_the_board_starts_within_a_second_and_without_torch(tmp_path):
    """As an instructor starts and ends it."""
    code = "import sys; from course_utils.tools import cli; code = cli.main(sys.argv[1:])"
    code += "; sys.exit(code or 'torch' in sys.modules)"
    begun = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-c", code, "board", "--port", "0", "--lessons", "3"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(HOME)},
    ) as process:
        lines = [process.stdout.readline() for _ in range(6)]
        took = time.monotonic() - begun
        process.send_signal(2)
        rest = process.stdout.read()
    assert took < 5, "it is 0.3 s on an idle machine"
    assert process.returncode == 0
    assert "The board is closed." in rest
    assert "course join http://127.0.0.1:" in "".join(lines)
    assert list(tmp_path.iterdir()) == []


def test_what_the_instructor_reads(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "own_address", lambda: "192.168.1.5")
    options = argparse.Namespace(words=True)
    with BoardServer(("127.0.0.1", 0), Board(EXERCISES)) as one:
        said = command.greeting(one, options, None)
        assert f"course join {one.address} {one.join_key} --words\n" in said, "a line that can be typed as it stands"
        assert "[" not in said
        assert f"{one.address}/?key={one.page_key}" in said
        assert "Only this machine can reach it. For a room: course board --host 192.168.1.5" in said
        assert f'course join "{tmp_path}" --words' in command.greeting(one, options, tmp_path)


def test_the_grader_gives_answers_no_log():
    """What `COURSE_GRADES` names is no board; see `reporting`."""
    from course_utils.grader import client

    assert '"COURSE_GRADES": os.devnull' in Path(client.__file__).read_text(encoding="utf-8")
