"""A node that another CNI was on: what it left is found and, when told, removed, and nothing else is."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from tunlab.check import claims
from tunlab.check.requirement import requirement
from tunlab.check.scene import Scene
from tunlab.node.tables import lasting

LABS = ("mixed",)
NODE = "node1"
NAMES = ("flannel.1", "cni0", "docker0", "10.244.2.0/24", "10-flannel.conflist", "/run/flannel", "FLANNEL-POSTRTG")
# What flannel with host-gw and VXLAN, the bridge plugin and Docker leave, by their own documentation and source.
LEFT = """
ip link add flannel.1 type vxlan id 1 local {own} dev eth0 dstport 8472 nolearning
ip addr add 10.244.1.0/32 dev flannel.1
ip link set flannel.1 up
ip route add 10.244.3.0/24 via 10.244.3.0 dev flannel.1 onlink
ip route add 10.244.2.0/24 via {peer} dev eth0
ip rule add from 10.244.1.0/24 lookup main priority 3000
ip link add cni0 type bridge && ip addr add 10.244.1.1/24 dev cni0 && ip link set cni0 up
ip link add docker0 type bridge && ip addr add 172.30.0.1/16 dev docker0
mkdir -p /etc/cni/net.d /run/flannel /var/lib/cni/flannel /var/lib/cni/networks/cbr0
echo '{{"name":"cbr0","cniVersion":"0.3.1","plugins":[{{"type":"flannel"}},{{"type":"portmap"}}]}}' \
  > /etc/cni/net.d/10-flannel.conflist
printf 'FLANNEL_NETWORK=10.244.0.0/16\\nFLANNEL_SUBNET=10.244.1.1/24\\n' > /run/flannel/subnet.env
echo x > /var/lib/cni/networks/cbr0/10.244.1.2
iptables-legacy -w -t nat -N FLANNEL-POSTRTG
iptables-legacy -w -t nat -A FLANNEL-POSTRTG -s 10.244.0.0/16 -j MASQUERADE -m comment --comment "flanneld masq"
iptables-legacy -w -t nat -A POSTROUTING -j FLANNEL-POSTRTG -m comment --comment "flanneld masq"
"""
# What belongs to the owner of the node: libvirt, a route, a rule, a second network, our own configuration, a chain.
THEIRS = """
ip link add virbr0 type bridge && ip addr add 10.80.0.1/24 dev virbr0 && ip link set virbr0 up
ip route add 10.81.0.0/16 via {peer} dev eth0
ip rule add from 10.82.0.0/16 lookup main priority 3001
mkdir -p /etc/cni/net.d /var/lib/cni/networks/second
echo '{{"name":"k8s-pod-network","plugins":[{{"type":"calico"}}]}}' > /etc/cni/net.d/20-calico.conflist
echo '{{"name":"second","type":"bridge","bridge":"virbr0"}}' > /etc/cni/net.d/30-second.conf
iptables-legacy -w -t nat -N ADMIN
iptables-legacy -w -t nat -A POSTROUTING -s 10.80.0.0/24 -j ADMIN
"""
THEIRS_AWAY = """
ip rule del priority 3001
ip route del 10.81.0.0/16
ip link del virbr0
rm -rf /etc/cni/net.d/20-calico.conflist /etc/cni/net.d/30-second.conf /var/lib/cni/networks/second
iptables-legacy -w -t nat -D POSTROUTING -s 10.80.0.0/24 -j ADMIN
iptables-legacy -w -t nat -X ADMIN
"""


def _state(scene: Scene) -> list[str]:
    """Everything on the node that a clean-up could touch."""
    script = (
        "ip rule; iptables-legacy-save | grep -v '^[#:]'; iptables-legacy-save | grep '^:' | cut -d' ' -f1 | sort; "
        "find /etc/cni /run/flannel /var/lib/cni 2>/dev/null || true"
    )
    tables = [re.sub(r" \S+timer=\S+", "", line) for line in lasting(scene.tables(NODE))]  # a bridge's clocks tick
    return sorted([*tables, *scene.run(NODE, script).out.splitlines()])


def _plant(scene: Scene, text: str) -> None:
    nodes = {node.name: str(node.address.ip) for node in scene.topology.nodes}
    peer = next(address for name, address in nodes.items() if name != NODE)
    scene.run(NODE, text.format(own=nodes[NODE], peer=peer))


@contextmanager
def _theirs(scene: Scene) -> Iterator[list[str]]:
    """The node with what belongs to its owner; how it is then."""
    _plant(scene, THEIRS)
    try:
        yield _state(scene)
    finally:
        scene.run(NODE, THEIRS_AWAY)
        scene.run(NODE, "rmdir -p /etc/cni/net.d /var/lib/cni/networks 2>/dev/null || true")


@requirement(
    "TAKE-01",
    level="extended",
    scene="take-over",
    labs=LABS,
    modes=("vxlan",),
    needs=("take-over",),
    source="Calico: migration from flannel",
)
def test_what_another_cni_left_is_listed_and_then_removed_and_nothing_else(scene: Scene) -> None:
    """`node clean` lists what flannel, bridge and Docker left; with --yes exactly that is gone, and pods go on."""
    with _theirs(scene) as before, scene.flow("pod1", "pod3") as flow:
        _plant(scene, LEFT)
        planted = _state(scene)
        said = scene.ctl("node", "clean", node=NODE).out
        missing = [name for name in NAMES if name not in said]
        assert not missing, f"{NODE}: node clean does not list {', '.join(missing)}"
        claims.same_set(NODE, "tables and files after a listing", _state(scene), planted)
        scene.ctl("node", "clean", "--yes", node=NODE)
        claims.same_set(NODE, "tables and files after node clean --yes", _state(scene), before)
        assert "left" in scene.ctl("node", "clean", node=NODE).out
    assert flow.lost == 0, f"pod1 → pod3 while the node was cleaned: {flow}"


@requirement(
    "TAKE-02",
    level="extended",
    scene="take-over",
    labs=LABS,
    modes=("vxlan",),
    needs=("take-over",),
    source="Calico: migration from flannel",
)
def test_a_bridge_with_containers_on_it_is_kept(scene: Scene) -> None:
    """A bridge of another CNI that still carries a container is listed as in use, and kept."""
    scene.run(
        NODE, "ip link add cni0 type bridge; ip link add old0 type veth peer name old1; ip link set old0 master cni0"
    )
    try:
        said = scene.ctl("node", "clean", node=NODE).out
        assert "in use by old0" in said, f"{NODE}: node clean says: {said}"
        done = scene.ctl("node", "clean", "--yes", node=NODE, check=False)
        assert done.rc == 1, f"{NODE}: node clean --yes with something kept: exit code {done.rc}"
        assert "cni0" in scene.tables(NODE).links, f"{NODE}: cni0 is gone with a container on it"
    finally:
        scene.run(NODE, "ip link del old0; ip link del cni0 2>/dev/null || true")


@requirement(
    "TAKE-03",
    level="extended",
    scene="take-over",
    labs=LABS,
    modes=("vxlan",),
    needs=("take-over",),
    source="a node that nobody was on before",
)
def test_a_node_without_leftovers_has_none(scene: Scene) -> None:
    """On a node that only this system was on, `node clean` finds nothing, with all its pods and tunnels there."""
    for node in scene.live.node_names():
        before = scene.tables(node)
        said = scene.ctl("node", "clean", "--yes", node=node).out
        assert said.startswith("Nothing"), f"{node}: node clean says: {said}"
        claims.same_set(node, "tables", sorted(lasting(scene.tables(node))), sorted(lasting(before)))
