"""GoBGP in BIRD's place, beside nodes that have BIRD."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial

import yaml

from tunlab.check.peering import (
    MESH,
    NODE,
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
from tunlab.systems.resource import resource

LAB, GOBGP = "gobgp", "gobgp --target unix:///var/run/calico/gobgp.sock"
judged = partial(requirement, level="extended", scene="gobgp", labs=[LAB], modes=["none"])
ADDRESSES = {1: "10.1.2.11", 2: "10.1.2.12", 3: "10.1.2.13"}


def settle(scene: Scene, kind: str = MESH) -> None:
    """Wait until every node has its two sessions, of this kind, and its two routes."""
    names = [f"node{number}" for number in ADDRESSES]
    others = {name: [other for other in names if other != name] for name in names}
    settle_sessions(scene, {name: established(*peers, kind=kind) for name, peers in others.items()})
    settle_routes(scene, {number: {n: n for n in ADDRESSES if n != number} for number in ADDRESSES})


def settle_routes(scene: Scene, wanted: Mapping[int, Mapping[int, int]]) -> None:
    """Wait until each of these nodes has routes to these others' blocks, each by way of the node behind it."""
    lines = {
        f"node{number}": {f"192.168.{block}.0/26 via {ADDRESSES[by]}" for block, by in routes.items()}
        for number, routes in wanted.items()
    }
    scene.eventually(
        lambda: {node: block_routes(scene, node) for node in lines},
        lines.__eq__,
        within_s=SOON_S,
        what="the nodes have these routes to blocks and no others",
    )


@judged(
    "GOBGP-01",
    needs=["gobgp"],
    source="RFC 4271; Calico: CALICO_NETWORKING_BACKEND, the backend gobgp of its second version",
)
def test_gobgp_and_bird_make_one_mesh(scene: Scene) -> None:
    """GoBGP and BIRD nodes have sessions and routes to each other, in both families; `node status` is alike."""
    settle(scene)
    scene.settle([*every_pod(scene), *every_pod(scene, family=6)], within_s=SOON_S)
    assert "gobgpd" in scene.run("node2", "ps -eo comm").out and "bird" not in scene.run("node2", "ps -eo comm").out


@judged("GOBGP-02", needs=["gobgp"], source="RFC 6793, 3; Calico: Node, bgp.asNumber")
def test_gobgp_speaks_in_the_as_that_it_is_given(scene: Scene) -> None:
    """A node with GoBGP and an AS number of its own tells it in its OPEN, and has its sessions and routes as before."""
    with ExitStack() as applied:
        with scene.capture("node1/eth0") as recording, renewed(scene, "node2"):
            applied.enter_context(scene.applied(node_as(scene, "node2", asNumber=65546)))
        opened_as(recording, {ADDRESSES[2]: 65546, "fd00:1:2::12": 65546}, 64512)
        settle(scene)
        told = json.loads(scene.run("node2", f"{GOBGP} -j neighbor {ADDRESSES[3]} adj-in").out)
        assert set(told) == {"192.168.3.0/26"}, f"node3, of the other AS, tells node2 more than its own block: {told}"
        with renewed(scene, "node2"):
            applied.close()
    settle(scene)


def restarts_over(scene: Scene) -> None:
    """Wait until all that GoBGP takes for restarting is done: what is stale then goes with the next one, by right."""

    def restarting() -> list[str]:
        found = []
        for node in ("node2", "node3"):
            for peer in json.loads(scene.run(node, f"{GOBGP} -j neighbor").out):
                about = peer.get("graceful_restart", {})
                if about.get("local_restarting") or about.get("peer_restarting"):
                    found.append(f"{node} with {peer['conf']['neighbor_address']}")
        return found

    scene.eventually(restarting, lambda seen: not seen, within_s=SOON_S, what="every restart is over")


@judged("GOBGP-03", needs=["gobgp", "graceful-restart"], source="RFC 4724, 4")
def test_the_death_of_gobgp_or_the_agent_costs_no_packet(scene: Scene) -> None:
    """When gobgpd dies, and when the agent does, both come back and no packet is lost."""
    restarts_over(scene)
    with scene.flow("pod1", "pod2") as flow:
        with renewed(scene, "node2"):
            scene.run("node2", "pkill -KILL -x gobgpd")
        restarts_over(scene)
        with renewed(scene, "node2"):
            scene.restart("node2")
    settle(scene)
    assert flow.sent > 20 and flow.lost == 0, f"pod1 to pod2: {flow}"


def peering(name: str, rules: str = "", **more: str) -> str:
    """Every node with every other, by a BGPPeer: with a filter of these rules, where there are any."""
    filter = resource("BGPFilter", name, **yaml.safe_load(f"{{{rules}}}"))
    spec = {"nodeSelector": "all()", "peerSelector": "all()", **more, **({"filters": [name]} if rules else {})}
    peer = resource("BGPPeer", name, **spec)
    return yaml.safe_dump_all([filter, peer] if rules else [peer])


@judged(
    "GOBGP-04",
    needs=["gobgp", "bgp-peers"],
    source="Calico: BGPFilter, importV4 and exportV4, Equal, NotEqual, In, NotIn",
)
def test_gobgp_takes_and_tells_what_filters_let_through(scene: Scene) -> None:
    """A BGPFilter keeps routes out and at home where GoBGP speaks as where BIRD does, and may change meanwhile."""
    home = "exportV4: [{action: Reject, matchOperator: NotEqual, cidr: 192.168.2.0/26}]"
    out = "importV4: [{action: Reject, matchOperator: In, cidr: 192.168.0.0/16, prefixLength: {min: 27, max: 32}},"
    out += " {action: Accept, matchOperator: Equal, cidr: 192.168.1.0/26},"
    out += " {action: Accept, matchOperator: NotIn, cidr: 192.168.0.0/22}, {action: Reject}]"
    with scene.applied(peering("some", out)):
        settle_routes(scene, {1: {}, 2: {1: 1}, 3: {1: 1}})
        with scene.applied(peering("some", home)):
            settle_routes(scene, {1: {2: 2}, 2: {}, 3: {2: 2}})
            scene.settle(every_pod(scene, family=6), within_s=SOON_S)  # the rules are about IPv4
    settle(scene)


@judged("GOBGP-05", needs=["gobgp", "bgp-peers"], source="Calico: BGPPeer, nextHopMode Self")
def test_gobgp_names_itself_as_the_next_hop_where_it_is_told_to(scene: Scene) -> None:
    """A reflector with GoBGP and nextHopMode Self passes routes on as its own way, and packets go through it."""
    reflector = node_as(scene, "node2", {"route-reflector": "true"}, routeReflectorClusterID="244.0.0.1")
    mesh_off = resource("BGPConfiguration", "default", nodeToNodeMeshEnabled=False)
    to_it = peering("by-node2", peerSelector="has(route-reflector)", nextHopMode="Self")
    with scene.applied(reflector, to_it, mesh_off):
        settle_routes(scene, {1: {2: 2, 3: 2}, 2: {1: 1, 3: 3}, 3: {1: 2, 2: 2}})
        scene.settle(every_pod(scene), within_s=SOON_S)
    settle(scene)


@judged("GOBGP-06", needs=["gobgp", "bgp-peers"], source="Calico: BGPPeer; BGPConfiguration, nodeToNodeMeshEnabled")
def test_gobgp_takes_over_all_peers_that_change_at_once(scene: Scene) -> None:
    """When a BGPPeer takes the mesh's place, and gives it back, every session of a node with GoBGP follows."""
    with scene.applied(peering("plain")):
        settle(scene, NODE)
    settle(scene)
