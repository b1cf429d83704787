"""From runs to rows: medians, what is void and why, ratios, marks; and the tables for a person."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from course_utils.tools.bench.jobs import CONTESTANTS, Job, is_limit, is_mixed, is_ours

Record = dict[str, Any]  # one run: job, contestant, cpu, wall, startup, memory_mb, accuracy; or job, contestant, error


@dataclass
class Row:
    """Medians of one contestant in one job; CPU seconds as multiples of the limit's and of our best; why it is void."""

    job: str
    contestant: str
    cpu: float = 0.0
    wall: float = 0.0
    startup: float = 0.0
    memory_mb: float = 0.0
    accuracy: float | None = None
    to_limit: float | None = None
    to_reuse: float | None = None
    void: str = ""


def rows_of(job: Job, runs: Sequence[Record]) -> list[Row]:
    """One row for each contestant that ran, in the order in which they first did."""
    names = dict.fromkeys(run["contestant"] for run in runs if run["job"] == job.name)
    rows = [row_of(job, name, [run for run in runs if (run["job"], run["contestant"]) == (job.name, name)]) for name in names]
    void_if_elsewhere(rows, job.band)
    cpu = {row.contestant: row.cpu for row in rows if not row.void}
    limit = cpu.get(fastest(cpu, is_limit))
    for row in rows:
        if not row.void:
            row.to_limit = row.cpu / limit if limit else None
            row.to_reuse = row.cpu / cpu["reuse"] if "reuse" in cpu else None
    return rows


def fastest(cpu: dict[str, float], which: Callable[[str], bool]) -> str:
    """The name with the fewest CPU seconds of those that `which` is true of; "" if there is none."""
    return min(filter(which, cpu), key=cpu.__getitem__, default="")


def row_of(job: Job, name: str, runs: Sequence[Record]) -> Row:
    errors = [run["error"] for run in runs if "error" in run]
    if errors:
        return Row(job.name, name, void=f"failed: {errors[0]}")
    middle = {key: median(run[key] for run in runs) for key in ("cpu", "wall", "startup", "memory_mb")}
    accuracies = [run["accuracy"] for run in runs if run["accuracy"] is not None]
    return Row(job.name, name, **middle, accuracy=median(accuracies) if accuracies else None)


def void_if_elsewhere(rows: Sequence[Row], band: float) -> None:
    """Void every row whose accuracy is not near the plain loop's, or where that did not run, near the median of all."""
    found = {row.contestant: row.accuracy for row in rows if row.accuracy is not None}
    if not found:
        return
    centre = found.get("plain", median(found.values()))
    for row in rows:
        if row.accuracy is not None and not abs(row.accuracy - centre) <= band:  # a nan is void, too
            row.void = f"accuracy {row.accuracy:.2f} is not within {band} of {centre:.2f}, so it did another job"


# ------------------------------------------------------------------------------------------------------------- marks


def marks_of(job: Job, rows: Sequence[Row]) -> list[str]:
    """Each mark of the job with what was found, where the rows that it compares are there."""
    cpu = {row.contestant: row.cpu for row in rows if row.job == job.name and not row.void}
    limit = fastest(cpu, is_limit)
    best = fastest(cpu, lambda name: not (is_limit(name) or is_ours(name) or is_mixed(name)))
    best_mixed = fastest(cpu, lambda name: is_mixed(name) and not is_ours(name))
    return [
        *mark(job, "reuse", limit, cpu, job.to_limit, "at most"),
        *mark(job, best, "reuse", cpu, job.to_other, "at least"),
        *mark(job, best, "reuse+bf16", cpu, job.mixed_to_other, "at least"),
        *mark(job, "reuse+bf16", best_mixed, cpu, job.mixed_to_mixed, "at most"),
        *mark(job, "fit", "plain", cpu, job.to_plain, "at most"),
    ]


def mark(job: Job, one: str, other: str, cpu: dict[str, float], wanted: float | None, word: str) -> list[str]:
    if wanted is None or one not in cpu or other not in cpu:
        return []
    found = cpu[one] / cpu[other]
    held = found <= wanted if word == "at most" else found >= wanted
    return [
        f"{job.name}: {one} takes {found:.2f} × the CPU seconds of {other}; {word} {wanted:g}: {'held' if held else 'MISSED'}"
    ]


# ------------------------------------------------------------------------------------------------------------ tables

COLUMNS: dict[str, Callable[[Row], str]] = {
    "CPU s": lambda row: f"{row.cpu:.1f}",
    "wall s": lambda row: f"{row.wall:.1f}",
    "peak MB": lambda row: f"{row.memory_mb:.0f}",
    "accuracy": lambda row: "–" if row.accuracy is None else f"{row.accuracy:.3f}",
    "× limit": lambda row: times(row.to_limit),
    "× reuse": lambda row: times(row.to_reuse),
    "start-up": lambda row: f"{row.startup:.1f}",
}
LEGEND = """\
Medians of runs in new processes that took turns. CPU s: user and system seconds of all threads for the work alone, from
the network and the loaders, ready to use, to the last validation; wall s: what a clock shows for it. × limit, × reuse:
CPU s as a multiple. start-up: CPU seconds of the interpreter and the imports before it, not in the others.
limit: every picture read once and sent once through what is frozen, by eager torch or after the + another engine; what an
engine takes to prepare is not counted; the fastest is the limit. plain: the tutorial loop. fit: ours, on the pictures.
reuse: ours, the frozen part run once (everything: pictures read once, channels last). torchvision: its reference recipe,
written out. +bf16: mixed precision, each library in its own way."""
SCALED = "Each training is validated at its end. reuse does all {}; the others do {}, and their seconds are scaled by {:g}."


def times(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}" if value < 10 else f"{value:.0f}"


def report(jobs: Sequence[Job], rows: Sequence[Row], quick: bool = False) -> str:
    """All tables, the marks (of the full sizes only) and the legend."""
    tables = [table(job, [row for row in rows if row.job == job.name]) for job in jobs]
    marks = [] if quick else [line for job in jobs for line in marks_of(job, rows)]
    return "\n\n".join([*tables, *(["\n".join(marks)] if marks else []), LEGEND])


def table(job: Job, rows: Sequence[Row]) -> str:
    width = max(map(len, CONTESTANTS))
    lines = [str(job), " " * width + "".join(f"{name:>10}" for name in COLUMNS)]
    for row in rows:
        cells = f"  void: {row.void}" if row.void else "".join(f"{cell(row):>10}" for cell in COLUMNS.values())
        lines.append(f"{row.contestant:<{width}}{cells}")
    if job.is_sweep:
        count, sample = len(job.trainings), len(job.sample)
        lines.append(SCALED.format(count, sample, count / sample))
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------------- docs/benchmark.md

TITLES = {"limit": "the limit", "plain": "plain loop", "fit": "`fit` on pictures", "reuse": "**cached features**"}
IN_FLOAT32 = "the same in float32"


def summary(found: dict[str, Any]) -> str:
    """Tables in Markdown of what `course bench --json` has written: CPU seconds as multiples of ours with cached features.

    One in float32, with the fastest engine as the limit; and one in mixed precision, as multiples of ours in that, with what
    ours take in float32 as the last column.
    """
    names = list(dict.fromkeys(row["contestant"] for row in found["rows"]))
    exact = ["limit", *(name for name in names if not is_limit(name) and not is_mixed(name))]
    mixed = list(filter(is_mixed, names))
    return "\n\n".join(markdown(found, some) for some in (exact, mixed and [*mixed, "reuse"]) if some)


def markdown(found: dict[str, Any], names: list[str]) -> str:
    """The table of these contestants, who are measured by ours in the precision of the first."""
    mixed = is_mixed(names[0])
    titles = [IN_FLOAT32 if mixed and not is_mixed(name) else title(name) for name in names]
    lines = [f"| | {' | '.join(titles)} |", "|---" * (len(names) + 1) + "|"]
    for job in found["jobs"]:
        cpu = {row["contestant"]: row["cpu"] for row in found["rows"] if row["job"] == job["name"] and not row["void"]}
        cpu["limit"] = cpu.get(fastest(cpu, is_limit))
        ours = cpu.get("reuse+bf16" if mixed else "reuse")
        ratios = [cpu[name] / ours if ours and cpu.get(name) else None for name in names]
        if any(ratios):
            lines.append(f"| {job['title']} | {' | '.join(map(times, ratios))} |")
    return "\n".join(lines)


def title(name: str) -> str:
    file = name.partition("+")[0]
    return TITLES.get(file, file)
