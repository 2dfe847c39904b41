"""What a lab in a mode must look like: exact sets of routes, neighbours, FDB entries, addresses; who reaches whom.

Computed from the lab's description, the system's dialect and the allocations, by code that shares nothing with any
system under test. Nothing here looks at a kernel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Literal

from tunlab.lab.topology import UPLINK, Mode, Topology
from tunlab.live.lab import Workload
from tunlab.node.tables import Address, FdbEntry, Neighbour, Route
from tunlab.systems.install import Ipam
from tunlab.systems.recipe import Dialect

Carriage = Literal["ipip", "vxlan", "none"]
OVERHEAD_BYTES: Mapping[Carriage, int] = {"ipip": 20, "vxlan": 50, "none": 0}
OVERHEAD6_BYTES = 70
VTEP_PREFIX = 0x66


def vtep_mac(node: str) -> str:
    """The MAC that a VTEP has by its node's name alone: 66, then the first 5 bytes of the name's SHA-1 (Calico)."""
    digest = hashlib.sha1(node.encode(), usedforsecurity=False).digest()
    return ":".join(f"{octet:02x}" for octet in (VTEP_PREFIX, *digest[:5]))


def tunnel_of(mode: Mode) -> Carriage:
    """The encapsulation that a mode uses where it uses one."""
    return "ipip" if mode.startswith("ipip") else "vxlan" if mode.startswith("vxlan") else "none"


def carriage_between(topology: Topology, mode: Mode, a: str, b: str) -> Carriage:
    """How a pod's packet crosses from node `a` to another node `b`."""
    if mode.endswith("-crosssubnet") and topology.same_subnet(a, b):
        return "none"
    return tunnel_of(mode)


def reaches(topology: Topology, mode: Mode, a: str, b: str) -> bool:
    """Whether pods of node `a` and pods of node `b` can talk to each other."""
    return a == b or carriage_between(topology, mode, a, b) != "none" or topology.none_reaches(a, b)


def protocol_of_routes(topology: Topology, dialect: Dialect, mode: Mode, node: str, usual: str) -> str:
    """The protocol of a node's routes: of bare ones that of who writes what its BGP speaker has learnt."""
    return dialect.speaker_protocol.get(topology.node(node).speaker, usual) if tunnel_of(mode) == "none" else usual


@dataclass(frozen=True, slots=True)
class Oracle:
    """The expectations for one lab in one mode, once the pods are up."""

    topology: Topology
    mode: Mode
    dialect: Dialect
    ipam: Ipam
    workloads: Mapping[str, Workload]

    # ------------------------------------------------------------------ how packets travel
    @property
    def tunnel(self) -> Carriage:
        """The mode's encapsulation."""
        return tunnel_of(self.mode)

    @property
    def tunnel_device(self) -> str | None:
        """The name of the mode's tunnel device."""
        return self.dialect.tunnel_devices.get(self.tunnel)

    def carriage(self, a: str, b: str) -> Carriage:
        """How a pod's packet crosses from node `a` to node `b`."""
        return carriage_between(self.topology, self.mode, a, b)

    def reaches(self, a: str, b: str) -> bool:
        """Whether pods of node `a` and pods of node `b` can talk to each other."""
        return reaches(self.topology, self.mode, a, b)

    def mtu_bytes(self, node: str) -> int:
        """The MTU of a node's pods: the uplink's, less what the mode's encapsulation adds in the larger family."""
        has_both = self.has_ipv6 and self.tunnel == "vxlan"
        return self.topology.uplink_mtu(node) - (OVERHEAD6_BYTES if has_both else OVERHEAD_BYTES[self.tunnel])

    def path_mtu_bytes(self, a: str, b: str) -> int:
        """The largest packet that pods of the nodes `a` and `b` can send each other, there and back: what both pods
        may send, and every segment on the way carries with the encapsulation around it."""
        ends = [self.mtu_bytes(a), self.mtu_bytes(b)]
        if a == b:
            return ends[0]
        passed = {port.host for way in ((a, b), (b, a)) for port in self.topology.hops(*way)}
        overhead = OVERHEAD_BYTES[self.carriage(a, b)]
        return min(*ends, *(one.mtu - overhead for one in self.topology.segments if one.name in passed))

    @property
    def has_ipv6(self) -> bool:
        """Whether pods get IPv6 addresses: the lab has pools for them, and the system offers it."""
        return bool(self.topology.pools6) and "vxlan6" in self.dialect.tunnel_devices

    def node_ip(self, node: str) -> IPv4Address:
        """A node's own address."""
        return self.topology.node(node).address.ip

    # ------------------------------------------------------------------ exact sets
    def routes(self, node: str) -> frozenset[Route]:
        """Every route of a node's main table."""
        me = self.topology.node(node)
        found = {
            Route("default", gateway=str(me.gateway), device=UPLINK, protocol="static"),
            Route(str(me.address.network), device=UPLINK, protocol="kernel", scope="link"),
        }
        found |= {self.workload_route(one) for one in self.workloads.values() if one.node == me.name}
        found |= set(self.block_routes(me.name))
        own = self.dialect.own_block_protocol.get(self.tunnel)
        if own is not None:
            own = protocol_of_routes(self.topology, self.dialect, self.mode, node, own)
            blocks = self.ipam.blocks.get(me.name, frozenset())
            found |= {Route(str(block), kind="blackhole", protocol=own) for block in blocks if block.prefixlen < 32}
        return frozenset(found)

    def workload_route(self, workload: Workload) -> Route:
        """The host's route to one of its pods."""
        return Route(str(workload.address), device=workload.host_device, scope="link")

    def block_routes(self, node: str) -> frozenset[Route]:
        """A node's routes to the blocks of all others."""
        return frozenset(
            self.block_route(node, peer.name, block)
            for peer in self.topology.nodes
            if peer.name != node
            for block in self.ipam.blocks.get(peer.name, ())
        )

    def block_route(self, node: str, peer: str, block: IPv4Network) -> Route:
        """How `node` must reach one block of `peer`."""
        destination = str(block) if block.prefixlen < 32 else str(block.network_address)
        usual = self.dialect.block_protocol[self.tunnel]
        protocol = protocol_of_routes(self.topology, self.dialect, self.mode, node, usual)
        if self.tunnel == "none":
            return Route(destination, gateway=str(self.topology.next_hop(node, peer)), device=UPLINK, protocol=protocol)
        via, device = str(self.node_ip(peer)), UPLINK
        if self.carriage(node, peer) == "ipip":
            device = self.dialect.tunnel_devices["ipip"]
        elif self.carriage(node, peer) == "vxlan":
            via, device = str(self.ipam.tunnel_addresses.get(peer, "?")), self.dialect.tunnel_devices["vxlan"]
        return Route(destination, gateway=via, device=device, protocol=protocol, is_onlink=True)

    def vtep_neighbours(self, node: str) -> frozenset[Neighbour]:
        """A node's neighbour entries on its VXLAN device: which inner MAC each remote tunnel address has."""
        device = self.dialect.tunnel_devices["vxlan"]
        return frozenset(
            Neighbour(str(address), device, vtep_mac(peer), "PERMANENT") for peer, address in self._remote_vteps(node)
        )

    def vtep_fdb(self, node: str) -> frozenset[FdbEntry]:
        """A node's FDB on its VXLAN device: which host each inner MAC is behind."""
        device = self.dialect.tunnel_devices["vxlan"]
        return frozenset(
            FdbEntry(vtep_mac(peer), device, str(self.node_ip(peer)), is_permanent=True, is_self=True)
            for peer, _ in self._remote_vteps(node)
        )

    def addresses(self, node: str) -> frozenset[Address]:
        """Every IPv4 address of a node."""
        found = {Address("lo", "127.0.0.1/8"), Address(UPLINK, str(self.topology.node(node).address))}
        tunnel_address = self.ipam.tunnel_addresses.get(node)
        if self.tunnel != "none" and tunnel_address is not None and self.tunnel_device is not None:
            found.add(Address(self.tunnel_device, f"{tunnel_address}/32"))
        return frozenset(found)

    def _remote_vteps(self, node: str) -> Iterable[tuple[str, IPv4Address]]:
        """Every other node, even one to which a crosssubnet mode sends nothing through the tunnel."""
        return [(peer, address) for peer, address in self.ipam.tunnel_addresses.items() if peer != node]
