"""However a standing lab ends, or whatever is broken of it: it is told, `down` clears it, and nothing stays behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.live.user import ROOT, Terminal, User, leaving_no_trace, send, wait_for_line
from tunlab.wait import eventually


@pytest.fixture
def user(tmp_path: Path) -> User:
    return User(tmp_path)


def holder_of(user: User) -> int:
    (pid,) = [pid for pid, words in user.processes().items() if "holder.py" in words]
    return pid


def doing(user: User) -> str:
    return str(json.loads((user.state("one-node") / "lab.json").read_text())["doing"])


# ------------------------------------------------------------------ the builder is ended half-way
MOMENTS = [
    ("build one-node", signal.SIGINT),
    ("install refnet", signal.SIGTERM),
    ("launch pod1", signal.SIGINT),
    ("wait until", signal.SIGTERM),
    ("build one-node", signal.SIGKILL),
    ("install refnet", signal.SIGKILL),
    ("launch pod1", signal.SIGKILL),
    ("wait until", signal.SIGKILL),
]


@pytest.mark.parametrize(("step", "number"), MOMENTS, ids=[f"{step}-{number.name}" for step, number in MOMENTS])
def test_an_up_that_is_ended_at_any_step_leaves_nothing(user: User, step: str, number: signal.Signals) -> None:
    with leaving_no_trace(user), user.begins("up", "one-node", "--mode", "vxlan") as process:
        wait_for_line(process.stdout, step)
        code, said = send(process, number)
        killed = number == signal.SIGKILL
        assert (code, said) == ((-9, "") if killed else (128 + number, f"lab: ended by {number.name}\n"))
        eventually(user.status, lambda labs: not labs, within_s=10, what="no lab stands", blame="lab")


def test_an_up_that_failed_still_stands_to_be_looked_at(user: User) -> None:
    system = user.folder / "broken.yaml"
    text = (ROOT / "fixtures" / "systems" / "cni-ptp.yaml").read_text()
    system.write_text(text.replace("host-local", "host-lokal"))
    with leaving_no_trace(user):
        said = user.types("up", "same-subnet", "--mode", "none", "--system", str(system))
        assert said.code == 2
        assert "host-lokal" in said.err
        (told,) = user.status()
        assert told["alive"]
        user.does("down")
        system.unlink()
        system.touch()


def test_an_install_that_was_cut_short_is_told_and_not_built_upon(user: User) -> None:
    with leaving_no_trace(user):
        user.does("build", "one-node", "--box", "namespaces")
        with user.begins("install", "--mode", "vxlan") as process:
            wait_for_line(process.stdout, "install refnet")
            eventually(lambda: doing(user), bool, within_s=5, every_s=0.005, what="begun", blame="lab")
            send(process, signal.SIGKILL)
        for line in (("install", "--mode", "vxlan"), ("launch",)):
            said = user.types(*line)
            assert said.code == 2
            assert said.err.startswith("one-node: the install of refnet in mode vxlan was cut short or did not")
        user.does("up", "one-node", "--mode", "vxlan")
        user.does("down")


def test_a_launch_that_was_cut_short_is_made_good_by_the_next(user: User) -> None:
    with leaving_no_trace(user):
        user.does("build", "one-node", "--box", "namespaces")
        user.does("install", "--mode", "vxlan")
        with user.begins("launch", "pod9", "--node", "node1") as process:
            wait_for_line(process.stdout, "launch pod9")
            eventually(lambda: doing(user), bool, within_s=5, every_s=0.005, what="begun", blame="lab")
            send(process, signal.SIGKILL)
        user.does("launch", "pod9", "--node", "node1")
        assert "0% packet loss" in user.does("ping", "node1", "pod9", "--count", "1")
        user.does("down")


def test_of_two_at_once_one_builds_and_the_other_is_told(user: User) -> None:
    with leaving_no_trace(user):
        with user.begins("up", "one-node", "--mode", "vxlan") as first:
            wait_for_line(first.stdout, "build one-node")
            eventually(user.state("one-node").exists, bool, within_s=10, every_s=0.01, what="its folder", blame="lab")
            first.send_signal(signal.SIGSTOP)
            second, ended = user.types("up", "one-node", "--mode", "vxlan"), user.types("down", "one-node")
            (told,) = user.status()
            first.send_signal(signal.SIGCONT)
            out, err = first.communicate(timeout=60)
        for said in (second, ended):
            assert (said.code, said.out) == (2, "")
            assert said.err.startswith("one-node: another ./lab is building, changing or ending it just now")
        assert told["busy"]
        assert (first.returncode, err) == (0, b""), out
        user.does("exec", "pod1", "--", "true")
        user.does("down")


# ------------------------------------------------------------------ what stands is broken
def break_state(text: bytes) -> Callable[[User], None]:
    def breaks(user: User) -> None:
        (user.state("one-node") / "lab.json").write_bytes(text)

    return breaks


def kill_holder(user: User) -> None:
    os.kill(holder_of(user), signal.SIGKILL)


def kill_first(user: User) -> None:
    (pid,) = [pid for pid, words in user.processes().items() if "enter.py" in words and "-- " in words][:1]
    os.kill(pid, signal.SIGKILL)


def take_socket(user: User) -> None:
    (user.state("one-node") / "line.sock").unlink()


def forget_lab(user: User) -> None:
    (user.state("one-node") / "lab.json").unlink()


def stop_holder(user: User) -> None:
    os.kill(holder_of(user), signal.SIGSTOP)


def break_text(user: User) -> None:
    (user.state("one-node") / "lab.yaml").write_text("nodes: 7\n")


def break_ready(user: User) -> None:
    (user.state("one-node") / "holder.json").write_text("[")


BROKEN = {
    "state-empty": (break_state(b""), "not what this program wrote"),
    "state-no-json": (break_state(b"\x00\xff rubbish"), "not what this program wrote"),
    "state-another": (break_state(b'{"lab": 7}'), "not what this program wrote"),
    "state-gone": (forget_lab, "No such file or directory"),
    "text-broken": (break_text, "not what was built"),
    "holder-killed": (kill_holder, "nobody holds its box"),
    "holder-stopped": (stop_holder, "no answer in"),
    "box-killed": (kill_first, "its box has ended by itself"),
    "socket-gone": (take_socket, "nobody holds its box: No such file or directory"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_lab_is_told_and_cleared(user: User, how: str) -> None:
    breaks, words = BROKEN[how]
    with leaving_no_trace(user):
        user.does("build", "one-node", "--box", "namespaces")
        breaks(user)
        eventually(lambda: user.status()[0], lambda told: words in told["reason"], within_s=15, what=words, blame="lab")
        shown = user.types("status")
        assert (shown.code, shown.out.splitlines()[-1]) == (2, "  hint: ./lab down one-node ends and forgets it")
        said = user.types("launch")
        assert said.code == 2
        assert "own fault" not in said.err
        assert user.does("down", "one-node") == "one-node is gone\n"
        assert user.status() == []


def test_what_the_holder_wrote_of_itself_is_not_needed_to_end_it(user: User) -> None:
    with leaving_no_trace(user):
        user.does("build", "one-node", "--box", "namespaces")
        break_ready(user)
        user.does("down")


def test_an_up_clears_what_is_broken_too(user: User) -> None:
    with leaving_no_trace(user):
        user.does("build", "one-node", "--box", "namespaces")
        kill_holder(user)
        break_state(b"{")(user)
        user.does("up", "one-node", "--mode", "none")
        user.does("down", "--all")


# ------------------------------------------------------------------ terminals and places
def test_a_lab_outlives_the_terminal_it_was_built_in(user: User) -> None:
    with leaving_no_trace(user):
        terminal = Terminal(user, "up", "one-node", "--mode", "vxlan")
        terminal.shows("one-node stands.", within_s=60)
        terminal.close()
        assert user.does("exec", "pod1", "--", "hostname") == "pod1\n"
        user.does("down")


@pytest.mark.parametrize(
    "runtime", ["with spaces 'and quotes'", "x" * 120, "", "relative"], ids=["spaces", "long", "unset", "relative"]
)
def test_a_lab_stands_wherever_the_runtime_folder_is(user: User, runtime: str) -> None:
    wanted = user.folder / "run" / runtime if runtime and runtime != "relative" else None
    if wanted is not None:
        wanted.mkdir(mode=0o700)
    user.more["XDG_RUNTIME_DIR"] = str(wanted or runtime)
    with leaving_no_trace(user):
        user.does("build", "one-node", "--box", "namespaces")
        (told,) = user.status()
        assert told["alive"]
        assert told["folder"] == str(
            (wanted or user.temporary) / Path(f"tunlab{'' if wanted else f'-{os.getuid()}'}", "one-node")
        )
        assert user.does("exec", "node1", "--", "hostname") == "node1\n"
        user.does("down")


def test_a_runtime_folder_that_others_can_open_is_refused(user: User) -> None:
    (user.runtime / "tunlab").mkdir(mode=0o755)
    said = user.types("up", "one-node", "--mode", "vxlan")
    assert said.code == 2
    assert "it belongs to somebody else or is open to others" in " ".join(said.err.split())


def test_a_checkout_may_have_blanks_in_its_path_and_may_vanish(user: User) -> None:
    checkout = user.folder / "a b"
    parts = ("lab", "tasks.py", "requirements.lock", "tunlab", "refnet", "labs")
    checkout.mkdir()
    for name in parts:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, checkout / name)
    (checkout / ".venv").symlink_to(ROOT / ".venv")
    user.lab, user.more["PYTHONPATH"] = checkout / "lab", str(checkout)  # else .venv leads to the checkout it is in
    with leaving_no_trace(user):
        user.does("up", "one-node", "--mode", "vxlan")
        assert "0% packet loss" in user.does("ping", "node1", "pod1", "--count", "1")
        assert str(checkout) in user.processes()[holder_of(user)]
        shutil.rmtree(checkout)
        user.lab = ROOT / "lab"
        del user.more["PYTHONPATH"]
        assert user.does("exec", "pod1", "--", "hostname") == "pod1\n"
        user.does("down")


def test_a_stranger_on_the_socket_is_no_harm(user: User) -> None:
    with leaving_no_trace(user):
        user.does("build", "one-node", "--box", "namespaces")
        with socket.socket(socket.AF_UNIX) as stranger:
            handle = os.open(user.state("one-node"), os.O_PATH)
            stranger.connect(f"/proc/self/fd/{handle}/line.sock")
            os.close(handle)
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert user.does("exec", "node1", "--", "hostname") == "node1\n"
        user.does("down")


# ------------------------------------------------------------------ the other box
def test_ipip_takes_the_other_box_by_itself_and_all_works_there(user: User) -> None:
    with leaving_no_trace(user):
        user.does("up", "one-node", "--mode", "ipip", "--box", "uml")
        (told,) = user.status()
        assert (told["box"], told["mode"], list(told["nodes"][0]["tunnels"])) == ("uml", "ipip", ["tunl0"])
        assert user.types("exec", "pod1", "--", "cat", stdin=b"x" * 100_000).out == "x" * 100_000
        terminal = Terminal(user, "shell", "node1")
        terminal.shows("one-node/node1# ")
        terminal.type("birdc show protocols | head -1; stty size\r")
        terminal.shows("BIRD ")
        terminal.shows("24 80")
        terminal.type("exit\r")
        assert terminal.ends() == 0
        with user.begins("capture", "pod1/eth0") as live:
            wait_for_line(live.stderr, "watching pod1/eth0")
            user.does("ping", "node1", "pod1", "--count", "1")
            wait_for_line(live.stdout, "[eth ip icmp]")
            assert send(live, signal.SIGINT)[0] == 0
        kill_holder(user)
        user.does("down")
