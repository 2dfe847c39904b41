"""The connectivity matrix: who was asked by whom, what was seen, and how that differs from what an oracle expects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tunlab.errors import WorldError

# The sender's own kernel refused for a reason that the system under test answers for: routes, devices, filters.
_SYSTEMS_REFUSALS = ("ENETUNREACH", "EHOSTUNREACH", "ENETDOWN", "EINVAL", "EACCES", "EPERM", "EMSGSIZE")
_MOST_AT_ONCE = 500  # one process asks and answers all of them
_ANSWERED, _NO_CONNECTIVITY = "answered", ("timed_out", "unreachable")
# By a filter: RFC 1812 section 5.2.7.1, RFC 4443 section 3.1.
_PROHIBITED = ((3, 9), (3, 10), (3, 13), (1, 1), (1, 5), (1, 6))
_BY_OWN_FILTER = "EPERM"


class AsksProbes(Protocol):
    """A box, as far as a matrix needs one."""

    def ask(self, role: str, op: str, **arguments: Any) -> dict[str, Any]:
        """One request to a role."""


@dataclass(frozen=True)
class Expected:
    """What an oracle says of one cell. None means: this is not judged here."""

    outcomes: tuple[str, ...]
    by: str | None = None
    saw: str | None = None
    icmp_from: str | None = None
    icmp: tuple[int, int] | None = None
    mtu: int | None = None
    local: bool | None = None
    is_denial: bool = False

    @classmethod
    def answer(cls, by: str, saw: str | None = None) -> Expected:
        """An answer by that pod or node, which saw that address."""
        return cls((_ANSWERED,), by=by, saw=saw)

    @classmethod
    def no_answer(cls, icmp_from: str | None = None, icmp: tuple[int, int] | None = None) -> Expected:
        """No connectivity; where `icmp_from` or `icmp` (type, code) is told, only with that ICMP error."""
        outcomes = _NO_CONNECTIVITY if icmp_from is None and icmp is None else ("unreachable",)
        return cls(outcomes, icmp_from=icmp_from, icmp=icmp)

    @classmethod
    def denied(cls, *, may_be_own: bool = False) -> Expected:
        """Somebody's filter lets it not pass: silence, or an ICMP error that says so; a way that is missing is none.

        `may_be_own`: also the sender's own kernel, which then refuses to send at all (EPERM).
        """
        return cls((*_NO_CONNECTIVITY, "failed") if may_be_own else _NO_CONNECTIVITY, is_denial=True)

    @classmethod
    def too_big(cls, mtu: int, icmp_from: str | None = None) -> Expected:
        """Refused for its size: by the sender's own kernel, or by whoever sent ICMP 3/4 with that MTU in bytes."""
        return cls(("too_big",), mtu=mtu, icmp_from=icmp_from, local=icmp_from is None)

    def __str__(self) -> str:
        if self.outcomes == (_ANSWERED,):
            return f"an answer by {self.by}" + (f" that saw {self.saw}" if self.saw else "")
        if self.is_denial:
            return "a denial"
        words = {"too_big": f"too big for {self.mtu} bytes", "unreachable": "an ICMP error", "refused": "a refusal"}
        text = "no answer" if self.outcomes == _NO_CONNECTIVITY else words.get(self.outcomes[0], self.outcomes[0])
        text += f" {self.icmp[0]}/{self.icmp[1]}" if self.icmp else ""
        return text + (f" from {self.icmp_from}" if self.icmp_from else "")


@dataclass(frozen=True)
class Question:
    """One cell: `source` asks `target` at `address`. `size` in bytes of payload; `size_name` is what reports say."""

    source: str
    target: str
    address: str
    protocol: str
    size: int
    expected: Expected
    size_name: str = "small"
    port: int = 0
    df: bool | str | None = None
    timeout_s: float = 2.0

    @property
    def name(self) -> str:
        """Also what a report line begins with; unique in a matrix."""
        return f"{self.source} → {self.target} {self.protocol} {self.size_name}"

    def as_probe(self, test: str, identifier: int, turn: int) -> dict[str, Any]:
        """For the role `probes`; the id is also the token that every packet of it starts with."""
        token = f"{self.source}>{self.target}/{self.protocol}/{self.size_name}/{turn}"
        return {
            "id": f"{test}:{token}" if test else token,
            "from": self.source,
            "to": self.address,
            "protocol": self.protocol,
            "port": self.port,
            "size": self.size,
            "df": self.df,
            "timeout_s": self.timeout_s,
            "identifier": identifier,
            "sequence": turn,
        }


class MatrixMismatch(AssertionError):
    """Cells that are not as expected; `lines` has one line each."""

    def __init__(self, lines: Sequence[str], table: str) -> None:
        more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
        super().__init__("\n".join([f"{lines[0]}{more}", *lines[1:], "", table]))
        self.lines = tuple(lines)
        self.table = table


@dataclass(frozen=True)
class Matrix:
    """Every question with its results, one per asking: a cell is right if all askings are. None where no result came
    back. `on_judged` hears whose expectations are looked at.
    """

    seen: Mapping[Question, tuple[Mapping[str, Any] | None, ...]]
    on_judged: Callable[[Iterable[Question]], None] | None = field(default=None, compare=False)

    def mismatches(self) -> tuple[str, ...]:
        """One line per cell that is not as expected, in the order asked; nothing about cells that are broken."""
        if self.on_judged is not None:
            self.on_judged(self.seen)
        return tuple(line for question in self.seen if (line := self._mismatch(question)) and not self._gap(question))

    def gaps(self) -> tuple[str, ...]:
        """One line per cell of which nothing is known: no result, or the probe itself did not work."""
        return tuple(line for question in self.seen if (line := self._gap(question)))

    def check(self) -> None:
        """Raises WorldError if a cell is missing (what is not known is not judged), MatrixMismatch if one is wrong."""
        if not self.seen:
            raise WorldError("matrix: ask: there were no questions, so there is no verdict")
        gaps = self.gaps()
        if gaps:
            more = f" (and {len(gaps) - 1} more)" if len(gaps) > 1 else ""
            raise WorldError(f"{gaps[0]}{more}\n{self.table()}")
        if lines := self.mismatches():
            raise MatrixMismatch(lines, self.table())

    def table(self) -> str:
        """Sources down, targets across; in a cell one sign per protocol and size: `.` right, `X` wrong, `?` unknown."""
        sources = list(dict.fromkeys(question.source for question in self.seen))
        targets = list(dict.fromkeys(question.target for question in self.seen))
        kinds = list(dict.fromkeys((question.protocol, question.size_name) for question in self.seen))
        signs = {(q.source, q.target, (q.protocol, q.size_name)): self._sign(q) for q in self.seen}
        wide = max(map(len, [*sources, "from"]))
        across = [max(len(target), len(kinds)) for target in targets]
        lines = [" ".join([f"{'from':{wide}}", *(f"{t:{w}}" for t, w in zip(targets, across, strict=True))])]
        for source in sources:
            cells = ["".join(signs.get((source, target, kind), " ") for kind in kinds) for target in targets]
            padded = (f"{cell:{width}}" for cell, width in zip(cells, across, strict=True))
            lines.append(" ".join([f"{source:{wide}}", *padded]))
        key = ", ".join(" ".join(kind) for kind in kinds)
        return "\n".join([*(line.rstrip() for line in lines), f"signs in a cell: {key}; X wrong, ? unknown"])

    def _sign(self, question: Question) -> str:
        if self._gap(question):
            return "?"
        return "X" if self._mismatch(question) else "."

    def _gap(self, question: Question) -> str:
        for turn, result in enumerate(self.seen[question], start=1):
            if result is None:
                return f"{question.name}: no result came back{self._turn(question, turn)}"
            if result["outcome"] == "failed" and result.get("errno") not in _SYSTEMS_REFUSALS:
                return f"{question.name}: the probe did not work{self._turn(question, turn)}: {result['error']}"
        return ""

    def _mismatch(self, question: Question) -> str:
        for turn, result in enumerate(self.seen[question], start=1):
            if result is not None and (seen := _difference(question, result)):
                return f"{question.name}: {seen}, wanted {question.expected}{self._turn(question, turn)}"
        return ""

    def _turn(self, question: Question, turn: int) -> str:
        count = len(self.seen[question])
        return f" (asking {turn} of {count})" if count > 1 else ""


def ask_matrix(
    box: AsksProbes,
    questions: Sequence[Question],
    *,
    rounds: int = 1,
    apart_s: float = 0.0,
    test: str = "",
    first_identifier: int = 1,
) -> Matrix:
    """Ask all, as in `ask_rounds`; a cell of the matrix is right if it is so in every round."""
    asked = ask_rounds(box, questions, rounds, apart_s=apart_s, test=test, first_identifier=first_identifier)
    return Matrix({question: tuple(one.seen[question][0] for one in asked) for question in questions})


def ask_rounds(
    box: AsksProbes,
    questions: Sequence[Question],
    rounds: int,
    *,
    apart_s: float,
    test: str = "",
    first_identifier: int = 1,
) -> list[Matrix]:
    """Ask everything `rounds` times; a matrix per round. `test` is the id in every token.

    Rounds begin `apart_s` seconds one after the other, and all are waited for once; where that would be too much at
    once, one begins when the one before has ended. Each echo request of each round has an identifier of its own,
    from `first_identifier` on: to a kernel that tracks connections a new one is a new connection, and an old one
    belongs to what it has let through. Raises ValueError if two questions are alike.
    """
    _refuse_twins(questions)
    overlap = len(questions) * rounds <= _MOST_AT_ONCE
    probes = [
        [
            {**question.as_probe(test, number, turn), "after_s": (turn - 1) * apart_s if overlap else 0.0}
            for number, question in enumerate(questions, start=first_identifier + (turn - 1) * len(questions))
        ]
        for turn in range(1, rounds + 1)
    ]
    by_id: dict[str, Mapping[str, Any]] = {}
    for some in [[probe for one in probes for probe in one]] if overlap else probes:
        results = box.ask("probes", "ask", probes=some).get("results", [])
        by_id |= {result["id"]: result for result in results}
    return [
        Matrix({question: (by_id.get(probe["id"]),) for question, probe in zip(questions, one, strict=True)})
        for one in probes
    ]


def _refuse_twins(questions: Sequence[Question]) -> None:
    names = [question.name for question in questions]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"asked twice in one matrix: {twice}")


def _difference(question: Question, result: Mapping[str, Any]) -> str:
    """What was seen, if it is not what was expected; else ""."""
    expected, outcome = question.expected, result["outcome"]
    icmp = result.get("icmp") or {}
    if outcome not in expected.outcomes:
        return describe(result)
    if outcome == _ANSWERED:
        return _answer_difference(question, result)
    if expected.is_denial:
        return "" if _is_denial(result) else describe(result)
    checks = (
        (expected.icmp_from, icmp.get("from")),
        (expected.icmp, (icmp.get("kind"), icmp.get("code")) if icmp else None),
        (expected.mtu, result.get("mtu")),
        (expected.local, result.get("local")),
    )
    return describe(result) if any(want is not None and want != have for want, have in checks) else ""


def _is_denial(result: Mapping[str, Any]) -> bool:
    icmp = result.get("icmp") or {}
    match result["outcome"]:
        case "unreachable":
            return (icmp.get("kind"), icmp.get("code")) in _PROHIBITED
        case "failed":
            return result.get("errno") == _BY_OWN_FILTER
    return True


def _answer_difference(question: Question, result: Mapping[str, Any]) -> str:
    expected = question.expected
    # An echo reply does not name the pod, only the address that it came from.
    by = question.address if question.protocol == "icmp" else expected.by
    if by is not None and result["by"] != by:
        return describe(result)
    if question.protocol != "icmp" and expected.saw is not None:
        saw = str(result["saw"]).rpartition(":")[0]
        if saw != expected.saw:
            return describe(result)
    if result["bytes"] != question.size:
        return f"{result['by']} counted {result['bytes']} of {question.size} bytes"
    return ""


def describe(result: Mapping[str, Any]) -> str:
    """One probe's result in words."""
    outcome, icmp = result["outcome"], result.get("icmp")
    if outcome == _ANSWERED:
        saw = str(result["saw"]).rpartition(":")[0] if result.get("saw") else ""
        return f"answered by {result['by']}" + (f" that saw {saw}" if saw else "")
    words = {"timed_out": "timed out", "too_big": "too big", "failed": "could not be sent"}.get(outcome, outcome)
    if icmp:
        mtu = f" mtu {icmp['mtu']}" if icmp.get("mtu") else ""
        return f"{words} (ICMP {icmp['kind']}/{icmp['code']} from {icmp['from']}{mtu})"
    if outcome == "too_big":
        return f"too big for the sender's own kernel (mtu {result.get('mtu')})"
    return f"{words} ({result['error']})" if result.get("error") else words
