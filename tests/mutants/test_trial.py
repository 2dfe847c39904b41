"""What becomes of mutants: one whose lab cannot be opened is broken, and takes nobody along."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tunlab.check.selection import Options
from tunlab.check.verdict import Verdict
from tunlab.errors import SystemFault, WorldError
from tunlab.mutants import trial
from tunlab.mutants.bite import Bite, Judged, by_cell, load_core, load_proofs
from tunlab.mutants.build import Build
from tunlab.mutants.trial import BROKEN, KILLED, outcome_of, try_build, try_faults


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


def _build(**more: Any) -> Build:
    quote = 'replace: "x"'
    return Build("no-start", "refnet/errors.py", quote, quote, ("V6-01", "LIFE-01"), "", **more)


@pytest.mark.parametrize(
    ("error", "prevents_start", "fate", "red"),
    [
        (SystemFault("the agent has ended"), False, BROKEN, ()),
        (SystemFault("the agent has ended"), True, KILLED, ("LIFE-01", "V6-01")),
        (WorldError("no box"), True, BROKEN, ()),
    ],
    ids=["nothing-was-judged", "just-that-was-wanted", "the-labs-doing"],
)
def test_a_build_with_which_no_lab_gets_up_proves_nothing_unless_it_says_so(
    error: Exception,
    prevents_start: bool,
    fate: str,
    red: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def open_none(*words: object) -> None:
        raise error

    monkeypatch.setattr(trial, "_open", open_none)
    outcome = try_build(_build(prevents_start=prevents_start), load_proofs(), Options(out=tmp_path))
    assert (outcome.fate, tuple(sorted(outcome.red))) == (fate, red)
    told = {**outcome.red, **outcome.broken}
    assert set(told.values()) == {f"the lab did not get up: {error}"}


def test_a_build_that_says_it_prevents_the_start_and_does_not_is_complained_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {id: Judged(Verdict.FAILED, "seen") for id in ("V6-01", "LIFE-01")}
    monkeypatch.setattr(trial, "_ask_all", lambda *words: said)
    outcome = try_build(_build(prevents_start=True), load_proofs(), Options(out=tmp_path))
    assert outcome.complaints == ("no-start: says `prevents_start`, and every lab gets up with it",)


@pytest.mark.parametrize(("said", "count"), [(None, 0), (True, 0), (False, 1)], ids=["measured", "right", "wrong"])
def test_whether_a_ping_notices_is_judged_where_somebody_has_said_it(said: bool | None, count: int) -> None:
    mutant = replace(load_core(load_proofs())[0], visible_to_ping=said)
    red = dict.fromkeys(mutant.caught_by, "seen")
    outcome = outcome_of(Bite(mutant, red, {}, frozenset(red), False, True, "", 1.0))
    assert (outcome.noticed_by_ping, len(outcome.complaints)) == (True, count)
