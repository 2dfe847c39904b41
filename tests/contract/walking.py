"""Walking through lessons whole on their labs, with wrong answers and right ones, and then the last step once more.

lessons.yaml holds the answers. What depends on a lab's history stands there as {name}, and is asked of the lab here.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import yaml

from tests.live.user import ROOT, Terminal, User, leaving_no_trace
from tunlab.lesson.model import Command, Lesson, Prose
from tunlab.lesson.read import find_lesson, lesson_names, read_lesson

ANSWERS: dict[str, list[list[object]]] = yaml.safe_load((ROOT / "tests" / "contract" / "lessons.yaml").read_text())
FACTS = {
    "node2_tunnel": ("node2", "ip -4 -o addr show vxlan.calico | sed 's/.*inet \\([0-9.]*\\).*/\\1/'"),
}


def grounds() -> dict[str, list[Lesson]]:
    """The lessons by what stands under them: a lab in a mode. One after the other is walked through on the same."""
    lessons = sorted((read_lesson(find_lesson(name)) for name in lesson_names()), key=lambda one: one.order)
    found: dict[str, list[Lesson]] = {}
    for one in lessons:
        found.setdefault("-".join(filter(None, (Path(one.lab).stem, one.mode))), []).append(one)
    return found


GROUNDS = grounds()


def go_through(lessons: list[Lesson], folder: Path) -> None:
    """One lesson after the other on the same lab; nothing of it is left in the end."""
    user = User(folder, more={"XDG_STATE_HOME": str(folder / "state")})
    with leaving_no_trace(user):
        for one in lessons:
            walk(user, one)
            jump(user, one)
        if lessons[0].name == "veth-and-169.254.1.1":
            leave(user, lessons[0])
            meet_a_lab_in_another_mode(user)
        user.does("lesson", lessons[0].name, "--reset")


def walk(user: User, one: Lesson) -> None:
    """Everything in it: Enter at each command, and at each question the wrong answers, a hint, the right one."""
    typed, wrong, right = script(one)
    if any("{" in line for line in typed):  # what the lab alone knows: it must stand to be asked
        user.types("lesson", one.name, stdin=b"")
        typed = [filled(user, line) for line in typed]
    said = user.types("lesson", one.name, "--step", "1", stdin="\n".join([*typed, "n", ""]).encode(), within_s=300)
    assert (said.code, said.err) == (0, ""), said
    assert "that was the last step" in said.out and "still stands" in said.out, said.out
    told = re.findall(r"^(No[:;]|Right:|Not yet|.*: not )", said.out, flags=re.MULTILINE)
    assert (len(told), told.count("Right:")) == (wrong + right, right), said.out
    assert [line for line in said.out.splitlines() if line.startswith("Not yet")] == []


def script(one: Lesson) -> tuple[list[str], int, int]:
    """What is typed, how many of it are wrong answers, and how many right ones."""
    answers = iter(ANSWERS[one.name])
    typed: list[str] = []
    wrong = right = 0
    for item in itertools.chain.from_iterable(step.items for step in one.steps):
        if isinstance(item, Prose):
            continue
        if isinstance(item, Command):
            typed.append("")
            continue
        *mistaken, known = map(str, next(answers))
        typed += [*mistaken, "hint", known]
        wrong, right = wrong + len(mistaken), right + 1
    assert next(answers, None) is None, f"{one.name}: more answers than questions"
    return typed, wrong, right


def filled(user: User, text: str) -> str:
    def fact(found: re.Match[str]) -> str:
        place, line = FACTS[found[1]]
        return user.does("exec", place, "--", "sh", "-c", line).strip()

    return re.sub(r"\{(\w+)\}", fact, text)


def jump(user: User, one: Lesson) -> None:
    """What changes the lab may be done twice: its last step is reached again, on a lab that has been there."""
    last = len(one.steps)
    out = user.does("lesson", one.name, "--step", str(last), "--run", within_s=300)
    assert f"bringing the lab to step {last}" in out
    assert f"Step {last} of {last}" in out and f"Step {last - 1} of" not in out


def leave(user: User, one: Lesson) -> None:
    """In a terminal: Ctrl-C ends a command, then the lesson; the progress is kept, and the terminal is sane."""
    terminal = Terminal(user, "lesson", one.name, "--step", "2")
    terminal.shows("ip neigh show dev eth0", within_s=60.0)
    terminal.shows("pod1$ ")
    terminal.type("ping -i 0.2 192.168.190.203\n")
    terminal.shows("icmp_seq=2")
    terminal.type("\x03")
    terminal.shows("packets transmitted")
    terminal.shows("pod1$ ")
    terminal.waits()
    terminal.type("\x03")
    assert terminal.ends() == 130
    assert "the progress is kept" in terminal.seen and "lab: ended by SIGINT" in terminal.seen
    said = user.types("lesson", one.name, stdin=b"quit\n")
    assert said.code == 0 and "going on at step" in said.out


def meet_a_lab_in_another_mode(user: User) -> None:
    """A lab that somebody has put up in his own way is not taken, nor taken down, without being asked."""
    said = user.types("lesson", "ipip-hop-by-hop", stdin=b"")
    assert (said.code, said.out) == (2, "")
    words = "same-subnet stands with refnet in mode vxlan, the lesson wants refnet in mode ipip hint: "
    assert " ".join(said.err.split()).startswith(words)
    assert "hint: ./lab lesson ipip-hop-by-hop --reset" in said.err
