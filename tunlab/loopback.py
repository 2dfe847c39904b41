"""Servers for the browsers of this machine alone: one check of the port, one list of own names, the same headers.

Loopback keeps other machines out, and the Host header other names: a page from elsewhere whose name was made to lead
here cannot read what is served. Ctrl-C is how one ends such a server, and so no failure.
"""

from __future__ import annotations

import contextlib
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tunlab.errors import LabError

HOST = "127.0.0.1"
HIGHEST_PORT = 65535
_HTTP_PORT = 80
_PATIENCE_S = 30.0


def check_port(port: int) -> None:
    """Raises LabError for what is no port; 0 means a free one."""
    if not 0 <= port <= HIGHEST_PORT:
        hint = "leave it out, and a free one is taken"
        raise LabError(f"--port: {port}: no such port\n  legal: 1 to {HIGHEST_PORT}", hint=hint)


def own_names(port: int) -> frozenset[str]:
    """What a browser of this machine calls a server on that port; it leaves out the port that http has anyway."""
    hosts = (HOST, "localhost")
    return frozenset((*(f"{host}:{port}" for host in hosts), *(hosts if port == _HTTP_PORT else ())))


class LoopbackServer(ThreadingHTTPServer):
    """Listens on 127.0.0.1; port 0 takes a free one. Raises LabError where it cannot."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 32

    def __init__(self, port: int, handler: type[Handler] | Any) -> None:
        check_port(port)
        try:
            super().__init__((HOST, port), handler)
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise LabError(f"--port: {port}: {why}", hint="leave it out, and a free one is taken") from error
        self.own_names = own_names(self.server_port)

    def address(self, path: str = "") -> str:
        """What to type into a browser."""
        return f"http://{HOST}:{self.server_port}/{path}"

    def serve_until_ctrl_c(self, told: str) -> None:
        """Print where it is and serve until Ctrl-C, which ends it as it should; other signals end the program."""
        with contextlib.suppress(KeyboardInterrupt):
            print(told, flush=True)
            self.serve_forever(poll_interval=0.1)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away in the middle is no event; a fault of our own is told."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One connection of a browser. Every answer bears the same headers, and the terminal stays quiet."""

    server: LoopbackServer
    server_version, sys_version = "tunlab", ""
    timeout = _PATIENCE_S
    policy = ""  # of the page that is served, where the page does not say it itself

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: the terminal shows the address, and that is what it is for."""

    def end_headers(self) -> None:
        """What every answer carries."""
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Cache-Control", "no-store")
        if self.policy:
            self.send_header("Content-Security-Policy", self.policy)
        super().end_headers()

    def is_called_by_another_name(self) -> bool:
        """Whether somebody's name that leads here was typed; then the request has been refused."""
        if self.headers.get("Host") in self.server.own_names:
            return False
        self.refuse("only as 127.0.0.1 or localhost", HTTPStatus.MISDIRECTED_REQUEST)
        return True

    def refuse(self, why: str, status: HTTPStatus) -> None:
        """Say why not, and hang up: whatever else came with the request stays unread."""
        self.close_connection = True
        self.say(status, "text/plain", f"{why}\n".encode())

    def say(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        """A whole answer."""
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
