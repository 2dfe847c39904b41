"""Every exercise is one: its fault shows, stays, turns red what grades it, and its solution leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.mending import LARGEST, SHELF, expect_all_in_one_lab
from tunlab.command.exercise import Shelf
from tunlab.lab.topology import Mode


@pytest.mark.parametrize(("lab", "mode"), LARGEST, ids=["-".join(cell) for cell in LARGEST])
def test_every_exercise_shows_stays_and_can_be_solved(
    lab: str, mode: Mode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expect_all_in_one_lab(lab, mode, tmp_path, monkeypatch)


def test_there_are_twenty_or_more_of_all_levels_and_modes() -> None:
    exercises = SHELF.exercises.values()
    assert len(exercises) >= 20
    assert {one.level for one in exercises} == {1, 2, 3}
    assert {one.mode for one in exercises} == {"vxlan", "none", "ipip"}


def test_a_seed_draws_always_the_same_and_a_level_is_kept() -> None:
    assert {SHELF.draw(7, 2).name for _ in range(5)} == {SHELF.draw(7, 2).name}
    assert {SHELF.draw(seed, 1).level for seed in range(30)} == {1}
    assert len({SHELF.draw(seed, 0).name for seed in range(100)}) > len(SHELF.exercises) / 2


def test_the_shelf_is_read_whole() -> None:
    assert isinstance(SHELF, Shelf)
    assert list(SHELF.exercises) == sorted(SHELF.exercises, key=lambda name: (SHELF.exercises[name].level, name))
