"""The capture role: taps in any place of the box, one pcapng of what they saw within windows, and live views.

A window is what one test looks at. At both of its edges a sentinel leaves through every tap and comes back through it,
so the file itself proves that each tap was awake and that nothing was still in flight when the window closed.
"""

from __future__ import annotations

import base64
import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tunlab.box.inside import kernel, pcapng
from tunlab.box.inside.ring import FLAGS, OUTGOING, Raw, Tap
from tunlab.box.inside.role import RUN_FOLDER, Refused, Request, Role

EDGE_S = 5.0  # within which a sentinel must be back, unless the asker says otherwise
_SEND_AGAIN_S = 0.25
_FLUSH_EVERY_S = 0.2
_LARGEST_RING_BYTES = 16 << 20  # 8,192 small frames: 0.4 s of 20,000 a second on a machine that is busy
_SMALLEST_RING_BYTES = 512 << 10
_ALL_RINGS_BYTES = 64 << 20  # the kernel cannot swap them out, and a guest is small
_FOLLOW_BYTES = 2048
_FOLLOW_BACKLOG_BYTES = 64 * 1024

# a frame, its interface, and what is to be remarked about it
_Record = tuple[Raw, int, str]


def _time_ns(raw: Raw) -> int:
    return raw[0] * 1_000_000_000 + raw[1]


def _when(record: _Record) -> tuple[int, int]:
    return record[0][:2]


def sentinel_text(window: str, edge: str, tap: str) -> str:
    """The payload of a sentinel frame."""
    return f"tunlab sentinel {window} {edge} {tap}"


class _Recording:
    """What a window keeps about one tap."""

    def __init__(self, tap: Tap, number: int) -> None:
        self.tap = tap
        self.number = number
        self.is_open = False
        self.awaited: bytes | None = None
        self.reset()

    def reset(self) -> None:
        self.recorded = 0
        self.begin_ns: int | None = None
        self.end_ns: int | None = None
        self.dropped_before = self.tap.count_drops()

    def report(self) -> dict[str, Any]:
        return {
            "state": self.tap.state,
            "frames": self.recorded,
            "drops": self.tap.count_drops() - self.dropped_before,
            "begin": self.begin_ns is not None,
            "end": self.end_ns is not None,
            "begin_s": (self.begin_ns or 0) / 1e9,
            "end_s": (self.end_ns or 0) / 1e9,
        }


class _Edge:
    """One edge of a window under way: who has yet to see its own sentinel, and what to do once all have."""

    def __init__(self, word: str, window: str, then: Callable[[list[str]], None]) -> None:
        self.word = word
        self.comment = f"window {window} {word}"
        self.waiting: set[str] = set()
        self.then = then


class _Follow:
    """One live view: taps of its own, events until it is told to end."""

    def __init__(self, request: Request, taps: list[Tap]) -> None:
        self.request = request
        self.taps = taps
        self.most_bytes = int(request.arguments.get("bytes", _FOLLOW_BYTES))
        self.sent = 0
        self.dropped = 0


class Taps(Role):
    """Operations: start, add, remove, begin, end, finish, follow, unfollow. One recording and one window at a time."""

    def __init__(self, channel: Any) -> None:
        super().__init__(channel)
        self._path: Path | None = None
        self._is_always = False
        self._taps: dict[str, _Recording] = {}
        self._totals: dict[str, dict[str, Any]] = {}
        self._unwritten: list[_Record] = []
        self._unwritten_head = b""
        self._interfaces = 0
        self._gone: dict[str, dict[str, Any]] = {}
        self._frames = 0
        self._window = ""
        self._edge: _Edge | None = None
        self._follows: dict[str, _Follow] = {}

    def on_hello(self, request: Request) -> dict[str, Any]:
        """Process 1 asks it first, to see that the role serves."""
        return {}

    # ------------------------------------------------------------------ the recording
    def on_start(self, request: Request) -> dict[str, Any]:
        """{file, always=False} begins a file (path relative to the run folder)."""
        if self._path is not None:
            raise Refused("world", f"a recording is under way already: {self._path.name}")
        path = Path(RUN_FOLDER) / request.arguments["file"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pcapng.section_block())
        self._path = path
        with contextlib.suppress(OSError):  # one CPU in a guest: a sender must not starve the one who counts
            os.setpriority(os.PRIO_PROCESS, 0, -10)
        self._is_always = bool(request.arguments.get("always", False))
        self._interfaces = self._frames = 0
        self._totals = {}
        if self._is_always:
            self.after(_FLUSH_EVERY_S, lambda: self._flush_now_and_then(path))
        return {"file": str(path)}

    def on_add(self, request: Request) -> dict[str, Any] | None:
        """{taps: [{name, place, device, deaf_to_tcp_port?}]}; answered when all are open (in a window: proved it)."""
        self._need_recording("add")
        wanted = request.arguments["taps"]
        for tap in wanted:
            if tap["name"] in self._taps:
                raise Refused("world", f"tap {tap['name']}: open already")
        opened = self._open_all(wanted)
        for tap in opened:
            self._unwritten_head += pcapng.interface_block(tap.name, tap.link_type, tap.mac)
            recording = self._taps[tap.name] = _Recording(tap, self._interfaces)
            recording.is_open = self._is_always
            self._interfaces += 1
            tap.is_kept = self._is_always
            self.watch(tap.fileno(), self._reader(recording))
        report = {tap.name: {"link_type": tap.link_type, "slots": tap.slots, "state": tap.state} for tap in opened}
        if not self._window:
            return {"taps": report}
        self._pass_edge("begin", [tap.name for tap in opened], request, lambda u: request.answer(taps=report, unseen=u))
        return None

    def on_remove(self, request: Request) -> dict[str, Any]:
        """{taps: [name]} closes taps; one that is not open is fine."""
        return {"taps": {name: self._close(name) for name in request.arguments["taps"] if name in self._taps}}

    def on_finish(self, request: Request) -> dict[str, Any]:
        """Closes the taps, writes their statistics, ends the file; answers the totals."""
        path = self._need_recording("finish")
        for name in list(self._taps):
            self._close(name)
        self._write()
        self._path, self._window, self._edge = None, "", None
        return {"file": str(path), "frames": self._frames, "bytes": path.stat().st_size, "taps": self._totals}

    def ended(self) -> None:
        """Process 1 is gone: what is in memory still gets into the file."""
        if self._path is not None:
            self._write()

    # ------------------------------------------------------------------ windows
    def on_begin(self, request: Request) -> None:
        """{window, within_s} opens a window; answered when every live tap has seen its own sentinel."""
        self._need_recording("begin")
        name = request.arguments["window"]
        if self._window:
            raise Refused("bug", f"window {name}: window {self._window} is still open")
        self._window = name
        self._gone = {}
        for recording in self._taps.values():
            recording.reset()
        self._pass_edge("begin", list(self._taps), request, lambda unseen: self._begun(request, unseen))

    def on_end(self, request: Request) -> None:
        """{window, within_s} closes it, writes it to the file and answers what each tap saw."""
        self._need_recording("end")
        name = request.arguments["window"]
        if name != self._window:
            raise Refused("bug", f"window {name} is not open (open: {self._window or 'none'})")
        if self._edge is not None:
            raise Refused("bug", f"window {name}: its {self._edge.word} is still under way")
        names = [name for name, recording in self._taps.items() if recording.begin_ns is not None]
        self._pass_edge("end", names, request, lambda unseen: self._ended_window(request, unseen))

    def _begun(self, request: Request, unseen: list[str]) -> None:
        states = {name: recording.tap.state for name, recording in self._taps.items()}
        request.answer(unseen=unseen, taps=states)

    def _ended_window(self, request: Request, unseen: list[str]) -> None:
        for recording in self._taps.values():
            if not self._is_always:
                recording.is_open = recording.tap.is_kept = False
        report = self._gone | {name: recording.report() for name, recording in self._taps.items()}
        self._gone = {}
        self._write()
        self._window = ""
        request.answer(unseen=unseen, taps=report)

    def _pass_edge(self, word: str, names: list[str], request: Request, then: Callable[[list[str]], None]) -> None:
        if self._edge is not None:
            raise Refused("bug", f"window {self._window}: its {self._edge.word} is still under way")
        edge = self._edge = _Edge(word, self._window, then)
        for name in names:
            recording = self._taps[name]
            tap = recording.tap
            tap.is_kept = True
            self._drain(recording)  # a full ring would have no room for the sentinel
            recording.awaited = tap.send_sentinel(sentinel_text(self._window, word, name))
            if recording.awaited is not None:
                edge.waiting.add(name)
        for name in names:
            self._drain(self._taps[name])
        self._edge_progressed()
        self.after(_SEND_AGAIN_S, lambda: self._send_again(edge))
        self.after(float(request.arguments.get("edge_s", EDGE_S)), lambda: self._edge_overdue(edge))

    def _send_again(self, edge: _Edge) -> None:
        """A device that has just come up swallows frames until the kernel has noticed, for up to a second."""
        if self._edge is not edge:
            return
        for name in sorted(edge.waiting):
            recording = self._taps[name]
            self._drain(recording)
            if recording.awaited is not None:
                recording.tap.send_sentinel(sentinel_text(self._window, edge.word, name))
                self._drain(recording)
        self._edge_progressed()
        self.after(_SEND_AGAIN_S, lambda: self._send_again(edge))

    def _edge_progressed(self) -> None:
        edge = self._edge
        if edge is not None and not edge.waiting:
            self._edge = None
            edge.then([])

    def _edge_overdue(self, edge: _Edge) -> None:
        if self._edge is not edge:
            return
        for name in sorted(edge.waiting):
            if name in self._taps:
                self._taps[name].awaited = None
        self._edge = None
        edge.then(sorted(edge.waiting))

    # ------------------------------------------------------------------ frames
    def _drain(self, recording: _Recording) -> int:
        """Keep what the tap has seen; how many frames that were."""
        before = recording.tap.seen
        raws = recording.tap.drain()
        if recording.awaited is None and recording.is_open:
            number = recording.number
            self._unwritten += [(raw, number, "") for raw in raws]
            recording.recorded += len(raws)
        else:
            for raw in raws:
                self._keep(recording, raw)
        return recording.tap.seen - before

    def _keep(self, recording: _Recording, raw: Raw) -> None:
        if recording.awaited == raw[4] and raw[2] == OUTGOING:
            self._unwritten.append((raw, recording.number, self._saw_sentinel(recording, raw)))
        elif recording.is_open:
            self._unwritten.append((raw, recording.number, ""))
            recording.recorded += 1

    def _saw_sentinel(self, recording: _Recording, raw: Raw) -> str:
        edge = self._edge
        recording.awaited = None
        time_ns = _time_ns(raw)
        if edge is None:
            return ""
        if edge.word == "begin":
            recording.begin_ns, recording.is_open = time_ns, True
        else:
            recording.end_ns, recording.is_open = time_ns, self._is_always
        edge.waiting.discard(recording.tap.name)
        return edge.comment

    def _reader(self, recording: _Recording) -> Callable[[], None]:
        tap = recording.tap

        def readable() -> None:
            if not self._drain(recording) and not tap.is_closed:
                tap.look()
                if tap.state == "vanished":
                    self.unwatch(tap.fileno())
                    self._lost(tap.name)
            self._edge_progressed()

        return readable

    def _lost(self, name: str) -> None:
        if name in self._taps:
            self._taps[name].awaited = None
        if self._edge is not None:
            self._edge.waiting.discard(name)

    # ------------------------------------------------------------------ the file
    def _write(self) -> None:
        """Opened and closed each time: in a guest, closing is what carries a file to the host."""
        assert self._path is not None
        records = sorted(self._unwritten, key=_when)  # stable: a tap's own order stays
        self._unwritten = []
        blocks = [self._unwritten_head]
        self._unwritten_head = b""
        for raw, number, comment in records:
            _, _, kind, length, data = raw
            blocks.append(pcapng.packet_block(number, _time_ns(raw), data, length, FLAGS.get(kind, 0), comment))
        for totals in self._totals.values():
            if not totals["written"]:
                totals["written"] = True
                blocks.append(
                    pcapng.statistics_block(totals["number"], time.time_ns(), totals["seen"], totals["drops"])
                )
        self._frames += len(records)
        with self._path.open("ab") as file:
            file.write(b"".join(blocks))

    def _flush_now_and_then(self, path: Path) -> None:
        if self._path != path:
            return
        for recording in self._taps.values():
            self._drain(recording)  # so that a later flush holds later frames only
        self._edge_progressed()
        if self._unwritten or self._unwritten_head:
            self._write()
        self.after(_FLUSH_EVERY_S, lambda: self._flush_now_and_then(path))

    def _close(self, name: str) -> dict[str, Any]:
        recording = self._taps[name]
        tap = recording.tap
        self.unwatch(tap.fileno())
        self._drain(recording)
        del self._taps[name]
        self._lost(name)
        if recording.begin_ns is not None and self._window:
            self._gone[name] = {**recording.report(), "state": "removed"}
        totals = {"seen": tap.seen, "drops": tap.count_drops(), "state": tap.state}
        key = name if name not in self._totals else f"{name}#{recording.number}"
        self._totals[key] = {**totals, "number": recording.number, "written": False}
        tap.close()
        self._edge_progressed()
        return totals

    def _need_recording(self, op: str) -> Path:
        if self._path is None:
            raise Refused("bug", f"{op}: no recording is under way; start one first")
        return self._path

    def _open_all(self, wanted: list[dict[str, Any]]) -> list[Tap]:
        opened: list[Tap] = []
        share = _ALL_RINGS_BYTES // max(1, len(self._taps) + len(wanted))
        ring_bytes = min(_LARGEST_RING_BYTES, max(_SMALLEST_RING_BYTES, share))
        try:
            for asked in wanted:
                opened.append(self._open_one(asked, ring_bytes))
        except BaseException:
            for tap in opened:
                tap.close()
            raise
        return opened

    def _open_one(self, asked: dict[str, Any], ring_bytes: int) -> Tap:
        name, place, device = asked["name"], asked["place"], asked["device"]

        def work() -> Tap:
            return Tap(name, device, ring_bytes, asked.get("deaf_to_tcp_port"))

        try:
            return work() if place == "box" else kernel.within_network(place, work)
        except OSError as error:
            raise Refused("world", f"tap {name}: opening {device} in {place}: {error.strerror}") from error

    # ------------------------------------------------------------------ live views
    def on_follow(self, request: Request) -> None:
        """{name, taps: [{name, place, device}], bytes?}: an event per frame until unfollow.

        `bytes` is the most that is told of one frame. What cannot be told is counted.
        """
        name = request.arguments["name"]
        if name in self._follows:
            raise Refused("world", f"follow {name}: there is one already")
        follow = self._follows[name] = _Follow(request, self._open_all(request.arguments["taps"]))
        request.event(following=[tap.name for tap in follow.taps])
        for tap in follow.taps:
            tap.is_kept = True
            self.watch(tap.fileno(), self._followed(follow, tap))

    def on_unfollow(self, request: Request) -> dict[str, Any]:
        """{name} ends a live view; its request is answered with what it told and what it dropped."""
        follow = self._follows.pop(request.arguments["name"], None)
        if follow is None:
            return {}
        for tap in follow.taps:
            self.unwatch(tap.fileno())
            follow.dropped += tap.count_drops()
            tap.close()
        told = {"frames": follow.sent, "dropped": follow.dropped}
        follow.request.answer(**told)
        return told

    def _followed(self, follow: _Follow, tap: Tap) -> Callable[[], None]:
        def readable() -> None:
            raws = tap.drain()
            for raw in raws:
                self._tell(follow, tap, raw)
            if not raws and not tap.is_closed:
                tap.look()
                if tap.state == "vanished":
                    self.unwatch(tap.fileno())

        return readable

    def _tell(self, follow: _Follow, tap: Tap, raw: Raw) -> None:
        if len(self._out) > _FOLLOW_BACKLOG_BYTES:
            follow.dropped += 1
            return
        _, _, kind, length, data = raw
        follow.sent += 1
        follow.request.event(
            tap=tap.name,
            time_s=_time_ns(raw) / 1e9,
            direction="out" if kind == OUTGOING else "in",
            linktype=tap.link_type,
            length=length,
            bytes=base64.b64encode(data[: follow.most_bytes]).decode(),
        )
