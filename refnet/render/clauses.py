"""One clause of a policy as lines of iptables. Pure: golden files."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from refnet.calc.policy.filtering import Clause, End
from refnet.model.port import ICMP, ICMPV6, SCTP, TCP, UDP, UDPLITE
from refnet.model.rule import Icmp

ACCEPT, PASS, FROM_WORKLOAD = "0x10000/0x10000", "0x20000/0x20000", "0x80000/0x80000"
_PROTOCOLS = {TCP: "tcp", UDP: "udp", ICMP: "icmp", ICMPV6: "ipv6-icmp", SCTP: "sctp", UDPLITE: "udplite"}
# The multiport match takes fifteen ports, a range counts twice.
_MOST_PORTS = 15


def mark(bit: str) -> str:
    return f"-j MARK --set-xmark {bit}"


def marked(bit: str) -> str:
    return f"-m mark --mark {bit}"


def unmarked(bit: str) -> str:
    return f"-m mark --mark 0x0/{bit.partition('/')[2]}"


def clear(*bits: str) -> str:
    mask = sum(int(bit.partition("/")[2], 16) for bit in bits)
    return f"-j MARK --set-xmark 0x0/{mask:#x}"


def clause_lines(clause: Clause) -> Iterator[str]:
    """The rules that do what the clause says. Allow and Pass set a mark: the caller's chain decides what it means."""
    matches = list(_matches(clause))
    if clause.action in ("Allow", "Pass"):
        bit = ACCEPT if clause.action == "Allow" else PASS
        yield from (_line(match, mark(bit)) for match in matches)
        yield f"{marked(bit)} -j RETURN"
    elif clause.action == "Log":
        yield from (_line(match, '-j LOG --log-prefix "calico-packet: " --log-level 5') for match in matches)
    else:
        yield from (_line(match, "-j DROP") for match in matches)


def _line(match: str, target: str) -> str:
    return f"{match} {target}" if match else target


def _matches(clause: Clause) -> Iterator[str]:
    """Alternatives: more than one where a side has more ports than one match can hold."""
    fixed = [*_protocol(clause), *_addresses(clause.source, "src"), *_addresses(clause.destination, "dst")]
    fixed += [*_not_ports(clause.source, "src"), *_not_ports(clause.destination, "dst")]
    for source, destination in product(_ports(clause.source, "src"), _ports(clause.destination, "dst")):
        yield " ".join(part for part in (*fixed, source, destination) if part)


def _protocol(clause: Clause) -> Iterator[str]:
    if clause.protocol is not None:
        yield f"-p {_PROTOCOLS.get(clause.protocol, clause.protocol)}"
    if clause.not_protocol is not None:
        yield f"! -p {_PROTOCOLS.get(clause.not_protocol, clause.not_protocol)}"
    word = "-m icmp6 {}--icmpv6-type {}" if clause.protocol == ICMPV6 else "-m icmp {}--icmp-type {}"
    if clause.icmp:
        yield word.format("", _icmp(clause.icmp))
    if clause.not_icmp:
        yield word.format("! ", _icmp(clause.not_icmp))


def _icmp(icmp: Icmp) -> str:
    return str(icmp.type) if icmp.code is None else f"{icmp.type}/{icmp.code}"


def _addresses(end: End, way: str) -> Iterator[str]:
    option = "-s" if way == "src" else "-d"
    if end.net:
        yield f"{option} {end.net}"
    if end.not_net:
        yield f"! {option} {end.not_net}"
    yield from (f"-m set --match-set {name} {way}" for name in end.sets)
    yield from (f"-m set ! --match-set {name} {way}" for name in end.not_sets)


def _ports(end: End, way: str) -> Iterator[str]:
    """Alternatives for the ports of one side; one empty one where none are asked for."""
    if not (end.port_ranges or end.port_sets):
        yield ""
    for group in _groups(end.port_ranges):
        yield f"-m multiport --{way[0]}ports {group}"
    for name in end.port_sets:
        yield f"-m set --match-set {name} {way},{way}"


def _not_ports(end: End, way: str) -> Iterator[str]:
    for group in _groups(end.not_port_ranges):
        yield f"-m multiport ! --{way[0]}ports {group}"
    for name in end.not_port_sets:
        yield f"-m set ! --match-set {name} {way},{way}"


def _groups(ranges: tuple[tuple[int, int], ...]) -> Iterator[str]:
    group: list[str] = []
    room = _MOST_PORTS
    for first, last in ranges:
        size = 1 if first == last else 2
        if size > room:
            yield ",".join(group)
            group, room = [], _MOST_PORTS
        group.append(str(first) if size == 1 else f"{first}:{last}")
        room -= size
    if group:
        yield ",".join(group)
