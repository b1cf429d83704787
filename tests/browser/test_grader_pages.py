"""The grader's pages in a browser: they fit a screen and a phone, in light and dark, and a click sorts the class."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from examples import BLOB, GRADER, check

from course_utils.grader.canonical import to_json
from course_utils.grader.output import classroom, html
from course_utils.grader.records import Graded, Output, Report, build_report, named, read_report, refusal
from course_utils.grader.scoring import ERROR, FAILED, PARTIAL, PASSED, TIMEOUT, TO_DO, Raised, Verdict

LESSONS = ("00", "01", "02", "03", "04", "05", "06", "07", "09", "13", "14")
NAMES = (
    *("anna", "Bo", "a name that somebody made of a whole sentence and did not break", "x" * 90, "مريم", "王小明"),
    *(f"learner {number}" for number in range(10)),
)
WORDS = "asked for features.1; features.10.weight is alike and learns too: compare whole parts, from the first one on"


def verdict(number: int) -> Verdict:
    """Each state in turn."""
    return (
        Verdict(PASSED, Fraction(1)),
        Verdict(FAILED, why=WORDS),
        Verdict(PARTIAL, Fraction(1, 2), why=WORDS),
        Verdict(TO_DO),
        Verdict(ERROR, why="it stopped", raised=Raised("RuntimeError", f"shape {'1x' * 80}", 3)),
        Verdict(TIMEOUT, why="it took too long"),
    )[number % 6]


def report(name: str, lesson: str, shift: int) -> Report:
    checks = tuple(check(f"{lesson}.{n}", title="which layers of this network may learn") for n in (1, 2, 3))
    verdicts = {one.id: verdict(shift + n * n) for n, one in enumerate(checks)}
    printed = {checks[0].id: Output("epoch  1  train 1.79 (17%)  val 1.70 (30%)  " * 4 + "\n" + "x" * 300)}
    graded = Graded(lesson, checks, verdicts, printed, Output(""), ())
    return read_report(to_json(named(build_report(BLOB, GRADER, graded), f"{name}/{lesson}.ipynb", f"{name}-{lesson}")))


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> Path:
    """The folder with the pages of a class of sixteen who handed in eleven lessons, and of one whose file is none."""
    reports = [report(name, lesson, i + j) for i, name in enumerate(NAMES) for j, lesson in enumerate(LESSONS[: 11 - i % 3])]
    reports.append(read_report(to_json(named(refusal(BLOB, GRADER, "it is no JSON; save it again"), "walter.ipynb", "w"))))
    room = classroom.classroom(reports)
    folder = tmp_path_factory.mktemp("grades")
    (folder / "learners").mkdir()
    (folder / "index.html").write_bytes(html.index_page(room, {"03.1": ["calls", "modes"]}))
    for learner in room.learners:
        (folder / "learners" / f"{learner.name}.html").write_bytes(html.learner_page(learner))
    return folder


OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"

CONTRAST = """() => {
  const rgb = text => text.match(/[\\d.]+/g).map(Number)
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0)
  const ground = node => {
    for (; node; node = node.parentElement) {
      const colour = getComputedStyle(node).backgroundColor
      if ((rgb(colour)[3] ?? 1) === 1) return rgb(colour)
    }
    return [255, 255, 255]
  }
  const worst = [...document.body.querySelectorAll('*')]
    .filter(node => [...node.childNodes].some(one => one.nodeType === 3 && one.data.trim()))
    .map(node => {
      const [a, b] = [light(rgb(getComputedStyle(node).color)), light(ground(node))].sort((x, y) => x - y)
      return [(b + 0.05) / (a + 0.05), node.outerHTML.slice(0, 80)]
    }).filter(([ratio]) => ratio < 4.5)
  return worst
}"""  # texts with less contrast to their ground than WCAG asks for (AA)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("which", ["index", "learner", "refused"])
def test_a_page_fits_and_can_be_read(pages, open_page, which, width, dark):
    learners = sorted((pages / "learners").glob("*.html"), key=lambda path: ("walter" in path.name, path.stat().st_size))
    path = {"index": pages / "index.html", "learner": learners[-2], "refused": learners[-1]}[which]
    page = open_page(path.as_uri(), width=width, dark=dark)
    assert page.evaluate(OVERFLOW) <= 0
    assert page.evaluate(CONTRAST) == []


def rows_shown(page) -> list[tuple[str, str]]:
    """Each learner with the points, from top to bottom."""
    rows = sorted(page.locator("tr.row").all(), key=lambda row: row.bounding_box()["y"])
    return [(row.locator("th").inner_text(), row.locator("td.total, td.none").first.inner_text()) for row in rows]


def test_a_click_on_a_heading_sorts_the_class(pages, open_page):
    page = open_page((pages / "index.html").as_uri())
    by_name = rows_shown(page)
    page.locator("thead label", has_text="points").click()
    by_points = rows_shown(page)
    assert sorted(by_points) == sorted(by_name) != by_points
    points = [float(total.split()[0]) for _, total in by_points if total[0].isdigit()]
    assert len(points) == len(NAMES)
    assert points in (sorted(points), sorted(points, reverse=True))
    page.locator("thead label", has_text="learner").click()
    assert rows_shown(page) == by_name


def test_a_row_leads_to_the_page_of_the_learner(pages, open_page):
    page = open_page((pages / "index.html").as_uri(), width=390)
    page.locator("tr.row a", has_text="learner 3").click()
    assert page.locator("h1").inner_text() == "learner 3"
