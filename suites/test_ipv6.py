"""IPv6 beside IPv4: two addresses per pod, a tunnel and BGP sessions of its own, and the same promises."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from tunlab.check.manifests import manifest_text
from tunlab.check.matrix import Question
from tunlab.check.policing import DENIED, DENIED_ON_THE_HOST
from tunlab.check.requirement import requirement
from tunlab.check.scene import Scene
from tunlab.errors import WorldError
from tunlab.lab.topology import UPLINK, Mode
from tunlab.live.lab import Workload
from tunlab.node.tables import Route
from tunlab.oracle.network import vtep_mac
from tunlab.oracle.network6 import METRIC, VXLAN6_OVERHEAD_BYTES, Oracle6, carriage6_between, reaches6
from tunlab.systems.resource import resource

LABS = ("dual-stack",)
judged = partial(requirement, level="extended", scene="ipv6", labs=LABS)
NEEDS = ("ipv6", "ipam-in-etcd", "block-routes")
ALL: tuple[Mode, ...] = ("vxlan", "vxlan-crosssubnet", "none")
VXLAN: tuple[Mode, ...] = ("vxlan", "vxlan-crosssubnet")
EDITS: tuple[tuple[Mode, str], ...] = (("vxlan-crosssubnet", "CrossSubnet"), ("none", "Never"))
PORT = 8080
IPV6_AND_ICMP_BYTES = 48
WITHIN_S = 5.0
# The link-local address that the kernel makes of ee:ee:ee:ee:ee:ee, which every pod's host end has.
GATEWAY = "fe80::ecee:eeff:feee:eeee"
FAILSAFE_PORT = 6443  # both ways
_NODES = (("node2", "node1"), ("node1", "node2"))
ONE_MAY_ENTER = "fixtures/manifests/ipv6/one-may-enter.yaml"
IPIP_POOL = "fixtures/manifests/ipv6/ipip-pool.yaml"
REFRESH_NEVER = "fixtures/manifests/life/refresh-never.yaml"


def _oracle(scene: Scene, mode: Mode | None = None) -> Oracle6:
    installation = scene.live.installation
    ipam = installation.read_ipam()
    return Oracle6(scene.topology, mode or scene.mode, installation.recipe.dialect, ipam, dict(scene.workloads))


def _pairs(scene: Scene) -> Iterator[tuple[Workload, Workload]]:
    pods = scene.workloads.values()
    yield from ((a, b) for a in pods for b in pods if a.name != b.name)


def _questions(scene: Scene, mode: Mode | None = None) -> list[Question]:
    """Every pod asks every other over IPv6: it is answered where the mode reaches it."""
    found = []
    for a, b in _pairs(scene):
        expect = None if reaches6(scene.topology, mode or scene.mode, a.node, b.node) else scene.silence()
        found.append(scene.question(a.name, b.name, expect=expect, family=6))
    return found


def _differences(scene: Scene, oracle: Oracle6) -> list[str]:
    """What the nodes have too much or too little of in IPv6."""
    found = []
    for node, tables in scene.live.tables(scene.live.node_names()).items():
        wanted: set[object] = {*oracle.routes(node), *oracle.addresses(node)}
        seen: set[object] = {*tables.routes6, *tables.addresses6}
        if oracle.tunnel == "vxlan":
            wanted |= {*oracle.neighbours(node), *oracle.fdb(node)}
        elif oracle.device in tables.links:
            found.append(f"{node}: has {oracle.device} still")
        seen |= {one for one in tables.neighbours6 if one.device == oracle.device}
        seen |= {one for one in tables.fdb if one.device == oracle.device}
        found += [f"{node}: lacks {one}" for one in sorted(map(str, wanted - seen))]
        found += [f"{node}: has {one}, which nobody needs" for one in sorted(map(str, seen - wanted))]
    return found


@judged("V6-01", modes=ALL, needs=NEEDS, source="Calico: dual stack; RFC 8200")
def test_every_pod_reaches_every_other_in_either_family(scene: Scene) -> None:
    """Over IPv6 as over IPv4 every pod answers every other by ICMP, TCP and UDP, and sees the asker's own address."""
    for name in scene.workloads:
        scene.live.box.ask("probes", "listen", place=name, name=name, tcp=[PORT], udp=[PORT])
    questions = []
    for a, b in _pairs(scene):
        expect = None if reaches6(scene.topology, scene.mode, a.node, b.node) else scene.silence()
        for family in (4, 6):
            questions.append(scene.question(a.name, b.name, expect=expect, family=family))
            for protocol in ("tcp", "udp"):
                questions.append(scene.question(a.name, b.name, protocol, port=PORT, expect=expect, family=family))
    scene.settle(questions)
    for name in scene.workloads:
        scene.live.box.ask("probes", "unlisten", place=name)


@judged("V6-02", modes=ALL, needs=NEEDS, source="Calico: dual stack")
def test_nodes_and_pods_reach_each_other(scene: Scene) -> None:
    """Over IPv6 a node reaches every pod that its own pods reach, and those pods reach the node."""
    questions = []
    for pod in scene.workloads.values():
        for node in scene.topology.nodes:
            if reaches6(scene.topology, scene.mode, pod.node, node.name):
                # A node may ask from any of its addresses: which one is not promised.
                any_address = scene.answer(by=pod.name)
                questions.append(scene.question(node.name, str(pod.address6), expect=any_address))
                questions.append(scene.question(pod.name, node.name, family=6))
    scene.settle(questions)


@judged("V6-03", modes=ALL, needs=NEEDS, source="RFC 7348; Calico: 4.1")
def test_what_crosses_the_wire_is_wrapped_as_the_mode_says(scene: Scene) -> None:
    """Between nodes a pod's IPv6 packet is bare, or in VXLAN over IPv6 from node to node, as the mode says."""
    oracle, pod1 = _oracle(scene), scene.workloads["pod1"]
    dialect = scene.live.installation.recipe.dialect
    far = [pod for pod in scene.workloads.values() if pod.node != pod1.node]
    far = [pod for pod in far if reaches6(scene.topology, scene.mode, pod1.node, pod.node)]
    scene.settle([scene.question(pod1.name, pod.name, family=6) for pod in far])
    with scene.capture(f"{pod1.node}/{UPLINK}") as seen:
        scene.ask([scene.question(pod1.name, pod.name, family=6) for pod in far]).check()
    if not far:
        raise WorldError("the lab has no pod on another node to talk to")
    for pod in far:
        frames = seen.frames.going("out").from_to(str(pod1.address6), str(pod.address6))
        if carriage6_between(scene.topology, scene.mode, pod1.node, pod.node) == "none":
            frames.some(f"{pod1.name} to {pod.name}").each(stack="eth ipv6 icmpv6", outer__ttl=63)
            continue
        frames.some(f"{pod1.name} to {pod.name}").each(
            stack="eth ipv6 udp vxlan eth ipv6 icmpv6",
            outer__source=str(oracle.node_ip(pod1.node)),
            outer__destination=str(oracle.node_ip(pod.node)),
            outer__ttl=64,
            udp__destination_port=dialect.vxlan_port,
            udp__checksum_ok=True,
            vxlan__vni=dialect.vxlan_id,
            inner_ethernet__source=vtep_mac(f"{pod1.node}-v6"),
            inner_ethernet__destination=vtep_mac(f"{pod.node}-v6"),
            inner__ttl=63,
        )


@judged("V6-04", modes=ALL, needs=NEEDS, source="Calico: 4.3, 4.4, 5")
def test_each_node_holds_exactly_what_ipv6_needs(scene: Scene) -> None:
    """A node's IPv6 routes, addresses, tunnel neighbours and FDB entries are those that lab and IPAM imply; no more."""
    scene.eventually(
        lambda: _differences(scene, _oracle(scene)),
        lambda found: not found,
        within_s=WITHIN_S,
        what="the nodes' IPv6 tables",
    )


@judged("V6-05", modes=VXLAN, needs=NEEDS, source="Calico: 4.1, 8")
def test_the_device_has_its_mtu_and_so_have_the_pods(scene: Scene) -> None:
    """The VXLAN device over IPv6 has the uplink's MTU less 70 bytes, VNI, port and address; pods have its MTU."""
    dialect = scene.live.installation.recipe.dialect
    for node in scene.topology.nodes:
        tables, device = scene.tables(node.name), _oracle(scene).device
        link = tables.links.get(device)
        assert link is not None, f"{node.name}: has no {device}"
        node_mtu = scene.topology.uplink_mtu(node.name) - VXLAN6_OVERHEAD_BYTES
        about = link.attributes
        seen = (link.mtu_bytes, link.mac, link.is_up, about.get("id"), about.get("port"), about.get("local6"))
        mac, own = vtep_mac(f"{node.name}-v6"), str(_oracle(scene).node_ip(node.name))
        wanted = (node_mtu, mac, True, dialect.vxlan_id, dialect.vxlan_port, own)
        assert seen == wanted, f"{node.name}: {device}: seen {seen}, wanted {wanted}"
        assert not about.get("learning", False), f"{node.name}: {device}: learns"
        for pod in scene.workloads.values():
            if pod.node == node.name:
                ends = (scene.tables(pod.name).links["eth0"].mtu_bytes, tables.links[pod.host_device].mtu_bytes)
                assert ends == (node_mtu, node_mtu), f"{pod.name}: mtu {ends}, wanted {node_mtu} at both ends"


@judged("V6-06", modes=VXLAN, needs=NEEDS, source="RFC 8201; Calico: 8")
def test_a_packet_of_the_pods_mtu_fits_and_one_byte_more_does_not(scene: Scene) -> None:
    """An IPv6 packet of the pods' MTU crosses the tunnel whole; one byte more the pod's own kernel refuses."""
    target = scene.workloads["pod4"]
    largest = scene.topology.uplink_mtu("node1") - VXLAN6_OVERHEAD_BYTES - IPV6_AND_ICMP_BYTES
    scene.settle([scene.question("pod1", "pod4", family=6)])
    for size, outcome in ((largest, "answered"), (largest + 1, "too_big")):
        (result,) = scene.live.box.ask(
            "probes",
            "ask",
            probes=[
                {
                    "id": f"V6-06/{size}",
                    "from": "pod1",
                    "to": str(target.address6),
                    "protocol": "icmp",
                    "size": size,
                    "df": True,
                    "timeout_s": 5.0,
                }
            ],
        )["results"]
        assert result["outcome"] == outcome, f"pod1 → pod4: {size} bytes: seen {result['outcome']}, wanted {outcome}"


@judged("V6-07", modes=ALL, needs=NEEDS, source="CNI specification 1.0.0")
def test_the_plugin_gives_an_address_of_each_family_and_says_so(scene: Scene) -> None:
    """ADD's result lists an IPv4 and an IPv6 address, which the pod has; its way out is a link-local address."""
    for pod in scene.workloads.values():
        listed = [str(one["address"]) for one in pod.result["ips"]]
        assert listed == [f"{pod.address}/32", f"{pod.address6}/128"], f"{pod.name}: ADD lists {listed}"
        assert any(pod.address6 in pool.cidr for pool in scene.topology.pools6 if pod.address6), (
            f"{pod.name}: {pod.address6}: in no pool"
        )
        tables = scene.tables(pod.name)
        held = {one.address for one in tables.addresses6}
        assert held == {f"{pod.address6}/128"}, f"{pod.name}: eth0 has {sorted(held)}"
        wanted = {Route("default", gateway=GATEWAY, device="eth0", metric=METRIC)}
        assert tables.routes6 == wanted, f"{pod.name}: routes {sorted(map(str, tables.routes6))}"
        scene.live.runtime.check(pod.sandbox)


@judged("V6-08", modes=("none",), needs=NEEDS, source="RFC 2529; Calico: 2")
def test_a_pool_of_ipv6_in_ipip_is_refused(scene: Scene) -> None:
    """An IPv6 pool with ipipMode is refused with the field's path, and nothing of it is stored."""
    done = scene.ctl("apply", "-f", "-", stdin=manifest_text(IPIP_POOL), check=False)
    assert done.rc != 0, f"{IPIP_POOL} was taken: {done.out}"
    assert "spec.ipipMode" in done.err and "Never" in done.err, f"{IPIP_POOL}: the refusal says: {done.err.strip()}"
    stored = scene.ctl("get", "ippool", "six-in-ipip", "-o", "json", check=False)
    assert stored.rc != 0, f"{IPIP_POOL} was refused and is stored: {stored.out}"


def _established(scene: Scene, node: str) -> set[str]:
    """The IPv6 peers with which `calicoctl node status` says that a session is up."""
    lines = scene.ctl("node", "status", node=node).out.splitlines()
    cells = [[cell.strip() for cell in line.split("|")] for line in lines if "Established" in line]
    return {cell[1] for cell in cells if ":" in cell[1]}


@judged("V6-09", modes=("none",), needs=(*NEEDS, "bgp"), source="Calico: 5; RFC 4760")
def test_ipv6_blocks_come_over_sessions_between_ipv6_addresses(scene: Scene) -> None:
    """A node holds a session to the IPv6 address of every other; the routes to all remote IPv6 blocks are BIRD's."""
    oracle = _oracle(scene)
    for node in scene.topology.nodes:
        others = {str(oracle.node_ip(peer.name)) for peer in scene.topology.nodes if peer != node}
        scene.eventually(
            partial(_established, scene, node.name), others.__eq__, within_s=WITHIN_S, what=f"{node.name}'s sessions"
        )
        routes = {route for route in scene.tables(node.name).routes6 if route.protocol == "bird" and route.gateway}
        assert routes == oracle.block_routes(node.name), f"{node.name}: {sorted(map(str, routes))}"


@judged("V6-10", modes=("vxlan",), needs=(*NEEDS, "repairs-on-event"), source="Calico: 4.3, 6")
def test_what_somebody_takes_away_comes_back(scene: Scene) -> None:
    """An IPv6 block route, tunnel neighbour, FDB entry or tunnel address that somebody deletes is back within 5 s."""
    oracle, me = _oracle(scene), "node1"
    route = min(oracle.block_routes(me))
    neighbour, entry = min(oracle.neighbours(me)), min(oracle.fdb(me))
    address = str(oracle.ipam.tunnel_addresses6[me])
    with scene.applied(REFRESH_NEVER):
        for command in (
            f"ip -6 route del {route.destination}",
            f"ip -6 neigh del {neighbour.address} dev {oracle.device}",
            f"bridge fdb del {entry.mac} dev {oracle.device} dst {entry.destination} self",
            f"ip -6 addr del {address}/128 dev {oracle.device}",
        ):
            scene.run(me, command)
            scene.eventually(
                lambda: _differences(scene, _oracle(scene)), lambda found: not found, within_s=WITHIN_S, what=command
            )


@judged(
    "V6-11",
    modes=("vxlan",),
    visits=("vxlan-crosssubnet", "none"),
    needs=(*NEEDS, "mode-switch"),
    source="Calico: changing an IP pool's encapsulation",
)
def test_an_ipv6_pool_changes_its_mode_while_the_lab_runs(scene: Scene) -> None:
    """An IPv6 pool's vxlanMode goes to CrossSubnet or to Never and back; each time the nodes hold exactly that."""
    for mode, written in EDITS:
        with scene.applied(_edited(scene, written)):
            scene.eventually(
                partial(_differences_in, scene, mode),
                lambda found: not found,
                within_s=2 * WITHIN_S,
                what=f"the IPv6 pool's vxlanMode is {written}",
            )
            scene.settle(_questions(scene, mode), within_s=WITHIN_S)
        scene.eventually(
            partial(_differences_in, scene, scene.mode),
            lambda found: not found,
            within_s=2 * WITHIN_S,
            what=f"back from {written}",
        )
        scene.settle(_questions(scene), within_s=WITHIN_S)


def _edited(scene: Scene, vxlan: str) -> dict[str, Any]:
    """The lab's IPv6 pool with another encapsulation, as a user would edit it."""
    pool = scene.topology.pools6[0]
    spec: dict[str, object] = {"cidr": str(pool.cidr), "blockSize": pool.block_size, "vxlanMode": vxlan}
    return resource("IPPool", pool.name, **spec)


def _differences_in(scene: Scene, mode: Mode) -> list[str]:
    return _differences(scene, _oracle(scene, mode))


@judged("V6-12", modes=("vxlan",), needs=NEEDS, source="Calico: 9.1")
def test_the_node_object_says_both_addresses(scene: Scene) -> None:
    """A node's object names its IPv6 address with the prefix length, and its tunnel's IPv6 address, as IPAM gave it."""
    tunnels = scene.live.installation.read_ipam().tunnel_addresses6
    for node in scene.topology.nodes:
        stored = json.loads(scene.ctl("get", "node", node.name, "-o", "json").out)
        found = stored["items"][0] if "items" in stored else stored
        seen = (found["spec"]["bgp"].get("ipv6Address"), found["spec"].get("ipv6VXLANTunnelAddr"))
        wanted = (str(node.address6), str(tunnels.get(node.name)))
        assert seen == wanted, f"{node.name}: seen {seen}, wanted {wanted}"


@judged("V6-13", modes=VXLAN, needs=(*NEEDS, "policy"), source="Calico: NetworkPolicy")
def test_policy_holds_for_ipv6_and_a_rule_for_one_family_opens_nothing_in_the_other(scene: Scene) -> None:
    """A rule that names an IPv6 source lets that pod in over IPv6 alone; everybody and everything else gets nothing."""
    policy = manifest_text(ONE_MAY_ENTER).replace("SOURCE", str(scene.workloads["pod1"].address6))

    def tcp(source: str, *, family: int = 6, may: bool = True) -> Question:
        return scene.question(source, "pod4", "tcp", port=PORT, family=family, expect=None if may else DENIED)

    with scene.listening("pod4", tcp=[PORT]):
        before = [tcp("pod1"), tcp("pod3"), tcp("pod1", family=4), scene.question("pod1", "pod4", family=6)]
        scene.settle(before)
        with scene.applied(policy):
            ping = scene.question("pod1", "pod4", family=6, expect=DENIED)
            scene.settle([tcp("pod1"), tcp("pod3", may=False), tcp("pod1", family=4, may=False), ping])
        scene.settle(before)


@judged("V6-14", modes=("none",), needs=(*NEEDS, "bgp-peers"), source="Calico: BGPPeer")
def test_peers_at_ipv6_addresses_take_the_meshs_place_for_ipv6_alone(scene: Scene) -> None:
    """With the mesh off and BGPPeers at the nodes' IPv6 addresses, IPv6 pods reach each other and IPv4 pods do not."""
    mesh_off = resource("BGPConfiguration", "default", nodeToNodeMeshEnabled=False)
    peers = [
        resource("BGPPeer", f"six-{node.name}", peerIP=str(node.address6.ip), asNumber=64512)
        for node in scene.topology.nodes
        if node.address6 is not None
    ]
    with scene.applied(mesh_off, *peers):
        silent = scene.question("pod1", "pod3", expect=scene.silence())
        scene.settle([*_questions(scene), silent], within_s=2 * WITHIN_S)
        assert _established(scene, "node1") == {str(_oracle(scene).node_ip(name)) for name in ("node2", "node3")}
    scene.settle([*_questions(scene), scene.question("pod1", "pod3")], within_s=2 * WITHIN_S)


@judged(
    "V6-15",
    modes=("vxlan", "none"),
    needs=(*NEEDS, "policy", "host-endpoints"),
    source="Calico: HostEndpoint, failsafe ports; RFC 4890 section 4.4",
)
def test_a_host_endpoint_closes_a_node_over_ipv6_and_leaves_it_its_neighbours(scene: Scene) -> None:
    """A HostEndpoint closes its node over IPv6 but for the failsafe ports; neighbours and far pods find each other."""
    closed = [scene.question(*pair, family=6, expect=DENIED_ON_THE_HOST) for pair in _NODES]
    opened = [scene.question(a, b, "tcp", port=PORT, family=6, expect=scene.answer(by=b)) for a, b in _NODES]
    kept = [scene.question(a, b, "tcp", port=FAILSAFE_PORT, family=6, expect=scene.answer(by=b)) for a, b in _NODES]
    closed += [replace(one, expected=DENIED_ON_THE_HOST) for one in opened]
    with (
        scene.listening("node1", tcp=[PORT, FAILSAFE_PORT]),
        scene.listening("node2", tcp=[PORT, FAILSAFE_PORT]),
    ):
        scene.settle([*opened, *kept])
        with scene.applied(resource("HostEndpoint", "node1-all", node="node1", interfaceName="*")):
            scene.settle([*closed, *kept, *_questions(scene)])
            for node in ("node1", "node2"):
                scene.run(node, f"ip -6 neigh flush dev {UPLINK}")
            scene.settle([*closed, *kept, *_questions(scene)])
        scene.settle([*opened, *kept])


@judged("V6-16", modes=("vxlan",), needs=(*NEEDS, "policy"), source="Calico: FelixConfiguration, ipv6Support")
def test_without_ipv6_support_policy_is_about_ipv4_alone(scene: Scene) -> None:
    """With ipv6Support off what a policy denies is denied over IPv4 alone, at once; on again, in both families."""
    policy = manifest_text(ONE_MAY_ENTER).replace("SOURCE", str(scene.workloads["pod1"].address6))
    off = resource("FelixConfiguration", "default", ipv6Support=False)
    denied = {family: scene.question("pod3", "pod4", family=family, expect=DENIED) for family in (4, 6)}
    with scene.applied(policy):
        scene.settle([denied[4], denied[6]])
        with scene.applied(off):
            scene.settle([denied[4], scene.question("pod3", "pod4", family=6)])
        scene.settle([denied[4], denied[6]])
