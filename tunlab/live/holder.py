"""Holds the box of a standing lab when the terminal that built it has closed; everybody else goes through it.

Started as `python3 -ISE holder.py RUN_DIR KIND`. It makes that folder, so that there is none that nobody would remove;
it owns the line, listens on RUN_DIR/line.sock (0600), and passes requests and answers on. Its death, in whatever way,
ends the box. Its standard input is the builder's leash: should that end before the word KEEP came through it, the
builder has died half-way, and the lab goes with him.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # isolated mode leaves the checkout out

from tunlab.box.box import OwnBox
from tunlab.box.folder import vacate, write_whole
from tunlab.box.line import Decoder, Frame, encode
from tunlab.box.link import Asked, Link
from tunlab.box.start import start_box
from tunlab.errors import TunlabError

SOCKET = "line.sock"
READY = "holder.json"
KEEP = b"k"
_MOST_UNSENT_BYTES = 64 << 20


class Client:
    """One connection: its requests are renumbered by the link, its answers bear its own numbers.

    What it does not read waits in a queue of its own: nobody else's answers wait behind a client that is stopped.
    """

    def __init__(self, holder: Holder, connection: socket.socket) -> None:
        self._holder = holder
        self._connection = connection
        self._unsent: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._unsent_bytes = 0
        self._owned = threading.Lock()
        self._streams: dict[int, tuple[str, int]] = {}
        self._roles: set[str] = set()
        self._has_gone = False

    def serve(self) -> None:
        """Pass frames on until the client goes; then its programs are hung up on and its own roles are ended."""
        threading.Thread(target=self._write, daemon=True).start()
        self._send({"id": 0, "ok": self._holder.hello()})
        decoder = Decoder()
        taken = 0
        with contextlib.suppress(OSError):
            while data := self._connection.recv(65536):
                taken += len(data)
                self._send({"ack": taken})
                for frame in decoder.feed(data):
                    self._pass_on(frame)
        self._unsent.put(None)
        with self._owned:
            self._has_gone = True
            streams, roles = list(self._streams.values()), sorted(self._roles)
        for keeper, pid in streams:
            self._hang_up(keeper, pid)
        for role in roles:
            with contextlib.suppress(TunlabError):
                self._holder.link.ask("first", "drop", name=role)
                self._holder.note("first", "drop", {"name": role})

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
                self._begun(number, to, told["started"])
            self._send({"id": number, "event": told})

        def answered(asked: Any) -> None:
            with self._owned:
                self._streams.pop(number, None)
            frame = asked.result()
            if "ok" in frame:
                self._holder.note(to, op, arguments)
            self._send({**frame, "id": number})

        arguments = dict(frame)
        self._note_roles(to, op, arguments)
        try:
            asked: Asked = self._holder.link.begin(to, op, on_event=event, **frame)
        except TunlabError as error:
            self._send({"id": number, "error": {"kind": "gone", "text": error.message}})
            return
        asked.answer.add_done_callback(answered)

    def _note_roles(self, to: str, op: str, arguments: Frame) -> None:
        """A role under a name of its own ("taps-4711") is its client's alone, and ends with him."""
        if to == "first" and op == "role" and arguments["kind"] not in ("keeper", arguments["name"]):
            self._roles.add(arguments["name"])
        elif to == "first" and op == "drop":
            self._roles.discard(arguments["name"])

    def _begun(self, number: int, keeper: str, pid: int) -> None:
        with self._owned:
            self._streams[number] = (keeper, pid)
            too_late = self._has_gone
        if too_late:  # from a thread of its own: this one reads the line, and must not wait for it
            threading.Thread(target=self._hang_up, args=(keeper, pid), daemon=True).start()

    def _hang_up(self, keeper: str, pid: int) -> None:
        with contextlib.suppress(TunlabError):
            self._holder.link.ask(keeper, "signal", pid=pid, signal="HUP", group=True)
            self._holder.link.ask(keeper, "signal", pid=pid, signal="CONT", group=True)

    def _send(self, frame: Frame) -> None:
        data = encode(frame)
        self._unsent_bytes += len(data)
        if self._unsent_bytes > _MOST_UNSENT_BYTES:
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)
        else:
            self._unsent.put(data)

    def _write(self) -> None:
        with contextlib.suppress(OSError):
            while (data := self._unsent.get()) is not None:
                self._connection.sendall(data)
                self._unsent_bytes -= len(data)
        self._connection.close()


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
        """Accept clients until told to end, or until the box ends; one that ended by itself leaves its folder."""
        path = self.run_dir / SOCKET
        path.unlink(missing_ok=True)
        os.umask(0o177)  # the socket's mode; nobody else gets through the folder either
        # A socket's path may hold 107 bytes; the folder's may be longer than that leaves room for.
        os.chdir(self.run_dir)
        self._listening.bind(SOCKET)
        os.umask(0o077)
        self._listening.listen(16)
        say_ready(self.run_dir, {"pid": os.getpid(), **self.hello()})
        threading.Thread(target=self._watch, daemon=True).start()
        while not self._ended.is_set():
            try:
                connection, _ = self._listening.accept()
            except OSError:
                break
            threading.Thread(target=Client(self, connection).serve, daemon=True).start()
        os.chdir("/")
        if self.link.has_ended:
            say_ready(self.run_dir, {"error": "its box has ended by itself", "hint": ""})
            os._exit(1)  # and what is left of the box hangs on this process
        self._box.close()
        vacate()

    def end(self) -> None:
        """Stop accepting, now or as soon as it would begin; `serve` then ends the box."""
        self._ended.set()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)

    def _watch(self) -> None:
        while not self._ended.wait(1.0):
            if self.link.has_ended:
                self.end()


class Leash:
    """Standard input, until the builder says KEEP or dies."""

    def __init__(self) -> None:
        self._holder: Holder | None = None
        self._lock = threading.Lock()
        self._is_cut = False
        threading.Thread(target=self._wait, daemon=True).start()

    def _wait(self) -> None:
        said = os.read(0, 1)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        if said != KEEP:
            with self._lock:
                self._is_cut = True
                if self._holder is not None:
                    self._holder.end()

    def tie(self, holder: Holder) -> None:
        """Whom to end; at once, if the builder has died already."""
        with self._lock:
            self._holder = holder
            if self._is_cut:
                holder.end()


def say_ready(run_dir: Path, told: Frame) -> None:
    """Write holder.json, whole or not at all."""
    write_whole(run_dir / READY, json.dumps(told))


def main() -> None:
    """Start the box, say so in RUN_DIR/holder.json, serve."""
    run_dir, kind = Path(sys.argv[1]), sys.argv[2]
    leash = Leash()
    run_dir.mkdir(mode=0o700)
    log = os.open(run_dir / "holder.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    try:
        holder = Holder(run_dir, kind)
    except TunlabError as error:
        run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        say_ready(run_dir, {"error": error.message, "hint": error.hint})
        sys.exit(1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: holder.end())
    leash.tie(holder)
    holder.serve()


if __name__ == "__main__":
    main()
