"""What the policies on the way said, from the counters of their chains, which have the names that Calico gives them."""

from __future__ import annotations

import re
from collections.abc import Iterable

_ASKED = re.compile(r"-[jg] cali-(p[io]|pr[io])-(\S+)")
_CHAIN = re.compile(r"^-A cali-(p[io]|pr[io])-(\S+) ")
_LETS = re.compile(r"--set-x?mark 0x10000(/0x10000)?\b")
_ENDS = re.compile(r"-j (DROP|REJECT)\b")
_COMMENT = re.compile(r' -m comment --comment ("(?:[^"\\]|\\.)*"|\S+)')


def readable(rule: str) -> str:
    """A rule without the marks by which its owner knows it again; what a comment says to people stands behind it."""
    told = [text.strip('"').replace("\\", "") for text in _COMMENT.findall(rule)]
    words = [text for text in told if not re.match(r"cali:\S+$", text)]
    return _COMMENT.sub("", rule) + (f": {', '.join(words)}" if words else "")


def policy_verdicts(rules: Iterable[str]) -> list[tuple[str, str]]:
    """Of the rules that a packet met: each policy or profile that was asked (which of the two), and what it said."""
    asked: dict[tuple[str, str], str] = {}
    for rule in rules:
        for key in _ASKED.findall(rule):
            asked.setdefault(key, "has no rule for it")
        chain = _CHAIN.match(rule)
        if chain is None:
            continue
        key = (chain[1], chain[2])
        if _LETS.search(rule):
            asked[key] = f"lets it {_way(key)}"
        elif _ENDS.search(rule):
            asked[key] = f"forbids it to go {_way(key)}"
    return [
        ("profile" if kind.startswith("pr") else "policy", f"{name} {said}") for (kind, name), said in asked.items()
    ]


def _way(key: tuple[str, str]) -> str:
    return "in" if key[0].endswith("i") else "out"
