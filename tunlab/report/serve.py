"""A run's folder, served on loopback to whoever sits at this machine: its page and its files, to be read only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

from tunlab.loopback import Handler, LoopbackServer
from tunlab.report.html.page import REPORT

_TEXT = "text/plain; charset=utf-8"


class _Handler(Handler, SimpleHTTPRequestHandler):
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

    def do_GET(self) -> None:
        """The folder itself stands for its page."""
        if not self._is_refused():
            super().do_GET()

    def do_HEAD(self) -> None:
        """As GET, without the file."""
        if not self._is_refused():
            super().do_HEAD()

    def _is_refused(self) -> bool:
        """Answer what is not to be served: another site's name for us, the folder, a way out of it."""
        if self.is_called_by_another_name():
            return True
        if self.path in ("", "/"):
            self.send_response(HTTPStatus.FOUND)
            self.send_header("Location", f"/{REPORT}")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif not self._is_inside():
            self.refuse("no such file of this run", HTTPStatus.NOT_FOUND)
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
def serving(folder: Path, port: int) -> Iterator[LoopbackServer]:
    """A server of that folder. Raises LabError where it cannot listen."""
    with LoopbackServer(port, partial(_Handler, directory=str(folder))) as server:
        yield server
