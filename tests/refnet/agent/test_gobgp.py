"""GoBGP's answers as routes and sessions, as it gave them."""

from __future__ import annotations

import errno
import selectors
import subprocess
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from types import ModuleType
from typing import Any

import pytest

from refnet.agent import bird, gobgp
from refnet.agent.gobgp import needs_a_start, read_sessions, read_table
from refnet.agent.speaker import Backoff, Session
from refnet.calc.speaker import SpeakerConfig, SpeakerPeer
from refnet.render.birdconf import render_bird
from refnet.render.gobgpconf import render_gobgp


def path(hop: str, neighbour: str = "", *, best: bool = True) -> dict[str, Any]:
    found: dict[str, Any] = {"attrs": [{"type": 1, "value": 0}, {"type": 3, "nexthop": hop}], "best": best}
    return {**found, "neighbor-ip": neighbour} if neighbour else found


def test_a_table_is_what_we_tell_and_the_best_of_what_we_are_told() -> None:
    table = {
        "10.1.0.0/26": [path("10.0.0.1")],
        "10.2.0.0/26": [path("10.0.0.3", "10.0.0.3", best=False), path("10.0.0.2", "10.0.0.2")],
    }
    own, learned = read_table(table)
    assert own == {IPv4Network("10.1.0.0/26")}
    assert learned == {IPv4Network("10.2.0.0/26"): IPv4Address("10.0.0.2")}


def test_sessions_read_as_birds_do() -> None:
    neighbours = [
        {"conf": {"neighbor_address": "10.0.0.9", "description": "Global_10_0_0_9"}, "state": {"session_state": 3}},
        {"conf": {"neighbor_address": "10.0.0.2", "description": "Mesh_10_0_0_2"}, "state": {"session_state": 6}},
    ]
    found = [(each.peer, each.type, each.state, each.info) for each in read_sessions(neighbours)]
    assert found == [
        ("10.0.0.2", "node-to-node mesh", "up", "Established"),
        ("10.0.0.9", "global", "start", "Active"),
    ]
    assert isinstance(read_sessions(neighbours)[0], Session)


@pytest.mark.parametrize("module", [bird, gobgp], ids=["bird", "gobgp"])
def test_a_file_that_cannot_be_written_is_tried_again(monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> None:
    """Else the speaker would be taken for one that has been told."""
    tried: list[str] = []

    def full(path: object, text: str) -> None:
        tried.append(text)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "write_config", full)
    monkeypatch.setattr(module, "retire_orphan", lambda *_: False)
    before = SpeakerConfig(IPv4Address("10.0.0.1"), 64512, (), (), (), ())
    after = replace(before, peers=(SpeakerPeer("Node_10_0_0_2", IPv4Address("10.0.0.2"), 64512),))
    with selectors.DefaultSelector() as selector, subprocess.Popen(["sleep", "60"]) as running, ExitStack() as atlast:
        atlast.callback(running.kill)
        speaker = bird.Bird(selector, print) if module is bird else gobgp.GoBgp(selector, print, lambda: None)
        speaker._pid, speaker._text = running.pid, render_bird(before) if module is bird else render_gobgp(before)
        for _ in range(2):
            with pytest.raises(OSError, match="No space left"):
                speaker.want(after)
    assert len(tried) == 2


def test_what_does_not_last_is_started_later_each_time() -> None:
    backoff = Backoff()
    assert [backoff.after(lasted_s) for lasted_s in (0.0, 1.0, 1.0, 60.0, 1.0)] == [0.1, 0.2, 0.4, 0.1, 0.2]
    assert [backoff.after(0.0) for _ in range(8)][-1] == 5.0


def test_of_two_neighbours_that_change_a_reload_would_take_over_one() -> None:
    one, two = (SpeakerPeer(f"Mesh_{number}", IPv4Address(f"10.0.0.{number}"), 64512) for number in (2, 3))
    config = replace(SpeakerConfig(IPv4Address("10.0.0.1"), 64512, (), (), (), ()), peers=(one, two))
    renamed = replace(config, peers=(replace(one, name="Node_2"), replace(two, name="Node_3")))
    fewer = replace(config, peers=(one,))
    before = render_gobgp(config)
    assert needs_a_start(before, render_gobgp(renamed))
    assert not needs_a_start(before, render_gobgp(fewer)) and not needs_a_start(render_gobgp(fewer), before)
    assert not needs_a_start(before, before)


def test_one_that_does_not_answer_yet_is_not_signalled(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would die of the signal: it minds it only once it has begun to read its file."""
    sent: list[int] = []
    answers: list[Any] = [None, None, {}, {}, {}, {}]
    monkeypatch.setattr(gobgp, "write_config", lambda *_: None)
    monkeypatch.setattr(gobgp, "ask", lambda *_: answers.pop(0))
    monkeypatch.setattr(gobgp, "_command", lambda *_: None)
    monkeypatch.setattr("os.kill", lambda pid, number: sent.append(number))
    before = SpeakerConfig(IPv4Address("10.0.0.1"), 64512, (), (), (), ())
    after = replace(before, peers=(SpeakerPeer("Node_10_0_0_2", IPv4Address("10.0.0.2"), 64512),))
    with selectors.DefaultSelector() as selector:
        speaker = gobgp.GoBgp(selector, print, lambda: None)
        speaker._pid, speaker._config, speaker._text = 1, before, render_gobgp(before)
        speaker.want(after)
        seen = []
        for _ in range(3):
            speaker._look()
            seen.append((len(sent), speaker.is_loaded()))
    assert seen == [(0, False), (1, False), (1, True)]
