"""What the agent is told by its environment, its command line and BIRD, and what it says to wrong words."""

from __future__ import annotations

import subprocess
from ipaddress import IPv4Interface

import pytest

from refnet.agent.birdc import Session, sessions
from refnet.agent.settings import Settings, read_settings
from refnet.agent.status import sessions_missing
from tests.refnet.apply.sandbox import AGENT

RIGHT = {"NODENAME": "node1", "ETCD_ENDPOINTS": "http://10.0.0.250:2379"}


def run(*arguments: str, **environment: str) -> tuple[int, str]:
    argv = ["python3", "-ISE", str(AGENT), *arguments]
    path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    done = subprocess.run(argv, env={**path, **environment}, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def test_calicos_variables_are_the_settings() -> None:
    told = {**RIGHT, "IP": "10.0.0.1/24", "AS": "65001", "CALICO_NETWORKING_BACKEND": "vxlan"}
    told["ETCD_ENDPOINTS"] = "http://a:2379, http://b:2379/"
    assert read_settings(told) == Settings(
        "node1", ("http://a:2379", "http://b:2379"), IPv4Interface("10.0.0.1/24"), "vxlan", 65001
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"NODENAME": "Node_1"}, "NODENAME: Node_1; legal: a DNS name in lower case"),
        ({"ETCD_ENDPOINTS": ""}, "ETCD_ENDPOINTS: missing; legal: URLs of etcd with commas, http://10.0.0.250:2379"),
        ({"IP": "10.0.0/24"}, "IP: 10.0.0/24; legal: an address with its prefix length, 10.0.0.1/24, or autodetect"),
        ({"CALICO_NETWORKING_BACKEND": "brid"}, "CALICO_NETWORKING_BACKEND: brid; legal: bird, vxlan, none"),
        ({"AS": "4294967296"}, "AS: 4294967296; legal: a whole number, 1 to 4294967295"),
    ],
    ids=["node-name", "no-store", "address", "backend", "as-number"],
)  # fmt: skip
def test_a_wrong_environment_is_one_line_and_exit_2(wrong: dict[str, str], message: str) -> None:
    assert run(**{**RIGHT, **wrong}) == (2, f"refnet-agent: environment: {message}\n")


def test_a_wrong_option_is_one_line_and_exit_2() -> None:
    assert run("--redy") == (2, "refnet-agent: --redy: not understood; usage: refnet-agent [--ready | --version]\n")


def test_birds_table_is_read_as_sessions_with_calicos_words() -> None:
    lines = (
        "Name       Proto      Table      State  Since         Info",
        "device1    Device     ---        up     11:34:16.869  ",
        "Node_10_0_0_9 BGP        ---        start  11:34:17.862  Active        Socket: Connection refused",
        "Mesh_10_0_0_2 BGP        ---        up     11:34:17.862  Established   ",
    )
    assert sessions(lines) == (
        Session("10.0.0.2", "node-to-node mesh", "up", "11:34:17", "Established"),
        Session("10.0.0.9", "node specific", "start", "11:34:17", "Active        Socket: Connection refused"),
    )


UP, WAITS = (Session("10.0.0.2", "", "up", "", "Established"), Session("10.0.0.3", "", "start", "", "Active"))


@pytest.mark.parametrize(
    ("sessions_now", "age_s", "reason"),
    [
        ((UP, WAITS), 1.0, "bird: 1 of 2 sessions Established"),
        ((UP, UP), 1.0, ""),
        ((UP, WAITS), 31.0, ""),
        ((WAITS, WAITS), 31.0, "bird: 0 of 2 sessions Established"),
        ((), 1.0, "bird: 0 of 2 sessions Established"),
    ],
    ids=["one-is-missing", "all-are-up", "one-is-missing-later", "all-are-missing-later", "nothing-known-yet"],
)
def test_a_young_node_waits_for_all_its_peers_and_an_old_one_for_any(
    sessions_now: tuple[Session, ...], age_s: float, reason: str
) -> None:
    assert sessions_missing(2, sessions_now, age_s) == reason


def test_a_node_without_peers_waits_for_nobody() -> None:
    assert sessions_missing(0, (), 1.0) == ""
