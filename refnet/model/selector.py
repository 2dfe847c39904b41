"""Calico's selectors: a sentence about labels that is true or false of each set of them.

    any  = all { "||" all }        all = one { "&&" one }        one = { "!" } ( "(" any ")" | term )
    term = "all()" | "global()" | "has(" LABEL ")" | LABEL operator
    operator = "==" TEXT | "!=" TEXT | "in" SET | "not in" SET | "contains" TEXT | "starts with" TEXT | "ends with" TEXT

TEXT stands in 'one' or "the other" kind of quotes, without escapes; SET is {"a", "b"}. A label that is not there
makes `!=` and `not in` true, everything else false. An empty selector is `all()`.
Source: libcalico-go/lib/selector.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from refnet.errors import InvalidResource, Mistake

TYPE_CHECKING = False  # typing costs 3 ms of start-up
if TYPE_CHECKING:
    from typing import NoReturn

    Labels = Mapping[str, str]
    Test = Callable[[Labels], bool]

MAX_LENGTH = 4096
MAX_DEPTH = 64
NAMESPACE_LABEL = "projectcalico.org/namespace"

_SPACE = re.compile(r"[ \t\r\n]*")
_LABEL = re.compile(r"[a-zA-Z0-9_./-]{1,512}")
_TEXT = re.compile(r"""'[^']*'|"[^"]*\"""")
_CALL = re.compile(r"(all|global)\s*\(\s*\)|has\s*\(\s*([a-zA-Z0-9_./-]{1,512})\s*\)")
_OPERATOR = re.compile(r"==|!=|in(?![a-zA-Z0-9_./-])|not\s*in|contains|starts\s+with|ends\s+with")
_OPERATORS = "== != in, not in, contains, starts with, ends with"


class Selector:
    """A parsed selector. `text` is its one canonical spelling; selectors are equal if their texts are."""

    __slots__ = ("_test", "text")

    def __init__(self, text: str, test: Test) -> None:
        self.text = text
        self._test = test

    @classmethod
    def parse(cls, text: str, prefix: str = "") -> Selector:
        """Raises InvalidResource; the mistake's path is the position, counted from 1.

        With a prefix every label that is named counts as written with it.
        """
        if len(text) > MAX_LENGTH:
            raise _refused("length", f"{len(text)} characters", f"at most {MAX_LENGTH} characters")
        parser = _Parser(text, prefix)
        spelling, test = parser.any()
        if parser.position < len(text):
            parser.refuse("&&, || or the end")
        return cls(spelling, test)

    @classmethod
    def all_of(cls, selectors: Sequence[Selector]) -> Selector:
        """The selector that is true where all of these are."""
        if len(selectors) == 1:
            return selectors[0]
        text = f"({' && '.join(selector.text for selector in selectors)})"
        return cls(text, _all_of([selector._test for selector in selectors]))

    @classmethod
    def one_of(cls, label: str, texts: Sequence[str]) -> Selector:
        """The selector that is true where the label has one of these texts; they need not be writable in a selector."""
        return cls(
            f"{label} in {{{', '.join(_quoted(text) for text in sorted(texts))}}}", _is_in(label, frozenset(texts))
        )

    def matches(self, labels: Labels) -> bool:
        """Whether the selector is true of these labels."""
        return self._test(labels)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Selector) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Selector.parse({self.text!r})"


EVERYTHING: Selector


class _Parser:
    """Reads a selector from left to right; each method returns the spelling and the test of what it has read."""

    def __init__(self, text: str, prefix: str) -> None:
        self.text = text
        self.prefix = prefix
        self.position = 0
        self.depth = 0
        self._skip_space()

    def any(self) -> tuple[str, Test]:
        if self.position == len(self.text) and not self.depth:
            return "all()", _always
        return self._joined("||", self._all, _any_of)

    def _all(self) -> tuple[str, Test]:
        return self._joined("&&", self._one, _all_of)

    def _joined(
        self, word: str, read: Callable[[], tuple[str, Test]], join: Callable[[list[Test]], Test]
    ) -> tuple[str, Test]:
        parts = [read()]
        while self._take(word):
            parts.append(read())
        if len(parts) == 1:
            return parts[0]
        return f"({f' {word} '.join(spelling for spelling, _ in parts)})", join([test for _, test in parts])

    def _one(self) -> tuple[str, Test]:
        is_negated = False
        while self._take("!"):
            is_negated = not is_negated
        if self._take("("):
            self.depth += 1
            if self.depth > MAX_DEPTH:
                self.refuse(f"at most {MAX_DEPTH} parentheses inside each other")
            spelling, test = self.any()
            if not self._take(")"):
                self.refuse("&&, || or )")
            self.depth -= 1
        else:
            spelling, test = self._term()
        return (f"!{spelling}", _negated(test)) if is_negated else (spelling, test)

    def _term(self) -> tuple[str, Test]:
        if call := self._match(_CALL):
            if call[2]:
                return f"has({self.prefix}{call[2]})", _has(self.prefix + call[2])
            return ("all()", _always) if call[1] == "all" else ("global()", _negated(_has(NAMESPACE_LABEL)))
        found = self._match(_LABEL)
        if not found:
            self.refuse("a label's name, has(LABEL), all(), global(), ! or (")
        label = self.prefix + found[0]
        operator = self._match(_OPERATOR)
        if not operator:
            self.refuse(_OPERATORS)
        word = " ".join(operator[0].replace("notin", "not in").split())
        if word in ("in", "not in"):
            wanted = self._set()
            spelling = f"{label} {word} {{{', '.join(_quoted(text) for text in sorted(wanted))}}}"
            is_in = _is_in(label, wanted)
            return spelling, is_in if word == "in" else _negated(is_in)
        text = self._quoted_text()
        spelling = f"{label} {word} {_quoted(text)}"
        if word == "!=":
            return spelling, _negated(_is_in(label, frozenset({text})))
        return spelling, _compared(label, _COMPARISONS[word], text)

    def _set(self) -> frozenset[str]:
        if not self._take("{"):
            self.refuse('a set, {"a", "b"}')
        found = set()
        while not self._take("}"):
            found.add(self._quoted_text())
            if not self._take(",") and not self.text.startswith("}", self.position):
                self.refuse(", or }")
        return frozenset(found)

    def _quoted_text(self) -> str:
        found = self._match(_TEXT)
        if not found:
            self.refuse("a text in quotes")
        return found[0][1:-1]

    def _take(self, word: str) -> bool:
        is_there = self.text.startswith(word, self.position)
        if is_there:
            self.position += len(word)
            self._skip_space()
        return is_there

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self.text, self.position)
        if found:
            self.position = found.end()
            self._skip_space()
        return found

    def _skip_space(self) -> None:
        space = _SPACE.match(self.text, self.position)
        self.position = space.end() if space else self.position

    def refuse(self, legal: str) -> NoReturn:
        rest = self.text[self.position : self.position + 21]
        given = repr(rest if len(rest) < 21 else rest[:20] + "…") if rest else "the end"
        raise _refused(f"character {self.position + 1}", given, legal)


def _refused(path: str, given: str, legal: str) -> InvalidResource:
    return InvalidResource("selector", [Mistake(path, given, legal)])


def _quoted(text: str) -> str:
    return f'"{text}"' if '"' not in text else f"'{text}'"


def _always(_labels: Labels) -> bool:
    return True


def _has(label: str) -> Test:
    return lambda labels: label in labels


def _negated(test: Test) -> Test:
    return lambda labels: not test(labels)


def _any_of(tests: list[Test]) -> Test:
    return lambda labels: any(test(labels) for test in tests)


def _all_of(tests: list[Test]) -> Test:
    return lambda labels: all(test(labels) for test in tests)


def _is_in(label: str, wanted: frozenset[str]) -> Test:
    return lambda labels: labels.get(label) in wanted


def _compared(label: str, compare: Callable[[str, str], bool], text: str) -> Test:
    def test(labels: Labels) -> bool:
        found = labels.get(label)
        return found is not None and compare(found, text)

    return test


_COMPARISONS: Mapping[str, Callable[[str, str], bool]] = {
    "==": str.__eq__,
    "contains": str.__contains__,
    "starts with": str.startswith,
    "ends with": str.endswith,
}

EVERYTHING = Selector.parse("")
