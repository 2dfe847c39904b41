"""What one page hears and asks for, without HTTP and without a lab; and the pings that pages ask for."""

from __future__ import annotations

import base64
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tunlab.command import watch as command
from tunlab.errors import LabError
from tunlab.wait import eventually
from tunlab.watch.page import Page
from tunlab.watch.stepping import Stepping


def page_alone() -> Page:
    return Page("page1", SimpleNamespace(), SimpleNamespace())  # type: ignore[arg-type]


def test_a_page_that_does_not_keep_up_misses_what_is_only_looked_at_and_nothing_else() -> None:
    page = page_alone()
    for number in range(1000):
        page.hear({"kind": "frames", "number": number})
    kinds = ["step", "explained", "picture", "shell-ended", "gone"]
    for kind in kinds * 100:
        page.hear({"kind": kind})
    heard = []
    while (event := page.next(0.0)) is not None:
        heard.append(event["kind"])
    assert [kind for kind in heard if kind != "frames"] == kinds * 100
    assert 0 < heard.count("frames") < 1000


def test_a_shells_output_is_held_back_until_the_page_reads() -> None:
    page, said = page_alone(), []

    def say() -> None:
        for number in range(1000):
            page._say(1, str(number).encode())
            said.append(number)

    thread = threading.Thread(target=say, daemon=True)
    thread.start()
    eventually(lambda: len(said), lambda n: n >= 200, within_s=60, what="it fills", blame="lab")
    page.hear({"kind": "gone"})
    heard = [page.next(60.0) for _ in range(1001)]
    told = [base64.b64decode(one["data"]).decode() for one in heard if one is not None and one["kind"] == "shell"]
    assert told == [str(number) for number in range(1000)]
    assert 100 < heard.index({"kind": "gone"}) < 300, "it did not wait for all of the output"
    thread.join(60.0)


class SlowShell:
    """A shell whose process begins when it is told to."""

    def __init__(self) -> None:
        self.pid, self.may_begin, self.signals = 0, threading.Event(), list[str]()

    def chunks(self) -> Iterator[tuple[str, bytes]]:
        self.may_begin.wait(60.0)
        self.pid = 4711
        yield "out", b"hello"

    def signal(self, name: str) -> None:
        self.signals.append(name)


def test_a_shell_that_was_closed_before_it_began_is_hung_up(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = SlowShell()
    monkeypatch.setattr("tunlab.watch.page.open_shell", lambda *asked: shell)
    page = Page("page1", SimpleNamespace(stands=None, place=str), SimpleNamespace())  # type: ignore[arg-type]
    asked = {"do": "shell", "place": "node1", "rows": 20, "columns": 80}
    opening = threading.Thread(target=page.do, args=(asked,), daemon=True)
    opening.start()
    eventually(lambda: list(page._shells), [1].__eq__, within_s=60, what="it is asked for", blame="lab")
    page.do({"do": "close", "shell": 1})
    assert shell.signals == []
    shell.may_begin.set()
    opening.join(60.0)
    assert shell.signals[:2] == ["HUP", "CONT"]


def test_a_ping_that_breaks_is_told_to_who_asked_and_the_next_may_go(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, Any]] = []
    stands = SimpleNamespace(name="mixed", address=lambda place: "10.0.0.1")
    watching: Any = SimpleNamespace(stands=stands, place=str, tell=told.append)
    stepping = Stepping(watching)

    def breaks(*asked: object) -> None:
        raise KeyError("pod9")

    monkeypatch.setattr(stepping, "_step", breaks)
    for number in (1, 2):
        eventually(lambda: _begins(stepping), bool, within_s=60, what="it may ping", blame="lab")
        eventually(lambda: len(told), number.__eq__, within_s=60, what="told", blame="lab")
    assert told[1] == {
        "kind": "step-failed", "number": 2, "by": "page1", "why": "the ping broke: KeyError('pod9')", "hint": "",
    }  # fmt: skip


def _begins(stepping: Stepping) -> int:
    try:
        return stepping.begin("pod1", "pod2", "page1")
    except LabError:
        return 0


def test_the_browser_is_given_a_file_of_ours_and_not_the_token() -> None:
    with command.doorway("http://127.0.0.1:1/secret/") as file:
        path = Path(file.removeprefix("file://"))
        assert "secret" not in file and path.stat().st_mode & 0o777 == 0o600
        assert 'content="0; url=http://127.0.0.1:1/secret/"' in path.read_text()
    assert not path.exists()


@pytest.mark.parametrize("term", ["dumb", ""])
def test_a_terminal_without_a_cursor_is_refused(term: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", term)
    for stream in ("stdin", "stdout"):
        monkeypatch.setattr(sys, stream, SimpleNamespace(isatty=lambda: True))
    with pytest.raises(LabError, match=r"^--tui: this terminal has no cursor"):
        command.watch("nowhere", tui=True)
