"""The judge is tried beside every run; whoever misses a canary, or does not come to try one, is not believed."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from tests.check.fakes import conform, write_suite
from tests.check.test_never_passed_by_accident import GOOD
from tunlab.errors import WorldError
from tunlab.mutants.bite import MUTANTS, load_core, load_proofs
from tunlab.mutants.canary import choose
from tunlab.mutants.mutant import WITNESSES

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "results.schema.json"
BLIND = 'told["canaries"].append({"name": "grey", "caught_by": [], "seconds": 0.2})'


def test_canaries_that_are_noticed_are_told_in_one_line_and_in_the_results(tmp_path: Path) -> None:
    ran = conform(write_suite(tmp_path, a=GOOD), labs=["alpha"], modes=["none"])
    assert ran.code == 0
    assert ran.results["canaries"] == [{"name": "yellow", "caught_by": ["GOOD-01"], "seconds": 0.1}]
    assert ran.said.splitlines().count("canaries: 1 of 1 noticed: yellow by GOOD-01") == 1
    jsonschema.validate(ran.results, json.loads(SCHEMA.read_text()))


@pytest.mark.parametrize("expression", ["", "GOOD-01 or test_good"], ids=["whole", "k"])
def test_a_missed_canary_breaks_a_run_in_which_all_has_passed(tmp_path: Path, expression: str) -> None:
    places = write_suite(tmp_path, a=GOOD, canaries=BLIND)
    ran = conform(places, labs=["alpha"], modes=["none"], expression=expression)
    assert (ran.code, ran.results["exit"]) == (2, 2)
    assert ran.verdicts == {"GOOD-01 alpha-none": "passed", "RUN-00 ---": "broken"}
    assert ran.rows["RUN-00 ---"]["reason"] == "the judge is blind: canary grey was not noticed"
    assert "canaries: 1 of 2 noticed: yellow by GOOD-01; grey by NOBODY" in ran.said.splitlines()


@pytest.mark.parametrize(
    ("canaries", "why"),
    [
        ('told.update(canaries=[], error="no bridge")', "no bridge"),
        ("told.update(canaries=[])", "no canary was planted"),
        ("sys.exit(3)", "the canaries came to no end (see canaries.log)"),
    ],
    ids=["no-lab", "none", "died"],
)
def test_canaries_that_were_not_tried_break_the_run(tmp_path: Path, canaries: str, why: str) -> None:
    ran = conform(write_suite(tmp_path, a=GOOD, canaries=canaries), labs=["alpha"], modes=["none"])
    assert ran.code == 2
    assert ran.rows["RUN-00 ---"]["reason"] == f"the judge may be blind: the canaries were not tried: {why}"


def test_canaries_of_another_run_are_not_believed(tmp_path: Path) -> None:
    places, out = write_suite(tmp_path, a=GOOD), tmp_path / "out"
    assert conform(places, out=str(out), labs=["alpha"], modes=["none"]).code == 0
    (tmp_path / "again").mkdir()
    mute = write_suite(tmp_path / "again", a=GOOD, canaries="sys.exit(0)")
    assert conform(mute, out=str(out), labs=["alpha"], modes=["none"]).code == 2


def test_the_cheapest_box_and_mode_are_taken_with_one_canary_per_kind_of_witness() -> None:
    mutants = load_core(load_proofs(), MUTANTS)
    for able, mode in (
        ({("namespaces", "vxlan"), ("uml", "vxlan"), ("namespaces", "none")}, "vxlan"),
        ({("namespaces", "none"), ("uml", "vxlan")}, "none"),
        ({("uml", "vxlan"), ("uml", "none")}, "vxlan"),
    ):
        box, chosen = choose(mutants, lambda box, mode, able=able: (box, mode) in able)  # type: ignore[misc]
        assert {mutant.mode for mutant in chosen} == {mode}
        assert (box, mode) in able and (box == "namespaces" or ("namespaces", mode) not in able)
        assert sorted(mutant.canary for mutant in chosen) == sorted(WITNESSES)
    with pytest.raises(WorldError, match=r"^no box here can carry vxlan or none\n"):
        choose(mutants, lambda box, mode: False)
