"""Write captures/golden/*.pcapng: packets made by scapy, blocks by our own writer. Run it after changing it.

python tests/wire/make_golden.py
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scapy.contrib.bgp import (
    BGPCapFourBytesASN,
    BGPCapGeneric,
    BGPHeader,
    BGPKeepAlive,
    BGPOpen,
    BGPOptParam,
)
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrHopByHop,
)
from scapy.layers.l2 import ARP, Dot3, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Raw

from tunlab.wire.pcapng import ETHERNET, RAW_IP, interface_block, packet_block, section_block, statistics_block

GOLDEN = Path(__file__).resolve().parents[2] / "captures" / "golden"
NODE1, NODE2 = "192.168.100.100", "192.168.200.101"
POD1, POD2 = "10.244.1.2", "10.244.2.2"
NODE1_6, NODE2_6 = "fd00:100::100", "fd00:200::101"
POD1_6, POD2_6 = "fd00:10:244::2", "fd00:10:244::42"
MAC1, MAC2 = "02:00:00:00:01:01", "02:00:00:00:02:01"
VTEP1, VTEP2 = "66:00:00:00:01:01", "66:00:00:00:02:01"
START_NS = 1_700_000_000_000_000_000
STEP_NS = 1_000_000

Sighting = tuple[str, str, Any]  # tap, direction, packet or bytes


def golden_bytes(
    sightings: Sequence[Sighting],
    taps: dict[str, int],
    *,
    window: str = "golden",
    drops: dict[str, int] | None = None,
    ends: bool = True,
) -> bytes:
    """The bytes of a capture with one window, as the box writes it."""
    names = list(taps)
    blocks = [section_block(), *(interface_block(name, taps[name]) for name in names)]
    now = START_NS

    def edge(word: str) -> None:
        nonlocal now
        for number, name in enumerate(names):
            now += STEP_NS
            text = f"tunlab sentinel {window} {word} {name}".encode()
            head = b"" if taps[name] == RAW_IP else bytes.fromhex("0180c200000e") + b"\x02\0\0\0\0\x09" + b"\x88\xb5"
            blocks.append(packet_block(number, now, head + text, flags=2, comment=f"window {window} {word}"))

    edge("begin")
    for tap, direction, packet in sightings:
        now += STEP_NS
        blocks.append(packet_block(names.index(tap), now, bytes(packet), flags=1 if direction == "in" else 2))
    if ends:
        edge("end")
    for number, name in enumerate(names):
        blocks.append(statistics_block(number, now, len(sightings), (drops or {}).get(name, 0)))
    return b"".join(blocks)


def echo(kind: int = 8, ttl: int = 64, size: int = 56, **ip: Any) -> Any:
    """An echo between the pods."""
    source, destination = (POD1, POD2) if kind == 8 else (POD2, POD1)
    data = bytes(range(size % 256)) if size < 256 else bytes(size)
    return IP(src=source, dst=destination, ttl=ttl, id=7, **ip) / ICMP(type=kind, id=4242, seq=1) / Raw(data)


def eth(source: str = MAC1, destination: str = MAC2) -> Any:
    """The link between the nodes."""
    return Ether(src=source, dst=destination)


def outer(proto: int = 4, **more: Any) -> Any:
    """The packet between the nodes."""
    return IP(src=NODE1, dst=NODE2, ttl=64, id=99, flags="DF", proto=proto, **more)


def vxlan(port: int, vni: int) -> Any:
    """A tunnelled echo with a good outer checksum of UDP left out, as Linux does."""
    head = UDP(sport=45678, dport=port, chksum=0) / VXLAN(flags=8, vni=vni)
    return eth() / outer(17) / head / Ether(src=VTEP1, dst=VTEP2) / echo(ttl=63)


def _bgp_open(asn: int, router_id: str, four: int | None) -> Any:
    capabilities = [BGPOptParam(param_type=2, param_value=BGPCapGeneric(code=2, length=0, cap_data=b""))]
    if four is not None:
        capabilities.append(BGPOptParam(param_type=2, param_value=BGPCapFourBytesASN(asn=four)))
    return BGPHeader(type=1) / BGPOpen(version=4, my_as=asn, hold_time=240, bgp_id=router_id, opt_params=capabilities)


def _bgp() -> list[Any]:
    to, back = IP(src=NODE1, dst=NODE2, ttl=255, id=1), IP(src=NODE2, dst=NODE1, ttl=255, id=1)
    first, second = _bgp_open(64512, NODE1, 64512), _bgp_open(23456, NODE2, 4_200_000_000)
    return [
        eth() / to / TCP(sport=40000, dport=179, flags="S", seq=100),
        eth(MAC2, MAC1) / back / TCP(sport=179, dport=40000, flags="SA", seq=500, ack=101),
        eth() / to / TCP(sport=40000, dport=179, flags="PA", seq=101, ack=501) / first,
        eth(MAC2, MAC1) / back / TCP(sport=179, dport=40000, flags="PA", seq=501, ack=160)
        / second / (BGPHeader(type=4) / BGPKeepAlive()),
        eth() / to / TCP(sport=40000, dport=179, flags="PA", seq=200, ack=700) / _bgp_open(65001, "10.0.0.3", None),
    ]  # fmt: skip


def _tcp() -> list[Any]:
    to, back = IP(src=POD1, dst=POD2, id=1), IP(src=POD2, dst=POD1, id=1)
    return [
        eth() / to / TCP(sport=40001, dport=8080, flags="S", seq=1000, options=[("MSS", 1440)]),
        eth(MAC2, MAC1) / back / TCP(sport=8080, dport=40001, flags="SA", seq=9000, ack=1001),
        eth() / to / TCP(sport=40001, dport=8080, flags="PA", seq=1001, ack=9001) / Raw(b"who are you?"),
        eth(MAC2, MAC1) / back / TCP(sport=8080, dport=40001, flags="RA", seq=9001, ack=1013),
    ]


def _errors() -> dict[str, list[Any]]:
    router = IP(src="192.168.100.1", dst=NODE1, id=5, tos=0xC0)
    tunnelled = bytes(outer() / echo(ttl=63, size=1400))
    in_vxlan = bytes(vxlan(4789, 4096))[14:]
    unreachable = IP(src=NODE1, dst=POD1, id=6) / ICMP(type=3, code=4, nexthopmtu=1480)
    return {
        "frag-needed": [
            eth(MAC2, MAC1) / router / ICMP(type=3, code=4, nexthopmtu=1400) / Raw(tunnelled[:548]),
            eth(MAC2, MAC1) / router / ICMP(type=3, code=4, nexthopmtu=1400) / Raw(tunnelled[:28]),
            eth(MAC2, MAC1) / router / ICMP(type=3, code=4, nexthopmtu=1400) / Raw(in_vxlan),
            eth(MAC2, MAC1) / unreachable / Raw(bytes(echo(size=1472, flags="DF"))[:548]),
        ],
        "ttl-exceeded": [
            eth(MAC2, MAC1) / router / ICMP(type=11, code=0) / Raw(bytes(echo(ttl=1))),
            eth(MAC2, MAC1) / router / ICMP(type=3, code=0) / Raw(bytes(echo())[:28]),
            eth(MAC2, MAC1) / router / ICMP(type=11, code=0) / Raw(bytes(IP(src=POD1, dst=POD2) / _tcp()[2][TCP])),
            eth(MAC2, MAC1) / router / ICMP(type=3, code=3) / Raw(bytes(IP(src=POD1, dst=POD2) / _tcp()[2][TCP])[:28]),
        ],
    }


def _fragments() -> list[Any]:
    plain = fragment(eth() / IP(src=POD1, dst=POD2, id=11) / UDP(sport=5000, dport=6000) / Raw(bytes(3000)), 1400)
    whole = bytes(IP(src=POD1, dst=POD2, id=12) / UDP(sport=5000, dport=6000) / Raw(bytes(1452)))
    tunnel = fragment(eth() / IP(src=NODE1, dst=NODE2, id=13, proto=4) / Raw(whole), 1400)
    inner = fragment(IP(src=POD1, dst=POD2, id=14) / ICMP(id=4242, seq=2) / Raw(bytes(2000)), 1400)
    return [*plain, *tunnel, *(eth() / outer() / part for part in inner)]


def _bad_checksums() -> list[Any]:
    return [
        eth() / IP(src=POD1, dst=POD2, chksum=0x1234) / UDP(sport=5000, dport=6000) / Raw(b"hello"),
        eth() / IP(src=POD1, dst=POD2) / UDP(sport=5000, dport=6000, chksum=0x1234) / Raw(b"hello"),
        eth() / IP(src=POD1, dst=POD2) / TCP(sport=5000, dport=6000, flags="S", chksum=0x1234),
        eth() / IP(src=POD1, dst=POD2) / ICMP(id=1, seq=1, chksum=0x1234) / Raw(b"hello"),
        eth() / IP(src=POD1, dst=POD2) / UDP(sport=5000, dport=6000, chksum=0) / Raw(b"hello"),
        eth() / outer(chksum=0x4321) / echo(),
    ]


def _odd() -> list[Any]:
    return [
        Dot3(src=MAC1, dst="01:80:c2:00:00:00", len=3) / Raw(b"\x42\x42\x03" + bytes(35)),
        Ether(src=MAC1, dst="33:33:00:00:00:02", type=0x86DD)
        / Raw(bytes.fromhex("6000000000003aff" + "fe80" + "00" * 13 + "01" + "ff02" + "00" * 13 + "02")),
        Ether(src=MAC1, dst=MAC2, type=0x8100) / Raw(b"\x00\x05\x08\x00" + bytes(echo())),
        eth() / outer(47) / Raw(bytes(24)),
        eth() / IP(src=NODE1, dst=NODE2, options=b"\x94\x04\x00\x00") / UDP(sport=1, dport=2) / Raw(b"options"),
        bytes(eth() / ARP(op=1, hwsrc=MAC1, psrc=NODE1, pdst=NODE2)) + bytes(18),
        bytes(eth() / IP(src=POD1, dst=POD2) / UDP(sport=3, dport=4) / Raw(b"padded")) + bytes(12),
        bytes(eth() / outer() / echo())[:40],
    ]  # fmt: skip


def echo6(hop_limit: int = 64, is_reply: bool = False) -> Any:
    """An echo between the pods' IPv6 addresses."""
    source, destination = (POD2_6, POD1_6) if is_reply else (POD1_6, POD2_6)
    kind = ICMPv6EchoReply if is_reply else ICMPv6EchoRequest
    return IPv6(src=source, dst=destination, hlim=hop_limit) / kind(id=4242, seq=1, data=bytes(range(56)))


def _ipv6() -> list[Any]:
    between = IPv6(src=POD1_6, dst=POD2_6)
    link = IPv6(src=NODE1_6, dst=NODE2_6, hlim=255)
    router = IPv6(src="fd00:100::1", dst=POD1_6)
    return [
        eth() / echo6(),
        eth(MAC2, MAC1) / echo6(is_reply=True),
        eth() / between / UDP(sport=5000, dport=6000) / Raw(b"hello"),
        eth() / between / TCP(sport=5000, dport=6000, flags="PA", seq=9, ack=1) / Raw(b"who are you?"),
        eth() / link / ICMPv6ND_NS(tgt=NODE2_6) / ICMPv6NDOptSrcLLAddr(lladdr=MAC1),
        eth(MAC2, MAC1) / link / ICMPv6ND_NA(tgt=NODE2_6) / ICMPv6NDOptDstLLAddr(lladdr=MAC2),
        eth(MAC2, MAC1) / router / ICMPv6PacketTooBig(mtu=1430) / Raw(bytes(echo6())),
        eth(MAC2, MAC1) / router / ICMPv6DestUnreach(code=0) / Raw(bytes(between / UDP(sport=7, dport=8))),
        eth() / IPv6(src="fe80::1", dst="ff02::16", hlim=1) / IPv6ExtHdrHopByHop() / Raw(bytes(28)),
        eth() / between / UDP(sport=5000, dport=6000, chksum=0x1234) / Raw(b"hello"),
        bytes(eth() / between / UDP(sport=3, dport=4) / Raw(b"padded")) + bytes(12),
    ]


def _vxlan_ipv6() -> list[Any]:
    """IPv6 pods over nodes of either family; only over IPv6 Linux fills in the outer checksum."""
    head = VXLAN(flags=8, vni=4096) / Ether(src=VTEP1, dst=VTEP2) / echo6(63)
    outer6 = IPv6(src=NODE1_6, dst=NODE2_6, hlim=64)
    return [
        eth() / outer6 / UDP(sport=45678, dport=4789) / head,
        eth() / outer(17) / UDP(sport=45678, dport=4789, chksum=0) / head,
        eth() / outer6 / UDP(sport=4, dport=4789) / VXLAN(flags=8, vni=4096) / Ether(src=VTEP1, dst=VTEP2) / echo(),
    ]


def golden_packets() -> dict[str, list[Any]]:  # fmt: skip
    """Name → packets at node1/eth0, for the files with that one tap."""
    return {
        "bare-icmp": [eth() / echo(), eth(MAC2, MAC1) / echo(0)],
        "ipip": [eth() / outer() / echo(ttl=63)],
        "double-ipip": [eth() / outer() / IP(src="172.16.0.1", dst="172.16.0.2", proto=4) / echo(ttl=63)],
        "vxlan-4789": [vxlan(4789, 4096)],
        "vxlan-8472": [vxlan(8472, 1)],
        "vxlan-others": [
            eth()
            / outer(17)
            / UDP(sport=4, dport=4789)
            / VXLAN(flags=8, vni=7, reserved2=1)
            / Ether(src=VTEP1, dst="ff:ff:ff:ff:ff:ff")
            / ARP(op=1, hwsrc=VTEP1, psrc=POD1, pdst=POD2),
            eth()
            / outer(17)
            / UDP(sport=5, dport=4789)
            / VXLAN(flags=8, vni=4096)
            / Ether(src=VTEP1, dst=VTEP2)
            / _tcp()[2][IP],
            eth()
            / outer(17)
            / UDP(sport=6, dport=4789)
            / Raw(bytes.fromhex("8840000500100000"))
            / bytes(eth() / echo()),
        ],
        "arp": [
            Ether(src=MAC1, dst="ff:ff:ff:ff:ff:ff") / ARP(op=1, hwsrc=MAC1, psrc=NODE1, pdst=NODE2),
            eth(MAC2, MAC1) / ARP(op=2, hwsrc=MAC2, psrc=NODE2, hwdst=MAC1, pdst=NODE1),
        ],
        "fragments": _fragments(),
        "bad-checksum": _bad_checksums(),
        "tcp": _tcp(),
        "bgp-open": _bgp(),
        "odd": _odd(),
        "ipv6": _ipv6(),
        "vxlan-ipv6": _vxlan_ipv6(),
        **_errors(),
    }


def golden_files() -> dict[str, bytes]:
    """File name → its bytes."""
    files = {}
    for name, packets in golden_packets().items():
        sightings = [("node1/eth0", "out", packet) for packet in packets]
        files[f"{name}.pcapng"] = golden_bytes(sightings, {"node1/eth0": ETHERNET})
    journey = [
        ("node1/tunl0", "out", echo(ttl=63)),
        ("node1/eth0", "out", eth() / outer() / echo(ttl=63)),
        ("node1/eth0", "in", eth(MAC2, MAC1) / IP(src=NODE2, dst=NODE1, id=98, proto=4) / echo(0, ttl=63)),
        ("node1/tunl0", "in", echo(0, ttl=63)),
    ]
    files["raw-ip.pcapng"] = golden_bytes(journey, {"node1/eth0": ETHERNET, "node1/tunl0": RAW_IP})
    return files


def main() -> None:
    """Write them all."""
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for name, data in golden_files().items():
        (GOLDEN / name).write_bytes(data)
        print(f"{len(data):7d} {name}")


if __name__ == "__main__":
    main()
