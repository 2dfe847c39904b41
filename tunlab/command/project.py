"""The project's own checks: style, types, tests. Whatever their tools say, only 0 and 2 come out."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tunlab.command.children import run_to_end
from tunlab.command.menu import ROOT

_CHECKS: tuple[tuple[str, ...], ...] = (
    ("ruff", "check"),
    ("ruff", "format", "--check"),
    ("mypy",),
)


def lint() -> int:
    """Style and types; all of the checks run, even when one is red."""
    codes = [_run_module(check) for check in _CHECKS]
    return 2 if any(codes) else 0


def test(expression: str = "") -> int:
    """`lint`, then the tests whose names match `expression`. No test at all is as bad as a red one."""
    linted = lint()
    chosen = ["-k", expression] if expression else []
    tested = _run_module(["pytest", "tests", *chosen])
    return 2 if linted or tested else 0


def _run_module(words: Sequence[str]) -> int:
    return run_to_end([sys.executable, "-m", *words], cwd=ROOT)
