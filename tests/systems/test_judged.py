"""Other systems and other builds, judged by the whole command: Debian's plugins, and refnet with a part replaced."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.command.typed import ROOT, type_line
from tunlab.box.start import interpreter

BRIDGE = "fixtures/systems/cni-bridge.yaml"
PTP = "fixtures/systems/cni-ptp.yaml"
CNI = ROOT / "refnet" / "bin" / "refnet-cni"
AGENT = ROOT / "refnet" / "bin" / "refnet-agent"
QUICK = ("--lab", "one-node", "--mode", "none")


def judged(out: Path, *options: str) -> tuple[int, dict[str, Any], str]:
    """The exit code of `./lab conform`, its results, and what it printed."""
    done = type_line("conform", "--out", str(out), *options)
    text = done.stdout + done.stderr
    path = out / "results.json"
    return done.returncode, json.loads(path.read_text()) if path.exists() else {}, text


def by_verdict(results: dict[str, Any]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for row in results["requirements"]:
        found.setdefault(row["verdict"], set()).add(row["id"])
    return found


def wrapped(folder: Path, body: str) -> Path:
    """An executable of the folder."""
    path = folder / "other build"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def test_debians_plugins_with_static_routes_pass_what_they_offer(tmp_path: Path) -> None:
    assert Path("/usr/lib/cni/ptp").exists(), "no /usr/lib/cni/ptp: apt-get install containernetworking-plugins"
    code, results, text = judged(tmp_path / "run", "--system", PTP, "--lab", "same-subnet,mixed", "--mode", "none")
    assert code == 0, text
    verdicts = by_verdict(results)
    assert set(verdicts) == {"passed", "not_offered"}
    # What it claims is judged; were the description to claim less, this would notice.
    assert verdicts["passed"] >= {"CONN-01", "CONN-02", "CONN-03", "NONE-01", "NONE-03", "CNI-01", "CNI-05", "MTU-01"}
    assert verdicts["not_offered"] >= {
        "BGP-01", "BGP-02", "STATE-01", "STATE-02", "STATE-04", "VETH-03", "VETH-04", "VETH-06",
    }  # fmt: skip
    assert results["system_version"] == "containernetworking-plugins"


def test_the_specifications_points_find_a_fault_of_debians_bridge(tmp_path: Path) -> None:
    """Version 1.1.1 leaves the veth pair of an ADD that fails; the others of these it keeps."""
    asked = "CNI-03 or CNI-08 or CNI-16 or CNI-27 or CNI-31"
    options = ("--system", BRIDGE, *QUICK, "--level", "extended", "-k", asked)
    code, results, text = judged(tmp_path / "run", *options)
    wanted = {"failed": {"CNI-03"}, "not_offered": {"CNI-08"}, "passed": {"CNI-16", "CNI-27", "CNI-31"}}
    assert (code, by_verdict(results)) == (1, wanted), text


@pytest.mark.parametrize(("system", "verdict"), [(PTP, "passed"), (BRIDGE, "failed")], ids=["ptp", "bridge"])
def test_an_address_that_is_used_again_is_found_behind_a_router_and_not_behind_a_bridge(
    system: str, verdict: str, tmp_path: Path
) -> None:
    """The new pod has another MAC, and Debian's `bridge` does not tell it to those who knew the old one."""
    options = ("--system", system, "--lab", "mixed", "--mode", "none", "--level", "extended", "-k", "REUSE-01")
    code, results, said = judged(tmp_path / "run", *options)
    assert (code, by_verdict(results)) == (int(verdict == "failed"), {verdict: {"REUSE-01"}}), said


def test_a_described_system_that_breaks_its_claims_fails(tmp_path: Path) -> None:
    """The same one, said to name its devices otherwise than it does."""
    text = (ROOT / PTP).read_text().replace("host_device_prefix: veth", "host_device_prefix: mine")
    (tmp_path / "broken.yaml").write_text(text)
    options = ("--system", str(tmp_path / "broken.yaml"), *QUICK, "-k", "VETH-01 or VETH-05")
    code, results, said = judged(tmp_path / "run", *options)
    assert (code, by_verdict(results)) == (1, {"failed": {"VETH-01", "VETH-05"}}), said


def test_what_a_system_said_that_does_not_get_up_is_kept(tmp_path: Path) -> None:
    agent = 'ready: ["false"]\nprocesses:\n  - {name: agent, run: [sh, -c, "echo no store here; exit 3"]}\n'
    (tmp_path / "broken.yaml").write_text(with_agent((ROOT / PTP).read_text()) + agent)
    options = ("--system", str(tmp_path / "broken.yaml"), *QUICK, "-k", "VETH-01 or VETH-05")
    code, results, said = judged(tmp_path / "run", *options)
    assert (code, by_verdict(results)) == (1, {"failed": {"VETH-01", "VETH-05"}}), said
    assert (tmp_path / "run/failures/opening-one-node-none/node1-agent.log").read_text() == "no store here\n"
    assert min(len(row["reason"]) for row in results["requirements"]) < 250, said


def with_agent(description: str) -> str:
    assert "abilities: [" in description
    return description.replace("abilities: [", "abilities: [agent, ")


DIES_LATER = """
files:
  - path: /run/cni/ptp
    mode: "0755"
    text: |
      #!/bin/sh
      agent=$(cat /run/agent.pid) && kill $agent
      while kill -0 $agent; do sleep 0.01; done
      exec /usr/lib/cni/ptp
  - {path: /run/cni/host-local, link: /usr/lib/cni/host-local}
processes:
  - {name: agent, run: [sh, -c, "echo $$ >/run/agent.pid; while :; do sleep 0.05; done"]}
ready: [test, -s, /run/agent.pid]
"""


def test_a_program_that_ends_after_it_was_ready_is_noticed(tmp_path: Path) -> None:
    """It ends at the first pod's ADD; the pods themselves are all right."""
    told = (
        with_agent((ROOT / PTP).read_text()).replace("plugin_path: /usr/lib/cni", "plugin_path: /run/cni") + DIES_LATER
    )
    (tmp_path / "broken.yaml").write_text(told)
    options = ("--system", str(tmp_path / "broken.yaml"), *QUICK, "-k", "VETH-01 or LIFE-02")
    code, results, said = judged(tmp_path / "run", *options)
    assert (code, by_verdict(results)) == (1, {"passed": {"VETH-01"}, "failed": {"LIFE-02"}}), said
    assert "node1: agent: was killed by signal 15" in said


def test_a_wrong_description_is_told_before_anything_is_built(tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text("name: mine\nmodes: [nothing]\n")
    code, results, said = judged(tmp_path / "run", "--system", str(tmp_path / "wrong.yaml"), *QUICK)
    assert (code, results) == (2, {}), said
    for what in ("modes[0]: nothing: not a mode", "conflist: missing", "dialect: missing"):
        assert what in " ".join(said.split())


def test_another_build_of_the_plugin_is_the_one_that_is_judged(tmp_path: Path) -> None:
    """A plugin that answers DEL without doing it: CNI-01 notices."""
    python = f"exec {interpreter()} -ISE {CNI}"
    broken = wrapped(tmp_path, f'[ "$CNI_COMMAND" = DEL ] && exit 0\n{python}')
    code, results, said = judged(tmp_path / "run", "--with", f"cni={broken}", *QUICK, "-k", "CNI-01")
    assert (code, by_verdict(results)) == (1, {"failed": {"CNI-01"}}), said
    assert f"cni={broken}" in results["system_version"]


def test_another_build_of_both_parts_that_does_its_work_passes(tmp_path: Path) -> None:
    paths = {}
    for part, program in (("agent", AGENT), ("cni", CNI)):
        (tmp_path / part).mkdir()
        paths[part] = wrapped(tmp_path / part, f"exec {interpreter()} -ISE {program}")
    both = f"agent={paths['agent']},cni={paths['cni']}"
    code, results, said = judged(tmp_path / "run", "--with", both, *QUICK, "-k", "CONN-02 or CNI-01")
    assert (code, by_verdict(results)) == (0, {"passed": {"CONN-02", "CNI-01"}}), said


def test_an_agent_that_dies_at_once_fails_with_its_last_words(tmp_path: Path) -> None:
    broken = wrapped(tmp_path, "echo 'no such option: --ip' >&2; exit 64")
    code, results, said = judged(tmp_path / "run", "--with", f"agent={broken}", *QUICK, "-k", "CONN-02")
    assert (code, by_verdict(results)) == (1, {"failed": {"CONN-02"}}), said
    reason = results["requirements"][0]["reason"]
    assert "node1: refnet-agent: ended with code 64 and should keep running: no such option: --ip" in reason


@pytest.mark.parametrize("part", ["agent", "cni"])
def test_a_part_that_does_not_exist_is_one_message_and_exit_2(part: str, tmp_path: Path) -> None:
    code, results, said = judged(tmp_path / "run", "--with", f"{part}=/nowhere/refnet", *QUICK)
    assert (code, results) == (2, {})
    assert said.count("hint:") == 1
    assert f"--with: {part}=/nowhere/refnet: no executable file" in said
