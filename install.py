"""Set up the course: make `.venv` and install `requirements.txt` into it. A second call takes a moment.

    python3 install.py               Linux, macOS (or `make setup`)
    py install.py                    Windows
    python3 install.py --cpu         Linux without a GPU: PyTorch without CUDA, some 3 GB less
    python3 install.py --from DIR    offline, from a stick that `course kit` has made
    python3 install.py --dev         also what those need who test and write lessons

Standard library only, and readable by any Python 3.6, so that an old one gets a sentence instead of a traceback. What it says
is ASCII, for consoles that have little else.
"""

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

HOME = Path(__file__).resolve().parent
VENV = HOME / ".venv"
STAMP = VENV / "course-setup.txt"
LOG = VENV / "course-setup.log"
CPU_PINS = VENV / "requirements-cpu.txt"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
OLDEST, NEWEST = (3, 11), (3, 14)  # for a newer one numpy and scipy have no wheels at these pins
OLDEST_MACOS = 14  # for older ones, and for Intel, torch has no wheels
UNFINISHED = "unfinished"
CUDA_SPACE, SPACE = (9.0, 3.0), (3.0, 1.0)  # gigabytes: downloads and packages; and pip's cache of the downloads
INSTALL_PYTHON = "install one from https://www.python.org/downloads/"


class Stop(Exception):
    """Why the set-up cannot go on and what to do about it, in one sentence."""


def main(arguments=None) -> int:
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # names of folders may have letters that a console lacks
    options = parser().parse_args(arguments)
    try:
        check_python()
        check_machine()
        kit = check_kit(options.kit) if options.kit else None
        choice = chosen(options, kit)
        if not is_ready(choice):
            set_up(choice, kit)
    except Stop as stop:
        print(f"set-up: {stop}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"set-up: {VENV} could not be made ({error}); {FREE_IT}, then try again", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nset-up: stopped by hand; the same command begins again", file=sys.stderr)
        return 130
    return 0


# Windows deletes no program that runs
FREE_IT = "close JupyterLab and whatever else runs from it" if sys.platform == "win32" else "free it or make it writable"


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="install.py", description="Set up the course in .venv, or bring it up to date.")
    made.add_argument("--dev", action="store_true", help="also what those need who test and write lessons")
    made.add_argument("--cpu", action="store_true", help="on Linux PyTorch without CUDA, for machines without an NVIDIA card")
    made.add_argument("--from", dest="kit", metavar="DIR", help="install offline from this stick, made by `course kit`")
    return made


# ---------------------------------------------------------------------------------------------------- can it be?


def check_python() -> None:
    this = f"Python {sys.version_info[0]}.{sys.version_info[1]} ({sys.executable})"
    name = "and name it: " + ("py -3.13 install.py" if sys.platform == "win32" else "make PYTHON=python3.13")
    if sys.version_info[:2] < OLDEST:
        raise Stop(f"{this} is too old, the course needs 3.11 to 3.14; {INSTALL_PYTHON} {name}")
    if sys.version_info[:2] > NEWEST:
        raise Stop(
            f"{this} is too new: some packages of the course are not made for it yet; it needs 3.11 to 3.14; "
            f"{INSTALL_PYTHON} {name}"
        )
    if sys.maxsize < 2**32:
        raise Stop(f"{this} is a 32-bit one, and PyTorch needs 64 bits; {INSTALL_PYTHON}, the 64-bit one")


def check_machine() -> None:
    """What torch needs of the system; pip would say only that it finds nothing."""
    if sys.platform == "darwin":
        if platform.machine() != "arm64" and is_translated():
            raise Stop(
                f"this Python ({sys.executable}) is made for Intel and your Mac translates it; PyTorch needs one for Apple "
                f"silicon (arm64): {INSTALL_PYTHON}, or with Homebrew in /opt/homebrew"
            )
        if platform.machine() != "arm64":
            raise Stop(
                "PyTorch needs a Mac with Apple silicon (M1 or later), this one has an Intel processor; use another machine"
            )
        if int(platform.mac_ver()[0].split(".")[0] or 0) < OLDEST_MACOS:
            raise Stop(
                f"PyTorch needs macOS {OLDEST_MACOS} or newer, this is {platform.mac_ver()[0]}; update macOS and try again"
            )
    if sys.platform == "win32" and sysconfig.get_platform() == "win-arm64":
        raise Stop(
            f"PyTorch has no packages for this Python for ARM ({sys.executable}); {INSTALL_PYTHON}, the one for "
            "Windows 64-bit (x64), which Windows translates"
        )


def is_translated() -> bool:
    """Whether Rosetta runs this Python, which then takes the machine for an Intel one."""
    try:
        said = subprocess.run(["sysctl", "-n", "sysctl.proc_translated"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError:
        return False
    return said.stdout.strip() == b"1"


def check_kit(given: str) -> dict:
    """The kit in the folder `given`: where its wheels are, and whether they are PyTorch's without CUDA."""
    folder = Path(given).expanduser().resolve()
    folder = folder.parent if folder.name in ("wheels", "course") and not (folder / "kit.json").exists() else folder
    try:
        kit = json.loads((folder / "kit.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        words = f"{folder} is no stick of the course: it has no kit.json; name the folder in which START.html is"
        raise Stop(words) from None
    if not kit["whole"]:
        raise Stop(f"the stick in {folder} is not finished; the command `course kit` that began it goes on")
    here = "{} {}.{}".format(this_system(), *sys.version_info[:2])
    if here not in kit["for"]:
        raise Stop(
            "the stick in {} is for {}, this is {}; use one of these, or ask for `course kit --platform {} --python {}`".format(
                folder, ", ".join(kit["for"]), here, *here.split()
            )
        )
    return {"wheels": folder / "wheels", "cpu": kit["cpu"]}


def this_system() -> str:
    """The name that `course kit` has for this system."""
    arm = "-arm64" if platform.machine().lower() in ("aarch64", "arm64") else ""
    return {"win32": "windows", "darwin": "macos"}.get(sys.platform, "linux" + arm)


def chosen(options: argparse.Namespace, kit: "dict | None") -> list:
    """What the environment is to have: what is asked for now, and what it had; so `make lab` leaves alone what tests need."""
    cpu = options.cpu or bool(kit and kit["cpu"])
    if options.cpu and sys.platform != "linux":
        print("set-up: --cpu is for Linux; the ordinary PyTorch of this system is already without CUDA", flush=True)
    asked = {"dev": options.dev, "cpu": cpu and sys.platform == "linux"}
    had = read_stamp().split(" ")[1:2]
    return [name for name, wanted in asked.items() if wanted or name in "".join(had).split("+")]


# ---------------------------------------------------------------------------------------------------- is it there?


def is_ready(choice: list) -> bool:
    """Whether the environment is finished, starts, and holds what the files ask for now."""
    return read_stamp() == fingerprint(choice) and starts()


def fingerprint(choice: list) -> str:
    """What an environment is made from: the files, the choice, and its place, for an environment cannot be moved."""
    names = ["requirements.txt", "pyproject.toml"] + ["requirements-dev.txt"] * ("dev" in choice)
    content = b"".join((HOME / name).read_bytes() for name in names)
    return "{} {} {}".format(hashlib.sha256(content).hexdigest(), "+".join(choice) or "learner", VENV)


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


def set_up(choice: list, kit: "dict | None") -> None:
    started = time.time()
    if is_worth_keeping():
        print("bringing .venv up to date", flush=True)
    else:
        make_venv(choice)
        print(f"installing packages into {VENV}: this takes some minutes, once", flush=True)
    STAMP.write_text(UNFINISHED, encoding="utf-8")
    install(choice, kit)
    STAMP.write_text(fingerprint(choice), encoding="utf-8")
    print(f"the set-up is ready ({time.time() - started:.0f} s)", flush=True)


def make_venv(choice: list) -> None:
    if Path(sys.prefix).resolve() == VENV:
        raise Stop("this Python is the one of .venv, which has to be made anew; run `deactivate` or open another terminal")
    if VENV.exists():
        shutil.rmtree(str(VENV))
    needed, _ = space(choice)
    if free_space() < needed:
        raise Stop(
            "{:.0f} GB are needed on the disk of {}, {:.1f} GB are free; make room{} and try again".format(
                needed, HOME, free_space(), " or choose --cpu" if needed > SPACE[0] else ""
            )
        )
    VENV.mkdir()
    STAMP.write_text(UNFINISHED, encoding="utf-8")
    made = subprocess.run([sys.executable, "-m", "venv", str(VENV)], capture_output=True, text=True)
    if made.returncode:
        raise Stop(why_no_venv(made.stdout + made.stderr))


def space(choice: list) -> tuple:
    """On Linux the packages of torch bring CUDA with them."""
    return CUDA_SPACE if sys.platform == "linux" and "cpu" not in choice else SPACE


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


def install(choice: list, kit: "dict | None") -> None:
    """Run pip, show what it is at, keep all it says in the log."""
    LOG.write_text("", encoding="utf-8")
    offline = ["--no-index", "--find-links={}".format(kit["wheels"])] if kit else []
    if not kit or list(kit["wheels"].glob("pip-*.whl")):
        run_pip(["install", "--upgrade", "pip", *offline])  # if that fails, the old one tries the rest and says why
    _, cache = space(choice)
    command = ["install", "-r", "requirements-dev.txt" if "dev" in choice else "requirements.txt", *offline]
    command += ["--no-cache-dir"] if free_space() < space(choice)[0] + cache else []
    if "cpu" in choice:
        CPU_PINS.write_text(cpu_pins(), encoding="utf-8")
        command += ["--constraint", str(CPU_PINS)] + ([] if kit else ["--extra-index-url", CPU_INDEX])
    if run_pip(command):
        raise Stop(why_no_packages(LOG.read_text(encoding="utf-8"), space(choice)[0]))


def cpu_pins() -> str:
    """The same versions with the suffix that PyTorch's own index gives those without CUDA."""
    lines = (HOME / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return "".join(f"{line.strip()}+cpu\n" for line in lines if line.startswith(("torch==", "torchvision==")))


def run_pip(arguments: list) -> int:
    """One call of the environment's pip; its status."""
    bar = "raw" if pip_version() >= (24, 1) else "off"
    command = [str(python()), "-m", "pip", *arguments, "--progress-bar=" + bar, "--disable-pip-version-check"]
    with tempfile.TemporaryDirectory(dir=str(VENV)) as scratch, LOG.open("a", encoding="utf-8") as log:
        # what the user has set goes first; TMPDIR is on the disk with the space, /tmp may be small
        known = {"PIP_RETRIES": "8", "PIP_DEFAULT_TIMEOUT": "60", "PIP_RESUME_RETRIES": "8", "PYTHONUTF8": "1"}
        environment = dict(known, **dict(os.environ, TMPDIR=scratch, TEMP=scratch, TMP=scratch))
        pip = subprocess.Popen(
            command,
            cwd=str(HOME),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
        try:
            show = Row()
            for line in pip.stdout or ():
                if not line.startswith("Progress "):
                    log.write(line)
                show(line.strip())
            show.clear()
            return pip.wait()
        except BaseException:  # Ctrl-C: nothing may still write into the folder when it is deleted
            pip.kill()
            pip.wait()
            raise


def pip_version() -> tuple:
    """The version of the environment's pip, (0,) if it does not say."""
    code = "import pip; print(pip.__version__)"
    done = subprocess.run([str(python()), "-c", code], capture_output=True, text=True)
    return tuple(int(part) for part in re.findall(r"\d+", done.stdout)[:2]) or (0,)


class Row:
    """On a terminal the latest step, always in the same row; elsewhere one row per download."""

    def __init__(self) -> None:
        self.name = ""
        self.here = sys.stdout.isatty()

    def __call__(self, line: str) -> None:
        if line.startswith("Progress "):
            done, total = (int(number) / 1e6 for number in re.findall(r"\d+", line + " 0 0")[:2])
            if self.here and total >= 1:
                self.write(f"{self.name} {done:.0f} of {total:.0f} MB")
        elif line.startswith(("Downloading ", "Processing ")):
            self.name = name_of(line)
            if self.here:
                self.write(self.name)
            elif self.name and line.startswith("Downloading ") and ".metadata" not in line:
                size = re.search(r"\(([\d.]+ [kMG]?B)\)", line)
                print("  {}{}".format(self.name, "  " + size.group(1) if size else ""), flush=True)
        elif line.startswith("Installing collected packages") and "," in line:
            text = "installing {} packages".format(line.count(",") + 1)
            self.write(text) if self.here else print("  " + text, flush=True)
        elif self.here and line.startswith(("Collecting", "Building", "Installing")):
            self.write(line)

    def write(self, text: str) -> None:
        width = shutil.get_terminal_size().columns - 1
        print("{:<{}}".format(text[:width], width), end="\r", flush=True)

    def clear(self) -> None:
        if self.here:
            self.write("")


def name_of(line: str) -> str:
    """`torch 2.15.0` from the file that pip names in `line`."""
    parts = re.split(r"[/\\]", line.split(" (")[0].split()[-1])[-1].split("-")
    return " ".join(parts[:2]) if len(parts) > 2 else ""


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


def why_no_packages(output: str, needed: float) -> str:
    """The cause of pip's failure as a sentence; the network comes first, for pip ends with "No matching" then too."""
    if "No space left on device" in output or "Disk quota exceeded" in output:
        return f"the disk is full; {needed:.0f} GB are needed while installing, make room and try again"
    if "Windows Long Path support" in output:
        return f"{HOME} is too long for the paths of Windows; move the course to a short one such as C:\\course"
    if any(words in output for words in NO_NETWORK):
        return (
            "the package index cannot be reached; go online (behind a proxy set HTTPS_PROXY) and try again, or install from a "
            "stick with --from"
        )
    if "No matching distribution found" in output:
        missing = output.rsplit("No matching distribution found for ", 1)[-1].split()[0]
        return (
            f"there is no {missing} for Python {sys.version.split()[0]} on this kind of machine; the course runs with a "
            "64-bit Python 3.11 to 3.14 on Linux, Windows and Apple silicon: install one and name it, make PYTHON=python3.12"
        )
    return f"pip failed: {last_line(output)} (all it said is in {LOG}); try again"


def last_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["it said nothing"])[-1]


if __name__ == "__main__":
    sys.exit(main())
