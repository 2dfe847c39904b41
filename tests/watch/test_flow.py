"""Sightings come together to packets, whatever they are wrapped in."""

from __future__ import annotations

import pytest

from tests.wire.golden import capture_of
from tunlab.watch.flow import QUIET_S, Flow, key_of, subject_of, told_packet, without_checksums
from tunlab.wire.frames import Ethernet, Frame, Icmp, Ipv4, Payload, Udp, Vxlan

MACS = ("02:00:00:00:00:01", "02:00:00:00:00:02")
PODS = {"10.0.1.1": "pod1", "10.0.2.1": "pod2"}


def ip(source: str, target: str, protocol: int, ttl: int = 64) -> Ipv4:
    return Ipv4(source, target, ttl, protocol, 7, 84, False, False, 0, 0, True)


def echo(sequence: int, ttl: int = 64) -> tuple[Ethernet, Ipv4, Icmp]:
    return (
        Ethernet(*MACS, 0x0800),
        ip("10.0.1.1", "10.0.2.1", 1, ttl),
        Icmp(8, 0, 99, sequence, None, True),
    )


def wrapped(sequence: int) -> tuple[object, ...]:
    outer = (Ethernet(*MACS, 0x0800), ip("192.168.0.1", "192.168.0.2", 17), Udp(5000, 4789, 100, 0, None))
    return (*outer, Vxlan(4096, 8, 0), *echo(sequence, 63))


def seen(tap: str, direction: str, headers: tuple[object, ...], time_s: float) -> Frame:
    return Frame(1, time_s, tap, direction, "", headers)  # type: ignore[arg-type]


def way_of_an_echo(sequence: int, start_s: float = 0.0) -> list[Frame]:
    return [
        seen("pod1/eth0", "out", echo(sequence), start_s),
        seen("node1/cali1", "in", echo(sequence), start_s + 0.001),
        seen("node1/eth0", "out", wrapped(sequence), start_s + 0.002),
        seen("net1/node1", "in", wrapped(sequence), start_s + 0.003),
    ]


def test_one_packet_is_one_whether_wrapped_or_bare() -> None:
    flow = Flow()
    for frame in way_of_an_echo(1):
        flow.take(frame, 10.0)
    assert flow.finished(10.0 + QUIET_S / 2) == []
    (packet,) = flow.finished(10.0 + QUIET_S)
    told = told_packet(packet, PODS)
    assert (told["title"], told["subject"]) == ("pod1 → pod2  icmp request id 99 seq 1", "pods")
    assert [hop["place"] for hop in told["hops"]] == ["pod1", "node1", "net1"]
    assert told["hops"][1]["sightings"][-1]["stack"] == "eth ip udp vxlan eth ip icmp"
    assert flow.finished(99.0) == []


def test_the_order_in_which_taps_tell_does_not_matter() -> None:
    flow = Flow()
    for frame in reversed(way_of_an_echo(1)):
        flow.take(frame, 10.0)
    (packet,) = flow.finished(11.0)
    assert packet == way_of_an_echo(1)


def test_two_echoes_at_a_time_are_two_packets() -> None:
    flow = Flow()
    for one, other in zip(way_of_an_echo(1), way_of_an_echo(2), strict=True):
        flow.take(one, 10.0)
        flow.take(other, 10.0)
    assert flow.finished(11.0) == [way_of_an_echo(1), way_of_an_echo(2)]


def test_what_is_sent_again_is_another_packet() -> None:
    flow = Flow()
    for frame in [*way_of_an_echo(1), *way_of_an_echo(1, 0.1)]:
        flow.take(frame, 10.0)
    assert flow.finished(11.0) == [way_of_an_echo(1), way_of_an_echo(1, 0.1)]


def test_a_flood_is_told_as_it_goes_on() -> None:
    flow = Flow()
    for number in range(1000):
        flow.take(seen("pod1/eth0", "out", echo(number), number / 1000), number / 1000)
    assert len(flow.finished(1.0)) > 700


@pytest.mark.parametrize("name", ["arp", "fragments", "odd", "vxlan-ipv6", "raw-ip"])
def test_whatever_a_capture_holds_can_be_told(name: str) -> None:
    flow = Flow()
    frames = capture_of(name).frames
    for frame in frames:
        flow.take(frame, 0.0)
    packets = flow.finished(9.0)
    assert sum(map(len, packets)) == len([frame for frame in frames if key_of(frame) is not None])
    assert all(told_packet(packet, {})["hops"] for packet in packets)


def test_subjects_tell_pods_from_the_rest() -> None:
    assert subject_of(way_of_an_echo(1)[2], PODS) == "pods"
    assert subject_of(way_of_an_echo(1)[2], {}) == "other"
    assert {subject_of(frame, {}) for frame in capture_of("arp").frames} == {"arp"}
    assert "bgp" in {subject_of(frame, {}) for frame in capture_of("bgp-open").frames}


def test_a_cut_frame_is_not_blamed_for_its_checksum() -> None:
    bad = (*echo(1)[:2], Icmp(8, 0, 99, 1, None, False), Payload(b"x"))
    assert without_checksums(bad)[2] == Icmp(8, 0, 99, 1, None, None)
