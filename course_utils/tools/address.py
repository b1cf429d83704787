"""Where the course is published: `Repository` in `pyproject.toml`, the one setting that names it."""

from __future__ import annotations

import tomllib

from course_utils.profiles import HOME


def repository_address() -> str:
    """The address of the repository, such as https://github.com/owner/name, without a slash at its end."""
    project = tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["urls"]["Repository"].rstrip("/")
