"""`course grade`: reads submissions, grades them, writes what instructors and learners read."""

from __future__ import annotations

import argparse
import base64
import importlib.util
import os
import secrets
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tqdm import tqdm

from course_utils.checks import lessons
from course_utils.errors import unknown
from course_utils.files import write_atomic
from course_utils.grader.grading import Job, make_job
from course_utils.grader.intake.archive import Upload, read_once, read_submissions, safe_name
from course_utils.grader.output.classroom import Classroom, Learner, classroom
from course_utils.grader.output.html import index_page, learner_page
from course_utils.grader.output.platforms import github, gradescope, junit, markdown
from course_utils.grader.output.tables import exercises_csv, grades_csv
from course_utils.grader.output.terminal import terminal
from course_utils.grader.output.words import line, self_reported
from course_utils.grader.probes import checks_for
from course_utils.grader.records import Report, named, read_report, refusal
from course_utils.grader.runner import grade_many, refuse_other_lessons, stored_seed
from course_utils.grader.sandbox.levels import LAYERS, NoIsolation, level_of
from course_utils.grader.sandbox.selftest import facts

GRADED, SOME_NOT_GRADABLE, OUR_FAULT, NO_ISOLATION = 0, 1, 3, 4


def grade(options: argparse.Namespace) -> int:
    """Grade notebooks: into a folder of pages and tables with --out, one notebook into the terminal without."""
    if options.doctor:
        return show_doctor()
    uploads = own_copies(options) if options.mine else read_submissions(Path(options.submissions), options.to == "files")
    if options.scheduler and importlib.util.find_spec("distributed") is None:
        raise ValueError("--scheduler needs the package distributed: `pip install distributed`, here and on the workers")
    out = Path(options.out).resolve() if options.out and options.to == "files" else None
    if out and out.is_relative_to(Path(options.submissions).resolve()):
        raise ValueError(f"--out {options.out} lies among the submissions; give a folder beside them")
    try:
        job = make_job(seed_for(options), options.isolation, options.checks, known_lessons(options.lessons))
        if options.to == "files" and options.out:
            return grade_class(uploads, job, options)
        return grade_few(uploads, job, options)
    except NoIsolation as error:
        print(f"course: {error}\n{NO_ISOLATION_HELP}", file=sys.stderr)
        return NO_ISOLATION


NO_ISOLATION_HELP = """Nothing was graded. `course grade --doctor` shows every layer and how to get it.
--isolation basic demands less; --isolation none runs the notebooks as programs of yours: for your own work only."""


def own_copies(options: argparse.Namespace) -> list[Upload]:
    """The learner's copies in my/ of the lessons asked for; what lies beside them, such as earlier copies, is not graded."""
    paths = sorted(Path(options.submissions).glob("[0-9][0-9]_*.ipynb"))
    wanted = known_lessons(options.lessons) or [path.stem[:2] for path in paths]
    return [Upload(path.name, read_once(path)) for path in paths if path.stem[:2] in wanted]


def known_lessons(wanted: list[str] | None) -> list[str]:
    names = [name.zfill(2) for name in wanted or ()]
    for name in set(names) - set(lessons()):
        raise unknown("lesson", name, lessons())
    return names


def seed_for(options: argparse.Namespace) -> str:
    """The seed asked for, else the one of an earlier run into the same folder, else a new secret one."""
    earlier = stored_seed(Path(options.out)) if options.out and options.to == "files" else None
    return options.seed or earlier or secrets.token_hex(16)


def grade_class(uploads: Iterable[Upload], job: Job, options: argparse.Namespace) -> int:
    out = Path(options.out)
    refuse_other_lessons(out, job)
    try:
        with tqdm(desc="graded", unit="notebook", disable=None) as bar:
            reports, faults = graded(uploads, job, options.jobs, out, options.scheduler, lambda _: bar.update())
    except KeyboardInterrupt:
        print("\nstopped; the same command again goes on from here", file=sys.stderr)
        raise
    if reports:
        write_class(classroom(reports), job, out)
    refused = [report for report in reports if not report.gradable]
    print(f"graded: {len(reports) - len(refused)}, not gradable: {len(refused)}; open {out / 'index.html'}")
    for report in refused:
        print(f"  not gradable: {line(f'{report.submission.id.untrusted}: {report.reason}')}")
    return exit_code(reports, faults)


def graded(uploads: Iterable[Upload], job: Job, jobs: int | None, out: Path, *rest: Any) -> tuple[list[Report], list[str]]:
    """The reports that `grade_many` writes, in the order of the uploads, and its faults."""
    names: dict[str, str] = {}  # of the files about each upload

    def noted() -> Iterator[Upload]:
        for upload in uploads:
            names[safe_name(upload.name)] = upload.name
            yield upload

    faults = grade_many(noted(), job, jobs, out, *rest)
    paths = {name: out / "reports" / f"{name}.json" for name in names}
    reports = [read_report(path.read_bytes()) for path in paths.values() if path.exists()]
    for name in (name for name, path in paths.items() if not path.exists() and reports):
        reports.append(named(refusal(b"", reports[0].grader, NOT_GRADED), names[name], name))
    return reports, faults


NOT_GRADED = "we could not grade this; your instructor has been told"


def write_class(room: Classroom, job: Job, out: Path) -> None:
    """Write every file of the run, each whole or not at all; pages of learners who are gone are removed."""
    checks = [check for lesson in sorted({id[:2] for id in room.exercises}) for check in checks_for(lesson, job.hidden)]
    claims = {check.id: parts for check in checks if (parts := self_reported(check))}
    files = {f"learners/{learner.name}.html": learner_page(learner) for learner in room.learners}
    for path in (out / "learners").glob("*.html"):
        if f"learners/{path.name}" not in files:
            path.unlink()
    files |= {"index.html": index_page(room, claims), "exercises.csv": exercises_csv(room, claims)}
    files |= {"grades.csv": grades_csv(room), "junit.xml": junit(room)}
    (out / "learners").mkdir(mode=0o700, exist_ok=True)
    for name, content in files.items():
        write_atomic(out / name, content)


def exit_code(reports: list[Report], faults: list[str]) -> int:
    """What the command ends with; names what failed on our side."""
    for fault in faults:
        print(f"course: the grader failed at {line(fault)}", file=sys.stderr)
    gradable = bool(reports) and all(report.gradable for report in reports)
    return OUR_FAULT if faults else GRADED if gradable else SOME_NOT_GRADABLE


# ------------------------------------------------------------------------------------- one notebook, or one platform


def grade_few(uploads: Iterable[Upload], job: Job, options: argparse.Namespace) -> int:
    """Grade what one learner handed in, for the terminal or a platform that calls us once for each submission."""
    uploads = list(uploads)
    with TemporaryDirectory() as out:
        reports, faults = graded(uploads, job, 0, Path(out), None, lambda _: None, lambda _: "the learner")
    whole = Learner("", tuple(sorted(reports, key=lambda report: report.submission.id.untrusted)))
    counting = [report for report in whole.reports if not report.gradable or not whole.why_not(report)]
    lost = len(reports) < len(uploads) or any(report.reason == NOT_GRADED for report in reports)
    if options.to == "files" or not lost:  # else a platform keeps what says that the grader did not finish
        PLATFORMS[options.to](counting, options.out)
    return exit_code(counting, faults)


def to_terminal(reports: list[Report], out: str | None) -> None:
    print("\n".join(map(terminal, reports)))


def to_gradescope(reports: list[Report], out: str | None) -> None:
    write_atomic(Path(out or "results.json"), gradescope(reports))


def to_actions(reports: list[Report], out: str | None) -> None:
    """The report into the step's summary, the result into a file and the step's output; nothing into the log, which obeys."""
    result = github(reports)
    written = {"GITHUB_STEP_SUMMARY": markdown(reports), "GITHUB_OUTPUT": b"result=" + base64.b64encode(result) + b"\n"}
    for name, content in written.items():
        if name in os.environ:
            with open(os.environ[name], "ab") as file:
                file.write(content)
    write_atomic(Path(out or "result.json"), result)


PLATFORMS = {"files": to_terminal, "gradescope": to_gradescope, "actions": to_actions}


def show_doctor() -> int:
    """Show which layers of the sandbox work here; not zero if `full` is not reached."""
    found = facts()
    for fact in found:
        why, advice = fact.why and f": {fact.why}", fact.advice and f"\n       → {fact.advice}"
        print(f"{'✓' if fact.works else '✗'} {fact.layer:<4} {LAYERS[fact.layer]}{why}{advice}")
    level = level_of(fact.layer for fact in found if fact.works)
    print(f"This machine reaches isolation {level}.", *([] if level == "full" else [MORE]), sep="\n")
    return GRADED if level == "full" else NO_ISOLATION


MORE = """To get more, grade in a container of its own:
  docker run --rm --network none --read-only --cap-drop ALL --cap-add SETUID --cap-add SETGID --cap-add CHOWN --cap-add KILL \\
    --security-opt no-new-privileges --pids-limit 256 --memory 8g --tmpfs /tmp -v "$PWD":/course -w /course IMAGE \\
    course grade SUBMISSIONS --out DIR --isolation basic
On Windows use WSL 2, where everything is as on Linux; on macOS a container or a virtual machine."""
