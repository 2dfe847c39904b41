"""The project's own checks: style, types, tests. Whatever their tools say, only 0 and 2 come out."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tunlab.command.children import run_to_end
from tunlab.paths import ROOT

_CHECKS: tuple[tuple[str, ...], ...] = (
    ("ruff", "check"),
    ("ruff", "format", "--check"),
    ("mypy",),
)
# Files stay whole: many keep a box, a store or a lab for all of their tests.
# In the order of the folders: those that open labs come early, so that one worker is not left alone with them.
# On two processors three workers: labs wait as often as they compute (20 min with two workers, 15.5 with three).
# What hangs is ended and named, and tests/conftest.py says at once what failed; the longest takes two minutes.
_TESTS = (
    *("pytest", "tests", "-n", "3", "--dist", "loadfile", "--no-loadscope-reorder"),
    *("--timeout", "600", "--durations", "15"),
)


def lint() -> int:
    """Style and types; all of the checks run, even when one is red."""
    codes = [_run_module(check) for check in _CHECKS]
    return 2 if any(codes) else 0


def test(expression: str = "") -> int:
    """`lint`, the tests, and refnet judged at the core level; with `expression` the tests of that name alone, unlinted.

    No test at all is as bad as a red one.
    """
    if expression:
        return 2 if _run_module([*_TESTS, "-k", expression]) else 0
    results = {
        "lint": lint(),
        "tests": _run_module(_TESTS),
        "conformance of refnet": _run_module(["tunlab.command", "conform"]),
    }
    for what, code in results.items():
        print(f"{what}: {'ok' if code == 0 else 'NOT ok'}")
    return 2 if any(results.values()) else 0


def _run_module(words: Sequence[str]) -> int:
    return run_to_end([sys.executable, "-m", *words], cwd=ROOT)
