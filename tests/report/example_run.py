"""A small run's folder, written by the project's own writers: something passed, failed, is broken and not offered.

All that a lab or a packet may name is hostile: a lab's name here, a reason, a tap.
"""

from __future__ import annotations

from pathlib import Path

from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

from tests.wire.make_golden import MAC1, MAC2, NODE1, NODE2, POD1, POD2, VTEP1, VTEP2, Sighting, golden_bytes
from tunlab.check.verdict import Row, Verdict
from tunlab.report.asserted import ASSERTED, append_notes
from tunlab.report.baseline import compare
from tunlab.report.results import Canary, Results, Selected, Selection, exit_code
from tunlab.wire.expect import Note
from tunlab.wire.pcapng import ETHERNET

PASSED, FAILED, BROKEN, NOT_OFFERED = Verdict
TABLES = Path(__file__).parents[1] / "golden" / "tables" / "namespaces.json"
CAPTURE, FAILURE = "captures/mixed-vxlan.pcapng", "failures/VXLAN-03-mixed-vxlan"
TAPS = ("pod1/eth0", "node1/eth0", "node2/eth0", "pod2/eth0")
SENT_BY_NODE1 = 6  # Wireshark's number: after the sentinels of four taps and the sighting at pod1
REASON = f"mixed-vxlan.pcapng frame {SENT_BY_NODE1} on node1/eth0: outer.ttl: seen 17, wanted 64"
NOTED = (("vxlan.vni", "4096", "4096"), ("stack", "eth", "eth or <i>"), ("outer.ttl", "17", "17"))
HOSTILE = (
    "</style></script><script>alert(1)</script><img src=x onerror=alert(2)>"
    '"onload="alert(3) & \u202egnp.exe \x00\x1b[2J'
)
HOSTILE_LAB = 'a"><script>alert(4)</script>/%2e%2e#'


def example_run(folder: Path, *, earlier: bool = True, exit: int | None = 2) -> Path:
    """The folder of a run, with a page still to be made; `exit` None is a run that was cut off."""
    for name in ("captures", "commands", FAILURE):
        (folder / name).mkdir(parents=True)
    (folder / CAPTURE).write_bytes(golden_bytes(echo_through_vxlan(), dict.fromkeys(TAPS, ETHERNET), window="pairs"))
    (folder / "commands" / "mixed-vxlan.txt").write_text("# box: namespaces (<b>)\nnode1$ ip route  # 0, 0.003 s\n")
    (folder / FAILURE / "commands.txt").write_text("node1$ ip link set vxlan.calico up  # 0, 0.004 s\n")
    before = TABLES.read_text()
    (folder / FAILURE / "node1.before.json").write_text(before)
    (folder / FAILURE / "node1.after.json").write_text(
        before.replace('"gateway":"192.0.2.2"', '"gateway":"192.0.2.77"')
    )
    made = Results("20261121T000000Z-1", "2026-11-21T00:00:00+00:00", "refnet", {"mode": ["vxlan"]}, rows=rows())
    made.learn({"system_version": "0.1.0", "box": "namespaces", "kernel": "6.18", "tshark": f"4.0 {HOSTILE}"})
    made.canaries, made.cells, made.exit = (Canary("canary-ttl", ("VXLAN-03",), 1.5),), {"mixed-vxlan": 12.5}, exit
    if earlier:
        old = Results("20261120T000000Z-1", "2026-11-20T00:00:00+00:00", "refnet", {}, rows=earlier_rows())
        made.baseline = compare(old, made, "old/results.json").to_json()
    assert exit is None or exit_code(made.rows) == exit
    tests = [
        Selected(row.id, row.title, row.level, row.lab, row.mode, "t", source="RFC 7348 §4 <4>") for row in made.rows
    ]
    Selection(tuple(tests), ()).write(folder)
    made.write(folder)
    append_notes(folder, made.rows[0], [Note("mixed-vxlan.pcapng", SENT_BY_NODE1, NOTED)])
    append_notes(folder, made.rows[2], [Note("mixed-vxlan.pcapng", SENT_BY_NODE1, NOTED)])  # failed: its reason tells
    with (folder / ASSERTED).open("a") as file:
        file.write('{"id": "VXLAN-01", "la')
    return folder


def rows() -> list[Row]:
    both = (CAPTURE, FAILURE)
    return [
        _row("VXLAN-01", PASSED),
        _row("VXLAN-01", PASSED, lab="same-subnet"),
        _row("VXLAN-03", FAILED, reason=f"{REASON}\nassert 17 == 64", evidence=both),
        _row("CONN-01", BROKEN, reason=f"tshark: {HOSTILE}: seen {HOSTILE}, wanted none"),
        _row("CONN-01", PASSED, lab=HOSTILE_LAB, mode="none"),
        _row("NONE-01", NOT_OFFERED, mode="none", reason=f"no such mode {HOSTILE}", evidence=()),
    ]


def earlier_rows() -> list[Row]:
    return [_row("VXLAN-03", PASSED), _row("VXLAN-01", FAILED, reason="x"), _row("CONN-01", BROKEN, reason="x")]


def _row(
    id: str,
    verdict: Verdict,
    *,
    lab: str = "mixed",
    mode: str = "vxlan",
    reason: str = "",
    evidence: tuple[str, ...] = (CAPTURE,),
) -> Row:
    return Row(id, f"The sentence of {id} <i>", "core", lab, mode, verdict, 0.25, evidence, reason)


def echo_through_vxlan() -> list[Sighting]:
    """An echo and its answer, as four taps see them; node1 sends with a TTL of 17."""
    there, back = _echo(8, POD1, POD2), _echo(0, POD2, POD1)
    return [
        ("pod1/eth0", "out", Ether(src=MAC1, dst=MAC2) / there),
        ("node1/eth0", "out", _wrapped(NODE1, NODE2, VTEP1, VTEP2, there)),
        ("node2/eth0", "in", _wrapped(NODE1, NODE2, VTEP1, VTEP2, there)),
        ("pod2/eth0", "in", Ether(src=MAC1, dst=MAC2) / there),
        ("pod2/eth0", "out", Ether(src=MAC2, dst=MAC1) / back),
        ("node2/eth0", "out", _wrapped(NODE2, NODE1, VTEP2, VTEP1, back)),
        ("node1/eth0", "in", _wrapped(NODE2, NODE1, VTEP2, VTEP1, back)),
        ("pod1/eth0", "in", Ether(src=MAC2, dst=MAC1) / back),
    ]


def _echo(kind: int, source: str, destination: str) -> Packet:
    return IP(src=source, dst=destination, ttl=63) / ICMP(type=kind, id=829, seq=1) / Raw(b"<script>alert(5)</script>")


def _wrapped(source: str, destination: str, mac: str, to: str, packet: Packet) -> Packet:
    outer = Ether(src=MAC1, dst=MAC2) / IP(src=source, dst=destination, ttl=17) / UDP(sport=50000, dport=4789, chksum=0)
    return outer / VXLAN(vni=4096, flags=8) / Ether(src=mac, dst=to) / packet
