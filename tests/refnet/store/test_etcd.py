"""The client against a real etcd, and against servers that misbehave."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from refnet.errors import InvalidResource, StoreConflict, StoreUnavailable
from refnet.store.etcd import Change, Delete, Etcd, Guard, Put, Undecodable, Watch
from refnet.store.http import ChunkDecoder, split_endpoint


def changes_until(watch: Watch, count: int) -> list[Change]:
    """Changes as a selector sees them, until there are so many or 5 s have passed."""
    seen: list[Change] = []
    deadline = time.monotonic() + 5
    while len(seen) < count and (left := deadline - time.monotonic()) > 0:
        select.select([watch], [], [], left)
        seen += watch.read()
    return seen


def test_a_key_is_created_once_and_updated_only_from_its_present_revision(store: Etcd) -> None:
    first = store.create("/t/a", {"n": 1})
    with pytest.raises(StoreConflict, match=r"^etcd: write /t/a: exists already$"):
        store.create("/t/a", {"n": 2})
    second = store.update("/t/a", {"n": 2}, first)
    with pytest.raises(StoreConflict, match=rf"^etcd: write /t/a: is no longer at revision {first}$"):
        store.update("/t/a", {"n": 3}, first)
    kept = store.get("/t/a")
    assert kept and (kept.value, kept.revision) == ({"n": 2}, second)


def test_a_delete_says_whether_there_was_something_and_heeds_its_revision(store: Etcd) -> None:
    first = store.put("/t/a", 1)
    second = store.put("/t/a", 2)
    with pytest.raises(StoreConflict, match=rf"^etcd: delete /t/a: is no longer at revision {first}$"):
        store.delete("/t/a", first)
    assert store.delete("/t/a", second)
    assert not store.delete("/t/a", second)
    assert not store.delete("/t/a")


def test_a_transaction_does_all_or_nothing(store: Etcd) -> None:
    revision = store.put("/t/a", 1)
    assert not store.txn([Guard("/t/a", revision), Guard("/t/b", 7)], [Put("/t/a", 2), Put("/t/c", 3)])
    assert {key: kv.value for key, kv in store.prefix("/t/")[0].items()} == {"/t/a": 1}
    assert store.txn([Guard("/t/a", revision), Guard("/t/b", 0)], [Delete("/t/a"), Put("/t/c", 3)])
    assert {key: kv.value for key, kv in store.prefix("/t/")[0].items()} == {"/t/c": 3}


def test_a_prefix_ends_where_it_ends(store: Etcd) -> None:
    for key in ("/t/a", "/t/a/b", "/t0", "/s"):
        store.put(key, key)
    assert set(store.prefix("/t/")[0]) == {"/t/a", "/t/a/b"}


def test_a_snapshot_takes_keys_and_prefixes_of_one_moment(store: Etcd) -> None:
    revision = max(store.put(key, key) for key in ("/t/a", "/t/b/c", "/t/b/d"))
    found, at = store.snapshot("/t/a", "/t/b/", "/t/none")
    assert (set(found), at) == ({"/t/a", "/t/b/c", "/t/b/d"}, revision)


def test_a_value_that_is_not_json_does_not_blind_its_reader(store: Etcd, etcd_endpoint: str) -> None:
    body = b'{"key":"L3QvYQ==","value":"e25vdCBqc29u"}'
    with socket.create_connection(split_endpoint(etcd_endpoint)) as raw:
        head = f"POST /v3/kv/put HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        raw.sendall(head.encode() + body)
        while raw.recv(4096):
            pass
    kept = store.get("/t/a")
    assert kept and kept.value == Undecodable("{not json")


def test_a_large_answer_comes_whole(store: Etcd) -> None:
    text = "x" * 100_000
    for i in range(12):
        store.put(f"/t/{i:02}", text)
    assert [kv.value for kv in store.prefix("/t/")[0].values()] == [text] * 12


def test_a_watch_tells_everything_since_its_revision_in_order(store: Etcd) -> None:
    first = store.put("/t/a", 1)
    second = store.put("/t/a", 2)
    store.put("/elsewhere", 0)
    watch = store.watch("/t/", first)
    store.delete("/t/a")
    assert changes_until(watch, 3)[:2] == [Change("/t/a", 1, first), Change("/t/a", 2, second)]
    fourth = store.put("/t/b", {"x": [1]})
    assert changes_until(watch, 1) == [Change("/t/b", {"x": [1]}, fourth)]
    assert watch.read() == []
    watch.close()


class Server:
    """Answers each connection with the next of its scripts: bytes to send after a request; then closes."""

    def __init__(self, *scripts: bytes) -> None:
        self.requests: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, args=(scripts,), daemon=True)
        self._thread.start()

    def _serve(self, scripts: tuple[bytes, ...]) -> None:
        for script in scripts:
            connection, _ = self._socket.accept()
            with connection:
                self.requests.append(connection.recv(65536))
                connection.sendall(script)

    def close(self) -> None:
        self._thread.join(timeout=5)
        self._socket.close()


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    started: list[Server] = []
    yield started
    for server in started:
        server.close()


def answer(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


EMPTY = answer(b'{"header":{"revision":"7"}}')


def test_a_kept_connection_that_the_server_has_closed_is_made_anew(servers: list[Server]) -> None:
    server = Server(EMPTY, EMPTY)
    servers.append(server)
    with closing(Etcd([server.endpoint], timeout_s=2)) as client:
        assert client.get("/t/a") is None
        assert client.get("/t/a") is None
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        (b"", "/v3/kv/range: closed the connection without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{", "/v3/kv/range: closed the connection amid an answer"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "/v3/kv/range: not an HTTP answer: 'SSH-2.0-OpenSSH'"),
        (answer(b'{"error":"no leader"}', "503 Busy"), "/v3/kv/range: HTTP 503: no leader"),
        (answer(b"<html>", "404 Nope"), "/v3/kv/range: HTTP 404 without JSON: b'<html>'"),
    ],
    ids=["silence", "half", "no http", "refusal", "no json"],
)
def test_a_server_that_misbehaves_is_unavailable(servers: list[Server], script: bytes, complaint: str) -> None:
    server = Server(script)
    servers.append(server)
    with closing(Etcd([server.endpoint], timeout_s=2)) as client, pytest.raises(StoreUnavailable) as caught:
        client.get("/t/a")
    assert str(caught.value) == f"etcd {server.endpoint}: {complaint}"


def test_a_server_that_does_not_answer_costs_no_more_than_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        endpoint = f"http://127.0.0.1:{mute.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"no answer in time$"):
            Etcd([endpoint], timeout_s=0.2).get("/t/a")
        assert time.monotonic() - started < 2


def test_the_next_endpoint_is_tried_when_one_refuses(store: Etcd, etcd_endpoint: str) -> None:
    store.put("/t/a", 1)
    with closing(Etcd(["http://127.0.0.1:1", etcd_endpoint])) as client:
        kept = client.get("/t/a")
    assert kept and kept.value == 1


def test_a_watch_that_is_cut_says_so(servers: list[Server]) -> None:
    server = Server(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    servers.append(server)
    watch = Etcd([server.endpoint], timeout_s=2).watch("/t/", 1)
    with closing(watch), pytest.raises(StoreUnavailable, match=r"watch: closed by etcd$"):
        changes_until(watch, 1)


def test_a_watch_from_a_compacted_revision_says_so(servers: list[Server]) -> None:
    line = b'{"result":{"canceled":true,"compact_revision":"9"}}\n'
    chunk = b"%x\r\n%s\r\n" % (len(line), line)
    server = Server(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk)
    servers.append(server)
    watch = Etcd([server.endpoint], timeout_s=2).watch("/t/", 1)
    with closing(watch), pytest.raises(StoreUnavailable, match=r"watch: cancelled: compacted up to revision 9$"):
        changes_until(watch, 1)


@pytest.mark.parametrize("step", [1, 2, 3, 7, 100])
def test_chunks_decode_however_they_are_cut(step: int) -> None:
    raw = b"5\r\nhello\r\n7;x=y\r\n, world\r\n0\r\n\r\n"
    decoder = ChunkDecoder()
    assert b"".join(decoder.feed(raw[i : i + step]) for i in range(0, len(raw), step)) == b"hello, world"
    assert decoder.ended


@pytest.mark.parametrize(
    "endpoint", ["https://h:1", "ftp://h", "http://", "http://h:x", "http://h:70000", "http://h:1/path"]
)
def test_an_endpoint_that_is_none_is_refused_at_once(endpoint: str) -> None:
    with pytest.raises(InvalidResource, match=r"^etcd endpoint: etcd_endpoints: "):
        Etcd([endpoint])
