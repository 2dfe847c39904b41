"""From a suite's test to results.json, junit.xml, the table and the exit code: each verdict as it should be."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from tests.check.fakes import Ran, conform, write_suite
from tunlab.check.verdict import Key
from tunlab.report.asserted import read_notes
from tunlab.wire.expect import Note

ROOT = Path(__file__).resolve().parents[2]

ONE_OF_EACH = '''
from tunlab.wire.expect import Seen
from tunlab.wire.frames import Ethernet, Frame

@requirement("GOOD-01")
def test_good(cell):
    """It works (RFC 2003 section 3.1). More words."""
    cell.expectations.expect("that two are two")()
    frame = Frame(7, 0.0, "pod1/eth0", "out", "pairs", (Ethernet("a", "b", 2048),), "GOOD.pcapng")
    Seen(None, (frame,)).each(stack="eth").each(ethernet__kind={2048, 2049})
    assert 2 == 2

@requirement("FAIL-01", modes=["ipip"])
def test_fail(cell):
    """Node addresses such as 169.254.1.1 are right."""
    raise AssertionError("FAIL.pcapng frame 17 node1/eth0: ip.src 10.0.0.1, wanted 10.0.0.2\\nmore \\x1b[31m\\x00")

@requirement("FAIL-02", modes=["none"])
def test_fault(cell):
    """The agent lives."""
    raise SystemFault("node1: the agent died")

@requirement("BROK-01", modes=["none"])
def test_broken(cell):
    """The tool works."""
    raise WorldError("tshark: gone")

@requirement("BROK-02", modes=["none"])
def test_error(cell):
    """A mistake of the suite accuses nobody."""
    {}["missing"]

@requirement("OFFR-01", needs=["wings"])
def test_wings(cell):
    """It flies."""
    raise AssertionError("never run")

@requirement("EVID-01", modes=["none"])
def test_evidence(cell):
    """What passed on evidence that cannot be trusted has not passed."""

@requirement("EXTE-01", level="extended")
def test_extended(cell):
    """More than core."""

@requirement("ONLY-01", where=lambda topology, mode: topology.name == "beta")
def test_only(cell):
    """Only in some labs."""
'''


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return conform(write_suite(tmp_path_factory.mktemp("each"), each=ONE_OF_EACH))


def test_every_requirement_has_one_row_where_it_applies_and_none_elsewhere(ran: Ran) -> None:
    assert ran.verdicts == {
        "BROK-01 alpha-none": "broken",
        "BROK-02 alpha-none": "broken",
        "EVID-01 alpha-none": "broken",
        "FAIL-01 alpha-ipip": "failed",
        "FAIL-01 beta-ipip": "failed",
        "FAIL-02 alpha-none": "failed",
        "GOOD-01 alpha-ipip": "passed",
        "GOOD-01 alpha-none": "passed",
        "GOOD-01 beta-ipip": "passed",
        "GOOD-01 beta-vxlan": "passed",
        "OFFR-01 alpha-ipip": "not_offered",
        "OFFR-01 alpha-none": "not_offered",
        "OFFR-01 beta-ipip": "not_offered",
        "OFFR-01 beta-vxlan": "not_offered",
        "ONLY-01 beta-ipip": "passed",
        "ONLY-01 beta-vxlan": "passed",
    }
    assert list(ran.rows) == sorted(ran.rows)


def test_the_results_follow_their_schema(ran: Ran) -> None:
    schema = json.loads((ROOT / "docs" / "results.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(ran.results, schema)
    assert ran.results["totals"] == {"passed": 6, "failed": 3, "broken": 3, "not_offered": 4}
    told = {name: ran.results[name] for name in ("system_version", "box", "kernel", "tools", "exit", "system")}
    assert told == {
        "system_version": "1.2",
        "box": "fake",
        "kernel": "6.1",
        "tools": {"pyshark": "0.6"},
        "exit": 2,
        "system": "refnet",
    }


def test_what_a_passed_row_compared_is_noted_for_the_page(ran: Ran) -> None:
    notes = read_notes(ran.out)
    assert notes[Key("GOOD-01", "beta", "vxlan")] == [
        Note("GOOD.pcapng", 7, (("stack", "eth", "eth"),)),
        Note("GOOD.pcapng", 7, (("ethernet.kind", "2048", "2048 or 2049"),)),
    ]
    assert {key.id for key in notes} == {"GOOD-01"}
    assert "refnet: something is broken" in (ran.out / "report.html").read_text()


def test_reasons_titles_and_evidence_arrive(ran: Ran) -> None:
    rows = ran.rows
    assert rows["GOOD-01 alpha-ipip"]["title"] == "It works (RFC 2003 section 3.1)"
    assert rows["FAIL-01 beta-ipip"]["title"] == "Node addresses such as 169.254.1.1 are right"
    assert rows["GOOD-01 alpha-ipip"]["evidence"] == ["GOOD-01-alpha-ipip.pcapng"]
    assert rows["GOOD-01 alpha-ipip"]["reason"] == ""
    assert rows["FAIL-02 alpha-none"]["reason"] == "node1: the agent died"
    assert rows["OFFR-01 alpha-none"]["reason"] == "the fake has no wings"
    assert rows["EVID-01 alpha-none"]["reason"] == "capture: 3 packets were dropped"
    assert rows["BROK-02 alpha-none"]["reason"].startswith("KeyError: 'missing' (at ")


def test_junit_says_failure_error_and_skipped(ran: Ran) -> None:
    cases = {f"{case.get('name', '').split()[0]} {case.get('classname')}": case for case in ran.junit.iter("testcase")}
    assert len(cases) == 16
    told = {key: [child.tag for child in case if child.tag != "properties"] for key, case in cases.items()}
    assert told["GOOD-01 beta-vxlan"] == []
    assert told["FAIL-01 alpha-ipip"] == ["failure"]
    assert told["BROK-01 alpha-none"] == ["error"]
    assert told["OFFR-01 alpha-none"] == ["skipped"]
    failure, skipped = cases["FAIL-01 alpha-ipip"].find("failure"), cases["OFFR-01 alpha-none"].find("skipped")
    assert failure is not None and skipped is not None
    assert failure.get("message") == "FAIL.pcapng frame 17 node1/eth0: ip.src 10.0.0.1, wanted 10.0.0.2"
    assert failure.text is not None and failure.text.endswith(r"more \x1b[31m\x00")
    assert skipped.get("message") == "the fake has no wings"
    suites = {suite.get("name"): suite.attrib for suite in ran.junit.iter("testsuite")}
    counts = {key: suites["alpha-none"][key] for key in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "6", "failures": "1", "errors": "3", "skipped": "1"}
    evidence = [
        one.get("value") for one in cases["GOOD-01 alpha-ipip"].iter("property") if one.get("name") == "evidence"
    ]
    assert evidence == ["GOOD-01-alpha-ipip.pcapng"]


def test_the_table_is_plain_and_its_last_line_is_for_machines(ran: Ran) -> None:
    lines = ran.said.splitlines()
    path = ran.out.resolve() / "results.json"
    assert lines[-1] == f"tunlab: exit=2 passed=6 failed=3 broken=3 not_offered=4 results={path}"
    assert "\x1b" not in ran.said
    frame = "FAIL.pcapng frame 17 node1/eth0: ip.src 10.0.0.1, wanted 10.0.0.2"
    wanted = f"FAILED FAIL-01 alpha ipip: {frame} [FAIL-01-alpha-ipip.pcapng]"
    assert wanted in lines
    assert "FAILED FAIL-02 alpha none: node1: the agent died [FAIL-02-alpha-none.pcapng]" in lines
    assert "not offered (4): the fake has no wings" in lines
    header = next(number for number, line in enumerate(lines) if line.startswith("id "))
    table = lines[header : lines.index("", header)]
    assert max(map(len, table)) <= 80
    good = next(line for line in table if line.startswith("GOOD-01"))
    assert good.split()[-4:] == ["ok", "2", "ok", "ok"]


def test_cells_are_opened_once_and_closed_before_the_next_one_opens(ran: Ran) -> None:
    diary = (ran.out / "diary").read_text().split("\n")[:-1]
    assert sorted(diary) == sorted(
        f"{word} {name}"
        for word in ("open", "close")
        for name in ("alpha-ipip", "alpha-none", "beta-ipip", "beta-vxlan")
    )
    still_open = 0
    for line in diary:
        still_open += 1 if line.startswith("open") else -1
        assert still_open <= 2, "two workers, each with one cell"


def test_the_level_extended_is_core_and_more(tmp_path: Path) -> None:
    ran = conform(write_suite(tmp_path, each=ONE_OF_EACH), level="extended", modes=["vxlan"])
    assert sorted(ran.verdicts) == [f"{id} beta-vxlan" for id in ("EXTE-01", "GOOD-01", "OFFR-01", "ONLY-01")]
    assert ran.code == 0


@pytest.mark.parametrize(
    ("chosen", "code"), [("GOOD-01", 0), ("FAIL-01", 1), ("FAIL-01 or BROK-01", 2)], ids=["passed", "failed", "broken"]
)
def test_the_exit_code_says_failed_only_if_nothing_is_broken(tmp_path: Path, chosen: str, code: int) -> None:
    ran = conform(write_suite(tmp_path, each=ONE_OF_EACH), expression=chosen, labs=["alpha"])
    assert (ran.code, ran.results["exit"]) == (code, code)


def test_a_system_that_offers_nothing_proves_nothing(tmp_path: Path) -> None:
    ran = conform(write_suite(tmp_path, each=ONE_OF_EACH), expression="OFFR-01", labs=["alpha"])
    assert set(ran.verdicts.values()) == {"not_offered"}
    assert ran.code == 2
    assert "nothing was judged, and that proves nothing" in ran.said


SCENES = '''
@requirement("LOOK-01", modes=["none"])
def test_look(cell):
    """It is looked at."""

@requirement("DOES-01", scene="play", modes=["none"])
def test_does(scene):
    """It does something."""
    assert scene.name == "alpha-none-play"

@requirement("SPENT-01", scene="play", modes=["none"])
def test_spends(scene):
    """It leaves a lab that nobody wants."""

@requirement("WELL-01", scene="play", modes=["none"], labs=["alpha"])
def test_well(scene):
    """It gets a new lab."""

@requirement("ELSE-01", scene="play", labs=["beta"], modes=["none"])
def test_elsewhere(scene):
    """Its lab has no such mode."""
'''


def test_a_scene_is_a_lab_of_its_own_until_a_test_spends_it(tmp_path: Path) -> None:
    ran = conform(write_suite(tmp_path, scenes=SCENES), labs=["alpha"])
    assert ran.verdicts == {f"{id} alpha-none": "passed" for id in ("LOOK-01", "DOES-01", "SPENT-01", "WELL-01")}
    assert sorted((ran.out / "diary").read_text().split("\n")[:-1]) == [
        "close alpha-none",
        *["close alpha-none-play"] * 2,
        "open alpha-none",
        *["open alpha-none-play"] * 2,
    ]


def test_what_is_not_offered_opens_no_lab(tmp_path: Path) -> None:
    opening = "\n".join(f'OPENING["{key}"] = SystemFault("its agent died")' for key in ("alpha-ipip", "alpha-none"))
    wings = '@requirement("OFFR-01", needs=["wings"])\ndef test_wings(cell):\n    """It flies."""\n'
    ran = conform(write_suite(tmp_path, opening=opening, a=wings), labs=["alpha"])
    assert {one for key, one in ran.verdicts.items() if key.startswith("OFFR-01")} == {"not_offered"}
    assert not (ran.out / "diary").exists()
