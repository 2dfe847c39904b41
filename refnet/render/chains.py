"""Chains and tables of iptables as text, each rule with a fingerprint of itself and of all rules before it."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

PREFIX = "cali-"
FINGERPRINT = "cali:"
_LONGEST_NAME = 28
_PLAIN = re.compile(r"[a-zA-Z0-9._/-]+")


@dataclass(frozen=True)
class Table:
    """What is ours in one table: whole chains, and rules at the head or the tail of the kernel's own chains."""

    chains: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    inserted: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    appended: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def chain_name(prefix: str, identity: str) -> str:
    """The prefix and the identity, or its digest where that is too long, or holds what a chain's name may not."""
    whole = f"{prefix}{identity}"
    if len(whole) <= _LONGEST_NAME and _PLAIN.fullmatch(identity) and not identity.startswith("_"):
        return whole
    return f"{prefix}_{_digest(identity)}"[:_LONGEST_NAME]


def fingerprinted(chain: str, rules: Sequence[str]) -> tuple[str, ...]:
    """The rules, each marked with a digest of the chain's name and of everything down to itself.

    So one look at the marks tells whether a chain is as it was written: order, number and content.
    """
    marked, digest = [], _digest(chain)
    for rule in rules:
        digest = _digest(f"{digest} {rule}")
        marked.append(f'-m comment --comment "{FINGERPRINT}{digest[:16]}" {rule}')
    return tuple(marked)


def table(
    chains: Mapping[str, Sequence[str]],
    inserted: Mapping[str, Sequence[str]] | None = None,
    appended: Mapping[str, Sequence[str]] | None = None,
) -> Table:
    """A table with every rule marked. Like: iptables-restore --noflush"""

    def marked(rules: Mapping[str, Sequence[str]], where: str) -> dict[str, tuple[str, ...]]:
        return {chain: fingerprinted(chain + where, lines) for chain, lines in rules.items()}

    return Table(marked(chains, ""), marked(inserted or {}, " head"), marked(appended or {}, " tail"))


def remarked(text: str, *matches: str) -> str:
    """A rule with a remark for its readers; the parts of its match may be empty."""
    return " ".join((f'-m comment --comment "{text}"', *filter(None, matches)))


def joined(parts: Iterable[str]) -> str:
    return " ".join(filter(None, parts))


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode(errors="replace")).digest()).decode()
