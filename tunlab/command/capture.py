"""Capturing by hand on a standing lab: into a pcapng file, or a live line per frame with its header stack."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from tunlab.box.box import Box
from tunlab.command.targets import target as target_file
from tunlab.errors import LabError, WorldError
from tunlab.live.standing import StandingLab, find_standing

_LOOK_EVERY_S = 0.2


def capture(lab: str, tap: str, w: str = "") -> int:
    """Capture on PLACE/DEVICE until Ctrl-C, SIGTERM, or the end of the lab; with a file, write it there when done."""
    stands = find_standing(lab or None)
    target = target_file("-w", w, ".pcapng") if w else None
    name = _tap(stands, tap)
    with _until_signalled() as signalled:
        if target is not None:
            _to_file(stands, name, target, signalled)
        else:
            _to_terminal(stands, name, signalled)
    ended_by = [number for number in signalled if number != signal.SIGINT]  # Ctrl-C is how one ends a capture
    return 128 + ended_by[0] if ended_by else 0


def _tap(stands: StandingLab, tap: str) -> str:
    place, _, device = tap.partition("/")
    known = stands.place(place)
    links = stands.box().run(known, ["ls", "/proc/sys/net/ipv4/conf"]).out.split()
    devices = [each for each in sorted(links) if each not in ("all", "default")]
    if not device:
        hint = f"./lab capture {known}/{'eth0' if 'eth0' in devices else devices[0]}"
        raise LabError(f"{tap}: a tap is PLACE/INTERFACE\n  legal: {', '.join(devices)}", hint=hint)
    if device not in devices:
        hint = f"./lab capture {known}/{'eth0' if 'eth0' in devices else devices[0]}"
        raise LabError(f"{tap}: {known} has no interface {device}\n  legal: {', '.join(devices)}", hint=hint)
    return f"{known}/{device}"


@contextlib.contextmanager
def _until_signalled() -> Iterator[list[int]]:
    """Note Ctrl-C, SIGTERM and SIGHUP instead of ending there and then: what was captured is to be kept."""
    arrived: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if arrived:  # somebody has lost patience
            signal.default_int_handler(number, frame)
        arrived.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield arrived
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _OwnTaps:
    """A taps role of this capture's own, so that several may run on one lab at a time."""

    def __init__(self, box: Box) -> None:
        self._box = box
        self.run_dir = box.run_dir
        self.role = f"taps-{os.getpid()}"
        self._box.start_role(self.role, "taps")

    def ask(self, role: str, op: str, **arguments: Any) -> dict[str, Any]:
        """What the wire asks of "taps" goes to this role."""
        del role
        return self._box.ask(self.role, op, **arguments)

    def close(self) -> None:
        """End the role, and with it its sockets; one that went with its lab is fine."""
        with contextlib.suppress(WorldError):
            self._box.drop_role(self.role)


def _to_file(stands: StandingLab, tap: str, target: Path, signalled: list[int]) -> None:
    from tunlab.wire.tap import Wire

    box = stands.box()
    taps = _OwnTaps(box)
    wire = Wire(taps)
    try:
        wire.open(f"{taps.role}.pcapng", [tap], always=True)
        # A view of nothing ends only with its role: so the end of the lab is noticed.
        watched = box.line.begin(taps.role, "follow", name="end", taps=[])
        print(f"capturing on {tap} into {target.name}; Ctrl-C ends it", file=sys.stderr, flush=True)
        events = box.line.events(watched, _LOOK_EVERY_S)
        while not signalled and next(events, watched) is not watched:
            pass
        if not signalled:
            raise WorldError(f"{stands.name}: {tap}: its box has ended, and what was captured with it")
        shutil.move(wire.finish(), target)
    finally:
        taps.close()
    told: dict[str, Any] = wire.totals.get("taps", {}).get(tap, {})
    print(f"{told.get('seen', '?')} frames in {target}, {told.get('drops', '?')} dropped", file=sys.stderr)


def _to_terminal(stands: StandingLab, tap: str, signalled: list[int]) -> None:
    from tunlab.wire.by_scapy import read_headers
    from tunlab.wire.decode import VXLAN_PORT
    from tunlab.wire.frames import Frame

    box = stands.box()
    taps = _OwnTaps(box)
    place, _, device = tap.partition("/")
    first_s: float | None = None
    try:
        asked = box.line.begin(taps.role, "follow", name="hand", taps=[{"name": tap, "place": place, "device": device}])
        for event in box.line.events(asked, _LOOK_EVERY_S):
            if signalled:
                return
            if event is not None and "following" in event:
                print(f"watching {tap}; Ctrl-C ends it", file=sys.stderr, flush=True)
            elif event is not None and "bytes" in event:
                time_s = float(event["time_s"])
                first_s = time_s if first_s is None else first_s
                headers = read_headers(event["linktype"], base64.b64decode(event["bytes"]), (VXLAN_PORT,))
                frame = Frame(0, time_s, event["tap"], event["direction"], "", headers)
                print(f"{time_s - first_s:10.6f} {frame.describe()}", flush=True)
        box.line.answer_of(asked, 1.0, f"watch {tap}")  # says why it ended
    finally:
        taps.close()
