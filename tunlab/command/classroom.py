"""The task `class`: a lab with an exercise for each student, side by side on one machine, and the board over them."""

from __future__ import annotations

import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from tunlab.box.machine import machine
from tunlab.command import exercise as one
from tunlab.command.doctor import memory_mib
from tunlab.errors import LabError
from tunlab.exercise.board import STUDENT, BoardServer, board_json, board_lines, read_board, student_names
from tunlab.lab.topology import Mode, Topology
from tunlab.live import standing

_SPARED_MIB = 512  # for everything else on the machine, and for one check
_MOST_STUDENTS = 99


def run(
    *,
    students: int,
    exercise: str,
    level: int,
    seed: int,
    box: str,
    shows_board: bool,
    as_json: bool,
    port: int,
    ends: bool,
) -> None:
    """Prepare a class, show its board, or end it: one of them."""
    asked = [name for name, given in (("--students", students), ("--board", shows_board), ("--down", ends)) if given]
    if len(asked) > 1:
        raise LabError(f"class: {' and '.join(asked)}: one of them", hint="./lab class --students 8")
    if as_json and (asked not in ([], ["--board"]) or port):
        others = [*asked, *(["--port"] if port else [])]
        raise LabError(f"class: --json prints the board: not with {others[-1]}", hint="./lab class --json")
    drawing = (("--exercise", exercise), ("--level", level), ("--seed", seed), ("--box", box != "auto"))
    for name, given, wanted in (*((*each, "--students") for each in drawing), ("--port", port, "--board")):
        if given and wanted not in asked:
            raise LabError(f"class: {name} goes with {wanted}", hint=f"./lab help class; or leave {name} out")
    if ends:
        down()
    elif shows_board or as_json:
        board(port, as_json=as_json)
    elif not students:
        raise LabError("class: for how many?", hint="./lab class --students 8; then ./lab class --board")
    else:
        prepare(students, exercise, level, seed, box)


def prepare(students: int, exercise: str, level: int, seed: int, box: str) -> None:
    """Bring up a lab for each student, one after the other. What was begun is taken down if one of them fails."""
    if students > _MOST_STUDENTS:
        raise LabError(f"--students: {students}: more than {_MOST_STUDENTS}", hint="share them among machines")
    if exercise and (level or seed):
        raise LabError(f"--exercise: {exercise}, or drawn by --level and --seed: not both", hint="leave one out")
    if there := student_names():
        raise LabError(f"class: {len(there)} labs of a class stand already", hint="./lab class --down ends them")
    shelf = one.open_shelf()
    first = seed or one.draw_seed()
    seeds = [None if exercise else first + number for number in range(students)]
    chosen = [shelf.find(exercise) if drawn is None else shelf.draw(drawn, level) for drawn in seeds]
    need_memory([(shelf.labs[each.lab], _box_for(each.mode, box)) for each in chosen])
    begun = time.monotonic()
    names = [f"{STUDENT}{number}" for number in range(1, students + 1)]
    try:
        for name, each, drawn in zip(names, chosen, seeds, strict=True):
            with standing.locked(name), redirect_stdout(StringIO()):
                one.begin(name, each, drawn, box)
            what = each.name if drawn is None else f"drawn by seed {drawn}, level {each.level}"
            print(f"{name}: {what}", flush=True)
    except BaseException:
        down()
        raise
    print(f"{students} labs stand after {time.monotonic() - begun:.0f} s")
    print(f"Each student: ./lab exercise --symptom --lab {names[0]}, ./lab shell node1 --lab {names[0]}, "
          f"./lab check --lab {names[0]}")  # fmt: skip
    print("You: ./lab class --board, ./lab class --down")


def need_memory(labs: list[tuple[Topology, str]]) -> None:
    """Raises LabError where they do not fit into the memory that is free, with the number that does."""
    needs = [memory_mib(len(lab.nodes), box) for lab, box in labs]
    free = free_mib() - _SPARED_MIB
    if sum(needs) > free:
        fit = next(number for number in range(len(needs), -1, -1) if sum(needs[:number]) <= free)
        raise LabError(
            f"--students: {len(needs)}: their labs need {sum(needs)} MiB of memory, {max(free, 0)} are free: {fit} fit",
            hint=f"./lab class --students {fit}" if fit else "./lab down --all ends what else stands",
        )


def free_mib() -> int:
    """Memory that new processes may take: the machine's, or this group's if that is less."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) >> 10
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = ((group / f"memory.{name}").read_text().strip() for name in ("max", "current"))
    except OSError:
        return free
    return free if limit == "max" else min(free, (int(limit) - int(used)) >> 20)


def _box_for(mode: Mode, box: str) -> str:
    return machine().choose(mode)[0] if box == "auto" else box


def board(port: int, *, as_json: bool) -> None:
    """Print the board as JSON; or print it, and serve its page until Ctrl-C."""
    seats = read_board()
    if as_json:
        print(board_json(seats))
        return
    if not seats:
        raise LabError("class: no class stands", hint="./lab class --students 8")
    with BoardServer(port) as server:
        print("\n".join(board_lines(seats)))
        json_address = server.address("board.json")
        server.serve_until_ctrl_c(f"\nthe board is on {server.address()} until Ctrl-C; as JSON: {json_address}")


def down() -> None:
    """End the labs of all students."""
    names = student_names()
    for name in names:
        with standing.locked(name):
            standing.end(name)
    print(f"{len(names)} labs of the class are gone" if names else "no class stands")
