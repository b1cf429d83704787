"""`course bench grading`: how long one submission takes us, and otter-grader and nbgrader, with the same notebook in one run.

The notebook is as small as it can be: imports, a trivial exercise (03.3) and one with torch (03.1), their two checks. So the
other graders, which run every cell, do not pay for the lesson around the exercises.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from course_utils.checks import all_checks
from course_utils.grader.grading import Job, grade_one, make_job, version
from course_utils.grader.intake.answers import blank_cells
from course_utils.grader.intake.notebook import cell_name
from course_utils.grader.records import read_report
from course_utils.profiles import HOME
from course_utils.tools.authoring import nbgrader_metadata
from course_utils.tools.export import NBGRADER_CONFIG, otter_name, otter_test, scored, write_text

EXERCISES = ("03.1", "03.3")
SUBMISSIONS, ROUNDS, BULK = 60, 3, 20


def notebook(number: int) -> nbformat.NotebookNode:
    """A solved notebook; each number gives other bytes, so that no result can be used twice."""
    solution = nbformat.read(HOME / "solutions" / "03_freeze.ipynb", as_version=4)
    answers = {cell.id: cell for cell in solution.cells}
    setup = nbformat.v4.new_code_cell(
        f"import torch\nfrom torch import nn\n\nfrom course_utils import check\n\n# {number}", id="setup"
    )
    cells = [setup]
    for id in EXERCISES:
        cells.append(nbformat.v4.new_code_cell(answers[cell_name("exercise", id)].source + f"\n\n# {number}"))
        cells[-1].update(id=cell_name("exercise", id))
        cells[-1].metadata["nbgrader"] = nbgrader_metadata("exercise", cells[-1].id)
        check = all_checks()[id]
        cells.append(nbformat.v4.new_code_cell(blank_cells()[cell_name("check", id)] + "\n" + scored(check)))
        cells[-1].update(id=cell_name("check", id))
        cells[-1].metadata["nbgrader"] = nbgrader_metadata("check", cells[-1].id, points=check.points)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


@dataclass
class Peer:
    """A grader that is called as a program: its seconds per submission for one call, and how many submissions it had."""

    name: str
    folder: Path
    command: Callable[[int], list[str]]
    submissions: int = 1

    def seconds(self, number: int) -> float:
        started = time.perf_counter()
        call(self.command(number), self.folder)
        return (time.perf_counter() - started) / self.submissions


def environment(python: str) -> dict[str, str]:
    """One thread, and the programs beside `python`, which nbgrader calls by name."""
    path = os.pathsep.join([str(Path(python).parent), os.environ.get("PATH", "")])
    return os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "PYTHONPATH": str(HOME), "PATH": path}


def call(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment(command[0]))
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-500:]
        raise ValueError(f"{' '.join(command[1:4])} ended with {done.returncode}: {said}")


def otter(python: str, folder: Path) -> Peer:
    checks = [all_checks()[id] for id in EXERCISES]
    for check in checks:
        write_text(folder / "tests" / f"{otter_name(check.id)}.py", f"OK_FORMAT = True\n\ntest = {otter_test(check)!r}\n")
    for number in range(ROUNDS):
        write_text(folder / f"{number}.ipynb", nbformat.writes(notebook(number)))
        (folder / f"out{number}").mkdir()
    begin = [python, "-m", "otter"]
    call([*begin, "generate", "-t", "tests", "-o", "a.zip"], folder)
    return Peer("otter run", folder, lambda number: [*begin, "run", "-a", "a.zip", "-o", f"out{number}", f"{number}.ipynb"])


def nbgrader(python: str, folder: Path) -> tuple[Peer, Peer]:
    """One submission in a call, and twenty in a call."""
    write_text(folder / "nbgrader_config.py", NBGRADER_CONFIG)
    write_text(folder / "source" / "bench" / "bench.ipynb", nbformat.writes(notebook(0)))
    begin = [python, "-m", "nbgrader"]
    call([*begin, "generate_assignment", "bench"], folder)
    students = [*(f"one{number}" for number in range(ROUNDS)), *(f"many{number}" for number in range(BULK))]
    for number, student in enumerate(students):
        write_text(folder / "submitted" / student / "bench" / "bench.ipynb", nbformat.writes(notebook(number)))
    autograde = [*begin, "autograde", "bench", "--force", "--student"]
    return (
        Peer("nbgrader autograde", folder, lambda number: [*autograde, f"one{number}"]),
        Peer(f"nbgrader autograde, {BULK} at once", folder, lambda number: [*autograde, "many*"], BULK),
    )


def ours(job: Job, numbers: range) -> list[float]:
    """Seconds for each of our submissions, one after the other on one warm worker."""
    found = []
    for number in numbers:
        blob = nbformat.writes(notebook(number)).encode()
        started = time.perf_counter()
        report = read_report(grade_one(blob, job)[0])
        found.append(time.perf_counter() - started)
        passed = [one.id for one in report.exercises if one.state == "passed"]
        if passed != list(EXERCISES):
            raise ValueError(f"only {passed} of {EXERCISES} passed: a benchmark of wrong answers says nothing")
    return found


def peers_of(python: str, folder: Path) -> list[Peer]:
    """The other graders that `python` has."""
    found = [otter(python, folder / "otter")] if version_of(python, "otter-grader") else []
    return [*found, *nbgrader(python, folder / "nbgrader")] if version_of(python, "nbgrader") else found


def version_of(python: str, package: str) -> str:
    """The version of `package` that `python` has; nothing if it has none."""
    program = f"from importlib.metadata import version; print(version({package!r}))"
    return subprocess.run([python, "-c", program], capture_output=True, text=True).stdout.strip()


def bench(options: argparse.Namespace) -> int:
    """Measure in rounds, everybody in each round, so that a busy moment hits all."""
    isolation, submissions = options.isolation or "full", options.submissions or SUBMISSIONS
    folder = Path(tempfile.mkdtemp(prefix="course-bench-"))
    try:
        job = make_job("0" * 32, isolation)
        python = options.peers or sys.executable
        peers = peers_of(python, folder)
        cold = ours(job, range(100_000, 100_001))[0]
        times: dict[str, list[float]] = {"course grade": []}
        for turn in range(ROUNDS):
            share = submissions // ROUNDS
            times["course grade"] += ours(job, range(turn * share, (turn + 1) * share))
            for peer in peers:
                times.setdefault(peer.name, []).append(peer.seconds(turn))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    result = {
        "versions": {name: version_of(python, name) for name in ("otter-grader", "nbgrader", "torch")} | {"course": version()},
        "isolation": isolation,
        "cold_ms": round(1000 * cold),
        "load": os.getloadavg()[0],
        "graders": {name: numbers(seconds) for name, seconds in times.items()},
    }
    print(summary(result))
    print(f"the first submission, with torch to import: {result['cold_ms']:,} ms; load {result['load']:.2f}")
    if options.json:
        write_text(Path(options.json), json.dumps(result, indent=2) + "\n")
    return 0


def numbers(seconds: list[float]) -> dict[str, Any]:
    """Milliseconds per submission: the median and the quartiles."""
    low, median, high = statistics.quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else seconds * 3
    return {
        "median_ms": round(1000 * median, 1),
        "quartiles_ms": [round(1000 * low, 1), round(1000 * high, 1)],
        "calls": len(seconds),
    }


def summary(result: dict[str, Any]) -> str:
    """The table of one run, as the instructor's page has it."""
    mine = result["graders"]["course grade"]["median_ms"]
    rows = ["| | ms per submission | quartiles | times ours |", "|---|---:|---:|---:|"]
    for name, one in result["graders"].items():
        low, high = one["quartiles_ms"]
        rows.append(f"| {name} | {one['median_ms']:,.0f} | {low:,.0f} to {high:,.0f} | {one['median_ms'] / mine:.1f} |")
    return "\n".join(rows)
