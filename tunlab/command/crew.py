"""Work in processes of its own: so many at a time, each heard line by line, none of them left behind."""

from __future__ import annotations

import os
import select
import selectors
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tunlab.child import PARENT_VARIABLE
from tunlab.paths import ROOT
from tunlab.wait import eventually

_LAST_WORDS_S = 60.0  # from the end of what it tells to its end


@dataclass(frozen=True)
class Job:
    """A module of ours to run; what it says on its standard output is heard, the rest goes into `log`."""

    module: str
    words: tuple[str, ...]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)
    is_busy: bool = False  # keeps a processor busy all the while


@dataclass
class _Worker:
    job: Job
    process: subprocess.Popen[bytes]
    events: int
    buffer: bytes = b""


class Crew:
    """Does jobs in the order given, `size` of them at a time; where `busy` is given, so many busy ones at most."""

    def __init__(self, size: int, busy: int | None = None) -> None:
        self._size = size
        self._busy = size if busy is None else busy
        self._workers: list[_Worker] = []

    def run(
        self,
        jobs: Sequence[Job],
        hear: Callable[[Job, str], None],
        ended: Callable[[Job, int], None],
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        """Do all; `hear` gets each line, `ended` the exit code. Whatever is raised in here ends all of them."""
        waiting = deque(jobs)
        try:
            with selectors.DefaultSelector() as selector:
                while waiting or self._workers:
                    while (job := self._next(waiting)) is not None:
                        worker = self._start(job)
                        selector.register(worker.events, selectors.EVENT_READ, worker)
                    for key, _ in selector.select(1.0):
                        if not _listen(key.data, hear):
                            selector.unregister(key.data.events)
                            ended(key.data.job, self._bury(key.data))
                    tick()
        finally:
            self.stop()

    def _next(self, waiting: deque[Job]) -> Job | None:
        """Take out the first that may begin now, if any may."""
        if len(self._workers) >= self._size:
            return None
        has_room = sum(worker.job.is_busy for worker in self._workers) < self._busy
        found = next((job for job in waiting if has_room or not job.is_busy), None)
        if found is not None:
            waiting.remove(found)
        return found

    def stop(self) -> None:
        """Kill the groups of all that still run, and see them gone."""
        for worker in list(self._workers):
            self._bury(worker, patience_s=0.0)

    def _start(self, job: Job) -> _Worker:
        environment = {**os.environ, **job.environment, PARENT_VARIABLE: str(os.getpid())}
        reading, writing = os.pipe()
        try:
            with job.log.open("wb") as log:
                process = subprocess.Popen(
                    [sys.executable, "-P", "-m", job.module, *job.words],
                    stdin=subprocess.DEVNULL,
                    stdout=writing,
                    stderr=log,
                    env=environment,
                    cwd=ROOT,
                    start_new_session=True,
                )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        self._workers.append(_Worker(job, process, reading))
        return self._workers[-1]

    def _bury(self, worker: _Worker, patience_s: float = _LAST_WORDS_S) -> int:
        """Its exit code. It is reaped last: until then its group's number cannot belong to anybody else."""
        has_exited(worker.process.pid, patience_s)
        with suppress(ProcessLookupError):
            os.killpg(worker.process.pid, signal.SIGKILL)
        code = worker.process.wait()
        os.close(worker.events)
        self._workers.remove(worker)
        eventually(
            lambda: is_gone(worker.process.pid), bool, within_s=10, what=f"{worker.job.module} ends", blame="lab"
        )
        return code


def _listen(worker: _Worker, hear: Callable[[Job, str], None]) -> bool:
    """Take in what it says; False at its end."""
    data = os.read(worker.events, 65536)
    *lines, worker.buffer = (worker.buffer + data).split(b"\n")
    for line in lines:
        hear(worker.job, line.decode(errors="replace"))
    return bool(data)


def has_exited(pid: int, within_s: float) -> bool:
    """Whether a child of ours ended in time; it is not reaped."""
    descriptor = os.pidfd_open(pid)
    try:
        return bool(select.select([descriptor], [], [], within_s)[0])
    finally:
        os.close(descriptor)


def is_gone(group: int) -> bool:
    """Whether no process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False
