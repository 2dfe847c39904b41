"""A trace on a real lab: the way of a packet that lives, and the place, the reason and the remedy of one that dies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.live.user import User
from tunlab.trace.decisions import parse_counters

NODE3_VTEP = "cat /sys/class/net/vxlan.calico/address"


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    somebody = User(tmp_path_factory.mktemp("user"))
    assert somebody.types("up", "mixed", "--mode", "vxlan").code == 0
    yield somebody
    somebody.types("down")


def run(user: User, place: str, text: str) -> str:
    done = user.types("exec", place, "--", "sh", "-c", text)
    assert done.code == 0, done.err
    return done.out.strip()


def ends(user: User, *words: str) -> tuple[int, list[str]]:
    said = user.types("trace", *words)
    return said.code, said.out.strip().splitlines()[-2:]


def test_every_hop_there_and_back_is_told_with_what_it_decided(user: User) -> None:
    said = user.types("trace", "pod1", "pod4", "--json")
    told = json.loads(said.out)
    assert (said.code, told["outcome"], told["death"]) == (0, "answered", None)
    places = ["pod1", "node1", "net1", "router1", "net2", "node3", "pod4"]
    assert [hop["place"] for hop in told["ways"]["there"]] == places
    assert [hop["place"] for hop in told["ways"]["back"]] == places[::-1]
    node1 = told["ways"]["there"][1]
    assert node1["sightings"][0]["stack"] == "eth ip icmp"
    assert node1["sightings"][-1]["stack"] == "eth ip udp vxlan eth ip icmp"
    says = {one["what"]: one["says"] for one in node1["decisions"]}
    assert " dev vxlan.calico" in says["route"]
    assert says["outer route"].startswith("192.168.200.101 via 192.168.100.1 dev eth0")
    assert "dst 192.168.200.101 self permanent" in says["FDB"]
    assert told["ways"]["there"][-1]["decisions"][0]["what"] == "delivered"


@pytest.mark.parametrize("proto", ["tcp", "udp"])
def test_a_server_of_its_own_answers_for_the_target(user: User, proto: str) -> None:
    code, (_, last) = ends(user, "pod1", "pod3", "--proto", proto)
    assert code == 0
    assert last.startswith("answered by pod3 in ")


def test_a_port_where_nobody_listens_is_a_refusal_and_no_death(user: User) -> None:
    code, (_, last) = ends(user, "pod1", "192.168.100.101", "--proto", "tcp", "--port", "9")
    assert code == 0
    assert last.startswith("refused, as nobody listens there, by 192.168.100.101 in ")


DEATHS = {
    "filtered": (
        ("router1", "iptables-legacy -A FORWARD -p udp --dport 4789 -j DROP"),
        ("router1", "iptables-legacy -F FORWARD"),
        "the packet died at router1/eth0: a rule dropped it: -A FORWARD -p udp -m udp --dport 4789 -j DROP (+1)",
    ),
    "refused": (
        ("router1", "iptables-legacy -A FORWARD -p udp --dport 4789 -j REJECT --reject-with icmp-admin-prohibited"),
        ("router1", "iptables-legacy -F FORWARD"),
        "the packet died at router1/eth0: router1 has a rule or a route that refuses it",
    ),
    "not-forwarded": (
        ("router1", "sysctl -qw net.ipv4.ip_forward=0"),
        ("router1", "sysctl -qw net.ipv4.ip_forward=1"),
        "the packet died at router1/eth0: the place does not forward packets",
    ),
    "to-a-wrong-mac": (
        ("router1", "ip neigh replace 192.168.200.101 lladdr 02:00:00:00:00:99 dev eth1 nud permanent"),
        ("router1", "ip neigh del 192.168.200.101 dev eth1"),
        "the packet died at node3/eth0: the frame is not for this place: it is for 02:00:00:00:00:99, and eth0 has ",
    ),
}


@pytest.mark.parametrize("name", DEATHS)
def test_a_death_names_the_last_place_and_the_reason(user: User, name: str) -> None:
    do, undo, wanted = DEATHS[name]
    run(user, *do)
    try:
        code, (last, remedy) = ends(user, "pod1", "pod4")
    finally:
        run(user, *undo)
    assert code == 2
    assert last.startswith(wanted)
    assert remedy.startswith("  what would help: ")
    assert ends(user, "pod1", "pod4")[0] == 0


def test_the_answer_may_die_on_its_way_back(user: User) -> None:
    pod1 = user.types("exec", "pod1", "--", "hostname", "-I").out.split()[0]
    run(user, "node3", f"ip route add blackhole {pod1}/32")
    try:
        code, (last, _) = ends(user, "pod1", "pod4")
    finally:
        run(user, "node3", f"ip route del blackhole {pod1}/32")
    assert code == 2
    assert last.startswith("the answer died at node3/")
    assert "no way on" in last


def test_without_an_fdb_entry_it_dies_in_the_vxlan_device(user: User) -> None:
    mac = run(user, "node3", NODE3_VTEP)
    run(user, "node1", "pkill -STOP -f [r]efnet-agent")
    entry = f"{mac} dev vxlan.calico dst 192.168.200.101 self"
    run(user, "node1", f"bridge fdb del {entry}")
    try:
        code, (last, remedy) = ends(user, "pod1", "pod4")
    finally:
        run(user, "node1", f"bridge fdb append {entry} permanent; pkill -CONT -f [r]efnet-agent")
    assert code == 2
    assert last == "the packet died at node1/vxlan.calico: the VXLAN device knows no host for that MAC"
    assert f"bridge fdb show dev vxlan.calico | grep -i {mac}" in remedy


def test_a_packet_that_is_too_large_and_may_not_be_cut_never_leaves(user: User) -> None:
    code, (last, _) = ends(user, "pod1", "pod4", "--size", "1500", "--df")
    assert code == 2
    assert last == (
        "the packet died at pod1: 1450 bytes is the largest packet that this way takes, "
        "and it may not be cut into fragments"
    )


def test_an_address_that_nobody_has_a_route_to_dies_at_the_router(user: User) -> None:
    code, (last, remedy) = ends(user, "pod1", "203.0.113.9")
    assert code == 2
    assert last.startswith("the packet died at router1/eth0: no way on: RTNETLINK answers: Network is unreachable")
    assert "ip route get 203.0.113.9" in remedy


def test_picture_and_capture_are_written_whole(user: User, tmp_path: Path) -> None:
    svg, pcapng = tmp_path / "trace.svg", tmp_path / "trace.pcapng"
    assert user.types("trace", "pod1", "pod4", "--svg", str(svg), "-w", str(pcapng)).code == 0
    texts = [each.text for each in ElementTree.fromstring(svg.read_text()).iter("{http://www.w3.org/2000/svg}text")]
    assert {"pod1", "node1", "router1", "node3", "pod4", "vxlan"} <= set(texts)
    assert pcapng.read_bytes()[:4] == b"\x0a\x0d\x0d\x0a"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("pod1", "pod9"), "mixed: pod9: no such place"),
        (("net1", "pod1"), "mixed: net1: a place without an address"),
        (("pod1", "pod3", "--size", "70000"), "--size: 70000: no such size"),
        (("pod1", "pod3", "--port", "80"), "--port: 80: not with icmp"),
        (("pod1", "pod3", "--svg", "x.png"), "--svg: x.png: cannot be written"),
    ],
    ids=["no-place", "segment", "size", "port", "ending"],
)
def test_a_wrong_word_is_one_message(user: User, words: tuple[str, ...], message: str) -> None:
    said = user.types("trace", *words)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(message)


def test_counters_are_read_by_table_and_rule() -> None:
    text = "*filter\n[5:420] -A FORWARD -i a -j DROP\n# x\n[0:0] -A INPUT -j b\n"
    assert parse_counters(text + "*nat\n[1:60] -A POSTROUTING -j MASQUERADE\n") == {
        ("filter", "-A FORWARD -i a -j DROP"): 5,
        ("filter", "-A INPUT -j b"): 0,
        ("nat", "-A POSTROUTING -j MASQUERADE"): 1,
    }
