"""What the agent says about itself: to the cluster through the store, to its own node through a file."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refnet.agent.speaker import Session
from refnet.calc.world import Invalid
from refnet.model.names import printable

FILE = Path("/run/calico/agent-status.json")
LOCK = Path("/run/calico/agent.lock")
PATIENCE_S = 30.0
_MOST_LISTED, _LONGEST_KEY = 100, 200


class StatusFile:
    """Holds the node's one lock while the agent lives, and the report beside it."""

    def __init__(self, file: Path = FILE, lock: Path = LOCK) -> None:
        self._file = file
        lock.parent.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)

    def take(self) -> bool:
        """Whether no other agent runs on this node. A report of an earlier one is removed."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self._file.unlink(missing_ok=True)
        return True

    def write(self, report: dict[str, Any]) -> None:
        """Replace the report at once: a reader sees the old or the new one."""
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps(report))
        new.replace(self._file)


def readiness(file: Path = FILE, lock: Path = LOCK) -> tuple[bool, str]:
    """Whether this node's agent is ready, and if not, why. An agent that died without a word is not."""
    try:
        with lock.open() as held:
            fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False, "the agent does not run"
    except FileNotFoundError:
        return False, "the agent does not run"
    except BlockingIOError:
        pass
    try:
        report = json.loads(file.read_text())
    except FileNotFoundError:
        return False, "the agent is starting"
    return bool(report["ready"]), str(report["reason"] or "ready")


def listed(invalid: Sequence[Invalid]) -> list[str]:
    """The invalid objects for a report, which must stay small whatever stands in the store: the first hundred."""
    lines = [f"{shown_key(one.key)}: {one.reason}" for one in invalid[:_MOST_LISTED]]
    left = len(invalid) - len(lines)
    return [*lines, *([f"and {left} more"] if left else [])]


def shown_key(key: str) -> str:
    """A key on one line, shortened; what is not printable is escaped."""
    text = printable(key[:300])
    return text if len(key) <= _LONGEST_KEY else f"{text[:_LONGEST_KEY]}..."


def sessions_missing(wanted: int, sessions: Sequence[Session], age_s: float, speaker: str = "bird") -> str:
    """Why BGP is not ready yet, or "": at first all peers must be Established, after PATIENCE_S one of them is enough.

    Calico's rule: a node that has just started waits for everybody, lest traffic comes before its routes have gone out;
    a node that has long been up must not become unready because some other node is down.
    """
    up = sum(session.info.startswith("Established") for session in sessions)
    needed = wanted if age_s < PATIENCE_S else min(wanted, 1)
    return "" if up >= needed else f"{speaker}: {up} of {wanted} sessions Established"


class Clock:
    """Stamps reports: the wall clock for people, seconds since the start for programs."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def uptime_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    def stamp(self) -> dict[str, Any]:
        """For the head of a report."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return {"time": now, "uptime_s": round(self.uptime_s(), 1)}
