"""A real browser for the pages that people open: Chromium of the system, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

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
        page.on("requestfailed", lambda request: errors.append(f"failed: {request.url}"))
        page.goto(address)
        return page

    open_page.errors = errors  # type: ignore[attr-defined]  # a test that expects some may clear it
    yield open_page
    for context in contexts:
        context.close()
    assert not errors, errors
