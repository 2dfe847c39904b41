"""Putting an exercise's fault into a lab that stands, and its symptom on the screen."""

from __future__ import annotations

import shlex
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from tunlab.box.box import Completed
from tunlab.check.cell import LabCell
from tunlab.errors import WorldError
from tunlab.exercise.exercise import Exercise
from tunlab.exercise.record import Record
from tunlab.live.lab import LiveLab
from tunlab.mutants.mutant import Step, fill
from tunlab.mutants.words import LabWords
from tunlab.wait import NeverHappened, eventually

_SHOWS_WITHIN_S = 20.0
_COMMAND_WITHIN_S = 40.0


def plant(live: LiveLab, exercise: Exercise, *, seed: int | None = None) -> tuple[Record, str]:
    """Plant the fault; what is to be written down, and what the symptom's command prints now.

    All names are looked up while all is well. Raises WorldError where the fault does not show.
    """
    with tempfile.TemporaryDirectory() as folder:
        cell = LabCell(live, exercise.mode, Path(folder))
        cell.look(())
        words = LabWords(cell)
        fault, solution, symptom = (
            tuple(Step(step.place, fill(step, words)) for step in steps)
            for steps in (exercise.plant, exercise.solution, (exercise.symptom.command,))
        )
        record = Record(
            exercise=exercise.name,
            is_secret=seed is not None,
            symptom_at=symptom[0].place,
            symptom_run=symptom[0].text,
            solution=tuple((step.place, step.text) for step in solution),
            begun_at=time.time(),
            seed=seed,
        )
        if exercise.freeze:
            live.installation.freeze(live.node_names())
        run_steps(live, fault)
    try:
        shown = eventually(
            lambda: run_at(live, record.symptom),
            exercise.symptom.is_in,
            within_s=_SHOWS_WITHIN_S,
            every_s=0.2,
            what=f"{live.topology.name}: `{record.symptom_run}` at {record.symptom_at} shows the fault",
            blame="lab",
        )
    except NeverHappened as error:
        raise WorldError(str(error), hint="the exercise is no good here: it should say what one sees") from error
    return record, shown


def run_steps(live: LiveLab, steps: Iterable[Step]) -> None:
    """Run commands one after the other, each where it belongs. Raises WorldError at the first that fails."""
    for step in steps:
        _run(live, step, check=True)


def run_at(live: LiveLab, step: Step) -> str:
    """What a command prints there, however it ends."""
    done = _run(live, step, check=False)
    return (done.out + done.err).rstrip("\n")


def typed(step: Step, lab: str) -> str:
    """A step as one types it at this machine's prompt."""
    text = step.text.strip()
    is_plain = not any(sign in text for sign in "\n;|&<>$`'\"(){}*?")
    return f"./lab exec {step.place} --lab {lab} -- {text if is_plain else f'sh -c {shlex.quote(text)}'}"


def _run(live: LiveLab, step: Step, *, check: bool) -> Completed:
    env = live.installation.recipe.shell_env.get(step.place, {})
    argv = ["sh", "-eu", "-c", step.text]
    return live.box.run(step.place, argv, env=env, timeout_s=_COMMAND_WITHIN_S, check=check)
