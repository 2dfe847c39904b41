"""What the agent is told by its environment, its command line and BIRD, and what it says to wrong words."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Interface

import pytest

from refnet.agent.birdc import sessions
from refnet.agent.settings import Settings, read_settings
from refnet.agent.speaker import Session
from refnet.agent.status import sessions_missing
from refnet.model.felix import FelixConfiguration
from tests.refnet.apply.sandbox import AGENT

NO_KUBERNETES = "another method: this one asks the Kubernetes datastore, which is not supported"
METHOD = "IP_AUTODETECTION_METHOD"
RIGHT = {"NODENAME": "node1", "ETCD_ENDPOINTS": "http://10.0.0.250:2379"}


def run(*arguments: str, **environment: str) -> tuple[int, str]:
    argv = ["python3", "-ISE", str(AGENT), *arguments]
    path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    done = subprocess.run(argv, env={**path, **environment}, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


LEGAL6 = "an address with its prefix length, fd00:1::10/64, autodetect, none"


def test_calicos_variables_are_the_settings() -> None:
    told = {**RIGHT, "IP": "10.0.0.1/24", "AS": "65001", "CALICO_NETWORKING_BACKEND": "vxlan"}
    told["ETCD_ENDPOINTS"] = "http://a:2379, http://b:2379/"
    address = IPv4Interface("10.0.0.1/24")
    assert replace(read_settings(told), default_pool=None, felix=FelixConfiguration()) == Settings(
        "node1", ("http://a:2379", "http://b:2379"), address, "vxlan", 65001, method=None, redetects=False
    )


@pytest.mark.parametrize(
    ("told", "method", "redetects"),
    [
        ({"IP": "autodetect"}, "first-found", True),
        ({"IP": "autodetect", "IP_AUTODETECTION_METHOD": "interface=ens.*"}, "interface=ens.*", True),
        ({"IP_AUTODETECTION_METHOD": "cidr=10.0.0.0/8"}, "cidr=10.0.0.0/8", False),
        ({"IP": "none"}, "None", False),
    ],
    ids=["autodetect", "a-method", "only-while-there-is-none", "never"],
)
def test_the_address_is_found_as_calico_would(told: dict[str, str], method: str, redetects: bool) -> None:
    settings = read_settings({**RIGHT, **told})
    assert (settings.address, str(settings.method), settings.redetects) == (None, method, redetects)


@pytest.mark.parametrize(
    ("told", "address", "method", "redetects"),
    [
        ({}, None, None, False),
        ({"IP6": "none"}, None, None, False),
        ({"IP6": "2001:db8::1/64"}, IPv6Interface("2001:db8::1/64"), None, False),
        ({"IP6": "autodetect"}, None, "first-found", True),
        ({"IP6": "autodetect", "IP6_AUTODETECTION_METHOD": "cidr=fd00::/8"}, None, "cidr=fd00::/8", True),
    ],
    ids=["not-said", "none", "given", "autodetect", "a-method"],
)
def test_the_ipv6_address_is_looked_for_only_where_one_says_so(
    told: dict[str, str], address: IPv6Interface | None, method: str | None, redetects: bool
) -> None:
    settings = read_settings({**RIGHT, **told}).seen_by(6)
    found = str(settings.method) if settings.method else None
    assert (settings.address, found, settings.redetects) == (address, method, redetects)


def test_variables_of_felix_and_of_the_default_pool_are_settings() -> None:
    told = {"AS": "1.10", "FELIX_VXLANMTU": "1400", "FELIX_WIREGUARDMTU": "0", "NO_DEFAULT_POOLS": "true"}
    settings = read_settings({**RIGHT, **told})
    assert (settings.felix.vxlan_mtu_bytes, settings.default_pool) == (1400, None)
    assert (settings.without_effect, settings.as_number) == (("FELIX_WIREGUARDMTU",), 65546)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"NODENAME": "Node_1"}, "NODENAME: Node_1; legal: a DNS name in lower case"),
        ({"ETCD_ENDPOINTS": ""}, "ETCD_ENDPOINTS: missing; legal: URLs of etcd with commas, http://10.0.0.250:2379"),
        ({"IP": "10.0.0/24"}, "IP: 10.0.0/24; legal: an address with its prefix length, 10.0.0.1/24, autodetect, none"),
        ({"IP6": "fe80::1"}, f"IP6: fe80::1; legal: {LEGAL6}"),
        ({"CALICO_NETWORKING_BACKEND": "brid"}, "CALICO_NETWORKING_BACKEND: brid; legal: bird, gobgp, vxlan, none"),
        ({METHOD: "kubernetes-internal-ip"}, f"{METHOD}: kubernetes-internal-ip; legal: {NO_KUBERNETES}"),
        ({"FELIX_IPINIPMTU": "big"}, "FELIX_IPINIPMTU: big; legal: a whole number, 0 to 65535"),
        ({"AS": "4294967296"}, "AS: 4294967296; legal: a whole number, 1 to 4294967295"),
    ],
    ids=["node-name", "no-store", "address", "link-local", "backend", "kubernetes", "mtu", "as-number"],
)  # fmt: skip
def test_a_wrong_environment_is_one_line_and_exit_2(wrong: dict[str, str], message: str) -> None:
    assert run(**{**RIGHT, **wrong}) == (2, f"refnet-agent: environment: {message}\n")


def test_a_wrong_option_is_one_line_and_exit_2() -> None:
    assert run("--redy") == (2, "refnet-agent: --redy: not understood; usage: refnet-agent [--ready | --version]\n")


def test_birds_table_is_read_as_sessions_with_calicos_words() -> None:
    lines = (
        "Name       Proto      Table      State  Since         Info",
        "device1    Device     ---        up     11:34:16.869  ",
        "Node_10_0_0_9 BGP        ---        start  11:34:17.862  Active        Socket: Connection refused",
        "Mesh_10_0_0_2 BGP        ---        up     11:34:17.862  Established   ",
    )
    assert sessions(lines) == (
        Session("10.0.0.2", "node-to-node mesh", "up", "11:34:17", "Established"),
        Session("10.0.0.9", "node specific", "start", "11:34:17", "Active        Socket: Connection refused"),
    )


UP, WAITS = (Session("10.0.0.2", "", "up", "", "Established"), Session("10.0.0.3", "", "start", "", "Active"))


@pytest.mark.parametrize(
    ("sessions_now", "age_s", "reason"),
    [
        ((UP, WAITS), 1.0, "bird: 1 of 2 sessions Established"),
        ((UP, UP), 1.0, ""),
        ((UP, WAITS), 31.0, ""),
        ((WAITS, WAITS), 31.0, "bird: 0 of 2 sessions Established"),
        ((), 1.0, "bird: 0 of 2 sessions Established"),
    ],
    ids=["one-is-missing", "all-are-up", "one-is-missing-later", "all-are-missing-later", "nothing-known-yet"],
)
def test_a_young_node_waits_for_all_its_peers_and_an_old_one_for_any(
    sessions_now: tuple[Session, ...], age_s: float, reason: str
) -> None:
    assert sessions_missing(2, sessions_now, age_s) == reason


def test_who_speaks_is_named() -> None:
    assert sessions_missing(2, (), 1.0, "gobgp") == "gobgp: 0 of 2 sessions Established"


def test_variables_of_calico_that_nobody_reads_are_named() -> None:
    told = {"CALICO_IPV6POOL_IPIP": "Always", "CALICO_IPV6POOL_CIDR": "none", "CALICO_MANAGE_CNI": "true"}
    settings = read_settings({**RIGHT, **told, "IP6": "fd00::1/64", "DISABLE_NODE_IP_CHECK": "true"})
    assert settings.without_effect == ("CALICO_IPV6POOL_IPIP", "CALICO_MANAGE_CNI")
    assert (settings.default_pool6, settings.checks_address) == (None, False)
    assert (read_settings(RIGHT).default_pool6, read_settings(RIGHT).checks_address) == (None, True)
    pool = read_settings({**RIGHT, "IP6": "autodetect", "CALICO_IPV6POOL_VXLAN": "Always"}).default_pool6
    assert pool and pool.spec["vxlanMode"] == "Always"


def test_a_node_without_peers_waits_for_nobody() -> None:
    assert sessions_missing(0, (), 1.0) == ""
