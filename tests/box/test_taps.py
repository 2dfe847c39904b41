"""Taps against the real kernel, with packet sockets in the network namespaces of a throw-away world."""

from __future__ import annotations

import base64
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.box.taps_world import World
from tunlab.errors import WorldError
from tunlab.wire.decode import decode
from tunlab.wire.expect import Mismatch
from tunlab.wire.frames import Icmp
from tunlab.wire.pcapng import RAW_IP, read_file
from tunlab.wire.tap import TapPoint, Wire

FLOOD = """
import socket, sys
sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
sender.bind(("eth0", 0))
head = bytes.fromhex("020000000002020000000001") + b"\\x88\\xb6"
for number in range(int(sys.argv[1])):
    sender.send(head + number.to_bytes(4, "big") + bytes(40))
"""


HOLD_TUN = """
import fcntl, os, struct, time
tun = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", b"tun0", 1))
if os.fork() == 0:
    while os.read(tun, 2048):
        pass
"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    opened = World(tmp_path)
    try:
        yield opened
    finally:
        opened.close()


def ping(world: World, place: str, target: str, count: int = 1) -> None:
    world.run(place, "ping", "-c", str(count), "-i", "0.01", "-W", "1", target)


def test_a_window_holds_what_happened_in_it_and_both_decoders_read_it(world: World) -> None:
    wire = Wire(world)
    wire.open("w/x.pcapng", ["node1/eth0", "node2/eth0"])
    ping(world, "node1", "10.0.0.2")
    with wire.window("pairs"):
        ping(world, "node1", "10.0.0.2", 2)
    ping(world, "node1", "10.0.0.2")
    capture = decode(wire.finish())
    pings = capture.window("pairs").with_stack("eth ip icmp")
    assert [(frame.find(Icmp).kind, frame.find(Icmp).sequence) for frame in pings.on("node1/eth0")] == [
        (8, 1),
        (0, 1),
        (8, 2),
        (0, 2),
    ]
    pings.on("node1/eth0").going("out").each(outer__source="10.0.0.1", outer__ttl=64, outer__checksum_ok=True)
    pings.on("node2/eth0").going("in").some().each(outer__source="10.0.0.1", ethernet__source="02:00:00:00:00:01")
    assert {frame.window for frame in capture.frames} == {"pairs"}
    assert capture.windows["pairs"].taps == {"node1/eth0", "node2/eth0"}
    assert capture.drops == {"node1/eth0": 0, "node2/eth0": 0}


def test_frames_of_all_taps_stand_in_the_kernels_order(world: World) -> None:
    wire = Wire(world)
    wire.open("x.pcapng", ["node2/eth0", "node1/eth0"])
    with wire.window("order"):
        ping(world, "node1", "10.0.0.2", 3)
    file = wire.finish()
    times = [packet.time_ns for packet in read_file(file).packets]
    assert times == sorted(times)
    requests = decode(file).window("order").requests()
    assert [frame.tap for frame in requests] == ["node1/eth0", "node2/eth0"] * 3


def test_ten_thousand_frames_are_counted_without_loss(world: World) -> None:
    wire = Wire(world)
    wire.open("x.pcapng", ["node1/eth0", "node2/eth0"])
    with wire.window("flood"):
        world.busy("node1", sys.executable, "-I", "-S", "-c", FLOOD, "10000")
    seen = [packet for packet in read_file(wire.finish()).packets if packet.data[12:14] == b"\x88\xb6"]
    for number in (0, 1):
        mine = [int.from_bytes(packet.data[14:18], "big") for packet in seen if packet.interface == number]
        assert mine == list(range(10_000))
        times = [packet.time_ns for packet in seen if packet.interface == number]
        fastest_s = min(later - sooner for sooner, later in zip(times, times[1000:], strict=False)) / 1e9
        assert fastest_s < 1000 / 20_000, f"at most {1000 / fastest_s:.0f} frames a second were sent"
    assert {tap: count.drops for tap, count in wire.windows[0].taps.items()} == {"node1/eth0": 0, "node2/eth0": 0}


def test_what_the_kernel_had_to_drop_makes_the_window_broken(world: World) -> None:
    """While a command runs through `run`, this role does not serve, and its ring runs over."""
    wire = Wire(world)
    wire.open("x.pcapng", ["node1/eth0"])
    message = r"^window flood: tap node1/eth0: the kernel dropped [0-9]+ frames beside [0-9]+ recorded\n  hint: "
    with pytest.raises(WorldError, match=message), wire.window("flood"):
        world.run("node1", sys.executable, "-I", "-S", "-c", FLOOD, "10000")
    count = wire.windows[0].taps["node1/eth0"]
    assert count.drops + count.frames >= 10_000
    capture = decode(wire.finish())
    assert capture.drops == {"node1/eth0": count.drops}
    silent = capture.window("flood").with_stack("eth ip icmp")
    with pytest.raises(WorldError, match=r"silence proves nothing: node1/eth0 dropped [0-9]+ frames$"):
        silent.none("leaked", witness=capture.window("flood"))


def test_a_tap_added_within_a_window_records_from_then_on(world: World) -> None:
    wire = Wire(world)
    wire.open("x.pcapng", ["node1/eth0"])
    with wire.window("late"):
        ping(world, "node1", "10.0.0.2")
        wire.add(["node2/eth0"])
        ping(world, "node1", "10.0.0.2", 2)
    capture = decode(wire.finish())
    assert len(capture.window("late").on("node1/eth0").requests()) == 3
    assert len(capture.window("late").on("node2/eth0").requests()) == 2


def test_a_device_that_vanishes_is_noted_and_the_others_go_on(world: World) -> None:
    wire = Wire(world)
    wire.open("x.pcapng", ["node1/eth0", "pod1/eth0", "node1/cali1"])
    with wire.window("gone"):
        ping(world, "pod1", "10.1.0.1")
        world.run("node1", "ip", "link", "del", "cali1")
        ping(world, "node1", "10.0.0.2")
    states = {tap: count.state for tap, count in wire.windows[0].taps.items()}
    assert states == {"node1/eth0": "live", "pod1/eth0": "vanished", "node1/cali1": "vanished"}
    with wire.window("after"):
        ping(world, "node1", "10.0.0.2")
    capture = decode(wire.finish())
    assert len(capture.window("gone").on("pod1/eth0").with_stack("eth ip icmp")) == 2
    assert capture.windows["gone"].taps == capture.windows["after"].taps == {"node1/eth0"}
    with pytest.raises(WorldError, match=r": silence proves nothing: pod1/eth0 lacks a sentinel of window after\n"):
        capture.window("after").on("pod1/eth0").none("leaked", witness=capture.window("after"))


def test_a_new_device_of_the_same_name_is_not_mistaken_for_the_old_one(world: World) -> None:
    wire = Wire(world)
    wire.open("x.pcapng", ["node1/cali1"])
    world.run("node1", "ip", "link", "del", "cali1")
    world.run("node1", "ip", "link", "add", "cali1", "type", "veth", "peer", "name", "other")
    world.run("node1", "ip", "link", "set", "cali1", "up")
    with wire.window("again"):
        pass
    assert wire.windows[0].taps["node1/cali1"].state == "vanished"
    wire.remove(["node1/cali1"])
    world.run("node1", "ip", "link", "set", "other", "up")
    wire.add(["node1/cali1"])
    with wire.window("anew"):
        pass
    assert wire.windows[1].taps["node1/cali1"].state == "live"
    assert decode(wire.finish()).windows["anew"].taps == {"node1/cali1"}


def test_a_device_that_is_down_proves_nothing_but_breaks_nothing(world: World) -> None:
    wire = Wire(world)
    world.run("node1", "ip", "link", "set", "cali1", "down")
    wire.open("x.pcapng", ["node1/cali1", "node1/eth0"])
    with wire.window("down"):
        ping(world, "node1", "10.0.0.2")
    assert wire.windows[0].taps["node1/cali1"].state == "down"
    world.run("node1", "ip", "link", "set", "cali1", "up")
    with wire.window("up"):
        world.run("pod1", "ping", "-c", "15", "-i", "0.1", "-W", "1", "10.1.0.1")  # pod1 needs up to 1 s to notice
    assert wire.windows[1].taps["node1/cali1"].state == "live"
    capture = decode(wire.finish())
    assert capture.windows["down"].taps == {"node1/eth0"}
    capture.window("up").on("node1/cali1").with_stack("eth ip icmp").some("the ping")


def test_a_device_without_link_layer_is_recorded_as_raw_ip(world: World) -> None:
    wire = Wire(world)
    wire.open("x.pcapng", ["node1/tun0"])
    with wire.window("nobody"):
        pass
    assert wire.windows[0].taps["node1/tun0"].state == "down"  # a tun that nobody has opened has no carrier
    world.busy("node1", sys.executable, "-I", "-S", "-c", HOLD_TUN)
    world.run("node1", "ip", "addr", "add", "10.7.0.1/24", "dev", "tun0")
    with wire.window("raw"):
        world.run("node1", "sh", "-c", "ping -c1 -W0.1 10.7.0.2 || true")
    assert wire.windows[1].taps["node1/tun0"].state == "live"
    file = wire.finish()
    (interface,) = read_file(file).interfaces
    assert (interface.name, interface.link_type) == ("node1/tun0", RAW_IP)
    capture = decode(file)
    capture.window("raw").going("out").with_stack("ip icmp").some().each(outer__destination="10.7.0.2")
    assert capture.windows["raw"].taps == {"node1/tun0"}


def test_a_killed_box_leaves_a_file_readable_up_to_the_last_window(world: World) -> None:
    wire = Wire(world)
    wire.open("x.pcapng", ["node1/eth0"])
    with wire.window("whole"):
        ping(world, "node1", "10.0.0.2")
    world.tell("begin", window="cut")
    world.process.kill()
    world.process.wait(10)
    assert wire.file is not None
    capture = decode(wire.file)
    assert list(capture.windows) == ["whole"]
    assert len(capture.window("whole").with_stack("eth ip icmp")) == 2
    assert capture.drops == {"node1/eth0": None}


def test_recording_by_hand_needs_no_window(world: World) -> None:
    wire = Wire(world)
    wire.open("x.pcapng", ["node1/eth0"], always=True)
    ping(world, "node1", "10.0.0.2", 2)
    file = wire.finish()
    with pytest.raises(WorldError, match=r"^x\.pcapng: [0-9]+ packets and no sentinel: nothing proves that a tap"):
        decode(file)
    assert len(decode(file, needs_sentinels=False).seen.with_stack("eth ip icmp")) == 4
    assert wire.totals["taps"]["node1/eth0"]["seen"] == wire.totals["frames"]


def test_a_live_view_tells_each_frame_until_it_is_ended(world: World) -> None:
    taps = [{"name": "node2/eth0", "place": "node2", "device": "eth0"}]
    following = world.tell("follow", name="mine", taps=taps)
    assert world.collect(following, event=True) == {"following": ["node2/eth0"]}
    ping(world, "node1", "10.0.0.2")
    world.run("node1", "true")
    told = world.ask("taps", "unfollow", name="mine")
    assert world.collect(following)["ok"] == told
    events = [event for event in world.events[following] if "tap" in event]
    assert len(events) == told["frames"] >= 2
    assert {event["direction"] for event in events} == {"in", "out"}
    assert {event["tap"] for event in events} == {"node2/eth0"}
    assert any(base64.b64decode(event["bytes"])[12:14] == b"\x08\x00" for event in events)


@pytest.mark.parametrize(
    ("tap", "message"),
    [
        pytest.param("node1/eth9", "tap node1/eth9: opening eth9 in node1: No such device", id="no-such-device"),
        pytest.param("node9/eth0", "tap node9/eth0: opening eth0 in node9: No such file or directory", id="no-place"),
    ],
)
def test_a_tap_that_cannot_be_opened_says_which_and_opens_none(world: World, tap: str, message: str) -> None:
    wire = Wire(world)
    wire.open("x.pcapng")
    with pytest.raises(WorldError, match=f"^world: {re.escape(message)}$"):
        wire.add(["node1/eth0", tap])
    assert wire.taps == frozenset()
    wire.add(["node1/eth0"])
    with wire.window("still"):
        pass
    assert wire.windows[0].taps.keys() == {"node1/eth0"}


def test_one_window_at_a_time(world: World) -> None:
    wire = Wire(world)
    wire.open("x.pcapng", [TapPoint("node1", "eth0")])
    message = r"^bug: window two: window one is still open$"
    with wire.window("one"), pytest.raises(WorldError, match=message), wire.window("two"):
        pass
    assert [record.name for record in wire.windows] == ["one"]


def test_a_failure_within_a_window_goes_first_and_the_window_is_kept(world: World) -> None:
    wire = Wire(world)
    wire.open("x.pcapng", ["node1/eth0"])
    with pytest.raises(Mismatch, match=r"^mine$"), wire.window("failing"):
        ping(world, "node1", "10.0.0.2")
        raise Mismatch("mine")
    with wire.window("next"):
        pass
    assert list(decode(wire.finish()).windows) == ["failing", "next"]
