"""Capturing by hand on a standing lab: into a pcapng file, or a live line per frame with its header stack."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from tunlab.errors import LabError
from tunlab.live.lab import LiveLab
from tunlab.live.standing import find_standing
from tunlab.wire.by_scapy import read_headers
from tunlab.wire.decode import VXLAN_PORT
from tunlab.wire.frames import Frame
from tunlab.wire.tap import Wire


def capture(lab: str, tap: str, w: str = "") -> None:
    """Capture on PLACE/DEVICE until Ctrl-C (or SIGTERM); with a file, write it there when done."""
    live = find_standing(lab or None).live()
    name = _tap(live, tap)
    if w:
        _to_file(live, name, Path(w))
    else:
        _to_terminal(live, name)


def _tap(live: LiveLab, tap: str) -> str:
    place, _, device = tap.partition("/")
    if not device:
        raise LabError(f"{tap}: not a tap", hint=f"PLACE/INTERFACE, such as {place or 'node1'}/eth0")
    known = place if place in live.workloads else live.topology.place(place)
    links = live.box.run(known, ["ls", "/proc/sys/net/ipv4/conf"]).out.split()
    devices = sorted(set(links) - {"all", "default"})
    if device not in devices:
        raise LabError(f"{tap}: {known} has no interface {device}", hint=f"it has: {', '.join(devices)}")
    return f"{known}/{device}"


class _OwnTaps:
    """A taps role of this capture's own, so that several may run on one lab at a time."""

    def __init__(self, live: LiveLab) -> None:
        self._box = live.box
        self.run_dir = live.box.run_dir
        self.role = f"taps-{os.getpid()}"
        self._box.start_role(self.role, "taps")

    def ask(self, role: str, op: str, **arguments: Any) -> dict[str, Any]:
        """What the wire asks of "taps" goes to this role."""
        del role
        return self._box.ask(self.role, op, **arguments)

    def close(self) -> None:
        """End the role, and with it its sockets."""
        self._box.drop_role(self.role)


def _to_file(live: LiveLab, tap: str, target: Path) -> None:
    if target.suffix != ".pcapng":
        raise LabError(f"-w {target}: what is written is pcapng", hint=f"-w {target.with_suffix('.pcapng')}")
    if not target.absolute().parent.is_dir():
        raise LabError(f"-w {target}: there is no folder {target.absolute().parent}", hint="make it first")
    taps = _OwnTaps(live)
    wire = Wire(taps)
    try:
        wire.open(f"{taps.role}.pcapng", [tap], always=True)
        print(f"capturing on {tap} into {target}; Ctrl-C ends it", file=sys.stderr, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
        shutil.move(wire.finish(), target)
    finally:
        taps.close()
    told: dict[str, Any] = wire.totals.get("taps", {}).get(tap, {})
    print(f"{told.get('frames', '?')} frames in {target}, {told.get('drops', '?')} dropped", file=sys.stderr)


def _to_terminal(live: LiveLab, tap: str) -> None:
    taps = _OwnTaps(live)
    place, _, device = tap.partition("/")
    points = [{"name": tap, "place": place, "device": device}]
    try:
        asked = live.box.line.begin(taps.role, "follow", name="hand", taps=points)
        print(f"watching {tap}; Ctrl-C ends it", file=sys.stderr, flush=True)
        first_s: float | None = None
        with contextlib.suppress(KeyboardInterrupt):
            for event in live.box.line.events(asked):
                if event is not None and "bytes" in event:
                    first_s = float(event["time_s"]) if first_s is None else first_s
                    print(_line(event, float(event["time_s"]) - first_s), flush=True)
    finally:
        taps.close()


def _line(event: dict[str, Any], since_s: float) -> str:
    """Seconds since the first frame, and the frame from its outermost header inwards."""
    headers = read_headers(event["linktype"], base64.b64decode(event["bytes"]), (VXLAN_PORT,))
    frame = Frame(0, event["time_s"], event["tap"], event["direction"], "", headers)
    return f"{since_s:10.6f} {frame.describe()}"
