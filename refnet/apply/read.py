"""What the kernel has, read by one run of `ip` and, where there is a VXLAN device, one of `bridge`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

from refnet.apply.process import Finished
from refnet.calc.changes import OUR_DEVICES, PERMANENT, Have, Link
from refnet.calc.wanted import (
    BLACKHOLE,
    UNICAST,
    VXLAN_DEVICE,
    AddressKey,
    FdbKey,
    NeighbourKey,
    Route,
    RouteKey,
    TunnelDevice,
    Vxlan,
)
from refnet.errors import KernelRefused

Run = Callable[[Sequence[str], str], Finished]

# Numbers instead of names (-N): /etc/iproute2 may name protocol 80 anything. Details (-d) show the tunnels' attributes.
_IP = ("ip", "-N", "-d", "-j", "-batch", "-")
_IP_LINES = "addr show\nroute show table main\nneigh show nud permanent\n"
_BRIDGE = ("bridge", "-j", "-batch", "-")
_BRIDGE_LINES = f"fdb show dev {VXLAN_DEVICE}\n"
_KINDS = {"1": UNICAST, "6": BLACKHOLE, "7": "unreachable", "8": "prohibit", "9": "throw", "2": "local"}
_LINK_SCOPE = "253"
_TRIES = 3
_NEVER_ASKED = ("group", "remote", "external", "gbp", "gpe", "l2miss", "l3miss", "proxy", "rsc", "maxaddr", "limit")
# What a VXLAN device has that was asked for nothing, in iproute2's words.
_VXLAN_DEFAULTS = {"ttl": 0, "tos": 0, "df": "unset", "ageing": 300, "udp_csum": True, "label": 0}
# iproute2 says nothing of the TTL in JSON where it is the inner packet's.
_VXLAN_SILENCE = {"ttl": "inherit"}


def read_kernel(run: Run) -> Have:
    """The kernel's present state. Raises KernelRefused if the tools cannot tell it whole: partial data is none."""
    links, routes, neighbours = _ask(run, _IP, _IP_LINES, 3)
    fdb: list[dict[str, Any]] = []
    if any(link.get("ifname") == VXLAN_DEVICE for link in links):
        (fdb,) = _ask(run, _BRIDGE, _BRIDGE_LINES, 1)
    return parse_kernel(links, routes, neighbours, fdb)


def parse_kernel(
    links: Iterable[dict[str, Any]],
    routes: Iterable[dict[str, Any]],
    neighbours: Iterable[dict[str, Any]],
    fdb: Iterable[dict[str, Any]],
) -> Have:
    """The same from the tools' JSON."""
    links = [link for link in links if link.get("ifname")]
    first: dict[RouteKey, Route] = {}
    shadowed: list[tuple[RouteKey, Route]] = []
    for key, route in _routes(routes):
        if key in first:
            shadowed.append((key, route))
        else:
            first[key] = route
    return Have(
        links={link["ifname"]: _link(link) for link in links},
        tunnels={link["ifname"]: _tunnel(link) for link in links if link["ifname"] in OUR_DEVICES},
        addresses=frozenset(key for link in links if link["ifname"] in OUR_DEVICES for key in _addresses(link)),
        neighbours={
            NeighbourKey(n["dev"], IPv4Address(n["dst"])): n.get("lladdr", "")
            for n in neighbours
            if n.get("dev") == VXLAN_DEVICE and ":" not in n["dst"]
        },
        fdb=dict(_fdb(fdb)),
        routes=first,
        shadowed=tuple(shadowed),
    )


def _ask(run: Run, argv: Sequence[str], lines: str, documents: int) -> list[list[dict[str, Any]]]:
    """Ask again when a device went away between two lines, or a dump was interrupted by a change."""
    for _ in range(_TRIES):
        finished = run(argv, lines)
        answers = list(_documents(finished.out))
        if finished.code == 0 and len(answers) == documents and not finished.err:
            return answers
    reason = " ".join(finished.err.split()) or f"exit code {finished.code}, {len(answers)} answers of {documents}"
    raise KernelRefused(f"kernel: {' '.join(argv)}: {reason}")


def _documents(text: str) -> Iterator[list[dict[str, Any]]]:
    """One JSON document per batch line, one after the other."""
    decoder = json.JSONDecoder()
    position = 0
    while True:
        while position < len(text) and text[position].isspace():
            position += 1
        if position == len(text):
            return
        try:
            document, position = decoder.raw_decode(text, position)
        except ValueError:
            return  # cut short: the caller misses a document
        yield document


def _link(link: dict[str, Any]) -> Link:
    addresses = tuple(IPv4Interface(f"{a['local']}/{a['prefixlen']}") for a in _inet(link))
    return Link(link["ifname"], link["ifindex"], link["mtu"], "UP" in link["flags"], addresses)


def _inet(link: dict[str, Any]) -> list[dict[str, Any]]:
    return [a for a in link.get("addr_info", ()) if a.get("family") == "inet" and "local" in a]


def _tunnel(link: dict[str, Any]) -> TunnelDevice:
    kind = link.get("linkinfo", {}).get("info_kind", "")
    vxlan = _vxlan(link) if kind == "vxlan" else None
    return TunnelDevice(link["ifname"], kind, link["mtu"], vxlan, "UP" in link["flags"])


def _vxlan(link: dict[str, Any]) -> Vxlan:
    about = link["linkinfo"].get("info_data", {})
    return Vxlan(
        vni=about.get("id", 0),
        port=about.get("port", 0),
        local=IPv4Address(about.get("local", 0)),
        uplink=about.get("link", ""),
        mac=link.get("address", ""),
        learning=about.get("learning", False),
        extras=tuple(sorted(_extras(about))),
    )


def _extras(about: dict[str, Any]) -> Iterator[str]:
    """What we never ask for, be it a default remote or a TTL: it makes this another device than ours.

    Most of it the kernel does not let anybody change on a living device, so that only a new one is right again.
    """
    yield from (name for name in about if name in _NEVER_ASKED)
    for name, default in _VXLAN_DEFAULTS.items():
        value = about.get(name, _VXLAN_SILENCE.get(name, default))
        if value != default:
            yield f"{name} {value}"


def _addresses(link: dict[str, Any]) -> Iterator[AddressKey]:
    for address in _inet(link):
        yield AddressKey(
            link["ifname"], IPv4Interface(f"{address['local']}/{address['prefixlen']}"), address.get("address", "")
        )


def _routes(routes: Iterable[dict[str, Any]]) -> Iterator[tuple[RouteKey, Route]]:
    for route in routes:
        prefix = "0.0.0.0/0" if route["dst"] == "default" else route["dst"]
        key = RouteKey(IPv4Network(prefix), int(route.get("metric", 0)), int(str(route.get("tos", 0)), 0))
        gateway = route.get("gateway") or route.get("via", {}).get("host")
        kind = _KINDS.get(str(route.get("type", "1")), str(route.get("type")))
        yield (
            key,
            Route(
                kind="multipath" if "nexthops" in route else kind,
                protocol=int(route["protocol"]),
                via=IPv4Address(gateway) if gateway and ":" not in gateway else None,
                device=route.get("dev", ""),
                is_onlink="onlink" in route.get("flags", ()),
                is_link_scope=str(route.get("scope")) == _LINK_SCOPE,
            ),
        )


def _fdb(entries: Iterable[dict[str, Any]]) -> Iterator[tuple[FdbKey, str]]:
    """An entry with more than a MAC and a remote (another port, another VNI) must look different from ours."""
    for entry in entries:
        extras = sorted(entry.keys() - {"mac", "dst", "flags", "state", "ifname", "dev"})
        state = " ".join((str(entry.get("state", "")), *extras))
        yield FdbKey(VXLAN_DEVICE, entry["mac"], entry.get("dst", "")), PERMANENT if state == PERMANENT else state
