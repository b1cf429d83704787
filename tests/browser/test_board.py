"""The board's page in a browser: two hundred people and names that are none, at a desk and on a phone."""

from __future__ import annotations

import secrets
import threading

import pytest

from course_utils.reporting import Membership, deliver
from course_utils.tools.board.names import made_up_name
from course_utils.tools.board.server import BoardServer
from course_utils.tools.board.state import Board

EXERCISES = {f"{lesson:02}.{number}": f"a title of {lesson}.{number}" for lesson in range(10) for number in (1, 2, 3)}
BAD_NAMES = ["<script>document.title='taken'</script>", "<img src=x onerror=alert(1)>", "\u202eevil", "W" * 200, "'\"&lt;"]
SENTENCE = "<b>features.1</b> moved: " + "compare_whole_parts" * 20


def start(exercises=EXERCISES) -> BoardServer:
    server = BoardServer(("127.0.0.1", 0), Board(exercises))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return server


def send(server: BoardServer, name: str, *verdicts: tuple[str, str]) -> None:
    member = Membership(server.address, server.join_key, secrets.token_hex(8), name, True, 0)
    deliver(member, [{"exercise": id, "verdict": verdict, "why": SENTENCE} for id, verdict in verdicts])


@pytest.fixture
def server():
    one = start()
    yield one
    one.shutdown()
    one.server_close()


@pytest.fixture
def full(server):
    """Two hundred people who have got to different places; most are at 02.2."""
    for i in range(200):
        passed = list(EXERCISES)[: 7 if i % 2 else i % 30]
        name = BAD_NAMES[i] if i < len(BAD_NAMES) else made_up_name()
        send(server, name, *((id, "passed") for id in passed), (list(EXERCISES)[len(passed)], "not yet"))
    return server


def page_of(open_page, server, **options):
    page = open_page(f"{server.address}/?key={server.page_key}", **options)
    page.wait_for_selector("#count:not(:empty)")
    return page


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_and_names_are_text(open_page, full, width, dark):
    page = page_of(open_page, full, width=width, dark=dark)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("#people li").count() == 200
    assert page.title() == "Board"
    assert page.locator("main script, main img, main b b, #stuck b").count() == 0
    names = page.locator("#people bdi").all_inner_texts()
    assert names[:2] == [name[:30].strip() for name in BAD_NAMES[:2]]
    assert names[2] == "evil"
    assert "are at 02.2 now" in page.inner_text("#stuck")
    assert "Most said: “<b>features.1</b> moved" in page.inner_text("#stuck")
    assert page.locator(".row.worst").inner_text().startswith("02.2")
    outside = "[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1).length"
    assert page.evaluate(outside) == 0


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_says_how_to_join(open_page, server, width):
    """So that the room need not see the terminal, which shows the instructor's own key."""
    server.invitation = f"course join {server.address} {server.join_key} --words"
    page = page_of(open_page, server, width=width)
    assert page.inner_text("#join code") == server.invitation
    assert page.locator("#join code").evaluate("e => parseFloat(getComputedStyle(e).fontSize)") >= (20 if width > 400 else 16)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_one_who_says_it_is_one_person(open_page, server):
    send(server, "Anna", ("03.1", "not yet"))
    member = Membership(server.address, server.join_key, secrets.token_hex(8), "Bo", True, 0)
    deliver(member, [{"exercise": "03.1", "verdict": "not yet"}])
    page = page_of(open_page, server)
    page.wait_for_selector("#said:not(:empty)")
    assert page.inner_text("#said").endswith("(1 person)")


def test_the_address_shows_no_key_and_a_reload_works(open_page, full):
    page = page_of(open_page, full)
    assert page.url == f"{full.address}/"
    page.reload()
    page.wait_for_selector("#people li")
    assert full.page_key not in page.content()


def test_one_click_hides_the_names(open_page, full):
    page = page_of(open_page, full)
    page.get_by_role("button", name="Hide names").click()
    assert set(page.locator("#people bdi").all_text_contents()) == {""}
    assert "evil" not in page.content()
    page.reload()
    page.wait_for_selector("#people li")
    assert set(page.locator("#people bdi").all_text_contents()) == {""}, "a reload in front of the room shows nobody"
    page.get_by_role("button", name="Show names").click()
    assert "evil" in page.locator("#people bdi").all_text_contents()


def test_news_come_by_themselves(open_page, server):
    page = page_of(open_page, server)
    assert page.inner_text("#count") == "Nobody has joined yet."
    send(server, "Anna", ("03.1", "not yet"))
    page.wait_for_selector("#people li", timeout=8000)
    assert page.inner_text("#count") == "1 person, 1 in the last 5 minutes"
    assert page.locator("#stuck").is_hidden(), "one person alone is not the room"
    assert page.get_by_role("img", name="0 passed, 1 not yet, 0 to do").count() == 1


def test_a_lost_connection_is_said_and_found_again(open_page, full):
    page = page_of(open_page, full)
    page.context.set_offline(True)
    page.wait_for_selector("#lost:not([hidden])", timeout=12_000)
    assert "what you see is older" in page.inner_text("#lost")
    assert page.locator("#people li").count() == 200
    page.context.set_offline(False)
    page.wait_for_selector("#lost", state="hidden", timeout=12_000)
    open_page.errors.clear()  # the browser writes into its console what it could not fetch


def test_another_start_of_the_board_is_said(open_page, server):
    page = page_of(open_page, server)
    server.page_key = secrets.token_urlsafe(24)
    page.wait_for_selector("#lost:not([hidden])", timeout=8000)
    assert "an earlier start of the board" in page.inner_text("#lost")
    open_page.errors.clear()


LUMINANCE = """element => {
  const rgb = text => text.match(/[\\d.]+/g).slice(0, 3).map(Number).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * r + 0.7152 * g + 0.0722 * b;
  let behind = element;
  while (getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
  const [a, b] = [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor].map(rgb).map(light);
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_can_be_read_by_weak_eyes(open_page, server, dark):
    """A contrast of 4.5 to 1 or more, as the WCAG ask, and a sign in each colour."""
    for _ in range(2):
        send(server, "Anna", ("01.1", "passed"), ("01.2", "to do"), ("02.1", "not yet"))
    page = page_of(open_page, server, dark=dark)
    page.wait_for_selector("#people li")
    for place in (".bar .p", ".bar .n", ".bar .t", ".soft", ".key", "#said", "#stuck strong", ".row", "button", "#people bdi"):
        assert page.locator(place).first.evaluate(LUMINANCE) >= 4.5, place
    assert page.locator(".bar .n").first.inner_text() == "! 2"
    assert page.locator(".cells .p").first.inner_text() == "✓"
