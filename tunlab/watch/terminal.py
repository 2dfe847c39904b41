"""The live view in a terminal: the lab as text, the packet's way hop by hop, the last frames. Needs neither colour nor
more than 80 columns, and leaves the terminal as it was, however it ends."""

from __future__ import annotations

import contextlib
import os
import queue
import select
import sys
import termios
import time
import tty
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from tunlab.errors import TunlabError
from tunlab.watch.stepping import Stepping
from tunlab.watch.watching import Event, Watching

_LOOK_S, _HOP_S = 0.1, 0.45
_MOST_WAITING = 500
_KEYS = "s ping  p pause  n other pods  q quit"
_PAUSED_KEYS = "s next hop  p go on  n other pods  q quit"


@dataclass
class View:
    """What is on the screen, and what a key or an event makes of it. It knows no terminal and no lab."""

    picture: Event = field(default_factory=dict)
    frames: deque[Event] = field(default_factory=lambda: deque(maxlen=100))
    way: list[tuple[str, Event]] = field(default_factory=list)  # there or back, and the hop
    title: str = "no packet yet: s sends a ping"
    said: str = ""
    at: int = -1  # the hop of the way where the packet is
    moved_s: float = 0.0
    is_paused: bool = False
    is_stepped: bool = False
    pair: int = 0
    missed: int = 0
    number: int = 0

    def hear(self, event: Event, now_s: float) -> None:
        """Take one event in."""
        match event["kind"]:
            case "picture":
                self.picture = event
            case "frames":
                self.missed += event["missed"]
                self.frames.extend(one for one in event["frames"] if one["subject"] == "pods")
            case "packet" if event["subject"] == "pods" and not self.is_paused and not self.is_moving_a_step:
                self._begin(event["title"], [("", hop) for hop in event["hops"]], now_s, is_stepped=False)
            case "step":
                title = f"{event['source']} → {event['target']}"
                self._begin(title, _hops(event), now_s, is_stepped=True)
                self.said = str(event["outcome"])
            case "explained":
                self.way = _hops(event)
                self.said = ending_of(event)
            case "step-failed":
                self.said = event["why"]

    @property
    def is_moving_a_step(self) -> bool:
        """Whether the packet on its way was asked for and has not arrived yet."""
        return self.is_stepped and self.at < len(self.way) - 1

    def _begin(self, title: str, way: list[tuple[str, Event]], now_s: float, *, is_stepped: bool) -> None:
        self.title, self.way, self.said, self.is_stepped = title, way, "", is_stepped
        self.at, self.moved_s = 0, now_s

    def pass_time(self, now_s: float) -> None:
        """The packet moves on when it is time."""
        if not self.is_paused and now_s - self.moved_s >= _HOP_S:
            self.next_hop(now_s)

    def next_hop(self, now_s: float) -> None:
        """The packet moves on, if it is on its way."""
        if self.at < len(self.way) - 1:
            self.at, self.moved_s = self.at + 1, now_s

    @property
    def pods(self) -> tuple[str, str]:
        """Between which two `s` pings."""
        names = [place["name"] for place in self.picture["places"] if place["kind"] == "pod"]
        senders = names if len(names) > 1 else self.picture["senders"]
        pairs = [(a, b) for a in senders for b in senders if a != b]
        far = [pair for pair in pairs if pair == (senders[0], self.picture["far"])]
        order = [*far, *(pair for pair in pairs if pair not in far)]
        return order[self.pair % len(order)]

    # ------------------------------------------------------------------ the screen
    def lines(self, height: int) -> list[Text]:
        """What to show, at most so many lines; the frames have what the rest leaves."""
        picture = self.picture
        a, b = self.pods
        head = Text.assemble((picture["lab"], "bold"), f"  {picture['system']} {picture['mode']} in {picture['box']}")
        keys = Text(_PAUSED_KEYS if self.is_paused else _KEYS, "reverse")
        top = [head, keys, Text(""), *self._map(), Text("")]
        hops = [self._hop(number) for number in range(len(self.way))]
        room = max(3, height - len(top) - 6)
        first = max(0, min(self.at - room // 2, len(hops) - room))
        title = Text.assemble((self.title, "bold"), f"   (s: {a} → {b})")
        body = [title, *hops[first : first + room], Text(self.said, "bold")]
        rest = height - len(top) - len(body) - 1
        shown = list(self.frames)[-rest:] if rest > 0 else []
        missed = f", {self.missed} too fast to show" if self.missed else ""
        return [*top, *body, Text(f"last frames{missed}", "dim"), *map(_frame, shown)][:height]

    def _map(self) -> Iterator[Text]:
        here = self.way[self.at][1]["place"] if 0 <= self.at < len(self.way) else ""
        places = {place["name"]: place for place in self.picture["places"]}
        links: dict[str, list[str]] = {}
        for link in self.picture["links"]:
            (upper, _), (lower, _) = link["from"], link["to"]
            links.setdefault(lower, []).append(upper)
        for name, place in places.items():
            if place["kind"] == "segment":
                yield _place(place, here, 0)
                for host in links.get(name, ()):
                    yield _place(places[host], here, 1)
                    for pod in links.get(host, ()):
                        yield _place(places[pod], here, 2)

    def _hop(self, number: int) -> Text:
        way, hop = self.way[number]
        devices = list(dict.fromkeys(sighting["device"] for sighting in hop["sightings"]))
        mark = "> " if number == self.at else "  "
        stack = hop["sightings"][-1]["stack"]
        back = "back: " if way not in ("", "there") else ""
        text = f"{mark}{back}{hop['place']:<9}{' → '.join(devices)}  [{stack}]"
        return Text(text, "bold" if number == self.at else "dim" if number > self.at else "")


def ending_of(event: Event) -> str:
    """How a ping ended, in one line."""
    death = event["death"]
    if death is None:
        return f"{event['outcome']} in {1000 * float(event['rtt_s'] or 0):.2f} ms"
    at = "/".join(filter(None, (death["place"], death["device"])))
    return f"died at {at}: {death['why']}. What would help: {death['remedy']}"


def _hops(event: Event) -> list[tuple[str, Event]]:
    return [(way, hop) for way, hops in event["ways"].items() for hop in hops]


def _place(place: Event, here: str, depth: int) -> Text:
    mark = ">" if place["name"] == here else " "
    devices = [one["name"] for one in place["devices"]] if place["kind"] == "node" else []
    more = f"  {' '.join(devices)}" if devices else ""
    return Text(f"{mark}{'  ' * depth}{place['name']}  {place['says']}{more}", "bold" if mark == ">" else "")


def _frame(frame: Event) -> Text:
    return Text(f"{frame['since_start_s']:9.3f} {frame['tap']} {frame['direction']} [{frame['stack']}]", "dim")


# ------------------------------------------------------------------ the terminal
def show(watching: Watching, stepping: Stepping, console: Console | None = None) -> None:
    """Show it until q, Ctrl-C or the end of the lab."""
    console = console or Console()
    events: queue.Queue[Event] = queue.Queue(_MOST_WAITING)

    def hear(event: Event) -> None:
        with contextlib.suppress(queue.Full):
            events.put_nowait(event)

    view = View()
    with watching.told_to(hear), _keys_at_once(), contextlib.suppress(KeyboardInterrupt):
        view.hear(events.get_nowait(), time.monotonic())  # the picture is always the first
        with Live(console=console, screen=True, auto_refresh=False, transient=True) as live:
            while not watching.ended.is_set():
                while not events.empty():
                    view.hear(events.get_nowait(), time.monotonic())
                view.pass_time(time.monotonic())
                lines = view.lines(console.height)
                for line in lines:
                    line.truncate(console.width, overflow="ellipsis")
                live.update(Group(*lines), refresh=True)
                if not _take_keys(view, stepping):
                    return


@contextlib.contextmanager
def _keys_at_once() -> Iterator[None]:
    """Keys come without Enter and are not shown; Ctrl-Z is off, for it would leave the screen as it is."""
    before: list[Any] = termios.tcgetattr(0)
    try:
        tty.setcbreak(0)
        settings = termios.tcgetattr(0)
        settings[6][termios.VSUSP] = b"\0"
        termios.tcsetattr(0, termios.TCSADRAIN, settings)
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def _take_keys(view: View, stepping: Stepping) -> bool:
    """Wait a moment for keys and do what they say; whether to go on."""
    if not select.select([sys.stdin], [], [], _LOOK_S)[0]:
        return True
    typed = os.read(0, 64)
    if not typed:  # the terminal has gone
        return False
    for key in typed.decode(errors="replace"):
        if key in "qQ":
            return False
        if key in "pP":
            view.is_paused = not view.is_paused
        elif key in "nN":
            view.pair += 1
        elif key in "sS" and view.is_paused and view.at < len(view.way) - 1:
            view.next_hop(time.monotonic())
        elif key in "sS":
            _ping(view, stepping)
    return True


def _ping(view: View, stepping: Stepping) -> None:
    a, b = view.pods
    try:
        stepping.begin(a, b)
        view.said = f"{a} → {b}: sent …"
    except TunlabError as error:
        view.said = error.message
