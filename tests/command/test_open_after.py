"""`./lab conform --open`: the report is served when the run has ended, and the exit code stays the run's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunlab.command import conform


@pytest.mark.parametrize(
    ("code", "opens", "opened"),
    [(0, True, ["/of/this/run"]), (1, True, ["/of/this/run"]), (1, False, []), (130, True, [])],
    ids=["passed", "failed", "not-asked", "ended-by-a-signal"],
)
def test_the_report_opens_and_ctrl_c_leaves_the_verdict(
    code: int, opens: bool, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def serve(run: str, port: int) -> None:
        seen.append(run)
        raise KeyboardInterrupt

    monkeypatch.setattr(conform, "run", lambda **asked: (code, Path("/of/this/run")))
    monkeypatch.setattr(conform, "open_report", serve)
    assert conform.judge(out="out", opens=opens) == code
    assert seen == opened
