"""Check files: the course's own and an instructor's hidden ones, and how a probe is cut out of them for its journey.

What crosses the wall is the text of the probe, of the `@beside` functions it calls, of constants and imports; never the judge.
"""

from __future__ import annotations

import ast
import hashlib
import hmac
import inspect
import sys
from functools import cache
from types import ModuleType

from course_utils.checks import lesson_module, lessons
from course_utils.checks.spec import Check

Hidden = tuple[tuple[str, str], ...]  # names and texts of files with hidden checks


@cache
def hidden_checks(files: Hidden) -> tuple[Check, ...]:
    """The checks in the instructor's `files`, in the order of their ids.

    Raises:
        ValueError: if a file cannot be run or does not define CHECKS.
    """
    found: list[Check] = []
    for name, text in files:
        checks = getattr(load(name, text), "CHECKS", None)
        if not isinstance(checks, list) or not all(isinstance(check, Check) for check in checks):
            raise ValueError(f"{name} should define CHECKS, a list of `Check(…)`; see docs/instructors.md")
        found += checks
    for check in found:
        probe_text(check)
    return tuple(sorted(found, key=lambda check: check.id))


def load(name: str, text: str) -> ModuleType:
    """The instructor's file as a module, with its text beside it."""
    module = ModuleType(f"hidden_{hashlib.sha256(text.encode()).hexdigest()[:16]}")
    module.__dict__["__text__"] = text
    sys.modules[module.__name__] = module
    try:
        exec(compile(text, name, "exec"), module.__dict__)
    except Exception as error:
        raise ValueError(f"{name} cannot be run: {type(error).__name__}: {error}") from error
    return module


def checks_for(lesson: str, files: Hidden = ()) -> list[Check]:
    """All checks of a lesson, public and hidden."""
    public = lesson_module(lesson).CHECKS if lesson in lessons() else []
    return [*public, *(check for check in hidden_checks(files) if check.id.partition(".")[0] == lesson)]


def seed_of(run_seed: str, id: str, case: int) -> int:
    """The number from which a case makes its inputs: it says nothing about any other."""
    digest = hmac.digest(run_seed.encode(), f"{id}|{case}".encode(), "sha256")
    return int.from_bytes(digest[:4], "big")  # numpy takes no more


def text_of(module: ModuleType) -> str:
    return module.__dict__.get("__text__") or inspect.getsource(module)


def probe_text(check: Check) -> str:
    """The text that defines the probe of `check` wherever it is run.

    Raises:
        ValueError: if the probe needs something of its file that may not travel.
    """
    parts = check.parts or (check.probe,)
    names = tuple(part.__name__ for part in parts)
    text = travelling(text_of(sys.modules[parts[0].__module__]), names, check.id)
    return text + (ASKING.format(cases=names[0], ask=names[-1]) if check.parts else "")


@cache
def travelling(file: str, roots: tuple[str, ...], id: str) -> str:
    """The part of the text `file` that the functions `roots` need."""
    parts = definitions(file)
    wanted, places = list(roots), set()
    for one in wanted:
        if one in parts:
            place, node = parts[one]
            if not may_travel(node) and one not in roots:
                raise ValueError(f"the probe of {id} uses {one}, which stays with the judge: mark it with @beside")
            places.add(place)
            wanted += sorted(names_in(node) - set(wanted))
    nodes = {place: node for place, node in parts.values() if place in places}
    return "from __future__ import annotations\n" + "\n".join(ast.unparse(nodes[place]) for place in sorted(nodes))


ASKING = """
def probe(answer, rng):
    return [{ask}(answer, case) for case in list({cases}(rng))]
"""


@cache
def definitions(text: str) -> dict[str, tuple[int, ast.stmt]]:
    """What a file defines at its top level: by name the place of the statement, and the statement."""
    found: dict[str, tuple[int, ast.stmt]] = {}
    for place, node in enumerate(ast.parse(text).body):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = place, node
        elif isinstance(node, ast.Import | ast.ImportFrom) and getattr(node, "module", "") != "__future__":
            for alias in node.names:
                found[alias.asname or alias.name.partition(".")[0]] = place, node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id: (place, node) for target in targets if isinstance(target, ast.Name)}
    return found


def may_travel(node: ast.stmt) -> bool:
    if isinstance(node, ast.FunctionDef):
        return any(isinstance(mark, ast.Name) and mark.id == "beside" for mark in node.decorator_list)
    if isinstance(node, ast.ImportFrom):
        return not (node.module or "").startswith("course_utils.checks.lesson_")
    return isinstance(node, ast.Import) or (isinstance(node, ast.Assign | ast.AnnAssign) and is_constant(node.value))


def is_constant(value: ast.expr | None) -> bool:
    try:
        ast.literal_eval(value or ast.Constant(None))
    except ValueError:
        return False
    return True


def names_in(node: ast.stmt) -> set[str]:
    """The names that `node` reads and does not make itself; those of annotations are never looked up."""
    kinds = [getattr(part, field, None) for part in ast.walk(node) for field in ("annotation", "returns")]
    unread = {id(part) for kind in kinds if kind for part in ast.walk(kind)}
    names = [part for part in ast.walk(node) if isinstance(part, ast.Name) and id(part) not in unread]
    own = {part.id for part in names if not isinstance(part.ctx, ast.Load)}
    own |= {part.arg for part in ast.walk(node) if isinstance(part, ast.arg)}
    return {part.id for part in names} - own
