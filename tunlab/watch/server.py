"""The server behind the page: this machine alone, and of its users only those who know the address with its token.

It gives shells, so it is strict. The token is in the path; the Host header must be ours (another name that leads here
is somebody's trick), a request that a foreign page makes is refused, and a POST must bear a header that such a page
could not send without being asked for leave, which is never given.
"""

from __future__ import annotations

import hmac
import itertools
import json
import secrets
import threading
from http import HTTPStatus
from pathlib import Path
from typing import Any

from tunlab import loopback
from tunlab.errors import TunlabError
from tunlab.watch.page import Page
from tunlab.watch.stepping import Stepping
from tunlab.watch.watching import Watching

_FILES = Path(__file__).with_name("browser")
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_MOST_BYTES = 64 * 1024
_HEARTBEAT_S = 1.0


class Server(loopback.LoopbackServer):
    """Serves one lab from a thread of its own; `url` is what the user opens."""

    def __init__(self, watching: Watching, stepping: Stepping, port: int = 0) -> None:
        self.watching = watching
        self.stepping = stepping
        self.token = secrets.token_urlsafe(18)
        self.pages: dict[str, Page] = {}
        self._numbers = itertools.count(1)
        super().__init__(port, Handler)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return self.address(f"{self.token}/")

    def open_page(self) -> tuple[str, Page]:
        """A new page and its name."""
        name = f"page{next(self._numbers)}"
        self.pages[name] = Page(name, self.watching, self.stepping)
        return name, self.pages[name]

    def drop_page(self, name: str) -> None:
        """A page that is gone."""
        page = self.pages.pop(name, None)
        if page is not None:
            page.close()

    def close(self) -> None:
        """No more requests; all pages are gone."""
        for name in list(self.pages):
            self.drop_page(name)
        self.shutdown()
        self.server_close()


class Handler(loopback.Handler):
    """One connection of a browser."""

    server: Server
    protocol_version = "HTTP/1.1"
    policy = _POLICY

    # ------------------------------------------------------------------ who may
    def _rest_of_path(self) -> str | None:
        """What follows the token; None when the request has been refused."""
        if self.is_called_by_another_name():
            return None
        own = {f"http://{name}" for name in self.server.own_names}
        origin, site = self.headers.get("Origin"), self.headers.get("Sec-Fetch-Site", "none")
        is_other = (origin is not None and origin not in own) or site not in ("none", "same-origin")
        if is_other and not self._comes_by_a_link():
            self.refuse("another page may not ask here", HTTPStatus.FORBIDDEN)
            return None
        if self.command == "POST" and self.headers.get("X-Tunlab") != "watch":
            self.refuse("only the page itself may ask this", HTTPStatus.FORBIDDEN)
            return None
        _, token, *rest = [*self.path.split("?")[0].split("/", 2), ""]
        if not hmac.compare_digest(token.encode(), self.server.token.encode()):
            self.refuse("the address must have the token that ./lab watch has printed", HTTPStatus.FORBIDDEN)
            return None
        return rest[0]

    def _comes_by_a_link(self) -> bool:
        """Whether a window goes to the page itself, as from the file that `./lab watch` hands to a browser.

        Whoever wrote that link knows the token, sees nothing of the page, and may put it into no frame.
        """
        asked = [self.headers.get(f"Sec-Fetch-{name}") for name in ("Mode", "Dest")]
        is_page = self.path.split("?")[0].strip("/") == self.server.token
        return self.command == "GET" and "Origin" not in self.headers and asked == ["navigate", "document"] and is_page

    # ------------------------------------------------------------------ what is served
    def do_GET(self) -> None:
        """The page, its files, and its stream of events."""
        rest = self._rest_of_path()
        if rest is None:
            return
        if rest == "events":
            self._serve_events()
            return
        path = _FILES / (rest or "index.html")
        if "/" in rest or path.suffix not in _TYPES or not path.is_file():
            self.refuse("no such page", HTTPStatus.NOT_FOUND)
            return
        self.say(HTTPStatus.OK, _TYPES[path.suffix], path.read_bytes())

    def do_POST(self) -> None:
        """What a page asks for: JSON in, JSON out."""
        rest = self._rest_of_path()
        if rest is None:
            return
        if rest != "do":
            self.refuse("no such request", HTTPStatus.NOT_FOUND)
            return
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _MOST_BYTES:
            self.refuse("a request of an unknown or too large size", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        try:
            asked = json.loads(self.rfile.read(int(length)))
            page = self.server.pages[asked["page"]]
        except (ValueError, TypeError, KeyError):
            self.refuse("not a request of an open page", HTTPStatus.BAD_REQUEST)
            return
        try:
            answer = dict(page.do(asked))
        except TunlabError as error:
            answer = {"error": error.message, "hint": error.hint}
        except (ValueError, TypeError) as error:
            answer = {"error": f"not understood: {error}", "hint": ""}
        self.say(HTTPStatus.OK, "application/json", json.dumps(answer).encode())

    def _serve_events(self) -> None:
        """Server-sent events until the page goes, the view ends or the server closes."""
        self.close_connection = True
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Connection", "close")
        self.end_headers()
        name, page = self.server.open_page()
        try:
            with self.server.watching.told_to(page.hear):
                self._tell({"kind": "hello", "page": name})
                while not page.has_closed.is_set():
                    event = page.next(_HEARTBEAT_S)
                    if event is not None:
                        self._tell(event)
                    else:
                        self._write(b":\n\n")  # finds out whether anybody is there
        except OSError:
            pass
        finally:
            self.server.drop_page(name)

    def _tell(self, event: dict[str, Any]) -> None:
        self._write(f"data: {json.dumps(event)}\n\n".encode())

    def _write(self, data: bytes) -> None:
        self.wfile.write(data)
        self.wfile.flush()
