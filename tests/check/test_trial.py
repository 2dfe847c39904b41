"""What becomes of mutants: one whose lab cannot be opened is broken, and takes nobody along."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunlab.check import trial
from tunlab.check.bite import by_cell, load_core, load_proofs
from tunlab.check.selection import Options
from tunlab.check.trial import BROKEN, try_faults
from tunlab.errors import WorldError


def test_a_lab_that_cannot_be_opened_is_tried_again_for_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proofs = load_proofs()
    three = by_cell(load_core(proofs))["mixed", "vxlan"][:3]
    tries: list[object] = []

    def open_none(*words: object) -> None:
        tries.append(words)
        raise WorldError(f"no box, for the {len(tries)}. time")

    monkeypatch.setattr(trial, "open_cell", open_none)
    outcomes = list(try_faults("mixed", "vxlan", three, proofs, Options(out=tmp_path)))
    assert [one.fate for one in outcomes] == [BROKEN] * 3
    assert [one.complaints for one in outcomes] == [
        (f"{mutant.name}: no box, for the {number}. time",) for number, mutant in enumerate(three, 1)
    ]
