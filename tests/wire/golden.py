"""Golden captures, decoded once per test run."""

from __future__ import annotations

import functools

from tests.wire.make_golden import GOLDEN
from tunlab.wire.decode import Capture, decode


@functools.cache
def capture_of(name: str) -> Capture:
    """captures/golden/NAME.pcapng"""
    return decode(GOLDEN / f"{name}.pcapng", vxlan_ports=(4789, 8472))
