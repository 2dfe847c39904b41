"""Laws that hold in every lab of labs/, and the answers that a Topology gives about the shipped ones."""

from __future__ import annotations

from itertools import permutations

import pytest

from tunlab.errors import LabError
from tunlab.lab.load import LABS_DIR, describe_labs, lab_names, load_lab, parse_lab
from tunlab.lab.plan import make_plan
from tunlab.lab.topology import MODES, Port, Topology

ISSUE_MODES = {
    "one-node": ("ipip", "vxlan", "none"),
    "same-subnet": MODES,
    "cross-subnet": ("ipip", "vxlan", "none"),
    "cross-subnet-deep": ("ipip", "vxlan", "none"),
    "mixed": MODES,
    "cross-subnet-bgp": ("ipip", "vxlan", "none"),
    "dual-stack": ("vxlan", "vxlan-crosssubnet", "none"),
    "outside": ("ipip", "vxlan"),
    "reflectors": ("none",),
    "fan-out": ("vxlan",),
    "cross-subnet-tor": ("none",),
    "gobgp": ("none",),
}
NONE_REACH = {
    "one-node": "full",
    "same-subnet": "full",
    "cross-subnet": "never",
    "cross-subnet-deep": "never",
    "mixed": "by pair",
    "cross-subnet-bgp": "full",
    "dual-stack": "by pair",
    "outside": "by pair",
    "reflectors": "full",
    "fan-out": "full",
    "cross-subnet-tor": "full",
    "gobgp": "full",
}


@pytest.fixture(params=lab_names())
def lab(request: pytest.FixtureRequest) -> Topology:
    return load_lab(str(request.param))


def links(lab: Topology) -> list[Port]:
    ends = [
        each
        for segment in lab.segments
        for host, end in lab.attached(segment.name)
        for each in (Port(host.name, end.device), Port(segment.name, host.name))
    ]
    return ends + [Port(segment.name, "br0") for segment in lab.segments]


def test_the_shipped_labs_are_those_of_the_table_and_no_other() -> None:
    assert {name: load_lab(name).modes for name in lab_names()} == ISSUE_MODES


def test_no_two_devices_share_a_mac_and_every_mac_is_locally_administered_unicast(lab: Topology) -> None:
    macs = [lab.mac(*port) for port in links(lab)]
    assert len(set(macs)) == len(macs)
    assert {int(mac[:2], 16) & 0b11 for mac in macs} == {0b10}


def test_a_mac_is_a_function_of_the_names_alone() -> None:
    # By hand: printf node1/eth0 | sha256sum
    assert (
        load_lab("mixed").mac("node1", "eth0") == load_lab("same-subnet").mac("master", "eth0") == "02:8b:a1:fa:84:72"
    )


def test_device_names_fit_into_the_kernels_fifteen_bytes(lab: Topology) -> None:
    assert max(len(port.device) for port in links(lab)) <= 15


def test_a_packet_comes_back_over_the_devices_it_went_by(lab: Topology) -> None:
    hosts = [*(node.name for node in lab.nodes), lab.store.name, *(each.name for each in lab.outsiders)]
    for a, b in permutations(hosts, 2):
        assert lab.hops(a, b) == lab.hops(b, a)[::-1]
        assert lab.routers_between(a, b) == lab.routers_between(b, a)[::-1]
        assert lab.same_subnet(a, b) == (not lab.routers_between(a, b))


def test_every_host_reaches_every_other_by_the_routes_of_the_lab(lab: Topology) -> None:
    for a, b in permutations([host.name for host in lab.hosts], 2):
        hops = lab.hops(a, b)
        assert (hops[0].host, hops[-1].host) == (a, b)
        assert lab.next_hop_port(a, b) == hops[3]


def test_mode_none_reaches_what_the_issue_says() -> None:
    assert {name: load_lab(name).none_reach() for name in lab_names()} == NONE_REACH


def test_in_mixed_mode_none_works_between_the_neighbours_only() -> None:
    lab = load_lab("mixed")
    reached = {(a.name, b.name) for a, b in permutations(lab.nodes, 2) if lab.none_reaches(a.name, b.name)}
    assert reached == {("node1", "node2"), ("node2", "node1")}


def test_a_speaker_that_nobody_is_told_to_peer_with_learns_no_pod_routes() -> None:
    text = (LABS_DIR / "cross-subnet-bgp.yaml").read_text(encoding="utf-8")
    assert parse_lab("x", text, place="x").none_reach() == "full"
    assert parse_lab("x", text.partition("bgp_peers:")[0], place="x").none_reach() == "never"


def test_a_lab_file_that_says_little_gets_the_defaults() -> None:
    lab = load_lab("cross-subnet")
    assert [(segment.mtu, str(segment.gateway)) for segment in lab.segments] == [
        (1500, "192.168.100.1"),
        (1500, "192.168.200.1"),
    ]
    assert [(pool.name, pool.block_size) for pool in lab.pools] == [("default-ipv4-ippool", 26)]
    assert {pod.namespace for pod in lab.pods} == {"default"}
    assert lab.uplink_mtu("node2") == 1500


def test_three_routers_in_a_row_are_passed_in_order() -> None:
    lab = load_lab("cross-subnet-deep")
    assert lab.routers_between("node1", "node2") == ("router1", "router2", "router3")
    assert [str(route.destination) for route in lab.router("router2").routes] == [
        "192.168.100.0/24",
        "192.168.200.0/24",
    ]
    assert not any(route.destination.prefixlen == 0 for router in lab.routers for route in router.routes)


def test_the_way_across_a_router_names_every_port_of_it() -> None:
    assert load_lab("cross-subnet").hops("node1", "node2") == (
        ("node1", "eth0"),
        ("net1", "node1"),
        ("net1", "router1"),
        ("router1", "eth0"),
        ("router1", "eth1"),
        ("net2", "router1"),
        ("net2", "node2"),
        ("node2", "eth0"),
    )


def test_the_next_hop_is_the_peer_where_it_is_on_link_and_else_the_gateway() -> None:
    lab = load_lab("mixed")
    assert (str(lab.next_hop("node1", "node2")), lab.next_hop_port("node1", "node2")) == (
        "192.168.100.101",
        ("node2", "eth0"),
    )
    assert (str(lab.next_hop("node1", "node3")), lab.next_hop_port("node1", "node3")) == (
        "192.168.100.1",
        ("router1", "eth0"),
    )
    assert lab.next_hop_mac("node3", "node1") == lab.mac("router1", "eth1")


def test_same_subnet_has_the_addresses_of_the_tutorial() -> None:
    lab = load_lab("same-subnet")
    assert [str(lab.node(alias).address) for alias in ("master", "node")] == ["172.171.5.95/24", "172.171.5.96/24"]
    assert {str(node.gateway) for node in lab.nodes} == {"172.171.5.1"}
    assert [str(node.block) for node in lab.nodes] == ["192.168.236.0/26", "192.168.190.192/26"]
    assert [str(pod.address) for pod in lab.pods] == ["192.168.236.3", "192.168.190.203"]
    assert [str(pool.cidr) for pool in lab.pools] == ["192.168.0.0/16"]


def test_ipv6_addresses_repeat_the_digits_of_the_ipv4_ones_and_ways_go_where_those_go() -> None:
    lab = load_lab("dual-stack")
    assert lab.has_ipv6 and not load_lab("mixed").has_ipv6
    assert [str(node.address6) for node in lab.nodes] == ["fd00:100::100/64", "fd00:100::101/64", "fd00:200::101/64"]
    assert [str(segment.gateway6) for segment in lab.segments] == ["fd00:100::1", "fd00:200::1"]
    assert str(lab.next_hop6("node1", "node2")) == "fd00:100::101"
    assert str(lab.next_hop6("node1", "node3")) == "fd00:100::1"
    assert [(pool.name, str(pool.cidr), pool.block_size) for pool in lab.pools6] == [
        ("default-ipv6-ippool", "fd00:10:244::/64", 122)
    ]
    assert {each.address6 for each in lab.store.attachments} == {None}


def test_a_router_reaches_ipv6_subnets_behind_others_by_the_way_of_the_ipv4_ones() -> None:
    text = (LABS_DIR / "cross-subnet-deep.yaml").read_text()
    for number, subnet in enumerate(["192.168.100.0/24", "10.0.12.0/24", "10.0.23.0/24", "192.168.200.0/24"]):
        text = text.replace(f"subnet: {subnet}\n", f"subnet: {subnet}\n    subnet6: fd00:{number + 1}::/64\n")
    lab = parse_lab("deep", text, place="deep")
    assert [(str(each.destination), str(each.via), each.device) for each in lab.router("router2").routes6] == [
        ("fd00:1::/64", "fd00:2::1", "eth0"),
        ("fd00:4::/64", "fd00:3::2", "eth1"),
    ]


def test_the_store_takes_250_of_the_first_segment() -> None:
    assert str(load_lab("mixed").store.address) == "192.168.100.250/24"


def test_an_alias_names_its_node_wherever_a_name_is_asked_for() -> None:
    lab = load_lab("same-subnet")
    assert lab.node("master") is lab.host("master") is lab.node("node1")
    assert (lab.place("node"), lab.place("pod1"), lab.place("lan"), lab.place("store")) == (
        "node2",
        "pod1",
        "lan",
        "store",
    )
    assert lab.pods_on("master") == lab.pods_on("node1") == (lab.pod("pod1"),)
    assert lab.hops("master", "node") == lab.hops("node1", "node2")


def test_an_unknown_name_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(
        LabError, match=r"^same-subnet: node nod1: no such node in this lab\n  hint: did you mean node1\?$"
    ):
        load_lab("same-subnet").node("nod1")
    with pytest.raises(LabError, match=r"^one-node: pod x: no such pod in this lab\n  hint: legal: pod1, pod2$"):
        load_lab("one-node").pod("x")


def test_hosts_are_nodes_the_store_and_routers_that_speak_bgp() -> None:
    assert make_plan(load_lab("cross-subnet")).hosts == ("node1", "node2", "store")
    assert make_plan(load_lab("cross-subnet-bgp")).hosts == ("router1", "node1", "node2", "store")


def test_the_table_of_labs_has_a_row_per_lab_with_its_first_sentence() -> None:
    rows = {row.name: row for row in describe_labs()}
    assert tuple(rows) == lab_names()
    row = rows["mixed"]
    assert (row.nodes, row.segments, row.routers, row.pods, row.modes) == (3, 2, 1, 4, MODES)
    assert row.summary == "Two nodes on one segment and a third behind a router."


def test_a_host_outside_is_on_the_wire_but_is_no_node_and_forwards_nothing() -> None:
    lab = load_lab("outside")
    assert (lab.host("outside"), [node.name for node in lab.nodes]) == (lab.outsiders[0], ["node1", "node2", "node3"])
    assert (lab.routers_between("node1", "outside"), lab.routers_between("node3", "outside")) == (("router1",), ())
    plan = make_plan(lab)
    lines = [step.command for step in plan.steps if step.namespace == "outside"]
    assert any("net.ipv4.ip_forward=0" in line for line in lines)
    assert [line for line in lines if "route" in line] == [
        "ip route add default via 192.168.200.1 dev eth0 proto static"
    ]
    assert "outside" in plan.hosts


def test_the_labels_of_a_pod_are_pairs_in_the_files_order_and_none_unless_written() -> None:
    assert load_lab("outside").pod("pod4").labels == (("app", "shop"), ("env", "prod"), ("team", "blue"))
    assert load_lab("mixed").pod("pod1").labels == ()
