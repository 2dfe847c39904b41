"""Reports: exit codes, completeness, and texts that survive whatever a packet can hold."""

from __future__ import annotations

import io
import json
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest

from tunlab.check.verdict import Row, Verdict
from tunlab.report.junit import junit_text, printable
from tunlab.report.results import (
    Canary,
    Results,
    Selected,
    complete,
    exit_code,
    read_results,
    run_row,
    write_atomically,
)
from tunlab.report.table import console_for, last_line, one_line, print_table

PASSED, FAILED, BROKEN, NOT_OFFERED = Verdict
NASTY = "seen \x1b[2J\x00\x07\ud800\ufffe<&\"'>]]> é → 🐍\r\n\ttail"


def row(verdict: Verdict = PASSED, id: str = "IPIP-03", lab: str = "mixed", mode: str = "ipip", **more: str) -> Row:
    reason = more.get("reason", "" if verdict is PASSED else "because")
    return Row(
        id,
        more.get("title", "The outer addresses are the nodes'"),
        "core",
        lab,
        mode,
        verdict,
        0.25,
        ("a.pcapng",),
        reason,
    )


def results(*rows: Row) -> Results:
    made = Results("20261121T000000Z-1", "2026-11-21T00:00:00+00:00", "refnet", {"mode": []}, rows=list(rows))
    made.exit = exit_code(made.rows)
    return made


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ([], 2),
        ([NOT_OFFERED], 2),
        ([PASSED], 0),
        ([PASSED, NOT_OFFERED], 0),
        ([PASSED, FAILED], 1),
        ([FAILED, BROKEN], 2),
        ([PASSED, BROKEN], 2),
    ],
    ids=["nothing", "nothing-judged", "passed", "partly-offered", "failed", "both", "broken"],
)
def test_the_exit_code_follows_from_the_verdicts(verdicts: list[Verdict], code: int) -> None:
    assert exit_code([row(verdict) for verdict in verdicts]) == code


def test_each_selected_test_gets_exactly_one_row() -> None:
    wanted = [Selected(f"IPIP-0{n}", "T", "core", "mixed", "ipip", f"t{n}") for n in (1, 2, 3)]
    rows = [row(id="IPIP-02"), row(id="IPIP-03"), row(FAILED, id="IPIP-03"), row(id="IPIP-09")]
    done = complete(wanted, [*rows, run_row("one"), run_row("two"), run_row("one")], "it died")
    assert [(one.id, one.verdict, one.reason) for one in done] == [
        ("IPIP-01", BROKEN, "it died"),
        ("IPIP-02", PASSED, ""),
        ("IPIP-03", BROKEN, "judged 2 times: passed, failed"),
        ("IPIP-09", BROKEN, "nobody selected this, yet it was judged passed"),
        ("RUN-00", BROKEN, "one\ntwo"),
    ]
    assert complete(wanted, done, "later")[0] == done[0], "completing twice changes nothing"


def test_results_come_back_as_they_were_written(tmp_path: Path) -> None:
    made = results(row(), row(BROKEN, lab="alpha", reason="x"))
    made.canaries = (Canary("canary-ttl", ("VXLAN-03",), 1.5), Canary("canary-fdb", (), 0.25))
    made.learn({"system_version": "1.0", "box": "uml", "kernel": "6.1", "tshark": "4.0"})
    made.learn({"system_version": "1.0", "box": "namespaces", "kernel": "6.18"})
    made.write(tmp_path)
    again = read_results(tmp_path)
    assert again is not None and again.to_json() == made.to_json()
    assert again.to_json()["box"] == "namespaces, uml"
    assert [one["lab"] for one in again.to_json()["requirements"]] == ["alpha", "mixed"]


def test_junit_survives_whatever_a_packet_can_hold() -> None:
    root = ElementTree.fromstring(junit_text(results(row(FAILED, reason=NASTY, title="T\x01"))))
    failure = root.find(".//failure")
    assert failure is not None and failure.text is not None
    assert failure.text.splitlines()[0] == r"seen \x1b[2J\x00\x07\ud800\ufffe" + "<&\"'>]]> é → 🐍"
    assert root.find(".//testcase[@name='IPIP-03 T\\x01']") is not None


@pytest.mark.parametrize("text", ["a\tb\nc", "ÿ→🐍"], ids=["blanks", "letters"])
def test_what_xml_can_hold_is_left_alone(text: str) -> None:
    assert printable(text) == text


def test_results_with_strange_bytes_follow_the_schema(tmp_path: Path) -> None:
    made = results(row(FAILED, reason=NASTY))
    made.canaries = (Canary("canary-ttl", ("VXLAN-03",), 1.5), Canary("canary-fdb", (), 0.25))
    made.write(tmp_path)
    schema = json.loads(Path(__file__).resolve().parents[2].joinpath("docs/results.schema.json").read_text())
    jsonschema.validate(json.loads((tmp_path / "results.json").read_text()), schema)


@pytest.mark.parametrize("verdict", [PASSED, FAILED], ids=["passed-with-reason", "failed-without"])
def test_the_schema_wants_a_reason_exactly_where_something_is_wrong(verdict: Verdict) -> None:
    schema = json.loads(Path(__file__).resolve().parents[2].joinpath("docs/results.schema.json").read_text())
    wrong = results(row(verdict, reason="x" if verdict is PASSED else ""))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong.to_json(), schema)


def test_a_line_commands_no_terminal_and_stays_one_line() -> None:
    line = one_line(row(FAILED, reason=NASTY))
    assert line.startswith(r"FAILED IPIP-03 mixed ipip: seen \x1b[2J\x00\x07")
    assert line.isprintable() and line.endswith("[a.pcapng]")


def test_the_table_with_all_modes_fits_80_columns_without_a_terminal() -> None:
    modes = ("ipip", "ipip-crosssubnet", "vxlan", "vxlan-crosssubnet", "none")
    title = "The outer addresses are the nodes' and the inner ones the pods', both directions, in every pair"
    rows = [row(id="ENCAP-103", title=title, mode=mode, lab=lab) for mode in modes for lab in ("a", "b")]
    rows += [row(FAILED, id="ENCAP-104", mode="none"), row(NOT_OFFERED, id="ENCAP-105", mode="vxlan", reason="no")]
    stream = io.StringIO()
    made = results(*rows)
    print_table(made, console_for(stream))
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split()[-10:] for line in lines if line.startswith("ENCAP-103")] == [["ok", "2"] * 5]
    assert next(line for line in lines if line.startswith("ENCAP-104")).split()[-5:] == ["-", "-", "-", "-", "FAILED"]
    assert next(line for line in lines if line.startswith("ENCAP-105")).split()[-5:] == ["-", "-", "n/o", "-", "-"]
    assert last_line(made, Path("r.json")) == "tunlab: exit=1 passed=10 failed=1 broken=0 not_offered=1 results=r.json"


def test_many_that_are_broken_for_one_reason_are_told_in_one_line() -> None:
    rows = [row(BROKEN, id=f"IPIP-{n:02}", reason="the run was interrupted (SIGINT)") for n in range(30)]
    rows += [row(BROKEN, id="MTU-01", reason="the box died"), row(FAILED, id="MTU-02", reason="seen 1, wanted 2")]
    stream = io.StringIO()
    print_table(results(*rows), console_for(stream))
    assert [line for line in stream.getvalue().splitlines() if ": " in line] == [
        "BROKEN MTU-01 mixed ipip: the box died [a.pcapng]",
        "FAILED MTU-02 mixed ipip: seen 1, wanted 2 [a.pcapng]",
        "BROKEN (30): the run was interrupted (SIGINT)",
    ]


def test_a_reader_that_goes_away_is_for_the_front_door_to_deal_with() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        console_for(Gone()).print("a line")


def test_an_address_is_no_emoji() -> None:
    stream = io.StringIO()
    console_for(stream, markup=True).print("fd00:100::100 [red]died[/red]")
    assert stream.getvalue() == "fd00:100::100 died\n"


def test_writing_that_is_cut_short_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_atomically(path, "old")
    with pytest.raises(TypeError):
        write_atomically(path, 5)  # type: ignore[arg-type]
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("results.json", "old")]
