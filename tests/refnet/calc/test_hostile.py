"""Whatever stands in the store, the world is read: what makes no sense is listed, and nothing is raised.

Nor does any of it become a line of its own in what other programs are given to read.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from refnet.calc.changes import Have, changes
from refnet.calc.network import wanted
from refnet.calc.policy.calculate import filtering
from refnet.calc.wanted import Wanted
from refnet.calc.world import World, read_world
from refnet.render.birdconf import render_bird
from refnet.render.gobgpconf import render_gobgp
from refnet.render.iproute import batches
from refnet.render.ipset import set_lines
from refnet.render.iptables import tables
from refnet.store.etcd import Undecodable, decode_value
from tests.refnet.calc import situations as s

LONG = "a" * 100_000
HOSTILE: dict[str, Any] = {
    "nothing": None,
    "a-number": 7,
    "a-huge-number": 10**4000,
    "not-a-number": float("nan"),
    "endless": float("inf"),
    "negative": -1,
    "true": True,
    "an-empty-text": "",
    "a-list": [1, [2], {"a": None}],
    "a-mapping": {"..": {"$(reboot)": "`id`"}},
    "a-path": "../../etc/passwd",
    "a-shell": "$(touch /run/owned); touch /run/owned #",
    "control-characters": "a\x00b\nc\r\x1b[2J\x7f",
    "half-a-character": "\ud800",
    "very-many-letters": LONG,
    "very-many-brackets": "(" * 100_000,
    "other-digits": "١٢٧.٠.٠.١",
    "an-address-too-far": "999.1.1.1/33",
    "a-zone": "fe80::1%eth0",
    "a-zone-with-a-rule": "fd00::1%x -j ACCEPT\n-A INPUT -j ACCEPT",
    "a-network-with-a-line-of-its-own": "10.0.0.0/8 -j ACCEPT\nflush",
    "undecodable": Undecodable("{"),
}


# A comment, then matches and one target: nothing of it quoted but comments and the prefix of a log's line.
_OPTION = r"(?:-[a-z]|--(?:dst-type|src-type|ctstate|match-set|mark|[sd]ports|invert|icmp-type|icmpv6-type))"
_WORD = r"(?:! )?(?:[A-Za-z0-9][\w.:/,+-]*|cali\+)"
_TARGET = r"-[jg] [\w.:/-]+(?: --set-xmark [0-9a-fx/]+)?(?: --log-prefix \"calico-packet: \" --log-level 5)?"
RULE_TEXT = re.compile(
    rf'(?:-m comment --comment "[^"\\\x00-\x1f\x7f]*" )+(?:(?:! )?(?!-[jg]){_OPTION}(?: {_WORD})* )*{_TARGET}', re.ASCII
)
SET_TEXT = re.compile(
    r"(?:create \S+ hash:(?:net|ip,port) family inet6? maxelem \d+|add \S+ [0-9a-f:./]+(?:,[a-z]+:\d+)?)"
)
IP_TEXT = re.compile(r"(?:link|addr|neigh|fdb|route) (?:add|set|replace|del) [\w.:/ -]+", re.ASCII)
BIRD_TEXT = re.compile(r"""(?: *(?:#.*|[a-z_0-9]*[\w.:/,;~*&|=!<>()\[\]{}"+ -]*[;{}]|))""", re.ASCII)


def resource(kind: str, plural: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    namespace, _, short = name.rpartition("/")
    metadata = {"name": short, "labels": {"app": "web"}, **({"namespace": namespace} if namespace else {})}
    value = {"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": metadata, "spec": spec}
    return {f"/calico/resources/v3/projectcalico.org/{plural}/{name}": value}


RULE = {
    "action": "Allow",
    "protocol": "TCP",
    "source": {"selector": "app == 'web'", "nets": ["10.0.0.0/8"], "namespaceSelector": "all()"},
    "destination": {"ports": [80, "1:9", "http"], "notNets": ["10.1.0.0/16"]},
}
SIX = {
    "action": "Allow",
    "ipVersion": 6,
    "source": {"nets": ["fd00::/8"], "selector": "app == 'web'"},
    "destination": {"notNets": ["fd00:1::/32"]},
}
FAILSAFE = [{"protocol": "tcp", "port": 22, "net": "fd00::/8"}]
ICMP = {"action": "Deny", "protocol": "ICMP", "icmp": {"type": 8, "code": 0}, "ipVersion": 4}
OTHERS = {
    **resource("BGPConfiguration", "bgpconfigurations", "default", {"asNumber": 64512, "nodeToNodeMeshEnabled": True}),
    **resource("BGPPeer", "bgppeers", "tor", {"peerIP": "192.0.2.9", "asNumber": 64513, "filters": ["home"]}),
    **resource("BGPPeer", "bgppeers", "rr", {"nodeSelector": "all()", "peerSelector": "app == 'web'"}),
    **resource(
        "BGPFilter",
        "bgpfilters",
        "home",
        {"exportV4": [{"action": "Reject", "matchOperator": "In", "cidr": "10.0.0.0/8", "prefixLength": {"min": 9}}]},
    ),
    **resource(
        "FelixConfiguration",
        "felixconfigurations",
        "default",
        {"routeRefreshInterval": "1s", "failsafeInboundHostPorts": FAILSAFE},
    ),
    **resource("IPAMConfiguration", "ipamconfigurations", "default", {"strictAffinity": True, "maxBlocksPerHost": 2}),
    **resource("IPReservation", "ipreservations", "some", {"reservedCIDRs": ["10.65.0.8/30"]}),
    **resource(
        "GlobalNetworkPolicy",
        "globalnetworkpolicies",
        "default.all",
        {
            "order": 1,
            "selector": "all()",
            "types": ["Ingress", "Egress"],
            "ingress": [RULE, ICMP, SIX],
            "egress": [RULE],
        },
    ),
    **resource(
        "NetworkPolicy", "networkpolicies", "default/default.web", {"selector": "app == 'web'", "ingress": [RULE]}
    ),
    **resource("GlobalNetworkSet", "globalnetworksets", "bad", {"nets": ["198.51.100.0/24", "2001:db8::/32"]}),
    **resource("NetworkSet", "networksets", "default/bad", {"nets": ["198.51.100.0/24"]}),
    **resource("Profile", "profiles", "web", {"ingress": [RULE], "egress": [ICMP], "labelsToApply": {"a": "b"}}),
    **resource("Tier", "tiers", "early", {"order": 10}),
    **resource(
        "HostEndpoint",
        "hostendpoints",
        "node1-eth0",
        {
            "node": "node1",
            "interfaceName": "eth0",
            "expectedIPs": ["192.0.2.1", "fd00::1"],
            "ports": [{"name": "a", "port": 9}],
        },
    ),
    **s.endpoint("node1", "a", "10.65.0.5", "cali1"),
}


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in a value, the value itself first."""
    yield path
    if isinstance(value, dict):
        for name, child in value.items():
            yield from leaves(child, (*path, name))
    elif isinstance(value, list):
        for number, child in enumerate(value[:3]):
            yield from leaves(child, (*path, number))


def spoilt(value: Any, path: tuple[Any, ...], by: Any) -> Any:
    if not path:
        return by
    out = copy.deepcopy(value)
    at = out
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = by
    return out


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("situation", [s.VXLAN, s.BORROWED], ids=lambda one: one.name.replace(" ", "-"))
def test_a_hostile_value_anywhere_is_listed_at_most(situation: s.Situation, hostile: Any) -> None:
    for key, value in situation.store.items():
        survives(situation.store, key, value, hostile)


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("key", OTHERS, ids=lambda key: key[39:].replace("/", "-"))
def test_a_hostile_value_in_any_other_kind_is_listed_at_most(key: str, hostile: Any) -> None:
    survives({**s.VXLAN.store, **OTHERS}, key, OTHERS[key], hostile)


def test_the_good_ones_are_good() -> None:
    assert read_world({**s.VXLAN.store, **OTHERS}, "node1").invalid == ()


def survives(store: Mapping[str, Any], key: str, value: Any, hostile: Any) -> None:
    read_so_far: list[World] = []
    for path in leaves(value):
        said = read_world({**store, key: spoilt(value, path, hostile)}, "node1")
        world = replace(said, invalid=())
        want = wanted(world, "node1", s.UPLINK)
        assert all("\n" not in invalid.reason and len(invalid.reason) < 400 for invalid in said.invalid)
        if world not in read_so_far:  # most leave a world without the object
            read_so_far.append(world)
            reads_as_before(world, want)


def reads_as_before(world: World, want: Wanted) -> None:
    """What other programs get: a rule is one line with one target, a set's line has four words, and so on."""
    for version in (4, 6):
        filters = filtering(world, "node1", version)
        for table in tables(filters).values():
            for rules in (table.chains, table.inserted, table.appended):
                assert not [name for name in rules if not re.fullmatch(r"[\w.:/-]{1,28}", name, re.ASCII)]
                assert not [rule for lines in rules.values() for rule in lines if not RULE_TEXT.fullmatch(rule)]
        assert not [line for line in set_lines(filters.sets, {}) if not SET_TEXT.fullmatch(line)]
    lines = [line for batch in batches(changes(Have(), want)) for line in batch.lines]
    assert not [line for line in lines if not IP_TEXT.fullmatch(line)]
    if want.speaker:
        assert not [line for line in render_bird(want.speaker).splitlines() if not BIRD_TEXT.fullmatch(line)]
        json.loads(render_gobgp(want.speaker))


@pytest.mark.parametrize(
    "text",
    ["{", "", "\x00", "[" * 200_000, '{"a":' * 200_000, "9" * 10_000, '"\\ud800"'],
    ids=["half", "empty", "nul", "deep-list", "deep-mapping", "long-number", "half-a-character"],
)
def test_a_value_that_is_no_json_is_no_value(text: str) -> None:
    decode_value(text.encode())
