"""A small pcapng reader of our own: the blocks as they stand in the file, with what other readers keep to themselves.

Interface names, directions, comments and drop counters come from here, and its frame count keeps both decoders honest.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tunlab.box.inside.pcapng import (
    BYTE_ORDER_MAGIC,
    COMMENT,
    EPB_FLAGS,
    ETHERNET,
    IF_NAME,
    IF_TSRESOL,
    INTERFACE,
    ISB_DROPPED_BY_KERNEL,
    ISB_RECEIVED,
    PACKET,
    RAW_IP,
    SECTION,
    STATISTICS,
    interface_block,
    packet_block,
    section_block,
    statistics_block,
)
from tunlab.errors import WorldError

__all__ = [
    "ETHERNET",
    "RAW_IP",
    "FileContents",
    "Interface",
    "Packet",
    "interface_block",
    "packet_block",
    "read_file",
    "section_block",
    "statistics_block",
]

_IN, _OUT = 1, 2
_WHY = "the box died while it wrote, or something else than a capture stands there; run the capture again"


@dataclass(frozen=True, slots=True)
class Interface:
    """One tap of the file. `received` and `dropped` are None until its statistics were written (at the very end)."""

    name: str
    link_type: int
    ticks_per_s: int
    received: int | None = None
    dropped: int | None = None


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet block; `number` counts from 1, as Wireshark does. `length` is the one on the wire."""

    number: int
    interface: int
    time_ns: int
    direction: str
    comment: str
    length: int
    data: bytes


@dataclass(frozen=True, slots=True)
class FileContents:
    """All blocks of a file that matter here."""

    path: Path
    interfaces: tuple[Interface, ...]
    packets: tuple[Packet, ...]


def read_file(path: Path) -> FileContents:
    """Read a whole file. Raises WorldError: missing, empty, truncated (with the offset), not pcapng, broken inside."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WorldError(f"{path.name}: reading the capture: {error.strerror}", hint=f"looked at {path}") from error
    if not data:
        raise WorldError(f"{path.name}: an empty file, no capture: not even its header was written", hint=_WHY)
    interfaces: list[Interface] = []
    packets: list[Packet] = []
    for offset, kind, body in _blocks(path.name, data):
        try:
            if kind == INTERFACE:
                interfaces.append(_interface(body))
            elif kind == PACKET:
                packets.append(_packet(len(packets) + 1, body, interfaces))
            elif kind == STATISTICS:
                _count(body, interfaces)
        except (struct.error, IndexError, UnicodeDecodeError) as error:
            raise WorldError(
                f"{path.name}: broken block of type {kind} at byte {offset}: {error}", hint=_WHY
            ) from error
    return FileContents(path, tuple(interfaces), tuple(packets))


def _blocks(name: str, data: bytes) -> Iterator[tuple[int, int, bytes]]:
    offset = 0
    while offset < len(data):
        if len(data) - offset < 12:
            raise _truncated(name, offset, len(data))
        kind, length = struct.unpack_from("<II", data, offset)
        if offset == 0:
            magic = struct.unpack_from("<I", data, 8)[0]
            if kind != SECTION or magic != BYTE_ORDER_MAGIC:
                raise WorldError(f"{name}: not a little-endian pcapng file (begins with {data[:4].hex()})", hint=_WHY)
        if length < 12 or length % 4:
            raise WorldError(f"{name}: a block of {length} bytes at byte {offset}: not a block", hint=_WHY)
        if offset + length > len(data):
            raise _truncated(name, offset, len(data))
        if data[offset + length - 4 : offset + length] != data[offset + 4 : offset + 8]:
            raise WorldError(f"{name}: the block at byte {offset} names two lengths", hint=_WHY)
        yield offset, kind, data[offset + 8 : offset + length - 4]
        offset += length


def _truncated(name: str, offset: int, size: int) -> WorldError:
    return WorldError(f"{name}: truncated: the block at byte {offset} runs past the end, byte {size}", hint=_WHY)


def _options(body: bytes, offset: int) -> dict[int, bytes]:
    options: dict[int, bytes] = {}
    while offset + 4 <= len(body):
        code, length = struct.unpack_from("<HH", body, offset)
        if code == 0:
            break
        options.setdefault(code, body[offset + 4 : offset + 4 + length])
        offset += 4 + length + -length % 4
    return options


def _interface(body: bytes) -> Interface:
    (link_type,) = struct.unpack_from("<H", body, 0)
    options = _options(body, 8)
    resolution = options.get(IF_TSRESOL, b"\x06")[0]
    ticks_per_s = 2 ** (resolution & 0x7F) if resolution & 0x80 else int(10**resolution)
    return Interface(options.get(IF_NAME, b"").decode(), link_type, ticks_per_s)


def _packet(number: int, body: bytes, interfaces: list[Interface]) -> Packet:
    interface, high, low, captured, length = struct.unpack_from("<IIIII", body, 0)
    options = _options(body, 20 + captured + -captured % 4)
    flags = int.from_bytes(options.get(EPB_FLAGS, b""), "little") & 3
    time_ns = (high << 32 | low) * 1_000_000_000 // interfaces[interface].ticks_per_s
    data = body[20 : 20 + captured]
    if len(data) < captured:
        raise IndexError(f"packet {number} promises {captured} bytes and has {len(data)}")
    direction = {_IN: "in", _OUT: "out"}.get(flags, "")
    return Packet(number, interface, time_ns, direction, options.get(COMMENT, b"").decode(), length, data)


def _count(body: bytes, interfaces: list[Interface]) -> None:
    (number,) = struct.unpack_from("<I", body, 0)
    options = _options(body, 12)
    at = interfaces[number]
    interfaces[number] = Interface(
        at.name, at.link_type, at.ticks_per_s, _counter(options, ISB_RECEIVED), _counter(options, ISB_DROPPED_BY_KERNEL)
    )


def _counter(options: dict[int, bytes], code: int) -> int | None:
    value = options.get(code)
    return None if value is None else int.from_bytes(value, "little")
