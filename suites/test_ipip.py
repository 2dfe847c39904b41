"""IPIP on the wire: one IP header around another, and what each of them says at each hop."""

from tunlab.check import claims
from tunlab.check.cell import LabCell
from tunlab.check.requirement import IPIP_MODES, requirement
from tunlab.check.stimuli import PAIRS
from tunlab.oracle.network import OVERHEAD_BYTES
from tunlab.oracle.where import has_both, has_tunnelled_pair

STACK = "eth ip ip icmp"
IPIP = 4


@requirement("IPIP-01", modes=IPIP_MODES, needs=("ipip",), where=has_tunnelled_pair, source="RFC 2003 section 3")
def test_pod_packets_cross_every_wire_inside_one_ip_packet(cell: LabCell) -> None:
    """On every wire between two nodes a pod's packet is Ethernet, IP, IP, ICMP: request and reply, for every pair."""
    for crossing in cell.crossings("ipip"):
        for passage in crossing.passages():
            cell.frames_of(passage).single(f"{crossing.source} → {crossing.target}").each(stack=STACK)


@requirement("IPIP-02", modes=IPIP_MODES, needs=("ipip",), where=has_tunnelled_pair, source="RFC 2003 section 3.1")
def test_the_outer_addresses_are_the_nodes_and_the_inner_the_pods(cell: LabCell) -> None:
    """The outer header goes from node to node with protocol 4, the inner one from pod to pod, at every hop."""
    for crossing in cell.crossings("ipip"):
        for passage in crossing.passages():
            cell.frames_of(passage).with_stack(STACK).single("the packet in IPIP").each(
                outer__source=str(cell.seen.oracle.node_ip(crossing.source_node)),
                outer__destination=str(cell.seen.oracle.node_ip(crossing.target_node)),
                outer__protocol=IPIP,
                inner__source=str(cell.workloads[crossing.source].address),
                inner__destination=str(cell.workloads[crossing.target].address),
            )


@requirement("IPIP-03", modes=IPIP_MODES, needs=("ipip",), where=has_tunnelled_pair, source="RFC 2003 section 3.1")
def test_each_router_lowers_the_outer_ttl_and_leaves_the_inner_alone(cell: LabCell) -> None:
    """The outer TTL begins as a copy of the inner one and falls by one per router; the inner one falls at the nodes."""
    for crossing in cell.crossings("ipip"):
        for passage in crossing.passages():
            cell.frames_of(passage).with_stack(STACK).single("the packet in IPIP").each(
                outer__ttl=63 - passage.routers_passed, inner__ttl=63
            )
        pod = cell.seen.capture.window(PAIRS).on(f"{crossing.target}/eth0").going("in")
        pod.echo(crossing.echo.identifier).of_kind(crossing.kind).single("the packet at the pod").each(outer__ttl=62)


@requirement("IPIP-04", modes=IPIP_MODES, needs=("ipip",), where=has_tunnelled_pair, source="RFC 2003 section 3")
def test_nothing_is_encapsulated_twice(cell: LabCell) -> None:
    """No frame on any wire has more than two IP headers."""
    for crossing in cell.crossings("ipip"):
        for passage in crossing.passages():
            on_tap = cell.seen.capture.window(PAIRS).on(passage.tap)
            on_tap.where("more than two IP headers", lambda frame: len(frame.ips) > 2).none(
                "a packet in two tunnels", witness=cell.frames_of(passage)
            )


@requirement("IPIP-05", modes=IPIP_MODES, needs=("ipip",), where=has_tunnelled_pair, source="tutorial T4: at tunl0")
def test_a_packet_is_bare_between_its_pod_and_the_tunnel_device(cell: LabCell) -> None:
    """At the pod and at the tunnel device there is one IP header, the pods' own."""
    device = cell.seen.oracle.tunnel_device
    window = cell.seen.capture.window(PAIRS)
    for crossing in cell.crossings("ipip"):
        packet = window.echo(crossing.echo.identifier).of_kind(crossing.kind)
        pods = {
            "outer__source": str(cell.workloads[crossing.source].address),
            "outer__destination": str(cell.workloads[crossing.target].address),
        }
        packet.on(f"{crossing.source}/eth0").going("out").single("it leaves its pod").each(stack="eth ip icmp", **pods)
        packet.on(f"{crossing.source_node}/{device}").going("out").single("it enters the tunnel").each(
            stack="ip icmp", **pods
        )
        packet.on(f"{crossing.target_node}/{device}").going("in").single("it leaves the tunnel").each(
            stack="ip icmp", **pods
        )
        packet.on(f"{crossing.target}/eth0").going("in").single("it reaches the pod").each(stack="eth ip icmp", **pods)


@requirement("IPIP-06", modes=IPIP_MODES, needs=("ipip",), source="Calico: host MTU less 20")
def test_the_tunnel_device_leaves_room_for_the_outer_header(cell: LabCell) -> None:
    """The tunnel device's MTU is the uplink's less 20 bytes, and the device is up."""
    for node in cell.topology.nodes:
        link = cell.link(node.name, cell.seen.oracle.tunnel_device)
        wanted = cell.topology.uplink_mtu(node.name) - OVERHEAD_BYTES["ipip"]
        assert link.mtu_bytes == wanted, f"{node.name}: {link.name}: mtu {link.mtu_bytes}, wanted {wanted}"
        assert link.is_up, f"{node.name}: {link.name} is down"


@requirement("IPIP-07", modes=IPIP_MODES, needs=("ipip", "ipam-in-etcd"), source="Calico: ipv4IPIPTunnelAddr")
def test_the_tunnel_address_is_from_the_nodes_own_block(cell: LabCell) -> None:
    """The tunnel device has one address, a /32 from one of its node's own blocks, and the store knows it as that."""
    claims.tunnel_addresses_are_from_own_blocks(cell)


@requirement("IPIP-08", modes=("ipip-crosssubnet",), needs=("ipip",), where=has_both, source="Calico: CrossSubnet")
def test_crosssubnet_encapsulates_only_what_crosses_a_subnet_border(cell: LabCell) -> None:
    """In one run, pairs on one subnet are bare on the wire, and pairs across a router are in IPIP."""
    claims.only_border_crossers_are_encapsulated(cell, "ipip", STACK)


@requirement("IPIP-09", modes=IPIP_MODES, needs=("ipip",), where=has_tunnelled_pair, source="RFC 2003 section 3")
def test_no_pod_packet_is_bare_on_a_wire(cell: LabCell) -> None:
    """No packet between pods that belong into the tunnel is seen on any wire without it."""
    claims.nothing_is_bare_on_a_wire(cell, "ipip")
