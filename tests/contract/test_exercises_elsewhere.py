"""The exercises of the other labs: a file of their own, for a worker of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.mending import OTHERS, expect_all_in_one_lab
from tunlab.lab.topology import Mode


@pytest.mark.parametrize(("lab", "mode"), OTHERS, ids=["-".join(cell) for cell in OTHERS])
def test_every_exercise_shows_stays_and_can_be_solved(
    lab: str, mode: Mode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expect_all_in_one_lab(lab, mode, tmp_path, monkeypatch)
