"""Set up the course: make `.venv` and install `requirements.txt` into it. A second call takes a moment.

    python3 install.py        Linux, macOS (or `make setup`)
    py install.py             Windows

Standard library only, and readable by any Python 3, so that an old one gets a sentence instead of a traceback.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HOME = Path(__file__).resolve().parent
VENV = HOME / ".venv"
STAMP = VENV / "course-setup.txt"
LOG = VENV / "course-setup.log"
OLDEST = (3, 11)
UNFINISHED = "unfinished"
# gigabytes: downloads and packages, and pip's cache of the downloads; on Linux the packages of torch bring CUDA with them
SPACE, CACHE = (9.0, 3.0) if sys.platform == "linux" else (3.0, 1.0)


class Stop(Exception):
    """Why the set-up cannot go on and what to do about it, in one sentence."""


def main() -> int:
    try:
        check_python()
        if not is_ready():
            set_up()
    except Stop as stop:
        print(f"set-up: {stop}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"set-up: {VENV} could not be made ({error}); free it or make it writable, then try again", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nset-up: stopped by hand; the same command begins again", file=sys.stderr)
        return 130
    return 0


def check_python() -> None:
    if sys.version_info[:2] < OLDEST:
        raise Stop(
            f"Python {sys.version_info[0]}.{sys.version_info[1]} ({sys.executable}) is too old, the course needs "
            "3.11 or newer; install one from https://www.python.org/downloads/ and name it: make PYTHON=python3.12"
        )


# ---------------------------------------------------------------------------------------------------- is it there?


def is_ready() -> bool:
    """Whether the environment is finished, starts, and holds what the two files ask for now."""
    return read_stamp() == fingerprint() and starts()


def fingerprint() -> str:
    """What an environment is made from: the two files, and its place, for an environment cannot be moved."""
    content = b"".join((HOME / name).read_bytes() for name in ("requirements.txt", "pyproject.toml"))
    return f"{hashlib.sha256(content).hexdigest()} {VENV}"


def read_stamp() -> str:
    return STAMP.read_text(encoding="utf-8") if STAMP.exists() else ""


def python() -> Path:
    return VENV / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def starts() -> bool:
    """Whether the environment's Python runs and has pip; it does not once the Python it was made from is gone."""
    code = "import sys, importlib.util as u; sys.exit(u.find_spec('pip') is None or sys.version_info < (3, 11))"
    try:
        return subprocess.run([str(python()), "-c", code], capture_output=True).returncode == 0
    except OSError:
        return False  # no file, or not one that can be run


def is_worth_keeping() -> bool:
    """A finished environment of this place whose files have changed since, or one made by hand: pip can complete it."""
    stamp = read_stamp()
    return stamp != UNFINISHED and (not stamp or stamp.endswith(f" {VENV}")) and starts()


# ---------------------------------------------------------------------------------------------------- make it


def set_up() -> None:
    started = time.time()
    if is_worth_keeping():
        print("bringing .venv up to date", flush=True)
    else:
        make_venv()
        print(f"installing packages into {VENV}: this takes some minutes, once", flush=True)
    STAMP.write_text(UNFINISHED, encoding="utf-8")
    install()
    STAMP.write_text(fingerprint(), encoding="utf-8")
    print(f"the set-up is ready ({time.time() - started:.0f} s)", flush=True)


def make_venv() -> None:
    if VENV.exists():
        shutil.rmtree(VENV)
    if free_space() < SPACE:
        raise Stop(f"{SPACE:.0f} GB are needed on the disk of {HOME}, {free_space():.1f} GB are free; make room and try again")
    VENV.mkdir()
    STAMP.write_text(UNFINISHED, encoding="utf-8")
    made = subprocess.run([sys.executable, "-m", "venv", str(VENV)], capture_output=True, text=True)
    if made.returncode:
        raise Stop(why_no_venv(made.stdout + made.stderr))


def free_space() -> float:
    return shutil.disk_usage(str(HOME)).free / 1e9


def why_no_venv(output: str) -> str:
    if "ensurepip" in output:
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        return (
            f"this Python {version} comes without venv; install it (Debian, Ubuntu: sudo apt install python{version}-venv) "
            "and try again"
        )
    return f"`{sys.executable} -m venv` failed: {last_line(output)}"


def install() -> None:
    """Run pip, show what it is at, keep all it says in the log."""
    command = [str(python()), "-m", "pip", "install", "--progress-bar=off", "--disable-pip-version-check"]
    if free_space() < SPACE + CACHE:
        command.append("--no-cache-dir")
    with tempfile.TemporaryDirectory(dir=str(VENV)) as scratch, LOG.open("w", encoding="utf-8") as log:
        pip = subprocess.Popen(
            [*command, "-r", "requirements.txt"],
            cwd=str(HOME),
            env=dict(os.environ, TMPDIR=scratch),  # on the disk with the space, /tmp may be small
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        for line in pip.stdout or ():
            log.write(line)
            show(line.strip())
    if pip.wait():
        raise Stop(why_no_packages(LOG.read_text(encoding="utf-8")))


def show(line: str) -> None:
    """On a terminal the latest step, always in the same row; elsewhere one row per download."""
    if sys.stdout.isatty() and line.startswith(("Collecting", "Downloading", "Installing", "Building")):
        width = shutil.get_terminal_size().columns - 1
        print(f"{line[:width]:<{width}}", end="\r", flush=True)
    elif not sys.stdout.isatty() and line.startswith(("Downloading", "Installing")):
        print(f"  {line[:120]}", flush=True)


NO_NETWORK = (
    "Failed to establish a new connection",
    "Temporary failure in name resolution",
    "NameResolutionError",
    "NewConnectionError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "Connection aborted",
    "ProxyError",
    "Network is unreachable",
)


def why_no_packages(output: str) -> str:
    """The cause of pip's failure as a sentence; the network comes first, for pip ends with "No matching" then too."""
    if "No space left on device" in output or "Disk quota exceeded" in output:
        return f"the disk is full; {SPACE:.0f} GB are needed while installing, make room and try again"
    if any(words in output for words in NO_NETWORK):
        return "the package index cannot be reached; go online (behind a proxy set HTTPS_PROXY) and try again"
    if "No matching distribution found" in output:
        missing = output.rsplit("No matching distribution found for ", 1)[-1].split()[0]
        return (
            f"there is no {missing} for Python {sys.version.split()[0]} on this kind of machine; the course runs with a 64-bit "
            "Python 3.11 to 3.14 on Linux, Windows and Apple silicon: install one and name it, make PYTHON=python3.12"
        )
    return f"pip failed: {last_line(output)} (all it said is in {LOG}); try again"


def last_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["it said nothing"])[-1]


if __name__ == "__main__":
    sys.exit(main())
