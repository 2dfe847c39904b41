"""calico/node's variables describe the pool that a cluster without any gets."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

import pytest

from refnet.calc.default_pool import read_default_pool
from refnet.errors import Mistake

LAN = IPv4Network("172.171.5.0/24")


def spec(subnet: IPv4Network = LAN, **variables: str) -> dict[str, Any]:
    mistakes: list[Mistake] = []
    pool = read_default_pool({f"CALICO_IPV4POOL_{name}": value for name, value in variables.items()}, mistakes)
    assert (mistakes, bool(pool)) == ([], True)
    assert pool
    resource = pool.resource(subnet)
    assert resource["metadata"] == {"name": "default-ipv4-ippool"}
    found: dict[str, Any] = resource["spec"]
    return found


def test_without_variables_it_is_calico_nodes_own() -> None:
    seen = spec()
    assert (seen["cidr"], seen["blockSize"], seen["ipipMode"], seen["vxlanMode"]) == (
        "192.168.0.0/16",
        26,
        "Never",
        "Never",
    )
    assert (seen["natOutgoing"], seen["nodeSelector"], seen["disableBGPExport"]) == (True, "all()", False)


@pytest.mark.parametrize(
    ("written", "mode"),
    [("off", "Never"), ("Never", "Never"), ("ALWAYS", "Always"), ("CrossSubnet", "CrossSubnet"),
     ("cross-subnet", "CrossSubnet"), ("", "Never")],
)  # fmt: skip
def test_old_words_for_a_mode_are_understood(written: str, mode: str) -> None:
    assert spec(IPIP=written)["ipipMode"] == mode
    assert spec(VXLAN=written)["vxlanMode"] == mode


def test_every_variable_has_its_field() -> None:
    seen = spec(CIDR="10.24.0.0/16", BLOCK_SIZE="28", NAT_OUTGOING="false", DISABLE_BGP_EXPORT="true")
    assert (seen["cidr"], seen["blockSize"], seen["natOutgoing"]) == ("10.24.0.0/16", 28, False)
    assert seen["disableBGPExport"] is True


@pytest.mark.parametrize(
    ("subnet", "cidr"),
    [("192.168.5.0/24", "172.16.0.0/16"), ("172.16.0.0/24", "192.168.0.0/16"), ("0.0.0.0/0", "192.168.0.0/16")],
)
def test_a_pool_nobody_chose_keeps_clear_of_the_hosts_subnet(subnet: str, cidr: str) -> None:
    assert spec(IPv4Network(subnet))["cidr"] == cidr


@pytest.mark.parametrize(
    "no", [{"NO_DEFAULT_POOLS": "true"}, {"CALICO_IPV4POOL_CIDR": "none"}], ids=["no-pools", "none"]
)
def test_none_may_be_wanted(no: dict[str, str]) -> None:
    mistakes: list[Mistake] = []
    assert read_default_pool(no, mistakes) is None
    assert mistakes == []


def test_the_ipv6_pool_is_a_random_one_of_local_addresses() -> None:
    mistakes: list[Mistake] = []
    told = {"CALICO_IPV6POOL_VXLAN": "always", "CALICO_IPV6POOL_BLOCK_SIZE": "120"}
    pool = read_default_pool(told, mistakes, 6)
    assert pool and mistakes == []
    resource = pool.resource(LAN, 0x123456789A)
    assert resource["metadata"]["name"] == "default-ipv6-ippool"
    found = resource["spec"]
    assert (found["cidr"], found["blockSize"], found["vxlanMode"]) == ("fd12:3456:789a::/48", 120, "Always")
    assert (found["natOutgoing"], found["ipipMode"]) == (False, "Never")
    usual = read_default_pool({"CALICO_IPV6POOL_CIDR": "fd00:9::/64"}, mistakes, 6)
    assert usual and usual.resource(LAN)["spec"]["blockSize"] == 122
    assert read_default_pool({"CALICO_IPV6POOL_CIDR": "10.0.0.0/16"}, mistakes, 6)
    assert mistakes[0].legal == "an IPv6 network such as fd00:10:244::/48"


POOL = "CALICO_IPV4POOL_"


@pytest.mark.parametrize(
    ("variable", "given", "legal"),
    [
        (POOL + "IPIP", "on", "Always, CrossSubnet, Never (also off, cross-subnet)"),
        (POOL + "CIDR", "10.0.0.1/16", "an IPv4 network such as 192.168.0.0/16"),
        (POOL + "BLOCK_SIZE", "33", "a whole number, 20 to 32"),
        (POOL + "BLOCK_SIZE", "x", "a whole number, 20 to 32"),
        (POOL + "NAT_OUTGOING", "yes", "true, false"),
        ("NO_DEFAULT_POOLS", "ja", "true, false"),
    ],
)
def test_a_wrong_variable_is_named(variable: str, given: str, legal: str) -> None:
    mistakes: list[Mistake] = []
    read_default_pool({variable: given}, mistakes)
    assert [(mistake.path, mistake.given, mistake.legal) for mistake in mistakes] == [(variable, given, legal)]


def test_two_encapsulations_at_once_are_refused() -> None:
    mistakes: list[Mistake] = []
    read_default_pool({POOL + "IPIP": "always", POOL + "VXLAN": "always"}, mistakes)
    assert [(mistake.path, mistake.legal) for mistake in mistakes] == [(POOL + "VXLAN", "Never")]
