"""A standing lab live: a page on this machine's loopback, or this terminal."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import webbrowser
from collections.abc import Iterator
from pathlib import Path

from tunlab.errors import LabError, WorldError
from tunlab.live.standing import find_standing
from tunlab.loopback import check_port
from tunlab.watch.stepping import Stepping
from tunlab.watch.watching import Watching


def watch(lab: str = "", port: int = 0, *, tui: bool = False, no_browser: bool = False) -> int:
    """Watch until Ctrl-C, SIGTERM or the end of the lab; Ctrl-C is how one ends it, and so 0."""
    check_port(port)
    if tui and (port or no_browser):
        raise LabError("--tui: a terminal has no port and no browser", hint="./lab watch LAB --tui")
    if tui and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise LabError("--tui: this is no terminal", hint="leave it out: the page needs none")
    if tui and os.environ.get("TERM", "dumb") in ("", "dumb", "unknown"):
        why = "this terminal has no cursor to be moved (TERM)"
        raise LabError(f"--tui: {why}", hint="set TERM to what it is, such as xterm; or leave --tui out")
    with _watched(lab) as (watching, stepping):
        if tui:
            from tunlab.watch.terminal import show

            show(watching, stepping)
        else:
            _serve(watching, stepping, port, no_browser=no_browser)
        if watching.ended.is_set():
            raise WorldError(watching.why, hint=watching.hint)
    return 0


@contextlib.contextmanager
def _watched(lab: str) -> Iterator[tuple[Watching, Stepping]]:
    watching = Watching(find_standing(lab or None))
    stepping = Stepping(watching)
    try:
        yield watching, stepping
    finally:
        stepping.close()
        watching.close()


def _serve(watching: Watching, stepping: Stepping, port: int, *, no_browser: bool) -> None:
    from tunlab.watch.server import Server

    server = Server(watching, stepping, port)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            print(f"watching {watching.stands.name}; Ctrl-C ends it", file=sys.stderr)
            print(server.url, flush=True)
            # without a display a browser might take this terminal
            shows = not no_browser and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
            with doorway(server.url) if shows else contextlib.nullcontext("") as file:
                if file:
                    webbrowser.open(file)
                watching.ended.wait()
    finally:
        server.close()


@contextlib.contextmanager
def doorway(url: str) -> Iterator[str]:
    """The address of a file of ours that leads to `url`: a browser's arguments may be read by every user's `ps`."""
    with tempfile.NamedTemporaryFile("w", prefix="tunlab-watch-", suffix=".html", encoding="utf-8") as file:
        file.write(f'<!DOCTYPE html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={url}">\n')
        file.flush()
        yield Path(file.name).as_uri()
