"""The benchmark: its notebook is right and differs each time, and its numbers are what they say."""

import json
import re

import nbformat
import pytest

from course_utils.grader import client
from course_utils.grader.evidence import Job
from course_utils.grader.intake.answers import read_answers
from course_utils.profiles import HOME
from course_utils.tools import cli
from course_utils.tools import grading_bench as bench


def blob(number: int) -> bytes:
    return nbformat.writes(bench.notebook(number)).encode()


def test_its_notebooks_hold_the_answers_and_differ():
    assert list(read_answers(blob(1)).answers) == list(bench.EXERCISES)
    assert read_answers(blob(1)).answers != read_answers(blob(2)).answers


def test_medians_and_quartiles_in_milliseconds():
    assert bench.numbers([0.1, 0.2, 0.3, 0.4, 0.5]) == {"median_ms": 300.0, "quartiles_ms": [200.0, 400.0], "calls": 5}
    assert bench.numbers([0.1])["median_ms"] == 100.0


def test_a_peer_that_is_not_installed_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "version_of", lambda python, package: "")
    assert bench.peers_of("python", tmp_path) == []


def test_wrong_answers_are_no_benchmark(monkeypatch):
    body = json.dumps({"exercises": []}).encode()
    monkeypatch.setattr(bench, "grade_one", lambda *_: (body, b""))
    monkeypatch.setattr(bench, "read_report", lambda body: type("R", (), {"exercises": ()}))
    with pytest.raises(ValueError, match="a benchmark of wrong answers says nothing"):
        bench.ours(Job("s"), range(1))


def test_our_part_of_the_benchmark(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "peers_of", lambda *_: [])
    assert cli.main(["bench", "grading", "--submissions", "3", "--isolation", "none", "--json", str(tmp_path / "b.json")]) == 0
    client.close_servers()
    result = json.loads((tmp_path / "b.json").read_text())["graders"]["course grade"]
    assert result["calls"] == 3
    assert 0 < result["quartiles_ms"][0] <= result["median_ms"] <= result["quartiles_ms"][1]
    assert re.search(r"^\| course grade \| \d[\d,]* \|.*\| 1\.0 \|$", capsys.readouterr().out, re.MULTILINE)


def test_the_speeds_on_the_instructors_page_are_those_of_one_run():
    """At least 20 times as fast as each of the others one by one, and 10 times in bulk."""
    found = json.loads((HOME / "data" / "bench" / "grading.json").read_text(encoding="utf-8"))
    page = (HOME / "docs" / "instructors.md").read_text(encoding="utf-8")
    assert bench.summary(found) in page, f"put this table into docs/instructors.md:\n{bench.summary(found)}"
    for package, version in found["versions"].items():
        assert f"{package} {version}" in " ".join(page.split())
    assert f"{found['cold_ms'] / 1000:.1f} s" in page
    times = {name: one["median_ms"] for name, one in found["graders"].items()}
    mine = times.pop("course grade")
    assert min(times["otter run"], times["nbgrader autograde"]) > 20 * mine
    assert times[f"nbgrader autograde, {bench.BULK} at once"] > 10 * mine
