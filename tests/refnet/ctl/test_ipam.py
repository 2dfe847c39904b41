"""`refnetctl ipam`: who has what, what is wrong with it, and setting it right."""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from refnet.ipam import Ipam
from refnet.model.keys import IPAM_CONFIG, node_key, pool_key, workload_endpoint_key
from refnet.store.etcd import Etcd

from .test_program import Ctl, ctl  # noqa: F401 - a fixture

POOLS = """\
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: four}
spec: {cidr: 10.65.0.0/28, blockSize: 29}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: six}
spec: {cidr: "fd00:10:65::/64"}
---
apiVersion: projectcalico.org/v3
kind: IPReservation
metadata: {name: gateways}
spec: {reservedCIDRs: [10.65.0.0/31, 10.65.0.8/32, 10.65.0.1]}
"""


@pytest.fixture
def books(ctl: Ctl, store: Etcd) -> Ctl:  # noqa: F811
    """Two pools, a reservation, two nodes and a pod that uses 10.65.0.2."""
    ctl.says(f"apply -f {ctl.file(POOLS)}")
    for node in ("node1", "node2"):
        store.put(node_key(node), {"kind": "Node", "metadata": {"name": node}, "spec": {}})
    Ipam(store, "node1").claim_block(IPv4Network("10.65.0.0/29"))
    Ipam(store, "node1").assign(IPv4Address("10.65.0.2"), "net.a", {"node": "node1"})
    use(store, "node1", "a", "10.65.0.2/32")
    return ctl


def use(store: Etcd, node: str, pod: str, *networks: str) -> None:
    endpoint = {"spec": {"node": node, "ipNetworks": list(networks)}}
    store.put(workload_endpoint_key("default", f"{node}-k8s-{pod}-eth0"), endpoint)


def test_show_counts_both_families_and_what_is_reserved(books: Ctl) -> None:
    assert books.says("ipam show --show-blocks") == (
        "+----------+-----------------+------------+------------+--------------+-------------------+\n"
        "| GROUPING |       CIDR      | IPS TOTAL  | IPS IN USE | IPS RESERVED |      IPS FREE     |\n"
        "+----------+-----------------+------------+------------+--------------+-------------------+\n"
        "| IP Pool  | 10.65.0.0/28    | 16         | 1 (6%)     | 3 (19%)      | 12 (75%)          |\n"
        "| Block    | 10.65.0.0/29    | 8          | 1 (12%)    | 2 (25%)      | 5 (62%)           |\n"
        "| IP Pool  | fd00:10:65::/64 | 1.8447e+19 | 0 (0%)     | 0 (0%)       | 1.8447e+19 (100%) |\n"
        "+----------+-----------------+------------+------------+--------------+-------------------+\n"
    )
    assert books.says("get ipreservation") == (
        "NAME       CIDRS                                    \ngateways   10.65.0.0/31,10.65.0.8/32,10.65.0.1/32   \n\n"
    )


def test_show_names_borrowed_addresses_and_their_lenders(books: Ctl, store: Etcd) -> None:
    assert books.says("ipam show --show-borrowed") == "No borrowed IPs found\n"
    Ipam(store, "node2").assign(IPv4Address("10.65.0.5"), "net.b", {"node": "node2"})
    assert books.says("ipam show --show-borrowed").splitlines()[3] == (
        "| 10.65.0.5 | node2          | 10.65.0.0/29 | node1       | pod  | net.b        |"
    )


def test_check_is_silent_about_straight_books(books: Ctl) -> None:
    assert books.says("ipam check --show-all-ips") == (
        "Checking 1 block(s) with 1 allocated address(es) ...\n"
        "10.65.0.2: net.a, used by node1-k8s-a-eth0\n"
        "Check complete; found 0 problem(s).\n"
    )


def test_check_finds_leaked_and_double_booked_addresses(books: Ctl, store: Etcd) -> None:
    use(store, "node2", "b", "10.65.0.2/32")
    Ipam(store, "node1").assign(IPv4Address("10.65.0.3"), "net.gone", {"node": "node1"})
    code, out, _ = books("ipam check")
    assert (code, out.splitlines()[1:]) == (
        1,
        [
            "10.65.0.2: booked 2 times: node1-k8s-a-eth0, node2-k8s-b-eth0 use it",
            "10.65.0.3: allocated to net.gone, nobody uses it",
            "Check complete; found 2 problem(s).",
        ],
    )


def test_check_survives_whatever_is_stored(books: Ctl, store: Etcd) -> None:
    use(store, "node2", "b", "nonsense")
    store.put(node_key("node2"), {"spec": {"bgp": ["x"], "ipv4VXLANTunnelAddr": "fe80::1%$(reboot)"}})
    store.put("/calico/ipam/v2/assignment/ipv4/block/10.65.0.8-29", {"cidr": 5})
    store.put("/calico/ipam/v2/host/node2/ipv4/block/10.65.0.8-29", "x")
    code, out, _ = books("ipam check")
    assert code == 1
    assert out.splitlines()[1:] == [
        "block 10.65.0.8/29: misshapen: ValueError: says it is 5",
        "node2-k8s-b-eth0: its address 'nonsense' is none",
        "node2: ipv4VXLANTunnelAddr: 'fe80::1%$(reboot)' is no address",
        "affinity of node2 on 10.65.0.8/29: state None",
        "Check complete; found 4 problem(s).",
    ]


def test_an_address_is_released_whoever_has_it(books: Ctl, store: Etcd) -> None:
    assert books.says("ipam release --ip=10.65.0.2") == "Successfully released IP address 10.65.0.2\n"
    assert store.get("/calico/ipam/v2/handle/net.a") is None
    assert books("ipam release --ip 10.65.0.2") == (1, "", "IP address 10.65.0.2 is not assigned\n")
    assert books("ipam release --ip fd00::%x")[0] == 2


def test_a_report_releases_what_is_still_leaked_and_nothing_given_anew(books: Ctl, store: Etcd, tmp_path: Path) -> None:
    ipam = Ipam(store, "node1")
    leaked = {name: ipam.auto_assign(f"net.{name}", {"node": "node1"}) for name in ("gone", "back", "anew")}
    report = tmp_path / "report.json"
    assert books(f"ipam check -o {report}")[0] == 1
    assert json.loads(report.read_text())["allocations"]["10.65.0.2"][0]["inUse"] is True
    use(store, "node1", "back", f"{leaked['back']}/32")
    ipam.release_handle("net.anew")
    ipam.assign(leaked["anew"], "net.anew", {"node": "node1"})
    assert books.says(f"ipam release --from-report={report} --force") == (
        "Released 1 IPs successfully\nLeft 2 IPs alone: released, given anew or in use since the report\n"
    )
    assert ipam.addresses_of("net.gone") == ()
    assert ipam.addresses_of("net.anew") == (leaked["anew"],)


@pytest.mark.parametrize("text", ["", "[]", '{"version": "9"}', '{"version": "1", "allocations": {"x": [{}]}}'])
def test_a_file_that_is_no_report_releases_nothing(books: Ctl, store: Etcd, tmp_path: Path, text: str) -> None:
    (tmp_path / "report.json").write_text(text)
    code, _, err = books(f"ipam release --from-report={tmp_path / 'report.json'}")
    assert code == 2
    assert "a report of" in err
    assert Ipam(store, "node1").addresses_of("net.a") == (IPv4Address("10.65.0.2"),)


def test_settings_are_changed_for_us_and_for_calico(books: Ctl, store: Etcd) -> None:
    said = books.says("ipam configure --strictaffinity=true --max-blocks-per-host=4")
    assert said == "Successfully set StrictAffinity to: true\nSuccessfully set MaxBlocksPerHost to: 4\n"
    stored = store.get(IPAM_CONFIG)
    assert stored
    assert stored.value == {"strict_affinity": True, "auto_allocate_blocks": True, "maxBlocksPerHost": 4}
    assert "| StrictAffinity     | true  |" in books.says("ipam show --show-configuration")
    code, _, err = books("ipam configure --strictaffinity=false")
    assert (code, err.splitlines()[0]) == (2, "IPAMConfiguration/default: spec.maxBlocksPerHost: 4")
    assert books("ipam configure --strictaffinity=perhaps")[0] == 2
    assert books.says("get ipamconfig -o wide").splitlines()[1].split() == ["default", "true", "true", "4"]


def test_a_new_pool_must_cut_blocks_like_those_that_are_left(books: Ctl, store: Etcd) -> None:
    store.delete(pool_key("four"))
    code, _, err = books(f"apply -f {books.file(POOLS.replace('blockSize: 29', 'blockSize: 28'))}")
    assert code == 2
    assert err.splitlines()[0] == "pools: IPPool/four: spec.blockSize: 28"


def test_several_resources_are_named_in_one_line(books: Ctl) -> None:
    assert books.says("get pools four six -o name") == "four\nsix\n"
    assert books.says("delete pool four six") == "Successfully deleted 2 'IPPool' resource(s)\n"
