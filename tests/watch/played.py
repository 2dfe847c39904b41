"""A lab that is only played, behind a real server: what it shows is as hostile as a test wants it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from tests.watch.test_picture import picture_of
from tunlab.errors import LabError
from tunlab.lab.load import load_lab

Event = dict[str, Any]


class PlayedWatching:
    """Tells its picture first, then what it is told to tell."""

    def __init__(self, picture: Event) -> None:
        self.picture = picture
        self.listeners: list[Callable[[Event], None]] = []

    @contextlib.contextmanager
    def told_to(self, listener: Callable[[Event], None]) -> Iterator[None]:
        listener(self.picture)
        self.listeners.append(listener)
        yield
        self.listeners.remove(listener)

    def tell(self, event: Event) -> None:
        for listener in self.listeners:
            listener(event)

    def place(self, name: object) -> str:
        raise LabError(f"{name}: <b>no such place</b>")


class PlayedStepping:
    """Every ping takes the same way, at once."""

    def __init__(self, watching: PlayedWatching, ways: Event) -> None:
        self._watching = watching
        self._ways = ways
        self.number = 0
        self.refuses = 0

    def begin(self, source: object, target: object, asked_by: str = "") -> int:
        if self.refuses:
            self.refuses -= 1
            raise LabError("another ping is under way", hint="wait until its way is known")
        if source == target:
            raise LabError(f"{source} to itself", hint="choose two")
        self.number += 1
        told = {
            "number": self.number,
            "by": asked_by,
            "source": source,
            "target": target,
            "outcome": "answered",
            "rtt_s": 0.0012,
        }
        self._watching.tell({"kind": "step", **told, "ways": self._ways, "death": None})
        self._watching.tell({"kind": "explained", **told, "ways": self._ways, "death": None})
        return self.number


def picture(**more: str) -> Event:
    """That of the lab `mixed`."""
    told = {"kind": "picture", "lab": "mixed", "system": "refnet", "mode": "vxlan", "box": "namespaces", "far": "pod4"}
    return {**told, "senders": ["pod1", "pod2", "pod3", "pod4"], **picture_of(load_lab("mixed")), **more}


def hop(place: str, *sightings: tuple[str, str, str], says: str = "") -> Event:
    """One place on a way; sightings are (device, direction, stack)."""
    decisions = [{"what": "route", "says": says, "command": "ip route get"}] if says else []
    seen = [
        {
            "device": device,
            "direction": direction,
            "since_start_s": 0.001 * number,
            "stack": stack,
            "headers": [f"{word} of {place}" for word in stack.split()],
        }
        for number, (device, direction, stack) in enumerate(sightings)
    ]
    return {"place": place, "sightings": seen, "decisions": decisions}
