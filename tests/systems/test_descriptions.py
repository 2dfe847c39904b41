"""A wrong description gets one message per mistake, all at once; a right one becomes a recipe, words filled in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunlab.errors import LabError
from tunlab.lab.load import load_lab
from tunlab.systems.catalogue import find_system
from tunlab.systems.described import DescribedSystem
from tunlab.systems.recipe import Command, Daemon, File

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "tests" / "golden" / "errors" / "systems"
WRONG = sorted(CORPUS.glob("*.yaml"))


@pytest.mark.parametrize("path", WRONG, ids=lambda path: path.stem)
def test_a_wrong_description_gets_exactly_these_messages(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CORPUS)
    with pytest.raises(LabError) as caught:
        find_system(path.name)
    assert str(caught.value) == path.with_suffix(".txt").read_text(encoding="utf-8").rstrip("\n")
    for mistake in caught.value.mistakes:
        labels = [line[:6] for line in mistake.splitlines() if line[:2] == "  " and line[2] != " "]
        assert labels == ["  lega", "  hint"]
        assert max(map(len, mistake.splitlines())) <= 80


def test_every_wrong_description_has_its_messages_beside_it() -> None:
    assert {path.stem for path in WRONG} == {path.stem for path in CORPUS.glob("*.txt")}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nowhere.yaml", "--system: nowhere.yaml: no such file or directory"),
        ("folder.yaml", "--system: folder.yaml: is a directory"),
        ("bytes.yaml", "--system: bytes.yaml: not UTF-8 text"),
    ],
    ids=["missing", "folder", "bytes"],
)
def test_a_file_that_cannot_be_read_is_one_mistake(
    name: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(LabError) as caught:
        find_system(name)
    hint = "  legal: a YAML file in UTF-8 that you may read, or refnet\n  hint: look at it with `ls -l`"
    assert str(caught.value) == f"{text}\n{hint}"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("refnat", "--system: refnat: no such system\n  hint: did you mean refnet?"),
        ("xyz", "--system: xyz: no such system\n  hint: one of: refnet, or a FILE.yaml that describes one"),
    ],
    ids=["near", "far"],
)
def test_an_unknown_name_is_answered_with_the_legal_ones(name: str, text: str) -> None:
    with pytest.raises(LabError) as caught:
        find_system(name)
    assert str(caught.value) == text


def test_a_description_has_no_parts_to_replace() -> None:
    with pytest.raises(LabError, match=r"^--with: only refnet's parts can be replaced\n  hint: edit the file"):
        find_system(str(ROOT / "fixtures/systems/cni-ptp.yaml"), {"cni": Path("/bin/sh")})


WHOLE = """
name: whole
version: [agentd, --version]
modes: [none, vxlan]
abilities: [agent, host-routes]
store: etcd
files:
  - path: /etc/mine/{node}.conf
    mode: "0600"
    text: |
      me {node_ip} dev {uplink} block {block} pool {pool} store {store_ip} in {mode}
      { braces } {} ${node} {{node}} {{anything}}
  - {path: /opt/bin/agent, link: "/usr/bin/{node}"}
setup:
  - {run: [ip, link, set, "{uplink}", up], env: {WHO: "{node}"}}
  - for_each: peer
    run: [ip, route, replace, "{peer_block}", via, "{peer_next_hop}"]
    stdin: "{node} to {peer} at {peer_ip}"
processes:
  - {name: agent, run: [agentd, --ip, "{node_ip}"], env: {BLOCK: "{block}"}}
ready: [agentctl, ready, "{node}"]
ctl: [env, "ETCD=http://{store_ip}:2379", agentctl]
conflist:
  cniVersion: "1.0.0"
  name: "net-{node}"
  plugins: [{type: mine, mtu: 1450, subnets: ["{block}", 7, true]}]
dialect:
  host_device_prefix: mine
  pod_gateway: 169.254.1.1
  tunnel_devices: {vxlan: vxlan.mine}
  block_protocol: {vxlan: "80", none: static}
  vxlan_id: 1
  vxlan_port: 8472
"""


def test_placeholders_are_filled_in_for_every_node_and_every_peer(tmp_path: Path) -> None:
    (tmp_path / "whole.yaml").write_text(WHOLE)
    system = DescribedSystem.load(tmp_path / "whole.yaml")
    assert (system.name, sorted(system.modes), sorted(system.abilities)) == (
        "whole",
        ["none", "vxlan"],
        ["agent", "host-routes"],
    )
    recipe = system.recipe(load_lab("mixed"), "vxlan")
    nodes = {node.name: node for node in load_lab("mixed").nodes}
    ip = {name: str(node.address.ip) for name, node in nodes.items()}
    blocks = {name: str(own[0]) for name, own in recipe.blocks.items()}
    assert sorted(blocks) == ["node1", "node2", "node3"]
    assert len(set(blocks.values())) == 3
    pool, store = str(load_lab("mixed").pools[0].cidr), str(load_lab("mixed").store.address.ip)
    text = (
        f"me {ip['node1']} dev eth0 block {blocks['node1']} pool {pool} store {store} in vxlan\n"
        "{ braces } {} ${node} {node} {anything}\n"
    )
    assert recipe.files[:2] == (
        File("node1", "/etc/mine/node1.conf", text, 0o600),
        File("node1", "/opt/bin/agent", target="/usr/bin/node1"),
    )
    assert len(recipe.files) == 6
    assert recipe.version == Command("node1", ("agentd", "--version"))
    assert recipe.store is not None and recipe.store.host == "store"
    assert [str(command) for command in recipe.setup if command.host == "node3"] == [
        "node3$ ip link set eth0 up",
        f"node3$ ip route replace {blocks['node1']} via {nodes['node3'].gateway}",
        f"node3$ ip route replace {blocks['node2']} via {nodes['node3'].gateway}",
    ]
    assert [str(c) for c in recipe.setup if c.host == "node1"][1:] == [
        f"node1$ ip route replace {blocks['node2']} via {ip['node2']}",  # on one segment: the peer itself
        f"node1$ ip route replace {blocks['node3']} via {nodes['node1'].gateway}",
    ]
    assert recipe.setup[1].stdin == f"node1 to node2 at {ip['node2']}"
    assert dict(recipe.setup[0].env) == {"WHO": "node1"}
    assert recipe.daemons[1] == Daemon("node2", "agent", ("agentd", "--ip", ip["node2"]))
    assert dict(recipe.daemons[1].env) == {"BLOCK": blocks["node2"]}
    assert recipe.ctl == ("env", f"ETCD=http://{store}:2379", "agentctl")
    assert recipe.ready[2] == Command("node3", ("agentctl", "ready", "node3"))
    assert recipe.conflists["node2"] == {
        "cniVersion": "1.0.0",
        "name": "net-node2",
        "plugins": [{"type": "mine", "mtu": 1450, "subnets": [blocks["node2"], 7, True]}],
    }
    dialect = recipe.dialect
    assert (dialect.host_device_prefix, str(dialect.pod_gateway)) == ("mine", "169.254.1.1")
    assert (dialect.vxlan_id, dialect.vxlan_port, dialect.keeps_ipam_in_etcd) == (1, 8472, False)
    assert dialect.tunnel_devices == {"vxlan": "vxlan.mine"}


def test_what_is_left_out_has_its_default(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(
        'name: small\nmodes: [none]\nconflist: {cniVersion: "1.0.0", name: n, plugins: [{type: ptp}]}\n'
        "dialect: {host_device_prefix: veth}\n"
    )
    recipe = DescribedSystem.load(tmp_path / "small.yaml").recipe(load_lab("one-node"), "none")
    assert (recipe.version, recipe.abilities, recipe.plugin_path) == ("unknown", frozenset(), "/opt/cni/bin")
    assert (recipe.files, recipe.setup, recipe.daemons, recipe.ready, recipe.store) == ((), (), (), (), None)


@pytest.mark.parametrize("path", sorted((ROOT / "fixtures/systems").glob("*.yaml")), ids=lambda path: path.stem)
def test_what_is_described_here_has_a_recipe_in_each_of_its_modes(path: Path) -> None:
    system = find_system(str(path))
    assert system.name == path.stem
    for mode in system.modes:
        assert system.recipe(load_lab("same-subnet"), mode).abilities == system.abilities


def test_pinned_blocks_are_kept_and_the_others_are_the_pools_next_free_ones() -> None:
    system = find_system(str(ROOT / "fixtures/systems/cni-ptp.yaml"))
    pinned = system.recipe(load_lab("same-subnet"), "none").blocks
    assert {name: [str(block) for block in own] for name, own in pinned.items()} == {
        "node1": [str(load_lab("same-subnet").nodes[0].block)],
        "node2": [str(load_lab("same-subnet").nodes[1].block)],
    }
