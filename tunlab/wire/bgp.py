"""BGP OPEN messages of a capture: tshark reads them (through pyshark), scapy must agree. RFC 4271, 4.2; RFC 6793."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from tunlab.errors import WorldError
from tunlab.wire import by_pyshark, by_scapy
from tunlab.wire.decode import VXLAN_PORT, Capture, DecodersDisagree
from tunlab.wire.frames import Frame, Tcp
from tunlab.wire.pcapng import ETHERNET, read_file

BGP_PORT = 179
_MARKER = b"\xff" * 16
_OPEN = 1
_CAPABILITIES = 2  # the optional parameter that holds them
_FOUR_OCTETS = 65  # capability code for AS numbers of 4 octets


@dataclass(frozen=True, slots=True)
class Open:
    """One OPEN. `asn_4` is None without the capability; `asn` is 23456 where the real one needs it."""

    version: int
    asn: int
    asn_4: int | None
    hold_time_s: int
    router_id: str

    @property
    def autonomous_system(self) -> int:
        """The speaker's AS, whichever way it was told."""
        return self.asn if self.asn_4 is None else self.asn_4


@dataclass(frozen=True, slots=True)
class OpenSeen:
    """An OPEN and the frame that carried it."""

    frame: Frame
    open: Open


def opens(capture: Capture, *, vxlan_ports: Sequence[int] = (VXLAN_PORT,)) -> list[OpenSeen]:
    """Every OPEN in the capture, at every tap that saw it. Raises WorldError and DecodersDisagree."""
    first = _by_pyshark(capture, vxlan_ports)
    second = _by_scapy(capture)
    if len(first) != len(second):
        raise DecodersDisagree(capture.name, "number of BGP OPEN messages", str(len(first)), str(len(second)))
    frames = {frame.number: frame for frame in capture.frames}
    for (number, mine), (their_number, theirs) in zip(first, second, strict=True):
        where = f"{capture.name} frame {number} on {frames[number].tap}"
        if number != their_number:
            raise DecodersDisagree(where, "frame of a BGP OPEN", str(number), str(their_number))
        for field in fields(mine):
            one, two = getattr(mine, field.name), getattr(theirs, field.name)
            if one != two:
                raise DecodersDisagree(where, f"bgp open.{field.name}", str(one), str(two))
    return [OpenSeen(frames[number], told) for number, told in first]


def _by_pyshark(capture: Capture, vxlan_ports: Sequence[int]) -> list[tuple[int, Open]]:
    found: list[tuple[int, Open]] = []
    prefs = by_pyshark.preferences(vxlan_ports)
    with by_pyshark.packets_of(capture.path, prefs, f"bgp.type == {_OPEN}") as packets:
        for packet in packets:
            for layer in packet.get_multiple_layers("bgp"):
                if layer.get_field("bgp.open.version") is not None:
                    found.append((int(packet.number), _open_of_layer(layer)))
    return found


def _open_of_layer(layer: Any) -> Open:
    four = layer.get_field("bgp.cap.4as")
    return Open(
        version=int(layer.get_field("bgp.open.version")),
        asn=int(layer.get_field("bgp.open.myas")),
        asn_4=None if four is None else int(four),
        hold_time_s=int(layer.get_field("bgp.open.holdtime")),
        router_id=str(layer.get_field("bgp.open.identifier")),
    )


def _by_scapy(capture: Capture) -> list[tuple[int, Open]]:
    contents = read_file(capture.path)
    found: list[tuple[int, Open]] = []
    for frame in capture.frames:
        tcp = frame.headers[-2] if len(frame.headers) > 1 else None
        if not isinstance(tcp, Tcp) or BGP_PORT not in (tcp.source_port, tcp.destination_port):
            continue
        packet = contents.packets[frame.number - 1]
        is_ethernet = contents.interfaces[packet.interface].link_type == ETHERNET
        payload = _tcp_payload(packet.data, 14 if is_ethernet else 0, tcp.payload_bytes, frame)
        found += [(frame.number, told) for told in _opens_in(payload)]
    return found


def _tcp_payload(data: bytes, start: int, payload_bytes: int, frame: Frame) -> bytes:
    """The last `payload_bytes` of the IP packet; behind it there may be padding."""
    if len(frame.ips) != 1:
        raise WorldError(f"{frame.where}: BGP inside a tunnel ({frame.stack}): cannot be read")
    end = start + frame.outer.length
    return data[end - payload_bytes : end]


@functools.cache
def _scapy_bgp() -> Any:
    by_scapy.scapy_parts()  # first: it keeps scapy's caches out of the home folder
    runtime = logging.getLogger("scapy.runtime")
    before = runtime.level
    runtime.setLevel(logging.ERROR)  # it tells everybody a default of its own
    try:
        import scapy.contrib.bgp
    finally:
        runtime.setLevel(before)
    return scapy.contrib.bgp


def _opens_in(payload: bytes) -> list[Open]:
    parts = _scapy_bgp()
    found = []
    while payload[:16] == _MARKER:
        length = int.from_bytes(payload[16:18], "big")
        if length < 19:
            break
        if payload[18] == _OPEN:
            message = parts.BGPHeader(payload[:length])[parts.BGPOpen]
            found.append(_open_of_scapy(message, parts.BGPCapFourBytesASN))
        payload = payload[length:]
    return found


def _open_of_scapy(message: Any, four_octets: Any) -> Open:
    """scapy reads the first capability of an optional parameter only, and BIRD puts all of them into one (RFC 5492)."""
    asn_4 = None
    for parameter in message.opt_params:
        rest = bytes(parameter.param_value) if parameter.param_type == _CAPABILITIES else b""
        while len(rest) >= 2:
            capability, rest = rest[: 2 + rest[1]], rest[2 + rest[1] :]
            if capability[0] == _FOUR_OCTETS:
                asn_4 = int(four_octets(capability).asn)
    return Open(int(message.version), int(message.my_as), asn_4, int(message.hold_time), str(message.bgp_id))
