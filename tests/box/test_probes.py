"""Probes against the real kernel: pod1 - router1 - pod2 in a throw-away world, and pod3 that has no way out."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import Ether

from tunlab.box.inside.probes import Probes, UdpProbe, checksum, payload_of
from tunlab.box.line import Decoder, encode

ROOT = Path(__file__).resolve().parents[2]
WORLD = """
mount -t tmpfs tmpfs /run; mkdir -p /run/netns /run/tunlab/line; mount -t proc proc /proc; mount -t sysfs sysfs /sys
for place in pod1 pod2 pod3 router1; do ip netns add $place; ip -n $place link set lo up; done
ip -n router1 link add to-pod1 type veth peer name eth0 address 02:00:00:00:01:02 netns pod1
ip -n router1 link add to-pod2 type veth peer name eth0 netns pod2
ip -n router1 link set to-pod2 mtu 1400; ip -n pod2 link set eth0 mtu 1400
address() { ip -n $1 addr add $3 dev $2; ip -n $1 link set $2 up; }
address pod1 eth0 10.0.1.2/24; address router1 to-pod1 10.0.1.1/24
address pod2 eth0 10.0.2.2/24; address pod2 eth0 10.0.2.22/24; address router1 to-pod2 10.0.2.1/24
ip -n pod1 route add default via 10.0.1.1
ip -n pod2 route add default via 10.0.2.1
ip netns exec router1 sysctl -qw net.ipv4.ip_forward=1 net.ipv4.icmp_ratelimit=0
for place in pod1 pod2 router1; do
  ip netns exec $place sysctl -qw net.ipv6.conf.all.disable_ipv6=0 net.ipv6.icmp.ratelimit=0
  ip netns exec $place sysctl -qw net.ipv6.conf.all.forwarding=1
done
ip -n pod1 addr add fd00:1::2/64 dev eth0 nodad; ip -n router1 addr add fd00:1::1/64 dev to-pod1 nodad
ip -n pod2 addr add fd00:2::2/64 dev eth0 nodad; ip -n router1 addr add fd00:2::1/64 dev to-pod2 nodad
ip -n pod2 addr add fd00:2::22/64 dev eth0 nodad
ip -n pod1 route add default via fd00:1::1; ip -n pod2 route add default via fd00:2::1
ip -n router1 neigh add fd00:2::99 lladdr 02:00:00:00:00:99 dev to-pod2 nud permanent
ip -n router1 route add prohibit fd00:4::/64
ip -n router1 neigh add 10.0.2.99 lladdr 02:00:00:00:00:99 dev to-pod2 nud permanent
ip -n router1 route add prohibit 10.0.4.0/24
exec "$@"
"""
UNSHARE = ["unshare", "--user", "--map-root-user", "--mount", "--net", "--pid", "--fork", "--kill-child"]
ROLE = (
    "import socket, sys; sys.path.insert(0, sys.argv[1]); from tunlab.box.inside.probes import Probes; "
    "Probes(socket.socket(fileno=int(sys.argv[2]))).serve()"
)


class World:
    """The far end of the line: a process of the role, in its own namespaces."""

    def __init__(self) -> None:
        self.line, theirs = socket.socketpair()
        self.line.settimeout(20)
        program = [os.path.realpath(sys.executable), "-I", "-S", "-E", "-c", ROLE, str(ROOT), str(theirs.fileno())]
        self.process = subprocess.Popen(
            [*UNSHARE, "sh", "-euc", WORLD, "sh", *program],
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self._decoder = Decoder()
        self._frames: dict[int, dict[str, Any]] = {}
        self._next = 0
        self.collect(0)

    def tell(self, op: str, **arguments: Any) -> int:
        self._next += 1
        self.line.sendall(encode({"id": self._next, "op": op, **arguments}))
        return self._next

    def collect(self, number: int) -> dict[str, Any]:
        while number not in self._frames:
            data = self.line.recv(65536)
            assert data, "the role ended"
            self._frames.update({frame["id"]: frame for frame in self._decoder.feed(data)})
        return self._frames.pop(number)

    def call(self, op: str, **arguments: Any) -> dict[str, Any]:
        frame = self.collect(self.tell(op, **arguments))
        assert "ok" in frame, frame
        ok: dict[str, Any] = frame["ok"]
        return ok

    def ask(self, protocol: str, to: str, **more: Any) -> dict[str, Any]:
        (result,) = self.call("ask", probes=[probe(protocol, to, **more)])["results"]
        return dict(result)

    def close(self) -> None:
        self.line.close()
        assert self.process.wait(10) == 0


def probe(protocol: str, to: str, **more: Any) -> dict[str, Any]:
    return {
        "id": f"T-01/{protocol}",
        "from": "pod1",
        "to": to,
        "protocol": protocol,
        "port": 7000,
        "timeout_s": 3,
        **more,
    }


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    assert shutil.which("unshare"), "util-linux is missing"
    made = World()
    made.call("listen", place="pod2", name="pod2", tcp=[7000], udp=[7000])
    yield made
    made.close()


@pytest.mark.parametrize("size", [64, 1400, 20_000], ids=["small", "full", "many-segments"])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_an_answer_names_the_pod_whom_it_saw_and_how_much_arrived(world: World, protocol: str, size: int) -> None:
    seen = world.ask(protocol, "10.0.2.2", size=size, df=False)
    assert (seen["outcome"], seen["by"], seen["bytes"], seen["icmp"]) == ("answered", "pod2", size, None)
    assert seen["saw"].rpartition(":")[0] == "10.0.1.2"
    assert 0 < seen["rtt_s"] < 3


@pytest.mark.parametrize("size", [4, 56, 1372, 20_000], ids=["shorter-than-the-token", "small", "full", "fragments"])
def test_an_echo_reply_counts_when_all_its_payload_came_back(world: World, size: int) -> None:
    seen = world.ask("icmp", "10.0.2.2", size=size, df=False, identifier=77, sequence=3)
    assert (seen["outcome"], seen["by"], seen["bytes"]) == ("answered", "10.0.2.2", size)


def test_a_second_address_of_a_node_answers_by_itself(world: World) -> None:
    assert world.ask("udp", "10.0.2.22")["by"] == "pod2"


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_closed_port_refuses(world: World, protocol: str) -> None:
    seen = world.ask(protocol, "10.0.2.2", port=7001)
    assert (seen["outcome"], seen["errno"]) == ("refused", "ECONNREFUSED")
    told = {"kind": 3, "code": 3, "from": "10.0.2.2", "mtu": None}
    assert seen["icmp"] == (told if protocol == "udp" else None)


@pytest.mark.parametrize("protocol", ["icmp", "tcp", "udp"])
def test_silence_times_out(world: World, protocol: str) -> None:
    seen = world.ask(protocol, "10.0.2.99", timeout_s=0.2)
    assert (seen["outcome"], seen["by"], seen["icmp"]) == ("timed_out", None, None)
    assert seen["rtt_s"] >= 0.2


@pytest.mark.parametrize("protocol", ["icmp", "tcp", "udp"])
@pytest.mark.parametrize(
    ("to", "ttl", "kind"), [("10.0.3.1", None, 3), ("10.0.2.2", 1, 11)], ids=["no-route", "ttl-exceeded"]
)
def test_an_icmp_error_tells_who_said_no_and_why(
    world: World, protocol: str, to: str, ttl: int | None, kind: int
) -> None:
    """A kernel says "no route" five times to one sender, then once a second: so few of these."""
    seen = world.ask(protocol, to, ttl=ttl)
    assert (seen["outcome"], seen["by"]) == ("unreachable", "10.0.1.1")
    assert seen["icmp"] == {"kind": kind, "code": 0, "from": "10.0.1.1", "mtu": None}


def test_a_prohibition_reads_differently_from_a_missing_route(world: World) -> None:
    assert world.ask("tcp", "10.0.4.1")["icmp"] == {"kind": 3, "code": 13, "from": "10.0.1.1", "mtu": None}


@pytest.mark.parametrize(("protocol", "header"), [("icmp", 8), ("udp", 8)], ids=["icmp", "udp"])
def test_one_byte_over_the_own_mtu_is_refused_by_the_own_kernel(world: World, protocol: str, header: int) -> None:
    seen = world.ask(protocol, "10.0.1.1", size=1500 - 20 - header + 1, df=True)
    assert (seen["outcome"], seen["local"], seen["mtu"], seen["icmp"]) == ("too_big", True, 1500, None)


@pytest.mark.parametrize("protocol", ["icmp", "udp"])
def test_a_router_that_needs_to_fragment_tells_its_mtu(world: World, protocol: str) -> None:
    seen = world.ask(protocol, "10.0.2.2", size=1400 - 28 + 1, df="probe")
    assert (seen["outcome"], seen["local"]) == ("too_big", False)
    assert seen["icmp"] == {"kind": 3, "code": 4, "from": "10.0.1.1", "mtu": 1400}
    assert world.ask(protocol, "10.0.2.2", size=1400 - 28, df="probe")["outcome"] == "answered"


@pytest.mark.parametrize("protocol", ["icmp", "tcp", "udp"])
def test_what_could_not_be_sent_is_failed_never_blocked(world: World, protocol: str) -> None:
    seen = world.ask(protocol, "10.0.2.2", **{"from": "pod3"})
    assert (seen["outcome"], seen["errno"]) == ("failed", "ENETUNREACH")


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (errno.EHOSTUNREACH, "unreachable"),
        (errno.ECONNRESET, "refused"),
        (errno.ENOTCONN, "refused"),
        (errno.ETIMEDOUT, "timed_out"),
        (errno.ENOBUFS, "failed"),
        (errno.ENOMEM, "failed"),
    ],
    ids=errno.errorcode.get,
)
def test_a_sockets_error_is_the_networks_only_where_a_way_is_missing(code: int, outcome: str) -> None:
    one = UdpProbe({**probe("udp", "10.0.2.2"), "id": "one"}, serial=1)
    one.broke(OSError(code, os.strerror(code)))
    assert one.result is not None and (one.result["outcome"], one.result["errno"]) == (outcome, errno.errorcode[code])


def test_a_place_that_does_not_exist_fails_only_its_own_probes(world: World) -> None:
    lost, found = world.call("ask", probes=[probe("udp", "10.0.2.2", **{"from": "pod9"}), probe("udp", "10.0.2.2")])[
        "results"
    ]
    assert (lost["outcome"], lost["errno"], lost["error"]) == ("failed", "NO_PLACE", "pod9: No such file or directory")
    assert found["outcome"] == "answered"


def test_results_come_in_the_order_asked_and_all_at_once(world: World) -> None:
    asked = [probe("udp", "10.0.2.99", id=f"slow-{n}", timeout_s=0.4) for n in range(20)]
    asked += [probe("icmp", "10.0.2.2", id=f"echo-{n}", identifier=9, sequence=n) for n in range(20)]
    asked += [probe("tcp", "10.0.2.2", id=f"tcp-{n}", size=5000) for n in range(20)]
    results = world.call("ask", probes=asked)["results"]
    assert [one["id"] for one in results] == [one["id"] for one in asked]
    assert [one["outcome"] for one in results] == ["timed_out"] * 20 + ["answered"] * 40
    assert max(one["rtt_s"] for one in results) < 2, "one after the other this would have taken 8 s"


def test_a_probe_may_begin_later_and_has_all_its_time_from_then_on(world: World) -> None:
    asked = [probe("udp", "10.0.2.2", id="now"), probe("udp", "10.0.2.99", id="later", after_s=0.3, timeout_s=0.2)]
    begun = time.monotonic()
    now, later = world.call("ask", probes=asked)["results"]
    assert time.monotonic() - begun >= 0.5
    assert (now["outcome"], later["outcome"]) == ("answered", "timed_out")
    assert later["rtt_s"] >= 0.2


def test_while_the_role_itself_was_busy_nobody_was_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer may wait to be read, and the responder, who lives in the same process, to be served."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        role, asked = Probes(theirs), UdpProbe(probe("udp", "10.0.2.2"), 1)
        now = [100.0]
        monkeypatch.setattr("tunlab.box.inside.probes.time.monotonic", lambda: now[0])
        role._expire(asked, 1.0)
        for now[0] in (101.5, 101.95):
            role._turn()
            assert asked.result is None
        now[0] = 102.0
        role._turn()
        assert asked.result is not None
        assert asked.result["outcome"] == "timed_out"


def test_a_wrong_responder_is_seen(world: World) -> None:
    world.call("listen", place="router1", name="pod2-impostor", tcp=[7100])
    seen = world.ask("tcp", "10.0.1.1", port=7100)
    assert (seen["outcome"], seen["by"]) == ("answered", "pod2-impostor")
    assert world.call("unlisten", place="router1") == {"was_listening": True}
    assert world.ask("tcp", "10.0.1.1", port=7100)["outcome"] == "refused"
    assert world.call("unlisten", place="router1") == {"was_listening": False}


def test_a_crafted_reply_of_somebody_else_is_seen_as_such(world: World) -> None:
    """Also the proof that a crafted frame reaches the far end of the link."""
    asked = world.tell("ask", probes=[probe("icmp", "10.0.2.99", id="forged", identifier=5, sequence=6, size=40)])
    packet = IP(src="10.66.6.6", dst="10.0.1.2") / ICMP(type=0, id=5, seq=6) / payload_of("forged", 40)
    frame = bytes(Ether(dst="02:00:00:00:01:02", src="02:00:00:00:00:66") / packet)
    sent = world.call("craft", place="router1", device="to-pod1", frames_hex=[frame.hex()])
    assert sent == {"sent": [len(frame)]}
    (seen,) = world.collect(asked)["ok"]["results"]
    assert (seen["outcome"], seen["by"]) == ("answered", "10.66.6.6")


def test_a_reply_with_another_payload_is_no_answer_but_is_told(world: World) -> None:
    asked = world.tell("ask", probes=[probe("icmp", "10.0.2.99", id="forged", identifier=5, sequence=7, timeout_s=0.5)])
    packet = IP(src="10.0.2.99", dst="10.0.1.2") / ICMP(type=0, id=5, seq=7) / payload_of("other", 56)
    frame = bytes(Ether(dst="02:00:00:00:01:02", src="02:00:00:00:00:66") / packet)
    world.call("craft", place="router1", device="to-pod1", frames_hex=[frame.hex()])
    (seen,) = world.collect(asked)["ok"]["results"]
    assert (seen["outcome"], seen["error"]) == ("timed_out", "10.0.2.99 replied with another payload (56 bytes)")


@pytest.mark.parametrize(("identifier", "sequence"), [(5, 9), (6, 8)], ids=["sequence", "identifier"])
def test_a_reply_to_another_request_is_no_answer(world: World, identifier: int, sequence: int) -> None:
    asked = world.tell("ask", probes=[probe("icmp", "10.0.2.99", id="forged", identifier=5, sequence=8, timeout_s=0.3)])
    packet = IP(src="10.0.2.99", dst="10.0.1.2") / ICMP(type=0, id=identifier, seq=sequence) / payload_of("forged", 56)
    frame = bytes(Ether(dst="02:00:00:00:01:02", src="02:00:00:00:00:66") / packet)
    world.call("craft", place="router1", device="to-pod1", frames_hex=[frame.hex()])
    (seen,) = world.collect(asked)["ok"]["results"]
    assert (seen["outcome"], seen["error"]) == ("timed_out", None)


def test_an_icmp_error_ends_only_the_echo_request_it_is_about(world: World) -> None:
    """A raw socket hears the errors of its whole namespace."""
    silent = probe("icmp", "10.0.2.99", id="silent", identifier=5, sequence=10, timeout_s=0.4)
    short = probe("icmp", "10.0.2.2", id="short", identifier=5, sequence=11, ttl=1)
    results = world.call("ask", probes=[silent, short])["results"]
    assert [one["outcome"] for one in results] == ["timed_out", "unreachable"]


def test_an_unknown_protocol_is_a_bug_of_the_asker(world: World) -> None:
    frame = world.collect(world.tell("ask", probes=[probe("sctp", "10.0.2.2")]))
    assert frame["error"] == {"kind": "bug", "text": "no probe speaks sctp; legal: icmp, udp, tcp"}


def test_a_port_that_is_taken_is_the_worlds_error_and_leaves_nothing_open(world: World) -> None:
    world.call("listen", place="pod1", name="pod1", tcp=[7200])
    taken = world.call("listen", place="pod1", name="pod1", tcp=[7200], udp=[0])
    assert taken["tcp"] == [7200]
    frame = world.collect(world.tell("listen", place="pod1", name="pod1", address="10.9.9.9", tcp=[7300]))
    assert frame["error"] == {"kind": "world", "text": "[Errno 99] Cannot assign requested address"}
    assert world.call("unlisten", place="pod1") == {"was_listening": False}


def test_the_payload_starts_with_the_token_and_has_the_size_asked() -> None:
    assert payload_of("IPIP-03", 20) == b"IPIP-03\n0123456789ab"
    assert payload_of("IPIP-03", 4) == b"IPIP"
    assert len(payload_of("IPIP-03", 1472)) == 1472


def test_the_checksum_of_data_with_its_checksum_is_nought() -> None:
    """The example of RFC 1071 section 3."""
    data = bytes.fromhex("0001f203f4f5f6f7")
    assert checksum(data) == 0x220D
    assert checksum(data + b"\x22\x0d") == 0


# ---------------------------------------------------------------------- IPv6
# A router on the way cuts no IPv6 packet into pieces, so a datagram must fit its second link.
@pytest.mark.parametrize(("protocol", "size"), [("tcp", 64), ("tcp", 20_000), ("udp", 64), ("udp", 1300)])
def test_over_ipv6_too_an_answer_names_the_pod_and_whom_it_saw(world: World, protocol: str, size: int) -> None:
    seen = world.ask(protocol, "fd00:2::2", size=size, df=False)
    assert (seen["outcome"], seen["by"], seen["bytes"]) == ("answered", "pod2", size)
    assert seen["saw"].rpartition(":")[0] == "fd00:1::2"


def test_over_ipv6_an_echo_comes_back_whole_and_a_second_address_answers_by_itself(world: World) -> None:
    seen = world.ask("icmp", "fd00:2::2", size=56, identifier=77, sequence=3)
    assert (seen["outcome"], seen["by"], seen["bytes"]) == ("answered", "fd00:2::2", 56)
    assert world.ask("udp", "fd00:2::22")["by"] == "pod2"


def test_over_ipv6_a_closed_port_refuses(world: World) -> None:
    told = {"kind": 1, "code": 4, "from": "fd00:2::2", "mtu": None}
    assert [world.ask(protocol, "fd00:2::2", port=7001)["outcome"] for protocol in ("tcp", "udp")] == ["refused"] * 2
    assert world.ask("udp", "fd00:2::2", port=7001)["icmp"] == told


@pytest.mark.parametrize("protocol", ["icmp", "udp"])
def test_over_ipv6_silence_an_error_and_too_large_a_packet_are_told_apart(world: World, protocol: str) -> None:
    assert world.ask(protocol, "fd00:2::99", timeout_s=0.2)["outcome"] == "timed_out"
    refused = world.ask(protocol, "fd00:4::1")
    assert (refused["outcome"], refused["icmp"]["from"]) == ("unreachable", "fd00:1::1")
    large = world.ask(protocol, "fd00:2::2", size=1400, df="probe")
    assert (large["outcome"], large["mtu"], large["by"]) == ("too_big", 1400, "fd00:1::1")
    local = world.ask(protocol, "fd00:2::2", size=1500, df=True)
    assert (local["outcome"], local["local"]) == ("too_big", True)
