"""DEL succeeds whatever is left to delete; CHECK sees every part of an attachment and changes none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.parametrize("kubernetes", [True, False], ids=["kubernetes", "plain"])
@pytest.mark.parametrize(
    "environment",
    [{}, {"CNI_NETNS": ""}, {"CNI_NETNS": None}, {"CNI_NETNS": "/run/netns/none"}],
    ids=["all given", "netns empty", "netns unset", "netns gone"],
)
def test_a_delete_removes_device_route_address_and_endpoint(
    cni: Any, environment: dict[str, str | None], kubernetes: bool
) -> None:
    cni.kubernetes = kubernetes
    before = cni.world.trace()
    cni.add()
    assert cni.world.trace() != before
    for _ in range(3):
        cni.delete(environment)
        assert cni.world.trace() == before
    assert [link["ifname"] for link in cni.world.json("ip", "-n", cni.pod, "-j", "link")] == ["lo"]


def interface_removed(cni: Any) -> None:
    cni.world.run("ip", "-n", cni.pod, "link", "del", "eth0")


def namespace_removed(cni: Any) -> None:
    cni.world.run("ip", "netns", "del", cni.pod)


def endpoint_removed(cni: Any) -> None:
    key = f"/calico/resources/v3/projectcalico.org/workloadendpoints/default/node1-k8s-{cni.pod}-eth0"
    cni.world.store_with({key: None})


def pool_removed(cni: Any) -> None:
    cni.world.store_with({"/calico/resources/v3/projectcalico.org/ippools/default": None})


@pytest.mark.parametrize("harm", [interface_removed, namespace_removed, endpoint_removed, pool_removed])
def test_a_delete_finishes_what_others_have_begun(cni: Any, harm: Callable[[Any], None]) -> None:
    before = cni.world.trace()
    cni.add()
    harm(cni)
    cni.delete()
    after = cni.world.trace()
    assert (after["links"], after["routes"], after["allocated"]) == (before["links"], before["routes"], {})
    assert not [key for key in after["store"] if "workloadendpoints" in key or "/handle/" in key]


def test_a_delete_without_an_add_changes_nothing(cni: Any) -> None:
    before = cni.world.trace()
    cni.delete()
    assert cni.world.trace() == before


def test_a_delete_leaves_a_strangers_interface(cni: Any) -> None:
    cni.world.run("ip", "link", "add", "other", "type", "veth", "peer", "name", "eth0", "netns", cni.pod)
    cni.delete()
    assert "other" in cni.world.trace()["links"]
    cni.world.run("ip", "link", "del", "other")


def test_a_delete_without_the_store_unplugs_and_asks_to_be_called_again(cni: Any) -> None:
    cni.add()
    error = cni.refused("DEL", etcd_endpoints="http://127.0.0.1:1")
    assert error["code"] == 11
    assert [link["ifname"] for link in cni.world.json("ip", "-n", cni.pod, "-j", "link")] == ["lo"]
    cni.delete()
    assert cni.world.trace()["allocated"] == {}


@pytest.mark.parametrize("version", ["0.4.0", "1.0.0"])
def test_a_check_right_after_an_add_is_silent_and_changes_nothing(cni: Any, version: str) -> None:
    cni.version = version
    result = cni.add()
    before = cni.world.trace()
    answer = cni.call("CHECK", prevResult=result)
    assert (answer.code, answer.text) == (0, "")
    assert cni.world.trace() == before


def test_a_check_tolerates_what_later_plugins_add(cni: Any) -> None:
    result = cni.add()
    cni.world.run("ip", "-n", cni.pod, "link", "set", "eth0", "address", "02:00:00:00:00:07")
    cni.world.run("ip", "-n", cni.pod, "route", "add", "198.51.100.0/24", "via", "169.254.1.1", "dev", "eth0")
    result["interfaces"][1]["mac"] = "02:00:00:00:00:07"
    result["interfaces"].append({"name": "lo", "sandbox": cni.netns})
    result["ips"].append({"address": "127.0.0.1/8", "interface": 2})
    assert cni.call("CHECK", prevResult=result).text == ""


FAULTS = {
    "pod link gone": ("ip -n POD link del eth0", "eth0: no such interface in the pod"),
    "pod link down": (
        "ip -n POD link set eth0 down",
        "eth0: is down in the pod; eth0: the pod lacks the route to 169.254.1.1; "
        "eth0: the pod lacks the default route via 169.254.1.1",
    ),
    "pod mac": ("ip -n POD link set eth0 address 02:00:00:00:00:07", "eth0: has MAC 02:00:00:00:00:07, not MAC"),
    "pod address": (
        "ip -n POD address add 10.65.1.1/32 dev eth0 && ip -n POD address del ADDRESS/32 dev eth0",
        "eth0: lacks the address ADDRESS/32",
    ),
    "pod address length": (
        "ip -n POD address add ADDRESS/24 dev eth0 && ip -n POD address del ADDRESS/32 dev eth0",
        "eth0: lacks the address ADDRESS/32",
    ),
    "pod default route": ("ip -n POD route del default", "eth0: the pod lacks the default route via 169.254.1.1"),
    "node link down": ("ip link set HOST down", "HOST: is down; HOST: the node lacks the route to ADDRESS"),
    "node mac": (
        "ip link set HOST address 02:00:00:00:00:08",
        "HOST: has MAC 02:00:00:00:00:08, not ee:ee:ee:ee:ee:ee",
    ),
    "node route": ("ip route del ADDRESS dev HOST", "HOST: the node lacks the route to ADDRESS"),
    "node route elsewhere": (
        "ip route replace ADDRESS/32 dev uplink scope link",
        "HOST: the node lacks the route to ADDRESS",
    ),
    "node link of another pod": (
        "ip link set HOST down && ip link set HOST name calilost && ip link set calilost up && "
        "ip link add HOST address ee:ee:ee:ee:ee:ee type veth peer name other0 && "
        "ip link set other0 up && ip link set HOST up && ip route add ADDRESS dev HOST scope link && "
        "for key in proxy_arp forwarding route_localnet; do echo 1 >/proc/sys/net/ipv4/conf/HOST/$key; done",
        "HOST: is not the other end of the pod's interface",
    ),
    "proxy arp": (
        "echo 0 >/proc/sys/net/ipv4/conf/HOST/proxy_arp",
        "HOST: sysctl net/ipv4/conf/HOST/proxy_arp is not 1",
    ),
}


@pytest.mark.parametrize(("harm", "complaint"), FAULTS.values(), ids=FAULTS.keys())
def test_a_check_names_what_is_not_as_promised(cni: Any, harm: str, complaint: str) -> None:
    result = cni.add()
    words = {
        "POD": cni.pod,
        "HOST": result["interfaces"][0]["name"],
        "ADDRESS": result["ips"][0]["address"].partition("/")[0],
        "not MAC": "not " + result["interfaces"][1]["mac"],
    }
    for word, meaning in words.items():
        harm, complaint = harm.replace(word, meaning), complaint.replace(word, meaning)
    cni.world.run("sh", "-c", harm)
    error = cni.refused("CHECK", prevResult=result)
    cni.world.run("sh", "-c", f"ip route del {words['ADDRESS']} dev uplink 2>/dev/null; true")
    assert (error["code"], error["msg"]) == (104, complaint)


def test_a_check_misses_an_allocation_and_an_endpoint(cni: Any) -> None:
    result = cni.add()
    store = cni.world.store()
    cni.world.store_with({key: None for key in store if "/handle/" in key or "workloadendpoints" in key})
    address = result["ips"][0]["address"].partition("/")[0]
    assert cni.refused("CHECK", prevResult=result)["msg"] == (
        f"{address}: is not allocated to k8s-pod-network.{cni.container}; "
        f"workload endpoint node1-k8s-{cni.pod}-eth0: missing, or of another container or address"
    )
