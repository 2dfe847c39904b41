"""A raw rtnetlink socket that says only whether something happened that may concern us; what, the tables tell."""

from __future__ import annotations

import socket
import struct
from collections.abc import Container, Iterator

# linux/rtnetlink.h: RTMGRP_LINK, RTMGRP_NEIGH, RTMGRP_IPV4_IFADDR, _IPV4_ROUTE, RTMGRP_IPV6_IFADDR, _IPV6_ROUTE
_GROUPS = 0x1 | 0x4 | 0x10 | 0x40 | 0x100 | 0x400
_RTM_NEWROUTE, _RTM_DELROUTE, _RTM_NEWNEIGH, _RTM_DELNEIGH = 24, 25, 28, 29
_TABLE_LOCAL = 255
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_NEIGHBOUR = struct.Struct("=BBHi")  # family, padding, padding, interface index
_ROUTE = struct.Struct("=BBBBBBBB")  # family, prefix lengths, tos, table, protocol, scope, type
_RECEIVE_BYTES = 1 << 20


class Netlink:
    """Listens to links, addresses, routes and neighbours of the network namespace it was opened in."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
        self._socket.bind((0, _GROUPS))
        self._socket.setblocking(False)

    def fileno(self) -> int:
        return self._socket.fileno()

    def drain(self, our_devices: Container[int]) -> bool:
        """Read all that has come; whether any of it may concern us. `our_devices`: indexes whose neighbours are ours.

        An overrun counts as news: messages were lost, whatever they said.
        """
        is_news = False
        while True:
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                return is_news
            except OSError:  # ENOBUFS
                is_news = True
                continue
            is_news = is_news or any(_concerns_us(kind, body, our_devices) for kind, body in _messages(data))


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, position)
        if length < _HEADER.size:
            return
        yield kind, data[position + _HEADER.size : position + length]
        position += (length + 3) & ~3


def _concerns_us(kind: int, body: bytes, our_devices: Container[int]) -> bool:
    """Neighbours on the uplink come and go with every ping, and so would our attention."""
    if kind in (_RTM_NEWNEIGH, _RTM_DELNEIGH) and len(body) >= _NEIGHBOUR.size:
        index: int = _NEIGHBOUR.unpack_from(body)[3]
        return index in our_devices
    if kind in (_RTM_NEWROUTE, _RTM_DELROUTE) and len(body) >= _ROUTE.size:
        table: int = _ROUTE.unpack_from(body)[4]
        return table != _TABLE_LOCAL
    return True
