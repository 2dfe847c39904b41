"""Stores with policy in them: pods with labels on two nodes, and one store for each thing that policy can say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.refnet.calc import situations as s


def endpoint(node: str, pod: str, address: str, namespace: str = "default", **spec: Any) -> dict[str, Any]:
    """A pod with labels `app` of its own name and whatever is said; its interface is called after it."""
    name = f"{node}-k8s-{pod}-eth0"
    labels = spec.pop("labels", {"app": pod})
    value = {
        "apiVersion": "projectcalico.org/v3",
        "kind": "WorkloadEndpoint",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "orchestrator": "k8s",
            "node": node,
            "pod": pod,
            "endpoint": "eth0",
            "containerID": "c1",
            "interfaceName": f"cali{pod}",
            "ipNetworks": [f"{address}/{128 if ':' in address else 32}"],
            "mac": "02:00:00:00:00:01",
            "profiles": [f"kns.{namespace}"],
            **spec,
        },
    }
    return {f"{s.RESOURCES}workloadendpoints/{namespace}/{name}": value}


def policy(name: str, namespace: str = "", **spec: Any) -> dict[str, Any]:
    kind, plural = (
        ("NetworkPolicy", "networkpolicies") if namespace else ("GlobalNetworkPolicy", "globalnetworkpolicies")
    )
    return named(kind, plural, name, spec, namespace)


def named(
    kind: str,
    plural: str,
    name: str,
    spec: Mapping[str, Any],
    namespace: str = "",
    labels: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name} | ({"namespace": namespace} if namespace else {})
    if labels:
        metadata["labels"] = dict(labels)
    value = {"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": metadata, "spec": dict(spec)}
    return {f"{s.RESOURCES}{plural}/{f'{namespace}/' if namespace else ''}{name}": value}


def allow(*, action: str = "Allow", **rule: Any) -> dict[str, Any]:
    return {"action": action, **rule}


def together(*parts: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for part in parts for key, value in part.items()}


PODS = together(
    s.node("node1", "192.0.2.1/24"),
    s.node("node2", "192.0.2.2/24"),
    s.pool(vxlanMode="Always"),
    endpoint("node1", "web", "10.65.0.1", ports=[{"name": "http", "protocol": "TCP", "port": 8080}]),
    endpoint("node1", "db", "10.65.0.2"),
    endpoint("node2", "shop", "10.65.1.1", labels={"app": "shop", "env": "prod"}),
    endpoint("node2", "far", "10.65.1.2", "other"),
)
NAT = together(
    PODS,
    s.pool("nat", "10.66.0.0/16", vxlanMode="Always", natOutgoing=True),
    s.pool("inside", "10.0.0.0/10", disabled=True),
)
EVERY_RULE: Sequence[dict[str, Any]] = (
    allow(protocol="TCP", destination={"ports": [80, "8000:8080", "http"], "notPorts": [81]}),
    allow(protocol="UDP", source={"ports": list(range(1, 17)), "nets": ["192.0.2.0/24"], "notNets": ["192.0.2.9"]}),
    allow(action="Deny", source={"nets": ["0.0.0.0/0", "10.0.0.0/8"], "notNets": ["10.1.0.0/16", "10.2.0.0/16"]}),
    allow(protocol="ICMP", icmp={"type": 8, "code": 0}),
    allow(action="Pass", protocol="ICMP", notICMP={"type": 3}),
    allow(action="Log", notProtocol="SCTP"),
    allow(protocol="ICMP", icmp={"type": 254}, notICMP={"type": 254, "code": 255}),
    allow(protocol="UDPLite", destination={"ports": ["0:65535", 0], "notPorts": ["http", 1, "2:3"]}),
    allow(protocol="SCTP", source={"ports": ["http"], "notNets": ["10.0.0.0/8"]}, destination={"nets": ["10.0.0.1"]}),
    allow(protocol="ICMPv6", icmp={"type": 128}),
    *(allow(action="Deny", protocol=number) for number in (2, 4, 41, 43, 44, 50, 59, 255)),
    *(allow(action="Deny", notProtocol=number) for number in (1, 58, 255)),
    allow(protocol=47, source={"selector": "app == 'shop'", "notSelector": "env == 'test'"}),
    allow(source={"namespaceSelector": "projectcalico.org/name == 'other'"}),
    allow(source={"serviceAccounts": {"names": ["robot"]}}),
    allow(ipVersion=6, source={"nets": ["fd00::/8"]}),
)
POLICED = together(
    PODS,
    policy("every-rule", "default", order=10, selector="app == 'web'", ingress=list(EVERY_RULE)),
    policy(
        "gate",
        tier="security",
        types=["Ingress", "Egress"],
        selector="app in {'web', 'db'}",
        ingress=[allow(action="Pass")],
    ),
    policy("deny-all"),
    named("Tier", "tiers", "security", {"order": 100}),
    named("Tier", "tiers", "audit", {"order": 50, "defaultAction": "Pass"}),
    policy("log", tier="audit", selector="app == 'db'", types=["Egress"], egress=[allow(action="Log")]),
    named(
        "Profile",
        "profiles",
        "kns.default",
        {"egress": [allow()], "labelsToApply": {"pcns.projectcalico.org/name": "default"}},
    ),
    named(
        "GlobalNetworkSet",
        "globalnetworksets",
        "shops",
        {"nets": ["203.0.113.0/24", "fd00::/8"]},
        labels={"app": "shop"},
    ),
)
HOSTS = together(
    PODS,
    named(
        "HostEndpoint",
        "hostendpoints",
        "node1-eth0",
        {"node": "node1", "interfaceName": "eth0", "expectedIPs": ["192.0.2.1"]},
        labels={"role": "host"},
    ),
    named(
        "HostEndpoint",
        "hostendpoints",
        "node1-rest",
        {"node": "node1", "interfaceName": "*", "profiles": ["projectcalico-default-allow"]},
    ),
    policy("hosts", order=1, selector="role == 'host'", types=["Ingress", "Egress"], ingress=[allow(protocol="ICMP")]),
    policy(
        "through",
        order=2,
        selector="role == 'host'",
        applyOnForward=True,
        types=["Egress"],
        egress=[allow(action="Deny", protocol="TCP"), allow()],
    ),
    policy(
        "before",
        order=3,
        selector="role == 'host'",
        applyOnForward=True,
        preDNAT=True,
        ingress=[allow(action="Deny", source={"nets": ["203.0.113.0/24"]})],
    ),
    policy(
        "bare",
        order=4,
        selector="role == 'host'",
        applyOnForward=True,
        doNotTrack=True,
        types=["Ingress", "Egress"],
        ingress=[allow(protocol="UDP", destination={"ports": [53]})],
        egress=[allow(protocol="UDP", source={"ports": [53]})],
    ),
)
WORLDS: Mapping[str, Mapping[str, Any]] = {"pods": PODS, "nat": NAT, "policed": POLICED, "hosts": HOSTS}
