"""GoBGP's file, and what GoBGP is not asked to do."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, ip_address
from typing import Any

from refnet.calc.network import wanted
from refnet.calc.speaker import SpeakerConfig, SpeakerPeer
from refnet.calc.world import read_world
from refnet.model.bgp_filter import FilterRule
from refnet.render.gobgpconf import announced, render_gobgp, unsupported
from tests.refnet.calc import situations as s
from tests.refnet.render.test_golden import EVERY_FIELD, REFLECTOR, SECRETS


def config_of(situation: s.Situation) -> SpeakerConfig:
    speaker = wanted(read_world(situation.store, "node1"), "node1", s.UPLINK, "gobgp", secrets=SECRETS).speaker
    assert speaker
    return speaker


def file_of(situation: s.Situation) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(render_gobgp(config_of(situation)))
    return found


def test_a_reflector_has_clients_passwords_and_a_port() -> None:
    file = file_of(REFLECTOR)
    assert file["global"]["config"] == {"as": 64512, "router-id": "192.0.2.1", "port": 1790}
    first = file["neighbors"][0]
    assert first["config"]["auth-password"] == "open sesame"
    assert first["transport"]["config"]["remote-port"] == 1790
    assert first["route-reflector"]["config"] == {
        "route-reflector-client": True,
        "route-reflector-cluster-id": "244.0.0.1",
    }


def test_the_mesh_is_told_only_what_is_our_own() -> None:
    (everybodys,) = file_of(s.NONE)["defined-sets"]["neighbor-sets"]
    assert everybodys["neighbor-info-list"] == ["192.0.2.1/32", "192.0.2.2/32", "198.51.100.3/32"]
    (nobodys,) = file_of(REFLECTOR)["defined-sets"]["neighbor-sets"]
    assert nobodys["neighbor-info-list"] == ["192.0.2.1/32"]  # none at all would stand for anybody


def test_a_session_that_asks_too_much_is_left_out() -> None:
    config = config_of(EVERY_FIELD)
    refused = {unsupported(peer) for peer in config.peers} - {""}
    assert refused == {"filters with an interface"}
    assert len(file_of(EVERY_FIELD)["neighbors"]) == sum(not unsupported(peer) for peer in config.peers)


RULES = (
    FilterRule(True, "Equal", IPv4Network("10.65.0.0/26")),
    FilterRule(False, "NotIn", IPv4Network("10.65.0.0/16"), (20, 26), is_from_peer=True),
    FilterRule(False),
)


def test_a_filter_is_statements_for_one_neighbour_in_their_order() -> None:
    peer = SpeakerPeer("Node_10_0_0_2", IPv4Address("10.0.0.2"), 64512, next_hop_mode="Self", exports=RULES)
    peer = replace(peer, imports=RULES[1:2])
    file = json.loads(render_gobgp(SpeakerConfig(IPv4Address("10.0.0.1"), 64512, (peer,), (), (), ())))
    imports, exports = (policy["statements"] for policy in file["policy-definitions"])
    to_it = {"match-neighbor-set": {"neighbor-set": peer.name}}
    outside = {"match-prefix-set": {"prefix-set": "10.65.0.0/16 20..26", "match-set-options": "invert"}}
    reject = {"route-disposition": "reject-route"}
    assert [each["conditions"] for each in imports] == [to_it | outside]
    assert [(each["conditions"], each["actions"]) for each in exports[:5]] == [
        (to_it, {"bgp-actions": {"set-next-hop": "self"}}),
        (
            to_it | {"match-prefix-set": {"prefix-set": "10.65.0.0/26 26..26", "match-set-options": "any"}},
            {"route-disposition": "accept-route"},
        ),
        (to_it | outside | {"bgp-conditions": {"route-type": "internal"}}, reject),
        (to_it | outside | {"bgp-conditions": {"route-type": "external"}}, reject),
        (to_it, reject),
    ]
    defined = {one["prefix-set-name"]: one["prefix-list"] for one in file["defined-sets"]["prefix-sets"]}
    assert defined["10.65.0.0/16 20..26"] == [{"ip-prefix": "10.65.0.0/16", "masklength-range": "20..26"}]


def test_each_family_has_sessions_of_its_own() -> None:
    def half(own: str, other: str, six: SpeakerConfig | None = None) -> SpeakerConfig:
        peer = SpeakerPeer(f"Mesh_{other}", ip_address(other), 64512, is_everybodys=True)
        return SpeakerConfig(ip_address(own), 64512, (peer,), (), (), (), six=six)

    file = json.loads(render_gobgp(half("10.0.0.1", "10.0.0.2", half("fd00::1", "fd00::2"))))
    families = {each["config"]["neighbor-address"]: each["afi-safis"] for each in file["neighbors"]}
    names = {peer: [one["config"]["afi-safi-name"] for one in each] for peer, each in families.items()}
    assert names == {"10.0.0.2": ["ipv4-unicast"], "fd00::2": ["ipv6-unicast"]}
    (everybodys,) = file["defined-sets"]["neighbor-sets"]
    assert everybodys["neighbor-info-list"] == ["10.0.0.1/32", "10.0.0.2/32", "fd00::2/128"]


def test_communities_go_with_the_prefixes_they_are_for() -> None:
    exports = file_of(EVERY_FIELD)["policy-definitions"][1]["statements"]
    given = [each["actions"]["bgp-actions"] for each in exports if "bgp-actions" in each["actions"]]
    assert {"set-community": {"options": "add", "set-community-method": {"communities-list": ["64512:7"]}}} in given
    large = {"options": "add", "set-large-community-method": {"communities-list": ["64512:1:2"]}}
    assert {"set-large-community": large} in given


def test_own_blocks_are_told_unless_their_pool_stays_home() -> None:
    private = s.NONE.but("a private block", s.pool(disableBGPExport=True))
    assert [str(cidr) for cidr in announced(config_of(s.NONE))] == ["10.65.0.0/26"]
    assert announced(config_of(private)) == frozenset()
