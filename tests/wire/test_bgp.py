"""BGP OPEN messages, read by tshark and by scapy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.wire.golden import capture_of
from tests.wire.make_golden import GOLDEN, NODE1, NODE2
from tunlab.box.inside import pcapng as inside
from tunlab.wire import bgp
from tunlab.wire.decode import DecodersDisagree, decode
from tunlab.wire.pcapng import read_file


def test_opens_tell_as_router_id_and_hold_time() -> None:
    seen = bgp.opens(capture_of("bgp-open"))
    assert [one.open for one in seen] == [
        bgp.Open(4, 64512, 64512, 240, NODE1),
        bgp.Open(4, 23456, 4_200_000_000, 240, NODE2),
        bgp.Open(4, 65001, None, 240, "10.0.0.3"),
    ]
    assert [one.open.autonomous_system for one in seen] == [64512, 4_200_000_000, 65001]
    assert [(one.frame.number, one.frame.outer.source) for one in seen] == [(4, NODE1), (5, NODE2), (6, NODE1)]


def test_an_open_that_passes_two_taps_is_seen_twice(tmp_path: Path) -> None:
    """A decoder that thinks in connections takes the second copy for a retransmission and does not look inside."""
    once = read_file(GOLDEN / "bgp-open.pcapng")
    twice = tmp_path / "twice.pcapng"
    blocks = [inside.section_block(), inside.interface_block("node1/eth0", 1), inside.interface_block("node2/eth0", 1)]
    for packet in once.packets:
        flags = {"in": 1, "out": 2}.get(packet.direction, 0)
        blocks += [inside.packet_block(tap, packet.time_ns, packet.data, flags=flags) for tap in (0, 1)]
    twice.write_bytes(b"".join(blocks))
    seen = bgp.opens(decode(twice, needs_sentinels=False))
    assert [(one.frame.tap, one.open.autonomous_system) for one in seen] == [
        (tap, number) for number in (64512, 4_200_000_000, 65001) for tap in ("node1/eth0", "node2/eth0")
    ]


def test_capabilities_that_share_one_optional_parameter_are_all_read() -> None:
    """As BIRD writes them: multiprotocol, route refresh, 4-octet AS 64512 in one parameter."""
    capabilities = bytes.fromhex("010400010001020041040000fc00")
    parameter = bytes([2, len(capabilities)]) + capabilities
    body = bytes.fromhex("04fc0000f0c0000201") + bytes([len(parameter)]) + parameter
    message = b"\xff" * 16 + (19 + len(body)).to_bytes(2, "big") + b"\x01" + body
    assert bgp._opens_in(message) == [bgp.Open(4, 64512, 64512, 240, "192.0.2.1")]


def test_a_capture_without_bgp_has_no_opens() -> None:
    assert bgp.opens(capture_of("tcp")) == []


def test_a_decoder_that_reads_another_as_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = bgp._open_of_scapy
    monkeypatch.setattr(bgp, "_open_of_scapy", lambda *args: replace(real(*args), asn=1))
    message = r"^bgp-open\.pcapng frame 4 on node1/eth0: bgp open\.asn: pyshark reads '64512', scapy '1'\n"
    with pytest.raises(DecodersDisagree, match=message):
        bgp.opens(capture_of("bgp-open"))


def test_a_decoder_that_misses_an_open_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = bgp._opens_in
    monkeypatch.setattr(bgp, "_opens_in", lambda payload: real(payload)[1:])
    with pytest.raises(DecodersDisagree, match=r"number of BGP OPEN messages: pyshark reads '3', scapy '0'\n"):
        bgp.opens(capture_of("bgp-open"))
