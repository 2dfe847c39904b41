"""BIRD as the agent's child: started, reloaded, listened to and stopped; the agent's loop drives it."""

from __future__ import annotations

import os
import selectors
import signal
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from refnet.agent.birdc import Answer, Birdc, sessions
from refnet.agent.speaker import LAST_RESTART_S, Backoff, Session, ends, write_config
from refnet.calc.speaker import SpeakerConfig
from refnet.render.birdconf import render_bird

CONFIG = Path("/etc/calico/confd/config/bird.cfg")
SOCKET = Path("/var/run/calico/bird.ctl")
# Where a plain `birdc` looks.
SOCKET_ALIAS = Path("/run/bird/bird.ctl")

_LOOK_AGAIN_S = (0.03, 0.2)
_CONNECT_EVERY_S = 0.02
_ANSWER_WITHIN_S = 5.0
_SHOW = "show protocols"
_GREETING = ""
_REFUSED = 8000


class Bird:
    """Keeps one BIRD running as wanted. The loop calls `on_…` when a file is readable, and `tick` by `deadline`.

    BIRD 2.0.12 goes to sleep with work undone: after a session came up its updates wait for the next timer, up to 2 s.
    Any word on its control socket wakes it. So whenever BIRD logs a change of state, it is asked for its protocols,
    which the status wants anyway, at once and twice more.
    """

    def __init__(self, selector: selectors.BaseSelector, log: Callable[..., None]) -> None:
        self.sessions: tuple[Session, ...] = ()
        self.reason = ""
        self._selector = selector
        self._log = log
        self._text = ""
        self._may_have_orphan = True
        self._loaded = ""
        self._pid = 0
        self._pidfd = -1
        self._pipe = -1
        self._tail = b""
        self._said = ""
        self._birdc: Birdc | None = None
        self._told: deque[str] = deque()
        self._started_with = ""
        self._asks: list[float] = []
        self._started_at = 0.0
        self._restart_at = 0.0
        self._backoff = Backoff()
        self._answer_by = 0.0

    def is_loaded(self) -> bool:
        """Whether BIRD runs with what it was last told; true when it is not wanted and does not run."""
        return self._loaded == self._text and bool(self._pid) == bool(self._text)

    def want(self, config: SpeakerConfig | None, *, recovers: bool = False) -> None:
        """Run BIRD with this configuration; without one, do not run it.

        `recovers`: the kernel holds routes of an earlier BIRD; keep them until the new one knows better.
        """
        text = render_bird(config) if config else ""
        if not text and self._may_have_orphan:  # whose agent died while it was still wanted
            retire_orphan(SOCKET, "down")
        self._may_have_orphan = False
        if text == self._text and (self._pid or not text or self._restart_at):
            return
        before, self._text = self._text, text
        try:
            if not text:
                self.stop()
                self.reason = ""
            elif self._pid:
                self._configure()
            else:
                self._start(recovers=recovers)
        except OSError:
            self._text = before  # so that the next call tries again
            raise

    def deadline(self) -> float:
        """When `tick` wants to be called next, in the clock of time.monotonic."""
        waiting = [self._restart_at] if self._restart_at else []
        if self._pid and not self._birdc:
            waiting.append(time.monotonic() + _CONNECT_EVERY_S)
        if self._birdc and self._birdc.waits():
            waiting.append(self._answer_by)
        return min(waiting + self._asks, default=float("inf"))

    def tick(self, now: float) -> None:
        if self._restart_at and now >= self._restart_at:
            self._restart_at = 0.0
            self._start(recovers=True)
        if self._pid and not self._birdc:
            self._connect()
        if self._birdc and self._birdc.waits() and now >= self._answer_by:
            self.reason = f"bird: no answer within {_ANSWER_WITHIN_S:.0f} s"
            self._hang_up()
        if any(now >= at for at in self._asks):
            self._asks = [at for at in self._asks if at > now]
            self._ask(_SHOW)

    def stop(self, *, keeps_routes: bool = False) -> None:
        """End BIRD and wait for its end. `keeps_routes`: tell the peers that this is a restart, so they keep theirs."""
        self._restart_at = 0.0
        if not self._pid:
            return
        if keeps_routes:
            self._ask("graceful restart")
        else:
            os.kill(self._pid, signal.SIGTERM)
        if not ends(self._pidfd, 0.5):
            os.kill(self._pid, signal.SIGTERM if keeps_routes else signal.SIGKILL)
            if not ends(self._pidfd, 0.5):
                os.kill(self._pid, signal.SIGKILL)
        self._reap()

    def _start(self, *, recovers: bool) -> None:
        """Like: bird -f -c …/bird.cfg -s …/bird.ctl, with -R while routes of an earlier one wait in the kernel."""
        self._restart_at = 0.0
        retire_orphan(SOCKET)
        write_config(CONFIG, self._text)
        _prepare_socket()
        reader, writer = os.pipe2(os.O_CLOEXEC)
        # A full pipe (an agent that is stopped) must cost lines, not stop BIRD.
        os.set_blocking(writer, False)
        os.set_blocking(reader, False)
        argv = ["bird", "-f", *(["-R"] if recovers else []), "-c", str(CONFIG), "-s", str(SOCKET)]
        # Nothing of ours may stay open in a BIRD that outlives us.
        actions: list[tuple[int, int, str, int, int] | tuple[int, int, int]] = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_DUP2, writer, 2),
        ]
        try:
            self._pid = os.posix_spawnp("bird", argv, os.environ, file_actions=actions, setsigmask=[])
        except OSError as error:
            os.close(reader)
            self.reason = f"bird: cannot be started: {error.strerror}"
            self._restart_at = time.monotonic() + LAST_RESTART_S
            return
        finally:
            os.close(writer)
        self._pipe, self._pidfd = reader, os.pidfd_open(self._pid)
        self._selector.register(self._pipe, selectors.EVENT_READ, self.on_log)
        self._selector.register(self._pidfd, selectors.EVENT_READ, self.on_exit)
        self._started_at, self._started_with, self._said = time.monotonic(), self._text, ""
        self._log("info", "bird started", pid=self._pid, recovers=recovers)

    def _connect(self) -> None:
        try:
            self._birdc = Birdc(SOCKET)
        except OSError:
            return
        self._selector.register(self._birdc, selectors.EVENT_READ, self.on_answer)
        self._answer_by = time.monotonic() + _ANSWER_WITHIN_S

    def _hang_up(self) -> None:
        """Drop the connection; `tick` makes a new one while BIRD runs."""
        if self._birdc:
            self._selector.unregister(self._birdc)
            self._birdc.close()
            self._birdc = None
        self._told.clear()

    def _configure(self) -> None:
        """Make BIRD read its file again. Like: birdc configure"""
        write_config(CONFIG, self._text)
        if self._birdc:
            self._told.append(self._text)
            self._ask("configure")

    def _ask(self, command: str) -> None:
        if not self._birdc:
            return
        if not self._birdc.waits():
            self._answer_by = time.monotonic() + _ANSWER_WITHIN_S
        try:
            self._birdc.ask(command)
        except OSError:
            self._hang_up()

    def _look_soon(self) -> None:
        now = time.monotonic()
        self._asks = [now, *(now + delay for delay in _LOOK_AGAIN_S)]

    def on_answer(self) -> None:
        """BIRD's control socket is readable."""
        if not self._birdc:
            return
        try:
            answers = self._birdc.read()
        except OSError:
            self._hang_up()
            return
        for answer in answers:
            self._take(answer)

    def _take(self, answer: Answer) -> None:
        if answer.command == _SHOW:
            self.sessions = sessions(answer.lines)
            return
        if answer.command == _GREETING:
            # It listens only once it has read its file: what it was started with is loaded. A later text is not.
            self._loaded = self._started_with
            self.reason = ""
            if self._text != self._loaded:
                self._configure()
        elif answer.command == "configure" and self._told:
            text = self._told.popleft()
            if answer.code < _REFUSED:
                self._loaded, self.reason = text, ""
            else:
                self.reason = f"bird: configure: {answer.lines[-1]}"
                self._log("error", self.reason)
        self._look_soon()

    def on_log(self) -> None:
        """BIRD's stderr is readable: pass its lines on, and look at its sessions when one changed its state."""
        if self._pipe < 0:
            return
        try:
            data = os.read(self._pipe, 65536)
        except BlockingIOError:
            return
        if not data:
            self._unregister(self._pipe)
            return
        *lines, self._tail = (self._tail + data).split(b"\n")
        for line in lines:
            said = line.decode(errors="replace")
            is_complaint = "<TRACE>" not in said and "<INFO>" not in said
            self._said = said if is_complaint else self._said
            self._log("warning" if is_complaint else "debug", "bird says", line=said)
            if "State changed to" in said and self._birdc:
                self._look_soon()

    def on_exit(self) -> None:
        """BIRD ended by itself: start it again, later each time it does not last."""
        if not self._pid:
            return
        lasted_s = time.monotonic() - self._started_at
        self.on_log()
        code = self._reap()
        self._restart_at = time.monotonic() + self._backoff.after(lasted_s)
        self.reason = f"bird: ended with {code}: {self._said or 'said nothing'}"
        self._log("error", self.reason)

    def _reap(self) -> int:
        """Forget a BIRD that has ended; its exit code."""
        _, status = os.waitpid(self._pid, 0)
        self._hang_up()
        for file in (self._pidfd, self._pipe):
            self._unregister(file)
            os.close(file)
        self._pid, self._pidfd, self._pipe = 0, -1, -1
        self._loaded, self._tail, self._asks, self.sessions = "", b"", [], ()
        return os.waitstatus_to_exitcode(status)

    def _unregister(self, file: int) -> None:
        if file in self._selector.get_map():
            self._selector.unregister(file)


def retire_orphan(path: Path, command: str = "graceful restart", within_s: float = 1.0) -> bool:
    """End the BIRD of an agent that died without its own end, if one listens there; whether there was one.

    It is told to restart, not to leave (`down`), where another is to come: the peers keep their routes to us.
    """
    try:
        orphan = Birdc(path)
    except OSError:
        return False
    deadline = time.monotonic() + within_s
    with selectors.DefaultSelector() as selector:
        selector.register(orphan, selectors.EVENT_READ)
        try:
            orphan.ask(command)
            while (left := deadline - time.monotonic()) > 0:
                if selector.select(left):
                    orphan.read()
        except OSError:
            return True
        finally:
            orphan.close()
    return True


def _prepare_socket() -> None:
    SOCKET.parent.mkdir(parents=True, exist_ok=True)
    SOCKET.unlink(missing_ok=True)
    SOCKET_ALIAS.parent.mkdir(parents=True, exist_ok=True)
    if not SOCKET_ALIAS.is_symlink():
        SOCKET_ALIAS.unlink(missing_ok=True)
        SOCKET_ALIAS.symlink_to(SOCKET)
