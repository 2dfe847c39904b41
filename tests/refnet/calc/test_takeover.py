"""Which traces are another CNI's leftovers, and which are not."""

from __future__ import annotations

from typing import Any

import pytest

from refnet.calc.takeover import Leftover, Traces, leftovers, owner_of_conflist, owner_of_device

FLANNEL = {"name": "cbr0", "plugins": [{"type": "flannel"}, {"type": "portmap"}]}
ENV = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\n"


def whats(**seen: Any) -> list[str]:
    return [one.what for one in leftovers(Traces(**seen))]


@pytest.mark.parametrize(
    ("device", "owner"),
    [
        ("flannel.1", "flannel"),
        ("flannel0", "flannel"),
        ("cni0", "cni-bridge"),
        ("docker0", "docker"),
        ("cilium_host", "cilium"),
        ("vxlan-6784", "weave"),
        ("eth0", ""),
        ("cali123", ""),
        ("tunl0", ""),
        ("vxlan.calico", ""),
        ("virbr0", ""),
        ("flannel-of-mine", ""),
        ("br-docker0", ""),
    ],
)
def test_a_device_is_known_by_its_whole_name(device: str, owner: str) -> None:
    assert owner_of_device(device) == owner


@pytest.mark.parametrize(
    ("conflist", "owner"),
    [
        (FLANNEL, "flannel"),
        ({"type": "flannel"}, "flannel"),
        ({"type": "bridge"}, "cni-bridge"),
        ({"type": "bridge", "bridge": "br-second"}, ""),
        ({"plugins": [{"type": "calico"}, {"type": "bridge"}]}, ""),
        ({"type": "loopback"}, ""),
        ({"type": ["flannel"]}, ""),
        ({"plugins": "flannel"}, ""),
        (None, ""),
        ([], ""),
    ],
    ids=str,
)
def test_a_conflist_is_known_by_its_first_plugin(conflist: Any, owner: str) -> None:
    assert owner_of_conflist(conflist) == owner


def test_routes_are_leftovers_only_in_known_ranges_and_never_ours() -> None:
    routes = [
        {"dst": "default", "gateway": "10.0.0.254", "dev": "eth0"},
        {"dst": "10.244.2.0/24", "gateway": "10.0.0.2", "dev": "eth0", "protocol": "boot"},
        {"dst": "10.244.3.0/24", "gateway": "10.244.3.0", "dev": "flannel.1"},
        {"dst": "10.244.4.0/24", "gateway": "10.0.0.4", "dev": "eth0", "protocol": "bird"},
        {"dst": "10.244.5.5", "dev": "cali5", "protocol": "boot"},
        {"type": "blackhole", "dst": "10.244.6.0/26", "protocol": "80"},
        {"dst": "10.9.0.0/16", "gateway": "10.0.0.2", "dev": "eth0"},
    ]
    assert whats(routes=routes, subnet_env=ENV) == ["route 10.244.2.0/24 via 10.0.0.2 dev eth0 proto boot"]
    assert whats(routes=routes) == []


def test_a_range_as_wide_as_everything_claims_nothing() -> None:
    routes = [{"dst": "10.9.0.0/16", "gateway": "10.0.0.2", "dev": "eth0"}]
    assert whats(routes=routes, subnet_env="FLANNEL_NETWORK=0.0.0.0/0\nFLANNEL_NETWORK=x\n") == []


def test_rules_go_with_the_ranges_they_name() -> None:
    rules = [
        {"priority": 0, "src": "all", "table": "local"},
        {"priority": 9, "src": "10.244.1.0", "srclen": 24, "table": "main"},
        {"priority": 10, "src": "10.9.0.0", "srclen": 16, "table": "main"},
    ]
    assert whats(rules=rules, subnet_env=ENV) == ["rule priority 9 from 10.244.1.0/24 lookup main"]


def test_chains_go_after_the_rules_that_lead_into_them() -> None:
    tables = (
        "*nat\n:POSTROUTING ACCEPT [0:0]\n:FLANNEL-POSTRTG - [0:0]\n:cali-POSTROUTING - [0:0]\n"
        '-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG\n'
        "-A POSTROUTING -j cali-POSTROUTING\n-A FLANNEL-POSTRTG -j RETURN\nCOMMIT\n"
    )
    (found,) = leftovers(Traces(tables=tables))
    assert found.lines == (
        "*nat",
        '-D POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG',
        "-F FLANNEL-POSTRTG",
        "-X FLANNEL-POSTRTG",
        "COMMIT",
    )


def test_what_is_in_use_is_kept() -> None:
    links = [{"ifname": "cni0"}, {"ifname": "veth1", "master": "cni0"}, {"ifname": "docker0"}]
    found = {one.what: one.kept for one in leftovers(Traces(links=links))}
    assert found == {"device cni0": "in use by veth1", "device docker0": ""}


def test_while_its_program_runs_nothing_of_it_goes() -> None:
    seen = Traces(links=[{"ifname": "flannel.1"}], programs=frozenset({"flanneld"}))
    assert leftovers(seen) == (
        Leftover("flannel", "device flannel.1", "ip", ("link del flannel.1",), "flanneld still runs: stop it first"),
    )


def test_files_are_those_that_are_there() -> None:
    seen = {
        "conflists": {"/etc/cni/net.d/10-flannel.conflist": FLANNEL, "/etc/cni/net.d/20.conf": {"type": "calico"}},
        "folders": frozenset({"/run/flannel", "/var/lib/cni/networks/cbr0", "/var/lib/cni/networks/other"}),
    }
    assert whats(**seen) == [
        "file /etc/cni/net.d/10-flannel.conflist",
        "folder /var/lib/cni/networks/cbr0",
        "folder /run/flannel",
    ]
