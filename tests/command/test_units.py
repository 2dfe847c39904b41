"""What `./lab mutants` tries together, and what it begins with."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from tunlab.command.units import SHIPPED, Asked, Planned, measured_seconds, plan
from tunlab.mutants.bite import load_corpus, load_proofs
from tunlab.mutants.build import Build
from tunlab.mutants.mutant import Mutant

PROOFS = load_proofs()
CORPUS = load_corpus(PROOFS)
ASKED = Asked(("own.yaml",), "captures/now", "auto")


def planned(**measured: float) -> list[Planned]:
    return plan(CORPUS, PROOFS, ASKED, {name.replace("_", "-"): seconds for name, seconds in measured.items()})


def test_every_mutant_is_in_one_unit_and_faults_are_with_those_of_their_lab_and_mode() -> None:
    units = [one.unit for one in planned()]
    assert Counter(name for unit in units for name in unit.names) == Counter(one.name for one in CORPUS)
    faults = {one.name: (one.lab, one.mode) for one in CORPUS if isinstance(one, Mutant)}
    for unit in units:
        assert {faults.get(name) for name in unit.names} == {(unit.lab, *unit.modes) if unit.lab else None}
        assert (unit.files, unit.out, unit.box) == (("own.yaml",), "captures/now", "auto")


def test_what_takes_long_comes_first_and_what_is_short_shares_a_process() -> None:
    alone, *_ = (one.name for one in CORPUS if isinstance(one, Build))
    measured = dict.fromkeys((one.name for one in CORPUS if isinstance(one, Build)), 5.0) | {alone: 300.0}
    builds = [one for one in plan(CORPUS, PROOFS, ASKED, measured) if not one.is_busy]
    assert builds[0].unit.names == (alone,)
    assert [one.seconds for one in builds] == sorted((one.seconds for one in builds), reverse=True)
    slowest = [one.slowest_s for one in planned() if not one.is_busy]
    assert slowest == sorted(slowest, reverse=True) and slowest[0] > slowest[-1]
    assert max(one.seconds for one in builds[1:]) <= 60
    assert max(len(one.unit.names) for one in builds) == 12


@pytest.mark.parametrize("modes", [(), ("vxlan",), ("none", "vxlan")], ids=["none", "one", "two"])
def test_the_modes_that_are_asked_for_are_the_builds_too(modes: tuple[str, ...]) -> None:
    units = [one.unit for one in plan(CORPUS, PROOFS, Asked((), "", "auto", modes), {})]
    assert {unit.modes for unit in units if not unit.lab} == {modes}


@pytest.mark.parametrize("spoilt", ["", "[]", '{"mutants": [{"name": "one"}]}'], ids=["empty", "a-list", "half-said"])
def test_what_mutants_took_is_read_from_the_runs_that_are_there(tmp_path: Path, spoilt: str) -> None:
    told = {
        "mutants": [{"name": "one", "fate": "killed", "seconds": 2}, {"name": "two", "fate": "broken", "seconds": 9}]
    }
    for run, text in (("1-old", json.dumps(told).replace("2", "7")), ("2-new", json.dumps(told)), ("3-bad", spoilt)):
        (tmp_path / run).mkdir()
        (tmp_path / run / "kill.json").write_text(text)
    (tmp_path / "shipped.json").write_text('{"one": 4.0, "three": 3.0}')
    assert measured_seconds(tmp_path, tmp_path / "shipped.json") == {"one": 2.0, "three": 3.0}


def test_what_is_shipped_of_them_is_of_mutants_that_there_are() -> None:
    assert set(json.loads(SHIPPED.read_text())) <= {one.name for one in CORPUS}
