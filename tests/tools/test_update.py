"""`course update`: whatever a learner typed is in the new copy or among the earlier ones, in a clone as people have it."""

import copy
import json
import os
import subprocess
import sys
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_utils.errors import BLANK
from course_utils.tools import cli, copies, lessons, renewal, update

LESSON = "03_freeze"


def cell(id, source, kind="code", **metadata):
    made = {"cell_type": kind, "id": id, "metadata": metadata, "source": source}
    return made | ({"outputs": [], "execution_count": None} if kind == "code" else {})


def exercise(number, function, note=""):
    source = f"# Exercise 03.{number}\ndef {function}(x):\n    # {note}\n    {BLANK}"
    return cell(f"exercise-03-{number}", source, tags=["exercise"])


def notebook(edition, *cells):
    return {"cells": list(cells), "metadata": {"source": edition}, "nbformat": 4, "nbformat_minor": 5}


def first():
    return notebook(
        "one",
        cell("03_freeze-00", "# 3. Freeze\n\nlinks", "markdown"),
        cell("03_freeze-01", "import torch", tags=["setup"]),
        cell("03_freeze-02", "guess = None  # how many?"),
        cell("03_freeze-03", "A text.", "markdown"),
        exercise(1, "freeze_parts"),
        cell("check-03-1", 'check("03.1", freeze_parts)', tags=["check"]),
        cell("03_freeze-06", 'guess = {"a": None, "b": None}  # which?'),
        exercise(2, "what_moves"),
        cell("03_freeze-08", "epochs = 3"),
    )


def second():
    """Another edition: a cell more, so that the ids of others shift; exercises change places; words differ."""
    return notebook(
        "two",
        cell("03_freeze-00", "# 3. Freeze layers\n\nother links", "markdown"),
        cell("install", "# fetches the course", tags=["install"]),
        cell("03_freeze-01", "import torch", tags=["setup"]),
        cell("03_freeze-02", "A new text.", "markdown"),
        cell("03_freeze-03", "guess = None  # how many layers?"),
        exercise(1, "what_moves", "look twice"),
        cell("03_freeze-06", 'guess = {"a": None, "b": None}  # which?'),
        exercise(2, "freeze_parts"),
        cell("check-03-1", 'check("03.2", freeze_parts)', tags=["check"]),
        cell("03_freeze-08", "epochs = 5"),
    )


def answered(function):
    return f"# Exercise 03.9\ndef {function}(x):\n    return x + 41"


@pytest.fixture
def home(tmp_path, monkeypatch):
    for name in ("NOTEBOOKS", "SOLUTIONS", "MY"):
        monkeypatch.setattr(lessons, name, tmp_path / name.lower())
    monkeypatch.setattr(update, "HOME", tmp_path)
    (tmp_path / "notebooks").mkdir()
    return tmp_path


def ship(home, edition):
    (home / "notebooks" / f"{LESSON}.ipynb").write_text(json.dumps(edition, indent=1))


def mine(home):
    return home / "my" / f"{LESSON}.ipynb"


def earlier(home):
    return sorted((home / "my" / "earlier").glob("*.ipynb"))


def work(path, change):
    found = json.loads(path.read_text())
    change(found["cells"])
    path.write_text(json.dumps(found))


def sources(path):
    return [copies.source_of(one) for one in json.loads(path.read_text())["cells"]]


def copied(edition=None):
    edition = edition or first()
    return copies.with_marks(edition, edition)


# --------------------------------------------------------------------------------------------------- what is put in


def test_answers_follow_their_function_and_take_the_number_of_this_edition():
    old = copied()
    old["cells"][4]["source"] = answered("freeze_parts").splitlines(keepends=True)
    result = renewal.renew(old, second())
    found = {one["id"]: copies.source_of(one) for one in result.notebook["cells"]}
    assert found["exercise-03-2"] == answered("freeze_parts").replace("03.9", "03.2")
    assert BLANK in found["exercise-03-1"]
    assert result.kept == {"answer": 1}
    assert result.left == 0


def test_an_answer_whose_function_is_gone_stands_below_its_exercise():
    new = second()
    new["cells"][5] = exercise(1, "another_name")
    old = copied()
    old["cells"][4]["source"] = answered("gone")
    result = renewal.renew(old, new)
    texts = [copies.source_of(one) for one in result.notebook["cells"]]
    assert texts[5] == exercise(1, "another_name")["source"]
    assert texts[6] == answered("gone")


def test_guesses_go_into_the_line_of_this_edition():
    old = copied()
    old["cells"][2]["source"] = "guess = 7  # how many?"
    old["cells"][6]["source"] = 'guess = {\n    "a": True,\n    "b": None,\n}  # which?'
    result = renewal.renew(old, second())
    texts = [copies.source_of(one) for one in result.notebook["cells"]]
    assert texts[4] == "guess = 7  # how many layers?"
    assert texts[6] == 'guess = {\n    "a": True,\n    "b": None,\n}  # which?'
    assert result.kept == {"guess": 2}


def test_own_cells_follow_the_cell_that_they_followed():
    old = copied()
    old["cells"].insert(9, cell("cccc", "after epochs"))
    old["cells"].insert(5, cell("bbbb", "after exercise 1"))
    old["cells"].insert(2, cell("aaaa", "after torch"))
    result = renewal.renew(old, second())
    texts = [copies.source_of(one) for one in result.notebook["cells"]]
    assert texts[texts.index("after torch") - 1] == "import torch"
    assert texts[texts.index("after epochs") - 1] != "import torch"
    assert result.kept == {"cell of yours": 3}


def test_where_nothing_of_the_old_edition_is_left_own_cells_stand_at_the_end_under_a_heading():
    old = copied()
    old["cells"][0]["source"] = "no title"
    old["cells"].insert(1, cell("aaaa", "mine"))
    new = notebook("three", cell("03_freeze-00", "# Other", "markdown"), cell("03_freeze-01", "all new"))
    texts = [copies.source_of(one) for one in renewal.renew(old, new).notebook["cells"]]
    assert texts == ["# Other", "all new", renewal.AT_THE_END, "mine"]


def test_what_is_changed_and_has_no_place_is_counted():
    old = copied()
    old["cells"][8]["source"] = "epochs = 300"
    result = renewal.renew(old, second())
    assert str(result) == "nothing of yours to carry over; 1 cell that differs has no place in it"


def test_a_changed_cell_that_this_edition_has_as_it_was_stays_changed():
    old = copied()
    old["cells"][1] |= {"source": "import torch\nimport random", "outputs": [{"output_type": "stream"}], "execution_count": 4}
    old["cells"][2]["source"] = "guess = 7  # I think"
    result = renewal.renew(old, second())
    new = result.notebook["cells"][2]
    assert new == cell("03_freeze-01", "import torch\nimport random", tags=["setup"])
    assert str(result) == "kept: 1 guess, 1 changed cell; 1 cell that differs has no place in it"


def test_a_guess_whose_cell_is_as_it_was_keeps_the_words_beside_it():
    old = copied()
    old["cells"][6]["source"] = 'guess = {"a": True, "b": None}  # because'
    result = renewal.renew(old, second())
    assert 'guess = {"a": True, "b": None}  # because' in map(copies.source_of, result.notebook["cells"])
    assert str(result) == "kept: 1 guess"


def test_a_cell_that_became_a_text_is_left_in_the_old_copy():
    old = copied()
    old["cells"][1] = cell("03_freeze-01", "no code", "markdown")
    result = renewal.renew(old, second())
    assert result.notebook["cells"][2] == second()["cells"][2]
    assert result.left == 1


def test_ids_are_unique_and_the_new_copy_knows_its_edition():
    old = copied()
    old["cells"].insert(3, cell("install", "my own install"))
    old["cells"].insert(4, copy.deepcopy(old["cells"][1]))
    new = renewal.renew(old, second()).notebook
    ids = [one["id"] for one in new["cells"]]
    assert len(set(ids)) == len(ids)
    assert new["metadata"]["source"] == "two"
    assert len(copies.marks(new)) == len(second()["cells"])


def test_a_copy_of_an_unknown_edition_keeps_answers_and_takes_no_old_blank_for_one():
    old = first()  # no marks
    old["cells"][4]["source"] = answered("freeze_parts")
    old["cells"].insert(4, cell("aaaa", "mine"))
    result = renewal.renew(old, second())
    assert result.kept == {"answer": 1, "cell of yours": 1}
    assert any(one["id"] == "exercise-03-1" and BLANK in copies.source_of(one) for one in result.notebook["cells"])


# ------------------------------------------------------------------------------------------------------ nothing lost

TYPED = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
PLACES = st.integers(0, len(first()["cells"]) - 1)
SOURCES = st.one_of(
    TYPED,
    TYPED.map(lambda text: f"guess = {text!r}  # how many?"),
    TYPED.map(lambda text: f"# Exercise 03.1\ndef freeze_parts(x):\n    return {text!r}"),
    TYPED.map(lambda text: f"{answered('what_moves')}\n# {text}"),
)
EDITS = st.lists(
    st.tuples(st.sampled_from(["replace", "insert", "append", "delete", "same id", "no id"]), PLACES, SOURCES), max_size=6
)


def edited(cells, edits):
    for how, place, text in edits:
        place = min(place, len(cells) - 1)
        if how == "replace":
            cells[place]["source"] = text
        elif how == "append":
            cells[place]["source"] = copies.source_of(cells[place]) + "\n" + text
        elif how == "delete" and len(cells) > 1:
            del cells[place]
        elif how == "no id":
            cells[place].pop("id", None)
            cells[place]["source"] = text
        else:
            id = {"id": cells[place].get("id", "x")} if how == "same id" else {"id": f"own-{len(cells)}"}
            cells.insert(place, cell("", text) | id)


@settings(max_examples=150, deadline=None)
@given(edits=EDITS, known=st.booleans())
def test_every_line_that_was_typed_is_in_the_new_copy_or_among_the_earlier_ones(tmp_path_factory, edits, known):
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        for name in ("NOTEBOOKS", "MY"):
            patch.setattr(lessons, name, home / name.lower())
            (home / name.lower()).mkdir()
        ship(home, second())
        old = copied() if known else first()
        shipped = {line for one in first()["cells"] for line in copies.source_of(one).split("\n")}
        edited(old["cells"], edits)
        mine(home).write_text(json.dumps(old))
        typed = {line for one in old["cells"] for line in copies.source_of(one).split("\n")} - shipped
        update.renewed(mine(home))
        kept = {line for path in [mine(home), *earlier(home)] for text in sources(path) for line in text.split("\n")}
        assert typed <= kept
        new = json.loads(mine(home).read_text())
        assert len({one["id"] for one in new["cells"]}) == len(new["cells"])
        own = [copies.source_of(one) for one in old["cells"] if str(one.get("id", "")).startswith("own-")]
        here = [text.partition("\n")[2] or text for text in sources(mine(home))]
        if known:
            assert all((text.partition("\n")[2] or text) in here for text in own if text.strip()), "an own cell is not carried"


def test_an_untouched_copy_is_renewed_without_a_word_and_without_an_earlier_one(home):
    ship(home, first())
    copies.make_copies()
    ship(home, second())
    assert copies.older() == [LESSON]
    assert update.renewed(mine(home)) == "renewed; you had changed nothing"
    assert not earlier(home)
    assert copies.is_untouched(json.loads(mine(home).read_text()))
    assert copies.older() == []


@pytest.mark.parametrize(
    "change",
    [
        lambda cells: cells[3].update(source="A text of mine."),
        lambda cells: cells[1].update(outputs=[{"output_type": "stream", "name": "stdout", "text": "ran"}]),
        lambda cells: cells.append(cell("aaaa", "mine")),
        lambda cells: cells.pop(),
        lambda cells: cells[3].update(cell_type="raw"),
        lambda cells: cells[3].update(attachments={"a.png": {}}),
        lambda cells: cells.reverse(),
    ],
)
def test_whatever_was_done_to_a_copy_the_whole_of_it_is_kept(home, change):
    ship(home, first())
    copies.make_copies()
    work(mine(home), change)
    before = mine(home).read_bytes()
    ship(home, second())
    update.renewed(mine(home))
    assert [path.read_bytes() for path in earlier(home)] == [before]


def test_interrupted_before_the_new_copy_is_written_nothing_is_lost_and_nothing_kept_twice(home, monkeypatch):
    ship(home, first())
    copies.make_copies()
    work(mine(home), lambda cells: cells.append(cell("aaaa", "mine")))
    before = mine(home).read_bytes()
    ship(home, second())
    with monkeypatch.context() as patch:
        patch.setattr(update, "replace_keeping_time", mock.Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            update.renew_all()
    assert mine(home).read_bytes() == before
    update.renew_all()
    assert len(earlier(home)) == 1
    assert "mine" in sources(mine(home))


@pytest.mark.parametrize("blob", [b"<<<<<<< HEAD", b"[]", b'{"cells": [1], "metadata": {}}', b"\xff", b"[" * 100_000])
def test_a_copy_that_cannot_be_read_is_kept_and_made_anew(home, blob):
    ship(home, first())
    copies.make_copies()
    mine(home).write_bytes(blob)
    assert copies.older() == [LESSON]
    said = update.renewed(mine(home))
    assert said.startswith("your copy could not be read (")
    assert said.endswith("; a fresh one stands in its place")
    assert [path.read_bytes() for path in earlier(home)] == [blob]
    assert copies.is_untouched(json.loads(mine(home).read_text()))


def test_a_lesson_that_is_gone_keeps_its_copy(home, capsys):
    ship(home, first())
    copies.make_copies()
    (home / "my" / "02_old.ipynb").write_text("{}")
    update.renew_all()
    assert "02_old: no lesson of this edition; your copy stays as it is" in capsys.readouterr().out


def test_a_damaged_lesson_is_named(home):
    (home / "notebooks" / f"{LESSON}.ipynb").write_text("<")
    with pytest.raises(ValueError, match=r"03_freeze\.ipynb cannot be read .*`git checkout notebooks` brings it back"):
        copies.make_copies()


def test_without_git_it_says_how_to_bring_my_along_and_renews(home, capsys):
    ship(home, first())
    copies.make_copies()
    ship(home, second())
    assert cli.main(["update"]) == 0
    said = capsys.readouterr().out
    assert "copy the folder my/ (and .course/, your verdicts) from here into it" in " ".join(said.split())
    assert f"{LESSON}: renewed" in said


# -------------------------------------------------------------------------------------------------------- in a clone


def git(folder, *arguments):
    names = ["-c", "user.name=x", "-c", "user.email=x@y"]
    subprocess.run(["git", "-C", str(folder), *names, *arguments], check=True, capture_output=True)


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A learner's clone of a small course, and the course."""
    with mock.patch.dict(os.environ, {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}):
        source, folder = tmp_path / "source", tmp_path / "learner"
        (source / "notebooks").mkdir(parents=True)
        (source / "solutions").mkdir()
        (source / "README.md").write_text("read")
        (source / ".gitignore").write_text("my/\n")
        ship(source, first())
        (source / "solutions" / f"{LESSON}.ipynb").write_text(json.dumps(first()))
        git(source, "init", "--quiet", "-b", "main")
        git(source, "add", "-A")
        git(source, "commit", "-qm", "one")
        subprocess.run(["git", "clone", "--quiet", str(source), str(folder)], check=True, capture_output=True)
        for name in ("NOTEBOOKS", "SOLUTIONS", "MY"):
            monkeypatch.setattr(lessons, name, folder / name.lower())
        monkeypatch.setattr(update, "HOME", folder)
        monkeypatch.setattr(update.subprocess, "call", lambda command, **_: update.renew_all() or 0)  # the new code
        yield folder, source


def publish(source):
    ship(source, second())
    git(source, "commit", "-qam", "two")


def state(folder):
    done = [
        subprocess.run(["git", "-C", str(folder), *what], capture_output=True).stdout
        for what in (["rev-parse", "HEAD"], ["diff"])
    ]
    return done, {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts}


def test_what_was_saved_in_notebooks_moves_into_my_and_into_the_new_edition(clone, capsys):
    folder, source = clone
    work(folder / "notebooks" / f"{LESSON}.ipynb", lambda cells: cells[4].update(source=answered("freeze_parts")))
    work(folder / "solutions" / f"{LESSON}.ipynb", lambda cells: cells.append(cell("a", "read this")))
    publish(source)
    assert cli.main(["update"]) == 0
    said = capsys.readouterr().out
    assert f"notebooks/{LESSON}.ipynb: your changes are now in my/{LESSON}.ipynb" in said
    assert "kept: 1 answer;" in said
    assert answered("freeze_parts").replace("03.9", "03.2") in sources(mine(folder))
    assert json.loads((folder / "notebooks" / f"{LESSON}.ipynb").read_text()) == second()
    assert any("read this" in sources(path) for path in earlier(folder))
    assert not state(folder)[0][1], "git has nothing to show"


def test_a_copy_that_lab_made_of_a_lesson_worked_on_knows_what_is_the_learners(clone):
    folder, source = clone
    work(folder / "notebooks" / f"{LESSON}.ipynb", lambda cells: cells[3].update(source="my text"))
    copies.make_copies()
    assert not copies.is_untouched(json.loads(mine(folder).read_text()))
    publish(source)
    assert cli.main(["update"]) == 0
    assert any("my text" in sources(path) for path in earlier(folder))


def test_work_in_both_places_is_kept(clone):
    folder, source = clone
    copies.make_copies()
    work(mine(folder), lambda cells: cells[3].update(source="in my"))
    work(folder / "notebooks" / f"{LESSON}.ipynb", lambda cells: cells[3].update(source="in notebooks"))
    publish(source)
    assert cli.main(["update"]) == 0
    texts = [text for path in earlier(folder) for text in sources(path)]
    assert "in my" in texts
    assert "in notebooks" in texts


def test_a_lesson_that_the_learner_deleted_comes_back(clone):
    folder, source = clone
    (folder / "notebooks" / f"{LESSON}.ipynb").unlink()
    publish(source)
    assert cli.main(["update"]) == 0
    assert json.loads((folder / "notebooks" / f"{LESSON}.ipynb").read_text()) == second()


def elsewhere(folder, source):
    (folder / "README.md").write_text("mine")


def offline(folder, source):
    source.rename(source.with_name("gone"))


def no_upstream(folder, source):
    git(folder, "branch", "--unset-upstream")


def diverged(folder, source):
    (folder / "README.md").write_text("mine")
    git(folder, "commit", "-qam", "mine")
    publish(source)


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (elsewhere, "you changed README.md; keep that with `git commit`"),
        (offline, "the newer course cannot be fetched"),
        (no_upstream, "this branch follows no other one"),
        (diverged, "you have commits of your own here"),
    ],
)
def test_where_git_cannot_go_on_there_is_a_sentence_and_nothing_changes(clone, capsys, prepare, words):
    folder, source = clone
    work(folder / "notebooks" / f"{LESSON}.ipynb", lambda cells: cells[3].update(source="mine"))
    prepare(folder, source)
    before = state(folder)
    assert cli.main(["update"]) == 2
    assert words in capsys.readouterr().err
    assert state(folder) == before


def test_a_file_in_the_way_of_the_newer_course_is_named(clone, capsys):
    folder, source = clone
    (folder / "notebooks" / "mine.ipynb").write_text("mine")
    (source / "notebooks" / "mine.ipynb").write_text("theirs")
    git(source, "add", "-A")
    publish(source)
    assert cli.main(["update"]) == 2
    said = capsys.readouterr().err
    assert "overwritten by merge: notebooks/mine.ipynb Please move or remove them before you merge" in said
    assert "Aborting" not in said
    assert said.endswith("then update again; what you did is in my/\n")
    assert (folder / "notebooks" / "mine.ipynb").read_text() == "mine"


@pytest.mark.parametrize(
    ("lines", "cause"),
    [
        (
            "ssh: no such host\nfatal: Could not read from remote repository.\n\nPlease make sure you have the correct access "
            "rights\nand the repository exists.\n",
            "ssh: no such host fatal: Could not read from remote repository",
        ),
        (
            "fatal: Unable to create 'index.lock': File exists.\n\nremove the file manually",
            "fatal: Unable to create 'index.lock'",
        ),
        ("warning: redirecting\nhint: x\nfatal: no\n", "fatal: no"),
        ("", "git said nothing"),
    ],
)
def test_the_cause_is_taken_from_what_git_says(lines, cause):
    assert update.cause(lines).startswith(cause)


def test_who_has_a_lesson_open_is_told_how_to_see_the_new_one(home, capsys):
    ship(home, first())
    copies.make_copies()
    update.renew_all()
    assert not capsys.readouterr().out
    ship(home, second())
    update.renew_all()
    assert "Reload Notebook from Disk" in capsys.readouterr().out


def test_packages_are_brought_up_to_date_where_install_py_made_the_environment(home, monkeypatch):
    called = mock.Mock(return_value=0)
    monkeypatch.setattr(update.subprocess, "call", called)
    monkeypatch.setattr(sys, "prefix", str(home / ".venv"))
    update.install()
    assert called.call_args.args[0] == [sys.executable, str(home / "install.py")]
    called.return_value = 1
    with pytest.raises(ValueError, match="the same command tries again"):
        update.install()
