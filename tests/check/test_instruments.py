"""The judge's own instruments, tried on a real lab with a known wrong: each must read what was put there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tunlab.check.convergence import oracle_of
from tunlab.check.matrix import MatrixMismatch
from tunlab.check.requirement import Requirement
from tunlab.check.scene import Scene, open_scene
from tunlab.check.selection import Options
from tunlab.check.smuggling import Smuggler, arrivals
from tunlab.check.stimuli import Stimuli
from tunlab.check.verdict import Verdict, judge
from tunlab.check.witnesses import Flow
from tunlab.errors import WorldError
from tunlab.lab.load import load_lab
from tunlab.lab.topology import MODES
from tunlab.wire.craft import udp_packet
from tunlab.wire.expect import Mismatch

PROMISE = Requirement("TRY-02", "It reads right", "extended", MODES, (), "", "here", scene="try")
PACKETS = 200
DROP = "-j DROP"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    opened = open_scene(load_lab("one-node"), "vxlan", "try", Options(out=tmp_path_factory.mktemp("scene")))
    yield opened
    opened.close()


@contextmanager
def rule(scene: Scene, text: str) -> Iterator[None]:
    """Meanwhile the node treats what it forwards to pod2 so."""
    where = f"FORWARD -d {scene.workloads['pod2'].address} {text}"
    scene.run("node1", f"iptables-legacy -I {where}")
    try:
        yield
    finally:
        scene.run("node1", f"iptables-legacy -D {where}")


def packets_sent(scene: Scene) -> int:
    return int(scene.run("pod1", "awk '/eth0:/ {print $11}' /proc/net/dev").out)


def test_the_loss_meter_reads_what_is_lost_and_fails_above_its_limit_alone(scene: Scene) -> None:
    with scene.flow("pod1", "pod2", every_s=0.01) as flow:
        before = packets_sent(scene)
        with rule(scene, f"-m statistic --mode nth --every 20 --packet 0 {DROP}"):
            scene.eventually(
                lambda: packets_sent(scene), lambda n: n >= before + PACKETS, within_s=60, what="enough is sent"
            )
    lossy = Flow(flow.sent, flow.lost, flow.longest_gap_s)
    assert 0.02 < lossy.lost / lossy.sent < 0.06, f"{lossy}: 5 % were injected for most of the time"
    lossy.check(at_most_lost=0.20)
    with pytest.raises(AssertionError, match=r"^[0-9]+ of [0-9]+ packets lost, .*%, at most 1% wanted$") as caught:
        lossy.check(at_most_lost=0.01)
    assert judge(caught.value)[0] is Verdict.FAILED


def test_a_meter_that_measured_nothing_is_broken_and_not_content() -> None:
    with pytest.raises(WorldError, match="nothing was sent"):
        Flow().check(at_most_lost=1.0)


def test_a_closed_port_is_refused_and_told_apart_from_a_silent_one(scene: Scene) -> None:
    with scene.listening("pod2", tcp=(80,)):
        ask = {port: scene.question("pod1", "pod2", "tcp", port=port, expect=scene.answer()) for port in (80, 81)}
        refused = scene.ask([scene.question("pod1", "pod2", "tcp", port=81, expect=scene.refusal())])
        assert refused.mismatches() == ()
        with pytest.raises(MatrixMismatch, match=r"81.*refused"):
            scene.ask(list(ask.values())).check()
        with rule(scene, f"-p tcp --dport 81 {DROP}"), pytest.raises(MatrixMismatch, match=r"81.*timed.out"):
            scene.ask(list(ask.values())).check()


def test_a_time_out_and_nothing_seen_read_differently(scene: Scene) -> None:
    question = scene.question("pod1", "pod2")
    with scene.capture("pod1/eth0", "pod2/eth0") as seen, rule(scene, f"-p icmp {DROP}"):
        asked = scene.ask([question])
    with pytest.raises(MatrixMismatch, match=r"timed.out"):
        asked.check()
    left = seen.frames.on("pod1/eth0").going("out").with_stack("eth ip icmp")
    arrived = seen.frames.on("pod2/eth0").with_stack("eth ip icmp")
    arrived.none("the request", witness=left, elsewhere="it was dropped before")
    with pytest.raises(Mismatch, match="seen none, wanted some"):
        arrived.some("the request")
    with scene.capture("pod1/eth0", "pod2/eth0") as nothing:
        pass
    silent = nothing.frames.on("pod2/eth0").with_stack("eth ip icmp")
    with pytest.raises(WorldError, match="proves nothing"):
        silent.none("the request", witness=nothing.frames.on("pod1/eth0").with_stack("eth ip icmp"))


def test_what_is_right_for_a_moment_alone_does_not_settle(scene: Scene) -> None:
    question = scene.question("pod1", "pod2")
    with rule(scene, f"-p icmp -m statistic --mode nth --every 3 --packet 0 {DROP}"), pytest.raises(AssertionError):
        scene.settle([question], within_s=0.5)
    scene.settle([question])


def test_a_crafted_frame_that_never_left_proves_nothing(scene: Scene) -> None:
    smuggler, mark = Smuggler(scene, "pod1"), Smuggler.mark()
    packet = udp_packet(smuggler.address, str(scene.workloads["pod2"].address), 5353, mark)
    honest = smuggler.sends("pod1's own packet", packet, mark, is_honest=True)
    other = Smuggler.mark()
    packet = udp_packet("203.0.113.7", str(scene.workloads["pod2"].address), 5353, other)
    forged = smuggler.sends("a forged packet", packet, other)
    assert arrivals(scene, "pod2/eth0", [forged, honest]) == {honest.name}
    with pytest.raises(WorldError, match=r"^pod2/eth0: a forged packet: lost on the way there, so nothing is known"):
        arrivals(scene, "pod2/eth0", [forged, honest], past="pod2/eth0")
    unsent = replace(forged, mark=Smuggler.mark())
    with pytest.raises(WorldError, match=r"^pod1/eth0: a forged packet: was not seen leaving, so nothing is known"):
        arrivals(scene, "pod2/eth0", [unsent, honest])
    with rule(scene, DROP), pytest.raises(WorldError, match=r"pod1's own packet: not seen either, so nothing is known"):
        arrivals(scene, "pod2/eth0", [forged, honest])


def test_a_crashed_agent_is_noticed_and_its_log_is_kept(scene: Scene, tmp_path: Path) -> None:
    scene.begin(PROMISE)
    scene.kill_agent("node1", "SEGV")
    (dead,) = scene.live.installation.dead()
    assert dead.startswith("node1: refnet-agent: was killed by signal 11 and should keep running: ")
    (folder,) = scene.end(PROMISE, Verdict.FAILED)
    (log,) = (scene._out / folder).glob("node1-refnet-agent.log")
    assert "agent started" in log.read_text()
    scene.start_agent("node1")
    assert scene.live.installation.dead() == []


def test_no_echo_bears_a_number_that_a_connection_tracker_may_still_know(scene: Scene) -> None:
    oracle, live = oracle_of(scene.live), scene.live
    first, second = (Stimuli(oracle, live.identifiers) for _ in range(2))
    before, now = ({echo.identifier for echo in (*one.pairs, *one.hosts, *one.limits)} for one in (first, second))
    assert before and before.isdisjoint(now)
    assert max(now) < 0xFFFF
