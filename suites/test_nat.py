"""natOutgoing: whose address a host outside sees. Both as the answering program saw it, and as it was on the wire.

The scene is labs/outside.yaml, whose host `outside` knows no pods: to a pod's own address it cannot answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tunlab.check.matrix import Question
from tunlab.check.policing import TCP, UDP, answering, stored_pool
from tunlab.check.requirement import requirement
from tunlab.check.scene import Scene
from tunlab.check.smuggling import Smuggler
from tunlab.lab.topology import UPLINK
from tunlab.wire.craft import udp_packet
from tunlab.wire.frames import Icmp, Ipv4

HERE = "fixtures/manifests/nat"
OUTSIDE = "outside"
ECHO_REQUEST = 8
PODS = ("pod1", "pod2", "pod3", "pod4", "pod5")
Proof = TypeVar("Proof", bound=Callable[..., None])


def nat(id: str, source: str = "Calico's documentation, IPPool: natOutgoing") -> Callable[[Proof], Proof]:
    """A requirement of this scene."""
    return requirement(
        id,
        level="extended",
        scene="nat",
        labs=("outside",),
        modes=("ipip", "vxlan"),
        needs=("nat",),
        source=source,
    )


def address(scene: Scene, host: str) -> str:
    """The address of a host, or of a pod."""
    return Smuggler(scene, host).address


def as_its_node(scene: Scene, target: str = OUTSIDE, pods: Iterable[str] = PODS) -> list[Question]:
    """Every pod asks and is answered; who answers TCP and UDP saw the address of the pod's node."""
    return [
        scene.question(
            pod, target, protocol, port=port, expect=scene.answer(saw=address(scene, scene.workloads[pod].node))
        )
        for pod in pods
        for protocol, port in _protocols()
    ]


def as_itself(scene: Scene, pods: Iterable[str] = PODS) -> list[Question]:
    """Every pod asks every other; who answers saw the pod's own address."""
    return [
        scene.question(pod, other, protocol, port=port)
        for pod in pods
        for other in pods
        if pod != other
        for protocol, port in _protocols()
    ]


def unanswered(scene: Scene, pods: Iterable[str] = PODS) -> list[Question]:
    """Every pod asks outside, which cannot answer."""
    return [
        scene.question(pod, OUTSIDE, protocol, port=port, expect=scene.silence())
        for pod in pods
        for protocol, port in _protocols()
    ]


def _protocols() -> list[tuple[str, int]]:
    return [("icmp", 0), ("tcp", TCP[0]), ("udp", UDP[0])]


@contextmanager
def everybody_answers(scene: Scene) -> Iterator[None]:
    """All pods, all nodes and the host outside answer."""
    with answering(scene, [*PODS, *(node.name for node in scene.topology.nodes), OUTSIDE], TCP[:1], UDP[:1]):
        yield


def sources_seen(scene: Scene, questions: list[Question]) -> dict[str, set[str]]:
    """By protocol, the source addresses of what outside's wire saw come in while these were asked."""
    with scene.capture(f"{OUTSIDE}/{UPLINK}") as recording:
        scene.ask(questions).check()
    own = address(scene, OUTSIDE)
    stacks = {"eth ip icmp": "icmp", "eth ip tcp": "tcp", "eth ip udp": "udp"}
    seen: dict[str, set[str]] = {word: set() for word in stacks.values()}
    for frame in recording.frames.on(f"{OUTSIDE}/{UPLINK}").going("in"):
        is_error = frame.has(Icmp) and frame.find(Icmp).kind != ECHO_REQUEST  # the router says that it knows no pods
        if frame.stack in stacks and frame.outer.destination == own and not is_error:
            seen[stacks[frame.stack]].add(frame.outer.source)
    return seen


@nat("NAT-01")
def test_outside_sees_the_address_of_the_pods_node(scene: Scene) -> None:
    """With natOutgoing what pods send outside the pools bears their node's address, by TCP, UDP and ICMP alike."""
    with everybody_answers(scene), scene.applied(stored_pool(scene, natOutgoing=True)):
        questions = as_its_node(scene)
        scene.settle(questions)
        nodes = {address(scene, node.name) for node in scene.topology.nodes}
        seen = sources_seen(scene, questions)
    assert seen == dict.fromkeys(seen, nodes), (
        f"{OUTSIDE}/{UPLINK}: seen sources {seen}, wanted {sorted(nodes)} of each"
    )


@nat("NAT-02")
def test_pods_see_each_others_own_addresses(scene: Scene) -> None:
    """With natOutgoing pods still see each other's own addresses, while outside sees the nodes'."""
    with everybody_answers(scene), scene.applied(stored_pool(scene, natOutgoing=True)):
        scene.settle([*as_itself(scene), *as_its_node(scene)])


@nat("NAT-03")
def test_without_it_a_packet_keeps_the_pods_address(scene: Scene) -> None:
    """Without natOutgoing the host outside sees the pods' own addresses on its wire, which it cannot answer."""
    pods = {str(scene.workloads[pod].address) for pod in PODS}
    with everybody_answers(scene):
        scene.settle([*as_itself(scene), *unanswered(scene)])
        seen = sources_seen(scene, unanswered(scene))
    assert seen == dict.fromkeys(seen, pods), f"{OUTSIDE}/{UPLINK}: seen sources {seen}, wanted {sorted(pods)} of each"


@nat("NAT-04", "Calico's documentation, IPPool: natOutgoing, disabled")
def test_towards_a_disabled_pool_a_packet_keeps_the_pods_address(scene: Scene) -> None:
    """Towards any pool, a disabled one too, packets keep the pod's address; with the pool gone they bear the node's."""
    pods = {str(scene.workloads[pod].address) for pod in PODS}
    with everybody_answers(scene), scene.applied(stored_pool(scene, natOutgoing=True)):
        with scene.applied(f"{HERE}/disabled-pool.yaml"):
            scene.settle([*unanswered(scene), *as_its_node(scene, "node3", ("pod1", "pod3"))])
            seen = sources_seen(scene, unanswered(scene))
        assert seen == dict.fromkeys(seen, pods), f"{OUTSIDE}/{UPLINK}: seen sources {seen}, wanted {sorted(pods)}"
        scene.settle(as_its_node(scene), within_s=5.0)


@nat("NAT-05")
def test_it_can_be_turned_on_and_off_while_everything_runs(scene: Scene) -> None:
    """natOutgoing can be turned on, off and on again while pods run; new connections follow within 5 s each time."""
    with everybody_answers(scene):
        scene.settle(unanswered(scene))
        for _ in range(2):
            with scene.applied(stored_pool(scene, natOutgoing=True)):
                scene.settle(as_its_node(scene), within_s=5.0)
            scene.settle(unanswered(scene), within_s=5.0)


@nat("NAT-06")
def test_another_node_is_outside_the_pools_too(scene: Scene) -> None:
    """With natOutgoing another node sees the address of the pod's node, and the pod's own node sees the pod's."""
    with everybody_answers(scene), scene.applied(stored_pool(scene, natOutgoing=True)):
        own = [scene.question("pod1", "node1", protocol, port=port) for protocol, port in _protocols()]
        scene.settle([*as_its_node(scene, "node2", ("pod1", "pod5")), *as_its_node(scene, "node3", ("pod1",)), *own])


@nat("NAT-07", "design: what is not a pod's is not translated")
def test_what_is_not_a_pods_is_not_translated(scene: Scene) -> None:
    """With natOutgoing a node's own packets, and those that pass a node from strangers, keep their addresses."""
    with everybody_answers(scene), scene.applied(stored_pool(scene, natOutgoing=True)):
        scene.settle([*as_its_node(scene), scene.question("node1", OUTSIDE, "tcp", port=TCP[0])])
        stranger, smuggler = "203.0.113.7", Smuggler(scene, "node2")
        mark = smuggler.mark()
        packet = udp_packet(stranger, address(scene, OUTSIDE), 9, mark)
        # On the wire to node1, which is asked to pass it on, as a router would be.
        frame = smuggler.sends("stranger", packet, mark, to_host="node1").frame
        with scene.capture(f"{OUTSIDE}/{UPLINK}") as recording:
            scene.live.box.ask("probes", "craft", place="node2", device=UPLINK, frames_hex=[frame.hex()])
            scene.holds(as_its_node(scene, pods=("pod1",)), times=1)
    passed = recording.frames.on(f"{OUTSIDE}/{UPLINK}").with_stack("eth ip udp")
    passed.where(f"identification {mark}", lambda frame: frame.find(Ipv4).identification == mark).some(
        "the stranger's packet"
    ).each(outer__source=stranger)
