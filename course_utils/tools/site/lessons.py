"""A lesson on the site: one page made of its two notebooks, with exercises to do, answers folded, and all pictures."""

from __future__ import annotations

import base64
import copy
import html
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from course_utils.profiles import HOME
from course_utils.tools.site.links import Links, write

FOLD = "::::{{dropdown}} Show an answer\n:class-container: answer no-search\n\n{}\n::::"
STATES = re.compile(r"^(\d+) minutes\.[ \n]*", re.MULTILINE)


@dataclass(frozen=True)
class Picture:
    """A picture of a lesson: the cell that drew it, its number in the lesson, the words for it, and what it is made of."""

    cell: str
    number: int
    alt: str
    png: bytes
    size: tuple[int, int]  # on a page, in CSS pixels

    @property
    def title(self) -> str:
        return self.alt.partition(". ")[0]


@dataclass(frozen=True)
class Lesson:
    """A lesson with both of its notebooks: the learner's, and the solved and run one."""

    name: str
    learner: NotebookNode
    solved: NotebookNode

    @property
    def id(self) -> str:
        return self.name[:2]

    @property
    def first(self) -> str:
        """The text of the first cell."""
        return self.solved.cells[0].source

    @property
    def title(self) -> str:
        return re.match(r"# (?:\d+\. )?(.+)", self.first)[1]  # type: ignore[index]  # tests hold every lesson to it

    @property
    def promise(self) -> str:
        """The first paragraph below the title, in Markdown."""
        return self.first.split("\n\n")[1].replace("\n", " ")

    @property
    def minutes(self) -> int:
        return int(STATES.search(self.first)[1])  # type: ignore[index]  # tests hold every lesson to it

    @property
    def page(self) -> str:
        return f"lessons/{self.name}.ipynb"

    @cached_property
    def pictures(self) -> list[Picture]:
        """Every picture of the lesson, in its order.

        Raises:
            ValueError: if one has no words for those who cannot see it.
        """
        found = [(cell.id, output) for cell in self.solved.cells for output in cell.get("outputs", []) if has_png(output)]
        return [picture_of(self.name, id, number, output) for number, (id, output) in enumerate(found, 1)]

    def text(self) -> str:
        """The prose of the lesson without its line breaks, without the answers."""
        cells = [cell.source for cell in self.learner.cells if cell.cell_type == "markdown"]
        return " ".join(" ".join(cells).split())


def read_lessons(home: Path = HOME) -> list[Lesson]:
    """All lessons, in their order."""
    names = sorted(path.stem for path in (home / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    read = [[nbformat.read(home / folder / f"{name}.ipynb", 4) for folder in ("notebooks", "solutions")] for name in names]
    return [Lesson(name, *both) for name, both in zip(names, read, strict=True)]


def has_png(output: NotebookNode) -> bool:
    return "image/png" in output.get("data", {})


def picture_of(lesson: str, cell: str, number: int, output: NotebookNode) -> Picture:
    about = output.metadata.get("image/png", {})
    if not about.get("alt"):
        raise ValueError(
            f"{lesson}: a picture of cell {cell} has no words for those who cannot see it; "
            "draw it with `plots`, or give it some with `plots.described`, and build the lesson again"
        )
    return Picture(
        cell, number, about["alt"], base64.b64decode(output.data["image/png"]), (about.get("width", 0), about.get("height", 0))
    )


# --------------------------------------------------------------------------------------------------------- the page


def write_page(lesson: Lesson, bar: str, links: Links, source: Path, extra: Path, foot: str = "") -> None:
    """Write the page of a lesson into `source` and its pictures into `extra`, below whatever the site puts there as it is."""
    notebook = one_page(lesson, bar)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = links.rewrite(cell.source, f"notebooks/{lesson.name}.ipynb", lesson.page)
    if foot:
        notebook.cells.append(markdown(foot))
    nbformat.validate(notebook)
    write(source / lesson.page, nbformat.writes(notebook))
    for one in lesson.pictures:
        write(extra / "lessons" / file_of(lesson, one), one.png)


def file_of(lesson: Lesson, one: Picture) -> str:
    return f"pictures/{lesson.id}-{one.number:02}.png"


def one_page(lesson: Lesson, bar: str) -> NotebookNode:
    """The solved notebook with its exercises blank again; the answer, its verdict and its text are folded below the check."""
    blank = {cell.id: cell.source for cell in lesson.learner.cells}
    cells: list[NotebookNode] = []
    folded: list[str] = []
    for cell in with_pictures(lesson):
        tags = set(cell.metadata.get("tags", []))
        if not tags & {"check", "solution"}:  # an answer ends here, if there was one
            cells += fold(folded)
            folded = []
        if tags & {"exercise", "check", "solution"}:
            folded.append(answer_of(cell))
        if not tags & {"install", "solution"} and not cell.source.startswith("progress("):
            cells.append(shown(cell, tags, blank))
    cells += fold(folded)
    cells[0].source = first_cell(cells[0].source, bar)
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": lesson.solved.metadata.kernelspec})


def with_pictures(lesson: Lesson) -> list[NotebookNode]:
    """Copies of the cells, in which pictures are files."""
    cells, pictures = copy.deepcopy(lesson.solved.cells), iter(lesson.pictures)
    for cell in cells:
        for number, output in enumerate(cell.get("outputs", [])):
            if has_png(output):
                cell.outputs[number] = drawn(lesson, next(pictures))
    return cells


def fold(parts: list[str]) -> list[NotebookNode]:
    """A text cell that is folded, and no word of which is found by a search; none without parts."""
    return [markdown(FOLD.format("\n\n".join(parts)))] if parts else []


def shown(cell: NotebookNode, tags: set[str], blank: dict[str, str]) -> NotebookNode:
    """A cell as a reader meets it."""
    if "exercise" in tags:
        cell.source = blank[cell.id]
    if tags & {"exercise", "check"}:
        cell.outputs = []
    if "setup" in tags:
        cell.metadata = NotebookNode(tags=["hide-input"], mystnb={"code_prompt_show": "Show the imports"})
    return cell


def answer_of(cell: NotebookNode) -> str:
    """What is folded of a cell: the code of an answer, what the check said of it, or the text of a solution."""
    tags = cell.metadata.tags
    if "check" in tags:
        return f"```text\n{''.join(one.text for one in cell.outputs if one.output_type == 'stream').strip()}\n```"
    if "exercise" in tags:
        code = re.sub(r"^ *### (BEGIN|END) SOLUTION\n?", "", cell.source + "\n", flags=re.MULTILINE)
        return f"```python\n{code.strip()}\n```"
    return cell.source


def first_cell(source: str, bar: str) -> str:
    """The first cell with `bar` below its title, in place of the minutes and of the links that it has in the notebook."""
    title, *paragraphs = STATES.sub("", source).split("\n\n")
    return "\n\n".join([title, bar, *(one for one in paragraphs if one.strip() and "](../notebooks/" not in one)])


def drawn(lesson: Lesson, one: Picture) -> NotebookNode:
    """A picture as HTML: each with its own words, which myst-nb has for a whole cell only, and no jump when it is loaded."""
    (width, height), file = one.size, file_of(lesson, one)
    sizes = f' width="{width}" height="{height}"' if width else ""
    words = html.escape(one.alt)
    page = f'<a class="paper" href="{file}" title="the picture alone"><img src="{file}" alt="{words}"{sizes}></a>'
    return nbformat.v4.new_output("display_data", {"text/html": page})


def markdown(source: str) -> NotebookNode:
    return nbformat.v4.new_markdown_cell(source)
