"""What both decoders say of every packet of the golden corpus."""

from __future__ import annotations

import pytest

from tests.wire.golden import capture_of
from tests.wire.make_golden import GOLDEN, MAC1, MAC2, NODE1, NODE2, POD1, POD2, VTEP1, VTEP2, golden_files
from tunlab.wire.decode import decode
from tunlab.wire.frames import Arp, Ethernet, Frame, Icmp, Icmpv6, Ipv4, Ipv6, Mismatch, Payload, Tcp, Udp, Vxlan

NAMES = sorted(name.removesuffix(".pcapng") for name in golden_files())
FRAMES = GOLDEN / "frames.txt"


def test_the_files_are_what_the_script_writes() -> None:
    assert {path.name: path.read_bytes() for path in GOLDEN.glob("*.pcapng")} == golden_files()


@pytest.mark.parametrize("name", NAMES)
def test_every_packet_reads_as_it_did(name: str) -> None:
    """frames.txt was checked by eye against the packets; `python -m tests.wire.test_golden` writes it anew."""
    sections = dict(section.split("\n", 1) for section in FRAMES.read_text().split("\n\n"))
    assert describe(name) == sections[name].rstrip("\n")


def four(frame: Frame) -> list[Ipv4]:
    return [header for header in frame.ips if isinstance(header, Ipv4)]


def describe(name: str) -> str:
    return "\n".join(f"{frame.number} {frame.describe()}" for frame in capture_of(name).frames)


STACKS = {
    "bare-icmp": ["eth ip icmp"] * 2,
    "ipip": ["eth ip ip icmp"],
    "double-ipip": ["eth ip ip ip icmp"],
    "vxlan-4789": ["eth ip udp vxlan eth ip icmp"],
    "vxlan-8472": ["eth ip udp vxlan eth ip icmp"],
    "vxlan-others": [f"eth ip udp vxlan eth {rest}" for rest in ("arp", "ip tcp", "ip icmp")],
    "arp": ["eth arp"] * 2,
    "frag-needed": ["eth ip icmp"] * 4,
    "ttl-exceeded": ["eth ip icmp"] * 4,
    "fragments": ["eth ip udp", "eth ip", "eth ip", "eth ip ip udp", "eth ip", "eth ip ip icmp", "eth ip ip"],
    "bad-checksum": ["eth ip udp", "eth ip udp", "eth ip tcp", "eth ip icmp", "eth ip udp", "eth ip ip icmp"],
    "tcp": ["eth ip tcp"] * 4,
    "bgp-open": ["eth ip tcp"] * 5,
    "raw-ip": ["ip icmp", "eth ip ip icmp", "eth ip ip icmp", "ip icmp"],
    "ipv6": [
        *["eth ipv6 icmpv6"] * 2,
        "eth ipv6 udp",
        "eth ipv6 tcp",
        *["eth ipv6 icmpv6"] * 4,
        "eth ipv6",
        *["eth ipv6 udp"] * 2,
    ],
    "vxlan-ipv6": [
        "eth ipv6 udp vxlan eth ipv6 icmpv6",
        "eth ip udp vxlan eth ipv6 icmpv6",
        "eth ipv6 udp vxlan eth ip icmp",
    ],
    "odd": ["eth", "eth ipv6", "eth", "eth ip", "eth ip udp", "eth arp", "eth ip udp", "eth ip"],
}


@pytest.mark.parametrize("name", NAMES)
def test_the_stack_of_every_packet(name: str) -> None:
    assert [frame.stack for frame in capture_of(name).frames] == STACKS[name]


def test_an_ipip_packet_has_an_outer_and_an_inner_header() -> None:
    (frame,) = capture_of("ipip").frames
    assert frame.headers[:2] == (
        Ethernet(MAC1, MAC2, 0x0800),
        Ipv4(NODE1, NODE2, 64, 4, 99, 104, True, False, 0, 0, True),
    )
    assert (frame.inner.source, frame.inner.destination, frame.inner.ttl) == (POD1, POD2, 63)
    assert frame.last == Icmp(8, 0, 4242, 1, None, True)
    assert frame.headers[-1] == Payload(bytes(range(56)))
    assert (frame.tap, frame.direction, frame.window) == ("node1/eth0", "out", "golden")


def test_a_bare_packet_has_no_inner_header() -> None:
    frame = capture_of("bare-icmp").frames[0]
    assert frame.outer.source == frame.innermost.source == POD1
    with pytest.raises(Mismatch, match=r"^bare-icmp\.pcapng frame 2 on node1/eth0: inner: seen 1 IP header\(s\) in "):
        _ = frame.inner
    assert not hasattr(frame, "ip")


@pytest.mark.parametrize(("name", "port", "vni"), [("vxlan-4789", 4789, 4096), ("vxlan-8472", 8472, 1)])
def test_a_vxlan_packet_has_two_ethernet_headers(name: str, port: int, vni: int) -> None:
    (frame,) = capture_of(name).frames
    udp = frame.find(Udp)
    assert (udp.source_port, udp.destination_port, udp.checksum, udp.checksum_ok) == (45678, port, 0, None)
    assert frame.find(Vxlan) == Vxlan(vni, 8, 0)
    assert frame.ethernets == (Ethernet(MAC1, MAC2, 0x0800), Ethernet(VTEP1, VTEP2, 0x0800))
    assert (frame.outer.source, frame.inner.source) == (NODE1, POD1)


def test_bits_of_vxlan_that_should_be_zero_are_told() -> None:
    first, _, third = capture_of("vxlan-others").frames
    assert first.find(Vxlan) == Vxlan(7, 8, 1)
    assert third.find(Vxlan) == Vxlan(4096, 0x88, 0x400005 << 8)


def test_vxlan_on_a_port_that_nobody_named_is_not_vxlan() -> None:
    (frame,) = decode(GOLDEN / "vxlan-8472.pcapng").frames
    assert frame.stack == "eth ip udp"


def test_arp_asks_and_answers() -> None:
    asks, answers = (frame.find(Arp) for frame in capture_of("arp").frames)
    assert asks == Arp(1, MAC1, NODE1, "00:00:00:00:00:00", NODE2)
    assert answers == Arp(2, MAC2, NODE2, MAC1, NODE1)


def test_what_an_icmp_error_quotes_is_no_part_of_the_stack() -> None:
    whole, cut, vxlan, local = (frame.find(Icmp) for frame in capture_of("frag-needed").frames)
    assert (whole.kind, whole.code, whole.mtu, whole.identifier) == (3, 4, 1400, None)
    assert [header.word for header in whole.quoted] == ["ip", "ip", "icmp"]
    assert [header.word for header in cut.quoted] == ["ip"]
    assert [header.word for header in vxlan.quoted] == ["ip", "udp", "vxlan", "eth", "ip", "icmp"]
    assert (local.mtu, [header.word for header in local.quoted]) == (1480, ["ip", "icmp"])
    assert isinstance(whole.quoted[0], Ipv4)
    assert whole.quoted[0].source == NODE1


def test_fragments_are_not_put_together() -> None:
    frames = capture_of("fragments").frames
    outer, inner = [four(frame)[0] for frame in frames], [four(frame)[-1] for frame in frames]
    assert [(one.more_fragments, one.fragment_offset) for one in outer[:3]] == [
        (True, 0),
        (True, 1400),
        (False, 2800),
    ]
    assert frames[0].find(Udp).checksum_ok is None
    assert (outer[3].is_fragment, inner[3].is_fragment) == (True, False)
    assert (outer[5].is_fragment, inner[5].is_fragment) == (False, True)


def test_bad_checksums_are_seen() -> None:
    ip, udp, tcp, icmp, absent, tunnel = capture_of("bad-checksum").frames
    assert (ip.find(Ipv4).checksum_ok, ip.find(Udp).checksum_ok) == (False, True)
    assert (udp.find(Ipv4).checksum_ok, udp.find(Udp).checksum_ok) == (True, False)
    assert tcp.find(Tcp).checksum_ok is False
    assert icmp.find(Icmp).checksum_ok is False
    assert absent.find(Udp).checksum_ok is None
    assert [ip.checksum_ok for ip in four(tunnel)] == [False, True]


def test_a_tcp_conversation_tells_flags_sequence_and_payload() -> None:
    told = [frame.find(Tcp) for frame in capture_of("tcp").frames]
    assert [(tcp.flags, tcp.sequence, tcp.payload_bytes) for tcp in told] == [
        ("S", 1000, 0),
        ("SA", 9000, 0),
        ("PA", 1001, 12),
        ("RA", 9001, 0),
    ]
    assert capture_of("tcp").frames[2].headers[-1] == Payload(b"who are you?")


def test_a_tap_without_link_layer_begins_with_ip() -> None:
    frame = capture_of("raw-ip").frames[0]
    assert (frame.tap, frame.stack, frame.outer.destination) == ("node1/tunl0", "ip icmp", POD2)
    assert frame.ethernets == ()


def test_an_ipv6_packet_in_vxlan_has_its_own_headers_whatever_is_around_it() -> None:
    six, four_outside, four_inside = capture_of("vxlan-ipv6").frames
    assert (six.outer.source, six.outer.destination, six.outer.ttl) == ("fd00:100::100", "fd00:200::101", 64)
    assert (six.inner.source, six.inner.ttl, six.inner.protocol) == ("fd00:10:244::2", 63, 58)
    assert [frame.find(Udp).checksum_ok for frame in (six, four_outside, four_inside)] == [True, None, True]
    assert [type(frame.inner) for frame in (six, four_outside, four_inside)] == [Ipv6, Ipv6, Ipv4]


def test_icmpv6_tells_echoes_neighbours_and_what_an_error_quotes() -> None:
    frames = capture_of("ipv6").frames
    request, reply, asks, answers, too_big, unreachable = (frames[i].find(Icmpv6) for i in (0, 1, 4, 5, 6, 7))
    assert [(one.kind, one.identifier, one.sequence) for one in (request, reply)] == [(128, 4242, 1), (129, 4242, 1)]
    assert (asks.target, answers.target) == ("fd00:200::101", "fd00:200::101")
    assert (too_big.mtu, [header.word for header in too_big.quoted]) == (1430, ["ipv6", "icmpv6"])
    assert (unreachable.kind, [header.word for header in unreachable.quoted]) == (1, ["ipv6", "udp"])
    assert {one.checksum_ok for one in (request, reply, asks, answers, too_big, unreachable)} == {True}
    assert (frames[9].find(Udp).checksum_ok, frames[3].find(Tcp).payload_bytes) == (False, 12)
    capture = capture_of("ipv6")
    assert [len(capture.echo(4242).requests()), len(capture.echo(4242).replies())] == [1, 1]
    assert len(capture.seen.quoting("fd00:10:244::2", "fd00:10:244::42")) == 2


def test_sentinels_are_told_apart_from_frames() -> None:
    capture = capture_of("raw-ip")
    told = [(sentinel.tap, sentinel.edge, sentinel.is_own) for sentinel in capture.sentinels]
    assert told == [(tap, edge, True) for edge in ("begin", "end") for tap in ("node1/eth0", "node1/tunl0")]
    assert capture.windows["golden"].taps == {"node1/eth0", "node1/tunl0"}


if __name__ == "__main__":
    FRAMES.write_text("\n\n".join(f"{name}\n{describe(name)}" for name in NAMES) + "\n")
