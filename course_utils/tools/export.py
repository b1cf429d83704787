"""`course export`: the course for other people's graders. Gradescope and GitHub run ours; nbgrader and otter run their own."""

from __future__ import annotations

import argparse
import io
import pprint
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat

from course_utils.checks import all_checks
from course_utils.checks.spec import Check
from course_utils.errors import BLANK
from course_utils.files import write_atomic
from course_utils.grader.intake.notebook import cell_name
from course_utils.profiles import HOME
from course_utils.tools.authoring import nbgrader_metadata

NEEDED: tuple[str, ...] = (
    "torch",
    "torchvision",
    "numpy",
    "pillow",
    "safetensors",
    "matplotlib",
    "tqdm",
    "scipy",
    "psutil",
    "ipykernel",
)
NEEDED += ("nbformat", "nbclient", "jupytext", "jinja2")
SHIPPED = (
    "course_utils/**/*.py",
    "course_utils/**/*.html",
    "notebooks/*.ipynb",
    "solutions/*.py",
    "data/**/*",
    "pyproject.toml",
)


def export(options: argparse.Namespace) -> int:
    """Write the course for another grader: gradescope (a zip), actions, nbgrader, otter (folders)."""
    out = Path(options.out)
    if out.exists():
        raise ValueError(f"{out} is there already; choose another name or remove it first")
    if options.to != "gradescope" and options.checks:
        raise ValueError(f"--checks is for gradescope; what {options.to} gets can be read by learners")
    hidden = sorted(Path(options.checks).glob("*.py")) if options.checks else []
    if options.checks and not hidden:
        raise ValueError(f"{options.checks} holds no hidden checks (*.py)")
    EXPORTS[options.to](out, hidden)
    print(f"{options.to}: {out}; {NEXT[options.to]}")
    return 0


NEXT = {
    "gradescope": "upload it as the autograder of a programming assignment, base image Ubuntu 24.04",
    "actions": "put it into a private repository, and read its README.md",
    "nbgrader": "it is a course folder for nbgrader; read its README.md",
    "otter": "each lesson's folder has a notebook and its tests; read its README.md",
}


def requirements() -> str:
    """The exact versions that grading needs, out of those of the course."""
    lines = (HOME / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return "".join(f"{line}\n" for line in lines if line.partition("==")[0] in NEEDED)


def shipped() -> Iterator[Path]:
    for pattern in SHIPPED:
        yield from (path for path in sorted(HOME.glob(pattern)) if path.is_file())


# ------------------------------------------------------------------------------------------------------- Gradescope

SETUP = """#!/usr/bin/env bash
# Run once by Gradescope when the autograder is built.
set -euo pipefail
apt-get update && apt-get install -y python3 python3-venv
python3 -m venv /autograder/venv
/autograder/venv/bin/pip install --extra-index-url https://download.pytorch.org/whl/cpu -r /autograder/source/requirements.txt
cp -r /autograder/source/course /autograder/course
chmod -R go=rX /autograder/course /autograder/venv
chmod 700 /autograder/source
"""
RUN = """#!/usr/bin/env bash
# Run by Gradescope for each submission. The container is thrown away afterwards.
mkdir -p /autograder/results
result=/autograder/results/results.json
printf '{"score": 0, "output": "The grader did not finish. Ask your instructor to run it again."}' > "$result"
cd /autograder/course || exit 1
PYTHONPATH=/autograder/course /autograder/venv/bin/python -m course_utils.tools.cli grade /autograder/submission \\
  --to gradescope --out "$result" --isolation basic CHECKS
"""


def to_gradescope(out: Path, hidden: list[Path]) -> None:
    checks = " --checks /autograder/source/hidden" if hidden else ""
    texts = {"setup.sh": SETUP, "run_autograder": RUN.replace(" CHECKS", checks), "requirements.txt": requirements()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            add(archive, name, text.encode(), 0o755 if text.startswith("#!") else 0o644)
        for path in shipped():
            add(archive, f"course/{path.relative_to(HOME).as_posix()}", path.read_bytes())
        for path in hidden:
            add(archive, f"hidden/{path.name}", path.read_bytes(), 0o600)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(buffer.getvalue())


def add(archive: zipfile.ZipFile, name: str, content: bytes, mode: int = 0o644) -> None:
    """Add a file with a fixed date, so that equal content gives equal bytes."""
    info = zipfile.ZipInfo(name, date_time=(2026, 1, 1, 0, 0, 0))
    info.external_attr, info.compress_type = (0o100000 | mode) << 16, zipfile.ZIP_DEFLATED
    archive.writestr(info, content)


# ----------------------------------------------------------------------------------------------------------- GitHub

WORKFLOW = """# Grades the notebooks that a learner pushes. Keep it in a private repository and call it from the learners' ones:
# what stands in a learner's repository is the learner's to change.
name: grade
on:
  workflow_call:
  workflow_dispatch:
permissions:
  contents: read
jobs:
  grade:
    runs-on: ubuntu-24.04
    timeout-minutes: 20
    steps:
      - uses: actions/checkout@v4
        with: {path: submission, persist-credentials: false}
      - uses: actions/checkout@v4
        with: {repository: COURSE_REPOSITORY, path: course, persist-credentials: false}
      - uses: actions/setup-python@v5
        with: {python-version: "3.12", cache: pip}
      - run: pip install --extra-index-url https://download.pytorch.org/whl/cpu -r course/requirements.txt
        working-directory: .
      - name: let the sandbox use namespaces
        run: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0
      - name: grade
        id: grade
        working-directory: course
        run: python -m course_utils.tools.cli grade ../submission --to actions --out ../result.json
      - uses: actions/upload-artifact@v4
        with: {name: result, path: result.json}
"""
ACTIONS_README = """# Grading on GitHub

`.github/workflows/grade.yml` grades what a learner pushed, in the sandbox, without any secret. In it, write the name of
your copy of the course in place of COURSE_REPOSITORY. Put it into a private repository of yours and let the learners'
repositories call it, for a workflow in a learner's repository is the learner's to change.

The step's summary shows the exercises. `result.json`, which is kept as an artifact, holds the points; the step's output
`result` is the same in base64, as GitHub Classroom's reporter reads it.

Hidden checks belong into no repository that learners can read.
"""


def to_actions(out: Path, hidden: list[Path]) -> None:
    write_text(out / ".github" / "workflows" / "grade.yml", WORKFLOW)
    write_text(out / "README.md", ACTIONS_README)


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text)


# ------------------------------------------------------------------------------------------------- nbgrader and otter

WEAKNESS = """These graders run their tests in the learner's own process, so one line of a notebook can give itself full points,
and hidden checks could be read. Only the public checks are in here. Where points matter, use `course grade`.
"""
NBGRADER_README = f"""# The course for nbgrader

Every folder in `source/` is an assignment: `nbgrader generate_assignment 03_freeze`, later `nbgrader autograde 03_freeze`.
The course has to be installed in the Python that runs the notebooks, and its `data/` has to be there.

{WEAKNESS}"""
NBGRADER_CONFIG = f"""c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "fine-tuning"
c.ClearSolutions.code_stub = {{"python": {BLANK!r}}}
c.ExecutePreprocessor.timeout = 600
"""
OTTER_README = f"""# The course for otter-grader

Every folder holds a lesson and `tests/`, one file for each exercise, in otter's OK format. Inside a folder,
`otter generate -t tests -o autograder.zip` makes the autograder, `otter run -a autograder.zip NOTEBOOK.ipynb` grades.
The course has to be installed in the Python that runs the notebooks.

{WEAKNESS}"""


def lessons() -> Iterator[tuple[str, dict[str, Check]]]:
    """The name of each lesson that has exercises, with its checks by id."""
    for path in sorted((HOME / "solutions").glob("[0-9][0-9]_*.ipynb")):
        checks = {id: check for id, check in all_checks().items() if id.startswith(f"{path.stem[:2]}.")}
        if checks:
            yield path.stem, checks


def scored(check: Check) -> str:
    """The lines that an exported check cell ends in: the points of the answer, as the cell's value."""
    return f'from course_utils.checks import score\n\nscore("{check.id}", {check.answer}, points={check.points})'


def to_nbgrader(out: Path, hidden: list[Path]) -> None:
    for lesson, checks in lessons():
        notebook = nbformat.read(HOME / "solutions" / f"{lesson}.ipynb", as_version=4)
        notebook.cells = [cell for cell in notebook.cells if "solution" not in cell.metadata.get("tags", [])]
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        for id, check in checks.items():
            cell = next(cell for cell in notebook.cells if cell.id == cell_name("check", id))
            cell.source += "\n" + scored(check)
            cell.metadata["nbgrader"] = nbgrader_metadata("check", cell.id, points=check.points)
        write_text(out / "source" / lesson / f"{lesson}.ipynb", nbformat.writes(notebook) + "\n")
    write_text(out / "nbgrader_config.py", NBGRADER_CONFIG)
    write_text(out / "README.md", NBGRADER_README)


def to_otter(out: Path, hidden: list[Path]) -> None:
    for lesson, checks in lessons():
        folder = out / lesson
        tests = {otter_name(id): otter_test(check) for id, check in checks.items()}
        for name, test in tests.items():
            write_text(
                folder / "tests" / f"{name}.py",
                f"OK_FORMAT = True\n\ntest = {pprint.pformat(test, sort_dicts=False, width=100)}\n",
            )
        shutil.copyfile(HOME / "notebooks" / f"{lesson}.ipynb", folder / f"{lesson}.ipynb")
    write_text(out / "README.md", OTTER_README)


def otter_name(id: str) -> str:
    return "q" + id.replace(".", "_")


def otter_test(check: Check) -> dict[str, Any]:
    """The public check in otter's OK format: one visible case, all points or none."""
    code = f'>>> from course_utils.checks import score\n>>> score("{check.id}", {check.answer}) == 1\nTrue'
    case = {"code": code, "hidden": False, "locked": False, "points": check.points}
    suite = {"cases": [case], "scored": True, "setup": "", "teardown": "", "type": "doctest"}
    return {"name": otter_name(check.id), "points": check.points, "all_or_nothing": False, "suites": [suite]}


EXPORTS: dict[str, Callable[[Path, list[Path]], None]] = {
    "gradescope": to_gradescope,
    "actions": to_actions,
    "nbgrader": to_nbgrader,
    "otter": to_otter,
}
