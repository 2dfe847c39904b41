"""Nodes: the hosts of the network, as their own agents register them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from typing import Any, ClassVar

from refnet.model.address import IPAddress, IPInterface
from refnet.model.reading import API_VERSION, Metadata


@dataclass(frozen=True)
class Node:
    """A host. `address` carries the prefix length of its own subnet: CrossSubnet decides by it.

    As one family sees it (`seen_by`) the node has that family's addresses in the place of the IPv4 ones.
    """

    KIND = "Node"
    KNOWN: ClassVar[dict[str, Any]] = {
        "bgp": dict.fromkeys(
            ["ipv4Address", "ipv6Address", "ipv4IPIPTunnelAddr", "asNumber", "routeReflectorClusterID"]
        ),
        "ipv4VXLANTunnelAddr": None,
        "ipv6VXLANTunnelAddr": None,
        "addresses": dict.fromkeys(["address", "type"]),
        "orchRefs": dict.fromkeys(["nodeName", "orchestrator"]),
    }

    name: str
    address: IPInterface | None = None
    as_number: int | None = None
    ipip_tunnel_address: IPv4Address | None = None
    vxlan_tunnel_address: IPAddress | None = None
    address6: IPInterface | None = None
    vxlan6_tunnel_address: IPAddress | None = None
    # What makes the node a route reflector; written like an address that nobody has.
    cluster_id: IPv4Address | None = None
    labels: dict[str, str] = field(default_factory=dict, hash=False)

    @classmethod
    def from_resource(cls, resource: object) -> Node:
        """Raises InvalidResource with every mistake."""
        frame = Metadata(resource, cls.KIND)
        bgp = frame.spec.child("bgp")
        if frame.spec.fields.get("bgp") == {}:
            frame.spec.wrong("bgp", "at least ipv4Address or ipv6Address, or no bgp at all")
        node = cls(
            name=frame.name,
            address=bgp.interface("ipv4Address"),
            as_number=bgp.as_number("asNumber"),
            ipip_tunnel_address=bgp.address("ipv4IPIPTunnelAddr"),
            cluster_id=bgp.address("routeReflectorClusterID"),
            vxlan_tunnel_address=frame.spec.address("ipv4VXLANTunnelAddr"),
            address6=bgp.interface6("ipv6Address"),
            vxlan6_tunnel_address=frame.spec.address6("ipv6VXLANTunnelAddr"),
            labels=frame.labels,
        )
        frame.finish()
        return node

    def seen_by(self, version: int) -> Node:
        """The node as IPv4 or IPv6 sees it."""
        if version == 4:
            return self
        return replace(
            self, address=self.address6, ipip_tunnel_address=None, vxlan_tunnel_address=self.vxlan6_tunnel_address
        )

    def to_resource(self) -> dict[str, Any]:
        metadata: dict[str, Any] = {"name": self.name}
        if self.labels:
            metadata["labels"] = dict(self.labels)
        bgp: dict[str, Any] = {}
        if self.address:
            bgp["ipv4Address"] = str(self.address)
        if self.address6:
            bgp["ipv6Address"] = str(self.address6)
        if self.as_number:
            bgp["asNumber"] = self.as_number
        if self.cluster_id:
            bgp["routeReflectorClusterID"] = str(self.cluster_id)
        if self.ipip_tunnel_address:
            bgp["ipv4IPIPTunnelAddr"] = str(self.ipip_tunnel_address)
        spec: dict[str, Any] = {"bgp": bgp} if bgp else {}
        if addresses := [str(address) for address in (self.address, self.address6) if address]:
            spec["addresses"] = [{"address": address, "type": "CalicoNodeIP"} for address in addresses]
        if self.vxlan_tunnel_address:
            spec["ipv4VXLANTunnelAddr"] = str(self.vxlan_tunnel_address)
        if self.vxlan6_tunnel_address:
            spec["ipv6VXLANTunnelAddr"] = str(self.vxlan6_tunnel_address)
        return {"apiVersion": API_VERSION, "kind": self.KIND, "metadata": metadata, "spec": spec}
