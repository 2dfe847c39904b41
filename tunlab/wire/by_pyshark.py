"""The first decoder: pyshark, in XML mode, the only one of its modes that keeps the second IP header.

Fields are looked up by name and byte offset, so the headers that an ICMP error quotes (pyshark pours them into the
ICMP layer) are read by the very code that reads the frame's own. `Any` lives here because pyshark has no types.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunlab.errors import WorldError
from tunlab.wire.frames import PAYLOAD_BYTES, Arp, Ethernet, Header, Icmp, Icmpv6, Ipv4, Ipv6, Payload, Tcp, Udp, Vxlan
from tunlab.wire.pcapng import ETHERNET, FileContents

_ENDING_S = 30.0
_FLAG_LETTERS = "FSRPAUEC"
_AFTER_ETHERNET = {0x0800: "ip", 0x0806: "arp", 0x86DD: "ipv6"}
_AFTER_IP = {1: "icmp", 4: "ip", 6: "tcp", 17: "udp"}
_AFTER_IPV6 = {6: "tcp", 17: "udp", 58: "icmpv6"}
_ICMP_ERRORS = (3, 4, 5, 11, 12)
_ICMPV6_ERRORS = (1, 2, 3, 4)
_GOOD, _BAD = "1", "0"

# A header, the word of the next one ("" for none), and where it begins
Step = tuple[Header, str, int]


def preferences(vxlan_ports: Sequence[int]) -> dict[str, str]:
    """What tshark has to be told: nothing is put together again, everything is computed.

    No analysis of sequence numbers either: a segment that passes four taps would be one segment and three
    retransmissions to it, and of those it does not read what is inside.
    """
    return {
        "ip.defragment": "FALSE",
        "ip.check_checksum": "TRUE",
        "udp.check_checksum": "TRUE",
        "tcp.check_checksum": "TRUE",
        "tcp.analyze_sequence_numbers": "FALSE",
        "tcp.desegment_tcp_streams": "FALSE",
        "tcp.relative_sequence_numbers": "FALSE",
        "vxlan.udp.port": ",".join(str(port) for port in vxlan_ports),
    }


def read_headers(contents: FileContents, vxlan_ports: Sequence[int]) -> list[tuple[Header, ...]]:
    """The headers of every packet of a file. Raises WorldError: no tshark, or tshark failed or read another number."""
    ends = {packet.number: packet for packet in contents.packets}
    found: list[tuple[Header, ...]] = []
    with packets_of(contents.path, preferences(vxlan_ports)) as packets:
        for packet in packets:
            number = int(packet.number)
            if number != len(found) + 1 or number not in ends:
                raise WorldError(f"{contents.path.name}: tshark tells of frame {number} after frame {len(found)}")
            mine = ends[number]
            link_type = contents.interfaces[mine.interface].link_type
            found.append(_headers(packet, link_type, mine.data))
    return found


@contextlib.contextmanager
def packets_of(path: Path, prefs: Mapping[str, str], display_filter: str | None = None) -> Iterator[Iterator[Any]]:
    """pyshark's packets of a file, on an event loop of its own, with nobody's Wireshark settings. Raises WorldError."""
    tshark = shutil.which("tshark")
    if tshark is None:
        raise WorldError(f"{path.name}: decoding: there is no tshark", hint="apt-get install tshark")
    loop = asyncio.new_event_loop()
    capture = None
    try:
        with tempfile.TemporaryDirectory(prefix="tunlab-") as nobody, _environment("WIRESHARK_CONFIG_DIR", nobody):
            capture = _capture_class()(
                str(path),
                eventloop=loop,
                keep_packets=False,
                tshark_path=tshark,
                override_prefs=dict(prefs),
                display_filter=display_filter,
            )
            with capture:
                yield iter(capture)
    except _crash_class() as error:
        said = loop.run_until_complete(capture.settle()) if capture is not None else ""
        raise WorldError(f"{path.name}: tshark could not read it: {said or str(error).splitlines()[0]}") from error
    finally:
        if capture is not None:
            loop.run_until_complete(capture.settle())
        loop.close()


@functools.cache
def _capture_class() -> Any:
    import pyshark

    class Capture(pyshark.FileCapture):  # type: ignore[misc]
        """Waits for tshark's own exit code.

        pyshark kills the process as soon as its output has ended, which races with the end of the process: its
        failure is then taken for success (and success, now and then, for exit code 255).
        """

        async def _cleanup_subprocess(self, process: Any) -> None:
            if self._eof_reached:
                await asyncio.wait_for(process.wait(), _ENDING_S)
            await super()._cleanup_subprocess(process)

        async def settle(self) -> Any:
            """tshark's last words. After a failure pyshark leaves their reader running, and would close twice."""
            await asyncio.gather(*self._stderr_handling_tasks, return_exceptions=True)
            self._running_processes.clear()
            return self._last_error_line

        def _get_tshark_path(self) -> Any:
            return self.tshark_path  # and not what a config.ini in the current folder says

    return Capture


def _crash_class() -> Any:
    from pyshark.capture.capture import TSharkCrashException

    return TSharkCrashException


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


# ---------------------------------------------------------------------- from layers to headers
class _Layers:
    """Where the next header's fields are: in the frame's next layer, or in the ICMP layer that quotes the packet.

    What tshark finds above a quoted UDP header it lists as layers of the frame again, behind the ICMP layer.
    """

    def __init__(self, layers: Sequence[Any], quoting: Any = None) -> None:
        self.rest = list(layers)
        self._quoting = quoting

    def read(self, word: str, offset: int) -> tuple[Any, Step] | None:
        """The layer with that header at that byte, and what it says; None where there is none."""
        reader = _READERS[word]
        if self._quoting is not None and (step := reader(self._quoting, offset)):
            return self._quoting, step
        if self.rest and self.rest[0].layer_name == word:
            layer = self.rest.pop(0)
            if step := reader(layer, offset):
                return layer, step
        return None

    def says_vxlan(self) -> bool:
        """Whether tshark takes what comes next for VXLAN."""
        return bool(self.rest) and self.rest[0].layer_name == "vxlan"


def _headers(packet: Any, link_type: int, data: bytes) -> tuple[Header, ...]:
    # With a packet comment pyshark leaves the layer "frame" among the others.
    names = [layer.layer_name for layer in packet.layers]
    start = next((i for i, name in enumerate(names) if name not in ("frame", "pkt_comment", "raw")), len(names))
    return _walk(_Layers(packet.layers[start:]), "eth" if link_type == ETHERNET else "ip", 0, data)


def _walk(layers: _Layers, word: str, offset: int, data: bytes, is_quoted: bool = False) -> tuple[Header, ...]:
    headers: list[Header] = []
    end, is_partial = len(data), is_quoted
    while word:
        found = layers.read(word, offset)
        if found is None:
            break
        layer, (header, word, after) = found
        if isinstance(header, Ipv4):
            end = min(end, offset + header.length)
            is_partial = is_partial or header.is_fragment
        elif isinstance(header, Ipv6):
            end = min(end, offset + header.length)
        elif isinstance(header, Udp) and layers.says_vxlan():
            word = "vxlan"
        elif isinstance(header, Arp):
            end = after
        elif isinstance(header, Icmp) and header.kind in _ICMP_ERRORS:
            header = replace(header, quoted=_quoted(_Layers(layers.rest, layer), "ip", after, data))
            end = after
        elif isinstance(header, Icmpv6) and header.kind in _ICMPV6_ERRORS:
            header = replace(header, quoted=_quoted(_Layers(layers.rest, layer), "ipv6", after, data))
            end = after
        if is_quoted and isinstance(header, Tcp):
            header = replace(header, payload_bytes=0)
        headers.append(_unverified(header) if is_partial else header)
        offset = after
    if not is_quoted and headers and data[offset:end]:
        headers.append(Payload(data[offset:end][:PAYLOAD_BYTES]))
    elif not headers and data:
        headers.append(Payload(data[:PAYLOAD_BYTES]))
    return tuple(headers)


def _quoted(layers: _Layers, word: str, offset: int, data: bytes) -> tuple[Header, ...]:
    headers = _walk(layers, word, offset, data, is_quoted=True) if offset < len(data) else ()
    return tuple(header for header in headers if not isinstance(header, Payload))


def _unverified(header: Header) -> Header:
    """Without the whole packet nobody can know whether its checksum is right."""
    return replace(header, checksum_ok=None) if isinstance(header, (Udp, Tcp, Icmp, Icmpv6)) else header


def _at(layer: Any, name: str, offset: int) -> Any:
    """The field of that name at that byte of the frame, or None."""
    container = layer.get_field(name)
    if container is not None:
        for field in container.all_fields:
            if int(field.pos) == offset:
                return field
    return None


def _text(layer: Any, name: str, offset: int) -> str:
    field = _at(layer, name, offset)
    return "" if field is None else str(field.show)


def _number(layer: Any, name: str, offset: int) -> int:
    text = _text(layer, name, offset)
    return int(text, 0) if text else 0


def _computed(layer: Any, name: str, offset: int) -> str:
    """A field that tshark computes: it stands for no bytes, so its place in the header differs between versions."""
    container = layer.get_field(name)
    for field in container.all_fields if container is not None else ():
        if offset <= int(field.pos) < offset + 20:
            return str(field.show)
    return ""


def _verdict(layer: Any, name: str, offset: int) -> bool | None:
    return {_GOOD: True, _BAD: False}.get(_computed(layer, name, offset))


def _ethernet(layer: Any, o: int) -> Step | None:
    if _at(layer, "eth.src", o + 6) is None:
        return None
    kind = _number(layer, "eth.type", o + 12) or _number(layer, "eth.len", o + 12)
    header = Ethernet(_text(layer, "eth.src", o + 6), _text(layer, "eth.dst", o), kind)
    return header, _AFTER_ETHERNET.get(kind, ""), o + 14


def _arp(layer: Any, o: int) -> Step | None:
    if _at(layer, "arp.dst.proto_ipv4", o + 24) is None:
        return None
    header = Arp(
        _number(layer, "arp.opcode", o + 6),
        _text(layer, "arp.src.hw_mac", o + 8),
        _text(layer, "arp.src.proto_ipv4", o + 14),
        _text(layer, "arp.dst.hw_mac", o + 18),
        _text(layer, "arp.dst.proto_ipv4", o + 24),
    )
    return header, "", o + 28


def _ipv4(layer: Any, o: int) -> Step | None:
    if _at(layer, "ip.dst", o + 16) is None:
        return None
    # The unit in which tshark shows this field has changed over its versions.
    place = _at(layer, "ip.frag_offset", o + 6)
    fragment_offset = (int(place.unmaskedvalue or place.raw_value, 16) & 0x1FFF) * 8
    header = Ipv4(
        source=_text(layer, "ip.src", o + 12),
        destination=_text(layer, "ip.dst", o + 16),
        ttl=_number(layer, "ip.ttl", o + 8),
        protocol=_number(layer, "ip.proto", o + 9),
        identification=_number(layer, "ip.id", o + 4),
        length=_number(layer, "ip.len", o + 2),
        dont_fragment=_text(layer, "ip.flags.df", o + 6) in ("1", "True"),
        more_fragments=_text(layer, "ip.flags.mf", o + 6) in ("1", "True"),
        fragment_offset=fragment_offset,
        tos=_number(layer, "ip.dsfield", o + 1),
        checksum_ok=_verdict(layer, "ip.checksum.status", o) is True,
    )
    word = "" if fragment_offset else _AFTER_IP.get(header.protocol, "")
    return header, word, o + _number(layer, "ip.hdr_len", o)


def _ipv6(layer: Any, o: int) -> Step | None:
    if _at(layer, "ipv6.dst", o + 24) is None:
        return None
    header = Ipv6(
        source=_text(layer, "ipv6.src", o + 8),
        destination=_text(layer, "ipv6.dst", o + 24),
        next_header=_number(layer, "ipv6.nxt", o + 6),
        hop_limit=_number(layer, "ipv6.hlim", o + 7),
        length=40 + _number(layer, "ipv6.plen", o + 4),
        traffic_class=_number(layer, "ipv6.tclass", o),
    )
    return header, _AFTER_IPV6.get(header.next_header, ""), o + 40


def _udp(layer: Any, o: int) -> Step | None:
    if _at(layer, "udp.checksum", o + 6) is None:
        return None
    header = Udp(
        _number(layer, "udp.srcport", o),
        _number(layer, "udp.dstport", o + 2),
        _number(layer, "udp.length", o + 4),
        _number(layer, "udp.checksum", o + 6),
        _verdict(layer, "udp.checksum.status", o),
    )
    return header, "", o + 8


def _tcp(layer: Any, o: int) -> Step | None:
    if _at(layer, "tcp.urgent_pointer", o + 18) is None:
        return None
    bits = _number(layer, "tcp.flags", o + 12)
    header = Tcp(
        _number(layer, "tcp.srcport", o),
        _number(layer, "tcp.dstport", o + 2),
        "".join(letter for bit, letter in enumerate(_FLAG_LETTERS) if bits >> bit & 1),
        _number(layer, "tcp.seq", o + 4),
        int(_computed(layer, "tcp.len", o) or 0),
        _verdict(layer, "tcp.checksum.status", o),
    )
    return header, "", o + _number(layer, "tcp.hdr_len", o + 12)


def _icmp(layer: Any, o: int) -> Step | None:
    if _at(layer, "icmp.checksum", o + 2) is None:
        return None
    kind, code = _number(layer, "icmp.type", o), _number(layer, "icmp.code", o + 1)
    is_echo = kind in (0, 8)
    if is_echo and _at(layer, "icmp.seq", o + 6) is None:
        return None
    header = Icmp(
        kind,
        code,
        _number(layer, "icmp.ident", o + 4) if is_echo else None,
        _number(layer, "icmp.seq", o + 6) if is_echo else None,
        _number(layer, "icmp.mtu", o + 6) if (kind, code) == (3, 4) else None,
        _verdict(layer, "icmp.checksum.status", o),
    )
    return header, "", o + 8


def _icmpv6(layer: Any, o: int) -> Step | None:
    if _at(layer, "icmpv6.checksum", o + 2) is None:
        return None
    kind, code = _number(layer, "icmpv6.type", o), _number(layer, "icmpv6.code", o + 1)
    is_echo, names = kind in (128, 129), {135: "icmpv6.nd.ns.target_address", 136: "icmpv6.nd.na.target_address"}
    if is_echo and _at(layer, "icmpv6.echo.sequence_number", o + 6) is None:
        return None
    header = Icmpv6(
        kind,
        code,
        _number(layer, "icmpv6.echo.identifier", o + 4) if is_echo else None,
        _number(layer, "icmpv6.echo.sequence_number", o + 6) if is_echo else None,
        _number(layer, "icmpv6.mtu", o + 4) if kind == 2 else None,
        _text(layer, names[kind], o + 8) if kind in names else None,
        _verdict(layer, "icmpv6.checksum.status", o),
    )
    return header, "", o + (24 if kind in names else 8)


def _vxlan(layer: Any, o: int) -> Step | None:
    if _at(layer, "vxlan.vni", o + 4) is None:
        return None
    flags = _number(layer, "vxlan.flags", o)
    between = (flags & 0xFF) << 16 | _number(layer, "vxlan.gbp", o + 2)
    header = Vxlan(
        _number(layer, "vxlan.vni", o + 4), flags >> 8, between << 8 | _number(layer, "vxlan.reserved8", o + 7)
    )
    return header, "eth", o + 8


_READERS = {
    "eth": _ethernet,
    "arp": _arp,
    "ip": _ipv4,
    "ipv6": _ipv6,
    "udp": _udp,
    "tcp": _tcp,
    "icmp": _icmp,
    "icmpv6": _icmpv6,
    "vxlan": _vxlan,
}
