"""The browser itself: it opens a page, runs its script, and whatever a page complains of is heard."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser import visitor as visitors
from tests.browser.visitor import Visitor


def page(body: str) -> str:
    return f"data:text/html,<!doctype html><title>a page</title>{body}"


def test_it_opens_a_page_and_runs_its_script(visitor: Visitor) -> None:
    seen = visitor.open(page("<p id=said><script>said.textContent = 'hello ' + innerWidth</script>"), width=375)
    assert (seen.title(), seen.inner_text("#said")) == ("a page", "hello 375")


def test_it_hears_what_a_page_complains_of(visitor: Visitor) -> None:
    seen = visitor.open(page("<script>console.error('first'); setTimeout(() => { throw Error('second') })</script>"))
    seen.evaluate("new Promise(done => setTimeout(done))")
    assert visitor.complaints == ["error: first", "error: second"]
    visitor.complaints.clear()


def test_a_missing_browser_is_an_error_that_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visitors, "CHROMIUM", "no-such-browser")
    with pytest.raises(RuntimeError, match=r"^no-such-browser is not installed: \./lab test installs"):
        next(running())


def running() -> Iterator[object]:
    with visitors.chromium() as browser:
        yield browser
