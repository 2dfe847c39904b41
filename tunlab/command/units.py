"""Mutants in units: what one process tries, how long that will probably take, and what is begun first.

A build mostly waits, for what it has broken will not come; a fault in a finished lab mostly computes. So more labs of
builds than there are processors may be open at a time, and few of faults.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunlab.check.selection import CellKey, Options, is_slow
from tunlab.lab.load import lab_names, load_lab
from tunlab.mutants.bite import Proof, by_cell, load_corpus, load_proofs
from tunlab.mutants.build import Build, Wrap
from tunlab.mutants.mutant import AnyMutant, Mutant
from tunlab.mutants.trial import KILLED, Unit, cell_for
from tunlab.paths import CAPTURES, ROOT
from tunlab.report.kill import KILL

SHIPPED = ROOT / "fixtures" / "mutants" / "seconds.json"
_IN_ONE_LAB = 20  # faults planted in one lab before the next is opened: so workers are done at about one time
_IN_ONE_PROCESS_S = 60.0  # what builds may take together that one process tries: its start costs a second
_UML_S, _SPEAKERS_S, _QUICK_S = 45.0, 40.0, 15.0  # what a requirement takes to turn red that nobody has measured
_FAULT_S, _SLOW_FAULT_S = 3.0, 12.0


@dataclass(frozen=True)
class Planned:
    """A unit, what it and the slowest in it will probably take, and whether it keeps a processor busy all the while."""

    unit: Unit
    seconds: float
    slowest_s: float
    is_busy: bool


@dataclass(frozen=True)
class Asked:
    """What all units of a run share: the mutants' files, the run's folder, the box, and the modes asked for."""

    files: tuple[str, ...]
    folder: str
    box: str
    modes: tuple[str, ...] = ()
    system: str = "refnet"


def plan(
    chosen: Sequence[AnyMutant], proofs: Mapping[str, Proof], asked: Asked, measured: Mapping[str, float]
) -> list[Planned]:
    """All units, those with the slowest mutants first. `measured`: what mutants took in an earlier run, by name."""
    cells = by_cell(one for one in chosen if isinstance(one, Mutant))
    found: list[Planned] = []
    for (lab, mode), mutants in cells.items():
        slow = is_slow(CellKey(lab, mode), asked.box)
        for some in _in_parts(mutants):
            seconds = sum(measured.get(one.name, _SLOW_FAULT_S if slow else _FAULT_S) for one in some)
            names = tuple(one.name for one in some)
            unit = Unit(names, asked.files, asked.folder, asked.box, lab, (mode,), asked.system)
            seconds += _UML_S if slow else _QUICK_S
            found.append(Planned(unit, seconds, seconds, is_busy=True))
    guess = _guessing(proofs, asked)
    builds = {one.name: measured.get(one.name) or guess(one) for one in chosen if not isinstance(one, Mutant)}
    for names in _packed(builds):
        unit = Unit(names, asked.files, asked.folder, asked.box, modes=asked.modes, system=asked.system)
        each = [builds[name] for name in names]
        found.append(Planned(unit, sum(each), max(each), is_busy=False))
    return sorted(found, key=lambda one: (not one.is_busy, -one.slowest_s, -one.seconds, one.unit.names))


def _in_parts(mutants: Sequence[Mutant]) -> Iterator[Sequence[Mutant]]:
    """In as few parts as may be, all of about one size, in their order."""
    count = -(-len(mutants) // _IN_ONE_LAB)
    size = -(-len(mutants) // count)
    yield from (mutants[start : start + size] for start in range(0, len(mutants), size))


def _packed(seconds: Mapping[str, float]) -> list[tuple[str, ...]]:
    """Names in parts that take no longer than one process should, unless one alone does; the longest first."""
    parts: list[list[str]] = []
    for name in sorted(seconds, key=lambda name: (-seconds[name], name)):
        room = (part for part in parts if sum(map(seconds.__getitem__, (*part, name))) <= _IN_ONE_PROCESS_S)
        part = next(room, None)
        if part is None:
            parts.append(part := [])
        part.append(name)
    return list(map(tuple, parts))


def _guessing(proofs: Mapping[str, Proof], asked: Asked) -> Callable[[Build | Wrap], float]:
    """What a build will take: those that it names, one after the other."""
    labs = {name: load_lab(name) for name in lab_names()}
    options = Options(out=Path(), modes=asked.modes, level="extended", box=asked.box)

    def of(id: str) -> float:
        cell = cell_for(proofs[id], labs, options)
        if cell is None:
            return 0.0
        return _UML_S if is_slow(cell, asked.box) else _SPEAKERS_S if cell.mode == "none" else _QUICK_S

    return lambda one: sum(map(of, one.caught_by))


def measured_seconds(captures: Path, shipped: Path = SHIPPED) -> dict[str, float]:
    """What each mutant took when it was last killed: in the runs that are still there and can be read, else elsewhere.

    `shipped` says the latter, for who has no runs yet. It is written anew from the runs that are there by
    `.venv/bin/python -m tunlab.command.units`.
    """
    found: dict[str, float] = json.loads(shipped.read_text())
    for path in sorted(captures.glob(f"*/{KILL}"), key=lambda path: path.parent.name):
        try:
            mutants = json.loads(path.read_text())["mutants"]
            found |= {str(one["name"]): float(one["seconds"]) for one in mutants if one["fate"] == KILLED}
        except (OSError, ValueError, KeyError, TypeError):
            continue  # it only says what to begin with
    return found


if __name__ == "__main__":
    corpus = {one.name for one in load_corpus(load_proofs())}
    told = {name: round(each, 1) for name, each in measured_seconds(CAPTURES / "mutants").items() if name in corpus}
    SHIPPED.write_text(json.dumps(told, indent=1, sort_keys=True) + "\n")
