"""A small HTTP server in the agent's own loop: one GET a connection, answered from what is known at that moment.

No thread and no waiting: a peer that sends slowly or never reads costs one of a few places, never the agent.
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable
from dataclasses import dataclass

_MOST_CONNECTIONS = 16
_MOST_BYTES = 8192
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


@dataclass(frozen=True)
class Reply:
    """What is said to one request."""

    status: int
    text: str
    kind: str = "text/plain; charset=utf-8"

    def encoded(self, *, with_body: bool = True) -> bytes:
        """The whole response; a HEAD gets the head alone."""
        body = self.text.encode()
        head = (
            f"HTTP/1.1 {self.status} {_REASONS[self.status]}\r\nContent-Type: {self.kind}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + (body if with_body else b"")


Answer = Callable[[str], Reply]


class Listener:
    """Listens on one address while it can; `answer` is given the path of each request."""

    def __init__(self, selector: selectors.BaseSelector, host: str, port: int, answer: Answer) -> None:
        self.host, self.port = host, port
        self._selector = selector
        self._answer = answer
        self._socket: socket.socket | None = None
        self._open: list[_Connection] = []

    def listen(self) -> str:
        """Open the port unless it is open; why that is not possible now, or "" if it is open."""
        if self._socket:
            return ""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self.host, self.port))
            listener.listen(_MOST_CONNECTIONS)
        except OSError as error:
            listener.close()
            return f"{self.host}:{self.port}: {error.strerror or error}"
        self._socket = listener
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        return ""

    def _accept(self) -> None:
        assert self._socket
        try:
            peer, _ = self._socket.accept()
        except OSError:
            return  # it went away again
        peer.setblocking(False)
        self._open = [connection for connection in self._open if not connection.is_closed]
        if len(self._open) >= _MOST_CONNECTIONS:
            self._open.pop(0).close()
        self._open.append(_Connection(self._selector, peer, self._answer))


class _Connection:
    """One request and its reply."""

    def __init__(self, selector: selectors.BaseSelector, peer: socket.socket, answer: Answer) -> None:
        self.is_closed = False
        self._selector = selector
        self._peer = peer
        self._answer = answer
        self._request = b""
        self._left = b""
        selector.register(peer, selectors.EVENT_READ, self._read)

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self._selector.unregister(self._peer)
            self._peer.close()

    def _read(self) -> None:
        if self.is_closed:
            return  # closed for another's sake in the same round
        try:
            data = self._peer.recv(_MOST_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self._request += data
        if b"\r\n\r\n" in self._request or len(self._request) > _MOST_BYTES:
            self._left = self._reply()
            self._selector.modify(self._peer, selectors.EVENT_WRITE, self._write)
        elif not data:
            self.close()

    def _reply(self) -> bytes:
        words = self._request.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/") or len(self._request) > _MOST_BYTES:
            return Reply(400, "not an HTTP request\n").encoded()
        if words[0] not in (b"GET", b"HEAD"):
            return Reply(405, "GET or HEAD\n").encoded()
        path = words[1].decode(errors="replace").partition("?")[0]
        return self._answer(path).encoded(with_body=words[0] == b"GET")

    def _write(self) -> None:
        if self.is_closed:
            return
        try:
            self._left = self._left[self._peer.send(self._left) :]
        except BlockingIOError:
            return
        except OSError:
            self._left = b""
        if not self._left:
            self.close()
