"""A run's folder, served on loopback to whoever sits at this machine: its page and its files, to be read only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tunlab.errors import LabError
from tunlab.report.html.page import REPORT

_HOST = "127.0.0.1"
_TEXT = "text/plain; charset=utf-8"


class _Handler(SimpleHTTPRequestHandler):
    """GET and HEAD of files that lie in the folder. Nothing but the page is taken for one by a browser."""

    extensions_map = {  # noqa: RUF012 -- http.server's own name and type
        ".json": "application/json",
        ".log": _TEXT,
        ".txt": _TEXT,
        ".xml": _TEXT,
        ".svg": _TEXT,
        ".html": "text/html; charset=utf-8",
        "": "application/octet-stream",
    }
    server_version, sys_version = "tunlab", ""

    def do_GET(self) -> None:
        """The folder itself stands for its page."""
        if not self._is_refused():
            super().do_GET()

    def do_HEAD(self) -> None:
        """As GET, without the file."""
        if not self._is_refused():
            super().do_HEAD()

    def end_headers(self) -> None:
        """What every answer carries."""
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: the terminal shows the address, and that is what it is for."""

    def _is_refused(self) -> bool:
        """Answer what is not to be served: another site's name for us, the folder, a way out of it."""
        names = {f"{name}:{self.server.server_port}" for name in (_HOST, "localhost")}  # type: ignore[attr-defined]
        if self.headers.get("Host") not in names:  # a name of theirs that leads here
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
        elif self.path in ("", "/"):
            self.send_response(HTTPStatus.FOUND)
            self.send_header("Location", f"/{REPORT}")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif not self._is_inside():
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            return False
        return True

    def _is_inside(self) -> bool:
        try:
            found = Path(self.translate_path(self.path)).resolve()
            return found.is_relative_to(Path(self.directory).resolve()) and found.is_file()
        except (OSError, ValueError):  # a name too long, or with a NUL in it
            return False


@contextmanager
def serving(folder: Path, port: int) -> Iterator[ThreadingHTTPServer]:
    """A server of that folder that listens on loopback; 0 takes a free port. Raises LabError where it cannot."""
    if not 0 <= port <= 65535:
        raise LabError(f"--port: {port}: no such port", hint="1 to 65535; leave it out to take a free one")
    try:
        server = ThreadingHTTPServer((_HOST, port), partial(_Handler, directory=str(folder)))
    except OSError as error:
        told = (error.strerror or str(error)).lower()
        raise LabError(f"--port: {port}: {told}", hint="leave it out to take a free one") from error
    with server:
        yield server
