"""Runs one of the project's own tools to its end, whatever signal arrives meanwhile."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_GRACE_S = 30.0


def run_to_end(argv: Sequence[str], *, cwd: Path, env: Mapping[str, str] | None = None) -> int:
    """Say the command, run it, return its exit code (negative: the signal that killed it).

    The child has a process group of its own, so that Ctrl-C reaches it once, through here: it is asked to end as the
    terminal would ask, waited for, and killed with all of its group only when it does not.
    """
    print(f"$ {shlex.join(argv)}", file=sys.stderr, flush=True)
    child = subprocess.Popen(argv, cwd=cwd, env=env or os.environ, stdin=subprocess.DEVNULL, process_group=0)
    try:
        return child.wait()
    except BaseException:
        child.send_signal(signal.SIGINT)
        try:
            child.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        raise
