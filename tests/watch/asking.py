"""The page's two ways to its server, as a program walks them."""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Event = dict[str, Any]
_WITHIN_S = 60.0


@dataclass(frozen=True)
class Address:
    """Where a server listens, and what it wants to hear."""

    port: int
    token: str

    @classmethod
    def of(cls, url: str) -> Address:
        found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/([\w-]+)/", url.strip())
        assert found, url
        return cls(int(found[1]), found[2])

    def asks(self, path: str, body: Any = None, method: str = "", **headers: str) -> tuple[int, str, Any]:
        """Status, body and headers of one request, made as the page itself would unless `headers` say otherwise."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_WITHIN_S)
        own = {"Host": f"127.0.0.1:{self.port}", **({"X-Tunlab": "watch"} if body is not None else {})}
        whole = {**own, **{name.replace("_", "-"): value for name, value in headers.items()}}
        data = None if body is None else body if isinstance(body, str) else json.dumps(body)
        connection.putrequest(method or ("GET" if data is None else "POST"), path, skip_host=True)
        for name, value in {**whole, **({"Content-Length": str(len(data))} if data is not None else {})}.items():
            if value:
                connection.putheader(name, value)
        connection.endheaders(data.encode() if data is not None else None)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text, answer.headers


class Events:
    """An open page: its stream of events, and what it asks for."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._socket = socket.create_connection(("127.0.0.1", address.port), timeout=_WITHIN_S)
        host = f"127.0.0.1:{address.port}"
        self._socket.sendall(f"GET /{address.token}/events HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        self._file = self._socket.makefile("rb")
        assert b" 200 " in self._file.readline()
        self.page = ""

    def next(self) -> Event:
        """The next event."""
        while line := self._file.readline():
            if line.startswith(b"data: "):
                event: Event = json.loads(line[6:])
                self.page = event.get("page", self.page)
                return event
        raise AssertionError("the stream has ended")

    def until(self, kind: str, is_right: Callable[[Event], object] = bool) -> Event:
        """The next event of a kind that is right."""
        deadline_s = time.monotonic() + _WITHIN_S
        while time.monotonic() < deadline_s:
            event = self.next()
            if event["kind"] == kind and is_right(event):
                return event
        raise AssertionError(f"no such event: {kind}")

    def asks(self, what: str, **arguments: Any) -> Any:
        """What the server answers to this page."""
        asked = {"page": self.page, "do": what, **arguments}
        status, text, _ = self._address.asks(f"/{self._address.token}/do", asked)
        assert status == 200, text
        return json.loads(text)

    def shell_says(self, shell: int, words: str) -> str:
        """Read on until a shell has said these words; all it said."""
        said = ""
        while words not in said:
            event = self.until("shell", lambda one: one["shell"] == shell)
            said += base64.b64decode(event["data"]).decode()
        return said

    def types(self, shell: int, text: str) -> None:
        """Type into a shell."""
        assert self.asks("type", shell=shell, data=base64.b64encode(text.encode()).decode()) == {}

    def close(self) -> None:
        """As when the page is closed."""
        self._file.close()
        self._socket.close()
