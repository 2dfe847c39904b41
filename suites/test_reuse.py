"""An address that goes from one pod to another: whoever asks for it finds the new one at once, and never the old."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from ipaddress import IPv4Address

from tunlab.check.matrix import Question
from tunlab.check.requirement import requirement
from tunlab.check.scene import Scene
from tunlab.oracle.network import reaches

WITHIN_S = 5.0
TCP_PORT, UDP_PORT = 80, 53

judged = partial(requirement, level="extended", scene="reuse", labs=("mixed",), modes=("vxlan", "none"))


@contextmanager
def _living(scene: Scene, name: str, node: str, address: IPv4Address) -> Iterator[None]:
    """A pod with this address that says who it is."""
    with scene.pod(name, node, address=address) as pod, scene.listening(name, tcp=[TCP_PORT], udp=[UDP_PORT]):
        assert pod.address == address, f"{name}: has {pod.address}, wanted {address}"
        yield


def _all_ask(scene: Scene, target: str) -> list[Question]:
    """Every pod whom the mode carries there asks by ICMP, TCP and UDP: the target itself must answer."""
    home = scene.workloads[target].node
    pods = [pod for pod in scene.workloads.values() if pod.name != target]
    return [
        scene.question(pod.name, target, protocol, port=port)
        for pod in pods
        if reaches(scene.topology, scene.mode, pod.node, home)
        for protocol, port in (("icmp", 0), ("tcp", TCP_PORT), ("udp", UDP_PORT))
    ]


@judged(
    "REUSE-01",
    needs=("fixed-address",),
    source="CNI specification 1.0.0, section 2, ADD and DEL; Kubernetes network model: every pod has its own address",
)
def test_a_removed_pods_address_is_another_ones_on_the_same_node_from_its_first_packet_on(scene: Scene) -> None:
    """Who gets a removed pod's address on the same node answers at it the very first packet of everybody."""
    with scene.pod("first", "node1") as first, scene.listening("first", tcp=[TCP_PORT], udp=[UDP_PORT]):
        scene.settle(_all_ask(scene, "first"))
    with _living(scene, "second", "node1", first.address):
        scene.ask(_all_ask(scene, "second")).check()
        scene.settle([scene.question("second", "pod1"), scene.question("second", "pod3")])


@judged(
    "REUSE-02",
    needs=("fixed-address", "pools", "ipam-in-etcd", "block-routes", "agent"),
    source="Calico: IPAM, AssignIP and ReleaseIPs; routes to borrowed addresses",
)
def test_a_removed_pods_address_is_another_ones_on_another_node_and_at_home_again(scene: Scene) -> None:
    """Who gets a removed pod's address on another node is reached at it by all within 5 s; so is the next at home."""
    ipam = scene.live.installation.read_ipam()
    block = next(block for block in ipam.blocks["node2"] if scene.workloads["pod3"].address in block)
    address = next(one for one in block if one not in ipam.allocations)
    for name, node in (("first", "node2"), ("second", "node1"), ("third", "node2")):
        with _living(scene, name, node, address):
            scene.settle(_all_ask(scene, name), within_s=WITHIN_S)
