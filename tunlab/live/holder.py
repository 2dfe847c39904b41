"""Holds the box of a standing lab when the terminal that built it has closed; everybody else goes through it.

Started as `python -m tunlab.live.holder RUN_DIR KIND`. It owns the line, listens on RUN_DIR/line.sock (0600), and
passes requests and answers on. Its death, in whatever way, ends the box.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

from tunlab.box.box import OwnBox
from tunlab.box.line import Decoder, Frame, encode
from tunlab.box.link import Asked, Link
from tunlab.box.start import start_box
from tunlab.errors import TunlabError

SOCKET = "line.sock"
READY = "holder.json"


class Client:
    """One connection: its requests are renumbered by the link, its answers bear its own numbers."""

    def __init__(self, holder: Holder, connection: socket.socket) -> None:
        self._holder = holder
        self._connection = connection
        self._sending = threading.Lock()
        self._streams: dict[int, tuple[str, int]] = {}

    def serve(self) -> None:
        """Pass frames on until the client goes; programs that it had connected to its terminal are hung up on."""
        self._send({"id": 0, "ok": self._holder.hello()})
        decoder = Decoder()
        taken = 0
        with contextlib.suppress(OSError):
            while data := self._connection.recv(65536):
                taken += len(data)
                self._send({"ack": taken})
                for frame in decoder.feed(data):
                    self._pass_on(frame)
        self._connection.close()
        for keeper, pid in list(self._streams.values()):
            with contextlib.suppress(TunlabError):
                self._holder.link.ask(keeper, "signal", pid=pid, signal="HUP")

    def _pass_on(self, frame: Frame) -> None:
        if "file" in frame and "op" not in frame:
            path = self._holder.run_dir / frame["file"]
            (frame,) = Decoder().feed(path.read_bytes())
            path.unlink()
        number, to, op = frame.pop("id"), frame.pop("to"), frame.pop("op")
        if to == "holder":
            self._send({"id": number, "ok": {}})
            self._holder.end()
            return

        def event(told: Frame) -> None:
            if "started" in told:
                self._streams[number] = (to, told["started"])
            self._send({"id": number, "event": told})

        def answered(asked: Any) -> None:
            self._streams.pop(number, None)
            frame = asked.result()
            if "ok" in frame:
                self._holder.note(to, op, arguments)
            self._send({**frame, "id": number})

        arguments = dict(frame)
        try:
            asked: Asked = self._holder.link.begin(to, op, on_event=event, **frame)
        except TunlabError as error:
            self._send({"id": number, "error": {"kind": "gone", "text": error.message}})
            return
        asked.answer.add_done_callback(answered)

    def _send(self, frame: Frame) -> None:
        with self._sending, contextlib.suppress(OSError):
            self._connection.sendall(encode(frame))


class Holder:
    """The owner of one box, and what it has to remember of it for newcomers."""

    def __init__(self, run_dir: Path, kind: str) -> None:
        self.run_dir = run_dir
        self._box: OwnBox = start_box(kind, run_dir)
        line = self._box.line
        assert isinstance(line, Link)
        self.link = line
        self._hosts: set[str] = set()
        self._roles: set[str] = set()
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._ended = threading.Event()

    def hello(self) -> Frame:
        """What a newcomer has to know."""
        return {
            "kind": self._box.kind,
            "kernel": self._box.kernel,
            "hosts": sorted(self._hosts),
            "roles": sorted(self._roles),
        }

    def note(self, to: str, op: str, arguments: Frame) -> None:
        """Remember hosts and roles as they come and go."""
        if to != "first" or op not in ("role", "drop"):
            return
        known = self._hosts if arguments.get("kind") == "keeper" else self._roles
        if op == "role":
            known.add(arguments["name"])
        else:
            self._hosts.discard(arguments["name"])
            self._roles.discard(arguments["name"])

    def serve(self) -> None:
        """Accept clients until told to end, or until the box ends."""
        path = self.run_dir / SOCKET
        path.unlink(missing_ok=True)
        os.umask(0o077)
        # A socket's path may hold 107 bytes; the folder's may be longer than that leaves room for.
        os.chdir(self.run_dir)
        self._listening.bind(SOCKET)
        self._listening.listen(16)
        say_ready(self.run_dir, {"pid": os.getpid(), **self.hello()})
        threading.Thread(target=self._watch, daemon=True).start()
        while not self._ended.is_set():
            try:
                connection, _ = self._listening.accept()
            except OSError:
                break
            threading.Thread(target=Client(self, connection).serve, daemon=True).start()
        self._box.close()

    def end(self) -> None:
        """Stop accepting; `serve` then ends the box."""
        self._ended.set()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _watch(self) -> None:
        while not self._ended.wait(1.0):
            if self.link.has_ended:
                self.end()


def say_ready(run_dir: Path, told: Frame) -> None:
    """Write holder.json, whole or not at all."""
    fresh = run_dir / f".{READY}.new"
    fresh.write_text(json.dumps(told))
    fresh.replace(run_dir / READY)


def main() -> None:
    """Start the box, say so in RUN_DIR/holder.json, serve."""
    run_dir, kind = Path(sys.argv[1]), sys.argv[2]
    try:
        holder = Holder(run_dir, kind)
    except TunlabError as error:
        run_dir.mkdir(parents=True, exist_ok=True)
        say_ready(run_dir, {"error": error.message, "hint": error.hint})
        sys.exit(1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: holder.end())
    holder.serve()


if __name__ == "__main__":
    main()
