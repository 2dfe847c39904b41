"""What IPv4 and IPv6 call the same thing in the socket interface. Standard library alone."""

from __future__ import annotations

import errno
import socket
import struct
from typing import NamedTuple

# What routes and ICMP errors make of a socket, see ip(7) and icmp(7): the packet has no way to where it should go.
NO_WAY = frozenset({
    errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.ENONET,
    errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.EPROTO, errno.EACCES,
})  # fmt: skip


class Family(NamedTuple):
    """One address family's numbers; `level` is that of its options and messages (linux/in.h, linux/in6.h)."""

    word: int
    level: int
    everywhere: str
    recverr: int
    ttl: int
    tos: int
    mtu_discover: int
    wants_packet_info: int
    packet_info: int
    icmp: int
    echo_request: int
    echo_reply: int
    unreachable: int
    origin_icmp: int

    def offender(self, error: bytes) -> str:
        """Who sent the ICMP message behind an extended error (its address follows the 16 bytes of that)."""
        at, size = (20, 4) if self.word == socket.AF_INET else (24, 16)
        return socket.inet_ntop(self.word, error[at : at + size]) if len(error) >= at + size else ""

    def answer_from(self, info: bytes) -> bytes:
        """The packet information that sends an answer from the very address that was asked."""
        if self.word == socket.AF_INET:
            return struct.pack("=i4s4s", 0, struct.unpack("=i4s4s", info[:12])[1], b"\0" * 4)
        return struct.pack("=16si", info[:16], 0)


FOUR = Family(
    word=socket.AF_INET, level=socket.SOL_IP, everywhere="0.0.0.0",
    recverr=11, ttl=socket.IP_TTL, tos=socket.IP_TOS, mtu_discover=10, wants_packet_info=8, packet_info=8,
    icmp=socket.IPPROTO_ICMP, echo_request=8, echo_reply=0, unreachable=3, origin_icmp=2,
)  # fmt: skip
SIX = Family(
    word=socket.AF_INET6, level=41, everywhere="::",
    recverr=25, ttl=16, tos=67, mtu_discover=23, wants_packet_info=49, packet_info=50,
    icmp=58, echo_request=128, echo_reply=129, unreachable=1, origin_icmp=3,
)  # fmt: skip


def family_of(address: str) -> Family:
    """The family that an address is written in."""
    return SIX if ":" in address else FOUR
