"""Network sets: addresses under labels, so that selectors find what is no endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from refnet.model.address import read_network
from refnet.model.reading import API_VERSION, Metadata
from refnet.model.rule import Network


@dataclass(frozen=True)
class Networks:
    """What both kinds of network set have; `namespace` is empty for global ones."""

    KNOWN = dict.fromkeys(["nets"])

    name: str
    nets: tuple[Network, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    namespace: str = ""

    def _resource(self, kind: str) -> dict[str, Any]:
        metadata: dict[str, Any] = {"name": self.name}
        if self.namespace:
            metadata["namespace"] = self.namespace
        if self.labels:
            metadata["labels"] = dict(self.labels)
        spec = {"nets": [str(net) for net in self.nets]}
        return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}


class NetworkSet(Networks):
    """Addresses that selectors of one namespace find."""

    KIND = "NetworkSet"

    @classmethod
    def from_resource(cls, resource: object) -> NetworkSet:
        """Raises InvalidResource with every mistake."""
        return cls(**_read(resource, cls.KIND, namespaced=True))

    def to_resource(self) -> dict[str, Any]:
        return self._resource(self.KIND)


class GlobalNetworkSet(Networks):
    """Addresses that selectors of global policies, and those with a namespaceSelector of global(), find."""

    KIND = "GlobalNetworkSet"

    @classmethod
    def from_resource(cls, resource: object) -> GlobalNetworkSet:
        """Raises InvalidResource with every mistake."""
        return cls(**_read(resource, cls.KIND, namespaced=False))

    def to_resource(self) -> dict[str, Any]:
        return self._resource(self.KIND)


def _read(resource: object, kind: str, *, namespaced: bool) -> dict[str, Any]:
    frame = Metadata(resource, kind, namespaced=namespaced)
    nets: list[Network] = []
    for text in frame.spec.texts("nets"):
        try:
            nets.append(read_network(text, strict=False))
        except ValueError:
            frame.spec.wrong("nets", "a list of networks such as 10.0.0.0/8 or fd00::/8")
            break
    frame.finish()
    return {"name": frame.name, "nets": tuple(nets), "labels": frame.labels, "namespace": frame.namespace}
