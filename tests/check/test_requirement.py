"""Declaring requirements, and the expectations that a test leaves open."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tunlab.check.requirement import Pending, Unchecked, registry, requirement, requirement_of
from tunlab.check.verdict import NotOffered, judge, worst
from tunlab.errors import Bug, LabError, SystemFault, WorldError


def declare(id: str = "TRY-01", doc: str | None = "It works. More.", **more: Any) -> Callable[..., None]:
    def test(cell: object) -> None:
        raise NotImplementedError

    test.__doc__ = doc
    return requirement(id, **more)(test)


@pytest.mark.parametrize(
    ("doc", "title"),
    [
        ("It works.", "It works"),
        ("It\n    works, by 169.254.1.1. (RFC 2003)", "It works, by 169.254.1.1"),
        ("No full stop", "No full stop"),
        ("Ends with dots...", "Ends with dots..."),
    ],
    ids=["plain", "address", "open", "dots"],
)
def test_the_title_is_the_first_sentence(doc: str, title: str) -> None:
    found = requirement_of(declare(doc=doc))
    assert found is not None and found.title == title
    assert registry()["TRY-01"] == found


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"id": "try-1"}, "an id reads like IPIP-03"),
        ({"doc": None}, "no docstring, so no title"),
        ({"level": "kernel"}, "level 'kernel' is none of core, extended"),
        ({"modes": ["ipip", "gre"]}, r"modes \('ipip', 'gre'\) are not some of ipip, .*"),
        ({"modes": []}, r"modes \(\) are not some of ipip, .*"),
    ],
    ids=["id", "title", "level", "mode", "no-mode"],
)
def test_a_wrong_declaration_is_a_bug(more: dict[str, Any], message: str) -> None:
    with pytest.raises(Bug, match=rf"^tests\.check\.test_requirement\..*: requirement .*: {message}$"):
        declare(**more)


def test_an_id_belongs_to_one_test() -> None:
    declare("TWICE-01")
    with pytest.raises(Bug, match=r"requirement TWICE-01: the id is taken by .*test_requirement\.py::declare"):

        @requirement("TWICE-01")
        def test_other(cell: object) -> None:
            """Another."""


def test_it_applies_by_mode_and_by_what_the_lab_is_like() -> None:
    found = requirement_of(declare(modes=["ipip"], where=lambda lab, mode: len(lab.pods) > 1))
    assert found is not None
    small, large = SimpleNamespace(pods="a"), SimpleNamespace(pods="ab")
    assert [found.applies(*pair) for pair in ((large, "ipip"), (large, "none"), (small, "ipip"))] == [
        True,
        False,
        False,
    ]


def test_an_expectation_that_nobody_checked_is_told() -> None:
    pending = Pending()
    first, _, third = (pending.expect(what) for what in ("one", "two", "three"))
    first()
    third()
    first()
    assert pending.unchecked() == ("two",)
    with pytest.raises(Unchecked, match=r"^declared but never checked: two\n"):
        pending.settle()


def test_a_question_is_pending_until_it_is_judged_also_when_it_is_asked_again() -> None:
    pending = Pending()
    for _ in range(2):
        pending.ask(("pod1", "pod2"), "an answer")
        assert pending.unchecked() == ("an answer",)
        pending.judged([("pod1", "pod2"), ("pod2", "pod1")])
        pending.settle()


@pytest.mark.parametrize(
    ("exception", "verdict", "reason"),
    [
        (None, "passed", ""),
        (SystemFault("node1: died"), "failed", "node1: died"),
        (NotOffered("no"), "not_offered", "no"),
        (WorldError("veth: gone", hint="look"), "broken", "veth: gone\n  hint: look"),
        (LabError("x"), "broken", "x"),
        (Bug("x"), "broken", "x"),
        (KeyError("x"), "broken", "KeyError: 'x' (at an unknown place)"),
        (KeyboardInterrupt(), "broken", "KeyboardInterrupt:  (at an unknown place)"),
        (AssertionError("a\nb"), "failed", "a\nb"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_who_is_to_blame(exception: BaseException | None, verdict: str, reason: str) -> None:
    assert judge(exception) == (verdict, reason)


def test_what_is_broken_weighs_most() -> None:
    from tunlab.check.verdict import Verdict

    assert worst(Verdict.FAILED, Verdict.BROKEN, Verdict.PASSED) is Verdict.BROKEN
    assert worst(Verdict.PASSED, Verdict.NOT_OFFERED, Verdict.FAILED) is Verdict.FAILED
