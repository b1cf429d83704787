"""The one address, and what is made of it."""

from __future__ import annotations

import tomllib

import pytest

from course_utils.profiles import HOME
from course_utils.tools import address
from course_utils.tools.address import launch_links, repository_address


def test_the_address_is_the_setting():
    project = tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert repository_address() == project["urls"]["Repository"]
    assert not repository_address().endswith("/")


@pytest.mark.parametrize("end", ["", ".git"])
def test_launch_links(end):
    assert launch_links("notebooks/00_start_here.ipynb", f"https://github.com/an-owner/the.course{end}") == {
        "Colab": "https://colab.research.google.com/github/an-owner/the.course/blob/main/notebooks/00_start_here.ipynb",
        "Kaggle": "https://kaggle.com/kernels/welcome?src="
        "https://github.com/an-owner/the.course/blob/main/notebooks/00_start_here.ipynb",
        "Binder": "https://mybinder.org/v2/gh/an-owner/the.course/main?urlpath=lab%2Ftree%2Fnotebooks%2F00_start_here.ipynb",
        "Codespaces": "https://codespaces.new/an-owner/the.course?quickstart=1",
    }


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://gitlab.com/owner/course",
        "https://github.com.example.org/owner/course",
        "https://github.com/owner",
        "https://github.com/owner/course/tree/main",
        "file:///somewhere/course",
    ],
)
def test_only_what_is_on_github_can_be_launched(elsewhere):
    assert launch_links("notebooks/00_start_here.ipynb", elsewhere) == {}


def test_the_address_of_the_course_is_what_is_launched_by_default(monkeypatch):
    monkeypatch.setattr(address, "repository_address", lambda: "https://github.com/owner/course")
    assert "/owner/course/" in launch_links("notebooks/00_start_here.ipynb")["Colab"]
