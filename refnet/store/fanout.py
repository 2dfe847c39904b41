"""Watching through a tier of etcd's gRPC proxies, which merge the watches of many agents into one of their own.

The proxies speak gRPC alone, so this is the one place where we do; everything else goes to etcd's JSON gateway.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator, Sequence

from refnet.errors import StoreUnavailable
from refnet.store import h2
from refnet.store.etcd import Change, decode_value, keep_alive
from refnet.store.http import Connection

_PATH = "/etcdserverpb.Watch/Watch"
# Fields of etcd's rpc.proto and kv.proto.
_CREATE, _KEY, _RANGE_END, _START_REVISION = 1, 1, 2, 3
_CANCELED, _COMPACT_REVISION, _CANCEL_REASON, _EVENTS = 4, 5, 6, 11
_EVENT_TYPE, _EVENT_KV, _DELETED = 1, 2, 1
_KV_KEY, _KV_MOD_REVISION, _KV_VALUE = 1, 3, 5
_VARINT, _LENGTH = 0, 2

Field = int | bytes


def in_order_for(node: str, endpoints: Sequence[str]) -> tuple[str, ...]:
    """The proxies as this node tries them: each node begins elsewhere, so that all carry alike."""
    first = zlib.crc32(node.encode()) % len(endpoints) if endpoints else 0
    return (*endpoints[first:], *endpoints[:first])


class ProxyWatch:
    """The same as a Watch of etcd's own: wait until `fileno()` is readable, then `read()`."""

    def __init__(self, connection: Connection, prefix: str, from_revision: int) -> None:
        self._connection = connection
        self._incoming = h2.Incoming()
        authority = connection.endpoint.partition("://")[2].rstrip("/")
        connection.socket.sendall(h2.opening(authority, _PATH) + h2.message(create_request(prefix, from_revision)))
        connection.socket.setblocking(False)
        keep_alive(connection)

    def fileno(self) -> int:
        return self._connection.socket.fileno()

    def read(self) -> list[Change]:
        """Changes that have arrived, perhaps none; never blocks. Raises StoreUnavailable when the stream was cut."""
        changes: list[Change] = []
        while True:
            try:
                data = self._connection.socket.recv(65536)
            except BlockingIOError:
                return changes
            except OSError as error:
                raise self._cut(error.strerror or str(error)) from error
            if not data:
                raise self._cut("closed by the proxy")
            try:
                for message in self._incoming.feed(data):
                    changes += read_response(message)
                self._answer()
            except (h2.Broken, ValueError, OSError) as error:
                raise self._cut(str(error)) from error

    def close(self) -> None:
        self._connection.close()

    def _answer(self) -> None:
        """Settings, pings and windows are owed a word."""
        reply, self._incoming.reply = self._incoming.reply, b""
        if reply:
            self._connection.socket.sendall(reply)

    def _cut(self, reason: str) -> StoreUnavailable:
        return StoreUnavailable(f"proxy {self._connection.endpoint}: watch: {reason}")


def watch_through(endpoints: Sequence[str], prefix: str, from_revision: int, timeout_s: float) -> ProxyWatch:
    """A watch at the first proxy that takes it. Raises StoreUnavailable when none does.

    Never at the store itself: were the proxies down, hundreds of agents would come to it at once.
    """
    deadline = time.monotonic() + timeout_s
    refusals = []
    for tried, endpoint in enumerate(endpoints):
        now = time.monotonic()
        try:
            connection = Connection(endpoint, now + (deadline - now) / (len(endpoints) - tried))
        except StoreUnavailable as error:
            refusals.append(error.message)
            continue
        try:
            return ProxyWatch(connection, prefix, from_revision)
        except OSError as error:
            connection.close()
            refusals.append(f"proxy {endpoint}: {error.strerror or error}")
    raise StoreUnavailable("; ".join(refusals), hint="are the proxies running, and are these their addresses?")


def create_request(prefix: str, from_revision: int) -> bytes:
    """A WatchRequest for all keys below the prefix, from that revision on."""
    raw = prefix.encode()
    end = raw[:-1] + bytes([raw[-1] + 1])
    body = _bytes(_KEY, raw) + _bytes(_RANGE_END, end) + _number(_START_REVISION, from_revision)
    return _bytes(_CREATE, body)


def read_response(message: bytes) -> list[Change]:
    """The changes in a WatchResponse. Raises h2.Broken if it says that the watch has ended, or says nonsense."""
    changes: list[Change] = []
    said = dict[int, Field]()
    for number, value in fields(message):
        if number == _EVENTS:
            changes.append(_change(value))
        said[number] = value
    if said.get(_CANCELED):
        compacted, reason = said.get(_COMPACT_REVISION), said.get(_CANCEL_REASON, b"")
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else ""
        raise h2.Broken(f"cancelled: compacted up to revision {compacted!r}" if compacted else f"cancelled: {text}")
    return changes


def _change(event: Field) -> Change:
    about = dict(fields(event))
    kv = dict(fields(about.get(_EVENT_KV, b"")))
    key, value, revision = kv.get(_KV_KEY, b""), kv.get(_KV_VALUE, b""), kv.get(_KV_MOD_REVISION, 0)
    if not (isinstance(key, bytes) and isinstance(value, bytes) and isinstance(revision, int)):
        raise h2.Broken("an event of another shape")
    is_gone = about.get(_EVENT_TYPE) == _DELETED
    return Change(key.decode(errors="replace"), None if is_gone else decode_value(value), revision)


def fields(message: Field) -> Iterator[tuple[int, Field]]:
    """The fields of a protobuf message that are numbers or bytes. Raises h2.Broken or ValueError on nonsense."""
    if not isinstance(message, bytes):
        raise h2.Broken("a number where a message should be")
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        if tag & 7 == _VARINT:
            value, position = _varint(message, position)
            yield tag >> 3, value
        elif tag & 7 == _LENGTH:
            length, position = _varint(message, position)
            if position + length > len(message):
                raise ValueError("a field longer than its message")
            yield tag >> 3, message[position : position + length]
            position += length
        else:
            raise ValueError(f"a field of wire type {tag & 7}")


def _varint(raw: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(raw):
            break
        byte = raw[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number without end")


def _number(field: int, value: int) -> bytes:
    return _encoded(field << 3 | _VARINT) + _encoded(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _encoded(field << 3 | _LENGTH) + _encoded(len(value)) + value


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
