"""`./lab mutants`: every mutant asked for has one fate, the score follows, and nobody's process dies unheard."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest

from tunlab.box.machine import Machine, Verdict
from tunlab.command.mutants import Places, run
from tunlab.errors import LabError

SCHEMA = json.loads((Path(__file__).resolve().parents[2] / "docs" / "kill.schema.json").read_text())


def entry(name: str, mode: str = "vxlan") -> str:
    return (
        f"- {{name: {name}, mode: {mode}, lab: same-subnet, freeze: true, caught_by: [STATE-01], why: Because.,\n"
        '   visible_to_ping: false, do: [{node: node1, run: "true"}]}\n'
    )


def plant(tmp_path: Path, *names: str, **options: Any) -> tuple[int, list[str], dict[str, Any]]:
    file = tmp_path / "own.yaml"
    file.write_text("".join(map(entry, names)))
    said = io.StringIO()
    places = Places(tmp_path / "captures", "tests.command.fake_trial")
    code = run(file=str(file), places=places, stream=said, **options)
    data = json.loads((tmp_path / "captures" / "latest" / "kill.json").read_text())
    jsonschema.validate(data, SCHEMA)
    return code, said.getvalue().splitlines(), data


@pytest.mark.parametrize(
    ("names", "code", "score"),
    [
        (["killed-1", "killed-2"], 0, 1.0),
        (["killed-1", "survived-1"], 1, 0.5),
        (["killed-1", "stillborn-1"], 0, 1.0),
        (["stillborn-1"], 2, None),
        (["killed-1", "survived-1", "broken-1"], 2, 0.5),
        (["dies-1", "killed-1"], 2, None),
    ],
    ids=["all", "one-survives", "a-dead-one", "nothing-alive", "a-broken-one", "a-process-that-dies"],
)
def test_the_exit_code_and_the_score_follow_from_the_fates(
    tmp_path: Path, names: list[str], code: int, score: float | None
) -> None:
    got, said, data = plant(tmp_path, *names)
    assert (got, data["exit"], data["score"]) == (code, code, score)
    assert [one["name"] for one in data["mutants"]] == sorted(names)
    assert said[-1].startswith(f"tunlab: exit={code} ")


def test_a_process_that_dies_says_so_for_all_that_it_still_had_to_try(tmp_path: Path) -> None:
    _, said, data = plant(tmp_path, "killed-1", "dies-1", "killed-2")
    assert {one["name"]: one["fate"] for one in data["mutants"]} == {
        "killed-1": "killed",
        "dies-1": "broken",
        "killed-2": "broken",
    }
    assert "BROKEN dies-1 same-subnet vxlan: its process ended with -9: out of luck" in "\n".join(said)


def test_what_a_ping_would_have_noticed_is_counted_apart_and_the_picture_is_one(tmp_path: Path) -> None:
    _, said, data = plant(tmp_path, "killed-1", "survived-1")
    assert data["noticed"] == {"ping": [], "headers_or_tables_alone": ["killed-1"], "not_pinged": []}
    assert data["matrix"] == {"killed-1": {"VXLAN-06": "red"}, "survived-1": {"VXLAN-06": "green"}}
    root = ElementTree.parse(tmp_path / "captures" / "latest" / "kill.svg").getroot()
    assert (root.get("role"), root.get("aria-label")) == ("img", "The kill matrix: 1 of 2 mutants were noticed")
    assert "prefers-color-scheme:dark" in (root[0].text or "")
    cells = {one.get("data-mutant"): one for one in root.iter("{http://www.w3.org/2000/svg}rect") if one.get("data-id")}
    assert [one[0].text for one in cells.values()] == [
        "killed-1: VXLAN-06 red seen <one>, wanted two",
        "survived-1: VXLAN-06 green",
    ]
    assert "only headers or tables betray 1" in said[-3]


def test_wrong_options_are_told_at_once_and_nothing_is_tried(tmp_path: Path) -> None:
    with pytest.raises(LabError) as caught:
        plant(tmp_path, "killed-1", names=["kiled-1"], modes=["vxlam"], box="docker")
    assert [text.splitlines()[0] for text in caught.value.mistakes] == [
        "--only: kiled-1: no such mutant",
        "--mode: vxlam: no such mode",
        "--box: docker: no such box",
    ]
    assert not (tmp_path / "captures").exists()
    with pytest.raises(LabError, match=r"^no mutant is chosen by these options"):
        plant(tmp_path, "killed-1", modes=["none"])


def test_a_mode_that_no_box_carries_is_left_out_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Machine, "can", lambda self, box, mode: Verdict(False, "no such kernel"))
    code, said, data = plant(tmp_path, "killed-1", box="uml")
    assert data["left_out"] == {"killed-1": "vxlan: no such kernel"}
    assert "left out, for vxlan: no such kernel: 1" in said
    assert (code, data["exit"]) == (2, 2), "nothing was proved"
