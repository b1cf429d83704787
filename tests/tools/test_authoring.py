"""From one source to both notebooks: no answer gets through, ids stay, and two builds give the same bytes."""

from __future__ import annotations

import os
import textwrap
from contextlib import suppress
from pathlib import Path

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbclient.exceptions import CellExecutionError

from course_utils.errors import STUB
from course_utils.tools import address as address_module
from course_utils.tools import authoring
from course_utils.tools.authoring import blank, build, environment, read_source, solution_of

SOURCE = '''
    # %% [markdown]
    # # 3. A lesson
    # Some words.

    # %% tags=["setup"]
    import math

    def check(id, answer):
        try:
            print(f"Exercise {id}: {'passed' if answer(2) == 4 else 'not yet'}")
        except NotImplementedError as error:
            print(f"Exercise {id}: to do")

    # %% tags=["nbval-check-output"]
    round(math.pi, 2)

    # %% [markdown]
    # ### Exercise 3.1

    # %% tags=["exercise"]
    # Exercise 03.1
    def double(x):
        """Twice `x`."""
        # a hint
        ### BEGIN SOLUTION
        secret = x + x
        return secret
        ### END SOLUTION

    # %% tags=["check"]
    check("03.1", double)

    # %% [markdown] tags=["solution"]
    # Why: a secret.

    # %%
    print("the end")
'''


@pytest.fixture
def lesson(tmp_path):
    """Writes the source of a lesson: `lesson()` or `lesson("04_more", text)`."""

    def write(name: str = "03_freeze", text: str = SOURCE) -> Path:
        path = tmp_path / "solutions" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip())
        return path

    return write


def learners(path: Path) -> nbformat.NotebookNode:
    return blank(read_source(path), path.stem)


def sources(notebook: nbformat.NotebookNode) -> str:
    return "\n".join(cell.source for cell in notebook.cells)


def test_ids_and_tags(lesson):
    notebook = read_source(lesson())
    assert [cell.id for cell in notebook.cells] == [
        "03_freeze-00",
        "03_freeze-01",
        "03_freeze-02",
        "03_freeze-03",
        "exercise-03-1",
        "check-03-1",
        "03_freeze-06",
        "03_freeze-07",
    ]
    assert notebook.cells[4].metadata.tags == ["exercise"]
    assert notebook.cells[4].metadata.nbgrader == {
        "schema_version": 3,
        "grade_id": "exercise-03-1",
        "grade": False,
        "locked": False,
        "solution": True,
        "task": False,
    }
    assert notebook.cells[5].metadata.nbgrader == notebook.cells[4].metadata.nbgrader | {
        "grade_id": "check-03-1",
        "locked": True,
        "solution": False,
    }
    assert notebook.cells[0].metadata == {}
    nbformat.validate(notebook)


def test_the_answer_becomes_one_line(lesson):
    cell = next(cell for cell in learners(lesson()).cells if cell.id == "exercise-03-1")
    assert cell.source.splitlines() == [
        "# Exercise 03.1",
        "def double(x):",
        '    """Twice `x`."""',
        "    # a hint",
        '    raise NotImplementedError("Your turn.")',
    ]
    space: dict = {}
    exec(cell.source, space)
    with pytest.raises(NotImplementedError) as caught:
        space["double"](2)
    assert str(caught.value) == STUB, "the words by which check() knows an exercise that nobody has begun"


def test_the_learner_sees_no_answer(lesson):
    path = lesson()
    assert "secret" in sources(solution_of(read_source(path), path.stem))
    assert "secret" not in sources(learners(path))
    assert [cell.id for cell in learners(path).cells if cell.id != "install"] == [
        cell.id for cell in read_source(path).cells if cell.id != "03_freeze-06"
    ]


@given(
    st.lists(st.sampled_from(["answer = 1", "if x:", "    answer", "", "# END", "return answer"]), max_size=8),
    st.sampled_from([0, 4, 8]),
)
def test_whatever_stands_between_the_marks_goes(lesson, lines, indent):
    body = "\n".join(" " * indent + line for line in ["### BEGIN SOLUTION", *lines, "### END SOLUTION", "after = 2"])
    path = lesson(text=f'# %% [markdown]\n# # T\n\n# %% tags=["exercise"]\n# Exercise 03.1\nbefore = 1\n{body}\n')
    text = learners(path).cells[2].source
    assert (
        text == f'# Exercise 03.1\nbefore = 1\n{" " * indent}raise NotImplementedError("Your turn.")\n{" " * indent}after = 2'
    )


def test_an_exercise_without_marks_would_show_its_answer(lesson):
    with pytest.raises(ValueError, match="cell exercise-03-1 has 0 marked answers; an exercise cell has one"):
        learners(lesson(text=SOURCE.replace("### END SOLUTION", "")))
    with pytest.raises(ValueError, match="cell exercise-03-1 has 0 marked answers"):
        learners(lesson(text=SOURCE.replace("### BEGIN SOLUTION", "").replace("### END SOLUTION", "")))


def test_marks_in_another_cell_would_show_an_answer(lesson):
    with pytest.raises(
        ValueError, match="an answer would stay in cell 03_freeze-02; mark it by a BEGIN and an END in an exercise"
    ):
        learners(lesson(text=SOURCE.replace("    round(math.pi, 2)", "    ### BEGIN SOLUTION\n    1\n    ### END SOLUTION")))


def test_tags_come_from_a_closed_set(lesson):
    with pytest.raises(
        ValueError, match=r"03_freeze\.py, cell 2: tags \['slow'\] are unknown; choose from \['check', 'exercise'"
    ):
        read_source(lesson(text=SOURCE.replace("nbval-check-output", "slow")))


@pytest.mark.parametrize(
    ("old", "new"), [("# Exercise 03.1\n", "# Exercise 3.1\n"), ('check("03.1", double)', "check('03.1', double)")]
)
def test_exercises_and_checks_name_their_exercise(lesson, old, new):
    with pytest.raises(ValueError, match=r"03_freeze\.py: a cell tagged '(exercise|check)' must begin with"):
        read_source(lesson(text=SOURCE.replace(old, new)))


@pytest.fixture
def published(monkeypatch):
    """Publishes the course somewhere else: `published("https://example.org/course")`."""

    def put(address: str) -> None:
        monkeypatch.setattr(address_module, "repository_address", lambda: address)
        monkeypatch.setattr(authoring, "repository_address", lambda: address)

    return put


def test_links_between_the_lessons(lesson, published):
    published("https://github.com/owner/course")
    lesson("02_replace")
    path, last = lesson(), lesson("04_train")
    assert learners(path).cells[0].source.splitlines()[-1] == (
        "[← 02_replace](02_replace.ipynb) · [solution](../solutions/03_freeze.ipynb) · [04_train →](04_train.ipynb)"
        " · [Open in Colab](https://colab.research.google.com/github/owner/course/blob/main/notebooks/03_freeze.ipynb)"
    )
    title = solution_of(read_source(last), "04_train").cells[0].source
    assert (
        title.splitlines()[-1] == "[← 03_freeze](03_freeze.ipynb) · [the lesson without answers](../notebooks/04_train.ipynb)"
    )


def test_colab_is_offered_where_it_can_open_the_repository(lesson, published):
    path = lesson()
    published("https://codeberg.org/owner/course")
    assert learners(path).cells[0].source.splitlines()[-1] == "[solution](../solutions/03_freeze.ipynb)"


def test_the_first_code_cell_fetches_the_course(lesson, published):
    """In both notebooks, and in no source: the measures of a lesson are those of its source."""
    published("https://github.com/owner/course")
    path = lesson()
    source = read_source(path)
    for built in (solution_of(source, path.stem), blank(source, path.stem)):
        first, second = [cell for cell in built.cells if cell.cell_type == "code"][:2]
        assert (first.id, first.metadata.tags) == ("install", ["install"])
        assert "git+https://github.com/owner/course" in first.source
        assert second.metadata.tags == ["setup"]
        nbformat.validate(built)
    assert not any(cell.id == "install" for cell in source.cells)
    with pytest.raises(ValueError, match=r"tags \['install'\] are unknown"):
        read_source(lesson(text=SOURCE.replace('["setup"]', '["install"]')))


def test_a_new_address_makes_a_lesson_stale(lesson, published):
    path, found = lesson(), set()
    for host in ("github.com", "codeberg.org"):  # with a link to Colab and without one
        for owner in ("owner", "other"):
            published(f"https://{host}/{owner}/course")
            found.add(authoring.fingerprint(path))
    assert len(found) == 4


def test_a_new_neighbour_makes_a_lesson_stale(lesson):
    """Its links have changed, though its source has not."""
    path = lesson()
    before = authoring.fingerprint(path)
    lesson("01_load")
    after = authoring.fingerprint(path)
    assert before != after
    lesson("00_start")  # not a neighbour
    assert authoring.fingerprint(path) == after


def test_two_builds_give_the_same_bytes(lesson, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_PROFILE", "full")  # a build is always tiny, whatever the author's settings
    path = lesson()
    assert build(path)
    built = [path.with_suffix(".ipynb"), tmp_path / "notebooks" / "03_freeze.ipynb"]
    first = [file.read_bytes() for file in built]
    assert not build(path), "nothing has changed"
    assert build(path, again=True)
    assert [file.read_bytes() for file in built] == first
    answers, learner = (nbformat.read(file, as_version=4) for file in built)
    printed = {
        cell.id: [output.get("text") or output["data"]["text/plain"] for output in cell.get("outputs", [])]
        for cell in answers.cells
    }
    assert printed["check-03-1"] == ["Exercise 03.1: passed\n"]
    code = [cell for cell in learner.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code), "a guess comes before its answer"
    assert printed["03_freeze-02"] == ["3.14"]
    assert set(answers.metadata) == {"kernelspec", "source"}
    assert all(
        set(cell.metadata) <= {"tags", "nbgrader", "jupyter"} for notebook in (answers, learner) for cell in notebook.cells
    )
    assert not list(tmp_path.rglob("*.part"))


def test_a_lesson_that_fails_leaves_the_old_notebooks(lesson, tmp_path):
    path = lesson()
    old = path.with_suffix(".ipynb")
    old.write_text("old")
    lesson(text=SOURCE.replace("round(math.pi, 2)", "1 / 0"))
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        build(path, again=True)
    assert old.read_text() == "old"
    assert not (tmp_path / "notebooks").exists()


def test_the_environment_comes_back(monkeypatch):
    monkeypatch.setenv("COURSE_A", "1")
    monkeypatch.delenv("COURSE_B", raising=False)
    with suppress(RuntimeError), environment(COURSE_A=None, COURSE_B="2"):
        assert "COURSE_A" not in os.environ
        assert os.environ["COURSE_B"] == "2"
        raise RuntimeError
    assert os.environ["COURSE_A"] == "1"
    assert "COURSE_B" not in os.environ
