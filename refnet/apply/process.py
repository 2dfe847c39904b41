"""Running one small program to its end, with text in and text out. subprocess would cost 15 ms of start-up."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Finished:
    """How a program ended: its exit code (negative: the signal), and what it said."""

    code: int
    out: str
    err: str


def run(argv: Sequence[str], stdin: str = "") -> Finished:
    """Run a program found on PATH and wait for it. Raises FileNotFoundError if there is none.

    Memory files take the place of pipes: none can fill up, so nobody has to read while the program runs.
    """
    files = [os.memfd_create(name) for name in ("stdin", "stdout", "stderr")]
    try:
        _write_all(files[0], stdin.encode())
        os.lseek(files[0], 0, os.SEEK_SET)
        actions = [(os.POSIX_SPAWN_DUP2, file, number) for number, file in enumerate(files)]
        pid = os.posix_spawnp(argv[0], list(argv), {**os.environ, "LC_ALL": "C"}, file_actions=actions)
        _, status = os.waitpid(pid, 0)
        return Finished(os.waitstatus_to_exitcode(status), _content(files[1]), _content(files[2]))
    finally:
        for file in files:
            os.close(file)


def _write_all(file: int, content: bytes) -> None:
    while content:
        content = content[os.write(file, content) :]


def _content(file: int) -> str:
    size = os.fstat(file).st_size
    return os.pread(file, size, 0).decode(errors="replace") if size else ""
