"""Whether a repair is one: the symptom is gone, what the fault turned red holds again, and nothing else broke."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from tunlab.check.cell import LabCell
from tunlab.check.convergence import wait_converged
from tunlab.check.matrix import Question
from tunlab.check.note import FILE, LIVE
from tunlab.check.observe import PARTS
from tunlab.check.requirement import Requirement
from tunlab.check.scene import Scene
from tunlab.check.stimuli import START
from tunlab.check.verdict import Verdict
from tunlab.errors import WorldError
from tunlab.exercise.exercise import Exercise, Promise
from tunlab.exercise.planting import run_at
from tunlab.exercise.record import Record
from tunlab.lab.topology import Mode, Topology
from tunlab.live.lab import LiveLab
from tunlab.mutants.bite import Proof, ask
from tunlab.wait import NeverHappened, SystemNeverDid, eventually

PATIENCE_S = 3.0  # the system may take a moment to act on what was repaired
_ROLES = ("taps", "probes")
_LONGEST_REASON = 300


@dataclass(frozen=True, slots=True)
class Finding:
    """What one requirement, or one promise of the exercise, says of the lab."""

    id: str
    title: str
    verdict: Verdict
    reason: str = ""

    @property
    def holds(self) -> bool:
        """Whether nothing is to be said against it."""
        return self.verdict in (Verdict.PASSED, Verdict.NOT_OFFERED)


@dataclass(frozen=True)
class Grade:
    """What a check found. `symptom` is what its command still prints, "" once it is gone."""

    symptom: str
    graded: tuple[Finding, ...]
    besides: tuple[Finding, ...]

    @property
    def works(self) -> bool:
        """Whether it is repaired, and nothing else broke."""
        return not self.symptom and not self.red and not self.unknown

    @property
    def red(self) -> tuple[Finding, ...]:
        """What does not hold, what the fault turned red first."""
        return tuple(one for one in (*self.graded, *self.besides) if one.verdict is Verdict.FAILED)

    @property
    def unknown(self) -> tuple[Finding, ...]:
        """What could not be judged."""
        return tuple(one for one in (*self.graded, *self.besides) if one.verdict is Verdict.BROKEN)


def grade(
    live: LiveLab,
    exercise: Exercise,
    record: Record,
    proofs: Mapping[str, Proof],
    out: Path,
    *,
    lab: Topology,
    besides: bool = True,
    patience_s: float = PATIENCE_S,
) -> Grade:
    """Judge a lab as it stands, by all that can be asked without doing anything to it. Raises WorldError.

    What is beside the repair is asked only if `besides`, and once the symptom is gone: a fault turns much red.
    `lab` is the lab under its own name.
    """
    for role in _ROLES:  # what a check that was cut short has left
        live.box.drop_role(role)
    try:
        symptom = _symptom(live, exercise, record, patience_s)
        if not symptom:
            with contextlib.suppress(SystemNeverDid):  # the requirements will say so, with all that is missing
                wait_converged(live, patience_s)
        cell = LabCell(live, exercise.mode, out)
        graded = _judge(cell, proofs, exercise.graded_by)
        promises = _promises(live, exercise, out, 0.0 if symptom else patience_s)
        others: tuple[Finding, ...] = ()
        if besides and not symptom:
            others = _judge(cell, proofs, _core(proofs, lab, exercise))
        return Grade(symptom, (*graded, *promises), others)
    finally:
        for role in _ROLES:
            live.box.drop_role(role)


def _symptom(live: LiveLab, exercise: Exercise, record: Record, patience_s: float) -> str:
    """What the symptom's command prints; "" where it no longer shows the fault."""
    what = f"{live.topology.name}: the symptom is gone"

    def look() -> str:
        printed = run_at(live, record.symptom)
        return printed if exercise.symptom.is_in(printed) else ""

    try:
        return eventually(look, lambda left: not left, within_s=patience_s, every_s=0.2, late_s=0.0, what=what)
    except NeverHappened as error:
        return str(error.last)


def _core(proofs: Mapping[str, Proof], lab: Topology, exercise: Exercise) -> tuple[str, ...]:
    """What must hold beside: as the exercise says, else the core of this lab and mode."""
    if exercise.besides is not None:
        return exercise.besides
    core = [one.requirement for one in proofs.values() if _is_core(one.requirement, lab, exercise.mode)]
    return tuple(one.id for one in core if one.id not in exercise.graded_by)


def _is_core(declared: Requirement, lab: Topology, mode: Mode) -> bool:
    return declared.level == "core" and not declared.scene and declared.applies(lab, mode)


def _judge(cell: LabCell, proofs: Mapping[str, Proof], ids: Collection[str]) -> tuple[Finding, ...]:
    """Look at the lab as far as these requirements do, and ask them.

    How far that is they tell by looking: what was not there the first time is observed for the next. Those that would
    do something to the lab, or that want to have seen it start, are left out.
    """
    parts: frozenset[str] = frozenset()
    while True:
        cell.look(parts)
        found, looked_at = [], set[str]()
        for id in ids:
            with cell.noted(only_looks=True) as notes:
                said = ask(cell, proofs[id])
            if not {LIVE, START, FILE} & notes:
                looked_at |= notes & PARTS
                reason = (said.reason.splitlines() or [""])[0][:_LONGEST_REASON]
                found.append(Finding(id, proofs[id].requirement.title, said.verdict, reason))
        if looked_at <= parts:
            return tuple(found)
        parts |= looked_at


# ------------------------------------------------------------------ promises
def _promises(live: LiveLab, exercise: Exercise, out: Path, patience_s: float) -> tuple[Finding, ...]:
    """Ask all promises at once, until they are kept or patience ends."""
    if not exercise.must:
        return ()
    scene = Scene(live, exercise.mode, "exercise", out)
    questions = [_question(scene, one) for one in exercise.must]
    with ExitStack() as stack:
        for target in dict.fromkeys(one.target for one in exercise.must):
            ports = {
                p: sorted({o.port for o in exercise.must if (o.target, o.protocol) == (target, p)})
                for p in ("tcp", "udp")
            }
            stack.enter_context(scene.listening(target, tcp=ports["tcp"], udp=ports["udp"]))

        def mismatches() -> tuple[str, ...]:
            matrix = scene.ask(questions)
            if gaps := matrix.gaps():
                raise WorldError("; ".join(gaps))
            return matrix.mismatches()

        what = f"{exercise.name}: what must be is"
        try:
            eventually(mismatches, lambda lines: not lines, within_s=patience_s, late_s=0.0, in_a_row=2, what=what)
            wrong: tuple[str, ...] = ()
        except NeverHappened:
            wrong = mismatches()
    return tuple(
        Finding(f"MUST-{number}", _sentence(one), *_verdict(question, wrong))
        for number, (one, question) in enumerate(zip(exercise.must, questions, strict=True), start=1)
    )


def _verdict(question: Question, wrong: Collection[str]) -> tuple[Verdict, str]:
    for line in wrong:
        if line.startswith(f"{question.name}: "):
            return Verdict.FAILED, line
    return Verdict.PASSED, ""


def _question(scene: Scene, one: Promise) -> Question:
    expect = None if one.answered else scene.silence()
    asked = scene.question(one.source, one.target, one.protocol, port=one.port, expect=expect)
    if one.answered and one.target not in scene.workloads:  # whose address a host saw is not what this is about
        return scene.expecting(asked, replace(asked.expected, saw=None))
    return asked


def _sentence(one: Promise) -> str:
    how = "ICMP" if one.protocol == "icmp" else f"{one.protocol.upper()} {one.port}"
    return f"{one.source} asks {one.target} by {how} and gets {'an' if one.answered else 'no'} answer"
