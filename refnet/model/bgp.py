"""BGP: who besides the mesh a node talks to, and whether there is a mesh."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from refnet.model.reading import API_VERSION, NAME_PATTERN, Metadata

DEFAULT_AS = 64512


@dataclass(frozen=True)
class BGPPeer:
    """A BGP speaker that `node` (every node if empty) shall peer with."""

    KIND = "BGPPeer"
    KNOWN = dict.fromkeys(["node", "peerIP", "asNumber"])

    name: str
    peer_ip: IPv4Address
    as_number: int
    node: str = ""

    @classmethod
    def from_resource(cls, resource: object) -> BGPPeer:
        """Raises InvalidResource with every mistake."""
        frame = Metadata(resource, cls.KIND)
        spec = frame.spec
        for unsupported in ("nodeSelector", "peerSelector", "localWorkloadSelector", "password", "localASNumber"):
            if spec.fields.get(unsupported) not in (None, "", "all()"):
                spec.wrong(unsupported, "leave it out", "it is not supported yet")
        if spec.has("node") and spec.has("nodeSelector"):
            spec.wrong("nodeSelector", "leave it out", "node and nodeSelector exclude each other")
        peer_ip = spec.address("peerIP", required=True)
        as_number = spec.as_number("asNumber", required=True)
        node = spec.text("node", pattern=NAME_PATTERN, legal="the name of a node; leave it out for all nodes")
        frame.finish()
        assert peer_ip and as_number  # else finish() has raised
        return cls(frame.name, peer_ip, as_number, node)

    def to_resource(self) -> dict[str, Any]:
        spec: dict[str, Any] = {"peerIP": str(self.peer_ip), "asNumber": self.as_number}
        if self.node:
            spec["node"] = self.node
        return {"apiVersion": API_VERSION, "kind": self.KIND, "metadata": {"name": self.name}, "spec": spec}


@dataclass(frozen=True)
class BGPConfiguration:
    """The cluster's BGP settings; only the one named `default` counts."""

    KIND = "BGPConfiguration"
    KNOWN = dict.fromkeys(["logSeverityScreen", "nodeToNodeMeshEnabled", "asNumber"])

    name: str = "default"
    node_to_node_mesh_enabled: bool = True
    as_number: int = DEFAULT_AS

    @classmethod
    def from_resource(cls, resource: object) -> BGPConfiguration:
        """Raises InvalidResource with every mistake."""
        frame = Metadata(resource, cls.KIND)
        spec = frame.spec
        if frame.name and frame.name != "default":
            frame.top.child("metadata").wrong("name", "default", "settings for single nodes are not supported yet")
        if spec.fields.get("listenPort") not in (None, 179):
            spec.wrong("listenPort", "179", "other ports are not supported yet")
        configuration = cls(
            name=frame.name,
            node_to_node_mesh_enabled=spec.flag("nodeToNodeMeshEnabled", True),
            as_number=spec.as_number("asNumber") or DEFAULT_AS,
        )
        frame.finish()
        return configuration

    def to_resource(self) -> dict[str, Any]:
        spec = {"nodeToNodeMeshEnabled": self.node_to_node_mesh_enabled, "asNumber": self.as_number}
        return {"apiVersion": API_VERSION, "kind": self.KIND, "metadata": {"name": self.name}, "spec": spec}
