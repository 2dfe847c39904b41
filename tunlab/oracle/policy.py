"""Manifests and who has which labels → whether a packet may pass. The judge's own reading of Calico's policy.

It follows Calico's documentation (NetworkPolicy, GlobalNetworkPolicy, Tier, Profile, HostEndpoint) from the objects as
users write them. What it does not know it refuses, so that nothing is judged by half a rule. It speaks of the first
packet of a connection; what belongs to one that was let through is let through.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Literal, NamedTuple

from tunlab.errors import LabError
from tunlab.oracle.selector import Labels, Selector, read_selector

Kind = Literal["pod", "host", "stranger"]
Way = Literal["ingress", "egress"]
Document = Mapping[str, Any]
NAMESPACE = "projectcalico.org/namespace"
PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58, "sctp": 132, "udplite": 136}
PORTED = ("tcp", "udp", "sctp", "udplite")
TIERS = {"kube-admin": (1_000.0, "Pass"), "default": (1_000_000.0, "Deny"), "kube-baseline": (10_000_000.0, "Pass")}
_ENTITY = {"nets", "notNets", "selector", "notSelector", "namespaceSelector", "ports", "notPorts"}
_RULE = {"action", "ipVersion", "protocol", "notProtocol", "icmp", "notICMP", "source", "destination", "metadata"}
# Calico's defaults, FelixConfiguration failsafeInboundHostPorts and failsafeOutboundHostPorts.
FAILSAFE: Mapping[Way, frozenset[tuple[str, int]]] = {
    "ingress": frozenset([("udp", 68), *(("tcp", port) for port in (22, 179, 2379, 2380, 5473, 6443, 6666, 6667))]),
    "egress": frozenset(
        [("udp", 53), ("udp", 67), *(("tcp", port) for port in (179, 2379, 2380, 5473, 6443, 6666, 6667))]
    ),
}


class NamedPort(NamedTuple):
    """A port that an endpoint has a name for."""

    name: str
    protocol: str
    number: int


@dataclass(frozen=True)
class Endpoint:
    """Somebody with an address: a pod, a node that has a HostEndpoint, or a stranger whom nobody polices."""

    name: str
    address: IPv4Address
    kind: Kind = "pod"
    labels: Labels = field(default_factory=dict)
    namespace: str = "default"
    profiles: tuple[str, ...] = ()
    ports: tuple[NamedPort, ...] = ()


class Packet(NamedTuple):
    """The first packet of a connection; `icmp` is type and code."""

    protocol: str
    port: int = 0
    source_port: int = 40_000
    icmp: tuple[int, int] = (8, 0)


class Ruling(NamedTuple):
    """Whether a packet may pass, and the words of the law."""

    allowed: bool
    because: str


class PolicyOracle:
    """All objects that are applied, and everybody who has an address, each with a name of its own.

    Raises LabError for what it does not know.
    """

    def __init__(self, documents: Iterable[Document], endpoints: Iterable[Endpoint]) -> None:
        self._documents = [one for one in documents if not str(one["kind"]).startswith("Staged")]
        self._profiles = {one["metadata"]["name"]: one.get("spec") or {} for one in self._of("Profile")}
        self._endpoints = tuple(endpoints)
        self._labels = {each.name: self._labels_of(each) for each in self._endpoints}
        self._sets = [
            (_set_labels(one), [IPv4Network(net) for net in (one.get("spec") or {}).get("nets", []) if ":" not in net])
            for one in (*self._of("GlobalNetworkSet"), *self._of("NetworkSet"))
        ]
        self._tiers = dict(TIERS)
        for one in self._of("Tier"):
            spec = one.get("spec") or {}
            self._tiers[one["metadata"]["name"]] = (_order(spec), spec.get("defaultAction", "Deny"))
        self._policies = [_Policy(one) for one in (*self._of("GlobalNetworkPolicy"), *self._of("NetworkPolicy"))]
        strange = {each.tier for each in self._policies} - set(self._tiers)
        if strange:
            raise LabError(f"policy: {', '.join(sorted(strange))}: no such tier")

    def ruling(self, source: Endpoint, target: Endpoint, packet: Packet) -> Ruling:
        """Whether `target` gets this packet of `source`: both ends must agree."""
        leaving = self.one_way("egress", source, target, packet)
        return self.one_way("ingress", source, target, packet) if leaving.allowed else leaving

    def one_way(self, way: Way, source: Endpoint, target: Endpoint, packet: Packet) -> Ruling:
        """What the policy of one end says: of the source for egress, of the target for ingress."""
        judged = source if way == "egress" else target
        if judged.kind == "stranger":
            return Ruling(True, f"{judged.name}: nobody polices it")
        if judged.kind == "host" and (packet.protocol, packet.port) in FAILSAFE[way]:
            return Ruling(True, f"{judged.name}: failsafe port {packet.port}")
        for tier in sorted(self._tiers, key=lambda name: (self._tiers[name][0], name)):
            policies = sorted(self._selecting(judged, way, tier), key=lambda each: each.rank)
            if not policies:
                continue
            for policy in policies:
                action, number = self._first_match(policy, way, source, target, packet)
                if action in ("Allow", "Deny"):
                    return Ruling(action == "Allow", f"{judged.name}: {way}: {policy.name} rule {number}: {action}")
                if action == "Pass":
                    break
            else:
                if self._tiers[tier][1] == "Deny":
                    return Ruling(False, f"{judged.name}: {way}: no rule of tier {tier} matches")
        return self._by_profiles(judged, way, source, target, packet)

    # ------------------------------------------------------------------ who is meant
    def _of(self, kind: str) -> Iterator[Document]:
        return (one for one in self._documents if one["kind"] == kind)

    def _labels_of(self, endpoint: Endpoint) -> Labels:
        """Its own, those that its profiles give, and its namespace's name."""
        inherited: dict[str, str] = {}
        for name in endpoint.profiles:
            inherited |= self._profiles.get(name, {}).get("labelsToApply") or {}
        place = {NAMESPACE: endpoint.namespace} if endpoint.kind == "pod" else {}
        return {**inherited, **endpoint.labels, **place}

    def _selecting(self, endpoint: Endpoint, way: Way, tier: str) -> Iterator[_Policy]:
        labels = self._labels[endpoint.name]
        for policy in self._policies:
            if policy.tier == tier and way in policy.ways and policy.is_about(endpoint, labels):
                yield policy

    def _holders(self, entity: Document, namespace: str, text: str) -> set[IPv4Network]:
        """The addresses of everybody whom a rule's selector, with its namespaceSelector, means."""
        chosen, near = read_selector(text), _nearness(entity, namespace)
        found = [
            (self._labels[each.name], [IPv4Network(each.address)])
            for each in self._endpoints
            if each.kind != "stranger"
        ]
        return {net for labels, nets in (*found, *self._sets) if chosen(labels) and near(labels) for net in nets}

    # ------------------------------------------------------------------ rules
    def _first_match(
        self, policy: _Policy, way: Way, source: Endpoint, target: Endpoint, packet: Packet
    ) -> tuple[str, int]:
        for number, rule in enumerate(policy.rules[way], start=1):
            if rule["action"] != "Log" and self._matches(rule, policy.namespace, source, target, packet):
                return rule["action"], number
        return "", 0

    def _by_profiles(self, judged: Endpoint, way: Way, source: Endpoint, target: Endpoint, packet: Packet) -> Ruling:
        for name in judged.profiles:
            if name not in self._profiles and (name.startswith("kns.") or name == "projectcalico-default-allow"):
                return Ruling(True, f"{judged.name}: {way}: profile {name} allows all")
            for rule in self._profiles.get(name, {}).get(way) or ():
                _demand_known(name, rule)
                if rule["action"] != "Log" and self._matches(rule, "", source, target, packet):
                    return Ruling(rule["action"] == "Allow", f"{judged.name}: {way}: profile {name}: {rule['action']}")
        return Ruling(False, f"{judged.name}: {way}: no profile allows it")

    def _matches(self, rule: Document, namespace: str, source: Endpoint, target: Endpoint, packet: Packet) -> bool:
        if rule.get("ipVersion", 4) != 4:
            return False
        number = _protocol_number(packet.protocol)
        if "protocol" in rule and _protocol_number(rule["protocol"]) != number:
            return False
        if "notProtocol" in rule and _protocol_number(rule["notProtocol"]) == number:
            return False
        if "icmp" in rule and not (number == 1 and _is_icmp(rule["icmp"], packet)):
            return False
        if "notICMP" in rule and number == 1 and _is_icmp(rule["notICMP"], packet):
            return False
        ends = (("source", source, packet.source_port), ("destination", target, packet.port))
        return all(self._fits(rule.get(key) or {}, namespace, end, port, packet) for key, end, port in ends)

    def _fits(self, entity: Document, namespace: str, end: Endpoint, port: int, packet: Packet) -> bool:
        """Whether one end of a packet is whom a rule's `source` or `destination` means."""
        nets = [IPv4Network(net) for net in entity.get("nets") or () if ":" not in net]
        if entity.get("nets") and not any(end.address in net for net in nets):
            return False
        if any(end.address in IPv4Network(net) for net in entity.get("notNets") or () if ":" not in net):
            return False
        wanted = entity.get("selector", "")
        if (wanted or entity.get("namespaceSelector")) and not any(
            end.address in net for net in self._holders(entity, namespace, wanted)
        ):
            return False
        unwanted = entity.get("notSelector")
        if unwanted and any(end.address in net for net in self._holders(entity, namespace, unwanted)):
            return False
        if entity.get("ports") and not _is_one_of(entity["ports"], end, port, packet):
            return False
        return not (entity.get("notPorts") and _is_one_of(entity["notPorts"], end, port, packet))


class _Policy:
    """A NetworkPolicy or GlobalNetworkPolicy, with the defaults that Calico fills in."""

    def __init__(self, document: Document) -> None:
        metadata, spec = document["metadata"], document.get("spec") or {}
        self.namespace = metadata.get("namespace", "default") if document["kind"] == "NetworkPolicy" else ""
        self.name = "/".join(filter(None, (document["kind"], self.namespace, metadata["name"])))
        self.tier = spec.get("tier", "default")
        self.rank = (_order(spec), metadata["name"], self.namespace, document["kind"])
        self.rules: Mapping[Way, Sequence[Document]] = {
            "ingress": spec.get("ingress") or (),
            "egress": spec.get("egress") or (),
        }
        only_egress = self.rules["egress"] and not self.rules["ingress"]
        both = self.rules["egress"] and self.rules["ingress"]
        by_rules = ["Ingress", "Egress"] if both else ["Egress"] if only_egress else ["Ingress"]
        self.ways = {str(each).lower() for each in spec.get("types") or by_rules}
        self._selector = read_selector(spec.get("selector", ""))
        self._spaces = spec.get("namespaceSelector", "")
        strange = set(spec) - {
            *("tier", "order", "selector", "namespaceSelector", "types", "ingress", "egress", "applyOnForward"),
        }
        if strange:
            raise LabError(f"policy: {self.name}: the oracle does not know {', '.join(sorted(strange))}")
        for rule in (*self.rules["ingress"], *self.rules["egress"]):
            _demand_known(self.name, rule)

    def is_about(self, endpoint: Endpoint, labels: Labels) -> bool:
        """Whether it selects this endpoint."""
        if self.namespace and (endpoint.kind != "pod" or endpoint.namespace != self.namespace):
            return False
        return self._selector(labels) and (
            not self._spaces or _nearness({"namespaceSelector": self._spaces}, "")(labels)
        )


def _nearness(entity: Document, namespace: str) -> Selector:
    """Which labels' holders a selector may mean: those of some namespaces, of the policy's own one, or everybody."""
    text = entity.get("namespaceSelector", "")
    if text.replace(" ", "") == "global()":
        return lambda labels: NAMESPACE not in labels
    if text:
        chosen = read_selector(text)

        def in_namespace(labels: Labels) -> bool:
            if NAMESPACE not in labels:
                return False
            own = {key.removeprefix("pcns."): value for key, value in labels.items() if key.startswith("pcns.")}
            return chosen({**own, "projectcalico.org/name": labels[NAMESPACE]})

        return in_namespace
    if namespace and (entity.get("selector") or entity.get("notSelector")):
        return lambda labels: labels.get(NAMESPACE) == namespace
    return lambda labels: True


def _set_labels(document: Document) -> Labels:
    metadata = document["metadata"]
    place = {NAMESPACE: metadata.get("namespace", "default")} if document["kind"] == "NetworkSet" else {}
    return {**(metadata.get("labels") or {}), **place}


def _order(spec: Document) -> float:
    return float(spec["order"]) if spec.get("order") is not None else math.inf


def _protocol_number(protocol: object) -> int:
    text = str(protocol).lower()
    if text.isdecimal():
        return int(text)
    if text not in PROTOCOLS:
        raise LabError(f"policy: protocol {protocol!r}: the oracle does not know it")
    return PROTOCOLS[text]


def _is_icmp(wanted: Document, packet: Packet) -> bool:
    kind, code = packet.icmp
    return (wanted.get("type", kind), wanted.get("code", code)) == (kind, code)


def _is_one_of(ports: Iterable[object], end: Endpoint, port: int, packet: Packet) -> bool:
    """Numbers, ranges such as `"80:90"`, and names that the endpoint has for a port of this protocol."""
    if packet.protocol not in PORTED:
        return False
    for each in ports:
        low, colon, high = str(each).partition(":")
        if low.isdecimal():
            if int(low) <= port <= int(high if colon else low):
                return True
        elif NamedPort(low, packet.protocol, port) in end.ports:
            return True
    return False


def _demand_known(name: str, rule: Document) -> None:
    strange = set(rule) - _RULE
    for key in ("source", "destination"):
        strange |= set(rule.get(key) or {}) - _ENTITY
    if strange:
        raise LabError(f"policy: {name}: the oracle does not know {', '.join(sorted(strange))}")
    if rule.get("action") not in ("Allow", "Deny", "Log", "Pass"):
        raise LabError(f"policy: {name}: {rule.get('action')!r}: no action")
