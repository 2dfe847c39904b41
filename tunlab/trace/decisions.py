"""What each place on the way decided, in the kernel's own words: routes, neighbours, FDB, packet filter counters.

Nothing here asks the system's agent: the answers hold for any system.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunlab.box.box import Box, Completed
from tunlab.trace.journey import Hop, device_of, ends_of
from tunlab.trace.policing import policy_verdicts, readable

COUNTERS = """
for six in '' 6; do
  for table in $(cat /proc/net/ip${six}_tables_names 2>/dev/null); do
    echo "*ip${six}tables-save -c -t $table"; ip${six}tables-legacy-save -c -t $table | grep '^\\['
  done
  save=ip${six}tables-nft-save
  $save -c 2>/dev/null | sed -n "s/^[*]\\(.*\\)/*$save -c -t \\1/p; /^\\[/p"
done
"""
_ENDS = re.compile(r"-j (ACCEPT|DROP|REJECT|SNAT|DNAT|MASQUERADE|LOG|NFLOG)\b")
# A decision holds the command that shows it: rules are counted by the command that lists their table.
_RULE = re.compile(r"^\[([0-9]+):[0-9]+\] (-A .*)$")


@dataclass(frozen=True, slots=True)
class Decision:
    """`what` was decided, `says` in the kernel's words, and the command that shows it.

    A rule that only marks or calls another chain is not decisive.
    """

    what: str
    says: str
    command: str
    is_decisive: bool = True


@dataclass(frozen=True, slots=True)
class Place:
    """What a place held when the packet passed: its devices' MTU and kind, and how often each rule had matched."""

    mtu_bytes: Mapping[str, int]
    kinds: Mapping[str, str]
    macs: Mapping[str, str]
    rules: Mapping[tuple[str, str], int]


def read_places(box: Box, places: Sequence[str]) -> dict[str, Place]:
    """Counters and MTUs of these places, now."""
    links = box.gather([(place, ("ip", "-d", "-j", "link", "show")) for place in places])
    counts = box.gather([(place, ("sh", "-c", COUNTERS)) for place in places], check=False)
    return {
        place: _place(json.loads(link.out), parse_counters(count.out))
        for place, link, count in zip(places, links, counts, strict=True)
    }


def _place(links: Iterable[Mapping[str, Any]], rules: Mapping[tuple[str, str], int]) -> Place:
    found = [one for one in links if "ifname" in one]
    return Place(
        {one["ifname"]: one["mtu"] for one in found},
        {one["ifname"]: one.get("linkinfo", {}).get("info_kind", "") for one in found},
        {one["ifname"]: one.get("address", "") for one in found},
        rules,
    )


def parse_counters(text: str) -> dict[tuple[str, str], int]:
    """How many packets each rule has matched, by the command that lists its table, and rule."""
    command = ""
    found: dict[tuple[str, str], int] = {}
    for line in text.splitlines():
        if line.startswith("*"):
            command = line[1:].strip()
        elif match := _RULE.match(line):
            found[command, match[2]] = found.get((command, match[2]), 0) + int(match[1])
    return found


def matched_rules(before: Place, after: Place) -> list[Decision]:
    """The rules whose counters rose meanwhile, drops first, and what they say of policies."""
    risen = [
        (command, rule, count - before.rules.get((command, rule), 0))
        for (command, rule), count in after.rules.items()
        if count > before.rules.get((command, rule), 0)
    ]
    risen.sort(key=lambda one: not is_drop(one[1]))
    told = [
        Decision(
            "dropped by rule" if is_drop(rule) else "rule",
            f"{readable(rule)} (+{more})",
            command,
            _ENDS.search(rule) is not None,
        )
        for command, rule, more in risen
    ]
    for command in dict.fromkeys(command for command, _, _ in risen):
        said = policy_verdicts(rule for one, rule, _ in risen if one == command)
        told += [Decision(what, says, command) for what, says in said]
    return told


def is_drop(rule: str) -> bool:
    """Whether a rule ends a packet's way."""
    return re.search(r"-j (DROP|REJECT)\b", rule) is not None


def decide(
    box: Box, hops: Sequence[Hop], before: Mapping[str, Place], after: Mapping[str, Place]
) -> dict[Hop, tuple[Decision, ...]]:
    """What was decided at each hop. Two rounds of questions, each for all hops at once.

    Counters cannot tell the packet from its answer, so what rose is told once for each place.
    """
    first = [_questions(hop) for hop in hops]
    answers = _ask(box, first)
    more = _ask(
        box,
        [
            _who_is(hop, said, after[hop.place].kinds) if hop.place in after else []
            for hop, said in zip(hops, answers, strict=True)
        ],
    )
    untold = {place: matched_rules(before[place], after[place]) for place in after}
    told = {}
    for hop, one, other in zip(hops, answers, more, strict=True):
        decisions = [*one, *other, *_misdirected(hop, after.get(hop.place))]
        if hop.is_translated:
            decisions.append(Decision("translated", " → ".join(map(_talk, (hop.first, hop.last))), "conntrack -L"))
        told[hop] = (*decisions, *untold.pop(hop.place, ()))
    return told


def _misdirected(hop: Hop, place: Place | None) -> list[Decision]:
    """A frame that a segment flooded to a place whose device has another MAC."""
    mac = place.macs.get(hop.came_by or "", "") if place is not None else ""
    if not mac or hop.left_by is not None or not hop.first.ethernets or hop.first.ethernets[0].destination == mac:
        return []
    says = f"it is for {hop.first.ethernets[0].destination}, and {hop.came_by} has {mac}"
    return [Decision("another MAC", says, f"ip link show dev {hop.came_by}")]


Asked = tuple[str, str, str]  # what, place, command


def _questions(hop: Hop) -> list[Asked]:
    """The commands that show what this place did with the packet."""
    if _is_bridge(hop):
        return [("bridge port", hop.place, f"bridge fdb show br br0 | grep -i {hop.last.ethernets[0].destination}")]
    source, target = ends_of(hop.first)
    if hop.left_by is None:
        return [("delivered", hop.place, f"ip route get {target} from {source} iif {hop.came_by}")]
    if hop.came_by is not None and len(hop.first.ips) == len(hop.last.ips) > 1:  # passed on as it was wrapped
        outer = hop.last.outer
        return [("route", hop.place, f"ip route get {outer.destination} from {outer.source} iif {hop.came_by}")]
    arrival = _arrival(hop)
    words = f" from {source} iif {arrival}" if arrival else ""
    asked = [("route", hop.place, f"ip route get {ends_of(hop.last)[1]}{words}")]
    if len(hop.last.ips) > 1:
        asked.append(("outer route", hop.place, f"ip route get {hop.last.outer.destination}"))
    return asked


def _arrival(hop: Hop) -> str | None:
    """The device by which the kernel's forwarding met the bare packet: a tunnel's, where it came wrapped."""
    came = hop.came_by
    if came is None:
        return None
    bare = [frame for frame in hop.sightings if frame.direction == "in" and len(frame.ips) == 1]
    return bare[-1].tap.partition("/")[2] if bare else came


def _who_is(hop: Hop, said: Iterable[Decision], kinds: Mapping[str, str]) -> list[Asked]:
    """The neighbours, and the FDB entry, that the routes led to."""
    asked: list[Asked] = []
    for decision in said:
        if decision.what not in ("route", "outer route"):
            continue
        route = re.search(r"^(?:\S+ )?(\S+)(?: from \S+)?(?: via (\S+))? dev (\S+)", decision.says)
        if route is None:
            continue
        next_hop, device = route[2] or route[1], route[3]
        asked.append(("neighbour", hop.place, f"ip neigh show {next_hop} dev {device}"))
    for frame in hop.sightings:
        device = device_of(frame)
        if frame.direction == "out" and kinds.get(device) == "vxlan":
            asked.append(
                ("FDB", hop.place, f"bridge fdb show dev {device} | grep -i {frame.ethernets[-1].destination}")
            )
    return asked


def _ask(box: Box, asked: Sequence[Sequence[Asked]]) -> list[list[Decision]]:
    flat = [(place, ("sh", "-c", command)) for group in asked for _, place, command in group]
    done = iter(box.gather(flat, check=False))
    return [[_answer(what, command, next(done)) for what, _, command in group] for group in asked]


def _answer(what: str, command: str, done: Completed) -> Decision:
    lines = [line.strip() for line in (done.out or done.err).splitlines() if line.strip() not in ("", "cache")]
    says = re.sub(r"\s+(uid 0|cache.*)\b", "", lines[0]) if lines else "nothing"
    if what == "delivered" and not says.startswith("local"):
        what = "route"  # it should have gone on
    return Decision(what, says, command)


def _is_bridge(hop: Hop) -> bool:
    """A segment's namespace is a bridge: its frames have no say in routing."""
    return len(hop.sightings) > 1 and hop.first.headers == hop.last.headers


def _talk(frame: object) -> str:
    source, target = ends_of(frame)  # type: ignore[arg-type]
    return f"{source} > {target}"
