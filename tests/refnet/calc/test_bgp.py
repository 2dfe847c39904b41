"""Whom the speaker talks to: mesh, peers by address and by selector, reflectors; and which of it one node needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface
from typing import Any

import pytest

from refnet.calc.bgp import secrets_needed, speaker_config
from refnet.calc.speaker import SpeakerConfig
from refnet.calc.wanted import Uplink
from refnet.calc.world import read_world
from refnet.model.bgp import SecretKey
from refnet.model.node import Node
from tests.refnet.calc import situations as s

SECRET = SecretKey("bgp", "mesh")
PASSWORD = {"secretKeyRef": {"name": "bgp", "key": "mesh"}}


def node(number: int, rack: str = "", **bgp: Any) -> dict[str, Any]:
    (key, value), *_ = s.node(f"node{number}", f"192.0.2.{number}/24", **bgp).items()
    labels = {"rack": rack} if rack else {}
    return {key: {**value, "metadata": {**value["metadata"], "labels": labels}}}


def peer(name: str, **spec: Any) -> dict[str, Any]:
    return s.resource("BGPPeer", "bgppeers", name, spec)


def settings(name: str = "default", **spec: Any) -> dict[str, Any]:
    return s.resource("BGPConfiguration", "bgpconfigurations", name, spec)


NO_MESH = settings(nodeToNodeMeshEnabled=False)
THREE = s.pool() | node(1) | node(2) | node(3)
REFLECTOR = {"routeReflectorClusterID": "244.0.0.1"}
TO_REFLECTORS = peer("reflectors", nodeSelector="!has(rack)", peerSelector="rack == 'rr'")


def config(store: Mapping[str, Any], number: int = 1, secrets: Mapping[SecretKey, str] | None = None) -> SpeakerConfig:
    world = read_world(store, f"node{number}")
    assert world.invalid == ()
    return speaker_config(world, world.nodes[f"node{number}"], behind(number), secrets or {})


def behind(number: int) -> Uplink:
    return Uplink("eth0", 1500, IPv4Interface(f"192.0.2.{number}/24"))


def names(store: Mapping[str, Any], number: int = 1) -> list[str]:
    return [each.name for each in config(store, number).peers]


def test_a_reflector_is_no_part_of_the_mesh() -> None:
    store = THREE | node(3, **REFLECTOR)
    assert names(store, 1) == ["Mesh_192_0_2_2"]
    assert names(store, 3) == []


def test_a_selection_of_peers_makes_both_sides_talk() -> None:
    store = THREE | NO_MESH | node(3, "rr", **REFLECTOR) | TO_REFLECTORS
    assert [names(store, number) for number in (1, 2, 3)] == [
        ["Node_192_0_2_3"],
        ["Node_192_0_2_3"],
        ["Node_192_0_2_1", "Node_192_0_2_2"],
    ]


def test_with_manual_reverse_peering_the_selected_side_stays_mute() -> None:
    one_way = peer("reflectors", nodeSelector="!has(rack)", peerSelector="rack == 'rr'", reversePeering="Manual")
    store = THREE | NO_MESH | node(3, "rr", **REFLECTOR) | one_way
    assert (names(store, 1), names(store, 3)) == (["Node_192_0_2_3"], [])


def test_nodes_are_a_reflectors_clients_but_not_a_reflector_of_the_same_cluster() -> None:
    store = THREE | NO_MESH | node(2, "rr", **REFLECTOR) | node(3, "rr", **REFLECTOR) | TO_REFLECTORS
    store |= peer("among", nodeSelector="rack == 'rr'", peerSelector="rack == 'rr'")
    clients = {str(each.address): each.cluster_id for each in config(store, 3).peers}
    assert clients == {"192.0.2.1": IPv4Address("244.0.0.1"), "192.0.2.2": None}
    assert {each.cluster_id for each in config(store, 1).peers} == {None}


def test_a_reflectors_external_peer_is_no_client() -> None:
    store = THREE | node(1, **REFLECTOR) | peer("tor", node="node1", peerIP="192.0.2.254", asNumber=65001)
    assert [(each.as_number, each.cluster_id) for each in config(store).peers] == [(65001, None)]


def test_a_peer_by_address_stands_for_the_mesh_session_to_the_same() -> None:
    given = {"peerIP": "192.0.2.2", "asNumber": 64512}
    store = THREE | peer("global", **given) | peer("mine", node="node1", **given)
    assert names(store) == ["Mesh_192_0_2_3", "Node_192_0_2_2"]


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ({"node": "node1"}, True),
        ({"node": "node2"}, False),
        ({"nodeSelector": "rack == 'a'"}, True),
        ({"nodeSelector": "rack != 'a'"}, False),
        ({}, True),
    ],
    ids=["own-name", "other-name", "selected", "not-selected", "global"],
)
def test_a_peering_is_for_whom_it_names_or_selects(target: dict[str, str], found: bool) -> None:
    store = s.pool() | node(1, "a") | peer("tor", peerIP="192.0.2.254", asNumber=65001, **target)
    assert bool(config(store).peers) is found


def test_as_numbers_are_the_clusters_the_nodes_own_or_the_sessions() -> None:
    store = THREE | settings(asNumber="1.10") | node(2, asNumber=65002)
    store |= peer("tor", peerIP="192.0.2.254", asNumber=65001, localASNumber=64999)
    mine = config(store)
    assert mine.as_number == 65546
    assert {each.name: (each.as_number, each.local_as) for each in mine.peers} == {
        "Global_192_0_2_254": (65001, 64999),
        "Mesh_192_0_2_2": (65002, None),
        "Mesh_192_0_2_3": (65546, None),
    }


def test_a_node_may_listen_at_a_port_of_its_own_and_the_others_know() -> None:
    store = THREE | settings(listenPort=1790) | settings("node.node2", listenPort=179)
    assert [config(store, number).listen_port for number in (1, 2)] == [1790, 179]
    assert names(store) == ["Mesh_192_0_2_2", "Mesh_192_0_2_3_port_1790"]
    assert names(store, 3) == ["Mesh_192_0_2_1_port_1790", "Mesh_192_0_2_2"]


def test_without_its_password_a_session_does_not_take_place() -> None:
    store = THREE | settings(nodeMeshPassword=PASSWORD) | peer("tor", peerIP="192.0.2.254", asNumber=65001)
    assert names(store) == ["Global_192_0_2_254"]
    told = config(store, secrets={SECRET: "open sesame"}).peers
    assert {each.name: each.password for each in told} == {
        "Global_192_0_2_254": "",
        "Mesh_192_0_2_2": "open sesame",
        "Mesh_192_0_2_3": "open sesame",
    }


def test_a_node_needs_only_the_passwords_of_its_own_sessions() -> None:
    store = THREE | peer("tor", node="node2", peerIP="192.0.2.254", asNumber=65001, password=PASSWORD)
    for number, needed in ((1, frozenset[SecretKey]()), (2, frozenset({SECRET}))):
        own = Node(f"node{number}", IPv4Interface(f"192.0.2.{number}/24"))
        found = secrets_needed(read_world(store, own.name), own, IPv4Address(f"192.0.2.{number}"))
        assert found == needed, own.name


def test_several_filters_are_one_after_the_other_and_one_that_is_not_there_is_reported() -> None:
    store = s.pool() | node(1)
    for name, action in (("first", "Accept"), ("second", "Reject")):
        store |= s.resource("BGPFilter", "bgpfilters", name, {"importV4": [{"action": action}]})
    store |= peer("tor", peerIP="192.0.2.254", asNumber=65001, filters=["second", "nobody", "first"])
    world = read_world(store, "node1")
    assert [str(invalid.reason) for invalid in world.invalid] == ["filter nobody: there is no such BGPFilter"]
    (session,) = speaker_config(
        world, world.nodes["node1"], Uplink("eth0", 1500, IPv4Interface("192.0.2.1/24")), {}
    ).peers
    assert [rule.accepts for rule in session.imports] == [False, True]


def test_the_gateway_is_told_as_it_is_the_next_hop_of_whom_only_the_kernel_knows_a_way_to() -> None:
    world = read_world(s.NONE.store, "node1")
    uplink = replace(behind(1), gateway=IPv4Address("192.0.2.254"))
    assert speaker_config(world, world.nodes["node1"], uplink, {}).gateway == IPv4Address("192.0.2.254")
