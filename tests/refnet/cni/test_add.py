"""ADD: what it makes on the node, in the pod and in the store, and that a failed one leaves nothing of it."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BLOCK = "/calico/ipam/v2/assignment/ipv4/block/"
ENDPOINTS = "/calico/resources/v3/projectcalico.org/workloadendpoints/default/"


def test_the_result_names_both_ends_and_the_address(cni: Any) -> None:
    result = cni.add()
    address = result["ips"][0]["address"]
    mac = cni.world.json("ip", "-n", cni.pod, "-j", "link", "show", "eth0")[0]["address"]
    host = "cali" + hashlib.sha1(f"default.{cni.pod}".encode()).hexdigest()[:11]
    assert result == {
        "cniVersion": "1.0.0",
        "interfaces": [
            {"name": host, "mac": "ee:ee:ee:ee:ee:ee"},
            {"name": "eth0", "mac": mac, "sandbox": cni.netns, "mtu": 1450},
        ],
        "ips": [{"interface": 1, "address": address}],
        "routes": [{"dst": "169.254.1.1/32"}, {"dst": "0.0.0.0/0", "gw": "169.254.1.1"}],
        "dns": {},
    }
    assert address.startswith("10.65.0.")
    assert address.endswith("/32")


def test_the_pod_has_its_address_its_two_routes_and_no_forwarding(cni: Any) -> None:
    address = cni.add()["ips"][0]["address"].partition("/")[0]
    addresses = cni.world.json("ip", "-n", cni.pod, "-j", "-4", "address")
    assert [(a["local"], a["prefixlen"]) for o in addresses for a in o["addr_info"]] == [(address, 32)]
    routes = cni.world.json("ip", "-n", cni.pod, "-j", "route")
    assert [(r["dst"], r.get("gateway"), r["dev"], r.get("scope")) for r in routes] == [
        ("default", "169.254.1.1", "eth0", None),
        ("169.254.1.1", None, "eth0", "link"),
    ]
    assert cni.world.run("nsenter", f"--net={cni.netns}", "cat", "/proc/sys/net/ipv4/ip_forward") == "0\n"


def test_the_node_has_the_other_end_with_its_route_and_sysctls(cni: Any) -> None:
    result = cni.add()
    host, address = result["interfaces"][0]["name"], result["ips"][0]["address"].partition("/")[0]
    link = cni.world.json("ip", "-j", "link", "show", host)[0]
    inside = cni.world.json("ip", "-n", cni.pod, "-j", "link", "show", "eth0")[0]
    assert (link["address"], link["mtu"], inside["mtu"]) == ("ee:ee:ee:ee:ee:ee", 1450, 1450)
    assert (link["link_index"], inside["link_index"]) == (inside["ifindex"], link["ifindex"])
    routes = cni.world.json("ip", "-j", "route", "show", "dev", host)
    assert [(r["dst"], r.get("scope"), r.get("protocol")) for r in routes] == [(address, "link", None)]
    for name, value in {
        f"conf/{host}/proxy_arp": "1",
        f"conf/{host}/forwarding": "1",
        f"conf/{host}/route_localnet": "1",
        f"neigh/{host}/proxy_delay": "0",
    }.items():
        assert cni.world.run("cat", f"/proc/sys/net/ipv4/{name}") == f"{value}\n", name


def test_pod_and_node_reach_each_other_through_the_common_gateway(cni: Any) -> None:
    address = cni.add()["ips"][0]["address"].partition("/")[0]
    cni.world.run("nsenter", f"--net={cni.netns}", "ping", "-c1", "-W2", "192.0.2.1")
    cni.world.run("ping", "-c1", "-W2", address)
    neighbours = cni.world.json("ip", "-n", cni.pod, "-j", "neigh", "show", "169.254.1.1")
    assert [n["lladdr"] for n in neighbours] == ["ee:ee:ee:ee:ee:ee"]


def test_the_store_knows_the_endpoint_and_whose_the_address_is(cni: Any) -> None:
    result = cni.add()
    store = cni.world.store()
    endpoint = store[f"{ENDPOINTS}node1-k8s-{cni.pod}-eth0"]
    assert endpoint["spec"] == {
        "orchestrator": "k8s",
        "node": "node1",
        "pod": cni.pod,
        "containerID": cni.container,
        "endpoint": "eth0",
        "interfaceName": result["interfaces"][0]["name"],
        "ipNetworks": [result["ips"][0]["address"]],
        "mac": result["interfaces"][1]["mac"],
        "profiles": ["kns.default", "ksa.default.default"],
    }
    block = next(value for key, value in store.items() if key.startswith(BLOCK))
    assert [a["handle_id"] for a in block["attributes"]] == [f"k8s-pod-network.{cni.container}"]
    secondary = block["attributes"][0]["secondary"]
    assert (secondary["node"], secondary["pod"], secondary["namespace"]) == ("node1", cni.pod, "default")


def test_labels_and_named_ports_come_from_the_configuration(cni: Any) -> None:
    about = {"labels": [{"key": "app", "value": "web"}], "ports": [{"name": "http", "protocol": "TCP", "port": 80}]}
    cni.add(args={"org.projectcalico": about})
    endpoint = cni.world.store()[f"{ENDPOINTS}node1-k8s-{cni.pod}-eth0"]
    assert endpoint["metadata"]["labels"] == {"app": "web"}
    assert endpoint["spec"]["ports"] == about["ports"]


def test_a_label_that_is_none_is_refused_with_its_place(cni: Any) -> None:
    wrong = {"labels": [{"key": "a b; reboot", "value": "web"}]}
    error = cni.refused("ADD", args={"org.projectcalico": wrong})
    assert (error["code"], "args.org.projectcalico.labels[0].key" in error["msg"]) == (7, True)


def test_without_kubernetes_policy_the_network_gets_a_profile_once_and_its_owner_may_change_it(cni: Any) -> None:
    cni.add(policy=None)
    key = "/calico/resources/v3/projectcalico.org/profiles/k8s-pod-network"
    profile = cni.world.store()[key]
    endpoint = cni.world.store()[f"{ENDPOINTS}node1-k8s-{cni.pod}-eth0"]
    assert endpoint["spec"]["profiles"] == ["k8s-pod-network"]
    assert profile["spec"] == {
        "ingress": [{"action": "Allow", "source": {"selector": "has(k8s-pod-network)"}}],
        "egress": [{"action": "Allow"}],
        "labelsToApply": {"k8s-pod-network": ""},
    }
    cni.delete(policy=None)
    changed = {**profile, "spec": {"ingress": [{"action": "Deny"}]}}
    cni.world.store_with({key: changed})
    cni.add(policy=None)
    assert cni.world.store()[key] == changed
    cni.delete(policy=None)
    cni.world.store_with({key: None})


def test_without_kubernetes_names_are_made_of_the_container(cni: Any) -> None:
    cni.kubernetes = False
    assert cni.add()["interfaces"][0]["name"] == "cali0123456789a"
    assert f"{ENDPOINTS}node1-cni-0123456789abcdef-eth0" in cni.world.store()


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0", "1.1.0"])
def test_every_advertised_version_is_answered_in_kind(cni: Any, version: str) -> None:
    cni.version = version
    result = cni.add()
    assert result["cniVersion"] == version
    assert result["ips"][0].get("version") == ("4" if version in ("0.3.1", "0.4.0") else None)
    cni.delete()


def test_the_configured_mtu_goes_before_the_nodes(cni: Any) -> None:
    result = cni.add(mtu=1500)
    assert result["interfaces"][1]["mtu"] == 1500
    assert cni.world.json("ip", "-n", cni.pod, "-j", "link", "show", "eth0")[0]["mtu"] == 1500


def test_a_given_address_is_assigned_exactly(cni: Any) -> None:
    cni.arguments = "IP=10.65.0.99"
    assert cni.add()["ips"][0]["address"] == "10.65.0.99/32"


def test_a_pool_can_be_asked_for(cni: Any) -> None:
    other = {"apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": {"name": "other"}}
    key = "/calico/resources/v3/projectcalico.org/ippools/other"
    cni.world.store_with({key: {**other, "spec": {"cidr": "10.66.0.0/24"}}})
    conf: dict[str, Any] = {"ipam": {"type": "calico-ipam", "ipv4_pools": ["other"]}}
    assert cni.add(**conf)["ips"][0]["address"].startswith("10.66.0.")


def test_what_plugins_before_did_stays_in_the_result(cni: Any) -> None:
    before: dict[str, Any] = {
        "interfaces": [{"name": "dummy0"}],
        "ips": [{"address": "198.51.100.1/24", "interface": 0}],
    }
    result = cni.add(prevResult={"cniVersion": "1.0.0", **before}, dns={"nameservers": ["192.0.2.53"]})
    assert result["interfaces"][0] == {"name": "dummy0"}
    assert result["ips"][0] == before["ips"][0]
    assert result["interfaces"][result["ips"][1]["interface"]]["name"] == "eth0"
    assert result["dns"] == {"nameservers": ["192.0.2.53"]}


def test_forwarding_in_the_pod_can_be_asked_for(cni: Any) -> None:
    cni.add(container_settings={"allow_ip_forwarding": True})
    assert cni.world.run("nsenter", f"--net={cni.netns}", "cat", "/proc/sys/net/ipv4/ip_forward") == "1\n"


def test_an_interface_of_that_name_is_not_touched(cni: Any) -> None:
    cni.world.run("ip", "link", "add", "other", "type", "veth", "peer", "name", "eth0", "netns", cni.pod)
    before = cni.world.trace(), cni.world.json("ip", "-n", cni.pod, "-j", "link")
    error = cni.refused("ADD")
    assert error["code"] == 103
    assert error["msg"] == f"CNI_IFNAME: eth0: exists already in {cni.netns}; it was not touched"
    cni.delete()
    assert (cni.world.trace(), cni.world.json("ip", "-n", cni.pod, "-j", "link")) == before
    cni.world.run("ip", "link", "del", "other")


def test_a_second_add_of_the_same_interface_is_refused_and_the_first_works_on(cni: Any) -> None:
    cni.add()
    before = cni.world.trace()
    assert cni.refused("ADD")["code"] == 103
    assert cni.world.trace() == before
    cni.world.run("nsenter", f"--net={cni.netns}", "ping", "-c1", "-W2", "192.0.2.1")


def conflicting_route(cni: Any) -> None:
    cni.arguments = "IP=10.65.0.9"
    cni.world.run("ip", "route", "replace", "10.65.0.9/32", "dev", "uplink", "scope", "link")


def address_in_use(cni: Any) -> None:
    other = type(cni)(cni.world, cni.world.new_pod(), "other", arguments="IP=10.65.0.9")
    other.add()
    cni.arguments = "IP=10.65.0.9"


def no_pool(cni: Any) -> None:
    cni.world.store_with({"/calico/resources/v3/projectcalico.org/ippools/default": None})


def bad_mtu_file(cni: Any) -> None:
    cni.world.run("sh", "-c", "echo 65535000 >/var/lib/calico/mtu")


@pytest.mark.parametrize(
    ("prepare", "code", "words"),
    [
        (conflicting_route, 102, "kernel refused `ip route add 10.65.0.9/32 dev cali"),
        (address_in_use, 103, "address 10.65.0.9: in use by k8s-pod-network.other"),
        (no_pool, 101, "ipam: no enabled IPPool gives addresses to a Workload"),
        (bad_mtu_file, 11, "/var/lib/calico/mtu: '65535000' is no MTU"),
    ],
    ids=["conflicting route", "address in use", "no pool", "bad mtu file"],
)
def test_an_add_that_fails_leaves_nothing(cni: Any, prepare: Callable[[Any], None], code: int, words: str) -> None:
    prepare(cni)
    before = cni.world.trace()
    error = cni.refused("ADD")
    cni.world.run("sh", "-c", "echo 1450 >/var/lib/calico/mtu; ip route del 10.65.0.9/32 dev uplink 2>/dev/null; true")
    assert error["code"] == code
    assert error["msg"].startswith(words)
    before["routes"] = [route for route in before["routes"] if route != ("10.65.0.9", "uplink")]
    assert cni.world.trace() == before
    cni.delete()
    assert cni.world.trace() == before
    assert [link["ifname"] for link in cni.world.json("ip", "-n", cni.pod, "-j", "link")] == ["lo"]


def test_a_store_that_is_away_means_try_again_later(cni: Any) -> None:
    error = cni.refused("ADD", etcd_endpoints="http://127.0.0.1:1")
    assert (error["code"], error["msg"]) == (11, "etcd http://127.0.0.1:1: connect: Connection refused")
    assert [link["ifname"] for link in cni.world.json("ip", "-n", cni.pod, "-j", "link")] == ["lo"]


def test_a_full_pool_is_a_clear_error_and_leaks_nothing(cni: Any) -> None:
    pool = {"apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": {"name": "default"}}
    key = "/calico/resources/v3/projectcalico.org/ippools/default"
    cni.world.store_with({key: {**pool, "spec": {"cidr": "10.65.0.0/32", "blockSize": 32}}})
    type(cni)(cni.world, cni.world.new_pod(), "first").add()
    before = cni.world.trace()
    error = cni.refused("ADD")
    assert (error["code"], error["msg"]) == (
        101,
        "ipam: node1: no free address in default (10.65.0.0/32): own blocks are full, all others are claimed, "
        "nobody has one to lend",
    )
    assert cni.world.trace() == before


def test_a_leftover_of_the_same_name_gives_way_to_a_new_container(cni: Any) -> None:
    cni.add()
    successor = type(cni)(cni.world, cni.pod, "fedcba9876543210")
    cni.world.run("ip", "-n", cni.pod, "link", "set", "eth0", "name", "old0")
    result = successor.add()
    assert [link["ifname"] for link in cni.world.json("ip", "-n", cni.pod, "-j", "link")] == ["lo", "eth0"]
    cni.delete({"CNI_NETNS": ""})
    assert result["interfaces"][0]["name"] in cni.world.trace()["links"]
    assert cni.world.store()[f"{ENDPOINTS}node1-k8s-{cni.pod}-eth0"]["spec"]["containerID"] == "fedcba9876543210"
    assert list(cni.world.trace()["allocated"].values()) == [["k8s-pod-network.fedcba9876543210"]]


def test_two_interfaces_of_one_container_live_and_die_apart(cni: Any) -> None:
    second = type(cni)(cni.world, cni.pod, ifname="net1")
    one, two = cni.add(), second.add()
    assert one["ips"] != two["ips"]
    assert one["interfaces"][0]["name"] != two["interfaces"][0]["name"]
    second.delete()
    links = [link["ifname"] for link in cni.world.json("ip", "-n", cni.pod, "-j", "link")]
    assert links == ["lo", "eth0"]
    assert cni.call("CHECK", prevResult=one).code == 0
    cni.delete()


def test_many_at_once_get_distinct_addresses_and_many_deletes_leave_nothing(cni: Any) -> None:
    before = cni.world.trace()
    pods = [type(cni)(cni.world, cni.world.new_pod(), f"container{i}") for i in range(10)]

    def all_at_once(command: str) -> list[str]:
        started = [pod.start(command) for pod in pods]
        for process, text in started:
            process.stdin.write(text)
            process.stdin.close()
        ends = []
        for process, _ in started:
            process.stdin = None
            ends.append(process.communicate(timeout=30)[0])
            assert process.returncode == 0, ends[-1]
        return ends

    results = [json.loads(text) for text in all_at_once("ADD")]
    assert len({result["ips"][0]["address"] for result in results}) == 10
    assert all_at_once("DEL") == [""] * 10
    assert cni.world.trace() == before


def test_the_plugin_starts_without_heavy_modules(cni: Any) -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); from refnet.cni import plugin, attach; print(*sys.modules)"
    checkout = str(Path(__file__).parents[3])
    loaded = subprocess.run(
        ["/usr/bin/python3", "-ISEc", code, checkout], capture_output=True, text=True, check=True
    ).stdout.split()
    heavy = {
        "typing",
        "dataclasses",
        "inspect",
        "subprocess",
        "http",
        "urllib",
        "ssl",
        "pathlib",
        "argparse",
        "logging",
    }
    assert heavy & set(loaded) == set()
