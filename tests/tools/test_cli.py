"""The commands, used as a person would use them, on small notebooks of our own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError

from course_utils.profiles import settings
from course_utils.tools import cli
from course_utils.tools.kernels import PatientKernelManager

VERDICT = "import json, os\nwith open(os.environ['COURSE_GRADES'], 'a') as log:\n    log.write(json.dumps({}) + '\\n')"


@pytest.fixture(autouse=True)
def _own_environment():
    with mock.patch.dict(os.environ):
        for name in ("COURSE_PROFILE", "COURSE_DATA", "COURSE_GRADES"):
            os.environ.pop(name, None)
        yield


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Folders of its own for the commands."""
    for name in ("NOTEBOOKS", "SOLUTIONS", "BUILD"):
        monkeypatch.setattr(cli, name, tmp_path / name.lower())
        (tmp_path / name.lower()).mkdir()
    return tmp_path


def put(folder: Path, lesson: str, *sources: str) -> None:
    """A notebook whose cells that begin with `# Exercise` are tagged so."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    for cell in cells:
        cell.metadata.tags = ["exercise"] if cell.source.startswith("# Exercise") else []
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / f"{lesson}.ipynb")


def verdict(id: str, word: str) -> str:
    return VERDICT.format({"exercise": id, "verdict": word, "why": ""})


def test_help_is_quick_and_leaves_torch_alone():
    resource = pytest.importorskip("resource", reason="Windows counts no CPU seconds of children")
    code = (
        "import sys, course_utils.tools.cli as c\ntry: c.main(['--help'])\nexcept SystemExit: sys.exit('torch' in sys.modules)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, "course --help imports torch"
    assert all(command in done.stdout for command in ("lab", "run", "build", "doctor", "progress", "sweep", "bench"))
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.2


@pytest.mark.parametrize("table", cli.TABLES)
def test_sweep_makes_a_table_on_the_workers_named(monkeypatch, table):
    asked = []
    monkeypatch.setattr(f"course_utils.experiments.{table}.main", lambda **options: asked.append((options, settings().profile)))
    assert cli.main(["sweep", table]) == 0
    assert cli.main(["sweep", table, "--scheduler", "tcp://host:1", "--profile", "full"]) == 0
    assert asked == [({"scheduler": None}, "tiny"), ({"scheduler": "tcp://host:1"}, "full")]


def test_sweep_needs_the_name_of_a_table(capsys):
    with pytest.raises(SystemExit):
        cli.main(["sweep", "frieze"])
    assert "invalid choice: 'frieze' (choose from" in capsys.readouterr().err


def test_run_prints_seconds_and_verdicts_and_keeps_the_notebook(home, capsys):
    put(home / "notebooks", "90_good", "# Exercise 90.1\nx = 1", verdict("90.1", "to do"), "print('ran')")
    assert cli.main(["run"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("90_good ")
    assert "90.1 to do" in out
    kept = nbformat.read(home / "build" / "notebooks" / "90_good.ipynb", as_version=4)
    assert any(output.get("text") == "ran\n" for cell in kept.cells for output in cell.get("outputs", []))


def test_run_names_the_cell_and_the_line_that_stopped_and_goes_on_with_the_next_lesson(home, capsys):
    put(home / "notebooks", "90_bad", "a = 1", "b = 0\na / b")
    put(home / "notebooks", "91_good", "a = 1")
    assert cli.main(["run"]) == 1
    said = capsys.readouterr()
    assert "cell [2] stopped with ZeroDivisionError: division by zero\n        line 2: a / b" in said.out
    assert "Traceback" not in said.out + said.err
    assert "91_good" in said.out
    assert "something is wrong in 90_bad" in said.err


def test_an_exercise_without_a_verdict_is_an_error(home, capsys):
    put(home / "notebooks", "90_silent", "# Exercise 90.1\nx = 1", "# Exercise 90.2\ny = 2", verdict("90.1", "passed"))
    assert cli.main(["run"]) == 1
    assert "no verdict on 90.2: is there a check cell, and is it run?" in capsys.readouterr().out


def test_a_check_without_an_exercise_in_the_notebook_is_missed_too(home, capsys, monkeypatch):
    monkeypatch.setattr("course_utils.checks.all_checks", lambda: {"90.1": None, "91.1": None})
    put(home / "notebooks", "90_lost", "x = 1")
    assert cli.main(["run"]) == 1
    assert "no verdict on 90.1:" in capsys.readouterr().out


@pytest.mark.parametrize(("word", "code"), [("passed", 0), ("not yet", 1), ("to do", 1)])
def test_solutions_have_to_pass(home, word, code):
    put(home / "solutions", "90_one", "# Exercise 90.1\nx = 1", verdict("90.1", word))
    assert cli.main(["run", "--solutions"]) == code


def test_the_learners_verdicts_are_no_errors(home):
    put(home / "notebooks", "90_one", "# Exercise 90.1\nx = 1", verdict("90.1", "not yet"))
    assert cli.main(["run"]) == 0


def test_run_appends_each_verdict_to_the_file_of_the_user_and_leaves_the_environment_as_it_was(home):
    mine = home / "new" / "mine.jsonl"
    os.environ["COURSE_GRADES"] = str(mine)
    os.environ.pop("TQDM_DISABLE", None)
    put(home / "notebooks", "90_one", "# Exercise 90.1\nx = 1", verdict("90.1", "to do"), verdict("90.1", "passed"))
    put(home / "notebooks", "91_two", "# Exercise 91.1\nx = 1", verdict("91.1", "not yet"))
    assert cli.main(["run"]) == 0
    assert cli.main(["run", "91"]) == 0
    found = [json.loads(line) for line in mine.read_text(encoding="utf-8").splitlines()]
    words = [("90.1", "to do"), ("90.1", "passed"), ("91.1", "not yet"), ("91.1", "not yet")]
    assert [(line["exercise"], line["verdict"]) for line in found] == words
    assert os.environ["COURSE_GRADES"] == str(mine)
    assert "TQDM_DISABLE" not in os.environ


def test_the_file_of_the_user_may_lie_where_the_run_notebooks_are_kept(home):
    mine = home / "build" / "notebooks" / "90_one.jsonl"
    mine.parent.mkdir()
    mine.write_text("kept\n")
    os.environ["COURSE_GRADES"] = str(mine)
    put(home / "notebooks", "90_one", "# Exercise 90.1\nx = 1", verdict("90.1", "to do"))
    assert cli.main(["run"]) == 0
    assert mine.read_text().splitlines()[0] == "kept"


def test_stopped_by_hand_the_user_has_the_verdicts_so_far(home, monkeypatch):
    def stopped(*_):
        Path(os.environ["COURSE_GRADES"]).write_text("a verdict\n")
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "fault_of", stopped)
    os.environ["COURSE_GRADES"] = str(home / "mine.jsonl")
    put(home / "notebooks", "90_one", "x = 1")
    assert cli.main(["run"]) == 130
    assert (home / "mine.jsonl").read_text() == "a verdict\n"


def test_verdicts_that_cannot_be_appended_are_an_error_and_stop_no_lesson(home, capsys):
    os.environ["COURSE_GRADES"] = str(home)  # a folder
    put(home / "notebooks", "90_one", "# Exercise 90.1\nx = 1", verdict("90.1", "to do"))
    put(home / "notebooks", "91_two", "x = 1")
    assert cli.main(["run"]) == 1
    said = capsys.readouterr().out
    assert f"the verdicts could not be appended to COURSE_GRADES={home} (" in said
    assert "90.1 to do" in said
    assert "91_two" in said


# The kernel is not quite done with its last request, as on a busy machine, when it is told to end.
SLOWLY = """
import os, time
answer = get_ipython().kernel.shell_handlers["kernel_info_request"]

async def slowly(*request):
    await answer(*request)
    time.sleep(0.5)

get_ipython().kernel.shell_handlers["kernel_info_request"] = slowly
os.write(2, b"a word of its own\\n")
"""


def test_a_kernel_ends_without_a_word_of_being_interrupted_and_its_other_words_arrive(home, capfd):
    put(home / "notebooks", "90_one", SLOWLY)
    assert cli.main(["run"]) == 0
    assert capfd.readouterr().err == "a word of its own\n"


def test_a_kernel_that_is_busy_is_interrupted_and_can_clear_up(tmp_path):
    mark = tmp_path / "cleared"
    source = f"import time\ntry:\n    time.sleep(600)\nfinally:\n    open({str(mark)!r}, 'w').close()"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    with pytest.raises(CellTimeoutError):
        NotebookClient(notebook, timeout=5, kernel_manager_class=PatientKernelManager).execute()
    assert mark.exists()


def test_a_file_that_is_no_notebook_is_one_line(home, capsys):
    put(home / "notebooks", "90_one", "x = 1")
    (home / "notebooks" / "90_one.ipynb").write_text("<<<<<<< HEAD")
    assert cli.main(["run"]) == 1
    assert "it stopped with NotJSONError: " in capsys.readouterr().out


def test_profile_and_data_reach_the_notebook(home, capsys):
    pictures = home / "pictures"
    pictures.mkdir()
    put(home / "notebooks", "90_one", "import os\nprint(os.environ['COURSE_PROFILE'], os.environ['COURSE_DATA'])")
    assert cli.main(["run", "90", "--profile", "full", "--data", os.path.relpath(pictures)]) == 0
    kept = nbformat.read(home / "build" / "notebooks" / "90_one.ipynb", as_version=4)
    assert kept.cells[0].outputs[0].text == f"full {pictures.resolve()}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "92"], "no lesson named '92'; choose from ['90_one']"),
        (["build", "0"], "no lesson named '00'; choose from ['90_one']"),
        (["progress", "nine"], "no lesson named 'nine'"),
        (["run", "--data", "x"], "--data is for the profile full; add --profile full"),
        (["doctor", "--data", "x"], "--data is for the profile full"),
    ],
)
def test_bad_arguments_get_a_sentence(home, capsys, arguments, words):
    put(home / "notebooks", "90_one", "x = 1")
    (home / "solutions" / "90_one.py").touch()
    assert cli.main(arguments) == 2
    assert f"course: {words}" in capsys.readouterr().err


def test_an_unknown_profile_gets_a_sentence(capsys):
    os.environ["COURSE_PROFILE"] = "fulll"
    assert cli.main(["doctor"]) == 2
    assert capsys.readouterr().err == "course: no profile named 'fulll'; choose from ['tiny', 'full'] (did you mean 'full'?)\n"


@pytest.mark.parametrize("arguments", [["run", "--frob"], ["doctor", "extra"], ["nonsense"], []])
def test_unknown_arguments_show_the_usage(capsys, arguments):
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)
    assert "usage: course" in capsys.readouterr().err


def test_no_lessons_at_all(home, capsys):
    assert cli.main(["run"]) == 2
    assert "notebooks holds no lesson (NN_name.ipynb); `git checkout notebooks`" in capsys.readouterr().err


def test_ctrl_c_is_no_traceback(home, capsys, monkeypatch):
    put(home / "notebooks", "90_one", "x = 1")
    monkeypatch.setattr(cli, "run_notebook", mock.Mock(side_effect=KeyboardInterrupt))
    assert cli.main(["run"]) == 130
    assert capsys.readouterr().err == "course: stopped by hand\n"


def test_build_says_which_cell_stopped(home, capsys):
    (home / "solutions" / "90_bad.py").write_text("# %% [markdown]\n# # Title\n\n# %%\na = 1\nb = a / 0\n")
    assert cli.main(["build"]) == 1
    out = capsys.readouterr().out
    assert "90_bad: a cell stopped with ZeroDivisionError: division by zero\n    line 2: b = a / 0" in out


def test_build_builds_once(home, capsys):
    (home / "solutions" / "90_good.py").write_text("# %% [markdown]\n# # Title\n\n# %%\n1 + 1\n")
    assert cli.main(["build"]) == 0
    assert cli.main(["build", "90"]) == 0
    assert capsys.readouterr().out == "90_good: built\n90_good: is current\n"
    assert (home / "notebooks" / "90_good.ipynb").exists()


def test_progress_shows_one_lesson(home, capsys, monkeypatch, tmp_path):
    check = mock.Mock(title="a title")
    monkeypatch.setattr("course_utils.checks.all_checks", lambda: {"90.1": check, "90.2": check, "91.1": check})
    os.environ["COURSE_GRADES"] = str(tmp_path / "grades.jsonl")
    (tmp_path / "grades.jsonl").write_text(json.dumps({"exercise": "90.2", "verdict": "passed"}) + "\n")
    put(home / "notebooks", "90_one", "x = 1")
    put(home / "notebooks", "91_two", "x = 1")
    assert cli.main(["progress", "90"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("· 90.1  a title")
    assert second.startswith("✓ 90.2  a title")


@pytest.mark.skipif(sys.platform == "win32", reason="JupyterLab is a child process there")
@pytest.mark.parametrize(("root", "rest"), [(1000, []), (0, ["--allow-root"])])
def test_lab_becomes_jupyterlab_with_the_arguments_given(home, monkeypatch, root, rest):
    put(home / "notebooks", "00_start_here", "x = 1")
    started = mock.Mock(return_value=None)
    monkeypatch.setattr(os, "execv", started)
    monkeypatch.setattr(os, "geteuid", lambda: root)
    cli.main(["lab", "--no-browser", "--port", "8899"])
    program, command = started.call_args.args
    assert program == sys.executable
    assert command[:3] == [sys.executable, "-m", "jupyterlab"]
    assert "--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb" in command
    assert command[6:] == ["--no-browser", "--port", "8899", *rest]
