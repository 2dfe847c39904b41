"""A visitor with a real browser, Debian's chromium: opens pages and remembers every complaint of theirs.

`python -m tests.browser.visitor URL FILE.png` takes a picture of a page, as docs/pictures holds them; with `FROM TO
PLACE/DEVICE` behind it of a live view, in which a ping has been stopped there.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

HINT = "./lab test installs what the tests of pages need: chromium through apt, Playwright through pip"
CHROMIUM = "chromium"
TIMEOUT_MS = 120_000  # of a busy machine; what is there is found at once


@dataclass
class Visitor:
    """Opens pages, each in a context of its own; `complaints` are errors: on consoles, thrown, of the network."""

    browser: Any
    complaints: list[str] = field(default_factory=list)

    def open(self, url: str, *, width: int = 1280, height: int = 900, **context: Any) -> Any:
        """The page (playwright.sync_api.Page) at a URL; `context` is Playwright's: color_scheme, locale…"""
        page = self.browser.new_context(viewport={"width": width, "height": height}, **context).new_page()
        page.set_default_timeout(TIMEOUT_MS)
        page.on("console", lambda said: self._note(said.type, said.text))
        page.on("pageerror", lambda error: self._note("error", str(error)))
        page.on("requestfailed", self._note_failure)
        page.goto(url)
        return page

    def leave(self) -> None:
        """Close every page."""
        for context in self.browser.contexts:
            context.close()

    def _note_failure(self, asked: Any) -> None:
        if asked.failure != "net::ERR_ABORTED":  # the page itself gave it up
            self._note("error", f"{asked.url}: {asked.failure}")

    def _note(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(f"{kind}: {text}")


@contextmanager
def chromium() -> Iterator[Any]:
    """A running browser (playwright.sync_api.Browser) without a window. Where there is none it raises: no skip."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise RuntimeError(f"Playwright is not installed: {HINT}") from error
    program = shutil.which(CHROMIUM)
    if program is None:
        raise RuntimeError(f"{CHROMIUM} is not installed: {HINT}")
    with sync_playwright() as playwright:
        # No sandbox of its own: root may not have one. It sees our own pages alone. /dev/shm is the labs'.
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"], timeout=TIMEOUT_MS
        )
        try:
            yield browser
        finally:
            browser.close()


def stop_ping(page: Any, source: str, target: str, at: str) -> None:
    """In a live view: send a ping, and let it go device by device until it is on its way out of `at`."""
    page.locator("#map .place").first.wait_for()
    page.select_option("#from", source)
    page.select_option("#to", target)
    page.click("#pause")
    page.click("#step")
    page.locator("#said", has_text="answered").wait_for()
    page.click("#pause")
    seen = page.locator("#packet[data-at]")
    seen.wait_for(state="attached")
    while (seen.get_attribute("data-at"), len(str(seen.get_attribute("data-stack")).split()) > 3) != (at, True):
        before = seen.get_attribute("data-at")
        page.click("#hop")
        page.locator(f'#packet:not([data-at="{before}"])').wait_for(state="attached")


def main() -> None:
    """Take one picture."""
    url, file, *ping = sys.argv[1:]
    with chromium() as browser:
        page = Visitor(browser).open(url, width=1280 if ping else 1000, height=760 if ping else 1000)
        if ping:
            stop_ping(page, *ping)
        page.screenshot(path=file)


if __name__ == "__main__":
    main()
