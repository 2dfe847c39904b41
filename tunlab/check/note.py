"""Learning what a requirement looks at, by watching it look: so that a fault is observed only where that is needed."""

from __future__ import annotations

from typing import Any

from tunlab.check.observe import MATRIX, Observation
from tunlab.check.stimuli import GATEWAY, HOSTS, LIMITS, PAIRS, START, Echo
from tunlab.errors import WorldError
from tunlab.wire.decode import Capture
from tunlab.wire.expect import Seen

HOST, LIVE = "host", "live"  # a place's own shell, and the lab itself, to do something to it
FILE = "file"  # a capture as a whole: what is read out of the first one's is in no later one
_WINDOWS = (START, GATEWAY, PAIRS, HOSTS, LIMITS)
_PARTS = {"matrix": (MATRIX,), "results": (PAIRS, HOSTS, LIMITS), "big_pod_echoes": (LIMITS,), "refused": (LIMITS,)}


class Untouchable(WorldError):
    """A requirement would have done something to a lab that is only to be looked at."""


class Noting:
    """An observation that notes which of its parts are looked at."""

    def __init__(self, seen: Observation, notes: set[str]) -> None:
        self._seen = seen
        self._notes = notes

    def __getattr__(self, name: str) -> Any:
        self._notes.update(_PARTS.get(name, ()))
        return getattr(self._seen, name)

    @property
    def capture(self) -> Any:
        """The capture, which notes in its turn."""
        return _NotingCapture(self._seen.capture, self._notes)

    def result(self, echo: Echo) -> Any:
        """What became of an echo: its window was looked at."""
        self._notes.add(echo.window)
        return self._seen.result(echo)


class _NotingCapture:
    """A capture that notes which of its windows are looked at, and whether somebody looks beside them."""

    def __init__(self, capture: Capture, notes: set[str]) -> None:
        self._capture = capture
        self._notes = notes

    def __getattr__(self, name: str) -> Any:
        if name not in ("name", "taps"):
            self._notes.add(FILE)
        return getattr(self._capture, name)

    def window(self, name: str) -> Seen:
        """The frames of one window."""
        self._notes.add(name)
        return self._capture.window(name)
