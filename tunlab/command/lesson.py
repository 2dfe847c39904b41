"""Lessons: listing them, standing up the lab of one, and walking through it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from tunlab.box.machine import machine
from tunlab.command import standing as tasks
from tunlab.errors import LabError, TunlabError, WorldError
from tunlab.lab.load import load_lab
from tunlab.lab.topology import Topology
from tunlab.lesson.ground import StandingGround
from tunlab.lesson.model import NO_SYSTEM, Lesson
from tunlab.lesson.progress import Progress, progress_of
from tunlab.lesson.read import find_lesson, lesson_names, read_lesson
from tunlab.live import standing
from tunlab.live.standing import StandingLab


def lesson(name: str = "", step: int = 0, run: bool = False, reset: bool = False) -> None:
    """Walk through a lesson, or list them all."""
    if not name:
        if step or run or reset:
            raise LabError("lesson: which one?", hint="./lab lesson NAME; ./lab lesson alone lists them")
        return _list()
    chosen = read_lesson(find_lesson(name))
    if step > len(chosen.steps):
        raise LabError(
            f"--step {step}: {chosen.name} has {len(chosen.steps)} steps\n  legal: 1 to {len(chosen.steps)}",
            hint=f"./lab lesson {name}",
        )
    topology, progress = load_lab(chosen.lab), progress_of(chosen.path)
    if reset:
        progress.forget()
        if topology.name in standing.standing_names():
            tasks.down(topology.name)
        if not (step or run):
            print(f"{chosen.name} begins anew: ./lab lesson {name}")
            return None
    with _own_lab(chosen, topology, ends_with_us=run) as stands:
        if run:
            _walk(chosen, stands, progress, step or 1, None)
        else:
            reached = progress.read()
            _by_hand(chosen, stands, progress, step or (reached if reached <= len(chosen.steps) else 1), name)
    return None


def _list() -> None:
    """All lessons in the order of the course; what one has gone through is marked."""
    lessons = sorted((read_lesson(find_lesson(each)) for each in lesson_names()), key=lambda one: one.order)
    width = max((len(one.name) for one in lessons), default=0)
    for chosen in lessons:
        done, count = progress_of(chosen.path).read() - 1, len(chosen.steps)
        state = "done" if done >= count else f"step {done + 1} of {count}" if done else f"{count} steps"
        where = load_lab(chosen.lab).name + (f", {chosen.mode}" if chosen.mode else "")
        print(f"{chosen.name:<{width}}  {state:<12}  {where}\n  {chosen.title}")


def _by_hand(chosen: Lesson, stands: StandingLab, progress: Progress, start: int, name: str) -> None:
    """With somebody who types. Ctrl-C and the end of input leave the lab standing and the progress kept."""
    lab = stands.name
    kept = f"The lab stands, and the progress is kept: ./lab lesson {name} goes on, ./lab down {lab} ends the lab."
    if start > 1:
        print(f"{chosen.name}: going on at step {start}; --step 1 begins again")
    try:
        reached = _walk(chosen, stands, progress, start, _typed)
        if not reached:
            print(f"\n{kept}")
            return
        print(f"\n{chosen.name}: that was the last step.")
        ends = (_typed(f"Take the lab {lab} down? [y/N] ") or "").strip().lower() in ("y", "yes")
    except KeyboardInterrupt:
        print(f"\n{kept}")
        raise
    if ends:
        tasks.down(lab)
    else:
        print(f"It still stands: ./lab down {lab}")


def _walk(
    chosen: Lesson, stands: StandingLab, progress: Progress, start: int, typed: Callable[[str], str | None] | None
) -> bool:
    from tunlab.lesson.screen import Screen
    from tunlab.lesson.walk import Walk

    print(f"\n{chosen.title} (lab {stands.name}{', mode ' + chosen.mode if chosen.mode else ''})", flush=True)
    ground = StandingGround(stands, chosen.path.parent)
    return Walk(chosen, ground, Screen(), progress, typed).go(start)


def _typed(prompt: str) -> str | None:
    """A line from whoever types; None at the end of input. Without a terminal it is shown, as a terminal would."""
    if sys.stdin is None:
        return None
    by_hand = sys.stdin.isatty()
    if by_hand:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 -- input() edits its line with it
    try:
        said = input(prompt)
    except EOFError:
        print()
        return None
    if not by_hand:
        print(said, flush=True)
    return said


# ------------------------------------------------------------------ the lab
@contextlib.contextmanager
def _own_lab(chosen: Lesson, topology: Topology, *, ends_with_us: bool) -> Iterator[StandingLab]:
    """The lesson's lab: the one that stands, or a new one, which goes at the end where nobody would go on with it."""
    if topology.name in standing.standing_names():
        yield _standing(chosen, topology)
        return
    _stand_up(chosen, stays=not ends_with_us)
    try:
        yield standing.find_standing(topology.name)
    finally:
        if ends_with_us:
            tasks.down(topology.name)


def _standing(chosen: Lesson, topology: Topology) -> StandingLab:
    """The lab that stands already, if it is as the lesson wants it. Raises LabError."""
    hint = f"./lab lesson {chosen.name} --reset takes it down; the lesson then builds its own"
    try:
        stands = standing.find_standing(topology.name)
        stands.box()
    except WorldError as error:
        raise LabError(f"{topology.name}: {error.message}", hint=hint) from error
    state = stands.state
    has = f"{state.system} in mode {state.mode}" if state.system else "no system"
    wants = "no system" if chosen.system == NO_SYSTEM else f"{chosen.system} in mode {chosen.mode}"
    if has != wants or state.doing:
        raise LabError(f"{topology.name} stands with {has}, the lesson wants {wants}", hint=hint)
    if chosen.system != NO_SYSTEM and (
        down := [pod.name for pod in topology.pods if pod.name not in state.pod_addresses]
    ):
        raise LabError(f"{topology.name} stands without {', '.join(down)}", hint=f"./lab launch --lab {topology.name}")
    return stands


def _stand_up(chosen: Lesson, *, stays: bool) -> None:
    if chosen.system != NO_SYSTEM:
        tasks.up(chosen.lab, chosen.system, chosen.mode, stays=stays)
        return
    kind, verdict = machine().choose("none")  # by hand needs no tunnel that this kernel may lack
    if not verdict.ok:
        raise TunlabError(f"no box here: {verdict.why}", hint="./lab doctor")
    tasks.build(chosen.lab, kind)
