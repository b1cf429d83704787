"""`course run`: lessons from top to bottom, each in a kernel of its own; seconds, verdicts and what went wrong."""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from course_utils.tools import lessons
from course_utils.tools.lessons import find_lessons
from course_utils.verdict_log import append, verdicts


def run(options: argparse.Namespace) -> int:
    paths, where = chosen(options)
    print(f"running {where}", flush=True)
    runs = []
    for one in shown(paths):
        runs.append(one)
        print(one, flush=True)
    wrong = [one.lesson for one in runs if one.faults or (options.solutions and set(one.verdicts.values()) - {"passed"})]
    seconds, exercises = sum(one.seconds for one in runs), sum(len(one.verdicts) for one in runs)
    print(f"lessons: {len(runs)}, verdicts: {exercises}, {seconds:.0f} s; the run notebooks are in {lessons.BUILD}")
    if wrong:
        print(f"course: something is wrong in {', '.join(wrong)}", file=sys.stderr)
    return 1 if wrong else 0


def chosen(options: argparse.Namespace) -> tuple[list[Path], str]:
    """The notebooks to run, and a line about them: answers, lessons as shipped, or the learner's copies where there are any."""
    if options.solutions:
        return find_lessons(lessons.SOLUTIONS, options.lessons), "the lessons with answers, in solutions/"
    shipped = find_lessons(lessons.NOTEBOOKS, options.lessons)
    paths = [mine if not options.fresh and (mine := lessons.MY / path.name).exists() else path for path in shipped]
    own = sum(path.parent == lessons.MY for path in paths)
    if not own:
        return paths, "the lessons as shipped, in notebooks/"
    rest = "" if own == len(paths) else f", and {len(paths) - own} of which there is none, in notebooks/"
    return paths, f"your copies, in my/{rest} (--fresh: the lessons as shipped)"


def shown(paths: list[Path]) -> Iterator[Run]:
    """Run each notebook; on a terminal a bar says which one, and how many of its cells are done."""
    for number, path in enumerate(paths, 1):
        yield run_notebook(path, bar=f"{path.stem}, {number} of {len(paths)}" if sys.stderr.isatty() else "")


@dataclass
class Run:
    """One notebook run from top to bottom: the verdict of each exercise, and what went wrong."""

    lesson: str
    seconds: float = 0.0
    verdicts: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        verdicts = "  ".join(f"{id} {verdict}" for id, verdict in self.verdicts.items())
        return "\n    ".join([f"{self.lesson:<36} {self.seconds:5.1f} s  {verdicts}", *self.faults])


def run_notebook(path: Path, bar: str = "") -> Run:
    """Run the notebook at `path`; its verdicts are appended to the file that `COURSE_GRADES` names, if it names one."""
    from course_utils.tools.authoring import environment

    target = lessons.BUILD / path.parent.name / path.name
    target.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        grades = Path(scratch) / "grades.jsonl"
        try:
            with environment(COURSE_GRADES=str(grades), TQDM_DISABLE="1"):
                faults = fault_of(path, target, bar)
        finally:  # also when stopped by hand
            unwritten = pass_on(grades)
        found = verdicts(grades)
    silent = [] if faults else [id for id in exercises_of(path) if id not in found]
    if silent:
        faults = [f"no verdict on {', '.join(silent)}: is there a check cell, and is it run?"]
    return Run(path.stem, time.monotonic() - started, found, faults + unwritten)


def pass_on(grades: Path) -> list[str]:
    """Append the verdicts in `grades` to the file of the user's `COURSE_GRADES`; why that failed in a line, or nothing."""
    wanted = os.environ.get("COURSE_GRADES")
    if not wanted or not grades.exists():
        return []
    try:
        for line in grades.read_text(encoding="utf-8").splitlines():
            append(Path(wanted), line)
    except OSError as error:
        return [
            f"the verdicts could not be appended to COURSE_GRADES={wanted} ({error.strerror}): name a file that you may write"
        ]
    return []


def fault_of(path: Path, target: Path, bar: str = "") -> list[str]:
    """Run the notebook at `path` into `target`; what stopped it in a line or two, or nothing."""
    import papermill
    from papermill.exceptions import PapermillExecutionError

    from course_utils.tools.kernels import PatientKernelManager, end_kernels

    # `disable` outranks TQDM_DISABLE, which is for the bars of the lesson
    progress: Any = {"desc": bar, "leave": False, "disable": False} if bar else False
    try:
        papermill.execute_notebook(
            path,
            target,
            cwd=path.parent,
            kernel_name="python3",
            progress_bar=progress,
            execution_timeout=600,
            extra_arguments=["--IPKernelApp.log_level=40"],
            kernel_manager_class=PatientKernelManager,
        )
    except PapermillExecutionError as error:
        where = line_in("\n".join(error.traceback)) or "    " + error.source.splitlines()[0]
        return [f"cell [{error.exec_count}] stopped with {error.ename}: {error.evalue}", where]
    except Exception as error:
        return [f"it stopped with {type(error).__name__}: {(str(error) or 'no message').splitlines()[0]}"]
    finally:
        end_kernels()
    return []


def line_in(traceback: str) -> str:
    """The line of the cell at which IPython's traceback points first, or nothing."""
    found = re.search(r"^-+> *(\d+) (.*)$", re.sub(r"\x1b\[[\d;]*m", "", traceback), re.MULTILINE)
    return f"    line {found[1]}: {found[2].strip()}" if found else ""


def exercises_of(path: Path) -> list[str]:
    """The ids of the exercises of a lesson: those that have a check, and those that its notebook sets."""
    import nbformat

    cells = nbformat.read(path, as_version=4).cells
    cells = [cell for cell in cells if "exercise" in cell.metadata.get("tags", [])]
    set_here = re.findall(r"^# Exercise (\S+)", "\n".join(cell.source for cell in cells), re.MULTILINE)
    return sorted({id for id in lessons.exercise_titles() if id.startswith(path.stem[:2] + ".")} | set(set_here))
