"""A pod's only cable: what both of its ends say of each other, and how the pod's packets find their way into it."""

from tunlab.check import claims
from tunlab.check.cell import LabCell
from tunlab.check.requirement import requirement
from tunlab.check.stimuli import GATEWAY
from tunlab.node.tables import read_tables

HOST_MAC = "ee:ee:ee:ee:ee:ee"


def _peer_ifindex(cell: LabCell, place: str, device: str) -> int:
    """What `ethtool -S` calls peer_ifindex: the index of the cable's other end, in the namespace that holds it."""
    text = claims.said(cell, place, f"ethtool -S {device}")
    values = [line.partition(":")[2] for line in text.splitlines() if line.strip().startswith("peer_ifindex:")]
    assert len(values) == 1, f"{place}: ethtool -S {device}: {len(values)} lines with peer_ifindex, wanted 1"
    return int(values[0])


@requirement("VETH-01", source="tutorial T1, 3: ethtool -S eth0")
def test_each_end_of_a_pods_cable_names_the_other(cell: LabCell) -> None:
    """`ethtool -S eth0` in the pod gives the index of its host device, and the reverse holds too."""
    prefix = cell.seen.oracle.dialect.host_device_prefix
    for pod in cell.workloads.values():
        tables = read_tables(cell.host(pod.node), pod.node)
        by_index = {link.index: link.name for link in tables.links.values()}
        named = by_index.get(_peer_ifindex(cell, pod.name, "eth0"))
        assert named == pod.host_device, f"{pod.name}: eth0's peer is {named}, wanted {pod.host_device} on {pod.node}"
        back = _peer_ifindex(cell, pod.node, pod.host_device)
        wanted = claims.link_in(cell, pod.name, "eth0").index
        assert back == wanted, (
            f"{pod.node}: {pod.host_device}'s peer_ifindex is {back}, wanted {wanted}, {pod.name}'s eth0"
        )
        assert named.startswith(prefix), f"{pod.node}: {named}: wanted a name that begins with {prefix}"


@requirement("VETH-02", needs=("host-routes",), source="tutorial T1, 2")
def test_the_pods_route_on_its_node_points_at_its_device(cell: LabCell) -> None:
    """A pod's node has one route for exactly the pod's address, and it points at the pod's host device."""
    for pod in cell.workloads.values():
        routes = [route for route in cell.seen.tables[pod.node].routes if route.destination == str(pod.address)]
        devices = [route.device for route in routes]
        assert devices == [pod.host_device], f"{pod.node}: {pod.address}: routes to {devices}, wanted {pod.host_device}"


@requirement("VETH-03", needs=("proxy-gateway",), source="tutorial T1, 1")
def test_a_pod_knows_nothing_but_its_gateway(cell: LabCell) -> None:
    """A pod's routes are the default via 169.254.1.1 and 169.254.1.1 on-link, and its address is a /32."""
    gateway = str(cell.seen.oracle.dialect.pod_gateway)
    for pod in cell.workloads.values():
        tables = read_tables(cell.host(pod.name), pod.name)
        seen = {(route.destination, route.gateway, route.device, route.scope) for route in tables.routes}
        wanted = {("default", gateway, "eth0", "global"), (gateway, None, "eth0", "link")}
        claims.same_set(pod.name, "routes", seen, wanted)
        claims.same_set(pod.name, "addresses of eth0", tables.addresses_on("eth0"), {f"{pod.address}/32"})


@requirement("VETH-04", needs=("proxy-gateway",), source="Calico: proxy_arp and ee:ee:ee:ee:ee:ee")
def test_the_host_answers_for_the_gateway_with_its_own_mac(cell: LabCell) -> None:
    """Asked who has 169.254.1.1, the host's end answers at once with ee:ee:ee:ee:ee:ee, to the pod that asked."""
    gateway = str(cell.seen.oracle.dialect.pod_gateway)
    for pod in cell.workloads.values():
        arp = cell.seen.capture.window(GATEWAY).on(f"{pod.name}/eth0").with_stack("eth arp")
        asked = arp.going("out").matching(arp__operation=1, arp__target_ip=gateway, arp__sender_mac=pod.mac)
        asked.some(f"{pod.name} asks for its gateway")
        answered = arp.going("in").matching(arp__operation=2, arp__sender_ip=gateway)
        answered.some(f"{pod.name} is answered").each(
            arp__sender_mac=HOST_MAC, ethernet__source=HOST_MAC, arp__target_mac=pod.mac, ethernet__destination=pod.mac
        )


@requirement("VETH-05", source="Calico: CNI plugin, 1.3 and 1.4")
def test_a_node_has_one_host_device_per_pod_and_no_more(cell: LabCell) -> None:
    """The host devices on a node are exactly those of its pods, and they are up."""
    prefix = cell.seen.oracle.dialect.host_device_prefix
    for node, tables in cell.seen.tables.items():
        wanted = {pod.host_device for pod in cell.workloads.values() if pod.node == node}
        claims.same_set(node, f"devices {prefix}…", {name for name in tables.links if name.startswith(prefix)}, wanted)
        for name in sorted(wanted):
            assert tables.links[name].is_up, f"{node}: {name} is down"


@requirement("VETH-06", needs=("proxy-gateway",), source="Calico: CNI plugin, 1.5")
def test_the_host_end_is_set_up_to_route_for_the_pod(cell: LabCell) -> None:
    """On the host's end proxy ARP answers without delay and packets are forwarded; the pod itself forwards nothing."""
    wanted = {"conf.{}.proxy_arp": 1, "neigh.{}.proxy_delay": 0, "conf.{}.forwarding": 1, "conf.{}.route_localnet": 1}
    for pod in cell.workloads.values():
        seen = {key: claims.sysctl(cell, pod.node, f"net.ipv4.{key.format(pod.host_device)}") for key in wanted}
        assert seen == wanted, f"{pod.node}: {pod.host_device}: seen {seen}, wanted {wanted}"
        forwards = claims.sysctl(cell, pod.name, "net.ipv4.ip_forward")
        assert forwards == 0, f"{pod.name}: net.ipv4.ip_forward is {forwards}, wanted 0"
