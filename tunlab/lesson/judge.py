"""Is it what was asked for? Answers compared as what they mean, and screens searched. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from ipaddress import IPv4Interface, IPv4Network

from tunlab.lesson.model import Kind

_MAC = re.compile(r"([0-9a-f]{2}[:-]){5}[0-9a-f]{2}")
WHAT: dict[Kind, str] = {
    "word": "a word",
    "number": "a whole number",
    "address": "an address such as 10.0.0.1",
    "network": "a network such as 10.0.0.0/26",
    "mac": "a MAC address such as 02:00:00:00:00:01",
    "set": "words, in any order",
    "choice": "one of those offered",
}


def meaning(kind: Kind, text: str, choices: Sequence[str] = ()) -> object:
    """What an answer means, to be compared. Raises ValueError for what is no answer of that kind."""
    words = " ".join(text.lower().split()).strip(" .`'\"")
    if not words:
        raise ValueError("empty")
    return _READERS[kind](words, choices)


def _word(text: str, _: Sequence[str]) -> object:
    return text


def _number(text: str, _: Sequence[str]) -> object:
    return int(re.sub(r"[_,]", "", text).removesuffix("bytes").strip())


def _address(text: str, _: Sequence[str]) -> object:
    return IPv4Interface(text).ip


def _network(text: str, _: Sequence[str]) -> object:
    return IPv4Network(text)


def _mac(text: str, _: Sequence[str]) -> object:
    if not _MAC.fullmatch(text):
        raise ValueError(text)
    return text.replace("-", ":")


def _set(text: str, _: Sequence[str]) -> object:
    return frozenset(word for word in re.split(r"[\s,;]+|\band\b", text) if word)


def _choice(text: str, choices: Sequence[str]) -> object:
    known = [choice.lower() for choice in choices]
    if text.isdigit() and text not in known and 0 < int(text) <= len(known):
        return known[int(text) - 1]
    if text not in known:
        raise ValueError(text)
    return text


_READERS: dict[Kind, Callable[[str, Sequence[str]], object]] = {
    "word": _word,
    "number": _number,
    "address": _address,
    "network": _network,
    "mac": _mac,
    "set": _set,
    "choice": _choice,
}


def complaints(seen: str, shows: Sequence[str], lacks: Sequence[str]) -> list[str]:
    """What a screen does not show and should, and what it shows and should not."""
    missing = [f"does not show {one}" for one in shows if not re.search(one, seen, re.MULTILINE)]
    return missing + [f"shows {one}" for one in lacks if re.search(one, seen, re.MULTILINE)]
