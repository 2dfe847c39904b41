"""The second decoder: scapy, layer by layer, on the same bytes. Its job is to contradict the first one.

It decides for itself what follows a header and computes every checksum. `Any` lives here because scapy has no types.
"""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv6Address
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tunlab.wire.frames import PAYLOAD_BYTES, Arp, Ethernet, Header, Icmp, Icmpv6, Ipv4, Ipv6, Payload, Tcp, Udp, Vxlan
from tunlab.wire.pcapng import ETHERNET

_PLACES = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
_ICMP_ERRORS = (3, 4, 5, 11, 12)
_ICMPV6_ERRORS = (1, 2, 3, 4)


@functools.cache
def scapy_parts() -> Any:
    """The few classes of scapy that are needed, imported without leaving anything in the caller's home folder."""
    before = {name: os.environ.get(name) for name in _PLACES}
    with tempfile.TemporaryDirectory(prefix="tunlab-") as nowhere:
        os.environ.update(dict.fromkeys(_PLACES, nowhere))
        try:
            from scapy.layers.inet import ICMP, IP, TCP, UDP, in4_chksum
            from scapy.layers.l2 import ARP, Dot3, Ether
            from scapy.layers.vxlan import VXLAN
            from scapy.utils import RawPcapNgReader, checksum
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
    return SimpleNamespace(
        ARP=ARP,
        Dot3=Dot3,
        Ether=Ether,
        ICMP=ICMP,
        IP=IP,
        TCP=TCP,
        UDP=UDP,
        VXLAN=VXLAN,
        RawPcapNgReader=RawPcapNgReader,
        checksum=checksum,
        in4_chksum=in4_chksum,
    )


def read_packets(path: Path) -> list[bytes]:
    """The packets of a file as scapy's own reader cuts them."""
    with scapy_parts().RawPcapNgReader(str(path)) as reader:
        return [data for data, _ in reader]


def read_headers(link_type: int, data: bytes, vxlan_ports: Sequence[int]) -> tuple[Header, ...]:
    """The headers of one packet."""
    reader = _Reader(vxlan_ports)
    if link_type == ETHERNET:
        reader.ethernet(data)
    else:
        reader.network(data)
    return tuple(reader.headers)


@dataclass(frozen=True)
class _Pseudo6:
    """What RFC 8200, 8.1 has every checksum above IPv6 include."""

    addresses: bytes

    def header(self, protocol: int, length: int) -> bytes:
        return self.addresses + length.to_bytes(4, "big") + protocol.to_bytes(4, "big")


class _Reader:
    """Reads one packet; `rest` is what follows the last header that was read."""

    def __init__(self, vxlan_ports: Sequence[int], is_quoted: bool = False) -> None:
        self.headers: list[Header] = []
        self._ports = vxlan_ports
        self._is_quoted = is_quoted
        self._is_partial = is_quoted
        self._scapy = scapy_parts()

    def _stop(self, rest: bytes) -> None:
        if rest and not self._is_quoted:
            self.headers.append(Payload(rest[:PAYLOAD_BYTES]))

    def _dissect(self, kind: Any, data: bytes) -> Any:
        """One header alone: scapy is not asked what might follow it."""
        layer = kind.__new__(kind)
        layer.__init__()
        layer.do_dissect(data)
        return layer

    def ethernet(self, data: bytes) -> None:
        """IEEE 802.3, with an EtherType or a length."""
        if len(data) < 14:
            return self._stop(data)
        layer = self._dissect(self._scapy.Ether, data[:14])
        self.headers.append(Ethernet(str(layer.src).lower(), str(layer.dst).lower(), int(layer.type)))
        rest = data[14:]
        if layer.type == 0x0800:
            return self.ipv4(rest)
        if layer.type == 0x0806:
            return self.arp(rest)
        if layer.type == 0x86DD:
            return self.ipv6(rest)
        return self._stop(rest)

    def network(self, data: bytes) -> None:
        """A packet without a link-layer header: version 4, or something else."""
        return self.ipv4(data) if data and data[0] >> 4 == 4 else self._stop(data)

    def arp(self, data: bytes) -> None:
        """RFC 826 for IPv4 over Ethernet."""
        if len(data) < 28 or data[2:6] != b"\x08\x00\x06\x04":  # the lengths decide where scapy finds the fields
            return self._stop(data)
        layer = self._dissect(self._scapy.ARP, data[:28])
        self.headers.append(
            Arp(int(layer.op), str(layer.hwsrc).lower(), str(layer.psrc), str(layer.hwdst).lower(), str(layer.pdst))
        )
        return None

    def ipv6(self, data: bytes) -> None:
        """RFC 8200's fixed header, cut by hand (scapy's IPv6 takes long to import), then what its next header says."""
        if len(data) < 40 or data[0] >> 4 != 6:
            return self._stop(data)
        source, destination = (str(IPv6Address(data[at : at + 16])) for at in (8, 24))
        length = 40 + int.from_bytes(data[4:6], "big")
        traffic_class = int.from_bytes(data[:2], "big") >> 4 & 0xFF
        self.headers.append(Ipv6(source, destination, data[6], data[7], length, traffic_class))
        pseudo, rest = _Pseudo6(data[8:40]), data[40:length]
        if data[6] == 58:
            return self.icmpv6(rest, pseudo)
        if data[6] == 6:
            return self.tcp(rest, pseudo, len(rest))
        if data[6] == 17:
            return self.udp(rest, pseudo)
        return self._stop(rest)

    def ipv4(self, data: bytes) -> None:
        """RFC 791, then what its protocol says."""
        header_bytes = (data[0] & 15) * 4 if data else 0
        if len(data) < 20 or data[0] >> 4 != 4 or not 20 <= header_bytes <= len(data):
            return self._stop(data)
        layer = self._dissect(self._scapy.IP, data[:header_bytes])
        header = Ipv4(
            source=str(layer.src),
            destination=str(layer.dst),
            ttl=int(layer.ttl),
            protocol=int(layer.proto),
            identification=int(layer.id),
            length=int(layer.len),
            dont_fragment=bool(layer.flags.DF),
            more_fragments=bool(layer.flags.MF),
            fragment_offset=int(layer.frag) * 8,
            tos=int(layer.tos),
            checksum_ok=self._scapy.checksum(data[:header_bytes]) == 0,
        )
        self.headers.append(header)
        self._is_partial = self._is_partial or header.is_fragment
        rest = data[header_bytes : header.length]
        if header.fragment_offset:
            return self._stop(rest)
        if header.protocol == 4:
            return self.ipv4(rest)
        if header.protocol == 1:
            return self.icmp(rest)
        if header.protocol == 6:
            return self.tcp(rest, layer, header.length - header_bytes)
        if header.protocol == 17:
            return self.udp(rest, layer)
        return self._stop(rest)

    def _is_good(self, protocol: int, ip: Any, segment: bytes) -> bool | None:
        if self._is_partial:
            return None
        if isinstance(ip, _Pseudo6):
            return bool(self._scapy.checksum(ip.header(protocol, len(segment)) + segment) in (0, 0xFFFF))
        return int(self._scapy.in4_chksum(protocol, ip, segment)) in (0, 0xFFFF)

    def udp(self, data: bytes, ip: Any) -> None:
        """RFC 768; a VXLAN port on either side makes the rest VXLAN."""
        if len(data) < 8:
            return self._stop(data)
        layer = self._dissect(self._scapy.UDP, data[:8])
        is_good = None
        if layer.chksum and layer.len <= len(data):
            is_good = self._is_good(17, ip, data[: layer.len])
        self.headers.append(Udp(int(layer.sport), int(layer.dport), int(layer.len), int(layer.chksum), is_good))
        if layer.dport in self._ports or layer.sport in self._ports:
            return self.vxlan(data[8:])
        return self._stop(data[8:])

    def vxlan(self, data: bytes) -> None:
        """RFC 7348."""
        if len(data) < 8:
            return self._stop(data)
        layer = self._dissect(self._scapy.VXLAN, data[:8])
        reserved = int.from_bytes(data[1:4], "big") << 8 | int(layer.reserved2)
        self.headers.append(Vxlan(int(layer.vni), int(layer.flags), reserved))
        return self.ethernet(data[8:])

    def tcp(self, data: bytes, ip: Any, segment_bytes: int) -> None:
        """RFC 9293; `segment_bytes` is what the IP header leaves for it."""
        header_bytes = (data[12] >> 4) * 4 if len(data) >= 20 else 0
        if not 20 <= header_bytes <= len(data):
            return self._stop(data)
        layer = self._dissect(self._scapy.TCP, data[:header_bytes])
        length = 0 if self._is_quoted else segment_bytes - header_bytes
        self.headers.append(
            Tcp(
                int(layer.sport),
                int(layer.dport),
                "".join(letter for letter in "FSRPAUEC" if letter in str(layer.flags)),
                int(layer.seq),
                length,
                self._is_good(6, ip, data),
            )
        )
        return self._stop(data[header_bytes:])

    def icmp(self, data: bytes) -> None:
        """RFC 792; what an error quotes is read by a reader of its own."""
        if len(data) < 8:
            return self._stop(data)
        layer = self._dissect(self._scapy.ICMP, data[:8])
        kind, code = int(layer.type), int(layer.code)
        is_echo = kind in (0, 8)
        header = Icmp(
            kind,
            code,
            int(layer.id) if is_echo else None,
            int(layer.seq) if is_echo else None,
            int(layer.nexthopmtu) if (kind, code) == (3, 4) else None,
            None if self._is_partial else self._scapy.checksum(data) == 0,
        )
        if kind not in _ICMP_ERRORS:
            self.headers.append(header)
            return self._stop(data[8:])
        quoted = _Reader(self._ports, is_quoted=True)
        quoted.ipv4(data[8:])
        self.headers.append(replace(header, quoted=tuple(quoted.headers)))
        return None

    def icmpv6(self, data: bytes, ip: _Pseudo6) -> None:
        """RFC 4443, cut by hand like the header before it; what an error quotes is read by a reader of its own."""
        if len(data) < 8:
            return self._stop(data)
        kind, is_echo, has_target = data[0], data[0] in (128, 129), data[0] in (135, 136) and len(data) >= 24
        header = Icmpv6(
            kind,
            data[1],
            int.from_bytes(data[4:6], "big") if is_echo else None,
            int.from_bytes(data[6:8], "big") if is_echo else None,
            int.from_bytes(data[4:8], "big") if kind == 2 else None,
            str(IPv6Address(data[8:24])) if has_target else None,
            self._is_good(58, ip, data),
        )
        if kind not in _ICMPV6_ERRORS:
            self.headers.append(header)
            return self._stop(data[24 if has_target else 8 :])
        quoted = _Reader(self._ports, is_quoted=True)
        quoted.ipv6(data[8:])
        self.headers.append(replace(header, quoted=tuple(quoted.headers)))
        return None
