"""The matrix: what differs from an oracle's cells, on one line each; what is not known is not judged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tunlab.check.matrix import Expected, MatrixMismatch, Question, ask_matrix, ask_rounds
from tunlab.check.verdict import judge
from tunlab.errors import WorldError

ANSWER = Expected.answer("pod3", "10.0.0.1")


class FakeBox:
    """Answers as it is told, by the place asked from."""

    def __init__(self, **results: dict[str, Any] | None) -> None:
        self._results = results
        self.asked: list[dict[str, Any]] = []

    def ask(self, role: str, op: str, **arguments: Any) -> dict[str, Any]:
        assert (role, op) == ("probes", "ask")
        self.asked += arguments["probes"]
        found = [(probe["id"], self._results[probe["from"]]) for probe in arguments["probes"]]
        return {"results": [{"id": id, **result} for id, result in found if result is not None]}


def seen(outcome: str, **more: Any) -> dict[str, Any]:
    empty = {
        "by": None,
        "saw": None,
        "icmp": None,
        "mtu": None,
        "local": False,
        "error": None,
        "errno": None,
        "bytes": None,
    }
    return {**empty, "outcome": outcome, **more}


def question(expected: Expected = ANSWER, source: str = "pod1", protocol: str = "tcp", **more: Any) -> Question:
    return Question(source, "pod3", "10.0.0.3", protocol, 64, expected, **{"size_name": "full", **more})


RIGHT = seen("answered", by="pod3", saw="10.0.0.1:4711", bytes=64)
UNREACHABLE = seen("unreachable", icmp={"kind": 3, "code": 0, "from": "10.9.9.9", "mtu": None}, by="10.9.9.9")
WANTED = "wanted an answer by pod3 that saw 10.0.0.1"


@pytest.mark.parametrize(
    ("result", "expected", "line"),
    [
        (RIGHT, ANSWER, ""),
        (seen("timed_out"), ANSWER, f"timed out, {WANTED}"),
        (UNREACHABLE, ANSWER, f"unreachable (ICMP 3/0 from 10.9.9.9), {WANTED}"),
        ({**RIGHT, "by": "pod2"}, ANSWER, f"answered by pod2 that saw 10.0.0.1, {WANTED}"),
        ({**RIGHT, "saw": "172.16.0.1:9"}, ANSWER, f"answered by pod3 that saw 172.16.0.1, {WANTED}"),
        ({**RIGHT, "bytes": 60}, ANSWER, f"pod3 counted 60 of 64 bytes, {WANTED}"),
        (seen("failed", errno="ENETUNREACH", error="no way"), ANSWER, f"could not be sent (no way), {WANTED}"),
        (seen("timed_out"), Expected.no_answer(), ""),
        (UNREACHABLE, Expected.no_answer(), ""),
        (UNREACHABLE, Expected.no_answer("10.9.9.9", (3, 0)), ""),
        (
            UNREACHABLE,
            Expected.no_answer("10.9.9.8"),
            "unreachable (ICMP 3/0 from 10.9.9.9), wanted an ICMP error from 10.9.9.8",
        ),
        (
            seen("timed_out"),
            Expected.no_answer("10.9.9.9", (3, 0)),
            "timed out, wanted an ICMP error 3/0 from 10.9.9.9",
        ),
        (RIGHT, Expected.no_answer(), "answered by pod3 that saw 10.0.0.1, wanted no answer"),
        (
            seen("failed", errno="ENETUNREACH", error="no way"),
            Expected.no_answer(),
            "could not be sent (no way), wanted no answer",
        ),
        (seen("timed_out"), Expected.denied(), ""),
        ({**UNREACHABLE, "icmp": {**UNREACHABLE["icmp"], "code": 13}}, Expected.denied(), ""),
        (UNREACHABLE, Expected.denied(), "unreachable (ICMP 3/0 from 10.9.9.9), wanted a denial"),
        (seen("unreachable", error="no way"), Expected.denied(), "unreachable (no way), wanted a denial"),
        (seen("failed", errno="EPERM", error="not you"), Expected.denied(may_be_own=True), ""),
        (
            seen("failed", errno="EPERM", error="not you"),
            Expected.denied(),
            "could not be sent (not you), wanted a denial",
        ),
        (
            seen("failed", errno="ENETUNREACH", error="no way"),
            Expected.denied(may_be_own=True),
            "could not be sent (no way), wanted a denial",
        ),
        (seen("too_big", local=True, mtu=1480), Expected.too_big(1480), ""),
        (
            seen("too_big", local=True, mtu=1500),
            Expected.too_big(1480),
            "too big for the sender's own kernel (mtu 1500), wanted too big for 1480 bytes",
        ),
        (
            seen("too_big", mtu=1480, icmp={"kind": 3, "code": 4, "from": "10.0.0.9", "mtu": 1480}),
            Expected.too_big(1480),
            "too big (ICMP 3/4 from 10.0.0.9 mtu 1480), wanted too big for 1480 bytes",
        ),
        (
            seen("too_big", mtu=1480, icmp={"kind": 3, "code": 4, "from": "10.0.0.9", "mtu": 1480}),
            Expected.too_big(1480, "10.0.0.9"),
            "",
        ),
    ],
    ids=[
        "answer",
        "silence",
        "icmp-instead",
        "wrong-pod",
        "masqueraded",
        "cut-short",
        "never-sent",
        "blocked-silently",
        "blocked-by-icmp",
        "blocked-by-the-right-icmp",
        "blocked-by-another",
        "blocked-without-the-icmp",
        "leak",
        "never-sent-is-not-blocked",
        "denied-silently",
        "denied-by-icmp",
        "no-way-is-no-denial",
        "no-way-that-nobody-tells-is-no-denial",
        "denied-by-the-own-kernel",
        "not-by-the-own-kernel",
        "no-route-is-no-denial",
        "too-big-here",
        "too-big-here-for-another-mtu",
        "too-big-elsewhere",
        "too-big-where-wanted",
    ],
)
def test_a_cell_is_right_or_one_line(result: dict[str, Any], expected: Expected, line: str) -> None:
    lines = ask_matrix(FakeBox(pod1=result), [question(expected)]).mismatches()
    assert lines == ((f"pod1 → pod3 tcp full: {line}",) if line else ())


def test_an_echo_reply_is_judged_by_its_address() -> None:
    echo = question(protocol="icmp")
    assert ask_matrix(FakeBox(pod1=seen("answered", by="10.0.0.3", bytes=64)), [echo]).mismatches() == ()
    (line,) = ask_matrix(FakeBox(pod1=seen("answered", by="10.0.0.9", bytes=64)), [echo]).mismatches()
    assert line == f"pod1 → pod3 icmp full: answered by 10.0.0.9, {WANTED}"


@pytest.mark.parametrize(
    "result",
    [
        None,
        seen("failed", errno="NO_PLACE", error="pod1: No such file or directory"),
        seen("failed", errno="ENOBUFS", error="No buffer space available"),
    ],
    ids=["missing", "no-place", "no-buffers"],
)
def test_what_is_not_known_is_broken_even_where_no_answer_is_wanted(result: dict[str, Any] | None) -> None:
    matrix = ask_matrix(
        FakeBox(pod1=result, pod2=seen("timed_out")), [question(Expected.no_answer()), question(source="pod2")]
    )
    with pytest.raises(WorldError, match=r"^pod1 → pod3 tcp full: ") as caught:
        matrix.check()
    assert judge(caught.value)[0] == "broken"


def test_no_questions_are_no_verdict() -> None:
    with pytest.raises(WorldError, match="there were no questions"):
        ask_matrix(FakeBox(), []).check()


def test_a_wrong_cell_fails_with_its_line_first_and_a_table() -> None:
    box = FakeBox(pod1=RIGHT, pod2=seen("timed_out"), pod4=None)
    matrix = ask_matrix(box, [question(), question(source="pod2"), question(source="pod2", protocol="udp")])
    with pytest.raises(MatrixMismatch, match=rf"^pod2 → pod3 tcp full: timed out, {WANTED} \(and 1 more\)\n") as caught:
        matrix.check()
    assert judge(caught.value)[0] == "failed"
    assert caught.value.table.splitlines() == [
        "from pod3",
        "pod1 .",
        "pod2 XX",
        "signs in a cell: tcp full, udp full; X wrong, ? unknown",
    ]


def test_three_in_a_row_means_three_askings_all_right() -> None:
    class Flaky(FakeBox):
        def ask(self, role: str, op: str, **arguments: Any) -> dict[str, Any]:
            answer = super().ask(role, op, **arguments)
            answer["results"][2] |= seen("timed_out")
            return answer

    box = Flaky(pod1=RIGHT)
    (line,) = ask_matrix(box, [question()], rounds=3, test="CONN-01").mismatches()
    assert line == f"pod1 → pod3 tcp full: timed out, {WANTED} (asking 3 of 3)"
    assert [probe["id"] for probe in box.asked] == [f"CONN-01:pod1>pod3/tcp/full/{turn}" for turn in (1, 2, 3)]


def test_two_questions_alike_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^asked twice in one matrix: pod1 → pod3 tcp full$"):
        ask_matrix(FakeBox(pod1=RIGHT), [question(), question()])


def test_rounds_are_asked_in_one_go_one_after_the_other_and_judged_apart() -> None:
    class Flaky(FakeBox):
        def ask(self, role: str, op: str, **arguments: Any) -> dict[str, Any]:
            answer = super().ask(role, op, **arguments)
            answer["results"][3] |= seen("timed_out")
            return answer

    box = Flaky(pod1=RIGHT, pod2=RIGHT)
    asked = [question(), question(source="pod2")]
    first, second, third = ask_rounds(box, asked, 3, apart_s=0.3, test="scene1", first_identifier=7)
    assert (first.mismatches(), third.mismatches()) == ((), ())
    assert second.mismatches() == (f"pod2 → pod3 tcp full: timed out, {WANTED}",)
    assert [probe["after_s"] for probe in box.asked] == [0, 0, 0.3, 0.3, 0.6, 0.6]
    assert [probe["identifier"] for probe in box.asked] == [7, 8, 9, 10, 11, 12], "each echo is a new connection"
    assert len({probe["id"] for probe in box.asked}) == 6
    with pytest.raises(ValueError, match=r"^asked twice in one matrix: pod1"):
        ask_rounds(box, [question(), question()], 3, apart_s=0.3)


def test_what_would_be_too_much_at_once_is_asked_round_after_round() -> None:
    asked = [question(size_name=str(number)) for number in range(200)]

    class Counting(FakeBox):
        calls = 0

        def ask(self, role: str, op: str, **arguments: Any) -> dict[str, Any]:
            self.calls += 1
            return super().ask(role, op, **arguments)

    box = Counting(pod1=RIGHT)
    ask_matrix(box, asked, rounds=3, apart_s=0.3, first_identifier=7).check()
    assert (box.calls, {probe["after_s"] for probe in box.asked}) == (3, {0.0})
    assert sorted(probe["identifier"] for probe in box.asked) == list(range(7, 607))


def test_looking_at_a_matrix_is_what_counts_as_judging_its_questions() -> None:
    judged: list[Question] = []
    matrix = replace(ask_matrix(FakeBox(pod1=RIGHT), [question()]), on_judged=judged.extend)
    assert judged == []
    matrix.check()
    assert judged == [question()]
