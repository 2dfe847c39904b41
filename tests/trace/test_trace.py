"""A trace on a real lab: the way of a packet that lives, and the place, the reason and the remedy of one that dies."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.live.user import User
from tunlab.trace.decisions import COUNTERS, parse_counters
from tunlab.trace.policing import policy_verdicts, readable
from tunlab.wait import eventually

NODE3_VTEP = "cat /sys/class/net/vxlan.calico/address"


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    somebody = User(tmp_path_factory.mktemp("user"))
    assert somebody.types("up", "dual-stack", "--mode", "vxlan").code == 0
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


def test_a_packet_of_ipv6_is_followed_through_its_own_tunnel(user: User) -> None:
    said = user.types("trace", "pod1", "pod4", "--ipv6", "--json")
    told = json.loads(said.out)
    assert (said.code, told["outcome"], told["death"]) == (0, "answered", None)
    places = ["pod1", "node1", "net1", "router1", "net2", "node3", "pod4"]
    assert [hop["place"] for hop in told["ways"]["there"]] == places
    assert [hop["place"] for hop in told["ways"]["back"]] == places[::-1]
    node1 = told["ways"]["there"][1]
    assert node1["sightings"][-1]["stack"] == "eth ipv6 udp vxlan eth ipv6 icmpv6"
    says = {one["what"]: one["says"] for one in node1["decisions"]}
    assert " dev vxlan-v6.calico" in says["route"]
    assert "dst fd00:200::101 self permanent" in says["FDB"]


def test_addresses_are_printed_as_they_are(user: User) -> None:
    assert "fd00:100::100 > fd00:200::101" in user.types("trace", "pod1", "pod4", "--ipv6").out


def test_a_server_answers_over_ipv6_too(user: User) -> None:
    code, (_, last) = ends(user, "pod1", "pod3", "--ipv6", "--proto", "tcp")
    assert code == 0
    assert last.startswith("answered by pod3 in ")


def test_a_lab_that_stands_is_not_brought_up_again(user: User) -> None:
    said = user.types("trace", "pod1", "pod2", "--up", "dual-stack", "--json")
    assert (said.code, said.err) == (0, "")
    assert json.loads(said.out)["outcome"] == "answered"


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


DEATHS_IN_IPV6 = {
    "filtered": (
        ("router1", "ip6tables-legacy -A FORWARD -p udp --dport 4789 -j DROP"),
        ("router1", "ip6tables-legacy -F FORWARD"),
        "the packet died at router1/eth0: a rule dropped it: -A FORWARD -p udp -m udp --dport 4789 -j DROP (+1)",
    ),
    "no-route": (
        ("router1", "ip -6 route add unreachable fd00:200::101/128"),
        ("router1", "ip -6 route del unreachable fd00:200::101/128"),
        "the packet died at router1/eth0: router1 ",
    ),
    "not-forwarded": (
        ("router1", "sysctl -qw net.ipv6.conf.all.forwarding=0"),
        ("router1", "sysctl -qw net.ipv6.conf.all.forwarding=1"),
        "the packet died at router1/eth0: the place does not forward packets",
    ),
}


@pytest.mark.parametrize("name", DEATHS_IN_IPV6)
def test_a_death_in_ipv6_names_the_place_and_the_reason(user: User, name: str) -> None:
    do, undo, wanted = DEATHS_IN_IPV6[name]
    run(user, *do)
    try:
        code, (last, remedy) = ends(user, "pod1", "pod4", "--ipv6")
    finally:
        run(user, *undo)
    assert (code, last[: len(wanted)]) == (2, wanted)
    assert remedy.startswith("  what would help: ")


CLOSED = """
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: closed, namespace: default}
spec:
  selector: all()
  types: [Ingress]
  ingress: [{action: Allow, protocol: TCP, destination: {ports: [80]}}]
"""


def test_a_policy_is_named_with_what_it_said(user: User) -> None:
    run(user, "node1", f"echo '{CLOSED}' | calicoctl apply -f -")
    try:
        allowed = eventually(
            lambda: user.types("trace", "pod1", "pod4", "--proto", "tcp", "--port", "80").out,
            lambda out: "policy: np/default/closed lets it in" in out,
            within_s=30,
            what="the trace names the policy that lets it in",
        )
        code, (last, remedy) = ends(user, "pod1", "pod4")
    finally:
        run(user, "node1", "calicoctl delete networkpolicy closed")
    assert "answered by pod4" in allowed
    assert (code, last.split(": ")[0]) == (2, "the packet died at node3/eth0")
    assert last.endswith("-j DROP: no policy let it through (+1)")
    assert "the policy (np/default/closed has no rule for it)" in remedy
    eventually(lambda: ends(user, "pod1", "pod4")[0], lambda code: code == 0, within_s=30, what="it is open again")


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
        "the packet died at pod1: 1430 bytes is the largest packet that this way takes, "
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
        (("pod1", "pod9"), "dual-stack: pod9: no such place"),
        (("net1", "pod1"), "dual-stack: net1: a place without an address"),
        (("pod1", "store", "--ipv6"), "dual-stack: store: a place without an IPv6 address"),
        (("pod1", "pod3", "--up", "mixed", "--lab", "dual-stack"), "--up: mixed, and --lab: dual-stack: one of them"),
        (("pod1", "pod3", "--up", "mixxed"), "labs: mixxed: no such lab"),
        (("pod1", "pod3", "--size", "70000"), "--size: 70000: no such size"),
        (("pod1", "pod3", "--port", "80"), "--port: 80: not with icmp"),
        (("pod1", "pod3", "--svg", "x.png"), "--svg x.png: what is written is svg"),
    ],
    ids=["no-place", "segment", "family", "two-labs", "no-lab", "size", "port", "ending"],
)
def test_a_wrong_word_is_one_message(user: User, words: tuple[str, ...], message: str) -> None:
    said = user.types("trace", *words)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(message)


def test_rules_of_both_kinds_of_iptables_are_read() -> None:
    rules = "iptables-legacy -A FORWARD -j ACCEPT; iptables-nft -A FORWARD -j DROP; "
    more = "ip6tables-nft -t nat -A POSTROUTING -j MASQUERADE"
    argv = ["unshare", "--map-root-user", "--net", "sh", "-c", f"{rules}{more}\n{COUNTERS}"]
    said = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    assert parse_counters(said.stdout) == {
        ("iptables-save -c -t filter", "-A FORWARD -j ACCEPT"): 0,
        ("iptables-nft-save -c -t filter", "-A FORWARD -j DROP"): 0,
        ("ip6tables-nft-save -c -t nat", "-A POSTROUTING -j MASQUERADE"): 0,
    }


def test_counters_are_read_by_table_and_rule() -> None:
    text = "*iptables-save -t filter\n[5:420] -A FORWARD -i a -j DROP\n# x\n[0:0] -A INPUT -j b\n"
    assert parse_counters(text + "*ip6tables-save -t nat\n[1:60] -A POSTROUTING -j MASQUERADE\n") == {
        ("iptables-save -t filter", "-A FORWARD -i a -j DROP"): 5,
        ("iptables-save -t filter", "-A INPUT -j b"): 0,
        ("ip6tables-save -t nat", "-A POSTROUTING -j MASQUERADE"): 1,
    }


def test_a_rule_is_read_without_its_owners_marks() -> None:
    rule = '-A cali-tw-x -m comment --comment "cali:MpG" -m comment --comment "not theirs" -m mark --mark 0x1 -j DROP'
    assert readable(rule) == "-A cali-tw-x -m mark --mark 0x1 -j DROP: not theirs"
    assert readable("-A FORWARD -m comment --comment cali:a -j ACCEPT") == "-A FORWARD -j ACCEPT"


def test_policies_tell_what_they_said_by_their_chains() -> None:
    rules = [
        "-A cali-tw-x -m mark --mark 0x0/0x20000 -j cali-pi-np/default/open",
        "-A cali-pi-np/default/open -p tcp -j MARK --set-xmark 0x10000/0x10000",
        "-A cali-tw-x -j cali-pi-np/default/silent",
        "-A cali-fw-x -j cali-po-gnp/shut",
        "-A cali-po-gnp/shut -j DROP",
        "-A cali-fw-x -j cali-pro-kns.default",
    ]
    assert policy_verdicts(rules) == [
        ("policy", "np/default/open lets it in"),
        ("policy", "np/default/silent has no rule for it"),
        ("policy", "gnp/shut forbids it to go out"),
        ("profile", "kns.default has no rule for it"),
    ]
