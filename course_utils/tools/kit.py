"""`course kit`: everything on a stick, for a room whose line is too thin for forty downloads.

The stick holds `course/` (the files of the repository), `wheels/` (all packages for the systems and Pythons named),
`kit.json` (what it is for, and whether it is whole) and START.html (the way for those who get it). `install.py --from`
installs from it offline.

pip evaluates the conditions of packages for the machine on which it runs, so it cannot say what another system needs. uv can:
its lock file names each wheel by address, size and SHA-256. What is there already is kept, so an interrupted kit goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from course_utils.files import write_atomic
from course_utils.profiles import HOME
from course_utils.tools.paths import can_be_made

SYSTEMS = {  # by the names of install.py, those of uv; torch needs no older ones
    "linux": "x86_64-manylinux_2_28",
    "linux-arm64": "aarch64-manylinux_2_28",
    "windows": "x86_64-pc-windows-msvc",
    "macos": "aarch64-apple-darwin",
}
OLDEST_MACOS = "14.0"  # uv assumes 13, for which there is no torch
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
SHOWN = 20e6  # bytes from which on a download has a row of its own
TRIES = 4


@dataclass(frozen=True)
class Wheel:
    """One file of a package, as the index names it; `size` is 0 where the index does not say."""

    url: str
    sha256: str
    size: int

    @property
    def name(self) -> str:
        return unquote(urlsplit(self.url).path.rsplit("/", 1)[-1])


def kit(options: argparse.Namespace) -> int:
    """Put everything on a stick, for other systems too: packages, lessons, data and a page that tells people how to start."""
    folder = Path(options.folder).expanduser().resolve()
    if not folder.parent.is_dir():  # else gigabytes would go where a stick has been
        raise ValueError(f"{options.folder}: there is no folder {folder.parent}; is the stick in place, and its name right?")
    can_be_made(str(folder), "the kit in", folder=True)
    files = repository_files()
    asked = [
        f"{system} {python}" for system in options.platform or [this_system()] for python in options.python or [this_python()]
    ]
    begun = read_manifest(folder)
    if begun and begun["cpu"] != options.cpu:
        raise ValueError(
            f"{folder} was begun {'with' if begun['cpu'] else 'without'} --cpu; choose another folder for this kit"
        )
    targets = sorted({*asked, *(begun["for"] if begun else ())})
    wheels = {target: resolve(*target.split(), cpu=options.cpu) for target in targets}
    for target, found in wheels.items():
        print(f"{target}: {len(found)} packages, {gigabytes(found)}", flush=True)
    (folder / "wheels").mkdir(parents=True, exist_ok=True)
    everything = {wheel.name: wheel for found in wheels.values() for wheel in found}
    missing = [wheel for wheel in everything.values() if not is_there(folder / "wheels" / wheel.name, wheel)]
    check_space(folder, missing, files)
    write_manifest(folder, targets, options.cpu, whole=False)
    fetch_all(missing, folder / "wheels")
    copy_course(files, folder / "course")
    check(folder, targets, list(everything.values()))
    write_atomic(folder / "START.html", start_page(targets))
    write_manifest(folder, targets, options.cpu, whole=True)
    print(summary(folder, wheels))
    return 0


def this_system() -> str:
    arm = "-arm64" if platform.machine().lower() in ("aarch64", "arm64") else ""
    return {"win32": "windows", "darwin": "macos"}.get(sys.platform, f"linux{arm}")


def this_python() -> str:
    return "{}.{}".format(*sys.version_info)


def gigabytes(wheels: list[Wheel]) -> str:
    return f"{sum(wheel.size for wheel in wheels) / 1e9:.2f} GB"


# ------------------------------------------------------------------------------------------------- what it is for


def read_manifest(folder: Path) -> dict[str, Any] | None:
    try:
        return json.loads((folder / "kit.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{folder / 'kit.json'} cannot be read ({error}); delete it and make the kit again") from error


def write_manifest(folder: Path, targets: list[str], cpu: bool, whole: bool) -> None:
    """install.py reads this: it takes no kit that is not whole, and says at once if it is for other systems."""
    write_atomic(folder / "kit.json", json.dumps({"for": targets, "cpu": cpu, "whole": whole}, indent=1) + "\n")


# ------------------------------------------------------------------------------------------------- which packages


def wanted(home: Path = HOME) -> list[str]:
    """What has to be on the stick: the pins, what the course itself asks for, what builds it, and a pip of today."""
    lines = (home / "requirements.txt").read_text(encoding="utf-8").splitlines()
    project = tomllib.loads((home / "pyproject.toml").read_text(encoding="utf-8"))
    asked = [line for line in lines if line and not line.startswith(("#", "-"))]
    return [*asked, *project["project"].get("dependencies", []), *builders(project["build-system"], home), "pip"]


HOOK = """
import contextlib, importlib, sys
with contextlib.redirect_stdout(sys.stderr):
    asked = importlib.import_module(sys.argv[1]).get_requires_for_build_editable()
print(*asked, sep="\\n")
"""


def builders(system: dict[str, Any], home: Path) -> list[str]:
    """What pip needs to install the course itself: the build back end, and what that asks for where it is installed."""
    command = [sys.executable, "-c", HOOK, system["build-backend"]]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True)
    more = done.stdout.splitlines() if done.returncode == 0 else []  # the check at the end notices what is missing
    return [*system["requires"], *(line for line in more if line)]


def cpu_pins(lines: list[str]) -> list[str]:
    """The pins of PyTorch's builds without CUDA, as `install.py --cpu` has them."""
    return [f"{line}+cpu" for line in lines if line.startswith(("torch==", "torchvision=="))]


def resolve(system: str, python: str, *, cpu: bool, home: Path = HOME) -> list[Wheel]:
    """The wheels that `system` with `python` needs, found by uv.

    Raises:
        ValueError: if uv is not here, or finds no wheels; the message has its words.
    """
    try:
        from uv import find_uv_bin
    except ImportError:
        raise ValueError("the kit needs uv to find the packages of other systems; run `python install.py --dev`") from None
    lines = wanted(home)
    with tempfile.TemporaryDirectory() as scratch:
        asked, lock = Path(scratch) / "wanted.in", Path(scratch) / "pylock.toml"
        pins = cpu_pins(lines) if cpu and system == "linux" else []
        asked.write_text("\n".join([*lines, *pins]) + "\n", encoding="utf-8")
        command = [find_uv_bin(), "pip", "compile", "--quiet", "--no-header", "--format=pylock.toml", f"--output-file={lock}"]
        command += [f"--python-platform={SYSTEMS[system]}", f"--python-version={python}", "--only-binary=:all:"]
        if pins:
            command += [f"--index={CPU_INDEX}", "--index-strategy=unsafe-best-match"]
        environment = os.environ | {"MACOSX_DEPLOYMENT_TARGET": OLDEST_MACOS}
        done = subprocess.run([*command, str(asked)], env=environment, capture_output=True, text=True, encoding="utf-8")
        if done.returncode:
            words = " ".join(done.stderr.split()) or "it said nothing"
            raise ValueError(
                f"no packages for {system} with Python {python}: {words[:600]}; go online, or choose another system"
            )
        return [best_wheel(package) for package in tomllib.loads(lock.read_text(encoding="utf-8"))["packages"]]


def best_wheel(package: dict[str, Any]) -> Wheel:
    """One wheel of a package; uv lists those that fit, and a compiled one is faster than one in plain Python."""
    one = next((one for one in package["wheels"] if not one["url"].endswith("-none-any.whl")), package["wheels"][0])
    return Wheel(one["url"], one["hashes"]["sha256"], one.get("size", 0))


# --------------------------------------------------------------------------------------------------------- download


def is_there(path: Path, wheel: Wheel) -> bool:
    """Whether the file is here and is the one that the index names."""
    if not path.exists():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == wheel.sha256


def check_space(folder: Path, missing: list[Wheel], files: list[Path]) -> None:
    needed = sum(wheel.size for wheel in missing) + sum(path.stat().st_size for path in files)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ValueError(f"{needed / 1e9:.2f} GB are needed in {folder}, {free / 1e9:.2f} GB are free; make room and try again")


def fetch_all(missing: list[Wheel], folder: Path) -> None:
    """Download what is missing, with a bar on a terminal and elsewhere a row for each large file."""
    from tqdm import tqdm

    if missing:
        print(f"to download: {len(missing)} files, {gigabytes(missing)}", flush=True)
    total = sum(wheel.size for wheel in missing) or None
    with tqdm(total=total, unit="B", unit_scale=True, disable=None, leave=False) as bar:
        for wheel in missing:
            bar.set_description(wheel.name.split("-")[0])
            if bar.disable and wheel.size > SHOWN:
                print(f"  {wheel.name} ({wheel.size / 1e6:.0f} MB)", flush=True)
            fetch(wheel, folder / wheel.name, bar.update)


def fetch(wheel: Wheel, path: Path, tell: Any) -> None:
    """Download one file; it has its name only once it is whole. A line that breaks is tried again.

    Raises:
        OSError: if the file cannot be had, or is not what the index says it is.
    """
    import httpx

    draft = path.with_name(f"{path.name}.part")
    for tries_left in reversed(range(TRIES)):
        try:
            download(wheel.url, draft, tell)
            break
        except httpx.HTTPError as error:
            if not tries_left:
                words = f"{type(error).__name__}: {error}".rstrip(": ")
                raise OSError(f"{wheel.url} cannot be downloaded ({words}); what is here is kept, try again") from error
            time.sleep(TRIES - tries_left)
    if not is_there(draft, wheel):
        draft.unlink()
        raise OSError(
            f"{wheel.url} is not the file that the index names (its SHA-256 differs); try again, or ask whose line it is"
        )
    os.replace(draft, path)


def download(url: str, path: Path, tell: Any) -> None:
    if urlsplit(url).scheme == "file":
        shutil.copyfile(url2pathname(urlsplit(url).path), path)
        return
    import httpx

    with path.open("wb") as file, httpx.stream("GET", url, follow_redirects=True, timeout=60) as answer:
        answer.raise_for_status()
        for chunk in answer.iter_raw():
            file.write(chunk)
            tell(len(chunk))


# ----------------------------------------------------------------------------------------------------------- course


def repository_files(home: Path = HOME) -> list[Path]:
    """The files that git keeps, as they are now; nothing of a learner's own."""
    try:
        done = subprocess.run(["git", "ls-files", "-z"], cwd=home, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ValueError(
            f"the kit is made from a clone of the repository, and git lists no files in {home} ({error})"
        ) from error
    return [home / name for name in done.stdout.decode().split("\0") if name and (home / name).is_file()]


def copy_course(files: list[Path], folder: Path, home: Path = HOME) -> None:
    for path in files:
        target = folder / path.relative_to(home)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)


# ------------------------------------------------------------------------------------------------------------ check


def check(folder: Path, targets: list[str], wheels: list[Wheel]) -> None:
    """Everything that was resolved is there; and pip, where the kit is for this machine too, finds all it needs.

    Raises:
        ValueError: what is missing.
    """
    absent = [wheel.name for wheel in wheels if not (folder / "wheels" / wheel.name).exists()]
    if absent:
        raise ValueError(f"{', '.join(absent)} disappeared from {folder / 'wheels'} meanwhile; make the kit again")
    if f"{this_system()} {this_python()}" not in targets:
        return
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-index", "--quiet"]
    command += [f"--find-links={folder / 'wheels'}", "--requirement=requirements.txt"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    environment["PIP_CONFIG_FILE"] = os.devnull
    done = subprocess.run(command, cwd=folder / "course", env=environment, capture_output=True, text=True, errors="replace")
    if done.returncode:
        raise ValueError(f"pip cannot install from {folder}: {' '.join(done.stderr.split())[-600:]}; please report this")


def start_page(targets: list[str]) -> str:
    """The page for those who get the stick."""
    from jinja2 import Environment, PackageLoader

    pythons: dict[str, list[str]] = {}
    for target in targets:
        system, python = target.split()
        pythons.setdefault(system.removesuffix("-arm64"), []).append(python)
    pages = Environment(loader=PackageLoader("course_utils.tools"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return pages.get_template("start.html").render(pythons={name: sorted(set(found)) for name, found in pythons.items()})


def summary(folder: Path, wheels: dict[str, list[Wheel]]) -> str:
    used = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    pythons = sorted({target.split()[1] for target in wheels})
    return (
        f"{folder} is whole: {used / 1e9:.2f} GB for {', '.join(wheels)}.\n"
        f"People open START.html on it. They need Python {' or '.join(pythons)}: put its installers from\n"
        "https://www.python.org/downloads/ on the stick too."
    )
