"""What every forked role of a box shares: one selector loop, requests that may be answered later, deadlines.

A role is single-threaded and never blocks: it can fork and change namespaces safely, and it notices at once that
process 1 is gone (end of file on its channel), which ends it.
"""

from __future__ import annotations

import heapq
import itertools
import os
import selectors
import socket
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tunlab.box.line import SPILL_BYTES, Decoder, Frame, encode

RUN_FOLDER = "/run/tunlab"


class Refused(Exception):
    """A request that a role turns down; `kind` tells the outside which error to raise."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text


class Request:
    """One request, to be answered exactly once: now, or later from another turn of the loop."""

    def __init__(self, role: Role, frame: Frame) -> None:
        self._role = role
        self.id: int = frame["id"]
        self.op: str = frame["op"]
        self.arguments: Frame = {k: v for k, v in frame.items() if k not in ("id", "op", "to")}
        self.is_answered = False

    def answer(self, **ok: Any) -> None:
        """Answer with success; `ok` must be JSON."""
        self._finish({"id": self.id, "ok": ok})

    def refuse(self, kind: str, text: str) -> None:
        """Answer with an error."""
        self._finish({"id": self.id, "error": {"kind": kind, "text": text}})

    def event(self, **event: Any) -> None:
        """Tell something while the request goes on."""
        self._role.send({"id": self.id, "event": event})

    def _finish(self, frame: Frame) -> None:
        if not self.is_answered:
            self.is_answered = True
            self._role.send(frame)


class Role:
    """A selector loop over the channel to process 1; a subclass adds methods `on_OP(request)` and its own descriptors.

    `on_OP` returns a dict to answer at once, or None when it keeps the request and answers later.
    """

    def __init__(self, channel: socket.socket) -> None:
        self.selector = selectors.DefaultSelector()
        self._channel = channel
        self._decoder = Decoder()
        self._out = bytearray()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = itertools.count()
        channel.setblocking(False)
        self.watch(channel.fileno(), self._channel_readable)

    def on_hello(self, request: Request) -> Frame:
        """Answer that this role is there."""
        return {"pid": os.getpid()}

    # ------------------------------------------------------------------ for subclasses
    def watch(self, descriptor: int, readable: Callable[[], None]) -> None:
        """Call `readable` whenever the descriptor has something to read."""
        self.selector.register(descriptor, selectors.EVENT_READ, readable)

    def unwatch(self, descriptor: int) -> None:
        """Stop watching; a descriptor that was never watched is fine."""
        if descriptor in self.selector.get_map():
            self.selector.unregister(descriptor)

    def after(self, seconds: float, work: Callable[[], None]) -> None:
        """Call `work` once, `seconds` from now. There is no cancelling: `work` looks whether it still matters."""
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._serial), work))

    def send(self, frame: Frame) -> None:
        """Queue a frame; what is large goes as a file in the run folder."""
        data = encode(frame)
        if len(data) > SPILL_BYTES:
            # By the request's id: every host's keeper is process 1 of its own pid namespace, and all share the folder.
            name = f"line/in-{frame['id']}-{next(self._serial)}.json"
            try:
                Path(RUN_FOLDER, name).write_bytes(data)
                data = encode({"id": frame["id"], "file": name})
            except OSError as error:
                refusal = {"kind": "world", "text": f"write {len(data)} bytes for the outside: {error}"}
                data = encode({"id": frame["id"], "error": refusal})
        self._out += data
        self._flush()

    def ended(self) -> None:
        """Called once when process 1 has gone or told us to end; a subclass closes its files here."""

    # ------------------------------------------------------------------ the loop
    def serve(self) -> None:
        """Serve until the channel ends."""
        self.send({"id": 0, "ok": {"ready": True}})
        try:
            while True:
                self._turn()
        except EOFError:
            self.ended()

    def _turn(self) -> None:
        wait_s = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
        for key, events in self.selector.select(wait_s):
            if events & selectors.EVENT_WRITE:
                self._flush()
            if events & selectors.EVENT_READ and key.fd in self.selector.get_map():
                key.data()  # unless an earlier one of this turn has closed it
        while self._timers and self._timers[0][0] <= time.monotonic():
            heapq.heappop(self._timers)[2]()

    def _channel_readable(self) -> None:
        try:
            data = self._channel.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            raise EOFError from error
        if not data:
            raise EOFError
        for frame in self._decoder.feed(data):
            self._serve_one(Request(self, frame))

    def _serve_one(self, request: Request) -> None:
        handler = getattr(self, f"on_{request.op}", None)
        if handler is None:
            request.refuse("bug", f"this role knows no operation {request.op!r}")
            return
        try:
            result = handler(request)
        except Refused as refusal:
            request.refuse(refusal.kind, refusal.text)
        except OSError as error:
            request.refuse("world", str(error))
        except EOFError:
            raise
        except Exception:  # noqa: BLE001 - one bad request must not end the box; the outside raises it as a Bug
            request.refuse("bug", traceback.format_exc())
        else:
            if result is not None:
                request.answer(**result)

    def _flush(self) -> None:
        both = selectors.EVENT_READ | selectors.EVENT_WRITE
        while self._out:
            try:
                sent = self._channel.send(self._out)
            except BlockingIOError:
                self.selector.modify(self._channel, both, self._channel_readable)
                return
            except OSError as error:
                raise EOFError from error
            del self._out[:sent]
        self.selector.modify(self._channel, selectors.EVENT_READ, self._channel_readable)
