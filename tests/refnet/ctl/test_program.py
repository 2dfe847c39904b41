"""refnetctl: calicoctl's words, tables and sentences; wrong input is told whole, and then nothing is done."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
import yaml

from refnet.ctl.node_status import node_status
from refnet.ctl.program import main
from refnet.errors import NotFound, StoreUnavailable
from refnet.ipam import Ipam
from refnet.model.keys import NAMESPACED, node_key, pool_key, resource_key, workload_endpoint_key
from refnet.model.kinds import kind_called
from refnet.store.etcd import Etcd

CHECKOUT = Path(__file__).parents[3]
WRONG = CHECKOUT / "tests" / "golden" / "errors" / "manifest"

POOL = """\
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: default-ipv4-ippool}
spec: {cidr: 192.168.0.0/16, ipipMode: Always, natOutgoing: true}
"""
PEER = """\
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: router1}
spec: {peerIP: 192.168.100.1, asNumber: 64512}
"""


class Ctl:
    """refnetctl in this process, against the store of the test."""

    def __init__(self, endpoint: str, capture: pytest.CaptureFixture[str], folder: Path) -> None:
        self.environment = {"ETCD_ENDPOINTS": endpoint}
        self.capture = capture
        self.folder = folder

    def __call__(self, line: str) -> tuple[int, str, str]:
        self.capture.readouterr()
        code = main(line.split(), self.environment)
        out, err = self.capture.readouterr()
        return code, out, err

    def says(self, line: str) -> str:
        code, out, err = self(line)
        assert (code, err) == (0, "")
        return out

    def file(self, text: str) -> str:
        path = self.folder / "manifest.yaml"
        path.write_text(text)
        return str(path)


@pytest.fixture
def ctl(store: Etcd, etcd_endpoint: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Ctl:
    return Ctl(etcd_endpoint, capsys, tmp_path)


def test_apply_creates_then_replaces_and_keeps_identity(ctl: Ctl, store: Etcd) -> None:
    assert ctl.says(f"apply -f {ctl.file(POOL)}") == "Successfully applied 1 'IPPool' resource(s)\n"
    first = store.get(pool_key("default-ipv4-ippool"))
    changed = POOL.replace("ipipMode: Always", "ipipMode: Never")
    assert ctl.says(f"apply -f {ctl.file(changed)}") == "Successfully applied 1 'IPPool' resource(s)\n"
    second = store.get(pool_key("default-ipv4-ippool"))
    assert first and second
    assert first.value["metadata"] == second.value["metadata"]
    assert first.value["metadata"].keys() == {"name", "uid", "creationTimestamp"}
    assert second.value["spec"] == {
        "cidr": "192.168.0.0/16",
        "blockSize": 26,
        "ipipMode": "Never",
        "vxlanMode": "Never",
        "natOutgoing": True,
        "disabled": False,
        "disableBGPExport": False,
        "nodeSelector": "all()",
        "allowedUses": ["Workload", "Tunnel"],
        "assignmentMode": "Automatic",
    }


def test_create_refuses_what_exists_and_replace_what_does_not(ctl: Ctl) -> None:
    file = ctl.file(POOL)
    assert ctl(f"replace -f {file}") == (1, "", "resource does not exist: IPPool(default-ipv4-ippool)\n")
    assert ctl.says(f"create -f {file}") == "Successfully created 1 'IPPool' resource(s)\n"
    assert ctl(f"create -f {file}") == (1, "", "resource already exists: IPPool(default-ipv4-ippool)\n")
    assert ctl.says(f"create -f {file} --skip-exists") == "Successfully created 1 'IPPool' resource(s)\n"
    assert ctl.says(f"replace -f {file}") == "Successfully replaced 1 'IPPool' resource(s)\n"


def test_several_documents_are_one_sentence_and_a_half_done_list_says_how_far(ctl: Ctl) -> None:
    assert ctl.says(f"apply -f {ctl.file(POOL + '---' + chr(10) + PEER)}") == "Successfully applied 2 resource(s)\n"
    other = PEER.replace("router1", "router0")
    assert ctl(f"create -f {ctl.file(other + '---' + chr(10) + PEER)}") == (
        1,
        "",
        "Partial success: created the first 1 out of 2 'BGPPeer' resources\n"
        "resource already exists: BGPPeer(router1)\n",
    )


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_what_is_got_can_be_applied_again(ctl: Ctl, form: str) -> None:
    ctl.says(f"apply -f {ctl.file(POOL)}")
    text = ctl.says(f"get ippool default-ipv4-ippool -o {form}")
    assert yaml.safe_load(text)["metadata"]["resourceVersion"].isdecimal()
    assert ctl.says(f"apply -f {ctl.file(text)}") == "Successfully applied 1 'IPPool' resource(s)\n"
    code, _, err = ctl(f"apply -f {ctl.file(text)}")
    assert code == 1
    assert err.startswith("update conflict: IPPool(default-ipv4-ippool): changed since revision ")


def test_a_list_is_got_and_applied_as_a_list(ctl: Ctl) -> None:
    ctl.says(f"apply -f {ctl.file(PEER)}")
    document = json.loads(ctl.says("get bgppeers -o json"))
    assert (document["kind"], len(document["items"])) == ("BGPPeerList", 1)
    del document["items"][0]["metadata"]["resourceVersion"]
    assert ctl.says(f"apply -f {ctl.file(json.dumps(document))}") == "Successfully applied 1 'BGPPeer' resource(s)\n"


@pytest.mark.parametrize("word", ["ippool", "IPPool", "ippools", "ipp", "pool", "pools"])
def test_a_pool_may_be_called_by_any_of_its_names(ctl: Ctl, word: str) -> None:
    ctl.says(f"apply -f {ctl.file(POOL)}")
    assert ctl.says(f"get {word} -o name") == "default-ipv4-ippool\n"


def test_tables_have_calicoctls_columns(ctl: Ctl, store: Etcd) -> None:
    ctl.says(f"apply -f {ctl.file(POOL + '---' + chr(10) + PEER)}")
    node: dict[str, Any] = {"kind": "Node", "metadata": {"name": "node1"}}
    store.put(node_key("node1"), {**node, "spec": {"bgp": {"ipv4Address": "192.0.2.1/24"}}})
    endpoint = {"node": "node1", "pod": "a", "ipNetworks": ["10.65.0.1/32"], "interfaceName": "cali1"}
    store.put(workload_endpoint_key("default", "node1-k8s-a-eth0"), {"spec": endpoint})
    assert ctl.says("get pool -o wide") == (
        "NAME                  CIDR             NAT    IPIPMODE   VXLANMODE   DISABLED   DISABLEBGPEXPORT   SELECTOR   \n"  # noqa: E501
        "default-ipv4-ippool   192.168.0.0/16   true   Always     Never       false      false              all()      \n"  # noqa: E501
        "\n"
    )
    assert ctl.says("get pool") == (
        "NAME                  CIDR             SELECTOR   \ndefault-ipv4-ippool   192.168.0.0/16   all()      \n\n"
    )
    assert ctl.says("get nodes -o wide") == (
        "NAME    ASN       IPV4           IPV6   \nnode1   (64512)   192.0.2.1/24          \n\n"
    )
    assert ctl.says("get bgppeer") == (
        "NAME      PEERIP          NODE       ASN     \nrouter1   192.168.100.1   (global)   64512   \n\n"
    )
    assert ctl.says("get wep") == (
        "WORKLOAD   NODE    NETWORKS       INTERFACE   \na          node1   10.65.0.1/32   cali1       \n\n"
    )
    assert ctl.says("get wep -a").splitlines()[0].split()[0] == "NAMESPACE"


def test_delete_says_what_it_did_and_what_was_not_there(ctl: Ctl, store: Etcd) -> None:
    ctl.says(f"apply -f {ctl.file(POOL)}")
    Ipam(store, "node1").claim_block(IPv4Network("192.168.0.0/26"))
    assert ctl.says("delete ippool default-ipv4-ippool") == "Successfully deleted 1 'IPPool' resource(s)\n"
    assert store.prefix("/calico/")[0] == {}
    assert ctl("delete ippool default-ipv4-ippool") == (1, "", "resource does not exist: IPPool(default-ipv4-ippool)\n")
    assert ctl.says("delete pool default-ipv4-ippool --skip-not-exists").startswith("Successfully deleted")


def test_a_field_without_effect_is_named_and_kept(ctl: Ctl, store: Etcd) -> None:
    code, _, err = ctl(f"apply -f {ctl.file(PEER.replace('{peerIP', '{colour: green, peerIP'))}")
    assert (code, err) == (0, "warning: BGPPeer/router1: spec.colour: has no effect here\n")
    kept = store.prefix("/calico/")[0].popitem()[1]
    assert kept.value["spec"]["colour"] == "green"


def test_a_time_in_a_manifest_stays_the_text_it_is(ctl: Ctl, store: Etcd) -> None:
    stamped = PEER.replace("{name", "{creationTimestamp: 2026-01-02T03:04:05Z, name")
    assert ctl.says(f"apply -f {ctl.file(stamped)}") == "Successfully applied 1 'BGPPeer' resource(s)\n"
    assert store.prefix("/calico/")[0].popitem()[1].value["metadata"]["creationTimestamp"] == "2026-01-02T03:04:05Z"


def test_a_pools_shape_cannot_change(ctl: Ctl) -> None:
    ctl.says(f"apply -f {ctl.file(POOL)}")
    assert ctl(f"apply -f {ctl.file(POOL.replace('192.168.0.0/16', '10.0.0.0/16'))}") == (
        2,
        "",
        "pools: IPPool/default-ipv4-ippool: spec.cidr: 10.0.0.0/16, blocks /26\n"
        "  legal: 192.168.0.0/16, blocks /26\n"
        "  hint: delete the pool and create it anew\n",
    )


@pytest.mark.parametrize("file", sorted(WRONG.glob("*.yaml")), ids=lambda file: file.stem)
def test_a_wrong_manifest_is_told_whole_and_nothing_is_done(
    ctl: Ctl, store: Etcd, monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    monkeypatch.chdir(WRONG)
    code, out, err = ctl(f"apply -f {file.name}")
    assert err == file.with_suffix(".txt").read_text()
    assert (code, out) == (2, "")
    assert max(map(len, err.splitlines())) <= 80
    assert store.prefix("/calico/")[0] == {}


LINES = {
    "nothing": ("frobnicate", "refnetctl: frobnicate: no such command"),
    "kind": ("get frogs", "KIND: frogs: no such kind"),
    "no kind": ("get", "refnetctl: get: which?"),
    "option": ("get pools --colour", "refnetctl: --colour: no such option"),
    "output": ("get pools -o xml", "refnetctl: -o: xml"),
    "no value": ("get pools -o", "refnetctl: -o: missing its value"),
    "no file": ("apply", "refnetctl: apply: lacks a file"),
    "file is not there": ("apply -f /none.yaml", "/none.yaml: -f: No such file or directory"),
    "delete without name": ("delete pool", "refnetctl: delete: which?"),
    "option of another verb": ("version -o yaml", "refnetctl: --output: means nothing to version"),
    "word too much": ("node status now", "refnetctl: node status: takes no 'now'"),
    "claim without node": ("ipam claim 10.0.0.0/26", "refnetctl: ipam claim: lacks its block or node"),
    "claim of no block": ("ipam claim 10.0.0.1/26 --node=n", "ipam claim: CIDR: 10.0.0.1/26"),
    "no address": ("ipam show --ip=x", "ipam show: --ip: x"),
}


@pytest.mark.parametrize(("line", "first"), LINES.values(), ids=LINES.keys())
def test_a_wrong_line_is_exit_code_2_and_says_what_is_legal(ctl: Ctl, line: str, first: str) -> None:
    code, out, err = ctl(line)
    assert (code, out, err.splitlines()[0]) == (2, "", first)
    assert err.splitlines()[1].startswith("  legal: ")
    assert max(map(len, err.splitlines())) <= 80


def test_a_store_that_is_away_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["get", "pools"], {"ETCD_ENDPOINTS": "http://127.0.0.1:1"}) == 1
    assert capsys.readouterr().err == (
        "etcd http://127.0.0.1:1: connect: Connection refused\n  hint: is etcd running, and is this its address?\n"
    )


def test_ipam_show_counts_pools_and_blocks(ctl: Ctl, store: Etcd) -> None:
    ctl.says(f"apply -f {ctl.file(POOL)}")
    assert ctl.says("ipam claim 192.168.236.0/26 --node master") == "Block 192.168.236.0/26 belongs to node master\n"
    Ipam(store, "master").assign(IPv4Address("192.168.236.3"), "net.c1", {"node": "master"})
    assert ctl.says("ipam show --show-blocks") == (
        "+----------+------------------+-----------+------------+--------------+--------------+\n"
        "| GROUPING |       CIDR       | IPS TOTAL | IPS IN USE | IPS RESERVED |   IPS FREE   |\n"
        "+----------+------------------+-----------+------------+--------------+--------------+\n"
        "| IP Pool  | 192.168.0.0/16   | 65536     | 1 (0%)     | 0 (0%)       | 65535 (100%) |\n"
        "| Block    | 192.168.236.0/26 | 64        | 1 (2%)     | 0 (0%)       | 63 (98%)     |\n"
        "+----------+------------------+-----------+------------+--------------+--------------+\n"
    )
    assert ctl.says("ipam show --ip=192.168.236.3") == (
        "IP 192.168.236.3 is in use\nHandle ID: net.c1\nAttributes:\n  node: master\n"
    )
    assert ctl.says("ipam show --ip=192.168.236.4") == "IP 192.168.236.4 is not assigned\n"
    assert ctl.says("ipam show --ip=10.0.0.1") == "10.0.0.1 is not in an active IP pool\n"
    code, _, err = ctl("ipam claim 192.168.236.0/26 --node=other")
    assert (code, err) == (1, "ipam: block 192.168.236.0/26: belongs to master\n")


def test_ipam_check_names_every_disagreement(ctl: Ctl, store: Etcd) -> None:
    ctl.says(f"apply -f {ctl.file(POOL)}")
    ipam = Ipam(store, "node1")
    ipam.claim_block(IPv4Network("192.168.0.0/26"))
    tunnel = ipam.auto_assign("ipip-tunnel-addr-node1", {})
    node = {"kind": "Node", "metadata": {"name": "node1"}, "spec": {"bgp": {"ipv4IPIPTunnelAddr": str(tunnel)}}}
    store.put(node_key("node1"), node)
    used, leaked = ipam.auto_assign("net.used", {}), ipam.auto_assign("net.leaked", {})
    spec = {"node": "node1", "ipNetworks": [f"{used}/32", "192.168.0.40/32"]}
    store.put(workload_endpoint_key("default", "node1-k8s-a-eth0"), {"spec": spec})
    store.delete("/calico/ipam/v2/handle/net.used")
    store.put("/calico/ipam/v2/handle/net.ghost", {"handleID": "net.ghost", "block": {"192.168.0.0/26": 2}})
    store.put("/calico/ipam/v2/host/node2/ipv4/block/192.168.0.0-26", {"state": "confirmed"})
    code, out, _ = ctl("ipam check")
    assert code == 1
    assert str(tunnel) not in [line.partition(": ")[0] for line in out.splitlines()]
    assert out == (
        "Checking 1 block(s) with 3 allocated address(es) ...\n"
        "block 192.168.0.0/26: node2 claims it, itself it says node1\n"
        "block 192.168.0.0/26: belongs to node2, which is no node\n"
        "block 192.168.0.0/26: claimed by 2 nodes\n"
        "handle net.ghost: says 2 in 192.168.0.0/26, there are 0\n"
        "handle net.used: missing, though 192.168.0.0/26 names it\n"
        "192.168.0.40: node1-k8s-a-eth0 uses it, nobody allocated it\n"
        f"{leaked}: allocated to net.leaked, nobody uses it\n"
        "Check complete; found 7 problem(s).\n"
    )


@pytest.fixture
def processes(tmp_path: Path) -> Path:
    """A /proc in which an agent runs."""
    (tmp_path / "proc" / "7").mkdir(parents=True)
    (tmp_path / "proc" / "7" / "cmdline").write_bytes(b"python3\0-ISE\0/opt/refnet/bin/refnet-agent\0")
    return tmp_path / "proc"


@pytest.fixture
def bird(tmp_path: Path) -> Iterator[Path]:
    """The socket of a real BIRD with two sessions that nobody answers."""
    socket_file, configuration = tmp_path / "bird.ctl", tmp_path / "bird.conf"
    configuration.write_text(
        "router id 192.0.2.1;\nprotocol device { }\n"
        "protocol bgp Mesh_192_0_2_2 { local 192.0.2.1 as 64512; neighbor 192.0.2.2 as 64512; passive; multihop; }\n"
        "protocol bgp Global_192_0_2_9 { disabled; local 192.0.2.1 as 64512; neighbor 192.0.2.9 as 64513; multihop; }\n"
    )
    command = ["unshare", "--user", "--map-root-user", "--net", "bird", "-f", "-c", str(configuration)]
    env = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
    try:
        process = subprocess.Popen([*command, "-s", str(socket_file)], stderr=subprocess.PIPE, env=env)
    except FileNotFoundError as error:
        pytest.fail(f"{error.filename} is missing: apt-get install util-linux bird2", pytrace=False)
    for _ in range(200):
        try:
            process.wait(timeout=0.02)
        except subprocess.TimeoutExpired:
            if socket_file.exists():
                break
        else:
            pytest.fail(f"bird ended: {process.communicate()[1]!r} (apt-get install bird2)", pytrace=False)
    yield socket_file
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)


def test_node_status_shows_birds_sessions_in_calicoctls_boxes(bird: Path, processes: Path) -> None:
    lines = node_status((bird,), processes).splitlines()
    assert lines[:3] == ["Calico process is running.", "", "IPv4 BGP status"]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert cells[0] == ["PEER ADDRESS", "PEER TYPE", "STATE", "SINCE", "INFO"]
    found = {row[0]: (row[1], row[2], row[4]) for row in cells[1:]}
    assert found == {
        "192.0.2.2": ("node-to-node mesh", "start", "Passive"),
        "192.0.2.9": ("global", "down", ""),
    }
    rules = {line for line in lines if line.startswith("+")}
    assert len(rules) == 1
    assert lines[-3:] == ["IPv6 BGP status", "No IPv6 peers found.", ""]


def test_node_status_without_bird_or_agent_says_so(processes: Path, tmp_path: Path) -> None:
    assert node_status((tmp_path / "none",), processes) == (
        "Calico process is running.\n\nINFO: BIRDv4 process: 'bird' is not running.\n\n"
    )
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFound, match=r"^Calico process is not running\.\n  hint: run this on a node "):
        node_status((tmp_path / "none",), tmp_path / "empty")


def test_a_bird_that_does_not_answer_is_an_error_within_two_seconds(processes: Path, tmp_path: Path) -> None:
    path = tmp_path / "mute.ctl"
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(path))
        mute.listen()
        with pytest.raises(StoreUnavailable, match=rf"^bird: {path}: no answer within 2 s$"):
            node_status((path,), processes)


def test_the_program_runs_from_any_folder_under_any_name(etcd_endpoint: str, tmp_path: Path) -> None:
    calicoctl = tmp_path / "calicoctl"
    calicoctl.symlink_to(CHECKOUT / "refnet" / "bin" / "refnetctl")
    end = subprocess.run(
        [sys.executable, str(calicoctl), "version"], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert end.stdout.startswith("Client Version:    ")
    assert end.stderr == ""


def test_a_patch_changes_what_it_names_and_nothing_else(ctl: Ctl, store: Etcd) -> None:
    ctl.says(f"apply -f {ctl.file(POOL)}")
    before = store.get(pool_key("default-ipv4-ippool"))
    said = ctl.says('patch ippool default-ipv4-ippool -p {"spec":{"ipipMode":"Never","vxlanMode":"Always"}}')
    assert said == "Successfully patched 1 'IPPool' resource\n"
    after = store.get(pool_key("default-ipv4-ippool"))
    assert before and after
    spec = {**before.value["spec"], "ipipMode": "Never", "vxlanMode": "Always"}
    assert after.value == {**before.value, "spec": spec}


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ('patch ippool other -p {"spec":{"disabled":true}}', 1, "resource does not exist: IPPool(other)\n"),
        ("patch ippool default-ipv4-ippool -p no", 2, 'patch: -p: "no"\n  legal: a mapping in JSON'),
        (
            'patch ippool default-ipv4-ippool -p {"spec":{"ipipMode":"On"}}',
            2,
            "IPPool/default-ipv4-ippool: spec.ipipMode",
        ),
        ('patch ippool default-ipv4-ippool -p {"spec":{"cidr":"10.0.0.0/16"}}', 2, "pools: IPPool/default-ipv4-ippool"),
        ("patch ippool default-ipv4-ippool", 2, "refnetctl: patch: which, and how?"),
        ("patch ippool default-ipv4-ippool -p {} --type=json", 2, "refnetctl: --type: json\n  legal: merge, strategic"),
    ],
    ids=["nothing-there", "no-mapping", "illegal", "unchangeable", "no-change", "type"],
)
def test_a_wrong_patch_changes_nothing(ctl: Ctl, store: Etcd, line: str, code: int, said: str) -> None:
    ctl.says(f"apply -f {ctl.file(POOL)}")
    before = store.get(pool_key("default-ipv4-ippool"))
    done, _, err = ctl(line)
    assert (done, err[: len(said)]) == (code, said)
    assert store.get(pool_key("default-ipv4-ippool")) == before


def test_nodes_without_an_as_number_are_shown_with_the_clusters(ctl: Ctl) -> None:
    head = "apiVersion: projectcalico.org/v3\nkind: "
    node = head + "Node\nmetadata: {name: node1}\nspec: {bgp: {ipv4Address: 10.0.0.1/24}}\n"
    ctl.says(f"apply -f {ctl.file(node)}")
    assert ctl.says("get nodes -o wide").splitlines()[1].split() == ["node1", "(64512)", "10.0.0.1/24"]
    configuration = head + "BGPConfiguration\nmetadata: {name: default}\nspec: {asNumber: 64513}\n"
    ctl.says(f"apply -f {ctl.file(configuration)}")
    assert ctl.says("get nodes -o wide").splitlines()[1].split() == ["node1", "(64513)", "10.0.0.1/24"]


HALVES = ["text", 7, {"spec": "x"}, {"metadata": "t"}, {"spec": {"bgp": "x", "labelsToApply": 3, "nets": {"a": 1}}}]


@pytest.mark.parametrize("value", HALVES, ids=str)
@pytest.mark.parametrize("kind", ["node", "ippool", "bgppeer", "profile", "globalnetworkset", "workloadendpoint"])
def test_half_written_objects_are_shown_as_far_as_they_go(ctl: Ctl, store: Etcd, kind: str, value: object) -> None:
    plural = kind_called(kind).plural
    store.put(resource_key(plural, "odd", "default" if plural in NAMESPACED else ""), value)
    for form in ("wide", "yaml", "json", "name"):
        assert "odd" in ctl.says(f"get {kind} odd -o {form}") or form == "wide"
    assert ctl.says(f"delete {kind} odd") == f"Successfully deleted 1 '{kind_called(kind).name}' resource(s)\n"


def test_what_stands_in_the_store_does_not_steer_the_terminal(ctl: Ctl, store: Etcd) -> None:
    store.put(node_key("odd"), {"metadata": {"name": "\x1b[2Jodd"}, "spec": {"bgp": {"ipv4Address": "a\nb"}}})
    assert "\\x1b[2Jodd" in ctl.says("get node -o wide") and "a\\nb" in ctl.says("get node -o wide")
    assert "\x1b" not in ctl.says("get node -o name") + ctl.says("get node -o yaml") + ctl.says("get node -o json")
