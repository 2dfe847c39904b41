"""The board of a class, what is written down of an exercise, and what one has solved so far."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tunlab.command.classroom import need_memory
from tunlab.errors import LabError, WorldError
from tunlab.exercise.board import BoardServer, Seat, board_lines, board_page, is_students, read_board
from tunlab.exercise.progress import note_solved, progress_file, read_progress
from tunlab.exercise.record import FILE, Record, read_record, write_record
from tunlab.lab.load import load_lab

RECORD = Record("swallowed", False, "pod1", "ping", (("node1", "ip route"),), begun_at=0)
SEAT = Seat("student1", "<b>swallowed</b>", "working", 3, 2, 1, True, ("STATE-01", "<script>"))


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where labs stand; and a folder for what is kept of a user."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "tunlab").mkdir(mode=0o700)
    return tmp_path / "tunlab"


def sit(runtime: Path, name: str, record: Record | None) -> Path:
    folder = runtime / name
    folder.mkdir(mode=0o700)
    if record is not None:
        write_record(folder, record)
    return folder


def test_a_record_is_read_as_it_was_written_and_nothing_else_is(runtime: Path) -> None:
    folder = sit(runtime, "student1", RECORD)
    assert read_record(folder) == RECORD
    (folder / FILE).write_text('{"exercise": "swallowed"}')
    with pytest.raises(WorldError, match=r"^student1: .*exercise\.json: not what this program wrote\n"):
        read_record(folder)


def test_students_sit_by_number_and_other_labs_do_not(runtime: Path) -> None:
    for name in ("student10", "student9", "mixed", "students"):
        sit(runtime, name, RECORD)
    assert [seat.student for seat in read_board()] == ["student9", "student10"]
    assert not any(map(is_students, ("student", "student1x", "exercise")))


def test_a_seat_says_how_far_its_student_is(runtime: Path) -> None:
    sit(runtime, "student1", replace(RECORD, begun_at=time.time() - 150))
    sit(runtime, "student2", RECORD.checked(("STATE-01",), works=False))
    sit(runtime, "student3", RECORD.checked(("STATE-01",), works=False).checked((), works=True))
    sit(runtime, "student4", replace(RECORD, is_secret=True, seed=3))
    (sit(runtime, "student5", None) / FILE).write_text("{")
    seats = read_board()
    assert [seat.state for seat in seats] == ["waiting", "working", "solved", "waiting", "dead"]
    assert [seat.red for seat in seats] == [(), ("STATE-01",), (), (), ()]
    assert seats[3].exercise == "a drawn exercise"
    assert (seats[0].minutes, seats[2].checks) == (2, 2)


def test_the_page_escapes_whatever_it_shows() -> None:
    page = board_page([SEAT])
    assert "<script>" not in page and "<b>" not in page
    assert "&lt;script&gt;" in page and "1 + solution" in page
    assert list(board_lines([SEAT]))[1].split()[:2] == ["student1", "<b>swallowed</b>"]


@pytest.fixture
def server() -> Iterator[BoardServer]:
    with BoardServer(0, lambda: [SEAT]) as serving:
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield serving
        finally:
            serving.shutdown()
            thread.join()


def get(server: BoardServer, path: str = "", host: str = "") -> tuple[int, str, str]:
    request = urllib.request.Request(server.address(path), headers={"Host": host} if host else {})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


def test_the_board_is_served_on_loopback_under_its_own_name_alone(server: BoardServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert get(server) == (200, "text/html; charset=utf-8", board_page([SEAT]))
    status, kind, text = get(server, "board.json")
    assert (status, kind, json.loads(text)["students"]) == (200, "application/json; charset=utf-8", [SEAT.as_json()])
    assert get(server, "etc/passwd")[0] == 404
    assert get(server, host=f"evil.example:{server.server_port}")[0] == 421


def test_too_many_students_are_told_how_many_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunlab.command.classroom.free_mib", lambda: 512 + 3 * 208 + 100)
    mixed = load_lab("mixed")
    need_memory([(mixed, "namespaces")] * 3)
    with pytest.raises(
        LabError, match=r"^--students: 4: their labs need 832 MiB of memory, 724 are free: 3 fit\n"
    ) as said:
        need_memory([(mixed, "namespaces")] * 4)
    assert said.value.hint == "./lab class --students 3"


def test_what_was_solved_is_remembered_with_the_best_time_that_was_ones_own(runtime: Path) -> None:
    assert read_progress() == {}
    solved = replace(RECORD, solved_at=RECORD.begun_at + 300, hints=2)
    for one in (solved, replace(solved, solved_at=RECORD.begun_at + 60, saw_solution=True)):
        note_solved(one)
    found = read_progress()["swallowed"]
    assert (found.times, found.best_minutes, found.hints) == (2, 5.0, 2)
    progress_file().write_text("[]")
    with pytest.raises(WorldError, match=r"exercises\.json: not what this program wrote\n"):
        read_progress()
