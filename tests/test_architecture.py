"""The house rules: imports point left, functions are short, the public API is complete."""

from __future__ import annotations

import ast
import re
import statistics
from functools import cache
from pathlib import Path

import pytest

import course_utils
from course_utils.profiles import HOME

PACKAGE = HOME / "course_utils"
LEFT_TO_RIGHT = (
    *(
        "errors",
        "files",
        "rng",
        "progress_bar",
        "profiles",
        "reporting",
        "devices",
        "worlds",
        "far_worlds",
        "fields",
        "drawing",
        "weights",
        "images",
        "folders",
        "data",
    ),
    *("trial", "heads", "models", "finetune", "losses", "train", "prediction", "occlusion"),
    *("fingerprint", "feature_store", "fx_trace", "equivalence", "fx_split", "inference", "precomputed"),
    *(
        "loader_state",
        "checkpoints",
        "spread",
        "sweeps",
        "range_test",
        "experiments",
        "plots",
        "verdict_log",
        "checks",
        "grader",
    ),
)
ON_TOP = "tools"  # the workshop: each tool may use what it needs, and nothing uses the tools


# --------------------------------------------------------------------------------------------------------- imports


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def module_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def modules_used(path: Path) -> set[str]:
    """The modules of the course that `path` imports, anywhere in it, through the public API or directly."""
    behind = {name: module for module, names in course_utils.EXPORTS.items() for name in names}
    found: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("course_utils.")}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name}: write `from course_utils.… import`, not a relative import"
            if node.module == "course_utils":
                found |= {behind.get(alias.name, alias.name) for alias in node.names}
            elif node.module.startswith("course_utils."):
                found.add(node.module.split(".")[1])
    return found


def test_every_module_has_its_place():
    known = {*LEFT_TO_RIGHT, ON_TOP, "__init__"}
    assert {module_of(path) for path in sources()} == known


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_left(path):
    module = module_of(path)
    if module in ("__init__", ON_TOP):
        return
    used = modules_used(path) - {module}
    if path.match("checks/lesson_*.py"):
        assert used <= set(LEFT_TO_RIGHT)
    else:
        assert used <= set(LEFT_TO_RIGHT[: LEFT_TO_RIGHT.index(module)])


# ------------------------------------------------------------------------------------------------------------ public API


def test_the_public_api_is_sorted_and_complete():
    assert course_utils.__all__ == sorted(course_utils.__all__)
    named = [name for names in course_utils.EXPORTS.values() for name in names]
    assert sorted(named) == course_utils.__all__
    for name in named:
        assert getattr(course_utils, name) is not None


def test_the_public_api_shows_the_same_to_people_and_to_type_checkers():
    block = next(node for node in tree_of(PACKAGE / "__init__.py").body if isinstance(node, ast.If))
    shown = {(node.module, alias.name) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    modules = {
        ("course_utils" if name == module else f"course_utils.{module}", name)
        for module, names in course_utils.EXPORTS.items()
        for name in names
    }
    assert shown == modules


def test_a_name_that_is_not_behind_the_door():
    with pytest.raises(AttributeError, match="course_utils has no 'frieze'; it has Data, Epoch"):
        course_utils.frieze  # noqa: B018


# ------------------------------------------------------------------------------------------------------- functions


def lines_of(function: ast.FunctionDef) -> int:
    """The number of its lines without the docstring."""
    docstring = function.body[0].end_lineno - function.body[0].lineno + 1 if ast.get_docstring(function) else 0
    return function.end_lineno - function.lineno + 1 - docstring


def functions() -> list[tuple[str, int]]:
    """Every function of the package with its number of lines."""
    nodes = [(path.stem, node) for path in sources() for node in ast.walk(tree_of(path))]
    return [(f"{stem}.{node.name}", lines_of(node)) for stem, node in nodes if isinstance(node, ast.FunctionDef)]


def test_functions_are_short():
    lengths = sorted(lines for _, lines in functions())
    assert statistics.median(lengths) <= 10
    assert sum(lines <= 15 for lines in lengths) / len(lengths) >= 0.8
    assert [(name, lines) for name, lines in functions() if lines > 50] == []


def test_every_public_function_says_what_it_does():
    for name in course_utils.__all__:
        assert (getattr(course_utils, name).__doc__ or "").strip(), name


# ------------------------------------------------------------------------------------------------ the whole repository

FOREIGN = re.compile(r"(?<![\w.])/(?:home|root|tmp|work|Users)/\w")  # a place on somebody's own machine


def test_nothing_speaks_of_the_workshop():
    """Texts are for the people who read them: no paths of a machine on which they were written."""
    folders = (PACKAGE, HOME / "solutions", HOME / "notebooks", HOME / "tests", HOME / "docs")
    files = [path for folder in folders for path in folder.rglob("*") if path.suffix in (".py", ".md", ".ipynb")]
    files += [*HOME.glob("*.md"), *HOME.glob("*.toml"), HOME / "data" / "weights" / "README.md"]
    for path in files:
        if path != Path(__file__):
            found = FOREIGN.search(path.read_text(encoding="utf-8"))
            assert not found, f"{path.relative_to(HOME)}: {found[0]}"
