"""The judge bites in the IPIP modes, whose labs are the slowest: a file of their own, for a worker of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.biting import IPIP, expect_all_noticed
from tunlab.lab.topology import Mode


@pytest.mark.parametrize(("lab", "mode"), IPIP, ids=["-".join(cell) for cell in IPIP])
def test_every_fault_turns_what_it_names_red_in_a_lab_that_was_green(lab: str, mode: Mode, tmp_path: Path) -> None:
    expect_all_noticed(lab, mode, tmp_path)
