"""GoBGP's file, and what GoBGP is not asked to do."""

from __future__ import annotations

import json
from typing import Any

from refnet.calc.network import wanted
from refnet.calc.speaker import SpeakerConfig
from refnet.calc.world import read_world
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
    assert everybodys["neighbor-info-list"] == ["192.0.2.2/32", "198.51.100.3/32"]
    assert file_of(REFLECTOR)["policy-definitions"][0]["statements"] == []


def test_a_session_that_asks_too_much_is_left_out() -> None:
    config = config_of(EVERY_FIELD)
    assert {unsupported(config, peer) for peer in config.peers} == {"filters", "prefixAdvertisements"}
    assert file_of(EVERY_FIELD)["neighbors"] == []


def test_own_blocks_are_told_unless_their_pool_stays_home() -> None:
    private = s.NONE.but("a private block", s.pool(disableBGPExport=True))
    assert [str(cidr) for cidr in announced(config_of(s.NONE))] == ["10.65.0.0/26"]
    assert announced(config_of(private)) == frozenset()
