"""Process 1 of a box: makes the world, forks the roles, and carries frames between the line and them.

Started as `python3 -ISE first.py LINE RUN_FOLDER KIND`: LINE is a descriptor number or a device (a guest's /dev/ttyS0).
It never blocks, so it notices at once that the line has ended; then it ends, and the kernel ends everything else.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import sys
import termios
import tty
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # isolated mode leaves the checkout out

from tunlab.box.inside import places
from tunlab.box.inside.keeper import Keeper  # imported before the forks: there is one per host
from tunlab.box.inside.role import RUN_FOLDER
from tunlab.box.line import Decoder, Frame, encode

ROLES = ("keeper", "taps", "probes")


class Child:
    """One forked role, seen from process 1."""

    def __init__(self, name: str, pid: int, channel: socket.socket) -> None:
        self.name = name
        self.pid = pid
        self.channel = channel
        self.decoder = Decoder()
        self.out = bytearray()
        self.asked: set[int] = set()
        self.last_words = ""


class First:
    """The switchboard: one selector loop over the line and a channel per role."""

    def __init__(self, line: int) -> None:
        self._line = line
        self._selector = selectors.DefaultSelector()
        self._decoder = Decoder()
        self._out = bytearray()
        self._read_bytes = 0
        self._children: dict[str, Child] = {}
        os.set_blocking(line, False)
        self._selector.register(line, selectors.EVENT_READ, self._line_readable)
        awake, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(awake, selectors.EVENT_READ, lambda _: self._reap(awake))
        self._own = [line, awake, self._wake]

    def serve(self) -> None:
        """Serve until the line ends, or until `bye`."""
        self.fork_role("box", "keeper", places.nothing)
        self._send({"id": 0, "ok": {"kernel": os.uname().release, "pid": os.getpid()}})
        with contextlib.suppress(EOFError):
            while True:
                for key, events in self._selector.select():
                    if key.fd in self._selector.get_map():  # an earlier one of this turn may have closed it
                        key.data(events)

    # ------------------------------------------------------------------ the line
    def _line_readable(self, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._flush_line()
        if not events & selectors.EVENT_READ:
            return
        try:
            data = os.read(self._line, 4096)
        except BlockingIOError:
            return
        except OSError as error:
            raise EOFError from error
        if not data:
            raise EOFError
        self._read_bytes += len(data)
        frames = self._decoder.feed(data)
        self._send({"ack": self._read_bytes})
        for frame in frames:
            self._dispatch(_unspilled(frame))

    def _send(self, frame: Frame) -> None:
        self._out += encode(frame)
        self._flush_line()

    def _flush_line(self) -> None:
        wanted = selectors.EVENT_READ
        while self._out:
            try:
                del self._out[: os.write(self._line, self._out[:4096])]
            except BlockingIOError:
                wanted |= selectors.EVENT_WRITE
                break
            except OSError as error:
                raise EOFError from error
        self._selector.modify(self._line, wanted, self._line_readable)

    def _dispatch(self, frame: Frame) -> None:
        to = frame.get("to", "first")
        if to == "first":
            handler: Callable[[Frame], None] | None = getattr(self, f"_on_{frame['op']}", None)
            if handler is None:
                self._refuse(frame["id"], "bug", f"process 1 knows no operation {frame['op']!r}")
                return
            try:
                handler(frame)
            except OSError as error:
                self._refuse(frame["id"], "world", f"{frame['op']}: {error}")
        elif to in self._children:
            child = self._children[to]
            child.asked.add(frame["id"])
            child.out += encode(frame)
            self._flush_child(child)
        else:
            self._refuse(frame["id"], "gone", f"no role {to!r} in this box (there are: {', '.join(self._children)})")

    def _refuse(self, request: int, kind: str, text: str) -> None:
        self._send({"id": request, "error": {"kind": kind, "text": text}})

    # ------------------------------------------------------------------ operations of process 1
    def _on_role(self, frame: Frame) -> None:
        """Fork a role: {"name", "kind": keeper|taps|probes, "host": network namespace to live in, or absent}."""
        name, kind, host = frame["name"], frame["kind"], frame.get("host")
        if name in self._children or kind not in ROLES:
            self._refuse(frame["id"], "bug", f"role {name!r} of kind {kind!r}: exists already, or no such kind")
            return
        if host:
            child = self.fork_role(name, kind, places.host(host), places.fork_as_first)
        else:
            child = self.fork_role(name, kind, places.nothing)
        child.asked.add(frame["id"])
        child.out += encode({"id": frame["id"], "op": "hello"})
        self._flush_child(child)

    def _on_drop(self, frame: Frame) -> None:
        """End a role and all that runs in it: {"name"}. One that is gone already is fine."""
        child = self._children.get(frame["name"])
        if child is not None:
            self._forget(child, "dropped")
        self._send({"id": frame["id"], "ok": {}})

    def _on_bye(self, frame: Frame) -> None:
        self._send({"id": frame["id"], "ok": {}})
        raise EOFError

    # ------------------------------------------------------------------ the roles
    def fork_role(self, name: str, kind: str, settle: places.Settle, fork: Callable[[], int] = os.fork) -> Child:
        """Fork a role that first settles in its place (its own namespaces and file system), then serves."""
        ours, theirs = socket.socketpair()
        others = [child.channel.fileno() for child in self._children.values()]
        try:
            pid = fork()
        except OSError:
            ours.close()
            theirs.close()
            raise
        if pid == 0:  # it must hold none of our ends, or the others would not see them close
            _become(kind, name, theirs, [*self._own, ours.fileno(), *others], settle)
        theirs.close()
        ours.setblocking(False)
        child = Child(name, pid, ours)
        self._children[name] = child
        self._listen_to(child)
        return child

    def _listen_to(self, child: Child) -> None:
        """Watch a role's channel, also for room when something waits to be sent."""
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if child.out else 0)
        is_watched = child.channel.fileno() in self._selector.get_map()
        watch = self._selector.modify if is_watched else self._selector.register
        watch(child.channel, wanted, lambda events: self._child_ready(child, events))

    def _child_ready(self, child: Child, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._flush_child(child)
        if not events & selectors.EVENT_READ or child.name not in self._children:
            return
        try:
            data = child.channel.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._forget(child, "ended")
            return
        for frame in child.decoder.feed(data):
            if "event" not in frame:
                child.asked.discard(frame["id"])
            if frame["id"] != 0:
                self._send(frame)
            elif "error" in frame:
                child.last_words = f": {frame['error']['text']}"

    def _flush_child(self, child: Child) -> None:
        while child.out:
            try:
                del child.out[: child.channel.send(child.out)]
            except BlockingIOError:
                break
            except OSError:
                child.out.clear()  # its end of file is on the way and will be told then
        self._listen_to(child)

    def _forget(self, child: Child, how: str) -> None:
        del self._children[child.name]
        self._selector.unregister(child.channel)
        child.channel.close()
        for request in sorted(child.asked):
            self._refuse(request, "gone", f"role {child.name!r} {how} before it answered{child.last_words}")

    def _reap(self, awake: int) -> None:
        """Roles that ended, and what programs left behind: process 1 inherits every orphan of its pid namespace."""
        with contextlib.suppress(BlockingIOError):
            os.read(awake, 4096)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _unspilled(frame: Frame) -> Frame:
    if "file" not in frame or "op" in frame:
        return frame
    path = Path(RUN_FOLDER, frame["file"])
    (whole,) = Decoder().feed(path.read_bytes())
    path.unlink()
    return whole


def _become(kind: str, name: str, channel: socket.socket, close: list[int], settle: places.Settle) -> None:
    """The forked child's whole life."""
    code = 0
    try:
        signal.set_wakeup_fd(-1)
        for descriptor in close:
            os.close(descriptor)
        settle(name)
        if kind == "keeper":
            Keeper(channel).serve()
        elif kind == "taps":
            from tunlab.box.inside.taps import Taps

            Taps(channel).serve()
        else:
            from tunlab.box.inside.probes import Probes

            Probes(channel).serve()
    except BaseException as error:  # noqa: BLE001 - a forked child has nobody above it to catch
        sys.excepthook(*sys.exc_info())
        with contextlib.suppress(OSError):
            channel.send(encode({"id": 0, "error": {"kind": "world", "text": str(error) or repr(error)}}))
        code = 70
    finally:
        sys.stderr.flush()
        os._exit(code)


def open_line(where: str) -> int:
    """The line's descriptor; a serial line is set raw, which makes it 8-bit clean."""
    if where.isdigit():
        return int(where)
    line = os.open(where, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    tty.setraw(line, termios.TCSANOW)
    return line


def main() -> None:
    """Make the world, say hello, serve."""
    where, run_folder, kind = sys.argv[1:4]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.set_inheritable(2, True)
    hello: Frame | None = None
    try:
        places.make_world(run_folder, kind)
    except OSError as error:
        hello = {"id": 0, "error": {"kind": "world", "text": f"making the box's world: {error}"}}
    os.chdir("/")  # wherever the harness was started: programs without a folder of their own must not write there
    try:
        line = open_line(where)
        if hello is None:
            First(line).serve()
        else:
            os.write(line, encode(hello))
            sys.stderr.write(json.dumps(hello) + "\n")
    except BaseException:
        sys.excepthook(*sys.exc_info())  # a guest powers off without ever coming to the interpreter's own way out
        sys.stderr.flush()
        raise
    finally:
        places.end_world(kind)


if __name__ == "__main__":
    main()
