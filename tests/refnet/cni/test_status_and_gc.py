"""STATUS says whether an ADD could be served; GC takes away what its list does not name, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

VALID = "cni.dev/valid-attachments"


def listed(*attached: Any) -> list[dict[str, str]]:
    return [{"containerID": one.container, "ifname": one.ifname} for one in attached]


def endpoints(cni: Any) -> list[str]:
    return [value["spec"]["containerID"] for key, value in cni.world.store().items() if "workloadendpoints" in key]


@pytest.fixture
def new(cni: Any) -> Any:
    return replace(cni, version="1.1.0")


def test_a_node_that_can_serve_says_nothing(new: Any) -> None:
    answer = new.call("STATUS", dict.fromkeys(("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS")))
    assert (answer.code, answer.text) == (0, "")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"nodename_file": "/run/none"}, "node name: /run/none: No such file or directory"),
        ({"etcd_endpoints": "http://127.0.0.1:1"}, "etcd http://127.0.0.1:1: connect: "),
    ],
    ids=["no agent", "no store"],
)
def test_a_node_that_cannot_is_code_50_and_says_why(new: Any, changes: dict[str, str], words: str) -> None:
    error = new.refused("STATUS", **changes)
    assert error["code"] == 50
    assert words in error["msg"]


def test_gc_takes_what_is_not_listed_and_leaves_what_is(new: Any) -> None:
    keeps, loses = new, replace(new, pod=new.world.new_pod(), container="feedfacefeedface")
    keeps.add()
    loses.add()
    answer = new.call("GC", **{VALID: listed(keeps)})
    assert (answer.code, answer.text) == (0, "")
    assert endpoints(new) == [keeps.container]
    handles = [key.rpartition(".")[2] for key in new.world.store() if "/handle/k8s-pod-network." in key]
    assert handles == [keeps.container]
    links = [link["ifname"] for link in new.world.json("ip", "-j", "link") if link["ifname"].startswith("cali")]
    assert len(links) == 1


def test_gc_leaves_other_networks_alone(new: Any) -> None:
    new.add(name="another")
    assert new.call("GC", **{VALID: []}).code == 0
    assert endpoints(new) == [new.container]


def test_gc_that_is_told_of_no_list_takes_nothing(new: Any) -> None:
    new.add()
    error = new.refused("GC")
    assert error["code"] == 7
    assert VALID in error["msg"]
    assert endpoints(new) == [new.container]


def test_gc_tells_apart_networks_whose_names_begin_alike(new: Any) -> None:
    new.add(name="k8s.pod")
    assert new.call("GC", name="k8s", **{VALID: []}).code == 0
    assert [key for key in new.world.store() if "/handle/" in key] == [
        f"/calico/ipam/v2/handle/k8s.pod.{new.container}"
    ]
    assert new.call("GC", name="k8s.pod", **{VALID: []}).code == 0
    assert not [key for key in new.world.store() if "/handle/" in key]
