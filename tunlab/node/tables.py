"""What the kernel of a place holds, as values that compare as sets: links, addresses, routes, neighbours, FDB.

Read with one shell, one `ip` and one `bridge` (a process costs 15 ms in a user-mode kernel), always from their JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import testinfra.host

from tunlab.errors import WorldError

_SHOW = ("link show", "addr show", "route show table main", "neigh show nud all")
_SCRIPT = "printf '" + r"\n".join(_SHOW) + r"\n' | ip -N -d -j -batch - && echo && bridge -d -j fdb show"
# Asked for no family, `ip route` shows IPv4 alone. Most places have no IPv6, and a process costs its time.
_SCRIPT += " && if { read -r _ </proc/net/if_inet6; } 2>/dev/null"
_SCRIPT += "; then echo && ip -6 -N -d -j route show table main; fi"


# `ip -N` prints numbers, for the words are what a file in the machine's /etc says; these are iproute2's own.
_PROTOCOLS = {"0": "unspec", "1": "redirect", "2": "kernel", "3": "boot", "4": "static", "12": "bird", "16": "dhcp"}
_KINDS = {"1": "unicast", "2": "local", "3": "broadcast", "6": "blackhole", "7": "unreachable", "8": "prohibit"}
_SCOPES = {"0": "global", "200": "site", "253": "link", "254": "host", "255": "nowhere"}


@dataclass(frozen=True, slots=True, order=True)
class Route:
    """One route of the main table. `protocol` is iproute2's word for it, or the number it has no word for."""

    destination: str
    kind: str = "unicast"
    gateway: str | None = None
    device: str | None = None
    protocol: str = "boot"
    scope: str = "global"
    metric: int = 0
    is_onlink: bool = False

    def __str__(self) -> str:
        words = [self.kind if self.kind != "unicast" else "", self.destination]
        words += [f"via {self.gateway}" if self.gateway else "", f"dev {self.device}" if self.device else ""]
        words += [f"proto {self.protocol}" if self.protocol != "boot" else ""]
        words += [
            f"scope {self.scope}" if self.scope != "global" else "",
            f"metric {self.metric}" if self.metric else "",
        ]
        words += ["onlink" if self.is_onlink else ""]
        return " ".join(word for word in words if word)


@dataclass(frozen=True, slots=True, order=True)
class Neighbour:
    """Which MAC an address has on a device; `state` as `ip neigh` prints it."""

    address: str
    device: str
    mac: str | None
    state: str

    def __str__(self) -> str:
        return f"{self.address} dev {self.device} lladdr {self.mac} {self.state}"


@dataclass(frozen=True, slots=True, order=True)
class FdbEntry:
    """Which remote address (a VXLAN device) or port (a bridge) a MAC is behind."""

    mac: str
    device: str
    destination: str | None
    is_permanent: bool
    is_self: bool

    def __str__(self) -> str:
        state = ("self " if self.is_self else "") + ("permanent" if self.is_permanent else "learned")
        return f"{self.mac} dev {self.device} dst {self.destination} {state}"


@dataclass(frozen=True, slots=True)
class Link:
    """One device. `index` and `peer_index` are the kernel's; `attributes` what its kind adds (VXLAN's id, port…)."""

    name: str
    index: int
    peer_index: int | None
    mtu_bytes: int
    mac: str | None
    is_up: bool
    kind: str
    attributes: Mapping[str, Any] = field(hash=False, compare=False)


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """An address on a device, with its prefix length."""

    device: str
    address: str

    def __str__(self) -> str:
        return f"{self.address} dev {self.device}"


@dataclass(frozen=True, slots=True)
class Tables:
    """Everything read from one place at one moment.

    IPv6 has sets of its own, without what the kernel makes by itself: link-local and group addresses, their routes and
    neighbours, and the routes that come with an address.
    """

    place: str
    links: Mapping[str, Link]
    addresses: frozenset[Address]
    routes: frozenset[Route]
    neighbours: frozenset[Neighbour]
    fdb: frozenset[FdbEntry]
    raw: str
    addresses6: frozenset[Address] = frozenset()
    routes6: frozenset[Route] = frozenset()
    neighbours6: frozenset[Neighbour] = frozenset()

    def addresses_on(self, device: str) -> frozenset[str]:
        """The addresses of one device, with prefix lengths."""
        return frozenset(entry.address for entry in self.addresses if entry.device == device)


def read_tables(host: testinfra.host.Host, place: str) -> Tables:
    """Read a place's tables. Raises WorldError when `ip` or `bridge` refuses."""
    done = host.run(_SCRIPT)
    if done.rc != 0:
        raise WorldError(f"{place}: read the kernel's tables: {done.stderr.strip() or done.stdout.strip()}")
    return parse_tables(place, done.stdout)


def parse_tables(place: str, text: str) -> Tables:
    """Tables from the JSON documents that _SCRIPT prints one after the other."""
    documents: list[list[dict[str, Any]]] = []
    decoder, rest = json.JSONDecoder(), text.strip()
    while rest:
        try:
            document, end = decoder.raw_decode(rest)
        except ValueError as error:
            raise WorldError(f"{place}: read the kernel's tables: not JSON: {rest[:60]!r}") from error
        documents.append(document)
        rest = rest[end:].strip()
    if len(documents) == len(_SHOW) + 1:
        documents.append([])  # no IPv6 there
    if len(documents) != len(_SHOW) + 2:
        raise WorldError(f"{place}: read the kernel's tables: {len(documents)} documents, wanted 5 or 6")
    links, addresses, routes, neighbours, fdb, routes6 = documents
    return Tables(
        place=place,
        links={entry["ifname"]: _link(entry) for entry in links if "ifname" in entry},
        addresses=_addresses(addresses, "inet"),
        routes=frozenset(_route(entry) for entry in routes),
        neighbours=frozenset(_neighbour(entry) for entry in neighbours if ":" not in entry["dst"]),
        fdb=frozenset(_fdb(entry) for entry in fdb),
        raw=text,
        addresses6=frozenset(one for one in _addresses(addresses, "inet6") if not _is_the_kernels(one.address)),
        routes6=frozenset(
            route
            for route in map(_route, routes6)
            if route.protocol != "kernel" and not _is_the_kernels(route.destination)
        ),
        neighbours6=frozenset(
            _neighbour(entry) for entry in neighbours if ":" in entry["dst"] and not _is_the_kernels(entry["dst"])
        ),
    )


def _addresses(entries: Iterable[Mapping[str, Any]], family: str) -> frozenset[Address]:
    return frozenset(
        Address(entry["ifname"], f"{one['local']}/{one['prefixlen']}")
        for entry in entries
        if "ifname" in entry
        for one in entry.get("addr_info", ())
        if one.get("family") == family
    )


def _is_the_kernels(address: str) -> bool:
    """Whether an IPv6 address or network is link-local, a group or the loopback: nobody chose those."""
    return address.startswith(("fe80:", "ff")) or address == "::1/128"


def _link(entry: Mapping[str, Any]) -> Link:
    info = entry.get("linkinfo", {})
    return Link(
        name=entry["ifname"],
        index=entry["ifindex"],
        peer_index=entry.get("link_index"),
        mtu_bytes=entry["mtu"],
        mac=entry.get("address"),
        is_up="UP" in entry["flags"],
        kind=info.get("info_kind", entry.get("link_type", "")),
        attributes=info.get("info_data", {}),
    )


def _route(entry: Mapping[str, Any]) -> Route:
    protocol, scope = str(entry.get("protocol", "boot")), str(entry.get("scope", "global"))
    kind = str(entry.get("type", "unicast"))
    return Route(
        destination=entry["dst"],
        kind=_KINDS.get(kind, kind),
        gateway=entry.get("gateway"),
        device=entry.get("dev"),
        protocol=_PROTOCOLS.get(protocol, protocol),
        scope=_SCOPES.get(scope, scope),
        metric=int(entry.get("metric", 0)),
        is_onlink="onlink" in entry.get("flags", ()),
    )


def _neighbour(entry: Mapping[str, Any]) -> Neighbour:
    return Neighbour(entry["dst"], entry["dev"], entry.get("lladdr"), " ".join(entry.get("state", ())))


def _fdb(entry: Mapping[str, Any]) -> FdbEntry:
    return FdbEntry(
        mac=entry["mac"],
        device=entry["ifname"],
        destination=entry.get("dst"),
        is_permanent=entry.get("state") == "permanent",
        is_self="self" in entry.get("flags", ()),
    )


def lasting(tables: Tables) -> Iterator[str]:
    """A place's tables as lines, without what comes and goes by itself.

    That is what neighbours were asked and answered, a bridge's timers, and the numbers of devices: one that is made
    anew has another.
    """
    for link in tables.links.values():
        yield f"link {link.name} {link.kind} mtu {link.mtu_bytes} {link.mac} up={link.is_up} {_told(link)}"
    yield from (f"address {one}" for one in tables.addresses)
    yield from (f"route {one}" for one in tables.routes)
    yield from (f"address {one}" for one in tables.addresses6)
    yield from (f"route {one}" for one in tables.routes6)
    yield from (f"neighbour {one}" for one in tables.neighbours6 if one.state == "PERMANENT")
    tunnels = {link.name for link in tables.links.values() if link.kind == "vxlan"}
    yield from (f"neighbour {one}" for one in tables.neighbours if one.state == "PERMANENT" or one.device in tunnels)
    yield from (f"fdb {one}" for one in tables.fdb)


def _told(link: Link) -> str:
    told = {name: value for name, value in link.attributes.items() if not name.endswith("_timer")}
    return " ".join(f"{name}={value}" for name, value in sorted(told.items()))
