"""Following the store: the whole of it once, then every change; when the stream breaks, the whole again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from refnet.errors import StoreUnavailable
from refnet.model.keys import AFFINITIES, BLOCKS, RESOURCES
from refnet.store.etcd import Etcd, Watch
from refnet.store.fanout import ProxyWatch, watch_through

_KEPT = (RESOURCES, BLOCKS, AFFINITIES)
_ROOT = "/calico/"
_FIRST_RETRY_S, _LAST_RETRY_S = 0.1, 5.0
_TIMEOUT_S = 3.0


class Follower:
    """The store's present content. `watch` is to be selected on while it is not None; `tick` connects again in time."""

    def __init__(self, endpoints: Sequence[str], log: Callable[..., None], proxies: Sequence[str] = ()) -> None:
        self.etcd = Etcd(endpoints, timeout_s=_TIMEOUT_S)
        self.entries: dict[str, Any] = {}
        self.revision = 0
        self.watch: Watch | ProxyWatch | None = None
        self._proxies = tuple(proxies)
        self.reason = "the store was not read yet"
        self.was_read = False
        self._log = log
        self._read_at = 0
        self._retry_at = 0.0
        self._retry_after_s = _FIRST_RETRY_S
        self._connected_at = 0.0

    def deadline(self) -> float:
        return float("inf") if self.watch else self._retry_at

    def tick(self, now: float) -> bool:
        """Connect again if it is time; whether the content was read anew."""
        if self.watch or now < self._retry_at:
            return False
        try:
            self.refresh()
            self.watch = self._watch()
        except StoreUnavailable as error:
            self.lose(error)
            return False
        self.was_read, self.reason, self._connected_at = True, "", now
        self._log("info", "store read", revision=self.revision, keys=len(self.entries))
        return True

    def _watch(self) -> Watch | ProxyWatch:
        if self._proxies:
            return watch_through(self._proxies, _ROOT, self.revision + 1, _TIMEOUT_S)
        return self.etcd.watch(_ROOT, self.revision + 1)

    def refresh(self) -> None:
        """Read the whole again now, without waiting for the watch to tell what we wrote. Raises StoreUnavailable."""
        found, self.revision = self.etcd.snapshot(*_KEPT)
        self._read_at = self.revision
        self.entries = {key: stored.value for key, stored in found.items()}

    def read(self) -> bool:
        """Take what the watch brought; whether it changed anything that is kept."""
        if not self.watch:
            return False
        try:
            changes = self.watch.read()
        except StoreUnavailable as error:
            self.lose(error)
            return False
        is_changed = False
        for change in changes:
            # A change that `refresh` saw already may not undo what it saw later.
            if change.revision <= self._read_at or not change.key.startswith(_KEPT):
                continue
            self.revision = max(self.revision, change.revision)
            is_changed = is_changed or self.entries.get(change.key) != change.value
            if change.value is None:
                self.entries.pop(change.key, None)
            else:
                self.entries[change.key] = change.value
        return is_changed

    def lose(self, error: StoreUnavailable) -> None:
        """The store does not answer: keep what is known, and try again, later each time."""
        if self.watch:
            self.watch.close()
            self.watch = None
        self.etcd.close()
        self.reason = f"store: {error.message}"
        now = time.monotonic()
        if self._connected_at and now - self._connected_at > _LAST_RETRY_S:
            self._retry_after_s = _FIRST_RETRY_S  # else it answers, and refuses soon after: that is no recovery
        self._connected_at = 0.0
        self._retry_at = now + self._retry_after_s
        self._retry_after_s = min(2 * self._retry_after_s, _LAST_RETRY_S)
        self._log("warning", "store lost", reason=error.message)
