"""A class of one, from its beginning to its end: what a trainer types, and what a student does."""

from __future__ import annotations

import json
import shlex
import signal
from pathlib import Path

from tests.live.user import User, leaving_no_trace, send, wait_for_line


def test_a_student_finds_the_fault_and_the_board_tells(tmp_path: Path) -> None:
    user = User(tmp_path, more={"XDG_STATE_HOME": str(tmp_path / "state")})
    at = ("--lab", "student1")
    with leaving_no_trace(user):
        assert "student1: no-way-out-of-the-pod\n" in user.does(
            "class", "--students", "1", "--exercise", "no-way-out-of-the-pod"
        )
        assert "1 labs of a class stand already" in user.types("class", "--students", "1").err
        shown = user.does("exercise", "--symptom", *at)
        assert "Network is unreachable" in shown and "no default route" not in shown

        said = user.types("check", *at)
        assert (said.code, said.out.splitlines()[0]) == (1, "not yet")
        assert "VETH-03" in said.out and "wanted" not in said.out
        assert user.does("hint", *at).startswith("1. The error comes from pod3's own kernel.")
        assert seat(user) == {
            "student": "student1", "exercise": "no-way-out-of-the-pod", "state": "working", "minutes": 0, "checks": 1,
            "hints": 1, "saw_solution": False, "red": ["VETH-03"],
        }  # fmt: skip

        (line,) = [line for line in user.does("hint", "--solution", *at).splitlines() if line.startswith("./lab ")]
        user.does(*shlex.split(line)[1:])
        found = json.loads(user.does("check", "--json", *at, within_s=240.0))
        assert (found["works"], found["symptom_gone"]) == (True, True)
        assert {"CONN-01", "VXLAN-01"} <= {one["id"] for one in found["besides"] if one["verdict"] == "passed"}
        assert seat(user)["state"] == "solved"
        with user.begins("class", "--board") as board:
            wait_for_line(board.stdout, "until Ctrl-C")
            assert send(board, signal.SIGINT) == (0, "")
        assert user.does("class", "--down") == "1 labs of the class are gone\n"
    assert not (tmp_path / "state").exists(), "a student's solution is not the trainer's"


def seat(user: User) -> dict[str, object]:
    (one,) = json.loads(user.does("class", "--json"))["students"]
    return {**one, "minutes": 0}


def test_lines_that_make_no_sense_are_refused_before_anything_stands(tmp_path: Path) -> None:
    user = User(tmp_path)
    with leaving_no_trace(user):
        for words, message in (
            (("exercise", "swalowed"), "swalowed: no such exercise"),
            (("exercise", "swallowed", "--random"), "exercise: swallowed and --random: one of them"),
            (("exercise", "--seed", "3"), "exercise: --seed goes with --random"),
            (("exercise", "--random", "--level", "4"), "exercise: --level 4: not one of them"),
            (("check",), "no exercise is under way"),
            (("hint", "--lab", "mixed"), "mixed: no lab of this name stands"),
            (("class",), "class: for how many?"),
            (("class", "--students", "100"), "--students: 100: more than 99"),
            (("class", "--students", "2", "--down"), "class: --students and --down: one of them"),
            (("class", "--board"), "class: no class stands"),
        ):
            said = user.types(*words)
            assert (said.code, said.out, said.err.splitlines()[0]) == (2, "", message)
            assert len(said.err.splitlines()) > 1, f"{words}: no hint"
