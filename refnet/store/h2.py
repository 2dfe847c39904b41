"""One request on one HTTP/2 connection in clear text (RFC 9113, prior knowledge): as much as a gRPC stream takes.

Headers go out as literals and come in unread: what counts is in the data, and whether the stream still stands.
"""

from __future__ import annotations

import struct

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_ACK = _END_STREAM = 0x1
_END_HEADERS, _PADDED = 0x4, 0x8
_STREAM = 1
# What the other side may send before we say that we have read it; we do so with every frame.
_WINDOW = 1 << 24
_FIRST_WINDOW = 65535
_LARGEST = 1 << 24
# RFC 9113, section 6.5.2: no table to remember headers in, no pushes, and our window.
_OUR_SETTINGS = ((1, 0), (2, 0), (4, _WINDOW))


class Broken(Exception):
    """The stream has ended or makes no sense; the message says why."""


def opening(authority: str, path: str) -> bytes:
    """The first bytes of a connection: preface, settings, and the head of a gRPC request."""
    settings = b"".join(struct.pack(">HI", name, value) for name, value in _OUR_SETTINGS)
    head = (
        b"\x83\x86"  # :method POST and :scheme http, from the static table (RFC 7541, appendix A)
        + _literal(b"\x04", path)  # :path
        + _literal(b"\x01", authority)  # :authority
        + _literal(b"\x0f\x10", "application/grpc")  # content-type
        + _literal(b"\x00" + _string("te"), "trailers")
    )
    window = struct.pack(">I", _WINDOW - _FIRST_WINDOW)
    return (
        _PREFACE
        + frame(SETTINGS, 0, 0, settings)
        + frame(WINDOW_UPDATE, 0, 0, window)
        + frame(HEADERS, _END_HEADERS, _STREAM, head)
    )


def message(body: bytes) -> bytes:
    """One gRPC message, as a frame of the request."""
    return frame(DATA, 0, _STREAM, struct.pack(">BI", 0, len(body)) + body)


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """RFC 9113, section 4.1."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


class Incoming:
    """What comes: `feed` bytes, take the gRPC messages that are complete, and send back what it says."""

    def __init__(self) -> None:
        self.reply = b""
        self._raw = b""
        self._data = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Messages that have come whole. Raises Broken when the stream ended or makes no sense."""
        self._raw += data
        while len(self._raw) >= 9:
            length = int.from_bytes(self._raw[:3], "big")
            if length > _LARGEST:
                raise Broken("a frame that nobody may send")
            if len(self._raw) < 9 + length:
                break
            kind, flags = self._raw[3], self._raw[4]
            payload, self._raw = self._raw[9 : 9 + length], self._raw[9 + length :]
            self._take(kind, flags, payload)
        return self._messages()

    def _take(self, kind: int, flags: int, payload: bytes) -> None:
        if kind == DATA:
            self._data += payload[1 : len(payload) - payload[0]] if flags & _PADDED and payload else payload
            if payload:
                read = struct.pack(">I", len(payload))
                self.reply += frame(WINDOW_UPDATE, 0, 0, read) + frame(WINDOW_UPDATE, 0, _STREAM, read)
        elif kind == SETTINGS and not flags & _ACK:
            self.reply += frame(SETTINGS, _ACK, 0, b"")
        elif kind == PING and not flags & _ACK:
            self.reply += frame(PING, _ACK, 0, payload)
        elif kind == GOAWAY:
            raise Broken(f"told to go away: {payload[8:].decode(errors='replace') or 'no reason given'}")
        elif kind == RST_STREAM:
            raise Broken(f"stream reset: error {int.from_bytes(payload[:4], 'big')}")
        if kind in (DATA, HEADERS) and flags & _END_STREAM:
            raise Broken("ended by the other side")

    def _messages(self) -> list[bytes]:
        found = []
        while len(self._data) >= 5:
            is_packed, length = struct.unpack_from(">BI", self._data)
            if is_packed:
                raise Broken("a compressed message, which nobody asked for")
            if len(self._data) < 5 + length:
                break
            found.append(self._data[5 : 5 + length])
            self._data = self._data[5 + length :]
        return found


def _literal(name: bytes, value: str) -> bytes:
    """A header that nobody is to remember (RFC 7541, section 6.2.2)."""
    return name + _string(value)


def _string(text: str) -> bytes:
    """RFC 7541, section 5.2, without Huffman's code; ours are short."""
    raw = text.encode()
    assert len(raw) < 127
    return bytes([len(raw)]) + raw
