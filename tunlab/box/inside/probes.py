"""The role that asks and answers: one process whose sockets live in every pod and node, so all pairs are asked at once.

A socket stays in the network namespace where it was opened. So this role visits a place only to open its sockets, and
one loop then serves the responders of every place and all the probes between them. A responder keeps its namespace
alive: unlisten before a pod is taken away. What a probe sends starts with its token and a line end, in every protocol,
so that any packet in any capture names its test.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import select
import socket
import struct
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from tunlab.box.inside.families import FOUR, NO_WAY, SIX, family_of
from tunlab.box.inside.kernel import within_network
from tunlab.box.inside.responder import Responder
from tunlab.box.inside.role import Refused, Request, Role
from tunlab.box.line import Frame

_DISCOVER = {False: 0, True: 2, "probe": 3}  # DONT, DO, PROBE (sets DF, ignores what the kernel learned of the path)
_SOL_RAW, _SOL_ICMPV6, _ICMP_FILTER = 255, 58, 1
_IPV6_HEADER_BYTES = 40
_MOST_BYTES = 65536
_FILLER = b"0123456789abcdef"
_EXTENDED_ERROR = struct.Struct("=IBBBBII")
_BUSY_S = 0.05  # so late a timer shows that nobody listened meanwhile


class Told(NamedTuple):
    """One entry of a socket's error queue: what an ICMP message (or the own kernel) said about a packet sent."""

    code: int
    is_icmp: bool
    kind: int
    icmp_code: int
    mtu: int | None
    offender: str
    about: bytes
    destination: str

    def as_frame(self) -> Frame | None:
        """The `icmp` part of a probe's result, None when no ICMP message was involved."""
        if not self.is_icmp:
            return None
        return {"kind": self.kind, "code": self.icmp_code, "from": self.offender, "mtu": self.mtu}


def payload_of(token: str, size_bytes: int) -> bytes:
    """`size_bytes` of payload: the token, a line end, then filler; a size below the token's cuts it."""
    head = token.encode() + b"\n"
    return (head + _FILLER * (max(0, size_bytes - len(head)) // len(_FILLER) + 1))[:size_bytes]


def checksum(data: bytes) -> int:
    """The internet checksum (RFC 1071); 0 over data that carries its right checksum."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def read_error(sock: socket.socket) -> Told | None:
    """The next entry of the error queue (IP_RECVERR, IPV6_RECVERR), None when it is empty."""
    family = SIX if sock.family == SIX.word else FOUR
    try:
        about, ancillary, _, destination = sock.recvmsg(2048, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return None
    for level, kind, data in ancillary:
        if (level, kind) != (family.level, family.recverr) or len(data) < _EXTENDED_ERROR.size:
            continue
        code, origin, icmp_kind, icmp_code, _, extra, _ = _EXTENDED_ERROR.unpack_from(data)
        is_icmp = origin == family.origin_icmp
        offender = family.offender(data) if is_icmp else ""
        mtu = extra if code == errno.EMSGSIZE and extra else None
        where = destination[0] if destination else ""
        return Told(code, is_icmp, icmp_kind, icmp_code, mtu, offender, about, where)
    return None


class Probe:
    """One question: opened in its place, sent, and ended exactly once by an answer, an error or its deadline."""

    kind, protocol = socket.SOCK_DGRAM, 0
    default_bytes = 64

    def __init__(self, asked: Frame, serial: int) -> None:
        self.asked = asked
        self.place: str = asked["from"]
        self.to: str = asked["to"]
        self.family = family_of(self.to)
        self.timeout_s = float(asked.get("timeout_s", 2.0))
        self.token = str(asked.get("token", asked["id"]))
        self.payload = payload_of(self.token, int(asked.get("size", self.default_bytes)))
        self.serial = serial
        self.sock: socket.socket | None = None
        self.interest = select.EPOLLIN
        self.result: Frame | None = None
        self.on_end: Callable[[Probe], None] = lambda probe: None
        self._note: str | None = None
        self._sent_at = time.monotonic()

    def open(self) -> None:
        """Open the socket; the caller is in the right namespace. Raises OSError."""
        family = self.family
        self.sock = sock = socket.socket(
            family.word, self.kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, self.protocol
        )
        sock.setsockopt(family.level, family.recverr, 1)
        for option, key in ((family.ttl, "ttl"), (family.tos, "tos")):
            if self.asked.get(key) is not None:
                sock.setsockopt(family.level, option, int(self.asked[key]))
        if self.asked.get("df") is not None:
            sock.setsockopt(family.level, family.mtu_discover, _DISCOVER[self.asked["df"]])
        if self.asked.get("source"):
            sock.bind((self.asked["source"], 0))

    def begin(self) -> None:
        """Send the question; what cannot be sent ends as `failed` (or as `too_big`, when the own kernel says so)."""
        self._sent_at = time.monotonic()
        try:
            self.send()
        except OSError as error:
            self.could_not_send(error)

    def send(self) -> None:
        """Put the question on the wire. Raises OSError."""
        raise NotImplementedError

    def receive(self, sock: socket.socket, events: int) -> None:
        """Something may be there to read (or, for TCP, to write). Raises OSError."""
        raise NotImplementedError

    def is_mine(self, told: Told) -> bool:
        """Whether this entry of the error queue is about this probe's packet; a connected socket gets only its own."""
        return True

    def ready(self, events: int) -> None:
        """The socket woke up: the error queue first, because it knows who said no."""
        if self.result is not None or self.sock is None:
            return
        try:
            while (told := read_error(self.sock)) is not None:
                if self.is_mine(told):
                    self.told_no(told)
                    return
            self.receive(self.sock, events)
        except BlockingIOError:
            return
        except OSError as error:
            told = read_error(self.sock)
            if told is not None and self.is_mine(told):
                self.told_no(told)
            else:
                self.broke(error)

    def told_no(self, told: Told) -> None:
        """End by what the error queue says."""
        if told.code == errno.EMSGSIZE:
            outcome = "too_big"
        elif told.code == errno.ECONNREFUSED and (not told.is_icmp or told.kind == self.family.unreachable):
            outcome = "refused"
        else:
            outcome = "unreachable"
        more: Frame = {"icmp": told.as_frame(), "mtu": told.mtu, "local": not told.is_icmp}
        self.end(outcome, by=told.offender or None, error=os.strerror(told.code), errno=_name(told.code), **more)

    def broke(self, error: OSError) -> None:
        """End by an error of the socket that no ICMP message explains."""
        refusals = (errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN)
        outcome = "failed"  # this machine's own trouble, such as ENOBUFS, says nothing of the network
        if error.errno in refusals:
            outcome = "refused"
        elif error.errno in NO_WAY:
            outcome = "unreachable"
        elif error.errno == errno.ETIMEDOUT:
            outcome = "timed_out"
        self.end(outcome, error=error.strerror, errno=_name(error.errno))

    def could_not_send(self, error: OSError) -> None:
        """End because the own kernel would not take the packet: nothing was sent, so nothing was blocked either."""
        if error.errno == errno.EMSGSIZE:
            told = read_error(self.sock) if self.sock else None
            self.end("too_big", local=True, mtu=told.mtu if told else None, error=error.strerror, errno="EMSGSIZE")
        else:
            self.end("failed", error=error.strerror or str(error), errno=_name(error.errno))

    def time_out(self) -> None:
        """The deadline: ends the probe unless it has ended already."""
        self.end("timed_out", error=self._note)

    def note(self, text: str) -> None:
        """Remember something strange that was no answer; told if no answer follows."""
        self._note = text

    def heard(self, line: bytes, peer: str) -> None:
        """A responder's line: ends the probe if it answers this very question."""
        try:
            said = json.loads(line)
            name, saw, token, count = said["i_am"], said["i_saw"], said["token"], said["bytes"]
        except (ValueError, KeyError, TypeError):
            self.note(f"{peer} answered {line[:60]!r}, which no responder says")
            return
        if not self.token.startswith(token) or (len(self.payload) > len(self.token.encode()) and token != self.token):
            self.note(f"{peer} answered to another token, {token!r}")
            return
        self.end("answered", by=name, saw=saw, bytes=count)

    def end(self, outcome: str, **more: object) -> None:
        """Conclude, once; later calls say nothing."""
        if self.result is not None:
            return
        self.result = {
            "id": self.asked["id"],
            "outcome": outcome,
            "by": None,
            "saw": None,
            "icmp": None,
            "mtu": None,
            "local": False,
            "error": None,
            "errno": None,
            "rtt_s": round(time.monotonic() - self._sent_at, 6),
            "bytes": None,
            **more,
        }
        self.on_end(self)


class IcmpProbe(Probe):
    """An echo request on a raw socket; the reply must bring back identifier, sequence and payload, from whomever."""

    kind = socket.SOCK_RAW
    default_bytes = 56

    def __init__(self, asked: Frame, serial: int) -> None:
        super().__init__(asked, serial)
        self.protocol = self.family.icmp
        self._identifier = int(asked.get("identifier", os.getpid() & 0xFFFF))
        self._sequence = int(asked.get("sequence", serial & 0xFFFF))

    def open(self) -> None:
        """Not connected, so that a reply from somebody else is seen as such; the filter passes echo replies alone."""
        super().open()
        assert self.sock is not None
        wanted, level = self.family.echo_reply, _SOL_RAW if self.family is FOUR else _SOL_ICMPV6
        words = [0xFFFFFFFF] * (1 if self.family is FOUR else 8)
        words[wanted // 32] &= ~(1 << wanted % 32)
        self.sock.setsockopt(level, _ICMP_FILTER, struct.pack(f"={len(words)}I", *words))

    def send(self) -> None:
        assert self.sock is not None
        asks = self.family.echo_request
        header = struct.pack("!BBHHH", asks, 0, 0, self._identifier, self._sequence)
        # The kernel fills in ICMPv6's, which covers addresses that only it knows.
        total = checksum(header + self.payload) if self.family is FOUR else 0
        header = struct.pack("!BBHHH", asks, 0, total, self._identifier, self._sequence)
        self.sock.sendto(header + self.payload, (self.to, 0))

    def is_mine(self, told: Told) -> bool:
        """A raw socket hears the errors of every echo request of its namespace."""
        # In IPv6 the packet is told with its IP header.
        about = told.about if self.family is FOUR or told.about[:1] >= b"\x80" else told.about[_IPV6_HEADER_BYTES:]
        if len(about) < 8:
            return False
        kind, _, _, identifier, sequence = struct.unpack_from("!BBHHH", about)
        mine = (self.family.echo_request, self._identifier, self._sequence, self.to)
        return (kind, identifier, sequence, told.destination) == mine

    def receive(self, sock: socket.socket, events: int) -> None:
        while self.result is None:
            packet, (source, *_) = sock.recvfrom(_MOST_BYTES)
            message = packet[(packet[0] & 15) * 4 :] if self.family is FOUR else packet
            kind, _, _, identifier, sequence = struct.unpack_from("!BBHHH", message)
            if (kind, identifier, sequence) != (self.family.echo_reply, self._identifier, self._sequence):
                continue
            if message[8:] != self.payload or (self.family is FOUR and checksum(message)):
                self.note(f"{source} replied with another payload ({len(message) - 8} bytes)")
                continue
            self.end("answered", by=source, bytes=len(message) - 8)


class UdpProbe(Probe):
    """One datagram to a responder, and its one line back."""

    def open(self) -> None:
        super().open()
        assert self.sock is not None
        self.sock.connect((self.to, int(self.asked["port"])))

    def send(self) -> None:
        assert self.sock is not None
        self.sock.send(self.payload)

    def receive(self, sock: socket.socket, events: int) -> None:
        while self.result is None:
            self.heard(sock.recv(_MOST_BYTES), self.to)


class TcpProbe(Probe):
    """A connection that sends all its bytes, says so by closing its half, and reads the responder's line."""

    kind = socket.SOCK_STREAM

    def __init__(self, asked: Frame, serial: int) -> None:
        super().__init__(asked, serial)
        self.interest = select.EPOLLIN | select.EPOLLOUT
        self._is_connected = False
        self._left = memoryview(self.payload)
        self._line = bytearray()
        self.on_all_sent: Callable[[Probe], None] = lambda probe: None

    def send(self) -> None:
        assert self.sock is not None
        code = self.sock.connect_ex((self.to, int(self.asked["port"])))
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))

    def receive(self, sock: socket.socket, events: int) -> None:
        if not self._is_connected:
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, os.strerror(code))
            if not events & select.EPOLLOUT:
                return
            self._is_connected = True
        if self.interest & select.EPOLLOUT:
            self._send_rest(sock)
        while True:
            data = sock.recv(4096)
            self._line += data
            if not data:
                break
        self.heard(bytes(self._line), self.to)
        self.end("refused", error=self._note or "the connection was closed without an answer")

    def _send_rest(self, sock: socket.socket) -> None:
        while self._left:
            self._left = self._left[sock.send(self._left) :]
        sock.shutdown(socket.SHUT_WR)
        self.interest = select.EPOLLIN
        self.on_all_sent(self)


_KINDS: dict[str, type[Probe]] = {"icmp": IcmpProbe, "udp": UdpProbe, "tcp": TcpProbe}


class Probes(Role):
    """The role `probes` of a box: listen, unlisten, ask, craft."""

    def __init__(self, channel: socket.socket) -> None:
        super().__init__(channel)
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a socket per question, and one per connection taken
        self._responders: dict[str, Responder] = {}
        self._attended: dict[int, Callable[[int], None]] = {}
        # A selector of its own: TCP probes wait to write, too, and the error queue wakes a socket by EPOLLERR alone.
        self._epoll = select.epoll()
        self.watch(self._epoll.fileno(), self._sockets_ready)

    def attend(self, sock: socket.socket, events: int, ready: Callable[[int], None]) -> None:
        """Call `ready(events)` whenever the socket wakes up."""
        self._attended[sock.fileno()] = ready
        self._epoll.register(sock.fileno(), events)

    def dismiss(self, sock: socket.socket) -> None:
        """Stop attending; a socket that never was is fine."""
        if self._attended.pop(sock.fileno(), None) is not None:
            self._epoll.unregister(sock.fileno())

    def ended(self) -> None:
        for place in list(self._responders):
            self._responders.pop(place).close()
        self._epoll.close()

    def on_listen(self, request: Request) -> Frame:
        """Place a responder (instead of an earlier one) on lists of ports; answers the ports it got."""
        place, name = request.arguments["place"], request.arguments["name"]
        address = request.arguments.get("address") or "0.0.0.0"
        tcp, udp = request.arguments.get("tcp", []), request.arguments.get("udp", [])
        self._unlisten(place)
        responder = Responder(self, name)
        ports = within_network(place, lambda: responder.open(address, tcp, udp))
        self._responders[place] = responder
        return ports

    def on_unlisten(self, request: Request) -> Frame:
        """Take the responder of a place away; that there was none is success."""
        return {"was_listening": self._unlisten(request.arguments["place"])}

    def on_ask(self, request: Request) -> None:
        """Send the probes, each `after_s` seconds from now; answers `results`, in the order asked, at the last end."""
        asked: Sequence[Frame] = request.arguments["probes"]
        strange = sorted({str(one.get("protocol")) for one in asked} - set(_KINDS))
        if strange:
            raise Refused("bug", f"no probe speaks {', '.join(strange)}; legal: {', '.join(_KINDS)}")
        probes = [_KINDS[one["protocol"]](one, serial) for serial, one in enumerate(asked, start=1)]
        left = len(probes)

        def conclude(probe: Probe) -> None:
            nonlocal left
            left -= 1
            if probe.sock is not None:
                self.dismiss(probe.sock)
                probe.sock.close()
            if left == 0:
                request.answer(results=[one.result for one in probes])

        for probe in probes:
            probe.on_end = conclude
        if not probes:
            request.answer(results=[])
        for delay_s in dict.fromkeys(float(probe.asked.get("after_s", 0.0)) for probe in probes):
            group = [probe for probe in probes if float(probe.asked.get("after_s", 0.0)) == delay_s]
            if delay_s:
                self.after(delay_s, partial(self._start_all, group))
            else:
                self._start_all(group)

    def on_craft(self, request: Request) -> Frame:
        """Send raw frames, link header included, on a device; answers how many bytes of each went."""
        place, device = request.arguments["place"], request.arguments["device"]
        frames = [bytes.fromhex(text) for text in request.arguments["frames_hex"]]

        def send() -> list[int]:
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as sock:
                sock.bind((device, 0))
                return [sock.send(frame) for frame in frames]

        return {"sent": within_network(place, send)}

    def _unlisten(self, place: str) -> bool:
        responder = self._responders.pop(place, None)
        if responder is not None:
            responder.close()
        return responder is not None

    def _start_all(self, probes: Sequence[Probe]) -> None:
        for place in dict.fromkeys(probe.place for probe in probes):
            self._open_all(place, [probe for probe in probes if probe.place == place])
        for probe in probes:
            self._start(probe)

    def _open_all(self, place: str, probes: Sequence[Probe]) -> None:
        def open_each() -> None:
            for probe in probes:
                try:
                    probe.open()
                except OSError as error:
                    probe.could_not_send(error)

        try:
            within_network(place, open_each)
        except OSError as error:
            for probe in probes:
                probe.end("failed", error=f"{place}: {error.strerror or error}", errno="NO_PLACE")

    def _start(self, probe: Probe) -> None:
        if probe.result is None:
            probe.begin()
        if probe.result is not None or probe.sock is None:
            return
        sock = probe.sock
        if isinstance(probe, TcpProbe):
            probe.on_all_sent = lambda done: self._epoll.modify(sock.fileno(), done.interest)
        self.attend(sock, probe.interest, probe.ready)
        self._expire(probe, probe.timeout_s)

    def _expire(self, probe: Probe, wait_s: float) -> None:
        """End the probe then, unless this very process was too busy to listen: that is no silence."""
        due = time.monotonic() + wait_s

        def expire() -> None:
            late_s = time.monotonic() - due
            if probe.result is None and late_s > _BUSY_S:
                self._expire(probe, late_s)
            else:
                probe.time_out()

        self.after(wait_s, expire)

    def _sockets_ready(self) -> None:
        for descriptor, events in self._epoll.poll(0):
            ready = self._attended.get(descriptor)
            if ready is not None:  # an earlier event of this batch may have closed it
                ready(events)


def _name(code: int | None) -> str | None:
    return errno.errorcode.get(code, str(code)) if code is not None else None
