"""One echo at a time: sent, followed by the taps that are open anyway, then explained by the places on its way."""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import os
import threading
from collections.abc import Mapping
from typing import Any

from tunlab.errors import LabError, TunlabError, WorldError
from tunlab.trace.decisions import Place, decide, read_places
from tunlab.trace.fate import cause_of
from tunlab.trace.journey import Journey, Question, journey_of
from tunlab.trace.text import as_json
from tunlab.trace.tracing import Packet, Trace, places_of, send
from tunlab.watch.watching import Watching
from tunlab.wire.frames import Frame

_IDENTIFIERS = range(0x2000, 0x4000)  # a trace uses those above


class Stepping:
    """Sends echoes for the viewers of one lab, one after the other."""

    def __init__(self, watching: Watching) -> None:
        self._watching = watching
        self._role = f"probes-watch-{os.getpid()}"
        self._has_role = False
        self._numbers = itertools.count(1)
        self._identifiers = itertools.cycle(_IDENTIFIERS)
        self._busy = threading.Lock()

    def close(self) -> None:
        """End the role that sends."""
        if self._has_role:
            with contextlib.suppress(WorldError):
                self._watching.stands.box().drop_role(self._role)

    def begin(self, source: object, target: object, asked_by: str = "") -> int:
        """Send one echo; `step`, then `explained`, or `step-failed` bear the number returned. Raises LabError."""
        packet = self._packet(source, target)
        if not self._busy.acquire(blocking=False):
            raise LabError("another ping is under way", hint="wait until its way is known")
        number = next(self._numbers)
        threading.Thread(target=self._run, args=(number, packet, asked_by), daemon=True).start()
        return number

    def _packet(self, source: object, target: object) -> Packet:
        stands = self._watching.stands
        start = self._watching.place(source)
        stands.address(start)  # a segment sends nothing
        try:
            return Packet(start, str(target), str(ipaddress.ip_address(str(target))))
        except ValueError:
            end = self._watching.place(target)
        if end == start:
            raise LabError(f"{stands.name}: {start} to itself: nothing would be seen", hint="choose two places")
        return Packet(start, end, stands.address(end))

    def _run(self, number: int, packet: Packet, asked_by: str) -> None:
        failed = {"kind": "step-failed", "number": number, "by": asked_by}
        try:
            self._step(number, packet, asked_by)
        except TunlabError as error:
            self._watching.tell({**failed, "why": error.message, "hint": error.hint})
        except Exception as error:  # noqa: BLE001 - whatever it was, who asked must not wait for ever
            self._watching.tell({**failed, "why": f"the ping broke: {error!r}", "hint": ""})
        finally:
            self._busy.release()

    def _step(self, number: int, packet: Packet, asked_by: str) -> None:
        live = self._watching.live
        box = live.box
        if not self._has_role:
            box.start_role(self._role, "probes")
            self._has_role = True
        question = Question("icmp", next(self._identifiers))
        self._watching.own_echoes.add(question.mark)
        places = places_of(live)
        before = read_places(box, places)
        result, journey = self._send(packet, question)
        told = as_json(self._trace(packet, result, journey, {}))
        self._watching.tell({"kind": "step", "number": number, "by": asked_by, **told})
        after = read_places(box, places)
        hops = [*journey.there, *journey.back, *journey.errors]
        told_all = decide(box, hops, before, after)
        decisions = {hop: tuple(one for one in told if one.is_decisive) for hop, told in told_all.items()}
        trace = self._trace(packet, result, journey, after)
        death = cause_of(box, journey, result, decisions, packet.source)
        whole = Trace(trace.packet, result, journey, decisions, trace.mtu_bytes, death, trace.segments)
        self._watching.tell({"kind": "explained", "number": number, **as_json(whole)})

    def _send(self, packet: Packet, question: Question) -> tuple[Mapping[str, Any], Journey]:
        """Its result and its way, once all that the taps have seen of it is here."""
        seen: list[Frame] = []

        def take(frame: Frame) -> None:
            if frame.ips and (question.is_request(frame) or question.is_reply(frame) or question.is_error(frame)):
                seen.append(frame)

        with self._watching.showing_frames_to(take):
            result = send(self._watching.live.box, self._role, packet, question)
            self._watching.settle()
        return result, journey_of(question, seen)

    def _trace(self, packet: Packet, result: Mapping[str, Any], journey: Journey, after: Mapping[str, Place]) -> Trace:
        mtus = {place: read.mtu_bytes for place, read in after.items()}
        segments = frozenset(segment.name for segment in self._watching.live.topology.segments)
        return Trace(packet, result, journey, {}, mtus, None, segments)
