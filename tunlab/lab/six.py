"""The IPv6 half of a lab file: its checks, and the addresses that follow from the IPv4 ones."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, IPv6Interface, IPv6Network

from tunlab.lab.checks import gateway_of, segment_at
from tunlab.lab.mistakes import KeyPath, Mistake, written
from tunlab.lab.model import LabText, NodeText, PortText, SegmentText
from tunlab.lab.topology import Attachment, Router, Segment, StaticRoute6

LONGEST_PREFIX = 112
LINK_LOCAL6 = IPv6Network("fe80::/10")

Holder = NodeText | PortText


def check_six(lab: LabText) -> Iterator[Mistake]:
    """Every mistake of the IPv6 half that takes more than one place of the file to see."""
    yield from _check_subnets(lab)
    yield from _check_addresses(lab)
    yield from _check_pools(lab)


def address6_of(lab: LabText, holder: Holder) -> IPv6Interface | None:
    """The IPv6 address of a node or a router's leg: the one written down, else the same place in its `subnet6`.

    The place is read as it looks: 192.168.1.101 of 192.168.1.0/24 becomes fd00:1::101.
    """
    segment = segment_at(lab, holder.segment, holder.address)
    if segment is None or segment.subnet6 is None:
        return None
    if holder.address6 is not None:
        return IPv6Interface((holder.address6, segment.subnet6.prefixlen))
    if segment.subnet is None or holder.address is None:
        return None
    return IPv6Interface((_same_place(holder.address, segment), segment.subnet6.prefixlen))


def gateway6_of(lab: LabText, segment: SegmentText) -> IPv6Address | None:
    """The IPv6 address of the leg that is the segment's gateway."""
    legs = (port for router in lab.routers for port in router.interfaces)
    leg = next((port for port in legs if port.address is not None and port.address == gateway_of(segment)), None)
    found = address6_of(lab, leg) if leg is not None else None
    return found.ip if found is not None else None


def static_routes6(
    router: Router, routers: tuple[Router, ...], segments: tuple[Segment, ...]
) -> Iterator[StaticRoute6]:
    """The ways of the IPv4 routes, between the IPv6 subnets of the same segments."""
    subnets = {segment.subnet: segment.subnet6 for segment in segments}
    legs: dict[IPv4Address, Attachment] = {leg.address.ip: leg for each in routers for leg in each.interfaces}
    for route in router.routes:
        destination, via = subnets[route.destination], legs[route.via].address6
        if destination is not None and via is not None:
            yield StaticRoute6(destination, via.ip, route.device)


def _same_place(address: IPv4Address, segment: SegmentText) -> IPv6Address:
    assert segment.subnet is not None and segment.subnet6 is not None  # the caller has looked
    place = int(address) - int(segment.subnet.network_address)
    return segment.subnet6.network_address + int(str(max(place, 0)), 16)


def _check_subnets(lab: LabText) -> Iterator[Mistake]:
    some = next((i for i, segment in enumerate(lab.segments) if segment.subnet6 is not None), None)
    for i, segment in enumerate(lab.segments):
        path, subnet = ("segments", i, "subnet6"), segment.subnet6
        if subnet is None:
            if some is not None:
                hint = "such as fd00:2::/64; a node without IPv6 could reach no IPv6 pod"
                yield Mistake(path, f"missing, and segments[{some}] has one", "one for every segment, or none", hint)
            continue
        if subnet.prefixlen > LONGEST_PREFIX:
            hint = "an address there repeats the digits of the IPv4 one"
            yield Mistake(path, f"{subnet}: too small", f"a prefix length of at most {LONGEST_PREFIX}", hint)
        if subnet.is_multicast or subnet.is_loopback or subnet.overlaps(LINK_LOCAL6):
            hint = "such as fd00:1::/64"
            yield Mistake(path, f"{subnet}: not for hosts", "a unicast network of no special meaning", hint)
        for other in lab.segments[:i]:
            if other.subnet6 and subnet.overlaps(other.subnet6):
                what = f"{subnet}: overlaps {other.subnet6} of segment {other.name}"
                yield Mistake(path, what, "a subnet of its own for each segment", "choose another subnet")


def _holders(lab: LabText) -> Iterator[tuple[KeyPath, Holder]]:
    for i, node in enumerate(lab.nodes):
        yield ("nodes", i), node
    for i, router in enumerate(lab.routers):
        for j, port in enumerate(router.interfaces):
            yield ("routers", i, "interfaces", j), port


def _check_addresses(lab: LabText) -> Iterator[Mistake]:
    taken: dict[IPv6Address, str] = {}
    for at, holder in _holders(lab):
        path, segment = (*at, "address6"), segment_at(lab, holder.segment, holder.address)
        if holder.address6 is not None and segment is not None:
            subnet = segment.subnet6
            if subnet is None:
                legal, hint = "no address6", f"give segment {segment.name} a subnet6, or leave address6 out"
                yield Mistake(path, f"segment {segment.name} has no IPv6 subnet", legal, hint)
            elif holder.address6 not in subnet or holder.address6 == subnet.network_address:
                hint = f"segment {segment.name} is {subnet}"
                yield Mistake(path, f"{holder.address6}: not on segment {segment.name}", f"a host of {subnet}", hint)
        found = address6_of(lab, holder)
        if found is None:
            continue
        if found.ip in taken:
            what = f"{found.ip}: already the address of {taken[found.ip]}"
            yield Mistake(path, what, "an address of its own for each host", "choose another one")
        taken.setdefault(found.ip, written(at))


def _check_pools(lab: LabText) -> Iterator[Mistake]:
    if lab.pools6 and lab.segments and all(segment.subnet6 is None for segment in lab.segments):
        hint = "give every segment a subnet6, such as fd00:1::/64"
        yield Mistake(("pools6",), "no segment has IPv6", "pools6 only where the nodes have IPv6", hint)
    names = [pool.name for pool in lab.pools]
    for i, pool in enumerate(lab.pools6):
        path = ("pools6", i, "cidr")
        if pool.name is not None and pool.name in names:
            what = f"{pool.name}: already the name of another pool"
            yield Mistake(("pools6", i, "name"), what, "a name of its own for each pool", "choose another name")
        names.append(pool.name)
        if pool.cidr is None:
            continue
        for segment in lab.segments:
            if segment.subnet6 and pool.cidr.overlaps(segment.subnet6):
                what = f"{pool.cidr}: overlaps {segment.subnet6} of segment {segment.name}"
                hint = "such as fd00:10:244::/64; a pod must not look like a host's neighbour"
                yield Mistake(path, what, "a network that no segment touches", hint)
        for j, other in enumerate(lab.pools6[:i]):
            if other.cidr and pool.cidr.overlaps(other.cidr):
                yield Mistake(path, f"{pool.cidr}: overlaps pools6[{j}]", "pools apart", "choose another network")
        if pool.block_size is not None and pool.block_size < pool.cidr.prefixlen:
            what, legal = (
                f"{pool.block_size}: a block would be larger than {pool.cidr}",
                f"{pool.cidr.prefixlen} to 128",
            )
            yield Mistake(("pools6", i, "block_size"), what, legal, "a smaller block, or a larger pool")
