"""What became of the packet: it arrived and was answered, or the last place that saw it, why, and what would help."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunlab.box.box import Box
from tunlab.trace.decisions import Decision
from tunlab.trace.journey import Hop, Journey, ends_of
from tunlab.wire.frames import Icmp, Icmpv6, Vxlan

_ERRORS: Mapping[tuple[int, int], tuple[str, str]] = {
    (3, 0): ("has no route to {target}", "give {place} a route to it: by BGP, by hand, or let the nodes encapsulate"),
    (3, 1): ("cannot reach {target}: nobody answers for it on the link", "see who should have it: ip neigh on {place}"),
    (3, 2): ("does not know the protocol", "see that the tunnel device on {place} is there and up"),
    (3, 3): ("has nobody who listens on that port", "start a server there, or ask another port"),
    (3, 4): ("cannot pass on so large a packet: its next link takes {mtu} bytes", "send fewer bytes, or lower the MTU"),
    (3, 9): ("is told to refuse it", "see the rules and routes of {place}"),
    (3, 10): ("is told to refuse it", "see the rules and routes of {place}"),
    (3, 13): ("has a rule or a route that refuses it", "see iptables-save and ip route on {place}"),
    (11, 0): ("saw its time to live run out: it goes in a circle", "follow the hops: two places send it to each other"),
}
# RFC 4443 counts anew; what is meant is the same.
_FROM_ICMPV6: Mapping[tuple[int, int], tuple[int, int]] = {
    (1, 0): (3, 0),
    (1, 1): (3, 13),
    (1, 3): (3, 1),
    (1, 4): (3, 3),
    (1, 5): (3, 13),
    (1, 6): (3, 13),
    (2, 0): (3, 4),
    (3, 0): (11, 0),
}
_FORWARDING = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}
_STATE = """
sysctl -n "$2"
[ "$2" = net.ipv4.ip_forward ] || exit 0
cat /proc/sys/net/ipv4/conf/all/rp_filter /proc/sys/net/ipv4/conf/$1/rp_filter 2>/dev/null | sort -n | tail -1
"""


@dataclass(frozen=True, slots=True)
class Death:
    """Where a packet was last seen, why it got no further, and the nearest thing that would make it live."""

    place: str
    device: str
    why: str
    remedy: str
    is_answer: bool = False  # whether it was the answer that died

    def __str__(self) -> str:
        what = "the answer" if self.is_answer else "the packet"
        at = f"{self.place}/{self.device}" if self.device else self.place
        return f"{what} died at {at}: {self.why}"


def cause_of(
    box: Box, journey: Journey, result: Mapping[str, Any], decisions: Mapping[Hop, Sequence[Decision]], source: str
) -> Death | None:
    """Why there was no answer; None where there was one (a refusal is one too)."""
    if result["outcome"] in ("answered", "refused"):
        return None
    if result["outcome"] == "too_big":
        why = f"{result['mtu']} bytes is the largest packet that this way takes, and it may not be cut into fragments"
        where = (result.get("icmp") or {}).get("from")
        return Death(source, "", why + (f", says {where}" if where else ""), "send fewer bytes: --size")
    if journey.errors:
        return _reported(journey)
    way = journey.back or journey.there
    if not way:
        why = f"it never left: {result.get('error') or 'its own kernel did not send it'}"
        return Death(source, "", why, f"see ip route and ip link in {source}")
    last, is_answer = way[-1], bool(journey.back)
    why, remedy = _why(box, last, decisions.get(last, ()))
    return Death(last.place, last.left_by or last.came_by or "", why, remedy, is_answer)


def _reported(journey: Journey) -> Death:
    """An ICMP error tells who gave up, and why."""
    origin = journey.errors[0]
    error = origin.first.last
    assert isinstance(error, Icmp | Icmpv6)
    meant = _FROM_ICMPV6.get((error.kind, error.code)) if isinstance(error, Icmpv6) else (error.kind, error.code)
    _, target = ends_of(journey.there[-1].last) if journey.there else ("", "its target")
    device = journey.there[-1].came_by if journey.there and journey.there[-1].place == origin.place else ""
    if meant == (3, 3) and any(isinstance(header, Vxlan) for header in error.quoted):
        why = f"{origin.place} has no VXLAN device that takes it"
        return Death(origin.place, device or "", why, f"see the device: ip -d link show type vxlan on {origin.place}")
    words = {"place": origin.place, "target": target, "mtu": error.mtu}
    unknown = (f"answered with {error.word} {error.kind}/{error.code}", "see RFC 792 and RFC 4443")
    why, remedy = _ERRORS.get(meant, unknown) if meant is not None else unknown
    return Death(origin.place, device or "", f"{origin.place} {why.format(**words)}", remedy.format(**words))


def _why(box: Box, hop: Hop, decisions: Sequence[Decision]) -> tuple[str, str]:
    """From what its last place decided, and from what it is set to."""
    for decision in decisions:
        if decision.what == "dropped by rule":
            asked = [one.says for one in decisions if one.what == "policy"]
            policy = f"the policy ({'; '.join(asked)})" if asked else "the policy"
            return f"a rule dropped it: {decision.says}", f"change the rule or {policy}: {decision.command}"
    came, device = hop.came_by or "lo", hop.left_by or hop.came_by or "lo"
    switch = _FORWARDING[6 if ":" in hop.last.outer.source else 4]
    lines = box.run(hop.place, ["sh", "-c", _STATE, "sh", came, switch], check=False).out.splitlines()
    forwards, rp_filter = [*lines, "1", "0"][:2]
    if forwards == "0" and hop.came_by is not None:
        return "the place does not forward packets", f"sysctl -w {switch}=1"
    for decision in decisions:
        if found := _bad_route(decision) or _nobody(decision):
            return found
    if hop.left_by is not None:
        return f"it left by {hop.left_by} and was not seen on the other side", f"see the link: ip -s link show {device}"
    if len(hop.last.ips) > 1:
        tunnel = "vxlan" if "vxlan" in hop.last.stack else "ipip"
        return f"no tunnel unwrapped it: the place has no {tunnel} device that takes it, or a filter is before it", (
            f"see the device and its addresses: ip -d link show type {tunnel}"
        )
    if rp_filter != "0":
        why = f"the place checks where packets may come from (rp_filter {rp_filter})"
        return why, "see the route back to its source"
    return "it came and did not go on", "see iptables-save -c and ip rule"


def _nobody(decision: Decision) -> tuple[str, str] | None:
    if decision.what == "neighbour" and re.search(r"FAILED|INCOMPLETE|^nothing$", decision.says):
        address = decision.command.split()[3]
        return f"nobody answers for {address}", f"see who should have {address}: {decision.command}"
    if decision.what == "another MAC":
        return f"the frame is not for this place: {decision.says}", "see who sent it there: ip neigh, a hop before"
    if decision.what == "FDB" and decision.says == "nothing":
        return "the VXLAN device knows no host for that MAC", f"add the FDB entry: {decision.command}"
    if decision.what == "bridge port" and decision.says == "nothing":
        return "no port of the segment leads to that MAC", f"see who has it: {decision.command}"
    return None


def _bad_route(decision: Decision) -> tuple[str, str] | None:
    if decision.what not in ("route", "outer route"):
        return None
    if "Invalid cross-device link" in decision.says:
        return (
            "its source address does not fit the device it came by",
            f"see rp_filter and the routes: {decision.command}",
        )
    if re.search(r"RTNETLINK answers|unreachable|prohibit|blackhole", decision.says):
        return f"no way on: {decision.says}", f"give the place a route, shown by {decision.command}"
    return None
