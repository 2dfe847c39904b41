"""Where things stand in the picture, for every lab there is."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest

from tunlab.lab.load import lab_names, load_lab
from tunlab.lab.topology import Topology
from tunlab.watch.picture import PodAt, draw


def picture_of(topology: Topology) -> dict[str, Any]:
    pods = [
        PodAt(pod.name, topology.node(pod.node).name, "10.0.0.1", f"cali{number}")
        for number, pod in enumerate(topology.pods)
    ]
    return draw(topology, pods, {node.name: ["tunl0"] for node in topology.nodes})


@pytest.fixture(params=lab_names())
def topology(request: pytest.FixtureRequest) -> Topology:
    return load_lab(request.param)


def test_everything_of_a_lab_is_there_once_and_within_the_picture(topology: Topology) -> None:
    picture = picture_of(topology)
    names = [place["name"] for place in picture["places"]]
    wanted = [*(host.name for host in topology.hosts), *(one.name for one in topology.segments)]
    assert sorted(names) == sorted([*wanted, *(pod.name for pod in topology.pods)])
    for place in picture["places"]:
        assert 0 < place["x"] < place["x"] + place["width"] < picture["width"], place["name"]
        assert 0 < place["y"] < place["y"] + place["height"] < picture["height"], place["name"]


def test_no_two_places_touch(topology: Topology) -> None:
    for one, other in combinations(picture_of(topology)["places"], 2):
        is_beside = one["x"] + one["width"] < other["x"] or other["x"] + other["width"] < one["x"]
        is_above = one["y"] + one["height"] < other["y"] or other["y"] + other["height"] < one["y"]
        assert is_beside or is_above, (one["name"], other["name"])


def test_every_cable_has_two_ends_that_are_drawn(topology: Topology) -> None:
    picture = picture_of(topology)
    ends = {(place["name"], device["name"]) for place in picture["places"] for device in place["devices"]}
    cables = [(tuple(link["from"]), tuple(link["to"])) for link in picture["links"]]
    assert {end for cable in cables for end in cable} <= ends
    assert len(cables) == sum(len(host.attachments) for host in topology.hosts) + len(topology.pods)


def test_layers_go_from_pods_down_to_the_routers_behind_the_segments() -> None:
    tops = {place["name"]: place["y"] for place in picture_of(load_lab("cross-subnet-deep"))["places"]}
    down = ["pod1", "node1", "net1", "router1", "core1", "router2"]
    assert [tops[name] for name in down] == sorted({tops[name] for name in down})
    assert (tops["router1"], tops["core1"]) == (tops["router3"], tops["core2"])
