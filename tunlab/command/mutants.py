"""`./lab mutants`: plants every mutant, some labs at a time, and says which requirement noticed which."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from rich.console import Console

from tunlab.box.machine import BOXES, machine
from tunlab.check.requirement import visited
from tunlab.check.selection import Options, split_list
from tunlab.command.conform import Terminated, sigterm_raises
from tunlab.command.crew import Crew, Job
from tunlab.command.units import Asked, Planned, measured_seconds, plan
from tunlab.errors import LabError
from tunlab.lab.load import lab_names, load_lab
from tunlab.lab.mistakes import meant, refuse
from tunlab.lab.topology import MODES
from tunlab.mutants.bite import CORPUS, Proof, load_corpus, load_proofs
from tunlab.mutants.mutant import AnyMutant, Mutant
from tunlab.mutants.trial import BROKEN, KILLED, Outcome, Unit, asked_of, cell_for
from tunlab.paths import CAPTURES, shown
from tunlab.report.kill import KILL, Kills
from tunlab.report.runs import new_run
from tunlab.report.table import console_for
from tunlab.systems.catalogue import REFNET, find_system
from tunlab.wait import LATE_VARIABLE

_PER_PROCESSOR = 5  # labs open at a time: what turns red does so by waiting in vain


@dataclass(frozen=True)
class Places:
    """Where results go, and what tries a unit; a test of ours brings its own."""

    captures: Path = CAPTURES / "mutants"
    trial: str = "tunlab.mutants.trial"


def run(
    *,
    file: str = "",
    modes: Sequence[str] = (),
    names: Sequence[str] = (),
    box: str = "auto",
    out: str = "",
    system: str = "refnet",
    places: Places | None = None,
    stream: TextIO | None = None,
) -> int:
    """Try mutants; answers 0 at 100 %, 1 where one survived, 2 where one could not be tried. Raises LabError."""
    places = places or Places()
    proofs = load_proofs()
    files = [Path(file).resolve()] if file else sorted(CORPUS.rglob("*.yaml"))
    chosen, left_out = choose(load_corpus(proofs, files), proofs, split_list(modes), split_list(names), box, system)
    started = datetime.now(UTC)
    folder = new_run(places.captures, Path(out) if out else None, started)
    options = {"from": file, "mode": list(split_list(modes)), "only": list(split_list(names)), "box": box}
    options |= {"system": system}
    kills = Kills(folder.name, started.isoformat(timespec="seconds"), options, left_out=left_out)
    kills.write(folder)
    console = console_for(stream or sys.stdout)
    _say(console, f"{len(chosen)} mutants to plant")
    for why in dict.fromkeys(left_out.values()):
        _say(console, f"left out, for {why}: {sum(one == why for one in left_out.values())}")
    home = system if system == REFNET else str(Path(system).resolve())
    asked = Asked(tuple(map(str, files)), str(folder), box, split_list(modes), home)
    units = plan(chosen, proofs, asked, measured_seconds(places.captures))
    ended_by = _try_all(units, chosen, kills, folder, places, console)
    kills.exit = kills.verdict
    kills.write(folder)
    for line in summary(kills, folder / KILL):
        _say(console, line)
    return 128 + ended_by if ended_by else kills.exit


def choose(
    corpus: Sequence[AnyMutant],
    proofs: Mapping[str, Proof],
    modes: Sequence[str],
    names: Sequence[str],
    box: str,
    system: str = "refnet",
) -> tuple[list[AnyMutant], dict[str, str]]:
    """The mutants asked for that a box here can carry and this system can bear, and why the others are left out.

    Raises LabError.
    """
    judged = find_system(system)
    known = [one.name for one in corpus]
    mistakes = [f"--only: {name}: no such mutant\n  hint: {_near(name, known)}" for name in names if name not in known]
    for option, values, legal in (("mode", modes, MODES), ("box", (box,), ("auto", *BOXES))):
        mistakes += [
            f"--{option}: {value}: no such {option}\n  legal: {', '.join(legal)}\n  hint: {meant(value, legal, 'one')}"
            for value in values
            if value not in legal
        ]
    if mistakes:
        raise refuse(mistakes)
    wanted = [one for one in corpus if not names or one.name in names]
    needed = _in_modes(proofs, modes, box)
    in_modes = {one.name: needed(one) for one in wanted}
    wanted = [one for one in wanted if in_modes[one.name]]
    if not wanted:
        raise LabError("no mutant is chosen by these options", hint="leave out --mode or --only")
    seen = machine()

    def why_not(mode: str) -> str:
        verdict = seen.choose(mode)[1] if box == "auto" else seen.can(box, mode)
        return "" if verdict.ok else f"{mode}: {verdict.why}"

    chosen: list[AnyMutant] = []
    left_out: dict[str, str] = {}
    for one in wanted:
        fitting = asked_of(one, judged, proofs)
        if isinstance(fitting, str):
            left_out[one.name] = fitting
        elif why := "; ".join(filter(None, map(why_not, sorted(in_modes[one.name])))):
            left_out[one.name] = why
        else:
            chosen.append(fitting)
    if not chosen and judged.name != REFNET:
        raise LabError(
            f"no mutant fits {judged.name}: {'; '.join(dict.fromkeys(left_out.values()))}",
            hint="write your own for it: --from FILE, docs/mutants.md",
        )
    return chosen, left_out


def _in_modes(proofs: Mapping[str, Proof], modes: Sequence[str], box: str) -> Callable[[AnyMutant], frozenset[str]]:
    """The modes that a box must carry for a mutant, of those asked for (any, where none is named); none where it does
    not show itself in them."""
    labs = {name: load_lab(name) for name in lab_names()}
    options = Options(out=Path(), modes=tuple(modes), level="extended", box=box)

    def needed(one: AnyMutant) -> frozenset[str]:
        if isinstance(one, Mutant):
            return frozenset({one.mode}) if not modes or one.mode in modes else frozenset()
        own = replace(options, labs=(one.lab,)) if one.lab else options
        cells = [cell for id in one.caught_by if (cell := cell_for(proofs[id], labs, own)) is not None]
        if len(cells) < len(one.caught_by):
            return frozenset()
        return frozenset(cell.mode for cell in cells).union(*(visited(cell.scene) for cell in cells))

    return needed


def _near(name: str, known: Sequence[str]) -> str:
    return meant(name, known, "fixtures/mutants holds those there are")


def _try_all(
    units: Sequence[Planned],
    chosen: Sequence[AnyMutant],
    kills: Kills,
    folder: Path,
    places: Places,
    console: Console,
) -> int:
    """Every unit in a process of its own; answers the signal that ended it, or 0."""
    (folder / "units").mkdir()
    jobs: dict[Job, Unit] = {}
    for number, one in enumerate(units, 1):
        path = folder / "units" / f"{number:02}.json"
        one.unit.write(path)
        # A build has turned red at a deadline; nobody wants to know whether it would have been right a little later.
        hurry = {} if one.is_busy else {LATE_VARIABLE: "no"}
        jobs[Job(places.trial, (str(path),), path.with_suffix(".log"), hurry, one.is_busy)] = one.unit

    def hear(job: Job, line: str) -> None:
        del job
        told = Outcome.from_json(json.loads(line))
        kills.outcomes.append(told)
        kills.write(folder)
        _say(console, f"[{len(kills.outcomes)}/{len(chosen)}] {one_line(told)}")

    def ended(job: Job, code: int) -> None:
        told = {one.name for one in kills.outcomes}
        for name in jobs[job].names:
            if name not in told:
                words = (job.log.read_text(errors="replace").strip().splitlines() or ["without a word"])[-1]
                hear(job, json.dumps(_untold(name, jobs[job], f"its process ended with {code}: {words}").to_json()))

    try:
        with sigterm_raises():
            crew_of(units).run(list(jobs), hear, ended)
    except BaseException as error:  # a signal: what is not tried yet is broken, and the files say so
        told = {one.name for one in kills.outcomes}
        rest = [(name, unit) for unit in jobs.values() for name in unit.names if name not in told]
        kills.outcomes += [_untold(name, unit, "the run ended before this was tried") for name, unit in rest]
        kills.exit = kills.verdict
        kills.write(folder)
        if isinstance(error, KeyboardInterrupt):
            return signal.SIGINT
        if isinstance(error, Terminated):
            return signal.SIGTERM
        raise
    return 0


def crew_of(units: Sequence[Planned]) -> Crew:
    """Some labs for each processor; beside those that mostly wait, half of the processors for those that do not."""
    processors = len(os.sched_getaffinity(0))
    has_both = len({one.is_busy for one in units}) > 1
    return Crew(_PER_PROCESSOR * processors, max(1, processors // 2) if has_both else processors)


def _untold(name: str, unit: Unit, reason: str) -> Outcome:
    kind = "fault" if unit.lab else "build"
    return Outcome(name, kind, unit.lab or "-", ",".join(unit.modes) or "-", BROKEN, complaints=(f"{name}: {reason}",))


def one_line(one: Outcome) -> str:
    """`killed fdb-entry-may-age mixed vxlan by VXLAN-05, VXLAN-06 4.1 s`; of others what is wrong."""
    fate = one.fate if one.fate == KILLED else one.fate.upper()
    head = f"{fate} {one.name} {one.lab} {one.mode}"
    if one.fate != KILLED:
        return f"{head}: {'; '.join(one.complaints).removeprefix(f'{one.name}: ')}".replace("\n", " ")
    beside = f" (beside: {'; '.join(one.complaints)})" if one.complaints else ""
    return f"{head} by {', '.join(one.red)} {one.seconds:.1f} s{beside}"


def summary(kills: Kills, path: Path) -> list[str]:
    """The end of a run: what did not go as it should, what a ping would have told, and one line for machines."""
    lines = ["", *(one_line(one) for one in kills.outcomes if one.fate != KILLED)]
    noticed = {word: len(names) for word, names in kills.noticed.items()}
    lines += [
        f"a ping between all pods would have noticed {noticed['ping']}; only headers or tables betray "
        f"{noticed['headers_or_tables_alone']}; of {noticed['not_pinged']} nobody knows",
        f"the kill matrix: {shown(path.with_suffix('.svg'))}",
    ]
    counts = " ".join(f"{fate}={count}" for fate, count in kills.totals.items())
    score = "none" if kills.score is None else f"{100 * kills.score:.1f}"
    return [*lines, f"tunlab: exit={kills.exit} {counts} score={score} results={shown(path)}"]


def _say(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True)
    console.file.flush()
