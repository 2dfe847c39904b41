"""What the kernel has, read by one run of `ip`, and one of `ip -6` and of `bridge` where there is anything to read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from ipaddress import IPv4Interface, IPv6Interface, IPv6Network, ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

from refnet.apply.process import Finished
from refnet.calc.changes import OUR_DEVICES, PERMANENT, VXLAN_DEVICES, Have, Link
from refnet.calc.wanted import (
    BLACKHOLE,
    PROTO_KERNEL,
    UNICAST,
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
# Asked for no family, `ip route` shows IPv4 alone.
_IP6 = ("ip", "-6", "-N", "-d", "-j", "-batch", "-")
_IP6_LINES = "route show table main\n"
_BRIDGE = ("bridge", "-j", "-batch", "-")
_KINDS = {"1": UNICAST, "6": BLACKHOLE, "7": "unreachable", "8": "prohibit", "9": "throw", "2": "local"}
_LINK_SCOPE = "253"
_LINK_LOCAL, _MULTICAST = IPv6Network("fe80::/10"), IPv6Network("ff00::/8")
# Every IPv6 address of the node's: empty where nobody has one, not there where the kernel knows no IPv6.
_IPV6_ADDRESSES, _IPV6_OFF = Path("/proc/net/if_inet6"), Path("/proc/sys/net/ipv6/conf/all/disable_ipv6")
_TRIES = 3
_NEVER_ASKED = ("group", "remote", "external", "gbp", "gpe", "l2miss", "l3miss", "proxy", "rsc", "maxaddr", "limit")
# What a VXLAN device has that was asked for nothing, in iproute2's words.
_VXLAN_DEFAULTS = {"ttl": 0, "tos": 0, "df": "unset", "ageing": 300, "udp_csum": True, "label": 0}
# iproute2 says nothing of the TTL in JSON where it is the inner packet's.
_VXLAN_SILENCE = {"ttl": "inherit"}


def read_kernel(run: Run) -> Have:
    """The kernel's present state. Raises KernelRefused if the tools cannot tell it whole: partial data is none."""
    links, routes, neighbours = _ask(run, _IP, _IP_LINES, 3)
    if any(_inet(link, "inet6") for link in links):
        (routes6,) = _ask(run, _IP6, _IP6_LINES, 1)
        routes += filter(_is_somebodys, routes6)
    devices = [link["ifname"] for link in links if link.get("ifname") in VXLAN_DEVICES]
    answers = _ask(run, _BRIDGE, "".join(f"fdb show dev {device}\n" for device in devices), len(devices))
    fdb = [{**entry, "ifname": device} for device, entries in zip(devices, answers, strict=True) for entry in entries]
    return parse_kernel(links, routes, neighbours, fdb)


def has_ipv6(addresses: Path = _IPV6_ADDRESSES, off: Path = _IPV6_OFF) -> bool:
    """Whether this kernel speaks IPv6, or could from one moment to the next.

    Each device may be an exception to what holds for all: then it has at least its link-local address.
    Like: sysctl net.ipv6.conf.all.disable_ipv6
    """
    try:
        return off.read_text().strip() == "0" or bool(addresses.read_text())
    except FileNotFoundError:
        return False


def _is_somebodys(route: dict[str, Any]) -> bool:
    """Whether anybody made it: the kernel itself makes one for each IPv6 address, and link-local and group ones."""
    if int(route["protocol"]) == PROTO_KERNEL:
        return False
    network = IPv6Network("::/0" if route["dst"] == "default" else route["dst"])
    return not (network.subnet_of(_LINK_LOCAL) or network.subnet_of(_MULTICAST))


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
            NeighbourKey(n["dev"], ip_address(n["dst"])): n.get("lladdr", "")
            for n in neighbours
            if n.get("dev") in VXLAN_DEVICES
        },
        fdb=dict(_fdb(fdb)),
        routes=first,
        shadowed=tuple(shadowed),
    )


def _ask(run: Run, argv: Sequence[str], lines: str, documents: int) -> list[list[dict[str, Any]]]:
    """Ask again when a device went away between two lines, or a dump was interrupted by a change."""
    if not documents:
        return []
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
    addresses = tuple(IPv4Interface(f"{a['local']}/{a['prefixlen']}") for a in _inet(link, "inet"))
    addresses6 = tuple(IPv6Interface(f"{a['local']}/{a['prefixlen']}") for a in _inet(link, "inet6"))
    return Link(link["ifname"], link["ifindex"], link["mtu"], "UP" in link["flags"], addresses, addresses6)


def _inet(link: dict[str, Any], family: str) -> list[dict[str, Any]]:
    """Its addresses of a family (inet, inet6), without the link-local ones, which the kernel makes."""
    found = [a for a in link.get("addr_info", ()) if a.get("family") == family and "local" in a]
    return [a for a in found if not a["local"].startswith("fe80:")]


def _tunnel(link: dict[str, Any]) -> TunnelDevice:
    kind = link.get("linkinfo", {}).get("info_kind", "")
    vxlan = _vxlan(link) if kind == "vxlan" else None
    return TunnelDevice(link["ifname"], kind, link["mtu"], vxlan, "UP" in link["flags"])


def _vxlan(link: dict[str, Any]) -> Vxlan:
    about = link["linkinfo"].get("info_data", {})
    return Vxlan(
        vni=about.get("id", 0),
        port=about.get("port", 0),
        local=ip_address(about.get("local6") or about.get("local", 0)),
        uplink=about.get("link", ""),
        mac=link.get("address", ""),
        learning=about.get("learning", False),
        extras=tuple(sorted(_extras(about))),
    )


def _extras(about: dict[str, Any]) -> Iterator[str]:
    """What we never ask for, be it a default remote or a TTL: it makes this another device than ours.

    Most of it the kernel does not let anybody change on a living device, so that only a new one is right again.
    """
    yield from (name for name in about if name.rstrip("6") in _NEVER_ASKED)
    for name, default in _VXLAN_DEFAULTS.items():
        value = about.get(name, _VXLAN_SILENCE.get(name, default))
        if value != default:
            yield f"{name} {value}"


def _addresses(link: dict[str, Any]) -> Iterator[AddressKey]:
    for address in (*_inet(link, "inet"), *_inet(link, "inet6")):
        yield AddressKey(
            link["ifname"], ip_interface(f"{address['local']}/{address['prefixlen']}"), address.get("address", "")
        )


def _routes(routes: Iterable[dict[str, Any]]) -> Iterator[tuple[RouteKey, Route]]:
    for route in routes:
        # Every IPv6 route, and no other, has a preference among routers.
        nowhere = "::/0" if "pref" in route else "0.0.0.0/0"
        prefix = ip_network(nowhere if route["dst"] == "default" else route["dst"])
        key = RouteKey(prefix, int(route.get("metric", 0)), int(str(route.get("tos", 0)), 0))
        gateway = route.get("gateway") or route.get("via", {}).get("host")
        kind = _KINDS.get(str(route.get("type", "1")), str(route.get("type")))
        yield (
            key,
            Route(
                kind="multipath" if "nexthops" in route else kind,
                protocol=int(route["protocol"]),
                via=ip_address(gateway) if gateway and (":" in gateway) == (prefix.version == 6) else None,
                device="" if kind == BLACKHOLE else route.get("dev", ""),
                is_onlink="onlink" in route.get("flags", ()),
                is_link_scope=str(route.get("scope")) == _LINK_SCOPE,
            ),
        )


def _fdb(entries: Iterable[dict[str, Any]]) -> Iterator[tuple[FdbKey, str]]:
    """An entry with more than a MAC and a remote (another port, another VNI) must look different from ours."""
    for entry in entries:
        extras = sorted(entry.keys() - {"mac", "dst", "flags", "state", "ifname", "dev"})
        state = " ".join((str(entry.get("state", "")), *extras))
        key = FdbKey(entry["ifname"], entry["mac"], entry.get("dst", ""))
        yield key, PERMANENT if state == PERMANENT else state
