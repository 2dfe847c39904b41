"""What a system's programs take on a node: those that were started, and all that comes of them, whatever its name."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from tunlab.check.scene import Scene
from tunlab.errors import SystemFault

_LIST = (
    "for p in $(ls /proc | grep -E '^[0-9]+$'); do "
    "k=$(grep ^Pss: /proc/$p/smaps_rollup 2>/dev/null | tr -dc 0-9) && s=$(cat /proc/$p/stat 2>/dev/null) && "
    'test -n "$k" && set -- ${s##*) } && echo "$p $2 $4 $k $(cat /proc/$p/comm)"; done; true'
)


@dataclass(frozen=True)
class Program:
    """One process: who started it, whose session it is in, and its share of memory with shared pages counted once."""

    pid: int
    parent: int
    session: int
    kib: int
    name: str

    @classmethod
    def read(cls, line: str) -> Program:
        """From `PID PARENT SESSION KIB NAME`."""
        pid, parent, session, kib, name = line.split(maxsplit=4)
        return cls(int(pid), int(parent), int(session), int(kib), name)


def belonging(programs: Iterable[Program], roots: Collection[int]) -> list[Program]:
    """These processes, what descends from them, and what is left of their sessions when a parent has gone."""
    every = list(programs)
    own = set(roots) | {one.pid for one in every if one.session in roots}
    while grown := {one.pid for one in every if one.parent in own} - own:
        own |= grown
    return [one for one in every if one.pid in own]


def memory_mib(scene: Scene) -> Mapping[str, Mapping[str, float]]:
    """For each node, by name, the memory of the system's programs there. Raises SystemFault where none runs."""
    started = scene.live.installation.pids
    daemons = {(one.host, one.name) for one in scene.live.installation.recipe.daemons}
    found: dict[str, dict[str, float]] = {}
    for node in scene.live.node_names():
        roots = {pid for key, pid in started.items() if key[0] == node and key in daemons}
        programs = map(Program.read, scene.run(node, _LIST).out.splitlines())
        mine = found[node] = {}
        for one in belonging(programs, roots):
            mine[one.name] = mine.get(one.name, 0.0) + one.kib / 1024
        if not mine:
            raise SystemFault(f"{node}: none of the system's programs runs")
    return found
