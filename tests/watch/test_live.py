"""`./lab watch` on a real lab: what viewers are told, what they may do, and that nothing stays when it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.user import Terminal, User, send, wait_for_line
from tests.watch.asking import Address, Events
from tunlab.wait import eventually

WRAPPED = "eth ip udp vxlan eth ip icmp"


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    somebody = User(tmp_path_factory.mktemp("user"))
    somebody.does("up", "same-subnet", "--mode", "vxlan")
    yield somebody
    somebody.types("down", "--all")


@pytest.fixture(scope="module")
def watcher(user: User) -> Iterator[subprocess.Popen[bytes]]:
    with user.begins("watch", "same-subnet", "--no-browser") as process:
        yield process


@pytest.fixture(scope="module")
def address(watcher: subprocess.Popen[bytes]) -> Address:
    return address_of(watcher)


@pytest.fixture
def page(address: Address) -> Iterator[Events]:
    opened = Events(address)
    yield opened
    opened.close()


def address_of(process: subprocess.Popen[bytes]) -> Address:
    return Address.of(wait_for_line(process.stdout, "http://"))


def count_of(*argv: str) -> int:
    """How many processes of the machine, in boxes too, were started with these very words."""
    wanted, found = "\0".join((*argv, "")).encode(), 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found += path.read_bytes() == wanted
    return found


def test_a_ping_is_followed_there_and_back_and_then_explained(page: Events) -> None:
    picture = page.until("picture")
    assert (picture["lab"], picture["mode"], picture["far"]) == ("same-subnet", "vxlan", "pod2")
    number = page.asks("step", **{"from": "pod1", "to": "pod2"})["number"]
    step = page.until("step")
    assert (step["number"], step["outcome"]) == (number, "answered")
    places = ["pod1", "node1", "lan", "node2", "pod2"]
    assert [hop["place"] for hop in step["ways"]["there"]] == places
    assert [hop["place"] for hop in step["ways"]["back"]] == places[::-1]
    assert step["ways"]["there"][1]["sightings"][-1]["stack"] == WRAPPED
    says = {one["what"]: one["says"] for one in page.until("explained")["ways"]["there"][1]["decisions"]}
    assert " dev vxlan.calico" in says["route"] and "dst 172.171.5.96" in says["FDB"]


def test_what_others_send_is_shown_too(user: User, page: Events) -> None:
    page.until("picture")
    assert user.types("ping", "pod2", "pod1", "--count", "1").code == 0
    packet = page.until("packet", lambda one: one["title"].startswith("pod2 → pod1  icmp request"))
    assert [hop["place"] for hop in packet["hops"]] == ["pod2", "node2", "lan", "node1", "pod1"]


def test_a_place_shows_its_tables_and_a_wrong_name_is_one_line(page: Events) -> None:
    page.until("hello")
    tables = {one["title"]: one["text"] for one in page.asks("tables", place="node1")["tables"]}
    assert "172.171.5.96" in tables["FDB"] and "vxlan.calico" in tables["routes"] and "-A FORWARD" in tables["rules"]
    assert {one["rc"] for place in ("pod1", "lan", "node2") for one in page.asks("tables", place=place)["tables"]} == {
        0
    }
    assert page.asks("tables", place="nod1")["error"].startswith("same-subnet: nod1: no such place")
    assert "nothing would be seen" in page.asks("step", **{"from": "pod1", "to": "pod1"})["error"]
    assert page.asks("shell", place="node1", rows=0, columns=80)["error"].startswith("a terminal has 2 to 300 rows")


def test_a_shell_is_at_home_in_its_place_and_ends_with_its_page(address: Address) -> None:
    page, marked = Events(address), f"4711.{os.getpid()}"
    page.until("hello")
    shell = page.asks("shell", place="node2", rows=20, columns=90)["shell"]
    page.shell_says(shell, "same-subnet/node2# ")
    page.types(shell, "hostname; stty size; echo $TERM\n")
    assert "node2\r\n20 90\r\nxterm-256color" in page.shell_says(shell, "xterm-256color\r\n")
    page.asks("resize", shell=shell, rows=30, columns=100)
    page.types(shell, f"stty size; exec sleep {marked}\n")
    page.shell_says(shell, "30 100\r\n")
    eventually(lambda: count_of("sleep", marked), lambda n: n == 1, within_s=20, what="it runs", blame="lab")
    page.close()
    eventually(lambda: count_of("sleep", marked), lambda n: n == 0, within_s=20, what="it ends", blame="lab")


def test_two_may_watch_at_once_and_one_leaves_without_a_trace(user: User, page: Events) -> None:
    page.until("hello")
    before = set(user.processes())
    with user.begins("watch", "same-subnet", "--no-browser") as second:
        other = Events(address_of(second))
        other.until("picture")
        other.asks("step", **{"from": "pod2", "to": "pod1"})
        assert len(other.until("step")["ways"]["back"]) == 5
        page.asks("step", **{"from": "pod1", "to": "pod2"})
        assert len(page.until("step")["ways"]["back"]) == 5
        assert send(second, signal.SIGINT) == (0, "watching same-subnet; Ctrl-C ends it\n")
        other.close()
    eventually(lambda: set(user.processes()) - before, lambda left: not left, within_s=20, what="all gone", blame="lab")


def test_a_port_that_is_taken_is_one_line(user: User, address: Address) -> None:
    said = user.types("watch", "same-subnet", "--no-browser", "--port", str(address.port))
    assert (said.code, said.out) == (2, "")
    assert (
        said.err == f"--port: {address.port}: address already in use\n  hint: leave it out, and a free one is taken\n"
    )


@pytest.mark.parametrize("key", ["q", "\x03"], ids=["q", "ctrl-c"])
def test_the_terminal_shows_it_too_and_is_itself_again_afterwards(user: User, key: str) -> None:
    user.more["NO_COLOR"] = "1"
    terminal = Terminal(user, "watch", "same-subnet", "--tui", columns=80)
    own = os.dup(terminal._terminal)
    before = termios.tcgetattr(own)
    terminal.shows("lan  172.171.5.0/24", within_s=60)
    assert termios.tcgetattr(own) != before
    terminal.type("s")
    terminal.shows("answered in ", within_s=60)
    terminal.type(key)
    terminal.shows("\x1b[?1049l", within_s=60)
    eventually(lambda: termios.tcgetattr(own), lambda now: now == before, within_s=20, what="its modes", blame="lab")
    os.close(own)
    assert terminal.ends() == 0
    assert "Traceback" not in terminal.seen


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nowhere",), "nowhere: no lab of this name stands"),
        (("same-subnet", "--tui"), "--tui: this is no terminal"),
        (("same-subnet", "--tui", "--port", "8000"), "--tui: a terminal has no port and no browser"),
        (("same-subnet", "--port", "70000"), "--port: 70000: no such port"),
    ],
    ids=["no-lab", "no-terminal", "both", "port"],
)
def test_a_wrong_word_is_one_message(user: User, words: tuple[str, ...], message: str) -> None:
    said = user.types("watch", *words)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(message)


def test_new_pods_come_into_the_picture_and_the_end_of_the_lab_is_told(
    user: User, watcher: subprocess.Popen[bytes], page: Events
) -> None:
    page.until("picture")
    user.does("launch", "pod9", "--node", "node1", "--lab", "same-subnet")
    picture = page.until("picture", lambda one: "pod9" in one["senders"])
    assert {"from": ["pod9", "eth0"]}.items() <= next(one for one in picture["links"] if "pod9" in one["from"]).items()
    page.asks("step", **{"from": "pod9", "to": "pod2"})
    assert page.until("step")["ways"]["there"][0]["place"] == "pod9"
    user.does("down", "same-subnet")
    gone = page.until("gone")
    assert gone["why"] == "same-subnet: the lab has been taken down"
    _, err = watcher.communicate(timeout=60)
    said = "watching same-subnet; Ctrl-C ends it\nsame-subnet: the lab has been taken down\n"
    assert (watcher.returncode, err.decode()) == (2, said + "  hint: ./lab up same-subnet\n")
    eventually(user.processes, lambda left: not left, within_s=20, what="nothing is left", blame="lab")
