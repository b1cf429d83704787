"""`course lab | run | build | doctor | progress | grade | export | sweep | bench`: each imports what it needs when called."""

from __future__ import annotations

import argparse
import gc
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from course_utils.errors import unknown
from course_utils.profiles import HOME, PROFILES, settings

NOTEBOOKS, SOLUTIONS, BUILD = HOME / "notebooks", HOME / "solutions", HOME / "build"


def lessons(folder: Path, wanted: list[str], suffix: str = ".ipynb") -> list[Path]:
    """The lessons in `folder` whose name begins with one of `wanted` (3 is 03), or all.

    Raises:
        ValueError: if there is no such lesson.
    """
    found = sorted(folder.glob(f"[0-9][0-9]_*{suffix}"))
    if not found:
        raise ValueError(f"{folder} holds no lesson (NN_name{suffix}); `git checkout {folder.name}` brings them back")
    names = tuple(name.zfill(2) if name.isdigit() else name for name in wanted)
    for name in names:
        if not any(path.stem.startswith(name) for path in found):
            raise unknown("lesson", name, [path.stem for path in found])
    return [path for path in found if not names or path.stem.startswith(names)]


# -------------------------------------------------------------------------------------------------------- commands


def lab(options: argparse.Namespace) -> int:
    """Open JupyterLab on the first lesson; other arguments go to JupyterLab."""
    first = lessons(NOTEBOOKS, [])[0].name
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={HOME}", "--LabApp.news_url=None"]
    command += [f"--LabApp.default_url=/lab/tree/notebooks/{first}", *options.rest]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # in a container there is nobody else
    if sys.platform == "win32":
        return subprocess.call(command)
    os.execv(sys.executable, command)  # so that Ctrl-C reaches JupyterLab alone


def run(options: argparse.Namespace) -> int:
    """Run lessons from top to bottom; print seconds and verdicts; keep the run notebooks in build/."""
    choose_profile(options)
    runs = []
    for path in lessons(SOLUTIONS if options.solutions else NOTEBOOKS, options.lessons):
        runs.append(run_notebook(path))
        print(runs[-1], flush=True)
    wrong = [one.lesson for one in runs if one.faults or (options.solutions and set(one.verdicts.values()) - {"passed"})]
    seconds, exercises = sum(one.seconds for one in runs), sum(len(one.verdicts) for one in runs)
    print(f"lessons: {len(runs)}, verdicts: {exercises}, {seconds:.0f} s; the run notebooks are in {BUILD}")
    if wrong:
        print(f"course: something is wrong in {', '.join(wrong)}", file=sys.stderr)
    return 1 if wrong else 0


def build(options: argparse.Namespace) -> int:
    """Build both notebooks of each lesson whose source has changed."""
    from nbclient.exceptions import CellExecutionError

    from course_utils.tools.authoring import build as build_lesson

    for source in lessons(SOLUTIONS, options.lessons, ".py"):
        try:
            print(f"{source.stem}: {'built' if build_lesson(source, again=options.again) else 'is current'}", flush=True)
        except CellExecutionError as error:
            print(f"{source.stem}: a cell stopped with {error.ename}: {error.evalue}\n{line_in(error.traceback)}")
            return 1
    return 0


def doctor(options: argparse.Namespace) -> int:
    """Show what this machine has, what is missing and what that means; not zero if a lesson could not run."""
    from course_utils.tools.doctor import examine, report

    choose_profile(options)
    findings = examine(settings())
    print(report(findings, settings().profile))
    return 1 if any(finding.state == "missing" for finding in findings) else 0


def progress(options: argparse.Namespace) -> int:
    """Show which exercises are passed and which are to do."""
    from course_utils.checks import progress as show

    for path in lessons(NOTEBOOKS, options.lessons):
        show(path.stem[:2])
    return 0


def grade(options: argparse.Namespace) -> int:
    """Grade notebooks of other people: pages and tables with --out, one notebook into the terminal without."""
    os.environ["PYTHONSAFEPATH"] = (
        "1"  # workers import nothing from the folder where this is called: learners named what is in it
    )
    if str(options.submissions).endswith(".ipynb") and options.out is None and not options.doctor:
        from course_utils.grader.client import NoIsolation, begin

        with suppress(NoIsolation):  # said below, with what to do
            begin(options.isolation)  # it imports torch while this process does
    gc.disable()  # nothing that an import makes is garbage, and looking for some takes a fifth of its time
    from course_utils.grader.command import grade as run_grade

    gc.enable()
    return run_grade(options)


def export(options: argparse.Namespace) -> int:
    """Write the course for another grader: gradescope, actions, nbgrader, otter."""
    from course_utils.tools.export import export as run_export

    return run_export(options)


def bench(options: argparse.Namespace) -> int:
    """Measure beside other libraries: training, or grading; print seconds, memory, accuracy and their ratios."""
    if options.what == "grading":
        from course_utils.tools.grading_bench import bench as run_bench

        return run_bench(options)
    from course_utils.tools.bench.runner import bench as compare

    given = {name: getattr(options, name) for name in ("jobs", "contestants", "quick", "repeats", "threads")}
    return compare(**given, path=Path(options.json) if options.json else None)


def sweep(options: argparse.Namespace) -> int:
    """Make a table of data/sweeps anew, here or on the workers of a dask scheduler; stopped and begun again, it goes on."""
    choose_profile(options)
    import_module(f"course_utils.experiments.{options.table}").main(scheduler=options.scheduler)
    return 0


def board(options: argparse.Namespace) -> int:
    """Show on one page where the room is stuck, from learners who have agreed with `course join`."""
    from course_utils.tools.board.command import board as show

    return show(options)


def join(options: argparse.Namespace) -> int:
    """Let the instructor's board see your verdicts; without an address, show what is sent now."""
    from course_utils.tools.board.command import join as run_join

    return run_join(options)


def leave(options: argparse.Namespace) -> int:
    """Send no verdicts any more, and ask the board to forget you."""
    from course_utils.tools.board.command import leave as run_leave

    return run_leave(options)


def choose_profile(options: argparse.Namespace) -> None:
    """Put `--profile` and `--data` where the course reads them, here and in the kernels."""
    if options.profile:
        os.environ["COURSE_PROFILE"] = options.profile
    if options.data:
        if settings().profile != "full":
            raise ValueError("--data is for the profile full; add --profile full")
        folder = Path(options.data).expanduser()
        os.environ["COURSE_DATA"] = str(folder.resolve()) if folder.exists() else options.data


# ----------------------------------------------------------------------------------------------- running a notebook


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


def run_notebook(path: Path) -> Run:
    """Run the notebook at `path`; its verdicts are appended to the file that `COURSE_GRADES` names, if it names one."""
    from course_utils.checks.progress import verdicts
    from course_utils.tools.authoring import environment

    target = BUILD / path.parent.name / path.name
    target.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        grades = Path(scratch) / "grades.jsonl"
        try:
            with environment(COURSE_GRADES=str(grades), TQDM_DISABLE="1"):
                faults = fault_of(path, target)
        finally:  # also when stopped by hand
            unwritten = pass_on(grades)
        found = verdicts(grades)
    silent = [] if faults else [id for id in exercises_of(path) if id not in found]
    if silent:
        faults = [f"no verdict on {', '.join(silent)}: is there a check cell, and is it run?"]
    return Run(path.stem, time.monotonic() - started, found, faults + unwritten)


def pass_on(grades: Path) -> list[str]:
    """Append the verdicts in `grades` to the file of the user's `COURSE_GRADES`; why that failed in a line, or nothing."""
    from course_utils.checks.progress import append

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


def fault_of(path: Path, target: Path) -> list[str]:
    """Run the notebook at `path` into `target`; what stopped it in a line or two, or nothing."""
    import papermill
    from papermill.exceptions import PapermillExecutionError

    from course_utils.tools.kernels import PatientKernelManager

    try:
        papermill.execute_notebook(
            path,
            target,
            cwd=path.parent,
            kernel_name="python3",
            progress_bar=False,
            execution_timeout=600,
            extra_arguments=["--IPKernelApp.log_level=40"],
            kernel_manager_class=PatientKernelManager,
        )
    except PapermillExecutionError as error:
        where = line_in("\n".join(error.traceback)) or "    " + error.source.splitlines()[0]
        return [f"cell [{error.exec_count}] stopped with {error.ename}: {error.evalue}", where]
    except Exception as error:
        return [f"it stopped with {type(error).__name__}: {(str(error) or 'no message').splitlines()[0]}"]
    return []


def line_in(traceback: str) -> str:
    """The line of the cell at which IPython's traceback points first, or nothing."""
    found = re.search(r"^-+> *(\d+) (.*)$", re.sub(r"\x1b\[[\d;]*m", "", traceback), re.MULTILINE)
    return f"    line {found[1]}: {found[2].strip()}" if found else ""


def exercises_of(path: Path) -> list[str]:
    """The ids of the exercises of a lesson: those that have a check, and those that its notebook sets."""
    import nbformat

    from course_utils.checks import all_checks

    cells = nbformat.read(path, as_version=4).cells
    cells = [cell for cell in cells if "exercise" in cell.metadata.get("tags", [])]
    set_here = re.findall(r"^# Exercise (\S+)", "\n".join(cell.source for cell in cells), re.MULTILINE)
    return sorted({id for id in all_checks() if id.startswith(path.stem[:2] + ".")} | set(set_here))


# ------------------------------------------------------------------------------------------------------ command line


def parser() -> argparse.ArgumentParser:
    main = argparse.ArgumentParser(prog="course", description="Fine-tuning pretrained CNNs: run, build and check the course.")
    commands = main.add_subparsers(required=True, metavar="COMMAND")

    def add(command: Callable[[argparse.Namespace], int]) -> Callable[..., Any]:
        one = commands.add_parser(command.__name__, help=command.__doc__, description=command.__doc__)
        one.set_defaults(command=command)
        return one.add_argument

    add(lab)
    for command in (run, build, doctor, progress):
        argument = add(command)
        if command is not doctor:
            argument("lessons", nargs="*", metavar="NN", help="lessons such as 03 (default: all)")
        if command in (run, doctor):
            argument("--profile", choices=PROFILES, help="tiny (default) or full")
            argument("--data", help="for the profile full: eurosat, pets, flowers102 or a folder of class folders")
        if command is run:
            argument("--solutions", action="store_true", help="the notebooks with answers")
        if command is build:
            argument("--again", action="store_true", help="also lessons whose source has not changed")
    add_bench(add)
    add_grading(add)
    add_board(add)
    argument = add(sweep)
    argument("table", choices=TABLES, help="which table of data/sweeps")
    argument("--scheduler", metavar="URL", help="train on the workers of this dask scheduler, such as tcp://host:8786")
    argument("--profile", choices=PROFILES, help="tiny (default) or full")
    argument("--data", help="for the profile full: eurosat, pets, flowers102 or a folder of class folders")
    return main


TABLES = ("freezing", "keras_twin", "sizes", "two_phases")  # modules of `experiments`
LEVELS = ("full", "basic", "none")


def add_grading(add: Callable) -> None:
    argument = add(grade)
    argument("submissions", nargs="?", metavar="SUBMISSIONS", help="a notebook, a zip, or a folder of them")
    argument("--out", metavar="DIR", help="where pages and tables go; the same command again continues there")
    argument("--jobs", type=positive, metavar="N", help="worker processes (default: what cores and memory allow)")
    argument("--seed", metavar="S", help="draw the same questions as an earlier run (default: a new secret one)")
    argument("--checks", metavar="DIR", help="a folder with hidden checks")
    argument("--lessons", nargs="+", metavar="NN", help="what was asked for (default: whatever was handed in)")
    argument("--isolation", choices=LEVELS, default="full", help="what the sandbox must give (default: full)")
    argument("--scheduler", metavar="URL", help="grade on the workers of this dask scheduler, such as tcp://host:8786")
    argument("--to", choices=("files", "gradescope", "actions"), default="files", help="write for a platform instead")
    argument("--doctor", action="store_true", help="show which layers of the sandbox work here and how to get the rest")
    argument = add(export)
    argument("out", metavar="OUT", help="the zip or folder to write; must not be there yet")
    argument("--to", choices=("gradescope", "actions", "nbgrader", "otter"), required=True, help="whose grader")
    argument("--checks", metavar="DIR", help="a folder with hidden checks, for gradescope")


def add_board(add: Callable) -> None:
    argument = add(board)
    argument("--host", default="127.0.0.1", metavar="ADDRESS", help="the address to listen on (default: this machine only)")
    argument("--port", type=int, default=8765, metavar="N", help="the port (default: 8765)")
    argument("--lessons", nargs="+", metavar="NN", help="show these only (default: all)")
    argument("--folder", metavar="DIR", help="read a shared folder instead, for a room without a network of its own")
    argument("--words", action="store_true", help="ask learners to send the sentences of the checks, too")
    argument = add(join)
    argument("where", nargs="?", metavar="ADDRESS", help="http://… as the instructor shows it, or a shared folder")
    argument("key", nargs="?", metavar="KEY", help="the key that stands behind the address")
    argument("--name", metavar="NAME", help="your name on the board (default: a made-up one)")
    argument("--words", action="store_true", help="also send the sentence that a check prints")
    add(leave)


def add_bench(add: Callable) -> None:
    argument = add(bench)
    argument("what", nargs="?", choices=("training", "grading"), default="training", help="what to measure (default: training)")
    argument("--json", metavar="FILE", help="also write everything there")
    argument("--quick", action="store_true", help="training: small, ours and the plain loop only, two minutes")
    argument("--jobs", nargs="+", metavar="NAME", help="training: head, layer4, everything, vgg16, sweep (default: all)")
    argument("--contestants", nargs="+", metavar="NAME", help="training: plain, fit, reuse, lightning, … (default: installed)")
    argument("--repeats", type=int, metavar="N", help="training: runs of each (default: 2, or 1 if quick)")
    argument("--threads", type=int, metavar="N", help="training: threads of each run (default: one per core)")
    argument("--submissions", type=positive, default=60, metavar="N", help="grading: how many notebooks (default: 60)")
    argument("--peers", metavar="PYTHON", help="grading: a Python that has otter-grader and nbgrader (default: this one)")
    argument("--isolation", choices=LEVELS, default="full", help="grading: what the sandbox must give (default: full)")


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def main(arguments: list[str] | None = None) -> int:
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # some terminals have no ✓
    options, rest = parser().parse_known_args(arguments)
    options.rest = rest
    if rest and options.command is not lab:
        parser().error(f"unknown arguments {rest}; see `course {options.command.__name__} --help`")
    try:
        return options.command(options)
    except (ValueError, OSError) as error:
        print(f"course: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("course: stopped by hand", file=sys.stderr)
        return 130


def console() -> NoReturn:
    """The command `course`. An ordinary end would first take torch to pieces, which takes a second."""
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    if "torch" in sys.modules:
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    console()
