"""GoBGP in BIRD's place, beside nodes that have BIRD."""

from __future__ import annotations

from contextlib import ExitStack

from tunlab.check.peering import (
    SOON_S,
    block_routes,
    established,
    every_pod,
    node_as,
    opened_as,
    renewed,
    settle_sessions,
)
from tunlab.check.requirement import requirement
from tunlab.check.scene import Scene

LAB = "gobgp"
ADDRESSES = {1: "10.1.2.11", 2: "10.1.2.12", 3: "10.1.2.13"}


def settle(scene: Scene) -> None:
    """Wait until every node has its two sessions and its two routes."""
    names = [f"node{number}" for number in ADDRESSES]
    settle_sessions(scene, {name: established(*(other for other in names if other != name)) for name in names})
    for number in ADDRESSES:
        wanted = {f"192.168.{n}.0/26 via {at}" for n, at in ADDRESSES.items() if n != number}
        scene.eventually(
            lambda number=number: block_routes(scene, f"node{number}"),  # type: ignore[misc]
            lambda seen, wanted=wanted: seen == wanted,  # type: ignore[misc]
            within_s=SOON_S,
            what=f"node{number} has a route to each other block",
        )


@requirement(
    "GOBGP-01", level="extended", scene="gobgp", labs=[LAB], needs=["gobgp"], modes=["none"],
    source="RFC 4271; Calico: CALICO_NETWORKING_BACKEND, the backend gobgp of its second version",
)  # fmt: skip
def test_gobgp_and_bird_make_one_mesh(scene: Scene) -> None:
    """Nodes with GoBGP and nodes with BIRD have sessions and routes to each other, and `node status` reads alike."""
    settle(scene)
    scene.settle(every_pod(scene))
    assert "gobgpd" in scene.run("node2", "ps -eo comm").out and "bird" not in scene.run("node2", "ps -eo comm").out


@requirement(
    "GOBGP-02", level="extended", scene="gobgp", labs=[LAB], needs=["gobgp"], modes=["none"],
    source="RFC 6793, 3; Calico: Node, bgp.asNumber",
)  # fmt: skip
def test_gobgp_speaks_in_the_as_that_it_is_given(scene: Scene) -> None:
    """A node with GoBGP and an AS number of its own tells it in its OPEN, and has its sessions and routes as before."""
    with ExitStack() as applied:
        with scene.capture("node1/eth0") as recording, renewed(scene, "node2"):
            applied.enter_context(scene.applied(node_as(scene, "node2", asNumber=65546)))
        opened_as(recording, {ADDRESSES[2]: 65546}, 64512)
        settle(scene)
        with renewed(scene, "node2"):
            applied.close()
    settle(scene)


@requirement(
    "GOBGP-03", level="extended", scene="gobgp", labs=[LAB], needs=["gobgp", "graceful-restart"], modes=["none"],
    source="RFC 4724, 4",
)  # fmt: skip
def test_the_death_of_gobgp_or_the_agent_costs_no_packet(scene: Scene) -> None:
    """When gobgpd dies, and when the agent does, both come back and no packet is lost."""
    with scene.flow("pod1", "pod2") as flow:
        with renewed(scene, "node2"):
            scene.run("node2", "pkill -KILL -x gobgpd")
        with renewed(scene, "node2"):
            scene.restart("node2")
    settle(scene)
    assert flow.sent > 20 and flow.lost == 0, f"pod1 to pod2: {flow}"
