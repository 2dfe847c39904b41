"""Host endpoints: what may reach a node itself, and what it may send; and what pods may ask of their own node.

The scene is labs/outside.yaml. The oracle of policy says what must come of each question, pods' traffic included, which
a host endpoint must leave alone unless a policy says that it is about what is forwarded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import yaml

from tunlab.check.matrix import Expected, Question
from tunlab.check.policing import DENIED, answering, cast_of, demand_both, host_of, ruled, stored_pool
from tunlab.check.requirement import requirement
from tunlab.check.scene import Scene
from tunlab.systems.resource import resource

HERE = "fixtures/manifests/policy"
TCP, UDP = (22, 80, 81, 6443), (53, 54, 68)
ASKED = ("node1", "node2", "outside", "pod1", "pod3")
TO_AND_FROM_THE_HOST = [
    ("outside", "node1"),
    ("node2", "node1"),
    ("node3", "node1"),
    ("pod3", "node1"),
    ("node1", "outside"),
    ("node1", "node2"),
]
PAST_IT = [("pod1", "pod3"), ("pod3", "pod1"), ("pod5", "pod1"), ("pod2", "pod1"), ("outside", "node2")]
Proof = TypeVar("Proof", bound=Callable[..., None])


def hosts(id: str, source: str) -> Callable[[Proof], Proof]:
    """A requirement of this scene."""
    return requirement(
        id,
        level="extended",
        scene="hosts",
        labs=("outside",),
        modes=("ipip", "vxlan"),
        needs=("policy", "host-endpoints"),
        source=source,
    )


def questions(scene: Scene, *documents: str) -> list[Question]:
    """To the host, from it, and past it, with what the oracle says where node1 is an endpoint."""
    node1 = host_of(scene, "node1", kind="host", labels={"role": "host"})
    strangers = [host_of(scene, name) for name in ("node2", "node3", "outside")]
    cast = {**cast_of(scene), **{each.name: each for each in (node1, *strangers)}}
    asked = ruled(scene, documents, cast, pairs=[*TO_AND_FROM_THE_HOST, *PAST_IT], tcp=TCP, udp=UDP)
    demand_both(asked)
    # Towards its own pods nobody polices a node; which of its addresses it takes is the kernel's choice.
    own = (scene.question("node1", "pod1", "tcp", port=port) for port in TCP)
    return [*asked, *(scene.expecting(one, Expected.answer("pod1")) for one in own)]


@hosts("HEP-01", "Calico's documentation, HostEndpoint; FelixConfiguration: failsafeInboundHostPorts")
def test_a_host_endpoint_without_policy_is_closed_but_for_the_failsafe_ports(scene: Scene) -> None:
    """An interface that a HostEndpoint names is closed both ways but for the failsafe ports; pods' traffic passes."""
    asked = questions(scene, f"{HERE}/host-endpoint.yaml")
    with answering(scene, ASKED, TCP, UDP), scene.applied(f"{HERE}/host-endpoint.yaml"):
        scene.settle(asked)
        scene.holds(asked)


@hosts("HEP-02", "Calico's documentation, HostEndpoint; GlobalNetworkPolicy")
def test_a_global_policy_opens_a_host_endpoint_as_far_as_its_rules_go(scene: Scene) -> None:
    """A global policy that selects a host endpoint opens it as far as its rules go, for what comes and what leaves."""
    documents = (f"{HERE}/host-endpoint.yaml", f"{HERE}/host-policy.yaml")
    with answering(scene, ASKED, TCP, UDP), scene.applied(*documents):
        scene.settle(questions(scene, *documents))


@hosts("HEP-03", "Calico's documentation, HostEndpoint: interfaceName *")
def test_a_host_endpoint_may_be_about_all_interfaces(scene: Scene) -> None:
    """A HostEndpoint for interface `*` polices what comes to the node by its uplink as one for the uplink does."""
    documents = (f"{HERE}/host-endpoint-all.yaml", f"{HERE}/host-policy.yaml")
    with answering(scene, ASKED, TCP, UDP), scene.applied(*documents):
        scene.settle(questions(scene, *documents))


@hosts("HEP-04", "Calico's documentation, HostEndpoint")
def test_with_its_endpoint_gone_a_node_is_open_again(scene: Scene) -> None:
    """When a HostEndpoint is deleted its node is reached as before."""
    asked = [scene.question(a, b, "tcp", port=81) for a, b in TO_AND_FROM_THE_HOST if a != "pod3"]
    closed = [scene.question(a, b, "tcp", port=81, expect=DENIED) for a, b in TO_AND_FROM_THE_HOST[:3]]
    with answering(scene, ASKED, TCP, UDP):
        with scene.applied(f"{HERE}/host-endpoint.yaml"):
            scene.settle([*closed, scene.question("outside", "node2", "tcp", port=81)])
        scene.settle(asked, within_s=5.0)


@hosts("HEP-05", "Calico's documentation, FelixConfiguration: defaultEndpointToHostAction")
def test_pods_may_be_kept_from_their_own_node(scene: Scene) -> None:
    """With defaultEndpointToHostAction Drop no pod reaches its own node, and all reach each other; Accept opens it."""
    own = {"pod1": "node1", "pod2": "node1", "pod3": "node2"}
    kinds = [("icmp", 0), ("tcp", 80), ("udp", 54)]
    closed = [
        scene.question(pod, node, protocol, port=port, expect=DENIED)
        for pod, node in own.items()
        for protocol, port in kinds
    ]
    opened = [scene.question(pod, node, protocol, port=port) for pod, node in own.items() for protocol, port in kinds]
    among = [scene.question(*pair, "tcp", port=80) for pair in (("pod2", "pod1"), ("pod1", "pod3"), ("pod3", "pod1"))]
    with answering(scene, ASKED, TCP, UDP):
        with scene.applied(felix(scene, defaultEndpointToHostAction="Drop")):
            scene.settle([*closed, *among])
        with scene.applied(felix(scene, defaultEndpointToHostAction="Accept")):
            scene.settle([*opened, *among])


@hosts("HEP-06", "Calico's documentation, GlobalNetworkPolicy: applyOnForward")
def test_only_a_policy_that_says_so_is_about_what_is_forwarded(scene: Scene) -> None:
    """A host endpoint's policies leave alone what passes through the node, but for those with applyOnForward."""
    outside = [
        scene.question(pod, "outside", "tcp", port=port, expect=scene.answer(saw=address_of(scene, node)))
        for pod, node in (("pod1", "node1"), ("pod2", "node1"), ("pod3", "node2"))
        for port in (80, 81)
    ]
    denied = [scene.expecting(one, DENIED) if one.port == 80 and one.source != "pod3" else one for one in outside]
    past = [scene.question(*pair, "tcp", port=80) for pair in PAST_IT if pair[0] != "outside"]
    documents = (f"{HERE}/host-endpoint.yaml", f"{HERE}/host-policy.yaml")
    with (
        answering(scene, ["outside", "pod1", "pod3"], TCP, UDP),
        scene.applied(stored_pool(scene, natOutgoing=True), *documents),
    ):
        scene.settle([*outside, *past])
        with scene.applied(f"{HERE}/forward-policy.yaml"):
            scene.settle([*denied, *past])


def address_of(scene: Scene, node: str) -> str:
    """The address of a node."""
    return str(scene.topology.node(node).address.ip)


def felix(scene: Scene, **spec: Any) -> Mapping[str, Any]:
    """The FelixConfiguration as it is stored, with these keys changed."""
    done = scene.ctl("get", "felixconfiguration", "default", "-o", "yaml", check=False)
    stored = yaml.safe_load(done.out) if done.rc == 0 else {"spec": {}}
    return resource("FelixConfiguration", "default", **{**(stored.get("spec") or {}), **spec})
