"""Following through proxies: the bytes of HTTP/2 and protobuf, and what a cut or hostile stream comes to."""

from __future__ import annotations

import struct

import pytest

from refnet.store import h2
from refnet.store.etcd import Change, Undecodable
from refnet.store.fanout import create_request, fields, in_order_for, read_response

ENDPOINTS = ("http://a:1", "http://b:1", "http://c:1")


def grpc(body: bytes) -> bytes:
    return struct.pack(">BI", 0, len(body)) + body


def part(number: int, value: bytes | int) -> bytes:
    """One protobuf field, short enough for one byte of length."""
    return bytes([number << 3, value]) if isinstance(value, int) else bytes([number << 3 | 2, len(value)]) + value


def event(key: bytes, value: bytes, revision: int, *, is_gone: bool = False) -> bytes:
    kv = part(1, key) + part(3, revision) + (part(5, value) if value else b"")
    return part(11, (part(1, 1) if is_gone else b"") + part(2, kv))


def test_nodes_begin_at_different_proxies_and_know_them_all() -> None:
    orders = {in_order_for(f"node{number}", ENDPOINTS) for number in range(20)}
    assert len(orders) == 3
    assert all(sorted(order) == sorted(ENDPOINTS) for order in orders)
    assert in_order_for("node1", ()) == ()


def test_a_request_names_the_range_and_the_revision() -> None:
    assert create_request("/a/", 300) == b"\x0a\x0d" + b"\x0a\x03/a/" + b"\x12\x03/a0" + b"\x18\xac\x02"


def test_events_become_changes() -> None:
    message = event(b"/calico/a", b'{"x":1}', 7) + event(b"/calico/b", b"", 8, is_gone=True) + event(b"/c", b"{", 9)
    assert read_response(message) == [
        Change("/calico/a", {"x": 1}, 7),
        Change("/calico/b", None, 8),
        Change("/c", Undecodable("{"), 9),
    ]


def test_a_cancelled_watch_says_why() -> None:
    with pytest.raises(h2.Broken, match=r"^cancelled: compacted up to revision 9$"):
        read_response(part(4, 1) + part(5, 9))
    with pytest.raises(h2.Broken, match=r"^cancelled: no leader$"):
        read_response(part(4, 1) + part(6, b"no leader"))


@pytest.mark.parametrize(
    "message",
    [b"\x0a\x05ab", b"\x08", b"\x08" + b"\xff" * 10, b"\x0d\x00\x00\x00\x00", part(11, 1)],
    ids=["too-short", "no-value", "endless-number", "fixed-width", "a-number-for-an-event"],
)
def test_nonsense_is_refused(message: bytes) -> None:
    with pytest.raises((h2.Broken, ValueError)):
        read_response(message)
        list(fields(message))


def test_frames_are_taken_apart_wherever_the_bytes_are_cut() -> None:
    stream = (
        h2.frame(h2.SETTINGS, 0, 0, b"")
        + h2.frame(h2.HEADERS, 4, 1, b"\x88")
        + h2.frame(h2.DATA, 0, 1, grpc(b"one") + grpc(b"two")[:4])
        + h2.frame(h2.DATA, 0, 1, grpc(b"two")[4:])
        + h2.frame(h2.PING, 0, 0, b"12345678")
    )
    for size in (1, 7, len(stream)):
        incoming = h2.Incoming()
        found = [m for at in range(0, len(stream), size) for m in incoming.feed(stream[at : at + size])]
        assert found == [b"one", b"two"]
        assert h2.frame(h2.SETTINGS, 1, 0, b"") in incoming.reply
        assert h2.frame(h2.PING, 1, 0, b"12345678") in incoming.reply


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (h2.frame(h2.GOAWAY, 0, 0, bytes(8) + b"too_many"), "told to go away: too_many"),
        (h2.frame(h2.RST_STREAM, 0, 1, b"\x00\x00\x00\x08"), "stream reset: error 8"),
        (h2.frame(h2.HEADERS, 5, 1, b""), "ended by the other side"),
        (b"\xff\xff\xff\x00\x00\x00\x00\x00\x01", None),
        (h2.frame(h2.DATA, 0, 1, b"\x01\x00\x00\x00\x00"), "a compressed message, which nobody asked for"),
    ],
    ids=["goaway", "reset", "trailers", "frame-not-whole-yet", "compressed"],
)
def test_a_stream_that_ends_says_why(frame: bytes, why: str | None) -> None:
    incoming = h2.Incoming()
    if why is None:
        assert incoming.feed(frame) == []
        return
    with pytest.raises(h2.Broken, match=f"^{why}$"):
        incoming.feed(frame)
