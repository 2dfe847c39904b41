"""What suites say about frames, and the one line that each failure says back."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.wire.golden import capture_of
from tests.wire.make_golden import NODE1, NODE2, POD1, POD2
from tunlab.errors import Bug, WorldError
from tunlab.wire.decode import Capture
from tunlab.wire.expect import Mismatch, Seen


def journey() -> Capture:
    return capture_of("raw-ip")


def test_a_selection_narrows_down_to_the_frames_meant() -> None:
    seen = journey().window("golden").on("node1/eth0").going("out").with_stack("eth ip ip icmp").between(POD2, POD1)
    frame = seen.some("the request").each(outer__source=NODE1, inner__ttl=63, direction="out").one()
    assert frame.number == 4
    assert [frame.number for frame in journey().echo(4242, 1)] == [3, 4, 5, 6]
    assert [frame.number for frame in journey().echo(4242).replies()] == [5, 6]
    assert [frame.number for frame in journey().seen.from_to(POD1, POD2)] == [3, 4]
    assert [frame.number for frame in journey().seen.matching(outer__source=NODE2)] == [5]
    assert len(journey().echo(4242, 2)) == 0


def test_icmp_errors_are_found_by_what_they_quote() -> None:
    seen = capture_of("frag-needed").seen.matching(icmp__kind=3, icmp__code=4).quoting(POD1, POD2)
    seen.some().each(icmp__mtu={1400, 1480}, icmp__checksum_ok=True)
    assert len(seen) == 3


Demand = Callable[[Seen], object]


@pytest.mark.parametrize(
    ("name", "demand", "message"),
    [
        pytest.param(
            "raw-ip",
            lambda seen: seen.going("out").with_stack("eth ip ip icmp").each(outer__source="192.168.100.1"),
            "raw-ip.pcapng frame 4 on node1/eth0: outer.source: seen 192.168.100.100, wanted 192.168.100.1",
            id="field",
        ),
        pytest.param(
            "vxlan-4789",
            lambda seen: seen.each(vxlan__vni=4096, inner_ethernet__source={"66:00:00:00:00:07", "66:00:00:00:00:08"}),
            "vxlan-4789.pcapng frame 2 on node1/eth0: inner_ethernet.source: seen 66:00:00:00:01:01, "
            "wanted 66:00:00:00:00:07 or 66:00:00:00:00:08",
            id="set",
        ),
        pytest.param(
            "bare-icmp",
            lambda seen: seen.each(inner__ttl=63),
            "bare-icmp.pcapng frame 2 on node1/eth0: inner: seen 1 IP header(s) in 'eth ip icmp', wanted two",
            id="no-inner",
        ),
        pytest.param(
            "bare-icmp",
            lambda seen: seen.each(vxlan__vni=4096),
            "bare-icmp.pcapng frame 2 on node1/eth0: vxlan: seen no such header in 'eth ip icmp'",
            id="no-header",
        ),
        pytest.param(
            "raw-ip",
            lambda seen: seen.with_stack("eth ip udp vxlan eth ip icmp").some("VXLAN from pod1 to pod2"),
            "raw-ip.pcapng: VXLAN from pod1 to pod2 (stack eth ip udp vxlan eth ip icmp): seen none, wanted some; "
            "there was 2 × ip icmp, 2 × eth ip ip icmp",
            id="some",
        ),
        pytest.param(
            "raw-ip",
            lambda seen: seen.echo(4242, 9).on("node1/eth0").each(outer__ttl=64),
            "raw-ip.pcapng: echo 4242/9, on node1/eth0: seen none, wanted some; there was 2 × ip icmp, "
            "2 × eth ip ip icmp",
            id="each-of-none",
        ),
        pytest.param(
            "raw-ip",
            lambda seen: seen.with_stack("ip icmp").none("pod traffic without a tunnel", witness=seen),
            "raw-ip.pcapng frame 3 on node1/tunl0: pod traffic without a tunnel: seen ip icmp (ip 10.244.1.2 > "
            "10.244.2.2 ttl 63 | icmp request id 4242 seq 1), wanted none; 2 such frames",
            id="none",
        ),
        pytest.param(
            "raw-ip",
            lambda seen: seen.on("node1/tunl0").one("the request"),
            "raw-ip.pcapng: the request (on node1/tunl0): seen 2 (frames 3, 6 …), wanted one",
            id="one",
        ),
    ],
)
def test_a_mismatch_is_one_line_that_names_all_of_it(name: str, demand: Demand, message: str) -> None:
    with pytest.raises(Mismatch, match=f"^{re.escape(message)}$"):
        demand(capture_of(name).seen)


def test_silence_counts_with_a_witness() -> None:
    capture = journey()
    capture.window("golden").with_stack("eth arp").none("ARP for pods", witness=capture.echo(4242))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            {"windows": {"golden": replace(journey().windows["golden"], taps=frozenset({"node1/tunl0"}))}},
            "raw-ip.pcapng: no ARP (window golden, stack eth arp): silence proves nothing: "
            "node1/eth0 lacks a sentinel of window golden\n  hint: ",
            id="no-sentinel",
        ),
        pytest.param(
            {"drops": {"node1/eth0": 3, "node1/tunl0": 0}},
            "raw-ip.pcapng: no ARP (window golden, stack eth arp): silence proves nothing: node1/eth0 dropped 3 frames",
            id="drops",
        ),
    ],
)
def test_silence_of_a_tap_that_was_not_awake_proves_nothing(change: dict[str, object], message: str) -> None:
    capture = replace(journey(), **change)  # type: ignore[arg-type]
    with pytest.raises(WorldError, match=f"^{re.escape(message)}"):
        capture.window("golden").with_stack("eth arp").none("no ARP", witness=capture.echo(4242))


def test_silence_without_a_witness_proves_nothing() -> None:
    message = r"^raw-ip\.pcapng: stack eth arp: silence proves nothing: no witness either \(echo 7\)$"
    with pytest.raises(WorldError, match=message):
        journey().seen.with_stack("eth arp").none(witness=journey().echo(7))


def test_a_witness_that_came_past_another_tap_proves_nothing_unless_there_is_a_reason() -> None:
    asked = journey().seen.on("node1/eth0").with_stack("eth arp")
    asked.none(witness=journey().seen.on("node1/eth0"))
    elsewhere = journey().seen.on("node1/tunl0")
    message = r"^raw-ip\.pcapng: on node1/eth0, stack eth arp: silence proves nothing: no witness came past node1/eth0 "
    with pytest.raises(WorldError, match=message):
        asked.none(witness=elsewhere)
    asked.none(witness=elsewhere, elsewhere="nothing comes past it by right")


def test_silence_where_there_is_no_window_proves_nothing() -> None:
    capture = replace(journey(), windows={})
    with pytest.raises(WorldError, match=r"silence proves nothing: no window, no sentinel$"):
        capture.seen.with_stack("eth arp").none(witness=capture.seen)


def test_a_tap_or_window_that_is_not_in_the_capture_is_no_silence() -> None:
    with pytest.raises(WorldError, match=r"^raw-ip\.pcapng: tap node7/eth0 is not in it\n  hint: it has: node1/eth0, "):
        journey().seen.on("node7/eth0")
    with pytest.raises(WorldError, match=r"^raw-ip\.pcapng: window pairs is not in it\n  hint: it has: golden$"):
        journey().window("pairs")


@pytest.mark.parametrize("name", ["ip__ttl", "outer__time_to_live", "colour"])
def test_a_field_that_no_frame_has_is_the_suites_mistake(name: str) -> None:
    with pytest.raises(Bug, match=r": a frame has no such (field|header)"):
        journey().seen.each(**{name: 1})
