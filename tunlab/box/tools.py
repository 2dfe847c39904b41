"""Which versions of the tools a verdict rests on: told by the tools themselves, all asked at once."""

from __future__ import annotations

import functools
import re
import subprocess

from tunlab.box.machine import which

_ASKED = {
    "ip": ("-V",),
    "bird": ("--version",),
    "etcd": ("--version",),
    "tshark": ("--version",),
    "iptables": ("--version",),
    "ipset": ("--version",),
    "ethtool": ("--version",),
    "linux.uml": ("--version",),
}
_NUMBER = re.compile(r"\d+(\.\d+)+[\w.-]*")


@functools.cache
def versions() -> dict[str, str]:
    """The version that each tool gives itself; "" where it is not there or says none."""
    started = {}
    for tool, arguments in _ASKED.items():
        if path := which(tool):
            started[tool] = subprocess.Popen(
                [path, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
    found = dict.fromkeys(_ASKED, "")
    for tool, process in started.items():
        said, _ = process.communicate()
        match = _NUMBER.search(said)
        found[tool] = match.group() if match else ""
    return found
