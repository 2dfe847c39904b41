"""Changes as text for `ip -batch` and `bridge -batch`: the very commands that a person would type."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from refnet.calc.changes import Changes
from refnet.calc.wanted import BLACKHOLE, UNICAST, AddressKey, FdbKey, NeighbourKey, Route, RouteKey, TunnelDevice
from refnet.model.address import by_family


@dataclass(frozen=True)
class Batch:
    """Lines for one run of one tool."""

    tool: str
    lines: tuple[str, ...]


def batches(changes: Changes) -> tuple[Batch, ...]:
    """The work in as few runs as the order allows: a route must not come alive before its neighbour and FDB entry."""
    first, fdb, last = tuple(_before_fdb(changes)), tuple(_fdb(changes)), tuple(_after_fdb(changes))
    if not fdb:
        return tuple(batch for batch in (Batch("ip", first + last),) if batch.lines)
    return tuple(b for b in (Batch("ip", first), Batch("bridge", fdb), Batch("ip", last)) if b.lines)


def _before_fdb(changes: Changes) -> Iterator[str]:
    for name in changes.replaced:
        yield f"link del {name}"
    for device in changes.created:
        yield f"link add {device.name} {_make(device)}"
    for device in changes.adjusted:
        yield f"link set {device.name} mtu {device.mtu_bytes} up"
    for address in sorted(changes.addresses.drop, key=lambda key: (key.device, by_family(key.address))):
        yield f"addr del {_address(address)}"
    for address in changes.addresses.put:
        # A tunnel's address is IPAM's: nobody else on that link could have it, so nobody need be asked.
        yield f"addr replace {_address(address)}{' nodad' if address.address.version == 6 else ''}"
    for neighbour, mac in sorted(changes.neighbours.put.items(), key=lambda item: _by_family(item[0])):
        yield f"neigh replace {neighbour.address} lladdr {mac} dev {neighbour.device} nud permanent"


def _fdb(changes: Changes) -> Iterator[str]:
    for entry in sorted(changes.fdb.drop):
        yield f"fdb del {_fdb_entry(entry)}"
    for entry in changes.fdb.put:
        yield f"fdb replace {_fdb_entry(entry)} permanent"


def _after_fdb(changes: Changes) -> Iterator[str]:
    for key, route in changes.shadowed:
        yield f"route del {_route(key, route)}"
    for key, route in sorted(changes.routes.put.items(), key=lambda item: _of_route(item[0])):
        yield f"route replace {_route(key, route)}"
    for key, route in sorted(changes.routes.drop.items(), key=lambda item: _of_route(item[0])):
        yield f"route del {_route(key, route)}"
    for neighbour in sorted(changes.neighbours.drop, key=_by_family):
        yield f"neigh del {neighbour.address} dev {neighbour.device}"
    for name in changes.downed:
        yield f"link set {name} down"
    for name in changes.deleted:
        yield f"link del {name}"


def _by_family(key: NeighbourKey) -> tuple[str, tuple[int, object]]:
    return key.device, by_family(key.address)


def _of_route(key: RouteKey) -> tuple[tuple[int, object], int, int]:
    return by_family(key.prefix), key.priority, key.tos


def _make(device: TunnelDevice) -> str:
    vxlan = device.vxlan
    if not vxlan:
        return f"type {device.kind}"
    learning = "learning" if vxlan.learning else "nolearning"
    return (
        f"address {vxlan.mac} type vxlan id {vxlan.vni} local {vxlan.local} dev {vxlan.uplink} "
        f"dstport {vxlan.port} {learning}"
    )


def _address(key: AddressKey) -> str:
    if key.peer:
        return f"{key.address.ip} peer {key.peer} dev {key.device}"
    return f"{key.address} dev {key.device}"


def _fdb_entry(key: FdbKey) -> str:
    return f"{key.mac} dev {key.device} {f'dst {key.remote} ' if key.remote else ''}self"


def _route(key: RouteKey, route: Route) -> str:
    """A route in full, so that a deletion meets this very route or nothing."""
    words = [str(key.prefix)]
    if route.kind not in (UNICAST, "multipath"):
        words.insert(0, route.kind)
    if route.via:
        words.append(f"via {route.via}")
    if route.device:
        words.append(f"dev {route.device}")
    if route.is_link_scope:
        words.append("scope link")
    words.append(f"proto {route.protocol}")
    if key.priority:
        words.append(f"metric {key.priority}")
    if key.tos:
        words.append(f"tos {key.tos:#x}")
    if route.is_onlink and route.kind != BLACKHOLE:
        words.append("onlink")
    return " ".join(words)
