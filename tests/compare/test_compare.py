"""`./lab compare`: figures from readings without a lab, then a comparison of two modes on two real ones."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest

from tests.live.user import ROOT, User, leaving_no_trace, send, wait_for_line
from tunlab.box.box import Completed
from tunlab.compare.arena import arrived_per_s, quantile, read_iperf
from tunlab.compare.figures import MEASURES, Comparison, Contender, Ground, Headers
from tunlab.compare.picture import draw
from tunlab.compare.processor import cpu_seconds
from tunlab.compare.text import header_lines, verdicts
from tunlab.errors import WorldError

SCHEMA = json.loads((ROOT / "docs" / "compare.schema.json").read_text())
GROUND = Ground(
    lab="same-subnet",
    system="refnet",
    source="pod1",
    target="pod2",
    box="namespaces",
    why_box="as asked",
    kernel="6.1",
    cpus=2,
    load=0.5,
    congestion_control="cubic",
    iperf3="iperf 3.12",
    seconds=1,
    runs=3,
    says=("a <b> & c",),
)


def comparison(none: tuple[float, ...] = (3.0, 1.0, 2.0), vxlan: tuple[float, ...] = (1.0, 0.5, 4.0)) -> Comparison:
    def rounds(values: tuple[float, ...]) -> list[dict[str, float]]:
        return [{each.key: value for each in MEASURES} for value in values]

    return Comparison(
        "2026-11-21T00:00:00+00:00",
        GROUND,
        (
            Contender.of("vxlan", 1450, Headers("eth ip udp vxlan eth ip udp", 1000, 1092), rounds(vxlan)),
            Contender.of("none", 1500, Headers("eth ip udp", 1000, 1042), rounds(none)),
        ),
    )


def said(out: str, err: str = "") -> Completed:
    return Completed("pod1", ("iperf3", "-J"), 1, out, err, 0.1)


# ------------------------------------------------------------------ readings
def test_the_document_is_what_its_schema_allows_and_holds_medians() -> None:
    told = comparison().to_json()
    jsonschema.validate(told, SCHEMA)
    spread = told["modes"]["none"]["tcp_bit_per_s"]
    assert spread == {"median": 2.0, "least": 1.0, "most": 3.0, "readings": [3.0, 1.0, 2.0]}


def test_who_is_best_is_counted_round_by_round() -> None:
    lines = verdicts(comparison())
    assert lines[0] == "TCP, Mbit/s: none was best in 2 of 3 rounds: no clear order"
    assert lines[3] == "round trip, median, µs: vxlan was best in 2 of 3 rounds: no clear order"
    assert verdicts(comparison(vxlan=(1.0, 0.5, 1.0)))[0] == "TCP, Mbit/s: none was best in every round"


def test_headers_are_told_with_what_one_mode_adds_to_the_other() -> None:
    assert header_lines(comparison()) == [
        "vxlan: 92 bytes of headers, 50 more: [eth ip udp vxlan eth ip udp]; a pod's MTU is 1450",
        "none: 42 bytes of headers: [eth ip udp]; a pod's MTU is 1500",
    ]


def test_the_picture_has_a_bar_for_each_mode_in_each_panel_and_escapes_what_it_is_told() -> None:
    texts = [each.text or "" for each in ElementTree.fromstring(draw(comparison())).iter()]
    assert texts.count("vxlan") == texts.count("none") == len(MEASURES) + 1
    assert "a <b> & c" in texts


@pytest.mark.parametrize(
    ("done", "message"),
    [
        (said('{"error": "unable to connect"}'), "pod1$ iperf3 -J: unable to connect"),
        (said("", "iperf3: not found\n"), "pod1$ iperf3 -J: no result: iperf3: not found"),
        (said('{"end": {"sum_received": {"bytes": 0}}}'), "pod1$ iperf3 -J: nothing arrived"),
        (said('{"end": {}}'), 'pod1$ iperf3 -J: no result: {"end": {}}'),
    ],
    ids=["refused", "absent", "silent", "strange"],
)
def test_what_iperf3_could_not_measure_is_told_in_its_words(done: Completed, message: str) -> None:
    with pytest.raises(WorldError) as caught:
        read_iperf(done)
    assert str(caught.value) == message


def test_only_datagrams_that_arrived_are_counted() -> None:
    told = {"end": {"sum_received": {"packets": 1000, "lost_packets": 400, "seconds": 2.0}}}
    assert arrived_per_s(told) == 300.0


def test_a_quantile_is_one_of_the_values() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert (quantile(values, 0.99), quantile([5.0], 0.99)) == (100.0, 5.0)


def test_cpu_time_is_that_of_the_tree_with_its_ended_children_and_the_kernels_threads(tmp_path: Path) -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    table = {10: ("a b) c", 1, 1, 2, 3, 4), 11: ("x", 10, 10, 0, 0, 0), 12: ("y", 1, 99, 0, 0, 0)}
    table[3] = ("ksoftirqd/0", 2, 0, 5, 0, 0)
    for pid, (name, parent, *times) in table.items():
        (tmp_path / str(pid)).mkdir()
        words = " ".join(map(str, times))
        (tmp_path / str(pid) / "stat").write_text(f"{pid} ({name}) S {parent} 0 0 0 0 0 0 0 0 0 {words} 20 0 1 0\n")
    assert cpu_seconds(10, with_kernel=False, proc=tmp_path) == 20 / ticks
    assert cpu_seconds(10, with_kernel=True, proc=tmp_path) == 25 / ticks


# ------------------------------------------------------------------ at the front door
@pytest.fixture
def user(tmp_path: Path) -> User:
    return User(tmp_path / "user")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--lab", "dual-stack", "--modes", "ipip"), "--modes: ipip: not in dual-stack"),
        (
            ("--system", "fixtures/systems/cni-ptp.yaml", "--modes", "vxlan"),
            "--modes: vxlan: cni-ptp does not offer it",
        ),
        (("--modes", "vxlan,none", "--lab", "cross-subnet"), "--modes: none: in cross-subnet pod1 does not reach pod2"),
    ],
    ids=["not-in-the-lab", "not-offered", "out-of-reach"],
)
def test_a_mode_that_cannot_be_compared_is_one_message(user: User, words: tuple[str, ...], message: str) -> None:
    words = tuple(str(ROOT / word) if word.startswith("fixtures/") else word for word in words)
    done = user.types("compare", *words, "--out", str(user.folder / "out"))
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert list(user.runtime.iterdir()) == []


def test_ctrl_c_ends_the_labs_and_leaves_nothing(user: User) -> None:
    line = ("compare", "--lab", "same-subnet", "--modes", "none", "--runs", "99", "--out", str(user.folder / "out"))
    with leaving_no_trace(user), user.begins(*line) as process:
        wait_for_line(process.stderr, "up in")
        assert send(process, signal.SIGINT) == (130, "lab: ended by SIGINT\n")
        shutil.rmtree(user.folder / "out")


def test_two_modes_are_measured_side_by_side_and_nothing_is_left(user: User) -> None:
    out = user.folder / "out"
    line = ("compare", "--modes", "vxlan,none", "--seconds", "1", "--runs", "1", "--out", str(out))
    done = user.types(*line, within_s=300.0)
    assert done.code == 0, done.err
    told = json.loads((out / "compare.json").read_text())
    jsonschema.validate(told, SCHEMA)
    none, vxlan = told["modes"]["none"], told["modes"]["vxlan"]
    assert (none["stack"], none["header_bytes"]) == ("eth ip udp", 14 + 20 + 8)
    assert (vxlan["stack"], vxlan["header_bytes"]) == ("eth ip udp vxlan eth ip udp", none["header_bytes"] + 50)
    assert (none["mtu_bytes"], vxlan["mtu_bytes"]) == (1500, 1450)
    for each in MEASURES:
        assert all(mode[each.key]["least"] > 0 for mode in (none, vxlan)), each.key
    assert [line for line in done.out.splitlines() if len(line) > 80 and not line.startswith("written: ")] == []
    assert "Box: namespaces of this kernel" in done.out
    ElementTree.fromstring((out / "compare.svg").read_text())
    assert list(user.runtime.iterdir()) == []
