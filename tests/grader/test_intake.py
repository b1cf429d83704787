"""Reading what people hand in: every form of folder and archive, every way in which a notebook can be bent or hostile."""

import io
import json
import os
import re
import stat
import struct
import time
import unicodedata
import zipfile
import zlib
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings

from course_utils.checks import all_checks
from course_utils.grader.intake import archive
from course_utils.grader.intake.answers import blank_cells, names_made, read_answers
from course_utils.grader.intake.archive import MB, Refused, Upload, read_all, read_submissions, safe_name, student_of
from course_utils.grader.intake.notebook import cell_name, cells_of, without_cell_magics
from course_utils.profiles import HOME
from course_utils.tools.install_cell import install_cell

LESSON, ID, FUNCTION = "03_freeze", "03.3", "what_moves"
ANSWER = f"# Exercise {ID}\ndef {FUNCTION}(gradient, train_mode, in_optimizer):\n    return gradient, train_mode\n"


def notebook(folder="notebooks", lesson=LESSON):
    return json.loads((HOME / folder / f"{lesson}.ipynb").read_text(encoding="utf-8"))


def solved():
    """The blank lesson with one answer."""
    content = notebook()
    cell_of(content)["source"] = ANSWER
    return content


def cell_of(content, id=ID):
    return next(cell for cell in content["cells"] if cell.get("id") == cell_name("exercise", id))


def blob_of(content) -> bytes:
    return json.dumps(content).encode()


# ------------------------------------------------------------------------------------------------------ the answers


@pytest.mark.parametrize("path", sorted((HOME / "solutions").glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_answer_of_every_lesson_is_found(path):
    found = read_answers(path.read_bytes())
    assert list(found.answers) == [id for id in all_checks() if id.startswith(path.stem[:2])]
    assert (found.lesson, found.flags) == (path.stem[:2], ())


@pytest.mark.parametrize("path", sorted((HOME / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_blank_notebook_has_no_answers(path):
    assert read_answers(path.read_bytes()).answers == {}


def no_ids(content):
    for cell in content["cells"]:
        cell.pop("id"), cell.update(metadata={}, outputs=[], execution_count=None)
    content["metadata"] = {}


def reordered(content):
    content["cells"].reverse()


def retagged(content):
    for cell in content["cells"]:
        cell["metadata"]["tags"] = ["setup", "exercise", "solution"]


def retyped(content):
    cell_of(content)["cell_type"] = "markdown"


def other_editor(content):
    cell_of(content)["source"] = cell_of(content)["source"].replace("\n", "   \r\n")


def as_lines(content):
    cell_of(content)["source"] = cell_of(content)["source"].splitlines(keepends=True)


def no_first_line(content):
    no_ids(content)
    for cell in content["cells"]:
        cell["source"] = re.sub(r"^# Exercise .*\n", "", "".join(cell["source"]))


def with_magics(content):
    cell_of(content)["source"] = f"%%time\n%matplotlib inline\n!pip install timm\n%pip install timm\nlen?\n{ANSWER}"


def deleted_others(content):
    content["cells"] = [cell_of(content)]


@pytest.mark.parametrize(
    "bend",
    [no_ids, reordered, retagged, retyped, other_editor, as_lines, no_first_line, with_magics, deleted_others],
    ids=lambda f: f.__name__,
)
def test_an_answer_is_found_however_the_notebook_was_bent(bend):
    content = solved()
    bend(content)
    found = read_answers(blob_of(content))
    assert (found.lesson, list(found.answers)) == ("03", [ID])
    assert "return gradient, train_mode" in found.answers[ID]


def test_the_cell_that_fetches_the_course_changes_nothing():
    """A notebook of an older edition has none; no id or function of an exercise is in it."""
    without, found = solved(), solved()
    without["cells"] = [cell for cell in without["cells"] if cell.get("id") != "install"]
    found["cells"] = list(without["cells"])
    found["cells"].insert(1, {"cell_type": "code", "id": "install", "source": install_cell("https://github.com/a/b")})
    one, other = read_answers(blob_of(found)), read_answers(blob_of(without))
    assert (one.answers, one.flags, one.lesson) == (other.answers, other.flags, other.lesson)
    assert one.answers == {ID: ANSWER}


def test_of_several_cells_the_last_that_is_not_blank_counts():
    content = solved()
    later = {**cell_of(content), "source": ANSWER.replace("return", "return not"), "id": "copy"}
    blank = {**cell_of(content), "source": blank_cells()["exercise-03-3"], "id": "blank"}
    content["cells"] += [later, blank]
    found = read_answers(blob_of(content))
    assert "return not gradient" in found.answers[ID]
    assert found.flags == ("03.3: 2 cells say that they are this exercise; the last one counts",)


def test_a_split_cell_comes_together():
    content = solved()
    head, body = "# Exercise 03.3\nWORDS = 3\n", ANSWER.partition("\n")[2]
    cell_of(content)["source"] = head
    content["cells"].append({"cell_type": "code", "source": body, "metadata": {}})
    found = read_answers(blob_of(content))
    assert found.answers[ID] == head + "\n\n" + body
    assert found.flags == ("03.3: `what_moves` was found in another cell",)


def test_a_deleted_answer_is_missing_and_a_function_of_another_lesson_is_not_an_answer():
    content = solved()
    content["cells"].remove(cell_of(content, "03.1"))
    content["cells"].append({"cell_type": "code", "source": "def report():\n    return {}", "metadata": {}})
    found = read_answers(blob_of(content))
    assert list(found.answers) == [ID]
    assert found.flags == ("03.1: there is no cell of this exercise",)


def test_a_second_lesson_is_a_remark():
    content = solved()
    other = cell_of(notebook(lesson="04_train"), "04.1")
    content["cells"].append(other)
    assert read_answers(blob_of(content)).flags == (), "it is still blank"
    other["source"] = "# Exercise 04.1\ndef fit():\n    return 1"
    found = read_answers(blob_of(content))
    assert (found.lesson, list(found.answers)) == ("03", [ID])
    assert found.flags == ("answers of lesson 04 were not marked; hand in one notebook for each lesson",)


def test_what_our_cells_say_has_one_form_only():
    """So whoever compares them with a notebook need not know how its editor writes an accent."""
    assert all(unicodedata.is_normalized(form, text) for text in blank_cells().values() for form in ("NFC", "NFD"))


def test_a_changed_check_cell_is_a_remark():
    content = solved()
    next(cell for cell in content["cells"] if cell["id"] == "check-03-3")["source"] = "print('Exercise 03.3: passed')"
    assert read_answers(blob_of(content)).flags == ("03.3: its check cell was changed; it is not used here",)


@pytest.mark.parametrize("magics", ["%%time\n", "\n%%capture words --no-stderr\r\n%%time\n", "%%timeit -n 1\n"])
def test_timing_or_silencing_a_cell_changes_nothing(magics):
    """Its lines keep their numbers; a blank exercise stays blank, a check cell its own."""
    content = solved()
    no_ids(content)
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            cell["source"] = magics + "".join(cell["source"])
    found = read_answers(blob_of(content))
    assert (list(found.answers), found.flags) == ([ID], ())
    answer = found.answers[ID]
    assert answer.strip() == ANSWER.strip()
    assert answer.splitlines().index(f"# Exercise {ID}") == len(magics.splitlines())


@pytest.mark.parametrize("source", ["%%bash\nls", "%%timer\n1", "x = 1\n%%time", "%time x = 1"])
def test_other_magics_stay(source):
    assert without_cell_magics(source) == source


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import torch.nn.functional as F, math\nimport os.path", "F math os"),
        ("from torch import (\n    nn,  # layers\n    optim as o\n)\nx = 1", "nn o x"),
        ("def helper(a, b=3):\n    return a", "helper"),
        ("async def helper():\n    pass\nclass Net(nn.Module): pass", "helper Net"),
        ("a, *b = 1, 2\nc: int = 3\nd == 4\nf(e=5)\ng[0] = 6", "a b c"),
        ("with torch.no_grad() as off:\n    features = 1", "off features"),
        ("for i in range(3):\n    pass", "i"),
        ("def (:\n%time x\n'", ""),
        ("x = 1\n" * 10**5 + "y = 2", "x"),
        ("(" * 10**6, ""),
    ],
    ids=range(10),
)
def test_the_names_that_a_cell_makes(source, names):
    assert names_made(source) == set(names.split())


@given(st.text(st.sampled_from("adefimportsclass (),.:=*#'\\\n\t\0")))
def test_names_are_looked_for_in_any_text(source):
    assert all(re.fullmatch(r"[^\s,]+", name) for name in names_made(source))


def test_what_another_cell_makes_is_told_from_what_the_answer_makes():
    content = solved()
    cell_of(content)["source"] = ANSWER + "late = 3\n"
    content["cells"] += [
        {"cell_type": "code", "source": "def helper():\n    return late", "metadata": {}},
        {"cell_type": "markdown", "source": "word = 3", "metadata": {}},
    ]
    found = read_answers(blob_of(content))
    assert found.makes_elsewhere("helper", ID)
    assert not any(found.makes_elsewhere(name, ID) for name in ("late", "word", FUNCTION, "unknown"))


def test_nbgraders_own_name_of_a_cell_is_enough():
    content = solved()
    cell = cell_of(content)
    cell.update(id="x", metadata={"nbgrader": {"grade_id": "exercise-03-3"}}, source=ANSWER.partition("\n")[2])
    assert list(read_answers(blob_of(content)).answers) == [ID]


# --------------------------------------------------------------------------------------- notebooks that are refused


@pytest.mark.parametrize(
    ("blob", "words"),
    [
        (b"", "no JSON"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b"[" * 100_000, "far too deep"),
        (b'{"a": ' * 9999 + b"1" + b"}" * 9999, "far too deep"),
        (b"[" + b"[]," * 250_000 + b"1]", "too many parts"),
        (b'{"nbformat": 4, "nbformat": 4, "cells": []}', "names one thing twice"),
        (b'{"nbformat": 4, "cells": [], "x": NaN}', "no exercise of this course"),
        (b'{"nbformat": 4, "cells": [], "x": ' + b"9" * 9999 + b"}", "no exercise of this course"),
        (b'{"nbformat": 3, "worksheets": []}', "open it in Jupyter and save it"),
        (b'{"nbformat": 4, "cells": {}}', "open it in Jupyter and save it"),
        (b'{"nbformat": 4, "cells": [3]}', "a cell without text"),
        (b'{"nbformat": 4, "cells": [{"source": [1]}]}', "a cell without text"),
        (b"[]", "no notebook of format 4"),
        (b'{"nbformat": 4, "cells": []}', "no exercise of this course"),
        (blob_of({"nbformat": 4, "cells": [{"source": ""}] * 2001}), "2001 cells; at most 2000"),
        (blob_of({"nbformat": 4, "cells": [{"source": "x" * (MB + 1)}]}), "characters; at most"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_notebook_of_ours_is_refused_with_a_reason(blob, words):
    with pytest.raises(Refused, match=re.escape(words)):
        read_answers(blob)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_any_json_is_read_or_refused(value):
    for content in (
        value,
        {"nbformat": 4, "cells": value},
        {"nbformat": 4, "cells": [{"source": "x", "metadata": value, "id": value}]},
    ):
        with suppress(Refused):
            assert all(isinstance(cell.source, str) for cell in cells_of(blob_of(content)))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(blob):
    with pytest.raises(Refused):
        read_answers(blob)


# -------------------------------------------------------------------------------------------- notebooks that take time


def growth(read, small, large) -> float:
    """How many times longer it takes to read `large`, which is four times `small`: about 4 if it is gone over once."""

    def seconds(blob: bytes, times: int) -> float:
        start = time.process_time()
        for _ in range(times):
            read(blob)
        return time.process_time() - start

    times = 1
    while seconds(small, times) < 0.005:
        times *= 2
    return min(seconds(large, times) / seconds(small, times) for _ in range(2))


def read_whole(blob: bytes) -> None:
    with suppress(Refused):
        found = read_answers(blob)
        assert not any(found.makes_elsewhere("missing", id) for id in found.answers)


def repeated(piece: str, size: int, inside: bool) -> bytes:
    """A file filled with one text again and again; or cells filled with it that claim to be every exercise."""
    text = piece * (size // len(piece.encode()))
    if not inside:
        return f'{{"nbformat": 4, "cells": [{text}'.encode()
    names = [cell_name(kind, id) for kind in ("exercise", "check") for id in all_checks()]
    parts = [text[begin : begin + len(text) // 9] for begin in range(0, len(text), len(text) // 9 + 1)]
    cells = [{"cell_type": "code", "source": part, "metadata": {"tags": names}} for part in parts]
    return json.dumps({"nbformat": 4, "cells": cells}, ensure_ascii=False).encode()


def many_cells(count: int) -> bytes:
    """Many cells that use a name, and an answer as long as all of them that does not make it."""
    sources = [ANSWER + "print(missing)\n" * 30 * count, *(f"print(missing, {number})" for number in range(count))]
    return blob_of({"nbformat": 4, "cells": [{"cell_type": "code", "source": source} for source in sources]})


ACCENTS, QUOTES = "\u0301\u0327", '\\"'
PIECES = [
    *(
        QUOTES,
        '"',
        "\\\\",
        "\\n",
        "[",
        "]",
        "{",
        '{"":',
        "}",
        ",",
        "0,",
        "9",
        "1e",
        "-",
        " ",
        "\t",
        ACCENTS,
        "é",
        "a",
        "a,",
        "=",
    ),
    *("# Exercise 03.3\n", "def what_moves\n", "%%time\n", "%%time ", "import (", "as ", "\r", "\n", "# ", "*a , ", ":"),
]


@settings(max_examples=12)
@example(pieces=[QUOTES], inside=False)
@example(pieces=[ACCENTS], inside=True)
@given(pieces=st.lists(st.sampled_from(PIECES), min_size=1, max_size=3), inside=st.booleans())
def test_reading_takes_time_in_proportion(pieces, inside):
    small, large = (repeated("".join(pieces), size, inside) for size in (1 << 15, 1 << 17))
    assert any(growth(read_whole, small, large) < 6.5 for _ in range(3))


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (partial(repeated, QUOTES, inside=False), 2 * MB),
        (partial(repeated, "9", inside=False), 2 * MB),
        (partial(repeated, ACCENTS, inside=True), 2 * MB),
        (partial(repeated, "a , " * 100 + "\n", inside=True), MB // 8),
        (many_cells, 450),
    ],
    ids=["quotes", "digits", "accents", "targets", "cells"],
)
def test_the_largest_notebooks_take_time_in_proportion(make, size):
    assert any(growth(read_whole, make(size), make(4 * size)) < 6.5 for _ in range(3))


def test_a_name_inside_a_zip_takes_time_in_proportion(tmp_path):
    """Accents in changing order take a time that grows with the square of their number to bring in order."""

    def read(path):
        assert [len(safe_name(upload.name)) for upload in read_submissions(path)]

    short, long = (pack(tmp_path / f"{count}.zip", (ACCENTS * count + ".ipynb", b"")) for count in (4000, 16000))
    assert any(growth(read, short, long) < 6.5 for _ in range(3))


def test_a_byte_order_mark_and_half_a_letter_do_no_harm():
    content = solved()
    cell_of(content)["source"] += "# \ud800"
    found = read_answers(b"\xef\xbb\xbf" + blob_of(content))
    assert found.answers[ID].endswith("# \\ud800")


# --------------------------------------------------------------------------------------------------------- folders


def handed_in(path):
    return [(upload.name, student_of(upload.name), upload.refused) for upload in read_submissions(path)]


def test_flat_by_learner_and_as_nbgrader_has_it(tmp_path):
    for name in (
        "ben.ipynb",
        "anna/03.ipynb",
        "anna/04.ipynb",
        "anna/.ipynb_checkpoints/03.ipynb",
        "submitted/cleo/hw/03.ipynb",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"{}")
    (tmp_path / "notes.txt").write_text("not a notebook")
    assert handed_in(tmp_path) == [
        ("anna/03.ipynb", "anna", ""),
        ("anna/04.ipynb", "anna", ""),
        ("ben.ipynb", "ben", ""),
        ("submitted/cleo/hw/03.ipynb", "cleo", ""),
    ]
    assert handed_in(tmp_path / "ben.ipynb") == [("ben.ipynb", "ben", "")]


def test_nothing_there():
    with pytest.raises(ValueError, match="nowhere is not there; give a notebook, a zip, or a folder"):
        list(read_submissions("nowhere"))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
def test_what_is_no_plain_file_is_refused_and_costs_the_others_nothing(tmp_path):
    (tmp_path / "good.ipynb").write_bytes(b"{}")
    (tmp_path / "link.ipynb").symlink_to(tmp_path / "good.ipynb")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "folder.ipynb").mkdir()
    os.mkfifo(tmp_path / "pipe.ipynb")
    (tmp_path / "large.ipynb").write_bytes(b" " * (10 * MB + 1))
    found = {name: refused for name, _, refused in handed_in(tmp_path)}
    assert found.pop("good.ipynb") == ""
    assert "link" in found["link.ipynb"]
    assert "link" in found["loop"]
    assert "larger than 10 MB" in found["large.ipynb"]
    assert all(found.values())
    assert len(found) == 5


def test_a_name_that_is_no_text(tmp_path):
    try:
        (tmp_path / os.fsdecode(b"\xff.ipynb")).write_bytes(b"{}")
    except OSError:
        pytest.skip("this file system takes no such name")
    assert handed_in(tmp_path)[0][0] == "\\udcff.ipynb"


# --------------------------------------------------------------------------------------------------------- archives


def pack(path, *members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def test_a_zip_is_read_without_unpacking(tmp_path, monkeypatch):
    monkeypatch.setattr(zipfile.ZipFile, "extractall", None)
    blob = blob_of(solved())
    others = "lesson/.ipynb_checkpoints/03-checkpoint.ipynb", "__MACOSX/._03.ipynb", "lesson/._03.ipynb", "data.csv"
    pack(tmp_path / "anna.zip", ("lesson/03.ipynb", blob), *((name, b"x") for name in others))
    (upload,) = read_submissions(tmp_path)
    assert upload == Upload("anna.zip/lesson/03.ipynb", blob)
    assert student_of(upload.name) == "anna"


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([(f"{i}.ipynb", b"") for i in range(2001)], "more than 2000 files"),
        ([("data.csv", b"PK")], "is no notebook"),
        ([], "is no notebook"),
        ([(f"{i}.ipynb", os.urandom(8) * (1 * MB)) for i in range(13)], "unpacks to more than 100 MB"),
    ],
    ids=["many", "data", "nothing", "bytes"],
)
def test_a_hostile_zip_is_refused_as_a_whole(tmp_path, members, words):
    pack(tmp_path / "evil.zip", *members)
    ((name, student, refused),) = handed_in(tmp_path)
    assert (name, student) == ("evil.zip", "evil")
    assert words in refused


def test_a_path_inside_a_zip_is_a_name_and_no_way(tmp_path):
    """Whatever it says, it belongs to the zip's learner, and nothing is written."""
    link = zipfile.ZipInfo("link.ipynb")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    names = [
        "../ben/x.ipynb",
        "/etc/x.ipynb",
        "C:\\x.ipynb",
        "a\\..\\..\\x.ipynb",
        "submitted/ben/x.ipynb",
        "ben_123_456_x.ipynb",
    ]
    path = pack(tmp_path / "anna.zip", *((name, b"{}") for name in names), (link, b"gradebook.db"))
    found = list(read_submissions(tmp_path))
    assert {student_of(upload.name) for upload in found} == {"anna"}
    assert sorted(upload.blob for upload in found) == [b"gradebook.db", *[b"{}"] * len(names)]
    assert list(tmp_path.iterdir()) == [path]


def test_more_hostile_zips(tmp_path):
    """What cannot be read of a zip costs the rest of it nothing."""
    blob = os.urandom(2000)
    good, bad = ("good.ipynb", b"{}"), ("bad.ipynb", blob)
    with pytest.warns(UserWarning, match="Duplicate name"):
        pack(tmp_path / "twice.zip", good, bad, ("bad.ipynb", b"2"))
    pack(tmp_path / "big.zip", good, ("bad.ipynb", bytes(11 * MB)))
    pack(tmp_path / "inner.zip", good, ("bad.zip", blob))
    pack(tmp_path / "odd.zip", good, bad, compression=zipfile.ZIP_LZMA)
    whole = pack(tmp_path / "lie.zip", good, bad).read_bytes()
    place = whole.index(blob[:100])
    (tmp_path / "lie.zip").write_bytes(whole[:place] + b"\0" * 30 + whole[place + 30 :])
    locked = bytearray(whole)
    locked[whole.rindex(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(locked)
    (tmp_path / "cut.zip").write_bytes(whole[:-30])
    (tmp_path / "text.zip").write_bytes(b"no zip")
    found = {name: refused for name, _, refused in handed_in(tmp_path)}
    for name, words in {
        "twice.zip/bad.ipynb (2)": "another upload has this name",
        "big.zip/bad.ipynb": "larger than 10 MB",
        "inner.zip/bad.zip": "a zip inside a zip",
        "odd.zip/bad.ipynb": "packed in an unusual way",
        "lie.zip/bad.ipynb": "it cannot be read (BadZipFile)",
        "locked.zip/bad.ipynb": "encrypted",
        "cut.zip": "it cannot be read (BadZipFile)",
        "text.zip": "it cannot be read (BadZipFile)",
    }.items():
        assert words in found.pop(name), name
    odd = found.pop("odd.zip/good.ipynb")
    assert "unusual" in odd
    assert set(found.values()) == {""}
    assert len(found) == 6


@given(st.binary(max_size=60), st.integers(0, 150))
def test_a_damaged_zip_is_read_or_refused(noise, place):
    buffer = io.BytesIO()
    pack(buffer, ("a.ipynb", b"{}" * 50))
    blob = buffer.getvalue()
    damaged = blob[:place] + noise + blob[place + len(noise) :]
    assert all(upload.refused or upload.blob is not None for upload in read_all([("a.zip", lambda: damaged)], False, Counter()))


# ------------------------------------------------------------------------------------------------------- whose it is


MOODLE = [
    "Ana Li_12345_assignsubmission_file_/03_freeze.ipynb",
    "Ana Li_12345_assignsubmission_onlinetext_/onlinetext.html",
    "Ana Li_12399_assignsubmission_file_/03_freeze.ipynb",
    "Ben_Ō'Neil_12346_assignsubmission_file/work.ipynb",
    "Cleo_12347_assignsubmission_onlinetext_/onlinetext.html",
    "Dora_12348_assignsubmission_file_03_freeze.ipynb",
]
IN_MOODLE = ["Ana Li (12345)", "Ana Li (12399)", "Ben_Ō'Neil (12346)", "Cleo (12347)", "Dora (12348)"]
CANVAS = [
    "liana_12345_678901_03_freeze.ipynb",
    "liana_12345_678902_04_train-1.ipynb",
    "oneilben_LATE_12346_678903_work_1_2.ipynb",
]
IN_CANVAS = ["liana (12345)", "oneilben (12346)"]
NBGRADER = ["submitted/ana/hw/03_freeze.ipynb", "submitted/ben/hw/03_freeze.ipynb", "submitted/cleo/hw/notes.txt"]
CLASSES = {
    "moodle": (MOODLE, IN_MOODLE),
    "canvas": (CANVAS, IN_CANVAS),
    "nbgrader": (NBGRADER, ["ana", "ben", "cleo"]),
    "folders": (["ana/a.ipynb", "ana/b/a.ipynb", "ben/a.ipynb", "cleo/report.pdf", "notes.txt"], ["ana", "ben", "cleo"]),
    "files": (["ana.ipynb", "ben.ipynb", "cleo.ipynb.txt", "dora.py"], ["ana", "ben", "cleo", "dora"]),
    "of one": (MOODLE[:2], IN_MOODLE[:1]),
}


@pytest.mark.parametrize("around", ["", "export/", "export/of a week/"])
@pytest.mark.parametrize(("names", "students"), CLASSES.values(), ids=CLASSES)
def test_a_zip_of_a_class_is_the_folder_it_was_made_of(tmp_path, names, students, around):
    for name in names:
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(b"{}")
    path = pack(tmp_path / "class.zip", *((around + name, b"{}") for name in names))
    found = handed_in(path)
    assert sorted({student for _, student, _ in found}) == students
    assert found == handed_in(tmp_path / "folder")


@pytest.mark.parametrize(
    "names",
    [
        ["03_freeze.ipynb", "04_train.ipynb"],
        ["course/notebooks/03_freeze.ipynb", "course/notebooks/04_train.ipynb", "course/course_utils/x.py"],
        ["homework.ipynb"],
    ],
)
def test_a_zip_of_one_learner_that_is_given(tmp_path, names):
    found = handed_in(pack(tmp_path / "ana.zip", *((name, b"{}") for name in names)))
    assert {student for _, student, _ in found} == {"ana"}


def test_a_class_may_be_larger_than_what_one_learner_hands_in(tmp_path):
    noise = os.urandom(9 * MB)
    path = pack(tmp_path / "class.zip", *((f"{number}.ipynb", noise) for number in range(12)), compression=zipfile.ZIP_STORED)
    assert [refused for *_, refused in handed_in(path)] == [""] * 12
    ((name, _, refused),) = handed_in(tmp_path)
    assert name == "class.zip"
    assert "larger than 50 MB" in refused


def test_archives_in_a_folder_belong_to_whom_the_platform_says(tmp_path):
    pack(tmp_path / "liana_12345_678901_work.zip", ("oneilben_12346_678903_x.ipynb", b"{}"), ("cleo/x.ipynb", b"{}"))
    folder = tmp_path / "Ana Li_999_assignsubmission_file_12346_assignsubmission_file_"
    folder.mkdir()
    (folder / "x.ipynb").write_bytes(b"{}")
    students = {student for _, student, _ in handed_in(tmp_path)}
    assert students == {"liana (12345)", "Ana Li_999_assignsubmission_file (12346)"}, "whoever takes such a name is nobody else"


def test_what_has_almost_the_name_of_a_notebook_is_named(tmp_path):
    for name in ("ana/03.ipynb", "ana/04.ipynb.txt", "ana/05.IPYNB.json", "ana/help.py", "ben/x.py", "dora.py", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"{}")
    (tmp_path / "cleo").mkdir()
    (tmp_path / "ana" / ".ipynb_checkpoints").mkdir()
    (tmp_path / "ana" / ".ipynb_checkpoints" / "03-checkpoint.ipynb").write_bytes(b"{}")
    found = {name: refused for name, _, refused in handed_in(tmp_path)}
    assert list(found) == ["ana/03.ipynb", "ana/04.ipynb.txt", "ana/05.IPYNB.json", "ben", "cleo", "dora.py"]
    assert [name for name, words in found.items() if "does not end in .ipynb" in words] == list(found)[1:3]
    assert [name for name, words in found.items() if "is no notebook" in words] == ["ben", "cleo", "dora.py"]
    of_one = [upload.name for upload in read_submissions(tmp_path, of_class=False)]
    assert of_one == list(found)[:3], "a learner may have folders and scripts beside the notebooks"


def test_of_names_that_look_alike_the_later_one_is_refused(tmp_path):
    names = ["Ana.ipynb", "ana.ipynb", "\u00e9.ipynb", "e\u0301.ipynb", "ben.ipynb"]
    path = pack(tmp_path / "class.zip", *((name, b"{}") for name in names))
    refused = [name for name, _, words in handed_in(path) if "another upload has this name" in words]
    assert refused == ["ana.ipynb", "\u00e9.ipynb"]


# ------------------------------------------------------------------------------------------------------------ names


HOSTILE = ["..", "a/b", "a" * 300, "a\0b", "CON", "anna", "Anna", "\u0430nna", "", "=cmd", "<script>", "x\u202ey", "-rf", "\n"]


def test_names_of_files_are_safe_and_differ():
    names = [safe_name(id) for id in HOSTILE]
    assert len({name.casefold() for name in names}) == len(HOSTILE)
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9-]{0,39}-[0-9a-f]{32}", name) for name in names), names


# ------------------------------------------------------------------------------------------ what one learner may cost


def overlapping(content: bytes, count: int) -> bytes:
    """A zip whose directory names one member so many times, and says that it has one byte."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(content) + packer.flush()
    name = b"a.ipynb"
    local = struct.pack("<4s2B4HL2L2H", b"PK\3\4", 20, 0, 0, 8, 0, 0, 0, len(packed), 1, len(name), 0) + name + packed
    sizes = (len(packed), 1, len(name), 0, 0, 0, 0, 0, 0)
    entries = (struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", 20, 3, 20, 0, 0, 8, 0, 0, 0, *sizes) + name) * count
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(entries), len(local), 0)
    return local + entries + end


def test_no_more_is_unpacked_than_was_announced(tmp_path):
    """A hundred and fifty members of 10 MB each, behind 20 KB, cost less than ten honest ones."""
    honest = pack(tmp_path / "honest.zip", *((f"{number}.ipynb", bytes(9 * MB)) for number in range(10)))
    started = time.process_time()
    list(read_submissions(honest))
    whole = time.process_time() - started
    (tmp_path / "anna.zip").write_bytes(overlapping(bytes(10 * MB), 150))
    started = time.process_time()
    found = handed_in(tmp_path / "anna.zip")
    assert time.process_time() - started < whole
    assert all(refused for *_, refused in found)


def test_of_one_learner_no_more_is_read_than_anybody_hands_in(tmp_path, monkeypatch):
    for number in range(203):
        (tmp_path / f"anna/{number}.ipynb").parent.mkdir(exist_ok=True)
        (tmp_path / f"anna/{number}.ipynb").write_bytes(b"{}")
    (tmp_path / "ben.ipynb").write_bytes(b"{}")
    found = handed_in(tmp_path)
    assert sum(not refused for _, student, refused in found if student == "anna") == 200
    (words,) = (refused for _, student, refused in found if student == "anna" and refused)
    assert words == "of one learner 200 files and 100 MB are read; leave out older notebooks"
    assert [refused for _, student, refused in found if student == "ben"] == [""]
    monkeypatch.setattr(archive, "UNPACKED_BYTES", 3)
    assert sum(not refused for _, student, refused in handed_in(tmp_path) if student == "anna") == 2


@pytest.mark.parametrize(
    ("names", "students"),
    [
        (["lab_20240312_143000_anna/03.ipynb", "lab_20240312_143000_ben/03.ipynb"], 2),
        (["Assignment 3/anna/03.ipynb", "Assignment 3/ben/03.ipynb"], 2),
        (["week/Ana_123_assignsubmission_file_/a.ipynb", "week/Ben_124_assignsubmission_file_/a.ipynb"], 2),
        (["Ana_123_assignsubmission_file_x_99999_assignsubmission_file_.ipynb", "Ana_123_assignsubmission_file_b.ipynb"], 1),
        ([b"M\xfcller/03.ipynb", b"M\xf6ller/03.ipynb", b"M\xe4ller/03.ipynb"], 3),
        (["anna_11111_222_03.ipynb", "ben_11112_223_03.html", "cleo_11113_224_work.tar.gz", "dora.pdf", "emil.7z"], 5),
        (["anna/03.ipynb", "list.csv", "notes.txt", "README.md"], 1),
    ],
)
def test_people_stay_apart(tmp_path, names, students):
    """In folders as teachers have them; who has handed in something else is named."""
    for name in names:
        path = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), os.fsencode(name))))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"{}")
    found = handed_in(tmp_path)
    assert len({student for _, student, _ in found}) == students, found
    assert len({safe_name(student) for _, student, _ in found}) == students


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("03_freeze.ipynb", "03_freeze (1).ipynb"),
        ("03_freeze.ipynb", "03_freeze-Copy1.ipynb"),
        ("03_freeze.ipynb", "03_freeze-1.ipynb"),
        ("03_freeze (2).ipynb", "03_freeze (10).ipynb"),
        ("a/03_v9.ipynb", "a/03_v10.ipynb"),
    ],
)
def test_names_are_in_the_order_in_which_people_make_them(older, newer):
    assert archive.order_of(older) < archive.order_of(newer)
    assert max(sorted([older, newer]), key=archive.order_of) == newer
