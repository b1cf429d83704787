"""`course lab | run | build | doctor | progress`: thin; each command imports what it needs when it is called."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from course_utils.profiles import HOME, PROFILES

NOTEBOOKS, SOLUTIONS, BUILD = HOME / "notebooks", HOME / "solutions", HOME / "build"


def lab(options: argparse.Namespace, rest: list[str]) -> int:
    """Open JupyterLab on the first lesson; other arguments go to JupyterLab."""
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={HOME}", "--LabApp.news_url=None"]
    return subprocess.call([*command, f"--LabApp.default_url=/lab/tree/notebooks/{lessons(NOTEBOOKS, [])[0].name}", *rest])


def lessons(folder: Path, wanted: list[str]) -> list[Path]:
    """The notebooks of `folder` whose name begins with one of `wanted`, or all."""
    from course_utils.errors import unknown

    found = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    for name in wanted:
        if not any(path.stem.startswith(name) for path in found):
            raise unknown("lesson", name, [path.stem for path in found])
    return [path for path in found if not wanted or any(path.stem.startswith(name) for name in wanted)]


def run(options: argparse.Namespace, rest: list[str]) -> int:
    """Run lessons from top to bottom; print seconds and verdicts; keep the run notebooks in build/."""
    for name, value in (("COURSE_PROFILE", options.profile), ("COURSE_DATA", options.data)):
        if value:
            os.environ[name] = value
    results = [run_one(path) for path in lessons(SOLUTIONS if options.solutions else NOTEBOOKS, options.lessons)]
    return 0 if all(results) else 1


def run_one(path: Path) -> bool:
    import papermill
    from papermill.exceptions import PapermillExecutionError

    from course_utils.checks.progress import verdicts

    target = BUILD / path.parent.name / path.name
    target.parent.mkdir(parents=True, exist_ok=True)
    grades = target.with_suffix(".jsonl")
    grades.unlink(missing_ok=True)
    os.environ["COURSE_GRADES"], os.environ["TQDM_DISABLE"] = str(grades), "1"
    started = time.time()
    try:
        papermill.execute_notebook(
            path, target, cwd=path.parent, kernel_name="python3", progress_bar=False, execution_timeout=600
        )
        state = "  ".join(f"{id} {verdict}" for id, verdict in verdicts(grades).items())
    except PapermillExecutionError as error:
        state = f"FAILED in cell {error.cell_index}: {error.ename}: {error.evalue}"
    print(f"{path.stem:<36} {time.time() - started:5.1f} s  {state}", flush=True)
    return not state.startswith("FAILED")


def build(options: argparse.Namespace, rest: list[str]) -> int:
    """Build both notebooks of each lesson whose source has changed."""
    from course_utils.authoring import build as build_lesson

    for source in sorted(SOLUTIONS.glob("[0-9][0-9]_*.py")):
        if not options.lessons or any(source.stem.startswith(name) for name in options.lessons):
            print(f"{source.stem}: {'built' if build_lesson(source, again=options.again) else 'is current'}", flush=True)
    return 0


def progress(options: argparse.Namespace, rest: list[str]) -> int:
    """Show which exercises are passed and which are to do."""
    from course_utils.checks import progress as show

    show()
    return 0


def parser() -> argparse.ArgumentParser:
    main = argparse.ArgumentParser(prog="course", description="Fine-tuning pretrained CNNs: run, build and check the course.")
    commands = main.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in (lab, run, build, progress):
        one = commands.add_parser(command.__name__, help=command.__doc__, description=command.__doc__)
        one.set_defaults(command=command)
        if command in (run, build):
            one.add_argument("lessons", nargs="*", metavar="NN", help="lessons such as 03 (default: all)")
        if command is run:
            one.add_argument("--solutions", action="store_true", help="the notebooks with answers")
            one.add_argument("--profile", choices=PROFILES, help="tiny (default) or full")
            one.add_argument("--data", help="for the profile full: eurosat, pets, flowers102 or a folder of class folders")
        if command is build:
            one.add_argument("--again", action="store_true", help="also lessons whose source has not changed")
    return main


def main(arguments: list[str] | None = None) -> int:
    options, rest = parser().parse_known_args(arguments)
    if rest and options.command is not lab:
        parser().error(f"unknown arguments {rest}; see `course {options.command.__name__} --help`")
    try:
        return options.command(options, rest)
    except (ValueError, OSError) as error:
        print(f"course: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
