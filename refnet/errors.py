"""Every error of refnet, sorted by whose fault it is.

RefnetError
├── InvalidResource    the description is wrong: a manifest, a CNI configuration, an option; every mistake at once
├── NotFound           the named thing does not exist
├── AlreadyExists      the named thing exists already
├── StoreError
│   ├── StoreUnavailable   etcd cannot be reached, does not answer in time, or cut a watch; trying later may help
│   ├── StoreConflict      somebody else wrote first; read again and decide again
│   └── StoreCorrupt       a stored value is not what its key promises
├── NoAddress          the pools have no free address for this node
└── KernelRefused      `ip`, `bridge` or a sysctl was refused
"""

from __future__ import annotations

from collections.abc import Iterable

from refnet.model.value import value


class RefnetError(Exception):
    """One mistake or refusal: *where: what was asked: what came back*, and how to mend it on a line of its own."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


@value
class Mistake:
    """One wrong place in something a person wrote: where it is, what stands there, what may stand there."""

    path: str
    given: str
    legal: str
    hint: str = ""

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.given}", f"  legal: {self.legal}"]
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)


class InvalidResource(RefnetError):
    """The description is wrong. `where` says which one (`IPPool/default`, a file), `mistakes` holds them all."""

    def __init__(self, where: str, mistakes: Iterable[Mistake]) -> None:
        self.where = where
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(f"{where}: {mistake}" for mistake in self.mistakes))


class NotFound(RefnetError):
    """The named thing does not exist."""


class AlreadyExists(RefnetError):
    """The named thing exists already."""


class StoreError(RefnetError):
    """Something is wrong between us and etcd."""


class StoreUnavailable(StoreError):
    """etcd cannot be reached, does not answer in time, refuses, or cut a watch."""


class StoreConflict(StoreError):
    """Somebody else wrote first: the guarded write did not happen."""


class StoreCorrupt(StoreError):
    """A stored value is not what its key promises; nothing was changed."""


class NoAddress(RefnetError):
    """No address can be given: the pools are full, or the wanted one lies in none."""


class KernelRefused(RefnetError):
    """A kernel tool or a sysctl refused."""
