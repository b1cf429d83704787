"""The documents of the repository as pages of the site, the bar on top of a lesson, and the first page with all lessons."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from course_utils.profiles import HOME
from course_utils.tools.address import launch_links
from course_utils.tools.site.lessons import Lesson

PLACES = {  # documents that do not lie in docs/, and their pages
    "README.md": "guide.md",
    "CONTRIBUTING.md": "contributing.md",
    "data/README.md": "data.md",
    "data/weights/README.md": "weights.md",
    "data/sweeps/README.md": "tables.md",
}
SECTIONS = {  # of the contents, by page; what is in none of them stands in the last one
    "Start": ["guide", "without-an-install"],
    "For instructors": ["instructors", "handbook", "slides"],
    "For contributors": ["contributing"],
    "Behind the lessons": ["data", "weights", "tables", "sweeps", "benchmark"],
}


def document_pages(home: Path = HOME) -> dict[str, str]:
    """By its path in the repository, the page of each document; all of `docs/` is among them."""
    return PLACES | {f"docs/{path.name}": path.name for path in sorted((home / "docs").glob("*.md"))}


def sections(pages: Sequence[str]) -> dict[str, list[str]]:
    """The contents below the lessons: captions with the pages (without ending) that are there."""
    names = [page.removesuffix(".md") for page in pages]
    found = {caption: [name for name in wanted if name in names] for caption, wanted in SECTIONS.items()}
    found["Behind the lessons"] += sorted(set(names) - {name for wanted in SECTIONS.values() for name in wanted})
    return found


# ----------------------------------------------------------------------------------------------------- README in parts


def intro(readme: str) -> tuple[str, str]:
    """The title of the README, and what it says before its first section: the first page of the site begins so."""
    title, rest = readme.split("\n", 1)
    return title.removeprefix("# "), rest.partition("\n## ")[0].strip()


def guide(readme: str) -> str:
    """The README from its first section on, as a page of its own."""
    return "# Set up and use\n\n## " + readme.partition("\n## ")[2]


# -------------------------------------------------------------------------------------------------------- the lessons


def bar(lesson: Lesson, before: Lesson | None, after: Lesson | None, address: str) -> str:
    """What stands below the title of a lesson, as HTML: minutes, neighbours, where to open it, the file."""
    notebook = f"notebooks/{lesson.name}.ipynb"
    opened = [f'<a href="{html.escape(url)}">{name}</a>' for name, url in launch_links(notebook, address).items()]
    parts = [f"<span>Lesson {lesson.id}</span>", f"<span>{lesson.minutes} minutes</span>"]
    if opened:
        parts.append("<span>Open in " + ", ".join(opened) + "</span>")
    parts.append(f'<a href="../{notebook}" download>Download this notebook</a>')
    if before:
        parts.append(f'<a rel="prev" href="{before.name}.html" title="{html.escape(before.title)}">← {before.id}</a>')
    if after:
        parts.append(f'<a rel="next" href="{after.name}.html" title="{html.escape(after.title)}">{after.id} →</a>')
    return '<div class="lesson-bar">' + "".join(parts) + "</div>"


def page_from(template: Path, **values: object) -> str:
    """A page of `docs/site` with its gaps filled; a gap without a value is an error."""
    environment = Environment(undefined=StrictUndefined, trim_blocks=True)
    return environment.from_string(template.read_text(encoding="utf-8")).render(values)
