"""Frames made by hand with scapy, for what no well-behaved program would send at the moment it is wanted."""

from __future__ import annotations

from tunlab.wire.by_scapy import scapy_parts

BROADCAST = "ff:ff:ff:ff:ff:ff"


def arp_request(mac: str, address: str, target: str) -> bytes:
    """The frame by which `mac`, which has `address`, asks who has `target` (RFC 826), ready for an Ethernet device."""
    parts = scapy_parts()
    ask = parts.ARP(op=1, hwsrc=mac, psrc=address, pdst=target)
    return bytes(parts.Ether(src=mac, dst=BROADCAST) / ask)


def udp_packet(source: str, destination: str, port: int, identification: int, payload: bytes = b"crafted\n") -> bytes:
    """An IPv4 packet with UDP in it; its identification is the mark by which captures find it again."""
    parts = scapy_parts()
    return bytes(
        parts.IP(src=source, dst=destination, id=identification) / parts.UDP(sport=40_000, dport=port) / payload
    )


def protocol_packet(source: str, destination: str, protocol: int, identification: int, payload: bytes) -> bytes:
    """An IPv4 packet of any protocol; with another packet as payload and protocol 4 it is IPIP (RFC 2003)."""
    parts = scapy_parts()
    return bytes(parts.IP(src=source, dst=destination, id=identification, proto=protocol) / payload)


def vxlan_datagram(source: str, destination: str, port: int, vni: int, inner: bytes, identification: int) -> bytes:
    """An IPv4 packet with a VXLAN datagram (RFC 7348) around an Ethernet frame."""
    parts = scapy_parts()
    header = bytes(parts.VXLAN(vni=vni, flags=8))
    outer = parts.IP(src=source, dst=destination, id=identification)
    # A checksum of 0, as VXLAN's senders write it, and so that whoever decapsulates looks no further.
    return bytes(outer / parts.UDP(sport=50_000, dport=port, chksum=0) / (header + inner))


def ethernet_frame(source: str, destination: str, packet: bytes) -> bytes:
    """An Ethernet frame around an IPv4 packet."""
    return bytes.fromhex((destination + source).replace(":", "")) + b"\x08\x00" + packet
