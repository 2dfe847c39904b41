"""Carrying out a recipe in a real lab: what is put where, and who is blamed, in which words, when it does not work."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest

from tunlab.box.box import OwnBox
from tunlab.box.start import fresh_run_dir, start_box
from tunlab.errors import SystemFault, TunlabError, WorldError
from tunlab.lab.load import load_lab
from tunlab.live.lab import LiveLab
from tunlab.systems import install
from tunlab.systems.install import Installation, parse_ipam
from tunlab.systems.recipe import Command, Daemon, Dialect, File, Recipe
from tunlab.systems.refnet import etcd
from tunlab.wait import eventually

LAB = load_lab("one-node")
BLOCK = IPv4Network("10.9.0.0/26")
EMPTY = Recipe(
    name="mine", version="1", mode="none", abilities=frozenset(), dialect=Dialect("mine"), files=(), store=None,
    setup=(), daemons=(), ready=(), conflists={"node1": {}}, plugin_path="/opt/cni/bin", blocks={"node1": (BLOCK,)},
)  # fmt: skip


@pytest.fixture(autouse=True)
def deadlines_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages name them: a machine that is busy just then may not stretch them here."""
    monkeypatch.setattr(OwnBox, "slowness", lambda box: 1.0)


@pytest.fixture(scope="module")
def box() -> Iterator[OwnBox]:
    box = start_box("namespaces", fresh_run_dir("tests-install"))
    try:
        LiveLab(LAB, box).build()
        yield box
    finally:
        box.close()


def shell(script: str, name: str = "agent", host: str = "node1") -> Daemon:
    return Daemon(host, name, ("sh", "-c", script))


def command(script: str) -> Command:
    return Command("node1", ("sh", "-c", script))


def refused(box: OwnBox, recipe: Recipe, within_s: float = 30.0) -> TunlabError:
    start = time.monotonic()
    with pytest.raises(TunlabError) as caught:
        Installation(box, LAB, recipe).install(within_s)
    assert time.monotonic() - start < 10, "it took its time"
    return caught.value


def test_everything_is_placed_set_up_and_started_in_order(box: OwnBox) -> None:
    recipe = replace(
        EMPTY,
        version=Command("node1", ("sh", "-c", "echo 'mine version: 1.2.3'; echo more")),
        files=(
            File("node1", "/opt/mine/agent", "#!/bin/sh\necho started; exec sleep 421\n", 0o755),
            File("node1", "/opt/mine/alias", target="agent"),
            File("node1", "/etc/mine.conf", "answer = 42\n", 0o600),
        ),
        store=etcd(LAB),
        setup=(
            Command("node1", ("sh", "-c", "cat > /run/told; echo $WHO >> /run/told"), "input\n", {"WHO": "me"}),
            command("test -s /run/told && stat -c %a /etc/mine.conf >> /run/told"),
        ),
        daemons=(Daemon("node1", "agent", ("/opt/mine/alias",), {}),),
        ready=(command("pgrep -fx 'sleep 421'"),),
    )
    installation = Installation(box, LAB, recipe)
    installation.install(10)
    assert box.run("node1", ["cat", "/run/told"]).out == "input\nme\n600\n"
    assert installation.version == "1.2.3"
    address = LAB.store.address.ip
    assert box.run("node1", ["bash", "-c", f"exec 3<>/dev/tcp/{address}/2379"]).rc == 0
    logs = installation.logs()
    assert sorted(logs) == ["node1/agent", "store/etcd"]
    assert logs["node1/agent"].read_text() == "started\n"
    assert installation.last_words(recipe.daemons[0]) == "started"
    assert installation.read_ipam().blocks == {"node1": {BLOCK}}
    for name, state in (("freeze", "T"), ("thaw", "S")):
        getattr(installation, name)(["node1"])
        eventually(
            lambda: box.run("node1", ["ps", "-o", "stat=", "-p", str(installation.pids["node1", "agent"])]).out[:1],
            lambda seen, state=state: seen == state,  # type: ignore[misc]
            within_s=5,
            what=name,
            blame="lab",
        )
    for host, pid in (("node1", installation.pids["node1", "agent"]), ("store", installation.pids["store", "etcd"])):
        box.signal(host, pid, "KILL")


SYSTEMS_FAULT = {
    "a-daemon-that-dies-at-once": (
        replace(
            EMPTY, daemons=(shell("echo binding; echo 'cannot bind: in use' >&2; exit 3"),), ready=(command("false"),)
        ),
        "mine: start in mode none: node1: agent: ended with code 3 and should keep running: cannot bind: in use",
    ),
    "a-daemon-that-is-killed": (
        replace(EMPTY, daemons=(shell("kill -SEGV $$", "crasher"),), ready=(command("false"),)),
        "mine: start in mode none: node1: crasher: was killed by signal 11 and should keep running: it printed nothing",
    ),
    "a-daemon-that-goes-into-the-background": (
        replace(EMPTY, daemons=(shell("exit 0", "forker"), shell("exec sleep 5", "other")), ready=(command("false"),)),
        "mine: start in mode none: node1: forker: ended with code 0 and should keep running: it printed nothing",
    ),
    "a-setup-command-that-fails": (
        replace(
            EMPTY, setup=(command("echo trying; echo 'permission denied' >&2; exit 4"), command("touch /run/never"))
        ),
        "mine: set up: node1: sh -c 'echo trying; echo '\"'\"'permission denied'\"'\"' >&2; exit 4': exit code 4: "
        "permission denied",
    ),
    "a-version-that-cannot-be-told": (
        replace(EMPTY, version=command("exit 9")),
        "mine: set up: node1: sh -c 'exit 9': exit code 9",
    ),
}


@pytest.mark.parametrize("name", SYSTEMS_FAULT)
def test_the_system_is_blamed_for(box: OwnBox, name: str) -> None:
    recipe, wanted = SYSTEMS_FAULT[name]
    error = refused(box, recipe)
    assert isinstance(error, SystemFault), type(error)
    assert error.message == wanted
    assert box.run("node1", ["test", "-e", "/run/never"], check=False).rc != 0


def test_a_system_that_never_gets_ready_is_blamed_with_what_it_said_last(box: OwnBox) -> None:
    recipe = replace(
        EMPTY,
        daemons=(shell("echo one; echo still waiting for the store; exec sleep 30"),),
        ready=(command("echo no session yet; exit 1"),),
    )
    error = refused(box, recipe, within_s=0.5)
    assert isinstance(error, SystemFault)
    assert error.message == (
        "mine: start in mode none: mine is ready: not within 0.5 s; last seen: ['node1: no session yet']; "
        "last words: node1: agent: still waiting for the store"
    )


NOT_INSTALLED = {
    "a-daemon-that-is-not-there": (
        replace(EMPTY, daemons=(Daemon("node1", "agent", ("nosuchd", "-f")),)),
        "mine: start agent: {where}: node1: spawn: nosuchd: no such program in {path}",
    ),
    "a-setup-command-that-is-not-there": (
        replace(EMPTY, setup=(Command("node1", ("nosuchctl", "apply")),)),
        "mine: set up: {where}: node1$ nosuchctl apply: nosuchctl: no such program in {path}",
    ),
    "a-ready-command-that-is-not-there": (
        replace(EMPTY, ready=(Command("node1", ("nosuchctl",)),)),
        "mine: ask whether it is ready: {where}: node1$ nosuchctl: nosuchctl: no such program in {path}",
    ),
}


@pytest.mark.parametrize("name", NOT_INSTALLED)
def test_nobody_is_judged_where_a_program_is_not_on_the_machine(box: OwnBox, name: str) -> None:
    recipe, wanted = NOT_INSTALLED[name]
    error = refused(box, recipe)
    path = box.run("node1", ["sh", "-c", "echo $PATH"]).out.strip()
    assert isinstance(error, WorldError) and not isinstance(error, SystemFault), type(error)
    assert error.message == wanted.format(where=f"namespaces box {box.run_dir.name}", path=path)
    assert error.hint == "install it on this machine, or name the one that is"


LABS_FAULT = {
    "a-store-that-dies-at-once": (
        shell("echo 'listen tcp: address in use' >&2; exit 1", "etcd", "store"),
        "start the store: store: etcd: ended with code 1 and should keep running: listen tcp: address in use",
        "",
    ),
    "a-store-that-never-listens": (
        shell("echo loading; exec sleep 30", "deaf", "store"),
        "start the store: node1 can connect to the store at {address}:2379: not within 0.4 s; last seen: 1; "
        "last words: loading",
        "",
    ),
    "a-store-that-is-not-there": (
        Daemon("store", "etcd", ("no-etcd",)),
        "start the store: {where}: store: spawn: no-etcd: no such program in {path}",
        "apt-get install --no-install-recommends etcd-server",
    ),
}


@pytest.mark.parametrize("name", LABS_FAULT)
def test_the_lab_and_not_the_system_is_blamed_for(box: OwnBox, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store, wanted, hint = LABS_FAULT[name]
    monkeypatch.setattr(install, "_STORE_WITHIN_S", 0.4)
    error = refused(box, replace(EMPTY, store=store))
    path = box.run("node1", ["sh", "-c", "echo $PATH"]).out.strip()
    assert isinstance(error, WorldError), type(error)
    assert not isinstance(error, SystemFault)
    where = f"namespaces box {box.run_dir.name}"
    assert error.message == wanted.format(where=where, path=path, address=LAB.store.address.ip)
    assert error.hint == hint


def test_a_box_that_ends_meanwhile_is_the_labs_trouble() -> None:
    box = start_box("namespaces", fresh_run_dir("tests-install"))
    try:
        LiveLab(LAB, box).build()
        box.run("box", ["sh", "-c", "(sleep 0.3; kill -KILL -1) & exit 0"], check=False)
        error = refused(box, replace(EMPTY, daemons=(shell("exec sleep 30"),), ready=(command("false"),)))
        assert isinstance(error, WorldError)
        assert not isinstance(error, SystemFault)
    finally:
        box.close()


def test_allocations_of_either_family_are_read_from_the_stores_layout() -> None:
    handles = [{"handle_id": handle} for handle in ("vxlan-v6-tunnel-addr-node1", "k8s-pod-network.c0")]
    six = {"cidr": "fd00::40/122", "affinity": "host:node1", "allocations": [0, 1, None], "attributes": handles}
    four = {
        "cidr": "10.0.0.0/30",
        "affinity": "host:node1",
        "allocations": [None, 0],
        "attributes": [{"handle_id": "vxlan-tunnel-addr-node1"}],
    }
    pairs = [
        {"key": f"/calico/ipam/v2/assignment/{family}/block/x", "value": json.dumps(value)}
        for family, value in (("ipv4", four), ("ipv6", six))
    ]
    encoded = [{name: base64.b64encode(text.encode()).decode() for name, text in pair.items()} for pair in pairs]
    ipam = parse_ipam(json.dumps({"kvs": encoded}))
    assert ipam.blocks == {"node1": {IPv4Network("10.0.0.0/30")}}
    assert ipam.blocks6 == {"node1": {IPv6Network("fd00::40/122")}}
    assert (ipam.tunnel_addresses, ipam.tunnel_addresses6) == (
        {"node1": IPv4Address("10.0.0.1")},
        {"node1": IPv6Address("fd00::40")},
    )
    assert ipam.allocations == {IPv4Address("10.0.0.1"): "vxlan-tunnel-addr-node1"}
