"""Every form of a report: parsed back, and safe whatever a learner wrote into it."""

import csv
import io
import json
import re
import time
import xml.etree.ElementTree as ET
from dataclasses import replace
from fractions import Fraction
from functools import partial
from html.parser import HTMLParser

import hypothesis.strategies as st
import pytest
from examples import BLOB, CANARY, GRADER, graded
from hypothesis import given
from torch import Tensor

from course_utils.checks import all_checks
from course_utils.checks.spec import Check
from course_utils.grader.canonical import to_json
from course_utils.grader.output import classroom, html, platforms, tables, terminal, words
from course_utils.grader.records import Untrusted, build_report, named, read_report, refusal
from course_utils.grader.scoring import (
    ERROR,
    FAILED,
    OWN_CELL,
    PARTIAL,
    PASSED,
    SKIPPED,
    STATES,
    TIMEOUT,
    TO_DO,
    Raised,
    Verdict,
)

PAYLOADS = [
    "<script>alert(1)</script>",
    "</pre><img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "</style><script>alert(1)</script>",
    '" onmouseover="alert(1)',
    "' style='x",
    "<a href='javascript:alert(1)'>x</a>",
    "{{ 7 * 7 }}{% raw %}",
    "]]><x>",
    "&lt;script&gt;",
]


def report(id="anna/03.ipynb", **rest):
    return read_report(to_json(named(build_report(BLOB, GRADER, graded(**rest)), id, "x")))


def hostile(payload: str):
    """A report that carries `payload` wherever a learner can put a text."""
    verdict = Verdict(ERROR, why="it stopped", raised=Raised(payload, payload, 1))
    return report(f"{payload.replace('/', '|')}.ipynb", first=verdict, third=Verdict(TO_DO), output=payload)


def refused(id="walter.ipynb"):
    return read_report(to_json(named(refusal(BLOB, GRADER, "it is no JSON; save it again"), id, "y")))


def room(*reports):
    return classroom.classroom(reports or [report(), refused()])


# ------------------------------------------------------------------------------------------------------------- HTML


class Page(HTMLParser):
    """What a browser would make of a page: its tags, their attributes, its text."""

    def __init__(self, page: bytes):
        super().__init__()
        self.tags, self.attributes, self.text, self.inside = [], [], "", []
        self.feed(page.decode("utf-8"))
        assert not self.inside, f"left open: {self.inside}"

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in ("meta", "input"):
            self.inside.append(tag)

    def handle_endtag(self, tag):
        assert self.inside.pop() == tag

    def handle_data(self, data):
        self.text += data if self.inside[-1:] != ["style"] else ""


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_page_holds_anything_that_runs(payload):
    bad = hostile(payload)
    found = room(bad, report(), refused(f"{payload.replace('/', '|')}x.ipynb"))
    for page in (html.index_page(found, {}), *(html.learner_page(learner) for learner in found.learners)):
        parsed = Page(page)
        assert not {"script", "img", "svg", "iframe", "object", "embed", "link", "base", "form"} & set(parsed.tags)
        assert not [name for name, _ in parsed.attributes if name.startswith("on")]
        links = [value for name, value in parsed.attributes if name in ("href", "src", "action")]
        assert all(re.fullmatch(r"learners/[a-z0-9-]+\.html", link) for link in links), links
        policy = next(value for name, value in parsed.attributes if name == "content" and "default-src" in value)
        assert policy == "default-src 'none'; style-src 'unsafe-inline'"
        assert b"url(" not in page
    shown = Page(html.learner_page(classroom.classroom([bad]).learners[0])).text
    assert payload in shown, "a learner reads what was written, as text"


@given(st.text())
def test_any_text_is_a_page(text):
    found = classroom.classroom([hostile(text)])
    Page(html.learner_page(found.learners[0]))
    Page(html.index_page(found, {}))


def test_the_class_at_a_glance():
    one, two = (
        report("ben.ipynb"),
        report("anna/03.ipynb", first=Verdict(PARTIAL, Fraction(1, 2), "half"), third=Verdict(FAILED)),
    )
    page = html.index_page(room(one, two, refused()), {"90.1": ["calls", "modes"]}).decode()
    text = " ".join(Page(page.encode()).text.split())
    assert "3 learners, 2 exercises, 6 points." in text
    assert "Isolation full (FORK, NS)" in text
    assert text.index("90.2 train the head 50 %") < text.index("90.1 freeze the backbone 87 %"), "hardest first"
    table = text[text.index("A click on a heading") :]
    assert table.index("anna") < table.index("ben") < table.index("walter – not gradable, see above")
    assert "Not gradable: 1 walter.ipynb: it is no JSON; save it again" in text
    assert "What only the learner's process says" in text
    assert "90.1: calls, modes" in text
    assert "--o0:0;--o1:1;" in page.replace("\n", ""), "anna is first by name and second by points"


def index_text(found) -> str:
    return " ".join(Page(html.index_page(found, {})).text.split())


def test_one_row_for_each_learner_whose_last_notebook_counts():
    """Or somebody could hand in a hundred and get the best of all guesses."""
    guesses = [report(f"anna/{number}.ipynb", third=Verdict(FAILED if number % 2 else PASSED)) for number in range(1, 4)]
    last = report("anna/3.ipynb", third=Verdict(FAILED, why="no"))
    unread = refused("anna/4.ipynb")
    found = room(*guesses[:2], last, unread, report("ben.ipynb"))
    assert [(learner.student, found.score(learner)) for learner in found.learners] == [("anna", 400), ("ben", 600)]
    page = " ".join(Page(html.learner_page(found.learners[0])).text.split())
    why = "of lesson 90 the last notebook counts: anna/3.ipynb"
    assert page.count(f"This notebook does not count: {why}.") == 2
    assert all(f"anna/{number}.ipynb, sha256" in page for number in range(1, 5))
    assert page.count("hidden check 1") == 1, "each of a hundred would tell something of the hidden checks"
    assert "Do not count: 2 Of one learner and lesson the last notebook by name counts." in index_text(found)
    assert f"anna/1.ipynb: {why} anna/2.ipynb: {why}" in index_text(found)
    rows = list(csv.DictReader(io.StringIO(tables.exercises_csv(found, {}).decode())))
    assert [(row["state"], row["message"]) for row in rows if row["notebook"] == "anna/1.ipynb"] == [("not counted", why)]
    suites = ET.fromstring(platforms.junit(found))
    assert [(suite.get("tests"), suite.get("skipped"), suite.get("errors")) for suite in suites][:4] == [
        ("1", "1", "0"),
        ("1", "1", "0"),
        ("3", "0", "0"),
        ("1", "0", "1"),
    ]


@pytest.mark.parametrize("size", [(1, 500), (200, 1)], ids=["one with many notebooks", "many learners"])
def test_pages_take_time_in_proportion(size):
    def seconds(times: int) -> float:
        learners, notebooks = (number * times if number > 1 else 1 for number in size)
        mine = [(f"{who}/{number}.ipynb", who) for who in range(learners) for number in range(notebooks)]
        one = report()
        reports = [replace(one, submission=replace(one.submission, id=Untrusted(id))) for id, _ in mine]
        found, before = room(*reports), time.process_time()
        html.index_page(found, {})
        html.learner_page(found.learners[0])
        tables.exercises_csv(found, {})
        platforms.junit(found)
        return time.process_time() - before

    assert min(seconds(4) for _ in range(2)) < 9 * min(seconds(1) for _ in range(2)), "four times as much"


def test_what_was_not_handed_in_is_to_do():
    found = room(report(), refused())
    assert [one.state for one in found.of(found.learners[1]).values()] == [TO_DO, TO_DO]


@pytest.mark.parametrize(
    ("verdicts", "words"),
    [
        ({}, "Every exercise is solved."),
        ({"third": Verdict(FAILED, why="the head did not learn")}, "1 of 2 exercises are solved. Next: 90.2, train the head."),
        ({"first": Verdict(TO_DO), "second": Verdict(TO_DO), "third": Verdict(TO_DO)}, "Nothing is solved yet"),
        ({"third": Verdict(FAILED, why="the head did not learn")}, "the head did not learn"),
        ({"second": Verdict(FAILED, why=CANARY)}, "hidden check 1: 0 of 2 points"),
        ({"third": Verdict(ERROR, raised=Raised("KeyError", "'x'", 4))}, "it stopped in line 4 of your cell KeyError: 'x'"),
        (
            {"third": Verdict(ERROR, raised=Raised("NameError", "name 'hepl' is not defined", 2))},
            "it stopped in line 2 of your cell because `hepl` is missing: is it spelt right?",
        ),
        (
            {"third": Verdict(ERROR, why=OWN_CELL, raised=Raised("NameError", "name 'help_me' is not defined", 2))},
            "it stopped in line 2 of your cell because `help_me` is missing: your notebook makes it in another cell",
        ),
        (
            {"third": Verdict(ERROR, raised=Raised("RuntimeError", "Boolean value of Tensor with more than one value", 3))},
            "it stopped in line 3 of your cell: comparing two tensors gives as many answers as they have values",
        ),
        ({}, "What your cell printed (its end) printed <b>this</b>"),
        ({}, "90.2: there is no cell of this exercise"),
    ],
)
def test_a_learner_reads_what_was_measured(verdicts, words):
    page = html.learner_page(room(report(**verdicts)).learners[0])
    assert words in " ".join(Page(page).text.split())
    assert CANARY.encode() not in page


# -------------------------------------------------------------------------------------------------------------- CSV

NAMES = [
    "=cmd|' !A0",
    "+1",
    "-1",
    "@SUM(A1)",
    "\tx",
    "x\r\x1b[2J\x01",
    'a,"b"\n;c',
    "Åse",
    "\u202ex",
    "plain",
    "a'b",
    "x;=1+1",
    "y|@z",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("write", [tables.grades_csv, partial(tables.exercises_csv, claims={})], ids=["grades", "exercises"])
def test_names_survive_and_are_no_formulas(name, write):
    data = write(room(report(f"{name}.ipynb", first=Verdict(FAILED, why="-1 is not 1"))))
    assert data.endswith(b"\r\n")
    rows = list(csv.DictReader(io.StringIO(data.decode("utf-8"), newline="")))
    for row in rows:
        shown = re.sub("[\r\x1b\x01]", "", name)  # a terminal is not steered
        assert next(iter(row.values())).replace("'", "") == shown.replace("'", "")
        assert all(not value.startswith(("=", "+", "-", "@", "\t", "\r")) for value in row.values()), row
    for row in csv.reader(io.StringIO(data.decode("utf-8"), newline=""), delimiter=";"):  # as Excel in many countries
        assert not any(cell.startswith(("=", "+", "@")) for cell in row), row


def test_the_table_of_grades():
    data = tables.grades_csv(room(report(first=Verdict(PARTIAL, Fraction(1, 3), "a third")), refused()))
    anna, walter = csv.DictReader(io.StringIO(data.decode()))
    assert (anna["90.1"], anna["90.2"], anna["total"], anna["max"], anna["percent"]) == ("2.66", "2.00", "4.66", "6.00", "77")
    assert (anna["partial"], anna["passed"], anna["to_do"]) == ("1", "1", "0")
    assert anna["feedback"] == "90.1: partly right; 90.2: passed"
    assert (walter["gradable"], walter["total"], walter["to_do"]) == ("no", "0.00", "2")


def test_the_table_of_checks_names_what_was_refused():
    rows = list(csv.DictReader(io.StringIO(tables.exercises_csv(room(report(), refused()), {}).decode())))
    assert rows[-1].items() >= {"student": "walter", "state": "not gradable", "message": "it is no JSON; save it again"}.items()
    assert {None} & rows[-1].keys() == set(), "as many columns as the header has"


def test_the_table_of_checks_hides_what_is_hidden():
    data = tables.exercises_csv(room(report(second=Verdict(FAILED, why=CANARY))), {"90.1": ["calls", "modes"]})
    assert CANARY not in data.decode()
    rows = list(csv.DictReader(io.StringIO(data.decode())))
    assert [(row["check"], row["hidden"], row["state"], row["self_reported"]) for row in rows] == [
        ("90.1", "no", "passed", "calls modes"),
        ("90.1.h1", "yes", "failed", ""),
        ("90.2", "no", "passed", ""),
    ]


# ------------------------------------------------------------------------------------------------------------ JUnit


@pytest.mark.parametrize("payload", [*PAYLOADS, "\x00\x1b\ufffe\ud800"])
def test_junit_is_xml_and_counts(payload):
    bad = report(f"{payload.replace('/', '|')}.ipynb", first=Verdict(ERROR, why=payload), third=Verdict(FAILED, why=payload))
    root = ET.fromstring(platforms.junit(room(bad, report())))
    assert (root.get("tests"), root.get("failures"), root.get("errors"), root.get("skipped")) == ("6", "1", "1", "0")
    assert {case.tag for case in root.iter()} == {"testsuites", "testsuite", "testcase", "failure", "error"}
    assert len(root.findall("testsuite")) == 2


def test_who_reads_junit_sees_a_refused_notebook_fail():
    """A suite without tests would be green."""
    root = ET.fromstring(platforms.junit(room(report(), refused())))
    assert [(suite.get("name"), suite.get("tests"), suite.get("errors")) for suite in root] == [
        ("anna/03.ipynb", "3", "0"),
        ("walter.ipynb", "1", "1"),
    ]
    assert root.find(".//error").get("message") == "it is no JSON; save it again"
    assert (root.get("tests"), root.get("errors")) == ("4", "1")


# --------------------------------------------------------------------------------------------------------- terminal


def test_the_terminal_gets_no_character_that_steers_it():
    payload = "\x1b]52;c;x\x07\x1b[31m\u202e\x9b\r[bold]"
    text = terminal.terminal(report(first=Verdict(ERROR, why=f"it stopped{payload}"), third=Verdict(FAILED, why="no")))
    assert all(c == "\n" or c.isprintable() for c in text), repr(text)
    assert "◐ 90.1  freeze the backbone" in text
    assert "        it stopped]52;c;x[31m[bold]" in text
    assert text.endswith("2 of 6 points; isolation full (FORK, NS)")
    text = terminal.terminal(report(third=Verdict(ERROR, raised=Raised("E\x1b[1m", "a\nb\x07", 3))))
    assert "        it stopped in line 3 of your cell\n        E[1m: a b\n" in text


def test_a_refusal_in_the_terminal():
    assert terminal.terminal(refused()) == "not gradable: it is no JSON; save it again"


# --------------------------------------------------------------------------------------------------- hidden checks

HIDDEN = {
    "passed": Verdict(PASSED, Fraction(1)),
    "fails": Verdict(FAILED, why=CANARY),
    "stops": Verdict(ERROR, why=CANARY, raised=Raised(CANARY, CANARY, 3)),
    "late": Verdict(TIMEOUT, why=CANARY),
    "waits": Verdict(SKIPPED, why=CANARY),
}
PUBLIC = [
    Verdict(PASSED, Fraction(1)),
    Verdict(PARTIAL, Fraction(1, 2), "half"),
    Verdict(FAILED),
    Verdict(TIMEOUT),
    Verdict(TO_DO),
]


def every_form(one) -> dict[str, bytes]:
    """All that people and platforms read of a class with one report."""
    found = room(one)
    return {
        "page": html.learner_page(found.learners[0]),
        "index": html.index_page(found, {}),
        "grades.csv": tables.grades_csv(found),
        "exercises.csv": tables.exercises_csv(found, {}),
        "junit": platforms.junit(found),
        "gradescope": platforms.gradescope([one]),
        "classroom": platforms.github([one]),
        "markdown": platforms.markdown([one]),
        "terminal": terminal.terminal(one).encode(),
    }


@pytest.mark.parametrize("public", PUBLIC, ids=lambda verdict: verdict.state)
def test_of_a_hidden_check_only_its_points_can_be_read(public):
    """No form tells an answer that fails from one that stops, is late or waits: one bit of the probe's text for each try."""
    forms = {name: every_form(report(first=public, second=verdict)) for name, verdict in HIDDEN.items()}
    assert forms["fails"] == forms["stops"] == forms["late"] == forms["waits"]
    for name, text in forms["passed"].items():
        assert CANARY.encode() not in text + forms["fails"][name]
        assert name == "grades.csv" or b"hidden check 1" not in text.lower() or b"2 of 2 points" in text
    said = terminal.terminal(report(first=public, second=HIDDEN["late"]))
    assert "        hidden check 1: 0 of 2 points\n" in said


def test_a_page_says_the_same_of_a_hidden_check_that_passes_and_one_that_stops_but_for_points():
    """An answer that is partly right either way: all words are equal once the numbers are gone."""
    pages = [
        html.learner_page(room(report(first=Verdict(PARTIAL, Fraction(1, 2), "half"), second=second)).learners[0]).decode()
        for second in (HIDDEN["passed"], HIDDEN["stops"])
    ]
    one, other = (re.sub(r"[\d.]+", "#", page) for page in pages)
    assert one == other


# ------------------------------------------------------------------------------------------------ Gradescope, GitHub


def test_gradescopes_results():
    result = json.loads(platforms.gradescope([report(second=Verdict(FAILED, why=CANARY)), refused()]))
    assert CANARY not in str(result)
    assert "score" not in result, "the sum of the tests"
    assert [(test["score"], test["max_score"], test["status"], test["visibility"]) for test in result["tests"]] == [
        (2, 2, "passed", "visible"),
        (0, 2, "failed", "after_published"),
        (2, 2, "passed", "visible"),
    ]
    assert {result["output_format"], result["test_output_format"]} == {"text"}
    allowed = {"number", "name", "score", "max_score", "status", "output", "visibility", "extra_data", "tags", "name_format"}
    assert all(test.keys() <= allowed for test in result["tests"])
    assert json.loads(platforms.gradescope([refused()])) | {"score": 0, "tests": []} == json.loads(
        platforms.gradescope([refused()])
    )
    assert "no notebook" in json.loads(platforms.gradescope([]))["output"]
    assert (
        result["output"] == "anna/03.ipynb: 90.2: there is no cell of this exercise\nwalter.ipynb: it is no JSON; save it again"
    )


@pytest.mark.parametrize("hidden", HIDDEN.values(), ids=HIDDEN)
def test_gradescope_shows_no_hidden_point_before_grades_are_published(hidden):
    """Neither a test, nor the words above all tests, nor a sum, which Gradescope makes itself and holds back."""
    one = report(second=hidden)
    at_once, blank = (json.loads(platforms.gradescope([each])) for each in (one, report(second=Verdict(TO_DO))))
    for result in (at_once, blank):
        result["tests"] = [test for test in result["tests"] if test["visibility"] == "visible"]
    assert at_once == blank


def test_githubs_result():
    result = json.loads(platforms.github([report(third=Verdict(FAILED, why="no")), refused()]))
    assert (result["version"], result["status"], result["max_score"]) == (1, "fail", 6)
    assert [(test["status"], test["score"]) for test in result["tests"]] == [("pass", 4), ("fail", 0), ("error", 0)]
    assert result["tests"][2] == {
        "name": "walter.ipynb",
        "status": "error",
        "score": 0,
        "message": "it is no JSON; save it again",
    }
    assert json.loads(platforms.github([report()]))["status"] == "pass"
    assert json.loads(platforms.github([]))["status"] == "fail", "nothing was handed in"


@pytest.mark.parametrize("payload", [*PAYLOADS, "```\n# x", "a\r\n<b>\u2028<i>"])
def test_a_summary_in_markdown_is_code_from_end_to_end(payload):
    lines = platforms.markdown([hostile(payload), report(first=Verdict(FAILED, why=payload)), refused()]).split(b"\n")
    assert all(line.startswith(b"    ") and b"\r" not in line for line in lines[:-1])
    assert lines[-1] == b""


def test_what_of_the_evidence_is_self_reported():
    """Found in the pattern of each check: flags, counts and texts beside what was returned."""
    found = {id: words.self_reported(check) for id, check in all_checks().items()}
    assert {"modes", "learns", "gradients", "random", "backward", "steps"} <= set(found["04.1"])
    assert found["03.3"] == found["06.3"] == [], "returned values only"
    assert all("modes" in parts for id, parts in found.items() if id in ("01.1", "02.1", "05.1", "06.1")), "a look"
    patterns = ({"after": {str: Tensor}}, bool, [(float, str | None)], {str: bool}, {"learns": {str: bool}, "x": [Tensor]})
    hidden = [words.self_reported(Check("03.1.h1", "f", "", None, None, pattern)) for pattern in patterns]
    assert hidden == [[], ["evidence"], ["evidence"], ["evidence"], ["learns"]]


def test_every_state_has_a_mark_of_its_own():
    assert list(words.MARKS) == list(STATES)
    assert len(set(words.MARKS.values())) == len(STATES)


@pytest.mark.parametrize(("hundredths", "text"), [(0, "0"), (600, "6"), (150, "1.5"), (33, "0.33"), (1005, "10.05")])
def test_points_as_people_write_them(hundredths, text):
    assert words.points(hundredths) == text


def test_no_line_of_a_terminal_begins_with_a_learners_words():
    """Words of a judge may quote an exception whose name its author has chosen."""
    forged = "KeyError\n✓ 90.2  forged   2 of 2\n6 of 6 points; isolation full\u202e\x07"
    one = report(first=Verdict(FAILED, why=forged), second=Verdict(ERROR, raised=Raised(forged, forged, 1)))
    lines = terminal.terminal(one).split("\n")
    assert [line for line in lines if line.startswith("✓") and "forged" in line] == []
    assert sum("points; isolation" in line and not line.startswith(" ") for line in lines) == 1
    found = room(one)
    for text in (html.learner_page(found.learners[0]), tables.exercises_csv(found, {}), platforms.junit(found)):
        assert "\u202e" not in text.decode()
        assert "\x07" not in text.decode()
