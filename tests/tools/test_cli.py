"""The commands, used as a person would use them, on small notebooks of our own."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import nbformat
import psutil
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError

from course_utils.checks import all_checks
from course_utils.data import NAMED
from course_utils.errors import unknown
from course_utils.grader import client
from course_utils.profiles import HOME, settings
from course_utils.tools import cli, lessons, run
from course_utils.tools import lab as lab_module
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
    for name in ("NOTEBOOKS", "SOLUTIONS", "BUILD", "MY"):
        monkeypatch.setattr(lessons, name, tmp_path / name.lower())
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
    assert out.startswith("running the lessons as shipped, in notebooks/\n90_good ")
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
    monkeypatch.setattr(lessons, "exercise_titles", lambda: {"90.1": "", "91.1": ""})
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

    monkeypatch.setattr(run, "fault_of", stopped)
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
        (["run", "92"], "no lesson 92; there are\n  90  one\n"),
        (["build", "0"], "no lesson 00; there are\n  90  one\n"),
        (["progress", "90_onee"], "no lesson 90_onee (did you mean 90_one?); there are\n  90  one\n"),
        (["run", "--profile", "full", "--data", "nowhere"], "no data set or folder named 'nowhere'; choose from ['eurosat'"),
        (["grade", "nothere"], "nothere is not there; give a notebook, a zip, or a folder"),
        (["grade", "."], "say where the grades of . shall go: --out DIR"),
        (["grade", ".", "--out", "a", "--checks", "nowhere"], "--checks nowhere is not there; give a folder"),
        (["grade", ".", "--out", "README.md"], "--out README.md is a file; give the name of a new one"),
        (["grade", ".", "--out", "README.md/a"], "--out README.md/a cannot be made: "),
        (["grade", ".", "--out", "a", "--lessons", "99"], "no lesson named '99'; choose from ['00', "),
        (["grade"], "holds no copy of a lesson, `course lab` makes them"),
        (["export", "--to", "gradescope", "a.zip", "--checks", "nowhere"], "--checks nowhere is not there"),
        (["bench", "--json", "README.md/a"], "--json README.md/a cannot be made"),
        (["run", "--data", "x"], "--data is for the profile full; add --profile full"),
        (["doctor", "--data", "x"], "--data is for the profile full"),
    ],
)
def test_bad_arguments_get_a_sentence(home, capsys, monkeypatch, arguments, words):
    put(home / "notebooks", "90_one", "x = 1")
    (home / "solutions" / "90_one.py").touch()
    (home / "README.md").touch()
    monkeypatch.chdir(home)
    before = sorted(home.rglob("*"))
    assert cli.main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("course: ")
    assert words in said
    assert sorted(home.rglob("*")) == before, "a folder was made"


def test_an_unknown_profile_gets_a_sentence(capsys):
    os.environ["COURSE_PROFILE"] = "fulll"
    assert cli.main(["doctor"]) == 2
    assert capsys.readouterr().err == "course: no profile named 'fulll'; choose from ['tiny', 'full'] (did you mean 'full'?)\n"


@pytest.mark.parametrize("arguments", [["run", "--frob"], ["doctor", "extra"], ["nonsense"], ["--frob"]])
def test_unknown_arguments_show_the_usage(capsys, arguments):
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)
    assert "usage: course" in capsys.readouterr().err


def test_no_lessons_at_all(home, capsys):
    assert cli.main(["run"]) == 2
    assert "notebooks holds no lesson (NN_name.ipynb); `git checkout notebooks`" in capsys.readouterr().err


def test_ctrl_c_is_no_traceback(home, capsys, monkeypatch):
    put(home / "notebooks", "90_one", "x = 1")
    monkeypatch.setattr(run, "run_notebook", mock.Mock(side_effect=KeyboardInterrupt))
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
    monkeypatch.setattr(lessons, "exercise_titles", lambda: dict.fromkeys(("90.1", "90.2", "91.1"), "a title"))
    os.environ["COURSE_GRADES"] = str(tmp_path / "grades.jsonl")
    (tmp_path / "grades.jsonl").write_text(json.dumps({"exercise": "90.2", "verdict": "passed"}) + "\n")
    put(home / "notebooks", "90_one", "x = 1")
    put(home / "notebooks", "91_two", "x = 1")
    assert cli.main(["progress", "90"]) == 0
    first, second, sum_ = capsys.readouterr().out.splitlines()
    assert first.startswith("· 90.1  a title")
    assert second.startswith("✓ 90.2  a title")
    assert sum_ == f"1 of 2 passed, by {tmp_path / 'grades.jsonl'}; your copies are in my/"


def test_titles_without_torch_are_those_of_the_checks():
    titles = {id: check.title for id, check in all_checks().items()}
    assert list(lessons.exercise_titles().items()) == list(titles.items())


def test_data_sets_without_torch_are_those_of_the_library():
    assert list(cli.DATA_SETS) == list(NAMED)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], 0),
        (["--version"], 0),
        (["progress"], 0),
        (["progress", "99"], 2),
        (["run", "99"], 2),
        (["grade", "nothere"], 2),
        (["grade", "solutions", "--out", "x", "--checks", "nowhere"], 2),
    ],
)
def test_what_needs_no_torch_does_without(arguments, code):
    program = "import sys, course_utils.tools.cli as c\ntry: code = c.main(sys.argv[1:])\n"
    program += "except SystemExit as end: code = end.code\nsys.exit(9 if 'torch' in sys.modules else code)"
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, cwd=HOME, timeout=60)
    assert done.returncode == code


def test_alone_it_shows_the_help(capsys):
    assert cli.main([]) == 0
    assert "usage: course" in capsys.readouterr().out


def test_the_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert re.match(r"course [\d.]+, Python 3", capsys.readouterr().out)


@pytest.mark.parametrize(("typed", "meant"), [("rnu", "run"), ("progres", "progress"), ("xyz", None)])
def test_a_mistyped_command_gets_a_guess_if_one_is_near(capsys, monkeypatch, typed, meant):
    monkeypatch.setattr(sys, "argv", ["course", typed])
    with pytest.raises(SystemExit, match="2"):
        cli.main([typed])
    said = capsys.readouterr().err
    assert (f"did you mean `course {meant}`?" in said) if meant else ("did you mean" not in said)


def test_a_number_gets_no_guess():
    assert "did you mean" not in str(unknown("lesson", "99", ["00", "09"]))


# ------------------------------------------------------------------------------------------- the learner's own copies


def test_run_takes_the_learners_copies_where_there_are_any(home, capsys):
    for name in ("90_one", "91_two"):
        put(home / "notebooks", name, "print('shipped')")
    put(home / "my", "90_one", "print('mine')")
    assert cli.main(["run"]) == 0
    assert "running your copies, in my/, and 1 of which there is none, in notebooks/ (--fresh: the" in capsys.readouterr().out
    assert nbformat.read(home / "build" / "my" / "90_one.ipynb", as_version=4).cells[0].outputs[0].text == "mine\n"
    assert (home / "build" / "notebooks" / "91_two.ipynb").exists()
    assert cli.main(["run", "90", "--fresh"]) == 0
    assert "running the lessons as shipped, in notebooks/" in capsys.readouterr().out


def test_on_a_terminal_a_bar_says_what_is_running_and_leaves_nothing(home, capsys, monkeypatch):
    put(home / "notebooks", "90_one", "1", "2")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert cli.main(["run"]) == 0
    err = capsys.readouterr().err
    assert "90_one, 1 of 1:" in err
    assert "1/2" in err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    assert cli.main(["run"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("arguments", [[], ["my"]])
def test_grade_grades_the_copies_and_nothing_beside_them(home, capsys, monkeypatch, arguments):
    shutil.copy(HOME / "solutions" / "00_start_here.ipynb", home / "my")
    (home / "my" / "earlier").mkdir()
    shutil.copy(HOME / "solutions" / "03_freeze.ipynb", home / "my" / "earlier")
    monkeypatch.chdir(home)
    try:
        assert cli.main(["grade", *arguments]) == 0
    finally:
        client.close_servers()
    out = capsys.readouterr().out
    assert "✓ 00.1" in out
    assert "03.1" not in out


def test_the_folder_itself_can_be_graded_into_pages(home):
    options = cli.parser().parse_args(["grade", str(home / "my"), "--out", str(home / "grades")])
    cli.look_at_submissions(options)
    assert (options.mine, options.isolation) == (False, "full")


# ----------------------------------------------------------------------------------------------------------- Ctrl-C

# `course run` on a machine where, as on Windows, the event loop catches no signals; the notebook writes its kernel's number.
ON_WINDOWS = """
import asyncio, pathlib, sys
def catch(*_): raise NotImplementedError
asyncio.unix_events._UnixSelectorEventLoop.add_signal_handler = catch
from course_utils.tools import cli, lessons
for name in ("NOTEBOOKS", "BUILD", "MY"): setattr(lessons, name, pathlib.Path(sys.argv[1]) / name.lower())
cli.torch = sys.modules["torch"] = sys  # so that it ends as it does after torch was imported
sys.argv[1:] = ["run"]
cli.console()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent in another way there")
def test_ctrl_c_leaves_no_kernel_even_where_no_loop_catches_it(home):
    put(home / "notebooks", "90_one", "import os\nopen('pid', 'w').write(str(os.getpid()))", "import time\ntime.sleep(600)")
    process = subprocess.Popen([sys.executable, "-c", ON_WINDOWS, str(home)], stderr=subprocess.PIPE, text=True, cwd=HOME)
    pid = home / "notebooks" / "pid"
    while not pid.exists() or not pid.read_text():
        assert process.poll() is None
        time.sleep(0.1)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.endswith("course: stopped by hand\n")
    time.sleep(0.2)
    assert not psutil.pid_exists(int(pid.read_text()))


def test_jupyterlab_is_waited_for_however_often_ctrl_c_is_pressed():
    process = mock.Mock()
    process.wait.side_effect = [KeyboardInterrupt, KeyboardInterrupt, 0]
    assert lab_module.wait_for(process) == 0
    assert not process.kill.called


# -------------------------------------------------------------------------------------------------------- course lab


@pytest.fixture
def started(home, monkeypatch):
    """What `course lab` becomes."""
    for name in ("00_start_here", "01_more"):
        put(home / "notebooks", name, "x = 1")
    called = mock.Mock(return_value=None)
    monkeypatch.setattr(os, "execv", called)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "")
    return called


@pytest.mark.parametrize(("root", "rest"), [(1000, []), (0, ["--allow-root"])])
def test_lab_becomes_jupyterlab_with_the_arguments_given(started, monkeypatch, root, rest):
    monkeypatch.setattr(os, "geteuid", lambda: root, raising=False)
    cli.main(["lab", "--no-browser", "--port", "8899"])
    program, command = started.call_args.args
    assert program == sys.executable
    assert command[:3] == [sys.executable, "-m", "jupyterlab"]
    assert command[4:] == ["--LabApp.default_url=/lab/tree/my/00_start_here.ipynb", "--no-browser", "--port", "8899", *rest]


def test_lab_opens_what_was_worked_on_last(home, started):
    cli.main(["lab"])
    assert "00_start_here" in started.call_args.args[1][4]
    path = home / "my" / "01_more.ipynb"
    path.write_text(path.read_text().replace("x = 1", "x = 2"))
    cli.main(["lab"])
    assert "01_more" in started.call_args.args[1][4]


def test_lab_names_copies_of_an_older_edition(home, started, capsys):
    cli.main(["lab"])
    assert "older edition" not in capsys.readouterr().out
    notebook = nbformat.read(home / "notebooks" / "01_more.ipynb", as_version=4)
    notebook.metadata.source = "new"
    nbformat.write(notebook, home / "notebooks" / "01_more.ipynb")
    cli.main(["lab"])
    said = capsys.readouterr().out
    assert said == "of an older edition in my/: 01_more; `course update` renews them and keeps your answers\n"


@pytest.mark.parametrize("given", ["", "theirs"])
def test_jupyterlab_finds_that_the_news_are_off_and_the_settings_of_the_user(started, tmp_path, monkeypatch, given):
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", str(tmp_path / given) if given else "")
    (tmp_path / "theirs" / "labconfig").mkdir(parents=True)
    (tmp_path / "theirs" / "labconfig" / "page_config.json").write_text('{"disabledExtensions": {"theirs": true}}')
    cli.main(["lab"])
    code = "from jupyterlab_server.config import get_page_config as c; import json; print(json.dumps(c([])))"
    read = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ))
    disabled = json.loads(read.stdout)["disabledExtensions"]
    assert "@jupyterlab/apputils-extension:announcements" in disabled
    assert ("theirs" in disabled) == bool(given)
