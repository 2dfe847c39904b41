"""What a lab with two families must look like in IPv6: the oracle's exact sets, in that family's words.

Nothing here looks at a kernel. The kernel gives a route that names no metric 1024, and shows a blackhole on `lo`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network

from tunlab.errors import LabError
from tunlab.lab.topology import UPLINK, Mode, Node, Topology
from tunlab.live.lab import Workload
from tunlab.node.tables import Address, FdbEntry, Neighbour, Route
from tunlab.oracle.network import Carriage, carriage_between, protocol_of_routes, reaches, tunnel_of, vtep_mac
from tunlab.systems.install import Ipam
from tunlab.systems.recipe import Dialect

METRIC = 1024
VXLAN6_OVERHEAD_BYTES = 70


def carriage6_between(topology: Topology, mode: Mode, a: str, b: str) -> Carriage:
    """How a pod's IPv6 packet crosses from node `a` to node `b`: IPIP carries IPv4 alone."""
    carriage = carriage_between(topology, mode, a, b)
    return "none" if carriage == "ipip" else carriage


def reaches6(topology: Topology, mode: Mode, a: str, b: str) -> bool:
    """Whether pods of node `a` and pods of node `b` can talk IPv6 to each other."""
    if mode.startswith("ipip"):
        return a == b or topology.none_reaches(a, b)
    return reaches(topology, mode, a, b)


@dataclass(frozen=True, slots=True)
class Oracle6:
    """The expectations for one lab in one mode, once the pods are up."""

    topology: Topology
    mode: Mode
    dialect: Dialect
    ipam: Ipam
    workloads: Mapping[str, Workload]

    @property
    def tunnel(self) -> Carriage:
        """The mode's encapsulation of IPv6."""
        return "vxlan" if tunnel_of(self.mode) == "vxlan" else "none"

    @property
    def device(self) -> str:
        """The VXLAN device over IPv6."""
        return self.dialect.tunnel_devices["vxlan6"]

    def routes(self, node: str) -> frozenset[Route]:
        """Every IPv6 route of a node's main table that somebody made."""
        me = self._node(node)
        found = {Route("default", gateway=str(me.gateway6), device=UPLINK, protocol="static", metric=METRIC)}
        found |= {self.workload_route(one) for one in self.workloads.values() if one.node == me.name}
        found |= set(self.block_routes(me.name))
        usual = self.dialect.own_block_protocol[self.tunnel]
        own = protocol_of_routes(self.topology, self.dialect, self.mode, node, usual)
        for block in self.ipam.blocks6.get(me.name, ()):
            found.add(Route(str(block), kind="blackhole", device="lo", protocol=own, metric=METRIC))
        return frozenset(found)

    def workload_route(self, workload: Workload) -> Route:
        """The host's route to one of its pods."""
        return Route(str(workload.address6), device=workload.host_device, metric=METRIC)

    def block_routes(self, node: str) -> frozenset[Route]:
        """A node's routes to the blocks of all others."""
        return frozenset(
            self.block_route(node, peer.name, block)
            for peer in self.topology.nodes
            if peer.name != node
            for block in self.ipam.blocks6.get(peer.name, ())
        )

    def block_route(self, node: str, peer: str, block: IPv6Network) -> Route:
        """How `node` must reach one block of `peer`."""
        usual = self.dialect.block_protocol[self.tunnel]
        protocol = protocol_of_routes(self.topology, self.dialect, self.mode, node, usual)
        if self.tunnel == "none":
            via = str(self.topology.next_hop6(node, peer))
            return Route(str(block), gateway=via, device=UPLINK, protocol=protocol, metric=METRIC)
        via, device = str(self.node_ip(peer)), UPLINK
        if carriage6_between(self.topology, self.mode, node, peer) == "vxlan":
            via, device = str(self.ipam.tunnel_addresses6.get(peer, "?")), self.device
        return Route(str(block), gateway=via, device=device, protocol=protocol, metric=METRIC, is_onlink=True)

    def neighbours(self, node: str) -> frozenset[Neighbour]:
        """A node's neighbour entries on its VXLAN device."""
        return frozenset(
            Neighbour(str(address), self.device, vtep_mac(f"{peer}-v6"), "PERMANENT")
            for peer, address in self._remote_vteps(node)
        )

    def fdb(self, node: str) -> frozenset[FdbEntry]:
        """A node's FDB on its VXLAN device: which host each inner MAC is behind."""
        return frozenset(
            FdbEntry(vtep_mac(f"{peer}-v6"), self.device, str(self.node_ip(peer)), is_permanent=True, is_self=True)
            for peer, _ in self._remote_vteps(node)
        )

    def addresses(self, node: str) -> frozenset[Address]:
        """Every IPv6 address of a node that somebody chose."""
        found = {Address(UPLINK, str(self._node(node).address6))}
        if self.tunnel == "vxlan":
            found.add(Address(self.device, f"{self.ipam.tunnel_addresses6.get(node, '?')}/128"))
        return frozenset(found)

    def node_ip(self, node: str) -> IPv6Address:
        """A node's own address."""
        address = self._node(node).address6
        assert address is not None  # _node has looked
        return address.ip

    def _node(self, name: str) -> Node:
        node = self.topology.node(name)
        if node.address6 is None:
            raise LabError(f"{self.topology.name}: {name}: has no IPv6 address", hint="give every segment a subnet6")
        return node

    def _remote_vteps(self, node: str) -> Iterable[tuple[str, IPv6Address]]:
        return [(peer, address) for peer, address in self.ipam.tunnel_addresses6.items() if peer != node]
