"""Two labs of one description stand side by side, with the same names and addresses, and neither knows of the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tunlab.check.scene import Scene, open_scene
from tunlab.check.selection import Options
from tunlab.lab.load import load_lab

Two = tuple[Scene, Scene]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    lab = load_lab("same-subnet")
    with ExitStack() as stack:
        opened = []
        for name in ("one", "other"):
            scene = open_scene(lab, "vxlan", name, Options(out=tmp_path_factory.mktemp(name)))
            stack.callback(scene.close)
            opened.append(scene)
        yield opened[0], opened[1]


def test_the_two_are_alike_in_everything_that_could_collide(two: Two) -> None:
    one, other = two
    assert {pod.name: pod.address for pod in one.workloads.values()} == {
        pod.name: pod.address for pod in other.workloads.values()
    }
    for node in one.live.node_names():
        assert one.tables(node).addresses == other.tables(node).addresses


def test_who_listens_in_one_does_not_answer_in_the_other(two: Two) -> None:
    one, other = two
    with one.listening("pod2", tcp=(8080,)):
        one.settle([one.question("pod1", "pod2", "tcp", port=8080)])
        other.settle([other.question("pod1", "pod2", "tcp", port=8080, expect=other.refusal())])


def test_no_wire_of_one_carries_what_is_sent_in_the_other(two: Two) -> None:
    one, other = two
    target = next(pod.name for pod in one.workloads.values() if pod.node == "node2")
    with other.capture("node1/eth0", "node2/eth0") as theirs:
        with one.capture("node1/eth0") as ours:
            one.ask([one.question("pod1", target)]).check()
        other.ask([other.question("node1", "node2")]).check()
    assert list(ours.frames.on("node1/eth0").with_stack("eth ip udp vxlan eth ip icmp"))
    for tap in ("node1/eth0", "node2/eth0"):
        awake = theirs.frames.on(tap).with_stack("eth ip icmp")
        theirs.frames.on(tap).with_stack("eth ip udp vxlan eth ip icmp").none("another lab's ping", witness=awake)


def test_the_end_of_one_is_not_the_end_of_the_other(two: Two) -> None:
    one, other = two
    one.kill_agent("node1")
    one.live.box.close()
    assert other.live.installation.dead() == []
    other.settle([other.question("pod1", "pod2")])
