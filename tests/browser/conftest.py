"""One browser for the tests of a file; each test visits pages with it and no page may complain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.visitor import Visitor, chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


@pytest.fixture
def visitor(browser: Any) -> Iterator[Visitor]:
    """Opens pages for one test. A test that provokes complaints clears them itself."""
    visitor = Visitor(browser)
    yield visitor
    visitor.leave()
    assert visitor.complaints == []
