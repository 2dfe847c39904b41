"""The CNI protocol: versions, environment, configuration; every refusal is one JSON object with the spec's code."""

from __future__ import annotations

import json
from typing import Any

import pytest


@pytest.mark.parametrize(
    ("stdin", "echoed"),
    [('{"cniVersion":"0.4.0"}', "0.4.0"), ('{"cniVersion":"9.9.9"}', "9.9.9"), ("", "1.1.0")],
    ids=["ours", "foreign", "nothing"],
)
def test_version_needs_nothing_but_the_command_and_echoes(cni: Any, stdin: str, echoed: str) -> None:
    absent = dict.fromkeys(("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH"))
    answer = cni.call("VERSION", absent, stdin)
    assert answer.code == 0
    assert answer.document == {"cniVersion": echoed, "supportedVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]}


ENVIRONMENT = {
    "unknown command": ({"CNI_COMMAND": "ADDD"}, "CNI_COMMAND: ADDD; legal: ADD, CHECK, DEL, GC, STATUS, VERSION"),
    "no command": ({"CNI_COMMAND": None}, "CNI_COMMAND: missing; legal: ADD, CHECK, DEL, GC, STATUS, VERSION"),
    "no container": ({"CNI_CONTAINERID": None}, "CNI_CONTAINERID: missing"),
    "no interface": ({"CNI_IFNAME": ""}, "CNI_IFNAME: missing"),
    "all missing": (
        dict.fromkeys(("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME")),
        "CNI_CONTAINERID: missing; CNI_NETNS: missing; CNI_IFNAME: missing",
    ),
    "bad container": (
        {"CNI_CONTAINERID": "../x"},
        "CNI_CONTAINERID: '../x' has characters other than letters, digits, _ . -",
    ),
    "long interface": (
        {"CNI_IFNAME": "sixteencharslong"},
        "CNI_IFNAME: 'sixteencharslong' is no interface name of at most 15 characters",
    ),
    "interface with slash": (
        {"CNI_IFNAME": "a/b"},
        "CNI_IFNAME: 'a/b' is no interface name of at most 15 characters",
    ),
    "no such netns": (
        {"CNI_NETNS": "/run/netns/none"},
        "CNI_NETNS: /run/netns/none: No such file or directory",
    ),
    "netns is a file": ({"CNI_NETNS": "/etc/hostname"}, "CNI_NETNS: /etc/hostname: is not a network namespace"),
    "the node's netns": (
        {"CNI_NETNS": "/proc/self/ns/net"},
        "CNI_NETNS: /proc/self/ns/net: is the node's own network namespace",
    ),
    "misshapen arguments": ({"CNI_ARGS": "IP"}, "CNI_ARGS: 'IP' is not of the form KEY=VALUE"),
    "no address": ({"CNI_ARGS": "IP=10.65.0.300"}, "CNI_ARGS: IP=10.65.0.300 is no IP address"),
}


@pytest.mark.parametrize(("environment", "message"), ENVIRONMENT.values(), ids=ENVIRONMENT.keys())
def test_a_wrong_environment_is_code_4_and_names_the_variable(
    cni: Any, environment: dict[str, str | None], message: str
) -> None:
    error = cni.refused("ADD", environment)
    assert (error["code"], error["msg"]) == (4, message)


@pytest.mark.parametrize("stdin", ["", "{", "[]", "\x00"], ids=["empty", "half", "list", "zero"])
def test_what_is_no_json_object_is_code_6_and_nothing_is_made(cni: Any, stdin: str) -> None:
    before = cni.world.trace()
    assert cni.refused("ADD", stdin=stdin)["code"] == 6
    assert cni.world.trace() == before


@pytest.mark.parametrize("version", ["0.2.0", "1.2.0", "", None, 1], ids=repr)
def test_a_version_that_is_not_ours_is_code_1(cni: Any, version: object) -> None:
    error = cni.refused("ADD", cniVersion=version)
    assert (error["code"], error["cniVersion"]) == (1, "1.1.0")
    assert error["msg"] == f"cniVersion: {json.dumps(version)}; supported: 0.3.1, 0.4.0, 1.0.0, 1.1.0"


def test_check_does_not_exist_before_0_4_0(cni: Any) -> None:
    error = cni.refused("CHECK", cniVersion="0.3.1", prevResult={})
    assert (error["code"], error["cniVersion"]) == (1, "0.3.1")


@pytest.mark.parametrize("verb", ["STATUS", "GC"])
def test_status_and_gc_do_not_exist_before_1_1_0(cni: Any, verb: str) -> None:
    error = cni.refused(verb)
    assert (error["code"], error["msg"]) == (1, f"{verb}: exists from cniVersion 1.1.0 on, this is 1.0.0")


@pytest.mark.parametrize("version", ["0.4.0", "1.0.0"])
def test_a_refusal_speaks_the_version_of_the_question_whatever_is_wrong_first(cni: Any, version: str) -> None:
    assert cni.refused("ADD", {"CNI_NETNS": "/run/netns/none"}, cniVersion=version)["cniVersion"] == version


ENDPOINTS = "http://HOST:PORT, several separated by commas"
CONFIGURATION: dict[str, tuple[dict[str, Any], str]] = {
    "no name": ({"name": None}, "name: missing\n  legal: a name of letters, digits, _ . -"),
    "bad name": ({"name": "a b"}, 'name: "a b"\n  legal: a name of letters, digits, _ . -'),
    "no store": ({"etcd_endpoints": None}, f"etcd_endpoints: missing\n  legal: {ENDPOINTS}"),
    "tls": (
        {"etcd_endpoints": "https://192.0.2.1:2379"},
        'etcd_endpoints: "https://192.0.2.1:2379"\n'
        f"  legal: {ENDPOINTS}\n  hint: TLS towards etcd is not supported yet",
    ),
    "no ipam": ({"ipam": None}, "ipam: missing\n  legal: a mapping of fields\nCNI configuration: ipam.type: missing\n"
                "  legal: calico-ipam"),
    "other ipam": ({"ipam": {"type": "host-local"}}, 'ipam.type: "host-local"\n  legal: calico-ipam'),
    "no IPv4": (
        {"ipam": {"type": "calico-ipam", "assign_ipv4": "false"}},
        'ipam.assign_ipv4: "false"\n  legal: "true"\n  hint: a pod needs an address of one family at least',
    ),
    "small mtu": ({"mtu": 67}, "mtu: 67\n  legal: 0 (automatic), or 68 to 65535"),
    "text for mtu": ({"mtu": "1500"}, 'mtu: "1500"\n  legal: a whole number, 0 to 65535'),
    "log level": ({"log_level": "loud"}, 'log_level: "loud"\n  legal: debug, info, warning, error'),
    "datastore": ({"datastore_type": "kubernetes"}, 'datastore_type: "kubernetes"\n  legal: etcdv3'),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), CONFIGURATION.values(), ids=CONFIGURATION.keys())
def test_a_wrong_configuration_is_code_7_with_path_and_legal_values(
    cni: Any, changes: dict[str, Any], message: str
) -> None:
    conf = {**cni.configuration(), **changes}
    error = cni.refused("ADD", stdin=json.dumps({key: value for key, value in conf.items() if value is not None}))
    assert (error["code"], error["msg"]) == (7, f"CNI configuration: {message}")


def test_a_check_without_the_result_is_code_7(cni: Any) -> None:
    error = cni.refused("CHECK")
    assert error["code"] == 7
    assert error["msg"].startswith("CNI configuration: prevResult: missing\n")


def test_a_node_whose_agent_has_never_run_means_try_again_later(cni: Any) -> None:
    error = cni.refused("ADD", nodename_file="/run/none")
    assert (error["code"], error["msg"]) == (11, "node name: /run/none: No such file or directory")
    cni.delete(nodename_file="/run/none")


def test_keys_of_others_do_not_disturb(cni: Any) -> None:
    extra = {"kubernetes": {"kubeconfig": "/x"}, "policy": {"type": "k8s"}, "args": {}, "cni.dev/x": 1, "new": [1]}
    cni.add(**extra, log_level="debug", log_file_path="/run/cni.log")
    endpoint = next(value for key, value in cni.world.store().items() if "workloadendpoints" in key)
    assert endpoint["spec"]["profiles"] == ["kns.default", "ksa.default.default"]
    assert cni.world.run("cat", "/run/cni.log").splitlines()[-1].endswith(f"ADD {cni.container} eth0: done")
