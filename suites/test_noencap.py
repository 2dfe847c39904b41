"""No encapsulation: pods' packets as they are, from node to next hop, by routes that BGP brought."""

from tunlab.check import claims
from tunlab.check.cell import LabCell
from tunlab.check.requirement import IPIP_MODES, requirement
from tunlab.check.stimuli import HOSTS, LIMITS, PAIRS, START, uplink_taps
from tunlab.lab.topology import UPLINK, BgpPeer, Node
from tunlab.oracle.where import has_bare_pair, has_reaching_pair, has_two_nodes
from tunlab.wire.bgp import opens
from tunlab.wire.decode import VXLAN_PORT

STACK = "eth ip icmp"
BGP_PORT = 179
AS_NUMBER = 64512


@requirement("NONE-01", modes=("none",), where=has_bare_pair, source="tutorial T1, 6")
def test_pod_packets_cross_every_wire_as_they_are(cell: LabCell) -> None:
    """On every wire a pod's packet is Ethernet, IP, ICMP, from pod to pod: request and reply, for every pair."""
    for crossing in cell.crossings("none"):
        for passage in crossing.passages():
            cell.frames_of(passage).single(f"{crossing.source} → {crossing.target}").each(
                stack=STACK,
                outer__source=str(cell.workloads[crossing.source].address),
                outer__destination=str(cell.workloads[crossing.target].address),
            )


@requirement("NONE-02", modes=("none",), where=has_bare_pair, source="tutorial T1, 6")
def test_frames_go_from_the_nodes_nic_to_the_next_hops(cell: LabCell) -> None:
    """The source MAC is the sending node's NIC, the destination MAC the next hop's: the peer where it is on-link."""
    for crossing in cell.crossings("none"):
        leaving = crossing.passages()[0]
        cell.frames_of(leaving).single("the packet leaves its node").each(
            ethernet__source=cell.topology.mac(crossing.source_node, UPLINK),
            ethernet__destination=cell.topology.next_hop_mac(crossing.source_node, crossing.target_node),
        )
        last = crossing.passages()[-1]
        cell.frames_of(last).single("the packet reaches its node").each(
            ethernet__destination=cell.topology.mac(crossing.target_node, UPLINK)
        )


@requirement("NONE-03", modes=("none",), needs=("block-routes",), where=has_two_nodes, source="tutorial T1, 5")
def test_each_remote_block_has_a_route_via_its_next_hop_on_the_uplink(cell: LabCell) -> None:
    """Every block of another node has one route, via that node where it is on-link, else via the gateway."""
    for node, tables in cell.seen.tables.items():
        blocks = {str(b) for owner, own in cell.seen.oracle.ipam.blocks.items() if owner != node for b in own}
        seen = {route for route in tables.routes if route.destination in blocks}
        claims.same_set(node, "block routes", seen, cell.seen.oracle.block_routes(node))


@requirement("NONE-04", modes=("none",), where=has_two_nodes, source="tutorial T1, 5")
def test_nothing_on_any_wire_is_encapsulated(cell: LabCell) -> None:
    """Neither IP protocol 4 nor UDP to a VXLAN port is on any wire, from before the system starts to the end."""
    ports = {VXLAN_PORT, cell.seen.oracle.dialect.vxlan_port}
    elsewhere = "past a router that nobody needs nothing comes at all"
    witness = cell.seen.capture.window(HOSTS).with_stack(STACK)
    for window in (START, PAIRS, HOSTS, LIMITS):
        for tap in uplink_taps(cell.topology):
            seen = cell.seen.capture.window(window).on(tap)
            seen.where("IP protocol 4", lambda frame: any(ip.protocol == 4 for ip in frame.ips)).none(
                "a packet in IPIP", witness=witness, elsewhere=elsewhere
            )
            seen.where(
                f"UDP port {' or '.join(map(str, sorted(ports)))}",
                lambda frame: any(claims.uses_port(frame, port) for port in ports),
            ).none("VXLAN", witness=witness, elsewhere=elsewhere)


@requirement("NONE-05", modes=("none",), source="tutorial T3: no tunl0 on the nodes")
def test_no_tunnel_device_is_in_use(cell: LabCell) -> None:
    """No tunnel device has an address or a route or is up; what a kernel module leaves lying about does not count."""
    tunnels = set(cell.seen.oracle.dialect.tunnel_devices.values()) | {"tunl0", "vxlan.calico"}
    for node, tables in cell.seen.tables.items():
        for device in sorted(tunnels & set(tables.links)):
            assert not tables.links[device].is_up, f"{node}: {device} is up"
            assert not tables.addresses_on(device), f"{node}: {device} has {sorted(tables.addresses_on(device))}"
        routes = [str(route) for route in tables.routes if route.device in tunnels]
        assert not routes, f"{node}: routes through a tunnel device: {'; '.join(routes)}"


@requirement("NONE-06", modes=("none",), where=has_bare_pair, source="RFC 791, RFC 1812 section 5.3.1")
def test_the_ttl_falls_at_nodes_and_routers_alone(cell: LabCell) -> None:
    """The TTL falls by one at the sending node, at each router and at the receiving node."""
    for crossing in cell.crossings("none"):
        for passage in crossing.passages():
            cell.frames_of(passage).single("the packet").each(outer__ttl=63 - passage.routers_passed)
        routers = max(passage.routers_passed for passage in crossing.passages())
        pod = cell.seen.capture.window(PAIRS).on(f"{crossing.target}/eth0").going("in")
        pod.echo(crossing.echo.identifier).of_kind(crossing.kind).single("the packet at the pod").each(
            outer__ttl=62 - routers
        )


@requirement("BGP-01", modes=(*IPIP_MODES, "none"), needs=("bgp",), where=has_two_nodes, source="RFC 4271, 4.2, 8.2")
def test_every_pair_of_nodes_opens_a_bgp_session(cell: LabCell) -> None:
    """Each two nodes, and each node and each peer that the lab names, send each other an OPEN with AS and router id."""
    messages = opens(cell.seen.capture)
    nodes = cell.topology.nodes
    numbers = {str(peer.peer_ip): peer.as_number for peer in cell.topology.bgp_peers}
    talks = [(a, str(a.address.ip), str(b.address.ip)) for a in nodes for b in nodes if a != b]
    talks += [(a, *ends) for a in nodes for peer in cell.topology.bgp_peers for ends in _both_ways(a, peer)]
    for node, source, destination in talks:
        said = [
            one
            for one in messages
            if (one.frame.tap, one.frame.window) == (f"{node.name}/{UPLINK}", START)
            and (one.frame.outer.source, one.frame.outer.destination) == (source, destination)
        ]
        assert said, f"{node.name}/{UPLINK}: no OPEN from {source} to {destination} while the system started"
        for one in said:
            seen = (one.open.autonomous_system, one.open.router_id)
            assert claims.uses_port(one.frame, BGP_PORT), f"{one.frame.where}: an OPEN beside port {BGP_PORT}"
            wanted = (numbers.get(source, AS_NUMBER), source)
            assert seen == wanted, f"{one.frame.where}: bgp.open: seen {seen}, wanted {wanted}"


def _both_ways(node: Node, peer: BgpPeer) -> list[tuple[str, str]]:
    ends = (str(node.address.ip), str(peer.peer_ip))
    return [ends, ends[::-1]]


@requirement("BGP-02", modes=(*IPIP_MODES, "none"), needs=("bgp",), where=has_reaching_pair, source="RFC 4271, 8")
def test_the_handshake_goes_between_node_addresses_alone(cell: LabCell) -> None:
    """BGP is opened by a SYN to port 179, answered by SYN and ACK, between addresses of nodes and routers alone."""
    hosts = [host for host in cell.topology.hosts if host is not cell.topology.store]
    ends = [each for host in hosts for each in host.attachments]
    own = {str(each.address.ip) for each in ends} | {str(each.address6.ip) for each in ends if each.address6}
    start = cell.seen.capture.window(START)
    for node in cell.topology.nodes:
        spoken = start.on(f"{node.name}/{UPLINK}").where(
            "TCP port 179", lambda frame: claims.uses_port(frame, BGP_PORT)
        )
        spoken.matching(tcp__flags="S", tcp__destination_port=BGP_PORT).some(f"{node.name} sees a SYN")
        spoken.matching(tcp__flags="SA", tcp__source_port=BGP_PORT).some(f"{node.name} sees it answered")
        for frame in spoken.frames:
            strangers = {frame.outer.source, frame.outer.destination} - own
            assert not strangers, (
                f"{frame.where}: outer: seen {sorted(strangers)}, wanted addresses of nodes and routers"
            )
