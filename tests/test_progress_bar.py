"""The progress bar: gone without a trace in a notebook, plain tqdm in a terminal."""

from __future__ import annotations

import re
import sys

import nbformat
import pytest
import torch
from nbclient import NotebookClient
from torchvision.datasets import utils as datasets_utils
from tqdm import tqdm

from course_utils import progress_bar
from course_utils.progress_bar import NotebookBar, progress, progress_of_downloads

CELLS = {
    "begin": """
import signal, time
from course_utils import progress_bar
from course_utils.progress_bar import progress
def at_once(*args, **options):
    return progress_bar.NotebookBar(*args, **options | {"delay": 0, "mininterval": 0})
def work(note, steps=3):
    with progress(range(steps), note) as items:
        for item in items:
            items.set_postfix_str("loss 0.5", refresh=False)
            yield item
""",
    "short": 'for _ in work("short"): pass',
    "long": 'for _ in work("long"): time.sleep(0.4)',
    "now all are shown": "real = progress; progress = lambda items, note: at_once(items, desc=note)",
    "one after the other": 'print("before")\nfor note in "abc":\n    for _ in work(note): pass\nprint("after")',
    "nested": 'for _ in work("outer"):\n    for _ in work("inner"): print("between")',
    "left early": 'for _ in work("early"): break',
    "stopped by an error": 'for _ in work("error"): raise ValueError("mine")',
    "stopped by hand": 'for _ in work("hand"): signal.raise_signal(signal.SIGINT)',
    "in mid-work": 'bar = at_once(range(9), desc="half")\nitems = iter(bar)\n_ = next(items)',
    "switched off": '%env TQDM_DISABLE=1\nfor _ in work("off"): pass',
}


@pytest.fixture(scope="module")
def run() -> dict[str, list]:
    """The outputs of each of the cells, run in a kernel."""
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS.values()]
    notebook = nbformat.v4.new_notebook(cells=cells)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TQDM_DISABLE", raising=False)  # `make test` sets it
        NotebookClient(notebook, kernel_name="python3", allow_errors=True, timeout=60).execute()
    nbformat.validate(notebook)
    return dict(zip(CELLS, (cell.outputs for cell in notebook.cells), strict=True))


def seen(outputs: list) -> str:
    """What a person sees of them."""
    assert all(one.get("name") != "stderr" for one in outputs), outputs
    texts = [one.get("text", "") or one.get("data", {}).get("text/plain", "") or one.get("ename", "") for one in outputs]
    return "".join(texts)


def test_nothing_is_left_of_a_bar_in_a_notebook(run):
    assert run["begin"] == run["short"] == run["now all are shown"] == []
    assert [one.data for one in run["long"]] == [{}]
    assert seen(run["one after the other"]) == "before\nafter\n"
    assert seen(run["nested"]) == "between\n" * 9
    assert seen(run["left early"]) == ""
    empty = [one for one in run["one after the other"] if one.output_type == "display_data"]
    assert [one.data for one in empty] == [{}] * 3, "each bar was there, and is empty"


def test_nothing_is_left_of_a_bar_that_was_stopped(run):
    assert seen(run["stopped by an error"]) == "ValueError"
    assert seen(run["stopped by hand"]) == "KeyboardInterrupt"


def test_a_bar_in_a_notebook_is_a_line_of_text(run):
    assert re.fullmatch(r"half: +\d+%\|.*\| \d/9 \[.*\]", seen(run["in mid-work"]))
    assert run["in mid-work"][0].data.keys() == {"text/plain"}


def test_a_bar_in_a_notebook_can_be_switched_off(run):
    assert seen(run["switched off"]).strip() == "env: TQDM_DISABLE=1"


def test_in_a_terminal_it_is_tqdm_on_stderr(capsys, monkeypatch):
    assert not progress_bar.in_notebook()
    always = {"delay": 0, "mininterval": 0, "disable": False}
    monkeypatch.setattr(progress_bar, "tqdm", lambda *args, **options: tqdm(*args, **options | always))
    with progress([1, 2], "work") as items:
        assert list(items) == [1, 2]
    out, err = capsys.readouterr()
    assert out == ""
    assert re.search(r"work: 100%.* 2/2 ", err)
    assert err.splitlines()[-1].strip() == "", "the bar is gone when it is full"


def test_ipython_in_a_terminal_is_no_notebook(monkeypatch):
    class InteractiveShell:
        """What IPython is there: it has no kernel."""

        initialized = staticmethod(lambda: True)

        @classmethod
        def instance(cls):
            return cls

    fake = type(sys)("IPython.core.interactiveshell")
    fake.InteractiveShell = InteractiveShell
    monkeypatch.setitem(sys.modules, "IPython.core.interactiveshell", fake)
    assert not progress_bar.in_notebook()
    InteractiveShell.kernel = object()
    assert progress_bar.in_notebook()


def test_the_grader_is_no_notebook(monkeypatch):
    """Its get_ipython refuses everything, and an answer that trains must not meet it."""
    import IPython

    def refused():
        raise RuntimeError("answers are graded without a notebook")

    monkeypatch.setattr(IPython, "get_ipython", refused)
    assert not progress_bar.in_notebook()


def test_downloads_of_torch_and_torchvision_show_the_same_bar(monkeypatch):
    monkeypatch.setattr(progress_bar, "in_notebook", lambda: True)
    with progress_of_downloads():
        assert torch.hub.tqdm.func is datasets_utils.tqdm.func is NotebookBar
    assert torch.hub.tqdm is datasets_utils.tqdm is tqdm


def test_the_bar_of_downloads_is_put_back_after_an_error(monkeypatch, tmp_path):
    monkeypatch.setattr(progress_bar, "in_notebook", lambda: True)
    with pytest.raises(OSError, match="urlopen error"), progress_of_downloads():
        torch.hub.download_url_to_file((tmp_path / "none.pth").as_uri(), str(tmp_path / "copy.pth"))
    assert torch.hub.tqdm is datasets_utils.tqdm is tqdm


def test_downloads_in_a_terminal_stay_what_they_are():
    with progress_of_downloads():
        assert torch.hub.tqdm is datasets_utils.tqdm is tqdm


def test_a_download_in_a_notebook_leaves_nothing(monkeypatch, tmp_path, capsys):
    shown = []
    monkeypatch.setattr(progress_bar, "in_notebook", lambda: True)
    monkeypatch.setattr("IPython.display.display", lambda bundle, **how: shown.append((bundle, how)))
    (tmp_path / "weights.pth").write_bytes(b"x" * 3_000_000)
    with progress_of_downloads():
        torch.hub.download_url_to_file((tmp_path / "weights.pth").as_uri(), str(tmp_path / "copy.pth"))
    assert "2.86M" in shown[-2][0]["text/plain"]
    assert shown[-1][0] == {}
    assert [how["update"] for _, how in shown] == [False] + [True] * (len(shown) - 1)
    assert len({how["display_id"] for _, how in shown}) == 1
    assert capsys.readouterr() == ("", "")
