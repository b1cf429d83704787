"""The pages outside the lessons: links lead somewhere, pictures are those that the code draws, numbers those measured."""

import io
import json
import re
from functools import cache
from statistics import mean

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from course_utils.experiments import freezing
from course_utils.grader.output.words import titles
from course_utils.profiles import HOME
from course_utils.tools import poster
from course_utils.tools.authoring import read_source
from course_utils.tools.bench.jobs import Job
from course_utils.tools.bench.report import rows_of, summary

TEXT = (HOME / "README.md").read_text(encoding="utf-8")
LINKS = re.findall(r"\]\(([^)#:]+)\)", TEXT)
BENCHMARK = HOME / "docs" / "benchmark.md"
BENCH = json.loads((HOME / "data" / "bench" / "result.json").read_text(encoding="utf-8"))
PAGES = [HOME / "README.md", HOME / "CONTRIBUTING.md", *sorted((HOME / "docs").glob("*.md"))]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


@each_page
def test_links_lead_to_files(page):
    for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link


OLD_ENGLISH = r"(?i)\b(shall|whoever|by lot|for want of|merit|makes the same of|learn on|company|kept features)\b"


@each_page
def test_pages_are_in_todays_english_and_a_network_is_a_model(page):
    text = " ".join(page.read_text(encoding="utf-8").split())
    assert re.findall(OLD_ENGLISH, text) == []
    assert re.findall(r"(?i)\b(?:without a|no|needs? a) network\b", text) == [], "write online or offline"


# ------------------------------------------------------------------------------------------------- the first screen


def test_the_first_screen_shows_both_worlds_what_it_costs_and_how_to_start():
    first = TEXT[: TEXT.index("make test")]
    assert len(first.splitlines()) <= 28
    alt = re.search(r"!\[([^]]+)\]\(docs/two-worlds\.png\)", first)[1]
    assert all(name.split()[-1] in alt for name in poster.SHAPES)
    for words in ("3.15 GB", "0.27 GB", "9 GB", "6 GB", "Clone", "make lab"):
        assert words in first


def test_the_picture_is_what_the_code_draws():
    """Within what another version of a font changes."""
    blob, anew = poster.PATH.read_bytes(), poster.png_of(poster.poster())
    assert len(blob) <= 150_000
    shipped, drawn = (np.asarray(Image.open(io.BytesIO(one)).convert("RGB"), dtype=float) for one in (blob, anew))
    assert shipped.shape == drawn.shape, "run `python -m course_utils.tools.poster`"
    assert np.abs(shipped - drawn).mean() < 2, "run `python -m course_utils.tools.poster`"


# ----------------------------------------------------------------------------------------------------- the lessons


MINUTES, TRAINING = 6, 12  # for an exercise, and for one that trains; see tests/test_lessons.py


@cache
def stated() -> dict[str, tuple[int, dict[str, int]]]:
    """By lesson the minutes that its first cell states, and those of each exercise."""
    found = {}
    for source in sorted((HOME / "solutions").glob("[0-9][0-9]_*.py")):
        cells = read_source(source).cells
        texts = [cell.source for cell in cells if "exercise" in cell.metadata.get("tags", [])]
        exercises = {
            re.match(r"# Exercise (\S+)", text)[1]: TRAINING if re.search(r"\bfit\(|\.backward\(", text) else MINUTES
            for text in texts
        }
        found[source.stem[:2]] = int(re.search(r"^(\d+) minutes", cells[0].source, re.MULTILINE)[1]), exercises
    return found


def test_the_lessons_of_the_table_have_the_titles_of_the_notebooks():
    """The pages of the grader show them too."""
    assert dict(re.findall(r"^\| (\d\d) \| \[([^]]+)\]", TEXT, re.MULTILINE)) == titles()


def test_the_minutes_of_the_table_are_those_that_the_lessons_state():
    table = re.findall(r"^\| (\d\d) \| \[[^|]*\| (\d+) \|", TEXT, re.MULTILINE)
    assert {lesson: int(minutes) for lesson, minutes in table} == {lesson: minutes for lesson, (minutes, _) in stated().items()}


INSTRUCTORS = HOME / "docs" / "instructors.md"


@cache
def core_path() -> dict[str, tuple[int, list[str], int]]:
    """By lesson of the instructors' table: all its minutes, the exercises of the core path, and the minutes of half a day."""
    page = INSTRUCTORS.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d\d) [^|]*\| (\d+) \|([^|]*)\|([^|]*)\| (\d+) \|$", page, re.MULTILINE)
    found = {}
    for lesson, minutes, core, left, rest in rows:
        whole, exercises = stated()[lesson]
        core, left = re.findall(r"★ ([\d.]+)", core), re.findall(r"\d\d\.\d+", left)
        assert sorted([*core, *left]) == sorted(exercises)
        half = whole - sum(exercises[id] for id in left) if core else 0  # one without a star is done at home
        assert (int(minutes), int(rest)) == (whole, half)
        found[lesson] = whole, core, half
    return found


def test_half_a_day_is_what_the_lessons_state_without_the_exercises_left_out():
    half = {lesson: minutes for lesson, (_, _, minutes) in core_path().items()}
    total, parts = sum(whole for whole, _ in stated().values()), [sum(half[id] for id in ids) for ids in SESSIONS]
    words = " ".join(INSTRUCTORS.read_text(encoding="utf-8").split())
    assert half.keys() == stated().keys()
    assert f"| together | {total} | | | {sum(parts)} |" in words
    assert "00 to 02 take {} minutes, 03 and 04 take {}, and 06 takes {}.".format(*parts) in words
    assert f"you need {sum(parts) + 30} minutes" in words
    assert sum(parts) + 30 <= 250
    assert f"All lessons together take {total} minutes. [A plan for half a day](docs/instructors.md) needs {sum(parts)}" in TEXT


def plan(heading: str) -> tuple[list[tuple[str, int, str, str]], str]:
    """The rows of a plan of the handbook, and the words below its heading."""
    page = (HOME / "docs" / "handbook.md").read_text(encoding="utf-8")
    (part,) = re.findall(rf"^## {heading}\n(.*?)^## ", page, re.DOTALL | re.MULTILINE)
    rows = re.findall(r"^\| (\d+:\d\d) \| (\d+) \| ([^|]+) \| ([^|]*)\|$", part, re.MULTILINE)
    return [(time, int(minutes), what, which.strip()) for time, minutes, what, which in rows], " ".join(part.split())


@pytest.mark.parametrize("heading", ["Half a day", "A day"])
def test_the_plans_of_the_handbook_add_up(heading):
    """Each row begins when the one above it ends, and a lesson has the minutes that it states for the exercises named."""
    rows, words = plan(heading)
    now, lessons, pauses, rest = 9 * 60, 0, 0, []
    for time, minutes, what, which in rows:
        assert time == f"{now // 60}:{now % 60:02}", what
        now += minutes
        if what.startswith("lesson "):
            whole, core, half = core_path()[what.removeprefix("lesson ")]
            assert (minutes, which) == ((whole, "all") if heading == "A day" else (half, ", ".join(core))), what
            lessons += minutes
        elif what in ("break", "lunch"):
            pauses += minutes
        else:
            rest.append(minutes)
    begin, end = rest
    assert rows[0][1] == begin, "the rest is the beginning"
    assert rows[-1][1] == end, "and the end"
    assert f"That is {now - 9 * 60} minutes: {lessons} of lessons, {pauses} of breaks" in words
    assert f"and {begin} to begin and {end} to end." in words


def test_the_plans_of_the_handbook_pause_and_name_what_is_left_for_later():
    half, day = plan("Half a day")[0], plan("A day")[0]
    assert [what[-2:] for _, _, what, _ in half if "lesson" in what[:6]] == [
        id for id, (_, _, left) in core_path().items() if left
    ]
    left = sorted(stated().keys() - {what[-2:] for _, _, what, _ in day})
    assert "Lessons {}, {} and {} are for later.".format(*left) in plan("A day")[1]
    for rows in (half, day):
        sitting = 0
        for _, minutes, what, _ in rows:
            sitting = 0 if what in ("break", "lunch") else sitting + minutes
            assert sitting <= 120, "two hours, then a break"


SESSIONS = (("00", "01", "02"), ("03", "04"), ("06",))


def test_every_lesson_is_in_the_table():
    for source in (HOME / "solutions").glob("[0-9][0-9]_*.py"):
        assert f"notebooks/{source.stem}.ipynb" in LINKS
        assert f"solutions/{source.stem}.ipynb" in LINKS


def test_the_numbers_of_lesson_06_are_those_of_its_table():
    pair = r"([\d.]+) and ([\d.]+)"
    words = re.search(
        rf"From scratch {pair} of the test pictures are right; with a new head alone {pair}; "
        rf"with the last stage and the head {pair}\.",
        " ".join(TEXT.split()),
    )
    said = [float(number) for number in words.groups()]
    rows = [row for row in freezing.read_table("tiny") if row["test"] is not None]
    for place, name in enumerate(("scratch", "head", "layer4 + head")):
        for half, per_class in enumerate((5, 20)):
            scores = [row["test"] for row in rows if (row["configuration"], row["per_class"]) == (name, per_class)]
            assert said[2 * place + half] == pytest.approx(mean(scores), abs=0.006)


# --------------------------------------------------------------------------------------------------- the benchmark


def test_the_speeds_are_those_of_one_run():
    text = BENCHMARK.read_text(encoding="utf-8")
    for table in summary(BENCH).split("\n\n"):
        assert table in text, f"put this table into {BENCHMARK.name}:\n{table}"
    words = " ".join(text.split())
    assert f"measured on {BENCH['date'][:10]}" in words
    for package in ("torch", "torchvision", "lightning", "fastai", "transformers", "keras"):
        assert f"{package} {BENCH['versions'][package]}" in words
    assert BENCH["machine"]["processor"] in words
    assert not [row for row in BENCH["rows"] if row["void"]], "a row that did another job has no place here"


def test_the_rows_are_the_medians_of_the_runs():
    jobs = [Job.read(json.dumps(job)) for job in BENCH["jobs"]]
    assert [row for job in jobs for row in map(vars, rows_of(job, BENCH["runs"]))] == BENCH["rows"]


def cpu(job: str, contestant: str) -> float:
    (found,) = [row["cpu"] for row in BENCH["rows"] if (row["job"], row["contestant"]) == (job, contestant)]
    return found


def test_the_speeds_on_the_first_page_are_in_the_table():
    said = re.search(
        r"a plain loop takes about (\d+) times the CPU seconds for a new head on ResNet-18, and (\d+) times on 6,000\.",
        " ".join(TEXT.split()),
    )
    measured = [cpu(job, "plain") / cpu(job, "reuse") for job in ("head", "many")]
    assert [int(number) for number in said.groups()] == [round(one) for one in measured]


def test_what_is_spent_whatever_the_number_of_pictures_is_measured():
    """From two jobs that differ in nothing but their pictures, of which one has ten times as many."""
    words = " ".join(BENCHMARK.read_text(encoding="utf-8").split())
    said = re.search(r"Of our ([\d.]+) seconds for a new head, ([\d.]+) are spent on comparing", words)
    few, many = cpu("head", "reuse"), cpu("many", "reuse")
    assert [float(number) for number in said.groups()] == pytest.approx([few, few - (many - few) / 9], abs=0.051)


class Own(torch.utils.data.Dataset):
    """A data set of one's own, whose features are not stored, since a later run could not recognise it."""

    def __len__(self):
        return 10

    def __getitem__(self, i):
        return torch.full((3, 32, 32), i / 10), i % 5


def test_the_code_for_ones_own_model_runs(tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", BENCHMARK.read_text(encoding="utf-8"), re.DOTALL)
    load, loader = torchvision.models.resnet18, torch.utils.data.DataLoader(Own(), 4)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torchvision.models, "resnet18", lambda weights: load())
    names = {"train_loader": loader, "val_loader": loader}
    exec(code, names)
    torch.testing.assert_close(torch.load("model.pt"), names["model"].state_dict())
    assert names["frozen"].conv1 is names["model"].conv1, "it was cut"
