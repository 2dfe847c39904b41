"""VXLAN on the wire and in the tables: which MAC the inner frame carries, and which host that MAC stands for."""

from functools import partial

from tunlab.check import claims
from tunlab.check.cell import LabCell
from tunlab.check.requirement import VXLAN_MODES, requirement
from tunlab.check.stimuli import HOSTS, PAIRS, START, uplink_taps
from tunlab.errors import WorldError
from tunlab.oracle.network import OVERHEAD_BYTES, vtep_mac
from tunlab.oracle.where import has_both, has_reaching_pair, has_tunnelled_pair

STACK = "eth ip udp vxlan eth ip icmp"
UDP = 17
VNI_IS_VALID = 0x08
BGP_PORT = 179
DEFAULT_TTL = 64


@requirement("VXLAN-01", modes=VXLAN_MODES, needs=("vxlan",), where=has_tunnelled_pair, source="RFC 7348 section 5")
def test_pod_packets_cross_every_wire_as_frames_in_vxlan(cell: LabCell) -> None:
    """On every wire between two nodes a pod's packet is Ethernet, IP, UDP, VXLAN, Ethernet, IP, ICMP, both ways."""
    for crossing in cell.crossings("vxlan"):
        for passage in crossing.passages():
            cell.frames_of(passage).single(f"{crossing.source} → {crossing.target}").each(stack=STACK)


@requirement("VXLAN-02", modes=VXLAN_MODES, needs=("vxlan",), where=has_tunnelled_pair, source="RFC 7348 section 5")
def test_the_outer_headers_name_nodes_port_and_vni(cell: LabCell) -> None:
    """The outer addresses are the nodes', the UDP port 4789, the VNI 4096 and marked valid; inside are the pods'."""
    dialect = cell.seen.oracle.dialect
    for crossing in cell.crossings("vxlan"):
        for passage in crossing.passages():
            cell.frames_of(passage).with_stack(STACK).single("the packet in VXLAN").each(
                outer__source=str(cell.seen.oracle.node_ip(crossing.source_node)),
                outer__destination=str(cell.seen.oracle.node_ip(crossing.target_node)),
                outer__protocol=UDP,
                udp__destination_port=dialect.vxlan_port,
                vxlan__vni=dialect.vxlan_id,
                vxlan__flags=VNI_IS_VALID,
                vxlan__reserved=0,
                inner__source=str(cell.workloads[crossing.source].address),
                inner__destination=str(cell.workloads[crossing.target].address),
            )


@requirement("VXLAN-03", modes=VXLAN_MODES, needs=("vxlan",), where=has_tunnelled_pair, source="RFC 1812, 5.3.1")
def test_the_outer_ttl_is_the_nodes_own_and_falls_per_router(cell: LabCell) -> None:
    """The outer TTL begins at the node's default of 64 and falls by one per router; the inner one stays."""
    for crossing in cell.crossings("vxlan"):
        for passage in crossing.passages():
            cell.frames_of(passage).with_stack(STACK).single("the packet in VXLAN").each(
                outer__ttl=DEFAULT_TTL - passage.routers_passed, inner__ttl=63
            )
        pod = cell.seen.capture.window(PAIRS).on(f"{crossing.target}/eth0").going("in")
        pod.echo(crossing.echo.identifier).of_kind(crossing.kind).single("the packet at the pod").each(outer__ttl=62)


@requirement("VXLAN-04", modes=VXLAN_MODES, needs=("vxlan",), where=has_tunnelled_pair, source="tutorial T4, 2")
def test_the_inner_macs_are_those_of_the_two_vteps(cell: LabCell) -> None:
    """The inner source MAC is the local VTEP's; the inner destination MAC is what the neighbour table says of the
    remote tunnel address."""
    device = cell.seen.oracle.dialect.tunnel_devices["vxlan"]
    for crossing in cell.crossings("vxlan"):
        tables = cell.seen.tables[crossing.source_node]
        remote = cell.tunnel_address(crossing.target_node)
        macs = [one.mac for one in tables.neighbours if (one.address, one.device) == (remote, device)]
        assert len(macs) == 1, (
            f"{crossing.source_node}: {len(macs)} neighbour entries for {remote} on {device}, wanted 1"
        )
        for passage in crossing.passages():
            cell.frames_of(passage).with_stack(STACK).single("the packet in VXLAN").each(
                inner_ethernet__source=cell.link(crossing.source_node, device).mac, inner_ethernet__destination=macs[0]
            )


@requirement("VXLAN-05", modes=VXLAN_MODES, needs=("vxlan",), where=has_tunnelled_pair, source="tutorial T4, 2")
def test_the_fdb_entry_of_the_inner_mac_names_the_outer_destination(cell: LabCell) -> None:
    """The outer destination is what the FDB says of the inner destination MAC, in one permanent entry."""
    device = cell.seen.oracle.dialect.tunnel_devices["vxlan"]
    for crossing in cell.crossings("vxlan"):
        frame = cell.frames_of(crossing.passages()[0]).with_stack(STACK).first("the packet in VXLAN")
        mac = frame.ethernets[1].destination
        entries = [one for one in cell.seen.tables[crossing.source_node].fdb if (one.mac, one.device) == (mac, device)]
        assert [(one.destination, one.is_permanent) for one in entries] == [(frame.outer.destination, True)], (
            f"{frame.where}: outer.destination: seen {frame.outer.destination}, "
            f"wanted what the FDB says of {mac}: {[str(one) for one in entries]}"
        )


@requirement("VXLAN-06", modes=VXLAN_MODES, needs=("vxlan", "ipam-in-etcd"), source="Calico: vxlanfdb")
def test_there_is_exactly_one_neighbour_and_fdb_entry_per_remote_vtep(cell: LabCell) -> None:
    """On its VXLAN device a node holds one permanent neighbour and one permanent FDB entry per other node, no more."""
    device = cell.seen.oracle.dialect.tunnel_devices["vxlan"]
    for node, tables in cell.seen.tables.items():
        neighbours = {one for one in tables.neighbours if one.device == device}
        claims.same_set(node, "neighbours", neighbours, cell.seen.oracle.vtep_neighbours(node))
        fdb = {one for one in tables.fdb if one.device == device}
        claims.same_set(node, "FDB", fdb, cell.seen.oracle.vtep_fdb(node))


@requirement("VXLAN-07", modes=VXLAN_MODES, needs=("vxlan",), source="Calico: nolearning")
def test_the_vxlan_device_learns_nothing(cell: LabCell) -> None:
    """Learning is off on the VXLAN device, and its FDB holds permanent entries alone."""
    device = cell.seen.oracle.dialect.tunnel_devices["vxlan"]
    for node, tables in cell.seen.tables.items():
        learning = cell.link(node, device).attributes.get("learning", True)
        assert learning is False, f"{node}: {device}: learning is on"
        learned = [str(one) for one in tables.fdb if one.device == device and not one.is_permanent]
        assert not learned, f"{node}: {device}: learned {', '.join(learned)}"


@requirement("VXLAN-08", modes=VXLAN_MODES, needs=("vxlan",), where=has_reaching_pair, source="tutorial T5, 4")
def test_nobody_asks_for_pod_or_tunnel_addresses_on_a_wire(cell: LabCell) -> None:
    """With all neighbours forgotten beforehand, no ARP for a pod or tunnel address is on any wire, nor in a tunnel."""
    pools = [pool.cidr for pool in cell.topology.pools]
    for tap in uplink_taps(cell.topology):
        witness = cell.seen.capture.window(PAIRS).on(tap).with_stack("eth arp")
        for window in (PAIRS, HOSTS):
            seen = cell.seen.capture.window(window).on(tap)
            for pool in pools:
                asks = seen.where(f"ARP for an address of {pool}", partial(claims.asks_within, pool=pool))
                asks.none("ARP for a pod or tunnel address", witness=witness)


@requirement(
    "VXLAN-09",
    modes=VXLAN_MODES,
    needs=("vxlan", "vtep-mac-by-name"),
    source="Calico: vxlan_resolver, 66 and SHA-1 of the name",
)
def test_the_vtep_mac_follows_from_the_nodes_name(cell: LabCell) -> None:
    """The VXLAN device's MAC is a stable function of the node's name."""
    for node in cell.topology.nodes:
        link = cell.link(node.name, cell.seen.oracle.dialect.tunnel_devices["vxlan"])
        assert link.mac == vtep_mac(node.name), f"{node.name}: {link.name}: {link.mac}, wanted {vtep_mac(node.name)}"


@requirement("VXLAN-10", modes=VXLAN_MODES, needs=("vxlan",), source="RFC 7348 section 4.3")
def test_the_vxlan_device_is_as_agreed(cell: LabCell) -> None:
    """The VXLAN device is up, has the uplink's MTU less 50 bytes, the agreed VNI and port, and its node's address."""
    dialect = cell.seen.oracle.dialect
    for node in cell.topology.nodes:
        link = cell.link(node.name, dialect.tunnel_devices["vxlan"])
        seen = {
            "up": link.is_up,
            "kind": link.kind,
            "mtu": link.mtu_bytes,
            "id": link.attributes.get("id"),
            "port": link.attributes.get("port"),
            "local": link.attributes.get("local"),
        }
        wanted = {
            "up": True,
            "kind": "vxlan",
            "mtu": cell.topology.uplink_mtu(node.name) - OVERHEAD_BYTES["vxlan"],
            "id": dialect.vxlan_id,
            "port": dialect.vxlan_port,
            "local": str(node.address.ip),
        }
        assert seen == wanted, f"{node.name}: {link.name}: seen {seen}, wanted {wanted}"


@requirement("VXLAN-11", modes=("vxlan-crosssubnet",), needs=("vxlan",), where=has_both, source="Calico: CrossSubnet")
def test_crosssubnet_encapsulates_only_what_crosses_a_subnet_border(cell: LabCell) -> None:
    """In one run, pairs on one subnet are bare on the wire, and pairs across a router are in VXLAN."""
    claims.only_border_crossers_are_encapsulated(cell, "vxlan", STACK)


@requirement(
    "VXLAN-12",
    modes=VXLAN_MODES,
    needs=("vxlan", "no-bgp-in-vxlan"),
    source="calico-vxlan manifest: no bird, no confd",
)
def test_there_is_no_bgp_speaker(cell: LabCell) -> None:
    """No node runs a BGP speaker, nobody listens on port 179, and no segment of BGP is on any wire."""
    for node in cell.topology.nodes:
        # Not `host.process`: it asks for start times, which ps cannot tell in a user-mode kernel.
        running = set(claims.said(cell, node.name, "ps -e -o comm=").split())
        if "ps" not in running:
            raise WorldError(f"{node.name}: ps does not even see itself: {sorted(running)}")
        found = sorted(running & {"bird", "bird6", "gobgpd", "bgpd"})
        assert not found, f"{node.name}: runs {', '.join(found)}"
        listening = claims.said(cell, node.name, f"ss -Hltn sport = :{BGP_PORT}").strip()
        assert not listening, f"{node.name}: somebody listens on {BGP_PORT}: {' '.join(listening.split())}"
    for window in (START, PAIRS):
        seen = cell.seen.capture.window(window)
        for tap in uplink_taps(cell.topology):
            spoken = seen.on(tap).where("TCP port 179", lambda frame: claims.uses_port(frame, BGP_PORT))
            spoken.none(
                "BGP",
                witness=cell.seen.capture.window(PAIRS),
                elsewhere="a lab may have nothing to say on a wire while it starts",
            )


@requirement("VXLAN-13", modes=VXLAN_MODES, needs=("vxlan", "ipam-in-etcd"), source="Calico: ipv4VXLANTunnelAddr")
def test_the_tunnel_address_is_from_the_nodes_own_block(cell: LabCell) -> None:
    """The VXLAN device has one address, a /32 from one of its node's own blocks, and the store knows it as that."""
    claims.tunnel_addresses_are_from_own_blocks(cell)


@requirement("VXLAN-14", modes=VXLAN_MODES, needs=("vxlan",), where=has_tunnelled_pair, source="RFC 7348 section 5")
def test_no_pod_packet_is_bare_on_a_wire(cell: LabCell) -> None:
    """No packet between pods that belong into the tunnel is seen on any wire without it."""
    claims.nothing_is_bare_on_a_wire(cell, "vxlan")
