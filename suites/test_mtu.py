"""The largest packet that fits, and what becomes of one byte more."""

from tunlab.check import claims
from tunlab.check.cell import LabCell
from tunlab.check.history import pool_in
from tunlab.check.requirement import requirement
from tunlab.check.scene import Scene
from tunlab.check.stimuli import BIG_POD, IP_AND_ICMP_BYTES, LIMITS, Echo
from tunlab.errors import WorldError
from tunlab.oracle.where import has_reaching_pair, has_tunnelled_pair


def _limits(cell: LabCell, *, fits: bool) -> list[Echo]:
    found = [echo for echo in cell.seen.stimuli.limits if echo.fits == fits]
    if not found:
        raise WorldError(f"{cell.name}: no pair was asked at its limit")
    return found


@requirement("MTU-01", where=has_reaching_pair, source="RFC 1191")
def test_a_packet_of_exactly_the_mtu_passes(cell: LabCell) -> None:
    """An echo that may not be fragmented and is exactly as large as the smallest MTU on its way is answered."""
    for echo in _limits(cell, fits=True):
        seen = cell.seen.result(echo)
        assert seen["outcome"] == "answered", (
            f"{echo.source} → {echo.target}: {echo.size + IP_AND_ICMP_BYTES} bytes: {seen['outcome']}, wanted an answer"
        )


@requirement("MTU-02", where=has_reaching_pair, source="RFC 1191; ip(7), EMSGSIZE")
def test_one_byte_more_is_refused_in_the_pod_itself(cell: LabCell) -> None:
    """One byte more than the pods' MTU gets EMSGSIZE from the pod's own kernel, and no frame leaves the pod."""
    for echo in _limits(cell, fits=False):
        seen = cell.seen.result(echo)
        wanted = ("too_big", True, cell.seen.oracle.mtu_bytes(cell.workloads[echo.source].node))
        told = (seen["outcome"], seen.get("local"), seen.get("mtu"))
        assert told == wanted, f"{echo.source} → {echo.target}: {echo.size} bytes: seen {told}, wanted {wanted}"
        pod = cell.seen.capture.window(LIMITS).on(f"{echo.source}/eth0")
        fitting = next(one.identifier for one in _limits(cell, fits=True) if one.source == echo.source)
        witness = pod.echo(fitting)
        pod.echo(echo.identifier).none("the packet that is too big", witness=witness)


@requirement("MTU-03", needs=("mtu-setting",), where=has_tunnelled_pair, source="RFC 1191 section 4, RFC 792")
def test_the_node_tells_a_larger_pod_what_fits_the_tunnel(cell: LabCell) -> None:
    """To a pod that has the uplink's MTU its node answers one byte too much with ICMP 3/4 and the tunnel's MTU."""
    assert BIG_POD not in cell.seen.refused, f"{BIG_POD}: {cell.seen.refused.get(BIG_POD)}"
    mtu_bytes, told = cell.seen.oracle.mtu_bytes(cell.topology.nodes[0].name), 0
    for echo in cell.seen.big_pod_echoes:
        seen = cell.seen.result(echo)
        if echo.fits:
            assert seen["outcome"] == "answered", f"{echo.source} → {echo.target}: {echo.size} bytes: {seen['outcome']}"
            continue
        wanted = ("too_big", False, mtu_bytes)
        got = (seen["outcome"], seen.get("local"), seen.get("mtu"))
        assert got == wanted, f"{echo.source} → {echo.target}: {echo.size} bytes: seen {got}, wanted {wanted}"
        icmp = cell.seen.capture.window(LIMITS).on(f"{BIG_POD}/eth0").going("in").with_stack("eth ip icmp")
        icmp.matching(icmp__kind=3, icmp__code=4).some("the node's ICMP").each(icmp__mtu=mtu_bytes)
        told += 1
    if not told:
        raise WorldError(f"{cell.name}: {BIG_POD} was asked to send nothing too big")


@requirement("MTU-04", source="Calico: host MTU less the encapsulation's overhead, /var/lib/calico/mtu")
def test_both_ends_of_a_pods_cable_have_the_tunnels_mtu(cell: LabCell) -> None:
    """Both ends of a pod's veth have the uplink's MTU less what the mode's encapsulation adds."""
    for pod in cell.workloads.values():
        wanted = cell.seen.oracle.mtu_bytes(pod.node)
        inside = claims.link_in(cell, pod.name, "eth0").mtu_bytes
        outside = cell.link(pod.node, pod.host_device).mtu_bytes
        assert (inside, outside) == (wanted, wanted), (
            f"{pod.name}: eth0 has mtu {inside}, {pod.node}/{pod.host_device} {outside}, wanted {wanted}"
        )


NODE, FAR_NODE = "node1", "node3"
ROOM = ("mtu-follows", "agent")


def _tunnel_bytes(scene: Scene, node: str) -> int:
    device = scene.live.installation.recipe.dialect.tunnel_devices["vxlan"]
    link = scene.tables(node).links.get(device)
    return link.mtu_bytes if link else 0


def _has(scene: Scene, node: str, wanted_bytes: int) -> None:
    """The node's tunnel has this MTU soon, and a pod made then has it at both ends."""
    scene.eventually(
        lambda: _tunnel_bytes(scene, node), lambda seen: seen == wanted_bytes, within_s=5, what=f"{node}: tunnel's MTU"
    )
    _pod_has(scene, node, wanted_bytes)


def _pod_has(scene: Scene, node: str, wanted_bytes: int) -> None:
    with scene.pod("fresh", node=node) as pod:
        inside = scene.tables(pod.name).links["eth0"].mtu_bytes
        outside = scene.tables(node).links[pod.host_device].mtu_bytes
    assert (inside, outside) == (wanted_bytes, wanted_bytes), (
        f"{node}: a pod made now has {inside} inside and {outside} outside, wanted {wanted_bytes}"
    )


@requirement(
    "MTU-05", level="extended", scene="mtu", labs=("mixed",), modes=("vxlan",), needs=ROOM, source="facts, section 10"
)
def test_tunnel_and_new_pods_follow_the_uplink(scene: Scene) -> None:
    """When a node's uplink gets another MTU, its tunnel and the pods made from then on have that less the overhead."""
    scene.run(NODE, "ip link set eth0 mtu 1400")
    try:
        _has(scene, NODE, 1350)
    finally:
        scene.run(NODE, "ip link set eth0 mtu 1500")
    _has(scene, NODE, 1450)


@requirement(
    "MTU-06", level="extended", scene="mtu", labs=("mixed",), modes=("vxlan",), needs=ROOM,
    source="Calico: FelixConfiguration vxlanMTU; facts, sections 9.5 and 10",
)  # fmt: skip
def test_a_setting_wins_over_the_uplink(scene: Scene) -> None:
    """FelixConfiguration's vxlanMTU is the tunnel's and the pods' on every node; the object of one node wins there."""
    with scene.applied("fixtures/manifests/switch/felix-mtu.yaml"):
        _has(scene, NODE, 1300)
        _has(scene, FAR_NODE, 1200)
        scene.settle([scene.question("pod1", "pod4"), scene.question("pod4", "pod1")], within_s=5)
    for node in (NODE, FAR_NODE):
        _has(scene, node, 1450)


@requirement(
    "MTU-07", level="extended", scene="mtu", labs=("mixed",), modes=("vxlan",), needs=ROOM,
    source="Calico: configuring Felix, environment variables win; facts, section 8.3",
)  # fmt: skip
def test_a_variable_wins_over_every_object(scene: Scene) -> None:
    """FELIX_VXLANMTU in an agent's environment wins over every FelixConfiguration."""
    with scene.applied("fixtures/manifests/switch/felix-mtu.yaml"):
        scene.kill_agent(NODE)
        scene.start_agent(NODE, env={"FELIX_VXLANMTU": "1250"})
        _has(scene, NODE, 1250)
    scene.restart(NODE)
    for node in (NODE, FAR_NODE):
        _has(scene, node, 1450)


@requirement(
    "MTU-08", level="extended", scene="mtu-switch", labs=("mixed",), modes=("vxlan",), visits=("none",), needs=ROOM,
    source="facts, section 10: existing pods keep theirs until they are made anew",
)  # fmt: skip
def test_a_new_mode_gives_new_pods_its_mtu(scene: Scene) -> None:
    """After a switch to an unencapsulated pool new pods have the uplink's whole MTU, and those from before theirs."""
    with scene.applied(pool_in(scene.topology, "none")):
        scene.eventually(lambda: _tunnel_bytes(scene, NODE), lambda seen: seen == 0, within_s=5, what="no tunnel")
        _pod_has(scene, NODE, 1500)
        kept = scene.tables("pod1").links["eth0"].mtu_bytes
        assert kept == 1450, f"pod1: has {kept}, was made with 1450"
    _has(scene, NODE, 1450)
