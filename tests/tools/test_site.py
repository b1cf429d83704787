"""What the site is gathered from: lessons of two notebooks, documents and their links, the reference, slides, the slider."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image, ImageDraw

import course_utils
from course_utils.experiments.rates import RATES
from course_utils.profiles import HOME
from course_utils.tools import cli
from course_utils.tools import site as tool
from course_utils.tools.address import launch_links
from course_utils.tools.site import Folders, build_site, documents, lessons, rates, reference, slides
from course_utils.tools.site.lessons import Lesson, one_page, read_lessons
from course_utils.tools.site.links import Links

ADDRESS = "https://github.com/someone/course"
COURSE = read_lessons()
TABLE = tool.SITE / "slides.toml"


def png(*bands: tuple[int, int], size: tuple[int, int] = (40, 100)) -> bytes:
    """A white picture with black bands from a row to a row."""
    image, file = Image.new("RGB", size, "white"), io.BytesIO()
    for top, bottom in bands:
        ImageDraw.Draw(image).rectangle((5, top, 30, bottom - 1), fill="black")
    image.save(file, "png")
    return file.getvalue()


def drawing(alt: str) -> nbformat.NotebookNode:
    data = {"image/png": base64.b64encode(png((10, 20))).decode(), "text/plain": "<Figure>"}
    return new_output("display_data", data, metadata={"image/png": {"alt": alt, "width": 40, "height": 100}})


def tagged(id: str, source: str, *tags: str, outputs: tuple = ()) -> nbformat.NotebookNode:
    return new_code_cell(source, id=id, metadata={"tags": list(tags)}, outputs=list(outputs))


FIRST = """# 9. Ninety

A promise.
In two lines.

50 minutes. You need a head.

[the lesson without answers](../notebooks/90_x.ipynb) · [01 →](01.ipynb)"""


@pytest.fixture
def lesson() -> Lesson:
    """A lesson with everything that the site treats in its own way."""
    said = new_output("stream", text="Exercise 90.1: passed\n")
    solved = [
        new_markdown_cell(FIRST),
        tagged("install", "fetch()", "install"),
        tagged("s", "import torch", "setup"),
        tagged("two", "draw()", outputs=(drawing("First. One."), drawing('Second, "quoted" & more. Two.'))),
        tagged(
            "exercise-90-1", "# Exercise 90.1\ndef f():\n    ### BEGIN SOLUTION\n    return 1\n    ### END SOLUTION", "exercise"
        ),
        tagged("check-90-1", 'check("90.1", f)', "check", outputs=(said,)),
        new_markdown_cell("Zero is tempting.", metadata={"tags": ["solution"]}),
        new_markdown_cell("## Next"),
        tagged("p", 'progress("90")'),
    ]
    blank = [tagged("exercise-90-1", '# Exercise 90.1\ndef f():\n    raise NotImplementedError("Your turn.")', "exercise")]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    return Lesson("90_x", new_notebook(cells=blank), new_notebook(cells=solved, metadata=kernel))


# ----------------------------------------------------------------------------------------------------------- a lesson


def test_the_top_of_a_lesson_says_title_promise_and_minutes(lesson):
    assert (lesson.id, lesson.title, lesson.promise, lesson.minutes) == ("90", "Ninety", "A promise. In two lines.", 50)
    first = one_page(lesson, "<bar>").cells[0].source
    assert first == "# 9. Ninety\n\n<bar>\n\nA promise.\nIn two lines.\n\nYou need a head."


def test_an_exercise_is_blank_and_its_answer_is_folded_below_the_check(lesson):
    cells = one_page(lesson, "").cells
    shown = [cell.source for cell in cells]
    place = next(i for i, text in enumerate(shown) if text.startswith("# Exercise"))
    assert "Your turn." in shown[place]
    assert shown[place + 1] == 'check("90.1", f)'
    assert cells[place + 1].outputs == [], "a verdict of ours is none of the reader's"
    folded = shown[place + 2]
    assert folded.startswith("::::{dropdown} Show an answer\n:class-container: answer no-search\n")
    assert "    return 1\n```" in folded
    assert "SOLUTION" not in folded
    assert folded.index("return 1") < folded.index("Exercise 90.1: passed") < folded.index("Zero is tempting.")
    assert "return 1" not in "".join(shown[: place + 2] + shown[place + 3 :])


def test_what_belongs_to_a_running_notebook_is_not_shown(lesson):
    cells = one_page(lesson, "").cells
    assert not any(cell.source.startswith(("fetch", "progress")) for cell in cells)
    (setup,) = [cell for cell in cells if cell.source == "import torch"]
    assert setup.metadata.tags == ["hide-input"]


def test_each_picture_of_a_cell_has_its_own_words(lesson):
    (cell,) = [cell for cell in one_page(lesson, "").cells if cell.id == "two"]
    pages = [output.data["text/html"] for output in cell.outputs]
    assert ['alt="First. One."' in page for page in pages] == [True, False]
    assert 'alt="Second, &quot;quoted&quot; &amp; more. Two."' in pages[1]
    assert 'src="pictures/90-02.png"' in pages[1]
    assert 'width="40" height="100"' in pages[1]
    assert [one.title for one in lesson.pictures] == ["First", 'Second, "quoted" & more']


def test_a_picture_without_words_is_an_error(lesson):
    del lesson.solved.cells[3].outputs[1].metadata["image/png"]["alt"]
    with pytest.raises(ValueError, match=r"90_x: a picture of cell two has no words .*`plots\.described`"):
        one_page(lesson, "")


def test_the_bar_has_minutes_neighbours_launchers_and_the_file(lesson):
    page = documents.bar(lesson, None, COURSE[0], ADDRESS)
    assert "<span>50 minutes</span>" in page
    assert 'href="../notebooks/90_x.ipynb" download' in page
    assert f'<a rel="next" href="{COURSE[0].name}.html"' in page
    assert 'rel="prev"' not in page
    for name, url in launch_links("notebooks/90_x.ipynb", ADDRESS).items():
        assert f">{name}</a>" in page, url
    assert "Open in" not in documents.bar(lesson, None, None, "https://example.org/course")


@pytest.mark.parametrize("lesson", COURSE, ids=lambda lesson: lesson.id)
def test_every_lesson_makes_a_page_without_answers_above_the_folds(lesson):
    cells = one_page(lesson, "<bar>").cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    exercises = [cell for cell in code if cell.source.startswith("# Exercise")]
    folds = [cell for cell in cells if "{dropdown} Show an answer" in cell.source]
    assert len(folds) >= len(exercises) > 0
    assert all("Your turn." in cell.source for cell in exercises)
    guesses = [cell.source for cell in code if re.match(r"guess\w* = ", cell.source)]
    assert guesses, "a guess is as in the learner's notebook"
    assert lesson.promise.strip()
    assert not re.search(r"\]\(\.\./notebooks/", cells[0].source)


# ---------------------------------------------------------------------------------------------------------- documents

LINKS = Links(
    {"README.md": "guide.md", "docs/sweeps.md": "sweeps.md", "notebooks/03_freeze.ipynb": "lessons/03.ipynb"}, ADDRESS
)


@pytest.mark.parametrize(
    ("origin", "place", "text", "turned"),
    [
        ("README.md", "guide.md", "[a](notebooks/03_freeze.ipynb)", "[a](lessons/03.ipynb)"),
        ("docs/benchmark.md", "benchmark.md", "[a](../README.md#start)", "[a](guide.md#start)"),
        ("notebooks/03_freeze.ipynb", "lessons/03.ipynb", "[a](../docs/sweeps.md)", "[a](../sweeps.md)"),
        ("docs/sweeps.md", "sweeps.md", "[a](../pyproject.toml)", f"[a]({ADDRESS}/blob/main/pyproject.toml)"),
        ("README.md", "guide.md", "[a](data/tiny)", f"[a]({ADDRESS}/tree/main/data/tiny)"),
        ("README.md", "guide.md", "[a](https://x.org/a) [b](#start)", "[a](https://x.org/a) [b](#start)"),
        ("README.md", "guide.md", "```python\n[a](nowhere.md)\n```", "```python\n[a](nowhere.md)\n```"),
    ],
)
def test_links_work_on_the_site(origin, place, text, turned):
    assert LINKS.rewrite(text, origin, place) == turned


def test_a_link_to_nothing_is_an_error():
    with pytest.raises(ValueError, match=r"docs/sweeps.md links to nowhere.md, and there is no docs/nowhere.md"):
        LINKS.rewrite("```sh\n```\n[a](nowhere.md)", "docs/sweeps.md", "sweeps.md")


def test_every_document_is_in_the_contents():
    pages = documents.document_pages()
    assert {f"docs/{path.name}" for path in (HOME / "docs").glob("*.md")} < set(pages)
    found = documents.sections([*pages.values(), "slides.md", "new.md"])
    listed = [name for names in found.values() for name in names]
    assert sorted(f"{name}.md" for name in listed) == sorted([*pages.values(), "slides.md", "new.md"])
    assert found["Behind the lessons"][-1] == "new", "one that nobody has sorted in stands at the end"


def test_the_readme_is_the_first_page_and_the_guide():
    readme = (HOME / "README.md").read_text(encoding="utf-8")
    title, intro = documents.intro(readme)
    assert f"# {title}\n" in readme
    assert "two-worlds.png" in intro
    assert "## " not in intro
    assert documents.guide(readme).startswith("# Set up and use\n\n## Start\n")


# ---------------------------------------------------------------------------------------------------------- reference


def test_every_public_name_has_a_place_in_the_order_of_a_run():
    pages = reference.pages()
    assert [page.removeprefix("reference/").removesuffix(".md") for page in pages] == ["index", *course_utils.EXPORTS]
    order = [pages["reference/index.md"].index(f"| [{module}]") for module in course_utils.EXPORTS]
    assert order == sorted(order)
    for module, names in course_utils.EXPORTS.items():
        page = pages[f"reference/{module}.md"]
        for name in names:
            if name == module:
                assert f".. automodule:: course_utils.{name}\n   :no-members:\n\n" in page
            else:
                assert re.search(rf"^.. auto(function|class):: {name}$", page, re.MULTILINE), name
    assert ".. autofunction:: rate_hill" in pages["reference/plots.md"]
    assert ".. autofunction:: interval" in pages["reference/sweeps.md"], "lessons use sweeps.interval"


# ------------------------------------------------------------------------------------------------------------- slides


def test_every_lesson_has_a_slide_whose_picture_and_sentence_are_there():
    found = slides.read_slides(TABLE, COURSE)
    assert [slide.lesson.id for slide in found] == [lesson.id for lesson in COURSE]
    for slide in found:
        assert slide.sentence in re.sub(r"[*`]", "", slide.lesson.text())
        assert len(slide.sentence) <= 140
        cropped = Image.open(io.BytesIO(slides.without_title(slide.picture.png)))
        whole = Image.open(io.BytesIO(slide.picture.png))
        assert cropped.height < whole.height - 20, f"{slide.lesson.id}: the title would stand twice"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ('lesson = "77"\nfigure = "a"\nsentence = "b"', "names lesson 77; there are 00, 01"),
        ('lesson = "00"\nfigure = "no such"\nsentence = "b"', r"0 pictures of lesson 00 have 'no such' in their title, of: "),
        ('lesson = "00"\nfigure = "pictures"\nsentence = "b"', r"\d pictures of lesson 00 have 'pictures'"),
        ('lesson = "00"\nfigure = "borrowed wins"\nsentence = "Nobody says so"', "no sentence of lesson 00 begins with"),
    ],
)
def test_a_table_of_slides_that_fits_no_lesson_is_an_error(tmp_path, row, words):
    (tmp_path / "slides.toml").write_text(f"[[slide]]\n{row}\n")
    with pytest.raises(ValueError, match=words):
        slides.read_slides(tmp_path / "slides.toml", COURSE)


def test_a_title_of_one_line_is_left_out_and_so_are_margins():
    size = Image.open(io.BytesIO(slides.without_title(png((4, 20), (40, 90))))).size
    assert size == (26, 50)
    assert Image.open(io.BytesIO(slides.without_title(png((4, 80))))).size == (26, 76), "that is no line of text"
    assert slides.without_title(png()) == png()


# ------------------------------------------------------------------------------------------------------------- slider


def test_the_slider_shows_one_rate_and_holds_all():
    page = rates.foot()
    html = page[page.index("<figure") :]
    assert "\n\n" not in html, "an empty line would end the block of HTML"
    for place in range(len(RATES)):
        assert html.count(f'data-rate="{place}"') == 3, "two panels and a sentence"
    shown = re.findall(r'data-rate="(\d)" class="on"', html)
    assert len(shown) == 3
    assert len(set(shown)) == 1
    assert f'value="{shown[0]}"' in html
    assert '<label for="rate">' in html
    assert "nan" not in html.lower().replace("nanum", "")


def test_rates_are_written_in_digits():
    assert [rates.plain(rate) for rate in RATES[::2]] == ["0.00001", "0.0001", "0.001", "0.01", "0.1"]


# -------------------------------------------------------------------------------------------------------------- build


def test_a_warning_fails_the_build_and_leaves_the_older_site(tmp_path, monkeypatch, capfd):
    folders = Folders(tmp_path)
    folders.site.mkdir()
    (folders.site / "old.html").write_text("old")

    def gather(folders):
        for folder in (folders.source, folders.extra):
            folder.mkdir()
        (folders.source / "index.md").write_text("# One page\n\n[to nowhere](nowhere.md)\n")

    monkeypatch.setattr(tool, "gather", gather)
    with pytest.raises(ValueError, match="Sphinx has warned"):
        build_site(folders)
    assert "nowhere.md" in capfd.readouterr().err
    assert (folders.site / "old.html").read_text() == "old"


def test_the_command_builds_into_build_site(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(tool, "build_site", lambda folders: folders.site)
    assert cli.main(["site"]) == 0
    assert str(HOME / "build" / "site" / "index.html") in capsys.readouterr().out


def test_an_installed_course_has_no_site(monkeypatch, tmp_path):
    monkeypatch.setattr(tool, "SITE", tmp_path / "none")
    with pytest.raises(ValueError, match="a site is built in a clone of http"):
        build_site(Folders(tmp_path))


def test_what_is_built_is_not_in_git():
    ignored = subprocess.run(["git", "check-ignore", "build/site"], cwd=HOME, capture_output=True)
    assert ignored.returncode == 0


def test_pictures_and_notebooks_lie_where_pages_look_for_them(tmp_path, lesson):
    source, extra = tmp_path / "source", tmp_path / "extra"
    lessons.write_page(lesson, "<bar>", LINKS, source, extra, foot="## Foot")
    page = json.loads((source / "lessons" / "90_x.ipynb").read_text(encoding="utf-8"))
    assert page["cells"][-1]["source"] in ("## Foot", ["## Foot"])
    assert sorted(path.name for path in (extra / "lessons" / "pictures").iterdir()) == ["90-01.png", "90-02.png"]
