"""One picture a lesson: slides for a room, and the pictures of the cards on the first page.

`docs/site/slides.toml` says which picture of a lesson, and which sentence goes with it; the words are the lesson's own.
"""

from __future__ import annotations

import io
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment
from PIL import Image

from course_utils.tools.site.lessons import Lesson, Picture

TITLE_AT_MOST = 45  # rows of pixels that one line of a title takes
INK = 225  # darker than that is no paper


@dataclass(frozen=True)
class Slide:
    """A lesson's picture, and the sentence of the lesson that goes with it; and the picture of its card on the first page."""

    lesson: Lesson
    picture: Picture
    sentence: str
    card: Picture

    @property
    def file(self) -> str:
        return f"{self.lesson.id}.png"


def read_slides(table: Path, lessons: Sequence[Lesson]) -> list[Slide]:
    """The slides of `table`, in its order.

    Raises:
        ValueError: if a lesson, a picture or a sentence of the table is not there, or a title belongs to two pictures.
    """
    known = {lesson.id: lesson for lesson in lessons}
    found = []
    for row in tomllib.loads(table.read_text(encoding="utf-8"))["slide"]:
        if row["lesson"] not in known:
            raise ValueError(f"{table.name} names lesson {row['lesson']}; there are {', '.join(known)}")
        lesson = known[row["lesson"]]
        picture, card = (picture_with(lesson, row.get(key, row["figure"]), table) for key in ("figure", "card"))
        found.append(Slide(lesson, picture, sentence_of(lesson, row["sentence"], table), card))
    return found


def picture_with(lesson: Lesson, words: str, table: Path) -> Picture:
    """The one picture of the lesson with these words in its title."""
    found = [one for one in lesson.pictures if words in one.title]
    if len(found) != 1:
        titles = "; ".join(one.title for one in lesson.pictures)
        raise ValueError(
            f"{table.name}: {len(found)} pictures of lesson {lesson.id} have {words!r} in their title, of: {titles}"
        )
    return found[0]


def sentence_of(lesson: Lesson, beginning: str, table: Path) -> str:
    """The sentence of the lesson that begins so, as plain text."""
    found = re.search(rf"(?<!\S){re.escape(beginning)}.*?[.!?](?= |$)", lesson.text())
    if not found:
        raise ValueError(f"{table.name}: no sentence of lesson {lesson.id} begins with {beginning!r}; take another")
    return re.sub(r"[*`]", "", found[0])


def without_title(png: bytes) -> bytes:
    """The picture without its margins, and without its first line if that is a line of text: a slide says the title itself."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    ink: np.ndarray = np.less(np.asarray(image.convert("L")), INK)
    if not ink.any():
        return png
    top, bottom = ends_of(np.any(ink, axis=1))
    blank = np.flatnonzero(~ink[top:bottom].any(axis=1))
    if len(blank) and blank[0] <= TITLE_AT_MOST:
        top += int(blank[0])
        top += int(ink[top:].any(axis=1).argmax())
    left, right = ends_of(np.any(ink[top:bottom], axis=0))
    file = io.BytesIO()
    image.crop((left, top, right, bottom)).save(file, "png", optimize=True)
    return file.getvalue()


def ends_of(there: np.ndarray) -> tuple[int, int]:
    """From the first to behind the last place where something is."""
    places = np.flatnonzero(there)
    return int(places[0]), int(places[-1]) + 1


def deck(template: Path, slides: Sequence[Slide], title: str, lead: str) -> str:
    """The page of the slides: one file beside its pictures, which needs nothing else."""
    page = Environment(autoescape=True).from_string(template.read_text(encoding="utf-8"))
    return page.render(slides=slides, title=title, lead=lead)
