"""What installing refnet takes, as text per mode: the golden files in tests/golden/systems are read by people, too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tunlab.box.start import interpreter
from tunlab.errors import LabError
from tunlab.lab.load import load_lab
from tunlab.lab.topology import MODES, Mode
from tunlab.systems.recipe import Recipe
from tunlab.systems.refnet import Refnet

GOLDEN = Path(__file__).parents[1] / "golden" / "systems"
ROOT = Path(__file__).resolve().parents[2]


def written(recipe: Recipe) -> str:
    """A recipe as text, without what differs from checkout to checkout."""
    lines = [f"mode {recipe.mode}", f"plugins in {recipe.plugin_path}", ""]
    for file in recipe.files:
        lines.append(f"file {file.host}:{file.path} " + (f"-> {file.target}" if file.target else f"{file.mode:o}"))
        lines += [f"  | {line}" for line in file.text.splitlines()]
    for daemon in [*([recipe.store] if recipe.store else []), *recipe.daemons]:
        lines.append(f"daemon {daemon.host} {daemon.name}: {' '.join(daemon.argv)}")
        lines += [f"  {key}={value}" for key, value in daemon.env.items()]
    for command in recipe.setup:
        lines.append(f"setup {command}")
        lines += [f"  {key}={value}" for key, value in command.env.items()]
        lines += [f"  | {line}" for line in command.stdin.splitlines()]
    lines += [f"ready {command}" for command in recipe.ready]
    for node, conflist in recipe.conflists.items():
        lines.append(f"conflist {node}: {json.dumps(conflist)}")
    lines.append(f"dialect {recipe.dialect}")
    text = "\n".join(lines) + "\n"
    for where, word in ((str(ROOT), "CHECKOUT"), (interpreter(), "PYTHON"), (_environment_python(), "PYTHON-OF-VENV")):
        text = text.replace(where, word)
    return text


def _environment_python() -> str:
    import sys

    return sys.executable.replace(str(ROOT), "CHECKOUT")


@pytest.mark.parametrize("mode", MODES)
def test_the_recipe_of_a_mode_is_the_golden_one(mode: Mode) -> None:
    assert written(Refnet().recipe(load_lab("cross-subnet-bgp"), mode)) == (GOLDEN / f"refnet-{mode}.txt").read_text()


@pytest.mark.parametrize(
    ("mode", "ipip", "vxlan", "peers"),
    [
        ("ipip", "Always", "Never", 1),
        ("ipip-crosssubnet", "CrossSubnet", "Never", 1),
        ("vxlan", "Never", "Always", 0),
        ("vxlan-crosssubnet", "Never", "CrossSubnet", 0),
        ("none", "Never", "Never", 1),
    ],
    ids=MODES,
)
def test_the_pools_encapsulation_makes_the_mode(mode: Mode, ipip: str, vxlan: str, peers: int) -> None:
    recipe = Refnet().recipe(load_lab("cross-subnet-bgp"), mode)
    documents = list(yaml.safe_load_all(recipe.setup[0].stdin))
    assert [(one["spec"]["ipipMode"], one["spec"]["vxlanMode"]) for one in documents if one["kind"] == "IPPool"] == [
        (ipip, vxlan)
    ]
    assert len([one for one in documents if one["kind"] == "BGPPeer"]) == peers
    assert {daemon.env["CALICO_NETWORKING_BACKEND"] for daemon in recipe.daemons} == {"bird"}


def test_blocks_that_a_lab_pins_are_claimed_and_no_others() -> None:
    claims = [str(command) for command in Refnet().recipe(load_lab("same-subnet"), "none").setup[1:]]
    assert claims == ["node1$ refnetctl ipam claim 192.168.236.0/26=node1 192.168.190.192/26=node2"]
    assert Refnet().recipe(load_lab("cross-subnet"), "none").setup[1:] == ()


def test_a_replaced_part_is_linked_on_every_node_and_named_in_the_version(tmp_path: Path) -> None:
    other = tmp_path / "my agent"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    recipe = Refnet({"agent": other}).recipe(load_lab("same-subnet"), "vxlan")
    links = [(file.host, file.target) for file in recipe.files if file.path == "/run/bin/refnet-agent"]
    assert links == [("node1", str(other)), ("node2", str(other))]
    assert all(file.target is None for file in recipe.files if file.path == "/opt/cni/bin/calico")
    assert str(recipe.version).endswith(f" agent={other}")


@pytest.mark.parametrize(
    ("part", "name", "text"),
    [
        ("cmi", "sh", "--with: cmi: refnet has no such part\n  hint: one of: agent, cni, ctl, refnet"),
        ("cni", "nothing", "--with: cni={}: there is no such file\n  hint: name an executable file"),
        ("cni", "plain", "--with: cni={0}: is not executable\n  hint: chmod +x {0}"),
        ("cni", ".", "--with: cni={}: there is no such file\n  hint: name an executable file"),
    ],
    ids=["no-such-part", "no-such-file", "not-executable", "a-folder"],
)
def test_a_part_that_cannot_be_replaced_is_refused(part: str, name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    path = tmp_path / name
    with pytest.raises(LabError) as caught:
        Refnet({part: path})
    assert str(caught.value) == text.format(path)


def test_the_executables_need_no_process_in_between() -> None:
    """A shell around them would cost 15 ms at each CNI call in a user-mode kernel."""
    files = {file.path: file.text for file in Refnet().recipe(load_lab("one-node"), "none").files}
    for path in ("/opt/cni/bin/calico", "/run/bin/refnet-agent"):
        assert files[path].startswith(f"#!{interpreter()} -ISE\n"), path
