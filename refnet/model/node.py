"""Nodes: the hosts of the network, as their own agents register them."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface
from typing import Any, ClassVar

from refnet.model.reading import API_VERSION, Metadata


@dataclass(frozen=True)
class Node:
    """A host. `address` carries the prefix length of its own subnet: CrossSubnet decides by it."""

    KIND = "Node"
    KNOWN: ClassVar[dict[str, Any]] = {
        "bgp": dict.fromkeys(["ipv4Address", "ipv4IPIPTunnelAddr", "asNumber", "routeReflectorClusterID"]),
        "ipv4VXLANTunnelAddr": None,
        "addresses": dict.fromkeys(["address", "type"]),
        "orchRefs": dict.fromkeys(["nodeName", "orchestrator"]),
    }

    name: str
    address: IPv4Interface | None = None
    as_number: int | None = None
    ipip_tunnel_address: IPv4Address | None = None
    vxlan_tunnel_address: IPv4Address | None = None
    # What makes the node a route reflector; written like an address that nobody has.
    cluster_id: IPv4Address | None = None
    labels: dict[str, str] = field(default_factory=dict, hash=False)

    @classmethod
    def from_resource(cls, resource: object) -> Node:
        """Raises InvalidResource with every mistake."""
        frame = Metadata(resource, cls.KIND)
        bgp = frame.spec.child("bgp")
        if frame.spec.fields.get("bgp") == {}:
            frame.spec.wrong("bgp", "at least ipv4Address, or no bgp at all")
        node = cls(
            name=frame.name,
            address=bgp.interface("ipv4Address"),
            as_number=bgp.as_number("asNumber"),
            ipip_tunnel_address=bgp.address("ipv4IPIPTunnelAddr"),
            cluster_id=bgp.address("routeReflectorClusterID"),
            vxlan_tunnel_address=frame.spec.address("ipv4VXLANTunnelAddr"),
            labels=frame.labels,
        )
        frame.finish()
        return node

    def to_resource(self) -> dict[str, Any]:
        metadata: dict[str, Any] = {"name": self.name}
        if self.labels:
            metadata["labels"] = dict(self.labels)
        bgp: dict[str, Any] = {}
        if self.address:
            bgp["ipv4Address"] = str(self.address)
        if self.as_number:
            bgp["asNumber"] = self.as_number
        if self.cluster_id:
            bgp["routeReflectorClusterID"] = str(self.cluster_id)
        if self.ipip_tunnel_address:
            bgp["ipv4IPIPTunnelAddr"] = str(self.ipip_tunnel_address)
        spec: dict[str, Any] = {"bgp": bgp} if bgp else {}
        if self.address:
            spec["addresses"] = [{"address": str(self.address), "type": "CalicoNodeIP"}]
        if self.vxlan_tunnel_address:
            spec["ipv4VXLANTunnelAddr"] = str(self.vxlan_tunnel_address)
        return {"apiVersion": API_VERSION, "kind": self.KIND, "metadata": metadata, "spec": spec}
