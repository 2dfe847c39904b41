"""Exact sets: what a node's kernel holds is what the lab and the allocations imply, and nothing beyond.

The cheapest strong witness there is: no packet has to show it, and nothing has to go wrong first.
"""

from tunlab.check import claims
from tunlab.check.cell import LabCell
from tunlab.check.requirement import IPIP_MODES, requirement

ALL = ("block-routes", "own-block-blackhole", "host-routes", "ipam-in-etcd")


@requirement("STATE-01", needs=ALL, source="calico facts, section 13")
def test_a_nodes_routes_are_exactly_those_implied(cell: LabCell) -> None:
    """A node's main table holds its own subnet, the default, its pods, its blocks' blackholes, and one route per
    remote block, with the right device, next hop, protocol and flags; nothing else."""
    late = f"; {cell.late}" if cell.late else ""
    for node, tables in cell.seen.tables.items():
        claims.same_set(node, f"routes{late}", tables.routes, cell.seen.oracle.routes(node))


@requirement("STATE-02", needs=("ipam-in-etcd",), source="calico facts, sections 3.1 and 4.1")
def test_a_nodes_addresses_are_exactly_those_implied(cell: LabCell) -> None:
    """A node has its own address, loopback's and its tunnel's; no address is on a pod's host device."""
    for node, tables in cell.seen.tables.items():
        claims.same_set(node, "addresses", tables.addresses, cell.seen.oracle.addresses(node))


@requirement("STATE-03", modes=(*IPIP_MODES, "none"), source="calico facts, section 3.1")
def test_no_vxlan_device_is_left_lying_about(cell: LabCell) -> None:
    """Outside the VXLAN modes a node has no VXLAN device, and so neither neighbours nor FDB entries of one."""
    for node, tables in cell.seen.tables.items():
        found = sorted(link.name for link in tables.links.values() if link.kind == "vxlan")
        assert not found, f"{node}: has {', '.join(found)}"


@requirement("STATE-04", needs=("ipam-in-etcd",), source="calico facts, section 2")
def test_every_allocation_belongs_to_somebody_who_uses_it(cell: LabCell) -> None:
    """The store's allocations are exactly the pods' and the tunnels' addresses, each once, in a block of its node."""
    ipam = cell.seen.oracle.ipam
    pods = {pod.address: pod.node for pod in cell.workloads.values()}
    tunnels = {address: node for node, address in ipam.tunnel_addresses.items()}
    claims.same_set("store", "allocations", set(ipam.allocations), {*pods, *tunnels})
    for address, node in {**pods, **tunnels}.items():
        own = ipam.blocks.get(node, frozenset())
        assert any(address in block for block in own), (
            f"{node}: {address} is in none of its blocks {sorted(map(str, own))}"
        )


@requirement("STATE-05", modes=IPIP_MODES, needs=("ipip",), source="calico facts, section 3.1")
def test_the_ipip_device_takes_packets_for_any_peer(cell: LabCell) -> None:
    """The IPIP device is one for all peers: it names neither a remote nor a local address of its own."""
    for node in cell.topology.nodes:
        link = cell.link(node.name, cell.seen.oracle.dialect.tunnel_devices["ipip"])
        ends = {link.attributes.get("remote", "any"), link.attributes.get("local", "any")} - {"any", "0.0.0.0"}
        assert (link.kind, ends) == ("ipip", set()), f"{node.name}: {link.name}: {link.kind} with {sorted(ends)}"
