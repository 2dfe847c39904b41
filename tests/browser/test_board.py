"""The board of a class in a real browser: it tells how far each is, renews itself, and takes names for names."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.browser.visitor import Visitor
from tunlab.exercise.board import BoardServer, Seat

HOSTILE = '<img src=x onerror="alert(1)">'
SEAT = Seat("student1", HOSTILE, "working", 3, 2, 1, True, ("STATE-01", "</style><script>alert(2)</script>"))


class Class:
    """A class of one, whose seat a test may change."""

    def __init__(self) -> None:
        self.seat = SEAT

    def read(self) -> list[Seat]:
        return [self.seat]


@pytest.fixture
def students() -> Class:
    return Class()


@pytest.fixture
def url(students: Class) -> Iterator[str]:
    with BoardServer(0, students.read) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server.address()
        server.shutdown()
        thread.join()


def test_the_board_tells_who_has_come_how_far_and_renews_itself(visitor: Visitor, url: str, students: Class) -> None:
    page = visitor.open(url, color_scheme="dark", width=375)
    cells = page.locator("tbody td").all_inner_texts()
    assert cells == [
        "student1",
        HOSTILE,
        "working",
        "3",
        "2",
        "1 + solution",
        "STATE-01 </style><script>alert(2)</script>",
    ]
    assert page.locator("h1").inner_text() == "0 of 1 solved"
    assert page.locator("img, script").count() == 0
    students.seat = replace(SEAT, state="solved", red=())
    page.locator("h1", has_text="1 of 1 solved").wait_for()
