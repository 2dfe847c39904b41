"""The runtime's side of CNI against Debian's plugins (ptp, host-local, portmap) and against plugins that misbehave.

Source: CNI specification 1.0.0, sections 2 and 3. A plugin of ours, `witness`, stands at both ends of the chain and
notes what it is called with.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tunlab.box.box import OwnBox
from tunlab.box.start import fresh_run_dir, start_box
from tunlab.errors import SystemFault, WorldError
from tunlab.runtime import cni
from tunlab.runtime.cni import PluginFailed, Runtime, Sandbox

DEBIAN = "/usr/lib/cni"
PATH = f"/run/cni:{DEBIAN}"
WITNESS = """#!/usr/bin/python3 -IS
import json, os, sys
config = json.load(sys.stdin)
called = {"verb": os.environ["CNI_COMMAND"], "who": config["who"], "config": config,
          "env": {k: v for k, v in os.environ.items() if k.startswith("CNI_")}}
with open("/run/tunlab/calls", "a") as calls:
    calls.write(json.dumps(called) + "\\n")
if config.get("fails_at") == called["verb"]:
    print(json.dumps({"cniVersion": "1.0.0", "code": 117, "msg": "not today", "details": "nor tomorrow"}))
    sys.exit(1)
if called["verb"] == "ADD":
    result = config.get("prevResult") or {"cniVersion": "1.0.0"}
    if "names" in config:
        result["interfaces"] = [*result.get("interfaces", []), {"name": config["names"]}]
    print(json.dumps({**result, "dns": {"search": [*result.get("dns", {}).get("search", []), called["who"]]}}))
"""
PTP = {
    "type": "ptp",
    "ipam": {
        "type": "host-local",
        "ranges": [[{"subnet": "10.22.0.0/24"}]],
        "routes": [{"dst": "0.0.0.0/0", "gw": "10.22.0.1"}],
    },
}
PORTMAP = {
    "type": "portmap",
    "capabilities": {"portMappings": True},
    "runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]},
}


def conflist(*plugins: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"cniVersion": "1.0.0", "name": "tested", "plugins": list(plugins), **more}


def witness(who: str, **more: Any) -> dict[str, Any]:
    return {"type": "witness", "who": who, **more}


@pytest.fixture(scope="module")
def box() -> Iterator[OwnBox]:
    for plugin in ("ptp", "host-local", "portmap"):
        assert Path(DEBIAN, plugin).exists(), f"no {DEBIAN}/{plugin}: apt-get install containernetworking-plugins"
    box = start_box("namespaces", fresh_run_dir("tests-cni"))
    try:
        for node in ("node1", "node2"):
            box.add_network(node, {"net.ipv4.ip_forward": "1"})
            box.add_host(node)
            box.put(node, "/run/cni/witness", WITNESS, 0o755)
        yield box
    finally:
        box.close()


@pytest.fixture
def calls(box: OwnBox) -> Path:
    path = box.run_dir / "calls"
    path.write_text("")
    return path


def told(calls: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in calls.read_text().splitlines()]


def order(calls: Path) -> list[tuple[str, str]]:
    return [(call["verb"], call["who"]) for call in told(calls)]


def state(box: OwnBox, node: str = "node1") -> str:
    """All of a node that an attachment may touch."""
    script = "ip -br link; ip -br addr; ip route; "
    script += "for tables in iptables-legacy-save iptables-save; do $tables | grep -v '^[#:*C]'; done; "
    script += "find /var/lib/cni -type f ! -name 'last_reserved_ip.*' ! -name lock 2>/dev/null"
    return box.run(node, ["sh", "-c", script], check=False).out


def test_a_chain_is_added_in_order_each_with_the_result_before_and_deleted_in_reverse(box: OwnBox, calls: Path) -> None:
    runtime = Runtime(box, {"node1": conflist(witness("first"), PTP, PORTMAP, witness("last"))}, PATH)
    runtime_of_debian = Runtime(box, {"node1": conflist(PTP, PORTMAP, witness("middle"), witness("last"))}, PATH)
    sandbox = Sandbox("pod1", "node1", arguments={"IP": "10.22.0.77"})
    before = state(box)
    result = runtime_of_debian.attach(sandbox)
    assert [one["address"] for one in result["ips"]] == ["10.22.0.77/24"]
    assert result["dns"]["search"] == ["middle", "last"]  # the last plugin's result, made from the ones before
    assert result == runtime_of_debian.result_of(sandbox)
    assert "--dport 8080 -j DNAT --to-destination 10.22.0.77:80" in state(box)
    assert order(calls) == [("ADD", "middle"), ("ADD", "last")]
    middle, last = told(calls)
    assert middle["config"]["prevResult"]["ips"][0]["address"] == "10.22.0.77/24"
    assert last["config"]["prevResult"]["dns"] == {"search": ["middle"]}
    runtime_of_debian.detach(sandbox)
    assert order(calls)[2:] == [("DEL", "last"), ("DEL", "middle")]
    assert [call["config"]["prevResult"] for call in told(calls)[2:]] == [result, result]
    left = [line for line in state(box).splitlines() if line not in before.splitlines() and "CNI-HOSTPORT" not in line]
    assert left == []  # portmap leaves its shared top chains by design
    assert runtime.first_config("node1")["who"] == "first"


def test_a_pod_reaches_its_host_and_the_offloads_of_its_cable_are_off(box: OwnBox) -> None:
    runtime = Runtime(box, {"node1": conflist(PTP)}, PATH)
    sandbox = Sandbox("pod2", "node1")
    result = runtime.attach(sandbox)
    try:
        box.run("pod2", ["ping", "-c1", "-W2", "10.22.0.1"])
        host_device = next(one["name"] for one in result["interfaces"] if not one.get("sandbox"))
        for place, device in (("pod2", "eth0"), ("node1", host_device)):
            seen = box.run(place, ["ethtool", "-k", device]).out
            for feature in ("tx-checksumming", "generic-segmentation-offload", "tcp-segmentation-offload"):
                assert f"{feature}: off" in seen, f"{place}/{device}"
    finally:
        runtime.detach(sandbox)


def test_the_parameters_are_the_specifications(box: OwnBox, calls: Path) -> None:
    runtime = Runtime(box, {"node1": conflist(witness("only", capabilities={"portMappings": True}))}, PATH)
    sandbox = Sandbox("pod3", "node1", namespace="shop", arguments={"IP": "10.1.1.1", "MORE": "x"})
    runtime.add(sandbox, {"mtu": 1400})
    (call,) = told(calls)
    assert call["env"] == {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": sandbox.container_id,
        "CNI_NETNS": "/run/netns/pod3",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": PATH,
        "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=pod3;"
        f"K8S_POD_INFRA_CONTAINER_ID={sandbox.container_id};IP=10.1.1.1;MORE=x",
    }
    assert call["config"] == {"cniVersion": "1.0.0", "name": "tested", "type": "witness", "who": "only", "mtu": 1400}


def test_container_ids_are_a_function_of_the_names_alone() -> None:
    one = Sandbox("pod1", "node1")
    assert one.container_id == Sandbox("pod1", "node1", arguments={"IP": "1.2.3.4"}).container_id
    others = {Sandbox("pod2", "node1"), Sandbox("pod1", "node2"), Sandbox("pod1", "node1", namespace="n")}
    assert len({one.container_id, *(other.container_id for other in others)}) == 4
    assert all(len(each.container_id) == 64 for each in others)


def test_check_goes_forward_with_the_last_result_and_notices(box: OwnBox, calls: Path) -> None:
    runtime = Runtime(box, {"node1": conflist(PTP, witness("a"), witness("b"))}, PATH)
    sandbox = Sandbox("pod4", "node1")
    result = runtime.attach(sandbox)
    calls.write_text("")
    try:
        runtime.check(sandbox)
        assert order(calls) == [("CHECK", "a"), ("CHECK", "b")]
        assert all(call["config"]["prevResult"] == result for call in told(calls))
        box.run("pod4", ["ip", "addr", "flush", "dev", "eth0"])
        with pytest.raises(PluginFailed, match=r"^node1: CHECK: ptp: exit code 1: ") as raised:
            runtime.check(sandbox)
        assert raised.value.code is not None
        assert len(told(calls)) == 2  # what comes after the one that failed is not called
    finally:
        runtime.detach(sandbox)


def test_a_conflist_that_forbids_check_is_not_checked(box: OwnBox, calls: Path) -> None:
    runtime = Runtime(box, {"node1": conflist(witness("a", fails_at="CHECK"), disableCheck=True)}, PATH)
    sandbox = Sandbox("pod5", "node1")
    runtime.add(sandbox)
    runtime.check(sandbox)
    assert order(calls) == [("ADD", "a")]


def test_an_add_that_fails_is_followed_by_del_of_all_and_leaves_no_namespace(box: OwnBox, calls: Path) -> None:
    runtime = Runtime(box, {"node1": conflist(PTP, witness("a", fails_at="ADD"), witness("b"))}, PATH)
    before = state(box)
    with pytest.raises(PluginFailed, match=r"^node1: ADD: witness: exit code 1: not today \(nor tomorrow\)$") as raised:
        runtime.attach(Sandbox("pod6", "node1"))
    assert raised.value.code == 117
    assert isinstance(raised.value, SystemFault)
    assert order(calls) == [("ADD", "a"), ("DEL", "b"), ("DEL", "a")]
    assert state(box) == before
    assert "pod6" not in box.run("box", ["ls", "/run/netns"]).out.split()


def test_an_add_whose_result_names_what_is_not_there_is_undone_like_any_other_that_failed(
    box: OwnBox, calls: Path
) -> None:
    runtime = Runtime(box, {"node1": conflist(PTP, witness("a", names="nowhere0"))}, PATH)
    before = state(box)
    with pytest.raises(PluginFailed, match=r"^node1: ADD: its result names what is not there: "):
        runtime.attach(Sandbox("pod6", "node1"))
    assert order(calls) == [("ADD", "a"), ("DEL", "a")]
    assert state(box) == before
    assert "pod6" not in box.run("box", ["ls", "/run/netns"]).out.split()


def test_a_failed_del_is_told_and_the_pod_can_still_be_deleted(box: OwnBox) -> None:
    runtime = Runtime(box, {"node1": conflist(PTP, witness("a", fails_at="DEL"))}, PATH)
    sandbox = Sandbox("pod7", "node1")
    result = runtime.attach(sandbox)
    with pytest.raises(PluginFailed, match=r"^node1: DEL: witness: exit code 1: not today"):
        runtime.detach(sandbox)
    assert runtime.result_of(sandbox) == result
    runtime.delete(sandbox, check=False)
    with pytest.raises(KeyError):
        runtime.result_of(sandbox)
    runtime.drop_network("pod7")
    runtime.drop_network("pod7")  # one that is gone already is fine


def test_a_result_cached_by_another_process_is_adopted_and_serves_check_and_del(box: OwnBox, calls: Path) -> None:
    conflists = {"node1": conflist(PTP, witness("a"))}
    sandbox = Sandbox("pod8", "node1")
    result = Runtime(box, conflists, PATH).attach(sandbox)
    calls.write_text("")
    later = Runtime(box, conflists, PATH)
    later.adopt(Sandbox("pod8", "node1"), json.loads(json.dumps(result)))
    later.check(sandbox)
    later.detach(sandbox)
    assert [(call["verb"], call["config"]["prevResult"]) for call in told(calls)] == [
        ("CHECK", result),
        ("DEL", result),
    ]


BAD = {
    "rubbish": ("echo rubbish", r"its output is not JSON: 'rubbish\\n'"),
    "rubbish-and-1": ("echo '{'; exit 1", r"its output is not JSON: '\{\\n'"),
    "list": ("echo '[]'", r"its output is no JSON object: '\[\]\\n'"),
    "nothing": ("true", r"printed no result"),
    "silent-failure": ("exit 9", r"exit code 9: it said nothing"),
    "words-on-stderr": ("echo 'no route to store' >&2; exit 1", r"exit code 1: no route to store"),
    "killed": ("kill -SEGV $$", r"exit code -11: it said nothing"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_plugin_that_misbehaves_is_the_systems_fault_and_its_words_are_kept(box: OwnBox, name: str) -> None:
    script, why = BAD[name]
    box.put("node1", f"/run/cni/{name}", f"#!/bin/sh\ncat >/dev/null\n{script}\n", 0o755)
    runtime = Runtime(box, {"node1": conflist({"type": name})}, PATH)
    with pytest.raises(PluginFailed, match=rf"^node1: ADD: {name}: {why}$") as raised:
        runtime.attach(Sandbox("pod9", "node1"))
    assert raised.value.code is None
    assert "pod9" not in box.run("box", ["ls", "/run/netns"]).out.split()


def test_a_plugin_that_is_missing_is_told_by_name_and_where_it_was_looked_for(box: OwnBox) -> None:
    runtime = Runtime(box, {"node1": conflist({"type": "nosuch"})}, PATH)
    with pytest.raises(PluginFailed, match=rf"^node1: ADD: nosuch: no such plugin in {PATH}$"):
        runtime.attach(Sandbox("pod9", "node1"))


def test_a_plugin_that_never_ends_is_killed_and_it_is_the_systems_fault(
    box: OwnBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cni, "TIMEOUT_S", 0.3)
    box.put("node1", "/run/cni/endless", "#!/bin/sh\nsleep 399\n", 0o755)
    runtime = Runtime(box, {"node1": conflist({"type": "endless"})}, PATH)
    with pytest.raises(PluginFailed, match=r"^node1: ADD: endless: still running after 0\.3 s, killed$"):
        runtime.add(Sandbox("pod9", "node1"))
    assert box.run("node1", ["pgrep", "-fx", "sleep 399"], check=False).out == ""


def test_a_type_that_is_a_path_is_never_run(box: OwnBox) -> None:
    runtime = Runtime(box, {"node1": conflist({"type": "../bin/sh"})}, PATH)
    with pytest.raises(SystemFault, match=r"^node1: ADD: \.\./bin/sh: the type of a plugin must not hold a path sep"):
        runtime.add(Sandbox("pod9", "node1"))


def test_a_conflist_without_plugins_attaches_nothing(box: OwnBox) -> None:
    with pytest.raises(WorldError, match=r"^node1: the conflist names no plugin$"):
        Runtime(box, {"node1": conflist()}, PATH).add(Sandbox("pod9", "node1"))


def test_one_plugin_can_be_called_exactly_as_wanted(box: OwnBox, calls: Path) -> None:
    runtime = Runtime(box, {"node1": conflist(witness("a"))}, PATH)
    sandbox = Sandbox("pod9", "node1")
    runtime.call("DEL", sandbox, runtime.first_config("node1"), {"CNI_NETNS": None, "CNI_ARGS": ""})
    (call,) = told(calls)
    assert "CNI_NETNS" not in call["env"]
    assert call["env"]["CNI_ARGS"] == ""
    done = runtime.call("ADD", sandbox, "not JSON at all")
    assert done.rc != 0


def test_two_nodes_attach_by_their_own_conflists(box: OwnBox) -> None:
    other = {**PTP, "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.33.0.0/24"}]]}}
    runtime = Runtime(box, {"node1": conflist(PTP), "node2": conflist(other)}, PATH)
    sandboxes = [Sandbox("poda", "node1"), Sandbox("podb", "node2")]
    seen = [runtime.attach(sandbox)["ips"][0]["address"].rsplit(".", 1)[0] for sandbox in sandboxes]
    assert seen == ["10.22.0", "10.33.0"]
    assert box.run("node1", ["ls", "/var/lib/cni/networks/tested"]).out.split()[0].startswith("10.22.0.")
    assert "10.22.0." not in box.run("node2", ["ls", "/var/lib/cni/networks/tested"]).out
    for sandbox in sandboxes:
        runtime.detach(sandbox)
