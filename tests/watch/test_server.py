"""Who may ask the server, and what it serves. The lab behind it is played here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.watch.asking import Address, Events
from tests.watch.played import PlayedStepping, PlayedWatching
from tunlab.watch.server import Server

PICTURE = {"kind": "picture", "lab": "played"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    watching = PlayedWatching(PICTURE)
    running = Server(watching, PlayedStepping(watching, {}))  # type: ignore[arg-type]
    yield running
    running.close()


@pytest.fixture
def events(server: Server) -> Iterator[Events]:
    opened = Events(address_of(server))
    yield opened
    opened.close()


def address_of(server: Server) -> Address:
    return Address(server.server_port, server.token)


def ask(server: Server, path: str, body: Any = None, method: str = "", **headers: str) -> tuple[int, str, Any]:
    return address_of(server).asks(path, body, method, **headers)


def test_the_page_and_its_files_are_served_under_a_strict_policy(server: Server) -> None:
    status, text, headers = ask(server, f"/{server.token}/")
    assert (status, headers.get_content_type()) == (200, "text/html")
    assert "main.js" in text and "<script>" not in text and "style=" not in text
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert (headers["Referrer-Policy"], headers["X-Content-Type-Options"]) == ("no-referrer", "nosniff")
    assert headers["Access-Control-Allow-Origin"] is None
    for file in ("main.js", "map.js", "motion.js", "boxes.js", "drawer.js", "terminal.js", "keys.js", "link.js"):
        assert ask(server, f"/{server.token}/{file}")[0] == 200


def test_it_listens_on_loopback_alone(server: Server) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert server.url == f"http://127.0.0.1:{server.server_port}/{server.token}/"
    assert len(server.token) >= 24


STRANGERS: dict[str, dict[str, str]] = {
    "another-host-name": {"Host": "evil.example"},
    "no-host-name": {"Host": ""},
    "a-foreign-page": {"Origin": "http://evil.example"},
    "a-page-of-another-port": {"Origin": "http://127.0.0.1:1"},
    "a-page-from-nowhere": {"Origin": "null"},
    "a-foreign-page-by-its-mark": {"Sec_Fetch_Site": "cross-site"},
}


@pytest.mark.parametrize("path", ["", "events", "main.js"], ids=["page", "events", "file"])
@pytest.mark.parametrize("stranger", STRANGERS)
def test_a_stranger_may_not_look(server: Server, stranger: str, path: str) -> None:
    assert ask(server, f"/{server.token}/{path}", **STRANGERS[stranger])[0] == (421 if "host" in stranger else 403)


@pytest.mark.parametrize("stranger", [*STRANGERS, "a-form"])
def test_a_stranger_may_not_post(server: Server, stranger: str) -> None:
    headers = STRANGERS.get(stranger, {"X_Tunlab": ""})
    status, text, _ = ask(server, f"/{server.token}/do", {"page": "page1", "do": "step"}, **headers)
    assert (status, text.count("\n")) == (421 if "host" in stranger else 403, 1)


def test_a_window_may_come_by_a_link_that_has_the_token_and_a_frame_may_not(server: Server) -> None:
    link = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    assert ask(server, f"/{server.token}/", **link)[0] == 200
    assert ask(server, f"/{server.token}/", **{**link, "Sec_Fetch_Dest": "iframe"})[0] == 403
    assert ask(server, f"/{server.token}/main.js", **link)[0] == 403
    assert ask(server, "/x/", **link)[0] == 403


@pytest.mark.parametrize("token", ["", "x", "undefined"])
def test_nothing_is_told_without_the_token(server: Server, token: str) -> None:
    for path in ("", "events", "main.js"):
        assert ask(server, f"/{token}/{path}")[0] == 403
    assert ask(server, f"/{token}/do", {"do": "step"})[0] == 403


@pytest.mark.parametrize(
    "path", ["../server.py", "%2e%2e/server.py", "..%2fserver.py", "x/../main.js", "page.py", "/etc/passwd"]
)
def test_nothing_else_of_the_machine_is_served(server: Server, path: str) -> None:
    assert ask(server, f"/{server.token}/{path}")[0] == 404


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE"])
def test_no_other_method_is_known(server: Server, method: str) -> None:
    status, _, headers = ask(server, f"/{server.token}/do", method=method)
    assert (status, headers["Access-Control-Allow-Origin"]) == (501, None)


@pytest.mark.parametrize(
    ("body", "status"),
    [("", 400), ("[]", 400), ("{", 400), ({"page": "page999", "do": "step"}, 400), ("x" * 70000, 413)],
    ids=["empty", "list", "broken", "no-such-page", "too-large"],
)
def test_what_is_no_request_is_refused(server: Server, body: Any, status: int) -> None:
    assert ask(server, f"/{server.token}/do", body)[0] == status


def test_a_page_is_greeted_hears_events_and_may_ask(server: Server, events: Events) -> None:
    hello = events.next()
    assert hello["kind"] == "hello"
    assert events.next() == PICTURE
    server.watching.tell({"kind": "frames", "frames": [{"tap": "</script>"}], "missed": 0})
    assert events.next()["frames"] == [{"tap": "</script>"}]

    def answer(**asked: Any) -> Any:
        status, text, headers = ask(server, f"/{server.token}/do", {"page": hello["page"], **asked})
        assert (status, headers.get_content_type()) == (200, "application/json")
        return json.loads(text)

    assert answer(do="step", **{"from": "a", "to": "b"}) == {"number": 1}
    assert answer(do="step", **{"from": "a", "to": "a"}) == {"error": "a to itself", "hint": "choose two"}
    assert answer(do="dance")["error"] == "dance: no such request"
    assert answer(do="type", shell=3, data="eA==")["error"] == "this shell has ended"
    assert "not understood" in answer(do="type", shell="x")["error"]
