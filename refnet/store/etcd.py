"""etcd 3.4+ through its JSON gateway: reads, guarded writes, watches; values are JSON, revisions are whole numbers."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Sequence

from refnet.errors import StoreConflict, StoreUnavailable
from refnet.model.value import value
from refnet.store.http import ChunkDecoder, Connection, Stale, split_endpoint

TYPE_CHECKING = False  # typing costs 3 ms of start-up
if TYPE_CHECKING:
    from typing import Any

_RANGE, _TXN, _WATCH = "/v3/kv/range", "/v3/kv/txn", "/v3/watch"


@value
class Undecodable:
    """A stored value that is not JSON; it stands where the value would, so one bad key does not blind the reader."""

    text: str


@value
class Stored:
    """What a key holds, and the store revision at which it was last written."""

    key: str
    value: Any
    revision: int


@value
class Guard:
    """The transaction happens only if `key` was last written at `revision`; 0 = only if it does not exist."""

    key: str
    revision: int


@value
class Put:
    """Write the value, as JSON."""

    key: str
    value: Any


@value
class Delete:
    """Remove the key; removing what is not there is fine."""

    key: str


Write = Put | Delete


@value
class Change:
    """One event of a watch; `value` is None when the key was deleted."""

    key: str
    value: Any
    revision: int


class Etcd:
    """A client of one etcd cluster. Endpoints are tried in order; one connection is kept and used again.

    Every method raises StoreUnavailable when no endpoint answers within `timeout_s` seconds. Not for use by two
    threads at once.
    """

    def __init__(self, endpoints: Sequence[str], timeout_s: float = 5.0) -> None:
        self.endpoints = tuple(endpoints)
        for endpoint in self.endpoints:
            split_endpoint(endpoint)
        if not self.endpoints:
            raise StoreUnavailable("etcd: no endpoint given", hint="set ETCD_ENDPOINTS=http://HOST:2379")
        self.timeout_s = timeout_s
        self._connection: Connection | None = None

    def get(self, key: str) -> Stored | None:
        answer = self._ask(_RANGE, {"key": _b64(key)})
        return next((_stored(kv) for kv in answer.get("kvs", ())), None)

    def prefix(self, prefix: str) -> tuple[dict[str, Stored], int]:
        """All keys below `prefix`, and the store's revision at that moment (watch from it + 1)."""
        answer = self._ask(_RANGE, _range(prefix))
        return {kv.key: kv for kv in map(_stored, answer.get("kvs", ()))}, _revision(answer)

    def snapshot(self, *wanted: str) -> tuple[dict[str, Stored], int]:
        """Several keys and prefixes (those that end in `/`) as they stood at one moment, in one round trip."""
        ranges = [{"requestRange": _range(w) if w.endswith("/") else {"key": _b64(w)}} for w in wanted]
        answer = self._ask(_TXN, {"success": ranges})
        found: dict[str, Stored] = {}
        for response in answer.get("responses", ()):
            kvs = response.get("response_range", {}).get("kvs", ())
            found.update((kv.key, kv) for kv in map(_stored, kvs))
        return found, _revision(answer)

    def create(self, key: str, value: Any) -> int:
        """Write a key that must not exist; its revision. Raises StoreConflict if it exists."""
        return self._guarded(Guard(key, 0), Put(key, value), "exists already")

    def update(self, key: str, value: Any, revision: int) -> int:
        """Write a key that must still be at `revision`; the new one. Raises StoreConflict if it is not."""
        return self._guarded(Guard(key, revision), Put(key, value), f"is no longer at revision {revision}")

    def put(self, key: str, value: Any) -> int:
        """Write, whatever was there; the key's new revision."""
        return self._commit((), (Put(key, value),))[1]

    def delete(self, key: str, revision: int | None = None) -> bool:
        """Remove a key; whether it was there. Raises StoreConflict if a given `revision` is not its present one."""
        guards = () if revision is None else (Guard(key, revision),)
        answer = self._ask(_TXN, _transaction(guards, (Delete(key),)))
        if not answer.get("succeeded"):
            if self.get(key) is None:
                return False
            raise StoreConflict(f"etcd: delete {key}: is no longer at revision {revision}")
        responses = answer.get("responses", [{}])
        return int(responses[0].get("response_delete_range", {}).get("deleted", 0)) > 0

    def txn(self, guards: Sequence[Guard], writes: Sequence[Write]) -> bool:
        """All writes at once if every guard holds, else none of them; whether they happened."""
        return self._commit(guards, writes)[0]

    def watch(self, prefix: str, from_revision: int) -> Watch:
        """Changes below `prefix` from that revision on. Raises StoreUnavailable when no endpoint takes the watch."""
        request = {"create_request": {**_range(prefix), "start_revision": str(from_revision)}}
        deadline = time.monotonic() + self.timeout_s
        connection = self._connect(deadline)
        try:
            connection.send(_WATCH, json.dumps(request).encode(), deadline)
            status, headers = connection.read_head(_WATCH, deadline, step=1)
            if status != 200 or headers.get("transfer-encoding", "").lower() != "chunked":
                raise StoreUnavailable(f"etcd {connection.endpoint}: watch: HTTP {status}")
        except StoreUnavailable:
            connection.close()
            raise
        return Watch(connection)

    def close(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None

    def _guarded(self, guard: Guard, write: Put, complaint: str) -> int:
        happened, revision = self._commit((guard,), (write,))
        if not happened:
            raise StoreConflict(f"etcd: write {guard.key}: {complaint}")
        return revision

    def _commit(self, guards: Sequence[Guard], writes: Sequence[Write]) -> tuple[bool, int]:
        answer = self._ask(_TXN, _transaction(guards, writes))
        return bool(answer.get("succeeded")), _revision(answer)

    def _ask(self, path: str, request: dict[str, Any]) -> dict[str, Any]:
        body = json.dumps(request, separators=(",", ":")).encode()
        deadline = time.monotonic() + self.timeout_s
        connection = self._connection or self._connect(deadline)
        self._connection = None
        try:
            try:
                status, headers, answer = self._exchange(connection, path, body, deadline)
            except Stale:
                connection.close()
                connection = self._connect(deadline)
                status, headers, answer = self._exchange(connection, path, body, deadline)
        except BaseException:
            connection.close()
            raise
        if headers.get("connection", "").lower() == "close":
            connection.close()
        else:
            connection.used = True
            self._connection = connection
        return _decoded(connection.endpoint, path, status, answer)

    def _exchange(
        self, connection: Connection, path: str, body: bytes, deadline: float
    ) -> tuple[int, dict[str, str], bytes]:
        connection.send(path, body, deadline)
        status, headers = connection.read_head(path, deadline)
        return status, headers, connection.read_body(path, headers, deadline)

    def _connect(self, deadline: float) -> Connection:
        """The first endpoint that takes a connection; each gets its share of the time that is left."""
        refusals = []
        for tried, endpoint in enumerate(self.endpoints):
            now = time.monotonic()
            try:
                return Connection(endpoint, now + (deadline - now) / (len(self.endpoints) - tried))
            except StoreUnavailable as error:
                refusals.append(error.message)
        raise StoreUnavailable("; ".join(refusals), hint="is etcd running, and is this its address?")


class Watch:
    """A stream of changes for a selector: wait until `fileno()` is readable, then `read()` what has come."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._chunks = ChunkDecoder()
        self._text = b""
        connection.socket.setblocking(False)
        keep_alive(connection)

    def fileno(self) -> int:
        return self._connection.socket.fileno()

    def read(self) -> list[Change]:
        """Changes that have arrived, perhaps none; never blocks.

        Raises StoreUnavailable when the stream was cut, cancelled or compacted away: read the whole prefix again.
        """
        changes: list[Change] = []
        while True:
            try:
                data = self._connection.socket.recv(65536)
            except BlockingIOError:
                return changes
            except OSError as error:
                raise self._cut(error.strerror or str(error)) from error
            if not data:
                raise self._cut("closed by etcd")
            changes += self._decode(data)

    def close(self) -> None:
        self._connection.close()

    def _decode(self, data: bytes) -> list[Change]:
        try:
            self._text += self._chunks.feed(data)
            *lines, self._text = self._text.split(b"\n")
            answers = [json.loads(line) for line in lines if line.strip()]
        except ValueError as error:
            raise self._cut("misshapen answer") from error
        changes: list[Change] = []
        for answer in answers:
            result = answer.get("result")
            if result is None:
                raise self._cut(str(answer.get("error", answer)))
            if result.get("canceled"):
                compacted = result.get("compact_revision")
                reason = f"compacted up to revision {compacted}" if compacted else result.get("cancel_reason")
                raise self._cut(f"cancelled: {reason}")
            changes += [_change(event) for event in result.get("events", ())]
        return changes

    def _cut(self, reason: str) -> StoreUnavailable:
        return StoreUnavailable(f"etcd {self._connection.endpoint}: watch: {reason}")


def keep_alive(connection: Connection) -> None:
    """Let the kernel notice within half a minute that etcd's host has gone without a word."""
    import socket

    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, seconds in ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 4)):
        connection.socket.setsockopt(socket.IPPROTO_TCP, option, seconds)


def _transaction(guards: Sequence[Guard], writes: Sequence[Write]) -> dict[str, Any]:
    compare = [
        {"key": _b64(g.key), "target": "MOD", "result": "EQUAL", "mod_revision": str(g.revision)} for g in guards
    ]
    success: list[dict[str, Any]] = []
    for write in writes:
        if isinstance(write, Put):
            value = json.dumps(write.value, separators=(",", ":"))
            success.append({"requestPut": {"key": _b64(write.key), "value": _b64(value)}})
        else:
            success.append({"requestDeleteRange": {"key": _b64(write.key)}})
    return {"compare": compare, "success": success}


def _range(prefix: str) -> dict[str, str]:
    raw = prefix.encode()
    return {"key": _b64(prefix), "range_end": base64.b64encode(raw[:-1] + bytes([raw[-1] + 1])).decode()}


def _decoded(endpoint: str, path: str, status: int, body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError as error:
        raise StoreUnavailable(f"etcd {endpoint}: {path}: HTTP {status} without JSON: {body[:60]!r}") from error
    if status != 200 or not isinstance(answer, dict):
        reason = answer.get("error") or answer.get("message") if isinstance(answer, dict) else answer
        raise StoreUnavailable(f"etcd {endpoint}: {path}: HTTP {status}: {reason}")
    return answer


def _revision(answer: dict[str, Any]) -> int:
    return int(answer.get("header", {}).get("revision", 0))


def _stored(kv: dict[str, Any]) -> Stored:
    return Stored(_text(kv["key"]), _value(kv.get("value", "")), int(kv.get("mod_revision", 0)))


def _change(event: dict[str, Any]) -> Change:
    kv = event.get("kv", {})
    value = None if event.get("type") == "DELETE" else _value(kv.get("value", ""))
    return Change(_text(kv["key"]), value, int(kv.get("mod_revision", 0)))


def _value(encoded: str) -> Any:
    return decode_value(base64.b64decode(encoded))


def decode_value(raw: bytes) -> Any:
    """A stored value; Undecodable if it is not JSON."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        value = None
    return Undecodable(raw.decode(errors="replace")) if value is None else value


def _text(encoded: str) -> str:
    return base64.b64decode(encoded).decode(errors="replace")


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
