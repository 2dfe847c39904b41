"""One box of each kind for the tests that change nothing in it that others look at: two hosts and a pod."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tunlab.box.box import OwnBox
from tunlab.box.start import KINDS, fresh_run_dir, start_box


@pytest.fixture(scope="session", params=KINDS)
def box(request: pytest.FixtureRequest) -> Iterator[OwnBox]:
    box = start_box(request.param, fresh_run_dir("tests-box"))
    try:
        for name in ("node1", "node2", "pod1"):
            box.add_network(name, {"net.ipv4.ip_forward": "1"})
        for name in ("node1", "node2"):
            box.add_host(name)
        yield box
    finally:
        box.close()
