"""Workload endpoints: one interface of one pod, as the CNI plugin registers it."""

from __future__ import annotations

from refnet.model.address import IPAddress, read_network
from refnet.model.names import workload_endpoint_name
from refnet.model.port import NamedPort, read_named_ports, written_ports
from refnet.model.reading import API_VERSION, Metadata
from refnet.model.value import value

TYPE_CHECKING = False  # typing costs 3 ms of start-up
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_MAC = r"[0-9a-f]{2}(:[0-9a-f]{2}){5}"
_DEVICE = r"[a-zA-Z0-9_.-]{1,15}"


@value
class WorkloadEndpoint:
    """`interface` is the host end of the veth, `endpoint` the pod's end, `addresses` the pod's."""

    KIND = "WorkloadEndpoint"
    KNOWN = {  # noqa: RUF012
        **dict.fromkeys(["orchestrator", "workload", "node", "containerID", "pod", "endpoint", "ipNetworks"]),
        **dict.fromkeys(["profiles", "interfaceName", "mac", "serviceAccountName"]),
        "ports": dict.fromkeys(["name", "protocol", "port", "hostPort", "hostIP"]),
    }

    name: str
    node: str
    orchestrator: str
    endpoint: str
    container_id: str
    interface: str
    addresses: tuple[IPAddress, ...]
    mac: str
    pod: str = ""
    workload: str = ""
    namespace: str = "default"
    profiles: tuple[str, ...] = ()
    labels: Mapping[str, str] = {}
    ports: tuple[NamedPort, ...] = ()
    service_account: str = ""

    @classmethod
    def from_resource(cls, resource: object) -> WorkloadEndpoint:
        """Raises InvalidResource with every mistake."""
        frame = Metadata(resource, cls.KIND, namespaced=True)
        spec = frame.spec
        addresses = []
        for network in spec.texts("ipNetworks"):
            address = _single_address(network)
            if address is None:
                spec.wrong("ipNetworks", "a list of single addresses, 10.0.0.1/32 or fd00::1/128")
                break
            addresses.append(address)
        endpoint = cls(
            name=frame.name,
            namespace=frame.namespace,
            node=spec.text("node", required=True),
            orchestrator=spec.choice("orchestrator", ("k8s", "cni"), "cni"),
            endpoint=spec.text("endpoint", required=True, pattern=_DEVICE, legal="an interface name"),
            container_id=spec.text("containerID"),
            interface=spec.text("interfaceName", required=True, pattern=_DEVICE, legal="an interface name"),
            addresses=tuple(addresses),
            mac=spec.text("mac", pattern=_MAC, legal="a MAC, six hex bytes with colons"),
            pod=spec.text("pod"),
            workload=spec.text("workload"),
            profiles=spec.texts("profiles"),
            labels=frame.labels,
            ports=read_named_ports(spec),
            service_account=spec.text("serviceAccountName"),
        )
        part = endpoint.pod if endpoint.orchestrator == "k8s" else endpoint.workload
        wanted = workload_endpoint_name(endpoint.node, endpoint.orchestrator, part, endpoint.endpoint)
        if not frame.top.mistakes and endpoint.name != wanted:
            frame.top.child("metadata").wrong("name", wanted, "the name follows from the spec")
        frame.finish()
        return endpoint

    def to_resource(self) -> dict[str, Any]:
        spec: dict[str, Any] = {
            "orchestrator": self.orchestrator,
            "node": self.node,
            "containerID": self.container_id,
            "endpoint": self.endpoint,
            "interfaceName": self.interface,
            "ipNetworks": [f"{address}/{address.max_prefixlen}" for address in self.addresses],
            "mac": self.mac,
            "profiles": list(self.profiles),
        }
        if self.pod:
            spec["pod"] = self.pod
        if self.workload:
            spec["workload"] = self.workload
        if self.ports:
            spec["ports"] = written_ports(self.ports)
        if self.service_account:
            spec["serviceAccountName"] = self.service_account
        metadata: dict[str, Any] = {"name": self.name, "namespace": self.namespace}
        if self.labels:
            metadata["labels"] = dict(self.labels)
        return {"apiVersion": API_VERSION, "kind": self.KIND, "metadata": metadata, "spec": spec}


def _single_address(network: str) -> IPAddress | None:
    """The one address of a /32 or /128; None for everything else."""
    try:
        parsed = read_network(network) if "/" in network else None
    except ValueError:
        return None
    return parsed.network_address if parsed and parsed.prefixlen == parsed.max_prefixlen else None
