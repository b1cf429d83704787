"""Taking turns: every run of every contestant in a new process, A B C A B C …"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from course_utils.profiles import HOME, cpu_count
from course_utils.tools.bench.jobs import (
    CONTESTANTS,
    Job,
    choose_contestants,
    choose_jobs,
    is_mixed,
    not_installed,
    write_pictures,
)
from course_utils.tools.bench.report import Record, report, rows_of

PACKAGES = sorted({"torch", "torchvision", "numpy", "pillow"}.union(*CONTESTANTS.values()))


def bench(
    jobs: list[str] | None = None,
    contestants: list[str] | None = None,
    *,
    quick: bool = False,
    repeats: int | None = None,
    threads: int | None = None,
    path: Path | None = None,
) -> int:
    """Run the benchmark, print the tables, write everything to `path` as JSON; 1 if a row is void.

    Raises:
        ValueError: if a name, a number or `path` will not do; before anything has run.
    """
    work, (names, missing) = choose_jobs(jobs, quick), choose_contestants(contestants, quick)
    repeats, threads = at_least_one("repeats", repeats, 1 if quick else 2), at_least_one("threads", threads, cpu_count())
    if path and not path.parent.is_dir():
        raise ValueError(f"--json {path}: there is no folder {path.parent}; make it or name another")
    date = datetime.now(UTC).isoformat(timespec="seconds")
    print(f"{processor()}, {threads} thread(s) on {cpu_count()} core(s), {repeats} run(s) each", file=sys.stderr)
    left_out = [] if has_bfloat16() else list(filter(is_mixed, names))
    runs = take_turns(work, [name for name in names if name not in left_out], repeats, threads)
    rows = [row for job in work for row in rows_of(job, runs)]
    print(report(work, rows, quick))
    if missing:
        print(not_installed(missing))
    if left_out:
        print(f"left out: {', '.join(left_out)}; this processor emulates bfloat16, which takes longer than float32")
    if path:
        facts = {
            "date": date,
            "versions": versions(),
            "machine": machine(threads),
            "not_installed": missing,
            "left_out": left_out,
        }
        found = {"jobs": [json.loads(job.write()) for job in work], "runs": runs, "rows": [vars(row) for row in rows]}
        path.write_text(json.dumps(facts | found, indent=1) + "\n", encoding="utf-8")
    return 1 if any(row.void for row in rows) else 0


def at_least_one(name: str, given: int | None, default: int) -> int:
    if given is not None and given < 1:
        raise ValueError(f"--{name} {given}; give a whole number of 1 or more")
    return given or default


def take_turns(jobs: list[Job], names: list[str], repeats: int, threads: int) -> list[Record]:
    """All runs. The pictures and whatever a library writes lie in a folder that goes at the end, also after Ctrl-C."""
    turns = [(job, name) for job in jobs for _ in range(repeats * job.repeats) for name in names if job.is_for(name)]
    runs: list[Record] = []
    with tempfile.TemporaryDirectory(prefix="course-bench-", ignore_cleanup_errors=True) as folder:
        for number, (job, name) in enumerate(turns, 1):
            pictures = Path(folder) / str(job.per_class)
            if not pictures.exists():
                write_pictures(pictures, job.per_class)
            runs.append(run_once(job, name, pictures, threads))
            print(f"[{number}/{len(turns)}] {line(runs[-1])}", file=sys.stderr, flush=True)
    return runs


def run_once(job: Job, name: str, pictures: Path, threads: int) -> Record:
    """The record of one run in a process of its own, or what stopped it."""
    command = [sys.executable, "-m", "course_utils.tools.bench.worker", job.write(), name, str(pictures), str(threads)]
    done = subprocess.run(
        command, cwd=pictures.parent, env=environment(threads, pictures.parent), capture_output=True, text=True
    )
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return {"job": job.name, "contestant": name, "error": said[-1]}


def environment(threads: int, folder: Path) -> dict[str, str]:
    """The same for all: so many threads, no accelerator, no network, no bars, and settings of nobody's own."""
    counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    paths = os.pathsep.join([str(HOME), *filter(None, [os.environ.get("PYTHONPATH")])])
    off = {"CUDA_VISIBLE_DEVICES": "", "TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
    keras = {"KERAS_BACKEND": "torch", "KERAS_TORCH_DEVICE": "cpu"}
    own = {"KERAS_HOME": str(folder / "keras"), "FASTAI_HOME": str(folder / "fastai"), "HF_HOME": str(folder / "hf")}
    return {**os.environ, **counts, **off, **keras, **own, "PYTHONPATH": paths}


def line(run: Record) -> str:
    if "error" in run:
        return f"{run['job']} · {run['contestant']}: {run['error']}"
    accuracy = "" if run["accuracy"] is None else f", accuracy {run['accuracy']:.2f}"
    return f"{run['job']} · {run['contestant']}: CPU {run['cpu']:.1f} s, wall {run['wall']:.1f} s{accuracy}"


# ------------------------------------------------------------------------------------------------------- the machine


def has_bfloat16() -> bool:
    """Whether the processor computes in bfloat16 itself; torch knows, and would make this process big."""
    code = "from course_utils.devices import has_bfloat16, torch; raise SystemExit(not has_bfloat16(torch.device('cpu')))"
    return subprocess.run([sys.executable, "-c", code], cwd=HOME, capture_output=True).returncode == 0


def machine(threads: int) -> dict[str, Any]:
    return {"processor": processor(), "cores": cpu_count(), "threads": threads, "system": platform.system()}


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(one.partition(":")[2].strip() for one in lines if one.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
