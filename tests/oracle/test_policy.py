"""The oracle of policy against verdicts that were decided by hand, manifest by manifest.

The cast is that of labs/outside.yaml: pod1 web prod · pod2 shop prod (same node) · pod3 shop test · pod4 shop prod,
team blue, in namespace other · pod5 db prod.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest
import yaml

from tunlab.errors import LabError
from tunlab.lab.load import load_lab
from tunlab.oracle.policy import Endpoint, NamedPort, Packet, PolicyOracle
from tunlab.paths import ROOT

LAB = load_lab("outside")
PODS = {
    pod.name: Endpoint(
        pod.name, pod.address or IPv4Address(0), "pod", dict(pod.labels), pod.namespace, (f"kns.{pod.namespace}",)
    )
    for pod in LAB.pods
}
ALL = {"pod1", "pod2", "pod3", "pod4", "pod5"}
NOBODY: set[str] = set()
OUTSIDE = Endpoint("outside", IPv4Address("192.168.200.9"), "stranger")
NODE1 = Endpoint("node1", IPv4Address("192.168.100.100"), "host", {"role": "host"})
NODE2 = Endpoint("node2", IPv4Address("192.168.100.101"), "stranger")
PING = Packet("icmp")


def tcp(port: int) -> Packet:
    return Packet("tcp", port)


def udp(port: int) -> Packet:
    return Packet("udp", port)


def manifest(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((ROOT / f"fixtures/manifests/policy/{name}.yaml").read_text()))


def oracle(
    documents: Iterable[Mapping[str, Any]], cast: Mapping[str, Endpoint] = PODS
) -> tuple[PolicyOracle, Mapping[str, Endpoint]]:
    return PolicyOracle(documents, [*cast.values(), OUTSIDE, NODE1, NODE2]), cast


def who_reaches(
    target: str, packet: Packet, documents: Iterable[Mapping[str, Any]], cast: Mapping[str, Endpoint] = PODS
) -> set[str]:
    judge, cast = oracle(documents, cast)
    return {
        name for name, source in cast.items() if name != target and judge.ruling(source, cast[target], packet).allowed
    }


def others(target: str) -> set[str]:
    return ALL - {target}


@pytest.mark.parametrize(
    ("name", "target", "packet", "sources"),
    [
        ("ingress-isolated", "pod1", tcp(80), NOBODY),
        ("ingress-isolated", "pod1", PING, NOBODY),
        ("ingress-isolated", "pod2", tcp(80), others("pod2")),
        ("ingress-allowed", "pod1", tcp(80), {"pod2", "pod3"}),
        ("ingress-allowed", "pod1", tcp(81), NOBODY),
        ("ingress-allowed", "pod1", udp(80), NOBODY),
        ("ingress-allowed", "pod5", udp(80), others("pod5")),
        ("egress-allowed", "pod5", udp(53), others("pod5")),
        ("egress-allowed", "pod5", tcp(53), {"pod1", "pod2", "pod4"}),
        ("egress-allowed", "pod1", udp(53), {"pod2", "pod4", "pod5"}),
        ("egress-allowed", "pod3", tcp(80), others("pod3")),
        ("both-ends", "pod1", tcp(80), {"pod2", "pod4", "pod5"}),
        ("both-ends", "pod5", tcp(80), others("pod5")),
        ("both-ends", "pod2", tcp(80), {"pod1", "pod5"}),
        ("types", "pod2", tcp(80), {"pod1", "pod3", "pod4"}),
        ("types", "pod5", udp(80), {"pod1", "pod2", "pod4"}),
        ("types", "pod4", tcp(80), NOBODY),
        ("types", "pod3", tcp(80), {"pod1", "pod2", "pod4"}),
        ("order", "pod1", tcp(80), others("pod1")),
        ("order", "pod1", tcp(81), others("pod1")),
        ("order", "pod1", tcp(82), others("pod1")),
        ("order", "pod1", tcp(83), NOBODY),
        ("order", "pod1", tcp(84), others("pod1")),
        ("order", "pod1", tcp(85), NOBODY),
        ("rules-in-order", "pod1", tcp(80), {"pod2", "pod4", "pod5"}),
        ("rules-in-order", "pod1", tcp(81), NOBODY),
        ("rules-in-order", "pod1", udp(53), others("pod1")),
        ("tiers", "pod1", tcp(80), {"pod2", "pod4", "pod5"}),
        ("tiers", "pod1", tcp(81), NOBODY),
        ("tiers", "pod1", tcp(82), NOBODY),
        ("tiers", "pod1", udp(53), NOBODY),
        ("tiers", "pod1", udp(54), {"pod2", "pod4", "pod5"}),
        ("tiers", "pod5", tcp(81), others("pod5")),
        ("pass-to-profiles", "pod1", tcp(80), others("pod1")),
        ("pass-to-profiles", "pod1", tcp(81), NOBODY),
        ("nets", "pod1", tcp(80), {"pod3"}),
        ("nets", "pod1", tcp(81), {"pod3", "pod4", "pod5"}),
        ("nets", "pod1", tcp(82), {"pod2", "pod5"}),
        ("egress-nets", "pod5", tcp(80), {"pod1"}),
        ("egress-nets", "pod1", tcp(80), others("pod1")),
        ("ports", "pod1", tcp(8081), others("pod1")),
        ("ports", "pod1", tcp(8083), NOBODY),
        ("ports", "pod1", tcp(9000), others("pod1")),
        ("ports", "pod1", udp(1001), NOBODY),
        ("ports", "pod1", udp(1003), others("pod1")),
        ("ports", "pod1", PING, NOBODY),
        ("many-ports", "pod1", tcp(8080), others("pod1")),
        ("many-ports", "pod1", tcp(1002), NOBODY),
        ("many-ports", "pod1", udp(53), NOBODY),
        ("many-ports", "pod1", udp(54), others("pod1")),
        ("icmp", "pod1", PING, others("pod1")),
        ("icmp", "pod1", tcp(80), NOBODY),
        ("icmp", "pod5", PING, NOBODY),
        ("icmp", "pod3", PING, NOBODY),
        ("icmp", "pod4", PING, NOBODY),
        ("protocols", "pod1", tcp(80), others("pod1")),
        ("protocols", "pod1", PING, NOBODY),
        ("protocols", "pod5", PING, others("pod5")),
        ("protocols", "pod5", udp(53), NOBODY),
        ("protocol-253", "pod1", Packet("253"), others("pod1")),
        ("protocol-253", "pod1", Packet("254"), NOBODY),
        ("selectors", "pod1", tcp(1001), {"pod5"}),
        ("selectors", "pod1", tcp(1002), {"pod5"}),
        ("selectors", "pod1", tcp(1003), others("pod1")),
        ("selectors", "pod1", tcp(1004), {"pod5"}),
        ("selectors", "pod1", tcp(1005), {"pod2", "pod3", "pod5"}),
        ("selectors", "pod1", tcp(1006), {"pod4"}),
        ("selectors", "pod1", tcp(1007), {"pod2", "pod3", "pod5"}),
        ("selectors", "pod1", tcp(1008), {"pod2", "pod3", "pod4"}),
        ("selectors", "pod1", tcp(1009), {"pod3"}),
        ("selectors", "pod1", tcp(1010), {"pod2", "pod4", "pod5"}),
        ("selectors", "pod1", tcp(1011), {"pod3", "pod5"}),
        ("selectors", "pod1", tcp(1012), {"pod2", "pod4", "pod5"}),
        ("selectors", "pod1", tcp(1013), {"pod2", "pod3"}),
        ("selectors", "pod1", tcp(1014), others("pod1")),
        ("selectors", "pod1", tcp(1015), NOBODY),
        ("selectors", "pod1", tcp(1016), {"pod2", "pod4"}),
        ("selected", "pod2", tcp(80), NOBODY),
        ("selected", "pod2", PING, others("pod2")),
        ("selected", "pod5", tcp(80), NOBODY),
        ("selected", "pod4", tcp(80), others("pod4")),
        ("namespaces", "pod1", tcp(80), {"pod2", "pod3"}),
        ("namespaces", "pod1", tcp(81), {"pod4"}),
        ("namespaces", "pod1", tcp(82), others("pod1")),
        ("namespaces", "pod1", udp(80), NOBODY),
        ("namespaces", "pod4", tcp(80), NOBODY),
        ("namespaces", "pod4", udp(80), {"pod1", "pod2", "pod5"}),
        ("sets", "pod1", tcp(80), {"pod3", "pod4"}),
        ("sets", "pod1", tcp(81), {"pod3"}),
    ],
)
def test_who_reaches_whom(name: str, target: str, packet: Packet, sources: set[str]) -> None:
    documents = manifest(name)
    if name == "namespaces":  # what Kubernetes' datastore would say of the namespace
        documents.append(KNS_OTHER)
    assert who_reaches(target, packet, documents) == sources


KNS_OTHER = {
    "kind": "Profile",
    "metadata": {"name": "kns.other"},
    "spec": {"ingress": [{"action": "Allow"}], "egress": [{"action": "Allow"}], "labelsToApply": {"pcns.kind": "far"}},
}


def test_a_namespace_is_chosen_by_its_labels_too() -> None:
    documents = manifest("namespaces")
    documents[0]["spec"]["ingress"][1]["source"]["namespaceSelector"] = "kind == 'far'"
    assert who_reaches("pod1", tcp(81), [*documents, KNS_OTHER]) == {"pod4"}
    assert who_reaches("pod1", tcp(81), documents) == NOBODY


def test_a_name_is_the_number_that_the_pod_gives_it_for_that_protocol() -> None:
    ports = (NamedPort("http", "tcp", 80), NamedPort("dns", "udp", 53), NamedPort("dns", "tcp", 54))
    more = (NamedPort("http", "tcp", 8080),)
    cast = {**PODS, "pod1": replace(PODS["pod1"], ports=ports), "pod5": replace(PODS["pod5"], ports=more)}
    documents = manifest("named-ports")
    answers = {
        (target, packet): bool(who_reaches(target, packet, documents, cast))
        for target, packet in [
            *(("pod1", tcp(port)) for port in (80, 8080, 54, 9000)),
            *(("pod5", tcp(port)) for port in (80, 8080)),
            *(("pod1", udp(port)) for port in (53, 54, 80)),
        ]
    }
    assert [each for each, reached in answers.items() if reached] == [
        ("pod1", tcp(80)),
        ("pod1", tcp(9000)),
        ("pod5", tcp(8080)),
        ("pod1", udp(53)),
    ]


def test_a_profile_decides_where_no_policy_does_and_its_labels_are_labels() -> None:
    cast = {**PODS, "pod1": replace(PODS["pod1"], profiles=("only-tcp-in",))}
    documents = manifest("profile")
    assert who_reaches("pod1", tcp(80), documents, cast) == others("pod1")
    assert who_reaches("pod1", udp(80), documents, cast) == NOBODY
    assert who_reaches("pod5", udp(80), documents, cast) == {"pod2", "pod3", "pod4"}


def test_without_a_profile_nothing_passes_that_no_policy_allows() -> None:
    assert who_reaches("pod1", tcp(80), [], {**PODS, "pod1": replace(PODS["pod1"], profiles=())}) == NOBODY
    assert who_reaches("pod1", tcp(80), []) == others("pod1")


@pytest.mark.parametrize(
    ("source", "target", "packet", "allowed"),
    [
        (OUTSIDE, NODE1, tcp(80), True),
        (OUTSIDE, NODE1, tcp(22), True),
        (OUTSIDE, NODE1, tcp(8080), False),
        (OUTSIDE, NODE1, udp(53), False),
        (NODE2, NODE1, udp(53), True),
        (NODE2, NODE1, tcp(80), False),
        (NODE2, NODE1, PING, True),
        (NODE1, OUTSIDE, tcp(80), True),
        (NODE1, OUTSIDE, udp(53), True),
        (NODE1, OUTSIDE, udp(54), False),
        (NODE1, OUTSIDE, PING, False),
        (NODE2, OUTSIDE, PING, True),
    ],
)
def test_a_host_is_reached_as_its_policy_and_the_failsafe_ports_say(
    source: Endpoint, target: Endpoint, packet: Packet, allowed: bool
) -> None:
    judge, _ = oracle(manifest("host-policy"))
    assert judge.ruling(source, target, packet).allowed is allowed


def test_a_ruling_cites_the_law() -> None:
    judge, cast = oracle(manifest("rules-in-order"))
    assert judge.ruling(cast["pod3"], cast["pod1"], tcp(80)).because == (
        "pod1: ingress: NetworkPolicy/default/web-rules rule 2: Deny"
    )
    assert judge.ruling(cast["pod2"], cast["pod1"], tcp(99)).because == (
        "pod1: ingress: no rule of tier default matches"
    )


def test_what_is_staged_is_not_enforced() -> None:
    staged = [{**one, "kind": "StagedNetworkPolicy"} for one in manifest("ingress-isolated")]
    assert who_reaches("pod1", tcp(80), staged) == others("pod1")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"doNotTrack": True}, "the oracle does not know doNotTrack"),
        ({"tier": "nowhere"}, "nowhere: no such tier"),
        ({"ingress": [{"action": "Allow", "http": {}}]}, "the oracle does not know http"),
        ({"ingress": [{"action": "Allow", "source": {"services": {}}}]}, "the oracle does not know services"),
        ({"ingress": [{"action": "allow"}]}, "'allow': no action"),
    ],
)
def test_what_the_oracle_does_not_know_it_refuses(spec: dict[str, Any], said: str) -> None:
    with pytest.raises(LabError, match=said):
        PolicyOracle([{"kind": "GlobalNetworkPolicy", "metadata": {"name": "x"}, "spec": spec}], PODS.values())
