"""The board of a class: how far each student has come, as values, as JSON and as a page that names nobody's secrets."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from tunlab.errors import TunlabError
from tunlab.exercise.record import read_record
from tunlab.layout import columns
from tunlab.live.standing import folder_of, is_busy, standing_names
from tunlab.loopback import Handler, LoopbackServer

REFRESH_S = 3
STUDENT = "student"
_HEADS = ("student", "exercise", "state", "minutes", "checks", "hints", "still red")
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="{refresh}">
<meta name="viewport" content="width=device-width"><title>tunlab: class</title><style>
:root {{ color-scheme: light dark; font: 18px/1.5 system-ui, sans-serif }}
body {{ margin: 2em auto; max-width: 60em; padding: 0 1em }} table {{ border-collapse: collapse; width: 100% }}
th, td {{ text-align: left; padding: .4em .8em; border-bottom: 1px solid #8886 }} td.number {{ text-align: right }}
tr.solved td {{ background: #2a84 }} tr.dead td {{ background: #c448 }}
</style></head><body><h1>{solved} of {all} solved</h1>
<table><thead><tr>{heads}</tr></thead><tbody>
{rows}
</tbody></table></body></html>
"""


@dataclass(frozen=True, slots=True)
class Seat:
    """One student's lab. `state` is waiting (nothing checked yet), working, solved, busy or dead."""

    student: str
    exercise: str
    state: str
    minutes: int
    checks: int
    hints: int
    saw_solution: bool
    red: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The keys are a promise."""
        return {
            "student": self.student, "exercise": self.exercise, "state": self.state, "minutes": self.minutes,
            "checks": self.checks, "hints": self.hints, "saw_solution": self.saw_solution, "red": list(self.red),
        }  # fmt: skip


def is_students(lab: str) -> bool:
    """Whether a standing lab is one of a class."""
    return lab.startswith(STUDENT) and lab.removeprefix(STUDENT).isdigit()


def student_names() -> list[str]:
    """The labs of the class that stand, by number."""
    names = [name for name in standing_names() if is_students(name)]
    return sorted(names, key=lambda name: int(name.removeprefix(STUDENT)))


def read_board() -> list[Seat]:
    """Every student's lab as it is now."""
    return [_seat(name) for name in student_names()]


def _seat(name: str) -> Seat:
    try:
        record = read_record(folder_of(name))
    except TunlabError:
        return Seat(name, "", "dead", 0, 0, 0, False, ())
    if record is None:
        return Seat(name, "", "busy" if is_busy(name) else "dead", 0, 0, 0, False, ())
    state = "solved" if record.solved_at else "working" if record.checks or record.hints else "waiting"
    red = () if record.solved_at else record.red
    return Seat(
        name, record.name, state, int(record.minutes), record.checks, record.hints, record.saw_solution, red
    )  # fmt: skip


def board_json(seats: Sequence[Seat]) -> str:
    """For programs."""
    return json.dumps({"schema": "tunlab/class/v1", "students": [seat.as_json() for seat in seats]}, indent=1)


def board_page(seats: Sequence[Seat]) -> str:
    """For a projector: it asks for itself anew, and needs no script."""
    return _PAGE.format(
        refresh=REFRESH_S,
        solved=sum(seat.state == "solved" for seat in seats),
        all=len(seats),
        heads="".join(f"<th>{head}</th>" for head in _HEADS),
        rows="\n".join(map(_row, seats)),
    )


def board_lines(seats: Sequence[Seat]) -> Iterator[str]:
    """For a terminal."""
    return columns([_HEADS, *(tuple(map(str, _cells(seat))) for seat in seats)])


def _cells(seat: Seat) -> tuple[str | int, ...]:
    hints = f"{seat.hints} + solution" if seat.saw_solution else seat.hints
    return seat.student, seat.exercise, seat.state, seat.minutes, seat.checks, hints, " ".join(seat.red)


def _row(seat: Seat) -> str:
    cells = [
        f"<td{' class=number' if isinstance(cell, int) else ''}>{html.escape(str(cell))}</td>" for cell in _cells(seat)
    ]
    return f'<tr class="{html.escape(seat.state)}">{"".join(cells)}</tr>'


# ------------------------------------------------------------------ serving it
class BoardServer(LoopbackServer):
    """Serves the board: / is the page, /board.json the same for programs."""

    def __init__(self, port: int, read: Callable[[], list[Seat]] = read_board) -> None:
        self.read = read
        super().__init__(port, _Handler)


class _Handler(Handler):
    server: BoardServer
    policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"

    def do_GET(self) -> None:
        """Answer a browser of this machine; one that was led here by another name is sent away."""
        if self.is_called_by_another_name():
            return
        if self.path == "/":
            self.say(HTTPStatus.OK, "text/html", board_page(self.server.read()).encode())
        elif self.path == "/board.json":
            self.say(HTTPStatus.OK, "application/json", board_json(self.server.read()).encode())
        else:
            self.refuse("there are / and /board.json", HTTPStatus.NOT_FOUND)
