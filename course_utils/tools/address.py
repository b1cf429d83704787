"""Where the course is published: `Repository` in `pyproject.toml`, the one setting that names it, and what is made of it."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from urllib.parse import quote

from course_utils.profiles import HOME, INSTALLED

BRANCH = "main"


def repository_address() -> str:
    """The address of the repository, such as https://github.com/owner/name, without a slash at its end."""
    if INSTALLED:  # a wheel has no pyproject.toml, and says the same in its metadata
        urls = metadata.metadata("fine-tuning-course").get_all("Project-URL") or []
        named = dict(url.split(", ", 1) for url in urls)
        return named["Repository"].rstrip("/")
    project = tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["urls"]["Repository"].rstrip("/")


def launch_links(path: str, address: str | None = None) -> dict[str, str]:
    """Where others run the notebook at `path` of the repository, such as "notebooks/00_start_here.ipynb", by their names.

    Nothing where the repository is not on GitHub, for there is nothing that these could open then. Codespaces opens the
    repository, and no notebook.
    """
    found = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)(\.git)?", address or repository_address())
    if not found:
        return {}
    name, file = found[1], quote(path)
    return {
        "Colab": f"https://colab.research.google.com/github/{name}/blob/{BRANCH}/{file}",
        "Kaggle": f"https://kaggle.com/kernels/welcome?src=https://github.com/{name}/blob/{BRANCH}/{file}",
        "Binder": f"https://mybinder.org/v2/gh/{name}/{BRANCH}?urlpath={quote('lab/tree/' + path, safe='')}",
        "Codespaces": f"https://codespaces.new/{name}?quickstart=1",
    }
