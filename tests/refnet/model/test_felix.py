"""Settings come from the cluster's object, the node's own and its environment; the nearest wins, field by field."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest

from refnet.calc.world import read_world
from refnet.model.failsafe import FailsafePort
from refnet.model.felix import FelixConfiguration, unknown_variables
from tests.refnet.calc import situations as s


def felix(name: str, **spec: Any) -> dict[str, Any]:
    return s.resource("FelixConfiguration", "felixconfigurations", name, spec)


def test_the_nearest_setting_wins_field_by_field() -> None:
    store = felix("default", ipipMTU=1400, vxlanMTU=1400, vxlanPort=8472) | felix(
        "node.node1", ipipMTU=1300, vxlanMTU=1300
    )
    store |= felix("node.node2", vxlanPort=1)
    told, _ = FelixConfiguration.from_environment({"FELIX_IPINIPMTU": "1200", "FELIX_VXLANMTU": ""})
    seen = read_world(store, "node1", told).felix
    assert (seen.ipip_mtu_bytes, seen.vxlan_mtu_bytes, seen.vxlan_port, seen.vxlan_vni) == (1200, 1300, 8472, None)


def test_a_wrong_object_is_listed_and_the_others_count() -> None:
    world = read_world(felix("default", ipipMTU=1400) | felix("node.node1", ipipMTU="big"), "node1")
    assert world.felix.ipip_mtu_bytes == 1400
    assert [invalid.key.rpartition("/")[2] for invalid in world.invalid] == ["node.node1"]


@pytest.mark.parametrize(
    ("variable", "text", "attribute", "value"),
    [
        ("FELIX_IPINIPMTU", "1440", "ipip_mtu_bytes", 1440),
        ("FELIX_VXLANMTU", "0", "vxlan_mtu_bytes", 0),
        ("FELIX_MTUIFACEPATTERN", "^ens", "mtu_pattern", "^ens"),
        ("FELIX_DEFAULTENDPOINTTOHOSTACTION", "ACCEPT", "endpoint_to_host", "Accept"),
        ("FELIX_IPV6SUPPORT", "False", "ipv6_support", False),
        ("FELIX_IPV6SUPPORT", "true", "ipv6_support", True),
        ("FELIX_ROUTEREFRESHINTERVAL", "30", "refresh_s", 30.0),
        ("FELIX_ROUTEREFRESHINTERVAL", "1m30s", "refresh_s", 90.0),
    ],
)
def test_variables_say_the_same_in_their_own_way(variable: str, text: str, attribute: str, value: object) -> None:
    told, mistakes = FelixConfiguration.from_environment({variable: text})
    assert (getattr(told, attribute), mistakes) == (value, [])


@pytest.mark.parametrize(
    ("variable", "text", "legal"),
    [
        ("FELIX_IPINIPMTU", "big", "a whole number, 0 to 65535"),
        ("FELIX_VXLANPORT", "0", "a whole number, 1 to 65535"),
        ("FELIX_MTUIFACEPATTERN", "(", "a regular expression of at most 200 characters"),
        ("FELIX_DEFAULTENDPOINTTOHOSTACTION", "REJECT", "Drop, Return, Accept"),
        ("FELIX_IPV6SUPPORT", "sometimes", "true, false"),
        ("FELIX_ROUTEREFRESHINTERVAL", "soon", "a duration such as 90s or 1m30s"),
    ],
)
def test_a_wrong_variable_is_named_as_it_was_set(variable: str, text: str, legal: str) -> None:
    _, mistakes = FelixConfiguration.from_environment({variable: text})
    assert [(m.path, m.given, m.legal) for m in mistakes] == [(variable, text, legal)]


def test_variables_without_effect_are_known() -> None:
    environment = {"FELIX_WIREGUARDMTU": "0", "FELIX_IPINIPMTU": "0", "FELIX_LOGSEVERITYSCREEN": "info", "PATH": "/bin"}
    assert unknown_variables(environment, ("FELIX_LOGSEVERITYSCREEN",)) == ("FELIX_WIREGUARDMTU",)


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("none", ()),
        ("tcp:22,udp:68", (FailsafePort("tcp", 22), FailsafePort("udp", 68))),
        ("22", (FailsafePort("tcp", 22),)),
        ("udp:10.0.0.0/8:53", (FailsafePort("udp", 53, ip_network("10.0.0.0/8")),)),
        ("tcp:fd00::/8:53", (FailsafePort("tcp", 53, ip_network("fd00::/8")),)),
    ],
)
def test_failsafe_ports_in_a_variable(text: str, ports: tuple[FailsafePort, ...]) -> None:
    found, mistakes = FelixConfiguration.from_environment({"FELIX_FAILSAFEINBOUNDHOSTPORTS": text})
    assert (found.failsafe_in, mistakes) == (ports, [])


@pytest.mark.parametrize("text", ["tcp", "tcp:x", "gre:1", "tcp:nowhere:1", "tcp:99999", ","])
def test_wrong_failsafe_ports_in_a_variable_are_a_mistake(text: str) -> None:
    assert FelixConfiguration.from_environment({"FELIX_FAILSAFEINBOUNDHOSTPORTS": text})[1]
