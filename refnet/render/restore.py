"""From what a table of iptables holds and what it must hold to text for `iptables-restore --noflush`. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from refnet.render.chains import FINGERPRINT, PREFIX, Table

_BUILT_IN = frozenset({"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"})
_MARK = re.compile(rf'--comment "?({FINGERPRINT}[A-Za-z0-9_-]{{16}})"?(?: |$)')


@dataclass(frozen=True)
class Present:
    """What a table holds: the rules of every chain as the kernel shows them, without `-A CHAIN`."""

    chains: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def ours(self) -> dict[str, tuple[str, ...]]:
        """Our chains whole, and of the kernel's own chains the rules that are ours: all that we answer for."""
        return {
            chain: rules if chain.startswith(PREFIX) else tuple(rule for rule in rules if is_ours(chain, rule))
            for chain, rules in self.chains.items()
        }


def parse_save(text: str) -> dict[str, Present]:
    """The tables in what `iptables-save` says."""
    tables: dict[str, dict[str, list[str]]] = {}
    chains: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("*"):
            chains = tables.setdefault(line[1:], {})
        elif line.startswith(":"):
            chains.setdefault(line[1:].partition(" ")[0], [])
        elif line.startswith("-A "):
            chain, _, rule = line[3:].partition(" ")
            chains.setdefault(chain, []).append(rule)
    return {name: Present({chain: tuple(rules) for chain, rules in chains.items()}) for name, chains in tables.items()}


def is_ours(chain: str, rule: str) -> bool:
    """Whether a rule outside our chains is ours: it is marked, or leads from a chain of the kernel's to one of ours."""
    return bool(_MARK.search(rule) or (chain in _BUILT_IN and re.search(rf"(-j|-g) {PREFIX}", rule)))


def restore_text(name: str, want: Table, have: Present, believed: Mapping[str, tuple[str, ...]] | None) -> str:
    """What makes one table right; empty if it is. `believed`: what the kernel showed of ours when it last was right."""
    ours = have.ours()
    lines = [*_chain_lines(want, ours, believed), *_hook_lines(want, have, believed)]
    gone = [chain for chain in ours if chain.startswith(PREFIX) and chain not in want.chains]
    if not lines and not gone:
        return ""
    declared = [f":{chain} - [0:0]" for chain in gone]
    deleted = [f"-X {chain}" for chain in gone if not _is_used_by_others(chain, have)]
    # Chains are declared before anything refers to them; a declaration empties a chain that exists.
    heads = [line for line in lines if line.startswith(":")]
    rest = [line for line in lines if not line.startswith(":")]
    return "\n".join([f"*{name}", *heads, *declared, *rest, *deleted, "COMMIT", ""])


def _chain_lines(
    want: Table, ours: Mapping[str, tuple[str, ...]], believed: Mapping[str, tuple[str, ...]] | None
) -> Iterator[str]:
    for chain, rules in want.chains.items():
        if not _is_right(rules, chain, ours, believed):
            yield f":{chain} - [0:0]"
            yield from (f"-A {chain} {rule}" for rule in rules)


def _is_right(
    rules: tuple[str, ...],
    chain: str,
    ours: Mapping[str, tuple[str, ...]],
    believed: Mapping[str, tuple[str, ...]] | None,
) -> bool:
    """By the marks; and where we know how the kernel shows these rules, by every word: a mark can be copied."""
    present = ours.get(chain)
    if present is None or marks(present) != marks(rules):
        return False
    return believed is None or marks(believed.get(chain, ())) != marks(rules) or believed[chain] == present


def marks(rules: tuple[str, ...]) -> list[str]:
    """The fingerprint of each rule; "" for one without."""
    return [found[1] if (found := _MARK.search(rule)) else "" for rule in rules]


def _hook_lines(want: Table, have: Present, believed: Mapping[str, tuple[str, ...]] | None) -> Iterator[str]:
    """Rules at the head and at the tail of the kernel's own chains. Where they are not right they are all made anew."""
    for chain in sorted(chain for chain in {*have.chains, *want.inserted, *want.appended} if chain[:5] != PREFIX):
        present = have.chains.get(chain, ())
        head, tail = want.inserted.get(chain, ()), want.appended.get(chain, ())
        own = [rule for rule in present if is_ours(chain, rule)]
        is_in_place = len(own) == len(head) + len(tail) and marks(present[: len(head)]) == marks(head)
        is_in_place = is_in_place and marks(tuple(own[len(head) :])) == marks(tail)
        if is_in_place and (believed is None or chain not in believed or list(believed[chain]) == own):
            continue
        # By their words, not by their numbers: somebody may insert a rule between our look and our write.
        yield from (f"-D {chain} {rule}" for rule in own)
        yield from (f"-I {chain} {number} {rule}" for number, rule in enumerate(head, 1))
        yield from (f"-A {chain} {rule}" for rule in tail)


def _is_used_by_others(chain: str, have: Present) -> bool:
    """Whether somebody else's rule leads to it: the kernel would refuse to delete it, and the whole table with it."""
    used = re.compile(rf"(?:-j|-g) {re.escape(chain)}(?: |$)")
    return any(
        used.search(rule)
        for place, rules in have.chains.items()
        if not place.startswith(PREFIX)
        for rule in rules
        if not is_ours(place, rule)
    )
