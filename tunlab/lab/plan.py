"""Topology → Plan: the exact commands that make a lab, each with the namespace it runs in. Pure; nothing is run here.

Pods are not in it: a CNI ADD makes those.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tunlab.lab.topology import BRIDGE, Host, Node, Outsider, Router, Segment, Store, Topology

OFFLOADS_OFF = "rx off tx off sg off tso off gso off gro off"
# Devices take part in these three keys of net.ipv4.conf, so that nothing inherited from the machine shines through:
# `all` is and-ed, or-ed or max-ed with the device's own value, differently per setting, and `default` is for the
# devices that agents and CNI plugins make later.
PER_DEVICE = {
    # Loose on purpose: in a crosssubnet mode a packet may arrive through the tunnel whose answer leaves bare, and the
    # strict check would eat it in silence. A system that wants the check sets it itself, on its pods' devices.
    "rp_filter": 0,
    # A redirect would let a node bypass its gateway half-way through a test.
    "send_redirects": 0,
    "accept_redirects": 0,
    # Suites say which MAC answers for which address: the kernel's defaults, whatever the machine prefers.
    "arp_filter": 0,
    "arp_ignore": 0,
    "arp_announce": 0,
    "arp_accept": 0,
    "proxy_arp": 0,
}
PER_HOST = {
    "net.ipv4.ip_default_ttl": 64,
    # Suites wait for the router's `net unreachable`; at the default rate the seventh in a row stays unsent. The mask
    # takes them out of the count: Linux 6.1 takes a rate of 0 for "none left", and the next stays unsent for a second.
    "net.ipv4.icmp_ratelimit": 0,
    "net.ipv4.icmp_ratemask": 0,
    "net.ipv4.icmp_echo_ignore_all": 0,
    "net.ipv4.ip_no_pmtu_disc": 0,
    "net.ipv4.ip_forward_use_pmtu": 0,
    "net.ipv4.tcp_mtu_probing": 0,
}
# The same for IPv6, in a lab that has it. No address is doubted and nobody asks for a router: what suites see in the
# first second is what they see later.
PER_DEVICE6 = {
    "disable_ipv6": 0,
    "accept_ra": 0,
    "autoconf": 0,
    "accept_dad": 0,
    "router_solicitations": 0,
    "accept_redirects": 0,
}
# -e, because a kernel without IPv6, or without br_netfilter, has no such keys and needs no such setting.
IPV6_OFF = "sysctl -qw -e net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1"
BRIDGE_SEES_NO_TABLES = "sysctl -qw -e " + " ".join(
    f"net.bridge.bridge-nf-call-{tables}=0" for tables in ("iptables", "ip6tables", "arptables")
)


@dataclass(frozen=True, slots=True)
class Step:
    """One command line, run in a namespace, or, where that is None, in the one that holds them all."""

    namespace: str | None
    command: str

    def __str__(self) -> str:
        return self.command if self.namespace is None else f"{self.namespace}: {self.command}"


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps in an order that works, all of a namespace in one row.

    `namespaces` are the network namespaces that it makes; `hosts` those of them that are a host with a file system of
    its own (nodes, the store, outsiders, routers that speak BGP).
    """

    lab: str
    namespaces: tuple[str, ...]
    hosts: tuple[str, ...]
    steps: tuple[Step, ...]


def make_plan(lab: Topology, *, prefix: str = "") -> Plan:
    """The plan of a lab. `prefix` goes before the name of each namespace; devices inside keep their names."""
    segments = [(prefix + segment.name, segment) for segment in lab.segments]
    hosts = [(prefix + host.name, host) for host in lab.hosts]
    namespaces = tuple(name for name, _ in (*segments, *hosts))
    commands: list[tuple[str | None, Iterator[str]]] = [
        (None, (f"ip netns add {name}" for name in namespaces)),
        (None, _links(lab, prefix)),
        *((name, _in_segment(lab, segment)) for name, segment in segments),
        *((name, _in_host(host)) for name, host in hosts),
    ]
    return Plan(
        lab=lab.name,
        namespaces=namespaces,
        hosts=tuple(name for name, host in hosts if not isinstance(host, Router) or host.bgp is not None),
        steps=tuple(Step(namespace, line) for namespace, lines in commands for line in lines),
    )


def _links(lab: Topology, prefix: str) -> Iterator[str]:
    """A pair per attachment: the host's end is eth0, eth1, …; the segment's end bears the host's name."""
    for segment in lab.segments:
        for host, end in lab.attached(segment.name):
            near = f"{end.device} netns {prefix}{host.name} address {lab.mac(host.name, end.device)} mtu {segment.mtu}"
            far = f"{host.name} netns {prefix}{segment.name} address {lab.mac(segment.name, host.name)}"
            yield f"ip link add {near} type veth peer name {far} mtu {segment.mtu}"


def _in_segment(lab: Topology, segment: Segment) -> Iterator[str]:
    """A switch that forwards at once and knows nothing of IP.

    No spanning tree, so no 30 s of listening; no snooping, so that groups are flooded as on a plain wire.
    """
    ports = [host.name for host, _ in lab.attached(segment.name)]
    yield IPV6_OFF
    yield BRIDGE_SEES_NO_TABLES
    yield "sysctl -qw net.ipv4.ip_forward=0"
    for port in ports:
        yield f"ethtool -K {port} {OFFLOADS_OFF}"
    yield "ip link set lo up"
    yield (
        f"ip link add {BRIDGE} address {lab.mac(segment.name, BRIDGE)} mtu {segment.mtu}"
        " type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
    )
    yield f"ip link set {BRIDGE} up"
    for port in ports:
        yield f"ip link set dev {port} master {BRIDGE} up"  # a host may be called master


def _in_host(host: Host) -> Iterator[str]:
    devices = [each.device for each in host.attachments]
    has_ipv6 = any(each.address6 is not None for each in host.attachments)
    if has_ipv6:
        yield from _ipv6_on(devices)
    else:
        yield IPV6_OFF
    # First of its kind: writing ip_forward puts accept_redirects of `all` back to what the kernel thinks fit.
    yield _settings({"net.ipv4.ip_forward": 0 if isinstance(host, Store | Outsider) else 1, **PER_HOST})
    for device in ("all", "default", *devices):
        yield _settings({f"net.ipv4.conf.{device}.{key}": value for key, value in PER_DEVICE.items()})
    for device in devices:
        yield f"ethtool -K {device} {OFFLOADS_OFF}"
    yield "ip link set lo up"
    for each in host.attachments:
        yield f"ip address add {each.address} broadcast + dev {each.device}"
        if each.address6 is not None:
            yield f"ip address add {each.address6} dev {each.device} nodad"
        yield f"ip link set {each.device} up"
    if isinstance(host, Router):
        for route in host.routes:
            yield f"ip route add {route.destination} via {route.via} dev {route.device} proto static"
        for six in host.routes6:
            yield f"ip route add {six.destination} via {six.via} dev {six.device} proto static"
    else:
        # Pods too depend on it: proxy ARP answers for 169.254.1.1 only where the node has a route to it.
        yield f"ip route add default via {host.gateway} dev {devices[0]} proto static"
        if isinstance(host, Node) and host.gateway6 is not None:
            yield f"ip route add default via {host.gateway6} dev {devices[0]} proto static"


def _ipv6_on(devices: list[str]) -> Iterator[str]:
    """IPv6 on every device, and forwarding, which in IPv6 makes a host that believes no router's advertisements."""
    for device in ("all", "default", *devices):
        yield _settings({f"net.ipv6.conf.{device}.{key}": value for key, value in PER_DEVICE6.items()})
    yield _settings({"net.ipv6.conf.all.forwarding": 1, "net.ipv6.icmp.ratelimit": 0})


def _settings(values: Mapping[str, int]) -> str:
    return "sysctl -qw " + " ".join(f"{key}={value}" for key, value in values.items())
