"""The pages outside the lessons: links lead somewhere, pictures are those that the code draws, numbers those measured."""

import base64
import io
import json
import re
from statistics import mean

import nbformat
import numpy as np
import pytest
from PIL import Image

from course_utils.experiments import freezing
from course_utils.profiles import HOME
from course_utils.tools import poster
from course_utils.tools.bench.report import summary

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
    for words in ("2.6 GB", "9 GB", "6 GB", "Clone", "make lab"):
        assert words in first


def test_the_picture_is_what_the_code_draws():
    """Within what another version of a font changes."""
    blob, anew = poster.PATH.read_bytes(), poster.png_of(poster.poster())
    assert len(blob) <= 150_000
    shipped, drawn = (np.asarray(Image.open(io.BytesIO(one)).convert("RGB"), dtype=float) for one in (blob, anew))
    assert shipped.shape == drawn.shape, "run `python -m course_utils.tools.poster`"
    assert np.abs(shipped - drawn).mean() < 2, "run `python -m course_utils.tools.poster`"


def test_the_two_numbers_are_those_that_lesson_00_prints():
    notebook = nbformat.read(HOME / "solutions" / "00_start_here.ipynb", as_version=4)
    printed = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    said = re.search(r"\*\*([\d.]+) → ([\d.]+)\*\*", TEXT).groups()
    for number, way in zip(said, ("scratch", "head"), strict=True):
        measured = [float(found) for found in re.findall(rf"\b{way}(?:: your guess [\d.]+, measured)? (0\.\d\d)", printed)]
        assert float(number) == pytest.approx(mean(measured), abs=0.0051)


# ----------------------------------------------------------------------------------------------------- the lessons


def test_every_lesson_is_in_the_table():
    for source in (HOME / "solutions").glob("[0-9][0-9]_*.py"):
        assert f"notebooks/{source.stem}.ipynb" in LINKS
        assert f"solutions/{source.stem}.ipynb" in LINKS


def test_the_picture_is_one_that_lesson_06_shows():
    notebook = nbformat.read(HOME / "solutions" / "06_exercise_freezing.ipynb", as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    shown = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    picture = (HOME / "data" / "sweeps" / "freezing.png").read_bytes()
    assert picture in [base64.b64decode(data) for data in shown], (
        "copy the last picture of lesson 06 to data/sweeps/freezing.png"
    )


def test_the_numbers_beside_the_picture_are_those_of_the_table():
    words = re.search(
        r"scratch reaches ([\d.]+) and ([\d.]+).* backbone ([\d.]+) and ([\d.]+), .* head ([\d.]+) and ([\d.]+)\]", TEXT
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
    assert summary(BENCH) in text, f"put this table into {BENCHMARK.name}:\n{summary(BENCH)}"
    words = " ".join(text.split())
    assert f"measured on {BENCH['date'][:10]}" in words
    for package in ("torch", "torchvision", "lightning", "fastai", "transformers", "keras"):
        assert f"{package} {BENCH['versions'][package]}" in words
    assert BENCH["machine"]["processor"] in words
    assert not [row for row in BENCH["rows"] if row["void"]], "a row that did another job has no place here"


def test_the_speed_on_the_first_page_is_in_the_table():
    (said,) = re.findall(r"takes (\d+) times the CPU seconds for a new head on ResNet-18", " ".join(TEXT.split()))
    (measured,) = (row["to_reuse"] for row in BENCH["rows"] if (row["job"], row["contestant"]) == ("head", "plain"))
    assert int(said) == int(measured)
