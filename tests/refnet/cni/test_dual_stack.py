"""Pods with IPv6, alone or beside IPv4: the same promises for either family."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

GATEWAY = "fe80::ecee:eeff:feee:eeee"
POOL = "/calico/resources/v3/projectcalico.org/ippools/"
BOTH: dict[str, Any] = {"ipam": {"type": "calico-ipam", "assign_ipv4": "true", "assign_ipv6": "true"}}
SIX: dict[str, Any] = {"ipam": {"type": "calico-ipam", "assign_ipv4": "false", "assign_ipv6": "true"}}


@pytest.fixture
def dual(cni: Any) -> Any:
    """A node with a pool of each family."""
    pool = {"apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": {"name": "six"}}
    cni.world.store_with({POOL + "six": {**pool, "spec": {"cidr": "fd00:10:65::/64"}}})
    return cni


def addresses(result: dict[str, Any]) -> list[str]:
    return [ip["address"] for ip in result["ips"]]


def test_a_pod_gets_an_address_of_each_family(dual: Any) -> None:
    result = dual.add(**BOTH)
    four, six = addresses(result)
    assert (four[:8], four[-3:]) == ("10.65.0.", "/32")
    assert (six[:12], six[-4:]) == ("fd00:10:65::", "/128")
    assert result["routes"][2:] == [{"dst": "::/0", "gw": GATEWAY}]
    shown = dual.world.json("ip", "-n", dual.pod, "-j", "address", "show", "dev", "eth0", "scope", "global")
    assert [(a["local"], a["prefixlen"]) for a in shown[0]["addr_info"] if a] == [
        (four[:-3], 32),
        (six[:-4], 128),
    ]
    routes = dual.world.json("ip", "-n", dual.pod, "-6", "-j", "route", "show", "default")
    assert [(r["gateway"], r["dev"], r["metric"]) for r in routes] == [(GATEWAY, "eth0", 1024)]
    host = result["interfaces"][0]["name"]
    to_pod = dual.world.json("ip", "-6", "-j", "route", "show", "dev", host)
    assert [r["dst"] for r in to_pod if r["dst"].startswith("fd00")] == [six[:-4]]
    for name, value in {"accept_dad": "0", "disable_ipv6": "0", "proxy_ndp": "1", "forwarding": "1"}.items():
        assert dual.world.run("cat", f"/proc/sys/net/ipv6/conf/{host}/{name}") == f"{value}\n", name
    endpoint = next(value for key, value in dual.world.store().items() if "workloadendpoints" in key)
    assert endpoint["spec"]["ipNetworks"] == [four, six]
    dual.call("CHECK", prevResult=result, **BOTH)


def test_a_pod_of_ipv6_alone_reaches_its_node_at_once(dual: Any) -> None:
    result = dual.add(**SIX)
    (six,) = addresses(result)
    assert ip_address(six[:-4]).version == 6
    dual.world.run("ping", "-6", "-c1", "-W2", six[:-4])
    dual.world.run("nsenter", f"--net={dual.netns}", "ping", "-6", "-c1", "-W2", f"{GATEWAY}%eth0")
    assert dual.world.json("ip", "-n", dual.pod, "-4", "-j", "route") == []


def test_what_became_of_it_is_checked_for_either_family(dual: Any) -> None:
    result = dual.add(**BOTH)
    assert dual.call("CHECK", prevResult=result, **BOTH).code == 0
    six = addresses(result)[1]
    dual.world.run("ip", "-n", dual.pod, "address", "del", six, "dev", "eth0")
    dual.world.run("ip", "-n", dual.pod, "-6", "route", "del", "default")
    error = dual.refused("CHECK", prevResult=result, **BOTH)
    assert error["msg"] == f"eth0: lacks the address {six}; eth0: the pod lacks the default route via {GATEWAY}"


def test_one_family_without_a_pool_fails_the_whole_and_leaks_nothing(cni: Any) -> None:
    before = cni.world.trace()
    error = cni.refused("ADD", **BOTH)
    assert (error["code"], error["msg"]) == (101, "ipam: no enabled IPv6 IPPool gives addresses to a Workload")
    assert cni.world.trace() == before


def test_a_deleted_pod_gives_both_addresses_back(dual: Any) -> None:
    before = dual.world.trace()
    dual.add(**BOTH)
    dual.delete(**BOTH)
    assert dual.world.trace() == before


def test_an_ipv6_address_and_an_ipv6_pool_can_be_asked_for(dual: Any) -> None:
    dual.arguments = "IP=fd00:10:65::99"
    assert addresses(dual.add()) == ["fd00:10:65::99/128"]
    other = type(dual)(dual.world, dual.world.new_pod(), "second")
    conf: dict[str, Any] = {"ipam": {**SIX["ipam"], "ipv6_pools": ["fd00:10:65::/64"]}}
    assert addresses(other.add(**conf))[0].startswith("fd00:10:65::")


def test_a_second_interface_leaves_the_first_ones_default_route_alone(dual: Any) -> None:
    dual.add(**BOTH)
    second = type(dual)(dual.world, dual.pod, dual.container, "eth1")
    second.add(**BOTH)
    routes = dual.world.json("ip", "-n", dual.pod, "-6", "-j", "route", "show", "default")
    assert [(r["dev"], r["metric"]) for r in routes] == [("eth0", 1024), ("eth1", 1025)]


def test_an_interface_may_have_a_shells_signs_in_its_name(dual: Any) -> None:
    strange = type(dual)(dual.world, dual.pod, dual.container, "e$(id)'`x`")
    assert strange.add(**BOTH)["interfaces"][1]["name"] == "e$(id)'`x`"
