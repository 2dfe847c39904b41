"""Break and fix: exercise, check, hint."""

from __future__ import annotations

import json
import random
import tempfile
import textwrap
from collections.abc import Iterable, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunlab.errors import LabError
from tunlab.exercise.board import is_students
from tunlab.exercise.progress import note_solved, progress_file, read_progress
from tunlab.exercise.record import Record, read_record, write_record
from tunlab.live import standing
from tunlab.live.standing import StandingLab

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tunlab.exercise.exercise import Exercise
    from tunlab.exercise.grading import Finding, Grade
    from tunlab.lab.topology import Topology
    from tunlab.mutants.bite import Proof

NAME = "exercise"  # under which the lab of one exercise stands
WORKS, NOT_YET, UNKNOWN = 0, 1, 2
_COLUMNS = 80
_LARGEST_SEED = 9999
_STILL = "The agents on all nodes are stopped, so that nothing is repaired behind your back."


@dataclass(frozen=True)
class Shelf:
    """All exercises, and what they rest on."""

    exercises: Mapping[str, Exercise]
    proofs: Mapping[str, Proof]
    labs: Mapping[str, Topology]

    def find(self, name: str) -> Exercise:
        """The exercise of that name. Raises LabError."""
        from tunlab.lab.mistakes import meant

        if name not in self.exercises:
            legal = ", ".join(self.exercises)
            hint = meant(name, self.exercises, "./lab exercise --list tells what each is about")
            raise LabError(f"{name}: no such exercise\n  legal: {legal}", hint=hint)
        return self.exercises[name]

    def draw(self, seed: int, level: int) -> Exercise:
        """One of that level (of any, if 0), always the same for the same seed."""
        among = [one for one in self.exercises.values() if level in (0, one.level)]
        return random.Random(seed).choice(among)


def open_shelf() -> Shelf:
    """Read all exercises, and the requirements and faults that they name. Raises LabError with all mistakes."""
    from tunlab.exercise.exercise import Known, load_exercises
    from tunlab.lab.load import lab_names, load_lab
    from tunlab.mutants.bite import load_core, load_proofs

    proofs = load_proofs()
    labs = {name: load_lab(name) for name in lab_names()}
    mutants = {one.name: one for one in load_core(proofs)}
    known = Known(labs, {id: one.requirement for id, one in proofs.items()}, mutants)
    return Shelf(load_exercises(known), proofs, labs)


# ------------------------------------------------------------------ exercise
def exercise(
    *,
    name: str = "",
    lists: bool = False,
    draws: bool = False,
    seed: int = 0,
    level: int = 0,
    box: str = "auto",
    again: bool = False,
    lab: str = "",
    as_json: bool = False,
) -> None:
    """Bring a lab up, plant a fault in it and show its symptom; or list what there is; or show the symptom again."""
    asked = [
        word for word, given in ((name, name), ("--list", lists), ("--random", draws), ("--symptom", again)) if given
    ]
    if len(asked) > 1:
        raise LabError(f"exercise: {' and '.join(asked)}: one of them", hint="./lab help exercise")
    if seed and not draws:
        raise LabError("exercise: --seed goes with --random", hint=f"./lab exercise --random --seed {seed}")
    if level and (name or again):
        raise LabError(
            "exercise: --level goes with --random and --list", hint=f"./lab exercise --random --level {level}"
        )
    if as_json and (name or draws or again):
        raise LabError("exercise: --json goes with --list", hint="./lab exercise --list --json")
    if box != "auto" and not (name or draws):
        raise LabError("exercise: --box goes with a NAME or --random", hint="leave it out")
    if lab and not again:
        raise LabError(f"exercise: --lab goes with --symptom; the lab will stand as {NAME}", hint="leave it out")
    if again:
        show_again(lab)
        return
    shelf = open_shelf()
    if not name and not draws:
        listing(shelf, level, as_json=as_json)
        return
    drawn = (seed or draw_seed()) if draws else None
    chosen = shelf.find(name) if drawn is None else shelf.draw(drawn, level)
    with standing.locked(NAME):
        stands, record, shown = begin(NAME, chosen, drawn, box)
    print(tell(chosen, record, shown, stands.name))


def draw_seed() -> int:
    """A seed short enough to be called across a room."""
    return random.SystemRandom().randint(1, _LARGEST_SEED)


def show_again(lab: str) -> None:
    """What one started from, with what the command prints now."""
    from tunlab.exercise.planting import run_at

    with _working_on(lab) as (stands, record):
        print(tell(open_shelf().find(record.exercise), record, run_at(stands.live(), record.symptom), stands.name))


def begin(lab: str, chosen: Exercise, seed: int | None, box: str = "auto") -> tuple[StandingLab, Record, str]:
    """A fresh lab under that name, whose lock the caller holds, with the fault in it; what one sees of it."""
    from tunlab.command.standing import raise_refnet
    from tunlab.exercise.planting import plant

    what = "a lab" if seed is not None else f"the lab {chosen.lab} in mode {chosen.mode}"
    print(f"bring up {what} …", flush=True)
    try:
        with redirect_stdout(StringIO()):
            stands = raise_refnet(lab, chosen.lab, chosen.mode, box)
        record, shown = plant(stands.live(), chosen, seed=seed)
        write_record(stands.folder, record)
        return stands, record, shown
    except BaseException:
        standing.end(lab)  # half an exercise is none
        raise


def tell(chosen: Exercise, record: Record, shown: str, lab: str) -> str:
    """What one starts from."""
    from tunlab.exercise.planting import typed

    head = f"{record.name}, level {chosen.level}: lab {chosen.lab} in mode {chosen.mode}, standing as {lab}"
    if record.seed is not None:
        head += f" (./lab exercise --random --seed {record.seed} draws it again)"
    where = f" --lab {lab}" if lab != NAME else ""
    rows = [
        _fold(head), "",
        _fold(chosen.symptom.says), "",
        f"$ {typed(record.symptom, lab)}", *shown.splitlines(), "",
        *([_fold(_STILL), ""] if chosen.freeze else []),
        f"Look around: ./lab status {lab}, ./lab shell node1{where}, ./lab trace pod1 pod2{where}",
        f"Then: ./lab check{where}. Stuck? ./lab hint{where}",
    ]  # fmt: skip
    return "\n".join(rows)


def listing(shelf: Shelf, level: int, *, as_json: bool) -> None:
    """The exercises with their level and symptom, and which of them were solved."""
    solved = read_progress()
    rows = [one for one in shelf.exercises.values() if level in (0, one.level)]
    if as_json:
        told = [
            {
                "name": one.name, "level": one.level, "lab": one.lab, "mode": one.mode, "symptom": one.symptom.says,
                "solved": solved[one.name].times if one.name in solved else 0,
            }
            for one in rows
        ]  # fmt: skip
        print(json.dumps({"schema": "tunlab/exercises/v1", "exercises": told}, indent=1))
        return
    for one in rows:
        mark = f", solved {_times(solved[one.name].times)}" if one.name in solved else ""
        print(f"{one.name}  (level {one.level}, {one.lab}, {one.mode}{mark})")
        print(textwrap.fill(one.symptom.says, _COLUMNS, initial_indent="  ", subsequent_indent="  "))
    if solved:
        print(f"\nwhat you solved is kept in {progress_file()}")


# ------------------------------------------------------------------ check
def check(lab: str = "", *, as_json: bool = False) -> int:
    """Judge the repair: 0 it works and nothing else broke, 1 not yet, 2 it could not be judged."""
    with _working_on(lab) as (stands, record):
        shelf = open_shelf()
        chosen = shelf.find(record.exercise)
        found = _graded(stands, chosen, record, shelf)
        after = record.checked(tuple(one.id for one in found.red), works=found.works)
        write_record(stands.folder, after)
        if found.works and chosen.freeze:
            live = stands.live()
            live.installation.thaw(live.node_names())
    if as_json:
        print(json.dumps(check_json(found, after), indent=1))
    else:
        print("\n".join(_report(found, chosen, after)))
    if found.works and record.solved_at is None and not is_students(stands.name):
        note_solved(after)
    if found.works:
        return WORKS
    return NOT_YET if found.symptom or found.red else UNKNOWN


@contextmanager
def _working_on(lab: str) -> Iterator[tuple[StandingLab, Record]]:
    """The standing lab with an exercise in it, which nobody else changes meanwhile."""
    stands = standing.find_standing(lab) if lab else _only_exercise()
    with standing.locked(stands.name):
        record = read_record(stands.folder)
        if record is None:
            raise LabError(f"{stands.name}: no exercise is in this lab", hint="./lab exercise --list")
        yield stands, record


def _only_exercise() -> StandingLab:
    names = [name for name in standing.standing_names() if read_record(standing.folder_of(name)) is not None]
    if not names:
        raise LabError("no exercise is under way", hint="./lab exercise --list")
    if len(names) > 1:
        raise LabError(f"which lab: exercises are in {', '.join(names)}", hint=f"choose one: --lab {names[0]}")
    return standing.find_standing(names[0])


def _graded(stands: StandingLab, chosen: Exercise, record: Record, shelf: Shelf) -> Grade:
    from tunlab.exercise.grading import grade

    with tempfile.TemporaryDirectory() as folder:
        return grade(stands.live(), chosen, record, shelf.proofs, Path(folder), lab=shelf.labs[chosen.lab])


def check_json(found: Grade, record: Record) -> dict[str, Any]:
    """A check as JSON values; the keys are a promise."""
    return {
        "schema": "tunlab/check/v1",
        "exercise": record.name,
        "works": found.works,
        "symptom_gone": not found.symptom,
        "graded": [_finding(one) for one in found.graded],
        "besides": [_finding(one) for one in found.besides],
        "checks": record.checks,
        "hints": record.hints,
    }


def _finding(one: Finding) -> dict[str, str]:
    return {"id": one.id, "title": one.title, "verdict": one.verdict.value, "reason": one.reason}


def _report(found: Grade, chosen: Exercise, record: Record) -> Iterable[str]:
    if found.works:
        asked = len(found.graded) + len(found.besides)
        yield f"works: the symptom is gone, and all {asked} requirements that were asked hold"
        yield ""
        yield _fold(f"It was: {chosen.title}. {chosen.learned}")
        yield _fold(f"Why it stayed: {chosen.survives}")
        if chosen.freeze:
            yield "All agents go on now."
        minutes = max(1, round(record.minutes))
        yield f"{record.exercise}: {minutes} min, checked {_times(record.checks)}, hints: {record.hints}"
        return
    yield "not yet"
    if found.symptom:  # why something is red would be the solution, more often than not
        yield "  the symptom is still there:"
        yield from (f"    {line}" for line in found.symptom.splitlines() if line.strip())
        yield from _rows("as long as it is, this does not hold:", found.red, tells_why=False)
        return
    yield "  the symptom is gone, but that is not all:"
    yield from _rows("the fault broke this:", [one for one in found.graded if one in found.red])
    yield from _rows("this should hold, too:", [one for one in found.besides if one in found.red])
    yield from _rows("this could not be judged:", found.unknown)


def _rows(head: str, findings: Iterable[Finding], *, tells_why: bool = True) -> Iterable[str]:
    for number, one in enumerate(findings):
        if number == 0:
            yield f"  {head}"
        yield _fold(f"{one.id}  {one.title}", "    ")
        if one.reason and tells_why:
            yield _fold(one.reason, "      ")


# ------------------------------------------------------------------ hint
def hint(lab: str = "", *, solution: bool = False) -> None:
    """Give the next hint, or the commands of the solution."""
    from tunlab.exercise.planting import typed
    from tunlab.mutants.mutant import Step

    with _working_on(lab) as (stands, record):
        shelf = open_shelf()
        chosen = shelf.find(record.exercise)
        if solution:
            write_record(stands.folder, replace(record, saw_solution=True))
            print(_fold(f"{chosen.title}. One way to mend it:"))
            print("\n".join(typed(Step(place, text), stands.name) for place, text in record.solution))
            return
        given = min(record.hints + 1, len(chosen.hints))
        write_record(stands.folder, replace(record, hints=given))
    for number, text in enumerate(chosen.hints[:given], start=1):
        print(_fold(f"{number}. {text}", "   ", first=""))
    if given == len(chosen.hints):
        print(f"that is the last hint; ./lab hint --solution --lab {stands.name} tells all")


def _fold(text: str, indent: str = "", first: str | None = None) -> str:
    return textwrap.fill(
        text,
        _COLUMNS,
        initial_indent=indent if first is None else first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times")
