"""What becomes of mutants, whatever their kind: killed, survived, stillborn or broken, by whom, and why.

A process of its own for each unit of work: `python -m tunlab.mutants.trial FILE` reads a unit and says each outcome in
one line of JSON, so that a lab that hangs or dies takes nobody along.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tunlab.check.cell import LabCell, open_cell
from tunlab.check.note import LIVE
from tunlab.check.scene import Scene, open_scene
from tunlab.check.selection import CellKey, Options, choose_cells
from tunlab.check.verdict import Verdict, judge
from tunlab.child import die_with_asker
from tunlab.errors import LabError
from tunlab.lab.load import lab_names, load_lab
from tunlab.lab.topology import Mode, Topology
from tunlab.mutants.bite import Bite, Judged, Proof, Teeth, ask, load_corpus, load_proofs
from tunlab.mutants.build import Build, Wrap
from tunlab.mutants.mutant import AnyMutant, Mutant
from tunlab.systems.catalogue import REFNET, find_system
from tunlab.systems.recipe import System

KILLED, SURVIVED, STILLBORN, BROKEN = FATES = ("killed", "survived", "stillborn", "broken")


@dataclass(frozen=True)
class Outcome:
    """What became of one mutant.

    Killed: all that its entry names turned red. Stillborn: nothing that can be observed differs. Broken: it could not
    be tried, or its undoing left something that a system which repairs did not mend. `noticed_by_ping` is None where
    nobody pinged; `complaints` say what is wrong with its entry.
    """

    name: str
    kind: str
    lab: str
    mode: str
    fate: str
    red: Mapping[str, str] = field(default_factory=dict)
    missed: tuple[str, ...] = ()
    broken: Mapping[str, str] = field(default_factory=dict)
    asked: tuple[str, ...] = ()
    noticed_by_ping: bool | None = None
    complaints: tuple[str, ...] = ()
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """As it stands in kill.json."""
        lists = {name: list(getattr(self, name)) for name in ("missed", "asked", "complaints")}
        return {**asdict(self), **lists, "seconds": round(self.seconds, 3)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Outcome:
        """Back from kill.json."""
        return cls(**{**data, **{name: tuple(data[name]) for name in ("missed", "asked", "complaints")}})


def asked_of(one: AnyMutant, system: System, proofs: Mapping[str, Proof]) -> AnyMutant | str:
    """A mutant as it is planted in a system: caught by those requirements that are asked of it; else why it is not.

    Whether a ping would notice is said of refnet: in another network the same fault may be another's way.
    """
    if system.name == REFNET:
        return one
    if not isinstance(one, Mutant):
        return f"{one.kind}s are of {REFNET}"
    if one.mode not in system.modes:
        return f"{system.name} does not offer {one.mode}"
    asked = tuple(id for id in one.caught_by if set(proofs[id].requirement.needs) <= system.abilities)
    if not asked:
        return f"{system.name} is not asked what they break"
    return replace(one, caught_by=asked, visible_to_ping=None)


# ------------------------------------------------------------------ faults in a finished lab
def try_faults(
    lab: str, mode: Mode, mutants: Sequence[Mutant], proofs: Mapping[str, Proof], options: Options
) -> Iterator[Outcome]:
    """Plant them one after the other in one lab, which is opened anew where one could not be undone.

    Where it cannot be opened at all, the one whose turn it was is broken, and the next tries again.
    """
    teeth = Teeth(lambda: open_cell(load_lab(lab), mode, options), proofs)
    try:
        for mutant in mutants:
            begun = time.monotonic()
            try:
                found = outcome_of(teeth.bite(mutant))
            except Exception as error:  # noqa: BLE001 - whatever went wrong, this one was not tried, and the next may be
                found = _broken(mutant, judge(error)[1], time.monotonic() - begun)
            yield found
    finally:
        teeth.close()


def _broken(mutant: Mutant, reason: str, seconds: float) -> Outcome:
    complaint = f"{mutant.name}: {reason}"
    return Outcome(mutant.name, mutant.kind, mutant.lab, mutant.mode, BROKEN, complaints=(complaint,), seconds=seconds)


def outcome_of(bite: Bite) -> Outcome:
    """What a bite comes to."""
    mutant = bite.mutant
    complaints = tuple(_complaints(bite))
    fate = STILLBORN if bite.is_stillborn else SURVIVED if bite.missed else BROKEN if bite.leftover else KILLED
    return Outcome(
        mutant.name, mutant.kind, mutant.lab, mutant.mode, fate, bite.red, bite.missed, bite.broken,
        tuple(sorted(bite.asked)), bite.is_noticed_by_ping, complaints, bite.seconds,
    )  # fmt: skip


def _complaints(bite: Bite) -> Iterator[str]:
    name = bite.mutant.name
    if bite.is_stillborn:
        yield f"{name}: stillborn: nothing that can be observed is different"
    elif bite.missed:
        yield _missed(name, bite.missed, bite.red, bite.broken)
    if bite.mutant.visible_to_ping not in (None, bite.is_noticed_by_ping):
        yield f"{name}: a ping between all pods {'does' if bite.is_noticed_by_ping else 'does not'} notice"
    if bite.leftover:
        yield f"{name}: its undoing leaves: {bite.leftover}"


def _missed(name: str, missed: Collection[str], red: Collection[str], broken: Mapping[str, str]) -> str:
    torn = "".join(f"; {id} is broken: {reason.splitlines()[0]}" for id, reason in broken.items() if id in missed)
    return f"{name}: {', '.join(missed)} did not notice; red are: {', '.join(red) or 'none'}{torn}"


# ------------------------------------------------------------------ builds and wrappers
@dataclass(frozen=True)
class NotUp(Judged):
    """The lab did not get up, so no test's body has run. `blame` says whose doing that was."""

    blame: Verdict

    @classmethod
    def because(cls, error: Exception) -> NotUp:
        """Nothing is known, for this came instead of a lab."""
        blame, reason = judge(error)
        return cls(Verdict.BROKEN, f"the lab did not get up: {reason}", blame)

    def as_wanted(self) -> Judged:
        """The same, where just that was to be noticed: it accuses the system, if it was the system's doing."""
        return Judged(self.blame, self.reason)


def cell_for(proof: Proof, labs: Mapping[str, Topology], options: Options) -> CellKey | None:
    """The cheapest lab and mode in which a requirement is asked; None where there is none among those asked for."""
    declared = proof.requirement
    keys = [key for key in choose_cells(labs, options) if declared.applies(labs[key.lab], key.mode)]
    return CellKey(keys[-1].lab, keys[-1].mode, declared.scene) if keys else None  # what takes long comes first


def try_build(built: Build | Wrap, proofs: Mapping[str, Proof], options: Options) -> Outcome:
    """Build it, and ask those whom it names, in the cheapest labs; tests that only look share one."""
    begun = time.monotonic()
    labs = {name: load_lab(name) for name in lab_names()}
    home = options.out / "builds" / built.name
    home.mkdir(parents=True)
    options = replace(options, level="extended", with_=built.make(home))
    options = replace(options, labs=(built.lab,)) if built.lab else options
    cells: dict[CellKey, list[Proof]] = {}
    for id in built.caught_by:
        if (key := cell_for(proofs[id], labs, options)) is not None:
            cells.setdefault(key, []).append(proofs[id])
    said: dict[str, Judged] = {}
    pings: list[bool] = []
    for key, wanted in cells.items():
        said |= _ask_all(labs[key.lab], key, wanted, options, pings)
    stayed_down = [one for one in said.values() if isinstance(one, NotUp)]
    if built.prevents_start:
        said = {id: one.as_wanted() if isinstance(one, NotUp) else one for id, one in said.items()}
    red = {id: one.reason for id, one in said.items() if one.verdict is Verdict.FAILED}
    broken = {id: one.reason for id, one in said.items() if one.verdict is Verdict.BROKEN}
    missed = tuple(id for id in built.caught_by if id not in red)
    fate = KILLED if not missed else BROKEN if set(missed) <= set(broken) or not said else SURVIVED
    where = next(iter(cells), CellKey("-", "-"))
    complaints = [_missed(built.name, missed, red, broken)] if missed else []
    if built.prevents_start and not stayed_down:
        complaints.append(f"{built.name}: says `prevents_start`, and every lab gets up with it")
    return Outcome(
        built.name, built.kind, where.lab, where.mode, fate, red, missed, broken, tuple(said),
        any(pings) if pings else None, tuple(complaints), time.monotonic() - begun,
    )  # fmt: skip


def _ask_all(
    lab: Topology, key: CellKey, proofs: Sequence[Proof], options: Options, pings: list[bool]
) -> dict[str, Judged]:
    """Ask these of one cell; it is opened anew for whoever follows one that does something to it.

    Where it does not get up, nobody's test has run, which is no verdict about anybody's requirement.
    """
    said: dict[str, Judged] = {}
    cell: LabCell | Scene | None = None
    try:
        for number, proof in enumerate(proofs):
            try:
                if cell is None:
                    cell = _open(lab, key, options)
                    if isinstance(cell, LabCell):
                        pings.append(_is_noticed_by_ping(cell))
                cell.begin(proof.requirement)
            except Exception as error:  # noqa: BLE001 - whose fault it is, is told
                return said | {one.requirement.id: NotUp.because(error) for one in proofs[number:]}
            said[proof.requirement.id], has_touched = _ask_one(cell, proof)
            if has_touched:
                closing, cell = cell, None
                closing.close()
    finally:
        if cell is not None:
            cell.close()
    return said


def _ask_one(cell: LabCell | Scene, proof: Proof) -> tuple[Judged, bool]:
    """What the proof says, and whether it did something to the lab."""
    if isinstance(cell, Scene):
        return ask(cell, proof), True
    with cell.noted() as notes:
        return ask(cell, proof), LIVE in notes


def _open(lab: Topology, key: CellKey, options: Options) -> LabCell | Scene:
    mode: Mode = next(mode for mode in lab.modes if mode == key.mode)
    return open_scene(lab, mode, key.scene, options) if key.scene else open_cell(lab, mode, options)


def _is_noticed_by_ping(cell: LabCell) -> bool:
    """Whether pings between all pods come to something else than the oracle says."""
    return any(
        (cell.outcome(echo) == "answered") != cell.seen.stimuli.crossing(echo).reaches
        for echo in cell.seen.stimuli.pairs
    )


# ------------------------------------------------------------------ a process of its own
@dataclass(frozen=True)
class Unit:
    """Mutants that are tried together: faults of one lab and mode, or builds, in any mode of those asked for (in all,
    where there are none)."""

    names: tuple[str, ...]
    files: tuple[str, ...]
    out: str
    box: str
    lab: str = ""
    modes: tuple[str, ...] = ()
    system: str = "refnet"

    def write(self, path: Path) -> None:
        """For the process that does it."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")


def do(unit: Unit) -> Iterator[Outcome]:
    """The outcomes of a unit, one after the other. Raises LabError."""
    proofs = load_proofs()
    corpus = {one.name: one for one in load_corpus(proofs, [Path(path) for path in unit.files])}
    judged = find_system(unit.system)
    chosen = [one for name in unit.names if isinstance(one := asked_of(corpus[name], judged, proofs), AnyMutant)]
    faults = [one for one in chosen if isinstance(one, Mutant)]
    options = Options(out=Path(unit.out), system=unit.system, box=unit.box, modes=unit.modes)
    if faults:
        yield from try_faults(faults[0].lab, faults[0].mode, faults, proofs, options)
    for one in chosen:
        if not isinstance(one, Mutant):
            yield try_build(one, proofs, options)


def main(argv: Sequence[str]) -> int:
    """Do what the file says."""
    die_with_asker()
    data = json.loads(Path(argv[1]).read_text())
    unit = Unit(**{**data, **{name: tuple(data[name]) for name in ("names", "files", "modes")}})
    try:
        for outcome in do(unit):
            print(json.dumps(outcome.to_json()), flush=True)
    except LabError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
