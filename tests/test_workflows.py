"""The workflows of the code host: they can be read, and what they run is there."""

import os
import re
import subprocess
import sys

import pytest
import yaml

from course_utils.profiles import HOME
from course_utils.tools import cli

FILES = sorted((HOME / ".github" / "workflows").glob("*.yml"))
FLOWS = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in FILES}
STEPS = [(name, step) for name, flow in FLOWS.items() for job in flow["jobs"].values() for step in job["steps"]]
RUN = [(name, step["run"]) for name, step in STEPS if "run" in step]


def test_there_are_two():
    assert list(FLOWS) == ["site", "tests"]


@pytest.mark.parametrize(("name", "command"), RUN)
def test_what_a_step_runs_is_there(name, command):
    first, *rest = command.split()
    if first == "make":
        assert re.search(rf"^{rest[0]}:", (HOME / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    elif first == "$BIN/course":
        cli.parser().parse_args(rest)
    elif command.startswith("python - <<"):
        compile(program(command), name, "exec")
    elif first == "python":
        assert (HOME / rest[0]).exists()
        subprocess.run([sys.executable, rest[0], *rest[1:], "--help"], cwd=HOME, check=True, capture_output=True)
    elif first == "$BIN/python":
        assert rest[:2] == ["-m", "pytest"]
    else:
        assert os.access(HOME / command, os.X_OK)


def test_the_systems_and_the_oldest_and_newest_python_are_tried():
    jobs = FLOWS["tests"]["jobs"]
    matrix = jobs["fast"]["strategy"]["matrix"]
    assert matrix == {"os": ["ubuntu-latest", "macos-latest", "windows-latest"], "python": ["3.11", "3.14"]}
    assert [step["run"] for step in jobs["everything"]["steps"] if "run" in step] == [".ci/run"]


def test_only_the_step_that_publishes_may_write():
    for name, flow in FLOWS.items():
        assert flow["permissions"] == {"contents": "read"}
        for job, content in flow["jobs"].items():
            assert ("permissions" in content) == ((name, job) == ("site", "publish"))


def program(command: str) -> str:
    return command.split("<<'END'\n")[1].rsplit("END", 1)[0]


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("https://github.com/a/b", ""),
        ("https://github.com/a/b/", ""),
        (
            "https://github.com/c/d",
            "::warning file=pyproject.toml::Repository in pyproject.toml is https://github.com/c/d, but",
        ),
    ],
)
def test_a_copy_that_kept_the_address_of_another_is_told(tmp_path, address, said):
    (command,) = (text for _, text in RUN if text.startswith("python - <<"))
    (tmp_path / "pyproject.toml").write_text(f'[project.urls]\nRepository = "{address}"\n')
    environment = os.environ | {"HERE": "https://github.com/a/b"}
    done = subprocess.run(
        [sys.executable, "-c", program(command)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout.startswith(said) if said else done.stdout == ""
    assert done.returncode == bool(said)


def test_every_address_with_a_version_has_one_that_is_named_once():
    versions = {step["uses"] for _, step in STEPS if "uses" in step}
    assert len({one.split("@")[0] for one in versions}) == len(versions)
