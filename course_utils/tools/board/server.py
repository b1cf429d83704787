"""The board over HTTP: learners post verdicts with their key, the instructor's page asks for all of it with another one.

    POST /verdicts  learner's key   a message of `reporting.message`
    POST /leave     learner's key   {"person": …}: the board forgets this person
    GET  /?key=…    instructor's    sets a cookie and leads to the page, so that a projector never shows the key
    GET  /          cookie          the page
    GET  /state     cookie          what the page shows, as JSON

Each connection is for one request, has `DEADLINE` seconds for all of it, and one place of `MOST_AT_ONCE`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import json
import os
import re
import secrets
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, urlsplit

from course_utils.tools.board.state import Board, Refused

MOST_BYTES = 64 * 1024  # of a message
MOST_AT_ONCE = 64  # connections
MOST_FROM_ONE = 24  # of them from one machine, so that it alone cannot keep the others out
DEADLINE = 10.0  # seconds
LETTERS = "23456789abcdefghjkmnpqrstuvwxyz"  # without those that look like others from the back of a room
WRONG_KEY = "this key is not the one of the board that runs here now; copy the line again"


def new_join_key() -> str:
    """A key that forty people can type, and nobody can guess: one of 31 ** 8."""
    letters = "".join(secrets.choice(LETTERS) for _ in range(8))
    return f"{letters[:4]}-{letters[4:]}"


def same_key(given: str, key: str) -> bool:
    """Whether two keys are equal, in a time that does not tell how much of them; hyphens and capitals do not count."""
    one, other = (re.sub(r"[\s-]", "", text).lower().encode("utf-8", "replace") for text in (given, key))
    return hmac.compare_digest(one, other)


def page() -> bytes:
    return files("course_utils.tools.board").joinpath("page.html").read_bytes()


def policy(html: bytes) -> str:
    """The Content-Security-Policy of the page: its own script and style, by their hash, and nothing else."""
    hashes = {}
    for tag in ("script", "style"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>".encode(), html, re.DOTALL)
        hashes[tag] = base64.b64encode(hashlib.sha256(text).digest()).decode()
    rules = [f"{tag}-src 'sha256-{value}'" for tag, value in hashes.items()]
    closed = ("default-src 'none'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'")
    return "; ".join([*closed, *rules, "connect-src 'self'", "img-src data:"])


class BoardServer(ThreadingHTTPServer):
    """Serves one board on one address.

    Args:
        address: of this machine, one and no wildcard.
        board: the board that learners post to.
        read: gives the board to show; a board that is read from a folder takes no posts.

    Raises:
        OSError: if the address is not this machine's, or the port is taken.
    """

    daemon_threads, block_on_close = True, False
    allow_reuse_address = os.name != "nt"  # on Windows it would let two programs share a port
    allow_reuse_port = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], board: Board, read: Callable[[], Board] | None = None):
        self.board, self.read, self.invitation = board, read, ""
        self.join_key, self.page_key = new_join_key(), secrets.token_urlsafe(24)
        self.page = page()
        self.policy = policy(self.page)
        self._places = threading.BoundedSemaphore(MOST_AT_ONCE)
        self._open: dict[socket.socket, tuple[float, str]] = {}  # since when, and from where
        self._lock = threading.Lock()
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, Handler)

    def server_bind(self) -> None:
        """As the parent does it, without asking the network for this machine's name, which can take long."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    @property
    def address(self) -> str:
        host, port = self.server_address[:2]
        return f"http://[{host!s}]:{port}" if ":" in str(host) else f"http://{host!s}:{port}"

    @property
    def cookie(self) -> str:
        """Its name: browsers share cookies among the ports of a machine."""
        return f"course-board-{self.server_port}"

    def shown(self) -> Board:
        return self.read() if self.read else self.board

    # Every connection ends.

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            of_this_machine = sum(host == client_address[0] for _, host in self._open.values())
        if of_this_machine >= MOST_FROM_ONE or not self._places.acquire(blocking=False):
            with suppress(OSError):
                request.settimeout(0.1)
                request.sendall(b"HTTP/1.0 503 Service Unavailable\r\nRetry-After: 1\r\n\r\n")
            self.shutdown_request(request)
            return
        with self._lock:
            self._open[request] = time.monotonic(), client_address[0]
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread to be had
            self._release(request)
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._release(request)

    def _release(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
        self._places.release()

    def service_actions(self) -> None:
        """Called twice a second: end what has taken too long, however busily it drips."""
        with self._lock:
            late = [one for one, (since, _) in self._open.items() if time.monotonic() - since > DEADLINE]
        for request in late:
            with suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Somebody who went away in the middle is no news; a fault of ours is."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    server: BoardServer
    timeout = DEADLINE

    def do_GET(self) -> None:
        with suppress(ValueError):
            address = urlsplit(self.path)
            given = parse_qs(address.query, max_num_fields=5).get("key", [""])[0]
            if address.path == "/" and given and same_key_exactly(given, self.server.page_key):
                cookie = f"{self.server.cookie}={self.server.page_key}; Path=/; HttpOnly; SameSite=Lax"
                self.answer(HTTPStatus.SEE_OTHER, b"", "text/plain", {"Location": "/", "Set-Cookie": cookie})
            elif not self.knows_the_page_key():
                self.send_error(HTTPStatus.FORBIDDEN, "open the address that `course board` printed when it started")
            elif address.path == "/":
                self.answer(HTTPStatus.OK, self.server.page, "text/html; charset=utf-8")
            elif address.path == "/state":
                summary = self.server.shown().summary(time.monotonic())
                shown = {**summary, "join": self.server.invitation}
                self.answer(HTTPStatus.OK, json.dumps(shown).encode(), "application/json")
            else:
                self.send_error(HTTPStatus.NOT_FOUND, "there is only one page")
            return
        self.send_error(HTTPStatus.BAD_REQUEST, "this is no address")

    def knows_the_page_key(self) -> bool:
        with suppress(CookieError):
            found = SimpleCookie(self.headers.get("Cookie", "")).get(self.server.cookie)
            return found is not None and same_key_exactly(found.value, self.server.page_key)
        return False

    def do_POST(self) -> None:
        try:
            content = self.content()
            if not same_key(self.headers.get("Authorization", "").removeprefix("Bearer "), self.server.join_key):
                return self.reply(HTTPStatus.FORBIDDEN, why=WRONG_KEY)
            if self.server.read:
                return self.reply(HTTPStatus.NOT_FOUND, why="this board reads a folder: join with the folder's name")
            if self.path == "/verdicts":
                name = self.server.board.take(content, time.monotonic(), self.client_address[0])
                return self.reply(HTTPStatus.OK, name=name)
            if self.path == "/leave":
                self.server.board.forget(content.get("person") if isinstance(content, dict) else None)
                return self.reply(HTTPStatus.OK)
            self.reply(HTTPStatus.NOT_FOUND, why="a board takes verdicts at /verdicts")
        except Refused as refused:
            self.reply(HTTPStatus.BAD_REQUEST, why=str(refused))

    def content(self) -> Any:
        """The message, read only if it says how long it is and that is not long.

        Raises:
            Refused: if it is no JSON, or too long.
        """
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit() and len(length) < 8 and int(length) <= MOST_BYTES):
            raise Refused(f"a message says its length, and has {MOST_BYTES} bytes at most")
        try:
            return json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            raise Refused("a message is JSON") from None

    def reply(self, status: HTTPStatus, **content: str) -> None:
        self.answer(status, json.dumps({"board": "course", **content}).encode(), "application/json")

    def answer(self, status: HTTPStatus, body: bytes, kind: str, more: dict[str, str] | None = None) -> None:
        headers = {"Content-Type": kind, "Content-Length": str(len(body)), "Cache-Control": "no-store"}
        headers |= {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
        headers |= {"Content-Security-Policy": self.server.policy, "Cross-Origin-Resource-Policy": "same-origin"}
        self.send_response(status)
        for name, value in {**headers, **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """An error as plain text: nothing of the request is in it."""
        status = HTTPStatus.METHOD_NOT_ALLOWED if code == HTTPStatus.NOT_IMPLEMENTED else HTTPStatus(code)
        said = message if code in (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND) and message else status.phrase
        more = {"Allow": "GET, POST"} if status == HTTPStatus.METHOD_NOT_ALLOWED else {}
        self.close_connection = True
        self.answer(status, f"{said}\n".encode(), "text/plain; charset=utf-8", more)

    def version_string(self) -> str:
        return "course-board"

    def log_message(self, format: str, *args: Any) -> None:
        """Addresses hold keys, and people are not watched: nothing is logged."""


def same_key_exactly(given: str, key: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), key.encode())


def one_address(host: str) -> str:
    """`host` as an address to listen on.

    Raises:
        ValueError: if it is none, or stands for all addresses of this machine.
    """
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise ValueError(f"--host {host}: give an address of this machine as numbers, such as {own_address()}") from None
    if address.is_unspecified or address.is_multicast:
        raise ValueError(f"--host {host} is every network at once: name one address of this machine, such as {own_address()}")
    return str(address)


def own_address() -> str:
    """The address under which others of the local network see this machine; an example if it has none. Sends nothing."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # an address of examples: only the routing table is asked
        return probe.getsockname()[0]
    return "192.168.1.5"
