"""Whose memory counts follows from who started whom, never from a name."""

from __future__ import annotations

from tunlab.check.footprint import Program, belonging

LINES = """\
1 0 0 900 first.py
20 1 20 5000 keeper
31 20 31 9000 felix
32 31 31 700 sh
33 32 33 4000 a child of (a child)
40 1 31 300 orphan of the session
50 20 50 8000 refnet-agent
51 20 51 600 bird
"""


def test_what_was_started_and_all_that_comes_of_it_counts_whatever_its_name() -> None:
    programs = [Program.read(line) for line in LINES.splitlines()]
    assert [one.pid for one in belonging(programs, {31})] == [31, 32, 33, 40]
    assert belonging(programs, {31})[2].name == "a child of (a child)"
    assert [one.name for one in belonging(programs, {50, 51})] == ["refnet-agent", "bird"]
    assert belonging(programs, {99}) == []
