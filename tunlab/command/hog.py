"""Load on purpose: `python -m tunlab.command.hog cpu|io FOLDER` works for nothing until it is ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tunlab.child import PARENT_VARIABLE, die_with_asker

LOADS = ("none", "cpu", "io")
_PER_CPU = 2
_WRITERS = 2
_BLOCK, _BLOCKS = b"\0" * (1 << 20), 64


@contextmanager
def load(kind: str, folder: Path) -> Iterator[list[int]]:
    """Meanwhile the machine is busy: two spinning programs per processor, or two that write and sync. Their ids."""
    count = {"none": 0, "cpu": _PER_CPU * (os.cpu_count() or 1), "io": _WRITERS}[kind]
    environment = {**os.environ, PARENT_VARIABLE: str(os.getpid())}
    argv = [sys.executable, "-P", "-m", "tunlab.command.hog", kind, str(folder)]
    hogs: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(count):
            hogs.append(subprocess.Popen(argv, stdin=subprocess.DEVNULL, env=environment))
        yield [hog.pid for hog in hogs]
    finally:
        for hog in hogs:
            hog.send_signal(signal.SIGKILL)
            hog.wait()
        for path in folder.glob("hog-*"):
            path.unlink()


def main(argv: Sequence[str]) -> int:
    """Work until the signal comes."""
    die_with_asker()
    if argv[1] == "cpu":
        number = 0
        while True:
            number = (number * 1103515245 + 12345) % (1 << 31)
    with Path(argv[2], f"hog-{os.getpid()}").open("wb", buffering=0) as file:
        while True:
            file.seek(0)
            for _ in range(_BLOCKS):
                file.write(_BLOCK)
            os.fsync(file.fileno())


if __name__ == "__main__":
    sys.exit(main(sys.argv))
