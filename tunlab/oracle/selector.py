"""Calico's selectors, read by the judge for itself: a text becomes a question that labels answer.

Grammar: Calico's documentation, GlobalNetworkPolicy, "Selectors". `&&` binds tighter than `||`; an absent label is
unlike every value, so that `!=` and `not in` hold of it; strings have no escapes; the empty selector is `all()`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from tunlab.errors import LabError

Labels = Mapping[str, str]
Selector = Callable[[Labels], bool]

_TOKEN = re.compile(
    r"""\s*(?:(?P<sign>&&|\|\||==|!=|[!(){},])|"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<word>[A-Za-z0-9_./-]+))"""
)
_COMPARISONS: Mapping[str, Callable[[str, str], bool]] = {
    "contains": lambda have, wanted: wanted in have,
    "starts with": lambda have, wanted: have.startswith(wanted),
    "ends with": lambda have, wanted: have.endswith(wanted),
}


def read_selector(text: str) -> Selector:
    """The question that a selector asks. Raises LabError where the text is none."""
    if not text.strip():
        return lambda labels: True
    reader = _Reader(text)
    found = reader.either()
    if reader.rest:
        raise reader.refusal()
    return found


class _Reader:
    """Tokens as (kind, text), read from the left; one method per rule of the grammar."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.rest: list[tuple[str, str]] = []
        at = 0
        while text[at:].strip():
            match = _TOKEN.match(text, at)
            if match is None:
                raise LabError(f"selector {text!r}: {text[at:].strip()[:20]!r}: no part of a selector")
            kind = str(match.lastgroup)
            self.rest.append(("value" if kind in ("double", "single") else kind, match[kind]))
            at = match.end()

    def refusal(self) -> LabError:
        """What is left makes no sense here."""
        return LabError(f"selector {self._text!r}: makes no sense at {self.rest[0][1] if self.rest else 'its end'!r}")

    def _has(self, *texts: str, kind: str = "sign") -> bool:
        """Whether these come next; takes them if so."""
        if self.rest[: len(texts)] != [(kind, text) for text in texts]:
            return False
        del self.rest[: len(texts)]
        return True

    def _take(self, kind: str, text: str | None = None) -> str:
        if not self.rest or self.rest[0][0] != kind or text not in (None, self.rest[0][1]):
            raise self.refusal()
        return self.rest.pop(0)[1]

    def either(self) -> Selector:
        parts = [self._both()]
        while self._has("||"):
            parts.append(self._both())
        return lambda labels: any(part(labels) for part in parts)

    def _both(self) -> Selector:
        parts = [self._one()]
        while self._has("&&"):
            parts.append(self._one())
        return lambda labels: all(part(labels) for part in parts)

    def _one(self) -> Selector:
        if self._has("!"):
            inner = self._one()
            return lambda labels: not inner(labels)
        if self._has("("):
            inner = self.either()
            self._take("sign", ")")
            return inner
        word = self._take("word")
        if word in ("all", "global", "has") and self._has("("):
            return self._call(word)
        return self._comparison(word)

    def _call(self, word: str) -> Selector:
        key = self._take("word") if word == "has" else ""
        self._take("sign", ")")
        if word == "has":
            return lambda labels: key in labels
        if word == "all":
            return lambda labels: True
        return lambda labels: "projectcalico.org/namespace" not in labels

    def _comparison(self, key: str) -> Selector:
        if self._has("=="):
            wanted = self._take("value")
            return lambda labels: labels.get(key) == wanted
        if self._has("!="):
            unwanted = self._take("value")
            return lambda labels: labels.get(key) != unwanted
        if self._has("not", "in", kind="word"):
            outside = self._values()
            return lambda labels: labels.get(key) not in outside
        if self._has("in", kind="word"):
            inside = self._values()
            return lambda labels: key in labels and labels[key] in inside
        for words, holds in _COMPARISONS.items():
            if self._has(*words.split(), kind="word"):
                part = self._take("value")
                return lambda labels, holds=holds: key in labels and holds(labels[key], part)  # type: ignore[misc]
        raise self.refusal()

    def _values(self) -> frozenset[str]:
        self._take("sign", "{")
        values = set()
        while not self._has("}"):
            values.add(self._take("value"))
            if not self._has(","):
                self._take("sign", "}")
                break
        return frozenset(values)
