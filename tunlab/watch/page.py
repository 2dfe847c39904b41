"""What one open page may ask for, and what it is told. It knows nothing of HTTP: values in, values out.

A page's events wait in a queue. What a page is too slow for is dropped if it is only to be looked at, and held back at
its source if it is a shell's output; what it must hear always finds room, and there is little of that.
"""

from __future__ import annotations

import base64
import contextlib
import queue
import threading
from collections.abc import Mapping
from typing import Any

from tunlab.box.box import Stream
from tunlab.box.link import LineEnded
from tunlab.errors import LabError, TunlabError, WorldError
from tunlab.live.shell import open_shell
from tunlab.watch.stepping import Stepping
from tunlab.watch.tables import read_tables_of
from tunlab.watch.watching import Event, Watching

_MOST_WAITING = 200
_MOST_SAID = 200  # pieces of output, of all of a page's shells
_MOST_SHELLS = 8
_TERM = "xterm-256color"
_ROWS, _COLUMNS = range(2, 301), range(10, 501)


class Page:
    """One page from its first event to its last."""

    def __init__(self, name: str, watching: Watching, stepping: Stepping) -> None:
        self.name = name
        self._watching = watching
        self._stepping = stepping
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._room_to_say = threading.Semaphore(_MOST_SAID)
        self.has_closed = threading.Event()
        self._shells: dict[int, Stream | None] = {}
        self._unwanted: set[int] = set()  # closed before they had begun
        self._count = 0
        self._lock = threading.Lock()

    # ------------------------------------------------------------------ what it is told
    def hear(self, event: Event) -> None:
        """An event for everybody; a page that does not keep up misses frames and packets, never the rest."""
        if event["kind"] in ("frames", "packet") and self._events.qsize() > _MOST_WAITING:
            return
        self._events.put(event)

    def next(self, timeout_s: float) -> Event | None:
        """What the page is to be told next; None if there was nothing for so long."""
        try:
            event = self._events.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if event["kind"] == "shell":
            self._room_to_say.release()
        return event

    def close(self) -> None:
        """The page is gone: its shells are hung up on."""
        self.has_closed.set()
        with self._lock:
            numbers = list(self._shells)
        for number in numbers:
            self._hang_up(number)

    # ------------------------------------------------------------------ what it asks for
    def do(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        """One request by its `do`; the answer. Raises TunlabError, with the message that the page shows."""
        match asked.get("do"):
            case "step":
                return {"number": self._stepping.begin(asked.get("from"), asked.get("to"), self.name)}
            case "tables":
                place = self._watching.place(asked.get("place"))
                return {"place": place, "tables": read_tables_of(self._watching.stands, self._watching.live, place)}
            case "shell":
                return self._open(asked)
            case "type":
                data = base64.b64decode(str(asked.get("data", "")))
                self._shell(asked).write(data)
            case "resize":
                self._shell(asked).resize(*_window(asked))
            case "close":
                self._hang_up(int(asked.get("shell", 0)))
            case other:
                raise LabError(f"{other}: no such request")
        return {}

    # ------------------------------------------------------------------ shells
    def _open(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        place = self._watching.place(asked.get("place"))
        rows, columns = _window(asked)
        with self._lock:
            if len(self._shells) >= _MOST_SHELLS:
                raise LabError(f"{_MOST_SHELLS} shells are open in this page", hint="end one of them: exit")
            self._count += 1
            number = self._count
            self._shells[number] = None
        begun = threading.Event()
        arguments = (number, place, rows, columns, begun)
        threading.Thread(target=self._run, args=arguments, name=f"shell {place}", daemon=True).start()
        begun.wait(30.0)
        return {"shell": number, "place": place}

    def _run(self, number: int, place: str, rows: int, columns: int, begun: threading.Event) -> None:
        why = ""
        try:
            stream = open_shell(self._watching.stands, place, rows, columns, _TERM)
            for _, data in stream.chunks():
                if stream.pid and not begun.is_set():
                    self._shells[number] = stream
                    begun.set()
                    if number in self._unwanted:
                        self._hang_up(number)
                if data:
                    self._say(number, data)
                if self.has_closed.is_set():
                    self._hang_up(number)
        except LineEnded:
            why = "its box has ended"
        except TunlabError as error:
            why = error.message
        finally:
            with self._lock:
                self._shells.pop(number, None)
            begun.set()
            self.hear({"kind": "shell-ended", "shell": number, "why": why})

    def _say(self, number: int, data: bytes) -> None:
        """Held back while the page does not read; given up once it has closed."""
        event = {"kind": "shell", "shell": number, "data": base64.b64encode(data).decode()}
        while not self.has_closed.is_set():
            if self._room_to_say.acquire(timeout=0.5):
                self._events.put(event)
                return

    def _shell(self, asked: Mapping[str, Any]) -> Stream:
        stream = self._shells.get(int(asked.get("shell", 0)))
        if stream is None:
            raise LabError("this shell has ended")
        return stream

    def _hang_up(self, number: int) -> None:
        self._unwanted.add(number)
        stream = self._shells.get(number)
        if stream is not None:
            with contextlib.suppress(WorldError):
                stream.signal("HUP")
                stream.signal("CONT")


def _window(asked: Mapping[str, Any]) -> tuple[int, int]:
    rows, columns = asked.get("rows"), asked.get("columns")
    if not (isinstance(rows, int) and isinstance(columns, int) and rows in _ROWS and columns in _COLUMNS):
        raise LabError("a terminal has 2 to 300 rows and 10 to 500 columns")
    return rows, columns
