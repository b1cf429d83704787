"""The command `course`: what can be asked for. Each command imports what it needs when it is called, so that help is quick.

Everything that is named (lessons, files, folders) is looked at before torch is imported and before anything is written.
"""

from __future__ import annotations

import argparse
import difflib
import gc
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NoReturn

from course_utils.errors import unknown
from course_utils.profiles import PROFILES, settings
from course_utils.tools import lessons
from course_utils.tools.paths import can_be_made, must_be_folder

# -------------------------------------------------------------------------------------------------------- commands


def lab(options: argparse.Namespace) -> int:
    """Open JupyterLab on your own copies of the lessons, in my/; other arguments go to JupyterLab."""
    from course_utils.tools.lab import lab as open_lab

    return open_lab(options)


def update(options: argparse.Namespace) -> int:
    """Fetch newer lessons; your copies in my/ are renewed and keep your answers, guesses and own cells."""
    from course_utils.tools.update import update as run_update

    return run_update(options)


def run(options: argparse.Namespace) -> int:
    """Run lessons, your copies if there are any; print seconds and verdicts; keep the run notebooks in build/."""
    choose_profile(options)
    from course_utils.tools.run import run as run_lessons

    return run_lessons(options)


def build(options: argparse.Namespace) -> int:
    """Build both notebooks of each lesson whose source has changed."""
    sources = lessons.find_lessons(lessons.SOLUTIONS, options.lessons, ".py")
    from nbclient.exceptions import CellExecutionError

    from course_utils.tools.authoring import build as build_lesson
    from course_utils.tools.run import line_in

    for source in sources:
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
    findings = examine(settings(), measured=True)
    print(report(findings, settings().profile))
    return 1 if any(finding.state == "missing" for finding in findings) else 0


def progress(options: argparse.Namespace) -> int:
    """Show which exercises are passed and which are to do."""
    from course_utils.verdict_log import log_file, progress_line, verdicts

    found, passed = verdicts(), 0
    numbers = {path.stem[:2] for path in lessons.find_lessons(lessons.NOTEBOOKS, options.lessons)}
    titles = {id: title for id, title in lessons.exercise_titles().items() if id[:2] in numbers}
    for id, title in titles.items():
        print(progress_line(id, title, found))
        passed += found.get(id) == "passed"
    where = "your copies are in my/" if lessons.MY.is_dir() else "`course lab` makes your copies, in my/"
    print(f"{passed} of {len(titles)} passed, by {log_file()}; {where}")
    return 0


def grade(options: argparse.Namespace) -> int:
    """Grade your copies in my/ into the terminal; or notebooks of other people, with --out into pages and tables."""
    options.mine = False
    if not options.doctor:
        look_at_submissions(options)
    os.environ["PYTHONSAFEPATH"] = (
        "1"  # workers import nothing from the folder where this is called: learners named what is in it
    )
    if (options.mine or str(options.submissions).endswith(".ipynb")) and options.out is None and not options.doctor:
        from course_utils.grader.client import NoIsolation, begin

        with suppress(NoIsolation):  # said below, with what to do
            begin(options.isolation)  # it imports torch while this process does
    gc.disable()  # nothing that an import makes is garbage, and looking for some takes a fifth of its time
    from course_utils.grader.command import grade as run_grade

    gc.enable()
    return run_grade(options)


def look_at_submissions(options: argparse.Namespace) -> None:
    """Find out whether the learner's own copies are meant, and raise `ValueError` for what cannot be read or written."""
    given = Path(options.submissions or lessons.MY)
    options.mine = (options.submissions in (None, "my") and not given.is_dir()) or given.resolve() == lessons.MY.resolve()
    options.mine = options.mine and options.to == "files" and options.out is None
    options.isolation = options.isolation or ("none" if options.mine else "full")  # one's own code runs in Jupyter, too
    if options.mine:
        options.submissions = str(lessons.MY)
        if not any(lessons.MY.glob("[0-9][0-9]_*.ipynb")):
            raise ValueError(
                f"nothing to grade: {lessons.MY} holds no copy of a lesson, `course lab` makes them; "
                "other notebooks: `course grade ONE.ipynb` or `course grade SUBMISSIONS --out DIR`"
            )
    elif not given.exists():
        raise ValueError(f"{given} is not there; give a notebook, a zip, or a folder that holds either")
    elif options.to == "files" and options.out is None and given.suffix != ".ipynb":
        raise ValueError(f"say where the grades of {given} shall go: --out DIR")
    must_be_folder(options.checks, "--checks")
    can_be_made(options.out, "--out", folder=options.to == "files")
    numbers = sorted({id[:2] for id in lessons.exercise_titles()})
    for name in options.lessons or ():
        if name.zfill(2) not in numbers:
            raise unknown("lesson", name, numbers)


def export(options: argparse.Namespace) -> int:
    """Write the course for another grader: gradescope, actions, nbgrader, otter."""
    must_be_folder(options.checks, "--checks")
    from course_utils.tools.export import export as run_export

    return run_export(options)


OPTIONS_OF = {
    "training": ("jobs", "contestants", "quick", "repeats", "threads"),
    "grading": ("submissions", "peers", "isolation"),
}


def bench(options: argparse.Namespace) -> int:
    """Measure beside other libraries: training, or grading; print seconds, memory, accuracy and their ratios."""
    can_be_made(options.json, "--json", folder=False)
    other = "training" if options.what == "grading" else "grading"
    if strange := [name for name in OPTIONS_OF[other] if getattr(options, name)]:
        raise ValueError(f"--{strange[0]} belongs to `course bench {other}`; leave it out, or measure {other}")
    if options.what == "grading":
        from course_utils.tools.grading_bench import bench as run_bench

        return run_bench(options)
    from course_utils.tools.bench.runner import bench as compare

    given = {name: getattr(options, name) for name in OPTIONS_OF["training"]}
    return compare(**given, path=Path(options.json) if options.json else None)


def sweep(options: argparse.Namespace) -> int:
    """Make a table of data/sweeps anew, here or on the workers of a dask scheduler; stopped and begun again, it goes on."""
    choose_profile(options)
    import_module(f"course_utils.experiments.{options.table}").main(scheduler=options.scheduler)
    return 0


def kit(options: argparse.Namespace) -> int:
    """Put everything on a stick for a room without internet, for other systems too."""
    from course_utils.tools.kit import kit as make_kit

    return make_kit(options)


def site(options: argparse.Namespace) -> int:
    """Build the course's site, with pictures, folded answers and the library's reference, into build/site."""
    from course_utils.tools.site import site as build_site

    return build_site(options)


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
        if options.data not in DATA_SETS and not folder.is_dir():
            raise unknown("data set or folder", options.data, DATA_SETS)
        os.environ["COURSE_DATA"] = str(folder.resolve()) if folder.exists() else options.data


# ------------------------------------------------------------------------------------------------------ command line


class Parser(argparse.ArgumentParser):
    """argparse with a guess at what a mistyped command was to be."""

    def error(self, message: str) -> NoReturn:
        typed = next((word for word in sys.argv[1:] if f"'{word}'" in message), "")
        names = [name for action in self._actions if isinstance(action.choices, dict) for name in action.choices]
        near = difflib.get_close_matches(typed, names, n=1, cutoff=0.6)
        super().error(message + (f"; did you mean `course {near[0]}`?" if near else ""))


class Version(argparse.Action):
    """`--version`: of the course, and of the Python that runs it."""

    def __init__(self, option_strings: list[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="show the version of the course and end")

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        try:
            number = version("fine-tuning-course")
        except PackageNotFoundError:
            number = "not installed"
        print(f"course {number}, Python {sys.version.split()[0]}")
        parser.exit()


def parser() -> argparse.ArgumentParser:
    main = Parser(prog="course", description="Fine-tuning pretrained CNNs: open, run, build and check the course.")
    main.add_argument("--version", action=Version)
    commands = main.add_subparsers(metavar="COMMAND")

    def add(command: Callable[[argparse.Namespace], int]) -> Callable[..., Any]:
        one = commands.add_parser(command.__name__, help=command.__doc__, description=command.__doc__)
        one.set_defaults(command=command)
        return one.add_argument

    add(lab)
    argument = add(update)
    argument("--only-my", action="store_true", help="fetch nothing: renew the copies in my/ from the lessons that are here")
    for command in (run, build, doctor, progress):
        argument = add(command)
        if command is not doctor:
            argument("lessons", nargs="*", metavar="NN", help="lessons such as 03 (default: all)")
        if command in (run, doctor):
            argument("--profile", choices=PROFILES, help="tiny (default) or full")
            argument("--data", help="for the profile full: eurosat, pets, flowers102 or a folder of class folders")
        if command is run:
            argument("--solutions", action="store_true", help="the notebooks with answers")
            argument("--fresh", action="store_true", help="the lessons as shipped, even where my/ has copies")
        if command is build:
            argument("--again", action="store_true", help="also lessons whose source has not changed")
    add(site)
    add_bench(add)
    add_grading(add)
    add_kit(add)
    add_board(add)
    argument = add(sweep)
    argument("table", choices=TABLES, help="which table of data/sweeps")
    argument("--scheduler", metavar="URL", help="train on the workers of this dask scheduler, such as tcp://host:8786")
    argument("--profile", choices=PROFILES, help="tiny (default) or full")
    argument("--data", help="for the profile full: eurosat, pets, flowers102 or a folder of class folders")
    return main


def add_kit(add: Callable) -> None:
    argument = add(kit)
    argument("folder", metavar="DIR", help="the stick, or a folder to copy onto it; the same command again goes on there")
    systems, pythons = ("linux", "linux-arm64", "windows", "macos"), ("3.11", "3.12", "3.13", "3.14")
    argument("--platform", nargs="+", choices=systems, help="for which systems (default: this one)")
    argument("--python", nargs="+", choices=pythons, help="for which Pythons (default: this one)")
    argument("--cpu", action="store_true", help="on Linux PyTorch without CUDA: 3 GB less, and no GPU")


DATA_SETS = ("eurosat", "pets", "flowers102")  # of `data.NAMED`
TABLES = ("freezing", "keras_twin", "rates", "sizes", "two_phases")  # modules of `experiments`
LEVELS = ("full", "basic", "none")


def add_grading(add: Callable) -> None:
    argument = add(grade)
    argument("submissions", nargs="?", metavar="SUBMISSIONS", help="a notebook, a zip, or a folder of them (default: my/)")
    argument("--out", metavar="DIR", help="where pages and tables go; the same command again continues there")
    argument("--jobs", type=positive, metavar="N", help="worker processes (default: what cores and memory allow)")
    argument("--seed", metavar="S", help="draw the same questions as an earlier run (default: a new secret one)")
    argument("--checks", metavar="DIR", help="a folder with hidden checks")
    argument("--lessons", nargs="+", metavar="NN", help="what was asked for (default: whatever was handed in)")
    argument("--isolation", choices=LEVELS, help="what the sandbox must give (default: full; for my/ none)")
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
    argument("--jobs", nargs="+", metavar="NAME", help="training: head, many, layer4, everything, vgg16, sweep (default: all)")
    argument("--contestants", nargs="+", metavar="NAME", help="training: plain, fit, reuse, lightning, … (default: installed)")
    argument("--repeats", type=int, metavar="N", help="training: runs of each (default: 2, or 1 if quick)")
    argument("--threads", type=int, metavar="N", help="training: threads of each run (default: one per core)")
    argument("--submissions", type=positive, metavar="N", help="grading: how many notebooks (default: 60)")
    argument("--peers", metavar="PYTHON", help="grading: a Python that has otter-grader and nbgrader (default: this one)")
    argument("--isolation", choices=LEVELS, help="grading: what the sandbox must give (default: full)")


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def main(arguments: list[str] | None = None) -> int:
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # some terminals have no ✓
    options, rest = parser().parse_known_args(arguments)
    options.rest = rest
    if not hasattr(options, "command"):
        if rest:
            parser().error(f"unknown arguments {rest}")
        parser().print_help()
        return 0
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
