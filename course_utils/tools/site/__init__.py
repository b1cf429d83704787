"""The site of the course: `course site` gathers pages from notebooks, documents and docstrings, and has Sphinx build them.

    lessons, documents, reference, slides, slider ──gather──▶ build/site-source ──Sphinx──▶ build/site

What is not gathered lies in `docs/site`: Sphinx's settings, the first page, the look. No lesson is run: pictures and
outputs are those that the built notebooks hold.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from course_utils.profiles import HOME
from course_utils.tools.address import repository_address
from course_utils.tools.site import documents, lessons, rates, reference, slides
from course_utils.tools.site.links import Links, write

SITE = HOME / "docs" / "site"
BUILD = HOME / "build"
WITH_SLIDER = "07"


@dataclass(frozen=True)
class Folders:
    """Where a site is made: pages for Sphinx, files that it takes over as they are, what it remembers, what comes out."""

    build: Path

    @property
    def source(self) -> Path:
        return self.build / "site-source"

    @property
    def extra(self) -> Path:
        return self.build / "site-extra"

    @property
    def drafts(self) -> Path:
        return self.build / "site-drafts"

    @property
    def site(self) -> Path:
        return self.build / "site"


def site(options: argparse.Namespace) -> int:
    """Build the course's site into build/site."""
    started = time.monotonic()
    index = build_site(Folders(BUILD)) / "index.html"
    print(f"built in {time.monotonic() - started:.0f} s: {index}")
    return 0


def build_site(folders: Folders) -> Path:
    """Gather and build the site; an older one stays as it is until the new one is complete.

    Raises:
        ValueError: if Sphinx is not here, warns of something, or a page refers to what is not there.
    """
    if find_spec("sphinx") is None:
        raise ValueError(
            "the site needs what is in requirements-dev.txt, and Sphinx is not here: `python install.py` brings it"
        )
    if not SITE.is_dir():
        raise ValueError(
            f"there is no {SITE}: a site is built in a clone of {repository_address()}, not in an installed course"
        )
    gather(folders)
    draft = folders.drafts / "html"
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-E", "-W", "--keep-going", "-q", "-c", str(SITE)]
    command += [
        "-D",
        f"html_extra_path={folders.extra}",
        "-d",
        str(folders.drafts / "doctrees"),
        str(folders.source),
        str(draft),
    ]
    if subprocess.call(command, cwd=HOME):  # a process of its own: it changes much of the one that it runs in
        raise ValueError("Sphinx has warned, see above: mend the page that it names; an older site is left as it was")
    shutil.rmtree(folders.site, ignore_errors=True)
    shutil.move(draft, folders.site)
    shutil.rmtree(folders.drafts)
    return folders.site


def gather(folders: Folders) -> None:
    """Write every page of the site, and every file that goes with it, anew."""
    for folder in (folders.source, folders.extra, folders.drafts):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    address, course = repository_address(), lessons.read_lessons()
    pages = documents.document_pages()
    places = pages | {f"{folder}/{one.name}.ipynb": one.page for one in course for folder in ("notebooks", "solutions")}
    links = Links(places, address)
    shown = slides.read_slides(SITE / "slides.toml", course)
    gather_lessons(course, links, address, folders)
    gather_documents(pages, links, folders.source)
    gather_slides(shown, folders)
    for page, text in reference.pages().items():
        write(folders.source / page, text)
    gather_lost(address, folders.extra)
    gather_index(course, shown, links, [*pages.values(), "slides.md"], folders)


def gather_lessons(course: list[lessons.Lesson], links: Links, address: str, folders: Folders) -> None:
    """A page for each lesson, its pictures, and the learner's notebook to download."""
    for place, lesson in enumerate(course):
        before, after = course[place - 1] if place else None, course[place + 1] if place + 1 < len(course) else None
        top = documents.bar(lesson, before, after, address)
        foot = rates.foot() if lesson.id == WITH_SLIDER else ""
        lessons.write_page(lesson, top, links, folders.source, folders.extra, foot)
        notebook = f"notebooks/{lesson.name}.ipynb"
        write(folders.extra / notebook, (HOME / notebook).read_bytes())


def gather_documents(pages: dict[str, str], links: Links, source: Path) -> None:
    for origin, page in pages.items():
        text = (HOME / origin).read_text(encoding="utf-8")
        text = documents.guide(text) if origin == "README.md" else text
        write(source / page, links.rewrite(text, origin, page))


def gather_slides(shown: list[slides.Slide], folders: Folders) -> None:
    """The slides as a page of their own, an overview of them, and the pictures of the cards."""
    title, lead = documents.intro((HOME / "README.md").read_text(encoding="utf-8"))
    lead = lead.split("\n\n")[0].replace("\n", " ")
    write(folders.extra / "slides" / "index.html", slides.deck(SITE / "slides.html", shown, title, lead))
    write(folders.extra / "slides" / "two-worlds.png", (HOME / "docs" / "two-worlds.png").read_bytes())
    for slide in shown:
        write(folders.extra / "slides" / slide.file, slides.without_title(slide.picture.png))
        write(folders.source / "cards" / slide.file, slides.without_title(slide.card.png))
    write(folders.source / "slides.md", documents.page_from(SITE / "slides.md", slides=shown))


def gather_lost(address: str, extra: Path) -> None:
    """The page for addresses that are not there. It is shown at any depth, so it leads to where Pages puts the site."""
    title, _ = documents.intro((HOME / "README.md").read_text(encoding="utf-8"))
    home = f"/{address.rpartition('/')[2]}/"
    write(extra / "404.html", documents.page_from(SITE / "404.html", title=title, home=home))


def gather_index(
    course: list[lessons.Lesson], shown: list[slides.Slide], links: Links, pages: list[str], folders: Folders
) -> None:
    title, intro = documents.intro((HOME / "README.md").read_text(encoding="utf-8"))
    write(folders.source / "docs" / "two-worlds.png", (HOME / "docs" / "two-worlds.png").read_bytes())
    pictures = Links(links.pages | {"docs/two-worlds.png": "docs/two-worlds.png"}, links.address)
    text = documents.page_from(
        SITE / "index.md",
        title=title,
        intro=pictures.rewrite(intro, "README.md", "index.md"),
        lessons=course,
        cards={slide.lesson.id: slide.card for slide in shown},
        sections=documents.sections(pages),
    )
    write(folders.source / "index.md", text)
