"""The screen of --tui: fits, says where the packet is, and goes on or stands still as it is told."""

from __future__ import annotations

from typing import Any

from tests.watch import played
from tunlab.watch.terminal import View


def view() -> View:
    made = View()
    made.hear(played.picture(), 0.0)
    return made


def hop(place: str) -> dict[str, Any]:
    return played.hop(place, ("eth0", "out", "eth ip icmp"))


def step(**more: Any) -> dict[str, Any]:
    ways = {"there": [hop("pod1"), hop("node1"), hop("pod4")], "back": [hop("pod4"), hop("pod1")]}
    told = {"kind": "step", "source": "pod1", "target": "pod4", "outcome": "answered", "ways": ways}
    return {**told, **more}


def shown(seen: View, height: int = 24) -> str:
    return "\n".join(line.plain for line in seen.lines(height))


def test_it_fits_a_small_terminal_and_shows_the_whole_lab_first() -> None:
    seen = view()
    seen.hear(step(), 0.0)
    frame = {"subject": "pods", "since_start_s": 1.0, "tap": "node1/eth0", "direction": "out", "stack": "eth ip"}
    seen.hear({"kind": "frames", "missed": 3, "frames": [frame] * 90}, 0.0)
    for height in (10, 24, 60):
        assert len(seen.lines(height)) <= height
    assert all(name in shown(seen) for name in ("net1", "router1", "node3", "pod4", "store"))
    assert "last frames, 3 too fast to show" in shown(seen, 40)


def test_the_packet_moves_with_time_and_stands_still_while_paused() -> None:
    seen = view()
    seen.hear(step(), 100.0)
    assert ">    pod1" in shown(seen) and "> pod1 " in shown(seen)
    seen.pass_time(100.1)
    assert seen.at == 0
    seen.pass_time(101.0)
    assert ">  node1" in shown(seen)
    seen.is_paused = True
    seen.pass_time(109.0)
    assert seen.at == 1
    seen.next_hop(109.0)
    assert seen.at == 2


def test_how_it_ended_is_told_once_it_is_known() -> None:
    seen = view()
    seen.hear(step(outcome="timeout"), 0.0)
    death = {"place": "router1", "device": "eth0", "why": "no way on", "remedy": "give it a route"}
    seen.hear(step(kind="explained", outcome="timeout", death=death, rtt_s=None), 0.0)
    assert "died at router1/eth0: no way on. What would help: give it a route" in shown(seen, 40)
    seen.hear(step(kind="explained", death=None, rtt_s=0.0021), 0.0)
    assert "answered in 2.10 ms" in shown(seen, 40)


def test_what_passes_does_not_push_a_ping_away_that_was_asked_for() -> None:
    seen = view()
    packet = {"kind": "packet", "subject": "pods", "title": "pod2 → pod3", "hops": [hop("pod2")]}
    seen.hear(packet, 0.0)
    assert "pod2 → pod3" in shown(seen)
    seen.hear(step(), 0.0)
    seen.hear(packet, 0.0)
    assert seen.title == "pod1 → pod4"


def test_the_first_ping_crosses_the_wire_and_n_goes_through_all_pairs() -> None:
    seen = view()
    assert seen.pods == ("pod1", "pod4")
    pairs = set()
    for seen.pair in range(12):
        pairs.add(seen.pods)
    assert len(pairs) == 12
