"""The line into a box: length-prefixed JSON frames, the same bytes over a socketpair and over a guest's serial line.

Both ends import this file, so it uses the standard library alone. A request is `{"id", "to", "op", ...}`; it is
answered by `{"id", "ok": {...}}` or `{"id", "error": {"kind", "text"}}`, after any number of `{"id", "event": {...}}`.
Towards the box at most WINDOW_BYTES may be unacknowledged (a guest's serial line stalls above about 4 KiB), so
process 1 reports `{"ack": bytes read so far}`; what is larger than SPILL_BYTES travels as a file in the run folder.
"""

from __future__ import annotations

import json
import struct
from typing import Any

Frame = dict[str, Any]

WINDOW_BYTES = 1024
SPILL_BYTES = 16 * 1024
_LONGEST_BYTES = 64 * 1024 * 1024
_HEADER = struct.Struct(">I")


class LineBroken(Exception):
    """The bytes on the line are no frames: the far end is not who we think it is."""


def encode(frame: Frame) -> bytes:
    """The bytes of one frame: 4 bytes of length, big-endian, then UTF-8 JSON."""
    payload = json.dumps(frame, separators=(",", ":")).encode()
    return _HEADER.pack(len(payload)) + payload


class Decoder:
    """Cuts a stream of bytes, however it was chopped up on the way, back into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames completed by `data`. Raises LineBroken on an impossible length or what is not JSON."""
        self._buffer += data
        frames: list[Frame] = []
        while len(self._buffer) >= _HEADER.size:
            (length,) = _HEADER.unpack_from(self._buffer)
            if length > _LONGEST_BYTES:
                raise LineBroken(f"a frame of {length} bytes was announced; the longest is {_LONGEST_BYTES}")
            end = _HEADER.size + length
            if len(self._buffer) < end:
                break
            frames.append(_parsed(bytes(self._buffer[_HEADER.size : end])))
            del self._buffer[:end]
        return frames


def _parsed(payload: bytes) -> Frame:
    try:
        frame = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise LineBroken(f"a frame of {len(payload)} bytes is not JSON: {error}") from error
    if not isinstance(frame, dict):
        raise LineBroken(f"a frame of {len(payload)} bytes is not a JSON object")
    return frame
