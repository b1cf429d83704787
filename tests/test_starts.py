"""Starts without an install: what Binder and Codespaces read says the same as the course's own set-up."""

from __future__ import annotations

import importlib.util
import json
import re
import tomllib

from packaging.specifiers import SpecifierSet

from course_utils.profiles import HOME
from course_utils.tools.install_cell import MEGABYTES

PROJECT = tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONTAINER = json.loads((HOME / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
PAGE = (HOME / "docs" / "without-an-install.md").read_text(encoding="utf-8")


def test_binder_installs_the_pins_of_the_course_without_cuda():
    lines = (HOME / ".binder" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    index, pins = (line for line in lines if not line.startswith("#"))
    assert index == "--extra-index-url https://download.pytorch.org/whl/cpu", "the other index stays: it has the rest"
    assert (HOME / ".binder" / pins.removeprefix("-r ")).resolve() == (HOME / "requirements.txt").resolve()
    assert f"pin {re.search('^torch==(.*)$', (HOME / 'requirements.txt').read_text(), re.MULTILINE)[1]} " in " ".join(lines)


def test_their_pythons_are_among_those_of_the_course():
    binder = (HOME / ".binder" / "runtime.txt").read_text(encoding="utf-8").strip().removeprefix("python-")
    container = CONTAINER["image"].rpartition(":")[2]
    assert binder in SpecifierSet(PROJECT["requires-python"])
    assert container in SpecifierSet(PROJECT["requires-python"])


def test_a_codespace_is_set_up_as_a_machine_is():
    spec = importlib.util.spec_from_file_location("install", HOME / "install.py")
    install = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(install)
    command = CONTAINER["onCreateCommand"].split()
    assert command == ["python", "install.py", "--cpu"]
    assert '"--cpu"' in (HOME / "install.py").read_text(encoding="utf-8"), "install.py has that option"
    interpreter = CONTAINER["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"]
    assert (
        interpreter == f"${{containerWorkspaceFolder}}/{(install.VENV / 'bin' / 'python').relative_to(install.HOME).as_posix()}"
    )
    assert int(CONTAINER["hostRequirements"]["storage"].removesuffix("gb")) > sum(install.SPACE)
    assert all((HOME / name).exists() for name in CONTAINER["customizations"]["codespaces"]["openFiles"])


def test_the_page_says_what_holds():
    oldest = dict(re.findall(r"(\w+)>=([\d.]+)", " ".join(PROJECT["dependencies"])))
    assert f"{MEGABYTES} MB" in PAGE
    assert f"PyTorch {oldest['torch']} or newer" in PAGE
    least, end = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PROJECT["requires-python"]).groups()
    assert f"Python 3.{least} to 3.{int(end) - 1}" in " ".join(PAGE.split())
