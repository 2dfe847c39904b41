"""A scene on a real lab: what its hands do is done and undone, and what its eyes see is told as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tunlab.check.matrix import MatrixMismatch
from tunlab.check.requirement import Requirement
from tunlab.check.scene import Scene, open_scene, read_documents
from tunlab.check.selection import Options
from tunlab.check.verdict import Verdict
from tunlab.errors import SystemFault, WorldError
from tunlab.lab.load import load_lab
from tunlab.lab.topology import MODES
from tunlab.wait import NeverHappened

PEER = """
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: nobody}
spec: {peerIP: 192.168.100.9, asNumber: 64999}
"""
PROMISE = Requirement("TRY-01", "It holds", "extended", MODES, (), "", "here", scene="try")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    opened = open_scene(load_lab("same-subnet"), "vxlan", "try", Options(out=tmp_path_factory.mktemp("scene")))
    yield opened
    opened.close()


def test_what_is_applied_is_there_and_then_gone_again(scene: Scene) -> None:
    pool = yaml.safe_load(scene.ctl("get", "ippool", scene.topology.pools[0].name, "-o", "yaml").out)
    other = {**pool, "spec": {**pool["spec"], "disabled": True}}
    with scene.applied(PEER, other):
        assert "192.168.100.9" in scene.ctl("get", "bgppeers").out + scene.ctl("get", "bgppeers", "-o", "yaml").out
        now = yaml.safe_load(scene.ctl("get", "ippool", pool["metadata"]["name"], "-o", "yaml").out)
        assert now["spec"]["disabled"] is True
    assert "nobody" not in scene.ctl("get", "bgppeers").out
    after = yaml.safe_load(scene.ctl("get", "ippool", pool["metadata"]["name"], "-o", "yaml").out)
    assert after["spec"].get("disabled", False) is False


def test_what_calicoctl_refuses_is_the_systems_fault(scene: Scene) -> None:
    with pytest.raises(SystemFault, match=r"^node1: .*no such kind"):
        scene.ctl("get", "nonsense")


def test_a_pod_comes_answers_and_goes(scene: Scene) -> None:
    node = scene.topology.nodes[1].name
    with scene.pod("extra", node), scene.listening("extra", tcp=(80, 81), udp=(53,)):
        scene.settle(
            [
                scene.question("pod1", "extra", "tcp", port=80),
                scene.question("pod1", "extra", "tcp", port=81),
                scene.question("pod1", "extra", "udp", port=53),
                scene.question("pod1", "extra", "tcp", port=82, expect=scene.refusal()),
                scene.question("pod1", "extra"),
                scene.question("pod1", "172.17.255.1", expect=scene.silence()),
            ]
        )
        with pytest.raises(MatrixMismatch, match=r"^pod1 → extra tcp port 80: answered by extra"):
            scene.settle([scene.question("pod1", "extra", "tcp", port=80, expect=scene.silence())], within_s=0.5)
        with pytest.raises(
            MatrixMismatch, match=r"^pod1 → extra tcp port 80: .*wanted an answer by extra that saw 9\."
        ):
            scene.holds([scene.question("pod1", "extra", "tcp", port=80, expect=scene.answer(saw="9.9.9.9"))])
    assert "extra" not in scene.workloads


def test_a_capture_tells_what_crossed_meanwhile(scene: Scene) -> None:
    with scene.capture("node1/eth0", "pod1/eth0") as seen:
        scene.holds([scene.question("pod1", "pod3" if "pod3" in scene.workloads else "pod2")], times=1)
        with pytest.raises(WorldError, match="has not ended"):
            len(seen.frames)
    assert len(seen.frames.on("pod1/eth0").with_stack("eth ip icmp")) == 2


def test_a_steady_ping_counts_what_is_lost(scene: Scene) -> None:
    other = next(name for name, one in scene.workloads.items() if one.node != scene.workloads["pod1"].node)
    with scene.flow("pod1", other) as calm:
        scene.eventually(lambda: scene.run("pod1", "true"), lambda done: True, within_s=1, what="a moment")
    assert (calm.lost, calm.sent > 2) == (0, True)
    hole = f"blackhole {scene.workloads[other].address}/32 metric 1"
    with scene.flow("pod1", other) as broken:
        scene.run(scene.workloads["pod1"].node, f"ip route add {hole}; sleep 0.5; ip route del {hole}")
        scene.settle([scene.question("pod1", other)])
    assert 5 <= broken.lost <= 200
    assert broken.longest_gap_s >= 0.4


def test_a_steady_ping_that_nobody_answers_accuses_the_system_and_ends(scene: Scene) -> None:
    with (
        pytest.raises(NeverHappened, match="the steady ping is answered") as caught,
        scene.flow("pod1", "172.17.255.1"),
    ):
        pass
    assert isinstance(caught.value, SystemFault)
    assert "172.17.255.1" not in scene.run("pod1", "ps -e -o args=").out


def test_a_monitor_tells_every_change_and_no_more(scene: Scene) -> None:
    with scene.monitor("node1", "route") as calm:
        pass
    assert calm.lines == []
    with scene.monitor("node1", "route") as changes:
        scene.run("node1", "ip route add blackhole 203.0.113.0/24; ip route del blackhole 203.0.113.0/24")
    assert [line.startswith("Deleted") for line in changes.lines] == [False, True]


def test_an_agent_that_is_killed_is_dead_until_it_is_started_again(scene: Scene) -> None:
    scene.kill_agent("node1")
    assert [line.partition(": was")[0] for line in scene.live.installation.dead()] == ["node1: refnet-agent"]
    scene.start_agent("node1")
    assert scene.live.installation.dead() == []


def test_only_a_lab_that_is_as_before_is_used_again(scene: Scene) -> None:
    scene.begin(PROMISE)
    scene.fact("measured: 5")
    (facts,) = scene.end(PROMISE, Verdict.PASSED)
    assert (scene._out / facts).read_text() == "measured: 5\n"
    assert not scene.is_spent
    scene.begin(PROMISE)
    scene.run("node1", "ip route add blackhole 203.0.113.0/24")
    scene.end(PROMISE, Verdict.PASSED)
    assert scene.is_spent
    scene.run("node1", "ip route del blackhole 203.0.113.0/24")
    scene.is_spent = False
    assert len(scene.end(PROMISE, Verdict.FAILED)) == 1
    assert scene.is_spent


def test_documents_are_texts_files_or_objects(tmp_path: Path) -> None:
    file = tmp_path / "one.yaml"
    file.write_text("a: 1\n---\nb: 2\n---\n")
    assert read_documents(file) == [{"a": 1}, {"b": 2}]
    assert read_documents(str(file)) == [{"a": 1}, {"b": 2}]
    assert read_documents("a: 1\n---\nb: 2\n") == [{"a": 1}, {"b": 2}]
    assert read_documents({"a": 1}) == [{"a": 1}]
