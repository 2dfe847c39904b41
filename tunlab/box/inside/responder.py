"""What answers probes in one place: a line that says who answers, whom it saw and how much it got."""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Protocol

from tunlab.box.inside.families import FOUR, SIX, family_of
from tunlab.box.line import Frame

_MOST_BYTES = 65536


class Loop(Protocol):
    """Whoever watches sockets for a responder."""

    def attend(self, sock: socket.socket, events: int, ready: Callable[[int], None]) -> None:
        """Call `ready(events)` whenever the socket wakes up."""

    def dismiss(self, sock: socket.socket) -> None:
        """Stop attending."""


class Responder:
    """Names itself to whoever asks in one place: one JSON line per TCP connection or UDP datagram."""

    def __init__(self, loop: Loop, name: str) -> None:
        self._loop = loop
        self._name = name
        self._sockets: set[socket.socket] = set()

    def open(self, address: str, tcp: Iterable[int], udp: Iterable[int]) -> Frame:
        """Bind; the caller is in the right namespace. Answers the ports. Raises OSError, leaving nothing open.

        Who binds to every IPv4 address gets every IPv6 address too, where the kernel has that.
        """
        try:
            ports = {
                "tcp": [self._open_tcp(address, port) for port in tcp],
                "udp": [self._open_udp(address, port) for port in udp],
            }
            if address == FOUR.everywhere and Path("/proc/net/if_inet6").exists():
                for port in ports["tcp"]:
                    self._open_tcp(SIX.everywhere, port)
                for port in ports["udp"]:
                    self._open_udp(SIX.everywhere, port)
            return ports
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Close every socket, connections in progress included."""
        for sock in list(self._sockets):
            self._drop(sock)

    def _open_tcp(self, address: str, port: int) -> int:
        listener = self._add(socket.SOCK_STREAM, address, port)
        listener.listen(256)
        self._loop.attend(listener, select.EPOLLIN, lambda _: self._accept(listener))
        return int(listener.getsockname()[1])

    def _open_udp(self, address: str, port: int) -> int:
        receiver = self._add(socket.SOCK_DGRAM, address, port)
        family = family_of(address)
        receiver.setsockopt(family.level, family.wants_packet_info, 1)
        self._loop.attend(receiver, select.EPOLLIN, lambda _: self._answer_datagrams(receiver))
        return int(receiver.getsockname()[1])

    def _add(self, kind: int, address: str, port: int) -> socket.socket:
        family = family_of(address)
        sock = socket.socket(family.word, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._sockets.add(sock)
        if family is SIX:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:  # on UDP this would let two responders share one port unseen
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        return sock

    def _drop(self, sock: socket.socket) -> None:
        self._sockets.discard(sock)
        self._loop.dismiss(sock)
        sock.close()

    def _line(self, peer: tuple[str, int], head: bytes, count: int) -> bytes:
        token = head.split(b"\n", 1)[0].decode(errors="replace")
        said = {"i_am": self._name, "i_saw": f"{peer[0]}:{peer[1]}", "token": token, "bytes": count}
        return json.dumps(said).encode() + b"\n"

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, peer = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            sock.setblocking(False)
            self._sockets.add(sock)
            got = {"head": b"", "count": 0}
            self._loop.attend(sock, select.EPOLLIN, partial(self._serve, sock, peer, got))

    def _serve(self, sock: socket.socket, peer: tuple[str, int], got: Frame, _events: int) -> None:
        try:
            while data := sock.recv(_MOST_BYTES):
                got["count"] += len(data)
                got["head"] = (got["head"] + data)[:1024]
            sock.send(self._line(peer, got["head"], got["count"]))
        except BlockingIOError:
            return
        except OSError:
            pass  # the asking side is gone; its own result tells why
        self._drop(sock)

    def _answer_datagrams(self, sock: socket.socket) -> None:
        """Answer from the very address that was asked: a node has several, and a connected asker hears only that."""
        while True:
            try:
                data, ancillary, _, peer = sock.recvmsg(_MOST_BYTES, 256)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error about an earlier answer, reported once; the next turn reads on
            family = SIX if sock.family == SIX.word else FOUR
            wanted = (family.level, family.packet_info)
            source = next((data for level, kind, data in ancillary if (level, kind) == wanted), None)
            control: list[tuple[int, int, bytes]] = []
            if source is not None:
                control = [(*wanted, family.answer_from(source))]
            try:
                sock.sendmsg([self._line(peer, data[:1024], len(data))], control, 0, peer)
            except OSError:
                continue  # no way back to the asker: it will see that nobody answered
