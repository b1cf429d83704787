"""The first cell of each notebook: what it asks pip for, and when. Tests of the package run it for real."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from importlib.metadata import version

import pytest

from course_utils.tools.install_cell import install_cell

CELL = install_cell("https://example.org/course")


@pytest.fixture
def alone(monkeypatch):
    """Where the course is not: returns what pip is called with. `absent` are further packages that are not there."""

    def run(*absent: str, code: int = 0) -> list[list[str]]:
        calls: list[list[str]] = []
        real = importlib.util.find_spec

        def called(command: list[str], **options) -> subprocess.CompletedProcess:
            calls.append(command)
            return subprocess.CompletedProcess(command, code, "", "what pip says")

        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in (*absent, "course_utils") else real(name))
        monkeypatch.setattr(subprocess, "run", called)
        exec(CELL, {})
        return calls

    return run


def test_it_asks_for_the_course_and_for_what_is_here(alone):
    """So that pip refuses where the versions are too old: it would otherwise replace a PyTorch that is loaded."""
    (command,) = alone()
    assert command[:4] == [sys.executable, "-m", "pip", "install"], "into the Python that runs this notebook"
    here = [f"{name}=={version(name)}" for name in ("torch", "torchvision", "numpy")]
    assert command[5:] == ["git+https://example.org/course", *here]


def test_what_is_not_here_pip_chooses(alone):
    (command,) = alone("torch", "torchvision")
    assert command[5:] == ["git+https://example.org/course", f"numpy=={version('numpy')}"]


def test_where_pip_fails_its_words_are_shown(alone, capsys):
    with pytest.raises(RuntimeError, match="could not be fetched, pip says why above: go online"):
        alone(code=1)
    assert capsys.readouterr().out.splitlines()[-1] == "what pip says"


def test_where_the_course_is_nothing_is_called(monkeypatch, capsys):
    monkeypatch.setattr(subprocess, "run", None)
    exec(CELL, {})
    assert capsys.readouterr().out == ""


def test_a_beginner_can_read_it():
    lines = CELL.splitlines()
    assert len(lines) <= 20
    assert max(map(len, lines)) <= 128
    assert not any(line.lstrip().startswith(("!", "%")) for line in lines)
    made = {node.id for node in ast.walk(ast.parse(CELL)) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    assert made <= {"here", "name", "wanted", "pip"}, "names that a lesson could take for its own"
