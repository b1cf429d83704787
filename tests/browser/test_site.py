"""The site in a real browser: built once, every page opened at the width of a desk and of a phone, light and dark."""

from __future__ import annotations

import threading
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest

import course_utils
from course_utils.tools.site import Folders, build_site
from course_utils.tools.site.lessons import read_lessons

pytest.importorskip("sphinx", reason="the site is built with what is in requirements-dev.txt")
LESSONS = read_lessons()
DESK, PHONE = 1280, 390


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *words):
        pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The site, built once."""
    return build_site(Folders(tmp_path_factory.mktemp("site")))


@pytest.fixture(scope="module")
def address(folder):
    """The site as a server of pages gives it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def visit(open_page, address):
    """`visit("guide.html", width=…, dark=…)` opens a page; the test fails if it asked anybody else for anything."""
    asked = []

    def visit(path: str, **options):
        page = open_page("about:blank", **options)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{address}/{path}")
        page.wait_for_load_state("networkidle")
        return page

    yield visit
    open_page.errors[:] = [error for error in open_page.errors if not error.endswith("/icon.svg")]  # left before it came
    assert [url for url in asked if not url.startswith((address, "data:"))] == []
    assert asked


COME = """() => Promise.all([...document.images].map((one) => {
  one.loading = "eager";  // as if one had come near
  return one.decode().catch(() => null);
}))"""
LOOK = """() => ({
  wide: document.documentElement.scrollWidth - innerWidth,
  blind: [...document.images].filter((one) => !one.alt.trim() && !one.closest(".sidebar-brand")).map((one) => one.src),
  lost: [...document.images].filter((one) => !one.complete || !one.naturalWidth).map((one) => one.src),
  tall: document.documentElement.scrollHeight,
})"""


@pytest.mark.parametrize(("width", "dark"), [(DESK, False), (DESK, True), (PHONE, False), (PHONE, True)])
def test_no_page_is_too_wide_and_no_picture_is_missing(visit, folder, address, width, dark):
    """All pages at both widths; a half of them in each of the two themes, in turn, since a theme changes no width."""
    pages = sorted(str(path.relative_to(folder).as_posix()) for path in folder.rglob("*.html") if "_static" not in path.parts)
    assert len(pages) > len(LESSONS) + len(course_utils.EXPORTS) + 6
    page = visit("index.html", width=width, dark=dark)
    for path in pages[int(dark) :: 2]:
        page.goto(f"{address}/{path}")
        page.wait_for_load_state("load")
        page.evaluate(COME)
        found = page.evaluate(LOOK)
        assert (found["wide"], found["blind"], found["lost"]) == (0, [], []), path


class Page(HTMLParser):
    """What a page says of itself, where it leads, and what it can be reached by."""

    def __init__(self, text: str):
        super().__init__()
        self.said: dict[str, str] = {}
        self.leads: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        about = dict(attrs)
        self.said |= {about.get("name") or about.get("property", ""): about.get("content", "")} if tag == "meta" else {}
        self.leads += [about[key] for key in ("href", "src") if about.get(key)]
        self.ids |= {about["id"]} if "id" in about else set()


@pytest.fixture(scope="module")
def read(folder):
    """All pages, by their paths."""
    return {path: Page(path.read_text(encoding="utf-8")) for path in folder.rglob("*.html") if "_static" not in path.parts}


def test_no_link_of_the_site_is_broken(read, folder):
    assert len(read) > len(LESSONS)
    for path, page in read.items():
        for link in page.leads:
            where = urlsplit(link)
            if where.scheme or link.startswith("/"):
                continue
            target = (path.parent / unquote(where.path)).resolve() if where.path else path
            assert target.exists(), f"{path.relative_to(folder)} leads to {link}"
            if where.fragment and target in read and not where.fragment.isdigit():  # of slides, which count themselves
                assert unquote(where.fragment) in read[target].ids, f"{path.relative_to(folder)} leads to {link}"


def test_a_page_says_what_it_is_about_where_it_is_shared(read, folder):
    dull = {"search.html", "genindex.html", "py-modindex.html", "404.html"}
    said = {path: page.said for path, page in read.items() if path.relative_to(folder).as_posix() not in dull}
    for path, found in said.items():
        assert 20 < len(found["description"]) <= 160, path
        assert found["og:description"] == found["description"], path
        assert found["og:title"], path
    first = LESSONS[0]
    assert first.promise.startswith(said[folder / f"lessons/{first.name}.html"]["description"][:60])


@pytest.mark.parametrize("path", ["index.html", "slides.html", f"lessons/{LESSONS[-2].name}.html"])
def test_pictures_below_the_first_wait_until_one_comes_near(visit, path):
    page = visit(path, width=PHONE)
    first, *others = page.evaluate("[...document.querySelectorAll('article img')].map((one) => one.loading)")
    assert first != "lazy"
    assert set(others) == {"lazy"}


def test_the_name_of_the_course_is_read_out_without_its_logo(visit):
    page = visit("guide.html")
    page.get_by_role("link", name="Fine-tuning pretrained CNNs", exact=True).first.wait_for(timeout=3000)
    assert page.locator(".sidebar-brand img").evaluate_all("(all) => all.map((one) => one.alt)") == [""]


def test_printed_code_is_all_there_and_answers_stay_folded(visit):
    page = visit("lessons/03_freeze.html", width=700)
    page.emulate_media(media="print")
    cut = "(all) => all.filter((one) => one.checkVisibility() && one.scrollWidth > one.clientWidth + 1).length"
    assert page.locator("pre").evaluate_all(cut) == 0
    assert not page.locator("details.answer pre").first.is_visible()
    assert not page.locator(".lesson-bar a").first.is_visible()


def test_nothing_moves_for_those_who_want_no_motion(visit):
    page = visit("index.html", width=PHONE)
    page.emulate_media(reduced_motion="reduce")
    moves = "(all) => all.filter((one) => parseFloat(getComputedStyle(one).transitionDuration) > 0).map((one) => one.className)"
    assert page.locator("*").evaluate_all(moves) == []
    assert page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"


def test_a_thumb_hits_the_links_below_a_title(visit):
    page = visit("lessons/03_freeze.html", width=PHONE)
    heights = page.locator(".lesson-bar a").evaluate_all("(all) => all.map((one) => one.getBoundingClientRect().height)")
    assert len(heights) > 3
    assert min(heights) >= 24


def test_an_address_that_is_not_there_leads_home(visit, folder):
    page = visit("404.html", width=PHONE, dark=True)
    assert page.locator("h1").inner_text() == "There is no such page"
    home = page.get_by_role("link", name="Fine-tuning pretrained CNNs").get_attribute("href")
    assert home.startswith("/")
    assert home.endswith("/")
    leads = Page((folder / "404.html").read_text(encoding="utf-8")).leads
    assert all(link.startswith(("/", "data:")) for link in leads), "it is shown at any depth"


def test_every_lesson_shows_all_its_pictures(visit, address):
    page = visit("index.html")
    for lesson in LESSONS:
        page.goto(f"{address}/lessons/{lesson.name}.html")
        assert page.locator("article img").count() == len(lesson.pictures)
        assert f"{lesson.minutes} minutes" in page.inner_text(".lesson-bar")


@pytest.mark.parametrize("dark", [False, True])
def test_a_figure_is_paper_and_never_glares(visit, dark):
    page = visit("lessons/03_freeze.html", dark=dark)
    light = float(page.evaluate("parseFloat(getComputedStyle(document.querySelector('.paper')).filter.match(/[0-9.]+/)[0])"))
    assert light < 0.95 if dark else light == 1
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)")
    assert max(ground) < 40 if dark else min(ground) > 240


def test_code_that_is_wide_scrolls_in_its_own_box(visit):
    page = visit("lessons/03_freeze.html", width=PHONE)
    boxes = page.evaluate("[...document.querySelectorAll('pre')].map((one) => [one.scrollWidth, one.clientWidth])")
    assert any(inner > outer for inner, outer in boxes)
    assert all(outer <= PHONE for _, outer in boxes)


def test_an_answer_is_folded_and_opens(visit):
    page = visit("lessons/03_freeze.html")
    fold = page.locator("details.answer").first
    code = fold.locator("pre").first
    assert not code.is_visible()
    fold.locator("summary").click()
    assert code.is_visible()
    assert "def " in code.inner_text()


def test_search_finds_a_word_and_no_answer(visit):
    page = visit("search.html?q=freeze")
    page.wait_for_selector("ul.search li a")
    assert "3. Freeze layers" in page.locator("ul.search").inner_text()
    folded = "Searching for"  # a solution of lesson 07 begins so; `tempting` stands in answers alone
    page = visit("lessons/07_two_phases_and_learning_rates.html")
    assert folded in page.locator("details.answer").first.text_content()
    page = visit("search.html?q=tempting")
    page.wait_for_function("document.querySelector('#search-results p')?.textContent.length > 20")
    assert page.locator("ul.search li a[href*='lessons/07']").count() == 0


def test_previous_and_next_lead_through_all_lessons(visit):
    page = visit(f"lessons/{LESSONS[0].name}.html")
    for lesson in LESSONS[1:]:
        page.click(".lesson-bar a[rel=next]")
        page.wait_for_url(f"**/{lesson.name}.html")
    page.click(".related-pages .prev-page")
    page.wait_for_url(f"**/{LESSONS[-2].name}.html")


def test_a_lesson_can_be_downloaded(visit):
    page = visit("lessons/00_start_here.html")
    with page.expect_download() as found:
        page.click("text=Download this notebook")
    assert found.value.suggested_filename == "00_start_here.ipynb"
    assert '"cells"' in found.value.path().read_text(encoding="utf-8")


@pytest.mark.parametrize("module", ["finetune", "plots", "sweeps"])
def test_the_reference_has_readable_signatures(visit, module):
    page = visit(f"reference/{module}.html")
    for name in course_utils.EXPORTS[module]:
        assert page.locator(f'[id="course_utils.{name}"], [id="module-course_utils.{name}"]').count() == 1
    text = page.inner_text("article")
    assert "<function" not in text
    assert "~" not in text


def test_the_slider_moves_by_keyboard_and_says_the_rate(visit):
    page = visit("lessons/07_two_phases_and_learning_rates.html", width=PHONE)
    slider = page.get_by_label("Learning rate")
    slider.focus()
    seen = []
    page.keyboard.press("Home")
    for _ in range(9):
        seen.append((slider.get_attribute("aria-valuetext"), page.locator(".rates-said p:visible").inner_text()))
        assert page.locator(".rates svg g:visible").count() == 2
        page.keyboard.press("ArrowRight")
    assert [rate for rate, _ in seen][::4] == ["0.00001", "0.001", "0.1"]
    assert all(words.startswith(rate) for rate, words in seen)
    assert len({words for _, words in seen}) == 9


def test_what_the_slider_says_stands_below_it_and_moves_nothing(visit):
    page = visit("lessons/07_two_phases_and_learning_rates.html", width=PHONE)
    page.get_by_label("Learning rate").focus()
    places = """() => ["input", ".rates-said .on", ".rates-panels"].map((one) => {
      const {top, bottom} = document.querySelector(`.rates ${one}`).getBoundingClientRect();
      return [top, bottom];
    })"""
    heights = set()
    for key in ("Home", *["ArrowRight"] * 8):
        page.keyboard.press(key)
        (top, slider), (words, end), (panels, _) = page.evaluate(places)
        assert slider <= words < end <= panels
        heights.add(round(panels - top))
    assert len(heights) == 1


def test_without_javascript_the_slider_is_a_figure(chromium, address):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}/lessons/07_two_phases_and_learning_rates.html")
    assert not page.locator(".rates input").is_visible()
    assert page.locator(".rates-said p:visible").count() == 1
    assert page.locator(".rates svg g:visible").count() == 2
    context.close()


def test_slides_step_by_keys_and_print_one_a_sheet(visit):
    page = visit("slides/index.html")
    count = page.locator("section").count()
    assert count == len(LESSONS) + 1
    page.keyboard.press("ArrowLeft")
    for number in range(1, count + 1):
        page.wait_for_function(f"document.querySelector('#place').textContent === '{number} of {count}'", timeout=3000)
        assert page.locator("section:visible").count() == 1
        inside = page.locator("section:visible").evaluate(
            "(one) => one.scrollHeight <= innerHeight && one.scrollWidth <= innerWidth"
        )
        assert inside, f"slide {number} does not fit the screen"
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Home")
    page.wait_for_function(f"document.querySelector('#place').textContent === '1 of {count}'", timeout=3000)
    assert page.evaluate("[...document.images].every((one) => one.alt && one.naturalWidth)")
    page.emulate_media(media="print")
    assert page.locator("section:visible").count() == count
    assert not page.locator("nav").is_visible()
    assert page.pdf().count(b"/Type /Page\n") == count


def test_pages_work_from_a_folder_too(open_page, folder):
    """A stick in a room without a server."""
    page = open_page((folder / "index.html").as_uri())
    page.click("text=Read lesson 00")
    page.wait_for_url("**/00_start_here.html")
    page.evaluate(COME)
    assert page.evaluate("[...document.images].every((one) => one.naturalWidth)")
