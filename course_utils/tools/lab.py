"""`course lab`: JupyterLab on the learner's own copies of the lessons."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from course_utils.profiles import WORK
from course_utils.tools import lessons
from course_utils.tools.copies import copies, make_copies, older, worked_on

SETTINGS = Path(__file__).parent / "jupyter"  # labconfig/page_config.json: no question about news


def lab(options: argparse.Namespace) -> int:
    made = make_copies()
    if made:
        print(f"copied into {lessons.MY}, which is yours: {', '.join(made)}", flush=True)
    if stale := older():
        print(f"of an older edition in my/: {', '.join(stale)}; `course update` renews them and keeps your answers", flush=True)
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={WORK}"]
    command += [f"--LabApp.default_url=/lab/tree/my/{first_to_open()}", *options.rest]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # in a container there is nobody else
    os.environ["JUPYTER_CONFIG_PATH"] = config_path(os.environ.get("JUPYTER_CONFIG_PATH"))
    if sys.platform == "win32":
        return wait_for(subprocess.Popen(command))
    os.execv(sys.executable, command)  # so that Ctrl-C reaches JupyterLab alone


def first_to_open() -> str:
    """The lesson that was worked on last, or the first one."""
    return (worked_on() or copies()[:1])[-1].name


def config_path(given: str | None) -> str:
    """Where JupyterLab looks for settings: our folder, and what the user has set."""
    return os.pathsep.join([str(SETTINGS), *([given] if given else [])])


def wait_for(process: subprocess.Popen) -> int:
    """The exit code of `process`, however often Ctrl-C is pressed.

    On Windows the console sends Ctrl-C to both. `subprocess.call` would kill JupyterLab after a quarter of a second, which
    then could not end its kernels.
    """
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue
