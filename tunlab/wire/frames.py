"""A frame is a tuple of headers, outermost first. There is no `frame.ip`: a tunnelled frame has two.

The headers of the packet that an ICMP error quotes belong to that Icmp header (`quoted`) and never to the stack.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar, TypeVar

PAYLOAD_BYTES = 64


class Mismatch(AssertionError):
    """What was seen is not what was wanted: the fault of the system under test. The message is one line."""


@dataclass(frozen=True, slots=True)
class Ethernet:
    """IEEE 802.3; `kind` is the EtherType, or a length below 0x600."""

    word: ClassVar[str] = "eth"
    source: str
    destination: str
    kind: int

    def __str__(self) -> str:
        return f"eth {self.source} > {self.destination}" + ("" if self.kind in _KNOWN_TYPES else f" {self.kind:#06x}")


@dataclass(frozen=True, slots=True)
class Arp:
    """RFC 826; operation 1 asks, 2 answers."""

    word: ClassVar[str] = "arp"
    operation: int
    sender_mac: str
    sender_ip: str
    target_mac: str
    target_ip: str

    def __str__(self) -> str:
        if self.operation == 1:
            return f"arp who has {self.target_ip} tell {self.sender_ip}"
        return f"arp {self.sender_ip} is at {self.sender_mac}"


@dataclass(frozen=True, slots=True)
class Ipv4:
    """RFC 791; `length` and `fragment_offset` in bytes; `checksum_ok` is computed, not believed."""

    word: ClassVar[str] = "ip"
    source: str
    destination: str
    ttl: int
    protocol: int
    identification: int
    length: int
    dont_fragment: bool
    more_fragments: bool
    fragment_offset: int
    tos: int
    checksum_ok: bool

    @property
    def is_fragment(self) -> bool:
        """Whether it is a part of a packet."""
        return self.more_fragments or self.fragment_offset > 0

    def __str__(self) -> str:
        text = f"ip {self.source} > {self.destination} ttl {self.ttl}"
        if self.is_fragment:
            text += f" fragment at {self.fragment_offset}" + ("+" if self.more_fragments else "")
        return (
            text + ("" if self.protocol in _KNOWN_PROTOCOLS else f" protocol {self.protocol}") + _bad(self.checksum_ok)
        )


@dataclass(frozen=True, slots=True)
class Ipv6:
    """RFC 8200, the fixed header alone; `length` in bytes with this header, as IPv4 counts. An extension is payload."""

    word: ClassVar[str] = "ipv6"
    source: str
    destination: str
    next_header: int
    hop_limit: int
    length: int
    traffic_class: int

    @property
    def ttl(self) -> int:
        """The hop limit, by the word that suites know from IPv4."""
        return self.hop_limit

    @property
    def protocol(self) -> int:
        """The next header, by the word that suites know from IPv4."""
        return self.next_header

    def __str__(self) -> str:
        text = f"ipv6 {self.source} > {self.destination} hop limit {self.hop_limit}"
        return text + ("" if self.next_header in _KNOWN_NEXT else f" next {self.next_header}")


@dataclass(frozen=True, slots=True)
class Udp:
    """RFC 768. `checksum_ok` is None where the sender left it out (0) or where only a part of the packet is there."""

    word: ClassVar[str] = "udp"
    source_port: int
    destination_port: int
    length: int
    checksum: int
    checksum_ok: bool | None

    def __str__(self) -> str:
        return f"udp {self.source_port} > {self.destination_port}{_bad(self.checksum_ok)}"


@dataclass(frozen=True, slots=True)
class Tcp:
    """RFC 9293. `flags` are letters in the order F S R P A U E C; `payload_bytes` is 0 within a quote."""

    word: ClassVar[str] = "tcp"
    source_port: int
    destination_port: int
    flags: str
    sequence: int  # the absolute one
    payload_bytes: int
    checksum_ok: bool | None

    def __str__(self) -> str:
        return (
            f"tcp {self.source_port} > {self.destination_port} {self.flags or '-'} {self.payload_bytes} B"
            f"{_bad(self.checksum_ok)}"
        )


@dataclass(frozen=True, slots=True)
class Icmp:
    """RFC 792, `kind` is its type. `identifier` and `sequence` are for echoes, `mtu` for 3/4 (RFC 1191), else None."""

    word: ClassVar[str] = "icmp"
    kind: int
    code: int
    identifier: int | None
    sequence: int | None
    mtu: int | None
    checksum_ok: bool | None
    quoted: tuple[Header, ...] = ()

    def __str__(self) -> str:
        if self.kind in (0, 8):
            text = f"icmp {'request' if self.kind else 'reply'} id {self.identifier} seq {self.sequence}"
        else:
            text = f"icmp {self.kind}/{self.code}" + (f" mtu {self.mtu}" if self.mtu is not None else "")
        if self.quoted:
            text += f" quoting [{' | '.join(str(header) for header in self.quoted)}]"
        return text + _bad(self.checksum_ok)


@dataclass(frozen=True, slots=True)
class Icmpv6:
    """RFC 4443; `identifier` and `sequence` of echoes (128, 129), `mtu` for 2, `target` for 135, 136 (RFC 4861)."""

    word: ClassVar[str] = "icmpv6"
    kind: int
    code: int
    identifier: int | None
    sequence: int | None
    mtu: int | None
    target: str | None
    checksum_ok: bool | None
    quoted: tuple[Header, ...] = ()

    def __str__(self) -> str:
        text = f"icmpv6 {self.kind}/{self.code}"
        if self.kind in (128, 129):
            text = f"icmpv6 {'request' if self.kind == 128 else 'reply'} id {self.identifier} seq {self.sequence}"
        elif self.target is not None:
            text = f"icmpv6 {'who has' if self.kind == 135 else 'here is'} {self.target}"
        elif self.mtu is not None:
            text += f" mtu {self.mtu}"
        if self.quoted:
            text += f" quoting [{' | '.join(str(header) for header in self.quoted)}]"
        return text + _bad(self.checksum_ok)


@dataclass(frozen=True, slots=True)
class Vxlan:
    """RFC 7348; `flags` is the first byte (8: the VNI counts), `reserved` the 24 bits after it and the last 8."""

    word: ClassVar[str] = "vxlan"
    vni: int
    flags: int
    reserved: int

    def __str__(self) -> str:
        return f"vxlan vni {self.vni}"


@dataclass(frozen=True, slots=True)
class Payload:
    """What follows the last header: its first bytes; no word in the stack."""

    word: ClassVar[str] = ""
    data: bytes

    def __str__(self) -> str:
        return f"data {self.data[:8].hex()}{'…' if len(self.data) > 8 else ''}"


Header = Ethernet | Arp | Ipv4 | Ipv6 | Udp | Tcp | Icmp | Icmpv6 | Vxlan | Payload
H = TypeVar("H", Ethernet, Arp, Ipv4, Ipv6, Udp, Tcp, Icmp, Icmpv6, Vxlan, Payload)
Ip = Ipv4 | Ipv6
_KNOWN_TYPES = (0x0800, 0x0806, 0x86DD)
_KNOWN_PROTOCOLS = (1, 4, 6, 17)
_KNOWN_NEXT = (6, 17, 58)


def _bad(checksum_ok: bool | None) -> str:
    return " bad checksum" if checksum_ok is False else ""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame at one tap. `number` is Wireshark's, `direction` in or out as the tap's device sees it."""

    number: int
    time_s: float
    tap: str
    direction: str
    window: str
    headers: tuple[Header, ...]
    capture: str = ""

    @property
    def where(self) -> str:
        """How messages name it."""
        return f"{self.capture} frame {self.number} on {self.tap}"

    @property
    def stack(self) -> str:
        """The words of its headers, outermost first: "eth ip udp vxlan eth ip icmp"."""
        return " ".join(header.word for header in self.headers if header.word)

    @property
    def ips(self) -> tuple[Ip, ...]:
        """Its IP headers of either family, outermost first."""
        return tuple(header for header in self.headers if isinstance(header, (Ipv4, Ipv6)))

    @property
    def ethernets(self) -> tuple[Ethernet, ...]:
        """Its Ethernet headers, outermost first."""
        return tuple(header for header in self.headers if isinstance(header, Ethernet))

    @property
    def outer(self) -> Ip:
        """The outermost IP header. Raises Mismatch where there is none."""
        if not self.ips:
            raise Mismatch(f"{self.where}: outer: seen no IP header in {self.stack!r}")
        return self.ips[0]

    @property
    def inner(self) -> Ip:
        """The innermost of several IP headers. Raises Mismatch where there is one only, or none."""
        if len(self.ips) < 2:
            raise Mismatch(f"{self.where}: inner: seen {len(self.ips)} IP header(s) in {self.stack!r}, wanted two")
        return self.ips[-1]

    @property
    def innermost(self) -> Ip:
        """The addresses of the two that talk, tunnelled or not. Raises Mismatch where there is no IP header."""
        return self.inner if len(self.ips) > 1 else self.outer

    @property
    def last(self) -> Header:
        """The last header that has a word."""
        return [header for header in self.headers if header.word][-1]

    def find(self, kind: type[H]) -> H:
        """The first header of a kind. Raises Mismatch where there is none."""
        for header in self.headers:
            if isinstance(header, kind):
                return header
        raise Mismatch(f"{self.where}: {kind.__name__.lower()}: seen no such header in {self.stack!r}")

    def has(self, kind: type[H]) -> bool:
        """Whether it has a header of that kind."""
        return any(isinstance(header, kind) for header in self.headers)

    def describe(self) -> str:
        """One line for people."""
        told = " | ".join(str(header) for header in self.headers if header.word)
        return f"{self.tap} {self.direction or '-'} [{self.stack}] {told}"


def differences(first: tuple[Header, ...], second: tuple[Header, ...], path: str = "") -> list[tuple[str, str, str]]:
    """Where two readings of the same bytes differ: (field, first value, second value)."""
    words = [" ".join(header.word or "data" for header in headers) for headers in (first, second)]
    if words[0] != words[1]:
        return [(f"{path}stack", words[0], words[1])]
    found: list[tuple[str, str, str]] = []
    for number, (one, two) in enumerate(zip(first, second, strict=True)):
        for field in fields(one):
            mine, theirs = getattr(one, field.name), getattr(two, field.name)
            if mine == theirs:
                continue
            at = f"{path}{one.word or 'data'}[{number}].{field.name}"
            if field.name == "quoted":
                found += differences(mine, theirs, f"{at}.")
            else:
                found.append((at, _shown(mine), _shown(theirs)))
    return found


def _shown(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
