"""Verdicts go to a board only after `course join`, in the background, and never at the cost of a lesson."""

from __future__ import annotations

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from course_utils import reporting
from course_utils.reporting import Membership, NotDelivered
from course_utils.verdict_log import record


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A course folder of its own, in which nothing else names the log."""
    monkeypatch.delenv("COURSE_GRADES")
    for name, file in (("LOG", "grades.jsonl"), ("JOINED", "board.json"), ("SENT", "board-sent.json")):
        monkeypatch.setattr(reporting, name, tmp_path / ".course" / file)
    monkeypatch.setattr(sys.modules[record.__module__], "LOG", tmp_path / ".course" / "grades.jsonl")
    yield tmp_path
    wait()


def wait() -> None:
    for thread in threading.enumerate():
        if thread.name == "course-board":
            thread.join(20)


class Listener(BaseHTTPRequestHandler):
    """A board that takes everything, or answers what the test wants."""

    def do_POST(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, self.headers["Authorization"], json.loads(content)))
        body = self.server.reply
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in self.server.more.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def listener():
    with HTTPServer(("127.0.0.1", 0), Listener) as server:
        server.got, server.reply, server.status, server.more = [], b'{"board": "course", "name": "x"}', 200, {}
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        server.address = f"http://127.0.0.1:{server.server_address[1]}"
        yield server
        server.shutdown()


def joined(where: str, *, words: bool = False) -> Membership:
    since = reporting.LOG.stat().st_size if reporting.LOG.exists() else 0
    board = Membership(where, "key", "0123456789abcdef", "Anna", words, since)
    reporting.begin(board)
    return board


def sent(listener) -> list:
    wait()
    return [[tuple(one.values()) for one in content["verdicts"]] for _, _, content in listener.got]


def test_nothing_is_sent_before_joining_nor_after_leaving(course, listener):
    record("03.1", "passed", "")
    joined(listener.address)
    assert sent(listener) == []
    record("03.2", "not yet", "a secret")
    assert sent(listener) == [[("03.2", "not yet")]]
    reporting.stop()
    record("03.3", "passed", "")
    assert sent(listener) == [[("03.2", "not yet")]]
    assert sorted(path.name for path in (course / ".course").iterdir()) == ["grades.jsonl"]


def test_what_is_sent_is_what_was_agreed(course, listener):
    joined(listener.address)
    record("03.2", "not yet", "a sentence")
    wait()
    verdicts = [{"exercise": "03.2", "verdict": "not yet"}]
    said = {"person": "0123456789abcdef", "name": "Anna", "verdicts": verdicts}
    assert listener.got == [("/verdicts", "Bearer key", said)]


def test_the_sentence_goes_along_only_with_words(course, listener):
    joined(listener.address, words=True)
    record("03.2", "not yet", "a sentence " * 100)
    ((_, _, sentence),) = sent(listener)[0]
    assert sentence.startswith("a sentence")
    assert len(sentence) == reporting.WORDS


def test_builds_tests_and_graders_send_nothing(course, listener, monkeypatch):
    joined(listener.address)
    reporting.LOG.write_text('{"exercise": "03.1", "verdict": "passed"}\n')  # it could not be sent earlier
    monkeypatch.setenv("COURSE_GRADES", str(course / "other.jsonl"))
    record("03.2", "passed", "")
    assert sent(listener) == []


def test_what_could_not_be_sent_goes_with_the_next_verdict(course, listener):
    joined(listener.address)
    listener.status, listener.reply = 503, b"busy"
    record("03.1", "not yet", "")
    record("03.1", "passed", "")
    wait()
    listener.got.clear()
    listener.status, listener.reply = 200, b'{"board": "course"}'
    record("03.2", "to do", "")
    assert sent(listener) == [[("03.1", "passed"), ("03.2", "to do")]]
    record("03.3", "passed", "")
    assert sent(listener)[1:] == [[("03.3", "passed")]]


def test_a_lesson_does_not_wait_for_a_board_that_is_silent(course):
    """Something accepts the connection and never answers."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        joined(f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.perf_counter()
        for _ in range(50):
            record("03.1", "not yet", "")
        assert time.perf_counter() - started < 1
        assert sum(thread.name == "course-board" for thread in threading.enumerate()) <= 2
    wait()
    assert reporting.unsent(reporting.membership())[0] == [{"exercise": "03.1", "verdict": "not yet"}]


@pytest.mark.parametrize("broken", ["", "{", "[]", '{"where": 1}', "null", '{"where": "http://[", "key": 3}'])
def test_a_broken_agreement_stops_nothing(course, broken):
    reporting.JOINED.parent.mkdir()
    reporting.JOINED.write_text(broken)
    record("03.1", "passed", "")
    wait()
    assert reporting.LOG.read_text().count("\n") == 1


@pytest.mark.parametrize("where", ["http://127.0.0.1:1", "http://[", "http://127.0.0.1:99999", "http://a b:1", "/no/such"])
def test_a_board_that_cannot_be_reached_stops_nothing(course, where, reached, capfd):
    joined(where)
    record("03.1", "passed", "")
    wait()
    assert capfd.readouterr() == ("", "")
    assert len(reporting.unsent(reporting.membership())[0]) == 1


def test_no_thread_to_be_had_stops_nothing(course, listener, monkeypatch):
    joined(listener.address)

    def none(self):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none)
        for _ in range(5):
            assert reporting.report() is None
    record("03.1", "passed", "")
    assert sent(listener) == [[("03.1", "passed")]]


@pytest.mark.parametrize("content", [b"\xff\xfe\n", b"[1]\nnull\n3\n", b'{"exercise": "03.1"}\n', b'{"exer'])
def test_a_damaged_log_is_read_as_far_as_it_goes(course, listener, content):
    joined(listener.address)
    reporting.LOG.write_bytes(content)
    reporting.send_unsent()
    assert sent(listener) == []
    with reporting.LOG.open("ab") as log:
        log.write(b"\n")
    record("03.2", "passed", "")
    assert sent(listener) == [[("03.2", "passed")]]


def test_an_emptied_log_begins_again(course, listener):
    record("03.1", "passed", "why " * 50)
    joined(listener.address)
    record("03.2", "passed", "")
    wait()
    reporting.LOG.write_text("")
    record("03.3", "passed", "")
    assert sent(listener)[-1] == [("03.3", "passed")]


def test_leaving_while_something_is_on_its_way_stays_left(course, listener, monkeypatch):
    joined(listener.address)
    deliver = reporting.deliver
    monkeypatch.setattr(reporting, "deliver", lambda *all: (deliver(*all), reporting.stop()))
    record("03.1", "passed", "")
    wait()
    assert reporting.membership() is None
    assert not reporting.SENT.exists()


@pytest.mark.parametrize("reply", [b"<html>Pay for the wifi</html>", b"[]", b'{"board": "other"}', b"[" * 5000, b"\xff"])
def test_what_answers_like_a_hotels_network_is_no_board(course, listener, reply):
    listener.reply = reply
    with pytest.raises(NotDelivered, match="is not a board of this course"):
        reporting.deliver(joined(listener.address), [])


def test_a_redirection_is_not_followed(course, listener):
    listener.status, listener.reply, listener.more = 307, b"", {"Location": f"{listener.address}/elsewhere"}
    with pytest.raises(NotDelivered):
        reporting.deliver(joined(listener.address), [])
    assert [path for path, _, _ in listener.got] == ["/verdicts"]


def test_a_proxy_of_the_environment_is_not_asked(course, listener, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert reporting.deliver(joined(listener.address), [])["board"] == "course"


def test_a_folder_gets_whole_lines_in_a_file_of_ones_own(course, tmp_path):
    folder = tmp_path / "shared"
    folder.mkdir()
    board = joined(str(folder))
    record("03.1", "not yet", "a sentence")
    wait()
    record("03.1", "passed", "")
    wait()
    (file,) = folder.iterdir()
    assert file.name == "0123456789abcdef.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert lines[1::2] == [{"exercise": "03.1", "verdict": "not yet"}, {"exercise": "03.1", "verdict": "passed"}]
    reporting.deliver(board, [], leave=True)
    assert list(folder.iterdir()) == []
