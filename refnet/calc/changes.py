"""From what the kernel has and what it must have to what must be done; and which kernel objects are ours at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Interface

from refnet.calc.delta import Delta
from refnet.calc.wanted import (
    IPIP_DEVICE,
    POD_DEVICES,
    PROTO_BIRD,
    PROTO_KERNEL,
    PROTO_REFNET,
    UNICAST,
    VXLAN6_DEVICE,
    VXLAN_DEVICE,
    AddressKey,
    FdbKey,
    NeighbourKey,
    Route,
    RouteKey,
    TunnelDevice,
    Uplink,
    Wanted,
)
from refnet.model.address import IPAddress, IPInterface, by_family, lies_in

VXLAN_DEVICES = (VXLAN_DEVICE, VXLAN6_DEVICE)
OUR_DEVICES = (IPIP_DEVICE, *VXLAN_DEVICES)
PERMANENT = "permanent"


@dataclass(frozen=True)
class Link:
    """A network device as the kernel shows it."""

    name: str
    index: int
    mtu_bytes: int
    is_up: bool
    addresses: tuple[IPv4Interface, ...] = ()
    addresses6: tuple[IPv6Interface, ...] = ()


@dataclass(frozen=True)
class Have:
    """What the kernel has. Of several routes with one key `routes` holds the first, the one that counts."""

    links: Mapping[str, Link] = field(default_factory=dict)
    tunnels: Mapping[str, TunnelDevice] = field(default_factory=dict)
    addresses: frozenset[AddressKey] = frozenset()
    neighbours: Mapping[NeighbourKey, str] = field(default_factory=dict)
    fdb: Mapping[FdbKey, str] = field(default_factory=dict)
    routes: Mapping[RouteKey, Route] = field(default_factory=dict)
    shadowed: tuple[tuple[RouteKey, Route], ...] = ()

    def way_to(self, address: IPAddress) -> Route | None:
        """The most specific unicast route that leads there; None if there is none."""
        fitting = [
            (key.prefix.prefixlen, -key.priority, route)
            for key, route in self.routes.items()
            if route.kind == UNICAST and key.prefix.version == address.version and address in key.prefix
        ]
        return max(fitting, key=lambda each: each[:2])[2] if fitting else None

    def uplink(self, address: IPAddress) -> Uplink | None:
        """The device that owns an address; None if none does."""
        for link in self.links.values():
            interfaces: tuple[IPInterface, ...] = (*link.addresses, *link.addresses6)
            for interface in interfaces:
                if interface.ip == address and link.name not in OUR_DEVICES:
                    return Uplink(link.name, link.mtu_bytes, interface, self._gateway(link.name, address.version))
        return None

    def _gateway(self, device: str, version: int) -> IPAddress | None:
        """The next hop of the best default route, if it leaves through that device."""
        defaults = [
            (key.priority, route)
            for key, route in self.routes.items()
            if key.prefix.version == version and key.prefix.prefixlen == 0 and route.kind == UNICAST
        ]
        best = min(defaults, key=lambda each: each[0])[1] if defaults else None
        return best.via if best is not None and best.device == device else None


@dataclass(frozen=True)
class Changes:
    """What must be done, in this order: devices, addresses, neighbours and FDB, routes, then what is left over."""

    replaced: tuple[str, ...]
    created: tuple[TunnelDevice, ...]
    adjusted: tuple[TunnelDevice, ...]
    addresses: Delta[AddressKey, None]
    neighbours: Delta[NeighbourKey, str]
    fdb: Delta[FdbKey, str]
    shadowed: tuple[tuple[RouteKey, Route], ...]
    routes: Delta[RouteKey, Route]
    downed: tuple[str, ...]
    deleted: tuple[str, ...]

    def __bool__(self) -> bool:
        devices = (self.replaced, self.created, self.adjusted, self.downed, self.deleted)
        return any((*devices, self.addresses, self.neighbours, self.fdb, self.shadowed, self.routes))


def changes(have: Have, want: Wanted) -> Changes:
    """The least work that makes the kernel right, touching only what is ours."""
    replaced = {
        name
        for name, device in want.tunnels.items()
        if name in have.tunnels and not device.is_same_make(have.tunnels[name])
    }
    deleted = {name for name in have.tunnels if name in VXLAN_DEVICES and name not in want.tunnels}
    gone = replaced | deleted
    routes, shadowed = _routes(have, want, replaced, gone)
    return Changes(
        replaced=tuple(sorted(replaced)),
        created=tuple(d for name, d in want.tunnels.items() if name not in have.tunnels or name in replaced),
        adjusted=tuple(
            d for name, d in want.tunnels.items() if name not in have.tunnels or name in gone or d != have.tunnels[name]
        ),
        addresses=Delta.between(
            {key: None for key in have.addresses if key.device not in gone},
            dict.fromkeys(sorted(want.addresses, key=_by_family)),
        ),
        neighbours=Delta.between(
            {key: mac for key, mac in have.neighbours.items() if key.device not in gone}, want.neighbours
        ),
        fdb=Delta.between(
            {key: state for key, state in have.fdb.items() if key.device not in gone},
            dict.fromkeys(sorted(want.fdb), PERMANENT),
        ),
        shadowed=shadowed,
        routes=routes,
        downed=tuple(
            name
            for name, device in have.tunnels.items()
            if name == IPIP_DEVICE and name not in want.tunnels and device.is_up and device.kind == "ipip"
        ),
        deleted=tuple(sorted(deleted)),
    )


def _by_family(key: AddressKey) -> tuple[str, tuple[int, object]]:
    return key.device, by_family(key.address)


def _routes(
    have: Have, want: Wanted, replaced: set[str], gone: set[str]
) -> tuple[Delta[RouteKey, Route], tuple[tuple[RouteKey, Route], ...]]:
    """Our routes, apart from those that vanish with their device.

    A route of somebody else's under a key that we want is replaced, as the kernel can hold only one that counts. If
    ours stands behind it, ours must go first: the kernel refuses to replace the one by a double of the other.
    So must an IPv6 route that leads elsewhere to the next hop that it is to have: the kernel refuses the new device.
    """
    wanted_routes = {**want.routes, **_reachable(have, want)}
    present = {
        key: route
        for key, route in have.routes.items()
        if route.device not in replaced
        and (key in wanted_routes or (_is_ours(key, route, want) and route.device not in gone))
        and (key in wanted_routes or not _may_be_told_yet(key, route, want))
    }
    delta = Delta.between(present, wanted_routes)
    shadowed = tuple(
        (key, route)
        for key, route in have.shadowed
        if route.device not in gone and (_is_ours(key, route, want) or (key in delta.put and route == delta.put[key]))
    )
    return delta, (*shadowed, *_in_the_way(present, delta.put))


def _in_the_way(present: Mapping[RouteKey, Route], put: Mapping[RouteKey, Route]) -> Iterator[tuple[RouteKey, Route]]:
    for key, route in put.items():
        old = present.get(key)
        if old and route.via and route.via.version == 6 and route.via in key.prefix and old.device != route.device:
            yield key, old


def _reachable(have: Have, want: Wanted) -> Mapping[RouteKey, Route]:
    """Workload routes whose device is there and up: before, the plugin has not come so far; after, the pod is gone."""
    return {
        key: route
        for key, route in want.workload_routes.items()
        if (link := have.links.get(route.device)) is not None and link.is_up
    }


def stray_routes(have: Have, want: Wanted) -> Iterator[tuple[RouteKey, Route]]:
    """Routes into pods' devices that are no endpoint's: who sends from there could have any of these addresses.

    The guard against forged sources goes by these routes, so one too many is a source too many.
    """
    for key, route in (*have.routes.items(), *have.shadowed):
        is_ours = route.device.startswith(POD_DEVICES) and route.protocol != PROTO_KERNEL
        if is_ours and key.prefix.version in want.families and want.workload_routes.get(key) != route:
            yield key, route


def _may_be_told_yet(key: RouteKey, route: Route, want: Wanted) -> bool:
    return route.protocol == PROTO_REFNET and any(lies_in(key.prefix, pool) for pool in want.unsettled)


def _is_ours(key: RouteKey, route: Route, want: Wanted) -> bool:
    """Protocol 80, all that leaves through our VXLAN devices, strays, and BIRD's where it no longer may write."""
    if route.protocol == PROTO_REFNET or route.device in VXLAN_DEVICES or (key, route) in want.strays:
        return True
    if route.protocol != PROTO_BIRD or want.no_bird_in is None:
        return False
    return any(lies_in(key.prefix, pool) for pool in want.no_bird_in)
