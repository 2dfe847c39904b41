"""HTTP/1.1 over one plain socket: just enough for etcd's JSON gateway.

http.client costs the CNI plugin more start-up time than everything it does with etcd, hence this.
"""

from __future__ import annotations

import socket
import time

from refnet.errors import InvalidResource, Mistake, StoreUnavailable

DEFAULT_PORT = 2379
_READ = 65536
_MAX_HEADER = 65536


def split_endpoint(endpoint: str) -> tuple[str, int]:
    """`http://host:port` as host and port. Raises InvalidResource for anything else, https included."""
    legal = "http://HOST:PORT, several separated by commas"
    scheme, separator, rest = endpoint.partition("://")
    if separator and scheme != "http":
        hint = "TLS towards etcd is not supported yet" if scheme == "https" else ""
        raise InvalidResource("etcd endpoint", [Mistake("etcd_endpoints", endpoint, legal, hint)])
    rest = (rest if separator else endpoint).rstrip("/")
    host, port = rest, str(DEFAULT_PORT)
    if rest.startswith("["):
        host, _, after = rest[1:].partition("]")
        port = after[1:] if after.startswith(":") else port
    elif ":" in rest:
        host, _, port = rest.rpartition(":")
    if not host or "/" in host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise InvalidResource("etcd endpoint", [Mistake("etcd_endpoints", endpoint, legal)])
    return host, int(port)


class Stale(Exception):
    """The server closed a kept connection before it said a word: the request was not seen, it may be sent again."""


class ChunkDecoder:
    """Undoes `Transfer-Encoding: chunked` from bytes as they come (RFC 9112, section 7.1)."""

    def __init__(self) -> None:
        self.ended = False
        self._raw = b""

    def feed(self, data: bytes) -> bytes:
        """What became readable; an incomplete chunk is kept for the next call. Raises ValueError on garbage."""
        self._raw += data
        out = []
        while not self.ended:
            line, found, rest = self._raw.partition(b"\r\n")
            if not found:
                break
            size = int(line.split(b";")[0], 16)
            if size == 0:
                if b"\r\n" not in rest:
                    break
                self.ended = True
                self._raw = rest.partition(b"\r\n")[2]
                break
            if len(rest) < size + 2:
                break
            out.append(rest[:size])
            self._raw = rest[size + 2 :]
        return b"".join(out)


class Connection:
    """One TCP connection to one endpoint; every blocking step obeys the deadline it is given (time.monotonic)."""

    def __init__(self, endpoint: str, deadline: float) -> None:
        self.endpoint = endpoint
        self._host, port = split_endpoint(endpoint)
        self._buffer = b""
        self.used = False
        try:
            self.socket = socket.create_connection((self._host, port), timeout=_left(deadline))
        except (TimeoutError, OSError) as error:
            raise StoreUnavailable(f"etcd {endpoint}: connect: {_reason(error)}") from error
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, path: str, body: bytes, deadline: float) -> None:
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        try:
            self.socket.settimeout(_left(deadline))
            self.socket.sendall(head.encode() + body)
        except TimeoutError as error:
            raise StoreUnavailable(f"etcd {self.endpoint}: {path}: {_reason(error)}") from error
        except OSError as error:
            if self.used:
                raise Stale from error
            raise StoreUnavailable(f"etcd {self.endpoint}: {path}: {_reason(error)}") from error

    def read_head(self, path: str, deadline: float, *, step: int = _READ) -> tuple[int, dict[str, str]]:
        """Status and headers (names in lower case) of the answer, received at most `step` bytes at a time.

        A step of 1 takes not one byte of the body: a selector then sees all of it.
        """
        while b"\r\n\r\n" not in self._buffer:
            if len(self._buffer) > _MAX_HEADER:
                raise StoreUnavailable(f"etcd {self.endpoint}: {path}: headers without end")
            if not self._more(path, deadline, step):
                if self.used and not self._buffer:
                    raise Stale
                raise StoreUnavailable(f"etcd {self.endpoint}: {path}: closed the connection without an answer")
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        words = first.split(" ", 2)
        if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdecimal():
            raise StoreUnavailable(f"etcd {self.endpoint}: {path}: not an HTTP answer: {first[:60]!r}")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return int(words[1]), headers

    def read_body(self, path: str, headers: dict[str, str], deadline: float) -> bytes:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            decoder = ChunkDecoder()
            parts = [self._decode(decoder, path)]
            while not decoder.ended:
                self._must_more(path, deadline)
                parts.append(self._decode(decoder, path))
            return b"".join(parts)
        length = int(headers.get("content-length", "0"))
        while len(self._buffer) < length:
            self._must_more(path, deadline)
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return body

    def take_rest(self) -> bytes:
        """Bytes already received that nobody has read."""
        rest, self._buffer = self._buffer, b""
        return rest

    def close(self) -> None:
        self.socket.close()

    def _decode(self, decoder: ChunkDecoder, path: str) -> bytes:
        try:
            return decoder.feed(self.take_rest())
        except ValueError as error:
            raise StoreUnavailable(f"etcd {self.endpoint}: {path}: misshapen chunk") from error

    def _must_more(self, path: str, deadline: float) -> None:
        if not self._more(path, deadline):
            raise StoreUnavailable(f"etcd {self.endpoint}: {path}: closed the connection amid an answer")

    def _more(self, path: str, deadline: float, step: int = _READ) -> bool:
        try:
            self.socket.settimeout(_left(deadline))
            data = self.socket.recv(step)
        except TimeoutError as error:
            raise StoreUnavailable(f"etcd {self.endpoint}: {path}: {_reason(error)}") from error
        except OSError as error:
            if self.used and not self._buffer:
                raise Stale from error
            raise StoreUnavailable(f"etcd {self.endpoint}: {path}: {_reason(error)}") from error
        self._buffer += data
        return bool(data)


def _left(deadline: float) -> float:
    """Seconds until the deadline; never 0, which a socket takes for non-blocking."""
    return max(deadline - time.monotonic(), 0.001)


def _reason(error: OSError) -> str:
    return "no answer in time" if isinstance(error, TimeoutError) else (error.strerror or str(error))
