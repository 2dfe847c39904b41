"""Runs one of the project's own tools to its end, whatever signal arrives meanwhile."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_GRACE_S = 30.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_to_end(argv: Sequence[str], *, cwd: Path, env: Mapping[str, str] | None = None) -> int:
    """Say the command, run it, return its exit code (negative: the signal that killed it). Main thread only.

    The child has a process group of its own, so that Ctrl-C reaches it once, through here: it is asked to end as the
    terminal would ask, waited for, and killed with all of its group only when it does not.
    """
    print(f"$ {shlex.join(argv)}", file=sys.stderr, flush=True)
    arrived: list[int] = []
    # A signal between the fork and the try would leave a child that nobody knows of: until then they are only noted.
    held = {number: signal.getsignal(number) for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN}
    for number in held:
        signal.signal(number, lambda number, _: arrived.append(number))
    child: subprocess.Popen[bytes] | None = None
    try:
        child = subprocess.Popen(argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, process_group=0)
        _restore(held)
        for early in arrived:
            signal.raise_signal(early)
        return child.wait()
    except BaseException:
        _restore(held)
        if child is not None:
            _end(child)
        raise


def _restore(held: Mapping[signal.Signals, object]) -> None:
    for number, handler in held.items():
        if callable(handler) or isinstance(handler, signal.Handlers):
            signal.signal(number, handler)


def _end(child: subprocess.Popen[bytes]) -> None:
    child.send_signal(signal.SIGINT)
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_GRACE_S)
    finally:  # also when the user loses patience and asks again
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
