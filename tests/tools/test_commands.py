"""What README, Makefile, workflows and the other texts tell people and machines to run is there."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from course_utils.profiles import HOME
from course_utils.tools import cli

FILES = [HOME / "Makefile", HOME / "pyproject.toml", HOME / "install.py", HOME / ".ci" / "run"]
FOLDERS = ("*.md", "docs/*.md", "data/*/README.md", ".github/**/*.yml", "course_utils/**/*.py", "solutions/*.py")
TEXTS = {path: path.read_text(encoding="utf-8") for path in [*FILES, *(one for place in FOLDERS for one in HOME.glob(place))]}
IN_EXAMPLES = re.compile("NN|lesson_90|answers_90|course_utils/home")  # what a reader of CONTRIBUTING.md writes, and a wheel


def code_in(path: Path) -> str:
    """What a page or a docstring sets as code: prose has a course, and makes things, too."""
    text = TEXTS[path]
    return "\n".join(re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL)) if path.suffix in (".md", ".py") else text


def named(pattern: str, *, code: bool = True) -> set[tuple[str, str]]:
    """Each thing that the group of `pattern` finds, with the file that names it."""
    texts = {path: code_in(path) if code else text for path, text in TEXTS.items()}
    return {
        (path.relative_to(HOME).as_posix(), found)
        for path, text in texts.items()
        for found in re.findall(pattern, text, re.MULTILINE)
    }


def is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def is_held(module: str, name: str) -> bool:
    return is_module(module) and hasattr(import_module(module), name)


def test_modules_that_are_run_are_there():
    run = named(r"-m (course_utils[\w.]*\w)", code=False)
    assert {name for _, name in run} >= {"course_utils.tools.pretrain"}
    assert [(path, name) for path, name in run if not is_module(name)] == []


def test_modules_that_texts_name_are_there():
    """A dotted name may end in something that the module holds."""
    found = named(r"\b(course_utils(?:\.[a-z]\w*)+)", code=False)
    texts = [(path, name) for path, name in found if not path.endswith(".py")]
    assert [(path, name) for path, name in texts if not is_module(name) and not is_held(*name.rsplit(".", 1))] == []


def test_files_that_are_named_are_there():
    found = named(r"\b((?:course_utils|tests|docs)/[\w./-]*[\w/])")
    lost = [(path, name) for path, name in found if not (HOME / name).exists() and not IN_EXAMPLES.search(name)]
    assert lost == []


def test_commands_that_are_shown_are_there(capsys):
    shown = named(r"(?:[`/\\]|^ *)course ([a-z]+)\b")
    assert {command for path, command in shown if path == "README.md"} >= {"run", "doctor", "lab", "bench", "grade"}
    for path, command in sorted(shown):
        with pytest.raises(SystemExit) as end:
            cli.main([command, "--help"])
        assert end.value.code == 0, f"{path} shows `course {command}`"


def test_what_is_made_is_there():
    targets = set(re.findall(r"^([a-z]+):", TEXTS[HOME / "Makefile"], re.MULTILINE))
    made = named(r"(?:`|^ *|- run: )make (?:--[\w-]+ )*([a-z]+)\b")
    assert {target for path, target in made if path == ".ci/run"} == {"lint", "test"}
    assert [(path, target) for path, target in made if target not in targets] == []


def test_the_entry_point_is_the_command():
    module, function = re.search(r'^course = "([\w.]+):(\w+)"', TEXTS[HOME / "pyproject.toml"], re.MULTILINE).groups()
    assert (module, getattr(cli, function)) == (cli.__name__, cli.console)
