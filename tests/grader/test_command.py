"""`course grade` as people call it: folders, the terminal, platforms, exit codes, going on after an interruption."""

import base64
import csv
import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile

import pytest

from course_utils.grader import client, command, grading, runner
from course_utils.grader.sandbox import levels, selftest
from course_utils.profiles import HOME
from course_utils.tools import cli, lessons

pytestmark = pytest.mark.usefixtures("warm")
RIGHT = (HOME / "solutions" / "03_freeze.ipynb").read_bytes()
BLANK = (HOME / "notebooks" / "03_freeze.ipynb").read_bytes()


WRONG = '# Exercise 03.3\ndef what_moves(*_):\n    print("<script>alert(1)</script>")\n    return True, True\n'


def with_answer(answer: str = WRONG) -> bytes:
    notebook = json.loads(RIGHT)
    next(cell for cell in notebook["cells"] if cell["id"] == "exercise-03-3")["source"] = answer
    return json.dumps(notebook).encode()


@pytest.fixture
def submissions(tmp_path):
    folder = tmp_path / "submissions"
    for name, blob in {
        "anna/03.ipynb": RIGHT,
        "ben/03.ipynb": BLANK,
        "<b>cleo/03.ipynb": with_answer(),
        "dora/03.ipynb": RIGHT,
    }.items():
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(blob)
    return folder


def grade(*arguments, isolation="none"):
    return cli.main(["grade", *map(str, arguments), "--isolation", isolation])


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# ------------------------------------------------------------------------------------------------------- into a folder


def test_a_class_is_graded_into_pages_and_tables(tmp_path, submissions, capsys):
    out = tmp_path / "grades"
    assert grade(submissions, "--out", out, "--jobs", 1) == 0
    assert "graded: 4, not gradable: 0; open " in capsys.readouterr().out
    table = (out / "grades.csv").read_text(encoding="utf-8").splitlines()
    rows = {row["student"]: row for row in csv.DictReader(table)}
    assert {student: row["total"] for student, row in rows.items()} == {
        "anna": "6.00",
        "ben": "0.00",
        "<b>cleo": "5.00",
        "dora": "6.00",
    }
    assert len(list((out / "learners").glob("*.html"))) == 4
    links = re.findall(r'href="([^"]+)"', (out / "index.html").read_text(encoding="utf-8"))
    assert all((out / link).exists() for link in links)
    assert len(links) == 4
    assert {"exercises.csv", "junit.xml", "run.json"} <= {path.name for path in out.iterdir()}
    assert out.stat().st_mode & 0o77 == 0, "nobody else reads grades"


def test_again_changes_nothing_and_grades_nothing(tmp_path, submissions, monkeypatch):
    out = tmp_path / "grades"
    grade(submissions, "--out", out, "--jobs", 1)
    before = contents(out)
    monkeypatch.setattr(grading, "grade", lambda *_: pytest.fail("graded again"))
    assert grade(submissions, "--out", out, "--jobs", 1) == 0
    assert contents(out) == before


def test_the_same_seed_gives_the_same_bytes_and_another_one_other_questions(tmp_path, submissions):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        grade(submissions, "--out", tmp_path / name, "--jobs", 1, "--seed", seed)
    one, same, other = (contents(tmp_path / name) for name in "abc")
    assert one == same
    assert {name for name in one if one[name] != other[name]} >= {"run.json"}


def test_a_folder_that_was_begun_for_other_lessons_is_refused(tmp_path, submissions, capsys):
    out = tmp_path / "grades"
    grade(submissions, "--out", out, "--jobs", 1, "--lessons", "03")
    before = contents(out)
    assert grade(submissions, "--out", out, "--jobs", 1, "--lessons", "04") == 2
    assert "was begun for --lessons 03; ask for the same, or give another --out" in capsys.readouterr().err
    assert contents(out) == before


def test_who_handed_in_nothing_more_has_no_page_any_more(tmp_path, submissions):
    out = tmp_path / "grades"
    grade(submissions, "--out", out, "--jobs", 1)
    shutil.rmtree(submissions / "anna")
    grade(submissions, "--out", out, "--jobs", 1)
    assert len(list((out / "learners").glob("*.html"))) == 3
    assert "anna" not in (out / "grades.csv").read_text(encoding="utf-8")


def test_an_interruption_says_how_to_go_on(tmp_path, submissions, monkeypatch, capsys):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(grading, "grade", stop)
        assert grade(submissions, "--out", tmp_path / "grades", "--jobs", 1) == 130
    assert "the same command again goes on from here" in capsys.readouterr().err
    seed = runner.stored_seed(tmp_path / "grades")
    assert grade(submissions, "--out", tmp_path / "grades", "--jobs", 1) == 0
    assert runner.stored_seed(tmp_path / "grades") == seed, "the questions are those of the first part"


# ---------------------------------------------------------------------------------------------------------- exit codes


def test_what_is_not_gradable_is_named_and_changes_the_exit_code(tmp_path, submissions, capsys):
    (submissions / "\x1b[31mwalter.ipynb").write_bytes(b"{}")
    assert grade(submissions, "--out", tmp_path / "grades", "--jobs", 1) == 1
    said = capsys.readouterr().out
    assert "  not gradable: [31mwalter.ipynb: it is no notebook of format 4; open it in Jupyter and save it" in said
    assert "\x1b" not in said


def test_another_lesson_than_asked_for_is_not_gradable(submissions, capsys):
    assert grade(submissions / "anna" / "03.ipynb", "--lessons", 4) == 1
    assert "not gradable: it is lesson 03; asked for were 04" in capsys.readouterr().out


def test_a_fault_of_ours_is_no_zero(tmp_path, submissions, monkeypatch, capsys):
    def broken(*_):
        raise client.Fault("a survivor was found")

    monkeypatch.setattr(grading, "grade", broken)
    assert grade(submissions, "--out", tmp_path / "grades", "--jobs", 1) == 3
    said = capsys.readouterr()
    assert "course: the grader failed at anna/03.ipynb: a survivor was found" in said.err
    assert not list((tmp_path / "grades" / "reports").iterdir())
    assert grade(submissions / "anna" / "03.ipynb") == 3
    (result := tmp_path / "results.json").write_text("did not finish")
    assert grade(submissions / "anna" / "03.ipynb", "--to", "gradescope", "--out", result) == 3
    assert result.read_text() == "did not finish", "a platform keeps what stood there"


STOPS = """
from course_utils.checks.spec import Check


def probe(f, rng):
    return 1


CHECKS = [Check("03.3.h1", "what_moves", "", probe, lambda data, rng: 1 / 0, int)]
"""


def test_where_a_check_of_ours_stops_the_rest_of_the_report_stands(tmp_path, submissions, capsys):
    """In a class, where the mended check goes on, and for a platform; the exit code makes the instructor look."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "h.py").write_text(STOPS)
    out, checks = tmp_path / "grades", ("--checks", hidden)
    assert grade(submissions, "--out", out, "--jobs", 1, *checks) == 3
    said = capsys.readouterr().err
    assert "course: the grader failed at anna/03.ipynb: the judge of 03.3.h1 stopped" in said
    assert "ZeroDivisionError" in said
    assert "anna,1,yes,3.00,2.00,1.00,6.00,7.00" in (out / "grades.csv").read_text()
    assert any("ZeroDivisionError" in path.read_text() for path in (out / "notes").iterdir())
    result = tmp_path / "results.json"
    assert grade(submissions / "anna" / "03.ipynb", "--to", "gradescope", "--out", result, *checks) == 3
    assert [test["score"] for test in json.loads(result.read_text())["tests"]] == [3, 2, 1, 0], "what was marked stands"
    (hidden / "h.py").write_text(STOPS.replace("1 / 0", "passed()").replace("import Check", "import Check, passed"))
    assert grade(submissions, "--out", out, "--jobs", 1, *checks) == 0
    assert "anna,1,yes,3.00,2.00,2.00,7.00,7.00" in (out / "grades.csv").read_text()


def test_nothing_is_graded_without_the_isolation_asked_for(tmp_path, submissions, monkeypatch, capsys):
    def refuse(*_):
        raise levels.NoIsolation("isolation 'full' needs layers that do not work here: NS")

    monkeypatch.setattr(grading, "grader_of", refuse)
    assert grade(submissions, "--out", tmp_path / "grades", "--jobs", 1, isolation="full") == 4
    said = capsys.readouterr().err
    assert "needs layers that do not work here: NS\nNothing was graded. `course grade --doctor` shows" in said
    assert not (tmp_path / "grades" / "grades.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "holds no copy of a lesson, `course lab` makes them"),
        (["{here}"], "say where the grades of"),
        (["{here}/none.ipynb"], "none.ipynb is not there; give a notebook, a zip, or a folder"),
        (["{here}", "--out", "{here}/../o", "--lessons", "99"], "no lesson named '99'"),
        (["{here}", "--out", "{here}/../o", "--checks", "{here}"], "holds no check files"),
        (["{here}", "--out", "{here}/o"], "/o lies among the submissions; give a folder beside them"),
        (["{here}", "--out", "{here}"], "lies among the submissions"),
    ],
)
def test_bad_arguments_get_a_sentence(tmp_path, capsys, monkeypatch, arguments, words):
    monkeypatch.setattr(lessons, "MY", tmp_path / "my")  # whoever tests may have copies of their own
    assert grade(*(argument.format(here=tmp_path) for argument in arguments)) == 2
    assert words in capsys.readouterr().err


def test_a_scheduler_needs_a_package(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert grade(tmp_path, "--out", tmp_path / "o", "--scheduler", "tcp://localhost:1") == 2
    assert "--scheduler needs the package distributed: `pip install distributed`" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--jobs", "0"], ["--jobs", "x"], ["--isolation", "half"], ["--to", "moodle"]])
def test_unknown_values_show_the_usage(capsys, arguments):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["grade", "x", *arguments])
    assert "usage: course grade" in capsys.readouterr().err


# --------------------------------------------------------------------------------------------- terminal and platforms


def test_one_notebook_into_the_terminal(tmp_path, capsys):
    (tmp_path / "mine.ipynb").write_bytes(with_answer())
    assert grade(tmp_path / "mine.ipynb") == 0, "that an answer is wrong is no error"
    said = capsys.readouterr().out
    assert "✓ 03.1  let only some parts learn                    3 of 3" in said
    assert "✗ 03.3  predict what moves                           0 of 1\n        " in said
    assert "5 of 6 points; isolation none" in said


def test_for_gradescope(tmp_path):
    (tmp_path / "mine.ipynb").write_bytes(with_answer())
    assert grade(tmp_path, "--to", "gradescope", "--out", tmp_path / "results.json") == 0
    result = json.loads((tmp_path / "results.json").read_text())
    assert [test["score"] for test in result["tests"]] == [3, 2, 0]
    (tmp_path / "first.ipynb").write_bytes(RIGHT)
    assert grade(tmp_path, "--to", "gradescope", "--out", tmp_path / "results.json") == 0
    result = json.loads((tmp_path / "results.json").read_text())
    assert [test["score"] for test in result["tests"]] == [3, 2, 0], "the last of a lesson counts"


def test_for_a_workflow_whose_log_gets_no_text_that_could_be_a_command(tmp_path, monkeypatch, capsys):
    answer = (
        '# Exercise 03.3\ndef what_moves(*_):\n    print("::error::x")\n    raise ValueError("x\\n::set-output name=a::b")\n'
    )
    (tmp_path / "mine.ipynb").write_bytes(with_answer(answer))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
    assert grade(tmp_path, "--to", "actions", "--out", tmp_path / "result.json") == 0
    assert capsys.readouterr().out == ""
    assert "    ! 03.3  predict what moves                           0 of 1" in (tmp_path / "summary.md").read_text(
        encoding="utf-8"
    )
    name, _, value = (tmp_path / "output").read_bytes().partition(b"=")
    assert (name, base64.b64decode(value)) == (b"result", (tmp_path / "result.json").read_bytes())
    assert json.loads((tmp_path / "result.json").read_text())["status"] == "fail"

    def lost(*_):
        raise client.Fault("a box did not begin\n::error::x")

    monkeypatch.setattr(grading, "grade", lost)
    (tmp_path / "mine.ipynb").rename(tmp_path / "x\n::stop-commands::y.ipynb")
    assert grade(tmp_path, "--to", "actions", "--out", tmp_path / "result.json") == 3
    assert not re.search(r"^\s*::", "".join(capsys.readouterr()), re.MULTILINE)


def test_a_name_with_line_ends_begins_no_line_of_the_log(tmp_path, capsys):
    (tmp_path / "class").mkdir()
    with zipfile.ZipFile(tmp_path / "class" / "anna.zip", "w") as archive:
        archive.writestr("x\n::add-mask::graded\ngraded: 31, not gradable: 0\n.ipynb", "{}")
    assert grade(tmp_path / "class", "--out", tmp_path / "grades", "--jobs", 1) == 1
    said = capsys.readouterr().out.splitlines()
    assert [line[:8] for line in said] == ["graded: ", "  not gr"]


def test_who_could_not_be_graded_by_our_fault_has_a_row(tmp_path, submissions, monkeypatch, capsys):
    graded, seen = grading.grade_public, []

    def lost(blob, job):
        seen.append(blob)
        if blob == seen[0]:
            raise client.Fault("a box did not begin")
        return graded(blob, job)

    monkeypatch.setattr(runner, "grade_public", lost)
    out = tmp_path / "grades"
    assert grade(submissions, "--out", out, "--jobs", 1) == 3
    rows = {
        row["student"]: row["gradable"] for row in csv.DictReader((out / "grades.csv").read_text(encoding="utf-8").splitlines())
    }
    assert set(rows) == {"anna", "ben", "<b>cleo", "dora"}
    assert "no" in rows.values()
    assert command.NOT_GRADED in (out / "index.html").read_text(encoding="utf-8")
    assert "03.ipynb: a box did not begin" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------------ doctor


def test_the_doctor_says_what_works_and_what_to_do(monkeypatch, capsys):
    facts = [
        selftest.Fact("NS", False, "unshare: EPERM", "allow user namespaces"),
        selftest.Fact("SC", True, "", ""),
        selftest.Fact("RL", True, "", ""),
        selftest.Fact("UID", True, "", ""),
    ]
    monkeypatch.setattr(command, "facts", lambda: facts)
    assert cli.main(["grade", "--doctor"]) == 4
    said = capsys.readouterr().out
    assert "✗ NS   own processes, network and mounts (namespaces): unshare: EPERM\n       → allow user namespaces" in said
    assert "This machine reaches isolation basic." in said
    assert "docker run --rm --network none" in said


def machine_can() -> bool:
    """Whether this machine has namespaces and Landlock, asked without any code of the grader."""
    as_user = [] if os.geteuid() == 0 else ["--user"]
    command = ["unshare", *as_user, "--mount", "--net", "--ipc", "--uts", "--pid", "--fork", "true"]
    if sys.platform != "linux" or not shutil.which("unshare") or subprocess.run(command, check=False).returncode:
        return False
    return ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1) > 0


@pytest.mark.skipif(not machine_can(), reason="this machine has no namespaces or no Landlock")
def test_where_the_machine_can_the_sandbox_does():
    """All tests of the sandbox are skipped where it does not work, and a broken one would not be seen."""
    assert levels.level_of(fact.layer for fact in selftest.facts() if fact.works) == "full"
