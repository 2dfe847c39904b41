"""A keeper lives in one place (the box itself, or a host) and runs commands there; in a host it is process 1."""

from __future__ import annotations

import base64
import contextlib
import errno
import fcntl
import functools
import os
import pty
import shutil
import signal
import socket
import struct
import termios
import time
from pathlib import Path

from tunlab.box.inside import places
from tunlab.box.inside.role import RUN_FOLDER, Refused, Request, Role

_READ_BYTES = 65536
# As JSON a byte may take six, and the longest frame is 64 MiB: an answer must fit even when it is all rubbish.
_OUTPUT_BYTES = 8 << 20
_WINDOW_BYTES = 1 << 18
_LAST_WORDS_BYTES = 1 << 20
_TRY_AGAIN_S = 0.005
Stdio = tuple[int, ...] | str  # three descriptors, or the path of a terminal


class Command:
    """One running program: where its output goes, and whom to tell when it ends."""

    def __init__(self, request: Request, pid: int) -> None:
        self.request = request
        self.pid = pid
        self.started = time.monotonic()
        self.output: dict[str, bytearray] = {"out": bytearray(), "err": bytearray()}
        self.open: dict[int, str] = {}
        self.stdin: int | None = None
        self.to_write: list[tuple[Request, bytes | None]] = []
        self.untaken_bytes = 0
        self.window_bytes = _WINDOW_BYTES
        self.is_stream = False
        self.timed_out = False
        self.said_too_much = False
        self.code: int | None = None


class Keeper(Role):
    """Runs commands in its place: `run` to the end, `spawn` in the background, `stream` with a terminal or pipes."""

    def __init__(self, channel: socket.socket) -> None:
        super().__init__(channel)
        self._commands: dict[int, Command] = {}
        self._spawned: dict[int, int | None] = {}
        self._bare_networks = places.BareNetworks()
        awake, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.watch(awake, lambda: self._children_ended(awake))

    # ------------------------------------------------------------------ operations
    def on_run(self, request: Request) -> None:
        """{"argv", "stdin", "env", "timeout_s", "network"} → {"rc", "out", "err", "seconds", "timed_out"}."""
        a = request.arguments
        stdin, feed = os.pipe2(os.O_CLOEXEC)
        out, out_child = os.pipe2(os.O_CLOEXEC)
        err, err_child = os.pipe2(os.O_CLOEXEC)
        try:
            pid = self._start(a["argv"], a.get("env") or {}, a.get("network"), (stdin, out_child, err_child))
        except BaseException:
            for descriptor in (feed, out, err):
                os.close(descriptor)
            raise
        finally:
            for descriptor in (stdin, out_child, err_child):
                os.close(descriptor)
        command = Command(request, pid)
        self._commands[pid] = command
        self._read_from(command, out, "out")
        self._read_from(command, err, "err")
        self._feed(command, feed, a.get("stdin", "").encode())
        self.after(float(a.get("timeout_s", 30.0)), lambda: self._too_late(command))

    def on_spawn(self, request: Request) -> dict[str, object]:
        """{"argv", "env", "log", "network"} → {"pid"}; output is appended to the log file in the run folder."""
        a = request.arguments
        path = Path(RUN_FOLDER, a["log"])
        path.parent.mkdir(parents=True, exist_ok=True)
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        try:
            pid = self._start(a["argv"], a.get("env") or {}, a.get("network"), (null, log, log))
        finally:
            os.close(log)
            os.close(null)
        self._spawned[pid] = None
        return {"pid": pid}

    def on_ended(self, request: Request) -> dict[str, object]:
        """{"pid"} of a spawned program → {"code"}: minus the signal that killed it, None while it runs."""
        pid = request.arguments["pid"]
        if pid not in self._spawned:
            raise Refused("world", f"{pid}: no such program was started in the background here")
        return {"code": self._spawned[pid]}

    def on_stream(self, request: Request) -> None:
        """{"argv", "env", "cwd", "tty", "rows", "columns", "window", "network"}: events {"started"}, {"out"|"err"}.

        Only `window` bytes may be told that the caller has not `taken`; then the program has to wait. The
        answer is its exit code.
        """
        a = request.arguments
        env = {"TERM": a.get("term", "dumb"), **(a.get("env") or {})}
        stdio: Stdio
        close: tuple[int, ...]
        if a.get("tty"):
            ours, theirs = pty.openpty()
            _resize(ours, a.get("rows", 24), a.get("columns", 80))
            stdio, mine, close = os.ttyname(theirs), {ours: "out"}, (theirs,)
        else:
            stdin, feed = os.pipe2(os.O_CLOEXEC)
            out, out_child = os.pipe2(os.O_CLOEXEC)
            err, err_child = os.pipe2(os.O_CLOEXEC)
            close = (stdin, out_child, err_child)
            stdio, mine, ours = close, {out: "out", err: "err"}, feed
        try:
            pid = self._start(a["argv"], env, a.get("network"), stdio, furnished=True, cwd=a.get("cwd") or "/")
        except BaseException:
            for descriptor in {ours, *mine}:
                os.close(descriptor)
            raise
        finally:
            for descriptor in close:
                os.close(descriptor)
        command = Command(request, pid)
        command.is_stream = True
        command.window_bytes = a.get("window", _WINDOW_BYTES)
        command.stdin = ours
        os.set_blocking(ours, False)
        self._commands[pid] = command
        for descriptor, name in mine.items():
            self._read_from(command, descriptor, name)
        request.event(started=pid)

    def on_write(self, request: Request) -> dict[str, object] | None:
        """{"pid", "data": base64 | None}: type into a stream; None closes its input. Answered once it is taken."""
        command = self._commands.get(request.arguments["pid"])
        if command is None or command.stdin is None:
            return {}
        data = request.arguments["data"]
        command.to_write.append((request, None if data is None else base64.b64decode(data)))
        if len(command.to_write) == 1:  # else the one before is being tried again already
            self._write_on(command)
        return None

    def on_taken(self, request: Request) -> dict[str, object]:
        """{"pid", "bytes"}: the caller of a stream has room for so many bytes more."""
        command = self._commands.get(request.arguments["pid"])
        if command is not None:
            command.untaken_bytes -= request.arguments["bytes"]
            if command.untaken_bytes < command.window_bytes:
                for descriptor in command.open:
                    self._watch_output(command, descriptor)
        return {}

    def on_resize(self, request: Request) -> dict[str, object]:
        """{"pid", "rows", "columns"}: the terminal's window has changed."""
        command = self._commands.get(request.arguments["pid"])
        if command is not None and command.stdin is not None:
            _resize(command.stdin, request.arguments["rows"], request.arguments["columns"])
        return {}

    def on_network(self, request: Request) -> dict[str, object]:
        """{"name", "settings"}: a fresh network namespace, loopback up, sysctls set. Like: ip netns add NAME"""
        places.make_network(request.arguments["name"], request.arguments.get("settings") or {})
        return {}

    def on_signal(self, request: Request) -> dict[str, object]:
        """{"pid", "signal": "STOP", "group"}: to a process of this place (with `group`, and to all that it started).

        One that is gone already is told apart. What is run here leads a session of its own, and so a group.
        """
        send = os.killpg if request.arguments.get("group") else os.kill
        try:
            send(request.arguments["pid"], signal.Signals[f"SIG{request.arguments['signal']}"])
        except ProcessLookupError:
            return {"gone": True}
        return {"gone": False}

    def on_put(self, request: Request) -> dict[str, object]:
        """{"path", "text", "mode"}: write a file here, whole or not at all."""
        a = request.arguments
        path = Path(a["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.new")
        try:
            fresh.write_bytes(a["text"].encode())
            fresh.chmod(int(a.get("mode", 0o644)))
            fresh.rename(path)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise
        return {}

    def on_link(self, request: Request) -> dict[str, object]:
        """{"path", "target"}: a symbolic link here, replaced if it exists."""
        path = Path(request.arguments["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.new")
        fresh.unlink(missing_ok=True)
        try:
            fresh.symlink_to(request.arguments["target"])
            fresh.rename(path)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise
        return {}

    # ------------------------------------------------------------------ running
    def _start(
        self,
        argv: list[str],
        env: dict[str, str],
        network: str | None,
        stdio: Stdio,
        *,
        furnished: bool = False,
        cwd: str = "/",
    ) -> int:
        """Start a program in its place; raises Refused when it, or its namespace, is not there.

        By posix_spawn, never by fork: copying this process costs 100 ms in a user-mode kernel, spawning 15 ms. What
        belongs into a bare network is spawned while this single-threaded process visits it.
        """
        home = Path(RUN_FOLDER, "home")
        whole = {
            "PATH": places.SEARCH_PATH, "HOME": str(home), "LANG": "C.UTF-8", "XDG_CACHE_HOME": str(home / ".cache"),
            "XDG_CONFIG_HOME": str(home / ".config"), "XDG_RUNTIME_DIR": "/run", **env,
        }  # fmt: skip
        wanted = str(Path(cwd, argv[0])) if "/" in argv[0] else argv[0]
        program = shutil.which(wanted, path=whole["PATH"])
        if program is None:
            raise Refused("missing", f"{argv[0]}: no such program in {whole['PATH']}")
        actions: list[tuple[int, int, int] | tuple[int, int, str, int, int]]
        if isinstance(stdio, str):  # a terminal becomes the session's own by being opened
            actions = [(os.POSIX_SPAWN_OPEN, 0, stdio, os.O_RDWR, 0)]
            actions += [(os.POSIX_SPAWN_DUP2, 0, 1), (os.POSIX_SPAWN_DUP2, 0, 2)]
        else:
            actions = [(os.POSIX_SPAWN_DUP2, descriptor, number) for number, descriptor in enumerate(stdio)]

        def spawn() -> int:
            defaults = (signal.SIGINT, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ)
            with contextlib.suppress(OSError):  # the caller's folder may not exist here: then it is /
                os.chdir(cwd)
            try:
                return os.posix_spawn(program, argv, whole, file_actions=actions, setsid=True, setsigdef=defaults)
            finally:
                os.chdir("/")

        if network is None:
            return spawn()
        return self._bare_networks.visit(network, spawn, furnished=furnished)

    def _read_from(self, command: Command, descriptor: int, name: str) -> None:
        os.set_blocking(descriptor, False)
        command.open[descriptor] = name
        self._watch_output(command, descriptor)

    def _watch_output(self, command: Command, descriptor: int) -> None:
        """One that is watched already is fine."""
        if descriptor not in self.selector.get_map():
            self.watch(descriptor, lambda: self._readable(command, descriptor))

    def _readable(self, command: Command, descriptor: int) -> None:
        try:
            data = os.read(descriptor, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EIO:  # a pty whose last user has gone reads as EIO
                raise
            data = b""
        name = command.open[descriptor]
        if not data:
            self._close(command, descriptor)
            self._finish(command)
        else:
            self._tell(command, name, data)

    def _tell(self, command: Command, name: str, data: bytes) -> None:
        if not command.is_stream:
            if sum(map(len, command.output.values())) + len(data) <= _OUTPUT_BYTES:
                command.output[name] += data
            elif not command.said_too_much:
                command.said_too_much = True
                self._kill(command)
            return
        command.request.event(**{name: base64.b64encode(data).decode()})
        command.untaken_bytes += len(data)
        if command.untaken_bytes >= command.window_bytes:
            for descriptor in command.open:
                self.unwatch(descriptor)

    def _write_on(self, command: Command) -> None:
        """Write what was typed, in order, without ever blocking on it; what nobody will read any more is dropped."""
        while command.to_write:
            request, data = command.to_write[0]
            try:
                if command.stdin is not None and data is None:
                    self._end_input(command, command.stdin)
                elif command.stdin is not None and data:
                    written = os.write(command.stdin, data)
                    command.to_write[0] = (request, data[written:])
                    if written < len(data):
                        continue
            except BlockingIOError:
                self.after(_TRY_AGAIN_S, lambda: self._write_on(command))
                return
            except OSError:  # its reader has gone: EPIPE from a pipe, EIO from a terminal
                pass
            del command.to_write[0]
            request.answer()

    def _end_input(self, command: Command, descriptor: int) -> None:
        if descriptor in command.open:  # a terminal: its output is still to come
            os.write(descriptor, b"\x04")
        else:
            os.close(descriptor)
            command.stdin = None

    def _close(self, command: Command, descriptor: int) -> None:
        if command.open.pop(descriptor, None) is None:
            return
        self.unwatch(descriptor)
        os.close(descriptor)
        if command.stdin == descriptor:
            command.stdin = None

    def _feed(self, command: Command, descriptor: int, data: bytes) -> None:
        """Write a command's input without ever blocking on it."""
        os.set_blocking(descriptor, False)
        rest = memoryview(data)

        def more() -> None:
            nonlocal rest
            with contextlib.suppress(BrokenPipeError):
                while rest:
                    try:
                        rest = rest[os.write(descriptor, rest) :]
                    except BlockingIOError:
                        if command.code is None:
                            self.after(0.002, more)
                            return
                        break
            os.close(descriptor)

        more()

    def _too_late(self, command: Command) -> None:
        if command.code is None and self._commands.get(command.pid) is command:
            command.timed_out = True
            self._kill(command)

    def _kill(self, command: Command) -> None:
        """Kill a program and what it has started, as far as that has not made itself a daemon."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(command.pid, signal.SIGKILL)

    def _children_ended(self, awake: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(awake, 4096)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in self._spawned:
                self._spawned[pid] = os.waitstatus_to_exitcode(status)
            command = self._commands.get(pid)
            if command is not None:
                command.code = os.waitstatus_to_exitcode(status)
                # A daemon that inherited the pipes may keep them open for ever: read what is there, then answer.
                self.after(0.05, functools.partial(self._give_up_on_pipes, command))
                self._finish(command)

    def _give_up_on_pipes(self, command: Command) -> None:
        for descriptor in list(command.open):
            left = _LAST_WORDS_BYTES  # that daemon may write faster than this reads
            with contextlib.suppress(BlockingIOError, OSError):
                while left > 0 and (data := os.read(descriptor, _READ_BYTES)):
                    left -= len(data)
                    self._tell(command, command.open[descriptor], data)
            self._close(command, descriptor)
        self._finish(command)

    def _finish(self, command: Command) -> None:
        if command.code is None or command.open or self._commands.get(command.pid) is not command:
            return
        del self._commands[command.pid]
        if command.stdin is not None:
            os.close(command.stdin)
            command.stdin = None
        self._write_on(command)
        output, command.output = command.output, {}  # its timer keeps the rest of it for a while
        if command.said_too_much:
            command.request.refuse("world", f"printed more than {_OUTPUT_BYTES} bytes, killed")
            return
        command.request.answer(
            rc=command.code,
            out=output["out"].decode(errors="replace"),
            err=output["err"].decode(errors="replace"),
            seconds=round(time.monotonic() - command.started, 4),
            timed_out=command.timed_out,
        )


def _resize(terminal: int, rows: int, columns: int) -> None:
    with contextlib.suppress(OSError, termios.error):
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
