"""A testinfra backend for the places of a lab: suites read a node as sentences (`host.process`, `host.socket`)."""

from __future__ import annotations

from typing import Any

import testinfra.host
from testinfra.backend import base

from tunlab.box.box import Box


class PlaceBackend(base.BaseBackend):  # type: ignore[misc]
    """Runs testinfra's commands in one place of a box.

    `host.process` does not work in a user-mode kernel, where ps knows no start times: ask `ps -e -o comm=` instead.
    """

    NAME = "tunlab"

    def __init__(self, box: Box, place: str, **kwargs: Any) -> None:
        self._box = box
        self._place = place
        super().__init__(hostname=place, **kwargs)

    def run(self, command: str, *args: str, **_: Any) -> base.CommandResult:
        """Run a shell command as testinfra composes it."""
        text = self.get_command(command, *args)
        done = self._box.run(self._place, ["sh", "-c", text], check=False)
        return self.result(done.rc, text, done.out, done.err)


def host_in(box: Box, place: str) -> testinfra.host.Host:
    """A testinfra host for a node, pod, router or segment of the box."""
    return testinfra.host.Host(PlaceBackend(box, place))
