"""What a user does in a lab that stands: exec, shell, ping, capture, launch, status; in namespaces, mode vxlan."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.user import ROOT, Terminal, User, leaving_no_trace, send, wait_for_line
from tunlab.wait import eventually


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    user = User(tmp_path_factory.mktemp("inside"))
    with leaving_no_trace(user):
        user.does("up", "same-subnet", "--mode", "vxlan")
        yield user
        user.does("down", "same-subnet")


def runs_in(user: User, place: str, name: str) -> bool:
    """Whether a process of this name runs in a place (of a pod's, all of the box's own are seen)."""
    return user.types("exec", place, "--", "pgrep", "-x", name).code == 0


# ------------------------------------------------------------------ exec
def test_exec_keeps_every_word_as_it_was_typed(user: User) -> None:
    words = ["a b", '"c"', "d'e", "$HOME", "*", "--x", "--", "", "ü"]
    assert user.does("exec", "node1", "--", "printf", "%s|", *words) == "".join(f"{word}|" for word in words)


def test_exec_carries_input_and_large_output_whole(user: User) -> None:
    data = os.urandom(3_000_000)
    assert user.types("exec", "pod1", "--", "sh", "-c", "sleep 0.3; cat", stdin=data).out_bytes == data


def test_exec_runs_where_the_caller_is(user: User) -> None:
    assert user.does("exec", "node1", "--", "pwd") == f"{user.folder}\n"
    (user.folder / "hello").write_text("#!/bin/sh\necho hello from $(hostname)\n")
    (user.folder / "hello").chmod(0o755)
    assert user.does("exec", "master", "--", "./hello") == "hello from node1\n"


@pytest.mark.parametrize(
    ("script", "code", "said"),
    [
        pytest.param("exit 0", 0, "", id="success"),
        pytest.param("exit 2", 2, "", id="two"),
        pytest.param("exit 1", 2, "exec: node2: sh: exit code 1\n", id="one-is-a-judgement"),
        pytest.param("exit 77", 2, "exec: node2: sh: exit code 77\n", id="another"),
        pytest.param("kill -KILL $$", 2, "exec: node2: sh: ended by SIGKILL\n", id="killed"),
        pytest.param("kill -TERM $$", 143, "", id="terminated"),
    ],
)
def test_exec_tells_how_the_command_ended(user: User, script: str, code: int, said: str) -> None:
    done = user.types("exec", "node2", "--", "sh", "-c", script)
    assert (done.code, done.err) == (code, said)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_signal_to_exec_ends_the_command_and_all_that_it_started(
    user: User, number: signal.Signals, code: int
) -> None:
    with user.begins("exec", "store", "--", "sh", "-c", "echo go; sleep 61; echo on") as process:
        wait_for_line(process.stdout, "go")
        assert runs_in(user, "store", "sleep")
        assert send(process, number)[0] == code
    eventually(lambda: runs_in(user, "store", "sleep"), lambda yes: not yes, within_s=5, what="no sleep", blame="lab")


def test_a_reader_that_has_had_enough_ends_the_command(user: User) -> None:
    with user.begins("exec", "node1", "--", "yes") as process:
        wait_for_line(process.stdout, "y")
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(20) == 141
    eventually(lambda: runs_in(user, "node1", "yes"), lambda yes: not yes, within_s=5, what="no yes", blame="lab")


def test_a_stopped_reader_makes_its_command_wait_and_nobody_else(user: User) -> None:
    def written() -> str:
        return user.does("exec", "node1", "--", "sh", "-c", "grep wchar /proc/$(pgrep -x yes)/io")

    with user.begins("exec", "node1", "--", "yes") as process:
        wait_for_line(process.stdout, "y")
        process.send_signal(signal.SIGSTOP)
        eventually(
            lambda: (written(), written()), lambda two: two[0] == two[1], within_s=10, what="it waits", blame="lab"
        )
        assert user.does("exec", "node1", "--", "echo", "free", within_s=15) == "free\n"


def test_exec_loads_nothing_that_is_slow_to_load() -> None:
    heavy = "pydantic yaml scapy pyshark testinfra lxml rich asyncio"
    script = f"import sys, tunlab.command.inside; print(*(set('{heavy}'.split()) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "\n"


# ------------------------------------------------------------------ shell
@pytest.mark.parametrize("place", ["node1", "pod1"])
def test_a_shell_says_where_one_is_and_is_a_real_terminal(user: User, place: str) -> None:
    terminal = Terminal(user, "shell", place, rows=33, columns=101)

    def answers(keys: str, *words: str) -> None:
        terminal.shows(f"same-subnet/{place}# ")
        terminal.type(keys)
        for each in words:
            terminal.shows(each)

    answers("stty size; hostname\r", "33 101\r\n", f"{place}\r\n")
    terminal.shows(f"same-subnet/{place}# ")
    terminal.resize(22, 77)  # and bash shows its prompt anew
    answers("stty size\r", "22 77\r\n")
    answers("ech\t$((40+1))\x1b[D\x1b[D\x1b[Dx\x7f\r", "41\r\n")  # tab, arrow to the left, backspace
    answers("sleep 60\r")
    # A key that comes before bash has handed the terminal on is lost on it, here as everywhere.
    eventually(lambda: runs_in(user, place, "sleep"), bool, within_s=10, what="it sleeps", blame="lab")
    terminal.type("\x03")
    answers("echo $?\r", "130\r\n")
    answers("\x1b[A\r", "0\r\n")  # the line before, once more
    answers("false\r")
    answers("\x04")
    assert terminal.ends() == 0


def test_a_shell_takes_its_commands_from_a_pipe_too(user: User) -> None:
    assert user.does("shell", "pod2", stdin=b"ip -4 -br addr show eth0\n").split()[-1] == "192.168.190.203/32"


@pytest.mark.parametrize(
    ("place", "line", "words"),
    [
        ("node1", "ip route", "192.168.190.192/26 via 192.168.190.192 dev vxlan.calico proto 80 onlink"),
        ("node1", "bridge fdb show dev vxlan.calico", "dst 172.171.5.96 self permanent"),
        ("pod1", "ip route", "default via 169.254.1.1 dev eth0"),
        ("pod1", "ethtool -S eth0", "peer_ifindex: "),
        ("node1", "calicoctl node status", "Calico process is running."),
        ("node1", "calicoctl get ippool -o wide", "default-ipv4-ippool   192.168.0.0/16"),
        ("node1", "calicoctl get nodes", "node2"),
        ("pod1", "ping -c 1 192.168.190.203", "1 received, 0% packet loss"),
    ],
)
def test_a_tutorials_line_works_word_for_word(user: User, place: str, line: str, words: str) -> None:
    assert words in user.does("shell", place, stdin=f"{line}\n".encode())


def test_the_terminal_is_itself_again_when_the_lab_goes_under_a_shell(user: User) -> None:
    user.does("build", "one-node", "--box", "namespaces")
    terminal = Terminal(user, "shell", "node1", "--lab", "one-node")
    terminal.shows("one-node/node1# ")
    user.does("down", "one-node")
    assert terminal.ends() == 2
    assert "one-node: node1: its box has ended meanwhile" in terminal.seen


# ------------------------------------------------------------------ ping, tcpdump, capture
@pytest.mark.parametrize(("a", "b"), [("pod1", "pod2"), ("node1", "pod2"), ("pod2", "master"), ("router1", "store")])
def test_ping_goes_between_any_two(user: User, a: str, b: str) -> None:
    assert "1 packets transmitted, 1 received" in user.does("ping", a, b, "--count", "1")


@pytest.mark.parametrize("place", ["node1", "pod1"])
def test_tcpdump_works_word_for_word(user: User, place: str) -> None:
    _tcpdump_sees_a_ping(user, place)


def test_tcpdump_works_where_only_one_user_is_known(tmp_path: Path) -> None:
    """An ordinary user without newuidmap: his box knows root alone, and tcpdump cannot become anybody else."""
    user = User(tmp_path, before=("unshare", "--user", "--map-root-user", "--"))
    with leaving_no_trace(user):
        user.does("up", "same-subnet", "--mode", "vxlan")
        for place in ("node1", "pod1"):
            _tcpdump_sees_a_ping(user, place)
        wrong = user.types("exec", "node1", "--", "tcpdump", "-ni", "eth9")
        assert (wrong.code, wrong.err.splitlines()[0]) == (2, "tcpdump: eth9: No such device exists")
        user.does("down")


def _tcpdump_sees_a_ping(user: User, place: str) -> None:
    over = threading.Event()

    def keep_pinging() -> None:
        while not over.is_set():
            user.types("ping", "pod1", "pod2", "--count", "1")

    pinging = threading.Thread(target=keep_pinging)
    with user.begins("exec", place, "--", "tcpdump", "-ni", "eth0", "-c", "2", "udp port 4789 or icmp") as process:
        pinging.start()
        try:
            out, err = process.communicate(timeout=30)
        finally:
            over.set()
            pinging.join()
    assert process.returncode == 0, err
    assert "192.168.236.3 > 192.168.190.203: ICMP echo request" in out.decode()


def test_two_captures_at_once_each_get_their_own_frames(user: User) -> None:
    both = user.begins("capture", "node1/eth0"), user.begins("capture", "pod2/eth0", "-w", "x.pcapng")
    with both[0] as live, both[1] as kept:
        wait_for_line(live.stderr, "watching node1/eth0")
        wait_for_line(kept.stderr, "capturing on pod2/eth0 into x.pcapng")
        user.does("ping", "pod1", "pod2", "--count", "2")
        shown = wait_for_line(live.stdout, "vxlan")  # the first frame at once, not when a buffer is full
        code, said = send(kept, signal.SIGINT)
        live.send_signal(signal.SIGINT)
        more, _ = live.communicate(timeout=20)
    assert (live.returncode, code) == (0, 0)
    assert "[eth ip udp vxlan eth ip icmp]" in shown + more.decode()
    assert said.endswith(f" frames in {user.folder / 'x.pcapng'}, 0 dropped\n")
    fields = ["-T", "fields", "-e", "frame.interface_name", "-e", "icmp.type"]
    argv = ["tshark", "-r", str(user.folder / "x.pcapng"), "-Y", "icmp", *fields]
    rows = subprocess.run(argv, capture_output=True, text=True, check=True, env=user.env).stdout.splitlines()
    assert rows == ["pod2/eth0\t8", "pod2/eth0\t0"] * 2
    (user.folder / "x.pcapng").unlink()


def test_a_capture_that_is_terminated_keeps_what_it_saw(user: User) -> None:
    with user.begins("capture", "pod1/eth0", "-w", "y.pcapng") as kept:
        wait_for_line(kept.stderr, "capturing on")
        assert send(kept, signal.SIGTERM)[0] == 143
    assert (user.folder / "y.pcapng").stat().st_size > 0
    (user.folder / "y.pcapng").unlink()


def test_a_capture_that_is_killed_leaves_no_tap_behind(user: User) -> None:
    def sockets() -> int:
        return len(user.does("exec", "node1", "--", "cat", "/proc/net/packet").splitlines()) - 1  # less the head line

    with user.begins("capture", "node1/eth0") as live:
        wait_for_line(live.stderr, "watching node1/eth0")
        assert sockets() > 0
    eventually(sockets, lambda left: left == 0, within_s=5, what="no socket is left", blame="lab")


# ------------------------------------------------------------------ launch, status
def test_one_more_pod_is_reached_and_gone_after_the_next_up(tmp_path: Path) -> None:
    user = User(tmp_path)
    with leaving_no_trace(user):
        assert user.does("build", "same-subnet", "--box", "namespaces").endswith(
            "next: ./lab install --lab same-subnet --mode vxlan\n"
        )
        assert user.does("install", "--mode", "vxlan").endswith("next: ./lab launch --lab same-subnet\n")
        user.does("launch", "pod3", "--node", "node")
        (told,) = user.status()
        assert ([pod["name"] for pod in told["pods"]], told["not_launched"]) == (["pod3"], ["pod1", "pod2"])
        user.does("launch")
        assert "0% packet loss" in user.does("ping", "pod1", "pod3", "--count", "1")
        shown = user.does("up", "same-subnet", "--mode", "none", "--show")
        for words in ("    netns add node1\n", "  node1$ NODENAME=node1 ", " refnet-agent &\n", "ipipMode: Never\n"):
            assert words in shown
        (told,) = user.status()
        assert [(pod["name"], pod["address"]) for pod in told["pods"]] == [
            ("pod1", "192.168.236.3"),
            ("pod2", "192.168.190.203"),
        ]
        assert [one["info"] for one in told["nodes"][0]["sessions"]] == ["Established"]
        assert user.does("down", "--all") == "same-subnet is gone\n"


def test_status_tells_nodes_pods_addresses_and_routes(user: User) -> None:
    shown = user.does("status", "same-subnet").splitlines()
    assert shown[:3] == [
        "same-subnet: refnet in mode vxlan, in a box of kind namespaces",
        "  node1 (master): eth0 172.171.5.95/24, vxlan.calico 192.168.236.0/32",
        "    pod      pod1 192.168.236.3, behind calice0906292e2",
    ]
    (told,) = user.status()
    assert (told["alive"], told["mode"], told["nodes"][1]["aliases"]) == (True, "vxlan", ["node"])


def test_a_lab_of_ones_own_stands_beside_the_others(user: User) -> None:
    text = (ROOT / "labs" / "one-node.yaml").read_text()
    (user.folder / "my-lab.yaml").write_text(text)
    user.does("up", "./my-lab.yaml", "--mode", "vxlan")
    assert [each["lab"] for each in user.status()] == ["my-lab", "same-subnet"]
    several = user.types("exec", "node1", "--", "true")
    assert (several.code, several.err.splitlines()[0]) == (2, "which lab: several stand: my-lab, same-subnet")
    assert user.does("exec", "node1", "--lab", "my-lab", "--", "hostname") == "node1\n"
    user.does("down", "./my-lab.yaml")


# ------------------------------------------------------------------ who may reach it, and what its holder keeps
def test_nobody_else_can_reach_a_lab(user: User) -> None:
    folder = user.state("same-subnet")
    assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "line.sock").stat().st_mode) == 0o600


def test_a_holder_keeps_no_terminal_folder_or_file_of_its_caller(user: User) -> None:
    held = {pid: words for pid, words in user.processes().items() if "holder.py" in words}
    ((pid, _),) = held.items()
    proc = Path("/proc", str(pid))
    targets = [str(path.readlink()) for path in (proc / "fd").iterdir()]
    folder = str(user.state("same-subnet"))
    assert [each for each in targets if each.startswith("/") and not each.startswith((folder, "/dev/null"))] == []
    assert str((proc / "cwd").readlink()) == folder
    assert (proc / "stat").read_text().rpartition(")")[2].split()[4] == "0"  # tty_nr
    inside = user.does("exec", "node1", "--", "sh", "-c", "readlink /proc/1/cwd")
    assert inside == "/\n"


# ------------------------------------------------------------------ wrong words
WRONG = {
    "place": (("exec", "nod1", "--", "true"), "same-subnet: nod1: no such place"),
    "pod-not-there": (("ping", "pod1", "pod9"), "same-subnet: pod9: no such place"),
    "no-address": (("ping", "pod1", "lan"), "same-subnet: lan: a place without an address"),
    "no-tap": (("capture", "node1"), "node1: a tap is PLACE/INTERFACE"),
    "no-interface": (("capture", "node1/eth7"), "node1/eth7: node1 has no interface eth7"),
    "no-program": (("exec", "node1", "--", "nosuch"), "node1: nosuch: there is no such program there"),
    "no-folder": (("capture", "node1/eth0", "-w", "no/x.pcapng"), "-w no/x.pcapng: there is no folder"),
    "no-pcapng": (("capture", "node1/eth0", "-w", "x.pcap"), "-w x.pcap: what is written is pcapng"),
    "lab": (("exec", "node1", "--lab", "sam", "--", "true"), "sam: no lab of this name stands"),
    "down": (("down", "mixed"), "mixed: no lab of this name stands"),
    "status": (("status", "mixed"), "mixed: no lab of this name stands"),
    "system": (("up", "same-subnet", "--system", "refnett"), "--system: refnett: no such system"),
    "lab-file": (("up", "same-subnt"), "labs: same-subnt: no such lab"),
    "installed": (("install", "--mode", "none"), "same-subnet: refnet is installed already, in mode vxlan"),
    "up-already": (("launch", "pod1"), "pod1: this pod is up already"),
    "pod-without-node": (("launch", "pod9"), "pod9: the lab's file has no such pod"),
    "pod-name": (("launch", "Pod9", "--node", "node1"), "Pod9: no name for a pod"),
    "pod-name-taken": (("launch", "master", "--node", "node1"), "master: no name for a pod"),
    "node": (("launch", "pod9", "--node", "nod1"), "same-subnet: node nod1: no such node in this lab"),
}


@pytest.mark.parametrize("words", WRONG)
def test_a_wrong_word_gets_one_message_and_changes_nothing(user: User, words: str) -> None:
    line, message = WRONG[words]
    before = user.status()
    said = user.types(*line)
    assert (said.code, said.out) == (2, "")
    first, *more = said.err.splitlines()
    assert first.startswith(message)
    assert [each for each in more if each.startswith("  hint: ")] == more[-1:]
    assert [each for each in (first, *more) if len(each) > 80 and str(user.folder) not in each] == []
    assert user.status() == before
