"""The fixtures themselves: an error on a page fails the test that opened it."""

from __future__ import annotations

import pytest


def test_a_page_is_opened_and_drawn(open_page, tmp_path):
    (tmp_path / "page.html").write_text("<!doctype html><title>t</title><h1>Hello</h1>")
    assert open_page((tmp_path / "page.html").as_uri(), width=390).inner_text("h1") == "Hello"


@pytest.mark.parametrize("fault", ["<script>throw new Error('broken')</script>", "<img src='none.png'>"])
def test_errors_of_a_page_are_seen(open_page, tmp_path, fault):
    (tmp_path / "page.html").write_text(f"<!doctype html><title>t</title>{fault}")
    open_page((tmp_path / "page.html").as_uri()).wait_for_load_state("networkidle")
    assert open_page.errors
    open_page.errors.clear()
