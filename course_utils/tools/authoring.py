"""From one source to both notebooks: `solutions/NN_name.py` -> `solutions/NN_name.ipynb` and `notebooks/NN_name.ipynb`.

The source is a jupytext percent script with all answers. The solution notebook is the source, run; the learner's notebook
is the same without the answers. Both begin with a cell that fetches the course where it is not. This module knows nothing
of what the course teaches.
"""

from __future__ import annotations

import copy
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from course_utils.errors import BLANK
from course_utils.files import write_atomic
from course_utils.tools.address import launch_links, repository_address
from course_utils.tools.install_cell import install_cell

INSTALL = "install"  # id and tag of the cell that is in no source
TAGS = {"setup", "parameters", "exercise", "check", "solution", "nbval-check-output"}
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
ANSWER = re.compile(r"^( *)### BEGIN SOLUTION\n.*?^ *### END SOLUTION\n?", re.DOTALL | re.MULTILINE)


# ---------------------------------------------------------------------------------------------------- from the source


def read_source(path: Path) -> NotebookNode:
    """The notebook with answers, not run: cells with their tags, and ids that stay when other cells come and go.

    Raises:
        ValueError: if a tag is not in the closed set, or an exercise or check cell does not name its exercise.
    """
    import jupytext  # only here: those who run notebooks need not have it

    notebook = jupytext.read(path, fmt="py:percent")
    lesson = path.stem
    for number, cell in enumerate(notebook.cells):
        tags = sorted(cell.metadata.get("tags", []))
        if not set(tags) <= TAGS:
            raise ValueError(
                f"{path.name}, cell {number}: tags {sorted(set(tags) - TAGS)} are unknown; choose from {sorted(TAGS)}"
            )
        cell.metadata = NotebookNode(tags=tags) if tags else NotebookNode()
        cell.id = cell_id(cell.source, tags, f"{lesson}-{number:02}", path.name)
        role = next((tag for tag in ("exercise", "check") if tag in tags), None)
        if role:
            cell.metadata["nbgrader"] = nbgrader_metadata(role, cell.id)
    notebook.cells[0].source += "\n\n" + links(path, "{other}")
    notebook.metadata = NotebookNode(kernelspec=NotebookNode(KERNEL), source=fingerprint(path))
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def cell_id(source: str, tags: list[str], otherwise: str, where: str) -> str:
    for tag, pattern in (("exercise", r"# Exercise (\d\d)\.(\d+)\n"), ("check", r'check\("(\d\d)\.(\d+)",')):
        if tag in tags:
            found = re.match(pattern, source)
            if not found:
                raise ValueError(f"{where}: a cell tagged {tag!r} must begin with {pattern!r}")
            return f"{tag}-{found[1]}-{found[2]}"
    return otherwise.replace(".", "-")


def nbgrader_metadata(role: str, id: str, points: int = 0) -> NotebookNode:
    """What nbgrader (schema 3) reads of an exercise or check cell; with `points` the value of the check is graded."""
    graded = {"grade": True, "points": points} if points else {"grade": False}
    roles = {"exercise": {"locked": False, "solution": True}, "check": {"locked": True, "solution": False}}
    return NotebookNode(schema_version=3, grade_id=id, task=False, **graded, **roles[role])


def links(path: Path, other: str) -> str:
    """The line of links under a title: previous and next lesson, and the same lesson in the other folder."""
    lessons = sorted(one.stem for one in path.parent.glob("[0-9][0-9]_*.py"))
    place = lessons.index(path.stem)
    parts = [f"[← {lessons[place - 1]}]({lessons[place - 1]}.ipynb)"] if place else []
    parts += [other]
    parts += [f"[{lessons[place + 1]} →]({lessons[place + 1]}.ipynb)"] if place + 1 < len(lessons) else []
    return " · ".join(parts)


def colab_link(lesson: str) -> str:
    """What the line of links of a learner's notebook ends in; nothing where Colab cannot open the repository."""
    opened = launch_links(f"notebooks/{lesson}.ipynb").get("Colab")
    return f" · [Open in Colab]({opened})" if opened else ""


def with_install_cell(notebook: NotebookNode) -> NotebookNode:
    """A copy of `notebook` whose first code cell fetches the course where it is not installed."""
    result = copy.deepcopy(notebook)
    first = next(place for place, cell in enumerate(result.cells) if cell.cell_type == "code")
    folded = {"source_hidden": True}  # in JupyterLab, where it does nothing; Colab and Kaggle show it
    cell = new_code_cell(install_cell(repository_address()), id=INSTALL, metadata={"tags": [INSTALL], "jupyter": folded})
    result.cells.insert(first, cell)
    return result


def fingerprint(path: Path) -> str:
    """Changes when the source does, when a neighbour comes or goes, since the links name the neighbours, and with what is
    made of the address of the course."""
    content = path.read_text(encoding="utf-8") + links(path, "") + colab_link(path.stem) + install_cell(repository_address())
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def solution_of(notebook: NotebookNode, lesson: str) -> NotebookNode:
    """What goes into `solutions/`: the notebook with a link to the learner's one."""
    result = with_install_cell(notebook)
    result.cells[0].source = result.cells[0].source.replace(
        "{other}", f"[the lesson without answers](../notebooks/{lesson}.ipynb)"
    )
    return result


def blank(notebook: NotebookNode, lesson: str) -> NotebookNode:
    """What goes into `notebooks/`: no answers, no solution cells, no outputs."""
    result = with_install_cell(notebook)
    result.cells[0].source = result.cells[0].source.replace("{other}", f"[solution](../solutions/{lesson}.ipynb)")
    result.cells[0].source += colab_link(lesson)
    result.cells = [cell for cell in result.cells if "solution" not in cell.metadata.get("tags", [])]
    for cell in result.cells:
        tags = cell.metadata.get("tags", [])
        if "exercise" in tags:
            cell.source, answers = ANSWER.subn(lambda found: found[1] + BLANK + "\n", cell.source + "\n")
            cell.source = cell.source.rstrip("\n")
            if answers != 1:
                raise ValueError(f"{lesson}: cell {cell.id} has {answers} marked answers; an exercise cell has one")
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None  # a guess is worth nothing above its answer
        if "### BEGIN SOLUTION" in cell.source or "### END SOLUTION" in cell.source:
            raise ValueError(
                f"{lesson}: an answer would stay in cell {cell.id}; mark it by a BEGIN and an END in an exercise cell"
            )
    return result


# --------------------------------------------------------------------------------------------------------- building


@contextmanager
def environment(**values: str | None) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    try:
        for name, value in values.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)


def execute(notebook: NotebookNode, folder: Path) -> NotebookNode:
    """Run `notebook` on the tiny profile and keep what it shows, without progress bars and times of day."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        environment(TQDM_DISABLE="1", COURSE_PROFILE=None, COURSE_GRADES=f"{scratch}/grades.jsonl", MPLBACKEND=None),
    ):
        client = NotebookClient(
            notebook,
            timeout=600,
            kernel_name=KERNEL["name"],
            record_timing=False,
            extra_arguments=["--IPKernelApp.log_level=40"],  # errors only: the kernel warns about its own transport
            coalesce_streams=True,
            resources={"metadata": {"path": str(folder)}},
        )
        client.execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "metadata" in output:  # of a picture its alternative text and its size
                output.metadata = NotebookNode({kind: kept for kind, kept in output.metadata.items() if kind == "image/png"})
    notebook.metadata = NotebookNode(kernelspec=NotebookNode(KERNEL), source=notebook.metadata["source"])
    return notebook


def write(notebook: NotebookNode, path: Path) -> None:
    """Write the notebook whole or not at all, with one form for one content."""
    nbformat.validate(notebook)
    write_atomic(path, nbformat.writes(notebook, indent=1, sort_keys=True) + "\n")


def is_current(source: Path, built: Path) -> bool:
    return built.exists() and nbformat.read(built, as_version=4).metadata.get("source") == fingerprint(source)


def build(source: Path, *, again: bool = False) -> bool:
    """Build both notebooks of one lesson if its source has changed since (or `again`); says whether it did."""
    lesson = source.stem
    notebooks = source.parent.parent / "notebooks"
    targets = (source.with_suffix(".ipynb"), notebooks / f"{lesson}.ipynb")
    if not again and all(is_current(source, target) for target in targets):
        return False
    done = execute(read_source(source), source.parent)
    notebooks.mkdir(exist_ok=True)
    write(solution_of(done, lesson), targets[0])
    write(blank(done, lesson), targets[1])
    return True
