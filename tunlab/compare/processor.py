"""How much CPU time a box has had, as this machine counts it: a box's own clock says little in user-mode Linux."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# What the kernel does for packets outside any process; in user-mode Linux that is part of the guest's processes.
_KERNEL_THREAD = "ksoftirqd/"


@dataclass(frozen=True, slots=True)
class Process:
    """One process in /proc: its own CPU time and that of its ended children, together."""

    pid: int
    parent: int
    name: str
    seconds: float


def processes(proc: Path = Path("/proc")) -> Iterator[Process]:
    """Every process that /proc shows now; one that ends meanwhile is left out."""
    ticks_per_s = os.sysconf("SC_CLK_TCK")
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            text = (entry / "stat").read_text()
        except OSError:
            continue
        name, _, rest = text.partition("(")[2].rpartition(") ")
        fields = rest.split()
        yield Process(int(entry.name), int(fields[1]), name, sum(map(int, fields[11:15])) / ticks_per_s)


def cpu_seconds(root: int, *, with_kernel: bool, proc: Path = Path("/proc")) -> float:
    """CPU time of everything below the process `root`; `with_kernel`, that of the kernel's packet threads too."""
    found = {one.pid: one for one in processes(proc)}
    children: dict[int, list[int]] = {}
    for one in found.values():
        children.setdefault(one.parent, []).append(one.pid)
    total, waiting = 0.0, [root]
    while waiting:
        pid = waiting.pop()
        total += found[pid].seconds if pid in found else 0.0
        waiting += children.get(pid, ())
    if with_kernel:
        total += sum(one.seconds for one in found.values() if one.name.startswith(_KERNEL_THREAD))
    return total
