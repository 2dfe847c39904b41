"""Frames made by hand are what both decoders read out of them."""

from __future__ import annotations

from tunlab.wire.by_scapy import read_headers
from tunlab.wire.craft import ethernet_frame, protocol_packet, udp_packet, vxlan_datagram
from tunlab.wire.frames import Ethernet, Ipv4, Udp, Vxlan
from tunlab.wire.pcapng import ETHERNET

A, B, NODE_A, NODE_B = "10.65.0.1", "10.65.1.1", "192.0.2.1", "192.0.2.2"
MAC_A, MAC_B = "02:00:00:00:00:0a", "02:00:00:00:00:0b"


def words(frame: bytes) -> str:
    return " ".join(header.word for header in read_headers(ETHERNET, frame, (4789,)) if header.word)


def test_a_datagram_bears_its_mark_and_right_checksums() -> None:
    eth, ip, udp, *_ = read_headers(ETHERNET, ethernet_frame(MAC_A, MAC_B, udp_packet(A, B, 53, 0x5301)), ())
    assert isinstance(eth, Ethernet) and (eth.source, eth.destination) == (MAC_A, MAC_B)
    assert isinstance(ip, Ipv4) and (ip.source, ip.destination, ip.identification) == (A, B, 0x5301)
    assert isinstance(udp, Udp) and udp.destination_port == 53
    assert ip.checksum_ok and udp.checksum_ok


def test_a_packet_in_a_packet_is_ipip() -> None:
    packet = protocol_packet(NODE_A, NODE_B, 4, 1, udp_packet(A, B, 53, 2))
    assert words(ethernet_frame(MAC_A, MAC_B, packet)) == "eth ip ip udp"


def test_a_vxlan_datagram_has_its_number_and_a_whole_frame_in_it() -> None:
    inner = ethernet_frame(MAC_B, MAC_A, udp_packet(A, B, 53, 2))
    frame = ethernet_frame(MAC_A, MAC_B, vxlan_datagram(NODE_A, NODE_B, 4789, 4096, inner, 1))
    assert words(frame) == "eth ip udp vxlan eth ip udp"
    vxlan = next(header for header in read_headers(ETHERNET, frame, (4789,)) if isinstance(header, Vxlan))
    assert vxlan.vni == 4096
