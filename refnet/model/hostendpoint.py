"""Host endpoints: a node's own interfaces under policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from refnet.model.address import IPAddress, read_address
from refnet.model.port import NamedPort, read_named_ports, written_ports
from refnet.model.reading import API_VERSION, NAME_PATTERN, Metadata

ALL_INTERFACES = "*"
_INTERFACE = r"[a-zA-Z0-9_.-]{1,15}|\*"


@dataclass(frozen=True)
class HostEndpoint:
    """`interface` is a device's name, `*` for all of them, or empty: then the device with one of the addresses."""

    KIND = "HostEndpoint"
    KNOWN: ClassVar[dict[str, Any]] = {
        **dict.fromkeys(["node", "interfaceName", "expectedIPs", "profiles"]),
        "ports": dict.fromkeys(["name", "port", "protocol"]),
    }

    name: str
    node: str
    interface: str = ""
    addresses: tuple[IPAddress, ...] = ()
    profiles: tuple[str, ...] = ()
    ports: tuple[NamedPort, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_resource(cls, resource: object) -> HostEndpoint:
        """Raises InvalidResource with every mistake."""
        frame = Metadata(resource, cls.KIND)
        spec = frame.spec
        interface = spec.text("interfaceName", pattern=_INTERFACE, legal="an interface name, or *")
        addresses: list[IPAddress] = []
        for text in spec.texts("expectedIPs"):
            try:
                addresses.append(read_address(text))
            except ValueError:
                spec.wrong("expectedIPs", "a list of addresses, without prefix lengths")
                break
        if not interface and not addresses and not spec.has("expectedIPs"):
            spec.wrong("interfaceName", "an interface name, or *", "or give expectedIPs")
        endpoint = cls(
            name=frame.name,
            node=spec.text("node", required=True, pattern=NAME_PATTERN, legal="the name of a node"),
            interface=interface,
            addresses=tuple(addresses),
            profiles=spec.texts("profiles"),
            ports=read_named_ports(spec),
            labels=frame.labels,
        )
        frame.finish()
        return endpoint

    def to_resource(self) -> dict[str, Any]:
        spec: dict[str, Any] = {"node": self.node}
        if self.interface:
            spec["interfaceName"] = self.interface
        if self.addresses:
            spec["expectedIPs"] = [str(address) for address in self.addresses]
        if self.profiles:
            spec["profiles"] = list(self.profiles)
        if self.ports:
            spec["ports"] = written_ports(self.ports)
        metadata: dict[str, Any] = {"name": self.name}
        if self.labels:
            metadata["labels"] = dict(self.labels)
        return {"apiVersion": API_VERSION, "kind": self.KIND, "metadata": metadata, "spec": spec}
