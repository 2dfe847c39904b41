"""BGP besides the mesh: who talks to whom, as whom, and what they tell each other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from tunlab.check.manifests import manifest_text
from tunlab.check.peering import (
    GLOBAL,
    MESH,
    NODE,
    SOON_S,
    block_routes,
    established,
    every_pod,
    node_as,
    opened_as,
    renewed,
    sessions,
    settle_dead,
    settle_sessions,
)
from tunlab.check.requirement import requirement
from tunlab.check.scene import Recording, Scene
from tunlab.wire.bgp import BGP_PORT

LAB = "reflectors"
judged = partial(requirement, level="extended", scene="bgp", labs=[LAB], modes=["none"])
MANIFESTS = "fixtures/manifests/bgp"
NO_MESH = f"{MANIFESTS}/no-mesh.yaml"
REFLECTORS = f"{MANIFESTS}/reflectors.yaml"
REFLECTOR_LABELS = {"route-reflector": "true"}
CLUSTER = {"routeReflectorClusterID": "244.0.0.1"}
SECRETS = "/etc/calico/secrets/bgp-passwords"


def block(number: int) -> str:
    """The route to a node's block, as everybody else must have it."""
    return f"192.168.{number}.0/26 via 10.1.1.1{number}"


def settle_routes(scene: Scene, node: str, *wanted: str) -> None:
    """Wait until a node has exactly these block routes."""
    scene.eventually(
        lambda: block_routes(scene, node),
        lambda seen: seen == set(wanted),
        within_s=SOON_S,
        what=f"{node} has exactly the routes {', '.join(wanted) or 'to no block'}",
    )


@contextmanager
def reflected(scene: Scene, *reflectors: str) -> Iterator[None]:
    """No mesh, but sessions with these reflectors, which are up."""
    nodes = [node_as(scene, name, REFLECTOR_LABELS, **CLUSTER) for name in reflectors]
    with scene.applied(*nodes, REFLECTORS, NO_MESH):
        settle_sessions(scene, {"node1": established(*reflectors, kind=NODE)})
        yield
    settle_mesh(scene)


def settle_mesh(scene: Scene) -> None:
    """Wait until the lab has its mesh and its routes again."""
    names = [node.name for node in scene.topology.nodes]
    settle_sessions(scene, {name: established(*(other for other in names if other != name)) for name in names})
    for number, name in enumerate(names, 1):
        settle_routes(scene, name, *(block(other) for other in range(1, len(names) + 1) if other != number))


@contextmanager
def told_anew(scene: Scene, *documents: str | Mapping[str, Any], nodes: tuple[str, ...] = ()) -> Iterator[Recording]:
    """Apply what makes sessions come up anew, and what node1 saw of that. Afterwards the mesh is as it was."""
    with ExitStack() as applied:
        with scene.capture("node1/eth0") as recording, renewed(scene, *nodes):
            applied.enter_context(scene.applied(*documents))
        settle_mesh(scene)
        yield recording
        with renewed(scene, *nodes):
            applied.close()
    settle_mesh(scene)


@judged("BGP-03", needs=["bgp-peers"], source="Calico: BGPConfiguration, nodeToNodeMeshEnabled")
def test_without_the_mesh_nobody_talks(scene: Scene) -> None:
    """With the mesh turned off nodes have no session, no route to another's block, and pods are on their own."""
    scene.settle(every_pod(scene))
    with scene.applied(NO_MESH):
        settle_sessions(scene, {node.name: {} for node in scene.topology.nodes})
        settle_routes(scene, "node1")
        scene.settle(every_pod(scene, expect=scene.silence()))
    settle_mesh(scene)
    scene.settle(every_pod(scene))


@judged("BGP-04", needs=["bgp-peers"], source="Calico: BGPPeer, nodeSelector and peerSelector")
def test_selectors_say_who_talks_to_whom(scene: Scene) -> None:
    """A BGPPeer with two selectors makes every node of the one talk to every node of the other, and back."""
    odd = [node_as(scene, name, {"side": "odd"}) for name in ("node1", "node3")]
    some = """
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: odd-with-even}
spec: {nodeSelector: "has(side) && side starts with 'o'", peerSelector: "!has(side) && kubernetes.io/hostname != 'x'"}
"""
    with scene.applied(NO_MESH, *odd, some):
        one, other = established("node2", "node4", kind=NODE), established("node1", "node3", kind=NODE)
        settle_sessions(scene, {"node1": one, "node2": other, "node3": one, "node4": other})
        settle_routes(scene, "node1", block(2), block(4))
    settle_mesh(scene)


@judged("BGP-05", needs=["bgp-peers"], source="RFC 4456, 6 and 10; Calico: Node, routeReflectorClusterID")
def test_a_reflector_passes_routes_on_and_no_packets(scene: Scene) -> None:
    """With one route reflector a node has one session, routes to all blocks, and packets go straight to their nodes."""
    with reflected(scene, "node4"):
        clients = {f"node{number}": established("node4", kind=NODE) for number in (1, 2, 3)}
        settle_sessions(scene, {**clients, "node4": established("node1", "node2", "node3", kind=NODE)})
        settle_routes(scene, "node1", block(2), block(3), block(4))
        with scene.capture("node1/eth0", "node4/eth0") as recording:
            scene.settle(every_pod(scene))
        one, other, reflectors = (str(scene.workloads[pod].address) for pod in ("pod1", "pod2", "pod4"))
        recording.frames.on("node1/eth0").between(one, other).some("pod1 to pod2 at its own node")
        at_reflector = recording.frames.on("node4/eth0")
        at_reflector.between(one, other).none(
            "pod1 to pod2 at the reflector", witness=at_reflector.between(one, reflectors)
        )


@judged("BGP-06", needs=["bgp-peers"], source="RFC 4456, 7; Calico: Configure BGP peering, route reflectors")
def test_of_two_reflectors_one_may_die(scene: Scene) -> None:
    """With two reflectors of one cluster pods lose nothing while the mesh gives way to them, nor when one dies."""
    nodes = [node_as(scene, name, REFLECTOR_LABELS, **CLUSTER) for name in ("node3", "node4")]
    both = established("node3", "node4", kind=NODE)
    with scene.flow("pod1", "pod2") as flow, scene.applied(REFLECTORS, *nodes):
        settle_sessions(scene, {"node3": established("node1", "node2", "node4", kind=NODE)})
        with scene.applied(NO_MESH):
            settle_sessions(scene, {"node1": both, "node2": both})
            settle_routes(scene, "node1", block(2), block(3), block(4))
            scene.kill_agent("node4")
            scene.run("node4", "pkill -KILL -x bird")
            settle_dead(scene, "node1", "node4")
            scene.settle(every_pod(scene, but="pod4"))
            scene.start_agent("node4")
            settle_sessions(scene, {"node1": both, "node2": both})
        settle_sessions(scene, {"node1": both | established("node2"), "node2": both | established("node1")})
    settle_mesh(scene)
    scene.fact(f"mesh, two reflectors, one, two, mesh: {flow}")
    assert flow.lost == 0, f"pod1 to pod2: {flow}"


@judged("BGP-07", needs=["bgp-peers"], source="RFC 4271, 4.2; Calico: BGPConfiguration, asNumber")
def test_the_clusters_as_number_is_told_in_every_open(scene: Scene) -> None:
    """After the cluster's AS number changed all sessions come up anew with it, and the routes are back."""
    with told_anew(scene, f"{MANIFESTS}/as-number.yaml") as recording:
        opened_as(recording, {}, 64513)


@judged("BGP-08", needs=["bgp-peers"], source="RFC 6793, 3 and 9; RFC 5396, 2")
def test_an_as_number_of_four_bytes_is_told_as_a_capability(scene: Scene) -> None:
    """AS "1.10" is 65546: the OPEN says 23456 where there are two bytes, and the number in a capability."""
    with told_anew(scene, f"{MANIFESTS}/four-byte-as-number.yaml") as recording:
        opened_as(recording, {}, 65546)


@judged("BGP-09", needs=["bgp-peers"], source="Calico: Node, bgp.asNumber; RFC 4271, 5.1.3")
def test_a_node_may_have_an_as_number_of_its_own(scene: Scene) -> None:
    """A node with its own AS number talks eBGP to the others, who know it; routes and packets stay the same."""
    with told_anew(scene, node_as(scene, "node2", asNumber=64999), nodes=("node2",)) as recording:
        opened_as(recording, {"10.1.1.12": 64999}, 64512)
        scene.settle(every_pod(scene))


def everybody_with(rules: str) -> str:
    """The mesh by selectors, with a filter of these rules."""
    return f"""
apiVersion: projectcalico.org/v3
kind: BGPFilter
metadata: {{name: some}}
spec: {{{rules}}}
---
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {{name: everybody}}
spec: {{nodeSelector: all(), peerSelector: all(), filters: [some]}}
"""


@contextmanager
def filtered(scene: Scene, rules: str) -> Iterator[None]:
    """Every session has a filter of these rules."""
    with scene.applied(everybody_with(rules)):
        settle_sessions(scene, {"node1": established("node2", "node3", "node4", kind=NODE)})
        yield
    settle_mesh(scene)


@judged("BGP-10", needs=["bgp-peers"], source="Calico: BGPFilter, importV4, matchOperator In")
def test_an_import_filter_keeps_routes_out(scene: Scene) -> None:
    """With a filter that rejects what lies in a network, its routes are not taken, all others are."""
    with filtered(scene, "importV4: [{action: Reject, matchOperator: In, cidr: 192.168.2.0/24}]"):
        settle_routes(scene, "node1", block(3), block(4))
        settle_routes(scene, "node2", block(1), block(3), block(4))


@judged("BGP-11", needs=["bgp-peers"], source="Calico: BGPFilter, matchOperator NotIn, prefixLength")
def test_not_in_is_the_opposite_of_in_and_lengths_count(scene: Scene) -> None:
    """NotIn matches what lies outside a network, In with prefix lengths only what is so long."""
    too_long = "{action: Reject, matchOperator: In, cidr: 192.168.0.0/16, prefixLength: {min: 27, max: 32}}"
    with filtered(scene, f"importV4: [{too_long}, {{action: Reject, matchOperator: NotIn, cidr: 192.168.3.0/24}}]"):
        settle_routes(scene, "node1", block(3))


@judged("BGP-12", needs=["bgp-peers"], source="Calico: BGPFilter, matchOperator Equal; rules in order")
def test_the_first_rule_that_matches_decides(scene: Scene) -> None:
    """Of several rules the first that matches decides: one network is accepted, the rest rejected."""
    accepted = "{action: Accept, matchOperator: Equal, cidr: 192.168.4.0/26}"
    with filtered(scene, f"importV4: [{accepted}, {{action: Reject}}]"):
        settle_routes(scene, "node1", block(4))


@judged("BGP-13", needs=["bgp-peers"], source="Calico: BGPFilter, exportV4, matchOperator NotEqual")
def test_an_export_filter_keeps_routes_home(scene: Scene) -> None:
    """With a filter on what is told, the others learn only what is left."""
    with filtered(scene, "exportV4: [{action: Reject, matchOperator: NotEqual, cidr: 192.168.1.0/26}]"):
        settle_routes(scene, "node1")
        settle_routes(scene, "node2", block(1))
        settle_routes(scene, "node4", block(1))


@judged("BGP-14", needs=["bgp-peers"], source="Calico: IPPool, disableBGPExport")
def test_a_pool_that_is_not_exported_stays_home(scene: Scene) -> None:
    """A block of a pool with disableBGPExport is told to nobody; those of other pools are, as before."""
    with scene.applied(f"{MANIFESTS}/private-pool.yaml"):
        with scene.pod("hermit", "node1", address="10.99.0.5"):
            scene.settle([scene.question("node1", "hermit"), scene.question("node2", "hermit", expect=scene.silence())])
            settle_routes(scene, "node2", block(1), block(3), block(4))
        scene.ctl("delete", "ippool", "private")
        scene.ctl("apply", "-f", "-", stdin=manifest_text(f"{MANIFESTS}/private-pool.yaml"))


@judged("BGP-15", needs=["bgp-peers"], source="RFC 2385; Calico: BGPConfiguration, nodeMeshPassword")
def test_only_who_knows_the_password_gets_a_session(scene: Scene) -> None:
    """With a password for the mesh the nodes that have it talk, and one that has another talks to nobody."""
    nodes = [node.name for node in scene.topology.nodes]
    for node in nodes:
        password = "open sesame" if node != "node4" else "open barley"
        scene.run(node, f"mkdir -p {SECRETS} && echo '{password}' > {SECRETS}/mesh")
    with ExitStack() as applied:
        with renewed(scene, but="node4"):
            applied.enter_context(scene.applied(f"{MANIFESTS}/mesh-password.yaml"))
        for _ in range(3):  # it does not come up a little later, either
            assert [peer for peer, (_, info) in sessions(scene, "node4").items() if info == "Established"] == []
            settle_routes(scene, "node4")
        settle_routes(scene, "node1", block(2), block(3))
        scene.settle(every_pod(scene, but="pod4"))
    for node in nodes:
        scene.run(node, f"rm -r {SECRETS}")
    settle_mesh(scene)


@judged("BGP-16", needs=["bgp-peers"], source="Calico: BGPConfiguration, listenPort")
def test_bgp_listens_where_it_is_told_to(scene: Scene) -> None:
    """With another listen port sessions are opened at that port, and none at 179."""
    with told_anew(scene, f"{MANIFESTS}/listen-port.yaml"):
        with scene.capture("node1/eth0") as recording, renewed(scene, "node1"):
            scene.run("node1", "pkill -KILL -x bird")
        calls = recording.frames.on("node1/eth0").matching(tcp__flags="S")
        there = calls.matching(tcp__destination_port=1790)
        there.some("a SYN to port 1790")
        calls.matching(tcp__destination_port=BGP_PORT).none("a SYN to port 179", witness=there)


@contextmanager
def undisturbed(scene: Scene, *nodes: str) -> Iterator[None]:
    """No kernel route of these nodes changes, and pod1 and pod2 lose no packet."""
    with ExitStack() as watching:
        monitors = {node: watching.enter_context(scene.monitor(node, "route")) for node in nodes}
        with scene.flow("pod1", "pod2") as flow:
            yield
    assert {node: monitor.lines for node, monitor in monitors.items()} == {node: [] for node in nodes}
    assert flow.sent > 20 and flow.lost == 0, f"pod1 to pod2: {flow}"


@judged(
    "BGP-17",
    needs=["bgp-peers", "graceful-restart"],
    source="RFC 4724, 4; Calico: node/tests/k8st, test of graceful restart",
)
def test_the_death_of_the_speaker_disturbs_nobody(scene: Scene) -> None:
    """When BIRD dies and is started again no route changes on any node, and no packet is lost."""
    with undisturbed(scene, "node1", "node2", "node3", "node4"), renewed(scene, "node1"):
        scene.run("node1", "pkill -KILL -x bird")
    settle_mesh(scene)


@judged(
    "BGP-18",
    needs=["bgp-peers", "graceful-restart"],
    source="RFC 4724, 4; Calico: node/tests/k8st, test of graceful restart",
)
def test_the_death_of_the_agent_disturbs_nobody(scene: Scene) -> None:
    """When the agent dies and is started again no route changes on any node, and no packet is lost."""
    with undisturbed(scene, "node1", "node2", "node3", "node4"), renewed(scene, "node1"):
        scene.restart("node1")
    settle_mesh(scene)


@judged(
    "BGP-19",
    needs=["bgp-peers", "graceful-restart"],
    source="RFC 4724, 4; Calico: node/tests/k8st, test of graceful restart",
)
def test_an_update_of_the_agent_disturbs_nobody(scene: Scene) -> None:
    """When the agent is told to end and is started again no route changes on any node, and no packet is lost."""
    with undisturbed(scene, "node1", "node2", "node3", "node4"), renewed(scene, "node1"):
        scene.kill_agent("node1", "TERM")
        scene.start_agent("node1")
    settle_mesh(scene)


@judged("BGP-20", needs=["bgp-peers"], source="Calico: calicoctl node status")
def test_node_status_names_the_kinds_of_peers(scene: Scene) -> None:
    """`calicoctl node status` tells mesh, global and node-specific peers apart, and one that does not answer."""
    peers = """
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: nobody-at-home}
spec: {peerIP: 10.1.1.1, asNumber: 65001}
---
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: special}
spec: {node: node1, peerIP: 10.1.1.12, asNumber: 64512}
"""
    with scene.applied(peers):
        kinds = {"node2": NODE, "node3": MESH, "node4": MESH, "router1": GLOBAL}
        scene.eventually(
            lambda: {peer: kind for peer, (kind, _) in sessions(scene, "node1").items()},
            lambda seen: seen == kinds,
            within_s=SOON_S,
            what=f"node1's peers are {kinds}",
        )
        settle_dead(scene, "node1", "router1")
        printed = scene.ctl("node", "status", node="node1").out
        assert "Calico process is running." in printed and "IPv4 BGP status" in printed
        assert re.search(r"PEER ADDRESS +\| +PEER TYPE +\| STATE \| +SINCE +\| +INFO", printed)
    settle_mesh(scene)


@judged(
    "BGP-21",
    needs=["bgp-peers"],
    source="Calico: bird_aggr.cfg.template, calico_aggr; libcalico-go/lib/ipam, borrowing",
)
def test_a_borrowed_address_is_told_by_its_user(scene: Scene) -> None:
    """Blocks are told whole, addresses in them are not; one that another node has borrowed is told by that node."""
    with scene.pod("guest", "node1", address="192.168.2.9"):
        guest = "192.168.2.9 via 10.1.1.11"
        settle_routes(scene, "node3", block(1), block(2), block(4), guest)
        settle_routes(scene, "node2", block(1), block(3), block(4), guest)
        scene.settle([scene.question(asker, "guest") for asker in ("pod1", "pod2", "pod3", "node2")])
    settle_mesh(scene)


TOR_LAB = "cross-subnet-tor"
TOR = {"tor": (GLOBAL, "Established")}
AS_PER_NODE = {"node1": 64521, "node2": 64522, "node3": 64523}


@requirement(
    "BGP-22", level="extended", scene="bgp-tor", labs=[TOR_LAB], needs=["bgp-peers"], modes=["none"],
    source="RFC 4271, 5.1.2 and 5.1.3; Calico: Configure BGP peering, a global peer",
)  # fmt: skip
def test_a_router_hears_of_each_block_from_its_own_node(scene: Scene) -> None:
    """Beside the mesh every node has an eBGP session with the router, which sends each block's packets to its node."""
    wanted = {"172.17.1.0/26 via 192.168.100.101", "172.17.2.0/26 via 192.168.100.102"}
    wanted |= {"172.17.3.0/26 via 192.168.200.103"}
    mesh = established("node1", "node2")
    settle_sessions(scene, {"node3": mesh | TOR})
    scene.eventually(
        lambda: block_routes(scene, "tor"), lambda seen: seen == wanted, within_s=SOON_S, what="the router's routes"
    )
    scene.settle(every_pod(scene))


@requirement(
    "BGP-23", level="extended", scene="bgp-tor", labs=[TOR_LAB], needs=["bgp-peers"], modes=["none"],
    source="RFC 7938, 5.2; RFC 4271, 5.1.3; Calico: on-premises networking, AS per compute server",
)  # fmt: skip
def test_with_as_numbers_of_their_own_nodes_need_no_mesh(scene: Scene) -> None:
    """Without a mesh, each node in an AS of its own, all routes come from the router, and packets go through it."""
    nodes = [node_as(scene, name, asNumber=number) for name, number in AS_PER_NODE.items()]
    with scene.applied(*nodes, NO_MESH):
        settle_sessions(scene, dict.fromkeys(AS_PER_NODE, TOR))
        through = {"172.17.1.0/26 via 192.168.200.1", "172.17.2.0/26 via 192.168.200.1"}
        scene.eventually(
            lambda: block_routes(scene, "node3"),
            lambda seen: seen == through,
            within_s=SOON_S,
            what="node3's routes lead to the router",
        )
        with scene.capture("tor/eth1") as recording:
            scene.settle(every_pod(scene))
        pods = (str(scene.workloads["pod1"].address), str(scene.workloads["pod3"].address))
        recording.frames.on("tor/eth1").between(*pods).with_stack("eth ip icmp").some("bare packets at the router")
    settle_sessions(scene, {"node1": established("node2", "node3") | TOR, "node3": established("node1", "node2") | TOR})
    scene.settle(every_pod(scene))
