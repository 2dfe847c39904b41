"""What a host of a box has to itself, what it shares, and how little of the machine it can touch; pods on a visit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tunlab.box.box import OwnBox
from tunlab.box.link import LineEnded
from tunlab.errors import WorldError
from tunlab.wait import eventually


def says(box: OwnBox, place: str, script: str) -> str:
    return box.run(place, ["sh", "-c", script]).out.strip()


def visits(box: OwnBox, place: str, script: str) -> str:
    """The same as somebody in a shell there sees it."""
    stream = box.stream(place, ["sh", "-c", script], tty=False)
    return b"".join(data for name, data in stream.chunks(every_s=0.05) if name == "out").decode().strip()


@pytest.mark.parametrize("host", ["node1", "node2"])
def test_a_host_has_a_host_name_of_its_own(box: OwnBox, host: str) -> None:
    assert says(box, host, "hostname; cat /etc/hostname; getent hosts $(hostname)").split()[:3] == [
        host,
        host,
        "127.0.1.1",
    ]
    assert says(box, "box", "hostname") not in ("node1", "node2")


def test_processes_of_one_host_are_not_seen_by_another(box: OwnBox) -> None:
    pid = box.spawn("node1", ["sleep", "361"], log="logs/sleep.log")
    assert says(box, "node1", "pgrep -fx 'sleep 361'") == str(pid)
    for place in ("node2", "pod1"):
        assert box.run(place, ["kill", "-0", str(pid + 100_000)], check=False).rc != 0
    assert box.run("node2", ["pgrep", "-fx", "sleep 361"], check=False).out == ""
    assert says(box, "node1", "cat /proc/1/comm").startswith("python3")
    assert box.signal("node1", pid, "KILL")


def test_kill_minus_one_in_a_host_spares_the_others_and_the_box(box: OwnBox) -> None:
    pids = {host: box.spawn(host, ["sleep", "362"], log="logs/sleep.log") for host in ("node1", "node2")}
    box.run("node1", ["sh", "-c", "kill -KILL -1"], check=False)
    eventually(lambda: box.exit_code("node1", pids["node1"]), lambda code: code == -9, within_s=5, what="it dies")
    assert box.exit_code("node2", pids["node2"]) is None
    assert says(box, "node1", "echo fine") == "fine"
    box.signal("node2", pids["node2"], "KILL")


@pytest.mark.parametrize("folder", ["/etc", "/opt", "/var/lib", "/run"])
def test_what_a_host_writes_there_is_its_own(box: OwnBox, folder: str) -> None:
    mark = f"{folder}/tunlab-mark"
    box.run("node1", ["sh", "-c", f"mkdir -p {mark} && echo node1 > {mark}/file"])
    assert says(box, "node1", f"cat {mark}/file") == "node1"
    assert box.run("node2", ["ls", mark], check=False).rc != 0
    assert box.run("box", ["ls", mark], check=False).rc != 0
    assert not Path(mark).exists()


def test_a_host_sees_the_machines_files_beneath_its_own_and_deleting_them_deletes_nothing(box: OwnBox) -> None:
    there = Path("/etc/os-release").resolve().read_text()
    assert says(box, "node1", "cat /etc/os-release") == there.strip()
    box.run("node2", ["sh", "-c", "rm -f /etc/debian_version; echo changed > /etc/issue || true"], check=False)
    assert Path("/etc/debian_version").exists()
    assert "changed" not in Path("/etc/issue").read_text()


def test_a_network_named_later_is_visible_in_hosts_made_earlier(box: OwnBox) -> None:
    box.add_network("later", {})
    try:
        for place in ("node1", "node2", "box"):
            assert "later" in says(box, place, "ls /run/netns").split()
        box.run("node1", ["ip", "netns", "add", "made-inside"])
        assert says(box, "node2", "ip -n made-inside -br link show lo").startswith("lo")
        assert says(box, "made-inside", "ip -br link").startswith("lo")
    finally:
        box.run("box", ["ip", "netns", "del", "later"])
        box.run("node2", ["ip", "netns", "del", "made-inside"], check=False)
    assert "made-inside" not in says(box, "node1", "ls /run/netns").split()


def test_a_networks_loopback_is_up_and_its_sysctls_are_set(box: OwnBox) -> None:
    assert "UP" in says(box, "pod1", "ip -o link show lo")
    assert says(box, "pod1", "sysctl -n net.ipv4.ip_forward") == "1"
    assert says(box, "box", "ip -o link show lo").count("UP") >= 1


def test_a_network_that_cannot_be_made_as_asked_leaves_nothing(box: OwnBox) -> None:
    with pytest.raises(WorldError, match=r"box: network: \[Errno 2\] .*net/ipv4/no_such_thing"):
        box.add_network("half", {"net.ipv4.no_such_thing": "1"})
    assert "half" not in says(box, "box", "ls /run/netns").split()
    with pytest.raises(WorldError, match=r"box: network: \[Errno 17\] File exists: '/run/netns/pod1'"):
        box.add_network("pod1", {})
    assert "pod1" in says(box, "box", "ls /run/netns").split()
    assert says(box, "pod1", "sysctl -n net.ipv4.ip_forward") == "1"  # and it is still the one that it was


def test_links_of_one_place_are_not_seen_by_another(box: OwnBox) -> None:
    box.run("node1", ["ip", "link", "add", "mine", "type", "veth", "peer", "name", "theirs", "netns", "pod1"])
    try:
        assert "mine" in says(box, "node1", "ls /sys/class/net").split()
        assert "mine" not in says(box, "node2", "ls /sys/class/net").split()
        assert "theirs" in says(box, "pod1", "ip -o link").replace("@", " ").split()
        # A plain command goes without furniture; somebody's shell finds all of it.
        assert "theirs" in visits(box, "pod1", "ls /sys/class/net").split()
        assert "mine" not in visits(box, "pod1", "ls /sys/class/net").split()
        assert visits(box, "pod1", "hostname") == "pod1"
        assert says(box, "box", "hostname") != "pod1"
    finally:
        box.run("node1", ["ip", "link", "del", "mine"])


def test_a_pod_that_was_visited_and_deleted_is_gone_with_its_cable(box: OwnBox) -> None:
    box.add_network("shortlived", {})
    box.run("node1", ["ip", "link", "add", "cable", "type", "veth", "peer", "name", "eth0", "netns", "shortlived"])
    assert visits(box, "shortlived", "hostname; ls /sys/class/net").split()[:2] == ["shortlived", "eth0"]
    box.run("box", ["ip", "netns", "del", "shortlived"])
    eventually(
        lambda: box.run("node1", ["ip", "link", "show", "cable"], check=False).rc,
        lambda rc: rc != 0,
        within_s=10,
        what="the cable goes with the pod",
        blame="lab",
    )
    box.add_network("shortlived", {})
    try:
        assert visits(box, "shortlived", "hostname; ls /sys/class/net | grep -c eth0").split() == ["shortlived", "0"]
    finally:
        box.run("box", ["ip", "netns", "del", "shortlived"])


def test_a_host_that_is_dropped_takes_its_processes_and_files_with_it_and_may_come_again(box: OwnBox) -> None:
    box.add_network("node9", {})
    box.add_host("node9")
    try:
        box.put("node9", "/etc/mark", "x")
        box.spawn("node9", ["sleep", "371"], log="logs/sleep.log")
        box.drop_role("node9")
        eventually(
            lambda: box.run("box", ["pgrep", "-fx", "sleep 371"], check=False).out,
            lambda left: left == "",
            within_s=5,
            what="its processes die",
            blame="lab",
        )
        with pytest.raises(LineEnded, match="no role 'node9' in this box"):
            box.ask("node9", "hello")
        box.add_host("node9")
        assert box.run("node9", ["ls", "/etc/mark"], check=False).rc != 0
    finally:
        box.drop_role("node9")
        box.run("box", ["ip", "netns", "del", "node9"])


def test_a_keeper_that_dies_is_told_to_those_who_wait_and_hurts_nobody_else(box: OwnBox) -> None:
    box.add_network("node8", {})
    box.add_host("node8")
    try:
        # It is process 1 of its own pid namespace; the box's sees it under another number, the highest so far.
        script = "awk '/^NSpid:/ && $NF == 1 && $2 != 1 {print $2}' /proc/[0-9]*/status | sort -n | tail -1"
        pid = int(says(box, "box", script))
        waiting = box.line.begin("node8", "run", argv=["sleep", "381"])
        box.signal("box", pid, "KILL")
        with pytest.raises(LineEnded, match=r"role 'node8' ended before it answered$"):
            box.line.answer_of(waiting, 10, "run")
        assert says(box, "node1", "echo fine") == "fine"
    finally:
        box.drop_role("node8")
        box.run("box", ["ip", "netns", "del", "node8"])


def test_the_run_folder_is_the_same_inside_and_outside(box: OwnBox) -> None:
    (box.run_dir / "from-outside").write_text("out")
    for place in ("box", "node1", "pod1"):
        assert says(box, place, "cat /run/tunlab/from-outside") == "out"
    box.run("node1", ["sh", "-c", "echo in > /run/tunlab/from-inside"])
    assert (box.run_dir / "from-inside").read_text() == "in\n"
    assert (box.run_dir / "from-inside").stat().st_uid == os.getuid()
