"""Types every wrong line of tests/golden/errors/command/ into ./lab and compares what comes back, word for word."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.command.typed import ROOT, type_line

GOLDEN = ROOT / "tests" / "golden" / "errors" / "command"
CASES = sorted(GOLDEN.glob("*.txt"))


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_a_wrong_line_gets_exactly_the_message_kept_for_it(case: Path) -> None:
    first, rest = case.read_text().split("\n", 1)
    said = type_line(*shlex.split(first.removeprefix("$ ./lab ")))
    assert f"{said.stderr}exit {said.returncode}\n" == rest
    assert said.stdout == ""


def test_the_corpus_is_there() -> None:
    assert len(CASES) >= 27


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_a_message_fits_a_terminal_and_asks_for_exit_code_2(case: Path) -> None:
    *message, code = case.read_text().splitlines()[1:]
    assert [line for line in message if len(line) > 80] == []
    assert code == "exit 2"
