"""Reading what people hand in: every form of folder and archive, every way in which a notebook can be bent or hostile."""

import io
import json
import os
import re
import stat
import zipfile
from contextlib import suppress

import hypothesis.strategies as st
import pytest
from hypothesis import given

from course_utils.checks import all_checks
from course_utils.grader.intake.answers import blank_cells, names_made, read_answers
from course_utils.grader.intake.archive import MB, Refused, read_submissions, safe_name, unpack
from course_utils.grader.intake.notebook import cell_name, cells_of, without_cell_magics
from course_utils.profiles import HOME

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


def deleted_others(content):
    content["cells"] = [cell_of(content)]


@pytest.mark.parametrize(
    "bend",
    [no_ids, reordered, retagged, retyped, other_editor, as_lines, no_first_line, deleted_others],
    ids=lambda f: f.__name__,
)
def test_an_answer_is_found_however_the_notebook_was_bent(bend):
    content = solved()
    bend(content)
    found = read_answers(blob_of(content))
    assert (found.lesson, list(found.answers)) == ("03", [ID])
    assert "return gradient, train_mode" in found.answers[ID]


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
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' * 60 + b"1" + b"}" * 60, "nested too deeply"),
        (b"[" + b"[]," * 250_000 + b"1]", "too many parts"),
        (b'{"nbformat": 4, "nbformat": 4, "cells": []}', "names one thing twice"),
        (b'{"nbformat": 4, "cells": [], "x": NaN}', "a number that JSON does not have"),
        (b'{"nbformat": 4, "cells": [], "x": ' + b"9" * 9999 + b"}", "no JSON"),
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


def test_a_byte_order_mark_and_half_a_letter_do_no_harm():
    content = solved()
    cell_of(content)["source"] += "# \ud800"
    found = read_answers(b"\xef\xbb\xbf" + blob_of(content))
    assert found.answers[ID].endswith("# ?")


# --------------------------------------------------------------------------------------------------------- folders


def handed_in(path):
    return [(upload.name, upload.student, upload.refused) for upload in read_submissions(path)]


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
    assert handed_in(tmp_path)[0][0] == "?.ipynb"


# --------------------------------------------------------------------------------------------------------- archives


def pack(path, *members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def link(name):
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def test_a_zip_is_read_without_unpacking(tmp_path, monkeypatch):
    monkeypatch.setattr(zipfile.ZipFile, "extractall", None)
    blob = blob_of(solved())
    pack(
        tmp_path / "anna.zip", ("lesson/03.ipynb", blob), ("__MACOSX/._03.ipynb", b"x"), ("inner.zip", b"PK"), ("data.csv", b"")
    )
    (upload,) = read_submissions(tmp_path)
    assert (upload.name, upload.student, upload.blob) == ("anna.zip/lesson/03.ipynb", "anna", blob)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([("../x.ipynb", b"")], "leads outside"),
        ([("/etc/x.ipynb", b"")], "leads outside"),
        ([("C:\\x.ipynb", b"")], "leads outside"),
        ([("a\\..\\..\\x.ipynb", b"")], "leads outside"),
        ([(link("x.ipynb"), b"gradebook.db")], "a link or a device"),
        ([("x.ipynb", b"0" * (5 * MB))], "packed more than 100 times"),
        ([(f"{i}.ipynb", b"") for i in range(2001)], "2001 files; at most 2000"),
        ([("inner.zip", b"PK")], "holds no notebook"),
        ([(f"{i}.ipynb", os.urandom(8) * (1 * MB)) for i in range(13)], "unpacks to more than 100 MB"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_hostile_zip_is_refused_as_a_whole(tmp_path, members, words):
    path = pack(tmp_path / "evil.zip", *members)
    ((name, student, refused),) = handed_in(path)
    assert (name, student) == ("evil.zip", "evil")
    assert words in refused
    assert list(tmp_path.iterdir()) == [path]


def test_more_hostile_zips(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        pack(tmp_path / "twice.zip", ("a.ipynb", b"1"), ("a.ipynb", b"2"))
    pack(tmp_path / "big.zip", ("a.ipynb", bytes(range(256)) * (11 * MB // 256)), compression=zipfile.ZIP_STORED)
    whole = pack(tmp_path / "cut.zip", ("a.ipynb", b"x" * 1000)).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[:-30])
    (tmp_path / "text.zip").write_bytes(b"no zip")
    lying = bytearray(pack(tmp_path / "lie.zip", ("a.ipynb", os.urandom(2000))).read_bytes())
    lying[60:90] = b"\0" * 30
    (tmp_path / "lie.zip").write_bytes(lying)
    locked = bytearray(whole)
    locked[6] |= 1
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(locked)
    found = {name: refused for name, _, refused in handed_in(tmp_path)}
    for name, words in {
        "twice.zip": "two files of one name",
        "big.zip": "larger than 10 MB",
        "cut.zip": "no zip file that can be read",
        "text.zip": "no zip file that can be read",
        "lie.zip": "no zip file that can be read (BadZipFile)",
        "locked.zip": "encrypted",
    }.items():
        assert words in found[name], name


@given(st.binary(max_size=60), st.integers(0, 150))
def test_a_damaged_zip_is_read_or_refused(noise, place):
    buffer = io.BytesIO()
    pack(buffer, ("a.ipynb", b"{}" * 50))
    blob = buffer.getvalue()
    for upload in unpack("a.zip", blob[:place] + noise + blob[place + len(noise) :]):
        assert upload.refused or upload.blob is not None


# ------------------------------------------------------------------------------------------------------------ names


HOSTILE = ["..", "a/b", "a" * 300, "a\0b", "CON", "anna", "Anna", "\u0430nna", "", "=cmd", "<script>", "x\u202ey", "-rf", "\n"]


def test_names_of_files_are_safe_and_differ():
    names = [safe_name(id) for id in HOSTILE]
    assert len({name.casefold() for name in names}) == len(HOSTILE)
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9-]{0,39}-[0-9a-f]{8}", name) for name in names), names
