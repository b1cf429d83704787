"""The README: its links lead somewhere, and its picture is one that a lesson shows."""

import base64
import json
import re
from statistics import mean

import nbformat
import pytest

from course_utils.experiments import freezing
from course_utils.profiles import HOME
from course_utils.tools.bench.report import summary

TEXT = (HOME / "README.md").read_text(encoding="utf-8")
LINKS = re.findall(r"\]\(([^)#:]+)\)", TEXT)


@pytest.mark.parametrize("link", LINKS)
def test_links_lead_to_files(link):
    assert (HOME / link).exists()


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


def test_the_speeds_are_those_of_one_run():
    found = json.loads((HOME / "data" / "bench" / "result.json").read_text(encoding="utf-8"))
    assert summary(found) in TEXT, f"put this table into the README:\n{summary(found)}"
    words = " ".join(TEXT.split())
    assert f"measured on {found['date'][:10]}" in words
    for package in ("torch", "torchvision", "lightning", "fastai", "transformers", "keras"):
        assert f"{package} {found['versions'][package]}" in words
    assert found["machine"]["processor"] in words
    assert not [row for row in found["rows"] if row["void"]], "a row that did another job has no place here"
