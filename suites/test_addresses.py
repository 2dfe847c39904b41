"""Which address a node has: found as Calico finds it, followed when it changes; and the pool of the first start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import IPv4Address

import yaml

from tunlab.check.matrix import Question
from tunlab.check.requirement import requirement
from tunlab.check.scene import Scene
from tunlab.oracle.network import reaches

WITHIN_S = 10.0
NODE, OTHER = "node2", "node1"
RENUMBERED = IPv4Address("192.168.100.111")
CARD = ("203.0.113.2/24", "eth9")  # a second network card, which first-found prefers to the first: it was made later
SOURCE = "Calico: configure IP autodetection; facts, section 8"
NEEDS = ("agent", "address-detection")


def _registered(scene: Scene, node: str) -> str:
    """The address that the node's object in the store has."""
    found = yaml.safe_load(scene.ctl("get", "node", node, "-o", "yaml").out)
    return str((found["spec"].get("bgp") or {}).get("ipv4Address", ""))


def _is_registered(scene: Scene, address: str) -> None:
    scene.eventually(
        lambda: _registered(scene, NODE), lambda seen: seen == address, within_s=WITHIN_S, what=f"{NODE} has {address}"
    )


def _questions(scene: Scene) -> list[Question]:
    """Every pod asks those that the mode reaches."""
    pods = list(scene.workloads.values())
    pairs = [(one, other) for one in pods for other in pods if one.name != other.name]
    return [
        scene.question(one.name, other.name)
        for one, other in pairs
        if reaches(scene.topology, scene.mode, one.node, other.node)
    ]


def _own(scene: Scene) -> str:
    return str(scene.topology.node(NODE).address)


@contextmanager
def _device(scene: Scene, name: str, address: str) -> Iterator[None]:
    """One more device on the node, with an address. Like: ip link add NAME type veth …"""
    scene.run(
        NODE,
        f"ip link add {name} type veth peer name vethfar-{name}; ip link set vethfar-{name} up; ip link set {name} up",
    )
    scene.run(NODE, f"ip addr add {address} dev {name}")
    try:
        yield
    finally:
        scene.run(NODE, f"ip link del {name}")


def _moved(scene: Scene, before: object, after: object) -> str:
    """Shell text that gives the node's uplink another address, and its default route back."""
    node = scene.topology.node(NODE)
    length = node.address.network.prefixlen
    return (
        f"ip addr del {before}/{length} dev eth0; ip addr add {after}/{length} dev eth0; "
        f"ip route replace default via {node.gateway} dev eth0 proto static"
    )


@requirement(
    "ADDR-01", level="extended", scene="addresses", labs=("mixed",), modes=("vxlan", "none"), needs=NEEDS,
    source="Calico: changing a node's IP; facts, section 8.2",
)  # fmt: skip
def test_a_renumbered_node_is_followed_by_all(scene: Scene) -> None:
    """A node that is given another address says so in its Node object, and all nodes' routes and tunnels follow."""
    old = scene.topology.node(NODE).address.ip
    with scene.flow("pod1", "pod3") as flow:
        scene.run(NODE, _moved(scene, old, RENUMBERED))
        try:
            _is_registered(scene, f"{RENUMBERED}/24")
            scene.settle(_questions(scene), within_s=WITHIN_S)
            for node in (OTHER, "node3"):
                _nothing_names(scene, node, old)
        finally:
            scene.run(NODE, _moved(scene, RENUMBERED, old))
        _is_registered(scene, _own(scene))
        scene.settle(_questions(scene), within_s=WITHIN_S)
    scene.fact(f"renumbered and back: {flow}")


def _nothing_names(scene: Scene, node: str, address: IPv4Address) -> None:
    """No route goes via the address, and no FDB entry sends there."""

    def left() -> list[str]:
        tables = scene.tables(node)
        routes = [str(route) for route in tables.routes if route.gateway == str(address)]
        return routes + [str(entry) for entry in tables.fdb if entry.destination == str(address)]

    scene.eventually(left, lambda lines: not lines, within_s=WITHIN_S, what=f"{node}: nothing names {address}")


@requirement(
    "ADDR-02", level="extended", scene="addresses", labs=("mixed",), modes=("vxlan",), needs=NEEDS, source=SOURCE
)
def test_devices_of_other_programs_are_no_uplink(scene: Scene) -> None:
    """First-found passes over docker0, bridges, veths and its own kind, made last as they are, and takes a card."""
    with _device(scene, "docker0", "172.31.0.1/16"), _device_named_br(scene):
        with _device(scene, CARD[1], CARD[0]):
            _is_registered(scene, CARD[0])  # so the agent did look, and saw the others too
        _is_registered(scene, _own(scene))
    scene.settle(_questions(scene), within_s=WITHIN_S)


@contextmanager
def _device_named_br(scene: Scene) -> Iterator[None]:
    scene.run(NODE, "ip link add br-lan type bridge; ip link set br-lan up; ip addr add 172.30.0.1/16 dev br-lan")
    try:
        yield
    finally:
        scene.run(NODE, "ip link del br-lan")


def _finds_the_uplink(scene: Scene, method: str) -> None:
    """With this method the agent takes the uplink's address, though first-found would take the newer card's."""
    with _device(scene, CARD[1], CARD[0]):
        _is_registered(scene, CARD[0])
        _restarted(scene, {"IP_AUTODETECTION_METHOD": method})
        _is_registered(scene, _own(scene))
        scene.settle(_questions(scene), within_s=WITHIN_S)
    _restarted(scene, {})
    scene.settle(_questions(scene), within_s=WITHIN_S)


def _restarted(scene: Scene, env: Mapping[str, str]) -> None:
    scene.kill_agent(NODE)
    scene.start_agent(NODE, env=env)


@requirement(
    "ADDR-03", level="extended", scene="addresses", labs=("mixed",), modes=("vxlan",), needs=NEEDS, source=SOURCE
)
def test_can_reach_takes_the_address_that_the_way_there_starts_from(scene: Scene) -> None:
    """can-reach=ADDRESS takes the address that the node would send from to get there."""
    _finds_the_uplink(scene, f"can-reach={scene.topology.node(NODE).gateway}")


@requirement(
    "ADDR-04", level="extended", scene="addresses", labs=("mixed",), modes=("vxlan",), needs=NEEDS, source=SOURCE
)
def test_interface_takes_a_device_whose_name_fits(scene: Scene) -> None:
    """interface=REGEX takes the address of a device whose name fits."""
    _finds_the_uplink(scene, "interface=^eth0$,^bond")


@requirement(
    "ADDR-05", level="extended", scene="addresses", labs=("mixed",), modes=("vxlan",), needs=NEEDS, source=SOURCE
)
def test_skip_interface_passes_over_a_device_whose_name_fits(scene: Scene) -> None:
    """skip-interface=REGEX passes over devices whose names fit."""
    _finds_the_uplink(scene, "skip-interface=^eth9$")


@requirement(
    "ADDR-06", level="extended", scene="addresses", labs=("mixed",), modes=("vxlan",), needs=NEEDS, source=SOURCE
)
def test_cidr_takes_an_address_of_the_network(scene: Scene) -> None:
    """cidr=NETWORK takes an address inside it."""
    _finds_the_uplink(scene, "cidr=10.99.0.0/16,192.168.100.0/24")


@requirement(
    "ADDR-07", level="extended", scene="addresses", labs=("mixed",), modes=("vxlan",), needs=NEEDS,
    source="facts, section 8.1: unknown method ⇒ error and exit 1",
)  # fmt: skip
def test_a_wrong_variable_is_refused_by_name(scene: Scene) -> None:
    """An agent that is told what it cannot do ends at once, and names the variable and what is legal."""
    daemon = next(one for one in scene.live.installation.recipe.daemons if one.host == NODE)
    wrong = {
        "IP_AUTODETECTION_METHOD": "kubernetes-internal-ip",
        "CALICO_IPV4POOL_IPIP": "sometimes",
        "CALICO_NETWORKING_BACKEND": "ospf",
        "FELIX_IPINIPMTU": "large",
    }
    done = scene.live.box.run(NODE, daemon.argv, env={**daemon.env, **wrong}, check=False)
    said = done.out + done.err
    assert done.rc != 0, f"{NODE}: {done}: was taken"
    unnamed = [name for name, value in wrong.items() if name not in said or value not in said]
    assert not unnamed, f"{NODE}: {', '.join(unnamed)}: not named in: {said}"


@requirement(
    "ADDR-08", level="extended", scene="first-start", labs=("mixed",), modes=("vxlan",), needs=NEEDS,
    source="Calico: calico/node configuration, IP pools; facts, section 8.3",
)  # fmt: skip
def test_variables_make_the_pool_of_a_cluster_without_any(scene: Scene) -> None:
    """A cluster without pools gets the one that its first agent's CALICO_IPV4POOL_… describe, and pods live from it."""
    scene.is_spent = True  # what was here before is gone for good
    for name in list(scene.workloads):
        scene.live.remove(name)
    for node in scene.live.node_names():
        scene.kill_agent(node)
    for pool in scene.topology.pools:
        scene.ctl("delete", "ippool", pool.name)
    env = {
        "CALICO_IPV4POOL_CIDR": "10.24.0.0/16",
        "CALICO_IPV4POOL_BLOCK_SIZE": "28",
        "CALICO_IPV4POOL_IPIP": "off",
        "CALICO_IPV4POOL_VXLAN": "cross-subnet",
        "CALICO_IPV4POOL_NAT_OUTGOING": "false",
        "CALICO_IPV4POOL_DISABLE_BGP_EXPORT": "true",
    }
    for node in scene.live.node_names():
        scene.live.installation.start(node, env)
    scene.live.installation.wait_ready(60)
    spec = yaml.safe_load(scene.ctl("get", "ippool", "default-ipv4-ippool", "-o", "yaml").out)["spec"]
    wanted = {
        "cidr": "10.24.0.0/16",
        "blockSize": 28,
        "ipipMode": "Never",
        "vxlanMode": "CrossSubnet",
        "natOutgoing": False,
        "disableBGPExport": True,
    }
    seen = {name: spec.get(name) for name in wanted}
    assert seen == wanted, f"default-ipv4-ippool: seen {seen}, wanted {wanted}"
    with scene.pod("first", node=OTHER) as first, scene.pod("second", node="node3") as second:
        for pod in (first, second):
            assert str(pod.address).startswith("10.24."), f"{pod.name}: {pod.address} is not from 10.24.0.0/16"
        scene.settle([scene.question("first", "second"), scene.question("second", "first")], within_s=WITHIN_S)
