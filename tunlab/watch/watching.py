"""A standing lab under observation: taps on every device of the picture, packets as they pass, pings on request.

The link's thread only puts frames into a queue that has an end; one thread of our own decodes them and tells everybody
who listens. What comes faster than people can read is counted, not shown.
"""

from __future__ import annotations

import base64
import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tunlab.box.link import Asked
from tunlab.errors import LabError, TunlabError, WorldError
from tunlab.live.lab import LiveLab
from tunlab.live.standing import StandingLab, is_busy
from tunlab.live.state import read_state
from tunlab.trace.tracing import places_of, taps_of
from tunlab.wait import eventually
from tunlab.watch.flow import Flow, told_frame, told_packet, without_checksums
from tunlab.watch.picture import PodAt, draw
from tunlab.wire.by_scapy import read_headers, scapy_parts
from tunlab.wire.decode import VXLAN_PORT
from tunlab.wire.frames import Frame, Icmp, Icmpv6

Event = dict[str, Any]
Listener = Callable[[Event], None]

_MOST_WAITING, _MOST_AT_A_TIME = 1000, 120
_TICK_S, _LOOK_AFTER_S, _OPEN_WITHIN_S = 0.1, 1.0, 30.0
_SNAP_BYTES = 512
_SENTINEL = b"tunlab sentinel "


class Watching:
    """Everything that the viewers of one lab share. Raises WorldError or LabError while it begins."""

    def __init__(self, stands: StandingLab) -> None:
        self.stands = stands
        self.live: LiveLab = stands.live()
        self.role = f"taps-watch-{os.getpid()}"
        self.ended = threading.Event()
        self.why = self.hint = ""
        self.own_echoes: set[int] = set()  # identifiers: who sent those tells of them
        self.pods: dict[str, str] = {}
        self._listeners: list[Listener] = []
        self._lock = threading.Lock()
        self._raw: queue.Queue[Event] = queue.Queue(_MOST_WAITING)
        self._missed = 0
        self._numbers = 0
        self._begun_s = time.time()
        self._wants_end = threading.Event()
        self._views = 0
        self._asked: Asked | None = None
        self._follows = threading.Event()
        self._frame_watchers: list[Callable[[Frame], None]] = []
        self.picture: Event = {}
        scapy_parts()  # now, while nobody waits for a frame
        stands.box().start_role(self.role, "taps")
        try:
            self._open_taps()
        except BaseException:
            self._drop_role()
            raise
        self._thread = threading.Thread(target=self._work, name=f"watch {stands.name}", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------------ listening
    @contextlib.contextmanager
    def told_to(self, listener: Listener) -> Iterator[None]:
        """`listener` hears every event meanwhile, from a thread that it must not hold up; first of all the picture."""
        listener(self.picture)
        with self._lock:
            self._listeners.append(listener)
        try:
            yield
        finally:
            with self._lock:
                self._listeners.remove(listener)

    def tell(self, event: Event) -> None:
        """Tell all who listen."""
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            listener(event)

    @contextlib.contextmanager
    def showing_frames_to(self, taker: Callable[[Frame], None]) -> Iterator[None]:
        """`taker` sees every frame meanwhile, decoded."""
        self._frame_watchers.append(taker)
        try:
            yield
        finally:
            self._frame_watchers.remove(taker)

    def settle(self) -> None:
        """Return once every frame that a tap has seen until now has been decoded and told. Raises WorldError.

        The role serves its taps between two requests, and what it tells comes before its next answer.
        """
        for _ in range(2):
            self.stands.box().ask(self.role, "hello")
        mark = threading.Event()
        self._raw.put({"mark": mark}, timeout=_OPEN_WITHIN_S)
        mark.wait(_OPEN_WITHIN_S)

    def close(self) -> None:
        """Close the taps; a lab that has gone meanwhile is fine."""
        self._wants_end.set()
        self._thread.join(5.0)
        self._drop_role()

    def _drop_role(self) -> None:
        with contextlib.suppress(WorldError):
            self.stands.box().drop_role(self.role)

    # ------------------------------------------------------------------ taps
    def _open_taps(self) -> None:
        box, live = self.stands.box(), self.live
        points = taps_of(live, places_of(live))
        asked = [
            {"name": one.name, "place": one.place, "device": one.device, "deaf_to_tcp_port": one.deaf_to_tcp_port}
            for one in points
        ]
        self._views += 1
        dialect = live.installation.recipe.dialect if live.system is not None else None
        self._vxlan_ports = (dialect.vxlan_port if dialect else VXLAN_PORT,)
        self.pods = {str(one.address): one.name for one in live.workloads.values()}
        self.pods |= {str(one.address6): one.name for one in live.workloads.values() if one.address6}
        self._follows.clear()
        asked_for = box.line.begin(
            self.role, "follow", on_event=self._arrived, name=str(self._views), taps=asked, bytes=_SNAP_BYTES
        )
        eventually(
            lambda: self._follows.is_set() or asked_for.answer.done(),
            bool,
            within_s=_OPEN_WITHIN_S,
            what=f"{self.stands.name}: every tap is open",
            blame="lab",
        )
        if not self._follows.is_set():
            box.line.answer_of(asked_for, 1.0, "watching")  # says why
        self._asked = asked_for
        self.picture = self._draw([point.name for point in points])

    def _draw(self, taps: list[str]) -> Event:
        topology, state = self.live.topology, self.stands.state
        pods = [PodAt(one.name, one.node, str(one.address), one.host_device) for one in self.live.workloads.values()]
        ends = {pod.host_device for pod in pods}
        tunnels: dict[str, list[str]] = {}
        uplinks = {node.name: {each.device for each in node.attachments} for node in topology.nodes}
        for tap in taps:
            place, _, device = tap.partition("/")
            if place in uplinks and device not in ends | uplinks[place]:
                tunnels.setdefault(place, []).append(device)
        places = [*self.live.workloads, *(host.name for host in topology.hosts)]
        return {
            "kind": "picture",
            "lab": self.stands.name,
            "system": state.system or "",
            "mode": state.mode or "",
            "box": state.box,
            "far": self._far(),
            "senders": [name for name in places if name != topology.store.name],
            **draw(topology, pods, tunnels),
        }

    def _far(self) -> str:
        """A pod that the first one reaches over the wire only."""
        first, *others = self.live.workloads.values() or [None]
        return next((one.name for one in others if first and one and one.node != first.node), "")

    def _arrived(self, event: Event) -> None:
        """On the link's thread: nothing slow may happen here."""
        if "following" in event:
            self._follows.set()
        elif "bytes" in event:
            try:
                self._raw.put_nowait(event)
            except queue.Full:
                self._missed += 1

    # ------------------------------------------------------------------ the work
    def _work(self) -> None:
        flow, looked_s = Flow(), time.monotonic()
        try:
            while not self._wants_end.wait(_TICK_S):
                self._tell_frames(flow)
                for frames in flow.finished(time.monotonic()):
                    if not self._is_own(frames[0]):
                        self.tell({"kind": "packet", **told_packet(frames, self.pods)})
                assert self._asked is not None
                if self._asked.answer.done():
                    self.stands.box().line.answer_of(self._asked, 1.0, "watching")  # says why, if it was refused
                    raise WorldError(f"{self.stands.name}: its box has ended, and the view with it")
                if time.monotonic() - looked_s > _LOOK_AFTER_S:
                    looked_s = time.monotonic()
                    self._look_after_pods()
        except TunlabError as error:
            self._end(error.message, error.hint)
        except Exception as error:  # noqa: BLE001 - whatever it was, the viewers must not wait for ever
            self._end(f"{self.stands.name}: the view broke: {error!r}", "")

    def _is_own(self, frame: Frame) -> bool:
        last = frame.last
        quoted = last.quoted[-1] if isinstance(last, Icmp | Icmpv6) and last.quoted else last
        return isinstance(quoted, Icmp | Icmpv6) and quoted.identifier in self.own_echoes

    def _end(self, why: str, hint: str) -> None:
        if not self.stands.folder.is_dir() or is_busy(self.stands.name):
            why, hint = f"{self.stands.name}: the lab has been taken down", f"./lab up {self.stands.name}"
        self.why, self.hint = why, hint
        self.tell({"kind": "gone", "why": why, "hint": hint})
        self.ended.set()

    def _tell_frames(self, flow: Flow) -> None:
        shown: list[Event] = []
        taken = 0
        while taken < _MOST_AT_A_TIME:
            try:
                event = self._raw.get_nowait()
            except queue.Empty:
                break
            if "mark" in event:
                event["mark"].set()
                continue
            taken += 1
            frame = self._decode(event)
            if frame is None:
                continue
            flow.take(frame, time.monotonic())
            for taker in list(self._frame_watchers):
                taker(frame)
            shown.append(told_frame(frame, self._begun_s, self.pods))
        missed, self._missed = self._missed, 0
        if shown or missed:
            self.tell({"kind": "frames", "frames": shown, "missed": missed})

    def _decode(self, event: Mapping[str, Any]) -> Frame | None:
        data = base64.b64decode(event["bytes"])
        if _SENTINEL in data:  # another command's proof that its taps are awake
            return None
        headers = read_headers(event["linktype"], data, self._vxlan_ports)
        if int(event["length"]) > len(data):
            headers = without_checksums(headers)
        self._numbers += 1
        return Frame(self._numbers, float(event["time_s"]), event["tap"], event["direction"], "", headers)

    def _look_after_pods(self) -> None:
        """Pods come and go while one watches: then the picture is another, and so are the taps."""
        state = read_state(self.stands.folder)
        if state.doing or (state.pods, state.system) == (self.stands.state.pods, self.stands.state.system):
            return
        self.stands.state = state
        box = self.stands.box()
        with contextlib.suppress(WorldError):
            box.ask(self.role, "unfollow", name=str(self._views))
        self.live = self.stands.live()
        self._open_taps()
        self.tell(self.picture)

    # ------------------------------------------------------------------ asking
    def place(self, name: object) -> str:
        """A place of the lab by the name that a viewer sent. Raises LabError."""
        if not isinstance(name, str):
            raise LabError("no place was named")
        return self.stands.place(name)
