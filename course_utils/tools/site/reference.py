"""The library's reference: a page for each module of the public API, in the order of a fine-tuning run."""

from __future__ import annotations

import inspect
from importlib import import_module

import course_utils

HEAD = """\
# {module}

```{{eval-rst}}
"""


def pages() -> dict[str, str]:
    """By its place on the site, the Markdown of every page of the reference."""
    named = {module: module_page(module, names) for module, names in course_utils.EXPORTS.items()}
    return {"reference/index.md": index()} | {f"reference/{module}.md": page for module, page in named.items()}


def index() -> str:
    rows = "\n".join(
        f"| [{module}]({module}.md) | {', '.join(f'`{name}`' for name in names)} | {first_sentence(module)} |"
        for module, names in course_utils.EXPORTS.items()
    )
    entries = "\n".join(course_utils.EXPORTS)
    return (
        "# The library\n\n"
        "What the lessons import, in the order of a fine-tuning run. Every name stands in `course_utils`: "
        "`from course_utils import freeze`.\n\n"
        f"| module | names | what for |\n|---|---|---|\n{rows}\n\n"
        f"```{{toctree}}\n:hidden:\n\n{entries}\n```\n"
    )


def first_sentence(module: str) -> str:
    found = inspect.getdoc(import_module(f"course_utils.{module}")) or ""
    return " ".join(found.split("\n\n")[0].split()).replace("|", "\\|")


def module_page(module: str, names: tuple[str, ...]) -> str:
    """What a module offers; of one that is public as a whole, all that it lists or the lessons take from it."""
    path = f"course_utils.{module}"
    lines = [f".. automodule:: {path}", "   :no-members:", "   :no-index:" if module not in names else "", ""]
    lines += [".. currentmodule:: course_utils", ""]  # names stand where they are imported from
    for name in names:
        if name != module:
            lines += directive(name)
    if module in names:
        lines += [f".. currentmodule:: {path}", ""]
        for name in public(module):
            if name not in names:
                lines += directive(name, getattr(import_module(path), name))
    return HEAD.format(module=module) + "\n" + "\n".join(lines) + "\n```\n"


def public(module: str) -> list[str]:
    """The functions of a public module: those it lists, or else those that it defines and documents."""
    found = import_module(f"course_utils.{module}")
    names = getattr(found, "__all__", None) or [name for name, one in vars(found).items() if is_own(one, found.__name__)]
    return [name for name in names if callable(getattr(found, name))]


def is_own(one: object, module: str) -> bool:
    return inspect.isfunction(one) and one.__module__ == module and bool(one.__doc__)


def directive(name: str, one: object = None) -> list[str]:
    if inspect.isclass(one or getattr(course_utils, name)):
        return [f".. autoclass:: {name}", "   :members:", "   :member-order: bysource", ""]
    return [f".. autofunction:: {name}", ""]
