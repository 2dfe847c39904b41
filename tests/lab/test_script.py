"""On a real kernel: the script that a person runs by hand makes the very lab that the builder's batches make.

Each test runs in user, mount, pid and network namespaces of its own and ends with them.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tunlab.lab.build import batches
from tunlab.lab.load import lab_names, load_lab
from tunlab.lab.plan import Plan, make_plan
from tunlab.lab.script import write_script

WORLD = [
    *("unshare", "--user", "--map-root-user", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"),
    *("sh", "-eu", "-c"),
]
FRESH = "mount -t tmpfs none /run && mount -t sysfs none /sys && mkdir /run/netns\n"
LOOK = {
    "links": "ip -j -d link show",
    "bridge": "bridge -j -d link show",
    "addresses": "ip -j address show",
    "routes": "ip -j route show table all",
    "neighbours": "ip -j neigh show",
}
# Numbers that the kernel deals out, states that follow the carrier a moment later, timers, and the script's own mark.
ACCIDENTS = {
    "ifindex",
    "link_index",
    "link_netnsid",
    "operstate",
    "flags",
    "link",
    "ifalias",
    "state",
    "cost",
    "promiscuity",
}
KEYS = (
    "net/ipv4/ip_forward net/ipv4/icmp_ratelimit net/ipv4/icmp_ratemask net/ipv4/ip_default_ttl "
    "net/ipv4/ip_no_pmtu_disc net/ipv4/conf/*/rp_filter net/ipv4/conf/*/*_redirects net/ipv4/conf/*/arp_* "
    "net/ipv4/conf/*/forwarding "
    "net/ipv4/conf/*/proxy_arp net/ipv6/conf/*/disable_ipv6 net/bridge/bridge-nf-call-*"
)


def run(script: str, *, rc: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*WORLD, FRESH + script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == rc, done.stdout + done.stderr
    return done


def looking(plan: Plan, out: Path) -> str:
    """Shell lines that write the tables of every namespace of a plan into files."""
    lines = [f"mkdir {out}"]
    for name in plan.namespaces:
        inside = f"ip netns exec {name}"
        lines += [f"{inside} {command} >{out}/{name}.{table}" for table, command in LOOK.items()]
        lines += [f"{inside} sh -c 'cd /proc/sys && grep -H . {KEYS}' >{out}/{name}.settings"]
        lines += [
            f"{inside} sh -c 'for device in $(ls /sys/class/net); do ethtool -k $device; done' >{out}/{name}.offloads"
        ]
    return "\n".join(lines) + "\n"


def tables(plan: Plan, folder: Path, *, prefix: str = "") -> dict[str, Any]:
    """What `looking` wrote, by namespace and table, without prefix and accidents."""
    found: dict[str, Any] = {}
    for name in plan.namespaces:
        for table in (*LOOK, "settings", "offloads"):
            text = (folder / f"{name}.{table}").read_text(encoding="utf-8")
            found[f"{name.removeprefix(prefix)} {table}"] = plain(json.loads(text)) if table in LOOK else text
    return found


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if k not in ACCIDENTS and "timer" not in k}
    if isinstance(value, list):
        return sorted((plain(each) for each in value if not is_link_local(each)), key=json.dumps)
    return value


def is_link_local(entry: Any) -> bool:
    """An address of fe80::/10, or a route to one or to a group: they too follow the carrier a moment later."""
    place = str(entry.get("dst", entry.get("local", ""))) if isinstance(entry, dict) else ""
    return place.startswith(("fe80:", "ff00:", "multicast ff"))


def by_batches(plan: Plan, folder: Path) -> str:
    lines = []
    for number, batch in enumerate(batches(plan)):
        (folder / f"{number}.sh").write_text(batch.script, encoding="utf-8")
        place = "" if batch.namespace is None else f"ip netns exec {batch.namespace} "
        lines.append(f"{place}sh -eu {folder}/{number}.sh")
    return "\n".join(lines) + "\n"


def saved_script(folder: Path, lab: str) -> Path:
    path = folder / "plan.sh"
    path.write_text(write_script(load_lab(lab)), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", lab_names())
def test_by_hand_and_by_batches_make_the_same_lab_and_undo_leaves_nothing(name: str, tmp_path: Path) -> None:
    lab, prefix = load_lab(name), f"tl-{name}-"
    batched, by_hand = make_plan(lab), make_plan(lab, prefix=prefix)
    script = saved_script(tmp_path, name)
    run(by_batches(batched, tmp_path) + looking(batched, tmp_path / "batched"))
    done = run(
        f"sh {script}\n{looking(by_hand, tmp_path / 'by-hand')}ip netns add mine\nsh {script} undo\nls /run/netns\n"
        "ip -o link show"
    )
    assert done.stdout.splitlines()[1] == "mine"
    assert len(done.stdout.splitlines()) == 3, "only lo is left, as it was"
    have = tables(by_hand, tmp_path / "by-hand", prefix=prefix)
    assert have == tables(batched, tmp_path / "batched")
    for host in lab.hosts:
        links = {link["ifname"]: link for link in have[f"{host.name} links"]}
        for end in host.attachments:
            segment = lab.segment(end.segment)
            assert (links[end.device]["address"], links[end.device]["mtu"]) == (
                lab.mac(host.name, end.device),
                segment.mtu,
            )


def test_every_setting_of_the_plan_is_what_the_kernel_has_at_the_end(tmp_path: Path) -> None:
    plan = make_plan(load_lab("mixed"))
    wanted = [
        (str(step.namespace), *word.split("="))
        for step in plan.steps
        if step.command.startswith("sysctl")
        for word in step.command.split()
        if "=" in word
    ]
    # What -e lets pass in silence on a kernel that has no such key counts as set here too.
    asked = [
        f"echo {place} {key} $(ip netns exec {place} sysctl -n {key} 2>/dev/null || echo {value})"
        for place, key, value in wanted
    ]
    done = run(by_batches(plan, tmp_path) + "\n".join(asked))
    assert done.stdout.splitlines() == [f"{place} {key} {value}" for place, key, value in wanted]


def test_no_device_of_the_lab_computes_checksums_or_segments_by_itself(tmp_path: Path) -> None:
    plan = make_plan(load_lab("same-subnet"))
    run(by_batches(plan, tmp_path) + looking(plan, tmp_path / "out"))
    features = "rx-checksumming|tx-checksumming|scatter-gather|.*-segmentation-offload|generic-receive-offload"
    for name in plan.hosts:
        text = (tmp_path / "out" / f"{name}.offloads").read_text(encoding="utf-8")
        uplink = text.partition("Features for eth0:")[2].partition("Features for")[0]
        states = re.findall(rf"^({features}): (\w+)", uplink, re.MULTILINE)
        assert len(states) == 6
        assert {state for _, state in states} == {"off"}


def test_hosts_reach_each_other_across_three_routers_and_a_pods_address_dies_at_the_first(tmp_path: Path) -> None:
    lab = load_lab("cross-subnet-deep")
    node2 = lab.node("node2").address.ip
    done = run(
        by_batches(make_plan(lab), tmp_path) + f"ip netns exec node1 ping -n -c 1 -w 10 {node2}\n"
        "ip netns exec node1 ping -n -c 1 -w 10 172.17.0.1 || true\n"
    )
    assert f"64 bytes from {node2}: icmp_seq=1 ttl=61" in done.stdout
    assert "From 192.168.100.1 icmp_seq=1 Destination Net Unreachable" in done.stdout


def test_the_script_refuses_a_namespace_that_exists_and_changes_nothing(tmp_path: Path) -> None:
    script = saved_script(tmp_path, "one-node")
    done = run(f"ip netns add tl-one-node-store\nsh {script} || {{ rc=$?; ls /run/netns; exit $rc; }}", rc=2)
    assert done.stderr == "network namespace tl-one-node-store exists already: nothing was changed\n"
    assert done.stdout == "tl-one-node-store\n"


def test_undo_leaves_a_namespace_of_the_same_name_that_it_did_not_make(tmp_path: Path) -> None:
    script = saved_script(tmp_path, "one-node")
    assert run(f"ip netns add tl-one-node-store\nsh {script} undo\nls /run/netns").stdout == "tl-one-node-store\n"


def test_a_refused_command_takes_back_what_the_others_made(tmp_path: Path) -> None:
    script = saved_script(tmp_path, "one-node")
    text = script.read_text(encoding="utf-8")
    script.write_text(text.replace("address add 192.168.10.250/24", "address add 192.168.10.250/240"), encoding="utf-8")
    done = run(f"sh {script} || {{ rc=$?; ls /run/netns; exit $rc; }}", rc=2)
    assert done.stderr.endswith("the lab was not made\n")
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "rc", "stream"),
    [("-h", 0, "stdout"), ("--help", 0, "stdout"), ("up", 2, "stderr"), ("undo x", 2, "stderr")],
)
def test_the_script_tells_its_usage(arguments: str, rc: int, stream: str, tmp_path: Path) -> None:
    script = saved_script(tmp_path, "one-node")
    done = run(f"sh {script} {arguments}", rc=rc)
    assert getattr(done, stream).startswith("usage: sh FILE [undo | -h]\n")


def test_only_root_may_run_the_script(tmp_path: Path) -> None:
    script = saved_script(tmp_path, "one-node")
    world = ["unshare", "--user", "--map-user=1000", "sh"]
    done = subprocess.run([*world, str(script)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (2, "only root may make network namespaces: use sudo\n")
