"""The writing half of pcapng: blocks as bytes, for the program inside the box (and for tests). Standard library alone.

Format: draft-ietf-opsawg-pcapng, sections 4.1 (section header), 4.2 (interface), 4.3 (packet), 4.6 (statistics).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

SECTION, INTERFACE, STATISTICS, PACKET = 0x0A0D0D0A, 1, 5, 6
BYTE_ORDER_MAGIC = 0x1A2B3C4D
COMMENT, HARDWARE, USER_APPLICATION = 1, 2, 4
IF_NAME, IF_MAC, IF_TSRESOL = 2, 6, 9
EPB_FLAGS = 2
ISB_RECEIVED, ISB_DROPPED_BY_KERNEL = 4, 7
ETHERNET, RAW_IP = 1, 101

_HEAD = struct.Struct("<II")
_OPTION = struct.Struct("<HH")
_SECTION = struct.Struct("<IHHq")
_INTERFACE = struct.Struct("<HHI")
_PACKET = struct.Struct("<IIIII")

Options = Iterable[tuple[int, bytes]]


def block(kind: int, body: bytes, options: Options = ()) -> bytes:
    """One block: type, length, body (padded to 4 bytes), options, length again."""
    parts = [body, b"\0" * (-len(body) % 4)]
    ended = False
    for code, value in options:
        parts += [_OPTION.pack(code, len(value)), value, b"\0" * (-len(value) % 4)]
        ended = True
    if ended:
        parts.append(b"\0\0\0\0")
    content = b"".join(parts)
    length = len(content) + 12
    return _HEAD.pack(kind, length) + content + length.to_bytes(4, "little")


def section_block() -> bytes:
    """What every file begins with."""
    return block(SECTION, _SECTION.pack(BYTE_ORDER_MAGIC, 1, 0, -1), [(USER_APPLICATION, b"tunlab")])


def interface_block(name: str, link_type: int, mac: bytes = b"") -> bytes:
    """One interface; packets name it by its number, counted from 0 in the order of these blocks. Nanoseconds."""
    options = [(IF_NAME, name.encode()), (IF_TSRESOL, b"\x09")]
    if len(mac) == 6:
        options.insert(1, (IF_MAC, mac))
    return block(INTERFACE, _INTERFACE.pack(link_type, 0, 0), options)


def packet_block(
    interface: int, time_ns: int, data: bytes, length: int = 0, flags: int = 0, comment: str = ""
) -> bytes:
    """One packet; `length` is the one on the wire where it was cut, `flags` the direction (1 in, 2 out) and kind."""
    head = _PACKET.pack(interface, time_ns >> 32, time_ns & 0xFFFFFFFF, len(data), length or len(data))
    options = [(EPB_FLAGS, flags.to_bytes(4, "little"))] if flags else []
    if comment:
        options.append((COMMENT, comment.encode()))
    return block(PACKET, head + data, options)


def statistics_block(interface: int, time_ns: int, received: int, dropped: int) -> bytes:
    """What the kernel counted for an interface: packets that reached the tap, and those of them it had to drop."""
    head = struct.pack("<III", interface, time_ns >> 32, time_ns & 0xFFFFFFFF)
    return block(
        STATISTICS,
        head,
        [(ISB_RECEIVED, received.to_bytes(8, "little")), (ISB_DROPPED_BY_KERNEL, dropped.to_bytes(8, "little"))],
    )
