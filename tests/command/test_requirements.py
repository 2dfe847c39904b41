"""`./lab requirements`: the catalogue as a user asks for it, and what is proved of it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from tunlab.check.requirement import Requirement
from tunlab.command.requirements import listing, select
from tunlab.errors import LabError
from tunlab.report.catalogue import UNPROVEN, read_proofs, read_suites


def made(id: str, level: str = "core", title: str = "It works") -> Requirement:
    return Requirement(id, title, level, ("vxlan",), (), "RFC 1", f"suites/test_x.py::test_{id[:2].lower()}")


ALL = (made("AB-01"), made("AB-02", "extended"), made("CD-01", title="The MTU fits"))


@pytest.mark.parametrize(
    ("level", "expression", "ids"),
    [
        ("extended", "", ["AB-01", "AB-02", "CD-01"]),
        ("core", "", ["AB-01", "CD-01"]),
        ("extended", "ab and not 02", ["AB-01"]),
        ("extended", "mtu or AB-02", ["AB-02", "CD-01"]),
        ("core", "nothing", []),
    ],
    ids=["all", "core", "ids", "titles", "none"],
)
def test_requirements_are_chosen_by_level_id_and_title(level: str, expression: str, ids: list[str]) -> None:
    assert [one.id for one in select(ALL, level, expression)] == ids


def test_a_wrong_expression_is_told() -> None:
    with pytest.raises(LabError, match=r"^-k and and: "):
        select(ALL, "core", "and and")


def test_the_listing_names_the_mutants_of_each_requirement_and_counts_the_unproven() -> None:
    said = io.StringIO()
    listing("core", "VXLAN-05 or VXLAN-06", stream=said)
    lines = said.getvalue().splitlines()
    assert lines[0].startswith("VXLAN-05  The outer destination is what the FDB says")
    assert "fdb-entry-may-age" in lines[2]
    assert lines[-1] == "2 requirements, 0 of them unproven"


def test_the_same_comes_as_json() -> None:
    said = io.StringIO()
    listing("core", "VXLAN-05", as_json=True, stream=said)
    (one,) = json.loads(said.getvalue())["requirements"]
    assert (one["id"], one["needs"], one["why_none"]) == ("VXLAN-05", ["vxlan"], "")
    assert "fdb-entry-may-age" in one["mutants"]


def test_every_requirement_is_proved_or_says_why_not() -> None:
    proofs = read_proofs()
    words = {one.id: proofs.words(one.id) for one in read_suites()}
    assert {id for id, said in words.items() if said == "unproven"} == set()


def test_nobody_is_excused_whom_a_mutant_bites_or_who_is_not_there() -> None:
    proofs = read_proofs()
    assert set(proofs.reasons) & set(proofs.mutants) == set()
    assert set(proofs.reasons) <= {one.id for one in read_suites()}


def test_mutants_come_from_all_files_and_excuses_from_one(tmp_path: Path) -> None:
    (tmp_path / "builds").mkdir()
    (tmp_path / "a.yaml").write_text("- {name: one, caught_by: [AB-01]}\n")
    (tmp_path / "builds" / "b.yaml").write_text("- {name: two, caught_by: [AB-01, CD-01]}\n")
    proofs = read_proofs(tmp_path, UNPROVEN)
    assert [proofs.words(id, mark="**") for id in ("AB-01", "CD-01", "EF-01")] == ["one, two", "two", "**unproven**"]
