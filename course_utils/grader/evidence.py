"""From an answer to evidence.

Each check gets a box of its own, in which the answer runs alone: what one answer breaks costs no other, and when a hidden
check begins nothing is there any more that could show its questions.
"""

from __future__ import annotations

import ast
import builtins
import collections
import json
import re
import secrets
import sysconfig
import types
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from course_utils.checks.spec import Check
from course_utils.grader.client import GRACE_S, START_S, Box, Fault, Forged, Late, Lost, server_for
from course_utils.grader.probes import Hidden, probe_text, seed_of
from course_utils.grader.records import Output, quoted
from course_utils.grader.sandbox.levels import GIB, INSIDE, MEMORY
from course_utils.grader.scoring import ERROR, FAILED, TIMEOUT, TO_DO, Evidence, Failure, Raised, exercise_of
from course_utils.grader.worker import protocol
from course_utils.profiles import HOME


@dataclass(frozen=True)
class Job:
    """All that a grade depends on besides the notebook."""

    seed: str
    isolation: str = "full"
    hidden: Hidden = ()  # names and texts of the files with hidden checks
    lessons: tuple[str, ...] = ()  # those that are graded; none named: all
    cell_s: float = 10.0  # for the cell of one answer


@dataclass(frozen=True)
class Tried:
    """What one run of a check in a box brought."""

    cases: tuple[Evidence | Failure, ...]
    output: Output
    busy: bool = False  # the box computed all the time: if it was late, it will be late again

    @property
    def failure(self) -> Failure | None:
        return next((case for case in self.cases if isinstance(case, Failure)), None)


def collect(check: Check, answers: dict[str, str], job: Job, *, again: bool = True) -> Tried:
    """The evidence for one check: the answer alone; after the answers above it if it needs a name.

    An answer that was late is tried once `again`, unless it computed all the time: then it was not the machine that was busy.
    """
    id = exercise_of(check.id)
    tried = attempt(check, [answers[id]], job)
    above = [answers[other] for other in sorted(answers) if other < id]
    if above and tried.failure and tried.failure.raised and tried.failure.raised.name == "NameError":
        with_others = attempt(check, [*above, answers[id]], job)
        tried = tried if with_others.failure else with_others
    if again and tried.failure and tried.failure.state == TIMEOUT and not tried.busy:
        tried = attempt(check, [answers[id]], job)
    return tried


def attempt(check: Check, cells: list[str], job: Job) -> Tried:
    """Run `cells` and then all cases of the check in a box of its own."""
    cases: list[Evidence | Failure] = []
    place, last, forged = Box(server_for(job.isolation)), None, False
    try:
        for case in run_cases(place, check, cells, job):
            cases.append(case)
    except Late:
        last = Failure(TIMEOUT, "it took too long: is there a loop without an end?")
    except Lost as error:
        last, forged = Failure(ERROR, f"it {error}"), isinstance(error, Forged)
    except protocol.WireError as error:
        last = Failure(ERROR, f"the cell cannot be run: {error}")
    letter = place.close()
    if last and letter == "M":
        last = Failure(ERROR, f"it took more than {MEMORY // GIB} GiB of memory")
    return Tried((*cases, *([last] if last else [])), Output() if forged else output_of(place), letter == "C")


def run_cases(place: Box, check: Check, cells: list[str], job: Job) -> Iterator[Evidence | Failure]:
    """Evidence or failure of each case, until one fails."""
    try:
        place.receive("", ("ready",), START_S)
    except (Late, Lost) as error:
        place.close()
        raise Fault(f"a box did not begin: {error}") from None
    id = secrets.token_hex(16)
    whole = [cell.encode(errors="replace").decode() for cell in cells]  # half a letter is none
    place.send("cells", id, {"setup": setup_of(check.id[:2]), "cells": whole}, job.cell_s)
    for number in range(len(cells)):
        status = place.receive(id, ("status",), job.cell_s + (GRACE_S if not number else 0)).data
        if type(status) is not dict:
            raise Forged("wrote to the grader's wire")
        if status and number == len(cells) - 1:
            yield failure_of(status, check, place.folder)
            return
    source = {"source": probe_text(check), "name": check.probe.__name__, "answer": check.answer}
    for number in range(check.cases):
        id, seed = secrets.token_hex(16), seed_of(job.seed, check.id, number)
        place.send("probe", id, {**source, "seed": seed}, check.limit_s)
        frame = place.receive(id, ("evidence", "raised"), check.limit_s)
        if frame.kind == "raised":
            yield failure_of(frame.data, check, place.folder)
            return
        yield Evidence(frame.data, seed)


REFUSED = "your answer gives something else than numbers, texts, lists, dictionaries and tensors, or too much of it"
PLAIN = re.compile(r"your answer gives a ([\w ]{1,60}) where a number, a text, a list or a tensor is expected", re.ASCII)
KNOWN = {"name of a scene"} | {  # names that are not the learner's words, whoever says them; the first is lesson 04's
    kind.__name__
    for module in (builtins, types, collections, np, torch, torch.nn)
    for kind in vars(module).values()
    if isinstance(kind, type)
}


def failure_of(said: Any, check: Check, folder: str) -> Failure:
    """Why there is no evidence, from the words of a box, which may be forged: they stay the learner's, or are ours already."""
    said = said if type(said) is dict else {}
    if said.get("missing") is True:
        return Failure(ERROR, f"the cell does not define {check.answer}")
    if type(said.get("refused")) is str:
        plain = PLAIN.fullmatch(said["refused"])
        return Failure(FAILED, plain[0] if plain and plain[1] in KNOWN else REFUSED)
    if said.get("blank") is True:
        return Failure(TO_DO)
    name, text, line = said.get("name"), said.get("text"), said.get("line")
    raised = Raised(
        name[:200] if type(name) is str else "an exception",
        cleaned(text, folder)[:2000] if type(text) is str else "",
        line if type(line) is int and 0 < line < 10**5 else None,
    )
    return Failure(ERROR, "", raised)


PLACES = {sysconfig.get_path("purelib"): "(python)", sysconfig.get_path("stdlib"): "(python)", str(HOME): "(course)"}


def cleaned(text: str, folder: str) -> str:
    """`text` without places in memory and on this machine, which differ from run to run and are nobody's business."""
    for place, word in {folder + INSIDE: INSIDE, **PLACES}.items():
        text = text.replace(place, word)
    return quoted(text).untrusted


def output_of(place: Box) -> Output:
    return Output(cleaned(place.printed.decode(errors="replace"), place.folder), place.truncated)


@cache
def setup_of(lesson: str) -> list[str]:
    """The imports of a lesson's own set-up cell, one text for each; nothing else of it is run."""
    for path in sorted((HOME / "notebooks").glob(f"{lesson}_*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        sources = ["".join(cell["source"]) for cell in cells if "setup" in cell.get("metadata", {}).get("tags", [])]
        return [ast.unparse(node) for source in sources for node in imports_of(source)]
    return []


def imports_of(source: str) -> list[ast.stmt]:
    """The imports in the text of a cell, but for those of checks, which a box does not have."""
    lines = [line for line in source.splitlines() if not line.startswith(("%", "!"))]
    found = [node for node in ast.parse("\n".join(lines)).body if isinstance(node, ast.Import | ast.ImportFrom)]
    return [node for node in found if not (getattr(node, "module", None) or "").startswith("course_utils.checks.")]
