"""The first cell of each notebook: where the course is not installed, it fetches the course from its one address."""

from __future__ import annotations

MEGABYTES = 60  # of the repository as it is downloaded

TEXT = """\
# Opened alone, on Colab for example, this notebook fetches the course. Where the course is installed, nothing happens here.
import importlib.util

if importlib.util.find_spec("course_utils") is None:
    import subprocess
    import sys
    from importlib.metadata import version

    print("Fetching the course, {megabytes} MB, once. The PyTorch that is here stays as it is.")
    here = [name for name in ("torch", "torchvision", "numpy") if importlib.util.find_spec(name)]
    wanted = ["git+{address}", *(f"{{name}}=={{version(name)}}" for name in here)]
    pip = subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *wanted], capture_output=True, text=True)
    if pip.returncode:
        print(pip.stderr)
        raise RuntimeError("the course could not be fetched, pip says why above: go online, see that git is there, try again")
    importlib.invalidate_caches()
    print("The course is here.")"""


def install_cell(address: str) -> str:
    """The text of the cell, for a course whose repository has this address. pip is given the versions that are here, so it
    replaces neither PyTorch nor numpy, which this process may have loaded; where they are too old, it says so."""
    return TEXT.format(address=address, megabytes=MEGABYTES)
