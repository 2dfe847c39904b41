"""The one difference between what is and what should be; every kind of kernel object goes through it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True)
class Delta(Generic[K, V]):
    """The smallest change that turns `have` into `want`; `drop` keeps the old values: deletions can be exact."""

    put: Mapping[K, V]
    drop: Mapping[K, V]

    @classmethod
    def between(cls, have: Mapping[K, V], want: Mapping[K, V]) -> Delta[K, V]:
        put = {key: value for key, value in want.items() if key not in have or have[key] != value}
        drop = {key: value for key, value in have.items() if key not in want}
        return cls(put=put, drop=drop)

    def __bool__(self) -> bool:
        return bool(self.put or self.drop)
