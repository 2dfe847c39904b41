"""The outside end of the line: requests out, answers and events in, any number of them under way at once."""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from tunlab.box.line import SPILL_BYTES, WINDOW_BYTES, Decoder, Frame, encode
from tunlab.errors import Bug, WorldError

STALLED_S = 60.0


class LineEnded(WorldError):
    """The box is gone: it was closed, killed, or its program died."""


class MissingProgram(WorldError):
    """The box has no such program (or the namespace it should run in does not exist)."""


_ERRORS = {"world": WorldError, "gone": LineEnded, "missing": MissingProgram, "bug": Bug}


class Asked:
    """A request under way: its answer, and the events that come before it; None in the queue: there are no more."""

    def __init__(self, on_event: Callable[[Frame], None] | None = None) -> None:
        self.answer: Future[Frame] = Future()
        self.events: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()
        self.on_event: Callable[[Frame], None] = on_event or self.events.put
        self.answer.add_done_callback(lambda _: self.events.put(None))


class Link:
    """Speaks frames over a connected socket; one thread reads, anybody may ask."""

    def __init__(self, line: socket.socket, run_dir: Path, where: str) -> None:
        self._line = line
        self._run_dir = run_dir
        self._where = where
        self._ids = itertools.count(1)
        self._asked: dict[int, Asked] = {}
        self._sending = threading.Lock()
        self._state = threading.Condition()
        self._sent_bytes = 0
        self._acknowledged_bytes = 0
        self._ended: str | None = None
        self._hello = Asked()
        self._asked[0] = self._hello
        self._reader = threading.Thread(target=self._read, name=f"line {where}", daemon=True)
        self._reader.start()

    def hello(self, within_s: float) -> Frame:
        """What process 1 says first: {"kernel"}. Raises WorldError when it says nothing in time."""
        return self._wait(self._hello, within_s, "the box's program says hello")

    def ask(self, to: str, op: str, *, within_s: float = 60.0, **arguments: Any) -> Frame:
        """One request, one answer. Raises WorldError (kernel, tool), LineEnded (box or role gone) or Bug (ours)."""
        return self._wait(self.begin(to, op, **arguments), within_s, f"{to}: {op}")

    def begin(self, to: str, op: str, *, on_event: Callable[[Frame], None] | None = None, **arguments: Any) -> Asked:
        """Send a request without waiting for its answer; `on_event` is called by the reading thread."""
        asked = Asked(on_event)
        request = next(self._ids)
        with self._state:
            if self._ended is not None:
                raise LineEnded(f"{self._where}: {op}: {self._ended}")
            self._asked[request] = asked
        try:
            self._send({"id": request, "to": to, "op": op, **arguments})
        except WorldError:
            with self._state:
                self._asked.pop(request, None)
            raise
        return asked

    def events(self, asked: Asked, every_s: float = 0.2) -> Iterator[Frame | None]:
        """The events of a request as they come (None when nothing came for a while), until it is answered."""
        while True:
            try:
                event = asked.events.get(timeout=every_s)
            except queue.Empty:
                yield None
                continue
            if event is None:
                return
            yield event

    def answer_of(self, asked: Asked, within_s: float, what: str) -> Frame:
        """The answer of a request begun earlier."""
        return self._wait(asked, within_s, what)

    def close(self) -> None:
        """End the line; process 1 notices and ends the box."""
        self._hang_up()
        self._reader.join(timeout=5)
        self._line.close()

    @property
    def has_ended(self) -> bool:
        """Whether the far end is gone."""
        return self._ended is not None

    # ------------------------------------------------------------------ inner workings
    def _wait(self, asked: Asked, within_s: float, what: str) -> Frame:
        try:
            frame = asked.answer.result(timeout=within_s)
        except TimeoutError as error:
            raise WorldError(f"{self._where}: {what}: no answer in {within_s:g} s") from error
        match frame:
            case {"error": {"kind": str(kind), "text": str(text)}}:
                raise _ERRORS.get(kind, Bug)(f"{self._where}: {what}: {text}")
            case {"ok": dict(ok)}:
                return ok
        raise Bug(f"{self._where}: {what}: an answer that is none: {frame}")

    def _send(self, frame: Frame) -> None:
        data = encode(frame)
        if len(data) > SPILL_BYTES:
            # Several processes may speak to one box, through the holder of a standing lab: the id alone is not enough.
            name = f"line/out-{os.getpid()}-{frame['id']}-{time.monotonic_ns()}.json"
            (self._run_dir / name).write_bytes(data)
            data = encode({"id": frame["id"], "file": name})
        with self._sending:
            rest = memoryview(data)
            while rest:
                with self._state:
                    if not self._state.wait_for(self._has_room, timeout=STALLED_S):
                        # Half a frame may be out already: whatever followed it could no longer be told apart.
                        self._hang_up()
                        raise WorldError(f"{self._where}: {frame.get('op', 'send')}: no room for {STALLED_S:g} s")
                    if self._ended is not None:
                        raise LineEnded(f"{self._where}: {self._ended}")
                    room = WINDOW_BYTES - (self._sent_bytes - self._acknowledged_bytes)
                    self._sent_bytes += min(room, len(rest))
                try:
                    self._line.sendall(rest[:room])
                except OSError as error:
                    raise LineEnded(f"{self._where}: {error}") from error
                rest = rest[room:]

    def _hang_up(self) -> None:
        with contextlib.suppress(OSError):
            self._line.shutdown(socket.SHUT_RDWR)

    def _has_room(self) -> bool:
        return self._ended is not None or self._sent_bytes - self._acknowledged_bytes < WINDOW_BYTES

    def _read(self) -> None:
        decoder = Decoder()
        why = "the box has ended"
        try:
            while data := self._line.recv(65536):
                for frame in decoder.feed(data):
                    self._take(frame)
        except OSError as error:
            why = f"the box has ended ({error})"
        except Exception as error:  # noqa: BLE001 - whatever it was, those who wait must be told
            why = f"the line is broken: {error!r}"
            self._hang_up()
        with self._state:
            self._ended = why
            left, self._asked = self._asked, {}
            self._state.notify_all()
        for asked in left.values():
            if not asked.answer.done():
                asked.answer.set_result({"error": {"kind": "gone", "text": why}})

    def _take(self, frame: Frame) -> None:
        if "ack" in frame:
            with self._state:
                self._acknowledged_bytes = frame["ack"]
                self._state.notify_all()
            return
        if "file" in frame:
            path = self._run_dir / frame["file"]
            (frame,) = Decoder().feed(path.read_bytes())
            path.unlink()
        if "event" in frame:
            asked = self._asked.get(frame["id"])
            if asked is not None:
                asked.on_event(frame["event"])
            return
        with self._state:
            answered = self._asked.pop(frame["id"], None)
        if answered is not None and not answered.answer.done():
            answered.answer.set_result(frame)
