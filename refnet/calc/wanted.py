"""What a node must have, as values: tunnel devices, addresses, neighbours, FDB entries, routes, the speaker's task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from refnet.calc.speaker import SpeakerConfig
from refnet.model.address import IPAddress, IPInterface, IPNetwork

IPIP_DEVICE = "tunl0"
VXLAN_DEVICE = "vxlan.calico"
VXLAN6_DEVICE = "vxlan-v6.calico"
VXLAN_VNI = 4096
VXLAN_PORT = 4789
IPIP_OVERHEAD_BYTES = 20
VXLAN_OVERHEAD_BYTES = 50
VXLAN6_OVERHEAD_BYTES = 70
# Route protocols, as numbers: /etc/iproute2/rt_protos may call them anything.
PROTO_KERNEL, PROTO_BOOT, PROTO_BIRD, PROTO_REFNET = 2, 3, 12, 80
# What the kernel gives an IPv6 route that names none; 0 cannot be had.
IPV6_METRIC = 1024
UNICAST, BLACKHOLE = "unicast", "blackhole"
# What the names of pods' devices on a node begin with.
POD_DEVICES = "cali"
EVERYWHERE: tuple[IPNetwork, ...] = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))


@dataclass(frozen=True)
class Uplink:
    """The device that owns the node's address: tunnels hang on it, same-subnet routes leave through it.

    `gateway` is the next hop of the default route that leaves through it, where there is one.
    """

    name: str
    mtu_bytes: int
    address: IPInterface
    gateway: IPAddress | None = None


@dataclass(frozen=True)
class Vxlan:
    """What cannot be changed on a VXLAN device, only chosen at its creation."""

    vni: int
    port: int
    local: IPAddress
    uplink: str
    mac: str
    learning: bool = False
    extras: tuple[str, ...] = ()


@dataclass(frozen=True)
class TunnelDevice:
    """A tunnel device; `kind` is the kernel's word (ipip, vxlan), `vxlan` says how where it is one."""

    name: str
    kind: str
    mtu_bytes: int
    vxlan: Vxlan | None = None
    is_up: bool = True

    def is_same_make(self, other: TunnelDevice) -> bool:
        """Whether one can be turned into the other in place; else it must be deleted and created anew."""
        return (self.kind, self.vxlan) == (other.kind, other.vxlan)


@dataclass(frozen=True, order=True)
class AddressKey:
    """One address on a device, with its prefix length; `peer` is empty unless it is a point-to-point one."""

    device: str
    address: IPInterface
    peer: str = ""


@dataclass(frozen=True, order=True)
class NeighbourKey:
    """What the kernel indexes a neighbour by: this answers which MAC goes into the inner header."""

    device: str
    address: IPAddress


@dataclass(frozen=True, order=True)
class FdbKey:
    """One FDB entry: frames to `mac` leave in a packet to `remote`, the outer header's destination."""

    device: str
    mac: str
    remote: str


@dataclass(frozen=True, order=True)
class RouteKey:
    """What the kernel indexes a route of the main table by."""

    prefix: IPNetwork
    priority: int = 0
    tos: int = 0


@dataclass(frozen=True)
class Route:
    """Where packets go. A blackhole has neither next hop nor device."""

    kind: str
    protocol: int
    via: IPAddress | None = None
    device: str = ""
    is_onlink: bool = False
    is_link_scope: bool = False


@dataclass(frozen=True)
class Wanted:
    """All that one node must have. `workload_routes` count only while their device exists: the CNI plugin makes it."""

    pod_mtu_bytes: int
    # Of which this says anything: while a node's IPv6 address is away its IPv6 pods are left as they are.
    families: tuple[int, ...] = (4,)
    tunnels: Mapping[str, TunnelDevice] = field(default_factory=dict)
    addresses: frozenset[AddressKey] = frozenset()
    neighbours: Mapping[NeighbourKey, str] = field(default_factory=dict)
    fdb: frozenset[FdbKey] = frozenset()
    routes: Mapping[RouteKey, Route] = field(default_factory=dict)
    workload_routes: Mapping[RouteKey, Route] = field(default_factory=dict)
    speaker: SpeakerConfig | None = None
    # Ranges in which a route of BIRD's is a leftover. None: BIRD on this node is somebody else's, its routes too.
    no_bird_in: tuple[IPNetwork, ...] | None = EVERYWHERE
    # Ranges in which our own routes stay, wanted or not: the speaker that we have them from has just been started.
    unsettled: tuple[IPNetwork, ...] = ()
    # Routes into pods' devices that must go, whoever made them: no endpoint has explained them for long enough.
    strays: frozenset[tuple[RouteKey, Route]] = frozenset()
