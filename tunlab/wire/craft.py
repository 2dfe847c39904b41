"""Frames made by hand with scapy, for what no well-behaved program would send at the moment it is wanted."""

from __future__ import annotations

from tunlab.wire.by_scapy import scapy_parts

BROADCAST = "ff:ff:ff:ff:ff:ff"


def arp_request(mac: str, address: str, target: str) -> bytes:
    """The frame by which `mac`, which has `address`, asks who has `target` (RFC 826), ready for an Ethernet device."""
    parts = scapy_parts()
    ask = parts.ARP(op=1, hwsrc=mac, psrc=address, pdst=target)
    return bytes(parts.Ether(src=mac, dst=BROADCAST) / ask)
