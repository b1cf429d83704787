"""A real browser for the pages that people open: Chromium of the system, driven by Playwright."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from course_utils.profiles import HOME

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update"


@pytest.fixture(scope="session")
def chromium() -> Iterator:
    """One running Chromium."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian, Ubuntu: sudo apt install chromium)")
    playwright = pytest.importorskip("playwright.sync_api").sync_playwright().start()
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*QUIET.split(), "--disable-sync"])
    yield browser
    browser.close()
    playwright.stop()


def failed(request, errors: list[str]) -> None:
    """Note a request that failed, but not one that ended because the page was left while a picture was loading."""
    if "ERR_ABORTED" not in (request.failure or ""):
        errors.append(f"failed: {request.url}")


@pytest.fixture
def open_page(chromium) -> Iterator:
    """`open_page(address, width=1280, dark=False)` gives a page; the test fails if a page wrote an error to its console."""
    contexts, errors = [], []

    def open_page(address: str, *, width: int = 1280, height: int = 900, dark: bool = False):
        context = chromium.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", offline=False
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("requestfailed", lambda request: failed(request, errors))
        page.goto(address)
        return page

    open_page.errors = errors  # type: ignore[attr-defined]  # a test that expects some may clear it
    yield open_page
    for context in contexts:
        context.close()
    assert not errors, errors


# ------------------------------------------------------------------------------------------------- JupyterLab

OWN = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_WORKSPACES_DIR", "IPYTHONDIR", "HOME")
COPIED = ("course_utils", "notebooks", "solutions", "data", "docs", "pyproject.toml", "requirements.txt")


@pytest.fixture(scope="session")
def copied_course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the course, so that nothing is touched of the person who runs the tests."""
    home = tmp_path_factory.mktemp("lab") / "course"
    skip = shutil.ignore_patterns("__pycache__", "full", ".*")
    for name in COPIED:
        source = HOME / name
        copy = partial(shutil.copytree, ignore=skip) if source.is_dir() else shutil.copy
        home.mkdir(exist_ok=True)
        copy(source, home / name)
    return home


@pytest.fixture(scope="session")
def lab(chromium, copied_course: Path) -> Iterator[str]:
    """The address of a running `course lab`, with a token; it opens the first lesson."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folders = {name: str(copied_course.parent / name.lower()) for name in OWN}
    removed = {"JUPYTER_CONFIG_PATH", "JUPYTER_PATH", "COURSE_GRADES", "TQDM_DISABLE", "MPLBACKEND"}
    environment = {name: value for name, value in os.environ.items() if name not in removed}
    environment |= folders | {"PYTHONPATH": str(copied_course), "JUPYTER_TOKEN": "key", "OMP_NUM_THREADS": "1"}
    words = "lab", "--no-browser", f"--port={port}", "--expose-app-in-browser"
    log = copied_course.parent / "lab.log"
    with log.open("wb") as said:
        server = subprocess.Popen(
            [sys.executable, "-m", "course_utils.tools.cli", *words],
            cwd=copied_course,
            env=environment,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    try:
        address = f"http://127.0.0.1:{port}/"
        until(lambda: server.poll() is not None or answers(f"{address}api?token=key"), 60)
        assert server.poll() is None, log.read_text()[-3000:]
        yield f"{address}?token=key"
    finally:
        server.send_signal(signal.SIGTERM)  # with its kernels
        server.wait(30)


def answers(address: str) -> bool:
    try:
        return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address, timeout=5).status == 200
    except OSError:
        return False


def until(done: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.2)
