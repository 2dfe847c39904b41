"""One tap: a packet socket with a ring of memory that it shares with the kernel (PACKET_RX_RING, TPACKET_V2).

A ring costs no system call per frame, and its size is not capped by rmem_max, which leaves a plain socket in an
unprivileged box 208 KiB, some 270 small frames. Layout: linux/if_packet.h and Documentation/networking/packet_mmap.rst.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import mmap
import socket
import struct

from tunlab.box.inside import pcapng

SENTINEL_TYPE = 0x88B5  # for local experiments (RFC 9542, appendix B.2)
SENTINEL_TARGET = bytes.fromhex("0180c200000e")  # nearest bridge: no bridge forwards it (IEEE 802.1Q, table 8-1)

_SOL_PACKET = 263
_RX_RING, _STATISTICS, _VERSION = 5, 6, 10
_SO_ATTACH_FILTER = 26
_SO_TIMESTAMPNS = 35
_ETH_P_ALL = 3
_STATUS_USER, _STATUS_VLAN_VALID = 1, 1 << 4
_SLOT = struct.Struct("=IIIHHIIHH")
_SLOT_OVERHEAD_BYTES = 128
_PACKET_TYPE_AT = 32 + 10  # tpacket2_hdr, then sll_pkttype in sockaddr_ll
_SIOCGIFFLAGS, _SIOCGIFMTU, _SIOCGIFINDEX, _SIOCETHTOOL = 0x8913, 0x8921, 0x8933, 0x8946
_IFF_UP = 1
_ETHTOOL_GLINK = 10
# linux/if_arp.h: devices whose packets begin with the IP header
_RAW_IP_HARDWARE = {768, 769, 65534, 519, 512}

OUTGOING = 4
# sll_pkttype → direction in bits 0-1 and kind of reception in bits 2-4 of the pcapng flags
FLAGS = {0: 1 | 1 << 2, 1: 1 | 3 << 2, 2: 1 | 2 << 2, 3: 1 | 4 << 2, OUTGOING: 2}

# seconds, nanoseconds, sll_pkttype, length on the wire, bytes
Raw = tuple[int, int, int, int, bytes]


class Tap:
    """An open tap; `state` is live, down or vanished."""

    def __init__(self, name: str, device: str, ring_bytes: int, deaf_to_tcp_port: int | None = None) -> None:
        """Opens it in the network namespace that the caller is in. Raises OSError.

        `deaf_to_tcp_port`: on an Ethernet device, what goes from or to that TCP port (in the outermost IPv4 header) is
        never seen: the store's own traffic would be most of a capture and say nothing about pods.
        """
        self.name = name
        self.device = device
        self.seen = 0
        self.dropped = 0
        self.state = "live"
        self.is_kept = False
        self.is_closed = False
        self._next = 0
        with contextlib.ExitStack() as undo:
            self._socket = undo.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0))
            self._sender = undo.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0))
            self._index = self._ioctl_number(_SIOCGIFINDEX)
            if deaf_to_tcp_port is not None:
                _deafen(self._socket, deaf_to_tcp_port)
            self._ring = undo.enter_context(self._map_ring(ring_bytes))
            # Protocol 0 until here: a socket bound late cannot hold frames of other devices.
            self._socket.bind((device, _ETH_P_ALL))
            self._sender.bind((device, 0))
            undo.pop_all()
        self._words = memoryview(self._ring).cast("I")
        _, _, _, hardware, self.mac = self._socket.getsockname()
        self.link_type = pcapng.RAW_IP if hardware in _RAW_IP_HARDWARE else pcapng.ETHERNET

    def _map_ring(self, ring_bytes: int) -> mmap.mmap:
        needed = self._ioctl_number(_SIOCGIFMTU) + _SLOT_OVERHEAD_BYTES
        self._slot_bytes = max(2048, 1 << (needed - 1).bit_length())
        block_bytes = max(self._slot_bytes, 32768)
        blocks = max(4, ring_bytes // block_bytes)
        self.slots = blocks * (block_bytes // self._slot_bytes)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._socket.setsockopt(_SOL_PACKET, _VERSION, 1)
        request = struct.pack("=IIII", block_bytes, blocks, self._slot_bytes, self.slots)
        self._socket.setsockopt(_SOL_PACKET, _RX_RING, request)
        return mmap.mmap(self._socket.fileno(), blocks * block_bytes)

    def _ioctl_number(self, request: int) -> int:
        answer = fcntl.ioctl(self._socket, request, struct.pack("16si20x", self.device.encode(), 0))
        return int(struct.unpack_from("=i", answer, 16)[0])

    def fileno(self) -> int:
        """The descriptor to watch."""
        return self._socket.fileno()

    def drain(self) -> list[Raw]:
        """Empty the ring. What was in it, in the ring's order, if `is_kept`; else it is counted and let go."""
        if self.is_closed:  # the selector may tell of it in the very turn that closed it
            return []
        ring, words, slot_bytes, slots, at = self._ring, self._words, self._slot_bytes, self.slots, self._next
        unpack, kept = _SLOT.unpack_from, self.is_kept
        raws: list[Raw] = []
        base = at * slot_bytes
        while words[base >> 2] & _STATUS_USER:
            if kept:
                status, length, captured, offset, _, seconds, nanoseconds, tci, tpid = unpack(ring, base)
                data = ring[base + offset : base + offset + captured]
                if status & _STATUS_VLAN_VALID:  # the kernel keeps the tag beside the frame
                    data = data[:12] + struct.pack("!HH", tpid or 0x8100, tci) + data[12:]
                    length += 4
                raws.append((seconds, nanoseconds, ring[base + _PACKET_TYPE_AT], length, data))
            words[base >> 2] = 0  # the slot is the kernel's again
            self.seen += 1
            at += 1
            if at == slots:
                at = 0
            base = at * slot_bytes
        self._next = at
        return raws

    def send_sentinel(self, text: str) -> bytes | None:
        """Send it out; the bytes that the tap will see, or None where the device is down or gone (`state` tells)."""
        payload = text.encode()
        frame = payload if self.link_type == pcapng.RAW_IP else _ethernet(self.mac, payload)
        self.look()
        if self.state != "live":
            return None
        try:
            self._sender.send(frame)  # bound to the index: a new device of the same name is not meant
        except OSError as error:
            if error.errno not in (errno.ENETDOWN, errno.ENXIO, errno.ENODEV):
                raise
            self.look()
            return None
        return frame

    def look(self) -> None:
        """Clear the socket's error and see how the device is. Without carrier it sends nothing, so that is down too."""
        self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        try:
            if self._ioctl_number(_SIOCGIFINDEX) != self._index:
                self.state = "vanished"  # for good: the socket follows the device, not the name
            elif self.state != "vanished":
                self.state = "live" if self._is_running() else "down"
        except OSError:
            self.state = "vanished"

    def _is_running(self) -> bool:
        """Up and with carrier. IFF_RUNNING would say so too, but up to a second late."""
        if not self._ioctl_number(_SIOCGIFFLAGS) & _IFF_UP:
            return False
        value = array.array("I", [_ETHTOOL_GLINK, 0])
        try:
            fcntl.ioctl(
                self._socket, _SIOCETHTOOL, struct.pack("16sP16x", self.device.encode(), value.buffer_info()[0])
            )
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:  # such as tunl0, which has no carrier to lose
                return True
            raise
        return bool(value[1])

    def count_drops(self) -> int:
        """All drops so far, in frames. Reading resets the kernel's counter, so they are summed here."""
        _, dropped = struct.unpack("=II", self._socket.getsockopt(_SOL_PACKET, _STATISTICS, 8))
        self.dropped += dropped
        return self.dropped

    def close(self) -> None:
        """Let the device and its namespace go."""
        self.is_closed = True
        self._words.release()
        self._ring.close()
        self._socket.close()
        self._sender.close()


def _deafen(sock: socket.socket, port: int) -> None:
    """Attach the classic BPF program for `not (ip and tcp port PORT and no later fragment)`. Source: linux/filter.h"""
    program = (
        (0x28, 0, 0, 12),  # ldh [12]: EtherType
        (0x15, 0, 9, 0x0800),  # not IPv4: keep
        (0x30, 0, 0, 23),  # ldb [23]: protocol
        (0x15, 0, 7, 6),  # not TCP: keep
        (0x28, 0, 0, 20),  # ldh [20]: fragment offset
        (0x45, 5, 0, 0x1FFF),  # a later fragment: keep
        (0xB1, 0, 0, 14),  # ldxb 4*([14]&0xf): length of the IP header
        (0x48, 0, 0, 14),  # ldh [x+14]: source port
        (0x15, 3, 0, port),  # drop
        (0x48, 0, 0, 16),  # ldh [x+16]: destination port
        (0x15, 1, 0, port),  # drop
        (0x06, 0, 0, 0xFFFFFFFF),  # keep
        (0x06, 0, 0, 0),  # drop
    )
    code = array.array("B", b"".join(struct.pack("=HBBI", *step) for step in program))
    address, _ = code.buffer_info()
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HxxxxxxP", len(program), address))


def _ethernet(source: bytes, payload: bytes) -> bytes:
    return SENTINEL_TARGET + source + SENTINEL_TYPE.to_bytes(2, "big") + payload
