"""Forged packets: whatever a pod or a stranger writes into a header, only honest packets arrive.

Each forged packet is sent beside an honest one that takes the same way; a tap that sees neither proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tunlab.check.requirement import requirement
from tunlab.check.scene import Scene
from tunlab.check.smuggling import Sent, Smuggler, arrivals
from tunlab.wire.craft import ethernet_frame, protocol_packet, udp_packet, vxlan_datagram

Proof = TypeVar("Proof", bound=Callable[..., None])
ALL = ("ipip", "vxlan")
STRANGER = "203.0.113.77"  # TEST-NET-3
IPIP = 4


def spoofing(id: str, source: str, modes: tuple[str, ...] = ALL) -> Callable[[Proof], Proof]:
    """A requirement of this scene."""
    return requirement(
        id,
        level="extended",
        scene="spoofing",
        labs=("outside",),
        modes=modes,
        needs=("anti-spoofing",),
        source=source,
    )


def honest(scene: Scene, pod: str, target: str) -> Sent:
    """A packet of a pod's own that nobody has a reason to drop."""
    smuggler, mark = Smuggler(scene, pod), Smuggler.mark()
    packet = udp_packet(smuggler.address, Smuggler(scene, target).address, 5353, mark)
    return smuggler.sends(f"{pod}'s own packet", packet, mark, is_honest=True)


def claiming(scene: Scene, pod: str, source: str, target: str) -> Sent:
    """A packet of a pod that claims to come from somebody else."""
    smuggler, mark = Smuggler(scene, pod), Smuggler.mark()
    packet = udp_packet(source, Smuggler(scene, target).address, 5353, mark)
    return smuggler.sends(f"a packet of {pod} from {source}", packet, mark)


def judge(scene: Scene, tap: str, *sent: Sent, past: str = "") -> None:
    """All honest ones arrive and no other."""
    seen = arrivals(scene, tap, sent, past=past)
    wanted = {one.name for one in sent if one.is_honest}
    assert seen == wanted, f"{tap}: seen {', '.join(sorted(seen - wanted))}, wanted {', '.join(sorted(wanted))} alone"


@spoofing("SPOOF-01", "Calico's documentation, workloadSourceSpoofing: Disabled; RFC 2827")
def test_a_pod_cannot_send_with_another_pods_address(scene: Scene) -> None:
    """What a pod sends with another pod's address arrives nowhere: not on its own node, not on others."""
    same_node, elsewhere = (str(scene.workloads[pod].address) for pod in ("pod2", "pod5"))
    judge(scene, "pod2/eth0", honest(scene, "pod1", "pod2"), claiming(scene, "pod1", elsewhere, "pod2"))
    judge(
        scene,
        "pod3/eth0",
        honest(scene, "pod1", "pod3"),
        claiming(scene, "pod1", same_node, "pod3"),
        claiming(scene, "pod1", elsewhere, "pod3"),
    )


@spoofing("SPOOF-02", "Calico's documentation, workloadSourceSpoofing: Disabled; RFC 2827")
def test_a_pod_cannot_send_with_an_address_that_is_no_pods(scene: Scene) -> None:
    """What a pod sends with a stranger's or its node's address arrives neither at pods nor outside."""
    node = Smuggler(scene, "node1").address
    for tap, target in (("pod3/eth0", "pod3"), ("pod2/eth0", "pod2"), ("outside/eth0", "outside")):
        forged = [claiming(scene, "pod1", source, target) for source in (STRANGER, node)]
        judge(scene, tap, honest(scene, "pod1", target), *forged)


def in_vxlan(scene: Scene, sender: str, node: str, pod: str, *, source: str = "", is_honest: bool = False) -> Sent:
    """A VXLAN datagram to a node, and in it a packet to one of its pods that claims to come from pod3's address."""
    smuggler, mark = Smuggler(scene, sender), Smuggler.mark()
    dialect = scene.live.installation.recipe.dialect
    tunnel = scene.tables(node).links[dialect.tunnel_devices["vxlan"]]
    claimed = str(scene.workloads["pod3"].address)
    inner = ethernet_frame(
        "02:00:00:00:00:01", str(tunnel.mac), udp_packet(claimed, Smuggler(scene, pod).address, 5353, mark)
    )
    outer = source or smuggler.address
    target = Smuggler(scene, node).address
    packet = vxlan_datagram(outer, target, dialect.vxlan_port, dialect.vxlan_id, inner, Smuggler.mark())
    return smuggler.sends(f"VXLAN of {sender} from {outer}", packet, mark, to_host=node, is_honest=is_honest)


def in_ipip(scene: Scene, sender: str, node: str, pod: str, *, source: str = "", is_honest: bool = False) -> Sent:
    """The same in IPIP."""
    smuggler, mark = Smuggler(scene, sender), Smuggler.mark()
    claimed = str(scene.workloads["pod3"].address)
    inner = udp_packet(claimed, Smuggler(scene, pod).address, 5353, mark)
    outer = source or smuggler.address
    packet = protocol_packet(outer, Smuggler(scene, node).address, IPIP, Smuggler.mark(), inner)
    return smuggler.sends(f"IPIP of {sender} from {outer}", packet, mark, to_host=node, is_honest=is_honest)


# The honest one is node2's own tunnel packet, for pod3 is on node2.
@spoofing("SPOOF-03", "Calico's documentation, security: encapsulated packets of workloads are dropped", ("vxlan",))
def test_no_pod_can_smuggle_a_packet_in_vxlan(scene: Scene) -> None:
    """What a pod wraps in VXLAN towards its own or another node is not unwrapped there."""
    for sender, node, pod in (("pod2", "node1", "pod1"), ("pod4", "node1", "pod1"), ("pod1", "node3", "pod5")):
        known = in_vxlan(scene, "node2", node, pod, is_honest=True)
        judge(scene, f"{pod}/eth0", known, in_vxlan(scene, sender, node, pod))
    # Nor does it leave the pod's node: the next host may be less careful.
    judge(
        scene,
        "node3/eth0",
        in_vxlan(scene, "node2", "node3", "pod5", is_honest=True),
        in_vxlan(scene, "pod1", "node3", "pod5"),
    )


@spoofing("SPOOF-04", "Calico's documentation, security: encapsulated packets of workloads are dropped", ("ipip",))
def test_no_pod_can_smuggle_a_packet_in_ipip(scene: Scene) -> None:
    """What a pod wraps in IPIP towards its own or another node is not unwrapped there."""
    for sender, node, pod in (("pod2", "node1", "pod1"), ("pod4", "node1", "pod1"), ("pod1", "node3", "pod5")):
        known = in_ipip(scene, "node2", node, pod, is_honest=True)
        judge(scene, f"{pod}/eth0", known, in_ipip(scene, sender, node, pod))
    # Nor does it leave the pod's node: the next host may be less careful.
    judge(
        scene,
        "node3/eth0",
        in_ipip(scene, "node2", "node3", "pod5", is_honest=True),
        in_ipip(scene, "pod1", "node3", "pod5"),
    )


@spoofing("SPOOF-05", "Calico's documentation, security: tunnel packets from known hosts alone", ("vxlan",))
def test_vxlan_is_accepted_from_known_nodes_alone(scene: Scene) -> None:
    """A host that is no node sends VXLAN to a node, and no pod gets what is in it."""
    known = in_vxlan(scene, "node2", "node3", "pod5", is_honest=True)
    judge(scene, "pod5/eth0", known, in_vxlan(scene, "outside", "node3", "pod5"), past="node3/eth0")


@spoofing("SPOOF-06", "Calico's documentation, security: tunnel packets from known hosts alone", ("ipip",))
def test_ipip_is_accepted_from_known_nodes_alone(scene: Scene) -> None:
    """A host that is no node sends IPIP to a node, and no pod gets what is in it."""
    known = in_ipip(scene, "node2", "node3", "pod5", is_honest=True)
    judge(scene, "pod5/eth0", known, in_ipip(scene, "outside", "node3", "pod5"), past="node3/eth0")
